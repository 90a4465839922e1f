//! [`Stack`]: what applications open sockets on, and what all sockets of an engine share.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::agent::Agent;
use super::command::Mail;
use super::settings::Initial;
use super::socket::{Capacities, End, Handle, socket};
use crate::buffer::octets::OctetBudget;
use crate::flow::{Endpoint, Quad, ShardId};
use crate::shard::Routes;
use crate::steering::{EPHEMERAL_PORTS, OwnerTable, SteeringKeys};
use crate::tcp::Instant;

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
        let mut stack = f.debug_struct("Stack");
        stack.field("addresses", &self.shared.addresses);
        if self.shared.mails.iter().any(|mail| mail.is_closed()) {
            stack.field("stopped", &true);
        }
        stack.finish_non_exhaustive()
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
    pub(crate) fn agent(&self, shard: ShardId) -> Agent {
        let shared = &self.shared;
        let mail = Arc::clone(&shared.mails[shard.index()]);
        Agent::new(mail, Arc::clone(&shared.budget), shared.capacities)
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

    pub(super) fn is_ours(&self, address: IpAddr) -> bool {
        let same_family = |ours: &IpAddr| ours.is_ipv4() == address.is_ipv4();
        self.shared.addresses.contains(&address)
            || (address.is_unspecified() && self.shared.addresses.iter().any(same_family))
    }

    /// Reserves an address to listen on.
    pub(super) fn reserve(&self, local: SocketAddr) -> io::Result<SocketAddr> {
        let mut listening = self.shared.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = |address: SocketAddr, listening: &HashSet<SocketAddr>| {
            let any: IpAddr =
                if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            listening.contains(&SocketAddr::new(any, address.port()))
                || listening.contains(&address)
                || (address.ip().is_unspecified()
                    && (self.shared.service_ports.contains(&address.port())
                        || listening
                            .iter()
                            .any(|other| other.port() == address.port() && other.is_ipv4() == address.is_ipv4())))
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
    pub(super) fn shard_for(&self, local: Option<SocketAddr>, remote: SocketAddr) -> ShardId {
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

    /// Both ends of a socket for a connection to `remote` that a shard is to open.
    pub(super) fn socket_on(&self, mail: &Arc<Mail>, remote: SocketAddr, initial: &Initial) -> (Handle, End) {
        socket(mail.clone(), remote, self.shared.capacities, &self.shared.budget, initial)
    }

    /// The local end with its address filled in: the one that the route to the remote end says.
    pub(super) fn source(&self, local: SocketAddr, remote: SocketAddr) -> Endpoint {
        let addr = if local.ip().is_unspecified() {
            // Without a route any will do: the shard refuses.
            self.shared.routes.source(remote.ip(), &self.shared.addresses).ok().flatten().unwrap_or(local.ip())
        } else {
            local.ip()
        };
        Endpoint::new(addr, local.port())
    }
}
