//! What is said to whoever started `run.sh`, and how a command ends.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long the last words may take.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// How a command ends: with an exit status, or with a line that says why.
pub(crate) type Outcome = Result<u8, Failure>;

/// Why a command does not do what it is for.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit status: 2 when what was typed makes no sense.
    pub(crate) status: u8,
    /// A line for standard error.
    pub(crate) text: String,
}

impl Failure {
    /// It makes sense and cannot be done.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { status: 1, text: text.into() }
    }

    /// What was typed makes no sense.
    pub(crate) fn misuse(text: impl Into<String>) -> Self {
        Self { status: 2, text: text.into() }
    }
}

/// Makes a failure of an error of the system's: what could not be done, and why.
pub(crate) fn cannot(what: impl Display) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::new(format!("{what}: {error}"))
}

/// A line for standard output. Whoever does not read, or a full disk, stops nothing.
pub(crate) fn say(text: impl Display) {
    pass(format!("{text}\n").as_bytes());
}

/// Octets for standard output, likewise.
pub(crate) fn pass(octets: &[u8]) {
    let mut output = io::stdout().lock();
    let _ = output.write_all(octets).and_then(|()| output.flush());
}

/// A line for standard error.
pub(crate) fn warn(text: impl Display) {
    let _ = io::stderr().write_all(format!("run.sh: {text}\n").as_bytes());
}

/// As [`warn`], for the end of what others wait for: whoever does not read holds it up for [`LAST_WORDS`] at most.
pub(crate) fn warn_at_last(text: impl Display + Send + 'static) {
    let (done, over) = mpsc::channel::<()>();
    let words = move || {
        warn(text);
        drop(done);
    };
    if thread::Builder::new().name("words".to_owned()).spawn(words).is_ok() {
        let _ = over.recv_timeout(LAST_WORDS);
    }
}

/// The status that a shell would see: above 128 it is a signal.
pub(crate) fn status(of: ExitStatus) -> u8 {
    let number = of.code().or_else(|| of.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(number).unwrap_or(1)
}
