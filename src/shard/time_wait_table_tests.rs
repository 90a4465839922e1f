//! Tests of the TIME-WAIT table.
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;

use super::*;
use crate::flow::Endpoint;
use crate::shard::FlowHasher;

fn quad(flow: u32) -> Quad {
    Quad {
        local: Endpoint::new(Ipv4Addr::LOCALHOST.into(), 80),
        remote: Endpoint::new(Ipv4Addr::from(0x0a00_0000 + (flow >> 16)).into(), flow as u16),
    }
}

/// A table with the hash of each quad worked out.
struct Waiting {
    table: TimeWaitTable<u32>,
    hasher: FlowHasher,
}

impl Waiting {
    fn new(cap: usize) -> Self {
        Self { table: TimeWaitTable::new(cap), hasher: FlowHasher::from_random([7; 16]) }
    }

    fn insert(&mut self, flow: u32, secs: u64) -> Option<u32> {
        let evicted = self.table.insert(self.hasher.hash(&quad(flow)), quad(flow), flow, Instant::from_secs(secs));
        evicted.map(|(gone, record)| {
            assert_eq!(gone, quad(record));
            record
        })
    }

    fn get(&self, flow: u32) -> Option<u32> {
        self.table.get(self.hasher.hash(&quad(flow)), &quad(flow)).copied()
    }

    fn expire(&mut self, secs: u64) -> Vec<u32> {
        let mut gone = Vec::new();
        self.table.expire(Instant::from_secs(secs), &mut |was, record| {
            assert_eq!(was, quad(record));
            gone.push(record);
        });
        gone
    }
}

/// SM-T-3.
#[test]
fn records_expire_in_order_of_entry() {
    let mut waiting = Waiting::new(10);
    for flow in 0..4 {
        assert_eq!(waiting.insert(flow, 60 + u64::from(flow)), None);
    }
    assert_eq!(waiting.table.next(), Some(Instant::from_secs(60)));
    assert_eq!(waiting.expire(59), [0_u32; 0]);
    assert_eq!(waiting.expire(61), [0, 1]);
    assert_eq!((waiting.get(1), waiting.get(2)), (None, Some(2)));
    assert_eq!(waiting.expire(1000), [2, 3]);
    assert!(waiting.table.is_empty() && waiting.table.next().is_none());
}

#[test]
fn a_restarted_record_goes_to_the_end() {
    let mut waiting = Waiting::new(10);
    for flow in 0..3 {
        waiting.insert(flow, 60);
    }
    for flow in [1, 0, 2, 0] {
        let hash = waiting.hasher.hash(&quad(flow));
        assert!(waiting.table.restart(hash, &quad(flow), Instant::from_secs(90)));
    }
    assert!(!waiting.table.restart(0, &quad(9), Instant::from_secs(90)));
    assert_eq!(waiting.expire(89), [0_u32; 0]);
    assert_eq!(waiting.expire(90), [1, 2, 0]);
}

#[test]
fn at_the_cap_the_oldest_leaves_and_is_counted() {
    let mut waiting = Waiting::new(2);
    waiting.insert(0, 60);
    waiting.insert(1, 61);
    assert_eq!(waiting.insert(1, 62), None, "replaces itself");
    assert_eq!(waiting.insert(2, 63), Some(0));
    assert_eq!(waiting.insert(3, 64), Some(1));
    assert_eq!((waiting.table.len(), waiting.table.cap(), waiting.table.evicted()), (2, 2, 2));
    assert_eq!(waiting.table.iter().count(), 2);
    assert_eq!(waiting.expire(100), [2, 3]);
    assert_eq!(waiting.table.high_water(), 2);
}

#[test]
fn a_removed_record_leaves_the_queue() {
    let mut waiting = Waiting::new(10);
    for flow in 0..5 {
        waiting.insert(flow, 60);
    }
    for flow in [0, 2, 4] {
        let hash = waiting.hasher.hash(&quad(flow));
        *waiting.table.get_mut(hash, &quad(flow)).unwrap() += 10;
        assert_eq!(waiting.table.remove(hash, &quad(flow)), Some(flow + 10));
        assert_eq!(waiting.table.remove(hash, &quad(flow)), None);
    }
    waiting.insert(7, 61);
    assert_eq!(waiting.expire(61), [1, 3, 7]);
}

#[test]
fn a_quarter_million_records_are_cheap() {
    assert!(size_of::<Option<Node<[u64; 8]>>>() <= 136, "{}", size_of::<Option<Node<[u64; 8]>>>());
    let mut waiting = Waiting::new(200_000);
    for flow in 0..250_000 {
        assert_eq!(waiting.insert(flow, 60), flow.checked_sub(200_000));
    }
    assert_eq!((waiting.get(49_999), waiting.get(50_000)), (None, Some(50_000)));
    assert!(waiting.expire(60).into_iter().eq(50_000..250_000));
}
