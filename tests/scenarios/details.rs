//! Single requirements that the scenarios touch only in passing.

use super::harness::{Host, each_isn, plain};
use trust::tcp::{BufferLimits, CloseReason, Config, Duration, State};
use trust::wire::tcp::Flags;

/// SM-SEQ-6, RFC7323-2.4a: a scaled window says less than the one before by rounding; the older promise holds.
#[test]
fn what_was_once_offered_is_taken() {
    each_isn(|isn| {
        let config = Config { recv_buffer: BufferLimits { initial: 65_535, max: 1 << 20 }, ..plain() };
        let mut host = Host::established_with(isn, config, "S 0:0 win 65535 <mss 1000, ws 0>", "A 1:1 ack 1");
        host.inject("PA 1:2 ack 1");
        host.advance(200);
        host.expect("A 1:1 ack 2 win 2047");
        assert_eq!(2 + (2_047 << 5), 65_506, "30 octets less than the SYN,ACK offered");
        host.inject("A 65506:65536 ack 1");
        host.expect("A 1:1 ack 2");
        assert_eq!(host.held(), 30);
    });
}

/// The peer aborts while something of its data is missing here: its RST has the number behind what it sent.
#[test]
fn sm_rst_4_a_reset_behind_held_data() {
    for (syn, reset) in [("S 0:0 <mss 1000, sackOK>", true), ("S 0:0 <mss 1000>", false)] {
        each_isn(|isn| {
            let mut host = Host::established_with(isn, plain(), syn, "A 1:1 ack 1");
            host.inject("A 1001:2001 ack 1");
            host.take();
            host.inject("R 1501:1501");
            host.take_all();
            host.assert_state(State::Established);
            host.advance(600);
            host.inject("R 2001:2001");
            if reset {
                host.assert_closed(CloseReason::Reset);
            } else {
                host.expect("A 1:1 ack 1");
                host.assert_state(State::Established);
            }
        });
    }
}

/// So does one behind a FIN that waits for data missing here, with data held before it or alone; what lies beside it does not.
#[test]
fn sm_rst_4_a_reset_behind_a_held_fin() {
    for (syn, sack) in [("S 0:0 <mss 1000, sackOK>", true), ("S 0:0 <mss 1000>", false)] {
        for fin in ["FA 1001:2001 ack 1", "FA 2001:2001 ack 1"] {
            each_isn(|isn| {
                let mut host = Host::established_with(isn, plain(), syn, "A 1:1 ack 1");
                host.inject(fin);
                host.take();
                host.inject("R 2003:2003");
                host.take_all();
                host.assert_state(State::Established);
                host.advance(600);
                host.inject("R 2002:2002");
                if sack {
                    host.assert_closed(CloseReason::Reset);
                } else {
                    host.expect("A 1:1 ack 1");
                    host.assert_state(State::Established);
                }
            });
        }
    }
}

#[test]
fn sm_cw_5_abort_in_close_wait_resets() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("FA 1:1 ack 1");
        host.expect("A 1:1 ack 2");
        host.abort();
        assert!(host.take().script.flags.contains(Flags::RST));
        host.assert_closed(CloseReason::Aborted);
    });
}

#[test]
fn rfc8961_2c_the_handshake_gives_the_first_sample() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, plain());
        host.expect("S 0:0");
        host.advance(120);
        host.inject("SA 0:0 ack 1 <mss 1000>");
        host.expect("A 1:1 ack 1");
        assert_eq!(host.info().srtt, Some(Duration::from_millis(120)));
    });
}

#[test]
fn rfc2883_4c_a_duplicate_that_paws_rejects_is_reported() {
    each_isn(|isn| {
        let (syn, ack) = ("S 0:0 <mss 1000, sackOK, ts 100 0>", "A 1:1 ack 1 <ts 100 *>");
        let mut host = Host::established_with(isn, plain(), syn, ack);
        host.inject("A 1:501 ack 1 <ts 101 *>");
        host.inject("A 501:1001 ack 1 <ts 200 *>");
        host.expect("A 1:1 ack 1001 <ts * 101>");
        host.inject("A 1001:1101 ack 1 <ts 201 *>");
        host.advance(200);
        host.expect("A 1:1 ack 1101 <ts * 201>");
        host.inject("A 1:501 ack 1 <ts 101 *>");
        host.expect("A 1:1 ack 1101 <ts * 201, sack 1:501>");
    });
}

/// What was held carries a timestamp that is old by the time the hole is filled.
#[test]
fn rfc7323_5_3b_held_data_is_not_checked_again() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 <mss 1000, ts 100 0>", "A 1:1 ack 1 <ts 100 *>");
        host.inject("A 989:1977 ack 1 <ts 101 *>");
        host.expect("A 1:1 ack 1 <ts * 100>");
        host.inject("A 1:989 ack 1 <ts 200 *>");
        host.expect("A 1:1 ack 1977 <ts * 200>");
        assert_eq!(host.readable(), 1_976);
    });
}

#[test]
fn rfc6429_4_a_stalled_connection_can_be_aborted() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("A 1:1 ack 1 win 0");
        host.write(1_000);
        for _ in 0..20 {
            host.advance(60_000);
            if !host.take_all().is_empty() {
                host.inject("A 1:1 ack 1 win 0");
            }
        }
        host.assert_state(State::Established);
        host.abort();
        assert!(host.take().script.flags.contains(Flags::RST));
        host.assert_closed(CloseReason::Aborted);
    });
}

#[test]
fn ops_15_the_receive_buffer_grows_with_the_reader() {
    for tuned in [true, false] {
        each_isn(|isn| {
            let limits = BufferLimits { initial: 20_000, max: 100_000 };
            let config = Config { recv_buffer: limits, recv_auto_tuning: tuned, ..plain() };
            let mut host = Host::established_with(isn, config, "S 0:0 <mss 1000, ws 0>", "A 1:1 ack 1");
            let mut at = 1;
            for _ in 0..10 {
                for _ in 0..host.info().receive_window / 1_000 {
                    host.inject(&format!("A {at}:{} ack 1", at + 1_000));
                    host.take_all();
                    at += 1_000;
                }
                host.advance(100);
                host.take_all();
                let unread = host.readable() as u32;
                host.read(unread);
                host.take_all();
            }
            assert_eq!(host.info().receive_buffer, if tuned { limits.max } else { limits.initial }, "as far as it may");
        });
    }
}

#[test]
fn ops_16_the_send_buffer_grows_with_the_window() {
    for tuned in [true, false] {
        each_isn(|isn| {
            let limits = BufferLimits { initial: 20_000, max: 100_000 };
            let config = Config { send_buffer: limits, send_auto_tuning: tuned, ..plain() };
            let mut host = Host::established_with(isn, config, "S 0:0 <mss 1000, ws 7>", "A 1:1 ack 1");
            for _ in 0..8 {
                host.write(200_000);
                host.take_all();
                host.advance(10);
                let ack = host.sent_upto();
                host.inject(&format!("A 1:1 ack {ack}"));
                host.take_all();
            }
            assert_eq!(host.info().send_limit, if tuned { limits.max } else { limits.initial }, "as far as it may");
        });
    }
}

#[test]
fn ops_32_duplicates_beyond_the_flight_do_not_inflate() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(10_000);
        host.expect_data(1, 10_001, 1_000);
        for _ in 0..200 {
            host.inject("A 1:1 ack 1");
            host.take_all();
        }
        host.write(100_000);
        let sent: u32 = host.take_all().iter().map(|sent| sent.script.len).sum();
        assert!(sent <= 6_000, "200 forged duplicates for ten segments: {sent} octets");
    });
}

/// MUST-16: the smaller of what the peer takes and what our MTU carries.
#[test]
fn must_16_a_peer_with_a_large_mss_does_not_exceed_our_mtu() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 win 65535 <mss 9000>", "A 1:1 ack 1 win 65535");
        host.write(5_000);
        host.expect_data(1, 5_001, 1_000);
    });
}

/// SM-SS-3: what the SYN,ACK carries besides is processed from the URG step on.
#[test]
fn sm_ss_3_a_fin_on_the_syn_ack() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, plain());
        host.expect("S 0:0");
        host.inject("FSA 0:0 ack 1 <mss 1000>");
        host.expect("A 1:1 ack 2");
        host.assert_state(State::CloseWait);
        assert!(host.at_eof());
        host.write(10);
        host.expect("PA 1:11 ack 2");
    });
}

/// SM-LA-1, SM-CLG-1: the timer sends data and FIN again as they were; acknowledged data leaves the FIN alone.
#[test]
fn sm_la_1_a_lost_fin_is_sent_again_with_what_is_left_of_the_data() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("FA 1:1 ack 1");
        host.expect("A 1:1 ack 2");
        host.write(500);
        host.expect("PA 1:501 ack 2");
        host.close();
        host.expect("FA 501:501 ack 2");
        let again = host.expect_after(200, 1_100, "FA 1:501 ack 2");
        assert!(again.retransmission);
        host.inject("A 2:2 ack 501");
        host.take_all();
        host.assert_state(State::LastAck);
        host.expect_after(200, 5_000, "FA 501:501 ack 2");
        host.inject("A 2:2 ack 502");
        host.assert_closed(CloseReason::Normal);
    });
}

/// Numbers half the space away are old, not new, wherever zero lies.
#[test]
fn sm_seq_4_half_the_number_space_away_is_old() {
    for at in [1_i64 << 31, (1 << 31) - 1, (1 << 31) + 1, -(1 << 30), 1 << 30] {
        each_isn(|isn| {
            let mut host = Host::established(isn, plain());
            host.inject(&format!("PA {at}:{} ack 1", at + 100));
            host.expect("A 1:1 ack 1");
            assert_eq!((host.readable(), host.held()), (0, 0));
            host.inject("PA 1:101 ack 1");
            assert_eq!(host.readable(), 100);
            host.advance(200);
            host.take_all();
        });
    }
}

/// RFC8961-2d: whatever an ACK echoes, the timeout stays within reason.
#[test]
fn rfc8961_2d_a_forged_echo_is_no_sample() {
    for echo in [0_u32, 1, 1 << 31, u32::MAX] {
        each_isn(|isn| {
            let mut host = Host::established_with(isn, plain(), "S 0:0 <mss 1000, ts 100 0>", "A 1:1 ack 1 <ts 100 *>");
            host.write(500);
            host.expect("PA 1:501");
            host.expect_after(200, 1_100, "PA 1:501");
            host.advance(50);
            host.inject(&format!("A 1:1 ack 501 <ts 101 {echo}>"));
            assert_eq!(host.unacked(), 0, "the ACK itself counts");
            assert!(host.info().rto <= Duration::from_secs(5), "{}", host.info().rto);
        });
    }
}

/// SHLD-18, MUST-58: the FIN takes a delayed ACK along; none follows.
#[test]
fn must_58_a_fin_carries_the_ack_that_was_due() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("PA 1:101 ack 1");
        host.read(100);
        host.expect_nothing();
        host.shutdown();
        host.expect("FA 1:1 ack 101");
        host.inject("A 101:101 ack 2");
        host.advance(1_000);
        host.expect_nothing();
    });
}

/// RFC7323-2.3b: the largest window there is, from the largest shift.
#[test]
fn rfc7323_2_3b_the_largest_window_is_used_without_overflow() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 <mss 1000, ws 14>", "A 1:1 ack 1 win 65535");
        assert_eq!(host.info().send_window, 65_535 << 14);
        host.send_and_ack(500_000);
        host.inject("A 1:1 ack 500001 win 0");
        host.write(1_000);
        host.expect_after(200, 1_100, "A 500000:500000");
    });
}
