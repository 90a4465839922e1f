//! `on_timeout`: what the timers mean (section SM-T of the checklist, RFC 9293 3.8.6.1). That of loss recovery is in
//! `loss.rs`, that of a silent or stuck connection in `keepalive.rs`.

use crate::tcp::base::config::Config;
use crate::tcp::base::outcome::{CloseReason, Events, Outcome};
use crate::tcp::base::time::Instant;
use crate::tcp::base::timers::Timer;
use crate::tcp::connection::{Connection, ConnectionFlags};

impl Connection {
    /// Fires whichever timers are due at `now`; harmless when none is. Segments come out of
    /// [`poll_transmit`](Self::poll_transmit).
    pub fn on_timeout(&mut self, config: &Config, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        while let Some(timer) = self.timers.pop_expired(now) {
            match timer {
                Timer::Retransmit => self.loss_timeout(config, now, &mut outcome),
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

    /// Another probe of a closed window (MUST-36, SHLD-30).
    fn persist(&mut self, config: &Config, now: Instant) {
        if !self.is_stalled() || self.sender.window_room() > 0 {
            return;
        }
        self.flags.insert(ConnectionFlags::PROBE_DUE | ConnectionFlags::POLL);
        let rto = self.rtt.rto(&config.rto);
        self.timers.set(Timer::Persist, now + self.liveness.on_probe(config, rto));
    }
}

#[cfg(test)]
#[path = "expiry_tests.rs"]
mod tests;
