//! RACK (RFC 8985 6): loss by time. What was sent long enough before something that has arrived is lost.
//!
//! The state and its arithmetic; the records that it assesses are the scoreboard's.

use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::recovery::scoreboard::{Assessment, Losses, Record, Scoreboard};

/// Recoveries for which a widened reordering window lasts (RFC8985-6.2.4b).
const PERSISTENCE: u8 = 16;

/// The window where reordering is possible at all: a measured round trip of zero must not make it none.
const LEAST_WINDOW: Duration = Duration::from_micros(1);

/// What is known of the order and time of deliveries.
#[derive(Clone, Debug)]
pub(super) struct Rack {
    /// When the record left that was sent last of all that were delivered (RACK.xmit_ts).
    sent: Instant,
    /// Its round trip (RACK.rtt).
    rtt: Duration,
    /// Its end (RACK.end_seq).
    end: SeqNum,
    /// One above the highest number delivered (RACK.fack).
    fack: SeqNum,
    /// SND.NXT when a D-SACK widened the window last; until that is acknowledged, others change nothing.
    round: SeqNum,
    /// `round` means something.
    in_round: bool,
    /// Quarters of a round trip in the reordering window (RACK.reo_wnd_mult).
    steps: u8,
    /// Recoveries until it is one again (RACK.reo_wnd_persist).
    persist: u8,
    /// Reordering was seen on this connection.
    reordering: bool,
    /// When detection is to be repeated; `Instant::MAX` for never.
    repeat_at: Instant,
}

impl Rack {
    pub(super) fn new(una: SeqNum) -> Self {
        Self {
            sent: Instant::ZERO,
            rtt: Duration::ZERO,
            end: una,
            fack: una,
            round: una,
            in_round: false,
            repeat_at: Instant::MAX,
            steps: 1,
            persist: 0,
            reordering: false,
        }
    }

    /// `record`, which began at `start`, was delivered. `echo_older`: its acknowledgment echoes a timestamp from before
    /// it was sent, so that an earlier copy is what arrived.
    #[inline]
    pub(super) fn on_delivered(&mut self, record: &Record, now: Instant, min_rtt: Duration, echo_older: bool) {
        // RFC8985-6.2.3. What was sent again proves no reordering.
        if record.end().gt(self.fack) {
            self.fack = record.end();
        } else if record.end().lt(self.fack) && !record.resent() {
            self.reordering = true;
        }
        let rtt = now - record.sent();
        // RFC8985-6.2.2a: an acknowledgment of the first copy says nothing about the second.
        if !record.timed() || record.resent() && (echo_older || rtt < min_rtt) {
            return;
        }
        // RFC8985-6.2.2b (`RACK_sent_after`).
        if record.sent() > self.sent || (record.sent() == self.sent && record.end().gt(self.end)) {
            (self.sent, self.end, self.rtt) = (record.sent(), record.end(), rtt);
        }
    }

    /// A D-SACK arrived: something was sent again in vain, so wait longer from now on (RFC8985-6.2.4b).
    pub(super) fn on_dsack(&mut self, una: SeqNum, nxt: SeqNum) {
        if !self.in_round || una.ge(self.round) {
            self.in_round = true;
            self.round = nxt;
            self.steps = self.steps.saturating_add(1);
            self.persist = PERSISTENCE;
        }
    }

    /// A recovery ends.
    pub(super) fn on_recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        if self.persist == 0 {
            self.steps = 1;
        }
    }

    /// How much later than expected something may come and not be lost (RFC8985-6.2.4a). `certain`: in recovery, or
    /// DupThresh segments are SACKed.
    pub(super) fn window(&self, min_rtt: Duration, srtt: Option<Duration>, certain: bool) -> Duration {
        if !self.reordering && certain {
            return Duration::ZERO;
        }
        if min_rtt == Duration::MAX {
            return LEAST_WINDOW;
        }
        let window = min_rtt * u64::from(self.steps) / 4;
        window.min(srtt.unwrap_or(Duration::MAX)).max(LEAST_WINDOW)
    }

    /// Finds what of `scoreboard` is lost at `now` with a reordering window of `window`, as [`Scoreboard::mark_lost`] does.
    pub(super) fn detect_losses(
        &mut self,
        scoreboard: &mut Scoreboard,
        (una, written, resent_end): (SeqNum, SeqNum, SeqNum),
        window: Duration,
        now: Instant,
    ) -> Losses {
        let mut remaining = Duration::ZERO;
        let losses = scoreboard
            .mark_lost(una, written, resent_end, |_, record| self.assess(record, now, window, &mut remaining));
        self.repeat_at = if remaining.is_zero() { Instant::MAX } else { now + remaining };
        losses
    }

    /// When detection is to be repeated; `Instant::MAX` for never.
    #[inline]
    pub(super) fn repeat_at(&self) -> Instant {
        self.repeat_at
    }

    /// Detection is not to be repeated, as far as is known now.
    pub(super) fn forget_repeat(&mut self) {
        self.repeat_at = Instant::MAX;
    }

    /// What was taken for lost was late: it is left time from now on.
    pub(super) fn on_needless_recovery(&mut self) {
        self.reordering = true;
    }

    /// Whether `record` is lost at `now` with a reordering window of `window` (RFC8985-6.2.5a); if not yet, `remaining`
    /// becomes the longest wait (RFC8985-6.2.5b).
    fn assess(&self, record: &Record, now: Instant, window: Duration, remaining: &mut Duration) -> Assessment {
        if record.sent() > self.sent || (record.sent() == self.sent && record.end().ge(self.end)) {
            return Assessment::Newer;
        }
        if self.is_overdue(record, now, window) {
            return Assessment::Lost;
        }
        let due = record.sent() + self.rtt + window;
        *remaining = (*remaining).max(due.saturating_since(now));
        Assessment::Keep
    }

    /// Whether `record` was sent so long ago that it is overdue at `now`, delivered or not (RFC8985-6.3). What was sent
    /// again at this very moment is not: where a round trip takes no time by our clock it would be sent without end.
    pub(super) fn is_overdue(&self, record: &Record, now: Instant, window: Duration) -> bool {
        record.sent() + self.rtt + window <= now && (record.sent() < now || !record.resent())
    }
}

#[cfg(test)]
#[path = "rack_tests.rs"]
mod tests;
