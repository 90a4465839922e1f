//! Timestamps of RFC 7323, and the clock that ours come from.

use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::Instant;

/// A value of a timestamp clock, ours or the peer's: a point on a circle of 2^32 ticks, ordered as [`SeqNum`]s are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamp(pub u32);

impl Timestamp {
    /// Whether `self` is older than `other`.
    #[must_use]
    #[inline]
    pub const fn lt(self, other: Self) -> bool {
        SeqNum(self.0).lt(SeqNum(other.0))
    }

    /// Whether `self` is as new as `other`, or newer.
    #[must_use]
    #[inline]
    pub const fn ge(self, other: Self) -> bool {
        SeqNum(self.0).ge(SeqNum(other.0))
    }

    /// Ticks from `earlier` to `self`.
    #[must_use]
    #[inline]
    pub const fn ticks_since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

/// Our timestamp clock: 1 ms a tick (RFC7323-5.4a), begun at an offset that each pair of addresses has for itself
/// (RFC7323-5.4b).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimestampClock {
    offset: u32,
}

impl TimestampClock {
    /// The clock that shows `offset` at [`Instant::ZERO`].
    #[must_use]
    pub const fn new(offset: u32) -> Self {
        Self { offset }
    }

    /// What it shows at `now`.
    #[must_use]
    #[inline]
    pub const fn at(self, now: Instant) -> Timestamp {
        Timestamp((now.as_millis() as u32).wrapping_add(self.offset))
    }
}
