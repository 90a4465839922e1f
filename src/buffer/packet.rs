//! Receive buffers: owned by whoever holds them, moved through rings, never copied.
//!
//! A pool belongs to the thread that receives into its buffers. A buffer travels to the shard and comes home over a return
//! ring as large as the pool, so that coming home never fails. The pool is last-in first-out: the same few buffers go round
//! and stay in the cache. Those below them were used at a peak; their pages go back to the kernel.

use super::pages;

/// A buffer of one pool with the range of it that is in use. 24 bytes; the bytes are on the heap and stay there.
#[derive(Debug)]
pub struct PacketBuf {
    data: Box<[u8]>,
    start: u32,
    /// At most `data.len() - start`, kept so by `set_range`.
    len: u32,
    pool: u16,
}

impl PacketBuf {
    /// A buffer of `size` octets that belongs to pool `pool`, with an empty range. Zeroed pages of the kernel: memory that
    /// is never written costs nothing.
    ///
    /// # Panics
    ///
    /// When `size` does not fit 32 bits.
    #[must_use]
    pub fn new(pool: u16, size: usize) -> Self {
        assert!(u32::try_from(size).is_ok(), "a packet buffer of more than 4 GB");
        Self { data: vec![0; size].into_boxed_slice(), start: 0, len: 0, pool }
    }

    /// The octets in use.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.data[self.start as usize..][..self.len as usize]
    }

    /// The octets in use, to be changed in place.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.start as usize..][..self.len as usize]
    }

    /// The whole buffer, to receive into. [`set_range`](Self::set_range) then says what of it is in use.
    #[inline]
    pub fn storage_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// Puts `start..start + len` of the whole buffer into use.
    ///
    /// # Panics
    ///
    /// When that is beyond the buffer.
    #[inline]
    pub fn set_range(&mut self, start: usize, len: usize) {
        assert!(start <= self.data.len() && len <= self.data.len() - start, "range beyond the packet buffer");
        (self.start, self.len) = (start as u32, len as u32);
    }

    /// Takes up to `octets` off the front of the range.
    #[inline]
    pub fn trim_front(&mut self, octets: usize) {
        let octets = octets.min(self.len as usize) as u32;
        self.start += octets;
        self.len -= octets;
    }

    /// Shortens the range to `len` octets; no effect when it is not longer.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// Octets in use.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether no octet is in use.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the range begins in the whole buffer.
    #[inline]
    #[must_use]
    pub fn start(&self) -> usize {
        self.start as usize
    }

    /// Size of the whole buffer.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.data.len()
    }

    /// The pool it has to return to.
    #[inline]
    #[must_use]
    pub fn pool(&self) -> u16 {
        self.pool
    }
}

/// The buffers of one receiving thread.
#[derive(Debug)]
pub struct PacketPool {
    free: Vec<PacketBuf>,
    /// So many of them, from the first on, have no pages that could go back.
    cold: usize,
    /// Fewest at home since some were last given back, as far as was [noted](Self::note_use).
    least: usize,
    capacity: usize,
    id: u16,
}

/// Buffers that keep their pages: those that the next packets come in.
const STOCK: usize = 4;

impl PacketPool {
    /// `count` buffers of `size` octets each. The memory is touched when packets arrive in it, not now.
    #[must_use]
    pub fn new(id: u16, count: usize, size: usize) -> Self {
        let mut free: Vec<_> = (0..count).map(|_| PacketBuf::new(id, size)).collect();
        // The allocator may have zeroed pages that it had: glibc does so with two thirds of many buffers.
        free.iter_mut().for_each(|buffer| pages::give_back(&mut buffer.data));
        Self { free, cold: count, least: count, capacity: count, id }
    }

    /// The buffer that was put back last, with an empty range. `None`: all are out.
    #[inline]
    pub fn take(&mut self) -> Option<PacketBuf> {
        let mut buffer = self.free.pop()?;
        (buffer.start, buffer.len) = (0, 0);
        Some(buffer)
    }

    /// Takes a buffer home.
    ///
    /// # Panics
    ///
    /// When it belongs to another pool: a stage has mixed up its return rings.
    #[inline]
    pub fn put(&mut self, buffer: PacketBuf) {
        assert_eq!(buffer.pool, self.id, "a packet buffer came home to the wrong pool");
        self.free.push(buffer);
    }

    /// Takes note of how many are out, which tells apart who lies idle. To be called after some were taken; once for many.
    #[inline]
    pub fn note_use(&mut self) {
        let home = self.free.len();
        self.cold = self.cold.min(home);
        self.least = self.least.min(home);
    }

    /// Whether more buffers at home may have pages than are worth keeping.
    #[inline]
    #[must_use]
    pub fn has_idle(&self) -> bool {
        self.free.len() > self.cold + STOCK
    }

    /// Whether more buffers are out than are worth keeping.
    #[inline]
    #[must_use]
    pub fn has_many_out(&self) -> bool {
        self.capacity > self.free.len() + STOCK
    }

    /// Gives the pages of buffers that were at home since the last call back to the kernel, of at most `most` of them, each of
    /// which takes a system call. A few keep theirs, for the next burst. Returns how many it were.
    pub fn give_back(&mut self, most: usize) -> usize {
        let end = self.least.saturating_sub(STOCK).min(self.cold + most).max(self.cold);
        let idle = &mut self.free[self.cold..end];
        for buffer in &mut *idle {
            pages::give_back(&mut buffer.data);
        }
        let given = idle.len();
        (self.cold, self.least) = (end, self.free.len());
        given
    }

    /// Buffers at home.
    #[must_use]
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// Buffers in all.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The pool's number, as in [`PacketBuf::pool`].
    #[must_use]
    pub fn id(&self) -> u16 {
        self.id
    }
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
