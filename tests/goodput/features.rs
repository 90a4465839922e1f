//! Worlds in which one feature makes the difference: with it the property holds, without it the same world breaks it.

use trust::tcp::CongestionControl::{Cubic, Reno};
use trust::tcp::{Config, Duration, Info};

use crate::path::{Course, Path, SEGMENT, Sender};
use crate::table::measure;

const MS: Duration = Duration::from_millis(1);

fn info(course: &mut Course, span: Duration) -> Info {
    course.run(span)[0].info.unwrap()
}

/// RFC 8985 7: a lost tail is repaired in about two round trips, long before the timer.
#[test]
fn tlp_repairs_a_lost_tail() {
    let repairs = |tlp| {
        let rtt = MS * 40;
        let path = Path { first_loss: Some(39), ..Path::unlimited(rtt) };
        let amount = 40 * SEGMENT;
        let mut course = Course::of(1, &path, &[Sender::Ours(Config { tlp, ..Config::default() })], amount);
        let (mut received, mut rounds) = (0, 0);
        while received < amount && rounds < 100 {
            received += course.run(rtt / 4)[0].received;
            rounds += 1;
        }
        // The handshake, three rounds of slow start, two and a half for the probe, half a round trip on the way.
        assert!(received == amount);
        rounds <= 4 * 7
    };
    assert!(repairs(true));
    assert!(!repairs(false));
}

/// RFC 8985: packets that come up to 3 places late cost less than 5 %.
#[test]
fn rack_bears_reordering() {
    let bears = |rack| {
        let sender = Sender::Ours(Config { rack, congestion: Reno, ..Config::default() });
        let path = Path::bottleneck(MS * 50, 2_500_000, 4);
        let even = measure(&path, sender, 20, 1).goodput;
        let reordered = measure(&Path { reorder: 50_000, ..path }, sender, 20, 1).goodput;
        reordered * 100 >= even * 95
    };
    assert!(bears(true));
    assert!(!bears(false));
}

/// RFC 5682, RFC 3522, RFC 3708: after a delay that looked like loss the window is what it was.
#[test]
fn a_delay_is_undone() {
    let undone = |frto, dsack, timestamps| {
        let spike = Some((MS * 3_000, MS * 3_300));
        let path = Path { spike, ..Path::bottleneck(MS * 10, 6_250_000, 8) };
        // A probe for the tail would put the timer off beyond the end of the delay.
        let config = Config { tlp: false, frto, dsack, timestamps, congestion: Cubic, ..Config::default() };
        let mut course = Course::new(1, &path, &[Sender::Ours(config)]);
        let before = info(&mut course, MS * 2_990);
        let after = info(&mut course, MS * 350);
        assert!(after.timeouts > before.timeouts, "no spike: {after:?}");
        after.cwnd >= before.cwnd / 10 * 9
    };
    assert!(undone(true, true, true));
    assert!(!undone(false, false, false));
}

/// RFC 9937: in the first half of a recovery one segment leaves for each two delivered, not none and then a burst.
#[test]
fn prr_sends_one_for_two() {
    let spreads = |prr| {
        let path = Path { first_loss: Some(1_000), ..Path::bottleneck(MS * 50, 2_500_000, 8) };
        let config = Config { prr, congestion: Reno, ..Config::default() };
        let mut course = Course::new(1, &path, &[Sender::Ours(config)]);
        let mut flow = course.run(MS * 100)[0];
        while flow.info.is_none_or(|info| info.recovery.fast_recoveries == 0) {
            flow = course.run(MS)[0];
        }
        // The line delivers 41 segments in 25 ms, less than half of what is in flight.
        let sent = course.run(MS * 25)[0].sent.packets - flow.sent.packets;
        (15..=26).contains(&sent)
    };
    assert!(spreads(true));
    assert!(!spreads(false));
}

/// How the first slow start ended: whether without a loss; and how many segments were sent again until then and in the
/// three seconds after.
fn first_slow_start(path: &Path, config: Config) -> (bool, u64) {
    let mut course = Course::new(1, path, &[Sender::Ours(config)]);
    let mut flow = course.run(MS * 500)[0];
    let mut rounds = 0;
    while flow.info.unwrap().ssthresh == u32::MAX {
        flow = course.run(MS * 10)[0];
        rounds += 1;
        assert!(rounds < 2_000, "slow start does not end: {flow:?}");
    }
    let clean = flow.info.unwrap().recovery.fast_recoveries == 0 && flow.sent.octets == flow.sent.fresh;
    let sent = course.run(MS * 3_000)[0].sent;
    (clean, (sent.octets - sent.fresh) / SEGMENT)
}

/// RFC 9406: slow start ends before a router's queue of 1,000 packets overflows.
///
/// A queue of 13 bandwidth-delay products (BDP) is what it takes in the worst case: the round trip rises by an eighth when
/// the window is between 1.125 and 2.25 BDP, that is known a round trip later at twice of it, and Conservative Slow Start
/// goes on to three times that.
#[test]
fn hystart_ends_slow_start_before_the_queue_overflows() {
    for (rtt, rate) in [(20, 5_000_000), (40, 2_500_000), (50, 1_250_000), (100, 1_000_000)] {
        let path = Path { queue: 1_000 * 1_500, ..Path::bottleneck(MS * rtt, rate, 0) };
        for congestion in [Reno, Cubic] {
            let ends = |hystart| first_slow_start(&path, Config { hystart, congestion, ..Config::default() });
            let (with, without) = (ends(true), ends(false));
            assert!(with.0 && !without.0, "{congestion:?}, {path:?}: {with:?} with it, {without:?} without");
        }
    }
}

/// RFC 9406: where the queue is shorter, less than half is lost of what would be: the last rounds grow by a quarter.
#[test]
fn hystart_loses_less_where_the_queue_overflows() {
    for (rtt, rate) in [(20, 12_500_000), (50, 2_500_000), (100, 1_250_000)] {
        let path = Path::bottleneck(MS * rtt, rate, 8);
        for congestion in [Reno, Cubic] {
            let lost = |hystart| first_slow_start(&path, Config { hystart, congestion, ..Config::default() }).1;
            let (with, without) = (lost(true), lost(false));
            assert!(with * 2 < without, "{congestion:?}, {path:?}: {with} segments with it, {without} without");
        }
    }
}

/// RFC9406-4.2d: round trips that vary without congestion do not end slow start, and the window still grows fast. It grows
/// less than without HyStart++, for its limit of eight segments an ACK: packets that wait for one another arrive together
/// and are acknowledged together.
#[test]
fn hystart_bears_jitter() {
    for seed in 1..=5 {
        for jitter in [5, 10] {
            let path = Path { jitter: MS * jitter, ..Path::unlimited(MS * 50) };
            let run = |hystart| {
                let config = Config { hystart, congestion: Reno, ..Config::default() };
                let flow = Course::new(seed, &path, &[Sender::Ours(config)]).run(MS * 2_000)[0];
                (flow.info.unwrap().ssthresh, flow.received)
            };
            let (with, without) = (run(true), run(false));
            assert_eq!(with.0, u32::MAX, "seed {seed}, {path:?}");
            assert!(with.1 * 2 > without.1, "seed {seed}, {path:?}: {with:?} with it, {without:?} without");
        }
    }
}
