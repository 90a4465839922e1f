//! TUN devices of the kernel: the backends, the steering program, and an embedded host on their queues.
//!
//! Each test has a network namespace of its own (see `netns`); `steering` needs the right to use bpf(2) beside that.

#![allow(clippy::unwrap_used, missing_docs)]

mod backends;
mod embedded;
#[path = "../netns/mod.rs"]
mod netns;
mod steering;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let mut trials = backends::trials();
    trials.extend(steering::trials());
    trials.extend(embedded::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
