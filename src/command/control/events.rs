//! What senders decide, for one who asks: traces on the shards of a running engine, a line of JSON for each event.

use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use trust::engine::Handle;
use trust::flow::ShardId;
use trust::shard::diag::{EntryId, Table};
use trust::shard::tap::{Cause, Facts};
use trust::shard::trace::{self, Decision, TraceEvent, Undo};
use trust::tcp;

use super::merge::Merge;
use super::packet_filter::PacketFilter;
use super::protocol::{Answer, name};
use super::session::{Counted, Session};
use super::talk::{End, write};

/// How often the rings of the traces are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Whoever waits hears so often that there is nothing.
const WAIT: Duration = Duration::from_secs(10);

/// Events that a shard keeps until they are taken.
const ROOM: usize = 65_536;

/// Octets that are written at a time.
const BATCH: usize = 32 << 10;

/// Sends events until the other side hangs up, or the engine ends. Of the connections that the filter is about, one in
/// `sample`.
pub(super) async fn serve(
    stream: &mut UnixStream,
    handle: &Handle,
    (filter, sample): (&str, u32),
    sessions: &AtomicUsize,
) -> Result<(), End> {
    let filter = PacketFilter::parse(filter).map_err(Some)?;
    let session = Session::begin(handle, "somebody else is told of events already", |shard, tell| {
        let filter = filter.clone();
        let wanted = move |facts: &Facts| filter.matches(facts) && is_sample(facts, sample);
        let (trace, reader) = trace::trace(ROOM, Some(Box::new(wanted)));
        (reader, handle.trace(shard, trace, tell))
    });
    let mut session = session.await?;
    let _counted = Counted::new(sessions);
    let (clock, mut merge) = (session.clock(), Merge::default());
    let (mut count, mut told, mut text) = (0, Instant::now(), String::new());
    write(stream, Answer::Wait {}.line().as_bytes()).await?;
    loop {
        let seen = session.look();
        for (shard, reader) in session.readers.iter_mut().enumerate() {
            while let Some(event) = reader.pop() {
                merge.add(shard as u16, event.at, event);
            }
            // Gives the room back.
            reader.look();
        }
        while let Some((shard, event)) = merge.take(seen) {
            count += 1;
            text += &Answer::Event(describe(shard, &event, clock.wall(event.at))).line();
            if text.len() > BATCH {
                write(stream, text.as_bytes()).await?;
                text.clear();
            }
        }
        if text.is_empty() && told.elapsed() > WAIT {
            text = Answer::Wait {}.line();
        }
        if !text.is_empty() {
            write(stream, text.as_bytes()).await?;
            text.clear();
            told = Instant::now();
        }
        if seen.is_none() {
            return write(stream, Answer::End { count }.line().as_bytes()).await;
        }
        tokio::select! {
            _ = stream.read_u8() => return Err(None),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// One connection in so many, the same whichever shard it is on.
fn is_sample(facts: &Facts, sample: u32) -> bool {
    let (theirs, ours) = facts.ports.unwrap_or_default();
    (u32::from(theirs) << 16 | u32::from(ours)).wrapping_mul(0x9e37_79b1) >> 8 & 0xffff < 0x1_0000 / sample.max(1)
}

/// As docs/operating.md has it.
fn describe(shard: u16, event: &TraceEvent, time: u64) -> Map<String, Value> {
    let id = name(ShardId(shard), EntryId { table: Table::Connections, id: event.id });
    let micros = |time: tcp::Duration| time.as_nanos() as f64 / 1e3;
    let (name, data) = match event.decision {
        Decision::Seen { state, mss, cwnd, retransmits } => {
            ("seen", json!({ "state": state, "mss": mss, "cwnd": cwnd, "retransmits": retransmits }))
        }
        Decision::State { from, to } => ("state", json!({ "from": from, "to": to })),
        Decision::Ended(reason) => ("ended", json!({ "reason": format!("{reason:?}") })),
        Decision::Rtt { srtt, rttvar, min_rtt, rto } => (
            "rtt",
            json!({
                "srtt_us": micros(srtt), "rttvar_us": micros(rttvar), "min_rtt_us": micros(min_rtt), "rto_us": micros(rto),
            }),
        ),
        Decision::Window { cwnd, ssthresh, flight } => {
            let ssthresh = Some(ssthresh).filter(|octets| *octets != u32::MAX);
            ("window", json!({ "cwnd": cwnd, "ssthresh": ssthresh, "flight": flight }))
        }
        Decision::Mss(octets) => ("mss", json!({ "octets": octets })),
        Decision::Lost(octets) => ("lost", json!({ "octets": octets })),
        Decision::Recovery { from, to } => ("recovery", json!({ "from": from, "to": to })),
        Decision::Timeout(times) => ("timeout", json!({ "times": times })),
        Decision::ReorderingTimeout(times) => ("reordering_timeout", json!({ "times": times })),
        Decision::TailProbe(times) => ("tail_probe", json!({ "times": times })),
        Decision::Undone(by) => {
            let by = match by {
                Undo::Frto => "frto",
                Undo::Eifel => "eifel",
                Undo::Dsack => "dsack",
            };
            ("undone", json!({ "by": by }))
        }
        Decision::Again { octets, segments, cause } => {
            let cause = match cause {
                Cause::Loss => "loss",
                Cause::Timeout => "timeout",
                Cause::Probe => "probe",
            };
            ("sent_again", json!({ "octets": octets, "segments": segments, "cause": cause }))
        }
        Decision::Limited(by) => ("limited", json!({ "by": by })),
    };
    let (local, peer): (std::net::SocketAddr, std::net::SocketAddr) =
        (event.quad.local.into(), event.quad.remote.into());
    let mut line = json!({ "time_ns": time, "shard": shard, "id": id, "local": local, "peer": peer, "name": name });
    if event.missed > 0 {
        line["missed"] = event.missed.into();
    }
    let (Value::Object(mut line), Value::Object(data)) = (line, data) else { return Map::new() };
    line.extend(data);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_about_as_large_as_it_was_wished() {
        for sample in [1, 2, 10, 100] {
            let ports = (0..20_000_u32).map(|port| (30_000 + (port / 2) as u16, if port % 2 == 0 { 7 } else { 80 }));
            let facts = |ports| Facts {
                protocol: 6,
                src: [10, 7, 0, 1].into(),
                dst: [10, 7, 0, 2].into(),
                ports: Some(ports),
                len: 0,
            };
            let chosen = ports.filter(|ports| is_sample(&facts(*ports), sample)).count() as u32;
            let wished = 20_000 / sample;
            assert!((wished * 8 / 10..=wished * 12 / 10).contains(&chosen), "{chosen} of {wished}");
        }
    }
}
