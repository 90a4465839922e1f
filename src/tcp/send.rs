//! The send side's numbers: what was sent, what was acknowledged, what the peer allows.
//!
//! Arithmetic over the sequence space only; when to send is decided in `output.rs`, what an ACK means in `input.rs`.

use super::seq::SeqNum;
use super::time::Instant;

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
pub(super) struct SendSequenceSpace {
    /// SND.UNA: oldest unacknowledged.
    pub(super) una: SeqNum,
    /// SND.NXT: one above the highest ever sent, FIN included.
    pub(super) nxt: SeqNum,
    /// End of the highest retransmission of this recovery.
    pub(super) resent_end: SeqNum,
    /// The device has taken everything below.
    pub(super) written: SeqNum,

    /// SND.WND: window of the peer, scaled, from SND.UNA on.
    pub(super) wnd: u32,
    /// SND.WL1: SEG.SEQ of the last window update.
    pub(super) wl1: SeqNum,
    /// SND.WL2: SEG.ACK of the last window update.
    pub(super) wl2: SeqNum,
    /// MAX.SND.WND: the largest window ever offered (MAY-12, SWS-3).
    pub(super) max_wnd: u32,

    /// Octets in the send store: unacknowledged and unsent ones.
    pub(super) queued: u32,
    /// Octets the send store may hold; it never shrinks by itself (OPS-16).
    pub(super) limit: u32,
    /// End of the last small segment sent (Minshall's Nagle variant, NAGLE-3).
    pub(super) sml: SeqNum,
    /// SND.NXT when the last recovery began (RFC 6582 `recover`, plus one; RecoveryPoint of RFC 6675). Never far behind
    /// SND.UNA, so that it can be compared with it.
    pub(super) recover: SeqNum,

    /// End of the segment being timed, while `Marks::TIMING` is set.
    pub(super) timed: SeqNum,
    /// SendMSS: what the peer accepts and our MTU allows, options not yet subtracted (MUST-16).
    pub(super) mss: u16,
    /// Snd.Wind.Shift.
    pub(super) shift: u8,
    /// Consecutive duplicate ACKs.
    pub(super) dup_acks: u8,
    /// When data was sent last (RFC5681-4.1).
    pub(super) last_send: Instant,
}

impl SendSequenceSpace {
    /// One above the last octet in the send store; our FIN has this number. Meaningless once the FIN is acknowledged.
    #[inline]
    pub(super) fn data_end(&self) -> SeqNum {
        self.una + self.queued
    }

    /// Octets in the store that were never sent.
    #[inline]
    pub(super) fn unsent(&self) -> u32 {
        above(self.data_end(), self.nxt)
    }

    /// FlightSize (RFC5681-2.FS), FIN included.
    #[inline]
    pub(super) fn flight(&self) -> u32 {
        above(self.nxt, self.una)
    }

    /// Room in the peer's window above SND.NXT; 0 also when the peer shrank it below (MUST-34).
    #[inline]
    pub(super) fn window_room(&self) -> u32 {
        above(self.una + self.wnd, self.nxt)
    }

    /// Whether a small segment is unacknowledged (NAGLE-3).
    #[inline]
    pub(super) fn small_outstanding(&self) -> bool {
        self.una.lt(self.sml) && self.sml.le(self.nxt)
    }
}

/// Octets from `low` up to `high`; 0 when `high` is not above.
#[inline]
pub(super) fn above(high: SeqNum, low: SeqNum) -> u32 {
    u32::try_from(high - low).unwrap_or(0)
}
