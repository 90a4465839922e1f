//! Giving up, and what must not be given up: SC-77, SM-T-1, SM-SR-7, SM-SS-7.

use trust::tcp::{CloseReason, Config, Duration, State};
use trust::wire::tcp::Flags;

use super::harness::{Host, each_isn, plain};

/// SM-EST-6.
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

/// Lets time pass in steps of `step` ms, answering every probe of our closed window, until the connection ends or
/// `most` ms are over. Returns how many ms passed.
fn answer_probes(host: &mut Host, step: u64, most: u64) -> u64 {
    let start = host.now();
    while (host.now() - start).as_millis() < most {
        host.advance(step);
        let sent = host.take_all();
        if host.state() == Some(State::Closed) {
            break;
        }
        if !sent.is_empty() {
            host.inject(&format!("A 1:1 ack {} win 0", host.sent_upto()));
        }
    }
    (host.now() - start).as_millis()
}

#[test]
fn must_37_answered_probes_put_r2_off() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("A 1:1 ack 1 win 0");
        host.write(1_000);
        answer_probes(&mut host, 20_000, 4_000_000);
        host.assert_state(State::Established);
    });
}

/// As TCP_USER_TIMEOUT of Linux: who set a limit means also data that cannot be sent.
#[test]
fn ops_28_answered_probes_do_not_put_the_users_timeout_off() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.set_user_timeout(Some(Duration::from_secs(200)));
        host.inject("A 1:1 ack 1 win 0");
        host.write(1_000);
        let passed = answer_probes(&mut host, 1_000, 1_000_000);
        assert!((200_000..=202_000).contains(&passed), "{passed} ms");
        host.assert_closed(CloseReason::UserTimeout);
    });
}

#[test]
fn must_21_a_timeout_that_comes_late_counts_from_the_last_progress() {
    each_isn(|isn| {
        // With R2 off no timer runs that could be shortened.
        for retransmit_limit in [Duration::ZERO, plain().retransmit_limit] {
            let mut host = Host::established(isn, Config { retransmit_limit, ..plain() });
            host.write(1_000);
            host.advance(60_000);
            host.set_user_timeout(Some(Duration::from_secs(90)));
            host.advance(29_000);
            host.assert_state(State::Established);
            host.advance(1_001);
            host.take_all();
            host.assert_closed(CloseReason::UserTimeout);
        }
    });
}

#[test]
fn must_21_a_timeout_taken_back_does_not_fire() {
    each_isn(|isn| {
        for other in [None, Some(Duration::ZERO), Some(Duration::MAX)] {
            let mut host = Host::established(isn, Config { user_timeout: Duration::from_secs(5), ..plain() });
            host.write(1_000);
            host.advance(4_000);
            host.set_user_timeout(other);
            host.advance(800_000);
            host.assert_state(State::Established);
            host.advance(800_000);
            host.take_all();
            match other {
                Some(Duration::MAX) => host.assert_state(State::Established),
                _ => host.assert_closed(CloseReason::TimedOut),
            }
        }
    });
}

/// A peer that answers but never reads must not hold what a closed connection has left to send.
#[test]
fn ops_22_an_orphan_before_a_closed_window_is_reset() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("A 1:1 ack 1 win 0");
        host.write(1_000);
        answer_probes(&mut host, 1_000, 3_600_000);
        host.assert_state(State::Established);
        let early = host.now();
        host.close();
        let mut resets = 0;
        while host.state() != Some(State::Closed) {
            assert!((host.now() - early).as_millis() < 200_000);
            host.advance(1_000);
            for sent in host.take_all() {
                if sent.script.flags.contains(Flags::RST) {
                    resets += 1;
                    assert_eq!(sent.script.seq, 1, "it must reach a peer whose window is closed");
                } else {
                    host.inject("A 1:1 ack 1 win 0");
                }
            }
        }
        host.assert_closed(CloseReason::TimedOut);
        assert_eq!(resets, 1);
    });
}

#[test]
fn ops_22_an_orphan_that_makes_progress_lives() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(20_000);
        host.close();
        for ack in 1..=20_i64 {
            host.advance(90_000);
            host.take_all();
            host.assert_state(State::FinWait1);
            host.inject(&format!("A 1:1 ack {}", 1 + 1_000 * ack));
            host.take_all();
        }
        host.inject("A 1:1 ack 20002");
        host.assert_state(State::FinWait2);
    });
}

#[test]
fn ops_22_a_silent_peer_costs_an_orphan_less_time_than_r2() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(1_000);
        host.close();
        host.advance(99_000);
        host.assert_state(State::FinWait1);
        host.advance(1_001);
        let last = host.take_all().pop();
        assert!(last.is_some_and(|sent| sent.script.flags.contains(Flags::RST)));
        host.assert_closed(CloseReason::TimedOut);
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
