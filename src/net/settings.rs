//! What is set on a socket: what its handle remembers, what it begins with, and what travels to its shard.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::shard::ConnectOptions;
use crate::tcp::{self, CongestionControl, KeepAlive};

/// An option that the shard must hear of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    NoDelay(bool),
    Cork(bool),
    QuickAck(bool),
    KeepAlive(Option<KeepAlive>),
    UserTimeout(Option<tcp::Duration>),
    Congestion(CongestionControl),
    SendBuffer(u32),
    ReceiveBuffer(u32),
    NotSentLowWater(Option<u32>),
    Ttl(u8),
    Tos(u8),
}

impl Change {
    /// Said before the connection is begun: what counts for its handshake is among `options` then.
    pub(crate) fn join(self, options: &mut ConnectOptions) {
        match self {
            Self::UserTimeout(limit) => options.user_timeout = Some(limit.unwrap_or_default()),
            Self::ReceiveBuffer(octets) => options.receive_buffer = Some(octets),
            Self::Ttl(ttl) => options.ttl = Some(ttl),
            Self::Tos(tos) => options.tos = Some(tos),
            Self::NoDelay(_)
            | Self::Cork(_)
            | Self::QuickAck(_)
            | Self::KeepAlive(_)
            | Self::Congestion(_)
            | Self::SendBuffer(_)
            | Self::NotSentLowWater(_) => {}
        }
    }
}

/// No buffer is smaller, octets.
pub(super) const LEAST_BUFFER: u32 = 2_048;

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
    /// A call that asked has heard what has become of the connect.
    told: AtomicBool,
    /// Set seldom, read more seldom; the shard never comes here.
    rare: Mutex<Rare>,
}

/// Options that differ from the engine's configuration.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rare {
    pub(super) keepalive: bool,
    pub(super) times: Option<KeepAlive>,
    pub(super) user_timeout: Option<Duration>,
    pub(super) congestion: Option<CongestionControl>,
    pub(super) cork: bool,
    pub(super) quickack: Option<bool>,
    pub(super) send_buffer: Option<u32>,
    pub(super) receive_buffer: Option<u32>,
    pub(super) notsent_lowat: Option<u32>,
    pub(super) ttl: Option<u8>,
    pub(super) tos: u8,
    pub(super) maxseg: Option<u16>,
    pub(super) oobinline: bool,
}

/// What a socket begins with: set before it is opened, or on the listener that it comes from.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Initial {
    pub(super) nodelay: bool,
    pub(super) linger: Option<Duration>,
    pub(super) rare: Rare,
}

impl Initial {
    /// The same with what is set for the handshake.
    pub(super) fn with(mut self, options: &ConnectOptions) -> Self {
        let rare = &mut self.rare;
        rare.user_timeout = options.user_timeout.filter(|limit| !limit.is_zero()).map(Duration::from);
        rare.receive_buffer = options.receive_buffer;
        rare.ttl = options.ttl;
        rare.tos = options.tos.unwrap_or_default();
        rare.maxseg = options.mss;
        self
    }

    /// The same with another TTL.
    pub(crate) fn with_ttl(mut self, ttl: u8) -> Self {
        self.rare.ttl = Some(ttl);
        self
    }

    /// `options` with what has been set since for the handshake.
    pub(super) fn override_in(&self, options: ConnectOptions) -> ConnectOptions {
        let rare = &self.rare;
        ConnectOptions {
            user_timeout: rare.user_timeout.map(tcp::Duration::from),
            receive_buffer: rare.receive_buffer,
            ttl: rare.ttl,
            tos: Some(rare.tos),
            mss: rare.maxseg,
            ..options
        }
    }

    /// What the connection must hear of when it is open. What counts in the handshake, too, it has from there.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change> {
        let rare = &self.rare;
        let keepalive = rare.keepalive.then(|| Change::KeepAlive(Some(rare.times.unwrap_or_default())));
        [
            self.nodelay.then_some(Change::NoDelay(true)),
            rare.cork.then_some(Change::Cork(true)),
            rare.quickack.map(Change::QuickAck),
            keepalive,
            rare.congestion.map(Change::Congestion),
            rare.send_buffer.map(Change::SendBuffer),
            rare.notsent_lowat.map(|octets| Change::NotSentLowWater(Some(octets))),
        ]
        .into_iter()
        .flatten()
    }

    pub(crate) fn send_buffer(&self) -> Option<u32> {
        self.rare.send_buffer
    }

    pub(crate) fn receive_buffer(&self) -> Option<u32> {
        self.rare.receive_buffer
    }

    /// As far as the socket's own queue has to know of it.
    pub(crate) fn notsent_lowat(&self) -> Option<u32> {
        self.rare.notsent_lowat
    }
}

impl From<&Initial> for Settings {
    fn from(initial: &Initial) -> Self {
        let settings = Self {
            nonblocking: AtomicBool::new(false),
            read_timeout: AtomicU64::new(NONE),
            write_timeout: AtomicU64::new(NONE),
            linger: AtomicU64::new(NONE),
            nodelay: AtomicBool::new(initial.nodelay),
            told: AtomicBool::new(true),
            rare: Mutex::new(initial.rare),
        };
        settings.set_linger(initial.linger);
        settings
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
    /// What another socket with the same options begins with.
    pub(crate) fn initial(&self) -> Initial {
        Initial { nodelay: self.nodelay(), linger: self.linger(), rare: *self.rare() }
    }

    /// What only the handle knows of is as on another one.
    pub(crate) fn follow(&self, other: &Self) {
        self.set_nonblocking(other.nonblocking());
        self.set_read_timeout(other.read_timeout());
        self.set_write_timeout(other.write_timeout());
    }

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

    /// A connect that does not wait has begun: [`told`](Self::told) is `false` once.
    pub(crate) fn connecting(&self) {
        self.told.store(false, Ordering::Relaxed);
    }

    /// Whether a call that asked has heard what has become of the connect. This one does.
    pub(crate) fn told(&self) -> bool {
        self.told.swap(true, Ordering::Relaxed)
    }

    pub(super) fn rare(&self) -> MutexGuard<'_, Rare> {
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
