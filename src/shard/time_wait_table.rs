//! TIME-WAIT records of a shard: many, small, and soon gone.
//!
//! All wait equally long, so they stand in a queue by time of entry and no timer is needed for each: the first one's
//! deadline is the table's. A record that restarts its wait goes to the end. At the cap the oldest leaves early and is
//! counted: it has done most of its duty.
//!
//! What a record holds and how it answers segments is not known here.

use super::{
    slab::{Key, Slab},
    table::FlowTable,
};
use crate::{flow::Quad, tcp::time::Instant};

/// End of the queue.
const NIL: u32 = u32::MAX;

#[derive(Debug)]
struct Node<R> {
    record: R,
    deadline: Instant,
    /// The half that the flow table uses.
    hash: u32,
    quad: Quad,
    older: u32,
    newer: u32,
}

/// Records by quad, at most `cap`, in order of entry.
#[derive(Debug)]
pub struct TimeWaitTable<R> {
    nodes: Slab<Node<R>>,
    table: FlowTable,
    oldest: u32,
    newest: u32,
    cap: usize,
    evicted: u64,
}

impl<R> TimeWaitTable<R> {
    /// A table for `cap` records (at least 1). Memory comes with the records.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        Self { nodes: Slab::new(), table: FlowTable::default(), oldest: NIL, newest: NIL, cap: cap.max(1), evicted: 0 }
    }

    /// Files a record until `deadline`, which is not before that of any record there. One of the same quad is replaced. At
    /// the cap the oldest is evicted and returned.
    ///
    /// `hash` is [`FlowHasher::hash`](crate::shard::FlowHasher::hash) of the quad, here and below.
    pub fn insert(&mut self, hash: u64, quad: Quad, record: R, deadline: Instant) -> Option<(Quad, R)> {
        self.remove(hash, &quad);
        let evicted = if self.nodes.len() >= self.cap { self.take(self.oldest) } else { None };
        self.evicted += u64::from(evicted.is_some());
        let hash_half = (hash >> 32) as u32;
        let node = Node { record, deadline, hash: hash_half, quad, older: NIL, newer: NIL };
        let slot = self.nodes.insert(node).slot;
        self.table.insert(hash, slot);
        self.append(slot);
        evicted
    }

    /// The record of a quad.
    #[inline]
    #[must_use]
    pub fn get(&self, hash: u64, quad: &Quad) -> Option<&R> {
        self.find(hash, quad).and_then(|slot| self.nodes.at(slot)).map(|node| &node.record)
    }

    /// The record of a quad.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, quad: &Quad) -> Option<&mut R> {
        self.find(hash, quad).and_then(|slot| self.nodes.at_mut(slot)).map(|node| &mut node.record)
    }

    /// Makes a record wait anew, until `deadline`; says whether it is there.
    pub fn restart(&mut self, hash: u64, quad: &Quad, deadline: Instant) -> bool {
        let Some(slot) = self.find(hash, quad) else { return false };
        self.detach(slot);
        self.append(slot);
        if let Some(node) = self.nodes.at_mut(slot) {
            node.deadline = deadline;
        }
        true
    }

    /// Takes a record out before its time: the quad is used again.
    pub fn remove(&mut self, hash: u64, quad: &Quad) -> Option<R> {
        let slot = self.find(hash, quad)?;
        self.take(slot).map(|(_, record)| record)
    }

    /// Takes out one record whose deadline has passed. To be called until `None`.
    pub fn pop_expired(&mut self, now: Instant) -> Option<(Quad, R)> {
        if self.next()? > now {
            return None;
        }
        self.take(self.oldest)
    }

    /// Takes out all records whose deadline has passed and hands each to `expire`.
    pub fn expire(&mut self, now: Instant, expire: &mut impl FnMut(Quad, R)) {
        while let Some((quad, record)) = self.pop_expired(now) {
            expire(quad, record);
        }
    }

    /// Places for records that there are: every slot is below this.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.nodes.slots() as u32
    }

    /// The record in `slot`: its name, and whom it is about.
    #[must_use]
    pub fn named(&self, slot: u32) -> Option<(Key, Quad)> {
        Some((self.nodes.key(slot)?, self.nodes.at(slot)?.quad))
    }

    /// Takes the record with that name out before its time.
    pub fn take_named(&mut self, key: Key) -> Option<(Quad, R)> {
        self.nodes.get(key)?;
        self.take(key.slot)
    }

    /// The deadline of the oldest record.
    #[inline]
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.nodes.at(self.oldest).map(|node| node.deadline)
    }

    /// Asks for the cache line where a lookup of `hash` will begin.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.table.prefetch(hash);
    }

    /// All records, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Quad, &R)> {
        self.nodes.iter().map(|(_, node)| (&node.quad, &node.record))
    }

    /// Records there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Records there may be.
    #[must_use]
    pub fn cap(&self) -> usize {
        self.cap
    }

    /// Records that had to leave early.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Most records there were at a time.
    #[must_use]
    pub fn high_water(&self) -> usize {
        self.nodes.high_water()
    }

    #[inline]
    fn find(&self, hash: u64, quad: &Quad) -> Option<u32> {
        self.table.get(hash, |slot| self.nodes.at(slot).is_some_and(|node| node.quad == *quad))
    }

    /// Removes the record in `slot` from everywhere.
    fn take(&mut self, slot: u32) -> Option<(Quad, R)> {
        let key: Key = self.nodes.key(slot)?;
        self.detach(slot);
        let node = self.nodes.remove(key)?;
        let filed = self.table.remove(u64::from(node.hash) << 32, slot);
        debug_assert!(filed);
        Some((node.quad, node.record))
    }

    /// Puts the node in `slot`, which is not in the queue, at its end.
    fn append(&mut self, slot: u32) {
        let older = std::mem::replace(&mut self.newest, slot);
        match self.nodes.at_mut(older) {
            Some(node) => node.newer = slot,
            None => self.oldest = slot,
        }
        if let Some(node) = self.nodes.at_mut(slot) {
            (node.older, node.newer) = (older, NIL);
        }
    }

    /// Takes the node in `slot` out of the queue.
    fn detach(&mut self, slot: u32) {
        let Some(node) = self.nodes.at(slot) else { return };
        let (older, newer) = (node.older, node.newer);
        match self.nodes.at_mut(older) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
        match self.nodes.at_mut(newer) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
#[path = "time_wait_table_tests.rs"]
mod tests;
