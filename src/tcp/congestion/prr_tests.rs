//! RFC 9937 by numbers; segments of 1000 octets.

use super::*;

const SMSS: u32 = 1_000;

/// SC-62: 20 segments in flight, the first is lost, the threshold is 10.
#[test]
fn sc_62_one_for_two() {
    let ssthresh = 10 * SMSS;
    // Two had been reported before; with the third 16 are in the network, and the one that is lost is not.
    let mut prr = Prr::new(18 * SMSS);
    let mut pipe = 17 * SMSS;
    let mut sent = 0;
    let mut longest_pause = 0;
    let mut pause = 0;
    for _ in 0..17 {
        pipe -= SMSS;
        let room = prr.on_ack(SMSS, false, pipe, ssthresh, SMSS);
        let segments = room / SMSS;
        assert!(segments <= 1, "no burst: {room}");
        prr.on_sent(segments * SMSS);
        pipe += segments * SMSS;
        sent += segments;
        pause = if segments == 0 { pause + 1 } else { 0 };
        longest_pause = longest_pause.max(pause);
    }
    assert_eq!(sent, 10, "about one for two delivered");
    assert!(longest_pause <= 2);
    assert_eq!(pipe, ssthresh);
}

/// SC-62: most of the window is lost; what leaves is what is delivered, and one segment more for an ACK that proves
/// that all goes well.
#[test]
fn sc_62_rfc9937_6_2d_heavy_loss() {
    for (safe, expected) in [(false, 1), (true, 2)] {
        let mut prr = Prr::new(20 * SMSS);
        assert_eq!(prr.on_ack(SMSS, false, SMSS, 10 * SMSS, SMSS), SMSS);
        prr.on_sent(SMSS);
        for _ in 0..3 {
            let room = prr.on_ack(SMSS, safe, SMSS, 10 * SMSS, SMSS);
            assert_eq!(room, expected * SMSS, "SafeACK {safe}");
            prr.on_sent(room);
        }
    }
}

#[test]
fn rfc9937_6_2d_never_above_the_threshold() {
    let mut prr = Prr::new(20 * SMSS);
    prr.on_sent(SMSS);
    assert_eq!(prr.on_ack(15 * SMSS, true, 9_500, 10 * SMSS, SMSS), 500);
}

#[test]
fn rfc9937_6_2e_the_first_retransmission_leaves_in_any_case() {
    let mut prr = Prr::new(20 * SMSS);
    assert_eq!(prr.on_ack(0, false, 18 * SMSS, 10 * SMSS, SMSS), SMSS);
    prr.on_sent(SMSS);
    assert_eq!(prr.on_ack(0, false, 18 * SMSS, 10 * SMSS, SMSS), 0);
}

#[test]
fn strange_numbers_do_not_overflow() {
    let mut prr = Prr::new(0);
    for _ in 0..3 {
        let room = prr.on_ack(u32::MAX, true, u32::MAX, u32::MAX - 1, SMSS);
        prr.on_sent(room);
        prr.on_ack(u32::MAX, true, 0, u32::MAX, SMSS);
    }
}
