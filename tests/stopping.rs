//! An engine that stops resets what is open, however much that is and whoever else wants the processor; and a connection
//! finds a port as long as any shard has one.

#![allow(clippy::unwrap_used, missing_docs)]

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, Pin};
use trust::net::{TcpSocket, TcpStream};

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
