//! [`Registration`]: one socket in one event queue, and what both know of each other.
//!
//! Must not contain: sockets. What is watched says of itself what it is ready for.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use crossbeam::queue::SegQueue;
use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::event::{EventfdFlags, eventfd};

/// Readiness bits.
pub(super) mod ready {
    pub(crate) const READABLE: u8 = 1;
    pub(crate) const WRITABLE: u8 = 2;
    pub(crate) const READ_CLOSED: u8 = 4;
    pub(crate) const WRITE_CLOSED: u8 = 8;
    pub(crate) const ERROR: u8 = 16;
}

/// What a registration watches. Held weakly: being watched keeps nothing alive.
pub(crate) trait Watched: Send + Sync {
    /// Bits of [`ready`].
    fn readiness(&self) -> u8;
}

/// One socket in one event queue.
#[derive(Debug)]
pub(crate) struct Registration {
    /// Weak: the queue may hold the registration, and a socket outlive the queue.
    queue: Weak<Shared>,
    /// The queue is this one socket's.
    private: bool,
    subject: Weak<dyn Watched>,
    token: Token,
    interests: Interest,
    /// It lies in the queue.
    queued: AtomicBool,
    /// It was taken back.
    dead: AtomicBool,
}

impl Registration {
    /// Something has happened to the subject.
    pub(crate) fn signal(self: &Arc<Self>) {
        if !self.private && self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(queue) = self.queue.upgrade() else { return };
        if self.private {
            // The descriptor stands for one socket: each write is an edge that epoll reports with the socket's token.
            let _ = rustix::io::write(&queue.descriptor, &1_u64.to_ne_bytes());
        } else {
            queue.events.push(Arc::clone(self));
            queue.signal();
        }
    }

    pub(super) fn event(&self) -> Option<SocketEvent> {
        // From now on a signal queues it anew: what is found below may be older than that, never newer.
        self.queued.store(false, Ordering::SeqCst);
        if self.dead.load(Ordering::Acquire) {
            return None;
        }
        let mut wanted = ready::ERROR;
        if self.interests.is_readable() {
            wanted |= ready::READABLE | ready::READ_CLOSED;
        }
        if self.interests.is_writable() {
            wanted |= ready::WRITABLE | ready::WRITE_CLOSED;
        }
        let bits = self.subject.upgrade().map_or(0, |subject| subject.readiness()) & wanted;
        (bits != 0).then_some(SocketEvent { token: self.token, bits })
    }

    /// Whoever watches this watches `other` from now on.
    pub(super) fn move_to(&self, other: &impl Watchable) {
        if let Some(queue) = self.queue.upgrade() {
            let Self { private, token, interests, .. } = *self;
            other.watch_by(Some(Watch { queue: &queue, private, token, interests }));
        }
    }
}

/// What registrations share with whoever takes their events.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) events: SegQueue<Arc<Registration>>,
    pub(super) descriptor: OwnedFd,
    /// The descriptor is readable.
    signalled: AtomicBool,
}

impl Shared {
    pub(super) fn new() -> io::Result<Self> {
        let descriptor = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { events: SegQueue::new(), descriptor, signalled: AtomicBool::new(false) })
    }

    fn signal(&self) {
        if !self.signalled.swap(true, Ordering::AcqRel) {
            // Fails only where it is readable already.
            let _ = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
        }
    }

    pub(super) fn clear(&self) {
        let _ = rustix::io::read(&self.descriptor, &mut [0; 8]);
        self.signalled.store(false, Ordering::SeqCst);
    }
}

/// Something happened to a socket, or may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SocketEvent {
    token: Token,
    bits: u8,
}

/// As mio's events have it, without what is not so: `SocketEvent { token: Token(1), ready: READABLE | READ_CLOSED }`.
impl fmt::Debug for SocketEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketEvent").field("token", &self.token).field("ready", &Bits(self.bits)).finish()
    }
}

/// Bits of [`ready`], by name.
struct Bits(u8);

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (ready::READABLE, "READABLE"),
            (ready::WRITABLE, "WRITABLE"),
            (ready::READ_CLOSED, "READ_CLOSED"),
            (ready::WRITE_CLOSED, "WRITE_CLOSED"),
            (ready::ERROR, "ERROR"),
        ];
        let mut set = names.into_iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| name);
        f.write_str(set.next().unwrap_or("nothing"))?;
        set.try_for_each(|name| write!(f, " | {name}"))
    }
}

impl SocketEvent {
    /// The token it was registered with.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// There are octets to read, a connection to accept, the end of the stream, or an error.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.bits & ready::READABLE != 0
    }

    /// There is room to write, the connection is established, or an error waits.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.bits & ready::WRITABLE != 0
    }

    /// The peer has ended its direction (EPOLLRDHUP), or reading was shut down.
    #[must_use]
    pub fn is_read_closed(&self) -> bool {
        self.bits & ready::READ_CLOSED != 0
    }

    /// Both directions have ended (EPOLLHUP).
    #[must_use]
    pub fn is_write_closed(&self) -> bool {
        self.bits & ready::WRITE_CLOSED != 0
    }

    /// An error waits in `take_error`.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.bits & ready::ERROR != 0
    }
}

/// Sockets that an [`EventQueue`](super::EventQueue) can watch: [`TcpStream`](super::TcpStream) and
/// [`TcpListener`](super::TcpListener).
pub trait Watchable: sealed::Sealed {
    #[doc(hidden)]
    fn watch_by(&self, watch: Option<Watch<'_>>);
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Watch<'a> {
    pub(super) queue: &'a Arc<Shared>,
    pub(super) private: bool,
    pub(super) token: Token,
    pub(super) interests: Interest,
}

pub(super) mod sealed {
    pub trait Sealed {}
}

impl Watch<'_> {
    pub(super) fn on(self, subject: Weak<dyn Watched>) -> Arc<Registration> {
        Arc::new(Registration {
            queue: Arc::downgrade(self.queue),
            private: self.private,
            subject,
            token: self.token,
            interests: self.interests,
            queued: AtomicBool::new(false),
            dead: AtomicBool::new(false),
        })
    }
}

/// Has `new` in the place of whatever watched until now.
pub(super) fn replace(watch: &arc_swap::ArcSwapOption<Registration>, new: Option<Arc<Registration>>) {
    if let Some(old) = watch.swap(new.clone()) {
        old.dead.store(true, Ordering::Release);
    }
    if let Some(new) = new {
        // What is ready already is an event, as with epoll.
        new.signal();
    }
}

/// A socket's own descriptor, for a socket that is a `mio::event::Source` itself.
#[derive(Debug, Default)]
pub(crate) struct Descriptor {
    shared: Option<Arc<Shared>>,
}

impl Descriptor {
    pub(crate) fn register(
        &mut self,
        socket: &impl Watchable,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        let shared = Arc::new(Shared::new()?);
        SourceFd(&shared.descriptor.as_raw_fd()).register(registry, token, interests)?;
        socket.watch_by(Some(Watch { queue: &shared, private: true, token, interests }));
        self.shared = Some(shared);
        Ok(())
    }

    pub(crate) fn reregister(
        &mut self,
        socket: &impl Watchable,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        let shared = self.shared.as_ref().ok_or(io::ErrorKind::NotFound)?;
        SourceFd(&shared.descriptor.as_raw_fd()).reregister(registry, token, interests)?;
        socket.watch_by(Some(Watch { queue: shared, private: true, token, interests }));
        Ok(())
    }

    pub(crate) fn deregister(&mut self, socket: &impl Watchable, registry: &Registry) -> io::Result<()> {
        let shared = self.shared.take().ok_or(io::ErrorKind::NotFound)?;
        socket.watch_by(None);
        SourceFd(&shared.descriptor.as_raw_fd()).deregister(registry)
    }
}
