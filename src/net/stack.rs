//! [`Stack`]: what applications open sockets on; and [`TcpSocket`]: a socket before it is connected or listens.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::listener::TcpListener;
use super::mail::{Command, Mail};
use super::options::{ConnectOptions, Settings};
use super::socket::{Birth, Capacities, is, socket, want};
use super::stream::TcpStream;
use crate::buffer::octets::OctetBudget;
use crate::flow::{EPHEMERAL_PORTS, Endpoint, OwnerTable, Quad, ShardId, SteeringKeys};
use crate::shard::{ListenOptions, Routes};
use crate::tcp::Instant;

/// Completed connections that a listener keeps for `accept` unless told otherwise (Linux: net.core.somaxconn).
pub const BACKLOG: usize = 4_096;

/// How the sockets of one engine are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketLimits {
    /// Octets that a socket's send queue holds beside the connection's send buffer. Default 128 KiB.
    pub send_queue: usize,
    /// Octets that a socket's receive queue holds beside the connection's receive buffer. Default 128 KiB.
    pub receive_queue: usize,
    /// Octets in all queues of all sockets. Default 1 GiB.
    pub queued: usize,
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self { send_queue: 128 << 10, receive_queue: 128 << 10, queued: 1 << 30 }
    }
}

/// Tells the engine's time.
pub(crate) type Now = Arc<dyn Fn() -> Instant + Send + Sync>;

/// A handle on an engine's or an [embedded](crate::embed) host's TCP for applications. Cheap to clone; outlives the engine,
/// after which every call fails.
///
/// ```
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
/// // `server` and `client` are the stacks of two engines: clones go to any thread.
/// let listener = server.bind("10.0.0.2:80")?;
/// let connecting = std::thread::spawn(move || client.connect("10.0.0.2:80"));
/// let (_stream, from) = listener.accept()?;
/// let connected = connecting.join().expect("no panic")?;
/// assert_eq!(connected.local_addr()?, from);
/// assert_eq!(server.bind("10.0.0.2:80").unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Stack {
    shared: Arc<Shared>,
}

/// What a stack is made of.
pub(crate) struct Parts {
    /// One for each shard.
    pub(crate) mails: Vec<Arc<Mail>>,
    /// Our own.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) keys: SteeringKeys,
    pub(crate) owners: Arc<OwnerTable>,
    pub(crate) now: Now,
    pub(crate) limits: SocketLimits,
    /// Of the choice of ports.
    pub(crate) seed: u64,
    /// As the shards have them.
    pub(crate) routes: Routes,
    /// Ports on which services listen.
    pub(crate) service_ports: HashSet<u16>,
}

struct Shared {
    mails: Vec<Arc<Mail>>,
    addresses: Vec<IpAddr>,
    routes: Routes,
    keys: SteeringKeys,
    owners: Arc<OwnerTable>,
    now: Now,
    budget: Arc<OctetBudget>,
    capacities: Capacities,
    /// Addresses that listeners have.
    listening: Mutex<HashSet<SocketAddr>>,
    service_ports: HashSet<u16>,
    next_shard: AtomicUsize,
    next_tag: AtomicU64,
    next_port: AtomicUsize,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").field("addresses", &self.shared.addresses).finish_non_exhaustive()
    }
}

/// All calls after the engine has gone.
pub(crate) fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the engine has stopped")
}

/// A call that would have to wait for a host which only its own thread polls.
pub(crate) fn must_not_wait() -> io::Error {
    let text = "the thread that would wait polls this embedded host: only non-blocking calls can be made";
    io::Error::new(io::ErrorKind::Unsupported, text)
}

impl Stack {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { mails, addresses, keys, owners, now, limits, seed, routes, service_ports } = parts;
        let capacities = Capacities { send: limits.send_queue.max(1), receive: limits.receive_queue.max(1) };
        let shared = Shared {
            mails,
            addresses,
            routes,
            keys,
            owners,
            now,
            budget: Arc::new(OctetBudget::new(limits.queued)),
            capacities,
            listening: Mutex::default(),
            service_ports,
            next_shard: AtomicUsize::new(0),
            next_tag: AtomicU64::new(1),
            next_port: AtomicUsize::new(seed as usize),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The agent that serves this stack's sockets on one shard.
    pub(crate) fn agent(&self, shard: ShardId) -> super::agent::Agent {
        let shared = &self.shared;
        let mail = Arc::clone(&shared.mails[shard.index()]);
        super::agent::Agent::new(mail, Arc::clone(&shared.budget), shared.capacities)
    }

    pub(crate) fn mails(&self) -> &[Arc<Mail>] {
        &self.shared.mails
    }

    /// Whether a call may wait for a shard; see [`Mail::may_wait`].
    pub(crate) fn may_wait(&self) -> bool {
        self.shared.mails.iter().all(|mail| mail.may_wait())
    }

    pub(crate) fn now(&self) -> Instant {
        (self.shared.now)()
    }

    pub(crate) fn new_tag(&self) -> u64 {
        self.shared.next_tag.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits for a shard's answer; `None`: the engine has stopped.
    pub(crate) fn answer<T>(&self, answers: &Receiver<T>) -> Option<T> {
        loop {
            match answers.recv_timeout(Duration::from_millis(100)) {
                Ok(answer) => return Some(answer),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.shared.mails.iter().all(|mail| mail.is_closed()) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Our own addresses.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.shared.addresses
    }

    /// Octets that lie in the queues of all sockets, as memory held.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.budget.in_use()
    }

    /// Listens on the first of the given addresses that can be had, with the usual backlog. Port 0 chooses one; an
    /// unspecified address (0.0.0.0) stands for all of ours. When it returns every shard listens; an
    /// [embedded](crate::embed) host does from its next poll on, before it looks at packets.
    ///
    /// # Errors
    ///
    /// `AddrInUse`, `AddrNotAvailable` (not ours), `InvalidInput` (no address given), or the engine has stopped.
    pub fn bind(&self, address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        each(address, |address| TcpSocket::new(self).bind(address)?.listen(BACKLOG))
    }

    /// Connects to the first of the given addresses that answers.
    ///
    /// # Errors
    ///
    /// As [`std::net::TcpStream::connect`]: `ConnectionRefused`, `TimedOut`, `NetworkUnreachable`...; `Unsupported` on an
    /// [embedded](crate::embed) host that shares its thread: see [`TcpSocket::connect_nonblocking`].
    pub fn connect(&self, address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        each(address, |address| TcpSocket::new(self).connect(address))
    }

    /// As [`connect`](Self::connect) to one address, for a limited time.
    ///
    /// # Errors
    ///
    /// `TimedOut`; `InvalidInput` for a duration of zero; as `connect`.
    pub fn connect_timeout(&self, address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
        }
        TcpSocket::new(self).connect_until(*address, std::time::Instant::now().checked_add(timeout))
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        let same_family = |ours: &IpAddr| ours.is_ipv4() == address.is_ipv4();
        self.shared.addresses.contains(&address)
            || (address.is_unspecified() && self.shared.addresses.iter().any(same_family))
    }

    /// Reserves an address to listen on.
    fn reserve(&self, local: SocketAddr) -> io::Result<SocketAddr> {
        let mut listening = self.shared.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = |address: SocketAddr, listening: &HashSet<SocketAddr>| {
            let any: IpAddr =
                if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            listening.contains(&SocketAddr::new(any, address.port()))
                || listening.contains(&address)
                || (address.ip().is_unspecified()
                    && (self.shared.service_ports.contains(&address.port())
                        || listening.iter().any(|other| other.port() == address.port())))
        };
        let chosen = if local.port() == 0 {
            let count = usize::from(EPHEMERAL_PORTS.end() - EPHEMERAL_PORTS.start()) + 1;
            let start = self.shared.next_port.fetch_add(0x9e37, Ordering::Relaxed);
            (0..count)
                .map(|step| SocketAddr::new(local.ip(), EPHEMERAL_PORTS.start() + ((start + step) % count) as u16))
                .find(|address| !taken(*address, &listening))
                .ok_or_else(|| io::Error::from_raw_os_error(libc::EADDRINUSE))?
        } else if taken(local, &listening) {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        } else {
            local
        };
        listening.insert(chosen);
        Ok(chosen)
    }

    pub(crate) fn release_port(&self, local: SocketAddr) {
        self.shared.listening.lock().unwrap_or_else(PoisonError::into_inner).remove(&local);
    }

    /// The shard that is to carry a connection: the quad's owner where our port is fixed, else the next one in turn.
    fn shard_for(&self, local: Option<SocketAddr>, remote: SocketAddr) -> ShardId {
        match local {
            Some(local) if local.port() != 0 => {
                let quad = Quad { local: self.source(local, remote), remote: remote.into() };
                self.shared.owners.owner(self.shared.keys.hash_quad(&quad))
            }
            _ => {
                let next = self.shared.next_shard.fetch_add(1, Ordering::Relaxed);
                ShardId((next % self.shared.mails.len()) as u16)
            }
        }
    }

    /// The local end with its address filled in: the one that the route to the remote end says.
    fn source(&self, local: SocketAddr, remote: SocketAddr) -> Endpoint {
        let addr = if local.ip().is_unspecified() {
            // Without a route any will do: the shard refuses.
            self.shared.routes.source(remote.ip(), &self.shared.addresses).ok().flatten().unwrap_or(local.ip())
        } else {
            local.ip()
        };
        Endpoint::new(addr, local.port())
    }
}

fn each<T>(address: impl ToSocketAddrs, mut attempt: impl FnMut(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let mut last = None;
    for address in address.to_socket_addrs()? {
        match attempt(address) {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(no_address))
}

pub(crate) fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any addresses")
}

/// A socket that is not connected yet: options, a local address, then [`connect`](Self::connect) or
/// [`listen`](Self::listen).
///
/// ```
/// use trust::net::TcpSocket;
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
/// let any_port = TcpSocket::new(&server).bind("10.0.0.2:0".parse().expect("an address"))?;
/// let listener = any_port.listen(16)?;
///
/// let mut socket = TcpSocket::new(&client).bind("10.0.0.1:4000".parse().expect("an address"))?;
/// socket.options_mut().syn_retries = Some(2);
/// let stream = socket.connect(listener.local_addr()?)?;
/// assert_eq!(stream.local_addr()?.port(), 4000);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TcpSocket {
    stack: Stack,
    local: Option<SocketAddr>,
    options: ConnectOptions,
}

impl TcpSocket {
    /// A socket of `stack`.
    #[must_use]
    pub fn new(stack: &Stack) -> Self {
        Self { stack: stack.clone(), local: None, options: ConnectOptions::default() }
    }

    /// Gives it a local address; port 0 leaves the choice open.
    ///
    /// # Errors
    ///
    /// `AddrNotAvailable`: the address is not ours.
    pub fn bind(mut self, local: SocketAddr) -> io::Result<Self> {
        if !self.stack.is_ours(local.ip()) {
            return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
        }
        self.local = Some(local);
        Ok(self)
    }

    /// Options for connections that this socket opens; TTL, DSCP and segment size also for those it accepts.
    pub fn options_mut(&mut self) -> &mut ConnectOptions {
        &mut self.options
    }

    /// Would send the first octets with the SYN (TCP_FASTOPEN_CONNECT, RFC 7413).
    ///
    /// # Errors
    ///
    /// `Unsupported` unless `false`: there is no fast open here yet.
    pub fn set_fastopen_connect(&mut self, on: bool) -> io::Result<()> {
        super::options::no_fastopen(on)
    }

    /// Listens; up to `backlog` completed connections wait for `accept`.
    ///
    /// # Errors
    ///
    /// `AddrInUse`; `InvalidInput` without a local address; or the engine has stopped.
    pub fn listen(self, backlog: usize) -> io::Result<TcpListener> {
        let local = self.local.ok_or(io::ErrorKind::InvalidInput)?;
        let local = self.stack.reserve(local)?;
        let ConnectOptions { ttl, tos, mss, .. } = self.options;
        TcpListener::open(&self.stack, local, backlog, ListenOptions { ttl, tos, mss })
    }

    /// Connects and waits for it.
    ///
    /// # Errors
    ///
    /// See [`Stack::connect`].
    pub fn connect(self, remote: SocketAddr) -> io::Result<TcpStream> {
        self.connect_until(remote, None)
    }

    fn connect_until(self, remote: SocketAddr, deadline: Option<std::time::Instant>) -> io::Result<TcpStream> {
        if !self.stack.may_wait() {
            return Err(must_not_wait());
        }
        let stream = self.start(remote)?;
        let socket = &stream.handle().socket;
        let settled = || socket.state() & (is::CONNECTED | is::CLOSED) != 0;
        if !socket.writing.wait(deadline, settled) {
            socket.ring(want::ABORT);
            return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        }
        if socket.state() & is::CONNECTED == 0 {
            return Err(socket.take_error().unwrap_or_else(stopped));
        }
        Ok(stream)
    }

    /// Connects without waiting: the stream, non-blocking, becomes writable when the handshake is complete or has failed;
    /// `take_error` then tells which. Our own end is known at once, on an [embedded](crate::embed) host that shares its
    /// thread after the next poll.
    ///
    /// # Errors
    ///
    /// When no connection can be tried at all.
    pub fn connect_nonblocking(self, remote: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.start(remote)?;
        stream.set_nonblocking(true)?;
        stream.handle().settings.connecting();
        Ok(stream)
    }

    fn start(self, remote: SocketAddr) -> io::Result<TcpStream> {
        let Self { stack, local, mut options } = self;
        let first = stack.shard_for(local, remote).index();
        options.local = local.map(|local| stack.source(local, remote));
        let mails = stack.mails();
        // Where the choice of the port is ours, another shard may have one.
        let others = if local.is_none_or(|local| local.port() == 0) { mails.len() } else { 1 };
        let mut stream = Self::start_on(&stack, &mails[first], remote, &options)?;
        for next in 1..others {
            if !stream.handle().socket.found_no_port() {
                break;
            }
            stream = Self::start_on(&stack, &mails[(first + next) % mails.len()], remote, &options)?;
        }
        Ok(stream)
    }

    fn start_on(
        stack: &Stack,
        mail: &Arc<Mail>,
        remote: SocketAddr,
        options: &ConnectOptions,
    ) -> io::Result<TcpStream> {
        let (handle, end) = socket(mail, remote, stack.shared.capacities, &stack.shared.budget, Settings::default());
        if !mail.send(Command::Connect(Box::new(Birth { end, remote: remote.into(), options: *options }))) {
            return Err(stopped());
        }
        let stream = TcpStream::new(handle);
        // The shard chooses our end in its next turn: known when this returns, as with the kernel, if somebody else runs
        // the shard meanwhile.
        let socket = &stream.handle().socket;
        if mail.may_wait() {
            socket.writing.wait(None, || socket.local.get().is_some() || socket.state() & is::CLOSED != 0);
        }
        Ok(stream)
    }
}
