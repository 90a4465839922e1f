//! `trust serve`: an engine with its services until TERM, INT or HUP, and for a while beyond that.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use signal_hook::iterator::Signals;
use trust::device::Capabilities;
use trust::engine::{Engine, PlanKind, ServiceFactory, StageId};
use trust::fence::Mode;
use trust::services::{self, CpuTime, Environment, ServiceSpec};
use trust::tcp;

use super::addresses::{AddressOptions, Families, Ours};
use super::control::{self, About, Control, Scraped, Server};
use super::echo_sockets::EchoSockets;
use super::fencing::Inherited;
use super::forward::{self, Bound, Forwarding};
use super::observe::{Sample, live_line, stats_lines, summary};
use super::options::{EngineOptions, Setup, no_engine};
use super::wanted::{Services, Wanted};
use super::{Error, capture, console, descriptors, opener, threads};

/// How often it is looked whether another signal has come.
const MOMENT: Duration = Duration::from_millis(20);

/// For so long a capture may take to begin.
const CAPTURE: Duration = Duration::from_secs(10);

/// Options of `trust serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    addresses: AddressOptions,

    /// One more service on one more port, like echo:4242; a port of a default service it takes over, like echo:80;
    /// forward:PORT=HOST:PORT, what comes to our port goes to a host by the kernel; reverse:[ADDRESS:]PORT=HOST:PORT, what
    /// comes to the kernel's port (127.0.0.1, unless told) goes to a host by our stack; echo-sockets:PORT, echo as an
    /// application on sockets.
    #[arg(long, value_name = "NAME:PORT")]
    service: Vec<Wanted>,

    /// Only what --service names, and not echo, discard, daytime, chargen, http and iperf3 on their usual ports.
    #[arg(long)]
    no_default_services: bool,

    /// At TERM, INT or HUP: take no new connections, and let those that are open end by themselves for so long, before they
    /// are reset; another signal resets them at once. 0: none has that time.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = drain, allow_negative_numbers = true)]
    drain: u64,

    /// Print counters every so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = super::options::seconds, allow_negative_numbers = true)]
    stats: Option<u64>,

    /// Where the control socket is, for trust ss, kill, stats, capture and events; off: there is none. Default: a file of this device and
    /// process in the user's folder of what runs (XDG_RUNTIME_DIR, /run for root).
    #[arg(long, value_name = "PATH|off")]
    control: Option<control::Wanted>,

    /// Write all packets to this file, as trust capture -w FILE does, from the first one on until the end.
    #[arg(long, value_name = "FILE")]
    capture: Option<PathBuf>,

    /// Serve metrics for Prometheus on this port of our own, at /metrics. Default: nowhere.
    #[arg(long, value_name = "PORT", value_parser = super::options::port, allow_negative_numbers = true)]
    metrics: Option<u16>,

    #[command(flatten)]
    engine: EngineOptions,
}

impl Serve {
    #[cfg(test)]
    pub(crate) fn engine_options(&self) -> &EngineOptions {
        &self.engine
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        self.addresses.choose(0, self.engine.mtu)?;
        self.engine.tcp().map(drop)
    }

    pub(crate) fn run(self, inherited: Inherited) -> Result<(), Error> {
        let Some(tcp) = self.engine.tcp()? else { return Ok(()) };
        let ours = self.addresses.choose(0, self.engine.mtu)?;
        return_large_allocations();
        self.engine.start_logging();
        let mut fencing = self.engine.fence.build(inherited)?;
        let services = Services::new(self.service, !self.no_default_services, self.metrics)?;
        let (list, applications) = (services.words(), services.applications());
        let Services { specs, forwards, echo_ports } = services;
        // Before there is a device: what cannot be served is not begun.
        let places = if forwards.is_empty() {
            0
        } else {
            let applications = 1 + usize::from(!echo_ports.is_empty());
            descriptors::connections(&self.engine.plan()?, applications, forwards.len(), forward::CONNECTIONS)?
        };
        // First what takes rights; then they go, and threads begin; then all that is left goes.
        let fork = || opener::fork(&fencing, &forwards, Families::of(&ours.ips()));
        let helper = (!forwards.is_empty()).then(fork).transpose()?;
        let device = self.engine.tun.as_deref().unwrap_or("trust0");
        let mut control = Control::begin(self.control.as_ref(), device, &fencing)?;
        let mut signals = signals()?;
        let Setup { device, plan, config } = self.engine.setup(&ours, "trust0", tcp)?;
        let tun = device.name().to_owned();
        let capabilities = device.capabilities();
        let prepared = Engine::prepare(config, plan, device, &factories(&specs)).map_err(no_engine)?;
        let bound = helper.map(|helper| Bound::new(forwards).map(|bound| (bound, helper))).transpose()?;
        control.bind()?;
        let capturing = self.capture.as_ref().map(|file| capture::begin(file, control.path())).transpose()?;
        fencing.give_up()?;
        let mut engine = prepared.start().map_err(no_engine)?;
        let mode = if bound.is_some() { Mode::Forward } else { Mode::Serve };
        let forwarding = bound.map(|(bound, helper)| bound.start(&engine.stack(), places, helper)).transpose()?;
        let echoing = EchoSockets::start(&engine.stack(), &echo_ports)?;
        let scraped = self.metrics.map(|port| Scraped::bind(&engine.stack(), &ours.ips(), port)).transpose()?;
        let (stop, stopped) = bounded(1);
        // One that nobody has taken yet says as much.
        threads::start("signals", move || signals.forever().for_each(|signal| _ = stop.try_send(signal)))?;
        let (terminal, start) = (std::io::stderr().is_terminal(), Instant::now());
        let about = About {
            engine: about(&tun, &ours, &engine, &list),
            start,
            services: specs.iter().map(|spec| spec.name.to_string()).collect(),
            applications: applications
                .into_iter()
                .chain(self.metrics.map(|port| (port, "metrics".to_owned())))
                .collect(),
        };
        let mut banner = banner(&tun, &capabilities, &engine, &ours);
        if let Some(path) = control.path() {
            banner += &format!("control: {}\n", path.display());
        }
        let control = control.serve(engine.handle(), about, scraped)?;
        if let (Some(capture), Some((server, _))) = (capturing, &control) {
            await_capture(capture, server)?;
        }
        let fence = fencing.close(mode);

        let output = console::output();
        let addresses = ours.words(|address| address.ip().to_string());
        output.say(banner + &format!("fence: {fence}\nready: {addresses} {}\n", list.join(" ")));

        let signalled = watch(self.stats, &engine, start, &stopped);
        if terminal {
            console::error().say_live(String::new());
        }
        if signalled && self.drain > 0 {
            if let Some((server, _)) = &control {
                server.drain();
            }
            drain_for(Duration::from_secs(self.drain), &engine, forwarding.as_ref(), &stopped);
        }
        // First, so that what it resets is still said.
        drop((forwarding, echoing));
        let result = engine.stop();
        drop(control);
        output.say(summary(&Sample::take(&engine, start)) + &lost());
        Ok(result?)
    }
}

/// Waits until it has begun: then the first packet will be in it.
fn await_capture(mut capture: Child, server: &Server) -> Result<(), Error> {
    let has_ended = || !matches!(capture.try_wait(), Ok(None));
    if server.await_capture(CAPTURE, has_ended) {
        Ok(())
    } else {
        Err(Error::Run("--capture has not begun".to_owned()))
    }
}

/// Prints counters, and gives back what a crowd has left behind, until a signal comes or the engine fails: whether it
/// was a signal.
fn watch(stats: Option<u64>, engine: &Engine, start: Instant, stopped: &Receiver<i32>) -> bool {
    let output = console::output();
    let terminal = io::stderr().is_terminal();
    let mut before = Sample::take(engine, start);
    let mut crowd = Crowd::default();
    let mut told = false;
    loop {
        let interval = Duration::from_secs(stats.unwrap_or(1));
        match stopped.recv_timeout(interval) {
            Ok(_) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) if engine.has_failed() => return false,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = Sample::take(engine, start);
        if stats.is_some() {
            output.say(stats_lines(&before, &now));
        } else if terminal {
            console::error().say_live(live_line(&before, &now));
        }
        if let Some(error) = output.take_failure().filter(|_| !std::mem::replace(&mut told, true)) {
            tracing::warn!("standard output cannot be written ({error}); serving on without it");
        }
        if crowd.has_gone(now.shards.iter().map(|shard| shard.connections).sum()) {
            return_free_pages();
        }
        before = now;
    }
}

/// What makes the services, for each shard once.
fn factories(specs: &[ServiceSpec]) -> Vec<ServiceFactory> {
    let environment = Environment { cpu_clock: Arc::new(cpu_time), ..Environment::default() };
    let factory = |spec: &ServiceSpec| {
        let (spec, environment) = (*spec, environment.clone());
        ServiceFactory { port: Some(spec.port), make: Box::new(move || services::build(spec.name, &environment)) }
    };
    specs.iter().map(factory).collect()
}

/// What the control socket says of the engine.
fn about(device: &str, ours: &Ours, engine: &Engine, services: &[String]) -> control::protocol::Engine {
    control::protocol::Engine {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        device: device.to_owned(),
        address: ours.words(ToString::to_string),
        shards: engine.plan().workers as u16,
        services: services.to_vec(),
        uptime_ms: 0,
    }
}

/// The device, which thread does what, and what is missing of our addresses; each in a line.
fn banner(tun: &str, capabilities: &Capabilities, engine: &Engine, ours: &Ours) -> String {
    let plan = engine.plan();
    let shape = if plan.kind == PlanKind::Fused { "fused" } else { "pipeline" };
    let mut banner = format!(
        "{tun}: mtu {}, {} queue{}, checksum offload {}, tso {}, plan {shape}, steering {}\n",
        capabilities.mtu,
        capabilities.queues,
        if capabilities.queues == 1 { "" } else { "s" },
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
    if let Some(why) = ours.without_ipv6() {
        banner += &format!("IPv4 alone: {why}\n");
    }
    banner
}

/// What was said and nobody could read, in a line for the summary; nothing if there is none.
fn lost() -> String {
    console::finish();
    match [console::error(), console::output()].map(console::Console::unwritten) {
        [0, 0] => String::new(),
        [log, output] => format!("  not written: {log} lines of standard error, {output} pieces of standard output\n"),
    }
}

/// The signals that end us.
fn signals() -> io::Result<Signals> {
    Signals::new(threads::ending_signals())
}

/// Lets what is open end by itself, for so long at most or until another signal comes. The kernel's listeners close first:
/// what they take would be opened on our stack.
fn drain_for(limit: Duration, engine: &Engine, forwarding: Option<&Forwarding>, signals: &Receiver<i32>) {
    let start = Instant::now();
    if let Some(forwarding) = forwarding {
        forwarding.close_listeners();
    }
    let mut told = false;
    loop {
        let left = limit.saturating_sub(start.elapsed());
        // Of a connection that has ended on our stack the kernel's side may still have octets to get.
        let ended = engine.drain(left.min(MOMENT)) && forwarding.is_none_or(Forwarding::is_idle);
        if ended || left.is_zero() || engine.has_failed() {
            return;
        }
        if !std::mem::replace(&mut told, true) {
            tracing::warn!("connections are open and have {limit:?} to end; another signal resets them at once");
        }
        if signals.recv_timeout(Duration::from_millis(1)) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn drain(text: &str) -> Result<u64, String> {
    let right = |n: &u64| *n <= 86_400;
    text.parse().ok().filter(right).ok_or_else(|| "not a whole number of seconds from 0 to 86400".to_owned())
}

fn on(granted: bool) -> &'static str {
    if granted { "on" } else { "off" }
}

/// Many connections of which most have ended.
#[derive(Debug, Default)]
struct Crowd {
    most: u64,
    /// It goes: these are the last of it.
    going: bool,
}

impl Crowd {
    /// Fewer are not worth the trouble.
    const MANY: u64 = 1_000;

    /// Whether there were many, and few are left of them; once for each crowd, and then whenever three quarters of the
    /// rest have gone, until the last: a few hundred that end a minute later may hold most of the memory.
    fn has_gone(&mut self, connections: u64) -> bool {
        let counts = self.most >= Self::MANY || self.going;
        let gone = counts && (connections < self.most / 4 || (connections == 0 && self.most > 0));
        if gone {
            (self.most, self.going) = (connections, connections > 0);
        } else if connections > self.most {
            (self.most, self.going) = (connections, false);
        }
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
    fn a_crowd_goes_by_quarters_and_to_the_last() {
        let mut crowd = Crowd::default();
        for (connections, gone) in [
            (10, false),
            (999, false),
            // Too few to be a crowd.
            (0, false),
            (5_000, false),
            (2_000, false),
            (1_249, true),
            (400, false),
            (300, true),
            (80, false),
            (3, true),
            (2, false),
            (0, true),
            (0, false),
            (4_000, false),
            (900, true),
            // Others come, and go: that is no crowd's going any more.
            (950, false),
            (0, false),
        ] {
            assert_eq!(crowd.has_gone(connections), gone, "{connections}");
        }
    }
}
