//! Send memory that lies idle goes back to the kernel, a little four times a second: a shard does not hold for ever what it needed
//! once. When only what is worth keeping is left, nothing wakes the shard for it any more.
//!
//! Must not contain: which chunks go (`buffer::blocks`).

use super::state::ShardState;
use crate::tcp::{Duration, Instant};

/// Chunks lie idle when they were not used for so long.
const INTERVAL: Duration = Duration::from_millis(250);
/// So many go at a time, 8 MB: each takes a system call. All of the default 512 MB are gone within 20 seconds.
const AT_A_TIME: usize = 128;

impl ShardState {
    /// When [`give_back_memory`](Self::give_back_memory) has something to do, if it will.
    pub(crate) fn give_back_due(&mut self) -> Option<Instant> {
        if self.give_back_at.is_none() && self.memory.has_idle() {
            self.give_back_at = Some(self.now + INTERVAL);
        }
        self.give_back_at
    }

    /// Gives back some of what lies idle, if it is time.
    #[inline]
    pub(crate) fn give_back_memory(&mut self) {
        if self.give_back_at.is_some_and(|at| at <= self.now) {
            self.give_back_at = None;
            self.memory.give_back(AT_A_TIME);
        }
    }
}
