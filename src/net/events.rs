//! Readiness for [mio]: one event queue, and so one descriptor, for all sockets of an application thread.
//!
//! Sockets of ours have no descriptor that epoll could watch. An [`EventQueue`] has one: register it with a `mio::Poll`,
//! register sockets with the queue, and when the queue's token comes up take the sockets' events from
//! [`EventQueue::events`]. Events are edge-triggered as mio's are: after one, read or write until `WouldBlock`.
//!
//! Where sockets must go into a `mio::Registry` itself, [`TcpStream`](super::TcpStream) and
//! [`TcpListener`](super::TcpListener) are `mio::event::Source`s, too, at the price of a descriptor each. That one tells of
//! readiness in one registry and nothing else: it is not to be had from them (`AsFd`), since whoever has a socket's
//! descriptor reads and writes it.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token, event};

use super::listener::TcpListener;
use super::listening::Listening;
use super::registration::sealed::Sealed;
use super::registration::{Shared, SocketEvent, Watch, Watchable, Watched, ready, replace};
use super::socket::{Handle, is};
use super::stream::TcpStream;

impl Watched for Handle {
    fn readiness(&self) -> u8 {
        let state = self.socket.state();
        let mut bits = 0;
        let closed = state & is::CLOSED != 0;
        let error = self.socket.has_error();
        if state & is::CONNECTED == 0 && !closed {
            return 0;
        }
        if closed || error || state & (is::ENDED | is::SHUT_READ) != 0 || !self.reader().is_empty() {
            bits |= ready::READABLE;
        }
        if closed || error || state & is::SHUT_WRITE != 0 || self.has_room() {
            bits |= ready::WRITABLE;
        }
        if self.socket.is_read_closed() {
            bits |= ready::READ_CLOSED;
        }
        if self.socket.is_write_closed() {
            bits |= ready::WRITE_CLOSED;
        }
        if error {
            bits |= ready::ERROR;
        }
        bits
    }
}

impl Watched for Listening {
    fn readiness(&self) -> u8 {
        if self.is_ready() { ready::READABLE } else { 0 }
    }
}

impl Sealed for TcpStream {}
impl Sealed for TcpListener {}

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
pub struct EventQueue {
    shared: Arc<Shared>,
}

impl fmt::Debug for EventQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventQueue").field("fd", &self.as_raw_fd()).finish()
    }
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

impl Watchable for TcpStream {
    fn watch_by(&self, watch: Option<Watch<'_>>) {
        let subject = Arc::downgrade(self.handle());
        replace(&self.handle().socket.watch, watch.map(|watch| watch.on(subject)));
    }
}

impl TcpStream {
    /// Who watches this stream watches `other` from now on.
    pub(super) fn watch_instead(&self, other: &Self) {
        let watch = &self.handle().socket.watch;
        if let Some(registration) = watch.load_full() {
            replace(watch, None);
            registration.move_to(other);
        }
    }
}

impl Watchable for TcpListener {
    fn watch_by(&self, watch: Option<Watch<'_>>) {
        let subject = Arc::downgrade(self.listening());
        replace(&self.listening().watch, watch.map(|watch| watch.on(subject)));
    }
}
