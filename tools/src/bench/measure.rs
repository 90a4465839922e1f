//! One value: a side, a row, a client.

use super::plan::{Conditions, Plan};
use super::row::Row;
use super::side::Side;
use super::{PATIENCE, Programs, iperf3, number, run_json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io;
use std::time::Duration;

/// CPU seconds of a gigabyte (10^9 octets of payload), or of a million requests or connections.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// Of the processes that serve, their time in the kernel included.
    pub server: f64,
    /// Of those, the client, and the kernel's own threads for network work.
    pub all: f64,
}

/// One value, with what else the row has.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// In the row's unit.
    pub value: f64,
    /// Latency in microseconds, median and 99th percentile: request/response and connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<[f64; 2]>,
    /// Where our own client measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
}

/// What it takes to measure.
#[derive(Debug)]
pub struct Bench<'a> {
    /// Where the programs are.
    pub programs: &'a Programs,
    /// Lengths.
    pub plan: &'a Plan,
    /// Where the client runs, unless it roams.
    pub client_cpu: usize,
}

impl Bench<'_> {
    /// Measures one row.
    ///
    /// # Errors
    /// The client fails, or a connection does.
    pub fn measure(&self, side: &Side, row: Row, conditions: &Conditions) -> io::Result<Sample> {
        let cpu = (!conditions.roaming).then_some(self.client_cpu);
        let Some(mode) = row.mode() else {
            let reverse = matches!(row, Row::IperfDown(_));
            let value = iperf3(side, self.plan.iperf_seconds, row.count(), reverse, cpu)?;
            return Ok(Sample { value, latency_us: None, cpu: None });
        };
        let (seconds, warmup) = (self.plan.seconds, self.plan.warmup);
        let mut command = side.client(&self.programs.tool("ktcp"));
        command.args([mode, side.address, "--json"]);
        command.args(["--seconds", &seconds.to_string(), "--warmup", &warmup.to_string()]);
        command.args([if row.is_bulk() { "--flows" } else { "--conns" }, &row.count().to_string()]);
        if let Some(cpu) = cpu {
            command.args(["--cpu", &cpu.to_string()]);
        }
        for process in side.processes() {
            command.args(["--watch", &process.to_string()]);
        }
        if matches!(row, Row::Cr(_)) {
            // Rows of one side have ports of their own: a stack may remember those of the row before.
            command.args(["--first-port", if row.count() == 1 { "1100" } else { "30000" }]);
        }
        if row.is_through_sockets() {
            command.args(["--port", &side.sockets_port().to_string()]);
        }
        sample(row, &run_json(&mut command, Duration::from_secs_f64(seconds + warmup) + PATIENCE)?)
    }
}

/// What `ktcp` reports of a row.
fn sample(row: Row, report: &Value) -> io::Result<Sample> {
    let (value, done, latency_us) = if row.is_bulk() {
        (number(report, "/gbit_per_s")?, number(report, "/bytes")? / 1e9, None)
    } else {
        let failures = number(report, "/failures")?;
        if failures > 0.0 {
            return Err(io::Error::other(format!("{failures} connections failed")));
        }
        let latency = [number(report, "/p50_us")?, number(report, "/p99_us")?];
        (number(report, "/per_s")?, number(report, "/rounds")? / 1e6, Some(latency))
    };
    if done == 0.0 {
        return Err(io::Error::other("nothing was done in the time that counts"));
    }
    // Without the server's time (it has ended) there is nothing to tell.
    let cpu = number(report, "/cpu_s/watched").ok().map(|server| {
        let other = number(report, "/cpu_s/client").unwrap_or(0.0) + number(report, "/cpu_s/softirq").unwrap_or(0.0);
        Cpu { server: server / done, all: (server + other) / done }
    });
    Ok(Sample { value, latency_us, cpu })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn cpu_time_is_told_a_gigabyte_and_a_million() {
        let cpu = json!({"client": 1.0, "watched": 0.5, "softirq": 0.25});
        let bulk = json!({"gbit_per_s": 8.0, "bytes": 2_000_000_000_u64, "cpu_s": cpu});
        let bulk = sample(Row::Up(1), &bulk).unwrap();
        assert_eq!(bulk, Sample { value: 8.0, latency_us: None, cpu: Some(Cpu { server: 0.25, all: 0.875 }) });
        let rounds =
            json!({"per_s": 9.0, "rounds": 500_000, "failures": 0, "p50_us": 1.0, "p99_us": 2.0, "cpu_s": cpu});
        let rounds = sample(Row::Cr(1), &rounds).unwrap();
        assert_eq!((rounds.cpu.unwrap().server, rounds.latency_us), (1.0, Some([1.0, 2.0])));
    }

    #[test]
    fn what_failed_or_stood_still_is_no_value() {
        let stood = json!({"gbit_per_s": 0.0, "bytes": 0, "cpu_s": {}});
        assert!(sample(Row::Down(1), &stood).is_err());
        let failed = json!({"per_s": 9.0, "rounds": 5, "failures": 1, "p50_us": 1.0, "p99_us": 2.0});
        assert!(sample(Row::Cr(64), &failed).is_err_and(|e| e.to_string().contains("1 connections failed")));
    }
}
