//! What a socket costs while nothing happens on it: heap of both engines and both programs, for each end of a connection.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, Pin};
use trust::net::TcpStream;

use crate::counting;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));

const STREAMS: usize = 10_000;

/// Heap octets for each end that an idle socket with its connection may cost. Less than a kilobyte of it is the connection
/// (`connections`).
const LIMIT: u64 = 3_072;

fn say(from: &mut TcpStream, to: &mut TcpStream, word: &[u8]) {
    from.write_all(word).unwrap();
    let mut got = vec![0; word.len()];
    to.read_exact(&mut got).unwrap();
    assert_eq!(got, word);
}

pub(crate) fn idle() {
    let (a, b) = pair(&MemoryOptions { queues: 1, slots: 1_024, ..MemoryOptions::default() }).unwrap();
    let start = |device, address| Engine::builder().device(device, 1).address(address).pin(Pin::None).start().unwrap();
    let (server, client) = (start(a, SERVER), start(b, CLIENT));
    let listener = server.bind(SocketAddr::new(SERVER, 80)).unwrap();
    let mut ends = Vec::with_capacity(STREAMS);
    let mut before = 0;
    for index in 0..STREAMS + 100 {
        if index == 100 {
            // Tables and pools have what they begin with.
            before = counting::live();
        }
        let near = client.connect(SocketAddr::new(SERVER, 80)).unwrap();
        let (far, _) = listener.accept().unwrap();
        ends.push((near, far));
    }
    let for_each = |octets: u64| octets.saturating_sub(before) / (2 * STREAMS as u64);
    let fresh = for_each(counting::live());
    let queued = || client.stack().queued() + server.stack().queued();
    assert_eq!(queued(), 0, "no memory before the first octet");

    let large = vec![7; 20_000];
    for (near, far) in &mut ends {
        say(near, far, b"ping");
        say(far, near, &large);
    }
    let most = queued();
    let start = Instant::now();
    while queued() > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "{} octets still held in queues", queued());
        thread::sleep(Duration::from_millis(20));
    }
    let idle = for_each(counting::live());
    println!(
        "an end costs {fresh} octets of heap before it is used, {idle} idle after use; queues had {most} together"
    );
    assert!(most > STREAMS * 4_096, "the queues had memory");
    assert!(fresh < LIMIT && idle < LIMIT, "{fresh} and {idle} octets for each end");

    // And they work as before.
    for (near, far) in ends.iter_mut().step_by(97) {
        say(near, far, &large);
        say(far, near, b"pong");
    }
}
