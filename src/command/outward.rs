//! What commands that go out share: an engine of their own, names, and the opening of connections.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use clap::Args;
use crossbeam::channel::{RecvTimeoutError, bounded};
use tokio::runtime;
use trust::device::no_host;
use trust::engine::Engine;
use trust::fence::Mode;
use trust::net::{Stack, TcpSocket, TcpStream};

use super::addresses::{AddressOptions, Families, Ours};
use super::eyeballs::first_that_answers;
use super::fencing::{Fencing, Inherited};
use super::options::{EngineOptions, Setup, no_engine};
use super::{Error, console, helper};

/// Addresses of a host that are tried.
const ADDRESSES: usize = 16;

/// When to say that nobody has answered: behind the first retransmission of the SYN, which is due after 1 s
/// (RFC6298-2.1).
const PATIENCE: Duration = Duration::from_millis(1_200);

/// Options of commands that go out.
#[derive(Debug, Args)]
pub(super) struct Outward {
    #[command(flatten)]
    addresses: AddressOptions,

    /// Only to IPv4 addresses of the host.
    #[arg(short = '4', long)]
    ipv4: bool,

    /// Only to IPv6 addresses of the host.
    #[arg(short = '6', long, conflicts_with = "ipv4")]
    ipv6: bool,

    #[command(flatten)]
    engine: EngineOptions,
}

impl Outward {
    pub(super) fn check(&self) -> Result<(), Error> {
        self.ours()?;
        self.engine.tcp().map(drop)
    }

    /// Our addresses.
    fn ours(&self) -> Result<Ours, Error> {
        self.addresses.choose(1, self.engine.mtu)
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
        let Setup { device, plan, config } = self.engine.setup(&self.ours()?, "trust1", tcp)?;
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

    /// The addresses of a host that can be peers at all, by the resolver of this machine and in its order: at least one.
    pub(super) fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        let ours = self.ours()?;
        let families = self.families(&ours)?;
        let found = (host, port).to_socket_addrs().map_err(|error| {
            Error::Run(format!(
                "{}; give an {}",
                why_unresolved(host, &error),
                Families { ipv6: false, ..families }.noun()
            ))
        })?;
        // Each once, though the resolver may say it for several kinds of sockets.
        let mut remotes: Vec<SocketAddr> = Vec::new();
        for remote in found.filter(|remote| families.have(remote.ip())) {
            if !remotes.contains(&remote) {
                remotes.push(remote);
            }
        }
        if remotes.is_empty() {
            return Err(Error::Run(format!("{host} has no {}; give one", families.noun())));
        }
        let mut refused = None;
        remotes.retain(|remote| match self.may_be_peer(host, *remote, &ours) {
            Ok(()) => true,
            Err(error) => {
                refused.get_or_insert(error);
                false
            }
        });
        remotes.truncate(ADDRESSES);
        refused.filter(|_| remotes.is_empty()).map_or(Ok(remotes), Err)
    }

    /// Those that are to be used.
    fn families(&self, ours: &Ours) -> Result<Families, Error> {
        let have = Families::of(&ours.ips());
        let families = Families { ipv4: have.ipv4 && !self.ipv6, ipv6: have.ipv6 && !self.ipv4 };
        if families.ipv4 || families.ipv6 {
            return Ok(families);
        }
        let (option, family) = if self.ipv6 { ("-6", "IPv6") } else { ("-4", "IPv4") };
        let why = ours.without_ipv6().unwrap_or("--address gives us one");
        Err(Error::Run(format!("{option}: we have no {family} address; {why}")))
    }

    /// Refuses an address that cannot be a peer, or not from here.
    fn may_be_peer(&self, host: &str, remote: SocketAddr, ours: &Ours) -> Result<(), Error> {
        check_remote(host, remote.ip(), ours)?;
        if self.engine.forwarding || is_reachable(remote.ip(), ours) {
            return Ok(());
        }
        let tun = self.engine.tun.as_deref().unwrap_or("trust1");
        let setting = if remote.is_ipv4() { "net.ipv4.ip_forward" } else { "net.ipv6.conf.all.forwarding" };
        Err(Error::Run(format!(
            "{remote} cannot be reached from here: our stack is behind a TUN device ({tun}), and the kernel of this \
             namespace forwards nothing ({setting} is 0); start the engine with ./run.sh, whose namespace forwards, or \
             allow it here: sysctl -w {setting}=1"
        )))
    }
}

/// See [`Outward::resolver`].
pub(super) struct Resolver {
    socket: OwnedFd,
}

impl Resolver {
    pub(super) fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
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

/// Connects to the first of these addresses that answers, and says so when it takes long; the connection, and where it
/// leads.
pub(super) fn connect(stack: &Stack, remotes: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), Error> {
    let (settled, waiting) = bounded::<()>(0);
    thread::scope(|scope| {
        let patience = thread::Builder::new().name("patience".to_owned());
        // Without a thread for it nothing is said, and it takes no less long.
        let _ = patience.spawn_scoped(scope, move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let remotes = remotes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                console::error().say(format!(
                    "trust: no answer yet from {remotes} (SYN sent again); is an engine running there, and does no firewall \
                     drop what goes between? going on; ^C ends it\n"
                ));
            }
        });
        let result = connect_to_any(stack, remotes);
        drop(settled);
        result
    })
}

fn connect_to_any(stack: &Stack, remotes: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), Error> {
    let failed = |remote, error: io::Error| Error::Run(format!("{remote}: {}", explain(&error, false)));
    if let &[remote] = remotes {
        return stack.connect(remote).map(|stream| (stream, remote)).map_err(|error| failed(remote, error));
    }
    let runtime = runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(first_that_answers(remotes, async |remote| {
        let stream = trust::net::tokio::TcpStream::open(TcpSocket::new(stack), remote).await;
        stream.map(|stream| (stream.into_inner(), remote)).map_err(|error| failed(remote, error))
    }))
}

/// Says what a resolver said of a name.
pub(super) fn why_unresolved(host: &str, error: &io::Error) -> String {
    let why = error.to_string();
    let why = why.trim_start_matches("failed to lookup address information: ");
    format!("{host}: the name cannot be resolved ({why})")
}

/// Refuses addresses that nobody but ourselves can have.
fn check_remote(host: &str, remote: IpAddr, ours: &Ours) -> Result<(), Error> {
    let kernel = ours.kernel_beside(remote);
    let why = if remote.is_loopback() {
        format!(
            "loopback is not reached from our stack, which is on a subnet of its own behind a TUN device; \
             {kernel} is the kernel of this namespace"
        )
    } else if ours.contain(remote) {
        format!("this is our own address; {kernel} is the kernel of this namespace, and --address gives us another")
    } else if let Some(why) = no_host(remote) {
        format!("{why}; give the address of one host")
    } else {
        return Ok(());
    };
    Err(Error::Usage(format!("{host}: {why}")))
}

/// Whether the kernel takes packets from our device anywhere near `remote`: its own addresses and those of our prefixes
/// it sees to anyway, for all others it must forward.
fn is_reachable(remote: IpAddr, ours: &Ours) -> bool {
    // What a new interface gets, and for IPv6 what counts for all; unreadable: let us see.
    let setting = if remote.is_ipv4() { "ipv4/conf/default/forwarding" } else { "ipv6/conf/all/forwarding" };
    let forwarding = std::fs::read_to_string(format!("/proc/sys/net/{setting}"));
    ours.cover(remote) || UdpSocket::bind((remote, 0)).is_ok() || forwarding.map_or(true, |text| text.trim() != "0")
}

/// What became of a connection, in words.
pub(super) fn explain(error: &io::Error, established: bool) -> String {
    let text = match error.kind() {
        // Behind the peer's FIN a reset is a broken pipe.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection reset by peer",
        io::ErrorKind::ConnectionRefused => "connection refused; nothing listens on that port",
        io::ErrorKind::TimedOut if established => "timed out; the peer acknowledges nothing any more",
        io::ErrorKind::TimedOut => "timed out, no SYN was answered; is that host there, and is there a way to it?",
        io::ErrorKind::NetworkUnreachable => {
            "no route leads there, of ours (--route adds one) or of a router on the way"
        }
        io::ErrorKind::HostUnreachable => "a router on the way says that this host cannot be reached",
        io::ErrorKind::ConnectionAborted => "aborted",
        _ => return error.to_string(),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ours() -> Ours {
        Ours::given(&["10.7.1.2/24", "fd00:7:0:1::2/64"])
    }

    #[test]
    fn addresses_that_nobody_else_can_have_are_refused_with_the_reason() {
        for (remote, said) in [
            ("127.0.0.1", "10.7.1.1 is the kernel"),
            ("127.9.9.9", "loopback"),
            ("10.7.1.2", "our own address"),
            ("0.0.0.0", "no host's address"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("::1", "fd00:7:0:1::1 is the kernel"),
            ("fd00:7:0:1::2", "our own address"),
            ("::", "no host's address"),
            ("ff02::1", "multicast"),
            ("::ffff:10.7.0.2", "IPv4 address in IPv6's form"),
        ] {
            let error = check_remote("localhost", remote.parse().unwrap(), &ours()).unwrap_err();
            assert!(error.to_string().contains(said) && error.exit_status() == 2, "{remote}: {error}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
        for remote in ["10.7.1.1", "10.7.0.2", "192.0.2.1", "fd00:7:0:1::1", "2001:db8::1"] {
            assert!(check_remote("host", remote.parse().unwrap(), &ours()).is_ok(), "{remote}");
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
        for remote in ["10.7.1.9", "127.0.0.1", "fd00:7:0:1::9"] {
            assert!(is_reachable(remote.parse().unwrap(), &ours()), "{remote}");
        }
    }
}
