//! What a sender sends again, held against what the path has lost of it: [`Rule::Resent`].
//!
//! A sender that is told the truth, and in time, sends again what was lost and, for each recovery, little more: a tail
//! loss probe and a timeout repeat a segment to learn whether it is missing ([`A_RECOVERY`]). Where it cannot know better
//! it may be wrong once about all that was in flight and not reported:
//!
//! * With a timeout, where there is no SACK: nobody has said what has arrived, and slow start sends all of it again
//!   (RFC 5681 3.1).
//! * With a timeout while packets were on their way, kept by an outage or waiting in a queue: perhaps nothing was lost.
//!   F-RTO and Eifel find most of these out within two segments; but F-RTO not in a recovery that goes on, as with the
//!   second timeout in a row (RFC 5682 2.1), and Eifel not without timestamps.
//! * With a fast recovery after a tail loss probe, or such a timeout, while packets were on their way: the report of the first
//!   copy looks like that of the second, also by its timestamp, which is that of what came in order (RFC 7323 4.3), and all
//!   that left before the second like overtaken (RFC 8985 6.2.2).
//! * In a recovery that begins with more than [`REMEMBERED`] segments in flight, about those beyond them: of so many the
//!   sender does not remember which were reported (OPS-24).
//!
//! * When it learns that the path is narrow: what left together in more than the path carries is taken for lost.
//!
//! On such a path octets are counted, and not segments: what was lost in large ones leaves again in small ones.
//! A segment whose octets lie in many small pieces of memory leaves in several packets. These count as one.
//!
//! Must not contain: what the other rules want to know, asking hosts.

use super::packet::{Packet, View};
use super::rules::{Rule, Violation};
use crate::tcp::{Info, SeqNum};
use crate::wire::tcp::Flags;

/// Wire segments that may leave again in vain for each fast recovery, timeout or tail loss probe.
const A_RECOVERY: u64 = 2;

/// Parts of the flight that a sender surely tells from each other, a segment each.
const REMEMBERED: u32 = 1_024;

/// Of one direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Resends {
    /// Wire segments with payload or a FIN that have left before.
    resent: u64,
    /// Wire segments of that kind that links have lost.
    lost: u64,
    /// Their payload, of what left again and of what was lost.
    octets: [u64; 2],
    /// Something was lost, be it an acknowledgment only.
    pub(super) lossy: bool,
    /// Something was repeated, changed or moved out of its order.
    pub(super) disturbed: bool,
    /// Wire segments of any kind that have left, are not lost and have not arrived; and how many there were before what
    /// has left in this poll.
    underway: u64,
    underway_before: Option<u64>,
    /// Payload of the largest wire segment.
    full: u32,
    /// Where the last packet of this poll that was sent again ended, if that was in the middle of a segment.
    open_end: Option<SeqNum>,
    /// Packets that began there.
    continued: u64,
    /// Wire segments that may have left again in vain for one of the reasons above.
    excused: u64,
    /// Since the last fast recovery a tail loss probe has left, or what was on its way was sent again.
    probed: bool,
    /// What the sender said at the last look, and how many had been sent again by then.
    looked: Option<Info>,
    looked_at: u64,
}

/// Whether it is one of those that are sent again: no SYN, no probe that brings nothing.
fn carries_text(view: &View) -> bool {
    (!view.is_empty() || view.has(Flags::FIN)) && !view.has(Flags::SYN)
}

impl Resends {
    /// Another connection begins between the same ends.
    pub(super) fn begin_anew(&mut self) {
        *self = Self { lossy: self.lossy, disturbed: self.disturbed, underway: self.underway, ..Self::default() };
    }

    /// A packet leaves; `end` is behind all that has left before.
    pub(super) fn leaves(&mut self, packet: &Packet, view: &View, end: SeqNum) {
        self.underway_before.get_or_insert(self.underway);
        self.underway += packet.wire_segments() as u64;
        if !carries_text(view) {
            return;
        }
        let seq = SeqNum(view.header.seq);
        let size = if packet.gso_size > 0 { u32::from(packet.gso_size) } else { view.len() };
        if seq.ge(end) {
            self.full = self.full.max(size);
            return;
        }
        let again = (end - seq).unsigned_abs().min(view.len());
        self.resent += u64::from(again.div_ceil(size.max(1)).max(1));
        self.octets[0] += u64::from(again);
        self.continued += u64::from(self.open_end == Some(seq));
        let full = if packet.gso_size > 0 { size } else { self.full };
        self.open_end = (!view.len().is_multiple_of(full.max(1))).then_some(seq + view.len());
    }

    /// The sender has been polled.
    pub(super) fn polled(&mut self) {
        self.open_end = None;
        self.underway_before = None;
    }

    /// Whether something was on its way when the sender was polled.
    pub(super) fn is_underway(&self) -> bool {
        self.underway_before.unwrap_or(self.underway) > 0
    }

    /// A link loses a packet.
    pub(super) fn loses(&mut self, packet: &Packet, view: &View) {
        self.lossy = true;
        self.arrives(packet);
        if carries_text(view) {
            self.lost += packet.wire_segments() as u64;
            self.octets[1] += u64::from(view.len());
        }
    }

    /// A packet comes to the end of its way.
    pub(super) fn arrives(&mut self, packet: &Packet) {
        self.underway = self.underway.saturating_sub(packet.wire_segments() as u64);
    }

    /// Whether something was sent again since the last look.
    pub(super) fn has_news(&self) -> bool {
        self.resent > self.looked_at
    }

    /// What was seen at the last look, and how many wire segments had been sent again.
    pub(super) fn looked(&self) -> Option<(u64, &Info)> {
        self.looked.as_ref().map(|info| (self.looked_at, info))
    }

    /// Looks at what the sender says of itself, with `flight` octets not acknowledged. `waits`: something was on its way
    /// when it was polled, to the peer or from it.
    pub(super) fn check(&mut self, info: &Info, flight: u32, waits: bool) -> Result<(), Violation> {
        let counts = |info: &Info| (info.timeouts, info.recovery.fast_recoveries, info.recovery.tail_probes);
        let (timeouts, recoveries, probes) = self.looked.as_ref().map_or((0, 0, 0), counts);
        let narrower = info.path_mtu != self.looked.as_ref().and_then(|info| info.path_mtu);
        self.looked = Some(*info);
        self.looked_at = self.resent;
        let timeout = info.timeouts > timeouts && (waits || !info.sack);
        let recovered = info.recovery.fast_recoveries > recoveries;
        let overtaken = recovered && self.probed && waits;
        let segments = |octets: u32| octets.div_ceil(info.mss.max(1));
        if timeout || overtaken || narrower {
            self.excused += u64::from(segments(flight.saturating_sub(info.sacked)));
        } else if info.timeouts > timeouts || recovered {
            self.excused += u64::from(segments(flight).saturating_sub(REMEMBERED));
        }
        let twice = info.recovery.tail_probes > probes || timeout && waits;
        self.probed = self.probed && !recovered || twice;
        let (timeouts, recoveries, probes) = counts(info);
        let known = timeouts + u64::from(recoveries) + u64::from(probes);
        let in_vain = A_RECOVERY * known + self.excused + self.continued;
        let [again, lost] = self.octets;
        let by_octets = info.path_mtu.is_some() && again <= lost + in_vain * u64::from(self.full.max(1));
        if by_octets || self.resent <= self.lost + in_vain {
            return Ok(());
        }
        let detail = format!(
            "{} wire segments were sent again, {} lost; {timeouts} timeouts, {recoveries} fast recoveries, {probes} tail loss \
             probes, {} excused and {} in pieces; SACK {}, timestamps {}",
            self.resent, self.lost, self.excused, self.continued, info.sack, info.timestamps
        );
        Err(Violation::new(Rule::Resent, detail))
    }
}

#[cfg(test)]
#[path = "resends_tests.rs"]
mod tests;
