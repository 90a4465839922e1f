//! The lines of `--log connections` and `--log segments`. Called only when they are asked for: off, a segment pays one
//! branch that is always predicted.
//!
//! Must not contain: anything the shard's work depends on.

use std::fmt::Write;

use super::conn::{Conn, Phase};
use crate::buffer::frame::TxFrame;
use crate::flow::{Endpoint, Quad, ShardId};
use crate::tcp::{CloseReason, Config, Connection, Duration, Instant, Segment, State};
use crate::wire::options::TcpOptions;
use crate::wire::tcp::Flags;
use crate::wire::{ip, tcp};

const CONNECTIONS: &str = "trust::connections";
const SEGMENTS: &str = "trust::segments";

/// States in the order a connection can pass them; one bit each in `Conn::passed`.
const STATES: [State; 8] = [
    State::Established,
    State::FinWait1,
    State::FinWait2,
    State::CloseWait,
    State::Closing,
    State::LastAck,
    State::TimeWait,
    State::Closed,
];

/// Remembers that the connection is in `state` now.
pub(crate) fn pass(passed: &mut u16, state: State) {
    *passed |= 1 << state as u16;
}

/// The line when a connection is established.
pub(crate) fn open(config: &Config, quad: &Quad, shard: ShardId, passive: bool, connection: &Connection, now: Instant) {
    let info = connection.info(config, now);
    let how = if passive { "accepted" } else { "connected" };
    let (snd, rcv) = info.window_shifts;
    tracing::info!(
        target: CONNECTIONS,
        "{quad} {how} on shard {}: mss {}, wscale {snd}/{rcv}, timestamps {}, sack {}",
        shard.0, info.mss, on(info.timestamps), on(info.sack),
    );
}

/// Says that a connection had to go, and why: not of each, but once a minute at most, so that a flood is no flood of lines.
/// `told`: when this was said last.
#[cold]
pub(crate) fn evicted(told: &mut Option<Instant>, now: Instant, quad: &Quad, why: &str) {
    const QUIET: Duration = Duration::from_secs(60);
    if told.is_none_or(|told| now - told >= QUIET) {
        *told = Some(now);
        tracing::warn!(target: CONNECTIONS, "{quad} is reset: it {why}; others like it are only counted for a minute");
    }
}

/// The line when it has ended.
pub(crate) fn end(config: &Config, conn: &Conn, reason: CloseReason, now: Instant) {
    let Phase::Open(connection) = &conn.phase else {
        tracing::info!(target: CONNECTIONS, "{} ended before it was established: {reason:?}", conn.quad);
        return;
    };
    let info = connection.info(config, now);
    let path: Vec<_> = STATES
        .into_iter()
        .filter(|state| conn.passed >> *state as u16 & 1 == 1 || *state == info.state)
        .map(|state| format!("{state:?}"))
        .collect();
    tracing::info!(
        target: CONNECTIONS,
        "{} ended: {reason:?} ({}), {} octets in, {} out, {} segments sent again",
        conn.quad, path.join(" > "), info.bytes_received, info.bytes_acked, info.retransmits,
    );
}

/// The line for a segment that came in.
pub(crate) fn segment_in(quad: &Quad, segment: &Segment) {
    let Segment { seq, ack, flags, window, options, len, .. } = segment;
    write(&Line {
        arrow: "in ",
        from: quad.remote,
        to: quad.local,
        seq: seq.0,
        ack: ack.0,
        flags: *flags,
        window: window.0,
        options,
        len: *len as usize,
    });
}

/// The line for a frame that goes out.
pub(crate) fn frame_out(frame: &TxFrame) {
    // The payload is elsewhere: lengths and checksum do not fit the header alone, so it is read by its parts.
    let header = frame.header();
    let (from, to, at) = match header[0] >> 4 {
        4 => {
            let addr = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]].into();
            (addr(12), addr(16), ip::IPV4_HEADER_LEN)
        }
        _ => {
            let addr = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&header[at..at + 16]);
                octets.into()
            };
            (addr(8), addr(24), ip::IPV6_HEADER_LEN)
        }
    };
    let Ok((tcp, _)) = tcp::parse(&header[at..], from, to, true) else {
        return tracing::info!(target: SEGMENTS, "out {from} > {to} ICMP, length {}", frame.len());
    };
    write(&Line {
        arrow: "out",
        from: Endpoint::new(from, tcp.src_port),
        to: Endpoint::new(to, tcp.dst_port),
        seq: tcp.seq,
        ack: tcp.ack,
        flags: tcp.flags,
        window: tcp.window,
        options: &tcp.options,
        len: frame.payload_len(),
    });
}

struct Line<'a> {
    arrow: &'static str,
    from: Endpoint,
    to: Endpoint,
    seq: u32,
    ack: u32,
    flags: Flags,
    window: u16,
    options: &'a TcpOptions,
    len: usize,
}

fn write(line: &Line<'_>) {
    let Line { arrow, from, to, seq, ack, flags, window, options, len } = line;
    let mut text = String::new();
    if let Some(mss) = options.mss {
        let _ = write!(text, " mss {mss}");
    }
    if options.sack_permitted {
        text.push_str(" sackOK");
    }
    if let Some(stamps) = options.timestamps {
        let _ = write!(text, " TS {}/{}", stamps.val, stamps.ecr);
    }
    if let Some(shift) = options.window_scale {
        let _ = write!(text, " wscale {shift}");
    }
    for (left, right) in options.sack.iter() {
        let _ = write!(text, " sack {left}:{right}");
    }
    tracing::info!(
        target: SEGMENTS,
        "{arrow} {from} > {to} {flags:?} seq {seq} ack {ack} win {window} <{}> len {len}",
        text.trim_start(),
    );
}

fn on(granted: bool) -> &'static str {
    if granted { "on" } else { "off" }
}
