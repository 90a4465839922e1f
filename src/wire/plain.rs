//! Packets of the form that nearly all have: no IP option or extension header, no fragment, TCP with timestamps as its
//! only option or with none. They are read in one go, and told apart by the octets that name their flow.
//!
//! Whatever is different from that, or wrong, in any way is left to [`ip::parse`] and
//! [`tcp::parse`](super::tcp::parse), which read the same out of what is read here. Must not contain: drop reasons.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::options::Timestamps;
use super::tcp::{Flags, MIN_HEADER_LEN};
use super::{PROTOCOL_TCP, checksum, ip};

/// The first octet of an IPv4 packet without options.
const IPV4_PLAIN: u8 = 0x45;
/// Version of an IPv6 packet.
const IPV6: u8 = 6;
/// TCP header with timestamps as its only option (RFC 7323 appendix A), octets.
const STAMPED_LEN: usize = MIN_HEADER_LEN + super::options::TIMESTAMPS_LEN;
/// Two NOPs, kind and length of the timestamps.
const STAMPED: [u8; 4] = [1, 1, 8, 10];

/// The fields of a segment in a packet of this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK, meaningful with ACK.
    pub ack: u32,
    /// The control bits.
    pub flags: Flags,
    /// SEG.WND as on the wire.
    pub window: u16,
    /// SEG.UP, meaningful with URG.
    pub urgent: u16,
    /// The timestamps.
    pub timestamps: Option<Timestamps>,
    /// Where the payload begins, in octets from the beginning of the packet.
    pub start: usize,
    /// Octets of the payload.
    pub len: usize,
}

/// Both addresses and ports, as they stand in packets of one direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowOctets {
    /// Source and destination, then their ports. Of IPv4 the first 12 count, and the others are 0.
    octets: [u8; 36],
    /// [`IPV4_PLAIN`], [`IPV6`], or 0: nothing is of this flow.
    form: u8,
}

impl FlowOctets {
    /// No packet's.
    pub const NONE: Self = Self { octets: [0; 36], form: 0 };

    /// Those of a packet that may be of this form. `None`: it is not.
    #[inline]
    #[must_use]
    pub fn of(packet: &[u8]) -> Option<Self> {
        let first = *packet.first()?;
        if first == IPV4_PLAIN {
            let mut octets = [0; 36];
            octets[..12].copy_from_slice(packet.get(12..24)?);
            Some(Self { octets, form: IPV4_PLAIN })
        } else if first >> 4 == IPV6 {
            Some(Self { octets: *packet.get(8..)?.first_chunk()?, form: IPV6 })
        } else {
            None
        }
    }

    /// Whether a packet, if it is of this form, belongs to the flow.
    #[inline]
    #[must_use]
    pub fn is_of(&self, packet: &[u8]) -> bool {
        if self.form == IPV6 {
            return packet.first_chunk::<44>().is_some_and(|head| head[0] >> 4 == IPV6 && head[8..] == self.octets);
        }
        let Some(head) = packet.first_chunk::<24>() else { return false };
        let differs = |a: &[u8; 4], b: &[u8; 4]| u32::from_ne_bytes(*a) ^ u32::from_ne_bytes(*b);
        let (words, flow) = (head[12..].as_chunks().0, self.octets.as_chunks().0);
        let different = differs(&words[0], &flow[0]) | differs(&words[1], &flow[1]) | differs(&words[2], &flow[2]);
        head[0] == self.form && different == 0
    }

    /// Source and destination: addresses and ports.
    #[inline]
    #[must_use]
    pub fn ends(&self) -> ((IpAddr, u16), (IpAddr, u16)) {
        let o = &self.octets;
        let port = |at: usize| u16::from_be_bytes([o[at], o[at + 1]]);
        if self.form == IPV6 {
            let addr = |at: usize| {
                let octets: [u8; 16] = o[at..].first_chunk().copied().unwrap_or_default();
                IpAddr::V6(Ipv6Addr::from(octets))
            };
            ((addr(0), port(32)), (addr(16), port(34)))
        } else {
            let addr = |at: usize| IpAddr::V4(Ipv4Addr::new(o[at], o[at + 1], o[at + 2], o[at + 3]));
            ((addr(0), port(8)), (addr(4), port(10)))
        }
    }
}

/// Reads a packet. `None`: it is not of this form, or something about it is wrong. The TCP checksum is verified unless
/// `trusted`. Addresses are not judged: whoever knows the flow has done that.
#[inline]
#[must_use]
pub fn parse(packet: &[u8], trusted: bool) -> Option<Plain> {
    let first = *packet.first()?;
    if first == IPV4_PLAIN {
        let head: &[u8; ip::IPV4_HEADER_LEN] = packet.first_chunk()?;
        let total = usize::from(u16::from_be_bytes([head[2], head[3]]));
        // Neither offset nor M; TTL not 0.
        let whole = u16::from_be_bytes([head[6], head[7]]) & 0x3fff == 0;
        if !whole || head[8] == 0 || head[9] != PROTOCOL_TCP || !checksum::is_right_of_20(head) {
            return None;
        }
        parse_tcp::<{ ip::IPV4_HEADER_LEN }>(packet.get(..total)?, trusted, 12)
    } else if first >> 4 == IPV6 {
        let head: &[u8; ip::IPV6_HEADER_LEN] = packet.first_chunk()?;
        let total = ip::IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([head[4], head[5]]));
        if head[6] != PROTOCOL_TCP || head[7] == 0 {
            return None;
        }
        parse_tcp::<{ ip::IPV6_HEADER_LEN }>(packet.get(..total)?, trusted, 8)
    } else {
        None
    }
}

/// Octets of both headers over IPv4 with timestamps.
pub(crate) const IPV4_STAMPED_LEN: usize = ip::IPV4_HEADER_LEN + STAMPED_LEN;

/// Addresses and ports of a packet over IPv4.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndsV4 {
    pub(crate) src: (Ipv4Addr, u16),
    pub(crate) dst: (Ipv4Addr, u16),
}

/// Writes the headers of a packet over IPv4, without urgent data, with `stamps` as its only option: those that
/// [`ip::write_ipv4`] and [`tcp::write`](super::tcp::write) write. `payload` is the sum of the payload; without it the
/// checksum is what a device wants to find that completes it ([`tcp::set_partial_checksum`](super::tcp::set_partial_checksum)).
#[inline(always)]
pub(crate) fn write_stamped(
    out: &mut [u8; IPV4_STAMPED_LEN],
    ends: &EndsV4,
    fields: ip::IpFields,
    plain: &Plain,
    stamps: Timestamps,
    payload: Option<u32>,
) {
    let ((src, src_port), (dst, dst_port)) = (ends.src, ends.dst);
    let len = STAMPED_LEN + plain.len;
    let ip = ip::ipv4_words(src, dst, PROTOCOL_TCP, ip::IPV4_HEADER_LEN + len, fields);
    let mut tcp = [
        u32::from(src_port) << 16 | u32::from(dst_port),
        plain.seq,
        plain.ack,
        (STAMPED_LEN as u32 / 4) << 28 | u32::from(plain.flags.0) << 16 | u32::from(plain.window),
        0,
        u32::from_be_bytes(STAMPED),
        stamps.val,
        stamps.ecr,
    ];
    let pseudo = [ip[3], ip[4], u32::from(PROTOCOL_TCP) + len as u32];
    let sum = match payload {
        None => checksum::fold_words(&pseudo),
        Some(payload) => {
            let [a, b, c] = pseudo;
            let [d, e, f, g, _, h, i, j] = tcp;
            checksum::finish_words(&[a, b, c, d, e, f, g, h, i, j, payload])
        }
    };
    tcp[4] = u32::from(sum) << 16;
    let words = ip.into_iter().chain(tcp);
    for (place, word) in out.as_chunks_mut().0.iter_mut().zip(words) {
        *place = word.to_be_bytes();
    }
}

/// The segment that begins at `AT`; the addresses begin at `addresses`.
#[inline(always)]
fn parse_tcp<const AT: usize>(packet: &[u8], trusted: bool, addresses: usize) -> Option<Plain> {
    let tcp = packet.get(AT..)?;
    let fixed: &[u8; MIN_HEADER_LEN] = tcp.first_chunk()?;
    let be32 = |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let (timestamps, len) = match fixed[12] >> 4 {
        8 => {
            let head: &[u8; STAMPED_LEN] = tcp.first_chunk()?;
            let [.., a, b, c, d, e, f, g, h] = *head;
            if head[MIN_HEADER_LEN..MIN_HEADER_LEN + 4] != STAMPED {
                return None;
            }
            let stamps = Timestamps { val: u32::from_be_bytes([a, b, c, d]), ecr: u32::from_be_bytes([e, f, g, h]) };
            (Some(stamps), STAMPED_LEN)
        }
        5 => (None, MIN_HEADER_LEN),
        _ => return None,
    };
    if !trusted {
        // The pseudo-header: addresses, protocol and length.
        let ends = checksum::sum(&packet[addresses..AT]);
        let sum = ends + u32::from(PROTOCOL_TCP) + tcp.len() as u32 + checksum::sum(tcp);
        if checksum::fold(sum) != 0xffff {
            return None;
        }
    }
    Some(Plain {
        seq: be32(4),
        ack: be32(8),
        flags: Flags(fixed[13]),
        window: u16::from_be_bytes([fixed[14], fixed[15]]),
        urgent: u16::from_be_bytes([fixed[18], fixed[19]]),
        timestamps,
        start: AT + len,
        len: tcp.len() - len,
    })
}

#[cfg(test)]
#[path = "plain_tests.rs"]
mod tests;
