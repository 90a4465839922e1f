//! Prints what is counted of how the code is built, beside the bounds in `tools/code-metrics.txt`: metric, now, bound,
//! goal. Exit status 1, and the places, when a bound is broken; 2 when nothing could be measured.
//!
//! What was true of an older commit, beside the bounds of today: `code-metrics --bounds tools/code-metrics.txt FOLDER`,
//! where the folder is a worktree of it.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use trust_tools::arguments;
use trust_tools::metrics::{Bounds, Repository, measure, packages};

/// Where the bounds are, from the root of the repository.
const BOUNDS: &str = "tools/code-metrics.txt";

/// Measure how the code is built and compare it with tools/code-metrics.txt.
#[derive(Debug, Parser)]
struct Arguments {
    /// Lower the bounds to what is true now; none is ever raised
    #[arg(long)]
    bless: bool,
    /// Count the packages without features, too, by cargo tree
    #[arg(long)]
    packages: bool,
    /// Print what this metric counts instead, a line for each place
    #[arg(long, value_name = "METRIC")]
    places: Option<String>,
    /// The table of bounds; without it, that of the repository
    #[arg(long, value_name = "FILE")]
    bounds: Option<PathBuf>,
    /// The root of the repository
    #[arg(default_value = ".")]
    root: PathBuf,
}

fn main() -> ExitCode {
    match run(&arguments::parse()) {
        Ok((text, is_sound)) => {
            // Whoever reads no further has what he wants.
            let _ = io::stdout().write_all(text.as_bytes());
            if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("code-metrics: {error}");
            ExitCode::from(2)
        }
    }
}

/// What there is to be printed, and whether all bounds are kept.
fn run(arguments: &Arguments) -> Result<(String, bool), String> {
    let path = arguments.bounds.clone().unwrap_or_else(|| arguments.root.join(BOUNDS));
    let text = fs::read_to_string(&path)
        .map_err(|error| format!("{}: {error}; start it at the root of the repository", path.display()))?;
    let mut bounds = Bounds::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let repository = Repository::read(&arguments.root).map_err(|error| error.to_string())?;
    let mut metrics = measure(&repository)?;
    if arguments.packages {
        metrics.push(packages(&arguments.root).map_err(|error| error.to_string())?);
    }
    if let Some(name) = &arguments.places {
        let metric = metrics.iter().find(|metric| metric.name() == name);
        let metric = metric.ok_or_else(|| format!("there is no metric {name}; the first column has them"))?;
        return Ok((metric.places_above(0).map(|place| format!("{place}\n")).collect(), true));
    }
    if arguments.bless {
        bounds.bless(&metrics);
        fs::write(&path, bounds.to_string()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let faults = bounds.faults(&metrics);
    let lines = faults.iter().map(|fault| format!("{fault}\n"));
    Ok((bounds.table(&metrics) + &lines.collect::<String>(), faults.is_empty()))
}
