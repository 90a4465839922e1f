//! The text of a report, laid out like that of the stock programs; and the one a client gets that asks for the server's.

use std::fmt::Write as _;
use std::ops::Range;

use super::protocol::{Params, StreamResult, stream_id};
use super::stream::Sample;
use crate::flow::Quad;

/// Intervals are left out beyond this many octets, so that a day-long test does not fill the memory.
const TEXT_MAX: usize = 256 * 1024;
/// So many octets all tests of a shard share: when there are many, each has fewer intervals to show.
const TEXTS_MAX: usize = 16 << 20;
/// Stands between groups of lines, with its newline.
pub const RULE: &str = "- - - - - - - - - - - - - - - - - - - - - - - - -\n";

/// The report as written so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    text: String,
    tagged: bool,
    sends: Vec<bool>,
    shown: Vec<Sample>,
}

/// `value` scaled by `step` (1000 or 1024), in at most four characters, with the prefix of its unit.
#[must_use]
pub fn scaled(mut value: f64, step: f64) -> String {
    let mut prefix = "";
    for next in ["K", "M", "G", "T"] {
        if value < step {
            break;
        }
        value /= step;
        prefix = next;
    }
    let places = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:4.places$} {prefix}")
}

/// One line: the number of the stream (`None`: all of them), its role, the span of time in seconds, how many octets, and
/// `rest`.
#[must_use]
pub fn line(index: Option<usize>, role: &str, span: Range<f64>, octets: u64, rest: &str) -> String {
    let id = index.map_or_else(|| "SUM".to_owned(), |index| format!("{:3}", stream_id(index)));
    let Range { start: from, end: to } = span;
    let seconds = to - from;
    let rate = if seconds > 0.0 { octets as f64 * 8.0 / seconds } else { 0.0 };
    let octets = scaled(octets as f64, 1024.0);
    let rate = scaled(rate, 1000.0);
    format!("[{id}]{role} {from:6.2}-{to:<6.2} sec  {octets}Bytes  {rate}bits/sec{rest}")
}

impl Report {
    /// Begins the report of a test whose control connection is `control` and data connections `streams`, in order.
    pub(super) fn begin(params: &Params, control: &Quad, streams: impl Iterator<Item = Quad>) -> Self {
        let mut report = Self { tagged: params.bidirectional, ..Self::default() };
        // Writing to a String does not fail.
        let _ = writeln!(report.text, "Accepted connection from {}, port {}", control.remote.addr, control.remote.port);
        for (index, quad) in streams.enumerate() {
            report.sends.push(params.sends(index));
            report.shown.push(Sample::default());
            let _ = writeln!(
                report.text,
                "[{:3}] local {} port {} connected to {} port {}",
                stream_id(index),
                quad.local.addr,
                quad.local.port,
                quad.remote.addr,
                quad.remote.port
            );
        }
        report.heading(true);
        report
    }

    fn heading(&mut self, intervals: bool) {
        let role = if self.tagged { "[Role]" } else { "" };
        let senders = if !self.sends.contains(&true) {
            ""
        } else if intervals {
            "         Retr  Cwnd"
        } else {
            "         Retr"
        };
        let _ = writeln!(self.text, "[ ID]{role} Interval           Transfer     Bitrate{senders}");
    }

    /// One line: whose, in which seconds, how much, and `rest`.
    fn line(&mut self, id: Option<usize>, sends: bool, span: Range<f64>, octets: u64, rest: &str) {
        let role = match (self.tagged, sends) {
            (false, _) => "",
            (true, true) => "[TX-S]",
            (true, false) => "[RX-S]",
        };
        let _ = writeln!(self.text, "{}", line(id, role, span, octets, rest));
    }

    /// The streams of one direction, each direction if there are two.
    fn directions(&self) -> impl Iterator<Item = (bool, Vec<usize>)> + use<> {
        let of = |sends: bool| {
            let indices: Vec<usize> = (0..self.sends.len()).filter(|&index| self.sends[index] == sends).collect();
            (sends, indices)
        };
        [of(false), of(true)].into_iter().filter(|(_, indices)| !indices.is_empty())
    }

    /// The lines of an interval; `samples` are the streams' counters at its end, seconds count from the test's start or
    /// from the end of the omitted ones. `tests`: how many share the memory.
    pub(super) fn interval(&mut self, from: f64, to: f64, samples: &[Sample], omitted: bool, tests: usize) {
        if self.text.len() > TEXT_MAX.min(TEXTS_MAX / tests.max(1)) || samples.len() != self.shown.len() {
            return;
        }
        let mark = if omitted { "(omitted)" } else { "" };
        let moved = |shown: &[Sample], index: usize| {
            let (now, before) = (&samples[index], &shown[index]);
            (now.octets.saturating_sub(before.octets), now.retransmits.saturating_sub(before.retransmits))
        };
        let shown = std::mem::replace(&mut self.shown, samples.to_vec());
        for (sends, indices) in self.directions() {
            let mut sum = (0, 0);
            for &index in &indices {
                let (octets, retransmits) = moved(&shown, index);
                sum = (sum.0 + octets, sum.1 + retransmits);
                let rest = if sends {
                    let cwnd = scaled(f64::from(samples[index].cwnd), 1024.0);
                    format!("  {retransmits:3}   {cwnd}Bytes       {mark}")
                } else {
                    format!("                  {mark}")
                };
                self.line(Some(index), sends, from..to, octets, &rest);
            }
            if indices.len() > 1 {
                let rest = if sends { format!("  {:3}             {mark}", sum.1) } else { format!("{:18}{mark}", "") };
                self.line(None, sends, from..to, sum.0, &rest);
            }
        }
        if self.sends.len() > 1 {
            self.text.push_str(RULE);
        }
    }

    /// The closing lines; `seconds` is the length without the omitted part.
    pub(super) fn finish(mut self, seconds: f64, results: &[StreamResult]) -> String {
        if self.sends.len() <= 1 {
            self.text.push_str(RULE);
        }
        self.heading(false);
        for (sends, indices) in self.directions() {
            let rest = |retransmits: u64| {
                if sends { format!("  {retransmits:3}             sender") } else { format!("{:18}receiver", "") }
            };
            let mut sum = (0u64, 0u64);
            for &index in &indices {
                let result = results.get(index).copied().unwrap_or_default();
                let retransmits = result.retransmits.unwrap_or(0);
                sum = (sum.0.saturating_add(result.octets), sum.1.saturating_add(retransmits));
                self.line(Some(index), sends, 0.0..seconds, result.octets, &rest(retransmits));
            }
            if indices.len() > 1 {
                self.line(None, sends, 0.0..seconds, sum.0, &rest(sum.1));
            }
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_take_four_characters() {
        assert_eq!(scaled(0.0, 1000.0), "0.00 ");
        assert_eq!(scaled(4.75 * 1024.0 * 1024.0, 1024.0), "4.75 M");
        assert_eq!(scaled(19.94e6, 1000.0), "19.9 M");
        assert_eq!(scaled(123.4e9, 1000.0), " 123 G");
        assert_eq!(scaled(5e15, 1000.0), "5000 T");
    }
}
