//! The buckets of the owner table that this shard's records are in, for steering by birth: claimed before a record comes,
//! given back when the last one has gone.
//!
//! Records are connections in the flow table, half-open ones and those in TIME-WAIT. Buckets without any are given back at
//! the end of the turn, so that a record that becomes another stays where it is. A claim whose SYN never arrived has no
//! record either: a sweep finds those, a piece at a time, for as long as packets come and a little longer.
//!
//! Must not contain: who claims for us (`steering`), what a record is.

use std::collections::VecDeque;

use super::budget;
use super::state::ShardState;
use crate::flow::{Quad, ShardId};
use crate::steering::{BUCKETS, OwnerTable};
use crate::tcp::cookie::EPOCH;
use crate::tcp::{Duration, Instant};

/// From one piece of the sweep to the next.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);
/// When so many pieces have found no packet that came since, claims that are left have been seen.
const PIECES: usize = BUCKETS / budget::BUCKETS + 1;
const _: () = assert!(BUCKETS.is_multiple_of(budget::BUCKETS));

/// What a shard knows of its buckets.
#[derive(Debug)]
pub(crate) struct Buckets {
    /// Records in each.
    records: Box<[u32]>,
    /// Buckets that have some.
    occupied: usize,
    /// Buckets that may have none any more.
    emptied: Vec<u16>,
    /// Buckets kept for used cookies, and until when: the one shard that knows of them must get them again.
    kept: VecDeque<(Instant, u16)>,
    /// The sweep: where it goes on, when, and how many pieces it still does.
    at: usize,
    due: Option<Instant>,
    pieces: usize,
    /// Packets that had come when it was last looked.
    packets: u64,
    /// Flows when that was last told.
    flows: usize,
    /// The worker has no time left.
    busy: bool,
}

impl Buckets {
    pub(crate) fn new() -> Self {
        Self {
            records: vec![0; BUCKETS].into(),
            occupied: 0,
            emptied: Vec::with_capacity(256),
            kept: VecDeque::new(),
            at: 0,
            due: None,
            pieces: 0,
            packets: 0,
            flows: 0,
            busy: false,
        }
    }

    /// Buckets with records.
    pub(crate) fn occupied(&self) -> usize {
        self.occupied
    }

    fn enter(&mut self, bucket: u16) {
        let records = &mut self.records[usize::from(bucket)];
        self.occupied += usize::from(*records == 0);
        *records += 1;
    }

    fn leave(&mut self, bucket: u16) {
        let records = &mut self.records[usize::from(bucket)];
        debug_assert!(*records > 0, "bucket {bucket} has no records");
        *records = records.saturating_sub(1);
        if *records == 0 {
            self.occupied = self.occupied.saturating_sub(1);
            self.emptied.push(bucket);
        }
    }

    /// Perhaps nothing is in this bucket: it is looked at when the turn ends.
    fn look_at(&mut self, bucket: u16) {
        if self.records[usize::from(bucket)] == 0 {
            self.emptied.push(bucket);
        }
    }

    fn give_back_emptied(&mut self, owners: &OwnerTable, me: ShardId) {
        for bucket in self.emptied.drain(..) {
            if self.records[usize::from(bucket)] == 0 {
                owners.release(u32::from(bucket), me);
            }
        }
    }

    /// One piece of the sweep, if it is time; how many buckets were looked at, and how many given back.
    fn sweep(&mut self, owners: &OwnerTable, me: ShardId, packets: u64, now: Instant) -> (usize, u64) {
        if std::mem::replace(&mut self.packets, packets) != packets {
            self.pieces = PIECES;
            let soon = now + SWEEP_INTERVAL;
            self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        }
        if self.due.is_none_or(|due| due > now) {
            return (0, 0);
        }
        while let Some((until, bucket)) = self.kept.front().copied()
            && until <= now
        {
            self.kept.pop_front();
            self.leave(bucket);
        }
        let mut swept = 0;
        let piece = self.at..self.at + budget::BUCKETS;
        for bucket in piece.clone().filter(|bucket| self.records[*bucket] == 0) {
            swept += u64::from(owners.release(bucket as u32, me));
        }
        self.at = piece.end % BUCKETS;
        self.pieces = self.pieces.saturating_sub(1);
        let next = self.kept.front().map(|(until, _)| *until);
        self.due = if self.pieces > 0 { Some(now + SWEEP_INTERVAL) } else { next };
        (budget::BUCKETS, swept)
    }
}

fn bucket_of(hash: u32) -> u16 {
    hash as u16
}

impl ShardState {
    /// The bucket of a flow; `None`: all are dealt out, and nobody needs to know.
    #[inline]
    fn bucket(&mut self, quad: &Quad) -> Option<(&mut Buckets, u16)> {
        let buckets = self.buckets.as_deref_mut()?;
        Some((buckets, bucket_of(self.shared.keys.hash_quad(quad))))
    }

    /// Whether a record of this flow may come: its bucket is ours, now if it was vacant.
    #[inline]
    pub(crate) fn claim_bucket(&self, quad: &Quad) -> bool {
        let Self { shared, config, buckets, .. } = self;
        buckets.is_none() || shared.owners.claim(shared.keys.hash_quad(quad), config.id) == config.id
    }

    /// A record of this flow has come, after [`claim_bucket`](Self::claim_bucket).
    #[inline]
    pub(crate) fn enter_bucket(&mut self, quad: &Quad) {
        if let Some((buckets, bucket)) = self.bucket(quad) {
            buckets.enter(bucket);
        }
    }

    /// A record of this flow has gone.
    #[inline]
    pub(crate) fn leave_bucket(&mut self, quad: &Quad) {
        if let Some((buckets, bucket)) = self.bucket(quad) {
            buckets.leave(bucket);
        }
    }

    /// A SYN of this flow has come, and its bucket is claimed: if no record comes of it, it is given back.
    pub(crate) fn look_at_bucket(&mut self, quad: &Quad) {
        if let Some((buckets, bucket)) = self.bucket(quad) {
            buckets.look_at(bucket);
        }
    }

    /// A cookie of this flow has been used, which no shard but this one knows: for as long as it would be good its bucket
    /// stays here (RFC4987-3.6b).
    pub(crate) fn keep_bucket(&mut self, quad: &Quad) {
        let until = self.now + EPOCH * 2;
        if let Some((buckets, bucket)) = self.bucket(quad) {
            buckets.enter(bucket);
            buckets.kept.push_back((until, bucket));
        }
    }

    /// Whether the worker of this shard has time left.
    pub(crate) fn note_busy(&mut self, busy: bool) {
        if let Some(buckets) = &mut self.buckets
            && std::mem::replace(&mut buckets.busy, busy) != busy
        {
            self.tell_load();
        }
    }

    fn tell_load(&mut self) {
        let flows = self.conns.len() + self.half_open.len();
        if let Some(buckets) = &mut self.buckets {
            buckets.flows = flows;
            self.shared.owners.tell_load(self.config.id, u32::try_from(flows).unwrap_or(u32::MAX), buckets.busy);
        }
    }

    /// At the end of a turn: gives back what is empty, sweeps, tells how many flows there are.
    #[inline]
    pub(crate) fn tend_buckets(&mut self) {
        if self.buckets.is_some() {
            self.tend_own_buckets();
        }
    }

    fn tend_own_buckets(&mut self) {
        /// Differences in flows that nobody needs to hear of at once.
        const FEW: usize = 16;
        let Some(buckets) = &mut self.buckets else { return };
        let (owners, me, packets) = (&*self.shared.owners, self.config.id, self.counters.packets_in);
        let (looked_at, swept) = buckets.sweep(owners, me, packets, self.now);
        buckets.give_back_emptied(owners, me);
        self.counters.buckets_swept += swept;
        self.counters.note_work(budget::Work::Buckets, looked_at);
        let flows = self.conns.len() + self.half_open.len();
        if flows.abs_diff(buckets.flows) > FEW {
            self.tell_load();
        }
    }

    /// When the sweep goes on.
    pub(crate) fn sweep_due(&self) -> Option<Instant> {
        self.buckets.as_ref().and_then(|buckets| buckets.due)
    }
}

#[cfg(test)]
#[path = "buckets_tests.rs"]
mod tests;
