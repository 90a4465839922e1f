//! What was sent again in a recovery, until the peer reports it as a duplicate (RFC 3708).

use crate::tcp::base::ranges::{Insert, RangeSet};
use crate::tcp::base::seq::SeqNum;

/// Ranges of either kind.
const MOST_RANGES: usize = 64;

/// What was sent again in a recovery and is not reported as a duplicate yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies {
    /// Octets whose first such copy is not.
    first: RangeSet,
    /// Octets whose second one is not, either.
    second: RangeSet,
    /// There were more than these hold.
    beyond: bool,
}

impl Copies {
    /// `[start, end)` is sent again. Of a FIN alone nobody reports a duplicate.
    pub(super) fn add(&mut self, start: SeqNum, end: SeqNum) {
        self.beyond |= start.ge(end);
        let mut at = start;
        while at.lt(end) {
            // Up to the end of what is there, or to the begin of what is.
            let known = self.first.first_overlap(at, end);
            let (to, set) = match known {
                Some((low, high)) if low == at => (high, &mut self.second),
                Some((low, _)) => (low, &mut self.first),
                None => (end, &mut self.first),
            };
            self.beyond |= set.insert(at, to, MOST_RANGES) != Insert::Added(to.above(at));
            at = to;
        }
    }

    /// `[start, end)` has arrived twice. Copies are alike: it is the latest.
    pub(super) fn reported(&mut self, start: SeqNum, end: SeqNum) {
        if self.second.remove(start, end, MOST_RANGES) == 0 {
            self.first.remove(start, end, MOST_RANGES);
        }
    }

    /// Whether all of them are reported.
    pub(super) fn none_left(&self) -> bool {
        self.first.is_empty() && !self.beyond
    }

    /// Forgets all, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.first.empty();
        self.second.empty();
        self.beyond = false;
    }
}
