//! What an engine's counters say, in words: the live line, the periodic figures, the summary.
//!
//! Reads published counters only; nothing here can slow a shard down. Must not contain: anything that changes an engine.

use std::fmt::Write;
use std::time::{Duration, Instant};

use trust::engine::Engine;
use trust::shard::budget::Work;
use trust::shard::{Counters, DropReason};

/// Counters of an engine at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Since the start of the engine.
    pub(crate) at: Duration,
    /// Each shard's.
    pub(crate) shards: Vec<Counters>,
    /// All shards and stages together.
    pub(crate) total: Counters,
    /// Buckets of the owner table that are claimed, where they are not dealt out.
    pub(crate) claimed: Option<usize>,
}

impl Sample {
    /// What `engine`, started at `start`, says now.
    pub(crate) fn take(engine: &Engine, start: Instant) -> Self {
        let (shards, total) = (engine.shard_counters(), engine.counters());
        Self { at: start.elapsed(), shards, total, claimed: engine.claimed_buckets() }
    }
}

fn gigabits(octets: u64, over: Duration) -> f64 {
    octets as f64 * 8.0 / 1e9 / over.as_secs_f64().max(1e-9)
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// One line for a terminal: connections a shard, rates, retransmissions, drops.
#[must_use]
pub(crate) fn live_line(before: &Sample, now: &Sample) -> String {
    let over = now.at.saturating_sub(before.at);
    let connections: Vec<_> = now.shards.iter().map(|shard| shard.connections.to_string()).collect();
    format!(
        "connections {} | in {:.2} out {:.2} Gbit/s | retransmits {} | drops {}",
        connections.join("+"),
        gigabits(now.total.bytes_in - before.total.bytes_in, over),
        gigabits(now.total.bytes_out - before.total.bytes_out, over),
        now.total.retransmits,
        now.total.dropped_total(),
    )
}

/// A power of two of microseconds that this part of all turns stayed under.
fn turns_under(counters: &Counters, part: f64) -> u64 {
    let wanted = (counters.turns as f64 * part).ceil() as u64;
    let mut turns = 0;
    let class = counters.turn_times.iter().position(|in_class| {
        turns += in_class;
        turns >= wanted
    });
    1 << class.unwrap_or(counters.turn_times.len())
}

/// Periodic figures: one line for the engine, one a shard.
#[must_use]
pub(crate) fn stats_lines(before: &Sample, now: &Sample) -> String {
    let over = now.at.saturating_sub(before.at);
    let mut text = format!("[{:8.1} s] {}\n", now.at.as_secs_f64(), live_line(before, now));
    for (index, (shard, earlier)) in now.shards.iter().zip(&before.shards).enumerate() {
        let segments = shard.segments_in - earlier.segments_in;
        let predicted = shard.segments_predicted - earlier.segments_predicted;
        let _ = writeln!(
            text,
            "  shard {index}: connections {} (accepted {}), time-wait {}, in {:.2} out {:.2} Gbit/s, segments in {segments} \
             (predicted {:.1} %), out of order {}, retransmits {}, send memory {} octets in {} chunks, \
             held {} packets {} octets, longest turn {} us, parks {}",
            shard.connections,
            shard.accepted,
            shard.time_wait,
            gigabits(shard.bytes_in - earlier.bytes_in, over),
            gigabits(shard.bytes_out - earlier.bytes_out, over),
            percent(predicted, segments),
            shard.segments_out_of_order,
            shard.retransmits,
            shard.send_octets,
            shard.send_chunks,
            shard.held_packets,
            shard.held_octets,
            shard.longest_turn / 1_000,
            shard.parks - earlier.parks,
        );
    }
    text
}

/// What there is to say at the end. Drop reasons that never occurred are left out.
#[must_use]
pub(crate) fn summary(sample: &Sample) -> String {
    let total = &sample.total;
    let mut text = format!(
        "served {:.1} s: {} connections accepted, {} opened, {} closed\n",
        sample.at.as_secs_f64(),
        total.accepted,
        total.connected,
        total.closed,
    );
    let _ = writeln!(
        text,
        "  in  {} packets, {} octets ({} payload); {} segments, {:.1} % predicted, {} out of order, {} duplicate",
        total.packets_in,
        total.bytes_in,
        total.payload_in,
        total.segments_in,
        percent(total.segments_predicted, total.segments_in),
        total.segments_out_of_order,
        total.segments_duplicate,
    );
    let _ = writeln!(
        text,
        "  out {} packets, {} octets ({} payload); {} retransmitted, \
         {} resets sent (closed port, data behind our close, or aborted)",
        total.packets_out, total.bytes_out, total.payload_out, total.retransmits, total.resets_out,
    );
    if total.payload_refused > 0 {
        let _ = writeln!(text, "  refused {} octets for want of memory; they are sent again", total.payload_refused);
    }
    let orphans = total.orphans_over_limit + total.orphans_out_of_memory;
    if orphans > 0 {
        let _ = writeln!(
            text,
            "  reset {orphans} connections that were closed with octets unacknowledged: {} too many, {} for their memory",
            total.orphans_over_limit, total.orphans_out_of_memory,
        );
    }
    if total.gave_way > 0 {
        let _ = writeln!(text, "  reset {} connections whose places others needed", total.gave_way);
    }
    if total.turns > 0 {
        let most: Vec<_> = Work::ALL.into_iter().map(|work| (work, total.most_in_a_turn(work))).collect();
        let most = most.iter().filter(|(_, most)| *most > 0).map(|(work, most)| format!("{most} {}", work.name()));
        let _ = writeln!(
            text,
            "  {} turns, 99 % under {} us, 99.99 % under {} us, the longest {} us; most in one: {}",
            total.turns,
            turns_under(total, 0.99),
            turns_under(total, 0.9999),
            total.longest_turn / 1_000,
            most.collect::<Vec<_>>().join(", "),
        );
    }
    if total.cookies_sent > 0 {
        let _ = writeln!(
            text,
            "  answered {} SYNs with cookies, which made {} connections; {} ACKs brought no good one",
            total.cookies_sent, total.cookies_accepted, total.cookies_refused,
        );
    }
    let shares: Vec<_> = sample.shards.iter().map(|shard| shard.accepted.to_string()).collect();
    let _ = writeln!(text, "  accepted by shard: {}; forwarded between shards: {}", shares.join(" "), total.forwarded);
    if let Some(claimed) = sample.claimed {
        let _ = writeln!(
            text,
            "  steering: {claimed} buckets claimed, of them {} with flows; {} given back that no flow had come to",
            total.buckets, total.buckets_swept,
        );
    }
    if total.dropped_total() == 0 {
        let _ = writeln!(text, "  dropped: nothing");
    }
    for reason in DropReason::all() {
        let count = total.dropped(reason);
        if count > 0 {
            let _ = writeln!(text, "  dropped {count}: {}", reason.name());
        }
    }
    text
}
