//! The receiving stage: reads a device queue and hands each packet to the ring of the shard that owns its flow.
//!
//! It looks at addresses and ports, never at connections. Must not contain: threads, waiting, TCP.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::stage::{Poll, StageStats};
use crate::buffer::frame::RxFrame;
use crate::buffer::packet::{PacketBuf, PacketPool};
use crate::buffer::ring::{Consumer, Producer};
use crate::buffer::wake::{Interest, Unparker};
use crate::device::RxQueue;
use crate::flow::ShardId;
use crate::shard::ShardShared;
use crate::steering::{Fragments, Joined, OwnerTable, SteeringKeys};
use crate::tcp::{Duration, Instant};

/// A batch ends at this many packets ...
pub(super) const BATCH_PACKETS: usize = 64;
/// ... or at this many octets, whichever comes first: 64 super-segments would be 4 MB and fall out of the cache.
pub(super) const BATCH_OCTETS: usize = 256 << 10;

/// Buffers lie idle when they were not used for so long.
const IDLE: Duration = Duration::from_secs(1);
/// So many give their pages back at a time, 8 MB.
const GIVEN_BACK: usize = 128;

/// The rings between this stage and one worker.
#[derive(Debug)]
pub(super) struct ToWorker {
    /// Packets of that worker's flows. As large as the pool, so it is never full.
    pub(super) frames: Producer<RxFrame>,
    /// Buffers that the worker is done with. As large as the pool, so a return never fails.
    pub(super) returns: Consumer<PacketBuf>,
    /// `None`: the worker runs on the same thread.
    pub(super) unparker: Option<Unparker<mio::Waker>>,
    staged: bool,
    /// Something has been published of which that worker's thread may not know.
    to_wake: bool,
}

impl ToWorker {
    pub(super) fn new(
        frames: Producer<RxFrame>,
        returns: Consumer<PacketBuf>,
        unparker: Option<Unparker<mio::Waker>>,
    ) -> Self {
        Self { frames, returns, unparker, staged: false, to_wake: false }
    }
}

/// One receiving stage: reads one device queue into buffers of its pool, and hands each packet to its owner.
pub(super) struct Rx {
    queue: Box<dyn RxQueue>,
    pool: PacketPool,
    workers: Vec<ToWorker>,
    keys: SteeringKeys,
    owners: Arc<OwnerTable>,
    /// The shard whose worker writes to this same queue: packets of others are counted as forwarded.
    home: usize,
    stats: Arc<StageStats>,
    forwarded: u64,
    /// Made with the first fragment.
    fragments: Option<Box<Fragments>>,
    /// The pool is empty: nothing can be read before a buffer comes back.
    starved: bool,
    /// When idle buffers give their pages back, if there are some.
    give_back_at: Option<Instant>,
}

impl Rx {
    pub(super) fn new(
        queue: Box<dyn RxQueue>,
        pool: PacketPool,
        workers: Vec<ToWorker>,
        shared: &ShardShared,
        home: usize,
        stats: Arc<StageStats>,
    ) -> Self {
        let (keys, owners) = (shared.keys, Arc::clone(&shared.owners));
        stats.buffers.store(pool.capacity() as u64, Ordering::Relaxed);
        stats.buffers_free.store(pool.available() as u64, Ordering::Relaxed);
        Self {
            queue,
            pool,
            workers,
            keys,
            owners,
            home,
            stats,
            forwarded: 0,
            fragments: None,
            starved: false,
            give_back_at: None,
        }
    }

    /// The descriptor that becomes readable when packets wait.
    pub(super) fn fd(&self) -> Option<std::os::fd::RawFd> {
        self.queue.fd()
    }

    /// Reads one batch.
    pub(super) fn poll(&mut self) -> io::Result<Poll> {
        self.take_returns();
        let mut octets = 0;
        let mut packets = 0;
        let mut drained = false;
        while packets < BATCH_PACKETS && octets < BATCH_OCTETS {
            let Some(mut packet) = self.pool.take() else {
                self.starved = true;
                break;
            };
            let Some(received) = self.queue.receive(packet.storage_mut())? else {
                self.pool.put(packet);
                drained = true;
                break;
            };
            packet.set_range(received.start, received.len);
            packets += 1;
            octets += received.len;
            let mut frame = RxFrame { packet, offload: received.offload, refusal: None };
            if Fragments::is_one(frame.packet.bytes()) && !self.join(&mut frame) {
                self.pool.put(frame.packet);
                continue;
            }
            self.hand_on(frame);
        }
        self.pool.note_use();
        self.publish();
        if packets > 0 {
            self.stats.forwarded.store(self.forwarded, Ordering::Relaxed);
            self.stats.buffers_free.store(self.pool.available() as u64, Ordering::Relaxed);
        }
        // Without buffers there is no use in looking at the queue: a return wakes us.
        Ok(Poll { work: packets, drained: drained || self.starved })
    }

    /// Wakes the workers that have got something and sleep: when the other stages of this thread have had their turn, since
    /// a wake-up takes as long as many of their packets.
    pub(super) fn wake_workers(&mut self) {
        for worker in &mut self.workers {
            if std::mem::take(&mut worker.to_wake)
                && let Some(unparker) = &worker.unparker
            {
                unparker.notify(Interest::DATA);
            }
        }
    }

    /// Stages a packet for its owner.
    #[inline]
    fn hand_on(&mut self, frame: RxFrame) {
        let owner = if self.workers.len() == 1 { 0 } else { self.owner(frame.packet.bytes()) };
        self.forwarded += u64::from(owner != self.home && self.workers.len() > 1);
        let Some(worker) = self.workers.get_mut(owner) else { return self.pool.put(frame.packet) };
        match worker.frames.stage(frame) {
            Ok(()) => worker.staged = true,
            // Cannot be: the ring is as large as the pool.
            Err(frame) => self.pool.put(frame.packet),
        }
    }

    /// Shows the workers what was staged for them.
    fn publish(&mut self) {
        for worker in &mut self.workers {
            if std::mem::take(&mut worker.staged) {
                worker.frames.publish();
                worker.to_wake = true;
            }
        }
    }

    /// A fragment has come: whether its frame is to be handed on, because the whole packet lies in its buffer now, or because
    /// who sent it is to be told.
    #[cold]
    fn join(&mut self, frame: &mut RxFrame) -> bool {
        let fragments = self.fragments.get_or_insert_with(Box::default);
        let (start, len) = (frame.packet.start(), frame.packet.len());
        let Some(buffer) = frame.packet.storage_mut().get_mut(start..) else { return false };
        let joined = fragments.join(buffer, len, std::time::Instant::now());
        self.settle_fragments();
        frame.offload = Default::default();
        match joined {
            Joined::Whole(len) => frame.packet.set_range(start, len),
            Joined::Refused(why) => frame.refusal = Some(why),
            Joined::Taken => return false,
        }
        true
    }

    /// Counts what fragments came to, and has those told whose packets were not complete in time.
    fn settle_fragments(&mut self) {
        let Some(fragments) = &mut self.fragments else { return };
        for (cell, dropped) in self.stats.fragments.iter().zip(fragments.dropped()) {
            cell.store(dropped, Ordering::Relaxed);
        }
        while let Some((first, why)) = self.fragments.as_mut().and_then(|fragments| fragments.take_late()) {
            let Some(mut packet) = self.pool.take() else { return };
            packet.storage_mut()[..first.len()].copy_from_slice(&first);
            packet.set_range(0, first.len());
            self.hand_on(RxFrame { packet, offload: Default::default(), refusal: Some(why) });
        }
    }

    /// Drops fragments that have waited too long, and says when that is to be looked at again.
    fn expire_fragments(&mut self, now: Instant) -> Option<Instant> {
        let fragments = self.fragments.as_mut()?;
        let (due, time) = (fragments.deadline()?, std::time::Instant::now());
        if due > time {
            return Some(now + Duration::from_nanos((due - time).as_nanos() as u64));
        }
        fragments.expire(time);
        self.settle_fragments();
        self.publish();
        self.wake_workers();
        // A worker on this thread has to have a turn before it sleeps, and the rest is looked at in the next one.
        Some(now)
    }

    /// The worker of a packet's owner.
    #[inline]
    fn owner(&self, packet: &[u8]) -> usize {
        let hash = self.keys.hash_owner(packet);
        self.owners.claimed(hash).unwrap_or_else(|| self.vacant(hash, packet)).index()
    }

    /// Nobody has a record in this bucket. A SYN claims it; anything else will find nothing anywhere, or bring a cookie.
    #[cold]
    fn vacant(&self, hash: u32, packet: &[u8]) -> ShardId {
        if self.owners.is_by_birth() && SteeringKeys::is_birth(packet) {
            self.owners.claim_birth(hash, ShardId(self.home as u16))
        } else {
            self.owners.owner(hash)
        }
    }

    fn take_returns(&mut self) {
        for worker in &mut self.workers {
            while let Some(mut packet) = worker.returns.pop() {
                packet.set_range(0, 0);
                self.pool.put(packet);
                self.starved = false;
            }
            worker.returns.release();
        }
    }

    /// Gives back some of the buffers that lie idle, and drops fragments that have waited too long, if it is time, and says
    /// when it will be the next time. When only those buffers are left that are worth keeping, nothing wakes the stage for
    /// them any more. Not needed while there is work.
    pub(super) fn rest(&mut self, now: Instant) -> Option<Instant> {
        self.stats.buffers_free.store(self.pool.available() as u64, Ordering::Relaxed);
        let fragments = self.expire_fragments(now);
        if self.give_back_at.is_some_and(|at| at <= now) {
            self.give_back_at = None;
            self.pool.give_back(GIVEN_BACK);
        }
        if self.give_back_at.is_none() && (self.pool.has_idle() || self.pool.has_many_out()) {
            self.give_back_at = Some(now + IDLE);
        }
        self.give_back_at.into_iter().chain(fragments).min()
    }

    /// Whether [`rest`](Self::rest) has something to do, sooner or later. Nobody wakes the stage when buffers come back: as long
    /// as many are out, it looks for them itself.
    pub(super) fn has_idle(&self) -> bool {
        self.give_back_at.is_some() || self.waits_for_fragments() || self.pool.has_idle() || self.pool.has_many_out()
    }

    fn waits_for_fragments(&self) -> bool {
        self.fragments.as_ref().is_some_and(|fragments| fragments.deadline().is_some())
    }

    /// What this stage must be woken for, besides its queue.
    pub(super) fn interest(&self) -> Interest {
        if self.starved { Interest::RETURNS } else { Interest::NONE }
    }

    /// Whether a turn would find something in the rings.
    pub(super) fn ready(&mut self) -> bool {
        self.starved && self.workers.iter_mut().any(|worker| !worker.returns.is_empty())
    }
}
