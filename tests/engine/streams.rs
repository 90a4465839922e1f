//! Sockets of two engines in one process, joined by a device in memory.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, Pin, PlanKind};
use trust::net::{EventQueue, TcpSocket, TcpStream};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));

/// Server and client.
fn engines(queues: u16, plan: PlanKind) -> (Engine, Engine) {
    let options = MemoryOptions { queues, slots: 1_024, ..MemoryOptions::default() };
    let (a, b) = pair(&options).unwrap();
    let start = |device, address| {
        Engine::builder()
            .device(device, usize::from(queues))
            .address(address)
            .plan(plan)
            .pin(Pin::None)
            .start()
            .unwrap()
    };
    (start(a, SERVER), start(b, CLIENT))
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(SERVER, port)
}

fn octets(count: usize, seed: usize) -> Vec<u8> {
    (0..count).map(|i| ((i * 31 + seed * 7) >> 3) as u8).collect()
}

#[test]
fn what_is_written_is_read_on_every_plan() {
    for (queues, plan) in [(1, PlanKind::Fused), (2, PlanKind::Fused), (2, PlanKind::Pipeline)] {
        let (server, client) = engines(queues, plan);
        let listener = server.bind(at(80)).unwrap();
        let echo = thread::spawn(move || {
            for stream in listener.incoming().take(4) {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut reader = stream.try_clone().unwrap();
                    io::copy(&mut reader, &mut stream).unwrap();
                });
            }
        });
        let clients: Vec<_> = (0..4)
            .map(|seed| {
                let stack = client.stack();
                thread::spawn(move || {
                    let stream = stack.connect(at(80)).unwrap();
                    assert_eq!(stream.peer_addr().unwrap(), at(80));
                    assert_eq!(stream.local_addr().unwrap().ip(), CLIENT);
                    let sent = octets(3_000_000, seed);
                    let mut got = Vec::new();
                    thread::scope(|scope| {
                        scope.spawn(|| {
                            (&stream).write_all(&sent).unwrap();
                            stream.shutdown(Shutdown::Write).unwrap();
                        });
                        (&stream).read_to_end(&mut got).unwrap();
                    });
                    assert!(got == sent, "{} octets came back of {}", got.len(), sent.len());
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        echo.join().unwrap();
    }
}

#[test]
fn connections_are_refused_where_nobody_listens() {
    let (server, client) = engines(1, PlanKind::Fused);
    let kind = |port| client.connect(at(port)).unwrap_err().kind();
    assert_eq!(kind(81), io::ErrorKind::ConnectionRefused);
    let listener = server.bind(at(81)).unwrap();
    client.connect(at(81)).unwrap();
    drop(listener);
    assert_eq!(kind(81), io::ErrorKind::ConnectionRefused);
    let in_use = server.bind(at(81)).and_then(|_first| server.bind(at(81))).map(drop).unwrap_err();
    assert_eq!(in_use.kind(), io::ErrorKind::AddrInUse);
    let foreign = server.bind(SocketAddr::new(CLIENT, 80)).map(drop).unwrap_err();
    assert_eq!(foreign.kind(), io::ErrorKind::AddrNotAvailable);
}

#[test]
fn a_thousand_connections_come_once_each() {
    let (server, client) = engines(2, PlanKind::Fused);
    let listener = server.bind(at(0)).unwrap();
    let address = listener.local_addr().unwrap();
    assert_ne!(address.port(), 0);
    let connecting = thread::spawn(move || {
        let connected: Vec<_> = (0..1_000)
            .map(|_| client.connect(address).unwrap())
            .map(|stream| (stream.local_addr().unwrap(), stream))
            .collect();
        // An engine that goes would reset them.
        (connected, client)
    });
    let accepted: Vec<_> = (0..1_000).map(|_| listener.accept().unwrap()).collect();
    let (connected, _client) = connecting.join().unwrap();
    // Their order is certain only while no shard's thread waits for a CPU: see `net::listener`.
    let mut from: Vec<_> = accepted.iter().map(|(stream, from)| (*from, stream.peer_addr().unwrap())).collect();
    let mut local: Vec<_> = connected.iter().map(|(local, _)| (*local, *local)).collect();
    from.sort_unstable();
    local.sort_unstable();
    assert_eq!(from, local);
}

/// A listener that has been made listens on all shards, at once, however often: no SYN finds a shard without it.
#[test]
fn connects_at_once_after_bind_are_never_reset() {
    const ROUNDS: usize = 10_000;
    let (server, client) = engines(2, PlanKind::Fused);
    for round in 0..ROUNDS {
        // The same port over and over, and others between.
        let port = if round % 4 == 3 { 0 } else { 80 };
        let listener = server.bind(at(port)).unwrap();
        let stream = client.connect(listener.local_addr().unwrap()).unwrap_or_else(|error| panic!("{round}: {error}"));
        let (mut accepted, from) = listener.accept().unwrap();
        assert_eq!(from, stream.local_addr().unwrap());
        // The end in order: else there would be resets of another kind.
        drop(stream);
        assert_eq!(accepted.read(&mut [0; 1]).unwrap(), 0);
    }
    // Counters are published now and then.
    let start = Instant::now();
    while client.counters().connected < ROUNDS as u64 && start.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(10));
    }
    // A busy shard publishes its counters a little later.
    let patience = Instant::now();
    while client.counters().connected < ROUNDS as u64 && patience.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(10));
    }
    let (server, client) = (server.counters(), client.counters());
    assert_eq!((server.resets_out, client.resets_out), (0, 0));
    assert_eq!(client.connected, ROUNDS as u64);
}

#[test]
fn a_slow_reader_stops_the_writer_and_gets_everything() {
    let (server, client) = engines(1, PlanKind::Fused);
    let listener = server.bind(at(82)).unwrap();
    let stream = client.connect(at(82)).unwrap();
    let (mut reader, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let block = octets(100_000, 1);
    let mut sent = 0;
    let idle = Duration::from_millis(200);
    let mut last = Instant::now();
    while last.elapsed() < idle {
        match (&stream).write(&block) {
            Ok(octets) => {
                sent += octets;
                last = Instant::now();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 256 << 20, "nothing holds the writer back");
    }
    drop(stream);
    let got = io::copy(&mut reader, &mut io::sink()).unwrap();
    assert_eq!(got, sent as u64);
}

#[test]
fn timeouts_and_non_blocking_calls_say_would_block() {
    let (server, client) = engines(1, PlanKind::Fused);
    let listener = server.bind(at(83)).unwrap();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().map(drop).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    listener.set_nonblocking(false).unwrap();
    let stream = client.connect(at(83)).unwrap();
    let (peer, _) = listener.accept().unwrap();
    let start = Instant::now();
    stream.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
    assert_eq!((&stream).read(&mut [0; 10]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(stream.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    (&peer).write_all(b"abc").unwrap();
    let mut buffer = [0; 10];
    stream.set_read_timeout(None).unwrap();
    assert_eq!(stream.peek(&mut buffer).unwrap(), 3);
    assert_eq!((&stream).read(&mut buffer).unwrap(), 3);
    assert_eq!(&buffer[..3], b"abc");
}

#[test]
fn dropping_with_unread_octets_resets() {
    let (server, client) = engines(1, PlanKind::Fused);
    let listener = server.bind(at(84)).unwrap();
    let stream = client.connect(at(84)).unwrap();
    let (peer, _) = listener.accept().unwrap();
    (&stream).write_all(b"never read").unwrap();
    while peer.peek(&mut [0; 1]).unwrap() == 0 {}
    drop(peer);
    let error = (&stream).read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!((&stream).read(&mut [0; 1]).unwrap(), 0, "told once");
    assert_eq!((&stream).write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn mio_sees_connections_octets_and_ends() {
    let (server, client) = engines(2, PlanKind::Fused);
    let listener = server.bind(at(85)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut poll = mio::Poll::new().unwrap();
    let mut queue = EventQueue::new().unwrap();
    poll.registry().register(&mut queue, mio::Token(99), mio::Interest::READABLE).unwrap();
    queue.register(&listener, mio::Token(0), mio::Interest::READABLE);
    let connecting = TcpSocket::new(&client.stack()).connect_nonblocking(at(85)).unwrap();
    queue.register(&connecting, mio::Token(1), mio::Interest::WRITABLE);

    let mut events = mio::Events::with_capacity(8);
    let mut accepted: Option<TcpStream> = None;
    let (mut written, mut read, mut ended) = (false, Vec::new(), false);
    let start = Instant::now();
    while !ended {
        assert!(start.elapsed() < Duration::from_secs(10), "stuck: {written} {read:?}");
        poll.poll(&mut events, Some(Duration::from_secs(1))).unwrap();
        for event in queue.events() {
            match event.token() {
                mio::Token(0) => {
                    while let Ok((stream, _)) = listener.accept() {
                        stream.set_nonblocking(true).unwrap();
                        queue.register(&stream, mio::Token(2), mio::Interest::READABLE);
                        accepted = Some(stream);
                    }
                }
                mio::Token(1) if event.is_writable() && !written => {
                    assert!(connecting.take_error().unwrap().is_none());
                    (&connecting).write_all(b"hello").unwrap();
                    connecting.shutdown(Shutdown::Write).unwrap();
                    written = true;
                }
                mio::Token(2) => {
                    let mut stream = accepted.as_ref().unwrap();
                    let mut buffer = [0; 16];
                    loop {
                        match stream.read(&mut buffer) {
                            Ok(0) => {
                                ended = true;
                                break;
                            }
                            Ok(len) => read.extend_from_slice(&buffer[..len]),
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
                _ => {}
            }
        }
    }
    assert_eq!(read, b"hello");
}

/// Sockets in a registry itself, without a queue of ours between: a descriptor each, events with their tokens.
#[test]
fn a_registry_of_mio_takes_listeners_and_streams() {
    const LISTENER: mio::Token = mio::Token(0);
    const ACCEPTED: mio::Token = mio::Token(1);
    let (server, client) = engines(2, PlanKind::Fused);
    let mut listener = server.bind(at(87)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut poll = mio::Poll::new().unwrap();
    poll.registry().register(&mut listener, LISTENER, mio::Interest::READABLE).unwrap();
    let mut events = mio::Events::with_capacity(8);
    let mut accepted = Vec::new();
    let start = Instant::now();
    for count in 1..=3 {
        let mut stream = client.connect(at(87)).unwrap();
        let mut got = Vec::new();
        stream.write_all(b"hello").unwrap();
        while accepted.len() < count || got != b"hello" {
            assert!(start.elapsed() < Duration::from_secs(10), "stuck: {accepted:?}, {got:?}");
            poll.poll(&mut events, Some(Duration::from_secs(1))).unwrap();
            for event in &events {
                match event.token() {
                    LISTENER => {
                        while let Ok((mut stream, _)) = listener.accept() {
                            stream.set_nonblocking(true).unwrap();
                            poll.registry().register(&mut stream, ACCEPTED, mio::Interest::READABLE).unwrap();
                            accepted.push(stream);
                        }
                    }
                    ACCEPTED => {
                        let mut buffer = [0; 16];
                        while let Some(Ok(len @ 1..)) = accepted.last().map(|mut stream| stream.read(&mut buffer)) {
                            got.extend_from_slice(&buffer[..len]);
                        }
                    }
                    _ => unreachable!(),
                }
            }
        }
    }
    let listener_again = mio::Token(7);
    poll.registry().reregister(&mut listener, listener_again, mio::Interest::READABLE).unwrap();
    let _stream = client.connect(at(87)).unwrap();
    while !events.iter().any(|event| event.token() == listener_again) {
        assert!(start.elapsed() < Duration::from_secs(10), "stuck");
        poll.poll(&mut events, Some(Duration::from_secs(1))).unwrap();
    }
    poll.registry().deregister(&mut listener).unwrap();
    assert!(poll.registry().deregister(&mut listener).is_err(), "it is in none");
    listener.set_nonblocking(false).unwrap();
    listener.accept().unwrap();
}

#[test]
fn the_end_of_the_engine_ends_every_wait() {
    let (server, client) = engines(1, PlanKind::Fused);
    let listener = Arc::new(server.bind(at(86)).unwrap());
    let stream = client.connect(at(86)).unwrap();
    let (peer, _) = listener.accept().unwrap();
    let (accepting, ended) = (Arc::clone(&listener), Arc::new(AtomicBool::new(false)));
    let waits = [
        thread::spawn(move || accepting.accept().map(drop).unwrap_err().kind()),
        thread::spawn(move || (&peer).read(&mut [0; 1]).unwrap_err().kind()),
    ];
    thread::sleep(Duration::from_millis(20));
    drop(server);
    for wait in waits {
        assert_eq!(wait.join().unwrap(), io::ErrorKind::ConnectionAborted);
    }
    ended.store(true, Ordering::Relaxed);
    drop(listener);
    drop(stream);
    let stack = client.stack();
    drop(client);
    assert_eq!(stack.connect(at(86)).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    assert_eq!(stack.bind((CLIENT, 80)).map(drop).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
}

/// A stop is no silence: streams of the other side end at once, as an error and not as an end of the stream.
#[test]
fn an_engine_that_stops_resets_what_is_open() {
    for (queues, plan) in [(1, PlanKind::Fused), (2, PlanKind::Pipeline)] {
        let (mut server, client) = engines(queues, plan);
        let listener = server.bind(at(80)).unwrap();
        let mut pairs: Vec<_> = (0..4)
            .map(|_| {
                let stream = client.connect(at(80)).unwrap();
                (stream, listener.accept().unwrap().0)
            })
            .collect();
        server.stop().unwrap();
        for (theirs, ours) in &mut pairs {
            theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            assert_eq!(theirs.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert!(ours.read(&mut [0]).is_err());
        }
    }
}

/// Both engines; a client that lets little in, and at whose server `octets` were written and closed.
fn closed_and_owed(octets: &[u8], queues: u16, plan: PlanKind) -> (Engine, Engine, TcpStream) {
    let (server, client) = engines(queues, plan);
    let listener = server.bind(at(80)).unwrap();
    let theirs = client.connect(at(80)).unwrap();
    theirs.set_receive_buffer(4_096);
    theirs.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut ours = listener.accept().unwrap().0;
    let mut done = 0;
    ours.set_nonblocking(true).unwrap();
    // As much as fits on our side, all of it while nobody reads.
    let start = Instant::now();
    while done < octets.len() && start.elapsed() < Duration::from_secs(10) {
        match ours.write(&octets[done..]) {
            Ok(count) => done += count,
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
    assert_eq!(done, octets.len());
    (server, client, theirs)
}

#[test]
fn a_shutdown_waits_until_what_is_owed_has_arrived() {
    for (queues, plan) in [(1, PlanKind::Fused), (2, PlanKind::Pipeline)] {
        let sent = octets(200_000, 1);
        let (server, client, mut theirs) = closed_and_owed(&sent, queues, plan);
        let idle = server.bind(at(81)).unwrap();
        let accepting = thread::spawn(move || idle.accept().map(drop).unwrap_err().kind());
        let reading = thread::spawn(move || {
            thread::sleep(Duration::from_millis(500));
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).map(|_| got)
        });
        let start = Instant::now();
        assert!(server.shutdown(Duration::from_secs(60)).unwrap());
        assert!(start.elapsed() > Duration::from_millis(100), "it did not wait");
        assert!(reading.join().unwrap().unwrap() == sent);
        assert_eq!(accepting.join().unwrap(), io::ErrorKind::ConnectionAborted);
        drop(client);
    }
}

#[test]
fn a_shutdown_that_takes_too_long_resets() {
    let sent = octets(200_000, 2);
    let (server, _client, mut theirs) = closed_and_owed(&sent, 1, PlanKind::Fused);
    let stack = server.stack();
    assert!(!server.shutdown(Duration::from_millis(100)).unwrap());
    let error = theirs.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(stack.connect(at(80)).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
}

/// Who still has a stream is not waited for, and a shutdown with nothing owed takes no time worth speaking of.
#[test]
fn a_shutdown_does_not_wait_for_what_is_open() {
    let (server, client) = engines(2, PlanKind::Fused);
    let listener = server.bind(at(80)).unwrap();
    let mut theirs = client.connect(at(80)).unwrap();
    let (ours, _) = listener.accept().unwrap();
    assert!(server.shutdown(Duration::from_secs(3_600)).unwrap());
    theirs.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(theirs.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    drop(ours);
}

/// Dropping is no shutdown.
#[test]
fn an_engine_that_is_dropped_resets_what_is_owed() {
    let (server, _client, mut theirs) = closed_and_owed(&octets(200_000, 3), 1, PlanKind::Fused);
    drop(server);
    let error = theirs.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
