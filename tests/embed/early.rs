//! What is set before a connection is open holds for its handshake, and for it from the beginning: on sockets that connect,
//! and on those that a listener hands out.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::time;

use trust::embed::Builder;
use trust::net::{TcpListener, TcpSocket, TcpStream};
use trust::tcp::cookie::SynCookies;
use trust::tcp::{CongestionControl, Duration, KeepAlive};
use trust::wire;
use trust::wire::tcp::{Flags, TcpHeader};

use crate::link::{CLIENT, Link, at, client, octets, server};

/// A segment that was sent.
struct Seen {
    from_client: bool,
    ttl: u8,
    tos: u8,
    header: TcpHeader,
}

impl Seen {
    fn new(packet: &[u8]) -> Self {
        let ip = wire::ip::parse(packet, true).unwrap();
        let (header, _) = wire::tcp::parse(ip.payload, ip.src, ip.dst, false).unwrap();
        Self { from_client: ip.src == CLIENT, ttl: packet[8], tos: packet[1], header }
    }

    fn has(&self, flags: Flags) -> bool {
        self.header.flags.contains(flags)
    }
}

/// A link and what is sent over it; `lost` are segments by their number, from 0 on.
struct Watched {
    link: Link,
    seen: Rc<RefCell<Vec<Seen>>>,
}

impl Watched {
    fn new(server: Builder, mut lost: impl FnMut(usize, &Seen) -> bool + 'static) -> Self {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let notes = Rc::clone(&seen);
        let fate = move |packet: &[u8]| {
            let segment = Seen::new(packet);
            let arrives = !lost(notes.borrow().len(), &segment);
            notes.borrow_mut().push(segment);
            (arrives.then_some(Duration::from_millis(5)), None)
        };
        Self { link: Link::new(client(), server, Box::new(fate)), seen }
    }

    fn socket(&self) -> TcpSocket {
        TcpSocket::new(&self.link.client.stack())
    }

    fn run(&mut self, millis: u64) {
        self.link.run(Duration::from_millis(millis));
    }

    /// SYNs, or SYN-ACKs, as they were sent: TTL, TOS, window, scale.
    fn syns(&self, from_client: bool) -> Vec<(u8, u8, u16, Option<u8>)> {
        let seen = self.seen.borrow();
        let syns = seen.iter().filter(|seen| seen.from_client == from_client && seen.has(Flags::SYN));
        syns.map(|seen| (seen.ttl, seen.tos, seen.header.window, seen.header.options.window_scale)).collect()
    }

    /// The one connection that there is.
    fn accept(&mut self, listener: &TcpListener) -> TcpStream {
        self.run(100);
        listener.accept().unwrap().0
    }
}

fn secs(seconds: u64) -> Option<time::Duration> {
    Some(time::Duration::from_secs(seconds))
}

fn timed_out(stream: &TcpStream) -> bool {
    stream.take_error().unwrap().is_some_and(|error| error.kind() == ErrorKind::TimedOut)
}

#[test]
fn a_user_timeout_bounds_the_handshake_of_who_connects() {
    let mut watched = Watched::new(server(), |_, _| true);
    let mut socket = watched.socket();
    socket.set_user_timeout(secs(5));
    let before = socket.connect_nonblocking(at(80)).unwrap();
    assert_eq!(before.user_timeout(), secs(5));
    // As well where it is set while the handshake goes on, wherever that is.
    let at_once = watched.socket().connect_nonblocking(at(80)).unwrap();
    at_once.set_user_timeout(secs(5));
    let later = watched.socket().connect_nonblocking(at(80)).unwrap();
    let never = watched.socket().connect_nonblocking(at(80)).unwrap();
    watched.run(4_500);
    later.set_user_timeout(secs(5));
    watched.run(490);
    let all = [&before, &at_once, &later];
    assert!(all.iter().all(|stream| stream.take_error().unwrap().is_none()));
    watched.run(20);
    assert!(all.iter().all(|stream| timed_out(stream)));
    watched.run(10_000);
    assert!(never.take_error().unwrap().is_none());
}

/// One that is taken back leaves the repetitions of the SYN as they were.
#[test]
fn a_user_timeout_taken_back_changes_nothing_about_the_handshake() {
    let mut watched = Watched::new(server(), |_, _| true);
    let mut socket = watched.socket();
    socket.set_user_timeout(secs(5));
    let stream = socket.connect_nonblocking(at(80)).unwrap();
    watched.run(4_000);
    stream.set_user_timeout(None);
    watched.run(2_900);
    assert_eq!((watched.syns(true).len(), stream.take_error().unwrap().is_none()), (3, true), "after 0, 1 and 3 s");
    watched.run(200);
    assert_eq!(watched.syns(true).len(), 4, "after 7 s");
}

/// The listener's half of it: with the first repetition of the SYN-ACK that would be beyond it, the half-open record goes.
#[test]
fn a_user_timeout_bounds_the_handshakes_of_a_listener() {
    for (limit, left) in [(None, 1), (secs(5), 0)] {
        let mut watched = Watched::new(server(), |_, seen| seen.from_client && !seen.has(Flags::SYN));
        let mut socket = TcpSocket::new(&watched.link.server.stack()).bind(at(80)).unwrap();
        socket.set_user_timeout(limit);
        let _listener = socket.listen(10).unwrap();
        let _stream = watched.socket().connect_nonblocking(at(80)).unwrap();
        watched.run(6_900);
        assert_eq!(watched.link.server.counters().half_open, 1);
        watched.run(200);
        assert_eq!(watched.link.server.counters().half_open, left, "after 7 s");
    }
}

#[test]
fn a_receive_buffer_bounds_window_and_scale_of_the_syn() {
    // 65,535 is what the field takes; the usual buffers grow to 6 MiB.
    for (octets, window, scale) in
        [(None, 65_535, 7), (Some(10), 2_048, 0), (Some(8_192), 8_192, 0), (Some(32 << 20), 65_535, 10)]
    {
        let mut watched = Watched::new(server(), |_, _| false);
        let listener = watched.link.server.stack().bind(at(80)).unwrap();
        let mut socket = watched.socket();
        if let Some(octets) = octets {
            socket.set_receive_buffer(octets);
        }
        let mut stream = socket.connect_nonblocking(at(80)).unwrap();
        assert_eq!(stream.receive_buffer(), octets.map(|octets| octets.max(2_048)));
        let mut accepted = watched.accept(&listener);
        assert_eq!(watched.syns(true), [(64, 0, window, Some(scale))]);
        let info = watched.link.client.info(&stream).unwrap();
        let buffer = octets.map_or(128 << 10, |octets| octets.max(2_048));
        assert_eq!((info.receive_buffer, info.window_shifts.1), (buffer, scale));
        // And both sides mean the same by the windows of later segments.
        let data = octets_to_send(&mut accepted);
        let mut got = Vec::new();
        while got.len() < data.len() {
            let offered = watched.link.server.info(&accepted).unwrap().send_window;
            assert!(octets.is_none() || offered <= buffer, "{offered} offered of {buffer}");
            let mut some = [0; 5_000];
            let len = stream.read(&mut some).unwrap_or(0);
            got.extend_from_slice(&some[..len]);
            watched.run(20);
        }
        assert!(got == data);
    }
}

fn octets_to_send(stream: &mut TcpStream) -> Vec<u8> {
    let data = octets(100_000, 1);
    stream.write_all(&data).unwrap();
    data
}

/// Before the SYN has left it counts for it; afterwards for what is sent, but a scale is offered once.
#[test]
fn a_receive_buffer_that_is_set_during_the_handshake_counts_from_then_on() {
    let mut watched = Watched::new(server(), |number, _| number < 2);
    let listener = watched.link.server.stack().bind(at(80)).unwrap();
    let stream = watched.socket().connect_nonblocking(at(80)).unwrap();
    stream.set_receive_buffer(50_000);
    stream.set_ttl(7).unwrap();
    watched.run(500);
    stream.set_receive_buffer(4_000);
    stream.set_ttl(8).unwrap();
    watched.run(1_000);
    stream.set_receive_buffer(1 << 20);
    stream.set_tos(0x20);
    watched.run(2_000);
    let _accepted = watched.accept(&listener);
    let syns = [(7, 0, 50_000, Some(0)), (8, 0, 4_000, Some(0)), (8, 0x20, 65_535, Some(0))];
    assert_eq!(watched.syns(true), syns);
    let info = watched.link.client.info(&stream).unwrap();
    assert_eq!((info.receive_buffer, info.window_shifts.1), (1 << 20, 0));
}

/// With records of half-open connections and with cookies.
#[test]
fn a_listeners_receive_buffer_bounds_window_and_scale_of_its_syn_acks() {
    for cookies in [SynCookies::Off, SynCookies::Always] {
        let mut watched = Watched::new(server().syn_cookies(cookies), |_, _| false);
        let mut socket = TcpSocket::new(&watched.link.server.stack()).bind(at(80)).unwrap();
        socket.set_receive_buffer(8_192);
        let listener = socket.listen(10).unwrap();
        let mut stream = watched.socket().connect_nonblocking(at(80)).unwrap();
        let mut accepted = watched.accept(&listener);
        assert_eq!(watched.syns(false), [(64, 0, 8_192, Some(0))]);
        assert_eq!(accepted.receive_buffer(), Some(8_192));
        let info = watched.link.server.info(&accepted).unwrap();
        assert_eq!((info.receive_buffer, info.window_shifts.1), (8_192, 0));
        let data = octets_to_send(&mut stream);
        watched.run(1_000);
        assert!(watched.link.server.unread(&accepted).unwrap() <= 2 * 8_192);
        let mut got = Vec::new();
        while got.len() < data.len() {
            let mut some = [0; 5_000];
            let len = accepted.read(&mut some).unwrap_or(0);
            got.extend_from_slice(&some[..len]);
            watched.run(20);
        }
        assert!(got == data);
    }
}

/// All that can be set before, on both sides: what it is called by, and what the connection has.
#[test]
fn options_of_a_socket_are_those_of_its_connections() {
    let mut watched = Watched::new(server(), |_, _| false);
    let set = |socket: &mut TcpSocket| {
        let options = socket.options_mut();
        (options.ttl, options.tos, options.mss) = (Some(9), Some(0x48), Some(1_000));
        socket.set_user_timeout(secs(77));
        socket.set_receive_buffer(30_000);
        socket.set_send_buffer(20_000);
        socket.set_notsent_lowat(Some(4_096));
        socket.set_nodelay(true);
        socket.set_quickack(false);
        socket.set_keepalive(Some(KeepAlive { idle: Duration::from_secs(10), ..KeepAlive::default() }));
        socket.set_congestion(CongestionControl::Reno);
        socket.set_linger(secs(3));
    };
    let mut listening = TcpSocket::new(&watched.link.server.stack()).bind(at(80)).unwrap();
    set(&mut listening);
    let listener = listening.listen(10).unwrap();
    let mut socket = watched.socket();
    set(&mut socket);
    let stream = socket.connect_nonblocking(at(80)).unwrap();
    let accepted = watched.accept(&listener);
    for (stream, host) in [(&stream, &mut watched.link.client), (&accepted, &mut watched.link.server)] {
        assert_eq!((stream.ttl().unwrap(), stream.tos(), stream.user_timeout()), (9, 0x48, secs(77)));
        assert_eq!((stream.receive_buffer(), stream.send_buffer()), (Some(30_000), Some(20_000)));
        assert_eq!((stream.notsent_lowat(), stream.nodelay().unwrap(), stream.quickack()), (Some(4_096), true, false));
        assert_eq!((stream.congestion(), stream.linger().unwrap()), (Some(CongestionControl::Reno), secs(3)));
        assert_eq!(stream.keepalive().unwrap().idle, Duration::from_secs(10));
        let info = host.info(stream).unwrap();
        assert_eq!((info.receive_buffer, info.send_limit), (30_000, 20_000));
        assert_eq!((info.congestion, info.mss), (CongestionControl::Reno, 1_000 - 12));
        // More than the limit does not go in: the octets for it have to wait.
        assert_eq!({ stream }.write(&[7; 9_000]).unwrap(), 4_096);
    }
    watched.run(1_000);
    for stream in [&stream, &accepted] {
        assert_eq!({ stream }.read(&mut [0; 9_000]).unwrap(), 4_096);
    }
    assert!(watched.seen.borrow().iter().all(|seen| (seen.ttl, seen.tos) == (9, 0x48)));
    // Keep-alive: each side has probed the other.
    watched.seen.borrow_mut().clear();
    watched.run(11_000);
    let seen = watched.seen.borrow();
    assert!(seen.iter().any(|seen| seen.from_client) && seen.iter().any(|seen| !seen.from_client));
}
