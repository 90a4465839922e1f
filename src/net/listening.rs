//! What a listener shares with the shards, each of which listens for it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use crossbeam::channel::Sender;
use crossbeam::queue::SegQueue;

use super::registration::Registration;
use super::settings::Initial;
use super::socket::Handle;
use super::wait::Waiters;
use crate::shard::{AcceptQueue, ListenError, ListenOptions};
use crate::tcp::Instant;

/// SYNs of which the accepting thread may not have heard yet, a shard. When there are more the order of accepting is no
/// longer certain; nothing else is lost.
const NEWS: usize = 1_024;

/// Handshakes of one shard that have begun, on their way to whoever accepts. Memory comes with the first of them.
#[derive(Debug, Default)]
pub(crate) struct News {
    queue: SegQueue<HalfOpen>,
}

impl News {
    /// For the shard alone. Full when nobody accepts, or in a flood: then only the order suffers.
    pub(crate) fn push(&self, half_open: HalfOpen) {
        if self.queue.len() < NEWS {
            self.queue.push(half_open);
        }
    }

    pub(crate) fn pop(&self) -> Option<HalfOpen> {
        self.queue.pop()
    }
}

/// A SYN was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HalfOpen {
    pub(crate) ticket: u64,
    pub(crate) from: IpAddr,
    pub(crate) at: Instant,
}

/// A handshake is complete.
#[derive(Debug)]
pub(crate) struct Ready<T = Handle> {
    pub(crate) ticket: u64,
    pub(crate) from: IpAddr,
    pub(crate) handle: T,
}

/// What a listener shares with the shards.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) tag: u64,
    pub(crate) local: SocketAddr,
    pub(crate) backlog: usize,
    pub(crate) ttl: AtomicU8,
    /// One for each shard.
    pub(crate) half_open: Box<[News]>,
    pub(crate) ready: SegQueue<Ready>,
    /// Connections that wait to be accepted.
    pub(crate) queued: AtomicUsize,
    /// Their places: so many there may be.
    pub(crate) places: Arc<AcceptQueue>,
    /// What they begin with, from the handshake on.
    pub(crate) options: ListenOptions,
    /// What they begin with when they are open.
    pub(crate) initial: Initial,
    pub(crate) waiting: Waiters,
    pub(crate) watch: ArcSwapOption<Registration>,
    /// The engine has stopped, or is about to.
    pub(crate) stopped: AtomicBool,
}

impl Listening {
    pub(crate) fn notify(&self) {
        self.waiting.notify();
        if let Some(registration) = &*self.watch.load() {
            registration.signal();
        }
    }

    /// There will be no more connections: whoever waits for one hears so.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.notify();
    }

    /// Whether there is something to look at, if perhaps not yet to accept.
    pub(crate) fn is_ready(&self) -> bool {
        self.queued.load(Ordering::Acquire) > 0 || self.stopped.load(Ordering::Acquire)
    }
}

/// Asks a shard to listen.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) listening: Arc<Listening>,
    pub(crate) done: Sender<Result<(), ListenError>>,
}
