//! The timing wheel of a shard: one deadline for each connection, by slot number.
//!
//! A hierarchical wheel: level 0 has buckets of one tick, each level above buckets as wide as the whole level below it.
//! An entry lies in the level of the highest digit (base 64) in which its tick differs from the current one, so that all of a
//! level lies before all of the next higher, and every bucket before those behind it. Eight levels cover all of time.
//!
//! ```text
//!   level 0   64 buckets of 65.5 us  = 4.2 ms        1   of 4.2 ms = 268 ms     2   of 268 ms = 17 s
//!         3              of 17 s     = 18 min        4   of 18 min = 19.5 h     5.. = 52 days, 9 years, all
//! ```
//!
//! *Lazy*: a deadline that moves back (as each ACK moves the retransmission timer) only changes a number; the entry is
//! looked at in its old place and put where it belongs then. Only a deadline that comes nearer moves the entry.
//! Never early: an entry fires in the first call whose `now` has reached its deadline rounded up to a tick.
//!
//! The wheel knows slots and times, not what they stand for: the caller asks the connection which of its timers are due.
//! Entries are linked through nodes numbered by slot, whose pages come with connections and never otherwise.
//!
//! A bucket that has come, of whatever level, becomes the list of entries to look at as a whole, and each look takes one of
//! them: it fires, or is filed anew. So the work can be cut into pieces of any size ([`Wheel::pop_within`]).

use super::pages::Pages;
use crate::tcp::time::Instant;

/// A tick is 2^16 ns, 65.5 us: fine enough to pace at 100 us.
const TICK_BITS: u32 = 16;
/// log2 of the buckets of a level.
const LEVEL_BITS: u32 = 6;
const LEVELS: usize = 8;
const BUCKETS: usize = 1 << LEVEL_BITS;
/// End of a list.
const NIL: u32 = u32::MAX;

/// Where an entry is.
const IDLE: u16 = u16::MAX;
/// The list of entries to look at. Buckets are numbered level * 64 + index below it.
const DUE: u16 = (LEVELS * BUCKETS) as u16;

#[derive(Debug, Clone, Copy)]
struct Node {
    /// When to fire.
    deadline: Instant,
    /// The tick it was filed under: at or before the deadline's.
    filed: u64,
    next: u32,
    /// The entry before it, or `NIL`.
    prev: u32,
    /// `IDLE`, or of the first in a list: which one, a bucket or `DUE`. Of the others: that they are in one.
    list: u16,
}

const VACANT: Node = Node { deadline: Instant::ZERO, filed: 0, next: NIL, prev: NIL, list: IDLE };

#[derive(Debug, Clone, Copy)]
struct Bucket {
    first: u32,
    /// No entry in it is filed under an earlier tick. (Not raised when one is removed.)
    earliest: u64,
}

/// Deadlines by slot number.
#[derive(Debug)]
pub struct Wheel {
    /// Where the wheel stands: all entries of ticks before this one are in the list of those to look at.
    tick: u64,
    /// One bit for each bucket that may hold an entry.
    occupied: [u64; LEVELS],
    buckets: Box<[Bucket; LEVELS * BUCKETS]>,
    /// First of the entries to look at: their tick or that of their bucket has come.
    due: u32,
    nodes: Pages<Node>,
    len: usize,
}

/// The first tick at which `deadline` has passed. Rounds up, but not beyond the last tick of all.
const fn tick_of(deadline: Instant) -> u64 {
    let tick = deadline.as_nanos().div_ceil(1 << TICK_BITS);
    if tick > tick_at(Instant::MAX) { tick_at(Instant::MAX) } else { tick }
}

/// The last tick that `now` has reached. Rounds down.
const fn tick_at(now: Instant) -> u64 {
    now.as_nanos() >> TICK_BITS
}

const fn instant_of(tick: u64) -> Instant {
    Instant::from_nanos(tick.saturating_mul(1 << TICK_BITS))
}

impl Wheel {
    /// An empty wheel that stands at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            tick: tick_at(now),
            occupied: [0; LEVELS],
            buckets: Box::new([Bucket { first: NIL, earliest: u64::MAX }; LEVELS * BUCKETS]),
            due: NIL,
            nodes: Pages::new(),
            len: 0,
        }
    }

    /// Makes room for slots below `slots`, so that no later call allocates for them.
    pub fn reserve(&mut self, slots: usize) {
        while slots > self.nodes.len() {
            self.nodes.add_page(|_| VACANT);
        }
    }

    /// Sets the deadline of `slot`, in place of the one it may have. A deadline in the past fires at the next call of
    /// [`expired`](Self::expired).
    #[inline]
    pub fn insert(&mut self, slot: u32, deadline: Instant) {
        if slot as usize >= self.nodes.len() {
            self.reserve(slot as usize + 1);
        }
        let tick = tick_of(deadline);
        let node = &mut self.nodes[slot];
        node.deadline = deadline;
        if node.list == IDLE {
            self.len += 1;
            self.file(slot, tick);
        } else if tick < node.filed {
            self.unlink(slot);
            self.file(slot, tick);
        }
    }

    /// Forgets the deadline of `slot`, if it has one: the connection is gone or waits for nothing.
    #[inline]
    pub fn remove(&mut self, slot: u32) {
        if self.deadline(slot).is_some() {
            self.unlink(slot);
            self.len -= 1;
        }
    }

    /// The deadline of `slot`.
    #[inline]
    #[must_use]
    pub fn deadline(&self, slot: u32) -> Option<Instant> {
        self.nodes.get(slot).filter(|node| node.list != IDLE).map(|node| node.deadline)
    }

    /// Takes out one slot whose deadline has passed. To be called until `None`, with the same `now`; a new deadline that
    /// is set meanwhile and has passed as well comes out too. Time does not go back: a `now` before that of an earlier call
    /// counts as that one.
    #[inline]
    pub fn pop_expired(&mut self, now: Instant) -> Option<u32> {
        let mut looks = usize::MAX;
        self.pop_within(now, &mut looks)
    }

    /// As [`pop_expired`](Self::pop_expired), with at most `looks` at entries, which it counts down. `None` with none left
    /// means: there may be more, and [`next`](Self::next) says so.
    #[inline]
    pub fn pop_within(&mut self, now: Instant, looks: &mut usize) -> Option<u32> {
        let tick = tick_at(now).max(self.tick);
        loop {
            while self.due != NIL {
                if *looks == 0 {
                    return None;
                }
                *looks -= 1;
                let slot = self.due;
                self.unlink(slot);
                // By its deadline of now, not by the one it was filed under.
                let at = tick_of(self.nodes[slot].deadline);
                if at <= tick {
                    self.len -= 1;
                    return Some(slot);
                }
                self.file(slot, at);
            }
            if !self.advance(tick) {
                return None;
            }
        }
    }

    /// Takes out all slots whose deadline has passed and hands each to `expire`.
    pub fn expired(&mut self, now: Instant, expire: &mut impl FnMut(u32)) {
        while let Some(slot) = self.pop_expired(now) {
            expire(slot);
        }
    }

    /// When to call [`expired`](Self::expired) next: no deadline passes (rounded up to a tick) before it. May be earlier
    /// than the first deadline, when that was moved back or removed; the call then finds nothing and the next answer is
    /// better. `None`: no slot has a deadline.
    #[inline]
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        if self.due != NIL {
            return Some(instant_of(self.tick));
        }
        let bucket = self.first_bucket()?;
        Some(instant_of(self.buckets[bucket].earliest))
    }

    /// Slots with a deadline.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no slot has a deadline.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The occupied bucket that comes first.
    #[inline]
    fn first_bucket(&self) -> Option<usize> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        Some(level * BUCKETS + self.occupied[level].trailing_zeros() as usize)
    }

    /// With nothing left to look at: makes that of the first bucket that begins at or before `tick`. Without such a bucket
    /// the wheel stands at `tick`, and the answer is `false`.
    fn advance(&mut self, tick: u64) -> bool {
        let Some(bucket) = self.first_bucket() else {
            self.tick = tick;
            return false;
        };
        let (level, index) = (bucket / BUCKETS, (bucket % BUCKETS) as u64);
        let shift = level as u32 * LEVEL_BITS;
        // Same digits as the current tick above this level, the bucket's index in it, zeros below.
        let begin = (((self.tick >> shift) & !(BUCKETS as u64 - 1)) | index) << shift;
        debug_assert!(begin > self.tick);
        if begin > tick {
            self.tick = tick;
            return false;
        }
        self.tick = begin;
        self.occupied[level] &= !(1 << index);
        let bucket = std::mem::replace(&mut self.buckets[bucket], Bucket { first: NIL, earliest: u64::MAX });
        self.due = bucket.first;
        self.nodes[bucket.first].list = DUE;
        true
    }

    /// Puts an entry that is in no list where `tick` belongs.
    fn file(&mut self, slot: u32, tick: u64) {
        if tick <= self.tick {
            return self.link(slot, DUE, tick);
        }
        let level = (63 - (tick ^ self.tick).leading_zeros()) / LEVEL_BITS;
        let index = (tick >> (level * LEVEL_BITS)) & (BUCKETS as u64 - 1);
        self.link(slot, (level as usize * BUCKETS + index as usize) as u16, tick);
    }

    #[inline]
    fn link(&mut self, slot: u32, list: u16, tick: u64) {
        let first = if list == DUE {
            &mut self.due
        } else {
            let bucket = &mut self.buckets[list as usize];
            bucket.earliest = bucket.earliest.min(tick);
            self.occupied[list as usize / BUCKETS] |= 1 << (list as usize % BUCKETS);
            &mut bucket.first
        };
        let next = std::mem::replace(first, slot);
        let node = &mut self.nodes[slot];
        (node.filed, node.next, node.prev, node.list) = (tick, next, NIL, list);
        if next != NIL {
            self.nodes[next].prev = slot;
        }
    }

    fn unlink(&mut self, slot: u32) {
        let node = &mut self.nodes[slot];
        let Node { next, prev, list, .. } = *node;
        node.list = IDLE;
        if next != NIL {
            let next = &mut self.nodes[next];
            next.prev = prev;
            if prev == NIL {
                next.list = list;
            }
        }
        if prev != NIL {
            self.nodes[prev].next = next;
        } else if list == DUE {
            self.due = next;
        } else {
            let bucket = &mut self.buckets[list as usize];
            bucket.first = next;
            if next == NIL {
                bucket.earliest = u64::MAX;
                self.occupied[list as usize / BUCKETS] &= !(1 << (list as usize % BUCKETS));
            }
        }
    }
}

#[cfg(test)]
#[path = "wheel_tests.rs"]
mod tests;
