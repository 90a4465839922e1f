//! RST, SYN and challenge ACKs in synchronized states: SC-34 to SC-39.

use trust::tcp::{CloseReason, State};
use trust::wire::tcp::Flags;

use super::harness::{Host, each_isn, plain, with_buffer};

#[test]
fn sc_34_sm_rst_2_an_exact_reset_ends_the_connection() {
    for reset in ["R 1:1", "R 1:21", "RA 1:1 ack 1"] {
        each_isn(|isn| {
            let mut host = Host::established(isn, plain());
            host.inject(reset);
            host.assert_closed(CloseReason::Reset);
            assert_eq!(host.readable(), 0, "SHLD-2: its data is not data");
        });
    }
}

#[test]
fn sc_34_rfc7323_5_2b_an_old_timestamp_does_not_save_from_a_reset() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 <mss 1000, ts 5000 0>", "A 1:1 ack 1 <ts 5001 *>");
        host.inject("R 1:1 <ts 1 0>");
        host.assert_closed(CloseReason::Reset);
    });
}

#[test]
fn rfc7323_3_2b_a_reset_needs_no_timestamp() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 <mss 1000, ts 5000 0>", "A 1:1 ack 1 <ts 5001 *>");
        host.inject("R 1:1");
        host.assert_closed(CloseReason::Reset);
    });
}

#[test]
fn sc_35_rfc5961_3_2_an_inexact_reset_is_challenged_at_a_limited_rate() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("R 500:500");
        host.expect("A 1:1 ack 1");
        host.inject("R 600:600");
        host.expect_nothing();
        host.inject("R 70001:70001");
        host.inject("R -100:-100");
        host.expect_nothing();
        host.advance(500);
        host.inject("R 600:600");
        host.expect("A 1:1 ack 1");
        host.assert_state(State::Established);
        host.write(10);
        host.expect("PA 1:11 ack 1");
    });
}

#[test]
fn sc_36_rfc5961_4_2_a_syn_is_challenged_wherever_it_lies() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        for syn in ["S 1:1", "S 0:0", "S 90000:90000", "SA 0:0 ack 1"] {
            host.inject(syn);
            host.expect("A 1:1 ack 1");
            host.assert_state(State::Established);
            host.inject(syn);
            host.expect_nothing();
            host.advance(501);
        }
        // SM-X-5: a peer that has really restarted answers our ACK like this.
        host.inject("R 1:1");
        host.assert_closed(CloseReason::Reset);
    });
}

/// SM-SYN-1 (RFC5961-4.2) comes before RFC7323-3.2b and 5.3a: a peer that has restarted sends what timestamps it likes.
#[test]
fn a_syn_is_challenged_whatever_its_timestamp() {
    each_isn(|isn| {
        for syn in [
            "S 1:1",
            "S 90000:90000 <mss 1000>",
            "S 1:1 <ts 1 0>",
            "S 0:0 <ts 1 0>",
            "S 1:101 <ts 1 0>",
            "SA 0:0 ack 1",
        ] {
            let (open, ack) = ("S 0:0 <mss 1000, ts 5000 0>", "A 1:1 ack 1 <ts 5001 *>");
            let mut host = Host::established_with(isn, plain(), open, ack);
            host.inject(syn);
            host.expect("A 1:1 ack 1 <ts * 5001>");
            host.inject(syn);
            host.expect_nothing();
            host.inject("R 1:1");
            host.assert_closed(CloseReason::Reset);
        }
    });
}

/// SM-SR-3: the same before the handshake is complete.
#[test]
fn a_syn_in_syn_received_is_challenged_whatever_its_timestamp() {
    each_isn(|isn| {
        for syn in ["S 1:1", "S 1:1 <ts 1 0>", "S 90000:90000"] {
            let mut host = Host::listen(isn, plain());
            host.inject("S 0:0 <mss 1000, ts 5000 0>");
            host.expect("SA 0:0 ack 1");
            host.inject(syn);
            host.expect("A 1:1 ack 1 <ts * 5000>");
            host.inject("A 1:1 ack 1 <ts 5001 *>");
            host.assert_state(State::Established);
        }
    });
}

#[test]
fn sc_37_must_66_with_a_closed_window_acks_and_resets_still_count() {
    each_isn(|isn| {
        let mut host = Host::established(isn, with_buffer(1_000));
        host.write(500);
        host.expect("PA 1:501");
        host.inject("A 1:1001 ack 1");
        host.advance(200);
        host.expect("A 501:501 ack 1001 win 0");
        host.inject("PA 1001:1002 ack 501");
        host.expect("A 501:501 ack 1001 win 0");
        assert_eq!(host.unacked(), 0, "the ACK counted");
        assert_eq!(host.readable(), 1_000, "the data did not");
        host.inject("R 1001:1001");
        host.assert_closed(CloseReason::Reset);
    });
}

/// SM-X-6.
#[test]
fn sc_38_abort_sends_one_reset_and_drops_the_queue() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(500);
        host.expect("PA 1:501");
        host.abort();
        let sent = host.take();
        assert!(sent.script.flags.contains(Flags::RST));
        assert_eq!((sent.script.seq, sent.script.len), (501, 0));
        host.assert_closed(CloseReason::Aborted);
        host.advance(60_000);
        host.expect_nothing();
        host.inject("A 1:1 ack 501");
        host.expect("R 501:501");
    });
}

#[test]
fn rfc7323_5_2a_an_abort_carries_timestamps() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 <mss 1000, ts 5000 0>", "A 1:1 ack 1 <ts 5001 *>");
        host.abort();
        let options = host.take().script.options.unwrap();
        assert_eq!(options.timestamps.and_then(|stamps| stamps.1), Some(5_001));
    });
}

/// Policy: a RST at RCV.NXT-1 in CLOSE-WAIT resets, since macOS sends FIN and RST with the same number (SM-RST-4).
#[test]
fn sc_39_ops_41_a_reset_with_the_number_of_the_fin() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("FA 1:1 ack 1");
        host.expect("A 1:1 ack 2");
        host.inject("R 1:1");
        host.assert_closed(CloseReason::Reset);
    });
}

/// SM-FW2-4.
#[test]
fn sm_rst_2_every_synchronized_state_can_be_reset() {
    each_isn(|isn| {
        let to_fin_wait_1 = |host: &mut Host| {
            host.shutdown();
            host.take();
        };
        let to_fin_wait_2 = |host: &mut Host| {
            host.shutdown();
            host.take();
            host.inject("A 1:1 ack 2");
        };
        let to_closing = |host: &mut Host| {
            host.shutdown();
            host.take();
            host.inject("FA 1:1 ack 1");
            host.take_all();
        };
        let to_last_ack = |host: &mut Host| {
            host.inject("FA 1:1 ack 1");
            host.take_all();
            host.shutdown();
            host.take();
        };
        type Steps<'a> = (State, i64, CloseReason, &'a dyn Fn(&mut Host));
        let cases: [Steps<'_>; 4] = [
            (State::FinWait1, 1, CloseReason::Reset, &to_fin_wait_1),
            (State::FinWait2, 1, CloseReason::Reset, &to_fin_wait_2),
            (State::Closing, 2, CloseReason::Normal, &to_closing),
            (State::LastAck, 2, CloseReason::Normal, &to_last_ack),
        ];
        for (state, next, reason, steps) in cases {
            let mut host = Host::established(isn, plain());
            steps(&mut host);
            host.assert_state(state);
            host.inject(&format!("R {0}:{0}", next + 100));
            host.take_all();
            host.assert_state(state);
            host.inject(&format!("R {next}:{next}"));
            // Where both ends have closed and all data is acknowledged, a RST destroys nothing: RFC 9293 3.10.7.4 goes to
            // CLOSED without telling the user.
            host.assert_closed(reason);
        }
    });
}
