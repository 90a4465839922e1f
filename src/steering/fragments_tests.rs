//! Tests of reassembly: SC-73.
#![allow(clippy::unwrap_used)]
use std::net::Ipv4Addr;

use super::*;
use crate::wire::ip;

const US: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const UDP: u8 = 17;

/// A whole packet.
fn packet(src: Ipv4Addr, protocol: u8, payload: usize) -> Vec<u8> {
    let mut packet = vec![0; 20];
    ip::write_ipv4(&mut packet, src, US, protocol, payload, ip::IpFields::default());
    packet.extend((0..payload).map(|at| (at * 7 % 251) as u8));
    packet
}

/// The octets `from..to` of its payload as a fragment.
fn cut(whole: &[u8], id: u16, from: usize, to: usize) -> Vec<u8> {
    let mut fragment = whole[..20].to_vec();
    fragment.extend_from_slice(&whole[20 + from..20 + to]);
    let more = if to < whole.len() - 20 { 0x2000 } else { 0 };
    let total = fragment.len() as u16;
    fragment[2..4].copy_from_slice(&total.to_be_bytes());
    fragment[4..6].copy_from_slice(&id.to_be_bytes());
    fragment[6..8].copy_from_slice(&((from / 8) as u16 | more).to_be_bytes());
    fragment[10..12].fill(0);
    let sum = checksum::finish(checksum::sum(&fragment[..20]));
    fragment[10..12].copy_from_slice(&sum.to_be_bytes());
    fragment
}

/// What comes of fragments that arrive in this order; whole packets.
fn join(fragments: &mut Fragments, arriving: &[Vec<u8>], now: Instant) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    for fragment in arriving {
        assert!(Fragments::is_one(fragment));
        let mut buffer = vec![0xee; 65_600];
        buffer[..fragment.len()].copy_from_slice(fragment);
        if let Joined::Whole(len) = fragments.join(&mut buffer, fragment.len(), now) {
            assert!(ip::parse(&buffer[..len], true).is_ok());
            whole.push(buffer[..len].to_vec());
        }
    }
    whole
}

#[test]
fn what_is_a_fragment() {
    let whole = packet(PEER, UDP, 3_000);
    assert!(!Fragments::is_one(&whole), "DF alone is none");
    assert!(!Fragments::is_one(&[]) && !Fragments::is_one(&[0x45; 7]) && !Fragments::is_one(&[0x60; 60]));
    assert!(Fragments::is_one(&cut(&whole, 1, 0, 8)) && Fragments::is_one(&cut(&whole, 1, 2_992, 3_000)));
}

/// IP-5: in any order, and among others; the largest that there is.
#[test]
fn ip_5_sc_73_fragments_make_a_whole() {
    let now = Instant::now();
    let whole = packet(PEER, 6, 3_000);
    let parts = [(0, 1_400), (1_400, 2_400), (2_400, 3_000)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut fragments = Fragments::default();
        let other = cut(&packet(Ipv4Addr::new(10, 7, 0, 9), 6, 3_000), 7, 0, 1_400);
        assert!(join(&mut fragments, &[other], now).is_empty());
        let arriving = order.map(|index| cut(&whole, 7, parts[index].0, parts[index].1));
        let joined = join(&mut fragments, &arriving, now);
        assert_eq!(joined.len(), 1, "{order:?}");
        assert_eq!((&joined[0][20..], joined[0].len()), (&whole[20..], whole.len()));
        assert_eq!(fragments.dropped(), [0; 3]);
        assert_eq!((fragments.partials.len(), fragments.octets), (1, 1_400));
    }
    let largest = packet(PEER, UDP, 65_515);
    let arriving: Vec<_> =
        (0..65_515).step_by(1_480).map(|at| cut(&largest, 1, at, (at + 1_480).min(65_515))).collect();
    let joined = join(&mut Fragments::default(), &arriving, now);
    assert!(joined.len() == 1 && joined[0][20..] == largest[20..]);
}

/// IP-8: nothing of such a packet is used; a fragment that comes twice does no harm.
#[test]
fn ip_8_sc_73_fragments_that_overlap_drop_the_packet() {
    let now = Instant::now();
    let whole = packet(PEER, UDP, 2_000);
    for overlap in [(0, 808), (792, 1_600), (400, 408), (1_192, 2_000)] {
        let mut fragments = Fragments::default();
        let mut forged = cut(&whole, 1, overlap.0, overlap.1);
        forged[24] ^= 1;
        let arriving = [cut(&whole, 1, 0, 800), cut(&whole, 1, 1_600, 2_000), forged];
        assert!(join(&mut fragments, &arriving, now).is_empty());
        assert!(fragments.dropped()[Unjoined::Overlap as usize] >= 2, "{overlap:?}");
        assert!(join(&mut fragments, &[cut(&whole, 1, 800, 1_600)], now).is_empty());
    }
    let mut fragments = Fragments::default();
    let twice = [(0, 800), (0, 800), (800, 1_600), (0, 800), (1_600, 2_000)].map(|(from, to)| cut(&whole, 1, from, to));
    assert_eq!(join(&mut fragments, &twice, now).len(), 1);
    assert_eq!(fragments.dropped(), [0; 3]);
    // Beyond what the last has said is the end.
    let arriving = [cut(&whole[..1_020], 1, 800, 1_000), cut(&whole, 1, 1_600, 2_000)];
    assert!(join(&mut fragments, &arriving, now).is_empty());
    assert_eq!(fragments.dropped()[Unjoined::Overlap as usize], 2);
}

/// IP-12, RFC 3128: whoever cuts the TCP header apart wants to get by a filter.
#[test]
fn ip_12_sc_73_a_tcp_header_is_not_cut() {
    let now = Instant::now();
    let whole = packet(PEER, 6, 600);
    for (from, to) in [(0, 8), (0, 16), (8, 600), (16, 600)] {
        let mut fragments = Fragments::default();
        assert!(join(&mut fragments, &[cut(&whole, 1, from, to)], now).is_empty());
        assert_eq!((fragments.dropped()[Unjoined::Odd as usize], fragments.partials.len()), (1, 0), "{from}");
    }
    let mut odd = cut(&whole, 1, 0, 100);
    odd[7] = 0; // 100 octets, and more to come
    for bad in [
        cut(&whole, 1, 0, 100),
        {
            odd[10] ^= 1;
            odd.clone()
        },
        cut(&whole, 1, 24, 24),
    ] {
        let mut fragments = Fragments::default();
        let mut buffer = bad.clone();
        assert_eq!(fragments.join(&mut buffer, bad.len(), now), Joined::Taken);
        assert_eq!(fragments.dropped()[Unjoined::Odd as usize], 1);
    }
}

/// IP-6, IP-7: what is never finished goes in time, and takes no more than its share.
#[test]
fn ip_7_sc_73_what_is_never_finished_has_a_bound() {
    let now = Instant::now();
    let mut fragments = Fragments::default();
    let honest = packet(Ipv4Addr::new(10, 7, 0, 99), UDP, 3_000);
    assert!(join(&mut fragments, &[cut(&honest, 5, 0, 1_480)], now).is_empty());
    // One source takes its share; many take each other's places.
    for id in 0..1_000 {
        join(&mut fragments, &[cut(&packet(PEER, UDP, 60_000), id, 59_200, 59_992)], now);
    }
    assert_eq!(fragments.partials.len(), 1 + OF_A_SOURCE);
    assert_eq!(join(&mut fragments, &[cut(&honest, 5, 1_480, 3_000)], now).len(), 1, "others are untouched");
    for index in 0..10_000_u32 {
        let source = Ipv4Addr::from(0x0a08_0000 + index);
        join(&mut fragments, &[cut(&packet(source, UDP, 3_000), 1, 0, 1_480)], now);
        assert!(fragments.partials.len() <= PACKETS && fragments.octets <= OCTETS + 65_536);
    }
    assert!(fragments.dropped()[Unjoined::Unfinished as usize] > 10_000);
    let held: usize = fragments.partials.iter().map(|partial| partial.data.len()).sum();
    assert_eq!(fragments.octets, held);
    join(&mut fragments, &[cut(&honest, 6, 0, 1_480)], now + PATIENCE + Duration::from_secs(1));
    assert_eq!(fragments.partials.len(), 1, "the others were too late");
}
