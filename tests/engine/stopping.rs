//! An engine that stops resets what is open, however much that is and whoever else wants the processor, and one that drains
//! waits for it; and a connection finds a port as long as any shard has one.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, Pin, ServiceFactory};
use trust::net::{TcpListener, TcpSocket, TcpStream};
use trust::services::{self, Environment, ServiceName};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));

/// Two at work.
fn engines(workers: usize) -> (Engine, Engine) {
    let options = MemoryOptions { queues: workers as u16, slots: 4_096, ..MemoryOptions::default() };
    let (a, b) = pair(&options).unwrap();
    let start =
        |device, address| Engine::builder().device(device, workers).address(address).pin(Pin::None).start().unwrap();
    (start(a, SERVER), start(b, CLIENT))
}

#[test]
fn all_of_three_thousand_peers_hear_of_the_stop() {
    const PEERS: usize = 3_000;
    let (mut server, client) = engines(1);
    let remote = SocketAddr::new(SERVER, 80);
    let listener = TcpSocket::new(&server.stack()).bind(remote).unwrap().listen(PEERS).unwrap();
    let (mut near, mut far): (Vec<TcpStream>, Vec<TcpStream>) = (Vec::new(), Vec::new());
    while near.len() < PEERS {
        let batch = 0..500.min(PEERS - near.len());
        near.extend(batch.clone().map(|_| TcpSocket::new(&client.stack()).connect_nonblocking(remote).unwrap()));
        far.extend(batch.map(|_| listener.accept().unwrap().0));
    }
    let over = AtomicBool::new(false);
    let heard = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        server.stop().unwrap();
        let start = Instant::now();
        let mut heard = 0;
        while heard < PEERS && start.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(10));
            heard = near.iter().filter(|stream| stream.peer_addr().is_err()).count();
        }
        over.store(true, Ordering::Relaxed);
        heard
    });
    assert_eq!(heard, PEERS);
    drop(far);
}

/// Longer than anything here takes, and shorter than for ever.
const LONG: Duration = Duration::from_secs(60);

/// A listener of the server's and a connection through it: the client's side, the server's side.
fn open(server: &Engine, client: &Engine) -> (TcpListener, TcpStream, TcpStream) {
    let listener = server.bind((SERVER, 80)).unwrap();
    let near = client.connect((SERVER, 80)).unwrap();
    near.set_read_timeout(Some(LONG)).unwrap();
    let (far, _) = listener.accept().unwrap();
    (listener, near, far)
}

/// It takes no new connections, and those that are open go on until the application has ended them.
#[test]
fn a_drain_waits_until_the_last_connection_has_ended() {
    for workers in [1, 2] {
        let (mut server, client) = engines(workers);
        let (listener, mut near, mut far) = open(&server, &client);
        assert!(!server.drain(Duration::ZERO));
        assert_eq!(client.connect((SERVER, 80)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::ConnectionAborted);
        for _ in 0..3 {
            assert!(!server.drain(Duration::from_millis(50)));
            near.write_all(b"and on").unwrap();
            far.read_exact(&mut [0; 6]).unwrap();
        }
        far.write_all(b"good bye").unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        near.read_to_string(&mut text).unwrap();
        assert_eq!(text, "good bye");
        assert!(!server.drain(Duration::from_millis(50)), "half-closed is open");
        let ending = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            drop(far);
        });
        let start = Instant::now();
        assert!(server.drain(LONG));
        // The client need not have ended: there is nobody whom it could say anything.
        assert!((100..20_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        ending.join().unwrap();
        drop(near);
        server.stop().unwrap();
    }
}

/// What the application has closed is not open, but owed.
#[test]
fn a_drain_waits_until_what_was_closed_has_arrived() {
    let (mut server, client) = engines(1);
    let (_listener, mut near, mut far) = open(&server, &client);
    near.set_receive_buffer(4_096);
    far.set_nonblocking(true).unwrap();
    // More than the client has room for, all of it on our side: nobody reads.
    let (octets, mut sent) = ([7; 200_000], 0);
    let start = Instant::now();
    while sent < octets.len() {
        sent += far.write(&octets[sent..]).unwrap_or(0);
        assert!(start.elapsed() < LONG, "{sent} octets are taken");
        thread::sleep(Duration::from_millis(1));
    }
    drop(far);
    assert!(!server.drain(Duration::from_millis(300)));
    let reading = thread::spawn(move || {
        let mut got = Vec::new();
        near.read_to_end(&mut got).map(|_| got)
    });
    assert!(server.drain(LONG));
    server.stop().unwrap();
    assert!(reading.join().unwrap().unwrap() == octets);
}

/// Nothing has changed for who is still there, and a stop resets him.
#[test]
fn a_drain_that_takes_too_long_resets_nobody() {
    let (mut server, client) = engines(2);
    let (_listener, mut near, mut far) = open(&server, &client);
    let start = Instant::now();
    assert!(!server.drain(Duration::from_millis(200)));
    assert!((200..20_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    far.write_all(b"x").unwrap();
    near.read_exact(&mut [0]).unwrap();
    server.stop().unwrap();
    assert_eq!(near.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(!server.drain(LONG), "nobody is there who could say so");
}

/// A service says what it has to say, and then ends connections that would be kept.
#[test]
fn a_drain_asks_services_to_come_to_an_end() {
    let (a, b) = pair(&MemoryOptions::default()).unwrap();
    let http = ServiceFactory::new(80, || services::build(ServiceName::Http, &Environment::default()));
    let start = |device| Engine::builder().device(device, 1).pin(Pin::None);
    let server = start(a).address(SERVER).service(http).start().unwrap();
    let client = start(b).address(CLIENT).start().unwrap();
    let mut near = client.connect((SERVER, 80)).unwrap();
    // Shorter than it would be kept.
    near.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    near.write_all(b"GET /bytes/1 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut block = [0; 1_000];
    let mut got = 0;
    while !block[..got].ends_with(b"\r\n\r\n ") {
        got += near.read(&mut block[got..]).unwrap();
    }
    assert!(!server.drain(Duration::ZERO));
    assert_eq!(near.read(&mut block).unwrap(), 0, "its end, and no reset");
    assert!(!server.drain(Duration::from_millis(50)), "the client has not ended");
    drop(near);
    assert!(server.drain(LONG));
}

/// Each of two shards has about half of the ports, and they take turns: when one has none left, the other has.
#[test]
fn a_connection_tries_each_shard_for_a_port() {
    const PORTS: usize = 32_768;
    let (_server, client) = engines(2);
    let stack = client.stack();
    // Nobody answers there.
    let remote = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 0, 4)), 80);
    let mut streams = Vec::new();
    let last = loop {
        let stream = TcpSocket::new(&stack).connect_nonblocking(remote).unwrap();
        if stream.local_addr().is_err() {
            break stream;
        }
        streams.push(stream);
        assert!(streams.len() <= PORTS);
    };
    assert_eq!(last.take_error().unwrap().map(|error| error.kind()), Some(ErrorKind::AddrNotAvailable));
    assert_eq!(streams.len(), PORTS, "ports are left");
    // One that comes free is found, whichever shard has it.
    for round in 0..6 {
        let stream = streams.swap_remove(round * 5_000);
        let freed = stream.local_addr().unwrap();
        drop(stream);
        let start = Instant::now();
        loop {
            let stream = TcpSocket::new(&stack).connect_nonblocking(remote).unwrap();
            if let Ok(local) = stream.local_addr() {
                assert_eq!(local, freed);
                streams.push(stream);
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{freed} does not come back");
        }
    }
}
