//! Segments in runs: the service is told once of what a run has brought, and of everything in its order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use trust::shard::{ConnId, Io};
use trust::wire::options::Timestamps;
use trust::wire::tcp::{Flags, TcpHeader};
use trust::wire::{self, PROTOCOL_TCP};

use crate::rig::{Call, OURS, PEER, Peer, Rig, probe, tcp_packet};

/// What a reader was shown, call by call.
type Shown = Arc<Mutex<Vec<(ConnId, Vec<u8>)>>>;

/// A shard with a reader on port 9 that takes everything, and what it was shown.
fn reader() -> (Rig, Shown) {
    let shown: Shown = Arc::default();
    let seen = Arc::clone(&shown);
    let (service, _) = probe(move |io: &mut dyn Io, call| {
        let Call::Readable(conn) = *call else { return };
        let mut octets = Vec::new();
        while io.unread(conn) > 0 {
            let run = io.peek(conn).to_vec();
            io.consume(conn, run.len() as u32);
            octets.extend(run);
        }
        seen.lock().unwrap().push((conn, octets));
    });
    // The window lets more come in a turn than a run may bring.
    let mut rig = Rig::with(|config| config.tcp.recv_buffer.initial = 256 << 10, 256, 1_024);
    rig.shard.add_service(Some(9), service);
    (rig, shown)
}

fn octets_of(shown: &Shown) -> Vec<Vec<u8>> {
    shown.lock().unwrap().drain(..).map(|(_, octets)| octets).collect()
}

#[test]
fn a_reader_is_told_once_of_a_run_and_before_the_turn_ends() {
    for stamps in [None, Some(Timestamps { val: 1, ecr: 0 })] {
        let (mut rig, shown) = reader();
        let mut peer = Peer::new(40_000, 9);
        peer.syn_options.timestamps = stamps;
        peer.open(&mut rig);
        rig.begin();
        for piece in [&b"one "[..], b"two ", b"three"] {
            let packet = peer.data(piece);
            rig.receive(&packet);
        }
        assert_eq!(octets_of(&shown), [[0_u8; 0]; 0], "the run may go on");
        assert!(rig.shard.has_work(), "and is not forgotten");
        rig.finish();
        assert_eq!(octets_of(&shown), [b"one two three".to_vec()]);
        assert_eq!((rig.buffers_out(), rig.counters().segments_predicted >= 3), (0, true));
        peer.take(&mut rig);
        assert_eq!(rig.counters().payload_in, 13);
    }
}

/// A run does not grow without bound: by octets, and by segments.
#[test]
fn a_reader_is_told_of_a_long_run_in_its_middle() {
    for (len, segments, told) in [(1_460, 50, vec![45, 5]), (1, 130, vec![64, 64, 2])] {
        let (mut rig, shown) = reader();
        let mut peer = rig.connect(40_000, 9);
        // The first window, which the SYN-ACK tells without a scale, is too small.
        let first = peer.data(b"!");
        rig.turn(&[first]);
        octets_of(&shown);
        rig.begin();
        for _ in 0..segments {
            let packet = peer.data(&vec![7; len]);
            rig.receive(&packet);
        }
        rig.finish();
        let lens: Vec<_> = octets_of(&shown).iter().map(|octets| octets.len() / len).collect();
        assert_eq!(lens, told, "{len}");
    }
}

/// What is not expected ends the run first: its service hears of everything in its order.
#[test]
fn whatever_else_comes_ends_the_run_first() {
    let (mut rig, shown) = reader();
    let (mut one, mut two) = (rig.connect(40_000, 9), rig.connect(40_001, 9));
    rig.begin();
    for packet in [one.data(b"a"), one.data(b"b"), two.data(b"c"), one.data(b"d"), one.fin()] {
        rig.receive(&packet);
    }
    rig.finish();
    assert_eq!(octets_of(&shown), [b"ab".to_vec(), b"c".to_vec(), b"d".to_vec(), vec![]]);
    // Of a segment that is out of order the reader hears only when the gap is filled, after what came before.
    rig.begin();
    let gap = two.packet_at(2, Flags::ACK, b"3");
    for packet in [two.data(b"1"), gap, two.data(b"2")] {
        rig.receive(&packet);
    }
    rig.finish();
    assert_eq!(octets_of(&shown), [b"1".to_vec(), b"23".to_vec()]);
}

/// A reset behind a run: what came before it is there to be read.
#[test]
fn a_reset_behind_a_run_comes_behind_it() {
    let (service, calls) = probe(|_, _| {});
    let mut rig = Rig::new();
    rig.shard.add_service(Some(9), service);
    let mut peer = rig.connect(40_000, 9);
    rig.begin();
    let packets = [peer.data(b"last words"), peer.rst()];
    for packet in &packets {
        rig.receive(packet);
    }
    rig.finish();
    let calls = calls.lock().unwrap();
    assert!(matches!(calls.as_slice(), [Call::Accepted(_), Call::Readable(_), Call::Closed(..)]), "{calls:?}");
    drop(calls);
    rig.assert_empty();
}

/// A small payload that its reader leaves does not pin its packet, in a run either.
#[test]
fn what_a_reader_leaves_of_a_run_leaves_its_packets() {
    let (service, _) = probe(|_, _| {});
    let mut rig = Rig::new();
    rig.shard.add_service(Some(9), service);
    let mut peer = rig.connect(40_000, 9);
    rig.begin();
    for _ in 0..10 {
        let packet = peer.data(&[1; 100]);
        rig.receive(&packet);
    }
    assert_eq!(rig.counters().held_packets, 10);
    rig.finish();
    let counters = rig.counters();
    assert_eq!((counters.held_packets, rig.buffers_out()), (0, 0));
    assert!(counters.held_octets >= 1_000);
}

/// What a stranger sends is no segment of the connection that was heard last, whatever numbers it has.
#[test]
fn a_segment_of_a_stranger_is_not_that_of_the_connection_before() {
    let (mut rig, shown) = reader();
    let peer = rig.connect(40_000, 9);
    let before = rig.counters().segments_in;
    let header = TcpHeader { seq: peer.seq, ack: peer.ack, flags: Flags::ACK, window: 60_000, ..TcpHeader::default() };
    let (port, service) = (peer.port, peer.service_port);
    for (src, dst, src_port, dst_port) in [
        ([10, 7, 0, 77].into(), OURS, port, service),
        (PEER, OURS, port + 1, service),
        (PEER, OURS, port, service + 1),
        (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED, 0, 0),
    ] {
        // The connection's own segment comes before it.
        rig.turn(&[peer.ack(), tcp_packet(src, dst, &TcpHeader { src_port, dst_port, ..header }, b"forged")]);
    }
    assert_eq!((rig.counters().segments_in - before, octets_of(&shown).len()), (4, 0));
}

/// IPv6 runs, too; between them a packet with an extension header takes the other way and is no different.
#[test]
fn ipv6_and_packets_with_extension_headers() {
    let (ours, theirs) = (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
    let shown: Shown = Arc::default();
    let seen = Arc::clone(&shown);
    let (service, _) = probe(move |io: &mut dyn Io, call| {
        let Call::Readable(conn) = *call else { return };
        while io.unread(conn) > 0 {
            let run = io.peek(conn).to_vec();
            io.consume(conn, run.len() as u32);
            seen.lock().unwrap().push((conn, run));
        }
    });
    let mut rig = Rig::with(|config| config.addresses = vec![IpAddr::V6(ours)], 256, 1_024);
    rig.shard.add_service(Some(9), service);
    let packet = |seq: u32, ack: u32, flags: Flags, payload: &[u8], extension: bool| {
        let header =
            TcpHeader { src_port: 40_000, dst_port: 9, seq, ack, flags, window: 60_000, ..TcpHeader::default() };
        let len = wire::tcp::header_len(&header);
        let mut segment = vec![0; len];
        wire::tcp::write(&header, &mut segment);
        wire::tcp::set_checksum(&mut segment, theirs.into(), ours.into(), &[payload]);
        segment.extend_from_slice(payload);
        let destination: &[u8] = if extension { &[PROTOCOL_TCP, 0, 1, 4, 0, 0, 0, 0] } else { &[] };
        let next = if extension { 60 } else { PROTOCOL_TCP };
        let body = [destination, &segment].concat();
        let mut packet = vec![0; wire::ip::IPV6_HEADER_LEN];
        wire::ip::write(&mut packet, theirs.into(), ours.into(), next, body.len(), Default::default());
        packet.extend_from_slice(&body);
        packet
    };
    rig.turn(&[packet(1_000, 0, Flags::SYN, b"", false)]);
    let ack = rig.next().header.seq.wrapping_add(1);
    rig.turn(&[packet(1_001, ack, Flags::ACK, b"", false)]);
    rig.turn(&[
        packet(1_001, ack, Flags::ACK, b"a", false),
        packet(1_002, ack, Flags::ACK, b"b", true),
        packet(1_003, ack, Flags::ACK, b"c", false),
    ]);
    assert_eq!(octets_of(&shown).concat(), b"abc");
    assert_eq!(rig.counters().segments_predicted, 3);
}
