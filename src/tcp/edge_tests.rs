//! Scripted peers against details that longer scenarios pass by: the segment before a threshold, the second reduction of
//! a recovery.
#![allow(clippy::unwrap_used)]

use super::lab::{Lab, labs, with_sack};
use super::*;

/// An ACK with SACK blocks.
fn sack(lab: &mut Lab, ack: u32, blocks: &[(u32, u32)]) -> Vec<String> {
    lab.sack = blocks.to_vec();
    lab.i("A", 1, 0, ack)
}

/// RFC3042-2a, RFC6675-5.3: each SACK below the threshold lets a new segment go beyond the window.
#[test]
fn rfc6675_5_3_limited_transmit_with_sack() {
    with_sack(|lab| {
        assert_eq!(lab.write(30_000).len(), 10);
        assert_eq!(sack(lab, 1, &[(1_001, 2_001)]), ["A 10001:11001 ack 1"]);
        assert_eq!(sack(lab, 1, &[(1_001, 3_001)]), ["A 11001:12001 ack 1"]);
        let said = sack(lab, 1, &[(1_001, 4_001)]);
        assert_eq!(said.first().map(String::as_str), Some("A 1:1001 ack 1"));
    });
}

/// RFC5681-4.3, RFC9937-6.1: when a retransmission is lost, the second reduction begins with what is in flight then.
#[test]
fn rfc9937_6_1_the_second_reduction_starts_from_its_own_flight() {
    labs(
        |config, opened| {
            config.initial_window = 20;
            opened.sack = true;
            opened.rtt = Some(Duration::from_millis(100));
        },
        |lab| {
            lab.conn.on_send(60_000);
            lab.drain(&mut Vec::new());
            lab.pass(92);
            assert_eq!(sack(lab, 1, &[(1_001, 4_001)])[0], "A 1:1001 ack 1");
            // The retransmission is lost; what was sent before it arrives, then what was sent after it.
            lab.pass(1);
            for end in 5..=20 {
                sack(lab, 1, &[(1_001, end * 1_000 + 1)]);
            }
            let sent = lab.conn.info(&lab.config).flight;
            lab.pass(100);
            let said = sack(lab, 1, &[(1_001, 21_001)]);
            assert_eq!(said.first().map(String::as_str), Some("A 1:1001 ack 1"), "{said:?}");
            let left: Vec<_> = (22..=sent / 1_000).map(|end| sack(lab, 1, &[(1_001, end * 1_000 + 1)]).len()).collect();
            assert!(left[..4].contains(&1), "above the threshold about one leaves for two that arrive: {left:?}");
        },
    );
}

/// RFC5681-3.1g: what a hole held up adds to the window when it is acknowledged, and what is only SACKed does not.
#[test]
fn rfc5681_3_1g_slow_start_goes_on_behind_a_short_reordering() {
    with_sack(|lab| {
        assert_eq!(lab.write(60_000).len(), 10);
        sack(lab, 1, &[(1_001, 2_001)]);
        assert_eq!(lab.conn.info(&lab.config).cwnd, 10_000);
        assert_eq!(sack(lab, 2_001, &[(3_001, 4_001)]).len(), 4);
        assert_eq!(lab.conn.info(&lab.config).cwnd, 12_000);
    });
}
