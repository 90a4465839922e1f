//! Tests of the blocks: which chunk the next one is of. What else holds of them, `send_memory_tests` shows.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn chunk_of(index: u32) -> u32 {
    index / UNITS
}

#[test]
fn the_chunk_freed_last_comes_first() {
    let mut blocks = Blocks::new(3);
    let (first, second) = (blocks.take(CHUNK_LEN, 0).unwrap().0, blocks.take(CHUNK_LEN, 0).unwrap().0);
    blocks.give(second);
    blocks.give(first);
    assert_eq!(blocks.take(1, 0).unwrap().0, first);
}

#[test]
fn the_fullest_chunk_is_filled_first_and_the_others_run_empty() {
    for len in [256, 1_024, 4_096, 16_384] {
        let a_chunk = CHUNK_LEN / len;
        let mut blocks = Blocks::new(8);
        let mut taken: Vec<u32> = (0..4 * a_chunk).map(|_| blocks.take(len, 0).unwrap().0).collect();
        assert_eq!((blocks.free(), blocks.taken()), (4, 4 * CHUNK_LEN as u64));
        // One quarter stays of the first, three of the second, half of the third.
        let stays = |index: &u32| {
            let (chunk, unit) = (chunk_of(*index), *index % UNITS);
            unit < [UNITS / 4, UNITS / 4 * 3, UNITS / 2, UNITS][chunk as usize]
        };
        let (stay, go): (Vec<u32>, Vec<u32>) = taken.drain(..).partition(stays);
        for index in go {
            blocks.give(index);
        }
        let next: Vec<u32> = (0..a_chunk).map(|_| chunk_of(blocks.take(len, 0).unwrap().0)).collect();
        let quarter = a_chunk / 4;
        let expected = [vec![1; quarter], vec![2; 2 * quarter], vec![0; quarter]].concat();
        assert_eq!(next, expected, "blocks of {len}");
        assert_eq!(stay.len() + next.len(), 7 * a_chunk / 2);
        assert_eq!(blocks.free(), 4, "no chunk was begun");
    }
}

/// A chunk serves one size after the other.
#[test]
fn a_chunk_that_ran_empty_serves_any_size() {
    let mut blocks = Blocks::new(1);
    for len in [256, 65_536, 1_024, 16_384, 4_096, 256] {
        let taken: Vec<u32> = (0..CHUNK_LEN / len).map(|_| blocks.take(len, 0).unwrap().0).collect();
        assert!(blocks.is_exhausted() && blocks.take(256, 0).is_none());
        for index in taken {
            blocks.give(index);
        }
        assert_eq!((blocks.free(), blocks.taken()), (1, 0));
    }
}

proptest! {
    /// The lists hold each chunk that has free blocks and taken ones, once, and beside them only those that are kept ready.
    #[test]
    fn lists_are_as_they_should_be(steps in prop::collection::vec((0..3_u8, 0_usize..70_000, 0_usize..200), 0..400)) {
        let mut blocks = Blocks::new(24);
        let mut taken = Vec::new();
        for (kind, octets, place) in steps {
            match kind {
                0 | 1 => taken.extend(blocks.take(if kind == 0 { octets } else { octets % 500 }, 0)),
                _ if place < taken.len() => blocks.give(taken.swap_remove(place).0),
                _ => {
                    blocks.cool(3, |_| ());
                }
            }
            let mut listed = Vec::new();
            for (class, lists) in blocks.partial.iter().enumerate() {
                for (quarter, first) in lists.iter().enumerate() {
                    let (mut before, mut at) = (NONE, *first);
                    while at != NONE {
                        let chunk = &blocks.chunks[at as usize];
                        prop_assert_eq!((chunk.before, usize::from(chunk.class), chunk.quarter()), (before, class, quarter));
                        prop_assert!(!listed.contains(&at), "listed twice");
                        listed.push(at);
                        (before, at) = (at, chunk.behind);
                    }
                }
            }
            listed.sort_unstable();
            let some = |chunk: &u32| {
                let of = taken.iter().filter(|(index, _)| chunk_of(*index) == *chunk);
                let octets: u32 = of.map(|(_, len)| *len).sum();
                (octets > 0 && octets < CHUNK_LEN as u32) || blocks.ready.contains(chunk)
            };
            let kept = blocks.ready.iter().filter(|index| **index != NONE).count();
            let unused = blocks.total as usize - blocks.chunks.len();
            prop_assert_eq!(blocks.free as usize, unused + kept + blocks.warm.len() + blocks.cold.len());
            let expected: Vec<u32> = (0..blocks.chunks.len() as u32).filter(some).collect();
            prop_assert_eq!(listed, expected);
        }
    }
}
