//! What an octet queue is made of: segments, and the budget that all queues of an engine share.

use std::{mem, ptr, ptr::NonNull, slice};

use bytes::Bytes;
use crossbeam::utils::CachePadded;

use super::super::sync::{AtomicPtr, AtomicUsize, Ordering, UnsafeCell};

/// Octets of a queue's first segment, which it may have whatever the budget says. The model checker's are tiny.
pub(super) const SMALLEST: usize = if cfg!(loom) { 2 } else { 1_024 };
/// Octets of the largest segment.
pub(super) const LARGEST: usize = if cfg!(loom) { 4 } else { 65_536 };

/// What part of the free memory one queue may have. The model checker has memory for a few segments only.
const SHARE: usize = if cfg!(loom) { 1 } else { 8 };

/// How much memory all queues of an engine may take together.
#[derive(Debug)]
pub struct OctetBudget {
    limit: usize,
    in_use: CachePadded<AtomicUsize>,
}

impl OctetBudget {
    /// A budget of `limit` octets. A queue's first 1,024 octets are granted beyond it, so that none ever stands still
    /// because of others.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, in_use: CachePadded::new(AtomicUsize::new(0)) }
    }

    /// Octets of memory in the queues' segments now, filled or not.
    pub fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// The limit, in octets.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether `octets` more would be granted to a queue in which `queued` wait: together an eighth of what is free at most, so
    /// that however many queues nobody reads, something is left for the others (as a shard shares its memory).
    pub(super) fn allows(&self, octets: usize, queued: usize) -> bool {
        let free = self.limit.saturating_sub(self.in_use());
        octets <= free && octets.saturating_add(queued) <= free / SHARE
    }

    pub(super) fn take(&self, octets: usize, queued: usize) -> bool {
        if !self.allows(octets, queued) {
            return false;
        }
        // Others may have come in between: looked at again with what is ours included.
        if self.in_use.fetch_add(octets, Ordering::Relaxed) + octets > self.limit {
            self.give_back(octets);
            return false;
        }
        true
    }

    pub(super) fn take_beyond(&self, octets: usize) {
        self.in_use.fetch_add(octets, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, octets: usize) {
        self.in_use.fetch_sub(octets, Ordering::Relaxed);
    }
}

/// Octets of the queue's own, always initialized.
pub(super) struct Own {
    octets: Box<[std::cell::UnsafeCell<u8>]>,
    /// What the model checker watches in place of the octets.
    #[cfg(loom)]
    watched: Box<[UnsafeCell<()>]>,
}

/// Where the octets of a segment are.
pub(super) enum Memory {
    Own(Own),
    /// Octets of the application. From its publishing on the reader's, which takes them out when it has read them.
    Piece(UnsafeCell<Bytes>),
}

/// One segment.
pub(super) struct Segment {
    /// The segment behind this one. Not null: this one is sealed.
    pub(super) next: AtomicPtr<Segment>,
    /// Count of the queue's octets at the first one of this segment. Written while the writer has the segment to itself.
    pub(super) base: UnsafeCell<usize>,
    /// Octets in a sealed segment, and in a piece. Written before `next`, and before a piece is published.
    pub(super) end: UnsafeCell<usize>,
    pub(super) memory: Memory,
}

impl Segment {
    /// A segment with room for `size` octets, in a box of its own.
    pub(super) fn empty(size: usize) -> NonNull<Self> {
        let octets = Box::into_raw(vec![0_u8; size].into_boxed_slice());
        let own = Own {
            // SAFETY: `UnsafeCell<u8>` has the layout of `u8`, and the box is ours alone.
            octets: unsafe { Box::from_raw(octets as *mut [std::cell::UnsafeCell<u8>]) },
            #[cfg(loom)]
            watched: (0..size).map(|_| UnsafeCell::new(())).collect(),
        };
        Self::boxed(Memory::Own(own), 0, 0)
    }

    /// A segment that holds `piece` and nothing else, from count `base` on; in a box of its own.
    pub(super) fn piece(piece: Bytes, base: usize) -> NonNull<Self> {
        let end = piece.len();
        Self::boxed(Memory::Piece(UnsafeCell::new(piece)), base, end)
    }

    fn boxed(memory: Memory, base: usize, end: usize) -> NonNull<Self> {
        let next = AtomicPtr::new(ptr::null_mut());
        let segment = Box::new(Self { next, base: UnsafeCell::new(base), end: UnsafeCell::new(end), memory });
        NonNull::from(Box::leak(segment))
    }

    /// Octets it has memory for. 0: a piece.
    pub(super) fn size(&self) -> usize {
        match &self.memory {
            Memory::Own(own) => own.octets.len(),
            Memory::Piece(_) => 0,
        }
    }

    /// # Safety
    ///
    /// For the writer, which sets it, or for the reader while there are octets that it has seen and whose taking it has not
    /// stored (the writer starts no segment over then), or once it has found the segment sealed.
    #[inline]
    pub(super) unsafe fn base(&self) -> usize {
        // SAFETY: not written meanwhile: the caller's place.
        self.base.with(|base| unsafe { *base })
    }

    /// The number of octets and the next segment, once the writer is done with this one.
    #[inline]
    pub(super) fn sealed(&self) -> Option<(usize, NonNull<Segment>)> {
        let next = NonNull::new(self.next.load(Ordering::Acquire))?;
        // SAFETY: written before the release store of `next`, and not again before the reader gives the segment away.
        Some((self.end.with(|end| unsafe { *end }), next))
    }

    /// Octets to be read.
    ///
    /// # Safety
    ///
    /// They are published, and nobody writes them, or takes the piece out, while the slice lives.
    #[inline]
    pub(super) unsafe fn read(&self, start: usize, len: usize) -> &[u8] {
        match &self.memory {
            Memory::Own(own) => {
                let cells = &own.octets[start..][..len];
                #[cfg(loom)]
                own.watched[start..][..len].iter().for_each(|octet| octet.with(|_| ()));
                // SAFETY: in bounds and initialized; nobody writes: the caller's promise.
                unsafe { slice::from_raw_parts(cells.as_ptr().cast(), cells.len()) }
            }
            // SAFETY: nobody takes it out: the caller's promise.
            Memory::Piece(piece) => &piece.with(|piece| unsafe { &*piece })[start..][..len],
        }
    }

    /// Octets to be written. None in a piece.
    ///
    /// # Safety
    ///
    /// Nobody else reads or writes them while the slice lives.
    #[inline]
    #[allow(clippy::mut_from_ref)] // Cells: the caller's promise.
    pub(super) unsafe fn write(&self, start: usize, len: usize) -> &mut [u8] {
        let Memory::Own(own) = &self.memory else { return &mut [] };
        let cells = &own.octets[start..][..len];
        #[cfg(loom)]
        own.watched[start..][..len].iter().for_each(|octet| octet.with_mut(|_| ()));
        // SAFETY: in bounds and initialized; to the caller alone: its promise. The pointer comes from `UnsafeCell`s.
        unsafe { slice::from_raw_parts_mut(std::cell::UnsafeCell::raw_get(cells.as_ptr()), cells.len()) }
    }

    /// Lets go of a piece of which `read` octets, all, are read: the application may wait for its memory.
    ///
    /// # Safety
    ///
    /// For the reader, before it has stored that it has read them, and while none of them is borrowed.
    #[inline]
    pub(super) unsafe fn let_go_of_piece(&self, read: usize) {
        if let Memory::Piece(piece) = &self.memory {
            // SAFETY: written before the piece was published.
            if self.end.with(|end| unsafe { *end }) == read {
                // SAFETY: the caller's promise.
                drop(piece.with_mut(|piece| mem::take(unsafe { &mut *piece })));
            }
        }
    }
}
