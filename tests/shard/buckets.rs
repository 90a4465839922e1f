//! Steering by birth, as a shard sees it: a bucket of the owner table is its own before a record comes, for as long as there
//! is one, and vacant afterwards.

use trust::flow::{Endpoint, Quad, ShardId};
use trust::services::echo::Echo;
use trust::shard::{ConnectError, ConnectOptions, DropReason};
use trust::steering::{OwnerTable, SteeringKeys};
use trust::tcp::Duration;
use trust::tcp::cookie::SynCookies;
use trust::wire::tcp::{Flags, TcpHeader};

use crate::door::{Door, remote};
use crate::rig::{OURS, PEER, Peer, Rig, tcp_packet};

const PORT: u16 = 7;
const ME: ShardId = ShardId(0);
const OTHER: ShardId = ShardId(1);

fn rig_with(cookies: SynCookies) -> Rig {
    let tweak = |config: &mut trust::shard::ShardConfig| {
        config.shards = 2;
        config.limits.syn_cookies = cookies;
    };
    let mut rig = Rig::with_owners(OwnerTable::by_birth, tweak, 64, 1_024);
    rig.shard.add_service(Some(PORT), Box::new(Echo));
    rig
}

fn rig() -> Rig {
    rig_with(SynCookies::Overflow)
}

/// The steering hash, with the key of all rigs.
fn hash(local: u16, peer: u16) -> u32 {
    let quad = Quad { local: Endpoint::new(OURS.into(), local), remote: Endpoint::new(PEER.into(), peer) };
    SteeringKeys::from_random([1; 16]).hash_quad(&quad)
}

fn claimed(rig: &Rig, peer: u16) -> Option<ShardId> {
    rig.owners.claimed(hash(PORT, peer))
}

#[test]
fn a_bucket_is_ours_while_there_is_a_record_and_then_vacant() {
    let mut rig = rig();
    let mut peer = Peer::new(40_000, PORT);
    // By the reader; here by the shard itself.
    rig.turn(&[peer.syn()]);
    assert_eq!((claimed(&rig, 40_000), rig.counters().buckets), (Some(ME), 1), "half open");
    let syn_ack = rig.next();
    (peer.seq, peer.ack) = (syn_ack.header.ack, syn_ack.header.seq.wrapping_add(1));
    rig.turn(&[peer.ack()]);
    assert_eq!((rig.counters().accepted, claimed(&rig, 40_000)), (1, Some(ME)), "open");
    let fin = peer.fin();
    rig.turn(&[fin]);
    peer.take(&mut rig);
    assert!(peer.got_fin);
    assert_eq!(claimed(&rig, 40_000), Some(ME), "in LAST-ACK");
    rig.turn(&[peer.ack()]);
    assert_eq!((claimed(&rig, 40_000), rig.counters().buckets), (None, 0), "closed");
    rig.assert_empty();
}

#[test]
fn a_time_wait_record_keeps_the_bucket_until_it_runs_out_or_gives_way() {
    let mut rig = rig();
    let door = Door::default();
    let service = rig.shard.add_service(Some(80), Box::new(door.clone()));
    assert_eq!(service, 1);
    let closes_first = |rig: &mut Rig, peer: &mut Peer| {
        peer.open(rig);
        let conn = rig.shard.connections().next().unwrap().0;
        door.ask(rig, move |io| io.close(conn));
        peer.take(rig);
        let fin = peer.fin();
        rig.turn(&[fin]);
        peer.take(rig);
        assert_eq!((rig.counters().time_wait, rig.counters().connections), (1, 0));
    };
    let bucket = hash(80, 40_000);
    let mut peer = Peer::new(40_000, 80);
    closes_first(&mut rig, &mut peer);
    assert_eq!(rig.owners.claimed(bucket), Some(ME));
    rig.advance(Duration::from_secs(30));
    assert_eq!((rig.owners.claimed(bucket), rig.owners.claimed_buckets()), (Some(ME), 1));
    // RFC 6191: the next connection takes the record over, which must not count twice.
    let mut next = Peer { seq: peer.seq.wrapping_add(100_000), ..Peer::new(40_000, 80) };
    closes_first(&mut rig, &mut next);
    assert_eq!((rig.counters().time_wait_reused, rig.counters().buckets), (1, 1));
    rig.advance(Duration::from_secs(59));
    assert_eq!(rig.owners.claimed(bucket), Some(ME));
    rig.advance(Duration::from_secs(2));
    assert_eq!((rig.counters().time_wait, rig.owners.claimed_buckets()), (0, 0));
}

#[test]
fn a_syn_that_comes_to_nothing_leaves_nothing() {
    let mut rig = rig();
    // Nobody listens; a reader has claimed the bucket.
    let refused = Peer::new(40_000, 9);
    rig.owners.claim(hash(9, 40_000), ME);
    rig.turn(&[refused.syn()]);
    assert!(rig.next().has(Flags::RST));
    assert_eq!(rig.owners.claimed_buckets(), 0);
    // A handshake that is reset.
    let mut reset = Peer::new(40_001, PORT);
    rig.turn(&[reset.syn()]);
    reset.seq = rig.next().header.ack;
    rig.turn(&[reset.packet_at(0, Flags::RST, &[])]);
    assert_eq!((rig.counters().half_open, rig.owners.claimed_buckets()), (0, 0));
    // One that is never completed.
    rig.turn(&[Peer::new(40_002, PORT).syn()]);
    assert_eq!(rig.owners.claimed_buckets(), 1);
    rig.advance(Duration::from_secs(200));
    assert_eq!((rig.counters().half_open, rig.owners.claimed_buckets()), (0, 0));
    // One whose SYN was lost on its way from the reader: found when others come.
    rig.owners.claim(hash(PORT, 40_003), ME);
    rig.owners.claim(hash(PORT, 40_004), OTHER);
    rig.advance(Duration::from_secs(10));
    assert_eq!((rig.owners.claimed_buckets(), rig.shard.next_deadline()), (2, None), "nothing wakes an idle shard");
    rig.turn(&[refused.syn()]);
    rig.advance(Duration::from_secs(2));
    assert_eq!((claimed(&rig, 40_003), claimed(&rig, 40_004)), (None, Some(OTHER)));
    assert_eq!((rig.counters().buckets_swept, rig.shard.next_deadline()), (1, None));
    rig.assert_empty();
}

/// Its bucket was given back while it waited, and another shard has it now: a record here would be a second owner.
#[test]
fn a_syn_for_a_bucket_that_is_anothers_by_now_is_dropped() {
    let mut rig = rig();
    rig.owners.claim(hash(PORT, 40_000), OTHER);
    rig.turn(&[Peer::new(40_000, PORT).syn()]);
    assert_eq!((rig.dropped(DropReason::NotOwner), rig.counters().half_open, rig.sent.len()), (1, 0, 0));
    assert_eq!(claimed(&rig, 40_000), Some(OTHER));
    // When it comes again and the other has nothing any more, it is served.
    rig.owners.release(hash(PORT, 40_000), OTHER);
    let peer = rig.connect(40_000, PORT);
    assert_eq!((rig.counters().accepted, claimed(&rig, peer.port)), (1, Some(ME)));
}

/// A cookie makes a connection wherever it comes; which were used is known to one shard, and the bucket stays there.
#[test]
fn rfc4987_3_6b_the_bucket_of_a_used_cookie_stays_for_as_long_as_it_is_good() {
    let mut rig = rig_with(SynCookies::Always);
    let mut peer = Peer::new(40_000, PORT);
    rig.turn(&[peer.syn()]);
    assert_eq!((rig.counters().cookies_sent, rig.owners.claimed_buckets()), (1, 0), "nothing is kept of the SYN");
    let syn_ack = rig.next();
    (peer.seq, peer.ack) = (syn_ack.header.ack, syn_ack.header.seq.wrapping_add(1));
    let ack = peer.ack();
    rig.turn(std::slice::from_ref(&ack));
    assert_eq!((rig.counters().cookies_accepted, claimed(&rig, 40_000)), (1, Some(ME)));
    rig.turn(&[peer.rst()]);
    assert_eq!((rig.counters().connections, claimed(&rig, 40_000)), (0, Some(ME)));
    rig.sent.clear();
    rig.turn(&[ack]);
    assert_eq!((rig.counters().cookies_accepted, rig.next().header.flags), (1, Flags::RST), "used once");
    rig.advance(Duration::from_secs(55));
    assert_eq!(claimed(&rig, 40_000), Some(ME));
    rig.advance(Duration::from_secs(10));
    assert_eq!((claimed(&rig, 40_000), rig.shard.next_deadline()), (None, None));
    // Where the bucket is another's the ACK finds no place, and the peer is answered when that has given it back.
    let mut other = Peer::new(40_001, PORT);
    rig.turn(&[other.syn()]);
    let syn_ack = rig.next();
    (other.seq, other.ack) = (syn_ack.header.ack, syn_ack.header.seq.wrapping_add(1));
    rig.owners.claim(hash(PORT, 40_001), OTHER);
    rig.turn(&[other.ack()]);
    assert_eq!((rig.counters().connections, claimed(&rig, 40_001)), (0, Some(OTHER)));
}

/// RFC6056-MC: of ours and vacant buckets, and only of those.
#[test]
fn an_open_claims_the_bucket_of_its_port() {
    let mut rig = rig();
    let door = Door::default();
    rig.shard.add_service(None, Box::new(door.clone()));
    let bucket = |port| hash_towards(port);
    // Every other port leads to the other shard.
    (32_768..=65_535_u16).step_by(2).for_each(|port| {
        rig.owners.claim(bucket(port), OTHER);
    });
    let theirs = rig.owners.claimed_buckets();
    for number in 1..=200 {
        door.connect(&mut rig, remote(), ConnectOptions::default()).unwrap();
        let port = rig.next().header.src_port;
        assert_eq!(rig.owners.claimed(bucket(port)), Some(ME), "{port}");
        assert!(rig.counters().buckets <= number && rig.owners.claimed_buckets() > theirs);
    }
    // A fixed port: whoever has its bucket is named.
    let fixed = |port| ConnectOptions { local: Some(Endpoint::new(OURS.into(), port)), ..ConnectOptions::default() };
    let free = (1_000..2_000).find(|port| rig.owners.claimed(bucket(*port)).is_none()).unwrap();
    door.connect(&mut rig, remote(), fixed(free)).unwrap();
    assert_eq!(rig.owners.claimed(bucket(free)), Some(ME));
    let taken = (32_768..).step_by(2).find(|port| rig.owners.claimed(bucket(*port)) == Some(OTHER)).unwrap();
    let refused = door.connect(&mut rig, remote(), fixed(taken));
    assert_eq!(refused, Err(ConnectError::WrongShard(OTHER)));
    // All give up: nothing is left but the other's.
    rig.advance(Duration::from_secs(300));
    assert_eq!((rig.counters().connections, rig.owners.claimed_buckets()), (0, theirs));
    // With no bucket left there is no port.
    (0..65_536).for_each(|bucket| {
        rig.owners.claim(bucket, OTHER);
    });
    assert_eq!(door.connect(&mut rig, remote(), ConnectOptions::default()), Err(ConnectError::NoPort));
}

fn hash_towards(port: u16) -> u32 {
    let quad = Quad { local: Endpoint::new(OURS.into(), port), remote: remote() };
    SteeringKeys::from_random([1; 16]).hash_quad(&quad)
}

/// With ten thousand connections, many in a bucket with another, every one is given back.
#[test]
fn every_bucket_is_vacant_again_after_many_connections() {
    let mut rig = rig();
    let mut peers: Vec<Peer> = (0..10_000).map(|port| Peer::new(20_000 + port, PORT)).collect();
    for batch in peers.chunks_mut(100) {
        batch.iter_mut().for_each(|peer| peer.open(&mut rig));
    }
    let (with_records, all) = (rig.counters().buckets, rig.owners.claimed_buckets());
    assert!(all as u64 == with_records && (8_500..9_990).contains(&all), "{all}, about 9,270 by chance");
    for (number, peer) in peers.iter_mut().enumerate() {
        let end = if number % 2 == 0 { peer.rst() } else { peer.fin() };
        rig.turn(&[end]);
        peer.take(&mut rig);
        if number % 2 == 1 {
            rig.turn(&[peer.ack()]);
        }
    }
    assert_eq!((rig.counters().connections, rig.counters().buckets, rig.owners.claimed_buckets()), (0, 0, 0));
    // A segment of nobody claims nothing.
    let stray = TcpHeader { src_port: 9, dst_port: PORT, flags: Flags::ACK, ..TcpHeader::default() };
    rig.turn(&[tcp_packet(PEER, OURS, &stray, &[])]);
    assert_eq!(rig.owners.claimed_buckets(), 0);
    rig.advance(Duration::from_secs(120));
    rig.assert_empty();
}
