//! An engine as our child: its output is passed on, and it ends when we are told to end, however that is.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::SIGXFSZ;
use signal_hook::flag;
use signal_hook::low_level::signal_name;

use crate::signals::{Asked, Watched};
use crate::state::{State, spawn_with};
use crate::talk::{LAST_WORDS, Outcome, cannot, pass, say, status, warn, warn_at_last};
use crate::words::is_ipv6;

/// Where the engine is, as seen by the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// In a namespace of its own, which takes `run.sh exec` to enter.
    Apart,
    /// In the current one.
    Here,
}

/// What is to be started.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// The words before those of the engine: they end with the program.
    pub(crate) before: Vec<OsString>,
    /// The words for the engine, `serve` first.
    pub(crate) words: Vec<OsString>,
    /// Locks that the engine has, too, so that they are free when both of us are gone.
    pub(crate) locks: Vec<&'a File>,
    pub(crate) whereabouts: Whereabouts,
}

impl Start<'_> {
    fn command(&self) -> Command {
        // A session of its own: ^C reaches only us, and the engine is asked once.
        let mut command = Command::new("setsid");
        command.args(&self.before).args(self.words.first());
        for lock in &self.locks {
            command.arg("--hold").arg(lock.as_raw_fd().to_string());
        }
        command.args(self.words.iter().skip(1)).stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}

/// Runs an engine to its end. To be called from the main thread: with the thread that has started it the engine is
/// killed. The caller has the lock of the engine.
pub(crate) fn supervise(state: &State, start: &Start<'_>, asked: &Asked) -> Outcome {
    let _ = fs::remove_file(state.path("ready"));
    if let Some(status) = asked.status() {
        return Ok(status);
    }
    let mut child = spawn_with(&mut start.command(), &start.locks).map_err(cannot("the engine cannot be started"))?;
    let pid = Pid::from_child(&child);
    asked.started(Watched::Apart(pid));
    if let Err(error) = fs::write(state.path("pid"), format!("{}\n", pid.as_raw_pid())) {
        warn(format!("{}: {error}", state.path("pid").display()));
    }
    let served = Arc::new(AtomicBool::new(false));
    let (done, passed) = mpsc::channel::<()>();
    if let Some(output) = child.stdout.take() {
        let (state, whereabouts, serves) = (state.clone(), start.whereabouts, Arc::clone(&served));
        let pass_on = move || {
            pass_on(output, &state, whereabouts, &serves);
            drop(done);
        };
        // A thread of its own: whoever does not read our output keeps nobody from the engine's end.
        if let Err(error) = thread::Builder::new().name("output".to_owned()).spawn(pass_on) {
            warn(format!("no thread may be had for the engine's output: {error}"));
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
    asked.wait(pid);
    let _ = passed.recv_timeout(LAST_WORDS);
    // A helper of its that was stopped hears of no end, and would keep the namespace.
    let _ = kill_process_group(pid, Signal::KILL);
    let ended = child.wait().map_err(cannot("the engine's status is not to be had"))?;
    for name in ["ready", "pid", "control"] {
        let _ = fs::remove_file(state.path(name));
    }
    if asked.status().is_none() {
        explain(ended, served.load(Ordering::Relaxed));
    }
    Ok(match (status(ended), asked.status()) {
        (0, Some(asked)) => asked,
        (status, _) => status,
    })
}

/// Passes on what the engine says, until it has ended; and writes down that it serves.
fn pass_on(output: ChildStdout, state: &State, whereabouts: Whereabouts, served: &AtomicBool) {
    // A file at the limit of its size (ulimit -f) is a full one.
    let _ = flag::register(SIGXFSZ, Arc::default());
    let (mut output, mut line) = (BufReader::new(output), Vec::new());
    while output.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        let addresses = ready_addresses(&line);
        // First what others wait for: the output may have no reader.
        if let Some(address) = addresses.first() {
            served.store(true, Ordering::Relaxed);
            if let Err(error) = state.write_ready(address) {
                warn(format!("{}: {error}", state.path("ready").display()));
            }
        }
        pass(&line);
        if !addresses.is_empty() {
            say(hints(&addresses, whereabouts));
        }
        line.clear();
    }
}

/// The addresses that an engine says it serves, when that is what the line says.
fn ready_addresses(line: &[u8]) -> Vec<String> {
    let line = String::from_utf8_lossy(line);
    let words = line.strip_prefix("ready: ").unwrap_or_default().split_whitespace();
    let addresses = words.map(|word| word.split(['/', ',']).next().unwrap_or_default());
    addresses.take_while(|address| address.parse::<IpAddr>().is_ok()).map(str::to_owned).collect()
}

fn hints(addresses: &[String], whereabouts: Whereabouts) -> String {
    let Some(address) = addresses.first() else { return String::new() };
    let mut lines = match whereabouts {
        Whereabouts::Here => {
            let measure = format!("iperf3 -c {address}");
            format!("    ping {address}    |    nc -N {address} 7    |    {measure}    |    {measure} -R\n")
        }
        Whereabouts::Apart => format!(
            "    ./run.sh exec ping {address}
    ./run.sh exec nc -N {address} 7            # echo; ^D ends it
    ./run.sh exec iperf3 -c {address}          # and -R for the other way
    ./run.sh load 100    |    ./run.sh exec    # 100 clients at once; a shell in there\n"
        ),
    };
    if let Some(other) = addresses.iter().find(|other| is_ipv6(other) != is_ipv6(address)) {
        let enter = if whereabouts == Whereabouts::Apart { "./run.sh exec " } else { "" };
        lines += &format!("    {enter}ping {other}    |    {enter}nc -N {other} 7    # the same by IPv6\n");
    }
    let end = "  ^C here, or ./run.sh stop, ends it and leaves nothing behind";
    format!("  what to type next, in another terminal:\n{lines}{end}")
}

/// With 1 and 2 the engine has said why by itself; with 0 it has printed what it was asked for (--help, --tcp help).
fn explain(ended: ExitStatus, served: bool) {
    if let Some(signal) = ended.signal() {
        let name = signal_name(signal).map_or("unknown", |name| name.trim_start_matches("SIG"));
        warn_at_last(format!("the engine was ended by signal {signal} ({name})"));
    } else if !served && status(ended) > 2 {
        warn_at_last(format!("the engine ended before it was ready (status {})", status(ended)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_ready_says_where() {
        for (line, addresses) in [
            ("ready: 10.7.0.2 echo:7 discard:9\n", "10.7.0.2"),
            ("ready: 10.7.0.2 fd00:7::2 echo:7 discard:9\n", "10.7.0.2 fd00:7::2"),
            ("ready: 10.7.0.2/24, 10.8.0.2/24\n", "10.7.0.2 10.8.0.2"),
            ("ready: 10.7.0.2\n", "10.7.0.2"),
            ("already: 10.7.0.2\n", ""),
            ("trust 0.1.0\n", ""),
        ] {
            assert_eq!(ready_addresses(line.as_bytes()).join(" "), addresses, "{line}");
        }
    }

    #[test]
    fn what_to_type_next_depends_on_where_the_engine_is() {
        let hints = |addresses: &str, whereabouts| {
            hints(&addresses.split(' ').map(str::to_owned).collect::<Vec<_>>(), whereabouts)
        };
        let (here, apart) = (hints("10.7.0.2", Whereabouts::Here), hints("10.7.0.2", Whereabouts::Apart));
        assert!(here.contains("    ping 10.7.0.2 ") && !here.contains("run.sh exec"), "{here}");
        assert!(apart.contains("\n    ./run.sh exec ping 10.7.0.2\n"), "{apart}");
        assert_eq!((here.lines().count(), apart.lines().count()), (3, 6));
        let both = "10.7.0.2 fd00:7::2";
        let (here, apart) = (hints(both, Whereabouts::Here), hints(both, Whereabouts::Apart));
        assert!(here.contains("    ping fd00:7::2 "), "{here}");
        assert!(apart.contains("    ./run.sh exec ping fd00:7::2 "), "{apart}");
        assert_eq!((here.lines().count(), apart.lines().count()), (4, 7));
    }
}
