//! `trust serve`: an engine with its services until TERM or INT.

use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use crossbeam::channel::{RecvTimeoutError, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use trust::engine::{Engine, PlanKind, ServiceFactory, StageId};
use trust::observe::{Sample, live_line, stats_lines, summary};
use trust::services::{self, CpuTime, Environment, ParseServiceError, ServiceSpec};
use trust::tcp;

use super::echo_sockets::EchoSockets;
use super::forward::{self, Forward, Forwarding};
use super::{Address, EngineOptions, Error, Setup, console, descriptors};

/// Options of `trust serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Our address; the kernel's side gets the first other one of the prefix.
    #[arg(long, value_name = "ADDRESS/PREFIX", default_value = "10.7.0.2/24")]
    address: Address,

    /// One more service on one more port, like echo:4242 (the usual ports are served anyway); forward:PORT=HOST:PORT, what
    /// comes to our port goes to a host by the kernel; reverse:[ADDRESS:]PORT=HOST:PORT, what comes to the kernel's port
    /// (127.0.0.1, unless told) goes to a host by our stack; echo-sockets:PORT, echo as an application on sockets.
    #[arg(long, value_name = "NAME:PORT")]
    service: Vec<Wanted>,

    /// Print counters every so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = super::seconds, allow_negative_numbers = true)]
    stats: Option<u64>,

    #[command(flatten)]
    engine: EngineOptions,
}

/// One `--service`.
#[derive(Debug, Clone)]
enum Wanted {
    Service(ServiceSpec),
    Forward(Forward),
    EchoSockets(u16),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('=') || text.starts_with("forward:") || text.starts_with("reverse:") {
            return text.parse().map(Self::Forward);
        }
        if let Some(port) = text.strip_prefix("echo-sockets:") {
            let port = port.parse().ok().filter(|port| *port != 0);
            return port.map(Self::EchoSockets).ok_or_else(|| format!("`{text}` has no port from 1 to 65535"));
        }
        text.parse().map(Self::Service).map_err(|error| match error {
            // What the library does not have, this command has beside it.
            ParseServiceError::UnknownName(_) => format!("{error}, forward, reverse, echo-sockets"),
            error => error.to_string(),
        })
    }
}

impl Serve {
    #[cfg(test)]
    pub(crate) fn engine_options(&self) -> &EngineOptions {
        &self.engine
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        self.engine.tcp().map(drop)
    }

    pub(crate) fn run(self) -> Result<(), Error> {
        let Some(tcp) = self.engine.tcp()? else { return Ok(()) };
        return_large_allocations();
        self.engine.start_logging();
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let mut specs = services::default_services();
        let mut forwards: Vec<Forward> = Vec::new();
        let mut echo_ports: Vec<u16> = Vec::new();
        for wanted in self.service {
            let (text, port) = match &wanted {
                Wanted::Service(spec) => (spec.to_string(), Some(spec.port)),
                Wanted::Forward(forward) => (forward.to_string(), forward.port()),
                Wanted::EchoSockets(port) => (format!("echo-sockets:{port}"), Some(*port)),
            };
            let taken = |port| {
                specs.iter().any(|known| known.port == port)
                    || forwards.iter().any(|known| known.port() == Some(port))
                    || echo_ports.contains(&port)
            };
            if let Some(port) = port.filter(|port| taken(*port)) {
                let why = "has a service already; choose another port";
                return Err(Error::Usage(format!("--service {text}: port {port} {why}")));
            }
            match wanted {
                Wanted::Service(spec) => specs.push(spec),
                Wanted::Forward(forward) => forwards.push(forward),
                Wanted::EchoSockets(port) => echo_ports.push(port),
            }
        }
        // Before there is a device: what cannot be served is not begun.
        let places = if forwards.is_empty() {
            0
        } else {
            let applications = 1 + usize::from(!echo_ports.is_empty());
            descriptors::connections(&self.engine.plan()?, applications, forwards.len(), forward::CONNECTIONS)?
        };
        let Setup { device, plan, config } = self.engine.setup(&[self.address], "trust0", tcp)?;
        let tun = device.name().to_owned();
        let capabilities = device.capabilities();
        let environment = Environment { cpu_clock: Arc::new(cpu_time), ..Environment::default() };
        let factories: Vec<_> = specs
            .iter()
            .copied()
            .map(|spec| {
                let environment = environment.clone();
                ServiceFactory {
                    port: Some(spec.port),
                    make: Box::new(move || services::build(spec.name, &environment)),
                }
            })
            .collect();
        let mut engine = Engine::start(config, plan, device, &factories).map_err(super::no_engine)?;
        let forwarding = Forwarding::start(&engine.stack(), &forwards, places)?;
        let echoing = EchoSockets::start(&engine.stack(), &echo_ports)?;

        let plan = engine.plan();
        let shape = if plan.kind == PlanKind::Fused { "fused" } else { "pipeline" };
        let output = console::output();
        let mut banner = format!(
            "{tun}: mtu {}, {} queues, checksum offload {}, tso {}, plan {shape}, steering {}\n",
            capabilities.mtu,
            capabilities.queues,
            on(capabilities.checksum_offload),
            on(capabilities.tso4),
            engine.steering(),
        );
        for thread in &plan.threads {
            let cpu = thread.cpu.map_or_else(|| "any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
            let stages: Vec<_> = thread
                .stages
                .iter()
                .map(|stage| match stage {
                    StageId::Rx(queue) => format!("rx (queue {queue})"),
                    StageId::Worker(shard) => format!("worker (shard {shard})"),
                    StageId::Tx(queue) => format!("tx (queue {queue})"),
                })
                .collect();
            banner += &format!("  {} -> {cpu} -> {}\n", thread.name, stages.join(", "));
        }
        let mut list: Vec<_> = specs.iter().map(ToString::to_string).collect();
        list.extend(forwards.iter().map(ToString::to_string));
        list.extend(echo_ports.iter().map(|port| format!("echo-sockets:{port}")));
        output.say(banner + &format!("ready: {} {}\n", self.address.ip, list.join(" ")));

        let (stop, stopped) = bounded(1);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if let Some(signal) = signals.forever().next() {
                let _ = stop.send(signal);
            }
        })?;
        let terminal = std::io::stderr().is_terminal();
        let start = Instant::now();
        let mut before = Sample::take(&engine, start);
        let mut crowd = Crowd::default();
        let mut told = false;
        loop {
            let interval = Duration::from_secs(self.stats.unwrap_or(1));
            match stopped.recv_timeout(interval) {
                Ok(_) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if engine.has_failed() => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = Sample::take(&engine, start);
            if self.stats.is_some() {
                output.say(stats_lines(&before, &now));
            } else if terminal {
                console::error().say(format!("\r\x1b[K{}", live_line(&before, &now)));
            }
            if let Some(error) = output.take_failure().filter(|_| !std::mem::replace(&mut told, true)) {
                tracing::warn!("standard output cannot be written ({error}); serving on without it");
            }
            if crowd.has_gone(now.shards.iter().map(|shard| shard.connections).sum()) {
                return_free_pages();
            }
            before = now;
        }
        if terminal {
            console::error().say("\n");
        }
        // First, so that what it resets is still said.
        drop((forwarding, echoing));
        let result = engine.stop();
        output.say(summary(&Sample::take(&engine, start)) + &lost());
        Ok(result?)
    }
}

/// What was said and nobody could read, in a line for the summary; nothing if there is none.
fn lost() -> String {
    console::finish(super::LAST_WORDS);
    match [console::error(), console::output()].map(console::Console::unwritten) {
        [0, 0] => String::new(),
        [log, output] => format!("  not written: {log} lines of standard error, {output} pieces of standard output\n"),
    }
}

fn on(granted: bool) -> &'static str {
    if granted { "on" } else { "off" }
}

/// Many connections of which most have ended.
#[derive(Debug, Default)]
struct Crowd {
    most: u64,
}

impl Crowd {
    /// Fewer are not worth the trouble.
    const MANY: u64 = 1_000;

    /// Whether there were many, and few are left of them; once for each crowd.
    fn has_gone(&mut self, connections: u64) -> bool {
        let gone = self.most >= Self::MANY && connections < self.most / 4;
        self.most = if gone { connections } else { self.most.max(connections) };
        gone
    }
}

/// Has the allocator give back what is free between what is not: what a crowd held in small pieces. It is done when the
/// crowd has gone, and here: shards allocate seldom, and would wait for it once.
fn return_free_pages() {
    // SAFETY: it only concerns memory that is free.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has the allocator give every page of connections back when it is free. glibc takes the first large allocation that is
/// freed for a sign that such come and go, and from then on keeps their like; said explicitly, its threshold stays.
fn return_large_allocations() {
    /// As it is at the start, octets.
    const LARGE: i32 = 128 << 10;
    // SAFETY: a setting of the allocator's, changed before the engine's threads are there.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Processor time of this process so far, for the use that iperf3 reports.
pub(super) fn cpu_time() -> CpuTime {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is large enough and lives through the call.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    if result != 0 {
        return CpuTime::default();
    }
    // SAFETY: filled by the call (and zeroed before, which is a valid value).
    let usage = unsafe { usage.assume_init() };
    let span = |time: libc::timeval| {
        tcp::Duration::from_secs(time.tv_sec as u64).saturating_add(tcp::Duration::from_micros(time.tv_usec as u64))
    };
    CpuTime { user: span(usage.ru_utime), system: span(usage.ru_stime) }
}

#[cfg(test)]
mod tests {
    use super::Crowd;

    #[test]
    fn a_crowd_has_gone_once() {
        let mut crowd = Crowd::default();
        let counts = [10, 999, 0, 5_000, 2_000, 1_249, 300, 0, 4_000, 0];
        // 1,249 are a crowd of their own, which goes with all but 300 of them.
        let expected = [false, false, false, false, false, true, true, false, false, true];
        assert_eq!(counts.map(|count| crowd.has_gone(count)), expected);
    }
}
