//! What holds whatever the table says.

use trust::tcp::CongestionControl::{self, Cubic, Reno};
use trust::tcp::Duration;

use crate::path::{Course, Path, SEGMENT, Sender, ours};
use crate::table::{LINKS, LOSSES, each, jain, measure, share};

/// Two flows of one kind over one bottleneck share it evenly in the second minute.
#[test]
fn two_flows_share_evenly() {
    let pairs = [(10, Reno), (10, Cubic), (50, Reno), (50, Cubic)];
    for ((rtt, control), flows) in pairs.iter().zip(each(&pairs, |(rtt, control)| share(*rtt, [*control; 2]))) {
        let index = jain(&flows);
        assert!(index >= 950, "Jain {index}/1000 for two {control:?} at {rtt} ms: {flows:?}");
    }
}

/// What Reno reaches of `1.22 * MSS / (RTT * sqrt(p))` (Mathis et al. 1997), in 1/1000: over a path without a bottleneck,
/// in `segments` that the formula would send.
fn of_the_formula(rtt: u64, loss: u32, segments: u64, seeds: u64) -> u64 {
    // 1.22 / sqrt(p): segments of a window, in 1/1000.
    let window = 1_220 * 1_000_000_u64.isqrt() * 1_000 / (u64::from(loss) * 1_000_000).isqrt();
    let rtt = Duration::from_millis(rtt);
    // One loss ends slow start at about that window: else the windows of the first rounds would count for long.
    let path = Path { loss, first_loss: Some(window / 1_000), ..Path::unlimited(rtt) };
    let span = rtt * (segments * 1_000 / window);
    let received: u64 = (1..=seeds)
        .map(|seed| {
            let mut course = Course::new(seed, &path, &[ours(Reno)]);
            course.run(span / 4);
            course.run(span)[0].received
        })
        .sum();
    let formula = window * SEGMENT / 1_000 * (span.as_micros() / rtt.as_micros());
    received * 1_000 / (formula * seeds)
}

/// Floors for each loss, in 1/1000. The goal is 800 everywhere; what keeps the sender below it where all ACKs of a round
/// trip come at once: up to half of the window waits for a full super-segment, for a whole round trip; and a loss found
/// behind many ACKs of the same turn halves what is still in flight then, which is little.
const FLOORS: [(u32, u64); 3] = [(100, 540), (1_000, 760), (10_000, 790)];

#[test]
fn reno_reaches_what_the_formula_says() {
    let mut cases = Vec::new();
    for rtt in [10, 50, 200] {
        cases.extend([(rtt, 100, 100_000), (rtt, 1_000, 30_000), (rtt, 10_000, 10_000)]);
    }
    let floor = |loss| FLOORS.iter().find(|(of, _)| *of == loss).map_or(800, |(_, floor)| *floor);
    let reached = each(&cases, |(rtt, loss, segments)| of_the_formula(*rtt, *loss, *segments, 4));
    let short: Vec<_> = cases.iter().zip(&reached).filter(|((_, loss, _), reached)| **reached < floor(*loss)).collect();
    assert!(short.is_empty(), "below the floor: {short:?}");
}

/// CUBIC is for what Reno cannot fill; elsewhere it should be as good, within what seeds differ (0.9). At small windows
/// with random loss it is not yet: 0.84 at the least.
#[test]
fn cubic_is_not_below_reno() {
    let jobs: Vec<_> = LINKS.into_iter().flat_map(|link| LOSSES.map(|loss| (link, loss))).collect();
    let pairs = each(&jobs, |&((rtt, rate, seconds), loss)| {
        let path = Path { loss, ..Path::bottleneck(Duration::from_millis(rtt), rate, 2) };
        [Reno, Cubic].map(|control| measure(&path, ours(control), seconds, if loss > 0 { 3 } else { 1 }).goodput)
    });
    let below: Vec<_> = jobs.iter().zip(&pairs).filter(|(_, [reno, cubic])| cubic * 100 < reno * 84).collect();
    assert!(below.is_empty(), "((RTT, rate, s), loss), [Reno, CUBIC]: {below:?}");
}

/// At least 0.95 of what smoltcp makes of the same path with the same seed, where smoltcp does not win by sending each
/// octet many times: it has no congestion control in effect, and fills whatever window the receiver gives it.
#[test]
fn never_below_another_stack_that_behaves() {
    let jobs: Vec<_> = LINKS.into_iter().flat_map(|link| LOSSES.map(|loss| (link, loss))).collect();
    let cells = each(&jobs, |&((rtt, rate, seconds), loss)| {
        let path = Path { loss, ..Path::bottleneck(Duration::from_millis(rtt), rate, 2) };
        let of = |sender| measure(&path, sender, seconds, 1);
        let rival = |control: CongestionControl| Sender::Smoltcp(control);
        [of(ours(Reno)), of(ours(Cubic)), of(rival(Reno))]
    });
    for ((link, loss), [reno, cubic, rival]) in jobs.iter().zip(&cells) {
        for mine in [reno, cubic] {
            let ahead = mine.goodput * 100 >= rival.goodput * 95;
            let excused = link.0 == 200 && *loss >= 1_000 && rival.resent > 800;
            assert!(ahead || excused, "{link:?} loss {loss}: {mine:?} against {rival:?}");
        }
    }
}
