//! What all stages have in common.

use std::sync::atomic::AtomicU64;

use crate::steering::Unjoined;

/// What one call of a stage's `poll` did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Poll {
    /// Items moved; zero: there was nothing to do.
    pub(super) work: usize,
    /// The device queue was left empty (always so for stages without one).
    pub(super) drained: bool,
}

/// Figures of a reader or writer that its shard does not see.
#[derive(Debug, Default)]
pub(super) struct StageStats {
    pub(super) forwarded: AtomicU64,
    pub(super) refused: AtomicU64,
    /// Packet buffers of the reader ...
    pub(super) buffers: AtomicU64,
    /// ... and how many of them are at home.
    pub(super) buffers_free: AtomicU64,
    /// By [`Unjoined`].
    pub(super) fragments: [AtomicU64; Unjoined::COUNT],
}
