//! What acknowledgments tell of the path: round trips for the controller, for the timer, and for the receiver.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::tcp::connection::lab::{Lab, labs, plain};
use crate::tcp::units::UnscaledWindow;
use crate::tcp::*;
use crate::wire::options::TcpOptions;
use crate::wire::tcp::Flags;

const MS: Duration = Duration::from_millis(1);

fn info(lab: &Lab) -> Info {
    lab.conn.info(&lab.config, lab.now)
}

/// Forty segments of 1,000 octets in flight, and more to send; `rtt` since they left.
fn full(rtt: Duration, sack: bool, script: impl Fn(&mut Lab)) {
    labs(
        |config, opened| {
            config.initial_window = 40;
            config.send_buffer = BufferLimits { initial: 1 << 20, max: 1 << 20 };
            opened.rtt = Some(rtt);
            opened.sack = sack;
            opened.window_shifts = Some((4, 0));
        },
        |lab| {
            lab.write(900_000);
            script(lab);
        },
    );
}

/// The `octets` above `una` are acknowledged two segments at a time; what the window grew by.
fn acked(lab: &mut Lab, una: u32, octets: u32) -> u32 {
    let before = info(lab).cwnd;
    for ack in (una + 2_000..=una + octets).step_by(2_000) {
        lab.i("A", 1, 0, ack);
    }
    info(lab).cwnd - before
}

/// RFC9406-4.2c, 4.2d: each ACK of a round is a sample, so that eight of them are enough to find the rise.
#[test]
fn rfc9406_4_2c_each_ack_is_a_sample() {
    for sack in [false, true] {
        full(MS * 50, sack, |lab| {
            lab.now += MS * 50;
            let sent = info(lab).flight;
            assert_eq!((sent, acked(lab, 1, sent)), (40_000, 40_000));
            lab.now += MS * 60;
            let (first, rest) = (acked(lab, 40_001, 16_000), acked(lab, 56_001, 16_000));
            assert_eq!((first, rest), (16_000, 4_000), "a quarter after eight samples");
            assert_eq!(info(lab).ssthresh, u32::MAX);
        });
    }
}

/// RFC9406-4.2d: back to slow start when eight samples of a round are below what led out of it.
#[test]
fn rfc9406_4_2d_a_shorter_round_trip_resumes_slow_start() {
    full(MS * 50, true, |lab| {
        lab.now += MS * 50;
        acked(lab, 1, 40_000);
        lab.now += MS * 60;
        acked(lab, 40_001, 80_000);
        lab.now += MS * 52;
        let (first, rest) = (acked(lab, 120_001, 16_000), acked(lab, 136_001, 16_000));
        // Eight samples, two of them of the ACKs before, at a quarter of the speed.
        assert_eq!((first, rest), (7_000, 16_000));
    });
}

/// RFC9406-4.2e: after five rounds of a rise that stays, the threshold is the window.
#[test]
fn rfc9406_4_2e_five_rounds_end_slow_start() {
    full(MS * 50, true, |lab| {
        lab.now += MS * 50;
        acked(lab, 1, 40_000);
        let mut rounds = 0;
        while info(lab).ssthresh == u32::MAX {
            rounds += 1;
            lab.now += MS * 60;
            let una = info(lab).bytes_acked as u32 + 1;
            let flight = info(lab).flight;
            acked(lab, una, flight - flight % 2_000);
            assert!(rounds < 7);
        }
        assert_eq!((rounds, info(lab).ssthresh), (5, info(lab).cwnd));
    });
}

/// RFC9406-4.2a: where all of the flight is acknowledged before more is sent, the next round begins with that, not with
/// its first ACK alone: what follows that ACK in the same burst waited longer, and is no rise.
#[test]
fn rfc9406_4_2a_a_burst_is_no_rise() {
    full(MS * 50, true, |lab| {
        for expected in [80_000, 160_000] {
            let (una, flight) = (info(lab).bytes_acked as u32 + 1, info(lab).flight);
            lab.now += MS * 40;
            for ack in (una + 2_000..=una + flight).step_by(2_000) {
                lab.now += MS * 10;
                let (seq, ack, options) = (lab.irs + 1, lab.iss + ack, TcpOptions::default());
                let seg =
                    Segment { seq, ack, flags: Flags::ACK, window: UnscaledWindow(65_535), urgent: 0, options, len: 0 };
                lab.conn.on_segment(&lab.config, &seg, &Context { now: lab.now, keep: Keep::All });
            }
            assert_eq!((info(lab).flight, info(lab).cwnd), (0, expected));
            lab.write(0);
        }
    });
}

/// RFC6298-3a, RFC8985-6.2.1: where a full scoreboard keeps one time for parts that left at several, an ACK of the
/// first of them is no sample, and loss is not judged by it.
#[test]
fn rfc6298_3a_no_sample_is_shorter_than_the_path() {
    labs(
        |config, opened| {
            config.initial_window = 64;
            config.hystart = false;
            config.send_buffer = BufferLimits { initial: 1 << 22, max: 1 << 22 };
            opened.send_window = 1 << 22;
            opened.sack = true;
            opened.window_shifts = Some((7, 0));
            opened.rtt = Some(MS * 100);
        },
        |lab| {
            lab.write(2_000_000);
            let mut una = 1;
            // A segment each 4 ms leaves, and nothing comes back for long.
            lab.conn.congestion.set_cwnd(64_000);
            let mut left = Vec::new();
            for n in 1..=400_u32 {
                lab.now += MS * 4;
                lab.conn.congestion.set_cwnd(64_000 + n * 1_000);
                assert_eq!(lab.write(1_000).len(), 1);
                left.push((lab.now, info(lab).flight));
            }
            lab.now += MS * 100;
            // After a retransmission each report counts, until what was sent at that time is acknowledged.
            lab.conn.rtt.stop_timing();
            lab.conn.recovery.make_ambiguous(lab.conn.sender.nxt());
            for (at, end) in left {
                let ack = end + 1;
                if ack <= una {
                    continue;
                }
                una = ack;
                lab.conn.rtt.forget_min();
                lab.i("A", 1, 0, ack);
                let least = lab.conn.rtt.min();
                assert!(least >= lab.now - at, "{least:?} for what left {:?} ago", lab.now - at);
            }
        },
    );
}

/// RFC7323-4.1: the timestamp clock ticks each ms; the least round trip is not below the path's for that.
#[test]
fn rfc7323_4_1_a_tick_more_or_less_is_no_shorter_path() {
    labs(
        |config, opened| {
            config.tlp = false;
            opened.timestamps = Some(7);
            opened.rtt = Some(MS * 300);
        },
        |lab| {
            lab.stamps = Some(Timestamps { val: 7, ecr: 0 });
            lab.write(1_000);
            lab.pass(2_000);
            assert_eq!(info(lab).retransmits, 1);
            let resent = lab.conn.last_sent;
            // The second copy left in the middle of a tick, its echo comes near the end of one.
            lab.conn.recovery.set_resent_at(resent);
            let rtt = Duration::from_micros(50_900);
            lab.now = resent + rtt;
            let sent = (resent.as_millis()) as u32;
            lab.stamps = Some(Timestamps { val: 8, ecr: sent });
            lab.i("A", 1, 0, 989);
            let least = info(lab).min_rtt.unwrap();
            assert!((rtt..rtt + MS).contains(&least), "{least:?}");
        },
    );
}

/// OPS-15: without timestamps the receiver learns the round trip from the time in which its window turns over, also
/// where it has no sample or an old one.
#[test]
fn ops_15_without_timestamps_the_window_tells_the_round_trip() {
    for (handshake, trip) in [(Some(MS * 20), MS * 200), (None, MS * 400), (Some(MS * 200), MS * 20)] {
        labs(
            |config, opened| {
                config.recv_buffer = BufferLimits { initial: 1 << 17, max: 1 << 22 };
                opened.rtt = handshake;
                opened.window_shifts = Some((0, 7));
                opened.receive_window = 65_535;
            },
            |lab| {
                let mut seq = 1;
                for _ in 0..12 {
                    // The peer sends what the window of a round trip ago allows, spread over the round trip.
                    let window = info(lab).receive_window;
                    let pieces = window.div_ceil(1_000);
                    for _ in 0..pieces {
                        lab.now += trip / u64::from(pieces);
                        lab.i("A", seq, 1_000.min(window), 1);
                        lab.read(1_000);
                        seq += 1_000;
                    }
                }
                let buffer = info(lab).receive_buffer;
                assert_eq!(buffer, 1 << 22, "{handshake:?}, {trip:?}");
            },
        );
    }
}

/// OPS-15: a peer that never fills the window is no reason for a larger and larger one.
#[test]
fn ops_15_a_window_that_is_not_filled_does_not_grow_for_ever() {
    labs(
        |config, opened| {
            config.recv_buffer = BufferLimits { initial: 1 << 17, max: 1 << 24 };
            opened.rtt = Some(MS * 20);
            opened.window_shifts = Some((0, 9));
            opened.receive_window = 65_535;
        },
        |lab| {
            for n in 0..20_000 {
                lab.now += MS;
                lab.i("A", 1 + n * 1_000, 1_000, 1);
                lab.read(1_000);
            }
            assert!(info(lab).receive_buffer <= 1 << 20, "{}", info(lab).receive_buffer);
        },
    );
}

/// RFC8985-6.2.1: the shortest round trip is that of five minutes. A path that became longer is believed in the end.
#[test]
fn rfc8985_6_2_1_a_path_that_became_longer_is_believed_in_the_end() {
    plain(|lab| {
        let mut una = 1;
        for (pause, rtt, least) in [(0, 50, 50), (100, 80, 50), (199, 80, 50), (1, 80, 50), (1, 80, 80), (0, 70, 70)] {
            lab.now += MS * (1_000 * pause);
            assert_eq!(lab.write(100).len(), 1);
            lab.now += MS * rtt;
            una += 100;
            lab.i("A", 1, 0, una);
            assert_eq!(info(lab).min_rtt, Some(MS * least), "{} ms after the start", lab.ms());
        }
    });
}
