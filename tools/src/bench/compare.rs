//! The interleaved comparison: every round measures every side with every client, sides in rotating order, so that
//! what drifts in the machine meets all of them. Medians with their ranges, never a best run.

use super::{Conditions, Kind, Programs, Side, iperf3, machine, number, run_json};
use crate::sys;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// What one line of the table measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// Bulk from client to server over so many connections.
    Up(usize),
    /// Bulk from server to client.
    Down(usize),
    /// Request/response over so many connections.
    Rr(usize),
    /// Bulk there and back through echo over so many connections.
    Echo(usize),
    /// As `Rr`, against an application that echoes through sockets: with the engine on a thread of its own, with the
    /// kernel it is the same as `Rr`.
    SocketsRr(usize),
    /// As `Echo`, against that application.
    SocketsEcho(usize),
    /// Connections, so many at a time.
    Cr(usize),
    /// Stock iperf3 to the server, so many flows.
    IperfUp(usize),
    /// Stock iperf3 with -R.
    IperfDown(usize),
}

impl Row {
    /// What tables and `--rows` call it.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Up(n) => format!("up{n}"),
            Self::Down(n) => format!("down{n}"),
            Self::Rr(n) => format!("rr{n}"),
            Self::Echo(n) => format!("echo{n}"),
            Self::SocketsRr(n) => format!("sockets-rr{n}"),
            Self::SocketsEcho(n) => format!("sockets-echo{n}"),
            Self::Cr(n) => format!("cr{n}"),
            Self::IperfUp(n) => format!("iperf3-up{n}"),
            Self::IperfDown(n) => format!("iperf3-down{n}"),
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Rr(_) | Self::SocketsRr(_) => "1/s",
            Self::Cr(_) => "conn/s",
            _ => "Gbit/s",
        }
    }

    /// The row that measures the same against the service in the shard.
    fn in_shard(self) -> Option<Self> {
        match self {
            Self::SocketsRr(n) => Some(Self::Rr(n)),
            Self::SocketsEcho(n) => Some(Self::Echo(n)),
            _ => None,
        }
    }
}

/// What to compare and how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// The sides; the last is the one ratios refer to.
    pub sides: Vec<Kind>,
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// Congestion controls of the kernel's sockets; `None`: its default.
    pub congestion: Vec<Option<String>>,
    /// Rounds of everything.
    pub rounds: usize,
    /// Seconds that count, for each of our own client's rows.
    pub seconds: f64,
    /// Seconds before them that do not.
    pub warmup: f64,
    /// Whole seconds of each iperf3 row.
    pub iperf_seconds: u64,
    /// MTU everywhere.
    pub mtu: u32,
    /// Segmentation and checksum by the device.
    pub offload: bool,
    /// Keep idle CPUs from halting.
    pub spin: bool,
    /// Write all single values here as JSON.
    pub json: Option<std::path::PathBuf>,
}

impl Options {
    /// Seconds the whole takes, about.
    #[must_use]
    pub fn duration(&self) -> f64 {
        const START: f64 = 0.7;
        const PROCESS: f64 = 0.2;
        let row = |row: &Row| match row {
            Row::IperfUp(_) | Row::IperfDown(_) => self.iperf_seconds as f64 + 2.0 * PROCESS,
            _ => self.seconds + self.warmup + PROCESS,
        };
        let group = START + self.rows.iter().map(row).sum::<f64>();
        (self.rounds * self.congestion.len() * self.sides.len()) as f64 * group
    }
}

/// One value, with the latency quantiles where the row has them.
#[derive(Debug, Clone, Copy)]
struct Sample {
    value: f64,
    latency_us: Option<[f64; 2]>,
}

#[derive(Debug, Default)]
struct Cell {
    samples: Vec<Sample>,
    failures: Vec<String>,
}

/// Median, least and greatest.
fn spread(values: impl Iterator<Item = f64>) -> Option<[f64; 3]> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let (least, greatest) = (*values.first()?, *values.last()?);
    let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
    Some([median, least, greatest])
}

fn figure(x: f64) -> String {
    match x {
        x if x >= 1000.0 => format!("{x:.0}"),
        x if x >= 100.0 => format!("{x:.1}"),
        x => format!("{x:.2}"),
    }
}

fn measure(side: &Side, row: Row, programs: &Programs, options: &Options, cpu: usize) -> io::Result<Sample> {
    let (mode, count) = match row {
        Row::IperfUp(flows) | Row::IperfDown(flows) => {
            let reverse = matches!(row, Row::IperfDown(_));
            let value = iperf3(side, options.iperf_seconds, flows, reverse, cpu)?;
            return Ok(Sample { value, latency_us: None });
        }
        Row::Up(n) => ("up", n),
        Row::Down(n) => ("down", n),
        Row::Echo(n) | Row::SocketsEcho(n) => ("echo", n),
        Row::Rr(n) | Row::SocketsRr(n) => ("rr", n),
        Row::Cr(n) => ("cr", n),
    };
    let bulk = matches!(row, Row::Up(_) | Row::Down(_) | Row::Echo(_) | Row::SocketsEcho(_));
    let mut command = side.client(&programs.tool("ktcp"));
    command.args([mode, side.address, "--json", "--cpu", &cpu.to_string()]);
    command.args(["--seconds", &options.seconds.to_string(), "--warmup", &options.warmup.to_string()]);
    command.args([if bulk { "--flows" } else { "--conns" }, &count.to_string()]);
    if row.in_shard().is_some() {
        command.args(["--port", &side.sockets_port().to_string()]);
    }
    let report = run_json(&mut command, Duration::from_secs_f64(options.seconds + options.warmup) + super::PATIENCE)?;
    if bulk {
        return Ok(Sample { value: number(&report, "/gbit_per_s")?, latency_us: None });
    }
    let failures = number(&report, "/failures")?;
    if failures > 0.0 {
        return Err(io::Error::other(format!("{failures} connections failed")));
    }
    let latency_us = Some([number(&report, "/p50_us")?, number(&report, "/p99_us")?]);
    Ok(Sample { value: number(&report, "/per_s")?, latency_us })
}

/// Keeps idle CPUs from halting until dropped.
struct Spinner(Child);

impl Spinner {
    fn start(programs: &Programs, seconds: f64) -> io::Result<Self> {
        let mut command = Command::new(programs.tool("idle-spin"));
        command.arg(seconds.to_string());
        Ok(Self(sys::die_with_parent(&mut command).spawn()?))
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Results by congestion control, row and side.
type Table = BTreeMap<(usize, usize, usize), Cell>;

/// Runs the comparison and prints it. Returns whether every single measurement succeeded.
///
/// # Errors
/// Nothing could be measured at all: no namespaces, no spinner. A failing measurement is counted and shown.
pub fn compare(options: &Options, programs: &Programs) -> io::Result<bool> {
    let cpus = sys::usable_cpus();
    let (client_cpu, server_cpu) = (cpus[0], cpus[cpus.len() - 1]);
    let minutes = options.duration() / 60.0;
    println!("This takes about {minutes:.1} minutes; it wants the machine for itself. ^C leaves nothing behind.");
    let busy_before = sys::busy_part(Duration::from_secs(1))?;
    warn_of_other_work(busy_before);
    let spinner = options.spin.then(|| Spinner::start(programs, options.duration() * 3.0 + 60.0)).transpose()?;
    let mut table = Table::new();
    let mut names = vec![String::from("?"); options.congestion.len()];
    let began = Instant::now();
    for round in 0..options.rounds {
        for (cc, congestion) in options.congestion.iter().enumerate() {
            let conditions =
                Conditions { mtu: options.mtu, congestion: congestion.clone(), offload: options.offload, server_cpu };
            for turn in 0..options.sides.len() {
                let which = (turn + round) % options.sides.len();
                let kind = &options.sides[which];
                let side = Side::start(kind, programs, &conditions).inspect(|side| {
                    names[cc] = side.congestion().unwrap_or_else(|_| "?".to_string());
                });
                for (index, row) in options.rows.iter().enumerate() {
                    let cell = table.entry((cc, index, which)).or_default();
                    let sample = match &side {
                        Ok(side) => measure(side, *row, programs, options, client_cpu),
                        Err(e) => Err(io::Error::other(e.to_string())),
                    };
                    match sample {
                        Ok(sample) => cell.samples.push(sample),
                        Err(e) => cell.failures.push(e.to_string()),
                    }
                }
                if let Err(e) = side {
                    eprintln!("{}: {e}", kind.name());
                }
            }
        }
        eprintln!("round {} of {} done after {:.0} s", round + 1, options.rounds, began.elapsed().as_secs_f64());
    }
    drop(spinner);
    let busy_after = sys::busy_part(Duration::from_secs(1))?;
    print_conditions(options, client_cpu, server_cpu);
    println!("Other work kept the CPUs {:.0} % busy before, {:.0} % after.", busy_before * 100.0, busy_after * 100.0);
    warn_of_other_work(busy_before.max(busy_after));
    for (cc, name) in names.iter().enumerate() {
        let default = if options.congestion[cc].is_none() { ", its default" } else { "" };
        println!("\nKernel sockets use {name}{default}:\n");
        print_table(options, &table, cc);
        print_sockets(options, &table, cc);
    }
    let failures: Vec<(String, &str)> = table
        .iter()
        .flat_map(|(&(cc, row, side), cell)| {
            let place = format!("{} {} {}", names[cc], options.rows[row].name(), options.sides[side].name());
            cell.failures.iter().map(move |why| (place.clone(), why.as_str()))
        })
        .collect();
    if !failures.is_empty() {
        println!("\n{} measurements failed:", failures.len());
        failures.iter().take(12).for_each(|(place, why)| println!("  {place}: {why}"));
    }
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{:#}\n", as_json(options, &table, &names)))?;
    }
    Ok(failures.is_empty())
}

/// Figures taken beside other work say little: what it slows down most is the side with the most hand-overs.
fn warn_of_other_work(busy: f64) {
    if busy > 0.1 {
        println!("WARNING: other work keeps the CPUs {:.0} % busy; these figures are not worth keeping.", busy * 100.0);
    }
}

fn print_conditions(options: &Options, client_cpu: usize, server_cpu: usize) {
    println!("\n{}", machine());
    println!(
        "MTU {}, offload {}, {} rounds interleaved, {} s each ({} s warm-up; iperf3 {} s); client on CPU {client_cpu}, \
         kernel's server on CPU {server_cpu}; idle CPUs {}",
        options.mtu,
        if options.offload { "on" } else { "off" },
        options.rounds,
        options.seconds,
        options.warmup,
        options.iperf_seconds,
        if options.spin { "kept from halting" } else { "halt" }
    );
    println!("Median [least-greatest]; x: median against the last column's. rr, cr: p50/p99 in microseconds behind.");
}

fn print_table(options: &Options, table: &Table, cc: usize) {
    let reference = options.sides.len() - 1;
    let mut lines = vec![Vec::from(["row".to_string(), "unit".to_string()])];
    for (index, side) in options.sides.iter().enumerate() {
        lines[0].push(side.name().to_string());
        if index != reference {
            lines[0].push("x".to_string());
        }
    }
    for (row_index, row) in options.rows.iter().enumerate() {
        let mut line = vec![row.name(), row.unit().to_string()];
        let median = |side| spread(table.get(&(cc, row_index, side))?.samples.iter().map(|s| s.value));
        for side in 0..options.sides.len() {
            let Some([middle, least, greatest]) = median(side) else {
                line.push("failed".to_string());
                if side != reference {
                    line.push("-".to_string());
                }
                continue;
            };
            let mut text = format!("{} [{}-{}]", figure(middle), figure(least), figure(greatest));
            let quantile = |which: usize| {
                let samples = table.get(&(cc, row_index, side))?.samples.iter();
                spread(samples.filter_map(|s| s.latency_us.map(|q| q[which]))).map(|s| s[0])
            };
            if let (Some(p50), Some(p99)) = (quantile(0), quantile(1)) {
                text.push_str(&format!(" {p50:.0}/{p99:.0}"));
            }
            line.push(text);
            if side != reference {
                line.push(
                    median(reference).map_or_else(|| "-".to_string(), |kernel| format!("{:.2}", middle / kernel[0])),
                );
            }
        }
        lines.push(line);
    }
    print_aligned(&lines);
}

/// Prints a Markdown table with its columns aligned; the first line is the head.
pub(super) fn print_aligned(lines: &[Vec<String>]) {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| lines.iter().filter_map(|l| l.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for (index, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(text, &w)| format!("{text:<w$}")).collect();
        println!("| {} |", cells.join(" | "));
        if index == 0 {
            println!("|{}|", widths.iter().map(|w| "-".repeat(w + 2)).collect::<Vec<_>>().join("|"));
        }
    }
}

/// What sockets on another thread cost: each of their rows against the one of the service in the shard.
fn print_sockets(options: &Options, table: &Table, cc: usize) {
    let mut lines = Vec::new();
    for (index, row) in options.rows.iter().enumerate() {
        let Some(other) = row.in_shard().and_then(|wanted| options.rows.iter().position(|row| *row == wanted)) else {
            continue;
        };
        let median = |row, side| spread(table.get(&(cc, row, side))?.samples.iter().map(|s| s.value)).map(|s| s[0]);
        let mut line = vec![format!("{} / {}", row.name(), options.rows[other].name())];
        for side in 0..options.sides.len() - 1 {
            let ratio = median(index, side).zip(median(other, side)).map(|(sockets, shard)| sockets / shard);
            line.push(ratio.map_or_else(|| "-".to_string(), |ratio| format!("{ratio:.2}")));
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return;
    }
    println!("\nThrough sockets on a thread of their own, against the service in the shard (of medians):\n");
    let names = options.sides[..options.sides.len() - 1].iter().map(|side| side.name().to_string());
    lines.insert(0, std::iter::once("rows".to_string()).chain(names).collect());
    print_aligned(&lines);
}

fn as_json(options: &Options, table: &Table, names: &[String]) -> Value {
    let cells: Vec<Value> = table
        .iter()
        .map(|(&(cc, row, side), cell)| {
            json!({"congestion": names[cc], "row": options.rows[row].name(), "unit": options.rows[row].unit(),
                   "side": options.sides[side].name(), "values": cell.samples.iter().map(|s| s.value).collect::<Vec<_>>(),
                   "p50_p99_us": cell.samples.iter().filter_map(|s| s.latency_us).collect::<Vec<_>>(),
                   "failures": cell.failures})
        })
        .collect();
    json!({"machine": machine(), "mtu": options.mtu, "offload": options.offload, "idle_cpus_halt": !options.spin,
           "seconds": options.seconds, "warmup": options.warmup, "iperf_seconds": options.iperf_seconds, "cells": cells})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_of_sockets_have_one_in_the_shard() {
        for row in [Row::SocketsRr(32), Row::SocketsEcho(1)] {
            let name = row.name();
            assert_eq!(row.in_shard().map(Row::name), name.strip_prefix("sockets-").map(str::to_string));
            assert_eq!(row.in_shard().map(Row::unit), Some(row.unit()));
        }
        assert_eq!(Row::Rr(1).in_shard(), None);
    }

    #[test]
    fn spread_is_median_least_greatest() {
        assert_eq!(spread([3.0, 1.0, 2.0].into_iter()), Some([2.0, 1.0, 3.0]));
        assert_eq!(spread([4.0, 1.0, 2.0, 3.0].into_iter()), Some([2.5, 1.0, 4.0]));
        assert_eq!(spread(std::iter::empty()), None);
    }
}
