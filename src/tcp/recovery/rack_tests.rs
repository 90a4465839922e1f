//! RFC 8985 section 6 by numbers, at a place where numbers wrap.

use super::*;
use crate::tcp::recovery::scoreboard::{Losses, Scoreboard};

const UNA: SeqNum = SeqNum(u32::MAX - 1_500);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(10_000 + millis)
}

/// Ten segments of 1000 octets, a millisecond apart.
fn flight() -> (Scoreboard, Rack) {
    let mut board = Scoreboard::default();
    for i in 1..=10 {
        board.sent(UNA + i * 1_000, at(u64::from(i)), Duration::ZERO, false);
    }
    (board, Rack::new(UNA))
}

/// The peer reports the segments `from..to`, 100 ms after `from` was sent.
fn report(board: &mut Scoreboard, rack: &mut Rack, from: u32, to: u32, now: Instant) {
    board.sack(UNA, UNA + from * 1_000, UNA + to * 1_000, |_, record| {
        rack.on_delivered(record, now, ms(100), false);
    });
}

fn detect(board: &mut Scoreboard, rack: &Rack, now: Instant, window: Duration) -> (Losses, Duration) {
    let mut remaining = Duration::ZERO;
    let marked = board.mark_lost(UNA, UNA + 10_000, UNA, |_, record| rack.assess(record, now, window, &mut remaining));
    (marked, remaining)
}

#[test]
fn rfc8985_6_2_5_what_was_sent_before_something_delivered_is_lost_after_the_window() {
    let (mut board, mut rack) = flight();
    // The third segment left at 3 ms and arrives at 103 ms.
    report(&mut board, &mut rack, 2, 3, at(103));
    let (marked, remaining) = detect(&mut board, &rack, at(103), ms(25));
    assert_eq!((marked.octets, remaining), (0, ms(24)), "the second left one millisecond before the third");
    let (marked, remaining) = detect(&mut board, &rack, at(126), ms(25));
    assert_eq!((marked.octets, remaining), (1_000, ms(1)), "the first is lost at 1 + 100 + 25");
    let (marked, remaining) = detect(&mut board, &rack, at(127), ms(25));
    assert_eq!((marked.octets, remaining), (1_000, Duration::ZERO));
    assert_eq!(board.lost(), 2_000, "what left later is not judged");
}

#[test]
fn rfc8985_6_2_4a_no_window_once_dupthresh_is_reached_and_nothing_was_reordered() {
    let (mut board, mut rack) = flight();
    report(&mut board, &mut rack, 1, 4, at(104));
    assert!(!rack.reordering);
    assert_eq!(rack.window(ms(100), Some(ms(120)), true), Duration::ZERO);
    assert_eq!(rack.window(ms(100), Some(ms(120)), false), ms(25));
    let (marked, _) = detect(&mut board, &rack, at(104), Duration::ZERO);
    assert_eq!(marked.octets, 1_000);
}

#[test]
fn rfc8985_6_2_3_reordering_is_seen_below_what_was_delivered_unless_it_was_sent_again() {
    let (mut board, mut rack) = flight();
    report(&mut board, &mut rack, 2, 3, at(103));
    report(&mut board, &mut rack, 1, 2, at(104));
    assert!(rack.reordering);
    assert_eq!(rack.window(ms(100), Some(ms(120)), true), ms(25), "also in recovery");

    let (mut board, mut rack) = flight();
    report(&mut board, &mut rack, 2, 3, at(103));
    board.resent(UNA, UNA + 1_000, UNA + 2_000, at(104));
    report(&mut board, &mut rack, 1, 2, at(300));
    assert!(!rack.reordering);
}

#[test]
fn rfc8985_6_2_a_lost_retransmission_is_found_by_what_was_sent_after_it() {
    let (mut board, mut rack) = flight();
    report(&mut board, &mut rack, 1, 4, at(104));
    detect(&mut board, &rack, at(104), Duration::ZERO);
    board.resent(UNA, UNA, UNA + 1_000, at(105));
    board.sent(UNA + 11_000, at(106), Duration::ZERO, false);
    report(&mut board, &mut rack, 10, 11, at(206));
    let resent_end = UNA + 1_000;
    let mut remaining = Duration::ZERO;
    let marked = board.mark_lost(UNA, UNA + 11_000, resent_end, |_, record| {
        rack.assess(record, at(206), Duration::ZERO, &mut remaining)
    });
    assert_eq!(marked.resent, Some(at(105)));
    assert_eq!(marked.octets, 1_000 + 6_000, "and with it the originals that left before");
}

#[test]
fn rfc8985_6_2_2a_an_answer_to_the_first_copy_says_nothing_about_the_second() {
    for (echo_older, delay, counts) in [(true, 150, false), (false, 50, false), (false, 150, true)] {
        let (mut board, mut rack) = flight();
        board.resent(UNA, UNA, UNA + 1_000, at(500));
        board.sack(UNA, UNA, UNA + 1_000, |_, record| {
            rack.on_delivered(record, at(500 + delay), ms(100), echo_older);
        });
        let (marked, _) = detect(&mut board, &rack, at(500 + delay), Duration::ZERO);
        assert_eq!(marked.octets > 0, counts, "echo older: {echo_older}, after {delay} ms");
    }
}

/// SC-64
#[test]
fn rfc8985_6_2_4b_each_round_with_a_dsack_widens_the_window_for_sixteen_recoveries() {
    let mut rack = Rack::new(UNA);
    let window = |rack: &Rack| rack.window(ms(100), Some(ms(120)), false);
    rack.on_dsack(UNA, UNA + 10_000);
    rack.on_dsack(UNA + 9_999, UNA + 20_000);
    assert_eq!(window(&rack), ms(50), "once a round");
    rack.on_dsack(UNA + 10_000, UNA + 20_000);
    assert_eq!(window(&rack), ms(75));
    for _ in 0..15 {
        rack.on_recovered();
    }
    assert_eq!(window(&rack), ms(75));
    rack.on_recovered();
    assert_eq!(window(&rack), ms(25));
    for round in 0..300 {
        rack.on_dsack(UNA + round * 10_000, UNA + (round + 1) * 10_000);
    }
    assert_eq!(window(&rack), ms(120), "never more than SRTT");
}

#[test]
fn rfc8985_6_3_overdue_is_what_left_a_round_trip_and_the_window_ago() {
    let (mut board, mut rack) = flight();
    report(&mut board, &mut rack, 2, 3, at(103));
    let lost_at = |now| {
        let mut board = board.clone();
        board.lose_all(UNA, UNA + 10_000, |_, record| !rack.is_overdue(record, now, ms(25)));
        board.lost()
    };
    assert_eq!([at(125), at(126), at(127), at(140)].map(lost_at), [0, 1_000, 2_000, 9_000]);
}

#[test]
fn without_a_sample_the_window_is_short_but_not_none() {
    let rack = Rack::new(UNA);
    assert_eq!(rack.window(Duration::MAX, None, false), Duration::from_micros(1));
    assert_eq!(rack.window(Duration::ZERO, Some(Duration::ZERO), false), Duration::from_micros(1));
}

/// A round trip of no time at all, as between two stacks under one virtual clock: what is sent again at that moment is
/// not lost again at that moment.
#[test]
fn what_was_sent_again_just_now_is_not_overdue() {
    let mut board = Scoreboard::default();
    for i in 1..=10 {
        board.sent(UNA + i * 1_000, at(0), Duration::ZERO, false);
    }
    let mut rack = Rack::new(UNA);
    report(&mut board, &mut rack, 1, 10, at(0));
    for (now, lost) in [(0, 1_000), (0, 0), (1, 1_000), (1, 0)] {
        assert_eq!(detect(&mut board, &rack, at(now), Duration::ZERO).0.octets, lost, "at {now} ms");
        board.resent(UNA, UNA, UNA + 1_000, at(now));
    }
}
