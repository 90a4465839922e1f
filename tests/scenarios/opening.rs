//! Opening: SC-01 to SC-16.

use trust::tcp::units::UnscaledWindow;
use trust::tcp::{CloseReason, Config, Segment, SeqNum, State, reset_for};
use trust::wire::options::TcpOptions;
use trust::wire::tcp::Flags;

use super::harness::{Host, each_isn, plain};

/// MUST-14, SHLD-5.
#[test]
fn sc_01_listen() {
    each_isn(|isn| {
        let mut host = Host::listen(isn, plain());
        host.inject("S 0:0 win 1000 <mss 1000>");
        host.expect("SA 0:0 ack 1 win 65535 <mss 1000>");
        host.assert_state(State::SynReceived);
        host.inject("A 1:1 ack 1 win 1000");
        host.expect_nothing();
        host.assert_state(State::Established);
    });
}

/// MAY-3.
#[test]
fn sc_02_connect_to_a_peer_without_options() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, Config::default());
        host.expect("S 0:0 <mss 1000, sackOK, ts * 0, ws 7>");
        host.assert_state(State::SynSent);
        host.inject("SA 0:0 ack 1 win 5000 <mss 1000>");
        host.expect("A 1:1 ack 1 <>");
        host.assert_state(State::Established);
        host.write(3_000);
        host.expect("A 1:1001 ack 1 <>");
        host.expect("A 1001:2001 ack 1 <>");
        host.expect("PA 2001:3001 ack 1 <>");
    });
}

/// RFC2018-2, RFC7323-2.2a.
#[test]
fn sc_02_connect_negotiates_what_both_offer() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, Config::default());
        host.expect("S 0:0 <mss 1000, sackOK, ts * 0, ws 7>");
        host.inject("SA 0:0 ack 1 win 5000 <mss 1000, sackOK, ts 77 *, ws 2>");
        host.expect("A 1:1 ack 1 <ts * 77>");
        host.write(2_000);
        host.expect("A 1:989 <ts * 77>");
        host.expect("A 989:1977 <ts * 77>");
        host.expect("PA 1977:2001 <ts * 77>");
    });
}

#[test]
fn sc_03_a_closed_port_answers_with_a_reset() {
    let segment = |flags, seq, ack, len| Segment {
        seq: SeqNum(seq),
        ack: SeqNum(ack),
        flags,
        window: UnscaledWindow(0),
        urgent: 0,
        options: TcpOptions::default(),
        len,
    };
    for base in [0, i32::MAX as u32, u32::MAX] {
        for len in [0, 10] {
            let reset = reset_for(&segment(Flags::SYN, base, 0, len)).unwrap();
            assert_eq!(reset.flags, Flags::RST | Flags::ACK);
            assert_eq!((reset.seq, reset.ack), (SeqNum(0), SeqNum(base) + 1 + len));
        }
        let reset = reset_for(&segment(Flags::ACK, 5, base, 0)).unwrap();
        assert_eq!((reset.flags, reset.seq), (Flags::RST, SeqNum(base)));
    }
    assert!(reset_for(&segment(Flags::RST, 5, 0, 0)).is_none());
    assert!(reset_for(&segment(Flags::RST | Flags::ACK, 5, 77, 0)).is_none());
}

#[test]
fn sc_04_syn_sent_answers_a_bad_ack_with_a_reset() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, plain());
        host.take();
        host.inject("SA 0:0 ack 5");
        host.expect("R 5:5");
        host.assert_state(State::SynSent);
        host.inject("A 1:1 ack 0");
        host.expect("R 0:0");
        host.assert_state(State::SynSent);
        host.inject("SA 0:0 ack 1 <mss 1000>");
        host.expect("A 1:1 ack 1");
        host.assert_state(State::Established);
    });
}

/// RFC 9293 3.5.1, Figure 10: the peer has kept a connection of before, answers our SYN with what it has, and our RST ends it.
#[test]
fn a_syn_follows_the_reset_of_a_stale_peer_soon() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, plain());
        host.expect("S 0:0");
        host.advance(50);
        host.inject("A 9000:9000 ack 7000");
        host.expect("R 7000:7000");
        assert!(host.expect_after(1, 20, "S 0:0").retransmission);
        // That was no timeout: the next repetition is due a second later, the connection begins with a full window.
        host.advance(50);
        host.inject("SA 0:0 ack 1 <mss 1000>");
        host.expect("A 1:1 ack 1");
        assert_eq!((host.info().cwnd, host.info().timeouts), (10_000, 0));
    });
}

/// A peer that has it in TIME-WAIT drops a RST whose timestamp is older than what it had.
#[test]
fn a_stale_peers_timestamps_are_not_answered() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, Config::default());
        assert!(host.take().script.to_string().contains("ts "), "we offer them");
        host.inject("A 9000:9000 ack 7000 <ts 5000 4000>");
        let reset = host.expect("R 7000:7000").script.to_string();
        assert!(!reset.contains("ts "), "{reset}");
    });
}

/// A peer that answers each SYN so, or forges such answers, gets a few more and then waits for the timer.
#[test]
fn a_stale_peer_is_no_amplifier() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, plain());
        host.expect("S 0:0");
        let mut syns = 0;
        for _ in 0..50 {
            host.inject("A 9000:9000 ack 7000");
            host.expect("R 7000:7000");
            host.inject("RA 9000:9000 ack 7000");
            host.advance(10);
            syns += host.take_all().len();
        }
        assert_eq!(syns, 3);
        // The timer goes on as before: half a second has gone by since the last.
        host.expect_after(400, 700, "S 0:0");
        host.expect_after(1_900, 2_100, "S 0:0");
        host.assert_state(State::SynSent);
    });
}

/// A RST needs no answer, and hastens nothing.
#[test]
fn a_reset_with_a_bad_ack_hastens_no_syn() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, plain());
        host.expect("S 0:0");
        host.inject("RA 0:0 ack 7000");
        host.expect_after(900, 1_100, "S 0:0");
    });
}

#[test]
fn sm_ss_5_syn_sent_drops_what_has_neither_syn_nor_reset() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, plain());
        host.take();
        host.inject("A 0:0 ack 1");
        host.inject("FA 0:10 ack 1");
        host.expect_nothing();
        host.assert_state(State::SynSent);
    });
}

#[test]
fn sc_05_syn_sent_believes_only_a_reset_that_acknowledges_the_syn() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, plain());
        host.take();
        host.inject("R 0:0");
        host.inject("RA 0:0 ack 9");
        host.expect_nothing();
        host.assert_state(State::SynSent);
        host.inject("RA 0:0 ack 1");
        host.assert_closed(CloseReason::Refused);
    });
}

/// SM-X-1.
#[test]
fn sc_06_simultaneous_open() {
    for answer in ["SA 0:0 ack 1 win 4000 <mss 1000>", "A 1:1 ack 1 win 4000"] {
        each_isn(|isn| {
            let mut host = Host::connect(isn, plain());
            host.expect("S 0:0");
            host.inject("S 0:0 win 4000 <mss 1000>");
            host.expect("SA 0:0 ack 1 <mss 1000, ...>");
            host.assert_state(State::SynReceived);
            host.inject(answer);
            host.assert_state(State::Established);
            let sent = host.take_all();
            assert!(sent.len() <= 1 && sent.iter().all(|sent| sent.script.flags == Flags::ACK), "{sent:?}");
            host.write(500);
            host.expect("PA 1:501 ack 1");
        });
    }
}

#[test]
fn sc_07_kp_10_an_unanswered_syn_backs_off_and_gives_up_after_three_minutes() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, plain());
        let start = host.now();
        host.expect("S 0:0");
        for gap in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000] {
            host.expect_after(gap, gap + gap / 20, "S 0:0");
        }
        while host.state() == Some(State::SynSent) {
            host.advance(1_000);
            for sent in host.take_all() {
                assert_eq!((sent.script.flags, sent.script.seq), (Flags::SYN, 0));
            }
            assert!((host.now() - start).as_secs() < 400, "MUST-23: gives up at last");
        }
        assert!((host.now() - start).as_secs() >= 180, "MUST-23");
        host.assert_closed(CloseReason::TimedOut);
    });
}

#[test]
fn sc_07_rfc6298_5_7_data_after_a_repeated_syn_waits_three_seconds() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, plain());
        host.expect("S 0:0");
        host.expect_after(1_000, 1_050, "S 0:0");
        host.inject("SA 0:0 ack 1 <mss 1000>");
        host.expect("A 1:1 ack 1");
        host.write(100);
        host.expect("PA 1:101");
        host.expect_after(3_000, 3_050, "PA 1:101");
    });
}

#[test]
fn rfc6928_2b_the_first_window_after_lost_syns() {
    for (lost, segments) in [(0, 10), (1, 10), (2, 1)] {
        each_isn(|isn| {
            let mut host = Host::connect(isn, plain());
            host.expect("S 0:0");
            for _ in 0..lost {
                host.expect_after(1_000, 4_050, "S 0:0");
            }
            host.inject("SA 0:0 ack 1 <mss 1000>");
            host.expect("A 1:1 ack 1");
            host.write(50_000);
            assert_eq!(host.take_all().len(), segments, "{lost} SYNs lost");
        });
    }
}

#[test]
fn kp_07_no_retransmission_on_a_path_of_900_ms() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, plain());
        host.expect("S 0:0");
        host.advance(900);
        host.expect_nothing();
        host.inject("SA 0:0 ack 1 <mss 1000>");
        host.expect("A 1:1 ack 1");
        host.write(100);
        host.expect("PA 1:101");
        host.advance(900);
        host.expect_nothing();
        host.inject("A 1:1 ack 101");
        host.advance(10_000);
    });
}

#[test]
fn sc_08_syn_received_answers_a_repeated_syn_with_the_same_syn_ack() {
    each_isn(|isn| {
        let mut host = Host::listen(isn, plain());
        host.inject("S 0:0 <mss 1000>");
        host.expect("SA 0:0 ack 1");
        host.inject("S 0:0 <mss 1000>");
        host.expect("SA 0:0 ack 1 <mss 1000>");
        host.inject("S 50:50 <mss 1000>");
        host.expect("A 1:1 ack 1");
        host.assert_state(State::SynReceived);
        host.inject("A 1:1 ack 1");
        host.assert_state(State::Established);
    });
}

#[test]
fn sm_sr_8_kp_10_an_unanswered_syn_ack_backs_off_and_is_dropped() {
    each_isn(|isn| {
        let mut host = Host::listen(isn, plain());
        host.inject("S 0:0 <mss 1000>");
        host.expect("SA 0:0 ack 1");
        for gap in [1_000, 2_000, 4_000, 8_000, 16_000] {
            host.expect_after(gap, gap + gap / 20, "SA 0:0 ack 1");
        }
        host.advance(40_000);
        host.assert_listening();
    });
}

#[test]
fn sc_09_a_reset_in_syn_received_returns_to_listen() {
    each_isn(|isn| {
        let mut host = Host::listen(isn, plain());
        host.inject("S 0:0 <mss 1000>");
        host.expect("SA 0:0 ack 1");
        host.inject("R 70000:70000");
        host.expect_nothing();
        host.assert_state(State::SynReceived);
        host.inject("R 500:500");
        host.expect("A 1:1 ack 1");
        host.assert_state(State::SynReceived);
        host.inject("R 1:1");
        host.expect_nothing();
        host.assert_listening();
        host.inject("S 0:0 <mss 1000>");
        host.expect("SA 0:0 ack 1");
    });
}

#[test]
fn sm_sr_2_a_reset_after_a_simultaneous_open_is_a_refusal() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, plain());
        host.expect("S 0:0");
        host.inject("S 0:0 <mss 1000>");
        host.expect("SA 0:0 ack 1");
        host.inject("R 1:1");
        host.assert_closed(CloseReason::Refused);
    });
}

#[test]
fn sc_10_a_bad_ack_in_syn_received_is_answered_with_a_reset() {
    each_isn(|isn| {
        let mut host = Host::listen(isn, plain());
        host.inject("S 0:0 <mss 1000>");
        host.expect("SA 0:0 ack 1");
        host.inject("A 1:1 ack 99");
        host.expect("R 99:99");
        host.assert_state(State::SynReceived);
        host.inject("A 1:1 ack 1");
        host.assert_state(State::Established);
    });
}

/// SM-CW-3.
#[test]
fn sc_11_the_last_handshake_ack_carries_data_and_fin() {
    each_isn(|isn| {
        let mut host = Host::listen(isn, plain());
        host.inject("S 0:0 <mss 1000>");
        host.expect("SA 0:0 ack 1");
        host.inject("FPA 1:11 ack 1");
        host.expect("A 1:1 ack 12");
        host.assert_state(State::CloseWait);
        assert!(!host.at_eof());
        host.read(10);
        assert!(host.at_eof());
    });
}

#[test]
fn sm_ss_3_the_syn_ack_of_an_active_open_carries_data() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, plain());
        host.expect("S 0:0");
        host.inject("SA 0:10 ack 1 <mss 1000>");
        host.assert_state(State::Established);
        let sent = host.take();
        // Taking data on a SYN is optional without Fast Open; acknowledging what was not kept is wrong.
        let taken = host.readable();
        assert!(taken == 0 || taken == 10);
        assert_eq!(sent.script.ack, Some(1 + taken as i64));
    });
}

/// SM-X-4.
#[test]
fn sc_12_an_old_duplicate_syn_is_cleared_by_the_peers_reset() {
    each_isn(|isn| {
        let mut host = Host::listen(isn, plain());
        host.inject("S 90:90 <mss 1000>");
        host.expect("SA 0:0 ack 91");
        host.inject("R 91:91");
        host.assert_listening();
        host.inject("S 100:100 <mss 1000>");
        host.expect("SA 0:0 ack 101");
        host.inject("A 101:101 ack 1");
        host.assert_state(State::Established);
    });
}

#[test]
fn sc_13_must_7_options_of_a_syn() {
    let parse = TcpOptions::parse;
    assert!(parse(&[2, 0, 0, 0]).is_err(), "length 0");
    assert!(parse(&[2, 1, 0, 0]).is_err(), "length 1");
    assert!(parse(&[2, 3, 4, 0]).is_err(), "MSS of length 3");
    assert!(parse(&[1, 1, 2, 4]).is_err(), "past the header");
    assert_eq!(parse(&[200, 6, 0, 0, 0, 0, 1, 1]), Ok(TcpOptions::default()), "MUST-6");
    assert_eq!(parse(&[1, 2, 4, 3, 232, 1, 1, 1]).map(|options| options.mss), Ok(Some(1_000)), "MUST-64");
    assert_eq!(parse(&[1; 40]), Ok(TcpOptions::default()));
    assert_eq!(parse(&[0, 2, 1, 77]), Ok(TcpOptions::default()), "garbage behind EOL");
}

#[test]
fn sc_14_kp_03_must_15_a_syn_ack_without_mss() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, plain());
        host.expect("S 0:0");
        host.inject("SA 0:0 ack 1 win 65535");
        host.expect("A 1:1 ack 1");
        host.write(20_000);
        let sent = host.take_all();
        assert!(sent.len() <= 10, "{} segments", sent.len());
        assert!(sent.iter().all(|sent| sent.script.len <= 536));
    });
}

#[test]
fn ops_25_a_tiny_mss_is_not_honoured() {
    each_isn(|isn| {
        let mut host = Host::listen(isn, plain());
        host.inject("S 0:0 <mss 8>");
        host.expect("SA 0:0 ack 1");
        host.allow_mss(u32::from(plain().min_mss));
        host.inject("A 1:1 ack 1");
        host.write(1_000);
        let sent = host.take_all();
        assert!(sent.len() <= 12 && sent[0].script.len == u32::from(plain().min_mss), "{:?}", sent[0]);
    });
}

#[test]
fn sc_15_must_16_options_are_taken_off_the_mss() {
    each_isn(|isn| {
        let mut host = Host::established_with(
            isn,
            plain(),
            "S 0:0 win 65535 <mss 1000, sackOK, ts 10 0>",
            "A 1:1 ack 1 <ts 11 *>",
        );
        host.write(988);
        host.expect("A 1:989 <ts * *>");
        host.inject("A 1:1 ack 989 <ts 12 *>");
        host.inject("A 1001:1101 ack 989 <ts 13 *>");
        host.expect("A 989:989 ack 1 <ts * *, sack 1001:1101>");
        host.write(2_000);
        for sent in host.take_all().iter().take(2) {
            let sack = !sent.script.options.as_ref().unwrap().sack.is_empty();
            assert_eq!(sent.script.len, if sack { 976 } else { 988 });
        }
    });
}

/// A window of 14 segments at once, so that only the peer's window limits.
fn wide() -> Config {
    Config { initial_window: 14, ..Config::default() }
}

#[test]
fn sc_16_window_scale_counts_from_the_last_handshake_ack_on() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, wide(), "S 0:0 win 8000 <mss 1000, ws 7>", "A 1:1 ack 1 win 100");
        host.write(30_000);
        host.expect_data(1, 12_001, 1_000);
        host.expect_nothing();
    });
}

#[test]
fn rfc7323_2_2c_the_window_of_a_syn_ack_is_not_scaled() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, Config { initial_window: 14, ..Config::default() });
        host.expect("S 0:0");
        host.inject("SA 0:0 ack 1 win 4000 <mss 1000, ws 7>");
        host.expect("A 1:1 ack 1");
        host.write(30_000);
        host.expect_data(1, 4_001, 1_000);
        host.expect_nothing();
    });
}

#[test]
fn sc_16_rfc7323_2_3b_a_shift_of_15_means_14() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, wide(), "S 0:0 win 65535 <mss 1000, ws 15>", "A 1:1 ack 1 win 1");
        host.write(60_000);
        host.expect_data(1, 14_001, 1_000);
        host.inject("A 1:1 ack 14001 win 1");
        host.expect_data(14_001, 30_001, 1_000);
        host.expect_nothing();
    });
}

#[test]
fn sc_16_no_scale_is_offered_to_a_syn_without() {
    each_isn(|isn| {
        let mut host = Host::listen(isn, wide());
        host.inject("S 0:0 win 8000 <mss 1000>");
        host.expect("SA 0:0 ack 1 <mss 1000>");
        host.inject("A 1:1 ack 1 win 3000");
        host.write(30_000);
        host.expect_data(1, 3_001, 1_000);
        host.expect_nothing();
    });
}

#[test]
fn ops_17_our_window_is_scaled_by_what_we_offered() {
    each_isn(|isn| {
        let mut host = Host::listen(isn, Config::default());
        host.inject("S 0:0 <mss 1000, ws 0>");
        host.expect("SA 0:0 ack 1 win 65535 <mss 1000, ws 7>");
        host.inject("A 1:1 ack 1");
        host.write(10);
        let window = u32::from(host.take().script.win.unwrap()) << 7;
        assert!(window > 65_535 && window <= Config::default().recv_buffer.initial, "{window}");
    });
}
