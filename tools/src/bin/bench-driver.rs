//! `bench-driver`: compares the engine with the kernel's TCP and others by the same clients, in namespaces of its own.
//! Started by `./run.sh bench` and `./run.sh demo`; needs to be root, or root of a user namespace.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::time::Duration;
use trust_tools::bench::compare::{Keep, Places, begin, go_on, take_up};
use trust_tools::bench::plan::{Kind, Offered, Plan, Setting, Wanted};
use trust_tools::bench::state::State;
use trust_tools::bench::stats::length;
use trust_tools::bench::table::tables;
use trust_tools::bench::{Programs, demo::demo, peers};
use trust_tools::{arguments, sys, tun};

/// Prints to whoever still reads.
macro_rules! tell {
    ($($word:tt)*) => {
        let _ = writeln!(io::stdout(), $($word)*);
    };
}

/// Compare the engine with the kernel's TCP and others.
#[derive(Debug, Parser)]
#[command(name = "bench-driver")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The interleaved comparison
    #[command(override_usage = "./run.sh bench [OPTION...]")]
    Compare(Box<Compare>),
    /// One minute of stock programs
    Demo(Paths),
}

/// What run.sh says, and nobody types.
#[derive(Debug, Args)]
struct Paths {
    /// The trust binary
    #[arg(long, hide = true)]
    engine: PathBuf,
    /// The directory of the tools
    #[arg(long, hide = true)]
    tools: PathBuf,
    /// The directory of the sources
    #[arg(long, hide = true, default_value = ".")]
    top: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnOff {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Client {
    /// On a CPU of its own
    Pinned,
    /// Wherever the scheduler has it
    Roaming,
}

#[derive(Debug, Args)]
struct Compare {
    #[command(flatten)]
    paths: Paths,
    /// Less than three minutes: few rows, the engine with its defaults, the kernel and the stand-ins
    #[arg(long)]
    quick: bool,
    /// Only rows whose name begins so (up, down8, rr, sockets, iperf3 ...), with commas
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Only sides whose name contains one of these, or of these groups: engine, kernel, ceiling, peers
    #[arg(long, value_delimiter = ',')]
    sides: Vec<String>,
    /// Rounds of everything (default 5; 3 and 7 under some conditions)
    #[arg(long)]
    rounds: Option<usize>,
    /// Counted seconds of each row (default 0.8; --quick 0.4)
    #[arg(long)]
    seconds: Option<f64>,
    /// MTU of TUN and veth, with commas
    #[arg(long, value_delimiter = ',')]
    mtu: Vec<u32>,
    /// Segmentation and checksum by the device, with commas
    #[arg(long, value_enum, value_delimiter = ',')]
    offload: Vec<OnOff>,
    /// Where the client runs, with commas
    #[arg(long, value_enum, value_delimiter = ',')]
    client: Vec<Client>,
    /// Congestion controls of the kernel's sockets, with commas; "default" is the kernel's own
    #[arg(long, value_delimiter = ',')]
    congestion: Vec<String>,
    /// Without bpf(2), as for a normal user
    #[arg(long)]
    rootless: bool,
    /// Further words for `trust serve`, as one argument
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    serve: String,
    /// Let idle CPUs halt, as they do without a spinner
    #[arg(long)]
    halt: bool,
    /// Stop after so many minutes; --resume goes on
    #[arg(long, value_name = "MINUTES")]
    slice: Option<f64>,
    /// Go on with the run that was left
    #[arg(long)]
    resume: bool,
    /// Show the plan and how long it takes
    #[arg(long)]
    list: bool,
    /// Keep the run in benches/runs though it is none of the whole plan or --quick, or the machine had other work
    #[arg(long)]
    keep: bool,
    /// Write every single value to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where the report is written (default: target/bench/report.html)
    #[arg(long)]
    html: Option<PathBuf>,
    /// Where what is done is written down (default: target/bench/state.json)
    #[arg(long)]
    state: Option<PathBuf>,
    /// Where whole runs are kept (default: benches/runs)
    #[arg(long)]
    runs: Option<PathBuf>,
}

impl Compare {
    fn wanted(&self) -> Wanted {
        Wanted {
            quick: self.quick,
            rows: self.rows.clone(),
            sides: self.sides.clone(),
            rounds: self.rounds,
            seconds: self.seconds,
            mtu: self.mtu.clone(),
            offload: self.offload.iter().map(|offload| *offload == OnOff::On).collect(),
            roaming: self.client.iter().map(|client| *client == Client::Roaming).collect(),
            congestion: self.congestion.clone(),
            rootless: self.rootless,
            serve: self.serve.split_whitespace().map(str::to_string).collect(),
            halt: self.halt,
        }
    }

    fn programs(&self) -> Programs {
        let peers = peers::program(&self.paths.top);
        Programs { engine: self.paths.engine.clone(), tools: self.paths.tools.clone(), peers }
    }

    fn places(&self, plan: &Plan) -> Places {
        let keep = match (self.keep, plan.name.as_str()) {
            (true, _) => Keep::Yes,
            (false, "selected") => Keep::No,
            (false, _) => Keep::IfUndisturbed,
        };
        Places {
            state: self.state_place(),
            runs: self.runs.clone().unwrap_or_else(|| self.paths.top.join("benches/runs")),
            keep,
            json: self.json.clone(),
            report: self.html.clone().unwrap_or_else(|| self.paths.top.join("target/bench/report.html")),
        }
    }

    fn state_place(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| self.paths.top.join("target/bench/state.json"))
    }
}

/// What the engine offers, and what this machine allows.
fn offered(programs: &Programs) -> io::Result<Offered> {
    let mut command = process::Command::new(&programs.engine);
    let help = sys::run(command.args(["serve", "--help"]), Duration::from_secs(10))?;
    Ok(Offered::from_help(&String::from_utf8_lossy(&help.stdout), tun::load_steering_by_cpu().is_ok()))
}

fn list(plan: &Plan) {
    for setting in &plan.settings {
        tell!("{} rounds, {}", setting.rounds, setting.conditions.told());
        let rows: Vec<String> = setting.rows.iter().map(|row| row.name()).collect();
        tell!("    rows:  {}", rows.join(" "));
        let sides: Vec<&str> = setting.sides.iter().map(|side| side.name.as_str()).collect();
        tell!("    sides: {}", sides.join(" "));
    }
    tell!("about {} in all", length(plan.duration(&plan.units())));
}

fn run(c: &Compare) -> io::Result<ExitCode> {
    let programs = c.programs();
    let mut state: State = if c.resume {
        take_up(&c.state_place(), &programs)?
    } else {
        let plan = c.wanted().plan(&offered(&programs)?).map_err(io::Error::other)?;
        begin(plan, &programs, &c.paths.top)?
    };
    if c.list {
        list(&state.plan);
        return Ok(ExitCode::SUCCESS);
    }
    let has_peers =
        |setting: &Setting| setting.sides.iter().any(|side| matches!(side.kind, Kind::Peer(peer) if peer.is_built()));
    if !state.is_whole() && state.plan.settings.iter().any(has_peers) {
        // Without them all others are still measured.
        peers::build(&c.paths.top).unwrap_or_else(|e| eprintln!("bench-driver: {e}"));
    }
    let units = state.plan.units();
    let left = length(state.plan.duration(&units[state.done.min(units.len())..]));
    tell!("About {left} are left; it wants the machine for itself. ^C leaves nothing behind, and --resume goes on.");
    let places = c.places(&state.plan);
    let whole = go_on(&mut state, &programs, c.slice.map(|minutes| minutes * 60.0), &places)?;
    if !whole {
        let left = length(state.plan.duration(&units[state.done..]));
        let slice = c.slice.map_or_else(String::new, |minutes| format!(" --slice {minutes}"));
        tell!("{} of {} done, {left} left; go on: ./run.sh bench --resume{slice}", state.done, units.len());
        return Ok(ExitCode::from(3));
    }
    tell!("{}\nWith plots and history: {}", tables(&state), places.report.display());
    let failed = state.cells.iter().any(|cell| !cell.failures.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn main() -> ExitCode {
    let outcome = match arguments::parse::<Arguments>().command {
        Command::Compare(c) => run(&c),
        Command::Demo(paths) => {
            let programs = Programs { engine: paths.engine, tools: paths.tools, peers: PathBuf::new() };
            demo(&programs).map(|fine| if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    };
    outcome.unwrap_or_else(|e| {
        eprintln!("bench-driver: {e}");
        ExitCode::from(2)
    })
}
