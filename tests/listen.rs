//! Listeners and connections that services open as they run, what they set on them, and their mail.

#![allow(clippy::unwrap_used, missing_docs)]

mod rig;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use rig::{OURS, PEER, Peer, Rig, Sent, tcp_packet};
use trust::flow::{Endpoint, Quad, ShardId};
use trust::services::echo::Echo;
use trust::shard::{
    ConnId, ConnectError, ConnectOptions, Counters, DropReason, Io, ListenError, ListenOptions, Service, ShardConfig,
};
use trust::tcp::cookie::SynCookies;
use trust::tcp::{CloseReason, Duration};
use trust::wire::options::TcpOptions;
use trust::wire::tcp::{Flags, TcpHeader};

/// Another address of ours.
const ALSO_OURS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 3);
const PORT: u16 = 80;

type Order = Box<dyn FnOnce(&mut Io<'_>) + Send>;

/// What a [`Door`] was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    HalfOpen { ticket: u64, quad: Quad, tag: u64 },
    Accepted { conn: ConnId, ticket: u64, tag: u64, user: u64 },
    Writable,
    Urgent(u32),
    Closed { reason: CloseReason, tag: u64, user: u64 },
}

/// A service that does what it finds in its mail, echoes, and notes what it hears.
#[derive(Clone, Default)]
struct Door {
    mail: Arc<Mutex<VecDeque<Order>>>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Door {
    fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }

    /// Tags of what was accepted since the last look.
    fn accepted(&self) -> Vec<u64> {
        let tag = |heard| if let Heard::Accepted { tag, .. } = heard { Some(tag) } else { None };
        self.heard().into_iter().filter_map(tag).collect()
    }

    /// The service does something, in a turn of its own.
    fn ask<T: Send + 'static>(&self, rig: &mut Rig, order: impl FnOnce(&mut Io<'_>) -> T + Send + 'static) -> T {
        let answer = Arc::new(Mutex::new(None));
        let into = Arc::clone(&answer);
        self.mail.lock().unwrap().push_back(Box::new(move |io| *into.lock().unwrap() = Some(order(io))));
        rig.begin();
        assert!(rig.shard.has_mail());
        assert_eq!(rig.shard.deliver_mail(), 1);
        rig.finish();
        assert!(!rig.shard.has_mail());
        answer.lock().unwrap().take().unwrap()
    }

    fn listen(&self, rig: &mut Rig, addr: IpAddr, port: u16, tag: u64) -> Result<(), ListenError> {
        self.ask(rig, move |io| io.listen(Endpoint::new(addr, port), 8, tag))
    }

    /// A listener on [`PORT`] and an established connection to it.
    fn accept(&self, rig: &mut Rig) -> (Peer, ConnId) {
        self.listen(rig, ANY, PORT, 1).unwrap();
        let peer = rig.connect(40_000, PORT);
        let accepted = |heard| if let Heard::Accepted { conn, .. } = heard { Some(conn) } else { None };
        (peer, self.heard().into_iter().find_map(accepted).unwrap())
    }

    fn connect(&self, rig: &mut Rig, remote: Endpoint, options: ConnectOptions) -> Result<ConnId, ConnectError> {
        self.ask(rig, move |io| io.connect(remote, &options))
    }
}

impl Service for Door {
    fn half_open(&mut self, _: &mut Io<'_>, ticket: u64, quad: Quad, tag: u64) {
        self.heard.lock().unwrap().push(Heard::HalfOpen { ticket, quad, tag });
    }

    fn accepted(&mut self, io: &mut Io<'_>, conn: ConnId) {
        let heard = Heard::Accepted { conn, ticket: io.ticket(conn), tag: io.tag(conn), user: io.user(conn) };
        self.heard.lock().unwrap().push(heard);
    }

    fn readable(&mut self, io: &mut Io<'_>, conn: ConnId) {
        io.forward(conn, conn);
    }

    fn writable(&mut self, _: &mut Io<'_>, _: ConnId) {
        self.heard.lock().unwrap().push(Heard::Writable);
    }

    fn urgent(&mut self, io: &mut Io<'_>, conn: ConnId) {
        self.heard.lock().unwrap().push(Heard::Urgent(io.urgent(conn)));
    }

    fn closed(&mut self, io: &mut Io<'_>, conn: ConnId, reason: CloseReason) {
        let heard = Heard::Closed { reason, tag: io.tag(conn), user: io.user(conn) };
        self.heard.lock().unwrap().push(heard);
    }

    fn wants_mail(&self) -> bool {
        true
    }

    fn has_mail(&self) -> bool {
        !self.mail.lock().unwrap().is_empty()
    }

    fn mail(&mut self, io: &mut Io<'_>) {
        let orders = std::mem::take(&mut *self.mail.lock().unwrap());
        for order in orders {
            order(io);
        }
    }
}

fn door_with(tweak: impl FnOnce(&mut ShardConfig)) -> (Rig, Door) {
    let mut rig = Rig::with(
        |config| {
            config.addresses.push(IpAddr::V4(ALSO_OURS));
            tweak(config);
        },
        64,
        1_024,
    );
    let door = Door::default();
    rig.shard.add_service(None, Box::new(door.clone()));
    (rig, door)
}

fn door() -> (Rig, Door) {
    door_with(|_| {})
}

fn v4(addr: Ipv4Addr) -> IpAddr {
    IpAddr::V4(addr)
}

const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const HERE: IpAddr = IpAddr::V4(OURS);

fn remote() -> Endpoint {
    Endpoint::new(v4(PEER), 5_000)
}

fn syn_to(dst: Ipv4Addr, src_port: u16, dst_port: u16) -> Vec<u8> {
    let header = TcpHeader { src_port, dst_port, seq: 7, flags: Flags::SYN, window: 1_000, ..TcpHeader::default() };
    tcp_packet(PEER, dst, &header, &[])
}

/// MUST-43: the exact address comes first, then any address, then the port of a service; else a RST.
#[test]
fn a_syn_goes_to_the_listener_that_fits_best() {
    const OWN_PORT: u16 = 7;
    type Row = (&'static [(IpAddr, u16, u64)], Ipv4Addr, u16, Option<u64>);
    let rows: [Row; 9] = [
        (&[], OURS, PORT, None),
        (&[], OURS, OWN_PORT, Some(0)),
        (&[(ANY, PORT, 1)], OURS, PORT, Some(1)),
        (&[(ANY, PORT, 1)], OURS, PORT + 1, None),
        (&[(HERE, PORT, 2)], OURS, PORT, Some(2)),
        (&[(HERE, PORT, 2)], ALSO_OURS, PORT, None),
        (&[(ANY, PORT, 1), (HERE, PORT, 2)], OURS, PORT, Some(2)),
        (&[(HERE, PORT, 2), (ANY, PORT, 1)], ALSO_OURS, PORT, Some(1)),
        (&[(HERE, OWN_PORT, 3)], OURS, OWN_PORT, Some(3)),
    ];
    for (row, (listeners, dst, port, expected)) in rows.into_iter().enumerate() {
        let (mut rig, door) = door();
        let fixed = Door::default();
        rig.shard.add_service(Some(OWN_PORT), Box::new(fixed.clone()));
        for &(addr, port, tag) in listeners {
            door.listen(&mut rig, addr, port, tag).unwrap();
        }
        rig.turn(&[syn_to(dst, 40_000, port)]);
        let answer = rig.next();
        assert_eq!(answer.has(Flags::RST), expected.is_none(), "row {row}");
        let local = Endpoint::new(v4(dst), port);
        let told = if expected == Some(0) { &fixed } else { &door };
        let heard: Vec<_> = told.heard().into_iter().collect();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|tag| Heard::HalfOpen {
                ticket: 1,
                quad: Quad { local, remote: Endpoint::new(v4(PEER), 40_000) },
                tag,
            })
            .collect();
        assert_eq!(heard, expected, "row {row}");
    }
}

/// MUST-41: a passive open is a new listener or an error, and changes nothing that is there.
#[test]
fn must_41_listening_twice_is_refused() {
    let (mut rig, door) = door();
    rig.shard.add_service(Some(7), Box::new(Echo));
    let nobody: IpAddr = "10.7.0.9".parse().unwrap();
    let rows = [
        (ANY, PORT, Ok(())),
        (ANY, PORT, Err(ListenError::AddressInUse)),
        (v4(OURS), PORT, Ok(())),
        (v4(OURS), PORT, Err(ListenError::AddressInUse)),
        (v4(ALSO_OURS), PORT, Ok(())),
        (ANY, 7, Err(ListenError::AddressInUse)),
        (v4(OURS), 7, Ok(())),
        (nobody, PORT, Err(ListenError::NotOurAddress)),
        ("::".parse().unwrap(), PORT, Err(ListenError::NotOurAddress)),
        (ANY, 0, Err(ListenError::NoPort)),
    ];
    for (row, (addr, port, expected)) in rows.into_iter().enumerate() {
        assert_eq!(door.listen(&mut rig, addr, port, row as u64), expected, "row {row}");
    }
    rig.connect(40_000, PORT);
    assert_eq!(door.accepted(), [2], "the first of this address, not the one refused");
}

/// MUST-42: connections of the port, half open or not, are no reason against a listener, nor the other way round.
#[test]
fn must_42_a_listener_beside_connections_of_its_port() {
    let (mut rig, door) = door();
    let from = |port| ConnectOptions { local: Some(Endpoint::new(ANY, port)), ..ConnectOptions::default() };
    door.connect(&mut rig, remote(), from(PORT)).unwrap();
    assert_eq!(rig.next().header.src_port, PORT);
    door.listen(&mut rig, ANY, PORT, 1).unwrap();
    let other = Endpoint { port: 5_001, ..remote() };
    door.connect(&mut rig, other, from(PORT)).unwrap();
    rig.sent.clear();
    let mut peer = rig.connect(40_000, PORT);
    assert_eq!(door.accepted(), [1]);
    let data = peer.data(b"hello");
    rig.turn(&[data]);
    peer.take(&mut rig);
    assert_eq!(peer.got, b"hello");
}

/// OPS-19: without cookies a SYN too many is dropped, not refused: its sender tries again. Complete handshakes do not count.
#[test]
fn ops_19_a_full_backlog_drops_syns() {
    for (backlog, room) in [(0, 1), (1, 1), (3, 3)] {
        let (mut rig, door) = door_with(|config| config.limits.syn_cookies = SynCookies::Off);
        door.ask(&mut rig, move |io| io.listen(Endpoint::new(ANY, PORT), backlog, 1)).unwrap();
        door.listen(&mut rig, ANY, PORT + 1, 2).unwrap();
        let mut peers: Vec<_> = (0..=room).map(|index| Peer::new(40_000 + index, PORT)).collect();
        let syns: Vec<_> = peers.iter().map(Peer::syn).collect();
        rig.turn(&syns);
        assert_eq!(rig.sent.len(), usize::from(room), "no answer for the last one");
        assert_eq!(rig.dropped(DropReason::BacklogFull), 1);
        // Another listener has a backlog of its own.
        rig.connect(50_000, PORT + 1);
        assert_eq!(door.accepted(), [2]);
        // One that completes makes room.
        let syn_ack = rig.sent.iter().find(|sent| sent.header.dst_port == 40_000).unwrap().header;
        peers[0].seq = syn_ack.ack;
        peers[0].ack = syn_ack.seq.wrapping_add(1);
        rig.turn(&[peers[0].ack()]);
        assert_eq!(door.accepted(), [1]);
        rig.sent.clear();
        let again = peers.last().unwrap().syn();
        rig.turn(&[again]);
        assert!(rig.next().has(Flags::SYN | Flags::ACK));
        assert_eq!(rig.dropped(DropReason::BacklogFull), 1);
    }
}

/// Half-open children that expire or are reset leave their place in the backlog.
#[test]
fn a_backlog_is_given_back() {
    let (mut rig, door) = door_with(|config| config.limits.syn_cookies = SynCookies::Off);
    door.ask(&mut rig, |io| io.listen(Endpoint::new(ANY, PORT), 2, 1)).unwrap();
    for round in 0..200u16 {
        rig.turn(&[Peer::new(40_000 + round, PORT).syn(), Peer::new(50_000 + round, PORT).syn()]);
        assert_eq!(rig.dropped(DropReason::BacklogFull), 0, "round {round}");
        if round % 2 == 0 {
            rig.advance(Duration::from_secs(64));
        } else {
            for sent in std::mem::take(&mut rig.sent) {
                let mut peer = Peer::new(sent.header.dst_port, PORT);
                (peer.seq, peer.ack) = (sent.header.ack, sent.header.seq.wrapping_add(1));
                rig.turn(&[peer.rst()]);
            }
        }
        assert_eq!(rig.counters().half_open, 0);
        rig.sent.clear();
    }
    assert!(door.heard().iter().all(|heard| matches!(heard, Heard::HalfOpen { .. })));
    rig.assert_empty();
}

/// SC-19: with a full accept queue SYNs are dropped, the ACK that would complete a handshake is ignored and the SYN-ACK
/// repeated; later any ACK of the peer, here with data, completes it. A RST still counts.
#[test]
fn sc_19_a_full_accept_queue_makes_handshakes_wait() {
    let (mut rig, door) = door();
    let local = Endpoint::new(ANY, PORT);
    door.listen(&mut rig, ANY, PORT, 1).unwrap();
    let mut peers = [Peer::new(40_000, PORT), Peer::new(40_001, PORT)];
    rig.turn(&[peers[0].syn(), peers[1].syn()]);
    door.ask(&mut rig, move |io| io.set_accepting(local, false));
    for peer in &mut peers {
        let sent = rig.next();
        (peer.seq, peer.ack) = (sent.header.ack, sent.header.seq.wrapping_add(1));
    }
    rig.turn(&[peers[0].ack()]);
    assert_eq!((rig.dropped(DropReason::AcceptQueueFull), rig.sent.len()), (1, 0));
    rig.turn(&[syn_to(OURS, 40_002, PORT)]);
    assert_eq!((rig.dropped(DropReason::AcceptQueueFull), rig.sent.len()), (2, 0));
    rig.turn(&[peers[1].rst()]);
    assert_eq!(rig.counters().half_open, 1);
    rig.advance(Duration::from_millis(1_100));
    let again = rig.next();
    assert!(again.has(Flags::SYN | Flags::ACK) && again.header.ack == peers[0].seq);
    // It changes nothing about the child that the ACK came once before.
    rig.turn(&[peers[0].ack()]);
    assert!(door.accepted().is_empty());
    door.ask(&mut rig, move |io| io.set_accepting(local, true));
    let data = peers[0].data(b"late");
    rig.turn(&[data]);
    assert_eq!(door.accepted(), [1]);
    peers[0].take(&mut rig);
    assert_eq!(peers[0].got, b"late");
    assert_eq!(rig.counters().half_open, 0);
}

/// OPS-19, RFC4987-3.7: a listener that has its share answers with cookies, and only that one.
#[test]
fn ops_19_a_full_backlog_answers_with_cookies() {
    let (mut rig, door) = door();
    door.ask(&mut rig, |io| io.listen(Endpoint::new(ANY, PORT), 2, 1)).unwrap();
    door.listen(&mut rig, ANY, PORT + 1, 2).unwrap();
    for port in 0..8 {
        rig.turn(&[Peer::new(40_000 + port, PORT).syn(), Peer::new(40_000 + port, PORT + 1).syn()]);
    }
    let counters = rig.counters();
    assert_eq!((rig.sent.len(), counters.cookies_sent, counters.half_open), (16, 6, 10));
    let told = door.heard();
    assert_eq!(told.len(), 10, "of a cookie nobody is told");
    // Those with a cookie are served before the others, and in the order in which they come.
    for (port, accepted) in [(40_007, 1), (40_003, 2)] {
        let sent =
            rig.sent.iter().position(|sent| (sent.header.dst_port, sent.header.src_port) == (port, PORT)).unwrap();
        let syn_ack = rig.sent.remove(sent).unwrap();
        let mut peer = Peer::new(port, PORT);
        (peer.seq, peer.ack) = (syn_ack.header.ack, syn_ack.header.seq.wrapping_add(1));
        let data = peer.data(b"with the ACK");
        rig.turn(&[data]);
        assert_eq!(rig.counters().cookies_accepted, accepted);
        peer.take(&mut rig);
        assert_eq!(peer.got, b"with the ACK");
    }
    let tickets: Vec<u64> = door
        .heard()
        .into_iter()
        .filter_map(|heard| if let Heard::Accepted { ticket, tag: 1, .. } = heard { Some(ticket) } else { None })
        .collect();
    assert_eq!(tickets, [11, 12]);
}

/// SC-19 with a cookie: the ACK is dropped, what follows it brings the cookie again.
#[test]
fn sc_19_a_cookie_waits_for_a_place_in_the_accept_queue() {
    let (mut rig, door) = door_with(|config| config.limits.syn_cookies = SynCookies::Always);
    let local = Endpoint::new(ANY, PORT);
    door.listen(&mut rig, ANY, PORT, 1).unwrap();
    let mut peer = Peer::new(40_000, PORT);
    rig.turn(&[peer.syn()]);
    let sent = rig.next();
    (peer.seq, peer.ack) = (sent.header.ack, sent.header.seq.wrapping_add(1));
    door.ask(&mut rig, move |io| io.set_accepting(local, false));
    rig.turn(&[peer.ack()]);
    assert_eq!((rig.dropped(DropReason::AcceptQueueFull), rig.sent.len()), (1, 0));
    rig.turn(&[Peer::new(40_001, PORT).syn()]);
    assert_eq!((rig.dropped(DropReason::AcceptQueueFull), rig.sent.len()), (2, 0));
    door.ask(&mut rig, move |io| io.set_accepting(local, true));
    let data = peer.data(b"late");
    rig.turn(&[data]);
    assert_eq!(door.accepted(), [1]);
    peer.take(&mut rig);
    assert_eq!(peer.got, b"late");
}

/// A listener that is closed and opened anew, with all that it had before, is another one.
#[test]
fn cookies_of_a_listener_that_has_closed_are_refused() {
    let (mut rig, door) = door_with(|config| config.limits.syn_cookies = SynCookies::Always);
    let local = Endpoint::new(ANY, PORT);
    for reopened in [false, true] {
        door.listen(&mut rig, ANY, PORT, 1).unwrap();
        let mut peer = Peer::new(40_000 + u16::from(reopened), PORT);
        rig.turn(&[peer.syn()]);
        let sent = rig.next();
        (peer.seq, peer.ack) = (sent.header.ack, sent.header.seq.wrapping_add(1));
        if reopened {
            door.ask(&mut rig, move |io| io.unlisten(local));
            door.listen(&mut rig, ANY, PORT, 1).unwrap();
        }
        rig.turn(&[peer.ack()]);
        assert_eq!(door.accepted().len(), usize::from(!reopened));
        if reopened {
            let reset = rig.next();
            assert_eq!((reset.header.flags, reset.header.seq), (Flags::RST, peer.ack));
        } else {
            rig.turn(&[peer.rst()]);
            door.ask(&mut rig, move |io| io.unlisten(local));
        }
    }
}

/// SM-LIS-6 for what is in SYN-RECEIVED; established connections live on, and know whose they are.
#[test]
fn sm_lis_6_the_end_of_a_listener_resets_what_is_half_open() {
    let (mut rig, door) = door();
    let local = Endpoint::new(v4(OURS), PORT);
    door.listen(&mut rig, v4(OURS), PORT, 11).unwrap();
    let mut settled = rig.connect(40_000, PORT);
    let waiting = Peer::new(40_001, PORT);
    rig.turn(&[waiting.syn()]);
    let syn_ack = rig.next();
    door.heard();
    // Not its own listener: no effect.
    let stranger = Door::default();
    rig.shard.add_service(None, Box::new(stranger.clone()));
    stranger.ask(&mut rig, move |io| {
        io.unlisten(local);
        io.set_accepting(local, false);
    });
    assert_eq!((rig.counters().half_open, rig.sent.len()), (1, 0));

    door.ask(&mut rig, move |io| io.unlisten(local));
    let reset = rig.next();
    assert!(reset.has(Flags::RST) && reset.header.dst_port == 40_001);
    assert_eq!(reset.header.seq, syn_ack.header.seq.wrapping_add(1));
    assert_eq!((rig.counters().half_open, rig.counters().connections), (0, 1));
    assert!(door.heard().is_empty(), "of a child that never was established nobody is told");
    rig.turn(&[syn_to(OURS, 40_002, PORT)]);
    assert!(rig.next().has(Flags::RST));

    // A new listener on the same place is another one.
    door.listen(&mut rig, v4(OURS), PORT, 22).unwrap();
    rig.connect(40_003, PORT);
    assert_eq!(door.accepted(), [22]);
    let data = settled.data(b"still here");
    rig.turn(&[data]);
    settled.take(&mut rig);
    assert_eq!(settled.got, b"still here");
    rig.turn(&[settled.rst()]);
    assert_eq!(door.heard(), [Heard::Closed { reason: CloseReason::Reset, tag: 11, user: 0 }]);
}

/// With many children it takes turns until all are reset; none is accepted meanwhile.
#[test]
fn sm_lis_6_no_child_of_a_closed_listener_is_accepted() {
    let (mut rig, door) = door();
    door.ask(&mut rig, |io| io.listen(Endpoint::new(ANY, PORT), 2_000, 1)).unwrap();
    let peers: Vec<_> = (0..1_000).map(|index| Peer::new(40_000 + index, PORT)).collect();
    for peer in &peers {
        rig.turn(&[peer.syn()]);
    }
    assert_eq!(rig.counters().half_open, 1_000);
    let answers: Vec<_> = rig.sent.drain(..).map(|sent| sent.header).collect();
    door.heard();
    door.ask(&mut rig, |io| io.unlisten(Endpoint::new(ANY, PORT)));
    let left = rig.counters().half_open;
    assert!(left > 0, "not all in one turn");
    for (mut peer, answer) in peers.into_iter().zip(answers).rev().take(10) {
        (peer.seq, peer.ack) = (answer.ack, answer.seq.wrapping_add(1));
        rig.receive(&peer.ack());
    }
    assert_eq!(rig.counters().half_open, left - 10);
    rig.settle();
    assert!(door.heard().is_empty());
    assert_eq!((rig.sent.len(), rig.counters().half_open), (1_000, 0));
    assert!(rig.sent.iter().all(|sent| sent.has(Flags::RST)));
}

/// MUST-43, MUST-44, MUST-46: what an open may ask for, and what it is told.
#[test]
fn must_43_an_open_takes_a_local_end() {
    type Row = (&'static str, Option<(&'static str, u16)>, Result<Ipv4Addr, ConnectError>);
    let rows: [Row; 12] = [
        ("10.7.0.1:5000", None, Ok(OURS)),
        ("10.7.0.1:5000", Some(("0.0.0.0", 0)), Ok(OURS)),
        ("10.7.0.1:5000", Some(("10.7.0.3", 0)), Ok(ALSO_OURS)),
        ("10.7.0.1:5000", Some(("10.7.0.3", 1_234)), Ok(ALSO_OURS)),
        ("10.7.0.1:5000", Some(("0.0.0.0", 1_234)), Ok(OURS)),
        ("10.7.0.1:5000", Some(("10.7.0.9", 0)), Err(ConnectError::NotOurAddress)),
        ("10.7.0.1:5000", Some(("::", 0)), Err(ConnectError::NotOurAddress)),
        ("[fe80::1]:5000", None, Err(ConnectError::NoAddress)),
        ("10.7.0.1:0", None, Err(ConnectError::NoRoute)),
        ("10.7.0.3:5000", None, Err(ConnectError::NoRoute)),
        ("224.0.0.1:5000", None, Err(ConnectError::NoRoute)),
        ("0.0.0.0:5000", None, Err(ConnectError::NoRoute)),
    ];
    for (row, (remote, local, expected)) in rows.into_iter().enumerate() {
        let (mut rig, door) = door();
        let remote = remote.parse::<std::net::SocketAddr>().unwrap().into();
        let local = local.map(|(addr, port)| Endpoint::new(addr.parse().unwrap(), port));
        let opened = door.connect(&mut rig, remote, ConnectOptions { local, user: 77, ..ConnectOptions::default() });
        assert_eq!(opened.err(), expected.err(), "row {row}");
        let Ok(addr) = expected else {
            assert!(rig.sent.is_empty() && door.heard().is_empty(), "row {row}");
            continue;
        };
        let syn = rig.next();
        assert_eq!(syn.packet[12..16], addr.octets(), "row {row}");
        match local.map_or(0, |local| local.port) {
            0 => assert!(syn.header.src_port >= 32_768, "row {row}"),
            port => assert_eq!(syn.header.src_port, port, "row {row}"),
        }
        let refusal = TcpHeader {
            src_port: 5_000,
            dst_port: syn.header.src_port,
            ack: syn.header.seq.wrapping_add(1),
            flags: Flags::RST | Flags::ACK,
            ..TcpHeader::default()
        };
        rig.turn(&[tcp_packet(PEER, addr, &refusal, &[])]);
        assert_eq!(door.heard(), [Heard::Closed { reason: CloseReason::Refused, tag: 0, user: 77 }], "row {row}");
        rig.assert_empty();
    }
}

#[test]
fn an_open_is_answered_and_told_with_its_word() {
    let (mut rig, door) = door();
    let conn = door.connect(&mut rig, remote(), ConnectOptions { user: 5, ..ConnectOptions::default() }).unwrap();
    let mut peer = Peer::new(5_000, 0);
    answer(&mut rig, &mut peer);
    assert_eq!(door.heard(), [Heard::Accepted { conn, ticket: 1, tag: 0, user: 5 }]);
}

/// The peer takes the open whose SYN is the next packet.
fn answer(rig: &mut Rig, peer: &mut Peer) -> Sent {
    let syn = rig.next();
    peer.service_port = syn.header.src_port;
    peer.ack = syn.header.seq.wrapping_add(1);
    let syn_ack = peer.packet(Flags::SYN | Flags::ACK, &[]);
    rig.turn(&[syn_ack]);
    syn
}

/// A fixed local port decides which shard gets the segments: only that one may open.
#[test]
fn a_fixed_port_belongs_to_one_shard() {
    let (mut rig, door) = door_with(|config| config.shards = 2);
    let mut seen = [0; 2];
    for port in 1_000..1_100 {
        let local = Endpoint::new(v4(OURS), port);
        let quad = Quad { local, remote: remote() };
        let owner = rig.shard.owner(&quad);
        assert_eq!(door.ask(&mut rig, move |io| io.owner(&quad)), owner);
        let opened =
            door.connect(&mut rig, remote(), ConnectOptions { local: Some(local), ..ConnectOptions::default() });
        let expected = if owner == ShardId(0) { None } else { Some(ConnectError::WrongShard(owner)) };
        assert_eq!(opened.err(), expected);
        seen[owner.index()] += 1;
        if owner == ShardId(0) {
            let again =
                door.connect(&mut rig, remote(), ConnectOptions { local: Some(local), ..ConnectOptions::default() });
            assert_eq!(again, Err(ConnectError::AddressInUse));
        }
    }
    assert!(seen[0] > 20 && seen[1] > 20, "{seen:?}");
    // A port that is left to us is always one of ours.
    for _ in 0..50 {
        let conn = door.connect(&mut rig, remote(), ConnectOptions::default()).unwrap();
        let quad = door.ask(&mut rig, move |io| io.quad(conn));
        assert_eq!(rig.shard.owner(&quad), ShardId(0));
    }
}

#[test]
fn an_open_without_room_is_refused() {
    let (mut rig, door) = door_with(|config| config.limits.connections = 1);
    door.connect(&mut rig, remote(), ConnectOptions::default()).unwrap();
    assert_eq!(door.connect(&mut rig, remote(), ConnectOptions::default()), Err(ConnectError::Full));
    // A shard that owns no bucket has no port.
    let (mut rig, door) = door_with(|config| config.id = ShardId(3));
    assert_eq!(door.connect(&mut rig, remote(), ConnectOptions::default()), Err(ConnectError::NoPort));
}

/// TIME-WAIT keeps its two ends, whoever asks for them, where no timestamps tell old from new (OPS-20).
#[test]
fn an_open_over_time_wait_is_refused() {
    let (mut rig, door) = door();
    let options = ConnectOptions { local: Some(Endpoint::new(ANY, 1_234)), ..ConnectOptions::default() };
    let conn = door.connect(&mut rig, remote(), options).unwrap();
    let mut peer = Peer::new(5_000, 0);
    answer(&mut rig, &mut peer);
    door.ask(&mut rig, move |io| io.close(conn));
    peer.take(&mut rig);
    let fin = peer.fin();
    rig.turn(&[fin]);
    assert_eq!(rig.counters().time_wait, 1);
    assert_eq!(door.connect(&mut rig, remote(), options), Err(ConnectError::AddressInUse));
    rig.advance(Duration::from_secs(61));
    assert!(door.connect(&mut rig, remote(), options).is_ok());
}

/// RFC6056-3.1, with listeners that come and go.
#[test]
fn rfc6056_3_1_an_open_leaves_the_ports_of_listeners_alone() {
    let port_of = |listening: Option<Endpoint>| {
        let (mut rig, door) = door();
        if let Some(local) = listening {
            door.listen(&mut rig, local.addr, local.port, 1).unwrap();
        }
        door.connect(&mut rig, remote(), ConnectOptions::default()).unwrap();
        rig.next().header.src_port
    };
    let port = port_of(None);
    assert_ne!(port_of(Some(Endpoint::new(ANY, port))), port);
    assert_ne!(port_of(Some(Endpoint::new(v4(OURS), port))), port);
    assert_eq!(port_of(Some(Endpoint::new(v4(ALSO_OURS), port))), port, "another address");
}

/// The count decides when it is given, with the same doubled intervals.
#[test]
fn syn_retries_end_an_open() {
    for (retries, seconds) in [(0, 1), (2, 7), (3, 15)] {
        let (mut rig, door) = door();
        let options = ConnectOptions { syn_retries: Some(retries), ..ConnectOptions::default() };
        door.connect(&mut rig, remote(), options).unwrap();
        rig.advance(Duration::from_millis(1_000 * seconds - 100));
        assert_eq!((rig.sent.len(), rig.counters().connections), (1 + usize::from(retries), 1));
        rig.advance(Duration::from_millis(200));
        assert_eq!(door.heard(), [Heard::Closed { reason: CloseReason::TimedOut, tag: 0, user: 0 }]);
        assert_eq!(rig.sent.len(), 1 + usize::from(retries));
    }
    // Also beyond the time limit that counts otherwise.
    let (mut rig, door) = door();
    door.connect(&mut rig, remote(), ConnectOptions { syn_retries: Some(9), ..ConnectOptions::default() }).unwrap();
    rig.advance(Duration::from_secs(400));
    assert_eq!(rig.counters().connections, 1);
    rig.advance(Duration::from_secs(600));
    assert_eq!((rig.sent.len(), rig.counters().connections), (10, 0));
}

/// MUST-49: each packet of the connection has the TTL asked for, others have the usual one.
#[test]
fn must_49_the_ttl_of_an_open() {
    for (asked, ttl) in [(None, 64), (Some(1), 1), (Some(255), 255), (Some(0), 1)] {
        let (mut rig, door) = door();
        let conn =
            door.connect(&mut rig, remote(), ConnectOptions { ttl: asked, ..ConnectOptions::default() }).unwrap();
        let mut peer = Peer::new(5_000, 0);
        let syn = answer(&mut rig, &mut peer);
        door.ask(&mut rig, move |io| io.send(conn, &[1; 100]));
        rig.turn(&[peer.packet_at(5_000, Flags::ACK, b"out of order")]);
        door.ask(&mut rig, move |io| io.abort(conn));
        let mut all: Vec<_> = std::mem::take(&mut rig.sent).into();
        assert!(all.iter().any(|sent| sent.payload.len() == 100) && all.iter().any(|sent| sent.has(Flags::RST)));
        all.push(syn);
        for sent in &all {
            assert_eq!(sent.packet[8], ttl, "{:?}", sent.header);
        }
        rig.turn(&[peer.ack()]);
        assert_eq!(rig.next().packet[8], 64, "a RST that belongs to no connection");
    }
}

/// The MSS advertised is the one asked for, if it is no larger than the link allows; segments obey it.
#[test]
fn the_mss_of_an_open() {
    for (asked, mss) in [(None, 1_460), (Some(1_000), 1_000), (Some(9_000), 1_460), (Some(1), 88)] {
        let (mut rig, door) = door();
        let options = ConnectOptions { mss: asked, ..ConnectOptions::default() };
        let conn = door.connect(&mut rig, remote(), options).unwrap();
        let mut peer = Peer::new(5_000, 0);
        // The peer would take more.
        peer.syn_options = TcpOptions { mss: Some(1_460), ..TcpOptions::default() };
        let syn = rig.next();
        assert_eq!(syn.header.options.mss, Some(mss));
        peer.service_port = syn.header.src_port;
        peer.ack = syn.header.seq.wrapping_add(1);
        let header = TcpHeader {
            src_port: 5_000,
            dst_port: peer.service_port,
            seq: peer.seq,
            ack: peer.ack,
            flags: Flags::SYN | Flags::ACK,
            window: 60_000,
            options: peer.syn_options,
            ..TcpHeader::default()
        };
        peer.seq += 1;
        rig.turn(&[tcp_packet(PEER, OURS, &header, &[])]);
        door.ask(&mut rig, move |io| io.send(conn, &[1; 4_000]));
        let largest = rig.sent.iter().map(|sent| sent.payload.len()).max();
        assert_eq!(largest, Some(usize::from(mss)));
    }
}

/// MUST-48, MUST-49, SHLD-22: DSCP and TTL of a connection, from the next packet on; the ECN bits are not the user's.
#[test]
fn must_48_dscp_and_ttl_of_a_connection() {
    let (mut rig, door) = door();
    let (mut peer, conn) = door.accept(&mut rig);
    for (tos, ttl, expected) in [(0, 64, [0, 64]), (0xb8, 9, [0xb8, 9]), (0xff, 0, [0xfc, 1])] {
        door.ask(&mut rig, move |io| {
            io.set_tos(conn, tos);
            io.set_ttl(conn, ttl);
        });
        let data = peer.data(b"to be echoed");
        rig.turn(&[data]);
        let sent = rig.next();
        assert_eq!([sent.packet[1], sent.packet[8]], expected);
        assert_eq!(sent.payload, b"to be echoed");
        peer.ack = peer.ack.wrapping_add(12);
        rig.turn(&[peer.ack()]);
        assert!(rig.sent.is_empty());
    }
    let other = Endpoint { port: 6_000, ..remote() };
    door.connect(&mut rig, other, ConnectOptions { tos: Some(0x28), ..ConnectOptions::default() }).unwrap();
    assert_eq!(rig.next().packet[1], 0x28, "its own");
}

/// What a listener's connections begin with; its SYN-ACKs show it already.
#[test]
fn connections_inherit_from_their_listener() {
    let (mut rig, door) = door();
    let local = Endpoint::new(ANY, PORT);
    door.listen(&mut rig, ANY, PORT, 1).unwrap();
    let options = ListenOptions { ttl: Some(5), tos: Some(0x20), mss: Some(1_200) };
    door.ask(&mut rig, move |io| io.set_listen_options(local, &options));
    rig.turn(&[Peer::new(40_000, PORT).syn()]);
    let syn_ack = rig.next();
    assert_eq!((syn_ack.packet[8], syn_ack.packet[1], syn_ack.header.options.mss), (5, 0x20, Some(1_200)));
    let mut peer = rig.connect(40_001, PORT);
    let data = peer.data(&[3; 1_400]);
    rig.turn(&[data]);
    let echoed = rig.next();
    assert_eq!((echoed.packet[8], echoed.packet[1], echoed.payload.len()), (5, 0x20, 1_200));
}

/// NAGLE-5, through the shard: what is written while corked leaves as one segment.
#[test]
fn a_corked_connection_sends_whole_segments() {
    let (mut rig, door) = door();
    let (_, conn) = door.accept(&mut rig);
    door.ask(&mut rig, move |io| io.set_cork(conn, true));
    for _ in 0..3 {
        door.ask(&mut rig, move |io| io.send(conn, &[1; 100]));
    }
    assert!(rig.sent.is_empty());
    assert_eq!(door.ask(&mut rig, move |io| (io.unsent(conn), io.not_sent(conn))), (300, 300));
    door.ask(&mut rig, move |io| io.set_cork(conn, false));
    assert_eq!(rig.next().payload.len(), 300);
    assert_eq!(door.ask(&mut rig, move |io| (io.unsent(conn), io.not_sent(conn))), (300, 0));
}

/// OPS-6: a delayed acknowledgment leaves when the service asks for it.
#[test]
fn a_service_asks_for_an_acknowledgment() {
    let (mut rig, door) = door_with(|config| config.tcp.quick_acks = 0);
    let (mut peer, conn) = door.accept(&mut rig);
    // What is not echoed: there is no room to send.
    door.ask(&mut rig, move |io| io.shutdown(conn));
    peer.take(&mut rig);
    rig.turn(&[peer.ack()]);
    let data = peer.data(b"one");
    rig.turn(&[data]);
    assert!(rig.sent.is_empty());
    door.ask(&mut rig, move |io| io.set_quickack(conn, true));
    assert_eq!(rig.next().header.ack, peer.seq);
}

/// TCP_NOTSENT_LOWAT: room comes back as octets leave, without an acknowledgment.
#[test]
fn a_limit_for_unsent_octets_wakes_the_writer_when_they_are_sent() {
    let (mut rig, door) = door();
    let (mut peer, conn) = door.accept(&mut rig);
    door.ask(&mut rig, move |io| io.set_notsent_lowat(conn, Some(4_096)));
    let write = |rig: &mut Rig| door.ask(rig, move |io| io.send(conn, &[1; 10_000]));
    let mut written = 0;
    let waiting = loop {
        written += write(&mut rig);
        let woken = door.heard() == [Heard::Writable];
        let (unsent, not_sent) = door.ask(&mut rig, move |io| (io.unsent(conn), io.not_sent(conn)));
        assert_eq!(unsent as usize, written);
        assert!(not_sent <= 4_096);
        assert_eq!(woken, not_sent <= 2_048, "{not_sent} unsent");
        if !woken {
            break not_sent as usize;
        }
    };
    // The initial window lets ten segments go, of which not all are full.
    assert!((13_140..=14_600).contains(&(written - waiting)));
    assert_eq!(write(&mut rig), 4_096 - waiting, "up to the limit");
    assert_eq!(door.heard(), []);
    peer.take(&mut rig);
    rig.turn(&[peer.ack()]);
    assert_eq!(door.heard(), [Heard::Writable]);
    // A raised limit is room, too.
    door.ask(&mut rig, move |io| io.set_notsent_lowat(conn, Some(1)));
    assert_eq!(write(&mut rig) + write(&mut rig), 256);
    door.heard();
    door.ask(&mut rig, move |io| io.set_notsent_lowat(conn, None));
    assert_eq!(door.heard(), [Heard::Writable]);
}

#[test]
fn a_larger_send_buffer_wakes_the_writer() {
    let (mut rig, door) = door();
    let (_, conn) = door.accept(&mut rig);
    door.ask(&mut rig, move |io| io.set_send_buffer(conn, 30_000));
    assert_eq!(door.ask(&mut rig, move |io| io.send(conn, &[1; 60_000])), 30_000);
    door.ask(&mut rig, move |io| io.set_send_buffer(conn, 20_000));
    assert_eq!(door.heard(), []);
    door.ask(&mut rig, move |io| io.set_send_buffer(conn, 40_000));
    assert_eq!(door.heard(), [Heard::Writable]);
    assert_eq!(door.ask(&mut rig, move |io| io.send_room(conn)), 10_000);
}

/// What arrives is bounded by the buffer that was set; the window of before is honoured.
#[test]
fn a_receive_buffer_bounds_what_is_offered() {
    let (mut rig, door) = door();
    let (peer, conn) = door.accept(&mut rig);
    door.ask(&mut rig, move |io| io.set_receive_buffer(conn, 300_000));
    let update = rig.next();
    assert_eq!(u32::from(update.header.window) << 7, 300_000 >> 7 << 7);
    assert_eq!(update.header.ack, peer.seq);
    assert_eq!(door.ask(&mut rig, move |io| io.info(conn).unwrap().receive_buffer), 300_000);
}

/// MUST-32, MUST-33, RFC6093-6: the service hears of urgent octets and how many they are; they stay in line.
#[test]
fn must_32_must_33_a_service_hears_of_urgent_octets() {
    let (mut rig, door) = door();
    let (mut peer, conn) = door.accept(&mut rig);
    assert_eq!(
        door.ask(&mut rig, move |io| (io.set_oobinline(conn, true), io.set_oobinline(conn, false))),
        (true, false)
    );
    let urgent = |peer: &Peer, pointer, payload: &[u8]| {
        let header = TcpHeader {
            src_port: peer.port,
            dst_port: PORT,
            seq: peer.seq,
            ack: peer.ack,
            flags: Flags::ACK | Flags::URG,
            window: 60_000,
            urgent: pointer,
            ..TcpHeader::default()
        };
        tcp_packet(PEER, OURS, &header, payload)
    };
    // Five octets of which the first three are urgent, then a pointer ahead of what has come.
    rig.turn(&[urgent(&peer, 3, b"abcde")]);
    peer.seq += 5;
    assert_eq!(door.heard(), [Heard::Urgent(3)], "told before the octets are read");
    assert_eq!(door.ask(&mut rig, move |io| io.urgent(conn)), 0, "they have been read");
    rig.turn(&[urgent(&peer, 10, b"f")]);
    peer.seq += 1;
    assert_eq!(door.heard(), [Heard::Urgent(10)]);
    assert_eq!(door.ask(&mut rig, move |io| io.urgent(conn)), 9);
    rig.turn(&[urgent(&peer, 9, b"g")]);
    assert_eq!(door.heard(), [], "the same place is no news");
    for _ in 0..2 {
        peer.take(&mut rig);
        rig.turn(&[peer.ack()]);
    }
    assert_eq!(peer.got, b"abcdefg");
}

/// Only services that want mail are asked; each that has some is called once.
#[test]
fn mail_is_delivered_to_those_who_have_some() {
    let mut rig = Rig::new();
    assert!(!rig.shard.has_mail());
    rig.shard.add_service(Some(7), Box::new(Echo));
    let doors = [Door::default(), Door::default()];
    for door in &doors {
        rig.shard.add_service(None, Box::new(door.clone()));
    }
    rig.begin();
    assert!(!rig.shard.has_mail());
    assert_eq!(rig.shard.deliver_mail(), 0);
    let post = |door: &Door| door.mail.lock().unwrap().push_back(Box::new(|io| io.set_timer(io.now(), 1)));
    post(&doors[1]);
    assert!(rig.shard.has_mail());
    assert_eq!(rig.shard.deliver_mail(), 1);
    post(&doors[0]);
    post(&doors[1]);
    post(&doors[1]);
    assert_eq!(rig.shard.deliver_mail(), 2);
    assert!(!rig.shard.has_mail());
    rig.finish();
    let counters = *rig.shard.counters();
    assert_eq!(counters, Counters { most_in_a_turn: counters.most_in_a_turn, ..Counters::default() });
}
