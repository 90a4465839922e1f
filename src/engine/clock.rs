//! The engine's clock: monotonic nanoseconds since its start. Read once a turn.

use crate::tcp::{Duration, Instant};

/// A clock that all workers of an engine share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: std::time::Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// Time since the engine's start, plus one hour: deadlines in the past stay representable.
    pub(super) fn now(&self) -> Instant {
        let elapsed = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Instant::from_nanos(elapsed) + Duration::from_secs(3_600)
    }
}
