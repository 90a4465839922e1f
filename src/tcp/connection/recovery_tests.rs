//! Scripted peers against loss recovery; each scenario also with the part switched off that it is about.
#![allow(clippy::unwrap_used)]

use crate::tcp::connection::lab::{Lab, labs, none};
use crate::tcp::*;
use crate::wire::options::Timestamps;

/// SACK, a round trip of 100 ms, ten segments of 1000 octets in flight since 92 ms.
fn flying(config: impl Fn(&mut Config), script: impl Fn(&mut Lab)) {
    labs(
        |settings, opened| {
            opened.sack = true;
            opened.rtt = Some(Duration::from_millis(100));
            config(settings);
        },
        |lab| {
            assert_eq!(lab.write(10_000).len(), 10);
            lab.pass(92);
            script(lab);
        },
    );
}

fn info(lab: &Lab) -> Info {
    lab.conn.info(&lab.config, lab.now)
}

/// An ACK with SACK blocks.
fn sack(lab: &mut Lab, ack: u32, blocks: &[(u32, u32)]) -> Vec<String> {
    lab.sack = blocks.to_vec();
    lab.i("A", 1, 0, ack)
}

/// SC-63: the last two are lost.
#[test]
fn sc_63_a_lost_tail_is_repaired_by_a_probe() {
    for tlp in [true, false] {
        flying(
            |config| config.tlp = tlp,
            |lab| {
                assert_eq!(sack(lab, 8_001, &[]), none());
                if tlp {
                    let pto = info(lab).srtt.unwrap() * 2;
                    let said = lab.pass(250);
                    assert_eq!(said, [format!("{} PA 9001:10001 ack 1", 92 + pto.as_millis())]);
                    let arrived = 92 + pto.as_millis() + 95 - lab.ms();
                    lab.pass(arrived);
                    let said = sack(lab, 8_001, &[(9_001, 10_001)]);
                    assert_eq!(said, ["A 8001:9001 ack 1"], "the probe left later and has arrived");
                    assert_eq!(sack(lab, 10_001, &[]), none());
                    let info = info(lab);
                    assert_eq!((info.timeouts, info.recovery.tail_probes, info.recovery.fast_recoveries), (0, 1, 1));
                } else {
                    assert_eq!(lab.pass(290), none());
                    assert!(lab.pass(200)[0].ends_with(" A 8001:9001 ack 1"));
                    assert_eq!(info(lab).timeouts, 1);
                }
            },
        );
    }
}

/// SC-63, RFC8985-7.4b, 7.4c: a probe that was needed costs one reduction, one that was not needed none.
#[test]
fn rfc8985_7_4_what_a_probe_tells() {
    for needed in [true, false] {
        flying(
            |_| {},
            |lab| {
                sack(lab, 9_001, &[]);
                let before = info(lab).cwnd;
                assert!(lab.pass(400)[0].ends_with(" PA 9001:10001 ack 1"));
                if needed {
                    sack(lab, 10_001, &[]);
                } else {
                    sack(lab, 10_001, &[(9_001, 10_001)]);
                }
                lab.write(1_000);
                lab.pass(10);
                sack(lab, 11_001, &[]);
                let info = info(lab);
                assert_eq!((info.recovery.tail_losses, info.timeouts), (u32::from(needed), 0));
                assert_eq!(info.cwnd < before, needed, "{} {before}", info.cwnd);
            },
        );
    }
}

#[test]
fn rfc8985_7_3b_a_probe_is_new_data_if_there_is_some() {
    flying(
        |_| {},
        |lab| {
            lab.conn.on_send(5_000);
            lab.drain(&mut Vec::new());
            let said = lab.pass(200);
            assert!(said[0].ends_with(" A 10001:11001 ack 1"), "{said:?}");
            // 7.3a: and only one.
            assert_eq!(said.len(), 1);
            assert_eq!(info(lab).retransmits, 0);
            // 7.2, 7.4: what does not reach its end leaves it outstanding; the next is no probe but the timeout.
            sack(lab, 2_001, &[]);
            lab.pass(3_000);
            assert_eq!(info(lab).recovery.tail_probes, 1);
            assert!(info(lab).timeouts > 0);
        },
    );
}

#[test]
fn rfc8985_6_2_a_lost_retransmission_is_sent_again_without_a_timeout() {
    for rack in [true, false] {
        flying(
            |config| config.rack = rack,
            |lab| {
                lab.conn.on_send(20_000);
                assert_eq!(sack(lab, 1, &[(1_001, 4_001)])[0], "A 1:1001 ack 1");
                // It is lost; what leaves after it arrives 100 ms later.
                lab.pass(1);
                for end in 5..=10 {
                    sack(lab, 1, &[(1_001, end * 1_000 + 1)]);
                }
                let ssthresh = info(lab).ssthresh;
                let sent = info(lab).flight;
                assert!(sent > 10_000, "new data keeps the clock going: {sent}");
                lab.pass(100);
                let said = sack(lab, 1, &[(1_001, sent + 1)]);
                let again = said.iter().any(|line| line == "A 1:1001 ack 1");
                assert_eq!(again, rack, "{said:?}");
                assert_eq!(info(lab).timeouts, 0);
                // RFC5681-4.3
                assert_eq!(info(lab).ssthresh < ssthresh, rack);
                assert_eq!(info(lab).recovery.lost_retransmissions, u32::from(rack));
            },
        );
    }
}

/// What leaves shortly before a retransmission counts as having left at one time (RFC8985-4b), but not together with
/// what leaves shortly after it: that has not been overtaken when the retransmission arrives.
#[test]
fn rfc8985_6_2_what_leaves_behind_a_retransmission_is_not_overtaken_by_it() {
    flying(
        |_| {},
        |lab| {
            lab.conn.on_send(20_000);
            assert_eq!(sack(lab, 1, &[(1_001, 3_001)]), ["A 10001:11001 ack 1", "A 11001:12001 ack 1"]);
            lab.pass(1);
            assert_eq!(sack(lab, 1, &[(1_001, 4_001)]), ["A 1:1001 ack 1"]);
            lab.pass(1);
            assert_eq!(sack(lab, 1, &[(1_001, 10_001)])[0], "A 12001:13001 ack 1");
            let sent = info(lab).flight;
            lab.pass(98);
            sack(lab, 1, &[(1_001, 12_001)]);
            lab.pass(1);
            sack(lab, 12_001, &[]);
            assert_eq!((info(lab).retransmits, info(lab).lost), (1, 0), "{} of {sent} in flight", info(lab).flight);
        },
    );
}

/// SC-64: three overtake the first. The first time this looks like a loss; a D-SACK tells, and after that it does not.
#[test]
fn sc_64_reordering_is_learned() {
    for dsack in [true, false] {
        flying(
            |config| config.dsack = dsack,
            |lab| {
                assert_eq!(sack(lab, 1, &[(1_001, 4_001)]), ["A 1:1001 ack 1"]);
                let reduced = info(lab).ssthresh;
                lab.pass(2);
                sack(lab, 10_001, &[]);
                lab.pass(90);
                sack(lab, 10_001, &[(1, 1_001)]);
                let after = info(lab);
                assert_eq!(after.ssthresh > reduced, dsack, "RFC3708: undone");
                assert_eq!(after.recovery.undone_by_dsack, u32::from(dsack));
                // The same again, and the late one comes after 12 ms, an eighth of a round trip.
                lab.write(4_000);
                lab.pass(92);
                sack(lab, 10_001, &[(11_001, 14_001)]);
                let said = lab.pass(12);
                sack(lab, 14_001, &[]);
                assert_eq!(info(lab).retransmits, if dsack { 1 } else { 2 }, "{said:?}");
                if dsack {
                    // Two round trips are no reordering.
                    lab.write(4_000);
                    lab.pass(92);
                    assert_eq!(sack(lab, 14_001, &[(15_001, 18_001)]), none());
                    assert!(lab.pass(150)[0].ends_with(" A 14001:15001 ack 1"));
                    assert!(info(lab).recovery.reordering_timeouts >= 1);
                }
            },
        );
    }
}

/// SC-66, RFC5682-3.1: everything is late by 300 ms, nothing is lost.
#[test]
fn sc_66_a_delay_is_no_loss_with_sack() {
    for frto in [true, false] {
        flying(
            |config| (config.frto, config.tlp) = (frto, false),
            |lab| {
                let before = info(lab);
                assert_eq!(lab.pass(300).len(), 1);
                assert_eq!(info(lab).cwnd, 1_000);
                lab.conn.on_send(10_000);
                // The originals arrive one by one.
                for end in 1..=10 {
                    sack(lab, end * 1_000 + 1, &[]);
                }
                let after = info(lab);
                assert_eq!(after.recovery.undone_by_frto, u32::from(frto));
                assert_eq!(after.retransmits == 1, frto, "sent again in vain: {}", after.retransmits);
                assert_eq!(after.cwnd >= before.cwnd, frto, "{} {}", after.cwnd, before.cwnd);
                assert_eq!(after.ssthresh == before.ssthresh, frto);
            },
        );
    }
}

/// SC-66, RFC5682-2.2b, 2.3b: the same without SACK. New data goes out in the place of retransmissions.
#[test]
fn sc_66_a_delay_is_no_loss_without_sack() {
    for frto in [true, false] {
        labs(
            |config, opened| {
                config.frto = frto;
                opened.rtt = Some(Duration::from_millis(100));
            },
            |lab| {
                lab.write(30_000);
                let before = info(lab);
                assert_eq!(lab.pass(350).len(), 1);
                let said = lab.i("A", 1, 0, 1_001);
                if frto {
                    assert_eq!(said, ["A 10001:11001 ack 1", "A 11001:12001 ack 1"]);
                } else {
                    assert_eq!(said, ["A 1001:2001 ack 1", "A 2001:3001 ack 1"]);
                }
                lab.i("A", 1, 0, 2_001);
                let after = info(lab);
                assert_eq!(after.recovery.undone_by_frto, u32::from(frto));
                assert_eq!(after.cwnd >= before.cwnd, frto);
            },
        );
    }
}

/// SC-66, RFC5682-2.3a: when the second acknowledgment is a duplicate, the timeout was right.
#[test]
fn sc_66_a_duplicate_ack_ends_the_doubt() {
    labs(
        |_, opened| opened.rtt = Some(Duration::from_millis(100)),
        |lab| {
            lab.write(30_000);
            lab.pass(350);
            assert_eq!(lab.i("A", 1, 0, 1_001).len(), 2);
            lab.i("A", 1, 0, 1_001);
            let said = lab.i("A", 1, 0, 2_001);
            assert_eq!(said.first().map(String::as_str), Some("A 2001:3001 ack 1"), "{said:?}");
            assert_eq!(info(lab).recovery.undone_by_frto, 0);
            assert!(info(lab).cwnd <= 4_000);
        },
    );
}

/// RFC3522-3.2: the ACK echoes a time before the retransmission.
#[test]
fn rfc3522_an_old_echo_undoes_a_timeout() {
    for (late, on) in [(true, true), (false, true), (true, false)] {
        labs(
            |config, opened| {
                (config.frto, config.tlp, config.eifel) = (false, false, on);
                // Segments of 1000 octets beside the option. Timestamps of the engine are its clock in ms here.
                (opened.send_mss, opened.receive_mss) = (1_012, 1_012);
                (opened.sack, opened.timestamps, opened.rtt) = (true, Some(0), Some(Duration::from_millis(100)));
            },
            |lab| {
                assert_eq!(lab.write(10_000).len(), 10);
                lab.pass(92);
                let first = (lab.now.as_millis() - 92) as u32;
                lab.pass(300);
                let again = lab.now.as_millis() as u32;
                lab.stamps = Some(Timestamps { val: 1, ecr: if late { first } else { again } });
                sack(lab, 1_001, &[]);
                assert_eq!(info(lab).recovery.undone_by_eifel, u32::from(late && on));
                assert_eq!(info(lab).cwnd >= 10_000, late && on);
                assert_eq!(lab.conn.rtt.is_spurious(), late && on, "RFC4015-3.1c");
            },
        );
    }
}

/// SC-62, RFC9937-6.2c: while the flight is above the threshold, about one leaves for two that arrive.
#[test]
fn sc_62_one_leaves_for_two_that_arrive() {
    for prr in [true, false] {
        labs(
            |config, opened| {
                (config.prr, config.initial_window) = (prr, 20);
                config.congestion = CongestionControl::Reno;
                opened.sack = true;
                opened.rtt = Some(Duration::from_millis(100));
            },
            |lab| {
                assert_eq!(lab.write(60_000).len(), 20);
                lab.pass(92);
                let (mut gaps, mut gap, mut sent) = (Vec::new(), 0, 0);
                for end in 4..=20 {
                    let said = sack(lab, 1, &[(1_001, end * 1_000 + 1)]);
                    assert!(said.len() <= 1, "no burst: {said:?}");
                    sent += said.len();
                    gap += 1;
                    if !said.is_empty() {
                        gaps.push(std::mem::take(&mut gap));
                    }
                }
                let longest = gaps.iter().max().copied().unwrap_or(0);
                assert_eq!(longest <= 4, prr, "{gaps:?}");
                if prr {
                    assert_eq!(sent, 10, "{gaps:?}");
                    assert!(info(lab).recovery.rate_limited > 0);
                }
                assert_eq!(info(lab).ssthresh, 10_000);
            },
        );
    }
}

/// SC-61: SACKed data is never sent again, and all holes are repaired in one round trip.
#[test]
fn sc_61_two_holes_in_one_round_trip() {
    flying(
        |_| {},
        |lab| {
            assert_eq!(sack(lab, 1, &[(2_001, 3_001)]), none());
            assert_eq!(sack(lab, 1, &[(2_001, 4_001)]), none());
            let mut said = sack(lab, 1, &[(2_001, 5_001)]);
            said.extend(sack(lab, 1, &[(2_001, 6_001)]));
            said.extend(sack(lab, 1, &[(2_001, 7_001)]));
            said.extend(sack(lab, 1, &[(2_001, 10_001)]));
            assert_eq!(said, ["A 1:1001 ack 1", "A 1001:2001 ack 1"]);
            lab.pass(92);
            assert_eq!(sack(lab, 10_001, &[]), none());
            let info = info(lab);
            // RFC5681-3.1h: the ACK that ends the recovery is of a full window.
            assert_eq!((info.cwnd, info.timeouts, info.retransmits), (info.ssthresh + 1_000, 0, 2));
        },
    );
}

/// RFC2018-5b: the peer had reported the rest and dropped it.
#[test]
fn rfc2018_8_a_peer_that_reneges_gets_it_again() {
    flying(
        |_| {},
        |lab| {
            sack(lab, 1, &[(1_001, 10_001)]);
            lab.pass(92);
            sack(lab, 1_001, &[]);
            let said = lab.pass(1_000);
            assert!(said.iter().any(|line| line.ends_with(" A 1001:2001 ack 1")), "{said:?}");
            assert!(info(lab).recovery.reneged >= 1);
            for _ in 0..20 {
                let una = 1 + info(lab).bytes_acked as u32;
                sack(lab, (una + 1_000).min(10_001), &[]);
            }
            assert_eq!(info(lab).flight, 0);
        },
    );
}

/// RFC2018-5a: a report frees nothing.
#[test]
fn rfc2018_5a_only_the_cumulative_ack_frees() {
    flying(
        |_| {},
        |lab| {
            sack(lab, 1, &[(1_001, 10_001)]);
            assert_eq!(lab.last.acked, 0);
            assert_eq!(lab.conn.queued(), 10_000);
        },
    );
}

/// `recover` must not stay behind by half the number circle: duplicates would count as old for the next 2 GB.
#[test]
fn a_fast_retransmission_after_two_gigabytes() {
    labs(
        |config, _| config.send_buffer = BufferLimits { initial: 1 << 20, max: 1 << 20 },
        |lab| {
            lab.max_len = 65_535;
            let mut una = 1_u32;
            for _ in 0..=(1_u32 << 31) / 40_000 + 10 {
                lab.write(40_000);
                while lab.conn.queued() > 0 {
                    una += info(lab).flight;
                    lab.i("A", 1, 0, una);
                }
            }
            lab.max_len = 1_000;
            lab.write(20_000);
            for _ in 0..3 {
                lab.i("A", 1, 0, una);
            }
            assert_eq!(info(lab).recovery.fast_recoveries, 1);
        },
    );
}

/// RFC8985-7.4a to 7.4c: a retransmitted probe hides the loss that it repairs, so the window shrinks unless something
/// tells that nothing was lost.
#[test]
fn sc_63_rfc8985_7_4_a_loss_hidden_by_a_probe_counts_unless_it_is_ruled_out() {
    let (plain, bare, dsack) = (&[][..], &[(0, 0)][..], &[(9_001, 10_001)][..]);
    for (name, dsack_on, after, losses) in [
        ("nothing more is said", true, plain, 1),
        ("a duplicate ACK without SACK", true, bare, 0),
        ("a duplicate ACK without SACK, D-SACK off", false, bare, 0),
        ("D-SACK", true, dsack, 0),
        ("D-SACK, which we do not heed", false, dsack, 1),
    ] {
        flying(
            |config| config.dsack = dsack_on,
            |lab| {
                assert_eq!(sack(lab, 8_001, &[]), none());
                assert_eq!(lab.pass(250).len(), 1, "the probe");
                assert_eq!(sack(lab, 10_001, &[]), none());
                if after == bare {
                    sack(lab, 10_001, &[]);
                } else if after == dsack {
                    sack(lab, 10_001, dsack);
                }
                lab.write(1_000);
                lab.pass(100);
                let before = info(lab).cwnd;
                sack(lab, 11_001, &[]);
                let info = info(lab);
                assert_eq!((info.recovery.tail_losses, info.timeouts), (losses, 0), "{name}");
                assert_eq!(info.cwnd < before, losses == 1, "{name}: {before} {}", info.cwnd);
                assert_eq!(info.ssthresh < u32::MAX, losses == 1, "{name}");
            },
        );
    }
}

/// RFC5681-3.2.2: in one turn come the ACKs of six segments and the report that the seventh is lost. Ten were in
/// flight, so five is the half; four are left when the loss is found.
#[test]
fn rfc5681_3_2_2_acks_of_the_same_turn_do_not_shrink_the_flight() {
    for with_sack in [true, false] {
        labs(
            |settings, opened| {
                settings.prr = with_sack;
                opened.sack = with_sack;
                opened.rtt = Some(Duration::from_millis(100));
            },
            |lab| {
                assert_eq!(lab.write(50_000).len(), 10);
                lab.pass(92);
                for ack in 1..=6 {
                    lab.hear(Keep::All, "A", 1, 0, ack * 1_000 + 1, 65_535);
                }
                for end in 8..=10 {
                    lab.sack = if with_sack { vec![(7_001, end * 1_000 + 1)] } else { vec![] };
                    lab.hear(Keep::All, "A", 1, 0, 6_001, 65_535);
                }
                assert_eq!(info(lab).recovery.fast_recoveries, 1);
                assert_eq!(info(lab).ssthresh, 5_000);
            },
        );
    }
}

/// RFC5681-3.1i: FlightSize counts what was SACKed, so that its half at a timeout may be more than what the recovery
/// before it allowed.
#[test]
fn rfc5681_3_1i_a_timeout_in_fast_recovery_does_not_raise_the_threshold() {
    flying(
        |config| config.rack = false,
        |lab| {
            lab.conn.on_send(40_000);
            sack(lab, 1, &[(1_001, 4_001)]);
            for end in 5..=14 {
                sack(lab, 1, &[(1_001, end * 1_000 + 1)]);
            }
            let before = info(lab);
            assert_eq!(before.ssthresh, 5_000);
            assert!(before.flight > 2 * before.ssthresh, "{before:?}");
            lab.pass(500);
            let after = info(lab);
            assert_eq!(after.timeouts, 1);
            assert!(after.ssthresh <= before.ssthresh, "{before:?} {after:?}");
        },
    );
}

/// RFC6675-5.A: what was sent in a recovery, lost, and not yet sent again when that one ends begins the next.
#[test]
fn rfc6675_5_a_loss_found_in_a_recovery_outlives_it() {
    flying(
        |config| config.rack = false,
        |lab| {
            lab.conn.on_send(40_000);
            sack(lab, 1, &[(1_001, 4_001)]);
            for end in 5..=10 {
                sack(lab, 1, &[(1_001, end * 1_000 + 1)]);
            }
            let before = info(lab);
            assert!(before.flight >= 14_000, "{before:?}");
            lab.pass(100);
            for (ack, blocks) in [(1, vec![(1_001, 10_001), (11_001, 14_001)]), (10_001, vec![(11_001, 14_001)])] {
                lab.sack = blocks;
                lab.hear(Keep::All, "A", 1, 0, ack, 65_535);
            }
            let after = info(lab);
            assert_eq!(after.recovery.fast_recoveries, 2);
            assert!(after.ssthresh < before.ssthresh, "{before:?} {after:?}");
        },
    );
}

#[test]
fn what_advances_is_no_duplicate_and_neither_is_a_window_update() {
    flying(
        |_| {},
        |lab| {
            let is_duplicate = |lab: &Lab| lab.last.events.contains(Events::DUPLICATE_ACK);
            sack(lab, 1_001, &[(2_001, 3_001)]);
            assert!(!is_duplicate(lab), "it advances");
            lab.w("A", 1, 0, 1_001, 60_000);
            assert!(!is_duplicate(lab), "it reports nothing");
            sack(lab, 1_001, &[(2_001, 4_001)]);
            assert!(is_duplicate(lab));
        },
    );
}

/// RFC 3708: a duplicate of something that was not sent again in this recovery says nothing about it.
#[test]
fn a_dsack_of_something_else_undoes_nothing() {
    for (range, undone) in [((1, 1_001), 1), ((10_001, 11_001), 0)] {
        flying(
            |_| {},
            |lab| {
                lab.conn.on_send(5_000);
                let before = info(lab).cwnd;
                assert_eq!(sack(lab, 1, &[(1_001, 4_001)])[0], "A 1:1001 ack 1");
                sack(lab, 1, &[(1_001, 10_001)]);
                assert!(info(lab).flight >= 11_000 && info(lab).retransmits == 1, "{:?}", info(lab));
                sack(lab, 11_001, &[range]);
                assert_eq!(info(lab).recovery.undone_by_dsack, undone);
                assert_eq!(info(lab).cwnd < before, undone == 0);
            },
        );
    }
}

/// What is lost goes again in as large pieces as it may, its end with it.
#[test]
fn the_end_of_what_is_lost_goes_with_the_rest() {
    labs(
        |_, opened| (opened.sack, opened.rtt) = (true, Some(Duration::from_millis(100))),
        |lab| {
            lab.conn.set_nodelay(true);
            lab.max_len = 65_535;
            assert_eq!(lab.write(2_500).len(), 1);
            lab.pass(1);
            lab.write(7_000);
            lab.pass(99);
            let said = sack(lab, 1, &[(2_501, 9_501)]);
            assert_eq!(said, ["A 1:1001 ack 1", "A 1001:2501 ack 1"]);
        },
    );
}

/// RFC5681-3.2.2, RFC6675-5.3: what limited transmit added is no part of the flight that is halved, and nothing else is
/// left out of it.
#[test]
fn the_flight_that_is_halved_is_without_limited_transmit() {
    for (waiting, first) in [(0, 2_001), (5_000, 2_001), (1_000, 3_001)] {
        flying(
            |_| {},
            |lab| {
                lab.conn.on_send(waiting);
                lab.max_len = 65_535;
                let said = sack(lab, 1, &[(1_001, first)]);
                assert_eq!(said.len(), usize::from(waiting > 0), "at once, however little it is: {said:?}");
                sack(lab, 1, &[(1_001, 4_001)]);
                assert_eq!(info(lab).ssthresh, 5_000);
            },
        );
    }
}

#[test]
fn only_what_waits_is_held_back_by_a_recovery() {
    for waiting in [0, 50_000] {
        flying(
            |_| {},
            |lab| {
                lab.conn.on_send(waiting);
                assert_eq!(sack(lab, 1, &[(1_001, 4_001)])[0], "A 1:1001 ack 1");
                assert_eq!(info(lab).recovery.rate_limited > 0, waiting > 0);
            },
        );
    }
}
