//! `on_timeout`: what the timers mean (section SM-T of the checklist, RFC 6298 5, RFC 9293 3.8.6.1).

use super::config::Config;
use super::connection::{CloseReason, Cold, Connection, Events, Hot, Outcome, Recovery};
use super::marks::Marks;
use super::probe::LossTimer;
use super::recovery::Frto;
use super::time::{Duration, Instant};
use super::timers::Timer;

impl Connection {
    /// Fires whichever timers are due at `now`; harmless when none is. Segments come out of
    /// [`poll_transmit`](Self::poll_transmit).
    pub fn on_timeout(&mut self, config: &Config, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        while let Some(timer) = self.hot.timers.pop_expired(now) {
            match timer {
                Timer::Retransmit => match self.cold.loss_timer {
                    LossTimer::Retransmission => self.retransmission_timeout(config, now, &mut outcome),
                    LossTimer::Probe => self.probe_timeout(config, now, &mut outcome),
                    LossTimer::Reordering => self.reordering_timeout(config, now, &mut outcome),
                },
                Timer::Persist => self.persist(config, now),
                Timer::DelayedAck => self.hot.marks.set(Marks::ACK_DUE.with(Marks::POLL)),
                Timer::SwsOverride => self.hot.marks.set(Marks::SWS_OVERRIDE.with(Marks::POLL)),
                Timer::FinWait2 => {
                    // SM-FW2-5: nobody is left to read, and the peer does not close. Our side was delivered entirely.
                    self.finish(CloseReason::Normal);
                    outcome.events |= Events::CLOSED;
                }
                Timer::GiveUp => self.give_up(config, now, &mut outcome),
            }
        }
        outcome
    }

    /// RFC6298-5.4 to 5.6, RFC5681-3.1i and 3.1j.
    fn retransmission_timeout(&mut self, config: &Config, now: Instant, outcome: &mut Outcome) {
        let rtt_config = config.rtt();
        let snd = &self.hot.snd;
        let (una, written, wnd) = (snd.una, snd.written, snd.wnd);
        if una == snd.nxt {
            return;
        }
        self.cold.rto_base = now;
        if una.ge(written) {
            // Nothing of it has left yet: the wait is our own and says nothing about the path.
            self.arm_loss_timer(config, now);
            return;
        }
        let first = !self.hot.marks.has(Marks::RTO_REPEAT);
        if self.too_many_timeouts(config, first, wnd > 0) {
            self.end_without_progress(CloseReason::TimedOut, now, outcome);
            return;
        }
        let fresh = self.hot.recovery == Recovery::Open;
        self.cold.rtt.back_off(&rtt_config);
        if self.cold.board.front_is_sacked() {
            self.cold.board.forget_sacked(); // RFC2018-5b
            self.count(|counts| counts.reneged += 1);
        }
        // RFC8985-6.3: the first, and what is overdue by now. Without RACK all that is not reported.
        let timed = config.rack && self.hot.marks.has(Marks::SACK);
        let window = self.cold.rack.window(self.cold.min_rtt, self.cold.rtt.srtt(), true);
        let (board, rack) = (&mut self.cold.board, &mut self.cold.rack);
        rack.repeat_at = Instant::MAX;
        board.lose_all(una, written, |start, record| timed && start != una && !rack.is_overdue(record, now, window));
        if fresh {
            let saved = self.cold.controller.save(&self.hot.congestion);
            self.begin_episode(Recovery::Loss, saved, now);
        } else {
            self.continue_episode(Recovery::Loss, now);
        }
        self.hot.snd.dup_acks = 0;
        self.cold.limited_transmit = 0;
        self.hot.marks.set(Marks::RTO_REPEAT);
        self.arm_loss_timer(config, now);
        if wnd == 0 {
            // MUST-35: the window was closed over what is in flight. Nothing is known to be lost; ask.
            self.hot.marks.set(Marks::PROBE_DUE);
            self.hot.marks.clear(Marks::FAST_RTX);
            return;
        }
        if fresh && config.frto {
            self.episode().frto = Frto::Waiting;
        }
        // In a recovery the flight also counts what has arrived, behind a hole: it must not raise the threshold.
        let flight = self.hot.snd.flight();
        let flight = if fresh { self.loss_flight(flight) } else { flight.min(self.hot.congestion.ssthresh()) };
        self.cold.controller.on_rto(&mut self.hot.congestion, now, flight, first);
        self.cold.timeouts = self.cold.timeouts.saturating_add(1);
        outcome.events |= Events::TIMEOUT;
    }

    /// Whether this timeout is one more than may follow each other (R2 as a count, MUST-20, OPS-2). `open`: the peer lets
    /// us send.
    fn too_many_timeouts(&mut self, config: &Config, first: bool, open: bool) -> bool {
        let before = if first { 0 } else { self.cold.tries };
        self.cold.tries = before.saturating_add(u8::from(open));
        let counted = config.data_retries > 0 && !self.hot.marks.has(Marks::USER_TIMEOUT);
        counted && open && before >= config.data_retries
    }

    /// Another probe of a closed window (MUST-36, SHLD-30).
    fn persist(&mut self, config: &Config, now: Instant) {
        let Hot { snd, marks, timers, .. } = &mut self.hot;
        let fin = marks.has(Marks::FIN_QUEUED) && !marks.has(Marks::FIN_SENT);
        if snd.una != snd.nxt || snd.window_room() > 0 || (snd.unsent() == 0 && !fin) {
            return;
        }
        marks.set(Marks::PROBE_DUE.with(Marks::POLL));
        self.cold.probes = self.cold.probes.saturating_add(1);
        timers.set(Timer::Persist, now + self.cold.persist_interval(config));
    }
}

impl Cold {
    /// Until the next probe: one RTO at first (SHLD-29), doubled each time (SHLD-30), up to the cap (ZW-1).
    pub(super) fn persist_interval(&self, config: &Config) -> Duration {
        let factor = 1_u64.checked_shl(u32::from(self.probes)).unwrap_or(u64::MAX);
        (self.rtt.rto(&config.rtt()) * factor).min(config.max_rto)
    }
}

#[cfg(test)]
#[path = "expiry_tests.rs"]
mod tests;
