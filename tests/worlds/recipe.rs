//! What a world is made of, drawn from its seed: links, stacks, applications.
//!
//! Must not contain: running, checking.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use trust::flow::Endpoint;
use trust::shard::{Limits, Offload};
use trust::sim::gro::Gro;
use trust::sim::stages::{
    BurstLoss, Chosen, Corrupt, Delay, Detour, Duplicate, Loss, Meanwhile, NarrowMtu, Outage, Policer, QueueLimit,
    Rate, Reorder, Slander, Split,
};
use trust::sim::{Ending, Plan, Rng, ShardHostConfig, Stage, hit};
use trust::tcp::congestion::CongestionControl;
use trust::tcp::{self, BufferLimits, Duration, Instant, RtoLimits, SeqNum};

pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// The same hosts by IPv6.
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// Whoever tells of packets on the way.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// Port of the first connection; the next ones follow.
pub const PORT: u16 = 1_000;

/// One connection of a world.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    pub start: Instant,
    pub client: Plan,
    pub server: Plan,
}

/// See the module.
#[derive(Debug)]
pub struct Recipe {
    pub client: ShardHostConfig,
    pub server: ShardHostConfig,
    pub flows: Vec<Flow>,
    /// How bad the links are, 0 to 4.
    pub badness: u32,
}

fn log_uniform(rng: &mut Rng, least: u64, most: u64) -> u64 {
    let (low, high) = ((least.max(1) as f64).ln(), (most.max(1) as f64).ln());
    ((low + rng.f64() * (high - low)).exp() as u64).clamp(least, most)
}

fn micros(rng: &mut Rng, least: u64, most: u64) -> Duration {
    Duration::from_micros(log_uniform(rng, least, most))
}

/// The end that is ours when only one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// Kinds of worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Both ends are ours, and the links do whatever links do.
    Any,
    /// One end is ours; the other is another stack, and less is asked of it.
    Ours(Side),
    /// Both ends are ours. One direction of the link loses, and neither repeats, changes or reorders anything.
    InOrder,
}

impl Kind {
    fn ours(self) -> Option<Side> {
        if let Self::Ours(side) = self { Some(side) } else { None }
    }
}

/// What a pair of hosts and their users do, by IPv6 or IPv4.
pub fn draw(rng: &mut Rng, now: Instant, kind: Kind, ipv6: bool) -> Recipe {
    let ours = kind.ours();
    let other_stack = ours.is_some();
    let badness = match rng.u32(0..100) {
        0..15 => 0,
        15..55 => 1,
        55..80 => 2,
        80..90 => 3,
        _ => 4,
    };
    let badness = if other_stack { badness.min(2) } else { badness };
    let ends: [IpAddr; 2] = if ipv6 { [CLIENT_V6.into(), SERVER_V6.into()] } else { [CLIENT.into(), SERVER.into()] };
    let [mut client, mut server] = ends.map(|addr| host(rng, addr));
    if badness == 4 {
        // A burst of losses ends with the packets that it takes. At one a minute a burst of 60 outlasts TIME-WAIT.
        for host in [&mut client, &mut server] {
            host.tcp.rto.max = Duration::from_secs(8);
        }
    }
    if kind == Kind::InOrder {
        // A receiver whose ring is full tells of three ranges in the end, whatever has come: its peer cannot know of the others.
        for host in [&mut client, &mut server] {
            host.tx_ring = 1_024;
        }
    }
    let count = if other_stack || hit(rng, 0.8) { 1 } else { rng.u64(2..=3) };
    let flows: Vec<Flow> = (0..count).map(|n| flow(rng, now, n, count, ours)).collect();
    wrap(rng, &mut client, &mut server, &flows[0]);
    Recipe { client, server, flows, badness }
}

fn host(rng: &mut Rng, addr: IpAddr) -> ShardHostConfig {
    let mut config = ShardHostConfig::new(addr, rng.u64(..));
    config.mtu = match rng.u32(0..100) {
        0..70 => 1_500,
        70..80 => rng.u16(576..1_500),
        80..90 => 9_000,
        _ => rng.u16(9_000..65_535),
    };
    if addr.is_ipv6() {
        config.mtu = config.mtu.max(1_280);
    }
    let checksum = hit(rng, 0.7);
    let tso = checksum && hit(rng, 0.8);
    config.offload = Offload { checksum, tso4: tso, tso6: tso };
    config.limits = Limits { held_packets: rng.u64(0..64), held_octets: 64 << 20, ..Limits::default() };
    config.send_chunks = rng.u32(8..128);
    if hit(rng, 0.15) {
        config.tx_lag = micros(rng, 1, 300_000);
    }
    if hit(rng, 0.1) {
        config.tx_ring = 32;
    }
    config.tcp = tunables(rng);
    config
}

fn tunables(rng: &mut Rng) -> tcp::Config {
    let mut config = tcp::Config {
        timestamps: hit(rng, 0.8),
        sack: hit(rng, 0.8),
        window_scale: hit(rng, 0.8),
        congestion: rng.choice(CongestionControl::ALL).unwrap_or_default(),
        nagle: hit(rng, 0.8),
        delayed_ack: Duration::from_millis(*rng.choice(&[0, 1, 40, 200, 499]).unwrap_or(&40)),
        quick_acks: *rng.choice(&[0, 2, 16]).unwrap_or(&16),
        initial_window: *rng.choice(&[1, 2, 10, 10, 10, 64]).unwrap_or(&10),
        rto: RtoLimits {
            min: Duration::from_millis(*rng.choice(&[5, 200, 200, 200, 1_000]).unwrap_or(&200)),
            max: Duration::from_secs(*rng.choice(&[8, 60]).unwrap_or(&60)),
            ..RtoLimits::default()
        },
        slow_start_after_idle: hit(rng, 0.7),
        // However bad the luck, nobody gives up: that would be an end no user asked for.
        connect_timeout: Duration::from_secs(3_600),
        syn_ack_retries: 30,
        retransmit_limit: Duration::ZERO,
        orphan_timeout: Duration::ZERO,
        time_wait: Duration::from_secs(3_600),
        fin_wait2: Duration::from_secs(3_600),
        ..tcp::Config::default()
    };
    config.recv_buffer = match rng.u32(0..100) {
        0..10 => fixed(rng.u32(256..4_096)),
        10..40 => fixed(rng.u32(4_096..65_536)),
        40..80 => config.recv_buffer,
        _ => fixed(log_uniform(rng, 1 << 20, 32 << 20) as u32),
    };
    config.send_buffer = match rng.u32(0..100) {
        0..10 => fixed(rng.u32(256..8_192)),
        10..30 => fixed(rng.u32(8_192..131_072)),
        _ => config.send_buffer,
    };
    config
}

fn fixed(octets: u32) -> BufferLimits {
    BufferLimits { initial: octets, max: octets }
}

fn flow(rng: &mut Rng, now: Instant, n: u64, count: u64, ours: Option<Side>) -> Flow {
    let total = match rng.u32(0..100) {
        0..20 => rng.u64(0..20_000),
        20..90 => rng.u64(1 << 20..3 << 20),
        _ => rng.u64(3 << 20..6 << 20),
    } / count;
    // All one way, all the other way, or some of both.
    let there = match rng.u32(0..4) {
        0 => total,
        1 => 0,
        _ => rng.u64(0..=total),
    };
    let back = total - there;
    let (mut client_end, mut server_end) = match rng.u32(0..100) {
        0..50 => (Ending::Shutdown, Ending::Shutdown),
        50..60 => (Ending::AfterPeer, Ending::Shutdown),
        60..70 => (Ending::Shutdown, Ending::AfterPeer),
        70..80 => (Ending::Close, Ending::AfterPeer),
        80..85 => (Ending::Close, Ending::Close),
        85..90 => (Ending::Shutdown, Ending::Close),
        90..95 => (Ending::Abort(rng.u64(1..=total.max(1))), Ending::AfterPeer),
        _ => (Ending::Shutdown, Ending::Abort(rng.u64(1..=total.max(1)))),
    };
    if total == 0 {
        (client_end, server_end) = (Ending::Shutdown, Ending::Shutdown);
    }
    if let Some(ours) = ours {
        // smoltcp stops its retransmission timer with any ACK in CLOSE-WAIT: it must have had its say before our FIN.
        let theirs = if hit(rng, 0.5) { Ending::Shutdown } else { Ending::Close };
        let own = if hit(rng, 0.5) { Ending::AfterPeer } else { Ending::Close };
        (client_end, server_end) = if ours == Side::Client { (own, theirs) } else { (theirs, own) };
        if total == 0 {
            (client_end, server_end) = (Ending::Shutdown, Ending::Shutdown);
        }
    }
    let start = now + Duration::from_millis(20 * n + rng.u64(0..20));
    let (stream, peer_stream) = (rng.u64(..), rng.u64(..));
    let patience = if ours.is_some() { OTHER_PAUSE } else { PAUSE };
    let mut plan = |own, peer, ending| plan(rng, own, peer, ending, patience);
    let (client, server) = (
        plan((stream, there), (peer_stream, back), client_end),
        plan((peer_stream, back), (stream, there), server_end),
    );
    Flow { start, client, server }
}

/// Longest pause of an application, in us.
const PAUSE: u64 = 5_000_000;
/// The same with another stack, which forgets what is unread 10 s after the end: 40 pauses must not take that long.
const OTHER_PAUSE: u64 = 200_000;

fn plan(
    rng: &mut Rng,
    (stream, send): (u64, u64),
    (peer_stream, expect): (u64, u64),
    ending: Ending,
    longest: u64,
) -> Plan {
    let least = log_uniform(rng, 1, 30_000) as u32;
    // Not more than some 40 pauses, so that the longest world ends.
    let pause = |rng: &mut Rng, total: u64| {
        let every = rng.u64(total / 40 + 1..=total / 2 + 2);
        (every, micros(rng, 1_000, longest))
    };
    Plan {
        stream,
        peer_stream,
        send,
        expect,
        write: (least, rng.u32(least..=65_536)),
        by_reference: hit(rng, 0.3),
        write_pause: hit(rng, 0.2).then(|| pause(rng, send)),
        write_pauses: u64::MAX,
        read_pause: hit(rng, 0.8).then(|| pause(rng, expect)),
        nodelay: hit(rng, 0.2),
        ending,
    }
}

/// Lets sequence numbers of three in ten worlds pass 2^32, and of one in twenty 2^31.
fn wrap(rng: &mut Rng, client: &mut ShardHostConfig, server: &mut ShardHostConfig, flow: &Flow) {
    let (end, wanted) = match rng.u32(0..100) {
        0..30 => (0, true),
        30..35 => (1 << 31, true),
        _ => (0, false),
    };
    let to_server = Endpoint::new(server.addr, PORT);
    if !wanted {
        return;
    }
    let mut below = |octets: u64| SeqNum((end as u32).wrapping_sub(rng.u64(1..=octets.max(2) / 2 + 1) as u32));
    let Some(port) = client.steer_first_isn(to_server, flow.start, below(flow.client.send)) else { return };
    server.steer_isn(PORT, Endpoint::new(client.addr, port), flow.start, below(flow.server.send));
}

/// The link from the client to the server, and the one back.
pub fn links(rng: &mut Rng, now: Instant, kind: Kind, recipe: &Recipe) -> [Vec<Box<dyn Stage>>; 2] {
    if kind == Kind::InOrder {
        let up = recipe.flows.iter().map(|flow| flow.client.send).sum::<u64>();
        let down = recipe.flows.iter().map(|flow| flow.server.send).sum::<u64>();
        // Most worlds lose what there is most of.
        let loses_up = (up >= down) == hit(rng, 0.8);
        return [loses_up, !loses_up].map(|loses| link_in_order(rng, now, recipe.badness, loses));
    }
    [(), ()].map(|()| link(rng, now, recipe.badness, kind != Kind::Any))
}

/// One direction of the link.
fn link(rng: &mut Rng, now: Instant, badness: u32, other_stack: bool) -> Vec<Box<dyn Stage>> {
    let mut stages: Vec<Box<dyn Stage>> = Vec::new();
    let split = other_stack || hit(rng, 0.9);
    if split {
        stages.push(Box::new(Split));
    }
    let loss = match badness {
        0 => 0.0,
        1 => rng.f64() * 0.02,
        2 => rng.f64() * 0.1,
        _ => rng.f64() * 0.3,
    };
    if badness == 4 {
        let good = 0.05 + rng.f64() * 0.3;
        stages.push(Box::new(BurstLoss::new(rng.f64() * 0.02, good, [0.0, 0.5 + rng.f64() / 2.0], rng.fork())));
    } else if loss > 0.0 && hit(rng, 0.8) {
        stages.push(Box::new(Loss::new(loss, rng.fork())));
    }
    if badness > 0 && hit(rng, 0.1) {
        let nth: Vec<u64> = (0..rng.u32(1..5)).map(|_| rng.u64(0..200)).collect();
        stages.push(Box::new(Chosen::new(move |n, _| nth.contains(&n))));
    }
    if hit(rng, 0.5) {
        let limit = if hit(rng, 0.5) {
            QueueLimit::Packets(rng.usize(4..200))
        } else {
            QueueLimit::Octets(rng.usize(10_000..500_000))
        };
        stages.push(Box::new(Rate::new(log_uniform(rng, 100_000, 1_000_000_000), limit)));
    }
    if badness > 0 && hit(rng, 0.08) {
        let (rate, burst) = (log_uniform(rng, 100_000, 10_000_000), log_uniform(rng, 70_000, 500_000));
        stages.push(Box::new(Policer::new(rate, burst)));
    }
    let base = micros(rng, 5, 100_000);
    let jitter = Duration::from_nanos(base.as_nanos() / 100 * rng.u64(0..20));
    stages.push(Box::new(Delay::new(base, jitter, badness > 0 && hit(rng, 0.2), rng.fork())));
    if badness > 0 {
        disturb(rng, &mut stages, now);
    }
    if split && hit(rng, 0.3) {
        stages.push(Box::new(Gro::new(micros(rng, 1, 200))));
    }
    stages
}

/// One direction of a link that may lose (`loses`), but gives everything else in order, once and as it was.
fn link_in_order(rng: &mut Rng, now: Instant, badness: u32, loses: bool) -> Vec<Box<dyn Stage>> {
    let mut stages: Vec<Box<dyn Stage>> = Vec::new();
    if hit(rng, 0.9) {
        stages.push(Box::new(Split));
    }
    if loses {
        lose(rng, now, badness, &mut stages);
    }
    if hit(rng, 0.5) {
        let limit = match loses {
            true if hit(rng, 0.5) => QueueLimit::Packets(rng.usize(4..200)),
            true => QueueLimit::Octets(rng.usize(10_000..500_000)),
            false => QueueLimit::Packets(usize::MAX),
        };
        stages.push(Box::new(Rate::new(log_uniform(rng, 100_000, 1_000_000_000), limit)));
    }
    let base = micros(rng, 5, 100_000);
    let jitter = Duration::from_nanos(base.as_nanos() / 100 * rng.u64(0..20));
    stages.push(Box::new(Delay::new(base, jitter, false, rng.fork())));
    if hit(rng, 0.1) {
        stages.push(Box::new(Outage::new(windows(rng, now), Meanwhile::Kept)));
    }
    if hit(rng, 0.1) {
        stages.push(Box::new(Slander::new(rng.f64() * 0.2, ROUTER, rng.fork())));
    }
    if hit(rng, 0.3) {
        stages.push(Box::new(Gro::new(micros(rng, 1, 200))));
    }
    stages
}

/// Whatever loses packets.
fn lose(rng: &mut Rng, now: Instant, badness: u32, stages: &mut Vec<Box<dyn Stage>>) {
    if badness == 4 {
        let good = 0.05 + rng.f64() * 0.3;
        stages.push(Box::new(BurstLoss::new(rng.f64() * 0.02, good, [0.0, 0.5 + rng.f64() / 2.0], rng.fork())));
    } else if badness > 0 {
        stages.push(Box::new(Loss::new(rng.f64() * [0.02, 0.1, 0.3][badness as usize - 1], rng.fork())));
    }
    if hit(rng, 0.2) {
        let nth: Vec<u64> = (0..rng.u32(1..5)).map(|_| rng.u64(0..200)).collect();
        stages.push(Box::new(Chosen::new(move |n, _| nth.contains(&n))));
    }
    if hit(rng, 0.1) {
        let (rate, burst) = (log_uniform(rng, 100_000, 10_000_000), log_uniform(rng, 70_000, 500_000));
        stages.push(Box::new(Policer::new(rate, burst)));
    }
    if hit(rng, 0.1) {
        stages.push(Box::new(Outage::new(windows(rng, now), Meanwhile::Lost)));
    }
    if hit(rng, 0.05) {
        stages.push(Box::new(narrow(rng, now, false)));
    }
}

/// A time within the first seconds of a world.
fn later(rng: &mut Rng, now: Instant) -> Instant {
    now + micros(rng, 1_000, 5_000_000)
}

fn windows(rng: &mut Rng, now: Instant) -> Vec<(Instant, Instant)> {
    let windows = (0..rng.u32(1..4)).map(|_| {
        let from = later(rng, now);
        (from, from + micros(rng, 1_000, 5_000_000))
    });
    windows.collect()
}

/// A narrow place, whose router may tell of what is too large.
fn narrow(rng: &mut Rng, now: Instant, tells: bool) -> NarrowMtu {
    let from = later(rng, now);
    let until = from + micros(rng, 1_000, 3_000_000);
    NarrowMtu::new(rng.u16(400..1_500), from, until, tells.then_some(ROUTER))
}

fn disturb(rng: &mut Rng, stages: &mut Vec<Box<dyn Stage>>, now: Instant) {
    if hit(rng, 0.2) {
        let (places, wait) = (rng.u64(1..8), micros(rng, 100, 50_000));
        stages.push(Box::new(Reorder::new(rng.f64() * 0.1, places, wait, rng.fork())));
    }
    if hit(rng, 0.15) {
        stages.push(Box::new(Detour::new(rng.f64() * 0.1, micros(rng, 100, 300_000), rng.fork())));
    }
    if hit(rng, 0.25) {
        stages.push(Box::new(Duplicate::new(rng.f64() * 0.05, micros(rng, 1, 100_000), rng.fork())));
    }
    if hit(rng, 0.25) {
        stages.push(Box::new(Corrupt::new(rng.f64() * 0.03, rng.fork())));
    }
    if hit(rng, 0.15) {
        let windows = windows(rng, now);
        let meanwhile = if hit(rng, 0.5) { Meanwhile::Lost } else { Meanwhile::Kept };
        stages.push(Box::new(Outage::new(windows, meanwhile)));
    }
    if hit(rng, 0.08) {
        let tells = hit(rng, 0.5);
        stages.push(Box::new(narrow(rng, now, tells)));
    }
    if hit(rng, 0.1) {
        stages.push(Box::new(Slander::new(rng.f64() * 0.2, ROUTER, rng.fork())));
    }
}
