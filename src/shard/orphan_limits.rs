//! Orphans: connections whose service has closed them, and which go on alone until the peer has acknowledged
//! everything.
//!
//! They cost memory that nobody asks about any more, so they are bounded (OPS-22): in number, in time
//! (`tcp::Config::orphan_timeout`), and they give way when send memory is needed by others: those whose peer has not
//! acknowledged anything for [`STALLED`], since the others give theirs back by themselves, and what a service has said
//! before it closed is meant to arrive; and those that take longer than [`PATIENCE`]. The oldest goes first: it had the
//! most time. In FIN-WAIT-2 a connection has nothing left to send and is no orphan any more; that state has a
//! time limit of its own.

use super::conn::Phase;
use super::service::{ConnId, Io};
use super::state::ShardState;
use crate::tcp::{Duration, Instant, State};

/// Without an acknowledgment for so long, an orphan gives way: a lost one costs less than that.
const STALLED: Duration = Duration::from_secs(1);
/// After so long it gives way in any case: a peer that takes an octet at a time is no better than one that takes none.
const PATIENCE: Duration = Duration::from_secs(20);

/// So many are reset in a turn for their memory.
const A_TURN: usize = 16;

impl ShardState {
    /// The service has closed `id`, or its user has [left](Io::leave) it.
    pub(crate) fn left_alone(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Phase::Open(connection) = &conn.phase else { return };
        let unsaid =
            connection.is_left() || matches!(connection.state(), State::FinWait1 | State::Closing | State::LastAck);
        if !unsaid || std::mem::replace(&mut conn.orphan, true) {
            return;
        }
        let conns = &self.conns;
        self.orphans.add(id, self.now, |id| conns.get(id).is_some_and(|conn| conn.orphan));
        while self.orphans.count > self.config.limits.orphans {
            let Some(oldest) = self.orphans.pop() else { break };
            if self.is_orphan(oldest) {
                self.counters.orphans_over_limit += 1;
                self.abort(oldest);
            }
        }
    }

    fn is_orphan(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.orphan)
    }

    /// Somebody waits for send memory, and hardly any is free: orphans that hold some are reset.
    #[inline]
    pub(crate) fn take_memory_of_orphans(&mut self) {
        self.orphans.due = None;
        if self.orphans.count > 0 && !self.starved.is_empty() {
            self.reset_orphans();
        }
    }

    #[cold]
    fn reset_orphans(&mut self) {
        // Whoever heads the list may have gone, or been left, meanwhile: an orphan does not make way for itself.
        while let Some(&id) = self.starved.front() {
            match self.conns.get_mut(id) {
                Some(conn) if conn.wants_room && !conn.detached => break,
                Some(conn) => conn.starved = false,
                None => {}
            }
            self.starved.pop_front();
            self.feed_left = self.feed_left.min(self.starved.len());
        }
        for _ in 0..A_TURN {
            if self.orphans.count == 0 || self.starved.is_empty() || !self.send_pool().is_short() {
                return;
            }
            let oldest = self.orphans.oldest();
            let gives_way = oldest.filter_map(|(place, id, left)| Some((self.gives_way_at(id, left)?, place)));
            // Of those that are due the oldest, else the one that will be first.
            let Some((at, place)) = gives_way.min_by_key(|(at, _)| (*at).max(self.now)) else { return };
            if at > self.now {
                self.orphans.due = Some(at);
                return;
            }
            if let Some(id) = self.orphans.take(place) {
                self.counters.orphans_out_of_memory += 1;
                self.abort(id);
            }
        }
        // More in the next turn.
        self.orphans.due = Some(self.now);
    }

    /// When an orphan that was left at `left` gives way, if it holds memory.
    fn gives_way_at(&self, id: ConnId, left: Instant) -> Option<Instant> {
        let conn = self.conns.get(id).filter(|conn| conn.orphan && conn.send.taken() > 0)?;
        let Phase::Open(connection) = &conn.phase else { return None };
        Some((connection.last_progress() + STALLED).min(left + PATIENCE))
    }
}
