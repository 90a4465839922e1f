//! The keeper: a process that removes the control socket when its engine is gone, however that happened. The engine
//! cannot: behind its fence it is another user, and there are no files.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::super::helper::{self, Role};
use super::super::{Error, fencing::Fencing};

/// The engine's end. The keeper ends, and removes what it keeps, when it is closed.
#[derive(Debug)]
pub(in crate::command) struct Keeper {
    socket: OwnedFd,
}

/// A file, by its numbers: another one of its name is not ours.
type Numbers = (u64, u64);

impl Keeper {
    /// Forks it. There must be no other thread.
    pub(super) fn fork(fencing: &Fencing, path: &Path) -> Result<Self, Error> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        // The fence names it, and there has to be one.
        super::socket::prepare(path);
        let socket = helper::fork(fencing, &Role::Keeper(folder.to_owned()), |socket| {
            let kept = watch(&socket);
            if let Some(numbers) = kept
                && fs::symlink_metadata(path).is_ok_and(|found| numbers == (found.dev(), found.ino()))
                && let Err(error) = fs::remove_file(path)
            {
                helper::complain(&format!("{} stays: {error}", path.display()));
            }
        })?;
        Ok(Self { socket })
    }

    /// What is at the path now is to be removed in the end.
    pub(super) fn keep(&self, path: &Path) -> io::Result<()> {
        let found = fs::symlink_metadata(path)?;
        let numbers: Numbers = (found.dev(), found.ino());
        helper::send(self.socket.as_fd(), &numbers, None)
    }
}

/// Waits for the end of the engine: what it had bound until then.
fn watch(socket: &OwnedFd) -> Option<Numbers> {
    let mut kept = None;
    while let Ok(Some((numbers, _))) = helper::receive::<Numbers>(socket.as_fd()) {
        kept = Some(numbers);
    }
    kept
}
