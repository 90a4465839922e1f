//! Tests of ICMP: echo (IP-17) and the quoted segment (ICMP-1).
#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const US: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const PEER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
const US6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));

/// An ICMP packet from the peer, with its checksum.
fn packet(src: IpAddr, dst: IpAddr, message: &[u8]) -> Vec<u8> {
    let protocol = if src.is_ipv4() { PROTOCOL_ICMP } else { PROTOCOL_ICMPV6 };
    let mut packet = vec![0; ip::header_len(src)];
    let at = ip::write(&mut packet, src, dst, protocol, message.len(), ip::IpFields::default());
    packet.extend_from_slice(message);
    if message.len() >= 4 {
        packet[at + 2..at + 4].fill(0);
        let pseudo = if src.is_ipv4() { 0 } else { checksum::pseudo_header(src, dst, protocol, message.len()) };
        let sum = checksum::finish(pseudo + checksum::sum(&packet[at..]));
        packet[at + 2..at + 4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

fn error_of(packet: &[u8]) -> Result<Option<IcmpError>, Malformed> {
    parse_error(&ip::parse(packet, true).unwrap(), false)
}

/// What an error quotes of a segment we sent: IP header and `tcp` octets.
fn quoted(src: IpAddr, dst: IpAddr, protocol: u8, tcp: &[u8]) -> Vec<u8> {
    let mut quoted = vec![0; ip::header_len(src)];
    // The length is that of the whole segment, of which only the start is quoted.
    ip::write(&mut quoted, src, dst, protocol, 1_000, ip::IpFields::default());
    quoted.extend_from_slice(tcp);
    quoted
}

const TCP_START: [u8; 8] = [0, 80, 0x9c, 0x40, 1, 2, 3, 4];

fn error_message(kind: u8, code: u8, rest: [u8; 4], quoted: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend_from_slice(&rest);
    message.extend_from_slice(quoted);
    message
}

#[test]
fn ip_17_echo_v4() {
    for data in [&b""[..], b"odd", b"even"] {
        let request = packet(PEER, US, &[&[8, 0, 0, 0, 0x12, 0x34, 0, 1], data].concat());
        let mut buffer = [&request[..], &[0; 6]].concat();
        let range = echo_reply(&mut buffer, false).unwrap().unwrap();
        assert_eq!(buffer[range], packet(US, PEER, &[&[0, 0, 0, 0, 0x12, 0x34, 0, 1], data].concat()));
    }
}

#[test]
fn ip_17_echo_v6() {
    let mut buffer = packet(PEER6, US6, &[128, 0, 0, 0, 0x12, 0x34, 0, 1, 9, 9, 9]);
    let range = echo_reply(&mut buffer, false).unwrap().unwrap();
    assert_eq!(buffer[range], packet(US6, PEER6, &[129, 0, 0, 0, 0x12, 0x34, 0, 1, 9, 9, 9]));
}

#[test]
fn ip_17_echo_loses_ip_options() {
    let plain = packet(PEER, US, &[8, 0, 0, 0, 1, 2, 3, 4, 5]);
    let mut buffer = [&plain[..20], &[1; 8], &plain[20..]].concat();
    buffer[0] = 0x47;
    buffer[3] += 8;
    buffer[10..12].fill(0);
    let sum = checksum::finish(checksum::sum(&buffer[..28]));
    buffer[10..12].copy_from_slice(&sum.to_be_bytes());
    let range = echo_reply(&mut buffer, false).unwrap().unwrap();
    assert_eq!(range, 8..37);
    assert_eq!(buffer[range], packet(US, PEER, &[0, 0, 0, 0, 1, 2, 3, 4, 5]));
}

#[test]
fn ip_17_no_echo() {
    let request = [8, 0, 0, 0, 1, 2, 3, 4];
    let multicast = IpAddr::from([224, 0, 0, 1]);
    let cases = [
        ("a reply", packet(PEER, US, &[0, 0, 0, 0, 1, 2, 3, 4]), Ok(None)),
        ("to multicast", packet(PEER, multicast, &request), Ok(None)),
        ("to broadcast", packet(PEER, IpAddr::from([255; 4]), &request), Ok(None)),
        ("to v6 multicast", packet(PEER6, "ff02::1".parse().unwrap(), &[128, 0, 0, 0, 1, 2, 3, 4]), Ok(None)),
        ("to nobody", packet(PEER, IpAddr::from([0, 0, 0, 0]), &request), Ok(None)),
        ("to loopback", packet(PEER, IpAddr::from([127, 0, 0, 1]), &request), Ok(None)),
        ("to nobody in v6", packet(PEER6, "::".parse().unwrap(), &[128, 0, 0, 0, 1, 2, 3, 4]), Ok(None)),
        ("short", packet(PEER, US, &request[..7]), Err(Malformed::IcmpTruncated)),
        ("not ICMP", quoted(PEER, US, 6, &[0; 1_000]), Ok(None)),
        ("not IP", vec![0; 30], Err(Malformed::IpVersion)),
    ];
    for (name, bytes, expected) in &cases {
        let mut buffer = bytes.clone();
        assert_eq!(echo_reply(&mut buffer, false), *expected, "{name}");
        assert_eq!(buffer, *bytes, "{name}: unchanged");
    }
    let mut damaged = packet(PEER, US, &[8, 0, 0, 0, 1, 2, 3, 4, 5]);
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(echo_reply(&mut damaged.clone(), false), Err(Malformed::IcmpChecksum));
    assert!(echo_reply(&mut damaged, true).unwrap().is_some(), "the device vouched for it");
}

#[test]
fn icmp_1_quoted_segment() {
    let v4 = quoted(US, PEER, 6, &TCP_START);
    let v4_len = u16::from_be_bytes([v4[2], v4[3]]);
    let error = error_of(&packet(PEER, US, &error_message(3, 4, [0, 0, 5, 0xdc], &v4))).unwrap().unwrap();
    let expected = IcmpError {
        ipv6: false,
        kind: 3,
        code: 4,
        mtu: Some(1500),
        len: v4_len,
        src: US,
        dst: PEER,
        src_port: 80,
        dst_port: 40_000,
        seq: 0x0102_0304,
    };
    assert_eq!(error, expected);

    let v6 = quoted(US6, PEER6, 6, &TCP_START);
    let error = error_of(&packet(PEER6, US6, &error_message(2, 0, [0, 0, 5, 0], &v6))).unwrap().unwrap();
    let len = 40 + u16::from_be_bytes([v6[4], v6[5]]);
    let expected = IcmpError { ipv6: true, kind: 2, code: 0, mtu: Some(1280), len, src: US6, dst: PEER6, ..expected };
    assert_eq!(error, expected);

    let error = error_of(&packet(PEER, US, &error_message(11, 0, [0; 4], &v4))).unwrap().unwrap();
    assert_eq!((error.kind, error.mtu), (11, None));

    let with_options = [&v4[..20], &[1; 4], &v4[20..]].concat();
    let mut with_options = error_message(3, 1, [0; 4], &with_options);
    with_options[8] = 0x46;
    assert_eq!(error_of(&packet(PEER, US, &with_options)).unwrap().unwrap().seq, 0x0102_0304);
}

/// ICMP-3, ICMP-4, ICMP-5: each code is what Linux takes it for.
#[test]
fn icmp_3_what_codes_report() {
    use Unreachable::{Host, HostUnknown, Isolated, Network, Parameter, Port, Prohibited, Protocol, SourceRoute};
    let report = |ipv6, kind, code| {
        let error = IcmpError {
            ipv6,
            kind,
            code,
            mtu: Some(1_400),
            len: 1_500,
            src: US,
            dst: PEER,
            src_port: 80,
            dst_port: 40_000,
            seq: 1,
        };
        error.report()
    };
    let v4 =
        [Network, Host, Protocol, Port].map(Some).into_iter().chain([None]).chain(
            [SourceRoute, Network, HostUnknown, Isolated, Network, Host, Network, Host, Host, Host, Host].map(Some),
        );
    for (code, expected) in (0..).zip(v4) {
        let expected = expected.map_or(Report::TooBig(1_400), Report::Unreachable);
        assert_eq!(report(false, 3, code), Some(expected), "3/{code}");
    }
    let v6 = [Network, Prohibited, Host, Host, Port, Prohibited, Prohibited, Parameter];
    for (code, expected) in (0..).zip(v6) {
        assert_eq!(report(true, 1, code), Some(Report::Unreachable(expected)), "1/{code}");
    }
    let others = [
        (false, 11, Some(Report::Unreachable(Host))),
        (false, 12, Some(Report::Unreachable(Parameter))),
        (true, 2, Some(Report::TooBig(1_400))),
        (true, 3, Some(Report::Unreachable(Host))),
        (true, 4, Some(Report::Unreachable(Parameter))),
    ];
    for (ipv6, kind, expected) in others {
        assert_eq!(report(ipv6, kind, 0), expected, "{kind}");
    }
    assert_eq!(report(false, 3, 16), None);
}

/// ICMP-13: the packet as it was, as much as may be, from where it was sent to.
#[test]
fn icmp_13_errors_quote_what_they_are_about() {
    for (payload, why, v4, v6) in [
        (8, Refusal::Port, [3, 3], [1, 4]),
        (9_000, Refusal::Port, [3, 3], [1, 4]),
        (0, Refusal::Protocol, [3, 2], [4, 1]),
        (1_500, Refusal::Protocol, [3, 2], [4, 1]),
    ] {
        for (us, peer, expected, most) in [(US, PEER, v4, 576), (US6, PEER6, v6, 1_280)] {
            let mut bytes = vec![0; ip::header_len(us)];
            ip::write(&mut bytes, peer, us, 17, payload, ip::IpFields::default());
            bytes.resize(bytes.len() + payload, 7);
            bytes.extend_from_slice(b"padding");
            let parsed = ip::parse(&bytes, false).unwrap();
            let mut out = [0; LONGEST_ERROR];
            let len = write_error(&mut out, &bytes, &parsed, why);
            let error = ip::parse(&out[..len], true).unwrap();
            assert_eq!((error.src, error.dst, error.payload.len() + error.header.len()), (us, peer, len));
            check(&error, false).unwrap();
            assert_eq!(error.payload[..2], expected);
            let about = bytes.len() - 7;
            let fits = most - error.header.len() - 8;
            assert_eq!(error.payload[8..], bytes[..about.min(fits)], "{payload} {most}");
            let pointer = u32::from_be_bytes([error.payload[4], error.payload[5], error.payload[6], error.payload[7]]);
            assert_eq!(pointer, if expected == [4, 1] { 6 } else { 0 });
        }
    }
    // Behind a hop-by-hop header of 16 octets and a fragment header the last of them names the protocol.
    let mut headers = vec![0; 40];
    headers[6] = 0;
    headers.extend([44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    headers.extend([99, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(next_header_at(&headers), 56);
}

#[test]
fn rfc1191_5_what_a_router_does_not_say_is_the_next_plateau() {
    for (len, expected) in [(1_500, 1_492), (1_492, 1_006), (9_000, 8_166), (65_535, 32_000), (296, 68), (68, 0)] {
        let mut v4 = quoted(US, PEER, 6, &TCP_START);
        v4[2..4].copy_from_slice(&u16::to_be_bytes(len));
        for (mtu, expected) in [([0, 0], expected), ([2, 0], 512)] {
            let message = error_message(3, 4, [0, 0, mtu[0], mtu[1]], &v4);
            let error = error_of(&packet(PEER, US, &message)).unwrap().unwrap();
            assert_eq!(error.report(), Some(Report::TooBig(expected)), "{len} {mtu:?}");
        }
    }
}

#[test]
fn icmp_1_nothing_to_match() {
    let v4 = quoted(US, PEER, 6, &TCP_START);
    let mut later_fragment = v4.clone();
    later_fragment[7] = 1;
    let cases = [
        ("echo request", [8, 0, 0, 0, 1, 2, 3, 4].to_vec(), Ok(None)),
        ("ICMP-9 source quench", error_message(4, 0, [0; 4], &v4), Ok(None)),
        ("ICMP-10 redirect", error_message(5, 0, [0; 4], &v4), Ok(None)),
        ("quotes UDP", error_message(3, 3, [0; 4], &quoted(US, PEER, 17, &TCP_START)), Ok(None)),
        ("ICMP-11 quotes a later fragment", error_message(3, 1, [0; 4], &later_fragment), Ok(None)),
        ("quotes IPv6 in ICMPv4", error_message(3, 1, [0; 4], &quoted(US6, PEER6, 6, &TCP_START)), Ok(None)),
        ("seven octets of TCP", error_message(3, 1, [0; 4], &v4[..27]), Err(Malformed::IcmpTruncated)),
        ("half an IP header", error_message(3, 1, [0; 4], &v4[..12]), Err(Malformed::IcmpTruncated)),
        ("no quotation", error_message(3, 1, [0; 4], &[]), Err(Malformed::IcmpTruncated)),
        ("no header", vec![3, 1, 0, 0], Err(Malformed::IcmpTruncated)),
    ];
    for (name, message, expected) in &cases {
        assert_eq!(error_of(&packet(PEER, US, message)), *expected, "{name}");
    }
    let mut damaged = packet(PEER, US, &error_message(3, 1, [0; 4], &v4));
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(error_of(&damaged), Err(Malformed::IcmpChecksum));
}

proptest! {
    #[test]
    fn any_message_ends_without_a_panic(mut message in proptest::collection::vec(any::<u8>(), 0..100), v6: bool, kind in 0u8..14) {
        let (src, dst) = if v6 { (PEER6, US6) } else { (PEER, US) };
        if let Some(first) = message.first_mut() {
            *first = kind;
        }
        let mut bytes = packet(src, dst, &message);
        let _ = parse_error(&ip::parse(&bytes, true).unwrap(), true);
        let _ = echo_reply(&mut bytes, true);
    }

    #[test]
    fn damaged_quotations_end_without_a_panic(damage in proptest::collection::vec((0usize..60, any::<u8>()), 1..5), cut in 8usize..60, v6: bool) {
        let (peer, us) = if v6 { (PEER6, US6) } else { (PEER, US) };
        let mut message = error_message(if v6 { 1 } else { 3 }, 0, [0; 4], &quoted(us, peer, 6, &TCP_START));
        for (at, value) in damage {
            let len = message.len();
            message[at % len] = value;
        }
        message.truncate(cut);
        let _ = parse_error(&ip::parse(&packet(peer, us, &message), true).unwrap(), true);
    }
}
