#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn the_window_leaves_room_for_the_timers_in_a_cache_line() {
    assert!(size_of::<CongestionWindow>() <= 16);
}

#[test]
fn names_are_read_and_written() {
    for kind in CongestionControl::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
        assert_eq!(Controller::new(kind).kind(), kind);
    }
    let unknown = "vegas".parse::<CongestionControl>().unwrap_err();
    assert!(unknown.to_string().starts_with("\"vegas\" is no congestion control; there is reno"), "{unknown}");
}

#[test]
fn rfc6928_2a_initial_window() {
    assert_eq!(initial_window(1_460, 10), 14_600);
    assert_eq!(initial_window(536, 10), 5_360);
    assert_eq!(initial_window(1_448, 10), 14_480);
    assert_eq!(initial_window(8_960, 10), 17_920, "two jumbo segments");
    assert_eq!(initial_window(4_000, 10), 14_600);
    assert_eq!(initial_window(1_000, 1), 1_000, "RFC5681-3.1c: one segment");
    assert_eq!(initial_window(u32::MAX, u32::MAX), LARGEST_WINDOW);
}

#[test]
fn rfc5681_4_1_idle_shrinks_to_the_restart_window_only() {
    for kind in CongestionControl::ALL {
        let mut control = Controller::new(kind);
        let mut window = CongestionWindow::new(1_000, 40_000);
        control.on_idle_restart(&mut window, 10_000);
        assert_eq!(window.cwnd(), 10_000);
        control.on_rto(&mut window, Instant::ZERO, 10_000, true);
        control.on_idle_restart(&mut window, 10_000);
        assert_eq!(window.cwnd(), 1_000);
    }
}

#[test]
fn rfc5681_3_1d_smaller_segments_keep_their_number() {
    for kind in CongestionControl::ALL {
        let mut control = Controller::new(kind);
        let mut window = CongestionWindow::new(1_000, 10_000);
        control.on_mss_change(&mut window, 500);
        assert_eq!(window.cwnd(), 5_000);
        control.on_mss_change(&mut window, 2_000);
        assert_eq!((window.cwnd(), window.smss()), (5_000, 2_000));
        control.on_mss_change(&mut window, 9_000);
        assert_eq!(window.cwnd(), 9_000, "room for one segment at least");
    }
}

#[test]
fn rfc5681_3_1j_3_1i_a_timeout_leaves_one_segment_and_a_repeated_one_holds_the_threshold() {
    for kind in CongestionControl::ALL {
        let mut control = Controller::new(kind);
        let mut window = CongestionWindow::new(1_000, 40_000);
        control.on_rto(&mut window, Instant::ZERO, 40_000, true);
        assert_eq!(window.cwnd(), 1_000);
        let ssthresh = window.ssthresh();
        assert!(ssthresh < 40_000);
        control.on_rto(&mut window, Instant::ZERO, 10_000, false);
        assert_eq!((window.cwnd(), window.ssthresh()), (1_000, ssthresh));
        control.on_rto(&mut window, Instant::ZERO, 1_000, true);
        assert_eq!(window.ssthresh(), 2_000, "never below two segments");
    }
}

#[test]
fn rfc9438_4_9_undo_restores_window_and_threshold_once() {
    for kind in CongestionControl::ALL {
        let mut control = Controller::new(kind);
        let mut window = CongestionWindow::new(1_000, 40_000);
        assert!(!control.undo(&mut window), "nothing saved");
        control.save(&window);
        control.on_congestion_event(&mut window, Instant::ZERO, 30_000);
        assert!(control.undo(&mut window));
        assert_eq!((window.cwnd(), window.ssthresh()), (40_000, u32::MAX));
        assert!(!control.undo(&mut window));

        control.save(&window);
        control.on_rto(&mut window, Instant::ZERO, 30_000, true);
        window.set_cwnd(50_000);
        assert!(control.undo(&mut window));
        assert_eq!((window.cwnd(), window.ssthresh()), (50_000, u32::MAX), "a window grown since then stays");
    }
}
