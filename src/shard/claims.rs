//! Where records claim their buckets and leave them, and what is done about buckets at the end of a turn (`buckets`).
//!
//! Does nothing where all buckets are dealt out.

use super::buckets::Buckets;
use super::budget::Work;
use super::state::ShardState;
use crate::flow::Quad;
use crate::tcp::Instant;
use crate::tcp::cookie::EPOCH;

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

    /// Whether a SYN may be answered here. It may have waited while the bucket that was claimed for it was given back, and
    /// taken by another shard.
    pub(crate) fn may_be_born(&mut self, quad: &Quad) -> bool {
        let ours = self.claim_bucket(quad);
        if ours {
            self.look_at_bucket(quad);
        }
        ours
    }

    /// A bucket is claimed for this flow: if no record comes of it, it is given back.
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
            buckets.keep(bucket, until);
        }
    }

    /// Whether the worker of this shard has time left.
    pub(crate) fn note_busy(&mut self, busy: bool) {
        if self.buckets.as_mut().is_some_and(|buckets| buckets.set_busy(busy)) {
            self.tell_load();
        }
    }

    fn tell_load(&mut self) {
        let flows = self.conns.len() + self.half_open.len();
        if let Some(buckets) = &mut self.buckets {
            buckets.tell(&self.shared.owners, self.config.id, flows);
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
        let Some(buckets) = &mut self.buckets else { return };
        let (owners, me, packets) = (&*self.shared.owners, self.config.id, self.counters.packets_in);
        let (looked_at, swept) = buckets.sweep(owners, me, packets, self.now);
        buckets.give_back_emptied(owners, me);
        self.counters.buckets_swept += swept;
        self.counters.note_work(Work::Buckets, looked_at);
        if buckets.is_news(self.conns.len() + self.half_open.len()) {
            self.tell_load();
        }
    }

    /// When the sweep goes on.
    pub(crate) fn sweep_due(&self) -> Option<Instant> {
        self.buckets.as_ref().and_then(|buckets| buckets.due())
    }
}
