//! No wake-up and no edge is lost: sockets with queues of all sizes, down to an octet, and with memory for a few of them
//! only; threads that block, and threads that wait for events. A lost one shows as a stall.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, Pin};
use trust::net::{EventQueue, SocketLimits, TcpListener, TcpStream};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));

const STREAMS: usize = 12;

/// Sizes of the send and the receive queue, memory for all queues, octets to be sent on each stream.
const SIZES: [(usize, usize, usize, usize); 7] = [
    (1, 1, 1 << 30, 300),
    (7, 3, 1 << 30, 3_000),
    (2_000, 500, 1 << 30, 200_000),
    (500, 70_000, 1 << 30, 100_000),
    (128 << 10, 128 << 10, 1 << 30, 1 << 20),
    // Memory for some: the others go on with a kilobyte each.
    (128 << 10, 128 << 10, 100_000, 1 << 20),
    (128 << 10, 128 << 10, 0, 200_000),
];

fn engines(send_queue: usize, receive_queue: usize, queued: usize) -> (Engine, Engine) {
    let (a, b) = pair(&MemoryOptions { queues: 2, slots: 1_024, ..MemoryOptions::default() }).unwrap();
    let start = |device, address| {
        let limits = SocketLimits { send_queue, receive_queue, queued };
        Engine::builder().device(device, 2).address(address).pin(Pin::None).sockets(limits).start().unwrap()
    };
    (start(a, SERVER), start(b, CLIENT))
}

fn octets(count: usize, seed: usize) -> Vec<u8> {
    (0..count).map(|i| ((i * 31 + seed * 7) >> 3) as u8).collect()
}

/// Both are told by the run when it is stuck.
fn within_a_minute(what: &str, run: impl FnOnce() + Send + 'static) {
    let running = thread::spawn(run);
    let start = Instant::now();
    while !running.is_finished() {
        assert!(start.elapsed() < Duration::from_secs(60), "stuck: {what}");
        thread::sleep(Duration::from_millis(5));
    }
    running.join().unwrap();
}

#[test]
fn threads_that_block_are_woken() {
    for (send, receive, queued, size) in SIZES {
        within_a_minute(&format!("{send} {receive} {queued}"), move || {
            let (server, client) = engines(send, receive, queued);
            let listener = server.bind(SocketAddr::new(SERVER, 7)).unwrap();
            let clients: Vec<_> = (0..STREAMS).map(|_| client.connect(SocketAddr::new(SERVER, 7)).unwrap()).collect();
            thread::scope(|scope| {
                for (seed, client) in clients.iter().enumerate() {
                    let (mut server, _) = listener.accept().unwrap();
                    scope.spawn(move || {
                        let mut buffer = vec![0; 1 + seed * 5_000];
                        loop {
                            match server.read(&mut buffer).unwrap() {
                                0 => break,
                                len => server.write_all(&buffer[..len]).unwrap(),
                            }
                        }
                    });
                    let sent = octets(size, seed);
                    scope.spawn(move || {
                        for piece in sent.chunks(1 + seed * 30_000) {
                            { client }.write_all(piece).unwrap();
                        }
                        client.shutdown(Shutdown::Write).unwrap();
                    });
                    scope.spawn(move || {
                        let mut got = Vec::new();
                        { client }.read_to_end(&mut got).unwrap();
                        assert!(got == octets(size, seed), "{} of {size} octets", got.len());
                    });
                }
            });
        });
    }
}

/// Answers with what it gets.
struct Echo {
    stream: TcpStream,
    pending: Vec<u8>,
    buffer: Vec<u8>,
    done: bool,
}

impl Echo {
    /// Goes on until it would have to wait.
    fn pump(&mut self) -> io::Result<()> {
        while !self.done {
            if self.pending.is_empty() {
                match (&self.stream).read(&mut self.buffer)? {
                    0 => {
                        self.stream.shutdown(Shutdown::Write)?;
                        self.done = true;
                    }
                    len => self.pending.extend_from_slice(&self.buffer[..len]),
                }
            } else {
                let sent = (&self.stream).write(&self.pending)?;
                self.pending.drain(..sent);
            }
        }
        Ok(())
    }
}

/// Sends and compares what comes back.
struct Caller {
    stream: TcpStream,
    expected: Vec<u8>,
    sent: usize,
    got: usize,
    shut: bool,
    buffer: Vec<u8>,
    done: bool,
}

impl Caller {
    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.expected.len() {
            self.sent += (&self.stream).write(&self.expected[self.sent..])?;
        }
        if !std::mem::replace(&mut self.shut, true) {
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        while !self.done {
            let len = (&self.stream).read(&mut self.buffer)?;
            assert!(self.buffer[..len] == self.expected[self.got..self.got + len], "octets {}", self.got);
            self.got += len;
            self.done = len == 0;
        }
        Ok(())
    }
}

/// Would block: all is well, an event will come.
fn wait(result: io::Result<()>) {
    match result {
        Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
        _ => {}
    }
}

/// Serves events, by token, until `step` says that all is done.
fn event_loop(queue: &mut EventQueue, mut step: impl FnMut(&EventQueue, usize) -> bool) {
    let mut poll = mio::Poll::new().unwrap();
    let mut events = mio::Events::with_capacity(8);
    poll.registry().register(queue, mio::Token(0), mio::Interest::READABLE).unwrap();
    loop {
        poll.poll(&mut events, None).unwrap();
        for event in queue.events() {
            if step(queue, event.token().0) {
                return;
            }
        }
    }
}

const BOTH: mio::Interest = mio::Interest::READABLE.add(mio::Interest::WRITABLE);

fn serve(listener: &TcpListener, buffer: usize) {
    let mut queue = EventQueue::new().unwrap();
    listener.set_nonblocking(true).unwrap();
    queue.register(listener, mio::Token(usize::MAX), mio::Interest::READABLE);
    let mut echoes: Vec<Echo> = Vec::new();
    event_loop(&mut queue, |queue, token| {
        if let Some(echo) = echoes.get_mut(token) {
            wait(echo.pump());
        } else {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true).unwrap();
                queue.register(&stream, mio::Token(echoes.len()), BOTH);
                echoes.push(Echo { stream, pending: Vec::new(), buffer: vec![0; buffer], done: false });
            }
        }
        echoes.len() == STREAMS && echoes.iter().all(|echo| echo.done)
    });
}

#[test]
fn threads_that_wait_for_events_get_them() {
    for (send, receive, queued, size) in SIZES {
        within_a_minute(&format!("{send} {receive} {queued}"), move || {
            let (server, client) = engines(send, receive, queued);
            let listener = server.bind(SocketAddr::new(SERVER, 7)).unwrap();
            let serving = thread::spawn(move || serve(&listener, 3_000));
            let mut queue = EventQueue::new().unwrap();
            let mut callers: Vec<_> = (0..STREAMS)
                .map(|seed| {
                    let stream = client.connect(SocketAddr::new(SERVER, 7)).unwrap();
                    stream.set_nonblocking(true).unwrap();
                    queue.register(&stream, mio::Token(seed), BOTH);
                    let buffer = vec![0; 1 + seed * 9_000];
                    Caller { stream, expected: octets(size, seed), sent: 0, got: 0, shut: false, buffer, done: false }
                })
                .collect();
            event_loop(&mut queue, |_, token| {
                wait(callers[token].send());
                wait(callers[token].receive());
                callers.iter().all(|caller| caller.done)
            });
            assert!(callers.iter().all(|caller| caller.got == size));
            serving.join().unwrap();
        });
    }
}

/// A larger buffer is room for a writer that found none.
#[test]
fn a_larger_send_buffer_wakes_a_writer() {
    within_a_minute("a writer", || {
        let (server, client) = engines(2_000, 2_000, 1 << 30);
        let listener = server.bind(SocketAddr::new(SERVER, 7)).unwrap();
        let stream = client.connect(SocketAddr::new(SERVER, 7)).unwrap();
        let (reader, _) = listener.accept().unwrap();
        reader.set_receive_buffer(4_096);
        stream.set_send_buffer(4_096);
        stream.set_nonblocking(true).unwrap();
        let mut last = Instant::now();
        while last.elapsed() < Duration::from_millis(300) {
            if (&stream).write(&[1; 1_000]).is_ok() {
                last = Instant::now();
            }
            thread::sleep(Duration::from_millis(1));
        }
        stream.set_nonblocking(false).unwrap();
        thread::scope(|scope| {
            let writing = scope.spawn(|| (&stream).write(&[2; 1_000]).unwrap());
            thread::sleep(Duration::from_millis(20));
            assert!(!writing.is_finished(), "{:?}", writing.join());
            stream.set_send_buffer(1 << 20);
            assert_eq!(writing.join().unwrap(), 1_000);
        });
    });
}
