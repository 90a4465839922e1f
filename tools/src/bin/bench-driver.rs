//! `bench-driver`: compares the engine with the kernel's TCP by the same clients, in namespaces of its own. Started by
//! `./run.sh bench` and `./run.sh demo`; needs to be root, or root of a user namespace.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use trust_tools::arguments;
use trust_tools::bench::compare::{Options, Row, compare};
use trust_tools::bench::{Kind, Programs, demo::demo};

/// Compare the engine with the kernel's TCP.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The interleaved comparison
    Compare(Compare),
    /// One minute of stock programs
    Demo(Paths),
}

#[derive(Debug, Args)]
struct Paths {
    /// The trust binary
    #[arg(long)]
    engine: PathBuf,
    /// The directory of the tools
    #[arg(long)]
    tools: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnOff {
    On,
    Off,
}

#[derive(Debug, Args)]
struct Compare {
    #[command(flatten)]
    paths: Paths,
    /// Less than three minutes: five short rows
    #[arg(long)]
    quick: bool,
    /// Rounds of everything (default 5)
    #[arg(long)]
    rounds: Option<usize>,
    /// Counted seconds of each row (default 2; --quick 0.5)
    #[arg(long)]
    seconds: Option<f64>,
    /// Congestion controls of the kernel's sockets, with commas; "default" is the kernel's own
    #[arg(long, default_value = "default,reno", value_delimiter = ',')]
    congestion: Vec<String>,
    /// Plans of the engine, with commas
    #[arg(long, default_value = "fused,pipeline", value_delimiter = ',')]
    plans: Vec<String>,
    /// Only rows whose name contains one of these (up, down8, rr, iperf3 ...), with commas
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Further words for `trust serve`, as one argument
    #[arg(long, default_value = "")]
    serve: String,
    /// MTU of TUN and veth
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// Segmentation and checksum by the device; off needs ethtool for the kernel's side
    #[arg(long, value_enum, default_value_t = OnOff::On)]
    offload: OnOff,
    /// Let idle CPUs halt, as they do without a spinner
    #[arg(long)]
    halt: bool,
    /// Write every single value to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

const ROWS: [Row; 18] = [
    Row::Up(1),
    Row::Up(8),
    Row::Down(1),
    Row::Down(8),
    Row::Rr(1),
    Row::Rr(32),
    Row::Echo(1),
    Row::Echo(8),
    Row::SocketsRr(1),
    Row::SocketsRr(32),
    Row::SocketsEcho(1),
    Row::SocketsEcho(8),
    Row::Cr(1),
    Row::Cr(64),
    Row::IperfUp(1),
    Row::IperfUp(8),
    Row::IperfDown(1),
    Row::IperfDown(8),
];

/// The rows of `--quick`, unless others are named.
const QUICK: [Row; 5] = [Row::Up(1), Row::Down(1), Row::Rr(32), Row::SocketsRr(32), Row::IperfDown(1)];

fn options(c: Compare) -> Options {
    let wanted = |row: Row| c.rows.is_empty() || c.rows.iter().any(|part| row.name().contains(part.as_str()));
    let short = |row: Row| !c.quick || QUICK.contains(&row);
    let words: Vec<String> = c.serve.split_whitespace().map(str::to_string).collect();
    let mut sides: Vec<Kind> = c
        .plans
        .iter()
        .map(|plan| {
            let words = ["--plan".to_string(), plan.clone()].into_iter().chain(words.iter().cloned()).collect();
            Kind::Engine { name: plan.clone(), words }
        })
        .collect();
    sides.push(Kind::Kernel);
    Options {
        sides,
        rows: ROWS.into_iter().filter(|&row| wanted(row) && (short(row) || !c.rows.is_empty())).collect(),
        congestion: c.congestion.into_iter().map(|name| (name != "default").then_some(name)).collect(),
        rounds: c.rounds.unwrap_or(5),
        seconds: c.seconds.unwrap_or(if c.quick { 0.5 } else { 2.0 }),
        warmup: if c.quick { 0.2 } else { 0.5 },
        iperf_seconds: if c.quick { 1 } else { 3 },
        mtu: c.mtu,
        offload: c.offload == OnOff::On,
        spin: !c.halt,
        json: c.json,
    }
}

fn main() -> ExitCode {
    let outcome = match arguments::parse::<Arguments>().command {
        Command::Compare(c) => {
            let programs = Programs { engine: c.paths.engine.clone(), tools: c.paths.tools.clone() };
            compare(&options(c), &programs)
        }
        Command::Demo(paths) => demo(&Programs { engine: paths.engine, tools: paths.tools }),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("bench-driver: {e}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_takes_less_than_three_minutes() {
        let arguments =
            Arguments::try_parse_from(["bench-driver", "compare", "--quick", "--engine", "trust", "--tools", "."]);
        let Ok(Arguments { command: Command::Compare(compare), .. }) = arguments else { panic!("{arguments:?}") };
        let options = options(compare);
        assert!(options.duration() < 180.0 && options.rounds >= 5, "{} s", options.duration());
    }
}
