//! Tests of reassembly: SC-73.
#![allow(clippy::unwrap_used)]
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

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

const US_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 7, 0, 0, 0, 2);
const PEER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 7, 0, 0, 0, 1);
/// A hop-by-hop and a routing header with nothing in them; the first names the second, the second what follows.
const EACH: [u8; 16] = [43, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A whole packet of IPv6, with what each fragment is to have (the last octet of which names what follows is set here).
fn packet_v6(src: Ipv6Addr, each: &[u8], protocol: u8, payload: usize) -> Vec<u8> {
    let mut packet = vec![0; 40];
    let next = if each.is_empty() { protocol } else { 0 };
    ip::write_ipv6(&mut packet, src, US_V6, next, each.len() + payload, ip::IpFields::default());
    packet.extend_from_slice(each);
    if !each.is_empty() {
        packet[48] = protocol;
    }
    packet.extend((0..payload).map(|at| (at * 7 % 251) as u8));
    packet
}

/// The octets `from..to` of what follows the first `headers` octets, as a fragment.
fn cut_v6(whole: &[u8], headers: usize, id: u32, from: usize, to: usize) -> Vec<u8> {
    let mut fragment = whole[..headers].to_vec();
    let named_at = if headers == 40 { 6 } else { 48 };
    let protocol = std::mem::replace(&mut fragment[named_at], 44);
    let more = u16::from(headers + to < whole.len());
    fragment.extend_from_slice(&[protocol, 0]);
    fragment.extend_from_slice(&(from as u16 | more).to_be_bytes());
    fragment.extend_from_slice(&id.to_be_bytes());
    fragment.extend_from_slice(&whole[headers + from..headers + to]);
    let len = (fragment.len() - 40) as u16;
    fragment[4..6].copy_from_slice(&len.to_be_bytes());
    fragment
}

/// What one fragment comes to.
fn join_one(fragments: &mut Fragments, fragment: &[u8], now: Instant) -> Joined {
    let mut buffer = fragment.to_vec();
    fragments.join(&mut buffer, fragment.len(), now)
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
    assert!(
        !Fragments::is_one(&[])
            && !Fragments::is_one(&[0x45; 7])
            && !Fragments::is_one(&[0x60; 60])
            && !Fragments::is_one(&packet_v6(PEER_V6, &[], 6, 3_000))
    );
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
        assert_eq!(fragments.dropped(), [0; Unjoined::COUNT]);
        assert_eq!((fragments.partials.len(), fragments.octets), (1, 1_420));
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
    assert_eq!(fragments.dropped(), [0; Unjoined::COUNT]);
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
        assert_eq!((fragments.dropped()[Unjoined::Tiny as usize], fragments.partials.len()), (1, 0), "{from}");
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
    let held: usize = fragments.partials.iter().map(Partial::held).sum();
    assert_eq!(fragments.octets, held);
    join(&mut fragments, &[cut(&honest, 6, 0, 1_480)], now + PATIENCE_V4 + Duration::from_secs(1));
    assert_eq!(fragments.partials.len(), 1, "the others were too late");
}

/// IP-5, RFC 8200 4.5: in any order, with what stands before the fragment header and without.
#[test]
fn ip_5_sc_73_fragments_of_ipv6_make_a_whole() {
    let now = Instant::now();
    for each in [&[][..], &EACH] {
        let headers = 40 + each.len();
        let whole = packet_v6(PEER_V6, each, 6, 3_000);
        let parts = [(0, 1_208), (1_208, 2_416), (2_416, 3_000)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut fragments = Fragments::default();
            // The same number of another host, and of IPv4.
            let other = cut_v6(&packet_v6("fd00::9".parse().unwrap(), &[], 6, 3_000), 40, 7, 0, 1_208);
            assert!(join(&mut fragments, &[other, cut(&packet(PEER, 6, 3_000), 7, 0, 1_400)], now).is_empty());
            let arriving = order.map(|index| cut_v6(&whole, headers, 7, parts[index].0, parts[index].1));
            let joined = join(&mut fragments, &arriving, now);
            assert_eq!(joined.len(), 1, "{order:?}");
            assert_eq!(joined[0], whole, "{order:?}");
            assert_eq!((fragments.dropped(), fragments.partials.len()), ([0; Unjoined::COUNT], 2));
        }
    }
    let largest = packet_v6(PEER_V6, &[], UDP, 65_535);
    let arriving: Vec<_> =
        (0..65_535).step_by(1_232).map(|at| cut_v6(&largest, 40, 1, at, (at + 1_232).min(65_535))).collect();
    let joined = join(&mut Fragments::default(), &arriving, now);
    assert!(joined.len() == 1 && joined[0] == largest);
}

/// IP-11, RFC 6946: one that is all of its packet is no fragment, whatever else has its number.
#[test]
fn ip_11_sc_73_an_atomic_fragment_is_a_packet() {
    let whole = packet_v6(PEER_V6, &EACH, 6, 100);
    let atomic = cut_v6(&whole, 56, 5, 0, 100);
    assert!(!Fragments::is_one(&atomic));
    assert_eq!(ip::parse(&atomic, true).unwrap().payload, &whole[56..]);
    assert!(Fragments::is_one(&cut_v6(&whole, 56, 5, 0, 96)) && Fragments::is_one(&cut_v6(&whole, 56, 5, 96, 100)));
}

/// IP-9, RFC 5722: nothing of such a packet is used, also not what comes afterwards; nobody is told.
#[test]
fn ip_9_sc_73_fragments_of_ipv6_that_overlap_drop_the_packet() {
    let now = Instant::now();
    let whole = packet_v6(PEER_V6, &[], UDP, 2_000);
    for (from, to) in [(0, 808), (792, 1_600), (400, 408), (1_192, 2_000)] {
        let mut fragments = Fragments::default();
        let mut forged = cut_v6(&whole, 40, 1, from, to);
        forged[50] ^= 1;
        let arriving = [cut_v6(&whole, 40, 1, 0, 800), cut_v6(&whole, 40, 1, 1_600, 2_000), forged];
        assert!(join(&mut fragments, &arriving, now).is_empty());
        // All of it anew: still of that packet.
        let again = [(0, 800), (800, 1_600), (1_600, 2_000)].map(|(from, to)| cut_v6(&whole, 40, 1, from, to));
        assert!(join(&mut fragments, &again, now).is_empty());
        assert_eq!(fragments.dropped()[Unjoined::Overlap as usize], 6, "{from}");
        assert_eq!((fragments.octets, fragments.partials.len()), (0, 1));
        fragments.expire(now + PATIENCE_V6 + Duration::from_secs(1));
        assert!(fragments.take_late().is_none() && fragments.partials.is_empty());
        assert_eq!(fragments.dropped()[Unjoined::Unfinished as usize], 0);
        assert_eq!(join(&mut fragments, &again, now).len(), 1, "the number is free again");
    }
    let mut fragments = Fragments::default();
    let twice = [(0, 800), (0, 800), (800, 1_600), (0, 800), (1_600, 2_000)];
    let twice = twice.map(|(from, to)| cut_v6(&whole, 40, 1, from, to));
    assert_eq!(join(&mut fragments, &twice, now).len(), 1);
    assert_eq!(fragments.dropped(), [0; Unjoined::COUNT]);
}

/// IP-10, IP-11: what is told to whoever sends such.
#[test]
fn ip_10_ip_11_sc_73_fragments_of_ipv6_that_cannot_be_are_refused() {
    let now = Instant::now();
    let whole = packet_v6(PEER_V6, &[], 6, 2_000);
    let mut length = cut_v6(&whole, 40, 1, 0, 804);
    length[43] |= 1;
    // 65,528 and eight more are a packet that there is, nine are none.
    let mut offset = cut_v6(&whole, 40, 1, 1_991, 2_000);
    offset[42..44].copy_from_slice(&0xfff8_u16.to_be_bytes());
    let mut fits = cut_v6(&whole, 40, 2, 1_993, 2_000);
    fits[42..44].copy_from_slice(&0xfff8_u16.to_be_bytes());
    let tiny = cut_v6(&whole, 40, 1, 0, 16);
    // A first fragment that ends in the midst of its destination options, or of TCP behind them.
    let mut options = whole.clone();
    options[6] = 60;
    options[40..56].copy_from_slice(&[6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let (in_options, in_tcp) = (cut_v6(&options, 40, 1, 0, 8), cut_v6(&options, 40, 1, 0, 32));
    for (fragment, refusal, why) in [
        (&length, Refusal::Length, Unjoined::Odd),
        (&offset, Refusal::Offset, Unjoined::Odd),
        (&tiny, Refusal::Chain, Unjoined::Tiny),
        (&in_options, Refusal::Chain, Unjoined::Tiny),
        (&in_tcp, Refusal::Chain, Unjoined::Tiny),
    ] {
        let mut fragments = Fragments::default();
        assert_eq!(join_one(&mut fragments, fragment, now), Joined::Refused(refusal));
        assert_eq!((fragments.dropped()[why as usize], fragments.partials.len()), (1, 0));
    }
    let mut fragments = Fragments::default();
    for taken in [fits, cut_v6(&options, 40, 1, 0, 40)] {
        assert_eq!(join_one(&mut fragments, &taken, now), Joined::Taken);
    }
    assert_eq!((fragments.dropped(), fragments.partials.len()), ([0; Unjoined::COUNT], 2));
    // Cut short by somebody, or without anything in it: silently.
    let short = cut_v6(&whole, 40, 1, 0, 800);
    let mut empty = cut_v6(&whole, 40, 1, 8, 16);
    empty.truncate(48);
    empty[4..6].copy_from_slice(&8_u16.to_be_bytes());
    for silent in [&short[..840], &empty] {
        assert_eq!(join_one(&mut fragments, silent, now), Joined::Taken);
    }
    assert_eq!(fragments.dropped()[Unjoined::Odd as usize], 2);
}

/// IP-6, RFC 8200 4.5: told is who has sent the first fragment of what was never finished.
#[test]
fn ip_6_sc_73_the_first_fragment_of_what_is_late_is_told_of() {
    let now = Instant::now();
    let (v4, v6) = (packet(PEER, UDP, 3_000), packet_v6(PEER_V6, &EACH, UDP, 3_000));
    let first = [cut(&v4, 1, 0, 1_480), cut_v6(&v6, 56, 1, 0, 1_400)];
    let later = [cut(&v4, 2, 1_480, 3_000), cut_v6(&v6, 56, 2, 1_400, 3_000)];
    let mut fragments = Fragments::default();
    join(&mut fragments, &[&first[..], &later].concat(), now);
    assert_eq!(fragments.deadline(), Some(now + PATIENCE_V4));
    fragments.expire(now + PATIENCE_V4 - Duration::from_millis(1));
    assert_eq!(fragments.dropped(), [0; Unjoined::COUNT]);
    for (patience, first) in [(PATIENCE_V4, &first[0]), (PATIENCE_V6, &first[1])] {
        fragments.expire(now + patience);
        assert_eq!(fragments.take_late(), Some((first[..LONGEST_ERROR].to_vec(), Refusal::Late)));
        assert_eq!(fragments.take_late(), None, "not of the one without a first fragment");
    }
    assert_eq!((fragments.dropped()[Unjoined::Unfinished as usize], fragments.deadline()), (4, None));
    // Who made way for others is told nothing: that would be an answer to each packet of a flood.
    for id in 0..2 * OF_A_SOURCE as u32 {
        join(&mut fragments, &[cut_v6(&v6, 56, id, 0, 1_400)], now);
    }
    assert!(fragments.take_late().is_none() && fragments.partials.len() == OF_A_SOURCE);
}

/// IP-7: a network of 64 bits is one source, however many addresses it has; headers count, too.
#[test]
fn ip_7_sc_73_a_network_of_ipv6_has_one_share() {
    let now = Instant::now();
    let mut fragments = Fragments::default();
    let honest = packet_v6("fd00:1::1".parse().unwrap(), &[], UDP, 2_000);
    assert!(join(&mut fragments, &[cut_v6(&honest, 40, 5, 0, 1_000)], now).is_empty());
    for host in 0..1_000_u16 {
        let source = Ipv6Addr::new(0xfd00, 0, 0, 7, 0, 0, 0, host);
        join(&mut fragments, &[cut_v6(&packet_v6(source, &[], UDP, 65_000), 40, 1, 59_200, 59_992)], now);
    }
    assert_eq!(fragments.partials.len(), 1 + OF_A_SOURCE);
    assert_eq!(join(&mut fragments, &[cut_v6(&honest, 40, 5, 1_000, 2_000)], now).len(), 1, "others are untouched");
    for network in 0..3_000_u16 {
        let source = Ipv6Addr::new(0xfd00, 0, 1, network, 0, 0, 0, 1);
        let mut packet = packet_v6(source, &EACH, UDP, 40_000);
        // Destination options as long as they can be take the place of data.
        packet.splice(40..56, [60, 255, 1, 254].into_iter().chain([0; 2_044]).chain([44, 0, 1, 4, 0, 0, 0, 0]));
        packet[6] = 0;
        let headers = packet.len() - 40_000;
        let mut fragment = cut_v6(&packet, headers, 1, 0, 32_000);
        fragment[headers] = UDP;
        assert_eq!(join_one(&mut fragments, &fragment, now), Joined::Taken);
        assert!(fragments.partials.len() <= PACKETS && fragments.octets <= OCTETS);
    }
    // Without their headers one more would find room.
    assert_eq!((fragments.partials.len(), OCTETS / (32_000 + 2_104)), (30, 30));
    assert_eq!(fragments.octets, fragments.partials.iter().map(Partial::held).sum::<usize>());
}

proptest! {
    /// Fragments of a packet in any order, any of them several times, some perhaps never: the packet, or nothing.
    #[test]
    fn ip_5_sc_73_any_order_gives_the_packet_or_nothing(
        v6 in any::<bool>(),
        headers in any::<bool>(),
        payload in 24_usize..9_000,
        cuts in prop::collection::vec(1_usize..1_100, 0..8),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..30),
        complete in any::<bool>(),
    ) {
        let each: &[u8] = if headers { &EACH } else { &[] };
        let whole = if v6 { packet_v6(PEER_V6, each, UDP, payload) } else { packet(PEER, UDP, payload) };
        // The first has the whole UDP header; at least two make a packet.
        let mut places: Vec<_> = cuts.iter().map(|cut| cut * 8).filter(|place| *place < payload).collect();
        places.extend([0, 8, payload]);
        places.sort_unstable();
        places.dedup();
        let parts: Vec<_> = places.windows(2).map(|ends| {
            if v6 { cut_v6(&whole, 40 + each.len(), 3, ends[0], ends[1]) } else { cut(&whole, 3, ends[0], ends[1]) }
        }).collect();
        let mut arriving: Vec<_> = order.iter().map(|index| index.index(parts.len())).collect();
        if complete {
            arriving.extend(0..parts.len());
        }
        let mut fragments = Fragments::default();
        let mut missing: std::collections::BTreeSet<_> = (0..parts.len()).collect();
        for index in arriving {
            missing.remove(&index);
            let joined = join(&mut fragments, &parts[index..=index], Instant::now());
            prop_assert_eq!(joined.len(), usize::from(missing.is_empty()));
            if let Some(joined) = joined.first() {
                let headers = if v6 { 0 } else { 20 };
                prop_assert_eq!(&joined[headers..], &whole[headers..]);
                missing = (0..parts.len()).collect();
            }
        }
        prop_assert_eq!(fragments.dropped(), [0; Unjoined::COUNT]);
        let held: usize = fragments.partials.iter().map(Partial::held).sum();
        prop_assert_eq!(fragments.octets, held);
    }
}
