//! Giving up rights: what a process needs to start, and never again.
//!
//! An engine needs a good deal at its start: it makes a device, loads a program into the kernel, reads names of
//! users. Then it parses what strangers send, and needs hardly anything. Between the two there is this fence, in two
//! steps:
//!
//! 1. [`Fence::give_up`], while the process has one thread: descriptors of its caller's, user and groups, capabilities,
//!    the right to ever gain some again (`no_new_privs`), files and ports (Landlock). Threads inherit it.
//! 2. [`close`], when all is open and all threads run: system calls beyond a list, for all threads at once (seccomp).
//!
//! Whatever the kernel lacks of Landlock and seccomp is left out, and said. Nothing in this library fences its host:
//! a program that wants it calls both.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use trust::engine::{Engine, EngineConfig, Pin, Plan, PlanKind, usable_cpus};
//! # use trust::device::{TunDevice, TunOptions};
//! use trust::fence::{self, Fence, Mode};
//!
//! let inherited = fence::open_descriptors()?; // before anything is opened
//! # let device = Box::new(TunDevice::create(&TunOptions::default())?);
//! # let plan = Plan::new(PlanKind::Auto, None, &Pin::Auto, &usable_cpus(), 1)?;
//! # let config = EngineConfig::new(vec![[10, 7, 0, 2].into()]);
//! let prepared = Engine::prepare(config, plan, device, &[])?; // takes rights
//! // SAFETY: nothing of this program was open when they were looked up.
//! let fence = unsafe { Fence::new().close_descriptors(inherited) };
//! fence.give_up()?; // from here on there are none
//! let engine = prepared.start()?;
//! fence::close(Mode::Serve)?; // and from here on hardly a system call
//! # Ok(())
//! # }
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `list` | the system calls that are allowed, each with those who need it and why |
//! | `calls` | makes a filter of the list and puts it in place |
//! | `files` | files and ports, by Landlock |
//! | `rights` | user, groups, capabilities |
//! | `user` | a user as it is written, and its numbers |
//!
//! Must not contain: anything of engines.

mod calls;
mod error;
mod files;
mod list;
mod rights;
mod user;

use std::io;
use std::os::fd::RawFd;

pub use self::calls::close;
pub use self::error::FenceError;
pub use self::files::Files;
use self::rights::Change;
pub use self::rights::Identity;
pub use self::user::{Ids, ParseUserError, User};

/// Who is fenced in: it decides which system calls are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// An engine with its services. No descriptor is opened any more, but for connections to a socket that listens, and
    /// no thread begins.
    Serve,
    /// Besides, one that joins its connections to sockets of the kernel's: those that are open or handed over, and what
    /// listening ones accept.
    Forward,
    /// An engine, and a program on its sockets that starts threads and waits in epolls of its own.
    Client,
    /// What looks names up and connects in the kernel, and is no engine: it reads files and opens sockets, but starts
    /// no program and touches no other process.
    Helper,
    /// What removes files at the end of a program, and does nothing else.
    Keeper,
}

/// What is missing here: a kind of fence, and why.
#[derive(thiserror::Error)]
#[error("{what} is missing ({why})")]
pub struct Missing {
    what: &'static str,
    why: String,
}

debug_as_display!(Missing);

/// What the first step has done.
#[derive(Debug)]
pub struct GivenUp {
    /// Who the process is now.
    pub identity: Identity,
    /// The version of Landlock's interface that keeps files away.
    pub files: Result<i32, Missing>,
}

/// What is to be given up, and what not.
#[derive(Debug, Clone)]
pub struct Fence {
    inherited: Vec<RawFd>,
    held: Vec<RawFd>,
    change: Option<Change>,
    files: Files,
}

impl Default for Fence {
    fn default() -> Self {
        Self { inherited: Vec::new(), held: Vec::new(), change: None, files: Files::None }
    }
}

impl Fence {
    /// Everything goes. As root it goes on as `nobody`, where there is a way to become somebody else.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on as this user, or not at all.
    ///
    /// # Errors
    ///
    /// There is no such user, or no way to become it.
    pub fn user(mut self, user: &User) -> Result<Self, FenceError> {
        self.change = Some(Change::find(Some(user))?);
        Ok(self)
    }

    /// Goes on as who it is, root included: for what has to do with files of its user's.
    #[must_use]
    pub fn same_user(mut self) -> Self {
        self.change = Some(Change::none());
        self
    }

    /// Closes these descriptors: see [`open_descriptors`].
    ///
    /// # Safety
    ///
    /// Nobody in this process uses them when the rights are given up, or later.
    #[must_use]
    pub unsafe fn close_descriptors(mut self, inherited: Vec<RawFd>) -> Self {
        self.inherited = inherited;
        self
    }

    /// Of those, these stay, like one that holds a lock of the caller's.
    #[must_use]
    pub fn hold(mut self, held: &[RawFd]) -> Self {
        self.held = held.to_vec();
        self
    }

    /// Files and ports that are still needed.
    #[must_use]
    pub fn files(mut self, files: Files) -> Self {
        self.files = files;
        self
    }

    /// The first step; see the module.
    ///
    /// # Errors
    ///
    /// [`FenceError`]; the process may have given up a part then, and should end.
    pub fn give_up(self) -> Result<GivenUp, FenceError> {
        rights::only_thread()?;
        // Before files are out of reach, since names of users are in them.
        let change = self.change.map_or_else(|| Change::find(None), Ok)?;
        for fd in self.inherited.into_iter().filter(|fd| !self.held.contains(fd)) {
            // SAFETY: nobody uses it, by the contract of `close_descriptors`.
            unsafe { rustix::io::close(fd) };
        }
        let identity = rights::give_up(change)?;
        Ok(GivenUp { identity, files: self.files.restrict() })
    }
}

/// Descriptors above 2 that are open now. At the beginning of a program: what its caller has left open.
///
/// # Errors
///
/// There is no `/proc`.
pub fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let all: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    // Among them was that of the directory, which is closed now.
    // SAFETY: a number goes in, no memory.
    Ok(all.into_iter().filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0).collect())
}
