//! Whatever is read here, the parsers of all packets read as well, and the same.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::wire::options::{SackBlocks, TcpOptions};
use crate::wire::tcp::{self, TcpHeader};

const V4: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2))];
const V6: [IpAddr; 2] =
    [IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2))];

/// A packet with `payload` and `padding` behind it.
fn packet([src, dst]: [IpAddr; 2], options: TcpOptions, payload: &[u8], padding: usize) -> Vec<u8> {
    let header = TcpHeader {
        src_port: 4_711,
        dst_port: 80,
        seq: 0x0102_0304,
        ack: 0x0506_0708,
        flags: Flags::ACK | Flags::PSH,
        window: 0x090a,
        urgent: 0x0b0c,
        options,
    };
    let (at, len) = (ip::header_len(src), tcp::header_len(&header));
    let mut packet = vec![0; at + len];
    packet.extend_from_slice(payload);
    let segment = packet.len() - at;
    ip::write(&mut packet, src, dst, PROTOCOL_TCP, segment, ip::IpFields::default());
    tcp::write(&header, &mut packet[at..]);
    let (head, _) = packet[at..].split_at_mut(len);
    tcp::set_checksum(head, src, dst, &[payload]);
    packet.resize(packet.len() + padding, 0xee);
    packet
}

fn stamped() -> TcpOptions {
    TcpOptions { timestamps: Some(Timestamps { val: 0xa1a2_a3a4, ecr: 0xb1b2_b3b4 }), ..TcpOptions::default() }
}

/// What is read of `packet` is what the parsers of all packets read.
fn agrees(packet: &[u8], trusted: bool) -> bool {
    let Some(plain) = parse(packet, trusted) else { return false };
    let whole = ip::parse(packet, true);
    // Sources that nobody may have are no flow's, and found out where flows begin.
    if whole.is_err_and(|reason| reason == crate::wire::Malformed::IpSource) {
        return false;
    }
    let whole = whole.unwrap();
    let (header, payload) = tcp::parse(whole.payload, whole.src, whole.dst, trusted).unwrap();
    assert!(whole.ttl > 0 && whole.protocol == PROTOCOL_TCP);
    assert_eq!(header.options, TcpOptions { timestamps: plain.timestamps, ..TcpOptions::default() });
    assert_eq!((header.seq, header.ack, header.flags), (plain.seq, plain.ack, plain.flags));
    assert_eq!((header.window, header.urgent), (plain.window, plain.urgent));
    assert_eq!(payload, &packet[plain.start..plain.start + plain.len]);
    let flow = FlowOctets::of(packet).unwrap();
    assert!(flow.is_of(packet));
    assert_eq!(flow.ends(), ((whole.src, header.src_port), (whole.dst, header.dst_port)));
    true
}

#[test]
fn plain_packets_are_read() {
    for ends in [V4, V6] {
        for options in [TcpOptions::default(), stamped()] {
            for (payload, padding) in [(&b""[..], 0), (b"x", 0), (b"hello", 9)] {
                let packet = packet(ends, options, payload, padding);
                assert!(agrees(&packet, false) && agrees(&packet, true));
                let plain = parse(&packet, false).unwrap();
                assert_eq!(plain.len, payload.len());
            }
        }
    }
}

#[test]
fn others_are_left_to_others() {
    for ends in [V4, V6] {
        let at = ip::header_len(ends[0]);
        let mut sack = SackBlocks::default();
        sack.push(1, 2);
        for options in [TcpOptions { sack, ..stamped() }, TcpOptions { mss: Some(1_460), ..TcpOptions::default() }] {
            assert_eq!(parse(&packet(ends, options, b"", 0), true), None);
        }
        let good = packet(ends, stamped(), b"hello", 0);
        for (place, value) in [(0, 0x46), (0, 0x05), (at + 12, 0x70), (at + 12, 0x40), (at + 20, 0), (at + 23, 9)] {
            let mut other = good.clone();
            other[place] = value;
            assert_eq!(parse(&other, true), None, "{place}");
        }
        for len in 0..good.len() {
            assert_eq!(parse(&good[..len], true), None, "{len}");
        }
        let mut wrong = good.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(parse(&wrong, false), None, "checksum");
        assert!(parse(&wrong, true).is_some());
    }
}

#[test]
fn flows_differ_in_each_octet() {
    for (ends, octets) in [(V4, 12..24), (V6, 8..44)] {
        let packet = packet(ends, stamped(), b"", 0);
        let flow = FlowOctets::of(&packet).unwrap();
        for place in octets {
            let mut other = packet.clone();
            other[place] ^= 1;
            assert!(!flow.is_of(&other) && FlowOctets::of(&other) != Some(flow), "{place}");
        }
        assert!(!FlowOctets::NONE.is_of(&packet));
    }
    // Nothing is of no flow, wherever it says that it comes from.
    for first in [IPV4_PLAIN, 0x60] {
        let mut nowhere = [0; 60];
        nowhere[0] = first;
        assert!(!FlowOctets::NONE.is_of(&nowhere));
    }
    assert_eq!((FlowOctets::of(&[]), FlowOctets::of(&[0x45; 23]), FlowOctets::of(&[0x60; 43])), (None, None, None));
    assert_eq!(FlowOctets::of(&[0x50; 60]), None);
}

proptest! {
    /// A packet of this form with some octets changed: either it is left to others, or both read the same.
    #[test]
    fn what_is_read_is_what_others_read(
        v6: bool,
        with_stamps: bool,
        trusted: bool,
        payload in proptest::collection::vec(any::<u8>(), 0..40),
        changes in proptest::collection::vec((0_usize..120, any::<u8>()), 0..4),
        cut in 0_usize..8,
    ) {
        let options = if with_stamps { stamped() } else { TcpOptions::default() };
        let mut packet = packet(if v6 { V6 } else { V4 }, options, &payload, 4);
        for (place, value) in changes {
            let len = packet.len();
            packet[place % len] = value;
        }
        if !v6 {
            // Else hardly any change would get past it.
            packet[10..12].fill(0);
            let sum = checksum::finish(checksum::sum(&packet[..20]));
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        packet.truncate(packet.len() - cut);
        agrees(&packet, trusted);
    }

    /// What is written in one go is what others write piece by piece, whoever sums.
    #[test]
    fn what_is_written_is_what_others_write(
        (seq, ack, window, flags) in any::<(u32, u32, u16, u8)>(),
        (val, ecr) in any::<(u32, u32)>(),
        ((src, src_port), (dst, dst_port)) in any::<((u32, u16), (u32, u16))>(),
        (ttl, traffic_class) in any::<(u8, u8)>(),
        payload in proptest::collection::vec(any::<u8>(), 0..2_000),
        whole: bool,
    ) {
        let (src, dst) = (Ipv4Addr::from(src), Ipv4Addr::from(dst));
        let fields = ip::IpFields { ttl, traffic_class };
        let stamps = Timestamps { val, ecr };
        let flags = Flags(flags);
        let options = TcpOptions { timestamps: Some(stamps), ..TcpOptions::default() };
        let header = TcpHeader { src_port, dst_port, seq, ack, flags, window, urgent: 0, options };
        let mut expected = [0xee; IPV4_STAMPED_LEN];
        ip::write_ipv4(&mut expected, src, dst, PROTOCOL_TCP, STAMPED_LEN + payload.len(), fields);
        let tcp = &mut expected[ip::IPV4_HEADER_LEN..];
        tcp::write(&header, tcp);
        if whole {
            tcp::set_checksum(tcp, src.into(), dst.into(), &[&payload]);
        } else {
            tcp::set_partial_checksum(tcp, src.into(), dst.into(), payload.len());
        }
        let plain =
            Plain { seq, ack, flags, window, urgent: 0, timestamps: Some(stamps), start: IPV4_STAMPED_LEN, len: payload.len() };
        let ends = EndsV4 { src: (src, src_port), dst: (dst, dst_port) };
        let mut out = [0x55; IPV4_STAMPED_LEN];
        write_stamped(&mut out, &ends, fields, &plain, stamps, whole.then(|| checksum::sum(&payload)));
        prop_assert_eq!(out, expected);
    }
}
