//! What only observers ask of a sender: what has limited it and for how long, how fast it delivers, what it has sent again.

use crate::tcp::connection::lab::{Lab, labs, plain};
use crate::tcp::*;

const MS: Duration = Duration::from_millis(1);

fn info(lab: &Lab) -> Info {
    lab.conn.info(&lab.config, lab.now)
}

/// Milliseconds: busy in all, held up by the peer's window, by the buffer.
fn times(lab: &Lab) -> (u64, u64, u64) {
    let Info { busy, rwnd_limited, sndbuf_limited, .. } = info(lab);
    (busy.as_millis(), rwnd_limited.as_millis(), sndbuf_limited.as_millis())
}

#[test]
fn a_sender_is_busy_while_something_is_unacknowledged() {
    plain(|lab| {
        lab.now += MS * 500;
        assert_eq!((times(lab), info(lab).limited_by), ((0, 0, 0), SendLimit::Idle));
        lab.write(2_500);
        lab.now += MS * 30;
        assert_eq!((times(lab), info(lab).limited_by), ((30, 0, 0), SendLimit::Busy));
        lab.i("A", 1, 0, 2_501);
        lab.now += MS * 70;
        assert_eq!((times(lab), info(lab).limited_by), ((30, 0, 0), SendLimit::Idle));
        lab.write(100);
        lab.now += MS * 5;
        lab.i("A", 1, 0, 2_601);
        lab.now += MS * 5;
        assert_eq!(times(lab), (35, 0, 0));
        // The end is the end of it.
        lab.write(100);
        lab.now += MS * 5;
        lab.i("RA", 1, 0, 2_601);
        assert_eq!(lab.conn.state(), State::Closed);
        lab.now += MS * 900;
        assert!(times(lab).0 <= 40, "{:?}", times(lab));
    });
}

/// Only where the congestion window would let more go.
#[test]
fn the_peers_window_holds_up_a_sender_for_so_long() {
    labs(
        |config, opened| {
            config.initial_window = 10;
            opened.send_window = 4_000;
        },
        |lab| {
            lab.write(30_000);
            assert_eq!((info(lab).flight, info(lab).limited_by), (4_000, SendLimit::ReceiveWindow));
            lab.now += MS * 20;
            // A window of nothing still is one, also while it is probed.
            lab.w("A", 1, 0, 4_001, 0);
            lab.pass(2_000);
            assert_eq!((times(lab), info(lab).limited_by), ((2_020, 2_020, 0), SendLimit::ReceiveWindow));
            // Now it is the congestion window.
            lab.w("A", 1, 0, 4_001, 60_000);
            assert_eq!((info(lab).limited_by, info(lab).not_sent > 0), (SendLimit::Busy, true));
            lab.now += MS * 40;
            assert_eq!(times(lab), (2_060, 2_020, 0));
        },
    );
}

#[test]
fn a_buffer_that_is_full_and_all_sent_holds_up_a_sender() {
    labs(
        |config, _| {
            config.initial_window = 10;
            config.send_buffer = BufferLimits { initial: 4_096, max: 4_096 };
            config.send_auto_tuning = false;
        },
        |lab| {
            lab.write(4_096);
            assert_eq!((info(lab).not_sent, info(lab).limited_by), (0, SendLimit::SendBuffer));
            lab.now += MS * 10;
            // Not for every octet the user hears of room.
            lab.i("A", 1, 0, 501);
            lab.now += MS * 10;
            lab.i("A", 1, 0, 3_001);
            assert_eq!(info(lab).limited_by, SendLimit::Busy);
            lab.now += MS * 10;
            assert_eq!(times(lab), (30, 0, 20));
        },
    );
}

/// What was acknowledged between two segments that were timed, a round trip apart.
#[test]
fn delivery_is_measured_once_a_round_trip() {
    labs(
        |config, _| config.initial_window = 10,
        |lab| {
            assert_eq!(info(lab).delivery_rate, None);
            lab.write(60_000);
            lab.now += MS * 100;
            for ack in 1..=10 {
                lab.i("A", 1, 0, 1 + ack * 1_000);
            }
            // The first segment was the timed one: 1,000 octets in 100 ms.
            assert_eq!((info(lab).delivery_rate, info(lab).delivery_app_limited), (Some(10_000), false));
            // The next one left behind its ACK, and is acknowledged when 10,000 more are.
            lab.now += MS * 100;
            for ack in 11..=20 {
                lab.i("A", 1, 0, 1 + ack * 1_000);
            }
            assert_eq!(info(lab).delivery_rate, Some(100_000));
            while info(lab).flight > 0 {
                let sent = info(lab).bytes_sent as u32;
                lab.i("A", 1, 0, 1 + sent);
            }
            assert_eq!(info(lab).bytes_acked, 60_000);
            lab.write(500);
            lab.now += MS * 50;
            lab.i("A", 1, 0, 60_501);
            assert_eq!((info(lab).delivery_rate, info(lab).delivery_app_limited), (Some(10_000), true));
        },
    );
}

#[test]
fn what_was_sent_again_is_counted_by_octets() {
    labs(
        |config, opened| {
            config.initial_window = 10;
            opened.sack = true;
        },
        |lab| {
            lab.write(6_000);
            assert_eq!((info(lab).bytes_resent, info(lab).resent), (0, 0));
            lab.now += MS * 100;
            for end in [3_001, 4_001, 5_001] {
                lab.sack = vec![(2_001, end)];
                lab.i("A", 1, 0, 1_001);
            }
            let Info { bytes_resent, resent, retransmits, bytes_sent, .. } = info(lab);
            assert_eq!((bytes_resent, resent, retransmits, bytes_sent), (1_000, 1_000, 1, 6_000));
            lab.i("A", 1, 0, 6_001);
            assert_eq!((info(lab).bytes_resent, info(lab).resent), (1_000, 0));
        },
    );
}
