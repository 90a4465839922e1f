//! Who has to go when there is not enough for all: connections that hold memory and do nothing with it, and, when there are as
//! many connections as there may be, those of services that have been silent longest.
//!
//! Shares ([`shares`](super::shares)) see to it that everybody gets something; this gives back what is held for nothing. Only
//! when memory is short, only after [`PATIENCE`] without progress, and who has been without it longest goes first. Progress
//! is octets that the peer has acknowledged or the user has read: a peer that keeps its window closed and answers
//! probes makes none (RFC 9293 3.8.6.1 lets it; it lets us "reclaim resources", too: MAY-8, RFC 6429). Orphans go before all
//! others, see [`orphans`](super::orphans).
//!
//! Must not contain: how much a connection may take.

use super::config::ShardConfig;
use super::conn::{Conn, Phase};
use super::log;
use super::receive_store::Holdings;
use super::service::{ConnId, Io};
use super::shares::Pool;
use super::state::ShardState;
use crate::buffer::send_memory::SendMemory;
use crate::tcp::{CloseReason, Duration};

/// Without progress for so long, a connection gives up what it holds, if others need it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// So many connections are looked at in a turn, or for one that wants a place.
const LOOKED_AT: usize = 64;
/// So many are reset in a turn.
const A_TURN: usize = 16;

/// The memory for data to be sent.
#[inline]
pub(super) fn pool_of(memory: &SendMemory) -> Pool {
    Pool { capacity: memory.capacity_octets(), taken: memory.taken_octets(), whole: memory.free_octets() }
}

impl Conn {
    /// Octets of the shard's memory that it has taken, of both kinds.
    pub(crate) fn taken(&self) -> u32 {
        self.send.taken().saturating_add(self.receive.taken())
    }

    /// Changes with every octet that the peer acknowledges or the user reads, and with nothing else.
    fn moved(&self) -> u64 {
        match &self.phase {
            Phase::Open(connection) => connection.acked() + connection.read(),
            Phase::Handshake(_) => 0,
            Phase::Drained(..) => u64::MAX - u64::from(self.receive.unread()),
        }
    }
}

/// See [`ShardState::receive_pool`].
#[inline]
pub(super) fn held_pool(config: &ShardConfig, holdings: &Holdings) -> Pool {
    let (capacity, taken) = (config.limits.held_octets, holdings.octets);
    Pool { capacity, taken, whole: capacity.saturating_sub(taken) }
}

impl ShardState {
    /// The memory for data to be sent.
    #[inline]
    pub(crate) fn send_pool(&self) -> Pool {
        pool_of(&self.memory)
    }

    /// The memory for data that was received and not read.
    #[inline]
    pub(crate) fn receive_pool(&self) -> Pool {
        held_pool(&self.config, &self.holdings)
    }

    /// Whether connections that do nothing with what they hold have to give way.
    #[inline]
    fn is_short(&self) -> bool {
        self.send_pool().is_short() || self.receive_pool().is_short()
    }

    /// The connection may have taken memory.
    #[inline]
    pub(crate) fn note_holder(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && !conn.holds
            && conn.taken() > 0
        {
            conn.holds = true;
            self.holders.push(id.slot, self.now, conn.moved());
        }
    }

    /// Once a turn: when memory is short, resets connections that have held some for too long without progress.
    #[inline]
    pub(crate) fn evict_stalled(&mut self) {
        self.evict_at = None;
        if self.holders.len() > 0 && self.is_short() {
            self.reset_stalled();
        }
    }

    #[cold]
    fn reset_stalled(&mut self) {
        let mut reset = 0;
        for _ in 0..LOOKED_AT {
            let Some((slot, since, mark)) = self.holders.oldest() else { return };
            let (Some(id), Some(conn)) = (self.conns.key(slot), self.conns.at_mut(slot)) else { return };
            if conn.taken() == 0 {
                conn.holds = false;
                self.holders.remove(slot);
                continue;
            }
            if conn.moved() != mark {
                self.holders.renew(slot, self.now, conn.moved());
                continue;
            }
            let due = since + PATIENCE;
            if due > self.now {
                self.evict_at = Some(due);
                return;
            }
            if conn.send.taken() >= conn.receive.taken() {
                self.counters.evicted_for_send_memory += 1;
            } else {
                self.counters.evicted_for_receive_memory += 1;
            }
            log::evicted(&mut self.told, self.now, &conn.quad, "holds memory that others need, without progress");
            self.holders.renew(slot, self.now, mark);
            self.evict(id);
            reset += 1;
            if !self.is_short() {
                return;
            }
            if reset == A_TURN {
                break;
            }
        }
        // More in the next turn.
        self.evict_at = Some(self.now);
    }

    /// Whether [`make_place`](Self::make_place) would find one.
    #[inline]
    pub(crate) fn has_place(&mut self) -> bool {
        self.conns.len() < self.config.limits.connections || self.longest_silent().is_some()
    }

    /// Sees to it that there is a place for another connection: when the table is full, the connection of a service that has
    /// been silent longest goes, after [`Limits::idle_eviction`](super::Limits::idle_eviction) at the earliest.
    /// `false`: there is none.
    #[inline]
    pub(crate) fn make_place(&mut self) -> bool {
        self.conns.len() < self.config.limits.connections || self.reset_silent()
    }

    /// The connection that gives way to a new one, if there is one.
    #[cold]
    fn longest_silent(&mut self) -> Option<ConnId> {
        let patience = self.config.limits.idle_eviction?;
        for _ in 0..LOOKED_AT {
            let (slot, since, _) = self.idle.oldest()?;
            let heard = match &self.conns.at(slot)?.phase {
                Phase::Open(connection) => connection.last_received(),
                // It has ended, and goes as soon as its service has heard so.
                Phase::Handshake(_) | Phase::Drained(..) => self.now,
            };
            if heard > since {
                self.idle.renew(slot, heard, 0);
            } else {
                return self.conns.key(slot).filter(|_| self.now - since >= patience);
            }
        }
        None
    }

    #[cold]
    fn reset_silent(&mut self) -> bool {
        let Some(id) = self.longest_silent() else { return false };
        if let Some(conn) = self.conns.get(id) {
            log::evicted(&mut self.told, self.now, &conn.quad, "is silent, and there is no place for others");
        }
        self.counters.evicted_idle += 1;
        self.evict(id);
        // Its slot is free when its service has heard of it; one connection more will do until then.
        true
    }

    fn evict(&mut self, id: ConnId) {
        match self.conns.get(id).map(|conn| &conn.phase) {
            Some(Phase::Open(_)) => self.reset(id, CloseReason::Evicted),
            Some(_) => Io::abort(self, id),
            None => {}
        }
    }
}
