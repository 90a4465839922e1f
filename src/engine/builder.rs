//! [`Builder`]: from a few words to a running engine.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use super::{Engine, EngineConfig, EngineError, Pin, Plan, PlanKind, ServiceFactory, Steer, usable_cpus};
use crate::device::tun::MAX_QUEUES;
use crate::device::{Device, DeviceError, TunDevice, TunOptions};
use crate::net::SocketLimits;
use crate::shard::{Limits, PrefixError, Route, Routes};
use crate::tcp::cookie::SynCookies;
use crate::tcp::{self, CongestionControl};

/// Why no engine could be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The stages cannot be laid out so.
    #[error(transparent)]
    Plan(#[from] super::PlanError),
    /// The engine did not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Something is missing or contradictory.
    #[error("{0}")]
    Options(&'static str),
}

impl BuildError {
    /// What it is as an error of a socket: a name that is taken `AddrInUse`, a right that is missing `PermissionDenied`...
    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Device(error) => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::Plan(_) | Self::Options(_) => io::ErrorKind::InvalidInput,
        }
    }
}

/// `AddrInUse`: the device's name is taken; `PermissionDenied`: rights are missing; `InvalidInput`: what was asked for cannot
/// be; else what the kernel said. The error itself is inside.
impl From<BuildError> for io::Error {
    fn from(error: BuildError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// How an engine is to be; made by [`Engine::builder`].
///
/// Without more words it opens a TUN device `trust0` with 10.7.0.1/24 for the kernel's side and answers for 10.7.0.2.
#[must_use = "a builder does nothing until `start`"]
pub struct Builder {
    device: Option<(Box<dyn Device>, usize)>,
    tun: TunOptions,
    plan: PlanKind,
    workers: Option<usize>,
    pin: Pin,
    config: EngineConfig,
    services: Vec<ServiceFactory>,
    /// `None`: nobody said any.
    routes: Option<Routes>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("plan", &self.plan).field("config", &self.config).finish_non_exhaustive()
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

    /// The kernel's address on the TUN device, with the length of its prefix (default 10.7.0.1/24).
    pub fn kernel_address(mut self, address: IpAddr, prefix: u8) -> Self {
        self.tun.addresses = vec![(address, prefix)];
        self
    }

    /// The engine's own address (default 10.7.0.2). Called again, the engine answers for several.
    pub fn address(mut self, address: IpAddr) -> Self {
        let default = Self::default().config.addresses;
        if self.config.addresses == default {
            self.config.addresses.clear();
        }
        self.config.addresses.push(address);
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
        let Self { device, mut tun, plan, workers, pin, mut config, services, routes } = self;
        if let Some(routes) = routes {
            config.routes = routes;
        }
        if config.addresses.is_empty() {
            return Err(BuildError::Options("an engine needs an address: Builder::address"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_kinds_and_speak_of_no_command() {
        let kernel = |errno| io::Error::from_raw_os_error(errno);
        let name = || "trust0".to_owned();
        let cases: [(BuildError, io::ErrorKind); 8] = [
            (DeviceError::NameInUse(name()).into(), io::ErrorKind::AddrInUse),
            (DeviceError::Busy(name()).into(), io::ErrorKind::AddrInUse),
            (DeviceError::NotPermitted(name()).into(), io::ErrorKind::PermissionDenied),
            (DeviceError::NodeAccess.into(), io::ErrorKind::PermissionDenied),
            (DeviceError::NodeMissing.into(), io::ErrorKind::NotFound),
            (DeviceError::NameInvalid("a b".to_owned()).into(), io::ErrorKind::InvalidInput),
            (EngineError::Steering(kernel(libc::EPERM)).into(), io::ErrorKind::PermissionDenied),
            (EngineError::Queues { device: 1, plan: 2 }.into(), io::ErrorKind::InvalidInput),
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
}
