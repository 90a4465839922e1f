//! The timestamps of a connection (RFC 7323 3 to 5): what was negotiated, TS.Recent, and what PAWS compares with.

use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::base::timestamp::{Timestamp, TimestampClock};
use crate::wire::options::Timestamps;

/// TS.Recent is not trusted after this time without an update (RFC7323-5.5): 24 days.
const TS_RECENT_LIFE_SECS: u32 = 24 * 24 * 3_600;

/// No round trip was seen in this measuring period.
const NONE: u32 = u32::MAX;

/// What was negotiated of timestamps. Either way a receiver that sends no data itself sees round trips, for the size of
/// its buffer.
#[derive(Clone, Copy, Debug)]
pub(super) enum TimestampState {
    /// They are on every segment.
    Enabled {
        /// The peer left them out of what completed the handshake: they may be missing.
        may_lack: bool,
        /// TS.Recent (RFC 7323 4.3).
        recent: Timestamp,
        /// When TS.Recent was set, in seconds (RFC7323-5.5).
        recent_at: u32,
        /// The clock of ours.
        clock: TimestampClock,
        /// Shortest echo time in this measuring period, in ticks.
        echo_ticks: u32,
    },
    /// They are on none.
    Disabled {
        /// The right edge when the window last turned over: when what came lay beyond the edge of before.
        edge: SeqNum,
        /// When that was, in ms.
        turned_at: u32,
        /// The least time in which the window turned over, in ms.
        least: u32,
    },
}

/// What the timestamps of a segment say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StampCheck {
    /// None are in use.
    Unused,
    /// They are as new as TS.Recent, or newer.
    Fresh(Timestamps),
    /// They are older than TS.Recent.
    Older(Timestamp),
    /// They are missing; `excused`: the peer may leave them out.
    Missing {
        /// Whether it may.
        excused: bool,
    },
}

impl TimestampState {
    /// What a handshake settled: the peer's timestamp where both offered them, and our clock. The window reaches up to
    /// `edge`.
    pub(super) fn new(recent: Option<Timestamp>, clock: TimestampClock, edge: SeqNum, now: Instant) -> Self {
        match recent {
            Some(recent) => {
                Self::Enabled { may_lack: false, recent, recent_at: now.as_secs() as u32, clock, echo_ticks: NONE }
            }
            None => Self::Disabled { edge, turned_at: now.as_millis() as u32, least: NONE },
        }
    }

    /// Whether they are in use.
    #[inline]
    pub(super) fn is_enabled(&self) -> bool {
        matches!(self, Self::Enabled { .. })
    }

    /// The clock of ours; any where they are not in use.
    #[inline]
    pub(super) fn clock(&self) -> TimestampClock {
        match self {
            Self::Enabled { clock, .. } => *clock,
            Self::Disabled { .. } => TimestampClock::default(),
        }
    }

    /// Those of a segment that leaves now (RFC7323-3.2a).
    #[inline]
    pub(super) fn outgoing(&self, now: Instant) -> Option<Timestamps> {
        match self {
            Self::Enabled { clock, recent, .. } => Some(Timestamps { val: clock.at(now).0, ecr: recent.0 }),
            Self::Disabled { .. } => None,
        }
    }

    /// What is left of them in TIME-WAIT, where they are in use: TS.Recent, the clock of ours, and whether the peer may
    /// leave them out.
    pub(super) fn last(&self) -> Option<(Timestamp, TimestampClock, bool)> {
        match *self {
            Self::Enabled { may_lack, recent, clock, .. } => Some((recent, clock, may_lack)),
            Self::Disabled { .. } => None,
        }
    }

    /// What those of a segment say of it.
    #[inline]
    pub(super) fn check(&self, stamps: Option<Timestamps>) -> StampCheck {
        match (self, stamps) {
            (Self::Disabled { .. }, _) => StampCheck::Unused,
            (Self::Enabled { may_lack, .. }, None) => StampCheck::Missing { excused: *may_lack },
            (Self::Enabled { recent, .. }, Some(stamps)) if Timestamp(stamps.val).lt(*recent) => {
                StampCheck::Older(Timestamp(stamps.val))
            }
            (Self::Enabled { .. }, Some(stamps)) => StampCheck::Fresh(stamps),
        }
    }

    /// Whether `stamp`, older than TS.Recent, is so old that its segment is dropped (RFC7323-5.3a, with room for what
    /// is overtaken: [`PastStamps`]); `received` octets have come in order.
    pub(super) fn is_old(&self, stamp: Timestamp, past: &PastStamps, received: u64, now: Instant) -> bool {
        let Self::Enabled { recent, recent_at, .. } = self else { return false };
        // Overtaken is not old; it moves TS.Recent nowhere (RFC7323-4.3a). After 24 days `renew` takes it over, once
        // the segment is acceptable (RFC7323-5.5).
        let outlived = (now.as_secs() as u32).wrapping_sub(*recent_at) > TS_RECENT_LIFE_SECS;
        stamp.lt(past.least(*recent, received)) && !outlived
    }

    /// TS.Recent has become invalid in 24 days, and this acceptable segment renews it (RFC7323-5.5). Not one that is
    /// out of the window: whoever forges that could set a timestamp which the peer does not reach for weeks.
    pub(super) fn renew(&mut self, stamp: Timestamp, past: &mut PastStamps, received: u64, now: Instant) {
        let Self::Enabled { recent, recent_at, .. } = self else { return };
        if (now.as_secs() as u32).wrapping_sub(*recent_at) > TS_RECENT_LIFE_SECS {
            *recent = stamp;
            *past = PastStamps::new(stamp, received);
        }
    }

    /// A segment begins where an ACK was sent for, or below: its timestamp becomes TS.Recent, if it is as new
    /// (RFC7323-4.3a).
    #[inline]
    pub(super) fn update(&mut self, stamp: Timestamp, past: &mut PastStamps, received: u64, now: Instant) {
        let Self::Enabled { recent, recent_at, .. } = self else { return };
        if stamp.ge(*recent) {
            let second = now.as_secs() as u32;
            if *recent_at != second {
                past.turn(*recent, received);
            }
            *recent = stamp;
            *recent_at = second;
        }
    }

    /// A data segment echoes `echo`.
    #[inline]
    pub(super) fn on_echo(&mut self, echo: Timestamp, now: Instant) {
        if let Self::Enabled { clock, echo_ticks, .. } = self {
            *echo_ticks = (*echo_ticks).min(clock.at(now).ticks_since(echo));
        }
    }

    /// The shortest round trip of this measuring period, as the receiver alone can see it. Below two ticks it says
    /// nothing.
    ///
    /// Without timestamps the window tells it. An octet beyond what was allowed at some time can only have been sent
    /// after the peer heard of a later window: it arrives a round trip after that time, or later when the peer does not
    /// fill the window. To be called at each reading, before that opens the window, which reaches from `nxt` to
    /// `right`.
    #[inline]
    pub(super) fn round_trip(&mut self, nxt: SeqNum, right: SeqNum, now: Instant) -> Option<Duration> {
        let ticks = match self {
            Self::Enabled { echo_ticks, .. } => *echo_ticks,
            Self::Disabled { edge, turned_at, least } => {
                if nxt.gt(*edge) {
                    let at = now.as_millis() as u32;
                    *least = (*least).min(at.wrapping_sub(*turned_at));
                    *edge = right;
                    *turned_at = at;
                }
                *least
            }
        };
        match ticks {
            0 | 1 | NONE => None,
            ticks => Some(Duration::from_millis(u64::from(ticks))),
        }
    }

    /// A measuring period ends. Without timestamps there are too few round trips to measure them anew.
    #[inline]
    pub(super) fn end_period(&mut self) {
        if let Self::Enabled { echo_ticks, .. } = self {
            *echo_ticks = NONE;
        }
    }
}

/// TS.Recent as it was a second or two ago: what PAWS compares with (RFC 7323 5.3).
///
/// By R1 a segment is old that is one tick behind TS.Recent. But a retransmission brings TS.Recent up to its own time,
/// and where the path reorders, what left before it still comes after it: all of that would be lost once more, and sent
/// again later still. What PAWS is for is the last time around of the sequence numbers. A segment of then that fits the
/// window of now, of 2^30 octets at most, left before the peer knew that we had it, so before it saw us within 2^31
/// octets of where we are. Hence what is as new as TS.Recent was at any place of the last 2^31 octets is of this time
/// around. Two marks, taken at most once a second, tell such a place: time enough for whatever is late, in our seconds,
/// since nobody knows how long the peer's ticks are.
#[derive(Clone, Copy, Debug)]
pub(super) struct PastStamps {
    older: PastStamp,
    newer: PastStamp,
}

#[derive(Clone, Copy, Debug)]
struct PastStamp {
    /// TS.Recent.
    val: Timestamp,
    /// Octets received in order until then, in units of [`PAST_UNIT`].
    received: u32,
}

/// So that a mark that is compared with is never a whole turn of its counter old: that is a terabyte.
const PAST_UNIT: u64 = 1 << 8;
/// Octets within which a timestamp tells this time around from the last.
const PAST_REACH: u64 = 1 << 31;

impl PastStamp {
    fn new(val: Timestamp, received: u64) -> Self {
        Self { val, received: (received / PAST_UNIT) as u32 }
    }
}

impl PastStamps {
    /// TS.Recent is `val`, and nothing is known of before.
    pub(super) fn new(val: Timestamp, received: u64) -> Self {
        let only = PastStamp::new(val, received);
        Self { older: only, newer: only }
    }

    /// A second in which TS.Recent may change begins; until now it was `val`.
    #[cold]
    fn turn(&mut self, val: Timestamp, received: u64) {
        self.older = self.newer;
        self.newer = PastStamp::new(val, received);
    }

    /// The least timestamp that is not old, while TS.Recent is `recent`.
    fn least(&self, recent: Timestamp, received: u64) -> Timestamp {
        let now = (received / PAST_UNIT) as u32;
        let reaches = |past: &PastStamp| u64::from(now.wrapping_sub(past.received)) < PAST_REACH / PAST_UNIT;
        [self.older, self.newer].into_iter().find(reaches).map_or(recent, |past| past.val)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC7323-5.3a: overtaken is what is as new as TS.Recent was a second ago or two; old is what is not, and with
    /// 2^31 octets in between everything before TS.Recent.
    #[test]
    fn paws_leaves_time_to_what_is_late_and_none_to_the_last_time_around() {
        for start in [0_u32, u32::MAX - 1_500, i32::MAX as u32 - 1_500] {
            let at = |ticks: u32| Timestamp(start.wrapping_add(ticks));
            let mut past = PastStamps::new(at(0), 0);
            assert_eq!(past.least(at(900), 5_000), at(0), "nothing is older than the handshake");
            past.turn(at(900), 10_000);
            assert_eq!(past.least(at(1_100), 20_000), at(0));
            past.turn(at(1_900), 30_000);
            assert_eq!(past.least(at(2_000), 40_000), at(900));
            // At 2 Gbit/s and more the marks are soon too far away.
            let far = 1 << 31;
            assert_eq!(past.least(at(2_000), 10_000 + far - 256), at(900));
            assert_eq!(past.least(at(2_000), 10_000 + far), at(1_900));
            assert_eq!(past.least(at(2_000), 30_000 + far), at(2_000));
            past.turn(at(2_000), 1 << 50);
            past.turn(at(3_000), (1 << 50) + 10_000);
            assert_eq!(past.least(at(3_100), (1 << 50) + 20_000), at(2_000));
        }
    }
}
