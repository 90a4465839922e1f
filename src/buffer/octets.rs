//! A single-producer single-consumer queue of octets: the road between a stage and a thread of the application.
//!
//! The octets lie in a linked list of segments. The writer fills the last one and the reader drains the first; neither ever
//! waits for the other. An idle queue holds at most one small segment: memory comes with the first octet, and each further
//! segment is twice as large as the one before as long as the reader is a whole segment behind. Octets that the application
//! has in a [`Bytes`] pass through as they are: a segment of their own.
//!
//! ```text
//!               reader's                                 writer's
//!   spare      +---------+     +-------------------+     +-------------------------+
//!   +------+   |read|to r| --> | e a d             | --> | published |staged| free |
//!   +------+   +---------+     +-------------------+     +-------------------------+
//!   one place       ^ Shared::head                       Shared::tail ^
//! ```
//!
//! # Why the sharing is sound
//!
//! `head` and `tail` count the octets of the queue's whole life and wrap at `usize::MAX`. A segment knows the count at its
//! first octet (`base`) and, once it is sealed, how many it holds (`end`) and which one follows (`next`).
//!
//! 1. The octets between `head` and `tail` are never written; what the writer fills lies beyond the `tail` it has stored.
//! 2. The reader looks into a segment only when it has seen a `tail` beyond its own `head`, and not any more once it has
//!    stored a `head` equal to the `tail` it has seen. So a writer that finds `head == tail` has its segment to itself, and
//!    starts it over from its beginning: a reader that keeps up costs no second segment.
//! 3. A segment is sealed before anything behind it is published, so a reader that finds no `next` after it has seen a `tail`
//!    knows that all octets up to there are in this segment.
//! 4. Linking a segment is the writer's last touch of the one before. The reader gives a drained one away (to the spare place,
//!    from which the writer takes it, or to the allocator) only after it has seen that link.
//! 5. Each of the hand-overs (`tail`, `head`, `next`, the spare place) is a release store read with acquire.

mod memory;

use std::{cell::Cell, fmt, io::IoSlice, marker::PhantomData, mem, ptr, ptr::NonNull};

use bytes::{Buf, Bytes};
use crossbeam::utils::CachePadded;

use super::sync::{Arc, AtomicPtr, AtomicUsize, Ordering};
pub use memory::OctetBudget;
use memory::{LARGEST, Memory, SMALLEST, Segment};

/// Octets of the application in smaller pieces than this are copied: a piece costs an allocation, and the end of the segment
/// before it.
pub(crate) const LEAST_PIECE: usize = if cfg!(loom) { 2 } else { 2_048 };

/// What both ends see.
struct Shared {
    /// Octets read. Stored by the reader only.
    head: CachePadded<AtomicUsize>,
    /// Octets published. Stored by the writer only.
    tail: CachePadded<AtomicUsize>,
    /// Where the list begins for a reader that has no segment yet. Stored by the writer with its first segment, and by a
    /// reader that goes.
    first: AtomicPtr<Segment>,
    /// A drained segment on its way from the reader to the writer.
    spare: AtomicPtr<Segment>,
    budget: Arc<OctetBudget>,
}

impl Shared {
    /// Gives a segment to the allocator, and its octets back to the budget.
    ///
    /// # Safety
    ///
    /// `segment` came from a box and belongs to the caller alone.
    unsafe fn free(&self, segment: *mut Segment) {
        // SAFETY: the caller's promise.
        let segment = unsafe { Box::from_raw(segment) };
        self.budget.give_back(segment.size());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let spare = self.spare.load(Ordering::Relaxed);
        if !spare.is_null() {
            // SAFETY: what is in the spare place belongs to whoever takes it, and both ends are gone.
            unsafe { self.free(spare) };
        }
        let mut segment = self.first.load(Ordering::Relaxed);
        while !segment.is_null() {
            // SAFETY: from the reader's segment on, the list is live, and both ends are gone.
            let next = unsafe { &*segment }.next.load(Ordering::Relaxed);
            // SAFETY: as above; not looked at again.
            unsafe { self.free(segment) };
            segment = next;
        }
    }
}

/// Makes a queue that holds up to `capacity` octets and returns its two ends. Takes no memory for octets yet.
pub fn octet_queue(capacity: usize, budget: &Arc<OctetBudget>) -> (OctetWriter, OctetReader) {
    queue_from(capacity, budget, 0)
}

/// [`octet_queue`] with its counts starting at `start`, for tests of their wrap-around.
fn queue_from(capacity: usize, budget: &Arc<OctetBudget>, start: usize) -> (OctetWriter, OctetReader) {
    let shared = Arc::new(Shared {
        head: CachePadded::new(AtomicUsize::new(start)),
        tail: CachePadded::new(AtomicUsize::new(start)),
        first: AtomicPtr::new(ptr::null_mut()),
        spare: AtomicPtr::new(ptr::null_mut()),
        budget: Arc::clone(budget),
    });
    let writer = OctetWriter {
        shared: Arc::clone(&shared),
        segment: None,
        filled: 0,
        size: 0,
        grown: 0,
        tail: start,
        published: start,
        head: Cell::new(start),
        capacity,
    };
    let reader = OctetReader { shared, segment: None, head: start, tail: Cell::new(start) };
    (writer, reader)
}

/// The writing end of an octet queue. `Send`, but one thread's at a time: neither `Clone` nor `Sync`.
///
/// ```compile_fail
/// fn shared<T: Sync>(_: T) {}
/// shared(trust::buffer::octets::octet_queue(1, &std::sync::Arc::new(trust::buffer::octets::OctetBudget::new(0))).0);
/// ```
pub struct OctetWriter {
    shared: Arc<Shared>,
    /// The last segment of the list.
    segment: Option<NonNull<Segment>>,
    /// Octets written to it.
    filled: usize,
    /// Octets it has memory for. 0 for a piece of the application's.
    size: usize,
    /// `size` of the last segment that was no such piece.
    grown: usize,
    /// Octets written so far.
    tail: usize,
    /// `Shared::tail` as last stored.
    published: usize,
    /// `Shared::head` as last seen: the real one may be further on.
    head: Cell<usize>,
    capacity: usize,
}

// SAFETY: nothing in it belongs to a thread: the segment is the writer's to fill, wherever the writer lives.
unsafe impl Send for OctetWriter {}

impl OctetWriter {
    /// How many octets the queue still takes; at least so many, the reader may be taking some. 0 too when the engine's
    /// memory for queues is used up and the reader has not taken all yet. Short of that a write may still take less than
    /// this, if memory runs out on the way.
    pub fn room(&self) -> usize {
        self.refresh();
        let room = self.capacity_left();
        let memory = self.filled < self.size
            || self.segment.is_none()
            || self.reader_took_all()
            || !self.shared.spare.load(Ordering::Relaxed).is_null()
            || self.shared.budget.allows(SMALLEST, self.queued());
        if memory { room } else { 0 }
    }

    /// Appends as much of `octets` as there is room for, and shows it to the reader; returns how much.
    #[inline]
    pub fn write(&mut self, octets: &[u8]) -> usize {
        let written = self.put(octets);
        self.publish();
        written
    }

    /// [`write`](Self::write) of several slices, one behind the other, shown to the reader at once.
    pub fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> usize {
        let mut written = 0;
        for slice in slices {
            let taken = self.put(slice);
            written += taken;
            if taken < slice.len() {
                break;
            }
        }
        self.publish();
        written
    }

    /// Appends `bytes` without copying them, and shows them to the reader. They take of the capacity but not of the budget.
    /// Less than 2,048 octets are copied as [`write`](Self::write) does.
    ///
    /// # Errors
    ///
    /// Gives back what there is no room for: the rest behind those octets that were appended, or all.
    pub fn push_bytes(&mut self, mut bytes: Bytes) -> Result<(), Bytes> {
        let len = self.allowed(bytes.len());
        if len >= LEAST_PIECE {
            let piece = if len == bytes.len() { mem::take(&mut bytes) } else { bytes.split_to(len) };
            self.link(Segment::piece(piece, self.tail));
            self.tail = self.tail.wrapping_add(len);
            self.publish();
        } else {
            let written = self.write(&bytes[..len]);
            bytes.advance(written);
        }
        if bytes.is_empty() { Ok(()) } else { Err(bytes) }
    }

    /// Gives up the memory of a queue that is empty: what the reader's [`trim`](OctetReader::trim) gives back then. The next
    /// octet begins with a small segment again. For queues that are likely to stay idle; of no effect on one that is not
    /// empty.
    pub fn trim(&mut self) {
        if self.size > 0 && self.is_empty() {
            self.grown = 0;
            self.link(Segment::piece(Bytes::new(), self.tail));
        }
    }

    /// Memory for the next octets, to be filled in place: [`commit`](Self::commit) says how much was. Empty when there is
    /// no room; otherwise as much as lies in one piece. What it holds before is of no meaning.
    pub fn spare(&mut self) -> &mut [u8] {
        // Half a segment is worth a look at whether it can be had whole.
        self.make_room(self.size / 2 + 1);
        if self.allowed(1) == 0 || (self.filled == self.size && !self.extend()) {
            return &mut [];
        }
        let len = self.allowed(self.size - self.filled);
        match self.segment {
            // SAFETY: the writer's own segment is live, its octets from `filled` on are the writer's alone, and `&mut self`
            // keeps it from writing them otherwise.
            Some(segment) => unsafe { segment.as_ref().write(self.filled, len) },
            None => &mut [],
        }
    }

    /// Appends the first `octets` of [`spare`](Self::spare) and shows them to the reader.
    ///
    /// # Panics
    ///
    /// When there was not so much spare memory.
    pub fn commit(&mut self, octets: usize) {
        let room = self.allowed(octets);
        assert!(octets <= room && octets <= self.size - self.filled, "commit beyond the spare memory");
        #[cfg(loom)]
        if let Some(segment) = self.segment {
            // SAFETY: as in `spare`; for the model checker to look once more.
            let _ = unsafe { segment.as_ref().write(self.filled, octets) };
        }
        self.filled += octets;
        self.tail = self.tail.wrapping_add(octets);
        self.publish();
    }

    /// Whether the reader has taken all that was written.
    pub fn is_empty(&self) -> bool {
        self.refresh();
        self.reader_took_all()
    }

    /// Octets that the reader has not taken yet.
    pub fn len(&self) -> usize {
        self.refresh();
        self.queued()
    }

    /// Octets written in the queue's whole life. Wraps around.
    pub fn written(&self) -> usize {
        self.tail
    }

    /// Sets how many octets the queue holds at most. May lie below what it holds already: there is no room then until the
    /// reader has taken enough.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// How many octets the queue holds at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Reads the reader's count.
    #[inline]
    fn refresh(&self) {
        self.head.set(self.shared.head.load(Ordering::Acquire));
    }

    /// Octets in the queue as far as known.
    #[inline]
    fn queued(&self) -> usize {
        self.tail.wrapping_sub(self.head.get())
    }

    /// As far as known.
    #[inline]
    fn capacity_left(&self) -> usize {
        self.capacity.saturating_sub(self.queued())
    }

    /// As far as known.
    #[inline]
    fn reader_took_all(&self) -> bool {
        self.tail == self.head.get()
    }

    /// How many of `octets` the capacity allows; reads the reader's count only when the copy of it does not suffice.
    #[inline]
    fn allowed(&self, octets: usize) -> usize {
        if self.capacity_left() < octets {
            self.refresh();
        }
        self.capacity_left().min(octets)
    }

    /// Writes without showing it.
    #[inline]
    fn put(&mut self, octets: &[u8]) -> usize {
        let allowed = self.allowed(octets.len());
        self.make_room(allowed);
        let mut written = 0;
        while written < allowed {
            if self.filled == self.size && !self.extend() {
                break;
            }
            let Some(segment) = self.segment else { break };
            let len = (allowed - written).min(self.size - self.filled);
            // SAFETY: the writer's own segment is live, and its octets from `filled` on are the writer's alone.
            let memory = unsafe { segment.as_ref().write(self.filled, len) };
            memory.copy_from_slice(&octets[written..written + len]);
            self.filled += len;
            self.tail = self.tail.wrapping_add(len);
            written += len;
        }
        written
    }

    /// Shows all that is written to the reader.
    #[inline]
    fn publish(&mut self) {
        if self.tail != self.published {
            self.shared.tail.store(self.tail, Ordering::Release);
            self.published = self.tail;
        }
    }

    /// Starts the segment over when `octets` do not fit behind what was written to it and the reader has taken all.
    #[inline]
    fn make_room(&mut self, octets: usize) {
        if octets > self.size - self.filled && self.filled > 0 {
            self.refresh();
            if self.reader_took_all()
                && let Some(segment) = self.segment
            {
                // SAFETY: the writer's own segment is live, and a reader that has taken all does not look into it.
                unsafe { segment.as_ref() }.base.with_mut(|base| unsafe { *base = self.tail });
                self.filled = 0;
            }
        }
    }

    /// Goes on to a fresh segment; whether there was memory for one.
    #[cold]
    fn extend(&mut self) -> bool {
        self.refresh();
        let Some(fresh) = self.obtain() else { return false };
        // SAFETY: nobody else knows of it.
        let segment = unsafe { fresh.as_ref() };
        // SAFETY: as above.
        segment.base.with_mut(|base| unsafe { *base = self.tail });
        let size = segment.size();
        self.link(fresh);
        (self.size, self.grown) = (size, size);
        true
    }

    /// Makes `fresh`, a segment that nobody else knows of, the last one of the list.
    fn link(&mut self, fresh: NonNull<Segment>) {
        match self.segment {
            None => self.shared.first.store(fresh.as_ptr(), Ordering::Relaxed),
            Some(last) => {
                let last = last.as_ptr();
                // A piece has its end since it was made.
                if self.size > 0 {
                    // SAFETY: the writer's own segment is live up to the store of `next`, its last touch. `end` is read
                    // behind that only.
                    unsafe { &(*last).end }.with_mut(|end| unsafe { *end = self.filled });
                }
                // SAFETY: as above. No reference to the whole: the reader may free it before the store returns.
                unsafe { &(*last).next }.store(fresh.as_ptr(), Ordering::Release);
            }
        }
        self.segment = Some(fresh);
        (self.filled, self.size) = (0, 0);
    }

    /// A segment that belongs to the caller alone, without a next one.
    fn obtain(&self) -> Option<NonNull<Segment>> {
        let most = self.capacity.clamp(SMALLEST, LARGEST);
        let wish = match self.grown {
            0 => SMALLEST,
            // A whole segment behind.
            size if self.queued() >= size => size.saturating_mul(2).min(most.next_power_of_two()),
            size => size,
        };
        if let Some(spare) = NonNull::new(self.shared.spare.swap(ptr::null_mut(), Ordering::Acquire)) {
            // SAFETY: who takes it out of the spare place owns it.
            let segment = unsafe { spare.as_ref() };
            if segment.size() >= wish || !self.shared.budget.allows(wish - segment.size(), self.queued()) {
                segment.next.store(ptr::null_mut(), Ordering::Relaxed);
                return Some(spare);
            }
            // SAFETY: as above; not looked at again.
            unsafe { self.shared.free(spare.as_ptr()) };
        }
        let mut size = wish;
        while !self.shared.budget.take(size, self.queued()) {
            if size > SMALLEST {
                size = (size / 2).max(SMALLEST);
            } else if self.segment.is_none() || (self.size == 0 && self.reader_took_all()) {
                // All it had was a piece, if anything.
                self.shared.budget.take_beyond(size);
                break;
            } else {
                return None;
            }
        }
        Some(Segment::empty(size))
    }
}

impl fmt::Debug for OctetWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("OctetWriter");
        f.field("capacity", &self.capacity).field("segment", &self.size).finish_non_exhaustive()
    }
}

/// The reading end of an octet queue. `Send`, but one thread's at a time: neither `Clone` nor `Sync`.
///
/// ```compile_fail
/// fn shared<T: Sync>(_: T) {}
/// shared(trust::buffer::octets::octet_queue(1, &std::sync::Arc::new(trust::buffer::octets::OctetBudget::new(0))).1);
/// ```
pub struct OctetReader {
    shared: Arc<Shared>,
    /// The first segment of the list. `None`: the reader has found no octet yet.
    segment: Option<NonNull<Segment>>,
    /// Octets taken so far; also `Shared::head` as last stored.
    head: usize,
    /// `Shared::tail` as last seen: the real one may be further on.
    tail: Cell<usize>,
}

// SAFETY: nothing in it belongs to a thread: the octets are the reader's to read, wherever the reader lives.
unsafe impl Send for OctetReader {}

impl OctetReader {
    /// Octets to be read; at least so many, the writer may be adding some.
    pub fn len(&self) -> usize {
        self.refresh();
        self.known()
    }

    /// Whether there is nothing to be read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.known() == 0 && self.len() == 0
    }

    /// Octets taken in the queue's whole life. Wraps around, as [`OctetWriter::written`].
    pub fn taken(&self) -> usize {
        self.head
    }

    /// The first octets to be read, as many as lie in one piece. Empty when there is nothing to be read.
    #[inline]
    pub fn peek(&self) -> &[u8] {
        if self.is_empty() {
            return &[];
        }
        self.known_slices().next().unwrap_or(&[])
    }

    /// All octets to be read, in pieces.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.refresh();
        self.known_slices()
    }

    /// Takes the first `octets` out of the queue.
    ///
    /// # Panics
    ///
    /// When there are not so many.
    pub fn consume(&mut self, octets: usize) {
        if octets > self.known() {
            assert!(octets <= self.len(), "more octets consumed than were in the queue");
        }
        #[cfg(loom)]
        self.known_slices().for_each(drop);
        if octets > 0 {
            self.advance(octets);
        }
    }

    /// Moves `head` over octets that are there, at least one.
    #[inline]
    fn advance(&mut self, octets: usize) {
        self.head = self.head.wrapping_add(octets);
        // The last look into the segment comes before the store.
        self.leave_drained(octets);
        self.shared.head.store(self.head, Ordering::Release);
    }

    /// Moves as many of the first octets to `to` as there are; returns how many.
    pub fn read(&mut self, to: &mut [u8]) -> usize {
        if self.known() < to.len() {
            self.refresh();
        }
        let mut read = 0;
        for slice in self.known_slices() {
            let len = slice.len().min(to.len() - read);
            to[read..read + len].copy_from_slice(&slice[..len]);
            read += len;
            if read == to.len() {
                break;
            }
        }
        self.consume(read);
        read
    }

    /// Shows `take` the first octets, as many as lie in one piece, and takes as many as it says, at most all that it was
    /// shown, out of the queue; returns how many.
    pub fn take_with(&mut self, take: impl FnOnce(&[u8]) -> usize) -> usize {
        let run = self.peek();
        let taken = take(run).min(run.len());
        self.consume(taken);
        taken
    }

    /// Takes the first octets out of the queue as they came, if they came as [`Bytes`]: up to `most` of what is left of that
    /// piece. Only when that is not all of it a reference is counted. `None`: the first octets are to be copied, or there
    /// are none.
    pub fn take_bytes(&mut self, most: usize) -> Option<Bytes> {
        if self.is_empty() || most == 0 {
            return None;
        }
        let (segment, start, len) = self.known_slices().step()?;
        let Memory::Piece(piece) = &segment.memory else { return None };
        let len = len.min(most);
        let bytes = piece.with_mut(|piece| {
            // SAFETY: a published piece is the reader's until it has stored a `head` behind it, and `&mut self` says that
            // none of its octets is borrowed.
            let piece = unsafe { &mut *piece };
            if start + len == piece.len() {
                let mut bytes = mem::take(piece);
                bytes.advance(start);
                bytes
            } else {
                piece.slice(start..start + len)
            }
        });
        self.advance(len);
        Some(bytes)
    }

    /// Frees the memory that the queue no longer needs: the spare segment, and what the writer has given up by its
    /// [`trim`](OctetWriter::trim).
    pub fn trim(&mut self) {
        while let Some(segment) = self.segment {
            // SAFETY: the reader's segment is live. The writer is done with a sealed one, so that `base` can be read.
            let (sealed, segment_ref) = unsafe { (segment.as_ref().sealed(), segment.as_ref()) };
            let Some((end, next)) = sealed else { break };
            // SAFETY: as above.
            if self.head.wrapping_sub(unsafe { segment_ref.base() }) != end {
                break;
            }
            self.segment = Some(next);
            // SAFETY: drained and sealed: the reader's alone, and no longer in the list.
            unsafe { self.shared.free(segment.as_ptr()) };
        }
        let spare = self.shared.spare.swap(ptr::null_mut(), Ordering::Acquire);
        if !spare.is_null() {
            // SAFETY: who takes it out of the spare place owns it.
            unsafe { self.shared.free(spare) };
        }
    }

    /// Reads the writer's count.
    #[inline]
    fn refresh(&self) {
        self.tail.set(self.shared.tail.load(Ordering::Acquire));
    }

    /// Octets to be read, as far as known.
    #[inline]
    fn known(&self) -> usize {
        self.tail.get().wrapping_sub(self.head)
    }

    /// The segment to begin with. For a reader that has seen octets.
    #[inline]
    fn first(&self) -> Option<NonNull<Segment>> {
        // The writer stored it before it published the first octet.
        self.segment.or_else(|| NonNull::new(self.shared.first.load(Ordering::Relaxed)))
    }

    #[inline]
    fn known_slices(&self) -> Slices<'_> {
        let left = self.known();
        Slices { segment: if left == 0 { None } else { self.first() }, at: self.head, left, reader: PhantomData }
    }

    /// Goes on to the segment in which the reader is, now that `head` has moved on by `octets`, and recycles those before.
    #[inline]
    fn leave_drained(&mut self, octets: usize) {
        let mut at = self.head.wrapping_sub(octets);
        self.segment = self.first();
        while let Some(segment) = self.segment {
            // SAFETY: the segments from the reader's on are live, and as long as `head` is not stored the writer starts none
            // of them over.
            let (base, sealed) = unsafe { (segment.as_ref().base(), segment.as_ref().sealed()) };
            let Some((end, next)) = sealed else {
                // SAFETY: as above.
                unsafe { segment.as_ref().let_go_of_piece(self.head.wrapping_sub(base)) };
                break;
            };
            let left = end - at.wrapping_sub(base);
            if left > self.head.wrapping_sub(at) {
                break;
            }
            at = at.wrapping_add(left);
            self.segment = Some(next);
            self.recycle(segment);
        }
    }

    /// Offers a drained segment to the writer in place of the one offered before. A piece goes.
    #[cold]
    fn recycle(&self, segment: NonNull<Segment>) {
        // SAFETY: drained and sealed: the reader's alone.
        let before = if unsafe { segment.as_ref() }.size() == 0 {
            segment.as_ptr()
        } else {
            self.shared.spare.swap(segment.as_ptr(), Ordering::AcqRel)
        };
        if !before.is_null() {
            // SAFETY: as above, or: who takes it out of the spare place owns it.
            unsafe { self.shared.free(before) };
        }
    }
}

impl Drop for OctetReader {
    fn drop(&mut self) {
        // Whatever is unread will never be: the segments go now. The last one stays with the writer.
        self.consume(self.len());
        if let Some(segment) = self.segment {
            self.shared.first.store(segment.as_ptr(), Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for OctetReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OctetReader").field("octets", &self.len()).finish_non_exhaustive()
    }
}

/// The pieces of a queue from count `at` on.
struct Slices<'a> {
    segment: Option<NonNull<Segment>>,
    at: usize,
    /// Octets published from there on.
    left: usize,
    /// While it is borrowed, the reader takes nothing out, so that the octets stay as they are.
    reader: PhantomData<&'a OctetReader>,
}

impl<'a> Slices<'a> {
    /// Where the next octets are: their segment, the first one's place in it, and how many.
    #[inline]
    fn step(&mut self) -> Option<(&'a Segment, usize, usize)> {
        while self.left > 0 {
            // SAFETY: from the reader's segment on, the list is live as long as the reader is borrowed and does not recycle
            // one.
            let segment: &'a Segment = unsafe { self.segment?.as_ref() };
            // SAFETY: the reader has seen octets, `left` of them, and takes none while it is borrowed.
            let start = self.at.wrapping_sub(unsafe { segment.base() });
            let len = match segment.sealed() {
                Some((end, next)) if end == start => {
                    self.segment = Some(next);
                    continue;
                }
                Some((end, _)) => self.left.min(end - start),
                None => self.left,
            };
            self.at = self.at.wrapping_add(len);
            self.left -= len;
            return Some((segment, start, len));
        }
        None
    }
}

impl<'a> Iterator for Slices<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (segment, start, len) = self.step()?;
        // SAFETY: published octets, which nobody writes before `head` is stored beyond them.
        Some(unsafe { segment.read(start, len) })
    }
}

#[cfg(all(test, loom))]
#[path = "octets_loom.rs"]
mod loom_tests;
#[cfg(all(test, not(loom)))]
#[path = "octets_tests.rs"]
mod tests;
