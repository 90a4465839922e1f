//! HTTP's `/echo` on a shard whose memory is short: bodies that were let in are taken whole though nobody reads, and crowds
//! that take what they can leave to others what the shard's rules leave them (OPS-46).

use std::sync::Arc;
use std::time::SystemTime;

use trust::services::echo::Echo;
use trust::services::http::Http;
use trust::tcp::Duration;
use trust::wire::tcp::Flags;

use crate::rig::{Peer, Rig};

/// Of 64 KB each: 32 MB to send with, of which half is common; who comes first may have a ninth of that.
const CHUNKS: u32 = 512;
const CAPACITY: u64 = CHUNKS as u64 * 65_536;
const BODY: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

fn rig() -> Rig {
    let mut rig = Rig::with(|config| config.limits.held_packets = 0, CHUNKS, 1_024);
    rig.shard.add_service(Some(80), Box::new(Http::new(Arc::new(SystemTime::now))));
    rig.shard.add_service(Some(7), Box::new(Echo));
    rig
}

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// A peer that announces a body, and takes nothing of what is said to it.
fn announce(rig: &mut Rig, number: u16, len: usize) -> Peer {
    let mut peer = Peer { window: 0, ..Peer::new(1_024 + number, 80) };
    peer.open(rig);
    let head = format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n");
    let head = peer.data(head.as_bytes());
    rig.turn(&[head]);
    peer
}

/// Sends `octets` for as long as they are taken; how many were.
fn push(rig: &mut Rig, peer: &mut Peer, octets: &[u8]) -> usize {
    let mut done = 0;
    while done < octets.len() {
        let before = rig.counters().payload_in;
        let segment = &octets[done..octets.len().min(done + 1_400)];
        let segment = peer.packet_at(0, Flags::ACK | Flags::PSH, segment);
        rig.turn(&[segment]);
        let taken = (rig.counters().payload_in - before) as usize;
        if taken == 0 {
            break;
        }
        peer.seq = peer.seq.wrapping_add(taken as u32);
        done += taken;
    }
    done
}

/// From now on it reads; what it gets until nothing comes any more, or its end.
fn read(rig: &mut Rig, peer: &mut Peer) -> Vec<u8> {
    peer.window = 60_000;
    // Of others nothing is of interest here.
    rig.sent.clear();
    let mut quiet = 0;
    while quiet < 20 && !peer.got_fin && !peer.got_reset {
        let before = peer.got.len();
        rig.turn(&[peer.ack()]);
        rig.advance(Duration::from_millis(20));
        peer.take(rig);
        quiet = if peer.got.len() > before { 0 } else { quiet + 1 };
    }
    std::mem::take(&mut peer.got)
}

/// An answer's status, and whether its body is `sent`.
fn judge(answer: &[u8], sent: &[u8]) -> (String, bool) {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    (String::from_utf8_lossy(&answer[..answer.len().min(12)]).into_owned(), answer[head..] == *sent)
}

/// Echo, and small requests to HTTP: nobody asks them to wait or refuses them.
fn others_are_served(rig: &mut Rig, number: u16) {
    let mut visitor = rig.connect(1_024 + number, 7);
    assert_eq!(push(rig, &mut visitor, &body(1_000)), 1_000);
    assert_eq!(read(rig, &mut visitor), body(1_000));
    for len in [100, 20_000] {
        let mut poster = announce(rig, number + 1 + len as u16 % 7, len);
        assert_eq!(push(rig, &mut poster, &body(len)), len);
        assert_eq!(judge(&read(rig, &mut poster), &body(len)), ("HTTP/1.1 200".to_owned(), true), "{len}");
    }
}

/// Sends a whole body before it reads any of the answer.
fn post_whole(rig: &mut Rig, number: u16) -> (String, bool) {
    let mut peer = announce(rig, number, BODY);
    push(rig, &mut peer, &body(BODY));
    judge(&read(rig, &mut peer), &body(BODY))
}

#[test]
fn a_hundred_that_never_read_hold_no_more_than_their_share() {
    let mut rig = rig();
    let (mut whole, mut refused) = (Vec::new(), Vec::new());
    for number in 0..100 {
        let mut peer = announce(&mut rig, number, BODY);
        // Who is refused may send on, and is read away.
        assert_eq!(push(&mut rig, &mut peer, &body(BODY)), BODY, "{number}");
        let held = rig.counters().send_octets;
        assert!(held <= CAPACITY / 2, "{number}: {held} of {CAPACITY} octets are taken");
        if held > (whole.len() * BODY + BODY / 2) as u64 {
            whole.push(peer)
        } else {
            refused.push(peer)
        }
        rig.sent.clear();
    }
    assert!((4..16).contains(&whole.len()), "{} were let in", whole.len());
    others_are_served(&mut rig, 1_000);
    assert_eq!(judge(&read(&mut rig, &mut refused[0]), &[]).0, "HTTP/1.1 503");
    // Who is patient enough with them gets his turn.
    assert_eq!(post_whole(&mut rig, 2_000).0, "HTTP/1.1 503");
    rig.advance(PATIENCE);
    rig.sent.clear();
    assert_eq!(post_whole(&mut rig, 2_001), ("HTTP/1.1 200".to_owned(), true));
    let gone = rig.counters().gave_way as usize;
    assert!((1..whole.len()).contains(&gone), "{gone} of {}", whole.len());
    // The others' answers are as good as ever.
    for peer in &mut whole[gone..] {
        assert_eq!(judge(&read(&mut rig, peer), &body(BODY)), ("HTTP/1.1 200".to_owned(), true));
    }
    assert_eq!(rig.counters().evicted_for_send_memory, 0);
}

/// They announce what they never send.
#[test]
fn eight_thousand_announcements_keep_nobody_away_for_long() {
    let mut rig = rig();
    let mut peers = Vec::new();
    for number in 0..8_000 {
        peers.push(announce(&mut rig, number, BODY));
        rig.sent.clear();
    }
    others_are_served(&mut rig, 10_000);
    assert_eq!(post_whole(&mut rig, 11_000).0, "HTTP/1.1 503");
    // They go on, as slowly as they may.
    for _ in 0..3 {
        rig.advance(Duration::from_secs(10));
        for peer in &mut peers[..20] {
            push(&mut rig, peer, b"x");
        }
        rig.sent.clear();
    }
    others_are_served(&mut rig, 12_000);
    assert_eq!(post_whole(&mut rig, 13_000), ("HTTP/1.1 200".to_owned(), true));
    assert!((1..=16).contains(&rig.counters().gave_way), "{}", rig.counters().gave_way);
}
