//! The octets of a send memory, and where its adopted pieces are: all that is shared with the tx stage.
//!
//! Must not contain: who holds what (`send_memory`), what is free (`blocks`).

use std::alloc::{Layout, handle_alloc_error};
use std::cell::UnsafeCell;
use std::num::NonZeroU32;
use std::slice;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use super::blocks::{CHUNK_LEN, UNIT};
use super::mapping::Mapping;

/// Set in the index of an adopted piece. The others count [`UNIT`]s from the start of the region.
pub(super) const ADOPTED: u32 = 1 << 31;

/// The memory itself, alive as long as the shard or the tx stage is.
#[derive(Debug)]
pub(super) struct Region {
    octets: Mapping,
    len: usize,
    /// The places for adopted pieces, made for the first of them.
    adopted: OnceLock<Box<[UnsafeCell<Option<Bytes>>]>>,
    pub(super) id: NonZeroU32,
}

// SAFETY: octets and places are written by `SendMemory` (by `&mut`, so by one thread) and read by holders of a `Lease`, never
// the same ones at a time: see the head of `send_memory`.
unsafe impl Sync for Region {}

impl Region {
    /// Pages of the kernel: zeroed when first touched, which is what makes a large region free until it is used. Ends the
    /// program where memory ends, as any allocation does.
    pub(super) fn new(chunks: u32) -> Self {
        /// Numbers regions, so that a token cannot be used with the wrong one. 0 is left out.
        static NEXT_ID: AtomicU32 = AtomicU32::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let id = NonZeroU32::new(id).expect("four billion send memories");
        assert!(chunks <= ADOPTED / (CHUNK_LEN / UNIT) as u32, "more send memory than can be numbered");
        let len = chunks as usize * CHUNK_LEN;
        let Ok(octets) = Mapping::new(len) else {
            handle_alloc_error(Layout::array::<u8>(len).unwrap_or(Layout::new::<u8>()))
        };
        Self { octets, len, adopted: OnceLock::new(), id }
    }

    /// Where the `len` octets from `start` of the block at `index` begin. Panics when they are not within the region.
    #[inline]
    pub(super) fn at(&self, index: u32, start: usize, len: usize) -> *mut u8 {
        let from = index as usize * UNIT + start;
        assert!(from <= self.len && len <= self.len - from, "range beyond the region");
        // SAFETY: within the mapping, as was just checked.
        unsafe { self.octets.first().add(from) }
    }

    /// Makes the places for adopted pieces, if there are none yet.
    pub(super) fn make_places(&self, most: usize) {
        self.adopted.get_or_init(|| (0..most).map(|_| UnsafeCell::new(None)).collect());
    }

    /// Where the adopted piece of this index is.
    #[inline]
    pub(super) fn place(&self, index: u32) -> &UnsafeCell<Option<Bytes>> {
        let places = self.adopted.get().expect("an adopted piece has a place");
        &places[(index & !ADOPTED) as usize]
    }

    /// Reads octets.
    ///
    /// # Safety
    ///
    /// They must be filled, and their block must not be allocated anew (or their piece let go) while the slice lives.
    #[inline]
    pub(super) unsafe fn read(&self, index: u32, start: usize, len: usize) -> &[u8] {
        if index & ADOPTED != 0 {
            let piece = self.place(index).get();
            // SAFETY: the place is written before the first lease and after the last, not meanwhile: the caller's promise.
            let octets = unsafe { &*piece }.as_ref().expect("a piece is held while it is lent");
            return &octets[start..][..len];
        }
        let first = self.at(index, start, len);
        // SAFETY: initialized, in bounds, and not written meanwhile: the caller's promise.
        unsafe { slice::from_raw_parts(first, len) }
    }

    /// Gives the pages of a chunk back to the kernel. They are zeroed when they are next touched.
    ///
    /// # Safety
    ///
    /// Nobody may hold a token for any octet of the chunk.
    pub(super) unsafe fn give_back(&self, chunk: u32) {
        let from = chunk as usize * CHUNK_LEN;
        assert!(from < self.len, "chunk beyond the region");
        // SAFETY: whole pages that nobody looks at: the caller's promise.
        unsafe { self.octets.give_back(from, CHUNK_LEN) };
    }
}
