//! Which SACK blocks to report (RFC 2018 4, RFC 2883 4).
//!
//! Only the order of reporting lives here; what is held is the [`RangeSet`] of the connection.

use super::ranges::RangeSet;
use super::seq::SeqNum;
use crate::wire::options::SackBlocks;

/// The blocks touched last, newest first, and a duplicate to report.
///
/// A block is remembered by one octet in it, so that blocks which grow together become one by themselves.
#[derive(Clone, Debug, Default)]
pub(super) struct SackReport {
    /// An octet of each of the blocks touched last.
    recent: [SeqNum; SackBlocks::MAX],
    /// How many of `recent` count.
    count: u8,
    /// A duplicate range, reported once (RFC2883-4a).
    duplicate: Option<(SeqNum, SeqNum)>,
}

impl SackReport {
    /// The octet `seq`, now in `held`, arrived: its block comes first from now on (RFC2018-4c). Blocks that moved down
    /// are repeated, which tells each of them at least three times (RFC2018-4d).
    pub(super) fn touch(&mut self, seq: SeqNum, held: &RangeSet) {
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
    pub(super) fn duplicate(&mut self, start: SeqNum, end: SeqNum) {
        if start.lt(end) {
            self.duplicate = Some((start, end));
        }
    }

    /// Whether an ACK carries blocks at all.
    pub(super) fn is_due(&self, held: &RangeSet) -> bool {
        self.duplicate.is_some() || !held.is_empty()
    }

    /// A segment with the blocks leaves.
    pub(super) fn told(&mut self) {
        self.duplicate = None;
    }

    /// At most `room` blocks for a segment that leaves now.
    pub(super) fn blocks(&self, held: &RangeSet, room: usize) -> SackBlocks {
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
        report.told();
        assert_eq!(list(report.blocks(&held, 3)), [(3001, 4001)]);
    }
}
