//! The buckets of the owner table that this shard's records are in, for steering by birth: claimed before a record comes,
//! given back when the last one has gone.
//!
//! Records are connections in the flow table, half-open ones and those in TIME-WAIT. Buckets without any are given back at
//! the end of the turn, so that a record that becomes another stays where it is. A claim whose SYN never arrived has no
//! record either: a sweep finds those, a piece at a time, for as long as packets come and a little longer. It ends what
//! is kept for used cookies, too.
//!
//! Must not contain: who claims for us (`steering`), what a record is; where they come and go is `claims`.

use std::ops::Range;

use super::budget;
use crate::flow::ShardId;
use crate::steering::{BUCKETS, OwnerTable};
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
    /// Until which second each bucket is kept for used cookies, or 0: the one shard that knows of them must get them
    /// again.
    kept_until: Box<[u32]>,
    /// How many are, and until when the last of them.
    kept: usize,
    last_kept: Instant,
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
            kept_until: vec![0; BUCKETS].into(),
            kept: 0,
            last_kept: Instant::ZERO,
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

    pub(super) fn enter(&mut self, bucket: u16) {
        let records = &mut self.records[usize::from(bucket)];
        self.occupied += usize::from(*records == 0);
        *records += 1;
    }

    pub(super) fn leave(&mut self, bucket: u16) {
        let records = &mut self.records[usize::from(bucket)];
        debug_assert!(*records > 0, "bucket {bucket} has no records");
        *records = records.saturating_sub(1);
        if *records == 0 {
            self.occupied = self.occupied.saturating_sub(1);
            self.emptied.push(bucket);
        }
    }

    /// Perhaps nothing is in this bucket: it is looked at when the turn ends.
    pub(super) fn look_at(&mut self, bucket: u16) {
        if self.records[usize::from(bucket)] == 0 {
            self.emptied.push(bucket);
        }
    }

    pub(super) fn give_back_emptied(&mut self, owners: &OwnerTable, me: ShardId) {
        for bucket in self.emptied.drain(..) {
            if self.records[usize::from(bucket)] == 0 {
                owners.release(u32::from(bucket), me);
            }
        }
    }

    /// A record that is none, one for the bucket: it stays until then, or a second longer.
    pub(super) fn keep(&mut self, bucket: u16, until: Instant) {
        let second = u32::try_from(until.as_secs() + 1).unwrap_or(u32::MAX);
        let kept = &mut self.kept_until[usize::from(bucket)];
        let is_new = *kept == 0;
        *kept = second.max(*kept);
        self.last_kept = self.last_kept.max(Instant::from_secs(second.into()));
        if is_new {
            self.kept += 1;
            self.enter(bucket);
        }
    }

    /// Of these buckets, those that are kept no longer.
    fn end_kept(&mut self, piece: Range<usize>, now: Instant) {
        if self.kept == 0 {
            return;
        }
        for bucket in piece {
            let kept = &mut self.kept_until[bucket];
            if *kept != 0 && u64::from(*kept) <= now.as_secs() {
                *kept = 0;
                self.kept -= 1;
                self.leave(bucket as u16);
            }
        }
    }

    /// The worker has time left or none; says whether that has changed.
    pub(super) fn set_busy(&mut self, busy: bool) -> bool {
        std::mem::replace(&mut self.busy, busy) != busy
    }

    /// Whether so many flows are other than what was last told.
    pub(super) fn is_news(&self, flows: usize) -> bool {
        /// Differences that nobody needs to hear of at once.
        const FEW: usize = 16;
        flows.abs_diff(self.flows) > FEW
    }

    /// Tells how many flows there are.
    pub(super) fn tell(&mut self, owners: &OwnerTable, me: ShardId, flows: usize) {
        self.flows = flows;
        owners.tell_load(me, u32::try_from(flows).unwrap_or(u32::MAX), self.busy);
    }

    /// When the sweep goes on.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// One piece of the sweep, if it is time; how many buckets were looked at, and how many given back.
    pub(super) fn sweep(&mut self, owners: &OwnerTable, me: ShardId, packets: u64, now: Instant) -> (usize, u64) {
        if std::mem::replace(&mut self.packets, packets) != packets {
            self.pieces = PIECES;
            let soon = now + SWEEP_INTERVAL;
            self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        }
        if self.due.is_none_or(|due| due > now) {
            return (0, 0);
        }
        if self.pieces == 0 {
            // All was quiet, until those that are kept are so no longer.
            self.pieces = PIECES;
        }
        let mut swept = 0;
        let piece = self.at..self.at + budget::BUCKETS;
        for bucket in piece.clone().filter(|bucket| self.records[*bucket] == 0) {
            swept += u64::from(owners.release(bucket as u32, me));
        }
        self.end_kept(piece.clone(), now);
        self.at = piece.end % BUCKETS;
        self.pieces -= 1;
        let soon = now + SWEEP_INTERVAL;
        self.due = match (self.pieces, self.kept) {
            (0, 0) => None,
            (0, _) => Some(self.last_kept.max(soon)),
            _ => Some(soon),
        };
        (budget::BUCKETS, swept)
    }
}

#[cfg(test)]
#[path = "buckets_tests.rs"]
mod tests;
