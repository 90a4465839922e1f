//! Reno: slow start and congestion avoidance of RFC 5681, counting octets.
//!
//! Fast retransmit and NewReno recovery (RFC 6582) are the connection's; they move this window by `on_loss`, `set_cwnd`
//! and `exit_recovery`.

use super::congestion::LARGEST_WINDOW;

/// The window and its threshold, in octets.
#[derive(Clone, Debug)]
pub struct Reno {
    cwnd: u32,
    ssthresh: u32,
    /// Octets acknowledged in congestion avoidance since the window grew last (RFC5681-3.1h).
    bytes_acked: u32,
    smss: u32,
}

impl Reno {
    /// A window of `initial_window` octets for segments of `smss` octets; the threshold is arbitrarily high
    /// (RFC5681-3.1e).
    #[must_use]
    pub fn new(smss: u32, initial_window: u32) -> Self {
        let smss = smss.max(1);
        Self { cwnd: initial_window.max(smss), ssthresh: u32::MAX, bytes_acked: 0, smss }
    }

    pub(super) fn cwnd(&self) -> u32 {
        self.cwnd
    }

    pub(super) fn ssthresh(&self) -> u32 {
        self.ssthresh
    }

    pub(super) fn on_ack(&mut self, acked: u32, _flight: u32, cwnd_limited: bool) {
        // OPS-30, RFC9438-5.8: a window that is not used is not proven either.
        if !cwnd_limited {
            return;
        }
        // One ACK at most doubles the window. Outside of recovery nothing more can be in flight; after a timeout the
        // rest left the network before, and must not count as room now (the reason for L = 1 in RFC 3465).
        let mut acked = acked.min(self.cwnd);
        if self.cwnd < self.ssthresh {
            // RFC5681-3.1g without the limit of one SMSS an ACK, since one ACK may stand for a whole run (OPS-44).
            // Octets are counted, not ACKs, so dividing ACKs gains nothing (OPS-31).
            let growth = acked.min(self.ssthresh - self.cwnd);
            self.cwnd = (self.cwnd + growth).min(LARGEST_WINDOW);
            acked -= growth;
        }
        if acked == 0 {
            return;
        }
        // RFC5681-3.1h: one SMSS for each window acknowledged, and no constant on top (KP-06).
        self.bytes_acked += acked;
        if self.bytes_acked >= self.cwnd {
            self.bytes_acked -= self.cwnd;
            self.cwnd = self.cwnd.saturating_add(self.smss).min(LARGEST_WINDOW);
        }
    }

    pub(super) fn on_loss(&mut self, flight: u32) -> u32 {
        self.ssthresh = self.halved(flight);
        self.cwnd = self.ssthresh;
        self.bytes_acked = 0;
        self.ssthresh
    }

    pub(super) fn on_rto(&mut self, flight: u32, first_for_this_segment: bool) {
        if first_for_this_segment {
            self.ssthresh = self.halved(flight);
        }
        self.cwnd = self.smss;
        self.bytes_acked = 0;
    }

    pub(super) fn exit_recovery(&mut self) {
        self.cwnd = self.ssthresh.min(LARGEST_WINDOW).max(self.smss);
        self.bytes_acked = 0;
    }

    pub(super) fn set_cwnd(&mut self, cwnd: u32) {
        self.cwnd = cwnd.min(LARGEST_WINDOW).max(self.smss);
    }

    pub(super) fn on_idle_restart(&mut self, initial_window: u32) {
        self.cwnd = self.cwnd.min(initial_window).max(self.smss);
        self.bytes_acked = 0;
    }

    pub(super) fn on_mss_change(&mut self, old: u32, new: u32) {
        let new = new.max(1);
        // Smaller segments: the same number of them (RFC5681-3.1d). Larger ones: the same octets.
        if new < old {
            let scaled = u64::from(self.cwnd) * u64::from(new) / u64::from(old);
            self.cwnd = u32::try_from(scaled).unwrap_or(LARGEST_WINDOW);
        }
        self.smss = new;
        self.cwnd = self.cwnd.max(new);
        self.bytes_acked = self.bytes_acked.min(self.cwnd);
    }

    /// RFC 5681 equation 4; by the flight size, not the window.
    fn halved(&self, flight: u32) -> u32 {
        (flight / 2).max(2 * self.smss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMSS: u32 = 1_000;

    fn avoidance(cwnd: u32) -> Reno {
        let mut reno = Reno::new(SMSS, 10 * SMSS);
        reno.on_loss(2 * cwnd);
        assert_eq!((reno.cwnd(), reno.ssthresh()), (cwnd, cwnd));
        reno
    }

    #[test]
    fn rfc5681_3_1g_slow_start_doubles_each_round_trip() {
        let mut reno = Reno::new(SMSS, 10 * SMSS);
        for expected in [20, 40, 80] {
            for _ in 0..reno.cwnd() / (2 * SMSS) {
                reno.on_ack(2 * SMSS, reno.cwnd(), true);
            }
            assert_eq!(reno.cwnd(), expected * SMSS);
        }
    }

    #[test]
    fn ops_31_sc_58_divided_acks_gain_nothing() {
        let mut reno = Reno::new(SMSS, 10 * SMSS);
        for _ in 0..10 {
            reno.on_ack(SMSS / 10, 10 * SMSS, true);
        }
        assert_eq!(reno.cwnd(), 11 * SMSS);
    }

    #[test]
    fn kp_06_avoidance_adds_one_segment_a_round_trip_and_no_constant() {
        let mut reno = avoidance(20 * SMSS);
        for round in 1..=10 {
            for _ in 0..reno.cwnd() / SMSS {
                reno.on_ack(SMSS, reno.cwnd(), true);
            }
            assert_eq!(reno.cwnd(), (20 + round) * SMSS);
        }
    }

    #[test]
    fn slow_start_ends_exactly_at_the_threshold() {
        let mut reno = Reno::new(SMSS, 10 * SMSS);
        reno.on_rto(10 * SMSS, true);
        assert_eq!((reno.cwnd(), reno.ssthresh()), (SMSS, 5 * SMSS), "RFC5681-3.1j: one segment");
        for expected in [2, 4, 5] {
            reno.on_ack(reno.cwnd(), reno.cwnd(), true);
            assert_eq!(reno.cwnd(), expected * SMSS);
        }
    }

    #[test]
    fn kp_02_one_ack_at_most_doubles_the_window_after_a_timeout() {
        let mut reno = Reno::new(SMSS, 40 * SMSS);
        reno.on_rto(40 * SMSS, true);
        reno.on_ack(30 * SMSS, 40 * SMSS, true);
        assert_eq!(reno.cwnd(), 2 * SMSS);
    }

    #[test]
    fn rfc5681_3_1i_repeated_timeout_holds_the_threshold() {
        let mut reno = Reno::new(SMSS, 40 * SMSS);
        reno.on_rto(40 * SMSS, true);
        reno.on_rto(10 * SMSS, false);
        assert_eq!(reno.ssthresh(), 20 * SMSS);
        reno.on_rto(SMSS, true);
        assert_eq!(reno.ssthresh(), 2 * SMSS, "never below two segments");
    }

    #[test]
    fn ops_30_a_window_that_is_not_used_does_not_grow() {
        let mut reno = Reno::new(SMSS, 10 * SMSS);
        reno.on_ack(5 * SMSS, 5 * SMSS, false);
        assert_eq!(reno.cwnd(), 10 * SMSS);
    }

    #[test]
    fn recovery_inflates_and_deflates() {
        let mut reno = Reno::new(SMSS, 20 * SMSS);
        let ssthresh = reno.on_loss(20 * SMSS);
        reno.set_cwnd(ssthresh + 3 * SMSS);
        assert_eq!(reno.cwnd(), 13 * SMSS);
        reno.exit_recovery();
        assert_eq!(reno.cwnd(), 10 * SMSS);
        reno.set_cwnd(0);
        assert_eq!(reno.cwnd(), SMSS);
    }

    #[test]
    fn rfc5681_4_1_idle_shrinks_to_the_restart_window_only() {
        let mut reno = Reno::new(SMSS, 40 * SMSS);
        reno.on_idle_restart(10 * SMSS);
        assert_eq!(reno.cwnd(), 10 * SMSS);
        reno.on_rto(10 * SMSS, true);
        reno.on_idle_restart(10 * SMSS);
        assert_eq!(reno.cwnd(), SMSS);
    }

    #[test]
    fn rfc5681_3_1d_smaller_segments_keep_their_number() {
        let mut reno = Reno::new(SMSS, 10 * SMSS);
        reno.on_mss_change(SMSS, 500);
        assert_eq!(reno.cwnd(), 5_000);
        reno.on_mss_change(500, 2_000);
        assert_eq!(reno.cwnd(), 5_000);
        reno.on_mss_change(2_000, 9_000);
        assert_eq!(reno.cwnd(), 9_000, "room for one segment at least");
    }

    #[test]
    fn growth_stops_at_the_largest_window() {
        let mut reno = Reno::new(SMSS, LARGEST_WINDOW - 1);
        for _ in 0..3 {
            reno.on_ack(u32::MAX, u32::MAX, true);
        }
        assert_eq!(reno.cwnd(), LARGEST_WINDOW);
        reno.ssthresh = SMSS;
        for _ in 0..9 {
            reno.on_ack(u32::MAX, u32::MAX, true);
        }
        assert_eq!(reno.cwnd(), LARGEST_WINDOW);
    }
}
