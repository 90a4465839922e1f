use super::*;
use crate::tcp::congestion::lab::{Flow, SMSS, ms};
use crate::tcp::congestion::{CongestionControl, Controller};

fn curve(flow: &mut Flow) -> &mut Curve {
    match &mut flow.control {
        Controller::Cubic(cubic) => cubic.memory.curve(),
        Controller::Reno(_) => unreachable!(),
    }
}

/// After a loss at a window of `segments`.
fn reduced(segments: u32, rtt: Duration) -> Flow {
    let mut flow = Flow::new(CongestionControl::Cubic, true, segments);
    flow.loss(rtt);
    flow
}

/// W_cubic in segments by the formula of RFC9438-4.2a.
fn formula(w_max: f64, k: f64, t: f64) -> f64 {
    0.4 * (t - k).powi(3) + w_max
}

fn near(value: f64, expected: f64, part: f64) -> bool {
    (value - expected).abs() <= part * expected.abs()
}

#[test]
fn what_cubic_remembers_is_little_more_than_a_line() {
    assert!(size_of::<Controller>() <= 72, "{}", size_of::<Controller>());
}

#[test]
fn cube_roots_are_exact() {
    for root in [0, 1, 2, 3, 1_000, 65_535, 1_000_003, 1_390_000_000, u32::MAX] {
        let cube = u128::from(root).pow(3);
        assert_eq!(cube_root(cube), root);
        assert_eq!(cube_root(u128::from(root) * u128::from(root) * (u128::from(root) + 1)), root);
        if root > 0 {
            assert_eq!(cube_root(cube - 1), root - 1);
        }
    }
}

#[test]
fn rfc9438_4_6a_a_loss_leaves_seven_tenths_of_the_flight() {
    for (flight, left) in [(100_000, 70_000), (60_000, 42_000), (2_000, 2_000), (0, 2_000), (2_900, 2_030)] {
        let mut flow = Flow::new(CongestionControl::Cubic, true, 100);
        assert_eq!(flow.control.on_congestion_event(&mut flow.window, flow.now, flight), left);
        assert_eq!((flow.window.cwnd(), flow.window.ssthresh()), (left, left));
        assert_eq!(curve(&mut flow).cwnd_prior, 100_000);
    }
}

#[test]
fn rfc9438_4_2a_k_is_as_the_formula_gives_it() {
    for segments in [10, 100, 1_000, 10_000, 1_000_000] {
        let mut flow = reduced(segments, ms(100));
        flow.ack(SMSS, SMSS, None, ms(100), true);
        let k = f64::from(curve(&mut flow).k) / 1e6;
        let expected = (f64::from(segments) * 0.3 / 0.4).cbrt();
        assert!(near(k, expected, 0.0001), "{segments} segments: {k}, not {expected}");
    }
}

#[test]
fn rfc9438_4_2a_the_curve_is_as_the_formula_gives_it() {
    for smss in [1, 536, 1_448, 8_948, 65_535] {
        let mut curve = Curve::NEW;
        curve.w_max = 1_000 * smss;
        curve.stage = Stage::AfterReduction;
        curve.start(700 * smss, smss);
        for tenth in 0..400 {
            let t = f64::from(tenth) / 10.0;
            let value = f64::from(curve.w_cubic(tenth * 100_000, smss)) / f64::from(smss);
            let expected = formula(1_000.0, 750_f64.cbrt(), t).min(f64::from(LARGEST_WINDOW) / f64::from(smss));
            // An octet and a tick of the clock.
            assert!(
                (value - expected).abs() <= 0.2 + 1.0 / f64::from(smss),
                "smss {smss}, {t} s: {value}, not {expected}"
            );
        }
    }
}

/// The window over time after a loss at 1,000 segments: concave up to the plateau, which is reached at K, then convex.
#[test]
fn rfc9438_4_4_4_5_the_window_follows_the_curve() {
    let rtt = ms(100);
    let mut flow = reduced(1_000, rtt);
    let (start, k) = (flow.now, 750_f64.cbrt());
    let mut trace = vec![f64::from(flow.window.cwnd()) / f64::from(SMSS)];
    while flow.seconds(start) < 2.0 * k {
        flow.round(rtt);
        let (cwnd, t) = (f64::from(flow.window.cwnd()) / f64::from(SMSS), flow.seconds(start));
        // The way to the target takes a round trip: the window is what the curve has at t, or a little less.
        let expected = formula(1_000.0, k, t);
        assert!(near(cwnd, expected, 0.01), "{t} s: {cwnd}, not {expected}");
        trace.push(cwnd);
    }
    let rounds_to = trace.iter().position(|cwnd| *cwnd >= 999.0).unwrap_or(0);
    let growth: Vec<f64> = trace.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(growth.iter().all(|more| *more >= 0.0), "never shrinks");
    let flat = growth.iter().enumerate().fold(0, |flat, (round, more)| if *more < growth[flat] { round } else { flat });
    assert!((flat as f64 / 10.0 - k).abs() < 0.5, "flattest after {flat} round trips, K is {k} s");
    assert!(rounds_to.abs_diff((k * 10.0) as usize) < 15, "{rounds_to}");
    // Concave before, convex behind.
    let slope = |range: core::ops::Range<usize>| growth[range.clone()].iter().sum::<f64>() / range.len() as f64;
    assert!(slope(2..12) > slope(30..40) && slope(30..40) > slope(60..70));
    assert!(slope(170..180) > slope(140..150) && slope(140..150) > slope(110..120));
}

#[test]
fn rfc9438_4_2b_the_window_grows_by_half_a_round_trip_at_most() {
    let mut flow = reduced(100, ms(100));
    flow.round(ms(100));
    let before = flow.window.cwnd();
    // Far on the convex side, as after a day on a path that had no loss.
    curve(&mut flow).elapsed = u32::MAX;
    let count = before / SMSS / 2;
    let mut window = before;
    for _ in 0..count {
        flow.ack(2 * SMSS, flow.window.cwnd(), None, ms(100), true);
        let step = flow.window.cwnd() - window;
        window = flow.window.cwnd();
        assert!(step <= SMSS + 1, "half of what is acknowledged: {step}");
    }
    assert!(near(f64::from(window), 1.5 * f64::from(before), 0.01), "{before} to {window}");
}

/// At a small product of bandwidth and delay: alpha segments a round trip, then one.
#[test]
fn rfc9438_4_3_the_reno_friendly_region() {
    let rtt = ms(10);
    let mut flow = reduced(40, rtt);
    assert_eq!(flow.cwnd(), 28);
    flow.round(rtt);
    let start = flow.now;
    let first = flow.window.cwnd();
    while flow.cwnd() < 40 {
        flow.round(rtt);
        let rounds = flow.seconds(start) * 100.0;
        let expected = f64::from(first) / f64::from(SMSS) + rounds * 9.0 / 17.0;
        assert!((f64::from(flow.cwnd()) - expected).abs() <= 1.2, "after {rounds}: {} not {expected}", flow.cwnd());
    }
    let (start, first) = (flow.now, flow.cwnd());
    for _ in 0..20 {
        flow.round(rtt);
        let rounds = (flow.seconds(start) * 100.0).round() as u32;
        assert!(flow.cwnd().abs_diff(first + rounds) <= 1, "RFC9438-4.3a, alpha is 1: {} after {rounds}", flow.cwnd());
    }
}

#[test]
fn rfc9438_4_7_fast_convergence() {
    // (W_max before, window at the loss, W_max then)
    for (w_max, cwnd, expected) in [(0, 100, 100), (100, 100, 100), (80, 100, 100), (101, 100, 85), (400, 200, 170)] {
        let mut flow = Flow::new(CongestionControl::Cubic, true, cwnd);
        curve(&mut flow).w_max = w_max * SMSS;
        flow.loss(ms(50));
        assert_eq!(curve(&mut flow).w_max, expected * SMSS, "{w_max}, {cwnd}");
    }
}

/// One worked example: a loss at 100 segments, another one at 90.
#[test]
fn sc_68_a_loss_at_100_segments_and_the_next_one_at_90() {
    let mut flow = reduced(100, ms(100));
    assert_eq!(flow.cwnd(), 70);
    flow.ack(SMSS, SMSS, None, ms(100), true);
    let k = curve(&mut flow).k;
    assert!((4_217_000..4_218_000).contains(&k), "{k} us");
    for (t, octets) in [(0, 70_000), (k, 100_000), (6_000_000, 102_268)] {
        let found = curve(&mut flow).w_cubic(t, SMSS);
        assert!(found.abs_diff(octets) <= 5, "{t} us: {found}, not {octets}");
    }
    flow.window.set_cwnd(90 * SMSS);
    flow.loss(ms(100));
    assert_eq!((flow.cwnd(), curve(&mut flow).w_max), (63, 76_500));
}

/// Two flows over one bottleneck; the second comes late and the losses hit both. What they have becomes alike.
#[test]
fn rfc9438_4_7_two_flows_converge() {
    let (rtt, capacity) = (ms(50), 400);
    let mut flows = [reduced(500, rtt), reduced(30, rtt)];
    let mut losses = 0;
    let share = |flows: &[Flow; 2]| f64::from(flows[0].cwnd()) / f64::from(flows[1].cwnd());
    let before = share(&flows);
    while losses < 25 {
        for flow in &mut flows {
            flow.round(rtt);
        }
        if flows.iter().map(Flow::cwnd).sum::<u32>() > capacity {
            losses += 1;
            for flow in &mut flows {
                flow.loss(rtt);
            }
        }
    }
    let after = share(&flows);
    assert!(before > 10.0 && (0.8..1.3).contains(&after), "from {before} to {after}");
}

#[test]
fn rfc9438_4_8_after_a_timeout_the_curve_begins_at_its_plateau() {
    let mut flow = reduced(100, ms(50));
    flow.round(ms(50));
    let before = flow.window.cwnd();
    flow.control.on_rto(&mut flow.window, flow.now, before, true);
    assert_eq!((flow.window.cwnd(), flow.window.ssthresh()), (SMSS, before / 10 * 7));
    while flow.window.in_slow_start() {
        flow.round(ms(50));
    }
    flow.round(ms(50));
    let threshold = flow.window.ssthresh();
    let curve = *curve(&mut flow);
    assert_eq!((curve.stage, curve.k, curve.cwnd_prior), (Stage::Running, 0, before));
    assert!(curve.w_max >= threshold && curve.w_max < threshold + 3 * SMSS, "{curve:?}");
}

#[test]
fn rfc9438_4_10_slow_start_that_ends_without_a_loss_leads_to_the_plateau() {
    let mut flow = Flow::new(CongestionControl::Cubic, true, 20);
    flow.round(ms(50));
    for _ in 0..7 {
        flow.round(ms(80));
    }
    assert!(!flow.window.in_slow_start());
    let threshold = flow.window.ssthresh();
    let curve = *curve(&mut flow);
    assert_eq!((curve.stage, curve.k), (Stage::Running, 0));
    assert_eq!(curve.w_max, threshold);
    assert!(curve.w_est >= curve.cwnd_prior, "alpha is 1");
}

#[test]
fn rfc9438_4_9_undo_brings_the_curve_back() {
    for timeout in [false, true] {
        let mut flow = reduced(200, ms(50));
        for _ in 0..30 {
            flow.round(ms(50));
        }
        let (cwnd, ssthresh, before) = (flow.window.cwnd(), flow.window.ssthresh(), *curve(&mut flow));
        let saved = flow.control.save(&flow.window);
        if timeout {
            flow.control.on_rto(&mut flow.window, flow.now, cwnd, true);
        } else {
            flow.control.on_congestion_event(&mut flow.window, flow.now, cwnd);
        }
        assert!(flow.window.cwnd() < cwnd);
        flow.control.undo(&mut flow.window, saved);
        assert_eq!((flow.window.cwnd(), flow.window.ssthresh()), (cwnd, ssthresh));
        let now = *curve(&mut flow);
        assert_eq!(
            (now.w_max, now.cwnd_prior, now.k, now.w_est, now.elapsed, now.stage),
            (before.w_max, before.cwnd_prior, before.k, before.w_est, before.elapsed, Stage::Running)
        );
    }
}

/// t excludes the time in which the application had nothing to send, be it much or little.
#[test]
fn rfc9438_4_2c_5_8_idle_time_does_not_count() {
    let rtt = ms(100);
    for idle in [ms(150), ms(10_000), Duration::from_secs(86_400)] {
        let mut flow = reduced(1_000, rtt);
        for _ in 0..20 {
            flow.round(rtt);
        }
        let (cwnd, elapsed) = (flow.window.cwnd(), curve(&mut flow).elapsed);
        flow.now += idle;
        flow.ack(2 * SMSS, cwnd, None, rtt, true);
        let counted = curve(&mut flow).elapsed - elapsed;
        assert!(counted <= 100_000, "{counted} µs of {idle:?}");
        // Not in use: neither does the window grow.
        for _ in 0..100 {
            flow.now += ms(50);
            flow.ack(2 * SMSS, 4 * SMSS, Some(rtt), rtt, false);
        }
        assert!(flow.window.cwnd() - cwnd <= SMSS);
        flow.ack(2 * SMSS, cwnd, None, rtt, true);
        assert!(curve(&mut flow).elapsed - elapsed <= 200_000);
    }
}

#[test]
fn rfc5681_4_1_after_an_idle_restart_the_curve_begins_anew() {
    let mut flow = reduced(1_000, ms(100));
    for _ in 0..20 {
        flow.round(ms(100));
    }
    flow.control.on_idle_restart(&mut flow.window, 10 * SMSS);
    assert_eq!(flow.cwnd(), 10);
    while flow.window.in_slow_start() {
        flow.ack(2 * SMSS, flow.window.cwnd(), None, ms(100), true);
    }
    flow.ack(SMSS, flow.window.cwnd(), None, ms(100), true);
    let curve = *curve(&mut flow);
    assert_eq!((curve.k, curve.elapsed), (0, 0), "not the time and the plateau of before");
}

/// ACKs that come within the same µs, a thousand times: what is left of each counts.
#[test]
fn parts_of_a_microsecond_add_up() {
    let mut flow = reduced(1_000, ms(100));
    flow.ack(SMSS, SMSS, None, ms(100), true);
    for _ in 0..1_000 {
        flow.now += Duration::from_nanos(700);
        flow.ack(SMSS, flow.window.cwnd(), None, ms(100), true);
    }
    assert_eq!(curve(&mut flow).elapsed, 700);
}

#[test]
fn rfc5681_3_1d_smaller_segments_are_on_the_same_curve() {
    let mut flow = reduced(1_000, ms(100));
    for _ in 0..20 {
        flow.round(ms(100));
    }
    let before = *curve(&mut flow);
    let at = before.elapsed;
    flow.control.on_mss_change(&mut flow.window, SMSS / 2);
    let after = *curve(&mut flow);
    assert_eq!(after.k, before.k);
    for t in [at, at + 1_000_000, at + 20_000_000] {
        let (was, is) = (before.w_cubic(t, SMSS) / 2, after.w_cubic(t, SMSS / 2));
        assert!(was.abs_diff(is) <= 1, "{was} {is}");
    }
    flow.control.on_mss_change(&mut flow.window, 8 * SMSS);
    assert_eq!(curve(&mut flow).stage, Stage::AfterReduction);
}
