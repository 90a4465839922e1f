//! What was sent and is not acknowledged: when each part left, and what the peer has said about it.
//!
//! Records only. Which of them are lost is decided in `rack.rs`, what is sent again in `output.rs`.
//!
//! ```text
//!   SND.UNA            written                        SND.NXT
//!      |  lost  | resent | SACKed |  sent  |  sent  |  sent |
//!      '--------'--------'--------'--------'--------'-------'
//!                one record each, in the order of numbers; each begins where the one before ends
//! ```

use std::collections::VecDeque;

use bitflags::bitflags;

use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::{Duration, Instant};

/// Records beyond which transmissions are merged with their predecessor, whenever that left.
const CROWDED: usize = 256;

/// Records beyond which reports of the peer split no more: a report that would is forgotten (OPS-24). SACK is advisory,
/// so that costs at most a needless retransmission.
const FULL: usize = 1_024;

/// Reported octets that leave once more between two losses, rather than headers of their own for the second.
const LITTLE: u32 = 40;

/// Records whose memory a connection keeps when nothing is in flight.
const KEPT: usize = 3;

/// A part of the flight that left together and of which the same is known. It begins where the record before ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// When it was sent last.
    sent: Instant,
    /// Number behind its last octet.
    end: SeqNum,
    flags: Known,
}

bitflags! {
    /// What is known of a record.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Known: u8 {
        /// The peer reported it.
        const SACKED = 1;
        /// It counts as lost, and was not sent again since.
        const LOST = 1 << 1;
        /// It was sent more than once.
        const RESENT = 1 << 2;
        /// Its parts left at several times, at `sent` the last.
        const SEVERAL = 1 << 3;
        /// The lower part of one with `SEVERAL`: none of it need have left at `sent`.
        const EARLIER = 1 << 4;
        /// Something was sent again since it left: what leaves now is later than that, and does not join it.
        const CLOSED = 1 << 5;
    }
}

impl Record {
    /// When it was sent last.
    #[inline]
    pub(super) fn sent(&self) -> Instant {
        self.sent
    }

    /// Number behind its last octet.
    #[inline]
    pub(super) fn end(&self) -> SeqNum {
        self.end
    }

    /// Whether what was delivered left at `sent`, so that it tells a round trip; else it left at some time before.
    #[inline]
    pub(super) fn timed(&self) -> bool {
        !self.has(Known::SEVERAL.union(Known::EARLIER))
    }

    /// `self`, if its end was delivered; then `sent` is right for that.
    fn delivered(self) -> Self {
        Self { flags: self.flags.difference(Known::SEVERAL), ..self }
    }

    /// Whether it was sent more than once.
    #[inline]
    pub(super) fn resent(&self) -> bool {
        self.has(Known::RESENT)
    }

    fn has(&self, flags: Known) -> bool {
        self.flags.intersects(flags)
    }
}

/// What [`Scoreboard::mark_lost`] is told about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Assessment {
    /// Not lost, as far as is known.
    Keep,
    /// Not lost, and neither is anything that was sent for the first time after it.
    Newer,
    /// Lost.
    Lost,
}

/// The records of the flight, SND.UNA to SND.NXT without a gap.
#[derive(Clone, Debug, Default)]
pub(super) struct Scoreboard {
    records: VecDeque<Record>,
    /// Octets that the peer reported to have.
    sacked: u32,
    /// Octets that count as lost and were not sent again since.
    lost: u32,
}

impl Scoreboard {
    /// Octets reported by SACK.
    #[inline]
    pub(super) fn sacked(&self) -> u32 {
        self.sacked
    }

    /// Octets that are lost and wait to be sent again.
    #[inline]
    pub(super) fn lost(&self) -> u32 {
        self.lost
    }

    /// Octets of the flight, which begins at `una`, that were sent again and may still be in the network.
    pub(super) fn in_flight_again(&self, una: SeqNum) -> u32 {
        let mut start = una;
        let mut octets = 0;
        for record in &self.records {
            if record.resent() && !record.has(Known::SACKED.union(Known::LOST)) {
                octets += record.end().above(start);
            }
            start = record.end();
        }
        octets
    }

    /// Number of records.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// A new transmission ends at `end`. It joins the one before if nothing is known of that and it left at most
    /// `grain` earlier (RFC8985-4b: finer than a quarter of a round trip). Not across a retransmission: whatever left
    /// before one that has arrived is lost, and what left behind it would count as that. `stream`: of a stream, for
    /// which all records that it may ever need are taken at once, so that no later segment of it allocates.
    #[inline]
    pub(super) fn sent(&mut self, end: SeqNum, now: Instant, grain: Duration, stream: bool) {
        if stream && self.records.capacity() < CROWDED {
            self.records.reserve_exact(CROWDED - self.records.len());
        }
        let crowded = self.records.len() >= CROWDED;
        if let Some(last) = self.records.back_mut()
            && last.flags.difference(Known::SEVERAL).is_empty()
            && (crowded || now - last.sent <= grain)
        {
            last.end = end;
            if crowded && last.sent != now {
                last.sent = now; // late rather than early: nothing is lost before its time
                last.flags |= Known::SEVERAL;
            }
            return;
        }
        if self.records.len() == self.records.capacity() {
            self.grow();
        }
        self.records.push_back(Record { sent: now, end, flags: Known::empty() });
    }

    /// Few steps, not a doubling now and then.
    #[cold]
    fn grow(&mut self) {
        let steps = [KEPT, 16, CROWDED];
        let wanted = steps.into_iter().find(|step| *step > self.records.len()).unwrap_or(2 * self.records.len());
        self.records.reserve_exact(wanted - self.records.len());
    }

    /// Whether there is room for the record of a new transmission. There always is when the peer is honest.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.records.len() < 2 * FULL
    }

    /// SND.UNA moves up to `ack`. When that is in the first record, and nothing is known of it but when it left, gives
    /// what of it has arrived; for all else there is [`acknowledge`](Self::acknowledge), and nothing happens here.
    #[inline]
    pub(super) fn acknowledge_front(&mut self, ack: SeqNum) -> Option<Record> {
        let front = self.records.front()?;
        if !front.flags.is_empty() || front.end.lt(ack) {
            return None;
        }
        let part = Record { sent: front.sent, end: ack, flags: Known::empty() };
        if front.end == ack {
            self.records.pop_front();
            if self.records.is_empty() && self.records.capacity() > CROWDED {
                self.records.shrink_to(CROWDED);
            }
        }
        Some(part)
    }

    /// SND.UNA moves from `una` to `ack`: `seen` is given each part that was not reported before, and where it begins.
    #[inline]
    pub(super) fn acknowledge(&mut self, una: SeqNum, ack: SeqNum, mut seen: impl FnMut(SeqNum, &Record)) {
        let mut start = una;
        while let Some(front) = self.records.front() {
            let part = if front.end.gt(ack) { Record { end: ack, ..*front } } else { front.delivered() };
            let len = part.end.above(start);
            if len == 0 {
                break;
            }
            if part.has(Known::SACKED) {
                self.sacked -= len;
            } else {
                if part.has(Known::LOST) {
                    self.lost -= len;
                }
                seen(start, &part);
            }
            if front.end.gt(ack) {
                break;
            }
            start = part.end;
            self.records.pop_front();
        }
        // Not to nothing, with each acknowledgment of a stream: a sender that has more to send needs it again.
        if self.records.is_empty() && self.records.capacity() > CROWDED {
            self.records.shrink_to(CROWDED);
        }
    }

    /// Nothing is in flight, and nothing waits to be sent: gives memory back.
    pub(super) fn trim(&mut self) {
        if self.records.is_empty() && self.records.capacity() > KEPT {
            self.records.shrink_to(KEPT);
        }
    }

    /// The peer reported `[left, right)`, which lies within the flight from `una` on. `seen` is given what is news of
    /// it.
    pub(super) fn sack(&mut self, una: SeqNum, left: SeqNum, right: SeqNum, mut seen: impl FnMut(SeqNum, &Record)) {
        let mut index = self.index_above(left);
        let mut reported = None;
        while let Some(record) = self.records.get(index).copied() {
            let start = self.start(index, una);
            if start.ge(right) {
                break;
            }
            if record.has(Known::SACKED) {
                index += 1;
                continue;
            }
            if start.lt(left) {
                // What is refused for want of room ends above `left`: the next round sees the record after it.
                let cut = self.split(index, left, FULL);
                index += 1;
                if !cut {
                    continue;
                }
            }
            let start = start.later(left);
            if record.end.gt(right) && !self.split(index, right, FULL) {
                break;
            }
            let Some(record) = self.records.get_mut(index) else { break };
            let len = record.end.above(start);
            if record.has(Known::LOST) {
                self.lost -= len;
            }
            self.sacked += len;
            seen(start, &record.delivered());
            record.flags = record.flags & Known::RESENT | Known::SACKED;
            reported = Some(index);
            index += 1;
        }
        let Some(index) = reported else { return };
        // One record of the run of SACKed ones around it: when they left does not matter any more.
        let sacked = |record: &&Record| record.has(Known::SACKED);
        let low = index - self.records.range(..index).rev().take_while(sacked).count();
        let high = index + self.records.range(index + 1..).take_while(sacked).count();
        if low < high {
            let flags = self.records.range(low..=high).fold(Known::SACKED, |flags, record| flags | record.flags);
            self.records[high].flags = flags;
            self.records.drain(low..high);
        }
    }

    /// Marks as lost what `assess` says so of, of all that is neither SACKed nor lost and lies below `written`, which
    /// the device has taken. Records that were never sent again lie in the order of their times: the first of them that
    /// is [`Assessment::Newer`] ends the walk, unless retransmissions reach further (`resent_end`). Gives the octets
    /// marked, and of these the ones that were a retransmission.
    pub(super) fn mark_lost(
        &mut self,
        una: SeqNum,
        written: SeqNum,
        resent_end: SeqNum,
        mut assess: impl FnMut(SeqNum, &Record) -> Assessment,
    ) -> Losses {
        let mut marked = Losses::default();
        let mut start = una;
        for record in &mut self.records {
            if record.end.gt(written) {
                break;
            }
            let len = record.end.above(start);
            if !record.has(Known::SACKED | Known::LOST) {
                match assess(start, record) {
                    Assessment::Keep => {}
                    Assessment::Newer if !record.has(Known::RESENT) && start.ge(resent_end) => break,
                    Assessment::Newer => {}
                    Assessment::Lost => {
                        record.flags |= Known::LOST;
                        marked.octets += len;
                        if record.has(Known::RESENT) {
                            marked.resent = Some(marked.resent.map_or(record.sent, |sent| sent.max(record.sent)));
                        }
                    }
                }
            }
            start = record.end;
        }
        self.lost += marked.octets;
        marked
    }

    /// Marks as lost what SACK says so of without regard to time: more than `octets` reported above it, or three
    /// separate ranges (RFC6675-4a). A retransmission is never found lost this way.
    pub(super) fn mark_lost_by_sack(&mut self, una: SeqNum, written: SeqNum, octets: u32) -> Losses {
        let (mut octets_above, mut ranges) = (0_u32, 0_u32);
        let mut bound = una;
        for index in (0..self.records.len()).rev() {
            let record = self.records[index];
            if record.has(Known::SACKED) {
                octets_above += record.end.above(self.start(index, una));
                ranges += 1;
            }
            if octets_above > octets || ranges >= 3 {
                bound = self.start(index, una);
                break;
            }
        }
        self.mark_lost(una, written.earlier(bound), una, |_, record| {
            if record.resent() { Assessment::Keep } else { Assessment::Lost }
        })
    }

    /// Marks `len` octets at SND.UNA as lost, sent again or not (RFC6582-3.2.2, 3.2.3P).
    pub(super) fn lose_front(&mut self, una: SeqNum, written: SeqNum, len: u32) {
        let end = (una + len).earlier(written);
        self.split_at(una, end);
        self.mark_lost(una, end, una, |_, _| Assessment::Lost);
    }

    /// A timeout: everything the device has taken and the peer has not reported counts as lost, unless `keep` says that
    /// it was sent so recently that nothing can be known (RFC8985-6.3).
    pub(super) fn lose_all(&mut self, una: SeqNum, written: SeqNum, mut keep: impl FnMut(SeqNum, &Record) -> bool) {
        self.split_at(una, written);
        self.mark_lost(
            una,
            written,
            una,
            |start, record| if keep(start, record) { Assessment::Keep } else { Assessment::Lost },
        );
    }

    /// Whether the peer reported the very first octet: then it has dropped what it reported (RFC2018-5b), for what it
    /// holds in order it acknowledges. All reports are forgotten with that.
    pub(super) fn take_reneged(&mut self) -> bool {
        let reneged = self.records.front().is_some_and(|front| front.has(Known::SACKED));
        if reneged {
            self.forget_sacked();
        }
        reneged
    }

    fn forget_sacked(&mut self) {
        for record in &mut self.records {
            record.flags.remove(Known::SACKED);
        }
        self.sacked = 0;
    }

    /// The losses were none.
    pub(super) fn forget_lost(&mut self) {
        for record in &mut self.records {
            record.flags.remove(Known::LOST);
        }
        self.lost = 0;
    }

    /// The lowest range that is lost and was not sent again. If that fills no segment of `mss` octets, what else is
    /// lost within one belongs to it, with the little that the peer reported in between. A peer that reports single
    /// octets would else be sent a segment for each gap, and answer each of them.
    pub(super) fn first_lost(&self, una: SeqNum, mss: u32) -> Option<(SeqNum, SeqNum)> {
        if self.lost == 0 {
            return None;
        }
        let first = self.records.iter().position(|record| record.has(Known::LOST))?;
        let start = self.start(first, una);
        let mut end = self.records.range(first..).take_while(|record| record.has(Known::LOST)).last()?.end;
        let (full, mut from) = (start + mss, start);
        for record in self.records.range(first..) {
            if from.ge(full) {
                break;
            }
            if record.has(Known::LOST) {
                end = end.later(record.end.earlier(full));
            } else if !record.has(Known::SACKED) || record.end.above(from) > LITTLE {
                break;
            }
            from = record.end;
        }
        Some((start, end))
    }

    /// Whether the octet at SND.UNA was sent more than once.
    pub(super) fn front_is_resent(&self) -> bool {
        self.records.front().is_some_and(Record::resent)
    }

    /// When the octet `seq` of the flight was sent last.
    pub(super) fn sent_at(&self, seq: SeqNum) -> Option<Instant> {
        self.records.get(self.index_above(seq)).map(|record| record.sent)
    }

    /// `[start, end)` of the flight leaves once more.
    pub(super) fn resent(&mut self, una: SeqNum, start: SeqNum, end: SeqNum, now: Instant) {
        self.split_at(una, start);
        self.split_at(una, end);
        let mut index = self.index_above(start);
        let first = index;
        let mut from = start;
        while let Some(record) = self.records.get_mut(index)
            && record.end.le(end)
        {
            let len = record.end.above(from);
            if record.has(Known::LOST) {
                self.lost -= len;
            }
            if record.has(Known::SACKED) {
                self.sacked -= len;
            }
            record.flags = Known::RESENT;
            record.sent = now;
            from = record.end;
            index += 1;
        }
        let crowded = self.records.len() >= CROWDED;
        if let Some(last) = self.records.back_mut().filter(|_| !crowded) {
            last.flags |= Known::CLOSED;
        }
        // One record for all of it; and for what left before it, when that is as good as now.
        let below = first.checked_sub(1).filter(|below| {
            let record = self.records[*below];
            record.flags.difference(Known::SEVERAL | Known::CLOSED) == Known::RESENT && (crowded || record.sent == now)
        });
        let run = below.unwrap_or(first);
        if index > run + 1 {
            let several = self.records.range(run..index).any(|record| record.has(Known::SEVERAL) || record.sent != now);
            self.records.drain(run..index - 1);
            if several {
                self.records[run].flags |= Known::SEVERAL;
            }
        }
    }

    /// Index of the first record that ends above `seq`.
    fn index_above(&self, seq: SeqNum) -> usize {
        self.records.partition_point(|record| record.end.le(seq))
    }

    /// Where record `index` begins.
    fn start(&self, index: usize, una: SeqNum) -> SeqNum {
        index.checked_sub(1).and_then(|below| self.records.get(below)).map_or(una, |record| record.end)
    }

    /// Cuts the record in two that has octets on both sides of `seq`, if one has.
    fn split_at(&mut self, una: SeqNum, seq: SeqNum) {
        let index = self.index_above(seq);
        if index < self.records.len() && self.start(index, una).lt(seq) {
            self.split(index, seq, usize::MAX);
        }
    }

    /// Cuts record `index` at `seq`, which lies in it. `false`, and nothing happens, when there are `most` records.
    fn split(&mut self, index: usize, seq: SeqNum, most: usize) -> bool {
        if self.records.len() >= most {
            return false;
        }
        let Some(record) = self.records.get(index).copied() else { return false };
        let flags = if record.has(Known::SEVERAL) {
            record.flags.difference(Known::SEVERAL) | Known::EARLIER
        } else {
            record.flags
        };
        self.records.insert(index, Record { end: seq, flags, ..record });
        true
    }

    /// What must hold at any time.
    #[cfg(test)]
    pub(super) fn check(&self, una: SeqNum, nxt: SeqNum) {
        let (mut start, mut sacked, mut lost) = (una, 0, 0);
        for record in &self.records {
            let len = record.end.above(start);
            assert!(len > 0, "an empty record: {self:?}");
            assert!(!(record.has(Known::SACKED) && record.has(Known::LOST)));
            sacked += if record.has(Known::SACKED) { len } else { 0 };
            lost += if record.has(Known::LOST) { len } else { 0 };
            start = record.end;
        }
        assert_eq!((start, sacked, lost), (nxt, self.sacked, self.lost), "{self:?}");
    }

    /// Records that there is room for, for tests.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.records.capacity()
    }

    /// One letter a record, for tests: `s` SACKed, `l` lost, `r` sent again, `.` none; lower ends are not told.
    #[cfg(test)]
    pub(super) fn picture(&self, una: SeqNum) -> String {
        let letter = |record: &Record| match record.flags {
            flags if flags.contains(Known::SACKED) => 's',
            flags if flags.contains(Known::LOST) => 'l',
            flags if flags.contains(Known::RESENT) => 'r',
            _ => '.',
        };
        self.records.iter().map(|record| format!("{}{} ", letter(record), record.end.above(una))).collect()
    }
}

/// What [`Scoreboard::mark_lost`] has marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Octets newly lost.
    pub(crate) octets: u32,
    /// When the latest of those left that were a retransmission, if one was.
    pub(crate) resent: Option<Instant>,
}

#[cfg(test)]
#[path = "scoreboard_tests.rs"]
mod tests;
