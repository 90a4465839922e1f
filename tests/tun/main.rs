//! The command as users run it, on a real TUN device, with the stock programs that people point at it.
//!
//! Each test has a network namespace of its own (as root, or when this whole binary runs under `unshare -Urn`). What
//! cannot be done here, for want of a right or a program, is reported as ignored with the reason; `TRUST_REQUIRE_TUN=1`
//! makes that a failure. `TRUST_SOAK=1` takes the full sizes.

#![allow(clippy::unwrap_used, missing_docs, dead_code)]

mod basics;
mod combinations;
mod iperf;
#[path = "../netns/mod.rs"]
mod netns;
mod support;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each test takes several processes of its own: more at once only wait for each other.
    arguments.test_threads.get_or_insert(2);
    let mut trials = vec![
        trial("ping_is_answered", basics::ping),
        trial("closed_port_is_refused_at_once", basics::closed_port),
        trial("bulk_through_echo_is_exact", basics::bulk_echo),
        trial("daytime_discard_chargen", basics::small_services),
        trial("impossible_combinations_are_refused_in_one_line", combinations::impossible),
    ];
    trials.extend(combinations::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, test: fn() -> support::Outcome) -> Trial {
    netns::trial_or_skip(name, test)
}
