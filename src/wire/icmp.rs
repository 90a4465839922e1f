//! ICMP and ICMPv6: echo replies built in place (IP-17), the quoted segment of error messages (ICMP-1), and errors of our
//! own (ICMP-13).
//!
//! What an error means for a connection (ICMP-2..15), and how many replies a second are allowed, is decided elsewhere.

use std::net::IpAddr;
use std::ops::Range;

use super::ip::{self, IpPacket};
use super::{Malformed, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, checksum};

/// Octets of the ICMP header common to echo and errors.
const HEADER_LEN: usize = 8;

const V4_ECHO_REPLY: u8 = 0;
const V4_ECHO: u8 = 8;
const V6_ECHO: u8 = 128;
const V6_ECHO_REPLY: u8 = 129;

/// An ICMP error about a TCP segment that we (or someone in our name) sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// The message is ICMPv6, which numbers types and codes differently.
    pub ipv6: bool,
    /// Type: for IPv4 3 unreachable, 11 time exceeded, 12 parameter problem; for IPv6 1, 2 packet too big, 3, 4.
    pub kind: u8,
    /// Code within the type.
    pub code: u8,
    /// Next-hop MTU of "fragmentation needed" (may be 0 from old routers, RFC 1191) and "packet too big", octets.
    pub mtu: Option<u32>,
    /// Octets of the quoted packet, as its header says.
    pub len: u16,
    /// Source of the quoted segment: our address.
    pub src: IpAddr,
    /// Destination of the quoted segment: the peer's address.
    pub dst: IpAddr,
    /// Our port.
    pub src_port: u16,
    /// The peer's port.
    pub dst_port: u16,
    /// Sequence number of the quoted segment, to be checked against the send window (ICMP-2).
    pub seq: u32,
}

/// Largest packets of kinds of links (RFC 1191 7.1).
const PLATEAUS: [u16; 10] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68];

/// Why a packet of ours did not arrive, as a router or the other host says. What Linux makes of it (`icmp_err_convert`,
/// and its like for IPv6) is in parentheses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Unreachable {
    /// There is no way to that network (ENETUNREACH).
    Network,
    /// The host does not answer, or somebody on the way lets nothing through, or the packet has passed too many hops
    /// (EHOSTUNREACH).
    Host,
    /// The host knows no TCP (ENOPROTOOPT).
    Protocol,
    /// Nothing listens on that port (ECONNREFUSED).
    Port,
    /// A source route has failed (EOPNOTSUPP).
    SourceRoute,
    /// There is no such host (EHOSTDOWN).
    HostUnknown,
    /// The source is isolated (ENONET).
    Isolated,
    /// It is prohibited; told so by IPv6 only (EACCES).
    Prohibited,
    /// Something in its headers was not understood (EPROTO).
    Parameter,
}

/// What an ICMP error reports of the segment that it quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It was larger than the next link takes, which carries packets of so many octets. Of an old router, which does not
    /// say how many, that is the next size below it that links have (RFC 1191 7.1).
    TooBig(u32),
    /// It did not arrive.
    Unreachable(Unreachable),
}

impl IcmpError {
    /// What it reports; `None` for a code that nobody knows.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        use Unreachable::{Host, HostUnknown, Isolated, Network, Parameter, Port, Prohibited, Protocol, SourceRoute};
        let unreachable = match (self.ipv6, self.kind, self.code) {
            (false, 3, 4) | (true, 2, _) => {
                let mtu = self.mtu.filter(|mtu| *mtu != 0 || self.ipv6);
                let below = || PLATEAUS.into_iter().find(|size| *size < self.len);
                return Some(Report::TooBig(mtu.unwrap_or_else(|| below().unwrap_or(0).into())));
            }
            (false, 3, 0 | 6 | 9 | 11) | (true, 1, 0) => Network,
            (false, 3, 1 | 10 | 12..=15) | (false, 11, _) | (true, 1, 2 | 3) | (true, 3, _) => Host,
            (false, 3, 2) => Protocol,
            (false, 3, 3) | (true, 1, 4) => Port,
            (false, 3, 5) => SourceRoute,
            (false, 3, 7) => HostUnknown,
            (false, 3, 8) => Isolated,
            (true, 1, 1 | 5 | 6) => Prohibited,
            (false, 12, _) | (true, 1 | 4, _) => Parameter,
            _ => return None,
        };
        Some(Report::Unreachable(unreachable))
    }
}

/// Checks length and checksum of an ICMP message (`trusted`: length only).
fn check(packet: &IpPacket<'_>, trusted: bool) -> Result<(), Malformed> {
    let message = packet.payload;
    if message.len() < HEADER_LEN {
        return Err(Malformed::IcmpTruncated);
    }
    // ICMPv6 sums a pseudo-header too (RFC 4443 section 2.3).
    let pseudo = match packet.protocol {
        PROTOCOL_ICMPV6 => checksum::pseudo_header(packet.src, packet.dst, PROTOCOL_ICMPV6, message.len()),
        _ => 0,
    };
    if !trusted && checksum::fold(pseudo + checksum::sum(message)) != 0xffff {
        return Err(Malformed::IcmpChecksum);
    }
    Ok(())
}

fn is_icmp(packet: &IpPacket<'_>) -> bool {
    matches!((packet.protocol, packet.src), (PROTOCOL_ICMP, IpAddr::V4(_)) | (PROTOCOL_ICMPV6, IpAddr::V6(_)))
}

/// Why a packet to us comes to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// We do not speak its protocol (ICMP-14).
    Protocol,
    /// It is UDP, of which nobody here knows anything.
    Port,
    /// It is the first fragment of a packet that was not complete in time (RFC 1122 3.3.2, RFC 8200 4.5).
    Late,
    /// It is a fragment of IPv6, not the last, and no multiple of eight octets (IP-10).
    Length,
    /// It is a fragment of IPv6 that ends beyond the largest packet (IP-10).
    Offset,
    /// It is a first fragment of IPv6 without all headers (IP-11).
    Chain,
}

/// Octets of the longest error that we send: as much of the packet is quoted as fits (RFC 1812 4.3.2.3, RFC 4443 2.4c).
pub const LONGEST_ERROR: usize = 1_280;
const LONGEST_ERROR_V4: usize = 576;

/// Writes a packet into `out` that says why `about` is refused, to its sender from where it was sent to (ICMP-13), and
/// gives its length. `about` has been parsed: `packet` is that.
pub fn write_error(out: &mut [u8; LONGEST_ERROR], about: &[u8], packet: &IpPacket<'_>, why: Refusal) -> usize {
    // Not what a link has added (SC-74).
    let whole = about.len().min(packet.header.len() + packet.payload.len());
    write_refusal(out, &about[..whole], (packet.src, packet.dst), packet.header, why)
}

/// As [`write_error`], about a fragment, which cannot be parsed as a packet. `None`: nobody may be told, because it is
/// one of an ICMP error (ICMP-11), or because its family knows no such error.
pub fn write_error_about_fragment(out: &mut [u8; LONGEST_ERROR], about: &[u8], why: Refusal) -> Option<usize> {
    let ends = ip::ends(about)?;
    let v6 = ends.0.is_ipv6();
    let told = match why {
        Refusal::Late => true,
        Refusal::Length | Refusal::Offset | Refusal::Chain => v6,
        Refusal::Protocol | Refusal::Port => false,
    };
    if !told || is_of_icmp_error(about, v6)? {
        return None;
    }
    Some(write_refusal(out, about, ends, about, why))
}

/// Whether the fragment may be of an ICMP error. Of one that is not the first nobody can know more than the protocol.
fn is_of_icmp_error(fragment: &[u8], v6: bool) -> Option<bool> {
    if !v6 {
        let (len, later) = (usize::from(fragment[0] & 15) * 4, fragment[6] & 0x1f | fragment[7] != 0);
        let kind = fragment.get(len);
        return Some(fragment[9] == PROTOCOL_ICMP && (later || !matches!(kind, Some(&(V4_ECHO | V4_ECHO_REPLY)))));
    }
    let header = ip::fragment_header(fragment)?;
    let [next, _, high, low, _, _, _, _, data @ ..] = fragment.get(header.at..)? else { return None };
    let later = u16::from_be_bytes([*high, *low]) & 0xfff8 != 0;
    // Errors have the lower half of the types (RFC 4443 2.1).
    let upper = if later { None } else { ip::upper_layer(*next, data) };
    Some(match upper {
        Some((protocol, message)) => protocol == PROTOCOL_ICMPV6 && message.first().is_none_or(|kind| *kind < 128),
        None => *next == PROTOCOL_ICMPV6,
    })
}

/// Writes the error `why` about `about`, which came between these `ends` and has these `headers`.
fn write_refusal(
    out: &mut [u8; LONGEST_ERROR],
    about: &[u8],
    (src, dst): (IpAddr, IpAddr),
    headers: &[u8],
    why: Refusal,
) -> usize {
    /// Where an IPv6 header has the length of what follows.
    const LENGTH_AT: u32 = 4;
    let ipv6 = src.is_ipv6();
    let (kind, code, word) = match (why, ipv6) {
        (Refusal::Protocol, false) => (3, 2, 0),
        // Parameter problem, unrecognized next header, and where it stands (RFC 8200 4).
        (Refusal::Protocol, true) => (4, 1, next_header_at(headers)),
        (Refusal::Port, false) => (3, 3, 0),
        (Refusal::Port, true) => (1, 4, 0),
        (Refusal::Late, false) => (11, 1, 0),
        (Refusal::Late, true) => (3, 1, 0),
        (Refusal::Length, _) => (4, 0, LENGTH_AT),
        (Refusal::Offset, _) => (4, 0, ip::fragment_header(about).map_or(0, |header| header.at as u32 + 2)),
        (Refusal::Chain, _) => (4, 3, 0),
    };
    let (most, protocol) = if ipv6 { (LONGEST_ERROR, PROTOCOL_ICMPV6) } else { (LONGEST_ERROR_V4, PROTOCOL_ICMP) };
    let ip_len = ip::header_len(src);
    let quoted = about.len().min(most - ip_len - HEADER_LEN);
    let len = HEADER_LEN + quoted;
    ip::write(out, dst, src, protocol, len, ip::IpFields::default());
    let message = &mut out[ip_len..ip_len + len];
    message[..4].copy_from_slice(&[kind, code, 0, 0]);
    message[4..HEADER_LEN].copy_from_slice(&u32::to_be_bytes(word));
    message[HEADER_LEN..].copy_from_slice(&about[..quoted]);
    let pseudo = if ipv6 { checksum::pseudo_header(dst, src, protocol, len) } else { 0 };
    let sum = checksum::finish(pseudo + checksum::sum(message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip_len + len
}

/// Where in these IPv6 headers, which have been walked before, the protocol of the payload is named.
fn next_header_at(headers: &[u8]) -> u32 {
    let (mut next, mut named_at, mut at) = (headers.get(6).copied(), 6, ip::IPV6_HEADER_LEN);
    while let Some([after, len, ..]) = headers.get(at..) {
        let octets = if next == Some(ip::FRAGMENT) { ip::FRAGMENT_HEADER_LEN } else { 8 + 8 * usize::from(*len) };
        (next, named_at, at) = (Some(*after), at, at + octets);
    }
    named_at as u32
}

/// Turns an echo request into its reply, in place: same identifier, sequence number and data, source and destination
/// exchanged (IP-17). `packet` is the whole IP packet; `trusted` skips the ICMP checksum, never the IP header's.
/// Returns where the reply lies in `packet` (a request with IP options loses them), or `None`, with nothing changed,
/// when this is no echo request to a single host.
///
/// # Errors
///
/// Any `Ip*` or `Icmp*` variant of [`Malformed`].
pub fn echo_reply(packet: &mut [u8], trusted: bool) -> Result<Option<Range<usize>>, Malformed> {
    let request = ip::parse(packet, true)?;
    if !is_icmp(&request) {
        return Ok(None);
    }
    check(&request, trusted)?;
    let reply_type = match (request.payload[0], request.dst) {
        (V4_ECHO, IpAddr::V4(_)) => V4_ECHO_REPLY,
        (V6_ECHO, IpAddr::V6(_)) => V6_ECHO_REPLY,
        _ => return Ok(None),
    };
    // What no host may have as its address would be the reply's source.
    if ip::is_forbidden_source(request.dst) {
        return Ok(None);
    }
    let (src, dst, protocol, traffic_class) = (request.src, request.dst, request.protocol, request.traffic_class);
    let (message_at, message_len) = (request.header.len(), request.payload.len());
    // Options go: the new header ends where the old one did.
    let header_at = message_at - ip::header_len(src);
    let fields = ip::IpFields { ttl: ip::DEFAULT_TTL, traffic_class };
    ip::write(&mut packet[header_at..], dst, src, protocol, message_len, fields);
    let end = message_at + message_len;
    let message = &mut packet[message_at..end];
    message[..4].copy_from_slice(&[reply_type, 0, 0, 0]);
    let pseudo = match protocol {
        PROTOCOL_ICMPV6 => checksum::pseudo_header(dst, src, protocol, message_len),
        _ => 0,
    };
    let sum = checksum::finish(pseudo + checksum::sum(message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Ok(Some(header_at..end))
}

/// Reads an ICMP error and the TCP segment it quotes (ICMP-1: IP header and at least 8 octets). `None` when the message
/// is no error, or is about something else than the start of a TCP segment (ICMP-11).
///
/// # Errors
///
/// [`Malformed::IcmpTruncated`] when the quotation is cut before its sequence number, [`Malformed::IcmpChecksum`].
pub fn parse_error(packet: &IpPacket<'_>, trusted: bool) -> Result<Option<IcmpError>, Malformed> {
    if !is_icmp(packet) {
        return Ok(None);
    }
    check(packet, trusted)?;
    let (head, quoted) = packet.payload.split_at(HEADER_LEN);
    let ipv6 = packet.protocol == PROTOCOL_ICMPV6;
    let (kind, code) = (head[0], head[1]);
    let is_error = if ipv6 { matches!(kind, 1..=4) } else { matches!(kind, 3 | 11 | 12) };
    if !is_error {
        return Ok(None);
    }
    let mtu = match (ipv6, kind, code) {
        (false, 3, 4) => Some(u32::from(u16::from_be_bytes([head[6], head[7]]))),
        (true, 2, _) => Some(u32::from_be_bytes([head[4], head[5], head[6], head[7]])),
        _ => None,
    };
    let Some((src, dst, tcp)) = quoted_tcp(quoted, ipv6)? else { return Ok(None) };
    let tcp: &[u8; 8] = tcp.first_chunk().ok_or(Malformed::IcmpTruncated)?;
    // Both kinds of headers are there, by now.
    let len = match quoted {
        [_, _, _, _, high, low, ..] if ipv6 => {
            u16::from_be_bytes([*high, *low]).saturating_add(ip::IPV6_HEADER_LEN as u16)
        }
        [_, _, high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    };
    Ok(Some(IcmpError {
        ipv6,
        kind,
        code,
        mtu,
        len,
        src,
        dst,
        src_port: u16::from_be_bytes([tcp[0], tcp[1]]),
        dst_port: u16::from_be_bytes([tcp[2], tcp[3]]),
        seq: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
    }))
}

/// Addresses and TCP octets of a quoted packet. Its total length and checksum say nothing: the quotation is cut, and
/// routers may have rewritten it.
#[allow(clippy::type_complexity)]
fn quoted_tcp(quoted: &[u8], ipv6: bool) -> Result<Option<(IpAddr, IpAddr, &[u8])>, Malformed> {
    if ipv6 {
        let header: &[u8; ip::IPV6_HEADER_LEN] = quoted.first_chunk().ok_or(Malformed::IcmpTruncated)?;
        // We send no extension headers, so a quotation with some is not of our segments.
        if header[0] >> 4 != 6 || header[6] != PROTOCOL_TCP {
            return Ok(None);
        }
        let address = |at: usize| IpAddr::from(std::array::from_fn::<u8, 16, _>(|i| header[at + i]));
        return Ok(Some((address(8), address(24), &quoted[ip::IPV6_HEADER_LEN..])));
    }
    let header: &[u8; ip::IPV4_HEADER_LEN] = quoted.first_chunk().ok_or(Malformed::IcmpTruncated)?;
    let len = usize::from(header[0] & 15) * 4;
    let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    if header[0] >> 4 != 4 || len < ip::IPV4_HEADER_LEN || header[9] != PROTOCOL_TCP || fragment_offset != 0 {
        return Ok(None);
    }
    let tcp = quoted.get(len..).ok_or(Malformed::IcmpTruncated)?;
    let address = |at: usize| IpAddr::from(std::array::from_fn::<u8, 4, _>(|i| header[at + i]));
    Ok(Some((address(12), address(16), tcp)))
}

#[cfg(test)]
#[path = "icmp_tests.rs"]
mod tests;
