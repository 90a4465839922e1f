//! Cutting super-segments in software: what a device with TSO does, as a fallback and for [`impair`](super::impair).
//!
//! A super-segment is one TCP packet whose payload stands for `ceil(payload / gso_size)` wire segments. Any run of them
//! can be cut out, one wire segment or a shorter super-segment, so that the wire sees exactly what it would have seen.
//! What must NOT be here: queues, chance, policy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::MAX_PAYLOAD_SLICES;
use crate::wire::tcp::Flags;
use crate::wire::{PROTOCOL_TCP, checksum, ip, tcp};

/// Longest IPv4 or IPv6 header and longest TCP header: enough for any header that [`Shape::of`] accepts.
pub const MAX_HEADER_LEN: usize = 60 + 60;

/// Where the headers of a TCP packet end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Octets of the IP header.
    pub ip_len: usize,
    /// Octets of IP and TCP header together.
    pub header_len: usize,
    /// IPv6 rather than IPv4.
    pub ipv6: bool,
}

impl Shape {
    /// Looks at the headers at the front of `packet`. `None`: not TCP, a fragment, IPv6 with extension headers, or
    /// headers that do not lie in `packet` wholly.
    #[must_use]
    pub fn of(packet: &[u8]) -> Option<Shape> {
        let version = packet.first()? >> 4;
        let (ip_len, ipv6) = match version {
            4 => {
                let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff;
                if *packet.get(9)? != PROTOCOL_TCP || fragment != 0 {
                    return None;
                }
                (usize::from(packet[0] & 0xf) * 4, false)
            }
            6 if *packet.get(6)? == PROTOCOL_TCP => (ip::IPV6_HEADER_LEN, true),
            _ => return None,
        };
        let tcp_len = usize::from(packet.get(ip_len + 12)? >> 4) * 4;
        let header_len = ip_len + tcp_len;
        let legal = ip_len >= ip::IPV4_HEADER_LEN && tcp_len >= tcp::MIN_HEADER_LEN && header_len <= packet.len();
        legal.then_some(Shape { ip_len, header_len, ipv6 })
    }
}

/// How many wire segments `payload_len` octets are. A packet without payload, or without `gso_size`, is one.
#[must_use]
pub fn count(payload_len: usize, gso_size: u16) -> usize {
    if gso_size == 0 { 1 } else { payload_len.div_ceil(usize::from(gso_size)).max(1) }
}

/// Writes into `out` the headers for the wire segments `segments` out of a super-segment, and returns which octets of
/// the payload are theirs.
///
/// `header` starts with the super-segment's headers, `payload_len` is its payload in octets. Lengths, identification,
/// sequence number and both header fields that depend on them are set; PSH and FIN stay on the last wire segment only,
/// CWR on the first only (RFC 3168 section 6.1.2). The TCP checksum field holds the folded pseudo-header sum: see
/// [`wire::checksum::complete`](checksum::complete) for the rest.
///
/// # Panics
///
/// When `out` is shorter than the headers, or `segments` is empty or past the end.
pub fn cut_header(
    header: &[u8],
    shape: &Shape,
    payload_len: usize,
    gso_size: u16,
    segments: Range<usize>,
    out: &mut [u8],
) -> Range<usize> {
    let all = count(payload_len, gso_size);
    assert!(!segments.is_empty() && segments.end <= all, "segments {segments:?} of {all}");
    let size = usize::from(gso_size);
    let last = segments.end == all;
    let from = segments.start * size;
    let to = if last { payload_len } else { segments.end * size };

    let Shape { ip_len, header_len, ipv6 } = *shape;
    let out = &mut out[..header_len];
    out.copy_from_slice(&header[..header_len]);
    let (ip_header, tcp_header) = out.split_at_mut(ip_len);
    let tcp_len = tcp_header.len() + to - from;
    if ipv6 {
        put_u16(ip_header, 4, tcp_len as u16);
    } else {
        put_u16(ip_header, 2, (ip_len + tcp_len) as u16);
        let id = u16::from_be_bytes([ip_header[4], ip_header[5]]);
        put_u16(ip_header, 4, id.wrapping_add(segments.start as u16));
        put_u16(ip_header, 10, 0);
        let sum = checksum::finish(checksum::sum(ip_header));
        put_u16(ip_header, 10, sum);
    }
    let (src, dst) = addresses(ip_header, ipv6);
    let seq = u32::from_be_bytes([tcp_header[4], tcp_header[5], tcp_header[6], tcp_header[7]]);
    tcp_header[4..8].copy_from_slice(&seq.wrapping_add(from as u32).to_be_bytes());
    let mut flags = Flags(tcp_header[13]);
    if !last {
        flags = flags.without(Flags::PSH | Flags::FIN);
    }
    if segments.start > 0 {
        flags = flags.without(Flags::CWR);
    }
    tcp_header[13] = flags.0;
    tcp::set_partial_checksum(tcp_header, src, dst, to - from);
    from..to
}

/// Computes the TCP checksum of a whole packet, whatever its field holds. False: [`Shape::of`] does not know it.
pub fn fill_checksum(packet: &mut [u8]) -> bool {
    let Some(shape) = Shape::of(packet) else { return false };
    let (header, payload) = packet.split_at_mut(shape.header_len);
    let (src, dst) = addresses(header, shape.ipv6);
    tcp::set_partial_checksum(&mut header[shape.ip_len..], src, dst, payload.len());
    checksum::complete(header, &[payload], shape.ip_len as u16, tcp::CHECKSUM_OFFSET as u16)
}

/// The slices that make up `range` of a payload in slices, with how many they are.
#[must_use]
pub fn slice_payload<'a>(payload: &[&'a [u8]], range: Range<usize>) -> ([&'a [u8]; MAX_PAYLOAD_SLICES], usize) {
    let mut out: [&[u8]; MAX_PAYLOAD_SLICES] = [&[]; MAX_PAYLOAD_SLICES];
    let (mut used, mut at) = (0, 0);
    for part in payload {
        let from = range.start.clamp(at, at + part.len()) - at;
        let to = range.end.clamp(at, at + part.len()) - at;
        at += part.len();
        if from < to && used < out.len() {
            out[used] = &part[from..to];
            used += 1;
        }
    }
    (out, used)
}

fn put_u16(header: &mut [u8], at: usize, value: u16) {
    header[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Source and destination, from a header whose length was checked.
fn addresses(ip_header: &[u8], ipv6: bool) -> (IpAddr, IpAddr) {
    fn take<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
        std::array::from_fn(|i| header[at + i])
    }
    if ipv6 {
        (Ipv6Addr::from(take::<16>(ip_header, 8)).into(), Ipv6Addr::from(take::<16>(ip_header, 24)).into())
    } else {
        (Ipv4Addr::from(take::<4>(ip_header, 12)).into(), Ipv4Addr::from(take::<4>(ip_header, 16)).into())
    }
}

#[cfg(test)]
#[path = "segment_tests.rs"]
pub(crate) mod tests;
