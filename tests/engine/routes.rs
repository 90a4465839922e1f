//! Routes and source addresses of connections that are opened through the public sockets.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Builder, Engine, Pin, PlanKind};
use trust::net::TcpSocket;
use trust::shard::Route;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An engine that answers for all of `theirs`, and beside it the one that `ours` makes.
fn engines(queues: u16, theirs: &[&str], ours: impl FnOnce(Builder) -> Builder) -> (Engine, Engine) {
    let options = MemoryOptions { queues, slots: 1_024, ..MemoryOptions::default() };
    let (a, b) = pair(&options).unwrap();
    let builder = |device| Engine::builder().device(device, queues.into()).plan(PlanKind::Fused).pin(Pin::None);
    let server = theirs.iter().fold(builder(a), |builder, address| builder.address(ip(address)));
    (server.start().unwrap(), ours(builder(b)).start().unwrap())
}

#[test]
fn must_44_a_connection_comes_from_the_address_that_its_route_says() {
    let theirs = ["10.1.0.9", "10.2.0.9", "10.3.0.9", "10.4.0.9"];
    let (server, client) = engines(1, &theirs, |builder| {
        builder
            .network(ip("10.1.0.2"), 24)
            .unwrap()
            .network(ip("10.2.0.2"), 24)
            .unwrap()
            .route(Route::to(ip("10.3.0.0"), 16).unwrap().from(ip("10.2.0.2")))
            .route(Route::to(ip("10.4.0.0"), 16).unwrap())
    });
    let listener = server.bind("0.0.0.0:80").unwrap();
    for (remote, source) in theirs.iter().zip(["10.1.0.2", "10.2.0.2", "10.2.0.2", "10.1.0.2"]) {
        let stream = client.connect((ip(remote), 80)).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), ip(source), "towards {remote}");
        assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());
    }
    // A wish counts more than the route's choice, but not more than the route.
    let wish = |port: u16| TcpSocket::new(&client.stack()).bind(SocketAddr::new(ip("10.1.0.2"), port)).unwrap();
    let stream = wish(0).connect(SocketAddr::new(ip("10.2.0.9"), 80)).unwrap();
    assert_eq!(stream.local_addr().unwrap().ip(), ip("10.1.0.2"));
    let error = wish(5_000).connect(SocketAddr::new(ip("10.5.0.9"), 80)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
}

#[test]
fn what_no_route_has_is_unreachable_at_once() {
    let (_server, client) = engines(1, &["10.1.0.9"], |builder| builder.network(ip("10.1.0.2"), 24).unwrap());
    for nowhere in ["10.1.1.1", "192.0.2.1", "10.1.0.0", "10.1.0.255", "255.255.255.255", "2001:db8::1"] {
        let error = client.connect((ip(nowhere), 80)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable, "{nowhere}: {error}");
    }
}

/// A source port that is given leaves only the address open: the connection is opened by the shard that owns it, with the
/// route's address.
#[test]
fn a_fixed_port_goes_to_its_owner_from_the_routes_address() {
    let (server, client) = engines(2, &["10.1.0.9", "10.2.0.9"], |builder| {
        builder.network(ip("10.1.0.2"), 24).unwrap().network(ip("10.2.0.2"), 24).unwrap()
    });
    let listener = server.bind("0.0.0.0:80").unwrap();
    for port in 5_000..5_016 {
        let socket = TcpSocket::new(&client.stack()).bind(SocketAddr::new(ip("0.0.0.0"), port)).unwrap();
        let stream = socket.connect(SocketAddr::new(ip("10.2.0.9"), 80)).unwrap();
        assert_eq!(stream.local_addr().unwrap(), SocketAddr::new(ip("10.2.0.2"), port));
        listener.accept().unwrap();
    }
}

/// RFC6056-3.3, RFC6056-MC: what a server sees of the ports is no sequence that it could go on with.
#[test]
fn rfc6056_3_3_ports_come_once_each_and_differ_between_destinations() {
    let (server, client) = engines(2, &["10.1.0.9", "10.1.0.8"], |builder| builder.address(ip("10.1.0.2")));
    let listener = server.bind("0.0.0.0:80").unwrap();
    let ports = |remote: &str| -> Vec<u16> {
        let open = |_| {
            let stream = client.connect((ip(remote), 80)).unwrap();
            listener.accept().unwrap();
            stream.local_addr().unwrap().port()
        };
        (0..200).map(open).collect()
    };
    let (one, other) = (ports("10.1.0.9"), ports("10.1.0.8"));
    for ports in [&one, &other] {
        assert!(ports.iter().all(|port| *port >= 32_768));
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 200, "none comes twice");
    }
    // Each begins where its own hash says: 200 of 32,768 seldom meet.
    let other: HashSet<_> = other.into_iter().collect();
    assert!(one.iter().filter(|port| other.contains(port)).count() < 200);
}
