//! A question about what a shard has, and the answer.

use crate::shard::Shard;
use crate::shard::diag::{Cursor, Entry, EntryId, Reset};
use crate::shard::tap::Tap;
use crate::shard::trace::Trace;
use crate::tcp::Instant;

/// A part of a walk over what a shard has.
#[derive(Debug)]
pub struct Slice {
    /// What was found, in the list that came with the question.
    pub entries: Vec<Entry>,
    /// Where to go on; `None`: that was all.
    pub next: Option<Cursor>,
}

/// A question about what a shard has, with what is to be done with the answer on the shard's thread.
pub(super) enum Question {
    Walk { from: Cursor, entries: Vec<Entry>, answer: Box<dyn FnOnce(Slice) + Send> },
    Reset { entry: EntryId, answer: Box<dyn FnOnce(Reset) + Send> },
    Tap { tap: Box<Tap>, answer: Box<dyn FnOnce(Option<Instant>) + Send> },
    Trace { trace: Box<Trace>, answer: Box<dyn FnOnce(Option<Instant>) + Send> },
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Walk { from, .. } => f.debug_struct("Walk").field("from", from).finish_non_exhaustive(),
            Self::Reset { entry, .. } => f.debug_struct("Reset").field("entry", entry).finish_non_exhaustive(),
            Self::Tap { tap, .. } => f.debug_struct("Tap").field("tap", tap).finish_non_exhaustive(),
            Self::Trace { trace, .. } => f.debug_struct("Trace").field("trace", trace).finish_non_exhaustive(),
        }
    }
}

impl Question {
    /// Whether a turn answers no other one beside it.
    pub(super) fn is_long(&self) -> bool {
        matches!(self, Self::Walk { .. })
    }

    pub(super) fn answer(self, shard: &mut Shard) {
        match self {
            Self::Walk { from, mut entries, answer } => {
                let next = shard.diag(from, &mut entries);
                answer(Slice { entries, next });
            }
            Self::Reset { entry, answer } => answer(shard.reset(entry)),
            Self::Tap { tap, answer } => answer(shard.tap(*tap)),
            Self::Trace { trace, answer } => answer(shard.trace(*trace)),
        }
    }
}
