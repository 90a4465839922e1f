//! The receive side's numbers: what arrived in order, what we allow the peer to send, and how large that shall be.
//!
//! Arithmetic over the sequence space and the window policy (SWS avoidance, buffer auto-tuning); what to do with a
//! segment is decided in `input.rs`.

use super::send::above;
use super::seq::SeqNum;
use super::time::{Duration, Instant};

/// Receive Sequence Space (RFC 9293 3.3.1, Figure 4), with our own marks.
///
/// ```text
///                       1          2          3
///                   ----------|----------|----------
///                          RCV.NXT    edge
///
///        1 - received, acknowledged or about to be
///        2 - the window: may arrive, in any order
///        3 - not yet allowed
///
///        edge    the largest RCV.NXT + RCV.WND ever advertised (SM-SEQ-6). It never moves left (SHLD-14): when the
///                buffer fills, RCV.NXT moves up to it and the window closes. RCV.WND is `edge - RCV.NXT`.
///        acked   Last.ACK.sent: RCV.NXT as the peer last heard of it (RFC7323-4.3a).
/// ```
#[derive(Clone, Debug)]
#[repr(C)]
pub(super) struct RecvSequenceSpace {
    /// RCV.NXT: next octet expected, the peer's FIN included once it was processed.
    pub(super) nxt: SeqNum,
    /// Right edge of the window.
    pub(super) edge: SeqNum,
    /// Last.ACK.sent.
    pub(super) acked: SeqNum,
    /// RCV.USER: octets in order that the user has not taken.
    pub(super) unread: u32,
    /// RCV.BUFF: how much the user may leave unread.
    pub(super) buffer: u32,
    /// TS.Recent (RFC 7323 4.3). Without timestamps: the right edge when the window last [turned over](Self::turn).
    pub(super) ts_recent: u32,
    /// When TS.Recent was set, in seconds (RFC7323-5.5). Without timestamps: when that was, in ms.
    pub(super) ts_recent_at: u32,
    /// What is added to the clock for our timestamps (RFC7323-5.4b).
    pub(super) ts_offset: u32,
    /// Shortest echo time in this measuring period, in timestamp ticks; `u32::MAX` before the first. Without timestamps:
    /// the least time in which the window turned over, in ms.
    pub(super) echo_ticks: u32,
    /// RMSS: largest segment the peer sends, options subtracted; what two of make an ACK due (SHLD-19).
    pub(super) mss: u16,
    /// Rcv.Wind.Shift.
    pub(super) shift: u8,
    /// Data segments since the last ACK.
    pub(super) segments: u8,
}

/// TS.Recent as it was a second or two ago: what PAWS compares with (RFC 7323 5.3).
///
/// By R1 a segment is old that is one tick behind TS.Recent. But a retransmission brings TS.Recent up to its own time, and
/// where the path reorders, what left before it still comes after it: all of that would be lost once more, and sent again
/// later still. What PAWS is for is the last time around of the sequence numbers. A segment of then that fits the window of
/// now, of 2^30 octets at most, left before the peer knew that we had it, so before it saw us within 2^31 octets of where we
/// are. Hence what is as new as TS.Recent was at any place of the last 2^31 octets is of this time around. Two marks, taken
/// at most once a second, tell such a place: time enough for whatever is late, in our seconds, since nobody knows how long
/// the peer's ticks are.
#[derive(Clone, Copy, Debug)]
pub(super) struct PastStamps {
    older: PastStamp,
    newer: PastStamp,
}

#[derive(Clone, Copy, Debug)]
struct PastStamp {
    /// TS.Recent.
    val: u32,
    /// Octets received in order until then, in units of [`PAST_UNIT`].
    received: u32,
}

/// So that a mark that is compared with is never a whole turn of its counter old: that is a terabyte.
const PAST_UNIT: u64 = 1 << 8;
/// Octets within which a timestamp tells this time around from the last.
const PAST_REACH: u64 = 1 << 31;

impl PastStamp {
    fn new(val: u32, received: u64) -> Self {
        Self { val, received: (received / PAST_UNIT) as u32 }
    }

    fn reaches(&self, received: u64) -> bool {
        u64::from(((received / PAST_UNIT) as u32).wrapping_sub(self.received)) < PAST_REACH / PAST_UNIT
    }
}

impl PastStamps {
    /// TS.Recent is `val`, and nothing is known of before.
    pub(super) fn new(val: u32, received: u64) -> Self {
        let only = PastStamp::new(val, received);
        Self { older: only, newer: only }
    }

    /// A second in which TS.Recent may change begins; until now it was `val`.
    #[cold]
    pub(super) fn turn(&mut self, val: u32, received: u64) {
        self.older = self.newer;
        self.newer = PastStamp::new(val, received);
    }

    /// The least timestamp that is not old, while TS.Recent is `recent`.
    pub(super) fn least(&self, recent: u32, received: u64) -> u32 {
        [self.older, self.newer].into_iter().find(|past| past.reaches(received)).map_or(recent, |past| past.val)
    }
}

impl RecvSequenceSpace {
    /// RCV.WND as advertised.
    #[inline]
    pub(super) fn window(&self) -> u32 {
        above(self.edge, self.nxt)
    }

    /// The round trip as the receiver alone can see it, for connections without timestamps. An octet beyond what was allowed
    /// at some time can only have been sent after the peer heard of a later window: it arrives a round trip after that
    /// time, or later when the peer does not fill the window. To be called at each reading, before that opens the window.
    pub(super) fn turn(&mut self, now: Instant) {
        if self.nxt.gt(SeqNum(self.ts_recent)) {
            let at = now.as_millis() as u32;
            self.echo_ticks = self.echo_ticks.min(at.wrapping_sub(self.ts_recent_at));
            self.ts_recent = self.edge.0;
            self.ts_recent_at = at;
        }
    }

    /// How many ranges may be held out of order: as many as there are segments in the buffer, so that no pattern of losses
    /// makes us refuse what fits. Of segments of the size that we may send: where the peer's link carries less than
    /// ours, its segments are not as large as we would take them. Smaller ones get no more (OPS-26).
    pub(super) fn most_ranges(&self, send_mss: u16) -> usize {
        const LEAST: u32 = 64;
        // To sort one in moves 64 KB at most.
        const MOST: u32 = 16_384;
        (self.buffer / u32::from(self.mss.min(send_mss).max(1))).clamp(LEAST, MOST) as usize
    }

    /// Least gain that moves the right edge (SWS-5, MUST-39).
    fn least_gain(&self) -> u32 {
        (self.buffer / 2).min(u32::from(self.mss)).max(1)
    }

    /// Octets by which the edge could move now.
    pub(super) fn gain(&self) -> u32 {
        let window = self.buffer.saturating_sub(self.unread).min(65_535 << self.shift);
        above(self.nxt + (window >> self.shift << self.shift), self.edge)
    }

    /// The window field for a segment that leaves now; moves the edge if that is worth it.
    #[inline]
    pub(super) fn advertise(&mut self) -> u16 {
        let gain = self.gain();
        if gain >= self.least_gain() {
            self.edge += gain;
        }
        (self.window() >> self.shift).min(65_535) as u16
    }

    /// Whether the window opened so far that the peer must hear of it at once (SWS-6): it was closed for all practical
    /// purposes, or much was gained. Less than a quarter of a large buffer is not worth a segment of its own; the
    /// window then still has most of its size.
    pub(super) fn worth_an_update(&self) -> bool {
        let gain = self.gain();
        let closed = self.window() < u32::from(self.mss);
        let much = (2 * u32::from(self.mss)).max(self.buffer / 4).min(self.buffer / 2).max(1);
        (closed && gain >= self.least_gain()) || gain >= much
    }
}

/// Grows the receive buffer with the rate at which the user reads: dynamic right-sizing (OPS-15).
///
/// In each round trip the octets read are counted. When they were more than in any round trip before, the buffer
/// becomes twice that, plus room for the growth that a slow start brings in the meantime.
#[derive(Clone, Debug)]
pub(super) struct RightSizing {
    /// Begin of this measuring period.
    start: Instant,
    /// Octets read in it.
    copied: u32,
    /// Octets read in the best period so far.
    best: u32,
}

impl RightSizing {
    /// Begins to measure; what makes the buffer grow is more than `initial` octets read in a round trip, halved.
    pub(super) fn new(initial: u32, now: Instant) -> Self {
        Self { start: now, copied: 0, best: (initial / 2).max(1) }
    }

    /// The user has read `octets`. `rtt` is the round trip as far as known; gives the size the buffer should have, when
    /// a period ended in which more was read than ever before.
    pub(super) fn on_read(&mut self, octets: u32, mss: u16, rtt: Option<Duration>, now: Instant) -> Option<u32> {
        self.copied = self.copied.saturating_add(octets);
        // A period must not be too short to hold a segment; without any estimate, take a longish one.
        let period = rtt.unwrap_or(Duration::from_millis(100)).max(Duration::from_micros(50));
        if now - self.start < period {
            return None;
        }
        let copied = core::mem::take(&mut self.copied);
        self.start = now;
        if copied <= self.best {
            return None;
        }
        let base = 2 * u64::from(copied) + 16 * u64::from(mss);
        let growth = base.saturating_mul(u64::from(copied - self.best)) / u64::from(self.best);
        self.best = copied;
        Some(u32::try_from(growth.saturating_mul(2).saturating_add(base)).unwrap_or(u32::MAX))
    }

    /// Whether a measuring period ends with this reading (so that what is measured beside it starts anew).
    pub(super) fn started_at(&self) -> Instant {
        self.start
    }
}

#[cfg(test)]
#[path = "recv_tests.rs"]
mod tests;
