//! For how long a silent or stuck connection is borne with: R2, the user's timeout, the keep-alive, window probes.
//!
//! Times and counts only (RFC 9293 3.8.3, 3.8.4); what they lead to is in `keepalive.rs`, `loss.rs` and `expiry.rs`.

use core::num::NonZeroU32;

use crate::tcp::base::config::{Config, KeepAlive};
use crate::tcp::base::info::Info;
use crate::tcp::base::outcome::CloseReason;
use crate::tcp::base::time::{Duration, Instant};
use crate::wire::icmp::Unreachable;

/// How often a connection that waits for an acknowledgment looks whether it is time for a keep-alive, at most.
const LEAST_LOOK: Duration = Duration::from_millis(100);

/// A user timeout, in ms, that never ends.
const NEVER: NonZeroU32 = NonZeroU32::MAX;

/// Who waits for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Its user, who may give it up.
    User,
    /// None: it is an orphan (OPS-22).
    None,
}

/// When the peer last proved to make progress, and how long it may take to do so again.
#[derive(Clone, Debug)]
pub(super) struct Liveness {
    /// When the peer last acknowledged something; before it did, when what is in flight began to leave.
    progress: Instant,
    keepalive: Option<Probing>,
    /// The user's own limit for progress, in ms.
    user_timeout: Option<NonZeroU32>,
    /// Timeouts in a row, without progress.
    timeouts: u8,
    /// Window probes sent since the window closed.
    window_probes: u8,
    /// What the network last said of the way to the peer: that is why nothing arrives, if nothing does (ICMP-4).
    soft_error: Option<Unreachable>,
}

/// The keep-alive of one connection.
#[derive(Clone, Copy, Debug)]
struct Probing {
    /// In ms.
    idle: NonZeroU32,
    /// In ms.
    interval: NonZeroU32,
    /// When the peer was last heard before the first of the probes, in us.
    heard: u32,
    count: u8,
    /// Unanswered probes, if nothing was heard since `heard`.
    sent: u8,
}

/// What the keep-alive does at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeepAliveStep {
    /// It is off.
    Off,
    /// It looks again then.
    Wait(Instant),
    /// A probe leaves; it looks again then.
    Probe(Instant),
    /// Enough of them went unanswered (MUST-29).
    GiveUp,
}

impl Liveness {
    /// Nothing was sent yet. A [`Config::user_timeout`] is that of each new connection.
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let mut new = Self {
            progress: now,
            keepalive: None,
            user_timeout: None,
            timeouts: 0,
            window_probes: 0,
            soft_error: None,
        };
        new.set_user_timeout(Some(config.user_timeout));
        new
    }

    /// The user's own limit for progress in the place of R2; `None` and zero are none.
    pub(super) fn set_user_timeout(&mut self, limit: Option<Duration>) {
        self.user_timeout = limit.filter(|limit| !limit.is_zero()).map(millis);
    }

    /// Switches keep-alive on or off. Gives the silence before the first probe.
    pub(super) fn set_keepalive(&mut self, keepalive: Option<KeepAlive>) -> Option<Duration> {
        self.keepalive = keepalive.map(|KeepAlive { idle, interval, count }| Probing {
            idle: millis(idle),
            interval: millis(interval),
            heard: 0,
            count: count.max(2),
            sent: 0,
        });
        self.keepalive.map(|probing| span(probing.idle))
    }

    /// Whether keep-alive is on.
    #[inline]
    pub(super) fn keeps_alive(&self) -> bool {
        self.keepalive.is_some()
    }

    /// Whether a probe of the keep-alive is unanswered.
    pub(super) fn is_probing(&self) -> bool {
        self.keepalive.is_some_and(|probing| probing.sent > 0)
    }

    /// Everything is acknowledged, and the peer was `heard` last: is it still there (KA-3, KA-4)?
    pub(super) fn step_keepalive(&mut self, heard: Instant, now: Instant) -> KeepAliveStep {
        let Some(probing) = &mut self.keepalive else { return KeepAliveStep::Off };
        if probing.heard != heard.as_micros() as u32 {
            probing.heard = heard.as_micros() as u32;
            probing.sent = 0;
        }
        let due = heard + span(probing.idle) + span(probing.interval) * u64::from(probing.sent);
        if now < due {
            return KeepAliveStep::Wait(due);
        }
        if probing.sent >= probing.count {
            return KeepAliveStep::GiveUp;
        }
        probing.sent += 1;
        KeepAliveStep::Probe(now + span(probing.interval))
    }

    /// When the peer last made progress.
    pub(super) fn last_progress(&self) -> Instant {
        self.progress
    }

    /// A router or the peer's host says why something did not arrive.
    pub(super) fn note_error(&mut self, why: Unreachable) {
        self.soft_error = Some(why);
    }

    /// Why the connection ends that has waited in vain: what the network said of it is more than that.
    pub(super) fn reason(&self, reason: CloseReason) -> CloseReason {
        match self.soft_error {
            Some(why) if matches!(reason, CloseReason::TimedOut | CloseReason::UserTimeout) => {
                CloseReason::Unreachable(why)
            }
            _ => reason,
        }
    }

    /// Timeouts in a row, without progress.
    pub(super) fn timeouts(&self) -> u8 {
        self.timeouts
    }

    /// The peer has acknowledged something, or shown that it lives with its window closed (MUST-37).
    #[inline]
    pub(super) fn on_progress(&mut self, now: Instant) {
        self.progress = now;
    }

    /// The peer has answered while its window is closed, or shrank below what we sent: that is progress (MUST-37,
    /// SHLD-17). Not for a user who said how long to wait, or has left (OPS-28).
    pub(super) fn on_answer(&mut self, waiting: Waiting, now: Instant) {
        if self.user_timeout.is_none() && waiting == Waiting::User {
            self.on_progress(now);
        }
    }

    /// Something waits for the peer from `now` on. When the timer is to fire that watches for progress; `Instant::MAX`
    /// for never.
    #[inline(always)]
    pub(super) fn watch(&mut self, config: &Config, waiting: Waiting, now: Instant) -> Instant {
        self.on_progress(now);
        self.next_look(config, waiting, now).unwrap_or(now)
    }

    /// When to look again for the progress that something waits for.
    ///
    /// # Errors
    ///
    /// The limit is over: R2, or the user's own (MUST-20, SM-T-1).
    #[inline(always)]
    pub(super) fn next_look(&self, config: &Config, waiting: Waiting, now: Instant) -> Result<Instant, CloseReason> {
        let over = self.limit(config, waiting).map_or(Instant::MAX, |limit| self.progress + limit);
        // After the keep-alive, too, but until nothing is unacknowledged there is nothing to do for it: not at every
        // silence, however short a user may want it.
        let look_again = || self.keepalive.map_or(Instant::MAX, |probing| now + span(probing.idle).max(LEAST_LOOK));
        match self.user_timeout {
            _ if now < over => Ok(over.min(look_again())),
            Some(_) => Err(CloseReason::UserTimeout),
            None => Err(CloseReason::TimedOut),
        }
    }

    /// How long there may be no progress (SM-T-1, MUST-20); `None` for ever.
    #[inline]
    pub(super) fn limit(&self, config: &Config, waiting: Waiting) -> Option<Duration> {
        let limit = match self.user_timeout {
            Some(NEVER) => Duration::ZERO,
            Some(millis) => span(millis),
            None => config.retransmit_limit,
        };
        let limit = Some(limit).filter(|limit| !limit.is_zero());
        if waiting == Waiting::User {
            return limit;
        }
        // OPS-22: nobody waits for what a user has left behind, and nobody is left to give it up.
        let orphan = Some(config.orphan_timeout).filter(|limit| !limit.is_zero());
        limit.into_iter().chain(orphan).min()
    }

    /// The retransmission timer fired, for the segment at SND.UNA `first` or again; `open`: the peer lets us send.
    /// Whether that is one timeout more than may follow each other (R2 as a count, MUST-20, OPS-2).
    pub(super) fn on_timeout(&mut self, config: &Config, first: bool, open: bool) -> bool {
        if first {
            // There was progress since the last one.
            self.soft_error = None;
        }
        let before = if first { 0 } else { self.timeouts };
        self.timeouts = before.saturating_add(u8::from(open));
        let counted = config.data_retries > 0 && self.user_timeout.is_none();
        counted && open && before >= config.data_retries
    }

    /// A window probe leaves. Until the next one, as [`probe_interval`](Self::probe_interval) has it.
    pub(super) fn on_probe(&mut self, config: &Config, rto: Duration) -> Duration {
        self.window_probes = self.window_probes.saturating_add(1);
        self.probe_interval(config, rto)
    }

    /// The window has opened.
    pub(super) fn on_window_opened(&mut self) {
        self.window_probes = 0;
    }

    /// Until the next window probe: one `rto` at first (SHLD-29), doubled each time (SHLD-30), up to the cap (ZW-1).
    pub(super) fn probe_interval(&self, config: &Config, rto: Duration) -> Duration {
        let factor = 1_u64.checked_shl(u32::from(self.window_probes)).unwrap_or(u64::MAX);
        (rto * factor).min(config.rto.max)
    }

    /// Its part of what observers see.
    pub(super) fn describe(&self, info: &mut Info) {
        info.probes = self.window_probes;
        info.soft_error = self.soft_error;
    }
}

/// Whole ms, at least one.
fn millis(time: Duration) -> NonZeroU32 {
    u32::try_from(time.as_millis()).map_or(NonZeroU32::MAX, |millis| NonZeroU32::new(millis).unwrap_or(NonZeroU32::MIN))
}

fn span(millis: NonZeroU32) -> Duration {
    Duration::from_millis(u64::from(millis.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_keep_alive_is_small() {
        assert_eq!(size_of::<Option<Probing>>(), 16);
        assert_eq!(size_of::<Liveness>(), 32);
    }
}
