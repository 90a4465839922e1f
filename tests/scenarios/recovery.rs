//! Loss recovery and RTT: SC-57, SC-59, SC-60, KP-04, KP-08, KP-10, KP-14.

use super::harness::{Host, each_isn, plain};
use trust::tcp::{CloseReason, State};

/// RFC5681-3.2.1, RFC5681-3.2.5.
#[test]
fn sc_59_kp_08_fast_retransmit_and_fast_recovery() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(30_000);
        host.expect_data(1, 10_001, 1_000);
        host.inject("A 1:1 ack 1");
        host.expect("A 10001:11001");
        host.expect_nothing();
        host.inject("A 1:1 ack 1");
        host.expect("A 11001:12001");
        host.expect_nothing();
        host.inject("A 1:1 ack 1");
        let sent = host.expect("A 1:1001");
        assert!(sent.retransmission);
        host.expect_nothing();
        assert_eq!(host.info().ssthresh, 5_000, "RFC5681-3.2.2: without limited transmit");
        // cwnd 8000 + one for each further duplicate; 12000 are out.
        for _ in 4..=7 {
            host.inject("A 1:1 ack 1");
            host.expect_nothing();
        }
        host.inject("A 1:1 ack 1");
        host.expect("A 12001:13001");
        host.expect_nothing();
        host.inject("A 1:1 ack 12001");
        assert!(host.info().cwnd <= 5_000, "deflated, {}", host.info().cwnd);
        let burst: u32 = host.take_all().iter().map(|sent| sent.script.len).sum();
        assert!(burst <= 4_000, "cwnd - flight, {burst}");
        assert!(burst > 0);
    });
}

#[test]
fn rfc5681_2_da_what_is_not_a_duplicate_ack() {
    for not in ["A 1:1 ack 1 win 60000", "A 1:11 ack 1", "FA 501:501 ack 1"] {
        each_isn(|isn| {
            let mut host = Host::established(isn, plain());
            host.write(10_000);
            host.expect_data(1, 10_001, 1_000);
            host.inject("A 1:1 ack 1");
            host.inject("A 1:1 ack 1");
            host.inject(not);
            for sent in host.take_all() {
                assert_eq!(sent.script.len, 0, "{not}: {}", sent.script);
            }
        });
    }
}

#[test]
fn sc_60_rfc6582_partial_acks_retransmit_at_once() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(10_000);
        host.expect_data(1, 10_001, 1_000);
        host.inject("A 1:1 ack 1");
        host.inject("A 1:1 ack 1");
        host.expect_nothing();
        host.inject("A 1:1 ack 1");
        host.expect("A 1:1001");
        for _ in 0..5 {
            host.inject("A 1:1 ack 1");
        }
        host.inject("A 1:1 ack 4001");
        host.expect("A 4001:5001");
        host.expect_nothing();
        host.inject("A 1:1 ack 10001");
        host.expect_nothing();
        assert_eq!(host.unacked(), 0);
        assert!(host.info().cwnd <= 5_000);
    });
}

#[test]
fn rfc6582_3_2_4_duplicates_after_a_timeout_do_not_halve_again() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(10_000);
        host.expect_data(1, 10_001, 1_000);
        host.expect_after(200, 1_100, "A 1:1001");
        assert_eq!(host.info().ssthresh, 5_000);
        for _ in 0..5 {
            host.inject("A 1:1 ack 1");
            host.take_all();
        }
        assert_eq!(host.info().ssthresh, 5_000);
        assert!(host.info().cwnd <= 1_000);
        host.inject("A 1:1 ack 5001");
        host.take_all();
        for _ in 0..3 {
            host.inject("A 1:1 ack 5001");
            for sent in host.take_all() {
                assert!(sent.script.seq >= 5_001);
            }
        }
        assert_eq!(host.info().ssthresh, 5_000);
    });
}

/// RFC5681-4.3.
#[test]
fn a_loss_of_new_data_after_recovery_is_a_new_event() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(60_000);
        host.expect_data(1, 10_001, 1_000);
        for _ in 0..3 {
            host.inject("A 1:1 ack 1");
            host.take_all();
        }
        host.inject("A 1:1 ack 12001");
        host.take_all();
        let before = host.info().ssthresh;
        // RFC6582-3.2.2: duplicates of the ACK that ended recovery do not begin another one; the next ones do.
        for _ in 0..3 {
            host.inject("A 1:1 ack 12001");
            host.take_all();
        }
        assert_eq!(host.info().ssthresh, before);
        host.inject("A 1:1 ack 13001");
        host.take_all();
        for _ in 0..2 {
            host.inject("A 1:1 ack 13001");
            host.take_all();
        }
        assert_eq!(host.info().ssthresh, before);
        host.inject("A 1:1 ack 13001");
        assert_eq!(host.take_all().first().map(|sent| sent.script.seq), Some(13_001));
        assert!(host.info().ssthresh < before);
    });
}

/// RFC6298-5.8.
#[test]
fn sc_57_rfc6298_3a_karn_without_timestamps() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(1_000);
        host.expect("A 1:1001");
        host.advance(100);
        host.inject("A 1:1 ack 1001");
        let srtt = host.info().srtt;
        host.write(1_000);
        host.expect("A 1001:2001");
        let first = host.now();
        let again = host.expect_after(200, 3_000, "A 1001:2001").at;
        let rto = (again - first).as_millis();
        host.advance(300);
        host.take_all();
        host.inject("A 1:1 ack 2001");
        assert_eq!(host.info().srtt, srtt, "ambiguous: no sample");
        // The backoff stays until a valid sample.
        host.write(1_000);
        host.expect("A 2001:3001");
        host.expect_after(2 * rto, 2 * rto + 50, "A 2001:3001");
        host.inject("A 1:1 ack 3001");
        host.write(1_000);
        host.expect("A 3001:4001");
        host.advance(100);
        host.inject("A 1:1 ack 4001");
        host.write(1_000);
        host.expect("A 4001:5001");
        host.expect_after(200, 2 * rto - 50, "A 4001:5001");
    });
}

#[test]
fn sc_57_rfc7323_4_1_with_timestamps_a_retransmission_gives_a_sample() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 <mss 1000, ts 1 0>", "A 1:1 ack 1 <ts 2 *>");
        host.write(500);
        host.expect("A 1:501");
        let first = host.now();
        let again = host.expect_after(100, 3_000, "A 1:501").at;
        let rto = (again - first).as_millis();
        host.advance(50);
        host.inject("A 1:1 ack 501 <ts 3 *>");
        host.write(500);
        host.expect("A 501:1001");
        host.expect_after(100, 2 * rto - 20, "A 501:1001");
    });
}

/// The data arrived, its ACK was lost. The second copy is below the window, so its timestamp is not taken over and the
/// answer repeats an old echo: counting that as a round trip would count our own timeout.
#[test]
fn rfc8961_2d_an_echo_from_before_the_retransmission_is_no_sample() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 <mss 1000, ts 1 0>", "A 1:1 ack 1 <ts 2 *>");
        host.write(500);
        host.expect("A 1:501");
        host.inject("A 1:1 ack 501 <ts 3 *>");
        let before = host.info().srtt;
        host.advance(1_000);
        host.write(500);
        let first = host.expect("A 501:1001");
        let old_echo = first.script.options.unwrap().timestamps.unwrap().0.unwrap();
        host.advance(5_000);
        host.take_all();
        host.inject(&format!("A 1:1 ack 1001 <ts 4 {old_echo}>"));
        assert_eq!(host.info().srtt, before);
    });
}

#[test]
fn kp_10_retransmissions_back_off_until_r2() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(1_000);
        host.expect("A 1:1001");
        let start = host.now();
        let (mut last, mut gap, mut count) = (start, 0, 0);
        while host.state() == Some(State::Established) {
            host.advance(20);
            assert!((host.now() - start).as_secs() < 3_000, "R2");
            for sent in host.take_all() {
                assert_eq!((sent.script.seq, sent.script.len), (1, 1_000));
                let this = (sent.at - last).as_millis();
                if gap > 0 && 2 * gap < 120_000 {
                    assert!(this.abs_diff(2 * gap) <= 2, "{gap} ms, then {this} ms");
                }
                assert!(this <= 120_000, "RFC6298-2.5: capped");
                (gap, last) = (this, sent.at);
                count += 1;
            }
        }
        assert!(count >= 3, "SHLD-10");
        assert!((host.now() - start).as_secs() >= 100, "SHLD-11");
        host.assert_closed(CloseReason::TimedOut);
    });
}

#[test]
fn kp_14_kp_18_a_retransmission_is_one_segment_no_longer_than_the_first() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 <mss 1000, ts 1 0>", "A 1:1 ack 1 <ts 2 *>");
        host.write(9_880);
        host.expect_data(1, 9_881, 988);
        for _ in 0..2 {
            host.inject("A 1:1 ack 1 <ts 3 *>");
        }
        host.inject("A 1:1 ack 1 <ts 3 *>");
        host.expect("A 1:989");
        host.expect_nothing();
        let sent = host.expect_after(200, 3_000, "A 1:989");
        assert!(sent.retransmission);
        host.expect_nothing();
    });
}

#[test]
fn kp_04_a_retransmission_may_be_cut_anew_but_is_the_same_octets() {
    // That octets agree with their numbers is checked on every segment; here the cut changes.
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.set_nodelay(true);
        for _ in 0..10 {
            host.write(100);
        }
        host.take_all();
        host.write(3_000);
        host.take_all();
        host.advance(1_100);
        let sent = host.take_all();
        assert!(sent.iter().all(|sent| sent.script.seq == 1 && sent.script.len <= 1_000), "{sent:?}");
        host.inject("A 1:1 ack 351");
        host.take_all();
        host.inject("A 1:1 ack 4001");
        assert_eq!(host.unacked(), 0);
    });
}

#[test]
fn rfc6298_5_3_an_ack_of_new_data_restarts_the_timer() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(2_000);
        host.expect_data(1, 2_001, 1_000);
        host.advance(150);
        host.inject("A 1:1 ack 1001");
        host.advance(180);
        host.expect_nothing();
        host.expect_after(1, 1_000, "A 1001:2001");
    });
}

#[test]
fn rfc6298_5_2_nothing_fires_when_all_is_acknowledged() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(2_000);
        host.expect_data(1, 2_001, 1_000);
        host.inject("A 1:1 ack 2001");
        assert_eq!(host.next_timeout(), None);
        host.advance(3_600_000);
        host.expect_nothing();
    });
}

#[test]
fn what_still_waits_in_the_device_is_not_retransmitted() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.device_writes = false;
        host.write(3_000);
        host.expect_data(1, 3_001, 1_000);
        host.advance(20_000);
        host.expect_nothing();
        assert_eq!(host.info().cwnd, 10_000, "our own wait says nothing about the path");
        host.device_writes_all();
        host.expect_after(0, 200_000, "A 1:1001");
        host.inject("A 1:1 ack 3001");
        assert_eq!(host.unacked(), 0);
    });
}
