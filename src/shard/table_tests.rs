//! Tests of the flow table: by hand, and against a list.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[test]
fn finds_what_was_filed_and_asks_only_about_the_same_hash() {
    let mut table = FlowTable::default();
    table.insert(7 << 32, 1);
    table.insert(7 << 32, 2);
    table.insert((7 + 16) << 32, 3);
    let mut asked = Vec::new();
    let found = table.get(7 << 32, |slot| {
        asked.push(slot);
        slot == 2
    });
    assert_eq!((found, asked), (Some(2), vec![1, 2]));
    assert_eq!(table.get((7 + 16) << 32, |_| true), Some(3));
    assert_eq!(table.get(8 << 32, |_| true), None);
    assert!(table.remove(7 << 32, 1));
    assert!(!table.remove(7 << 32, 1));
    assert_eq!(table.get((7 + 16) << 32, |_| true), Some(3));
    assert_eq!(table.len(), 2);
    table.prefetch(1);
}

#[test]
fn grows_without_losing_anything() {
    let mut table = FlowTable::with_capacity(10);
    let hash = |slot: u32| u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for slot in 0..10_000 {
        table.insert(hash(slot), slot);
    }
    for slot in 0..10_000 {
        assert_eq!(table.get(hash(slot), |found| found == slot), Some(slot));
    }
    for slot in 0..10_000 {
        assert!(table.remove(hash(slot), slot));
    }
    assert!(table.is_empty());
    assert!(table.old.is_empty() && table.entries.iter().all(|entry| *entry == VACANT));
}

#[test]
fn does_not_grow_before_its_capacity() {
    for flows in [0, 1, 9, 10, 1000, 4096, 100_000] {
        let mut table = FlowTable::with_capacity(flows);
        let entries = table.entries.len();
        for slot in 0..flows as u32 {
            table.insert(u64::from(slot) << 32, slot);
        }
        assert_eq!(table.entries.len(), entries, "{flows}");
    }
}

/// Clients that differ in the port alone, or in a few bits of the address: the usual shapes, and the ones that a weak hash
/// would pile up.
#[test]
fn flows_that_look_alike_are_spread() {
    use std::net::Ipv4Addr;

    use crate::flow::{Endpoint, Quad};
    use crate::shard::FlowHasher;

    let local = Endpoint::new(Ipv4Addr::new(192, 0, 2, 1).into(), 443);
    let by_port = |flow: u32| Endpoint::new(Ipv4Addr::new(10, 0, 0, 1).into(), flow as u16);
    let by_address = |flow: u32| Endpoint::new(Ipv4Addr::from(0x0a00_0000 | flow << 8).into(), 40_000);
    for remote in [&by_port as &dyn Fn(u32) -> Endpoint, &by_address] {
        let hasher = FlowHasher::from_random([9; 16]);
        let mut table = FlowTable::with_capacity(40_000);
        for slot in 0..40_000 {
            table.insert(hasher.hash(&Quad { local, remote: remote(slot) }), slot);
        }
        let mask = table.entries.len() - 1;
        let distance = |(index, entry): (usize, &Entry)| index.wrapping_sub(hash_of(*entry) as usize) & mask;
        let filed = table.entries.iter().enumerate().filter(|(_, entry)| **entry != VACANT);
        let mean = filed.map(distance).sum::<usize>() as f64 / 40_000.0;
        // Chance alone gives 0.8 at five eighths, less below.
        assert!(mean < 1.0, "{mean}");
    }
}

/// What one change does to entries of others is the same at two million as at a hundred.
#[test]
fn no_insert_moves_more_than_a_few_entries() {
    let mut table = FlowTable::default();
    let hash = |slot: u32| u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut grown = 0;
    for slot in 0..400_000 {
        let (entries, before) = (table.entries.len(), table.old.len());
        table.insert(hash(slot), slot);
        if table.entries.len() > entries {
            grown += 1;
            assert_eq!(before, 0, "the last move was over in time");
            assert!(table.old.len() >= entries - MOVES, "{} of {entries} at once", entries - table.old.len());
        } else {
            assert!(before - table.old.len() <= MOVES);
        }
        assert!(table.old.capacity() - table.old.len() <= GIVE_BACK, "and its memory goes with them");
    }
    assert!(grown >= 15);
    assert!((0..400_000).all(|slot| table.get(hash(slot), |found| found == slot) == Some(slot)));
}

#[test]
fn nothing_is_lost_in_the_middle_of_a_move() {
    let hash = |slot: u32| u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for stop in 0..60 {
        let mut table = FlowTable::with_capacity(2_000);
        let full = table.entries.len() * 5 / 8;
        let count = (full + 1 + 7 * stop) as u32;
        (0..count).for_each(|slot| table.insert(hash(slot), slot));
        assert_eq!(table.old.is_empty(), (stop * 7 + 1) * MOVES >= table.entries.len() / 2);
        // Each removal moves some more, and closes gaps in what is left.
        for slot in (0..count).rev() {
            assert_eq!(table.get(hash(slot), |found| found == slot), Some(slot));
            assert!(table.remove(hash(slot), slot), "{slot} of {count}");
            assert_eq!(table.get(hash(slot), |found| found == slot), None);
        }
        assert!(table.is_empty() && table.old.is_empty());
    }
}

proptest! {
    /// With few hashes, so that runs collide, wrap around the end and are torn apart by removals.
    #[test]
    fn behaves_as_a_list(
        steps in prop::collection::vec((any::<bool>(), 0_u64..40, 0_u32..24), 0..300),
        left in 0_usize..64,
    ) {
        let mut table = FlowTable::with_capacity(left);
        let mut model: Vec<(u64, u32)> = Vec::new();
        if left > 0 {
            // As in the middle of a move, with what is left full or not: entries go into both, as chance has it.
            (table.old, table.old_mask) = (vec![VACANT; left], left.next_power_of_two().max(2) - 1);
            for (number, &(_, hash, slot)) in steps.iter().take(left).enumerate() {
                let hash = hash << 32;
                if model.contains(&(hash, slot)) || number % 4 == 3 && left > 8 {
                    continue;
                }
                let mut index = table.old_home(fold(hash));
                while table.old[index] != VACANT {
                    index = table.after_old(index);
                }
                table.old[index] = entry(fold(hash), slot);
                table.len += 1;
                model.push((hash, slot));
            }
        }
        for (insert, hash, slot) in steps {
            let hash = hash << 32;
            if insert && !model.contains(&(hash, slot)) {
                table.insert(hash, slot);
                model.push((hash, slot));
            } else {
                let there = model.iter().position(|entry| *entry == (hash, slot));
                prop_assert_eq!(table.remove(hash, slot), there.is_some());
                if let Some(index) = there {
                    model.swap_remove(index);
                }
            }
            prop_assert_eq!(table.len(), model.len());
            for hash in 0..40 {
                let mut found = Vec::new();
                table.get(hash << 32, |slot| {
                    found.push(slot);
                    false
                });
                let mut expected: Vec<_> = model.iter().filter(|entry| entry.0 == hash << 32).map(|entry| entry.1).collect();
                found.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
