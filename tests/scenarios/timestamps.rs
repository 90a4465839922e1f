//! Timestamps: SC-69, RFC 7323.

use super::harness::{Host, Isn, each_isn, plain};
use trust::tcp::{Config, State};

fn stamped(isn: Isn, config: Config) -> Host {
    Host::established_with(isn, config, "S 0:0 win 65535 <mss 1000, ts 100 0>", "A 1:1 ack 1 <ts 100 *>")
}

/// MUST-5.
#[test]
fn sc_69_rfc7323_4_3b_which_timestamp_is_echoed() {
    each_isn(|isn| {
        let mut host = stamped(isn, plain());
        host.inject("A 1:989 ack 1 <ts 101 *>");
        host.inject("A 989:1977 ack 1 <ts 102 *>");
        host.expect("A 1:1 ack 1977 <ts * 101>");
        host.inject("A 2965:3953 ack 1 <ts 103 *>");
        host.expect("A 1:1 ack 1977 <ts * 101>");
        host.inject("A 1977:2965 ack 1 <ts 104 *>");
        host.expect("A 1:1 ack 3953 <ts * 104>");
    });
}

#[test]
fn rfc7323_3_2d_our_clock_ticks_in_milliseconds_from_an_offset() {
    each_isn(|isn| {
        let mut host = stamped(isn, plain());
        let value = |host: &mut Host| host.take().script.options.unwrap().timestamps.unwrap().0.unwrap();
        host.write(10);
        let first = value(&mut host);
        host.inject("A 1:1 ack 11 <ts 101 *>");
        host.advance(1_234);
        host.write(10);
        assert_eq!(value(&mut host).wrapping_sub(first), 1_234);
    });
}

#[test]
fn sc_69_rfc7323_5_3a_paws_drops_and_acknowledges() {
    each_isn(|isn| {
        let mut host = stamped(isn, plain());
        host.inject("PA 1:101 ack 1 <ts 99 *>");
        host.expect("A 1:1 ack 1 <ts * 100>");
        assert_eq!(host.readable(), 0, "older than the handshake");
        seconds_pass(&mut host, 1, 200);
        // Two seconds later what is older than the first of them is old.
        host.inject("PA 301:401 ack 1 <ts 199 *>");
        host.expect("A 1:1 ack 301 <ts * 2200>");
        assert_eq!((host.readable(), host.info().paws_drops), (300, 2));
        host.inject("PA 301:401 ack 1 <ts 2200 *>");
        assert_eq!(host.readable(), 400, "an equal timestamp is fine");
        host.advance(200);
        host.take_all();
    });
}

/// Three segments of 100 octets a second apart, at `from` and with timestamps from `stamp` on, and their ACKs.
fn seconds_pass(host: &mut Host, from: i64, stamp: u32) {
    for index in 0..3 {
        let at = from + i64::from(index) * 100;
        host.inject(&format!("PA {at}:{} ack 1 <ts {} *>", at + 100, stamp + index * 1_000));
        host.advance(1_000);
        host.expect(&format!("A 1:1 ack {} <ts * {}>", at + 100, stamp + index * 1_000));
    }
}

/// RFC7323-5.3a: a retransmission has overtaken what left before it.
#[test]
fn segments_that_others_have_overtaken_are_not_dropped_as_old() {
    each_isn(|isn| {
        let mut host = stamped(isn, plain());
        host.inject("PA 101:201 ack 1 <ts 251 *>");
        host.take();
        host.inject("PA 1:101 ack 1 <ts 300 *>");
        host.expect("A 1:1 ack 201 <ts * 300>");
        // Before the retransmission and after what it has sent again, up to the time of a second ago.
        host.inject("PA 201:301 ack 1 <ts 299 *>");
        host.take_all();
        host.inject("PA 301:401 ack 1 <ts 252 *>");
        host.take_all();
        host.inject("PA 401:501 ack 1 <ts 100 *>");
        host.take_all();
        assert_eq!((host.readable(), host.info().paws_drops), (500, 0));
        // None of them is echoed: TS.Recent does not go back.
        host.inject("PA 601:701 ack 1 <ts 301 *>");
        host.expect("A 1:1 ack 501 <ts * 300>");
    });
}

#[test]
fn sc_69_rfc7323_5_5_after_24_days_the_timestamp_is_out_of_date() {
    each_isn(|isn| {
        let mut host = stamped(isn, plain());
        host.advance(25 * 86_400_000);
        host.inject("PA 1:101 ack 1 <ts 3 *>");
        assert_eq!(host.readable(), 100);
        host.advance(200);
        host.expect("A 1:1 ack 101 <ts * 3>");
        host.inject("PA 101:201 ack 1 <ts 2 *>");
        assert_eq!(host.readable(), 100, "and is up to date again");
        host.take_all();
    });
}

/// RFC7323-5.5: who forges a segment must not set what the peer is measured by, and keep it out for weeks.
#[test]
fn after_24_days_a_segment_out_of_the_window_does_not_set_the_timestamp() {
    each_isn(|isn| {
        let mut host = stamped(isn, plain());
        host.advance(25 * 86_400_000);
        for forged in ["PA 90001:90101 ack 1 <ts 90 *>", "A 90001:90001 ack 1 <ts 90 *>"] {
            host.inject(forged);
            host.expect("A 1:1 ack 1 <ts * 100>");
        }
        // Nor one that acknowledges what was never sent, nor one that leaves a hole (RFC7323-4.3a).
        host.advance(1_000);
        host.inject("PA 1:101 ack 5001 <ts 90 *>");
        host.expect("A 1:1 ack 1 <ts * 100>");
        host.inject("PA 201:301 ack 1 <ts 90 *>");
        host.expect("A 1:1 ack 1 <ts * 100>");
        host.inject("PA 1:201 ack 1 <ts 3 *>");
        host.expect("A 1:1 ack 301 <ts * 3>");
        assert_eq!(host.readable(), 300);
    });
}

#[test]
fn paws_works_across_the_wrap_of_the_timestamp() {
    each_isn(|isn| {
        let mut host = Host::established_with(
            isn,
            plain(),
            "S 0:0 win 65535 <mss 1000, ts 4294967290 0>",
            "A 1:1 ack 1 <ts 4294967295 *>",
        );
        seconds_pass(&mut host, 1, 3);
        host.inject("PA 301:401 ack 1 <ts 4294967295 *>");
        assert_eq!(host.readable(), 300);
        host.take_all();
    });
}

#[test]
fn sc_69_rfc7323_3_2b_a_segment_without_timestamp_is_dropped_silently() {
    each_isn(|isn| {
        let mut host = stamped(isn, plain());
        host.inject("PA 1:101 ack 1");
        host.advance(1_000);
        host.expect_nothing();
        assert_eq!(host.readable(), 0);
        host.assert_state(State::Established);
    });
}

/// As Linux does: it is that or a connection that never opens.
#[test]
fn a_client_that_leaves_the_timestamp_out_of_its_third_segment_connects() {
    for third in ["A 1:1 ack 1", "PA 1:101 ack 1"] {
        each_isn(|isn| {
            let mut host = Host::listen(isn, plain());
            host.inject("S 0:0 win 65535 <mss 1000, ts 100 0>");
            host.expect("SA 0:0 ack 1 <mss 1000, ts * 100>");
            host.inject(third);
            host.assert_state(State::Established);
            // RFC7323-3.2b does not apply to it any more; our own segments keep their timestamps.
            let at = 1 + host.readable();
            host.inject(&format!("PA {at}:{} ack 1", at + 500));
            host.advance(200);
            host.take_all();
            assert_eq!(host.readable(), at - 1 + 500);
            host.write(100);
            host.expect(&format!("PA 1:101 ack {} <ts * 100>", at + 500));
            host.inject(&format!("A {0}:{0} ack 101", at + 500));
            assert_eq!(host.unacked(), 0);
            // Where there is one, PAWS is as ever.
            host.inject(&format!("PA {0}:{1} ack 101 <ts 99 *>", at + 500, at + 600));
            host.take_all();
            assert_eq!(host.readable(), at - 1 + 500);
            // To the end, and after it.
            host.close();
            host.take_all();
        });
    }
}

/// The FIN of such a peer again, in TIME-WAIT.
#[test]
fn a_fin_without_timestamp_is_answered_in_time_wait() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 <mss 1000, ts 100 0>", "A 1:1 ack 1");
        host.shutdown();
        host.expect("FA 1:1 ack 1");
        host.inject("FA 1:1 ack 2");
        host.expect("A 2:2 ack 2");
        host.assert_state(State::TimeWait);
        host.inject("FA 1:1 ack 2");
        host.expect("A 2:2 ack 2");
    });
}

/// Regression gvisor#11536: some old peers leave the option out of pure ACKs; a switch lets them work.
#[test]
fn lenient_mode_takes_segments_without_timestamps() {
    each_isn(|isn| {
        let mut host = stamped(isn, Config { strict_timestamps: false, ..plain() });
        host.write(100);
        host.expect("PA 1:101 <ts * *>");
        host.inject("A 1:1 ack 101");
        assert_eq!(host.unacked(), 0);
    });
}

#[test]
fn rfc7323_3_2c_timestamps_that_were_not_negotiated_are_ignored() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("PA 1:101 ack 1 <ts 7 9>");
        host.inject("PA 101:201 ack 1 <ts 3 9>");
        assert_eq!(host.readable(), 200);
        host.advance(200);
        for sent in host.take_all() {
            assert_eq!(sent.script.options.unwrap().timestamps, None);
        }
    });
}

#[test]
fn ops_49_a_dropped_segment_does_not_set_the_recent_timestamp() {
    each_isn(|isn| {
        let mut host = stamped(isn, plain());
        host.inject("PA 90001:90101 ack 1 <ts 50000 *>");
        host.expect("A 1:1 ack 1 <ts * 100>");
        host.advance(600);
        host.inject("PA 1:101 ack 999999 <ts 60000 *>");
        host.take_all();
        host.inject("PA 1:101 ack 1 <ts 101 *>");
        assert_eq!(host.readable(), 100, "not hung by a timestamp from the future");
        host.advance(200);
        host.take_all();
    });
}

#[test]
fn rfc7323_3_2e_timestamps_only_on_the_synack_if_the_syn_had_them() {
    each_isn(|isn| {
        let mut host = Host::listen(isn, Config::default());
        host.inject("S 0:0 <mss 1000, sackOK>");
        host.expect("SA 0:0 ack 1 <mss 1000, sackOK>");
        let mut host = Host::listen(isn, Config { timestamps: false, ..Config::default() });
        host.inject("S 0:0 <mss 1000, ts 5 0>");
        host.expect("SA 0:0 ack 1 <mss 1000>");
    });
}
