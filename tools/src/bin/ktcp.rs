//! `ktcp`: the one client of our own that speaks through *kernel* sockets, and a kernel-socket server with the
//! engine's services. It measures; what it measures is told in `trust_tools::client`.

use clap::{Args, Parser, Subcommand};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use trust_tools::arguments;
use trust_tools::client::{self, BulkReport, Direction, LatencyReport, Window};
use trust_tools::server::{self, Service};
use trust_tools::sys::{self, Limit};

/// TCP through kernel sockets: measure a server, or be the kernel's server in a comparison.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Write as fast as the server takes it (against discard)
    Up(Bulk),
    /// Read as fast as the server gives it (from chargen)
    Down(Bulk),
    /// Write as fast as the server takes it and read it back (against echo)
    Echo(Bulk),
    /// Request/response on open connections, one request under way on each (against echo)
    Rr(RequestResponse),
    /// Connect, one byte, one byte back, close (against echo)
    Cr(Connections),
    /// Serve echo, discard and chargen by the kernel's TCP
    Server(Server),
}

#[derive(Debug, Args)]
struct Common {
    /// Server, by address or name
    host: String,
    /// Port (default: the mode's well-known port)
    #[arg(long)]
    port: Option<u16>,
    /// Seconds that count
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before them that do not
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Pin the client to this CPU
    #[arg(long)]
    cpu: Option<usize>,
    /// Tell the CPU time of this process, too, like the server's; may be repeated
    #[arg(long, value_name = "PID")]
    watch: Vec<u32>,
    /// One JSON object instead of a line of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Bulk {
    #[command(flatten)]
    common: Common,
    /// Connections
    #[arg(long, default_value_t = 1)]
    flows: usize,
    /// Octets a read or write
    #[arg(long, default_value_t = 131_072)]
    block: usize,
}

#[derive(Debug, Args)]
struct RequestResponse {
    #[command(flatten)]
    common: Common,
    /// Connections
    #[arg(long, default_value_t = 1)]
    conns: usize,
    /// Octets of a request, and of its response
    #[arg(long, default_value_t = 1)]
    size: usize,
    /// Never sleep while waiting
    #[arg(long)]
    spin: bool,
}

#[derive(Debug, Args)]
struct Connections {
    #[command(flatten)]
    common: Common,
    /// Connections under way at any time
    #[arg(long, default_value_t = 1)]
    conns: usize,
    /// Take local ports in turn from this one on (default: from one that the time of day chooses)
    #[arg(long)]
    first_port: Option<u16>,
    /// Close by RST instead of FIN
    #[arg(long)]
    reset: bool,
}

#[derive(Debug, Args)]
struct Server {
    /// Address to bind
    #[arg(long, default_value = "0.0.0.0")]
    address: IpAddr,
    /// A service and its port, may be repeated (default: echo:7 discard:9 chargen:19)
    #[arg(long = "service", value_name = "NAME:PORT")]
    services: Vec<Service>,
    /// End after this many seconds (default: run until stopped)
    #[arg(long)]
    seconds: Option<f64>,
    /// Pin the server to this CPU
    #[arg(long)]
    cpu: Option<usize>,
}

fn seconds(value: f64) -> io::Result<Duration> {
    Duration::try_from_secs_f64(value).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("{value}: {e}")))
}

impl Common {
    /// Pins the client, and says where to go and for how long.
    fn prepare(&self, default_port: u16) -> io::Result<(SocketAddr, Window)> {
        if let Some(cpu) = self.cpu {
            sys::pin_to_cpu(cpu)?;
        }
        let to = (self.host.as_str(), self.port.unwrap_or(default_port))
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| io::Error::other(format!("{} has no address", self.host)))?;
        // For as long as this program runs, which measures once.
        let watched = self.watch.clone().leak();
        Ok((to, Window { warmup: seconds(self.warmup)?, length: seconds(self.seconds)?, watched }))
    }
}

fn print_bulk(report: &BulkReport, json: bool) {
    if json {
        println!("{}", report.json());
        return;
    }
    let name = report.direction.name();
    println!(
        "{name} {} flows: {:.3} Gbit/s ({} octets in {:.2} s, {:.0} a call, client {:.0} % of a CPU)",
        report.flows,
        report.gigabits(),
        report.bytes,
        report.seconds,
        report.bytes as f64 / report.calls.max(1) as f64,
        report.cpu.client / report.seconds * 100.0
    );
}

fn print_latency(report: &LatencyReport, json: bool) {
    if json {
        println!("{}", report.json());
        return;
    }
    println!(
        "{} {}: {:.0}/s, p50 {:.1} us, p90 {:.1} us, p99 {:.1} us, p99.9 {:.1} us, failures {}, client {:.0} % of a CPU",
        report.mode,
        report.concurrency,
        report.rate(),
        report.quantile_us(0.5),
        report.quantile_us(0.9),
        report.quantile_us(0.99),
        report.quantile_us(0.999),
        report.failures,
        report.cpu.client / report.seconds * 100.0
    );
}

fn at_least_one(what: &str, n: usize) -> io::Result<usize> {
    if n > 0 { Ok(n) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{what} must be 1 or more"))) }
}

fn run(mode: Mode) -> io::Result<()> {
    sys::raise_limit(Limit::OpenFiles)?;
    match mode {
        Mode::Up(b) => {
            let (to, window) = b.common.prepare(9)?;
            let (flows, block) = (at_least_one("--flows", b.flows)?, at_least_one("--block", b.block)?);
            print_bulk(&client::bulk(Direction::Up, to, flows, block, window)?, b.common.json);
        }
        Mode::Down(b) => {
            let (to, window) = b.common.prepare(19)?;
            let (flows, block) = (at_least_one("--flows", b.flows)?, at_least_one("--block", b.block)?);
            print_bulk(&client::bulk(Direction::Down, to, flows, block, window)?, b.common.json);
        }
        Mode::Echo(b) => {
            let (to, window) = b.common.prepare(7)?;
            let (flows, block) = (at_least_one("--flows", b.flows)?, at_least_one("--block", b.block)?);
            print_bulk(&client::bulk(Direction::Echo, to, flows, block, window)?, b.common.json);
        }
        Mode::Rr(r) => {
            let (to, window) = r.common.prepare(7)?;
            let (conns, size) = (at_least_one("--conns", r.conns)?, at_least_one("--size", r.size)?);
            print_latency(&client::request_response(to, conns, size, r.spin, window)?, r.common.json);
        }
        Mode::Cr(c) => {
            let (to, window) = c.common.prepare(7)?;
            let conns = at_least_one("--conns", c.conns)?;
            print_latency(&client::connections(to, conns, c.reset, c.first_port, window)?, c.common.json);
        }
        Mode::Server(s) => {
            if let Some(cpu) = s.cpu {
                sys::pin_to_cpu(cpu)?;
            }
            let until = s.seconds.map(seconds).transpose()?.map(|length| Instant::now() + length);
            let services = if s.services.is_empty() { Service::DEFAULT.to_vec() } else { s.services };
            server::serve(s.address, &services, until, || println!("ready: {}", s.address))?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(arguments::parse::<Arguments>().mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("ktcp: {e}");
            ExitCode::FAILURE
        }
    }
}
