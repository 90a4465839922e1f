//! How a stage goes to sleep without missing what arrives meanwhile: announce, re-check, wait.
//!
//! ```text
//!   sleeper                                  producer
//!   announce(mask)   store mask; fence       push, publish
//!   look again at every ring in the mask     notify(bit)   fence; load mask
//!   found something: cancel(), go on           mask & bit == 0: nothing to do (the usual case: one plain load)
//!   else wait for the signal                   else take the mask away and signal
//! ```
//!
//! Of the two fences one comes first in their single total order. If the sleeper's is first, the producer reads the
//! announcement and signals; if the producer's is first, the sleeper's second look finds what was published. One announcement
//! draws at most one signal, however many producers there are. A signal may come after a `cancel`: the next wait then
//! returns at once, which costs a turn and is harmless.
//!
//! What a signal is (an eventfd behind mio) and where a stage waits is the engine's matter, not known here.

use std::ops::{BitAnd, BitOr};

use crossbeam::utils::CachePadded;

use super::sync::{Arc, AtomicU32, Ordering, fence};

/// Wakes the thread that waits, from another one. A signal sent while nobody waits ends the next wait at once.
pub trait Signal {
    /// Must not block.
    fn signal(&self);
}

#[cfg(not(loom))]
impl Signal for mio::Waker {
    fn signal(&self) {
        // A write to an eventfd, which fails only when the descriptor is gone; the sleeper is gone with it.
        if let Err(error) = self.wake() {
            tracing::error!(%error, "cannot wake a stage");
        }
    }
}

/// What a sleeper wants to be woken for: a set of bits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interest(u32);

impl Interest {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Items in a data ring.
    pub const DATA: Self = Self(1);
    /// Buffers or completions in a return ring.
    pub const RETURNS: Self = Self(2);
    /// Room in a ring that was full.
    pub const ROOM: Self = Self(4);
    /// All of the above.
    pub const ALL: Self = Self(7);

    /// Whether the two have a bit in common.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Interest {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Interest {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

#[derive(Debug)]
struct Shared<S> {
    /// The interests of the sleeper; 0 while it is awake or a signal is on its way.
    announced: CachePadded<AtomicU32>,
    signal: S,
}

/// The sleeper's side. One for each thread that parks.
#[derive(Debug)]
pub struct Parker<S> {
    shared: Arc<Shared<S>>,
}

/// The producers' side; cloned at set-up for each of them.
#[derive(Debug)]
pub struct Unparker<S> {
    shared: Arc<Shared<S>>,
}

/// Makes the two sides around a signal that ends the sleeper's wait.
pub fn parker<S: Signal>(signal: S) -> (Parker<S>, Unparker<S>) {
    let shared = Arc::new(Shared { announced: CachePadded::new(AtomicU32::new(0)), signal });
    (Parker { shared: Arc::clone(&shared) }, Unparker { shared })
}

impl<S> Parker<S> {
    /// Says what the sleeper waits for. After this, and before the wait, it must look once more at every source in
    /// `interest`: with a load that really reads the other side's index, such as
    /// [`Consumer::is_empty`](super::ring::Consumer::is_empty) or [`Producer::room`](super::ring::Producer::room).
    #[inline]
    pub fn announce(&self, interest: Interest) {
        self.shared.announced.store(interest.0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back: the second look found something, or the wait is over.
    #[inline]
    pub fn cancel(&self) {
        self.shared.announced.store(0, Ordering::Relaxed);
    }

    /// Another handle for producers.
    #[must_use]
    pub fn unparker(&self) -> Unparker<S> {
        Unparker { shared: Arc::clone(&self.shared) }
    }
}

impl<S: Signal> Unparker<S> {
    /// To be called after publishing (or releasing) what `what` stands for. Signals if the sleeper announced an interest in
    /// it and nobody has signalled since; says whether it did.
    #[inline]
    pub fn notify(&self, what: Interest) -> bool {
        fence(Ordering::SeqCst);
        let announced = self.shared.announced.load(Ordering::Relaxed);
        if announced & what.0 == 0 {
            return false;
        }
        self.take_and_signal(announced, what)
    }

    #[cold]
    fn take_and_signal(&self, announced: u32, what: Interest) -> bool {
        let mut announced = announced;
        while announced & what.0 != 0 {
            // Only the exact mask is taken: one announced meanwhile may not ask for `what`, and must survive.
            match self.shared.announced.compare_exchange(announced, 0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    self.shared.signal.signal();
                    return true;
                }
                Err(now) => announced = now,
            }
        }
        false
    }
}

impl<S> Clone for Unparker<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

#[cfg(all(test, loom))]
#[path = "wake_loom.rs"]
mod loom_tests;
#[cfg(all(test, not(loom)))]
#[path = "wake_tests.rs"]
mod tests;
