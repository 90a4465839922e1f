//! An engine under supervision, from its start to its end: a stand-in for it, which needs no TUN device.
//!
//! Skipped where `ip` is missing or the tests do not run as root, which they do in a namespace of their own.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const ENGINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engine");

/// A state of its own. What runs with it ends with it.
struct State(PathBuf);

impl State {
    /// `None`: skipped.
    fn new(name: &str) -> Option<Self> {
        let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        if !root || Command::new("ip").arg("-V").output().is_err() {
            eprintln!("skipped: root and ip are needed");
            return None;
        }
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Some(Self(folder))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trust-run"));
        command.arg(TOP).arg(&self.0).arg(ENGINE).args(words).env_remove("TRUST_ARGS");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// An engine that serves, and the process that watches over it.
    fn serve(&self, settings: &[(&str, &str)]) -> Child {
        let child = self.command(&["host", "serve"]).envs(settings.iter().copied()).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while !self.0.join("ready").exists() {
            assert!(Instant::now() < end, "it does not get ready");
            thread::sleep(Duration::from_millis(10));
        }
        child
    }

    /// The engine's process, as it was written down.
    fn engine(&self) -> Option<Pid> {
        Pid::from_raw(fs::read_to_string(self.0.join("pid")).ok()?.trim().parse().ok()?)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(engine) = self.engine() {
            let _ = kill_process_group(engine, Signal::KILL);
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The status and both outputs.
fn end(child: Child) -> (Option<i32>, String, String) {
    read(child.wait_with_output().unwrap())
}

fn read(output: Output) -> (Option<i32>, String, String) {
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn an_engine_serves_until_it_is_stopped() {
    let Some(state) = State::new("stopped") else { return };
    let child = state.serve(&[]);
    let second = read(state.run(&["host", "serve"]));
    let engine = state.engine().unwrap().as_raw_pid();
    let refusal = format!("an engine is already running in this clone (process {engine}); end it");
    assert!(second.0 == Some(1) && second.2.contains(&refusal), "{second:?}");
    assert_eq!(read(state.run(&["stop"])), (Some(0), "stopped\n".to_owned(), String::new()));
    let (status, output, errors) = end(child);
    assert_eq!((status, errors.as_str()), (Some(0), ""), "{output}");
    assert!(output.contains("serve --hold ") && output.contains(" --control "), "{output}");
    assert!(output.contains(&format!(" --control {}\n", state.0.join("control").display())), "{output}");
    assert!(output.contains("ready: 192.0.2.2 echo:7\n  what to type next"), "{output}");
    assert!(output.contains("    ping 192.0.2.2 "), "{output}");
    assert!(!state.0.join("ready").exists() && !state.0.join("pid").exists());
    let nobody = "no engine is running in this clone\n".to_owned();
    assert_eq!(read(state.run(&["stop"])), (Some(0), nobody, String::new()));
}

#[test]
fn a_signal_is_passed_on() {
    let Some(state) = State::new("asked") else { return };
    let child = state.serve(&[]);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let (status, output, errors) = end(child);
    assert_eq!((status, errors.as_str()), (Some(143), ""), "{output}");
}

/// Twice at once is once: timeout(1) sends a signal to a process and to its group.
#[test]
fn an_engine_that_is_asked_twice_is_killed() {
    let Some(state) = State::new("twice") else { return };
    let mut child = state.serve(&[("STUBBORN", "1")]);
    let process = Pid::from_child(&child);
    kill_process(process, Signal::TERM).unwrap();
    kill_process(process, Signal::TERM).unwrap();
    thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it was killed at once");
    kill_process(process, Signal::TERM).unwrap();
    let (status, output, errors) = end(child);
    assert_eq!((status, errors.as_str()), (Some(137), ""), "{output}");
}

#[test]
fn an_engine_that_is_killed_is_not_gone_in_silence() {
    let Some(state) = State::new("killed") else { return };
    let child = state.serve(&[]);
    kill_process(state.engine().unwrap(), Signal::KILL).unwrap();
    let (status, output, errors) = end(child);
    assert_eq!(status, Some(137), "{output}");
    assert_eq!(errors, "run.sh: the engine was ended by signal 9 (KILL)\n");
}

/// Output that nobody reads holds up neither the engine's end nor whoever stops it, and the lock is free behind it.
#[test]
fn an_engine_whose_output_nobody_reads_ends_all_the_same() {
    let Some(state) = State::new("unread") else { return };
    for stopped in [false, true] {
        let mut child = state.serve(&[("CHATTY", "1")]);
        // Time for the pipe to fill.
        thread::sleep(Duration::from_millis(300));
        if stopped {
            assert_eq!(read(state.run(&["stop"])), (Some(0), "stopped\n".to_owned(), String::new()));
        } else {
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        }
        let limit = Instant::now() + Duration::from_secs(10);
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(ended) => break ended,
                None => assert!(Instant::now() < limit, "it does not end"),
            }
            thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(ended.code(), Some(if stopped { 0 } else { 143 }));
        assert!(!state.0.join("pid").exists());
    }
}

/// The engine has the lock, too. This one does not end with its parent, as the real one does.
#[test]
fn an_engine_that_outlives_its_supervisor_is_found() {
    let Some(state) = State::new("orphan") else { return };
    let mut child = state.serve(&[]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(read(state.run(&["stop"])), (Some(0), "stopped\n".to_owned(), String::new()));
}
