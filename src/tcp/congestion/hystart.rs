//! HyStart++ (RFC 9406): the first slow start ends when the round trip grows, before the queue overflows.
//!
//! Round trips of one round are compared with those of the round before. A rise leads into Conservative Slow Start,
//! which grows at a quarter of the speed and finds out whether the rise stays: it ends in congestion avoidance after
//! five rounds, or goes back to slow start when the round trip falls again. Only the first slow start is watched, while
//! the threshold is still arbitrarily high (RFC9406-4.3b): after a loss the threshold is known.

use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::Duration;
use crate::tcp::congestion::window::{AckSample, CongestionWindow};

/// RFC9406-4.3: the least rise of the round trip that counts, in µs.
const MIN_RTT_THRESH: u32 = 4_000;
/// The rise that always counts, in µs.
const MAX_RTT_THRESH: u32 = 16_000;
/// In between, the rise counts that is this part of the round trip.
const MIN_RTT_DIVISOR: u32 = 8;
/// Samples before a round's minimum means anything.
const N_RTT_SAMPLE: u8 = 8;
/// How much slower Conservative Slow Start grows.
const CSS_GROWTH_DIVISOR: u32 = 4;
/// How many rounds it lasts.
const CSS_ROUNDS: u8 = 5;
/// L: segments that one ACK may add to the window, since they leave at once, without pacing.
const MOST_SEGMENTS: u32 = 8;

/// No sample yet.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Switched off.
    Off,
    /// In slow start.
    Slow,
    /// In Conservative Slow Start.
    Conservative,
}

/// The rounds of the first slow start. Round trips are µs.
#[derive(Clone, Copy, Debug)]
pub(super) struct HyStart {
    /// SND.NXT when the round began: it ends when all of that is acknowledged (RFC9406-4.2a).
    window_end: SeqNum,
    last_min: u32,
    current_min: u32,
    /// Minimum at the entry of Conservative Slow Start.
    baseline: u32,
    samples: u8,
    css_rounds: u8,
    phase: Phase,
    /// Nothing was in flight when the round before ended: this one begins with what is sent next, and the next ACK
    /// tells how far that reaches.
    waits: bool,
}

impl HyStart {
    /// Rounds begin with the first ACK, if it is `on`.
    pub(super) const fn new(on: bool) -> Self {
        Self {
            window_end: SeqNum(0),
            last_min: NONE,
            current_min: NONE,
            baseline: NONE,
            samples: 0,
            css_rounds: 0,
            phase: if on { Phase::Slow } else { Phase::Off },
            waits: true,
        }
    }

    /// Forgets all rounds: what comes is a new slow start.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.phase != Phase::Off);
    }

    /// The part of slow start in an ACK: grows the window, perhaps ends slow start. Gives the octets that count for
    /// congestion avoidance, all of them where there is no slow start. `proven` as [`CongestionWindow::proven`] tells.
    #[inline]
    pub(super) fn on_ack(&mut self, window: &mut CongestionWindow, ack: &AckSample, proven: bool) -> u32 {
        if self.phase != Phase::Off && window.ssthresh() == u32::MAX {
            return self.first_slow_start(window, ack, proven);
        }
        if proven { window.slow_start(ack.acked, u32::MAX) } else { 0 }
    }

    #[inline(always)]
    fn first_slow_start(&mut self, window: &mut CongestionWindow, ack: &AckSample, proven: bool) -> u32 {
        if self.waits {
            self.waits = false;
            self.window_end = ack.nxt;
        }
        if proven {
            // RFC9406-4.2b, 4.2d.
            let most = MOST_SEGMENTS * window.smss();
            let growth = match self.phase {
                Phase::Conservative => ack.acked.min(most) / CSS_GROWTH_DIVISOR,
                _ => most,
            };
            window.slow_start(ack.acked, growth);
        }
        if let Some(rtt) = ack.rtt {
            self.current_min = self.current_min.min(micros(rtt));
            self.samples = self.samples.saturating_add(1);
        }
        // A rise that an unused window sees is not its own doing.
        if proven && self.samples >= N_RTT_SAMPLE {
            self.compare();
        }
        if ack.una.ge(self.window_end) {
            self.window_end = ack.nxt;
            self.waits = ack.una == ack.nxt;
            self.last_min = self.current_min;
            self.current_min = NONE;
            self.samples = 0;
            if proven && self.phase == Phase::Conservative {
                self.css_rounds += 1;
                if self.css_rounds >= CSS_ROUNDS {
                    window.end_slow_start(); // RFC9406-4.2e
                }
            }
        }
        0
    }

    /// Whether the round trip has risen (RFC9406-4.2c), or has fallen again (4.2d).
    fn compare(&mut self) {
        match self.phase {
            Phase::Slow if self.last_min != NONE => {
                let threshold = (self.last_min / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
                if self.current_min >= self.last_min.saturating_add(threshold) {
                    self.phase = Phase::Conservative;
                    self.baseline = self.current_min;
                    self.css_rounds = 0;
                }
            }
            Phase::Conservative if self.current_min < self.baseline => {
                self.phase = Phase::Slow;
                self.baseline = NONE;
            }
            _ => {}
        }
    }
}

/// Whole µs, below [`NONE`].
pub(super) fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(NONE).min(NONE - 1)
}

#[cfg(test)]
#[path = "hystart_tests.rs"]
mod tests;
