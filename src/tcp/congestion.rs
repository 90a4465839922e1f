//! The congestion controller of a connection: how much may be in flight.
//!
//! An enum, not a trait object: the few algorithms are known, and a match costs less than a pointer. Which data to send
//! and what counts as lost is decided outside.

use super::reno::Reno;

/// The largest window a controller grows to, in octets: more than any send window (RFC7323-2.3b) can use.
pub(super) const LARGEST_WINDOW: u32 = 1 << 30;

/// Initial congestion window in octets for segments of `mss` octets: `segments` of them, fewer when they are large
/// (RFC6928-2a with `segments` 10: `min(10 * MSS, max(2 * MSS, 14600))`).
#[must_use]
pub fn initial_window(mss: u32, segments: u32) -> u32 {
    let wanted = mss.saturating_mul(segments);
    let ceiling = mss.saturating_mul(2).max(segments.saturating_mul(1_460));
    wanted.min(ceiling).max(mss).min(LARGEST_WINDOW)
}

/// One congestion control algorithm with its state. All windows are octets.
#[derive(Clone, Debug)]
pub enum Controller {
    /// RFC 5681 slow start and congestion avoidance.
    Reno(Reno),
}

impl Controller {
    /// Reno with segments of `smss` octets and a first window of `initial_window` octets.
    #[must_use]
    pub fn reno(smss: u32, initial_window: u32) -> Self {
        Self::Reno(Reno::new(smss, initial_window))
    }

    /// The congestion window.
    #[must_use]
    #[inline]
    pub fn cwnd(&self) -> u32 {
        match self {
            Self::Reno(reno) => reno.cwnd(),
        }
    }

    /// The slow start threshold; `u32::MAX` before the first loss (RFC5681-3.1e).
    #[must_use]
    #[inline]
    pub fn ssthresh(&self) -> u32 {
        match self {
            Self::Reno(reno) => reno.ssthresh(),
        }
    }

    /// `acked` new octets were acknowledged outside of loss recovery. `flight` is the flight size before this ACK;
    /// `cwnd_limited` tells whether the window held transmission back since: an idle window does not grow.
    #[inline]
    pub fn on_ack(&mut self, acked: u32, flight: u32, cwnd_limited: bool) {
        match self {
            Self::Reno(reno) => reno.on_ack(acked, flight, cwnd_limited),
        }
    }

    /// A loss was found by duplicate ACKs: reduces both threshold and window to the value returned. `flight` is the
    /// flight size without what limited transmit added (RFC5681-3.2.2). The caller may inflate by
    /// [`Controller::set_cwnd`].
    pub fn on_loss(&mut self, flight: u32) -> u32 {
        match self {
            Self::Reno(reno) => reno.on_loss(flight),
        }
    }

    /// The retransmission timer fired with `flight` octets outstanding; `first_for_this_segment` when the segment at
    /// SND.UNA was not resent by the timer before (RFC5681-3.1i, 3.1j).
    pub fn on_rto(&mut self, flight: u32, first_for_this_segment: bool) {
        match self {
            Self::Reno(reno) => reno.on_rto(flight, first_for_this_segment),
        }
    }

    /// Everything of the loss event is repaired: deflates the window to the threshold (RFC5681-3.2.6).
    pub fn exit_recovery(&mut self) {
        match self {
            Self::Reno(reno) => reno.exit_recovery(),
        }
    }

    /// Sets the window during recovery (inflation and deflation of NewReno); at least one segment.
    pub fn set_cwnd(&mut self, cwnd: u32) {
        match self {
            Self::Reno(reno) => reno.set_cwnd(cwnd),
        }
    }

    /// Nothing was sent for an RTO: begins again with at most `initial_window` (RFC5681-4.1, RFC6928-2d).
    pub fn on_idle_restart(&mut self, initial_window: u32) {
        match self {
            Self::Reno(reno) => reno.on_idle_restart(initial_window),
        }
    }

    /// The sender's segment size changed (RFC5681-3.1d).
    pub fn on_mss_change(&mut self, old: u32, new: u32) {
        match self {
            Self::Reno(reno) => reno.on_mss_change(old, new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_is_compact() {
        assert!(size_of::<Controller>() <= 32);
    }

    #[test]
    fn rfc6928_2a_initial_window() {
        assert_eq!(initial_window(1_460, 10), 14_600);
        assert_eq!(initial_window(536, 10), 5_360);
        assert_eq!(initial_window(1_448, 10), 14_480);
        assert_eq!(initial_window(8_960, 10), 17_920, "two jumbo segments");
        assert_eq!(initial_window(4_000, 10), 14_600);
        assert_eq!(initial_window(1_000, 1), 1_000, "RFC5681-3.1c: one segment");
        assert_eq!(initial_window(u32::MAX, u32::MAX), LARGEST_WINDOW);
    }
}
