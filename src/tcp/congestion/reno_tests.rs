use super::*;
use crate::tcp::SeqNum;
use crate::tcp::time::Duration;
use crate::tcp::units::LARGEST_WINDOW;

const SMSS: u32 = 1_000;

struct Flow {
    reno: Reno,
    window: CongestionWindow,
}

impl Flow {
    fn new(initial_window: u32) -> Self {
        Self { reno: Reno::new(false), window: CongestionWindow::new(SMSS, initial_window) }
    }

    fn avoidance(cwnd: u32) -> Self {
        let mut flow = Self::new(10 * SMSS);
        flow.loss(2 * cwnd);
        assert_eq!((flow.cwnd(), flow.window.ssthresh()), (cwnd, cwnd));
        flow
    }

    fn cwnd(&self) -> u32 {
        self.window.cwnd()
    }

    fn ack(&mut self, acked: u32, flight: u32, cwnd_limited: bool) {
        let ack = AckSample {
            now: Instant::ZERO,
            acked,
            flight,
            rtt: None,
            srtt: Duration::ZERO,
            una: SeqNum(0),
            nxt: SeqNum(0),
            cwnd_limited,
        };
        self.reno.on_ack(&mut self.window, &ack);
    }

    fn loss(&mut self, flight: u32) -> u32 {
        self.reno.on_congestion_event(&mut self.window, Instant::ZERO, flight)
    }

    fn timeout(&mut self, flight: u32) {
        self.reno.on_rto(&mut self.window, Instant::ZERO, flight, true);
    }
}

#[test]
fn rfc5681_3_1g_slow_start_doubles_each_round_trip() {
    let mut flow = Flow::new(10 * SMSS);
    for expected in [20, 40, 80] {
        for _ in 0..flow.cwnd() / (2 * SMSS) {
            flow.ack(2 * SMSS, flow.cwnd(), true);
        }
        assert_eq!(flow.cwnd(), expected * SMSS);
    }
}

#[test]
fn ops_31_sc_58_divided_acks_gain_nothing() {
    let mut flow = Flow::new(10 * SMSS);
    for _ in 0..10 {
        flow.ack(SMSS / 10, 10 * SMSS, true);
    }
    assert_eq!(flow.cwnd(), 11 * SMSS);
}

#[test]
fn kp_06_avoidance_adds_one_segment_a_round_trip_and_no_constant() {
    let mut flow = Flow::avoidance(20 * SMSS);
    for round in 1..=10 {
        for _ in 0..flow.cwnd() / SMSS {
            flow.ack(SMSS, flow.cwnd(), true);
        }
        assert_eq!(flow.cwnd(), (20 + round) * SMSS);
    }
}

#[test]
fn slow_start_ends_exactly_at_the_threshold() {
    let mut flow = Flow::new(10 * SMSS);
    flow.timeout(10 * SMSS);
    assert_eq!((flow.cwnd(), flow.window.ssthresh()), (SMSS, 5 * SMSS), "RFC5681-3.1j: one segment");
    for expected in [2, 4, 5] {
        flow.ack(flow.cwnd(), flow.cwnd(), true);
        assert_eq!(flow.cwnd(), expected * SMSS);
    }
}

#[test]
fn kp_02_one_ack_at_most_doubles_the_window_after_a_timeout() {
    let mut flow = Flow::new(40 * SMSS);
    flow.timeout(40 * SMSS);
    flow.ack(30 * SMSS, 40 * SMSS, true);
    assert_eq!(flow.cwnd(), 2 * SMSS);
}

#[test]
fn ops_30_a_window_that_is_not_used_does_not_grow() {
    let mut flow = Flow::new(10 * SMSS);
    flow.ack(5 * SMSS, 5 * SMSS, false);
    assert_eq!(flow.cwnd(), 10 * SMSS);
    flow.ack(6 * SMSS, 6 * SMSS, false);
    assert_eq!(flow.cwnd(), 16 * SMSS, "RFC9438-5.8: more than half of a window that doubles is use enough");
    let mut flow = Flow::avoidance(10 * SMSS);
    flow.ack(10 * SMSS, 10 * SMSS, false);
    assert_eq!(flow.cwnd(), 10 * SMSS);
}

#[test]
fn recovery_inflates_and_deflates() {
    let mut flow = Flow::new(20 * SMSS);
    let ssthresh = flow.loss(20 * SMSS);
    flow.window.set_cwnd(ssthresh + 3 * SMSS);
    assert_eq!(flow.cwnd(), 13 * SMSS);
    flow.window.exit_recovery();
    assert_eq!(flow.cwnd(), 10 * SMSS);
    flow.window.set_cwnd(0);
    assert_eq!(flow.cwnd(), SMSS);
}

#[test]
fn what_a_large_window_has_earned_does_not_grow_a_small_one() {
    let mut flow = Flow::avoidance(100 * SMSS);
    flow.ack(99 * SMSS, 100 * SMSS, true);
    flow.window.set_cwnd(4 * SMSS);
    flow.window.set_ssthresh(4 * SMSS);
    for _ in 0..8 {
        flow.ack(SMSS, 4 * SMSS, true);
    }
    assert!(flow.cwnd() <= 6 * SMSS, "two windows acknowledged: {}", flow.cwnd());
}

#[test]
fn growth_stops_at_the_largest_window() {
    let mut flow = Flow::new(LARGEST_WINDOW - 1);
    for _ in 0..3 {
        flow.ack(u32::MAX, u32::MAX, true);
    }
    assert_eq!(flow.cwnd(), LARGEST_WINDOW);
    flow.window.set_ssthresh(SMSS);
    for _ in 0..9 {
        flow.ack(u32::MAX, u32::MAX, true);
    }
    assert_eq!(flow.cwnd(), LARGEST_WINDOW);
}
