//! Tests of send memory: life of blocks and leases, and reading while the rest of a block is being filled.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::buffer::ring::ring;

#[test]
fn appended_octets_are_read_back_by_block_and_by_lease() {
    let (mut memory, reader) = SendMemory::new(2);
    let mut block = memory.allocate(CHUNK_LEN).unwrap();
    assert_eq!(memory.append(&mut block, b"hello"), 5);
    memory.spare(&mut block)[..6].copy_from_slice(b" world");
    memory.commit(&mut block, 6);
    assert_eq!((block.filled(), block.room()), (11, CHUNK_LEN - 11));
    assert_eq!(memory.bytes(&block, 4..7), b"o w");
    let lease = memory.lease(&block, 6, 5);
    assert_eq!((lease.len(), reader.bytes(&lease)), (5, &b"world"[..]));
    assert!(!lease.is_empty());
    memory.append(&mut block, b"!");
    assert_eq!(reader.bytes(&lease), b"world");
    assert_eq!((memory.in_use(), memory.outstanding(), memory.capacity()), (1, 1, 2));
    memory.complete(lease);
    memory.release(block);
    assert_eq!((memory.in_use(), memory.outstanding()), (0, 0));
}

#[test]
fn a_full_block_takes_no_more() {
    let (mut memory, reader) = SendMemory::new(1);
    let mut block = memory.allocate(CHUNK_LEN).unwrap();
    let data: Vec<u8> = (0..CHUNK_LEN + 9).map(|octet| octet as u8).collect();
    assert_eq!(memory.append(&mut block, &data[..7]), 7);
    assert_eq!(memory.append(&mut block, &data[7..]), CHUNK_LEN - 7);
    assert_eq!(memory.append(&mut block, &data), 0);
    assert!(memory.spare(&mut block).is_empty());
    let whole = memory.lease(&block, 0, CHUNK_LEN);
    let nothing = memory.lease(&block, CHUNK_LEN, 0);
    assert_eq!(reader.bytes(&whole), &data[..CHUNK_LEN]);
    assert!(reader.bytes(&nothing).is_empty());
}

#[test]
fn a_released_block_is_free_at_its_last_completion() {
    let (mut memory, reader) = SendMemory::new(1);
    let mut block = memory.allocate(CHUNK_LEN).unwrap();
    memory.append(&mut block, b"abcdef");
    let (first, second) = (memory.lease(&block, 0, 3), memory.lease(&block, 0, 6));
    memory.release(block);
    assert!(memory.allocate(CHUNK_LEN).is_none());
    memory.complete(first);
    assert_eq!(reader.bytes(&second), b"abcdef", "the connection is gone, its octets are not");
    assert!(memory.allocate(CHUNK_LEN).is_none());
    memory.complete(second);
    let block = memory.allocate(CHUNK_LEN).unwrap();
    assert_eq!(block.filled(), 0);
}

#[test]
fn chunks_are_last_in_first_out() {
    let (mut memory, _reader) = SendMemory::new(3);
    let (first, second) = (memory.allocate(CHUNK_LEN).unwrap(), memory.allocate(CHUNK_LEN).unwrap());
    let index = first.index;
    memory.release(second);
    memory.release(first);
    assert_eq!(memory.allocate(CHUNK_LEN).unwrap().index, index);
}

#[test]
#[should_panic(expected = "not filled")]
fn no_lease_of_octets_not_filled() {
    let (mut memory, _reader) = SendMemory::new(1);
    let mut block = memory.allocate(CHUNK_LEN).unwrap();
    memory.append(&mut block, b"abc");
    drop(memory.lease(&block, 1, 3));
}

#[test]
#[should_panic(expected = "another send memory")]
fn no_lease_of_another_memory_read() {
    let (mut memory, _) = SendMemory::new(1);
    let (_, other) = SendMemory::new(1);
    let mut block = memory.allocate(CHUNK_LEN).unwrap();
    memory.append(&mut block, b"abc");
    let lease = memory.lease(&block, 0, 3);
    let _ = other.bytes(&lease);
}

#[test]
#[should_panic(expected = "another send memory")]
fn no_block_of_another_memory_filled() {
    let (mut memory, mut other) = (SendMemory::new(1).0, SendMemory::new(1).0);
    let mut block = memory.allocate(CHUNK_LEN).unwrap();
    other.append(&mut block, b"abc");
}

#[test]
#[should_panic(expected = "beyond a block")]
fn no_commit_beyond_the_block() {
    let (mut memory, _reader) = SendMemory::new(2);
    let mut block = memory.allocate(CHUNK_LEN).unwrap();
    memory.commit(&mut block, CHUNK_LEN + 1);
}

/// Octets of an application that tells when they are let go.
struct Owned(Vec<u8>, std::sync::Arc<std::sync::atomic::AtomicU32>);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

/// Octets, and how many of their kind were let go.
fn owned(octets: &[u8]) -> (Bytes, std::sync::Arc<std::sync::atomic::AtomicU32>) {
    let gone = std::sync::Arc::default();
    (Bytes::from_owner(Owned(octets.to_vec(), std::sync::Arc::clone(&gone))), gone)
}

#[test]
fn adopted_octets_are_kept_until_released_and_completed() {
    for release_first in [true, false] {
        let (mut memory, reader) = SendMemory::new(1);
        let (bytes, gone) = owned(b"hello world");
        let at = bytes.as_ptr();
        let mut block = memory.adopt(bytes).unwrap();
        assert_eq!((block.filled(), block.room(), memory.append(&mut block, b"!")), (11, 0, 0));
        assert!(memory.spare(&mut block).is_empty());
        assert_eq!((memory.bytes(&block, 4..7), memory.adopted(), memory.in_use()), (&b"o w"[..], 1, 0));
        let (hello, world) = (memory.lease(&block, 0, 5), memory.lease(&block, 6, 5));
        assert_eq!((reader.bytes(&hello), reader.bytes(&world)), (&b"hello"[..], &b"world"[..]));
        assert_eq!(reader.bytes(&world).as_ptr(), at.wrapping_add(6), "not copied");
        memory.complete(hello);
        if release_first {
            memory.release(block);
            assert_eq!((gone.load(Ordering::Relaxed), reader.bytes(&world)), (0, &b"world"[..]));
            memory.complete(world);
        } else {
            memory.complete(world);
            assert_eq!((gone.load(Ordering::Relaxed), memory.bytes(&block, 0..5)), (0, &b"hello"[..]));
            memory.release(block);
        }
        assert_eq!((gone.load(Ordering::Relaxed), memory.adopted(), memory.outstanding()), (1, 0, 0));
    }
}

#[test]
fn places_for_adopted_pieces_are_limited_and_come_back() {
    let (mut memory, reader) = SendMemory::new(2);
    let mut blocks: Vec<Block> = (0..8_u8).map(|piece| memory.adopt(Bytes::from(vec![piece; 3])).unwrap()).collect();
    assert!(!memory.can_adopt());
    assert_eq!(memory.adopt(Bytes::from_static(b"one too many")).unwrap_err(), b"one too many"[..]);
    memory.release(blocks.remove(3));
    assert!(memory.can_adopt());
    blocks.push(memory.adopt(Bytes::from_static(b"new")).unwrap());
    assert!(!memory.can_adopt());
    for (block, expected) in blocks.into_iter().zip([0, 1, 2, 4, 5, 6, 7, b'n']) {
        let lease = memory.lease(&block, 0, 1);
        assert_eq!(reader.bytes(&lease), [expected]);
        memory.complete(lease);
        memory.release(block);
    }
    assert_eq!(memory.adopted(), 0);
    assert!(!SendMemory::new(0).0.can_adopt());
}

#[test]
fn adopted_octets_go_with_the_memory_at_last() {
    let (mut memory, reader) = SendMemory::new(1);
    let (bytes, gone) = owned(b"abc");
    let block = memory.adopt(bytes).unwrap();
    let lease = memory.lease(&block, 1, 2);
    drop((memory, block));
    assert_eq!((reader.bytes(&lease), gone.load(Ordering::Relaxed)), (&b"bc"[..], 0));
    drop((reader, lease));
    assert_eq!(gone.load(Ordering::Relaxed), 1);
}

#[test]
#[should_panic(expected = "not filled")]
fn no_lease_beyond_an_adopted_piece() {
    let (mut memory, _reader) = SendMemory::new(1);
    let block = memory.adopt(Bytes::from_static(b"abc")).unwrap();
    drop(memory.lease(&block, 1, 3));
}

#[test]
#[should_panic(expected = "another send memory")]
fn no_lease_of_a_piece_that_another_memory_adopted_read() {
    let (mut memory, _) = SendMemory::new(1);
    let (mut other, other_reader) = SendMemory::new(1);
    let _held = other.adopt(Bytes::from_static(b"xyz")).unwrap();
    let block = memory.adopt(Bytes::from_static(b"abc")).unwrap();
    let lease = memory.lease(&block, 0, 3);
    let _ = other_reader.bytes(&lease);
}

/// Each piece is read on another thread and let go on this one, in a place that is used again at once.
#[test]
fn another_thread_reads_what_was_adopted() {
    let rounds: u32 = if cfg!(miri) { 50 } else { 20_000 };
    let (mut memory, reader) = SendMemory::new(1);
    let (mut leases, mut taken) = ring::<(Lease, u8)>(4);
    let (mut done, mut completions) = ring::<Lease>(4);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..rounds {
                let (lease, value) = loop {
                    match taken.pop() {
                        Some(item) => break item,
                        None => std::thread::yield_now(),
                    }
                };
                assert!(reader.bytes(&lease).iter().all(|&octet| octet == value));
                taken.release();
                let mut back = lease;
                while let Err(full) = done.push(back) {
                    back = full;
                    std::thread::yield_now();
                }
            }
        });
        let mut sent = 0;
        while sent < rounds || memory.outstanding() > 0 {
            for lease in completions.drain(4) {
                memory.complete(lease);
            }
            if sent == rounds || leases.room() == 0 || !memory.can_adopt() {
                std::thread::yield_now();
                continue;
            }
            let block = memory.adopt(Bytes::from(vec![sent as u8; 300])).unwrap();
            leases.push((memory.lease(&block, 100, 200), sent as u8)).unwrap();
            memory.release(block);
            sent += 1;
        }
    });
    assert_eq!(memory.adopted(), 0);
}

/// The reader checks the octets of each lease on its own thread while the shard fills the rest and reuses what came back.
#[test]
fn another_thread_reads_while_blocks_are_filled() {
    let rounds: u32 = if cfg!(miri) { 20 } else { 20_000 };
    let (mut memory, reader) = SendMemory::new(2);
    let (mut leases, mut taken) = ring::<(Lease, u8)>(8);
    let (mut done, mut completions) = ring::<Lease>(8);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..rounds {
                let (lease, value) = loop {
                    match taken.pop() {
                        Some(item) => break item,
                        None => std::thread::yield_now(),
                    }
                };
                assert!(reader.bytes(&lease).iter().all(|&octet| octet == value));
                // As many as the leases ring: never full for long.
                let mut back = lease;
                while let Err(full) = done.push(back) {
                    back = full;
                    std::thread::yield_now();
                }
            }
        });
        let mut block = memory.allocate(CHUNK_LEN).unwrap();
        let mut sent = 0;
        while sent < rounds {
            for lease in completions.drain(8) {
                memory.complete(lease);
            }
            if block.room() < 600 {
                memory.release(block);
                block = loop {
                    if let Some(block) = memory.allocate(CHUNK_LEN) {
                        break block;
                    }
                    for lease in completions.drain(8) {
                        memory.complete(lease);
                    }
                    std::thread::yield_now();
                };
            }
            if leases.room() == 0 {
                std::thread::yield_now();
                continue;
            }
            let (start, value) = (block.filled(), sent as u8);
            memory.append(&mut block, &[value; 600]);
            leases.push((memory.lease(&block, start, 600), value)).unwrap();
            sent += 1;
        }
        while memory.outstanding() > 0 {
            for lease in completions.drain(8) {
                memory.complete(lease);
            }
            std::thread::yield_now();
        }
        memory.release(block);
    });
    assert_eq!(memory.in_use(), 0);
}

#[test]
fn a_block_is_as_large_as_what_it_is_for() {
    for (octets, len) in [
        (0, 256),
        (1, 256),
        (256, 256),
        (257, 1_024),
        (1_025, 4_096),
        (4_097, 16_384),
        (16_385, CHUNK_LEN),
        (CHUNK_LEN, CHUNK_LEN),
        (1 << 20, CHUNK_LEN),
    ] {
        let (mut memory, _reader) = SendMemory::new(1);
        assert_eq!(block_for(octets), len);
        let block = memory.allocate(octets).unwrap();
        assert_eq!((block.taken(), block.room(), memory.taken_octets()), (len, len, len as u64), "for {octets}");
        assert_eq!((memory.free_octets(), memory.capacity_octets()), (0, CHUNK_LEN as u64));
        memory.release(block);
        assert_eq!((memory.taken_octets(), memory.free_octets(), memory.in_use()), (0, CHUNK_LEN as u64, 0));
    }
    for (octets, len) in
        [(0, 0), (255, 0), (256, 256), (1_023, 256), (1_024, 1_024), (65_535, 16_384), (1 << 20, CHUNK_LEN)]
    {
        assert_eq!(block_within(octets), len);
    }
}

#[test]
fn a_block_of_another_size_is_better_than_none() {
    let (mut memory, _reader) = SendMemory::new(2);
    let small = memory.allocate(1_000).unwrap();
    let whole = memory.allocate(CHUNK_LEN).unwrap();
    assert!(memory.allocate(1).is_none() && memory.allocate_within(1, 1_023).is_none(), "none of 256 octets");
    assert!(!memory.is_exhausted());
    let larger = memory.allocate_within(1, 1_024).unwrap();
    assert_eq!(larger.taken(), 1_024, "nobody else asks for it");
    let next = memory.allocate(CHUNK_LEN).unwrap();
    assert_eq!(next.taken(), 1_024);
    for block in [small, whole, larger, next] {
        memory.release(block);
    }
    assert_eq!(memory.in_use(), 0);
}

/// What lies in a small block stays whole while its neighbours come and go, up to the octet at either end.
#[test]
fn neighbours_do_not_touch_each_other() {
    let (mut memory, reader) = SendMemory::new(1);
    let mut blocks: Vec<Block> = (0..256_u32).map(|_| memory.allocate(1).unwrap()).collect();
    assert!(memory.is_exhausted());
    for (value, block) in blocks.iter_mut().enumerate() {
        assert_eq!(memory.append(block, &[value as u8; 300]), 256);
    }
    let mut again = Vec::new();
    let odd: Vec<Lease> = (1..256).step_by(2).map(|value| memory.lease(&blocks[value], 0, 256)).collect();
    for (place, block) in blocks.into_iter().enumerate() {
        memory.release(block);
        if place % 2 == 0 {
            let mut anew = memory.allocate(1).unwrap();
            memory.append(&mut anew, &[0xee; 256]);
            again.push(anew);
        }
    }
    assert!(memory.is_exhausted());
    for (place, lease) in odd.into_iter().enumerate() {
        assert_eq!(reader.bytes(&lease), [2 * place as u8 + 1; 256]);
        memory.complete(lease);
    }
}

/// Ten thousand senders of an octet each.
#[test]
fn an_octet_costs_a_quarter_of_a_kilobyte() {
    let (mut memory, _reader) = SendMemory::new(256);
    let blocks: Vec<Block> = (0..10_000).map(|_| memory.allocate(1).unwrap()).collect();
    assert_eq!(memory.taken_octets(), 2_560_000);
    assert!(memory.in_use() <= 40, "{} chunks", memory.in_use());
    for block in blocks {
        memory.release(block);
    }
    assert_eq!((memory.in_use(), memory.most_in_use()), (0, 40));
}

/// Resident octets of the process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

/// Pages of the memory's region that the kernel holds, in octets.
fn resident_of(memory: &SendMemory) -> usize {
    let first = memory.region.at(0, 0, 0);
    let len = memory.capacity() as usize * CHUNK_LEN;
    let mut pages = vec![0_u8; len / 4_096];
    // SAFETY: asks about a mapping that is there; the answer has a place for each of its pages.
    let asked = unsafe { libc::mincore(first.cast(), len, pages.as_mut_ptr()) };
    assert_eq!(asked, 0);
    pages.iter().filter(|page| **page & 1 != 0).count() * 4_096
}

/// A word for each smallest block makes a 64th of the memory.
#[test]
#[cfg(not(miri))]
fn what_is_remembered_of_blocks_goes_back_with_them() {
    const CHUNKS: u32 = 1_024;
    let (mut memory, _reader) = SendMemory::new(CHUNKS);
    let all = CHUNKS as usize * CHUNK_LEN / UNIT * size_of::<State>();
    for len in [CHUNK_LEN, UNIT, 4_096] {
        let blocks: Vec<Block> = std::iter::from_fn(|| memory.allocate(len)).collect();
        let held = pages::resident(&memory.states);
        assert!(held >= all, "{held} of {all}");
        // One that stays keeps the page of its chunk.
        let mut stays = None;
        for (index, block) in blocks.into_iter().enumerate() {
            if index == 77 { stays = Some(block) } else { memory.release(block) }
        }
        while memory.has_idle() {
            memory.give_back(100);
        }
        let held = pages::resident(&memory.states);
        assert!(held <= 12 * 4_096, "{held} of {all} for blocks of {len}");
        memory.release(stays.unwrap());
    }
}

#[test]
#[cfg_attr(miri, ignore)]
fn what_was_used_at_a_peak_goes_back_to_the_kernel() {
    const CHUNKS: u32 = 512;
    let (mut memory, reader) = SendMemory::new(CHUNKS);
    assert_eq!(resident_of(&memory), 0, "touched before its use");
    let fill = |memory: &mut SendMemory| -> Vec<Block> {
        let mut blocks: Vec<Block> = (0..CHUNKS).map(|_| memory.allocate(CHUNK_LEN).unwrap()).collect();
        for block in &mut blocks {
            memory.spare(block).fill(7);
            memory.commit(block, CHUNK_LEN);
        }
        blocks
    };
    let mut blocks = fill(&mut memory);
    assert_eq!(resident_of(&memory), CHUNKS as usize * CHUNK_LEN);
    assert!(!memory.has_idle());
    assert_eq!(memory.give_back(1_000), 0, "all is in use");
    let kept = blocks.swap_remove(99);
    let lease = memory.lease(&kept, 0, CHUNK_LEN);
    for block in blocks {
        memory.release(block);
    }
    memory.release(kept);
    assert_eq!(memory.give_back(1_000), 0, "was in use a moment ago");
    assert!(memory.has_idle());
    assert_eq!(memory.give_back(100), 100, "no more than were asked for");
    let mut given = 100;
    while memory.has_idle() {
        given += memory.give_back(100);
    }
    assert_eq!((given, memory.give_back(100)), (511 - 4, 0), "a few stay");
    assert_eq!(resident_of(&memory), 5 * CHUNK_LEN);
    assert_eq!(reader.bytes(&lease), [7; CHUNK_LEN], "what is lent is not given back");
    memory.complete(lease);
    // They come again, and can be filled.
    for block in fill(&mut memory) {
        assert_eq!(memory.bytes(&block, 0..CHUNK_LEN), [7; CHUNK_LEN]);
        memory.release(block);
    }
    assert_eq!(memory.in_use(), 0);
}

/// What is in use again and again is not given back.
#[test]
fn what_is_in_use_now_and_then_stays() {
    let (mut memory, _reader) = SendMemory::new(64);
    for round in 0..10 {
        let blocks: Vec<Block> = (0..40).map(|_| memory.allocate(CHUNK_LEN).unwrap()).collect();
        for block in blocks {
            memory.release(block);
        }
        assert!(memory.has_idle());
        assert_eq!(memory.give_back(100), 0, "in round {round}");
    }
    assert_eq!(memory.give_back(100), 40 - 4);
}

/// The states of 4 million blocks, and the list of chunks, cost nothing either.
#[test]
#[cfg_attr(miri, ignore)]
fn memory_that_is_not_used_costs_nothing() {
    let before = resident();
    let memories: Vec<_> = (0..4).map(|_| SendMemory::new(16_384)).collect();
    let cost = resident().saturating_sub(before);
    assert_eq!(memories.len(), 4);
    // Of 4 GB; other tests run meanwhile.
    assert!(cost < 64 << 20, "{cost} octets");
}

#[derive(Debug, Clone)]
enum Step {
    Allocate(usize),
    Adopt(usize),
    Append(usize, usize),
    Lease(usize, usize, usize),
    Complete(usize),
    Release(usize),
    GiveBack(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let lengths = prop_oneof![3 => 0_usize..300, 2 => 0_usize..5_000, 2 => 0_usize..100_000];
    prop_oneof![
        3 => lengths.prop_map(Step::Allocate),
        1 => (0_usize..100_000).prop_map(Step::Adopt),
        4 => (0_usize..16, 0_usize..30_000).prop_map(|(block, len)| Step::Append(block, len)),
        4 => (0_usize..16, 0_usize..70_000, 0_usize..70_000).prop_map(|(block, a, b)| Step::Lease(block, a, b)),
        3 => (0_usize..50).prop_map(Step::Complete),
        2 => (0_usize..16).prop_map(Step::Release),
        1 => (0_usize..5).prop_map(Step::GiveBack),
    ]
}

/// A block, or what is left of it while leases on it are out: place, size, whether it was released.
type Place = (u32, usize, bool);

proptest! {
    /// Octets under a lease never change, counts are right, and no octet belongs to two blocks at a time, lent ones included.
    #[test]
    fn leases_keep_their_octets(steps in prop::collection::vec(step(), 0..200)) {
        const CHUNKS: u32 = 40;
        let (mut memory, reader) = SendMemory::new(CHUNKS);
        let mut blocks: Vec<(Block, Vec<u8>)> = Vec::new();
        let mut leases: Vec<(Lease, Vec<u8>)> = Vec::new();
        let mut held: Vec<Place> = Vec::new();
        let mut value = 0_u8;
        for step in steps {
            match step {
                Step::Allocate(octets) => {
                    let free = memory.free_octets();
                    if let Some(block) = memory.allocate(octets) {
                        let (from, to) = (block.index as usize * UNIT, block.index as usize * UNIT + block.taken());
                        prop_assert!(to <= memory.capacity_octets() as usize);
                        prop_assert!(held.iter().all(|(index, len, _)| {
                            let start = *index as usize * UNIT;
                            index & ADOPTED != 0 || to <= start || start + len <= from
                        }), "two blocks overlap");
                        prop_assert_eq!((block.room(), block.filled()), (block.taken(), 0));
                        prop_assert!(block.taken() == block_for(octets) || (block.taken() < octets && free == 0));
                        held.push((block.index, block.taken(), false));
                        blocks.push((block, Vec::new()));
                    } else {
                        prop_assert_eq!((free, memory.in_use()), (0, CHUNKS));
                    }
                }
                Step::Adopt(len) => {
                    value = value.wrapping_add(1);
                    let data = vec![value; len];
                    let places = memory.can_adopt();
                    match memory.adopt(Bytes::from(data.clone())) {
                        Ok(block) => {
                            prop_assert!(held.iter().all(|(index, ..)| *index != block.index));
                            held.push((block.index, 0, false));
                            blocks.push((block, data));
                        }
                        Err(back) => {
                            prop_assert_eq!((&back[..], memory.adopted()), (&data[..], 4 * CHUNKS));
                            prop_assert!(!places);
                        }
                    }
                }
                Step::Append(index, len) => {
                    if let Some((block, model)) = blocks.get_mut(index) {
                        value = value.wrapping_add(1);
                        let data = vec![value; len];
                        let taken = memory.append(block, &data);
                        prop_assert_eq!(taken, len.min(block.taken().saturating_sub(model.len())));
                        model.extend_from_slice(&data[..taken]);
                    }
                }
                Step::Lease(index, a, b) => {
                    if let Some((block, model)) = blocks.get(index) {
                        let (a, b) = (a.min(b).min(model.len()), a.max(b).min(model.len()));
                        leases.push((memory.lease(block, a, b - a), model[a..b].to_vec()));
                    }
                }
                Step::Complete(index) => {
                    if index < leases.len() {
                        memory.complete(leases.swap_remove(index).0);
                    }
                }
                Step::Release(index) => {
                    if index < blocks.len() {
                        let (block, _) = blocks.swap_remove(index);
                        if let Some((.., released)) = held.iter_mut().find(|(index, ..)| *index == block.index) {
                            *released = true;
                        }
                        memory.release(block);
                    }
                }
                Step::GiveBack(most) => prop_assert!(memory.give_back(most) <= most),
            }
            held.retain(|(index, _, released)| !released || leases.iter().any(|(lease, _)| lease.index == *index));
            prop_assert_eq!(memory.taken_octets(), held.iter().map(|(_, len, _)| *len as u64).sum::<u64>());
            let mut chunks: Vec<_> = held.iter().filter(|(index, ..)| index & ADOPTED == 0).map(|(index, ..)| index / 256).collect();
            chunks.sort_unstable();
            chunks.dedup();
            prop_assert_eq!(memory.in_use() as usize, chunks.len());
            prop_assert_eq!(memory.free_octets() + (chunks.len() * CHUNK_LEN) as u64, memory.capacity_octets());
            prop_assert_eq!(memory.adopted() as usize, held.iter().filter(|(index, ..)| index & ADOPTED != 0).count());
            prop_assert_eq!(memory.outstanding(), leases.len() as u64);
            for (lease, model) in &leases {
                prop_assert_eq!(reader.bytes(lease), &model[..]);
            }
            for (block, model) in &blocks {
                prop_assert_eq!(memory.bytes(block, 0..model.len()), &model[..]);
            }
        }
        for (lease, _) in leases {
            memory.complete(lease);
        }
        for (block, _) in blocks {
            memory.release(block);
        }
        prop_assert_eq!((memory.in_use(), memory.adopted(), memory.taken_octets()), (0, 0, 0));
        prop_assert_eq!(memory.free_octets(), memory.capacity_octets());
    }
}
