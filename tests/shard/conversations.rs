//! One shard, packet by packet: how connections open, carry data and end, and what they leave behind.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use trust::flow::Endpoint;
use trust::services::chargen::Chargen;
use trust::services::discard::Discard;
use trust::services::echo::Echo;
use trust::shard::{DropReason, Io, Offload};
use trust::tcp::{BufferLimits, CloseReason, Config, Duration, State};
use trust::wire::options::{TcpOptions, Timestamps};
use trust::wire::tcp::Flags;

use crate::rig::{Call, OURS, PEER, Peer, Random, Rig, endings, probe};

const PORT: u16 = 7;

/// A rig with a probe on [`PORT`].
fn probed(act: impl FnMut(&mut dyn Io, &Call) + Send + 'static) -> (Rig, Arc<Mutex<Vec<Call>>>) {
    let mut rig = Rig::new();
    let (service, calls) = probe(act);
    rig.shard.add_service(Some(PORT), service);
    (rig, calls)
}

fn read_all(io: &mut dyn Io, call: &Call) {
    if let Call::Readable(conn) = call {
        io.consume(*conn, io.unread(*conn));
    }
}

/// As an application that reads to the end and then closes.
fn polite(io: &mut dyn Io, call: &Call) {
    read_all(io, call);
    if let Call::Readable(conn) = call
        && io.at_eof(*conn)
    {
        io.close(*conn);
    }
}

/// IP-16.
#[test]
fn handshake_then_echo_then_half_close_byte_exact() {
    let mut rig = Rig::new();
    rig.shard.add_service(Some(PORT), Box::new(Echo));
    let mut peer = rig.connect(40_000, PORT);
    assert_eq!(rig.counters().accepted, 1);
    assert_eq!(rig.counters().half_open, 0);
    let mut sent = Vec::new();
    for round in 0..50u8 {
        let octets = vec![round; 1 + usize::from(round) * 29];
        let packet = peer.data(&octets);
        sent.extend(octets);
        rig.turn(&[packet]);
        peer.take(&mut rig);
        rig.turn(&[peer.ack()]);
        peer.take(&mut rig);
    }
    let fin = peer.fin();
    rig.turn(&[fin]);
    peer.take(&mut rig);
    assert_eq!(peer.got, sent);
    assert!(peer.got_fin);
    rig.turn(&[peer.ack()]);
    assert_eq!(rig.shard.connections().count(), 0, "LAST-ACK ends with the ACK of our FIN");
    rig.assert_empty();
    assert_eq!(rig.counters().closed, 1);
}

/// SM-FW1-3.
#[test]
fn data_flows_towards_a_peer_that_has_half_closed() {
    let (mut rig, calls) = probed(|io, call| {
        if let Call::Readable(conn) = call {
            io.consume(*conn, io.unread(*conn));
            if io.at_eof(*conn) {
                io.send(*conn, &[9; 20_000]);
                io.shutdown(*conn);
            }
        }
    });
    let mut peer = rig.connect(40_000, PORT);
    let fin = peer.fin();
    rig.turn(&[fin]);
    for _ in 0..20 {
        peer.take(&mut rig);
        rig.turn(&[peer.ack()]);
    }
    assert_eq!(peer.got, vec![9; 20_000]);
    assert!(peer.got_fin);
    assert_eq!(endings(&calls), [CloseReason::Normal]);
    rig.assert_empty();
}

/// SHLD-3.
#[test]
fn closing_with_unread_data_resets() {
    let (mut rig, calls) = probed(|io, call| {
        if let Call::Timer(_) = call {
            unreachable!();
        }
        if let Call::Readable(conn) = call
            && io.unread(*conn) >= 200
        {
            io.close(*conn);
        }
    });
    let mut peer = rig.connect(40_000, PORT);
    for _ in 0..2 {
        let data = peer.data(&[1; 100]);
        rig.turn(&[data]);
    }
    peer.take(&mut rig);
    assert!(peer.got_reset);
    assert_eq!(endings(&calls), [CloseReason::Aborted]);
    rig.assert_empty();
}

/// KP-16: data for a closed reader resets, also when some of it had been held behind a gap before the close.
#[test]
fn closing_with_data_behind_a_gap_gives_it_up() {
    let (mut rig, calls) = probed(|io, call| {
        if let Call::Readable(conn) = call {
            io.consume(*conn, io.unread(*conn));
            io.close(*conn);
        }
    });
    let mut peer = rig.connect(40_000, PORT);
    let behind = peer.packet_at(1_000, Flags::ACK, &[2; 500]);
    let first = peer.data(&[1; 100]);
    rig.turn(&[behind, first]);
    assert_eq!(rig.counters().held_octets, 0, "given up with the close");
    let gap = peer.data(&[1; 900]);
    rig.turn(&[gap]);
    peer.take(&mut rig);
    assert!(peer.got_reset);
    assert_eq!(endings(&calls), [CloseReason::Aborted]);
    rig.assert_empty();
}

/// Every way to end: `closed` comes once, last, with the right reason, and nothing is left behind. SM-EST-3.
#[test]
fn every_ending_is_told_once_and_leaves_nothing() {
    type Ending = (&'static str, fn(&mut dyn Io, &Call), fn(&mut Rig, &mut Peer), CloseReason);
    fn on_accept_close(io: &mut dyn Io, call: &Call) {
        if let Call::Accepted(conn) = call {
            io.send(*conn, b"bye");
            io.close(*conn);
            io.close(*conn);
        }
    }
    fn on_accept_abort(io: &mut dyn Io, call: &Call) {
        if let Call::Accepted(conn) = call {
            io.send(*conn, b"bye");
            io.abort(*conn);
            io.abort(*conn);
            io.close(*conn);
            assert_eq!(io.send(*conn, b"?"), 0);
        }
    }
    fn abort_on_read(io: &mut dyn Io, call: &Call) {
        if let Call::Readable(conn) = call {
            io.abort(*conn);
            io.consume(*conn, 1);
        }
    }
    fn closed_is_harmless(io: &mut dyn Io, call: &Call) {
        polite(io, call);
        if let Call::Closed(conn, _) = call {
            io.close(*conn);
            io.abort(*conn);
            io.shutdown(*conn);
            io.consume(*conn, 7);
            assert_eq!((io.send(*conn, b"x"), io.unread(*conn), io.forward(*conn, *conn)), (0, 0, 0));
            let octets = Bytes::from_static(&[7; 5_000]);
            assert_eq!(io.send_bytes(*conn, octets.clone()), Err(octets));
            assert_eq!(io.quad(*conn).remote.port, 40_000);
        }
    }
    fn fill(io: &mut dyn Io, call: &Call) {
        polite(io, call);
        if let Call::Accepted(conn) | Call::Writable(conn) = call {
            while io.send(*conn, &[5; 4_096]) > 0 {}
        }
    }
    fn fin_and_ack(rig: &mut Rig, peer: &mut Peer) {
        peer.take(rig);
        let fin = peer.fin();
        rig.turn(&[fin]);
        peer.take(rig);
        rig.turn(&[peer.ack()]);
    }
    fn data_and_fin(rig: &mut Rig, peer: &mut Peer) {
        let data = peer.data(b"hello");
        rig.turn(&[data]);
        fin_and_ack(rig, peer);
    }
    fn reset(rig: &mut Rig, peer: &mut Peer) {
        let data = peer.data(b"hello");
        rig.turn(&[data, peer.rst()]);
    }
    fn vanish(rig: &mut Rig, _: &mut Peer) {
        rig.advance(Duration::from_secs(3_600));
    }
    let endings_to_try: [Ending; 9] = [
        ("peer closes first", polite, data_and_fin, CloseReason::Normal),
        ("we close first", on_accept_close, fin_and_ack, CloseReason::Normal),
        ("we abort at once", on_accept_abort, |_, _| {}, CloseReason::Aborted),
        (
            "we abort while reading",
            abort_on_read,
            |rig, peer| {
                let data = peer.data(b"hello");
                rig.turn(&[data]);
            },
            CloseReason::Aborted,
        ),
        ("reset by the peer", polite, reset, CloseReason::Reset),
        ("reset while much is queued", fill, reset, CloseReason::Reset),
        ("calls inside closed do nothing", closed_is_harmless, data_and_fin, CloseReason::Normal),
        ("the peer vanishes while much is queued", fill, vanish, CloseReason::TimedOut),
        ("the peer vanishes after our close", on_accept_close, vanish, CloseReason::TimedOut),
    ];
    for (name, act, play, reason) in endings_to_try {
        let (mut rig, calls) = probed(act);
        let mut peer = rig.connect(40_000, PORT);
        play(&mut rig, &mut peer);
        rig.settle();
        assert_eq!(endings(&calls), [reason], "{name}");
        assert!(matches!(calls.lock().unwrap().last(), Some(Call::Closed(..))), "{name}: closed comes last");
        rig.assert_empty();
    }
}

/// SM-SR-2: nobody hears of a connection that never was established.
#[test]
fn half_open_connections_go_silently() {
    let (mut rig, calls) = probed(|_, _| {});
    let peer = Peer::new(40_000, PORT);
    rig.turn(&[peer.syn()]);
    assert_eq!((rig.counters().half_open, rig.counters().connections), (1, 1));
    rig.advance(Duration::from_secs(600));
    assert!(calls.lock().unwrap().is_empty());
    rig.assert_empty();

    let mut peer = Peer::new(40_001, PORT);
    rig.turn(&[peer.syn()]);
    peer.seq += 1;
    rig.turn(&[peer.rst()]);
    assert!(calls.lock().unwrap().is_empty());
    rig.assert_empty();
}

/// MUST-44, MUST-45.
#[test]
fn active_open_refused_and_answered() {
    for refuse in [false, true] {
        let mut rig = Rig::new();
        let (service, calls) = probe(|io, call| {
            polite(io, call);
            if let Call::Accepted(conn) = call {
                io.send(*conn, b"GET");
                io.shutdown(*conn);
            }
        });
        let index = rig.shard.add_service(None, service);
        rig.begin();
        assert!(rig.shard.connect(index, Endpoint::new(IpAddr::V4(PEER), 80)).is_some());
        assert!(rig.shard.connect(index, Endpoint::new("::1".parse().unwrap(), 80)).is_none(), "no such address");
        assert_eq!(endings(&calls), [CloseReason::LocalClose], "an open that cannot begin is heard of, too");
        rig.finish();
        let syn = rig.next();
        assert!(syn.has(Flags::SYN) && !syn.has(Flags::ACK));
        let mut peer = Peer::new(80, syn.header.src_port);
        peer.ack = syn.header.seq.wrapping_add(1);
        if refuse {
            rig.turn(&[peer.packet_at(0, Flags::RST | Flags::ACK, &[])]);
            assert_eq!(endings(&calls), [CloseReason::LocalClose, CloseReason::Refused]);
        } else {
            let syn_ack = peer.packet(Flags::SYN | Flags::ACK, &[]);
            rig.turn(&[syn_ack]);
            peer.take(&mut rig);
            assert_eq!((&peer.got[..], peer.got_fin), (&b"GET"[..], true));
            let fin = peer.fin();
            rig.turn(&[fin]);
            assert_eq!(endings(&calls), [CloseReason::LocalClose, CloseReason::Normal]);
            assert_eq!(rig.counters().time_wait, 1);
        }
        rig.assert_empty();
    }
}

/// RFC 6191: a listener takes the quad over from TIME-WAIT when the SYN is provably newer.
#[test]
fn a_newer_syn_takes_a_quad_over_from_time_wait() {
    let (mut rig, calls) = probed(|io, call| {
        if let Call::Accepted(conn) = call {
            io.close(*conn);
        }
    });
    let stamps =
        |val| TcpOptions { timestamps: Some(Timestamps { val, ecr: 0 }), mss: Some(1_460), ..TcpOptions::default() };
    let mut peer = Peer { syn_options: stamps(100), ..Peer::new(40_000, PORT) };
    peer.open(&mut rig);
    peer.take(&mut rig);
    assert!(peer.got_fin);
    let fin = peer.fin();
    rig.turn(&[fin]);
    assert_eq!((rig.counters().time_wait, rig.counters().connections), (1, 0));
    let last = peer.ack;
    rig.sent.clear();

    // The old connection's own SYN once more is not answered, another one that is not newer with an ACK (SM-TW-5c).
    let old = Peer { syn_options: stamps(100), ..Peer::new(40_000, PORT) };
    rig.turn(&[old.syn()]);
    assert!(rig.sent.is_empty());
    assert_eq!(rig.dropped(DropReason::TimeWait), 1);
    let other = Peer { syn_options: stamps(50), seq: peer.seq.wrapping_sub(70_000), ..Peer::new(40_000, PORT) };
    rig.turn(&[other.syn()]);
    assert_eq!(rig.next().header.flags, Flags::ACK);
    assert_eq!(rig.counters().time_wait, 1);

    rig.now += Duration::from_millis(10);
    let mut new = Peer { syn_options: stamps(200), seq: 5, ..Peer::new(40_000, PORT) };
    new.open(&mut rig);
    assert!((new.ack.wrapping_sub(last) as i32) > 0, "SM-TW-5f: the new ISS is above the old sequence space");
    assert_eq!(rig.counters().time_wait_reused, 1);
    assert_eq!(calls.lock().unwrap().iter().filter(|call| matches!(call, Call::Accepted(_))).count(), 2);
    new.take(&mut rig);
    let fin = new.fin();
    rig.turn(&[fin]);
    rig.advance(Duration::from_secs(61));
    assert_eq!(rig.counters().time_wait, 0);
    rig.assert_empty();
}

/// A SYN that may take a quad over but finds no room does not cost the old connection its TIME-WAIT: until somebody takes
/// over, a late FIN is still answered and old segments still find the record.
#[test]
fn a_newer_syn_that_finds_no_room_leaves_time_wait_alone() {
    for limit in ["half_open", "connections"] {
        let mut rig = Rig::with(
            |config| match limit {
                "half_open" => config.limits.half_open = 1,
                _ => config.limits.connections = 1,
            },
            256,
            1_024,
        );
        let (service, _) = probe(|io, call| {
            if let Call::Accepted(conn) = call {
                io.close(*conn);
            }
        });
        rig.shard.add_service(Some(PORT), service);
        let mut peer = rig.connect(40_000, PORT);
        peer.take(&mut rig);
        let fin = peer.fin();
        rig.turn(std::slice::from_ref(&fin));
        assert_eq!(rig.counters().time_wait, 1, "{limit}");
        rig.turn(&[Peer::new(40_001, PORT).syn()]);
        rig.sent.clear();
        let new = Peer { seq: peer.seq.wrapping_add(100_000), ..Peer::new(40_000, PORT) };
        rig.turn(&[new.syn()]);
        assert_eq!((rig.counters().time_wait, rig.counters().time_wait_reused), (1, 0), "{limit}");
        rig.sent.clear();
        rig.turn(&[fin]);
        let answer = rig.next();
        assert_eq!((answer.header.flags, answer.header.ack), (Flags::ACK, peer.seq), "{limit}");
    }
}

/// What was received before an orderly end stays readable after it; `closed` waits for the reader.
#[test]
fn the_rest_can_be_read_after_time_wait_has_begun() {
    let (mut rig, calls) = probed(|io, call| match call {
        Call::Accepted(conn) => {
            io.set_user(*conn, u64::from(conn.slot));
            io.shutdown(*conn);
            io.set_timer(io.now() + Duration::from_secs(5), u64::from(conn.generation) << 32 | u64::from(conn.slot));
        }
        Call::Timer(token) => {
            let conn = trust::shard::ConnId { slot: *token as u32, generation: (*token >> 32) as u32 };
            assert_eq!(io.unread(conn), 300);
            assert!(!io.at_eof(conn));
            assert_eq!(io.peek(conn)[0], 1);
            io.consume(conn, 100);
            assert_eq!(io.peek(conn)[0], 2);
            io.consume(conn, 500);
            assert!(io.at_eof(conn));
        }
        _ => {}
    });
    let mut peer = rig.connect(40_000, PORT);
    peer.take(&mut rig);
    let (first, second) = (peer.data(&[1; 100]), peer.data(&[2; 200]));
    let fin = peer.fin();
    rig.turn(&[first, second, fin]);
    let counters = rig.counters();
    assert_eq!((counters.time_wait, counters.connections), (1, 1));
    assert_eq!(rig.shard.connections().count(), 0, "the protocol is over");
    assert!(endings(&calls).is_empty());
    rig.advance(Duration::from_secs(6));
    assert_eq!(endings(&calls), [CloseReason::Normal]);
    rig.assert_empty();
}

/// A shard remembers the connection of the last segment. When the protocol has ended, what comes next is for TIME-WAIT,
/// although the record is still there with an unread rest.
#[test]
fn a_repeated_fin_finds_time_wait_and_not_the_unread_rest() {
    let (mut rig, _calls) = probed(|io, call| {
        if let Call::Accepted(conn) = call {
            io.shutdown(*conn);
        }
    });
    let mut peer = rig.connect(40_000, PORT);
    peer.take(&mut rig);
    let data = peer.data(&[1; 100]);
    let fin = peer.fin();
    rig.turn(&[data, fin.clone()]);
    assert_eq!((rig.counters().time_wait, rig.counters().connections), (1, 1));
    rig.sent.clear();
    rig.turn(&[fin]);
    let answer = rig.next();
    assert_eq!((answer.header.flags, answer.header.ack), (Flags::ACK, peer.seq), "SM-TW-1");
}

/// A chunk outlives its connection until the tx stage is done with it, and not a moment longer.
#[test]
fn chunks_come_back_with_the_last_completion() {
    let (mut rig, calls) = probed(|io, call| {
        if let Call::Accepted(conn) = call {
            while io.send(*conn, &[5; 65_536]) > 0 {}
        }
    });
    rig.hold_completions = true;
    let peer = rig.connect(40_000, PORT);
    assert!(!rig.completions.is_empty());
    let queued = rig.counters().send_chunks;
    assert!(queued >= 4, "{queued} chunks");
    rig.turn(&[peer.rst()]);
    assert_eq!(endings(&calls), [CloseReason::Reset]);
    let counters = rig.counters();
    assert_eq!(counters.connections, 0);
    assert!(counters.send_chunks > 0, "the tx stage may still read them");
    assert!(rig.shard.awaits_completions());
    // The slot is used again meanwhile: the old completions must not be taken for the new connection's.
    let mut next = rig.connect(40_001, PORT);
    rig.hold_completions = false;
    rig.turn(&[next.ack()]);
    next.take(&mut rig);
    rig.turn(&[next.rst()]);
    rig.assert_empty();
}

/// The share of one connection in the tx ring is bounded, and a completion of another connection does not make the shard
/// forget that it waits.
#[test]
fn a_connection_that_fills_its_share_of_the_ring_waits_for_its_own_completions() {
    let mut rig = Rig::with(|config| config.limits.in_ring = 3_000, 256, 1_024);
    let (service, _) = probe(|io, call| {
        if let Call::Accepted(conn) = call {
            io.send(*conn, &[5; 30_000]);
        }
    });
    rig.shard.add_service(Some(PORT), service);
    rig.hold_completions = true;
    let _a = rig.connect(40_000, PORT);
    assert!(rig.shard.waits_for_tx());
    let firsts = std::mem::take(&mut rig.completions);
    let _b = rig.connect(40_001, PORT);
    // Only b's come back: a still waits.
    rig.hold_completions = false;
    rig.stop_tx = true;
    rig.turn(&[]);
    rig.stop_tx = false;
    assert!(rig.shard.waits_for_tx());
    rig.completions.extend(firsts);
    rig.settle();
    assert!(!rig.shard.waits_for_tx());
    rig.advance(Duration::from_secs(3_600));
    rig.assert_empty();
}

/// A full ring delays, loses nothing and never strands a lease.
#[test]
fn a_full_tx_ring_loses_nothing() {
    let mut rig = Rig::with(|_| {}, 256, 64);
    rig.shard.add_service(Some(19), Box::new(Chargen));
    rig.shard.add_service(Some(PORT), Box::new(Echo));
    let mut peers: Vec<Peer> = (0..20).map(|i| rig.connect(40_000 + i, if i % 2 == 0 { 19 } else { PORT })).collect();
    rig.stop_tx = true;
    for peer in &mut peers {
        peer.take(&mut rig);
        let data = peer.data(&[3; 1_000]);
        rig.turn(&[data]);
    }
    assert!(rig.shard.has_work());
    rig.stop_tx = false;
    rig.drain_tx();
    assert!(rig.shard.can_transmit());
    for _ in 0..200 {
        rig.turn(&[]);
        for peer in &mut peers {
            peer.take(&mut rig);
            let ack = peer.ack();
            rig.turn(&[ack]);
        }
    }
    for (i, peer) in peers.iter().enumerate() {
        if i % 2 == 0 {
            assert!(peer.got.len() > 100_000, "chargen {i}: {}", peer.got.len());
        } else {
            assert_eq!(peer.got, [3; 1_000], "echo {i}");
        }
    }
    let resets: Vec<_> = peers.iter().map(Peer::rst).collect();
    rig.turn(&resets);
    rig.assert_empty();
}

/// A peer that acknowledges octet by octet must not cut what we have queued into frames without end.
#[test]
fn split_acknowledgments_do_not_shred_the_send_store() {
    let mut rig = Rig::with(|config| config.offload = Offload { checksum: true, tso4: true, tso6: true }, 256, 1_024);
    rig.shard.add_service(Some(19), Box::new(Chargen));
    let mut peer = rig.connect(40_000, 19);
    let mut random = Random(7);
    for round in 0..1_500 {
        let before = peer.ack;
        peer.take(&mut rig);
        let arrived = peer.ack.wrapping_sub(before);
        if round % 40 == 0 || arrived == 0 {
            rig.turn(&[peer.ack()]);
            continue;
        }
        // Single octets, one by one, of what has arrived.
        peer.ack = before;
        for _ in 0..random.below(6) {
            peer.ack = peer.ack.wrapping_add(1);
            let before = rig.frames_out;
            rig.turn(&[peer.ack()]);
            let frames = rig.frames_out - before;
            assert!(frames <= 64, "{frames} frames in one turn");
        }
        peer.ack = before.wrapping_add(arrived);
    }
    rig.turn(&[peer.rst()]);
    rig.assert_empty();
}

/// Few octets take little memory: none of many peers that acknowledge nothing keeps another one waiting.
#[test]
fn many_that_hold_an_octet_each_leave_memory_for_others() {
    let mut rig = Rig::with(|_| {}, 64, 1_024);
    rig.shard.add_service(Some(PORT), Box::new(Echo));
    for port in 0..300 {
        let mut peer = rig.connect(40_000 + port, PORT);
        let data = peer.data(b"x");
        rig.turn(&[data]);
        peer.take(&mut rig);
        assert_eq!(peer.got, b"x", "of the peer {port}");
    }
    let counters = rig.counters();
    assert_eq!((counters.send_octets, counters.send_chunks), (300 * 256, 2));
    let mut honest = rig.connect(50_000, PORT);
    let data = honest.data(&[1; 1_000]);
    rig.turn(&[data]);
    honest.take(&mut rig);
    assert_eq!(honest.got.len(), 1_000);
}

/// A connection that finds no send memory is served when another one gives some back, though nothing of its own is to
/// be acknowledged.
#[test]
fn connections_starved_of_send_memory_are_served_later() {
    let mut rig = Rig::with(|_| {}, 1, 1_024);
    rig.shard.add_service(Some(PORT), Box::new(Echo));
    let mut peers: Vec<Peer> = (0..300).map(|i| rig.connect(40_000 + i, PORT)).collect();
    for peer in &mut peers {
        let data = peer.data(b"hello");
        rig.turn(&[data]);
    }
    let queued = rig.counters().send_octets;
    assert_eq!(queued, 65_536, "not for all");
    let served = |peers: &[Peer]| peers.iter().filter(|peer| peer.got == b"hello").count();
    for _ in 0..40 {
        for peer in &mut peers {
            let before = peer.ack;
            peer.take(&mut rig);
            if peer.ack != before {
                rig.turn(&[peer.ack()]);
            }
        }
    }
    assert_eq!(served(&peers), 300);
    let resets: Vec<_> = peers.iter().map(Peer::rst).collect();
    rig.turn(&resets);
    rig.assert_empty();
}

/// Small payloads leave the packet they came in; large ones stay, up to a limit.
#[test]
fn unread_payload_pins_few_packets() {
    let mut rig = Rig::with(|config| config.limits.held_packets = 3, 256, 1_024);
    let (service, _) = probe(|_, _| {});
    rig.shard.add_service(Some(PORT), service);
    let mut peer = rig.connect(40_000, PORT);
    let small = peer.data(&[1; 100]);
    rig.turn(&[small]);
    assert_eq!((rig.counters().held_packets, rig.buffers_out()), (0, 0), "copied");
    assert!(rig.counters().held_octets >= 100);
    for held in 1..=5 {
        let large = peer.data(&[2; 8_000]);
        rig.turn(&[large]);
        assert_eq!(rig.counters().held_packets, held.min(3 - 1) as u64);
    }
    // Behind a gap the same holds.
    for i in 0..5u32 {
        rig.turn(&[peer.packet_at(1_000 + i * 9_000, Flags::ACK, &[3; 8_000])]);
    }
    let counters = rig.counters();
    assert!(counters.held_packets <= 3 && rig.buffers_out() <= 3, "{counters:?}");
    rig.turn(&[peer.rst()]);
    rig.assert_empty();
}

/// Single octets cost their peer more than an octet of our limit each.
#[test]
fn single_octets_are_charged_for_what_they_cost() {
    let (mut rig, _) = probed(|_, _| {});
    let mut peer = rig.connect(40_000, PORT);
    for _ in 0..100 {
        let data = peer.data(b"x");
        rig.turn(&[data]);
    }
    assert!(rig.counters().held_octets >= 100 * 48);
    rig.turn(&[peer.rst()]);
    rig.assert_empty();
}

#[test]
fn a_service_timer_set_at_once_waits_for_the_next_turn() {
    let (mut rig, calls) = probed(|io, call| {
        if let Call::Accepted(_) | Call::Timer(_) = call {
            io.set_timer(io.now(), 1);
        }
    });
    let _peer = rig.connect(40_000, PORT);
    let before = calls.lock().unwrap().len();
    rig.turn(&[]);
    rig.turn(&[]);
    let after = calls.lock().unwrap().len();
    assert!((1..=2).contains(&(after - before)), "{}", after - before);
}

/// No callback but `closed` after a close, even when the same segment would make room.
#[test]
fn nothing_but_closed_follows_a_close() {
    let (mut rig, calls) = probed(|io, call| match call {
        Call::Accepted(conn) => while io.send(*conn, &[1; 65_536]) > 0 {},
        Call::Readable(conn) => {
            io.consume(*conn, io.unread(*conn));
            io.close(*conn);
        }
        Call::Writable(_) => panic!("writable after close"),
        _ => {}
    });
    let mut peer = rig.connect(40_000, PORT);
    peer.take(&mut rig);
    let data = peer.data(b"x");
    rig.turn(&[data]);
    for _ in 0..2_000 {
        let before = peer.ack;
        peer.take(&mut rig);
        if peer.got_fin {
            break;
        }
        rig.now += Duration::from_millis(u64::from(peer.ack == before));
        rig.turn(&[peer.ack()]);
    }
    assert!(peer.got_fin, "what was queued before the close still goes out");
    let fin = peer.fin();
    rig.turn(&[fin]);
    assert_eq!(endings(&calls), [CloseReason::Normal]);
    rig.assert_empty();
}

/// Segments of all kinds in any order: the stream comes out whole.
#[test]
fn shuffled_overlapping_segments_come_out_in_order() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let got = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&got);
        let (mut rig, _) = probed(move |io, call| {
            if let Call::Readable(conn) = call {
                while io.unread(*conn) > 0 {
                    let run = io.peek(*conn).to_vec();
                    sink.lock().unwrap().extend_from_slice(&run);
                    io.consume(*conn, run.len() as u32);
                }
            }
        });
        let peer = rig.connect(40_000, PORT);
        let stream: Vec<u8> = (0..60_000).map(|_| random.next() as u8).collect();
        let mut done = 0usize;
        while done < stream.len() {
            let start = (done + random.below(20_000)).saturating_sub(random.below(6_000));
            let start = if random.below(4) == 0 { done } else { start.min(stream.len() - 1) };
            let end = (start + 1 + random.below(1_460)).min(stream.len());
            rig.turn(&[peer.packet_at(start as u32, Flags::ACK, &stream[start..end])]);
            done = got.lock().unwrap().len();
        }
        assert_eq!(*got.lock().unwrap(), stream, "seed {seed}");
        assert_eq!(rig.counters().held_packets, 0);
        let mut peer = peer;
        peer.seq = peer.seq.wrapping_add(stream.len() as u32);
        rig.turn(&[peer.rst()]);
        rig.assert_empty();
    }
}

#[test]
fn a_port_nobody_listens_on_answers_with_a_reset() {
    let (mut rig, _) = probed(|_, _| {});
    let peer = Peer::new(40_000, 99);
    rig.turn(&[peer.syn()]);
    let reset = rig.next();
    assert!(reset.has(Flags::RST | Flags::ACK));
    assert_eq!(reset.header.ack, peer.seq.wrapping_add(1));
    assert_eq!(rig.counters().resets_out, 1);
    rig.assert_empty();
}

#[test]
fn states_are_reported() {
    let mut rig = Rig::with(
        |config| {
            config.tcp = Config { recv_buffer: BufferLimits { initial: 65_536, max: 65_536 }, ..Config::default() }
        },
        16,
        256,
    );
    rig.shard.add_service(Some(9), Box::new(Discard));
    let peer = rig.connect(40_000, 9);
    let states: Vec<_> = rig.shard.connections().map(|(_, quad, state)| (quad.local.addr, state)).collect();
    assert_eq!(states, [(IpAddr::V4(OURS), State::Established)]);
    rig.turn(&[peer.rst()]);
    rig.assert_empty();
}
