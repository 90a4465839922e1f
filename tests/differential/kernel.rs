//! The kernel: a TUN device in a namespace of the test's own, with the peer at its other end, and an application on its
//! sockets. Its time is real, so many scripts go on at once, each at a port of its own.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use tun_tap::{Iface, Mode};

use super::facts::{App, Facts, Peer};
use super::packet::{self, PORT, STACK};
use super::run::{SETTLED, read_all};
use super::script::{Script, Step, octets};

/// The peer's ports.
const PORTS: std::ops::Range<u16> = 10_000..60_000;

struct Connection {
    stream: Option<TcpStream>,
    peer: Peer,
    app: App,
    closed: bool,
    written: i64,
}

pub(crate) struct Kernel {
    device: Iface,
    listener: Socket,
    connections: Vec<Connection>,
    /// The peer's first port: what is left of the batch before must not be taken for answers to this one.
    from: u16,
}

fn must(line: &str) -> Result<(), String> {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().map_err(|e| format!("{line}: {e}"))?;
    output.status.success().then_some(()).ok_or(format!("{line}: {}", String::from_utf8_lossy(&output.stderr)))
}

impl Kernel {
    /// In a fresh namespace, which is the caller's.
    pub(crate) fn new() -> Result<Self, String> {
        let device = Iface::without_packet_info("diff0", Mode::Tun).map_err(|e| e.to_string())?;
        // SAFETY: the descriptor is open, and only its flags change.
        assert_eq!(unsafe { libc::fcntl(device.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }, 0);
        must("ip addr add 10.9.0.1/24 dev diff0")?;
        must("ip link set diff0 txqueuelen 10000 up")?;
        for (key, value) in [("tcp_syncookies", "0"), ("tcp_max_syn_backlog", "8192")] {
            std::fs::write(format!("/proc/sys/net/ipv4/{key}"), value).map_err(|e| format!("{key}: {e}"))?;
        }
        // Shared by all connections, where the kernel has it: it is not what is compared.
        let _ = std::fs::write("/proc/sys/net/ipv4/tcp_challenge_ack_limit", i32::MAX.to_string());
        let listener = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).map_err(|e| e.to_string())?;
        let address = std::net::SocketAddr::from((STACK, PORT));
        listener.bind(&address.into()).map_err(|e| e.to_string())?;
        listener.listen(8_192).map_err(|e| e.to_string())?;
        Ok(Self { device, listener, connections: Vec::new(), from: PORTS.start })
    }

    /// How many scripts can go on at once, of `most`.
    pub(crate) fn at_once(&self, most: usize) -> usize {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the limits are read into a struct of ours, and raised as far as anybody may.
        unsafe {
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
        usize::try_from(limit.rlim_max).unwrap_or(usize::MAX).saturating_sub(100).clamp(1, most)
    }

    /// The facts of each script after its SYN and after each of its steps.
    pub(crate) fn run(&mut self, scripts: &[Script]) -> Vec<Vec<Facts>> {
        let connection = |script| {
            let (peer, app) = (Peer::new(script), App::default());
            Connection { stream: None, peer, app, closed: false, written: 0 }
        };
        self.from = self.from.checked_add(self.connections.len() as u16).unwrap_or(PORTS.end);
        if usize::from(PORTS.end.saturating_sub(self.from)) < scripts.len() {
            self.from = PORTS.start;
        }
        self.connections = scripts.iter().map(connection).collect();
        let mut all = vec![Vec::new(); scripts.len()];
        for (index, script) in scripts.iter().enumerate() {
            let syn = packet::syn(script, &self.connections[index].peer, self.from + index as u16);
            self.inject(&syn);
            if index % 64 == 63 {
                self.look();
            }
        }
        self.settle();
        self.note(scripts, &mut all, 0);
        let longest = scripts.iter().map(|script| script.steps.len()).max().unwrap_or(0);
        for at in 0..longest {
            self.connections.iter_mut().for_each(|connection| connection.peer.begin());
            for (index, script) in scripts.iter().enumerate() {
                if let Some(step) = script.steps.get(at) {
                    self.step(index, step);
                }
                if index % 64 == 63 {
                    self.look();
                }
            }
            self.settle();
            self.note(scripts, &mut all, at + 1);
        }
        // What is left of them must not answer in the place of the next ones.
        for connection in &mut self.connections {
            if let Some(stream) = connection.stream.take() {
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
        }
        all
    }

    fn note(&self, scripts: &[Script], all: &mut [Vec<Facts>], at: usize) {
        for ((connection, script), facts) in self.connections.iter().zip(scripts).zip(all) {
            if at <= script.steps.len() {
                facts.push(Facts { app: connection.app, ..connection.peer.facts });
            }
        }
    }

    fn step(&mut self, index: usize, step: &Step) {
        let connection = &mut self.connections[index];
        match step {
            Step::Send(segment) => {
                let packet = packet::segment(segment, &connection.peer, self.from + index as u16);
                self.inject(&packet);
            }
            Step::Write(len) => {
                if let Some(stream) = &mut connection.stream
                    && let Ok(put) = stream.write(&octets(connection.written, usize::from(*len)))
                {
                    connection.written += put as i64;
                }
            }
            Step::Shutdown => {
                if let Some(stream) = &connection.stream {
                    let _ = stream.shutdown(Shutdown::Write);
                }
            }
            Step::Close => connection.closed |= connection.stream.take().is_some(),
        }
    }

    fn inject(&self, packet: &[u8]) {
        while self.device.send(packet).is_err() {
            thread::sleep(Duration::from_micros(100));
        }
    }

    /// Takes what the kernel has sent, and does what applications do by themselves.
    fn look(&mut self) {
        let mut block = [0; 2_048];
        while let Ok(len) = self.device.recv(&mut block) {
            if let Some((port, header, len)) = packet::parse(&block[..len])
                && let Some(connection) = self.connections.get_mut(usize::from(port.wrapping_sub(self.from)))
            {
                connection.peer.take(&header, len);
            }
        }
        while let Ok((socket, address)) = self.listener.accept() {
            let port = address.as_socket().map_or(0, |address| address.port());
            let _ = socket.set_nonblocking(true);
            let _ = socket.set_tcp_nodelay(true);
            if let Some(connection) = self.connections.get_mut(usize::from(port.wrapping_sub(self.from))) {
                connection.stream = Some(socket.into());
                connection.app.accepted = true;
            }
        }
    }

    fn settle(&mut self) {
        let end = Instant::now() + Duration::from(SETTLED);
        while Instant::now() < end {
            self.look();
            for connection in &mut self.connections {
                if let Some(stream) = &mut connection.stream {
                    read_all(&mut connection.app, |block| stream.read(block));
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
