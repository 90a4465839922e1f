use super::*;
use crate::tcp::base::time::Instant;
use crate::tcp::congestion::lab::{Flow, SMSS, ms};
use crate::tcp::congestion::{CongestionControl, Controller};

fn rounds(flow: &Flow) -> &HyStart {
    match &flow.control {
        Controller::Reno(reno) => reno.rounds(),
        Controller::Cubic(cubic) => cubic.rounds(),
    }
}

/// Rounds of a number of samples each, and a window that is always in use.
struct Alone {
    hystart: HyStart,
    window: CongestionWindow,
    end: SeqNum,
}

impl Alone {
    fn new() -> Self {
        let end = SeqNum(u32::MAX - 5_000);
        let mut alone = Self { hystart: HyStart::new(true), window: CongestionWindow::new(SMSS, 40 * SMSS), end };
        alone.ack(end - 1, end, None);
        alone
    }

    fn ack(&mut self, una: SeqNum, nxt: SeqNum, rtt: Option<Duration>) {
        let (now, srtt) = (Instant::ZERO, Duration::ZERO);
        let ack = AckSample { now, acked: SMSS, flight: 40 * SMSS, rtt, srtt, una, nxt, cwnd_limited: true };
        self.hystart.on_ack(&mut self.window, &ack, true);
    }

    fn round(&mut self, samples: u32, rtt: Duration) {
        let next = self.end + 40 * SMSS;
        for left in (0..samples).rev() {
            self.ack(self.end - left, next, Some(rtt));
        }
        self.end = next;
        assert_eq!(self.hystart.window_end, next);
    }
}

fn flows(test: impl Fn(Flow)) {
    for kind in CongestionControl::ALL {
        test(Flow::new(kind, true, 20));
    }
}

#[test]
fn the_rounds_fit_beside_an_algorithm() {
    assert!(size_of::<HyStart>() <= 20);
}

/// RFC9406-4.2c: at the first round trip, and at how many µs, a round counts as slower.
#[test]
fn rfc9406_4_2c_the_threshold_is_an_eighth_of_the_round_trip_between_4_and_16_ms() {
    for (base, threshold) in [(1_000, 4_000), (10_000, 4_000), (64_000, 8_000), (128_000, 16_000), (400_000, 16_000)] {
        for (rise, leaves) in [(threshold - 1, Phase::Slow), (threshold, Phase::Conservative)] {
            let mut alone = Alone::new();
            alone.round(10, Duration::from_micros(base));
            alone.round(10, Duration::from_micros(base));
            assert_eq!(alone.hystart.phase, Phase::Slow);
            alone.round(10, Duration::from_micros(base + rise));
            assert_eq!(alone.hystart.phase, leaves, "{base} µs, then {rise} µs more");
        }
    }
}

#[test]
fn rfc9406_4_2e_conservative_slow_start_lasts_five_rounds_the_one_it_begins_in_included() {
    let mut alone = Alone::new();
    alone.round(10, ms(50));
    alone.round(10, ms(66));
    for _ in 0..3 {
        alone.round(10, ms(66));
        assert_eq!((alone.hystart.phase, alone.window.ssthresh()), (Phase::Conservative, u32::MAX));
    }
    alone.round(10, ms(66));
    assert_eq!(alone.window.ssthresh(), alone.window.cwnd());
}

#[test]
fn rfc9406_4_2d_4_2e_a_rise_of_16_ms_that_stays_ends_slow_start() {
    flows(|mut flow| {
        for _ in 0..2 {
            flow.round(ms(50));
        }
        while rounds(&flow).phase == Phase::Slow {
            flow.round(ms(66));
        }
        // That is, with what was in flight before the rise, two round trips.
        assert!(flow.cwnd() <= 20 << 4, "{}", flow.cwnd());
        let before = flow.window.cwnd();
        let mut trips = 0;
        while flow.window.in_slow_start() {
            trips += 1;
            flow.round(ms(66));
        }
        assert!((4..=5).contains(&trips), "{trips}");
        // A quarter of the speed: 1.25^5 is 3.05, 2^5 would be 32.
        let growth = f64::from(flow.window.cwnd()) / f64::from(before);
        assert!((2.0..3.1).contains(&growth), "{growth}");
    });
}

#[test]
fn rfc9406_4_2c_jitter_below_the_threshold_does_not_end_slow_start() {
    flows(|mut flow| {
        for round in 0..8 {
            // Each round has one sample near the base at least, however bad the others.
            flow.round_of(ms(60), |index| {
                ms(if (index + round) % 8 == 5 { 52 } else { 50 + 30 * u64::from(index % 3) })
            });
        }
        assert!(flow.window.in_slow_start());
        assert_eq!(rounds(&flow).phase, Phase::Slow);
    });
}

#[test]
fn rfc9406_4_2d_a_round_trip_that_falls_again_leads_back_to_slow_start() {
    let mut alone = Alone::new();
    alone.round(10, ms(50));
    alone.round(10, ms(70));
    assert_eq!((alone.hystart.phase, alone.hystart.baseline), (Phase::Conservative, 70_000));
    alone.round(8, ms(70));
    assert_eq!(alone.hystart.phase, Phase::Conservative, "the same is not less");
    let before = alone.window.cwnd();
    alone.round(7, ms(69));
    assert_eq!(alone.hystart.phase, Phase::Conservative, "seven samples say nothing");
    assert_eq!(alone.window.cwnd() - before, 7 * SMSS / 4);
    alone.round(8, ms(69));
    assert_eq!((alone.hystart.phase, alone.window.ssthresh()), (Phase::Slow, u32::MAX));
    let before = alone.window.cwnd();
    alone.round(8, ms(69));
    assert_eq!(alone.window.cwnd() - before, 8 * SMSS);
}

#[test]
fn rfc9406_4_3_seven_samples_say_nothing() {
    for (samples, phase) in [(7, Phase::Slow), (8, Phase::Conservative)] {
        let mut alone = Alone::new();
        alone.round(samples, ms(50));
        alone.round(samples, ms(90));
        assert_eq!(alone.hystart.phase, phase, "{samples}");
    }
}

#[test]
fn rfc9406_4_2a_a_round_ends_when_what_was_sent_at_its_start_is_acknowledged() {
    flows(|mut flow| {
        let start = flow.una;
        flow.ack(SMSS, 20 * SMSS, Some(ms(50)), ms(50), true);
        assert_eq!(rounds(&flow).window_end, start + 20 * SMSS);
        flow.ack(18 * SMSS, 19 * SMSS, Some(ms(40)), ms(50), true);
        assert_eq!((rounds(&flow).window_end, rounds(&flow).current_min), (start + 20 * SMSS, 40_000));
        flow.ack(SMSS, 30 * SMSS, Some(ms(45)), ms(50), true);
        let rounds = rounds(&flow);
        assert_eq!((rounds.window_end, rounds.last_min, rounds.samples), (start + 49 * SMSS, 40_000, 0));
    });
}

#[test]
fn rfc9406_4_2b_one_ack_adds_eight_segments_at_most() {
    for (hystart, expected) in [(true, 48), (false, 60)] {
        for kind in CongestionControl::ALL {
            let mut flow = Flow::new(kind, hystart, 40);
            flow.ack(20 * SMSS, 40 * SMSS, None, ms(50), true);
            assert_eq!(flow.cwnd(), expected);
        }
    }
}

#[test]
fn rfc9406_4_2f_4_3b_after_a_loss_slow_start_is_not_watched() {
    flows(|mut flow| {
        flow.round(ms(50));
        flow.control.on_rto(&mut flow.window, flow.now, 40 * SMSS, true);
        let ssthresh = flow.window.ssthresh();
        for rtt in [50, 80, 110, 140, 170] {
            flow.round(ms(rtt));
        }
        assert_eq!(flow.window.ssthresh(), ssthresh);
        assert!(flow.window.cwnd() >= ssthresh, "doubled each round");
    });
}

#[test]
fn rfc9438_4_9_slow_start_that_goes_on_after_an_undo_is_watched_again() {
    flows(|mut flow| {
        for _ in 0..2 {
            flow.round(ms(50));
        }
        let saved = flow.control.save(&flow.window);
        flow.control.on_congestion_event(&mut flow.window, flow.now, 40 * SMSS);
        flow.control.undo(&mut flow.window, saved);
        assert_eq!((rounds(&flow).last_min, flow.window.ssthresh()), (NONE, u32::MAX));
        for _ in 0..2 {
            flow.round(ms(50));
        }
        for _ in 0..8 {
            flow.round(ms(90));
        }
        assert!(!flow.window.in_slow_start());
    });
}

#[test]
fn ops_30_an_unused_window_measures_but_neither_grows_nor_leaves_slow_start() {
    flows(|mut flow| {
        for round in 0..20_u64 {
            for _ in 0..10 {
                flow.ack(SMSS, 2 * SMSS, Some(ms(50 + 20 * round)), ms(50), false);
            }
        }
        assert_eq!((flow.cwnd(), rounds(&flow).phase), (20, Phase::Slow));
        assert_eq!(rounds(&flow).last_min, 430_000);
    });
}

#[test]
fn switched_off_it_never_ends_slow_start() {
    for kind in CongestionControl::ALL {
        let mut flow = Flow::new(kind, false, 20);
        for rtt in 1..10 {
            flow.round(ms(50 * rtt));
        }
        assert_eq!((flow.window.ssthresh(), flow.cwnd()), (u32::MAX, 20 << 9));
    }
}
