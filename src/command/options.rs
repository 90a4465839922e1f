//! [`EngineOptions`]: the options of the device and the engine, which all subcommands have.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use trust::device::impair::{Impaired, Impairment};
use trust::device::plain::PlainDevice;
use trust::device::{Device, DeviceError, HostAddress, TunDevice, TunOptions};
use trust::engine::{EngineConfig, EngineError, Pin, Plan, PlanKind, Steer, usable_cpus};
use trust::shard::{Route, Routes};
use trust::tcp;
use trust::tcp::cookie::SynCookies;

use super::addresses::{Families, Ours};
use super::error::Error;
use super::fencing::FenceOptions;
use super::switch::Switch;
use super::{console, refusal};

/// Which backend opens the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    /// Multi-queue TUN with offloads.
    Tun,
    /// A single plain queue on the `tun-tap` package.
    TunTap,
}

/// What to log about the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Log {
    /// A line when a connection opens and one when it ends.
    Connections,
    /// A line for each segment.
    Segments,
}

/// A route as written: `NETWORK/PREFIX` or `default`, perhaps with `,src=ADDRESS`. There is no next hop to name: behind
/// a TUN device is one neighbour, the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct RouteArgument {
    /// `None`: everywhere, in the source's family or in both.
    network: Option<(IpAddr, u8)>,
    source: Option<IpAddr>,
}

impl RouteArgument {
    /// One route, or for both families one each.
    fn routes(self) -> impl Iterator<Item = Route> {
        let everywhere = [(Ipv4Addr::UNSPECIFIED.into(), 0), (Ipv6Addr::UNSPECIFIED.into(), 0)];
        let same_family = move |network: IpAddr| self.source.is_none_or(|source| source.is_ipv4() == network.is_ipv4());
        let all = everywhere.into_iter().filter(move |(network, _)| self.network.is_none() && same_family(*network));
        self.network.into_iter().chain(all).map(move |(network, prefix)| {
            let route = Route::to(network, prefix).expect("no longer than the address: see `from_str`");
            self.source.map_or(route, |source| route.from(source))
        })
    }
}

impl FromStr for RouteArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "not default or a network like 192.0.2.0/24, perhaps with ,src=10.7.0.2 behind it".to_owned();
        let (destination, source) = match text.split_once(",src=") {
            Some((destination, source)) => (destination, Some(source.parse::<IpAddr>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        if destination == "default" {
            return Ok(Self { network: None, source });
        }
        let (network, prefix) = destination.split_once('/').map_or((destination, None), |(n, p)| (n, Some(p)));
        let network: IpAddr = network.parse().map_err(|_| wrong())?;
        let whole = if network.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(whole), str::parse).map_err(|_| wrong())?;
        Route::to(network, prefix).map_err(|error| error.to_string())?;
        if source.is_some_and(|source| source.is_ipv4() != network.is_ipv4()) {
            return Err("its source is of the other family; take one of the same, or leave ,src= out".to_owned());
        }
        Ok(Self { network: Some((network, prefix)), source })
    }
}

/// Options of the device and the engine.
#[derive(Debug, Args)]
pub(super) struct EngineOptions {
    /// Name of the TUN interface. Default: trust0 for serve, trust1 for the others.
    #[arg(long, value_name = "NAME")]
    pub(super) tun: Option<String>,

    /// Backend that opens the device.
    #[arg(long, value_enum, default_value = "tun")]
    device: Backend,

    /// Checksum and segmentation offload, both ways. Default: on, except with tun-tap, which cannot.
    #[arg(long, value_enum)]
    offload: Option<Switch>,

    /// Hosts that connections can be opened to, beside our own networks: like 192.0.2.0/24 or 2001:db8::/32, with ,src=ADDRESS
    /// from that address of ours; may be repeated. Default: default, everywhere.
    #[arg(long, value_name = "NETWORK/PREFIX|default")]
    route: Vec<RouteArgument>,

    /// Have the kernel forward what comes from our device (net.ipv4.conf.NAME.forwarding, and of IPv6 force_forwarding where
    /// the kernel has it, from 6.17 on), which goes with the device. It takes root.
    #[arg(long)]
    pub(super) forwarding: bool,

    /// Largest IP packet, octets.
    #[arg(long, value_name = "OCTETS", default_value_t = 1500, value_parser = mtu, allow_negative_numbers = true)]
    pub(super) mtu: u16,

    /// Shape: readers, workers and writers on threads of their own, or all three on each thread.
    #[arg(long, value_name = "auto|pipeline|fused", default_value = "auto")]
    plan: PlanKind,

    /// Number of workers, each with a shard of the connections. Default: by the plan and the CPUs.
    #[arg(long, value_name = "N", value_parser = workers, allow_negative_numbers = true)]
    pub(super) workers: Option<usize>,

    /// CPUs for the threads, workers first, at most one worker on a CPU.
    #[arg(long, value_name = "auto|none|0,1", default_value = "auto", allow_negative_numbers = true)]
    pin: Pin,

    /// Memory for data on its way, sent and received, of all shards together, like 512M or 4G. Taken as it is needed,
    /// and given back. Default: 1G for each worker.
    #[arg(long, value_name = "OCTETS", value_parser = memory, allow_negative_numbers = true)]
    memory: Option<u64>,

    /// When SYNs are answered with cookies: never, when there is no place for a half-open record, or always. Default:
    /// overflow.
    #[arg(long, value_name = "off|overflow|always")]
    syn_cookies: Option<SynCookies>,

    /// How packets reach the shard that owns their flow: by a program in the kernel that looks it up, where new flows go to
    /// the worker on the CPU that sends (local) or by their ends alone (hash), or by the kernel's memory of the queue that
    /// we answered on (learn). Default: auto, local or else hash where they can be had.
    #[arg(long, value_name = "auto|local|hash|learn")]
    steer: Option<Steer>,

    /// Never park, spin: takes whole CPUs.
    #[arg(long)]
    busy_poll: bool,

    /// Make the device worse, each direction by itself, like loss=0.01,reorder=0.02,dup=0.01,corrupt=0.001,seed=7.
    /// Default: not at all.
    #[arg(long, value_name = "WHAT")]
    impair: Option<Impairment>,

    /// Congestion control of new connections. Default: cubic.
    #[arg(long, value_name = "reno|cubic")]
    congestion: Option<tcp::CongestionControl>,

    /// Set a tunable of TCP, like recv_buffer=64k..6M; may be repeated. `--tcp help` lists all.
    #[arg(long, value_name = "KEY=VALUE")]
    tcp: Vec<String>,

    /// Log connections or segments to standard error; may be repeated. Default: neither.
    #[arg(long, value_enum, value_name = "connections|segments")]
    log: Vec<Log>,

    #[command(flatten)]
    pub(super) fence: FenceOptions,
}

/// A device, the plan for it and the engine's configuration.
pub(super) struct Setup {
    pub(super) device: Box<dyn Device>,
    pub(super) plan: Plan,
    pub(super) config: EngineConfig,
}

impl EngineOptions {
    /// The tunables of TCP as the user set them; `None` when only their list was asked for, which is printed.
    pub(super) fn tcp(&self) -> Result<Option<tcp::Config>, Error> {
        if self.tcp.iter().any(|setting| setting == "help") {
            write_out(tcp::Config::help().as_bytes())?;
            return Ok(None);
        }
        let congestion = self.congestion.unwrap_or_default();
        let mut config = tcp::Config { congestion, ..tcp::Config::default() };
        for setting in &self.tcp {
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| Error::Usage(format!("--tcp {setting}: not KEY=VALUE; --tcp help lists the keys")))?;
            config.set(key, value).map_err(|error| match error {
                tcp::ConfigError::UnknownKey(_) => {
                    let perhaps = similar(key).map_or_else(String::new, |key| format!("perhaps {key}? "));
                    Error::Usage(format!("--tcp: {error}; {perhaps}--tcp help lists them"))
                }
                // It begins with the setting.
                error => Error::Usage(format!("--tcp {error}")),
            })?;
        }
        config.validate().map_err(|error| Error::Usage(format!("--tcp: {error}")))?;
        Ok(Some(config))
    }

    /// Makes the device and the plan. `tun`: the interface's name where the user gave none.
    pub(super) fn setup(&self, ours: &Ours, tun: &str, tcp: tcp::Config) -> Result<Setup, Error> {
        let routes = self.routes(ours.list())?;
        let plain = self.device == Backend::TunTap;
        if plain && self.offload == Some(Switch::On) {
            let text = "--device tun-tap --offload on: the plain device has no offload; leave --offload out";
            return Err(Error::Usage(text.to_owned()));
        }
        if plain && self.steer.is_some_and(|steer| steer != Steer::Auto) {
            let text =
                "--device tun-tap --steer: the plain device has one queue and nothing to steer; leave --steer out";
            return Err(Error::Usage(text.to_owned()));
        }
        let plan = self.plan()?;
        let options = TunOptions {
            name: self.tun.clone().unwrap_or_else(|| tun.to_owned()),
            addresses: ours.kernel_sides().iter().map(|side| (side.ip(), side.prefix())).collect(),
            mtu: self.mtu,
            queues: plan.queues as u16,
            offload: !plain && self.offload != Some(Switch::Off),
            ..TunOptions::default()
        };
        let mut device: Box<dyn Device> = if plain {
            Box::new(PlainDevice::create(&options).map_err(no_device)?)
        } else {
            Box::new(TunDevice::create(&options).map_err(no_device)?)
        };
        if self.forwarding {
            forward_from(device.name(), ours)?;
        }
        if let Some(impairment) = &self.impair {
            device = Box::new(Impaired::new(device, *impairment));
        }
        let config = EngineConfig { routes, tcp, ..self.config(ours.list(), plan.workers) };
        Ok(Setup { device, plan, config })
    }

    /// Threads and queues. They do not depend on the device, and can be known before there is one.
    pub(super) fn plan(&self) -> Result<Plan, Error> {
        let max_queues = if self.device == Backend::TunTap { 1 } else { usize::from(trust::device::tun::MAX_QUEUES) };
        Plan::new(self.plan, self.workers, &self.pin, &usable_cpus(), max_queues)
            .map_err(|error| Error::Usage(refusal::impossible_plan(&error)))
    }

    /// What the options say of an engine with so many workers; routes and tunables of TCP are checked elsewhere.
    pub(super) fn config(&self, addresses: &[HostAddress], workers: usize) -> EngineConfig {
        let mut config = EngineConfig::new(addresses.iter().map(|address| address.ip()).collect());
        config.steer = self.steer.unwrap_or_default();
        config.busy_poll = self.busy_poll;
        config.log_connections = self.log.contains(&Log::Connections);
        config.log_segments = self.log.contains(&Log::Segments);
        if let Some(octets) = self.memory {
            config.set_memory(octets, workers);
        }
        config.limits.syn_cookies = self.syn_cookies.unwrap_or_default();
        config
    }

    /// Our own networks, and what `--route` adds.
    pub(super) fn routes(&self, addresses: &[HostAddress]) -> Result<Routes, Error> {
        let mut routes = Routes::none();
        for address in addresses {
            let route = Route::on_link(address.ip(), address.prefix());
            routes.add(route.expect("shorter than the address: see HostAddress::new"));
        }
        for argument in &self.route {
            if let Some(source) = argument.source
                && !addresses.iter().any(|address| address.ip() == source)
            {
                return Err(Error::Usage(format!(
                    "--route: src={source} is no address of ours; --address makes it one"
                )));
            }
            argument.routes().for_each(|route| routes.add(route));
        }
        if self.route.is_empty() {
            RouteArgument::default().routes().for_each(|route| routes.add(route));
        }
        Ok(routes)
    }

    /// Sends events of the library to standard error.
    pub(super) fn start_logging(&self) {
        let mut filter = String::from("warn");
        if self.log.contains(&Log::Connections) {
            filter.push_str(",trust::connections=info");
        }
        if self.log.contains(&Log::Segments) {
            filter.push_str(",trust::segments=info");
        }
        let filter = std::env::var("TRUST_LOG").unwrap_or(filter);
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
            .with_writer(console::error)
            .with_target(false)
            .finish();
        // Fails only if there is one already.
        let _ = tracing::subscriber::set_global_default(subscriber);
    }
}

/// Has the kernel forward what comes from a device, in the families that we speak.
fn forward_from(device: &str, ours: &Ours) -> Result<(), Error> {
    let set = |family: &str, setting: &str| {
        std::fs::write(format!("/proc/sys/net/{family}/conf/{device}/{setting}"), "1").map_err(|error| {
            Error::Run(format!("--forwarding: net.{family}.conf.{device}.{setting} cannot be set ({error})"))
        })
    };
    let families = Families::of(&ours.ips());
    if families.ipv4 {
        set("ipv4", "forwarding")?;
    }
    let everywhere = std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding");
    if families.ipv6 && everywhere.is_ok_and(|text| text.trim() == "0") {
        // For all devices at once it would be the whole machine's business, which then hears no routers any more.
        if std::path::Path::new(&format!("/proc/sys/net/ipv6/conf/{device}/force_forwarding")).exists() {
            return set("ipv6", "force_forwarding");
        }
        tracing::warn!(
            "--forwarding: IPv6 is not forwarded, this kernel can only do it for all devices (net.ipv6.conf.all.forwarding)"
        );
    }
    Ok(())
}

/// The key that was perhaps meant.
fn similar(typed: &str) -> Option<&'static str> {
    /// Of 1, from which on clap takes an option for a slip of the keyboard.
    const ALIKE: f64 = 0.7;
    let alike = tcp::Config::keys().iter().map(|key| (strsim::jaro(typed, key.name), key.name));
    let alike = alike.filter(|(alike, _)| *alike > ALIKE);
    alike.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, key)| key)
}

/// Writes to standard output as programs do that have nothing else to do meanwhile.
fn write_out(octets: &[u8]) -> Result<(), Error> {
    let mut output = std::io::stdout().lock();
    output.write_all(octets).and_then(|()| output.flush()).map_err(Error::output)
}

/// Says why there is no device. To remove what has its name is advice for TUN devices only.
fn no_device(error: DeviceError) -> Error {
    match error {
        DeviceError::NameInvalid(_) => Error::Usage(format!("--tun: {error}")),
        DeviceError::NameInUse(name) if !is_tun(&name) => {
            Error::Run(format!("an interface named '{name}' exists already; choose another name with --tun"))
        }
        error @ (DeviceError::NameInUse(_) | DeviceError::Busy(_)) => Error::Run(format!("{error} (--tun)")),
        error => error.into(),
    }
}

/// Says why there is no engine, and what helps.
pub(super) fn no_engine(error: EngineError) -> Error {
    match error {
        EngineError::Memory { .. } => {
            Error::Run(format!("{error}; raise the limit (ulimit -v), or take less: --workers 1, --memory 16M"))
        }
        EngineError::Unpinned => Error::Usage(format!("--steer local --pin none: {error}")),
        error => error.into(),
    }
}

/// Whether an interface is a TUN or TAP device. By iproute2 and not by /sys, which may show another namespace.
fn is_tun(name: &str) -> bool {
    let output = std::process::Command::new("ip").args(["-details", "-oneline", "link", "show", "dev", name]).output();
    output.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains(" tun type tun ") || text.contains(" tun type tap ")
    })
}

/// Shards are numbered by 16 bits; this many threads are far beyond what a table of 65,536 buckets shares out evenly.
const MAX_WORKERS: usize = 256;

fn workers(text: &str) -> Result<usize, String> {
    let right = |n: &usize| (1..=MAX_WORKERS).contains(n);
    text.parse().ok().filter(right).ok_or_else(|| {
        format!("not a whole number from 1 to {MAX_WORKERS}; leave --workers out for as many as the CPUs allow")
    })
}

/// Least memory that makes sense: a few connections, each with a window that fills a path.
const LEAST_MEMORY: u64 = 16 << 20;

fn memory(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let octets = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(1 << unit));
    let right = |octets: &u64| (LEAST_MEMORY..=1 << 40).contains(octets);
    octets.filter(right).ok_or_else(|| {
        let size = "not a size from 16M to 1024G";
        // What is no whole number of a unit is one of the next smaller.
        match digits.parse::<f64>().map(|count| (count * f64::from(1 << unit >> 20)) as u64) {
            Ok(megabytes) if digits.contains('.') && right(&(megabytes << 20)) => {
                format!("{size} in whole numbers; take {megabytes}M")
            }
            _ => size.to_owned(),
        }
    })
}

fn mtu(text: &str) -> Result<u16, String> {
    let right = |n: &u16| (576..=65_520).contains(n);
    text.parse().ok().filter(right).ok_or_else(|| "not from 576 to 65520 octets; 1500 is usual".to_owned())
}

pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let right = |n: &u64| (1..=86_400).contains(n);
    text.parse().ok().filter(right).ok_or_else(|| "not a whole number of seconds from 1 to 86400".to_owned())
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| "not a port, a number from 1 to 65535".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_is_a_size_and_is_shared_out_to_the_shards() {
        for (text, octets) in [("16M", Some(16 << 20)), ("2g", Some(2 << 30)), ("33554432", Some(32 << 20))] {
            assert_eq!(memory(text).ok(), octets, "{text}");
        }
        for text in
            ["", "M", "1M", "-1G", "9999999999G", "1025G", "1T", "öG", "0.01G", "-1.5G", "1e3G", "1.5T", "2000.5G"]
        {
            assert_eq!(memory(text).unwrap_err(), "not a size from 16M to 1024G", "{text}");
        }
        for (text, remedy) in [("1.5G", "1536M"), ("0.25g", "256M"), ("100.7M", "100M"), ("1.1G", "1126M")] {
            assert_eq!(
                memory(text).unwrap_err(),
                format!("not a size from 16M to 1024G in whole numbers; take {remedy}")
            );
            assert!(memory(remedy).is_ok());
        }
        let mut config = EngineConfig::new(Vec::new());
        config.set_memory(256 << 20, 2);
        assert_eq!((config.send_chunks, config.limits.held_octets), (1_024, 64 << 20));
    }
}
