//! What an acknowledgment means: freed data, round-trip samples, the congestion window, loss recovery, the peer's window.
//!
//! RFC 5681, RFC 6582 (NewReno) and RFC 6298. SACK blocks of the peer only tell that something is lost, not what; no
//! scoreboard is kept yet.

use super::config::Config;
use super::congestion::AckSample;
use super::connection::{CloseReason, Connection, Events, Hot, Outcome, Recovery};
use super::handshake::ticks;
use super::marks::Marks;
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

impl Connection {
    /// The ACK step (SM-ACK-2 to 6). `false` when the segment is to be dropped.
    pub(super) fn passes_ack(&mut self, config: &Config, seg: &Segment, now: Instant, outcome: &mut Outcome) -> bool {
        let snd = &self.hot.snd;
        let ahead = seg.ack - snd.una;
        let too_old = ahead < 0 && above(snd.una, seg.ack) > snd.max_wnd;
        if seg.ack.gt(snd.nxt) || too_old {
            // SM-ACK-5 (OPS-30) and SM-ACK-2 (MAY-12).
            outcome.events |= Events::BAD_ACK;
            self.acknowledge_limited(config, now, outcome);
            return false;
        }
        let stamps = seg.options.timestamps.filter(|_| self.hot.marks.has(Marks::TIMESTAMPS));
        if let Some(stamps) = stamps {
            self.note_timestamps(seg.seq, seg.len, stamps, now);
        }
        if ahead > 0 {
            self.advance(config, seg.ack, stamps, now, outcome);
            self.acknowledged_fin(config, now, outcome);
        } else if ahead == 0 {
            self.repeated(seg, now, outcome);
        }
        // An ACK that advances is newer than all before, also on a segment sent again, whose SEG.SEQ is old. Without its
        // window the old one would be taken to lie above the new SND.UNA: an edge nobody offered.
        if ahead > 0 || (ahead == 0 && self.is_window_update(seg)) {
            self.update_window(seg);
        }
        true
    }

    /// SND.UNA moves up to `ack` (SM-ACK-3).
    #[inline]
    pub(super) fn advance(
        &mut self,
        config: &Config,
        ack: SeqNum,
        stamps: Option<Timestamps>,
        now: Instant,
        outcome: &mut Outcome,
    ) {
        let Hot { snd, marks, .. } = &mut self.hot;
        let flight = snd.pipe();
        let acked = above(ack, snd.una);
        let data = acked.min(snd.queued);
        snd.queued -= data;
        snd.una = ack;
        snd.ptr = snd.ptr.later(ack);
        snd.written = snd.written.later(ack);
        snd.sml = snd.sml.later(ack);
        marks.clear(Marks::RTO_REPEAT.with(Marks::FAST_RTX));
        outcome.acked = data;
        self.cold.acked += u64::from(data);
        self.cold.progress = now;
        let rtt = self.sample(config, ack, stamps, now);
        let restart = self.recover(now, acked, flight, rtt);

        let Hot { snd, marks, timers, congestion, .. } = &mut self.hot;
        if snd.una == snd.nxt {
            timers.cancel(Timer::Retransmit); // RFC6298-5.2
            if !marks.has(Marks::KEEP_ALIVE) {
                timers.cancel(Timer::GiveUp);
            }
        } else if restart {
            timers.set(Timer::Retransmit, now + self.cold.rtt.rto(&config.rtt())); // RFC6298-5.3
        }
        // OPS-16: as much again as is in flight can be queued. The limit never shrinks.
        if config.send_auto_tuning {
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

    /// A round-trip sample, if this ACK gives a valid one (RFC6298-3a, 3b, RFC7323-4.1).
    #[inline]
    fn sample(&mut self, config: &Config, ack: SeqNum, stamps: Option<Timestamps>, now: Instant) -> Option<Duration> {
        let Hot { snd, marks, rcv, .. } = &mut self.hot;
        let sample = if marks.has(Marks::TIMING) {
            if snd.timed.gt(ack) {
                return None;
            }
            // One segment in flight is timed by our own fine clock; that is one sample each round trip.
            marks.clear(Marks::TIMING);
            now - self.cold.timed_at
        } else if let Some(stamps) = stamps.filter(|_| marks.has(Marks::KARN)) {
            // Of data sent twice only the echo tells which copy arrived; its clock is coarse. An echo from before the
            // resending may be an old one repeated: when only the ACK was lost, the second copy is a duplicate, and a
            // receiver does not take the timestamp of one over (RFC8961-2d). That would count our own wait.
            let elapsed = ticks(now, rcv.ts_offset).wrapping_sub(stamps.ecr);
            let elapsed = Duration::from_millis(u64::from(elapsed.max(1)));
            let since = now - self.cold.resent_at + Duration::from_millis(1);
            if elapsed > since || elapsed > config.max_rto {
                return None;
            }
            elapsed
        } else {
            return None;
        };
        self.cold.min_rtt = self.cold.min_rtt.min(sample);
        self.cold.rtt.on_sample(&config.rtt(), sample, 1);
        Some(sample)
    }

    /// The congestion window's part of an ACK of `acked` new octets. Tells whether the retransmission timer restarts.
    #[inline]
    fn recover(&mut self, now: Instant, acked: u32, flight: u32, rtt: Option<Duration>) -> bool {
        let smss = self.smss();
        let Hot { snd, congestion, marks, recovery, .. } = &mut self.hot;
        let sample = AckSample {
            now,
            acked,
            flight,
            rtt,
            srtt: self.cold.rtt.srtt().unwrap_or_default(),
            una: snd.una,
            nxt: snd.nxt,
            cwnd_limited: marks.has(Marks::CWND_LIMITED) || *recovery == Recovery::Loss,
        };
        if snd.una.ge(snd.recover) {
            marks.clear(Marks::KARN);
        }
        match *recovery {
            Recovery::Open => {
                if snd.dup_acks > 0 {
                    snd.dup_acks = 0;
                    self.cold.limited_transmit = 0;
                }
                self.cold.controller.on_ack(congestion, &sample);
                true
            }
            Recovery::Fast if snd.una.ge(snd.recover) => {
                // RFC6582-3.2.3F, KP-08.
                snd.dup_acks = 0;
                self.cold.limited_transmit = 0;
                *recovery = Recovery::Open;
                marks.clear(Marks::PARTIAL_SEEN);
                congestion.exit_recovery();
                true
            }
            Recovery::Fast => {
                // RFC6582-3.2.3P: the next hole begins at SND.UNA. Only the first such ACK restarts the timer, so that
                // many holes end in a timeout soon.
                let deflated = congestion.cwnd().saturating_sub(acked);
                congestion.set_cwnd(deflated.saturating_add(if acked >= smss { smss } else { 0 }));
                marks.set(Marks::FAST_RTX);
                let first = !marks.has(Marks::PARTIAL_SEEN);
                marks.set(Marks::PARTIAL_SEEN);
                first
            }
            Recovery::Loss => {
                snd.dup_acks = 0;
                self.cold.controller.on_ack(congestion, &sample);
                if snd.una.ge(snd.recover) {
                    *recovery = Recovery::Open;
                    snd.ptr = snd.nxt;
                }
                true
            }
        }
    }

    /// An ACK of SND.UNA once more: a duplicate ACK in the sense of RFC 5681, or not.
    fn repeated(&mut self, seg: &Segment, now: Instant, outcome: &mut Outcome) {
        let smss = self.smss();
        let window = self.scaled_window(seg);
        let Hot { snd, congestion, marks, recovery, .. } = &mut self.hot;
        if snd.wnd == 0 || snd.una.lt(snd.nxt) && (snd.una + snd.wnd).lt(snd.nxt) {
            // MUST-37, SHLD-17: it answers while its window is closed, or shrank below what we sent. That does not count
            // for a user who said how long to wait, or has left (OPS-28).
            if !marks.has(Marks::USER_TIMEOUT.with(Marks::NO_READER)) {
                self.cold.progress = now;
            }
        }
        // Octets that SACK shows to have arrived above SND.UNA; what is inverted or out of range does not count
        // (RFC2018-V), nor does a report of duplicates below (RFC2883-5a).
        let sacked = seg.options.sack.iter().fold(0_u32, |sum, (left, right)| {
            let (left, right) = (SeqNum(left), SeqNum(right));
            let valid = left.ge(snd.una) && left.lt(right) && right.le(snd.nxt);
            sum.saturating_add(if valid { above(right, left) } else { 0 })
        });
        // RFC5681-2.DA. With SACK it is the blocks that tell; a window that changes beside them proves nothing. They also
        // ride on data (RFC6675-2): where both sides send, hardly any report comes by itself.
        let bare = seg.len == 0 && !seg.has(Flags::FIN);
        let duplicate = snd.flight() > 0 && if marks.has(Marks::SACK) { sacked > 0 } else { bare && window == snd.wnd };
        if !duplicate {
            return;
        }
        outcome.events |= Events::DUPLICATE_ACK;
        match *recovery {
            Recovery::Loss => {}
            // Data repeats the blocks of its time without another segment having arrived: it is not counted.
            Recovery::Fast if !bare => {}
            Recovery::Fast => {
                // RFC5681-3.2.4, capped by what can have caused duplicates (OPS-32).
                let most = congestion.ssthresh().saturating_add(snd.flight());
                let inflated = congestion.cwnd().saturating_add(smss).min(most.max(congestion.cwnd()));
                congestion.set_cwnd(inflated);
                marks.set(Marks::POLL);
            }
            Recovery::Open => {
                if bare {
                    snd.dup_acks = snd.dup_acks.saturating_add(1);
                    marks.set(Marks::POLL); // limited transmit (RFC3042-2a)
                }
                // RFC6582-3.2.2: not for what an earlier recovery or timeout sent twice. Where SACK shows data above
                // the hole, there can be no such mistake at the boundary itself.
                let newer = snd.una.gt(snd.recover) || (snd.una == snd.recover && sacked > 0);
                // RFC6675-4a: a receiver that merges segments reports many at once, and may never send three ACKs.
                let lost = snd.dup_acks >= DUP_THRESH || sacked > u32::from(DUP_THRESH - 1) * smss;
                if !lost || !newer || snd.una.ge(snd.written) {
                    return;
                }
                let flight = snd.flight().saturating_sub(self.cold.limited_transmit);
                let ssthresh = self.cold.controller.on_congestion_event(congestion, now, flight);
                congestion.set_cwnd(ssthresh.saturating_add(u32::from(DUP_THRESH) * smss));
                snd.recover = snd.nxt;
                self.cold.resent_at = now;
                *recovery = Recovery::Fast;
                marks.set(Marks::FAST_RTX.with(Marks::KARN).with(Marks::POLL));
                marks.clear(Marks::TIMING.with(Marks::PARTIAL_SEEN));
                outcome.events |= Events::FAST_RETRANSMIT;
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
        snd.wl1 = snd.wl1.later(seg.seq);
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
