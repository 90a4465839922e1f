//! Signals that end us: they are passed on, and what was begun is undone.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::talk::{Failure, Outcome, cannot, status};

/// Calls `act` with each INT, TERM and HUP. Not with those that were ignored when we were started, as HUP is by nohup
/// and INT behind an `&`: they stay so.
pub(crate) fn on_signals(mut act: impl FnMut(i32) + Send + 'static) -> Result<(), Failure> {
    let ignored = ignored();
    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = Signals::new(wanted).map_err(cannot("signals cannot be caught"))?;
    let listener = move || {
        for signal in signals.forever() {
            act(signal);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(listener).map_err(cannot("no thread may be had"))?;
    Ok(())
}

/// The signals that this process ignores: 1 << (number - 1) for each.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Who hears of a signal that comes to us.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Watched {
    /// It leads a session of its own and hears nothing from the terminal. It is asked by TERM once; when we are asked
    /// twice, it and all that it has started are killed.
    Apart(Pid),
    /// It hears ^C from the terminal as we do, and the rest from us.
    Along(Pid),
}

/// What we were asked by signals.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    /// When the first one came.
    first: Option<Instant>,
    /// The exit status for the last one.
    status: Option<u8>,
    watched: Option<Watched>,
}

/// Signals so close to each other are one: timeout(1) sends them to a process and once more to its group.
const TOGETHER: Duration = Duration::from_millis(200);

impl Asked {
    /// From here on signals do not end us.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let asked = Self::default();
        let listener = asked.clone();
        on_signals(move |signal| listener.told().hear(signal))?;
        Ok(asked)
    }

    /// What to end with; `None`: no signal has come.
    pub(crate) fn status(&self) -> Option<u8> {
        self.told().status
    }

    /// From here on it hears of signals, and of one that has come before.
    pub(crate) fn started(&self, watched: Watched) {
        let mut told = self.told();
        told.watched = Some(watched);
        if told.status.is_some() {
            let (Watched::Apart(pid) | Watched::Along(pid)) = watched;
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Runs a command that hears ^C as we do to its end.
    pub(crate) fn run(&self, command: &mut Command) -> Outcome {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().map_err(cannot(&program))?;
        let pid = Pid::from_child(&child);
        self.started(Watched::Along(pid));
        self.wait(pid);
        Ok(status(child.wait().map_err(cannot(program))?))
    }

    /// Waits for the end of what was started, which then hears of no signal any more. Its number is its own until
    /// somebody asks for its status.
    pub(crate) fn wait(&self, pid: Pid) {
        let _ = retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
        self.told().watched = None;
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn hear(&mut self, signal: i32) {
        let again = self.first.is_some_and(|first| first.elapsed() > TOGETHER);
        // Who has ended hears nothing more, and that is all right.
        let _ = match self.watched {
            Some(Watched::Apart(pid)) if self.first.is_none() => kill_process(pid, Signal::TERM),
            Some(Watched::Apart(pid)) if again => kill_process_group(pid, Signal::KILL),
            Some(Watched::Along(pid)) if signal != SIGINT => kill_process(pid, Signal::TERM),
            Some(_) | None => Ok(()),
        };
        self.first.get_or_insert_with(Instant::now);
        self.status = Some(if signal == SIGINT { 130 } else { 143 });
    }
}
