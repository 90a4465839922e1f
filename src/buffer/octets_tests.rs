//! Tests of the octet queue on real threads and alone; the interleavings are explored in `octets_loom.rs`.
#![allow(clippy::unwrap_used)]

use std::{collections::VecDeque, thread, time::Duration, time::Instant};

use proptest::prelude::*;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

fn plenty() -> Arc<OctetBudget> {
    Arc::new(OctetBudget::new(usize::MAX))
}

/// Octets that tell where they stood.
fn pattern(start: usize, len: usize) -> Vec<u8> {
    (start..start + len).map(|index| (index % 251) as u8).collect()
}

fn read_all(reader: &mut OctetReader) -> Vec<u8> {
    let mut octets = vec![0; reader.len()];
    let read = reader.read(&mut octets);
    assert_eq!(read, octets.len());
    octets
}

#[test]
fn written_octets_are_read_in_order() {
    let (mut writer, mut reader) = octet_queue(100, &plenty());
    assert!(writer.is_empty() && reader.is_empty());
    assert_eq!(reader.peek(), b"");
    assert_eq!(writer.write(b"abc"), 3);
    assert_eq!(writer.write_vectored(&[IoSlice::new(b"de"), IoSlice::new(b""), IoSlice::new(b"f")]), 3);
    assert_eq!((writer.len(), reader.len(), writer.room()), (6, 6, 94));
    assert_eq!(reader.peek(), b"abcdef");
    reader.consume(2);
    assert_eq!(reader.slices().collect::<Vec<_>>(), [b"cdef"]);
    let mut two = [0; 2];
    assert_eq!((reader.read(&mut two), &two), (2, b"cd"));
    assert!(!writer.is_empty());
    assert_eq!(read_all(&mut reader), b"ef");
    assert!(writer.is_empty() && reader.is_empty());
    assert_eq!(reader.read(&mut two), 0);
}

#[test]
fn no_more_than_the_capacity_is_taken() {
    let (mut writer, mut reader) = octet_queue(5_000, &plenty());
    assert_eq!(writer.write(&pattern(0, 6_000)), 5_000);
    assert_eq!((writer.room(), writer.write(b"x"), writer.spare().len()), (0, 0, 0));
    reader.consume(10);
    assert_eq!(writer.write_vectored(&[IoSlice::new(&pattern(5_000, 8)), IoSlice::new(&pattern(5_008, 8))]), 10);
    assert_eq!(read_all(&mut reader), pattern(10, 5_000));
    assert_eq!(writer.room(), 5_000);
    let (mut writer, reader) = octet_queue(0, &plenty());
    assert_eq!((writer.write(b"x"), writer.room(), reader.len()), (0, 0, 0));
}

#[test]
fn a_capacity_set_below_what_is_queued_leaves_no_room() {
    let (mut writer, mut reader) = octet_queue(3_000, &plenty());
    writer.write(&pattern(0, 2_000));
    writer.set_capacity(500);
    assert_eq!((writer.capacity(), writer.room(), writer.write(b"x")), (500, 0, 0));
    reader.consume(1_400);
    assert_eq!((writer.room(), writer.write(b"x")), (0, 0));
    reader.consume(200);
    assert_eq!((writer.room(), writer.write(&pattern(2_000, 200))), (100, 100));
    assert_eq!(read_all(&mut reader), pattern(1_600, 500));
    writer.set_capacity(100_000);
    assert_eq!(writer.write(&pattern(0, 200_000)), 100_000);
    assert_eq!(read_all(&mut reader), pattern(0, 100_000));
}

#[test]
fn octets_are_filled_in_place() {
    let (mut writer, mut reader) = octet_queue(3_000, &plenty());
    let mut filled = 0;
    while !writer.spare().is_empty() {
        let spare = writer.spare();
        let len = spare.len().min(700);
        spare[..len].copy_from_slice(&pattern(filled, len));
        writer.commit(len);
        filled += len;
    }
    assert_eq!((filled, writer.room()), (3_000, 0));
    assert_eq!(read_all(&mut reader), pattern(0, 3_000));
    // Not committed: nothing to be seen.
    writer.spare().fill(7);
    writer.commit(0);
    assert!(reader.is_empty());
    assert_eq!(writer.write(b"abc"), 3);
    assert_eq!(read_all(&mut reader), b"abc");
}

#[test]
#[should_panic(expected = "commit beyond the spare memory")]
fn commit_is_held_to_the_spare_memory() {
    let (mut writer, _reader) = octet_queue(3_000, &plenty());
    let len = writer.spare().len();
    writer.commit(len + 1);
}

#[test]
#[should_panic(expected = "commit beyond the spare memory")]
fn commit_is_held_to_the_capacity() {
    let (mut writer, _reader) = octet_queue(10, &plenty());
    writer.write(b"12345");
    writer.commit(6);
}

#[test]
#[should_panic(expected = "more octets consumed than were in the queue")]
fn consume_is_held_to_what_is_there() {
    let (mut writer, mut reader) = octet_queue(10, &plenty());
    writer.write(b"12345");
    reader.consume(6);
}

#[test]
fn an_idle_queue_has_no_memory_and_one_that_keeps_up_a_small_segment() {
    let budget = plenty();
    let (mut writer, mut reader) = octet_queue(1 << 20, &budget);
    assert_eq!(budget.in_use(), 0);
    let mut at = 0;
    for round in 0..1_000 {
        let len = 1 + round % 1_000;
        assert_eq!(writer.write(&pattern(at, len)), len);
        assert_eq!(read_all(&mut reader), pattern(at, len));
        at += len;
        assert_eq!(budget.in_use(), SMALLEST);
    }
    // A reader that trails by less than a segment makes two of them go round.
    writer.write(&pattern(at, 500));
    for _ in 0..1_000 {
        writer.write(&pattern(at + 500, 300));
        let mut read = [0; 300];
        reader.read(&mut read);
        assert_eq!(read[..], pattern(at, 300));
        at += 300;
        assert!(budget.in_use() <= 2 * SMALLEST, "{}", budget.in_use());
    }
}

#[test]
fn segments_grow_while_the_reader_is_behind_and_are_recycled() {
    let budget = plenty();
    let (mut writer, mut reader) = octet_queue(1 << 20, &budget);
    assert_eq!(writer.write(&pattern(0, 1 << 20)), 1 << 20);
    let sizes: Vec<usize> = reader.slices().map(<[u8]>::len).collect();
    assert_eq!(sizes[..8], [1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536, 65_536]);
    let most = budget.in_use();
    assert!(most < (1 << 20) + LARGEST, "{most}");
    assert_eq!(read_all(&mut reader), pattern(0, 1 << 20));
    // The writer's and the spare one are left.
    assert_eq!(budget.in_use(), 2 * LARGEST);
    for round in 0..100 {
        writer.write(&pattern(round, 100_000));
        assert_eq!(read_all(&mut reader), pattern(round, 100_000));
        assert!(budget.in_use() <= 3 * LARGEST, "{}", budget.in_use());
    }
}

#[test]
fn no_segment_is_larger_than_the_queue_needs() {
    let budget = plenty();
    let (mut writer, _reader) = octet_queue(8_192, &budget);
    assert_eq!(writer.write(&pattern(0, 10_000)), 8_192);
    assert_eq!(budget.in_use(), 1_024 + 2_048 + 4_096 + 8_192);
    let budget = plenty();
    let (mut writer, _reader) = octet_queue(10, &budget);
    assert_eq!(writer.write(&pattern(0, 100)), 10);
    assert_eq!(budget.in_use(), SMALLEST);
}

#[test]
fn beyond_the_budget_each_queue_has_one_small_segment() {
    let budget = Arc::new(OctetBudget::new(0));
    let (mut other, mut other_reader) = octet_queue(1 << 20, &budget);
    for round in 0..10 {
        assert!(other.room() > 0);
        assert_eq!(other.write(&pattern(round, 5_000)), SMALLEST, "round {round}");
        assert_eq!(other.room(), 0);
        other_reader.consume(1_000);
        assert_eq!((other.room(), other.write(b"x")), (0, 0), "until the reader has taken all");
        other_reader.consume(24);
    }
    drop((other, other_reader));
    assert_eq!(budget.in_use(), 0);
}

/// Queues that nobody reads, one after another: each gets an eighth of what is left at most, and there is more than the
/// one small segment for who comes last.
#[test]
fn a_queue_has_an_eighth_of_what_is_free_at_most() {
    let budget = Arc::new(OctetBudget::new(64 << 10));
    let mut greedy: Vec<_> = (0..7).map(|_| octet_queue(1 << 20, &budget)).collect();
    let written: Vec<_> = greedy.iter_mut().map(|(writer, _)| writer.write(&pattern(0, 100_000))).collect();
    // 1,024 and 2,048 and 4,096: with another 1,024 it would be more than an eighth of the rest.
    assert_eq!(written[0], 7_168);
    assert!(written.is_sorted_by(|a, b| a >= b), "{written:?}");
    let (mut last, _reader) = octet_queue(1 << 20, &budget);
    assert!(last.write(&pattern(0, 100_000)) > SMALLEST, "{written:?}");
    assert!(budget.in_use() <= budget.limit());
    // What is given back is everybody's again.
    greedy.clear();
    assert!(last.write(&pattern(0, 100_000)) >= 4_096);
}

#[test]
fn memory_goes_with_the_ends_in_either_order() {
    for writer_first in [true, false] {
        for octets in [0, 1, 1_024, 1_025, 300_000] {
            for taken in [0, 1, 1_024, 3_072, 100_000] {
                let budget = plenty();
                let (mut writer, mut reader) = octet_queue(1 << 20, &budget);
                writer.write(&pattern(0, octets));
                reader.consume(taken.min(octets));
                if writer_first {
                    drop(writer);
                    assert_eq!(read_all(&mut reader), pattern(taken.min(octets), octets - taken.min(octets)));
                } else {
                    drop(reader);
                    assert!(writer.is_empty() && budget.in_use() <= 2 * LARGEST);
                    writer.write(&pattern(0, octets));
                }
            }
        }
    }
    let budget = plenty();
    let (mut writer, reader) = octet_queue(10, &budget);
    writer.spare();
    drop((writer, reader));
    assert_eq!(budget.in_use(), 0);
}

/// Octets of an application that tells when they are let go.
struct Owned(Vec<u8>, Arc<AtomicUsize>);

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
fn owned(octets: &[u8]) -> (Bytes, Arc<AtomicUsize>) {
    let gone = Arc::default();
    (Bytes::from_owner(Owned(octets.to_vec(), Arc::clone(&gone))), gone)
}

#[test]
fn octets_of_the_application_pass_uncopied_between_copied_ones() {
    let budget = plenty();
    let (mut writer, mut reader) = octet_queue(100_000, &budget);
    let piece = Bytes::from(pattern(3, 5_000));
    let at = piece.as_ptr();
    writer.write(&pattern(0, 3));
    writer.push_bytes(piece).unwrap();
    writer.write(&pattern(5_003, 4));
    assert_eq!((reader.len(), writer.room()), (5_007, 100_000 - 5_007));
    assert_eq!(reader.slices().map(<[u8]>::len).collect::<Vec<_>>(), [3, 5_000, 4]);
    assert_eq!((reader.take_bytes(9), reader.peek()), (None, &pattern(0, 3)[..]), "copied octets come first");
    reader.consume(3);
    assert_eq!(reader.peek(), pattern(3, 5_000));
    let (first, rest) = (reader.take_bytes(1_000).unwrap(), reader.take_bytes(usize::MAX).unwrap());
    assert_eq!((first.as_ptr(), rest.as_ptr()), (at, at.wrapping_add(1_000)));
    assert_eq!((&first[..], &rest[..]), (&pattern(3, 1_000)[..], &pattern(1_003, 4_000)[..]));
    assert_eq!((reader.take_bytes(9), read_all(&mut reader)), (None, pattern(5_003, 4)));
    assert_eq!((reader.take_bytes(9), writer.is_empty()), (None, true));
    // Read like any others, too.
    writer.push_bytes(Bytes::from(pattern(0, 3_000))).unwrap();
    let mut octets = [0; 2_000];
    assert_eq!(reader.read(&mut octets), 2_000);
    assert_eq!(
        (octets[..] == pattern(0, 2_000), &reader.take_bytes(9_999).unwrap()[..]),
        (true, &pattern(2_000, 1_000)[..])
    );
    assert!(reader.is_empty());
}

#[test]
fn octets_of_the_application_are_cut_at_the_capacity_and_copied_when_few() {
    let (mut writer, mut reader) = octet_queue(4_000, &plenty());
    let rest = writer.push_bytes(Bytes::from(pattern(0, 6_100))).unwrap_err();
    assert_eq!((&rest[..], writer.room()), (&pattern(4_000, 2_100)[..], 0));
    let rest = writer.push_bytes(rest).unwrap_err();
    reader.consume(1_500);
    // Room for few: copied, though there are many.
    let rest = writer.push_bytes(rest).unwrap_err();
    assert_eq!(rest, pattern(5_500, 600));
    reader.consume(3_000);
    writer.push_bytes(rest).unwrap();
    writer.push_bytes(Bytes::new()).unwrap();
    assert_eq!(reader.take_bytes(1), None);
    assert_eq!(read_all(&mut reader), pattern(4_500, 1_600));
}

#[test]
fn octets_of_the_application_are_let_go_when_read() {
    let (mut writer, mut reader) = octet_queue(100_000, &plenty());
    let (bytes, gone) = owned(&pattern(0, 3_000));
    writer.push_bytes(bytes).unwrap();
    reader.consume(2_999);
    assert_eq!(gone.load(Ordering::Relaxed), 0);
    reader.consume(1);
    assert_eq!(gone.load(Ordering::Relaxed), 1, "though nothing was written behind them");
    let (bytes, gone) = owned(&pattern(0, 3_000));
    writer.push_bytes(bytes).unwrap();
    writer.write(b"x");
    reader.consume(3_001);
    assert_eq!(gone.load(Ordering::Relaxed), 1);
    for reader_first in [true, false] {
        let (mut writer, reader) = octet_queue(100_000, &plenty());
        let (bytes, gone) = owned(&pattern(0, 3_000));
        writer.push_bytes(bytes).unwrap();
        if reader_first {
            drop(reader);
            assert_eq!(gone.load(Ordering::Relaxed), 1);
        } else {
            drop(writer);
            assert_eq!(gone.load(Ordering::Relaxed), 0);
            drop(reader);
            assert_eq!(gone.load(Ordering::Relaxed), 1);
        }
    }
}

#[test]
fn an_empty_queue_whose_ends_trim_it_has_no_memory() {
    let budget = plenty();
    let (mut writer, mut reader) = octet_queue(1 << 20, &budget);
    writer.trim();
    reader.trim();
    for _ in 0..2 {
        writer.write(&pattern(0, 300_000));
        reader.consume(100);
        writer.trim();
        reader.trim();
        assert_eq!(read_all(&mut reader), pattern(100, 299_900));
        assert_eq!(budget.in_use(), 2 * LARGEST);
        reader.trim();
        assert_eq!(budget.in_use(), LARGEST);
        writer.trim();
        writer.trim();
        reader.trim();
        assert_eq!(budget.in_use(), 0);
        writer.write(b"small again");
        assert_eq!((budget.in_use(), &read_all(&mut reader)[..]), (SMALLEST, &b"small again"[..]));
        writer.push_bytes(Bytes::from(pattern(0, 5_000))).unwrap();
        assert_eq!(read_all(&mut reader), pattern(0, 5_000));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Push(usize),
    Take(usize),
    TrimWriter,
    TrimReader,
    WriteVectored(usize, usize),
    Fill(usize),
    Read(usize),
    Consume(usize),
    Peek,
    Capacity(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = || prop_oneof![0..10_usize, 0..3_000_usize, 1_000..1_050_usize, 0..150_000_usize];
    let step = prop_oneof![
        4 => len().prop_map(Step::Write),
        2 => len().prop_map(Step::Push),
        2 => len().prop_map(Step::Take),
        1 => Just(Step::TrimWriter),
        1 => Just(Step::TrimReader),
        1 => (len(), len()).prop_map(|(a, b)| Step::WriteVectored(a, b)),
        2 => len().prop_map(Step::Fill),
        4 => len().prop_map(Step::Read),
        2 => len().prop_map(Step::Consume),
        1 => Just(Step::Peek),
        1 => len().prop_map(Step::Capacity),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    #[test]
    fn behaves_as_a_deque_of_octets(
        steps in steps(),
        capacity in 0..200_000_usize,
        before_wrap in 0..100_000_usize,
        limit in prop_oneof![Just(usize::MAX), 0..100_000_usize],
    ) {
        let budget = Arc::new(OctetBudget::new(limit));
        let (mut writer, mut reader) = queue_from(capacity, &budget, usize::MAX - before_wrap);
        let mut model = VecDeque::new();
        let mut capacity = capacity;
        let mut at = 0;
        // A segment given up by the writer counts until the reader leaves it.
        let mut trimmed = 0;
        for step in steps {
            let room = capacity.saturating_sub(model.len());
            match step {
                Step::Write(len) => {
                    let open = writer.room();
                    prop_assert!(open == room || open == 0);
                    let octets = pattern(at, len);
                    let written = writer.write(&octets);
                    prop_assert!(written <= len.min(room));
                    prop_assert!(limit < usize::MAX || written == len.min(room));
                    prop_assert!(written > 0 || len == 0 || open == 0, "never stuck while there is said to be room");
                    prop_assert!(written > 0 || len == 0 || room == 0 || !model.is_empty(), "never stuck while empty");
                    model.extend(&octets[..written]);
                    at += written;
                }
                Step::Push(len) => {
                    let octets = Bytes::from(pattern(at, len));
                    let rest = writer.push_bytes(octets.clone()).err().unwrap_or_default();
                    let pushed = len - rest.len();
                    prop_assert_eq!(&rest, &octets[pushed..]);
                    prop_assert!(pushed <= len.min(room));
                    prop_assert!(limit < usize::MAX || pushed == len.min(room));
                    prop_assert!(pushed > 0 || len == 0 || room == 0 || !model.is_empty());
                    model.extend(&octets[..pushed]);
                    at += pushed;
                }
                Step::Take(most) => {
                    if let Some(octets) = reader.take_bytes(most) {
                        prop_assert!(!octets.is_empty() && octets.len() <= most);
                        prop_assert!(octets.iter().copied().eq(model.drain(..octets.len())));
                    }
                }
                Step::TrimWriter => {
                    writer.trim();
                    trimmed = SMALLEST;
                }
                Step::TrimReader => reader.trim(),
                Step::WriteVectored(a, b) => {
                    let octets = pattern(at, a + b);
                    let written = writer.write_vectored(&[IoSlice::new(&octets[..a]), IoSlice::new(&octets[a..])]);
                    prop_assert!(written <= (a + b).min(room));
                    prop_assert!(limit < usize::MAX || written == (a + b).min(room));
                    model.extend(&octets[..written]);
                    at += written;
                }
                Step::Fill(len) => {
                    let spare = writer.spare();
                    prop_assert!(spare.len() <= room);
                    prop_assert!(!spare.is_empty() || room == 0 || limit < usize::MAX);
                    prop_assert!(!spare.is_empty() || room == 0 || !model.is_empty());
                    let len = len.min(spare.len());
                    spare[..len].copy_from_slice(&pattern(at, len));
                    writer.commit(len);
                    model.extend(pattern(at, len));
                    at += len;
                }
                Step::Read(len) => {
                    let mut octets = vec![0; len];
                    let read = reader.read(&mut octets);
                    prop_assert_eq!(read, len.min(model.len()));
                    prop_assert!(octets[..read].iter().copied().eq(model.drain(..read)));
                }
                Step::Consume(len) => {
                    let len = len.min(reader.len());
                    reader.consume(len);
                    model.drain(..len);
                }
                Step::Peek => {
                    prop_assert!(reader.slices().flatten().eq(&model));
                    prop_assert!(reader.peek().iter().eq(model.iter().take(reader.peek().len())));
                    prop_assert_eq!(reader.peek().is_empty(), model.is_empty());
                }
                Step::Capacity(to) => {
                    writer.set_capacity(to);
                    capacity = to;
                }
            }
            prop_assert_eq!(reader.len(), model.len());
            prop_assert_eq!(writer.len(), model.len());
            prop_assert_eq!(writer.is_empty(), model.is_empty());
            prop_assert!(budget.in_use() <= limit.max(SMALLEST).saturating_add(trimmed));
        }
        drop(writer);
        prop_assert!(read_all(&mut reader).iter().eq(&model));
        drop(reader);
        prop_assert_eq!(budget.in_use(), 0);
    }
}

#[test]
fn octets_cross_threads_in_order() {
    let total = if cfg!(miri) { 20_000 } else { 20_000_000 };
    let budget = Arc::new(OctetBudget::new(150_000));
    let (mut writer, mut reader) = queue_from(100_000, &budget, usize::MAX - 10_000);
    let begin = Instant::now();
    let producer = thread::spawn(move || {
        let octets = pattern(0, 251 * 400);
        let mut at = 0;
        let mut len = 1;
        while at < total && begin.elapsed() < LIMIT {
            let start = at % 251;
            let want = len.min(total - at);
            let written = if len % 3 == 0 {
                let spare = writer.spare();
                let want = want.min(spare.len());
                spare[..want].copy_from_slice(&octets[start..start + want]);
                writer.commit(want);
                want
            } else {
                writer.write(&octets[start..start + want])
            };
            at += written;
            len = len * 7 % 99_991 + 1;
            if written == 0 {
                thread::yield_now();
            }
        }
    });
    let mut at = 0;
    let mut len = 1;
    let mut octets = vec![0; 100_000];
    let expected = pattern(0, 251 * 400);
    while at < total && begin.elapsed() < LIMIT {
        let read = if len % 2 == 0 {
            let peeked = reader.peek();
            let read = peeked.len().min(len);
            octets[..read].copy_from_slice(&peeked[..read]);
            reader.consume(read);
            read
        } else {
            reader.read(&mut octets[..len])
        };
        assert!(octets[..read] == expected[at % 251..][..read], "at {at}");
        at += read;
        len = len * 5 % 99_989 + 1;
        if read == 0 {
            thread::yield_now();
        }
    }
    producer.join().unwrap();
    assert_eq!(at, total);
    drop(reader);
    assert_eq!(budget.in_use(), 0);
}
