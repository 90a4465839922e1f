//! What arrived out of order, and which of it to report (RFC 2018 4, RFC 2883 4).
//!
//! Which octets are held, never the octets themselves.

use crate::tcp::base::ranges::{Insert, RangeSet};
use crate::tcp::base::seq::SeqNum;
use crate::wire::options::SackBlocks;

/// The ranges held above RCV.NXT, and what the peer is told of them where SACK was negotiated.
#[derive(Clone, Debug)]
pub(super) struct Reassembly {
    held: RangeSet,
    report: SackReport,
}

impl Reassembly {
    /// Nothing is held.
    pub(super) fn new(sack: bool) -> Self {
        Self { held: RangeSet::new(), report: SackReport { enabled: sack, ..SackReport::default() } }
    }

    /// Whether nothing is held.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How many octets are held; looks at each range.
    pub(super) fn octets(&self) -> u32 {
        self.held.octets()
    }

    /// How many octets of `[start, end)` are held.
    pub(super) fn octets_in(&self, start: SeqNum, end: SeqNum) -> u32 {
        self.held.octets_in(start, end)
    }

    /// Whether all of `[start, end)` is held.
    pub(super) fn contains(&self, start: SeqNum, end: SeqNum) -> bool {
        self.held.contains(start, end)
    }

    /// Number behind the highest octet held.
    pub(super) fn end(&self) -> Option<SeqNum> {
        self.held.last().map(|(_, right)| right)
    }

    /// `[start, end)` arrived above a hole. It is held, if it is new and there are not `limit` ranges already.
    pub(super) fn insert(&mut self, start: SeqNum, end: SeqNum, limit: usize) -> Insert {
        let insert = self.held.insert(start, end, limit);
        if let Insert::Added(_) = insert {
            self.report.touch(start, &self.held);
        }
        insert
    }

    /// Everything below `nxt` arrived in order. How many held octets follow directly: they are held no more.
    #[inline]
    pub(super) fn release(&mut self, nxt: SeqNum) -> u32 {
        self.held.take_front_at(nxt).map_or(0, |end| end.above(nxt))
    }

    /// Forgets what is held.
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }

    /// `[start, end)` arrived a second time (RFC2883-4a).
    pub(super) fn report_duplicate(&mut self, start: SeqNum, end: SeqNum) {
        self.report.duplicate(start, end);
    }

    /// What of the arriving `[start, end)` is held already is reported as a duplicate: the lowest run of it, one for a
    /// segment (RFC2883-4a).
    pub(super) fn report_overlap(&mut self, start: SeqNum, end: SeqNum) {
        if let Some((low, high)) = self.held.first_overlap(start, end) {
            self.report.duplicate(low, high);
        }
    }

    /// Whether a segment that leaves now carries SACK blocks (RFC2018-4b).
    #[inline]
    pub(super) fn is_report_due(&self) -> bool {
        self.report.enabled && (self.report.duplicate.is_some() || !self.held.is_empty())
    }

    /// At most `room` blocks for a segment that leaves now.
    pub(super) fn blocks(&self, room: usize) -> SackBlocks {
        self.report.blocks(&self.held, room)
    }

    /// A segment with the blocks leaves.
    pub(super) fn on_reported(&mut self) {
        self.report.duplicate = None;
    }

    /// What must hold at any time, with a window from `nxt` to `edge`.
    #[cfg(test)]
    pub(super) fn check(&self, nxt: SeqNum, edge: SeqNum) {
        if let Some((low, _)) = self.held.first() {
            assert!(low.gt(nxt), "what is held is in order: {:?} {nxt}", self.held);
            assert!(self.held.last().is_some_and(|(_, high)| high.le(edge)));
        }
    }
}

/// The blocks touched last, newest first, and a duplicate to report.
///
/// A block is remembered by one octet in it, so that blocks which grow together become one by themselves.
#[derive(Clone, Debug, Default)]
struct SackReport {
    /// An octet of each of the blocks touched last.
    recent: [SeqNum; SackBlocks::MAX],
    /// How many of `recent` count.
    count: u8,
    /// SACK was negotiated.
    enabled: bool,
    /// A duplicate range, reported once (RFC2883-4a).
    duplicate: Option<(SeqNum, SeqNum)>,
}

impl SackReport {
    /// The octet `seq`, now in `held`, arrived: its block comes first from now on (RFC2018-4c). Blocks that moved down
    /// are repeated, which tells each of them at least three times (RFC2018-4d).
    fn touch(&mut self, seq: SeqNum, held: &RangeSet) {
        let Some(block) = held.covering(seq) else { return };
        let mut kept = [block.0; SackBlocks::MAX];
        let mut count = 1;
        for anchor in &self.recent[..usize::from(self.count)] {
            if count < kept.len() && !anchor.in_range(block.0, block.1) && held.covering(*anchor).is_some() {
                kept[count] = *anchor;
                count += 1;
            }
        }
        self.recent = kept;
        self.count = count as u8;
    }

    /// `[start, end)` arrived a second time.
    fn duplicate(&mut self, start: SeqNum, end: SeqNum) {
        if start.lt(end) {
            self.duplicate = Some((start, end));
        }
    }

    /// At most `room` blocks for a segment that leaves now.
    fn blocks(&self, held: &RangeSet, room: usize) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        let room = room.min(SackBlocks::MAX);
        let mut told: [Option<(SeqNum, SeqNum)>; SackBlocks::MAX] = [None; SackBlocks::MAX];
        let mut tell = |blocks: &mut SackBlocks, block: (SeqNum, SeqNum)| {
            if blocks.len() < room && !told.contains(&Some(block)) && blocks.push(block.0.0, block.1.0) {
                told[blocks.len() - 1] = Some(block);
            }
        };
        if let Some((start, end)) = self.duplicate {
            if room > 0 {
                blocks.push(start.0, end.0);
            }
            // RFC2883-4b: the block that holds the duplicate comes second.
            if let Some(block) = held.covering(start) {
                tell(&mut blocks, block);
            }
        }
        for anchor in &self.recent[..usize::from(self.count)] {
            if let Some(block) = held.covering(*anchor) {
                tell(&mut blocks, block);
            }
        }
        for block in held.iter().rev().take(SackBlocks::MAX) {
            tell(&mut blocks, block);
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(blocks: SackBlocks) -> Vec<(u32, u32)> {
        blocks.iter().collect()
    }

    fn add(report: &mut SackReport, held: &mut RangeSet, start: u32, end: u32) {
        let _ = held.insert(SeqNum(start), SeqNum(end), 64);
        report.touch(SeqNum(start), held);
    }

    /// RFC2018-8b.
    #[test]
    fn rfc2018_4_newest_first_and_three_times() {
        let (mut report, mut held) = (SackReport::default(), RangeSet::new());
        for start in [1001, 3001, 5001, 7001] {
            add(&mut report, &mut held, start, start + 1000);
        }
        assert_eq!(list(report.blocks(&held, 3)), [(7001, 8001), (5001, 6001), (3001, 4001)]);
        add(&mut report, &mut held, 2001, 3001);
        assert_eq!(list(report.blocks(&held, 3)), [(1001, 4001), (7001, 8001), (5001, 6001)]);
    }

    #[test]
    fn rfc2883_4_duplicates_are_told_once() {
        // SC-25
        let (mut report, mut held) = (SackReport::default(), RangeSet::new());
        add(&mut report, &mut held, 3001, 4001);
        report.duplicate(SeqNum(1), SeqNum(1001));
        assert_eq!(list(report.blocks(&held, 3)), [(1, 1001), (3001, 4001)]);
        report.duplicate(SeqNum(3001), SeqNum(4001));
        assert_eq!(list(report.blocks(&held, 3)), [(3001, 4001), (3001, 4001)]);
        report.duplicate = None;
        assert_eq!(list(report.blocks(&held, 3)), [(3001, 4001)]);
    }
}
