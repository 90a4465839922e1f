//! `trust stats`: the counters of a running engine, shard by shard and together.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::Args;
use serde_json::Value;

use super::Error;
use super::control::client::Which;
use super::control::protocol::{Answer, Ask};

/// Options of `trust stats`.
#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// One object of JSON: shards, and total.
    #[arg(long)]
    json: bool,

    /// Those that are zero, too.
    #[arg(short = 'z', long)]
    zeros: bool,

    /// As metrics in the format of OpenMetrics, as --metrics serves them.
    #[arg(long, conflicts_with_all = ["json", "zeros"])]
    openmetrics: bool,

    /// As metrics in the older text format of Prometheus.
    #[arg(long, conflicts_with_all = ["json", "zeros", "openmetrics"])]
    prometheus: bool,

    #[command(flatten)]
    which: Which,
}

impl Stats {
    pub(crate) fn run(self) -> Result<(), Error> {
        if self.openmetrics || self.prometheus {
            return self.metrics();
        }
        let (mut shards, mut total) = (Vec::new(), Value::Null);
        self.which.connect()?.ask(Ask::Stats, |answer| {
            match answer {
                Answer::Shard { counters, .. } => shards.push(counters),
                Answer::Total { counters } => total = counters,
                _ => {}
            }
            Ok(())
        })?;
        let text = if self.json {
            serde_json::json!({ "shards": shards, "total": total }).to_string() + "\n"
        } else {
            table(&shards, &total, self.zeros)
        };
        io::stdout().lock().write_all(text.as_bytes()).map_err(Error::output)
    }

    fn metrics(&self) -> Result<(), Error> {
        let mut output = io::stdout().lock();
        let ask = Ask::Metrics { openmetrics: self.openmetrics };
        self.which.connect()?.ask(ask, |answer| match answer {
            Answer::Text(text) => output.write_all(text.as_bytes()).map_err(Error::output),
            _ => Ok(()),
        })?;
        Ok(())
    }
}

/// A row for each counter: its name, the total, and each shard's.
fn table(shards: &[Value], total: &Value, zeros: bool) -> String {
    let mut text = format!("{:<40} {:>16}", "Counter", "Total");
    for shard in 0..shards.len() {
        let _ = write!(text, " {:>16}", format!("Shard {shard}"));
    }
    text.push('\n');
    let lists: Vec<_> = std::iter::once(total).chain(shards).map(flat).collect();
    let Some((totals, shards)) = lists.split_first() else { return text };
    for (row, (name, sum)) in totals.iter().enumerate() {
        if *sum == 0 && !zeros {
            continue;
        }
        let _ = write!(text, "{name:<40} {sum:>16}");
        for shard in shards {
            let _ = write!(text, " {:>16}", shard.get(row).map_or(0, |(_, value)| *value));
        }
        text.push('\n');
    }
    text
}

/// Names and numbers in the order of the names; what is by reason, kind or class has that in its name.
fn flat(counters: &Value) -> Vec<(String, u64)> {
    let Value::Object(all) = counters else { return Vec::new() };
    let mut list = Vec::new();
    for (name, value) in all {
        match value {
            Value::Object(inner) => {
                list.extend(inner.iter().map(|(key, value)| (format!("{name}.{key}"), value.as_u64().unwrap_or(0))));
            }
            Value::Array(inner) => {
                let named = |(class, value): (usize, &Value)| {
                    let below =
                        if class + 1 == inner.len() { "more".to_owned() } else { format!("{}us", 1_u64 << class) };
                    (format!("{name}.{below}"), value.as_u64().unwrap_or(0))
                };
                list.extend(inner.iter().enumerate().map(named));
            }
            value => list.push((name.clone(), value.as_u64().unwrap_or(0))),
        }
    }
    list
}
