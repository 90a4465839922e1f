//! What an acknowledgment means: freed data, round-trip samples, the congestion window, the peer's window (RFC 9293
//! 3.10.7.4, RFC 5681). What it means where something is lost is in `loss.rs`.

use crate::tcp::base::config::Config;
use crate::tcp::base::outcome::{CloseReason, Events, Outcome};
use crate::tcp::base::segment::Segment;
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::state::State;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::base::timers::Timer;
use crate::tcp::base::timestamp::Timestamp;
use crate::tcp::connection::{Connection, ConnectionFlags};
use crate::tcp::recovery::rtt::Timed;
use crate::tcp::recovery::summary::{AckContext, AckSummary};
use crate::wire::options::Timestamps;

impl Connection {
    /// The ACK step (SM-ACK-2 to 6). `false` when the segment is to be dropped.
    pub(super) fn passes_ack(&mut self, config: &Config, seg: &Segment, now: Instant, outcome: &mut Outcome) -> bool {
        let sender = &self.sender;
        let ahead = seg.ack - sender.una();
        // RFC5961-5.2, but not below the first octet: what was never sent, nobody acknowledges late.
        let octets = self.acked + u64::from(self.state == State::FinWait2);
        let too_old = ahead < 0 && u64::from(sender.una().above(seg.ack)) > octets.min(u64::from(sender.max_window()));
        if seg.ack.gt(sender.nxt()) || too_old {
            // SM-ACK-5 (OPS-30) and SM-ACK-2 (MAY-12).
            outcome.events |= Events::BAD_ACK;
            self.acknowledge_limited(config, now, outcome);
            return false;
        }
        let stamps = seg.options.timestamps.filter(|_| self.receiver.timestamps().is_enabled());
        if let Some(stamps) = stamps {
            self.receiver.renew_timestamp(seg.seq, Timestamp(stamps.val), &mut self.past_stamps, now);
            self.receiver.on_timestamps(seg.seq, seg.len, stamps, &mut self.past_stamps, now);
        }
        let context = self.ack_context(stamps, now);
        if ahead >= 0 {
            self.take_ack_news(config, seg, &context, outcome);
        } else if self.recovery.with_sack() && !seg.options.sack.is_empty() {
            self.take_late_sack(config, seg, &context, outcome);
        }
        if ahead > 0 {
            self.acknowledged_fin(config, now, outcome);
        }
        // An ACK that advances is newer than all before, also on a segment sent again, whose SEG.SEQ is old. Without
        // its window the old one would be taken to lie above the new SND.UNA: an edge nobody offered.
        if ahead > 0 || (ahead == 0 && self.sender.is_window_update(seg)) {
            self.update_window(seg);
        }
        true
    }

    /// What is known when an acknowledgment comes with these timestamps.
    #[inline]
    fn ack_context(&self, stamps: Option<Timestamps>, now: Instant) -> AckContext {
        let echo = stamps.map(|stamps| Timestamp(stamps.ecr));
        AckContext { now, min_rtt: self.rtt.min(), clock: self.receiver.timestamps().clock(), echo }
    }

    /// SND.UNA moves up to `ack` (SM-ACK-3), and there is nothing else to it: no recovery, no SACK, no duplicates.
    // By itself, with all that it calls in it: neither it nor the segment without an ACK of news is short of registers.
    #[inline(never)]
    pub(super) fn advance(
        &mut self,
        config: &Config,
        ack: SeqNum,
        stamps: Option<Timestamps>,
        now: Instant,
    ) -> (u32, bool) {
        let context = self.ack_context(stamps, now);
        let flight = self.pipe();
        let mut summary = AckSummary::default();
        let acked = self.move_una(ack, &context, &mut summary);
        self.sample(config, &summary, flight, &context);
        self.grow(&summary, now);
        self.recovery.restart_timer(now);
        (acked, self.after_progress(config, now))
    }

    /// An ACK of SND.UNA or more that is not predicted.
    fn take_ack_news(&mut self, config: &Config, seg: &Segment, context: &AckContext, outcome: &mut Outcome) {
        let now = context.now;
        let flight = self.pipe();
        let mut summary = AckSummary::default();
        let advances = seg.ack.gt(self.sender.una());
        if advances {
            outcome.acked = self.move_una(seg.ack, context, &mut summary);
        } else {
            summary.bare =
                seg.len == 0 && seg.options.sack.is_empty() && self.sender.scaled_window(seg) == self.sender.window();
            let sender = &self.sender;
            if sender.window() == 0 || sender.flight() > 0 && sender.window_edge().lt(sender.nxt()) {
                self.liveness.on_answer(self.waiting(), now);
            }
        }
        if self.recovery.with_sack() && !seg.options.sack.is_empty() {
            self.take_sack(config, seg, context, &mut summary);
        }
        self.sample(config, &summary, flight, context);
        self.recover(config, seg, &summary, context, outcome);
        if self.flags.contains(ConnectionFlags::SEARCH) {
            self.judge_probe(now);
        }
        if advances {
            self.recovery.restart_timer(now);
            if self.after_progress(config, now) {
                outcome.events |= Events::WRITABLE;
            }
        } else {
            self.arm_loss_timer(config, now);
        }
    }

    /// An ACK that others have overtaken: its number is old, its blocks may be news. The network delays the report of
    /// what arrived out of order (RFC 6675 5) or twice (RFC2883-5a) as it delays anything. It says nothing of the
    /// window, and is no sample of the round trip.
    #[cold]
    fn take_late_sack(&mut self, config: &Config, seg: &Segment, context: &AckContext, outcome: &mut Outcome) {
        let mut summary = AckSummary::default();
        self.take_sack(config, seg, context, &mut summary);
        if summary.sacked > 0 || summary.dsack.is_some() {
            self.recover(config, seg, &summary, context, outcome);
            self.arm_loss_timer(config, context.now);
        }
    }

    /// Takes the SACK blocks of `seg` over.
    fn take_sack(&mut self, config: &Config, seg: &Segment, context: &AckContext, summary: &mut AckSummary) {
        let (una, nxt) = (self.sender.una(), self.sender.nxt());
        // Nothing below this can still arrive twice: it was never sent, or is older than any window.
        let least = una - u64::from(self.sender.max_window()).min(self.acked) as u32;
        self.recovery.on_sack(config, seg, (least, una, nxt), context, summary);
    }

    /// The numbers of an ACK that advances. Gives the octets that may be freed.
    #[inline(always)]
    fn move_una(&mut self, ack: SeqNum, context: &AckContext, summary: &mut AckSummary) -> u32 {
        let una = self.sender.una();
        summary.acked = ack.above(una);
        let acked = self.sender.acknowledge(ack);
        self.acked += u64::from(acked);
        self.liveness.on_progress(context.now);
        let observed = &mut self.observed;
        if observed.end.gt(una) && observed.end.le(ack) {
            let took = context.now.saturating_since(observed.from).as_nanos().max(1);
            observed.rate = ack.above(observed.una) as f32 * 1e9 / took as f32;
            observed.app_limited[1] = observed.app_limited[0];
            self.sender.on_arrived(observed.end.above(observed.una));
        }
        self.recovery.on_una((una, ack), self.sender.queued() == 0, context, summary);
        acked
    }

    /// Timers and buffers after SND.UNA has moved. Whether a user who waits for room may go on.
    #[inline(always)]
    fn after_progress(&mut self, config: &Config, now: Instant) -> bool {
        self.arm_loss_timer(config, now);
        if self.sender.flight() == 0 && !self.liveness.keeps_alive() {
            self.timers.cancel(Timer::GiveUp);
        }
        self.request_poll();
        self.sender.take_room(config, self.congestion.cwnd()) && self.state.can_send()
    }

    /// A sample for the retransmission timeout, if this ACK gives a valid one (RFC6298-3a, 3b, RFC7323-4.1): one each
    /// round trip. For the controller each ACK counts (RFC9406-4.2c). `flight` octets were in the network before it.
    #[inline(always)]
    fn sample(&mut self, config: &Config, summary: &AckSummary, flight: u32, context: &AckContext) {
        let now = context.now;
        let mut weight = 1;
        let mut error = Duration::ZERO;
        let resent = self.recovery.is_ambiguous();
        let wanted = self.recovery.with_sack() && (resent || self.rtt.backoffs() > 0);
        let sample = if let Some(measured) = summary.rtt.filter(|_| wanted) {
            // What was sent once only and is reported as it comes cannot be ambiguous (RFC6298-3a), and ends the
            // backoff (RFC8961-4).
            weight = flight.div_ceil(2 * self.sender.mss().max(1));
            measured
        } else {
            // One segment in flight is timed by our own fine clock; that is one sample each round trip.
            match self.rtt.take_timed(self.sender.una(), now) {
                Timed::InFlight => return,
                Timed::Acked(elapsed) => elapsed,
                Timed::None => {
                    if !resent || summary.acked == 0 {
                        return;
                    }
                    let Some(elapsed) = self.echoed_round_trip(config, *context) else { return };
                    error = Duration::from_millis(1);
                    elapsed
                }
            }
        };
        self.recovery.on_sample();
        self.rtt.on_sample(&config.rto, sample, error, weight, now);
    }

    /// The round trip that an echoed timestamp tells. Of data sent twice only the echo tells which copy arrived; its
    /// clock is coarse. An echo from before the resending may be an old one repeated: when only the ACK was lost, the
    /// second copy is a duplicate, and a receiver does not take the timestamp of one over (RFC8961-2d). That would
    /// count our own wait.
    #[cold]
    fn echoed_round_trip(&self, config: &Config, context: AckContext) -> Option<Duration> {
        let AckContext { now, clock, echo, .. } = context;
        let elapsed = clock.at(now).ticks_since(echo?);
        let elapsed = Duration::from_millis(u64::from(elapsed.max(1)));
        let since = now - self.recovery.resent_at().unwrap_or(now) + Duration::from_millis(1);
        (elapsed <= since && elapsed <= config.rto.max).then_some(elapsed)
    }

    /// Our FIN may be acknowledged now (SM-FW1-1, SM-CLG-1, SM-LA-1).
    fn acknowledged_fin(&mut self, config: &Config, now: Instant, outcome: &mut Outcome) {
        if !self.sender.is_fin_sent() || self.sender.flight() > 0 {
            return;
        }
        outcome.events |= Events::FIN_ACKED;
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                if self.has_no_reader() {
                    self.timers.set_if_unset(Timer::FinWait2, now + config.fin_wait2);
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

    /// Takes the window of `seg` over.
    #[inline(always)]
    pub(super) fn update_window(&mut self, seg: &Segment) {
        if self.sender.update_window(seg) {
            self.request_poll();
            if self.timers.is_set(Timer::Persist) {
                self.timers.cancel(Timer::Persist);
                self.liveness.on_window_opened();
            }
        }
    }
}

#[cfg(test)]
#[path = "acks_tests.rs"]
mod tests;
