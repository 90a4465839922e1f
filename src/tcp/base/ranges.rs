//! A bounded set of sequence ranges: the shape of what lies out of order at the receiver.
//!
//! It knows which octets are there, never the octets themselves, and it knows nothing of windows: callers trim before
//! they insert, and say how many ranges there may be.

use std::collections::VecDeque;

use crate::tcp::base::seq::SeqNum;

/// What became of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insert {
    /// The range is in the set now; so many octets of it were not there before (never 0).
    Added(u32),
    /// Every octet was there already, or the range was empty.
    Duplicate,
    /// The range touches no other and the set holds its limit of ranges: refused, the set is unchanged (OPS-26).
    Full,
}

/// A half-open range `[start, end)` of sequence numbers.
type Range = (SeqNum, SeqNum);

/// Sorted, disjoint, non-touching half-open ranges of sequence numbers.
///
/// All numbers in the set at one time must lie within 2^31 of each other, which a window below 2^30 ensures; otherwise
/// answers are meaningless but nothing panics. Searches take `O(log n)`. The lowest range leaves in one step; an
/// insertion moves the ranges on its nearer side, 8 octets each, which the limit bounds. An empty set owns no heap
/// memory, or little of it for the next loss. The limit answers the attack by many tiny out-of-order segments (OPS-26,
/// SC-31).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// Made on first need: most connections never do, and a record of one has no room to spare.
    #[expect(clippy::box_collection, reason = "a quarter of the size in each connection")]
    ranges: Option<Box<VecDeque<Range>>>,
}

/// Ranges whose memory an empty set keeps.
const KEPT: usize = 64;

static NONE: VecDeque<Range> = VecDeque::new();

impl RangeSet {
    /// An empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { ranges: None }
    }

    fn list(&self) -> &VecDeque<Range> {
        self.ranges.as_deref().unwrap_or(&NONE)
    }

    /// Index of the first range that ends above `seq`.
    fn first_ending_above(&self, seq: SeqNum) -> usize {
        self.list().partition_point(|range| range.1.le(seq))
    }

    /// Adds `[start, end)`, merging it with every range it overlaps or touches. One that touches none is refused where
    /// there are `limit` ranges.
    pub fn insert(&mut self, start: SeqNum, end: SeqNum, limit: usize) -> Insert {
        if end.le(start) {
            return Insert::Duplicate;
        }
        let ranges = self.ranges.get_or_insert_default();
        // All ranges in `low..high` overlap or touch the new one.
        let low = ranges.partition_point(|range| range.1.lt(start));
        let high = ranges.partition_point(|range| range.0.le(end));
        if low >= high {
            if ranges.len() >= limit {
                return Insert::Full;
            }
            ranges.insert(low, (start, end));
            return Insert::Added(end.above(start));
        }
        let held: u32 = ranges.range(low..high).map(|range| range.1.earlier(end).above(range.0.later(start))).sum();
        let added = end.above(start).saturating_sub(held);
        if added == 0 {
            return Insert::Duplicate;
        }
        ranges[low] = (ranges[low].0.earlier(start), ranges[high - 1].1.later(end));
        ranges.drain(low + 1..high);
        Insert::Added(added)
    }

    /// Forgets the octets of `[start, end)`, how many of them were there. Nothing happens where that would make more
    /// than
    /// `limit` ranges.
    pub fn remove(&mut self, start: SeqNum, end: SeqNum, limit: usize) -> u32 {
        let Some(ranges) = self.ranges.as_mut().filter(|_| start.lt(end)) else { return 0 };
        let low = ranges.partition_point(|range| range.1.le(start));
        let high = ranges.partition_point(|range| range.0.lt(end));
        if low >= high {
            return 0;
        }
        let (below, above) = ((ranges[low].0, start), (end, ranges[high - 1].1));
        let kept = [below, above].into_iter().filter(|(from, to)| from.lt(*to));
        if ranges.len() - (high - low) + kept.clone().count() > limit {
            return 0;
        }
        let removed = ranges.range(low..high).map(|range| range.1.earlier(end).above(range.0.later(start))).sum();
        ranges.drain(low..high);
        for (index, range) in (low..).zip(kept) {
            ranges.insert(index, range);
        }
        removed
    }

    /// Forgets everything, and keeps the memory.
    pub fn empty(&mut self) {
        if let Some(ranges) = &mut self.ranges {
            ranges.clear();
        }
    }

    /// Forgets every octet below `seq`.
    fn remove_below(&mut self, seq: SeqNum) {
        let gone = self.first_ending_above(seq);
        let Some(ranges) = &mut self.ranges else { return };
        ranges.drain(..gone);
        if let Some(first) = ranges.front_mut() {
            first.0 = first.0.later(seq);
        }
    }

    /// The lowest range.
    #[must_use]
    pub fn first(&self) -> Option<(SeqNum, SeqNum)> {
        self.list().front().copied()
    }

    /// The highest range.
    #[must_use]
    pub fn last(&self) -> Option<(SeqNum, SeqNum)> {
        self.list().back().copied()
    }

    /// Takes the lowest range out if it starts at or below `seq` and reaches beyond, and gives its end: with
    /// `seq = RCV.NXT`, the new RCV.NXT. Ranges wholly below `seq` are dropped on the way.
    pub fn take_front_at(&mut self, seq: SeqNum) -> Option<SeqNum> {
        if self.is_empty() {
            return None;
        }
        self.remove_below(seq);
        let (start, end) = self.first()?;
        if start.gt(seq) {
            return None;
        }
        let ranges = self.ranges.as_mut()?;
        ranges.pop_front();
        if ranges.is_empty() && ranges.capacity() > KEPT {
            self.clear();
        }
        Some(end)
    }

    /// Whether all of the (non-empty) `[start, end)` is held.
    #[must_use]
    pub fn contains(&self, start: SeqNum, end: SeqNum) -> bool {
        start.lt(end) && self.covering(start).is_some_and(|range| end.le(range.1))
    }

    /// The range that holds the octet `seq`.
    #[must_use]
    pub fn covering(&self, seq: SeqNum) -> Option<(SeqNum, SeqNum)> {
        self.list().get(self.first_ending_above(seq)).copied().filter(|range| range.0.le(seq))
    }

    /// The lowest run of octets in `[start, end)` that is held.
    #[must_use]
    pub fn first_overlap(&self, start: SeqNum, end: SeqNum) -> Option<(SeqNum, SeqNum)> {
        let range = self.list().get(self.first_ending_above(start))?;
        let (low, high) = (range.0.later(start), range.1.earlier(end));
        low.lt(high).then_some((low, high))
    }

    /// How many octets of `[start, end)` are held.
    #[must_use]
    pub fn octets_in(&self, start: SeqNum, end: SeqNum) -> u32 {
        let ranges = self.list().range(self.first_ending_above(start)..);
        ranges.take_while(|range| range.0.lt(end)).map(|range| range.1.earlier(end).above(range.0.later(start))).sum()
    }

    /// The ranges from low to high.
    #[must_use]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (SeqNum, SeqNum)> + ExactSizeIterator + '_ {
        self.list().iter().copied()
    }

    /// How many ranges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list().len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    /// How many octets are held in all; looks at each range.
    #[must_use]
    pub fn octets(&self) -> u32 {
        self.list().iter().map(|range| range.1.above(range.0)).sum()
    }

    /// Forgets everything, and gives the memory back.
    pub fn clear(&mut self) {
        self.ranges = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const ANCHORS: [u32; 4] = [0, 1, i32::MAX as u32 - 100, u32::MAX - 100];

    /// A set built from ranges relative to an anchor.
    fn set(at: u32, ranges: &[(u32, u32)]) -> RangeSet {
        let mut set = RangeSet::new();
        for &(start, end) in ranges {
            set.insert(SeqNum(at) + start, SeqNum(at) + end, 64);
        }
        set
    }

    fn relative(set: &RangeSet, at: u32) -> Vec<(u32, u32)> {
        set.iter().map(|(start, end)| (start.0.wrapping_sub(at), end.0.wrapping_sub(at))).collect()
    }

    #[test]
    fn an_empty_set_is_small_and_owns_nothing() {
        assert!(size_of::<RangeSet>() <= 8);
        assert_eq!(RangeSet::new().ranges, None);
    }

    #[test]
    fn neighbours_and_overlaps_merge() {
        for at in ANCHORS {
            assert_eq!(relative(&set(at, &[(10, 20), (20, 30)]), at), [(10, 30)]);
            assert_eq!(relative(&set(at, &[(20, 30), (10, 20)]), at), [(10, 30)]);
            assert_eq!(relative(&set(at, &[(10, 20), (30, 40), (50, 60), (15, 55)]), at), [(10, 60)]);
            assert_eq!(relative(&set(at, &[(10, 20), (22, 30)]), at), [(10, 20), (22, 30)]);
        }
    }

    #[test]
    fn an_insertion_tells_only_the_new_octets() {
        for at in ANCHORS {
            let base = SeqNum(at);
            let mut set = set(at, &[(10, 20), (30, 40)]);
            assert_eq!(set.insert(base + 15, base + 35, 64), Insert::Added(10));
            assert_eq!(set.insert(base + 10, base + 40, 64), Insert::Duplicate);
            assert_eq!(set.insert(base + 12, base + 12, 64), Insert::Duplicate);
            assert_eq!(set.insert(base + 5, base + 50, 64), Insert::Added(15));
            assert_eq!(set.octets(), 45);
        }
    }

    #[test]
    fn ops_26_the_number_of_ranges_is_bounded() {
        let mut set = RangeSet::new();
        for i in 0..3 {
            assert_eq!(set.insert(SeqNum(i * 10), SeqNum(i * 10 + 1), 3), Insert::Added(1));
        }
        assert_eq!(set.insert(SeqNum(100), SeqNum(101), 3), Insert::Full);
        assert_eq!(set.insert(SeqNum(1), SeqNum(2), 3), Insert::Added(1), "growing a range needs no room");
        assert_eq!(set.insert(SeqNum(2), SeqNum(10), 3), Insert::Added(8), "filling a gap makes room");
        assert_eq!(set.insert(SeqNum(100), SeqNum(101), 3), Insert::Added(1));
    }

    #[test]
    fn the_front_leaves_when_it_becomes_in_order() {
        for at in ANCHORS {
            let base = SeqNum(at);
            let mut set = set(at, &[(10, 20), (30, 40)]);
            assert_eq!(set.take_front_at(base + 9), None);
            assert_eq!(set.take_front_at(base + 10), Some(base + 20));
            assert_eq!(set.take_front_at(base + 20), None);
            assert_eq!(set.take_front_at(base + 35), Some(base + 40));
            assert!(set.is_empty());
            assert_eq!(set.take_front_at(base + 40), None);
        }
    }

    #[test]
    fn a_front_that_was_overtaken_is_dropped_not_returned() {
        let mut set = set(0, &[(10, 20), (30, 40)]);
        assert_eq!(set.take_front_at(SeqNum(20)), None);
        assert_eq!(set.first(), Some((SeqNum(30), SeqNum(40))));
        assert_eq!(set.last(), set.first());
    }

    #[test]
    fn clear_gives_the_memory_back() {
        let mut set = set(0, &[(10, 20), (30, 40)]);
        set.clear();
        assert_eq!((set.len(), set.octets(), set.ranges), (0, 0, None));
    }

    #[test]
    fn what_many_ranges_took_is_given_back_with_the_last() {
        let mut set = RangeSet::new();
        for at in 0..1_000 {
            assert_eq!(set.insert(SeqNum(at * 10), SeqNum(at * 10 + 1), 1_000), Insert::Added(1));
        }
        for at in 0..1_000 {
            assert_eq!(set.take_front_at(SeqNum(at * 10)), Some(SeqNum(at * 10 + 1)));
        }
        assert_eq!(set.ranges, None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32, u32),
        Remove(u32, u32),
        RemoveBelow(u32),
        TakeFront(u32),
    }

    /// Octets of the naive model.
    const LINE: usize = 160;

    fn step() -> impl Strategy<Value = Step> {
        let at = 0..LINE as u32;
        prop_oneof![
            6 => (at.clone(), 0..24_u32).prop_map(|(start, len)| Step::Insert(start, (start + len).min(LINE as u32))),
            2 => (at.clone(), 0..24_u32).prop_map(|(start, len)| Step::Remove(start, (start + len).min(LINE as u32))),
            1 => at.clone().prop_map(Step::RemoveBelow),
            1 => at.prop_map(Step::TakeFront),
        ]
    }

    /// Runs of held octets in the bitmap.
    fn runs(line: &[bool]) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for (at, _) in line.iter().enumerate().filter(|(_, held)| **held) {
            let at = at as u32;
            match runs.last_mut() {
                Some(run) if run.1 == at => run.1 += 1,
                _ => runs.push((at, at + 1)),
            }
        }
        runs
    }

    proptest! {
        /// Against one flag an octet, at the places where the circle closes.
        #[test]
        fn agrees_with_a_bitmap(
            anchor in prop_oneof![
                0..4_u32, i32::MAX as u32 - 80..i32::MAX as u32 - 60, u32::MAX - 80..=u32::MAX - 60, any::<u32>(),
            ],
            steps in proptest::collection::vec(step(), 1..60),
        ) {
            const LIMIT: usize = 5;
            let base = SeqNum(anchor);
            let mut set = RangeSet::new();
            let mut line = [false; LINE];
            for step in steps {
                match step {
                    Step::Insert(start, end) => {
                        let mut after = line;
                        after[start as usize..end as usize].fill(true);
                        let new = after.iter().zip(&line).filter(|(after, before)| after != before).count() as u32;
                        let expected = if new == 0 {
                            Insert::Duplicate
                        } else if runs(&line).len() == LIMIT && runs(&after).len() > LIMIT {
                            Insert::Full
                        } else {
                            line = after;
                            Insert::Added(new)
                        };
                        prop_assert_eq!(set.insert(base + start, base + end, LIMIT), expected);
                    }
                    Step::Remove(start, end) => {
                        let mut after = line;
                        after[start as usize..end as usize].fill(false);
                        let mut gone = after.iter().zip(&line).filter(|(after, before)| after != before).count() as u32;
                        if runs(&after).len() > LIMIT {
                            gone = 0;
                        } else {
                            line = after;
                        }
                        prop_assert_eq!(set.remove(base + start, base + end, LIMIT), gone);
                    }
                    Step::RemoveBelow(seq) => {
                        line[..seq as usize].fill(false);
                        set.remove_below(base + seq);
                    }
                    Step::TakeFront(seq) => {
                        line[..seq as usize].fill(false);
                        let run = runs(&line).first().copied().filter(|run| run.0 <= seq);
                        if let Some((start, end)) = run {
                            line[start as usize..end as usize].fill(false);
                        }
                        prop_assert_eq!(set.take_front_at(base + seq), run.map(|run| base + run.1));
                        if run.is_none() {
                            set.remove_below(base + seq);
                        }
                    }
                }
                let expected = runs(&line);
                prop_assert_eq!(relative(&set, anchor), expected.clone());
                prop_assert_eq!(set.octets() as usize, line.iter().filter(|held| **held).count());
                prop_assert_eq!(set.len(), expected.len());
                for seq in 0..LINE as u32 {
                    let run = expected.iter().find(|run| run.0 <= seq && seq < run.1);
                    prop_assert_eq!(set.covering(base + seq), run.map(|run| (base + run.0, base + run.1)));
                    let end = (seq + 7).min(LINE as u32);
                    let whole = line[seq as usize..end as usize].iter().all(|held| *held);
                    prop_assert_eq!(set.contains(base + seq, base + end), whole);
                    let low = (seq..end).find(|at| line[*at as usize]);
                    let high = low.map(|low| (low..end).find(|at| !line[*at as usize]).unwrap_or(end));
                    let overlap = low.zip(high).map(|(low, high)| (base + low, base + high));
                    prop_assert_eq!(set.first_overlap(base + seq, base + end), overlap);
                    let held = line[seq as usize..end as usize].iter().filter(|held| **held).count();
                    prop_assert_eq!(set.octets_in(base + seq, base + end) as usize, held);
                }
            }
        }
    }
}
