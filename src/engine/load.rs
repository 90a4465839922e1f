//! [`Load`]: whether a worker has time left for flows that are born on its CPU.
//!
//! It has none where its turns fill its CPU: no turn of an interval found nothing to do. Where flows are born on the CPU
//! that sends, it shares that CPU with its clients, and often finds nothing because a client has not had its turn yet. With
//! requests and responses that is as it should be: the two take turns, and a second CPU would only wait. In bulk each of
//! the two could fill a CPU, and the sender's part is a copy of the same octets as ours: then much of the CPU for us is all
//! of it for both. The two are told apart by what a turn moves. Judged once an interval, from counters and the thread's
//! CPU time. Must not contain: who asks.

use crate::tcp::{Duration, Instant};

/// An interval lasts at least so long.
const INTERVAL: Duration = Duration::from_millis(10);
/// A turn of bulk moves so many octets on average, in and out.
const BULK: u64 = 8 << 10;
/// A worker with bulk has no time left when it uses so many hundredths of its CPU.
const MUCH: u64 = 40;

/// What has been done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// CPU time of the thread.
    pub(super) cpu: Duration,
    /// Turns with work.
    pub(super) turns: u64,
    /// Octets of packets, in and out.
    pub(super) octets: u64,
}

/// The load of one worker.
#[derive(Debug)]
pub(super) struct Load {
    /// When the interval began, and what had been done by then.
    since: Instant,
    before: Done,
    /// No turn of the interval has found nothing to do.
    full: bool,
    /// Of the last interval.
    bulk: bool,
}

impl Load {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, before: Done::default(), full: false, bulk: false }
    }

    /// A turn found nothing to do.
    #[inline]
    pub(super) fn idle(&mut self) {
        self.full = false;
    }

    /// Ends the interval, and says whether there was no time left in it.
    pub(super) fn judge(&mut self, now: Instant, done: Done) -> bool {
        let lasted = now.saturating_since(self.since).as_nanos();
        let cpu = done.cpu.as_nanos().saturating_sub(self.before.cpu.as_nanos());
        let turns = done.turns.saturating_sub(self.before.turns);
        let octets = done.octets.saturating_sub(self.before.octets);
        self.bulk = turns > 0 && octets / turns >= BULK && cpu * 100 >= lasted * MUCH;
        (self.since, self.before) = (now, done);
        std::mem::replace(&mut self.full, true) || self.bulk
    }

    /// Whether the interval has lasted long enough.
    #[inline]
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.saturating_since(self.since) >= INTERVAL
    }

    /// When it is to be judged at the latest: a worker that is thought to have no time left must not sleep over that.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.bulk.then(|| self.since + INTERVAL)
    }

    /// Whether the last interval had no time left for bulk. That holds until the next is judged, even while the thread
    /// sleeps, since it may have gone to sleep only for a client.
    pub(super) fn is_bulk(&self) -> bool {
        self.bulk
    }
}

/// CPU time of this thread.
pub(super) fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Duration::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that has done so much for an interval, after one like it.
    fn judged(cpu: Duration, turns: u64, octets: u64, idle: bool) -> bool {
        let mut load = Load::new(Instant::from_nanos(0));
        let (mut now, mut done) = (Instant::from_nanos(0), Done::default());
        let mut busy = false;
        for _ in 0..2 {
            now += INTERVAL;
            done = Done { cpu: done.cpu + cpu, turns: done.turns + turns, octets: done.octets + octets };
            if idle {
                load.idle();
            }
            busy = load.judge(now, done);
        }
        busy
    }

    #[test]
    fn a_worker_whose_every_turn_finds_work_has_no_time_left() {
        assert!(judged(INTERVAL, 5_000, 500_000, false));
        assert!(!judged(INTERVAL, 5_000, 500_000, true));
    }

    #[test]
    fn bulk_fills_a_cpu_together_with_its_clients_and_requests_take_turns_with_them() {
        let half = Duration::from_millis(5);
        assert!(judged(half, 500, 500 * 65_000, true), "bulk by super-segments");
        assert!(judged(half, 200, 200 * 32 * 1_500, true), "bulk by segments");
        assert!(!judged(half, 600, 600 * 2 * 53, true), "one request after another");
        assert!(!judged(half, 200, 200 * 32 * 2 * 53, true), "many at a time");
        assert!(!judged(Duration::from_millis(3), 300, 300 * 65_000, true), "bulk that leaves time");
        assert!(!judged(Duration::ZERO, 0, 0, true));
    }

    #[test]
    fn the_time_of_a_thread_grows_while_it_works() {
        let before = thread_time();
        let mut sum = 0_u64;
        while thread_time().as_nanos() - before.as_nanos() < 1_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(sum > 0);
    }
}
