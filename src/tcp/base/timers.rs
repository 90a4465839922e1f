//! The timers of one connection: a table of deadlines, one slot for each kind.
//!
//! Slots are independent. Where the RFCs want timers to exclude each other (SM-T-8: retransmission and persist) the
//! connection cancels the one as it sets the other; nothing in here does so behind its back.

use crate::tcp::base::time::Instant;

/// The kinds of timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Timer {
    /// The front of what is in flight is overdue (SM-T-2, RFC 6298).
    Retransmit,
    /// The peer's window is closed: time for a probe (SM-T-5, ZW-1).
    Persist,
    /// An ACK is held back (SM-T-4, SHLD-18).
    DelayedAck,
    /// A small segment is held back by the sender's silly window avoidance (SM-T-9, SWS-4).
    SwsOverride,
    /// Nobody is left to read in FIN-WAIT-2 (SM-T-7).
    FinWait2,
    /// No progress for so long that the connection is given up (SM-T-1, MUST-20), or silence for so long that the peer
    /// is probed (SM-T-6).
    GiveUp,
}

impl Timer {
    /// All kinds, in slot order.
    pub const ALL: [Self; 6] =
        [Self::Retransmit, Self::Persist, Self::DelayedAck, Self::SwsOverride, Self::FinWait2, Self::GiveUp];
}

/// A deadline for each kind of timer, or none.
///
/// Full 64-bit deadlines: anything narrower wraps within the life of a connection and needs the current time to be read
/// back, and six words are cheap. `Instant::MAX` marks a slot that is not set.
#[derive(Clone, Debug)]
pub struct Timers {
    deadlines: [Instant; Timer::ALL.len()],
}

impl Timers {
    /// No timer is set.
    #[must_use]
    pub const fn new() -> Self {
        Self { deadlines: [Instant::MAX; Timer::ALL.len()] }
    }

    /// Sets `timer` to fire at `at`, in place of any earlier setting. `Instant::MAX` is never: the same as cancelling.
    #[inline]
    pub fn set(&mut self, timer: Timer, at: Instant) {
        self.deadlines[timer as usize] = at;
    }

    /// Sets `timer` unless it is set already.
    #[inline]
    pub fn set_if_unset(&mut self, timer: Timer, at: Instant) {
        if !self.is_set(timer) {
            self.set(timer, at);
        }
    }

    /// Stops `timer`; no effect when it is not set.
    #[inline]
    pub fn cancel(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = Instant::MAX;
    }

    /// Stops all timers.
    pub fn cancel_all(&mut self) {
        *self = Self::new();
    }

    /// When `timer` fires, if it is set.
    #[must_use]
    #[inline]
    pub fn get(&self, timer: Timer) -> Option<Instant> {
        Some(self.deadlines[timer as usize]).filter(|at| *at != Instant::MAX)
    }

    /// Whether `timer` is set.
    #[must_use]
    #[inline]
    pub fn is_set(&self, timer: Timer) -> bool {
        self.deadlines[timer as usize] != Instant::MAX
    }

    /// The earliest deadline of all.
    #[must_use]
    #[inline]
    pub fn next(&self) -> Option<Instant> {
        let earliest = self.deadlines.iter().fold(Instant::MAX, |earliest, at| earliest.min(*at));
        Some(earliest).filter(|at| *at != Instant::MAX)
    }

    /// Takes out the timer that is due the longest, if any is due at `now`. Call until `None`.
    #[must_use]
    pub fn pop_expired(&mut self, now: Instant) -> Option<Timer> {
        let due = self.next().filter(|at| *at <= now)?;
        let timer = Timer::ALL.into_iter().find(|timer| self.deadlines[*timer as usize] == due)?;
        self.cancel(timer);
        Some(timer)
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn slots_stand_in_the_order_of_the_list() {
        for (slot, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, slot);
        }
        assert!(size_of::<Timers>() <= 48);
    }

    #[test]
    fn timers_do_not_touch_each_other() {
        let mut timers = Timers::new();
        assert_eq!(timers.next(), None);
        for (millis, timer) in Timer::ALL.into_iter().enumerate() {
            timers.set(timer, at(millis as u64));
        }
        timers.cancel(Timer::Persist);
        timers.cancel(Timer::Persist);
        for (millis, timer) in Timer::ALL.into_iter().enumerate() {
            let expected = (timer != Timer::Persist).then(|| at(millis as u64));
            assert_eq!(timers.get(timer), expected);
            assert_eq!(timers.is_set(timer), expected.is_some());
        }
    }

    #[test]
    fn expired_timers_come_out_in_order_and_only_once() {
        let mut timers = Timers::new();
        timers.set(Timer::DelayedAck, at(40));
        timers.set(Timer::Retransmit, at(200));
        timers.set(Timer::GiveUp, at(10));
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.pop_expired(at(9)), None, "never early");
        assert_eq!(timers.pop_expired(at(50)), Some(Timer::GiveUp));
        assert_eq!(timers.pop_expired(at(50)), Some(Timer::DelayedAck));
        assert_eq!(timers.pop_expired(at(50)), None);
        assert_eq!(timers.pop_expired(at(200)), Some(Timer::Retransmit), "due exactly at its time");
        assert_eq!(timers.next(), None);
        assert_eq!(timers.pop_expired(Instant::MAX), None);
    }

    #[test]
    fn setting_moves_a_timer_and_set_if_unset_does_not() {
        let mut timers = Timers::default();
        timers.set_if_unset(Timer::Retransmit, at(100));
        timers.set_if_unset(Timer::Retransmit, at(50));
        assert_eq!(timers.get(Timer::Retransmit), Some(at(100)));
        timers.set(Timer::Retransmit, at(50));
        assert_eq!(timers.get(Timer::Retransmit), Some(at(50)));
        timers.set(Timer::Retransmit, Instant::MAX);
        assert!(!timers.is_set(Timer::Retransmit));
        timers.set(Timer::FinWait2, at(1));
        timers.cancel_all();
        assert_eq!(timers.next(), None);
    }
}
