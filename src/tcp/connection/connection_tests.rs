//! Scripted peers against one connection: segments, closing, windows, timestamps.
#![allow(clippy::unwrap_used)]

use crate::tcp::connection::lab::{Lab, labs, none, plain, with_sack};
use crate::tcp::*;
use crate::wire::options::Timestamps;

#[test]
fn sc_20_to_23_old_overlapping_and_far_segments() {
    plain(|lab| {
        assert_eq!(lab.i("PA", 1, 1000, 1), none());
        assert_eq!(lab.i("PA", 1, 500, 1), ["A 1:1 ack 1001"]); // SC-20
        assert_eq!(lab.i("PA", 501, 1000, 1), ["A 1:1 ack 1501"]); // SC-21
        assert_eq!(lab.last.payload, Payload::Deliver { from: 500, to: 1000, released: 0 });
        assert_eq!(lab.i("PA", 70_000, 1000, 1), ["A 1:1 ack 1501"]); // SC-22
        assert_eq!(lab.last.payload, Payload::Ignore);
    });
    labs(
        |config, opened| {
            config.recv_buffer = BufferLimits { initial: 1_000, max: 1_000 };
            opened.receive_window = 1_000;
        },
        |lab| {
            assert_eq!(lab.i("PA", 501, 1000, 1), ["A 1:1 ack 1"]); // SC-23
            assert_eq!(lab.last.payload, Payload::Hold { from: 0, to: 500, offset: 500 });
            assert_eq!(lab.i("PA", 1, 500, 1), ["A 1:1 ack 1001"]);
            assert_eq!(lab.last.payload, Payload::Deliver { from: 0, to: 500, released: 500 });
            assert_eq!(lab.conn.info(&lab.config, lab.now).receive_window, 0);
        },
    );
}

#[test]
fn sc_24_25_sack_and_dsack() {
    with_sack(|lab| {
        assert_eq!(lab.i("A", 1001, 1000, 1), ["A 1:1 ack 1 <1001:2001>"]);
        assert_eq!(lab.i("A", 3001, 1000, 1), ["A 1:1 ack 1 <3001:4001> <1001:2001>"]);
        assert_eq!(lab.i("A", 1, 1000, 1), ["A 1:1 ack 2001 <3001:4001>"]);
        assert_eq!(lab.i("A", 1, 1000, 1), ["A 1:1 ack 2001 <1:1001> <3001:4001>"]);
        assert_eq!(lab.i("A", 3001, 1000, 1), ["A 1:1 ack 2001 <3001:4001> <3001:4001>"]);
        assert_eq!(lab.i("A", 5001, 1000, 1), ["A 1:1 ack 2001 <5001:6001> <3001:4001>"]);
        // Data carries the blocks, and is the shorter for them (KP-18, RFC2018-4b).
        let said = lab.write(2000);
        assert_eq!(said[0], "A 1:981 ack 2001 <5001:6001> <3001:4001>");
    });
}

#[test]
fn kp_05_what_came_early_is_not_asked_for_again() {
    plain(|lab| {
        for seq in [1001, 2001, 3001, 4001] {
            assert_eq!(lab.i("A", seq, 1000, 1), ["A 1:1 ack 1"]);
        }
        assert_eq!(lab.i("A", 1, 1000, 1), ["A 1:1 ack 5001"]);
        assert_eq!(lab.last.payload, Payload::Deliver { from: 0, to: 1000, released: 4000 });
    });
}

#[test]
fn sc_26_fin_out_of_order() {
    plain(|lab| {
        assert_eq!(lab.i("FA", 1001, 0, 1), ["A 1:1 ack 1"]);
        assert!(!lab.conn.at_eof() && lab.last.events.contains(Events::OUT_OF_ORDER));
        assert_eq!(lab.i("PA", 1, 1000, 1), ["A 1:1 ack 1002"]);
        assert!(lab.last.events.contains(Events::EOF));
        assert_eq!(lab.conn.state(), State::CloseWait);
    });
    plain(|lab| {
        // The FIN comes with held data.
        assert_eq!(lab.i("FA", 1001, 500, 1), ["A 1:1 ack 1"]);
        assert_eq!(lab.i("PA", 1, 1000, 1), ["A 1:1 ack 1502"]);
        assert_eq!(lab.last.payload, Payload::Deliver { from: 0, to: 1000, released: 500 });
        assert!(lab.conn.at_eof());
    });
}

#[test]
fn sc_27_to_30_acks_and_windows() {
    plain(|lab| {
        assert_eq!(lab.i("PA", 1, 10, 5000), ["A 1:1 ack 1"]); // SC-27
        assert_eq!(lab.last.payload, Payload::Ignore);
        assert_eq!(lab.i("P", 1, 10, 1), none()); // SC-29
    });
    plain(|lab| {
        // SC-28
        for i in 0..200 {
            lab.write(1000);
            lab.i("A", 1, 0, 1001 + i * 1000);
        }
        assert_eq!(lab.i("PA", 1, 10, 100_001), ["A 200001:200001 ack 1"]);
        assert_eq!(lab.last.payload, Payload::Ignore);
        assert_eq!(lab.i("PA", 1, 10, 140_001), none());
        assert!(matches!(lab.last.payload, Payload::Deliver { .. }));
    });
    plain(|lab| {
        // SC-30
        lab.write(2000);
        lab.i("PA", 1, 500, 1);
        lab.w("A", 501, 0, 2001, 4000);
        assert_eq!(lab.conn.info(&lab.config, lab.now).send_window, 4000);
        lab.w("A", 501, 0, 1001, 9000);
        assert_eq!(lab.conn.info(&lab.config, lab.now).send_window, 4000);
        lab.w("A", 501, 0, 2001, 9000);
        assert_eq!(lab.conn.info(&lab.config, lab.now).send_window, 9000);
    });
}

#[test]
fn sc_34_to_39_resets_and_challenges() {
    plain(|lab| {
        assert_eq!(lab.i("R", 1, 20, 0), none());
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::Reset));
        assert_eq!(lab.last.payload, Payload::Ignore);
    });
    plain(|lab| {
        assert_eq!(lab.i("R", 500, 0, 0), ["A 1:1 ack 1"]); // SC-35
        assert_eq!(lab.i("R", 600, 0, 0), none());
        assert_eq!(lab.i("R", 70_001, 0, 0), none());
        for seq in [1, 0, 90_000] {
            lab.pass(600);
            assert_eq!(lab.i("S", seq, 0, 0), ["A 1:1 ack 1"]); // SC-36
        }
        assert_eq!(lab.conn.state(), State::Established);
        assert_eq!(lab.i("R", 1, 0, 0), none());
        assert_eq!(lab.conn.state(), State::Closed);
    });
    plain(|lab| {
        lab.write(500);
        let reset = lab.conn.abort().unwrap(); // SC-38
        assert_eq!(lab.show(&reset), "RA 501:501 ack 1");
        assert_eq!(lab.i("A", 1, 0, 1), ["R 1:1"]);
    });
    plain(|lab| {
        lab.i("FA", 1, 0, 1);
        lab.i("R", 1, 0, 1); // SC-39, SM-RST-4
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::Reset));
    });
}

#[test]
fn sc_40_to_44_closing() {
    plain(|lab| {
        assert_eq!(lab.close(), ["FA 1:1 ack 1"]); // SC-40
        assert_eq!(lab.i("A", 1, 0, 2), none());
        assert_eq!(lab.conn.state(), State::FinWait2);
        assert_eq!(lab.i("FA", 1, 0, 2), ["A 2:2 ack 2"]);
        assert!(lab.last.events.contains(Events::TIME_WAIT));
    });
    plain(|lab| {
        assert_eq!(lab.shutdown(), ["FA 1:1 ack 1"]); // SC-41
        lab.i("A", 1, 0, 2);
        assert_eq!(lab.i("PA", 1, 1000, 2), none());
        assert_eq!(lab.i("PA", 1001, 1000, 2), ["A 2:2 ack 2001"]);
        assert_eq!(lab.i("FA", 2001, 0, 2), ["A 2:2 ack 2002"]);
        assert_eq!(lab.conn.state(), State::TimeWait);
    });
    plain(|lab| {
        assert_eq!(lab.i("FA", 1, 0, 1), ["A 1:1 ack 2"]); // SC-42
        assert_eq!(lab.write(2500), ["A 1:1001 ack 2", "A 1001:2001 ack 2", "PA 2001:2501 ack 2"]);
        assert_eq!(lab.close(), ["FA 2501:2501 ack 2"]);
        assert_eq!(lab.conn.state(), State::LastAck);
        assert_eq!(lab.i("A", 2, 0, 2502), none());
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::Normal));
        assert_eq!(lab.i("A", 2, 0, 2502), ["R 2502:2502"]);
    });
    plain(|lab| {
        assert_eq!(lab.close(), ["FA 1:1 ack 1"]); // SC-43
        assert_eq!(lab.i("FA", 1, 0, 1), ["A 2:2 ack 2"]);
        assert_eq!(lab.conn.state(), State::Closing);
        assert_eq!(lab.i("A", 2, 0, 2), none());
        assert_eq!(lab.conn.state(), State::TimeWait);
    });
    plain(|lab| {
        lab.close(); // SC-44
        assert_eq!(lab.i("FA", 1, 0, 2), ["A 2:2 ack 2"]);
        assert_eq!(lab.conn.state(), State::TimeWait);
    });
}

#[test]
fn sc_47_48_unread_data_and_prompt_fin() {
    plain(|lab| {
        lab.i("PA", 1, 500, 1);
        assert_eq!(lab.close(), ["RA 1:1 ack 501"]); // KP-17
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::Aborted));
    });
    plain(|lab| {
        lab.i("PA", 1, 500, 1);
        lab.read(500);
        lab.close();
        lab.i("A", 501, 0, 2);
        assert_eq!(lab.i("PA", 501, 100, 2), ["RA 2:2 ack 501"]); // KP-16
        assert_eq!(lab.conn.state(), State::Closed);
    });
    plain(|lab| {
        lab.conn.on_send(1500); // KP-15
        assert_eq!(lab.shutdown(), ["A 1:1001 ack 1", "FPA 1001:1501 ack 1"]);
        // The FIN is lost again and again.
        lab.i("A", 1, 0, 1501);
        let said = lab.pass(7_000);
        let times: Vec<_> = said.iter().map(|line| line.split_once(' ').unwrap()).collect();
        let fin = "FA 1501:1501 ack 1";
        assert_eq!(times, [("200", fin), ("600", fin), ("1400", fin), ("3000", fin), ("6200", fin)]);
    });
    plain(|lab| {
        lab.close(); // SM-FW2-5
        lab.i("A", 1, 0, 2);
        assert_eq!(lab.pass(59_000), none());
        assert_eq!(lab.conn.state(), State::FinWait2);
        lab.pass(2_000);
        assert_eq!(lab.conn.state(), State::Closed);
    });
}

#[test]
fn sc_49_persist() {
    plain(|lab| {
        lab.w("A", 1, 0, 1, 0);
        assert_eq!(lab.write(5000), none());
        let mut gaps = Vec::new();
        let mut last = 0;
        while lab.ms() < 7_200_000 {
            let said = lab.pass(100);
            for line in &said {
                assert!(line.ends_with("A 0:0 ack 1"), "{line}");
                gaps.push(lab.ms() - last);
                last = lab.ms();
                assert_eq!(lab.w("A", 1, 0, 1, 0), none());
            }
        }
        assert_eq!(gaps[..8], [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 120_000]);
        assert_eq!(lab.conn.state(), State::Established, "MUST-37");
        assert_eq!(lab.w("A", 1, 0, 1, 5000).len(), 5);
    });
    plain(|lab| {
        lab.w("A", 1, 0, 1, 0);
        lab.write(5000);
        lab.pass(899_000);
        assert_eq!(lab.conn.state(), State::Established);
        lab.pass(2_000);
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::TimedOut));
    });
    plain(|lab| {
        // A FIN behind a closed window is not stuck for ever.
        lab.w("A", 1, 0, 1, 0);
        assert_eq!(lab.close(), none());
        assert_eq!(lab.pass(1_000), ["1000 FA 1:1 ack 1"]);
        assert_eq!(lab.pass(2_000), ["2000 FA 1:1 ack 1"]);
        lab.w("FA", 1, 0, 2, 0);
        assert_eq!(lab.conn.state(), State::TimeWait);
    });
}

#[test]
fn sc_50_a_shrunken_window() {
    plain(|lab| {
        assert_eq!(lab.w("A", 1, 0, 1, 10_000), none());
        assert_eq!(lab.write(20_000).len(), 10);
        assert_eq!(lab.w("A", 1, 0, 1001, 2000), none());
        assert_eq!(lab.pass(300), ["200 A 1001:2001 ack 1"]);
        assert_eq!(lab.w("A", 1, 0, 2001, 1000), ["A 2001:3001 ack 1"]);
        assert_eq!(lab.w("A", 1, 0, 3001, 0), none());
        for _ in 0..3600 {
            for _ in lab.pass(1000) {
                lab.w("A", 1, 0, 3001, 0);
            }
        }
        assert_eq!(lab.conn.state(), State::Established, "SHLD-17");
        assert_eq!(lab.w("A", 1, 0, 3001, 20_000)[0], "A 3001:4001 ack 1");
    });
}

#[test]
fn sc_51_52_receiver_sws() {
    let small = |config: &mut Config, opened: &mut Opened| {
        config.recv_buffer = BufferLimits { initial: 10_000, max: 10_000 };
        opened.receive_window = 10_000;
    };
    labs(small, |lab| {
        for i in 0..10 {
            lab.i("A", 1 + i * 1000, 1000, 1);
        }
        assert_eq!(lab.conn.info(&lab.config, lab.now).receive_window, 0);
        assert_eq!(lab.read(1), none());
        assert_eq!(lab.read(500), none());
        assert_eq!(lab.read(499), ["A 1:1 ack 10001"]);
        assert_eq!(lab.conn.info(&lab.config, lab.now).receive_window, 1000);
        assert_eq!(lab.read(9000), ["A 1:1 ack 10001"]);
        assert_eq!(lab.conn.info(&lab.config, lab.now).receive_window, 10_000);
    });
    labs(small, |lab| {
        // KP-12
        for i in 0..10 {
            lab.i("A", 1 + i * 1000, 1000, 1);
        }
        lab.read(1);
        assert_eq!(lab.i("A", 10_001, 1, 1), ["A 1:1 ack 10001"]);
        assert_eq!(lab.write(30_000).len(), 10);
        let said = lab.i("A", 10_001, 1, 5001);
        assert_eq!(said[0], "A 10001:10001 ack 10001");
        assert_eq!(said[1], "A 10001:11001 ack 10001");
        assert_eq!(lab.conn.info(&lab.config, lab.now).bytes_acked, 5000);
        // SC-37: a reset is heard, too.
        lab.i("R", 10_001, 0, 0);
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::Reset));
    });
}

#[test]
fn sc_53_sender_sws() {
    labs(
        |_, opened| opened.send_window = 4000,
        |lab| {
            lab.w("A", 1, 0, 1, 100);
            assert_eq!(lab.write(5000), none());
            assert_eq!(lab.pass(300), ["200 A 1:101 ack 1"]);
            assert_eq!(lab.w("A", 1, 0, 101, 100), none());
            assert_eq!(lab.w("A", 1, 0, 101, 2000), ["A 101:1101 ack 1", "A 1101:2101 ack 1"]);
        },
    );
}

#[test]
fn sc_54_nagle() {
    plain(|lab| {
        assert_eq!(lab.write(10), ["PA 1:11 ack 1"]);
        assert_eq!(lab.write(10), none());
        assert_eq!(lab.write(10), none());
        assert_eq!(lab.i("A", 1, 0, 11), ["PA 11:31 ack 1"]);
        lab.i("A", 1, 0, 31);
        assert_eq!(lab.write(1000), ["PA 31:1031 ack 1"]);
        assert_eq!(lab.write(10), ["PA 1031:1041 ack 1"]); // NAGLE-3
        assert_eq!(lab.write(10), none());
        lab.conn.set_nodelay(true);
        assert_eq!(lab.write(0), ["PA 1041:1051 ack 1"]); // NAGLE-2
        assert_eq!(lab.write(10), ["PA 1051:1061 ack 1"]);
    });
}

#[test]
fn sc_55_delayed_ack() {
    plain(|lab| {
        assert_eq!(lab.i("PA", 1, 1000, 1), none());
        assert_eq!(lab.pass(100), ["40 A 1:1 ack 1001"]);
        assert_eq!(lab.i("PA", 1001, 1000, 1), none());
        assert_eq!(lab.i("PA", 2001, 1000, 1), ["A 1:1 ack 3001"]);
        assert_eq!(lab.i("PA", 3001, 10, 1), none());
        assert_eq!(lab.i("PA", 3011, 10, 1), ["A 1:1 ack 3021"]); // RFC5681-4.2b
        assert_eq!(lab.i("PA", 3021, 10, 1), none());
        assert_eq!(lab.write(5), ["PA 1:6 ack 3031"]);
        assert_eq!(lab.pass(100), none());
    });
    labs(
        |config, _| config.quick_acks = 16,
        |lab| {
            // OPS-6
            for i in 0..16 {
                assert_eq!(lab.i("PA", 1 + i * 10, 10, 1).len(), 1);
            }
            assert_eq!(lab.i("PA", 161, 10, 1), none());
        },
    );
}

#[test]
fn sc_69_timestamps_and_paws() {
    let stamped = |_: &mut Config, opened: &mut Opened| opened.timestamps = Some(0);
    let echoed = |lab: &mut Lab, val: u32, seq: u32, len: u32| {
        lab.stamps = Some(Timestamps { val, ecr: 0 });
        lab.i("A", seq, len, 1);
        lab.conn.receiver.timestamps().last().unwrap().0.0
    };
    labs(stamped, |lab| {
        assert_eq!(echoed(lab, 1, 1, 100), 1);
        assert_eq!(echoed(lab, 2, 101, 100), 1, "the first of those acknowledged together");
        assert_eq!(echoed(lab, 3, 301, 100), 1, "above a hole");
        assert_eq!(echoed(lab, 4, 201, 100), 4, "fills the hole");
        lab.stamps = Some(Timestamps { val: u32::MAX, ecr: 0 });
        assert_eq!(lab.i("A", 401, 100, 1), ["A 1:1 ack 401"], "before the SYN");
        assert_eq!(lab.last.payload, Payload::Ignore);
        assert_eq!(lab.conn.info(&lab.config, lab.now).paws_drops, 1);
        lab.stamps = None;
        assert_eq!(lab.i("A", 401, 100, 1), none());
        assert_eq!(lab.conn.info(&lab.config, lab.now).paws_drops, 1, "lacks them, but is not old");
        lab.now += Duration::from_secs(25 * 24 * 3_600);
        lab.stamps = Some(Timestamps { val: 3, ecr: 0 });
        lab.i("A", 401, 100, 1);
        assert!(matches!(lab.last.payload, Payload::Deliver { .. }), "RFC7323-5.5");
        // SC-34: RST is not subject to PAWS.
        lab.stamps = Some(Timestamps { val: 1, ecr: 0 });
        lab.i("R", 501, 0, 1);
        assert_eq!(lab.conn.state(), State::Closed);
    });
}

/// MUST-31, RFC6093-4.
#[test]
fn sc_76_urgent() {
    plain(|lab| {
        lab.i("PAU", 1, 10, 1);
        assert!(lab.last.events.contains(Events::URGENT));
        assert_eq!(lab.conn.urgent(), 5);
        lab.read(5);
        assert_eq!(lab.conn.urgent(), 0);
        assert_eq!(lab.last.payload, Payload::Deliver { from: 0, to: 10, released: 0 });
    });
}

/// Half the number line later the old pointer would lie ahead again.
#[test]
fn an_urgent_pointer_that_was_passed_is_over() {
    plain(|lab| {
        lab.i("PAU", 1, 10, 1);
        lab.read(4);
        assert_eq!(lab.conn.urgent(), 1);
        lab.read(6);
        for octets in [1 << 30, (1 << 30) + 100] {
            lab.conn.receiver.skip(octets, 10_000);
            lab.read(0);
            assert_eq!(lab.conn.urgent(), 0, "passed long ago");
        }
        // And a new one is heard of.
        let seq = lab.conn.receiver.nxt().0.wrapping_sub(lab.irs.0);
        lab.i("PAU", seq, 10, 1);
        assert!(lab.last.events.contains(Events::URGENT));
        assert_eq!(lab.conn.urgent(), 5);
    });
}

#[test]
fn sc_77_user_timeout() {
    plain(|lab| {
        lab.conn.set_user_timeout(Some(Duration::from_secs(5)));
        lab.write(100);
        lab.pass(4_900);
        assert_eq!(lab.conn.state(), State::Established);
        lab.pass(200);
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::UserTimeout));
    });
    plain(|lab| {
        lab.write(100);
        lab.pass(2_000);
        lab.conn.set_user_timeout(Some(Duration::from_secs(5)));
        lab.pass(3_100);
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::UserTimeout));
    });
}

#[test]
fn ops_46_memory_pressure() {
    plain(|lab| {
        assert_eq!(lab.keep(Keep::in_order(0), "A", 1, 1000, 1, 65_535), none());
        assert_eq!(lab.last.payload, Payload::Ignore);
        assert_eq!(lab.keep(Keep::in_order(1_000), "A", 1001, 1000, 1, 65_535), ["A 1:1 ack 1"]);
        assert_eq!(lab.last.payload, Payload::Ignore);
        lab.keep(Keep::in_order(1_000), "A", 1, 1000, 1, 65_535);
        assert_eq!(lab.last.payload, Payload::Deliver { from: 0, to: 1000, released: 0 });
        // ACKs count whatever the memory.
        lab.write(1000);
        lab.keep(Keep::in_order(0), "A", 1001, 1000, 1001, 65_535);
        assert_eq!(lab.last.acked, 1000);
    });
}

/// Refused is what the peer has to send again: not what is here already, nor what lies beyond the window or the FIN.
#[test]
fn ops_46_octets_refused_are_counted() {
    let refused = |lab: &Lab| lab.last.events.contains(Events::REFUSED).then(|| lab.conn.refused());
    plain(|lab| {
        lab.keep(Keep::in_order(0), "A", 1, 1_000, 1, 65_535);
        assert_eq!(refused(lab), Some(1_000), "all of it");
        lab.keep(Keep::in_order(700), "A", 1, 1_000, 1, 65_535);
        assert_eq!(refused(lab), Some(300), "what the room has cut off");
        lab.keep(Keep::in_order(0), "A", 1, 1_000, 1, 65_535);
        assert_eq!(refused(lab), Some(300), "the rest once more");
        lab.i("A", 1_001, 500, 1);
        assert_eq!(refused(lab), None);
        lab.keep(Keep::in_order(0), "A", 701, 1_000, 1, 65_535);
        assert_eq!(refused(lab), Some(500), "the half that is held was not sent in vain");
        lab.keep(Keep::in_order(0), "A", 1_001, 500, 1, 65_535);
        assert_eq!(refused(lab), None, "nothing of it is new");
        lab.keep(Keep::in_order(100), "A", 701, 1_000, 1, 65_535);
        assert_eq!(refused(lab), Some(400), "in order up to 801, held from 1001 to 1501");
        lab.keep(Keep::in_order(400), "A", 801, 900, 1, 65_535);
        assert_eq!(lab.last.payload, Payload::Deliver { from: 0, to: 400, released: 300 });
        assert_eq!(refused(lab), Some(200), "what comes behind the held octets");
    });
    plain(|lab| {
        lab.i("A", 1, 65_000, 1);
        lab.keep(Keep::in_order(100), "A", 65_001, 1_000, 1, 65_535);
        assert_eq!(refused(lab), Some(435), "beyond the window nothing was promised");
    });
    plain(|lab| {
        lab.i("FA", 1_001, 0, 1);
        lab.keep(Keep::in_order(0), "A", 1, 2_000, 1, 65_535);
        assert_eq!(refused(lab), Some(1_000), "there is nothing behind a FIN");
    });
    // OPS-26: as many pieces as there may be, and one more; what joins two of them is taken.
    labs(
        |config, _| config.recv_buffer = BufferLimits { initial: 60_000, max: 60_000 },
        |lab| {
            for piece in 1..=64 {
                lab.i("A", 10 * piece, 1, 1);
                assert_eq!(refused(lab), None);
            }
            lab.i("A", 1_000, 7, 1);
            assert_eq!(refused(lab), Some(7));
            lab.i("A", 11, 9, 1);
            assert_eq!(refused(lab), None);
            lab.i("A", 1_000, 7, 1);
            assert_eq!(refused(lab), None);
        },
    );
}

/// As many pieces as the window has segments of this peer, whose link carries less than ours.
#[test]
fn ops_26_pieces_are_as_small_as_the_peers_segments() {
    let wide = |config: &mut Config, opened: &mut Opened| {
        config.recv_buffer = BufferLimits { initial: 1 << 20, max: 1 << 20 };
        (opened.receive_window, opened.window_shifts) = (1 << 20, Some((0, 7)));
        (opened.receive_mss, opened.send_mss) = (60_000, 1_000);
    };
    labs(wide, |lab| {
        for piece in 0..520 {
            lab.i("A", 1_001 + 2_000 * piece, 1_000, 1);
            assert!(!lab.last.events.contains(Events::REFUSED), "{piece}");
        }
    });
}

/// A room beyond half of the sequence space is no negative one.
#[test]
fn ops_46_any_room_is_room() {
    for room in [1_000, 1 << 31, u32::MAX - 1, u32::MAX] {
        plain(|lab| {
            lab.keep(Keep::in_order(room), "A", 1, 1_000, 1, 65_535);
            assert_eq!(lab.last.payload, Payload::Deliver { from: 0, to: 1_000, released: 0 }, "{room}");
        });
    }
}

/// Of the share a quarter may lie behind a gap: SACK tells the peer at once what was refused before it.
#[test]
fn ops_46_what_lies_behind_a_gap_gets_a_quarter_of_the_share() {
    with_sack(|lab| {
        lab.keep(Keep::in_order(3_000), "A", 5_001, 1_000, 1, 65_535);
        assert_eq!(lab.last.payload, Payload::Ignore, "less than a segment of it is not worth while");
        let told = lab.keep(Keep::in_order(6_000), "A", 5_001, 3_000, 1, 65_535);
        assert_eq!(told, ["A 1:1 ack 1 <5001:6501>"]);
        lab.keep(Keep::in_order(2_000), "A", 1, 1_000, 1, 65_535);
        assert_eq!(lab.last.payload, Payload::Deliver { from: 0, to: 1_000, released: 0 });
    });
}

/// What is beyond the room is cut off, not acknowledged, and not promised any more.
#[test]
fn ops_46_the_window_follows_the_room_of_the_store() {
    plain(|lab| {
        let before = lab.conn.info(&lab.config, lab.now);
        lab.keep(Keep::in_order(700), "A", 1, 1_000, 1, 65_535);
        assert_eq!(lab.last.payload, Payload::Deliver { from: 0, to: 700, released: 0 });
        let info = lab.conn.info(&lab.config, lab.now);
        assert_eq!(info.receive_window, before.receive_window - 700, "what was promised stays promised (SHLD-14)");
        assert!(info.receive_buffer < before.receive_buffer);
        // All of the window comes, in pieces, and no more than it; the reader is slow.
        let mut from = 701;
        while lab.conn.info(&lab.config, lab.now).receive_window > 0 {
            lab.keep(Keep::in_order(1_000), "A", from, 1_000, 1, 65_535);
            from += 1_000;
        }
        lab.keep(Keep::in_order(0), "A", from, 1_000, 1, 65_535);
        assert_eq!(lab.conn.info(&lab.config, lab.now).receive_window, 0);
        // Read, it opens again; and grows when there is memory.
        let unread = lab.conn.unread();
        lab.conn.on_recv(&lab.config, unread, lab.now);
        lab.keep(Keep::in_order(700), "A", from, 700, 1, 65_535);
        lab.conn.on_recv(&lab.config, 700, lab.now);
        assert_eq!(lab.conn.info(&lab.config, lab.now).receive_buffer, 700);
        for _ in 0..200 {
            let (nxt, window) = (lab.conn.info(&lab.config, lab.now).bytes_received + 1, 1_000);
            lab.keep(Keep::All, "A", nxt as u32, window, 1, 65_535);
            lab.conn.on_recv(&lab.config, window, lab.now);
            lab.pass(1);
        }
        assert!(
            lab.conn.info(&lab.config, lab.now).receive_buffer >= 20_000,
            "{:?}",
            lab.conn.info(&lab.config, lab.now)
        );
    });
    // It grows with the share, up to what a connection begins with; the room for one segment is no reason.
    plain(|lab| {
        let mut from = 1;
        for (share, buffer) in [(10_000, 10_000), (5_000, 5_000), (20_000, 20_000), (1 << 20, 65_535)] {
            lab.keep(Keep::InOrder { room: 66_000, share }, "A", from, 1_000, 1, 65_535);
            lab.conn.on_recv(&lab.config, 1_000, lab.now);
            from += 1_000;
            assert_eq!(lab.conn.info(&lab.config, lab.now).receive_buffer, buffer);
        }
    });
    plain(|lab| {
        lab.conn.set_receive_buffer(30_000);
        lab.keep(Keep::in_order(700), "A", 1, 1_000, 1, 65_535);
        assert_eq!(lab.conn.info(&lab.config, lab.now).receive_buffer, 30_000, "what the user has set stays");
    });
}

#[test]
fn super_segments() {
    labs(
        |_, opened| opened.rtt = Some(Duration::from_micros(50)),
        |lab| {
            lab.max_len = 65_535;
            assert_eq!(lab.write(30_500), ["A 1:10001 ack 1"]);
            // TSO defer: half a window at least, or all there is.
            assert_eq!(lab.i("A", 1, 0, 2001), none());
            assert_eq!(lab.i("A", 1, 0, 6001), ["A 10001:22001 ack 1"]);
            assert_eq!(lab.i("A", 1, 0, 22_001), ["PA 22001:30501 ack 1"]);
        },
    );
}

/// REC-1.
#[test]
fn the_peers_window_scale() {
    // SC-16
    labs(
        |_, opened| {
            opened.window_shifts = Some((7, 2));
            opened.unscaled_rest = true;
            opened.send_window = 8000;
        },
        |lab| {
            lab.w("A", 1, 0, 1, 8000);
            assert_eq!(lab.conn.info(&lab.config, lab.now).send_window, 8000);
            lab.w("A", 1, 0, 1, 100);
            assert_eq!(lab.conn.info(&lab.config, lab.now).send_window, 12_800);
        },
    );
}

#[test]
fn congestion_control_changes_under_way_and_the_window_stays() {
    labs(
        |config, _| config.congestion = CongestionControl::Cubic,
        |lab| {
            lab.write(100_000);
            lab.i("A", 1, 0, 8001);
            assert_eq!(lab.conn.info(&lab.config, lab.now).flight, 18_000);
            lab.pass(1500);
            lab.i("A", 1, 0, 9001);
            let before = lab.conn.info(&lab.config, lab.now);
            assert_eq!((before.congestion, before.ssthresh), (CongestionControl::Cubic, 12_600));
            lab.conn.set_congestion(&lab.config, CongestionControl::Reno);
            let after = lab.conn.info(&lab.config, lab.now);
            assert_eq!(after.congestion.name(), "reno");
            assert_eq!((after.cwnd, after.ssthresh), (before.cwnd, before.ssthresh));
        },
    );
}

/// OPS-12: over a real path a burst is what the window lets go in a millisecond or two, or two segments; within a
/// machine it is half of the window.
#[test]
fn ops_12_bursts_are_sized_by_rate() {
    for (rtt, goal) in
        [(Duration::from_micros(50), 20), (Duration::from_millis(10), 5), (Duration::from_millis(100), 2)]
    {
        labs(
            |config, opened| {
                config.initial_window = 40;
                opened.rtt = Some(rtt);
            },
            |lab| {
                lab.max_len = 64_000;
                lab.write(200_000);
                let cwnd = lab.conn.info(&lab.config, lab.now).cwnd;
                // In slow start each ACK would make room for twice as much.
                lab.conn.congestion.set_ssthresh(cwnd);
                let mut held = 0;
                while lab.i("A", 1, 0, 1 + (held + 1) * 1_000).is_empty() {
                    held += 1;
                    assert!(held < 40, "nothing ends the wait");
                }
                assert_eq!(held + 1, goal, "{rtt:?}, window {cwnd}");
            },
        );
    }
}

/// The handshake is complete on our side, and the peer does not know it yet.
#[test]
fn the_first_ack_is_owed_until_something_carries_it() {
    labs(
        |_, opened| opened.ack_due = true,
        |l| {
            assert!(l.conn.owes_first_ack());
            l.write(100);
            assert!(!l.conn.owes_first_ack(), "data has carried it");
        },
    );
    labs(
        |_, opened| opened.ack_due = true,
        |l| {
            l.write(0);
            assert!(!l.conn.owes_first_ack(), "it has left");
            l.i("A", 1, 1_000, 1);
            assert!(!l.conn.owes_first_ack(), "an ACK is held back, and it is not the first");
        },
    );
    plain(|l| assert!(!l.conn.owes_first_ack()));
}

/// A connection that has more to say than it may need not be a stream.
#[test]
fn records_for_a_stream_come_when_it_is_one() {
    plain(|l| {
        l.write(60_000);
        assert!(l.conn.recovery.capacity() <= 16, "{}", l.conn.recovery.capacity());
        let mut acked = 1;
        for _ in 0..9 {
            acked += l.conn.info(&l.config, l.now).flight;
            l.i("A", 1, 0, acked);
            l.write(60_000);
        }
        assert!(acked > 65_536 && l.conn.recovery.capacity() >= 256, "{acked}");
    });
}

/// OPS-6: quick acknowledgments come back after a pause.
#[test]
fn ops_6_after_a_pause_each_segment_is_acknowledged_at_once_again() {
    labs(
        |config, _| config.quick_acks = 2,
        |l| {
            let acked_at_once = |l: &mut Lab, at: u32| l.i("A", at, 100, 1).len();
            let first: Vec<_> = (0..4).map(|i| acked_at_once(l, 1 + i * 100)).collect();
            l.pass(500);
            let busy = acked_at_once(l, 401);
            l.pass(2_000);
            let later: Vec<_> = (5..7).map(|i| acked_at_once(l, 1 + i * 100)).collect();
            assert_eq!(first[..2], [1, 1], "{first:?}");
            assert_eq!((busy, &later[..]), (0, &[1, 1][..]));
        },
    );
}

/// SM-LA-1: the ACK of our FIN ends it, whatever else is in the segment.
#[test]
fn data_with_the_last_ack_is_not_answered() {
    plain(|l| {
        l.i("FA", 1, 0, 1);
        assert_eq!(l.close(), ["FA 1:1 ack 2"]);
        assert_eq!(l.i("A", 2, 100, 2), none());
        assert_eq!(l.conn.state(), State::Closed);
    });
}
