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
//! The slots come with the first item: between many stages most rings are never used. The producer makes them before it
//! publishes anything, and the consumer looks for them only when it has seen something published, so the same release store
//! that shows the items shows their place, too.
//!
//! Nothing here blocks, or allocates after the first item: a full ring is the caller's to handle. The `*_wait` helpers are
//! for tests and tools. How a stage sleeps is [`super::wake`]'s matter.

use std::{cell::Cell, fmt, marker::PhantomData, mem::MaybeUninit};

use crossbeam::utils::CachePadded;

use super::sync::{Arc, AtomicBool, AtomicUsize, Ordering, UnsafeCell};

/// Place of one item.
type Slot<T> = UnsafeCell<MaybeUninit<T>>;

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
    /// None before the first item, afterwards a power of two of slots, at least the ring's capacity. Those of `head..tail`
    /// hold an item.
    slots: UnsafeCell<Box<[Slot<T>]>>,
}

impl<T> Shared<T> {
    /// The slots.
    ///
    /// # Safety
    ///
    /// For the producer, on whose thread they are made; for the consumer once it has found the ring not empty.
    #[inline(always)]
    unsafe fn slots(&self) -> &[Slot<T>] {
        // SAFETY: written once, by the producer before its first release store of `tail`: nobody writes while another
        // looks, and what the reference points to lives as long as `self`.
        self.slots.with(|slots| unsafe { &**slots })
    }
}

// SAFETY: an item is written by the producer's thread and read (or dropped) by the consumer's, so it must be `Send`; no item
// is ever reached from two threads at a time: slots from `tail` to `head + capacity` are the producer's, those of
// `head..tail` the consumer's, and the release stores of `tail` and `head` carry a slot from one to the other.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above; the last end to go drops the items left, wherever it lives.
unsafe impl<T: Send> Send for Shared<T> {}

/// The slot of `index` among a ring's slots.
#[inline(always)]
fn slot<T>(slots: &[Slot<T>], index: usize) -> &Slot<T> {
    debug_assert!(slots.len().is_power_of_two());
    // SAFETY: within bounds, since `Producer::make` makes the number of slots a power of two, and no index is asked for
    // before there are any.
    unsafe { slots.get_unchecked(index & (slots.len() - 1)) }
}

/// Writes the slot of `index`.
///
/// # Safety
///
/// For the producer only, with `index` within `tail..limit`: the consumer has given this slot back (its release store was read
/// with acquire in `Producer::refresh`), and it will not touch the slot before a `tail` beyond it is published.
#[inline(always)]
unsafe fn write<T>(slots: &[Slot<T>], index: usize, item: T) {
    // SAFETY: nobody else touches the slot: the caller's promise.
    slot(slots, index).with_mut(|slot| unsafe { (*slot).write(item) });
}

/// Moves the item of `index` out.
///
/// # Safety
///
/// For the consumer only, once for each item, with `index` found to be within `head..tail` (so that the producer wrote the slot
/// before the release store which `Consumer::refresh` read with acquire) and `head` not yet stored beyond it.
#[inline(always)]
unsafe fn read<T>(slots: &[Slot<T>], index: usize) -> T {
    // SAFETY: the slot holds an item that nobody else touches: the caller's promise.
    slot(slots, index).with(|slot| unsafe { (*slot).assume_init_read() })
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Both ends are gone and have stored their final index.
        let tail = self.tail.load(Ordering::Relaxed);
        let mut index = self.head.load(Ordering::Relaxed);
        while index != tail {
            // SAFETY: the ring is not empty, and `&mut self` says that nobody else looks.
            let slots = unsafe { self.slots() };
            // SAFETY: slots of `head..tail` hold an item; nobody else looks.
            slot(slots, index).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            index = index.wrapping_add(1);
        }
    }
}

/// Makes a ring for `capacity` items (at least 1) and returns its two ends. Its slots are allocated when the first item is
/// staged.
///
/// # Panics
///
/// When `capacity` is 0 or beyond half the address space.
#[must_use]
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    ring_from(capacity, 0)
}

/// [`ring`] with its indices starting at `start`, for tests of their wrap-around.
fn ring_from<T>(capacity: usize, start: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity > 0 && capacity <= usize::MAX / 4, "a ring needs a sensible capacity");
    let shared = Arc::new(Shared {
        head: CachePadded::new(AtomicUsize::new(start)),
        tail: CachePadded::new(AtomicUsize::new(start)),
        producer_gone: CachePadded::new(AtomicBool::new(false)),
        consumer_gone: AtomicBool::new(false),
        slots: UnsafeCell::new(Box::default()),
    });
    let producer = Producer {
        shared: Arc::clone(&shared),
        tail: start,
        published: start,
        // As if full: on its way to find room the first item makes the slots.
        limit: start,
        capacity,
        made: false,
        stats: RingStats::default(),
        not_sync: PhantomData,
    };
    let consumer = Consumer { shared, head: start, released: start, tail: start, capacity, not_sync: PhantomData };
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
    /// Where the ring is full: `Shared::head` as last seen, which may be further on by now, and the capacity.
    limit: usize,
    capacity: usize,
    /// There are slots.
    made: bool,
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
        if self.tail == self.limit && self.find_room() == 0 {
            self.stats.full += 1;
            return Err(item);
        }
        // SAFETY: the producer's.
        let slots = unsafe { self.shared.slots() };
        // SAFETY: not at `limit`, so there are slots.
        unsafe { write(slots, self.tail, item) };
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    /// [`stage`](Self::stage) of an item that is made and finished at its place: what is large need not be moved there. Gives
    /// what `complete` gives. `None`: the ring is full (counted), and nothing was made.
    #[inline(always)]
    pub fn stage_with<R>(&mut self, make: impl FnOnce() -> T, complete: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.tail == self.limit && self.find_room() == 0 {
            self.stats.full += 1;
            return None;
        }
        // SAFETY: the producer's.
        let slots = unsafe { self.shared.slots() };
        // SAFETY: not at `limit`, so there are slots, and nobody else touches this one before a `tail` beyond it is
        // published. Should `complete` panic, the item is lost.
        let completed = slot(slots, self.tail).with_mut(|slot| complete(unsafe { (*slot).write(make()) }));
        self.tail = self.tail.wrapping_add(1);
        Some(completed)
    }

    /// Stages items of `items` until it ends or the ring is full; returns how many. Faster than one by one. Takes no item
    /// that it has no room for. Should `items` panic, those it gave are lost.
    #[inline]
    pub fn stage_from(&mut self, items: &mut impl Iterator<Item = T>) -> usize {
        let begin = self.tail;
        let mut tail = begin;
        loop {
            // Locals, so that the loop does not go through the ring for each item.
            // SAFETY: the producer's.
            let slots = unsafe { self.shared.slots() };
            let limit = self.limit;
            while tail != limit {
                let Some(item) = items.next() else {
                    self.tail = tail;
                    return tail.wrapping_sub(begin);
                };
                // SAFETY: below `limit`, so there are slots.
                unsafe { write(slots, tail, item) };
                tail = tail.wrapping_add(1);
            }
            self.tail = tail;
            if self.find_room() == 0 {
                return tail.wrapping_sub(begin);
            }
        }
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
        let seen = self.occupied();
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
        self.limit.wrapping_sub(self.tail) >= items || self.refresh() >= items
    }

    /// The most items the ring holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// What went through so far.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        self.stats
    }

    /// Whether the consumer is gone: what is in the ring, and what is pushed from now on, is dropped unread.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.consumer_gone.load(Ordering::Acquire)
    }

    /// Reads the consumer's index; returns the room, which is then below `limit`.
    #[inline]
    fn find_room(&mut self) -> usize {
        if !self.made {
            self.make();
        }
        self.refresh()
    }

    /// Makes the slots.
    #[cold]
    fn make(&mut self) {
        let count = self.capacity.next_power_of_two();
        let made: Box<[_]> = (0..count).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
        // SAFETY: nothing was ever published, so the consumer does not look.
        self.shared.slots.with_mut(|slots| unsafe { *slots = made });
        self.made = true;
    }

    /// Reads the consumer's index; returns the room. Without slots `limit` stays where it is.
    #[inline]
    fn refresh(&mut self) -> usize {
        if !self.made {
            return self.capacity;
        }
        self.limit = self.shared.head.load(Ordering::Acquire).wrapping_add(self.capacity);
        self.limit.wrapping_sub(self.tail)
    }

    /// Items in the ring, staged ones included; some may be read and given back since the last `refresh`.
    #[inline(always)]
    fn occupied(&self) -> usize {
        self.capacity - self.limit.wrapping_sub(self.tail)
    }

    /// Kept out of `publish`: called when the stale copy of the consumer's index promises a new maximum.
    #[cold]
    fn note_high_water(&mut self) {
        self.refresh();
        let seen = self.occupied();
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
        let index = self.head;
        self.head = index.wrapping_add(1);
        // SAFETY: not empty.
        let slots = unsafe { self.shared.slots() };
        // SAFETY: `index` was within `head..tail`, and `head` has moved on.
        Some(unsafe { read(slots, index) })
    }

    /// The next item, left in place.
    #[inline]
    pub fn peek(&mut self) -> Option<&mut T> {
        if self.head == self.tail && self.refresh() == 0 {
            return None;
        }
        // SAFETY: not empty.
        let slots = unsafe { self.shared.slots() };
        // SAFETY: `head..tail` hold items which are the consumer's until released, and `&mut self` makes this reference
        // the only way to it.
        Some(slot(slots, self.head).with_mut(|slot| unsafe { (*slot).assume_init_mut() }))
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
        let next = self.head;
        let end = next.wrapping_add(there.min(max));
        // Counts as taken from now on, so that a drain that is forgotten loses items but never shows one twice. Dropping it
        // moves back to where it stopped.
        self.head = end;
        Drain {
            next,
            end,
            // SAFETY: not empty.
            slots: if there > 0 { unsafe { self.shared.slots() } } else { &[] },
            head: &mut self.head,
            released: &mut self.released,
            shared: &self.shared.head,
        }
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
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether the producer is gone. Ask before looking for items: those found after a `true` are the last.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.producer_gone.load(Ordering::Acquire)
    }

    /// Reads the producer's index; returns how many items are there.
    #[inline]
    fn refresh(&mut self) -> usize {
        self.tail = self.shared.tail.load(Ordering::Acquire);
        self.tail.wrapping_sub(self.head)
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
///
/// Holds what it needs of the consumer field by field, so that the loop over it does not go through the ring for each item.
pub struct Drain<'a, T> {
    slots: &'a [Slot<T>],
    /// The next item of `next..end`; the consumer's `head` is at `end` already.
    next: usize,
    end: usize,
    head: &'a mut usize,
    released: &'a mut usize,
    shared: &'a AtomicUsize,
}

impl<T> Iterator for Drain<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.next == self.end {
            return None;
        }
        let index = self.next;
        self.next = index.wrapping_add(1);
        // SAFETY: `drain` has found `next..end` to be items, and moved the consumer's `head` behind them.
        Some(unsafe { read(self.slots, index) })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end.wrapping_sub(self.next);
        (left, Some(left))
    }
}

impl<T> ExactSizeIterator for Drain<'_, T> {}

impl<T> Drop for Drain<'_, T> {
    #[inline]
    fn drop(&mut self) {
        *self.head = self.next;
        if self.next != *self.released {
            self.shared.store(self.next, Ordering::Release);
            *self.released = self.next;
        }
    }
}

impl<T> fmt::Debug for Drain<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("left", &self.len()).finish_non_exhaustive()
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
