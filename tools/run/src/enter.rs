//! Commands beside the running engine: `exec`, and the engine's own commands on a stack of their own.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::geteuid;

use crate::place::Place;
use crate::state::{State, inherit, lock_within, owner, words_of};
use crate::talk::{Failure, Outcome, cannot, say};
use crate::words::list;

/// The words that start a command in the engine's namespace, with all rights there. None: we are in it.
pub(crate) fn entry(state: &State) -> Result<Vec<OsString>, Failure> {
    if !state.is_running() {
        return Err(Failure::new("no engine is running in this clone; start one in another terminal: ./run.sh"));
    }
    let late = "the engine of this clone does not get ready; look at its terminal, or: ./run.sh stop";
    state.await_ready().ok_or_else(|| Failure::new(late))?;
    let number = state.engine_number();
    let process = format!("/proc/{number}");
    let Ok(theirs) = fs::read_link(format!("{process}/ns/net")) else {
        let owner = owner(Path::new(&process)).unwrap_or_else(|| "another user".to_owned());
        return Err(Failure::new(format!("the engine (process {number}) belongs to {owner}; use sudo")));
    };
    if fs::read_link("/proc/self/ns/net").is_ok_and(|ours| ours == theirs) {
        return Ok(Vec::new());
    }
    let users = |process: &str| fs::read_link(format!("{process}/ns/user")).ok();
    // Root of the machine is nobody in there, if the engine is another user's, and becomes its root.
    let rights: &[&str] =
        if users("/proc/self") == users(&process) { &[] } else { &["-U", "--preserve-credentials", "-S", "0"] };
    Ok([list(["nsenter", "-t", &number, "-n"]), list(rights), list(["--"])].concat())
}

/// A command of these words, which are not none.
pub(crate) fn command(words: &[OsString]) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().cloned().unwrap_or_default());
    command.args(words);
    command
}

/// `exec`: any command, or a shell.
pub(crate) fn exec(place: &Place, words: &[OsString]) -> Outcome {
    let entry = entry(&place.state)?;
    let Some(program) = words.first() else {
        say("a shell beside the engine; ^D leaves it");
        let shell = env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into());
        return become_of(&[entry, vec![shell]].concat());
    };
    if !is_there(program) {
        let program = program.to_string_lossy();
        let text = match package_of(&program) {
            Some(package) => {
                let sudo = if geteuid().is_root() { "" } else { "sudo " };
                format!("{program} is not installed here; Debian has it: {sudo}apt-get install -y {package}")
            }
            None => format!("there is no program {program} here; install what has it, or give its path"),
        };
        return Err(Failure { status: 127, text });
    }
    become_of(&[entry, words.to_vec()].concat())
}

/// Whether there is a program of that name or path.
fn is_there(program: &OsStr) -> bool {
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if program.as_bytes().contains(&b'/') {
        return is_program(Path::new(program));
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| is_program(&folder.join(program)))
}

/// The Debian package that has a program, of those that `run.sh` knows.
fn package_of(program: &str) -> Option<&'static str> {
    let mut lines = include_str!("packages.txt").lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == program).map(|(_, package)| package)
}

/// One of the engine's commands with a device, an address and a subnet that nobody else has in there.
pub(crate) fn outwards(place: &Place, words: &[OsString]) -> Outcome {
    let entry = entry(&place.state)?;
    let printed = |words: &[&str]| words_of(&mut command(&[entry.clone(), list(words)].concat()));
    let links = printed(&["ip", "-o", "link"]);
    let addresses = printed(&["ip", "-o", "-4", "addr"]);
    for number in 1..=254 {
        if links.contains(&format!(" trust{number}:")) || addresses.contains(&format!(" 10.7.{number}.")) {
            continue;
        }
        // Held until this connection ends: another one started now takes the next number.
        let lock = place.state.lock_file(&format!("net{number}.lock"));
        let lock = lock.map_err(cannot("a subnet cannot be locked"))?;
        if !lock_within(&lock, Duration::ZERO) {
            continue;
        }
        inherit(&lock, true).map_err(cannot("a lock cannot be kept"))?;
        let (subnet, tun) = (number.to_string(), format!("trust{number}"));
        let held = lock.as_raw_fd().to_string();
        let ours = list(["--subnet", &subnet, "--tun", &tun, "--hold", &held]);
        return become_of(&[entry, vec![place.engine.clone().into()], words.to_vec(), ours].concat());
    }
    Err(Failure::new("all subnets 10.7.1.0/24 to 10.7.254.0/24 are in use in the engine's namespace"))
}

/// Goes on as that command, in this process.
pub(crate) fn become_of(words: &[OsString]) -> Outcome {
    let error = command(words).exec();
    let program = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    let status = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    Err(Failure { status, text: format!("{program}: {error}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_known_of_programs_that_are_used() {
        assert_eq!(package_of("nc"), Some("netcat-openbsd"));
        assert_eq!(package_of("tshark"), Some("tshark"));
        assert_eq!(package_of("nosuchprogram"), None);
    }

    #[test]
    fn programs_are_found_by_name_and_path() {
        assert!(is_there(OsStr::new("sh")) && is_there(OsStr::new("/bin/sh")));
        assert!(!is_there(OsStr::new("nosuchprogram")) && !is_there(OsStr::new("/bin")) && !is_there(OsStr::new("")));
    }
}
