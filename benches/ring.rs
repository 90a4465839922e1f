//! The ring against rtrb and crossbeam's `ArrayQueue`: on one thread (pure instruction cost) and across two threads
//! (cache-line traffic). Items are as large as a received packet's descriptor. No privileges needed:
//! `cargo bench --bench ring`.
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
use trust::buffer::ring;

/// As large as `RxFrame`, an array so that no queue may look into it.
type Item = [u64; 4];

const CAPACITY: usize = 1024;
const ITEM: Item = [1, 2, 3, 4];
const BATCHES: [usize; 2] = [1, 32];

/// One queue as its two ends; each call moves up to `batch` items and says how many it moved.
trait Queue {
    const NAME: &'static str;
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

fn one_thread<Q: Queue>(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring/one thread");
    for batch in BATCHES {
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
    let mut group = c.benchmark_group("ring/two threads");
    group.throughput(Throughput::Elements(1));
    for batch in BATCHES {
        group.bench_function(BenchmarkId::new(Q::NAME, batch), |b| {
            b.iter_custom(|items| transfer::<Q>(items, batch, [first, last]));
        });
    }
}

fn all(c: &mut Criterion) {
    one_thread::<Ours>(c);
    one_thread::<Rtrb>(c);
    one_thread::<Crossbeam>(c);
    // Asked before the first pinning: afterwards there is only one.
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    two_threads::<Ours>(c, &cores);
    two_threads::<Rtrb>(c, &cores);
    two_threads::<Crossbeam>(c, &cores);
}

criterion_group!(benches, all);
criterion_main!(benches);
