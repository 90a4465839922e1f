//! What send memory costs: many that have an octet queued, and what is left of a peak.

use std::net::Ipv4Addr;

use trust::services::echo::Echo;
use trust::tcp::Duration;

use crate::resident;
use crate::rig::{Call, Peer, Rig, probe};

/// Peers of distinct addresses, established.
fn crowd(rig: &mut Rig, count: u32, port: u16) -> Vec<Peer> {
    let mut peers = Vec::new();
    for index in 0..count {
        let [_, a, b, c] = index.to_be_bytes();
        let mut peer = Peer { addr: Ipv4Addr::new(10, a + 8, b, c.max(1)).into(), ..Peer::new(1_000, port) };
        peer.port += u16::from(c == 0);
        peer.open(rig);
        peers.push(peer);
    }
    peers
}

pub(crate) fn of_ten_thousand() {
    const SENDERS: u32 = 10_000;
    let mut rig = Rig::new();
    rig.shard.add_service(Some(7), Box::new(Echo));
    let mut peers = crowd(&mut rig, SENDERS, 7);
    for peer in &mut peers {
        let word = peer.data(b"x");
        rig.turn(&[word]);
        assert_eq!(rig.sent.pop_back().map(|echo| echo.seq_len()), Some(1), "the echo that nobody acknowledges");
        rig.sent.clear();
    }
    let counters = rig.counters();
    println!("{} octets of send memory in {} chunks", counters.send_octets, counters.send_chunks);
    assert_eq!(counters.send_octets, u64::from(SENDERS) * 256);
    assert!(counters.send_chunks <= 40);
    let resets: Vec<_> = peers.iter().map(Peer::rst).collect();
    rig.turn(&resets);
    rig.assert_empty();
}

/// What a peak has touched goes back to the kernel, and then nothing wakes the shard any more.
pub(crate) fn at_a_peak() {
    let mut rig = Rig::with(|_| {}, 4_096, 1_024);
    rig.blind = true;
    let (service, _) = probe(|io, call| {
        if let Call::Accepted(conn) = call {
            while io.send(*conn, &[5; 65_536]) > 0 {}
        }
    });
    rig.shard.add_service(Some(19), service);
    let before = resident();
    let mut peers = Vec::new();
    for index in 0..2_000 {
        rig.blind = false;
        let peer = rig.connect(2_000 + index, 19);
        rig.blind = true;
        rig.sent.clear();
        peers.push(peer);
    }
    let (peak, octets) = (resident(), rig.counters().send_octets);
    assert!(octets > 64 << 20, "{octets} octets at the peak");
    assert!(peak > before + (octets / 2), "{before} octets resident, then {peak}");
    let resets: Vec<_> = peers.iter().map(Peer::rst).collect();
    rig.turn(&resets);
    // Those that wait for memory are looked at a few a turn, here for the last time.
    for _ in 0..64 {
        rig.turn(&[]);
    }
    rig.blind = false;
    rig.assert_empty();
    rig.advance(Duration::from_secs(90));
    let after = resident();
    println!("{octets} octets at the peak; resident {before}, {peak}, {after}");
    assert!(after < peak - octets * 3 / 4, "{before} octets resident, then {peak}, then {after}");
    assert_eq!(rig.shard.next_deadline(), None, "the shard is woken for ever");
}
