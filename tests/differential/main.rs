//! Random scripts of packets and application calls on three stacks: ours and smoltcp in memory and virtual time, the kernel
//! over a TUN device in a network namespace of its own. After each step the facts that both sides can see are compared; where
//! they differ, a class says what either does and why, and `table.md` shows all of them.
//!
//! | file | holds |
//! | --- | --- |
//! | `table.md` | in what the stacks differ, rendered from the classes |
//! | `script`, `packet` | what a peer sends and an application calls, from a seed |
//! | `facts`, `story` | what is compared, and the state of the connection that it implies |
//! | `classes` | differences that are known, with the reason of each |
//! | `compare`, `run` | scripts on two stacks, and what came out |
//! | `ours`, `smol`, `kernel` | the stacks |
//!
//! `TRUST_SOAK=1` takes more seeds, and the kernel; `TRUST_DIFFERENTIAL_SEED=7` one script.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod classes;
mod compare;
mod facts;
mod kernel;
// Shared with other tests: not all of it is used here.
#[allow(dead_code)]
#[path = "../netns/mod.rs"]
mod netns;
mod ours;
mod packet;
mod run;
mod script;
mod smol;
#[path = "../smoltcp_wire/mod.rs"]
mod smoltcp_wire;
mod story;
mod table;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let soak = std::env::var_os("TRUST_SOAK").is_some_and(|soak| soak == "1");
    let trials = vec![
        Trial::test("the_table_is_what_the_classes_say", || table::compare().map_err(Failed::from)),
        Trial::test("smoltcp_differs_as_the_table_says", move || compare::smoltcp(soak).map_err(Failed::from)),
        netns::trial_or_skip("kernel_differs_as_the_table_says", compare::kernel)
            .with_ignored_flag(!soak && !arguments.ignored && !arguments.include_ignored),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}
