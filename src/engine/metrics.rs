//! What a running engine counts, for a registry of metrics: each with its name, its help, its kind and its labels.
//!
//! No registry is named here: whoever has one, of whichever package, is called with one family after another and takes
//! what is said over ([`Handle::visit_metrics`]). Names are those of Prometheus' data model. Where a counter means what
//! one of Linux means, it has that name, too, as node_exporter's netstat collector writes it.

use super::running::{Engine, Handle};
use crate::shard::budget::Work;
use crate::shard::{Counters, DropReason};

/// What kind a metric is of, and with it what may be done with its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A count since the start, which only grows.
    Counter,
    /// A level as it is now.
    Gauge,
    /// A count by classes.
    Histogram,
    /// As a counter of the kernel's, which node_exporter gives no kind.
    Untyped,
}

/// A metric with all its values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Family<'a> {
    /// Its name, without what a format adds for its kind (`_total`).
    pub name: &'a str,
    /// What it counts, in a sentence.
    pub help: &'a str,
    /// Its kind.
    pub kind: MetricKind,
    /// Its values, each with labels that no other one has.
    pub samples: &'a [Sample],
}

/// One value of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Names and values, like `shard` and `0`.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: SampleValue,
}

/// A value, by the kind of its metric.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// Of a counter or a gauge.
    Number(u64),
    /// Of a gauge with a unit, like seconds.
    Decimal(f64),
    /// Of a histogram.
    Histogram {
        /// How many there were in each class, each with the bound that they were below; that of the last is infinite.
        buckets: Vec<(f64, u64)>,
        /// All of them together.
        sum: f64,
    },
}

/// A metric of the engine that the kernel has, too: its name, and how it is read.
type Linux = (&'static str, &'static str, fn(&Counters) -> u64);

/// Counters that mean what a counter of Linux means, over all shards.
const LINUX: [Linux; 27] = [
    ("node_netstat_Tcp_ActiveOpens", "Connections that we began to open", |all| all.opens),
    ("node_netstat_Tcp_PassiveOpens", "Connections opened by the other side", |all| all.accepted),
    (
        "node_netstat_Tcp_AttemptFails",
        "Opens of either side that failed before the connection was established",
        |all| all.opens_failed + all.half_open_resets,
    ),
    ("node_netstat_Tcp_EstabResets", "Connections that ended out of ESTABLISHED or CLOSE-WAIT", |all| {
        all.established_resets
    }),
    ("node_netstat_Tcp_CurrEstab", "Connections now in ESTABLISHED or CLOSE-WAIT", |all| all.established),
    ("node_netstat_Tcp_InSegs", "Segments received, wrong ones and super-segments as one each", |all| {
        all.packets_in.saturating_sub(all.packets_not_tcp)
    }),
    ("node_netstat_Tcp_RetransSegs", "Segments sent again, SYNs included", |all| {
        all.segments_resent + all.syn_retransmits
    }),
    ("node_netstat_Tcp_InErrs", "Segments received with a wrong header or checksum", |all| {
        dropped(all, DropReason::OF_SEGMENTS)
    }),
    ("node_netstat_Tcp_InCsumErrors", "Segments received with a wrong checksum", |all| {
        all.dropped(DropReason::TCP_CHECKSUM)
    }),
    ("node_netstat_Tcp_OutRsts", "Segments sent with RST", |all| all.resets_out),
    ("node_netstat_TcpExt_TCPSynRetrans", "SYNs and SYN-ACKs sent again", |all| all.syn_retransmits),
    ("node_netstat_TcpExt_TCPFastRetrans", "Segments sent again in fast recoveries", |all| all.fast_retransmits),
    ("node_netstat_TcpExt_TCPTimeouts", "Retransmission timeouts", |all| all.retransmission_timeouts),
    ("node_netstat_TcpExt_TCPSpuriousRTOs", "Retransmission timeouts that proved needless", |all| {
        all.spurious_timeouts
    }),
    ("node_netstat_TcpExt_TCPLossProbes", "Tail loss probes", |all| all.tail_probes),
    ("node_netstat_TcpExt_TCPDSACKRecv", "Reports of peers that octets arrived twice", |all| all.dsacks_in),
    ("node_netstat_TcpExt_TCPOFOQueue", "Segments held that arrived out of order", |all| all.segments_out_of_order),
    ("node_netstat_TcpExt_SyncookiesSent", "SYNs answered with a cookie", |all| all.cookies_sent),
    ("node_netstat_TcpExt_SyncookiesRecv", "Connections made of a cookie", |all| all.cookies_accepted),
    ("node_netstat_TcpExt_SyncookiesFailed", "ACKs of no connection that were no good cookie", |all| {
        all.cookies_refused
    }),
    ("node_netstat_TcpExt_ListenOverflows", "Handshakes refused because an accept queue was full", |all| {
        all.dropped(DropReason::AcceptQueueFull)
    }),
    ("node_netstat_TcpExt_ListenDrops", "SYNs and last ACKs of handshakes dropped for want of a place", |all| {
        dropped(all, [DropReason::AcceptQueueFull, DropReason::BacklogFull, DropReason::NoRoom])
    }),
    ("node_netstat_TcpExt_EmbryonicRsts", "Resets received before the connection was established", |all| {
        all.half_open_resets
    }),
    ("node_netstat_TcpExt_TCPAbortOnData", "Connections reset for data that came after they were closed", |all| {
        all.aborted_on_data
    }),
    ("node_netstat_TcpExt_TCPAbortOnClose", "Connections reset when they were closed with something unread", |all| {
        all.aborted_on_close
    }),
    ("node_netstat_TcpExt_TCPAbortOnTimeout", "Connections that timed out", |all| all.timed_out),
    (
        "node_netstat_TcpExt_TCPAbortOnMemory",
        "Connections reset because too many were left, or memory was short",
        |all| all.orphans_over_limit + all.orphans_out_of_memory,
    ),
];

fn dropped<const N: usize>(all: &Counters, reasons: [DropReason; N]) -> u64 {
    reasons.iter().map(|reason| all.dropped(*reason)).sum()
}

impl Handle {
    /// Calls `visit` with every metric of the engine, one family after the other: counters and gauges of each shard,
    /// drops by reason, turns by their time. To be called whenever they are asked for; no shard is asked, figures are
    /// those that shards have published, 10 ms ago at most while there is work.
    ///
    /// ```
    /// # use trust::device::memory::{MemoryOptions, pair};
    /// # use trust::engine::{Engine, Pin};
    /// # fn main() -> std::io::Result<()> {
    /// # let (device, _other_end) = pair(&MemoryOptions::default())?;
    /// # let engine = Engine::builder().device(device, 1).address([10, 0, 0, 2].into()).pin(Pin::None).start()?;
    /// let mut names = Vec::new();
    /// engine.handle().visit_metrics(&mut |family| names.push(family.name.to_owned()));
    /// assert!(names.iter().any(|name| name == "trust_accepted"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn visit_metrics(&self, visit: &mut dyn FnMut(Family<'_>)) {
        let shards = self.shard_counters();
        for (index, (name, help)) in Counters::NAMES.iter().zip(Counters::HELP).enumerate() {
            // The sums of the histograms below; and what readers count, not shards, which is further below.
            if ["turn_nanos", "round_trip_nanos", "forwarded"].contains(name) {
                continue;
            }
            let gauge = help.trim_start().starts_with("Gauge:") || help.trim_start().starts_with("Most ");
            let kind = if gauge { MetricKind::Gauge } else { MetricKind::Counter };
            let value = |counters: &Counters| counters.named().nth(index).map_or(0, |(_, value)| value);
            family(visit, (&format!("trust_{name}"), help.trim(), kind), &of_shards(&shards, value));
        }
        let mut drops = Vec::new();
        // What the device refused is counted by writers, and fragments by readers: that is further below.
        let by_stages = |reason| reason == DropReason::DeviceRefused || DropReason::OF_FRAGMENTS.contains(&reason);
        for reason in DropReason::all().filter(|reason| !by_stages(*reason)) {
            let more = ("reason", reason.name());
            drops.extend(of_shards(&shards, |counters| counters.dropped(reason)).into_iter().map(|s| s.with(&more)));
        }
        family(visit, ("trust_drops", "Packets dropped, by reason.", MetricKind::Counter), &drops);
        let mut most = Vec::new();
        for work in Work::ALL {
            let more = ("work", work.name().to_owned());
            most.extend(
                of_shards(&shards, |counters| counters.most_in_a_turn(work)).into_iter().map(|s| s.with(&more)),
            );
        }
        let help = "Most pieces of work that one turn did, by kind.";
        family(visit, ("trust_most_in_a_turn", help, MetricKind::Gauge), &most);
        let mut longest = of_shards(&shards, |_| 0);
        for (sample, counters) in longest.iter_mut().zip(&shards) {
            sample.value = SampleValue::Decimal(counters.longest_turn as f64 / 1e9);
        }
        family(visit, ("trust_longest_turn_seconds", "The longest turn.", MetricKind::Gauge), &longest);
        let turns = times(&shards, |counters| (&counters.turn_times, counters.turn_nanos));
        family(visit, ("trust_turn_seconds", "Turns by how long they took.", MetricKind::Histogram), &turns);
        let trips = times(&shards, |counters| (&counters.round_trips, counters.round_trip_nanos));
        let help = "Smoothed round trips of connections: of each once a second while segments come, and in its end.";
        family(visit, ("trust_round_trip_seconds", help, MetricKind::Histogram), &trips);
        let all = self.counters();
        let sample = |value| Sample { labels: Vec::new(), value: SampleValue::Number(value) };
        // Not of a shard: the stages have counted them.
        let refused = all.dropped(DropReason::DeviceRefused);
        let help = "Frames that the device has refused.";
        family(visit, ("trust_device_refused", help, MetricKind::Counter), &[sample(refused)]);
        let help = "Fragments of packets that came to nothing, by reason.";
        let fragments =
            DropReason::OF_FRAGMENTS.map(|reason| sample(all.dropped(reason)).with(&("reason", reason.name())));
        family(visit, ("trust_fragments_dropped", help, MetricKind::Counter), &fragments);
        let help = "Packets that came on a queue of another shard and were handed over by ring.";
        family(visit, ("trust_handed_over", help, MetricKind::Counter), &[sample(all.forwarded)]);
        let pools = self.packet_pools();
        for (index, name, help) in [
            (0, "trust_packet_buffers", "Buffers for packets of each reader."),
            (1, "trust_packet_buffers_free", "Of these, the ones that no packet is in."),
        ] {
            let pool = |(queue, pool): (usize, &[u64; 2])| sample(pool[index]).with(&("queue", queue.to_string()));
            family(visit, (name, help, MetricKind::Gauge), &pools.iter().enumerate().map(pool).collect::<Vec<_>>());
        }
        for (name, help, value) in LINUX {
            family(visit, (name, help, MetricKind::Untyped), &[sample(value(&all))]);
        }
    }
}

impl Engine {
    /// As [`Handle::visit_metrics`].
    pub fn visit_metrics(&self, visit: &mut dyn FnMut(Family<'_>)) {
        self.handle().visit_metrics(visit);
    }
}

fn family(visit: &mut dyn FnMut(Family<'_>), (name, help, kind): (&str, &str, MetricKind), samples: &[Sample]) {
    visit(Family { name, help, kind, samples });
}

fn of_shards(shards: &[Counters], value: impl Fn(&Counters) -> u64) -> Vec<Sample> {
    let sample = |(shard, counters): (usize, &Counters)| Sample {
        labels: vec![("shard", shard.to_string())],
        value: SampleValue::Number(value(counters)),
    };
    shards.iter().enumerate().map(sample).collect()
}

/// How often there was what time, by shard: classes of powers of two of a microsecond, and the sum in nanoseconds.
fn times<'a>(shards: &'a [Counters], of: impl Fn(&'a Counters) -> (&'a [u64], u64)) -> Vec<Sample> {
    let sample = |(shard, counters): (usize, &'a Counters)| {
        let (classes, nanos) = of(counters);
        let bound = |class| if class + 1 == classes.len() { f64::INFINITY } else { (1_u64 << class) as f64 / 1e6 };
        let buckets = classes.iter().enumerate().map(|(class, count)| (bound(class), *count)).collect();
        let value = SampleValue::Histogram { buckets, sum: nanos as f64 / 1e9 };
        Sample { labels: vec![("shard", shard.to_string())], value }
    };
    shards.iter().enumerate().map(sample).collect()
}

impl Sample {
    fn with(mut self, label: &(&'static str, String)) -> Self {
        self.labels.push(label.clone());
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use super::*;
    use crate::device::memory::{MemoryOptions, pair};
    use crate::engine::Pin;

    /// What formats and registries ask of names and labels.
    #[test]
    fn names_are_unique_and_well_formed_and_each_has_its_help() {
        let (device, _) = pair(&MemoryOptions::default()).unwrap();
        let engine = Engine::builder().device(device, 1).address([10, 0, 0, 2].into()).pin(Pin::None).start().unwrap();
        let (mut names, mut values) = (HashSet::new(), 0);
        engine.visit_metrics(&mut |family| {
            assert!(names.insert(family.name.to_owned()), "{} twice", family.name);
            assert!(family.name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_'), "{}", family.name);
            assert!(family.help.len() > 8 && !family.help.contains('\n'), "{family:?}");
            let labels: HashSet<_> = family.samples.iter().map(|sample| sample.labels.clone()).collect();
            assert_eq!(labels.len(), family.samples.len(), "{}", family.name);
            values += labels.len();
        });
        assert!(names.contains("trust_accepted") && names.contains("node_netstat_TcpExt_TCPTimeouts"));
        assert!(names.len() == Counters::NAMES.len() - 3 + 10 + LINUX.len() && values > 80, "{} {values}", names.len());
    }
}
