//! `on_timeout`: what the timers mean (section SM-T of the checklist, RFC 6298 5, RFC 9293 3.8.6.1).

use crate::tcp::base::config::Config;
use crate::tcp::base::outcome::{CloseReason, Events, Outcome};
use crate::tcp::base::time::Instant;
use crate::tcp::base::timers::Timer;
use crate::tcp::connection::Connection;
use crate::tcp::connection::flags::ConnectionFlags;
use crate::tcp::recovery::{LossTimer, Phase};

impl Connection {
    /// Fires whichever timers are due at `now`; harmless when none is. Segments come out of
    /// [`poll_transmit`](Self::poll_transmit).
    pub fn on_timeout(&mut self, config: &Config, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        while let Some(timer) = self.timers.pop_expired(now) {
            match timer {
                Timer::Retransmit => match self.recovery.on_timer() {
                    LossTimer::Retransmission => self.retransmission_timeout(config, now, &mut outcome),
                    LossTimer::Probe => self.probe_timeout(config, now, &mut outcome),
                    LossTimer::Reordering => self.reordering_timeout(config, now, &mut outcome),
                },
                Timer::Persist => self.persist(config, now),
                Timer::DelayedAck => self.request_ack(),
                Timer::SwsOverride => {
                    self.sender.override_holding();
                    self.request_poll();
                }
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
        let numbers = self.sender.numbers();
        let open = self.sender.window() > 0;
        if numbers.una == numbers.nxt {
            return;
        }
        self.recovery.restart_timer(now);
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
        let fresh = self.recovery.phase() == Phase::Open;
        self.rtt.back_off(&config.rtt());
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

    /// Another probe of a closed window (MUST-36, SHLD-30).
    fn persist(&mut self, config: &Config, now: Instant) {
        if !self.is_stalled() || self.sender.window_room() > 0 {
            return;
        }
        self.flags.insert(ConnectionFlags::PROBE_DUE | ConnectionFlags::POLL);
        self.liveness.on_window_probe();
        let rto = self.rtt.rto(&config.rtt());
        self.timers.set(Timer::Persist, now + self.liveness.probe_interval(config, rto));
    }
}

#[cfg(test)]
#[path = "expiry_tests.rs"]
mod tests;
