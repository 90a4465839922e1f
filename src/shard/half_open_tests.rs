#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;
use crate::tcp::units::UnscaledWindow;
use crate::tcp::{Config, Duration, Handshake, OpenParams, Segment, SeqNum};
use crate::wire::options::TcpOptions;
use crate::wire::tcp::Flags;
use proptest::prelude::*;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));
const LISTENER: Target = Target { service: 5, listener: 3 };
const FIXED_PORT: Target = Target { service: 5, listener: NO_LISTENER };

fn hasher() -> FlowHasher {
    FlowHasher::from_random([3; 16])
}

fn table(cap: usize) -> HalfOpenTable {
    HalfOpenTable::new(cap, &[V4, V6], hasher())
}

fn quad(index: u32) -> Quad {
    let (local, remote) = if index.is_multiple_of(2) {
        (V4, IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + index)))
    } else {
        (V6, IpAddr::V6(Ipv6Addr::from((0xfd01 << 112) + (u128::from(index) << 64) + 1)))
    };
    Quad { local: Endpoint::new(local, 80), remote: Endpoint::new(remote, 4_000) }
}

fn flow(quad: &Quad) -> Flow {
    Flow { quad: *quad, hash: hasher().hash(quad) }
}

fn take(table: &mut HalfOpenTable, slot: u32) -> Option<(Place, Record)> {
    let quad = table.place(slot)?.quad;
    table.take(slot, hasher().hash(&quad))
}

/// One whose SYN-ACK was sent at `at` and repeated `timeouts` times since.
fn handshake(at: Instant, timeouts: u8) -> HalfOpen {
    let config = Config::default();
    let params =
        OpenParams { iss: SeqNum(1), ts_offset: 0, mss: 1_460, peer_mss: 536, first_window: Default::default() };
    let options = TcpOptions::default();
    let syn = Segment {
        seq: SeqNum(7),
        ack: SeqNum(0),
        flags: Flags::SYN,
        window: UnscaledWindow(9),
        urgent: 0,
        options,
        len: 0,
    };
    let mut handshake = Handshake::accept(&config, params, &syn, at);
    let _ = handshake.poll_transmit(&config, at);
    for _ in 0..timeouts {
        let at = handshake.next_timeout().unwrap();
        let _ = handshake.on_timeout(&config, at);
        let _ = handshake.poll_transmit(&config, at);
    }
    HalfOpen::pack(&handshake).unwrap()
}

fn insert(table: &mut HalfOpenTable, index: u32, target: Target, handshake: HalfOpen) -> Option<u32> {
    let quad = quad(index);
    table.insert(&flow(&quad), target, IpFields::default(), u64::from(index), handshake)
}

fn find(table: &HalfOpenTable, index: u32) -> Option<u32> {
    table.find(hasher().hash(&quad(index)), &quad(index))
}

#[test]
fn rfc4987_3_5_a_record_with_all_that_is_about_it_takes_96_octets() {
    assert_eq!(size_of::<Record>(), 96);
    assert_eq!(size_of::<Option<Record>>(), 96);
}

#[test]
fn what_a_record_is_about_comes_back() {
    let mut table = table(8);
    let ip = IpFields { ttl: 9, traffic_class: 0xb8 };
    for (index, target) in [(0, LISTENER), (1, FIXED_PORT)] {
        let quad = quad(index);
        let at = handshake(Instant::from_secs(1), 0);
        let slot = table.insert(&flow(&quad), target, ip, 77, at).unwrap();
        let expected = Place { quad, ip, listener: target.listener, service: if index == 0 { 0 } else { 5 } };
        assert_eq!(table.place(slot), Some(expected));
        assert_eq!(find(&table, index), Some(slot));
        let (place, record) = take(&mut table, slot).unwrap();
        assert_eq!((place, record.ticket, record.handshake), (expected, 77, at));
        assert_eq!((find(&table, index), table.len()), (None, 0));
    }
    let stranger = Quad { local: Endpoint::new(IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9)), 80), ..quad(0) };
    let at = handshake(Instant::ZERO, 0);
    assert_eq!(table.insert(&flow(&stranger), LISTENER, ip, 1, at), None, "no address of ours");
}

#[test]
fn a_source_has_its_share_and_no_more() {
    let mut table = table(1_024);
    let one = IpAddr::V4(Ipv4Addr::new(11, 0, 0, 1));
    let mut slots = Vec::new();
    for port in 0..128 {
        assert!(!table.has_share(one), "{port}");
        let quad = Quad { local: Endpoint::new(V4, 80), remote: Endpoint::new(one, port) };
        let at = handshake(Instant::ZERO, 0);
        slots.push(table.insert(&flow(&quad), LISTENER, IpFields::default(), 0, at).unwrap());
    }
    assert!(table.has_share(one), "an eighth");
    let others = (2..255).map(|last| IpAddr::V4(Ipv4Addr::new(11, 0, 0, last)));
    assert!(others.filter(|addr| table.has_share(*addr)).count() <= 1, "not that of others");
    take(&mut table, slots[0]);
    assert!(!table.has_share(one));
    // All of an IPv6 network are one source.
    let at = |network: u128, host: u128| IpAddr::V6(Ipv6Addr::from((network << 64) + host));
    for host in 0..128 {
        assert!(!table.has_share(at(0xfd01, 9)));
        let quad = Quad { local: Endpoint::new(V6, 80), remote: Endpoint::new(at(0xfd01, host), 1) };
        let made = handshake(Instant::ZERO, 0);
        table.insert(&flow(&quad), LISTENER, IpFields::default(), 0, made).unwrap();
    }
    assert!(table.has_share(at(0xfd01, 999)) && !table.has_share(at(0xfd02, 0)));
}

#[test]
fn the_oldest_is_the_one_that_was_repeated_most() {
    let mut table = table(8);
    let at = Instant::from_secs;
    for (index, sent, timeouts) in [(0, 100, 0), (1, 101, 0), (2, 97, 1), (3, 98, 1), (4, 90, 3)] {
        insert(&mut table, index, LISTENER, handshake(at(sent), timeouts)).unwrap();
    }
    let mut order = Vec::new();
    while let Some(slot) = table.oldest() {
        order.push(take(&mut table, slot).unwrap().1.ticket);
    }
    assert_eq!(order, [4, 2, 3, 0, 1]);
}

#[test]
fn a_listener_s_records_are_found() {
    let mut table = table(100);
    for index in 0..60_u32 {
        let target = if index.is_multiple_of(3) { LISTENER } else { FIXED_PORT };
        insert(&mut table, index, target, handshake(Instant::ZERO, 0)).unwrap();
    }
    let is_child = |slot: &u32| table.place(*slot).is_some_and(|place| place.listener == LISTENER.listener);
    let slots: Vec<u32> = (0..table.slots()).filter(is_child).collect();
    assert_eq!(slots.len(), 20);
    assert!(slots.iter().all(|slot| table.at(*slot).unwrap().ticket.is_multiple_of(3)));
}

proptest! {
    /// Against a map: everything that is there is found, deadlines come out in order of time, nothing is lost.
    #[test]
    fn the_table_agrees_with_a_map(steps in proptest::collection::vec((0_u32..40, 0_u8..5, 0_u64..3_000), 1..300)) {
        let config = Config::default();
        let mut table = table(24);
        let mut model: BTreeMap<u32, HalfOpen> = BTreeMap::new();
        let mut now = Instant::from_secs(50);
        for (index, what, millis) in steps {
            let found = find(&table, index);
            prop_assert_eq!(found.map(|slot| table.at(slot).unwrap().handshake), model.get(&index).copied());
            match (what, found) {
                (0 | 1, None) => {
                    let made = handshake(now, 0);
                    let added = insert(&mut table, index, LISTENER, made);
                    prop_assert_eq!(added.is_some(), model.len() < 24);
                    if added.is_some() {
                        model.insert(index, made);
                    }
                }
                (2, Some(slot)) => {
                    take(&mut table, slot);
                    model.remove(&index);
                }
                _ => {
                    now += Duration::from_millis(millis);
                    while let Some(slot) = table.due(now) {
                        let earliest = model.values().map(HalfOpen::deadline).min().unwrap();
                        prop_assert_eq!(table.at(slot).unwrap().handshake.deadline(), earliest);
                        let index = table.at(slot).unwrap().ticket as u32;
                        let mut handshake = table.at(slot).unwrap().handshake.unpack();
                        if matches!(handshake.on_timeout(&config, now), crate::tcp::HandshakeOutcome::Closed(_)) {
                            take(&mut table, slot);
                            model.remove(&index);
                            continue;
                        }
                        table.update(slot, HalfOpen::pack(&handshake).unwrap());
                        prop_assert!(table.unsent() == Some(slot));
                        let _ = handshake.poll_transmit(&config, now);
                        let packed = HalfOpen::pack(&handshake).unwrap();
                        table.update(slot, packed);
                        prop_assert!(table.unsent().is_none());
                        model.insert(index, packed);
                    }
                }
            }
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(table.iter().count(), model.len());
            prop_assert_eq!(table.next(), model.values().map(HalfOpen::deadline).min());
            prop_assert!(table.iter().all(|(id, _)| table.timer(id).is_some()));
        }
        let left: u32 = table.sources.iter().sum();
        prop_assert_eq!(left as usize, model.len());
    }
}
