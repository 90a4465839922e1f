//! The records against scripts, against one flag an octet, and against a peer that wants them to grow.

use super::*;
use proptest::prelude::*;

const UNA: SeqNum = SeqNum(u32::MAX - 2_500);

fn at(millis: u64) -> Instant {
    Instant::from_millis(10_000 + millis)
}

fn flight(segments: u32) -> Scoreboard {
    let mut board = Scoreboard::default();
    for i in 1..=segments {
        board.sent(UNA + i * 1_000, at(u64::from(i)), Duration::ZERO, false);
    }
    board
}

fn sack(board: &mut Scoreboard, left: u32, right: u32) -> u32 {
    let before = board.sacked();
    let mut seen = 0;
    board.sack(UNA, UNA + left, UNA + right, |start, record| seen += record.end.above(start));
    assert_eq!(board.sacked() - before, seen, "what is news is told");
    seen
}

fn lose(board: &mut Scoreboard, upto: u32) -> Losses {
    board.mark_lost(UNA, UNA + upto, UNA, |_, _| Assessment::Lost)
}

#[test]
fn a_record_is_sixteen_octets() {
    assert_eq!(size_of::<Record>(), 16);
}

#[test]
fn what_leaves_together_is_one_record() {
    let mut board = Scoreboard::default();
    board.sent(UNA + 1_000, at(0), Duration::from_millis(2), false);
    board.sent(UNA + 2_000, at(2), Duration::from_millis(2), false);
    board.sent(UNA + 3_000, at(3), Duration::from_millis(2), false);
    assert_eq!(board.picture(UNA), ".2000 .3000 ", "not beyond the first one's time");
}

/// What leaves behind a retransmission is a record of its own, as long as there are few.
#[test]
fn a_retransmission_ends_the_record_before_it() {
    let grain = Duration::from_millis(9);
    let mut board = Scoreboard::default();
    board.sent(UNA + 1_000, at(0), grain, false);
    board.sent(UNA + 2_000, at(1), grain, false);
    board.resent(UNA, UNA, UNA + 1_000, at(2));
    board.sent(UNA + 3_000, at(3), grain, false);
    board.sent(UNA + 4_000, at(4), grain, false);
    assert_eq!(board.picture(UNA), "r1000 .2000 .4000 ");
    let mut board = flight(CROWDED as u32);
    for i in 0..100 {
        board.resent(UNA, UNA + i * 2_000, UNA + i * 2_000 + 1_000, at(2_000 + u64::from(i)));
        board.sent(UNA + CROWDED as u32 * 1_000 + i + 1, at(2_000 + u64::from(i)), Duration::ZERO, false);
    }
    assert_eq!(board.len(), CROWDED);
}

#[test]
fn the_short_way_of_an_acknowledgment_does_what_the_long_one_does() {
    for (sacked, ack) in [0, 1_000].into_iter().flat_map(|sacked| (1..=3_000).map(move |ack| (sacked, ack))) {
        let mut board = flight(3);
        sack(&mut board, 1_000, 1_000 + sacked);
        let (before, mut told) = (board.picture(UNA), Vec::new());
        let short = board.acknowledge_front(UNA + ack);
        assert_eq!(short.is_some(), ack <= 1_000, "only within the first record");
        let Some(part) = short else {
            assert_eq!(board.picture(UNA), before);
            continue;
        };
        let mut other = flight(3);
        sack(&mut other, 1_000, 1_000 + sacked);
        other.acknowledge(UNA, UNA + ack, |start, record| told.push((start, *record)));
        assert_eq!(told, [(UNA, part)]);
        assert_eq!(board.picture(UNA), other.picture(UNA));
        board.check(UNA + ack, UNA + 3_000);
    }
    let mut board = flight(2);
    lose(&mut board, 1_000);
    assert_eq!(board.acknowledge_front(UNA + 500), None, "lost");
    board.resent(UNA, UNA, UNA + 1_000, at(9));
    assert_eq!(board.acknowledge_front(UNA + 1_000), None, "sent again");
    assert_eq!(Scoreboard::default().acknowledge_front(UNA), None);
}

#[test]
fn rfc2018_5a_reports_split_and_join() {
    let mut board = flight(5);
    assert_eq!(sack(&mut board, 1_500, 2_500), 1_000);
    assert_eq!(board.picture(UNA), ".1000 .1500 s2500 .3000 .4000 .5000 ");
    assert_eq!(sack(&mut board, 1_000, 4_000), 2_000);
    assert_eq!(board.picture(UNA), ".1000 s4000 .5000 ");
    assert_eq!(sack(&mut board, 1_000, 4_000), 0, "told before");
    assert_eq!(sack(&mut board, 4_000, 4_500), 500);
    assert_eq!(board.picture(UNA), ".1000 s4500 .5000 ");
    let mut told = Vec::new();
    board.acknowledge(UNA, UNA + 2_000, |start, record| told.push((start - UNA, record.end - UNA)));
    assert_eq!(told, [(0, 1_000)], "what was reported is no news");
    assert_eq!((board.sacked(), board.lost()), (2_500, 0));
    board.acknowledge(UNA + 2_000, UNA + 5_000, |start, record| told.push((start - UNA, record.end - UNA)));
    assert_eq!(told, [(0, 1_000), (4_500, 5_000)]);
    assert_eq!((board.sacked(), board.lost(), board.len()), (0, 0, 0));
}

#[test]
fn lost_and_sent_again() {
    let mut board = flight(5);
    sack(&mut board, 3_000, 4_000);
    assert_eq!(lose(&mut board, 3_000).octets, 3_000);
    assert_eq!(board.first_lost(UNA, 1_000), Some((UNA, UNA + 3_000)), "one range of three records");
    board.resent(UNA, UNA, UNA + 1_500, at(100));
    assert_eq!(board.picture(UNA), "r1500 l2000 l3000 s4000 .5000 ");
    assert_eq!(board.first_lost(UNA, 1_000), Some((UNA + 1_500, UNA + 3_000)));
    board.resent(UNA, UNA + 1_500, UNA + 3_000, at(100));
    assert_eq!(board.picture(UNA), "r3000 s4000 .5000 ");
    assert_eq!(board.first_lost(UNA, 1_000), None);
    let marked = lose(&mut board, 3_000);
    assert_eq!(marked, Losses { octets: 3_000, resent: Some(at(100)) });
    board.forget_lost();
    assert_eq!((board.lost(), board.sacked()), (0, 1_000));
    board.check(UNA, UNA + 5_000);
}

/// OPS-24: a peer that reports single octets is sent a segment, not one for each gap.
#[test]
fn what_is_lost_within_a_segment_goes_as_one() {
    let mut board = flight(4);
    for left in [300, 600, 1_200, 2_900] {
        sack(&mut board, left, left + 1);
    }
    sack(&mut board, 3_500, 4_000);
    lose(&mut board, 3_500);
    assert_eq!(board.first_lost(UNA, 250), Some((UNA, UNA + 300)), "what fills a segment is for itself");
    assert_eq!(board.first_lost(UNA, 300), Some((UNA, UNA + 300)));
    assert_eq!(board.first_lost(UNA, 301), Some((UNA, UNA + 300)), "there is nothing behind the gap");
    assert_eq!(board.first_lost(UNA, 1_000), Some((UNA, UNA + 1_000)));
    board.resent(UNA, UNA, UNA + 1_000, at(50));
    assert_eq!(board.first_lost(UNA, 1_000), Some((UNA + 1_000, UNA + 2_000)));
    board.resent(UNA, UNA + 1_000, UNA + 2_000, at(50));
    assert_eq!(board.picture(UNA), "r2000 l2900 s2901 l3000 l3500 s4000 ", "reports of it are forgotten");
    board.resent(UNA, UNA + 2_900, UNA + 3_000, at(51));
    assert_eq!(board.first_lost(UNA, 2_000), Some((UNA + 2_000, UNA + 2_900)), "not beyond what is on its way");
    board.check(UNA, UNA + 4_000);
    for (reported, end) in [(LITTLE, 1_000), (LITTLE + 1, 300)] {
        let mut board = flight(2);
        sack(&mut board, 300, 300 + reported);
        lose(&mut board, 1_000);
        assert_eq!(board.first_lost(UNA, 1_000), Some((UNA, UNA + end)), "what is more than headers is not sent again");
    }
}

#[test]
fn what_the_device_has_not_taken_is_not_lost() {
    let mut board = flight(5);
    board.lose_all(UNA, UNA + 2_500, |_, _| false);
    assert_eq!(board.picture(UNA), "l1000 l2000 l2500 .3000 .4000 .5000 ");
}

#[test]
fn rfc6675_4a_lost_by_octets_or_by_ranges_above() {
    let mut board = flight(9);
    sack(&mut board, 2_000, 4_000);
    assert_eq!(board.mark_lost_by_sack(UNA, UNA + 9_000, 2_000).octets, 0, "two segments' worth is not enough");
    sack(&mut board, 4_000, 4_001);
    assert_eq!(board.mark_lost_by_sack(UNA, UNA + 9_000, 2_000).octets, 2_000);
    let mut board = flight(9);
    for left in [1_000, 3_000, 5_000] {
        sack(&mut board, left, left + 10);
    }
    assert_eq!(board.mark_lost_by_sack(UNA, UNA + 9_000, 2_000).octets, 1_000, "three ranges above the first");
    board.resent(UNA, UNA, UNA + 1_000, at(50));
    assert_eq!(board.mark_lost_by_sack(UNA, UNA + 9_000, 2_000).octets, 0, "no time, no second loss");
}

#[test]
fn rfc2018_5b_reports_that_were_taken_back() {
    let mut board = flight(3);
    sack(&mut board, 1_000, 3_000);
    board.acknowledge(UNA, UNA + 1_000, |_, _| {});
    assert!(board.take_reneged());
    assert!(!board.take_reneged());
    assert_eq!((board.sacked(), board.lost()), (0, 0));
    board.check(UNA + 1_000, UNA + 3_000);
}

/// OPS-24: neither many tiny reports nor many tiny segments make the records grow without bound.
#[test]
fn ops_24_a_hostile_peer_does_not_make_it_grow() {
    let mut board = flight(200);
    for octet in 0..100_000 {
        sack(&mut board, 2 * octet % 199_990 + 1, 2 * octet % 199_990 + 2);
    }
    assert!(board.len() <= FULL + 1, "{}", board.len());
    board.check(UNA, UNA + 200_000);
    // And what the peer leaves out can still be sent again, piece by piece.
    let marked = lose(&mut board, 200_000);
    assert!(marked.octets > 0);
    let mut time = 1_000;
    while let Some((start, end)) = board.first_lost(UNA, 1_000) {
        time += 1;
        board.resent(UNA, start, end.earlier(start + 100), at(time));
        assert!(board.len() <= 3 * FULL);
    }
    board.check(UNA, UNA + 200_000);
    assert!(board.has_room());
}

#[test]
fn many_small_transmissions_are_merged_when_it_is_crowded() {
    let mut board = flight(5_000);
    assert_eq!(board.len(), CROWDED);
    board.check(UNA, UNA + 5_000_000);
    let mut last = None;
    board.acknowledge(UNA, UNA + 5_000_000, |_, record| last = Some(record.sent));
    assert_eq!(last, Some(at(5_000)), "the latest time counts");
}

/// RFC6298-3a, RFC8985-6.2.2a: of parts that left at several times only the last left when the record says.
#[test]
fn what_is_merged_when_it_is_crowded_is_timed_by_its_end() {
    let crowded = || {
        let mut board = flight(256);
        board.sent(UNA + 257_000, at(300), Duration::ZERO, false);
        board.sent(UNA + 258_000, at(310), Duration::ZERO, false);
        assert_eq!(board.len(), 256);
        board
    };
    let mut told = Vec::new();
    let mut see = |_: SeqNum, record: &Record| told.push((record.end - UNA, record.timed()));
    let mut board = crowded();
    board.sack(UNA, UNA + 254_000, UNA + 255_000, &mut see);
    board.sack(UNA, UNA + 255_000, UNA + 256_000, &mut see);
    board.sack(UNA, UNA + 257_000, UNA + 258_000, &mut see);
    board.sack(UNA, UNA + 256_000, UNA + 257_000, &mut see);
    let mut board = crowded();
    board.acknowledge(UNA, UNA + 255_000, |_, _| {});
    board.acknowledge(UNA + 255_000, UNA + 256_000, &mut see);
    board.acknowledge(UNA + 256_000, UNA + 258_000, &mut see);
    let sacked = [(255_000, true), (256_000, false), (258_000, true), (257_000, false)];
    assert_eq!(told, [&sacked[..], &[(256_000, false), (258_000, true)]].concat());
}

#[test]
fn an_idle_connection_keeps_next_to_nothing() {
    let mut board = flight(200);
    board.acknowledge(UNA, UNA + 200_000, |_, _| {});
    assert!(board.records.capacity() >= 200, "more data may follow");
    board.trim();
    assert!(board.records.capacity() <= KEPT);
}

/// A peer may drop what it has reported, and after a timeout it is sent again.
#[test]
fn what_is_sent_again_counts_neither_as_arrived_nor_as_lost() {
    let mut board = flight(4);
    sack(&mut board, 1_000, 3_000);
    lose(&mut board, 1_000);
    assert_eq!((board.sacked(), board.lost()), (2_000, 1_000));
    board.resent(UNA, UNA, UNA + 2_000, at(50));
    assert_eq!((board.sacked(), board.lost()), (1_000, 0));
}

/// Even when the peer drops it after all: which copy it has then is not known.
#[test]
fn what_was_sent_again_is_known_to_have_been_after_it_was_reported() {
    let mut board = flight(3);
    board.resent(UNA, UNA, UNA + 1_000, at(50));
    sack(&mut board, 0, 1_000);
    sack(&mut board, 1_000, 2_000);
    assert_eq!(board.picture(UNA), "s2000 .3000 ", "one record");
    assert!(board.records[0].resent());
}

#[test]
fn a_crowd_that_is_acknowledged_gives_back_what_no_stream_needs() {
    for front in [true, false] {
        let mut board = flight(1);
        board.records.reserve(4 * CROWDED);
        if front {
            assert!(board.acknowledge_front(UNA + 1_000).is_some());
        } else {
            board.acknowledge(UNA, UNA + 1_000, |_, _| {});
        }
        assert_eq!(board.records.capacity(), CROWDED, "{front}");
    }
}

#[test]
fn room_grows_in_few_steps_and_stays_while_something_is_in_flight() {
    assert_eq!([1, 5, 17].map(|segments| flight(segments).capacity()), [KEPT, 16, CROWDED]);
    let mut board = flight(10);
    board.records.reserve(2 * CROWDED);
    let room = board.capacity();
    board.acknowledge(UNA, UNA + 9_000, |_, _| {});
    assert_eq!(board.capacity(), room);
}

#[test]
fn a_stream_has_its_records_at_once() {
    let mut board = flight(KEPT as u32 + 1);
    let mut send = |i: u32| {
        board.sent(UNA + (KEPT as u32 + 2 + i) * 1_000, at(1_000 + u64::from(i)), Duration::ZERO, true);
        board.records.capacity()
    };
    let capacity = send(0);
    assert!(capacity >= CROWDED);
    for i in 1..CROWDED as u32 {
        send(i);
    }
    assert_eq!(board.records.capacity(), capacity, "no segment of it allocates");
}

/// Octets of a segment there.
const MSS: usize = 20;

/// One flag an octet.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Octet {
    Sent,
    Sacked,
    Lost,
}

#[derive(Clone, Debug)]
enum Step {
    Send(u32),
    Ack(u32),
    Sack(u32, u32),
    Lose(u32),
    Resend(u32),
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..40_u32).prop_map(Step::Send),
        2 => (0..60_u32).prop_map(Step::Ack),
        4 => (1..200_u32, 1..50_u32).prop_map(|(left, len)| Step::Sack(left, len)),
        2 => (0..200_u32).prop_map(Step::Lose),
        3 => (1..60_u32).prop_map(Step::Resend),
        1 => Just(Step::Forget),
    ]
}

proptest! {
    #[test]
    fn agrees_with_one_flag_an_octet(base in any::<u32>(), steps in prop::collection::vec(step(), 1..80)) {
        let mut board = Scoreboard::default();
        let mut line: Vec<Octet> = Vec::new();
        let mut una = SeqNum(base);
        for (time, step) in steps.into_iter().enumerate() {
            let (now, len) = (at(time as u64), line.len() as u32);
            match step {
                Step::Send(octets) => {
                    board.sent(una + len + octets, now, Duration::from_millis(1), false);
                    line.extend((0..octets).map(|_| Octet::Sent));
                }
                Step::Ack(octets) => {
                    let octets = octets.min(len);
                    let mut fresh = 0;
                    board.acknowledge(una, una + octets, |start, part| fresh += part.end.above(start));
                    let known = line.drain(..octets as usize).filter(|octet| *octet == Octet::Sacked).count();
                    prop_assert_eq!(fresh as usize + known, octets as usize);
                    una += octets;
                }
                Step::Sack(left, octets) => {
                    let (left, right) = (left.min(len), (left + octets).min(len));
                    let mut fresh = 0;
                    if left < right {
                        board.sack(una, una + left, una + right, |start, part| fresh += part.end.above(start));
                    }
                    let range = &mut line[left as usize..right as usize];
                    prop_assert_eq!(fresh as usize, range.iter().filter(|octet| **octet != Octet::Sacked).count());
                    range.fill(Octet::Sacked);
                }
                Step::Lose(upto) => {
                    let upto = upto.min(len);
                    board.lose_all(una, una + upto, |_, _| false);
                    for octet in line[..upto as usize].iter_mut().filter(|octet| **octet == Octet::Sent) {
                        *octet = Octet::Lost;
                    }
                }
                Step::Resend(most) => {
                    let first = line.iter().position(|octet| *octet == Octet::Lost);
                    let lost = board.first_lost(una, MSS as u32);
                    prop_assert_eq!(lost.map(|(start, _)| (start - una) as usize), first);
                    if let (Some((start, end)), Some(first)) = (lost, first) {
                        let run = line[first..].iter().take_while(|octet| **octet == Octet::Lost).count();
                        let near = line[first..].iter().take(MSS).take_while(|octet| **octet != Octet::Sent);
                        let last = near.enumerate().filter(|(_, octet)| **octet == Octet::Lost).last();
                        let range = run.max(last.map_or(0, |(place, _)| place + 1));
                        prop_assert_eq!((end - start) as usize, range);
                        let octets = range.min(most as usize);
                        board.resent(una, start, start + octets as u32, now);
                        line[first..first + octets].fill(Octet::Sent);
                    }
                }
                Step::Forget => {
                    board.forget_sacked();
                    board.forget_lost();
                    line.fill(Octet::Sent);
                }
            }
            board.check(una, una + line.len() as u32);
            let count = |flag| line.iter().filter(|octet| **octet == flag).count() as u32;
            prop_assert_eq!((board.sacked(), board.lost()), (count(Octet::Sacked), count(Octet::Lost)));
        }
    }
}
