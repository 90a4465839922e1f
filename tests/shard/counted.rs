//! What is counted of connections, as Linux' counters of the same meaning are.

use trust::services::echo::Echo;
use trust::shard::{ConnectOptions, Counters, DropReason};
use trust::tcp::Duration;
use trust::wire::PROTOCOL_ICMP;

use crate::door::{ANY, Heard, PORT, door, remote};
use crate::rig::{OURS, PEER, Peer, Rig, ip_packet};

fn echo() -> Rig {
    let mut rig = Rig::new();
    rig.shard.add_service(Some(7), Box::new(Echo));
    rig
}

#[test]
fn opens_of_either_side_and_what_came_of_them() {
    let (mut rig, door) = door();
    door.listen(&mut rig, ANY, PORT, 1).unwrap();
    door.connect(&mut rig, remote(), ConnectOptions::default()).unwrap();
    let syn = rig.next();
    assert_eq!((rig.counters().opens, rig.counters().connected), (1, 0));
    // Nobody answers: the SYN is repeated, and in the end that was it.
    rig.advance(Duration::from_millis(1_100));
    assert_eq!((rig.next().header.seq, rig.counters().syn_retransmits), (syn.header.seq, 1));
    rig.advance(Duration::from_secs(300));
    let counters = rig.counters();
    assert_eq!((counters.opens_failed, counters.timed_out, counters.established_resets), (1, 1, 0));
    let again = counters.syn_retransmits;
    assert_eq!(again, rig.sent.drain(..).count() as u64 + 1);
    // A peer that repeats its SYN is answered again; one that gives up before the end has opened nothing.
    let mut peer = Peer::new(4_000, PORT);
    rig.turn(&[peer.syn()]);
    assert_eq!(rig.counters().syn_retransmits, again);
    rig.turn(&[peer.syn()]);
    assert_eq!(rig.counters().syn_retransmits, again + 1);
    peer.seq += 1;
    peer.ack = rig.next().header.seq.wrapping_add(1);
    rig.turn(&[peer.rst()]);
    let counters = rig.counters();
    assert_eq!((counters.half_open_resets, counters.half_open, counters.accepted), (1, 0, 0));
}

/// ESTABLISHED and CLOSE-WAIT are counted as they are entered and left, in whichever way.
#[test]
fn established_ones_are_counted_until_they_are_closed_or_reset() {
    let counts = |rig: &mut Rig| {
        let Counters { established, fins_queued, established_resets, .. } = rig.counters();
        (established, fins_queued, established_resets)
    };
    let (mut rig, door) = door();
    door.listen(&mut rig, ANY, PORT, 1).unwrap();
    let mut peers: Vec<_> = (0..4).map(|index| rig.connect(4_000 + index, PORT)).collect();
    let conns: Vec<_> = door
        .heard()
        .iter()
        .filter_map(|heard| if let Heard::Accepted { conn, .. } = heard { Some(*conn) } else { None })
        .collect();
    assert_eq!((conns.len(), counts(&mut rig)), (4, (4, 0, 0)));
    // CLOSE-WAIT, and LAST-ACK.
    let fin = peers[0].fin();
    rig.turn(&[fin]);
    assert_eq!(counts(&mut rig), (4, 0, 0));
    let conn = conns[0];
    door.ask(&mut rig, move |io| io.close(conn));
    assert_eq!(counts(&mut rig), (3, 1, 0));
    // Half a close, and the other half: one.
    let conn = conns[1];
    door.ask(&mut rig, move |io| io.shutdown(conn));
    assert_eq!(counts(&mut rig), (2, 2, 0));
    door.ask(&mut rig, move |io| io.close(conn));
    assert_eq!(counts(&mut rig), (2, 2, 0));
    // Data for what nobody reads any more.
    peers[1].take(&mut rig);
    let data = peers[1].data(b"too late");
    rig.turn(&[data]);
    assert_eq!((counts(&mut rig), rig.counters().aborted_on_data), ((2, 2, 0), 1));
    rig.turn(&[peers[2].rst()]);
    assert_eq!(counts(&mut rig), (1, 2, 1));
    let conn = conns[3];
    door.ask(&mut rig, move |io| io.abort(conn));
    assert_eq!((counts(&mut rig), rig.counters().aborted_on_close), ((0, 2, 2), 0));
}

#[test]
fn a_close_with_something_unread_is_a_reset_and_counted_as_such() {
    use crate::rig::{Call, probe};
    let mut rig = Rig::new();
    let (service, _) = probe(|io, call| {
        if let Call::Readable(conn) = call {
            io.close(*conn);
        }
    });
    rig.shard.add_service(Some(7), service);
    let mut peer = rig.connect(4_000, 7);
    let data = peer.data(b"nobody reads this");
    rig.turn(&[data]);
    let counters = rig.counters();
    assert_eq!((counters.aborted_on_close, counters.established_resets, counters.established), (1, 1, 0));
    assert_eq!((counters.fins_queued, counters.aborted_on_data), (0, 0));
}

/// Whatever was lost, in whichever way it is found: as many wire segments as the connection counts itself.
#[test]
fn what_is_sent_again_is_counted_in_wire_segments_and_by_cause() {
    let mut rig = echo();
    let mut peer = rig.connect(4_000, 7);
    let data = peer.data(&[7; 1_000]);
    rig.turn(&[data]);
    rig.sent.clear();
    rig.advance(Duration::from_secs(2));
    let counters = rig.counters();
    assert!(counters.retransmission_timeouts > 0 && counters.segments_resent >= counters.retransmits);
    assert!(counters.segments_resent > 0 && counters.fast_retransmits == 0, "{counters:?}");
    assert_eq!(counters.syn_retransmits, 0);
}

/// InSegs of Linux: all that came to TCP, also what is no good there.
#[test]
fn packets_that_are_not_tcp_are_told_apart() {
    let mut rig = echo();
    let mut peer = rig.connect(4_000, 7);
    let before = rig.counters();
    assert_eq!((before.packets_in, before.packets_not_tcp), (2, 0));
    let mut broken = peer.data(b"hello");
    *broken.last_mut().unwrap() ^= 1;
    let stranger = Peer::new(9, 9).ack();
    let others = [ip_packet(PEER, OURS, 17, &[0; 20]), ip_packet(PEER, OURS, PROTOCOL_ICMP, &[9; 8]), vec![0x45; 10]];
    rig.turn(&[broken, stranger]);
    let counters = rig.counters();
    assert_eq!((counters.packets_in, counters.packets_not_tcp), (4, 0), "{counters:?}");
    assert_eq!((counters.dropped(DropReason::TCP_CHECKSUM), counters.resets_out), (1, 1));
    rig.turn(&others);
    assert_eq!((rig.counters().packets_in, rig.counters().packets_not_tcp), (7, 3));
    let mirrored = Peer { addr: OURS.into(), ..Peer::new(4_001, 7) };
    rig.turn(&[mirrored.syn()]);
    assert_eq!(rig.counters().packets_not_tcp, 4, "it never comes to TCP");
}

/// Of each once a second while segments come, and in the end; what is silent is passed by.
#[test]
fn round_trips_are_counted_while_segments_come_and_in_the_end() {
    let mut rig = echo();
    let mut peers: Vec<_> = (0..300).map(|index| rig.connect(4_000 + index, 7)).collect();
    let trips = |rig: &mut Rig| rig.counters().round_trips.iter().sum::<u64>();
    let walk = |rig: &mut Rig| {
        for _ in 0..4 {
            rig.shard.count_round_trips();
            rig.advance(Duration::from_millis(10));
        }
    };
    assert_eq!(trips(&mut rig), 0);
    walk(&mut rig);
    assert_eq!(trips(&mut rig), 300, "each had a round trip by its handshake");
    walk(&mut rig);
    assert_eq!(trips(&mut rig), 300, "not before a second has passed");
    // Since the walk began nothing has come but this.
    rig.advance(Duration::from_secs(1));
    let data = peers[3].data(b"hello");
    rig.turn(&[data]);
    walk(&mut rig);
    rig.advance(Duration::from_secs(1));
    walk(&mut rig);
    let now = trips(&mut rig);
    assert!((301..=302).contains(&now), "{now}");
    peers[4].take(&mut rig);
    rig.turn(&[peers[4].rst()]);
    assert_eq!(trips(&mut rig), now + 1);
    let counters = rig.counters();
    assert!(counters.round_trip_nanos < counters.round_trips.iter().sum::<u64>() * 100_000_000);
}
