//! Rate limit for answers to segments that prove nothing: challenge ACKs and ACKs for unacceptable segments.
//!
//! One limiter belongs to one connection. A limiter shared by connections is a side channel that tells an attacker
//! about connections which are not his (RFC5961-7b, OPS-23), so it must not be made global.

use crate::tcp::base::time::{Duration, Instant};

/// Lets one answer pass in each interval (SM-GEN-7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limiter {
    /// The next answer may leave from here on.
    open_at: Instant,
}

impl Limiter {
    /// A limiter that lets the first answer pass.
    #[must_use]
    pub const fn new() -> Self {
        Self { open_at: Instant::ZERO }
    }

    /// Whether an answer may leave now; if so, the next one may only after `interval`.
    #[must_use]
    pub fn allow(&mut self, now: Instant, interval: Duration) -> bool {
        if now < self.open_at {
            return false;
        }
        self.open_at = now + interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC5961-7a.
    #[test]
    fn ops_23_sm_gen_7_one_answer_each_interval() {
        let interval = Duration::from_millis(500);
        let mut limiter = Limiter::new();
        let mut allowed = Vec::new();
        for millis in (0..2_000).step_by(100) {
            if limiter.allow(Instant::from_millis(millis), interval) {
                allowed.push(millis);
            }
        }
        assert_eq!(allowed, [0, 500, 1_000, 1_500]);
    }

    #[test]
    fn refused_answers_do_not_prolong_the_wait() {
        let interval = Duration::from_millis(500);
        let mut limiter = Limiter::default();
        assert!(limiter.allow(Instant::from_millis(10), interval));
        assert!(!limiter.allow(Instant::from_millis(509), interval));
        assert!(limiter.allow(Instant::from_millis(510), interval));
    }

    #[test]
    fn an_interval_of_zero_means_no_limit() {
        let mut limiter = Limiter::new();
        for _ in 0..3 {
            assert!(limiter.allow(Instant::from_millis(1), Duration::ZERO));
        }
    }

    #[test]
    fn the_limiter_is_one_word() {
        assert_eq!(size_of::<Limiter>(), 8);
    }
}
