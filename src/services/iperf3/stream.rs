//! One data connection of a test: sink or source, its counters and its pace.
//!
//! It knows its connection and its plan, nothing of the test's course: it is started and stopped from outside.

use super::protocol::{Params, StreamResult};
use crate::flow::ShardId;
use crate::shard::{ConnId, Io, budget};
use crate::tcp::time::{Duration, Instant};

/// What sources send. Short enough to stay in a processor's cache, long enough for two full frames.
static BLOCK: [u8; 128 * 1024] = [b't'; 128 * 1024];

/// Timers of paced streams are no finer.
const TICK_MIN: Duration = Duration::from_millis(1);
const TICK_MAX: Duration = Duration::from_secs(1);
/// A smooth pace sends at least so much at once: two segments.
const SMOOTH_MIN: u64 = 2 * 1460;

/// A connection, told from those of other shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) shard: ShardId,
    pub(super) conn: ConnId,
}

/// The counters of a stream in the middle of a test.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    /// Octets moved, omitted ones included.
    pub(super) octets: u64,
    /// Segments sent again since the connection began.
    pub(super) retransmits: u64,
    /// Congestion window in octets.
    pub(super) cwnd: u32,
}

/// What a stream is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// We send; otherwise we receive.
    pub(super) sends: bool,
    /// The client does not drain its side after the end: reset instead of closing.
    pub(super) abort_at_end: bool,
    /// No Nagle algorithm.
    pub(super) nodelay: bool,
    /// Not counted at the start.
    pub(super) omit: Duration,
    /// Octets sent at once: a whole number of blocks (or what a smooth pace makes of it).
    unit: u64,
    /// Limit in bit/s.
    rate: Option<u64>,
    /// Shortest time between two looks at the limit.
    tick: Duration,
}

impl Plan {
    /// The plan of the stream opened as number `index`.
    pub(super) fn new(params: &Params, index: usize) -> Self {
        let sends = params.sends(index);
        let len = u64::from(params.len);
        let some = |rate: u64| (rate != 0).then_some(rate);
        let (rate, unit) = match (some(params.bandwidth), some(params.fqrate)) {
            (None, None) => (None, (BLOCK.len() as u64 / len).max(1) * len),
            (Some(blocks), smooth) if smooth.is_none_or(|smooth| blocks <= smooth) => {
                (Some(blocks), len.saturating_mul(u64::from(params.burst.max(1))))
            }
            (_, smooth) => (smooth, smooth.map_or(SMOOTH_MIN, |rate| (rate / 8_000).clamp(SMOOTH_MIN, 64 * 1024))),
        };
        Self {
            sends,
            abort_at_end: sends && params.bidirectional,
            nodelay: params.nodelay,
            omit: Duration::from_secs(u64::from(params.omit)),
            unit,
            rate,
            tick: Duration::from_micros(u64::from(params.pacing_timer)).clamp(TICK_MIN, TICK_MAX),
        }
    }
}

/// A token bucket that lends one unit: sending is allowed while the balance is not negative, and costs a unit.
#[derive(Debug)]
struct Bucket {
    /// Octets a nanosecond.
    rate: f64,
    /// Octets that may be sent.
    balance: f64,
    /// What a pause can save up: a second's worth, at least a unit.
    depth: f64,
    filled: Instant,
}

impl Bucket {
    fn new(bits_per_second: u64, unit: u64, now: Instant) -> Self {
        let rate = bits_per_second as f64 / 8e9;
        Self { rate, balance: 0.0, depth: (rate * 1e9).max(unit as f64), filled: now }
    }

    fn fill(&mut self, now: Instant) {
        let span = now.saturating_since(self.filled).as_nanos() as f64;
        self.balance = (self.balance + span * self.rate).min(self.depth);
        self.filled = now;
    }

    /// How long until the balance is not negative.
    fn wait(&self) -> Duration {
        // The cast saturates; one nanosecond more makes up for rounding.
        Duration::from_nanos((-self.balance / self.rate) as u64).saturating_add(Duration::from_nanos(1))
    }
}

/// A data connection with its place in a test.
#[derive(Debug)]
pub(super) struct Stream {
    /// The control connection.
    pub(super) leader: Address,
    /// Place in the order of opening.
    pub(super) index: u16,
    plan: Plan,
    running: bool,
    bucket: Option<Bucket>,
    /// Rest of the unit being sent.
    unit_left: u64,
    /// When the timer goes off that is set; one at a time.
    timer: Option<Instant>,
    octets: u64,
    /// When counting begins, until it has.
    count_from: Option<Instant>,
    octets_before: u64,
    retransmits_before: u64,
}

impl Stream {
    /// A stream that waits for its start.
    pub(super) fn new(leader: Address, index: u16, plan: Plan) -> Self {
        Self {
            leader,
            index,
            plan,
            running: false,
            bucket: None,
            unit_left: 0,
            timer: None,
            octets: 0,
            count_from: None,
            octets_before: 0,
            retransmits_before: 0,
        }
    }

    /// The test runs since `since`.
    pub(super) fn start(&mut self, io: &mut dyn Io, conn: ConnId, since: Instant, token: u64) {
        self.running = true;
        self.count_from = Some(since.saturating_add(self.plan.omit));
        self.bucket = self.plan.rate.map(|rate| Bucket::new(rate, self.plan.unit, io.now()));
        self.readable(io, conn);
        self.send(io, conn, token);
    }

    /// Octets have come in. A source throws them away uncounted, for there should be none.
    pub(super) fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        if !self.running {
            return;
        }
        self.begin_counting(io, conn);
        let unread = io.unread(conn);
        io.consume(conn, unread);
        if !self.plan.sends {
            self.octets += u64::from(unread);
        }
    }

    /// Sends what pace and room allow, or a good part of it. If it is the pace that forbids more, the timer is set to
    /// `token`; if it is the room, the next call comes when there is some; if it was much for one call, soon.
    pub(super) fn send(&mut self, io: &mut dyn Io, conn: ConnId, token: u64) {
        if !self.running || !self.plan.sends {
            return;
        }
        self.begin_counting(io, conn);
        let now = io.now();
        if let Some(bucket) = &mut self.bucket {
            bucket.fill(now);
        }
        for _ in 0..budget::STEPS {
            if self.unit_left == 0 {
                let mut units = 1;
                if let Some(bucket) = &mut self.bucket {
                    if bucket.balance < 0.0 {
                        if self.timer.is_none() {
                            let at = now.saturating_add(bucket.wait().max(self.plan.tick));
                            self.timer = Some(at);
                            io.set_timer(at, token);
                        }
                        return;
                    }
                    // Units that are due at once go at once: they may be of one octet each.
                    let due = (bucket.balance / self.plan.unit as f64) as u64 + 1;
                    units = due.min((BLOCK.len() as u64 / self.plan.unit).max(1));
                    bucket.balance -= (units * self.plan.unit) as f64;
                }
                self.unit_left = units * self.plan.unit;
            }
            let piece = self.unit_left.min(BLOCK.len() as u64) as usize;
            let taken = io.send_static(conn, &BLOCK[..piece]);
            self.octets += taken as u64;
            self.unit_left -= taken as u64;
            if taken < piece {
                return;
            }
        }
        io.call_again(conn);
    }

    /// A timer has gone off, perhaps not ours.
    pub(super) fn timer(&mut self, io: &mut dyn Io, conn: ConnId, token: u64) {
        if self.timer.is_some_and(|at| at <= io.now()) {
            self.timer = None;
            self.send(io, conn, token);
        }
    }

    /// The counters as they stand.
    pub(super) fn sample(&mut self, io: &dyn Io, conn: ConnId) -> Sample {
        self.begin_counting(io, conn);
        let (retransmits, cwnd) = io.info(conn).map_or((0, 0), |info| (info.retransmits, info.cwnd));
        Sample { octets: self.octets, retransmits, cwnd }
    }

    /// The end: closes the connection and tells what was counted.
    pub(super) fn stop(&mut self, io: &mut dyn Io, conn: ConnId) -> StreamResult {
        self.readable(io, conn);
        let mut result = self.result(io, conn);
        self.running = false;
        if self.plan.abort_at_end {
            // What the reset throws away was not sent.
            result.octets = result.octets.saturating_sub(u64::from(io.unsent(conn)));
            io.abort(conn);
        } else {
            io.close(conn);
        }
        result
    }

    /// What was counted so far.
    pub(super) fn result(&mut self, io: &dyn Io, conn: ConnId) -> StreamResult {
        self.begin_counting(io, conn);
        let counts = self.running && self.count_from.is_none();
        StreamResult {
            octets: if counts { self.octets - self.octets_before } else { 0 },
            retransmits: self.plan.sends.then(|| match io.info(conn) {
                Some(info) if counts => info.retransmits.saturating_sub(self.retransmits_before),
                _ => 0,
            }),
        }
    }

    /// Once the omitted seconds are over: remembers where the counters stood. Called before they move, so that it needs
    /// no timer.
    fn begin_counting(&mut self, io: &dyn Io, conn: ConnId) {
        if self.count_from.is_some_and(|from| from <= io.now()) {
            self.count_from = None;
            self.octets_before = self.octets;
            self.retransmits_before = io.info(conn).map_or(0, |info| info.retransmits);
        }
    }
}
