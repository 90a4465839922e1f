//! The list of orphans: connections whose service has closed them. Which of them give way, `orphan_limits` decides.

use std::collections::VecDeque;

use super::conn::Conn;
use super::service::ConnId;
use crate::tcp::Instant;

/// The orphans of a shard.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    /// In the order in which they were left, and when. Those that are done are taken out later.
    queue: VecDeque<(ConnId, Instant)>,
    pub(crate) count: usize,
    /// Somebody waits for memory, and the next of those that hold some gives way then.
    pub(crate) due: Option<Instant>,
}

/// Of the oldest, so many are looked at for one that holds memory.
const LOOKED_AT: usize = 64;

impl Orphans {
    /// This connection is done, or has never been one.
    pub(crate) fn forget(&mut self, conn: &mut Conn) {
        self.count -= usize::from(std::mem::take(&mut conn.orphan));
    }

    /// `id` is an orphan from `now` on. Those that are done leave the list when it is much longer than there are
    /// orphans.
    pub(crate) fn add(&mut self, id: ConnId, now: Instant, is_orphan: impl Fn(ConnId) -> bool) {
        self.count += 1;
        self.queue.push_back((id, now));
        if self.queue.len() > 2 * self.count + LOOKED_AT {
            self.queue.retain(|(id, _)| is_orphan(*id));
        }
    }

    /// Takes out the oldest, which may be done.
    pub(crate) fn pop(&mut self) -> Option<ConnId> {
        self.queue.pop_front().map(|(id, _)| id)
    }

    /// Some of the oldest with their places in the list, and since when they are orphans, unless they are done.
    pub(crate) fn oldest(&self) -> impl Iterator<Item = (usize, ConnId, Instant)> + '_ {
        self.queue.iter().take(LOOKED_AT).enumerate().map(|(place, &(id, left))| (place, id, left))
    }

    /// Takes out the one at `place`.
    pub(crate) fn take(&mut self, place: usize) -> Option<ConnId> {
        self.queue.remove(place).map(|(id, _)| id)
    }
}
