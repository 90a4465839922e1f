//! Two engines back to back in memory: every packet on the wrong queue, and senders that are reset in the middle.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use trust::device::Device;
use trust::device::memory::{self, MemoryOptions};
use trust::device::wrong_queue::WrongQueue;
use trust::engine::{Engine, EngineConfig, Pin, Plan, PlanKind, ServiceFactory, Steer};
use trust::flow::{Endpoint, ShardId};
use trust::services::chargen::Chargen;
use trust::services::echo::Echo;
use trust::shard::{ConnId, Counters, DropReason, Io, Message, Service};
use trust::tcp::CloseReason;

/// The addresses of both ends: every other connection is by IPv6.
const SERVER: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 7, 0, 2)), IpAddr::V6(Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 2))];
const CLIENT: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 7, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 1))];
const ECHO: u16 = 7;
const CHARGEN: u16 = 19;
const PATIENCE: Duration = Duration::from_secs(60);

/// What the clients have done, counted over all shards.
#[derive(Default)]
struct Tally {
    exact: AtomicU64,
    wrong: AtomicU64,
    closed: AtomicU64,
    octets: AtomicU64,
}

/// Sends `octets` of a pattern of its own to an echo service and compares what comes back.
struct EchoClient {
    octets: u32,
    tally: Arc<Tally>,
    /// By slot: sent, received.
    progress: Vec<(u32, u32)>,
}

/// The octet at `place` of the stream of that connection.
fn pattern(seed: u64, place: u32) -> u8 {
    (u64::from(place).wrapping_mul(0x9e37_79b9).wrapping_add(seed) >> 7) as u8
}

impl EchoClient {
    fn send(&mut self, io: &mut dyn Io, conn: ConnId) {
        let seed = u64::from(io.quad(conn).local.port);
        let (sent, _) = &mut self.progress[conn.slot as usize];
        let mut block = [0; 4_096];
        while *sent < self.octets {
            let len = (self.octets - *sent).min(4_096) as usize;
            for (octet, place) in block[..len].iter_mut().zip(*sent..) {
                *octet = pattern(seed, place);
            }
            let taken = io.send(conn, &block[..len]);
            *sent += taken as u32;
            if taken < len {
                return;
            }
        }
        io.shutdown(conn);
    }
}

impl Service for EchoClient {
    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        let slot = conn.slot as usize;
        self.progress.resize(self.progress.len().max(slot + 1), (0, 0));
        self.progress[slot] = (0, 0);
        self.send(io, conn);
    }

    fn writable(&mut self, io: &mut dyn Io, conn: ConnId) {
        self.send(io, conn);
    }

    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        let seed = u64::from(io.quad(conn).local.port);
        while io.unread(conn) > 0 {
            let run = io.peek(conn);
            let (_, received) = &mut self.progress[conn.slot as usize];
            if !run.iter().zip(*received..).all(|(octet, place)| *octet == pattern(seed, place)) {
                self.tally.wrong.fetch_add(1, Ordering::Relaxed);
            }
            *received += run.len() as u32;
            let len = run.len() as u32;
            io.consume(conn, len);
        }
    }

    fn closed(&mut self, _: &mut dyn Io, conn: ConnId, reason: CloseReason) {
        let (_, received) = self.progress.get(conn.slot as usize).copied().unwrap_or_default();
        if reason == CloseReason::Normal && received == self.octets {
            self.tally.exact.fetch_add(1, Ordering::Relaxed);
        }
        self.tally.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads a while, then resets the connection in the middle of the burst.
struct Resetter {
    after: u32,
    feed: bool,
    tally: Arc<Tally>,
}

impl Service for Resetter {
    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        if self.feed {
            while io.send(conn, &[b'r'; 16_384]) > 0 {}
        }
    }

    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        let unread = io.unread(conn);
        io.consume(conn, unread);
        self.tally.octets.fetch_add(u64::from(unread), Ordering::Relaxed);
        let total = io.user(conn) + u64::from(unread);
        io.set_user(conn, total);
        if total >= u64::from(self.after) {
            io.abort(conn);
        }
    }

    fn writable(&mut self, io: &mut dyn Io, conn: ConnId) {
        if self.feed {
            while io.send(conn, &[b'r'; 16_384]) > 0 {}
        }
    }

    fn closed(&mut self, _: &mut dyn Io, _: ConnId, _: CloseReason) {
        self.tally.closed.fetch_add(1, Ordering::Relaxed);
    }
}

struct Pair {
    server: Engine,
    client: Engine,
    workers: u16,
}

impl Pair {
    fn new(kind: PlanKind, workers: u16, wrong: bool, client: impl Fn() -> Box<dyn Service> + Send + 'static) -> Self {
        Self::with(kind, workers, wrong, &[ServiceFactory { port: None, make: Box::new(client) }])
    }

    fn with(kind: PlanKind, workers: u16, wrong: bool, clients: &[ServiceFactory]) -> Self {
        Self::steered(kind, workers, wrong, Steer::Auto, clients)
    }

    fn steered(kind: PlanKind, workers: u16, wrong: bool, steer: Steer, clients: &[ServiceFactory]) -> Self {
        // Without offload there are many more packets to go astray.
        let options = MemoryOptions { queues: workers, offload: !wrong, ..MemoryOptions::default() };
        let (ours, theirs) = memory::pair(&options).unwrap();
        let wrap =
            |device| -> Box<dyn Device> { if wrong { Box::new(WrongQueue::new(device)) } else { Box::new(device) } };
        let plan = || Plan::new(kind, Some(usize::from(workers)), &Pin::None, &[0, 1], usize::from(workers)).unwrap();
        let services = [
            ServiceFactory { port: Some(ECHO), make: Box::new(|| Box::new(Echo)) },
            ServiceFactory { port: Some(CHARGEN), make: Box::new(|| Box::new(Chargen)) },
        ];
        // Send buffers of their full size at once, however far cwnd came: 64 that stall take all there is.
        let mut tcp = trust::tcp::Config::default();
        tcp.send_buffer.initial = tcp.send_buffer.max;
        if steer == Steer::Local {
            // For what is given back with it.
            tcp.time_wait = trust::tcp::Duration::from_secs(1);
        }
        let config = |addresses: [IpAddr; 2]| EngineConfig {
            send_chunks: 1_024,
            tcp,
            steer,
            ..EngineConfig::new(addresses.to_vec())
        };
        let server = Engine::start(config(SERVER), plan(), wrap(ours), &services).unwrap();
        let client = Engine::start(config(CLIENT), plan(), wrap(theirs), clients).unwrap();
        if workers > 1 {
            let steering = if steer == Steer::Local { "local" } else { "hash" };
            assert_eq!((server.steering(), client.steering()), (steering, steering));
        }
        Self { server, client, workers }
    }

    fn connect(&self, number: u16, port: u16) {
        self.connect_as(0, number, port);
    }

    fn connect_as(&self, service: u16, number: u16, port: u16) {
        let handle = self.client.handle();
        let shard = ShardId(number % self.workers);
        // Of each shard's connections every other one.
        let server = SERVER[usize::from(number / self.workers % 2)];
        assert!(handle.connect(shard, service, Endpoint::new(server, port)), "control queue full");
    }

    /// Waits for `done`, then for the last packets to be counted.
    fn wait(&mut self, what: &str, mut done: impl FnMut(&Counters, &Counters) -> bool) -> (Counters, Counters) {
        let start = Instant::now();
        loop {
            let (server, client) = (self.server.counters(), self.client.counters());
            if done(&server, &client) {
                return (server, client);
            }
            assert!(
                !self.server.has_failed() && !self.client.has_failed(),
                "{:?}",
                (self.server.stop(), self.client.stop())
            );
            assert!(start.elapsed() < PATIENCE, "{what}\nserver {server:?}\nclient {client:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(mut self) -> (Counters, Counters) {
        self.client.stop().unwrap();
        self.server.stop().unwrap();
        (self.server.counters(), self.client.counters())
    }
}

/// Nothing of any connection is left.
fn is_clean(counters: &Counters) -> bool {
    let Counters { connections, half_open, send_chunks, held_packets, held_octets, .. } = *counters;
    [connections, half_open, send_chunks, held_packets, held_octets] == [0; 5]
}

const STREAMS: u16 = 64;
const OCTETS: u32 = 100_000;

fn echo_over(kind: PlanKind, workers: u16, wrong: bool) {
    echo_steered(kind, workers, wrong, Steer::Auto);
}

fn echo_steered(kind: PlanKind, workers: u16, wrong: bool, steer: Steer) {
    let tally = Arc::new(Tally::default());
    let mine = Arc::clone(&tally);
    let client = move || -> Box<dyn Service> {
        Box::new(EchoClient { octets: OCTETS, tally: Arc::clone(&mine), progress: Vec::new() })
    };
    let clients = [ServiceFactory { port: None, make: Box::new(client) }];
    let mut pair = Pair::steered(kind, workers, wrong, steer, &clients);
    for number in 0..STREAMS {
        pair.connect(number, ECHO);
    }
    pair.wait("transfers hang", |_, _| tally.closed.load(Ordering::Relaxed) == u64::from(STREAMS));
    assert_eq!(tally.wrong.load(Ordering::Relaxed), 0, "octets changed on their way");
    assert_eq!(tally.exact.load(Ordering::Relaxed), u64::from(STREAMS), "not all transfers are whole");
    pair.wait("memory is left behind", |server, client| is_clean(server) && is_clean(client));
    // Delayed ACKs and the like: let it become quiet, so that nothing is read and not yet counted.
    let mut last = (0, 0);
    pair.wait("never quiet", |server, client| {
        std::thread::sleep(Duration::from_millis(100));
        let now = (server.packets_in, client.packets_in);
        std::mem::replace(&mut last, now) == now
    });
    if steer == Steer::Local {
        pair.wait("TIME-WAIT is not over", |server, client| server.time_wait + client.time_wait == 0);
        let start = Instant::now();
        while (pair.server.claimed_buckets(), pair.client.claimed_buckets()) != (Some(0), Some(0)) {
            assert!(start.elapsed() < PATIENCE, "{:?}", (pair.server.claimed_buckets(), pair.client.claimed_buckets()));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let (server, client) = pair.stop();
    for (name, counters) in [("server", server), ("client", client)] {
        // A busy machine makes for a retransmission now and then, which may find its connection in TIME-WAIT, or not at all
        // any more where that is short.
        let late = counters.dropped(DropReason::TimeWait)
            + if steer == Steer::Local { counters.dropped(DropReason::NoConnection) } else { 0 };
        assert_eq!(counters.dropped_total(), late, "{name}: {counters:?}");
        let expected = if wrong && workers > 1 { counters.packets_in } else { 0 };
        if wrong && steer == Steer::Local {
            // A SYN is at home wherever it is read.
            let least = expected - counters.accepted.max(u64::from(STREAMS)) * 2;
            assert!((least..=expected).contains(&counters.forwarded), "{name}: {counters:?}");
        } else {
            assert_eq!(counters.forwarded, expected, "{name}: {counters:?}");
        }
    }
    println!("{kind:?} {workers}: {} packets in, {} forwarded", server.packets_in, server.forwarded);
}

#[test]
fn every_packet_on_the_wrong_queue_fused_2() {
    echo_over(PlanKind::Fused, 2, true);
}

/// SC-78, OPS-47.
#[test]
fn every_packet_on_the_wrong_queue_fused_4() {
    echo_over(PlanKind::Fused, 4, true);
}

#[test]
fn every_packet_on_the_wrong_queue_pipeline_2() {
    echo_over(PlanKind::Pipeline, 2, true);
}

#[test]
fn every_packet_on_the_wrong_queue_pipeline_4() {
    echo_over(PlanKind::Pipeline, 4, true);
}

#[test]
fn every_packet_on_the_wrong_queue_local_fused_2() {
    echo_steered(PlanKind::Fused, 2, true, Steer::Local);
}

#[test]
fn every_packet_on_the_wrong_queue_local_fused_4() {
    echo_steered(PlanKind::Fused, 4, true, Steer::Local);
}

#[test]
fn every_packet_on_the_wrong_queue_local_pipeline_4() {
    echo_steered(PlanKind::Pipeline, 4, true, Steer::Local);
}

#[test]
fn with_local_steering_nothing_is_forwarded() {
    echo_steered(PlanKind::Fused, 2, false, Steer::Local);
    echo_steered(PlanKind::Pipeline, 2, false, Steer::Local);
}

#[test]
fn with_steering_nothing_is_forwarded() {
    echo_over(PlanKind::Fused, 2, false);
    echo_over(PlanKind::Pipeline, 2, false);
}

/// Connections that are reset while we send to them with all our might: every chunk, packet and record comes back.
fn resets(kind: PlanKind, workers: u16) {
    const SENDERS: u16 = 1_000;
    for port in [CHARGEN, ECHO] {
        let tally = Arc::new(Tally::default());
        let mine = Arc::clone(&tally);
        let client = move || -> Box<dyn Service> {
            Box::new(Resetter { after: 60_000, feed: port == ECHO, tally: Arc::clone(&mine) })
        };
        let mut pair = Pair::new(kind, workers, false, client);
        let handle = pair.client.handle();
        let mut started = 0;
        // A hundred at a time: each is in the middle of its burst when it is reset.
        pair.wait("resets hang", |_, _| {
            let closed = tally.closed.load(Ordering::Relaxed) as u16;
            while started < SENDERS && started < closed + 100 {
                assert!(handle.connect(ShardId(started % workers), 0, Endpoint::new(SERVER[0], port)));
                started += 1;
            }
            closed == SENDERS
        });
        assert!(tally.octets.load(Ordering::Relaxed) >= u64::from(SENDERS) * 60_000);
        let (server, client) =
            pair.wait("memory is left behind", |server, client| is_clean(server) && is_clean(client));
        assert_eq!(server.accepted, u64::from(SENDERS));
        assert_eq!(client.connected, u64::from(SENDERS));
        assert!(server.resets_in >= u64::from(SENDERS) * 9 / 10, "{server:?}");
        assert!(port == CHARGEN || server.send_chunks_peak > 0, "no chunk was ever in use");
        // Another one is served as if nothing had been.
        pair.connect(0, port);
        pair.wait("the engine serves no more", |_, _| tally.closed.load(Ordering::Relaxed) == u64::from(SENDERS) + 1);
        pair.wait("memory is left behind", |server, client| is_clean(server) && is_clean(client));
        pair.stop();
    }
}

#[test]
fn a_thousand_senders_reset_in_the_middle_pipeline() {
    resets(PlanKind::Pipeline, 1);
}

#[test]
fn a_thousand_senders_reset_in_the_middle_fused() {
    resets(PlanKind::Fused, 2);
}

/// One octet there and back, again and again.
struct PingPong {
    rounds: u64,
    tally: Arc<Tally>,
}

impl Service for PingPong {
    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        io.send(conn, b"?");
    }

    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        io.consume(conn, io.unread(conn));
        let rounds = io.user(conn) + 1;
        io.set_user(conn, rounds);
        self.tally.octets.fetch_add(1, Ordering::Relaxed);
        if rounds < self.rounds {
            io.send(conn, b"?");
        } else {
            io.close(conn);
        }
    }

    fn closed(&mut self, _: &mut dyn Io, _: ConnId, _: CloseReason) {
        self.tally.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// A wake-up lost once in a while would cost this 10 ms, 40 ms or 200 ms each time: the timers that find out by
/// themselves.
#[test]
fn no_wake_up_is_lost_in_request_and_response() {
    const ROUNDS: u64 = 5_000;
    for (kind, workers) in [(PlanKind::Pipeline, 1), (PlanKind::Pipeline, 2), (PlanKind::Fused, 2)] {
        let tally = Arc::new(Tally::default());
        let mine = Arc::clone(&tally);
        let client = move || -> Box<dyn Service> { Box::new(PingPong { rounds: ROUNDS, tally: Arc::clone(&mine) }) };
        let mut pair = Pair::new(kind, workers, workers > 1, client);
        let start = Instant::now();
        pair.connect(0, ECHO);
        pair.wait("a round hangs", |_, _| tally.closed.load(Ordering::Relaxed) == 1);
        let round = start.elapsed() / ROUNDS as u32;
        println!("{kind:?} {workers}: {round:?} a round");
        assert_eq!(tally.octets.load(Ordering::Relaxed), ROUNDS);
        // A busy machine makes threads wait for a CPU, but not every time, and not so long.
        assert!(round < Duration::from_millis(5), "{kind:?} {workers}: {round:?} a round");
        pair.stop();
    }
}

/// Sends without end and never reads, until it is told to give up.
struct Staller {
    conns: Vec<ConnId>,
    tally: Arc<Tally>,
}

impl Staller {
    fn fill(&mut self, io: &mut dyn Io, conn: ConnId) {
        let mut taken = 1;
        while taken > 0 {
            taken = io.send(conn, &[b's'; 16_384]);
            self.tally.octets.fetch_add(taken as u64, Ordering::Relaxed);
        }
    }
}

impl Service for Staller {
    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        self.conns.push(conn);
        self.fill(io, conn);
    }

    fn writable(&mut self, io: &mut dyn Io, conn: ConnId) {
        self.fill(io, conn);
    }

    fn readable(&mut self, _: &mut dyn Io, _: ConnId) {}

    fn message(&mut self, io: &mut dyn Io, _: ShardId, _: Message) {
        for conn in self.conns.drain(..) {
            io.abort(conn);
        }
    }

    fn closed(&mut self, _: &mut dyn Io, _: ConnId, _: CloseReason) {
        self.tally.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// 64 clients stall, with everything full that they can fill: windows, buffers, packets held. One that reads is served
/// all the same, and when they go, all memory comes back. MAY-8.
#[test]
fn stalled_readers_do_not_stop_one_that_reads() {
    for (kind, workers) in [(PlanKind::Pipeline, 1), (PlanKind::Fused, 2)] {
        let (tally, stalled) = (Arc::new(Tally::default()), Arc::new(Tally::default()));
        let (mine, theirs) = (Arc::clone(&tally), Arc::clone(&stalled));
        let clients = [
            ServiceFactory {
                port: None,
                make: Box::new(move || {
                    Box::new(EchoClient { octets: 2_000_000, tally: Arc::clone(&mine), progress: Vec::new() })
                }),
            },
            ServiceFactory {
                port: None,
                make: Box::new(move || Box::new(Staller { conns: Vec::new(), tally: Arc::clone(&theirs) })),
            },
        ];
        let mut pair = Pair::with(kind, workers, false, &clients);
        for number in 0..64 {
            pair.connect_as(1, number, ECHO);
        }
        let mut last = 0;
        let (server, client) = pair.wait("they never stall", |_, client| {
            std::thread::sleep(Duration::from_millis(200));
            let now = stalled.octets.load(Ordering::Relaxed);
            client.connections == 64 && now > 0 && std::mem::replace(&mut last, now) == now
        });
        println!("{last} octets queued by 64, chunks {} and {}", client.send_chunks, server.send_chunks);
        // Nearly all of the common half is taken, and what is lent to those who gave back before; a quarter is left to others.
        assert!((384..768 * u64::from(workers)).contains(&client.send_chunks), "{client:?}");
        let start = Instant::now();
        pair.connect(0, ECHO);
        pair.wait("the one that reads hangs", |_, _| tally.closed.load(Ordering::Relaxed) == 1);
        println!("served in {:?}", start.elapsed());
        assert_eq!((tally.exact.load(Ordering::Relaxed), tally.wrong.load(Ordering::Relaxed)), (1, 0));
        let handle = pair.client.handle();
        for shard in 0..workers {
            assert!(handle.send(ShardId(shard), 1, Box::new(())));
        }
        pair.wait("memory is left behind", |server, client| is_clean(server) && is_clean(client));
        assert_eq!(stalled.closed.load(Ordering::Relaxed), 64);
        pair.stop();
    }
}
