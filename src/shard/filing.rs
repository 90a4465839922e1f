//! Connections and TIME-WAIT records come and go: slab, flow table, and all that counts them.
//!
//! Must not contain: what the protocol says of it.

use super::conn::{Conn, Phase, Sides};
use super::hasher::Flow;
use super::listeners::Target;
use super::receive_store::ReceiveStore;
use super::send_store::SendStore;
use super::service::ConnId;
use super::state::ShardState;
use crate::flow::Quad;
use crate::tcp::{Instant, TimeWait};
use crate::wire::ip::IpFields;

impl ShardState {
    /// Adds a connection to the slab and the flow table. `None`: the shard is full, or its bucket is
    /// another's by now.
    pub(crate) fn insert(&mut self, flow: &Flow, origin: Target, phase: Phase, ticket: u64) -> Option<ConnId> {
        let &Flow { ref quad, hash } = flow;
        if !self.claim_bucket(quad) || !self.make_place() {
            return None;
        }
        if self.conns.len() + self.half_open.len() >= self.config.limits.connections {
            self.recycle_half_open();
        }
        self.connecting += usize::from(matches!(phase, Phase::Handshake(_)));
        let id = self.conns.insert(Conn {
            phase,
            send: SendStore::default(),
            receive: ReceiveStore::default(),
            quad: *quad,
            armed: Instant::MAX,
            user: 0,
            ticket,
            in_ring: 0,
            service: origin.service,
            listener: origin.listener,
            ip: IpFields::default(),
            touched: false,
            again: false,
            wants_room: false,
            detached: false,
            orphan: false,
            ended: Sides::default(),
            passed: 0,
            ring_blocked: false,
            starved: false,
            holds: false,
            gives_way: false,
        });
        self.holders.reserve(id.slot);
        self.idle.reserve(id.slot);
        self.flows.insert(hash, id.slot);
        self.enter_bucket(quad);
        self.listeners.adopt(origin.listener);
        Some(id)
    }

    /// Takes a connection out of the flow table: segments no longer find it.
    pub(crate) fn unlink(&mut self, id: ConnId) {
        self.recent.forget(id);
        let Some(quad) = self.conns.get(id).map(|conn| conn.quad) else { return };
        let hash = self.hash(&quad);
        if self.flows.remove(hash, id.slot) {
            self.leave_bucket(&quad);
            if !self.destinations.is_empty() {
                self.destinations.closed(&quad, self.time_wait.get(hash, &quad).is_some());
            }
        }
    }

    /// Files a TIME-WAIT record of a connection that ends.
    pub(crate) fn file_time_wait(&mut self, flow: &Flow, record: TimeWait) {
        let (Flow { quad, hash }, deadline) = (*flow, record.deadline());
        if self.time_wait.remove(hash, &quad).is_none() {
            self.enter_bucket(&quad);
        }
        if let Some((evicted, _)) = self.time_wait.insert(hash, quad, record, deadline) {
            self.waited(&evicted);
        }
    }

    /// A new connection takes over the quad of a TIME-WAIT record, if there is one.
    pub(crate) fn take_time_wait(&mut self, quad: &Quad) {
        if self.time_wait.remove(self.hash(quad), quad).is_some() {
            self.counters.time_wait_reused += 1;
            self.leave_bucket(quad);
        }
    }

    /// A TIME-WAIT record is gone.
    #[inline]
    pub(crate) fn waited(&mut self, quad: &Quad) {
        self.leave_bucket(quad);
        if !self.destinations.is_empty() && self.lookup(self.hash(quad), quad).is_none() {
            self.destinations.closed(quad, false);
        }
    }

    /// Removes a connection and gives all its memory back. Frames still in the tx ring keep their blocks alive.
    pub(crate) fn remove(&mut self, id: ConnId) {
        self.wheel.remove(id.slot);
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.send.clear(&mut self.memory);
        conn.receive.clear(&mut self.holdings);
        self.orphans.forget(conn);
        self.ring_blocked -= usize::from(conn.ring_blocked);
        if conn.holds {
            self.holders.remove(id.slot);
        }
        if conn.gives_way {
            self.idle.remove(id.slot);
        }
        self.connecting -= usize::from(matches!(conn.phase, Phase::Handshake(_)));
        self.detached -= usize::from(conn.detached);
        self.listeners.orphan(conn.listener);
        self.conns.discard(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Together with its places in slab, flow table and wheel, a connection costs less than a kilobyte
    /// (`tests/costs/connections.rs` measures it).
    #[test]
    fn a_connection_is_thirteen_cache_lines() {
        assert!(size_of::<Conn>() <= 832, "{}", size_of::<Conn>());
        assert_eq!(size_of::<Option<Conn>>(), size_of::<Conn>());
        assert!(size_of::<SendStore>() <= 48 && size_of::<ReceiveStore>() <= 64);
    }
}
