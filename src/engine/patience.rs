//! [`Patience`]: whether a thread that has nothing to do looks again at once, or sleeps.
//!
//! To wake a thread that sleeps costs whoever wakes it some 10 µs, and it takes about twice that until the thread runs.
//! Where packets come from another CPU and soon, looking is cheaper for both. Where the peer runs on this thread's own
//! CPU, looking only keeps it from sending: then the CPU is lost while we look, or nothing comes. So what has come of it
//! decides. Must not contain: the looking, the sleep.

use crate::tcp::{Duration, Instant};

/// A thread looks no longer than this.
pub(super) const LONGEST: Duration = Duration::from_micros(100);
/// For longer than this between two looks something else has had the CPU.
const LOST: Duration = Duration::from_micros(20);
/// How long a thread does not try again that has looked in vain: from ...
const LEAST_PAUSE: Duration = Duration::from_micros(250);
/// ... and twice as long each time, to this: a thousandth of the time is lost at worst.
const LONGEST_PAUSE: Duration = Duration::from_millis(128);
/// So many times with success, and the pause is short again.
const PROVEN: u32 = 8;
/// Weight of the latest wait in the average.
const WEIGHT: u64 = 8;

/// The waits of one thread, and what came of them.
#[derive(Debug)]
pub(super) struct Patience {
    /// When this wait began, if there is one.
    since: Option<Instant>,
    /// The last look of this wait, if it has not come to a sleep.
    looked: Option<Instant>,
    /// Average of the last waits, each counted as 4 times [`LONGEST`] at most.
    typical: Duration,
    /// Looked with success since it was last in vain.
    proven: u32,
    pause: Duration,
    /// The end of the pause.
    not_before: Instant,
}

impl Patience {
    /// As of a thread whose waits were long.
    pub(super) fn new(now: Instant) -> Self {
        let typical = LONGEST * 4;
        Self { since: None, looked: None, typical, proven: 0, pause: LEAST_PAUSE, not_before: now }
    }

    /// Whether there is a wait that [`found`](Self::found) has not ended.
    #[inline]
    pub(super) fn waits(&self) -> bool {
        self.since.is_some()
    }

    /// There is nothing to do. Whether to look again at once; else it is time to sleep.
    pub(super) fn nothing(&mut self, now: Instant) -> bool {
        let Some(since) = self.since else {
            self.since = Some(now);
            self.looked = (self.typical <= LONGEST && now >= self.not_before).then_some(now);
            return self.looked.is_some();
        };
        let Some(looked) = self.looked else { return false };
        if now.saturating_since(since) < LONGEST && now.saturating_since(looked) < LOST {
            self.looked = Some(now);
            return true;
        }
        self.looked = None;
        self.pause = if self.proven >= PROVEN { LEAST_PAUSE } else { (self.pause * 2).min(LONGEST_PAUSE) };
        self.proven = 0;
        self.not_before = now + self.pause;
        false
    }

    /// There was something to do: the wait is over.
    pub(super) fn found(&mut self, now: Instant) {
        let Some(since) = self.since.take() else { return };
        self.proven = self.proven.saturating_add(u32::from(self.looked.take().is_some()));
        let lasted = now.saturating_since(since).min(LONGEST * 4).as_nanos();
        self.typical = Duration::from_nanos((self.typical.as_nanos() * (WEIGHT - 1) + lasted) / WEIGHT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread, and how long it has looked in all.
    struct Thread {
        patience: Patience,
        now: Instant,
        looked: Duration,
    }

    impl Thread {
        fn new() -> Self {
            let now = Instant::from_nanos(1);
            Self { patience: Patience::new(now), now, looked: Duration::ZERO }
        }

        /// A wait of so many µs: looks take one each, and a sleep `late` more. Whether the thread slept.
        fn wait(&mut self, micros: u64, late: u64) -> bool {
            let until = self.now + Duration::from_micros(micros);
            while self.patience.nothing(self.now) {
                self.now += Duration::from_micros(1);
                self.looked += Duration::from_micros(1);
                if self.now >= until {
                    self.patience.found(self.now);
                    return false;
                }
            }
            self.now = self.now.max(until) + Duration::from_micros(late);
            self.patience.found(self.now);
            true
        }
    }

    #[test]
    fn short_waits_are_looked_through_and_long_ones_slept() {
        let mut thread = Thread::new();
        let slept = (0..1_000).filter(|_| thread.wait(15, 20)).count();
        assert!((8..40).contains(&slept), "{slept}: it takes a few to see that they are short");
        // A request now and then: the first is looked for in vain, then no more.
        let before = thread.looked;
        (0..1_000).for_each(|_| assert!(thread.wait(1_000, 20)));
        assert!(thread.looked - before < LONGEST * 20, "{:?}", thread.looked - before);
        let before = thread.looked;
        (0..1_000).for_each(|_| assert!(thread.wait(1_000, 20)));
        assert_eq!(thread.looked, before);
    }

    /// A burst of requests each 10 ms.
    #[test]
    fn who_has_little_to_do_looks_for_a_hundredth_of_the_time_in_vain() {
        let mut thread = Thread::new();
        let (began, mut useful) = (thread.now, Duration::ZERO);
        for _ in 0..1_000 {
            for _ in 0..30 {
                let before = thread.looked;
                if !thread.wait(15, 20) {
                    useful += thread.looked - before;
                }
            }
            thread.wait(10_000, 20);
        }
        let in_vain = (thread.looked - useful).as_nanos() * 100;
        assert!(in_vain <= thread.now.saturating_since(began).as_nanos(), "{:?} in vain", thread.looked - useful);
        assert!(useful > Duration::ZERO);
    }

    /// The client runs on this CPU: nothing comes while we look, and soon when we sleep.
    #[test]
    fn who_keeps_its_own_client_from_running_hardly_ever_looks() {
        let mut thread = Thread::new();
        let began = thread.now;
        for _ in 0..100_000 {
            while thread.patience.nothing(thread.now) {
                thread.now += Duration::from_micros(1);
                thread.looked += Duration::from_micros(1);
            }
            thread.now += Duration::from_micros(15);
            thread.patience.found(thread.now);
        }
        let part = thread.now.saturating_since(began).as_nanos() / thread.looked.as_nanos();
        assert!((500..10_000).contains(&part), "a {part}th of the time");
    }

    #[test]
    fn a_cpu_that_is_lost_while_one_looks_is_left() {
        let mut thread = Thread::new();
        (0..1_000).for_each(|_| _ = thread.wait(15, 20));
        assert!(thread.patience.nothing(thread.now));
        thread.now += LOST;
        assert!(!thread.patience.nothing(thread.now), "somebody else has had it");
        assert!(!thread.patience.nothing(thread.now), "and once asleep, it sleeps until something comes");
        thread.now += Duration::from_micros(10);
        thread.patience.found(thread.now);
        assert!(!thread.patience.nothing(thread.now), "a pause");
        thread.patience.found(thread.now);
        thread.now += LEAST_PAUSE;
        assert!(thread.patience.nothing(thread.now), "and a short one, since it had been of use before");
    }
}
