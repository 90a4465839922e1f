//! The send side of a connection: what was sent, what was acknowledged, what the peer allows, and what is held back.
//!
//! The sequence space and the policies that hold small segments back; when to send is decided in `output.rs`, what an
//! ACK means in `acks.rs`.

use core::num::NonZeroU16;

use bitflags::bitflags;

use crate::tcp::base::config::Config;
use crate::tcp::base::info::Info;
use crate::tcp::base::segment::Segment;
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::units::{LARGEST_WINDOW, WindowScale, buffer_within_bounds};
use crate::tcp::connection::opened::Opened;
use crate::tcp::recovery::SendNumbers;
use crate::wire::options::MAX_LEN;

/// What the limit for unsent octets is a multiple of.
const LOW_WATER_UNIT: u32 = 256;

bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Facts: u8 {
        /// Nagle's algorithm is on.
        const NAGLE = 1;
        /// What does not fill a segment is kept back.
        const CORK = 1 << 1;
        /// The sender's SWS override fired, or the user pushes what is corked.
        const OVERRIDE = 1 << 2;
        /// The user closed: a FIN follows the queued data.
        const FIN_QUEUED = 1 << 3;
        /// The FIN was sent at least once.
        const FIN_SENT = 1 << 4;
        /// The send buffer was filled; the user waits for room.
        const ROOM_FULL = 1 << 5;
        /// The user has set the send buffer.
        const FIXED = 1 << 6;
        /// The next segment is the rest of a SYN: its window field is not scaled (RFC7323-2.2c).
        const UNSCALED = 1 << 7;
    }
}

/// What its user may set of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendOption {
    /// Nagle's algorithm.
    Nagle(bool),
    /// What does not fill a segment is kept back.
    Cork(bool),
    /// Octets the send store may hold; it does not grow by itself any more.
    Buffer(u32),
    /// Octets that may be queued unsent; `None`: as many as the buffer holds.
    LowWater(Option<u32>),
}

/// Send Sequence Space (RFC 9293 3.3.1, Figure 3), with our own marks.
///
/// ```text
///                  1           2              3               4
///             ----------|--------------|-------------|---------------
///                    SND.UNA        SND.NXT       SND.UNA
///                                                 +SND.WND
///
///        1 - acknowledged and freed
///        2 - sent and not acknowledged: the flight
///        3 - may be sent: the usable window; negative after the peer has shrunk its window (MUST-34)
///        4 - not yet allowed
///
///        una =< written =< nxt =< una + queued (+ 1 once our FIN is sent)
///
///        written  everything below was taken by the device; what lies above still waits in its ring and is never
///                 retransmitted.
///        queued   octets in the send store, which begins at una.
/// ```
#[derive(Clone, Debug)]
#[repr(C)]
pub(super) struct Sender {
    /// SND.UNA: oldest unacknowledged.
    una: SeqNum,
    /// SND.NXT: one above the highest ever sent, FIN included.
    nxt: SeqNum,
    /// The device has taken everything below.
    written: SeqNum,

    /// SND.WND: window of the peer, scaled, from SND.UNA on.
    wnd: u32,
    /// SND.WL1: SEG.SEQ of the last window update.
    wl1: SeqNum,
    /// SND.WL2: SEG.ACK of the last window update.
    wl2: SeqNum,
    /// MAX.SND.WND: the largest window ever offered (MAY-12, SWS-3).
    max_wnd: u32,

    /// Octets in the send store: unacknowledged and unsent ones.
    queued: u32,
    /// Octets the send store may hold; it never shrinks by itself (OPS-16).
    limit: u32,
    /// End of the last small segment sent (Minshall's Nagle variant, NAGLE-3).
    sml: SeqNum,

    /// SendMSS: what the peer accepts and our MTU allows, options not yet subtracted (MUST-16).
    mss: u16,
    /// The largest segment that was seen to arrive, options included (ICMP-8: maxsizeacked). One a round trip is looked at.
    largest_arrived: u16,
    /// Most octets that may be queued unsent, where the user has limited them, in units of 256.
    low_water: Option<NonZeroU16>,
    /// Snd.Wind.Shift.
    scale: WindowScale,
    facts: Facts,
}

impl Sender {
    /// Nothing was sent yet but our SYN, which is acknowledged. Wire segments carry up to `mss` octets of options and
    /// payload.
    pub(super) fn new(config: &Config, opened: &Opened, mss: u16) -> Self {
        let una = opened.iss + 1;
        let mut facts = Facts::empty();
        facts.set(Facts::NAGLE, config.nagle);
        facts.set(Facts::UNSCALED, opened.unscaled_rest);
        Self {
            una,
            nxt: una,
            written: una,
            wnd: opened.send_window,
            wl1: opened.window_seq,
            wl2: una,
            max_wnd: opened.send_window,
            queued: 0,
            limit: config.send_buffer.initial,
            sml: una,
            mss,
            largest_arrived: 0,
            low_water: None,
            scale: opened.window_shifts.map_or(WindowScale::NONE, |(peers, _)| WindowScale::new(peers)),
            facts,
        }
    }

    // ---- what its user sets -----------------------------------------------------------------------------------------

    /// The user sets an option, whatever the configuration says.
    pub(super) fn set(&mut self, option: SendOption) {
        match option {
            SendOption::Nagle(on) => {
                self.facts.set(Facts::NAGLE, on);
                // NAGLE-2: off pushes out once what is corked.
                if !on && self.facts.contains(Facts::CORK) && self.unsent() > 0 {
                    self.override_holding();
                }
            }
            SendOption::Cork(on) => self.facts.set(Facts::CORK, on),
            SendOption::Buffer(octets) => {
                self.limit = buffer_within_bounds(octets);
                self.facts.set(Facts::ROOM_FULL, self.queued >= self.limit);
                self.facts.insert(Facts::FIXED);
            }
            SendOption::LowWater(octets) => self.low_water = octets.and_then(low_water_units),
        }
    }

    // ---- the sequence space -----------------------------------------------------------------------------------------

    /// SND.UNA.
    #[inline]
    pub(super) fn una(&self) -> SeqNum {
        self.una
    }

    /// SND.NXT.
    #[inline]
    pub(super) fn nxt(&self) -> SeqNum {
        self.nxt
    }

    /// What loss recovery needs of it.
    #[inline]
    pub(super) fn numbers(&self) -> SendNumbers {
        SendNumbers { una: self.una, nxt: self.nxt, written: self.written, data_end: self.data_end() }
    }

    /// Octets in the send store.
    #[inline]
    pub(super) fn queued(&self) -> u32 {
        self.queued
    }

    /// One above the last octet in the send store; our FIN has this number. Meaningless once the FIN is acknowledged.
    #[inline]
    fn data_end(&self) -> SeqNum {
        self.una + self.queued
    }

    /// Octets in the store that were never sent.
    #[inline]
    pub(super) fn unsent(&self) -> u32 {
        self.data_end().above(self.nxt)
    }

    /// FlightSize (RFC5681-2.FS), FIN included.
    #[inline]
    pub(super) fn flight(&self) -> u32 {
        self.nxt.above(self.una)
    }

    /// SendMSS.
    #[inline]
    pub(super) fn mss(&self) -> u32 {
        u32::from(self.mss)
    }

    /// Another SendMSS.
    pub(super) fn set_mss(&mut self, mss: u16) {
        self.mss = mss;
    }

    /// The largest segment that was seen to arrive, options included.
    pub(super) fn largest_arrived(&self) -> u16 {
        self.largest_arrived
    }

    /// A segment of so many octets was acknowledged, or as many as fill one, with whatever options.
    #[inline]
    pub(super) fn on_arrived(&mut self, octets: u32) {
        let size = octets.saturating_add(MAX_LEN as u32).min(self.mss());
        self.largest_arrived = self.largest_arrived.max(size as u16);
    }

    /// SND.UNA moves up to `ack` (SM-ACK-3). Octets that may be freed.
    #[inline]
    pub(super) fn acknowledge(&mut self, ack: SeqNum) -> u32 {
        let data = ack.above(self.una).min(self.queued);
        self.queued -= data;
        self.una = ack;
        self.written = self.written.later(ack);
        self.sml = self.sml.later(ack);
        data
    }

    /// New data up to `end` leaves, and the FIN where `fin` says so; `small_end` is the end of a segment in it that is
    /// not full.
    #[inline]
    pub(super) fn on_sent(&mut self, end: SeqNum, fin: bool, small_end: Option<SeqNum>) {
        self.nxt = end;
        if let Some(end) = small_end {
            self.sml = end;
        }
        if fin {
            self.facts.insert(Facts::FIN_SENT);
        }
        self.facts.remove(Facts::OVERRIDE);
    }

    /// The device has taken everything below `upto`.
    #[inline]
    pub(super) fn on_device_write(&mut self, upto: SeqNum) {
        self.written = self.written.later(upto).earlier(self.nxt).later(self.una);
    }

    // ---- the peer's window ------------------------------------------------------------------------------------------

    /// SND.WND.
    #[inline]
    pub(super) fn window(&self) -> u32 {
        self.wnd
    }

    /// MAX.SND.WND.
    #[inline]
    pub(super) fn max_window(&self) -> u32 {
        self.max_wnd
    }

    /// Room in the peer's window above SND.NXT; 0 also when the peer shrank it below (MUST-34).
    #[inline]
    pub(super) fn window_room(&self) -> u32 {
        self.window_edge().above(self.nxt)
    }

    /// The right edge of the peer's window.
    #[inline]
    pub(super) fn window_edge(&self) -> SeqNum {
        self.una + self.wnd
    }

    /// SEG.WND in octets (RFC7323-2.3a), before [`update_window`](Self::update_window) takes it.
    #[inline]
    pub(super) fn scaled_window(&self, seg: &Segment) -> u32 {
        if self.facts.contains(Facts::UNSCALED) { seg.window.octets() } else { self.scale.scaled(seg.window) }
    }

    /// Whether the window of `seg`, an ACK of SND.UNA, is newer than the one known (SM-ACK-6).
    pub(super) fn is_window_update(&self, seg: &Segment) -> bool {
        self.wl1.lt(seg.seq) || (self.wl1 == seg.seq && self.wl2.le(seg.ack))
    }

    /// Takes the window of `seg` over; whether it is larger than before.
    #[inline(always)]
    pub(super) fn update_window(&mut self, seg: &Segment) -> bool {
        let window = self.scaled_window(seg);
        self.facts.remove(Facts::UNSCALED);
        let more = window > self.wnd;
        self.wnd = window;
        self.wl1 = seg.seq;
        self.wl2 = seg.ack;
        self.max_wnd = self.max_wnd.max(window);
        more
    }

    /// Whether the next segment is the rest of a SYN, whose window is not scaled.
    #[inline]
    pub(super) fn awaits_rest_of_syn(&self) -> bool {
        self.facts.contains(Facts::UNSCALED)
    }

    /// Snd.Wind.Shift.
    pub(super) fn scale(&self) -> WindowScale {
        self.scale
    }

    // ---- the FIN ----------------------------------------------------------------------------------------------------

    /// A FIN follows the queued data.
    pub(super) fn queue_fin(&mut self) {
        self.facts.insert(Facts::FIN_QUEUED);
    }

    /// Whether our FIN was sent at least once.
    #[inline]
    pub(super) fn is_fin_sent(&self) -> bool {
        self.facts.contains(Facts::FIN_SENT)
    }

    /// Whether a FIN is queued that was not sent yet.
    #[inline]
    pub(super) fn is_fin_due(&self) -> bool {
        self.facts.intersection(Facts::FIN_QUEUED.union(Facts::FIN_SENT)) == Facts::FIN_QUEUED
    }

    /// Whether our FIN, sent before and taken by the device, has the number `seq`.
    pub(super) fn is_fin_at(&self, seq: SeqNum) -> bool {
        self.is_fin_sent() && seq == self.data_end() && seq.lt(self.written)
    }

    // ---- the store --------------------------------------------------------------------------------------------------

    /// Octets the send store may take now.
    #[inline]
    pub(super) fn room(&self) -> u32 {
        let room = self.limit.saturating_sub(self.queued);
        self.low_water.map_or(room, |most| room.min(low_water_octets(most).saturating_sub(self.unsent())))
    }

    /// The user appended `octets` to the store.
    #[inline]
    pub(super) fn on_write(&mut self, octets: u32) {
        // Sequence arithmetic holds for less than 2^31 octets; the buffer limit is far below.
        self.queued = self.queued.saturating_add(octets).min(LARGEST_WINDOW);
        if self.queued >= self.limit {
            self.facts.insert(Facts::ROOM_FULL);
        }
    }

    /// Whether the send buffer was filled, and the user waits for room.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.facts.contains(Facts::ROOM_FULL)
    }

    /// Whether a user who waits for room may go on. Not for every octet: it shall find a quarter of the buffer free.
    /// The congestion window is `cwnd`: as much again as is in flight can be queued (OPS-16). The limit never shrinks by
    /// itself.
    #[inline]
    pub(super) fn take_room(&mut self, config: &Config, cwnd: u32) -> bool {
        if config.send_auto_tuning && !self.facts.contains(Facts::FIXED) {
            self.limit = self.limit.max(cwnd.saturating_mul(2).min(config.send_buffer.max));
        }
        let roomy = self.facts.contains(Facts::ROOM_FULL) && self.queued <= self.limit - self.limit / 4;
        if roomy {
            self.facts.remove(Facts::ROOM_FULL);
        }
        roomy
    }

    /// Whether a user who was stopped by that may write again: not for every octet, but when half of what is allowed
    /// has been sent.
    pub(super) fn is_at_low_water(&self) -> bool {
        self.low_water.is_some_and(|most| self.unsent() <= low_water_octets(most) / 2)
    }

    // ---- what is held back ------------------------------------------------------------------------------------------

    /// What is held back leaves once, however small.
    pub(super) fn override_holding(&mut self) {
        self.facts.insert(Facts::OVERRIDE);
    }

    /// Nagle in Minshall's variant (SHLD-7, NAGLE-3): a small segment waits while another small one is unacknowledged.
    /// Never the last one before a FIN (NAGLE-4, KP-15). A corked one waits in any case (NAGLE-5).
    #[inline]
    pub(super) fn holds_tail(&self) -> bool {
        let facts = self.facts;
        let corked = facts.contains(Facts::CORK) && !facts.contains(Facts::OVERRIDE);
        let small_outstanding = self.una.lt(self.sml) && self.sml.le(self.nxt);
        !facts.contains(Facts::FIN_QUEUED) && (corked || (facts.contains(Facts::NAGLE) && small_outstanding))
    }

    /// Whether a piece of a segment, `usable` octets, may leave because the peer's own window is small and ACKs will
    /// not open it soon (SWS-3, SWS-4).
    pub(super) fn may_send_piece(&self, usable: u32) -> bool {
        let idle = self.flight() == 0;
        let half = usable >= self.max_wnd / 2 && (idle || !self.facts.contains(Facts::NAGLE));
        half || (idle && self.facts.contains(Facts::OVERRIDE))
    }

    // ---- observers --------------------------------------------------------------------------------------------------

    /// Its part of what observers see.
    pub(super) fn describe(&self, info: &mut Info) {
        info.flight = self.flight();
        info.queued = self.queued;
        info.send_limit = self.limit;
        info.not_sent = self.unsent();
        info.send_window = self.wnd;
        info.window_shifts.0 = self.scale.shift();
    }

    // ---- tests ------------------------------------------------------------------------------------------------------

    /// What must hold at any time.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert!(self.una.le(self.written) && self.written.le(self.nxt), "{self:?}");
        assert!(self.nxt.le(self.data_end() + 1), "{self:?}");
    }
}

/// How many octets may be unsent where [`Connection::set_notsent_lowat`](crate::tcp::Connection::set_notsent_lowat) was
/// given
/// `octets`; `None`: as many as the buffer holds.
pub(crate) fn unsent_limit(octets: Option<u32>) -> Option<u32> {
    octets.and_then(low_water_units).map(low_water_octets)
}

fn low_water_units(octets: u32) -> Option<NonZeroU16> {
    u16::try_from(octets.max(1).div_ceil(LOW_WATER_UNIT)).ok().and_then(NonZeroU16::new)
}

fn low_water_octets(units: NonZeroU16) -> u32 {
    u32::from(units.get()) * LOW_WATER_UNIT
}
