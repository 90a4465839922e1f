//! Giving up: R2, the user's timeout and the keep-alive (RFC 9293 3.8.3, 3.8.4; section 3.P of the checklist).
//!
//! One timer serves them all, since they exclude each other: while something is unacknowledged it watches for progress,
//! while nothing is it watches for signs of life. No segment moves it; when it fires, the times of the last progress
//! and of the last segment received tell whether it was early, and it is set anew.

use crate::tcp::base::config::{Config, KeepAlive};
use crate::tcp::base::outcome::{CloseReason, Events, Outcome};
use crate::tcp::base::state::State;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::base::timers::Timer;
use crate::tcp::connection::liveness::KeepAliveStep;
use crate::tcp::connection::{Connection, ConnectionFlags};

impl Connection {
    /// Switches keep-alive on or off (MUST-24); it is off unless [`Config::keepalive`] says otherwise (MUST-25). Probes
    /// are sent only while nothing is unacknowledged and nothing was received (MUST-26); when they go unanswered the
    /// peer gets a RST and the connection ends with [`CloseReason::TimedOut`].
    pub fn set_keepalive(&mut self, keepalive: Option<KeepAlive>) {
        if matches!(self.state, State::Closed | State::TimeWait) {
            return;
        }
        if let Some(idle) = self.liveness.set_keepalive(keepalive) {
            // Silence until now counts.
            let at = self.clock + idle;
            if self.timers.get(Timer::GiveUp).is_none_or(|set| at < set) {
                self.timers.set(Timer::GiveUp, at);
            }
        } else if !self.awaits_progress() {
            self.timers.cancel(Timer::GiveUp);
        }
    }

    /// Sets how long data may stay unacknowledged, or unsent before a closed window, until the connection ends with
    /// [`CloseReason::UserTimeout`] (MUST-21; TCP_USER_TIMEOUT of Linux), at any time. `None` and zero: there is no
    /// such limit, R2 of the configuration counts. `Duration::MAX`: there is no limit at all.
    ///
    /// Unlike R2 (MUST-37), it does not stop for a peer that keeps its window closed and answers our probes (OPS-28).
    pub fn set_user_timeout(&mut self, limit: Option<Duration>) {
        self.liveness.set_user_timeout(limit);
        self.review_progress();
    }

    /// The user is gone: nobody waits for the connection but for the rest of its octets, which are still being handed
    /// over before [`close`](Self::close). A peer that takes none of them has [`Config::orphan_timeout`] (OPS-22).
    pub fn leave(&mut self) {
        self.flags.insert(ConnectionFlags::LEFT);
        self.review_progress();
    }

    /// Whether its user is [gone](Self::leave).
    #[must_use]
    pub fn is_left(&self) -> bool {
        self.flags.contains(ConnectionFlags::LEFT)
    }

    /// The timer of this file has fired.
    pub(super) fn give_up(&mut self, config: &Config, now: Instant, outcome: &mut Outcome) {
        if self.awaits_progress() {
            // R2 or the user's own limit may be over (MUST-20, SM-T-1).
            match self.liveness.next_look(config, self.waiting(), now) {
                Ok(again) => self.timers.set(Timer::GiveUp, again),
                Err(reason) => self.end_without_progress(reason, now, outcome),
            }
            return;
        }
        // Everything is acknowledged: is the peer still there? (KA-3, KA-4)
        match self.liveness.step_keepalive(self.clock, now) {
            KeepAliveStep::Off => {}
            KeepAliveStep::Wait(again) => self.timers.set(Timer::GiveUp, again),
            KeepAliveStep::Probe(again) => {
                self.timers.set(Timer::GiveUp, again);
                self.flags.insert(ConnectionFlags::PROBE_DUE | ConnectionFlags::POLL);
            }
            KeepAliveStep::GiveUp => {
                outcome.reply = Some(self.reset(now));
                self.finish(self.liveness.reason(CloseReason::TimedOut));
                outcome.events |= Events::CLOSED;
            }
        }
    }
}

#[cfg(test)]
#[path = "keepalive_tests.rs"]
mod tests;
