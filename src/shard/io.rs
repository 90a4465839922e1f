//! What a service may do to its connections and its shard: [`Io`], over [`ShardState`].
//!
//! Must not contain: what the shard does of its own accord.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;

use super::conn::{Conn, Event, Phase, Sides};
use super::eviction::pool_of;
use super::log;
use super::opening::{AcceptQueue, ConnectError, ConnectOptions, ListenError, ListenOptions};
use super::send_store::most_taken;
use super::service::{ConnId, Io, Message};
use super::state::{ShardState, note};
use crate::flow::{Endpoint, Quad, ShardId};
use crate::tcp::{self, CloseReason, CongestionControl, Duration, Info, Instant, KeepAlive};

impl Io for ShardState {
    fn now(&self) -> Instant {
        self.now
    }

    fn absent(&self) -> Duration {
        self.absent
    }

    fn shard(&self) -> ShardId {
        self.config.id
    }

    fn shards(&self) -> u16 {
        self.config.shards
    }

    fn quad(&self, id: ConnId) -> Quad {
        let none = Endpoint { addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port: 0 };
        self.conns.get(id).map_or(Quad { local: none, remote: none }, |conn| conn.quad)
    }

    fn ticket(&self, id: ConnId) -> u64 {
        self.conns.get(id).map_or(0, |conn| conn.ticket)
    }

    fn user(&self, id: ConnId) -> u64 {
        self.conns.get(id).map_or(0, |conn| conn.user)
    }

    fn set_user(&mut self, id: ConnId, user: u64) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.user = user;
        }
    }

    fn peek(&self, id: ConnId) -> &[u8] {
        self.conns.get(id).map_or(&[], |conn| conn.receive.peek())
    }

    fn unread(&self, id: ConnId) -> u32 {
        self.conns.get(id).map_or(0, |conn| conn.receive.unread())
    }

    fn consume(&mut self, id: ConnId, octets: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let consumed = conn.receive.consume(&mut self.holdings, octets);
        let unread = conn.receive.unread();
        match &mut conn.phase {
            Phase::Open(connection) => connection.on_recv(&self.config.tcp, consumed, self.now),
            Phase::Drained(reason, _) if unread == 0 && consumed > 0 => {
                self.events.push_back(Event::Closed(id, *reason));
                return;
            }
            Phase::Handshake(_) | Phase::Drained(..) => {}
        }
        if consumed > 0 {
            note(&mut self.touched, id, conn);
        }
    }

    fn at_eof(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.ended.contains(Sides::PEER) && conn.receive.unread() == 0)
    }

    fn send(&mut self, id: ConnId, bytes: &[u8]) -> usize {
        let Some((room, allowance)) = self.send_limits(id, bytes.len()) else { return 0 };
        let Some(conn) = self.conns.get_mut(id) else { return 0 };
        let octets = conn.send.append(&mut self.memory, &bytes[..bytes.len().min(room as usize)], allowance);
        self.sent(id, octets as u32, bytes.len(), room)
    }

    fn send_static(&mut self, id: ConnId, bytes: &'static [u8]) -> usize {
        let Some((room, allowance)) = self.send_limits(id, bytes.len()) else { return 0 };
        let Some(conn) = self.conns.get_mut(id) else { return 0 };
        let octets = conn.send.append_static(&mut self.memory, &bytes[..bytes.len().min(room as usize)], allowance);
        self.sent(id, octets as u32, bytes.len(), room)
    }

    fn send_bytes(&mut self, id: ConnId, mut bytes: Bytes) -> Result<(), Bytes> {
        let wanted = bytes.len();
        let Some((room, allowance)) = self.send_limits(id, wanted) else { return Err(bytes) };
        let Some(conn) = self.conns.get_mut(id) else { return Err(bytes) };
        conn.send.append_bytes(&mut self.memory, &mut bytes, room, allowance);
        self.sent(id, (wanted - bytes.len()) as u32, wanted, room);
        if bytes.is_empty() { Ok(()) } else { Err(bytes) }
    }

    fn send_room(&self, id: ConnId) -> u32 {
        let Some(conn) = self.conns.get(id).filter(|conn| !conn.detached) else { return 0 };
        let Phase::Open(connection) = &conn.phase else { return 0 };
        let room = connection.send_room(&self.config.tcp);
        room.min(conn.send.room_within(self.send_allowance(id)))
    }

    fn await_room(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.wants_room = true;
        }
    }

    fn unsent(&self, id: ConnId) -> u32 {
        self.conns.get(id).map_or(0, |conn| conn.send.len())
    }

    fn forward(&mut self, from: ConnId, to: ConnId) -> usize {
        let mut total = 0;
        if from == to {
            let (moved, all) = self.turn_round(to);
            if all {
                return moved;
            }
            total = moved;
        }
        loop {
            let wanted = self.peek(from).len();
            if wanted == 0 {
                break;
            }
            let Some((room, allowance)) = self.send_limits(to, wanted) else { break };
            let Self { conns, memory, holdings, .. } = self;
            // Octets go straight from one store into the other.
            let (receive, send) = if from == to {
                let Some(conn) = conns.get_mut(to) else { break };
                (&mut conn.receive, &mut conn.send)
            } else {
                let Some((source, conn)) = conns.pair_mut(from, to) else { break };
                (&mut source.receive, &mut conn.send)
            };
            let octets = send.append(memory, &receive.peek()[..wanted.min(room as usize)], allowance);
            receive.consume(holdings, octets as u32);
            self.sent(to, octets as u32, wanted, room);
            self.forwarded(from, octets as u32);
            total += octets;
            if octets < wanted {
                break;
            }
        }
        total
    }

    fn shutdown(&mut self, id: ConnId) {
        if let Some(Conn { phase: Phase::Open(connection), passed, ended, .. }) = self.conns.get_mut(id) {
            connection.shutdown();
            self.counters.fins_queued += u64::from(ended.close_ours());
            log::pass(passed, connection.state());
            self.touch(id);
        }
    }

    fn leave(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && let Phase::Open(connection) = &mut conn.phase
            && !connection.is_left()
        {
            connection.leave();
            self.touch(id);
            self.left_alone(id);
        }
    }

    fn close(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.detached {
            return;
        }
        conn.detached = true;
        self.detached += 1;
        match &mut conn.phase {
            Phase::Open(connection) => {
                let reset = connection.close();
                log::pass(&mut conn.passed, connection.state());
                conn.receive.clear(&mut self.holdings);
                let (quad, ip) = (conn.quad, conn.ip);
                if reset.is_none() {
                    self.counters.fins_queued += u64::from(conn.ended.close_ours());
                }
                if let Some(reset) = reset {
                    self.counters.aborted_on_close += 1;
                    self.send_control(&quad, ip, &reset);
                    self.finish(id, CloseReason::Aborted);
                } else {
                    self.touch(id);
                    self.left_alone(id);
                }
            }
            Phase::Handshake(_) => self.give_up(id),
            Phase::Drained(reason, _) => {
                let reason = *reason;
                if conn.receive.unread() > 0 {
                    conn.receive.clear(&mut self.holdings);
                    self.events.push_back(Event::Closed(id, reason));
                }
            }
        }
    }

    fn abort(&mut self, id: ConnId) {
        match self.conns.get(id).map(|conn| &conn.phase) {
            Some(Phase::Open(_)) => self.reset(id, CloseReason::Aborted),
            Some(Phase::Handshake(_)) => self.give_up(id),
            Some(Phase::Drained(..)) => self.close(id),
            None => {}
        }
    }

    fn give_way(&mut self, id: ConnId) {
        if self.conns.get(id).is_some_and(|conn| !matches!(conn.phase, Phase::Drained(..))) {
            self.counters.gave_way += 1;
        }
        self.abort(id);
    }

    fn set_nodelay(&mut self, id: ConnId, nodelay: bool) {
        self.tune(id, |connection, _| connection.set_nodelay(nodelay));
    }

    fn set_cork(&mut self, id: ConnId, cork: bool) {
        self.tune(id, |connection, _| connection.set_cork(cork));
    }

    fn set_quickack(&mut self, id: ConnId, quick: bool) {
        self.tune(id, |connection, config| connection.set_quickack(config, quick));
    }

    fn set_keepalive(&mut self, id: ConnId, keepalive: Option<KeepAlive>) {
        self.tune(id, |connection, _| connection.set_keepalive(keepalive));
    }

    fn set_user_timeout(&mut self, id: ConnId, limit: Option<Duration>) {
        if let Some(Conn { phase: Phase::Handshake(handshake), .. }) = self.conns.get_mut(id) {
            handshake.set_user_timeout(limit);
            self.touch(id);
        }
        self.tune(id, |connection, _| connection.set_user_timeout(limit));
    }

    fn set_congestion(&mut self, id: ConnId, kind: CongestionControl) {
        self.tune(id, |connection, config| connection.set_congestion(config, kind));
    }

    fn set_send_buffer(&mut self, id: ConnId, octets: u32) {
        self.tune(id, |connection, _| connection.set_send_buffer(octets));
        self.look_for_room(id);
    }

    fn set_receive_buffer(&mut self, id: ConnId, octets: u32) {
        if let Some(Conn { phase: Phase::Handshake(handshake), .. }) = self.conns.get_mut(id) {
            handshake.set_receive_buffer(octets);
        }
        self.tune(id, |connection, _| connection.set_receive_buffer(octets));
    }

    fn set_notsent_lowat(&mut self, id: ConnId, octets: Option<u32>) {
        self.tune(id, |connection, _| connection.set_notsent_lowat(octets));
        self.look_for_room(id);
    }

    fn set_ttl(&mut self, id: ConnId, ttl: u8) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.ip = conn.ip.with(Some(ttl), None);
        }
    }

    fn set_tos(&mut self, id: ConnId, tos: u8) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.ip = conn.ip.with(None, Some(tos));
        }
    }

    fn urgent(&self, id: ConnId) -> u32 {
        match self.conns.get(id) {
            Some(Conn { phase: Phase::Open(connection), .. }) => connection.urgent(),
            _ => 0,
        }
    }

    fn not_sent(&self, id: ConnId) -> u32 {
        match self.conns.get(id) {
            Some(Conn { phase: Phase::Open(connection), .. }) => connection.not_sent(),
            _ => 0,
        }
    }

    fn info(&self, id: ConnId) -> Option<Info> {
        match &self.conns.get(id)?.phase {
            Phase::Open(connection) => Some(connection.info(&self.config.tcp, self.now)),
            Phase::Drained(_, info) => *info,
            Phase::Handshake(_) => None,
        }
    }

    fn set_timer(&mut self, at: Instant, token: u64) {
        self.timer_order += 1;
        self.service_timers.push(Reverse((at, self.timer_order, self.current, token)));
    }

    fn call_again(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && !std::mem::replace(&mut conn.again, true)
        {
            self.call_again.push_back(id);
        }
    }

    fn send_to(&mut self, shard: ShardId, message: Message) {
        self.outbox.push_back((shard, self.current, message));
    }

    fn owner(&self, quad: &Quad) -> ShardId {
        self.shared.owner(quad)
    }

    fn listen(&mut self, local: Endpoint, backlog: u32, tag: u64) -> Result<(), ListenError> {
        self.open_listener(local, backlog, tag)
    }

    fn unlisten(&mut self, local: Endpoint) {
        self.close_listener(local);
    }

    fn set_accepting(&mut self, local: Endpoint, accepting: bool) {
        self.listeners.set_accepting(self.current, local, accepting);
    }

    fn set_accept_queue(&mut self, local: Endpoint, queue: Arc<AcceptQueue>) {
        self.listeners.set_queue(self.current, local, queue);
    }

    fn set_listen_options(&mut self, local: Endpoint, options: &ListenOptions) {
        self.listeners.set_options(self.current, local, options);
    }

    fn tag(&self, id: ConnId) -> u64 {
        self.conns.get(id).map_or(0, |conn| self.listeners.tag(conn.listener))
    }

    fn connect(&mut self, remote: Endpoint, options: &ConnectOptions) -> Result<ConnId, ConnectError> {
        self.open(self.current, remote, options)
    }
}

impl ShardState {
    /// For how many octets a connection has room, and how many of send memory it may take for `wanted` ones. `None`:
    /// its service has closed it.
    #[inline]
    fn send_limits(&self, id: ConnId, wanted: usize) -> Option<(u32, u32)> {
        let conn = self.conns.get(id).filter(|conn| !conn.detached)?;
        let Phase::Open(connection) = &conn.phase else { return Some((0, 0)) };
        let room = connection.send_room(&self.config.tcp);
        let enough = most_taken(wanted.min(room as usize));
        let is_ample = self.send_pool().is_ample(conn.send.taken(), u64::from(enough));
        Some((room, if is_ample { enough } else { self.send_allowance(id) }))
    }

    /// [`forward`](Io::forward) of a connection to itself, whose record is looked up once, as far as memory is ample.
    /// Gives the octets, and whether those were all.
    fn turn_round(&mut self, id: ConnId) -> (usize, bool) {
        let Self { conns, memory, holdings, touched, config, .. } = self;
        let Some(conn) = conns.get_mut(id).filter(|conn| !conn.detached) else { return (0, false) };
        let Conn { phase: Phase::Open(connection), send, receive, .. } = &mut *conn else { return (0, false) };
        let mut total = 0;
        loop {
            let run = receive.peek();
            let fits = run.len().min(connection.send_room(&config.tcp) as usize);
            let enough = most_taken(fits);
            if fits == 0 || !pool_of(memory).is_ample(send.taken(), u64::from(enough)) {
                break;
            }
            let octets = send.append(memory, &run[..fits], enough) as u32;
            receive.consume(holdings, octets);
            connection.on_send(octets);
            total += octets as usize;
            if (octets as usize) < fits || receive.unread() == 0 {
                break;
            }
        }
        let all = receive.unread() == 0;
        if total > 0 {
            connection.on_recv(&config.tcp, total as u32, self.now);
            note(touched, id, conn);
            if !conn.holds {
                self.note_holder(id);
            }
        }
        (total, all)
    }

    /// Books `octets` that were put into the send store of the `wanted` ones, for which the connection had `room`.
    fn sent(&mut self, id: ConnId, octets: u32, wanted: usize, room: u32) -> usize {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.wants_room |= (octets as usize) < wanted;
            if (octets as usize) < wanted.min(room as usize) && !conn.starved {
                // The connection has room, the shard has no memory: no ACK of its own will bring this one back.
                conn.starved = true;
                self.starved.push_back(id);
            }
            if let Phase::Open(connection) = &mut conn.phase {
                connection.on_send(octets);
            }
            if octets > 0 {
                note(&mut self.touched, id, conn);
                if !conn.holds {
                    self.note_holder(id);
                }
            }
        }
        octets as usize
    }

    /// The user does not wait for a handshake any more; a peer that believes in the connection is told (SM-SR-7).
    fn give_up(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let (quad, ip) = (conn.quad, conn.ip);
        if let Phase::Handshake(handshake) = &mut conn.phase
            && let Some(reset) = handshake.abort()
        {
            self.send_control(&quad, ip, &reset);
        }
        self.finish(id, CloseReason::Aborted);
    }

    /// Changes something about an open connection; others stay as they are.
    fn tune(&mut self, id: ConnId, change: impl FnOnce(&mut tcp::Connection, &tcp::Config)) {
        if let Some(Conn { phase: Phase::Open(connection), .. }) = self.conns.get_mut(id) {
            change(connection, &self.config.tcp);
            self.touch(id);
        }
    }

    /// A limit may have been raised for which the service waits.
    fn look_for_room(&mut self, id: ConnId) {
        if self.conns.get(id).is_some_and(|conn| conn.wants_room) && self.send_room(id) > 0 {
            self.events.push_back(Event::Writable(id));
        }
    }

    /// What [`consume`](Io::consume) does after it, of `octets` that went straight into another store.
    fn forwarded(&mut self, id: ConnId, octets: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if octets > 0 {
            note(&mut self.touched, id, conn);
        }
        let unread = conn.receive.unread();
        match &mut conn.phase {
            Phase::Open(connection) => connection.on_recv(&self.config.tcp, octets, self.now),
            Phase::Drained(reason, _) if unread == 0 && octets > 0 => {
                let reason = *reason;
                self.events.push_back(Event::Closed(id, reason));
            }
            Phase::Handshake(_) | Phase::Drained(..) => {}
        }
    }
}
