//! The TCP header (RFC 9293 section 3.1): parsed from a checked IP payload, written into the caller's buffer.
//!
//! No sequence arithmetic and no state: those are the TCP core's.

use std::fmt;
use std::net::IpAddr;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not};

use etherparse::TcpSlice;
use etherparse::err::tcp::HeaderSliceError;

use super::options::TcpOptions;
use super::{Malformed, PROTOCOL_TCP, checksum};

/// Octets of a TCP header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Octets of the longest TCP header.
pub const MAX_HEADER_LEN: usize = 60;
/// Place of the checksum field in the header.
pub const CHECKSUM_OFFSET: usize = 16;

/// The control bits of a segment.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// No bit.
    pub const NONE: Self = Self(0);
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment field counts.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// True when every bit of `other` is set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True when some bit of `other` is set.
    #[inline]
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits of both; `|` for constants.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These bits without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, rhs: Self) -> Self {
        self.union(rhs)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, rhs: Self) {
        self.0 |= rhs.0;
    }
}

impl BitAnd for Flags {
    type Output = Self;
    fn bitand(self, rhs: Self) -> Self {
        Self(self.0 & rhs.0)
    }
}

impl Not for Flags {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        let mut first = true;
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 & 1 << bit != 0 {
                write!(f, "{}{name}", if first { "" } else { "," })?;
                first = false;
            }
        }
        if first { f.write_str("-") } else { Ok(()) }
    }
}

/// The fields of a TCP header, numbers in host order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpHeader {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK, meaningful with ACK.
    pub ack: u32,
    /// The control bits. The reserved bits are ignored on receipt and sent as zero.
    pub flags: Flags,
    /// SEG.WND as on the wire: not scaled.
    pub window: u16,
    /// SEG.UP, meaningful with URG (MUST-62: names the octet after the urgent data).
    pub urgent: u16,
    /// The options.
    pub options: TcpOptions,
}

/// Parses a segment: `segment` is the IP payload, the addresses are for the pseudo-header. The checksum is verified
/// unless `trusted` (MUST-3; the device's NEEDS_CSUM and DATA_VALID are the only exemption). Returns header and payload.
///
/// # Errors
///
/// One of the `Tcp*` variants of [`Malformed`]; a wrong checksum is found before an illegal option.
#[inline]
pub fn parse(segment: &[u8], src: IpAddr, dst: IpAddr, trusted: bool) -> Result<(TcpHeader, &[u8]), Malformed> {
    let tcp = TcpSlice::from_slice(segment).map_err(|e| match e {
        HeaderSliceError::Len(_) if segment.len() < MIN_HEADER_LEN => Malformed::TcpTruncated,
        HeaderSliceError::Len(_) | HeaderSliceError::Content(_) => Malformed::TcpDataOffset,
    })?;
    if !trusted {
        let sum = checksum::pseudo_header(src, dst, PROTOCOL_TCP, segment.len()) + checksum::sum(segment);
        if checksum::fold(sum) != 0xffff {
            return Err(Malformed::TcpChecksum);
        }
    }
    let bytes = tcp.header_slice();
    let header = TcpHeader {
        src_port: tcp.source_port(),
        dst_port: tcp.destination_port(),
        seq: tcp.sequence_number(),
        ack: tcp.acknowledgment_number(),
        flags: Flags(bytes[13]),
        window: tcp.window_size(),
        urgent: tcp.urgent_pointer(),
        options: TcpOptions::parse(&bytes[MIN_HEADER_LEN..])?,
    };
    Ok((header, tcp.payload()))
}

/// Octets [`write()`] will write: 20 to 60.
#[inline]
#[must_use]
pub fn header_len(header: &TcpHeader) -> usize {
    MIN_HEADER_LEN + header.options.wire_len()
}

/// Writes header and options (padded, MUST-69) with a checksum field of 0, and returns their length. The checksum is
/// put in by [`set_checksum`] or, as a partial one, by [`set_partial_checksum`] (MUST-2).
///
/// # Panics
///
/// When `out` is shorter than [`header_len`]; 60 octets are always enough.
#[inline]
pub fn write(header: &TcpHeader, out: &mut [u8]) -> usize {
    write_with(header, &header.options, out)
}

/// As [`write()`], but with these options, wherever they are.
#[inline]
pub(crate) fn write_with(header: &TcpHeader, options: &TcpOptions, out: &mut [u8]) -> usize {
    let len = MIN_HEADER_LEN + options.write(&mut out[MIN_HEADER_LEN..]);
    let words = [
        u32::from(header.src_port) << 16 | u32::from(header.dst_port),
        header.seq,
        header.ack,
        (len as u32 / 4) << 28 | u32::from(header.flags.0) << 16 | u32::from(header.window),
        u32::from(header.urgent),
    ];
    for (place, word) in out[..MIN_HEADER_LEN].as_chunks_mut().0.iter_mut().zip(words) {
        *place = word.to_be_bytes();
    }
    len
}

/// Computes the checksum of a segment whose header is `header` (checksum field 0, as [`write()`] leaves it) and whose
/// payload lies in pieces, and writes it into the header (MUST-2).
///
/// # Panics
///
/// When `header` is shorter than 20 octets.
pub fn set_checksum(header: &mut [u8], src: IpAddr, dst: IpAddr, payload: &[&[u8]]) {
    let len = header.len() + payload.iter().map(|p| p.len()).sum::<usize>();
    let mut sum = checksum::Accumulator::new(checksum::pseudo_header(src, dst, PROTOCOL_TCP, len));
    sum.push(header);
    for piece in payload {
        sum.push(piece);
    }
    put_checksum(header, checksum::finish(sum.sum()));
}

/// Writes the folded pseudo-header sum into the checksum field, for a device that completes it (`TxChecksum::Partial`
/// with offset 16). `payload_len` is in octets; for a super-segment, that of the whole.
///
/// # Panics
///
/// When `header` is shorter than 20 octets.
#[inline]
pub fn set_partial_checksum(header: &mut [u8], src: IpAddr, dst: IpAddr, payload_len: usize) {
    let sum = checksum::pseudo_header(src, dst, PROTOCOL_TCP, header.len() + payload_len);
    put_checksum(header, checksum::fold(sum));
}

#[inline]
fn put_checksum(header: &mut [u8], value: u16) {
    header[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;
