//! Which limit counts. What it leads to is in the scenarios `keepalive` and `limits`.

use super::*;
use crate::tcp::connection::lab::{labs, plain};

/// MUST-20, MUST-21, OPS-22: R2, the user's own limit in its place, and the shorter limit of a closed connection.
#[test]
fn must_21_ops_22_which_limit_counts() {
    const S: fn(u64) -> Duration = Duration::from_secs;
    const NEVER: Option<Duration> = None;
    for (r2, user, orphan, closed, limit) in [
        (S(900), None, S(100), false, Some(S(900))),
        (S(900), None, S(100), true, Some(S(100))),
        (S(50), None, S(100), true, Some(S(50))),
        (S(0), None, S(100), false, NEVER),
        (S(0), None, S(100), true, Some(S(100))),
        (S(0), None, S(0), true, NEVER),
        (S(900), Some(S(5)), S(100), false, Some(S(5))),
        (S(900), Some(S(5)), S(100), true, Some(S(5))),
        (S(900), Some(S(3_600)), S(100), false, Some(S(3_600))),
        (S(900), Some(S(3_600)), S(100), true, Some(S(100))),
        (S(900), Some(S(0)), S(100), false, Some(S(900))),
        (S(900), Some(Duration::MAX), S(100), false, NEVER),
        (S(900), Some(Duration::MAX), S(100), true, Some(S(100))),
    ] {
        plain(|lab| {
            lab.config.retransmit_limit = r2;
            lab.config.orphan_timeout = orphan;
            lab.conn.set_user_timeout(user);
            if closed {
                assert!(lab.conn.close().is_none());
            }
            let found = lab.conn.liveness.limit(&lab.config, lab.conn.waiting());
            assert_eq!(found, limit, "R2 {r2}, user {user:?}, orphan {orphan}, closed {closed}");
        });
    }
}

/// A user timeout of the configuration is that of every new connection, and can be taken back.
#[test]
fn must_21_the_configuration_gives_new_connections_their_user_timeout() {
    labs(
        |config, _| config.user_timeout = Duration::from_secs(7),
        |lab| {
            let limit = |conn: &Connection| conn.liveness.limit(&lab.config, conn.waiting());
            assert_eq!(limit(&lab.conn), Some(Duration::from_secs(7)));
            lab.conn.set_user_timeout(None);
            assert_eq!(limit(&lab.conn), Some(lab.config.retransmit_limit));
        },
    );
}

/// Where keep-alive costs something: neither data nor ACKs move its timer.
#[test]
fn no_segment_moves_the_timer_of_the_keep_alive() {
    plain(|lab| {
        lab.conn.set_keepalive(Some(lab.config.keepalive_probes));
        let at = lab.conn.timers.get(Timer::GiveUp);
        assert!(at.is_some());
        lab.config.delayed_ack = Duration::ZERO;
        for segment in 0..20 {
            lab.pass(1_000);
            let _ = lab.i("A", 1 + 100 * segment, 100, 1);
            lab.read(100);
            assert_eq!(lab.conn.timers.get(Timer::GiveUp), at);
        }
    });
}

/// A keep-alive of 1 ms wakes nobody every millisecond while what was sent is not acknowledged.
#[test]
fn a_short_keep_alive_does_not_spin_while_it_waits_for_an_acknowledgment() {
    const MS: Duration = Duration::from_millis(1);
    plain(|lab| {
        lab.conn.set_keepalive(Some(KeepAlive { idle: MS, interval: MS, count: 5 }));
        lab.conn.on_send(100);
        lab.drain(&mut Vec::new());
        let (start, mut wakes) = (lab.now, 0);
        while let Some(at) = lab.conn.next_timeout().filter(|at| *at <= start + MS * 10_000) {
            lab.now = at;
            lab.conn.on_timeout(&lab.config, at);
            lab.drain(&mut Vec::new());
            wakes += 1;
        }
        assert!((1..=120).contains(&wakes), "{wakes} in 10 s");
        assert!(lab.conn.close_reason().is_none());
    });
}
