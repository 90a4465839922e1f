//! What a tap sees of a shard: every packet that comes and leaves, in order, with what became of it.

use trust::services::echo::Echo;
use trust::shard::DropReason;
use trust::shard::tap::{Cause, Facts, Note, PacketFilter, Sight, TapCounts, TapOptions, TapReader, Way, tap};
use trust::tcp::Duration;
use trust::wire::vnet::{ChecksumStatus, RxOffload};

use crate::rig::{OURS, PEER, Peer, Rig, ip_packet};

fn echo() -> Rig {
    let mut rig = Rig::new();
    rig.shard.add_service(Some(7), Box::new(Echo));
    rig
}

fn begin(rig: &mut Rig, options: TapOptions) -> TapReader {
    let (tap, reader) = tap(options);
    assert!(rig.shard.tap(tap).is_some());
    assert!(rig.shard.is_tapped());
    reader
}

fn all(reader: &mut TapReader) -> Vec<(Sight, Vec<u8>)> {
    let (mut seen, mut octets) = (Vec::new(), Vec::new());
    reader.look();
    while let Some(sight) = reader.next(&mut octets) {
        assert_eq!(octets.len(), sight.kept as usize);
        seen.push((sight, octets.clone()));
    }
    reader.release();
    seen
}

/// Everything since the last look: what was handed in, and what left, octet by octet.
#[test]
fn a_tap_sees_what_comes_and_what_leaves() {
    let mut rig = echo();
    let mut peer = rig.connect(40_000, 7);
    let mut reader = begin(&mut rig, TapOptions::default());
    let big: Vec<u8> = (0..1_400).map(|index| index as u8).collect();
    let stray = ip_packet(PEER, OURS, 47, b"what?");
    let packets = [peer.data(b"hello"), stray.clone(), peer.data(&big)];
    rig.now += Duration::from_millis(5);
    rig.turn(&packets);
    let sent: Vec<_> = rig.sent.drain(..).collect();
    assert!(!sent.is_empty());
    let seen = all(&mut reader);
    let (came, left): (Vec<_>, Vec<_>) = seen.iter().partition(|(sight, _)| sight.way == Way::In);
    assert_eq!(came.iter().map(|(_, octets)| octets.clone()).collect::<Vec<_>>(), packets);
    let notes: Vec<_> = came.iter().map(|(sight, _)| sight.note).collect();
    assert_eq!(notes, [Note::None, Note::Dropped(DropReason::UnknownProtocol), Note::None]);
    assert_eq!(left.len(), sent.len());
    for ((sight, octets), sent) in left.iter().zip(&sent) {
        assert_eq!((*octets == sent.packet, sight.len as usize), (true, sent.packet.len()));
        assert_eq!((sight.at, sight.note), (rig.now, Note::None));
    }
    assert_eq!(reader.counts(), TapCounts { seen: seen.len() as u64, missed: 0 });
    assert!(all(&mut reader).is_empty());
}

/// What is answered at once comes before its answer, also where it is dropped.
#[test]
fn an_answer_comes_behind_what_it_answers() {
    let mut rig = echo();
    let mut reader = begin(&mut rig, TapOptions::default());
    let stray = ip_packet(PEER, OURS, 47, b"what?");
    let (syn, unwanted) = (Peer::new(40_000, 7).syn(), Peer::new(40_001, 9).syn());
    for (packet, note) in
        [(syn, Note::None), (stray, Note::Dropped(DropReason::UnknownProtocol)), (unwanted, Note::None)]
    {
        rig.turn(std::slice::from_ref(&packet));
        let seen = all(&mut reader);
        let [(first, octets), (second, answer)] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!((first.way, first.note, octets), (Way::In, note, &packet));
        assert_eq!((second.way, second.note, answer), (Way::Out, Note::None, &rig.sent.pop_back().unwrap().packet));
    }
}

#[test]
fn only_what_is_wanted_is_kept_and_no_more_of_it() {
    let filter: PacketFilter =
        Box::new(|facts: &Facts| facts.ports.is_some_and(|(src, dst)| src == 7 || dst == 40_001));
    for snaplen in [1, 40, 128, 152, 153, 1_000] {
        let mut rig = echo();
        let (mut one, mut two) = (rig.connect(40_000, 7), rig.connect(40_001, 7));
        let only: PacketFilter = Box::new(|facts: &Facts| facts.ports == Some((40_001, 7)));
        let mut reader = begin(&mut rig, TapOptions { snaplen, buffer: 1 << 20, filter: Some(only) });
        let packets = [one.data(&[1; 500]), two.data(&[2; 500])];
        rig.turn(&packets);
        let seen = all(&mut reader);
        let [(sight, octets)] = seen.as_slice() else { panic!("{seen:?}") };
        let whole = &packets[1];
        let kept = whole.len().min(snaplen as usize);
        assert_eq!((sight.len as usize, octets.as_slice()), (whole.len(), &whole[..kept]));
    }
    let facts = Facts { protocol: 6, src: OURS.into(), dst: PEER.into(), ports: Some((7, 1)), len: 40 };
    assert!(filter(&facts));
}

/// A super-segment is one packet, with the size of what it stands for.
#[test]
fn super_segments_stay_whole() {
    let mut rig = echo();
    let mut peer = rig.connect(40_000, 7);
    let mut reader = begin(&mut rig, TapOptions { snaplen: 100, ..TapOptions::default() });
    let packet = peer.data(&[3; 1_300]);
    rig.begin();
    rig.receive_with(&packet, RxOffload { checksum: ChecksumStatus::Trusted, gso_size: 600 });
    rig.finish();
    let (sight, octets) = &all(&mut reader)[0];
    assert_eq!((sight.gso_size, sight.len as usize, octets.len()), (600, packet.len(), 100));
}

/// A reader that does not read takes nothing from the connection, and hears how much it has missed.
#[test]
fn who_does_not_read_misses_packets_and_is_told() {
    let mut rig = echo();
    let mut peer = rig.connect(40_000, 7);
    // Room for one packet of the largest size.
    let mut reader = begin(&mut rig, TapOptions { snaplen: 0, buffer: 1, filter: None });
    let before = rig.frames_out;
    for _ in 0..200 {
        let packet = peer.data(&[5; 1_000]);
        rig.turn(&[packet]);
        peer.take(&mut rig);
        let ack = peer.ack();
        rig.turn(&[ack]);
    }
    assert_eq!(rig.counters().payload_in, 200_000, "all of it came");
    let packets = 400 + rig.frames_out - before;
    let first = all(&mut reader);
    let kept = first.len() as u64;
    let TapCounts { seen, missed } = reader.counts();
    assert_eq!((seen, kept + missed), (packets, packets));
    assert!(kept > 50 && missed > 50, "{kept} {missed}");
    let packet = peer.data(b"!");
    rig.turn(&[packet]);
    let next = all(&mut reader);
    let told: Vec<_> = first.iter().chain(&next).map(|(sight, _)| u64::from(sight.missed)).collect();
    assert_eq!((told.iter().sum::<u64>(), told.last()), (missed, Some(&0)), "each is told of once");
}

#[test]
fn one_looks_at_a_time_and_nobody_pays_afterwards() {
    let mut rig = echo();
    let reader = begin(&mut rig, TapOptions::default());
    let (other, _second) = tap(TapOptions::default());
    assert!(rig.shard.tap(other).is_none());
    drop(reader);
    rig.turn(&[]);
    assert!(!rig.shard.is_tapped());
    let mut reader = begin(&mut rig, TapOptions::default());
    // The next one need not wait for a turn.
    drop(std::mem::replace(&mut reader, tap(TapOptions::default()).1));
    let reader = begin(&mut rig, TapOptions::default());
    drop(rig);
    assert!(reader.is_closed());
}

#[test]
fn what_is_sent_again_says_why() {
    let mut rig = echo();
    let mut peer = rig.connect(40_000, 7);
    let mut reader = begin(&mut rig, TapOptions::default());
    let packet = peer.data(b"hello");
    rig.turn(&[packet]);
    rig.sent.clear();
    // Nobody acknowledges the answer.
    for _ in 0..40 {
        rig.advance(Duration::from_millis(100));
    }
    let again: Vec<_> = all(&mut reader)
        .iter()
        .filter_map(|(sight, _)| if let Note::Again(cause) = sight.note { Some(cause) } else { None })
        .collect();
    assert_eq!(again.len() as u64, rig.counters().retransmits);
    assert!(again.contains(&Cause::Timeout), "{again:?}");
}
