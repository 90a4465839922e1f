//! One TCP core under a virtual clock, facing a scripted peer.
//!
//! [`Host`] plays what surrounds the core in the engine: it listens, keeps the stream stores (here: positions, since
//! the octet at each position of a stream is a function of the position), hands out what the core wants to send and
//! moves time. What the core sends lands in a queue that the scenario must consume segment by segment. On every
//! segment the host checks what must hold in any scenario.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use trust::tcp::units::UnscaledWindow;
use trust::tcp::{
    BufferLimits, CloseReason, Config, CongestionControl, Connection, Context, Duration, Events, Handshake,
    HandshakeOutcome, Instant, Keep, OpenParams, Outcome, Payload, Segment, SeqNum, State, TimeWait, TimeWaitOutcome,
    Transmit, reset_for,
};
use trust::wire::options::{SackBlocks, TcpOptions, Timestamps};
use trust::wire::tcp::Flags;

use super::script::{Script, ScriptOptions};

mod app;

/// Where the sequence numbers of a run begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Isn {
    pub(crate) local: u32,
    pub(crate) peer: u32,
}

/// Runs a scenario near 0, 2^31 and 2^32, so that both streams cross the places where comparisons go wrong.
pub(crate) fn each_isn(scenario: impl Fn(Isn)) {
    scenario(Isn { local: 3, peer: 11 });
    scenario(Isn { local: i32::MAX as u32 - 1_500, peer: i32::MAX as u32 - 700 });
    scenario(Isn { local: u32::MAX - 1_500, peer: u32::MAX - 700 });
    scenario(Isn { local: u32::MAX, peer: u32::MAX });
}

/// The settings of the conventions: no timestamps, window scale or SACK are *used*, since the peer does not offer
/// them; the window is 65535; ACKs are delayed from the first segment on. The
/// windows in the scripts are those of Reno.
pub(crate) fn plain() -> Config {
    Config {
        quick_acks: 0,
        congestion: CongestionControl::Reno,
        recv_buffer: BufferLimits { initial: 65_535, max: 65_535 },
        ..Config::default()
    }
}

/// [`plain`] with a receive buffer of fixed size.
pub(crate) fn with_buffer(octets: u32) -> Config {
    Config { recv_buffer: BufferLimits { initial: octets, max: octets }, ..plain() }
}

enum Phase {
    Listen,
    Handshake(Handshake, Role),
    Connection(Box<Connection>),
    TimeWait(TimeWait),
    Closed,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Active,
    Passive,
}

/// Something the core sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Instant,
    pub(crate) script: Script,
    pub(crate) retransmission: bool,
}

pub(crate) struct Host {
    pub(crate) config: Config,
    /// What the stores can still hold, as handed into `on_segment`.
    pub(crate) keep: Keep,
    /// Largest payload of a transmission; more than one MSS makes super-segments.
    pub(crate) max_len: u32,
    /// Whether the device writes at once what it gets.
    pub(crate) device_writes: bool,
    isn: Isn,
    our_mss: u16,
    ts_offset: u32,
    now: Instant,
    phase: Phase,
    reason: Option<CloseReason>,
    sent: VecDeque<Sent>,
    transcript: String,
    /// Octets queued by the application since the start, and of these the ones freed by acknowledgments.
    written: u64,
    freed: u64,
    /// In-order octets received, and of these the ones read.
    received: u64,
    read: u64,
    /// What lies out of order, by position: one entry an octet.
    held: BTreeMap<u64, u8>,
    eof: bool,
    fin_acked: bool,
    writable_events: u32,
    peer_mss: u32,
    peer_scales: bool,
    our_shift: u8,
    last_ack: Option<i64>,
    right_edge: Option<i64>,
    last_written: Option<SeqNum>,
    last_tsval: u32,
    reuse_floor: Option<i64>,
    /// Relative number behind the highest octet sent.
    sent_upto: i64,
}

/// The octet at `position` of the peer's stream.
fn octet(position: u64) -> u8 {
    (position.wrapping_mul(31) ^ (position >> 8)) as u8
}

impl Host {
    fn new(isn: Isn, config: Config, phase: Phase) -> Self {
        Self {
            config,
            keep: Keep::All,
            max_len: 1_460,
            device_writes: true,
            isn,
            our_mss: 1_000,
            ts_offset: 0x1234_5678,
            now: Instant::from_secs(100),
            phase,
            reason: None,
            sent: VecDeque::new(),
            transcript: format!("{isn:?}\n"),
            written: 0,
            freed: 0,
            received: 0,
            read: 0,
            held: BTreeMap::new(),
            eof: false,
            fin_acked: false,
            writable_events: 0,
            peer_mss: 536,
            peer_scales: false,
            our_shift: 0,
            last_ack: None,
            right_edge: None,
            last_written: None,
            last_tsval: 0,
            reuse_floor: None,
            sent_upto: 1,
        }
    }

    /// A listener with an MSS of 1000.
    pub(crate) fn listen(isn: Isn, config: Config) -> Self {
        Self::new(isn, config, Phase::Listen)
    }

    /// An active open; its SYN is the first thing to expect.
    pub(crate) fn connect(isn: Isn, config: Config) -> Self {
        let mut host = Self::new(isn, config, Phase::Closed);
        host.phase = Phase::Handshake(Handshake::connect(&host.config, host.open_params(), host.now), Role::Active);
        host.pump();
        host
    }

    /// The state E of the conventions: established by a plain passive handshake, MSS 1000, both windows 65535.
    pub(crate) fn established(isn: Isn, config: Config) -> Self {
        Self::established_with(isn, config, "S 0:0 win 65535 <mss 1000>", "A 1:1 ack 1 win 65535")
    }

    /// Established by a passive handshake of which the peer's two segments are given.
    pub(crate) fn established_with(isn: Isn, config: Config, syn: &str, ack: &str) -> Self {
        let mut host = Self::listen(isn, config);
        host.inject(syn);
        let answer = host.take();
        assert_eq!(answer.script.flags, Flags::SYN | Flags::ACK, "{}", host.transcript);
        host.inject(ack);
        host.assert_state(State::Established);
        host
    }

    /// Segments of up to `octets` are right, whatever the peer's SYN said.
    pub(crate) fn allow_mss(&mut self, octets: u32) {
        self.peer_mss = octets;
    }

    fn open_params(&self) -> OpenParams {
        OpenParams {
            iss: SeqNum(self.isn.local),
            ts_offset: self.ts_offset,
            mss: self.our_mss,
            peer_mss: 536,
            first_window: Default::default(),
        }
    }

    // ---- the peer --------------------------------------------------------------------------------------------------

    /// One segment from the peer; what was sent before must have been expected. `win` is 65535 unless written.
    pub(crate) fn inject(&mut self, text: &str) {
        self.expect_nothing();
        let script = Script::parse(text);
        self.note("I", text);
        let reset = script.flags.contains(Flags::RST);
        self.dispatch(&script);
        self.pump();
        let pure = self.sent.iter().filter(|sent| sent.script.len == 0 && sent.script.flags == Flags::ACK).count();
        assert!(pure <= 1, "RFC5681-4.2c: one ACK for a segment\n{}", self.transcript);
        assert!(
            !reset || self.sent.iter().all(|sent| !sent.script.flags.contains(Flags::RST)),
            "a RST was answered by a RST\n{}",
            self.transcript
        );
    }

    /// Several segments from the peer that the engine takes in one turn.
    pub(crate) fn inject_batch(&mut self, lines: &[&str]) {
        self.expect_nothing();
        for text in lines {
            self.note("I", text);
            self.dispatch(&Script::parse(text));
        }
        self.pump();
    }

    fn dispatch(&mut self, script: &Script) {
        if script.flags.contains(Flags::SYN) {
            let options = script.options.clone().unwrap_or_default();
            self.peer_mss = options.mss.map_or(536, u32::from);
            self.peer_scales = options.window_scale.is_some();
        }
        let seg = self.to_segment(script);
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Listen => {
                self.phase = Phase::Listen;
                // SM-LIS-1..3; the answer itself is the core's.
                if seg.has(Flags::RST) {
                } else if seg.has(Flags::ACK) {
                    self.emit_option(reset_for(&seg));
                } else if seg.has(Flags::SYN) {
                    let handshake = Handshake::accept(&self.config, self.open_params(), &seg, self.now);
                    self.phase = Phase::Handshake(handshake, Role::Passive);
                }
            }
            Phase::Handshake(mut handshake, role) => {
                let outcome = handshake.on_segment(&self.config, &seg, self.now);
                self.phase = Phase::Handshake(handshake, role);
                self.on_handshake(outcome, role, script.seq + i64::from(seg.has(Flags::SYN)));
            }
            Phase::Connection(mut connection) => {
                let context = Context { now: self.now, keep: self.keep };
                let outcome = connection.on_segment(&self.config, &seg, &context);
                self.phase = Phase::Connection(connection);
                self.on_outcome(&outcome, script.seq);
            }
            Phase::TimeWait(mut record) => match record.on_segment(&self.config, &seg, self.now) {
                TimeWaitOutcome::Ignore => self.phase = Phase::TimeWait(record),
                TimeWaitOutcome::Reply(transmit) => {
                    self.phase = Phase::TimeWait(record);
                    self.emit(&transmit);
                }
                TimeWaitOutcome::Ended => self.phase = Phase::Closed,
                TimeWaitOutcome::Reuse { iss_floor } => {
                    self.restart(iss_floor);
                    let handshake = Handshake::accept(&self.config, self.open_params(), &seg, self.now);
                    self.phase = Phase::Handshake(handshake, Role::Passive);
                }
            },
            Phase::Closed => self.emit_option(reset_for(&seg)),
        }
    }

    /// A new incarnation begins; our numbers are relative to its ISS from now on, the peer's stay as they are.
    fn restart(&mut self, iss: SeqNum) {
        let floor = self.relative(iss, self.isn.local);
        self.reuse_floor = Some(floor);
        self.note("-", &format!("reuse: ISS at least {floor}"));
        self.isn.local = iss.0;
        self.last_ack = None;
        self.right_edge = None;
        self.last_written = None;
        (self.written, self.freed, self.received, self.read) = (0, 0, 0, 0);
    }

    fn on_handshake(&mut self, outcome: HandshakeOutcome, role: Role, first: i64) {
        match outcome {
            HandshakeOutcome::Wait => {}
            HandshakeOutcome::Reply(transmit) => self.emit(&transmit),
            HandshakeOutcome::Established { mut connection, rest } => {
                self.note("-", "established");
                let context = Context { now: self.now, keep: self.keep };
                let outcome = connection.on_segment(&self.config, &rest, &context);
                self.phase = Phase::Connection(Box::new(connection));
                self.on_outcome(&outcome, first);
            }
            HandshakeOutcome::Closed(reason) => {
                self.note("-", &format!("handshake over: {reason:?}"));
                self.reason = Some(reason);
                self.phase = if role == Role::Passive { Phase::Listen } else { Phase::Closed };
            }
        }
    }

    /// Does to the stores what the core says. `first` is the relative number of the first payload octet.
    fn on_outcome(&mut self, outcome: &Outcome, first: i64) {
        self.freed += u64::from(outcome.acked);
        assert!(self.freed <= self.written, "more freed than written\n{}", self.transcript);
        match outcome.payload {
            Payload::Ignore => {}
            Payload::Deliver { from, to, released } => {
                for index in from..to {
                    let position = (first - 1 + i64::from(index)) as u64;
                    assert_eq!(position, self.received, "delivery out of order\n{}", self.transcript);
                    self.held.remove(&position);
                    self.received += 1;
                }
                for _ in 0..released {
                    let held = self.held.remove(&self.received);
                    assert_eq!(held, Some(octet(self.received)), "released what is not held\n{}", self.transcript);
                    self.received += 1;
                }
            }
            Payload::Hold { from, to, offset } => {
                for index in from..to {
                    let position = (first - 1 + i64::from(index)) as u64;
                    let told = self.received + u64::from(offset) + u64::from(index - from);
                    assert_eq!(position, told, "held at the wrong place\n{}", self.transcript);
                    self.held.insert(position, octet(position));
                }
            }
        }
        if outcome.events.contains(Events::EOF) {
            assert!(!self.eof, "end of stream told twice\n{}", self.transcript);
            self.eof = true;
        }
        if outcome.events.contains(Events::FIN_ACKED) {
            assert!(!self.fin_acked, "told twice\n{}", self.transcript);
            self.fin_acked = true;
        }
        if outcome.events.contains(Events::WRITABLE) {
            self.writable_events += 1;
        }
        if let Some(reply) = &outcome.reply {
            self.emit(reply);
        }
        if let (true, Phase::Connection(connection)) = (outcome.ack_now, &mut self.phase) {
            let transmit = connection.take_ack(self.now);
            self.emit(&transmit);
        }
        self.settle(outcome.events);
    }

    /// Replaces the connection when the core says that it is over.
    fn settle(&mut self, events: Events) {
        if events.contains(Events::TIME_WAIT) {
            self.pump();
            if let Phase::Connection(connection) = &self.phase {
                self.phase = Phase::TimeWait(connection.time_wait(&self.config, self.now));
                self.note("-", "TIME-WAIT");
            }
        } else if events.contains(Events::CLOSED) {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Phase::Connection(connection) = &self.phase {
            self.reason = connection.close_reason();
            assert!(self.reason.is_some(), "closed without a reason\n{}", self.transcript);
            let reason = self.reason;
            self.note("-", &format!("closed: {reason:?}"));
            self.phase = Phase::Closed;
        }
    }

    // ---- what the core sends ---------------------------------------------------------------------------------------

    /// Takes everything the core wants to send now.
    fn pump(&mut self) {
        for _ in 0..100_000 {
            let transmit = match &mut self.phase {
                Phase::Handshake(handshake, _) => handshake.poll_transmit(&self.config, self.now),
                Phase::Connection(connection) => connection.poll_transmit(&self.config, self.now, self.max_len),
                Phase::Listen | Phase::TimeWait(_) | Phase::Closed => None,
            };
            let Some(transmit) = transmit else { return };
            self.emit(&transmit);
        }
        panic!("transmission without end\n{}", self.transcript);
    }

    fn emit_option(&mut self, transmit: Option<Transmit>) {
        if let Some(transmit) = transmit {
            self.emit(&transmit);
        }
    }

    /// Cuts super-segments as a device would, checks, and queues for the scenario.
    fn emit(&mut self, transmit: &Transmit) {
        if transmit.len > 0 {
            let position = self.relative(transmit.seq, self.isn.local) - 1;
            assert_eq!(position, (self.freed + u64::from(transmit.offset)) as i64, "wrong octets\n{}", self.transcript);
            let end = self.freed + u64::from(transmit.offset) + u64::from(transmit.len);
            assert!(end <= self.written, "octets sent that nobody wrote\n{}", self.transcript);
        }
        let cut = if transmit.gso_size == 0 { transmit.len.max(1) } else { u32::from(transmit.gso_size) };
        let mut done = 0;
        loop {
            let len = (transmit.len - done).min(cut);
            let last = done + len == transmit.len;
            let mut part = *transmit;
            part.seq = transmit.seq + done;
            part.len = len;
            if !last {
                part.flags = transmit.flags.without(Flags::PSH | Flags::FIN);
            }
            self.emit_wire(&part);
            done += len;
            if last {
                break;
            }
        }
        if let (true, Phase::Connection(connection)) = (self.device_writes, &mut self.phase) {
            connection.on_device_write(transmit.end_seq());
        }
        self.last_written = Some(transmit.end_seq());
    }

    fn emit_wire(&mut self, transmit: &Transmit) {
        let script = self.to_script(transmit);
        self.note("O", &script.to_string());
        self.sent_upto = self.sent_upto.max(script.seq + i64::from(script.len));
        self.check(transmit, &script);
        self.sent.push_back(Sent { at: self.now, script, retransmission: transmit.resent.is_some() });
    }

    /// What holds for every segment of every scenario.
    fn check(&mut self, transmit: &Transmit, script: &Script) {
        let flags = transmit.flags;
        if let (Some(stamps), false) = (transmit.options.timestamps, flags.contains(Flags::RST)) {
            self.last_tsval = stamps.val;
        }
        if flags.contains(Flags::SYN) {
            self.our_shift = if self.peer_scales { transmit.options.window_scale.unwrap_or(0) } else { 0 };
        } else {
            // KP-18: options count against the MSS.
            let size = transmit.len + transmit.options.wire_len() as u32;
            assert!(transmit.len == 0 || size <= self.peer_mss, "MSS exceeded\n{}", self.transcript);
        }
        if !flags.contains(Flags::ACK) {
            assert!(transmit.ack == SeqNum(0) || flags.contains(Flags::RST), "ACK field without ACK");
            return;
        }
        if flags.contains(Flags::RST) {
            return;
        }
        let ack = script.ack.unwrap_or(0);
        assert!(self.last_ack.is_none_or(|last| ack >= last), "ACK went back\n{}", self.transcript);
        self.last_ack = Some(ack);
        // SHLD-14, RFC7323-2.4b: the right edge moves left by no more than rounding.
        let shift = if flags.contains(Flags::SYN) { 0 } else { self.our_shift };
        let edge = ack + (i64::from(transmit.window.0) << shift);
        let slack = (1_i64 << self.our_shift) - 1;
        // A SYN tells the window unscaled and cannot tell more than 65535.
        if self.right_edge.is_some_and(|right| edge < right - slack) {
            panic!("right edge retracted\n{}", self.transcript);
        }
        self.right_edge = Some(self.right_edge.map_or(edge, |right| right.max(edge)));
    }

    /// The next segment sent must be this one.
    pub(crate) fn expect(&mut self, text: &str) -> Sent {
        let expected = Script::parse(text);
        let Some(sent) = self.sent.pop_front() else {
            panic!("expected `{text}`, nothing was sent\n{}", self.transcript)
        };
        if let Some(what) = expected.mismatch(&sent.script) {
            panic!("{what}: expected `{text}`, sent `{}`\n{}", sent.script, self.transcript);
        }
        sent
    }

    /// Full-sized segments over `from..to`, each of `size` octets but the last, must have been sent in this order.
    pub(crate) fn expect_data(&mut self, from: i64, to: i64, size: i64) {
        let mut at = from;
        while at < to {
            let end = (at + size).min(to);
            self.expect(&format!("A {at}:{end}"));
            at = end;
        }
    }

    /// Nothing (more) was sent.
    #[track_caller]
    pub(crate) fn expect_nothing(&self) {
        if let Some(sent) = self.sent.front() {
            panic!("not expected: `{}`\n{}", sent.script, self.transcript);
        }
    }

    /// The next segment sent, whatever it is.
    pub(crate) fn take(&mut self) -> Sent {
        self.sent.pop_front().unwrap_or_else(|| panic!("nothing was sent\n{}", self.transcript))
    }

    /// All segments sent and not yet expected.
    pub(crate) fn take_all(&mut self) -> Vec<Sent> {
        self.sent.drain(..).collect()
    }

    // ---- time ------------------------------------------------------------------------------------------------------

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Handshake(handshake, _) => handshake.next_timeout(),
            Phase::Connection(connection) => connection.next_timeout(),
            Phase::TimeWait(record) => Some(record.deadline()),
            Phase::Listen | Phase::Closed => None,
        }
    }

    /// Lets `millis` pass, timers fire on the way.
    pub(crate) fn advance(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        self.run_until(end, false);
        self.now = end;
    }

    /// The clock jumps; whatever was due on the way fires only now.
    pub(crate) fn jump(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.run_until(self.now, true);
    }

    /// Lets time pass until something is sent, at least `low` and at most `high` ms, and expects it to be this.
    pub(crate) fn expect_after(&mut self, low: u64, high: u64, text: &str) -> Sent {
        self.expect_nothing();
        let start = self.now;
        let end = start + Duration::from_millis(high);
        self.run_until(end, true);
        if self.sent.is_empty() {
            panic!("expected `{text}` within {high} ms, nothing was sent\n{}", self.transcript);
        }
        let waited = self.now - start;
        assert!(waited >= Duration::from_millis(low), "`{text}` after {waited} already\n{}", self.transcript);
        self.expect(text)
    }

    fn run_until(&mut self, end: Instant, stop_when_sent: bool) {
        let mut turns = 0;
        while !stop_when_sent || self.sent.is_empty() {
            let Some(due) = self.next_timeout().filter(|due| *due <= end) else { return };
            turns += 1;
            assert!(turns < 100_000, "timers without end\n{}", self.transcript);
            self.now = self.now.max(due);
            self.fire();
            self.pump();
        }
    }

    fn fire(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Handshake(mut handshake, role) => {
                let outcome = handshake.on_timeout(&self.config, self.now);
                self.phase = Phase::Handshake(handshake, role);
                self.on_handshake(outcome, role, 0);
            }
            Phase::Connection(mut connection) => {
                let outcome = connection.on_timeout(&self.config, self.now);
                self.phase = Phase::Connection(connection);
                self.on_outcome(&outcome, 0);
            }
            Phase::TimeWait(_) => self.note("-", "TIME-WAIT is over"),
            other => self.phase = other,
        }
    }

    // ---- translation -----------------------------------------------------------------------------------------------

    fn relative(&self, seq: SeqNum, base: u32) -> i64 {
        i64::from(seq - SeqNum(base))
    }

    fn to_segment(&self, script: &Script) -> Segment {
        let absolute = |relative: i64, base: u32| base.wrapping_add(relative as u32);
        let options = script.options.clone().unwrap_or_default();
        let mut sack = SackBlocks::default();
        for (left, right) in options.sack {
            sack.push(absolute(left, self.isn.local), absolute(right, self.isn.local));
        }
        let timestamps = options.timestamps.map(|(val, ecr)| Timestamps {
            val: val.unwrap_or(0),
            ecr: ecr.map_or(self.last_tsval, |ecr| ecr.wrapping_add(self.ts_offset)),
        });
        Segment {
            seq: SeqNum(absolute(script.seq, self.isn.peer)),
            ack: SeqNum(script.ack.map_or(0, |ack| absolute(ack, self.isn.local))),
            flags: script.flags,
            window: UnscaledWindow(script.win.unwrap_or(65_535)),
            urgent: 0,
            options: TcpOptions {
                mss: options.mss,
                window_scale: options.window_scale,
                sack_permitted: options.sack_permitted,
                timestamps,
                sack,
            },
            len: script.len,
        }
    }

    fn to_script(&self, transmit: &Transmit) -> Script {
        let options = &transmit.options;
        Script {
            flags: transmit.flags,
            seq: self.relative(transmit.seq, self.isn.local),
            len: transmit.len,
            ack: transmit.flags.contains(Flags::ACK).then(|| self.relative(transmit.ack, self.isn.peer)),
            win: Some(transmit.window.0),
            options: Some(ScriptOptions {
                mss: options.mss,
                window_scale: options.window_scale,
                sack_permitted: options.sack_permitted,
                timestamps: options
                    .timestamps
                    .map(|stamps| (Some(stamps.val.wrapping_sub(self.ts_offset)), Some(stamps.ecr))),
                sack: options
                    .sack
                    .iter()
                    .map(|(left, right)| {
                        (self.relative(SeqNum(left), self.isn.peer), self.relative(SeqNum(right), self.isn.peer))
                    })
                    .collect(),
                open: false,
            }),
        }
    }

    fn note(&mut self, mark: &str, text: &str) {
        let millis = (self.now - Instant::from_secs(100)).as_micros() as f64 / 1_000.0;
        writeln!(self.transcript, "{millis:>12.3} {mark} {text}").unwrap_or_default();
    }
}

impl Drop for Host {
    /// What a scenario did not expect is an error of the core, or of the scenario.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- transcript ---\n{}", self.transcript);
        } else {
            self.expect_nothing();
        }
    }
}
