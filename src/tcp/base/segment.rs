//! Segments as the core sees them: numbers only, never octets.
//!
//! [`Segment`] is what arrived, [`Transmit`] what shall leave. Payload stays with the caller.

use crate::tcp::base::info::LossState;
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::units::UnscaledWindow;
use crate::wire::options::{TcpOptions, Timestamps};
use crate::wire::plain::Plain;
use crate::wire::tcp::{Flags, TcpHeader};

/// A received segment without its payload octets. A run of wire segments that the device merged is one `Segment`.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// SEG.SEQ: number of the first octet, or of the SYN.
    pub seq: SeqNum,
    /// SEG.ACK; means something only with the ACK flag.
    pub ack: SeqNum,
    /// Control bits.
    pub flags: Flags,
    /// SEG.WND as on the wire.
    pub window: UnscaledWindow,
    /// SEG.UP; means something only with the URG flag.
    pub urgent: u16,
    /// Options.
    pub options: TcpOptions,
    /// Payload octets.
    pub len: u32,
}

impl From<(&TcpHeader, usize)> for Segment {
    fn from((header, payload): (&TcpHeader, usize)) -> Self {
        Self {
            seq: SeqNum(header.seq),
            ack: SeqNum(header.ack),
            flags: header.flags,
            window: UnscaledWindow(header.window),
            urgent: header.urgent,
            options: header.options,
            len: u32::try_from(payload).unwrap_or(u32::MAX),
        }
    }
}

impl From<&Plain> for Segment {
    #[inline]
    fn from(plain: &Plain) -> Self {
        Self {
            seq: SeqNum(plain.seq),
            ack: SeqNum(plain.ack),
            flags: plain.flags,
            window: UnscaledWindow(plain.window),
            urgent: plain.urgent,
            options: TcpOptions { timestamps: plain.timestamps, ..TcpOptions::default() },
            len: u32::try_from(plain.len).unwrap_or(u32::MAX),
        }
    }
}

impl Segment {
    /// Whether all of `flags` are set.
    #[must_use]
    #[inline]
    pub fn has(&self, flags: Flags) -> bool {
        self.flags.contains(flags)
    }

    /// SEG.LEN: payload octets plus one each for SYN and FIN.
    #[must_use]
    #[inline]
    pub fn seq_len(&self) -> u32 {
        self.len.wrapping_add(u32::from(self.has(Flags::SYN))).wrapping_add(u32::from(self.has(Flags::FIN)))
    }
}

/// A segment, or a super-segment for the device to cut, that shall be sent now.
#[derive(Clone, Copy, Debug)]
pub struct Transmit {
    /// Number of the first octet, or of the SYN, or of the FIN when there is no payload.
    pub seq: SeqNum,
    /// Acknowledgment number; zero when the ACK flag is off.
    pub ack: SeqNum,
    /// Control bits. With `gso_size` set, PSH and FIN belong to the last wire segment alone.
    pub flags: Flags,
    /// The window field as on the wire, scaled.
    pub window: UnscaledWindow,
    /// Options of each wire segment.
    pub options: TcpOptions,
    /// Where the payload begins, in octets from the front of the send store (the first octet not yet acknowledged).
    pub offset: u32,
    /// Payload octets; 0 for a segment of control bits only.
    pub len: u32,
    /// 0: one segment. Otherwise a super-segment with this many payload octets in each wire segment but the last.
    pub gso_size: u16,
    /// Its octets (or SYN, FIN) were sent before, and what loss recovery was at when they were sent again. Never mixed with
    /// octets that were not.
    pub resent: Option<LossState>,
}

impl Transmit {
    /// A segment without payload or options.
    #[must_use]
    pub(crate) fn bare(seq: SeqNum, ack: SeqNum, flags: Flags, window: UnscaledWindow) -> Self {
        Self { seq, ack, flags, window, options: TcpOptions::default(), offset: 0, len: 0, gso_size: 0, resent: None }
    }

    /// Sequence number behind the last octet, SYN and FIN included: what the device has taken once this is written.
    #[must_use]
    pub fn end_seq(&self) -> SeqNum {
        self.seq
            + self
                .len
                .wrapping_add(u32::from(self.flags.contains(Flags::SYN)))
                .wrapping_add(u32::from(self.flags.contains(Flags::FIN)))
    }
}

/// The RST that answers a segment for which there is no connection, or which a handshake refuses (SM-GEN-4, SM-CLO-1,
/// SM-LIS-2). `None` for a segment that is a RST itself.
///
/// Timestamps are echoed as RFC7323-5.2a asks (SM-GEN-5), so that the peer's checks let the RST through.
#[must_use]
pub fn reset_for(seg: &Segment) -> Option<Transmit> {
    if seg.has(Flags::RST) {
        return None;
    }
    let mut reset = if seg.has(Flags::ACK) {
        Transmit::bare(seg.ack, SeqNum(0), Flags::RST, UnscaledWindow(0))
    } else {
        Transmit::bare(SeqNum(0), seg.seq + seg.seq_len(), Flags::RST | Flags::ACK, UnscaledWindow(0))
    };
    if let Some(stamps) = seg.options.timestamps {
        reset.options.timestamps = Some(Timestamps { val: 0, ecr: stamps.val });
    }
    Some(reset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: Flags, len: u32) -> Segment {
        Segment {
            seq: SeqNum(u32::MAX),
            ack: SeqNum(77),
            flags,
            window: UnscaledWindow(1),
            urgent: 0,
            options: TcpOptions::default(),
            len,
        }
    }

    #[test]
    fn sm_gen_4_reset_forms() {
        // SC-03
        let reset = reset_for(&segment(Flags::SYN, 10)).expect("a SYN is answered");
        assert_eq!((reset.seq, reset.ack, reset.flags), (SeqNum(0), SeqNum(10), Flags::RST | Flags::ACK));
        let reset = reset_for(&segment(Flags::ACK, 0)).expect("an ACK is answered");
        assert_eq!((reset.seq, reset.flags), (SeqNum(77), Flags::RST));
        assert!(reset_for(&segment(Flags::RST, 0)).is_none());
        assert!(reset_for(&segment(Flags::RST | Flags::ACK, 0)).is_none());
    }

    #[test]
    fn sm_gen_5_reset_echoes_timestamps() {
        let mut seg = segment(Flags::ACK, 0);
        seg.options.timestamps = Some(Timestamps { val: 9, ecr: 4 });
        let stamps = reset_for(&seg).and_then(|reset| reset.options.timestamps).expect("timestamps");
        assert_eq!((stamps.val, stamps.ecr), (0, 9));
    }
}
