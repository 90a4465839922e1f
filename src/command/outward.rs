//! What commands that go out share: an engine of their own, names, and the opening of connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use clap::Args;
use crossbeam::channel::{RecvTimeoutError, bounded};
use trust::device::no_host;
use trust::engine::Engine;
use trust::fence::Mode;
use trust::net::{Stack, TcpStream};

use super::fencing::{Fencing, Inherited};
use super::options::{EngineOptions, Setup, kernel_side, no_engine};
use super::{Address, Error, console, helper};

/// When to say that nobody has answered: behind the first retransmission of the SYN, which is due after 1 s
/// (RFC6298-2.1).
const PATIENCE: Duration = Duration::from_millis(1_200);

/// Options of commands that go out.
#[derive(Debug, Args)]
pub(super) struct Outward {
    /// Our address; the kernel's side gets the first other one of the prefix.
    #[arg(long, value_name = "ADDRESS/PREFIX", default_value = "10.7.1.2/24")]
    address: Address,

    #[command(flatten)]
    engine: EngineOptions,
}

impl Outward {
    pub(super) fn check(&self) -> Result<(), Error> {
        self.engine.tcp().map(drop)
    }

    /// Begins to log, and what is to be the fence.
    pub(super) fn fence(&self, inherited: Inherited) -> Result<Fencing, Error> {
        self.engine.start_logging();
        self.engine.fence.build(inherited)
    }

    /// An engine without services, fenced in; `None`: only the list of tunables was asked for. `workers`: how many,
    /// unless told.
    pub(super) fn start(&mut self, workers: usize, mut fencing: Fencing) -> Result<Option<Engine>, Error> {
        let Some(tcp) = self.engine.tcp()? else { return Ok(None) };
        self.engine.workers = self.engine.workers.or(Some(workers));
        let Setup { device, plan, config } = self.engine.setup(&[self.address], "trust1", tcp)?;
        let prepared = Engine::prepare(config, plan, device, &[]).map_err(no_engine)?;
        fencing.give_up()?;
        let engine = prepared.start().map_err(no_engine)?;
        // Standard output is for what was asked for.
        let _ = fencing.close(Mode::Client);
        Ok(Some(engine))
    }

    /// A process that resolves names as [`resolve`](Self::resolve) does, for when that is out of reach.
    pub(super) fn resolver(&self, fencing: &Fencing) -> Result<Resolver, Error> {
        let socket = helper::fork(fencing, &helper::Role::Opener(Vec::new()), |socket| {
            while let Ok(Some(((host, port), _))) = helper::receive::<(String, u16)>(socket.as_fd()) {
                let resolved = self.resolve(&host, port).map_err(|error| (error.exit_status(), error.to_string()));
                if helper::send(socket.as_fd(), &resolved, None).is_err() {
                    return;
                }
            }
        })?;
        Ok(Resolver { socket })
    }

    /// The address of a host, by the resolver of this machine, if it can be a peer at all.
    pub(super) fn resolve(&self, host: &str, port: u16) -> Result<SocketAddrV4, Error> {
        let remote = resolve(host, port)?;
        check_remote(host, *remote.ip(), self.address)?;
        if !self.engine.forwarding && !is_reachable(*remote.ip(), self.address) {
            let tun = self.engine.tun.as_deref().unwrap_or("trust1");
            return Err(Error::Run(format!(
                "{remote} cannot be reached from here: our stack is behind a TUN device ({tun}), and the kernel of this \
                 namespace forwards nothing (net.ipv4.ip_forward is 0); start the engine with ./run.sh, whose namespace \
                 forwards, or allow it here: sysctl -w net.ipv4.ip_forward=1"
            )));
        }
        Ok(remote)
    }
}

/// See [`Outward::resolver`].
pub(super) struct Resolver {
    socket: OwnedFd,
}

impl Resolver {
    pub(super) fn resolve(&self, host: &str, port: u16) -> Result<SocketAddrV4, Error> {
        // As long as a name may be with all its dots (RFC 1035 2.3.4).
        if host.len() > 254 {
            return Err(Error::Run(format!(
                "the name of the host is {} octets long, longer than names are",
                host.len()
            )));
        }
        let resolved: Result<_, (u8, String)> = helper::ask(&self.socket, &(host, port))?;
        resolved.map_err(|(status, text)| if status == 2 { Error::Usage(text) } else { Error::Run(text) })
    }
}

/// Connects, and says so when it takes long.
pub(super) fn connect(stack: &Stack, remote: SocketAddrV4) -> Result<TcpStream, Error> {
    let (settled, waiting) = bounded::<()>(0);
    let result = thread::scope(|scope| {
        let patience = thread::Builder::new().name("patience".to_owned());
        // Without a thread for it nothing is said, and it takes no less long.
        let _ = patience.spawn_scoped(scope, move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                console::error().say(format!(
                    "trust: no answer yet from {remote} (SYN sent again); is an engine running there, and does no firewall \
                     drop what goes between? going on; ^C ends it\n"
                ));
            }
        });
        let result = stack.connect(remote);
        drop(settled);
        result
    });
    result.map_err(|error| Error::Run(format!("{remote}: {}", explain(&error, false))))
}

fn resolve(host: &str, port: u16) -> Result<SocketAddrV4, Error> {
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|error| Error::Run(format!("{}; give an IPv4 address", why_unresolved(host, &error))))?;
    let mut ipv4 = found.filter_map(|address| if let SocketAddr::V4(address) = address { Some(address) } else { None });
    ipv4.next().ok_or_else(|| Error::Run(format!("{host} has no IPv4 address; give one")))
}

/// Says what a resolver said of a name.
pub(super) fn why_unresolved(host: &str, error: &io::Error) -> String {
    let why = error.to_string();
    let why = why.trim_start_matches("failed to lookup address information: ");
    format!("{host}: the name cannot be resolved ({why})")
}

/// Refuses addresses that nobody but ourselves can have.
fn check_remote(host: &str, remote: Ipv4Addr, ours: Address) -> Result<(), Error> {
    let kernel = kernel_side(ours);
    let why = if remote.is_loopback() {
        format!(
            "loopback is not reached from our stack, which is on a subnet of its own behind a TUN device; \
             {kernel} is the kernel of this namespace"
        )
    } else if remote == ours.ip() {
        format!("this is our own address; {kernel} is the kernel of this namespace, and --address gives us another")
    } else if let Some(why) = no_host(remote.into()) {
        format!("{why}; give the address of one host")
    } else {
        return Ok(());
    };
    Err(Error::Usage(format!("{host}: {why}")))
}

/// Whether the kernel takes packets from our device anywhere near `remote`: its own addresses and those of our prefix
/// it sees to anyway, for all others it must forward.
fn is_reachable(remote: Ipv4Addr, ours: Address) -> bool {
    // What a new interface gets; unreadable: let us see.
    let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/conf/default/forwarding");
    ours.covers(remote) || UdpSocket::bind((remote, 0)).is_ok() || forwarding.map_or(true, |text| text.trim() != "0")
}

/// What became of a connection, in words.
pub(super) fn explain(error: &io::Error, established: bool) -> String {
    let text = match error.kind() {
        // Behind the peer's FIN a reset is a broken pipe.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection reset by peer",
        io::ErrorKind::ConnectionRefused => "connection refused; nothing listens on that port",
        io::ErrorKind::TimedOut if established => "timed out; the peer acknowledges nothing any more",
        io::ErrorKind::TimedOut => "timed out, no SYN was answered; is that host there, and is there a way to it?",
        io::ErrorKind::NetworkUnreachable => "no route of ours leads there; --route adds one",
        io::ErrorKind::ConnectionAborted => "aborted",
        _ => return error.to_string(),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_that_nobody_else_can_have_are_refused_with_the_reason() {
        let ours: Address = "10.7.1.2/24".parse().unwrap();
        for (remote, said) in [
            ([127, 0, 0, 1], "10.7.1.1 is the kernel"),
            ([127, 9, 9, 9], "loopback"),
            ([10, 7, 1, 2], "our own address"),
            ([0, 0, 0, 0], "no host's address"),
            ([224, 0, 0, 1], "multicast"),
            ([255, 255, 255, 255], "broadcast"),
        ] {
            let error = check_remote("localhost", remote.into(), ours).unwrap_err();
            assert!(error.to_string().contains(said) && error.exit_status() == 2, "{remote:?}: {error}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
        for remote in [[10, 7, 1, 1], [10, 7, 0, 2], [192, 0, 2, 1]] {
            assert!(check_remote("host", remote.into(), ours).is_ok(), "{remote:?}");
        }
    }

    #[test]
    fn a_time_out_says_whether_there_ever_was_an_answer() {
        let error = io::Error::from(io::ErrorKind::TimedOut);
        assert!(explain(&error, false).contains("no SYN was answered"));
        assert!(explain(&error, true).contains("acknowledges nothing"));
    }

    #[test]
    fn our_own_prefix_and_the_kernels_addresses_need_no_forwarding() {
        let ours: Address = "10.7.1.2/24".parse().unwrap();
        for remote in [[10, 7, 1, 9], [127, 0, 0, 1]] {
            assert!(is_reachable(remote.into(), ours), "{remote:?}");
        }
    }
}
