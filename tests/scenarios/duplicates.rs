//! What arrives twice is reported (RFC 2883 section 4), wherever its first copy lies.

use super::harness::{Host, Isn, each_isn, plain};
use trust::tcp::State;

fn selective(isn: Isn) -> Host {
    Host::established_with(isn, plain(), "S 0:0 win 65535 <mss 1000, sackOK>", "A 1:1 ack 1")
}

#[test]
fn rfc2883_4a_a_segment_in_order_over_a_held_block_is_reported() {
    each_isn(|isn| {
        // Ends within the block, with it, and behind it.
        for (end, ack, block) in [(1_501, 2_001, "1001:1501"), (2_001, 2_001, "1001:2001"), (2_501, 2_501, "1001:2001")]
        {
            let mut host = selective(isn);
            host.inject("A 1001:2001 ack 1");
            host.expect("A 1:1 ack 1 <sack 1001:2001>");
            host.inject(&format!("A 1:{end} ack 1"));
            host.expect(&format!("A 1:1 ack {ack} <sack {block}>"));
            assert_eq!(host.readable(), ack - 1);
        }
        // Without an overlap there is nothing to report.
        let mut host = selective(isn);
        host.inject("A 1001:2001 ack 1");
        host.take();
        host.inject("A 1:1001 ack 1");
        host.expect("A 1:1 ack 2001 <>");
    });
}

/// RFC2883-4b: the block that holds the duplicate comes second.
#[test]
fn rfc2883_4a_a_segment_partly_held_is_reported() {
    each_isn(|isn| {
        for (segment, block, held) in [
            ("A 2501:3501 ack 1", "2501:3001", "2001:3501"),
            ("A 1501:2501 ack 1", "2001:2501", "1501:3001"),
            ("A 1501:3501 ack 1", "2001:3001", "1501:3501"),
            ("A 2101:2901 ack 1", "2101:2901", "2001:3001"),
        ] {
            let mut host = selective(isn);
            host.inject("A 2001:3001 ack 1");
            host.expect("A 1:1 ack 1 <sack 2001:3001>");
            host.inject(segment);
            host.expect(&format!("A 1:1 ack 1 <sack {block} {held}>"));
            // Once only.
            host.inject("A 5001:5101 ack 1");
            host.expect(&format!("A 1:1 ack 1 <sack 5001:5101 {held}>"));
        }
    });
}

/// One run of octets for each segment (RFC2883-4a): the lowest.
#[test]
fn rfc2883_4a_a_segment_over_several_held_blocks_reports_the_first() {
    each_isn(|isn| {
        for (segment, answer) in [
            ("A 1001:4001 ack 1", "A 1:1 ack 1 <sack 1501:2001 1001:4001>"),
            ("A 1:4001 ack 1", "A 1:1 ack 4001 <sack 1501:2001>"),
        ] {
            let mut host = selective(isn);
            host.inject("A 1501:2001 ack 1");
            host.take();
            host.inject("A 3001:3501 ack 1");
            host.take();
            host.inject(segment);
            host.expect(answer);
        }
    });
}

/// Below RCV.NXT and over a held block: the lower part counts.
#[test]
fn rfc2883_4a_a_segment_old_in_front_and_held_behind_reports_the_front() {
    each_isn(|isn| {
        let mut host = selective(isn);
        host.inject("A 1:501 ack 1");
        host.inject("A 1001:2001 ack 1");
        host.take();
        host.inject("A 1:1501 ack 1");
        host.expect("A 1:1 ack 2001 <sack 1:501>");
    });
}

/// The first copy lost only its FIN, or the window ended behind it.
#[test]
fn rfc2883_4a_old_data_with_a_new_fin_is_reported() {
    each_isn(|isn| {
        let mut host = selective(isn);
        host.inject("A 1:501 ack 1");
        host.advance(200);
        host.expect("A 1:1 ack 501");
        host.inject("FA 1:501 ack 1");
        host.expect("A 1:1 ack 502 <sack 1:501>");
        host.assert_state(State::CloseWait);
    });
}

/// RFC2883-4c.
#[test]
fn rfc2883_4c_a_held_duplicate_that_paws_rejects_is_reported() {
    each_isn(|isn| {
        let (syn, ack) = ("S 0:0 <mss 1000, sackOK, ts 100 0>", "A 1:1 ack 1 <ts 100 *>");
        let mut host = Host::established_with(isn, plain(), syn, ack);
        host.inject("A 1001:1501 ack 1 <ts 101 *>");
        host.expect("A 1:1 ack 1 <ts * 100, sack 1001:1501>");
        for (at, stamp) in [(1, 200), (101, 1_200), (201, 2_200)] {
            host.inject(&format!("A {at}:{} ack 1 <ts {stamp} *>", at + 100));
            host.expect(&format!("A 1:1 ack {} <ts * {stamp}, sack 1001:1501>", at + 100));
            host.advance(1_000);
        }
        host.inject("A 1001:1501 ack 1 <ts 101 *>");
        host.expect("A 1:1 ack 301 <ts * 2200, sack 1001:1501 1001:1501>");
        assert_eq!(host.info().paws_drops, 1);
    });
}
