//! The flow table of a shard: from the hash of a quad to the slot of its connection.
//!
//! Open addressing with linear probing over entries of 8 octets: half of the hash, and the slot. Eight entries share a cache
//! line, so a lookup costs one miss here and one at the connection, and both can be prefetched over a batch. The stored
//! half of the hash keeps probes off the connections of other flows, and lets the table grow without asking for hashes
//! again.
//!
//! The hash is keyed anew at each start ([`FlowHasher`](crate::flow::FlowHasher)), with another key than steering: buckets
//! that chose the shard would leave most of this table empty. Without the key nobody can make entries collide on purpose.
//! Whose quad it is, only the caller can tell: lookups ask it to compare.

/// Marks a vacant entry.
const VACANT: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    slot: u32,
}

const EMPTY: Entry = Entry { hash: 0, slot: VACANT };

/// Slots by hash. Grows when five eighths full; never shrinks.
#[derive(Debug)]
pub struct FlowTable {
    /// A power of two of them, at least one always vacant.
    entries: Box<[Entry]>,
    len: usize,
}

impl Default for FlowTable {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

/// The half of the hash that the table uses.
const fn fold(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl FlowTable {
    /// A table that holds `flows` entries before it grows.
    #[must_use]
    pub fn with_capacity(flows: usize) -> Self {
        let entries = (flows * 8 / 5 + 1).next_power_of_two().max(16);
        Self { entries: vec![EMPTY; entries].into_boxed_slice(), len: 0 }
    }

    /// The slot filed under `hash` for which `is_it` says yes.
    #[inline]
    pub fn get(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = fold(hash);
        let mut index = self.home(hash);
        loop {
            let entry = self.entries[index];
            if entry.slot == VACANT {
                return None;
            }
            if entry.hash == hash && is_it(entry.slot) {
                return Some(entry.slot);
            }
            index = self.after(index);
        }
    }

    /// Files `slot` under `hash`. The caller has made sure, by [`get`](Self::get), that the flow is not there yet.
    ///
    /// # Panics
    ///
    /// When `slot` is `u32::MAX`.
    pub fn insert(&mut self, hash: u64, slot: u32) {
        assert_ne!(slot, VACANT, "no slot has this number");
        if (self.len + 1) * 8 > self.entries.len() * 5 {
            self.grow();
        }
        self.len += 1;
        self.place(Entry { hash: fold(hash), slot });
    }

    /// Takes out `slot`, filed under `hash`; says whether it was there.
    pub fn remove(&mut self, hash: u64, slot: u32) -> bool {
        let hash = fold(hash);
        let mut hole = self.home(hash);
        loop {
            let entry = self.entries[hole];
            if entry.slot == VACANT {
                return false;
            }
            if entry.slot == slot && entry.hash == hash {
                break;
            }
            hole = self.after(hole);
        }
        // Close the gap: whatever behind it would not be found across a vacant entry moves up.
        let mask = self.entries.len() - 1;
        let mut index = hole;
        loop {
            index = self.after(index);
            let entry = self.entries[index];
            if entry.slot == VACANT {
                break;
            }
            let distance = index.wrapping_sub(self.home(entry.hash)) & mask;
            if distance >= index.wrapping_sub(hole) & mask {
                self.entries[hole] = entry;
                hole = index;
            }
        }
        self.entries[hole] = EMPTY;
        self.len -= 1;
        true
    }

    /// Asks for the cache line where a lookup of `hash` will begin.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        prefetch(&self.entries[self.home(fold(hash))]);
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
        let mut index = self.home(entry.hash);
        while self.entries[index].slot != VACANT {
            index = self.after(index);
        }
        self.entries[index] = entry;
    }

    #[cold]
    fn grow(&mut self) {
        let larger = vec![EMPTY; self.entries.len() * 2].into_boxed_slice();
        let entries = std::mem::replace(&mut self.entries, larger);
        for entry in entries.into_iter().filter(|entry| entry.slot != VACANT) {
            self.place(entry);
        }
    }
}

/// Asks the processor to have the line of `value` ready; no effect where that is not known how.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that changes nothing and cannot fault; the address is that of a live reference besides.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
