//! Comparisons of the engine with the kernel's TCP by the same clients: [`compare`] (interleaved, many rounds) and
//! [`demo`] (one minute). This file sets the two sides up; every side lives in fresh anonymous namespaces.

pub mod compare;
pub mod demo;

use crate::netns::Namespace;
use crate::sys;
use serde_json::Value;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Time an engine or server may take to get ready, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the programs of this repository are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The `trust` binary.
    pub engine: PathBuf,
    /// The directory of `ktcp`, `nc-load` and `idle-spin`.
    pub tools: PathBuf,
}

impl Programs {
    fn tool(&self, name: &str) -> String {
        self.tools.join(name).display().to_string()
    }
}

/// Where the engine echoes through sockets, by an application thread. The kernel's server does nothing else on any port.
const SOCKETS_PORT: u16 = 1007;

/// What is served: by the engine or by the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The engine, with these further words for `trust serve`.
    Engine {
        /// What tables call it.
        name: String,
        /// Words for `trust serve`.
        words: Vec<String>,
    },
    /// The kernel's TCP in a second namespace behind a veth pair.
    Kernel,
}

impl Kind {
    /// What tables call it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Engine { name, .. } => name,
            Self::Kernel => "kernel",
        }
    }
}

/// Conditions that are equal on all sides.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// MTU of TUN and veth.
    pub mtu: u32,
    /// Congestion control of every kernel socket; `None`: the kernel's default.
    pub congestion: Option<String>,
    /// Whether the device may segment and checksum (TSO on veth, vnet header on TUN).
    pub offload: bool,
    /// CPU the kernel's servers are pinned to.
    pub server_cpu: usize,
}

/// One side of the comparison, serving. Dropping it ends its processes; its namespaces go with it.
#[derive(Debug)]
pub struct Side {
    /// Where clients run.
    client: Namespace,
    /// Where the kernel serves.
    server: Option<Namespace>,
    /// The address that serves.
    pub address: &'static str,
    children: Vec<Child>,
}

impl Side {
    /// Starts a side and waits until it serves.
    ///
    /// # Errors
    /// A namespace cannot be made, or a server does not get ready; the message carries what it printed.
    pub fn start(kind: &Kind, programs: &Programs, conditions: &Conditions) -> io::Result<Self> {
        match kind {
            Kind::Engine { words, .. } => Self::engine(words, programs, conditions),
            Kind::Kernel => Self::kernel(programs, conditions),
        }
    }

    fn engine(words: &[String], programs: &Programs, conditions: &Conditions) -> io::Result<Self> {
        let client = prepared_namespace(conditions)?;
        let mut side = Self { client, server: None, address: "10.7.0.2", children: Vec::new() };
        let mut command = side.client.command(&programs.engine.display().to_string());
        command.args(["serve", "--address", "10.7.0.2/24", "--mtu", &conditions.mtu.to_string()]);
        command.args(["--service", &format!("echo-sockets:{SOCKETS_PORT}")]);
        command.args(["--offload", if conditions.offload { "on" } else { "off" }]).args(words);
        side.children.push(start_server(&mut command)?);
        Ok(side)
    }

    fn kernel(programs: &Programs, conditions: &Conditions) -> io::Result<Self> {
        let (client, server) = (prepared_namespace(conditions)?, prepared_namespace(conditions)?);
        client.veth(("veth0", "10.7.0.1/24"), &server, ("veth1", "10.7.0.2/24"), conditions.mtu)?;
        if !conditions.offload {
            for (namespace, device) in [(&client, "veth0"), (&server, "veth1")] {
                let mut command = namespace.command("ethtool");
                command.args(["-K", device, "tso", "off", "gso", "off", "gro", "off"]);
                sys::run(&mut command, PATIENCE)?;
            }
        }
        let cpu = conditions.server_cpu.to_string();
        let mut side = Self { client, server: Some(server), address: "10.7.0.2", children: Vec::new() };
        let Some(server) = &side.server else { return Err(io::Error::other("no server namespace")) };
        let mut command = server.command(&programs.tool("ktcp"));
        command.args(["server", "--cpu", &cpu]);
        let mut iperf3 = server.command("iperf3");
        iperf3.args(["-s", "-A", &cpu]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        side.children.push(start_server(&mut command)?);
        side.children.push(iperf3.spawn().map_err(|e| io::Error::new(e.kind(), format!("iperf3: {e}")))?);
        side.await_port(5201)?;
        Ok(side)
    }

    /// A command that will run where this side's clients run.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        self.client.command(program)
    }

    /// Where an application echoes that uses sockets.
    #[must_use]
    pub fn sockets_port(&self) -> u16 {
        if self.server.is_some() { 7 } else { SOCKETS_PORT }
    }

    /// The congestion control in force for this side's kernel sockets.
    ///
    /// # Errors
    /// The sysctl cannot be read.
    pub fn congestion(&self) -> io::Result<String> {
        self.client.sysctl("net.ipv4.tcp_congestion_control")
    }

    /// Waits until the server namespace listens on a port, by looking rather than by connecting.
    fn await_port(&self, port: u16) -> io::Result<()> {
        let Some(server) = &self.server else { return Ok(()) };
        let mark = format!(":{port:04X} ");
        for _ in 0..100 {
            if server.listening()?.contains(&mark) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing listens on port {port}")))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        for child in &mut self.children {
            sys::stop(child, PATIENCE);
        }
    }
}

fn prepared_namespace(conditions: &Conditions) -> io::Result<Namespace> {
    let namespace = Namespace::new()?;
    if let Some(name) = &conditions.congestion {
        namespace.set_sysctl("net.ipv4.tcp_congestion_control", name)?;
    }
    // Tens of thousands of connections a second from one address: let TIME-WAIT ports be taken again after a second,
    // and leave the client most of them to choose from.
    namespace.set_sysctl("net.ipv4.tcp_tw_reuse", "1")?;
    namespace.set_sysctl("net.ipv4.ip_local_port_range", "60000 65535")?;
    Ok(namespace)
}

/// Starts a server and waits for its line "ready: ...".
fn start_server(command: &mut Command) -> io::Result<Child> {
    let what = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", command.get_program().to_string_lossy())))?;
    let (lines, received) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        forward_lines(stdout, lines.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        forward_lines(stderr, lines);
    }
    let end = std::time::Instant::now() + PATIENCE;
    let mut said = String::new();
    loop {
        let left = end.saturating_duration_since(std::time::Instant::now());
        match received.recv_timeout(left) {
            Ok(line) if line.starts_with("ready:") => return Ok(child),
            Ok(line) => {
                said.push_str(&line);
                said.push_str(" / ");
            }
            Err(_) => {
                sys::stop(&mut child, Duration::from_secs(1));
                return Err(io::Error::other(format!("{what} did not get ready: {}", said.trim_end_matches(" / "))));
            }
        }
    }
}

/// Reads a pipe to its end, so that the writer never blocks; lines nobody waits for any more are dropped.
fn forward_lines(pipe: impl io::Read + Send + 'static, lines: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
}

/// Runs a program that prints one JSON value.
fn run_json(command: &mut Command, patience: Duration) -> io::Result<Value> {
    let output = sys::run(command, patience)?;
    serde_json::from_slice(&output.stdout).map_err(io::Error::from)
}

/// A number inside a JSON value, by its path.
fn number(value: &Value, path: &str) -> io::Result<f64> {
    value.pointer(path).and_then(Value::as_f64).ok_or_else(|| io::Error::other(format!("no number at {path}")))
}

/// Runs stock iperf3 for whole seconds; Gbit/s as the receiver counted them.
fn iperf3(side: &Side, seconds: u64, flows: usize, reverse: bool, cpu: usize) -> io::Result<f64> {
    let mut command = side.client("iperf3");
    command.args(["-J", "-c", side.address, "-t", &seconds.to_string(), "-P", &flows.to_string()]);
    command.args(["-A", &cpu.to_string()]);
    if reverse {
        command.arg("-R");
    }
    let report = run_json(&mut command, Duration::from_secs(seconds) + PATIENCE)?;
    Ok(number(&report, "/end/sum_received/bits_per_second")? / 1e9)
}

/// Text of a file, or "?".
fn text_of(path: &str) -> String {
    std::fs::read_to_string(path).map_or_else(|_| "?".to_string(), |text| text.trim().to_string())
}

/// What the machine is: kernel, processor, CPUs in use, the commit measured.
#[must_use]
pub fn machine() -> String {
    let info = text_of("/proc/cpuinfo");
    let model =
        info.lines().find_map(|l| l.strip_prefix("model name")).map_or("?", |l| l.trim_start_matches([' ', '\t', ':']));
    let git = sys::run(Command::new("git").args(["describe", "--always", "--dirty"]), PATIENCE);
    let commit = git.map_or_else(|_| "?".to_string(), |o| String::from_utf8_lossy(&o.stdout).trim().to_string());
    let kernel = text_of("/proc/sys/kernel/osrelease");
    format!("Linux {kernel}, {} CPUs ({model}), trust at {commit}", sys::usable_cpus().len())
}
