//! [`TcpListener`]: connections of all shards, accepted in the order in which their SYNs were answered.
//!
//! Every shard listens. A SYN that is answered draws a ticket; completed connections come from the shards in whatever
//! order, and [`accept`](TcpListener::accept) hands out the lowest ticket that is ready. It holds a connection back only
//! while an older handshake from the same address is less than 2 ms old: a program that opens two connections
//! one after the other (iperf3's `--bidir` does) finds them in that order although two shards carry them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
#[cfg(feature = "tokio")]
use std::task::Poll;
use std::time;

use arc_swap::ArcSwapOption;
use crossbeam::queue::SegQueue;
use mio::{Interest, Registry, Token, event};

use super::accepting::{Next, Order};
use super::command::Command;
use super::listening::{Listening, News, Opening, Ready};
use super::registration::Descriptor;
use super::settings::Initial;
use super::stack::Stack;
use super::stream::TcpStream;
use super::wait::Waiters;
use crate::flow::Endpoint;
use crate::shard::{AcceptQueue, ListenError, ListenOptions};
use crate::tcp::Instant;

/// A socket that takes connections, as [`std::net::TcpListener`] does.
///
/// Made by [`Stack::bind`] or [`TcpSocket::listen`](super::TcpSocket::listen). Dropped, it stops listening on all shards;
/// connections that nobody accepted are reset.
///
/// ```
/// use std::io::{Read, Write};
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
/// let listener = server.bind("10.0.0.2:7")?;
/// std::thread::spawn(move || {
///     for stream in listener.incoming() {
///         let Ok(mut stream) = stream else { break };
///         std::thread::spawn(move || std::io::copy(&mut stream.try_clone()?, &mut stream));
///     }
/// });
/// let mut stream = client.connect("10.0.0.2:7")?;
/// stream.write_all(b"echo")?;
/// let mut got = [0; 4];
/// stream.read_exact(&mut got)?;
/// assert_eq!(&got, b"echo");
/// # Ok(())
/// # }
/// ```
pub struct TcpListener {
    inner: Arc<Inner>,
    /// With a `mio::Registry`, if the listener is in one itself.
    descriptor: Descriptor,
}

/// As that of [`std::net::TcpListener`], with how many connections wait to be accepted, and how many may, in the place of
/// the descriptor: `TcpListener { addr: 10.0.0.2:80, queued: 0, backlog: 4096 }`.
impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listening = &self.inner.listening;
        let mut listener = f.debug_struct("TcpListener");
        listener.field("addr", &listening.local);
        listener.field("queued", &listening.queued.load(Ordering::Relaxed)).field("backlog", &listening.backlog);
        if listening.stopped.load(Ordering::Relaxed) {
            listener.field("stopped", &true);
        }
        listener.finish()
    }
}

struct Inner {
    stack: Stack,
    listening: Arc<Listening>,
    order: Mutex<Order>,
    nonblocking: AtomicBool,
}

impl TcpListener {
    /// Listens on every shard; returns when all of them do.
    pub(crate) fn open(
        stack: &Stack,
        local: SocketAddr,
        backlog: usize,
        options: ListenOptions,
        initial: Initial,
    ) -> io::Result<Self> {
        let shards = stack.mails().len();
        let listening = Arc::new(Listening {
            tag: stack.new_tag(),
            local,
            backlog,
            ttl: AtomicU8::new(options.ttl.unwrap_or(crate::wire::ip::DEFAULT_TTL)),
            half_open: (0..shards).map(|_| News::default()).collect(),
            ready: SegQueue::new(),
            queued: AtomicUsize::new(0),
            // One more than it says, as Linux has it.
            places: Arc::new(AcceptQueue::new(backlog.saturating_add(1))),
            options,
            initial,
            waiting: Waiters::default(),
            watch: ArcSwapOption::empty(),
            stopped: AtomicBool::new(false),
        });
        let (done, answers) = crossbeam::channel::bounded(shards);
        for mail in stack.mails() {
            let opening = Opening { listening: Arc::clone(&listening), done: done.clone() };
            if !mail.send(Command::Listen(Box::new(opening))) {
                stack.release_port(local);
                return Err(super::stack::stopped());
            }
        }
        drop(done);
        // From here on a failure undoes what has succeeded, by the drop of `inner`.
        let inner = Arc::new(Inner {
            stack: stack.clone(),
            listening,
            order: Mutex::new(Order::default()),
            nonblocking: AtomicBool::new(!stack.may_wait()),
        });
        if !stack.may_wait() {
            // What could be wrong has been looked at before.
            return Ok(Self::of(inner));
        }
        for _ in 0..shards {
            match stack.answer(&answers) {
                Some(Ok(())) => {}
                Some(Err(ListenError::AddressInUse)) => return Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
                Some(Err(_)) => return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL)),
                None => return Err(super::stack::stopped()),
            }
        }
        Ok(Self::of(inner))
    }

    fn of(inner: Arc<Inner>) -> Self {
        Self { inner, descriptor: Descriptor::default() }
    }

    /// Waits for a connection and takes it: the stream and the peer's address.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when non-blocking and nothing is ready; `ConnectionAborted` when the engine has stopped.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let listening = &self.inner.listening;
        loop {
            let deadline = match self.take() {
                Next::Ready(ready) => return Ok(self.accepted(ready)),
                Next::Held(until) => Some(until),
                Next::Nothing => None,
            };
            if listening.stopped.load(Ordering::Acquire) {
                return Err(super::stack::stopped());
            }
            if self.inner.nonblocking.load(Ordering::Relaxed) {
                if let Some(at) = deadline {
                    self.remind(at);
                }
                return Err(io::Error::from_raw_os_error(libc::EAGAIN));
            }
            match deadline {
                None => {
                    listening.waiting.wait(None, || listening.is_ready());
                }
                Some(until) => {
                    let left = until.saturating_since(self.inner.stack.now());
                    std::thread::sleep(time::Duration::from_nanos(left.as_nanos()).min(time::Duration::from_millis(2)));
                }
            }
        }
    }

    /// As [`accept`](Self::accept), for a task: cancel safe, no connection is lost. `wait` looks as
    /// [`Waiters::poll`] does, in whatever place.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_accept(
        &self,
        mut wait: impl FnMut(&dyn Fn() -> bool) -> Poll<()>,
    ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let listening = &self.inner.listening;
        loop {
            match self.take() {
                Next::Ready(ready) => return Poll::Ready(Ok(self.accepted(ready))),
                Next::Held(at) => {
                    // First the place: the reminder may come at once.
                    let _ = wait(&|| false);
                    self.remind(at);
                    return Poll::Pending;
                }
                Next::Nothing if listening.stopped.load(Ordering::Acquire) => {
                    return Poll::Ready(Err(super::stack::stopped()));
                }
                Next::Nothing => {
                    if wait(&|| listening.is_ready()).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn take(&self) -> Next {
        let mut order = self.inner.order.lock().unwrap_or_else(PoisonError::into_inner);
        order.learn(&self.inner.listening);
        order.next(self.inner.stack.now())
    }

    fn accepted(&self, ready: Ready) -> (TcpStream, SocketAddr) {
        let listening = &self.inner.listening;
        listening.queued.fetch_sub(1, Ordering::AcqRel);
        listening.places.leave();
        let remote = ready.handle.socket.remote;
        (TcpStream::new(ready.handle), remote)
    }

    /// Has the listener's watchers called at `at`: until then what is ready is held back.
    fn remind(&self, at: Instant) {
        let tag = self.inner.listening.tag;
        self.inner.stack.mails()[0].send(Command::Remind { tag, at });
    }

    /// An endless iterator over [`accept`](Self::accept).
    #[must_use]
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// The address it listens on; the port is never 0.
    ///
    /// # Errors
    ///
    /// Never; as `std` has it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.inner.listening.local)
    }

    /// Another handle on the same listener.
    ///
    /// # Errors
    ///
    /// Never; as `std` has it.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::of(Arc::clone(&self.inner)))
    }

    /// Makes [`accept`](Self::accept) return `WouldBlock` instead of waiting, for all clones.
    ///
    /// # Errors
    ///
    /// `Unsupported`: it is to wait, and its [embedded](crate::embed) host shares the thread.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        if !nonblocking && !self.inner.stack.may_wait() {
            return Err(super::stack::must_not_wait());
        }
        self.inner.nonblocking.store(nonblocking, Ordering::Relaxed);
        Ok(())
    }

    /// TTL or hop limit of the connections it accepts from now on (IP_TTL).
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless from 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = u8::try_from(ttl).ok().filter(|ttl| *ttl > 0);
        let ttl = ttl.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        self.inner.listening.ttl.store(ttl, Ordering::Relaxed);
        let local = Endpoint::from(self.inner.listening.local);
        for mail in self.inner.stack.mails() {
            mail.send(Command::ListenTtl { local, tag: self.inner.listening.tag, ttl });
        }
        Ok(())
    }

    /// See [`set_ttl`](Self::set_ttl).
    ///
    /// # Errors
    ///
    /// Never; as `std` has it.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(self.inner.listening.ttl.load(Ordering::Relaxed).into())
    }

    /// Would let a SYN carry octets (TCP_FASTOPEN, RFC 7413), for so many connections at a time; 0: none.
    ///
    /// # Errors
    ///
    /// `Unsupported` unless 0: there is no fast open here yet.
    pub fn set_fastopen(&self, backlog: u32) -> io::Result<()> {
        super::options::no_fastopen(backlog > 0)
    }

    /// The pending error; a listener has none.
    ///
    /// # Errors
    ///
    /// Never; as `std` has it.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    pub(crate) fn listening(&self) -> &Arc<Listening> {
        &self.inner.listening
    }
}

/// In a `mio::Registry` itself, at the price of a descriptor; an [`EventQueue`](super::EventQueue) has one for all
/// sockets. Events are edges: after one, accept until `WouldBlock`.
impl event::Source for TcpListener {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        let mut descriptor = std::mem::take(&mut self.descriptor);
        let result = descriptor.register(self, registry, token, interests);
        self.descriptor = descriptor;
        result
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        let mut descriptor = std::mem::take(&mut self.descriptor);
        let result = descriptor.reregister(self, registry, token, interests);
        self.descriptor = descriptor;
        result
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        let mut descriptor = std::mem::take(&mut self.descriptor);
        descriptor.deregister(self, registry)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // As Linux does: what nobody accepted is reset.
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let local = Endpoint::from(self.listening.local);
        let (done, answers) = crossbeam::channel::bounded(self.stack.mails().len());
        for mail in self.stack.mails() {
            mail.send(Command::Unlisten { local, tag: self.listening.tag, done: done.clone() });
        }
        drop(done);
        if self.stack.may_wait() {
            for _ in self.stack.mails() {
                self.stack.answer(&answers);
            }
        }
        order.learn(&self.listening);
        for ready in order.ready() {
            ready.handle.settings.set_linger(Some(time::Duration::ZERO));
        }
        self.stack.release_port(self.listening.local);
    }
}

/// Connections of a [`TcpListener`], one after the other, without end.
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}
