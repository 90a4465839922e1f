//! R2 as a count of timeouts.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::tcp::Duration;
use crate::tcp::connection::lab::{Lab, labs};

/// One segment that is never acknowledged, with this limit in numbers and in time: what is sent again, and the reason.
fn unanswered(lab: &mut Lab, count: u8, time: Duration) -> (usize, Option<CloseReason>) {
    (lab.config.data_retries, lab.config.retransmit_limit) = (count, time);
    lab.write(1_000);
    let sent = lab.pass(1_000_000).len();
    (sent, lab.conn.close_reason())
}

fn with_rtt(script: impl Fn(&mut Lab)) {
    labs(|_, opened| opened.rtt = Some(Duration::from_millis(100)), script);
}

/// RTO 300 ms, so retransmissions after 0.3, 0.9, 2.1, 4.5, 9.3 s.
#[test]
fn ops_2_must_20_r2_as_a_count_and_as_a_time_whichever_is_first() {
    let quarter = Duration::from_secs(900);
    let over = Some(CloseReason::TimedOut);
    for (count, time, sent) in [
        (1, quarter, 1),
        (3, quarter, 3),
        (5, quarter, 5),
        (5, Duration::ZERO, 5),
        (5, Duration::from_secs(3), 3),
        (0, Duration::from_secs(3), 3),
    ] {
        with_rtt(|lab| assert_eq!(unanswered(lab, count, time), (sent, over), "{count} and {time:?}"));
    }
    with_rtt(|lab| {
        let (sent, reason) = unanswered(lab, 0, Duration::ZERO);
        assert!(sent > 10 && reason.is_none(), "neither: {sent} {reason:?}");
    });
}

#[test]
fn ops_2_progress_begins_the_count_anew() {
    with_rtt(|lab| {
        (lab.config.data_retries, lab.config.retransmit_limit) = (2, Duration::ZERO);
        lab.write(3_000);
        for (timeouts, acked) in [(2, 1_001), (4, 2_001)] {
            while lab.conn.info(&lab.config, lab.now).timeouts < timeouts {
                lab.pass(100);
            }
            lab.i("A", 1, 0, acked);
            assert_eq!(lab.conn.close_reason(), None);
        }
        lab.pass(1_000_000);
        assert_eq!(lab.conn.info(&lab.config, lab.now).timeouts, 6);
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::TimedOut));
    });
}

/// MUST-21: the user's own time takes the place of R2, whatever it is counted in.
#[test]
fn must_21_a_user_timeout_takes_the_place_of_the_count() {
    with_rtt(|lab| {
        let config = lab.config;
        lab.conn.set_user_timeout(Some(Duration::from_secs(10)));
        assert_eq!(unanswered(lab, 1, config.retransmit_limit), (5, Some(CloseReason::UserTimeout)));
    });
}

/// MUST-36, SWS-4: a window that has opened is not probed any more, even when it is too small for what waits.
#[test]
fn must_36_an_open_window_is_not_probed() {
    for window in [0, 10] {
        with_rtt(|lab| {
            lab.w("A", 1, 0, 1, 0);
            assert!(lab.write(3_000).is_empty());
            lab.pass(290);
            assert!(lab.w("A", 1, 0, 1, window).is_empty());
            let probes = lab.pass(20).len();
            assert_eq!(probes, usize::from(window == 0));
        });
    }
}

/// RFC8985-6.3: a timeout of what left first says nothing of what left just now.
#[test]
fn rfc8985_6_3_a_timeout_spares_what_has_just_left() {
    labs(
        |config, opened| {
            config.tlp = false;
            (opened.sack, opened.rtt) = (true, Some(Duration::from_millis(100)));
        },
        |lab| {
            lab.write(1_000);
            lab.pass(100);
            lab.i("A", 1, 0, 1_001);
            lab.write(1_000);
            let due = lab.conn.next_timeout().unwrap();
            let left = (due - lab.now).as_millis();
            assert!(lab.pass(left - 2).is_empty());
            lab.write(1_000);
            assert_eq!(lab.pass(4).len(), 1, "the first is sent again");
            assert_eq!(lab.conn.info(&lab.config, lab.now).timeouts, 1);
            assert_eq!(lab.conn.info(&lab.config, lab.now).lost, 0, "the second is not lost");
        },
    );
}

/// OPS-2: a peer that has closed its window has not gone.
#[test]
fn ops_2_timeouts_before_a_closed_window_do_not_count() {
    for (window, over) in [(0, None), (1_000, Some(CloseReason::TimedOut))] {
        with_rtt(|lab| {
            (lab.config.data_retries, lab.config.retransmit_limit) = (2, Duration::ZERO);
            lab.write(1_000);
            lab.w("A", 1, 0, 1, window);
            let said = lab.pass(100_000);
            assert!(said.len() >= 2, "{said:?}");
            assert_eq!(lab.conn.close_reason(), over, "{window}");
        });
    }
}
