//! Why a command ends early: one line with what is wrong and what to do about it, and the exit status.

use std::borrow::Cow;
use std::{fmt, io};

use signal_hook::consts::SIGPIPE;

/// Everything that can end a command early.
#[derive(Debug)]
pub(crate) enum Error {
    /// The command line makes no sense as it is; nothing was started. Exit status 2.
    Usage(String),
    /// It could not be done here. Exit status 1.
    Run(String),
    /// Who reads our standard output has read enough (`| head`). Nothing to say; SIGPIPE, as of other programs.
    BrokenPipe,
}

impl Error {
    /// What went wrong with our own output.
    pub(super) fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::BrokenPipe } else { error.into() }
    }

    /// What the process ends with.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Run(_) => 1,
            // As a shell counts the signal.
            Self::BrokenPipe => 128 + SIGPIPE as u8,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::Run(text) => f.write_str(&with_remedy(text)),
            Self::BrokenPipe => f.write_str("broken pipe"),
        }
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Run(error.to_string())
    }
}

/// What went wrong, and if it did for want of open files or of threads, what to do about it. It may be said deep inside: it
/// is known by the words in which std says it.
pub(super) fn with_remedy(text: &str) -> Cow<'_, str> {
    // Of sockets, this number says something else.
    let starts = text.contains("thread") || text.contains("process");
    let remedies = [
        (libc::EMFILE, true, "this process may have no more; allow more with ulimit -n"),
        (
            libc::EAGAIN,
            starts,
            "no more threads or processes may be started here; allow more with ulimit -u, or in pids.max of the \
                        control group",
        ),
    ];
    for (number, _, remedy) in remedies.into_iter().filter(|(_, fits, _)| *fits) {
        let number = format!("(os error {number})");
        // What follows is advice for other errors, but for the end of a parenthesis.
        if let Some((what, rest)) = text.split_once(&number) {
            let end = if rest.starts_with(')') { ")" } else { "" };
            return Cow::Owned(format!("{what}{number}: {remedy}{end}"));
        }
    }
    Cow::Borrowed(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_open_files_are_told_with_the_remedy_wherever_it_is_said() {
        let error = io::Error::from_raw_os_error(libc::EMFILE);
        for text in [error.to_string(), format!("cannot set up a stage thread: {error}")] {
            assert!(with_remedy(&text).starts_with(&text) && with_remedy(&text).contains("ulimit -n"), "{text}");
        }
        let advised = format!("cannot copy a queue: {error}; check the value");
        assert_eq!(with_remedy(&advised), with_remedy(&format!("cannot copy a queue: {error}")));
        let inside = format!("host: the name cannot be resolved ({error})");
        assert!(with_remedy(&inside).ends_with("ulimit -n)"), "{}", with_remedy(&inside));
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED).to_string();
        assert_eq!(with_remedy(&refused), refused);
        assert!(Error::from(error).to_string().contains("ulimit -n"));
        let error = io::Error::from_raw_os_error(libc::EAGAIN);
        assert!(with_remedy(&format!("cannot start the thread stdin: {error}")).contains("ulimit -u"));
        assert_eq!(with_remedy(&error.to_string()), error.to_string());
    }

    #[test]
    fn usage_ends_with_2_and_a_run_that_failed_with_1() {
        assert_eq!(Error::Usage(String::new()).exit_status(), 2);
        assert_eq!(Error::from(io::Error::other("x")).exit_status(), 1);
        assert_eq!(Error::output(io::Error::other("x")).exit_status(), 1);
        assert_eq!(Error::output(io::ErrorKind::BrokenPipe.into()).exit_status(), 141);
    }
}
