//! The congestion window: how much may be in flight, and where growth becomes careful.
//!
//! Only the arithmetic. When it grows, and by how much, is up to an algorithm; when it shrinks, up to loss recovery.

use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::base::units::LARGEST_WINDOW;

/// What one acknowledgment tells a controller.
#[derive(Clone, Copy, Debug)]
pub struct AckSample {
    /// When it arrived.
    pub now: Instant,
    /// Octets newly acknowledged, cumulatively.
    pub acked: u32,
    /// Most octets in the network while what it acknowledges was sent.
    pub flight: u32,
    /// The round trip it shows, if it shows one; the more ACKs do, the earlier slow start can end.
    pub rtt: Option<Duration>,
    /// The smoothed round-trip time; zero before the first sample.
    pub srtt: Duration,
    /// SND.UNA with this ACK.
    pub una: SeqNum,
    /// SND.NXT.
    pub nxt: SeqNum,
    /// Whether the congestion window was full when what it acknowledges was sent: a window that is not used is not
    /// proven either and does not grow (OPS-30, RFC9438-5.8).
    pub cwnd_limited: bool,
}

/// How much may be in flight, and where growth becomes careful: the part of the state that each segment needs. Octets.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct CongestionWindow {
    cwnd: u32,
    ssthresh: u32,
    /// Growth earned in congestion avoidance and not yet a part of `cwnd`; below `cwnd`. Its unit is the algorithm's.
    credit: u32,
    smss: u16,
}

impl CongestionWindow {
    /// A window of `initial_window` octets for segments of `smss` octets; the threshold is arbitrarily high
    /// (RFC5681-3.1e).
    #[must_use]
    pub fn new(smss: u32, initial_window: u32) -> Self {
        let smss = segment_size(smss);
        let cwnd = initial_window.clamp(u32::from(smss), LARGEST_WINDOW);
        Self { cwnd, ssthresh: u32::MAX, credit: 0, smss }
    }

    /// The congestion window.
    #[must_use]
    #[inline]
    pub fn cwnd(&self) -> u32 {
        self.cwnd
    }

    /// The slow start threshold; `u32::MAX` before the first loss (RFC5681-3.1e).
    #[must_use]
    #[inline]
    pub fn ssthresh(&self) -> u32 {
        self.ssthresh
    }

    /// Segment size of the sender.
    #[must_use]
    #[inline]
    pub fn smss(&self) -> u32 {
        u32::from(self.smss)
    }

    /// Whether the window is below the threshold (RFC5681-3.1f).
    #[must_use]
    #[inline]
    pub fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// Sets the window, as loss recovery does while it goes on; at least one segment.
    #[inline]
    pub fn set_cwnd(&mut self, cwnd: u32) {
        self.cwnd = cwnd.min(LARGEST_WINDOW).max(self.smss());
        // Else a smaller window would grow by what a larger one has earned, a segment with each ACK.
        self.credit = self.credit.min(self.cwnd - 1);
    }

    /// Everything of the loss event is repaired: the window is the threshold (RFC5681-3.2.6).
    pub fn exit_recovery(&mut self) {
        self.set_cwnd(self.ssthresh);
        self.credit = 0;
    }

    /// Whether the ACK may grow the window. In slow start the window doubles, so that it may be up to twice of what was
    /// in use (RFC9438-5.8).
    #[inline]
    pub(super) fn proven(&self, ack: &AckSample) -> bool {
        ack.cwnd_limited || (self.in_slow_start() && ack.flight.saturating_mul(2) > self.cwnd)
    }

    /// Slow start up to the threshold: the octets acknowledged are added, `most` of them (RFC5681-3.1g). Gives the
    /// octets of the ACK that lie above the threshold and count for congestion avoidance.
    #[inline]
    pub(super) fn slow_start(&mut self, acked: u32, most: u32) -> u32 {
        // One ACK at most doubles the window. Outside of recovery nothing more can be in flight; after a timeout the
        // rest left the network before, and must not count as room now (the reason for L = 1 in RFC 3465).
        let acked = acked.min(self.cwnd);
        if !self.in_slow_start() {
            return acked;
        }
        // Octets are counted, not ACKs, so that dividing ACKs gains nothing (OPS-31) and one ACK may stand for a whole
        // run of segments (OPS-44).
        let room = self.ssthresh - self.cwnd;
        self.cwnd = (self.cwnd + acked.min(most).min(room)).min(LARGEST_WINDOW);
        acked.saturating_sub(room)
    }

    /// Slow start is over: the threshold comes down to the window.
    pub(super) fn end_slow_start(&mut self) {
        self.ssthresh = self.cwnd;
    }

    /// Congestion avoidance by counting: `acked` octets of the window more are acknowledged, and for each whole window
    /// of them it grows by one segment (RFC5681-3.1h).
    #[inline]
    pub(super) fn count(&mut self, acked: u32) {
        self.credit += acked;
        if self.credit >= self.cwnd {
            self.credit -= self.cwnd;
            self.cwnd = self.cwnd.saturating_add(self.smss()).min(LARGEST_WINDOW);
        }
    }

    /// Congestion avoidance by a target, at most half a window above: `acked` octets of the window more are
    /// acknowledged, and with a whole window of them the target is reached (RFC9438-4.4).
    pub(super) fn approach(&mut self, target: u32, acked: u32) {
        let earned = u64::from(acked) * u64::from(target - self.cwnd) + u64::from(self.credit);
        let cwnd = u64::from(self.cwnd);
        // At most half of the window, since `acked` is at most the window; the remainder is below the window.
        self.cwnd = (self.cwnd + (earned / cwnd) as u32).min(LARGEST_WINDOW);
        self.credit = (earned % cwnd) as u32;
    }

    /// A threshold of so many octets.
    #[cfg(test)]
    pub(crate) fn set_ssthresh(&mut self, ssthresh: u32) {
        self.ssthresh = ssthresh;
    }

    /// Sets threshold and window after a loss; two segments at least (RFC 5681 equation 4). Gives the threshold.
    pub(super) fn reduce(&mut self, ssthresh: u32) -> u32 {
        self.ssthresh = ssthresh.max(2 * self.smss());
        self.set_cwnd(self.ssthresh);
        self.credit = 0;
        self.ssthresh
    }

    /// The loss window, one segment (RFC5681-3.1j), and a threshold where there is a new one.
    pub(super) fn collapse(&mut self, ssthresh: Option<u32>) {
        if let Some(ssthresh) = ssthresh {
            self.ssthresh = ssthresh.max(2 * self.smss());
        }
        self.cwnd = self.smss();
        self.credit = 0;
    }

    /// What is earned counts no more: another algorithm takes over, which counts in other units, or growth begins anew.
    pub(super) fn forget_credit(&mut self) {
        self.credit = 0;
    }

    /// Goes back to an earlier state, unless the window is larger by now.
    pub(super) fn restore(&mut self, cwnd: u32, ssthresh: u32) {
        self.set_cwnd(self.cwnd.max(cwnd));
        self.ssthresh = self.ssthresh.max(ssthresh);
        self.credit = 0;
    }

    /// Smaller segments: the same number of them (RFC5681-3.1d). Larger ones: the same octets.
    pub(super) fn resize_segments(&mut self, new: u32) -> Option<(u32, u32)> {
        let (old, new) = (self.smss, segment_size(new));
        self.smss = new;
        self.credit = 0;
        let smaller = (new < old).then_some((u32::from(new), u32::from(old)));
        self.set_cwnd(smaller.map_or(self.cwnd, |(new, old)| scale(self.cwnd, new, old)));
        smaller
    }
}

fn segment_size(octets: u32) -> u16 {
    u16::try_from(octets.max(1)).unwrap_or(u16::MAX)
}

/// `octets * numerator / denominator`, saturating.
#[inline]
pub(super) fn scale(octets: u32, numerator: u32, denominator: u32) -> u32 {
    let scaled = u64::from(octets) * u64::from(numerator) / u64::from(denominator.max(1));
    u32::try_from(scaled).unwrap_or(u32::MAX)
}
