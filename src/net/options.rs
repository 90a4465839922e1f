//! Options of a socket: what is kept beside it, and what travels to its shard.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::mail::{Answer, Command};
use super::socket::is;
use super::stream::{TcpStream, not_connected};
use crate::tcp::{self, CongestionControl, Info, KeepAlive};

pub use crate::shard::ConnectOptions;

/// An option that the shard must hear of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    NoDelay(bool),
    KeepAlive(Option<KeepAlive>),
    UserTimeout(Option<tcp::Duration>),
    Congestion(CongestionControl),
}

/// No limit, in [`Settings`]' words of nanoseconds.
const NONE: u64 = u64::MAX;

/// What a socket's handle remembers, shared by all clones.
#[derive(Debug)]
pub(crate) struct Settings {
    nonblocking: AtomicBool,
    read_timeout: AtomicU64,
    write_timeout: AtomicU64,
    linger: AtomicU64,
    nodelay: AtomicBool,
    /// Set seldom, read more seldom; the shard never comes here.
    rare: Mutex<Rare>,
}

/// Options that differ from the engine's configuration.
#[derive(Debug, Clone, Copy, Default)]
struct Rare {
    keepalive: Option<Option<KeepAlive>>,
    user_timeout: Option<Option<Duration>>,
    congestion: Option<CongestionControl>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nonblocking: AtomicBool::new(false),
            read_timeout: AtomicU64::new(NONE),
            write_timeout: AtomicU64::new(NONE),
            linger: AtomicU64::new(NONE),
            nodelay: AtomicBool::new(false),
            rare: Mutex::default(),
        }
    }
}

fn load(word: &AtomicU64) -> Option<Duration> {
    match word.load(Ordering::Relaxed) {
        NONE => None,
        nanos => Some(Duration::from_nanos(nanos)),
    }
}

fn store(word: &AtomicU64, value: Option<Duration>) {
    let nanos = value.map_or(NONE, |value| u64::try_from(value.as_nanos()).unwrap_or(NONE).min(NONE - 1));
    word.store(nanos, Ordering::Relaxed);
}

impl Settings {
    pub(crate) fn nonblocking(&self) -> bool {
        self.nonblocking.load(Ordering::Relaxed)
    }

    pub(crate) fn set_nonblocking(&self, nonblocking: bool) {
        self.nonblocking.store(nonblocking, Ordering::Relaxed);
    }

    pub(crate) fn read_timeout(&self) -> Option<Duration> {
        load(&self.read_timeout)
    }

    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) {
        store(&self.read_timeout, timeout);
    }

    pub(crate) fn write_timeout(&self) -> Option<Duration> {
        load(&self.write_timeout)
    }

    pub(crate) fn set_write_timeout(&self, timeout: Option<Duration>) {
        store(&self.write_timeout, timeout);
    }

    pub(crate) fn linger(&self) -> Option<Duration> {
        load(&self.linger)
    }

    pub(crate) fn set_linger(&self, linger: Option<Duration>) {
        store(&self.linger, linger);
    }

    pub(crate) fn nodelay(&self) -> bool {
        self.nodelay.load(Ordering::Relaxed)
    }

    pub(crate) fn set_nodelay(&self, nodelay: bool) {
        self.nodelay.store(nodelay, Ordering::Relaxed);
    }
}

impl Settings {
    fn rare(&self) -> std::sync::MutexGuard<'_, Rare> {
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Options beyond those of `std`, and what the connection looks like from inside.
impl TcpStream {
    /// Probes a silent peer (SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT), or no longer.
    pub fn set_keepalive(&self, keepalive: Option<KeepAlive>) {
        self.handle().settings.rare().keepalive = Some(keepalive);
        self.handle().socket.change(Change::KeepAlive(keepalive));
    }

    /// What [`set_keepalive`](Self::set_keepalive) was given last.
    #[must_use]
    pub fn keepalive(&self) -> Option<KeepAlive> {
        self.handle().settings.rare().keepalive.flatten()
    }

    /// Limits how long octets may stay unacknowledged (TCP_USER_TIMEOUT, RFC 5482); `None`: as the engine has it.
    pub fn set_user_timeout(&self, limit: Option<Duration>) {
        self.handle().settings.rare().user_timeout = Some(limit);
        self.handle().socket.change(Change::UserTimeout(limit.map(tcp::Duration::from)));
    }

    /// What [`set_user_timeout`](Self::set_user_timeout) was given last.
    #[must_use]
    pub fn user_timeout(&self) -> Option<Duration> {
        self.handle().settings.rare().user_timeout.flatten()
    }

    /// Goes on with another congestion control (TCP_CONGESTION).
    pub fn set_congestion(&self, kind: CongestionControl) {
        self.handle().settings.rare().congestion = Some(kind);
        self.handle().socket.change(Change::Congestion(kind));
    }

    /// What [`set_congestion`](Self::set_congestion) was given last; `None`: as the engine has it.
    #[must_use]
    pub fn congestion(&self) -> Option<CongestionControl> {
        self.handle().settings.rare().congestion
    }

    /// Counters and estimates of the connection (TCP_INFO). Asks the shard, which takes about a turn.
    ///
    /// # Errors
    ///
    /// `NotConnected` before the handshake is complete and after the connection has ended.
    pub fn info(&self) -> io::Result<Info> {
        self.inquire()?.info.ok_or_else(not_connected)
    }

    /// Octets received and not yet read (SIOCINQ): in the socket's queue and in its connection.
    ///
    /// # Errors
    ///
    /// Never: of a connection that has ended what can still be read is counted.
    pub fn unread(&self) -> io::Result<usize> {
        let more = self.inquire().map_or(0, |answer| answer.unread as usize);
        Ok(self.handle().reader().len() + more)
    }

    /// Octets written that the peer has not acknowledged (SIOCOUTQ), sent or not.
    ///
    /// # Errors
    ///
    /// Never: of a connection that has ended nothing waits any more.
    pub fn unacknowledged(&self) -> io::Result<usize> {
        let Ok(answer) = self.inquire() else { return Ok(0) };
        let writer = self.handle().writer();
        Ok(writer.capacity().saturating_sub(writer.room()) + answer.unacknowledged as usize)
    }

    /// Asks the shard; what the application did before is done by then.
    fn inquire(&self) -> io::Result<Answer> {
        let socket = &self.handle().socket;
        if !socket.is_born() || socket.state() & is::CLOSED != 0 {
            return Err(not_connected());
        }
        let (reply, answers) = crossbeam::channel::bounded(1);
        if !socket.mail().send(Command::Inquire(socket.key(), reply)) {
            return Err(not_connected());
        }
        // Dropped without an answer: the shard is gone.
        answers.recv().map_err(|_| not_connected())
    }
}
