//! What an acknowledgment means: freed data, round-trip samples, the congestion window, the peer's window; NewReno for
//! connections without SACK (RFC 5681, RFC 6582). Recovery with SACK is in `recovery.rs`.

use super::config::Config;
use super::connection::{CloseReason, Connection, Events, Hot, Outcome, Recovery, seconds};
use super::handshake::ticks;
use super::marks::Marks;
use super::recovery::{Frto, News, echo_older};
use super::segment::Segment;
use super::send::above;
use super::seq::SeqNum;
use super::state::State;
use super::time::{Duration, Instant};
use super::timers::Timer;
use crate::wire::options::Timestamps;
use crate::wire::tcp::Flags;

/// Duplicate ACKs that tell of a loss (RFC5681-3.2.2).
const DUP_THRESH: u8 = 3;

/// How long the shortest round trip is believed (RFC8985-6.2.1).
const MIN_RTT_WINDOW_SECS: u32 = 300;

impl Connection {
    /// The ACK step (SM-ACK-2 to 6). `false` when the segment is to be dropped.
    pub(super) fn passes_ack(&mut self, config: &Config, seg: &Segment, now: Instant, outcome: &mut Outcome) -> bool {
        let snd = &self.hot.snd;
        let ahead = seg.ack - snd.una;
        // RFC5961-5.2, but not below the first octet: what was never sent, nobody acknowledges late.
        let octets = self.cold.acked + u64::from(self.hot.state == State::FinWait2);
        let too_old = ahead < 0 && u64::from(above(snd.una, seg.ack)) > octets.min(u64::from(snd.max_wnd));
        if seg.ack.gt(snd.nxt) || too_old {
            // SM-ACK-5 (OPS-30) and SM-ACK-2 (MAY-12).
            outcome.events |= Events::BAD_ACK;
            self.acknowledge_limited(config, now, outcome);
            return false;
        }
        let stamps = seg.options.timestamps.filter(|_| self.hot.marks.has(Marks::TIMESTAMPS));
        if let Some(stamps) = stamps {
            self.renew_timestamp(seg.seq, stamps, now);
            self.note_timestamps(seg.seq, seg.len, stamps, now);
        }
        if ahead >= 0 {
            self.take_ack_news(config, seg, stamps, now, outcome);
        } else if self.hot.marks.has(Marks::SACK) && !seg.options.sack.is_empty() {
            self.take_late_sack(config, seg, stamps, now, outcome);
        }
        if ahead > 0 {
            self.acknowledged_fin(config, now, outcome);
        }
        // An ACK that advances is newer than all before, also on a segment sent again, whose SEG.SEQ is old. Without its
        // window the old one would be taken to lie above the new SND.UNA: an edge nobody offered.
        if ahead > 0 || (ahead == 0 && self.is_window_update(seg)) {
            self.update_window(seg);
        }
        true
    }

    /// SND.UNA moves up to `ack` (SM-ACK-3), and there is nothing else to it: no recovery, no SACK, no duplicates.
    #[inline]
    pub(super) fn advance(
        &mut self,
        config: &Config,
        ack: SeqNum,
        stamps: Option<Timestamps>,
        now: Instant,
        outcome: &mut Outcome,
    ) {
        let mut news = News { flight: self.pipe(), ..News::default() };
        self.move_una(ack, stamps, now, outcome, &mut news);
        self.sample(config, &mut news, stamps, now);
        self.grow(&news, now);
        self.cold.rto_base = now; // RFC6298-5.3
        self.after_progress(config, now, outcome);
    }

    /// An ACK of SND.UNA or more that is not predicted.
    fn take_ack_news(
        &mut self,
        config: &Config,
        seg: &Segment,
        stamps: Option<Timestamps>,
        now: Instant,
        outcome: &mut Outcome,
    ) {
        let mut news = News { flight: self.pipe(), ..News::default() };
        let advances = seg.ack.gt(self.hot.snd.una);
        let first_partial = !self.hot.marks.has(Marks::PARTIAL_SEEN);
        if advances {
            self.move_una(seg.ack, stamps, now, outcome, &mut news);
        } else {
            news.bare = seg.len == 0 && seg.options.sack.is_empty() && self.scaled_window(seg) == self.hot.snd.wnd;
            self.note_life(now);
        }
        let with_sack = self.hot.marks.has(Marks::SACK);
        if with_sack && !seg.options.sack.is_empty() {
            self.take_sack(config, seg, now, &mut news);
        }
        self.sample(config, &mut news, stamps, now);
        if with_sack {
            self.recover_with_sack(config, &news, stamps, now, outcome);
        } else if advances {
            self.recover_without_sack(config, &news, stamps, now, outcome);
        } else {
            self.repeated(seg, &news, now, outcome);
        }
        if advances {
            // RFC6582-3.2.3P: without SACK, many holes shall end in a timeout soon.
            if with_sack || self.hot.recovery != Recovery::Fast || first_partial {
                self.cold.rto_base = now; // RFC6298-5.3
            }
            self.after_progress(config, now, outcome);
        } else {
            self.arm_loss_timer(config, now);
        }
    }

    /// An ACK that others have overtaken: its number is old, its blocks may be news. The network delays the report of what
    /// arrived out of order (RFC 6675 5) or twice (RFC2883-5a) as it delays anything. It says nothing of the window, and is no
    /// sample of the round trip.
    #[cold]
    fn take_late_sack(
        &mut self,
        config: &Config,
        seg: &Segment,
        stamps: Option<Timestamps>,
        now: Instant,
        outcome: &mut Outcome,
    ) {
        let mut news = News { flight: self.pipe(), ..News::default() };
        self.take_sack(config, seg, now, &mut news);
        if news.sacked > 0 || news.dsack.is_some() {
            self.recover_with_sack(config, &news, stamps, now, outcome);
            self.arm_loss_timer(config, now);
        }
    }

    /// The numbers of an ACK that advances.
    #[inline]
    fn move_una(
        &mut self,
        ack: SeqNum,
        stamps: Option<Timestamps>,
        now: Instant,
        outcome: &mut Outcome,
        news: &mut News,
    ) {
        let Hot { snd, marks, .. } = &mut self.hot;
        let (una, recover) = (snd.una, snd.recover);
        news.acked = above(ack, una);
        let data = news.acked.min(snd.queued);
        snd.queued -= data;
        snd.una = ack;
        snd.written = snd.written.later(ack);
        snd.sml = snd.sml.later(ack);
        snd.recover = snd.recover.later(ack - 1);
        marks.clear(Marks::RTO_REPEAT.with(Marks::FAST_RTX));
        outcome.acked = data;
        self.cold.acked += u64::from(data);
        self.cold.progress = now;
        let with_sack = marks.has(Marks::SACK);
        let (board, rack) = (&mut self.cold.board, &mut self.cold.rack);
        if let Some(part) = board.acknowledge_front(ack) {
            news.note(una, &part, recover, now);
            if with_sack {
                rack.on_delivered(&part, now, self.cold.min_rtt, false);
            }
        } else {
            *news = self.acknowledge_records((una, ack), recover, stamps, now, *news);
        }
        if self.hot.snd.queued == 0 {
            self.cold.board.trim();
        }
    }

    /// SND.UNA has moved from `una` to `ack`, over more than one record or one that something is known of.
    #[inline(never)]
    fn acknowledge_records(
        &mut self,
        (una, ack): (SeqNum, SeqNum),
        recover: SeqNum,
        stamps: Option<Timestamps>,
        now: Instant,
        mut news: News,
    ) -> News {
        let with_sack = self.hot.marks.has(Marks::SACK);
        let stamps = self.telling(stamps);
        let offset = self.hot.rcv.ts_offset;
        let min_rtt = self.cold.min_rtt;
        let since = self.cold.episode.as_ref().map_or(Instant::MAX, |episode| episode.reduced_at);
        let (board, rack) = (&mut self.cold.board, &mut self.cold.rack);
        board.acknowledge(una, ack, |start, record| {
            news.note(start, record, recover, now);
            news.resent |= record.resent();
            news.copied |= record.resent() && record.sent >= since;
            if with_sack {
                rack.on_delivered(record, now, min_rtt, echo_older(record, stamps, offset));
            }
        });
        if news.resent {
            // What was sent once only beside it arrived before, perhaps long before: its ACK was lost (RFC6298-3a).
            news.rtt = None;
        }
        news
    }

    /// Timers and buffers after SND.UNA has moved.
    #[inline]
    fn after_progress(&mut self, config: &Config, now: Instant, outcome: &mut Outcome) {
        self.arm_loss_timer(config, now);
        let Hot { snd, marks, timers, congestion, .. } = &mut self.hot;
        if snd.una == snd.nxt && !marks.has(Marks::KEEP_ALIVE) {
            timers.cancel(Timer::GiveUp);
        }
        // OPS-16: as much again as is in flight can be queued. The limit never shrinks by itself.
        if config.send_auto_tuning && !marks.has(Marks::SEND_FIXED) {
            snd.limit = snd.limit.max(congestion.cwnd().saturating_mul(2).min(config.send_buffer.max));
        }
        // Not for every octet: a writer that wakes up shall find a quarter of the buffer free.
        if marks.has(Marks::ROOM_FULL) && snd.queued <= snd.limit - snd.limit / 4 {
            marks.clear(Marks::ROOM_FULL);
            if self.hot.state.can_send() {
                outcome.events |= Events::WRITABLE;
            }
        }
        self.hot.marks.set(Marks::POLL);
    }

    /// A sample for the retransmission timeout, if this ACK gives a valid one (RFC6298-3a, 3b, RFC7323-4.1): one each round
    /// trip. `news.rtt` stays what it is, for the controller: there, each ACK counts (RFC9406-4.2c).
    #[inline]
    fn sample(&mut self, config: &Config, news: &mut News, stamps: Option<Timestamps>, now: Instant) {
        let Hot { snd, marks, rcv, .. } = &mut self.hot;
        let measured = news.rtt;
        let mut weight = 1;
        let mut error = Duration::ZERO;
        let resent = marks.has(Marks::KARN);
        let wanted = marks.has(Marks::SACK) && (resent || self.cold.rtt.backoffs() > 0);
        let sample = if let Some(measured) = measured.filter(|_| wanted) {
            // What was sent once only and is reported as it comes cannot be ambiguous (RFC6298-3a), and ends the backoff
            // (RFC8961-4).
            weight = news.flight.div_ceil(2 * u32::from(snd.mss.max(1)));
            measured
        } else if marks.has(Marks::TIMING) {
            if snd.timed.gt(snd.una) {
                return;
            }
            // One segment in flight is timed by our own fine clock; that is one sample each round trip.
            marks.clear(Marks::TIMING);
            now - self.cold.timed_at
        } else if !resent {
            return;
        } else if let Some(stamps) = stamps.filter(|_| news.acked > 0) {
            // Of data sent twice only the echo tells which copy arrived; its clock is coarse. An echo from before the
            // resending may be an old one repeated: when only the ACK was lost, the second copy is a duplicate, and a
            // receiver does not take the timestamp of one over (RFC8961-2d). That would count our own wait.
            let elapsed = ticks(now, rcv.ts_offset).wrapping_sub(stamps.ecr);
            let elapsed = Duration::from_millis(u64::from(elapsed.max(1)));
            error = Duration::from_millis(1);
            let resent_at = self.cold.episode.as_ref().map_or(now, |episode| episode.resent_at);
            let since = now - resent_at + error;
            if elapsed > since || elapsed > config.max_rto {
                return;
            }
            elapsed
        } else {
            return;
        };
        self.cold.tail.sampled = true;
        // RFC8985-6.2.1: the least of a window, so that a path that became longer is believed in the end. Never less than
        // the path has, hence with the error of the clock.
        let least = sample + error;
        if least <= self.cold.min_rtt || seconds(now).wrapping_sub(self.cold.min_rtt_at) > MIN_RTT_WINDOW_SECS {
            self.cold.min_rtt = least;
            self.cold.min_rtt_at = seconds(now);
        }
        self.cold.rtt.on_sample(&config.rtt(), sample, weight);
    }

    /// NewReno's part of an ACK that advances.
    fn recover_without_sack(
        &mut self,
        config: &Config,
        news: &News,
        stamps: Option<Timestamps>,
        now: Instant,
        outcome: &mut Outcome,
    ) {
        let smss = self.smss();
        if self.hot.snd.una.ge(self.hot.snd.recover) {
            self.hot.marks.clear(Marks::KARN);
        }
        self.undo_if_spurious(config, news, stamps, outcome);
        if self.hot.recovery == Recovery::Fast && self.hot.snd.una.lt(self.hot.snd.recover) {
            // RFC6582-3.2.3P: the next hole begins at SND.UNA. Not where that lies in what this recovery has sent
            // again: a segment that left in two packets is acknowledged in two steps, and to send from the first of
            // them, too, would begin a second row of retransmissions, which goes on beside the other to the end of
            // the hole.
            let congestion = &mut self.hot.congestion;
            let deflated = congestion.cwnd().saturating_sub(news.acked);
            congestion.set_cwnd(deflated.saturating_add(if news.acked >= smss { smss } else { 0 }));
            self.hot.marks.set(Marks::PARTIAL_SEEN);
            if !self.cold.board.front_is_resent() {
                self.cold.board.lose_front(self.hot.snd.una, self.hot.snd.written, smss);
                self.hot.marks.set(Marks::FAST_RTX);
            }
            self.count(|counts| counts.partial_acks += 1);
            outcome.events |= Events::PARTIAL_ACK;
            return;
        }
        if self.hot.recovery == Recovery::Fast {
            self.end_recovery_if_done(config, now); // RFC6582-3.2.3F, KP-08
            return;
        }
        self.hot.snd.dup_acks = 0;
        self.cold.limited_transmit = 0;
        self.grow(news, now);
        self.end_recovery_if_done(config, now);
        if self.hot.recovery == Recovery::Loss {
            self.step_frto(news);
        }
    }

    /// An answer while its window is closed, or shrank below what we sent, is progress (MUST-37, SHLD-17). That does not
    /// count for a user who said how long to wait, or has left (OPS-28).
    fn note_life(&mut self, now: Instant) {
        let Hot { snd, marks, .. } = &self.hot;
        let narrow = snd.wnd == 0 || snd.una.lt(snd.nxt) && (snd.una + snd.wnd).lt(snd.nxt);
        if narrow && !marks.has(Marks::USER_TIMEOUT.with(Marks::ORPHAN)) {
            self.cold.progress = now;
        }
    }

    /// An ACK of SND.UNA once more, without SACK: a duplicate ACK in the sense of RFC 5681, or not.
    fn repeated(&mut self, seg: &Segment, news: &News, now: Instant, outcome: &mut Outcome) {
        let smss = self.smss();
        let window = self.scaled_window(seg);
        let Hot { snd, congestion, marks, recovery, .. } = &mut self.hot;
        // RFC5681-2.DA.
        if snd.flight() == 0 || seg.len > 0 || seg.has(Flags::FIN) || window != snd.wnd {
            return;
        }
        outcome.events |= Events::DUPLICATE_ACK;
        match *recovery {
            Recovery::Loss => {
                if self.frto() != Frto::Off {
                    self.step_frto(news);
                    self.hot.marks.set(Marks::POLL);
                }
            }
            Recovery::Fast => {
                // RFC5681-3.2.4, capped by what can have caused duplicates (OPS-32).
                let most = congestion.ssthresh().saturating_add(snd.flight());
                let inflated = congestion.cwnd().saturating_add(smss).min(most.max(congestion.cwnd()));
                congestion.set_cwnd(inflated);
                marks.set(Marks::POLL);
            }
            Recovery::Open => {
                snd.dup_acks = snd.dup_acks.saturating_add(1);
                marks.set(Marks::POLL); // limited transmit (RFC3042-2a)
                // RFC6582-3.2.2: not for what an earlier recovery or timeout sent twice.
                if snd.dup_acks < DUP_THRESH || snd.una.le(snd.recover) || snd.una.ge(snd.written) {
                    return;
                }
                let (una, written) = (snd.una, snd.written);
                let ssthresh = self.enter_fast_recovery(now, outcome);
                self.hot.congestion.set_cwnd(ssthresh.saturating_add(u32::from(DUP_THRESH) * smss));
                self.cold.board.lose_front(una, written, smss);
            }
        }
    }

    /// Our FIN may be acknowledged now (SM-FW1-1, SM-CLG-1, SM-LA-1).
    fn acknowledged_fin(&mut self, config: &Config, now: Instant, outcome: &mut Outcome) {
        if !self.fin_acked() {
            return;
        }
        outcome.events |= Events::FIN_ACKED;
        match self.hot.state {
            State::FinWait1 => {
                self.hot.state = State::FinWait2;
                if self.hot.marks.has(Marks::NO_READER) {
                    self.hot.timers.set_if_unset(Timer::FinWait2, now + config.fin_wait2);
                }
            }
            State::Closing => {
                self.enter_time_wait();
                outcome.events |= Events::TIME_WAIT;
            }
            State::LastAck => {
                self.finish(CloseReason::Normal);
                outcome.events |= Events::CLOSED;
            }
            _ => {}
        }
    }

    /// SM-ACK-6, for an ACK of SND.UNA.
    fn is_window_update(&self, seg: &Segment) -> bool {
        let snd = &self.hot.snd;
        snd.wl1.lt(seg.seq) || (snd.wl1 == seg.seq && snd.wl2.le(seg.ack))
    }

    /// SEG.WND in octets (RFC7323-2.3a), before [`update_window`](Self::update_window) takes it.
    pub(super) fn scaled_window(&self, seg: &Segment) -> u32 {
        let shift = if self.hot.marks.has(Marks::UNSCALED) { 0 } else { self.hot.snd.shift };
        u32::from(seg.window) << shift
    }

    /// Takes the window of `seg` over.
    #[inline]
    pub(super) fn update_window(&mut self, seg: &Segment) {
        let window = self.scaled_window(seg);
        let Hot { snd, marks, timers, .. } = &mut self.hot;
        marks.clear(Marks::UNSCALED);
        let more = window > snd.wnd;
        snd.wnd = window;
        snd.wl1 = seg.seq;
        snd.wl2 = seg.ack;
        snd.max_wnd = snd.max_wnd.max(window);
        if more {
            marks.set(Marks::POLL);
            if timers.is_set(Timer::Persist) {
                timers.cancel(Timer::Persist);
                self.cold.probes = 0;
            }
        }
    }
}

#[cfg(test)]
#[path = "acks_tests.rs"]
mod tests;
