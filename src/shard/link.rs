//! The link's largest packet has become another while the shard runs.
//!
//! Must not contain: how that is noticed (the engine's business), what it means for a connection (`tcp`'s).

use super::Shard;
use super::budget;
use super::conn::Phase;
use super::service::ConnId;
use super::state::ShardState;

impl Shard {
    /// The largest IP packet on the link is of so many octets from now on. New connections obey it at once; those that there
    /// are have to be [told](Self::apply_mtu).
    pub fn set_mtu(&mut self, mtu: u16) {
        self.state.config.mtu = mtu;
        self.state.mtu_changed = true;
    }

    /// Tells connections of the link's largest packet, those of a bounded number of places from `from` on. Where to go on in
    /// the next turn; `None`: all have been told.
    pub fn apply_mtu(&mut self, from: usize) -> Option<usize> {
        let state = &mut self.state;
        let end = state.conns.slots().min(from + budget::PLACES_SHOWN);
        for slot in from..end {
            if let Some(id) = state.conns.key(slot as u32) {
                state.fit_to_link(id);
            }
        }
        (end < state.conns.slots()).then_some(end)
    }
}

impl ShardState {
    /// Has a connection obey the link's largest packet. One that is not established yet does when it is.
    #[cold]
    pub(super) fn fit_to_link(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && let Phase::Open(connection) = &mut conn.phase
            && connection.on_link_mtu(&self.config.tcp, self.config.mtu, self.now)
        {
            self.touch(id);
        }
    }
}
