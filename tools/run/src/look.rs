//! `ss`, `kill`, `stats`, `capture` and `events`: the engine's own commands that look at the running one, by its control socket. That is a
//! file: no namespace is entered.

use std::ffi::OsString;

use crate::enter::become_of;
use crate::place::Place;
use crate::state::State;
use crate::stop::engine_words;
use crate::talk::{Failure, Outcome};
use crate::words::{list, option, unless_given};

/// Adds the control socket to the words of an engine that is to be started.
pub(crate) fn with_control(state: &State, words: &mut Vec<OsString>) {
    unless_given("control", &state.path("control").to_string_lossy(), words);
}

/// In a namespace of its own an engine serves its metrics, too, unless its words speak against it: that port is another's,
/// or only what is named is to be served.
pub(crate) fn with_metrics(words: &mut Vec<OsString>) {
    let against = |word: &OsString| {
        let word = word.to_string_lossy();
        word.contains(":9100") || word == "--no-default-services"
    };
    if !words.iter().any(against) {
        unless_given("metrics", "9100", words);
    }
}

/// Goes on as that command.
pub(crate) fn look(place: &Place, command: &str, words: &[OsString]) -> Outcome {
    let state = &place.state;
    if !state.is_running() || state.await_ready().is_none() {
        return Err(Failure::new("no engine is running in this clone; start one in another terminal: ./run.sh"));
    }
    let started = state.engine().map(engine_words).unwrap_or_default();
    let path = option("control", &started).unwrap_or_else(|| state.path("control").to_string_lossy().into_owned());
    if path == "off" {
        return Err(Failure::new("the engine of this clone has no control socket: it was started with --control off"));
    }
    // Before the words: what is behind a filter is the filter's.
    let named = if option("control", words).is_none() { list(["--control", &path]) } else { Vec::new() };
    become_of(&[list([place.engine.as_os_str()]), list([command]), named, words.to_vec()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_served_where_nothing_speaks_against_it() {
        for (words, added) in [
            (&["serve"][..], true),
            (&["serve", "--mtu", "9100"], true),
            (&["serve", "--metrics", "9200"], false),
            (&["serve", "--metrics=9200"], false),
            (&["serve", "--service", "echo:9100"], false),
            (&["serve", "--no-default-services", "--service", "echo:7"], false),
        ] {
            let mut all = list(words);
            with_metrics(&mut all);
            assert_eq!(all.ends_with(&list(["--metrics", "9100"])), added, "{words:?}");
        }
    }
}
