//! What a trace tells of senders: everything that `Info` counts, when it happens.

use trust::services::echo::Echo;
use trust::shard::tap::{Cause, Facts, PacketFilter};
use trust::shard::trace::{Decision, TraceEvent, TraceReader, trace};
use trust::tcp::{CloseReason, Duration, LossState, State};

use crate::rig::Rig;

fn begin(rig: &mut Rig, events: usize, filter: Option<PacketFilter>) -> TraceReader {
    let (trace, reader) = trace(events, filter);
    assert!(rig.shard.trace(trace).is_some());
    reader
}

fn all(reader: &mut TraceReader) -> Vec<TraceEvent> {
    reader.look();
    let events = std::iter::from_fn(|| reader.pop()).collect();
    reader.look();
    events
}

fn decisions(reader: &mut TraceReader) -> Vec<Decision> {
    all(reader).into_iter().map(|event| event.decision).collect()
}

fn echo() -> Rig {
    let mut rig = Rig::new();
    rig.shard.add_service(Some(7), Box::new(Echo));
    rig
}

#[test]
fn a_connection_is_told_of_from_its_begin_to_its_end() {
    let mut rig = echo();
    let mut reader = begin(&mut rig, 1_000, None);
    let mut peer = rig.connect(40_000, 7);
    let word = peer.data(b"hello");
    rig.turn(&[word]);
    rig.now += Duration::from_millis(3);
    peer.take(&mut rig);
    let (ack, fin) = (peer.ack(), peer.fin());
    rig.turn(&[ack]);
    rig.turn(&[fin]);
    peer.take(&mut rig);
    let last = peer.ack();
    rig.turn(&[last]);
    let events = all(&mut reader);
    assert!(events.iter().all(|event| (event.quad.remote.port, event.missed) == (40_000, 0)));
    assert!(events.is_sorted_by_key(|event| event.at));
    let told: Vec<_> = events.iter().map(|event| event.decision).collect();
    assert!(matches!(told[0], Decision::Seen { state: State::Established, .. }), "{told:?}");
    assert!(told.iter().any(|decision| matches!(decision, Decision::Rtt { .. })), "{told:?}");
    let states: Vec<_> = told
        .iter()
        .filter_map(|decision| if let Decision::State { to, .. } = decision { Some(*to) } else { None })
        .collect();
    assert_eq!(states, [State::LastAck, State::Closed], "{told:?}");
    assert_eq!(told.last(), Some(&Decision::Ended(CloseReason::Normal)));
}

/// Nobody acknowledges: a probe, then timeouts, each with what was lost and sent again.
#[test]
fn timeouts_and_what_they_send_again_are_told_as_they_are_counted() {
    let mut rig = echo();
    let mut peer = rig.connect(40_000, 7);
    let mut reader = begin(&mut rig, 1_000, None);
    let word = peer.data(&[7; 1_000]);
    rig.turn(&[word]);
    for _ in 0..60 {
        rig.advance(Duration::from_millis(100));
    }
    let told = decisions(&mut reader);
    let sum = |of: &dyn Fn(&Decision) -> u64| told.iter().map(of).sum::<u64>();
    let timeouts = sum(&|decision| if let Decision::Timeout(times) = decision { *times } else { 0 });
    let segments = sum(&|decision| if let Decision::Again { segments, .. } = decision { *segments } else { 0 });
    let counters = rig.counters();
    assert!(timeouts >= 3, "{told:?}");
    assert_eq!(segments, counters.retransmits, "{told:?}");
    assert!(told.contains(&Decision::Lost(1_000)), "{told:?}");
    assert!(told.iter().any(|decision| matches!(decision, Decision::Recovery { to: LossState::Loss, .. })));
    assert!(
        told.iter().any(|decision| matches!(decision, Decision::Again { octets: 1_000, cause: Cause::Timeout, .. }))
    );
    // The loss comes before what is done about it.
    let place = |wanted: &dyn Fn(&Decision) -> bool| told.iter().position(wanted).unwrap();
    let timeout = place(&|decision| matches!(decision, Decision::Timeout(_)));
    let lost = place(&|decision| matches!(decision, Decision::Lost(_)));
    let again = told[lost..].iter().position(|decision| matches!(decision, Decision::Again { .. })).unwrap();
    assert!(timeout < lost && again > 0);
}

#[test]
fn only_those_that_are_wanted_are_told_of_and_nothing_is_kept_of_the_rest() {
    let mut rig = echo();
    let filter: PacketFilter = Box::new(|facts: &Facts| facts.ports == Some((40_001, 7)));
    let mut reader = begin(&mut rig, 1_000, Some(filter));
    let (mut one, mut two) = (rig.connect(40_000, 7), rig.connect(40_001, 7));
    let words = [one.data(b"one"), two.data(b"two")];
    rig.turn(&words);
    let resets = [one.rst(), two.rst()];
    rig.turn(&resets);
    let events = all(&mut reader);
    assert!(!events.is_empty() && events.iter().all(|event| event.quad.remote.port == 40_001), "{events:?}");
    assert_eq!(events.last().map(|event| event.decision), Some(Decision::Ended(CloseReason::Reset)));
    // Another one in its place is another one.
    rig.sent.clear();
    let _third = rig.connect(40_001, 7);
    assert!(matches!(decisions(&mut reader)[0], Decision::Seen { .. }));
}

#[test]
fn a_reader_that_stalls_misses_events_and_is_told() {
    let mut rig = echo();
    let mut reader = begin(&mut rig, 16, None);
    let mut peer = rig.connect(40_000, 7);
    for _ in 0..100 {
        let word = peer.data(b"hello");
        rig.turn(&[word]);
        rig.now += Duration::from_millis(5);
        peer.take(&mut rig);
        let ack = peer.ack();
        rig.turn(&[ack]);
    }
    let missed = reader.missed();
    assert!(missed > 20, "{missed}");
    assert_eq!(all(&mut reader).len(), 16);
    let word = peer.data(b"!");
    rig.turn(&[word]);
    rig.now += Duration::from_millis(50);
    peer.take(&mut rig);
    let ack = peer.ack();
    rig.turn(&[ack]);
    let told: u64 = all(&mut reader).iter().map(|event| u64::from(event.missed)).sum();
    assert_eq!(told, missed);
}

#[test]
fn one_listens_at_a_time() {
    let mut rig = echo();
    let reader = begin(&mut rig, 16, None);
    let (other, _reader) = trace(16, None);
    assert!(rig.shard.trace(other).is_none());
    drop(reader);
    let _reader = begin(&mut rig, 16, None);
}
