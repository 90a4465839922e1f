//! Scripted peers against details that longer scenarios pass by: the segment before a threshold, the second reduction
//! of a recovery.
#![allow(clippy::unwrap_used)]

use crate::tcp::base::timers::Timer;
use crate::tcp::connection::lab::{Lab, labs, none, plain, with_sack};
use crate::tcp::*;

/// An ACK with SACK blocks.
fn sack(lab: &mut Lab, ack: u32, blocks: &[(u32, u32)]) -> Vec<String> {
    lab.sack = blocks.to_vec();
    lab.i("A", 1, 0, ack)
}

/// RFC3042-2a, RFC6675-5.3: each SACK below the threshold lets a new segment go beyond the window.
#[test]
fn rfc6675_5_3_limited_transmit_with_sack() {
    with_sack(|lab| {
        assert_eq!(lab.write(30_000).len(), 10);
        assert_eq!(sack(lab, 1, &[(1_001, 2_001)]), ["A 10001:11001 ack 1"]);
        assert_eq!(sack(lab, 1, &[(1_001, 3_001)]), ["A 11001:12001 ack 1"]);
        let said = sack(lab, 1, &[(1_001, 4_001)]);
        assert_eq!(said.first().map(String::as_str), Some("A 1:1001 ack 1"));
    });
}

/// RFC5681-4.3, RFC9937-6.1: when a retransmission is lost, the second reduction begins with what is in flight then.
#[test]
fn rfc9937_6_1_the_second_reduction_starts_from_its_own_flight() {
    labs(
        |config, opened| {
            config.initial_window = 20;
            opened.sack = true;
            opened.rtt = Some(Duration::from_millis(100));
        },
        |lab| {
            lab.conn.on_send(60_000);
            lab.drain(&mut Vec::new());
            lab.pass(92);
            assert_eq!(sack(lab, 1, &[(1_001, 4_001)])[0], "A 1:1001 ack 1");
            // The retransmission is lost; what was sent before it arrives, then what was sent after it.
            lab.pass(1);
            for end in 5..=20 {
                sack(lab, 1, &[(1_001, end * 1_000 + 1)]);
            }
            let sent = lab.conn.info(&lab.config, lab.now).flight;
            lab.pass(100);
            let said = sack(lab, 1, &[(1_001, 21_001)]);
            assert_eq!(said.first().map(String::as_str), Some("A 1:1001 ack 1"), "{said:?}");
            let left: Vec<_> = (22..=sent / 1_000).map(|end| sack(lab, 1, &[(1_001, end * 1_000 + 1)]).len()).collect();
            assert!(left[..4].contains(&1), "above the threshold about one leaves for two that arrive: {left:?}");
        },
    );
}

/// RFC5681-3.1g: what a hole held up adds to the window when it is acknowledged, and what is only SACKed does not.
#[test]
fn rfc5681_3_1g_slow_start_goes_on_behind_a_short_reordering() {
    with_sack(|lab| {
        assert_eq!(lab.write(60_000).len(), 10);
        sack(lab, 1, &[(1_001, 2_001)]);
        assert_eq!(lab.conn.info(&lab.config, lab.now).cwnd, 10_000);
        assert_eq!(sack(lab, 2_001, &[(3_001, 4_001)]).len(), 4);
        assert_eq!(lab.conn.info(&lab.config, lab.now).cwnd, 12_000);
    });
}

/// A writer that filled the buffer is told when a quarter of it is free, and not before.
#[test]
fn writable_when_a_quarter_is_free() {
    labs(
        |config, _| {
            config.send_buffer = BufferLimits { initial: 8_000, max: 8_000 };
            config.send_auto_tuning = false;
        },
        |lab| {
            assert_eq!(lab.write(8_000).len(), 8);
            assert_eq!(lab.conn.send_room(&lab.config), 0);
            lab.i("A", 1, 0, 1_001);
            assert!(!lab.last.events.contains(Events::WRITABLE));
            lab.i("A", 1, 0, 2_001);
            assert!(lab.last.events.contains(Events::WRITABLE));
            lab.i("A", 1, 0, 4_001);
            assert!(!lab.last.events.contains(Events::WRITABLE), "once");
        },
    );
}

/// RFC2883-5a: only what arrived twice is reported so, not what never fit the window, nor a FIN by itself.
#[test]
fn rfc2883_5a_what_is_beyond_the_window_is_no_duplicate() {
    with_sack(|lab| {
        assert_eq!(lab.i("A", 100_001, 100, 1), ["A 1:1 ack 1"]);
        lab.i("A", 1, 100, 1);
        assert_eq!(lab.i("A", 1, 100, 1), ["A 1:1 ack 101 <1:101>"]);
    });
}

/// The user's keep-alive begins at once beside a limit that ends later, and does not postpone one that ends sooner.
#[test]
fn ka_3_keep_alive_beside_the_limit_for_progress() {
    for (idle, first) in [(10, 10), (3_000, 900)] {
        plain(|lab| {
            lab.write(1_000);
            assert_eq!(lab.conn.timers.get(Timer::GiveUp), Some(lab.now + lab.config.retransmit_limit));
            lab.conn.set_keepalive(Some(KeepAlive { idle: Duration::from_secs(idle), ..lab.config.keepalive_probes }));
            assert_eq!(lab.conn.timers.get(Timer::GiveUp), Some(lab.now + Duration::from_secs(first)));
        });
    }
}

/// Neither will anything be read any more, nor written.
fn fully_closed(lab: &Lab) -> bool {
    lab.conn.has_no_reader() || lab.conn.state() == State::Closed
}

#[test]
fn what_close_and_abort_leave_to_the_user() {
    plain(|lab| {
        assert!(!fully_closed(lab));
        lab.conn.shutdown();
        assert!(!fully_closed(lab), "it may still read");
        lab.close();
        assert!(fully_closed(lab));
    });
    plain(|lab| {
        lab.i("R", 1, 0, 0);
        assert!(fully_closed(lab));
    });
}

/// RFC9937: what a recovery holds back is counted, also when all that waits was sent before.
#[test]
fn held_back_by_the_rate_of_recovery() {
    labs(
        |config, opened| {
            config.initial_window = 20;
            opened.sack = true;
            opened.rtt = Some(Duration::from_millis(100));
        },
        |lab| {
            assert_eq!(lab.write(20_000).len(), 20);
            lab.pass(92);
            // Nothing is unsent; the second hole must wait.
            assert_eq!(sack(lab, 1, &[(1_001, 2_001), (5_001, 10_001)]), ["A 1:1001 ack 1"]);
            assert!(lab.conn.info(&lab.config, lab.now).recovery.rate_limited > 0);
        },
    );
    with_sack(|lab| {
        assert_eq!(lab.write(10_000).len(), 10);
        assert_eq!(sack(lab, 2_001, &[]), none());
        assert_eq!(lab.conn.info(&lab.config, lab.now).recovery.rate_limited, 0, "outside of a recovery nothing is");
    });
}
