//! Tests of the TCP header: MUST-2, MUST-3, MUST-69 and every way to be malformed.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::wire::options::Timestamps;
use crate::wire::options::tests::any_options;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

const SRC: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const DST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 7, 9));
const SRC6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const DST6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 2, 3, 0xffff, 5, 6, 7));

fn segment(header: &TcpHeader, payload: &[u8], src: IpAddr, dst: IpAddr) -> Vec<u8> {
    let mut out = vec![0xee; MAX_HEADER_LEN];
    let len = write(header, &mut out);
    out.truncate(len);
    set_checksum(&mut out, src, dst, &[payload]);
    out.extend_from_slice(payload);
    out
}

fn sample() -> TcpHeader {
    TcpHeader {
        src_port: 40_000,
        dst_port: 80,
        seq: 0x0102_0304,
        ack: 0xfffe_fdfc,
        flags: Flags::ACK | Flags::PSH,
        window: 0x1234,
        urgent: 0,
        options: TcpOptions { timestamps: Some(Timestamps { val: 7, ecr: 8 }), ..Default::default() },
    }
}

#[test]
fn layout() {
    let mut out = [0xee; 60];
    assert_eq!(write(&sample(), &mut out), 32);
    let expected = [
        0x9c, 0x40, 0, 80, 1, 2, 3, 4, 0xff, 0xfe, 0xfd, 0xfc, 0x80, 0x18, 0x12, 0x34, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0,
        0, 7, 0, 0, 0, 8,
    ];
    assert_eq!(out[..32], expected);
}

#[test]
fn malformed_segments() {
    let good = segment(&sample(), b"abc", SRC, DST);
    let with = |at: usize, value: u8| {
        let mut s = good.clone();
        s[at] = value;
        s
    };
    let cases: &[(&str, Vec<u8>, bool, Malformed)] = &[
        ("empty", vec![], true, Malformed::TcpTruncated),
        ("19 octets", good[..19].to_vec(), true, Malformed::TcpTruncated),
        ("data offset 4", with(12, 0x40), true, Malformed::TcpDataOffset),
        ("data offset 0", with(12, 0), true, Malformed::TcpDataOffset),
        ("data offset past the end", with(12, 0xf0), true, Malformed::TcpDataOffset),
        ("MUST-3 one bit of the payload", with(33, b'x'), false, Malformed::TcpChecksum),
        ("MUST-3 one bit of the header", with(4, 9), false, Malformed::TcpChecksum),
        ("MUST-3 before anything inside is believed", with(23, 11), false, Malformed::TcpChecksum),
        ("MUST-7 option length", with(23, 11), true, Malformed::TcpOption),
    ];
    for (name, bytes, trusted, expected) in cases {
        assert_eq!(parse(bytes, SRC, DST, *trusted).unwrap_err(), *expected, "{name}");
    }
    assert_eq!(parse(&good, SRC, SRC, false).unwrap_err(), Malformed::TcpChecksum, "MUST-2 the pseudo-header counts");
    assert_eq!(parse(&good, SRC, DST, false).unwrap(), (sample(), &b"abc"[..]));
    assert!(parse(&with(33, b'x'), SRC, DST, true).is_ok(), "MUST-3 the device vouched for it");
}

#[test]
fn reserved_bits_are_ignored() {
    let mut bytes = segment(&sample(), b"", SRC, DST);
    bytes[12] |= 0x0f;
    assert_eq!(parse(&bytes, SRC, DST, true).unwrap().0, sample());
}

#[test]
fn flags_in_words() {
    assert_eq!(format!("{:?} {:?}", Flags::SYN | Flags::ACK, Flags::NONE), "SYN,ACK -");
    assert!(Flags(0x12).contains(Flags::SYN | Flags::ACK));
    assert!(!Flags::SYN.contains(Flags::SYN | Flags::ACK) && Flags::SYN.intersects(Flags::SYN | Flags::ACK));
    assert_eq!(Flags(0x13).without(Flags::SYN), Flags::FIN | Flags::ACK);
}

fn any_header() -> impl Strategy<Value = TcpHeader> {
    (any::<(u16, u16, u32, u32)>(), any::<(u8, u16, u16)>(), any_options()).prop_map(
        |((src_port, dst_port, seq, ack), (flags, window, urgent), options)| TcpHeader {
            src_port,
            dst_port,
            seq,
            ack,
            flags: Flags(flags),
            window,
            urgent,
            options,
        },
    )
}

proptest! {
    /// MUST-1.
    #[test]
    fn written_and_parsed_are_the_same(header in any_header(), payload in proptest::collection::vec(any::<u8>(), 0..100), v6: bool) {
        let (src, dst) = if v6 { (SRC6, DST6) } else { (SRC, DST) };
        let bytes = segment(&header, &payload, src, dst);
        prop_assert_eq!(bytes.len(), header_len(&header) + payload.len());
        prop_assert_eq!(parse(&bytes, src, dst, false), Ok((header, &payload[..])));
    }

    /// MUST-2: against an implementation that is not ours, also with the payload in pieces of odd length.
    #[test]
    fn must_2_checksum_equals_etherparse(header in any_header(), payload in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300, v6: bool) {
        let (src, dst) = if v6 { (SRC6, DST6) } else { (SRC, DST) };
        let bytes = segment(&header, &payload, src, dst);
        let theirs = TcpSlice::from_slice(&bytes).unwrap();
        let expected = match (src, dst) {
            (IpAddr::V4(s), IpAddr::V4(d)) => theirs.calc_checksum_ipv4(s.octets(), d.octets()).unwrap(),
            (IpAddr::V6(s), IpAddr::V6(d)) => theirs.calc_checksum_ipv6(s.octets(), d.octets()).unwrap(),
            _ => unreachable!(),
        };
        prop_assert_eq!(theirs.checksum(), expected);

        let (a, b) = payload.split_at(cut.min(payload.len()));
        let mut head = bytes[..header_len(&header)].to_vec();
        head[16..18].fill(0);
        set_checksum(&mut head, src, dst, &[a, b]);
        prop_assert_eq!(&head[16..18], &expected.to_be_bytes());

        // What the device makes of the partial one.
        set_partial_checksum(&mut head, src, dst, payload.len());
        prop_assert!(checksum::complete(&mut head, &[a, b], 0, CHECKSUM_OFFSET as u16));
        prop_assert_eq!(&head[16..18], &expected.to_be_bytes());
    }

    #[test]
    fn any_octets_end_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), trusted: bool) {
        let _ = parse(&bytes, SRC, DST, trusted);
    }

    #[test]
    fn damaged_segments_end_without_a_panic(header in any_header(), damage in proptest::collection::vec((0usize..80, any::<u8>()), 1..4), cut in 0usize..80) {
        let mut bytes = segment(&header, &[1, 2, 3], SRC, DST);
        for (at, value) in damage {
            let len = bytes.len();
            bytes[at % len] = value;
        }
        bytes.truncate(cut);
        if let Ok((_, payload)) = parse(&bytes, SRC, DST, true) {
            prop_assert!(payload.len() + MIN_HEADER_LEN <= bytes.len());
        }
    }
}
