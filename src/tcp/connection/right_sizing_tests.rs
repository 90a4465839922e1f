#![allow(clippy::unwrap_used)]

use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_secs(5) + Duration::from_millis(ms)
}

/// OPS-15: twice what was read and 16 segments, and of that twice the growth since the best period.
#[test]
fn ops_15_the_buffer_grows_by_what_is_read_in_a_round_trip() {
    let rtt = Some(Duration::from_millis(20));
    let mut sizing = RightSizing::new(20_000, at(0));
    assert_eq!(sizing.on_read(10_000, 1_000, rtt, at(20)), None, "as much as before");
    assert_eq!(sizing.on_read(10_000, 1_000, rtt, at(39)), None, "the period lasts");
    // 2 * 30,000 + 16,000 = 76,000; growth 20,000 of 10,000: 152,000.
    assert_eq!(sizing.on_read(20_000, 1_000, rtt, at(40)), Some(76_000 + 2 * 152_000));
    assert_eq!(sizing.started_at(), at(40));
    assert_eq!(sizing.on_read(30_000, 1_000, rtt, at(60)), None, "30,000 is the best by now");
    assert_eq!(sizing.on_read(40_000, 1_000, rtt, at(80)), Some(96_000 + 2 * 32_000));
    assert_eq!(sizing.on_read(u32::MAX, 1_000, rtt, at(100)), Some(u32::MAX));
}

/// OPS-15: without a round trip time a period takes 100 ms, and never less than 50 µs.
#[test]
fn ops_15_how_long_a_period_takes() {
    let mut sizing = RightSizing::new(2, at(0));
    assert_eq!(sizing.on_read(1_000, 500, None, at(99)), None);
    assert!(sizing.on_read(1_000, 500, None, at(100)).is_some());
    let mut sizing = RightSizing::new(2, at(0));
    let shortest = Duration::from_micros(50);
    assert_eq!(sizing.on_read(1_000, 500, Some(Duration::ZERO), at(0)), None);
    assert!(sizing.on_read(1_000, 500, Some(Duration::ZERO), at(0) + shortest).is_some());
}
