//! Closing, TIME-WAIT: SC-40 to SC-48, KP-15 to KP-17.

use trust::tcp::{CloseReason, State};
use trust::wire::tcp::Flags;

use super::harness::{Host, Isn, each_isn, plain};

fn in_time_wait(isn: Isn) -> Host {
    let mut host = Host::established(isn, plain());
    host.close();
    host.expect("FA 1:1 ack 1");
    host.inject("FA 1:1 ack 2");
    host.expect("A 2:2 ack 2");
    host.assert_state(State::TimeWait);
    host
}

fn in_time_wait_with_timestamps(isn: Isn) -> Host {
    let mut host = Host::established_with(isn, plain(), "S 0:0 <mss 1000, ts 4000 0>", "A 1:1 ack 1 <ts 4001 *>");
    host.close();
    host.expect("FA 1:1 ack 1");
    host.inject("FA 1:1 ack 2 <ts 5000 *>");
    host.expect("A 2:2 ack 2 <ts * 5000>");
    host.assert_state(State::TimeWait);
    host
}

#[test]
fn sc_40_active_close_and_time_wait() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.close();
        host.expect("FA 1:1 ack 1");
        host.assert_state(State::FinWait1);
        host.inject("A 1:1 ack 2");
        host.assert_state(State::FinWait2);
        host.inject("FA 1:1 ack 2");
        host.expect("A 2:2 ack 2");
        host.assert_state(State::TimeWait);
        host.advance(10_000);
        host.inject("FA 1:1 ack 2");
        host.expect("A 2:2 ack 2");
        host.advance(59_999);
        host.assert_state(State::TimeWait);
        host.advance(2);
        host.assert_state(State::Closed);
        host.inject("A 2:2 ack 2");
        host.expect("R 2:2");
    });
}

/// SM-FW2-1.
#[test]
fn sc_41_half_close_goes_on_receiving() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.shutdown();
        host.expect("FA 1:1 ack 1");
        host.inject("A 1:1 ack 2");
        host.assert_state(State::FinWait2);
        host.inject("A 1:1001 ack 2");
        host.inject("A 1001:2001 ack 2");
        host.expect("A 2:2 ack 2001");
        assert_eq!(host.readable(), 2_000);
        host.advance(3_600_000);
        host.assert_state(State::FinWait2);
        host.inject("FA 2001:2001 ack 2");
        host.expect("A 2:2 ack 2002");
        host.assert_state(State::TimeWait);
        host.read(2_000);
        assert!(host.at_eof());
    });
}

/// SM-CW-4.
#[test]
fn sc_42_data_after_the_peers_fin() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("FA 1:1 ack 1");
        host.expect("A 1:1 ack 2");
        host.assert_state(State::CloseWait);
        assert!(host.at_eof());
        host.write(2_500);
        host.expect("A 1:1001 ack 2");
        host.expect("A 1001:2001 ack 2");
        host.expect("PA 2001:2501 ack 2");
        host.close();
        host.expect("FA 2501:2501 ack 2");
        host.assert_state(State::LastAck);
        host.inject("A 2:2 ack 2501");
        host.assert_state(State::LastAck);
        host.inject("A 2:2 ack 2502");
        host.assert_closed(CloseReason::Normal);
        host.inject("A 2:2 ack 2502");
        host.expect("R 2502:2502");
    });
}

/// SM-X-3.
#[test]
fn sc_43_simultaneous_close() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.close();
        host.expect("FA 1:1 ack 1");
        host.inject("FA 1:1 ack 1");
        host.expect("A 2:2 ack 2");
        host.assert_state(State::Closing);
        host.advance(600);
        host.take_all();
        host.inject("FA 1:1 ack 1");
        host.expect("A 2:2 ack 2");
        host.assert_state(State::Closing);
        host.inject("A 2:2 ack 2");
        host.assert_state(State::TimeWait);
    });
}

#[test]
fn sc_44_fin_and_ack_of_our_fin_in_one_segment() {
    each_isn(|isn| {
        drop(in_time_wait(isn));
    });
}

#[test]
fn sm_fw1_2_data_with_the_fin_and_the_ack_of_our_fin() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.shutdown();
        host.expect("FA 1:1 ack 1");
        host.inject("FPA 1:101 ack 2");
        host.expect("A 2:2 ack 102");
        host.assert_state(State::TimeWait);
        host.read(100);
        assert!(host.at_eof());
    });
}

#[test]
fn sc_45_rfc_1337_time_wait_ignores_resets() {
    each_isn(|isn| {
        let mut host = in_time_wait(isn);
        host.inject("R 2:2");
        host.expect_nothing();
        host.assert_state(State::TimeWait);
    });
}

#[test]
fn sc_45_rfc_6191_without_timestamps_a_higher_number_reuses_time_wait() {
    each_isn(|isn| {
        let mut host = in_time_wait(isn);
        for old in ["S 0:0 <mss 1000>", "S 1:1 <mss 1000>", "S -70000:-70000 <mss 1000>"] {
            host.inject(old);
            host.take_all();
            host.assert_state(State::TimeWait);
        }
        host.inject("S 5000:5000 <mss 1000>");
        assert!(host.reuse_floor().is_some_and(|floor| floor > 2), "SM-TW-5f: ISS above the old SND.NXT");
        host.expect("SA 0:0 ack 5001");
        host.assert_state(State::SynReceived);
    });
}

#[test]
fn sc_46_rfc_6191_with_timestamps_the_timestamp_decides() {
    for (syn, reused) in [
        ("S -500:-500 <mss 1000, ts 5001 0>", true),
        ("S -500:-500 <mss 1000, ts 5000 0>", false),
        ("S 900:900 <mss 1000, ts 5000 0>", true),
        ("S 900:900 <mss 1000, ts 4000 0>", false),
        ("S 900:900 <mss 1000>", true),
        ("S -500:-500 <mss 1000>", false),
    ] {
        each_isn(|isn| {
            let mut host = in_time_wait_with_timestamps(isn);
            host.inject(syn);
            if reused {
                host.assert_state(State::SynReceived);
                let answer = host.take();
                assert_eq!(answer.script.flags, Flags::SYN | Flags::ACK, "{syn}");
            } else {
                host.expect("A 2:2 ack 2");
                host.assert_state(State::TimeWait);
            }
        });
    }
}

/// SM-TW-5c, SM-TW-5e: a peer that lost its state would repeat its SYN for a minute. It is asked, and its RST believed.
#[test]
fn a_peer_that_lost_its_state_does_not_wait_for_time_wait() {
    type Begin = fn(Isn) -> Host;
    let begin: [(Begin, &str); 3] = [
        (in_time_wait, "S -5000:-5000 <mss 1000>"),
        (in_time_wait_with_timestamps, "S -5000:-5000 <mss 1000>"),
        (in_time_wait_with_timestamps, "S 9000:9000 <mss 1000, ts 4000 0>"),
    ];
    for (begin, syn) in begin {
        each_isn(|isn| {
            let mut host = begin(isn);
            host.inject(syn);
            host.expect("A 2:2 ack 2");
            // It repeats it at once: the answers are limited.
            host.inject(syn);
            host.expect_nothing();
            for inexact in ["R 1:1", "R 3:3", "R -5000:-5000", "RA 0:0 ack 2"] {
                host.inject(inexact);
                host.assert_state(State::TimeWait);
            }
            host.inject("R 2:2");
            host.expect_nothing();
            host.assert_state(State::Closed);
        });
    }
}

/// RFC 1337: nothing that the old connection has sent leads to the end of the wait.
#[test]
fn rfc_1337_old_duplicates_do_not_end_time_wait() {
    each_isn(|isn| {
        let mut host = in_time_wait(isn);
        // The connection's own SYN, which its peer has forgotten by now.
        host.inject("S 0:0 <mss 1000>");
        host.expect_nothing();
        host.inject("PA 1:101 ack 1");
        host.take_all();
        host.inject("R 2:2");
        host.assert_state(State::TimeWait);
        host.advance(60_001);
        host.assert_state(State::Closed);
    });
}

#[test]
fn sm_tw_5d_a_syn_with_timestamps_reuses_a_connection_without() {
    each_isn(|isn| {
        let mut host = in_time_wait(isn);
        host.inject("S -500:-500 <mss 1000, ts 1 0>");
        host.assert_state(State::SynReceived);
        host.expect("SA 0:0 <mss 1000, ts * 1>");
    });
}

/// RFC5961-9.
#[test]
fn sm_tw_2_stray_acks_in_time_wait_do_not_loop() {
    each_isn(|isn| {
        let mut host = in_time_wait(isn);
        let mut answers = 0;
        for _ in 0..10 {
            host.inject("A 2:2 ack 2");
            host.inject_batch(&["PA 1:101 ack 2"]);
            answers += host.take_all().len();
        }
        assert!(answers <= 11, "pure ACKs must not be answered each, {answers}");
        host.advance(60_001);
        host.assert_state(State::Closed);
    });
}

#[test]
fn sc_47_kp_17_shld_3_unread_data_at_close_resets() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("PA 1:501 ack 1");
        host.close();
        let sent = host.take();
        assert!(sent.script.flags.contains(Flags::RST) && !sent.script.flags.contains(Flags::FIN));
        assert_eq!(sent.script.seq, 1);
        host.assert_closed(CloseReason::Aborted);
        host.advance(10_000);
    });
}

#[test]
fn sc_47_kp_16_data_after_a_full_close_resets() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("PA 1:501 ack 1");
        host.read(500);
        host.close();
        host.expect("FA 1:1 ack 501");
        host.inject("A 501:501 ack 2");
        host.assert_state(State::FinWait2);
        host.inject("PA 501:601 ack 2");
        let sent = host.take();
        assert!(sent.script.flags.contains(Flags::RST));
        assert_eq!(sent.script.seq, 2);
        assert_eq!(host.state(), Some(State::Closed));
        host.inject("PA 501:601 ack 2");
        host.expect("R 2:2");
    });
}

#[test]
fn kp_16_data_in_fin_wait_1_after_a_full_close_resets() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.close();
        host.expect("FA 1:1 ack 1");
        host.inject("PA 1:101 ack 1");
        let sent = host.take();
        assert!(sent.script.flags.contains(Flags::RST));
        assert_eq!(host.state(), Some(State::Closed));
    });
}

#[test]
fn a_late_duplicate_after_a_full_close_does_not_reset() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("PA 1:501 ack 1");
        host.read(500);
        host.close();
        host.expect("FA 1:1 ack 501");
        host.inject("PA 1:501 ack 1");
        host.expect("A 2:2 ack 501");
        host.assert_state(State::FinWait1);
    });
}

#[test]
fn sc_48_kp_15_the_fin_leaves_with_the_last_data() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(1_500);
        host.close();
        host.expect("A 1:1001");
        match host.take_all().as_slice() {
            [one] => assert_eq!(one.script.flags, Flags::FIN | Flags::PSH | Flags::ACK),
            [data, fin] => {
                assert_eq!((data.script.seq, data.script.len), (1_001, 500));
                assert_eq!((fin.script.seq, fin.script.flags), (1_501, Flags::FIN | Flags::ACK));
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn sc_48_kp_10_a_lost_fin_is_retransmitted_with_backoff_until_r2() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.shutdown();
        host.expect("FA 1:1 ack 1");
        let start = host.now();
        let mut last = start;
        let mut gap = 0;
        while host.state() == Some(State::FinWait1) {
            host.advance(50);
            assert!((host.now() - start).as_secs() < 3_000, "R2");
            for sent in host.take_all() {
                assert_eq!((sent.script.seq, sent.script.flags), (1, Flags::FIN | Flags::ACK));
                let this = (sent.at - last).as_millis();
                assert!(this >= 2 * gap || this >= 60_000, "backoff: {gap} ms, then {this} ms");
                (gap, last) = (this, sent.at);
            }
        }
        assert!((host.now() - start).as_secs() >= 100, "SHLD-11");
        host.assert_closed(CloseReason::TimedOut);
    });
}

/// What a lingering close waits for: the acknowledgment of everything, FIN included, in each order of the two FINs.
#[test]
fn sm_fw2_3_the_core_says_when_everything_is_acknowledged() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(1_500);
        host.close();
        host.take_all();
        host.inject("A 1:1 ack 1501");
        assert!(!host.fin_acked(), "the data is, the FIN is not");
        host.inject("A 1:1 ack 1502");
        assert!(host.fin_acked());
        host.assert_state(State::FinWait2);
        host.inject("FA 1:1 ack 1502");
        host.expect("A 1502:1502 ack 2");

        let mut closing = Host::established(isn, plain());
        closing.close();
        closing.expect("FA 1:1 ack 1");
        closing.inject("FA 1:1 ack 1");
        closing.expect("A 2:2 ack 2");
        assert!(!closing.fin_acked());
        closing.inject("A 2:2 ack 2");
        assert!(closing.fin_acked());
        closing.assert_state(State::TimeWait);

        let mut last_ack = Host::established(isn, plain());
        last_ack.inject("FA 1:1 ack 1");
        last_ack.expect("A 1:1 ack 2");
        last_ack.close();
        last_ack.expect("FA 1:1 ack 2");
        last_ack.inject("A 2:2 ack 2");
        assert!(last_ack.fin_acked());
        last_ack.assert_closed(CloseReason::Normal);

        let mut reset = Host::established(isn, plain());
        reset.close();
        reset.expect("FA 1:1 ack 1");
        reset.inject("R 1:1");
        assert!(!reset.fin_acked());
        reset.assert_closed(CloseReason::Reset);
    });
}

#[test]
fn sm_fw2_5_nobody_waits_for_ever_in_fin_wait_2() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.close();
        host.expect("FA 1:1 ack 1");
        host.inject("A 1:1 ack 2");
        host.assert_state(State::FinWait2);
        host.advance(59_000);
        host.assert_state(State::FinWait2);
        host.advance(2_000);
        assert_eq!(host.state(), Some(State::Closed));
    });
}

#[test]
fn sm_fw2_5_the_orphan_timer_also_starts_when_the_reader_leaves_later() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.shutdown();
        host.expect("FA 1:1 ack 1");
        host.inject("A 1:1 ack 2");
        host.advance(3_600_000);
        host.assert_state(State::FinWait2);
        host.close();
        host.expect_nothing();
        host.advance(61_000);
        assert_eq!(host.state(), Some(State::Closed));
    });
}

#[test]
fn sm_est_4_close_sends_all_queued_data_before_the_fin() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(25_000);
        host.close();
        host.expect_data(1, 10_001, 1_000);
        host.assert_state(State::FinWait1);
        host.inject("A 1:1 ack 10001");
        let sent = host.take_all();
        let last = &sent.last().unwrap().script;
        assert_eq!(last.seq + i64::from(last.len), 25_001);
        assert!(last.flags.contains(Flags::FIN));
        host.inject("A 1:1 ack 25002");
        host.assert_state(State::FinWait2);
    });
}

/// SM-FW1-4.
#[test]
fn shutdown_twice_sends_one_fin() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.shutdown();
        host.expect("FA 1:1");
        host.shutdown();
        host.close();
        host.expect_nothing();
        host.inject("A 1:1 ack 2");
        host.assert_state(State::FinWait2);
    });
}

#[test]
fn close_with_data_out_of_order_is_no_reset() {
    // Octets behind a hole were never acknowledged: they are not "unread data" (SHLD-3).
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("A 101:201 ack 1");
        host.expect("A 1:1 ack 1");
        host.close();
        host.expect("FA 1:1 ack 1");
        host.assert_state(State::FinWait1);
    });
}

/// KP-16, SM-RST-2: the peer has not seen our FIN. The RST lies within its window, its challenge names the right number.
#[test]
fn a_reset_after_a_lost_fin_is_put_right_by_the_challenge() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.close();
        host.expect("FA 1:1 ack 1");
        host.inject("PA 1:101 ack 1");
        host.expect("RA 2:2");
        host.inject("A 101:101 ack 1");
        host.expect("R 1:1");
    });
}

/// SM-RST-1: beyond a window that has shrunk the peer would drop the RST without a word.
#[test]
fn a_reset_does_not_lie_beyond_the_peers_window() {
    for (window, reset) in [(0, 1), (500, 501), (1_999, 2_000), (5_000, 2_002)] {
        each_isn(|isn| {
            let mut host = Host::established(isn, plain());
            host.write(2_000);
            host.expect_data(1, 2_001, 1_000);
            host.close();
            host.expect("FA 2001:2001 ack 1");
            host.inject(&format!("A 1:1 ack 1 win {window}"));
            host.inject(&format!("PA 1:101 ack 1 win {window}"));
            host.expect(&format!("RA {reset}:{reset}"));
            host.assert_closed(CloseReason::Aborted);
        });
        each_isn(|isn| {
            let mut host = Host::established(isn, plain());
            host.write(2_001);
            host.take_all();
            host.inject(&format!("A 1:1 ack 1 win {window}"));
            host.abort();
            host.expect(&format!("RA {reset}:{reset}"));
        });
    }
}

/// RFC7323-2.4b: a scaled window is rounded down, which makes it no smaller.
#[test]
fn a_reset_at_the_edge_of_a_scaled_window_keeps_its_number() {
    each_isn(|isn| {
        let (syn, ack) = ("S 0:0 win 65535 <mss 1000, ws 7>", "A 1:1 ack 1 win 511");
        let mut host = Host::established_with(isn, plain(), syn, ack);
        host.write(2_000);
        host.take_all();
        host.inject("A 1:1 ack 1 win 15");
        host.abort();
        host.expect("RA 2001:2001");
    });
}
