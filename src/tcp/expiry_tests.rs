//! R2 as a count of timeouts.
#![allow(clippy::unwrap_used)]

use super::super::lab::{Lab, labs};
use super::*;

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
            while lab.conn.info(&lab.config).timeouts < timeouts {
                lab.pass(100);
            }
            lab.i("A", 1, 0, acked);
            assert_eq!(lab.conn.close_reason(), None);
        }
        lab.pass(1_000_000);
        assert_eq!(lab.conn.info(&lab.config).timeouts, 6);
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
