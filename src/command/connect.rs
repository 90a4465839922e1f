//! `trust connect`: nc on our own stack.
//!
//! The connection lives in the engine's shard as a [`Service`]; one thread reads standard input, one writes standard
//! output. Credits bound what is on its way in either direction, so that neither side runs ahead of the other.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::thread;

use clap::Args;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use trust::engine::{Engine, Handle, ServiceFactory};
use trust::flow::{Endpoint, ShardId};
use trust::shard::{ConnId, Io, Message, Service};
use trust::tcp::CloseReason;

use super::{Address, EngineOptions, Error, Setup};

/// Blocks on their way between a thread and the service, each direction.
const BLOCKS: usize = 16;
const BLOCK_LEN: usize = 64 << 10;

/// Options of `trust connect`.
#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// Host name or address.
    host: String,

    /// Port.
    port: u16,

    /// Our address; the kernel's side gets the first other one of the prefix.
    #[arg(long, value_name = "ADDRESS/PREFIX", default_value = "10.7.1.2/24")]
    address: Address,

    #[command(flatten)]
    engine: EngineOptions,
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
        self.engine.workers = self.engine.workers.or(Some(1));
        let Setup { device, plan, config } = self.engine.setup(self.address, "trust1", tcp)?;

        let (credits, credit) = bounded(BLOCKS);
        for _ in 0..BLOCKS {
            let _ = credits.send(());
        }
        let (output, outputs) = bounded(BLOCKS);
        let (ended, end) = bounded(1);
        let factory = ServiceFactory {
            port: None,
            make: Box::new(move || Box::new(Pipe::new(credits.clone(), output.clone(), ended.clone()))),
        };
        let mut engine = Engine::start(config, plan, device, &[factory])?;
        let handle = engine.handle();
        handle.connect(ShardId(0), 0, Endpoint { addr: remote.ip(), port: remote.port() });
        let stdin = handle.clone();
        thread::Builder::new().name("stdin".to_owned()).spawn(move || read_input(&stdin, &credit))?;
        let stdout = thread::Builder::new().name("stdout".to_owned()).spawn(move || write_output(&handle, &outputs))?;

        let reason = loop {
            match end.recv_timeout(std::time::Duration::from_millis(200)) {
                Ok(reason) => break Some(reason),
                Err(crossbeam::channel::RecvTimeoutError::Timeout) if engine.has_failed() => break None,
                Err(crossbeam::channel::RecvTimeoutError::Timeout) => {}
                Err(crossbeam::channel::RecvTimeoutError::Disconnected) => break None,
            }
        };
        // The service, and with it the sender of blocks, goes with the engine; then the writer comes to its end.
        engine.stop()?;
        drop(engine);
        match stdout.join() {
            Ok(result) => result?,
            Err(_) => return Err("the thread that writes standard output panicked".into()),
        }
        match reason {
            Some(CloseReason::Normal) => Ok(()),
            Some(reason) => Err(format!("{remote}: {}", explain(reason)).into()),
            None => Err("the engine ended before the connection did".into()),
        }
    }
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, Error> {
    (host, port)
        .to_socket_addrs()
        .map_err(|error| format!("{host}: {error}"))?
        .find(SocketAddr::is_ipv4)
        .ok_or_else(|| format!("{host} has no IPv4 address").into())
}

fn explain(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Normal => "closed",
        CloseReason::Reset => "connection reset by peer",
        CloseReason::Refused => "connection refused",
        CloseReason::TimedOut | CloseReason::UserTimeout => "timed out",
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
    ended: Sender<CloseReason>,
}

impl Pipe {
    fn new(credits: Sender<()>, output: Sender<Vec<u8>>, ended: Sender<CloseReason>) -> Self {
        Self { conn: None, input: VecDeque::new(), sent: 0, input_ended: false, credits, output, ended }
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
        self.send(io);
    }

    fn readable(&mut self, io: &mut Io<'_>, _conn: ConnId) {
        self.receive(io);
    }

    fn writable(&mut self, io: &mut Io<'_>, _conn: ConnId) {
        self.send(io);
    }

    fn closed(&mut self, _io: &mut Io<'_>, _conn: ConnId, reason: CloseReason) {
        let _ = self.ended.try_send(reason);
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
