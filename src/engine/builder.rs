//! [`Builder`]: from a few words to a running engine.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use super::error::EngineError;
use super::factory::ServiceFactory;
use super::plan::{Pin, Plan, PlanError, PlanKind, usable_cpus};
use super::running::Engine;
use crate::config::{EngineConfig, Steer};
use crate::device::tun::MAX_QUEUES;
use crate::device::{AddressError, Device, DeviceError, HostAddress, TunDevice, TunOptions, no_host};
use crate::net::SocketLimits;
use crate::shard::{Limits, PrefixError, Route, Routes};
use crate::tcp::cookie::SynCookies;
use crate::tcp::{self, CongestionControl};

/// Why no engine could be built.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The stages cannot be laid out so.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The engine did not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// One of our addresses cannot be, or leaves nothing for the kernel's side.
    #[error("{address}: {why}")]
    Address {
        /// The one.
        address: IpAddr,
        /// Why not, and what to take.
        why: AddressError,
    },
    /// Something is missing or contradictory.
    #[error("{0}")]
    Options(&'static str),
}

debug_as_display!(BuildError);

impl BuildError {
    /// What it is as an error of a socket: a name that is taken `AddrInUse`, a right that is missing `PermissionDenied`...
    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Device(error) => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::Plan(_) | Self::Address { .. } | Self::Options(_) => io::ErrorKind::InvalidInput,
        }
    }
}

/// `AddrInUse`: the device's name is taken; `PermissionDenied`: rights are missing; `InvalidInput`: what was asked for cannot
/// be; else what the kernel said. The error itself is inside; a `main` that returns it, or `Box<dyn Error>`, prints its
/// sentence alone, and one that returns an `io::Result` the kind besides.
impl From<BuildError> for io::Error {
    fn from(error: BuildError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// How an engine is to be; made by [`Engine::builder`].
///
/// Without more words it opens a TUN device `trust0` with 10.7.0.1/24 for the kernel's side and answers for 10.7.0.2.
/// With other [addresses](Self::address) the kernel's side has one in each of their networks: the first that is not ours.
///
/// ```
/// use std::io::ErrorKind;
/// use std::net::IpAddr;
///
/// use trust::device::memory::{MemoryOptions, pair};
/// use trust::engine::{Engine, Pin, PlanKind};
/// use trust::net::SocketLimits;
/// use trust::tcp::CongestionControl;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Without a `device` it would be a TUN device, which takes rights.
/// let (device, _other_end) = pair(&MemoryOptions::default())?;
/// let engine = Engine::builder()
///     .device(device, 1)
///     .network([192, 168, 7, 2].into(), 24)?
///     .plan(PlanKind::Fused)
///     .pin(Pin::None)
///     .congestion(CongestionControl::Reno)
///     .sockets(SocketLimits { queued: 64 << 20, ..SocketLimits::default() })
///     .start()?;
/// assert_eq!(engine.stack().addresses(), [IpAddr::from([192, 168, 7, 2])]);
/// let elsewhere = engine.connect("10.0.0.1:80").unwrap_err();
/// assert_eq!(elsewhere.kind(), ErrorKind::NetworkUnreachable, "no route leads there");
///
/// // What cannot be is refused with what can.
/// let refused = Engine::builder().address([224, 0, 0, 1].into()).start().unwrap_err();
/// let text = "224.0.0.1: multicast, no host's address; take one of a private network, like 10.7.0.2/24 or fd00:7::2/64";
/// assert_eq!(refused.to_string(), text);
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `start`"]
pub struct Builder {
    device: Option<(Box<dyn Device>, usize)>,
    tun: TunOptions,
    plan: PlanKind,
    workers: Option<usize>,
    pin: Pin,
    config: EngineConfig,
    /// An address was named: the default one counts no more, unless it is among them.
    named: bool,
    /// Prefixes of our addresses, where one was said.
    networks: Vec<(IpAddr, u8)>,
    /// `None`: nobody said any.
    kernel: Option<Vec<(IpAddr, u8)>>,
    services: Vec<ServiceFactory>,
    /// `None`: nobody said any.
    routes: Option<Routes>,
}

/// The prefix of an address for which none was said, if the device is to be a TUN device of ours.
fn usual_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 24 } else { 64 }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut builder = f.debug_struct("Builder");
        if self.device.is_none() {
            builder.field("tun", &self.tun.name);
        }
        builder.field("addresses", &self.config.addresses).field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            device: None,
            tun: TunOptions::default(),
            plan: PlanKind::default(),
            workers: None,
            pin: Pin::default(),
            config: EngineConfig::new(vec![IpAddr::V4(Ipv4Addr::new(10, 7, 0, 2))]),
            named: false,
            networks: Vec::new(),
            kernel: None,
            services: Vec::new(),
            routes: None,
        }
    }
}

impl Builder {
    /// Runs on this device, which has so many queues, instead of a TUN device of its own. One worker for each queue,
    /// unless told otherwise.
    pub fn device(mut self, device: impl Device + 'static, queues: usize) -> Self {
        self.device = Some((Box::new(device), queues));
        self
    }

    /// Name of the TUN device (default `trust0`); empty: the kernel picks one.
    pub fn tun(mut self, name: impl Into<String>) -> Self {
        self.tun.name = name.into();
        self
    }

    /// The kernel's address on the TUN device, with the length of its prefix. Called again, the kernel's side has several.
    /// Default: in the network of each address of ours the first that is not ours, so 10.7.0.1/24.
    pub fn kernel_address(mut self, address: IpAddr, prefix: u8) -> Self {
        self.kernel.get_or_insert_default().push((address, prefix));
        self
    }

    /// The engine's own address (default 10.7.0.2), IPv4 or IPv6. Called again, the engine answers for several. On a TUN device
    /// it is in a network of 24 bits, or 64 for IPv6, unless [`network`](Self::network) says another prefix.
    pub fn address(mut self, address: IpAddr) -> Self {
        if !std::mem::replace(&mut self.named, true) {
            self.config.addresses.clear();
        }
        if !self.config.addresses.contains(&address) {
            self.config.addresses.push(address);
        }
        self
    }

    /// An address of the engine's own in a network that lies on the device: as [`address`](Self::address), with a route
    /// to the network's hosts, and connections to them come from this address. Other hosts are reached by
    /// [`route`](Self::route)s only.
    ///
    /// # Errors
    ///
    /// The prefix is longer than the address.
    pub fn network(mut self, address: IpAddr, prefix: u8) -> Result<Self, PrefixError> {
        let route = Route::on_link(address, prefix)?;
        self.networks.push((address, prefix));
        self = self.address(address);
        Ok(self.route(route))
    }

    /// Adds a route. Before the first one every host is taken for reachable, from our first address of its family; from
    /// then on a connection to a host that no route has fails with `NetworkUnreachable`.
    pub fn route(mut self, route: Route) -> Self {
        self.routes.get_or_insert_with(Routes::none).add(route);
        self
    }

    /// Largest IP packet of the TUN device, octets (default 1,500).
    pub fn mtu(mut self, mtu: u16) -> Self {
        self.tun.mtu = mtu;
        self
    }

    /// Whether the TUN device may be asked for checksum offload and super-segments (default: yes).
    pub fn offload(mut self, offload: bool) -> Self {
        self.tun.offload = offload;
        self
    }

    /// How stages are laid out on threads (default: by the number of CPUs).
    pub fn plan(mut self, plan: PlanKind) -> Self {
        self.plan = plan;
        self
    }

    /// Number of workers, and so of shards (default: by the number of CPUs).
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Which CPUs the threads run on.
    pub fn pin(mut self, pin: Pin) -> Self {
        self.pin = pin;
        self
    }

    /// How packets reach the shard that owns their flow.
    pub fn steer(mut self, steer: Steer) -> Self {
        self.config.steer = steer;
        self
    }

    /// Congestion control of new connections (default CUBIC).
    pub fn congestion(mut self, congestion: CongestionControl) -> Self {
        self.config.tcp.congestion = congestion;
        self
    }

    /// All tunables of connections at once.
    pub fn tcp(mut self, tcp: tcp::Config) -> Self {
        self.config.tcp = tcp;
        self
    }

    /// Bounds on each shard.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// When SYNs are answered with cookies. Default: when there is no place for a half-open record.
    pub fn syn_cookies(mut self, mode: SynCookies) -> Self {
        self.config.limits.syn_cookies = mode;
        self
    }

    /// Sizes of sockets' queues.
    pub fn sockets(mut self, sockets: SocketLimits) -> Self {
        self.config.sockets = sockets;
        self
    }

    /// Never park: spin. Takes whole CPUs.
    pub fn busy_poll(mut self, busy_poll: bool) -> Self {
        self.config.busy_poll = busy_poll;
        self
    }

    /// A service inside the shards.
    pub fn service(mut self, service: ServiceFactory) -> Self {
        self.services.push(service);
        self
    }

    /// Changes any other tunable of the engine.
    pub fn configure(mut self, change: impl FnOnce(&mut EngineConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Opens the device and starts the threads. Dropping the engine stops them, [at once](Engine).
    ///
    /// # Errors
    ///
    /// See [`BuildError`].
    pub fn start(self) -> Result<Engine, BuildError> {
        let Self { device, mut tun, plan, workers, pin, mut config, named: _, networks, kernel, services, routes } =
            self;
        if let Some(routes) = routes {
            config.routes = routes;
        }
        if config.addresses.is_empty() {
            return Err(BuildError::Options("an engine needs an address: Builder::address"));
        }
        check(&config.addresses, &networks)?;
        if device.is_none() {
            tun.addresses = match kernel {
                Some(kernel) => beside(kernel, &config.addresses)?,
                None => kernel_sides(&config.addresses, &networks)?,
            };
        }
        let queues = device.as_ref().map_or(usize::from(MAX_QUEUES), |(_, queues)| *queues);
        let workers = if device.is_some() { workers.or(Some(queues)) } else { workers };
        let plan = Plan::new(plan, workers, &pin, &usable_cpus(), queues)?;
        let device = match device {
            Some((device, _)) => device,
            None => {
                tun.queues = plan.queues as u16;
                Box::new(TunDevice::create(&tun)?)
            }
        };
        Ok(Engine::start(config, plan, device, &services)?)
    }
}

impl Engine {
    /// Begins to build an engine. Without a word more it opens a TUN device, which takes rights; here two engines are
    /// joined in memory:
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::Ipv4Addr;
    /// use std::thread;
    /// use trust::device::memory::{MemoryOptions, pair};
    /// use trust::engine::{Engine, Pin};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (a, b) = pair(&MemoryOptions::default())?;
    /// let (here, there) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    /// let server = Engine::builder().device(a, 1).address(there.into()).pin(Pin::None).start()?;
    /// let client = Engine::builder().device(b, 1).address(here.into()).pin(Pin::None).start()?;
    ///
    /// let listener = server.bind((there, 80))?;
    /// let serving = thread::spawn(move || -> std::io::Result<()> {
    ///     let (mut stream, from) = listener.accept()?;
    ///     assert_eq!(from.ip(), here);
    ///     stream.write_all(b"good day")
    /// });
    /// let mut text = String::new();
    /// client.connect((there, 80))?.read_to_string(&mut text)?;
    /// assert_eq!(text, "good day");
    /// serving.join().expect("no panic")?;
    /// # Ok(())
    /// # } // Dropped, an engine stops its threads.
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }
}

/// Refuses what cannot be our address on any device.
fn check(addresses: &[IpAddr], networks: &[(IpAddr, u8)]) -> Result<(), BuildError> {
    for &address in addresses {
        if let Some(why) = no_host(address) {
            return Err(BuildError::Address { address, why: AddressError::NoHost(why) });
        }
    }
    for &(address, prefix) in networks {
        if let Err(why @ (AddressError::Edge(_) | AddressError::Anycast(_))) = HostAddress::new(address, prefix) {
            return Err(BuildError::Address { address, why });
        }
    }
    Ok(())
}

/// Addresses of the kernel's side as they were said.
fn beside(kernel: Vec<(IpAddr, u8)>, ours: &[IpAddr]) -> Result<Vec<(IpAddr, u8)>, BuildError> {
    match ours.iter().find(|address| kernel.iter().any(|(other, _)| other == *address)) {
        Some(&address) => Err(BuildError::Address { address, why: AddressError::Taken }),
        None => Ok(kernel),
    }
}

/// An address for the kernel's side in each network of ours.
fn kernel_sides(addresses: &[IpAddr], networks: &[(IpAddr, u8)]) -> Result<Vec<(IpAddr, u8)>, BuildError> {
    let mut ours: Vec<HostAddress> = Vec::new();
    for &address in addresses {
        let said = networks.iter().find(|(network, _)| *network == address).map(|(_, prefix)| *prefix);
        // Said without one it may lie in a network that is there already.
        let known = || ours.iter().find(|network| network.covers(address)).map(|network| network.prefix());
        let prefix = said.or_else(known).unwrap_or_else(|| usual_prefix(address));
        let network = HostAddress::new(address, prefix).map_err(|why| BuildError::Address { address, why })?;
        ours.push(network);
    }
    match HostAddress::kernel_sides(&ours) {
        Ok(sides) => Ok(sides.iter().map(|side| (side.ip(), side.prefix())).collect()),
        Err((address, why)) => Err(BuildError::Address { address: address.ip(), why }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::memory::{MemoryOptions, pair};

    #[test]
    fn errors_have_kinds_and_speak_of_no_command() {
        let kernel = |errno| io::Error::from_raw_os_error(errno);
        let name = || "trust0".to_owned();
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let cases: [(BuildError, io::ErrorKind); 14] = [
            (DeviceError::NameInUse(name()).into(), io::ErrorKind::AddrInUse),
            (DeviceError::Busy(name()).into(), io::ErrorKind::AddrInUse),
            (DeviceError::NotPermitted(name()).into(), io::ErrorKind::PermissionDenied),
            (DeviceError::NodeAccess.into(), io::ErrorKind::PermissionDenied),
            (DeviceError::NodeMissing.into(), io::ErrorKind::NotFound),
            (DeviceError::NameInvalid("a b".to_owned()).into(), io::ErrorKind::InvalidInput),
            (BuildError::Address { address, why: AddressError::Prefix }, io::ErrorKind::InvalidInput),
            (EngineError::Steering(kernel(libc::EPERM)).into(), io::ErrorKind::PermissionDenied),
            (EngineError::Queues { device: 1, plan: 2 }.into(), io::ErrorKind::InvalidInput),
            (PlanError::NoWorkers.into(), io::ErrorKind::InvalidInput),
            (PlanError::TooManyWorkers { workers: 3, cpus: 2 }.into(), io::ErrorKind::InvalidInput),
            (PlanError::NoSuchCpu { cpu: 9, usable: vec![0] }.into(), io::ErrorKind::InvalidInput),
            (PlanError::SameCpu { cpu: 0 }.into(), io::ErrorKind::InvalidInput),
            (PlanError::TooFewCpus { cpus: 1, workers: 2 }.into(), io::ErrorKind::InvalidInput),
        ];
        for (error, kind) in cases {
            let text = error.to_string();
            assert!(!text.contains("--"), "{text}");
            let error = io::Error::from(error);
            assert_eq!(error.kind(), kind, "{text}");
            assert_eq!(error.to_string(), text);
            assert!(error.downcast::<BuildError>().is_ok());
        }
    }
    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// Our addresses, and those of the kernel's side that go with them.
    fn sides(builder: &Builder) -> Result<(String, String), String> {
        let list = |addresses: &mut dyn Iterator<Item = String>| addresses.collect::<Vec<_>>().join(" ");
        let (ours, networks) = (&builder.config.addresses, &builder.networks);
        check(ours, networks).map_err(|error| error.to_string())?;
        let kernel = kernel_sides(ours, networks).map_err(|error| error.to_string())?;
        let kernel = list(&mut kernel.iter().map(|(address, prefix)| format!("{address}/{prefix}")));
        Ok((list(&mut ours.iter().map(ToString::to_string)), kernel))
    }

    #[test]
    fn each_address_that_is_named_counts() {
        let builder = Engine::builder;
        for (builder, ours) in [
            (builder(), "10.7.0.2"),
            (builder().address(ip("10.7.0.2")), "10.7.0.2"),
            (builder().address(ip("10.7.0.2")).address(ip("10.7.0.3")), "10.7.0.2 10.7.0.3"),
            (builder().address(ip("10.7.0.3")).address(ip("10.7.0.2")), "10.7.0.3 10.7.0.2"),
            (builder().address(ip("10.7.0.2")).address(ip("10.7.0.2")), "10.7.0.2"),
            (builder().network(ip("10.7.0.2"), 24).expect("short").address(ip("10.9.0.2")), "10.7.0.2 10.9.0.2"),
        ] {
            assert_eq!(sides(&builder).expect("good").0, ours);
        }
    }

    #[test]
    fn the_kernels_side_has_an_address_in_each_network() {
        let network = |builder: Builder, address, prefix| builder.network(ip(address), prefix).expect("short enough");
        let with = |addresses: &[&str]| addresses.iter().fold(Engine::builder(), |builder, a| builder.address(ip(a)));
        for (builder, kernel) in [
            (with(&[]), "10.7.0.1/24"),
            (with(&["10.9.0.2"]), "10.9.0.1/24"),
            (with(&["10.9.0.1"]), "10.9.0.2/24"),
            (with(&["fd00:7::2"]), "fd00:7::1/64"),
            (with(&["10.7.0.2", "fd00:7::2"]), "10.7.0.1/24 fd00:7::1/64"),
            (network(with(&["fd00:7::2"]), "fd00:8::9", 48), "fd00:7::1/64 fd00:8::1/48"),
            (with(&["10.9.0.1", "10.9.0.2"]), "10.9.0.3/24"),
            (with(&["10.9.0.2", "10.9.1.2", "10.9.0.7"]), "10.9.0.1/24 10.9.1.1/24"),
            (network(with(&[]), "10.9.200.7", 16), "10.9.0.1/16"),
            (network(with(&["10.9.0.2"]), "10.11.0.5", 30), "10.9.0.1/24 10.11.0.6/30"),
            // It was said where it lies: in a network that is there already.
            (network(with(&[]), "10.9.200.7", 16).address(ip("10.9.3.3")), "10.9.0.1/16"),
            // One network in the other is a network all the same.
            (network(network(with(&[]), "10.9.0.2", 16), "10.9.8.2", 24), "10.9.0.1/16 10.9.8.1/24"),
            (network(network(with(&[]), "10.9.8.2", 16), "10.9.0.2", 24), "10.9.0.1/16 10.9.0.3/24"),
        ] {
            assert_eq!(sides(&builder).expect("good").1, kernel);
        }
    }

    #[test]
    fn addresses_that_cannot_be_are_refused_with_what_to_take() {
        let with = |address| Engine::builder().address(ip(address));
        for (builder, said) in [
            (with("127.0.0.1"), "127.0.0.1: loopback, which never leaves the kernel; take one of a private network"),
            (with("0.0.0.0"), "0.0.0.0: \"this network\""),
            (with("224.0.0.5"), "224.0.0.5: multicast"),
            (with("255.255.255.255"), "255.255.255.255: reserved or broadcast"),
            (with("::1"), "::1: loopback"),
            (with("ff02::1"), "ff02::1: multicast"),
            (
                with("10.9.0.0"),
                "10.9.0.0: the network's own or its broadcast address; take one between, like 10.9.0.1/24",
            ),
            (with("10.9.0.255"), "10.9.0.255: the network's own"),
            (with("10.7.0.2").network(ip("10.9.0.8"), 29).expect("short"), "10.9.0.8: the network's own"),
            (with("10.7.0.2").network(ip("10.9.0.8"), 32).expect("short"), "10.9.0.8: the prefix must leave room"),
            (with("10.9.0.5").network(ip("10.9.0.6"), 30).expect("short"), "10.9.0.6: no address of its network"),
            (with("fd00:7::"), "fd00:7::: the address of the network's routers; take another one, like fd00:7::1/64"),
            (with("::ffff:10.7.0.2"), "::ffff:10.7.0.2: an IPv4 address in IPv6's form"),
        ] {
            let error = sides(&builder).expect_err(said);
            assert!(error.starts_with(said), "{error}");
        }
    }

    /// On a device of the caller's own there is no kernel's side; what no host can have nobody can have there either.
    #[test]
    fn a_device_of_ones_own_asks_for_no_kernels_side() {
        let start = |address: &str, prefix| {
            let (device, other) = pair(&MemoryOptions::default()).expect("in memory");
            let builder = Engine::builder().device(device, 1).pin(Pin::None);
            let started = match prefix {
                Some(prefix) => builder.network(ip(address), prefix).expect("short enough"),
                None => builder.address(ip(address)),
            };
            let result = started.start().map(drop).map_err(|error| error.to_string());
            drop(other);
            result
        };
        for (address, prefix) in [("10.9.0.0", None), ("10.9.0.8", Some(32)), ("10.9.0.8", Some(31)), ("fd00::2", None)]
        {
            assert_eq!(start(address, prefix), Ok(()), "{address}");
        }
        for (address, prefix) in [("127.0.0.1", None), ("10.9.0.0", Some(24)), ("::", None)] {
            assert!(start(address, prefix).expect_err("no host").starts_with(address));
        }
    }

    #[test]
    fn the_kernels_side_is_as_it_was_said() {
        let said = vec![(ip("10.9.0.1"), 24), (ip("fd00::1"), 64)];
        assert_eq!(beside(said.clone(), &[ip("10.9.0.2"), ip("fd00::2")]).expect("good"), said);
        let error = beside(said, &[ip("10.9.0.1")]).expect_err("the same").to_string();
        assert!(error.starts_with("10.9.0.1: the kernel's side has this address"), "{error}");
    }
}
