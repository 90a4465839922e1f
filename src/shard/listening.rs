//! What happens when services begin and cease to listen.

use std::net::IpAddr;

use super::budget::{self, Work};
use super::opening::ListenError;
use super::state::ShardState;
use crate::flow::Endpoint;

impl ShardState {
    /// See [`Io::listen`](super::Io::listen).
    pub(crate) fn open_listener(&mut self, local: Endpoint, backlog: u32, tag: u64) -> Result<(), ListenError> {
        if local.port == 0 {
            return Err(ListenError::NoPort);
        }
        let any = local.addr.is_unspecified();
        let fits = |ours: &IpAddr| *ours == local.addr || (any && ours.is_ipv4() == local.addr.is_ipv4());
        if !self.config.addresses.iter().any(fits) {
            return Err(ListenError::NotOurAddress);
        }
        self.listeners.add(self.current, local, backlog, tag)
    }

    /// See [`Io::unlisten`](super::Io::unlisten).
    pub(crate) fn close_listener(&mut self, local: Endpoint) {
        if let Some(index) = self.listeners.own(self.current, local) {
            self.listeners.close(index);
            self.destinations.silent(local.port);
        }
    }

    /// No service listens any more, on ports of its own neither.
    pub(crate) fn close_all_listeners(&mut self) {
        self.listeners.close_all();
    }

    /// Resets children in SYN-RECEIVED whose listener is gone: looks at some records in a turn, as long as the tx ring
    /// has room.
    #[inline]
    pub(crate) fn reset_children(&mut self) {
        if self.listeners.has_closing() {
            self.reset_some_children();
        }
    }

    #[cold]
    fn reset_some_children(&mut self) {
        let mut looks = 0;
        while looks < budget::RESETS && self.listeners.has_closing() && self.egress.has_room() {
            looks += 1;
            let slot = self.listeners.next_of(self.half_open.slots());
            if self.half_open.place(slot).is_none_or(|place| !self.listeners.is_closed(place.listener)) {
                continue;
            }
            self.reset_half_open(slot);
        }
        self.counters.note_work(Work::Resets, looks);
    }
}
