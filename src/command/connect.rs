//! `trust connect`: nc on our own stack.
//!
//! The connection lives in the engine's shard as a [`Service`]; one thread reads standard input, one writes standard
//! output. Credits bound what is on its way in either direction, so that neither side runs ahead of the other.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use trust::engine::{Engine, Handle, ServiceFactory};
use trust::flow::{Endpoint, ShardId};
use trust::shard::{ConnId, Io, Message, Service};
use trust::tcp::CloseReason;

use super::{Address, EngineOptions, Error, Setup};

/// Blocks on their way between a thread and the service, each direction.
const BLOCKS: usize = 16;
const BLOCK_LEN: usize = 64 << 10;

/// When to say that nobody has answered: behind the first retransmission of the SYN, which is due after 1 s
/// (RFC6298-2.1).
const PATIENCE: Duration = Duration::from_millis(1_200);

/// Options of `trust connect`.
#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// Host name or address.
    host: String,

    /// Port.
    #[arg(value_parser = super::port, allow_negative_numbers = true)]
    port: u16,

    /// Our address; the kernel's side gets the first other one of the prefix.
    #[arg(long, value_name = "ADDRESS/PREFIX", default_value = "10.7.1.2/24")]
    address: Address,

    #[command(flatten)]
    engine: EngineOptions,
}

/// What the service tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Established,
    Ended(CloseReason),
}

/// What the threads tell the service.
enum FromThread {
    Input(Vec<u8>),
    InputEnd,
    /// Standard output has taken a block.
    OutputTaken,
}

impl Connect {
    pub(crate) fn run(mut self) -> Result<(), Error> {
        let Some(tcp) = self.engine.tcp()? else { return Ok(()) };
        self.engine.start_logging();
        let remote = resolve(&self.host, self.port)?;
        check_remote(&self.host, *remote.ip(), self.address)?;
        let tun = self.engine.tun.as_deref().unwrap_or("trust1");
        if !is_reachable(*remote.ip(), self.address) {
            return Err(Error::Run(format!(
                "{remote} cannot be reached from here: our stack is behind a TUN device ({tun}), and the kernel of this \
                 namespace forwards nothing (net.ipv4.ip_forward is 0); start the engine with ./run.sh, whose namespace \
                 forwards, or allow it here: sysctl -w net.ipv4.ip_forward=1"
            )));
        }
        self.engine.workers = self.engine.workers.or(Some(1));
        let Setup { device, plan, config } = self.engine.setup(&[self.address], "trust1", tcp)?;

        let (credits, credit) = bounded(BLOCKS);
        for _ in 0..BLOCKS {
            let _ = credits.send(());
        }
        let (output, outputs) = bounded(BLOCKS);
        let (tell, news) = bounded(2);
        let factory = ServiceFactory {
            port: None,
            make: Box::new(move || Box::new(Pipe::new(credits.clone(), output.clone(), tell.clone()))),
        };
        let mut engine = Engine::start(config, plan, device, &[factory])?;
        let handle = engine.handle();
        handle.connect(ShardId(0), 0, Endpoint { addr: IpAddr::V4(*remote.ip()), port: remote.port() });
        let stdin = handle.clone();
        thread::Builder::new().name("stdin".to_owned()).spawn(move || read_input(&stdin, &credit))?;
        let stdout = thread::Builder::new().name("stdout".to_owned()).spawn(move || write_output(&handle, &outputs))?;

        let (start, mut established, mut told) = (Instant::now(), false, false);
        let reason = loop {
            match news.recv_timeout(Duration::from_millis(200)) {
                Ok(News::Established) => established = true,
                Ok(News::Ended(reason)) => break Some(reason),
                Err(RecvTimeoutError::Timeout) if engine.has_failed() => break None,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break None,
            }
            if !established && !told && start.elapsed() >= PATIENCE {
                told = true;
                eprintln!(
                    "trust: no answer yet from {remote} (SYN sent again); is an engine running there, and does no firewall \
                     drop what goes between? going on; ^C ends it"
                );
            }
        };
        // The service, and with it the sender of blocks, goes with the engine; then the writer comes to its end.
        engine.stop()?;
        drop(engine);
        match stdout.join() {
            Ok(result) => result?,
            Err(_) => return Err(Error::Run("the thread that writes standard output panicked".to_owned())),
        }
        match reason {
            Some(CloseReason::Normal) => Ok(()),
            Some(reason) => Err(Error::Run(format!("{remote}: {}", explain(reason, established)))),
            None => Err(Error::Run("the engine ended before the connection did".to_owned())),
        }
    }
}

fn resolve(host: &str, port: u16) -> Result<SocketAddrV4, Error> {
    let found = (host, port).to_socket_addrs().map_err(|error| {
        let why = error.to_string();
        let why = why.trim_start_matches("failed to lookup address information: ");
        Error::Run(format!("{host}: the name cannot be resolved ({why}); give an IPv4 address"))
    })?;
    let mut ipv4 = found.filter_map(|address| if let SocketAddr::V4(address) = address { Some(address) } else { None });
    ipv4.next().ok_or_else(|| Error::Run(format!("{host} has no IPv4 address; give one")))
}

/// Refuses addresses that nobody but ourselves can have.
fn check_remote(host: &str, remote: Ipv4Addr, ours: Address) -> Result<(), Error> {
    let kernel = ours.kernel_side();
    let why = if remote.is_loopback() {
        format!(
            "loopback is not reached from our stack, which is on a subnet of its own behind a TUN device; \
             {kernel} is the kernel of this namespace"
        )
    } else if remote == ours.ip {
        format!("this is our own address; {kernel} is the kernel of this namespace, and --address gives us another")
    } else if let Some(why) = super::no_host(remote) {
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

fn explain(reason: CloseReason, established: bool) -> &'static str {
    match reason {
        CloseReason::Normal => "closed",
        CloseReason::Reset => "connection reset by peer",
        CloseReason::Refused => "connection refused; nothing listens on that port",
        CloseReason::TimedOut | CloseReason::UserTimeout if established => {
            "timed out; the peer acknowledges nothing any more"
        }
        CloseReason::TimedOut | CloseReason::UserTimeout => {
            "timed out, no SYN was answered; is that host there, and is there a way to it?"
        }
        CloseReason::Aborted | CloseReason::LocalClose => "aborted",
    }
}

fn read_input(handle: &Handle, credit: &Receiver<()>) {
    let mut stdin = std::io::stdin().lock();
    let mut block = vec![0; BLOCK_LEN];
    loop {
        let message = match stdin.read(&mut block) {
            Ok(0) | Err(_) => FromThread::InputEnd,
            Ok(len) => FromThread::Input(block[..len].to_vec()),
        };
        let last = matches!(message, FromThread::InputEnd);
        if credit.recv().is_err() || !handle.send(ShardId(0), 0, Box::new(message)) || last {
            return;
        }
    }
}

fn write_output(handle: &Handle, blocks: &Receiver<Vec<u8>>) -> std::io::Result<()> {
    // Not `Stdout` itself, which keeps what follows the last newline: here it may be a prompt.
    let mut stdout = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    for block in blocks {
        stdout.write_all(&block)?;
        handle.send(ShardId(0), 0, Box::new(FromThread::OutputTaken));
    }
    Ok(())
}

/// Joins one connection to the two threads.
struct Pipe {
    conn: Option<ConnId>,
    /// Read from standard input, not yet in the send buffer; the first block from `sent` on.
    input: VecDeque<Vec<u8>>,
    sent: usize,
    input_ended: bool,
    credits: Sender<()>,
    output: Sender<Vec<u8>>,
    news: Sender<News>,
}

impl Pipe {
    fn new(credits: Sender<()>, output: Sender<Vec<u8>>, news: Sender<News>) -> Self {
        Self { conn: None, input: VecDeque::new(), sent: 0, input_ended: false, credits, output, news }
    }

    fn send(&mut self, io: &mut Io<'_>) {
        let Some(conn) = self.conn else { return };
        while let Some(block) = self.input.front() {
            self.sent += io.send(conn, &block[self.sent..]);
            if self.sent < block.len() {
                return;
            }
            self.sent = 0;
            self.input.pop_front();
            let _ = self.credits.try_send(());
        }
        if self.input_ended {
            io.shutdown(conn);
        }
    }

    fn receive(&mut self, io: &mut Io<'_>) {
        let Some(conn) = self.conn else { return };
        loop {
            let octets = io.peek(conn);
            if octets.is_empty() {
                return;
            }
            match self.output.try_send(octets.to_vec()) {
                Ok(()) => {
                    let len = octets.len() as u32;
                    io.consume(conn, len);
                }
                // The window closes until standard output has taken a block.
                Err(TrySendError::Full(_)) => return,
                // Nobody reads what we write.
                Err(TrySendError::Disconnected(_)) => return io.abort(conn),
            }
        }
    }
}

impl Service for Pipe {
    fn accepted(&mut self, io: &mut Io<'_>, conn: ConnId) {
        self.conn = Some(conn);
        let _ = self.news.try_send(News::Established);
        self.send(io);
    }

    fn readable(&mut self, io: &mut Io<'_>, _conn: ConnId) {
        self.receive(io);
    }

    fn writable(&mut self, io: &mut Io<'_>, _conn: ConnId) {
        self.send(io);
    }

    fn closed(&mut self, _io: &mut Io<'_>, _conn: ConnId, reason: CloseReason) {
        let _ = self.news.try_send(News::Ended(reason));
    }

    fn message(&mut self, io: &mut Io<'_>, _from: ShardId, message: Message) {
        match message.downcast::<FromThread>().map(|message| *message) {
            Ok(FromThread::Input(block)) => {
                self.input.push_back(block);
                self.send(io);
            }
            Ok(FromThread::InputEnd) => {
                self.input_ended = true;
                self.send(io);
            }
            Ok(FromThread::OutputTaken) => self.receive(io),
            Err(_) => {}
        }
    }
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
        assert!(explain(CloseReason::TimedOut, false).contains("no SYN was answered"));
        assert!(explain(CloseReason::TimedOut, true).contains("acknowledges nothing"));
    }

    #[test]
    fn our_own_prefix_and_the_kernels_addresses_need_no_forwarding() {
        let ours: Address = "10.7.1.2/24".parse().unwrap();
        for remote in [[10, 7, 1, 9], [127, 0, 0, 1]] {
            assert!(is_reachable(remote.into(), ours), "{remote:?}");
        }
    }
}
