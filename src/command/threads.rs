//! Threads of the command itself, beside those of the engine, and the signals that end it.

use std::io;
use std::thread::{Builder, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::Error;

/// Starts a thread of this name.
///
/// # Errors
///
/// There may be no more of them; the text says which was to start.
pub(super) fn start<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let started = Builder::new().name(name.to_owned()).spawn(run);
    started.map_err(|error| io::Error::new(error.kind(), format!("cannot start the thread {name}: {error}")))
}

/// Ends the process as soon as nobody reads its standard output any more, also while there is nothing to write to it.
///
/// # Errors
///
/// There may be no more threads.
pub(super) fn end_without_reader() -> io::Result<()> {
    start("reader", || {
        let output = io::stdout();
        // Asked for nothing: errors and hang-ups are told all the same, and a file has none.
        let gone = PollFlags::ERR | PollFlags::HUP;
        loop {
            let mut polled = [PollFd::new(&output, PollFlags::empty())];
            match poll(&mut polled, None) {
                Ok(_) if polled[0].revents().intersects(gone) => {
                    std::process::exit(Error::BrokenPipe.exit_status().into());
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    })
    .map(drop)
}

/// The signals that end us. Who has started us with SIGHUP ignored, like nohup, wants us to outlive the terminal.
pub(super) fn ending_signals() -> impl Iterator<Item = i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let hangup = (ignored >> (SIGHUP - 1) & 1 == 0).then_some(SIGHUP);
    [SIGTERM, SIGINT].into_iter().chain(hangup)
}
