//! `stop`: the end of the engine that runs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::nat;
use crate::state::{MOMENT, State, owner};
use crate::talk::{Failure, Outcome, say, warn};
use crate::words::option;

/// Ends it, and undoes what a run with `--nat` that was killed has left.
pub(crate) fn stop(state: &State) -> Outcome {
    nat::undo_leftovers(state);
    if !state.is_running() {
        say("no engine is running in this clone");
        return Ok(0);
    }
    let ended = end_engine(state)?;
    if ended {
        say("stopped");
    }
    Ok(u8::from(!ended))
}

/// Asks the engine to end, and kills it when it has not 5 s after the time that open connections have (`--drain`).
/// Returns whether it is gone.
pub(crate) fn end_engine(state: &State) -> Result<bool, Failure> {
    let Some(pid) = state.engine() else { return Err(Failure::new("an engine is just starting; try again")) };
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_pid()));
    let limit = Duration::from_secs(5 + drain(&engine_words(pid)));
    // One that is gone already leaves a lock that its starter holds for a moment.
    if kill_process(pid, Signal::TERM) == Err(Errno::PERM) {
        let owner = owner(&process).unwrap_or_else(|| "another user".to_owned());
        return Err(Failure::new(format!("process {} belongs to {owner}; use sudo", pid.as_raw_pid())));
    }
    for _ in 0..limit.as_millis() / MOMENT.as_millis() {
        if !state.is_running() {
            return Ok(true);
        }
        thread::sleep(MOMENT);
    }
    warn(format!("no answer within {} s: killing it", limit.as_secs()));
    // It leads a process group of its own.
    let _ = kill_process_group(pid, Signal::KILL);
    thread::sleep(Duration::from_millis(200));
    Ok(!state.is_running())
}

/// The words that the engine was started with.
pub(crate) fn engine_words(pid: Pid) -> Vec<OsString> {
    let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_pid())).unwrap_or_default();
    line.split(|octet| *octet == 0).map(|word| OsString::from_vec(word.to_vec())).collect()
}

/// The seconds of `--drain`, at most 99999.
fn drain(words: &[OsString]) -> u64 {
    let value = option("drain", words).filter(|value| value.len() <= 5);
    value.and_then(|value| value.parse().ok()).unwrap_or(3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::list;

    #[test]
    fn open_connections_have_the_time_that_the_engine_gives_them() {
        for (words, seconds) in [
            (&["trust", "serve"][..], 3),
            (&["trust", "serve", "--drain", "0"], 0),
            (&["trust", "serve", "--drain=070"], 70),
            (&["trust", "serve", "--drain", "100000"], 3),
            (&["trust", "serve", "--drain", "5s"], 3),
        ] {
            assert_eq!(drain(&list(words)), seconds, "{words:?}");
        }
    }
}
