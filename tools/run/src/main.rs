//! `trust-run`: what `run.sh` does beside looking for what is missing, building, and choosing a namespace. It starts an
//! engine and watches over it, enters where it runs, ends it, and runs the tests. `run.sh` starts it and says where
//! things are; nobody types its command line, and what it says is said in the name of `run.sh`:
//!
//! ```text
//! trust-run TOP STATE ENGINE COMMAND [WORD...]
//!
//!     TOP       the folder of the clone
//!     STATE     the folder for what is known of a running engine
//!     ENGINE    the program `trust`
//! ```
//!
//! Nothing outlives the engine: its namespace, device and addresses end with the last process inside; it is killed
//! when this program ends, however that is (pdeathsig); "is it running?" is answered by a lock, which dies with its
//! holders.

#![forbid(unsafe_code)]

mod enter;
mod examples;
mod host;
mod load;
mod look;
mod nat;
mod place;
mod serve;
mod signals;
mod state;
mod steps;
mod stop;
mod suite;
mod supervise;
mod talk;
mod words;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use place::Place;
use state::State;
use talk::{Failure, Outcome, warn};

fn main() -> ExitCode {
    match run() {
        Ok(status) => ExitCode::from(status),
        Err(Failure { status, text }) => {
            warn(text);
            ExitCode::from(status)
        }
    }
}

fn run() -> Outcome {
    let mut arguments = env::args_os().skip(1);
    let mut next = || arguments.next().ok_or_else(|| Failure::misuse("trust-run is for run.sh: ./run.sh help"));
    let (top, state, engine, command) = (next()?, next()?, next()?, next()?);
    let place = Place { top: PathBuf::from(top), state: State::new(state.into()), engine: engine.into() };
    let words: Vec<OsString> = arguments.collect();
    match (command.to_str(), &words[..]) {
        (Some("serve"), [flag, words @ ..]) => serve::serve(&place, flag, words),
        (Some("host"), words) => host::host(&place, words),
        (Some("exec"), words) => enter::exec(&place, words),
        (Some("outwards"), words) => enter::outwards(&place, words),
        (Some(command @ ("ss" | "kill" | "stats" | "capture" | "events")), words) => look::look(&place, command, words),
        (Some("check-load"), words) => load::check(words),
        (Some("load"), words) => load::load(&place, words),
        (Some("stop"), []) => stop::stop(&place.state),
        (Some("test"), []) => suite::test(&place),
        _ => Err(Failure::misuse("trust-run and run.sh are not of one version; ./run.sh builds both")),
    }
}
