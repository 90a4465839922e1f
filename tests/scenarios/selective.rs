//! Recovery with SACK, RACK, PRR, TLP and F-RTO: SC-61 to SC-66. The path has a round trip of 100 ms.

use super::harness::{Host, Isn, each_isn, plain};
use trust::tcp::{Config, State};

/// An active open that takes one round trip; the peer's SYN,ACK has these options beside the MSS.
fn open(isn: Isn, config: Config, options: &str) -> Host {
    let mut host = Host::connect(isn, config);
    host.take();
    host.advance(100);
    host.inject(&format!("SA 0:0 ack 1 win 65535 <mss 1000{options}>"));
    host.take();
    host
}

/// What was sent, as (from, to) of each segment with payload.
fn data(host: &mut Host) -> Vec<(i64, i64)> {
    let sent = host.take_all().into_iter().map(|sent| sent.script).filter(|script| script.len > 0);
    sent.map(|script| (script.seq, script.seq + i64::from(script.len))).collect()
}

/// RFC6675-4c, RFC6675-5.A, OPS-7.
#[test]
fn sc_61_two_holes_are_filled_and_nothing_else() {
    each_isn(|isn| {
        let mut host = open(isn, plain(), ", sackOK");
        host.write(10_000);
        host.expect_data(1, 10_001, 1_000);
        host.advance(100);
        host.inject("A 1:1 ack 1 <sack 2001:3001>");
        host.inject("A 1:1 ack 1 <sack 2001:4001>");
        host.expect_nothing();
        host.inject("A 1:1 ack 1 <sack 2001:5001>");
        let first = host.expect("A 1:1001");
        assert!(first.retransmission);
        let mut again = data(&mut host);
        for end in (6_001..=10_001).step_by(1_000) {
            host.inject(&format!("A 1:1 ack 1 <sack 2001:{end}>"));
            again.extend(data(&mut host));
        }
        assert_eq!(again, [(1_001, 2_001)], "what was reported is never sent again");
        host.inject("A 1:1 ack 10001");
        // RFC5681-3.1h: what this ACK covers left in a full window, and is a window of what there is now.
        assert_eq!((host.info().cwnd, host.info().ssthresh), (6_000, 5_000));
        assert_eq!(host.unacked(), 0);
        host.advance(10_000);
        host.expect_nothing();
    });
}

/// Each of several holes a round trip apart would cost NewReno one round trip.
/// RFC6675-5.B, RFC8985-4a, RFC8985-6.1.
#[test]
fn sc_61_rfc6675_5_c_many_holes_cost_one_round_trip() {
    each_isn(|isn| {
        let mut host = open(isn, Config { initial_window: 20, ..plain() }, ", sackOK");
        host.write(20_000);
        host.expect_data(1, 20_001, 1_000);
        host.advance(100);
        // Each second segment is lost.
        let mut again = Vec::new();
        let mut blocks: Vec<String> = Vec::new();
        for at in (1_001..20_001).step_by(2_000) {
            blocks.insert(0, format!("{at}:{}", at + 1_000));
            blocks.truncate(4);
            host.inject(&format!("A 1:1 ack 1 <sack {}>", blocks.join(" ")));
            again.extend(data(&mut host));
        }
        // What was sent again arrives, hole by hole, within the next round trip; the rest leaves with it.
        let mut rounds = 0;
        while host.unacked() > 0 {
            rounds += 1;
            assert!(rounds < 4, "{again:?}");
            host.advance(100);
            again.extend(data(&mut host));
            let upto = again.last().map_or(1, |(_, to)| *to) + 1_000;
            host.inject(&format!("A 1:1 ack {}", upto.min(20_001)));
            again.extend(data(&mut host));
        }
        let holes: Vec<(i64, i64)> = (1..20_001).step_by(2_000).map(|at| (at, at + 1_000)).collect();
        assert_eq!(again, holes, "each hole once");
    });
}

/// RFC9937-6.2a, 6.3; before it RFC3042-2c.
#[test]
fn sc_62_prr_sends_one_segment_for_two_that_arrive() {
    each_isn(|isn| {
        let mut host = open(isn, Config { initial_window: 20, ..plain() }, ", sackOK");
        host.write(60_000);
        host.expect_data(1, 20_001, 1_000);
        host.advance(100);
        let mut sent = 0;
        for end in (2_001..=20_001).step_by(1_000) {
            host.inject(&format!("A 1:1 ack 1 <sack 1001:{end}>"));
            let now = data(&mut host);
            if end > 4_001 {
                assert!(now.len() <= 1, "no bursts: {now:?}");
                sent += now.len();
            }
        }
        assert_eq!(host.info().ssthresh, 10_000);
        assert!((7..=9).contains(&sent), "{sent} for 16 that arrived");
        host.inject("A 1:1 ack 20001");
        host.take_all();
        let flight = host.info().flight;
        assert!((9_000..=11_000).contains(&flight), "{flight} in flight at the end");
    });
}

/// RFC9937-6.2b.
#[test]
fn sc_62_prr_after_heavy_loss_sends_what_arrives() {
    each_isn(|isn| {
        let mut host = open(isn, Config { initial_window: 20, ..plain() }, ", sackOK");
        host.write(20_000);
        host.expect_data(1, 20_001, 1_000);
        host.advance(100);
        let mut sent = 0;
        for (arrived, end) in (16_001..=20_001).step_by(1_000).enumerate() {
            host.inject(&format!("A 1:1 ack 1 <sack 15001:{end}>"));
            sent += data(&mut host).len();
            assert!(sent <= arrived + 1, "{sent} sent for {} that arrived", arrived + 1);
        }
        assert!(sent >= 3, "{sent}");
    });
}

#[test]
fn sc_63_a_lost_tail_is_probed_not_timed_out() {
    each_isn(|isn| {
        let mut host = open(isn, plain(), ", sackOK");
        host.write(5_000);
        host.expect_data(1, 5_001, 1_000);
        host.advance(100);
        host.inject("A 1:1 ack 4001");
        let probe = host.expect_after(200, 320, "A 4001:5001");
        assert!(probe.retransmission);
        assert_eq!(host.info().timeouts, 0);
        assert!(host.info().cwnd >= 10_000, "a probe is no loss yet");
        host.advance(100);
        host.inject("A 1:1 ack 5001");
        host.write(1_000);
        host.expect("A 5001:6001");
        host.advance(100);
        host.inject("A 1:1 ack 6001");
        assert!(host.info().ssthresh < 10_000, "RFC8985-7.4c: the probe has repaired a loss");
        host.assert_state(State::Established);
    });
}

#[test]
fn sc_63_rfc8985_7_4b_a_probe_that_was_not_needed_costs_nothing() {
    each_isn(|isn| {
        let mut host = open(isn, plain(), ", sackOK");
        host.write(5_000);
        host.expect_data(1, 5_001, 1_000);
        host.advance(100);
        host.inject("A 1:1 ack 4001");
        host.expect_after(200, 320, "A 4001:5001");
        // Only the ACK was lost: the second copy is a duplicate, and reported.
        host.advance(100);
        host.inject("A 1:1 ack 5001 <sack 4001:5001>");
        host.write(1_000);
        host.expect("A 5001:6001");
        host.advance(100);
        host.inject("A 1:1 ack 6001");
        assert!(host.info().cwnd >= 10_000 && host.info().ssthresh > 10_000);
    });
}

/// RFC8985-7.4a.
#[test]
fn sc_63_rfc8985_7_3b_a_probe_takes_new_data_where_there_is_some() {
    each_isn(|isn| {
        let mut host = open(isn, plain(), ", sackOK");
        host.write(30_000);
        host.expect_data(1, 10_001, 1_000);
        let probe = host.expect_after(150, 300, "A 10001:11001");
        assert!(!probe.retransmission);
        // The last two were lost: the report of the probe shows it, without a timeout.
        host.advance(50);
        host.inject("A 1:1 ack 8001 <sack 10001:11001>");
        host.advance(60);
        let first = host.take();
        assert_eq!((first.script.seq, first.retransmission), (8_001, true));
        host.take_all();
        assert_eq!(host.info().timeouts, 0);
    });
}

/// Segments change places once; from then on something late has a quarter of a round trip to arrive.
/// RFC8985-4c.
#[test]
fn sc_64_what_is_a_little_late_is_not_sent_again() {
    each_isn(|isn| {
        let mut host = open(isn, plain(), ", sackOK");
        host.write(3_000);
        host.expect_data(1, 3_001, 1_000);
        host.advance(100);
        host.inject("A 1:1 ack 1 <sack 1001:2001>");
        host.inject("A 1:1 ack 3001");
        host.write(5_000);
        host.expect_data(3_001, 8_001, 1_000);
        let cwnd = host.info().cwnd;
        host.advance(100);
        host.inject("A 1:1 ack 3001 <sack 4001:7001>");
        host.advance(12);
        host.expect_nothing();
        host.inject("A 1:1 ack 8001");
        host.expect_nothing();
        assert!(host.info().cwnd >= cwnd);
        // Another time it is later than that, and sent again in vain: the peer says so, and we wait longer.
        let mut waits = Vec::new();
        for at in [8_001_i64, 13_001] {
            host.write(5_000);
            host.expect_data(at, at + 5_000, 1_000);
            host.advance(100);
            host.inject(&format!("A 1:1 ack {at} <sack {}:{}>", at + 1_000, at + 4_000));
            let start = host.now();
            let again = host.expect_after(20, 80, &format!("A {at}:{}", at + 1_000)).at;
            waits.push((again - start).as_millis());
            host.inject(&format!("A 1:1 ack {}", at + 5_000));
            host.inject(&format!("A 1:1 ack {} <sack {at}:{}>", at + 5_000, at + 1_000));
            host.take_all();
        }
        assert_eq!(waits, [25, 50], "RFC8985-6.2.4b");
    });
}

#[test]
fn sc_65_rfc2018_5b_a_timeout_sends_the_front_again_whatever_was_reported() {
    each_isn(|isn| {
        let mut host = open(isn, Config { tlp: false, ..plain() }, ", sackOK");
        host.write(10_000);
        host.expect_data(1, 10_001, 1_000);
        host.advance(100);
        host.inject("A 1:1 ack 1001 <sack 2001:3001>");
        host.take_all();
        let mut again = Vec::new();
        for _ in 0..100 {
            host.advance(10);
            again.extend(data(&mut host));
        }
        assert_eq!(again.first(), Some(&(1_001, 2_001)));
        assert!(!again.contains(&(2_001, 3_001)), "{again:?}");
    });
}

/// The path stops for a while; everything arrives in the end, nothing was lost.
/// RFC5682-2.1, OPS-8.
#[test]
fn sc_66_rfc5682_a_timeout_that_was_needless_is_undone() {
    for options in [", sackOK", ""] {
        each_isn(|isn| {
            let mut host = open(isn, Config { tlp: false, ..plain() }, options);
            host.write(30_000);
            host.expect_data(1, 10_001, 1_000);
            host.expect_after(200, 1_000, "A 1:1001");
            host.advance(50);
            host.inject("A 1:1 ack 1001");
            host.expect("A 10001:11001");
            host.expect("A 11001:12001");
            host.expect_nothing();
            host.inject("A 1:1 ack 2001");
            assert!(host.info().cwnd >= 9_000, "{}", host.info().cwnd);
            let sent = host.take_all();
            assert!(sent.iter().all(|sent| !sent.retransmission), "{sent:?}");
        });
    }
}

#[test]
fn sc_66_rfc5682_2_3a_a_duplicate_means_that_the_timeout_was_right() {
    each_isn(|isn| {
        let mut host = open(isn, Config { tlp: false, ..plain() }, "");
        host.write(30_000);
        host.expect_data(1, 10_001, 1_000);
        host.expect_after(200, 1_000, "A 1:1001");
        host.advance(50);
        host.inject("A 1:1 ack 1001");
        host.expect("A 10001:11001");
        host.expect("A 11001:12001");
        host.inject("A 1:1 ack 1001");
        assert!(host.info().cwnd <= 3_000, "{}", host.info().cwnd);
        // Two new segments are out: the third place is for what was lost, at once.
        host.expect("A 1001:2001");
    });
}

#[test]
fn sc_66_rfc3522_3_2_the_echo_of_the_first_copy_undoes_at_once() {
    each_isn(|isn| {
        let mut host = open(isn, Config { tlp: false, frto: false, ..plain() }, ", sackOK, ts 100 *");
        host.write(30_000);
        let first = host.take();
        let stamp = first.script.options.unwrap().timestamps.unwrap().0.unwrap();
        host.take_all();
        host.expect_after(200, 1_000, "A 1:989");
        assert!(host.info().cwnd <= 1_000);
        host.advance(50);
        host.inject(&format!("A 1:1 ack 989 <ts 101 {stamp}>"));
        assert!(host.info().cwnd >= 9_000, "{}", host.info().cwnd);
        assert!(host.take_all().iter().all(|sent| !sent.retransmission));
    });
}

/// RFC8985-7.3c, 8: a second probe only after another sample; until then the timeout goes on as ever.
#[test]
fn sc_63_rfc8985_7_3a_one_probe_then_the_timeout() {
    each_isn(|isn| {
        let mut host = open(isn, plain(), ", sackOK");
        host.write(5_000);
        host.expect_data(1, 5_001, 1_000);
        host.expect_after(190, 320, "A 4001:5001");
        assert_eq!(host.info().timeouts, 0);
        host.expect_after(200, 700, "A 1:1001");
        assert_eq!(host.info().timeouts, 1);
        assert_eq!(host.info().cwnd, 1_000);
        host.expect_after(400, 1_500, "A 1:1001");
    });
}

#[test]
fn sc_66_rfc5682_2_2a_a_duplicate_first_is_conventional() {
    each_isn(|isn| {
        let mut host = open(isn, Config { tlp: false, ..plain() }, "");
        host.write(30_000);
        host.expect_data(1, 10_001, 1_000);
        host.expect_after(200, 1_000, "A 1:1001");
        host.inject("A 1:1 ack 1");
        host.expect_nothing();
        host.inject("A 1:1 ack 1001");
        host.expect("A 1001:2001");
        host.expect("A 2001:3001");
        host.expect_nothing();
        assert_eq!((host.info().cwnd, host.info().ssthresh), (2_000, 5_000));
    });
}

/// RFC5682-F, RFC6675-5R: a timeout in fast recovery is the loss of what was sent again. It begins anew from there, and
/// F-RTO has no part in it.
#[test]
fn sc_65_rfc6675_5r_a_timeout_in_fast_recovery() {
    each_isn(|isn| {
        let mut host = open(isn, plain(), ", sackOK");
        host.write(30_000);
        host.expect_data(1, 10_001, 1_000);
        host.advance(100);
        let mut lost = Vec::new();
        for end in [2_001, 3_001, 4_001] {
            host.inject(&format!("A 1:1 ack 1 <sack 1001:{end}>"));
            lost.extend(data(&mut host));
        }
        assert!(lost.contains(&(1, 1_001)), "{lost:?}");
        host.expect_after(200, 1_000, "A 1:1001");
        assert_eq!((host.info().timeouts, host.info().cwnd), (1, 1_000));
        host.advance(50);
        // The next ACK does not lead to new data, as it would in F-RTO, while there is something to send again.
        host.inject("A 1:1 ack 4001");
        assert_eq!(data(&mut host).first(), Some(&(4_001, 5_001)));
    });
}

/// RFC 6675 5, RFC 2018 4: the network has put the report behind a later ACK.
#[test]
fn the_blocks_of_an_ack_that_others_have_overtaken_count() {
    each_isn(|isn| {
        let mut host = open(isn, plain(), ", sackOK");
        host.write(10_000);
        host.expect_data(1, 10_001, 1_000);
        host.advance(100);
        host.inject("A 1:1 ack 2001");
        host.inject("A 1:1 ack 1001 <sack 3001:4001>");
        assert_eq!((host.info().sacked, host.unacked()), (1_000, 8_000));
        host.inject("A 1:1 ack 1001 <sack 3001:5001>");
        host.expect_nothing();
        host.inject("A 1:1 ack 1001 <sack 3001:6001>");
        assert!(host.expect("A 2001:3001").retransmission, "three segments above the hole have arrived");
        // What lies below SND.UNA by now, or was never sent, is no news.
        let sacked = host.info().sacked;
        host.inject("A 1:1 ack 1 <sack 1001:2001>");
        host.inject("A 1:1 ack 1001 <sack 90001:91001>");
        assert_eq!(host.info().sacked, sacked);
        host.inject("A 1:1 ack 10001");
        assert_eq!(host.unacked(), 0);
    });
}

/// RFC2883-5a: a duplicate is told from the ACK field of its own segment.
#[test]
fn a_dsack_on_an_ack_that_others_have_overtaken_undoes() {
    each_isn(|isn| {
        let mut host = open(isn, Config { eifel: false, ..plain() }, ", sackOK");
        host.write(10_000);
        host.expect_data(1, 10_001, 1_000);
        host.advance(100);
        host.inject("A 1:1 ack 1 <sack 1001:4001>");
        assert!(host.expect("A 1:1001").retransmission);
        let ssthresh = host.info().ssthresh;
        // The first segment was late only. Its second copy is reported, and that report comes late, too.
        host.inject("A 1:1 ack 10001");
        host.inject("A 1:1 ack 9001 <sack 1:1001>");
        assert_eq!(host.info().recovery.dsacks, 1);
        assert!(host.info().ssthresh > ssthresh, "nothing was lost: {:?}", host.info());
        host.take_all();
    });
}

/// RFC5961-5.2: older than any window was is nothing that the network holds back.
#[test]
fn the_blocks_of_a_much_too_old_ack_do_not_count() {
    each_isn(|isn| {
        let mut host = open(isn, plain(), ", sackOK");
        host.send_and_ack(70_000);
        host.advance(1_000);
        host.write(10_000);
        host.take_all();
        host.inject("A 1:1 ack 1 <sack 71001:72001>");
        host.expect("A 80001:80001 ack 1");
        assert_eq!(host.info().sacked, 0);
        host.inject("A 1:1 ack 80001");
    });
}
