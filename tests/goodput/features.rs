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
