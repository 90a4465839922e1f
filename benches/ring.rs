//! The ring against rtrb and crossbeam's `ArrayQueue`: on one thread (pure instruction cost) and across two threads
//! (cache-line traffic). Items are as large as a received packet's descriptor. And the queue of octets against rtrb's ring of
//! octets, copied in and out by the slice. No privileges needed: `cargo bench --bench ring`.
//!
//! Two threads are pinned to two different cores; with one core only, their figures are skipped.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    hint::{black_box, spin_loop},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam::queue::ArrayQueue;
use trust::buffer::octets::{OctetBudget, OctetReader, OctetWriter, octet_queue};
use trust::buffer::ring;

/// As large as `RxFrame`, an array so that no queue may look into it.
type Item = [u64; 4];

const CAPACITY: usize = 1024;
const ITEM: Item = [1, 2, 3, 4];

/// One queue as its two ends; each call moves up to `batch` items and says how many it moved.
trait Queue {
    const NAME: &'static str;
    const GROUP: &'static str = "ring";
    const BATCHES: [usize; 2] = [1, 32];
    type In: Send;
    type Out: Send;
    fn make() -> (Self::In, Self::Out);
    fn put(end: &mut Self::In, batch: usize) -> usize;
    fn take(end: &mut Self::Out, batch: usize) -> usize;
}

struct Ours;

impl Queue for Ours {
    const NAME: &'static str = "trust";
    type In = ring::Producer<Item>;
    type Out = ring::Consumer<Item>;

    fn make() -> (Self::In, Self::Out) {
        ring::ring(CAPACITY)
    }

    #[inline(always)]
    fn put(end: &mut Self::In, batch: usize) -> usize {
        if batch == 1 {
            return usize::from(end.push(black_box(ITEM)).is_ok());
        }
        let put = end.stage_from(&mut std::iter::repeat_with(|| black_box(ITEM)).take(batch));
        end.publish();
        put
    }

    #[inline(always)]
    fn take(end: &mut Self::Out, batch: usize) -> usize {
        if batch == 1 {
            let taken = end.pop().map(black_box).is_some();
            end.release();
            return usize::from(taken);
        }
        let drain = end.drain(batch);
        let taken = drain.len();
        drain.for_each(|item| {
            black_box(item);
        });
        taken
    }
}

struct Rtrb;

impl Queue for Rtrb {
    const NAME: &'static str = "rtrb";
    type In = rtrb::Producer<Item>;
    type Out = rtrb::Consumer<Item>;

    fn make() -> (Self::In, Self::Out) {
        rtrb::RingBuffer::new(CAPACITY)
    }

    #[inline(always)]
    fn put(end: &mut Self::In, batch: usize) -> usize {
        if batch == 1 {
            return usize::from(end.push(black_box(ITEM)).is_ok());
        }
        let room = if end.cached_slots() >= batch { batch } else { end.slots().min(batch) };
        match end.write_chunk_uninit(room) {
            Ok(chunk) => chunk.fill_from_iter(std::iter::repeat_with(|| black_box(ITEM))),
            Err(_) => 0,
        }
    }

    #[inline(always)]
    fn take(end: &mut Self::Out, batch: usize) -> usize {
        if batch == 1 {
            return usize::from(end.pop().map(black_box).is_ok());
        }
        let there = if end.cached_slots() >= batch { batch } else { end.slots().min(batch) };
        match end.read_chunk(there) {
            Ok(chunk) => {
                chunk.into_iter().for_each(|item| {
                    black_box(item);
                });
                there
            }
            Err(_) => 0,
        }
    }
}

struct Crossbeam;

impl Queue for Crossbeam {
    const NAME: &'static str = "crossbeam ArrayQueue";
    type In = Arc<ArrayQueue<Item>>;
    type Out = Arc<ArrayQueue<Item>>;

    fn make() -> (Self::In, Self::Out) {
        let queue = Arc::new(ArrayQueue::new(CAPACITY));
        (Arc::clone(&queue), queue)
    }

    #[inline(always)]
    fn put(end: &mut Self::In, batch: usize) -> usize {
        (0..batch).take_while(|_| end.push(black_box(ITEM)).is_ok()).count()
    }

    #[inline(always)]
    fn take(end: &mut Self::Out, batch: usize) -> usize {
        (0..batch).take_while(|_| end.pop().map(black_box).is_some()).count()
    }
}

/// As large as a small receive buffer.
const OCTETS: usize = 65_536;
/// Payload of a small segment and of a full one.
const SLICES: [usize; 2] = [64, 1_448];

struct OurOctets;

impl Queue for OurOctets {
    const NAME: &'static str = "trust";
    const GROUP: &'static str = "octets";
    const BATCHES: [usize; 2] = SLICES;
    type In = (OctetWriter, [u8; 1_448]);
    type Out = (OctetReader, [u8; 1_448]);

    fn make() -> (Self::In, Self::Out) {
        let (writer, reader) = octet_queue(OCTETS, &Arc::new(OctetBudget::new(usize::MAX)));
        ((writer, [1; 1_448]), (reader, [0; 1_448]))
    }

    #[inline(always)]
    fn put((writer, octets): &mut Self::In, batch: usize) -> usize {
        writer.write(black_box(&octets[..batch]))
    }

    #[inline(always)]
    fn take((reader, octets): &mut Self::Out, batch: usize) -> usize {
        let read = reader.read(&mut octets[..batch]);
        black_box(&octets[..read]);
        read
    }
}

struct RtrbOctets;

impl Queue for RtrbOctets {
    const NAME: &'static str = "rtrb";
    const GROUP: &'static str = "octets";
    const BATCHES: [usize; 2] = SLICES;
    type In = (rtrb::Producer<u8>, [u8; 1_448]);
    type Out = (rtrb::Consumer<u8>, [u8; 1_448]);

    fn make() -> (Self::In, Self::Out) {
        let (producer, consumer) = rtrb::RingBuffer::new(OCTETS);
        ((producer, [1; 1_448]), (consumer, [0; 1_448]))
    }

    #[inline(always)]
    fn put((producer, octets): &mut Self::In, batch: usize) -> usize {
        producer.push_partial_slice(black_box(&octets[..batch])).0.len()
    }

    #[inline(always)]
    fn take((consumer, octets): &mut Self::Out, batch: usize) -> usize {
        let read = consumer.pop_partial_slice(&mut octets[..batch]).0.len();
        black_box(&octets[..read]);
        read
    }
}

fn one_thread<Q: Queue>(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("{}/one thread", Q::GROUP));
    for batch in Q::BATCHES {
        group.throughput(Throughput::Elements(batch as u64));
        let (mut input, mut output) = Q::make();
        group.bench_function(BenchmarkId::new(Q::NAME, batch), |b| {
            b.iter(|| {
                Q::put(&mut input, batch);
                Q::take(&mut output, batch)
            });
        });
    }
}

/// Time for `items` items from one thread to another, in batches, both spinning.
fn transfer<Q: Queue>(items: u64, batch: usize, cores: [core_affinity::CoreId; 2]) -> Duration {
    let (mut input, mut output) = Q::make();
    let (start, stop) = (Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            core_affinity::set_for_current(cores[1]);
            start.wait();
            while !stop.load(Ordering::Relaxed) {
                if Q::put(&mut input, batch) == 0 {
                    spin_loop();
                }
            }
        });
        core_affinity::set_for_current(cores[0]);
        start.wait();
        let begin = Instant::now();
        let mut taken = 0;
        while taken < items {
            match Q::take(&mut output, batch) {
                0 => spin_loop(),
                some => taken += some as u64,
            }
        }
        let time = begin.elapsed();
        stop.store(true, Ordering::Relaxed);
        time
    })
}

fn two_threads<Q: Queue>(c: &mut Criterion, cores: &[core_affinity::CoreId]) {
    let &[first, .., last] = cores else { return };
    let mut group = c.benchmark_group(format!("{}/two threads", Q::GROUP));
    group.throughput(Throughput::Elements(1));
    for batch in Q::BATCHES {
        group.bench_function(BenchmarkId::new(Q::NAME, batch), |b| {
            b.iter_custom(|items| transfer::<Q>(items, batch, [first, last]));
        });
    }
}

fn all(c: &mut Criterion) {
    one_thread::<Ours>(c);
    one_thread::<Rtrb>(c);
    one_thread::<Crossbeam>(c);
    one_thread::<OurOctets>(c);
    one_thread::<RtrbOctets>(c);
    // Asked before the first pinning: afterwards there is only one.
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    two_threads::<Ours>(c, &cores);
    two_threads::<Rtrb>(c, &cores);
    two_threads::<Crossbeam>(c, &cores);
    two_threads::<OurOctets>(c, &cores);
    two_threads::<RtrbOctets>(c, &cores);
}

criterion_group!(benches, all);
criterion_main!(benches);
