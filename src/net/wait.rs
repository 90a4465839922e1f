//! How an application waits for a shard: as a thread (futex), as a task (waker), or in an event queue.
//!
//! The rule is that of [`crate::buffer::wake`]: announce, look again, wait. The shard, after it has published something,
//! reads one word; only an announcement makes it do more. Several threads and one task may wait at the same place.

use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use rustix::thread::futex;
use rustix::time::Timespec;

/// A thread sleeps, or is about to.
const THREAD: u32 = 1;
/// A task has left its waker.
const TASK: u32 = 2;

/// The places where the applications of one socket wait for one direction of it.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    announced: AtomicU32,
    /// Counts wake-ups; threads sleep on it.
    sequence: AtomicU32,
    waker: AtomicWaker,
}

impl Waiters {
    /// Blocks until `ready` says so or the deadline has passed; tells whether `ready` did.
    pub(crate) fn wait(&self, deadline: Option<Instant>, mut ready: impl FnMut() -> bool) -> bool {
        loop {
            let sequence = self.sequence.load(Ordering::Relaxed);
            self.announced.fetch_or(THREAD, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if ready() {
                return true;
            }
            let timeout = match deadline {
                None => None,
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    Some(timespec(left))
                }
            };
            // Woken, timed out, interrupted or the sequence has moved: all are answered by another look.
            let _ = futex::wait(&self.sequence, futex::Flags::PRIVATE, sequence, timeout.as_ref());
        }
    }

    #[cfg_attr(not(feature = "tokio"), allow(dead_code))] // Tasks are tokio's.
    /// As [`wait`](Self::wait), for a task. At most one task waits at a time: the last one that asked.
    pub(crate) fn poll(&self, context: &mut Context<'_>, mut ready: impl FnMut() -> bool) -> Poll<()> {
        if ready() {
            return Poll::Ready(());
        }
        self.waker.register(context.waker());
        self.announced.fetch_or(TASK, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// How often who waited has been woken.
    pub(crate) fn wakes(&self) -> u32 {
        self.sequence.load(Ordering::Relaxed)
    }

    /// Something that is waited for may have come: to be called after it was published. One load when nobody waits.
    #[inline]
    pub(crate) fn notify(&self) {
        fence(Ordering::SeqCst);
        if self.announced.load(Ordering::Relaxed) != 0 {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        let announced = self.announced.swap(0, Ordering::SeqCst);
        if announced != 0 {
            self.sequence.fetch_add(1, Ordering::SeqCst);
        }
        if announced & THREAD != 0 {
            let _ = futex::wake(&self.sequence, futex::Flags::PRIVATE, i32::MAX as u32);
        }
        if announced & TASK != 0 {
            self.waker.wake();
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;
    use std::thread;

    use super::*;

    #[test]
    fn a_deadline_ends_the_wait() {
        let waiters = Waiters::default();
        let deadline = Instant::now() + Duration::from_millis(5);
        assert!(!waiters.wait(Some(deadline), || false));
        assert!(Instant::now() >= deadline);
        assert!(waiters.wait(Some(deadline), || true), "what is there needs no time");
    }

    #[test]
    fn no_wake_up_is_lost_and_all_threads_get_it() {
        for _ in 0..200 {
            let shared = Arc::new((Waiters::default(), AtomicBool::new(false)));
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        let deadline = Instant::now() + Duration::from_secs(10);
                        shared.0.wait(Some(deadline), || shared.1.load(Ordering::Acquire))
                    })
                })
                .collect();
            shared.1.store(true, Ordering::Release);
            shared.0.notify();
            for thread in threads {
                assert!(thread.join().unwrap());
            }
        }
    }

    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_task_is_woken_once_for_each_time_it_asked() {
        let waiters = Waiters::default();
        let count = Arc::new(Count(AtomicU32::new(0)));
        let waker = Arc::clone(&count).into();
        let mut context = Context::from_waker(&waker);
        waiters.notify();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        assert!(waiters.poll(&mut context, || false).is_pending());
        waiters.notify();
        waiters.notify();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(waiters.poll(&mut context, || true).is_ready());
    }
}
