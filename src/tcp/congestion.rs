//! The congestion control of a connection: how much may be in flight.
//!
//! Two parts, as they lie in a connection's record: the [`CongestionWindow`] that every segment looks at, and the
//! [`Controller`] with what an algorithm remembers. Each algorithm is pure: time, round trips and numbers are handed in.
//! Which data to send and what counts as lost is decided outside.

use core::fmt;
use core::str::FromStr;

use super::cubic::{Cubic, Memory};
use super::reno::Reno;
use super::seq::SeqNum;
use super::time::{Duration, Instant};

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

/// The known algorithms, for configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CongestionControl {
    /// RFC 5681: one segment more each round trip, half after a loss.
    Reno,
    /// RFC 9438: faster on long and fast paths, as fair as Reno on others.
    #[default]
    Cubic,
}

impl CongestionControl {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Reno, Self::Cubic];

    /// Its name, as [`FromStr`] takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reno => "reno",
            Self::Cubic => "cubic",
        }
    }
}

impl fmt::Display for CongestionControl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

/// No algorithm has this name.
#[derive(Clone, PartialEq, Eq)]
pub struct UnknownCongestionControl(String);

debug_as_display!(UnknownCongestionControl);

impl fmt::Display for UnknownCongestionControl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} is no congestion control; there is", self.0)?;
        for (index, kind) in CongestionControl::ALL.into_iter().enumerate() {
            write!(out, "{} {kind}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl core::error::Error for UnknownCongestionControl {}

impl FromStr for CongestionControl {
    type Err = UnknownCongestionControl;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownCongestionControl(name.to_owned()))
    }
}

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
    pub(super) cwnd: u32,
    pub(super) ssthresh: u32,
    /// Growth earned in congestion avoidance and not yet a part of `cwnd`; below `cwnd`. Its unit is the algorithm's.
    pub(super) credit: u32,
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

    /// One segment more.
    #[inline]
    pub(super) fn add_segment(&mut self) {
        self.cwnd = self.cwnd.saturating_add(self.smss()).min(LARGEST_WINDOW);
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

    /// Another algorithm takes over, which counts in other units.
    pub(super) fn forget_credit(&mut self) {
        self.credit = 0;
    }

    /// Goes back to an earlier state, unless the window is larger by now.
    pub(super) fn restore(&mut self, cwnd: u32, ssthresh: u32) {
        self.set_cwnd(self.cwnd.max(cwnd));
        self.ssthresh = self.ssthresh.max(ssthresh);
        self.credit = 0;
    }

    fn idle_restart(&mut self, restart_window: u32) {
        self.set_cwnd(self.cwnd.min(restart_window));
        self.credit = 0;
    }

    /// Smaller segments: the same number of them (RFC5681-3.1d). Larger ones: the same octets.
    fn resize_segments(&mut self, new: u32) -> Option<(u32, u32)> {
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

/// What a controller and its window were before a reduction. Not a part of them: most connections have none.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    cwnd: u32,
    ssthresh: u32,
    memory: Option<Memory>,
}

/// One congestion control algorithm with what it remembers.
///
/// An enum, not a trait object: the few algorithms are known, and a match costs less than a pointer.
#[derive(Clone, Debug)]
pub enum Controller {
    /// RFC 5681 slow start and congestion avoidance.
    Reno(Reno),
    /// RFC 9438.
    Cubic(Cubic),
}

impl Controller {
    /// The algorithm `kind` at its start. With `hystart` the first slow start ends when the round trip grows (RFC 9406).
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
    #[inline]
    pub fn on_ack(&mut self, window: &mut CongestionWindow, ack: &AckSample) {
        // Where nothing grows, what the algorithm remembers is not even looked at. The first slow start counts rounds.
        if window.ssthresh != u32::MAX && !window.proven(ack) {
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

    /// The state of this moment for [`undo`](Self::undo). To be called before the first reduction of a loss event and not
    /// at later ones of the same event (RFC9438-4.9).
    #[must_use]
    pub fn save(&self, window: &CongestionWindow) -> Saved {
        let memory = match self {
            Self::Reno(_) => None,
            Self::Cubic(cubic) => Some(cubic.memory),
        };
        Saved { cwnd: window.cwnd, ssthresh: window.ssthresh, memory }
    }

    /// The loss was none: threshold, window and memory are again what they were at [`save`](Self::save), unless the
    /// window is larger by now (RFC9438-4.9). That the larger window does not leave in one burst is the caller's care.
    pub fn undo(&mut self, window: &mut CongestionWindow, saved: Saved) {
        window.restore(saved.cwnd, saved.ssthresh);
        match self {
            Self::Reno(reno) => reno.hystart.restart(),
            Self::Cubic(cubic) => cubic.undo(saved.memory),
        }
    }

    /// Nothing was sent for an RTO: begins again with at most `restart_window` (RFC5681-4.1, RFC6928-2d).
    pub fn on_idle_restart(&mut self, window: &mut CongestionWindow, restart_window: u32) {
        window.idle_restart(restart_window);
        match self {
            Self::Reno(reno) => reno.on_idle_restart(),
            Self::Cubic(cubic) => cubic.on_idle_restart(window),
        }
    }

    /// The sender's segment size is `smss` octets now (RFC5681-3.1d). What was saved before counts in segments that are no
    /// more.
    pub fn on_mss_change(&mut self, window: &mut CongestionWindow, smss: u32) {
        let smaller = window.resize_segments(smss);
        match self {
            Self::Reno(_) => {}
            Self::Cubic(cubic) => cubic.on_mss_change(smaller),
        }
    }
}

#[cfg(test)]
#[path = "congestion_tests.rs"]
mod tests;
