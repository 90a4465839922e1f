//! Two hosts and a wire between them under a virtual clock.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use trust::embed::{Builder, Host};
use trust::net::{TcpListener, TcpSocket, TcpStream};
use trust::tcp::{Duration, Instant};

pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub(crate) const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

pub(crate) fn at(port: u16) -> SocketAddr {
    SocketAddr::new(SERVER, port)
}

/// What becomes of a packet: how long it takes, or that it is lost; and how long a copy of it takes, if there is one.
pub(crate) type Fate = Box<dyn FnMut(&[u8]) -> (Option<Duration>, Option<Duration>)>;

/// A wire that takes 5 ms.
pub(crate) fn plain() -> Fate {
    Box::new(|_| (Some(Duration::from_millis(5)), None))
}

pub(crate) struct Link {
    pub(crate) now: Instant,
    pub(crate) client: Host,
    pub(crate) server: Host,
    /// When, to the server or not, the packet; in order of time.
    wire: VecDeque<(Instant, bool, Vec<u8>)>,
    fate: Fate,
    history: DefaultHasher,
    /// Length of the longest packet that each side has sent.
    pub(crate) longest: [usize; 2],
}

pub(crate) fn client() -> Builder {
    Host::builder().address(CLIENT).seed(1)
}

pub(crate) fn server() -> Builder {
    Host::builder().address(SERVER).seed(2)
}

impl Link {
    pub(crate) fn new(client: Builder, server: Builder, fate: Fate) -> Self {
        let now = Instant::from_secs(1);
        let (client, server) = (client.build(now).unwrap(), server.build(now).unwrap());
        let history = DefaultHasher::new();
        Self { now, client, server, wire: VecDeque::new(), fate, history, longest: [0; 2] }
    }

    pub(crate) fn usual() -> Self {
        Self::new(client(), server(), plain())
    }

    /// Polls both hosts; what they send goes on the wire.
    pub(crate) fn poll(&mut self) {
        let Self { now, client, server, wire, fate, history, longest } = self;
        let mut send = |to_server: bool, packet: &[u8]| {
            (*now, to_server, packet).hash(history);
            let longest = &mut longest[usize::from(!to_server)];
            *longest = (*longest).max(packet.len());
            let (delay, copy) = fate(packet);
            for delay in [delay, copy].into_iter().flatten() {
                let at = *now + delay;
                let place = wire.partition_point(|(other, ..)| *other <= at);
                wire.insert(place, (at, to_server, packet.to_vec()));
            }
        };
        client.poll(*now, |packet| send(true, packet));
        server.poll(*now, |packet| send(false, packet));
    }

    /// On to the next point in time at which something happens, and what arrives then. `false`: nothing ever will.
    pub(crate) fn step(&mut self) -> bool {
        let next = [self.client.next_deadline(), self.server.next_deadline(), self.wire.front().map(|(at, ..)| *at)];
        let Some(next) = next.into_iter().flatten().min() else { return false };
        self.now = self.now.max(next);
        while self.wire.front().is_some_and(|(at, ..)| *at <= self.now) {
            let (_, to_server, packet) = self.wire.pop_front().unwrap();
            let host = if to_server { &mut self.server } else { &mut self.client };
            assert!(host.receive(&packet));
        }
        true
    }

    /// Goes on for that long.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.poll();
            let next =
                [self.client.next_deadline(), self.server.next_deadline(), self.wire.front().map(|(at, ..)| *at)];
            match next.into_iter().flatten().min() {
                Some(next) if next <= end => assert!(self.step()),
                _ => break,
            }
        }
        self.now = end;
    }

    /// A listener on `port`, and a connection to it from both ends.
    pub(crate) fn connect(&mut self, port: u16) -> (TcpListener, TcpStream, TcpStream) {
        let listener = self.server.stack().bind(at(port)).unwrap();
        for _ in 0..10 {
            let stream = TcpSocket::new(&self.client.stack()).connect_nonblocking(at(port)).unwrap();
            // On a bad link a handshake takes seconds; when its last ACK and all answers to SYN-ACKs are lost, the server
            // gives it up and the client does not know.
            for _ in 0..10_000 {
                self.run(Duration::from_millis(20));
                if let Ok((accepted, from)) = listener.accept()
                    && from == stream.local_addr().unwrap()
                {
                    return (listener, stream, accepted);
                }
            }
        }
        panic!("no handshake");
    }

    /// All packets that were sent, and when.
    pub(crate) fn history(&self) -> u64 {
        self.history.finish()
    }

    /// Nothing is held any more once the connections are over.
    pub(crate) fn check_empty(&mut self) {
        for host in [&mut self.client, &mut self.server] {
            let counters = host.counters();
            assert_eq!((counters.connections, counters.send_chunks, counters.held_packets), (0, 0, 0));
            assert_eq!((host.buffers_in_use(), host.stack().queued()), (0, 0));
        }
    }
}

/// What a test writes.
pub(crate) fn octets(count: usize, seed: usize) -> Vec<u8> {
    (0..count).map(|i| ((i * 31 + seed * 7) >> 3) as u8).collect()
}
