//! The model checker on the octet queue: every interleaving (within the bound on preemptions) of a writer and a reader, with
//! segments of 2 and 4 octets. Run by `cargo xloom`.
#![allow(clippy::unwrap_used)]

use loom::thread;

use super::*;

/// Explores `scenario` with at most `preemptions` switches away from a thread that could go on.
fn explore(preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(scenario);
}

/// A queue shortly before its counts wrap.
fn queue(capacity: usize, limit: usize) -> (OctetWriter, OctetReader, Arc<OctetBudget>) {
    let budget = Arc::new(OctetBudget::new(limit));
    let (writer, reader) = queue_from(capacity, &budget, usize::MAX - 2);
    (writer, reader, budget)
}

/// Writes the octets `from..to`, `at_once` at a time, giving way while there is no room.
fn write_all(writer: &mut OctetWriter, from: u8, to: u8, at_once: u8) {
    let mut at = from;
    while at < to {
        let octets: Vec<u8> = (at..to.min(at + at_once)).collect();
        let written = writer.write(&octets);
        at += written as u8;
        if written == 0 {
            thread::yield_now();
        }
    }
}

/// Reads the octets `from..to`, up to `at_once` at a time, giving way while there is none.
fn read_all(reader: &mut OctetReader, from: u8, to: u8, at_once: usize) {
    let mut at = from;
    while at < to {
        let mut octets = [0; 8];
        let read = reader.read(&mut octets[..at_once]);
        for octet in &octets[..read] {
            assert_eq!(*octet, at);
            at += 1;
        }
        if read == 0 {
            thread::yield_now();
        }
    }
}

#[test]
fn loom_octets_pass_in_order_through_segments_linked_and_started_over() {
    explore(2, || {
        let (mut writer, mut reader, budget) = queue(3, 100);
        let thread = thread::spawn(move || write_all(&mut writer, 0, 4, 1));
        read_all(&mut reader, 0, 4, 2);
        thread.join().unwrap();
        drop(reader);
        assert_eq!(budget.in_use(), 0);
    });
}

#[test]
fn loom_growing_segments_are_recycled_or_freed() {
    explore(3, || {
        let (mut writer, mut reader, budget) = queue(6, 100);
        let thread = thread::spawn(move || write_all(&mut writer, 0, 9, 5));
        read_all(&mut reader, 0, 9, 3);
        thread.join().unwrap();
        drop(reader);
        assert_eq!(budget.in_use(), 0);
    });
}

#[test]
fn loom_without_budget_one_segment_is_started_over() {
    explore(3, || {
        let (mut writer, mut reader, budget) = queue(6, 0);
        let thread = thread::spawn(move || {
            write_all(&mut writer, 0, 5, 3);
            writer
        });
        read_all(&mut reader, 0, 5, 4);
        assert_eq!(budget.in_use(), SMALLEST);
        drop(thread.join().unwrap());
        drop(reader);
        assert_eq!(budget.in_use(), 0);
    });
}

#[test]
fn loom_octets_filled_in_place_are_seen_when_committed() {
    explore(3, || {
        let (mut writer, mut reader, _budget) = queue(4, 100);
        let thread = thread::spawn(move || {
            let mut at = 0;
            while at < 5_u8 {
                let spare = writer.spare();
                let len = spare.len().min(usize::from(5 - at));
                spare[..len].iter_mut().for_each(|octet| {
                    *octet = at;
                    at += 1;
                });
                writer.commit(len);
                if len == 0 {
                    thread::yield_now();
                }
            }
        });
        read_all(&mut reader, 0, 5, 2);
        thread.join().unwrap();
    });
}

#[test]
fn loom_peeked_octets_stay_until_consumed() {
    explore(3, || {
        let (mut writer, mut reader, _budget) = queue(3, 100);
        let thread = thread::spawn(move || write_all(&mut writer, 0, 5, 2));
        let mut at = 0;
        while at < 5 {
            let mut seen = 0;
            for slice in reader.slices() {
                for octet in slice {
                    assert_eq!(*octet, at + seen);
                    seen += 1;
                }
            }
            assert!(reader.peek().first().is_none_or(|octet| *octet == at));
            reader.consume(usize::from(seen.min(2)));
            at += seen.min(2);
            if seen == 0 {
                thread::yield_now();
            }
        }
        thread.join().unwrap();
    });
}

#[test]
fn loom_all_memory_is_given_back_whichever_end_goes_first() {
    explore(3, || {
        let (mut writer, mut reader, budget) = queue(8, 100);
        let thread = thread::spawn(move || {
            writer.write(&[0, 1, 2]);
            writer.write(&[3, 4]);
        });
        let mut octets = [0; 3];
        let read = reader.read(&mut octets);
        assert!(octets[..read].iter().copied().eq(0..read as u8));
        drop(reader);
        thread.join().unwrap();
        assert_eq!(budget.in_use(), 0);
    });
}

#[test]
fn loom_pieces_pass_uncopied_between_copied_octets() {
    explore(2, || {
        let (mut writer, mut reader, budget) = queue(6, 100);
        let thread = thread::spawn(move || {
            write_all(&mut writer, 0, 1, 1);
            writer.push_bytes(Bytes::from_static(&[1, 2, 3])).unwrap();
            write_all(&mut writer, 4, 6, 2);
        });
        let mut at = 0;
        while at < 6 {
            if let Some(piece) = reader.take_bytes(2) {
                assert!((1..4).contains(&at));
                assert!(piece.iter().copied().eq(at..at + piece.len() as u8));
                at += piece.len() as u8;
            } else if let Some(octet) = reader.peek().first() {
                assert_eq!(*octet, at);
                reader.consume(1);
                at += 1;
            } else {
                thread::yield_now();
            }
        }
        thread.join().unwrap();
        drop(reader);
        assert_eq!(budget.in_use(), 0);
    });
}

#[test]
fn loom_both_ends_trim_while_octets_pass() {
    explore(3, || {
        let (mut writer, mut reader, budget) = queue(4, 0);
        let thread = thread::spawn(move || {
            write_all(&mut writer, 0, 2, 2);
            writer.trim();
            write_all(&mut writer, 2, 4, 1);
            writer.trim();
        });
        read_all(&mut reader, 0, 1, 1);
        reader.trim();
        read_all(&mut reader, 1, 4, 2);
        reader.trim();
        thread.join().unwrap();
        drop(reader);
        assert_eq!(budget.in_use(), 0);
    });
}

#[test]
fn loom_two_queues_share_a_budget() {
    explore(2, || {
        let budget = Arc::new(OctetBudget::new(4));
        let run = |budget: &Arc<OctetBudget>| {
            let (mut writer, mut reader) = octet_queue(8, budget);
            let written = writer.write(&[0, 1, 2, 3]);
            assert!(written >= SMALLEST);
            read_all(&mut reader, 0, written as u8, 8);
        };
        let others = Arc::clone(&budget);
        let thread = thread::spawn(move || run(&others));
        run(&budget);
        assert!(budget.in_use() <= 4 + SMALLEST);
        thread.join().unwrap();
        assert_eq!(budget.in_use(), 0);
    });
}
