//! How an application waits for a shard: as a thread (futex), as a task (waker), or in an event queue.
//!
//! The rule is that of [`crate::buffer::wakers`]: announce, look again, wait. The shard, after it has published something,
//! reads one word; only an announcement makes it do more. Any number of threads and tasks may wait at the same place.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::thread::futex;
use rustix::time::Timespec;

use crate::buffer::wakers::{Place, Wakers};

/// A thread sleeps, or is about to.
const THREAD: u32 = 1;

/// The places where the applications of one socket wait for one direction of it.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    wakers: Wakers,
}

impl Waiters {
    /// Blocks until `ready` says so or the deadline has passed; tells whether `ready` did.
    pub(crate) fn wait(&self, deadline: Option<Instant>, mut ready: impl FnMut() -> bool) -> bool {
        loop {
            let sequence = self.wakers.sequence().load(Ordering::Relaxed);
            self.wakers.announce(THREAD);
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
            let _ = futex::wait(self.wakers.sequence(), futex::Flags::PRIVATE, sequence, timeout.as_ref());
        }
    }

    /// How often who waited has been woken.
    pub(crate) fn wakes(&self) -> u32 {
        self.wakers.sequence().load(Ordering::Relaxed)
    }

    /// Something that is waited for may have come: to be called after it was published. One load when nobody waits.
    #[inline]
    pub(crate) fn notify(&self) {
        if self.wakers.notify() & THREAD != 0 {
            self.wake_threads();
        }
    }

    #[cold]
    fn wake_threads(&self) {
        let _ = futex::wake(self.wakers.sequence(), futex::Flags::PRIVATE, i32::MAX as u32);
    }
}

/// For tasks, which are tokio's.
#[cfg_attr(not(feature = "tokio"), allow(dead_code))]
impl Waiters {
    /// One look of a task that waits in `place`, which stays its own until it [leaves](Self::leave).
    pub(crate) fn poll(&self, place: Place, context: &Context<'_>, ready: impl FnMut() -> bool) -> Poll<()> {
        self.wakers.poll(place, context, ready)
    }

    /// Whoever waits in `place` waits no more.
    pub(crate) fn leave(&self, place: Place) {
        self.wakers.leave(place);
    }

    /// A task comes to wait, once or several times.
    pub(crate) fn enter(&self) -> Waiting<'_> {
        Waiting { waiters: self, place: None }
    }

    /// Waits as [`wait`](Self::wait) does. Given up before it is done, it leaves nothing behind.
    pub(crate) async fn until(&self, mut ready: impl FnMut() -> bool) {
        let mut waiting = self.enter();
        poll_fn(|context| waiting.poll(context, &mut ready)).await;
    }
}

/// A task that waits, with a place of its own from its first look on that finds nothing. Dropped, it leaves.
#[derive(Debug)]
#[cfg_attr(not(feature = "tokio"), allow(dead_code))]
pub(crate) struct Waiting<'a> {
    waiters: &'a Waiters,
    place: Option<Place>,
}

#[cfg_attr(not(feature = "tokio"), allow(dead_code))]
impl Waiting<'_> {
    pub(crate) fn poll(&mut self, context: &Context<'_>, mut ready: impl FnMut() -> bool) -> Poll<()> {
        if ready() {
            return Poll::Ready(());
        }
        self.waiters.poll(*self.place.get_or_insert_with(Place::new), context, ready)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.waiters.leave(place);
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
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32};
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
        let there = AtomicBool::new(false);
        let mut waiting = pin!(waiters.until(|| there.load(Ordering::Relaxed)));
        waiters.notify();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        for times in 1..3 {
            assert!(waiting.as_mut().poll(&mut context).is_pending());
            waiters.notify();
            waiters.notify();
            assert_eq!(count.0.load(Ordering::Relaxed), times);
        }
        there.store(true, Ordering::Relaxed);
        assert!(waiting.as_mut().poll(&mut context).is_ready());
    }

    /// However many begin to wait and give up, a socket on which nothing happens keeps nothing of them.
    #[test]
    fn who_gives_up_leaves_nothing_behind() {
        let waiters = Waiters::default();
        let count = Arc::new(Count(AtomicU32::new(0)));
        for _ in 0..3 {
            let waker = Arc::clone(&count).into();
            let given_up = Box::pin(waiters.until(|| false)).as_mut().poll(&mut Context::from_waker(&waker));
            assert!(given_up.is_pending());
        }
        assert_eq!(Arc::strong_count(&count), 1);
        waiters.notify();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }
}
