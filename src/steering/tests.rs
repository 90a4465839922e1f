//! Tests of the steering hash, the owner table and the choice of ports.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::flow::{Endpoint, Quad, ShardId};
use crate::wire::{PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, ip};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const US: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const PEER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
const US6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));

fn keys() -> SteeringKeys {
    SteeringKeys::from_random(*b"0123456789abcdef")
}

fn quad(remote: IpAddr, remote_port: u16, local: IpAddr, local_port: u16) -> Quad {
    Quad { local: Endpoint::new(local, local_port), remote: Endpoint::new(remote, remote_port) }
}

/// The start of a packet of this flow, as it comes in (`incoming`) or goes out.
fn packet(quad: &Quad, incoming: bool) -> Vec<u8> {
    let (from, to) = if incoming { (quad.remote, quad.local) } else { (quad.local, quad.remote) };
    let mut packet = vec![0; ip::header_len(from.addr)];
    ip::write(&mut packet, from.addr, to.addr, PROTOCOL_TCP, 20, ip::IpFields::default());
    packet.extend_from_slice(&from.port.to_be_bytes());
    packet.extend_from_slice(&to.port.to_be_bytes());
    packet.extend_from_slice(&[0; 16]);
    packet
}

#[test]
fn keys_are_not_printed() {
    assert_eq!(format!("{:?}", keys()), "SteeringKeys(..)");
}

#[test]
fn ip_options_do_not_move_a_flow() {
    let q = quad(PEER, 40_000, US, 80);
    let plain = packet(&q, true);
    let mut long = [&plain[..20], &[1; 12], &plain[20..]].concat();
    long[0] = 0x48;
    assert_eq!(keys().hash_packet(&long), keys().hash_quad(&q));
}

#[test]
fn fragments_and_others_go_by_addresses() {
    let (a, b) = (packet(&quad(PEER, 1, US, 80), true), packet(&quad(PEER, 2, US, 80), true));
    assert_ne!(keys().hash_packet(&a), keys().hash_packet(&b));
    type Change = fn(&mut Vec<u8>);
    let cases: &[(&str, Change)] = &[
        ("first fragment", |p| p[6] = 0x20),
        ("later fragment", |p| p[7] = 9),
        ("UDP", |p| p[9] = 17),
        ("ICMP", |p| p[9] = 1),
        ("cut", |p| p.truncate(39)),
        ("IHL 4", |p| p[0] = 0x44),
    ];
    for (name, change) in cases {
        let (mut a, mut b) = (a.clone(), b.clone());
        change(&mut a);
        change(&mut b);
        assert_eq!(keys().hash_packet(&a), keys().hash_packet(&b), "{name}");
    }
    assert_eq!(keys().hash_packet(&[]), 0);
    assert_eq!(keys().hash_packet(&a[..19]), 0);
    assert_eq!(keys().hash_packet(&[0x50; 60]), 0);
}

#[test]
fn icmp_errors_go_to_the_quoted_flow() {
    for (q, protocol, kind) in
        [(quad(PEER, 40_000, US, 80), PROTOCOL_ICMP, 3), (quad(PEER6, 40_000, US6, 80), PROTOCOL_ICMPV6, 1)]
    {
        let mut error = vec![0; ip::header_len(US)];
        if protocol == PROTOCOL_ICMPV6 {
            error = vec![0; ip::header_len(US6)];
        }
        // From a router in between: its address must not matter.
        let router =
            if protocol == PROTOCOL_ICMP { IpAddr::from([172, 16, 0, 9]) } else { "fd00::99".parse().unwrap() };
        let quoted = packet(&q, false);
        ip::write(&mut error, router, q.local.addr, protocol, 8 + quoted.len(), ip::IpFields::default());
        error.extend_from_slice(&[kind, 1, 0, 0, 0, 0, 0, 0]);
        error.extend_from_slice(&quoted);
        assert_eq!(keys().hash_icmp_error(&error), Some(keys().hash_quad(&q)));
        assert_eq!(keys().hash_owner(&error), keys().hash_quad(&q));
        let at = error.len() - quoted.len() - 8;
        error[at] = if protocol == PROTOCOL_ICMP { 8 } else { 128 };
        assert_eq!(keys().hash_icmp_error(&error), None, "echo");
        assert_eq!(keys().hash_owner(&error), keys().hash_packet(&error), "echo");
    }
}

#[test]
fn extension_headers_do_not_move_a_flow() {
    let q = quad(PEER6, 40_000, US6, 80);
    let plain = packet(&q, true);
    let mut extended = [&plain[..40], &[PROTOCOL_TCP, 0, 1, 4, 0, 0, 0, 0], &plain[40..]].concat();
    (extended[5], extended[6]) = (28, 60);
    assert_eq!(keys().hash_owner(&extended), keys().hash_quad(&q));
    assert_ne!(keys().hash_packet(&extended), keys().hash_quad(&q), "what the kernel's program sees");
}

/// Flows that differ in few bits, as those of one client or of neighbours do, must spread over buckets and shards like
/// balls thrown at random.
#[test]
fn spread() {
    const FLOWS: u16 = 16_384;
    type Nth = fn(u16, IpAddr, IpAddr) -> Quad;
    let series: [(&str, Nth); 5] = [
        ("one client, ports in order", |i, peer, us| quad(peer, 32_768 + i, us, 5_201)),
        ("one client, every fourth port", |i, peer, us| quad(peer, i * 4, us, 80)),
        ("we connect, ports in order", |i, peer, us| quad(peer, 80, us, 32_768 + i)),
        ("many clients, one port", |i, peer, us| quad(neighbour(peer, i), 40_000, us, 80)),
        ("many clients, some ports", |i, peer, us| quad(neighbour(peer, i / 64), 40_000 + i % 64, us, 80)),
    ];
    for key in 0..16u8 {
        let byte = |i: usize| key.wrapping_mul(57).wrapping_add((i as u8).wrapping_mul(31));
        let keys = SteeringKeys::from_random(std::array::from_fn(byte));
        let table = OwnerTable::in_memory(4);
        for (peer, us) in [(PEER, US), (PEER6, US6)] {
            for (name, nth) in series {
                let hashes: Vec<u32> = (0..FLOWS).map(|i| keys.hash_quad(&nth(i, peer, us))).collect();
                let distinct = hashes.iter().collect::<HashSet<_>>().len();
                assert!(distinct > 14_000, "{name}, key {key}, {peer}: {distinct} buckets, 14,500 by chance");
                let mut shards = [0; 4];
                hashes.iter().for_each(|&h| shards[table.owner(h).index()] += 1);
                assert!(shards.iter().all(|n| (3_750..4_450).contains(n)), "{name}, key {key}, {peer}: {shards:?}");
            }
        }
    }
}

fn neighbour(addr: IpAddr, n: u16) -> IpAddr {
    match addr {
        IpAddr::V4(a) => IpAddr::from((a.to_bits() + u32::from(n)).to_be_bytes()),
        IpAddr::V6(a) => IpAddr::from((a.to_bits() + u128::from(n)).to_be_bytes()),
    }
}

#[test]
fn owner_table() {
    let table = OwnerTable::in_memory(3);
    for hash in [0, 1, 2, 3, 65_535] {
        assert_eq!(table.owner(hash), ShardId((hash % 3) as u16));
    }
    assert_eq!(table.owner(65_536 + 4), ShardId(1), "only 16 bits count");
    table.set(5, None);
    assert_eq!((table.owner(5), table.claimed(5)), (ShardId(2), None), "as the hash says");
    table.set(5, Some(ShardId(9)));
    assert_eq!((table.owner(5), table.claimed(5)), (ShardId(9), Some(ShardId(9))));
    assert_eq!((table.shards(), table.owner(4), table.owner(6)), (3, ShardId(1), ShardId(0)));
}

#[test]
fn a_bucket_is_claimed_by_the_first_and_given_back_by_its_owner() {
    let table = OwnerTable::by_birth(3);
    let (a, b) = (ShardId(0), ShardId(1));
    assert!(table.is_by_birth() && !OwnerTable::in_memory(3).is_by_birth());
    assert_eq!((table.claimed(7), table.owner(7), table.claimed_buckets()), (None, ShardId(1), 0));
    assert!(table.is_open_to(7, a) && table.is_open_to(7, b));
    assert_eq!((table.claim(7, a), table.claim(7, b), table.claim(7, a)), (a, a, a));
    assert!(table.is_open_to(7, a) && !table.is_open_to(7, b));
    assert!(!table.release(7, b), "it is another's");
    assert_eq!((table.owner(7), table.claimed_buckets()), (a, 1));
    assert!(table.release(7, a) && !table.release(7, a));
    assert_eq!((table.claimed(7), table.claimed_buckets()), (None, 0));
    // Where its SYN was read, unless that shard takes none: then as the hash says.
    assert_eq!((table.claim_birth(7, a), table.claim_birth(8, a)), (a, a));
    table.tell_load(a, 1_000, false);
    assert_eq!((table.claim_birth(10, a), table.claim_birth(9, a), table.claim_birth(9, b)), (b, a, a));
    table.tell_load(a, 10, false);
    assert_eq!(table.claim_birth(11, a), a);
    // In a table that is dealt out nothing is to be had.
    let dealt = OwnerTable::in_memory(3);
    assert_eq!((dealt.claim(7, a), dealt.is_open_to(7, a), dealt.is_open_to(7, b)), (b, false, true));
}

#[test]
fn a_flow_is_born_of_a_syn_alone() {
    let with = |version, flags: u8| {
        let (peer, us) = if version == 4 { (PEER, US) } else { (PEER6, US6) };
        let mut packet = packet(&quad(peer, 40_000, us, 80), true);
        let at = packet.len() - 7;
        packet[at] = flags;
        packet
    };
    for version in [4, 6] {
        // With ECN as without.
        for flags in [0x02, 0xc2] {
            assert!(SteeringKeys::is_birth(&with(version, flags)), "{flags:#x}");
        }
        for flags in [0x00, 0x10, 0x12, 0x06, 0x04, 0x11] {
            assert!(!SteeringKeys::is_birth(&with(version, flags)), "{flags:#x}");
        }
    }
    let syn = with(4, 2);
    let mut long = [&syn[..20], &[1; 12], &syn[20..]].concat();
    long[0] = 0x48;
    assert!(SteeringKeys::is_birth(&long));
    let mut fragment = syn.clone();
    fragment[6] = 0x20;
    let mut udp = syn.clone();
    udp[9] = 17;
    for other in [fragment, udp, syn[..39].to_vec(), Vec::new()] {
        assert!(!SteeringKeys::is_birth(&other), "{other:?}");
    }
}

#[test]
fn a_port_may_lead_to_a_bucket_that_is_vacant() {
    let (keys, table, remote) = (&keys(), &OwnerTable::by_birth(2), Endpoint::new(PEER, 80));
    let draw = |shard| {
        let is_ours = move |quad: &Quad| table.is_open_to(keys.hash_quad(quad), ShardId(shard));
        ports_for_shard(is_ours, US, remote, 7, 1_000..=1_999)
    };
    assert_eq!((draw(0).count(), draw(1).count()), (1_000, 1_000));
    for port in 1_000..1_400 {
        table.claim(keys.hash_quad(&quad(PEER, 80, US, port)), ShardId(1));
    }
    // Some share a bucket.
    assert_eq!(draw(1).count(), 1_000);
    assert!((590..=600).contains(&draw(0).count()), "{}", draw(0).count());
}

#[test]
fn rfc6056_ports_of_a_shard() {
    let (keys, table, remote) = (&keys(), &OwnerTable::in_memory(4), Endpoint::new(PEER, 80));
    let draw = |shard, start, range| {
        let is_ours = move |quad: &Quad| table.owner(keys.hash_quad(quad)) == ShardId(shard);
        ports_for_shard(is_ours, US, remote, start, range)
    };
    let mut all = Vec::new();
    for shard in 0..4 {
        let ports: Vec<u16> = draw(shard, 12_345, EPHEMERAL_PORTS).collect();
        assert!(ports.iter().all(|&p| table.owner(keys.hash_quad(&quad(PEER, 80, US, p))) == ShardId(shard)));
        assert!(ports.len() > 7_000, "shard {shard}: {}", ports.len());
        all.extend(ports);
    }
    all.sort_unstable();
    assert_eq!(all, EPHEMERAL_PORTS.collect::<Vec<_>>(), "each port has one owner and comes once");

    assert_ne!(draw(1, 0, EPHEMERAL_PORTS).next(), draw(1, 9_999, EPHEMERAL_PORTS).next(), "the start is the caller's");
    assert_eq!(draw(4, 7, EPHEMERAL_PORTS).next(), None, "a shard without buckets");
    let ports: Vec<u16> = ports_for_shard(|_| true, US, remote, 7, 10..=14).collect();
    assert_eq!(ports, [12, 13, 14, 10, 11]);
    assert_eq!(ports_for_shard(|_| true, US, remote, 7, 0..=u16::MAX).count(), 65_536);
}

proptest! {
    #[test]
    fn packet_and_quad_agree(a: [u8; 16], b: [u8; 16], ports: (u16, u16), v6: bool, key: [u8; 16]) {
        let address = |o: [u8; 16]| if v6 { IpAddr::from(o) } else { IpAddr::from(*o.first_chunk::<4>().unwrap()) };
        let q = quad(address(a), ports.0, address(b), ports.1);
        let keys = SteeringKeys::from_random(key);
        let incoming = packet(&q, true);
        prop_assert_eq!(keys.hash_packet(&incoming), keys.hash_quad(&q));
        prop_assert_eq!(keys.hash_owner(&incoming), keys.hash_quad(&q));
        prop_assert!(keys.hash_quad(&q) < BUCKETS as u32);
    }

    #[test]
    fn any_octets_end_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), version in 0u8..3) {
        if let Some(first) = bytes.first_mut() {
            *first = match version { 0 => 0x45, 1 => 0x60, _ => *first };
        }
        let _ = (SteeringKeys::is_birth(&bytes), keys().hash_packet(&bytes), keys().hash_owner(&bytes), keys().hash_icmp_error(&bytes));
    }
}
