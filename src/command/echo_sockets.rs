//! Echo as an application: what `echo` does inside the shards, done by one more thread on sockets that every program can
//! use. It is there to be compared with the other.
//!
//! One loop for all connections, with mio; in its turn a connection has moved what lies in one piece in its queue.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};
use trust::net::{EventQueue, Stack, TcpListener, TcpStream};
use trust::services::KEEPALIVE;

use super::addresses::unspecified;
use super::{Error, threads};

/// Of the event queue, and within it of the listener.
const QUEUE: Token = Token(usize::MAX);
const STOP: Token = Token(usize::MAX - 1);

/// The thread that echoes. Dropped, it ends, and with it what is open.
#[derive(Debug)]
pub(super) struct EchoSockets {
    stop: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl EchoSockets {
    /// Listens on all of `ports`, and begins.
    pub(super) fn start(stack: &Stack, ports: &[u16]) -> Result<Option<Self>, Error> {
        if ports.is_empty() {
            return Ok(None);
        }
        let poll = Poll::new()?;
        let stop = Arc::new(Waker::new(poll.registry(), STOP)?);
        let mut queue = EventQueue::new()?;
        poll.registry().register(&mut queue, QUEUE, Interest::READABLE)?;
        let mut listeners = Vec::new();
        for (any, port) in unspecified(stack).flat_map(|any| ports.iter().map(move |port| (any, *port))) {
            let failed = |error: io::Error| Error::Run(format!("--service echo-sockets:{port}: {error}"));
            let listener = stack.bind((any, port)).map_err(failed)?;
            listener.set_nonblocking(true)?;
            queue.register(&listener, Token(listeners.len()), Interest::READABLE);
            listeners.push(listener);
        }
        let mut application =
            Application { queue, listeners, connections: Vec::new(), vacant: Vec::new(), line: VecDeque::new() };
        let thread = threads::start("echo-sockets", move || {
            if let Err(error) = application.run(poll) {
                tracing::error!("echo-sockets: {error}");
            }
        })?;
        Ok(Some(Self { stop, thread: Some(thread) }))
    }
}

impl Drop for EchoSockets {
    fn drop(&mut self) {
        if self.stop.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

struct Connection {
    stream: TcpStream,
    in_line: bool,
}

/// What became of a turn.
enum Turn {
    Again,
    Blocked,
    Done,
}

struct Application {
    queue: EventQueue,
    listeners: Vec<TcpListener>,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    /// Events are edges: a connection stays in line until it would block.
    line: VecDeque<usize>,
}

impl Application {
    fn run(&mut self, mut poll: Poll) -> io::Result<()> {
        let mut events = Events::with_capacity(16);
        loop {
            let patience = if self.line.is_empty() { None } else { Some(Duration::ZERO) };
            match poll.poll(&mut events, patience) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            if events.iter().any(|event| event.token() == STOP) {
                return Ok(());
            }
            if !events.is_empty() {
                self.look();
            }
            for _ in 0..self.line.len() {
                let Some(slot) = self.line.pop_front() else { break };
                let Some(connection) = &mut self.connections[slot] else { continue };
                match connection.turn() {
                    Ok(Turn::Again) => self.line.push_back(slot),
                    Ok(Turn::Blocked) => connection.in_line = false,
                    Ok(Turn::Done) | Err(_) => {
                        self.connections[slot] = None;
                        self.vacant.push(slot);
                    }
                }
            }
        }
    }

    /// Takes what has happened.
    fn look(&mut self) {
        let first = self.listeners.len();
        for event in self.queue.events() {
            let token = event.token().0;
            if let Some(listener) = self.listeners.get(token) {
                while let Ok((stream, _)) = listener.accept() {
                    if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
                        continue;
                    }
                    // Nobody here would close what hangs.
                    stream.set_keepalive(Some(KEEPALIVE));
                    let slot = self.vacant.pop().unwrap_or(self.connections.len());
                    self.queue.register(&stream, Token(first + slot), Interest::READABLE | Interest::WRITABLE);
                    let connection = Some(Connection { stream, in_line: false });
                    match self.connections.get_mut(slot) {
                        Some(place) => *place = connection,
                        None => self.connections.push(connection),
                    }
                }
            } else if let Some(Some(connection)) = self.connections.get_mut(token - first)
                && !std::mem::replace(&mut connection.in_line, true)
            {
                self.line.push_back(token - first);
            }
        }
    }
}

impl Connection {
    /// Writes from the place where the octets came in: what finds no room stays there, so that nothing is kept here for a
    /// client that does not read.
    fn turn(&mut self) -> io::Result<Turn> {
        let mut written = None;
        let got = self.stream.read_with(|octets| {
            let result = (&self.stream).write(octets);
            let taken = *result.as_ref().unwrap_or(&0);
            written = Some(result);
            taken
        });
        match written {
            Some(result) => Ok(if unless_blocked(result)?.is_some() { Turn::Again } else { Turn::Blocked }),
            // All of it is on its way; the FIN goes behind it.
            None if unless_blocked(got)?.is_some() => Ok(Turn::Done),
            None => Ok(Turn::Blocked),
        }
    }
}

fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
