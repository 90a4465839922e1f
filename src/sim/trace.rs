//! What happened in a world: a line for each packet and event, in the manner of tcpdump, and a hash over all of it.
//!
//! Must not contain: opinions about what happened.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

use super::packet::View;
use crate::flow::Endpoint;
use crate::tcp::Instant;
use crate::wire::tcp::Flags;

/// Lines kept for a report unless all are.
const KEPT: usize = 80;

/// One thing that happened.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) at: Instant,
    /// Where: name of a host, or of a link.
    pub(super) place: u16,
    pub(super) event: &'static str,
    /// Of a super-segment that a host sent or received.
    pub(super) gso_size: u16,
    /// `None`: no TCP.
    pub(super) view: Option<View>,
}

/// The last lines of a world, or all of them, and the hash by which two histories are compared.
#[derive(Debug, Default)]
pub struct Trace {
    start: Instant,
    names: Vec<String>,
    records: VecDeque<Record>,
    all: bool,
    dropped: u64,
    hash: u64,
    /// First sequence number of each direction, so that lines can tell numbers from there on.
    origins: Vec<(Endpoint, Endpoint, u32)>,
}

impl Trace {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, hash: 0xcbf2_9ce4_8422_2325, ..Self::default() }
    }

    /// Keeps every line, not only the last ones.
    pub fn keep_all(&mut self) {
        self.all = true;
    }

    /// A hash over everything that happened so far: the same for the same history.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn add_place(&mut self, name: String) -> u16 {
        self.names.push(name);
        (self.names.len() - 1) as u16
    }

    pub(super) fn place(&self, place: u16) -> &str {
        &self.names[usize::from(place)]
    }

    fn mix(&mut self, value: u64) {
        // FNV-1a, a word at a time, with the high half brought down.
        let x = (self.hash ^ value).wrapping_mul(0x0000_0100_0000_01b3);
        self.hash = x ^ (x >> 29);
    }

    /// Adds a line. `sum`: what else of the packet goes into the hash.
    pub(super) fn add(&mut self, record: Record, sum: u64) {
        self.mix(record.at.as_nanos());
        let place = u64::from(record.place);
        let word = record.event.bytes().fold(place, |word, octet| word.rotate_left(7) ^ u64::from(octet));
        self.mix(word);
        self.mix(sum);
        if let Some(view) = &record.view {
            let header = &view.header;
            self.mix(u64::from(header.seq) << 32 | u64::from(header.ack));
            self.mix(u64::from(header.window) << 40 | u64::from(header.flags.0) << 32 | u64::from(view.len()));
            if header.flags.contains(Flags::SYN) {
                self.origins.retain(|(src, dst, _)| (*src, *dst) != (view.src, view.dst));
                self.origins.push((view.src, view.dst, header.seq));
            }
        }
        if !self.all && self.records.len() == KEPT {
            self.records.pop_front();
            self.dropped += 1;
        }
        self.records.push_back(record);
    }

    fn origin(&self, src: Endpoint, dst: Endpoint) -> u32 {
        self.origins.iter().find(|(a, b, _)| (*a, *b) == (src, dst)).map_or(0, |(.., isn)| *isn)
    }

    fn line(&self, out: &mut String, record: &Record) -> fmt::Result {
        let span = record.at.saturating_since(self.start).as_nanos();
        let (secs, nanos) = (span / 1_000_000_000, span % 1_000_000_000);
        let name = &self.names[usize::from(record.place)];
        write!(out, "{secs:>4}.{nanos:09} {name:<9} {:<13}", record.event)?;
        if let Some(view) = &record.view {
            let header = &view.header;
            let seq = header.seq.wrapping_sub(self.origin(view.src, view.dst));
            write!(out, " {} > {}: Flags [{:?}], seq {seq}", view.src, view.dst, header.flags)?;
            if !view.is_empty() {
                write!(out, ":{}", seq.wrapping_add(view.len()))?;
            }
            let base = self.origin(view.dst, view.src);
            if header.flags.contains(Flags::ACK) {
                write!(out, ", ack {}", header.ack.wrapping_sub(base))?;
            }
            write!(out, ", win {}", header.window)?;
            for (left, right) in header.options.sack.iter() {
                write!(out, ", sack {}:{}", left.wrapping_sub(base), right.wrapping_sub(base))?;
            }
            if let Some(stamps) = header.options.timestamps {
                write!(out, ", TS val {} ecr {}", stamps.val, stamps.ecr)?;
            }
            if let Some(mss) = header.options.mss {
                write!(out, ", mss {mss}, isn {}", header.seq)?;
            }
            if let Some(shift) = header.options.window_scale {
                write!(out, ", wscale {shift}")?;
            }
            if header.options.sack_permitted {
                out.push_str(", sackOK");
            }
            write!(out, ", length {}", view.len())?;
            if record.gso_size > 0 {
                write!(out, ", gso {}", record.gso_size)?;
            }
        }
        out.push('\n');
        Ok(())
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dropped > 0 {
            writeln!(f, "({} earlier lines left out)", self.dropped)?;
        }
        let mut text = String::new();
        for record in &self.records {
            text.clear();
            self.line(&mut text, record)?;
            f.write_str(&text)?;
        }
        Ok(())
    }
}
