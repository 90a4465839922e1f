//! Reno: slow start and congestion avoidance of RFC 5681, counting octets.
//!
//! Retransmission and recovery are the connection's; it moves the window in between.

use super::congestion::{AckSample, CongestionWindow};
use super::time::Instant;

/// Nothing but a window to go back to: all else is in the window itself, whose credit counts the octets acknowledged in
/// congestion avoidance since it grew last (RFC5681-3.1h).
#[derive(Clone, Debug, Default)]
pub struct Reno {
    /// Window and threshold before the last reduction; a window of zero: none.
    saved: (u32, u32),
}

impl Reno {
    /// Reno at its start.
    #[must_use]
    pub const fn new() -> Self {
        Self { saved: (0, 0) }
    }

    #[inline]
    pub(super) fn on_ack(&mut self, window: &mut CongestionWindow, ack: &AckSample) {
        if !window.proven(ack) {
            return;
        }
        let acked = window.slow_start(ack.acked, u32::MAX);
        if acked == 0 {
            return;
        }
        // RFC5681-3.1h: one SMSS for each window acknowledged, and no constant on top (KP-06).
        window.credit += acked;
        if window.credit >= window.cwnd {
            window.credit -= window.cwnd;
            window.add_segment();
        }
    }

    /// RFC 5681 equation 4; by the flight size, not the window.
    pub(super) fn on_congestion_event(&mut self, window: &mut CongestionWindow, _now: Instant, flight: u32) -> u32 {
        window.reduce(flight / 2)
    }

    pub(super) fn on_rto(&mut self, window: &mut CongestionWindow, _now: Instant, flight: u32, first: bool) {
        window.collapse(first.then_some(flight / 2));
    }

    pub(super) fn save(&mut self, window: &CongestionWindow) {
        self.saved = (window.cwnd, window.ssthresh);
    }

    pub(super) fn undo(&mut self, window: &mut CongestionWindow) -> bool {
        let (cwnd, ssthresh) = core::mem::take(&mut self.saved);
        if cwnd == 0 {
            return false;
        }
        window.set_cwnd(window.cwnd.max(cwnd));
        window.ssthresh = window.ssthresh.max(ssthresh);
        window.credit = 0;
        true
    }
}

#[cfg(test)]
#[path = "reno_tests.rs"]
mod tests;
