//! Memory for data to be sent: blocks that one shard fills and one tx stage reads.
//!
//! The shard appends a connection's data to a [`Block`] and sends slices of it as [`Lease`]s inside frames. The tx stage
//! turns a lease into bytes through its [`SendReader`] and sends the lease back in the frame's completion. The counts are
//! plain numbers that the shard alone changes: up in [`SendMemory::lease`], down in [`SendMemory::complete`]. A connection
//! may die before its blocks ([`SendMemory::release`]), a block never before its last completion.
//!
//! A block is as large as what it is for: 256 octets, 1 KB, 4 KB, 16 KB or 64 KB, cut from chunks of 64 KB. So few octets
//! cost little memory, and what counts against whoever queues them is the memory, not the octets. Chunks without a taken
//! block serve any size, and those that lie idle go back to the kernel ([`SendMemory::give_back`]).
//!
//! [`SendMemory::adopt`] makes a block of octets that the application has already ([`Bytes`]): full from the start, lent and
//! counted like any other, and let go at its last completion. No reference is counted per lease.
//!
//! # Why the sharing is sound
//!
//! ```text
//!   chunk   | block | block | block | block |     blocks of a chunk have one length and never overlap
//!             /             \
//!   block   |==== filled ====|---- spare ----|    leases lie within `filled`;
//!           | lease |  |lease|                           writes go to `spare` only
//! ```
//!
//! 1. Octets below `filled` are never written again until the block is allocated anew; `filled` only grows.
//! 2. A lease covers filled octets only, and a block is free (to be allocated anew, by itself or as part of a block of
//!    another length) only when it was released and no lease on it is out. So what the tx stage reads and what the shard
//!    writes never overlap, though both happen at the same time. Pages go back to the kernel by whole free chunks, on which
//!    nobody has a lease either; they read as zeros when they come again, so that all octets are initialized at all times.
//! 3. `Block` and `Lease` are unique tokens: neither can be cloned or made elsewhere, and each carries the number of its
//!    memory, so that a token of another memory is refused. Their octets are addressed by the place of the block in the
//!    region, not by the state of its chunk, which the tx stage does not see.
//! 4. An adopted piece has a place of its own, written when it is adopted and at its last completion: of 1 to 3 with the
//!    place for the block, and its octets never change.
//! 5. The lease goes to the other thread and back through something that synchronizes (a ring), as safe Rust demands of
//!    any value sent. That orders filling before reading, and reading before filling anew.

use std::num::NonZeroU32;
use std::ops::Range;
use std::slice;
use std::sync::Arc;

use bytes::Bytes;

use super::blocks::{Blocks, UNIT};
pub use super::blocks::{CHUNK_LEN, block_for, block_within};
use super::pages;
use super::region::{ADOPTED, Region};

/// Places for adopted pieces, for each chunk of the memory.
const ADOPTED_PER_CHUNK: u32 = 4;

/// The right to fill one block, or an adopted piece. Lives with the connection whose data it holds; given back by
/// [`SendMemory::release`].
#[derive(Debug)]
#[must_use = "a block dropped is memory lost: release it"]
pub struct Block {
    region: NonZeroU32,
    /// The first unit of the block, or the place of an adopted piece.
    index: u32,
    /// At most `len`; only grows.
    filled: u32,
    len: u32,
}

impl Block {
    /// Octets filled.
    #[inline]
    #[must_use]
    pub fn filled(&self) -> usize {
        self.filled as usize
    }

    /// Octets that can still be filled. None in an adopted piece.
    #[inline]
    #[must_use]
    pub fn room(&self) -> usize {
        (self.len - self.filled) as usize
    }

    /// Octets of send memory that it takes, filled or not. None for an adopted piece.
    #[inline]
    #[must_use]
    pub fn taken(&self) -> usize {
        if self.index & ADOPTED != 0 { 0 } else { self.len as usize }
    }
}

/// The right to read a slice of a block, on its way to the device or back. 16 bytes. Given back by
/// [`SendMemory::complete`].
#[derive(Debug)]
#[must_use = "a lease dropped keeps its block for ever: complete it"]
pub struct Lease {
    region: NonZeroU32,
    index: u32,
    start: u32,
    len: u32,
}

impl Lease {
    /// Octets covered.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it covers nothing.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Of a block: how many leases are out, and [`RELEASED`]. One word, so that the states of a memory that is not used are
/// zeroed pages of the kernel, too.
type State = u32;

/// The owner of the block is done with it: free at the last completion.
const RELEASED: State = 1 << 31;

/// The shard's side: all blocks and who holds them.
#[derive(Debug)]
pub struct SendMemory {
    region: Arc<Region>,
    blocks: Blocks,
    /// Of each block, at the place of its first unit.
    states: Vec<State>,
    /// Of each place for an adopted piece that was ever used.
    adopted: Vec<State>,
    /// Those of them that are free.
    free_adopted: Vec<u32>,
    outstanding: u64,
}

/// The tx stage's side: turns leases into bytes.
#[derive(Debug)]
pub struct SendReader {
    region: Arc<Region>,
}

impl SendMemory {
    /// `chunks` chunks of [`CHUNK_LEN`] octets and the reader for the tx stage. The memory is touched when it is filled,
    /// not now.
    #[must_use]
    pub fn new(chunks: u32) -> (Self, SendReader) {
        let region = Arc::new(Region::new(chunks));
        let reader = SendReader { region: Arc::clone(&region) };
        let memory = Self {
            region,
            blocks: Blocks::new(chunks),
            states: vec![0; chunks as usize * (CHUNK_LEN / UNIT)],
            adopted: Vec::new(),
            free_adopted: Vec::new(),
            outstanding: 0,
        };
        (memory, reader)
    }

    /// Another reader, beside that of the tx stage.
    #[must_use]
    pub fn reader(&self) -> SendReader {
        SendReader { region: Arc::clone(&self.region) }
    }

    /// An empty block of the smallest size that holds `octets`, which is [`block_for`] them and 64 KB at most. When none of
    /// that size can be had, of the next smaller size of which there is one: so look at its [`room`](Block::room). `None`:
    /// there is none of those either.
    #[inline]
    pub fn allocate(&mut self, octets: usize) -> Option<Block> {
        self.allocate_within(octets, 0)
    }

    /// As [`allocate`](Self::allocate), but rather than none gives a larger block, of at most `most` octets: all free ones may
    /// be of sizes that nobody asks for.
    #[inline(always)]
    pub fn allocate_within(&mut self, octets: usize, most: usize) -> Option<Block> {
        let (index, len) = self.blocks.take(octets, most)?;
        let state = &mut self.states[index as usize];
        debug_assert!(*state & !RELEASED == 0, "allocated anew with leases out");
        *state = 0;
        Some(Block { region: self.region.id, index, filled: 0, len })
    }

    /// Whether [`adopt`](Self::adopt) has a place left. There are four for each chunk of the memory.
    #[inline]
    #[must_use]
    pub fn can_adopt(&self) -> bool {
        !self.free_adopted.is_empty() || self.adopted.len() < self.most_adopted()
    }

    /// Makes a full block of octets that lie elsewhere, without copying them. They are kept until the block is released and
    /// the last of its leases completed.
    ///
    /// # Errors
    ///
    /// Gives the octets back when there is no place left ([`can_adopt`](Self::can_adopt)) or they are 4 GB or more.
    pub fn adopt(&mut self, bytes: Bytes) -> Result<Block, Bytes> {
        let Ok(filled) = u32::try_from(bytes.len()) else { return Err(bytes) };
        let index = match self.free_adopted.pop() {
            Some(index) => index,
            None if self.adopted.len() < self.most_adopted() => {
                if self.adopted.is_empty() {
                    self.reserve_places();
                }
                self.adopted.push(0);
                ADOPTED | (self.adopted.len() - 1) as u32
            }
            None => return Err(bytes),
        };
        *self.state(index) = 0;
        let place = self.region.place(index).get();
        // SAFETY: the place is free: no lease on what was in it is out, and nobody has a token for it.
        unsafe { *place = Some(bytes) };
        Ok(Block { region: self.region.id, index, filled, len: filled })
    }

    /// Makes room for all adopted pieces at once, so that none but the first costs an allocation.
    #[cold]
    fn reserve_places(&mut self) {
        let most = self.most_adopted();
        self.region.make_places(most);
        self.adopted.reserve_exact(most);
        self.free_adopted.reserve_exact(most);
    }

    fn most_adopted(&self) -> usize {
        self.blocks.total() as usize * ADOPTED_PER_CHUNK as usize
    }

    /// Appends as much of `data` as the block has room for; returns how much that was.
    #[inline]
    pub fn append(&mut self, block: &mut Block, data: &[u8]) -> usize {
        let spare = self.spare(block);
        let len = data.len().min(spare.len());
        spare[..len].copy_from_slice(&data[..len]);
        block.filled += len as u32;
        len
    }

    /// The part of the block that is not filled yet, to be filled in place: [`commit`](Self::commit) says how much was.
    /// What it holds before is of no meaning.
    #[inline]
    pub fn spare<'a>(&'a mut self, block: &'a mut Block) -> &'a mut [u8] {
        self.check(block.region);
        if block.room() == 0 {
            return &mut [];
        }
        let first = self.region.at(block.index, block.filled(), block.room());
        // SAFETY: in bounds (`at` checked) and initialized (the kernel zeroes pages). Nobody reads it: leases and `bytes`
        // cover octets below `filled` only, and `filled` cannot grow while the slice borrows `block`. Nobody else writes
        // it: blocks do not overlap, and the handle is unique and borrowed mutably.
        unsafe { slice::from_raw_parts_mut(first, block.room()) }
    }

    /// Declares the first `octets` of [`spare`](Self::spare) filled.
    ///
    /// # Panics
    ///
    /// When the block has not so much room.
    #[inline]
    pub fn commit(&mut self, block: &mut Block, octets: usize) {
        assert!(octets <= block.room(), "commit beyond a block");
        block.filled += octets as u32;
    }

    /// Filled octets of a block.
    ///
    /// # Panics
    ///
    /// When the range is not filled.
    #[inline]
    #[must_use]
    pub fn bytes<'a>(&'a self, block: &'a Block, range: Range<usize>) -> &'a [u8] {
        self.check(block.region);
        assert!(range.start <= range.end && range.end <= block.filled(), "octets not filled");
        // SAFETY: filled, and the block is not released while it is borrowed.
        unsafe { self.region.read(block.index, range.start, range.len()) }
    }

    /// Lends `len` filled octets from `start` to the tx stage.
    ///
    /// # Panics
    ///
    /// When they are not filled.
    #[inline]
    pub fn lease(&mut self, block: &Block, start: usize, len: usize) -> Lease {
        self.check(block.region);
        assert!(start <= block.filled() && len <= block.filled() - start, "lease of octets not filled");
        let state = self.state(block.index);
        // A count that ran into the bit above it would free the block under its readers.
        assert!(*state < RELEASED - 1, "leases of one block fit 31 bits");
        *state += 1;
        self.outstanding += 1;
        Lease { region: block.region, index: block.index, start: start as u32, len: len as u32 }
    }

    /// Takes a lease back: the device has the bytes. The last one of a released block frees it.
    #[inline]
    pub fn complete(&mut self, lease: Lease) {
        self.check(lease.region);
        let state = self.state(lease.index);
        // Each lease was counted when it was made and there is no second one like it.
        debug_assert!(*state & !RELEASED > 0);
        *state -= 1;
        let last = *state == RELEASED;
        self.outstanding -= 1;
        if last {
            self.recycle(lease.index);
        }
    }

    /// Gives a block back. It is free (an adopted piece: let go) at once, or at the last completion of its leases.
    #[inline(always)]
    pub fn release(&mut self, block: Block) {
        self.check(block.region);
        let state = self.state(block.index);
        *state |= RELEASED;
        if *state == RELEASED {
            self.recycle(block.index);
        }
    }

    /// Nobody has a token for this block any more.
    #[inline]
    fn recycle(&mut self, index: u32) {
        if index & ADOPTED == 0 {
            self.blocks.give(index);
        } else {
            self.let_go(index);
        }
    }

    fn let_go(&mut self, index: u32) {
        let place = self.region.place(index).get();
        // SAFETY: the block was released and its last lease completed, so nobody reads the place.
        let bytes = unsafe { (*place).take() };
        self.free_adopted.push(index);
        // May run code of whoever made them; all is in order here by now.
        drop(bytes);
    }

    #[inline]
    fn state(&mut self, index: u32) -> &mut State {
        if index & ADOPTED == 0 {
            &mut self.states[index as usize]
        } else {
            &mut self.adopted[(index & !ADOPTED) as usize]
        }
    }

    /// Adopted pieces held by connections or waiting for completions.
    #[must_use]
    pub fn adopted(&self) -> u32 {
        (self.adopted.len() - self.free_adopted.len()) as u32
    }

    /// Chunks with a block that is not free: held by connections, or waiting for completions.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.blocks.total() - self.blocks.free()
    }

    /// Whether no block can be had, whatever its size.
    #[inline]
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.blocks.is_exhausted()
    }

    /// Most chunks that were in use at a time.
    #[must_use]
    pub fn most_in_use(&self) -> u32 {
        self.blocks.total() - self.blocks.least_free()
    }

    /// Octets of all blocks that are not free, whether filled or not.
    #[inline]
    #[must_use]
    pub fn taken_octets(&self) -> u64 {
        self.blocks.taken()
    }

    /// Octets of the chunks that are wholly free. There may be free blocks besides, each for its own size.
    #[inline]
    #[must_use]
    pub fn free_octets(&self) -> u64 {
        u64::from(self.blocks.free()) * CHUNK_LEN as u64
    }

    /// Octets in all.
    #[inline]
    #[must_use]
    pub fn capacity_octets(&self) -> u64 {
        u64::from(self.blocks.total()) * CHUNK_LEN as u64
    }

    /// Leases not yet completed.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Chunks in all.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.blocks.total()
    }

    /// Whether so many free chunks were in use not long ago that [`give_back`](Self::give_back) will find some that can go.
    #[inline]
    #[must_use]
    pub fn has_idle(&self) -> bool {
        self.blocks.has_idle()
    }

    /// Gives the pages of free chunks that were not used since the last call back to the kernel, at most `most` chunks, each of
    /// which takes a system call. A few chunks stay as they are, for the next burst. Returns how many it were.
    pub fn give_back(&mut self, most: usize) -> usize {
        let (region, states) = (&self.region, &mut self.states);
        self.blocks.cool(most, |chunk, around| {
            // SAFETY: a chunk is free when each of its blocks was released and has no lease out.
            unsafe { region.give_back(chunk) };
            // Of its blocks nothing is to be remembered either. Several chunks share a page of it: it goes with the last.
            let units = CHUNK_LEN / UNIT;
            pages::give_back(&mut states[around.start as usize * units..around.end as usize * units]);
        })
    }

    #[inline]
    fn check(&self, region: NonZeroU32) {
        assert_eq!(region, self.region.id, "block or lease of another send memory");
    }
}

impl SendReader {
    /// The octets of a lease.
    ///
    /// # Panics
    ///
    /// When the lease is of another memory: a stage has mixed up its rings.
    #[inline]
    #[must_use]
    pub fn bytes<'a>(&'a self, lease: &'a Lease) -> &'a [u8] {
        assert_eq!(lease.region, self.region.id, "lease of another send memory");
        // SAFETY: a lease covers filled octets, and its block is not allocated anew before the lease is completed, which
        // takes it by value and therefore ends this borrow.
        unsafe { self.region.read(lease.index, lease.start as usize, lease.len as usize) }
    }
}

#[cfg(test)]
#[path = "send_memory_tests.rs"]
mod tests;
