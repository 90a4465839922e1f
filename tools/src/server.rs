//! The services of the engine, served by the kernel's TCP on one thread: the other side of every comparison.
//! Echo answers everything it reads, also after the client's FIN; discard reads; chargen sends the rotating pattern of
//! RFC 864 as fast as it is taken.

use crate::sys;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::time::{Duration, Instant};

const BLOCK: usize = 128 * 1024;
/// 95 lines of 74 octets, then the pattern repeats (RFC 864).
const PATTERN: usize = 95 * 74;

/// What a port does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// RFC 862.
    Echo,
    /// RFC 863.
    Discard,
    /// RFC 864.
    Chargen,
}

/// A service and its port, written `echo:7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// What it does.
    pub kind: Kind,
    /// Where.
    pub port: u16,
}

impl Service {
    /// What is served when nothing else is asked for: the well-known ports.
    pub const DEFAULT: [Self; 3] = [
        Self { kind: Kind::Echo, port: 7 },
        Self { kind: Kind::Discard, port: 9 },
        Self { kind: Kind::Chargen, port: 19 },
    ];
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, port) = text.split_once(':').ok_or("expected NAME:PORT")?;
        let kind = match name {
            "echo" => Kind::Echo,
            "discard" => Kind::Discard,
            "chargen" => Kind::Chargen,
            _ => return Err(format!("no service is called {name}: echo, discard or chargen")),
        };
        Ok(Self { kind, port: port.parse().map_err(|e| format!("port {port}: {e}"))? })
    }
}

/// The pattern of RFC 864, as many whole turns as fit a block.
pub(crate) fn pattern() -> Vec<u8> {
    let mut turn = Vec::with_capacity(PATTERN);
    for line in 0..95_usize {
        turn.extend((0..72).map(|column| b' ' + u8::try_from((line + column) % 95).unwrap_or(0)));
        turn.extend(b"\r\n");
    }
    turn.repeat(BLOCK / PATTERN)
}

struct Connection {
    stream: TcpStream,
    kind: Kind,
    /// Echo: octets read and not yet taken by the socket.
    pending: Vec<u8>,
    /// How much of `pending`, or of the pattern, is already written.
    at: usize,
    /// The peer's FIN was announced: a short read no longer means "drained".
    closing: bool,
    in_line: bool,
}

/// What became of one step of a connection.
enum Step {
    Again,
    Blocked,
    Done,
}

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&at.into()).map_err(|e| io::Error::new(e.kind(), format!("bind {at}: {e}")))?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Serves until `until` (`None`: for ever); calls `ready` once every port is open.
///
/// # Errors
/// A port cannot be bound, or the machinery fails; a failing connection only ends itself.
pub fn serve(address: IpAddr, services: &[Service], until: Option<Instant>, ready: impl FnOnce()) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut listeners = Vec::new();
    for (index, service) in services.iter().enumerate() {
        let listener = listen(SocketAddr::new(address, service.port))?;
        sys::register(&poll, &listener, Token(index), Interest::READABLE)?;
        listeners.push((listener, service.kind));
    }
    ready();
    let first = listeners.len();
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut vacant: Vec<usize> = Vec::new();
    // Readiness is edge-triggered: a connection stays in line until it would block, one block a turn.
    let mut line: VecDeque<usize> = VecDeque::new();
    let mut buffer = vec![0_u8; BLOCK];
    let pattern = pattern();
    loop {
        if until.is_some_and(|end| Instant::now() >= end) {
            return Ok(());
        }
        let patience = if line.is_empty() { Duration::from_millis(200) } else { Duration::ZERO };
        match poll.poll(&mut events, Some(patience)) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
        for event in &events {
            let token = event.token().0;
            if let Some((listener, kind)) = listeners.get(token) {
                // A failing accept (no descriptors left, a peer gone again) waits for the next arrival.
                while let Ok((stream, _)) = listener.accept() {
                    let slot = vacant.pop().unwrap_or_else(|| {
                        connections.push(None);
                        connections.len() - 1
                    });
                    let interest = match kind {
                        Kind::Discard => Interest::READABLE,
                        Kind::Echo | Kind::Chargen => Interest::READABLE | Interest::WRITABLE,
                    };
                    let _ = stream.set_nodelay(true);
                    stream.set_nonblocking(true)?;
                    sys::register(&poll, &stream, Token(first + slot), interest)?;
                    let (pending, at, closing, in_line) = (Vec::new(), 0, false, false);
                    connections[slot] = Some(Connection { stream, kind: *kind, pending, at, closing, in_line });
                }
                continue;
            }
            let Some(Some(connection)) = connections.get_mut(token - first) else { continue };
            connection.closing |= event.is_read_closed();
            if !std::mem::replace(&mut connection.in_line, true) {
                line.push_back(token - first);
            }
        }
        for _ in 0..line.len() {
            let Some(slot) = line.pop_front() else { break };
            let Some(connection) = connections[slot].as_mut() else { continue };
            match connection.step(&mut buffer, &pattern) {
                Ok(Step::Again) => line.push_back(slot),
                Ok(Step::Blocked) => connection.in_line = false,
                Ok(Step::Done) | Err(_) => {
                    connections[slot] = None;
                    vacant.push(slot);
                }
            }
        }
    }
}

impl Connection {
    fn step(&mut self, buffer: &mut [u8], pattern: &[u8]) -> io::Result<Step> {
        match self.kind {
            Kind::Chargen if self.closing => return Ok(Step::Done),
            Kind::Chargen => {
                return Ok(match taken(self.stream.write(&pattern[self.at..]))? {
                    Some(n) => {
                        self.at = (self.at + n) % pattern.len();
                        Step::Again
                    }
                    None => Step::Blocked,
                });
            }
            Kind::Echo if !self.pending.is_empty() => {
                let Some(n) = taken(self.stream.write(&self.pending[self.at..]))? else { return Ok(Step::Blocked) };
                self.at += n;
                if self.at == self.pending.len() {
                    self.pending.clear();
                    self.at = 0;
                }
                return Ok(Step::Again);
            }
            Kind::Echo | Kind::Discard => {}
        }
        let Some(n) = taken(self.stream.read(buffer))? else { return Ok(Step::Blocked) };
        if n == 0 {
            return Ok(Step::Done);
        }
        if self.kind == Kind::Echo {
            let written = taken(self.stream.write(&buffer[..n]))?.unwrap_or(0);
            if written < n {
                self.pending.extend_from_slice(&buffer[written..n]);
                return Ok(Step::Again);
            }
        }
        // A short read has emptied the socket: the next arrival is a new edge, unless the FIN's edge is already spent.
        Ok(if n < buffer.len() && !self.closing { Step::Blocked } else { Step::Again })
    }
}

/// Octets moved; `None`: it would block.
fn taken(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn service_names_parse() {
        assert_eq!("echo:7".parse(), Ok(Service { kind: Kind::Echo, port: 7 }));
        assert!("echo".parse::<Service>().is_err());
        assert!("gopher:70".parse::<Service>().is_err());
        assert!("echo:70000".parse::<Service>().is_err());
    }

    #[test]
    fn chargen_repeats_seamlessly() {
        let pattern = pattern();
        assert_eq!(pattern.len() % PATTERN, 0);
        assert_eq!(&pattern[..5], b" !\"#$");
        assert_eq!(&pattern[74..79], b"!\"#$%");
        assert_eq!(pattern[..PATTERN], pattern[pattern.len() - PATTERN..]);
    }

    #[test]
    fn echo_returns_all_octets_after_a_half_close() {
        let (port, ready) = std::sync::mpsc::channel();
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = probe.local_addr().unwrap();
        drop(probe);
        let server = std::thread::spawn(move || {
            let services = [Service { kind: Kind::Echo, port: at.port() }];
            let until = Instant::now() + Duration::from_secs(2);
            serve(at.ip(), &services, Some(until), move || port.send(()).unwrap())
        });
        ready.recv().unwrap();
        let sent: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
        let mut stream = std::net::TcpStream::connect(at).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let copy = sent.clone();
        let writing = std::thread::spawn(move || {
            writer.write_all(&copy).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        writing.join().unwrap();
        assert_eq!(back, sent);
        server.join().unwrap().unwrap();
    }
}
