//! Whole conversations with a client that follows the stock one step by step, over shards in disorder.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::services::CpuTime;
use crate::services::testing::{Client, Net};

#[path = "pieces_tests.rs"]
mod pieces;

fn net(shards: u16, seed: u64) -> Net<Iperf3> {
    Net::new(shards, seed, |_| Iperf3::new(Arc::new(CpuTime::default)))
}

fn cookie(number: u8) -> [u8; COOKIE_LEN] {
    let mut cookie = [b'a' + number % 26; COOKIE_LEN];
    cookie[COOKIE_LEN - 1] = 0;
    cookie
}

/// A cookie of its own for each of many.
fn numbered_cookie(number: usize) -> [u8; COOKIE_LEN] {
    let mut cookie = [b'n'; COOKIE_LEN];
    cookie[..8].copy_from_slice(format!("{number:08}").as_bytes());
    cookie[COOKIE_LEN - 1] = 0;
    cookie
}

/// A service with places for so many tests on each shard.
fn narrow_net(shards: u16, seed: u64, tests_max: usize) -> Net<Iperf3> {
    Net::new(shards, seed, |_| Iperf3 { tests_max, ..Iperf3::new(Arc::new(CpuTime::default)) })
}

fn blob(value: &Value) -> Vec<u8> {
    protocol::encode_blob(value)
}

fn client_results() -> Value {
    json!({
        "cpu_util_total": 1.5, "cpu_util_user": 0.5, "cpu_util_system": 1, "sender_has_retransmits": u64::MAX,
        "streams": [{"id": 1, "bytes": 1, "retransmits": u64::MAX, "jitter": 0, "errors": 0, "packets": 0}],
    })
}

/// A client in the middle of a test.
struct Test {
    control: Client,
    data: Vec<Client>,
    /// Octets of control the client has received and not looked at.
    inbox: Vec<u8>,
    /// Send control octets one by one.
    drip: bool,
}

impl Test {
    fn open(net: &mut Net<Iperf3>, cookie: [u8; COOKIE_LEN], drip: bool) -> Self {
        let shard = net.dice.below(net.services.len()) as u16;
        let control = net.connect(shard);
        let mut test = Self { control, data: Vec::new(), inbox: Vec::new(), drip };
        test.say(net, &cookie);
        test
    }

    fn say(&mut self, net: &mut Net<Iperf3>, octets: &[u8]) {
        for piece in octets.chunks(if self.drip { 1 } else { usize::MAX }) {
            net.client_send(self.control, piece);
            net.run();
        }
    }

    fn hear(&mut self, net: &mut Net<Iperf3>) {
        loop {
            net.run();
            let some = net.client_take(self.control);
            if some.is_empty() {
                break;
            }
            self.inbox.extend(some);
        }
    }

    #[track_caller]
    fn expect(&mut self, net: &mut Net<Iperf3>, octets: &[u8]) {
        self.hear(net);
        assert_eq!(self.inbox, octets);
        self.inbox.clear();
    }

    /// Opens the data connections, one after another as far as SYNs go; all else may overtake.
    fn open_streams(&mut self, net: &mut Net<Iperf3>, cookie: [u8; COOKIE_LEN], count: usize) {
        for _ in 0..count {
            let shard = net.dice.below(net.services.len()) as u16;
            let conn = net.connect(shard);
            net.client_send(conn, &cookie);
            self.data.push(conn);
        }
        net.run();
    }

    /// Up to the moment when the test runs.
    fn begin(net: &mut Net<Iperf3>, number: u8, params: &Value, streams: usize, drip: bool) -> Self {
        let mut test = Self::open(net, cookie(number), drip);
        test.expect(net, &[9]);
        test.say(net, &blob(params));
        test.expect(net, &[10]);
        test.open_streams(net, cookie(number), streams);
        test.expect(net, &[1, 2]);
        test
    }

    /// From TEST_END to the end; yields the server's results.
    fn finish(&mut self, net: &mut Net<Iperf3>) -> Value {
        self.say(net, &[4]);
        self.expect(net, &[13]);
        for &conn in &self.data {
            assert!(net.close_called(conn) || net.got_reset(conn), "data connections are closed before the results");
        }
        self.say(net, &blob(&client_results()));
        self.hear(net);
        let length = u32::from_be_bytes(self.inbox[..4].try_into().unwrap()) as usize;
        assert_eq!(self.inbox.len(), 4 + length + 1);
        assert_eq!(self.inbox[4 + length], 14);
        let results = serde_json::from_slice(&self.inbox[4..4 + length]).unwrap();
        self.inbox.clear();
        self.say(net, &[16]);
        self.leave(net);
        assert!(net.got_fin(self.control) && !net.got_reset(self.control));
        results
    }

    /// The client goes away, and nothing of it may remain.
    fn leave(&mut self, net: &mut Net<Iperf3>) {
        for &conn in self.data.iter().chain([&self.control]) {
            net.client_fin(conn);
            let _ = net.client_take(conn);
        }
        net.run();
    }
}

#[track_caller]
fn assert_clean(net: &Net<Iperf3>) {
    for service in &net.services {
        assert!(service.parts.is_empty(), "{:?}", service.parts);
        assert!(service.homed.is_empty() && service.notes.is_empty() && service.places.is_empty());
    }
}

fn stock(extra: Value) -> Value {
    let mut params = json!({
        "tcp": true, "omit": 0, "time": 1, "num": 0, "blockcount": 0, "parallel": 1, "len": 131_072,
        "pacing_timer": 1000, "client_version": "3.12",
    });
    for (key, value) in extra.as_object().unwrap() {
        params[key] = value.clone();
    }
    params
}

/// Octets the server reports, by stream.
fn octets(results: &Value) -> Vec<u64> {
    results["streams"].as_array().unwrap().iter().map(|stream| stream["bytes"].as_u64().unwrap()).collect()
}

fn ids(results: &Value) -> Vec<u64> {
    results["streams"].as_array().unwrap().iter().map(|stream| stream["id"].as_u64().unwrap()).collect()
}

#[test]
fn the_default_test_on_one_shard_and_on_several_in_any_segmentation() {
    for (shards, drip) in [(1, false), (1, true), (4, false), (4, true)] {
        for seed in 1..20 {
            let mut net = net(shards, seed);
            let mut test = Test::begin(&mut net, 0, &stock(json!({})), 1, drip);
            assert!(net.nodelay(test.control) && !net.nodelay(test.data[0]));
            net.client_send(test.data[0], &[7; 10_000]);
            net.run();
            net.advance(Duration::from_secs(1));
            net.client_send(test.data[0], &[7; 5_000]);
            net.run();
            let results = test.finish(&mut net);
            assert_eq!((octets(&results), ids(&results)), (vec![15_000], vec![1]));
            assert_eq!(results["sender_has_retransmits"], -1);
            assert_eq!(results["streams"][0]["retransmits"], -1);
            assert_eq!(results["streams"][0]["end_time"], 1.0);
            assert_clean(&net);
        }
    }
}

#[test]
fn reverse_sends_and_counts_retransmissions() {
    let mut net = net(2, 3);
    let mut test = Test::begin(&mut net, 0, &stock(json!({"reverse": true, "nodelay": true})), 1, false);
    assert!(net.nodelay(test.data[0]));
    let mut got = 0;
    for _ in 0..10 {
        net.advance(Duration::from_millis(100));
        got += net.client_take(test.data[0]).len();
        net.run();
    }
    got += net.waiting(test.data[0]);
    net.set_retransmits(5);
    let results = test.finish(&mut net);
    assert_eq!(octets(&results), [got as u64]);
    assert!(got >= 10 * 256 * 1024, "the send side is kept full");
    assert_eq!(results["sender_has_retransmits"], 1);
    assert_eq!(results["streams"][0]["retransmits"], 5);
    assert_clean(&net);
}

#[test]
fn bidirectional_roles_follow_the_order_of_syns_over_three_shards() {
    for seed in 1..60 {
        let mut net = net(3, seed);
        let mut test = Test::begin(&mut net, 0, &stock(json!({"bidirectional": true, "parallel": 3})), 6, false);
        for (index, &conn) in test.data.iter().enumerate() {
            assert_eq!(net.waiting(conn) > 0, index >= 3, "seed {seed}: stream {index}");
            if index < 3 {
                net.client_send(conn, &vec![0; 100 + index]);
            }
        }
        net.run();
        net.advance(Duration::from_secs(1));
        let results = test.finish(&mut net);
        assert_eq!(ids(&results), [1, 3, 4, 5, 6, 7]);
        // The client took nothing, and the reset throws away what waits.
        assert_eq!(octets(&results), [100, 101, 102, 0, 0, 0], "seed {seed}");
        for (index, &conn) in test.data.iter().enumerate() {
            assert_eq!(net.got_reset(conn), index >= 3, "only senders are reset");
        }
        assert_clean(&net);
    }
}

#[test]
fn a_hundred_and_twenty_eight_streams_each_way() {
    let mut net = net(4, 11);
    net.set_default_send_limit(1000);
    let mut test = Test::begin(&mut net, 0, &stock(json!({"bidirectional": true, "parallel": 128})), 256, false);
    assert_eq!(ids(&test.finish(&mut net)).len(), 256);
    assert_clean(&net);
}

#[test]
fn several_tests_at_once_do_not_meet() {
    let mut net = net(3, 5);
    let mut tests: Vec<Test> =
        (0..5).map(|number| Test::begin(&mut net, number, &stock(json!({"parallel": 2})), 2, false)).collect();
    for (number, test) in tests.iter().enumerate() {
        net.client_send(test.data[1], &vec![0; 1000 + number]);
    }
    net.run();
    net.advance(Duration::from_secs(1));
    for (number, test) in tests.iter_mut().enumerate() {
        assert_eq!(octets(&test.finish(&mut net)), [0, 1000 + number as u64]);
    }
    assert_clean(&net);
}

#[test]
fn over_the_cap_access_is_denied() {
    let mut net = narrow_net(1, 5, 1);
    let mut first = Test::begin(&mut net, 0, &stock(json!({})), 1, false);
    let mut second = Test::open(&mut net, cookie(1), false);
    second.expect(&mut net, &[0xff]);
    assert!(net.got_fin(second.control));
    second.leave(&mut net);
    let _ = first.finish(&mut net);
    let mut third = Test::begin(&mut net, 2, &stock(json!({})), 1, false);
    let _ = third.finish(&mut net);
    assert_clean(&net);
}

/// Clients that show a cookie, some parameters too, and then say no more; all on one shard, at the same moment.
#[test]
fn silent_controls_do_not_deny_a_client() {
    for count in [300, 3_000] {
        let mut net = net(1, 6);
        for number in 0..count {
            let silent = net.connect(0);
            net.client_send(silent, &numbered_cookie(number));
            if number % 2 == 0 {
                net.client_send(silent, &blob(&stock(json!({}))));
            }
            net.run();
        }
        let mut test = Test::begin(&mut net, 0, &stock(json!({})), 1, false);
        net.client_send(test.data[0], &[1; 500]);
        net.run();
        assert_eq!(octets(&test.finish(&mut net)), [500]);
        assert_eq!(net.gave_way(), 0);
    }
}

/// With every place taken a client waits at most for the patience that a silent one is granted.
#[test]
fn silent_controls_that_fill_all_places_give_way_one_by_one() {
    let mut net = narrow_net(1, 6, 50);
    let silent: Vec<Client> = (0..50)
        .map(|number| {
            let silent = net.connect(0);
            net.client_send(silent, &numbered_cookie(number));
            net.run();
            net.advance(Duration::from_millis(10));
            silent
        })
        .collect();
    net.advance(session::ANSWER_PATIENCE - Duration::from_millis(501));
    let mut early = Test::open(&mut net, cookie(0), false);
    early.expect(&mut net, &[0xff]);
    early.leave(&mut net);
    net.advance(Duration::from_millis(2));
    for number in 1..3 {
        let mut test = Test::begin(&mut net, number, &stock(json!({})), 1, false);
        assert_eq!(net.gave_way(), u32::from(number));
        assert!(net.got_reset(silent[usize::from(number) - 1]), "the one that was there first goes first");
        net.advance(Duration::from_millis(10));
        if number == 2 {
            let _ = test.finish(&mut net);
        }
    }
    assert!(!net.got_reset(silent[2]));
}

/// A test that runs keeps its place while octets move, on whatever shard, and for a while after.
#[test]
fn a_test_whose_octets_move_keeps_its_place() {
    for (params, moves) in [(json!({"time": 600}), true), (json!({"time": 600}), false), (json!({"time": 0}), false)] {
        let mut net = narrow_net(2, 9, 1);
        let mut running = Test::begin(&mut net, 0, &stock(params), 1, false);
        // Another leader of the same shard is to find it.
        let again = || (1..26).map(cookie);
        for second in 1..60u64 {
            net.advance(Duration::from_secs(1));
            if moves {
                net.client_send(running.data[0], b"1");
                net.run();
            }
            // The 25 cookies and both shards: one of them wants the place that is taken.
            for (number, cookie) in again().enumerate() {
                let late = net.connect(number as u16 % 2);
                net.client_send(late, &cookie);
                net.run();
                let _ = net.client_take(late);
                net.client_reset(late);
                net.run();
            }
            let gone = net.got_reset(running.control);
            assert!(!gone || (!moves && second >= 30), "after {second} s, moves: {moves}");
            if gone {
                break;
            }
        }
        assert_eq!(net.got_reset(running.control), !moves);
        if moves {
            assert_eq!(octets(&running.finish(&mut net)), [59]);
        } else {
            assert!(net.got_reset(running.data[0]), "its streams go with it");
            assert_eq!(net.gave_way(), 1);
        }
        running.leave(&mut net);
        assert_clean(&net);
    }
}

/// What a client may say is kept until it is complete: so it is no more than it needs to be.
#[test]
fn results_longer_than_any_of_so_many_streams_end_the_test() {
    for (len, passes) in [(4 * 1024, true), (5 * 1024, false)] {
        let mut net = net(1, 3);
        let mut test = Test::begin(&mut net, 0, &stock(json!({})), 1, false);
        test.say(&mut net, &[4]);
        test.expect(&mut net, &[13]);
        test.say(&mut net, &blob(&json!({"streams": [], "more": "x".repeat(len)})));
        test.hear(&mut net);
        assert_eq!(test.inbox.last() == Some(&14), passes, "{len}");
        test.leave(&mut net);
        net.advance(Duration::from_secs(10));
        assert_clean(&net);
    }
    assert!(protocol::results_max(1) < 8 * 1024 && protocol::results_max(256) < 256 * 1024);
}

#[test]
fn one_connection_too_many_is_turned_away() {
    for shards in [1, 3] {
        let mut net = net(shards, 8);
        let mut test = Test::begin(&mut net, 0, &stock(json!({})), 1, false);
        let late = net.connect(0);
        net.client_send(late, &cookie(0));
        net.run();
        assert_eq!(net.client_take(late), [0xff]);
        net.client_fin(late);
        net.run();
        let _ = test.finish(&mut net);
        assert_clean(&net);
    }
}

#[test]
fn a_data_connection_before_its_time_is_turned_away() {
    let mut net = net(2, 8);
    let mut test = Test::open(&mut net, cookie(0), false);
    test.expect(&mut net, &[9]);
    let early = net.connect(1);
    net.client_send(early, &cookie(0));
    net.run();
    assert_eq!(net.client_take(early), [0xff]);
    net.client_fin(early);
    test.leave(&mut net);
    assert_clean(&net);
}

#[test]
fn errors_are_told_by_number() {
    let huge = 8193u32.to_be_bytes().to_vec();
    for (input, number) in [
        (blob(&json!({"udp": true})), 131u8),
        (blob(&json!({"tcp": true, "parallel": 1000})), 6),
        (blob(&json!([])), 114),
        (huge, 114),
    ] {
        let mut net = net(2, 2);
        let mut test = Test::open(&mut net, cookie(0), false);
        test.expect(&mut net, &[9]);
        test.say(&mut net, &input);
        test.expect(&mut net, &[0xfe, 0, 0, 0, number, 0, 0, 0, 0]);
        assert!(net.got_fin(test.control));
        test.leave(&mut net);
        assert_clean(&net);
    }
}

#[test]
fn an_unknown_control_octet_ends_the_test() {
    let mut net = net(2, 2);
    let mut test = Test::begin(&mut net, 0, &stock(json!({"reverse": true})), 1, false);
    test.say(&mut net, &[99]);
    test.expect(&mut net, &[0xfe, 0, 0, 0, 110, 0, 0, 0, 0]);
    assert!(net.got_reset(test.data[0]));
    test.leave(&mut net);
    assert_clean(&net);
}

#[test]
fn the_client_may_go_at_any_point() {
    // How far it gets, and how it goes.
    for step in 0..5 {
        for manner in 0..3 {
            let mut net = net(3, step * 10 + manner);
            let mut test = Test::open(&mut net, cookie(0), false);
            let params = stock(json!({"bidirectional": true}));
            if step >= 1 {
                test.say(&mut net, &blob(&params)[..20]);
            }
            if step >= 2 {
                test.say(&mut net, &blob(&params)[20..]);
                test.open_streams(&mut net, cookie(0), 1);
            }
            if step >= 3 {
                test.open_streams(&mut net, cookie(0), 1);
            }
            if step >= 4 {
                test.say(&mut net, &[4]);
            }
            match manner {
                0 => {}
                1 => net.client_reset(test.control),
                // CLIENT_TERMINATE; in the middle of a blob it is just an octet.
                _ => test.say(&mut net, &[12]),
            }
            test.leave(&mut net);
            net.advance(Duration::from_secs(25));
            for client in [vec![test.control], test.data.clone()].concat() {
                let _ = net.client_take(client);
            }
            net.run();
            assert_clean(&net);
        }
    }
}

#[test]
fn silence_is_cut_short_at_every_step() {
    let params = stock(json!({"time": 2, "omit": 1}));
    for (step, seconds) in [(0, 5), (1, 5), (2, 10), (3, 43), (4, 5), (5, 5)] {
        let mut net = net(2, step);
        let control = net.connect(0);
        let mut test = Test { control, data: Vec::new(), inbox: Vec::new(), drip: false };
        if step == 0 {
            net.client_send(control, &cookie(0)[..36]);
        }
        if step >= 1 {
            test.say(&mut net, &cookie(0));
        }
        if step >= 2 {
            test.say(&mut net, &blob(&params));
        }
        if step >= 3 {
            test.open_streams(&mut net, cookie(0), 1);
        }
        if step >= 4 {
            test.say(&mut net, &[4]);
        }
        if step >= 5 {
            test.say(&mut net, &blob(&client_results()));
        }
        test.hear(&mut net);
        net.advance(Duration::from_millis(seconds * 1000 - 100));
        assert!(!net.got_fin(control), "step {step}");
        net.advance(Duration::from_millis(200));
        let _ = net.client_take(control);
        assert!(net.got_fin(control) || net.got_reset(control), "step {step}");
        net.advance(Duration::from_secs(3));
        assert_clean(&net);
    }
}

#[test]
fn a_test_without_a_set_time_lasts_while_octets_move() {
    let mut net = net(2, 4);
    let mut test = Test::begin(&mut net, 0, &stock(json!({"time": 0, "num": 1u64 << 40})), 1, false);
    for _ in 0..20 {
        net.client_send(test.data[0], &[1; 100]);
        net.advance(Duration::from_secs(55));
    }
    assert!(!net.got_fin(test.control));
    net.advance(Duration::from_secs(300));
    assert!(net.got_fin(test.control));
    test.leave(&mut net);
    assert_clean(&net);
}

#[test]
fn a_stream_lost_on_the_way_still_counts() {
    let mut net = net(3, 4);
    let mut test = Test::begin(&mut net, 0, &stock(json!({"parallel": 2})), 2, false);
    net.client_send(test.data[0], &[1; 300]);
    net.client_send(test.data[1], &[1; 400]);
    net.run();
    net.client_reset(test.data[1]);
    net.run();
    assert_eq!(octets(&test.finish(&mut net)), [300, 400]);
    assert_clean(&net);
}

#[test]
fn a_stream_lost_before_the_start_fails_the_test() {
    for seed in 0..20 {
        let mut net = net(3, seed);
        let mut test = Test::open(&mut net, cookie(0), false);
        test.say(&mut net, &blob(&stock(json!({"parallel": 2}))));
        test.expect(&mut net, &[9, 10]);
        test.open_streams(&mut net, cookie(0), 1);
        net.client_reset(test.data[0]);
        net.run();
        test.open_streams(&mut net, cookie(0), 1);
        test.expect(&mut net, &[0xfe, 0, 0, 0, 120, 0, 0, 0, 0]);
        test.leave(&mut net);
        assert_clean(&net);
    }
}

#[test]
fn omitted_seconds_do_not_count() {
    for reverse in [false, true] {
        let mut net = net(2, 4);
        let mut test = Test::begin(&mut net, 0, &stock(json!({"omit": 1, "reverse": reverse})), 1, false);
        let conn = test.data[0];
        let mut counted = 0;
        for tenth in 0..20 {
            net.set_retransmits(tenth);
            net.advance(Duration::from_millis(100));
            let moved = if reverse {
                net.client_take(conn).len()
            } else {
                net.client_send(conn, &[0; 1000]);
                1000
            };
            counted += if tenth >= 9 { moved } else { 0 };
            net.run();
        }
        let results = test.finish(&mut net);
        assert_eq!(octets(&results), [counted as u64], "reverse: {reverse}");
        assert_eq!(results["streams"][0]["end_time"], 1.0);
        if reverse {
            assert_eq!(results["streams"][0]["retransmits"], 10);
        }
        assert_clean(&net);
    }
}

#[test]
fn pacing_keeps_the_rate_with_one_timer_a_stream() {
    for (params, bits) in [
        (json!({"bandwidth": 100_000_000}), 100e6),
        (json!({"bandwidth": 100_000_000, "burst": 5}), 100e6),
        (json!({"bandwidth": 10_000_000, "len": 4096}), 10e6),
        (json!({"fqrate": 50_000_000}), 50e6),
        (json!({"bandwidth": 100_000_000, "fqrate": 50_000_000}), 50e6),
    ] {
        let mut net = net(2, 4);
        let mut all = stock(params.clone());
        all["reverse"] = json!(true);
        let mut test = Test::begin(&mut net, 0, &all, 1, false);
        let before = net.timers();
        let mut got = net.client_take(test.data[0]).len();
        for _ in 0..3000 {
            net.advance(Duration::from_millis(1));
            assert!(net.timers() <= before + 1);
            got += net.client_take(test.data[0]).len();
            net.run();
        }
        let rate = got as f64 * 8.0 / 3.0;
        assert!((rate / bits - 1.0).abs() < 0.05, "{params}: {rate}");
        let _ = test.finish(&mut net);
        assert_clean(&net);
    }
}

/// A second's worth of octets one by one, saved up while the client's side was full, and room for all of them.
#[test]
fn blocks_of_one_octet_cost_no_more_than_large_ones() {
    let mut net = net(1, 4);
    net.set_default_send_limit(1_000);
    let params = stock(json!({"reverse": true, "bandwidth": 64_000_000, "len": 1}));
    let mut test = Test::begin(&mut net, 0, &params, 1, false);
    let conn = test.data[0];
    let _ = net.client_take(conn);
    net.advance(Duration::from_millis(900));
    net.set_send_limit(conn, 100_000_000);
    let mut got = net.client_take(conn).len();
    for _ in 0..20 {
        net.run();
        got += net.client_take(conn).len();
    }
    assert!(got > 7_000_000, "{got}");
    assert!(net.most_sends() <= 100, "{} in one call", net.most_sends());
    let _ = test.finish(&mut net);
}

#[test]
fn bursts_come_whole_even_through_a_small_send_side() {
    let mut net = net(1, 4);
    net.set_default_send_limit(1500);
    let params = stock(json!({"reverse": true, "bandwidth": 800_000, "burst": 3, "len": 1000}));
    let mut test = Test::begin(&mut net, 0, &params, 1, false);
    let conn = test.data[0];
    assert_eq!(net.client_take(conn).len(), 1500);
    net.run();
    assert_eq!(net.client_take(conn).len(), 1500);
    net.run();
    assert_eq!(net.waiting(conn), 0, "3 blocks of 1000, then a pause of 30 ms");
    net.advance(Duration::from_millis(29));
    assert_eq!(net.waiting(conn), 0);
    net.advance(Duration::from_millis(2));
    assert_eq!(net.waiting(conn), 1500);
    let _ = test.finish(&mut net);
    assert_clean(&net);
}

#[test]
fn the_report_reads_like_the_stock_servers() {
    let mut net = net(3, 4);
    let params = stock(json!({"parallel": 2, "time": 2, "omit": 1, "get_server_output": 1}));
    let mut test = Test::begin(&mut net, 0, &params, 2, false);
    for _ in 0..30 {
        for &conn in &test.data {
            net.client_send(conn, &[0; 125_000]);
        }
        net.run();
        net.advance(Duration::from_millis(100));
    }
    net.run();
    let results = test.finish(&mut net);
    let text = results["server_output_text"].as_str().unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let expected = "\
Accepted connection from 10.0.0.1, port 40000
[  1] local 10.0.0.1 port 5201 connected to 10.0.0.1 port 40001
[  3] local 10.0.0.1 port 5201 connected to 10.0.0.1 port 40002
[ ID] Interval           Transfer     Bitrate
[  1]   0.00-1.00   sec  1.19 MBytes  10.0 Mbits/sec                  (omitted)
[  3]   0.00-1.00   sec  1.19 MBytes  10.0 Mbits/sec                  (omitted)
[SUM]   0.00-1.00   sec  2.38 MBytes  20.0 Mbits/sec                  (omitted)
- - - - - - - - - - - - - - - - - - - - - - - - -
[  1]   0.00-1.00   sec  1.19 MBytes  10.0 Mbits/sec
[  3]   0.00-1.00   sec  1.19 MBytes  10.0 Mbits/sec
[SUM]   0.00-1.00   sec  2.38 MBytes  20.0 Mbits/sec
- - - - - - - - - - - - - - - - - - - - - - - - -
[  1]   1.00-2.00   sec  1.19 MBytes  10.0 Mbits/sec
[  3]   1.00-2.00   sec  1.19 MBytes  10.0 Mbits/sec
[SUM]   1.00-2.00   sec  2.38 MBytes  20.0 Mbits/sec
- - - - - - - - - - - - - - - - - - - - - - - - -
[ ID] Interval           Transfer     Bitrate
[  1]   0.00-2.00   sec  2.38 MBytes  10.0 Mbits/sec                  receiver
[  3]   0.00-2.00   sec  2.38 MBytes  10.0 Mbits/sec                  receiver
[SUM]   0.00-2.00   sec  4.77 MBytes  20.0 Mbits/sec                  receiver";
    assert_eq!(lines.join("\n"), expected);
    assert_clean(&net);
}

#[test]
fn the_control_connection_survives_a_tiny_send_side() {
    let mut net = net(2, 4);
    net.set_default_send_limit(3);
    let mut test = Test::begin(&mut net, 0, &stock(json!({})), 1, false);
    test.say(&mut net, &[4]);
    test.expect(&mut net, &[13]);
    test.say(&mut net, &blob(&client_results()));
    let mut all = Vec::new();
    loop {
        net.run();
        let some = net.client_take(test.control);
        if some.is_empty() {
            break;
        }
        all.extend(some);
    }
    assert_eq!(*all.last().unwrap(), 14);
    test.say(&mut net, &[16]);
    test.leave(&mut net);
    assert_clean(&net);
}

#[test]
fn processor_use_is_a_share_of_the_tests_time() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let millis = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&millis);
    let cpu: CpuClock = Arc::new(move || CpuTime {
        user: Duration::from_millis(clock.load(Ordering::Relaxed)),
        system: Duration::from_millis(2 * clock.load(Ordering::Relaxed)),
    });
    let mut net = Net::new(1, 1, |_| Iperf3::new(Arc::clone(&cpu)));
    millis.store(1000, Ordering::Relaxed);
    let mut test = Test::begin(&mut net, 0, &stock(json!({})), 1, false);
    net.advance(Duration::from_secs(2));
    millis.store(1500, Ordering::Relaxed);
    let results = test.finish(&mut net);
    assert_eq!(results["cpu_util_user"], 25.0);
    assert_eq!(results["cpu_util_system"], 50.0);
    assert_eq!(results["cpu_util_total"], 75.0);
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn nothing_a_client_sends_does_harm(
            script in prop::collection::vec((0usize..4, prop::collection::vec(0u8..20, 0..60)), 0..30),
            seed in any::<u64>(),
        ) {
            let mut net = net(3, seed);
            net.set_default_send_limit(2000);
            let clients: Vec<Client> = (0..4).map(|i| net.connect(i % 3)).collect();
            let params = blob(&stock(json!({"bidirectional": true, "parallel": 1})));
            for client in &clients {
                net.client_send(*client, &cookie(0));
                if seed % 2 == 0 {
                    net.run();
                }
            }
            if seed % 3 != 0 {
                net.client_send(clients[0], &params);
            }
            for (client, octets) in script {
                net.client_send(clients[client], &octets);
                net.run();
                let _ = net.client_take(clients[client]);
                net.advance(Duration::from_millis(300));
            }
            for &client in &clients {
                net.client_reset(client);
            }
            net.run();
            net.advance(Duration::from_secs(100));
            assert_clean(&net);
        }
    }
}
