//! Giving up, and what must not be given up: SC-77, SM-T-1, SM-SR-7, SM-SS-7.

use trust::tcp::{CloseReason, Config, Duration, State};
use trust::wire::tcp::Flags;

use super::harness::{Host, each_isn, plain};

#[test]
fn sc_77_the_users_timeout_ends_a_connection_without_progress() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.set_user_timeout(Some(Duration::from_secs(5)));
        host.advance(60_000);
        host.assert_state(State::Established);
        host.write(1_000);
        host.advance(4_900);
        host.assert_state(State::Established);
        host.take_all();
        host.advance(8_000);
        host.take_all();
        host.assert_closed(CloseReason::UserTimeout);
    });
}

#[test]
fn sc_77_unanswered_probes_count_for_the_users_timeout() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.set_user_timeout(Some(Duration::from_secs(5)));
        host.inject("A 1:1 ack 1 win 0");
        host.write(1_000);
        host.advance(13_000);
        host.take_all();
        host.assert_closed(CloseReason::UserTimeout);
    });
}

#[test]
fn must_37_answered_probes_are_progress_also_for_the_users_timeout() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.set_user_timeout(Some(Duration::from_secs(200)));
        host.inject("A 1:1 ack 1 win 0");
        host.write(1_000);
        for _ in 0..200 {
            host.advance(20_000);
            if !host.take_all().is_empty() {
                host.inject("A 1:1 ack 1 win 0");
            }
        }
        host.assert_state(State::Established);
    });
}

#[test]
fn must_21_r2_can_be_switched_off() {
    each_isn(|isn| {
        let mut host = Host::established(isn, Config { retransmit_limit: Duration::ZERO, ..plain() });
        host.write(1_000);
        host.advance(24 * 3_600_000);
        assert!(host.take_all().len() > 700, "capped at two minutes");
        host.assert_state(State::Established);
        host.inject("A 1:1 ack 1001");
        assert_eq!(host.unacked(), 0);
    });
}

#[test]
fn sm_t_1_progress_puts_r2_off() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(60_000);
        for ack in 1..40_i64 {
            host.advance(300_000);
            host.take_all();
            host.inject(&format!("A 1:1 ack {}", 1 + 1_000 * ack));
            host.take_all();
        }
        host.assert_state(State::Established);
    });
}

#[test]
fn sm_sr_7_abort_in_syn_received_resets() {
    each_isn(|isn| {
        let mut host = Host::listen(isn, plain());
        host.inject("S 0:0 <mss 1000>");
        host.expect("SA 0:0 ack 1");
        host.abort();
        let sent = host.take();
        assert!(sent.script.flags.contains(Flags::RST));
        assert_eq!(sent.script.seq, 1);
        host.advance(60_000);
        host.expect_nothing();
    });
}

#[test]
fn sm_ss_7_abort_in_syn_sent_says_nothing() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, plain());
        host.expect("S 0:0");
        host.abort();
        host.expect_nothing();
        host.advance(60_000);
        host.expect_nothing();
        host.inject("SA 0:0 ack 1");
        host.expect("R 1:1");
    });
}

#[test]
fn sm_clg_1_abort_in_closing_needs_no_reset() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.close();
        host.expect("FA 1:1 ack 1");
        host.inject("FA 1:1 ack 1");
        host.expect("A 2:2 ack 2");
        host.abort();
        host.expect_nothing();
        assert_eq!(host.state(), Some(State::Closed));
    });
}

/// After a peer was silent for days, one segment brings everything back.
#[test]
fn an_idle_connection_lives_without_timers() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        assert_eq!(host.next_timeout(), None, "nothing in flight, no keep-alive: no timer (MUST-25)");
        host.advance(10 * 86_400_000);
        host.inject("PA 1:101 ack 1");
        assert_eq!(host.readable(), 100);
        host.write(100);
        host.expect("PA 1:101 ack 101");
    });
}
