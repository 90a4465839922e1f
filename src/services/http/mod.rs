//! A small HTTP/1.1 server (RFC 9110, RFC 9112): what browsers and load generators want to talk to.
//!
//! | path | methods | answer |
//! | --- | --- | --- |
//! | `/` | GET, HEAD | the status of the engine, as text; as HTML for whom `Accept` says so |
//! | `/bytes/N` | GET, HEAD | N octets: the pattern of chargen, from static memory |
//! | `/echo` | POST, PUT | the body, as it comes; sized or chunked as it came |
//! | `/favicon.ico` | GET, HEAD | nothing (204) |
//!
//! A body for `/echo` that says its size may be sent wholly before any of the answer is read, up to 16 MiB. A larger one
//! is refused (413), and so is one for which there is no memory now (503), before it is sent if the client asks
//! (`Expect: 100-continue`). Chunks go back as they come, however many: their sender has to read meanwhile.
//!
//! Connections are kept, requests may be pipelined, `Expect: 100-continue` is answered. A head is read where it lies
//! unless it came in pieces; bodies are never collected. When the engine drains, connections are closed behind their
//! present answer.
//!
//! `request` reads heads, `chunked` bodies, `bodies` finds their place on the way back, `response` writes heads, `page`
//! is the status page, `client` is one connection; this file joins them to the shard and keeps the time.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use self::client::Client;
use self::response::Site;
use super::{KEEPALIVE, WallClock};
use crate::shard::crowd::less_room;
use crate::shard::{ConnId, Io, Service, budget};
use crate::tcp::time::{Duration, Instant};
use crate::tcp::{CloseReason, KeepAlive};

mod bodies;
mod chunked;
mod client;
#[cfg(test)]
mod echo_tests;
mod page;
mod request;
mod response;
#[cfg(test)]
mod tests;

/// How often a connection's deadline is looked at. A deadline is late by this at most.
const WATCH: Duration = Duration::from_secs(5);
/// Octets of incomplete heads that a shard keeps. Above it the head that began first gives way: it has had the longest time
/// to be complete, and one that a client writes in a few pieces is complete within a round trip or two.
const HEADS_MAX: usize = 16 << 20;
/// Least time between two looks.
const TICK: Duration = Duration::from_millis(500);

type Clients = hashbrown::HashMap<ConnId, Client, foldhash::fast::RandomState>;

/// The HTTP service of one shard.
pub struct Http {
    site: Site,
    clients: Clients,
    /// When to look at which connection, in that order: each is in here once, also those that are gone.
    watch: VecDeque<(Instant, ConnId)>,
    /// A timer is set.
    ticking: bool,
    /// Connections whose heads came in pieces and are not complete, in the order in which they began.
    in_head: BTreeMap<u64, ConnId>,
    /// Heads that came in pieces, all in all.
    turns: u64,
    heads_max: usize,
    /// The engine drains, and of the connections in `watch` so many have not been looked at for that.
    to_end: usize,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("clients", &self.clients).finish_non_exhaustive()
    }
}

impl Http {
    /// A service that dates its answers by `clock`; its uptime begins now.
    #[must_use]
    pub fn new(clock: WallClock) -> Self {
        Self {
            site: Site::new(clock),
            clients: Clients::default(),
            watch: VecDeque::new(),
            ticking: false,
            in_head: BTreeMap::new(),
            turns: 0,
            heads_max: HEADS_MAX,
            to_end: 0,
        }
    }

    /// Ends some of the connections that wait for a next request.
    fn end_idle(&mut self, io: &mut dyn Io) {
        for _ in 0..budget::LOOKS.min(self.to_end) {
            self.to_end -= 1;
            if let Some(&(_, conn)) = self.watch.get(self.to_end) {
                self.drive(io, conn);
            }
        }
    }

    fn drive(&mut self, io: &mut dyn Io, conn: ConnId) {
        self.site.open = self.clients.len();
        if let Some(client) = self.clients.get_mut(&conn) {
            client.drive(&mut self.site, io, conn);
            match client.turn {
                None if client.is_in_head() => {
                    client.turn = Some(self.turns);
                    self.in_head.insert(self.turns, conn);
                    self.turns += 1;
                }
                Some(turn) if !client.is_in_head() => {
                    client.turn = None;
                    self.in_head.remove(&turn);
                }
                _ => {}
            }
        }
        while self.site.heads > self.heads_max
            && let Some((_, conn)) = self.in_head.pop_first()
        {
            if let Some(client) = self.clients.get_mut(&conn) {
                client.turn = None;
                client.forget_head(&mut self.site);
            }
            io.give_way(conn);
        }
    }

    fn tick_at(&mut self, io: &mut dyn Io, at: Instant) {
        self.ticking = true;
        io.set_timer(at, 0);
    }
}

impl Service for Http {
    fn keepalive(&self) -> Option<KeepAlive> {
        Some(KEEPALIVE)
    }

    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        self.site.accepted += 1;
        self.clients.insert(conn, Client::new(io.now()));
        let at = io.now().saturating_add(WATCH);
        self.watch.push_back((at, conn));
        if !self.ticking {
            self.tick_at(io, at);
        }
    }

    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        self.drive(io, conn);
    }

    fn writable(&mut self, io: &mut dyn Io, conn: ConnId) {
        self.drive(io, conn);
    }

    fn closed(&mut self, _io: &mut dyn Io, conn: ConnId, _reason: CloseReason) {
        if let Some(mut client) = self.clients.remove(&conn) {
            client.leave(&mut self.site);
            if let Some(turn) = client.turn {
                self.in_head.remove(&turn);
            }
            if let Some(room) = less_room(self.clients.len(), self.clients.capacity()) {
                self.clients.shrink_to(room);
            }
        }
    }

    fn draining(&mut self, io: &mut dyn Io) -> bool {
        if !std::mem::replace(&mut self.site.draining, true) {
            self.to_end = self.watch.len();
        }
        self.end_idle(io);
        self.to_end > 0
    }

    fn timer(&mut self, io: &mut dyn Io, _token: u64) {
        self.ticking = false;
        let now = io.now();
        let mut looks = 0;
        while let Some(&(at, conn)) = self.watch.front() {
            if at > now {
                break;
            }
            looks += 1;
            if looks > budget::LOOKS {
                return self.tick_at(io, now);
            }
            self.watch.pop_front();
            let to_end = self.to_end > 0;
            self.to_end -= usize::from(to_end);
            let Some(client) = self.clients.get_mut(&conn) else { continue };
            self.watch.push_back((now.saturating_add(WATCH), conn));
            client.check_deadline(&mut self.site, io, conn);
            if to_end {
                self.drive(io, conn);
            }
        }
        if let Some(room) = less_room(self.watch.len(), self.watch.capacity()) {
            self.watch.shrink_to(room);
        }
        if let Some(&(at, _)) = self.watch.front() {
            self.tick_at(io, at.max(now.saturating_add(TICK)));
        }
    }
}
