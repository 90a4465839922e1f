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
        host.inject("PA 1:101 ack 1 <ts 200 *>");
        host.advance(200);
        host.expect("A 1:1 ack 101 <ts * 200>");
        host.inject("PA 101:201 ack 1 <ts 199 *>");
        host.expect("A 1:1 ack 101 <ts * 200>");
        assert_eq!(host.readable(), 100);
        host.inject("PA 101:201 ack 1 <ts 200 *>");
        assert_eq!(host.readable(), 200, "an equal timestamp is fine");
        host.advance(200);
        host.take_all();
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

#[test]
fn paws_works_across_the_wrap_of_the_timestamp() {
    each_isn(|isn| {
        let mut host = Host::established_with(
            isn,
            plain(),
            "S 0:0 win 65535 <mss 1000, ts 4294967290 0>",
            "A 1:1 ack 1 <ts 4294967295 *>",
        );
        host.inject("PA 1:101 ack 1 <ts 3 *>");
        assert_eq!(host.readable(), 100);
        host.inject("PA 101:201 ack 1 <ts 4294967295 *>");
        assert_eq!(host.readable(), 100);
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
