//! Loss recovery of the sender: what becomes of an acknowledgment, the window and the timer when something is lost.
//!
//! What is lost, and when a recovery begins and ends, [`LossRecovery`](crate::tcp::recovery) says; here its answers
//! meet the congestion window, the timers and what leaves.

use crate::tcp::base::config::Config;
use crate::tcp::base::outcome::{CloseReason, Events, Outcome};
use crate::tcp::base::segment::Segment;
use crate::tcp::base::time::Instant;
use crate::tcp::congestion::Saved;
use crate::tcp::congestion::prr::Prr;
use crate::tcp::connection::{Connection, ConnectionFlags};
use crate::tcp::recovery::episode::FrtoStep;
use crate::tcp::recovery::scoreboard::Losses;
use crate::tcp::recovery::summary::{AckContext, AckSummary};
use crate::tcp::recovery::{DuplicateAck, LossTimer, Needless, Phase};
use crate::wire::tcp::Flags;

impl Connection {
    // ---- acknowledgments --------------------------------------------------------------------------------------------

    /// Everything an acknowledgment means for recovery; `seg` is the one that it came with.
    pub(super) fn recover(
        &mut self,
        config: &Config,
        seg: &Segment,
        summary: &AckSummary,
        context: &AckContext,
        outcome: &mut Outcome,
    ) {
        if self.recovery.with_sack() {
            self.recover_with_sack(config, summary, context, outcome);
        } else if summary.acked > 0 {
            self.recover_without_sack(config, summary, context, outcome);
        } else {
            self.repeated(seg, summary, context.now, outcome);
        }
    }

    /// The same on a connection with SACK.
    fn recover_with_sack(
        &mut self,
        config: &Config,
        summary: &AckSummary,
        context: &AckContext,
        outcome: &mut Outcome,
    ) {
        let now = context.now;
        // Nothing was ever lost, or is suspected to be.
        let undisturbed =
            self.recovery.is_quiet() && self.recovery.resent_at().is_none() && !self.recovery.is_ambiguous();
        if undisturbed && summary.sacked == 0 && summary.dsack.is_none() {
            self.congestion.end_limited_transmit();
            if summary.acked > 0 {
                self.grow(summary, now);
            }
            return;
        }
        if summary.sacked > 0 && summary.acked == 0 {
            outcome.events |= Events::DUPLICATE_ACK;
        }
        if summary.dsack.is_some() {
            outcome.events |= Events::DSACK;
        }
        if let Some(flight) = self.recovery.on_ack(summary, &self.sender.numbers(), now) {
            // Repaired already: threshold and window come down at once.
            self.congestion.on_loss(now, flight);
            self.congestion.exit_recovery();
        }
        self.undo_if_needless(config, summary, context, outcome);
        let losses = self.detect_losses(config, now);
        if self.recovery.phase() == Phase::Loss {
            self.grow(summary, now);
        }
        self.end_recovery_if_done(config, now);
        match self.recovery.phase() {
            // Not only what this very ACK tells: what was sent in a recovery and found lost in it is a loss of its own
            // when that recovery ends.
            Phase::Open if self.recovery.lost() > 0 && !self.is_probes_loss(now) => {
                self.begin_fast_recovery(config, summary, now, outcome)
            }
            Phase::Open => {
                if self.recovery.sacked() == 0 {
                    self.congestion.end_limited_transmit();
                }
                if summary.acked > 0 {
                    self.grow(summary, now);
                } else if summary.sacked > 0 {
                    self.request_poll(); // RFC6675-5.3
                }
            }
            Phase::Fast => self.continue_fast_recovery(config, summary, &losses, now, outcome),
            Phase::Loss => {
                self.step_frto(summary);
                self.request_poll();
            }
        }
    }

    /// NewReno's part of an ACK that advances.
    fn recover_without_sack(
        &mut self,
        config: &Config,
        summary: &AckSummary,
        context: &AckContext,
        outcome: &mut Outcome,
    ) {
        let smss = self.smss();
        self.recovery.on_ack(summary, &self.sender.numbers(), context.now);
        self.undo_if_needless(config, summary, context, outcome);
        if self.recovery.phase() == Phase::Fast {
            if self.end_recovery_if_done(config, context.now) {
                return; // RFC6582-3.2.3F, KP-08
            }
            // RFC6582-3.2.3P
            let deflated = self.congestion.cwnd().saturating_sub(summary.acked);
            self.congestion.set_cwnd(deflated.saturating_add(if summary.acked >= smss { smss } else { 0 }));
            self.recovery.on_partial_ack(&self.sender.numbers(), smss);
            outcome.events |= Events::PARTIAL_ACK;
            return;
        }
        self.congestion.end_limited_transmit();
        self.grow(summary, context.now);
        self.end_recovery_if_done(config, context.now);
        if self.recovery.phase() == Phase::Loss {
            self.step_frto(summary);
        }
    }

    /// An ACK of SND.UNA once more, without SACK: a duplicate ACK in the sense of RFC 5681, or not.
    fn repeated(&mut self, seg: &Segment, summary: &AckSummary, now: Instant, outcome: &mut Outcome) {
        let smss = self.smss();
        let sender = &self.sender;
        let same_window = sender.scaled_window(seg) == sender.window();
        // RFC5681-2.DA.
        if sender.flight() == 0 || seg.len > 0 || seg.has(Flags::FIN) || !same_window {
            return;
        }
        outcome.events |= Events::DUPLICATE_ACK;
        match self.recovery.phase() {
            Phase::Loss => {
                if self.step_frto(summary) != FrtoStep::Off {
                    self.request_poll();
                }
            }
            Phase::Fast => {
                // RFC5681-3.2.4, capped by what can have caused duplicates (OPS-32).
                let (cwnd, ssthresh) = (self.congestion.cwnd(), self.congestion.window().ssthresh());
                let most = ssthresh.saturating_add(sender.flight());
                self.congestion.set_cwnd(cwnd.saturating_add(smss).min(most.max(cwnd)));
                self.request_poll();
            }
            Phase::Open => {
                self.request_poll(); // limited transmit (RFC3042-2a)
                let numbers = self.sender.numbers();
                if let DuplicateAck::Loss { arrived } = self.recovery.on_duplicate_ack(&numbers, smss) {
                    let ssthresh = self.enter_fast_recovery(now, outcome);
                    self.congestion.set_cwnd(ssthresh.saturating_add(arrived));
                }
            }
        }
    }

    // ---- recoveries -------------------------------------------------------------------------------------------------

    fn detect_losses(&mut self, config: &Config, now: Instant) -> Losses {
        let (numbers, smss) = (self.sender.numbers(), self.smss());
        self.recovery.detect_losses(config, &numbers, &self.rtt, smss, now)
    }

    /// Loss was found on a connection with SACK (RFC6675-5.4, RFC9937-6.1).
    fn begin_fast_recovery(&mut self, config: &Config, summary: &AckSummary, now: Instant, outcome: &mut Outcome) {
        self.enter_fast_recovery(now, outcome);
        let outstanding = self.sender.flight() + summary.acked;
        let sacked_before = self.recovery.sacked() - summary.sacked;
        *self.recovery.prr_mut() = Prr::new(outstanding.saturating_sub(sacked_before)); // RFC9937-6.1
        self.pace_recovery(config, summary.delivered, false);
    }

    /// What the begin of fast recovery is with SACK and without. Gives the threshold.
    fn enter_fast_recovery(&mut self, now: Instant, outcome: &mut Outcome) -> u32 {
        let saved = self.congestion.save();
        let ssthresh = self.congestion.begin_recovery(now, self.sender.flight());
        self.begin_recovery(Phase::Fast, Some(saved), now);
        outcome.events |= Events::FAST_RETRANSMIT;
        ssthresh
    }

    /// A recovery begins that may be undone to `saved`, or without it anew in the middle of one.
    pub(super) fn begin_recovery(&mut self, phase: Phase, saved: Option<Saved>, now: Instant) {
        self.recovery.begin(phase, saved, &self.sender.numbers(), self.receiver.timestamps().clock(), now);
        self.rtt.stop_timing();
        self.end_probe(None);
        self.predictable = false;
        self.request_poll();
    }

    /// An acknowledgment, or a reordering timeout, in fast recovery with SACK.
    fn continue_fast_recovery(
        &mut self,
        config: &Config,
        summary: &AckSummary,
        losses: &Losses,
        now: Instant,
        outcome: &mut Outcome,
    ) {
        if summary.acked > 0 {
            outcome.events |= Events::PARTIAL_ACK;
        }
        let pipe = self.pipe() + summary.delivered;
        let again = self.recovery.continue_fast(summary.acked, losses, self.sender.nxt(), pipe, now);
        if again {
            // The window is what the first reduction made it: cwnd is only what PRR lets go at this moment.
            let ssthresh = self.congestion.window().ssthresh();
            self.congestion.set_cwnd(ssthresh);
            self.congestion.on_loss(now, self.sender.flight().min(ssthresh));
        }
        if summary.delivered > 0 || again {
            self.pace_recovery(config, summary.delivered, summary.acked > 0 && losses.octets == 0);
        }
        self.request_poll();
    }

    /// Sets the window for what may leave now.
    fn pace_recovery(&mut self, config: &Config, delivered: u32, safe: bool) {
        let (pipe, smss, ssthresh) = (self.pipe(), self.smss(), self.congestion.window().ssthresh());
        let window = if config.prr {
            pipe.saturating_add(self.recovery.prr_mut().on_ack(delivered, safe, pipe, ssthresh, smss))
        } else {
            ssthresh // RFC6675-5.4
        };
        self.congestion.set_cwnd(window);
    }

    /// Everything sent before recovery began may be acknowledged (RFC6675-5.A, RFC9937-6.4): whether it is.
    fn end_recovery_if_done(&mut self, config: &Config, now: Instant) -> bool {
        let rto = self.rtt.rto(&config.rto);
        let Some(ended) = self.recovery.end_if_done(self.sender.una(), rto, now) else { return false };
        if ended == Phase::Fast {
            self.congestion.exit_recovery();
        }
        self.congestion.end_limited_transmit();
        true
    }

    /// Undoes the recovery that is going on, or was the last, if the acknowledgment shows it to be needless.
    fn undo_if_needless(&mut self, config: &Config, summary: &AckSummary, context: &AckContext, outcome: &mut Outcome) {
        let Some((saved, needless)) = self.recovery.take_needless(config, summary, context.echo) else { return };
        outcome.events |= Events::UNDONE;
        if needless == Needless::SlowPath {
            outcome.events |= Events::SPURIOUS_TIMEOUT;
            self.rtt.on_spurious_timeout();
        }
        self.congestion.undo(saved);
        if needless != Needless::Past {
            self.congestion.end_limited_transmit();
        }
        self.request_poll();
    }

    /// F-RTO after an acknowledgment that decided nothing (RFC 5682).
    fn step_frto(&mut self, summary: &AckSummary) -> FrtoStep {
        let smss = self.smss();
        let unsent = self.sender.unsent();
        let sendable = unsent > 0 && self.sender.window_room() >= unsent.min(smss);
        let step = self.recovery.step_frto(summary, sendable);
        if step == FrtoStep::Genuine {
            self.congestion.set_cwnd(3 * smss);
        }
        step
    }

    // ---- the timer --------------------------------------------------------------------------------------------------

    /// It has fired.
    pub(super) fn loss_timeout(&mut self, config: &Config, now: Instant, outcome: &mut Outcome) {
        match self.recovery.on_timer(config, &self.sender.numbers(), now) {
            Some(LossTimer::Retransmission) => self.retransmission_timeout(config, now, outcome),
            Some(LossTimer::Probe) => {
                // PTO is over (RFC8985-7.3b).
                self.request_poll();
                self.predictable = false;
                outcome.events |= Events::PROBE;
                self.arm_loss_timer(config, now);
            }
            Some(LossTimer::Reordering) => self.reordering_timeout(config, now, outcome),
            None => self.arm_loss_timer(config, now),
        }
    }

    /// RFC6298-5.4 to 5.6, RFC5681-3.1i and 3.1j.
    fn retransmission_timeout(&mut self, config: &Config, now: Instant, outcome: &mut Outcome) {
        let numbers = self.sender.numbers();
        let open = self.sender.window() > 0;
        if numbers.una == numbers.nxt {
            return;
        }
        if numbers.una.ge(numbers.written) {
            // Nothing of it has left yet: the wait is our own and says nothing about the path.
            self.arm_loss_timer(config, now);
            return;
        }
        let first = !self.recovery.timed_out_before();
        if self.liveness.on_timeout(config, first, open) {
            self.end_without_progress(CloseReason::TimedOut, now, outcome);
            return;
        }
        if open {
            self.review_path(config, now);
        }
        let fresh = self.recovery.phase() == Phase::Open;
        self.rtt.back_off(&config.rto);
        self.recovery.on_timeout(config, &numbers, &self.rtt, now);
        let saved = fresh.then(|| self.congestion.save());
        self.begin_recovery(Phase::Loss, saved, now);
        self.congestion.end_limited_transmit();
        self.arm_loss_timer(config, now);
        if !open {
            // MUST-35: the window was closed over what is in flight. Nothing is known to be lost; ask.
            self.flags.insert(ConnectionFlags::PROBE_DUE);
            self.recovery.force_nothing();
            return;
        }
        // In a recovery the flight also counts what has arrived, behind a hole: it must not raise the threshold.
        let flight = self.sender.flight();
        let most = self.congestion.window().ssthresh();
        let flight = if fresh { self.congestion.loss_flight(flight) } else { flight.min(most) };
        self.congestion.on_rto(now, flight, first);
        self.recovery.count_timeout(fresh && config.frto);
        outcome.events |= Events::TIMEOUT;
    }

    /// The time for what may have been reordered is over.
    fn reordering_timeout(&mut self, config: &Config, now: Instant, outcome: &mut Outcome) {
        outcome.events |= Events::REORDERING_TIMEOUT;
        let losses = self.detect_losses(config, now);
        let summary = AckSummary::default();
        match self.recovery.phase() {
            Phase::Open if losses.octets > 0 && !self.is_probes_loss(now) => {
                self.begin_fast_recovery(config, &summary, now, outcome)
            }
            Phase::Fast => self.continue_fast_recovery(config, &summary, &losses, now, outcome),
            Phase::Open | Phase::Loss => {}
        }
        self.request_poll();
        self.predictable = false;
        self.arm_loss_timer(config, now);
    }
}
