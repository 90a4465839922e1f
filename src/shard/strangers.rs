//! The bound on answers to strangers: RSTs for segments of no connection, echo replies and ICMP errors (ICMP-12).
//!
//! A bound that all share would tell one stranger of another's traffic (as in CVE-2016-5696), and let one use up what another
//! needs. So each source has a bucket, of many that a keyed hash chooses from: who shares one with whom nobody can know.

use crate::tcp::{Duration, Instant};

/// Buckets of one kind of answer.
const BUCKETS: usize = 1_024;

/// Token buckets, each as the point in time at which it will be full again.
#[derive(Debug)]
pub(crate) struct Strangers {
    /// Made with the first stranger.
    full_at: Box<[Instant]>,
    /// How long a token takes to come back.
    interval: Duration,
    /// How long a bucket takes to fill.
    depth: Duration,
}

impl Strangers {
    /// `rate` answers a second to each bucket, `burst` at once.
    pub(crate) fn new(rate: u64, burst: u64) -> Self {
        let interval = Duration::from_secs(1) / rate;
        Self { full_at: Box::default(), interval, depth: interval * burst }
    }

    /// Echo replies: `ping` needs 1 a second, `ping -f` is cut.
    pub(crate) fn echo() -> Self {
        Self::new(1_000, 1_000)
    }

    /// RSTs. Whoever was connected to a host that has started anew may have many connections, and each must learn of it.
    pub(crate) fn resets() -> Self {
        Self::new(1_000, 4_000)
    }

    /// ICMP errors for what is not TCP: a source that asks often is told often enough.
    pub(crate) fn refusals() -> Self {
        Self::new(10, 20)
    }

    /// Whether the source with that hash gets an answer.
    pub(crate) fn allow(&mut self, source: u64, now: Instant) -> bool {
        if self.full_at.is_empty() {
            self.full_at = vec![Instant::ZERO; BUCKETS].into();
        }
        let full_at = &mut self.full_at[source as usize % BUCKETS];
        let next = (*full_at).max(now) + self.interval;
        if next > now + self.depth {
            return false;
        }
        *full_at = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(strangers: &mut Strangers, source: u64, now: Instant) -> usize {
        (0..10_000).take_while(|_| strangers.allow(source, now)).count()
    }

    #[test]
    fn icmp_12_a_bucket_fills_at_its_rate_and_no_further() {
        let mut strangers = Strangers::new(100, 20);
        let mut now = Instant::from_secs(9);
        assert_eq!(allowed(&mut strangers, 1, now), 20);
        now += Duration::from_millis(50);
        assert_eq!(allowed(&mut strangers, 1, now), 5);
        now += Duration::from_millis(9);
        assert_eq!(allowed(&mut strangers, 1, now), 0);
        now += Duration::from_secs(60);
        assert_eq!(allowed(&mut strangers, 1, now), 20);
    }

    #[test]
    fn a_stranger_learns_nothing_of_another() {
        let now = Instant::from_secs(9);
        for others in 0..2 {
            let mut strangers = Strangers::new(100, 20);
            for other in 0..others {
                allowed(&mut strangers, 500 + other, now);
            }
            assert_eq!(allowed(&mut strangers, 7, now), 20, "the same whatever others do");
        }
    }
}
