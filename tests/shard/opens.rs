//! Connections that services open as they run, what they set on their connections, and their mail.

use std::net::Ipv4Addr;

use trust::flow::{Endpoint, Quad, ShardId};
use trust::services::echo::Echo;
use trust::shard::{ConnectError, ConnectOptions, Counters};
use trust::tcp::{CloseReason, Duration};
use trust::wire::options::TcpOptions;
use trust::wire::tcp::{Flags, TcpHeader};

use crate::door::{ALSO_OURS, ANY, Door, Heard, PORT, door, door_with, remote, v4};
use crate::rig::{OURS, PEER, Peer, Rig, Sent, tcp_packet};

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

/// MUST-48, MUST-49, SHLD-21, SHLD-22: DSCP and TTL of a connection, from the next packet on; the ECN bits are not the user's.
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
