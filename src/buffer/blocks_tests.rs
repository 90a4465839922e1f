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
        // One of a chunk of its own is at hand, and comes before all that the others give back.
        let at_hand = blocks.take(len, 0).unwrap().0;
        blocks.give(at_hand);
        for index in go {
            blocks.give(index);
        }
        assert_eq!(blocks.take(len, 0).unwrap().0, at_hand);
        let next: Vec<u32> = (0..a_chunk).map(|_| chunk_of(blocks.take(len, 0).unwrap().0)).collect();
        let quarter = a_chunk / 4;
        let expected = [vec![1; quarter], vec![2; 2 * quarter], vec![0; quarter]].concat();
        assert_eq!(next, expected, "blocks of {len}");
        assert_eq!(stay.len() + next.len(), 7 * a_chunk / 2);
        assert_eq!(blocks.free(), 3, "no chunk was begun");
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

/// A chunk with nothing taken but a block that lies at hand is free, and whoever needs a chunk gets it.
#[test]
fn what_is_at_hand_keeps_no_chunk_from_others() {
    for len in [256, 1_024, 4_096, 16_384] {
        let mut blocks = Blocks::new(1);
        let (first, second) = (blocks.take(len, 0).unwrap().0, blocks.take(len, 0).unwrap().0);
        assert_eq!((blocks.free(), blocks.taken()), (0, 2 * len as u64));
        blocks.give(first);
        assert_eq!((blocks.free(), blocks.taken()), (0, len as u64));
        blocks.give(second);
        assert_eq!((blocks.free(), blocks.taken()), (1, 0));
        assert_eq!(blocks.take(len, 0).unwrap().0, first);
        assert_eq!((blocks.free(), blocks.taken()), (0, len as u64));
        blocks.give(first);
        assert_eq!((blocks.free(), blocks.taken()), (1, 0));
        let (index, whole) = blocks.take(CHUNK_LEN, 0).unwrap();
        assert_eq!((blocks.free(), index, whole as usize), (0, 0, CHUNK_LEN));
        blocks.give(index);
        assert_eq!(blocks.take(len, 0).unwrap().1 as usize, len);
    }
}

/// The last block of a full memory is had though it lies at hand and in no list, by whoever asks for less, too.
#[test]
fn what_is_at_hand_is_not_forgotten() {
    let mut blocks = Blocks::new(1);
    let taken: Vec<u32> = (0..4).map(|_| blocks.take(16_384, 0).unwrap().0).collect();
    assert!(blocks.is_exhausted());
    blocks.give(taken[2]);
    assert!(!blocks.is_exhausted());
    assert_eq!(blocks.take(256, 4_096), None, "larger than it may be");
    assert_eq!(blocks.take(256, 16_384), Some((taken[2], 16_384)));
    assert!(blocks.is_exhausted());
}

proptest! {
    /// Of each chunk a block is taken, at hand or in its bits, and no two overlap. The lists hold each chunk that has some of
    /// both, once. What is free is what no taken block lies in.
    #[test]
    fn lists_are_as_they_should_be(steps in prop::collection::vec((0..3_u8, 0_usize..70_000, 0_usize..200), 0..400)) {
        let mut blocks = Blocks::new(24);
        let mut taken: Vec<(u32, u32)> = Vec::new();
        for (kind, octets, place) in steps {
            match kind {
                0 | 1 => {
                    let some = blocks.take(if kind == 0 { octets } else { octets % 500 }, 0);
                    if let Some((index, len)) = some {
                        let overlaps = |(other, other_len): &(u32, u32)| {
                            index < other + other_len / UNIT as u32 && *other < index + len / UNIT as u32
                        };
                        prop_assert!(!taken.iter().any(overlaps), "taken twice");
                    }
                    taken.extend(some);
                }
                _ if place < taken.len() => blocks.give(taken.swap_remove(place).0),
                _ => {
                    blocks.cool(3, |_, _| ());
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
            let octets: u64 = taken.iter().map(|(_, len)| u64::from(*len)).sum();
            prop_assert_eq!(blocks.taken(), octets);
            let at_hand = |chunk: u32| (0..WHOLE).filter(|class| {
                let hand = blocks.hand[usize::from(*class)];
                hand != NONE && chunk_of(hand) == chunk && blocks.chunks[chunk as usize].class == *class
            }).count();
            let hands = blocks.hand.iter().filter(|hand| **hand != NONE).count();
            prop_assert_eq!((0..blocks.chunks.len() as u32).map(at_hand).sum::<usize>(), hands, "of another class");
            let (mut expected, mut in_use) = (Vec::new(), 0);
            for number in 0..blocks.chunks.len() as u32 {
                let of = taken.iter().filter(|(index, _)| chunk_of(*index) == number).count();
                let chunk = &blocks.chunks[number as usize];
                in_use += u32::from(of > 0);
                let held = of + at_hand(number);
                if held > 0 && chunk.class != WHOLE {
                    prop_assert_eq!((usize::from(chunk.taken), chunk.is_full()), (held, !listed.contains(&number)));
                    let bits: u32 = chunk.free.iter().map(|word| word.count_ones()).sum();
                    prop_assert_eq!(bits as usize + held, UNITS as usize >> (2 * chunk.class));
                    if !chunk.is_full() {
                        expected.push(number);
                    }
                }
            }
            prop_assert_eq!(blocks.free, blocks.total - in_use);
            prop_assert_eq!(listed, expected);
        }
    }
}
