//! What users set on one connection.

use crate::tcp::base::time::Duration;
use crate::tcp::connection::lab::{labs, none, plain};
use crate::tcp::{Events, LossState, State};

/// NAGLE-5.
#[test]
fn nagle_5_a_cork_keeps_back_what_fills_no_segment() {
    plain(|l| {
        l.conn.set_cork(true);
        assert_eq!(l.write(300), none());
        assert_eq!(l.write(300), none());
        assert_eq!(l.write(600), ["A 1:1001 ack 1"], "a full one goes");
        assert_eq!(l.i("A", 1, 0, 1001), none(), "the rest waits, though nothing is unacknowledged");
        l.conn.set_cork(false);
        assert_eq!(l.write(0), ["PA 1001:1201 ack 1"]);
        assert_eq!(l.i("A", 1, 0, 1201), none());
    });
}

/// NAGLE-5: not for ever. The time counts from when nothing is in flight any more.
#[test]
fn nagle_5_a_cork_has_a_ceiling_of_200_ms() {
    plain(|l| {
        l.conn.set_cork(true);
        assert_eq!(l.write(300), none());
        assert_eq!(l.pass(199), none());
        assert_eq!(l.pass(10), ["200 PA 1:301 ack 1"]);
        // And again for the next.
        assert_eq!(l.write(50), none());
        assert_eq!(l.i("A", 1, 0, 301), none());
        assert_eq!(l.pass(100), none());
        assert_eq!(l.pass(110), ["409 PA 301:351 ack 1"]);
    });
}

/// NAGLE-4: the end of the stream, and a push by the user, let everything go.
#[test]
fn a_cork_gives_way_to_the_end_and_to_nodelay() {
    plain(|l| {
        l.conn.set_cork(true);
        assert_eq!(l.write(300), none());
        assert_eq!(l.shutdown(), ["FPA 1:301 ack 1"]);
    });
    plain(|l| {
        l.conn.set_cork(true);
        assert_eq!(l.write(300), none());
        l.conn.set_nodelay(true);
        assert_eq!(l.write(0), ["PA 1:301 ack 1"]);
        assert_eq!(l.write(300), none(), "the cork is still in");
        l.conn.set_cork(false);
        assert_eq!(l.write(0), ["PA 301:601 ack 1"]);
    });
    plain(|l| {
        l.conn.set_cork(true);
        l.conn.set_nodelay(true);
        assert_eq!(l.write(300), none(), "nothing waited: nothing was pushed");
    });
}

/// OPS-6, MUST-40.
#[test]
fn quick_acknowledgments_on_demand() {
    plain(|l| {
        assert_eq!(l.i("A", 1, 100, 1), none(), "delayed");
        l.conn.set_quickack(&l.config.clone(), true);
        assert_eq!(l.write(0), ["A 1:1 ack 101"], "what waits leaves now");
        assert_eq!(l.pass(100), none());
        for at in [101, 201, 301] {
            assert_eq!(l.i("A", at, 100, 1), [format!("A 1:1 ack {}", at + 100)]);
        }
        l.conn.set_quickack(&l.config.clone(), false);
        assert_eq!(l.i("A", 401, 100, 1), none());
        assert_eq!(l.i("A", 501, 100, 1), ["A 1:1 ack 601"], "every second one (SHLD-19)");
    });
}

#[test]
fn a_send_buffer_that_is_set_stays() {
    plain(|l| {
        l.conn.set_send_buffer(10_000);
        assert_eq!(l.conn.send_room(&l.config), 10_000);
        l.max_len = 1_000;
        l.write(10_000);
        assert_eq!(l.conn.send_room(&l.config), 0);
        l.conn.set_send_buffer(4_000);
        assert_eq!(l.conn.send_room(&l.config), 0, "less than is queued");
        l.i("A", 1, 0, 6_001);
        assert_eq!((l.conn.queued(), l.conn.send_room(&l.config)), (4_000, 0));
        assert!(!l.last.events.contains(Events::WRITABLE));
        l.i("A", 1, 0, 9_001);
        assert_eq!(l.conn.send_room(&l.config), 3_000, "however large cwnd has become");
        assert!(l.last.events.contains(Events::WRITABLE));
        for (asked, got) in [(0, 256), (u32::MAX, 1 << 30)] {
            l.conn.set_send_buffer(asked);
            assert_eq!(l.conn.info(&l.config, l.now).send_limit, got);
        }
    });
}

/// SHLD-14: what was offered is not taken back.
#[test]
fn a_receive_buffer_that_is_set_takes_nothing_back() {
    plain(|l| {
        let window = |l: &crate::tcp::connection::lab::Lab| l.conn.info(&l.config, l.now).receive_window;
        assert_eq!(window(l), 65_535);
        l.conn.set_receive_buffer(2_000);
        assert_eq!(l.write(0), none());
        assert_eq!(window(l), 65_535);
        for at in 0..60 {
            l.i("A", 1 + at * 1_000, 1_000, 1);
            l.read(1_000);
        }
        assert_eq!(window(l), 5_535, "used up, not renewed");
        for at in 60..80 {
            l.i("A", 1 + at * 1_000, 1_000, 1);
            l.read(1_000);
            assert!(window(l) <= 5_535);
        }
        assert_eq!(window(l), 2_000);
        l.conn.set_receive_buffer(40_000);
        assert_eq!(l.write(0), ["A 1:1 ack 80001"], "the peer hears of it at once (SWS-6)");
        assert_eq!(window(l), 40_000);
        assert_eq!(l.conn.info(&l.config, l.now).receive_buffer, 40_000);
    });
}

/// OPS-15: without it, the same reader gets a larger one.
#[test]
fn a_receive_buffer_that_is_set_does_not_grow() {
    for fixed in [true, false] {
        labs(
            |config, opened| {
                config.recv_buffer.max = 1 << 20;
                opened.rtt = Some(Duration::from_millis(50));
            },
            |l| {
                if fixed {
                    l.conn.set_receive_buffer(65_535);
                }
                for at in 0..400 {
                    l.i("A", 1 + at * 1_000, 1_000, 1);
                    l.read(1_000);
                    l.pass(1);
                }
                let buffer = l.conn.info(&l.config, l.now).receive_buffer;
                assert_eq!(buffer == 65_535, fixed, "{buffer}");
            },
        );
    }
}

#[test]
fn what_may_wait_unsent_is_limited_on_demand() {
    plain(|l| {
        l.conn.set_notsent_lowat(Some(3_072));
        assert_eq!(l.conn.send_room(&l.config), 3_072);
        assert!(l.conn.at_low_water());
        // Nine segments are in flight and the peer has no more room.
        l.w("A", 1, 0, 1, 9_000);
        l.write(9_000);
        assert_eq!((l.conn.not_sent(), l.conn.send_room(&l.config)), (0, 3_072), "sent octets do not count");
        l.write(2_500);
        assert_eq!((l.conn.not_sent(), l.conn.send_room(&l.config)), (2_500, 572));
        assert!(!l.conn.at_low_water());
        l.w("A", 1, 0, 1_001, 9_000);
        assert_eq!((l.conn.not_sent(), l.conn.at_low_water()), (1_500, true));
        assert_eq!(l.conn.info(&l.config, l.now).not_sent, 1_500);
        l.conn.set_notsent_lowat(None);
        assert!(l.conn.send_room(&l.config) > 100_000 && !l.conn.at_low_water());
        l.conn.set_notsent_lowat(Some(0));
        assert_eq!(l.conn.send_room(&l.config), 0, "256 are the least, and more are waiting");
        l.conn.set_notsent_lowat(Some(1 << 24));
        assert!(l.conn.send_room(&l.config) > 100_000);
        l.conn.set_notsent_lowat(Some(2_000));
        assert_eq!(l.conn.send_room(&l.config), 2_048 - 1_500, "rounded up");
        l.shutdown();
        l.conn.set_notsent_lowat(Some(10_000));
        assert_eq!((l.conn.send_room(&l.config), l.conn.at_low_water()), (0, false));
    });
}

/// OPS-50.
#[test]
fn info_tells_what_recovery_is_at() {
    use crate::tcp::connection::lab::with_sack;
    with_sack(|l| {
        l.write(8_000);
        assert_eq!(l.conn.info(&l.config, l.now).loss_state, LossState::Open);
        l.sack = vec![(1_001, 2_001)];
        l.i("A", 1, 0, 1);
        let info = l.conn.info(&l.config, l.now);
        assert_eq!((info.loss_state, info.sacked, info.lost), (LossState::Disorder, 1_000, 0));
        l.sack = vec![(1_001, 5_001)];
        l.i("A", 1, 0, 1);
        let info = l.conn.info(&l.config, l.now);
        assert_eq!((info.loss_state, info.sacked), (LossState::Recovery, 4_000));
        l.i("A", 1, 0, 8_001);
        let info = l.conn.info(&l.config, l.now);
        assert_eq!((info.state, info.loss_state, info.sacked), (State::Established, LossState::Open, 0));
        l.write(1_000);
        let sent = l.now;
        l.pass(3_000);
        let info = l.conn.info(&l.config, l.now);
        assert_eq!((info.loss_state, info.last_received), (LossState::Loss, sent));
        assert!(info.backoffs > 0 && info.last_sent > sent);
    });
}
