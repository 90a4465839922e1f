//! Prints what is counted of how the code is built, beside the bounds in `tools/code-metrics.txt`: metric, now, bound,
//! goal. Exit status 1, and the places, when a bound is broken; 2 when nothing could be measured.

use std::fs;
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
    /// The root of the repository
    #[arg(default_value = ".")]
    root: PathBuf,
}

fn main() -> ExitCode {
    run(&arguments::parse()).unwrap_or_else(|error| {
        eprintln!("code-metrics: {error}");
        ExitCode::from(2)
    })
}

fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let path = arguments.root.join(BOUNDS);
    let named = |error: std::io::Error| format!("{}: {error}; start it at the root of the repository", path.display());
    let mut bounds = Bounds::parse(&fs::read_to_string(&path).map_err(named)?)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let repository = Repository::read(&arguments.root).map_err(|error| error.to_string())?;
    let mut metrics = measure(&repository)?;
    if arguments.packages {
        metrics.push(packages(&arguments.root).map_err(|error| error.to_string())?);
    }
    if let Some(name) = &arguments.places {
        let metric = metrics.iter().find(|metric| metric.name() == name);
        let metric = metric.ok_or_else(|| format!("there is no metric {name}; the first column has them"))?;
        metric.places_above(0).for_each(|place| println!("{place}"));
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.bless {
        bounds.bless(&metrics);
        fs::write(&path, bounds.to_string()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    print!("{}", bounds.table(&metrics));
    let faults = bounds.faults(&metrics);
    faults.iter().for_each(|fault| println!("{fault}"));
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
