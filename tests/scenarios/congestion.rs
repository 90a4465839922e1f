//! Slow start and congestion avoidance: SC-58, SC-65, SC-67, KP-01, KP-02, KP-06.

use trust::tcp::Config;

use super::harness::{Host, each_isn, plain};

/// Sends and acknowledges with a full window until the window holds `segments`; leaves nothing in flight.
fn grow(host: &mut Host, segments: u32) {
    let mut rounds = 0;
    while host.info().cwnd < segments * 1_000 {
        rounds += 1;
        assert!(rounds < 100, "the window does not grow");
        host.write(200_000);
        let sent = host.take_all();
        let end = sent.iter().map(|sent| sent.script.seq + i64::from(sent.script.len)).max().unwrap();
        host.advance(100);
        host.take_all();
        host.inject(&format!("A 1:1 ack {end}"));
    }
}

#[test]
fn kp_01_sc_58_slow_start_begins_with_ten_segments_and_counts_octets() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(100_000);
        host.expect_data(1, 10_001, 1_000);
        host.expect_nothing();
        host.inject("A 1:1 ack 2001");
        host.expect_data(10_001, 14_001, 1_000);
        host.expect_nothing();
        host.inject("A 1:1 ack 3001");
        host.expect_data(14_001, 16_001, 1_000);
        host.expect_nothing();
    });
}

#[test]
fn ops_31_sc_58_divided_acks_do_not_speed_up() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(100_000);
        host.expect_data(1, 10_001, 1_000);
        let mut sent = 0;
        for part in 1..=10 {
            host.inject(&format!("A 1:1 ack {}", 1 + part * 100));
            sent += host.take_all().iter().map(|sent| sent.script.len).sum::<u32>();
        }
        assert!(sent <= 2_000, "one segment acknowledged, {sent} octets sent");
    });
}

/// MUST-19, RFC5681-3.1f, RFC2018-5b.
#[test]
fn kp_02_sc_65_after_a_timeout_slow_start_to_half_the_flight() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(100_000);
        host.expect_data(1, 10_001, 1_000);
        let first = host.expect_after(200, 1_100, "A 1:1001").at;
        host.expect_nothing();
        assert_eq!((host.info().cwnd, host.info().ssthresh), (1_000, 5_000));
        let gap = first - (trust::tcp::Instant::from_secs(100));
        // RFC5681-3.1i: the second timeout of one segment holds the threshold and doubles the wait.
        let wait = gap.as_millis();
        host.expect_after(2 * wait, 2 * wait + 100, "A 1:1001");
        host.expect_nothing();
        assert_eq!((host.info().cwnd, host.info().ssthresh), (1_000, 5_000));
        host.inject("A 1:1 ack 1001");
        host.expect_data(1_001, 3_001, 1_000);
        host.expect_nothing();
        host.inject("A 1:1 ack 2001");
        host.expect_data(3_001, 5_001, 1_000);
        host.expect_nothing();
        host.inject("A 1:1 ack 3001");
        host.expect_data(5_001, 7_001, 1_000);
        host.expect_nothing();
        assert_eq!(host.info().cwnd, 4_000);
        host.inject("A 1:1 ack 4001");
        host.expect_data(7_001, 9_001, 1_000);
        host.expect_nothing();
        assert_eq!(host.info().cwnd, 5_000);
        // Avoidance from here: five more ACKs make one segment.
        for ack in [5_001, 6_001, 7_001, 8_001] {
            host.inject(&format!("A 1:1 ack {ack}"));
            assert_eq!(host.take_all().len(), 1);
        }
        assert_eq!(host.info().cwnd, 5_000);
        host.inject("A 1:1 ack 9001");
        assert_eq!(host.take_all().len(), 2);
        assert_eq!(host.info().cwnd, 6_000);
    });
}

/// RFC8961-3, RFC6928-2c.
#[test]
fn kp_02_a_large_window_collapses_to_one_segment() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        grow(&mut host, 40);
        host.write(200_000);
        let flight = host.take_all().iter().map(|sent| sent.script.len).sum::<u32>();
        assert!(flight >= 20_000);
        host.advance(2_000);
        let sent = host.take_all();
        assert!(sent.iter().all(|again| again.script.seq == sent[0].script.seq && again.script.len == 1_000));
        assert_eq!((host.info().cwnd, host.info().ssthresh), (1_000, flight / 2));
    });
}

#[test]
fn kp_06_avoidance_grows_by_one_segment_a_round_trip() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        grow(&mut host, 40);
        // One loss halves.
        host.write(200_000);
        let sent = host.take_all();
        let una = sent[0].script.seq;
        let cwnd = host.info().cwnd;
        for _ in 0..3 {
            host.inject(&format!("A 1:1 ack {una}"));
            host.take_all();
        }
        let mut end = host.sent_upto();
        host.inject(&format!("A 1:1 ack {end}"));
        let start = host.info().cwnd;
        assert!(start <= cwnd / 2 + 1_000, "{start}");
        for round in 1..=10 {
            host.write(200_000);
            host.take_all();
            let (from, to) = (end, host.sent_upto());
            end = to;
            let mut ack = from;
            while ack < to {
                ack = (ack + 1_000).min(to);
                host.inject(&format!("A 1:1 ack {ack}"));
                end = end.max(host.sent_upto());
                host.take_all();
            }
            let grown = host.info().cwnd - start;
            let expected = round * 1_000;
            assert!(grown.abs_diff(expected) <= 1_000, "after {round} round trips: {grown}");
            end = to;
        }
    });
}

/// OPS-10. Unless that is switched off.
#[test]
fn sc_67_rfc5681_4_1_an_idle_connection_begins_again() {
    for slow_start_after_idle in [true, false] {
        each_isn(|isn| {
            let mut host = Host::established(isn, Config { slow_start_after_idle, ..plain() });
            grow(&mut host, 40);
            host.send_and_ack(0);
            let all = host.unacked();
            assert_eq!(all, 0);
            host.advance(60_000);
            host.take_all();
            host.write(100_000);
            let sent = host.take_all();
            if slow_start_after_idle {
                assert_eq!(sent.len(), 10);
            } else {
                assert!(sent.len() >= 40, "{}", sent.len());
            }
        });
    }
}

#[test]
fn sc_67_rfc9438_5_8_a_flow_limited_by_its_application_does_not_grow_the_window() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        for _ in 0..50 {
            host.send_and_ack(2_000);
            host.advance(10);
        }
        assert!(host.info().cwnd <= 11_000, "{}", host.info().cwnd);
        host.write(100_000);
        assert!(host.take_all().len() <= 11);
    });
}

#[test]
fn ops_30_optimistic_acks_do_not_grow_the_window() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(100_000);
        host.expect_data(1, 10_001, 1_000);
        for ack in [10_002, 20_001, 65_000] {
            host.inject(&format!("A 1:1 ack {ack}"));
            for sent in host.take_all() {
                assert_eq!(sent.script.len, 0, "answered, not believed");
            }
        }
        assert_eq!(host.info().cwnd, 10_000);
    });
}
