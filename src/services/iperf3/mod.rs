//! A server for the stock `iperf3` client: TCP tests in both directions, several at once, streams on any shard.
//!
//! Reading order: `protocol` (values), `note` (what shards tell each other), `session` (the course of a test),
//! `stream` (one data connection), `report` (text). This file joins them to connections: it keeps the table of
//! connections, finds out what each is by its cookie, and carries octets, notes and timers between [`Io`] and the rest.
//!
//! Every connection comes to the one port and begins with a cookie. The cookie's home, a shard that follows from the
//! cookie alone, decides whether it is the first of its test (the control connection) or a data connection.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;

use self::note::{Candidate, Note};
use self::protocol::{COOKIE_LEN, Cookie, StreamResult, state};
use self::session::{Context, Session};
use self::stream::{Address, Stream};
use super::{CpuClock, KEEPALIVE};
use crate::flow::ShardId;
use crate::shard::crowd::less_room;
use crate::shard::{ConnId, Io, Message, Service, budget};
use crate::tcp::time::{Duration, Instant};
use crate::tcp::{CloseReason, KeepAlive};

mod note;
pub mod protocol;
pub mod report;
mod session;
mod stream;

/// For the cookie to arrive.
const COOKIE_TIMEOUT: Duration = Duration::from_secs(5);
/// For a connection with a cookie to be told its part. Longer than a client has to open its connections, for those wait
/// for each other; only a defect lets it run out.
const PART_TIMEOUT: Duration = Duration::from_secs(20);
/// For the client to end its side after our last octet.
const LINGER: Duration = Duration::from_secs(2);
/// Tests at once that one shard leads. When there are as many, the one that is longest overdue ([`Session::overdue_at`])
/// gives way to a new one; when all have been quick, the new one is refused with ACCESS_DENIED. A test that waits costs
/// about a kilobyte, so there are enough places for clients that show up and say no more until they are overdue.
const TESTS_MAX: usize = 4_096;

/// What a connection is.
#[derive(Debug)]
enum Part {
    /// It has not shown its cookie yet.
    Cookie {
        have: [u8; COOKIE_LEN],
        len: usize,
        deadline: Instant,
    },
    /// It has, and waits to be told its part.
    Asked {
        deadline: Instant,
    },
    Control(Box<Control>),
    Stream(Box<Stream>),
    /// Nothing is left to do but to write the rest and wait for the client's end.
    Ending {
        output: Vec<u8>,
        ended: bool,
        deadline: Instant,
    },
}

/// A control connection.
#[derive(Debug)]
struct Control {
    session: Session,
    /// When the timer goes off that matters.
    timer: Option<Instant>,
    /// From when on it has to give way, as it stands in [`Iperf3::places`].
    overdue: Instant,
}

type Parts = hashbrown::HashMap<ConnId, Part, foldhash::fast::RandomState>;

/// The iperf3 service of one shard.
pub struct Iperf3 {
    cpu: CpuClock,
    parts: Parts,
    /// The tests whose cookies have their home here, with their control connections. Bounded by the places of all shards.
    homed: HashMap<Cookie, Address>,
    /// The tests this shard leads, in the order in which they have to give way: from when on, and the connection's token.
    places: BTreeSet<(Instant, u64)>,
    tests_max: usize,
    /// Notes on their way out; those to this shard never leave.
    notes: VecDeque<(ShardId, Note)>,
    /// Control connections that are still to be told that the server stops.
    untold: VecDeque<ConnId>,
}

impl fmt::Debug for Iperf3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iperf3").field("parts", &self.parts).field("homed", &self.homed.len()).finish_non_exhaustive()
    }
}

/// Timers are told apart by the connection they are for.
fn token(conn: ConnId) -> u64 {
    u64::from(conn.slot) << 32 | u64::from(conn.generation)
}

fn conn_of(token: u64) -> ConnId {
    ConnId { slot: (token >> 32) as u32, generation: token as u32 }
}

/// The shard that keeps `cookie`.
fn home(cookie: &Cookie, shards: u16) -> ShardId {
    let mixed = cookie
        .0
        .iter()
        .fold(0u64, |mixed, &octet| (mixed ^ u64::from(octet)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23));
    ShardId((mixed % u64::from(shards.max(1))) as u16)
}

impl Iperf3 {
    /// A service that reports the processor use `cpu` tells.
    #[must_use]
    pub fn new(cpu: CpuClock) -> Self {
        Self {
            cpu,
            parts: Parts::default(),
            homed: HashMap::new(),
            places: BTreeSet::new(),
            tests_max: TESTS_MAX,
            notes: VecDeque::new(),
            untold: VecDeque::new(),
        }
    }

    /// Octets have come, the end of stream has, or a new part may want those that are there.
    fn on_readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        match self.parts.get_mut(&conn) {
            Some(Part::Stream(stream)) => stream.readable(io, conn),
            Some(Part::Cookie { .. }) => self.read_cookie(io, conn),
            Some(Part::Control(_)) => self.read_control(io, conn),
            // They belong to whatever it will be.
            Some(Part::Asked { .. }) => {}
            Some(Part::Ending { .. }) | None => io.consume(conn, io.unread(conn)),
        }
    }

    fn read_cookie(&mut self, io: &mut dyn Io, conn: ConnId) {
        let Some(Part::Cookie { have, len, .. }) = self.parts.get_mut(&conn) else { return };
        while *len < COOKIE_LEN {
            let input = io.peek(conn);
            if input.is_empty() {
                break;
            }
            let taken = input.len().min(COOKIE_LEN - *len);
            have[*len..*len + taken].copy_from_slice(&input[..taken]);
            *len += taken;
            io.consume(conn, taken as u32);
        }
        if *len == COOKIE_LEN {
            let cookie = Cookie(*have);
            let deadline = io.now().saturating_add(PART_TIMEOUT);
            self.parts.insert(conn, Part::Asked { deadline });
            io.set_timer(deadline, token(conn));
            let at = Address { shard: io.shard(), conn };
            let candidate = Candidate { at, ticket: io.ticket(conn), quad: io.quad(conn) };
            self.notes.push_back((home(&cookie, io.shards()), Note::Hello { cookie, candidate }));
        } else if io.at_eof(conn) {
            self.parts.remove(&conn);
            io.close(conn);
        }
    }

    fn read_control(&mut self, io: &mut dyn Io, conn: ConnId) {
        let Some(Part::Control(control)) = self.parts.get_mut(&conn) else { return };
        let tests = self.places.len();
        let mut context = Context { now: io.now(), cpu: &self.cpu, notes: &mut self.notes, tests };
        loop {
            let input = io.peek(conn);
            let used = if input.is_empty() { 0 } else { control.session.on_input(input, &mut context) };
            if used == 0 {
                break;
            }
            io.consume(conn, used as u32);
        }
        if io.at_eof(conn) {
            control.session.on_hang_up(&mut context);
        }
        self.settle(io, conn);
    }

    /// Lets the session on `conn` act, then carries out what it wants.
    fn with_session(
        &mut self,
        io: &mut dyn Io,
        conn: ConnId,
        act: impl FnOnce(&mut Session, &mut Context<'_>),
    ) -> bool {
        let Some(Part::Control(control)) = self.parts.get_mut(&conn) else { return false };
        let tests = self.places.len();
        act(&mut control.session, &mut Context { now: io.now(), cpu: &self.cpu, notes: &mut self.notes, tests });
        // Input may have had to wait for just this.
        self.read_control(io, conn);
        true
    }

    /// Writes what the session has to say, sets its timer, and clears up after its end.
    fn settle(&mut self, io: &mut dyn Io, conn: ConnId) {
        let Some(Part::Control(control)) = self.parts.get_mut(&conn) else { return };
        let session = &mut control.session;
        flush(io, conn, session.output());
        let overdue = session.overdue_at();
        if overdue != control.overdue {
            self.places.remove(&(control.overdue, token(conn)));
            self.places.insert((overdue, token(conn)));
            control.overdue = overdue;
        }
        if !session.is_over() {
            let next = session.next_time();
            if control.timer.is_none_or(|timer| next < timer) {
                control.timer = Some(next);
                io.set_timer(next, token(conn));
            }
            return;
        }
        let output = std::mem::take(session.output());
        self.release(io, conn);
        self.end_with(io, conn, output);
    }

    /// The test on `conn` is over, or has to go: its place and its cookie are free.
    fn release(&mut self, io: &dyn Io, conn: ConnId) {
        let Some(Part::Control(control)) = self.parts.remove(&conn) else { return };
        self.places.remove(&(control.overdue, token(conn)));
        let (cookie, session) = (control.session.cookie(), Address { shard: io.shard(), conn });
        self.notes.push_back((home(&cookie, io.shards()), Note::Release { cookie, session }));
    }

    /// Whether there is a place for one more test, perhaps that of one that is overdue.
    fn find_place(&mut self, io: &mut dyn Io) -> bool {
        if self.places.len() < self.tests_max {
            return true;
        }
        let Some(&(_, token)) = self.places.first().filter(|(overdue, _)| *overdue <= io.now()) else { return false };
        let conn = conn_of(token);
        if let Some(Part::Control(control)) = self.parts.get_mut(&conn) {
            let tests = self.places.len();
            let mut context = Context { now: io.now(), cpu: &self.cpu, notes: &mut self.notes, tests };
            control.session.on_hang_up(&mut context);
        }
        self.release(io, conn);
        io.give_way(conn);
        true
    }

    /// Makes `conn` one that only has `output` left to write.
    fn end_with(&mut self, io: &mut dyn Io, conn: ConnId, output: Vec<u8>) {
        let deadline = io.now().saturating_add(LINGER);
        io.set_timer(deadline, token(conn));
        self.parts.insert(conn, Part::Ending { output, ended: false, deadline });
        self.go_on_ending(io, conn);
    }

    fn go_on_ending(&mut self, io: &mut dyn Io, conn: ConnId) {
        let Some(Part::Ending { output, ended, .. }) = self.parts.get_mut(&conn) else { return };
        io.consume(conn, io.unread(conn));
        flush(io, conn, output);
        if output.is_empty() && !*ended {
            *ended = true;
            io.shutdown(conn);
        }
    }

    fn on_time(&mut self, io: &mut dyn Io, conn: ConnId) {
        let now = io.now();
        match self.parts.get_mut(&conn) {
            Some(Part::Stream(stream)) => stream.timer(io, conn, token(conn)),
            Some(Part::Control(control)) => {
                control.timer = control.timer.filter(|&timer| timer > now);
                self.with_session(io, conn, |session, context| session.on_time(context));
            }
            Some(Part::Cookie { deadline, .. } | Part::Asked { deadline }) if *deadline <= now => {
                self.parts.remove(&conn);
                io.close(conn);
            }
            Some(Part::Ending { output, deadline, .. }) if *deadline <= now => {
                if output.is_empty() {
                    io.close(conn);
                } else {
                    io.abort(conn);
                }
                self.parts.remove(&conn);
            }
            Some(Part::Cookie { .. } | Part::Asked { .. } | Part::Ending { .. }) | None => {}
        }
    }

    fn on_closed(&mut self, io: &mut dyn Io, conn: ConnId) {
        match self.parts.get_mut(&conn) {
            Some(Part::Control(_)) => {
                self.with_session(io, conn, |session, context| session.on_hang_up(context));
            }
            Some(Part::Stream(stream)) => {
                let result = stream.result(io, conn);
                let Address { shard, conn: session } = stream.leader;
                self.notes.push_back((shard, Note::Report { session, index: stream.index, result }));
            }
            _ => {}
        }
        self.parts.remove(&conn);
    }

    /// Tells some of those that are to hear of the stop, and asks to be called again for the rest. The call comes by the
    /// first of them, while it is open.
    fn tell_of_the_stop(&mut self, io: &mut dyn Io) {
        for _ in 0..budget::LOOKS {
            let Some(conn) = self.untold.pop_front() else { return };
            self.with_session(io, conn, |session, context| session.on_stopping(context));
        }
        self.call_for_the_untold(io);
    }

    fn call_for_the_untold(&mut self, io: &mut dyn Io) {
        while let Some(&conn) = self.untold.front() {
            if let Some(Part::Control(_)) = self.parts.get(&conn) {
                return io.call_again(conn);
            }
            self.untold.pop_front();
        }
    }

    fn on_note(&mut self, io: &mut dyn Io, from: ShardId, note: Note) {
        match note {
            Note::Hello { cookie, candidate } => self.on_hello(cookie, candidate),
            Note::Lead { conn, cookie } => self.on_lead(io, from, conn, cookie),
            Note::Deny { conn } => {
                if let Some(Part::Asked { .. }) = self.parts.get(&conn) {
                    self.end_with(io, conn, vec![state::ACCESS_DENIED]);
                }
            }
            Note::Join { session, candidate } => {
                if !self.with_session(io, session, |session, context| session.on_join(candidate, context)) {
                    self.notes.push_back((candidate.at.shard, Note::Deny { conn: candidate.at.conn }));
                }
            }
            Note::Assign { conn, session, index, plan } => {
                let note = if let Some(Part::Asked { .. }) = self.parts.get(&conn) {
                    io.set_nodelay(conn, plan.nodelay);
                    self.parts.insert(conn, Part::Stream(Box::new(Stream::new(session, index, plan))));
                    Note::Assigned { session: session.conn, index }
                } else {
                    Note::Report { session: session.conn, index, result: StreamResult::default() }
                };
                self.notes.push_back((session.shard, note));
            }
            Note::Assigned { session, index } => {
                self.with_session(io, session, |session, context| session.on_assigned(index, context));
            }
            Note::Start { conn, since } => {
                if let Some(Part::Stream(stream)) = self.parts.get_mut(&conn) {
                    stream.start(io, conn, since, token(conn));
                }
            }
            Note::Sample { conn } => {
                if let Some(Part::Stream(stream)) = self.parts.get_mut(&conn) {
                    let Address { shard, conn: session } = stream.leader;
                    let sample = stream.sample(io, conn);
                    self.notes.push_back((shard, Note::Sampled { session, index: stream.index, sample }));
                }
            }
            Note::Sampled { session, index, sample } => {
                self.with_session(io, session, |session, context| {
                    session.on_sample(index, sample, context);
                });
            }
            Note::Stop { conn } => {
                if let Some(Part::Stream(mut stream)) = self.parts.remove(&conn) {
                    let result = stream.stop(io, conn);
                    let Address { shard, conn: session } = stream.leader;
                    self.notes.push_back((shard, Note::Report { session, index: stream.index, result }));
                }
            }
            Note::Report { session, index, result } => {
                self.with_session(io, session, |session, context| session.on_report(index, result, context));
            }
            Note::Drop { conn } => {
                if self.parts.remove(&conn).is_some() {
                    io.abort(conn);
                }
            }
            Note::Release { cookie, session } => {
                if self.homed.get(&cookie) == Some(&session) {
                    self.homed.remove(&cookie);
                }
            }
        }
    }

    /// We are to lead the test `cookie` by the connection `conn`.
    fn on_lead(&mut self, io: &mut dyn Io, from: ShardId, conn: ConnId, cookie: Cookie) {
        let me = Address { shard: io.shard(), conn };
        let waits = matches!(self.parts.get(&conn), Some(Part::Asked { .. }));
        if waits && self.find_place(io) {
            io.set_nodelay(conn, true);
            let congestion = io.info(conn).map_or_else(Default::default, |info| info.congestion);
            let session = Session::new(cookie, me, io.quad(conn), congestion, io.now());
            let overdue = session.overdue_at();
            self.places.insert((overdue, token(conn)));
            self.parts.insert(conn, Part::Control(Box::new(Control { session, timer: None, overdue })));
            self.read_control(io, conn);
        } else {
            self.notes.push_back((from, Note::Release { cookie, session: me }));
            if waits {
                self.end_with(io, conn, vec![state::ACCESS_DENIED]);
            }
        }
    }

    fn on_hello(&mut self, cookie: Cookie, candidate: Candidate) {
        let Address { shard, conn } = candidate.at;
        let note = match self.homed.get(&cookie) {
            Some(leader) => (leader.shard, Note::Join { session: leader.conn, candidate }),
            None => {
                self.homed.insert(cookie, candidate.at);
                (shard, Note::Lead { conn, cookie })
            }
        };
        self.notes.push_back(note);
    }

    /// Sends the notes, this shard's own by a shorter way. Comes last in every call.
    fn deliver(&mut self, io: &mut dyn Io) {
        let me = io.shard();
        while let Some((shard, note)) = self.notes.pop_front() {
            if shard == me {
                self.on_note(io, me, note);
            } else {
                io.send_to(shard, Box::new(note));
            }
        }
    }
}

/// Sends the front of `output` and takes away what was sent.
fn flush(io: &mut dyn Io, conn: ConnId, output: &mut Vec<u8>) {
    if !output.is_empty() {
        let sent = io.send(conn, output);
        output.drain(..sent.min(output.len()));
    }
}

impl Service for Iperf3 {
    fn keepalive(&self) -> Option<KeepAlive> {
        Some(KEEPALIVE)
    }

    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        let deadline = io.now().saturating_add(COOKIE_TIMEOUT);
        self.parts.insert(conn, Part::Cookie { have: [0; COOKIE_LEN], len: 0, deadline });
        io.set_timer(deadline, token(conn));
    }

    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        self.on_readable(io, conn);
        self.deliver(io);
    }

    fn writable(&mut self, io: &mut dyn Io, conn: ConnId) {
        if self.untold.front() == Some(&conn) {
            self.tell_of_the_stop(io);
        }
        match self.parts.get_mut(&conn) {
            Some(Part::Stream(stream)) => stream.send(io, conn, token(conn)),
            Some(Part::Control(_)) => self.settle(io, conn),
            Some(Part::Ending { .. }) => self.go_on_ending(io, conn),
            Some(Part::Cookie { .. } | Part::Asked { .. }) | None => {}
        }
        self.deliver(io);
    }

    fn closed(&mut self, io: &mut dyn Io, conn: ConnId, _reason: CloseReason) {
        let called = self.untold.front() == Some(&conn);
        self.on_closed(io, conn);
        if let Some(room) = less_room(self.parts.len(), self.parts.capacity()) {
            self.parts.shrink_to(room);
        }
        if called {
            self.call_for_the_untold(io);
        }
        self.deliver(io);
    }

    fn message(&mut self, io: &mut dyn Io, from: ShardId, message: Message) {
        if let Ok(note) = message.downcast::<Note>() {
            self.on_note(io, from, *note);
        }
        self.deliver(io);
    }

    fn stopping(&mut self, io: &mut dyn Io) {
        self.untold = self.places.iter().map(|&(_, token)| conn_of(token)).collect();
        self.tell_of_the_stop(io);
        self.deliver(io);
    }

    fn has_said_goodbye(&self) -> bool {
        true
    }

    fn timer(&mut self, io: &mut dyn Io, token: u64) {
        self.on_time(io, conn_of(token));
        self.deliver(io);
    }
}

#[cfg(test)]
mod tests;
