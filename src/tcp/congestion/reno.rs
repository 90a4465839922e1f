//! Reno: slow start and congestion avoidance of RFC 5681, counting octets.
//!
//! Retransmission and recovery are the connection's; it moves the window in between.

use crate::tcp::base::time::Instant;
use crate::tcp::congestion::algorithm::Algorithm;
use crate::tcp::congestion::hystart::HyStart;
use crate::tcp::congestion::window::{AckSample, CongestionWindow};

/// What Reno remembers beside the window, whose credit counts the octets acknowledged in congestion avoidance since it
/// grew last (RFC5681-3.1h).
#[derive(Clone, Copy, Debug)]
pub struct Reno {
    hystart: HyStart,
}

impl Reno {
    /// Reno at its start, with or without HyStart++.
    #[must_use]
    pub const fn new(hystart: bool) -> Self {
        Self { hystart: HyStart::new(hystart) }
    }

    /// The rounds of the first slow start.
    #[cfg(test)]
    pub(super) fn rounds(&self) -> &HyStart {
        &self.hystart
    }
}

impl Algorithm for Reno {
    #[inline]
    fn on_ack(&mut self, window: &mut CongestionWindow, ack: &AckSample) {
        let proven = window.proven(ack);
        let acked = self.hystart.on_ack(window, ack, proven);
        if acked > 0 {
            window.count(acked); // and no constant on top (KP-06)
        }
    }

    /// RFC 5681 equation 4; by the flight size, not the window.
    fn on_congestion_event(&mut self, window: &mut CongestionWindow, _now: Instant, flight: u32) -> u32 {
        window.reduce(flight / 2)
    }

    fn on_rto(&mut self, window: &mut CongestionWindow, _now: Instant, flight: u32, first: bool) {
        window.collapse(first.then_some(flight / 2));
    }

    fn undo(&mut self, _saved: &Self) {
        self.hystart.restart();
    }

    fn on_idle_restart(&mut self, _window: &CongestionWindow) {
        self.hystart.restart();
    }
}

#[cfg(test)]
#[path = "reno_tests.rs"]
mod tests;
