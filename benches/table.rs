//! Flow table lookups at 1 k, 100 k and 1 M flows, as a shard does them: a batch of random flows, with and without
//! prefetching over the batch, each lookup comparing the quad stored with the connection. hashbrown's table beside it. No
//! privileges needed: `cargo bench --bench table`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use trust::{
    flow::{Endpoint, Quad},
    shard::{FlowHasher, slab::Slab, table::FlowTable, wheel::Wheel},
    tcp::time::{Duration, Instant},
};

const BATCH: usize = 64;

/// Stands for a connection: as large as one, with its quad at the front.
#[repr(align(64))]
struct Connection {
    quad: Quad,
    _rest: [u64; 56],
}

fn quad(flow: u32) -> Quad {
    let [a, b, c, d] = flow.to_be_bytes();
    Quad {
        local: Endpoint::new([192, 0, 2, 1].into(), 443),
        remote: Endpoint::new([10, a, b, c].into(), 1024 + u16::from(d)),
    }
}

/// A cheap random number.
fn random(state: &mut u64) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as u32
}

fn lookups(c: &mut Criterion) {
    let hasher = FlowHasher::from_random([42; 16]);
    let mut group = c.benchmark_group("flow table/lookup");
    group.throughput(Throughput::Elements(BATCH as u64));
    for flows in [1_000_u32, 100_000, 1_000_000] {
        let mut connections = Slab::new();
        let mut table = FlowTable::default();
        let mut other = hashbrown::HashTable::new();
        for flow in 0..flows {
            let slot = connections.insert(Connection { quad: quad(flow), _rest: [0; 56] }).slot;
            let hash = hasher.hash(&quad(flow));
            table.insert(hash, slot);
            other.insert_unique(hash, slot, |&slot| hasher.hash(&connections.at(slot).unwrap().quad));
        }
        let mut state = 1;
        let mut batch = || -> Vec<(u64, Quad)> {
            let mut one = || quad(random(&mut state) % flows);
            (0..BATCH).map(|_| one()).map(|quad| (hasher.hash(&quad), quad)).collect()
        };
        let is_it = |slot: u32, quad: &Quad| connections.at(slot).is_some_and(|connection| connection.quad == *quad);
        let find = |(hash, quad): &(u64, Quad)| table.get(*hash, |slot| is_it(slot, quad));
        group.bench_function(BenchmarkId::new("one by one", flows), |b| {
            b.iter_batched_ref(&mut batch, |batch| batch.iter().filter_map(find).count(), BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("prefetched", flows), |b| {
            b.iter_batched_ref(
                &mut batch,
                |batch| {
                    batch.iter().for_each(|(hash, _)| table.prefetch(*hash));
                    for (hash, _) in batch.iter() {
                        if let Some(slot) = table.get(*hash, |_| true) {
                            connections.prefetch(slot, 1);
                        }
                    }
                    batch.iter().filter_map(find).count()
                },
                BatchSize::SmallInput,
            );
        });
        group.bench_function(BenchmarkId::new("hashbrown", flows), |b| {
            let find = |(hash, quad): &(u64, Quad)| other.find(*hash, |&slot| is_it(slot, quad)).copied();
            b.iter_batched_ref(&mut batch, |batch| batch.iter().filter_map(find).count(), BatchSize::SmallInput);
        });
    }
    group.finish();
    c.bench_function("flow table/hash of a quad", |b| {
        let quad = quad(7);
        b.iter(|| hasher.hash(black_box(&quad)));
    });
}

/// What each ACK does to the wheel, and what a whole period of it costs.
fn wheel(c: &mut Criterion) {
    const CONNECTIONS: u32 = 10_000;
    let mut wheel = Wheel::new(Instant::ZERO);
    let mut now = Instant::ZERO;
    let mut slot = 0;
    c.bench_function("wheel/move a deadline back", |b| {
        b.iter(|| {
            now += Duration::from_micros(2);
            slot = (slot + 1) % CONNECTIONS;
            wheel.insert(slot, now + Duration::from_millis(200));
            wheel.expired(now, &mut |slot| {
                black_box(slot);
            });
        });
    });
}

/// What the longest of many inserts takes, growth included: no mean, so no matter for criterion. Each run does the same at
/// the same insert, so an insert costs the least of all runs; what is above that was taken by others, as a hypervisor does.
fn worst_inserts(_: &mut Criterion) {
    const MANY: u32 = 2_700_000;
    const RUNS: u32 = 5;
    let report = |what: &str, fresh: &dyn Fn() -> Box<dyn FnMut(u32)>| {
        let mut least = vec![std::time::Duration::MAX; MANY as usize];
        let (mut sum, mut longest_of_all) = (std::time::Duration::ZERO, std::time::Duration::ZERO);
        for _ in 0..RUNS {
            let mut insert = fresh();
            for (number, least) in (0..MANY).zip(&mut least) {
                let start = std::time::Instant::now();
                insert(number);
                let took = start.elapsed();
                *least = took.min(*least);
                sum += took;
                longest_of_all = took.max(longest_of_all);
            }
        }
        least.sort_unstable();
        let longest = &least[least.len() - 3..];
        println!(
            "{what}: {MANY} inserts, mean {:?}, the longest of {RUNS} runs {longest:?}, of one {longest_of_all:?}",
            sum / (MANY * RUNS)
        );
    };
    report("flow table", &|| {
        let (mut table, hasher) = (FlowTable::default(), FlowHasher::from_random([42; 16]));
        Box::new(move |number| table.insert(hasher.hash(&quad(number)), number))
    });
    report("slab", &|| {
        let mut slab = Slab::new();
        Box::new(move |number| _ = slab.insert([u64::from(number); 8]))
    });
    report("wheel", &|| {
        let mut wheel = Wheel::new(Instant::ZERO);
        Box::new(move |number| wheel.insert(number, Instant::ZERO + Duration::from_micros(number.into())))
    });
}

criterion_group!(benches, worst_inserts, lookups, wheel);
criterion_main!(benches);
