//! Flow control, silly windows, Nagle, delayed ACK: SC-49 to SC-55, KP-12, KP-13.

use trust::tcp::{CloseReason, Config, State};
use trust::wire::tcp::Flags;

use super::harness::{Host, Sent, each_isn, plain, with_buffer};

/// A probe carries one octet at SND.UNA or none below it.
fn assert_probe(sent: &Sent, una: i64) {
    let script = &sent.script;
    assert!(
        (script.seq == una && script.len == 1) || (script.seq == una - 1 && script.len == 0),
        "not a window probe: {script}"
    );
}

#[test]
fn sc_49_kp_10_shld_29_shld_30_probes_of_a_closed_window_back_off() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("A 1:1 ack 1 win 0");
        host.write(5_000);
        host.expect_nothing();
        let mut last = host.now();
        let mut gap = 0;
        let end = host.now().as_secs() + 7_200;
        let mut probes = 0;
        while host.now().as_secs() < end {
            host.advance(100);
            for sent in host.take_all() {
                assert_probe(&sent, 1);
                let this = (sent.at - last).as_millis();
                assert!(this >= 200 && (this >= 2 * gap || this >= 60_000), "backoff: {gap} ms, then {this} ms");
                assert!(this <= 120_100, "ZW-1: capped, {this} ms");
                (gap, last) = (this, sent.at);
                probes += 1;
                host.inject("A 1:1 ack 1 win 0");
            }
        }
        assert!(probes > 60, "MUST-36: {probes} probes in two hours");
        host.assert_state(State::Established);
        host.inject("A 1:1 ack 1 win 5000");
        let sent = host.take_all();
        assert_eq!(sent.iter().map(|sent| sent.script.len).sum::<u32>(), 5_000);
        assert!(sent.len() <= 6);
    });
}

#[test]
fn zw_3_a_probe_octet_that_is_accepted_is_ordinary_data() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("A 1:1 ack 1 win 0");
        host.write(3_000);
        host.advance(1_500);
        let una = 1;
        let sent = host.take_all();
        assert_probe(&sent[0], una);
        if sent[0].script.len == 1 {
            host.inject("A 1:1 ack 2 win 0");
            host.advance(3_000);
            assert_probe(&host.take(), 2);
            host.take_all();
            host.inject("A 1:1 ack 2 win 5000");
            assert_eq!(host.take_all().iter().map(|sent| sent.script.len).sum::<u32>(), 2_999);
        }
    });
}

#[test]
fn sc_49_zw_4_unanswered_probes_end_at_r2() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("A 1:1 ack 1 win 0");
        host.write(5_000);
        let start = host.now();
        while host.state() == Some(State::Established) {
            host.advance(1_000);
            host.take_all();
            assert!((host.now() - start).as_secs() < 3_000, "R2");
        }
        assert!((host.now() - start).as_secs() >= 100, "SHLD-11");
        host.assert_closed(CloseReason::TimedOut);
    });
}

/// SHLD-15, RFC7323-2.4c.
#[test]
fn sc_50_must_34_a_shrunken_window_stops_new_data_only() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 win 10000 <mss 1000>", "A 1:1 ack 1 win 10000");
        host.write(20_000);
        host.expect_data(1, 10_001, 1_000);
        host.inject("A 1:1 ack 1001 win 2000");
        host.expect_nothing();
        host.expect_after(200, 1_100, "A 1001:2001");
        host.take_all();
        // SHLD-17: octets beyond the edge are nobody's fault.
        for _ in 0..200 {
            host.advance(10_000);
            for sent in host.take_all() {
                assert!(sent.script.seq + i64::from(sent.script.len) <= 3_001, "beyond the edge: {}", sent.script);
            }
            host.inject("A 1:1 ack 1001 win 2000");
            host.take_all();
        }
        host.assert_state(State::Established);
        host.inject("A 1:1 ack 10001 win 5000");
        assert!(!host.take_all().is_empty());
    });
}

#[test]
fn must_35_a_window_shrunk_to_nothing_is_probed() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 win 10000 <mss 1000>", "A 1:1 ack 1 win 10000");
        host.write(20_000);
        host.expect_data(1, 10_001, 1_000);
        host.inject("A 1:1 ack 1001 win 0");
        host.expect_nothing();
        let mut asked = 0;
        for _ in 0..300 {
            host.advance(1_000);
            asked += host.take_all().len();
            host.inject("A 1:1 ack 1001 win 0");
            host.take_all();
        }
        assert!((4..100).contains(&asked), "{asked} questions in 300 s");
        host.assert_state(State::Established);
        host.inject("A 1:1 ack 10001 win 5000");
        let sent = host.take_all();
        assert_eq!(sent.first().map(|sent| sent.script.seq), Some(10_001));
    });
}

#[test]
fn sc_51_must_39_the_receiver_does_not_offer_silly_windows() {
    each_isn(|isn| {
        let mut host = Host::established(isn, with_buffer(10_000));
        for at in (1..10_001).step_by(1_000) {
            host.inject(&format!("A {at}:{} ack 1", at + 1_000));
            host.take_all();
        }
        host.advance(200);
        host.take_all();
        host.read(1);
        host.read(500);
        host.advance(200);
        host.expect_nothing();
        host.read(499);
        host.expect("A 1:1 ack 10001 win 1000");
        host.read(9_000);
        host.expect("A 1:1 ack 10001 win 10000");
    });
    // Nor on a segment that leaves anyway.
    each_isn(|isn| {
        let mut host = Host::established(isn, with_buffer(2_000));
        host.inject("A 1:1001 ack 1");
        host.inject("A 1001:2001 ack 1");
        host.expect("A 1:1 ack 2001 win 0");
        host.read(999);
        host.write(10);
        host.expect("PA 1:11 ack 2001 win 0");
    });
}

#[test]
fn sc_52_kp_12_a_full_buffer_does_not_deafen_us() {
    each_isn(|isn| {
        let mut host = Host::established(isn, with_buffer(4_000));
        for at in (1..4_001).step_by(1_000) {
            host.inject(&format!("A {at}:{} ack 1", at + 1_000));
            host.take_all();
        }
        host.read(1);
        host.take_all();
        host.inject("PA 4001:4002 ack 1");
        host.take();
        let next = 4_001 + (host.readable() as i64 - 3_999);
        host.write(40_000);
        let mut done = 1;
        while done < 40_001 {
            let sent = host.take_all();
            assert!(!sent.is_empty(), "stuck at {done}");
            done = sent.iter().map(|sent| sent.script.seq + i64::from(sent.script.len)).max().unwrap();
            host.inject(&format!("A {next}:{next} ack {done}"));
        }
        assert_eq!(host.unacked(), 0);
    });
}

/// MUST-60, SWS-1.
#[test]
fn sc_53_must_38_the_sender_waits_for_a_sensible_window() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 win 4000 <mss 1000>", "A 1:1 ack 1 win 4000");
        host.inject("A 1:1 ack 1 win 100");
        host.write(5_000);
        host.expect_nothing();
        host.expect_after(100, 1_000, "A 1:101");
    });
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 win 4000 <mss 1000>", "A 1:1 ack 1 win 4000");
        host.inject("A 1:1 ack 1 win 100");
        host.write(5_000);
        host.expect_nothing();
        host.inject("A 1:1 ack 1 win 2000");
        host.expect_data(1, 2_001, 1_000);
        host.expect_nothing();
    });
}

/// MAY-16.
#[test]
fn sc_54_nagle_holds_a_small_segment_while_a_small_one_is_out() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(10);
        host.expect("PA 1:11");
        host.write(10);
        host.write(10);
        host.expect_nothing();
        host.inject("A 1:1 ack 11");
        host.expect("PA 11:31");
    });
}

#[test]
fn sc_54_nagle_3_a_full_segment_in_flight_does_not_hold_a_small_one() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(1_000);
        host.expect("A 1:1001");
        host.write(10);
        host.expect("PA 1001:1011");
        host.write(10);
        host.expect_nothing();
        host.inject("A 1:1 ack 1001");
        host.expect_nothing();
        host.inject("A 1:1 ack 1011");
        host.expect("PA 1011:1021");
    });
}

#[test]
fn sc_54_must_17_nodelay_sends_at_once_and_flushes() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(10);
        host.expect("PA 1:11");
        host.write(10);
        host.expect_nothing();
        host.set_nodelay(true);
        host.expect("PA 11:21");
        host.write(10);
        host.expect("PA 21:31");
        host.set_nodelay(false);
        host.write(10);
        host.expect_nothing();
        host.inject("A 1:1 ack 31");
        host.expect("PA 31:41");
    });
}

#[test]
fn nagle_4_a_fin_takes_what_nagle_held_along() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(10);
        host.expect("PA 1:11");
        host.write(10);
        host.expect_nothing();
        host.shutdown();
        host.expect("FPA 11:21");
    });
}

#[test]
fn a_fin_needs_no_room_in_our_buffer() {
    each_isn(|isn| {
        let mut host = Host::established(isn, with_buffer(1_000));
        host.inject("A 1:1001 ack 1");
        host.take_all();
        host.inject("FA 1001:1001 ack 1");
        host.expect("A 1:1 ack 1002 win 0");
        host.assert_state(State::CloseWait);
        host.read(1_000);
        assert!(host.at_eof());
        host.take_all();
    });
}

/// SWS-2.
#[test]
fn must_61_psh_marks_the_end_of_what_is_queued() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(2_500);
        assert!(!host.take().script.flags.contains(Flags::PSH));
        assert!(!host.take().script.flags.contains(Flags::PSH));
        assert!(host.take().script.flags.contains(Flags::PSH));
    });
}

/// RFC5681-4.2a.
#[test]
fn sc_55_must_40_shld_19_delayed_acks() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("PA 1:1001 ack 1");
        host.expect_nothing();
        host.expect_after(1, 200, "A 1:1 ack 1001");
        host.inject("A 1001:2001 ack 1");
        host.expect_nothing();
        host.inject("A 2001:3001 ack 1");
        host.expect("A 1:1 ack 3001");
        host.inject("A 3001:3101 ack 1");
        host.write(100);
        host.expect("PA 1:101 ack 3101");
        host.advance(1_000);
        for sent in host.take_all() {
            assert_eq!(sent.script.seq, 1, "no pure ACK follows, only retransmission: {}", sent.script);
            assert!(sent.retransmission);
        }
    });
}

#[test]
fn kp_13_no_stretch_acks() {
    for size in [1_000, 600] {
        each_isn(|isn| {
            let mut host = Host::established(isn, plain());
            let mut acks = 0;
            for index in 0..20 {
                let at = 1 + index * size;
                host.inject(&format!("A {at}:{} ack 1", at + size));
                acks += host.take_all().len();
                host.advance(1);
                acks += host.take_all().len();
            }
            assert!(acks >= 10, "{acks} ACKs for 20 segments of {size}");
            let at = 1 + 20 * size;
            host.inject(&format!("A {at}:{} ack 1", at + size));
            host.advance(499);
            assert_eq!(host.take_all().last().unwrap().script.ack, Some(at + size));
        });
    }
}

#[test]
fn a_bare_window_update_is_not_acknowledged() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        for win in [1_000, 2_000, 0, 65_535] {
            host.inject(&format!("A 1:1 ack 1 win {win}"));
        }
        host.advance(10_000);
        host.expect_nothing();
    });
}

#[test]
fn writable_is_told_when_a_full_send_buffer_drains() {
    each_isn(|isn| {
        let config = Config { send_buffer: trust::tcp::BufferLimits { initial: 8_000, max: 8_000 }, ..plain() };
        let mut host = Host::established(isn, config);
        assert_eq!(host.write(20_000), 8_000);
        host.take_all();
        assert_eq!(host.write(1), 0);
        assert_eq!(host.writable_events(), 0);
        host.inject("A 1:1 ack 8001");
        assert_eq!(host.writable_events(), 1);
        assert_eq!(host.write(20_000), 8_000);
        host.take_all();
    });
}

#[test]
fn super_segments_are_cut_at_the_mss_and_obey_both_windows() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 win 7500 <mss 1000>", "A 1:1 ack 1 win 7500");
        host.max_len = 65_000;
        host.write(20_000);
        host.expect_data(1, 7_001, 1_000);
        host.expect_nothing();
        host.inject("A 1:1 ack 7001 win 65535");
        host.expect_data(7_001, 17_001, 1_000);
        let rest = host.take_all();
        assert!(rest.iter().all(|sent| sent.script.len <= 1_000));
    });
}

/// The peer's buffer fills while its data is lost and sent again: the window on the retransmission is the newest.
#[test]
fn sm_ack_6_an_ack_that_advances_brings_its_window_along() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 win 2000 <mss 1000>", "A 1:1 ack 1 win 2000");
        host.write(10_000);
        host.expect_data(1, 2_001, 1_000);
        host.inject("A 501:601 ack 1 win 2000");
        host.expect("A 2001:2001 ack 1");
        host.inject("A 1:501 ack 2001 win 0");
        host.expect("A 2001:2001 ack 601");
        host.expect_nothing();
    });
}

/// So is that on the retransmission behind it, whatever has come out of order before: SND.WL1 is the number of the last update.
#[test]
fn sm_ack_6_retransmissions_open_the_window_again() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 win 2000 <mss 1000>", "A 1:1 ack 1 win 2000");
        host.write(10_000);
        host.expect_data(1, 2_001, 1_000);
        host.inject("A 1001:1101 ack 1 win 2000");
        host.expect("A 2001:2001 ack 1");
        host.inject("A 1:501 ack 2001 win 0");
        host.expect("A 2001:2001 ack 501");
        host.inject("A 501:1001 ack 2001 win 2000");
        host.expect("A 2001:2001 ack 1101");
        host.expect_data(2_001, 4_001, 1_000);
    });
}
