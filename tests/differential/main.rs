#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod classes;
mod compare;
mod facts;
mod kernel;
#[path = "../netns/mod.rs"]
#[allow(dead_code)]
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
