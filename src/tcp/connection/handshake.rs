//! Opening a connection: SYN-SENT, SYN-RECEIVED, and what the two SYNs negotiate.
//!
//! The record is small because a listener keeps many of them. It ends in a [`Connection`] or in nothing; listeners,
//! backlogs and cookies belong to the table that holds it.

use crate::tcp::base::config::{BufferLimits, Config};
use crate::tcp::base::info::LossState;
use crate::tcp::base::outcome::CloseReason;
use crate::tcp::base::segment::{Segment, Transmit, reset_for};
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::state::State;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::base::timestamp::{Timestamp, TimestampClock};
use crate::tcp::base::units::{UnscaledWindow, WindowScale, buffer_within_bounds};
use crate::tcp::connection::Connection;
use crate::tcp::connection::challenge::Limiter;
use crate::tcp::connection::opened::Opened;
use crate::wire::icmp::Unreachable;
use crate::wire::options::{TcpOptions, Timestamps};
use crate::wire::tcp::Flags;

/// How long after the RST that ends a stale connection of the peer its SYN follows: time for one to overtake the other
/// by a bit.
const HASTE: Duration = Duration::from_millis(4);

/// How often one open does that.
const MOST_HASTENED: u8 = 3;

/// The first window that a peer is offered: less where memory for what is received is short (OPS-46). More than can be
/// kept would have to be sent again, and that mostly by timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstWindow {
    /// [`Config::recv_buffer`], as far as the field reaches.
    #[default]
    Full,
    /// 4,096 octets.
    Modest,
    /// 1,024 octets.
    Small,
    /// 256 octets.
    Least,
}

impl FirstWindow {
    const ALL: [Self; 4] = [Self::Full, Self::Modest, Self::Small, Self::Least];

    /// The largest below [`Full`](Self::Full) that so many octets have room for.
    #[must_use]
    pub fn within(octets: u32) -> Self {
        let fits = |window: &Self| octets >= u32::from(window.most());
        [Self::Modest, Self::Small].into_iter().find(fits).unwrap_or(Self::Least)
    }

    /// At most so many octets.
    fn most(self) -> u16 {
        match self {
            Self::Full => u16::MAX,
            Self::Modest => 4_096,
            Self::Small => 1_024,
            Self::Least => 256,
        }
    }
}

/// What only the caller can know when a connection is opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenParams {
    /// Our initial sequence number ([`IsnGenerator`](crate::tcp::connection::isn::IsnGenerator)).
    pub iss: SeqNum,
    /// What to add to our timestamp clock, from the same generator.
    pub ts_offset: u32,
    /// The MSS to advertise: MTU - 40 for IPv4, MTU - 60 for IPv6 (MUST-67).
    pub mss: u16,
    /// The MSS of a peer that names none: 536 for IPv4, 1220 for IPv6 (MUST-15).
    pub peer_mss: u16,
    /// What the peer may send at first.
    pub first_window: FirstWindow,
}

/// What the user has set before the connection is open, as far as the handshake heeds it. The connection begins with
/// it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Octets that may lie unread (SO_RCVBUF of Linux). Our SYN offers no larger window, and no larger scale than it
    /// needs.
    pub receive_buffer: Option<u32>,
    /// The window scale that our SYN offers, where it is settled already.
    pub shift: Option<u8>,
    /// For how long the handshake may go on (MUST-21; TCP_USER_TIMEOUT of Linux), if other limits do not end it before.
    /// Zero means as long as they allow. A passive open is ended with the first repetition of its SYN-ACK that would
    /// come later.
    pub user_timeout: Option<Duration>,
}

impl Wishes {
    /// The window shift of our SYN: if it is not settled, the smallest that lets the 16-bit field express the largest
    /// buffer (OPS-17), at most 14 (RFC7323-2.3b).
    #[must_use]
    pub fn offered_shift(&self, config: &Config) -> u8 {
        let BufferLimits { initial, max } = config.recv_buffer;
        let largest = self.receive_buffer.map_or(max.max(initial), buffer_within_bounds);
        self.shift.unwrap_or_else(|| WindowScale::for_buffer(largest).shift())
    }

    fn limit(&self) -> Option<Duration> {
        self.user_timeout.filter(|limit| !limit.is_zero())
    }
}

/// A connection that is being opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    iss: SeqNum,
    irs: SeqNum,
    ts_offset: u32,
    /// TSval of the peer's SYN.
    ts_recent: Timestamp,
    /// Window of the peer's SYN, which is never scaled (RFC7323-2.2c).
    peer_window: UnscaledWindow,
    /// What we advertise.
    mss: u16,
    /// What the peer advertised, or the default for a peer that did not (MUST-15).
    peer_mss: u16,
    state: State,
    /// Came from LISTEN (MUST-11).
    passive: bool,
    /// A SYN or SYN-ACK is to be sent.
    due: bool,
    /// What our SYN offers, then what both offered.
    timestamps: bool,
    sack: bool,
    peer_shift: Option<u8>,
    scale: bool,
    first_window: FirstWindow,
    wishes: Wishes,
    /// Times our SYN or SYN-ACK was repeated because the timer fired.
    timeouts: u8,
    /// So many repetitions end an active open, where the user says so; else time does.
    syn_retries: Option<u8>,
    /// Times an active open's SYN was repeated early, since a stale connection of the peer was in its way.
    hastened: u8,
    /// The timer runs for that.
    hastens: bool,
    /// What we sent was sent more than once: the round trip is ambiguous (RFC6298-3a).
    ambiguous: bool,
    challenge: Limiter,
    started: Instant,
    sent_at: Instant,
    deadline: Option<Instant>,
}

/// What a segment or the timer did to an opening connection.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "moved once into the connection's slot, never stored")]
pub enum HandshakeOutcome {
    /// Nothing to send but what [`Handshake::poll_transmit`] gives.
    Wait,
    /// Send this (a RST or a challenge ACK), stay.
    Reply(Transmit),
    /// It is open. `rest` is what is left of the segment without its SYN: give it to
    /// [`Connection::on_segment`] right away, also when it carries no payload.
    Established {
        /// The open connection, in ESTABLISHED.
        connection: Connection,
        /// The rest of the segment that completed the handshake.
        rest: Segment,
    },
    /// It is over.
    Closed(CloseReason),
}

impl Handshake {
    fn new(config: &Config, params: OpenParams, state: State, now: Instant) -> Self {
        Self {
            iss: params.iss,
            irs: SeqNum(0),
            ts_offset: params.ts_offset,
            ts_recent: Timestamp(0),
            peer_window: UnscaledWindow(0),
            mss: params.mss,
            peer_mss: params.peer_mss,
            state,
            passive: false,
            due: true,
            timestamps: config.timestamps,
            sack: config.sack,
            peer_shift: None,
            scale: config.window_scale,
            first_window: params.first_window,
            wishes: Wishes::default(),
            timeouts: 0,
            syn_retries: None,
            hastened: 0,
            hastens: false,
            ambiguous: false,
            challenge: Limiter::new(),
            started: now,
            sent_at: now,
            deadline: None,
        }
    }

    /// Active OPEN (SM-CLO-2): SYN-SENT, a SYN is due.
    #[must_use]
    pub fn connect(config: &Config, params: OpenParams, now: Instant) -> Self {
        Self::new(config, params, State::SynSent, now)
    }

    /// A SYN came to LISTEN (SM-LIS-4): SYN-RECEIVED, a SYN-ACK is due. Payload and FIN on the SYN are left to be sent
    /// again. The caller has checked that it is a SYN without RST and ACK.
    #[must_use]
    pub fn accept(config: &Config, params: OpenParams, syn: &Segment, now: Instant) -> Self {
        let mut new = Self::new(config, params, State::SynReceived, now);
        new.passive = true;
        new.take_syn(syn);
        new
    }

    /// A passive open of which nothing was kept but what a [cookie](crate::tcp::cookie) holds, as it was before the ACK
    /// that brought the cookie back. `syn` is what is left of the peer's SYN; our SYN-ACK left between `earliest` and
    /// now.
    #[must_use]
    pub fn recall(config: &Config, params: OpenParams, syn: &Segment, earliest: Instant, now: Instant) -> Self {
        let mut new = Self::accept(config, params, syn, now);
        let _ = new.poll_transmit(config, now);
        new.started = earliest;
        // When it left only an echoed timestamp tells (RFC6298-3a).
        new.ambiguous = true;
        new
    }

    /// An active open fails after `count` repetitions of its SYN (TCP_SYNCNT of Linux), whatever
    /// [`Config::connect_timeout`] says. The user may make that shorter than the 3 min of MUST-23.
    pub fn set_syn_retries(&mut self, count: u8) {
        self.syn_retries = Some(count);
    }

    /// What the user has set so far. To be said before the first [`poll_transmit`](Self::poll_transmit), and of a
    /// passive open that was [kept](crate::tcp::half_open) again.
    #[must_use]
    pub fn wishing(mut self, wishes: Wishes) -> Self {
        self.wishes = wishes;
        self
    }

    /// As [`Connection::set_user_timeout`], from when the open began.
    pub fn set_user_timeout(&mut self, limit: Option<Duration>) {
        self.wishes.user_timeout = limit;
    }

    /// As [`Connection::set_receive_buffer`]. What our SYN has said of window and scale, if it has left, still holds.
    pub fn set_receive_buffer(&mut self, octets: u32) {
        self.wishes.receive_buffer = Some(octets);
    }

    /// SYN-SENT, SYN-RECEIVED or CLOSED.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// When [`on_timeout`](Self::on_timeout) is to be called. Nothing before the first
    /// [`poll_transmit`](Self::poll_transmit).
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        // A passive open keeps step with all others that were repeated as often: see `Wishes`.
        let limit = self.wishes.limit().filter(|_| !self.passive).map_or(Instant::MAX, |limit| self.started + limit);
        self.deadline.map(|deadline| deadline.min(limit))
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) has something.
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        self.due
    }

    /// Gives up. In SYN-RECEIVED the peer is sent the RST returned (SM-SR-7); in SYN-SENT nothing is (SM-SS-7).
    pub fn abort(&mut self) -> Option<Transmit> {
        let known = self.state == State::SynReceived;
        self.state = State::Closed;
        self.deadline = None;
        self.due = false;
        known.then(|| Transmit::bare(self.iss + 1, self.irs + 1, Flags::RST | Flags::ACK, UnscaledWindow(0)))
    }

    /// What a SYN of the peer says: numbers, window, options. Options count on a SYN only.
    fn take_syn(&mut self, syn: &Segment) {
        self.irs = syn.seq;
        self.peer_window = syn.window;
        if let Some(mss) = syn.options.mss {
            self.peer_mss = mss;
        }
        // RFC7323-2.2b, 3.2a, RFC2018-4a: only what both sides offer is in use. RFC7323-2.3b: more than 14 means 14.
        self.peer_shift = syn.options.window_scale.filter(|_| self.scale).map(|shift| WindowScale::new(shift).shift());
        self.sack &= syn.options.sack_permitted;
        self.timestamps &= syn.options.timestamps.is_some();
        self.ts_recent = syn.options.timestamps.map_or_else(Timestamp::default, |stamps| Timestamp(stamps.val));
        self.scale = self.peer_shift.is_some();
    }

    /// Octets our SYN advertises; the field cannot be scaled (RFC7323-2.2c).
    fn receive_window(&self, config: &Config) -> u16 {
        let buffer = self.wishes.receive_buffer.map_or(config.recv_buffer.initial, buffer_within_bounds);
        u16::try_from(buffer).unwrap_or(u16::MAX).min(self.first_window.most())
    }

    /// The SYN or SYN-ACK that is due.
    pub fn poll_transmit(&mut self, config: &Config, now: Instant) -> Option<Transmit> {
        if !self.due {
            return None;
        }
        self.due = false;
        if self.deadline.is_none() {
            self.sent_at = now;
            if self.passive {
                // Nothing counts from the SYN's arrival; one time less to keep (see `HalfOpen`).
                self.started = now;
            } else {
                self.wishes.shift = Some(self.wishes.offered_shift(config));
            }
            self.deadline = Some(self.next_deadline(config, now));
        } else {
            self.ambiguous = true;
        }
        let received = self.state == State::SynReceived;
        let (ack, flags) = if received { (self.irs + 1, Flags::SYN | Flags::ACK) } else { (SeqNum(0), Flags::SYN) };
        let mut syn = Transmit::bare(self.iss, ack, flags, UnscaledWindow(self.receive_window(config)));
        syn.options = TcpOptions {
            mss: Some(self.mss),
            window_scale: self.scale.then(|| self.wishes.offered_shift(config)),
            sack_permitted: self.sack,
            timestamps: self.stamps(now),
            ..TcpOptions::default()
        };
        syn.resent = self.ambiguous.then_some(LossState::Loss);
        Some(syn)
    }

    /// The clock of our timestamps.
    fn clock(&self) -> TimestampClock {
        TimestampClock::new(self.ts_offset)
    }

    /// Timestamps of a segment that leaves now; TSecr is 0 without ACK (RFC7323-3.2d).
    fn stamps(&self, now: Instant) -> Option<Timestamps> {
        let ecr = if self.state == State::SynReceived { self.ts_recent } else { Timestamp::default() };
        self.timestamps.then(|| Timestamps { val: self.clock().at(now).0, ecr: ecr.0 })
    }

    /// The timer fired: the SYN is repeated with doubled intervals (SM-SS-8, SM-SR-8, KP-10), or the open fails.
    pub fn on_timeout(&mut self, config: &Config, now: Instant) -> HandshakeOutcome {
        if self.next_timeout().is_none_or(|next| now < next) {
            return HandshakeOutcome::Wait;
        }
        if self.wishes.limit().is_some_and(|limit| now - self.started >= limit) {
            return self.fail(CloseReason::UserTimeout);
        }
        if core::mem::take(&mut self.hastens) {
            // No timeout: nothing was lost. The next one counts from here.
            self.due = true;
            self.deadline = Some(self.next_deadline(config, now));
            return HandshakeOutcome::Wait;
        }
        // MUST-23 for our own SYN; a half-open entry of a listener must not live that long (OPS-3).
        let over = match self.retries(config) {
            Some(retries) => self.timeouts >= retries,
            None => {
                let often = config.syn_retries > 0 && self.timeouts >= config.syn_retries;
                often || now - self.started >= config.connect_timeout
            }
        };
        if over {
            return self.fail(CloseReason::TimedOut);
        }
        self.timeouts = self.timeouts.saturating_add(1);
        self.due = true;
        self.deadline = Some(self.next_deadline(config, now));
        HandshakeOutcome::Wait
    }

    fn fail(&mut self, reason: CloseReason) -> HandshakeOutcome {
        self.state = State::Closed;
        self.deadline = None;
        self.due = false;
        HandshakeOutcome::Closed(reason)
    }

    /// RFC6298-5.5; an active open is not kept waiting for its end.
    fn next_deadline(&self, config: &Config, now: Instant) -> Instant {
        let factor = 1_u64.checked_shl(u32::from(self.timeouts)).unwrap_or(u64::MAX);
        let at = now + (config.rto.initial * factor).min(config.rto.max);
        if self.retries(config).is_some() { at } else { at.min(self.started + config.connect_timeout) }
    }

    /// How many repetitions end it, if it is not time that does.
    fn retries(&self, config: &Config) -> Option<u8> {
        if self.passive { Some(config.syn_ack_retries) } else { self.syn_retries }
    }

    /// A segment for this connection.
    pub fn on_segment(&mut self, config: &Config, seg: &Segment, now: Instant) -> HandshakeOutcome {
        match self.state {
            State::SynSent => self.in_syn_sent(config, seg, now),
            State::SynReceived => self.in_syn_received(config, seg, now),
            _ => reply(reset_for(seg)),
        }
    }

    /// An ICMP error quotes a segment of ours with the number `seq` and says why it did not arrive. If that is our SYN,
    /// the open is over (SHLD-26, ICMP-3, ICMP-5): also where another try might get through, as with Linux, lest who
    /// has other addresses waits for minutes (RFC 5461 4.1, ICMP-6). `None`: it is about nothing in flight (ICMP-2).
    pub fn on_unreachable(&mut self, seq: SeqNum, why: Unreachable) -> Option<CloseReason> {
        let in_flight = matches!(self.state, State::SynSent | State::SynReceived) && self.deadline.is_some();
        if !in_flight || seq != self.iss {
            return None;
        }
        self.state = State::Closed;
        self.deadline = None;
        self.due = false;
        Some(if why == Unreachable::Port { CloseReason::Refused } else { CloseReason::Unreachable(why) })
    }

    /// SM-SS-1 to SM-SS-5.
    fn in_syn_sent(&mut self, config: &Config, seg: &Segment, now: Instant) -> HandshakeOutcome {
        let acks_syn = seg.has(Flags::ACK) && seg.ack == self.iss + 1;
        if seg.has(Flags::ACK) && !acks_syn {
            if !seg.has(Flags::RST) {
                self.hasten(now);
            }
            let mut reset = reset_for(seg);
            if let Some(reset) = &mut reset {
                // Not as RFC7323-5.2a has it: a peer in TIME-WAIT takes a RST with an old timestamp for a duplicate, and
                // stays there.
                reset.options.timestamps = None;
            }
            return reply(reset);
        }
        if seg.has(Flags::RST) {
            if !acks_syn {
                return HandshakeOutcome::Wait;
            }
            self.state = State::Closed;
            self.deadline = None;
            return HandshakeOutcome::Closed(CloseReason::Refused);
        }
        if !seg.has(Flags::SYN) {
            return HandshakeOutcome::Wait;
        }
        self.take_syn(seg);
        if acks_syn {
            return self.establish(config, seg, now);
        }
        // Both sides opened (SM-SS-4, MUST-10). Payload of the SYN is left to be sent again.
        self.state = State::SynReceived;
        self.due = true;
        if core::mem::take(&mut self.hastens) {
            self.deadline = Some(self.next_deadline(config, now));
        }
        HandshakeOutcome::Wait
    }

    /// The peer has a connection of before, which the RST that leaves now ends (RFC 9293 3.5.1, Figure 10): the SYN
    /// follows shortly, as with Linux, not with the timer. A few times only: whoever forges such ACKs gets a SYN more
    /// for them, no more.
    fn hasten(&mut self, now: Instant) {
        let soon = now + HASTE;
        if self.hastened < MOST_HASTENED && !self.hastens && self.deadline.is_some_and(|deadline| soon < deadline) {
            self.hastened += 1;
            self.hastens = true;
            self.deadline = Some(soon);
        }
    }

    /// SM-SR-1 to SM-SR-6.
    fn in_syn_received(&mut self, config: &Config, seg: &Segment, now: Instant) -> HandshakeOutcome {
        let nxt = self.irs + 1;
        let edge = nxt + u32::from(self.receive_window(config));
        let acks_syn = seg.has(Flags::ACK) && seg.ack == self.iss + 1;
        if seg.has(Flags::SYN) && seg.seq == self.irs && !seg.has(Flags::RST) {
            // The peer's SYN again. With an ACK it is the answer to our own SYN in a simultaneous open and completes it
            // (SM-SR-3, RFC 9293 A.2); without, our SYN-ACK was lost (SM-SR-1).
            if acks_syn {
                self.peer_window = seg.window;
                return self.establish(config, seg, now);
            }
            if seg.has(Flags::ACK) {
                return reply(reset_for(seg));
            }
            self.due = true;
            return HandshakeOutcome::Wait;
        }
        if self.timestamps && !seg.flags.intersects(Flags::RST | Flags::SYN) {
            // RFC7323-5.3a.
            if seg.options.timestamps.is_some_and(|stamps| Timestamp(stamps.val).lt(self.ts_recent)) {
                return self.challenge(config, now);
            }
        }
        let in_window =
            seg.seq.in_range(nxt, edge) || (seg.seq_len() > 0 && (seg.seq + (seg.seq_len() - 1)).in_range(nxt, edge));
        if seg.has(Flags::RST) {
            // SM-RST-1 to 3 (RFC5961-3.2); SM-SR-2 and 2.7: a passive open falls back to LISTEN without a word.
            if seg.seq != nxt {
                return if in_window { self.challenge(config, now) } else { HandshakeOutcome::Wait };
            }
            self.state = State::Closed;
            self.deadline = None;
            let reason = if self.passive { CloseReason::Reset } else { CloseReason::Refused };
            return HandshakeOutcome::Closed(reason);
        }
        if !in_window && seg.seq != edge {
            return self.challenge(config, now);
        }
        if seg.has(Flags::SYN) {
            // SM-SR-3: as in the synchronized states, not back to LISTEN: a blind SYN must not undo a handshake.
            return self.challenge(config, now);
        }
        if !seg.has(Flags::ACK) {
            return HandshakeOutcome::Wait;
        }
        if !acks_syn {
            return reply(reset_for(seg));
        }
        self.establish(config, seg, now)
    }

    /// SM-SS-3, SM-SR-4: the ACK of our SYN is there.
    fn establish(&mut self, config: &Config, seg: &Segment, now: Instant) -> HandshakeOutcome {
        let syn = seg.has(Flags::SYN);
        let mut rest = *seg;
        if syn {
            rest.flags = rest.flags.without(Flags::SYN);
            rest.seq = seg.seq + 1;
        }
        let shifts = self.peer_shift.map(|shift| (shift, self.wishes.offered_shift(config)));
        let peers = shifts.map_or(WindowScale::NONE, |(peers, _)| WindowScale::new(peers));
        let opened = Opened {
            iss: self.iss,
            irs: self.irs,
            send_window: if syn { seg.window.octets() } else { peers.scaled(seg.window) },
            window_seq: rest.seq,
            unscaled_rest: syn,
            receive_window: u32::from(self.receive_window(config)),
            modest: self.first_window != FirstWindow::Full,
            receive_mss: self.mss,
            send_mss: self.peer_mss.min(self.mss),
            window_shifts: shifts,
            timestamps: self.timestamps.then_some(match (syn, seg.options.timestamps) {
                (true, Some(stamps)) => stamps.val,
                _ => self.ts_recent.0,
            }),
            ts_offset: self.ts_offset,
            sack: self.sack,
            rtt: self.sample(seg, now),
            syn_timeouts: self.timeouts,
            ack_due: syn,
        };
        self.state = State::Closed;
        self.deadline = None;
        self.due = false;
        let mut connection = Connection::new(config, &opened, now);
        if let Some(octets) = self.wishes.receive_buffer {
            connection.receiver.fix_buffer(octets);
        }
        if self.wishes.user_timeout.is_some() {
            connection.set_user_timeout(self.wishes.user_timeout);
        }
        // RFC7323-3.2b SHOULD drop what lacks a negotiated timestamp. A client that leaves it out of this segment
        // leaves it out of all, or its path does: to drop them would be a connection that never opens, and nothing says
        // why. Like Linux we take its segments as they come, without PAWS where there is no timestamp, and go on
        // sending ours.
        if seg.options.timestamps.is_none() {
            connection.receiver.allow_missing_timestamps();
        }
        HandshakeOutcome::Established { connection, rest }
    }

    /// The round trip of the handshake; of a repeated SYN only timestamps tell (RFC6298-3a).
    fn sample(&self, seg: &Segment, now: Instant) -> Option<Duration> {
        if !self.ambiguous {
            return Some(now - self.sent_at);
        }
        let echoed = Timestamp(seg.options.timestamps.filter(|_| self.timestamps)?.ecr);
        let elapsed = self.clock().at(now).ticks_since(echoed);
        // Anything else is no echo of ours.
        let longest = (now - self.started).as_millis() + 1;
        (u64::from(elapsed) <= longest).then(|| Duration::from_millis(u64::from(elapsed).max(1)))
    }

    /// An ACK of what we have, if the limiter allows it (SM-GEN-6, SM-GEN-7).
    fn challenge(&mut self, config: &Config, now: Instant) -> HandshakeOutcome {
        if !self.challenge.allow(now, config.challenge_interval) {
            return HandshakeOutcome::Wait;
        }
        let mut ack = Transmit::bare(self.iss + 1, self.irs + 1, Flags::ACK, UnscaledWindow(0));
        let ours = if self.scale { WindowScale::new(self.wishes.offered_shift(config)) } else { WindowScale::NONE };
        ack.window = ours.field(u32::from(self.receive_window(config)));
        ack.options.timestamps = self.stamps(now);
        HandshakeOutcome::Reply(ack)
    }
}

fn reply(transmit: Option<Transmit>) -> HandshakeOutcome {
    transmit.map_or(HandshakeOutcome::Wait, HandshakeOutcome::Reply)
}

// It packs what is private here.
#[path = "half_open.rs"]
pub mod half_open;

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
