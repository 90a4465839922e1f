//! The subcommands of `trust` and what they share: options for the device and the engine.

mod connect;
mod serve;

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use trust::device::impair::{Impaired, Impairment};
use trust::device::plain::PlainDevice;
use trust::device::{Device, TunDevice, TunOptions};
use trust::engine::{EngineConfig, Pin, Plan, PlanKind, Steer, usable_cpus};
use trust::tcp;

/// Everything that can end a command early.
pub(crate) type Error = Box<dyn std::error::Error>;

/// A user-space TCP engine: answers for its own IP address behind a TUN device.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer for an address: echo, discard, daytime, chargen and an iperf3 server.
    Serve(serve::Serve),
    /// Connect to a host and port like nc: standard input goes out, what comes back goes to standard output.
    Connect(connect::Connect),
}

/// Runs what the command line says.
pub(crate) fn run(arguments: Arguments) -> Result<(), Error> {
    match arguments.command {
        Command::Serve(serve) => serve.run(),
        Command::Connect(connect) => connect.run(),
    }
}

/// Which backend opens the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    /// Multi-queue TUN with offloads.
    Tun,
    /// A single plain queue on the `tun-tap` package.
    TunTap,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// What to log about the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Log {
    /// A line when a connection opens and one when it ends.
    Connections,
    /// A line for each segment.
    Segments,
}

/// Our address with the length of the prefix that the kernel's side shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    ip: Ipv4Addr,
    prefix: u8,
}

impl Address {
    /// The address for the kernel's side: the first of the prefix that is not ours.
    fn kernel_side(self) -> Ipv4Addr {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        let network = u32::from(self.ip) & mask;
        let first = Ipv4Addr::from(network + 1);
        if first == self.ip { Ipv4Addr::from(network + 2) } else { first }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an IPv4 address with a prefix length, like 10.7.0.2/24");
        let (ip, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let ip = ip.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if !(8..=30).contains(&prefix) {
            return Err(format!("{text:?}: the prefix must leave room for two hosts (8 to 30 bits)"));
        }
        let mask = u32::MAX << (32 - u32::from(prefix));
        let host = u32::from(ip) & !mask;
        if host == 0 || host == !mask {
            return Err(format!("{text:?} is the network's own or its broadcast address"));
        }
        Ok(Self { ip, prefix })
    }
}

/// Options of the device and the engine.
#[derive(Debug, Args)]
struct EngineOptions {
    /// Name of the TUN interface.
    #[arg(long, value_name = "NAME")]
    tun: Option<String>,

    /// Backend that opens the device.
    #[arg(long, value_enum, default_value = "tun")]
    device: Backend,

    /// Checksum and segmentation offload, both ways. Default: on, except with tun-tap, which cannot.
    #[arg(long, value_enum)]
    offload: Option<Switch>,

    /// Largest IP packet, octets.
    #[arg(long, value_name = "OCTETS", default_value_t = 1500, value_parser = clap::value_parser!(u16).range(576..=65520))]
    mtu: u16,

    /// Shape: readers, workers and writers on threads of their own, or all three on each thread.
    #[arg(long, value_name = "auto|pipeline|fused", default_value = "auto")]
    plan: PlanKind,

    /// Number of workers, each with a shard of the connections. Default: by the plan and the CPUs.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// CPUs for the threads, workers first.
    #[arg(long, value_name = "auto|none|0,1", default_value = "auto")]
    pin: Pin,

    /// How packets reach the shard that owns their flow.
    #[arg(long, value_name = "auto|hash|learn")]
    steer: Option<Steer>,

    /// Never park, spin: takes whole CPUs.
    #[arg(long)]
    busy_poll: bool,

    /// Make the device worse, each direction by itself, like loss=0.01,reorder=0.02,dup=0.01,corrupt=0.001,seed=7.
    #[arg(long, value_name = "WHAT")]
    impair: Option<Impairment>,

    /// Set a tunable of TCP, like recv_buffer=64k..6M; may be repeated. `--tcp help` lists all.
    #[arg(long, value_name = "KEY=VALUE")]
    tcp: Vec<String>,

    /// Log connections or segments to standard error.
    #[arg(long, value_enum, value_name = "connections|segments")]
    log: Vec<Log>,
}

/// A device, the plan for it and the engine's configuration.
struct Setup {
    device: Box<dyn Device>,
    plan: Plan,
    config: EngineConfig,
}

impl EngineOptions {
    /// The tunables of TCP as the user set them; `None` when only their list was asked for, which is printed.
    fn tcp(&self) -> Result<Option<tcp::Config>, Error> {
        if self.tcp.iter().any(|setting| setting == "help") {
            print!("{}", tcp::Config::help());
            return Ok(None);
        }
        let mut config = tcp::Config::default();
        for setting in &self.tcp {
            let (key, value) =
                setting.split_once('=').ok_or_else(|| format!("--tcp {setting}: not KEY=VALUE (or help)"))?;
            config.set(key, value).map_err(|error| format!("--tcp {error}"))?;
        }
        config.validate().map_err(|error| format!("--tcp: {error}"))?;
        Ok(Some(config))
    }

    /// Makes the device and the plan. `tun`: the interface's name where the user gave none.
    fn setup(&self, address: Address, tun: &str, tcp: tcp::Config) -> Result<Setup, Error> {
        let plain = self.device == Backend::TunTap;
        if plain && self.offload == Some(Switch::On) {
            return Err("--device tun-tap --offload on: the plain device has no offload; leave --offload out".into());
        }
        if plain && self.steer.is_some_and(|steer| steer != Steer::Auto) {
            return Err("--device tun-tap --steer: the plain device has one queue, there is nothing to steer".into());
        }
        let max_queues = if plain { 1 } else { usize::from(trust::device::tun::MAX_QUEUES) };
        let plan = Plan::new(self.plan, self.workers, &self.pin, &usable_cpus(), max_queues)?;
        let options = TunOptions {
            name: self.tun.clone().unwrap_or_else(|| tun.to_owned()),
            addresses: vec![(IpAddr::V4(address.kernel_side()), address.prefix)],
            mtu: self.mtu,
            queues: plan.queues as u16,
            offload: !plain && self.offload != Some(Switch::Off),
            ..TunOptions::default()
        };
        let mut device: Box<dyn Device> =
            if plain { Box::new(PlainDevice::create(&options)?) } else { Box::new(TunDevice::create(&options)?) };
        if let Some(impairment) = &self.impair {
            device = Box::new(Impaired::new(device, *impairment));
        }
        let mut config = EngineConfig::new(vec![IpAddr::V4(address.ip)]);
        config.tcp = tcp;
        config.steer = self.steer.unwrap_or_default();
        config.busy_poll = self.busy_poll;
        config.log_connections = self.log.contains(&Log::Connections);
        config.log_segments = self.log.contains(&Log::Segments);
        Ok(Setup { device, plan, config })
    }

    /// Sends events of the library to standard error.
    fn start_logging(&self) {
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
            .with_writer(std::io::stderr)
            .with_target(false)
            .finish();
        // Fails only if there is one already.
        let _ = tracing::subscriber::set_global_default(subscriber);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_kernel_gets_the_first_address_that_is_not_ours() {
        let kernel = |text: &str| text.parse::<Address>().unwrap().kernel_side().to_string();
        assert_eq!(kernel("10.7.0.2/24"), "10.7.0.1");
        assert_eq!(kernel("10.7.0.1/24"), "10.7.0.2");
        assert_eq!(kernel("10.7.0.6/30"), "10.7.0.5");
    }

    #[test]
    fn tcp_settings_are_taken_in_order_and_checked_together() {
        let tcp = |settings: &[&str]| {
            let line = ["trust", "serve"].into_iter().chain(settings.iter().flat_map(|setting| ["--tcp", setting]));
            let Command::Serve(serve) = Arguments::try_parse_from(line).unwrap().command else { unreachable!() };
            serve.engine_options().tcp().map_err(|error| error.to_string())
        };
        assert_eq!(tcp(&[]).unwrap(), Some(tcp::Config::default()));
        let both = tcp(&["nagle=off", "min_rto=30s", "initial_rto=40s", "nagle=on"]).unwrap().unwrap();
        let wanted = tcp::Duration::from_secs(30);
        assert_eq!((both.nagle, both.min_rto), (true, wanted));
        assert_eq!(tcp(&["nagle=off", "help"]), Ok(None));
        assert_eq!(tcp(&["min_rto=30s"]).unwrap_err(), "--tcp: min_rto=30s must not be above initial_rto=1s");
        assert_eq!(tcp(&["nagle"]).unwrap_err(), "--tcp nagle: not KEY=VALUE (or help)");
        assert!(tcp(&["nagel=on"]).unwrap_err().starts_with("--tcp there is no TCP setting \"nagel\"; these are"));
    }

    #[test]
    fn addresses_that_no_host_can_have_are_refused() {
        for text in ["10.7.0.2", "10.7.0.0/24", "10.7.0.255/24", "10.7.0.2/31", "ten/24", "10.7.0.2/x"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
