//! [`Bucket`]: one entry of the owner table, and the protocol by which shards share it.
//!
//! A vacant bucket goes to whoever claims it first, by one compare-and-swap: the kernel's program, a reader, or the shard
//! that is about to open a connection in it. Only its owner makes it vacant again, when no record of it (connection,
//! half-open, TIME-WAIT) is in the bucket, and only the owner puts records there: it claims the bucket anew before each,
//! since a claim made for it by others may have been given back before the packet came. So no two shards ever have records
//! of one bucket, and giving one back takes no lock.

// The same names from the model checker, so that it explores what ships.
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, Ordering};

/// An entry: the number of its owner and one more, 0 for nobody.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Bucket(AtomicU32);

impl Bucket {
    pub(super) fn vacant() -> Self {
        Self(AtomicU32::new(0))
    }

    fn entry(owner: Option<u16>) -> u32 {
        owner.map_or(0, |owner| u32::from(owner) + 1)
    }

    fn owner_of(entry: u32) -> Option<u16> {
        entry.checked_sub(1).map(|owner| owner as u16)
    }

    // Relaxed, here and below: the entry is a word by itself; nothing else is published through it.

    #[inline]
    pub(super) fn owner(&self) -> Option<u16> {
        Self::owner_of(self.0.load(Ordering::Relaxed))
    }

    /// Gives the bucket to `shard` if nobody has it, and says who has it then.
    #[inline]
    pub(super) fn claim(&self, shard: u16) -> u16 {
        // Mostly it has been claimed before: then no write.
        self.owner().unwrap_or_else(|| {
            match self.0.compare_exchange(0, Self::entry(Some(shard)), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => shard,
                Err(entry) => Self::owner_of(entry).unwrap_or(shard),
            }
        })
    }

    /// Makes the bucket vacant if it is `shard`'s; says whether it was. To be called by that shard only.
    #[inline]
    pub(super) fn release(&self, shard: u16) -> bool {
        // Nobody but the owner changes an entry that is not 0: a store will do.
        let mine = self.owner() == Some(shard);
        if mine {
            self.set(None);
        }
        mine
    }

    pub(super) fn set(&self, owner: Option<u16>) {
        self.0.store(Self::entry(owner), Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
#[path = "bucket_loom.rs"]
mod tests;
