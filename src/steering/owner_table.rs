//! [`OwnerTable`]: from the steering hash to the shard that owns a flow.
//!
//! Either all buckets are dealt out at the start and stay where they are, or they are vacant until a flow is born in them
//! (steering by birth): then see `bucket` for who may change what, and `births` for who takes new ones.

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use super::births::Births;
use super::bucket::Bucket;
use crate::flow::ShardId;

/// Entries of the owner table.
pub const BUCKETS: usize = 65_536;

/// CPUs that the kernel's program tells apart (a power of two).
pub(super) const CPUS: usize = 1_024;

/// What the program of the kernel reads, as it lies in memory.
#[repr(C)]
pub(super) struct Entries {
    /// `owner + 1`, 0 = vacant.
    buckets: [Bucket; BUCKETS],
    /// By CPU: the shard that takes what is born there and one more, 0 = as the hash says.
    pub(super) births: [AtomicU16; CPUS],
}

/// The indirection table from hash to owner, shared by everybody who steers (put it in an `Arc`). The entries lie in
/// memory of this process or in the mapped value of the BPF map that the kernel's program reads.
pub struct OwnerTable {
    // Valid and shared until `free(entries)`, which is called once, on drop.
    entries: NonNull<Entries>,
    free: unsafe fn(NonNull<Entries>),
    shards: u16,
    /// `None`: all buckets are dealt out.
    births: Option<Births>,
}

// SAFETY: the table is an array of atomics behind a pointer that stays valid until drop; drop has exclusive access.
unsafe impl Send for OwnerTable {}
// SAFETY: as above: all access through `&self` is atomic.
unsafe impl Sync for OwnerTable {}

impl fmt::Debug for OwnerTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = f.debug_struct("OwnerTable");
        table.field("shards", &self.shards).field("by_birth", &self.births.is_some()).finish_non_exhaustive()
    }
}

impl OwnerTable {
    /// A table in memory of this process, dealt out evenly: entry `i` belongs to shard `i % shards`.
    ///
    /// # Panics
    ///
    /// When `shards` is 0.
    pub fn in_memory(shards: u16) -> Self {
        Self::allocate(shards, None)
    }

    /// A table in memory of this process, all vacant: buckets are [claimed](Self::claim) when a flow is born in them.
    ///
    /// # Panics
    ///
    /// When `shards` is 0.
    pub fn by_birth(shards: u16) -> Self {
        Self::allocate(shards, Some(Births::new(&vec![None; usize::from(shards)])))
    }

    fn allocate(shards: u16, births: Option<Births>) -> Self {
        unsafe fn free(entries: NonNull<Entries>) {
            // SAFETY: `entries` came from `Box::into_raw` of a box of this type, and `drop` calls this once.
            drop(unsafe { Box::from_raw(entries.as_ptr()) });
        }
        let buckets: Box<[Bucket]> = (0..BUCKETS).map(|_| Bucket::vacant()).collect();
        let buckets: Box<[Bucket; BUCKETS]> = buckets.try_into().expect("collected BUCKETS entries");
        let births_by_cpu = std::array::from_fn(|_| AtomicU16::new(0));
        let entries = Box::new(Entries { buckets: *buckets, births: births_by_cpu });
        // SAFETY: a leaked box is valid and unaliased; `free` undoes it.
        unsafe { Self::from_raw(NonNull::from(Box::leak(entries)), free, shards, births) }
    }

    /// A table over memory made elsewhere, of zeros (the mapped value of a BPF map): dealt out evenly as by
    /// [`in_memory`](Self::in_memory), or by birth.
    ///
    /// # Safety
    ///
    /// `entries` must stay valid for atomic access until `free(entries)` is called, and `free` must be sound to call
    /// once with it, from any thread.
    ///
    /// # Panics
    ///
    /// When `shards` is 0.
    pub(super) unsafe fn from_raw(
        entries: NonNull<Entries>,
        free: unsafe fn(NonNull<Entries>),
        shards: u16,
        births: Option<Births>,
    ) -> Self {
        assert!(shards > 0, "an owner table needs a shard");
        let table = Self { entries, free, shards, births };
        if table.is_by_birth() {
            (0..shards).for_each(|shard| table.set_birthplace(ShardId(shard), true));
        } else {
            (0..BUCKETS as u32).for_each(|bucket| table.set(bucket, Some(table.hashed(bucket))));
        }
        table
    }

    /// Number of shards that share the table.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Whether buckets are vacant until a flow is born in them.
    #[must_use]
    pub fn is_by_birth(&self) -> bool {
        self.births.is_some()
    }

    #[inline]
    fn entries(&self) -> &Entries {
        // SAFETY: valid until drop (constructor's contract), and `&self` outlives the reference.
        unsafe { self.entries.as_ref() }
    }

    #[inline]
    fn bucket(&self, hash: u32) -> &Bucket {
        &self.entries().buckets[hash as usize & (BUCKETS - 1)]
    }

    /// The shard that the hash alone says: owner of the bucket where all are dealt out.
    #[inline]
    fn hashed(&self, hash: u32) -> ShardId {
        ShardId((hash % BUCKETS as u32 % u32::from(self.shards)) as u16)
    }

    /// Owner of the flows with this hash; where it is vacant the shard that the hash alone says, as the kernel's program
    /// has it.
    #[inline]
    #[must_use]
    pub fn owner(&self, hash: u32) -> ShardId {
        self.claimed(hash).unwrap_or_else(|| self.hashed(hash))
    }

    /// Owner of the flows with this hash, or `None` for a vacant entry.
    #[inline]
    #[must_use]
    pub fn claimed(&self, hash: u32) -> Option<ShardId> {
        self.bucket(hash).owner().map(ShardId)
    }

    /// Whether `shard` owns the flows with this hash, or can have them.
    #[inline]
    #[must_use]
    pub fn is_open_to(&self, hash: u32, shard: ShardId) -> bool {
        self.claimed(hash).map_or(self.is_by_birth(), |owner| owner == shard)
    }

    /// Gives a vacant bucket to `shard`, and says who owns the bucket then.
    #[inline]
    pub fn claim(&self, hash: u32, shard: ShardId) -> ShardId {
        ShardId(self.bucket(hash).claim(shard.0))
    }

    /// Who is to have the flow of a SYN that has come in by the queue of `shard`, into a vacant bucket: that shard, or if it
    /// takes none the one that the hash says. Claims the bucket, and says who owns it then.
    pub fn claim_birth(&self, hash: u32, shard: ShardId) -> ShardId {
        let takes = self.births.as_ref().is_some_and(|births| births.takes(shard));
        self.claim(hash, if takes { shard } else { self.hashed(hash) })
    }

    /// Makes a bucket of `shard` vacant; says whether it was that shard's. Only for that shard itself, which has no record
    /// in it.
    #[inline]
    pub fn release(&self, hash: u32, shard: ShardId) -> bool {
        self.bucket(hash).release(shard.0)
    }

    /// A shard has so many flows now, and its worker no time left if `busy`: it may take what is born on its CPU, or leave it
    /// to the hash.
    pub fn tell_load(&self, shard: ShardId, flows: u32, busy: bool) {
        if let Some(takes) = self.births.as_ref().and_then(|births| births.tell(shard, flows, busy)) {
            self.set_birthplace(shard, takes);
        }
    }

    /// Tells the kernel's program whether `shard` takes what is born on its CPU.
    fn set_birthplace(&self, shard: ShardId, takes: bool) {
        let cpu = self.births.as_ref().and_then(|births| births.cpu(shard));
        if let Some(cell) = cpu.and_then(|cpu| self.entries().births.get(cpu)) {
            cell.store(if takes { shard.0 + 1 } else { 0 }, Ordering::Relaxed);
        }
    }

    /// How many buckets are not vacant. Looks at all of them.
    #[must_use]
    pub fn claimed_buckets(&self) -> usize {
        self.entries().buckets.iter().filter(|bucket| bucket.owner().is_some()).count()
    }

    /// Gives a bucket to a shard, or makes it vacant. Only at set-up, or by the owner of a bucket in which nothing
    /// lives: the table's owner is who may answer a segment.
    pub fn set(&self, hash: u32, owner: Option<ShardId>) {
        self.bucket(hash).set(owner.map(|owner| owner.0));
    }
}

impl Drop for OwnerTable {
    fn drop(&mut self) {
        // SAFETY: the constructor's contract: called once, nobody can hold a reference any more.
        unsafe { (self.free)(self.entries) }
    }
}
