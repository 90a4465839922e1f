//! IPv4 and IPv6 headers: checked on receipt (IP-1..4, IP-11..13, SC-74), written into the caller's buffer on sending.
//!
//! Whether a destination is ours, and who owns a flow, is not known here. Fragments come back as
//! [`Malformed::IpFragment`]: they are put together before (`steering`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::err::{ipv4, ipv6};
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};

use super::{Malformed, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, checksum};

/// Octets of an IPv4 header as we send it: no options.
pub const IPV4_HEADER_LEN: usize = 20;
/// Octets of an IPv6 header.
pub const IPV6_HEADER_LEN: usize = 40;
/// TTL or hop limit of what we send: the usual default of hosts (MUST-49; IP-4: never 0).
pub const DEFAULT_TTL: u8 = 64;

/// IPv6 extension headers followed before the packet counts as hostile (IP-13: bounded).
const MAX_EXTENSIONS: usize = 8;

/// Numbers of the extension headers that we may pass over.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Octets of a fragment header.
pub const FRAGMENT_HEADER_LEN: usize = 8;

/// The fields of an IP header that the user of a connection may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpFields {
    /// TTL or hop limit (MUST-49).
    pub ttl: u8,
    /// The octet with DSCP and ECN bits.
    pub traffic_class: u8,
}

impl IpFields {
    /// These fields with what a user asks for. The ECN bits are TCP's own (SHLD-22).
    #[must_use]
    pub fn with(self, ttl: Option<u8>, tos: Option<u8>) -> Self {
        const ECN: u8 = 3;
        Self {
            ttl: ttl.map_or(self.ttl, |ttl| ttl.max(1)),
            traffic_class: tos.map_or(self.traffic_class, |tos| tos & !ECN),
        }
    }
}

impl Default for IpFields {
    fn default() -> Self {
        Self { ttl: DEFAULT_TTL, traffic_class: 0 }
    }
}

/// A received packet, checked, cut to its total length.
#[derive(Clone, Copy, Debug)]
pub struct IpPacket<'a> {
    /// Source address; never multicast, broadcast, unspecified or loopback (IP-2).
    pub src: IpAddr,
    /// Destination address, unchecked.
    pub dst: IpAddr,
    /// Protocol of `payload`: 6, 1, 58, ... (for IPv6, the one behind the extension headers).
    pub protocol: u8,
    /// TTL or hop limit; any value is accepted (IP-4).
    pub ttl: u8,
    /// DSCP and ECN bits (IP-15).
    pub traffic_class: u8,
    /// The IP header with its options or extension headers.
    pub header: &'a [u8],
    /// What follows, without link padding (SC-74).
    pub payload: &'a [u8],
}

/// Checks and cuts a received IP packet. `verify` says whether the IPv4 header checksum is verified.
///
/// # Errors
///
/// One of the `Ip*` variants of [`Malformed`]; see there.
#[inline]
pub fn parse(packet: &[u8], verify: bool) -> Result<IpPacket<'_>, Malformed> {
    match packet.first().map(|b| b >> 4) {
        Some(4) => parse_ipv4(packet, verify),
        Some(6) => parse_ipv6(packet),
        Some(_) => Err(Malformed::IpVersion),
        None => Err(Malformed::IpTruncated),
    }
}

fn parse_ipv4(packet: &[u8], verify: bool) -> Result<IpPacket<'_>, Malformed> {
    let header = Ipv4HeaderSlice::from_slice(packet).map_err(|e| match e {
        ipv4::HeaderSliceError::Len(_) if packet.len() < IPV4_HEADER_LEN => Malformed::IpTruncated,
        ipv4::HeaderSliceError::Len(_) => Malformed::IpHeaderLength,
        ipv4::HeaderSliceError::Content(ipv4::HeaderError::UnexpectedVersion { .. }) => Malformed::IpVersion,
        ipv4::HeaderSliceError::Content(ipv4::HeaderError::HeaderLengthSmallerThanHeader { .. }) => {
            Malformed::IpHeaderLength
        }
    })?;
    let bytes = header.slice();
    let total = usize::from(header.total_len());
    if total < bytes.len() || total > packet.len() {
        return Err(Malformed::IpTotalLength);
    }
    let is_right = || match <&[u8; IPV4_HEADER_LEN]>::try_from(bytes) {
        Ok(plain) => checksum::is_right_of_20(plain),
        Err(_) => checksum::fold(checksum::sum(bytes)) == 0xffff,
    };
    if verify && !is_right() {
        return Err(Malformed::IpChecksum);
    }
    if bytes.len() > IPV4_HEADER_LEN {
        check_ipv4_options(&bytes[IPV4_HEADER_LEN..])?;
    }
    let src = header.source_addr();
    if is_forbidden_source_v4(src) {
        return Err(Malformed::IpSource);
    }
    if header.is_fragmenting_payload() {
        return Err(Malformed::IpFragment);
    }
    Ok(IpPacket {
        src: src.into(),
        dst: header.destination_addr().into(),
        protocol: header.protocol().0,
        ttl: header.ttl(),
        traffic_class: bytes[1],
        header: bytes,
        payload: &packet[bytes.len()..total],
    })
}

/// IP-3: unknown options are ignored, malformed lengths and source routes drop the packet.
fn check_ipv4_options(mut options: &[u8]) -> Result<(), Malformed> {
    const EOL: u8 = 0;
    const NOP: u8 = 1;
    const LSRR: u8 = 131;
    const SSRR: u8 = 137;
    while let [kind, rest @ ..] = options {
        match *kind {
            EOL => break,
            NOP => options = rest,
            LSRR | SSRR => return Err(Malformed::IpSourceRoute),
            _ => {
                let len = usize::from(*rest.first().ok_or(Malformed::IpOption)?);
                if len < 2 {
                    return Err(Malformed::IpOption);
                }
                options = options.get(len..).ok_or(Malformed::IpOption)?;
            }
        }
    }
    Ok(())
}

fn parse_ipv6(packet: &[u8]) -> Result<IpPacket<'_>, Malformed> {
    let header = Ipv6HeaderSlice::from_slice(packet).map_err(|e| match e {
        ipv6::HeaderSliceError::Len(_) => Malformed::IpTruncated,
        ipv6::HeaderSliceError::Content(ipv6::HeaderError::UnexpectedVersion { .. }) => Malformed::IpVersion,
    })?;
    // A payload length of 0 would be a jumbogram (RFC 2675), which no TUN sends us: taken as empty.
    let total = IPV6_HEADER_LEN + usize::from(header.payload_length());
    let packet = packet.get(..total).ok_or(Malformed::IpTotalLength)?;
    let src = header.source_addr();
    if is_forbidden_source_v6(src) {
        return Err(Malformed::IpSource);
    }
    let (protocol, header_len) = skip_extensions(packet, header.next_header().0)?;
    let (bytes, payload) = packet.split_at(header_len);
    Ok(IpPacket {
        src: src.into(),
        dst: header.destination_addr().into(),
        protocol,
        ttl: header.hop_limit(),
        traffic_class: header.traffic_class(),
        header: bytes,
        payload,
    })
}

/// Walks the extension headers we may pass over (IP-13). Returns the upper-layer protocol and the offset of its header.
/// An unknown next header ends the walk: the caller finds no handler for that protocol.
fn skip_extensions(packet: &[u8], first: u8) -> Result<(u8, usize), Malformed> {
    let (mut next, mut at) = (first, IPV6_HEADER_LEN);
    for place in 0..=MAX_EXTENSIONS {
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
            return Ok((next, at));
        }
        // Hop-by-hop stands right behind the IPv6 header or nowhere (RFC 8200 section 4.1).
        if next == HOP_BY_HOP && place > 0 {
            return Err(Malformed::IpOption);
        }
        let start = at;
        let extension = packet.get(at..at + 8).ok_or(Malformed::IpOption)?;
        match next {
            ROUTING if extension[3] != 0 => return Err(Malformed::IpSourceRoute),
            FRAGMENT => {
                // Offset or M set. An atomic fragment is a whole packet (IP-11).
                if u16::from_be_bytes([extension[2], extension[3]]) & 0xfff9 != 0 {
                    return Err(Malformed::IpFragment);
                }
                at += FRAGMENT_HEADER_LEN;
            }
            _ => at += 8 + 8 * usize::from(extension[1]),
        }
        let whole = packet.get(start..at).ok_or(Malformed::IpOption)?;
        if matches!(next, HOP_BY_HOP | DESTINATION) {
            check_ipv6_options(&whole[2..])?;
        }
        next = extension[0];
    }
    Err(Malformed::IpOption)
}

/// Where a packet has its fragment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentHeader {
    /// The octet that says that it is next.
    pub named_at: usize,
    /// Its first octet. All [of it](FRAGMENT_HEADER_LEN) is there.
    pub at: usize,
}

/// Finds the fragment header of an IPv6 packet behind the headers that each fragment has (RFC 8200 section 4.5). What these
/// say is left to [`parse`], which sees the whole packet.
#[must_use]
pub fn fragment_header(packet: &[u8]) -> Option<FragmentHeader> {
    let (mut named_at, mut at) = (6, IPV6_HEADER_LEN);
    for place in 0..=MAX_EXTENSIONS {
        let next = *packet.get(named_at)?;
        let header = packet.get(at..at + FRAGMENT_HEADER_LEN)?;
        match next {
            FRAGMENT => return Some(FragmentHeader { named_at, at }),
            HOP_BY_HOP if place > 0 => return None,
            HOP_BY_HOP | ROUTING | DESTINATION => (named_at, at) = (at, at + 8 + 8 * usize::from(header[1])),
            _ => return None,
        }
    }
    None
}

/// The protocol of the upper layer and what is there of it, behind the extension headers of `data`, the first header of
/// which `next` names. `None`: they end in the midst of a header, or are too many.
pub(super) fn upper_layer(mut next: u8, mut data: &[u8]) -> Option<(u8, &[u8])> {
    for _ in 0..=MAX_EXTENSIONS {
        let len = match next {
            HOP_BY_HOP | ROUTING | DESTINATION => 8 + 8 * usize::from(*data.get(1)?),
            FRAGMENT => FRAGMENT_HEADER_LEN,
            _ => return Some((next, data)),
        };
        let (header, rest) = data.split_at_checked(len)?;
        (next, data) = (header[0], rest);
    }
    None
}

/// Whether all headers, that of the upper layer included, are in `data`, the first of which `next` names (RFC 7112
/// section 5).
#[must_use]
pub fn has_whole_chain(next: u8, data: &[u8]) -> bool {
    upper_layer(next, data).is_some_and(|(protocol, rest)| {
        rest.len()
            >= match protocol {
                PROTOCOL_TCP => super::tcp::MIN_HEADER_LEN,
                PROTOCOL_UDP | PROTOCOL_ICMPV6 => 8,
                _ => 0,
            }
    })
}

/// Source and destination of a packet whose fixed header is there.
#[must_use]
pub fn ends(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    fn pair<const N: usize>(packet: &[u8], at: usize) -> Option<(IpAddr, IpAddr)>
    where
        IpAddr: From<[u8; N]>,
    {
        let [src, dst] = *packet.get(at..)?.as_chunks::<N>().0.first_chunk::<2>()?;
        Some((src.into(), dst.into()))
    }
    match packet.first()? >> 4 {
        4 => pair::<4>(packet, 12),
        6 => pair::<16>(packet, 8),
        _ => None,
    }
}

/// The options of a hop-by-hop or destination options header (RFC 8200 section 4.2). An unknown one says in the upper two bits
/// of its type what is to be done: to pass over it, or to discard the packet. The errors that two of these ask for besides
/// are not sent (IP-13).
fn check_ipv6_options(mut options: &[u8]) -> Result<(), Malformed> {
    const PAD_1: u8 = 0;
    const ACTION: u8 = 0xc0;
    while let [kind, rest @ ..] = options {
        if *kind == PAD_1 {
            options = rest;
            continue;
        }
        let len = usize::from(*rest.first().ok_or(Malformed::IpOption)?);
        options = rest.get(1 + len..).ok_or(Malformed::IpOption)?;
        // All that we know, PadN and what a host may pass over, have 0 there.
        if kind & ACTION != 0 {
            return Err(Malformed::IpOption);
        }
    }
    Ok(())
}

/// True for addresses no packet may come from (IP-2, MUST-63): multicast, broadcast, unspecified, loopback, and for
/// IPv4 the nets 0/8 and 240/4.
#[must_use]
pub fn is_forbidden_source(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(a) => is_forbidden_source_v4(a),
        IpAddr::V6(a) => is_forbidden_source_v6(a),
    }
}

#[inline]
fn is_forbidden_source_v4(a: Ipv4Addr) -> bool {
    // 224/4 and 240/4, with the limited broadcast, are everything from 224 up.
    matches!(a.octets()[0], 0 | 127 | 224..)
}

#[inline]
fn is_forbidden_source_v6(a: Ipv6Addr) -> bool {
    a.is_multicast() || a.is_unspecified() || a.is_loopback()
}

/// Writes an IPv4 header of 20 octets with its checksum, and returns 20. DF is set and the identification is 0, as for
/// every datagram that is never fragmented (RFC 6864 section 4.1). `payload_len` is in octets.
///
/// # Panics
///
/// When `out` is shorter than 20 octets.
#[inline(always)]
pub fn write_ipv4(
    out: &mut [u8],
    src: Ipv4Addr,
    dst: Ipv4Addr,
    protocol: u8,
    payload_len: usize,
    fields: IpFields,
) -> usize {
    let total = IPV4_HEADER_LEN + payload_len;
    debug_assert!(total <= usize::from(u16::MAX), "packet of {total} octets");
    let words = ipv4_words(src, dst, protocol, total, fields);
    for (place, word) in out[..IPV4_HEADER_LEN].as_chunks_mut().0.iter_mut().zip(words) {
        *place = word.to_be_bytes();
    }
    IPV4_HEADER_LEN
}

/// The header of [`write_ipv4`], of a packet of `total` octets, as numbers in host order.
#[inline(always)]
pub(super) fn ipv4_words(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, total: usize, fields: IpFields) -> [u32; 5] {
    let mut words = [
        0x4500_0000 | u32::from(fields.traffic_class) << 16 | total as u32 & 0xffff,
        0x0000_4000,
        u32::from(fields.ttl) << 24 | u32::from(protocol) << 16,
        u32::from(src),
        u32::from(dst),
    ];
    words[2] |= u32::from(checksum::finish_words(&words));
    words
}

/// Writes an IPv6 header of 40 octets with flow label 0, and returns 40. `payload_len` is in octets.
///
/// # Panics
///
/// When `out` is shorter than 40 octets.
#[inline]
pub fn write_ipv6(
    out: &mut [u8],
    src: Ipv6Addr,
    dst: Ipv6Addr,
    protocol: u8,
    payload_len: usize,
    fields: IpFields,
) -> usize {
    debug_assert!(payload_len <= usize::from(u16::MAX), "payload of {payload_len} octets");
    let header = &mut out[..IPV6_HEADER_LEN];
    header[..4].copy_from_slice(&(0x6000_0000 | u32::from(fields.traffic_class) << 20).to_be_bytes());
    header[4..6].copy_from_slice(&(payload_len as u16).to_be_bytes());
    header[6] = protocol;
    header[7] = fields.ttl;
    header[8..24].copy_from_slice(&src.octets());
    header[24..40].copy_from_slice(&dst.octets());
    IPV6_HEADER_LEN
}

/// Writes the header that fits the addresses, and returns its length. A mixed pair of addresses, which no flow has, is
/// written as IPv6 with a mapped address.
///
/// # Panics
///
/// When `out` is shorter than the header.
#[inline(always)]
pub fn write(out: &mut [u8], src: IpAddr, dst: IpAddr, protocol: u8, payload_len: usize, fields: IpFields) -> usize {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => write_ipv4(out, src, dst, protocol, payload_len, fields),
        _ => write_ipv6(out, to_v6(src), to_v6(dst), protocol, payload_len, fields),
    }
}

/// Octets of the header [`write()`] will write for an address of this family.
#[must_use]
pub const fn header_len(addr: IpAddr) -> usize {
    match addr {
        IpAddr::V4(_) => IPV4_HEADER_LEN,
        IpAddr::V6(_) => IPV6_HEADER_LEN,
    }
}

fn to_v6(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(a) => a.to_ipv6_mapped(),
        IpAddr::V6(a) => a,
    }
}

#[cfg(test)]
#[path = "ip_tests.rs"]
mod tests;
