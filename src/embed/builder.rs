//! [`Builder`]: what a host is made of.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use super::Host;
use super::driver::{Driver, sole_owner};
use crate::device::Capabilities;
use crate::flow::ShardId;
use crate::net::{Mail, Parts, Reader, SocketLimits, Stack};
use crate::shard::{Limits, Offload, Route, Routes, Secrets, Service, ShardConfig, ShardShared};
use crate::steering::SteeringKeys;
use crate::tcp::cookie::SynCookies;
use crate::tcp::{self, ConfigError, CongestionControl, Instant};

/// Why no host could be built.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Something is missing or out of bounds.
    #[error("{0}")]
    Options(&'static str),
    /// A setting of TCP is wrong.
    #[error("TCP settings: {0}")]
    Config(#[from] ConfigError),
    /// The kernel gave no random numbers.
    #[error("no random numbers from the kernel: {0}")]
    Random(String),
}

debug_as_display!(BuildError);

impl From<BuildError> for std::io::Error {
    fn from(error: BuildError) -> Self {
        Self::other(error)
    }
}

/// How a host is to be; made by [`Host::builder`].
///
/// ```
/// use std::net::Ipv4Addr;
///
/// use trust::embed::Host;
/// use trust::net::SocketLimits;
/// use trust::tcp::Instant;
///
/// # fn main() -> Result<(), trust::embed::BuildError> {
/// let host = Host::builder()
///     .address(Ipv4Addr::new(10, 0, 0, 1))
///     .mtu(9_000)
///     .sockets(SocketLimits { send_queue: 16 << 10, receive_queue: 16 << 10, ..SocketLimits::default() })
///     .seed(7) // The same calls give the same history.
///     .build(Instant::ZERO)?;
/// assert_eq!(host.stack().addresses().len(), 1);
///
/// let refused = Host::builder().build(Instant::ZERO).unwrap_err();
/// assert_eq!(refused.to_string(), "a host needs an address: Builder::address");
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    addresses: Vec<IpAddr>,
    routes: Option<Routes>,
    mtu: u16,
    offload: Offload,
    limits: Limits,
    tcp: tcp::Config,
    sockets: SocketLimits,
    send_chunks: u32,
    tx_ring: usize,
    inbox: usize,
    secrets: Option<Secrets>,
    log_connections: bool,
    log_segments: bool,
    services: Vec<(Option<u16>, Box<dyn Service>)>,
    waker: Option<Waker>,
    independent: bool,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("addresses", &self.addresses).field("mtu", &self.mtu).finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            routes: None,
            mtu: 1_500,
            offload: Offload::default(),
            limits: Limits::default(),
            tcp: tcp::Config::default(),
            sockets: SocketLimits::default(),
            send_chunks: 1_024,
            tx_ring: 256,
            inbox: 4_096,
            secrets: None,
            log_connections: false,
            log_segments: false,
            services: Vec::new(),
            waker: None,
            independent: false,
        }
    }
}

impl Builder {
    /// An address of the host; called again, it has several.
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// A route out of the host. Before the first one every remote host is taken for reachable, from our first address of
    /// its family; from then on a connection to a host that no route has fails with `NetworkUnreachable`.
    pub fn route(mut self, route: Route) -> Self {
        self.routes.get_or_insert_with(Routes::none).add(route);
        self
    }

    /// Largest IP packet of the link, from 576 (with an IPv6 address 1,280) to 65,535 octets. Default 1,500.
    pub fn mtu(mut self, mtu: u16) -> Self {
        self.mtu = mtu;
        self
    }

    /// What the queues that [`Host::poll_into`] and [`Host::poll_queues`] send through do by themselves. Default:
    /// nothing, they get whole wire packets.
    pub fn offload(mut self, offload: Offload) -> Self {
        self.offload = offload;
        self
    }

    /// [`mtu`](Self::mtu) and [`offload`](Self::offload) of a device whose queues the host is polled with.
    pub fn capabilities(self, granted: Capabilities) -> Self {
        self.mtu(granted.mtu).offload(granted.offload())
    }

    /// Bounds on what the host holds.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// When SYNs are answered with cookies. Default: when there is no place for a half-open record.
    pub fn syn_cookies(mut self, mode: SynCookies) -> Self {
        self.limits.syn_cookies = mode;
        self
    }

    /// All tunables of connections.
    pub fn tcp(mut self, tcp: tcp::Config) -> Self {
        self.tcp = tcp;
        self
    }

    /// Congestion control of new connections (default CUBIC).
    pub fn congestion(mut self, congestion: CongestionControl) -> Self {
        self.tcp.congestion = congestion;
        self
    }

    /// Sizes of sockets' queues.
    pub fn sockets(mut self, sockets: SocketLimits) -> Self {
        self.sockets = sockets;
        self
    }

    /// Send memory of all connections, in chunks of 64 KiB that are touched when first used. Default 1,024.
    pub fn send_chunks(mut self, chunks: u32) -> Self {
        self.send_chunks = chunks;
        self
    }

    /// Packets that wait for the next poll; what comes beyond is dropped. Default 4,096: a window of several megabytes that
    /// arrives between two polls.
    pub fn inbox(mut self, packets: usize) -> Self {
        self.inbox = packets;
        self
    }

    /// Draws all secrets from a seed: the same calls then give the same history. For tests and simulations.
    pub fn seed(self, seed: u64) -> Self {
        self.secrets(Secrets::from_seed(seed))
    }

    /// The host's secrets. Default: random ones from the kernel.
    pub fn secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = Some(secrets);
        self
    }

    /// One `tracing` event when a connection opens and one when it ends.
    pub fn log_connections(mut self, log: bool) -> Self {
        self.log_connections = log;
        self
    }

    /// One `tracing` event for each segment.
    pub fn log_segments(mut self, log: bool) -> Self {
        self.log_segments = log;
        self
    }

    /// A service inside the shard, on a port of all addresses or (`None`) for what it opens by itself.
    pub fn service(mut self, port: Option<u16>, service: Box<dyn Service>) -> Self {
        self.services.push((port, service));
        self
    }

    /// Called when a socket has left something to do while nobody polls: once until the next poll. On the thread that
    /// uses the socket.
    pub fn waker(mut self, waker: Waker) -> Self {
        self.waker = Some(waker);
        self
    }

    /// Another thread than those with sockets polls the host: these may then block. Give the host a
    /// [`waker`](Self::waker) that makes that thread poll, or they wait for its next poll; when it polls no more they wait
    /// for ever, until the host is dropped.
    pub fn polled_elsewhere(mut self) -> Self {
        self.independent = true;
        self
    }

    /// The host, at `now` of the caller's clock.
    ///
    /// # Errors
    ///
    /// See [`BuildError`].
    pub fn build(self, now: Instant) -> Result<Host, BuildError> {
        if self.addresses.is_empty() {
            return Err(BuildError::Options("a host needs an address: Builder::address"));
        }
        if self.mtu < 576 {
            return Err(BuildError::Options("the MTU must be at least 576"));
        }
        if self.mtu < 1_280 && self.addresses.iter().any(IpAddr::is_ipv6) {
            return Err(BuildError::Options("the MTU must be at least 1280 with IPv6 (RFC 8200 section 5)"));
        }
        let routes = self.routes.unwrap_or_default();
        let secrets = self.secrets.map_or_else(Secrets::random, Ok);
        let secrets = secrets.map_err(|error| BuildError::Random(error.to_string()))?;
        // One shard owns everything, whatever the key.
        let (keys, owners) = (SteeringKeys::from_random([0; 16]), sole_owner());
        let config = ShardConfig {
            routes: routes.clone(),
            mtu: self.mtu,
            // Whoever cuts and sums: see `Cutter`.
            offload: Offload { checksum: true, tso4: true, tso6: true },
            limits: self.limits,
            tcp: self.tcp,
            log_connections: self.log_connections,
            log_segments: self.log_segments,
            ..ShardConfig::sole(self.addresses.clone())
        };
        let shared = ShardShared::new(keys, Arc::clone(&owners), &secrets);
        let mut driver = Driver::new(config, shared, self.send_chunks.max(1), self.tx_ring, now)?;
        let time = Arc::new(AtomicU64::new(now.as_nanos()));
        let clock = Arc::clone(&time);
        let mail = Arc::new(Mail::new(Reader::Embedder { waker: self.waker, independent: self.independent }));
        let stack = Stack::new(Parts {
            mails: vec![Arc::clone(&mail)],
            addresses: self.addresses,
            keys,
            owners,
            now: Arc::new(move || Instant::from_nanos(clock.load(Ordering::Relaxed))),
            limits: self.sockets,
            seed: secrets.ports,
            routes,
            service_ports: self.services.iter().filter_map(|(port, _)| *port).collect(),
        });
        for (port, service) in self.services {
            driver.shard.add_service(port, service);
        }
        driver.shard.add_service(None, Box::new(stack.agent(ShardId(0))));
        Ok(Host::new(driver, stack, mail, time, self.offload, self.inbox.max(1)))
    }
}
