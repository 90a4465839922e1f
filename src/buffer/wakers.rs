//! Tasks that wait for one thing: a list of wakers. All are woken at once, and each can go by itself.
//!
//! ```text
//!   task                                          who publishes
//!   wait: put the waker into the list             publish
//!         announce; fence                         notify: fence; load the announcements
//!         look again                                none: nothing to do (the usual case: one plain load)
//!   found something, or given up: leave             else take them away, and wake all that are in the list
//! ```
//!
//! The fences are those of [`wake`](super::wake): either the task finds what was published, or who has published finds the
//! announcement, and with it the waker, which was in the list before.
//!
//! The list lies behind a lock, for which only tasks wait. Who publishes tries it; if a task holds it, he leaves [`WAKE`] and
//! goes on, and that task, which looks for it after it has let go, wakes the list in his place. Of the two fences there
//! (between the mark and the try, between the release and the look) one comes first in their single order as well. Lists that
//! others have made wait for their lock there, while a thread that holds it may have lost its CPU.
//!
//! Threads and others that sleep elsewhere announce themselves in the same word, so that one load tells of all.

use std::fmt;
use std::sync::{PoisonError, TryLockError, atomic::AtomicU64};
use std::task::{Context, Poll, Waker};

use super::sync::{AtomicU32, Mutex, MutexGuard, Ordering, fence};

/// Wakers may be in the list.
const TASK: u32 = 1 << 30;
/// The list is to be woken, by whoever holds its lock or takes it next.
const WAKE: u32 = 1 << 31;

/// How many wakers of [`Place::BY_HAND`] a list keeps.
const MOST_BY_HAND: usize = 32;

/// Names one who waits, in every list: what he leaves anew replaces what he has left before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u64);

impl Place {
    /// The place of all that have none of their own, and so cannot [leave](Wakers::leave): each distinct waker counts, and
    /// goes when it is woken. Only some are kept (wakers keep tasks alive); the oldest makes way, and is woken for it: if
    /// its task still waits, it asks again.
    pub(crate) const BY_HAND: Self = Self(0);

    /// Another one than all others.
    pub(crate) fn new() -> Self {
        // No more than a name: nothing is ordered by it, and the model checker need not know of it.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

struct Entry {
    place: Place,
    waker: Waker,
}

/// Who waits for one thing, and how often all of them were woken.
pub(crate) struct Wakers {
    announced: AtomicU32,
    /// Counts wake-ups.
    sequence: AtomicU32,
    list: Mutex<Vec<Entry>>,
}

impl Default for Wakers {
    fn default() -> Self {
        Self { announced: AtomicU32::new(0), sequence: AtomicU32::new(0), list: Mutex::new(Vec::new()) }
    }
}

impl fmt::Debug for Wakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakers").field("announced", &self.announced).finish_non_exhaustive()
    }
}

impl Wakers {
    /// Somebody waits elsewhere and wants to hear of the next [`notify`](Self::notify): bits of his own, below 2^30. He looks
    /// again before he sleeps.
    pub(crate) fn announce(&self, bits: u32) {
        self.announced.fetch_or(bits, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// How often who waited has been woken. It moves before anybody is: threads can sleep on it.
    pub(crate) fn sequence(&self) -> &AtomicU32 {
        &self.sequence
    }

    /// Waits in `place`: unless `ready` says so at once, the task is woken by the next [`notify`](Self::notify).
    pub(crate) fn poll(&self, place: Place, context: &Context<'_>, mut ready: impl FnMut() -> bool) -> Poll<()> {
        if ready() {
            return Poll::Ready(());
        }
        self.enter(place, context.waker());
        if ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn enter(&self, place: Place, waker: &Waker) {
        let (mut replaced, mut evicted) = (None, None);
        let mut list = self.lock();
        let same =
            |entry: &&mut Entry| entry.place == place && (place != Place::BY_HAND || entry.waker.will_wake(waker));
        match list.iter_mut().find(same) {
            Some(entry) if entry.waker.will_wake(waker) => {}
            Some(entry) => replaced = Some(std::mem::replace(&mut entry.waker, waker.clone())),
            None => {
                if place == Place::BY_HAND {
                    evicted = make_way(&mut list);
                }
                // Nearly always one waits.
                if list.capacity() == 0 {
                    list.reserve_exact(1);
                }
                list.push(Entry { place, waker: waker.clone() });
            }
        }
        drop(list);
        self.announced.fetch_or(TASK, Ordering::Relaxed);
        self.after_release();
        // A waker is somebody else's code: called, and dropped, without the lock.
        drop(replaced);
        if let Some(Entry { waker, .. }) = evicted {
            waker.wake();
        }
    }

    /// Whoever waits in `place` waits no more.
    pub(crate) fn leave(&self, place: Place) {
        let mut list = self.lock();
        let gone = list.iter().position(|entry| entry.place == place).map(|at| list.remove(at));
        drop(list);
        self.after_release();
        drop(gone);
    }

    /// Wakes all tasks that wait, and tells who else does: the bits that were [announced](Self::announce), and one more if
    /// tasks were. To be called after something was published. Waits for nothing.
    #[inline]
    pub(crate) fn notify(&self) -> u32 {
        fence(Ordering::SeqCst);
        if self.announced.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.take()
    }

    #[cold]
    fn take(&self) -> u32 {
        let taken = self.announced.swap(0, Ordering::SeqCst);
        if taken != 0 {
            self.sequence.fetch_add(1, Ordering::SeqCst);
        }
        if taken & (TASK | WAKE) != 0 {
            self.announced.fetch_or(WAKE, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            self.wake_if_asked();
        }
        taken
    }

    /// The lock was let go: what was asked of who held it is done now.
    fn after_release(&self) {
        fence(Ordering::SeqCst);
        self.wake_if_asked();
    }

    fn wake_if_asked(&self) {
        while self.announced.load(Ordering::Relaxed) & WAKE != 0 {
            let mut list = match self.list.try_lock() {
                Ok(list) => list,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // He will look.
                Err(TryLockError::WouldBlock) => return,
            };
            self.announced.fetch_and(!WAKE, Ordering::SeqCst);
            // The memory for one stays, for the next wait; that for more goes.
            let one = if list.len() == 1 { list.pop() } else { None };
            let many = if list.is_empty() { Vec::new() } else { std::mem::take(&mut *list) };
            drop(list);
            one.into_iter().chain(many).for_each(|entry| entry.waker.wake());
            fence(Ordering::SeqCst);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }
}

/// Takes the oldest waker without a place of its own out of a list that has as many as it keeps.
fn make_way(list: &mut Vec<Entry>) -> Option<Entry> {
    let by_hand = |entry: &Entry| entry.place == Place::BY_HAND;
    if list.iter().filter(|entry| by_hand(entry)).count() < MOST_BY_HAND {
        return None;
    }
    list.iter().position(by_hand).map(|oldest| list.remove(oldest))
}

#[cfg(all(test, loom))]
#[path = "wakers_loom.rs"]
mod loom_tests;
#[cfg(all(test, not(loom)))]
#[path = "wakers_tests.rs"]
mod tests;
