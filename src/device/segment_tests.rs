#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;
use crate::wire::options::{TcpOptions, Timestamps};
use crate::wire::tcp::TcpHeader;

pub(crate) const V4: (IpAddr, IpAddr) =
    (IpAddr::V4(Ipv4Addr::new(10, 7, 0, 1)), IpAddr::V4(Ipv4Addr::new(10, 7, 0, 2)));
pub(crate) const V6: (IpAddr, IpAddr) =
    (IpAddr::V6(Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 2)));

/// A TCP packet with timestamps and the checksum left to the device.
pub(crate) fn packet((src, dst): (IpAddr, IpAddr), seq: u32, flags: Flags, payload: &[u8]) -> Vec<u8> {
    let options = TcpOptions { timestamps: Some(Timestamps { val: 7, ecr: 8 }), ..TcpOptions::default() };
    let header = TcpHeader { src_port: 1000, dst_port: 80, seq, ack: 5, flags, window: 99, urgent: 0, options };
    let mut out = vec![0; MAX_HEADER_LEN];
    let start =
        ip::write(&mut out, src, dst, PROTOCOL_TCP, tcp::header_len(&header) + payload.len(), ip::IpFields::default());
    let end = start + tcp::write(&header, &mut out[start..]);
    tcp::set_partial_checksum(&mut out[start..end], src, dst, payload.len());
    out.truncate(end);
    out.extend_from_slice(payload);
    out
}

/// One run as a whole packet with a complete checksum.
pub(crate) fn cut(packet: &[u8], gso_size: u16, segments: Range<usize>) -> Vec<u8> {
    let shape = Shape::of(packet).unwrap();
    let (header, payload) = packet.split_at(shape.header_len);
    let mut out = vec![0; shape.header_len];
    let range = cut_header(header, &shape, payload.len(), gso_size, segments, &mut out);
    let payload = &payload[range];
    assert!(checksum::complete(&mut out, &[payload], shape.ip_len as u16, 16));
    out.extend_from_slice(payload);
    out
}

#[test]
fn shapes() {
    let v4 = packet(V4, 1, Flags::ACK, b"x");
    assert_eq!(Shape::of(&v4), Some(Shape { ip_len: 20, header_len: 52, ipv6: false }));
    let v6 = packet(V6, 1, Flags::ACK, b"x");
    assert_eq!(Shape::of(&v6), Some(Shape { ip_len: 40, header_len: 72, ipv6: true }));
    for len in 0..52 {
        assert_eq!(Shape::of(&v4[..len]), None, "{len}");
    }
    for len in 0..72 {
        assert_eq!(Shape::of(&v6[..len]), None, "{len}");
    }
    for (at, value) in [(9, 17), (7, 1), (6, 0x20), (0, 0x44), (0, 0x55), (32, 0x40), (32, 0xf0)] {
        let mut bad = v4.clone();
        bad[at] = value;
        assert_eq!(Shape::of(&bad), None, "octet {at} = {value:#x}");
    }
}

#[test]
fn counts() {
    for (payload, gso_size, expected) in
        [(0, 0, 1), (5000, 0, 1), (0, 1448, 1), (1, 1448, 1), (1448, 1448, 1), (1449, 1448, 2), (2896, 1448, 2)]
    {
        assert_eq!(count(payload, gso_size), expected, "{payload} / {gso_size}");
    }
}

#[test]
fn every_wire_segment_is_as_if_sent_alone() {
    let payload: Vec<u8> = (0..2500u32).map(|i| i as u8).collect();
    for ends in [V4, V6] {
        let flags = Flags::ACK | Flags::PSH | Flags::FIN | Flags::CWR;
        let whole = packet(ends, u32::MAX - 500, flags, &payload);
        for (i, flags) in
            [Flags::ACK | Flags::CWR, Flags::ACK, Flags::ACK | Flags::PSH | Flags::FIN].into_iter().enumerate()
        {
            let piece = &payload[i * 1000..payload.len().min(i * 1000 + 1000)];
            let mut alone = packet(ends, (u32::MAX - 500).wrapping_add(i as u32 * 1000), flags, piece);
            if ends == V4 {
                // Identification counts up.
                alone[5] = i as u8;
                alone[10..12].fill(0);
                let sum = checksum::finish(checksum::sum(&alone[..20]));
                alone[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            assert!(fill_checksum(&mut alone));
            assert_eq!(cut(&whole, 1000, i..i + 1), alone, "segment {i}");
            let parsed = ip::parse(&alone, true).unwrap();
            let (_, got) = tcp::parse(parsed.payload, parsed.src, parsed.dst, false).unwrap();
            assert_eq!(got, piece);
        }
    }
}

#[test]
fn all_segments_together_are_the_original() {
    for ends in [V4, V6] {
        let whole = packet(ends, 77, Flags::ACK | Flags::PSH, &[9; 4000]);
        let mut filled = whole.clone();
        assert!(fill_checksum(&mut filled));
        assert_eq!(cut(&whole, 1448, 0..3), filled);
        assert_eq!(cut(&whole, 0, 0..1), filled);
    }
}

#[test]
fn payload_slices() {
    let parts: [&[u8]; 4] = [b"abc", b"", b"defg", b"h"];
    let text = parts.concat();
    for from in 0..=text.len() {
        for to in from..=text.len() {
            let (slices, used) = slice_payload(&parts, from..to);
            assert_eq!(slices[..used].concat(), text[from..to]);
            assert!(slices[..used].iter().all(|s| !s.is_empty()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Cutting a run out of a run is cutting it out of the whole.
    #[test]
    fn runs_of_runs(len in 1usize..9000, gso_size in 100u16..3000, v6: bool, a: prop::sample::Index, b: prop::sample::Index) {
        let payload: Vec<u8> = (0..len).map(|i| (i * 31) as u8).collect();
        let flags = Flags::ACK | Flags::PSH | Flags::CWR;
        let whole = packet(if v6 { V6 } else { V4 }, 1, flags, &payload);
        let all = count(len, gso_size);
        let (a, b) = (a.index(all), b.index(all));
        let (a, b) = (a.min(b), a.max(b));
        let run = cut(&whole, gso_size, a..b + 1);
        prop_assert_eq!(cut(&run, gso_size, 0..1), cut(&whole, gso_size, a..a + 1));
        prop_assert_eq!(cut(&run, gso_size, b - a..b - a + 1), cut(&whole, gso_size, b..b + 1));
    }

    /// Never a panic on what the network sends.
    #[test]
    fn any_octets(mut bytes in prop::collection::vec(any::<u8>(), 0..200), first: bool) {
        if first && bytes.len() > 9 { bytes[0] = 0x45; bytes[9] = 6; }
        if let Some(shape) = Shape::of(&bytes) {
            prop_assert!(shape.header_len <= bytes.len());
        }
        fill_checksum(&mut bytes);
    }
}
