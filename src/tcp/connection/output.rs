//! `poll_transmit` and `take_ack`: what leaves, and when.
//!
//! In this order: a tail loss probe, what is lost, new data with its FIN, a window probe, an ACK. Every segment but a
//! RST carries the newest ACK, so data spares the pure one (MUST-58).

use crate::tcp::base::config::Config;
use crate::tcp::base::info::{LossState, SendLimit};
use crate::tcp::base::segment::Transmit;
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::state::State;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::base::timers::Timer;
use crate::tcp::base::units::UnscaledWindow;
use crate::tcp::connection::path_mtu::Search;
use crate::tcp::connection::{Connection, ConnectionFlags};
use crate::tcp::recovery::{Phase, SendNumbers};
use crate::wire::options::{MAX_LEN, SackBlocks, TIMESTAMPS_LEN, TcpOptions};
use crate::wire::tcp::Flags;

/// What of the stream a segment is to carry, and how.
#[derive(Clone, Copy)]
struct Piece {
    /// Octets of the store.
    len: u32,
    /// Our FIN behind them.
    fin: bool,
    /// What the options leave of a full wire segment.
    mss: u32,
    /// SACK blocks are among them.
    reports: bool,
}

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
        let probe_due = self.recovery.take_probe();
        if probe_due || self.precedes_new_data() {
            return self.poll_first(config, now, max_len, probe_due);
        }
        self.poll_new(config, now, max_len)
    }

    /// Whether anything comes before new data, or may, beside a tail loss probe.
    #[inline]
    fn precedes_new_data(&self) -> bool {
        matches!(self.state, State::Closed | State::TimeWait)
            || self.flags.contains(ConnectionFlags::SEARCH)
            || self.recovery.has_to_resend()
    }

    /// [`poll_transmit`](Self::poll_transmit) from its beginning, for all cases.
    #[inline(never)]
    fn poll_first(&mut self, config: &Config, now: Instant, max_len: u32, probe_due: bool) -> Option<Transmit> {
        if matches!(self.state, State::Closed | State::TimeWait) {
            self.flags.remove(ConnectionFlags::POLL);
            self.receiver.drop_ack();
            return None;
        }
        if probe_due && let Some(probe) = self.probe_tail(config, now) {
            return Some(probe);
        }
        if self.recovery.has_to_resend()
            && let Some(segment) = self.resend(config, now, max_len)
        {
            return Some(segment);
        }
        if self.flags.contains(ConnectionFlags::SEARCH) {
            match self.search_path(now) {
                Search::Probe { len } => return Some(self.probe_path(config, len, now)),
                Search::Wait => return self.poll_last(config, now),
                Search::Pass => {}
            }
        }
        self.poll_new(config, now, max_len)
    }

    /// [`poll_transmit`](Self::poll_transmit) where nothing comes before new data.
    #[inline(never)]
    fn poll_new(&mut self, config: &Config, now: Instant, max_len: u32) -> Option<Transmit> {
        match self.next_piece(config, now, max_len) {
            // Without a choice at its end the segment is made where the caller wants it.
            Some(piece) if !piece.reports => Some(self.send_last(config, &Piece { reports: false, ..piece }, now)),
            Some(piece) => Some(self.send_reporting(config, &piece, now)),
            None => self.poll_rest(config, now, max_len),
        }
    }

    /// The rest of [`poll_transmit`](Self::poll_transmit), when no new data may leave.
    #[inline(never)]
    fn poll_rest(&mut self, config: &Config, now: Instant, max_len: u32) -> Option<Transmit> {
        // RFC5682-2.2b: new data, and nothing else until the next acknowledgment. There may be none.
        if self.recovery.on_nothing_left(self.sender.nxt(), self.sender.unsent()) {
            return self.poll_first(config, now, max_len, false);
        }
        self.poll_last(config, now)
    }

    /// A window probe, or an ACK.
    #[inline]
    fn poll_last(&mut self, config: &Config, now: Instant) -> Option<Transmit> {
        if self.flags.contains(ConnectionFlags::PROBE_DUE) {
            self.flags.remove(ConnectionFlags::PROBE_DUE);
            if let Some(probe) = self.probe(config, now) {
                return Some(probe);
            }
        }
        let ack = self.receiver.is_ack_pending().then(|| self.take_ack(now));
        // Nothing that was looked at on the way here changes by an ACK, but what a recovery counts.
        if ack.is_none() || self.recovery.phase() == Phase::Open {
            self.flags.remove(ConnectionFlags::POLL);
            self.arm_stalled(config, now);
            self.note_limit(now);
        }
        ack
    }

    /// What holds the sender up is noted for observers.
    fn note_limit(&mut self, now: Instant) {
        let sender = &self.sender;
        let unsent = sender.unsent();
        let limit = if unsent == 0 {
            match sender.flight() {
                0 => SendLimit::Idle,
                _ if sender.is_full() && self.state.can_send() => SendLimit::SendBuffer,
                _ => SendLimit::Busy,
            }
        } else {
            let segment = unsent.min(self.smss());
            let held = sender.window_room() < segment && self.congestion.cwnd().saturating_sub(self.pipe()) >= segment;
            if held { SendLimit::ReceiveWindow } else { SendLimit::Busy }
        };
        self.observed.limited_by(limit, now);
    }

    /// The ACK that `Outcome::ack_now` asked for: a segment without payload that says what we have now (SM-GEN-6). It
    /// stands for every ACK owed until now.
    pub fn take_ack(&mut self, now: Instant) -> Transmit {
        self.build_empty(self.sender.nxt(), now)
    }

    /// The RST that tells the peer of an abort: `<SEQ=SND.NXT>` (SM-EST-4), with timestamps (RFC7323-5.2a).
    ///
    /// The peer wants its RCV.NXT exactly (RFC5961-3.2), and where we have sent more than it has acknowledged nobody
    /// knows that. In nearly all cases it is SND.NXT: what is on its way, a FIN that crosses the peer's data above all,
    /// arrives before the RST. SEG.ACK would then lie below the window, and the RST be dropped without a word
    /// (SM-RST-1). If something was lost, SND.NXT lies within the window: the challenge ACK names the right number, and
    /// is answered with it. So SND.NXT it is, but for a window that has shrunk below it, which is not taken beyond its
    /// edge. The edge is rounded down where the window is scaled.
    pub(super) fn reset(&self, now: Instant) -> Transmit {
        let (nxt, edge) = (self.sender.nxt(), self.sender.window_edge());
        let beyond = nxt.above(edge) >= self.sender.scale().scaled(UnscaledWindow(1));
        let seq = if beyond { edge } else { nxt };
        let mut reset = Transmit::bare(seq, self.receiver.nxt(), Flags::RST | Flags::ACK, UnscaledWindow(0));
        reset.options.timestamps = self.receiver.timestamps().outgoing(now);
        reset
    }

    /// The options of a segment that leaves now: timestamps on each (RFC7323-3.2a), SACK blocks while something is held
    /// or was received twice (RFC2018-4b).
    fn options(&self, now: Instant) -> TcpOptions {
        let timestamps = self.receiver.timestamps().outgoing(now);
        let sack =
            if self.reassembly.is_report_due() { self.report(timestamps.is_some()) } else { SackBlocks::default() };
        TcpOptions { timestamps, sack, ..TcpOptions::default() }
    }

    /// The SACK blocks of a segment that leaves now, with or without timestamps.
    #[cold]
    fn report(&self, stamped: bool) -> SackBlocks {
        // RFC2018-3a: four blocks fill the option space, three what timestamps leave of it.
        let (most, stamps) = if stamped { (3, TIMESTAMPS_LEN) } else { (4, 0) };
        // Where the link carries hardly more than headers: as many as leave an octet of payload.
        let room = most.min((self.sender.mss() as usize).saturating_sub(stamps + 5) / 8);
        self.reassembly.blocks(room)
    }

    /// Payload of a full wire segment with these options (MUST-16, RFC6691-2b).
    fn effective_mss(&self, options: &TcpOptions) -> u32 {
        let len = u32::try_from(options.wire_len()).unwrap_or(MAX_LEN as u32);
        self.sender.mss().saturating_sub(len).max(1)
    }

    /// Payload of a full wire segment that leaves now, and whether there are SACK blocks beside it. Options need hardly
    /// ever be built for that.
    #[inline]
    fn segment_size(&self, now: Instant) -> (u32, bool) {
        if self.reassembly.is_report_due() {
            (self.effective_mss(&self.options(now)), true)
        } else {
            (self.smss(), false)
        }
    }

    /// A segment with the newest ACK and window, whose payload is so many octets from an offset in the send store on, cut
    /// at a size. No ACK is owed after it. Within who sends most of them: it is not copied then.
    #[inline(always)]
    fn build(
        &mut self,
        seq: SeqNum,
        flags: Flags,
        (offset, len, gso_size): (u32, u32, u16),
        reports: bool,
        now: Instant,
    ) -> Transmit {
        let (ack, window) = self.receiver.acknowledge();
        self.timers.cancel(Timer::DelayedAck);
        let timestamps = self.receiver.timestamps().outgoing(now);
        let options = TcpOptions { timestamps, ..TcpOptions::default() };
        let bare = Transmit::bare(seq, ack, flags | Flags::ACK, window);
        let segment = Transmit { options, offset, len, gso_size, ..bare };
        if reports { self.with_report(segment) } else { segment }
    }

    /// The segment with SACK blocks.
    #[cold]
    fn with_report(&mut self, mut segment: Transmit) -> Transmit {
        segment.options.sack = self.report(segment.options.timestamps.is_some());
        if !segment.options.sack.is_empty() {
            self.reassembly.on_reported();
        }
        segment
    }

    /// A segment that has neither payload nor FIN.
    fn build_empty(&mut self, seq: SeqNum, now: Instant) -> Transmit {
        self.build(seq, Flags::ACK, (0, 0, 0), self.reassembly.is_report_due(), now)
    }

    /// A segment with `piece` of the stream, which begins at `seq`.
    #[inline(always)]
    fn build_data(&mut self, seq: SeqNum, piece: &Piece, now: Instant) -> Transmit {
        let &Piece { len, fin, mss, reports } = piece;
        let offset = seq.above(self.sender.una());
        let mut flags = Flags::ACK;
        // MUST-61: PSH where the queue empties, SHLD-27: on the last wire segment only.
        if len > 0 && seq + len == self.sender.numbers().data_end {
            flags |= Flags::PSH;
        }
        if fin {
            flags |= Flags::FIN;
        }
        // KP-18: what the options of this very segment leave of the MSS.
        let gso_size = if len > mss { mss.min(65_535) as u16 } else { 0 };
        self.build(seq, flags, (offset, len, gso_size), reports, now)
    }

    // ---- what was sent before ---------------------------------------------------------------------------------------

    /// What is lost, lowest first, as the window allows; the first of a recovery in any case.
    #[cold]
    fn resend(&mut self, config: &Config, now: Instant, max_len: u32) -> Option<Transmit> {
        let (mss, reports) = self.segment_size(now);
        let SendNumbers { una, written, data_end, .. } = self.sender.numbers();
        let ((start, end), forced) = self.recovery.take_lost(una, mss)?;
        let end = end.earlier(written);
        let lost = end.earlier(data_end).above(start);
        // SHLD-16: within the window as it is now.
        let window = self.sender.window_edge().above(start);
        let (room, most) = if forced {
            (mss, mss) // RFC5681-3.2.3, RFC6298-5.4, KP-14
        } else {
            (self.congestion.cwnd().saturating_sub(self.pipe()), whole_segments(max_len, mss))
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
        let fin_fits = end.gt(start + len) && self.sender.is_fin_at(start + len);
        let fin = (room > 0 && window > len || forced) && fin_fits;
        if len == 0 && !fin {
            return None;
        }
        let segment = self.send_again(start, &Piece { len, fin, mss, reports }, now);
        self.arm_loss_timer(config, now); // RFC6298-5.0: no ACK need come that would
        Some(segment)
    }

    /// Builds and books what leaves again.
    fn send_again(&mut self, start: SeqNum, piece: &Piece, now: Instant) -> Transmit {
        let mut segment = self.build_data(start, piece, now);
        segment.resent = Some(match self.recovery.phase() {
            Phase::Open => LossState::Open,
            Phase::Fast => LossState::Recovery,
            Phase::Loss => LossState::Loss,
        });
        let pieces = segment.len.div_ceil(piece.mss.max(1)).max(1);
        let clock = self.receiver.timestamps().clock();
        self.recovery.on_resent(self.sender.una(), &segment, pieces, clock, now);
        self.rtt.on_resent(segment.seq);
        self.end_probe(Some((start, segment.seq + segment.len)));
        self.observed.bytes_resent += u64::from(segment.len);
        self.last_sent = now;
        segment
    }

    /// The tail loss probe: new data if there is any that the peer allows, beyond cwnd if need be, or the last segment
    /// once more (RFC8985-7.3b). Not what is held back to fill a segment (NAGLE-3, NAGLE-5): the last segment tells as
    /// much.
    #[cold]
    fn probe_tail(&mut self, config: &Config, now: Instant) -> Option<Transmit> {
        let (mss, reports) = self.segment_size(now);
        let sender = &self.sender;
        let (unsent, room) = (sender.unsent(), sender.window_room());
        if sender.flight() == 0 {
            return None;
        }
        let whole = unsent.min(mss);
        let held = whole < mss && sender.holds_tail();
        let (segment, resent) = if whole > 0 && room >= whole && !held && self.recovery.has_room() {
            let fin = sender.is_fin_due() && whole == unsent && room > whole;
            (self.send_new_in_probe(config, &Piece { len: whole, fin, mss, reports }, now), None)
        } else {
            let SendNumbers { una, written, data_end, .. } = sender.numbers();
            let end = written.later(una);
            let data_end = data_end.earlier(end);
            let fin = sender.is_fin_sent() && end.gt(data_end);
            let len = data_end.above(una).min(mss);
            if len == 0 && !fin {
                return None;
            }
            let start = data_end - len;
            let stamp = self.recovery.first_stamp(start, self.receiver.timestamps().clock()).unwrap_or_default();
            (self.send_again(start, &Piece { len, fin, mss, reports }, now), Some(stamp))
        };
        let flight = self.congestion.loss_flight(self.pipe());
        self.recovery.on_probe_sent((segment.seq, self.sender.nxt()), resent, flight, now);
        self.arm_loss_timer(config, now);
        Some(segment)
    }

    // ---- new data ---------------------------------------------------------------------------------------------------

    /// What may leave now of new data and the FIN, as far as windows, Nagle and SWS avoidance let them go.
    #[inline(always)]
    fn next_piece(&mut self, config: &Config, now: Instant, max_len: u32) -> Option<Piece> {
        let unsent = self.sender.unsent();
        let fin = self.sender.is_fin_due();
        if unsent == 0 && !fin || self.recovery.holds_new_data() {
            return None;
        }
        self.restart_after_idle(config, now);
        let (mss, reports) = self.segment_size(now);
        let len = self.permitted(unsent, mss, max_len)?;
        // KP-15: the FIN rides on the last data; it takes an octet of the peer's window, none of cwnd.
        let fin = fin && len == unsent && self.sender.window_room() > len;
        (len > 0 || fin).then_some(Piece { len, fin, mss, reports })
    }

    /// Sends a piece of new data, and the FIN with it, as what may be the last for now. Within who sends most of them: it
    /// is not copied then.
    #[inline(always)]
    fn send_last(&mut self, config: &Config, piece: &Piece, now: Instant) -> Transmit {
        let seq = self.book_new(config, piece, now);
        self.note_last(now);
        debug_assert_eq!(piece.mss, self.effective_mss(&self.options(now)), "what was reckoned with is what leaves");
        self.build_data(seq, piece, now)
    }

    /// The same with SACK blocks.
    #[cold]
    fn send_reporting(&mut self, config: &Config, piece: &Piece, now: Instant) -> Transmit {
        debug_assert_eq!(piece.mss, self.effective_mss(&self.options(now)), "what was reckoned with is what leaves");
        let segment = self.send_new_in_probe(config, piece, now);
        self.note_last(now);
        segment
    }

    /// New data leaves, and the ACK that is owed with it. With all of the queue on its way, and nothing to repair, nothing
    /// is left.
    #[inline(always)]
    fn note_last(&mut self, now: Instant) {
        if self.sender.unsent() == 0 && !self.sender.is_fin_due() && self.recovery.is_undisturbed() {
            self.flags.remove(ConnectionFlags::POLL);
            // Unless it is full, what limits the sender is that it has no more, which was noted.
            if self.sender.is_full() {
                self.note_limit(now);
            }
        }
    }

    /// Books a segment of new octets. Gives its number.
    #[inline(always)]
    fn book_new(&mut self, config: &Config, piece: &Piece, now: Instant) -> SeqNum {
        let &Piece { len, fin, mss, .. } = piece;
        let numbers = self.sender.numbers();
        let end = numbers.nxt + len + u32::from(fin);
        if numbers.una == numbers.nxt {
            let waiting = self.waiting();
            self.timers.set(Timer::GiveUp, self.liveness.watch(config, waiting, now));
        }
        let Self { sender, congestion, recovery, .. } = self;
        // RFC 3042: something came out of order, which may become a loss.
        let disorder = recovery.extra_segments() > 0 || recovery.phase() == Phase::Open && recovery.sacked() > 0;
        let limited = if disorder { len } else { 0 };
        let stream = self.acked >= STREAM && len < sender.unsent();
        recovery.on_sent(&numbers, end, stream, self.rtt.min(), now);
        let small_end = is_ragged(len, mss).then_some(numbers.nxt + len);
        sender.on_sent(end, fin, small_end);
        self.last_sent = now;
        self.observed.limited_by(SendLimit::Busy, now);
        if recovery.phase() == Phase::Open && !recovery.is_ambiguous() {
            self.rtt.on_sent(end, now);
        }
        if self.observed.end.le(numbers.una) {
            let from = if numbers.una == numbers.nxt { now } else { self.liveness.last_progress() };
            (self.observed.from, self.observed.una, self.observed.end) = (from, numbers.una, end);
            self.observed.app_limited[0] = sender.unsent() == 0;
        }
        self.flags.remove(ConnectionFlags::PROBE_DUE);
        congestion.on_sent(recovery.pipe(sender.flight()), mss, numbers.una, end, limited);
        self.timers.cancel(Timer::SwsOverride);
        self.timers.cancel(Timer::Persist);
        self.arm_loss_timer(config, now);
        numbers.nxt
    }

    /// A probe of the path: new data, `len` octets of it, in one segment that is larger than others (RFC4821-10.1).
    #[cold]
    fn probe_path(&mut self, config: &Config, len: u32, now: Instant) -> Transmit {
        let probe = self.send_new_in_probe(
            config,
            &Piece { len, fin: false, mss: len, reports: self.reassembly.is_report_due() },
            now,
        );
        self.predictable = false;
        probe
    }

    #[cold]
    fn send_new_in_probe(&mut self, config: &Config, piece: &Piece, now: Instant) -> Transmit {
        let seq = self.book_new(config, piece, now);
        self.build_data(seq, piece, now)
    }

    /// How much of `unsent` may leave now; `None` to wait. `Some(0)` when there is nothing but a FIN.
    #[inline(always)]
    fn permitted(&mut self, unsent: u32, mss: u32, max_len: u32) -> Option<u32> {
        if unsent == 0 {
            return Some(0);
        }
        let pipe = self.pipe();
        let Self { sender, congestion, recovery, .. } = self;
        let cwnd = congestion.cwnd().saturating_add(recovery.extra_segments() * mss);
        let by_window = sender.window_room();
        let by_cwnd = cwnd.saturating_sub(pipe);
        let usable = by_window.min(by_cwnd); // RFC5681-3.1a
        // What fits one segment need not be divided.
        let most = if unsent <= mss { mss } else { whole_segments(max_len, mss) };
        if usable >= unsent {
            // Everything fits. SHLD-28: a part of a segment goes only at the very end.
            if unsent > most {
                return Some(most);
            }
            let tail = if unsent < mss { unsent } else { unsent % mss };
            let held = tail > 0 && sender.holds_tail();
            let len = if held { unsent - tail } else { unsent };
            return (len > 0).then_some(len);
        }
        if by_cwnd < by_window {
            congestion.on_blocked(sender.nxt());
        }
        let len = (usable - usable % mss).min(most);
        if len == 0 {
            // SWS-3, SWS-4.
            let small_window = by_window <= by_cwnd && usable > 0;
            return (small_window && sender.may_send_piece(usable)).then_some(usable.min(most));
        }
        // While ACKs are due, rather one large segment with the next of them than many small ones (OPS-12).
        let may_wait = sender.flight() > 0 && recovery.is_undisturbed();
        let goal = || tso_goal(cwnd.min(sender.window()), mss, self.rtt.srtt(), self.rtt.min());
        if may_wait && len < goal().min(most) { None } else { Some(len) }
    }

    /// RFC5681-4.1: after an RTO without sending, the path is unknown again.
    fn restart_after_idle(&mut self, config: &Config, now: Instant) {
        if config.slow_start_after_idle && self.sender.flight() == 0 && now - self.last_sent > self.rtt.rto(&config.rto)
        {
            let window = config.initial_cwnd(self.smss());
            self.congestion.on_idle_restart(window);
            self.recovery.forget_undo();
        }
    }

    // ---- the peer's window is closed --------------------------------------------------------------------------------

    /// A window probe: below SND.UNA and empty, so that it is answered whatever the window, and there is nothing to be
    /// accepted by halves (ZW-2). When a FIN is all that is left, the FIN itself (SM-FW1-5): it needs no buffer.
    #[cold]
    fn probe(&mut self, config: &Config, now: Instant) -> Option<Transmit> {
        let una = self.sender.una();
        let queued = self.sender.queued();
        // One of the keep-alive?
        if self.liveness.is_probing() && queued == 0 && !self.awaits_progress() {
            return Some(self.build_empty(una - 1, now)); // SHLD-12: SND.NXT is SND.UNA
        }
        if queued == 0 {
            let (mss, reports) = self.segment_size(now);
            let piece = Piece { len: 0, fin: true, mss, reports };
            if self.sender.is_fin_due() {
                return Some(self.send_new_in_probe(config, &piece, now));
            }
            return self.sender.is_fin_at(una).then(|| self.send_again(una, &piece, now));
        }
        Some(self.build_empty(una - 1, now))
    }

    /// Nothing leaves by itself any more. What waits for the peer's window, and has no retransmission timer to wake it,
    /// gets a timer of its own (MUST-36, SHLD-29, SWS-4).
    fn arm_stalled(&mut self, config: &Config, now: Instant) {
        if self.state == State::FinWait2 && self.has_no_reader() {
            self.timers.set_if_unset(Timer::FinWait2, now + config.fin_wait2);
        }
        if !self.is_stalled() {
            return;
        }
        if self.sender.window_room() > 0 {
            self.timers.set_if_unset(Timer::SwsOverride, now + config.sws_override);
            return;
        }
        if !self.timers.is_set(Timer::Persist) {
            let rto = self.rtt.rto(&config.rto);
            self.timers.set(Timer::Persist, now + self.liveness.probe_interval(config, rto));
            if !self.timers.is_set(Timer::GiveUp) || self.liveness.keeps_alive() {
                let waiting = self.waiting();
                self.timers.set(Timer::GiveUp, self.liveness.watch(config, waiting, now));
            }
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
/// On a path, what the window lets go in 1 to 2 ms, but two segments, which is what one ACK stands for, and no more
/// than an eighth: a larger burst is more than a small queue holds, and what waits is missing in flight. Over the
/// shortest round trips half of the window. In any case at least half of it stays in flight, and its ACKs end the wait.
#[inline]
fn tso_goal(window: u32, mss: u32, srtt: Option<Duration>, min_rtt: Duration) -> u32 {
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

/// Whether the last of the segments of `mss` octets that `len` octets make is not full.
#[inline]
fn is_ragged(len: u32, mss: u32) -> bool {
    if len < mss { len > 0 } else { !len.is_multiple_of(mss) }
}

/// As many octets as fit `max_len` in whole segments; one segment where not even that fits.
#[inline]
fn whole_segments(max_len: u32, mss: u32) -> u32 {
    let max_len = max_len.min(65_535);
    (max_len - max_len % mss).max(mss)
}
