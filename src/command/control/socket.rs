//! Where control sockets are, and whose: bound before rights are given up, removed by a helper when the engine is gone.
//!
//! A path may be longer than an address of a Unix socket: it is reached through the descriptor of its folder.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::geteuid;

use super::super::Error;

/// What names of sockets end with in a folder of them.
const SUFFIX: &str = ".sock";

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;

/// So long a client waits for a place among those. An engine that runs accepts at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// `--control`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// No socket.
    Off,
    /// There.
    At(PathBuf),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("not a path, and not off".to_owned()),
            "off" => Ok(Self::Off),
            path => Ok(Self::At(path.into())),
        }
    }
}

/// Where a socket is to be.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// Nobody asked for it: without it the engine serves all the same.
    usual: bool,
}

impl Place {
    /// Where the socket of an engine with this device is to be; `None`: nowhere. A path is not relative to anything later.
    pub(crate) fn of(wanted: Option<&Wanted>, device: &str) -> Result<Option<Self>, Error> {
        match wanted {
            Some(Wanted::Off) => Ok(None),
            Some(Wanted::At(path)) => {
                let path = std::path::absolute(path).map_err(|error| refused(path, &error))?;
                Ok(Some(Self { path, usual: false }))
            }
            None => {
                // Devices of one name may be in several namespaces of one machine.
                let name = format!("{device}-{}{SUFFIX}", std::process::id());
                Ok(folders().into_iter().next().map(|folder| Self { path: folder.join(name), usual: true }))
            }
        }
    }

    /// Binds the socket and listens: mode 0600, in the place of what an engine has left that ended hard. Only who asked
    /// for the socket hears that it cannot be.
    pub(crate) fn bind(&self) -> Result<Option<UnixListener>, Error> {
        let bound = || {
            let folder = self.path.parent().unwrap_or(Path::new("/"));
            if self.usual {
                make_folder(folder)?;
                sweep(folder);
            }
            bind_at(&self.path)
        };
        match bound() {
            Ok(listener) => Ok(Some(listener)),
            // Another limit or another place is the user's to choose; where there is none, nothing can be done.
            Err(error) if self.usual && !matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                tracing::warn!("no control socket at {}: {error}", self.path.display());
                Ok(None)
            }
            Err(error) if self.usual => Err(error.into()),
            Err(error) => Err(refused(&self.path, &error)),
        }
    }
}

/// Makes the folder of a socket that is to be in a usual place.
pub(super) fn prepare(path: &Path) {
    if let Some(folder) = path.parent().filter(|folder| folders().iter().any(|usual| usual == folder)) {
        let _ = make_folder(folder);
    }
}

fn refused(path: &Path, error: &io::Error) -> Error {
    Error::Run(format!("--control {}: {error}", path.display()))
}

/// Where sockets are that nobody has given a place, best first: the user's own folder of what runs, and what there is
/// without one.
fn folders() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()).map(PathBuf::from);
    let system = geteuid().is_root().then(|| PathBuf::from("/run"));
    let usable = |path: &PathBuf| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    let folders = [runtime, system].into_iter().flatten().filter(usable).map(|path| path.join("trust"));
    folders.chain([PathBuf::from(format!("/tmp/trust-{}", user()))]).collect()
}

/// Our user by the number that the user namespace around ours has for it: within `unshare -Ur` everybody is 0, and the
/// folder for temporary files is one for all. Namespaces further out cannot be asked. In the outermost one, or where
/// nobody can tell, it is our own number. It is but a name: whose a folder is, is looked at.
fn user() -> u32 {
    let user = geteuid().as_raw();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    outer(user, &map).unwrap_or(user)
}

/// What a user is outside, by a map of user_namespaces(7): in each line the first number inside, the first outside, and
/// how many.
fn outer(user: u32, map: &str) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let mut number = || numbers.next()?.ok();
        let (inside, outside, count) = (number()?, number()?, number()?);
        let offset = user.checked_sub(inside).filter(|offset| *offset < count)?;
        // The last number stands for one that has none there.
        outside.checked_add(offset).filter(|outside| *outside != u32::MAX)
    })
}

/// A folder for us alone. One that another has made in its place is not ours.
fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if !is_ours_alone(folder)? {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "its folder is not ours alone"));
    }
    Ok(())
}

fn is_ours_alone(folder: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(folder)?;
    Ok(found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0)
}

/// Removes sockets of engines that are gone.
fn sweep(folder: &Path) {
    let Ok(_turn) = lock(folder) else { return };
    for path in sockets_in(folder) {
        if matches!(reach(&path), Reached::Nobody) {
            let _ = fs::remove_file(path);
        }
    }
}

fn sockets_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).filter(|path| is_socket(path)).collect();
    paths.sort();
    paths
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Who binds in a folder has its lock meanwhile: what is bound and does not listen yet looks like what is left.
fn lock(folder: &Path) -> io::Result<File> {
    let file = open(folder)?;
    let end = Instant::now() + Duration::from_secs(2);
    while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if Instant::now() >= end {
            return Err(io::Error::new(io::Error::from(error).kind(), "its folder is locked by another"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(file)
}

/// Opens a folder, and nothing else: to open a pipe would wait for its other end.
fn open(folder: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(folder)
}

fn bind_at(path: &Path) -> io::Result<UnixListener> {
    let (folder, name) = split(path)?;
    let turn = lock(folder)?;
    if fs::symlink_metadata(path).is_ok() {
        match reach(path) {
            Reached::Nobody if is_socket(path) => fs::remove_file(path)?,
            Reached::Nobody => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "something else is there; choose another path",
                ));
            }
            Reached::Somebody => {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "an engine is there; choose another path"));
            }
            Reached::Not(error) => return Err(error),
        }
    }
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &address(&turn, name)?)?;
    // Nobody gets in before it listens.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listen(&socket, BACKLOG)?;
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "not the path of a file");
    let name = path.file_name().ok_or_else(wrong)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((folder, name))
}

/// A name in a folder, however long the folder's own name is.
fn address(folder: &File, name: &OsStr) -> io::Result<SocketAddrUnix> {
    let mut path = OsString::from(format!("/proc/self/fd/{}/", folder.as_raw_fd()));
    path.push(name);
    Ok(SocketAddrUnix::new(path)?)
}

/// Who was found at a path.
enum Reached {
    Somebody,
    /// A socket that nobody listens on, or no socket.
    Nobody,
    Not(io::Error),
}

fn reach(path: &Path) -> Reached {
    match connect(path) {
        Ok(_) => Reached::Somebody,
        // Nobody accepts just now, and somebody listens.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Reached::Somebody,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Reached::Nobody,
        Err(error) => Reached::Not(error),
    }
}

/// Connects to the socket at a path, without waiting for a place in its backlog: `WouldBlock` where there is none.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    let (folder, name) = split(path)?;
    let folder = open(folder)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &address(&folder, name)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The same, and waits a moment for a place.
fn connect_soon(path: &Path) -> Result<UnixStream, Error> {
    let end = Instant::now() + PATIENCE;
    let error = loop {
        match connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => break error,
        }
    };
    let why = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => "no engine is there".to_owned(),
        io::ErrorKind::PermissionDenied => format!("{error}; it is for the user who started the engine"),
        io::ErrorKind::WouldBlock => "the engine takes no one who asks; it is stopped, or hangs".to_owned(),
        _ => error.to_string(),
    };
    Err(refused(path, &io::Error::other(why)))
}

/// Connects to the engine that is meant: the one at `path`, or the only one that runs where such sockets usually are.
pub(crate) fn find(path: Option<&Path>) -> Result<UnixStream, Error> {
    path.map_or_else(|| find_in(&folders()), connect_soon)
}

fn find_in(folders: &[PathBuf]) -> Result<UnixStream, Error> {
    // What another has put there would be shown as ours.
    let ours = folders.iter().filter(|folder| is_ours_alone(folder).unwrap_or(false));
    let sockets = ours.flat_map(|folder| sockets_in(folder));
    let mut found: Vec<_> = sockets
        .filter_map(|path| match connect(&path) {
            Ok(stream) => Some((Some(stream), path)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some((None, path)),
            Err(_) => None,
        })
        .collect();
    match found.len() {
        1 => match found.remove(0) {
            (Some(stream), _) => Ok(stream),
            (None, path) => connect_soon(&path),
        },
        0 => {
            let looked: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
            let looked = looked.join(" and ");
            Err(Error::Run(format!("no engine of yours runs (there is no socket in {looked}); --control names one")))
        }
        _ => {
            let paths: Vec<_> = found.iter().map(|(_, path)| path.display().to_string()).collect();
            Err(Error::Usage(format!("several engines run; take one with --control: {}", paths.join(" "))))
        }
    }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
