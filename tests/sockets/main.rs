//! One suite, two stacks: what programs rely on in TCP sockets, as functions generic over the stack.
//!
//! `std::net` is the reference: what it does on Linux is what each behaviour asserts, error numbers included. A test is
//! named after its stack and its theme, like `std::closing::eof_after_all_data`. Each has a fresh stack and 10 s.
//! `TRUST_SOAK=1` takes the full sizes, `TRUST_SEED=n` one seed for the random behaviours.

#![allow(clippy::unwrap_used, missing_docs)]

mod closing;
mod connecting;
mod hosts;
mod listening;
mod options;
mod random;
mod reading;
mod resetting;
mod stack;
mod std_stack;
mod support;
mod threads;
mod trust_stack;
mod writing;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use stack::Stack;
use support::{Behaviour, Named};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They wait most of the time.
    arguments.test_threads.get_or_insert(8);
    support::raise_open_files();
    let mut trials = Vec::new();
    trials.extend(suite::<std_stack::Std>());
    trials.extend(suite::<trust_stack::Trust>());
    trials.extend(suite::<trust_stack::Embedded>());
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// All behaviours, on one stack.
fn suite<S: Stack>() -> Vec<Trial> {
    let themes: [(&str, Vec<Named<S>>); 9] = [
        ("connecting", connecting::all()),
        ("listening", listening::all()),
        ("reading", reading::all()),
        ("writing", writing::all()),
        ("closing", closing::all()),
        ("resetting", resetting::all()),
        ("threads", threads::all()),
        ("options", options::all()),
        ("random", random::all()),
    ];
    let mut trials = Vec::new();
    let mut names = Vec::new();
    for (theme, behaviours) in themes {
        for (name, behaviour) in behaviours {
            trials.push(trial(format!("{}::{theme}::{name}", S::NAME), name, behaviour));
            names.push(name);
        }
    }
    for (name, _) in S::LACKS {
        assert!(names.contains(name), "{} lacks {name}, which is no behaviour", S::NAME);
    }
    trials
}

/// The list of a theme's behaviours, by the names of their functions.
macro_rules! behaviours {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn all<S: $crate::stack::Stack>() -> Vec<$crate::support::Named<S>> {
            vec![$((stringify!($name), $name::<S> as $crate::support::Behaviour<S>)),*]
        }
    };
}
pub(crate) use behaviours;

fn trial<S: Stack>(full_name: String, name: &'static str, behaviour: Behaviour<S>) -> Trial {
    Trial::ignorable_test(full_name.clone(), move || {
        if let Some((_, reason)) = S::LACKS.iter().find(|(lacked, _)| *lacked == name) {
            return Ok(Completion::ignored_with(*reason));
        }
        let (report, outcome) = mpsc::channel();
        // What a behaviour leaves blocked when its time is up ends with the process.
        thread::Builder::new().name(full_name).spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| behaviour(&S::start())));
            let _ = report.send(result);
        })?;
        let limit = Duration::from_secs(support::size(10, 120) as u64);
        match outcome.recv_timeout(limit) {
            Ok(Ok(())) => Ok(Completion::Completed),
            Ok(Err(panic)) => Err(Failed::from(message(panic.as_ref()))),
            Err(_) => Err(Failed::from(format!("not done within {limit:?}"))),
        }
    })
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "panicked".to_owned())
}
