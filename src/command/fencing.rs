//! `--sandbox`, `--user`: the fence (`trust::fence`) around the command, and what is said of it.

use std::fmt::Write;
use std::os::fd::RawFd;

use clap::Args;
use trust::fence::{self, Fence, FenceError, Files, GivenUp, Identity, Mode, User};

use super::switch::Switch;
use super::{Error, console};

/// Descriptors that the caller has left open, if that can be found out.
#[derive(Debug)]
pub(crate) struct Inherited(Option<Vec<RawFd>>);

impl Inherited {
    /// To be called before anything is opened.
    pub(super) fn look() -> Self {
        Self(fence::open_descriptors().ok())
    }
}

/// Options of the fence.
#[derive(Debug, Args)]
pub(super) struct FenceOptions {
    /// Give up what only the start needs: capabilities, files, sockets of the kernel's, other programs, all but a few
    /// system calls. off: keep it.
    #[arg(long, value_enum, value_name = "on|off", default_value = "on")]
    sandbox: Switch,

    /// Whom to go on as when started as root. Default: nobody, where there is a way to become somebody else. Who is not
    /// root stays who he is.
    #[arg(long, value_name = "NAME|UID[:GID]")]
    user: Option<User>,

    /// Descriptors of the caller's that stay open: locks of run.sh's, which end with us.
    #[arg(long, hide = true, value_name = "FD", value_parser = clap::value_parser!(RawFd).range(3..), allow_negative_numbers = true)]
    hold: Vec<RawFd>,
}

impl FenceOptions {
    /// The fence that is asked for, not up yet.
    pub(super) fn build(&self, inherited: Inherited) -> Result<Fencing, Error> {
        if self.sandbox == Switch::Off {
            return match &self.user {
                None => Ok(Fencing { fence: None, said: String::new() }),
                Some(user) => Err(Error::Usage(format!(
                    "--sandbox off --user {user}: to become another user is part of it; leave one out"
                ))),
            };
        }
        let Inherited(inherited) = inherited;
        if inherited.is_none() {
            tracing::warn!("fence: descriptors of the caller's stay open (there is no /proc/self/fd)");
        }
        // SAFETY: they were looked up before this program had opened anything, so nobody in it knows them.
        let fence = unsafe { Fence::new().close_descriptors(inherited.unwrap_or_default()) };
        let mut fence = fence.hold(&self.hold);
        if let Some(user) = &self.user {
            fence = fence.user(user).map_err(refusal)?;
        }
        Ok(Fencing { fence: Some(fence), said: String::new() })
    }
}

/// A fence, while it is being put up.
#[derive(Debug)]
pub(super) struct Fencing {
    /// `None`: there is to be none.
    fence: Option<Fence>,
    said: String,
}

impl Fencing {
    /// The first step: when all that takes rights is done, and there is no thread yet.
    pub(super) fn give_up(&mut self) -> Result<(), Error> {
        if let Some(fence) = &self.fence {
            let given_up = fence.clone().give_up().map_err(refusal)?;
            self.say(&given_up);
        }
        // A helper that has ended is nobody's to wait for; nothing else is started from here on.
        // SAFETY: no handler is set.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        // The first threads.
        console::begin();
        Ok(())
    }

    fn say(&mut self, GivenUp { identity, files }: &GivenUp) {
        self.said = match identity {
            Identity::Changed(ids) => format!("user {ids}"),
            Identity::Same(ids) => format!("user {ids} as before"),
            Identity::Root(why) => format!("root as before ({why})"),
        };
        self.said.push_str(", no capabilities, no new privileges");
        match files {
            Ok(version) => _ = write!(self.said, ", no files and ports (landlock {version})"),
            Err(missing) => tracing::warn!("fence: {missing}: what that user may open stays within reach"),
        }
    }

    /// The second: when all that is needed is open and running. What is to be said of both, in a line.
    pub(super) fn close(mut self, mode: Mode) -> String {
        if self.fence.is_none() {
            let given_up = "whoever takes over this process has its user's rights, files, sockets and programs";
            return format!("off: {given_up}, and every system call");
        }
        match fence::close(mode) {
            Ok(count) => _ = write!(self.said, ", {count} system calls (seccomp)"),
            Err(missing) => tracing::warn!("fence: {missing}: every system call stays within reach"),
        }
        self.said
    }

    /// Both steps for a process that was just forked, which keeps these files, and of its descriptors `kept`.
    ///
    /// # Safety
    ///
    /// It uses none of the others any more.
    pub(super) unsafe fn put_up_around_helper(&self, files: Files, mode: Mode, kept: RawFd) -> Result<(), Error> {
        let Some(fence) = &self.fence else { return Ok(()) };
        // SAFETY: the contract of this function.
        let mut fence = unsafe { fence.clone().close_descriptors(fence::open_descriptors()?) };
        if mode == Mode::Keeper {
            // The file is that of whoever started us.
            fence = fence.same_user();
        }
        fence.hold(&[kept]).files(files).give_up().map_err(refusal)?;
        // What is missing is missing in the engine, too, which says so.
        let _ = fence::close(mode);
        Ok(())
    }
}

fn refusal(error: FenceError) -> Error {
    match error {
        FenceError::NoUser(_) | FenceError::User { .. } => Error::Usage(format!("--user: {error}")),
        error => Error::Run(format!("{error}; --sandbox off does without")),
    }
}
