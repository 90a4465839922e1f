//! The flow table of a shard: from the hash of a quad to the slot of its connection.
//!
//! Open addressing with linear probing over entries of 8 octets: half of the hash, and the slot. Eight entries share a cache
//! line, so a lookup costs one miss here and one at the connection, and both can be prefetched over a batch. The stored
//! half of the hash keeps probes off the connections of other flows, and lets the table grow without asking for hashes
//! again.
//!
//! The table grows bit by bit: beside the larger one the smaller stays, and each call that changes something moves some of
//! its entries, from the end of it. What is left of it is at any time a table of its own, one of fewer places: an entry
//! whose home is beyond them is at home in the first. An entry of zeros is vacant, so that memory fresh from the
//! system need not be touched to be a table.
//!
//! The hash is keyed anew at each start ([`FlowHasher`](super::FlowHasher)), with another key than steering: buckets
//! that chose the shard would leave most of this table empty. Without the key nobody can make entries collide on purpose.
//! Whose quad it is, only the caller can tell: lookups ask it to compare.

use super::prefetch::prefetch;

/// The half of the hash above, one more than the slot below.
type Entry = u64;

const VACANT: Entry = 0;

/// Places of the smaller table that each change looks at: with fewer than two it would not be empty when the larger is full.
const MOVES: usize = 8;

/// So much of the smaller table goes back to the system at a time, in entries: half a megabyte.
const GIVE_BACK: usize = 1 << 16;

#[inline]
const fn entry(hash: u32, slot: u32) -> Entry {
    (hash as u64) << 32 | (slot as u64 + 1)
}

#[inline]
const fn hash_of(entry: Entry) -> u32 {
    (entry >> 32) as u32
}

#[inline]
const fn slot_of(entry: Entry) -> u32 {
    (entry as u32).wrapping_sub(1)
}

/// Slots by hash. Grows when five eighths full; never shrinks.
#[derive(Debug)]
pub struct FlowTable {
    /// A power of two of them, at least one always vacant.
    entries: Box<[Entry]>,
    /// What is left of the table that became too small.
    old: Vec<Entry>,
    /// How many it had, less one.
    old_mask: usize,
    len: usize,
}

impl Default for FlowTable {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

/// The half of the hash that the table uses.
#[inline]
const fn fold(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl FlowTable {
    /// A table that holds `flows` entries before it grows.
    #[must_use]
    pub fn with_capacity(flows: usize) -> Self {
        let entries = (flows * 8 / 5 + 1).next_power_of_two().max(16);
        Self { entries: vec![VACANT; entries].into_boxed_slice(), old: Vec::new(), old_mask: 0, len: 0 }
    }

    /// The slot filed under `hash` for which `is_it` says yes.
    #[inline]
    pub fn get(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = fold(hash);
        let mut index = self.home(hash);
        loop {
            let entry = self.entries[index];
            if entry == VACANT {
                break;
            }
            if hash_of(entry) == hash && is_it(slot_of(entry)) {
                return Some(slot_of(entry));
            }
            index = self.after(index);
        }
        if self.old.is_empty() {
            return None;
        }
        self.find_old(hash, is_it).map(|index| slot_of(self.old[index]))
    }

    /// Files `slot` under `hash`. The caller has made sure, by [`get`](Self::get), that the flow is not there yet.
    ///
    /// # Panics
    ///
    /// When `slot` is `u32::MAX`.
    pub fn insert(&mut self, hash: u64, slot: u32) {
        assert_ne!(slot, u32::MAX, "no slot has this number");
        if (self.len + 1) * 8 > self.entries.len() * 5 {
            self.grow();
        }
        self.len += 1;
        self.place(entry(fold(hash), slot));
        self.go_on();
    }

    /// Takes out `slot`, filed under `hash`; says whether it was there.
    pub fn remove(&mut self, hash: u64, slot: u32) -> bool {
        let hash = fold(hash);
        let there = self.remove_new(entry(hash, slot)) || self.remove_old(hash, slot);
        self.len -= usize::from(there);
        self.go_on();
        there
    }

    fn remove_new(&mut self, wanted: Entry) -> bool {
        let mut hole = self.home(hash_of(wanted));
        while self.entries[hole] != wanted {
            if self.entries[hole] == VACANT {
                return false;
            }
            hole = self.after(hole);
        }
        // Close the gap: whatever behind it would not be found across a vacant entry moves up.
        let mask = self.entries.len() - 1;
        let mut index = hole;
        loop {
            index = self.after(index);
            let entry = self.entries[index];
            if entry == VACANT {
                break;
            }
            let distance = index.wrapping_sub(self.home(hash_of(entry))) & mask;
            if distance >= index.wrapping_sub(hole) & mask {
                self.entries[hole] = entry;
                hole = index;
            }
        }
        self.entries[hole] = VACANT;
        true
    }

    /// Asks for the cache line where a lookup of `hash` will begin.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        prefetch(&self.entries[self.home(fold(hash))], 1);
    }

    /// Flows filed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no flow is filed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.entries.len() - 1)
    }

    #[inline]
    fn after(&self, index: usize) -> usize {
        (index + 1) & (self.entries.len() - 1)
    }

    fn place(&mut self, entry: Entry) {
        let mut index = self.home(hash_of(entry));
        while self.entries[index] != VACANT {
            index = self.after(index);
        }
        self.entries[index] = entry;
    }

    #[cold]
    fn grow(&mut self) {
        // Empty for long by now; if not, the rest at once.
        while !self.old.is_empty() {
            self.move_some();
        }
        let larger = vec![VACANT; self.entries.len() * 2].into_boxed_slice();
        self.old = std::mem::replace(&mut self.entries, larger).into_vec();
        self.old_mask = self.old.len() - 1;
    }

    /// Goes on with moving, if the table grows.
    #[inline]
    fn go_on(&mut self) {
        if !self.old.is_empty() {
            self.move_some();
        }
    }

    #[cold]
    fn move_some(&mut self) {
        for _ in 0..MOVES {
            match self.old.pop() {
                None => break,
                Some(VACANT) => {}
                Some(entry) => self.place(entry),
            }
        }
        if self.old.is_empty() || self.old.capacity() - self.old.len() >= GIVE_BACK {
            self.old.shrink_to_fit();
        }
    }

    /// Where in what is left of the smaller table an entry is at home.
    fn old_home(&self, hash: u32) -> usize {
        let home = hash as usize & self.old_mask;
        if home < self.old.len() { home } else { 0 }
    }

    fn after_old(&self, index: usize) -> usize {
        if index + 1 < self.old.len() { index + 1 } else { 0 }
    }

    #[cold]
    fn find_old(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<usize> {
        let mut index = self.old_home(hash);
        // Towards the end it may be all full.
        for _ in 0..self.old.len() {
            let entry = self.old[index];
            if entry == VACANT {
                break;
            }
            if hash_of(entry) == hash && is_it(slot_of(entry)) {
                return Some(index);
            }
            index = self.after_old(index);
        }
        None
    }

    #[cold]
    fn remove_old(&mut self, hash: u32, slot: u32) -> bool {
        if self.old.is_empty() {
            return false;
        }
        let Some(mut hole) = self.find_old(hash, |found| found == slot) else { return false };
        let places = self.old.len();
        let steps = |from: usize, to: usize| if to >= from { to - from } else { to + places - from };
        let mut index = hole;
        for _ in 1..places {
            index = self.after_old(index);
            let entry = self.old[index];
            if entry == VACANT {
                break;
            }
            if steps(self.old_home(hash_of(entry)), index) >= steps(hole, index) {
                self.old[hole] = entry;
                hole = index;
            }
        }
        self.old[hole] = VACANT;
        true
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
