//! Sequence acceptability, ACK acceptability, reassembly: SC-20 to SC-32.

use super::harness::{Host, Isn, each_isn, plain, with_buffer};
use trust::tcp::{Config, Keep, State};

fn with_sack(isn: Isn) -> Host {
    Host::established_with(isn, plain(), "S 0:0 win 65535 <mss 1000, sackOK>", "A 1:1 ack 1 win 65535")
}

#[test]
fn sc_20_an_old_duplicate_is_acknowledged_at_once() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("A 1:1001 ack 1");
        host.inject("PA 1:501 ack 1");
        host.expect("A 1:1 ack 1001 <>");
        assert_eq!(host.readable(), 1_000);
        // SM-GEN-7: duplicates with data are exempt from the rate limit, the peer needs the answer.
        host.inject("PA 1:501 ack 1");
        host.expect("A 1:1 ack 1001");
    });
}

#[test]
fn sc_20_rfc2883_4a_an_old_duplicate_is_reported() {
    each_isn(|isn| {
        let mut host = with_sack(isn);
        host.inject("A 1:1001 ack 1");
        host.inject("PA 1:501 ack 1");
        host.expect("A 1:1 ack 1001 <sack 1:501>");
    });
}

#[test]
fn sc_21_the_overlap_is_cut_off() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("A 1:501 ack 1");
        host.inject("PA 1:1001 ack 1");
        host.advance(200);
        host.expect("A 1:1 ack 1001");
        assert_eq!(host.readable(), 1_000);
    });
}

#[test]
fn sc_22_beyond_the_window() {
    each_isn(|isn| {
        let mut host = Host::established(isn, with_buffer(5_000));
        host.inject("PA 6001:7001 ack 1");
        host.expect("A 1:1 ack 1 win 5000");
        assert_eq!(host.held(), 0);
    });
}

#[test]
fn sc_23_the_right_edge_is_cut_off() {
    each_isn(|isn| {
        let mut host = Host::established(isn, with_buffer(1_000));
        host.inject("PA 501:1501 ack 1");
        host.expect("A 1:1 ack 1 win 1000");
        assert_eq!(host.held(), 500);
        host.inject("A 1:501 ack 1");
        host.expect("A 1:1 ack 1001 win 0");
        assert_eq!(host.readable(), 1_000);
    });
}

#[test]
fn sm_seq_4_a_segment_over_both_edges_is_cut_to_the_window() {
    each_isn(|isn| {
        let mut host = Host::established(isn, with_buffer(1_000));
        host.inject("A 1:501 ack 1");
        host.read(500);
        host.take_all();
        let readable = 500;
        host.inject("PA 1:2001 ack 1");
        host.advance(200);
        let sent = host.take_all();
        assert!(host.readable() >= readable, "{sent:?}");
        assert_eq!(sent.last().unwrap().script.ack, Some(501 + host.readable() as i64));
    });
}

#[test]
fn sc_24_sack_blocks_begin_with_the_newest() {
    each_isn(|isn| {
        let mut host = with_sack(isn);
        host.inject("A 1001:2001 ack 1");
        host.expect("A 1:1 ack 1 <sack 1001:2001>");
        host.inject("A 3001:4001 ack 1");
        host.expect("A 1:1 ack 1 <sack 3001:4001 1001:2001>");
        host.inject("A 1:1001 ack 1");
        host.expect("A 1:1 ack 2001 <sack 3001:4001>");
        assert_eq!(host.readable(), 2_000);
    });
}

#[test]
fn rfc2018_4d_older_blocks_are_repeated_newest_first() {
    each_isn(|isn| {
        let mut host = with_sack(isn);
        let mut blocks = Vec::new();
        for at in [1001, 3001, 5001, 7001, 9001] {
            host.inject(&format!("A {at}:{} ack 1", at + 1_000));
            blocks = host.take().script.options.unwrap().sack;
        }
        assert_eq!(blocks[..], [(9001, 10001), (7001, 8001), (5001, 6001), (3001, 4001)]);
        // A segment that enlarges an old block brings that one to the front.
        host.inject("A 2001:2501 ack 1");
        let blocks = host.take().script.options.unwrap().sack;
        assert_eq!(blocks[0], (1001, 2501));
    });
}

#[test]
fn sc_25_rfc2883_duplicates_are_reported_once() {
    each_isn(|isn| {
        let mut host = with_sack(isn);
        host.inject_batch(&["A 1001:2001 ack 1", "A 3001:4001 ack 1", "A 1:1001 ack 1"]);
        host.take_all();
        host.inject("A 1:1001 ack 1");
        host.expect("A 1:1 ack 2001 <sack 1:1001 3001:4001>");
        host.inject("A 3001:4001 ack 1");
        host.expect("A 1:1 ack 2001 <sack 3001:4001 3001:4001>");
        host.inject("A 5001:6001 ack 1");
        host.expect("A 1:1 ack 2001 <sack 5001:6001 3001:4001>");
        host.inject("A 2001:3001 ack 1");
        host.expect("A 1:1 ack 4001 <sack 5001:6001>");
    });
}

#[test]
fn sc_26_a_fin_out_of_order_waits_for_the_data() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("FA 1001:1001 ack 1");
        host.expect("A 1:1 ack 1");
        host.assert_state(State::Established);
        host.inject("PA 1:1001 ack 1");
        host.expect("A 1:1 ack 1002");
        host.assert_state(State::CloseWait);
        assert!(!host.at_eof());
        host.read(1_000);
        assert!(host.at_eof());
    });
}

#[test]
fn sm_gen_2_data_and_fin_out_of_order_drain_together() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("FA 1001:2001 ack 1");
        host.expect("A 1:1 ack 1");
        host.inject("A 1:1001 ack 1");
        host.expect("A 1:1 ack 2002");
        assert_eq!(host.readable(), 2_000);
        host.assert_state(State::CloseWait);
    });
}

#[test]
fn a_fin_beyond_the_cut_at_the_right_edge_does_not_count() {
    each_isn(|isn| {
        let mut host = Host::established(isn, with_buffer(1_000));
        host.inject("FPA 1:1501 ack 1");
        host.advance(200);
        host.expect("A 1:1 ack 1001 win 0");
        host.assert_state(State::Established);
        host.read(1_000);
        host.take_all();
        host.inject("FPA 1001:1501 ack 1");
        host.expect("A 1:1 ack 1502");
        host.assert_state(State::CloseWait);
    });
}

#[test]
fn sc_27_ops_30_an_ack_of_unsent_data_drops_the_segment() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("PA 1:11 ack 5000");
        host.expect("A 1:1 ack 1");
        assert_eq!(host.readable(), 0);
    });
}

/// RFC5961-5.2, SM-ACK-4.
#[test]
fn sc_28_may_12_a_too_old_ack_drops_the_segment() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.send_and_ack(200_000);
        host.inject("PA 1:11 ack 100001");
        host.expect("A 200001:200001 ack 1");
        assert_eq!(host.readable(), 0);
        host.inject("PA 1:11 ack 140001");
        assert_eq!(host.readable(), 10);
        host.take_all();
    });
}

/// RFC5961-5.2 counts from MAX.SND.WND. On a young connection that reaches below the first octet: an ACK of what was never
/// sent is no late one.
#[test]
fn may_12_an_ack_below_the_first_octet_drops_the_segment() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        for ack in [0, -1, -65_000] {
            host.inject(&format!("PA 1:11 ack {ack}"));
            host.expect("A 1:1 ack 1");
            host.advance(500);
        }
        host.send_and_ack(2_000);
        host.inject("PA 1:11 ack 0");
        host.expect("A 2001:2001 ack 1");
        assert_eq!(host.readable(), 0);
        host.inject("PA 1:11 ack 1");
        assert_eq!(host.readable(), 10, "late, but no lie");
        host.take_all();
    });
}

/// The acknowledged FIN has used a number, too.
#[test]
fn may_12_a_late_ack_is_taken_when_the_fin_is_acknowledged() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.shutdown();
        host.expect("FA 1:1");
        host.inject("A 1:1 ack 2");
        host.assert_state(State::FinWait2);
        host.inject("PA 1:11 ack 0");
        host.expect("A 2:2 ack 1");
        assert_eq!(host.readable(), 0);
        host.inject("PA 1:11 ack 1");
        assert_eq!(host.readable(), 10);
        host.take_all();
    });
}

#[test]
fn sc_29_sm_gen_3_no_ack_flag_no_processing() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("P 1:11");
        host.advance(1_000);
        host.expect_nothing();
        assert_eq!(host.readable(), 0);
    });
}

#[test]
fn sc_30_sm_ack_6_old_segments_do_not_change_the_window() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(2_000);
        host.expect_data(1, 2_001, 1_000);
        host.inject("PA 1:501 ack 1");
        host.inject("A 501:501 ack 2001 win 4000");
        host.take_all();
        host.inject("A 501:501 ack 1001 win 9000");
        host.take_all();
        host.write(20_000);
        host.expect_data(2_001, 6_001, 1_000);
        host.expect_nothing();
        host.inject("A 501:501 ack 2001 win 9000");
        host.expect_data(6_001, 11_001, 1_000);
        host.expect_nothing();
    });
}

/// Two segments of the peer change places: the older one must not take the newer window back (SND.WL1).
#[test]
fn sm_ack_6_reordered_segments_do_not_change_the_window_back() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("A 501:601 ack 1 win 4000");
        host.expect("A 1:1 ack 1");
        host.inject("A 1:501 ack 1 win 9000");
        host.expect("A 1:1 ack 601");
        host.write(20_000);
        host.expect_data(1, 4_001, 1_000);
        host.expect_nothing();
    });
}

#[test]
fn sc_31_ops_26_a_thousand_tiny_segments_cost_bounded_memory() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        for index in 1..=1_000 {
            let at = 2 * index;
            host.inject(&format!("A {at}:{} ack 1", at + 1));
            host.take_all();
        }
        // One range for each full segment that the buffer holds, and 64 at least.
        assert!((64..=66).contains(&host.held()), "{} octets held", host.held());
        for (from, to) in [(1, 1_001), (1_001, 2_002)] {
            host.inject(&format!("A {from}:{to} ack 1"));
            host.take_all();
        }
        assert_eq!(host.readable(), 2_001);
        assert_eq!(host.held(), 0);
    });
}

#[test]
fn sc_32_hostile_sack_blocks_are_survived() {
    each_isn(|isn| {
        let mut host = with_sack(isn);
        host.write(10_000);
        host.expect_data(1, 10_001, 1_000);
        for blocks in
            ["5001:4001", "1:1", "20001:30001", "-2147483648:1", "1:10001", "1001:5001 2001:6001 1:9001 3001:3002"]
        {
            host.inject(&format!("A 1:1 ack 1 <sack {blocks}>"));
            for sent in host.take_all() {
                assert!(sent.script.seq >= 1 && sent.script.seq + i64::from(sent.script.len) <= 14_001);
            }
        }
        host.inject("A 1:1 ack 10001");
        host.take_all();
        host.write(1_000);
        assert_eq!(host.take_all().last().unwrap().script.len, 1_000);
    });
}

/// MAY-13.
#[test]
fn kp_05_shld_31_data_above_a_hole_is_kept() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        for at in [1_001, 2_001, 3_001, 4_001] {
            host.inject(&format!("A {at}:{} ack 1", at + 1_000));
            host.expect("A 1:1 ack 1");
        }
        host.inject("A 1:1001 ack 1");
        host.expect("A 1:1 ack 5001");
        host.expect_nothing();
        assert_eq!(host.readable(), 5_000);
    });
}

#[test]
fn rfc5681_3_2_0_filling_part_of_a_hole_is_acknowledged_at_once() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("A 2001:3001 ack 1");
        host.expect("A 1:1 ack 1");
        host.inject("A 1:1001 ack 1");
        host.expect("A 1:1 ack 1001");
        host.inject("A 1001:2001 ack 1");
        host.expect("A 1:1 ack 3001");
    });
}

#[test]
fn must_59_one_ack_for_each_run_and_one_for_each_segment_out_of_order() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject_batch(&["A 1:1001 ack 1", "A 1001:2001 ack 1", "A 2001:3001 ack 1", "A 3001:4001 ack 1"]);
        host.expect("A 1:1 ack 4001");
        host.expect_nothing();
        host.inject_batch(&["A 5001:6001 ack 1", "A 6001:7001 ack 1", "A 7001:8001 ack 1"]);
        for _ in 0..3 {
            host.expect("A 1:1 ack 4001");
        }
        host.expect_nothing();
    });
}

/// RFC2018-8a.
#[test]
fn ops_46_under_memory_pressure_data_out_of_order_goes_first() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.keep = Keep::in_order(2_000);
        host.inject("A 1001:2001 ack 1");
        host.expect("A 1:1 ack 1");
        assert_eq!(host.held(), 0);
        host.inject("A 1:1001 ack 1");
        assert_eq!(host.readable(), 1_000);
        host.take_all();
        host.keep = Keep::in_order(0);
        host.inject("A 1001:2001 ack 1");
        assert_eq!(host.readable(), 1_000);
        for sent in host.take_all() {
            assert_eq!(sent.script.ack, Some(1_001), "what is not kept is not acknowledged");
        }
        host.keep = Keep::All;
        host.inject("A 1001:2001 ack 1");
        host.advance(200);
        assert_eq!(host.readable(), 2_000);
        assert_eq!(host.take_all().last().unwrap().script.ack, Some(2_001));
    });
}

/// OPS-42, SM-SEQ-2.
#[test]
fn sm_seq_5_a_pure_ack_just_outside_the_window_counts() {
    each_isn(|isn| {
        // The peer filled our window of 2000 to the brim, then acknowledges from the edge.
        let mut host = Host::established(isn, with_buffer(2_000));
        host.write(1_000);
        host.expect("A 1:1001");
        host.inject("A 2001:2001 ack 1001");
        host.take_all();
        assert_eq!(host.unacked(), 0, "SEQ at the right edge");
        // KA-2: a keep-alive probe is answered.
        host.inject("A 0:0 ack 1001");
        host.advance(600);
        host.take_all();
        host.inject("A 0:0 ack 1001");
        host.expect("A 1001:1001 ack 1");
        host.assert_state(State::Established);
    });
}

#[test]
fn sm_cw_2_text_behind_the_fin_is_ignored() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("FA 1:1 ack 1");
        host.expect("A 1:1 ack 2");
        host.inject("PA 2:12 ack 1");
        host.take_all();
        assert_eq!(host.readable(), 0);
        host.assert_state(State::CloseWait);
        host.advance(600);
        host.inject("FA 1:1 ack 1");
        host.expect("A 1:1 ack 2");
        host.assert_state(State::CloseWait);
    });
}

#[test]
fn acks_of_the_defaults_are_quick_at_first() {
    // OPS-6: 16 immediate ACKs.
    each_isn(|isn| {
        let mut host = Host::established(isn, Config { recv_buffer: plain().recv_buffer, ..Config::default() });
        for index in 0..16 {
            let at = 1 + index * 100;
            host.inject(&format!("A {at}:{} ack 1", at + 100));
            host.expect(&format!("A 1:1 ack {}", at + 100));
        }
    });
}
