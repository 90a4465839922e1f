//! Tests of the IP headers: IP-1..4, IP-11..15, SC-74.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::wire::PROTOCOL_TCP;
use proptest::prelude::*;

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

fn v4(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xee; IPV4_HEADER_LEN];
    assert_eq!(write_ipv4(&mut packet, A, B, PROTOCOL_TCP, payload.len(), IpFields::default()), 20);
    packet.extend_from_slice(payload);
    packet
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xee; IPV6_HEADER_LEN];
    assert_eq!(write_ipv6(&mut packet, A6, B6, next, payload.len(), IpFields::default()), 40);
    packet.extend_from_slice(payload);
    packet
}

/// Changes octets and makes the header checksum right again.
fn v4_with(payload: &[u8], changes: &[(usize, u8)]) -> Vec<u8> {
    let mut packet = v4(payload);
    for &(at, value) in changes {
        packet[at] = value;
    }
    let len = (usize::from(packet[0] & 15) * 4).min(packet.len());
    packet[10..12].fill(0);
    let sum = checksum::finish(checksum::sum(&packet[..len]));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// An IPv4 packet with these options (a multiple of four octets) and four octets of payload.
fn v4_options(options: &[u8]) -> Vec<u8> {
    let mut rest = options.to_vec();
    rest.extend_from_slice(b"data");
    v4_with(&rest, &[(0, 0x45 + (options.len() / 4) as u8)])
}

#[test]
fn malformed_ipv4() {
    use Malformed::*;
    let good = v4(b"payload!");
    let mut bad_sum = good.clone();
    bad_sum[10] ^= 1;
    let cases: &[(&str, Vec<u8>, Malformed)] = &[
        ("empty", vec![], IpTruncated),
        ("19 octets", good[..19].to_vec(), IpTruncated),
        ("IP-1 version 5", v4_with(b"", &[(0, 0x55)]), IpVersion),
        ("IP-1 version 0", vec![0; 40], IpVersion),
        ("SC-74 IHL 4", v4_with(b"", &[(0, 0x44)]), IpHeaderLength),
        ("IP-1 IHL past the packet", v4_with(b"", &[(0, 0x4f)]), IpHeaderLength),
        ("SC-74 total length above the octets received", v4_with(b"", &[(3, 21)]), IpTotalLength),
        ("IP-1 total length below the header", v4_with(b"", &[(3, 19)]), IpTotalLength),
        ("IP-1 total length 0", v4_with(b"", &[(3, 0)]), IpTotalLength),
        ("SC-74 header checksum", bad_sum, IpChecksum),
        ("SC-74 LSRR", v4_options(&[131, 7, 4, 1, 2, 3, 4, 0]), IpSourceRoute),
        ("IP-3 SSRR behind a NOP", v4_options(&[1, 137, 7, 4, 1, 2, 3, 4]), IpSourceRoute),
        ("IP-3 option length 0", v4_options(&[7, 0, 0, 0]), IpOption),
        ("IP-3 option length 1", v4_options(&[7, 1, 0, 0]), IpOption),
        ("IP-3 option past the header", v4_options(&[7, 5, 0, 0]), IpOption),
        ("IP-3 option without a length", v4_options(&[1, 1, 1, 7]), IpOption),
        ("first fragment", v4_with(b"payload!", &[(6, 0x20)]), IpFragment),
        ("IP-12 tiny fragment at offset 1", v4_with(b"payload!", &[(6, 0), (7, 1)]), IpFragment),
        ("last fragment", v4_with(b"payload!", &[(6, 0x1f), (7, 0xff)]), IpFragment),
        ("IP-2 source 0/8", v4_with(b"", &[(12, 0)]), IpSource),
        ("IP-2 source 127/8", v4_with(b"", &[(12, 127)]), IpSource),
        ("IP-2 multicast source", v4_with(b"", &[(12, 224)]), IpSource),
        ("IP-2 class E source", v4_with(b"", &[(12, 240)]), IpSource),
        ("IP-2 broadcast source", v4_with(b"", &[(12, 255), (13, 255), (14, 255), (15, 255)]), IpSource),
    ];
    for (name, packet, expected) in cases {
        assert_eq!(parse(packet, true).unwrap_err(), *expected, "{name}");
    }
}

/// MUST-50.
#[test]
fn accepted_ipv4() {
    let packet = v4(b"payload!");
    let ip = parse(&packet, true).unwrap();
    assert_eq!((ip.src, ip.dst, ip.protocol, ip.ttl, ip.traffic_class), (A.into(), B.into(), 6, 64, 0));
    assert_eq!((ip.header.len(), ip.payload), (20, &b"payload!"[..]));

    for ttl in [0, 1] {
        assert_eq!(parse(&v4_with(b"", &[(8, ttl)]), true).unwrap().ttl, ttl, "IP-4, SC-74");
    }
    let mut padded = v4(b"abc");
    padded.extend_from_slice(&[0; 6]);
    assert_eq!(parse(&padded, true).unwrap().payload, b"abc", "SC-74 trailing padding");
    assert_eq!(parse(&v4_with(b"", &[(1, 0xb9)]), true).unwrap().traffic_class, 0xb9, "IP-15");
    assert!(parse(&v4_with(b"", &[(6, 0x80)]), true).is_ok(), "the reserved bit makes no fragment");

    for options in [&[1u8; 40][..], &[0, 9, 9, 9], &[7, 4, 4, 0], &[148, 4, 0, 0]] {
        let packet = v4_options(options);
        let ip = parse(&packet, true).unwrap();
        assert_eq!((ip.header.len(), ip.payload), (20 + options.len(), &b"data"[..]), "IP-3 {options:?}");
    }
    let mut unverified = v4(b"abc");
    unverified[10] ^= 1;
    assert!(parse(&unverified, false).is_ok());
}

#[test]
fn malformed_ipv6() {
    use Malformed::*;
    let ext = |next: u8, body: [u8; 7]| {
        let mut e = vec![next];
        e.extend_from_slice(&body);
        e
    };
    let from = |src: Ipv6Addr| {
        let mut packet = v6(6, b"");
        packet[8..24].copy_from_slice(&src.octets());
        packet
    };
    let cases: &[(&str, Vec<u8>, Malformed)] = &[
        ("39 octets", v6(6, b"")[..39].to_vec(), IpTruncated),
        ("payload length past the packet", v6(6, b"abcd")[..43].to_vec(), IpTotalLength),
        ("IP-2 multicast source", from("ff02::1".parse().unwrap()), IpSource),
        ("IP-2 unspecified source", from(Ipv6Addr::UNSPECIFIED), IpSource),
        ("IP-2 loopback source", from(Ipv6Addr::LOCALHOST), IpSource),
        ("IP-13 extension cut", v6(60, &[6, 0, 0, 0]), IpOption),
        ("IP-13 extension longer than the packet", v6(60, &ext(6, [1, 0, 0, 0, 0, 0, 0])), IpOption),
        ("IP-13 routing with segments left", v6(43, &ext(6, [0, 0, 1, 0, 0, 0, 0])), IpSourceRoute),
        ("first fragment", v6(44, &ext(6, [0, 0, 1, 0, 0, 0, 1])), IpFragment),
        ("later fragment", v6(44, &ext(6, [0, 0, 8, 0, 0, 0, 1])), IpFragment),
        ("hop-by-hop not in the first place", v6(60, &[ext(0, [0; 7]), ext(6, [0; 7])].concat()), IpOption),
        ("RFC 8200 4.2: option past the header", v6(0, &ext(6, [0, 1, 5, 0, 0, 0, 0])), IpOption),
        ("RFC 8200 4.2: PadN past the header", v6(60, &ext(6, [0, 0, 1, 4, 0, 0, 0])), IpOption),
        ("RFC 8200 4.2: option without a length", v6(0, &ext(6, [0, 1, 3, 0, 0, 0, 5])), IpOption),
        ("RFC 8200 4.2: unknown, discard", v6(0, &ext(6, [0, 0x5e, 4, 0, 0, 0, 0])), IpOption),
        ("RFC 8200 4.2: unknown, discard and tell", v6(0, &ext(6, [0, 0x9e, 4, 0, 0, 0, 0])), IpOption),
        ("RFC 8200 4.2: unknown, discard and tell a host", v6(60, &ext(6, [0, 0xde, 4, 0, 0, 0, 0])), IpOption),
        ("RFC 8200 4.2: unknown behind known ones", v6(60, &ext(6, [0, 1, 1, 0, 0x5e, 1, 0])), IpOption),
        ("RFC 2675: a jumbogram", v6(0, &ext(6, [0, 0xc2, 4, 0, 1, 0, 0])), IpOption),
        ("IP-13 bounded count", v6(60, &ext(60, [0; 7]).repeat(20)), IpOption),
    ];
    for (name, packet, expected) in cases {
        assert_eq!(parse(packet, true).unwrap_err(), *expected, "{name}");
    }
}

/// RFC 8200 section 4.2: Pad1, PadN, and unknown options that are to be passed over.
#[test]
fn ipv6_options_that_may_be_passed_over_are() {
    for options in [
        [0; 6],
        [1, 4, 9, 9, 9, 9],
        [0x1e, 4, 0, 0, 0, 0],
        [0x3e, 1, 7, 0, 1, 0],
        [5, 2, 0, 0, 1, 0],
        [0, 0, 0, 0, 1, 0],
    ] {
        for kind in [0, 60] {
            let body = [&[6, 0][..], &options, b"xyz"].concat();
            let packet = v6(kind, &body);
            assert_eq!(parse(&packet, true).unwrap().payload, b"xyz", "{options:?}");
        }
    }
}

#[test]
fn accepted_ipv6() {
    let mut packet = v6(6, b"abc");
    packet.extend_from_slice(&[0; 6]);
    packet[..2].copy_from_slice(&[0x6b, 0x90]);
    let ip = parse(&packet, true).unwrap();
    assert_eq!((ip.src, ip.dst, ip.protocol, ip.ttl, ip.traffic_class), (A6.into(), B6.into(), 6, 64, 0xb9));
    assert_eq!(ip.payload, b"abc", "SC-74 padding");

    let hop_by_hop = [60, 0, 1, 4, 0, 0, 0, 0];
    let destination = [44, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let atomic_fragment = [43, 0, 0, 0, 9, 9, 9, 9];
    let spent_routing = [6, 0, 0, 0, 0, 0, 0, 0];
    let body = [&hop_by_hop[..], &destination, &atomic_fragment, &spent_routing, b"xyz"].concat();
    let packet = v6(0, &body);
    let ip = parse(&packet, true).unwrap();
    assert_eq!((ip.protocol, ip.header.len(), ip.payload), (6, 80, &b"xyz"[..]), "IP-11, IP-13");
    assert_eq!(parse(&v6(99, b"xyz"), true).unwrap().protocol, 99, "IP-13 unknown next header is for the caller");
}

proptest! {
    /// RFC7323-5.7, RFC1191-2, RFC6864-4.1.
    #[test]
    fn written_and_parsed_are_the_same(src: [u8; 16], dst: [u8; 16], protocol: u8, ttl: u8, traffic_class: u8, len in 0usize..200, v6: bool) {
        let (src, dst) = if v6 {
            (IpAddr::from(src), IpAddr::from(dst))
        } else {
            (IpAddr::from(*src.first_chunk::<4>().unwrap()), IpAddr::from(*dst.first_chunk::<4>().unwrap()))
        };
        prop_assume!(!is_forbidden_source(src));
        prop_assume!(!v6 || !matches!(protocol, 0 | 43 | 44 | 60));
        let mut packet = vec![0x77; 40 + len];
        let at = write(&mut packet, src, dst, protocol, len, IpFields { ttl, traffic_class });
        prop_assert_eq!(at, header_len(src));
        packet.truncate(at + len);
        let ip = parse(&packet, true).unwrap();
        prop_assert_eq!((ip.src, ip.dst, ip.protocol, ip.ttl, ip.traffic_class), (src, dst, protocol, ttl, traffic_class));
        prop_assert_eq!((ip.header.len(), ip.payload.len()), (at, len));
        if !v6 {
            let theirs = Ipv4HeaderSlice::from_slice(&packet).unwrap();
            prop_assert_eq!(theirs.header_checksum(), theirs.to_header().calc_header_checksum());
            prop_assert!(theirs.dont_fragment());
        }
    }

    #[test]
    fn any_octets_end_without_a_panic(mut packet in proptest::collection::vec(any::<u8>(), 0..120), version in 0u8..3, verify: bool) {
        if let Some(first) = packet.first_mut() {
            *first = match version { 0 => 0x40 | *first & 15, 1 => 0x60 | *first & 15, _ => *first };
        }
        if let Ok(ip) = parse(&packet, verify) {
            prop_assert!(ip.header.len() + ip.payload.len() <= packet.len());
        }
    }

    #[test]
    fn damaged_packets_end_without_a_panic(v6_first: bool, damage in proptest::collection::vec((0usize..60, prop_oneof![any::<u8>(), Just(0), Just(43), Just(44), Just(60)]), 1..6), cut in 0usize..100) {
        let mut packet = if v6_first { v6(60, &[60; 40]) } else { v4_options(&[1; 20]) };
        for (at, value) in damage {
            let len = packet.len();
            packet[at % len] = value;
        }
        packet.truncate(cut);
        if let Ok(ip) = parse(&packet, false) {
            prop_assert!(ip.header.len() + ip.payload.len() <= packet.len());
        }
    }
}
