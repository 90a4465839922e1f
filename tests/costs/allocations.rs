//! Steady state allocates nothing: a million in-order segments into discard, a million ACKs into chargen, and a million into
//! a service that sends octets of its own ([`Bytes`]) where they lie, through device, rx, rings, worker and tx, while an
//! allocator counts for the whole process. So it is for half a million packets between two embedded hosts.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trust::device::BUFFER_LEN;
use trust::device::memory::{self, MemoryOptions, MemoryPort};
use trust::embed::Host;
use trust::engine::{Engine, EngineConfig, Pin, Plan, PlanKind, ServiceFactory};
use trust::flow::Endpoint;
use trust::services::chargen::Chargen;
use trust::services::discard::Discard;
use trust::shard::{ConnId, Io, Service};
use trust::tcp::{self, CloseReason};
use trust::wire;
use trust::wire::tcp::Flags;
use trust::wire::vnet::{TxChecksum, TxOffload};

use crate::counting;
use crate::rig::{OURS, Peer};

const MEASURED: u64 = 1_000_000;
const WARM_UP: u64 = 100_000;
const MSS: u32 = 1_460;
/// Octets that each connection moves before it is measured.
const STEADY: u32 = 1 << 20;
/// Connections at a time.
const CONNECTIONS: u16 = 4;
/// Measurements, where one was disturbed.
const ATTEMPTS: u32 = 5;
/// Nothing moves for so long: something hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const DISCARD: u16 = 9;
pub(crate) const CHARGEN: u16 = 19;
pub(crate) const REPEATER: u16 = 1_919;

/// Sends the same octets again and again without copying them.
struct Repeater(Bytes);

impl Repeater {
    fn new() -> Self {
        let octets = Bytes::from(vec![b'r'; 20_000]);
        // The first reference beyond one makes the count.
        drop(octets.clone());
        Self(octets)
    }

    fn fill(&self, io: &mut dyn Io, conn: ConnId) {
        while io.send_bytes(conn, self.0.clone()).is_ok() {}
    }
}

impl Service for Repeater {
    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        self.fill(io, conn);
    }

    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        io.consume(conn, io.unread(conn));
    }

    fn writable(&mut self, io: &mut dyn Io, conn: ConnId) {
        self.fill(io, conn);
    }

    fn closed(&mut self, _: &mut dyn Io, _: ConnId, _: CloseReason) {}
}

/// One connection's far end: a packet patched in place.
struct Client {
    packet: Vec<u8>,
    seq: u32,
    /// Next number expected.
    ack: u32,
    /// What was acknowledged to the engine.
    told: u32,
    /// The engine's right window edge.
    edge: u32,
    /// `seq` and `told` at first.
    first: (u32, u32),
}

impl Client {
    /// Octets moved so far.
    fn moved(&self) -> u32 {
        self.seq.wrapping_sub(self.first.0).max(self.told.wrapping_sub(self.first.1))
    }

    fn patch(&mut self) {
        let tcp = &mut self.packet[20..];
        tcp[4..8].copy_from_slice(&self.seq.to_be_bytes());
        tcp[8..12].copy_from_slice(&self.told.to_be_bytes());
    }
}

struct Bench {
    engine: Engine,
    port: MemoryPort,
    clients: Vec<Client>,
    buf: Vec<u8>,
    moved: Instant,
}

/// The checksum is the device's business, so that patching is enough.
fn offload() -> TxOffload {
    TxOffload { checksum: TxChecksum::Partial { start: 20, offset: 16 }, gso_size: 0, header_len: 40, ipv6: false }
}

impl Bench {
    fn new(kind: PlanKind, workers: usize, service_port: u16) -> Self {
        let options = MemoryOptions { queues: workers as u16, ..MemoryOptions::default() };
        let (device, port) = memory::port(&options).unwrap();
        let plan = Plan::new(kind, Some(workers), &Pin::None, &[0, 1], workers).unwrap();
        let services = [
            ServiceFactory { port: Some(DISCARD), make: Box::new(|| Box::new(Discard)) },
            ServiceFactory { port: Some(CHARGEN), make: Box::new(|| Box::new(Chargen)) },
            ServiceFactory { port: Some(REPEATER), make: Box::new(|| Box::new(Repeater::new())) },
        ];
        let config = EngineConfig { send_chunks: 64, ..EngineConfig::new(vec![IpAddr::V4(OURS)]) };
        let engine = Engine::start(config, plan, Box::new(device), &services).unwrap();
        let mut bench = Self { engine, port, clients: Vec::new(), buf: vec![0; BUFFER_LEN], moved: Instant::now() };
        for index in 0..CONNECTIONS {
            bench.connect(40_000 + index, service_port);
        }
        bench
    }

    fn connect(&mut self, port: u16, service_port: u16) {
        let mut peer = Peer::new(port, service_port);
        assert!(self.port.inject(&peer.syn()));
        let syn_ack = loop {
            // Data for the connections before this one is lost here, which is no matter yet.
            self.wait();
            let Some((_, len, _)) = self.port.capture_into(&mut self.buf) else { continue };
            let packet = wire::ip::parse(&self.buf[..len], true).unwrap();
            let (header, _) = wire::tcp::parse(packet.payload, packet.src, packet.dst, true).unwrap();
            if header.dst_port == port {
                break header;
            }
        };
        assert!(syn_ack.flags.contains(Flags::SYN | Flags::ACK));
        (peer.seq, peer.ack) = (syn_ack.ack, syn_ack.seq.wrapping_add(1));
        let octets = if service_port == DISCARD { MSS as usize } else { 0 };
        let packet = peer.packet_at(0, Flags::ACK, &vec![b'x'; octets]);
        if octets == 0 {
            assert!(self.port.inject(&packet));
        }
        let edge = peer.seq.wrapping_add(u32::from(syn_ack.window));
        self.clients.push(Client {
            packet,
            seq: peer.seq,
            ack: peer.ack,
            told: peer.ack,
            edge,
            first: (peer.seq, peer.ack),
        });
        self.moved = Instant::now();
    }

    fn wait(&self) {
        assert!(self.moved.elapsed() < PATIENCE, "nothing moves: {:?}", self.engine.counters());
        std::thread::yield_now();
    }

    /// Takes what the engine has sent.
    fn take(&mut self) -> bool {
        let mut any = false;
        while let Some((_, len, _)) = self.port.capture_into(&mut self.buf) {
            any = true;
            let packet = wire::ip::parse(&self.buf[..len], true).unwrap();
            let (header, payload) = wire::tcp::parse(packet.payload, packet.src, packet.dst, true).unwrap();
            let Some(client) = self.clients.get_mut(usize::from(header.dst_port - 40_000)) else { continue };
            assert!(!header.flags.intersects(Flags::RST | Flags::FIN), "{header:?}");
            if header.seq == client.ack {
                client.ack = client.ack.wrapping_add(payload.len() as u32);
            }
            let edge = header.ack.wrapping_add(u32::from(header.window) << WINDOW_SHIFT);
            if (edge.wrapping_sub(client.edge) as i32) > 0 {
                client.edge = edge;
            }
        }
        any
    }

    /// Sends `count` segments of one MSS each, as fast as windows allow.
    fn segments(&mut self, count: u64) {
        let mut sent = 0;
        while sent < count {
            let mut any = self.take();
            for client in &mut self.clients {
                for _ in 0..32 {
                    if (client.edge.wrapping_sub(client.seq) as i32) < MSS as i32 {
                        break;
                    }
                    client.told = client.ack;
                    client.patch();
                    if !self.port.inject_with(0, &client.packet, &offload()) {
                        break;
                    }
                    client.seq = client.seq.wrapping_add(MSS);
                    (sent, any) = (sent + 1, true);
                }
            }
            self.note(any);
        }
    }

    /// Sends `count` ACKs, one for each MSS that has come in, or for what there is when no more comes.
    fn acks(&mut self, count: u64) {
        let mut sent = 0;
        let mut quiet = 0;
        while sent < count {
            let mut any = self.take();
            quiet = if any { 0 } else { quiet + 1 };
            for client in &mut self.clients {
                for _ in 0..64 {
                    let new = client.ack.wrapping_sub(client.told);
                    if new == 0 || (new < MSS && quiet < 100) {
                        break;
                    }
                    let before = client.told;
                    client.told = before.wrapping_add(new.min(MSS));
                    client.patch();
                    if !self.port.inject_with(0, &client.packet, &offload()) {
                        client.told = before;
                        break;
                    }
                    (sent, any) = (sent + 1, true);
                }
            }
            self.note(any);
        }
    }

    fn note(&mut self, any: bool) {
        if any {
            self.moved = Instant::now();
        } else {
            self.wait();
        }
    }
}

/// Two hosts without threads hand each other what they send: chargen on one, who discards it on the other.
pub(crate) fn between_embedded_hosts() {
    let (ours, peer) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
    let mut now = tcp::Instant::from_secs(1);
    let mut server = Host::builder().address(ours).service(Some(CHARGEN), Box::new(Chargen)).build(now).unwrap();
    // A window that is soon at its largest: there are as many buffers as packets in it.
    let recv_buffer = tcp::BufferLimits { initial: 64 << 10, max: 256 << 10 };
    let tcp = tcp::Config { recv_buffer, ..tcp::Config::default() };
    let mut client = Host::builder().address(peer).tcp(tcp).service(None, Box::new(Discard)).build(now).unwrap();
    client.connect(0, Endpoint::new(ours, CHARGEN)).unwrap();
    let mut run = |least: u64| {
        let mut packets = 0;
        while packets < least {
            server.poll(now, |packet| packets += u64::from(client.receive(packet)));
            client.poll(now, |packet| packets += u64::from(server.receive(packet)));
            now += tcp::Duration::from_micros(50);
        }
        packets
    };
    run(WARM_UP);
    let (start, before) = (Instant::now(), counting::allocations());
    counting::set_trap(true);
    let packets = run(MEASURED / 2);
    counting::set_trap(false);
    let (took, allocations) = (start.elapsed(), counting::allocations() - before);
    println!("{allocations} allocations for {packets} packets in {took:.2?}");
    assert_eq!(allocations, 0, "the first one's stack is above");
    for host in [&mut server, &mut client] {
        let counters = host.counters();
        assert_eq!((counters.dropped_total(), counters.retransmits), (0, 0), "{counters:?}");
    }
}

/// What the engine scales its windows by: from the largest receive buffer.
const WINDOW_SHIFT: u32 = 7;

pub(crate) fn in_steady_state(kind: PlanKind, workers: usize, service_port: u16) {
    let mut bench = Bench::new(kind, workers, service_port);
    let run =
        |bench: &mut Bench, count| if service_port == DISCARD { bench.segments(count) } else { bench.acks(count) };
    run(&mut bench, WARM_UP);
    // What was lost while the others connected is repaired first: the first loss of a connection allocates.
    while bench.clients.iter().any(|client| client.moved() < STEADY) {
        run(&mut bench, 1_000);
    }
    // The list of a connection's pieces goes when all is acknowledged and comes again with the next ones: a service whose
    // octets are gone before it is asked for more, as this one's when its thread waits for a CPU, allocates at the pace of
    // that, not of segments.
    let allowed = if service_port == REPEATER { 100 } else { 0 };
    let mut attempts = 0;
    let (took, allocations) = loop {
        attempts += 1;
        let sent_again = bench.engine.counters().retransmits;
        let (start, before) = (Instant::now(), counting::allocations());
        counting::set_trap(allowed == 0);
        run(&mut bench, MEASURED);
        counting::set_trap(false);
        let (took, allocations) = (start.elapsed(), counting::allocations() - before);
        // A peer that had no CPU for longer than an RTO was told so, and recovery allocates: that was no steady state.
        if allocations > allowed && bench.engine.counters().retransmits > sent_again && attempts < ATTEMPTS {
            println!("{allocations} allocations, but the peer was away for an RTO; again");
            continue;
        }
        break (took, allocations);
    };
    assert!(allocations <= allowed, "{allocations}; the first one's stack is above");
    let Bench { mut engine, .. } = bench;
    engine.stop().unwrap();
    let counters = engine.counters();
    let predicted = counters.segments_predicted as f64 / counters.segments_in as f64;
    println!("{allocations} allocations for {MEASURED} packets in {took:.2?}, {:.2} % predicted", predicted * 100.0);
    assert!(counters.segments_in >= MEASURED, "{counters:?}");
    assert!(predicted >= 0.95, "{counters:?}");
    assert_eq!(counters.dropped_total(), 0, "{counters:?}");
}
