//! Listeners that services open as they run: whose a SYN is, backlogs and accept queues, and the end of a listener.

use std::net::{IpAddr, Ipv4Addr};

use trust::flow::{Endpoint, Quad};
use trust::services::echo::Echo;
use trust::shard::{ConnectOptions, DropReason, ListenError, ListenOptions};
use trust::tcp::cookie::SynCookies;
use trust::tcp::{CloseReason, Duration};
use trust::wire::tcp::Flags;

use crate::door::{ALSO_OURS, ANY, Door, HERE, Heard, PORT, door, door_with, remote, syn_to, v4};
use crate::rig::{OURS, PEER, Peer, Rig};

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

/// What a listener's connections begin with; its SYN-ACKs show it already.
#[test]
fn connections_inherit_from_their_listener() {
    let (mut rig, door) = door();
    let local = Endpoint::new(ANY, PORT);
    door.listen(&mut rig, ANY, PORT, 1).unwrap();
    let options = ListenOptions { ttl: Some(5), tos: Some(0x20), mss: Some(1_200), ..ListenOptions::default() };
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

/// What SYNs have been answered with holds for their connections, whatever the listener's options become; the scale, of
/// which a half-open connection keeps nothing, for all later ones, too.
#[test]
fn a_listeners_window_scale_stays_as_it_was_offered_first() {
    for cookies in [SynCookies::Off, SynCookies::Always] {
        let (mut rig, door) = door_with(|config| config.limits.syn_cookies = cookies);
        let local = Endpoint::new(ANY, PORT);
        door.listen(&mut rig, ANY, PORT, 1).unwrap();
        let set = |rig: &mut Rig, octets| {
            let options = ListenOptions { receive_buffer: Some(octets), ..ListenOptions::default() };
            door.ask(rig, move |io| io.set_listen_options(local, &options));
        };
        set(&mut rig, 8_192);
        set(&mut rig, 300_000);
        let mut peers = [Peer::new(40_000, PORT), Peer::new(40_001, PORT)];
        let mut offered = Vec::new();
        for peer in &mut peers {
            rig.turn(&[peer.syn()]);
            let header = rig.next().header;
            offered.push((header.window, header.options.window_scale));
            (peer.seq, peer.ack) = (header.ack, header.seq.wrapping_add(1));
            set(&mut rig, 20_000);
        }
        assert_eq!(offered, [(65_535, Some(3)), (20_000, Some(3))]);
        rig.turn(&peers.map(|peer| peer.ack()));
        let accepted = |heard| if let Heard::Accepted { conn, .. } = heard { Some(conn) } else { None };
        let conns: Vec<_> = door.heard().into_iter().filter_map(accepted).collect();
        assert_eq!(conns.len(), 2);
        for conn in conns {
            let info = door.ask(&mut rig, move |io| io.info(conn)).unwrap();
            assert_eq!((info.window_shifts.1, info.receive_buffer), (3, 20_000));
        }
    }
}
