//! The shard's half of all sockets: a [`Service`] that moves octets between connections and sockets' queues and does what
//! applications ask for.
//!
//! Runs on the shard's thread: no lock, no wait, and a signal only where somebody announced that he waits.

use std::collections::{HashMap, VecDeque};
use std::mem::discriminant;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::command::{Command, Mail};
use super::listening::{HalfOpen, Listening, Opening, Ready};
use super::settings::Change;
use super::socket::{Answer, Birth, Capacities, End, Key, errno_of, is, socket, want};
use crate::buffer::octets::OctetBudget;
use crate::flow::{Endpoint, Quad, ShardId};
use crate::shard::budget;
use crate::shard::slab::Slab;
use crate::shard::{ConnId, ConnectError, Io, ListenOptions, Service};
use crate::tcp::{CloseReason, Duration};

/// A socket in its shard.
#[derive(Debug)]
struct Entry {
    end: End,
    conn: ConnId,
    /// The rest of octets of the application for which the connection had no room.
    rest: Bytes,
    /// Our FIN has been queued.
    fin: bool,
    /// TCP_CORK is set.
    cork: bool,
    /// The connection holds back what the application wrote last, for the more that it has promised.
    more: bool,
    /// The application is gone: close when everything is sent.
    closing: bool,
    /// It has been counted among those that are to be waited for.
    owing: bool,
    /// Our direction ends when everything is sent.
    finishing: bool,
    /// Octets have moved since the last round.
    active: bool,
    /// It is on the list of those that may hold memory.
    warm: bool,
    /// What was set before the connection is open: as far as that counted for nothing yet, it does then.
    early: Vec<Change>,
}

/// How long a socket is idle before the memory of its queues goes, at least; twice that at most.
const IDLE: Duration = Duration::from_secs(1);

/// The timer of these rounds; other timers have a listener's tag, which is never 0.
const ROUND: u64 = 0;

/// A listener of this shard.
#[derive(Debug)]
struct Listener {
    listening: Arc<Listening>,
}

/// The service that has all sockets of one shard: it takes their commands and moves their octets.
#[derive(Debug)]
pub(crate) struct Agent {
    mail: Arc<Mail>,
    budget: Arc<OctetBudget>,
    capacities: Capacities,
    sockets: Slab<Entry>,
    /// Sockets that have moved octets and may hold memory for more.
    warm: VecDeque<Key>,
    /// How many of them have not been looked at in this round.
    round_left: usize,
    listeners: HashMap<u64, Listener>,
    /// Sockets whose applications are gone with something not handed on yet. Those that have handed on everything are
    /// closed, and the shard's own to wait for.
    owing: usize,
}

/// The user word of a connection names its socket; 0, as with a connection that is new, names none.
fn word(key: Key) -> u64 {
    (u64::from(key.slot) + 1) << 32 | u64::from(key.generation)
}

fn key(word: u64) -> Key {
    Key { slot: ((word >> 32) as u32).wrapping_sub(1), generation: word as u32 }
}

impl Agent {
    pub(crate) fn new(mail: Arc<Mail>, budget: Arc<OctetBudget>, capacities: Capacities) -> Self {
        Self {
            mail,
            budget,
            capacities,
            sockets: Slab::new(),
            warm: VecDeque::new(),
            round_left: 0,
            listeners: HashMap::new(),
            owing: 0,
        }
    }

    fn obey(&mut self, io: &mut dyn Io, command: Command) {
        match command {
            Command::Ring(key) => self.heed(io, key),
            Command::Connect(birth) => self.connect(io, *birth),
            Command::Listen(opening) => self.listen(io, *opening),
            Command::Unlisten { local, tag, done } => {
                if let Some(listener) = self.listeners.remove(&tag) {
                    io.unlisten(local);
                    listener.listening.notify();
                    // What nobody accepted is dropped with the queue: the handles ring, and we abort.
                }
                let _ = done.send(());
            }
            Command::ListenTtl { local, tag, ttl } => {
                if let Some(Listener { listening, .. }) = self.listeners.get(&tag) {
                    io.set_listen_options(local, &ListenOptions { ttl: Some(ttl), ..listening.options });
                }
            }
            Command::Remind { tag, at } => io.set_timer(at - io.absent(), tag),
            Command::Inquire(key, reply) => {
                let _ = reply.send(self.answer(io, key));
            }
        }
    }

    fn listen(&mut self, io: &mut dyn Io, opening: Opening) {
        let Opening { listening, done } = opening;
        let local = Endpoint::from(listening.local);
        let result = io.listen(local, listening.backlog.max(1) as u32, listening.tag);
        if result.is_ok() {
            io.set_accept_queue(local, Arc::clone(&listening.places));
            io.set_listen_options(local, &listening.options);
            self.listeners.insert(listening.tag, Listener { listening });
        }
        let _ = done.send(result);
    }

    fn connect(&mut self, io: &mut dyn Io, birth: Birth) {
        let Birth { end, remote, mut options } = birth;
        // The SYN heeds what has been set meanwhile.
        let mut early = Vec::new();
        while let Some(change) = end.socket.next_change() {
            change.join(&mut options);
            early.push(change);
        }
        match io.connect(remote, &options) {
            Ok(conn) => {
                let _ = end.socket.local.set(SocketAddr::from(io.quad(conn).local));
                end.socket.notify_writers();
                self.take_in(io, end, conn, early);
            }
            Err(error) => end.socket.close(match error {
                ConnectError::AddressInUse => libc::EADDRINUSE,
                ConnectError::NotOurAddress | ConnectError::NoPort => libc::EADDRNOTAVAIL,
                ConnectError::NoRoute | ConnectError::NoAddress => libc::ENETUNREACH,
                _ => libc::ENOBUFS,
            }),
        }
    }

    fn take_in(&mut self, io: &mut dyn Io, end: End, conn: ConnId, changes: Vec<Change>) {
        let key = self.sockets.insert_with(|key| {
            end.socket.adopt(key);
            let mut entry = Entry {
                end,
                conn,
                rest: Bytes::new(),
                fin: false,
                cork: false,
                more: false,
                closing: false,
                owing: false,
                finishing: false,
                active: false,
                warm: false,
                early: Vec::new(),
            };
            changes.into_iter().for_each(|change| entry.hear(io, change));
            entry
        });
        io.set_user(conn, word(key));
        // What the application asked for meanwhile.
        self.heed(io, key);
    }

    /// Does what a socket's bell asks for.
    fn heed(&mut self, io: &mut dyn Io, key: Key) {
        let Some(entry) = self.sockets.get_mut(key) else { return };
        let wants = entry.end.socket.wants();
        while let Some(change) = entry.end.socket.next_change() {
            entry.hear(io, change);
        }
        if wants & want::ABORT != 0 {
            io.abort(entry.conn);
            return;
        }
        if wants & want::SHOW != 0 {
            entry.show(io);
        } else if wants & want::ROOM != 0 {
            entry.receive(io);
        }
        entry.closing |= wants & want::CLOSE != 0;
        entry.finishing |= wants & want::SHUT_WRITE != 0;
        if wants & (want::SEND | want::SHUT_WRITE | want::CLOSE) != 0 {
            entry.send(io);
            entry.note_owing(io, &mut self.owing);
        }
        if entry.is_newly_warm() {
            self.warm_up(io, key);
        }
    }

    /// A socket has moved its first octets for a while.
    #[cold]
    fn warm_up(&mut self, io: &mut dyn Io, key: Key) {
        if self.warm.is_empty() {
            io.set_timer(io.now() + IDLE, ROUND);
        }
        self.warm.push_back(key);
    }

    /// Takes the memory of sockets that have been idle for a round.
    fn cool(&mut self, io: &mut dyn Io) {
        if self.round_left == 0 {
            self.round_left = self.warm.len();
        }
        for _ in 0..self.round_left.min(budget::LOOKS) {
            self.round_left -= 1;
            let Some(key) = self.warm.pop_front() else { break };
            let Some(entry) = self.sockets.get_mut(key) else { continue };
            if std::mem::take(&mut entry.active) {
                self.warm.push_back(key);
            } else {
                entry.warm = false;
                entry.end.trim();
            }
        }
        if !self.warm.is_empty() {
            let pause = if self.round_left > 0 { Duration::from_millis(1) } else { IDLE };
            io.set_timer(io.now() + pause, ROUND);
        }
    }

    fn answer(&self, io: &dyn Io, key: Key) -> Answer {
        self.sockets.get(key).map_or_else(Answer::default, |entry| {
            let rest = entry.rest.len() as u32;
            Answer {
                info: io.info(entry.conn),
                unacknowledged: io.unsent(entry.conn) + rest,
                unread: io.unread(entry.conn),
                not_sent: io.not_sent(entry.conn) + rest,
            }
        })
    }

    fn of(&mut self, io: &dyn Io, conn: ConnId) -> Option<&mut Entry> {
        self.sockets.get_mut(key(io.user(conn)))
    }
}

impl Entry {
    /// Whether it has to be put on the list of those that may hold memory.
    fn is_newly_warm(&mut self) -> bool {
        self.active && !std::mem::replace(&mut self.warm, true)
    }

    /// Counts it among those whose application is gone and that have not handed on everything, or no longer.
    fn note_owing(&mut self, io: &mut dyn Io, owing: &mut usize) {
        let owes = self.closing && (!self.rest.is_empty() || !self.end.outgoing.is_empty());
        if owes {
            // A peer that takes nothing must not keep it for ever.
            io.leave(self.conn);
        }
        match (std::mem::replace(&mut self.owing, owes), owes) {
            (false, true) => *owing += 1,
            (true, false) => *owing -= 1,
            _ => {}
        }
    }

    /// An option was set.
    fn hear(&mut self, io: &mut dyn Io, change: Change) {
        self.apply(io, change);
        if self.end.socket.state() & is::CONNECTED == 0 {
            let kind = discriminant(&change);
            self.early.retain(|before| discriminant(before) != kind);
            self.early.push(change);
        }
    }

    /// What has been set so far, and cannot have counted for a handshake, does now.
    fn catch_up(&mut self, io: &mut dyn Io) {
        for change in std::mem::take(&mut self.early) {
            self.apply(io, change);
        }
        while let Some(change) = self.end.socket.next_change() {
            self.apply(io, change);
        }
    }

    fn apply(&mut self, io: &mut dyn Io, change: Change) {
        let conn = self.conn;
        match change {
            Change::NoDelay(on) => io.set_nodelay(conn, on),
            Change::Cork(on) => {
                self.cork = on;
                io.set_cork(conn, on || self.more);
            }
            Change::QuickAck(on) => io.set_quickack(conn, on),
            Change::KeepAlive(keepalive) => io.set_keepalive(conn, keepalive),
            Change::UserTimeout(limit) => io.set_user_timeout(conn, limit),
            Change::Congestion(kind) => io.set_congestion(conn, kind),
            Change::SendBuffer(octets) => {
                io.set_send_buffer(conn, octets);
                self.look_for_writers(io);
            }
            Change::ReceiveBuffer(octets) => {
                self.end.incoming.set_capacity(octets as usize);
                self.end.socket.set_receive_capacity(octets as usize);
                io.set_receive_buffer(conn, octets);
            }
            Change::NotSentLowWater(octets) => {
                io.set_notsent_lowat(conn, octets);
                self.look_for_writers(io);
            }
            Change::Ttl(ttl) => io.set_ttl(conn, ttl),
            Change::Tos(tos) => io.set_tos(conn, tos),
        }
    }

    /// From the connection into the socket.
    fn receive(&mut self, io: &mut dyn Io) {
        let mut moved = false;
        loop {
            let run = io.peek(self.conn);
            if run.is_empty() {
                self.end.socket.caught_up();
                break;
            }
            let octets = self.end.incoming.write(run);
            if octets > 0 {
                io.consume(self.conn, octets as u32);
                moved = true;
                continue;
            }
            self.end.socket.choke();
            // The application may have read between our look and the announcement.
            if self.end.incoming.room() == 0 {
                break;
            }
        }
        self.active |= moved;
        if io.at_eof(self.conn) && self.end.socket.state() & is::ENDED == 0 {
            self.end.socket.set(is::ENDED);
        } else if moved {
            self.end.socket.notify_readers();
        }
    }

    /// The same beyond the capacity of the socket's queue, for a peek that would see it: as much as Linux would keep in one
    /// buffer, and the queue beside it.
    fn show(&mut self, io: &mut dyn Io) {
        let (asked, octets) = self.end.socket.look();
        let capacity = self.end.incoming.capacity();
        let most = capacity.saturating_add(io.info(self.conn).map_or(0, |info| info.receive_buffer as usize));
        self.end.incoming.set_capacity(octets.clamp(capacity, most));
        self.receive(io);
        self.end.incoming.set_capacity(capacity);
        self.end.socket.shown(asked);
    }

    /// There may be room for writers that nothing else has made.
    fn look_for_writers(&mut self, io: &mut dyn Io) {
        let not_sent = if self.end.socket.limits_unsent() {
            let not_sent = io.not_sent(self.conn) as usize + self.rest.len();
            self.end.socket.set_sent(self.end.outgoing.taken(), not_sent);
            not_sent
        } else {
            0
        };
        let waits_on = self.end.socket.freed_room(&self.end.outgoing, not_sent);
        if waits_on && self.end.socket.limits_unsent() {
            // Octets that are sent make room, whether or not the connection had too little.
            io.await_room(self.conn);
        }
    }

    /// From the socket into the connection.
    fn send(&mut self, io: &mut dyn Io) {
        let more = self.end.socket.state() & is::MORE != 0;
        if more && !self.more {
            self.more = true;
            io.set_cork(self.conn, true);
        }
        let mut moved = false;
        loop {
            // What the application wrote as octets of its own is handed on as such.
            let mut bytes = std::mem::take(&mut self.rest);
            if bytes.is_empty()
                && let Some(next) = self.end.outgoing.take_bytes(io.send_room(self.conn) as usize)
            {
                moved = true;
                bytes = next;
            }
            if !bytes.is_empty() {
                match io.send_bytes(self.conn, bytes) {
                    Ok(()) => continue,
                    Err(rest) => self.rest = rest,
                }
                break;
            }
            let run = self.end.outgoing.peek();
            if run.is_empty() {
                break;
            }
            let len = run.len();
            let octets = io.send(self.conn, run);
            if octets > 0 {
                self.end.outgoing.consume(octets);
                moved = true;
            }
            if octets < len {
                break;
            }
        }
        if self.more && !more {
            self.more = false;
            io.set_cork(self.conn, self.cork);
        }
        if self.rest.is_empty() && self.end.outgoing.is_empty() {
            if self.closing {
                io.close(self.conn);
                return;
            }
            if self.finishing && !self.fin {
                self.fin = true;
                io.shutdown(self.conn);
            }
        }
        self.active |= moved;
        if moved || self.end.socket.limits_unsent() {
            self.look_for_writers(io);
        }
    }
}

impl Service for Agent {
    /// They are the applications'.
    fn keeps_idle(&self) -> bool {
        true
    }

    fn wants_mail(&self) -> bool {
        true
    }

    fn has_mail(&self) -> bool {
        !self.mail.is_empty()
    }

    fn mail(&mut self, io: &mut dyn Io) {
        if let Some(command) = self.mail.next() {
            self.obey(io, command);
        }
    }

    fn draining(&mut self, io: &mut dyn Io) -> bool {
        for (_, Listener { listening }) in self.listeners.drain() {
            io.unlisten(Endpoint::from(listening.local));
            listening.stop();
        }
        self.owing > 0
    }

    fn half_open(&mut self, io: &mut dyn Io, ticket: u64, quad: Quad, tag: u64) {
        if let Some(Listener { listening, .. }) = self.listeners.get(&tag) {
            let news = HalfOpen { ticket, from: quad.remote.addr, at: io.now() + io.absent() };
            listening.half_open[io.shard().index()].push(news);
        }
    }

    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        if let Some(entry) = self.sockets.get_mut(key(io.user(conn))) {
            entry.catch_up(io);
            entry.end.socket.set(is::CONNECTED);
            entry.send(io);
            entry.note_owing(io, &mut self.owing);
            if entry.is_newly_warm() {
                let key = key(io.user(conn));
                self.warm_up(io, key);
            }
            return;
        }
        let Some(Listener { listening }) = self.listeners.get(&io.tag(conn)) else { return io.abort(conn) };
        let listening = Arc::clone(listening);
        let quad = io.quad(conn);
        let remote = SocketAddr::from(quad.remote);
        let initial = listening.initial.with_ttl(listening.ttl.load(Ordering::Relaxed));
        let (handle, end) = socket(self.mail.clone(), remote, self.capacities, &self.budget, &initial);
        let _ = end.socket.local.set(SocketAddr::from(quad.local));
        end.socket.set(is::CONNECTED);
        self.take_in(io, end, conn, initial.changes().collect());
        // Counted before it can be taken.
        listening.queued.fetch_add(1, Ordering::AcqRel);
        listening.ready.push(Ready { ticket: io.ticket(conn), from: quad.remote.addr, handle });
        listening.notify();
    }

    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        let key = key(io.user(conn));
        let Some(entry) = self.sockets.get_mut(key) else { return };
        if entry.closing && io.unread(conn) > 0 {
            // What is still to be sent is for a peer that talks to nobody: as on Linux it learns so.
            return io.abort(conn);
        }
        entry.receive(io);
        if entry.is_newly_warm() {
            self.warm_up(io, key);
        }
    }

    fn writable(&mut self, io: &mut dyn Io, conn: ConnId) {
        let key = key(io.user(conn));
        if let Some(entry) = self.sockets.get_mut(key) {
            entry.send(io);
            entry.note_owing(io, &mut self.owing);
            if entry.is_newly_warm() {
                self.warm_up(io, key);
            }
        }
    }

    fn finished(&mut self, io: &mut dyn Io, conn: ConnId) {
        if let Some(entry) = self.of(io, conn) {
            entry.end.socket.finished();
        }
    }

    fn closed(&mut self, io: &mut dyn Io, conn: ConnId, reason: CloseReason) {
        if let Some(mut entry) = self.sockets.remove(key(io.user(conn))) {
            self.owing -= usize::from(entry.owing);
            if !entry.closing {
                // As on Linux, what was received before a reset can still be read.
                entry.end.incoming.set_capacity(usize::MAX);
                entry.receive(io);
                if let Some(info) = io.info(conn) {
                    entry.end.socket.keep_info(info);
                }
            }
            let socket = &entry.end.socket;
            socket.close(errno_of(reason, socket.state()));
        }
    }

    fn timer(&mut self, io: &mut dyn Io, token: u64) {
        if token == ROUND {
            self.cool(io);
        } else if let Some(listener) = self.listeners.get(&token) {
            listener.listening.notify();
        }
    }

    fn message(&mut self, _io: &mut dyn Io, _from: ShardId, _message: crate::shard::Message) {}
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.mail.close();
        for listener in self.listeners.values() {
            listener.listening.stop();
        }
        // The sockets' ends say by themselves that they are gone.
    }
}
