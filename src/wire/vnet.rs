//! The virtio-net header that stands before each packet of a TUN queue opened with `IFF_VNET_HDR`: 10 octets, little
//! endian. Says which part of a checksum is still to be done and how a super-segment is to be cut.
//!
//! Values only: whether a device was granted an offload is the device's business.

/// Octets of the header.
pub const VNET_HEADER_LEN: usize = 10;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
/// Bit beside the GSO kind: the super-segment has CWR set.
const GSO_ECN: u8 = 0x80;

/// Whether the checksum of a received segment must be verified by us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumStatus {
    /// Nobody vouches for it: verify (MUST-3).
    #[default]
    Unverified,
    /// NEEDS_CSUM (never left this machine, the field holds only the pseudo-header sum) or DATA_VALID.
    Trusted,
}

/// What the header of a received packet says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxOffload {
    /// Who vouches for the TCP checksum.
    pub checksum: ChecksumStatus,
    /// Payload octets a segment of a super-segment; 0: a single segment.
    pub gso_size: u16,
}

/// Who computes the TCP checksum of a sent frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TxChecksum {
    /// It is already in its field.
    #[default]
    Done,
    /// The field at `start + offset` holds the folded pseudo-header sum; the device sums from `start` to the end.
    Partial {
        /// First octet to sum: the TCP header, from the start of the IP packet.
        start: u16,
        /// Place of the field from `start`: 16 for TCP.
        offset: u16,
    },
}

/// What a device does to the packets that are sent; decides who computes checksums and who cuts segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offload {
    /// The device completes TCP checksums.
    pub checksum: bool,
    /// The device cuts IPv4 super-segments.
    pub tso4: bool,
    /// The device cuts IPv6 super-segments.
    pub tso6: bool,
}

/// What the device has to do for a frame we send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxOffload {
    /// The TCP checksum.
    pub checksum: TxChecksum,
    /// Payload octets of each segment the device shall cut (never above the peer's MSS); 0: one segment.
    pub gso_size: u16,
    /// Octets of IP and TCP header, repeated on each segment.
    pub header_len: u16,
    /// The packet is IPv6.
    pub ipv6: bool,
}

/// The header for a frame to send.
#[inline]
#[must_use]
pub fn encode(offload: &TxOffload) -> [u8; VNET_HEADER_LEN] {
    let mut header = [0; VNET_HEADER_LEN];
    if let TxChecksum::Partial { start, offset } = offload.checksum {
        header[0] = NEEDS_CSUM;
        header[6..8].copy_from_slice(&start.to_le_bytes());
        header[8..10].copy_from_slice(&offset.to_le_bytes());
    }
    if offload.gso_size != 0 {
        header[1] = if offload.ipv6 { GSO_TCPV6 } else { GSO_TCPV4 };
        header[2..4].copy_from_slice(&offload.header_len.to_le_bytes());
        header[4..6].copy_from_slice(&offload.gso_size.to_le_bytes());
    }
    header
}

/// Reads the header of a received packet. `None` when it announces segmentation that is not TCP's or has no size:
/// we never ask for such, so the packet cannot be understood.
#[inline]
#[must_use]
pub fn decode(header: &[u8; VNET_HEADER_LEN]) -> Option<RxOffload> {
    let gso_size = u16::from_le_bytes([header[4], header[5]]);
    let gso_size = match header[1] & !GSO_ECN {
        GSO_NONE => 0,
        GSO_TCPV4 | GSO_TCPV6 if gso_size != 0 => gso_size,
        _ => return None,
    };
    let trusted = header[0] & (NEEDS_CSUM | DATA_VALID) != 0;
    let checksum = if trusted { ChecksumStatus::Trusted } else { ChecksumStatus::Unverified };
    Some(RxOffload { checksum, gso_size })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn layout_of_struct_virtio_net_hdr() {
        let tso = TxOffload {
            checksum: TxChecksum::Partial { start: 20, offset: 16 },
            gso_size: 1448,
            header_len: 52,
            ipv6: false,
        };
        assert_eq!(encode(&tso), [1, 1, 52, 0, 0xa8, 5, 20, 0, 16, 0]);
        let v6 = TxOffload { ipv6: true, ..tso };
        assert_eq!(encode(&v6)[1], 4);
        assert_eq!(encode(&TxOffload { gso_size: 0, ..tso }), [1, 0, 0, 0, 0, 0, 20, 0, 16, 0]);
        assert_eq!(encode(&TxOffload::default()), [0; 10]);
    }

    #[test]
    fn received_headers() {
        use ChecksumStatus::{Trusted, Unverified};
        let cases = [
            ([0; 10], Some((Unverified, 0))),
            ([1, 0, 0, 0, 0, 0, 20, 0, 16, 0], Some((Trusted, 0))),
            ([2, 0, 0, 0, 0, 0, 0, 0, 0, 0], Some((Trusted, 0))),
            ([1, 1, 52, 0, 0xa8, 5, 20, 0, 16, 0], Some((Trusted, 1448))),
            ([1, 4, 52, 0, 0xa8, 5, 20, 0, 16, 0], Some((Trusted, 1448))),
            ([1, 0x81, 52, 0, 0xa8, 5, 20, 0, 16, 0], Some((Trusted, 1448))),
            ([1, 0, 52, 0, 0xa8, 5, 20, 0, 16, 0], Some((Trusted, 0))),
            ([1, 3, 52, 0, 0xa8, 5, 20, 0, 16, 0], None),
            ([1, 1, 52, 0, 0, 0, 20, 0, 16, 0], None),
            ([4, 0, 0, 0, 0, 0, 0, 0, 0, 0], Some((Unverified, 0))),
        ];
        for (bytes, expected) in &cases {
            let expected = expected.map(|(checksum, gso_size)| RxOffload { checksum, gso_size });
            assert_eq!(decode(bytes), expected, "{bytes:?}");
        }
    }
}
