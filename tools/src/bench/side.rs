//! One side of a comparison, set up in fresh anonymous namespaces: where it serves, and where its clients run.

use super::peers::Form;
use super::plan::{Conditions, Contestant, Kind};
use super::{PATIENCE, Programs};
use crate::netns::Namespace;
use crate::sys;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Where the engine echoes through sockets, by an application thread. The kernel's server does nothing else on any port.
const SOCKETS_PORT: u16 = 1007;

/// TIME-WAIT records that the client's kernel keeps at most: few, so that the ports of one row are there for the next.
const TIME_WAIT_RECORDS: &str = "1000";

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
    sockets_port: u16,
}

impl Side {
    /// Starts a side and waits until it serves. The kernel's server has the CPU `server_cpu` unless it roams.
    ///
    /// # Errors
    /// A namespace cannot be made, or a server does not get ready; the message carries what it printed.
    pub fn start(
        side: &Contestant,
        programs: &Programs,
        conditions: &Conditions,
        server_cpu: usize,
    ) -> io::Result<Self> {
        match &side.kind {
            Kind::Engine(words) => Self::engine(words, programs, conditions),
            Kind::Kernel => Self::kernel(programs, conditions, (!conditions.roaming).then_some(server_cpu)),
            Kind::Ceiling(shape) => Self::ceiling(shape, programs, conditions),
            Kind::Peer(peer) => match peer.form() {
                Form::Crate(words) => {
                    let mut command = Command::new(&programs.peers);
                    command.args(words);
                    Self::alone(conditions, &command)
                }
                form @ Form::System { .. } => Self::joined(form, programs, conditions, server_cpu),
            },
        }
    }

    fn engine(words: &[String], programs: &Programs, conditions: &Conditions) -> io::Result<Self> {
        let mut command = Command::new(&programs.engine);
        command.args(["serve", "--address", "10.7.0.2/24", "--mtu", &conditions.mtu.to_string()]);
        command.args(["--service", &format!("echo-sockets:{SOCKETS_PORT}")]);
        command.args(["--offload", if conditions.offload { "on" } else { "off" }]).args(words);
        let mut side = Self::alone(conditions, &command)?;
        side.sockets_port = SOCKETS_PORT;
        Ok(side)
    }

    fn ceiling(shape: &str, programs: &Programs, conditions: &Conditions) -> io::Result<Self> {
        let mut command = Command::new(programs.tool("ceiling"));
        command.args(["--shape", shape, "--address", "10.7.0.1/24", "--mtu", &conditions.mtu.to_string()]);
        command.args(["--offload", if conditions.offload { "on" } else { "off" }]);
        Self::alone(conditions, &command)
    }

    /// A stack of user space, which serves in the namespace where its clients run.
    fn alone(conditions: &Conditions, server: &Command) -> io::Result<Self> {
        let client = prepared_namespace(conditions, conditions.rootless)?;
        let mut side = Self { client, server: None, address: "10.7.0.2", children: Vec::new(), sockets_port: 7 };
        let mut command = side.client.command(&server.get_program().to_string_lossy());
        side.children.push(start_server(command.args(server.get_args()))?);
        Ok(side)
    }

    fn kernel(programs: &Programs, conditions: &Conditions, cpu: Option<usize>) -> io::Result<Self> {
        // Its TCP asks nobody for rights, and a veth pair needs them in both namespaces.
        let plain = || prepared_namespace(conditions, false);
        let (client, server) = (plain()?, plain()?);
        client.veth(("veth0", "10.7.0.1/24"), &server, ("veth1", "10.7.0.2/24"), conditions.mtu)?;
        if !conditions.offload {
            for (namespace, device) in [(&client, "veth0"), (&server, "veth1")] {
                namespace.without_segmentation(device)?;
            }
        }
        let mut command = server.command(&programs.tool("ktcp"));
        command.arg("server");
        let mut iperf3 = server.command("iperf3");
        iperf3.arg("-s").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(cpu) = cpu {
            command.args(["--cpu", &cpu.to_string()]);
            iperf3.args(["-A", &cpu.to_string()]);
        }
        let children = vec![
            start_server(&mut command)?,
            iperf3.spawn().map_err(|e| io::Error::new(e.kind(), format!("iperf3: {e}")))?,
        ];
        let side = Self { client, server: Some(server), address: "10.7.0.2", children, sockets_port: 7 };
        side.await_port(5201)?;
        Ok(side)
    }

    /// A program of the system's that joins the client's namespace to another, where the kernel serves on loopback. Both
    /// have the server's CPU.
    fn joined(form: Form, programs: &Programs, conditions: &Conditions, cpu: usize) -> io::Result<Self> {
        let Form::System { program, package, before, after, address } = form else {
            return Err(io::Error::other("not a program of the system's"));
        };
        let plain = || prepared_namespace(conditions, false);
        let (client, server) = (plain()?, plain()?);
        // pasta takes addresses and routes after an interface that is there.
        server.ip("link add ext0 type veth peer name ext1")?;
        for words in ["address add 10.9.0.2/24 dev ext0", "link set ext1 up", "link set ext0 up"] {
            server.ip(words)?;
        }
        server.ip("route add default via 10.9.0.1 dev ext0")?;
        let mut serving = server.command(&programs.tool("ktcp"));
        let children = vec![start_server(serving.args(["server", "--cpu", &cpu.to_string()]))?];
        let mut side = Self { client, server: Some(server), address, children, sockets_port: 7 };
        let Some(server) = &side.server else { return Err(io::Error::other("no server")) };
        let mut joining = server.command(program);
        let place = side.client.lend_to(&mut joining);
        joining.args(before).arg(place).args(after);
        joining.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let joined = sys::pin_command(&mut joining, cpu).spawn().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                io::Error::other(format!("{program} is not installed: apt-get install {package}"))
            }
            _ => io::Error::new(e.kind(), format!("{program}: {e}")),
        })?;
        side.children.push(joined);
        for _ in 0..100 {
            if side.client.has_default_route()? {
                return Ok(side);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("{program} did not set up the client's network")))
    }

    /// A command that will run where this side's clients run.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        self.client.command(program)
    }

    /// Where an application echoes that uses sockets.
    #[must_use]
    pub fn sockets_port(&self) -> u16 {
        self.sockets_port
    }

    /// The processes that serve.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
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

fn prepared_namespace(conditions: &Conditions, rootless: bool) -> io::Result<Namespace> {
    let namespace = if rootless { Namespace::rootless()? } else { Namespace::new()? };
    if let Some(name) = &conditions.congestion {
        namespace.set_sysctl("net.ipv4.tcp_congestion_control", name)?;
    }
    // Tens of thousands of connections a second from one address: TIME-WAIT ports may be taken again after a second,
    // the client has most of them to choose from, and few records are kept at all.
    namespace.set_sysctl("net.ipv4.tcp_tw_reuse", "1")?;
    namespace.set_sysctl("net.ipv4.tcp_max_tw_buckets", TIME_WAIT_RECORDS)?;
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
    let end = Instant::now() + PATIENCE;
    let mut said = String::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
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
