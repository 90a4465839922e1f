//! `idle-spin SECS`: keeps idle virtual CPUs from halting, so that waking one does not swamp what is being measured.
//!
//! One SCHED_IDLE thread a CPU: whatever else wants to run takes the CPU at once. Bulk rates come out somewhat lower
//! and round trips faster than without: compare figures only inside one regime, and name it.

use clap::Parser;
use std::hint::spin_loop;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use trust_tools::arguments;
use trust_tools::sys;

/// Spin on every usable CPU at the lowest priority there is.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long, in seconds
    seconds: f64,
}

fn main() -> ExitCode {
    let Ok(length) = Duration::try_from_secs_f64(arguments::parse::<Arguments>().seconds) else {
        eprintln!("idle-spin: SECS must be a number of seconds, zero or more");
        return ExitCode::from(2);
    };
    let end = Instant::now() + length;
    let spinners: Vec<_> =
        sys::usable_cpus().into_iter().map(|cpu| std::thread::spawn(move || spin(cpu, end))).collect();
    let mut failed = false;
    for spinner in spinners {
        if let Err(e) = spinner.join().unwrap_or_else(|_| Err(std::io::Error::other("panicked"))) {
            eprintln!("idle-spin: {e}");
            failed = true;
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn spin(cpu: usize, end: Instant) -> std::io::Result<()> {
    sys::pin_to_cpu(cpu)?;
    // First the policy: a spinner at normal priority would be worse than none.
    sys::run_only_when_idle()?;
    while Instant::now() < end {
        for _ in 0..256 {
            spin_loop();
        }
    }
    Ok(())
}
