//! Comparisons of the engine with others by the same clients: [`compare`] (interleaved, many rounds, resumable) and
//! [`demo`] (one minute).
//!
//! | module | holds |
//! | --- | --- |
//! | [`row`] | what a client does |
//! | [`plan`] | sides, conditions, rounds, and their order |
//! | [`peers`] | other stacks |
//! | [`side`] | a side set up in namespaces of its own |
//! | [`measure`] | one value |
//! | [`state`] | what has been measured so far, in a file |
//! | [`compare`] | the run itself, whole or in slices |
//! | [`stats`], [`table`], [`report`] | medians and ranges, and how they are told: in a terminal, in HTML |
//! | [`history`] | runs that were kept |
//! | [`demo`] | stock programs for a minute |

pub mod compare;
pub mod demo;
pub mod history;
pub mod measure;
pub mod peers;
pub mod plan;
pub mod report;
pub mod row;
pub mod side;
pub mod state;
pub mod stats;
pub mod table;

use crate::sys;
use serde_json::Value;
use side::Side;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Time an engine or server may take to get ready, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the programs of this repository are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The `trust` binary.
    pub engine: PathBuf,
    /// The directory of `ktcp`, `ceiling`, `nc-load` and `idle-spin`.
    pub tools: PathBuf,
    /// The program of the other stacks, which need not be there.
    pub peers: PathBuf,
}

impl Programs {
    fn tool(&self, name: &str) -> String {
        self.tools.join(name).display().to_string()
    }
}

/// Runs a program that prints one JSON value.
fn run_json(command: &mut Command, patience: Duration) -> io::Result<Value> {
    let output = sys::run(command, patience)?;
    serde_json::from_slice(&output.stdout).map_err(io::Error::from)
}

/// A number inside a JSON value, by its path.
fn number(value: &Value, path: &str) -> io::Result<f64> {
    value.pointer(path).and_then(Value::as_f64).ok_or_else(|| io::Error::other(format!("no number at {path}")))
}

/// Runs stock iperf3 for whole seconds, on a CPU or wherever; Gbit/s as the receiver counted them.
fn iperf3(side: &Side, seconds: u64, flows: usize, reverse: bool, cpu: Option<usize>) -> io::Result<f64> {
    let mut command = side.client("iperf3");
    command.args(["-J", "-c", side.address, "-t", &seconds.to_string(), "-P", &flows.to_string()]);
    if let Some(cpu) = cpu {
        command.args(["-A", &cpu.to_string()]);
    }
    if reverse {
        command.arg("-R");
    }
    let report = run_json(&mut command, Duration::from_secs(seconds) + PATIENCE)?;
    Ok(number(&report, "/end/sum_received/bits_per_second")? / 1e9)
}

/// Text of a file, or "?".
fn text_of(path: &str) -> String {
    std::fs::read_to_string(path).map_or_else(|_| "?".to_string(), |text| text.trim().to_string())
}

/// What the machine is: kernel, processor, CPUs in use.
#[must_use]
pub fn machine() -> String {
    let info = text_of("/proc/cpuinfo");
    let model =
        info.lines().find_map(|l| l.strip_prefix("model name")).map_or("?", |l| l.trim_start_matches([' ', '\t', ':']));
    let kernel = text_of("/proc/sys/kernel/osrelease");
    format!("Linux {kernel}, {} CPUs ({model})", sys::usable_cpus().len())
}

/// The commit of a folder's sources, `-dirty` behind it where they were changed.
#[must_use]
pub fn commit(folder: &Path) -> String {
    let mut command = Command::new("git");
    let git = sys::run(command.arg("-C").arg(folder).args(["describe", "--always", "--dirty"]), PATIENCE);
    git.map_or_else(|_| "unknown".to_string(), |o| String::from_utf8_lossy(&o.stdout).trim().to_string())
}
