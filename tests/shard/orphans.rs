//! What becomes of connections that their service has left: bounds in number, in time and in memory (OPS-22).

use std::sync::{Arc, Mutex};

use trust::shard::{Io, ShardConfig};
use trust::tcp::{CloseReason, CongestionControl, Duration, KeepAlive, State};

use crate::rig::{Call, Peer, Rig, endings, probe};

const PORT: u16 = 7;
/// Octets of an answer: it fits the smallest block of send memory, of which a chunk has 256.
const ANSWER: usize = 200;

fn probed(
    tweak: impl FnOnce(&mut ShardConfig),
    chunks: u32,
    act: impl FnMut(&mut dyn Io, &Call) + Send + 'static,
) -> (Rig, Arc<Mutex<Vec<Call>>>) {
    let mut rig = Rig::with(tweak, chunks, 1_024);
    let (service, calls) = probe(act);
    rig.shard.add_service(Some(PORT), service);
    (rig, calls)
}

/// As a service that answers and leaves. The user's word says how much of the answer is queued.
fn say_and_close(io: &mut dyn Io, call: &Call) {
    if let Call::Accepted(conn) | Call::Writable(conn) = call {
        let said = io.user(*conn) + io.send(*conn, &[5; ANSWER][io.user(*conn) as usize..]) as u64;
        io.set_user(*conn, said);
        if said == ANSWER as u64 {
            io.close(*conn);
        }
    }
}

fn close_at_once(io: &mut dyn Io, call: &Call) {
    if let Call::Accepted(conn) = call {
        io.close(*conn);
    }
}

#[test]
fn ops_22_the_oldest_orphan_goes_when_there_are_too_many() {
    let (mut rig, calls) = probed(|config| config.limits.orphans = 3, 256, say_and_close);
    let mut peers: Vec<_> = (0..5).map(|place| rig.connect(40_000 + place, PORT)).collect();
    for (place, peer) in peers.iter_mut().enumerate() {
        peer.take(&mut rig);
        assert_eq!(peer.got_reset, place < 2, "peer {place}");
    }
    let counters = rig.counters();
    assert_eq!((counters.orphans, counters.orphans_over_limit, counters.orphans_out_of_memory), (3, 2, 0));
    assert_eq!(endings(&calls), [CloseReason::Aborted; 2]);
    // The others end as they should.
    for peer in &mut peers[2..] {
        assert_eq!((peer.got.len(), peer.got_fin), (ANSWER, true));
        let fin = peer.fin();
        rig.turn(&[fin]);
    }
    assert_eq!(rig.counters().orphans, 0);
    rig.advance(Duration::from_secs(61));
    rig.assert_empty();
}

/// Who has said everything is no orphan: FIN-WAIT-2 does not count, nor does anything that has ended.
#[test]
fn ops_22_only_what_is_unacknowledged_counts() {
    let (mut rig, _) = probed(|config| config.limits.orphans = 1, 256, close_at_once);
    for place in 0..200 {
        let mut peer = rig.connect(40_000 + place, PORT);
        peer.take(&mut rig);
        assert_eq!(rig.counters().orphans, 1);
        match place % 3 {
            0 => rig.turn(&[peer.ack()]),
            1 => {
                let fin = peer.fin();
                rig.turn(&[fin]);
            }
            _ => rig.turn(&[peer.rst()]),
        }
        assert_eq!(rig.counters().orphans, 0, "{place}");
    }
    assert_eq!(rig.counters().orphans_over_limit, 0);
    assert!(rig.shard.connections().all(|(_, _, state)| state == State::FinWait2));
    rig.advance(Duration::from_secs(61));
    rig.assert_empty();
}

/// Many short connections whose octets nobody acknowledges hold all send memory until somebody needs it.
#[test]
fn ops_22_orphans_give_way_to_those_who_need_memory() {
    // One chunk: 256 answers.
    let (mut rig, _) = probed(|_| {}, 1, say_and_close);
    let mut peers: Vec<_> = (0..800).map(|place| rig.connect(40_000 + place, PORT)).collect();
    rig.settle();
    assert_eq!(rig.counters().orphans_out_of_memory, 0, "each may be about to acknowledge");
    // Four times the memory, and a second each time.
    rig.advance(Duration::from_secs(4));
    let served = peers.iter_mut().filter_map(|peer| {
        peer.take(&mut rig);
        (peer.got.len() == ANSWER).then_some(())
    });
    assert_eq!(served.count(), 800, "each got its answer");
    let counters = rig.counters();
    assert!((544..=700).contains(&counters.orphans_out_of_memory), "{}", counters.orphans_out_of_memory);
    assert_eq!(counters.orphans + counters.orphans_out_of_memory, 800);
    rig.advance(Duration::from_secs(200));
    rig.assert_empty();
}

/// What was said before the close arrives as long as the peer takes it, however scarce memory is, and although this orphan
/// is the oldest. But not for ever: an octet at a time is too slow.
#[test]
fn ops_22_an_orphan_that_gets_on_gives_way_last() {
    let (mut rig, _) = probed(|_| {}, 1, say_and_close);
    let mut slow = rig.connect(40_000, PORT);
    slow.take(&mut rig);
    assert!(slow.got_fin);
    let first = slow.ack.wrapping_sub(ANSWER as u32 + 1);
    let (left, mut port) = (rig.now, 40_001);
    while !slow.got_reset {
        for _ in 0..280 {
            rig.connect(port, PORT);
            port += 1;
        }
        slow.ack = first + (port - 40_000) as u32 / 70;
        rig.turn(&[slow.ack()]);
        rig.advance(Duration::from_millis(900));
        slow.take(&mut rig);
        assert!(rig.now - left < Duration::from_secs(30));
    }
    assert!(rig.now - left >= Duration::from_secs(20), "{}", rig.now - left);
    let gave_way = rig.counters().orphans_out_of_memory;
    assert!(gave_way > 1_000, "the others, whose peers were silent: {gave_way}");
}

/// It has waited for memory before it was left; now nobody does, so there is nobody to make way for.
#[test]
fn ops_22_an_orphan_does_not_make_way_for_itself() {
    let (mut rig, calls) = probed(
        |_| {},
        1,
        |io, call| {
            if let Call::Accepted(conn) = call {
                assert!(io.send(*conn, &[5; 20_000]) < 20_000, "there is too little memory");
                io.close(*conn);
            }
        },
    );
    let mut peer = rig.connect(40_000, PORT);
    rig.settle();
    peer.take(&mut rig);
    assert!(!peer.got_reset && rig.counters().orphans_out_of_memory == 0);
    assert!(peer.got.len() > 1_000 && peer.got_fin);
    let fin = peer.fin();
    rig.turn(&[fin]);
    assert_eq!(endings(&calls), [CloseReason::Normal]);
    rig.advance(Duration::from_secs(61));
    rig.assert_empty();
}

/// A peer that answers every probe but never opens its window.
#[test]
fn ops_22_a_stalled_reader_does_not_hold_memory_for_ever() {
    let (mut rig, calls) = probed(|_| {}, 256, say_and_close);
    let mut peer = Peer { window: 0, ..Peer::new(40_000, PORT) };
    peer.open(&mut rig);
    let start = rig.now;
    while rig.counters().connections > 0 {
        assert!(rig.now - start < Duration::from_secs(150));
        rig.advance(Duration::from_millis(500));
        peer.take(&mut rig);
        if !peer.got_reset {
            rig.turn(&[peer.ack()]);
        }
    }
    assert!(rig.now - start >= Duration::from_secs(100));
    assert!(peer.got_reset, "it is told");
    assert_eq!(endings(&calls), [CloseReason::TimedOut]);
    rig.assert_empty();
}

/// The switches of `Io` reach the connection.
#[test]
fn must_24_must_21_services_set_keep_alive_and_user_timeout() {
    let (mut rig, calls) = probed(
        |_| {},
        256,
        |io, call| {
            if let Call::Accepted(conn) = call {
                let (idle, interval) = (Duration::from_secs(10), Duration::from_secs(1));
                io.set_keepalive(*conn, Some(KeepAlive { idle, interval, count: 2 }));
                io.set_user_timeout(*conn, Some(Duration::from_secs(5)));
                io.set_congestion(*conn, CongestionControl::Reno);
                assert_eq!(io.info(*conn).unwrap().congestion, CongestionControl::Reno);
            } else if let Call::Readable(conn) = call {
                io.send(*conn, b"answer");
            }
        },
    );
    let mut silent = rig.connect(40_000, PORT);
    let mut asking = rig.connect(40_001, PORT);
    let question = asking.data(b"?");
    rig.turn(&[question]);
    rig.advance(Duration::from_secs(6));
    assert_eq!(endings(&calls), [CloseReason::UserTimeout], "no ACK of the answer");
    rig.advance(Duration::from_secs(7));
    silent.take(&mut rig);
    assert!(silent.got_reset);
    assert_eq!(endings(&calls), [CloseReason::UserTimeout, CloseReason::TimedOut]);
}
