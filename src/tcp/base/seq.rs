//! Sequence numbers and their circular order (RFC 9293 3.4).
//!
//! Nothing but the arithmetic belongs here; what a number means is decided where it is used.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};

/// A TCP sequence number: a point on a circle of 2^32.
///
/// There is no total order on a circle, so `Ord` is left out on purpose. Two numbers are compared by the sign of the
/// distance between them, the shorter way round:
///
/// ```text
///  plain:     0 ----- a ------------- b ----- 2^32        b - a <  2^31   =>  a before b
///
///  wrapped:   0 ----- b ------------- a ----- 2^32        b - a  wraps to the short arc over 2^32 = 0:
///             ~~~~~~~~'               '~~~~~~~~           a before b although a > b as integers
///
///  opposite:  0 ----- a ------------- a + 2^31 --         exactly half-way: neither way is shorter; both
///                                                         `a.lt(b)` and `b.lt(a)` hold
/// ```
///
/// This is sound for numbers less than 2^31 apart, which the window limit of 2^30 (RFC 7323 2.3) guarantees for all
/// numbers of one connection that are alive at the same time.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// Whether `self` lies before `other` (`SEG.SEQ < RCV.NXT` in RFC words).
    #[must_use]
    #[inline]
    pub const fn lt(self, other: Self) -> bool {
        self.distance(other) < 0
    }

    /// Whether `self` lies before `other` or is the same.
    #[must_use]
    #[inline]
    pub const fn le(self, other: Self) -> bool {
        self.distance(other) <= 0
    }

    /// Whether `self` lies behind `other`.
    #[must_use]
    #[inline]
    pub const fn gt(self, other: Self) -> bool {
        other.lt(self)
    }

    /// Whether `self` lies behind `other` or is the same.
    #[must_use]
    #[inline]
    pub const fn ge(self, other: Self) -> bool {
        other.le(self)
    }

    /// Whether `self` lies in the half-open arc `[start, end)`; an arc with `start == end` is empty.
    #[must_use]
    #[inline]
    pub const fn in_range(self, start: Self, end: Self) -> bool {
        self.0.wrapping_sub(start.0) < end.0.wrapping_sub(start.0)
    }

    /// The later one of two numbers.
    #[must_use]
    #[inline]
    pub const fn later(self, other: Self) -> Self {
        if self.lt(other) { other } else { self }
    }

    /// The earlier one of two numbers.
    #[must_use]
    #[inline]
    pub const fn earlier(self, other: Self) -> Self {
        if self.lt(other) { self } else { other }
    }

    /// Octets from `low` up to `self`; 0 where `self` is not above `low`.
    #[must_use]
    #[inline]
    pub const fn above(self, low: Self) -> u32 {
        let distance = self.distance(low);
        if distance > 0 { distance as u32 } else { 0 }
    }

    /// `self - other` the shorter way round; negative when `self` lies before `other`.
    #[must_use]
    #[inline]
    const fn distance(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }
}

impl Add<u32> for SeqNum {
    type Output = Self;

    #[inline]
    fn add(self, octets: u32) -> Self {
        Self(self.0.wrapping_add(octets))
    }
}

impl AddAssign<u32> for SeqNum {
    #[inline]
    fn add_assign(&mut self, octets: u32) {
        *self = *self + octets;
    }
}

impl Sub<u32> for SeqNum {
    type Output = Self;

    #[inline]
    fn sub(self, octets: u32) -> Self {
        Self(self.0.wrapping_sub(octets))
    }
}

impl Sub for SeqNum {
    type Output = i32;

    #[inline]
    fn sub(self, other: Self) -> i32 {
        self.distance(other)
    }
}

impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeqNum({})", self.0)
    }
}

impl fmt::Display for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Anchors where wrapping mistakes show.
    fn anchor() -> impl Strategy<Value = u32> {
        prop_oneof![
            any::<u32>(),
            0..1000_u32,
            (u32::MAX - 1000)..=u32::MAX,
            (i32::MAX as u32 - 1000)..(i32::MAX as u32 + 1000),
        ]
    }

    #[test]
    fn order_holds_across_the_wrap() {
        let a = SeqNum(u32::MAX - 1);
        let b = a + 3;
        assert_eq!(b, SeqNum(1));
        assert!(a.lt(b) && a.le(b) && b.gt(a) && b.ge(a));
        assert!(!b.lt(a) && !b.le(a) && !a.gt(b) && !a.ge(b));
        assert_eq!(b - a, 3);
        assert_eq!(a - b, -3);
        assert_eq!(a.later(b), b);
        assert_eq!(a.earlier(b), a);
    }

    #[test]
    fn exactly_half_way_round_is_before_on_both_sides() {
        let a = SeqNum(5);
        let b = a + 0x8000_0000;
        assert!(a.lt(b) && b.lt(a));
    }

    #[test]
    fn ranges_are_half_open() {
        let (start, end) = (SeqNum(u32::MAX), SeqNum(2));
        assert!(SeqNum(u32::MAX).in_range(start, end));
        assert!(SeqNum(1).in_range(start, end));
        assert!(!SeqNum(2).in_range(start, end));
        assert!(!SeqNum(u32::MAX - 1).in_range(start, end));
        assert!(!start.in_range(start, start));
    }

    proptest! {
        /// Against a line of i64 positions: the true position is kept beside the truncated one.
        #[test]
        fn agrees_with_an_unbounded_line(base in anchor(), step in -(i64::from(i32::MAX))..=i64::from(i32::MAX)) {
            let here = i64::from(base);
            let there = here + step;
            let (a, b) = (SeqNum(here as u32), SeqNum(there as u32));
            prop_assert_eq!(i64::from(b - a), step);
            prop_assert_eq!(a.lt(b), here < there);
            prop_assert_eq!(a.le(b), here <= there);
            prop_assert_eq!(a.gt(b), here > there);
            prop_assert_eq!(a.ge(b), here >= there);
            prop_assert_eq!(a.later(b).0, here.max(there) as u32);
            prop_assert_eq!(a.earlier(b).0, here.min(there) as u32);
            if step >= 0 {
                prop_assert_eq!(a + step as u32, b);
                prop_assert_eq!(b - step as u32, a);
            }
        }

        #[test]
        fn membership_agrees_with_an_unbounded_line(
            base in anchor(), length in 0..=u32::MAX, probe in 0..=u32::MAX,
        ) {
            let start = i64::from(base);
            let end = start + i64::from(length);
            let at = start + i64::from(probe);
            let inside = SeqNum(at as u32).in_range(SeqNum(start as u32), SeqNum(end as u32));
            prop_assert_eq!(inside, at < end);
        }
    }
}
