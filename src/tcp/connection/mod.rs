//! A connection, from its opening to TIME-WAIT.
//!
//! This file has the record of a synchronized state, its construction and its end, and the small steps that several
//! verbs have in common. Each part of the record owns its own state.
//! The verbs are beside it, and only they open the record: `input.rs` and `acks.rs` (`on_segment`), `output.rs`
//! (`poll_transmit`, `take_ack`), `expiry.rs` (`on_timeout`), `loss.rs` and `keepalive.rs` (what a loss and a silence
//! lead to), `user.rs` and `tuning.rs` (what users call). Payload, clocks and tables are none of this room's business.

pub mod challenge;
pub mod cookie;
pub mod handshake;
pub mod isn;
pub mod time_wait;

mod acks;
mod expiry;
mod input;
mod keepalive;
mod liveness;
mod loss;
mod opened;
mod output;
mod path_mtu;
mod reassembly;
mod receiver;
mod right_sizing;
pub(super) mod sender;
mod timestamps;
mod tuning;
mod user;

pub use opened::Opened;

pub use super::base::outcome::{CloseReason, Context, Events, Keep, Outcome, Payload};

use bitflags::bitflags;

use crate::tcp::base::config::Config;
use crate::tcp::base::info::SendLimit;
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::state::State;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::base::timers::{Timer, Timers};
use crate::tcp::base::timestamp::Timestamp;
use crate::tcp::congestion::{AckSample, Congestion};
use crate::tcp::connection::challenge::Limiter;
use crate::tcp::connection::liveness::{Liveness, Waiting};
use crate::tcp::connection::reassembly::Reassembly;
use crate::tcp::connection::receiver::Receiver;
use crate::tcp::connection::right_sizing::RightSizing;
use crate::tcp::connection::sender::Sender;
use crate::tcp::connection::timestamps::PastStamps;
use crate::tcp::recovery::rtt::Rtt;
use crate::tcp::recovery::summary::AckSummary;
use crate::tcp::recovery::{LossRecovery, Phase};

/// Least size of a segment that is sent, options included, whatever a peer says.
const LEAST_MSS: u16 = 48;

bitflags! {
    /// The yes-or-no facts of a connection that none of its parts owns.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct ConnectionFlags: u8 {
        /// `poll_transmit` may have something.
        const POLL = 1;
        /// A window probe, or one of the keep-alive, must leave.
        const PROBE_DUE = 1 << 1;
        /// None reads any more: data that arrives is answered by RST.
        const NO_READER = 1 << 2;
        /// The user is gone, and what is left of its octets is still being handed over.
        const LEFT = 1 << 3;
        /// Its packets are those of IPv6.
        const IPV6 = 1 << 4;
        /// A larger segment may be tried, now or later (RFC 4821).
        const SEARCH = 1 << 5;
        /// None waits for the connection (OPS-22).
        const ORPHAN = Self::NO_READER.bits() | Self::LEFT.bits();
    }
}

/// What most connections never need.
#[derive(Clone, Debug)]
struct Rare {
    /// For answers to what proves nothing.
    limiter: Limiter,
    /// Of a path that does not seem to carry all that our link does.
    path: Option<PathMtu>,
}

/// What is known of a path that does not carry all that our link does, or may not: `low` arrives or is taken for granted,
/// nothing larger than `high` is thought to arrive, and `most` is what our link and the peer allow. Sizes are as in an MSS:
/// of options and payload. What is in use the sender knows.
#[derive(Clone, Debug)]
struct PathMtu {
    low: u16,
    high: u16,
    most: u16,
    /// What they allowed when the connection was opened: our link's part of `most` may change, the peer's does not.
    allowed: u16,
    probe: Option<PathProbe>,
    /// A message that is not believed yet: the number that it quotes, and the size that it names (ICMP-8).
    pending: Option<(SeqNum, u16)>,
    /// When the next probe may leave.
    next: Instant,
}

/// A segment that is larger than what is in use (RFC4821-10.1).
#[derive(Clone, Copy, Debug)]
struct PathProbe {
    start: SeqNum,
    end: SeqNum,
    size: u16,
    /// It did not arrive; its octets are to be sent again.
    lost: bool,
}

impl Rare {
    /// The one of a connection.
    fn of(rare: &mut Option<Box<Self>>) -> &mut Self {
        rare.get_or_insert_with(|| Box::new(Self { limiter: Limiter::new(), path: None }))
    }
}

/// What a connection keeps for observers only. Nothing of it decides anything.
///
/// What has limited the sender is noted where it has found nothing more to send, with the time of that call: once a turn,
/// not a segment. Delivery is measured with one segment after the other: once a round trip.
#[derive(Clone, Debug)]
struct Observed {
    /// How long the sender was busy, held up by the peer's window, and by its buffer; each without the others, and up to
    /// `since`.
    times: [Duration; 3],
    /// When the present limit began.
    since: Instant,
    /// Octets sent again.
    bytes_resent: u64,
    /// When the delivery began that is being measured, SND.UNA then, and what ends it: the end of a segment that left then.
    from: Instant,
    una: SeqNum,
    end: SeqNum,
    /// What was measured last, octets a second; 0 for nothing.
    rate: f32,
    limit: SendLimit,
    /// There was nothing more to send when the present measurement began, and when the last one did.
    app_limited: [bool; 2],
}

impl Observed {
    const fn new(una: SeqNum, now: Instant) -> Self {
        Self {
            times: [Duration::ZERO; 3],
            since: now,
            bytes_resent: 0,
            from: now,
            una,
            end: una,
            rate: 0.0,
            limit: SendLimit::Idle,
            app_limited: [false; 2],
        }
    }

    /// This limits the sender from now on.
    #[inline]
    fn limited_by(&mut self, limit: SendLimit, now: Instant) {
        if limit == self.limit {
            return;
        }
        self.times = self.times_at(now);
        (self.limit, self.since) = (limit, now);
    }

    /// The times up to `now`.
    fn times_at(&self, now: Instant) -> [Duration; 3] {
        let mut times = self.times;
        let [busy, rwnd, sndbuf] = &mut times;
        let past = now.saturating_since(self.since);
        match self.limit {
            SendLimit::Idle => {}
            SendLimit::Busy => *busy = busy.saturating_add(past),
            SendLimit::ReceiveWindow => *rwnd = rwnd.saturating_add(past),
            SendLimit::SendBuffer => *sndbuf = sndbuf.saturating_add(past),
        }
        times
    }
}

/// A connection in a synchronized state (ESTABLISHED to TIME-WAIT).
///
/// Everything it does is an answer to a call. After each call look at [`wants_transmit`](Self::wants_transmit) and,
/// when it is true, take segments from [`poll_transmit`](Self::poll_transmit) until it gives `None`; then
/// [`next_timeout`](Self::next_timeout) is valid.
///
/// ```
/// use trust::tcp::{
///     Config, Connection, Context, FirstWindow, Handshake, HandshakeOutcome, Instant, Keep, OpenParams, Payload, Segment,
///     SeqNum, Transmit,
/// };
///
/// /// What is sent arrives. Octets go beside: segments have their numbers.
/// fn arrives(sent: Option<Transmit>) -> Segment {
///     let Transmit { seq, ack, flags, window, options, len, .. } = sent.expect("a segment");
///     Segment { seq, ack, flags, window, urgent: 0, options, len }
/// }
///
/// let (config, now) = (Config::default(), Instant::from_secs(1));
/// let context = Context { now, keep: Keep::All };
/// let open = |outcome| {
///     let HandshakeOutcome::Established { mut connection, rest } = outcome else { panic!("not open") };
///     connection.on_segment(&config, &rest, &context);
///     connection
/// };
/// let params =
///     |iss| OpenParams { iss: SeqNum(iss), ts_offset: 0, mss: 1_460, peer_mss: 536, first_window: FirstWindow::Full };
/// let mut client = Handshake::connect(&config, params(1_000), now);
/// let syn = arrives(client.poll_transmit(&config, now));
/// let mut server = Handshake::accept(&config, params(2_000), &syn, now);
/// let syn_ack = arrives(server.poll_transmit(&config, now));
/// let mut client: Connection = open(client.on_segment(&config, &syn_ack, now));
/// let ack = arrives(client.poll_transmit(&config, now, 0));
/// let mut server: Connection = open(server.on_segment(&config, &ack, now));
///
/// client.on_send(5); // so many octets are in the store beside it
/// let segment = arrives(client.poll_transmit(&config, now, 0));
/// let outcome = server.on_segment(&config, &segment, &context);
/// assert_eq!(outcome.payload, Payload::Deliver { from: 0, to: 5, released: 0 });
/// ```
///
/// The first three cache lines are what every segment of a bulk transfer touches: the receiver, the sender, and the
/// timers with the congestion window. A test pins them.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Connection {
    // Line 1: receiving.
    receiver: Receiver,
    // Line 2: sending.
    sender: Sender,
    /// When the last segment was received.
    clock: Instant,
    state: State,
    /// Header prediction may be tried: nothing is held out of order, no recovery, no duplicate ACKs, no probe.
    predictable: bool,
    flags: ConnectionFlags,
    reason: Option<CloseReason>,
    /// Octets of the last segment that was refused, or a part of it.
    refused: u32,
    // Line 3: until when, and how much: the window is what congestion control begins with.
    timers: Timers,
    congestion: Congestion,
    // Once an ACK.
    rtt: Rtt,
    recovery: LossRecovery,
    /// Octets acknowledged.
    acked: u64,
    /// When data was sent last (RFC5681-4.1).
    last_sent: Instant,
    liveness: Liveness,
    // Once a reading, or only when something is lost.
    sizing: RightSizing,
    reassembly: Reassembly,
    past_stamps: PastStamps,
    /// Made on first need.
    rare: Option<Box<Rare>>,
    // Once a turn, for observers.
    observed: Observed,
}

impl Connection {
    /// A connection in ESTABLISHED, as a handshake leaves it: our SYN is acknowledged, the peer's is received.
    #[must_use]
    pub fn new(config: &Config, opened: &Opened, now: Instant) -> Self {
        let options = opened.options_len();
        // A peer's MSS must not make all of a segment headers; what the link carries is the limit in any case
        // (MUST-16).
        let mss = opened.send_mss.max(config.min_mss).max(LEAST_MSS).min(opened.receive_mss).max(options + 1);
        let smss = u32::from(mss - options);
        // RFC6928-2b: one lost SYN says little, more of them say the path is bad.
        let window = if opened.syn_timeouts > 1 { smss } else { config.initial_cwnd(smss) };
        let receiver = Receiver::new(config, opened, now);
        let mut connection = Self {
            sizing: RightSizing::new(receiver.buffer(), now),
            receiver,
            sender: Sender::new(config, opened, mss),
            clock: now,
            state: State::Established,
            predictable: !opened.unscaled_rest,
            flags: if opened.ack_due { ConnectionFlags::POLL } else { ConnectionFlags::empty() },
            reason: None,
            refused: 0,
            timers: Timers::new(),
            congestion: Congestion::new(config.congestion, config.hystart, smss, window, opened.iss + 1),
            rtt: Rtt::new(&config.rto, opened.rtt, opened.syn_timeouts, now),
            recovery: LossRecovery::new(opened.iss, opened.sack, now),
            acked: 0,
            last_sent: now,
            liveness: Liveness::new(config, now),
            reassembly: Reassembly::new(opened.sack),
            past_stamps: PastStamps::new(Timestamp(opened.timestamps.unwrap_or_default()), 0),
            rare: None,
            observed: Observed::new(opened.iss + 1, now),
        };
        if config.keepalive {
            connection.set_keepalive(Some(config.keepalive_probes));
        }
        connection
    }

    /// SMSS: payload of a full segment without SACK blocks.
    #[inline]
    fn smss(&self) -> u32 {
        self.congestion.window().smss()
    }

    /// It is worth calling [`poll_transmit`](Self::poll_transmit).
    #[inline]
    fn request_poll(&mut self) {
        self.flags.insert(ConnectionFlags::POLL);
    }

    /// An ACK leaves with the next [`poll_transmit`](Self::poll_transmit).
    #[inline]
    fn request_ack(&mut self) {
        self.receiver.request_ack();
        self.request_poll();
    }

    /// Whether none reads any more.
    #[inline]
    fn has_no_reader(&self) -> bool {
        self.flags.contains(ConnectionFlags::NO_READER)
    }

    /// Octets taken to be in the network (RFC6675-4b).
    #[inline]
    fn pipe(&self) -> u32 {
        self.recovery.pipe(self.sender.flight())
    }

    /// Whether anybody waits for the connection (OPS-22).
    #[inline]
    fn waiting(&self) -> Waiting {
        if self.flags.intersects(ConnectionFlags::ORPHAN) { Waiting::None } else { Waiting::User }
    }

    /// Whether the peer owes us an acknowledgment or a window.
    fn awaits_progress(&self) -> bool {
        self.sender.flight() > 0 || self.timers.is_set(Timer::Persist)
    }

    /// The limit for progress has changed: the timer's handler finds out how much is left of it.
    fn review_progress(&mut self) {
        if self.awaits_progress() {
            self.timers.set(Timer::GiveUp, self.clock);
        }
    }

    /// Whether something waits to be sent, and nothing is in flight whose acknowledgment would let it go.
    fn is_stalled(&self) -> bool {
        self.sender.flight() == 0 && (self.sender.unsent() > 0 || self.sender.is_fin_due())
    }

    /// The congestion window grows by an acknowledgment.
    #[inline(always)]
    fn grow(&mut self, summary: &AckSummary, now: Instant) {
        if summary.acked == 0 {
            return;
        }
        self.congestion.on_ack(&AckSample {
            now,
            acked: summary.acked,
            flight: 0,
            rtt: summary.rtt,
            srtt: self.rtt.srtt().unwrap_or_default(),
            una: self.sender.una(),
            nxt: self.sender.nxt(),
            cwnd_limited: self.recovery.phase() == Phase::Loss,
        });
    }

    /// Sets the timer of loss recovery to what comes first. Called after whatever may change that.
    #[inline]
    fn arm_loss_timer(&mut self, config: &Config, now: Instant) {
        let flight = self.sender.flight();
        if flight == 0 {
            self.timers.cancel(Timer::Retransmit); // RFC6298-5.2
            return;
        }
        let alone = flight <= self.congestion.window().smss();
        let at = self.recovery.next_timeout(config, &self.rtt, alone, now);
        self.timers.set(Timer::Retransmit, at);
    }

    /// An ACK for what is not acceptable, if the limiter allows it (SM-GEN-7).
    fn acknowledge_limited(&mut self, config: &Config, now: Instant, outcome: &mut Outcome) {
        if Rare::of(&mut self.rare).limiter.allow(now, config.challenge_interval) {
            outcome.reply = Some(self.take_ack(now));
        }
    }

    /// Enters CLOSED.
    fn finish(&mut self, reason: CloseReason) {
        self.state = State::Closed;
        self.observed.limited_by(SendLimit::Idle, self.clock.max(self.last_sent));
        self.predictable = false;
        self.timers.cancel_all();
        self.flags.remove(ConnectionFlags::POLL | ConnectionFlags::PROBE_DUE);
        self.receiver.drop_ack();
        self.recovery.force_nothing();
        self.reassembly.clear();
        self.reason.get_or_insert(reason);
    }

    /// The peer owes us an answer, and no more is waited for it.
    fn end_without_progress(&mut self, reason: CloseReason, now: Instant, outcome: &mut Outcome) {
        if self.waiting() == Waiting::None {
            // The peer may well be there and only refuse to read: tell it.
            outcome.reply = Some(self.reset(now));
        }
        self.finish(self.liveness.reason(reason));
        outcome.events |= Events::CLOSED;
    }

    /// Enters TIME-WAIT: all timers stop (SM-FW2-2), the record that replaces this one has its own.
    fn enter_time_wait(&mut self) {
        self.state = State::TimeWait;
        self.observed.limited_by(SendLimit::Idle, self.clock);
        self.predictable = false;
        self.timers.cancel_all();
        self.reason.get_or_insert(CloseReason::Normal);
    }

    /// Whether the fate of a probe is open.
    fn is_probing_path(&self) -> bool {
        self.rare.as_ref().and_then(|rare| rare.path.as_ref()).is_some_and(|path| path.probe.is_some())
    }

    /// Decides anew whether header prediction may be tried.
    #[inline]
    fn review_prediction(&mut self) {
        let flowing = !matches!(self.state, State::TimeWait | State::Closed);
        self.predictable = flowing
            && self.recovery.is_quiet()
            && !self.sender.awaits_rest_of_syn()
            && !self.receiver.is_under_pressure()
            && self.reassembly.is_empty()
            && !self.is_probing_path();
    }
}

#[cfg(test)]
mod connection_tests;
#[cfg(test)]
mod edge_tests;
#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod loss_tests;
#[cfg(test)]
mod observed_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod world_tests;

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;
    use crate::tcp::congestion::CongestionWindow;

    #[test]
    fn the_hot_part_of_a_connection_is_three_cache_lines() {
        assert_eq!(size_of::<Receiver>(), 64);
        assert_eq!(offset_of!(Connection, sender), 64);
        assert_eq!(offset_of!(Connection, timers), 128);
        assert_eq!(offset_of!(Connection, congestion) + size_of::<CongestionWindow>(), 192);
        assert_eq!(align_of::<Connection>(), 64);
        // What observers ask for is the last line.
        assert_eq!(offset_of!(Connection, observed), 576);
        assert!(size_of::<Connection>() <= 640, "{}", size_of::<Connection>());
    }
}
