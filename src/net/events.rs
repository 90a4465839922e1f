//! Readiness for [mio]: one event queue, and so one descriptor, for all sockets of an application thread.
//!
//! Sockets of ours have no descriptor that epoll could watch. An [`EventQueue`] has one: register it with a `mio::Poll`,
//! register sockets with the queue, and when the queue's token comes up take the sockets' events from
//! [`EventQueue::events`]. Events are edge-triggered as mio's are: after one, read or write until `WouldBlock`.
//!
//! Where sockets must go into a `mio::Registry` itself, [`TcpStream`](super::TcpStream) and
//! [`TcpListener`](super::TcpListener) are `mio::event::Source`s, too, at the price of a descriptor each.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use crossbeam::queue::SegQueue;
use mio::event::{self, Source};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::event::{EventfdFlags, eventfd};

use super::listener::{Listening, TcpListener};
use super::socket::{Handle, is};
use super::stream::TcpStream;

/// Readiness bits.
mod ready {
    pub(super) const READABLE: u8 = 1;
    pub(super) const WRITABLE: u8 = 2;
    pub(super) const READ_CLOSED: u8 = 4;
    pub(super) const WRITE_CLOSED: u8 = 8;
    pub(super) const ERROR: u8 = 16;
}

/// What a registration watches. Weak: being watched keeps nothing alive.
#[derive(Debug)]
enum Subject {
    Stream(Weak<Handle>),
    Listener(Weak<Listening>),
}

impl Subject {
    fn readiness(&self) -> u8 {
        match self {
            Self::Stream(handle) => handle.upgrade().map_or(0, |handle| readiness(&handle)),
            Self::Listener(listening) => {
                listening.upgrade().map_or(0, |listening| if listening.is_ready() { ready::READABLE } else { 0 })
            }
        }
    }
}

fn readiness(handle: &Handle) -> u8 {
    let state = handle.socket.state();
    let mut bits = 0;
    let closed = state & is::CLOSED != 0;
    let error = handle.socket.has_error();
    if state & is::CONNECTED == 0 && !closed {
        return 0;
    }
    if closed || error || state & (is::ENDED | is::SHUT_READ) != 0 || !handle.reader().is_empty() {
        bits |= ready::READABLE;
    }
    if closed || error || state & is::SHUT_WRITE != 0 || handle.has_room() {
        bits |= ready::WRITABLE;
    }
    if closed || state & (is::ENDED | is::SHUT_READ) != 0 {
        bits |= ready::READ_CLOSED;
    }
    if closed || (state & is::SHUT_WRITE != 0 && state & is::ENDED != 0) {
        bits |= ready::WRITE_CLOSED;
    }
    if error {
        bits |= ready::ERROR;
    }
    bits
}

/// One socket in one event queue.
#[derive(Debug)]
pub(crate) struct Registration {
    /// Weak: the queue may hold the registration, and a socket outlive the queue.
    queue: Weak<Shared>,
    /// The queue is this one socket's.
    private: bool,
    subject: Subject,
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

    fn event(&self) -> Option<SocketEvent> {
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
        let bits = self.subject.readiness() & wanted;
        (bits != 0).then_some(SocketEvent { token: self.token, bits })
    }
}

#[derive(Debug)]
struct Shared {
    events: SegQueue<Arc<Registration>>,
    descriptor: OwnedFd,
    /// The descriptor is readable.
    signalled: AtomicBool,
}

impl Shared {
    fn new() -> io::Result<Self> {
        let descriptor = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { events: SegQueue::new(), descriptor, signalled: AtomicBool::new(false) })
    }

    fn signal(&self) {
        if !self.signalled.swap(true, Ordering::AcqRel) {
            // Fails only where it is readable already.
            let _ = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
        }
    }

    fn clear(&self) {
        let _ = rustix::io::read(&self.descriptor, &mut [0; 8]);
        self.signalled.store(false, Ordering::SeqCst);
    }
}

/// Events of many sockets behind one descriptor: register it with a `mio::Poll`, register sockets with it, and when its own
/// token comes up take the sockets' events from [`events`](Self::events). They are edge-triggered, as mio's are: after one,
/// read or write until `WouldBlock`.
///
/// ```
/// use std::io::{Read, Write};
/// use mio::{Events, Interest, Poll, Token};
/// use trust::net::EventQueue;
///
/// # use std::net::{IpAddr, Ipv4Addr};
/// # use trust::device::memory::{MemoryOptions, pair};
/// # use trust::engine::{Engine, Pin};
/// # fn main() -> std::io::Result<()> {
/// # let (a, b) = pair(&MemoryOptions::default())?;
/// # let start = |device, last| {
/// #     let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
/// #     Engine::builder().device(device, 1).address(address).pin(Pin::None).start()
/// # };
/// # let (serving, connecting) = (start(a, 2)?, start(b, 1)?);
/// # let (server, client) = (serving.stack(), connecting.stack());
/// let mut poll = Poll::new()?;
/// let mut queue = EventQueue::new()?;
/// poll.registry().register(&mut queue, Token(0), Interest::READABLE)?;
///
/// let listener = server.bind("10.0.0.2:80")?;
/// listener.set_nonblocking(true)?;
/// queue.register(&listener, Token(1), Interest::READABLE);
/// let mut stream = client.connect("10.0.0.2:80")?;
/// stream.write_all(b"hello")?;
///
/// let (mut events, mut accepted, mut got) = (Events::with_capacity(16), None, Vec::new());
/// while got != b"hello" {
///     poll.poll(&mut events, None)?;
///     for event in queue.events() {
///         if event.token() == Token(1) && let Ok((stream, _)) = listener.accept() {
///             stream.set_nonblocking(true)?;
///             // What is there already is an event, too.
///             queue.register(&stream, Token(2), Interest::READABLE);
///             accepted = Some(stream);
///         } else if let Some(stream) = &mut accepted {
///             let mut buffer = [0; 100];
///             while let Ok(octets) = stream.read(&mut buffer) {
///                 got.extend_from_slice(&buffer[..octets]);
///             }
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EventQueue {
    shared: Arc<Shared>,
}

impl EventQueue {
    /// A queue of its own, to be registered with a `mio::Poll` or any other epoll (it is `AsFd`).
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { shared: Arc::new(Shared::new()?) })
    }

    /// Reports events of `source` with `token`. A socket is watched by one queue at a time; another registration
    /// replaces the former one.
    pub fn register(&self, source: &impl Watchable, token: Token, interests: Interest) {
        source.watch_by(Some(Watch { queue: &self.shared, private: false, token, interests }));
    }

    /// Reports no more events of `source`.
    pub fn deregister(&self, source: &impl Watchable) {
        source.watch_by(None);
    }

    /// The events there are. Call it whenever the queue's own descriptor has become readable.
    pub fn events(&self) -> impl Iterator<Item = SocketEvent> + '_ {
        self.shared.clear();
        std::iter::from_fn(|| self.shared.events.pop().map(|registration| registration.event())).flatten()
    }
}

impl AsFd for EventQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.descriptor.as_fd()
    }
}

impl AsRawFd for EventQueue {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.shared.descriptor.as_raw_fd()
    }
}

impl event::Source for EventQueue {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.as_raw_fd()).deregister(registry)
    }
}

/// Something happened to a socket, or may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketEvent {
    token: Token,
    bits: u8,
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

/// Sockets that an [`EventQueue`] can watch: [`TcpStream`] and [`TcpListener`].
pub trait Watchable: sealed::Sealed {
    #[doc(hidden)]
    fn watch_by(&self, watch: Option<Watch<'_>>);
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Watch<'a> {
    queue: &'a Arc<Shared>,
    private: bool,
    token: Token,
    interests: Interest,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::TcpStream {}
    impl Sealed for super::TcpListener {}
}

impl Watch<'_> {
    fn on(self, subject: Subject) -> Arc<Registration> {
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

fn replace(watch: &arc_swap::ArcSwapOption<Registration>, new: Option<Arc<Registration>>) {
    if let Some(old) = watch.swap(new.clone()) {
        old.dead.store(true, Ordering::Release);
    }
    if let Some(new) = new {
        // What is ready already is an event, as with epoll.
        new.signal();
    }
}

impl Watchable for TcpStream {
    fn watch_by(&self, watch: Option<Watch<'_>>) {
        let subject = Subject::Stream(Arc::downgrade(self.handle()));
        replace(&self.handle().socket.watch, watch.map(|watch| watch.on(subject)));
    }
}

impl TcpStream {
    /// Who watches this stream watches `other` from now on.
    pub(super) fn watch_instead(&self, other: &Self) {
        let watch = &self.handle().socket.watch;
        if let Some(registration) = watch.load_full()
            && let Some(queue) = registration.queue.upgrade()
        {
            replace(watch, None);
            let Registration { private, token, interests, .. } = *registration;
            other.watch_by(Some(Watch { queue: &queue, private, token, interests }));
        }
    }
}

impl Watchable for TcpListener {
    fn watch_by(&self, watch: Option<Watch<'_>>) {
        let subject = Subject::Listener(Arc::downgrade(self.listening()));
        replace(&self.listening().watch, watch.map(|watch| watch.on(subject)));
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
