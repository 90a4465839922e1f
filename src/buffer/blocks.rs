//! Which blocks of a send memory are free. Bookkeeping alone: the octets are elsewhere.
//!
//! ```text
//!   chunk, 64 KB, of the class of 16 KB       a chunk belongs to one class while any of its blocks is taken;
//!   |  taken  |  free   |  taken  |  free   |     when the last one comes back, it is free for any class
//! ```
//!
//! Blocks are 256 octets, 1 KB, 4 KB, 16 KB or 64 KB long. Taking one and giving it back takes the same few steps however
//! many there are: chunks with a free block lie in lists by class and by how full they are, and the fullest come first, so
//! that the others run empty.
//!
//! Nothing is written for a chunk before its first use. Must not contain: octets, tokens, leases.

use std::collections::VecDeque;
use std::ops::Range;

/// Octets in a chunk.
pub const CHUNK_LEN: usize = 65_536;
/// Octets in the smallest block. Blocks are numbered by these.
pub(super) const UNIT: usize = 256;
/// Units in a chunk.
const UNITS: u32 = (CHUNK_LEN / UNIT) as u32;

/// The class of whole chunks; those below it share a chunk.
const WHOLE: u8 = 4;
/// Of a free chunk whose pages were given back.
const COLD: u8 = 5;
/// Lists for chunks that are up to a quarter full, up to a half, and so on.
const QUARTERS: usize = 4;
/// Names no chunk.
const NONE: u32 = u32::MAX;
/// Free chunks that are not given back to the kernel: those that the next burst takes first.
const STOCK: usize = 4;
/// Chunks to either side that are near: what is known of so many fills a page.
const NEAR: usize = 4;

/// The class of the smallest block that holds `octets`; of the largest one where none does.
#[inline]
const fn class_for(octets: usize) -> u8 {
    let bits = usize::BITS - octets.saturating_sub(1).leading_zeros();
    let class = bits.saturating_sub(UNIT.trailing_zeros()).div_ceil(2) as u8;
    if class < WHOLE { class } else { WHOLE }
}

/// Octets in a block of this class.
#[inline]
const fn len_of(class: u8) -> usize {
    UNIT << (2 * class)
}

/// Octets in the smallest block that holds `octets`; 64 KB where none does.
#[inline]
#[must_use]
pub const fn block_for(octets: usize) -> usize {
    len_of(class_for(octets))
}

/// Octets in the largest block that is no larger than `octets`; 0 where all are.
#[inline]
#[must_use]
pub const fn block_within(octets: usize) -> usize {
    let class = class_for(octets);
    let len = len_of(class);
    if len <= octets {
        len
    } else if class > 0 {
        len_of(class - 1)
    } else {
        0
    }
}

#[derive(Debug, Clone, Copy)]
struct Chunk {
    /// One bit a block, set where it is free.
    free: [u64; 4],
    /// Neighbours in its list, while it is in one.
    before: u32,
    behind: u32,
    taken: u16,
    class: u8,
}

impl Chunk {
    /// With all blocks of `class` free.
    #[inline]
    fn of(class: u8) -> Self {
        let mut free = [0; 4];
        match class {
            0 => free = [u64::MAX; 4],
            class => free[0] = u64::MAX >> (64 - (UNITS >> (2 * class))),
        }
        Self { free, before: NONE, behind: NONE, taken: 0, class }
    }

    #[inline]
    fn is_full(&self) -> bool {
        u32::from(self.taken) == UNITS >> (2 * self.class)
    }

    /// Which list it belongs to. Not for whole chunks, and for none that is full.
    #[inline]
    fn quarter(&self) -> usize {
        (u32::from(self.taken) << (2 * self.class)) as usize * QUARTERS / UNITS as usize
    }
}

/// All blocks of a memory.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Those that were ever used, from the first on.
    chunks: Vec<Chunk>,
    /// How many there are in all.
    total: u32,
    /// Free ones that may have pages of the kernel. Last in, first out: the one freed last is the warmest.
    warm: VecDeque<u32>,
    /// Free ones whose pages were given back.
    cold: Vec<u32>,
    /// First of each list of chunks with a free block.
    partial: [[u32; QUARTERS]; WHOLE as usize],
    /// Of each class a free block that is at hand: whoever takes one at a time and gives it back costs no list and no set-up
    /// of a chunk. Its chunk counts it among the taken ones, and so keeps its class when all others have come back. It is a
    /// free chunk then all the same, and any class takes it when there is no other.
    hand: [u32; WHOLE as usize],
    /// Free chunks.
    free: u32,
    /// Octets of all taken blocks.
    taken: u64,
    /// Fewest free chunks at a time.
    least_free: u32,
    /// Fewest warm ones at a time since some were last given back.
    least_warm: usize,
}

impl Blocks {
    pub(super) fn new(chunks: u32) -> Self {
        // Room for all, so that nothing grows in the middle of traffic; room costs nothing before it is used.
        let room = chunks as usize;
        Self {
            chunks: Vec::with_capacity(room),
            total: chunks,
            warm: VecDeque::with_capacity(room),
            cold: Vec::with_capacity(room),
            partial: [[NONE; QUARTERS]; WHOLE as usize],
            hand: [NONE; WHOLE as usize],
            free: chunks,
            taken: 0,
            least_free: chunks,
            least_warm: 0,
        }
    }

    /// Takes a block of the smallest class that holds `octets`. Where there is none, of the next smaller class that has one,
    /// and where none has, of the next larger one, but of no more octets than `most`. The index of its first unit, and its
    /// length.
    #[inline]
    pub(super) fn take(&mut self, octets: usize, most: usize) -> Option<(u32, u32)> {
        let class = class_for(octets);
        let (class, index) = match self.take_of(class) {
            Some(index) => (class, index),
            None => self.take_other(class, most)?,
        };
        let len = len_of(class);
        self.taken += len as u64;
        Some((index, len as u32))
    }

    #[cold]
    fn take_other(&mut self, class: u8, most: usize) -> Option<(u8, u32)> {
        let larger = (class + 1..=WHOLE).filter(|&class| len_of(class) <= most);
        let mut others = (0..class).rev().chain(larger);
        others.find_map(|class| Some((class, self.take_of(class)?)))
    }

    #[inline]
    fn take_of(&mut self, class: u8) -> Option<u32> {
        if let Some(hand) = self.hand.get_mut(class as usize)
            && *hand != NONE
        {
            let index = std::mem::replace(hand, NONE);
            if self.chunks[(index / UNITS) as usize].taken == 1 {
                self.book_chunk();
            }
            return Some(index);
        }
        self.take_farther(class)
    }

    /// With none of this class at hand.
    fn take_farther(&mut self, class: u8) -> Option<u32> {
        if class == WHOLE {
            let index = self.take_chunk()?;
            self.chunks[index as usize].class = WHOLE;
            return Some(index * UNITS);
        }
        // The fullest first, that the others run empty.
        let listed = self.partial[class as usize].iter().rev().find(|&&first| first != NONE).copied();
        let index = match listed {
            Some(index) => index,
            None => {
                let index = self.take_chunk()?;
                self.chunks[index as usize] = Chunk::of(class);
                self.list(index);
                index
            }
        };
        let chunk = &mut self.chunks[index as usize];
        let before = chunk.quarter();
        let (word, free) = chunk.free.iter_mut().enumerate().find(|(_, word)| **word != 0)?;
        let block = word as u32 * 64 + free.trailing_zeros();
        *free &= *free - 1;
        chunk.taken += 1;
        let (is_full, moves) = (chunk.is_full(), chunk.quarter() != before);
        if moves {
            self.unlist(index, before);
            if !is_full {
                self.list(index);
            }
        }
        Some(index * UNITS + (block << (2 * class)))
    }

    /// A free chunk, no longer free.
    #[inline]
    fn take_chunk(&mut self) -> Option<u32> {
        let index = if let Some(index) = self.warm.pop_back() {
            self.least_warm = self.least_warm.min(self.warm.len());
            index
        } else {
            self.take_colder()?
        };
        self.book_chunk();
        Some(index)
    }

    /// One that is not warm.
    fn take_colder(&mut self) -> Option<u32> {
        if let Some(index) = self.cold.pop() {
            return Some(index);
        }
        if self.chunks.len() < self.total as usize {
            self.chunks.push(Chunk::of(WHOLE));
            return Some((self.chunks.len() - 1) as u32);
        }
        let chunks = &self.chunks;
        let is_free = |hand: &u32| *hand != NONE && chunks[(*hand / UNITS) as usize].taken == 1;
        let hand = self.hand.iter_mut().find(|hand| is_free(hand))?;
        let index = std::mem::replace(hand, NONE) / UNITS;
        self.unlist(index, self.chunks[index as usize].quarter());
        self.chunks[index as usize].taken = 0;
        Some(index)
    }

    /// A free chunk was taken.
    #[inline]
    fn book_chunk(&mut self) {
        self.free -= 1;
        self.least_free = self.least_free.min(self.free);
    }

    /// Gives a block back.
    #[inline]
    pub(super) fn give(&mut self, index: u32) {
        let chunk = &self.chunks[(index / UNITS) as usize];
        self.taken -= len_of(chunk.class) as u64;
        if let Some(hand) = self.hand.get_mut(chunk.class as usize)
            && *hand == NONE
        {
            *hand = index;
            self.free += u32::from(chunk.taken == 1);
            return;
        }
        self.give_farther(index);
    }

    /// With another one of its class at hand.
    fn give_farther(&mut self, index: u32) {
        let (number, unit) = (index / UNITS, index % UNITS);
        let chunk = &mut self.chunks[number as usize];
        let class = chunk.class;
        if class == WHOLE {
            self.free += 1;
            self.warm.push_back(number);
            return;
        }
        let hand = self.hand[class as usize];
        let (was_full, before) = (chunk.is_full(), chunk.quarter());
        let block = unit >> (2 * class);
        let bit = 1 << (block % 64);
        debug_assert!(chunk.free[block as usize / 64] & bit == 0 && hand != index, "a block given back twice");
        chunk.free[block as usize / 64] |= bit;
        chunk.taken -= 1;
        if chunk.taken == 0 {
            self.free += 1;
            self.unlist(number, before);
            self.warm.push_back(number);
            return;
        }
        self.free += u32::from(chunk.taken == 1 && hand / UNITS == number);
        if chunk.quarter() != before {
            if !was_full {
                self.unlist(number, before);
            }
            self.list(number);
        }
    }

    /// Puts a chunk at the front of the list that it belongs to.
    #[inline]
    fn list(&mut self, index: u32) {
        let chunk = &mut self.chunks[index as usize];
        let first = &mut self.partial[chunk.class as usize][chunk.quarter()];
        (chunk.before, chunk.behind) = (NONE, *first);
        let behind = std::mem::replace(first, index);
        if behind != NONE {
            self.chunks[behind as usize].before = index;
        }
    }

    /// Takes a chunk out of its list, that of `quarter`.
    #[inline]
    fn unlist(&mut self, index: u32, quarter: usize) {
        let Chunk { before, behind, class, .. } = self.chunks[index as usize];
        if before == NONE {
            self.partial[class as usize][quarter] = behind;
        } else {
            self.chunks[before as usize].behind = behind;
        }
        if behind != NONE {
            self.chunks[behind as usize].before = before;
        }
    }

    /// Whether no block can be had.
    #[inline]
    pub(super) fn is_exhausted(&self) -> bool {
        self.free == 0 && self.partial.iter().flatten().chain(&self.hand).all(|&first| first == NONE)
    }

    /// Free chunks.
    #[inline]
    pub(super) fn free(&self) -> u32 {
        self.free
    }

    /// Fewest chunks that were free at a time.
    pub(super) fn least_free(&self) -> u32 {
        self.least_free
    }

    /// Chunks in all.
    #[inline]
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// Octets of all taken blocks.
    #[inline]
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether more free chunks may have pages than are worth keeping.
    #[inline]
    pub(super) fn has_idle(&self) -> bool {
        self.warm.len() > STOCK
    }

    /// Hands those of the free chunks that were not used since the last call to `give`, the coldest first, at most `most` of
    /// them, and counts them as cold. With each comes the run of cold chunks that it is in, as far as it is near. A few stay.
    /// Returns how many it were.
    pub(super) fn cool(&mut self, most: usize, mut give: impl FnMut(u32, Range<u32>)) -> usize {
        let idle = self.least_warm.saturating_sub(STOCK).min(most);
        for index in self.warm.drain(..idle) {
            self.chunks[index as usize].class = COLD;
            let is_cold = |index: &u32| self.chunks.get(*index as usize).is_some_and(|chunk| chunk.class == COLD);
            let before = (0..index).rev().take(NEAR).take_while(is_cold).count() as u32;
            let behind = (index + 1..).take(NEAR).take_while(is_cold).count() as u32;
            give(index, index - before..index + behind + 1);
            self.cold.push(index);
        }
        self.least_warm = self.warm.len();
        idle
    }
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
