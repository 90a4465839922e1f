//! Single calls where they are dearest: `accept` on a full queue, a connect when no port is left, stopping with very many
//! connections open beside threads that leave it no CPU. No means, so no matter for criterion: each is done a few times,
//! and the least, middle and most are told. No privileges needed: `cargo bench --bench crowded`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{hint, thread};

use trust::device::memory::{MemoryOptions, pair};
use trust::embed::Host;
use trust::engine::{Engine, Pin};
use trust::net::TcpSocket;
use trust::tcp::time;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const PORT: u16 = 80;

/// Two hosts and a wire between them, without threads.
struct Two {
    client: Host,
    server: Host,
    now: time::Instant,
}

impl Two {
    fn new() -> Self {
        let now = time::Instant::ZERO;
        let host = |address, seed| Host::builder().address(address).seed(seed).build(now).unwrap();
        Self { client: host(CLIENT, 1), server: host(SERVER, 2), now }
    }

    fn exchange(&mut self) {
        for _ in 0..4 {
            carry(&mut self.client, &mut self.server, self.now);
            carry(&mut self.server, &mut self.client, self.now);
            self.now += time::Duration::from_micros(100);
        }
    }
}

fn carry(from: &mut Host, to: &mut Host, now: time::Instant) {
    let mut packets = Vec::new();
    from.poll(now, |packet| packets.push(packet.to_vec()));
    packets.iter().for_each(|packet| assert!(to.receive(packet), "no buffer"));
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let (least, middle, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    println!("{what}: {middle:?}, of {} from {least:?} to {most:?}", times.len());
}

/// What one `accept` takes of so many connections that wait for it, on average.
fn accepts(waiting: usize) {
    let round = || {
        let mut two = Two::new();
        let listener =
            TcpSocket::new(&two.server.stack()).bind((SERVER, PORT).into()).unwrap().listen(waiting + 10).unwrap();
        two.exchange();
        let mut streams = Vec::new();
        while streams.len() < waiting {
            let socket = || TcpSocket::new(&two.client.stack()).connect_nonblocking((SERVER, PORT).into()).unwrap();
            streams.extend((0..500).map(|_| socket()));
            two.exchange();
        }
        let start = Instant::now();
        let accepted: Vec<_> = (0..waiting).map(|_| listener.accept().unwrap()).collect();
        start.elapsed() / accepted.len() as u32
    };
    report(&format!("accept, {waiting} waiting"), (0..5).map(|_| round()).collect());
}

/// What the shard takes for a connect to where every port is in use.
fn connects_without_a_port() {
    let mut two = Two::new();
    let to = SocketAddr::from((SERVER, PORT));
    let listener = TcpSocket::new(&two.server.stack()).bind(to).unwrap().listen(70_000).unwrap();
    let (mut open, mut refused) = (Vec::new(), 0);
    while refused == 0 {
        let before = open.len();
        open.extend((0..500).map(|_| TcpSocket::new(&two.client.stack()).connect_nonblocking(to).unwrap()));
        two.exchange();
        refused = open[before..].iter().filter(|stream| stream.take_error().is_ok_and(|error| error.is_some())).count();
    }
    two.exchange();
    let mut times = Vec::new();
    for _ in 0..1_000 {
        let late = TcpSocket::new(&two.client.stack()).connect_nonblocking(to).unwrap();
        let start = Instant::now();
        two.client.poll(two.now, |_| {});
        times.push(start.elapsed());
        assert!(late.take_error().unwrap().is_some(), "there was a port");
    }
    report(&format!("a turn with a connect without a port, {} connections", open.len() - refused), times);
    drop(listener);
}

/// How many of so many peers hear of it when an engine stops beside busy threads, and how long stopping takes.
fn stops(connections: usize, busy: usize) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (near, far) = pair(&MemoryOptions { slots: 4_096, ..MemoryOptions::default() }).unwrap();
        let start =
            |device, address| Engine::builder().device(device, 1).address(address).pin(Pin::None).start().unwrap();
        let (mut server, client) = (start(near, SERVER), start(far, CLIENT));
        let to = SocketAddr::from((SERVER, PORT));
        let listener = TcpSocket::new(&server.stack()).bind(to).unwrap().listen(4_000).unwrap();
        let (mut streams, mut accepted) = (Vec::new(), Vec::new());
        while streams.len() < connections {
            let batch = 500.min(connections - streams.len());
            streams.extend((0..batch).map(|_| TcpSocket::new(&client.stack()).connect_nonblocking(to).unwrap()));
            accepted.extend((0..batch).map(|_| listener.accept().unwrap()));
        }
        for _ in 0..busy {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            });
        }
        let began = Instant::now();
        server.stop().unwrap();
        let took = began.elapsed();
        thread::sleep(Duration::from_secs(2));
        over.store(true, Ordering::Relaxed);
        let heard = streams.iter().filter(|stream| stream.peer_addr().is_err()).count();
        println!("stop beside {busy} busy threads: {took:?}, {heard} of {connections} peers heard of it");
    });
}

fn main() {
    for waiting in [1_000, 8_000] {
        accepts(waiting);
    }
    connects_without_a_port();
    for _ in 0..3 {
        stops(30_000, 4);
    }
}
