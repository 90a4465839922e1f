//! Scripted peers against one connection: loss, timers, the congestion window.
#![allow(clippy::unwrap_used)]

use crate::tcp::connection::lab::{labs, none, plain, with_sack};
use crate::tcp::*;
use crate::wire::options::Timestamps;

#[test]
fn sc_57_karn() {
    plain(|lab| {
        lab.write(1000);
        assert_eq!(lab.pass(1000), ["1000 PA 1:1001 ack 1"]);
        lab.i("A", 1, 0, 1001);
        let info = lab.conn.info(&lab.config, lab.now);
        assert_eq!((info.srtt, info.rto), (None, Duration::from_secs(2)));
        lab.write(1000);
        lab.pass(100);
        lab.i("A", 1, 0, 2001);
        assert_eq!(lab.conn.info(&lab.config, lab.now).srtt, Some(Duration::from_millis(100)));
    });
    labs(
        |_, opened| opened.timestamps = Some(7),
        |lab| {
            lab.stamps = Some(Timestamps { val: 7, ecr: 0 });
            lab.write(900);
            lab.pass(1000);
            let echo = lab.now.as_millis() as u32;
            lab.pass(50);
            lab.stamps = Some(Timestamps { val: 8, ecr: echo });
            lab.i("A", 1, 0, 901);
            assert_eq!(lab.conn.info(&lab.config, lab.now).srtt, Some(Duration::from_millis(50)));
        },
    );
}

#[test]
fn sc_58_slow_start_counts_octets() {
    plain(|lab| {
        assert_eq!(lab.write(100_000).len(), 10); // KP-01
        assert_eq!(lab.i("A", 1, 0, 2001).len(), 4);
        let cwnd = lab.conn.info(&lab.config, lab.now).cwnd;
        for i in 1..=10 {
            lab.i("A", 1, 0, 2001 + i * 100);
        }
        assert_eq!(lab.conn.info(&lab.config, lab.now).cwnd, cwnd + 1000); // OPS-31
    });
}

fn numbered(from: u32, to: u32) -> Vec<String> {
    (from..to).map(|i| format!("A {}:{} ack 1", i * 1000 + 1, i * 1000 + 1001)).collect()
}

/// RFC6675-5.1.
#[test]
fn sc_59_fast_retransmit() {
    plain(|lab| {
        assert_eq!(lab.write(100_000), numbered(0, 10));
        assert_eq!(lab.i("A", 1, 0, 1), numbered(10, 11)); // RFC3042-2a
        assert_eq!(lab.i("PA", 1, 10, 1), none()); // not a duplicate: data
        assert_eq!(lab.w("A", 11, 0, 1, 60_000), none()); // not a duplicate: window
        let said = lab.w("A", 11, 0, 1, 60_000);
        assert_eq!(said, ["A 11001:12001 ack 11"]);
        assert_eq!(lab.w("A", 11, 0, 1, 60_000), ["A 1:1001 ack 11"]);
        let info = lab.conn.info(&lab.config, lab.now);
        assert_eq!((info.ssthresh, info.cwnd), (5000, 8000));
        for _ in 0..4 {
            assert_eq!(lab.w("A", 11, 0, 1, 60_000), none());
        }
        assert_eq!(lab.w("A", 11, 0, 1, 60_000), ["A 12001:13001 ack 11"]);
        assert_eq!(lab.w("A", 11, 0, 12_001, 60_000).len(), 4); // KP-08
        assert_eq!(lab.conn.info(&lab.config, lab.now).cwnd, 5000);
    });
}

#[test]
fn rfc6675_4a_one_report_of_many_segments_is_enough() {
    with_sack(|lab| {
        lab.write(10_000);
        lab.pass(8);
        lab.sack = vec![(1001, 3001)];
        assert_eq!(lab.i("A", 1, 0, 1), none());
        lab.sack = vec![(1001, 3002)];
        assert_eq!(lab.i("A", 1, 0, 1), ["A 1:1001 ack 1"]);
        lab.sack = vec![(5001, 4001), (1, 1), (9001, 20_001), (1, 0)]; // SC-32
        lab.i("A", 1, 0, 1);
        assert_eq!(lab.conn.info(&lab.config, lab.now).retransmits, 1);
    });
    with_sack(|lab| {
        // With SACK, an ACK without blocks tells of no hole.
        lab.write(10_000);
        for _ in 0..5 {
            assert_eq!(lab.i("A", 1, 0, 1), none());
        }
    });
}

#[test]
fn rfc6675_2_reports_that_ride_on_data() {
    with_sack(|lab| {
        lab.write(10_000);
        lab.pass(8);
        // Two segments have overtaken the first: perhaps only that. The same report again is no news.
        for seq in [1, 11, 21, 31] {
            lab.sack = vec![(1001, 3001)];
            lab.i("A", seq, 10, 1);
            assert_eq!(lab.conn.info(&lab.config, lab.now).retransmits, 0);
        }
        lab.sack = vec![(1001, 4001)];
        assert_eq!(lab.i("A", 41, 10, 1), ["A 1:1001 ack 51"]);
        let info = lab.conn.info(&lab.config, lab.now);
        // RFC9937-6.2c: six segments are in the network, and the first retransmission leaves in any case.
        assert_eq!((info.retransmits, info.ssthresh, info.cwnd), (1, 5000, 7000));
        lab.sack = vec![(1001, 5001)];
        lab.i("A", 51, 10, 1);
        // 2000 octets of the 8000 that were in flight have arrived: 1250 may leave for them, 1000 did.
        assert_eq!(lab.conn.info(&lab.config, lab.now).cwnd, 6250);
        lab.i("A", 61, 10, 10_001);
        let info = lab.conn.info(&lab.config, lab.now);
        // RFC5681-3.1h: the ACK that ends the recovery is of a full window.
        assert_eq!((info.retransmits, info.timeouts, info.cwnd), (1, 0, 6000));
    });
}

/// RFC6582-3.2.1.
#[test]
fn sc_60_newreno() {
    plain(|lab| {
        assert_eq!(lab.write(10_000).len(), 10);
        for _ in 0..2 {
            assert_eq!(lab.i("A", 1, 0, 1), none());
        }
        assert_eq!(lab.i("A", 1, 0, 1), ["A 1:1001 ack 1"]);
        assert_eq!(lab.i("A", 1, 0, 4001), ["A 4001:5001 ack 1"]);
        assert_eq!(lab.i("A", 1, 0, 10_001), none());
        assert_eq!(lab.conn.info(&lab.config, lab.now).cwnd, 5000);
        assert_eq!(lab.conn.info(&lab.config, lab.now).retransmits, 2);
        // After a timeout, duplicates of what was sent twice must not halve again.
        lab.write(4000);
        lab.pass(2000);
        let ssthresh = lab.conn.info(&lab.config, lab.now).ssthresh;
        for _ in 0..5 {
            lab.i("A", 1, 0, 10_001);
        }
        assert_eq!(lab.conn.info(&lab.config, lab.now).ssthresh, ssthresh);
    });
}

/// RFC6582-3.2.3P: a segment may leave in two packets, which are acknowledged one after the other. The first of these
/// ACKs tells of no hole.
#[test]
fn sc_60_half_a_retransmission_is_no_hole() {
    plain(|lab| {
        assert_eq!(lab.write(10_000).len(), 10);
        for _ in 0..2 {
            assert_eq!(lab.i("A", 1, 0, 1), none());
        }
        assert_eq!(lab.i("A", 1, 0, 1), ["A 1:1001 ack 1"]);
        for hole in 1..4 {
            assert_eq!(lab.i("A", 1, 0, hole * 1_000 - 399), none());
            assert_eq!(lab.i("A", 1, 0, hole * 1_000 + 1), numbered(hole, hole + 1));
        }
    });
}

#[test]
fn sc_65_timeout() {
    plain(|lab| {
        lab.write(20_000);
        assert_eq!(lab.pass(999), none());
        assert_eq!(lab.pass(1), ["1000 A 1:1001 ack 1"]); // KP-02
        let info = lab.conn.info(&lab.config, lab.now);
        assert_eq!((info.cwnd, info.ssthresh), (1000, 5000));
        assert_eq!(lab.pass(2000), ["3000 A 1:1001 ack 1"]); // KP-10
        assert_eq!(lab.conn.info(&lab.config, lab.now).ssthresh, 5000);
        assert_eq!(lab.i("A", 1, 0, 1001), numbered(1, 3));
        assert_eq!(lab.i("A", 1, 0, 3001), numbered(3, 7));
        assert_eq!(lab.i("A", 1, 0, 7001), numbered(7, 12));
        // What the peer had kept is not sent again.
        assert_eq!(lab.i("A", 1, 0, 10_001), numbered(12, 16));
    });
}

#[test]
fn sc_67_idle_restart() {
    plain(|lab| {
        for i in 0..8_u32 {
            lab.write(30_000);
            let info = lab.conn.info(&lab.config, lab.now);
            let end = info.bytes_acked as u32 + info.flight;
            lab.i("A", 1, 0, 1 + end);
            assert!(i < 10);
        }
        while lab.conn.queued() > 0 {
            let info = lab.conn.info(&lab.config, lab.now);
            lab.i("A", 1, 0, 1 + info.bytes_acked as u32 + info.flight);
        }
        assert!(lab.conn.info(&lab.config, lab.now).cwnd > 20_000);
        lab.pass(10_000);
        assert_eq!(lab.write(100_000).len(), 10);
    });
}

#[test]
fn data_in_our_own_ring_is_not_sent_again() {
    plain(|lab| {
        lab.conn.on_send(3000);
        let mut sent = Vec::new();
        while let Some(out) = lab.conn.poll_transmit(&lab.config, lab.now, 1000) {
            sent.push(out);
        }
        assert_eq!(lab.pass(10_000), none());
        assert_eq!(lab.conn.info(&lab.config, lab.now).rto, Duration::from_secs(1), "no backoff");
        lab.conn.on_device_write(sent[0].end_seq());
        let said = lab.pass(1_000);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].ends_with("A 1:1001 ack 1"));
    });
}
