//! What observers see of a shard, slice by slice, and what they can end.

use std::collections::HashSet;

use trust::services::echo::Echo;
use trust::shard::budget::{self, Work};
use trust::shard::diag::{Cursor, Entry, EntryId, Reset, Table};
use trust::shard::{ConnectOptions, Io};
use trust::tcp::{CloseReason, State};
use trust::wire::tcp::Flags;

use crate::door::{ANY, Heard, PORT, door, remote};
use crate::rig::{Peer, Rig};

/// A whole walk, with `between` done between two slices.
fn walk(rig: &mut Rig, mut between: impl FnMut(&mut Rig, usize)) -> Vec<Entry> {
    let (mut all, mut cursor, mut slices) = (Vec::new(), Some(Cursor::default()), 0);
    while let Some(from) = cursor {
        let mut entries = Vec::new();
        cursor = rig.shard.diag(from, &mut entries);
        assert!(entries.len() <= budget::ENTRIES);
        all.extend(entries);
        slices += 1;
        between(rig, slices);
    }
    all
}

fn ids(entries: &[Entry]) -> HashSet<EntryId> {
    let ids: HashSet<_> = entries.iter().map(|entry| entry.id).collect();
    assert_eq!(ids.len(), entries.len(), "nothing is seen twice");
    ids
}

#[test]
fn everything_with_ports_is_seen_once_in_slices() {
    const OPEN: u16 = 700;
    const HALF_OPEN: u16 = 200;
    let (mut rig, door) = door();
    rig.shard.add_service(Some(7), Box::new(Echo));
    door.listen(&mut rig, ANY, PORT, 1).unwrap();
    let peers: Vec<_> = (0..OPEN).map(|index| rig.connect(1_000 + index, 7)).collect();
    for index in 0..HALF_OPEN {
        rig.turn(&[Peer::new(5_000 + index, 7).syn()]);
    }
    door.connect(&mut rig, remote(), ConnectOptions::default()).unwrap();
    let mut first = peers[0].clone();
    let word = first.data(b"hello");
    rig.turn(&[word]);
    let entries = walk(&mut rig, |_, _| ());
    ids(&entries);
    let count = |table, state| entries.iter().filter(|entry| entry.id.table == table && entry.state == state).count();
    assert_eq!(count(Table::Listeners, None), 2);
    assert_eq!(count(Table::Connections, Some(State::Established)), usize::from(OPEN));
    assert_eq!(count(Table::Connections, Some(State::SynSent)), 1);
    assert_eq!(count(Table::HalfOpen, Some(State::SynReceived)), usize::from(HALF_OPEN));
    assert_eq!(entries.len(), usize::from(OPEN + HALF_OPEN) + 3);
    let ports: Vec<_> = entries.iter().take(2).map(|entry| (entry.quad.local.port, entry.service)).collect();
    assert_eq!(ports, [(7, Some(1)), (PORT, Some(0))]);
    let seen = entries.iter().find(|entry| entry.quad.remote.port == peers[0].port).unwrap();
    let info = seen.info.unwrap();
    assert_eq!((seen.service, seen.mtu, seen.detached), (Some(1), 1_500, false));
    assert_eq!((info.bytes_received, info.bytes_sent, seen.receive_queue, seen.send_queue), (5, 5, 0, 5));
    assert!(entries.iter().filter(|entry| entry.info.is_none()).all(|entry| entry.state != Some(State::Established)));
    let most = rig.counters().most_in_a_turn(Work::Entries);
    assert_eq!(most, budget::ENTRIES as u64);
}

/// What is there from beginning to end is seen, whatever comes and goes meanwhile.
#[test]
fn a_walk_survives_what_happens_meanwhile() {
    let mut rig = Rig::new();
    rig.shard.add_service(Some(7), Box::new(Echo));
    let peers: Vec<_> = (0..600).map(|index| rig.connect(1_000 + index, 7)).collect();
    let before = ids(&walk(&mut rig, |_, _| ()));
    let mut ended = HashSet::new();
    let entries = walk(&mut rig, |rig, slice| {
        let peer = &peers[slice * 37 % 600];
        ended.insert(peer.port);
        rig.turn(&[peer.rst()]);
        rig.connect(10_000 + slice as u16, 7);
    });
    ids(&entries);
    let seen: HashSet<_> = entries.iter().map(|entry| entry.quad.remote.port).collect();
    assert!(before.len() == 601 && ended.len() > 3);
    for peer in peers.iter().filter(|peer| !ended.contains(&peer.port)) {
        assert!(seen.contains(&peer.port), "{}", peer.port);
    }
}

#[test]
fn what_is_named_is_ended_and_nothing_else() {
    let (mut rig, door) = door();
    let (_, conn) = door.accept(&mut rig);
    let mut other = rig.connect(40_001, PORT);
    rig.turn(&[Peer::new(40_002, PORT).syn()]);
    rig.sent.clear();
    door.heard();
    let entries = walk(&mut rig, |_, _| ());
    let of = |port, table| {
        entries.iter().find(|entry| entry.quad.remote.port == port && entry.id.table == table).unwrap().id
    };
    let (listener, first) = (of(0, Table::Listeners), of(40_000, Table::Connections));
    assert_eq!(first.id, conn);
    rig.begin();
    assert_eq!(rig.shard.reset(listener), Reset::Absent, "what listens stays");
    assert_eq!(rig.shard.reset(first), Reset::Done);
    assert_eq!(rig.shard.reset(first), Reset::Absent, "it is not there any more");
    assert_eq!(rig.shard.reset(of(40_002, Table::HalfOpen)), Reset::Done);
    assert_eq!(rig.shard.reset(of(40_002, Table::HalfOpen)), Reset::Absent);
    rig.finish();
    let resets: Vec<_> =
        rig.sent.drain(..).filter(|sent| sent.has(Flags::RST)).map(|sent| sent.header.dst_port).collect();
    assert_eq!(resets, [40_000, 40_002]);
    assert!(matches!(door.heard()[..], [Heard::Closed { reason: CloseReason::Aborted, .. }]));
    let word = other.data(b"still here");
    rig.turn(&[word]);
    assert_eq!(rig.next().payload, b"still here");
}

#[test]
fn time_wait_is_seen_and_ended_without_a_word() {
    let (mut rig, door) = door();
    let (mut peer, conn) = door.accept(&mut rig);
    door.ask(&mut rig, move |io: &mut dyn Io| io.close(conn));
    let fin = rig.sent.pop_back().unwrap();
    assert!(fin.has(Flags::FIN));
    peer.ack = peer.ack.wrapping_add(fin.seq_len());
    let fin = peer.fin();
    rig.turn(&[fin]);
    rig.sent.clear();
    let entries = walk(&mut rig, |_, _| ());
    let waiting: Vec<_> = entries.iter().filter(|entry| entry.state == Some(State::TimeWait)).collect();
    let [entry] = waiting[..] else { panic!("{waiting:?}") };
    assert_eq!((entry.id.table, entry.quad.remote.port, entry.service), (Table::TimeWait, 40_000, None));
    let id = entry.id;
    rig.begin();
    assert_eq!((rig.shard.reset(id), rig.shard.reset(id)), (Reset::Done, Reset::Absent));
    rig.finish();
    assert!(rig.sent.is_empty());
    assert_eq!(rig.counters().time_wait, 0);
    // Its place is free: a new connection between these ends opens.
    let again = rig.connect(40_000, PORT);
    assert!(!again.got_reset);
}

/// While the device takes nothing there is no room for more RSTs than the ring holds: what is not reset says so, and is
/// as it was. What needs no RST ends all the same, and what is not there is not there.
#[test]
fn a_reset_without_room_for_its_rst_is_said_and_can_be_asked_for_again() {
    let mut rig = Rig::with(|_| {}, 64, 128);
    rig.shard.add_service(Some(7), Box::new(Echo));
    (0..200).for_each(|index| {
        rig.connect(1_000 + index, 7);
    });
    let connections = |rig: &mut Rig| {
        let entries = walk(rig, |_, _| ());
        entries.into_iter().map(|entry| entry.id).filter(|id| id.table == Table::Connections).collect::<Vec<_>>()
    };
    let all = connections(&mut rig);
    rig.stop_tx = true;
    rig.begin();
    let (done, others): (Vec<&EntryId>, Vec<&EntryId>) =
        all.iter().partition(|id| rig.shard.reset(**id) == Reset::Done);
    assert!((64..128).contains(&done.len()), "{}", done.len());
    assert!(others.iter().all(|id| rig.shard.reset(**id) == Reset::NoRoom));
    assert!(done.iter().all(|id| rig.shard.reset(**id) == Reset::Absent));
    rig.finish();
    let still: Vec<_> = connections(&mut rig);
    assert_eq!(still.iter().collect::<Vec<_>>(), others);
    rig.stop_tx = false;
    rig.settle();
    rig.begin();
    let again = others.iter().filter(|id| rig.shard.reset(***id) == Reset::Done).count();
    rig.finish();
    assert_eq!(again, others.len().min(done.len()));
    assert_eq!(rig.sent.iter().filter(|sent| sent.has(Flags::RST)).count(), done.len() + again);
}
