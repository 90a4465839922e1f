//! An echo server in one thread with mio: many connections, one loop, nothing that blocks. Its clients are sockets of
//! another engine; the two are joined in memory, so no root and no device is needed.
//!
//! ```text
//! cargo run --example mio_echo
//! ```

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::thread;

use mio::{Events, Interest, Poll, Token};
use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, Pin};
use trust::net::{EventQueue, Stack, TcpListener, TcpStream};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 7);
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const CLIENTS: usize = 20;
const LISTENER: Token = Token(0);

fn main() -> io::Result<()> {
    let (here, there) = pair(&MemoryOptions::default())?;
    let server = Engine::builder().device(here, 1).address(SERVER.ip()).pin(Pin::None).start()?;
    let client = Engine::builder().device(there, 1).address(CLIENT).pin(Pin::None).start()?;
    let listener = server.bind(SERVER)?;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|seed| {
            let stack = client.stack();
            thread::spawn(move || ask(&stack, seed))
        })
        .collect();
    let served = serve(&listener, CLIENTS)?;
    for client in clients {
        client.join().map_err(|_| io::Error::other("a client panicked"))??;
    }
    println!("{CLIENTS} clients, {served} octets echoed");
    assert_eq!(served, CLIENTS * 300_000);
    Ok(())
}

/// A connection, and what is to go back on it.
struct Echo {
    stream: TcpStream,
    held: Vec<u8>,
    ended: bool,
}

/// Serves so many connections to their ends; says how many octets that were.
fn serve(listener: &TcpListener, connections: usize) -> io::Result<usize> {
    // One descriptor for all sockets: this queue's.
    let (mut poll, mut queue) = (Poll::new()?, EventQueue::new()?);
    poll.registry().register(&mut queue, LISTENER, Interest::READABLE)?;
    listener.set_nonblocking(true)?;
    queue.register(listener, LISTENER, Interest::READABLE);
    let (mut open, mut next, mut done, mut octets) = (HashMap::new(), 1, 0, 0);
    let mut events = Events::with_capacity(16);
    while done < connections {
        poll.poll(&mut events, None)?;
        for event in queue.events() {
            if event.token() == LISTENER {
                // Events are edges: whoever gets one goes on until there is no more.
                while let Some((stream, _)) = unless_blocked(listener.accept())? {
                    stream.set_nonblocking(true)?;
                    queue.register(&stream, Token(next), Interest::READABLE | Interest::WRITABLE);
                    open.insert(next, Echo { stream, held: Vec::new(), ended: false });
                    next += 1;
                }
            } else if let Some(echo) = open.get_mut(&event.token().0) {
                octets += echo.drive()?;
                if echo.ended && echo.held.is_empty() {
                    echo.stream.shutdown(Shutdown::Write)?;
                    open.remove(&event.token().0);
                    done += 1;
                }
            }
        }
    }
    Ok(octets)
}

impl Echo {
    /// Reads and writes until neither goes on; a client that does not read is not read from either.
    fn drive(&mut self) -> io::Result<usize> {
        let (mut written, mut buffer) = (0, [0; 16_384]);
        loop {
            if self.held.is_empty() && !self.ended {
                match unless_blocked(self.stream.read(&mut buffer))? {
                    Some(0) => self.ended = true,
                    Some(got) => self.held.extend_from_slice(&buffer[..got]),
                    None => return Ok(written),
                }
            }
            if self.held.is_empty() {
                return Ok(written);
            }
            let Some(put) = unless_blocked(self.stream.write(&self.held))? else { return Ok(written) };
            self.held.drain(..put);
            written += put;
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

/// A client with blocking sockets: sends, reads, compares.
fn ask(stack: &Stack, seed: usize) -> io::Result<()> {
    let sent: Vec<u8> = (0..300_000).map(|at: usize| (at.wrapping_mul(seed + 1) >> 3) as u8).collect();
    let stream = stack.connect(SERVER)?;
    let mut got = Vec::new();
    thread::scope(|scope| {
        let writing = scope.spawn(|| (&stream).write_all(&sent).and_then(|()| stream.shutdown(Shutdown::Write)));
        (&stream).read_to_end(&mut got)?;
        writing.join().map_err(|_| io::Error::other("the writer panicked"))?
    })?;
    assert!(got == sent, "client {seed}: {} octets of {}", got.len(), sent.len());
    Ok(())
}
