//! [`FenceError`]: why rights could not be given up.

use std::io;

/// Why rights could not be given up. What the kernel does not have is none of these.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum FenceError {
    /// Threads that are there keep what they have.
    #[error("the fence comes too late: there are {0} threads, and all but one would keep their rights")]
    Threads(usize),
    /// No such user, or it cannot be found out.
    #[error("no user {0:?} is known here; give its number")]
    NoUser(String),
    /// Asked for, and not possible.
    #[error("cannot go on as {user}: {why}")]
    User {
        /// As it was written.
        user: String,
        /// What is in the way.
        why: &'static str,
    },
    /// The kernel refused what it refuses nobody.
    #[error("cannot {what}: {source}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

debug_as_display!(FenceError);
