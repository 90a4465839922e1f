//! Memory for data to be sent: 64 KB chunks that one shard fills and one tx stage reads.
//!
//! The shard appends a connection's data to a [`Chunk`] and sends slices of it as [`Lease`]s inside frames. The tx stage
//! turns a lease into bytes through its [`SendReader`] and sends the lease back in the frame's completion. The counts are
//! plain numbers that the shard alone changes: up in [`SendMemory::lease`], down in [`SendMemory::complete`]. A connection
//! may die before its chunks ([`SendMemory::release`]), a chunk never before its last completion.
//!
//! [`SendMemory::adopt`] makes a chunk of octets that the application has already ([`Bytes`]): full from the start, lent and
//! counted like any other, and let go at its last completion. No reference is counted per lease.
//!
//! # Why the sharing is sound
//!
//! ```text
//!   chunk   |======== filled ========|------- spare -------|      leases lie within `filled`;
//!           |   lease   |   |lease|                                writes go to `spare` only
//! ```
//!
//! 1. Octets below `filled` are never written again until the chunk is allocated anew; `filled` only grows.
//! 2. A lease covers filled octets only, and a chunk is allocated anew only when no lease on it is out. So what the tx
//!    stage reads and what the shard writes never overlap, though both happen at the same time.
//! 3. `Chunk` and `Lease` are unique tokens: neither can be cloned or made elsewhere, and each carries the number of its
//!    memory, so that a token of another memory is refused.
//! 4. An adopted piece has a place of its own, written when it is adopted and at its last completion: of 1 to 3 with the
//!    place for the chunk, and its octets never change.
//! 5. The lease goes to the other thread and back through something that synchronizes (a ring), as safe Rust demands of
//!    any value sent. That orders filling before reading, and reading before filling anew.

use std::{
    cell::UnsafeCell,
    num::NonZeroU32,
    ops::Range,
    slice,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;

/// Octets in a chunk.
pub const CHUNK_LEN: usize = 65_536;
/// Places for adopted pieces, for each chunk of the memory.
const ADOPTED_PER_CHUNK: u32 = 4;
/// Set in the index of an adopted piece.
const ADOPTED: u32 = 1 << 31;

/// The memory itself, alive as long as the shard or the tx stage is.
#[derive(Debug)]
struct Region {
    bytes: Box<[UnsafeCell<u8>]>,
    /// The places for adopted pieces, made for the first of them.
    adopted: OnceLock<Box<[UnsafeCell<Option<Bytes>>]>>,
    id: NonZeroU32,
}

// SAFETY: octets and places are written by `SendMemory` (by `&mut`, so by one thread) and read by holders of a `Lease`, never
// the same ones at a time: see the head of this file.
unsafe impl Sync for Region {}

impl Region {
    fn new(chunks: u32) -> Self {
        /// Numbers regions, so that a token cannot be used with the wrong one. 0 is left out.
        static NEXT_ID: AtomicU32 = AtomicU32::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let id = NonZeroU32::new(id).expect("four billion send memories");
        // Zeroed by the kernel when first touched, which is what makes a large region free until it is used.
        let bytes = Box::into_raw(vec![0_u8; chunks as usize * CHUNK_LEN].into_boxed_slice());
        // SAFETY: `UnsafeCell<u8>` has the layout of `u8`, and the box is ours alone.
        let bytes = unsafe { Box::from_raw(bytes as *mut [UnsafeCell<u8>]) };
        Self { bytes, adopted: OnceLock::new(), id }
    }

    /// Where `len` octets from `start` of chunk `index` lie. Panics when they are not within one chunk of this region.
    #[inline]
    fn range(&self, index: u32, start: usize, len: usize) -> &[UnsafeCell<u8>] {
        assert!(start <= CHUNK_LEN && len <= CHUNK_LEN - start, "range beyond a chunk");
        &self.bytes[index as usize * CHUNK_LEN + start..][..len]
    }

    /// Where the adopted piece of this index is.
    #[inline]
    fn place(&self, index: u32) -> &UnsafeCell<Option<Bytes>> {
        let places = self.adopted.get().expect("an adopted piece has a place");
        &places[(index & !ADOPTED) as usize]
    }

    /// Reads octets.
    ///
    /// # Safety
    ///
    /// They must be filled, and their chunk must not be allocated anew (or their piece let go) while the slice lives.
    #[inline]
    unsafe fn read(&self, index: u32, start: usize, len: usize) -> &[u8] {
        if index & ADOPTED != 0 {
            let piece = self.place(index).get();
            // SAFETY: the place is written before the first lease and after the last, not meanwhile: the caller's promise.
            let octets = unsafe { &*piece }.as_ref().expect("a piece is held while it is lent");
            return &octets[start..][..len];
        }
        let cells = self.range(index, start, len);
        // SAFETY: initialized, in bounds, and not written meanwhile: the caller's promise.
        unsafe { slice::from_raw_parts(cells.as_ptr().cast(), cells.len()) }
    }
}

/// The right to fill one chunk, or an adopted piece. Lives with the connection whose data it holds; given back by
/// [`SendMemory::release`].
#[derive(Debug)]
#[must_use = "a chunk dropped is memory lost: release it"]
pub struct Chunk {
    region: NonZeroU32,
    index: u32,
    /// At most `CHUNK_LEN`, unless adopted; only grows.
    filled: u32,
}

impl Chunk {
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
        if self.index & ADOPTED != 0 { 0 } else { CHUNK_LEN - self.filled as usize }
    }
}

/// The right to read a slice of a chunk, on its way to the device or back. 16 bytes. Given back by
/// [`SendMemory::complete`].
#[derive(Debug)]
#[must_use = "a lease dropped keeps its chunk for ever: complete it"]
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

#[derive(Debug, Clone, Copy, Default)]
struct ChunkState {
    /// Leases out.
    leases: u32,
    /// Its owner is done with it: free at the last completion.
    released: bool,
}

/// The shard's side: all chunks and who holds them.
#[derive(Debug)]
pub struct SendMemory {
    region: Arc<Region>,
    chunks: Vec<ChunkState>,
    /// Of each place for an adopted piece that was ever used.
    adopted: Vec<ChunkState>,
    /// Those of them that are free.
    free_adopted: Vec<u32>,
    /// Last-in first-out: the chunk freed last is the warmest.
    free: Vec<u32>,
    outstanding: u64,
    /// Fewest chunks that were free at a time.
    least_free: usize,
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
        let chunk_states = vec![ChunkState::default(); chunks as usize];
        (
            Self {
                region,
                chunks: chunk_states,
                adopted: Vec::new(),
                free_adopted: Vec::new(),
                free: (0..chunks).rev().collect(),
                outstanding: 0,
                least_free: chunks as usize,
            },
            reader,
        )
    }

    /// An empty chunk. `None`: all are in use.
    #[inline]
    pub fn allocate(&mut self) -> Option<Chunk> {
        let index = self.free.pop()?;
        self.least_free = self.least_free.min(self.free.len());
        debug_assert_eq!(self.chunks[index as usize].leases, 0);
        self.chunks[index as usize] = ChunkState::default();
        Some(Chunk { region: self.region.id, index, filled: 0 })
    }

    /// Whether [`adopt`](Self::adopt) has a place left. There are four for each chunk of the memory.
    #[inline]
    #[must_use]
    pub fn can_adopt(&self) -> bool {
        !self.free_adopted.is_empty() || self.adopted.len() < self.most_adopted()
    }

    /// Makes a full chunk of octets that lie elsewhere, without copying them. They are kept until the chunk is released and
    /// the last of its leases completed.
    ///
    /// # Errors
    ///
    /// Gives the octets back when there is no place left ([`can_adopt`](Self::can_adopt)) or they are 4 GB or more.
    pub fn adopt(&mut self, bytes: Bytes) -> Result<Chunk, Bytes> {
        let Ok(filled) = u32::try_from(bytes.len()) else { return Err(bytes) };
        let index = match self.free_adopted.pop() {
            Some(index) => index,
            None if self.adopted.len() < self.most_adopted() => {
                if self.adopted.is_empty() {
                    self.reserve_places();
                }
                self.adopted.push(ChunkState::default());
                ADOPTED | (self.adopted.len() - 1) as u32
            }
            None => return Err(bytes),
        };
        *self.state(index) = ChunkState::default();
        let place = self.region.place(index).get();
        // SAFETY: the place is free: no lease on what was in it is out, and nobody has a token for it.
        unsafe { *place = Some(bytes) };
        Ok(Chunk { region: self.region.id, index, filled })
    }

    /// Makes room for all adopted pieces at once, so that none but the first costs an allocation.
    #[cold]
    fn reserve_places(&mut self) {
        let most = self.most_adopted();
        self.region.adopted.get_or_init(|| (0..most).map(|_| UnsafeCell::new(None)).collect());
        self.adopted.reserve_exact(most);
        self.free_adopted.reserve_exact(most);
    }

    fn most_adopted(&self) -> usize {
        self.chunks.len() * ADOPTED_PER_CHUNK as usize
    }

    /// Appends as much of `data` as the chunk has room for; returns how much that was.
    #[inline]
    pub fn append(&mut self, chunk: &mut Chunk, data: &[u8]) -> usize {
        let spare = self.spare(chunk);
        let len = data.len().min(spare.len());
        spare[..len].copy_from_slice(&data[..len]);
        chunk.filled += len as u32;
        len
    }

    /// The part of the chunk that is not filled yet, to be filled in place: [`commit`](Self::commit) says how much was.
    /// What it holds before is of no meaning.
    #[inline]
    pub fn spare<'a>(&'a mut self, chunk: &'a mut Chunk) -> &'a mut [u8] {
        self.check(chunk.region);
        if chunk.room() == 0 {
            return &mut [];
        }
        let cells = self.region.range(chunk.index, chunk.filled(), chunk.room());
        let first = cells.as_ptr();
        // SAFETY: in bounds (`range` checked) and initialized (zeroed at creation). Nobody reads it: leases and `bytes`
        // cover octets below `filled` only, and `filled` cannot grow while the slice borrows `chunk`. Nobody else writes
        // it: the handle is unique and borrowed mutably. Writing is allowed: the pointer comes from `UnsafeCell`s.
        unsafe { slice::from_raw_parts_mut(UnsafeCell::raw_get(first), cells.len()) }
    }

    /// Declares the first `octets` of [`spare`](Self::spare) filled.
    ///
    /// # Panics
    ///
    /// When the chunk has not so much room.
    #[inline]
    pub fn commit(&mut self, chunk: &mut Chunk, octets: usize) {
        assert!(octets <= chunk.room(), "commit beyond a chunk");
        chunk.filled += octets as u32;
    }

    /// Filled octets of a chunk.
    ///
    /// # Panics
    ///
    /// When the range is not filled.
    #[inline]
    #[must_use]
    pub fn bytes<'a>(&'a self, chunk: &'a Chunk, range: Range<usize>) -> &'a [u8] {
        self.check(chunk.region);
        assert!(range.start <= range.end && range.end <= chunk.filled(), "octets not filled");
        // SAFETY: filled, and the chunk is not released while it is borrowed.
        unsafe { self.region.read(chunk.index, range.start, range.len()) }
    }

    /// Lends `len` filled octets from `start` to the tx stage.
    ///
    /// # Panics
    ///
    /// When they are not filled.
    #[inline]
    pub fn lease(&mut self, chunk: &Chunk, start: usize, len: usize) -> Lease {
        self.check(chunk.region);
        assert!(start <= chunk.filled() && len <= chunk.filled() - start, "lease of octets not filled");
        let state = self.state(chunk.index);
        // A count that wrapped would free the chunk under its readers.
        state.leases = state.leases.checked_add(1).expect("leases of one chunk fit 32 bits");
        self.outstanding += 1;
        Lease { region: chunk.region, index: chunk.index, start: start as u32, len: len as u32 }
    }

    /// Takes a lease back: the device has the bytes. The last one of a released chunk frees it.
    #[inline]
    pub fn complete(&mut self, lease: Lease) {
        self.check(lease.region);
        let state = self.state(lease.index);
        // Each lease was counted when it was made and there is no second one like it.
        debug_assert!(state.leases > 0);
        state.leases -= 1;
        let last = state.leases == 0 && state.released;
        self.outstanding -= 1;
        if last {
            self.recycle(lease.index);
        }
    }

    /// Gives a chunk back. It is free (an adopted piece: let go) at once, or at the last completion of its leases.
    #[inline]
    pub fn release(&mut self, chunk: Chunk) {
        self.check(chunk.region);
        let state = self.state(chunk.index);
        state.released = true;
        if state.leases == 0 {
            self.recycle(chunk.index);
        }
    }

    /// Nobody has a token for this chunk any more.
    #[inline]
    fn recycle(&mut self, index: u32) {
        if index & ADOPTED == 0 {
            self.free.push(index);
        } else {
            self.let_go(index);
        }
    }

    fn let_go(&mut self, index: u32) {
        let place = self.region.place(index).get();
        // SAFETY: the chunk was released and its last lease completed, so nobody reads the place.
        let bytes = unsafe { (*place).take() };
        self.free_adopted.push(index);
        // May run code of whoever made them; all is in order here by now.
        drop(bytes);
    }

    #[inline]
    fn state(&mut self, index: u32) -> &mut ChunkState {
        if index & ADOPTED == 0 {
            &mut self.chunks[index as usize]
        } else {
            &mut self.adopted[(index & !ADOPTED) as usize]
        }
    }

    /// Adopted pieces held by connections or waiting for completions.
    #[must_use]
    pub fn adopted(&self) -> u32 {
        (self.adopted.len() - self.free_adopted.len()) as u32
    }

    /// Chunks not free: held by connections, or waiting for completions.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        (self.chunks.len() - self.free.len()) as u32
    }

    /// Whether no chunk is free.
    #[inline]
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.free.is_empty()
    }

    /// Most chunks that were not free at a time.
    #[must_use]
    pub fn most_in_use(&self) -> u32 {
        (self.chunks.len() - self.least_free) as u32
    }

    /// Leases not yet completed.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Chunks in all.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.chunks.len() as u32
    }

    #[inline]
    fn check(&self, region: NonZeroU32) {
        assert_eq!(region, self.region.id, "chunk or lease of another send memory");
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
        // SAFETY: a lease covers filled octets, and its chunk is not allocated anew before the lease is completed, which
        // takes it by value and therefore ends this borrow.
        unsafe { self.region.read(lease.index, lease.start as usize, lease.len as usize) }
    }
}

#[cfg(test)]
#[path = "send_memory_tests.rs"]
mod tests;
