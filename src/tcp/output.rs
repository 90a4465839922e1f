//! `poll_transmit` and `take_ack`: what leaves, and when.
//!
//! In this order: a tail loss probe, what is lost, new data with its FIN, a window probe, an ACK. Every segment but a RST carries the newest ACK, so data spares the pure one (MUST-58).

use super::config::Config;
use super::connection::{Connection, Hot, Recovery};
use super::handshake::ticks;
use super::marks::Marks;
use super::recovery::Frto;
use super::segment::Transmit;
use super::send::above;
use super::seq::SeqNum;
use super::state::State;
use super::time::{Duration, Instant};
use super::timers::Timer;
use crate::wire::options::{SackBlocks, TIMESTAMPS_LEN, TcpOptions, Timestamps};
use crate::wire::tcp::Flags;

impl Connection {
    /// The next segment to send, of at most `max_len` payload octets or one wire segment, whichever is more (0: always
    /// one wire segment, for a device that cuts nothing); call until `None`.
    ///
    /// With `max_len` above one segment's payload the result may be a super-segment, which the device cuts into wire
    /// segments of `gso_size`. What is returned counts as sent: call only when there is room for it, and report with
    /// [`on_device_write`](Self::on_device_write) when the device has taken it.
    pub fn poll_transmit(&mut self, config: &Config, now: Instant, max_len: u32) -> Option<Transmit> {
        if !self.wants_transmit() {
            return None;
        }
        if matches!(self.hot.state, State::Closed | State::TimeWait) {
            self.hot.marks.clear(Marks::POLL.with(Marks::ACK_DUE));
            return None;
        }
        if self.cold.tail.due
            && let Some(probe) = self.probe_tail(config, now)
        {
            return Some(probe);
        }
        loop {
            if (self.cold.board.lost() > 0 || self.hot.marks.has(Marks::FAST_RTX))
                && let Some(segment) = self.resend(config, now, max_len)
            {
                return Some(segment);
            }
            if let Some(segment) = self.send(config, now, max_len) {
                return Some(segment);
            }
            if self.frto() != Frto::Probing || self.hot.snd.nxt != self.hot.snd.recover {
                break;
            }
            // RFC5682-2.2b: new data, and nothing else until the next acknowledgment. There is none.
            self.episode().frto = Frto::Off;
        }
        self.note_rate_limit();
        if self.hot.marks.take(Marks::PROBE_DUE)
            && let Some(probe) = self.probe(config, now)
        {
            return Some(probe);
        }
        if self.hot.marks.has(Marks::ACK_DUE) {
            return Some(self.take_ack(now));
        }
        self.hot.marks.clear(Marks::POLL);
        self.arm_stalled(config, now);
        None
    }

    /// The ACK that `Outcome::ack_now` asked for: a segment without payload that says what we have now (SM-GEN-6). It
    /// stands for every ACK owed until now.
    pub fn take_ack(&mut self, now: Instant) -> Transmit {
        let options = self.options(now);
        let seq = self.hot.snd.nxt;
        self.build(seq, Flags::ACK, options)
    }

    /// The RST that tells the peer of an abort: `<SEQ=SND.NXT>` (SM-EST-4), with timestamps (RFC7323-5.2a).
    ///
    /// The peer wants its RCV.NXT exactly (RFC5961-3.2), and where we have sent more than it has acknowledged nobody knows
    /// that. In nearly all cases it is SND.NXT: what is on its way, a FIN that crosses the peer's data above all, arrives before
    /// the RST. SEG.ACK would then lie below the window, and the RST be dropped without a word (SM-RST-1). If something was
    /// lost, SND.NXT lies within the window: the challenge ACK names the right number, and is answered with it. So SND.NXT it is,
    /// but for a window that has shrunk below it, which is not taken beyond its edge. The edge is rounded down where the
    /// window is scaled.
    pub(super) fn reset(&self, now: Instant) -> Transmit {
        let hot = &self.hot;
        let edge = hot.snd.una + hot.snd.wnd;
        let beyond = above(hot.snd.nxt, edge) >= 1 << hot.snd.shift;
        let seq = if beyond { edge } else { hot.snd.nxt };
        let mut reset = Transmit::bare(seq, hot.rcv.nxt, Flags::RST | Flags::ACK, 0);
        reset.options.timestamps = self.stamps(now);
        reset
    }

    #[inline]
    fn stamps(&self, now: Instant) -> Option<Timestamps> {
        let rcv = &self.hot.rcv;
        self.hot.marks.has(Marks::TIMESTAMPS).then(|| Timestamps { val: ticks(now, rcv.ts_offset), ecr: rcv.ts_recent })
    }

    /// The options of a segment that leaves now: timestamps on each (RFC7323-3.2a), SACK blocks while something is held
    /// or was received twice (RFC2018-4b).
    #[inline]
    pub(super) fn options(&self, now: Instant) -> TcpOptions {
        let timestamps = self.stamps(now);
        let mut sack = SackBlocks::default();
        if self.hot.marks.has(Marks::SACK) && self.cold.report.is_due(&self.cold.held) {
            // RFC2018-3a: four blocks fill the option space, three what timestamps leave of it.
            let (most, stamps) = if timestamps.is_some() { (3, TIMESTAMPS_LEN) } else { (4, 0) };
            // Where the link carries hardly more than headers: as many as leave an octet of payload.
            let room = most.min(usize::from(self.hot.snd.mss).saturating_sub(stamps + 5) / 8);
            sack = self.cold.report.blocks(&self.cold.held, room);
        }
        TcpOptions { timestamps, sack, ..TcpOptions::default() }
    }

    /// A segment with the newest ACK and window. No ACK is owed after it.
    #[inline]
    fn build(&mut self, seq: SeqNum, flags: Flags, options: TcpOptions) -> Transmit {
        let Hot { rcv, marks, timers, .. } = &mut self.hot;
        let window = rcv.advertise();
        rcv.acked = rcv.nxt;
        rcv.segments = 0;
        marks.clear(Marks::ACK_DUE);
        timers.cancel(Timer::DelayedAck);
        if !options.sack.is_empty() {
            self.cold.report.told();
        }
        let mut segment = Transmit::bare(seq, rcv.nxt, flags | Flags::ACK, window);
        segment.options = options;
        segment
    }

    /// A segment with `len` octets of the store, and the FIN where `fin` says so. Marks what goes with each of them.
    pub(super) fn build_data(&mut self, seq: SeqNum, len: u32, fin: bool, mss: u32, options: TcpOptions) -> Transmit {
        let snd = &self.hot.snd;
        let offset = above(seq, snd.una);
        let mut flags = Flags::ACK;
        // MUST-61: PSH where the queue empties, SHLD-27: on the last wire segment only.
        if len > 0 && seq + len == snd.data_end() {
            flags |= Flags::PSH;
        }
        if fin {
            flags |= Flags::FIN;
        }
        let mut segment = self.build(seq, flags, options);
        segment.offset = offset;
        segment.len = len;
        // KP-18: what the options of this very segment leave of the MSS.
        segment.gso_size = if len > mss { mss.min(65_535) as u16 } else { 0 };
        segment
    }

    /// Payload of a full wire segment with these options (MUST-16, RFC6691-2b).
    #[inline]
    pub(super) fn effective_mss(&self, options: &TcpOptions) -> u32 {
        let len = u32::try_from(options.wire_len()).unwrap_or(40);
        u32::from(self.hot.snd.mss).saturating_sub(len).max(1)
    }

    /// What is lost, lowest first, as the window allows; the first of a recovery in any case.
    #[cold]
    fn resend(&mut self, config: &Config, now: Instant, max_len: u32) -> Option<Transmit> {
        let forced = self.hot.marks.take(Marks::FAST_RTX);
        let una = self.hot.snd.una;
        if !forced && self.frto() == Frto::Probing {
            return None;
        }
        let options = self.options(now);
        let mss = self.effective_mss(&options);
        let (start, end) = self.cold.board.first_lost(una, mss)?;
        let snd = &self.hot.snd;
        let end = end.earlier(snd.written);
        let lost = above(end.earlier(snd.data_end()), start);
        // SHLD-16: within the window as it is now.
        let window = above(una + snd.wnd, start);
        let (room, most) = if forced {
            (mss, mss) // RFC5681-3.2.3, RFC6298-5.4, KP-14
        } else {
            (self.hot.congestion.cwnd().saturating_sub(self.pipe()), whole_segments(max_len, mss))
        };
        let mut len = lost.min(room).min(window).min(most);
        if len < lost && len >= mss {
            len -= len % mss;
        }
        // A piece only where it is the end, or all that the window lets through at SND.UNA.
        if len < lost && len < mss && !(len == window && start == una) {
            return None;
        }
        // KP-15: the FIN rides on the last data also when that leaves once more; it takes none of cwnd.
        let fin = (room > 0 && window > len || forced) && end.gt(start + len) && self.fin_at(start + len);
        if len == 0 && !fin {
            return None;
        }
        let segment = self.build_data(start, len, fin, mss, options);
        let segment = self.book_resent(segment, mss, now);
        self.arm_loss_timer(config, now); // RFC6298-5.0: no ACK need come that would
        Some(segment)
    }

    /// Books what leaves again.
    pub(super) fn book_resent(&mut self, mut segment: Transmit, mss: u32, now: Instant) -> Transmit {
        segment.retransmission = true;
        let pieces = segment.len.div_ceil(mss.max(1)).max(1);
        self.cold.retransmits = self.cold.retransmits.saturating_add(pieces);
        let end = segment.end_seq();
        self.note_resent(&segment, now);
        let Hot { snd, marks, recovery, .. } = &mut self.hot;
        snd.last_send = now;
        snd.resent_end = snd.resent_end.later(end);
        self.cold.board.resent(snd.una, segment.seq, end, now);
        marks.set(Marks::KARN);
        if snd.timed.gt(segment.seq) {
            marks.clear(Marks::TIMING); // RFC6298-3a
        }
        if snd.una == segment.seq && *recovery == Recovery::Fast && !marks.has(Marks::PARTIAL_SEEN) {
            // RFC6298-5.0: the timer must not fire for this segment earlier than an RTO from now.
            self.cold.rto_base = now;
        }
        segment
    }

    /// Something waits, and the rate reduction of a recovery holds it back.
    fn note_rate_limit(&mut self) {
        if self.hot.recovery != Recovery::Fast || !self.hot.marks.has(Marks::SACK) {
            return;
        }
        if self.cold.board.lost() > 0 || self.hot.snd.unsent() > 0 {
            self.count(|counts| counts.rate_limited += 1);
        }
    }

    /// Whether our FIN, sent before and taken by the device, has the number `seq`.
    fn fin_at(&self, seq: SeqNum) -> bool {
        let snd = &self.hot.snd;
        self.hot.marks.has(Marks::FIN_SENT) && seq == snd.data_end() && seq.lt(snd.written)
    }

    /// New data and the FIN, as far as windows, Nagle and SWS avoidance let them go.
    #[inline]
    fn send(&mut self, config: &Config, now: Instant, max_len: u32) -> Option<Transmit> {
        let unsent = self.hot.snd.unsent();
        let fin = self.hot.marks.has(Marks::FIN_QUEUED) && !self.hot.marks.has(Marks::FIN_SENT);
        if unsent == 0 && !fin {
            return None;
        }
        // What is lost goes first.
        if self.cold.board.lost() > 0 && self.frto() != Frto::Probing || !self.cold.board.has_room() {
            return None;
        }
        self.restart_after_idle(config, now);
        let mss = self.next_mss(now);
        let len = self.permitted(unsent, mss, max_len)?;
        // KP-15: the FIN rides on the last data; it takes an octet of the peer's window, none of cwnd.
        let fin = fin && len == unsent && self.hot.snd.window_room() > len;
        if len == 0 && !fin {
            return None;
        }
        let options = self.options(now);
        debug_assert_eq!(mss, self.effective_mss(&options), "what was reckoned with is what leaves");
        Some(self.send_new(config, now, len, fin, mss, options))
    }

    /// [`effective_mss`](Self::effective_mss) of a segment that would leave now; nearly always without building its options.
    #[inline]
    fn next_mss(&self, now: Instant) -> u32 {
        if self.hot.marks.has(Marks::SACK) && self.cold.report.is_due(&self.cold.held) {
            return self.effective_mss(&self.options(now));
        }
        let len = if self.hot.marks.has(Marks::TIMESTAMPS) { TIMESTAMPS_LEN } else { 0 };
        u32::from(self.hot.snd.mss).saturating_sub(len as u32).max(1)
    }

    /// Builds and books a segment of `len` new octets.
    pub(super) fn send_new(
        &mut self,
        config: &Config,
        now: Instant,
        len: u32,
        fin: bool,
        mss: u32,
        options: TcpOptions,
    ) -> Transmit {
        let segment = self.build_data(self.hot.snd.nxt, len, fin, mss, options);
        let end = segment.end_seq();
        let Hot { snd, marks, timers, congestion, recovery, .. } = &mut self.hot;
        if snd.una == snd.nxt {
            timers.set(Timer::GiveUp, self.cold.watch_progress(config, *marks, now));
            self.cold.rto_base = now; // RFC6298-5.1
        }
        if *recovery == Recovery::Open && (snd.dup_acks > 0 || self.cold.board.sacked() > 0) {
            self.cold.limited_transmit = self.cold.limited_transmit.saturating_add(len);
        }
        if self.cold.acked >= STREAM && len < snd.unsent() {
            self.cold.board.expect_many();
        }
        self.cold.board.sent(end, now, grain(self.cold.min_rtt));
        if *recovery == Recovery::Fast
            && let Some(episode) = self.cold.episode.as_mut()
        {
            episode.prr.on_sent(above(end, snd.nxt));
        }
        snd.nxt = end;
        snd.last_send = now;
        if !len.is_multiple_of(mss) {
            snd.sml = segment.seq + len;
        }
        if *recovery == Recovery::Open && !marks.has(Marks::TIMING.with(Marks::KARN)) {
            marks.set(Marks::TIMING);
            snd.timed = end;
            self.cold.timed_at = now;
        }
        if fin {
            marks.set(Marks::FIN_SENT);
        }
        marks.clear(Marks::SWS_OVERRIDE.with(Marks::PROBE_DUE));
        // RFC9438-5.8: how far this window was used; a part of it that leaves late, or while ACKs of the rest come in, does
        // not make that less.
        let pipe = snd.flight().saturating_sub(self.cold.board.gone());
        let full = congestion.cwnd().saturating_sub(pipe) < mss;
        let begins = full || snd.una.ge(self.cold.loaded_end);
        if begins {
            marks.put(Marks::CWND_LIMITED, full);
        }
        if begins || pipe > self.cold.loaded {
            self.cold.loaded = pipe;
            // What follows a full window is not full for being more.
            if begins || !marks.has(Marks::CWND_LIMITED) {
                self.cold.loaded_end = end;
            }
        }
        timers.cancel(Timer::SwsOverride);
        timers.cancel(Timer::Persist);
        self.arm_loss_timer(config, now);
        segment
    }

    /// How much of `unsent` may leave now; `None` to wait. `Some(0)` when there is nothing but a FIN.
    fn permitted(&mut self, unsent: u32, mss: u32, max_len: u32) -> Option<u32> {
        if unsent == 0 {
            return Some(0);
        }
        let pipe = self.pipe();
        let holes = self.cold.board.gone() > 0;
        let Hot { snd, congestion, marks, recovery, .. } = &mut self.hot;
        let flight = snd.flight();
        let dup_acks = u32::from(snd.dup_acks);
        let mut cwnd = congestion.cwnd();
        if *recovery == Recovery::Open && dup_acks > 0 {
            cwnd = cwnd.saturating_add(dup_acks.min(2) * mss); // RFC3042-2a, 2b
        }
        let by_window = snd.window_room();
        let by_cwnd = cwnd.saturating_sub(pipe);
        let usable = by_window.min(by_cwnd); // RFC5681-3.1a
        if usable >= unsent {
            // Everything fits. SHLD-28: a part of a segment goes only at the very end.
            let most = whole_segments(max_len, mss);
            if unsent > most {
                return Some(most);
            }
            let tail = unsent % mss;
            let held = tail > 0 && self.holds_tail();
            let len = if held { unsent - tail } else { unsent };
            return (len > 0).then_some(len);
        }
        if by_cwnd < by_window {
            marks.set(Marks::CWND_LIMITED);
            self.cold.loaded_end = snd.nxt;
        }
        let len = (usable - usable % mss).min(whole_segments(max_len, mss));
        if len == 0 {
            // SWS-3, SWS-4: a piece only when the peer's own window is small, and ACKs will not open it soon.
            let small_window = by_window <= by_cwnd && usable > 0;
            let idle = flight == 0;
            let half = usable >= snd.max_wnd / 2 && (idle || !marks.has(Marks::NAGLE));
            let piece = small_window && (half || (idle && marks.has(Marks::SWS_OVERRIDE)));
            return piece.then_some(usable.min(whole_segments(max_len, mss)));
        }
        // While ACKs are due, rather one large segment with the next of them than many small ones (OPS-12).
        let may_wait = flight > 0 && *recovery == Recovery::Open && dup_acks == 0 && !holes;
        let goal = || burst(cwnd.min(snd.wnd), mss, self.cold.rtt.srtt(), self.cold.min_rtt);
        if may_wait && len < goal().min(whole_segments(max_len, mss)) { None } else { Some(len) }
    }

    /// Nagle in Minshall's variant (SHLD-7, NAGLE-3): a small segment waits while another small one is unacknowledged.
    /// Never the last one before a FIN (NAGLE-4, KP-15). A corked one waits in any case (NAGLE-5).
    pub(super) fn holds_tail(&self) -> bool {
        let marks = self.hot.marks;
        let corked = marks.has(Marks::CORK) && !marks.has(Marks::SWS_OVERRIDE);
        !marks.has(Marks::FIN_QUEUED) && (corked || (marks.has(Marks::NAGLE) && self.hot.snd.small_outstanding()))
    }

    /// RFC5681-4.1: after an RTO without sending, the path is unknown again.
    fn restart_after_idle(&mut self, config: &Config, now: Instant) {
        let snd = &self.hot.snd;
        if config.slow_start_after_idle && snd.una == snd.nxt && now - snd.last_send > self.cold.rtt.rto(&config.rtt())
        {
            let window = config.initial_cwnd(self.smss());
            self.cold.controller.on_idle_restart(&mut self.hot.congestion, window);
            self.forget_undo();
        }
    }

    /// A window probe: below SND.UNA and empty, so that it is answered whatever the window, and there is nothing to be
    /// accepted by halves (ZW-2). When a FIN is all that is left, the FIN itself (SM-FW1-5): it needs no buffer.
    fn probe(&mut self, config: &Config, now: Instant) -> Option<Transmit> {
        let snd = &self.hot.snd;
        let una = snd.una;
        let options = self.options(now);
        if self.probes_for_life() {
            return Some(self.build(una - 1, Flags::ACK, options)); // SHLD-12: SND.NXT is SND.UNA
        }
        if snd.queued == 0 && self.hot.marks.has(Marks::FIN_QUEUED) {
            let mss = self.effective_mss(&options);
            if !self.hot.marks.has(Marks::FIN_SENT) {
                return Some(self.send_new(config, now, 0, true, mss, options));
            }
            if self.fin_at(una) {
                let fin = self.build_data(una, 0, true, mss, options);
                return Some(self.book_resent(fin, mss, now));
            }
            return None;
        }
        (snd.queued > 0).then(|| self.build(una - 1, Flags::ACK, options))
    }

    /// Nothing leaves by itself any more. What waits for the peer's window, and has no retransmission timer to wake it,
    /// gets a timer of its own (MUST-36, SHLD-29, SWS-4).
    fn arm_stalled(&mut self, config: &Config, now: Instant) {
        let Hot { snd, marks, timers, state, .. } = &mut self.hot;
        if *state == State::FinWait2 && marks.has(Marks::NO_READER) {
            timers.set_if_unset(Timer::FinWait2, now + config.fin_wait2);
        }
        let fin = marks.has(Marks::FIN_QUEUED) && !marks.has(Marks::FIN_SENT);
        if snd.una != snd.nxt || (snd.unsent() == 0 && !fin) {
            return;
        }
        if snd.window_room() == 0 {
            if !timers.is_set(Timer::Persist) {
                timers.set(Timer::Persist, now + self.cold.persist_interval(config));
                if !timers.is_set(Timer::GiveUp) || marks.has(Marks::KEEP_ALIVE) {
                    timers.set(Timer::GiveUp, self.cold.watch_progress(config, *marks, now));
                }
            }
        } else {
            timers.set_if_unset(Timer::SwsOverride, now + config.sws_override);
        }
    }
}

/// Octets acknowledged after which a connection that has more to send than it may is taken for a stream.
const STREAM: u64 = 1 << 16;

/// Round trips below this have no queue on the way that a large burst could fill: they stay within one machine, or one
/// switch away.
const NEAR: Duration = Duration::from_micros(512);

/// How much of `window` a sender may hold back until it leaves in one piece, in whole segments (OPS-12).
///
/// On a path, what the window lets go in 1 to 2 ms, but two segments, which is what one ACK stands for, and no more than
/// an eighth: a larger burst is more than a small queue holds, and what waits is missing in flight. Over the shortest
/// round trips half of the window. In any case at least half of it stays in flight, and its ACKs end the wait.
#[inline]
fn burst(window: u32, mss: u32, srtt: Option<Duration>, min_rtt: Duration) -> u32 {
    let half = window / 2;
    let most = if min_rtt < NEAR {
        half
    } else {
        // 2^20 ns are a millisecond, near enough, and the power of two below the round trip is, too.
        let shift = (srtt.unwrap_or_default().as_nanos() >> 20 | 8).ilog2();
        (window.checked_shr(shift).unwrap_or(0)).max(2 * mss).min(half)
    };
    most - most % mss
}

/// Transmissions that are closer together than this count as one: an eighth of what RFC8985-4b allows.
#[inline]
fn grain(min_rtt: Duration) -> Duration {
    if min_rtt == Duration::MAX { Duration::ZERO } else { min_rtt / 32 }
}

/// As many octets as fit `max_len` in whole segments; one segment where not even that fits.
#[inline]
fn whole_segments(max_len: u32, mss: u32) -> u32 {
    let max_len = max_len.min(65_535);
    (max_len - max_len % mss).max(mss)
}
