//! Tests of send memory: life of chunks and leases, and reading while the rest of a chunk is being filled.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::buffer::ring::ring;

#[test]
fn appended_octets_are_read_back_by_chunk_and_by_lease() {
    let (mut memory, reader) = SendMemory::new(2);
    let mut chunk = memory.allocate().unwrap();
    assert_eq!(memory.append(&mut chunk, b"hello"), 5);
    memory.spare(&mut chunk)[..6].copy_from_slice(b" world");
    memory.commit(&mut chunk, 6);
    assert_eq!((chunk.filled(), chunk.room()), (11, CHUNK_LEN - 11));
    assert_eq!(memory.bytes(&chunk, 4..7), b"o w");
    let lease = memory.lease(&chunk, 6, 5);
    assert_eq!((lease.len(), reader.bytes(&lease)), (5, &b"world"[..]));
    assert!(!lease.is_empty());
    memory.append(&mut chunk, b"!");
    assert_eq!(reader.bytes(&lease), b"world");
    assert_eq!((memory.in_use(), memory.outstanding(), memory.capacity()), (1, 1, 2));
    memory.complete(lease);
    memory.release(chunk);
    assert_eq!((memory.in_use(), memory.outstanding()), (0, 0));
}

#[test]
fn a_full_chunk_takes_no_more() {
    let (mut memory, reader) = SendMemory::new(1);
    let mut chunk = memory.allocate().unwrap();
    let data: Vec<u8> = (0..CHUNK_LEN + 9).map(|octet| octet as u8).collect();
    assert_eq!(memory.append(&mut chunk, &data[..7]), 7);
    assert_eq!(memory.append(&mut chunk, &data[7..]), CHUNK_LEN - 7);
    assert_eq!(memory.append(&mut chunk, &data), 0);
    assert!(memory.spare(&mut chunk).is_empty());
    let whole = memory.lease(&chunk, 0, CHUNK_LEN);
    let nothing = memory.lease(&chunk, CHUNK_LEN, 0);
    assert_eq!(reader.bytes(&whole), &data[..CHUNK_LEN]);
    assert!(reader.bytes(&nothing).is_empty());
}

#[test]
fn a_released_chunk_is_free_at_its_last_completion() {
    let (mut memory, reader) = SendMemory::new(1);
    let mut chunk = memory.allocate().unwrap();
    memory.append(&mut chunk, b"abcdef");
    let (first, second) = (memory.lease(&chunk, 0, 3), memory.lease(&chunk, 0, 6));
    memory.release(chunk);
    assert!(memory.allocate().is_none());
    memory.complete(first);
    assert_eq!(reader.bytes(&second), b"abcdef", "the connection is gone, its octets are not");
    assert!(memory.allocate().is_none());
    memory.complete(second);
    let chunk = memory.allocate().unwrap();
    assert_eq!(chunk.filled(), 0);
}

#[test]
fn chunks_are_last_in_first_out() {
    let (mut memory, _reader) = SendMemory::new(3);
    let (first, second) = (memory.allocate().unwrap(), memory.allocate().unwrap());
    let index = first.index;
    memory.release(second);
    memory.release(first);
    assert_eq!(memory.allocate().unwrap().index, index);
}

#[test]
#[should_panic(expected = "not filled")]
fn no_lease_of_octets_not_filled() {
    let (mut memory, _reader) = SendMemory::new(1);
    let mut chunk = memory.allocate().unwrap();
    memory.append(&mut chunk, b"abc");
    drop(memory.lease(&chunk, 1, 3));
}

#[test]
#[should_panic(expected = "another send memory")]
fn no_lease_of_another_memory_read() {
    let (mut memory, _) = SendMemory::new(1);
    let (_, other) = SendMemory::new(1);
    let mut chunk = memory.allocate().unwrap();
    memory.append(&mut chunk, b"abc");
    let lease = memory.lease(&chunk, 0, 3);
    let _ = other.bytes(&lease);
}

#[test]
#[should_panic(expected = "another send memory")]
fn no_chunk_of_another_memory_filled() {
    let (mut memory, mut other) = (SendMemory::new(1).0, SendMemory::new(1).0);
    let mut chunk = memory.allocate().unwrap();
    other.append(&mut chunk, b"abc");
}

#[test]
#[should_panic(expected = "beyond a chunk")]
fn no_commit_beyond_the_chunk() {
    let (mut memory, _reader) = SendMemory::new(2);
    let mut chunk = memory.allocate().unwrap();
    memory.commit(&mut chunk, CHUNK_LEN + 1);
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
        let mut chunk = memory.adopt(bytes).unwrap();
        assert_eq!((chunk.filled(), chunk.room(), memory.append(&mut chunk, b"!")), (11, 0, 0));
        assert!(memory.spare(&mut chunk).is_empty());
        assert_eq!((memory.bytes(&chunk, 4..7), memory.adopted(), memory.in_use()), (&b"o w"[..], 1, 0));
        let (hello, world) = (memory.lease(&chunk, 0, 5), memory.lease(&chunk, 6, 5));
        assert_eq!((reader.bytes(&hello), reader.bytes(&world)), (&b"hello"[..], &b"world"[..]));
        assert_eq!(reader.bytes(&world).as_ptr(), at.wrapping_add(6), "not copied");
        memory.complete(hello);
        if release_first {
            memory.release(chunk);
            assert_eq!((gone.load(Ordering::Relaxed), reader.bytes(&world)), (0, &b"world"[..]));
            memory.complete(world);
        } else {
            memory.complete(world);
            assert_eq!((gone.load(Ordering::Relaxed), memory.bytes(&chunk, 0..5)), (0, &b"hello"[..]));
            memory.release(chunk);
        }
        assert_eq!((gone.load(Ordering::Relaxed), memory.adopted(), memory.outstanding()), (1, 0, 0));
    }
}

#[test]
fn places_for_adopted_pieces_are_limited_and_come_back() {
    let (mut memory, reader) = SendMemory::new(2);
    let mut chunks: Vec<Chunk> = (0..8_u8).map(|piece| memory.adopt(Bytes::from(vec![piece; 3])).unwrap()).collect();
    assert!(!memory.can_adopt());
    assert_eq!(memory.adopt(Bytes::from_static(b"one too many")).unwrap_err(), b"one too many"[..]);
    memory.release(chunks.remove(3));
    assert!(memory.can_adopt());
    chunks.push(memory.adopt(Bytes::from_static(b"new")).unwrap());
    assert!(!memory.can_adopt());
    for (chunk, expected) in chunks.into_iter().zip([0, 1, 2, 4, 5, 6, 7, b'n']) {
        let lease = memory.lease(&chunk, 0, 1);
        assert_eq!(reader.bytes(&lease), [expected]);
        memory.complete(lease);
        memory.release(chunk);
    }
    assert_eq!(memory.adopted(), 0);
    assert!(!SendMemory::new(0).0.can_adopt());
}

#[test]
fn adopted_octets_go_with_the_memory_at_last() {
    let (mut memory, reader) = SendMemory::new(1);
    let (bytes, gone) = owned(b"abc");
    let chunk = memory.adopt(bytes).unwrap();
    let lease = memory.lease(&chunk, 1, 2);
    drop((memory, chunk));
    assert_eq!((reader.bytes(&lease), gone.load(Ordering::Relaxed)), (&b"bc"[..], 0));
    drop((reader, lease));
    assert_eq!(gone.load(Ordering::Relaxed), 1);
}

#[test]
#[should_panic(expected = "not filled")]
fn no_lease_beyond_an_adopted_piece() {
    let (mut memory, _reader) = SendMemory::new(1);
    let chunk = memory.adopt(Bytes::from_static(b"abc")).unwrap();
    drop(memory.lease(&chunk, 1, 3));
}

#[test]
#[should_panic(expected = "another send memory")]
fn no_lease_of_a_piece_that_another_memory_adopted_read() {
    let (mut memory, _) = SendMemory::new(1);
    let (mut other, other_reader) = SendMemory::new(1);
    let _held = other.adopt(Bytes::from_static(b"xyz")).unwrap();
    let chunk = memory.adopt(Bytes::from_static(b"abc")).unwrap();
    let lease = memory.lease(&chunk, 0, 3);
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
            let chunk = memory.adopt(Bytes::from(vec![sent as u8; 300])).unwrap();
            leases.push((memory.lease(&chunk, 100, 200), sent as u8)).unwrap();
            memory.release(chunk);
            sent += 1;
        }
    });
    assert_eq!(memory.adopted(), 0);
}

/// The reader checks the octets of each lease on its own thread while the shard fills the rest and reuses what came back.
#[test]
fn another_thread_reads_while_chunks_are_filled() {
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
        let mut chunk = memory.allocate().unwrap();
        let mut sent = 0;
        while sent < rounds {
            for lease in completions.drain(8) {
                memory.complete(lease);
            }
            if chunk.room() < 600 {
                memory.release(chunk);
                chunk = loop {
                    if let Some(chunk) = memory.allocate() {
                        break chunk;
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
            let (start, value) = (chunk.filled(), sent as u8);
            memory.append(&mut chunk, &[value; 600]);
            leases.push((memory.lease(&chunk, start, 600), value)).unwrap();
            sent += 1;
        }
        while memory.outstanding() > 0 {
            for lease in completions.drain(8) {
                memory.complete(lease);
            }
            std::thread::yield_now();
        }
        memory.release(chunk);
    });
    assert_eq!(memory.in_use(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Allocate,
    Adopt(usize),
    Append(usize, usize),
    Lease(usize, usize, usize),
    Complete(usize),
    Release(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Allocate),
        1 => (0_usize..100_000).prop_map(Step::Adopt),
        3 => (0_usize..4, 0_usize..30_000).prop_map(|(chunk, len)| Step::Append(chunk, len)),
        4 => (0_usize..4, 0_usize..70_000, 0_usize..70_000).prop_map(|(chunk, a, b)| Step::Lease(chunk, a, b)),
        3 => (0_usize..50).prop_map(Step::Complete),
        1 => (0_usize..4).prop_map(Step::Release),
    ]
}

proptest! {
    /// Octets under a lease never change, counts are right, and a chunk is never handed out while it is lent.
    #[test]
    fn leases_keep_their_octets(steps in prop::collection::vec(step(), 0..120)) {
        let (mut memory, reader) = SendMemory::new(3);
        let mut chunks: Vec<(Chunk, Vec<u8>)> = Vec::new();
        let mut leases: Vec<(Lease, Vec<u8>)> = Vec::new();
        let mut value = 0_u8;
        for step in steps {
            match step {
                Step::Allocate => {
                    if let Some(chunk) = memory.allocate() {
                        prop_assert!(leases.iter().all(|(lease, _)| lease.index != chunk.index));
                        prop_assert!(chunks.iter().all(|(other, _)| other.index != chunk.index));
                        chunks.push((chunk, Vec::new()));
                    } else {
                        prop_assert_eq!(memory.in_use(), 3);
                    }
                }
                Step::Adopt(len) => {
                    value = value.wrapping_add(1);
                    let data = vec![value; len];
                    let places = memory.can_adopt();
                    match memory.adopt(Bytes::from(data.clone())) {
                        Ok(chunk) => {
                            prop_assert!(leases.iter().all(|(lease, _)| lease.index != chunk.index));
                            prop_assert!(chunks.iter().all(|(other, _)| other.index != chunk.index));
                            chunks.push((chunk, data));
                        }
                        Err(back) => {
                            prop_assert_eq!((&back[..], memory.adopted()), (&data[..], 12));
                            prop_assert!(!places);
                        }
                    }
                }
                Step::Append(index, len) => {
                    if let Some((chunk, model)) = chunks.get_mut(index) {
                        value = value.wrapping_add(1);
                        let data = vec![value; len];
                        let taken = memory.append(chunk, &data);
                        let room = if chunk.index & ADOPTED == 0 { CHUNK_LEN - model.len() } else { 0 };
                        prop_assert_eq!(taken, len.min(room));
                        model.extend_from_slice(&data[..taken]);
                    }
                }
                Step::Lease(index, a, b) => {
                    if let Some((chunk, model)) = chunks.get(index) {
                        let (a, b) = (a.min(b).min(model.len()), a.max(b).min(model.len()));
                        leases.push((memory.lease(chunk, a, b - a), model[a..b].to_vec()));
                    }
                }
                Step::Complete(index) => {
                    if index < leases.len() {
                        memory.complete(leases.swap_remove(index).0);
                    }
                }
                Step::Release(index) => {
                    if index < chunks.len() {
                        memory.release(chunks.swap_remove(index).0);
                    }
                }
            }
            prop_assert_eq!(memory.outstanding(), leases.len() as u64);
            for (lease, model) in &leases {
                prop_assert_eq!(reader.bytes(lease), &model[..]);
            }
            for (chunk, model) in &chunks {
                prop_assert_eq!(memory.bytes(chunk, 0..model.len()), &model[..]);
            }
        }
        for (lease, _) in leases {
            memory.complete(lease);
        }
        for (chunk, _) in chunks {
            memory.release(chunk);
        }
        prop_assert_eq!((memory.in_use(), memory.adopted()), (0, 0));
    }
}
