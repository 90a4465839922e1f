//! A connection in a synchronized state: the record, its construction, the user's calls.
//!
//! The verbs that move segments are beside it: `input.rs` (`on_segment`), `output.rs` (`poll_transmit`, `take_ack`) and
//! `expiry.rs` (`on_timeout`). Payload, clocks and tables are none of this room's business.

use super::challenge::Limiter;
use super::config::Config;
use super::congestion::{CongestionControl, CongestionWindow, Controller};
use super::info::{Info, LossState, RecoveryCounts};
use super::keepalive::KeepAliveState;
use super::marks::Marks;
use super::probe::{LossTimer, TailProbe};
use super::rack::Rack;
use super::ranges::RangeSet;
use super::recovery::Episode;
use super::recv::{PastStamps, RecvSequenceSpace, RightSizing};
use super::report::SackReport;
use super::rtt::RttEstimator;
use super::scoreboard::Scoreboard;
use super::segment::Transmit;
use super::send::{SendSequenceSpace, above};
use super::seq::SeqNum;
use super::state::State;
use super::time::{Duration, Instant};
use super::time_wait::TimeWait;
use super::timers::Timers;

pub use super::outcome::{CloseReason, Context, Events, Keep, Outcome, Payload};

/// Loss recovery of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Recovery {
    /// None going on.
    Open,
    /// Fast recovery (RFC 6582): `recover` is not acknowledged yet.
    Fast,
    /// A timeout: what was in flight counts as lost and is sent again in slow start.
    Loss,
}

/// What every segment of a bulk transfer touches: three cache lines.
///
/// An in-order data segment reads and writes the first line, and of the second `una`, `nxt` and the window; the ACK of
/// such a segment the second and third. A test pins size and alignment.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Hot {
    // Line 1: receiving.
    pub(super) rcv: RecvSequenceSpace,
    /// Segments still to be acknowledged at once (OPS-6).
    pub(super) quick: u8,
    pub(super) state: State,
    pub(super) recovery: Recovery,
    /// Header prediction may be tried: nothing is held out of order, no recovery, no duplicate ACKs, no probe.
    pub(super) predictable: bool,
    pub(super) marks: Marks,
    /// When the last segment was received.
    pub(super) clock: Instant,
    /// Octets received in order.
    pub(super) received: u64,
    // Line 2: sending.
    pub(super) snd: SendSequenceSpace,
    // Line 3: how much, and until when.
    pub(super) congestion: CongestionWindow,
    pub(super) timers: Timers,
}

/// The rest.
#[derive(Clone, Debug)]
#[repr(C)]
pub(super) struct Cold {
    // Line 4: once an ACK.
    pub(super) rtt: RttEstimator,
    /// Octets acknowledged.
    pub(super) acked: u64,
    /// When the peer last proved to make progress (R2, user timeout).
    pub(super) progress: Instant,
    /// When the segment being timed was sent.
    pub(super) timed_at: Instant,
    pub(super) min_rtt: Duration,
    /// What the retransmission timeout counts from.
    pub(super) rto_base: Instant,
    /// What was sent, and what became of it.
    pub(super) board: Scoreboard,
    pub(super) rack: Rack,
    pub(super) tail: TailProbe,
    /// When `min_rtt` was measured, in seconds.
    pub(super) min_rtt_at: u32,
    /// What the timer of recovery stands for.
    pub(super) loss_timer: LossTimer,
    /// Timeouts in a row, without progress.
    pub(super) tries: u8,
    pub(super) episode: Option<Box<Episode>>,
    /// What congestion control remembers.
    pub(super) controller: Controller,
    // Lines 5 to 7: once a reading, or only when something is lost, opened or closed.
    pub(super) sizing: RightSizing,
    /// What arrived out of order.
    pub(super) held: RangeSet,
    pub(super) report: SackReport,
    pub(super) challenge: Limiter,
    /// Wire segments sent again.
    pub(super) retransmits: u32,
    /// Retransmission timeouts; stays at its maximum, as the next one does.
    pub(super) timeouts: u16,
    /// What PAWS compares with.
    pub(super) past_stamps: PastStamps,
    /// Segments dropped as old.
    pub(super) paws_drops: u16,
    /// Octets of the last segment that was refused, or a part of it.
    pub(super) refused: u32,
    /// Octets sent beyond cwnd by limited transmit (RFC5681-3.2.2 does not count them).
    pub(super) limited_transmit: u32,
    /// Most octets that were in the network while the window was sent that is being acknowledged.
    pub(super) loaded: u32,
    /// SND.NXT then: until it is acknowledged, less in the network does not count.
    pub(super) loaded_end: SeqNum,
    /// The user's own limit for progress, in ms, with `Marks::USER_TIMEOUT`; the largest stands for none.
    pub(super) user_timeout: u32,
    pub(super) keepalive: KeepAliveState,
    /// Number of the peer's FIN, with `Marks::FIN_KNOWN`.
    pub(super) fin_seq: SeqNum,
    /// RCV.UP, with `Marks::URGENT`.
    pub(super) urgent: SeqNum,
    /// Window probes sent since the window closed.
    pub(super) probes: u8,
    pub(super) reason: Option<CloseReason>,
    /// Most octets that may be queued unsent, in units of 256, with `Marks::LOWAT`.
    pub(super) low_water: u16,
}

/// A connection in a synchronized state (ESTABLISHED to TIME-WAIT).
///
/// Everything it does is an answer to a call. After each call look at [`wants_transmit`](Self::wants_transmit) and, when
/// it is true, take segments from [`poll_transmit`](Self::poll_transmit) until it gives `None`; then
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
///     |iss| OpenParams { iss: SeqNum(iss), ts_offset: 0, mss: 1_460, ipv6: false, first_window: FirstWindow::Full };
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
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Connection {
    pub(super) hot: Hot,
    pub(super) cold: Cold,
}

/// What a handshake has settled: all that a [`Connection`] begins with.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// Our initial sequence number.
    pub iss: SeqNum,
    /// The peer's.
    pub irs: SeqNum,
    /// Window of the peer in octets, scaled if the segment it came with was scaled.
    pub send_window: u32,
    /// SEG.SEQ of that segment (SND.WL1).
    pub window_seq: SeqNum,
    /// The segment that completes the handshake carries a SYN and is fed on without it: its window is not scaled.
    pub unscaled_rest: bool,
    /// Octets that the SYN or SYN-ACK advertised as our window.
    pub receive_window: u32,
    /// Memory is short: the receive buffer is no larger than that window.
    pub modest: bool,
    /// The MSS that we advertised.
    pub receive_mss: u16,
    /// The MSS that we may send (MUST-16), options not subtracted.
    pub send_mss: u16,
    /// Shifts (of the peer, of ours) when both offered window scaling.
    pub window_shifts: Option<(u8, u8)>,
    /// TSval of the peer, when both offered timestamps.
    pub timestamps: Option<u32>,
    /// What is added to our timestamp clock.
    pub ts_offset: u32,
    /// Both offered SACK.
    pub sack: bool,
    /// The round trip of the handshake, if it may be taken for a sample (RFC6298-3a).
    pub rtt: Option<Duration>,
    /// Retransmissions of our SYN or SYN-ACK.
    pub syn_timeouts: u8,
    /// We owe the peer an ACK of its SYN.
    pub ack_due: bool,
}

impl Connection {
    /// A connection in ESTABLISHED, as a handshake leaves it: our SYN is acknowledged, the peer's is received.
    #[must_use]
    pub fn new(config: &Config, opened: &Opened, now: Instant) -> Self {
        let una = opened.iss + 1;
        let nxt = opened.irs + 1;
        let (send_shift, receive_shift) = opened.window_shifts.unwrap_or((0, 0));
        let stamps = if opened.timestamps.is_some() { 12 } else { 0 };
        let mut marks = Marks::default();
        marks.put(Marks::TIMESTAMPS, opened.timestamps.is_some());
        marks.put(Marks::SACK, opened.sack);
        marks.put(Marks::NAGLE, config.nagle);
        marks.put(Marks::UNSCALED, opened.unscaled_rest);
        marks.put(Marks::ACK_DUE.with(Marks::POLL), opened.ack_due);

        // A peer's MSS must not make all of a segment headers; what the link carries is the limit in any case (MUST-16).
        let mss = opened.send_mss.max(config.min_mss).max(48).min(opened.receive_mss).max(stamps + 1);
        let smss = u32::from(mss - stamps);
        // RFC6928-2b: one lost SYN says little, more of them say the path is bad.
        let window = if opened.syn_timeouts > 1 { smss } else { config.initial_cwnd(smss) };
        let congestion = CongestionWindow::new(smss, window);
        let mut rtt = RttEstimator::new(&config.rtt());
        match opened.rtt {
            Some(sample) => rtt.on_sample(&config.rtt(), sample, 1),
            None if opened.syn_timeouts > 0 => rtt.on_syn_timed_out(),
            None => {}
        }
        let buffer = if opened.modest { opened.receive_window } else { config.recv_buffer.initial };
        let edge = nxt + opened.receive_window.min(1 << 30);
        let (ts_recent, ts_recent_at) = match opened.timestamps {
            Some(val) => (val, seconds(now)),
            None => (edge.0, now.as_millis() as u32),
        };
        let hot = Hot {
            rcv: RecvSequenceSpace {
                nxt,
                edge,
                acked: nxt,
                unread: 0,
                buffer,
                ts_recent,
                ts_recent_at,
                ts_offset: opened.ts_offset,
                echo_ticks: u32::MAX,
                mss: opened.receive_mss.saturating_sub(stamps).max(1),
                shift: receive_shift.min(14),
                segments: 0,
            },
            quick: config.quick_acks,
            state: State::Established,
            recovery: Recovery::Open,
            predictable: !opened.unscaled_rest,
            marks,
            clock: now,
            received: 0,
            snd: SendSequenceSpace {
                una,
                nxt: una,
                resent_end: una,
                written: una,
                wnd: opened.send_window,
                wl1: opened.window_seq,
                wl2: una,
                max_wnd: opened.send_window,
                queued: 0,
                limit: config.send_buffer.initial,
                sml: una,
                recover: opened.iss,
                timed: una,
                mss,
                shift: send_shift.min(14),
                dup_acks: 0,
                last_send: now,
            },
            congestion,
            timers: Timers::new(),
        };
        let cold = Cold {
            rtt,
            held: RangeSet::new(),
            report: SackReport::default(),
            sizing: RightSizing::new(buffer, now),
            challenge: Limiter::new(),
            timed_at: now,
            progress: now,
            acked: 0,
            controller: Controller::new(config.congestion, config.hystart),
            min_rtt: opened.rtt.unwrap_or(Duration::MAX),
            min_rtt_at: seconds(now),
            rto_base: now,
            board: Scoreboard::default(),
            rack: Rack::new(una),
            tail: TailProbe::new(una),
            loss_timer: LossTimer::Retransmission,
            episode: None,
            retransmits: 0,
            timeouts: 0,
            past_stamps: PastStamps::new(ts_recent, 0),
            paws_drops: 0,
            refused: 0,
            limited_transmit: 0,
            loaded: 0,
            loaded_end: una,
            user_timeout: 0,
            keepalive: KeepAliveState::default(),
            fin_seq: nxt,
            urgent: nxt,
            probes: 0,
            tries: 0,
            reason: None,
            low_water: 0,
        };
        let mut connection = Self { hot, cold };
        connection.set_user_timeout(Some(config.user_timeout));
        if config.keepalive {
            connection.set_keepalive(Some(config.keepalive()));
        }
        connection
    }

    /// Its state.
    #[must_use]
    #[inline]
    pub fn state(&self) -> State {
        self.hot.state
    }

    /// Octets in order that the user has not read ([`on_recv`](Self::on_recv)).
    #[must_use]
    #[inline]
    pub fn unread(&self) -> u32 {
        self.hot.rcv.unread
    }

    /// Octets inside the window that were not kept of the last segment whose outcome says [`Events::REFUSED`].
    #[must_use]
    pub fn refused(&self) -> u32 {
        self.cold.refused
    }

    /// Octets in the send store, sent or not.
    #[must_use]
    #[inline]
    pub fn queued(&self) -> u32 {
        self.hot.snd.queued
    }

    /// Why it ended, once it is closed.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.cold.reason
    }

    /// Whether the peer's FIN is in order: after what is unread comes the end of the stream.
    #[must_use]
    pub fn at_eof(&self) -> bool {
        self.hot.marks.has(Marks::FIN_KNOWN) && self.hot.rcv.nxt.gt(self.cold.fin_seq)
    }

    /// Whether the user gave the connection up entirely ([`close`](Self::close) or [`abort`](Self::abort)).
    #[must_use]
    pub fn is_fully_closed(&self) -> bool {
        self.hot.marks.has(Marks::NO_READER) || self.hot.state == State::Closed
    }

    /// When [`on_timeout`](Self::on_timeout) is to be called, at the latest.
    #[must_use]
    #[inline]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.hot.timers.next()
    }

    /// Whether it is worth calling [`poll_transmit`](Self::poll_transmit).
    #[must_use]
    #[inline]
    pub fn wants_transmit(&self) -> bool {
        self.hot.marks.has(Marks::POLL)
    }

    /// Whether an ACK is due that no data carries yet: [`take_ack`](Self::take_ack) sends it by itself.
    #[must_use]
    #[inline]
    pub fn ack_due(&self) -> bool {
        self.hot.marks.has(Marks::ACK_DUE)
    }

    /// An ACK that was to leave at once did not: it leaves with the next [`poll_transmit`](Self::poll_transmit).
    pub fn owe_ack(&mut self) {
        self.hot.marks.set(Marks::ACK_DUE.with(Marks::POLL));
    }

    /// Whether the peer's SYN, and nothing after it, was received and is not acknowledged: the handshake is complete on our
    /// side only.
    #[must_use]
    pub fn owes_first_ack(&self) -> bool {
        self.ack_due() && self.hot.received == 0 && self.hot.snd.nxt == self.hot.snd.una
    }

    /// Octets the send store may take now; 0 after the user closed.
    #[must_use]
    #[inline]
    pub fn send_room(&self, _config: &Config) -> u32 {
        if !self.hot.state.can_send() {
            return 0;
        }
        let room = self.hot.snd.limit.saturating_sub(self.hot.snd.queued);
        if self.hot.marks.has(Marks::LOWAT) { self.room_to_low_water(room) } else { room }
    }

    /// The user appended `octets` to the send store. Ignored once the user has closed.
    pub fn on_send(&mut self, octets: u32) {
        let snd = &mut self.hot.snd;
        if octets == 0 || !self.hot.state.can_send() {
            return;
        }
        // Sequence arithmetic holds for less than 2^31 octets; the buffer limit is far below.
        snd.queued = snd.queued.saturating_add(octets).min(1 << 30);
        if snd.queued >= snd.limit {
            self.hot.marks.set(Marks::ROOM_FULL);
        }
        self.hot.marks.set(Marks::POLL);
    }

    /// The user read `octets`: the window may open (SWS-5, SWS-6) and the buffer may grow (OPS-15).
    pub fn on_recv(&mut self, config: &Config, octets: u32, now: Instant) {
        let Hot { rcv, marks, .. } = &mut self.hot;
        rcv.unread = rcv.unread.saturating_sub(octets);
        // An urgent pointer that was passed is over: after 2^31 octets it would lie ahead again.
        if marks.has(Marks::URGENT) && (rcv.nxt - rcv.unread).ge(self.cold.urgent) {
            marks.clear(Marks::URGENT);
        }
        let started = self.cold.sizing.started_at();
        let stamped = marks.has(Marks::TIMESTAMPS);
        if !stamped {
            rcv.turn(now);
        }
        // Echoed timestamps, or the window, see a path whose round trip grew since we last had a sample; below two ticks
        // they say nothing.
        let rtt = match rcv.echo_ticks {
            0 | 1 | u32::MAX => self.cold.rtt.srtt(),
            ticks => Some(Duration::from_millis(u64::from(ticks))),
        };
        if let Some(size) = self.cold.sizing.on_read(octets, rcv.mss, rtt, now)
            && config.recv_auto_tuning
            && !marks.has(Marks::PRESSURE.with(Marks::RECV_FIXED))
        {
            rcv.buffer = rcv.buffer.max(size.min(config.recv_buffer.max));
        }
        if stamped && self.cold.sizing.started_at() != started {
            rcv.echo_ticks = u32::MAX;
        }
        if self.hot.state.can_receive() && self.hot.rcv.worth_an_update() {
            self.hot.marks.set(Marks::ACK_DUE.with(Marks::POLL));
        }
    }

    /// When the peer last acknowledged something, or, before it did, when what is in flight began to leave.
    #[must_use]
    pub fn last_progress(&self) -> Instant {
        self.cold.progress
    }

    /// Octets that the peer has acknowledged.
    #[must_use]
    #[inline]
    pub fn acked(&self) -> u64 {
        self.cold.acked
    }

    /// Octets that the user has read.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.hot.received - u64::from(self.hot.rcv.unread)
    }

    /// Octets that the peer has acknowledged and that the user has read, together: who has no use for what a connection
    /// holds lets this stand still.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.cold.acked + self.read()
    }

    /// When a segment was received last.
    #[must_use]
    pub fn last_received(&self) -> Instant {
        self.hot.clock
    }

    /// Half close: a FIN follows the queued data, receiving goes on (MAY-1). Ignored when done before.
    pub fn shutdown(&mut self) {
        self.hot.state = match self.hot.state {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            _ => return,
        };
        self.hot.marks.set(Marks::FIN_QUEUED.with(Marks::POLL));
    }

    /// Full close: [`shutdown`](Self::shutdown), and nobody reads any more. With unread data the connection is reset at
    /// once: the RST to send is returned and the state is CLOSED (SHLD-3, KP-17). Data that arrives later resets it, too
    /// (KP-16).
    pub fn close(&mut self) -> Option<Transmit> {
        if self.hot.state == State::Closed {
            return None;
        }
        if self.hot.rcv.unread > 0 && self.hot.state != State::TimeWait {
            return self.abort();
        }
        self.hot.marks.set(Marks::NO_READER.with(Marks::POLL));
        self.shutdown();
        self.review_progress(); // OPS-22
        None
    }

    /// Ends the connection now and returns the RST to send, if the peer needs one (SM-EST-4, SM-CLG-1). The state is
    /// CLOSED.
    pub fn abort(&mut self) -> Option<Transmit> {
        let needed = match self.hot.state {
            State::Closed => return None,
            State::TimeWait | State::Closing => false,
            // SM-LA-1 needs none either, but data that never arrives must not look like a clean end (MUST-12).
            State::LastAck => self.hot.snd.queued > 0,
            _ => true,
        };
        // The caller has no clock at hand; this is at most as old as what we sent last.
        let reset = needed.then(|| self.reset(self.hot.clock.max(self.hot.snd.last_send)));
        self.finish(CloseReason::Aborted);
        reset
    }

    /// Switches Nagle's algorithm off or on (MUST-17); off flushes what it held back (NAGLE-2), once also what is corked.
    pub fn set_nodelay(&mut self, nodelay: bool) {
        self.hot.marks.put(Marks::NAGLE, !nodelay);
        if nodelay && self.hot.marks.has(Marks::CORK) && self.hot.snd.unsent() > 0 {
            self.hot.marks.set(Marks::SWS_OVERRIDE);
        }
        self.hot.marks.set(Marks::POLL);
    }

    /// Changes the algorithm. Window and threshold stay as they are, the new algorithm goes on from there; what the old one
    /// remembered is gone, a reduction of before cannot be undone any more.
    pub fn set_congestion(&mut self, config: &Config, kind: CongestionControl) {
        if self.cold.controller.kind() != kind {
            self.cold.controller = Controller::new(kind, config.hystart);
            self.hot.congestion.forget_credit();
            self.forget_undo();
        }
    }

    /// The device has taken everything below `upto` ([`Transmit::end_seq`]). What was not reported so is still on its
    /// way to the wire and is never retransmitted: without these calls there are no retransmissions at all.
    #[inline]
    pub fn on_device_write(&mut self, upto: SeqNum) {
        let snd = &mut self.hot.snd;
        snd.written = snd.written.later(upto).earlier(snd.nxt).later(snd.una);
    }

    /// Octets of urgent data that the user has not read yet (MUST-33); urgent data stays in line (RFC6093-6).
    #[must_use]
    pub fn urgent(&self) -> u32 {
        if !self.hot.marks.has(Marks::URGENT) {
            return 0;
        }
        above(self.cold.urgent, self.hot.rcv.nxt - self.hot.rcv.unread)
    }

    /// The record that stands for the connection in TIME-WAIT, which begins now (MUST-13).
    #[must_use]
    pub fn time_wait(&self, config: &Config, now: Instant) -> TimeWait {
        TimeWait::new(self, config, now)
    }

    /// A snapshot for observers.
    #[must_use]
    pub fn info(&self, config: &Config) -> Info {
        let Hot { rcv, snd, .. } = &self.hot;
        let sent = if self.hot.marks.has(Marks::FIN_SENT) { snd.queued } else { snd.flight() };
        Info {
            state: self.hot.state,
            bytes_received: self.hot.received,
            bytes_acked: self.cold.acked,
            bytes_sent: self.cold.acked + u64::from(sent),
            retransmits: u64::from(self.cold.retransmits),
            timeouts: u64::from(self.cold.timeouts),
            paws_drops: u64::from(self.cold.paws_drops),
            recovery: RecoveryCounts {
                tail_probes: self.cold.tail.sent,
                tail_losses: self.cold.tail.losses,
                ..self.cold.episode.as_ref().map(|episode| episode.counts).unwrap_or_default()
            },
            srtt: self.cold.rtt.srtt(),
            rttvar: self.cold.rtt.rttvar(),
            min_rtt: Some(self.cold.min_rtt).filter(|rtt| *rtt != Duration::MAX),
            rto: self.cold.rtt.rto(&config.rtt()),
            congestion: self.cold.controller.kind(),
            cwnd: self.hot.congestion.cwnd(),
            ssthresh: self.hot.congestion.ssthresh(),
            flight: snd.flight(),
            queued: snd.queued,
            send_limit: snd.limit,
            not_sent: snd.unsent(),
            lost: self.cold.board.lost(),
            sacked: self.cold.board.sacked(),
            loss_state: match self.hot.recovery {
                Recovery::Open if snd.dup_acks > 0 || self.cold.board.sacked() > 0 => LossState::Disorder,
                Recovery::Open => LossState::Open,
                Recovery::Fast => LossState::Recovery,
                Recovery::Loss => LossState::Loss,
            },
            backoffs: u32::from(self.cold.rtt.backoffs()),
            probes: self.cold.probes,
            last_sent: snd.last_send,
            last_received: self.hot.clock,
            send_window: snd.wnd,
            receive_window: rcv.window(),
            receive_buffer: rcv.buffer,
            unread: rcv.unread,
            held: self.cold.held.octets(),
            mss: self.smss(),
            receive_mss: u32::from(rcv.mss),
            timestamps: self.hot.marks.has(Marks::TIMESTAMPS),
            sack: self.hot.marks.has(Marks::SACK),
            window_shifts: (snd.shift, rcv.shift),
        }
    }

    /// SMSS: payload of a full segment without SACK blocks.
    #[inline]
    pub(super) fn smss(&self) -> u32 {
        let stamps = if self.hot.marks.has(Marks::TIMESTAMPS) { 12 } else { 0 };
        u32::from(self.hot.snd.mss).saturating_sub(stamps).max(1)
    }

    /// Whether our FIN was sent and acknowledged.
    #[inline]
    pub(super) fn fin_acked(&self) -> bool {
        self.hot.marks.has(Marks::FIN_SENT) && self.hot.snd.una == self.hot.snd.nxt
    }

    /// Enters CLOSED.
    pub(super) fn finish(&mut self, reason: CloseReason) {
        self.hot.state = State::Closed;
        self.hot.predictable = false;
        self.hot.timers.cancel_all();
        self.hot.marks.clear(Marks::POLL.with(Marks::ACK_DUE).with(Marks::PROBE_DUE).with(Marks::FAST_RTX));
        self.cold.held.clear();
        self.cold.reason.get_or_insert(reason);
    }

    /// Enters TIME-WAIT: all timers stop (SM-FW2-2), the record that replaces this one has its own.
    pub(super) fn enter_time_wait(&mut self) {
        self.hot.state = State::TimeWait;
        self.hot.predictable = false;
        self.hot.timers.cancel_all();
        self.cold.reason.get_or_insert(CloseReason::Normal);
    }

    /// Decides anew whether header prediction may be tried.
    #[inline]
    pub(super) fn review_prediction(&mut self) {
        let flowing = !matches!(self.hot.state, State::TimeWait | State::Closed);
        self.hot.predictable = flowing
            && self.hot.recovery == Recovery::Open
            && self.hot.snd.dup_acks == 0
            && self.cold.board.gone() == 0
            && !self.cold.tail.outstanding
            && !self.hot.marks.has(Marks::UNSCALED.with(Marks::PRESSURE))
            && self.cold.held.is_empty();
    }
}

/// A time in whole seconds, for TS.Recent.
#[inline]
pub(super) fn seconds(now: Instant) -> u32 {
    now.as_secs() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hot_record_is_three_cache_lines() {
        assert_eq!(size_of::<RecvSequenceSpace>(), 40);
        assert_eq!(core::mem::offset_of!(Hot, snd), 64);
        assert_eq!(size_of::<SendSequenceSpace>(), 64);
        assert_eq!(core::mem::offset_of!(Hot, congestion), 128);
        assert_eq!(size_of::<Hot>(), 192);
        assert_eq!(align_of::<Hot>(), 64);
        assert!(size_of::<Connection>() <= 576, "{}", size_of::<Connection>());
    }
}
