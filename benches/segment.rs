//! One segment through a whole shard: parse, flow table, header prediction, service, answer, frame.
//!
//! `data`: the next segment of 1,460 octets into discard; `ack`: a pure ACK of as much into chargen, which sends as much
//! anew. Both with what follows from them: a turn for each batch, completions, the ACKs or frames in the tx ring.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rig::{Peer, Rig, TRUSTED};
use trust::services::chargen::Chargen;
use trust::services::discard::Discard;
use trust::shard::Offload;
use trust::tcp::Duration;
use trust::wire::tcp::Flags;

const MSS: usize = 1_460;
/// Segments a turn: no more octets than the first window has.
const BATCH: u32 = 32;

/// A shard with offload and one established connection to `port`.
fn scene(port: u16) -> (Rig, Peer) {
    let mut rig = Rig::with(|config| config.offload = Offload { checksum: true, tso4: true, tso6: true }, 256, 1_024);
    rig.shard.add_service(Some(9), Box::new(Discard));
    rig.shard.add_service(Some(19), Box::new(Chargen));
    let mut peer = rig.connect(40_000, port);
    peer.take(&mut rig);
    (rig, peer)
}

/// The fields of a prepared packet that change: sequence and acknowledgment number.
fn patch(packet: &mut [u8], peer: &Peer) {
    packet[24..28].copy_from_slice(&peer.seq.to_be_bytes());
    packet[28..32].copy_from_slice(&peer.ack.to_be_bytes());
}

/// As [`Rig::turn`] with a batch of copies of `packet`, each after `next` has changed it; fewer if `next` says so.
fn turn(rig: &mut Rig, packet: &mut [u8], mut next: impl FnMut(&mut [u8]) -> bool) {
    rig.now += Duration::from_micros(100);
    rig.begin();
    for _ in 0..BATCH {
        if !next(packet) {
            break;
        }
        rig.receive_with(black_box(packet), TRUSTED);
    }
    rig.finish();
}

fn segments(c: &mut Criterion) {
    let mut group = c.benchmark_group("segment");
    group.throughput(Throughput::Elements(u64::from(BATCH)));

    let (mut rig, mut peer) = scene(9);
    rig.blind = true;
    let mut packet = peer.packet_at(0, Flags::ACK, &[b'x'; MSS]);
    group.bench_function("data", |b| {
        b.iter_batched(
            || (),
            |()| {
                turn(&mut rig, &mut packet, |packet| {
                    patch(packet, &peer);
                    peer.seq = peer.seq.wrapping_add(MSS as u32);
                    true
                });
            },
            BatchSize::SmallInput,
        );
    });
    predicted(&mut rig);

    let (mut rig, mut peer) = scene(19);
    rig.blind = true;
    // From here on there is always something to acknowledge.
    rig.turn(&[peer.ack()]);
    let mut packet = peer.ack();
    let start = peer.ack;
    // What chargen has sent beyond what is acknowledged is known without looking: all of it was counted.
    let sent = |rig: &mut Rig| start.wrapping_sub(INITIAL).wrapping_add(rig.counters().payload_out as u32);
    group.bench_function("ack", |b| {
        b.iter_batched(
            || (),
            |()| {
                let end = sent(&mut rig);
                turn(&mut rig, &mut packet, |packet| {
                    let left = end.wrapping_sub(peer.ack);
                    peer.ack = peer.ack.wrapping_add(left.min(MSS as u32));
                    patch(packet, &peer);
                    left > 0
                });
            },
            BatchSize::SmallInput,
        );
    });
    predicted(&mut rig);
    group.finish();
}

/// Octets of the initial window (RFC 6928), taken before the bench begins.
const INITIAL: u32 = 10 * MSS as u32;

fn predicted(rig: &mut Rig) {
    let counters = rig.counters();
    let share = counters.segments_predicted as f64 / counters.segments_in as f64;
    assert!(share > 0.95, "only {:.1} % of the segments were predicted", share * 100.0);
}

criterion_group!(benches, segments);
criterion_main!(benches);
