//! Reno: slow start and congestion avoidance of RFC 5681, counting octets.
//!
//! Retransmission and recovery are the connection's; it moves the window in between.

use super::congestion::{AckSample, CongestionWindow};
use super::hystart::HyStart;
use super::time::Instant;

/// What Reno remembers beside the window, whose credit counts the octets acknowledged in congestion avoidance since it
/// grew last (RFC5681-3.1h).
#[derive(Clone, Debug)]
pub struct Reno {
    pub(super) hystart: HyStart,
}

impl Reno {
    /// Reno at its start, with or without HyStart++.
    #[must_use]
    pub const fn new(hystart: bool) -> Self {
        Self { hystart: HyStart::new(hystart) }
    }

    #[inline]
    pub(super) fn on_ack(&mut self, window: &mut CongestionWindow, ack: &AckSample) {
        let proven = window.proven(ack);
        let acked = self.hystart.on_ack(window, ack, proven);
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

    pub(super) fn on_idle_restart(&mut self) {
        self.hystart.restart();
    }
}

#[cfg(test)]
#[path = "reno_tests.rs"]
mod tests;
