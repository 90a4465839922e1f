//! How large the receive buffer shall be: as large as the reader is fast (OPS-15).

use crate::tcp::base::time::{Duration, Instant};

/// Grows the receive buffer with the rate at which the user reads: dynamic right-sizing (OPS-15).
///
/// In each round trip the octets read are counted. When they were more than in any round trip before, the buffer
/// becomes twice that, plus room for the growth that a slow start brings in the meantime.
#[derive(Clone, Debug)]
pub(super) struct RightSizing {
    /// Begin of this measuring period.
    start: Instant,
    /// Octets read in it.
    copied: u32,
    /// Octets read in the best period so far.
    best: u32,
}

impl RightSizing {
    /// Begins to measure; what makes the buffer grow is more than `initial` octets read in a round trip, halved.
    pub(super) fn new(initial: u32, now: Instant) -> Self {
        Self { start: now, copied: 0, best: (initial / 2).max(1) }
    }

    /// The user has read `octets`. `rtt` is the round trip as far as known; gives the size the buffer should have, when
    /// a period ended in which more was read than ever before.
    pub(super) fn on_read(&mut self, octets: u32, mss: u16, rtt: Option<Duration>, now: Instant) -> Option<u32> {
        self.copied = self.copied.saturating_add(octets);
        // A period must not be too short to hold a segment; without any estimate, take a longish one.
        let period = rtt.unwrap_or(Duration::from_millis(100)).max(Duration::from_micros(50));
        if now - self.start < period {
            return None;
        }
        let copied = core::mem::take(&mut self.copied);
        self.start = now;
        if copied <= self.best {
            return None;
        }
        let base = 2 * u64::from(copied) + 16 * u64::from(mss);
        let growth = base.saturating_mul(u64::from(copied - self.best)) / u64::from(self.best);
        self.best = copied;
        Some(u32::try_from(growth.saturating_mul(2).saturating_add(base)).unwrap_or(u32::MAX))
    }

    /// Whether a measuring period ends with this reading (so that what is measured beside it starts anew).
    pub(super) fn started_at(&self) -> Instant {
        self.start
    }
}

#[cfg(test)]
#[path = "right_sizing_tests.rs"]
mod tests;
