//! Giving up: R2, the user's timeout and the keep-alive (RFC 9293 3.8.3, 3.8.4; section 3.P of the checklist).
//!
//! One timer serves them all, since they exclude each other: while something is unacknowledged it watches for progress,
//! while nothing is it watches for signs of life. No segment moves it; when it fires, the times of the last progress and
//! of the last segment received tell whether it was early, and it is set anew.

use super::config::Config;
use super::connection::{CloseReason, Cold, Connection, Events, Outcome};
use super::marks::Marks;
use super::state::State;
use super::time::{Duration, Instant};
use super::timers::Timer;

/// When a silent connection is probed and given up (MUST-27).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence of the peer before the first probe. MUST-28 asks for a default of at least 2 h.
    pub idle: Duration,
    /// From one unanswered probe to the next.
    pub interval: Duration,
    /// The connection ends when as many probes went unanswered. Fewer than 2 mean 2 (MUST-29).
    pub count: u8,
}

impl Default for KeepAlive {
    /// Two hours (MUST-28), then nine probes 75 s apart: as Linux has it.
    fn default() -> Self {
        Self { idle: Duration::from_secs(7_200), interval: Duration::from_secs(75), count: 9 }
    }
}

/// How often a connection that waits for an acknowledgment looks whether it is time for a keep-alive, at most.
const LEAST_LOOK: Duration = Duration::from_millis(100);

/// Keep-alive of one connection; means something with `Marks::KEEP_ALIVE`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeepAliveState {
    /// In ms.
    idle: u32,
    /// In ms.
    interval: u32,
    /// When the peer was last heard before the first of the probes, in us.
    heard: u32,
    count: u8,
    /// Unanswered probes, if nothing was heard since `heard`.
    sent: u8,
}

impl KeepAliveState {
    fn idle(&self) -> Duration {
        Duration::from_millis(u64::from(self.idle))
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(u64::from(self.interval))
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis().max(1)).unwrap_or(u32::MAX)
}

impl Connection {
    /// Switches keep-alive on or off (MUST-24); it is off unless [`Config::keepalive`] says otherwise (MUST-25). Probes
    /// are sent only while nothing is unacknowledged and nothing was received (MUST-26); when they go unanswered the
    /// peer gets a RST and the connection ends with [`CloseReason::TimedOut`].
    pub fn set_keepalive(&mut self, keepalive: Option<KeepAlive>) {
        if matches!(self.hot.state, State::Closed | State::TimeWait) {
            return;
        }
        self.hot.marks.put(Marks::KEEP_ALIVE, keepalive.is_some());
        let timers = &mut self.hot.timers;
        if let Some(KeepAlive { idle, interval, count }) = keepalive {
            let (idle, interval) = (millis(idle), millis(interval));
            self.cold.keepalive = KeepAliveState { idle, interval, heard: 0, count: count.max(2), sent: 0 };
            // Silence until now counts.
            let at = self.hot.clock + self.cold.keepalive.idle();
            if timers.get(Timer::GiveUp).is_none_or(|set| at < set) {
                timers.set(Timer::GiveUp, at);
            }
        } else if !self.awaits_progress() {
            self.hot.timers.cancel(Timer::GiveUp);
        }
    }

    /// Sets how long data may stay unacknowledged, or unsent before a closed window, until the connection ends with
    /// [`CloseReason::UserTimeout`] (MUST-21; TCP_USER_TIMEOUT of Linux), at any time. `None` and zero: there is no such
    /// limit, R2 of the configuration counts. `Duration::MAX`: there is no limit at all.
    ///
    /// Unlike R2 (MUST-37), it does not stop for a peer that keeps its window closed and answers our probes (OPS-28).
    pub fn set_user_timeout(&mut self, limit: Option<Duration>) {
        let limit = limit.filter(|limit| !limit.is_zero());
        self.cold.user_timeout = limit.map_or(0, millis);
        self.hot.marks.put(Marks::USER_TIMEOUT, limit.is_some());
        self.review_progress();
    }

    /// The user is gone: nobody waits for the connection but for the rest of its octets, which are still being handed over
    /// before [`close`](Self::close). A peer that takes none of them has [`Config::orphan_timeout`] (OPS-22).
    pub fn leave(&mut self) {
        self.hot.marks.set(Marks::LEFT);
        self.review_progress();
    }

    /// Whether its user is [gone](Self::leave).
    #[must_use]
    pub fn is_left(&self) -> bool {
        self.hot.marks.has(Marks::LEFT)
    }

    /// The limit for progress has changed: the timer's handler finds out how much is left of it.
    pub(super) fn review_progress(&mut self) {
        if self.awaits_progress() {
            self.hot.timers.set(Timer::GiveUp, self.hot.clock);
        }
    }

    /// Whether the peer owes us an acknowledgment or a window.
    fn awaits_progress(&self) -> bool {
        self.hot.snd.una != self.hot.snd.nxt || self.hot.timers.is_set(Timer::Persist)
    }

    /// The timer of this file has fired.
    pub(super) fn give_up(&mut self, config: &Config, now: Instant, outcome: &mut Outcome) {
        if self.awaits_progress() {
            self.no_progress(config, now, outcome);
        } else if self.hot.marks.has(Marks::KEEP_ALIVE) {
            self.keep_alive(now, outcome);
        }
    }

    /// R2 or the user's own limit may be over (MUST-20, SM-T-1).
    fn no_progress(&mut self, config: &Config, now: Instant, outcome: &mut Outcome) {
        let marks = self.hot.marks;
        let over = self.cold.progress_limit(config, marks).map_or(Instant::MAX, |limit| self.cold.progress + limit);
        if now < over {
            let again = self.cold.look_again(marks, now);
            self.hot.timers.set(Timer::GiveUp, over.min(again));
            return;
        }
        let reason = if marks.has(Marks::USER_TIMEOUT) { CloseReason::UserTimeout } else { CloseReason::TimedOut };
        self.end_without_progress(reason, now, outcome);
    }

    /// The peer owes us an answer, and no more is waited for it.
    pub(super) fn end_without_progress(&mut self, reason: CloseReason, now: Instant, outcome: &mut Outcome) {
        if self.hot.marks.has(Marks::ORPHAN) {
            // The peer may well be there and only refuse to read: tell it.
            outcome.reply = Some(self.reset(now));
        }
        self.finish(reason);
        outcome.events |= Events::CLOSED;
    }

    /// Everything is acknowledged: is the peer still there? (KA-3, KA-4)
    fn keep_alive(&mut self, now: Instant, outcome: &mut Outcome) {
        let heard = self.hot.clock;
        let keepalive = &mut self.cold.keepalive;
        if keepalive.heard != heard.as_micros() as u32 {
            keepalive.heard = heard.as_micros() as u32;
            keepalive.sent = 0;
        }
        let due = heard + keepalive.idle() + keepalive.interval() * u64::from(keepalive.sent);
        if now < due {
            self.hot.timers.set(Timer::GiveUp, due);
            return;
        }
        if keepalive.sent >= keepalive.count {
            outcome.reply = Some(self.reset(now));
            self.finish(CloseReason::TimedOut);
            outcome.events |= Events::CLOSED;
            return;
        }
        keepalive.sent += 1;
        self.hot.timers.set(Timer::GiveUp, now + self.cold.keepalive.interval());
        self.hot.marks.set(Marks::PROBE_DUE.with(Marks::POLL));
    }

    /// Whether the probe that is due is one of the keep-alive.
    pub(super) fn probes_for_life(&self) -> bool {
        self.hot.marks.has(Marks::KEEP_ALIVE)
            && self.cold.keepalive.sent > 0
            && self.hot.snd.queued == 0
            && !self.awaits_progress()
    }
}

impl Cold {
    /// How long there may be no progress (SM-T-1, MUST-20); `None` for ever.
    fn progress_limit(&self, config: &Config, marks: Marks) -> Option<Duration> {
        let limit = match (marks.has(Marks::USER_TIMEOUT), self.user_timeout) {
            (true, u32::MAX) => Duration::ZERO,
            (true, millis) => Duration::from_millis(u64::from(millis)),
            (false, _) => config.retransmit_limit,
        };
        let limit = Some(limit).filter(|limit| !limit.is_zero());
        // OPS-22: nobody waits for what a user has left behind, and nobody is left to give it up.
        let orphan = Some(config.orphan_timeout).filter(|limit| marks.has(Marks::ORPHAN) && !limit.is_zero());
        limit.into_iter().chain(orphan).min()
    }

    /// When to look after the keep-alive, with something unacknowledged at `now`: until that is not, there is nothing to do,
    /// so not at every silence, however short a user may want it.
    fn look_again(&self, marks: Marks, now: Instant) -> Instant {
        if marks.has(Marks::KEEP_ALIVE) { now + self.keepalive.idle().max(LEAST_LOOK) } else { Instant::MAX }
    }

    /// When the timer is to fire that begins to watch for progress now; `Instant::MAX` for never.
    pub(super) fn watch_progress(&mut self, config: &Config, marks: Marks, now: Instant) -> Instant {
        self.progress = now;
        let over = self.progress_limit(config, marks).map_or(Instant::MAX, |limit| now + limit);
        over.min(self.look_again(marks, now))
    }
}

#[cfg(test)]
#[path = "keepalive_tests.rs"]
mod tests;
