//! [`OwnerTable`]: from the steering hash to the shard that owns a flow.

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::flow::ShardId;

/// Entries of the owner table.
pub const BUCKETS: usize = 65_536;

/// The entries of an owner table: `owner + 1`, 0 = vacant.
pub type Entries = [AtomicU32; BUCKETS];

/// The indirection table from hash to owner, shared by everybody who steers (put it in an `Arc`). The entries lie in
/// memory of this process or in the mapped value of the BPF map that the kernel's program reads.
pub struct OwnerTable {
    // Valid and shared until `free(entries)`, which is called once, on drop.
    entries: NonNull<Entries>,
    free: unsafe fn(NonNull<Entries>),
    shards: u16,
}

// SAFETY: the table is an array of atomics behind a pointer that stays valid until drop; drop has exclusive access.
unsafe impl Send for OwnerTable {}
// SAFETY: as above: all access through `&self` is atomic.
unsafe impl Sync for OwnerTable {}

impl fmt::Debug for OwnerTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerTable").field("shards", &self.shards).finish_non_exhaustive()
    }
}

impl OwnerTable {
    /// A table in memory of this process, dealt out evenly: entry `i` belongs to shard `i % shards`.
    ///
    /// # Panics
    ///
    /// When `shards` is 0.
    pub fn in_memory(shards: u16) -> Self {
        unsafe fn free(entries: NonNull<Entries>) {
            // SAFETY: `entries` came from `Box::leak` of a box of this type, and `drop` calls this once.
            drop(unsafe { Box::from_raw(entries.as_ptr()) });
        }
        let entries: Box<[AtomicU32]> = (0..BUCKETS).map(|_| AtomicU32::new(0)).collect();
        let entries: Box<Entries> = entries.try_into().expect("collected BUCKETS entries");
        // SAFETY: a leaked box is valid and unaliased; `free` undoes it.
        unsafe { Self::from_raw(NonNull::from(Box::leak(entries)), free, shards) }
    }

    /// A table over memory made elsewhere (the mapped value of a BPF map), dealt out evenly as by
    /// [`in_memory`](Self::in_memory).
    ///
    /// # Safety
    ///
    /// `entries` must stay valid for atomic access until `free(entries)` is called, and `free` must be sound to call
    /// once with it, from any thread.
    ///
    /// # Panics
    ///
    /// When `shards` is 0.
    pub(super) unsafe fn from_raw(entries: NonNull<Entries>, free: unsafe fn(NonNull<Entries>), shards: u16) -> Self {
        assert!(shards > 0, "an owner table needs a shard");
        let table = Self { entries, free, shards };
        for bucket in 0..BUCKETS {
            table.set(bucket as u32, Some(ShardId((bucket % usize::from(shards)) as u16)));
        }
        table
    }

    /// Number of shards the table was dealt out to.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    #[inline]
    fn entry(&self, hash: u32) -> &AtomicU32 {
        // SAFETY: valid until drop (constructor's contract), and `&self` outlives the reference.
        let entries = unsafe { self.entries.as_ref() };
        &entries[hash as usize & (BUCKETS - 1)]
    }

    /// Owner of the flows with this hash; shard 0 for a vacant entry, as the kernel's program has it.
    #[inline]
    #[must_use]
    pub fn owner(&self, hash: u32) -> ShardId {
        self.claimed(hash).unwrap_or_default()
    }

    /// Owner of the flows with this hash, or `None` for a vacant entry.
    #[inline]
    #[must_use]
    pub fn claimed(&self, hash: u32) -> Option<ShardId> {
        // Relaxed: the entry is a word by itself; nothing else is published through it.
        let value = self.entry(hash).load(Ordering::Relaxed);
        value.checked_sub(1).map(|owner| ShardId(owner as u16))
    }

    /// Gives a bucket to a shard, or makes it vacant. Only at set-up, or by the owner of a bucket in which nothing
    /// lives: the table's owner is who may answer a segment.
    pub fn set(&self, hash: u32, owner: Option<ShardId>) {
        self.entry(hash).store(owner.map_or(0, |o| u32::from(o.0) + 1), Ordering::Relaxed);
    }
}

impl Drop for OwnerTable {
    fn drop(&mut self) {
        // SAFETY: the constructor's contract: called once, nobody can hold a reference any more.
        unsafe { (self.free)(self.entries) }
    }
}
