//! What a sender must not be led astray by: acknowledgments that come singly, probes that repair, reports and echoes that
//! are about something else or about nothing at all. The path has a round trip of 100 ms.

use std::collections::{BTreeSet, VecDeque};

use super::harness::{Host, Isn, each_isn, plain};
use trust::tcp::{Config, CongestionControl, Duration, Info};

/// An active open that takes one round trip; the peer's SYN,ACK has these options beside the MSS.
fn open(isn: Isn, config: Config, options: &str) -> Host {
    let mut host = Host::connect(isn, config);
    host.take();
    host.advance(100);
    host.inject(&format!("SA 0:0 ack 1 win 65535 <mss 1000{options}>"));
    host.take();
    host
}

/// [`open`] with SACK, and ten segments in flight for a round trip.
fn flying(isn: Isn, config: Config) -> Host {
    let mut host = open(isn, config, ", sackOK");
    host.write(10_000);
    host.expect_data(1, 10_001, 1_000);
    host.advance(100);
    host
}

// ---- how far the window was used ------------------------------------------------------------------------------------

/// RFC5681-3.1f, RFC9438-5.8: the window was full when what is acknowledged left, whatever is in flight by now.
#[test]
fn a_full_window_that_is_acknowledged_singly_doubles() {
    for congestion in CongestionControl::ALL {
        each_isn(|isn| {
            let mut host = Host::established(isn, Config { congestion, ..plain() });
            for (from, to) in [(1, 10_001), (10_001, 30_001)] {
                host.write((to - from) as u32);
                host.expect_data(from, to, 1_000);
                for ack in (from + 1_000..=to).step_by(1_000) {
                    host.inject(&format!("A 1:1 ack {ack}"));
                }
                assert_eq!(i64::from(host.info().cwnd), 2 * (to - from));
            }
        });
    }
}

/// The same where the application has a little more by then: what leaves late makes the early part of the flight no less.
#[test]
fn what_trickles_after_a_full_window_does_not_take_its_growth() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(10_000);
        host.expect_data(1, 10_001, 1_000);
        for ack in (1_001..=8_001).step_by(1_000) {
            host.inject(&format!("A 1:1 ack {ack}"));
        }
        host.write(1_000);
        host.expect("A 10001:11001");
        host.inject("A 1:1 ack 9001");
        host.inject("A 1:1 ack 10001");
        assert_eq!(host.info().cwnd, 20_000);
    });
}

/// RFC5681-3.1h: in congestion avoidance, too, a window that was filled to the last octet was full.
#[test]
fn a_full_window_with_nothing_behind_it_grows_in_avoidance() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        let mut at = after_a_loss(&mut host);
        for _ in 0..6 {
            let cwnd = host.info().cwnd;
            at = round(&mut host, at, cwnd / 1_000);
            assert_eq!(host.info().cwnd, cwnd + 1_000);
        }
    });
}

/// RFC9438-5.8: a window that is not used is not proven, in slow start, after a full window and in congestion avoidance.
#[test]
fn application_limited_senders_do_not_grow_cwnd() {
    for congestion in CongestionControl::ALL {
        each_isn(|isn| {
            let config = Config { congestion, slow_start_after_idle: false, ..plain() };
            // Half of the window is the most that leaves it as it is: the window doubles each round trip.
            for segments in [1, 2, 5] {
                let mut host = Host::established(isn, config);
                let mut at = 1;
                for _ in 0..50 {
                    at = round(&mut host, at, segments);
                }
                assert_eq!(host.info().cwnd, 10_000, "{segments} segments each round trip");
            }
            // More than half: to twice of what was used, and no further.
            let mut host = Host::established(isn, config);
            let mut at = 1;
            for _ in 0..50 {
                at = round(&mut host, at, 8);
            }
            assert!(host.info().cwnd <= 16_000, "{}", host.info().cwnd);
            // One full window, and then a segment at a time, each before the one before is acknowledged.
            let mut host = Host::established(isn, config);
            at = round(&mut host, 1, 10);
            let cwnd = host.info().cwnd;
            for _ in 0..50 {
                host.write(1_000);
                host.expect(&format!("A {at}:{}", at + 1_000));
                if at > 10_001 {
                    host.inject(&format!("A 1:1 ack {at}"));
                }
                at += 1_000;
            }
            assert_eq!(host.info().cwnd, cwnd);
            // In congestion avoidance.
            let mut host = Host::established(isn, config);
            let mut at = after_a_loss(&mut host);
            let cwnd = host.info().cwnd;
            for _ in 0..50 {
                at = round(&mut host, at, cwnd / 1_000 - 1);
                host.advance(100);
            }
            assert_eq!(host.info().cwnd, cwnd);
        });
    }
}

/// RFC9438-5.8: a flight that is larger than the full window before it is not full for that. In slow start it proves
/// twice of itself.
#[test]
fn what_follows_a_full_window_does_not_have_its_growth() {
    for congestion in CongestionControl::ALL {
        each_isn(|isn| {
            let mut host = Host::established(isn, Config { congestion, ..plain() });
            host.write(10_000);
            host.expect_data(1, 10_001, 1_000);
            for ack in (1_001..=5_001).step_by(1_000) {
                host.inject(&format!("A 1:1 ack {ack}"));
            }
            host.write(6_000);
            host.expect_data(10_001, 16_001, 1_000);
            for ack in (6_001..=16_001).step_by(1_000) {
                host.inject(&format!("A 1:1 ack {ack}"));
            }
            assert_eq!(host.info().cwnd, 22_000);
        });
    }
}

/// So many segments leave and are acknowledged one by one. Gives what is next.
fn round(host: &mut Host, at: i64, segments: u32) -> i64 {
    let end = at + i64::from(segments) * 1_000;
    host.write(segments * 1_000);
    host.expect_data(at, end, 1_000);
    for ack in (at + 1_000..=end).step_by(1_000) {
        host.inject(&format!("A 1:1 ack {ack}"));
    }
    end
}

/// One of ten segments is lost, and all is repaired. Gives what is next.
fn after_a_loss(host: &mut Host) -> i64 {
    host.write(10_000);
    host.expect_data(1, 10_001, 1_000);
    for _ in 0..2 {
        host.inject("A 1:1 ack 1");
    }
    host.inject("A 1:1 ack 1");
    host.expect("A 1:1001");
    host.inject("A 1:1 ack 10001");
    assert_eq!(host.info().cwnd, host.info().ssthresh);
    10_001
}

// ---- what was in flight when something was lost -----------------------------------------------------------------------

/// RFC8985-7.4c: the probe tells of the loss when hardly anything is in flight any more.
#[test]
fn a_loss_that_a_probe_repaired_counts_with_the_flight_it_was_lost_from() {
    each_isn(|isn| {
        let mut host = flying(isn, plain());
        host.inject("A 1:1 ack 9001");
        host.expect_after(200, 400, "A 9001:10001");
        host.advance(100);
        host.inject("A 1:1 ack 10001");
        host.write(1_000);
        host.expect("A 10001:11001");
        host.advance(100);
        host.inject("A 1:1 ack 11001");
        assert_eq!(host.info().recovery.tail_losses, 1);
        assert_eq!(host.info().ssthresh, 5_000);
    });
}

/// RFC5681-3.1i: so does the timer.
#[test]
fn a_tail_that_times_out_counts_with_the_flight_it_was_lost_from() {
    each_isn(|isn| {
        let mut host = open(isn, plain(), "");
        host.write(10_000);
        host.expect_data(1, 10_001, 1_000);
        host.advance(100);
        host.inject("A 1:1 ack 9001");
        host.expect_after(200, 600, "A 9001:10001");
        assert_eq!((host.info().ssthresh, host.info().cwnd), (5_000, 1_000));
        host.inject("A 1:1 ack 10001");
    });
}

/// RFC5681-3.2.2: and what is found by the reports of a little that was sent later.
#[test]
fn a_loss_that_later_data_shows_counts_with_the_flight_it_was_lost_from() {
    each_isn(|isn| {
        let mut host = flying(isn, Config { tlp: false, ..plain() });
        host.inject("A 1:1 ack 9001");
        host.write(3_000);
        host.expect_data(10_001, 13_001, 1_000);
        host.advance(100);
        host.inject("A 1:1 ack 9001 <sack 10001:13001>");
        host.expect("A 9001:10001");
        assert_eq!(host.info().ssthresh, 5_000);
        host.inject("A 1:1 ack 13001");
    });
}

// ---- duplicates that are reported ---------------------------------------------------------------------------------

/// RFC 3708: two minutes later a duplicate is reported, of something else or even of what was sent again.
#[test]
fn a_duplicate_long_after_a_recovery_does_not_undo_it() {
    for late in ["9001:10001", "1:1001"] {
        each_isn(|isn| {
            let mut host = flying(isn, plain());
            host.inject("A 1:1 ack 1 <sack 1001:4001>");
            host.expect("A 1:1001");
            host.inject("A 1:1 ack 10001");
            assert_eq!(host.info().ssthresh, 5_000);
            host.advance(120_000);
            host.inject(&format!("A 1:1 ack 10001 <sack {late}>"));
            assert_eq!((host.info().ssthresh, host.info().recovery.undone_by_dsack), (5_000, 0));
            host.write(1_000);
            host.expect("A 10001:11001");
            host.inject("A 1:1 ack 11001");
            host.inject(&format!("A 1:1 ack 11001 <sack {late}>"));
            assert_eq!((host.info().ssthresh, host.info().recovery.undone_by_dsack), (5_000, 0));
        });
    }
}

/// RFC 3708: each of the octets that were sent again must be reported.
#[test]
fn duplicates_of_some_or_of_others_do_not_undo_a_recovery() {
    for (reports, undone) in [
        (vec!["1:1001", "2001:3001"], 1),
        (vec!["2001:3001", "1:1001"], 1),
        (vec!["1:501", "2001:3001", "501:1001"], 1),
        (vec!["1:1001"], 0),
        (vec!["1:1001", "1:1001"], 0),
        (vec!["1:1001", "2001:2501"], 0),
        (vec!["1:1001", "1001:2001"], 0),
        (vec!["4001:5001", "5001:6001", "6001:7001"], 0),
    ] {
        each_isn(|isn| {
            let mut host = flying(isn, Config { initial_window: 20, ..plain() });
            host.inject("A 1:1 ack 1 <sack 1001:2001 3001:10001>");
            let mut again: Vec<_> = host.take_all().iter().map(|sent| sent.script.seq).collect();
            host.inject("A 1:1 ack 2001 <sack 3001:10001>");
            again.extend(host.take_all().iter().map(|sent| sent.script.seq));
            assert_eq!(again, [1, 2_001]);
            host.inject("A 1:1 ack 10001");
            for report in &reports {
                host.inject(&format!("A 1:1 ack 10001 <sack {report}>"));
            }
            assert_eq!(host.info().recovery.undone_by_dsack, undone, "{reports:?}");
            assert_eq!(host.info().ssthresh == 5_000, undone == 0, "{reports:?}");
        });
    }
}

/// RFC 3708: a segment that was sent again twice, by a recovery and by the timer in it, must be reported twice.
#[test]
fn two_copies_that_were_needless_are_two_duplicates() {
    each_isn(|isn| {
        let mut host = flying(isn, plain());
        host.inject("A 1:1 ack 1 <sack 1001:4001>");
        host.expect("A 1:1001");
        host.expect_after(250, 350, "A 1:1001");
        assert_eq!((host.info().timeouts, host.info().cwnd), (1, 1_000));
        host.inject("A 1:1 ack 10001");
        for undone in [0, 1] {
            host.inject("A 1:1 ack 10001 <sack 1:1001>");
            assert_eq!((host.info().recovery.undone_by_dsack, host.info().cwnd > 5_000), (undone, undone == 1));
        }
    });
}

/// RFC8985-7.4c: what a probe has taken back is another loss than that of the recovery before it.
#[test]
fn a_duplicate_does_not_undo_what_a_probe_has_shown() {
    each_isn(|isn| {
        let mut host = flying(isn, plain());
        host.inject("A 1:1 ack 1 <sack 1001:4001>");
        host.expect("A 1:1001");
        host.inject("A 1:1 ack 10001");
        host.write(4_000);
        host.expect_data(10_001, 14_001, 1_000);
        host.inject("A 1:1 ack 13001");
        host.expect_after(100, 320, "A 13001:14001");
        host.inject("A 1:1 ack 14001");
        host.write(1_000);
        host.expect("A 14001:15001");
        host.inject("A 1:1 ack 15001");
        assert_eq!(host.info().recovery.tail_losses, 1);
        let ssthresh = host.info().ssthresh;
        host.inject("A 1:1 ack 15001 <sack 1:1001>");
        assert_eq!(host.info().ssthresh, ssthresh);
    });
}

/// SC-32, RFC2883-5a: below what was ever sent, above it, the wrong way round, empty, too long, out of date.
#[test]
fn absurd_blocks_change_nothing() {
    let state =
        |info: Info| (info.cwnd, info.ssthresh, info.sacked, info.lost, info.recovery, info.loss_state, info.rto);
    // With ten segments in flight, and in a recovery that a true report could undo.
    for recovering in [false, true] {
        each_isn(|isn| {
            let mut host = open(isn, Config { tlp: false, ..plain() }, ", sackOK");
            host.send_and_ack(70_000);
            host.write(10_000);
            host.expect_data(70_001, 80_001, 1_000);
            host.advance(100);
            if recovering {
                host.inject("A 1:1 ack 70001 <sack 71001:74001>");
                host.expect("A 70001:71001");
            }
            let before = state(host.info());
            let (una, nxt) = (70_001_i64, host.sent_upto());
            let far = [1_i64 << 20, 1 << 28, 1 << 30, (1 << 31) - 1];
            let mut blocks = vec![
                (0, 1),          // our SYN
                (-1_000, 0),     // below it
                (-1_000, 1_001), // across it
                (1, 1_001),      // longer ago than any window
                (una, una),      // empty
                (una - 500, una - 500),
                (una, una + 1_000), // nothing out of order
                (una, una - 1_000), // the wrong way round
                (nxt, una),
                (una + 3_000, una + 500),
                (nxt, nxt + 1_000), // never sent
                (nxt - 1_000, nxt + 1),
                (una, nxt + 1),
                (una - 66_000, una), // more than any window
                (una - 60_000, nxt),
                (una - 69_000, nxt),
            ];
            for distance in far {
                blocks.extend([una, nxt].map(|at| (at - distance, at - distance + 1_000)));
                blocks.extend([una, nxt].map(|at| (at + distance - 1_000, at + distance)));
                blocks.extend([(una - distance, una), (una - distance, nxt), (nxt, nxt + distance)]);
            }
            for (left, right) in &blocks {
                for block in [
                    format!("{left}:{right}"),
                    // As if it were a duplicate within the second.
                    format!("{left}:{right} {}:{}", left - 1_000, right + 1_000),
                    format!("{left}:{right} {left}:{right}"),
                ] {
                    host.inject(&format!("A 1:1 ack {una} <sack {block}>"));
                    host.take_all();
                    assert_eq!(state(host.info()), before, "{block}");
                }
            }
            // The window for what is late has not grown by it (RFC8985-6.2.4b): a true hole is found as ever.
            host.inject(&format!("A 1:1 ack {nxt}"));
            host.take_all();
            let dsacks = host.info().recovery.dsacks;
            assert_eq!(dsacks, 0);
        });
    }
}

/// RFC8985-6.2.4b: what the network has made two of was not sent again in vain.
#[test]
fn duplicates_that_were_never_sent_twice_leave_less_time_for_what_is_late() {
    each_isn(|isn| {
        let mut host = flying(isn, plain());
        host.inject("A 1:1 ack 1 <sack 1001:2001>");
        host.inject("A 1:1 ack 10001");
        for copy in (1..10_001).step_by(1_000) {
            host.inject(&format!("A 1:1 ack 10001 <sack {copy}:{}>", copy + 1_000));
            host.take_all();
            host.write(1_000);
            host.take();
            let end = host.sent_upto();
            host.advance(100);
            host.inject(&format!("A 1:1 ack {end}"));
        }
        let at = host.sent_upto();
        host.write(5_000);
        host.expect_data(at, at + 5_000, 1_000);
        host.advance(100);
        host.inject(&format!("A 1:1 ack {at} <sack {}:{}>", at + 1_000, at + 4_000));
        host.expect_after(20, 30, &format!("A {at}:{}", at + 1_000));
        host.inject(&format!("A 1:1 ack {}", at + 5_000));
    });
}

// ---- echoes -------------------------------------------------------------------------------------------------------

/// A receiver that keeps what it gets, acknowledges each segment, and echoes always the same. Of all transmissions it does
/// not get those that `lost` counts. How many ms 20 kB take.
fn with_echo(isn: Isn, config: Config, options: &str, echo: &str, lost: &[usize]) -> u64 {
    let mut host = open(isn, config, &format!(", ts 100 *{options}"));
    let start = host.now();
    host.write(20_000);
    let (mut way, mut got) = (VecDeque::new(), BTreeSet::new());
    let (mut next, mut stamp, mut count) = (1, 100, 0);
    while host.unacked() > 0 {
        assert!((host.now() - start).as_secs() < 20, "echo {echo}{options}, lost {lost:?}: {} left", host.unacked());
        for sent in host.take_all().into_iter().filter(|sent| sent.script.len > 0) {
            if !lost.contains(&count) {
                way.push_back((sent.at + Duration::from_millis(100), sent.script));
            }
            count += 1;
        }
        if way.front().is_none_or(|(due, _)| *due > host.now()) {
            host.advance(10);
            continue;
        }
        let (_, script) = way.pop_front().unwrap();
        got.insert((script.seq, script.seq + i64::from(script.len)));
        while let Some((_, end)) = got.iter().find(|(from, to)| *from <= next && *to > next) {
            next = *end;
        }
        stamp += 1;
        host.inject(&format!("A 1:1 ack {next} <ts {stamp} {echo}>"));
    }
    (host.now() - start).as_millis()
}

/// RFC3522-3.2: only an echo of what was sent in this flight, and before anything of it was sent again, is a proof.
#[test]
fn an_echo_of_nothing_in_flight_proves_no_needless_timeout() {
    let zero = 0_u32.wrapping_sub(0x1234_5678);
    let forever = (100_000_u32 - 5_000).to_string();
    for echo in [zero.to_string(), forever] {
        for options in ["", ", sackOK"] {
            for frto in [true, false] {
                each_isn(|isn| {
                    let config = Config { frto, ..plain() };
                    for lost in [vec![0, 1, 2, 3, 4, 5, 6, 7, 8, 9], (0..12).collect(), vec![0, 2, 4, 6, 8]] {
                        let took = with_echo(isn, config, options, &echo, &lost);
                        assert!(took < 6_000, "{took} ms, echo {echo}{options}, lost {lost:?}");
                    }
                });
            }
        }
    }
}

/// RFC8985-6.2.2a: a report has an echo of what came in order, from before the probe, and yet tells of the probe: what was
/// lost before it is found.
#[test]
fn what_a_probe_brings_tells_of_a_longer_tail() {
    for options in [", sackOK", ", sackOK, ts 100 *"] {
        each_isn(|isn| {
            let mut host = open(isn, plain(), options);
            let size = if options.contains("ts") { 988 } else { 1_000 };
            let at = |segment: i64| 1 + segment * size;
            host.write(10 * size as u32);
            let stamps = host.take().script.options.and_then(|options| options.timestamps);
            let echo = stamps.map_or(String::new(), |(val, _)| format!("ts 101 {}", val.unwrap()));
            host.take_all();
            host.advance(100);
            host.inject(&format!("A 1:1 ack {} <{echo}>", at(6)));
            host.expect_after(150, 250, &format!("A {}:{}", at(9), at(10)));
            host.advance(100);
            let comma = if echo.is_empty() { "" } else { ", " };
            host.inject(&format!("A 1:1 ack {} <{echo}{comma}sack {}:{}>", at(6), at(9), at(10)));
            host.expect(&format!("A {}:{}", at(6), at(7)));
            assert_eq!((host.info().timeouts, host.info().recovery.fast_recoveries), (0, 1));
        });
    }
}

/// RFC3522-3.2: what one recovery has sent again last is acknowledged in the next. That is no echo of a first copy.
#[test]
fn the_echo_of_an_earlier_recoverys_copy_proves_nothing() {
    each_isn(|isn| {
        let mut host = open(isn, Config { initial_window: 20, ..plain() }, ", sackOK, ts 100 *");
        let at = |segment: i64| 1 + segment * 988;
        let stamp = |host: &mut Host, segment| {
            let sent = host.take_all().into_iter().find(|sent| sent.script.seq == at(segment)).unwrap();
            sent.script.options.unwrap().timestamps.unwrap().0.unwrap()
        };
        // The ACK below segment `ack`, with the report of these others.
        let ack = |host: &mut Host, ack, echo: u32, reported: &[(i64, i64)]| {
            let blocks: String =
                reported.iter().map(|(left, right)| format!(" {}:{}", at(*left), at(*right))).collect();
            host.inject(&format!("A 1:1 ack {} <ts 101 {echo}, sack{blocks}>", at(ack)));
        };
        host.write(40 * 988);
        let echo = stamp(&mut host, 0);
        host.advance(100);
        // 0 and 10 of 20 are lost.
        ack(&mut host, 0, echo, &[(1, 5)]);
        let copy_of_0 = stamp(&mut host, 0);
        host.advance(1);
        ack(&mut host, 0, echo, &[(1, 10)]);
        host.take_all();
        host.advance(2);
        ack(&mut host, 0, echo, &[(11, 20), (1, 10)]);
        let copy_of_10 = stamp(&mut host, 10);
        assert!(host.sent_upto() >= at(28));
        // So are 20 and 24, which left in this recovery. It finds the first, and the next begins with the other.
        host.advance(97);
        ack(&mut host, 10, copy_of_0, &[(11, 20)]);
        host.take_all();
        host.advance(1);
        ack(&mut host, 10, copy_of_0, &[(21, 23), (11, 20)]);
        let copy_of_20 = stamp(&mut host, 20);
        host.advance(2);
        ack(&mut host, 20, copy_of_10, &[(21, 24)]);
        host.take_all();
        host.advance(1);
        ack(&mut host, 20, copy_of_10, &[(25, 28), (21, 24)]);
        stamp(&mut host, 24);
        let ssthresh = host.info().ssthresh;
        host.advance(97);
        ack(&mut host, 24, copy_of_20, &[(25, 28)]);
        host.take_all();
        assert_eq!((host.info().recovery.fast_recoveries, host.info().recovery.undone_by_eifel), (2, 0));
        assert_eq!(host.info().ssthresh, ssthresh);
    });
}

/// RFC3522-3.2: a segment that was probed for has an echo of its first copy, too.
#[test]
fn the_echo_of_what_was_probed_for_still_proves() {
    each_isn(|isn| {
        let config = Config { frto: false, ..plain() };
        let mut host = open(isn, config, ", sackOK, ts 100 *");
        host.write(988);
        let stamp = host.take().script.options.unwrap().timestamps.unwrap().0.unwrap();
        host.expect_after(200, 400, "A 1:989");
        host.expect_after(50, 1_000, "A 1:989");
        assert_eq!((host.info().timeouts, host.info().cwnd), (1, 988));
        host.inject(&format!("A 1:1 ack 989 <ts 101 {stamp}>"));
        assert_eq!((host.info().recovery.undone_by_eifel, host.info().cwnd > 988), (1, true));
    });
}

/// RFC8985-6.2.2a: an echo from before the flight does not tell which copy has arrived. Two of ten are lost, then the
/// second copy of the lower one; the report of the other's has an old echo, for nothing in order has come since.
#[test]
fn a_lost_retransmission_is_found_without_rto_where_rack_can() {
    for options in [", sackOK", ", sackOK, ts 100 *"] {
        each_isn(|isn| {
            let mut host = open(isn, plain(), options);
            let size = if options.contains("ts") { 988 } else { 1_000 };
            let at = |segment: i64| 1 + segment * size;
            host.write(10 * size as u32);
            let stamps = host.take().script.options.and_then(|options| options.timestamps);
            // The echo of our SYN.
            let echo = stamps.map_or(String::new(), |(val, _)| format!("ts 101 {}, ", val.unwrap() - 100));
            let ack = |host: &mut Host, from, to| {
                host.inject(&format!("A 1:1 ack 1 <{echo}sack {}:{}>", at(from), at(to)));
            };
            host.take_all();
            host.advance(100);
            ack(&mut host, 2, 6);
            host.expect(&format!("A 1:{}", at(1)));
            host.advance(1);
            ack(&mut host, 2, 8);
            host.expect(&format!("A {}:{}", at(1), at(2)));
            host.advance(1);
            ack(&mut host, 2, 10);
            host.take_all();
            // The second copy of the second segment arrives, that of the first does not.
            host.advance(99);
            ack(&mut host, 1, 10);
            host.advance(30);
            host.expect(&format!("A 1:{}", at(1)));
            assert_eq!((host.info().timeouts, host.info().recovery.lost_retransmissions), (0, 1));
        });
    }
}

// ---- what is sent again ---------------------------------------------------------------------------------------------

/// KP-15: the FIN rides on the last data also when that is sent again, and fills a segment.
#[test]
fn a_fin_rides_on_what_is_sent_again() {
    each_isn(|isn| {
        let mut host = open(isn, plain(), "");
        host.write(1_000);
        host.expect("A 1:1001");
        host.shutdown();
        host.expect("FA 1001:1001");
        host.expect_after(250, 350, "FA 1:1001");
        host.expect_nothing();
        host.inject("A 1:1 ack 1002");
    });
}

/// RFC6298-5.0: the timer leaves what was sent again an RTO of its own, also where no ACK follows that would move it.
#[test]
fn a_fast_retransmission_has_its_own_rto() {
    for options in ["", ", sackOK"] {
        each_isn(|isn| {
            let mut host = open(isn, plain(), options);
            host.write(4_000);
            host.expect_data(1, 4_001, 1_000);
            host.advance(100);
            for end in [2_001, 3_001, 4_001] {
                let report = if options.is_empty() { String::new() } else { format!(" <sack 1001:{end}>") };
                host.inject(&format!("A 1:1 ack 1{report}"));
            }
            host.expect("A 1:1001");
            assert!(host.expect_after(300, 310, "A 1:1001").retransmission);
            assert_eq!(host.info().timeouts, 1);
            host.inject("A 1:1 ack 4001");
        });
    }
}

/// RFC8985-6.2.5a: a copy that arrives makes lost what left before it, and not what followed within a millisecond.
#[test]
fn what_leaves_just_after_a_copy_is_not_lost_when_that_arrives() {
    each_isn(|isn| {
        let mut host = flying(isn, plain());
        host.write(20_000);
        host.inject("A 1:1 ack 1 <sack 1001:2001>");
        host.expect("A 10001:11001");
        host.advance(1);
        host.inject("A 1:1 ack 1 <sack 1001:4001>");
        host.expect("A 1:1001");
        host.advance(1);
        host.inject("A 1:1 ack 1 <sack 1001:10001>");
        let new = host.take_all();
        assert!(new.iter().all(|sent| !sent.retransmission) && new.len() > 1);
        host.advance(99);
        host.inject("A 1:1 ack 11001");
        assert!(host.take_all().iter().all(|sent| !sent.retransmission));
        assert_eq!(host.info().recovery.fast_recoveries, 1);
    });
}

/// OPS-24: who reports single octets is not sent a segment for each gap.
#[test]
fn single_octets_that_are_reported_do_not_cut_what_is_sent_again() {
    each_isn(|isn| {
        let mut host = flying(isn, plain());
        for blocks in ["11:12 21:22 31:32", "500:501 600:601 700:701", "1001:10001"] {
            host.inject(&format!("A 1:1 ack 1 <sack {blocks}>"));
        }
        host.expect("A 1:1001");
        host.expect_nothing();
    });
}

// ---- what is kept back ----------------------------------------------------------------------------------------------

/// NAGLE-5, NAGLE-3, RFC8985-7.3b: a probe is no reason to send what is kept back. The last segment goes once more.
#[test]
fn a_probe_leaves_alone_what_is_corked_or_waits_for_nagle() {
    for corked in [true, false] {
        each_isn(|isn| {
            let mut host = open(isn, plain(), ", sackOK");
            host.set_nodelay(corked);
            host.set_cork(corked);
            host.write(3_000);
            host.expect_data(1, 3_001, 1_000);
            if !corked {
                host.write(100);
                host.expect("A 3001:3101");
            }
            let end = host.sent_upto();
            host.write(300);
            host.expect_nothing();
            let last = if corked { "A 2001:3001" } else { "A 2101:3101" };
            assert!(host.expect_after(190, 250, last).retransmission);
            // Nor do the timeouts after it: they are about what was sent.
            host.advance(5_000);
            for sent in host.take_all() {
                assert!(sent.retransmission, "{}", sent.script);
            }
            host.inject(&format!("A 1:1 ack {end}"));
            if corked {
                host.expect_nothing();
                host.set_cork(false);
            }
            host.expect(&format!("A {end}:{}", end + 300));
        });
    }
}

/// But a full segment, or the end of the stream, waits for nothing (NAGLE-4).
#[test]
fn a_probe_takes_what_no_cork_holds_back() {
    each_isn(|isn| {
        let mut host = open(isn, plain(), ", sackOK");
        host.set_cork(true);
        host.write(11_500);
        host.expect_data(1, 10_001, 1_000);
        assert!(!host.expect_after(190, 250, "A 10001:11001").retransmission);
        host.inject("A 1:1 ack 11001");
        host.expect_nothing();
        host.shutdown();
        host.expect("FA 11001:11501");
    });
}

/// MUST-36, NAGLE-5: probes of a closed window carry nothing, and the open window releases only what fills a segment.
#[test]
fn a_window_probe_leaves_alone_what_is_corked() {
    each_isn(|isn| {
        let mut host = open(isn, plain(), ", sackOK");
        host.set_cork(true);
        host.write(1_000);
        host.expect("A 1:1001");
        host.inject("A 1:1 ack 1001 win 0");
        host.write(300);
        host.advance(10_000);
        for sent in host.take_all() {
            assert_eq!((sent.script.seq, sent.script.len), (1_000, 0));
        }
        host.inject("A 1:1 ack 1001 win 65535");
        host.expect_nothing();
        host.write(700);
        host.expect("A 1001:2001");
        host.inject("A 1:1 ack 2001");
    });
}
