//! [`Driver`]: a shard with what has to be around it when no engine is: the ring of its frames, send memory, buffers.
//!
//! Knows turns, not clocks. Must not contain: sockets, devices, what becomes of a frame.

use std::sync::{Arc, OnceLock};

use crate::buffer::frame::{Completion, RxFrame, TxFrame};
use crate::buffer::packet::PacketBuf;
use crate::buffer::send_memory::SendReader;
use crate::device::BUFFER_LEN;
use crate::flow::ShardId;
use crate::shard::{Outlet, Shard, ShardConfig, ShardShared};
use crate::steering::OwnerTable;
use crate::tcp::{ConfigError, Instant};

/// The owner table of a host with one shard. One for all: filling it is what costs most in making a shard.
pub(crate) fn sole_owner() -> Arc<OwnerTable> {
    static OWNERS: OnceLock<Arc<OwnerTable>> = OnceLock::new();
    Arc::clone(OWNERS.get_or_init(|| Arc::new(OwnerTable::in_memory(1))))
}

/// A shard, and what stands in for an engine around it.
pub(crate) struct Driver {
    pub(crate) shard: Shard,
    outlet: Outlet,
    /// Packet buffers at home, for any packet and for usual ones; there are as many as were ever needed at once.
    large: Vec<PacketBuf>,
    small: Vec<PacketBuf>,
    /// Octets of a small one.
    small_len: usize,
    /// Packet buffers elsewhere.
    out: usize,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("shard", &self.shard).field("buffers_out", &self.out).finish_non_exhaustive()
    }
}

impl Driver {
    /// The only shard of its host, with `send_chunks` chunks of send memory and a ring for `tx_ring` frames.
    pub(crate) fn new(
        config: ShardConfig,
        shared: ShardShared,
        send_chunks: u32,
        tx_ring: usize,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        let small_len = usize::from(config.mtu).next_multiple_of(64);
        let (shard, outlet) = Shard::new(config, shared, send_chunks, tx_ring, now)?;
        Ok(Self { shard, outlet, large: Vec::new(), small: Vec::new(), small_len, out: 0 })
    }

    /// A buffer with room for any packet, in [`BUFFER_LEN`] octets.
    pub(crate) fn buffer(&mut self) -> PacketBuf {
        self.out += 1;
        self.large.pop().unwrap_or_else(|| PacketBuf::new(0, BUFFER_LEN))
    }

    /// A buffer with room for a packet of so many octets, if there is such a packet.
    pub(crate) fn buffer_for(&mut self, len: usize) -> Option<PacketBuf> {
        if len > self.small_len {
            return (len <= BUFFER_LEN).then(|| self.buffer());
        }
        // A window of these may wait at once: so they are no larger than they must be.
        self.out += 1;
        Some(self.small.pop().unwrap_or_else(|| PacketBuf::new(0, self.small_len)))
    }

    /// Takes a buffer home.
    pub(crate) fn put(&mut self, buffer: PacketBuf) {
        self.out = self.out.saturating_sub(1);
        // Another one is a user's.
        match buffer.capacity() {
            BUFFER_LEN => self.large.push(buffer),
            len if len == self.small_len => self.small.push(buffer),
            _ => {}
        }
    }

    /// Packet buffers that are not at home.
    pub(crate) fn buffers_out(&self) -> usize {
        self.out
    }

    /// Hands a packet to the shard: part of a turn.
    pub(crate) fn receive(&mut self, frame: RxFrame) {
        self.shard.receive(frame);
    }

    /// Ends a turn: messages of the services to themselves, timers, what may be sent; buffers come home.
    pub(crate) fn finish_turn(&mut self) {
        self.shard.finish_turn();
        while let Some((_, service, message)) = self.shard.take_message() {
            self.shard.message(service, ShardId(0), message);
        }
        while let Some(buffer) = self.shard.take_released() {
            self.put(buffer);
        }
    }

    /// Shows the frames that are ready to `take`, oldest first, until it refuses one (`false`), and hands the completions
    /// of those it took to `done`. Returns whether all were taken.
    pub(crate) fn drain<E>(
        &mut self,
        mut take: impl FnMut(&TxFrame, &SendReader) -> Result<bool, E>,
        mut done: impl FnMut(&mut Shard, Completion),
    ) -> Result<bool, E> {
        let mut all = true;
        while let Some(frame) = self.outlet.frames.peek() {
            all = take(frame, &self.outlet.memory)?;
            if !all {
                break;
            }
            if let Some(completion) = self.outlet.frames.pop().and_then(TxFrame::complete) {
                done(&mut self.shard, completion);
            }
        }
        self.outlet.frames.release();
        Ok(all)
    }
}
