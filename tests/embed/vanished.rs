//! Clients that are gone without a word, in virtual time: no service keeps a place for them.

use std::io::{Read, Write};

use trust::embed::Host;
use trust::net::{TcpSocket, TcpStream};
use trust::services::{Environment, KEEPALIVE, ServiceName, build};
use trust::tcp::{Config, Duration, Instant, KeepAlive};

use crate::link;

/// Two hosts and a wire without delay, which may be cut.
struct Pair {
    now: Instant,
    client: Host,
    server: Host,
    cut: bool,
}

impl Pair {
    fn new(tcp: Config) -> Self {
        let now = Instant::from_secs(100);
        let mut server = link::server().tcp(tcp);
        for name in ServiceName::ALL {
            server = server.service(Some(name.usual_port()), build(name, &Environment::default()));
        }
        let client = link::client().build(now).unwrap();
        Self { now, client, server: server.build(now).unwrap(), cut: false }
    }

    /// Everything that is to be done at this time.
    fn settle(&mut self) {
        for _ in 0..100 {
            let mut moved = false;
            let Self { now, client, server, cut, .. } = self;
            client.poll(*now, |packet| moved |= !*cut && server.receive(packet));
            server.poll(*now, |packet| moved |= !*cut && client.receive(packet));
            if !moved {
                return;
            }
        }
    }

    /// Lets time pass, deadline by deadline, as long as the server has connections.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..100_000 {
            self.settle();
            let next = [self.client.next_deadline(), self.server.next_deadline()].into_iter().flatten().min();
            let Some(next) = next.filter(|at| *at <= end && self.server.counters().connections > 0) else { break };
            self.now = self.now.max(next + Duration::from_micros(1));
        }
        self.now = end;
        self.settle();
    }

    fn connect(&mut self, name: ServiceName) -> TcpStream {
        let socket = TcpSocket::new(&self.client.stack());
        let stream = socket.connect_nonblocking(link::at(name.usual_port())).unwrap();
        self.settle();
        self.pass(Duration::from_millis(100));
        stream
    }
}

/// What a client may have said before it was gone.
fn words(name: ServiceName) -> &'static [&'static [u8]] {
    match name {
        ServiceName::Http => &[
            b"",
            b"GET /",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab",
        ],
        ServiceName::Iperf3 => &[b"", b"cook", b"0123456789012345678901234567890123456\0"],
        _ => &[b"", b"hello"],
    }
}

/// The wire is cut when all that was said is acknowledged, so that nothing but silence tells of it.
#[test]
fn a_vanished_client_of_any_service_is_gone_within_minutes() {
    let limit = KEEPALIVE.idle + KEEPALIVE.interval * u64::from(KEEPALIVE.count) + Duration::from_secs(5);
    assert!(limit < Duration::from_secs(200));
    for name in ServiceName::ALL {
        for words in words(name) {
            let mut pair = Pair::new(Config::default());
            let mut stream = pair.connect(name);
            stream.write_all(words).unwrap();
            pair.pass(Duration::from_millis(500));
            // What came is read, so that nothing of the server's waits.
            let _ = stream.read(&mut [0; 4_096]);
            pair.settle();
            pair.cut = true;
            // Chargen always has something under way: the limit for that counts (R2).
            pair.pass(if name == ServiceName::Chargen { Config::default().retransmit_limit * 2 } else { limit });
            assert_eq!(pair.server.counters().connections, 0, "{name} after {words:?}");
        }
    }
}

/// Silence alone ends nothing: a client that is there answers.
#[test]
fn an_idle_client_that_is_there_is_kept() {
    for name in [ServiceName::Echo, ServiceName::Discard] {
        let mut pair = Pair::new(Config::default());
        let mut stream = pair.connect(name);
        pair.pass(Duration::from_secs(6 * 3_600));
        assert_eq!(pair.server.counters().connections, 1);
        stream.write_all(b"still here").unwrap();
        pair.pass(Duration::from_secs(1));
        assert_eq!(pair.server.counters().payload_in, 10, "{name}");
    }
}

/// Who configures keep-alive for all connections has it for the services', too.
#[test]
fn a_configured_keep_alive_comes_before_the_services_own() {
    let KeepAlive { interval, count, .. } = KEEPALIVE;
    let probes = KeepAlive { idle: Duration::from_secs(10), interval: Duration::from_secs(1), count: 2 };
    let tcp = Config { keepalive: true, keepalive_probes: probes, ..Config::default() };
    assert!(interval > probes.interval && count > probes.count);
    let mut pair = Pair::new(tcp);
    let _stream = pair.connect(ServiceName::Echo);
    pair.cut = true;
    pair.pass(Duration::from_secs(13));
    assert_eq!(pair.server.counters().connections, 0);
}

/// OPS-22: a peer that keeps its window closed and answers all probes keeps no connection whose application is gone, wherever
/// the rest of its octets lies.
#[test]
fn what_an_application_has_left_behind_is_given_up_before_a_closed_window() {
    let mut pair = Pair::new(Config::default());
    let listener = pair.server.stack().bind(link::at(5_000)).unwrap();
    pair.settle();
    for _ in 0..2 {
        let mut stream = TcpSocket::new(&pair.client.stack()).connect_nonblocking(link::at(5_000)).unwrap();
        pair.pass(Duration::from_millis(100));
        let (reader, _) = listener.accept().unwrap();
        // Nobody reads: the window closes, the connection's buffer fills, and the socket's queue.
        while stream.write(&vec![7; 100_000]).is_ok() {
            pair.pass(Duration::from_millis(300));
        }
        drop(stream);
        pair.pass(Duration::from_secs(90));
        assert_eq!(pair.client.counters().connections, 1, "not before its time");
        pair.pass(Duration::from_secs(30));
        assert_eq!((pair.client.counters().connections, pair.client.stack().queued()), (0, 0));
        pair.pass(Duration::from_secs(1));
        assert_eq!(pair.server.counters().connections, 0, "the peer has been told");
        drop(reader);
        pair.pass(Duration::from_secs(1));
    }
}
