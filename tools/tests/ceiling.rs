//! The stand-in of the comparison serves every row as the services that it stands in for: to the octet, and whatever
//! ports its clients use again. Each test has a device of its own in the namespace that cargo's runner made.

#![allow(clippy::unwrap_used)]

use socket2::{Domain, Protocol, Socket, Type};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use trust_tools::client::{self, Direction, Window};
use trust_tools::netns::Namespace;
use trust_tools::tun;

/// A stand-in that serves until dropped.
struct Ceiling {
    child: Child,
    net: u8,
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ceiling {
    /// `None`: no device can be had here, and the test is to be skipped.
    fn start(net: u8, words: &[&str]) -> Option<Self> {
        if fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_err() {
            assert!(std::env::var_os("TRUST_REQUIRE_TUN").is_none(), "/dev/net/tun cannot be opened");
            eprintln!("skipped: /dev/net/tun cannot be opened");
            return None;
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_ceiling"));
        command.args(["--address", &format!("10.71.{net}.1/24"), "--tun", &format!("ceiling{net}")]).args(words);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready: "), "{line:?}");
        Some(Self { child, net })
    }

    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 71, self.net, 2], port))
    }

    fn connect(&self, port: u16) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.at(port), Duration::from_secs(5)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    }
}

/// Shapes that can be had here, each with the number of a network.
fn shapes(first: u8) -> Vec<(u8, &'static str)> {
    let mut shapes = vec![(first, "remote"), (first + 1, "spread")];
    if tun::load_steering_by_cpu().is_ok() {
        shapes.push((first + 2, "local"));
    }
    shapes
}

fn serves_to_the_octet(ceiling: &Ceiling) {
    // Echo, in pieces that each fit a segment and in some that do not, and the end.
    let mut stream = ceiling.connect(7);
    let sent: Vec<u8> = (0..60_000_u32).map(|i| (i % 251) as u8).collect();
    for length in [1, 100, 1448, 1449, 5000, 60_000] {
        stream.write_all(&sent[..length]).unwrap();
        let mut back = vec![0; length];
        stream.read_exact(&mut back).unwrap();
        assert!(back == sent[..length], "{length} octets came back otherwise");
    }
    stream.write_all(b"the last").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"the last");

    // Chargen goes on for further than any window; each of its segments begins the pattern (RFC 864) anew.
    let mut stream = ceiling.connect(19);
    let mut octets = vec![0; 20_000_000];
    stream.read_exact(&mut octets).unwrap();
    assert_eq!(octets[..4], *b" !\"#");
    assert_eq!(octets.iter().find(|octet| !(b' '..=b'~').contains(octet) && !b"\r\n".contains(octet)), None);

    // Discard takes all and ends when we do.
    let mut stream = ceiling.connect(9);
    stream.write_all(&octets).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn every_shape_serves_to_the_octet() {
    for (net, shape) in shapes(10) {
        let Some(ceiling) = Ceiling::start(net, &["--shape", shape]) else { return };
        serves_to_the_octet(&ceiling);
    }
}

#[test]
fn any_mtu_and_no_offload_serve_to_the_octet() {
    let mut net = 20;
    for (mtu, offload) in [("1500", "off"), ("9000", "on"), ("9000", "off")] {
        let Some(ceiling) = Ceiling::start(net, &["--mtu", mtu, "--offload", offload]) else { return };
        serves_to_the_octet(&ceiling);
        net += 1;
    }
    let Some(ceiling) = Ceiling::start(net, &["--timestamps", "off"]) else { return };
    serves_to_the_octet(&ceiling);
}

#[test]
fn every_row_of_the_comparison_is_served() {
    let (warmup, length) = (Duration::from_millis(50), Duration::from_millis(150));
    let window = Window { warmup, length, watched: &[] };
    for (net, shape) in shapes(30) {
        let Some(ceiling) = Ceiling::start(net, &["--shape", shape]) else { return };
        for flows in [1, 8, 64] {
            for (direction, port) in [(Direction::Up, 9), (Direction::Down, 19)] {
                let report = client::bulk(direction, ceiling.at(port), flows, 131_072, window).unwrap();
                assert!(report.bytes > 100_000, "{shape} {direction:?} {flows}: {} octets", report.bytes);
            }
        }
        for connections in [1, 32, 256] {
            let report = client::request_response(ceiling.at(7), connections, 1, false, window).unwrap();
            assert!(report.latency.len() > 20, "{shape} rr{connections}: {}", report.latency.len());
        }
        for concurrency in [1, 64] {
            let report = client::connections(ceiling.at(7), concurrency, false, None, window).unwrap();
            assert_eq!(report.failures, 0, "{shape} cr{concurrency}");
            assert!(report.latency.len() > 20, "{shape} cr{concurrency}: {}", report.latency.len());
        }
    }
}

fn connect_from(port: u16, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(5))?;
    Ok(socket.into())
}

/// Connect, an octet, the octet back, and our FIN first: the client's kernel is left with the TIME-WAIT.
fn visit(mut stream: TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_port_in_time_wait_and_one_that_was_reset_can_be_used_again() {
    let Some(ceiling) = Ceiling::start(40, &[]) else { return };
    fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1").unwrap();
    visit(connect_from(40_000, ceiling.at(7)).unwrap());
    // The kernel lets a port out of TIME-WAIT after a second, and only where there are timestamps.
    let end = Instant::now() + Duration::from_secs(10);
    let again = loop {
        match connect_from(40_000, ceiling.at(7)) {
            Ok(stream) => break stream,
            Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(e) => panic!("{e}"),
        }
    };
    visit(again);
    // One that ends by RST in the middle of a download leaves nothing behind.
    for _ in 0..20 {
        let mut stream = connect_from(40_001, ceiling.at(19)).unwrap();
        stream.read_exact(&mut [0; 10_000]).unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        visit(connect_from(40_001, ceiling.at(7)).unwrap());
    }
}

#[test]
fn without_bpf_only_the_local_shape_is_refused() {
    let rootless = match Namespace::rootless() {
        Ok(namespace) => namespace,
        Err(e) => {
            eprintln!("skipped: {e}");
            return;
        }
    };
    if fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_err() {
        eprintln!("skipped: /dev/net/tun cannot be opened");
        return;
    }
    let told = |shape: &str| {
        let mut command = rootless.command(env!("CARGO_BIN_EXE_ceiling"));
        command.args(["--shape", shape, "--tun", shape, "--address", "10.71.50.1/24", "--seconds", "0.1"]);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    assert!(told("local").contains("bpf(BPF_PROG_LOAD)"), "{}", told("local"));
    assert!(told("spread").starts_with("ready: "), "{}", told("spread"));
}
