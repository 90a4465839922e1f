//! The half-open records of a shard: passive opens between SYN and ACK, apart from connections and their flow table.
//!
//! A flood makes nothing but these, so that they are small ([`tcp::HalfOpen`](crate::tcp::HalfOpen) and who it is about), of
//! one size and of a bounded number; memory comes with the first that need it. No timer is needed for each: all records whose
//! SYN-ACK was repeated equally often wait equally long for the next time, so that they stand in one queue, in the order of
//! their deadlines. Who has been repeated more often is older: at the cap the first of the last queue is the oldest.
//!
//! How a record answers segments is not known here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::hasher::{Flow, FlowHasher};
use super::listeners::{NO_LISTENER, Target};
use super::service::ConnId;
use super::slab::{Key, Slab};
use super::table::FlowTable;
use crate::flow::{Endpoint, Quad};
use crate::tcp::{HalfOpen, Instant};
use crate::wire::ip::IpFields;

/// End of a queue.
const NIL: u32 = u32::MAX;
/// Queues by number of repetitions; beyond, intervals have long reached their ceiling.
const INTERVALS: usize = 31;
/// The queue of those whose SYN-ACK found no room in the tx ring.
const UNSENT: usize = INTERVALS;

/// Names a record in a [`ConnId`], for reports: connections have no such slots.
const RECORD: u32 = 1 << 31;
/// Names a service in an origin; else it is a listener.
const FIXED: u32 = 1 << 31;

/// Counters of sources. Some sources share one: then both are thought to have more than they have, which costs them no more
/// than a cookie.
const SOURCES: usize = 4_096;
/// A source may have an eighth of all records, but always so many.
const SMALLEST_SHARE: usize = 64;

/// A passive open, who it is about and whose it is.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) handshake: HalfOpen,
    pub(crate) ticket: u64,
    /// An IPv4 address takes the first four octets; the family is that of the local address.
    remote_addr: [u8; 16],
    remote_port: u16,
    local_port: u16,
    /// Which of our addresses.
    local: u32,
    origin: u32,
    older: u32,
    newer: u32,
    ttl: u8,
    traffic_class: u8,
    unsent: bool,
}

/// Half-open records by their quads, in queues by how often their SYN-ACK was repeated, and counted by source.
#[derive(Debug)]
pub(crate) struct HalfOpenTable {
    records: Slab<Record>,
    table: FlowTable,
    queues: [Queue; INTERVALS + 1],
    /// A bit for each queue that is not empty.
    occupied: u32,
    /// How many records a source has. Made with the first record.
    sources: Box<[u32]>,
    hasher: FlowHasher,
    addresses: Box<[IpAddr]>,
    cap: usize,
}

#[derive(Debug, Clone, Copy)]
struct Queue {
    oldest: u32,
    newest: u32,
}

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) quad: Quad,
    pub(crate) ip: IpFields,
    /// [`NO_LISTENER`] for a fixed port.
    pub(crate) listener: u32,
    /// The service of a fixed port; of another the listener knows it.
    pub(crate) service: u16,
}

fn octets_of(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => {
            let [a, b, c, d] = addr.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(addr) => addr.octets(),
    }
}

fn origin_of(target: Target) -> u32 {
    if target.listener == NO_LISTENER { FIXED | u32::from(target.service) } else { target.listener }
}

impl Record {
    fn queue(&self) -> usize {
        if self.unsent { UNSENT } else { usize::from(self.handshake.timeouts()).min(INTERVALS - 1) }
    }
}

impl HalfOpenTable {
    /// For at most `cap` records between one of `addresses` and the world.
    pub(crate) fn new(cap: usize, addresses: &[IpAddr], hasher: FlowHasher) -> Self {
        Self {
            records: Slab::new(),
            table: FlowTable::default(),
            queues: [Queue { oldest: NIL, newest: NIL }; INTERVALS + 1],
            occupied: 0,
            sources: Box::default(),
            hasher,
            addresses: addresses.into(),
            cap: cap.min(FIXED as usize),
        }
    }

    /// Records there.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no place for another one.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.cap
    }

    /// Whether the source `addr` (in IPv6 its /64) has as many records as it may.
    pub(crate) fn has_share(&self, addr: IpAddr) -> bool {
        let has = self.sources.get(self.source(addr)).copied().unwrap_or(0);
        has as usize >= (self.cap / 8).max(SMALLEST_SHARE)
    }

    fn source(&self, addr: IpAddr) -> usize {
        self.hasher.hash_source(addr) as usize % SOURCES
    }

    /// The record of a quad.
    pub(crate) fn find(&self, hash: u64, quad: &Quad) -> Option<u32> {
        if self.records.is_empty() {
            return None;
        }
        let remote = octets_of(quad.remote.addr);
        self.table.get(hash, |slot| {
            self.records.at(slot).is_some_and(|record| {
                record.remote_port == quad.remote.port
                    && record.local_port == quad.local.port
                    && record.remote_addr == remote
                    && self.addresses.get(record.local as usize) == Some(&quad.local.addr)
            })
        })
    }

    pub(crate) fn at(&self, slot: u32) -> Option<&Record> {
        self.records.at(slot)
    }

    /// Whom the record in `slot` is about.
    pub(crate) fn place(&self, slot: u32) -> Option<Place> {
        self.records.at(slot).map(|record| self.place_of(record))
    }

    fn place_of(&self, record: &Record) -> Place {
        let local = self.addresses.get(record.local as usize).copied();
        let local = local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let remote = match (local, record.remote_addr) {
            (IpAddr::V4(_), [a, b, c, d, ..]) => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            (IpAddr::V6(_), octets) => IpAddr::V6(Ipv6Addr::from(octets)),
        };
        let fixed = record.origin & FIXED != 0;
        Place {
            quad: Quad {
                local: Endpoint::new(local, record.local_port),
                remote: Endpoint::new(remote, record.remote_port),
            },
            ip: IpFields { ttl: record.ttl, traffic_class: record.traffic_class },
            listener: if fixed { NO_LISTENER } else { record.origin },
            service: if fixed { record.origin as u16 } else { 0 },
        }
    }

    /// Files a record; the caller has made sure that there is none of this quad. `None`: there is no place, or the local
    /// address is none of ours.
    pub(crate) fn insert(
        &mut self,
        flow: &Flow,
        target: Target,
        ip: IpFields,
        ticket: u64,
        handshake: HalfOpen,
    ) -> Option<u32> {
        let &Flow { ref quad, hash } = flow;
        if self.is_full() {
            return None;
        }
        let local = self.addresses.iter().position(|addr| *addr == quad.local.addr)?;
        if self.sources.is_empty() {
            self.sources = vec![0; SOURCES].into();
        }
        let source = self.source(quad.remote.addr);
        self.sources[source] += 1;
        let record = Record {
            handshake,
            ticket,
            remote_addr: octets_of(quad.remote.addr),
            remote_port: quad.remote.port,
            local_port: quad.local.port,
            local: local as u32,
            origin: origin_of(target),
            older: NIL,
            newer: NIL,
            ttl: ip.ttl,
            traffic_class: ip.traffic_class,
            unsent: handshake.is_due(),
        };
        let slot = self.records.insert(record).slot;
        self.table.insert(hash, slot);
        self.append(slot);
        Some(slot)
    }

    /// Puts back what became of the handshake of the record in `slot`, which goes to the end of its queue if its deadline
    /// has moved.
    pub(crate) fn update(&mut self, slot: u32, handshake: HalfOpen) {
        let Some(record) = self.records.at_mut(slot) else { return };
        let unsent = handshake.is_due();
        if record.unsent == unsent && record.handshake.deadline() == handshake.deadline() {
            record.handshake = handshake;
            return;
        }
        self.detach(slot);
        if let Some(record) = self.records.at_mut(slot) {
            record.handshake = handshake;
            record.unsent = unsent;
        }
        self.append(slot);
    }

    /// Takes a record out; `hash` is that of its quad.
    pub(crate) fn take(&mut self, slot: u32, hash: u64) -> Option<(Place, Record)> {
        let key = self.records.key(slot)?;
        self.detach(slot);
        let record = self.records.remove(key)?;
        let place = self.place_of(&record);
        let filed = self.table.remove(hash, slot);
        debug_assert!(filed);
        let source = self.source(place.quad.remote.addr);
        self.sources[source] -= 1;
        Some((place, record))
    }

    /// The record that was there first.
    pub(crate) fn oldest(&self) -> Option<u32> {
        let sent = self.occupied & !(1 << UNSENT);
        let queue = if sent == 0 { UNSENT } else { sent.checked_ilog2()? as usize };
        Some(self.queues[queue].oldest).filter(|slot| *slot != NIL)
    }

    /// One whose SYN-ACK waits for room in the tx ring.
    pub(crate) fn unsent(&self) -> Option<u32> {
        Some(self.queues[UNSENT].oldest).filter(|slot| *slot != NIL)
    }

    /// One whose deadline has passed.
    pub(crate) fn due(&self, now: Instant) -> Option<u32> {
        self.first().filter(|(deadline, _)| *deadline <= now).map(|(_, slot)| slot)
    }

    /// The next deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.first().map(|(deadline, _)| deadline)
    }

    fn first(&self) -> Option<(Instant, u32)> {
        let mut left = self.occupied & !(1 << UNSENT);
        let mut first = None;
        while left != 0 {
            let slot = self.queues[left.trailing_zeros() as usize].oldest;
            left &= left - 1;
            let Some(deadline) = self.records.at(slot).map(|record| record.handshake.deadline()) else { continue };
            if first.is_none_or(|(earliest, _)| deadline < earliest) {
                first = Some((deadline, slot));
            }
        }
        first
    }

    /// Places for records that there are: every slot is below this.
    pub(crate) fn slots(&self) -> u32 {
        self.records.slots() as u32
    }

    /// All records, with names for reports.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnId, Quad)> + '_ {
        self.records.iter().map(|(key, record)| {
            (ConnId { slot: key.slot | RECORD, generation: key.generation }, self.place_of(record).quad)
        })
    }

    /// The name of the record in `slot`, without the mark of [`iter`](Self::iter): its table is known.
    pub(crate) fn key(&self, slot: u32) -> Option<ConnId> {
        self.records.key(slot)
    }

    /// When the record with that name is looked at again; at once if it waits for room.
    pub(crate) fn timer(&self, id: ConnId) -> Option<Instant> {
        let slot = id.slot.checked_sub(RECORD)?;
        let record = self.records.get(Key { slot, generation: id.generation })?;
        Some(if record.unsent { Instant::ZERO } else { record.handshake.deadline() })
    }

    /// Puts the record in `slot`, which is in no queue, at the end of its own.
    fn append(&mut self, slot: u32) {
        let Some(queue) = self.records.at(slot).map(Record::queue) else { return };
        self.occupied |= 1 << queue;
        let older = std::mem::replace(&mut self.queues[queue].newest, slot);
        match self.records.at_mut(older) {
            Some(record) => record.newer = slot,
            None => self.queues[queue].oldest = slot,
        }
        if let Some(record) = self.records.at_mut(slot) {
            (record.older, record.newer) = (older, NIL);
        }
    }

    fn detach(&mut self, slot: u32) {
        let Some(record) = self.records.at(slot) else { return };
        let (older, newer, queue) = (record.older, record.newer, record.queue());
        match self.records.at_mut(older) {
            Some(record) => record.newer = newer,
            None => self.queues[queue].oldest = newer,
        }
        match self.records.at_mut(newer) {
            Some(record) => record.older = older,
            None => self.queues[queue].newest = older,
        }
        if self.queues[queue].oldest == NIL {
            self.occupied &= !(1 << queue);
        }
    }
}

#[cfg(test)]
#[path = "half_open_tests.rs"]
mod tests;
