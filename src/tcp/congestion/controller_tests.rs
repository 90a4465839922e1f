#![allow(clippy::unwrap_used)]

use super::*;
use crate::tcp::{Duration, SeqNum};

#[test]
fn the_window_leaves_room_for_the_timers_in_a_cache_line() {
    assert!(size_of::<CongestionWindow>() <= 16);
}

#[test]
fn names_are_read_and_written() {
    for kind in CongestionControl::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
        assert_eq!(Controller::new(kind, true).kind(), kind);
    }
    let unknown = "vegas".parse::<CongestionControl>().unwrap_err();
    assert!(unknown.to_string().starts_with("\"vegas\" is no congestion control; there is reno"), "{unknown}");
}

#[test]
fn rfc5681_4_1_idle_shrinks_to_the_restart_window_only() {
    for kind in CongestionControl::ALL {
        let mut control = Controller::new(kind, true);
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
        let mut control = Controller::new(kind, true);
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
        let mut control = Controller::new(kind, true);
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
fn rfc9438_4_9_undo_restores_window_and_threshold() {
    for kind in CongestionControl::ALL {
        let mut control = Controller::new(kind, true);
        let mut window = CongestionWindow::new(1_000, 40_000);
        let saved = control.save(&window);
        control.on_congestion_event(&mut window, Instant::ZERO, 30_000);
        control.undo(&mut window, saved);
        assert_eq!((window.cwnd(), window.ssthresh()), (40_000, u32::MAX));

        let saved = control.save(&window);
        control.on_rto(&mut window, Instant::ZERO, 30_000, true);
        window.set_cwnd(50_000);
        control.undo(&mut window, saved);
        assert_eq!((window.cwnd(), window.ssthresh()), (50_000, u32::MAX), "a window grown since then stays");
    }
}

mod any {
    use proptest::prelude::*;

    use super::*;
    use crate::tcp::units::LARGEST_WINDOW;

    #[derive(Clone, Debug)]
    enum Event {
        Ack { acked: u32, flight: u32, rtt: Option<u64>, srtt: u64, limited: bool },
        Loss(u32),
        Timeout(u32, bool),
        Exit,
        Set(u32),
        Save,
        Undo,
        Idle(u32),
        Mss(u32),
        Pass(u64),
    }

    /// Numbers of all sizes, extremes among them.
    fn number() -> impl Strategy<Value = u32> {
        prop_oneof![4 => 0..200_000_u32, 1 => any::<u32>(), 1 => Just(u32::MAX), 1 => Just(0)]
    }

    fn time() -> impl Strategy<Value = u64> {
        prop_oneof![4 => 0..1_000_000_000_u64, 1 => any::<u64>(), 1 => Just(0)]
    }

    fn event() -> impl Strategy<Value = Event> {
        let ack = (number(), number(), proptest::option::of(time()), time(), any::<bool>());
        prop_oneof![
            12 => ack.prop_map(|(acked, flight, rtt, srtt, limited)| Event::Ack { acked, flight, rtt, srtt, limited }),
            1 => number().prop_map(Event::Loss),
            1 => (number(), any::<bool>()).prop_map(|(flight, first)| Event::Timeout(flight, first)),
            1 => Just(Event::Exit),
            1 => number().prop_map(Event::Set),
            1 => Just(Event::Save),
            1 => Just(Event::Undo),
            1 => number().prop_map(Event::Idle),
            1 => number().prop_map(Event::Mss),
            4 => time().prop_map(Event::Pass),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever happens, the window holds one segment and no more than any peer can offer, and nothing overflows.
        #[test]
        fn sequences_of_events_keep_the_window_in_its_bounds(
            cubic in any::<bool>(),
            hystart in any::<bool>(),
            smss in number(),
            initial in number(),
            events in proptest::collection::vec(event(), 0..120),
        ) {
            let kind = if cubic { CongestionControl::Cubic } else { CongestionControl::Reno };
            let mut control = Controller::new(kind, hystart);
            let mut window = CongestionWindow::new(smss, initial);
            let mut saved = control.save(&window);
            let mut now = Instant::ZERO;
            let mut una = SeqNum(7);
            for event in events {
                match event {
                    Event::Ack { acked, flight, rtt, srtt, limited } => {
                        una += acked;
                        let rtt = rtt.map(Duration::from_nanos);
                        let srtt = Duration::from_nanos(srtt);
                        let nxt = una + flight;
                        let before = window.cwnd();
                        let sample = AckSample { now, acked, flight, rtt, srtt, una, nxt, cwnd_limited: limited };
                        control.on_ack(&mut window, &sample);
                        prop_assert!(window.cwnd() >= before, "an ACK does not shrink the window");
                        let most = before.saturating_mul(2).saturating_add(window.smss());
                        prop_assert!(window.cwnd() <= most, "nor grow it by more than it holds");
                    }
                    Event::Loss(flight) => {
                        let ssthresh = control.on_congestion_event(&mut window, now, flight);
                        prop_assert_eq!(ssthresh, window.ssthresh());
                        prop_assert!(ssthresh >= 2 * window.smss());
                    }
                    Event::Timeout(flight, first) => {
                        control.on_rto(&mut window, now, flight, first);
                        prop_assert_eq!(window.cwnd(), window.smss());
                    }
                    Event::Exit => window.exit_recovery(),
                    Event::Set(cwnd) => window.set_cwnd(cwnd),
                    Event::Save => saved = control.save(&window),
                    Event::Undo => {
                        control.undo(&mut window, saved);
                    }
                    Event::Idle(restart) => control.on_idle_restart(&mut window, restart),
                    Event::Mss(smss) => control.on_mss_change(&mut window, smss),
                    Event::Pass(nanos) => now += Duration::from_nanos(nanos),
                }
                prop_assert!(window.cwnd() >= window.smss() && window.cwnd() <= LARGEST_WINDOW, "{window:?}");
            }
        }
    }
}
