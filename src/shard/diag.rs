//! What observers see of a shard: all that has ports, in slices. Named after Linux' inet_diag, which `ss` asks.
//!
//! A walk over everything is many calls with a [`Cursor`] that the caller keeps: the shard remembers nothing of it, and
//! between two calls it runs its turns. What opens or ends meanwhile may be seen or not; nothing is seen twice, and all
//! that is there from beginning to end is seen.
//!
//! Must not contain: anything that a segment pays for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Shard;
use super::budget::{self, Work};
use super::conn::Phase;
use super::service::{ConnId, Io};
use super::state::ShardState;
use crate::flow::{Endpoint, Quad};
use crate::tcp::{Info, State};

/// What a shard keeps of something that has ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// A listener, or the port of a service. Each shard has the same.
    #[default]
    Listeners,
    /// A connection: one that we open, or any that is established.
    Connections,
    /// A connection in SYN-RECEIVED that a peer opens.
    HalfOpen,
    /// A record in TIME-WAIT.
    TimeWait,
}

/// Names an [`Entry`] on its shard for as long as it is there, and nothing afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntryId {
    /// Where it stands.
    pub table: Table,
    /// Its place and generation there.
    pub id: ConnId,
}

/// Where a walk goes on; the default is its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    table: Table,
    slot: u32,
}

/// Something with ports, as observers see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name.
    pub id: EntryId,
    /// Both ends; of a listener the other one is unspecified, with port 0.
    pub quad: Quad,
    /// Its state; `None`: it listens.
    pub state: Option<State>,
    /// Index of its service; of the records of TIME-WAIT that is not known any more.
    pub service: Option<u16>,
    /// Its service or application has closed it.
    pub detached: bool,
    /// Octets received and not read. Of a listener: connections that wait to be accepted.
    pub receive_queue: u32,
    /// Octets queued and not acknowledged. Of a listener: how many may wait to be accepted.
    pub send_queue: u32,
    /// The largest IP packet that the path carries, as far as is known, octets: that of our device at first.
    pub mtu: u16,
    /// Counters and estimates, from the moment it is established; last times are relative to `now`.
    pub info: Option<Info>,
    /// The shard's time of this look.
    pub now: crate::tcp::Instant,
}

/// What became of a [`Shard::reset`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// It has ended.
    Done,
    /// There is no such thing any more, or it is a listener.
    Absent,
    /// It is as before: there is no room for the RST until the device has taken what waits. Ask again.
    NoRoom,
}

impl Cursor {
    /// The first place of the next table; `None`: there is none.
    fn next_table(self) -> Option<Self> {
        let table = match self.table {
            Table::Listeners => Table::Connections,
            Table::Connections => Table::HalfOpen,
            Table::HalfOpen => Table::TimeWait,
            Table::TimeWait => return None,
        };
        Some(Self { table, slot: 0 })
    }
}

impl Shard {
    /// Goes on with a walk: adds the next entries to `entries`, [`budget::ENTRIES`] at most, and returns where the next
    /// call goes on; `None`: that was all.
    pub fn diag(&mut self, from: Cursor, entries: &mut Vec<Entry>) -> Option<Cursor> {
        let (mut cursor, first) = (Some(from), entries.len());
        let (mut looks, mut found) = (budget::PLACES_SHOWN, 0);
        while let Some(mut at) = cursor {
            if at.slot >= self.state.diag_slots(at.table) {
                cursor = at.next_table();
                continue;
            }
            if looks == 0 || found == budget::ENTRIES {
                break;
            }
            if let Some(entry) = self.state.diag_entry(at) {
                entries.push(entry);
                found += 1;
            }
            looks -= 1;
            at.slot += 1;
            cursor = Some(at);
        }
        debug_assert!(entries.len() - first <= budget::ENTRIES);
        self.state.counters.note_work(Work::Entries, found);
        cursor
    }

    /// Ends what has that name: a connection with a RST, as its application's abort would, whose service or application
    /// hears that it was aborted; a half-open one likewise; a record in TIME-WAIT without a word.
    pub fn reset(&mut self, entry: EntryId) -> Reset {
        let EntryId { table, id } = entry;
        // What has come for it is told before its end.
        self.end_run();
        let state = &mut self.state;
        let there = match table {
            Table::Listeners => false,
            Table::Connections => state.conns.get(id).is_some_and(|conn| !matches!(conn.phase, Phase::Drained(..))),
            Table::HalfOpen => state.half_open.key(id.slot) == Some(id),
            Table::TimeWait => {
                let waited = state.time_wait.take_named(id);
                if let Some((quad, _)) = &waited {
                    state.waited(quad);
                }
                return if waited.is_some() { Reset::Done } else { Reset::Absent };
            }
        };
        if !there {
            return Reset::Absent;
        }
        if !state.egress.has_room_for_data() {
            return Reset::NoRoom;
        }
        if table == Table::Connections {
            Io::abort(state, id);
        } else {
            state.reset_half_open(id.slot);
        }
        self.deliver_events();
        Reset::Done
    }
}

impl ShardState {
    /// Every slot of the table is below this.
    fn diag_slots(&self, table: Table) -> u32 {
        match table {
            Table::Listeners => self.listeners.slots(),
            Table::Connections => self.conns.slots() as u32,
            Table::HalfOpen => self.half_open.slots(),
            Table::TimeWait => self.time_wait.slots(),
        }
    }

    fn diag_entry(&self, at: Cursor) -> Option<Entry> {
        let Cursor { table, slot } = at;
        let entry = |id, quad, state, service| Entry {
            id: EntryId { table, id },
            quad,
            state,
            service,
            detached: false,
            receive_queue: 0,
            send_queue: 0,
            mtu: self.config.mtu,
            info: None,
            now: self.now,
        };
        match table {
            Table::Listeners => {
                let listening = self.listeners.listening(slot)?;
                let local = listening.local.unwrap_or_else(|| self.any(listening.port));
                let nobody = Endpoint::new(super::listeners::unspecified(local.addr), 0);
                let quad = Quad { local, remote: nobody };
                let id = ConnId { slot, generation: 0 };
                let entry = entry(id, quad, None, Some(listening.service));
                Some(Entry { receive_queue: listening.waiting, send_queue: listening.most, ..entry })
            }
            Table::Connections => {
                let (id, conn) = (self.conns.key(slot)?, self.conns.at(slot)?);
                let state = match &conn.phase {
                    Phase::Handshake(handshake) => handshake.state(),
                    Phase::Open(connection) => connection.state(),
                    // Its TIME-WAIT record stands elsewhere, or there is none.
                    Phase::Drained(..) => return None,
                };
                let info = self.info(id);
                let (receive_queue, send_queue) = info.as_ref().map_or((0, 0), |info| (info.unread, info.queued));
                let entry = entry(id, conn.quad, Some(state), Some(conn.service));
                let mtu = info.as_ref().and_then(|info| info.path_mtu).unwrap_or(entry.mtu);
                Some(Entry { detached: conn.detached, receive_queue, send_queue, mtu, info, ..entry })
            }
            Table::HalfOpen => {
                let (id, place) = (self.half_open.key(slot)?, self.half_open.place(slot)?);
                let fixed = place.listener == super::listeners::NO_LISTENER;
                let service = if fixed { Some(place.service) } else { self.listeners.service(place.listener) };
                Some(entry(id, place.quad, Some(State::SynReceived), service))
            }
            Table::TimeWait => {
                let (id, quad) = self.time_wait.named(slot)?;
                Some(entry(id, quad, Some(State::TimeWait), None))
            }
        }
    }

    /// Any of our addresses, with this port.
    fn any(&self, port: u16) -> Endpoint {
        let four = self.config.addresses.iter().any(IpAddr::is_ipv4) || self.config.addresses.is_empty();
        let addr = if four { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        Endpoint::new(addr, port)
    }
}
