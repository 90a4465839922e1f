//! The algorithm of a connection: one of those that there are, with what it remembers.

use crate::tcp::base::algorithm::CongestionControl;
use crate::tcp::base::time::Instant;
use crate::tcp::congestion::algorithm::Algorithm;
use crate::tcp::congestion::cubic::Cubic;
use crate::tcp::congestion::reno::Reno;
use crate::tcp::congestion::window::{AckSample, CongestionWindow};

/// What a controller and its window were before a reduction. Not a part of them: most connections have none.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    cwnd: u32,
    ssthresh: u32,
    controller: Controller,
}

/// One congestion control algorithm with what it remembers.
///
/// An enum, not a trait object: the few algorithms are known, and a match costs less than a pointer.
#[derive(Clone, Copy, Debug)]
pub enum Controller {
    /// RFC 5681 slow start and congestion avoidance.
    Reno(Reno),
    /// RFC 9438.
    Cubic(Cubic),
}

impl Controller {
    /// The algorithm `kind` at its start. With `hystart` the first slow start ends when the round trip grows (RFC
    /// 9406).
    #[must_use]
    pub fn new(kind: CongestionControl, hystart: bool) -> Self {
        match kind {
            CongestionControl::Reno => Self::Reno(Reno::new(hystart)),
            CongestionControl::Cubic => Self::Cubic(Cubic::new(hystart)),
        }
    }

    /// Which algorithm it is.
    #[must_use]
    pub fn kind(&self) -> CongestionControl {
        match self {
            Self::Reno(_) => CongestionControl::Reno,
            Self::Cubic(_) => CongestionControl::Cubic,
        }
    }

    /// New octets were acknowledged, outside of fast recovery; after a timeout also inside of recovery.
    #[inline(always)]
    pub fn on_ack(&mut self, window: &mut CongestionWindow, ack: &AckSample) {
        // Where nothing grows, what the algorithm remembers is not even looked at. The first slow start counts rounds.
        if window.ssthresh() != u32::MAX && !window.proven(ack) {
            return;
        }
        match self {
            Self::Reno(reno) => reno.on_ack(window, ack),
            Self::Cubic(cubic) => cubic.on_ack(window, ack),
        }
    }

    /// A loss was found without a timeout: the threshold comes down and is returned, the window is set to it. `flight`
    /// is the flight size without what limited transmit added (RFC5681-3.2.2). The caller may move the window by
    /// [`CongestionWindow::set_cwnd`] until [`CongestionWindow::exit_recovery`]. Once for each loss event: not again
    /// before what was in flight is acknowledged (RFC5681-4.3).
    pub fn on_congestion_event(&mut self, window: &mut CongestionWindow, now: Instant, flight: u32) -> u32 {
        match self {
            Self::Reno(reno) => reno.on_congestion_event(window, now, flight),
            Self::Cubic(cubic) => cubic.on_congestion_event(window, now, flight),
        }
    }

    /// The retransmission timer fired with `flight` octets outstanding; `first` when the segment at SND.UNA was not
    /// resent by the timer before (RFC5681-3.1i, 3.1j).
    pub fn on_rto(&mut self, window: &mut CongestionWindow, now: Instant, flight: u32, first: bool) {
        match self {
            Self::Reno(reno) => reno.on_rto(window, now, flight, first),
            Self::Cubic(cubic) => cubic.on_rto(window, now, flight, first),
        }
    }

    /// The state of this moment for [`undo`](Self::undo). To be called before the first reduction of a loss event and
    /// not at later ones of the same event (RFC9438-4.9).
    #[must_use]
    pub fn save(&self, window: &CongestionWindow) -> Saved {
        Saved { cwnd: window.cwnd(), ssthresh: window.ssthresh(), controller: *self }
    }

    /// The loss was none: threshold, window and memory are again what they were at [`save`](Self::save), unless the
    /// window is larger by now (RFC9438-4.9). That the larger window does not leave in one burst is the caller's care.
    pub fn undo(&mut self, window: &mut CongestionWindow, saved: Saved) {
        window.restore(saved.cwnd, saved.ssthresh);
        match (self, &saved.controller) {
            (Self::Reno(reno), Self::Reno(saved)) => reno.undo(saved),
            (Self::Cubic(cubic), Self::Cubic(saved)) => cubic.undo(saved),
            // Of another algorithm: window and threshold alone.
            (Self::Reno(_), Self::Cubic(_)) | (Self::Cubic(_), Self::Reno(_)) => {}
        }
    }

    /// Nothing was sent for an RTO: begins again with at most `restart_window` (RFC5681-4.1, RFC6928-2d).
    pub fn on_idle_restart(&mut self, window: &mut CongestionWindow, restart_window: u32) {
        window.set_cwnd(window.cwnd().min(restart_window));
        window.forget_credit();
        match self {
            Self::Reno(reno) => reno.on_idle_restart(window),
            Self::Cubic(cubic) => cubic.on_idle_restart(window),
        }
    }

    /// The sender's segment size is `smss` octets now (RFC5681-3.1d). What was saved before counts in segments that are
    /// no more.
    pub fn on_mss_change(&mut self, window: &mut CongestionWindow, smss: u32) {
        let smaller = window.resize_segments(smss);
        match self {
            Self::Reno(_) => {}
            Self::Cubic(cubic) => cubic.on_mss_change(smaller),
        }
    }
}

#[cfg(test)]
#[path = "controller_tests.rs"]
mod tests;
