//! Requirements that a single core cannot show, since they need IP, tables or several connections: one shard, packet by
//! packet. Names and comments carry the ids of `docs/conformance/`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use trust::flow::{Endpoint, ShardId};
use trust::services::echo::Echo;
use trust::shard::{ConnId, DropReason, Route, ShardConfig};
use trust::tcp::{CloseReason, Duration, State};
use trust::wire::options::TcpOptions;
use trust::wire::tcp::{Flags, TcpHeader};
use trust::wire::{Malformed, PROTOCOL_ICMP, checksum};

use crate::rig::{Call, OURS, PEER, Peer, Rig, endings, ip_packet, probe, tcp_packet};

const PORT: u16 = 7;

/// A rig with an echo service.
fn echoing() -> Rig {
    let mut rig = Rig::new();
    rig.shard.add_service(Some(PORT), Box::new(Echo));
    rig
}

/// The connection still carries octets both ways.
fn assert_alive(rig: &mut Rig, peer: &mut Peer) {
    let before = peer.got.len();
    let packet = peer.data(b"alive?");
    rig.turn(&[packet]);
    peer.take(rig);
    assert_eq!(peer.got[before..], *b"alive?");
    assert!(!peer.got_reset);
    rig.turn(&[peer.ack()]);
}

fn syn(flags: Flags, options: TcpOptions) -> TcpHeader {
    TcpHeader { src_port: 40_000, dst_port: PORT, seq: 77, flags, window: 1_000, options, ..TcpHeader::default() }
}

/// MUST-41, MUST-42: a listener is found by the port alone, a connection by all four; neither knows of the other.
#[test]
fn a_listener_is_no_connection() {
    let mut rig = echoing();
    let mut first = rig.connect(40_000, PORT);
    let half_open = Peer::new(40_001, PORT);
    rig.turn(&[half_open.syn()]);
    assert!(rig.next().has(Flags::SYN | Flags::ACK));
    let mut third = rig.connect(40_002, PORT);
    assert_alive(&mut rig, &mut first);
    assert_alive(&mut rig, &mut third);
    assert_eq!((rig.counters().connections, rig.counters().half_open), (3, 1));
}

#[test]
fn sm_lis_1_to_3_what_is_no_syn() {
    let mut rig = echoing();
    let none = TcpOptions::default();
    for flags in [Flags::RST, Flags::RST | Flags::ACK, Flags::FIN, Flags::PSH, Flags::NONE, Flags::URG] {
        rig.turn(&[tcp_packet(PEER, OURS, &syn(flags, none), &[1, 2])]);
        assert!(rig.sent.is_empty(), "SM-LIS-1, SM-LIS-3: {flags:?} is not answered");
    }
    for flags in [Flags::ACK, Flags::SYN | Flags::ACK, Flags::FIN | Flags::ACK] {
        rig.turn(&[tcp_packet(PEER, OURS, &TcpHeader { ack: 9, ..syn(flags, none) }, &[])]);
        let reset = rig.next();
        assert_eq!((reset.header.flags, reset.header.seq), (Flags::RST, 9), "SM-LIS-2: {flags:?}");
    }
    rig.assert_empty();
}

/// A FIN on the SYN is ignored; a RST on it is a RST.
#[test]
fn sm_syn_2_a_syn_with_other_flags() {
    let mut rig = echoing();
    rig.turn(&[tcp_packet(PEER, OURS, &syn(Flags::SYN | Flags::RST, TcpOptions::default()), &[])]);
    assert!(rig.sent.is_empty());
    rig.turn(&[tcp_packet(PEER, OURS, &syn(Flags::SYN | Flags::FIN, TcpOptions::default()), &[])]);
    let answer = rig.next();
    assert!(answer.has(Flags::SYN | Flags::ACK));
    assert_eq!(answer.header.ack, 78, "the FIN is not acknowledged");
    assert_eq!(rig.shard.connections().next().unwrap().2, State::SynReceived);
}

/// MUST-67, RFC6691-2a: what fits the MTU without options, whatever options will be in use.
#[test]
fn the_mss_follows_from_the_mtu() {
    for mtu in [1_500, 1_280, 9_000] {
        let mut rig = Rig::with(|config| config.mtu = mtu, 64, 256);
        rig.shard.add_service(Some(PORT), Box::new(Echo));
        rig.turn(&[Peer::new(40_000, PORT).syn()]);
        assert_eq!(rig.next().header.options.mss, Some(mtu - 40));
    }
}

/// MUST-57, MUST-63, IP-2, OPS-33, SM-X-2.
#[test]
fn sc_17_syns_to_and_from_no_host() {
    let mut rig = echoing();
    let syn = syn(Flags::SYN, TcpOptions::default());
    let other = |a, b, c, d| Ipv4Addr::new(a, b, c, d);
    for dst in [Ipv4Addr::BROADCAST, other(224, 0, 0, 1), other(10, 7, 0, 255), Ipv4Addr::UNSPECIFIED] {
        rig.turn(&[tcp_packet(PEER, dst, &syn, &[])]);
    }
    for src in [other(127, 0, 0, 1), other(224, 0, 0, 1), Ipv4Addr::BROADCAST, other(0, 1, 2, 3), OURS] {
        rig.turn(&[tcp_packet(src, OURS, &syn, &[])]);
    }
    rig.turn(&[tcp_packet(OURS, OURS, &TcpHeader { src_port: PORT, ..syn }, &[])]);
    assert!(rig.sent.is_empty());
    assert_eq!(rig.counters().dropped_total(), 10);
    rig.assert_empty();
}

/// MUST-46: what no host can be is not called; the service hears of it at once.
#[test]
fn an_open_to_no_host_fails() {
    let mut rig = Rig::new();
    let (service, calls) = probe(|_, _| {});
    let index = rig.shard.add_service(None, service);
    let addresses = ["255.255.255.255", "224.0.0.1", "0.0.0.0", "127.0.0.1"];
    for (count, addr) in addresses.into_iter().enumerate() {
        rig.begin();
        assert!(rig.shard.connect(index, Endpoint::new(addr.parse().unwrap(), 80)).is_none(), "{addr}");
        rig.finish();
        assert_eq!(endings(&calls), vec![CloseReason::LocalClose; count + 1]);
    }
    assert!(rig.sent.is_empty());
    rig.assert_empty();
}

/// The other side opened at the same time; then our user gives up. The peer believes in a connection: it is told.
#[test]
fn sm_sr_7_giving_up_a_simultaneous_open_resets() {
    for abort in [false, true] {
        let mut rig = Rig::new();
        let opened = Arc::new(Mutex::new(None::<ConnId>));
        let id = Arc::clone(&opened);
        let (service, calls) = probe(move |io, call| {
            if let (Call::Message(_), Some(conn)) = (call, *id.lock().unwrap()) {
                if abort { io.abort(conn) } else { io.close(conn) }
            }
        });
        let index = rig.shard.add_service(None, service);
        rig.begin();
        *opened.lock().unwrap() = rig.shard.connect(index, Endpoint::new(IpAddr::V4(PEER), 80));
        rig.finish();
        let ours = rig.next();
        let mut peer = Peer::new(80, ours.header.src_port);
        peer.ack = ours.header.seq.wrapping_add(1);
        rig.turn(&[peer.syn()]);
        assert!(rig.next().has(Flags::SYN | Flags::ACK));
        rig.begin();
        rig.shard.message(index, ShardId(0), Box::new(()));
        rig.finish();
        let reset = rig.next();
        assert!(reset.has(Flags::RST), "{:?}", reset.header);
        assert_eq!(reset.header.seq, peer.ack);
        assert_eq!(endings(&calls).len(), 1);
        rig.assert_empty();
    }
}

/// The bound on half-open records holds, everybody is answered all the same, and what is a good answer to a cookie, and not
/// a day old, makes a connection.
#[test]
fn sc_18_a_flood_of_syns_is_answered_with_cookies() {
    let mut rig = Rig::with(|config| config.limits.half_open = 4, 64, 1_024);
    rig.shard.add_service(Some(PORT), Box::new(Echo));
    let mut settled = rig.connect(39_999, PORT);
    let flood: Vec<Vec<u8>> = (0..100).map(|index| Peer::new(40_000 + index, PORT).syn()).collect();
    rig.turn(&flood);
    assert_eq!((rig.sent.len(), rig.counters().half_open, rig.counters().cookies_sent), (100, 4, 96));
    assert_alive(&mut rig, &mut settled);
    let answers: Vec<_> = std::mem::take(&mut rig.sent).into_iter().map(|sent| sent.header).collect();
    let with = |answer: &TcpHeader| {
        let mut peer = Peer::new(answer.dst_port, PORT);
        (peer.seq, peer.ack) = (answer.ack, answer.seq.wrapping_add(1));
        peer
    };
    for answer in answers.iter().take(50) {
        let mut peer = with(answer);
        rig.turn(&[peer.ack()]);
        assert_alive(&mut rig, &mut peer);
    }
    assert_eq!((rig.counters().half_open, rig.counters().cookies_accepted), (0, 46));
    let mut wrong = with(&answers[60]);
    wrong.ack = wrong.ack.wrapping_add(1);
    rig.turn(&[wrong.ack()]);
    let reset = rig.next();
    assert_eq!((reset.header.flags, reset.header.seq), (Flags::RST, wrong.ack));
    rig.advance(Duration::from_secs(61));
    rig.sent.clear();
    let stale = with(&answers[61]);
    rig.turn(&[stale.ack()]);
    let reset = rig.next();
    assert_eq!((reset.header.flags, reset.header.seq), (Flags::RST, stale.ack));
    assert_eq!(rig.counters().cookies_accepted, 46);
}

/// MUST-3: each bit of segment and addresses counts; nothing is answered, nothing delivered. An odd length is fine.
#[test]
fn sc_33_a_wrong_bit_anywhere_drops_the_segment() {
    let mut rig = echoing();
    let mut peer = rig.connect(40_000, PORT);
    let sound = peer.clone().data(b"odd");
    for bit in 0..8 * (sound.len() - 12) {
        let mut packet = sound.clone();
        packet[12 + bit / 8] ^= 1 << (bit % 8);
        // The IP header agrees with itself again: only the TCP checksum is left to tell.
        packet[10..12].fill(0);
        let sum = checksum::finish(checksum::sum(&packet[..20]));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        rig.turn(&[packet]);
        assert!(rig.sent.is_empty(), "bit {bit} was answered");
    }
    assert!(rig.dropped(DropReason::Malformed(Malformed::TcpChecksum)) > 200);
    let packet = peer.data(b"odd");
    rig.turn(&[packet]);
    peer.take(&mut rig);
    assert_eq!(peer.got, b"odd");
}

/// An ICMP message that quotes a segment of ours, from `peer`'s side of the world.
fn icmp_about(peer: &Peer, kind: u8, code: u8, mtu: u16) -> Vec<u8> {
    let header = TcpHeader {
        src_port: PORT,
        dst_port: peer.port,
        seq: peer.ack.wrapping_sub(1),
        flags: Flags::ACK,
        ..TcpHeader::default()
    };
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message[6..8].copy_from_slice(&mtu.to_be_bytes());
    message.extend_from_slice(&tcp_packet(OURS, PEER, &header, &[])[..28]);
    let sum = checksum::finish(checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip_packet(PEER, OURS, PROTOCOL_ICMP, &message)
}

/// MUST-55, ICMP-9 (RFC 6633); ICMP-10: a redirect neither.
#[test]
fn source_quench_does_nothing() {
    let mut rig = echoing();
    let mut peer = rig.connect(40_000, PORT);
    for kind in [4, 5] {
        let quench: Vec<Vec<u8>> = (0..4).map(|code| icmp_about(&peer, kind, code, 0)).collect();
        rig.turn(&quench);
        assert!(rig.sent.is_empty());
        assert_alive(&mut rig, &mut peer);
    }
}

/// MUST-56: soft errors do not, and in a synchronized state hard ones neither (RFC 5927); ICMP-11: nor are they answered.
#[test]
fn an_icmp_error_ends_no_connection() {
    let mut rig = echoing();
    let mut peer = rig.connect(40_000, PORT);
    for (kind, codes) in [(3, 16), (11, 2), (12, 3)] {
        for code in 0..codes {
            rig.turn(&[icmp_about(&peer, kind, code, 1_400)]);
            assert!(rig.sent.is_empty(), "{kind}/{code} was answered");
            assert_alive(&mut rig, &mut peer);
        }
    }
    rig.advance(Duration::from_secs(1));
    assert_alive(&mut rig, &mut peer);
}

/// IP-12 among them. Whoever sends TCP in fragments does not get through, and costs nothing.
#[test]
fn sc_73_fragments_are_dropped_whatever_they_are() {
    let mut rig = echoing();
    let mut peer = rig.connect(40_000, PORT);
    let whole = peer.clone().data(&[7; 600]);
    for (from, to, more) in [(20, 28, true), (28, 40, true), (40, 340, true), (340, 640, false), (28, 640, false)] {
        let mut fragment = whole[..20].to_vec();
        fragment.extend_from_slice(&whole[from..to]);
        let total = fragment.len() as u16;
        fragment[2..4].copy_from_slice(&total.to_be_bytes());
        let place = ((from - 20) / 8) as u16 | if more { 0x2000 } else { 0 };
        fragment[6..8].copy_from_slice(&place.to_be_bytes());
        fragment[10..12].fill(0);
        let sum = checksum::finish(checksum::sum(&fragment[..20]));
        fragment[10..12].copy_from_slice(&sum.to_be_bytes());
        rig.turn(&[fragment]);
    }
    assert!(rig.sent.is_empty());
    assert_eq!(rig.dropped(DropReason::Malformed(Malformed::IpFragment)), 5);
    assert_eq!(rig.counters().held_octets, 0);
    assert_alive(&mut rig, &mut peer);
}

/// Regressions gvisor#9139 and gvisor#7379: many connections at once, all of which go on, and leave nothing.
#[test]
fn gvisor_9139_7379_many_connections_at_once() {
    let mut rig = Rig::with(|_| {}, 4_096, 8_192);
    rig.shard.add_service(Some(PORT), Box::new(Echo));
    let mut peers: Vec<Peer> = (0..2_000).map(|index| rig.connect(10_000 + index, PORT)).collect();
    assert_eq!(rig.counters().connections, 2_000);
    let packets: Vec<Vec<u8>> = peers.iter_mut().map(|peer| peer.data(&peer.port.to_be_bytes())).collect();
    rig.turn(&packets);
    rig.settle();
    let by_port: std::collections::HashMap<u16, Vec<u8>> =
        rig.sent.drain(..).map(|sent| (sent.header.dst_port, sent.payload)).collect();
    for peer in &mut peers {
        assert_eq!(by_port[&peer.port], peer.port.to_be_bytes(), "each gets its own octets");
        peer.ack = peer.ack.wrapping_add(2);
    }
    let ends: Vec<Vec<u8>> = peers.iter_mut().map(Peer::fin).collect();
    rig.turn(&ends);
    rig.settle();
    for sent in std::mem::take(&mut rig.sent).into_iter().filter(|sent| sent.has(Flags::FIN)) {
        let mut peer = Peer::new(sent.header.dst_port, PORT);
        (peer.seq, peer.ack) = (sent.header.ack, sent.header.seq.wrapping_add(1));
        rig.turn(&[peer.ack()]);
    }
    rig.assert_empty();
}

/// MAY-2, SM-TW-5f: a SYN that only looked new does not end TIME-WAIT. The peer resets what came of it, and the record
/// is there again, with the time it had left.
#[test]
fn sm_tw_5f_a_syn_that_proves_old_leaves_time_wait_as_it_was() {
    let mut rig = Rig::new();
    let (service, calls) = probe(|io, call| {
        if let Call::Accepted(conn) = call {
            io.close(*conn);
        }
    });
    rig.shard.add_service(Some(PORT), service);
    let mut peer = rig.connect(40_000, PORT);
    peer.take(&mut rig);
    let fin = peer.fin();
    rig.turn(&[fin]);
    peer.take(&mut rig);
    rig.sent.clear();
    assert_eq!((rig.counters().time_wait, rig.counters().connections), (1, 0));
    rig.advance(Duration::from_secs(30));

    let stray = Peer { seq: peer.seq.wrapping_add(70_000), ..Peer::new(40_000, PORT) };
    rig.turn(&[stray.syn()]);
    let answer = rig.next();
    assert!(answer.has(Flags::SYN | Flags::ACK));
    let mut reset = stray.clone();
    reset.seq = answer.header.ack;
    rig.turn(&[reset.packet_at(0, Flags::RST, &[])]);
    assert!(rig.sent.is_empty());
    assert_eq!((rig.counters().time_wait, rig.counters().connections), (1, 0));
    assert_eq!(rig.counters().time_wait_reused, 0);

    // It answers as before, and ends when it should.
    let mut again = peer.clone();
    again.seq = again.seq.wrapping_sub(1);
    rig.turn(&[again.packet_at(0, Flags::FIN | Flags::ACK, &[])]);
    assert_eq!(rig.next().header.ack, peer.seq);
    rig.advance(Duration::from_secs(61));
    assert_eq!(rig.counters().time_wait, 0);
    assert_eq!(calls.lock().unwrap().iter().filter(|call| matches!(call, Call::Accepted(_))).count(), 1);
    rig.assert_empty();
}

/// An open takes no port that a service listens on.
#[test]
fn rfc6056_3_1_an_open_leaves_the_ports_of_services_alone() {
    let open = |listening: Option<u16>| {
        let mut rig = Rig::new();
        if let Some(port) = listening {
            rig.shard.add_service(Some(port), Box::new(Echo));
        }
        let (service, _) = probe(|_, _| {});
        let index = rig.shard.add_service(None, service);
        rig.begin();
        assert!(rig.shard.connect(index, Endpoint::new(IpAddr::V4(PEER), 80)).is_some());
        rig.finish();
        rig.next().header.src_port
    };
    let port = open(None);
    assert_eq!(open(Some(1)), port, "the choice follows from the seed");
    assert_ne!(open(Some(port)), port);
}

/// MUST-63, RFC 1122 3.2.1.3: nobody is answered by way of everybody. Nor is an echo request, or what belongs to no connection.
#[test]
fn must_63_a_broadcast_or_network_address_is_no_source() {
    for (address, silent) in [
        ([10, 7, 0, 255], true),
        ([10, 7, 0, 0], true),
        ([10, 7, 1, 255], false),
        ([255, 255, 255, 255], true),
        ([224, 0, 0, 1], true),
        ([0, 0, 0, 0], true),
        ([10, 7, 0, 254], false),
    ] {
        let tweak = |config: &mut ShardConfig| config.routes.add(Route::on_link(OURS.into(), 24).unwrap());
        let mut rig = Rig::with(tweak, 64, 256);
        rig.shard.add_service(Some(PORT), Box::new(Echo));
        let address = Ipv4Addr::from(address);
        let to_nobody = TcpHeader { dst_port: 99, ..syn(Flags::SYN, TcpOptions::default()) };
        let mut ping = vec![8, 0, 0, 0, 0, 1, 0, 1];
        let sum = checksum::finish(checksum::sum(&ping));
        ping[2..4].copy_from_slice(&sum.to_be_bytes());
        for packet in [
            tcp_packet(address, OURS, &syn(Flags::SYN, TcpOptions::default()), &[]),
            tcp_packet(address, OURS, &to_nobody, &[]),
            ip_packet(address, OURS, PROTOCOL_ICMP, &ping),
        ] {
            let before = rig.counters().dropped_total();
            rig.turn(&[packet]);
            assert_eq!(rig.sent.drain(..).count(), usize::from(!silent), "{address}");
            assert_eq!(rig.counters().dropped_total() - before, u64::from(silent), "{address}");
        }
    }
    // A network of two addresses has no broadcast address (RFC 3021).
    let tweak = |config: &mut ShardConfig| config.routes.add(Route::on_link(OURS.into(), 31).unwrap());
    let mut rig = Rig::with(tweak, 64, 256);
    rig.shard.add_service(Some(PORT), Box::new(Echo));
    let other = Ipv4Addr::from(u32::from(OURS) ^ 1);
    rig.turn(&[tcp_packet(other, OURS, &syn(Flags::SYN, TcpOptions::default()), &[])]);
    assert!(rig.next().has(Flags::SYN | Flags::ACK));
}

/// A shard whose tx ring is full, for the ACKs of one connection, and another connection.
fn full_ring() -> (Rig, Peer) {
    let mut rig = Rig::with(|config| config.tcp.quick_acks = 0, 64, 16);
    rig.shard.add_service(Some(PORT), probe(|_, _| {}).0);
    let noisy = rig.connect(40_000, PORT);
    let other = rig.connect(40_001, PORT);
    rig.settle();
    rig.sent.clear();
    rig.stop_tx = true;
    for number in 0..20 {
        rig.turn(&[noisy.packet_at(100 + 10 * number, Flags::ACK, b"12345")]);
    }
    (rig, other)
}

/// What the shard sends to the port of the other connection once there is room again.
fn answers(rig: &mut Rig, peer: &Peer) -> Vec<(u32, usize)> {
    rig.stop_tx = false;
    rig.drain_tx();
    rig.settle();
    let theirs = rig.sent.iter().filter(|sent| sent.header.dst_port == peer.port);
    theirs.map(|sent| (sent.header.ack, sent.header.options.sack.len())).collect()
}

/// RFC5681-3.2.0: without it the sender learns of the hole by its timer only.
#[test]
fn an_immediate_ack_that_found_the_tx_ring_full_leaves_later() {
    let (mut rig, peer) = full_ring();
    rig.turn(&[peer.packet_at(100, Flags::ACK, b"12345")]);
    assert_eq!(answers(&mut rig, &peer), [(peer.seq, 1)]);
}

/// The challenge ACK stands for the delayed one as well.
#[test]
fn a_challenge_ack_that_found_the_tx_ring_full_leaves_later() {
    let (mut rig, mut peer) = full_ring();
    let data = peer.data(b"12345");
    rig.turn(&[data]);
    rig.turn(&[peer.packet_at(0, Flags::SYN, &[])]);
    assert_eq!(answers(&mut rig, &peer), [(peer.seq, 0)]);
}

/// MUST-16, MUST-67: whatever the peer takes, whatever is reported, and on the smallest link that IPv4 allows.
#[test]
fn no_packet_is_longer_than_the_mtu() {
    for (mtu, min_mss) in
        [(68, 48), (68, 88), (69, 88), (80, 88), (100, 88), (127, 88), (128, 88), (300, 1_460), (576, 1_460)]
    {
        for stamps in [None, Some(trust::wire::options::Timestamps { val: 7, ecr: 0 })] {
            let tweak = |config: &mut ShardConfig| {
                config.mtu = mtu;
                config.tcp.min_mss = min_mss;
            };
            let mut rig = Rig::with(tweak, 64, 1_024);
            rig.shard.add_service(Some(PORT), Box::new(Echo));
            let mut peer = Peer::new(40_000, PORT);
            peer.syn_options.timestamps = stamps;
            peer.open(&mut rig);
            // Four holes above, and what is echoed carries their blocks.
            for offset in [900, 700, 500, 300] {
                rig.turn(&[peer.packet_at(offset, Flags::ACK, &[b'x'; 100])]);
            }
            let octets: Vec<u8> = (0..200).collect();
            let packet = peer.data(&octets);
            rig.turn(&[packet]);
            let mut longest = 0;
            for _ in 0..200 {
                longest = longest.max(rig.sent.iter().map(|sent| sent.packet.len()).max().unwrap_or(0));
                peer.take(&mut rig);
                rig.turn(&[peer.ack()]);
            }
            assert!(longest <= usize::from(mtu), "{longest} octets, MTU {mtu}, {stamps:?}");
            assert_eq!(peer.got, octets, "MTU {mtu}, {stamps:?}");
        }
    }
}

/// SM-TW-5e: a client that lost its state gets its connection in two round trips, not after TIME-WAIT.
#[test]
fn a_client_that_lost_its_state_opens_through_time_wait() {
    let mut rig = Rig::new();
    let (service, _) = probe(|io, call| {
        if let Call::Accepted(conn) = call {
            io.close(*conn);
        }
    });
    rig.shard.add_service(Some(PORT), service);
    let mut peer = rig.connect(40_000, PORT);
    peer.take(&mut rig);
    let fin = peer.fin();
    rig.turn(&[fin]);
    rig.sent.clear();
    assert_eq!(rig.counters().time_wait, 1);
    let mut anew = Peer::new(40_000, PORT);
    anew.seq = peer.seq.wrapping_sub(500_000);
    rig.turn(&[anew.syn()]);
    let ack = rig.next().header;
    assert_eq!((ack.flags, ack.ack, ack.seq), (Flags::ACK, peer.seq, peer.ack));
    // What a host answers that knows of no such connection.
    let reset = TcpHeader { src_port: 40_000, dst_port: PORT, seq: ack.ack, flags: Flags::RST, ..TcpHeader::default() };
    rig.turn(&[tcp_packet(PEER, OURS, &reset, &[])]);
    assert_eq!((rig.sent.len(), rig.counters().time_wait), (0, 0));
    anew.open(&mut rig);
    assert_eq!(rig.counters().accepted, 2);
}
