//! The receive side of a connection: what arrived in order, what the peer may send, and when it is told.
//!
//! The sequence space, the window policy (SWS avoidance) and the policy of acknowledgments; what to do with a segment
//! is decided in `input.rs`.

use bitflags::bitflags;

use crate::tcp::base::config::Config;
use crate::tcp::base::info::Info;
use crate::tcp::base::outcome::Keep;
use crate::tcp::base::segment::Segment;
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::base::timestamp::{Timestamp, TimestampClock};
use crate::tcp::base::units::{LARGEST_WINDOW, SMALLEST_BUFFER, UnscaledWindow, WindowScale, buffer_within_bounds};
use crate::tcp::connection::opened::Opened;
use crate::tcp::connection::right_sizing::RightSizing;
use crate::tcp::connection::timestamps::{PastStamps, StampCheck, TimestampState};
use crate::wire::options::Timestamps;

bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Facts: u8 {
        /// An ACK must leave with the next segment.
        const ACK_PENDING = 1;
        /// The peer's FIN was seen, `fin` is its number; it may still be out of order.
        const FIN_KNOWN = 1 << 1;
        /// The user has set the buffer.
        const FIXED = 1 << 2;
        /// The store is short of memory: the buffer must not grow (OPS-46).
        const PRESSURE = 1 << 3;
    }
}

/// When an ACK of what has arrived leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckTiming {
    /// With the next segment, at once.
    Now,
    /// With data, or when the timer of delayed ACKs fires (SHLD-18).
    Delayed,
}

/// Receive Sequence Space (RFC 9293 3.3.1, Figure 4), with our own marks.
///
/// ```text
///                       1          2          3
///                   ----------|----------|----------
///                          RCV.NXT    edge
///
///        1 - received, acknowledged or about to be
///        2 - the window: may arrive, in any order
///        3 - not yet allowed
///
///        edge    the largest RCV.NXT + RCV.WND ever advertised (SM-SEQ-6). It never moves left (SHLD-14): when the
///                buffer fills, RCV.NXT moves up to it and the window closes. RCV.WND is `edge - RCV.NXT`.
///        acked   Last.ACK.sent: RCV.NXT as the peer last heard of it (RFC7323-4.3a).
/// ```
#[derive(Clone, Debug)]
#[repr(C)]
pub(super) struct Receiver {
    /// Octets received in order.
    received: u64,
    /// RCV.NXT: next octet expected, the peer's FIN included once it was processed.
    nxt: SeqNum,
    /// Right edge of the window.
    edge: SeqNum,
    /// Last.ACK.sent.
    acked: SeqNum,
    /// RCV.USER: octets in order that the user has not taken.
    unread: u32,
    /// RCV.BUFF: how much the user may leave unread.
    buffer: u32,
    timestamps: TimestampState,
    /// Number of the peer's FIN, with `FIN_KNOWN`.
    fin: SeqNum,
    /// RCV.UP, or a number that was read already.
    urgent: SeqNum,
    /// RMSS: largest segment the peer sends, options subtracted; what two of make an ACK due (SHLD-19).
    mss: u16,
    /// Segments dropped as old; stays at its maximum.
    paws_drops: u16,
    /// Rcv.Wind.Shift.
    scale: WindowScale,
    /// Data segments since the last ACK.
    segments: u8,
    /// Segments still to be acknowledged at once (OPS-6).
    quick: u8,
    facts: Facts,
}

impl Receiver {
    /// Nothing was received yet but the peer's SYN.
    pub(super) fn new(config: &Config, opened: &Opened, now: Instant) -> Self {
        let nxt = opened.irs + 1;
        let edge = nxt + opened.receive_window.min(LARGEST_WINDOW);
        let clock = TimestampClock::new(opened.ts_offset);
        Self {
            received: 0,
            nxt,
            edge,
            acked: nxt,
            unread: 0,
            buffer: if opened.modest { opened.receive_window } else { config.recv_buffer.initial },
            timestamps: TimestampState::new(opened.timestamps.map(Timestamp), clock, edge, now),
            fin: nxt,
            urgent: nxt,
            mss: opened.receive_mss.saturating_sub(opened.options_len()).max(1),
            paws_drops: 0,
            scale: opened.window_shifts.map_or(WindowScale::NONE, |(_, ours)| WindowScale::new(ours)),
            segments: 0,
            quick: config.quick_acks,
            facts: if opened.ack_due { Facts::ACK_PENDING } else { Facts::empty() },
        }
    }

    // ---- the sequence space -----------------------------------------------------------------------------------------

    /// RCV.NXT.
    #[inline]
    pub(super) fn nxt(&self) -> SeqNum {
        self.nxt
    }

    /// The right edge of the window.
    #[inline]
    pub(super) fn edge(&self) -> SeqNum {
        self.edge
    }

    /// RCV.WND as advertised.
    #[inline]
    pub(super) fn window(&self) -> u32 {
        self.edge.above(self.nxt)
    }

    /// Octets received in order.
    #[inline]
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Octets in order that the user has not taken.
    #[inline]
    pub(super) fn unread(&self) -> u32 {
        self.unread
    }

    /// RMSS.
    #[inline]
    pub(super) fn mss(&self) -> u16 {
        self.mss
    }

    /// Whether some of `seg` lies in the window (SM-SEQ-1 to 4).
    pub(super) fn is_acceptable(&self, seg: &Segment) -> bool {
        let (len, window) = (seg.seq_len(), self.window());
        let (end, right) = (seg.seq + len, self.nxt + window);
        match (len, window) {
            (0, 0) => seg.seq == self.nxt,
            (0, _) => seg.seq.in_range(self.nxt, right),
            // SM-SEQ-3: its ACK counts, its text will be cut off. A FIN alone needs no buffer and may pass.
            (_, 0) => seg.seq.le(self.nxt) && end.gt(self.nxt),
            // SM-SEQ-4; also a segment that covers the whole window.
            _ => seg.seq.lt(right) && end.gt(self.nxt),
        }
    }

    /// RCV.NXT moves up to `end`, and an ACK is owed.
    #[inline(always)]
    pub(super) fn accept(&mut self, end: SeqNum) -> AckTiming {
        let octets = end.above(self.nxt);
        self.nxt = end;
        self.unread = self.unread.saturating_add(octets);
        self.received += u64::from(octets);
        self.segments = self.segments.saturating_add(1);
        // SHLD-19, RFC5681-4.2b: two segments of any size, or two full ones' worth in one run.
        let due = self.segments >= 2 || self.nxt.above(self.acked) >= 2 * u32::from(self.mss);
        if due || self.quick > 0 {
            self.quick = self.quick.saturating_sub(1);
            self.request_ack();
            AckTiming::Now
        } else {
            AckTiming::Delayed
        }
    }

    /// How many ranges may be held out of order: as many as there are segments in the buffer, so that no pattern of
    /// losses makes us refuse what fits. Of segments of the size that we may send: where the peer's link carries less
    /// than ours, its segments are not as large as we would take them. Smaller ones get no more (OPS-26).
    pub(super) fn most_ranges(&self, send_mss: u32) -> usize {
        const LEAST: u32 = 64;
        // To sort one in moves 64 KB at most.
        const MOST: u32 = 16_384;
        (self.buffer / u32::from(self.mss).min(send_mss).max(1)).clamp(LEAST, MOST) as usize
    }

    // ---- the end of the stream, and urgent data ---------------------------------------------------------------------

    /// The peer's FIN, once it was seen.
    #[inline]
    pub(super) fn fin(&self) -> Option<SeqNum> {
        self.facts.contains(Facts::FIN_KNOWN).then_some(self.fin)
    }

    /// The peer's FIN is seen at `fin`, perhaps out of order.
    pub(super) fn note_fin(&mut self, fin: SeqNum) {
        self.facts.insert(Facts::FIN_KNOWN);
        self.fin = fin;
    }

    /// Takes the peer's FIN, once everything before it is here: whether it is. An ACK is owed.
    pub(super) fn take_fin(&mut self) -> bool {
        let here = self.fin() == Some(self.nxt);
        if here {
            self.nxt += 1;
            self.edge = self.edge.later(self.nxt);
            self.request_ack();
        }
        here
    }

    /// Whether the peer's FIN is in order.
    pub(super) fn at_eof(&self) -> bool {
        self.fin().is_some_and(|fin| self.nxt.gt(fin))
    }

    /// Urgent data is announced up to `up`; whether that is more than was (SM-EST-5: RCV.UP only moves forward).
    pub(super) fn on_urgent(&mut self, up: SeqNum) -> bool {
        let more = up.gt(self.urgent.later(self.nxt));
        if more {
            self.urgent = up;
        }
        more
    }

    /// Octets of urgent data that the user has not read.
    pub(super) fn urgent(&self) -> u32 {
        self.urgent.above(self.nxt - self.unread)
    }

    // ---- the window -------------------------------------------------------------------------------------------------

    /// Least gain that moves the right edge (SWS-5, MUST-39).
    fn least_gain(&self) -> u32 {
        (self.buffer / 2).min(u32::from(self.mss)).max(1)
    }

    /// Octets by which the edge could move now.
    fn gain(&self) -> u32 {
        // As much of the room as the window field can tell.
        let field = self.scale.field(self.buffer.saturating_sub(self.unread));
        (self.nxt + self.scale.scaled(field)).above(self.edge)
    }

    /// The window field that was advertised last.
    #[inline]
    pub(super) fn window_field(&self) -> UnscaledWindow {
        self.scale.field(self.window())
    }

    /// Whether the window opened so far that the peer must hear of it at once (SWS-6): it was closed for all practical
    /// purposes, or much was gained. Less than a quarter of a large buffer is not worth a segment of its own; the
    /// window then still has most of its size.
    #[inline]
    pub(super) fn worth_an_update(&self) -> bool {
        let gain = self.gain();
        let closed = self.window() < u32::from(self.mss);
        let much = (2 * u32::from(self.mss)).max(self.buffer / 4).min(self.buffer / 2).max(1);
        (closed && gain >= self.least_gain()) || gain >= much
    }

    /// The user has read `octets`: the buffer may grow (OPS-15). `rtt` is the round trip as the sender knows it.
    #[inline(always)]
    pub(super) fn on_read(
        &mut self,
        config: &Config,
        octets: u32,
        sizing: &mut RightSizing,
        rtt: Option<Duration>,
        now: Instant,
    ) {
        self.unread = self.unread.saturating_sub(octets);
        // An urgent pointer that was passed is over: after 2^31 octets it would lie ahead again.
        self.urgent = self.urgent.later(self.nxt - self.unread);
        let started = sizing.started_at();
        // Echoed timestamps, or the window, see a path whose round trip grew since we last had a sample.
        let rtt = self.timestamps.round_trip(self.nxt, self.edge, now).or(rtt);
        if let Some(size) = sizing.on_read(octets, self.mss, rtt, now)
            && config.recv_auto_tuning
            && !self.facts.intersects(Facts::PRESSURE.union(Facts::FIXED))
        {
            self.buffer = self.buffer.max(size.min(config.recv_buffer.max));
        }
        if sizing.started_at() != started {
            self.timestamps.end_period();
        }
    }

    /// RCV.BUFF.
    pub(super) fn buffer(&self) -> u32 {
        self.buffer
    }

    /// The user has set the buffer: it does not grow by itself any more.
    pub(super) fn fix_buffer(&mut self, octets: u32) {
        self.buffer = buffer_within_bounds(octets);
        self.facts.insert(Facts::FIXED);
    }

    /// Whether the store is short of memory.
    #[inline]
    pub(super) fn is_under_pressure(&self) -> bool {
        self.facts.contains(Facts::PRESSURE)
    }

    /// What the store may still keep. Where it has room for a share besides what is unread, and no more, it is short of
    /// memory (OPS-46): the buffer follows, and with it the window. Not above what a connection begins with, and not
    /// where the user has set it. Gives its size if that is smaller than before.
    pub(super) fn limit_buffer(&mut self, config: &Config, keep: Keep) -> Option<u32> {
        self.facts.set(Facts::PRESSURE, keep != Keep::All);
        let Keep::InOrder { share, .. } = keep else { return None };
        if self.facts.contains(Facts::FIXED) {
            return None;
        }
        let size = self.unread.saturating_add(share).max(SMALLEST_BUFFER);
        let smaller = size < self.buffer;
        self.buffer = if smaller { size } else { self.buffer.max(size.min(config.recv_buffer.initial)) };
        smaller.then_some(size)
    }

    // ---- acknowledgments --------------------------------------------------------------------------------------------

    /// Whether an ACK must leave with the next segment.
    #[inline]
    pub(super) fn is_ack_pending(&self) -> bool {
        self.facts.contains(Facts::ACK_PENDING)
    }

    /// An ACK must leave with the next segment.
    #[inline]
    pub(super) fn request_ack(&mut self) {
        self.facts.insert(Facts::ACK_PENDING);
    }

    /// No ACK leaves any more.
    pub(super) fn drop_ack(&mut self) {
        self.facts.remove(Facts::ACK_PENDING);
    }

    /// A segment leaves: its acknowledgment number and window field. They stand for every ACK owed until now. The edge
    /// moves, if that is worth it.
    #[inline]
    pub(super) fn acknowledge(&mut self) -> (SeqNum, UnscaledWindow) {
        let gain = self.gain();
        if gain >= self.least_gain() {
            self.edge += gain;
        }
        self.acked = self.nxt;
        self.segments = 0;
        self.drop_ack();
        (self.nxt, self.window_field())
    }

    /// The next `segments` are acknowledged at once (OPS-6).
    #[inline]
    pub(super) fn acknowledge_quickly(&mut self, segments: u8) {
        self.quick = segments;
    }

    // ---- timestamps -------------------------------------------------------------------------------------------------

    /// What was negotiated of timestamps.
    #[inline]
    pub(super) fn timestamps(&self) -> &TimestampState {
        &self.timestamps
    }

    /// The peer left timestamps out where it should not: they may be missing.
    pub(super) fn allow_missing_timestamps(&mut self) {
        if let TimestampState::Enabled { may_lack, .. } = &mut self.timestamps {
            *may_lack = true;
        }
    }

    /// The timestamps of an acceptable segment, beginning at `seq`, with `len` octets: TS.Recent (RFC7323-4.3a), and
    /// the echo time that right-sizing wants.
    #[inline(always)]
    pub(super) fn on_timestamps(
        &mut self,
        seq: SeqNum,
        len: u32,
        stamps: Timestamps,
        past: &mut PastStamps,
        now: Instant,
    ) {
        if seq.le(self.acked) {
            self.timestamps.update(Timestamp(stamps.val), past, self.received, now);
        }
        if len > 0 {
            self.timestamps.on_echo(Timestamp(stamps.ecr), now);
        }
    }

    /// The same for the timestamp of a segment that renews TS.Recent after 24 days.
    pub(super) fn renew_timestamp(&mut self, seq: SeqNum, stamp: Timestamp, past: &mut PastStamps, now: Instant) {
        if seq.le(self.acked) {
            self.timestamps.renew(stamp, past, self.received, now);
        }
    }

    /// Whether PAWS drops a segment with these timestamps (RFC7323-5.3a, 3.2b). An old one is counted.
    pub(super) fn check_paws(
        &mut self,
        config: &Config,
        stamps: Option<Timestamps>,
        past: &PastStamps,
        now: Instant,
    ) -> Option<PawsDrop> {
        match self.timestamps.check(stamps) {
            StampCheck::Unused | StampCheck::Fresh(_) => None,
            StampCheck::Missing { excused } => (config.strict_timestamps && !excused).then_some(PawsDrop::Missing),
            StampCheck::Older(stamp) => {
                let is_old = self.timestamps.is_old(stamp, past, self.received, now);
                self.paws_drops = self.paws_drops.saturating_add(u16::from(is_old));
                is_old.then_some(PawsDrop::Old)
            }
        }
    }

    /// Its part of what observers see.
    pub(super) fn describe(&self, info: &mut Info) {
        info.bytes_received = self.received;
        info.paws_drops = self.paws_drops.into();
        info.receive_window = self.window();
        info.receive_buffer = self.buffer;
        info.unread = self.unread;
        info.receive_mss = self.mss.into();
        info.timestamps = self.timestamps.is_enabled();
        info.window_shifts.1 = self.scale.shift();
    }

    // ---- tests ------------------------------------------------------------------------------------------------------

    /// What must hold at any time.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert!(self.acked.le(self.nxt), "{self:?}");
        assert!(self.nxt.le(self.edge), "{self:?}");
    }

    /// Whether an ACK of something was not sent yet.
    #[cfg(test)]
    pub(super) fn owes_ack(&self) -> bool {
        self.acked != self.nxt
    }

    /// As after so many octets more, with a window of `window`.
    #[cfg(test)]
    pub(super) fn skip(&mut self, octets: u32, window: u32) {
        self.nxt += octets;
        self.edge = self.nxt + window;
    }
}

/// Why PAWS drops a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PawsDrop {
    /// It lacks negotiated timestamps (RFC7323-3.2b).
    Missing,
    /// Its timestamp is older than those of a second before (RFC7323-5.3a).
    Old,
}
