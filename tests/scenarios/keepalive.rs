//! Keep-alive: SC-75, KP-09, KP-11, MAY-5, MUST-24 to MUST-29, SHLD-12, KA-1, KA-3, KA-4.

use trust::tcp::{CloseReason, Config, Duration, KeepAlive, State};
use trust::wire::tcp::Flags;

use super::harness::{Host, Isn, each_isn, plain};

const HOUR: u64 = 3_600_000;

fn quick() -> KeepAlive {
    KeepAlive { idle: Duration::from_secs(10), interval: Duration::from_secs(2), count: 3 }
}

fn probed(isn: Isn) -> Host {
    let mut host = Host::established(isn, plain());
    host.set_keepalive(Some(quick()));
    host
}

/// SHLD-12: no data, SEQ = SND.NXT - 1. MUST-28: not before two hours by default.
#[test]
fn sc_75_kp_11_the_first_probe_comes_after_two_hours_and_an_answer_restarts_them() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        let default = plain().keepalive_probes;
        host.set_keepalive(Some(default));
        host.advance(2 * HOUR - 1);
        host.expect_after(1, 1, "A 0:0 ack 1");
        host.inject("A 1:1 ack 1");
        for _ in 0..5 {
            host.expect_after(2 * HOUR, 2 * HOUR, "A 0:0 ack 1");
            host.inject("A 1:1 ack 1");
        }
        host.assert_state(State::Established);
        // Any traffic restarts the two hours.
        host.advance(HOUR);
        host.inject("PA 1:101 ack 1");
        host.expect_after(0, 500, "A 1:1 ack 101");
        host.advance(2 * HOUR - 501);
        host.expect_after(1, 501, "A 0:0 ack 101");
    });
}

#[test]
fn sc_75_kp_09_nine_probes_go_unanswered_then_the_connection_is_reset() {
    each_isn(|isn| {
        let mut host = Host::established(isn, Config { keepalive: true, ..plain() });
        host.expect_after(2 * HOUR, 2 * HOUR, "A 0:0 ack 1");
        for _ in 1..9 {
            host.expect_after(75_000, 75_000, "A 0:0 ack 1");
        }
        host.assert_state(State::Established);
        let reset = host.expect_after(75_000, 75_000, "RA 1:1 ack 1");
        assert!(!reset.retransmission);
        host.assert_closed(CloseReason::TimedOut);
    });
}

/// MUST-29, KA-4: one answer and the count begins anew.
#[test]
fn must_29_a_late_answer_resets_the_count() {
    each_isn(|isn| {
        let mut host = probed(isn);
        for _ in 0..10 {
            host.expect_after(10_000, 10_000, "A 0:0 ack 1");
            host.expect_after(2_000, 2_000, "A 0:0 ack 1");
            host.expect_after(2_000, 2_000, "A 0:0 ack 1");
            host.advance(1_999);
            host.inject("A 1:1 ack 1");
        }
        host.assert_state(State::Established);
    });
}

/// MUST-29: a host that slept has waited for no answer.
#[test]
fn must_29_a_clock_that_jumps_does_not_count_as_unanswered_probes() {
    each_isn(|isn| {
        let mut host = probed(isn);
        host.jump(86_400_000);
        host.expect("A 0:0 ack 1");
        host.assert_state(State::Established);
        host.expect_after(2_000, 2_000, "A 0:0 ack 1");
        host.inject("A 1:1 ack 1");
        host.expect_after(10_000, 10_000, "A 0:0 ack 1");
    });
}

#[test]
fn must_29_a_count_of_one_means_two() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.set_keepalive(Some(KeepAlive { count: 1, ..quick() }));
        host.expect_after(10_000, 10_000, "A 0:0 ack 1");
        host.expect_after(2_000, 2_000, "A 0:0 ack 1");
        host.expect_after(2_000, 2_000, "RA 1:1");
        host.assert_closed(CloseReason::TimedOut);
    });
}

#[test]
fn must_24_on_and_off_at_any_time() {
    each_isn(|isn| {
        let mut host = probed(isn);
        host.expect_after(10_000, 10_000, "A 0:0 ack 1");
        host.set_keepalive(None);
        assert_eq!(host.next_timeout(), None);
        host.advance(3 * HOUR);
        // Silence until now counts: the probe is due at once.
        host.set_keepalive(Some(quick()));
        host.expect_after(0, 0, "A 0:0 ack 1");
        host.inject("A 1:1 ack 1");
        host.expect_after(10_000, 10_000, "A 0:0 ack 1");
    });
}

/// MUST-26, KA-3: while something is unacknowledged, retransmissions ask the same question.
#[test]
fn must_26_no_probe_while_data_is_outstanding() {
    each_isn(|isn| {
        let mut host = probed(isn);
        host.write(500);
        host.advance(100_000);
        let sent = host.take_all();
        assert!(sent.len() > 4);
        assert!(sent.iter().all(|sent| (sent.script.seq, sent.script.len) == (1, 500)), "{sent:?}");
        host.inject("A 1:1 ack 501");
        host.expect_after(10_000, 10_000, "A 500:500 ack 1");
    });
}

#[test]
fn must_26_no_probe_of_life_while_the_window_is_probed() {
    each_isn(|isn| {
        let mut host = probed(isn);
        host.inject("A 1:1 ack 1 win 0");
        host.write(500);
        let mut gap = 0;
        let mut last = host.now();
        for _ in 0..10 {
            host.expect_after(1, 120_000, "A 0:0 ack 1");
            let this = (host.now() - last).as_millis();
            assert!(this >= gap, "persist backs off undisturbed: {gap} ms, then {this}");
            (gap, last) = (this, host.now());
            host.inject("A 1:1 ack 1 win 0");
        }
        host.assert_state(State::Established);
        host.inject("A 1:1 ack 1 win 1000");
        host.expect("PA 1:501 ack 1");
        host.inject("A 1:1 ack 501");
        host.expect_after(10_000, 10_000, "A 500:500 ack 1");
    });
}

/// R2 goes on beside it.
#[test]
fn must_20_keep_alive_does_not_hide_r2() {
    each_isn(|isn| {
        let mut host = Host::established(isn, Config { retransmit_limit: Duration::from_secs(100), ..plain() });
        host.set_keepalive(Some(KeepAlive { idle: Duration::from_secs(7), ..quick() }));
        host.write(500);
        host.advance(99_000);
        host.assert_state(State::Established);
        host.advance(1_001);
        host.take_all();
        host.assert_closed(CloseReason::TimedOut);
    });
}

/// After a long transfer the silence counts from its last segment, not from the last look at the timer.
#[test]
fn must_26_idle_time_counts_from_the_last_segment_received() {
    each_isn(|isn| {
        let mut host = probed(isn);
        for round in 0..50_i64 {
            host.advance(730);
            host.take_all();
            let end = 1 + 100 * (round + 1);
            host.inject(&format!("PA {}:{end} ack 1", end - 100));
        }
        host.take_all();
        let last = host.now();
        host.advance(9_999);
        host.take_all();
        host.expect_after(1, 1, "A 0:0 ack 5001");
        assert_eq!((host.now() - last).as_millis(), 10_000);
    });
}

#[test]
fn ka_3_also_half_closed_either_way() {
    each_isn(|isn| {
        let mut host = probed(isn);
        host.inject("FA 1:1 ack 1");
        host.expect("A 1:1 ack 2");
        host.assert_state(State::CloseWait);
        host.expect_after(10_000, 10_000, "A 0:0 ack 2");

        let mut host = probed(isn);
        host.shutdown();
        host.expect("FA 1:1 ack 1");
        host.inject("A 1:1 ack 2");
        host.assert_state(State::FinWait2);
        host.expect_after(10_000, 10_000, "A 1:1 ack 1");
        host.inject("A 1:1 ack 2");
        host.advance(10_000 + 3 * 2_000);
        let sent = host.take_all();
        assert!(sent.last().is_some_and(|last| last.script.flags.contains(Flags::RST)));
        host.assert_closed(CloseReason::TimedOut);
    });
}

/// MUST-27: all three by the configuration.
#[test]
fn must_27_the_configuration_sets_idle_interval_and_count() {
    each_isn(|isn| {
        let mut config = plain();
        for (key, value) in
            [("keepalive", "on"), ("keepalive_idle", "30s"), ("keepalive_interval", "5s"), ("keepalive_count", "2")]
        {
            config.set(key, value).unwrap();
        }
        let mut host = Host::established(isn, config);
        host.expect_after(30_000, 30_000, "A 0:0 ack 1");
        host.expect_after(5_000, 5_000, "A 0:0 ack 1");
        host.expect_after(5_000, 5_000, "RA 1:1");
        host.assert_closed(CloseReason::TimedOut);
    });
}

/// KA-2: the peer's probes, with none or one octet of garbage.
#[test]
fn sc_75_ka_2_probes_of_the_peer_are_answered() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("PA 1:101 ack 1");
        host.expect_after(0, 500, "A 1:1 ack 101");
        for probe in ["A 100:100 ack 1", "A 100:101 ack 1"] {
            host.advance(1_000);
            host.inject(probe);
            host.expect("A 1:1 ack 101");
        }
    });
}
