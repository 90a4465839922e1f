//! A bench for one controller alone: a path that is nothing but round trips.
#![allow(clippy::unwrap_used)]

use crate::tcp::SeqNum;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::congestion::{AckSample, CongestionControl, CongestionWindow, Controller};
use crate::tcp::units::LARGEST_WINDOW;

pub(super) const SMSS: u32 = 1_000;

/// A sender that always has data, and always as much in flight as its window allows.
pub(super) struct Flow {
    pub(super) control: Controller,
    pub(super) window: CongestionWindow,
    pub(super) now: Instant,
    pub(super) una: SeqNum,
    /// Segments that one ACK stands for.
    pub(super) stretch: u32,
}

impl Flow {
    /// A window of `segments` before the first loss.
    pub(super) fn new(kind: CongestionControl, hystart: bool, segments: u32) -> Self {
        Self {
            control: Controller::new(kind, hystart),
            window: CongestionWindow::new(SMSS, segments * SMSS),
            now: Instant::from_secs(1_000),
            una: SeqNum(u32::MAX - 40_000),
            stretch: 2,
        }
    }

    /// In whole segments.
    pub(super) fn cwnd(&self) -> u32 {
        self.window.cwnd() / SMSS
    }

    pub(super) fn seconds(&self, start: Instant) -> f64 {
        (self.now - start).as_secs_f64()
    }

    pub(super) fn ack(&mut self, acked: u32, flight: u32, rtt: Option<Duration>, srtt: Duration, cwnd_limited: bool) {
        let una = self.una + acked;
        let nxt = self.una + flight;
        let ack = AckSample { now: self.now, acked, flight, rtt, srtt, una, nxt, cwnd_limited };
        self.control.on_ack(&mut self.window, &ack);
        self.una = una;
    }

    /// A window full of segments is acknowledged, spread over one round trip; `rtts` gives the sample of each ACK.
    pub(super) fn round_of(&mut self, srtt: Duration, mut rtts: impl FnMut(u32) -> Duration) {
        let count = self.window.cwnd().div_ceil(SMSS * self.stretch);
        let end = self.now + srtt;
        for index in 0..count {
            self.now += Duration::from_nanos(srtt.as_nanos() / u64::from(count));
            // SND.NXT is a window ahead at all times.
            let flight = self.window.cwnd();
            self.ack(SMSS * self.stretch, flight, Some(rtts(index)), srtt, true);
        }
        self.now = end;
    }

    pub(super) fn round(&mut self, rtt: Duration) {
        self.round_of(rtt, |_| rtt);
    }

    /// A loss with the window full, and its repair, which takes one round trip.
    pub(super) fn loss(&mut self, rtt: Duration) {
        let flight = self.window.cwnd();
        let ssthresh = self.control.on_congestion_event(&mut self.window, self.now, flight);
        self.window.set_cwnd(ssthresh + 3 * SMSS);
        self.now += rtt;
        self.una += flight;
        self.window.exit_recovery();
        assert_eq!(self.window.cwnd(), ssthresh.min(LARGEST_WINDOW));
    }
}

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
