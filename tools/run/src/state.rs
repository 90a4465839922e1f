//! What a clone knows of its engine, in a folder of files:
//!
//! | file | holds |
//! |---|---|
//! | `lock` | locked while an engine runs: by whoever watches over it, and by the engine itself |
//! | `pid` | the engine's process |
//! | `ready` | the engine's address, from the moment it serves |
//! | `control` | the engine's control socket |
//! | `net1.lock` to `net254.lock` | locked by a command that has 10.7.1.0/24, and so on, beside the engine |
//! | `nat`, `nat.lock` | what `--nat` has changed, and its lock |
//!
//! "Is it running?" is answered by the lock, which dies with its holders: a process may be a zombie, and its number
//! another's.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Pid;

use crate::talk::Failure;

/// How long to wait before looking once more.
pub(crate) const MOMENT: Duration = Duration::from_millis(50);

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct State(PathBuf);

impl State {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes the folder, where it is missing.
    pub(crate) fn create(&self) -> Result<(), Failure> {
        fs::create_dir_all(&self.0).map_err(|_| Failure::new(format!("cannot write {}", self.0.display())))
    }

    /// The engine's process, as it was written down.
    pub(crate) fn engine(&self) -> Option<Pid> {
        let number: i32 = fs::read_to_string(self.path("pid")).ok()?.trim().parse().ok()?;
        if number > 0 { Pid::from_raw(number) } else { None }
    }

    /// Its number; nothing if it is not known.
    pub(crate) fn engine_number(&self) -> String {
        self.engine().map(|pid| pid.as_raw_pid().to_string()).unwrap_or_default()
    }

    /// Whether an engine runs, or is being started or ended.
    pub(crate) fn is_running(&self) -> bool {
        match File::open(self.path("lock")) {
            // Shared: two that look do not see each other.
            Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockShared).is_err(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// The engine's address; `None`: it does not serve yet.
    pub(crate) fn ready(&self) -> Option<String> {
        fs::read_to_string(self.path("ready")).ok().map(|text| text.trim().to_owned())
    }

    /// The same, when it serves within 10 s.
    pub(crate) fn await_ready(&self) -> Option<String> {
        for _ in 0..200 {
            if let Some(address) = self.ready() {
                return Some(address);
            }
            if !self.is_running() {
                return None;
            }
            thread::sleep(MOMENT);
        }
        None
    }

    /// Whoever waits for it sees all of it, or nothing.
    pub(crate) fn write_ready(&self, address: &str) -> io::Result<()> {
        let new = self.path("ready.new");
        fs::write(&new, format!("{address}\n"))?;
        fs::rename(new, self.path("ready"))
    }

    /// A file to be locked, made where it is missing. Open for reading only: the engine gets it, too.
    pub(crate) fn lock_file(&self, name: &str) -> io::Result<File> {
        let path = self.path(name);
        File::options().append(true).create(true).open(&path)?;
        File::open(path)
    }

    /// The lock that says that an engine runs. Others who look may have it for a moment.
    pub(crate) fn lock_engine(&self) -> Result<File, Failure> {
        let lock = self.lock_file("lock").map_err(|_| self.not_ours())?;
        if lock_within(&lock, Duration::from_secs(1)) {
            return Ok(lock);
        }
        let number = self.engine_number();
        Err(Failure::new(format!(
            "an engine is already running in this clone (process {number}); end it: ./run.sh stop"
        )))
    }

    fn not_ours(&self) -> Failure {
        let owner = owner(&self.path("lock")).or_else(|| owner(&self.0)).unwrap_or_else(|| "another user".to_owned());
        if self.is_running() {
            let number = self.engine_number();
            let end = "end it: sudo ./run.sh stop";
            return Failure::new(format!("an engine of {owner} is running in this clone (process {number}); {end}"));
        }
        let folder = self.0.display();
        let user = words_of(Command::new("id").arg("-un"));
        Failure::new(format!(
            "cannot write {folder}, which belongs to {owner}; give it back: sudo chown -R {user} {folder}"
        ))
    }
}

/// Locks a file, when nobody else has it within that time.
pub(crate) fn lock_within(file: &File, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    while flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(MOMENT / 2);
    }
    true
}

/// Whether what is started gets a file that is open here, under the same number.
pub(crate) fn inherit(file: &File, inherit: bool) -> io::Result<()> {
    Ok(fcntl_setfd(file, if inherit { FdFlags::empty() } else { FdFlags::CLOEXEC })?)
}

/// Starts a command that has these files open, too. Nothing else is to be started meanwhile.
pub(crate) fn spawn_with(command: &mut Command, files: &[&File]) -> io::Result<Child> {
    files.iter().try_for_each(|file| inherit(file, true))?;
    let child = command.spawn();
    for file in files {
        let _ = inherit(file, false);
    }
    child
}

/// The name of the user who has a file.
pub(crate) fn owner(path: &Path) -> Option<String> {
    Some(words_of(Command::new("stat").args(["-c", "%U"]).arg(path))).filter(|name| !name.is_empty())
}

/// What a command prints, without the newlines behind; nothing if it cannot be started.
pub(crate) fn words_of(command: &mut Command) -> String {
    let printed = command.stdin(Stdio::null()).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&printed).trim_end().to_owned()
}
