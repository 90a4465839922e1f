//! A helper: a process of our own for what the engine behind its fence cannot do: names and connections of the
//! kernel's (`opener`), and to remove its control socket at the end (`control/keeper`).
//!
//! Why a process, and not more system calls for the engine where `forward` is asked for: to resolve a name libc reads
//! files, opens sockets and perhaps loads libraries, and whoever took over an engine that may do that could do nearly
//! anything. The helper may, but sees nothing that strangers send, only answers of name servers, and can be asked only
//! for what it was forked for.
//!
//! It is forked before anything of ours is open and while there is one thread, so it has nothing of the engine's, no
//! device and no secret. It has a fence of its own (`Mode::Helper`), and ends when the other end of its socket is
//! gone, however that happened: then it reads the end. Standard output is not open in it, so that whoever reads the
//! engine's sees its end even when the helper is stopped.

use std::ffi::CStr;
use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::stdio::dup2_stdout;
use serde::Serialize;
use serde::de::DeserializeOwned;
use trust::fence::{Files, Mode};

use super::Error;
use super::fencing::Fencing;

/// Longest message.
const LONGEST: usize = 4_096;

/// What a helper is for, which decides what is left to it.
#[derive(Debug)]
pub(super) enum Role {
    /// Looks names up, and connects to these ports.
    Opener(Vec<u16>),
    /// Removes files of this folder when the engine is gone.
    Keeper(PathBuf),
}

impl Role {
    fn name(&self) -> &'static CStr {
        match self {
            Self::Opener(_) => c"trust-helper",
            Self::Keeper(_) => c"trust-keeper",
        }
    }

    fn files(&self) -> Files {
        match self {
            Self::Opener(ports) => Files::Names { ports: ports.clone() },
            Self::Keeper(folder) => Files::Remove { folder: folder.clone() },
        }
    }

    fn mode(&self) -> Mode {
        match self {
            Self::Opener(_) => Mode::Helper,
            Self::Keeper(_) => Mode::Keeper,
        }
    }
}

/// Forks, and has the child do `work` with its end of a socket that keeps messages apart; ours comes back. There must
/// be no other thread.
pub(super) fn fork(fencing: &Fencing, role: &Role, work: impl FnOnce(OwnedFd)) -> Result<OwnedFd, Error> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // SAFETY: this is the only thread, so the child's memory is not in the middle of anything.
    match unsafe { libc::fork() } {
        -1 => Err(Error::Run(format!("cannot start the helper process: {}", io::Error::last_os_error()))),
        0 => {
            drop(ours);
            let done = catch_unwind(AssertUnwindSafe(|| {
                // ^C in a terminal, or its end, is for all that runs there; our end comes with that of the engine,
                // which has things to finish.
                for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                    // SAFETY: no handler is set.
                    unsafe { libc::signal(signal, libc::SIG_IGN) };
                }
                let _ = rustix::thread::set_name(role.name());
                // A group of its own, which is orphaned when the engine ends: stopped, it is told to go on then (POSIX,
                // _exit), and hears of the end. The fence keeps the engine's death signal from it.
                let _ = rustix::process::setpgid(None, None);
                if let Ok(null) = File::options().write(true).open("/dev/null") {
                    let _ = dup2_stdout(&null);
                }
                // SAFETY: all that is done from here on is done with `theirs`.
                match unsafe { fencing.put_up_around_helper(role.files(), role.mode(), theirs.as_raw_fd()) } {
                    Ok(()) => work(theirs),
                    Err(error) => complain(&error),
                }
            }));
            // SAFETY: no memory is involved. What the engine would do at its end is not ours to do.
            unsafe { libc::_exit(done.is_err().into()) }
        }
        _ => Ok(ours),
    }
}

/// In a helper: says what went wrong. The log's thread is the engine's and not here.
pub(super) fn complain(what: &impl fmt::Display) {
    let _ = writeln!(io::stderr(), "trust: helper: {what}");
}

/// Sends a message, and perhaps a descriptor with it.
pub(super) fn send(socket: BorrowedFd<'_>, message: &impl Serialize, with: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if let Some(with) = &with {
        ancillary.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(with)));
    }
    sendmsg(socket, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next message, and the descriptor that came with it; `None`: the other end is gone.
pub(super) fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut text = [0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let with = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(Some((serde_json::from_slice(&text[..received.bytes])?, with)))
}

/// Asks, and waits for the answer.
pub(super) fn ask<T: DeserializeOwned>(socket: &OwnedFd, message: &impl Serialize) -> io::Result<T> {
    send(socket.as_fd(), message, None)
        .map_err(|error| if error.kind() == io::ErrorKind::BrokenPipe { gone() } else { error })?;
    receive(socket.as_fd())?.map(|(answer, _)| answer).ok_or_else(gone)
}

/// The other process has ended.
pub(super) fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the helper process has ended")
}
