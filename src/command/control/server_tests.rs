//! The server on an engine in memory: what it says, and to whom it says it not.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream as Stream;
use std::path::{Path, PathBuf};

use serde_json::Value;
use trust::device::memory::{MemoryDevice, MemoryOptions, pair, port};
use trust::engine::{Engine as Running, Pin};
use trust::wire;
use trust::wire::tcp::{Flags, TcpHeader};

use super::*;

/// An engine with a listener on each of these ports, and its server.
struct Engine {
    _running: Running,
    _listeners: Vec<trust::net::TcpListener>,
    _server: Server,
    path: PathBuf,
}

impl Engine {
    fn start(name: &str, ports: std::ops::Range<u16>) -> Self {
        Self::on(pair(&MemoryOptions::default()).unwrap().0, name, ports)
    }

    fn on(device: MemoryDevice, name: &str, ports: std::ops::Range<u16>) -> Self {
        let builder = Running::builder().device(device, 1).address([10, 0, 0, 2].into()).pin(Pin::None);
        let running = builder.configure(|config| config.tx_ring = 128).start().unwrap();
        let listeners = ports.map(|port| running.bind(("10.0.0.2", port)).unwrap()).collect();
        let path = std::env::temp_dir().join(format!("trust-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let engine = super::super::protocol::Engine {
            version: "0".to_owned(),
            pid: 1,
            device: "memory".to_owned(),
            address: "10.0.0.2".to_owned(),
            shards: 1,
            services: Vec::new(),
            uptime_ms: 0,
        };
        let applications = vec![(7, "seven".to_owned())];
        let about = About { engine, start: Instant::now(), services: Vec::new(), applications };
        let server = Server::start(Some(listener), None, running.handle(), about).unwrap();
        Self { _running: running, _listeners: listeners, _server: server, path }
    }

    fn connect(&self) -> Stream {
        connect(&self.path)
    }
}

fn connect(path: &Path) -> Stream {
    let stream = Stream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Everything that is said to a request, up to the end of the connection, which we have closed for writing.
fn said(engine: &Engine, request: &[u8]) -> Vec<Value> {
    let mut stream = engine.connect();
    stream.write_all(request).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn one_connection_asks_again_and_again() {
    let engine = Engine::start("again", 7..9);
    let lines = said(
        &engine,
        b"{\"v\":1,\"ask\":\"engine\"}\n{\"v\":1,\"ask\":\"sockets\",\"filter\":\"state listening\"}\n{\"v\":1,\"ask\":\"stats\"}\n",
    );
    assert_eq!(lines[0]["engine"]["device"], "memory");
    assert_eq!(lines[1]["end"]["count"], 1);
    assert_eq!((&lines[2]["socket"]["state"], &lines[2]["socket"]["local"]), (&"LISTEN".into(), &"10.0.0.2:7".into()));
    assert_eq!((&lines[2]["socket"]["service"], &lines[3]["socket"]["service"]), (&"seven".into(), &"sockets".into()));
    assert_eq!(lines[4]["end"]["count"], 2);
    assert_eq!(lines[5]["shard"]["shard"], 0);
    assert_eq!(lines[5]["shard"]["counters"]["drops"]["NoConnection"], 0);
    assert!(lines[6]["total"]["counters"]["turns"].is_u64());
    assert_eq!(lines[7]["end"]["count"], 2);
    assert_eq!(lines.len(), 8);
}

#[test]
fn what_makes_no_sense_is_answered_with_the_reason_and_ends_the_connection() {
    let engine = Engine::start("garbage", 0..0);
    let long = vec![b'x'; 10 * LONGEST_REQUEST];
    for (request, why) in [
        (&b"hello\n"[..], "no request: "),
        (b"\n", "no request: "),
        (b"\xff\xfe\x00\n", "no request: "),
        (b"{}\n", "missing field `v`"),
        (b"{\"v\":2,\"ask\":\"engine\"}\n", "version 2 of the protocol is asked for; this engine speaks 1"),
        (b"{\"v\":1,\"ask\":\"coffee\"}\n", "unknown variant `coffee`"),
        (b"{\"v\":1,\"ask\":\"sockets\",\"filter\":\"port 7\"}\n", "begins no term"),
        (b"{\"v\":1,\"ask\":\"reset\"}\n", "missing field `filter`"),
        (b"{\"v\":1,", "the request has no end"),
        (&long, "the request is longer than 4096 octets"),
    ] {
        let lines = said(&engine, request);
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert!(line["error"].as_str().unwrap().contains(why), "{line}");
    }
    // None of them has hurt it.
    assert_eq!(said(&engine, b"{\"v\":1,\"ask\":\"engine\"}\n").len(), 2);
}

/// Who asks for everything and reads nothing holds up nobody, and is not answered beyond what a socket holds.
#[test]
fn a_reader_that_stalls_costs_a_slice() {
    let engine = Engine::start("stalled", 1_000..3_000);
    let mut stalled = engine.connect();
    for _ in 0..20 {
        stalled.write_all(b"{\"v\":1,\"ask\":\"sockets\",\"filter\":\"state all\"}\n").unwrap();
    }
    for _ in 0..3 {
        let start = Instant::now();
        let lines = said(&engine, b"{\"v\":1,\"ask\":\"sockets\",\"filter\":\"state all\"}\n");
        assert_eq!(lines.len(), 2_001);
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    // When it reads at last, all of it comes, and nothing is missing.
    let mut lines = BufReader::new(stalled).lines();
    for _ in 0..20 {
        let answer: Vec<_> = lines.by_ref().take(2_001).map(Result::unwrap).collect();
        assert_eq!(answer[2_000], "{\"end\":{\"count\":2000}}");
    }
}

#[test]
fn there_are_places_for_some_and_others_hear_so() {
    let engine = Engine::start("places", 0..0);
    let mut first: Vec<_> = (0..CLIENTS).map(|_| engine.connect()).collect();
    // Each is there before the next: an answer proves it.
    for stream in &mut first {
        stream.write_all(b"{\"v\":1,\"ask\":\"engine\"}\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert!(line.contains("\"engine\""), "{line}");
    }
    // Who asks and is refused reads that, and then the end, and not that the connection was reset.
    for _ in 0..10 {
        let mut refused = engine.connect();
        refused.write_all(b"{\"v\":1,\"ask\":\"engine\"}\n").unwrap();
        let mut text = String::new();
        refused.read_to_string(&mut text).unwrap();
        assert!(text.contains("16 others are asking") && text.lines().count() == 1, "{text}");
    }
    drop(first);
    let free = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        let lines = said(&engine, b"{\"v\":1,\"ask\":\"engine\"}\n");
        lines.len() == 2
    });
    assert!(free);
}

#[test]
fn a_server_that_ends_hangs_up() {
    let engine = Engine::start("ends", 0..0);
    let mut stream = engine.connect();
    stream.write_all(b"{\"v\":1,\"ask\":\"engine\"}\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    drop(engine);
    let mut rest = Vec::new();
    let _ = reader.read_to_end(&mut rest);
}

/// A SYN from that port of 10.0.0.1 to 10.0.0.2:7.
fn syn(from: u16) -> Vec<u8> {
    let (src, dst) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let header = TcpHeader { src_port: from, dst_port: 7, flags: Flags::SYN, window: 1_000, ..TcpHeader::default() };
    let mut segment = vec![0; wire::tcp::header_len(&header)];
    wire::tcp::write(&header, &mut segment);
    wire::tcp::set_checksum(&mut segment, IpAddr::V4(src), IpAddr::V4(dst), &[]);
    let mut packet = vec![0; wire::ip::IPV4_HEADER_LEN];
    wire::ip::write_ipv4(&mut packet, src, dst, wire::PROTOCOL_TCP, segment.len(), wire::ip::IpFields::default());
    packet.extend_from_slice(&segment);
    packet
}

/// The device takes nothing for a while: what was to be reset is, when it does again, and not passed over in silence.
#[test]
fn a_reset_waits_until_the_device_takes_its_rst() {
    const HALF_OPEN: u16 = 60;
    let (device, mut port) = port(&MemoryOptions { slots: 4, offload: false, ..MemoryOptions::default() }).unwrap();
    let engine = Engine::on(device, "room", 7..8);
    for from in 1..=HALF_OPEN {
        while !port.inject(&syn(from)) {
            std::thread::yield_now();
        }
    }
    let there = || said(&engine, b"{\"v\":1,\"ask\":\"sockets\",\"filter\":\"state syn-recv\"}\n").len() - 1;
    while there() < usize::from(HALF_OPEN) {}
    let killed = std::thread::scope(|scope| {
        let killed = scope.spawn(|| said(&engine, b"{\"v\":1,\"ask\":\"reset\",\"filter\":\"state syn-recv\"}\n"));
        // As many as there is room for.
        let mut before = usize::from(HALF_OPEN);
        loop {
            let left = there();
            if left < usize::from(HALF_OPEN) && left == before {
                break;
            }
            before = left;
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!((1..usize::from(HALF_OPEN)).contains(&before), "{before}");
        let (mut resets, end) = (0, Instant::now() + Duration::from_secs(20));
        while (!killed.is_finished() || resets < HALF_OPEN) && Instant::now() < end {
            let Some(packet) = port.capture() else {
                std::thread::yield_now();
                continue;
            };
            let ip = wire::ip::parse(&packet, true).unwrap();
            let (header, _) = wire::tcp::parse(ip.payload, ip.src, ip.dst, true).unwrap();
            resets += u16::from(header.flags.contains(Flags::RST));
            assert!(resets <= HALF_OPEN);
        }
        assert_eq!(resets, HALF_OPEN);
        killed.join().unwrap()
    });
    assert_eq!(killed.last().unwrap()["end"]["count"], HALF_OPEN);
    assert_eq!((killed.len(), there()), (usize::from(HALF_OPEN) + 1, 0));
}
