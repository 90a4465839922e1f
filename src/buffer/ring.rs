//! A bounded single-producer single-consumer ring: the only road between two stages.
//!
//! Both ends work in batches. The producer writes items with [`Producer::stage`] and shows them all with one release store
//! in [`Producer::publish`]; the consumer takes them with [`Consumer::pop`] or [`Consumer::drain`] and hands all their slots
//! back with one release store in [`Consumer::release`]. Each end keeps a copy of the other end's index and reads the real
//! one, a line of another core, only when the copy says that the ring is full or empty.
//!
//! ```text
//!            released   head            published   tail
//!               |         |                 |         |
//!   --- free ---+-- read -+---- to read ----+ staged -+--- free ---     indices grow and wrap at usize::MAX;
//!               |         |                 |         |                 the slot of index i is i & mask
//!         Shared::head  consumer's    Shared::tail  producer's
//!                       own copy                    own copy
//! ```
//!
//! Nothing here blocks or allocates after creation: a full ring is the caller's to handle. The `*_wait` helpers are for
//! tests and tools. How a stage sleeps is [`super::wake`]'s matter.

use std::{cell::Cell, fmt, marker::PhantomData, mem::MaybeUninit};

use crossbeam::utils::CachePadded;

use super::sync::{Arc, AtomicBool, AtomicUsize, Ordering, UnsafeCell};

/// What both ends see.
struct Shared<T> {
    /// First index whose slot is not yet given back. Written by the consumer only.
    head: CachePadded<AtomicUsize>,
    /// First index not yet shown. Written by the producer only.
    tail: CachePadded<AtomicUsize>,
    /// The producer is gone: what is in the ring is all there will ever be.
    producer_gone: CachePadded<AtomicBool>,
    /// The consumer is gone: nothing in the ring will be read any more.
    consumer_gone: AtomicBool,
    /// A power of two of slots, at least the ring's capacity. Those of `head..tail` hold an item.
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: an item is written by the producer's thread and read (or dropped) by the consumer's, so it must be `Send`; no item
// is ever reached from two threads at a time: slots from `tail` to `head + capacity` are the producer's, those of
// `head..tail` the consumer's, and the release stores of `tail` and `head` carry a slot from one to the other.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above; the last end to go drops the items left, wherever it lives.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    /// The slot of `index`.
    #[inline(always)]
    fn slot(&self, index: usize, mask: usize) -> &UnsafeCell<MaybeUninit<T>> {
        debug_assert_eq!(mask, self.slots.len() - 1);
        // SAFETY: `mask` is `slots.len() - 1`, set once at creation, and `slots.len()` is a power of two.
        unsafe { self.slots.get_unchecked(index & mask) }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Both ends are gone and have stored their final index.
        let mask = self.slots.len() - 1;
        let tail = self.tail.load(Ordering::Relaxed);
        let mut index = self.head.load(Ordering::Relaxed);
        while index != tail {
            // SAFETY: slots of `head..tail` hold an item, and `&mut self` says that nobody else looks.
            self.slot(index, mask).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            index = index.wrapping_add(1);
        }
    }
}

/// Makes a ring for `capacity` items (at least 1) and returns its two ends. The only call that allocates.
///
/// # Panics
///
/// When `capacity` is 0 or beyond half the address space.
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    ring_from(capacity, 0)
}

/// [`ring`] with its indices starting at `start`, for tests of their wrap-around.
fn ring_from<T>(capacity: usize, start: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity > 0 && capacity <= usize::MAX / 4, "a ring needs a sensible capacity");
    let slots: Box<[_]> = (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let mask = slots.len() - 1;
    let shared = Arc::new(Shared {
        head: CachePadded::new(AtomicUsize::new(start)),
        tail: CachePadded::new(AtomicUsize::new(start)),
        producer_gone: CachePadded::new(AtomicBool::new(false)),
        consumer_gone: AtomicBool::new(false),
        slots,
    });
    let producer = Producer {
        shared: Arc::clone(&shared),
        tail: start,
        published: start,
        head: start,
        capacity,
        mask,
        stats: RingStats::default(),
        not_sync: PhantomData,
    };
    let consumer =
        Consumer { shared, head: start, released: start, tail: start, capacity, mask, not_sync: PhantomData };
    (producer, consumer)
}

/// What a ring has carried, as its producer saw it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RingStats {
    /// Items published.
    pub items: u64,
    /// Release stores that showed them: `items / batches` is the mean batch.
    pub batches: u64,
    /// Most items in the ring at a time. 0 as long as it never held more than an eighth of its capacity: to know better
    /// would mean to read the consumer's index at each batch.
    pub high_water: u64,
    /// How often an item found no room.
    pub full: u64,
}

/// The writing end of a ring. `Send`, but one thread's at a time: neither `Clone` nor `Sync`.
///
/// ```compile_fail
/// fn shared<T: Sync>(_: T) {}
/// shared(trust::buffer::ring::ring::<u8>(1).0);
/// ```
/// ```compile_fail
/// let _ = trust::buffer::ring::ring::<u8>(1).0.clone();
/// ```
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// Where the next item goes.
    tail: usize,
    /// `Shared::tail` as last stored.
    published: usize,
    /// `Shared::head` as last seen: the real one may be further on.
    head: usize,
    capacity: usize,
    mask: usize,
    stats: RingStats,
    not_sync: PhantomData<Cell<()>>,
}

impl<T> Producer<T> {
    /// Writes `item` behind those staged before. The consumer sees it after [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// Gives the item back when the ring is full (counted).
    #[inline]
    pub fn stage(&mut self, item: T) -> Result<(), T> {
        if self.tail.wrapping_sub(self.head) >= self.capacity && self.refresh() == 0 {
            self.stats.full += 1;
            return Err(item);
        }
        let slot = self.shared.slot(self.tail, self.mask);
        // SAFETY: `tail - head < capacity`, so the consumer has given this slot back (its release store was read with
        // acquire in `refresh`), and it will not touch the slot before `tail` is published.
        slot.with_mut(|slot| unsafe { (*slot).write(item) });
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    /// Shows all that is staged to the consumer with one release store. Nothing staged: no store.
    #[inline]
    pub fn publish(&mut self) {
        let batch = self.tail.wrapping_sub(self.published);
        if batch == 0 {
            return;
        }
        self.shared.tail.store(self.tail, Ordering::Release);
        self.published = self.tail;
        self.stats.items += batch as u64;
        self.stats.batches += 1;
        let seen = self.tail.wrapping_sub(self.head);
        if seen > self.stats.high_water as usize && seen > self.capacity / 8 {
            self.note_high_water();
        }
    }

    /// [`stage`](Self::stage) and [`publish`](Self::publish) in one.
    ///
    /// # Errors
    ///
    /// Gives the item back when the ring is full (counted).
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        self.stage(item)?;
        self.publish();
        Ok(())
    }

    /// How many items can be staged now; at least so many, the consumer may be giving slots back.
    #[inline]
    pub fn room(&mut self) -> usize {
        self.refresh()
    }

    /// Whether at least `items` can be staged now; reads the consumer's index only when the copy of it does not suffice.
    #[inline]
    pub fn has_room(&mut self, items: usize) -> bool {
        self.capacity - self.tail.wrapping_sub(self.head) >= items || self.refresh() >= items
    }

    /// The most items the ring holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// What went through so far.
    pub fn stats(&self) -> RingStats {
        self.stats
    }

    /// Whether the consumer is gone: what is in the ring, and what is pushed from now on, is dropped unread.
    pub fn is_closed(&self) -> bool {
        self.shared.consumer_gone.load(Ordering::Acquire)
    }

    /// Reads the consumer's index; returns the room.
    #[inline]
    fn refresh(&mut self) -> usize {
        self.head = self.shared.head.load(Ordering::Acquire);
        self.capacity - self.tail.wrapping_sub(self.head)
    }

    /// Kept out of `publish`: called when the stale copy of the consumer's index promises a new maximum.
    #[cold]
    fn note_high_water(&mut self) {
        self.refresh();
        let seen = self.tail.wrapping_sub(self.head);
        if seen > self.capacity / 8 {
            self.stats.high_water = self.stats.high_water.max(seen as u64);
        }
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.publish();
        self.shared.producer_gone.store(true, Ordering::Release);
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("capacity", &self.capacity).field("stats", &self.stats).finish_non_exhaustive()
    }
}

/// The reading end of a ring. `Send`, but one thread's at a time: neither `Clone` nor `Sync`.
///
/// ```compile_fail
/// fn shared<T: Sync>(_: T) {}
/// shared(trust::buffer::ring::ring::<u8>(1).1);
/// ```
/// ```compile_fail
/// let _ = trust::buffer::ring::ring::<u8>(1).1.clone();
/// ```
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// Where the next item is.
    head: usize,
    /// `Shared::head` as last stored.
    released: usize,
    /// `Shared::tail` as last seen: the real one may be further on.
    tail: usize,
    capacity: usize,
    mask: usize,
    not_sync: PhantomData<Cell<()>>,
}

impl<T> Consumer<T> {
    /// Takes the next item. Its slot is handed back by [`release`](Self::release), or by the `pop` that finds the ring
    /// empty.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail {
            self.release();
            if self.refresh() == 0 {
                return None;
            }
        }
        Some(self.take())
    }

    /// The next item, left in place.
    #[inline]
    pub fn peek(&mut self) -> Option<&mut T> {
        if self.head == self.tail && self.refresh() == 0 {
            return None;
        }
        let slot = self.shared.slot(self.head, self.mask);
        // SAFETY: `head..tail` hold items which are the consumer's until released, and `&mut self` makes this reference
        // the only way to it.
        Some(slot.with_mut(|slot| unsafe { (*slot).assume_init_mut() }))
    }

    /// Hands the slots of all items taken back to the producer with one release store. Nothing taken: no store.
    #[inline]
    pub fn release(&mut self) {
        if self.head != self.released {
            self.shared.head.store(self.head, Ordering::Release);
            self.released = self.head;
        }
    }

    /// Takes up to `max` of the items there now, and hands their slots back when dropped. Items not iterated over stay in
    /// the ring.
    #[inline]
    pub fn drain(&mut self, max: usize) -> Drain<'_, T> {
        let mut there = self.tail.wrapping_sub(self.head);
        if there < max {
            there = self.refresh();
        }
        Drain { left: there.min(max), consumer: self }
    }

    /// Whether there is nothing to read. Always reads the producer's index: fit for the re-check before parking.
    #[inline]
    pub fn is_empty(&mut self) -> bool {
        self.refresh() == 0
    }

    /// How many items there are to read; at least so many, the producer may be publishing.
    #[inline]
    pub fn len(&mut self) -> usize {
        self.refresh()
    }

    /// The most items the ring holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether the producer is gone. Ask before looking for items: those found after a `true` are the last.
    pub fn is_closed(&self) -> bool {
        self.shared.producer_gone.load(Ordering::Acquire)
    }

    /// Reads the producer's index; returns how many items are there.
    #[inline]
    fn refresh(&mut self) -> usize {
        self.tail = self.shared.tail.load(Ordering::Acquire);
        self.tail.wrapping_sub(self.head)
    }

    /// Moves the item at `head` out. Only when `head != tail`.
    #[inline(always)]
    fn take(&mut self) -> T {
        debug_assert_ne!(self.head, self.tail);
        let slot = self.shared.slot(self.head, self.mask);
        self.head = self.head.wrapping_add(1);
        // SAFETY: the slot is within `head..tail`: the producer wrote it before the release store that `refresh` read with
        // acquire, and keeps off until `head` is stored. `head` has moved on, so the item is not read twice.
        slot.with(|slot| unsafe { (*slot).assume_init_read() })
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.release();
        self.shared.consumer_gone.store(true, Ordering::Release);
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

/// A batch being taken out of a ring: see [`Consumer::drain`].
#[derive(Debug)]
pub struct Drain<'a, T> {
    consumer: &'a mut Consumer<T>,
    left: usize,
}

impl<T> Iterator for Drain<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        Some(self.consumer.take())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> ExactSizeIterator for Drain<'_, T> {}

impl<T> Drop for Drain<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.consumer.release();
    }
}

#[cfg(not(loom))]
mod wait {
    use std::time::{Duration, Instant};

    use crossbeam::utils::Backoff;

    use super::{Consumer, Producer};

    impl<T> Producer<T> {
        /// Pushes, spinning and then yielding while the ring is full. For tests and tools: no stage of the engine waits.
        ///
        /// # Errors
        ///
        /// Gives the item back after `limit`, or at once when the consumer is gone.
        pub fn push_wait(&mut self, item: T, limit: Duration) -> Result<(), T> {
            let mut item = item;
            let mut start = None;
            let backoff = Backoff::new();
            loop {
                match self.push(item) {
                    Ok(()) => return Ok(()),
                    Err(back) if self.is_closed() => return Err(back),
                    Err(back) => item = back,
                }
                if start.get_or_insert_with(Instant::now).elapsed() >= limit {
                    return Err(item);
                }
                backoff.snooze();
            }
        }
    }

    impl<T> Consumer<T> {
        /// Pops and releases, spinning and then yielding while the ring is empty. `None` after `limit`, or when the
        /// producer is gone and nothing is left. For tests and tools: no stage of the engine waits.
        pub fn pop_wait(&mut self, limit: Duration) -> Option<T> {
            let mut start = None;
            let backoff = Backoff::new();
            loop {
                let closed = self.is_closed();
                if let Some(item) = self.pop() {
                    self.release();
                    return Some(item);
                }
                if closed || start.get_or_insert_with(Instant::now).elapsed() >= limit {
                    return None;
                }
                backoff.snooze();
            }
        }
    }
}

#[cfg(all(test, loom))]
#[path = "ring_loom.rs"]
mod loom_tests;
#[cfg(all(test, not(loom)))]
#[path = "ring_tests.rs"]
mod tests;
