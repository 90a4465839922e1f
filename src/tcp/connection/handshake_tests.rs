//! Opening by scripts; numbers are relative to the initial ones.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::tcp::{Context, HalfOpen, Keep};

const ISS: SeqNum = SeqNum(u32::MAX);
const IRS: SeqNum = SeqNum(i32::MAX as u32);

fn t(ms: u64) -> Instant {
    Instant::from_secs(50) + Duration::from_millis(ms)
}

fn params() -> OpenParams {
    OpenParams { iss: ISS, ts_offset: 1_000, mss: 1460, peer_mss: 536, first_window: FirstWindow::Full }
}

fn seg(flags: Flags, seq: u32, ack: u32) -> Segment {
    Segment {
        seq: IRS + seq,
        ack: ISS + ack,
        flags,
        window: UnscaledWindow(8000),
        urgent: 0,
        options: TcpOptions::default(),
        len: 0,
    }
}

const SYN_ACK: Flags = Flags(0x12);

/// An active open whose SYN is out.
fn connecting(config: &Config) -> Handshake {
    let mut new = Handshake::connect(config, params(), t(0));
    let syn = new.poll_transmit(config, t(0)).unwrap();
    assert_eq!((syn.seq, syn.ack, syn.flags), (ISS, SeqNum(0), Flags::SYN));
    assert!(new.poll_transmit(config, t(0)).is_none());
    new
}

/// A passive open whose SYN-ACK is out.
fn accepting(config: &Config, options: TcpOptions) -> Handshake {
    let mut syn = seg(Flags::SYN, 0, 0);
    syn.options = options;
    let mut new = Handshake::accept(config, params(), &syn, t(0));
    let answer = new.poll_transmit(config, t(0)).unwrap();
    assert_eq!((answer.seq, answer.ack, answer.flags), (ISS, IRS + 1, SYN_ACK));
    new
}

fn opened(outcome: HandshakeOutcome) -> (Connection, Segment) {
    match outcome {
        HandshakeOutcome::Established { connection, rest } => (connection, rest),
        other => panic!("not open: {other:?}"),
    }
}

fn replied(outcome: HandshakeOutcome) -> (SeqNum, Flags) {
    match outcome {
        HandshakeOutcome::Reply(out) => (out.seq, out.flags),
        other => panic!("no reply: {other:?}"),
    }
}

/// Both opens, with what a listener keeps in between; the SYN's window, the ACK's and the buffer agree.
#[test]
fn ops_46_where_memory_is_short_the_first_window_is_modest() {
    let config = Config::default();
    for (first_window, window, buffer) in [
        (FirstWindow::Full, 65_535, config.recv_buffer.initial),
        (FirstWindow::within(u32::MAX), 4_096, 4_096),
        (FirstWindow::within(4_095), 1_024, 1_024),
        (FirstWindow::within(0), 256, 256),
    ] {
        let params = OpenParams { first_window, ..params() };
        let mut syn = seg(Flags::SYN, 0, 0);
        syn.options = TcpOptions { window_scale: Some(2), ..TcpOptions::default() };
        let mut passive = Handshake::accept(&config, params, &syn, t(0));
        assert_eq!(passive.poll_transmit(&config, t(0)).unwrap().window.0, window);
        let mut passive = crate::tcp::HalfOpen::pack(&passive).unwrap().unpack();
        let (open, _) = opened(passive.on_segment(&config, &seg(Flags::ACK, 1, 1), t(9)));
        let info = open.info(&config, t(9));
        assert_eq!((info.receive_window, info.receive_buffer), (u32::from(window), buffer));
        let mut active = Handshake::connect(&config, params, t(0));
        assert_eq!(active.poll_transmit(&config, t(0)).unwrap().window.0, window);
        let (open, _) = opened(active.on_segment(&config, &seg(SYN_ACK, 0, 1), t(9)));
        let info = open.info(&config, t(9));
        assert_eq!((info.receive_window, info.receive_buffer), (u32::from(window), buffer));
    }
}

#[test]
fn a_half_open_entry_is_small() {
    assert!(size_of::<Handshake>() <= 160, "{}", size_of::<Handshake>());
}

#[test]
fn sc_02_all_options_are_offered_and_none_is_needed() {
    let config = Config::default();
    let mut handshake = Handshake::connect(&config, params(), t(0));
    let syn = handshake.poll_transmit(&config, t(0)).unwrap().options;
    assert_eq!((syn.mss, syn.window_scale, syn.sack_permitted), (Some(1460), Some(7), true));
    assert_eq!(syn.timestamps.unwrap().ecr, 0, "RFC7323-3.2d");
    let (mut connection, rest) = opened(handshake.on_segment(&config, &seg(SYN_ACK, 0, 1), t(20)));
    let _ = connection.on_segment(&config, &rest, &Context { now: t(20), keep: Keep::All });
    let info = connection.info(&config, t(0));
    assert_eq!((info.mss, info.timestamps, info.sack), (536, false, false)); // MUST-15, KP-03
    assert_eq!((info.send_window, info.cwnd), (8000, 5360));
    assert_eq!(info.srtt, Some(Duration::from_millis(20)));
    let ack = connection.poll_transmit(&config, t(20), 536).unwrap();
    assert_eq!((ack.seq, ack.ack, ack.flags, ack.len), (ISS + 1, IRS + 1, Flags::ACK, 0));
}

#[test]
fn sc_04_05_answers_that_are_not_for_us() {
    let config = Config::default();
    let mut handshake = connecting(&config);
    assert_eq!(replied(handshake.on_segment(&config, &seg(SYN_ACK, 0, 5), t(1))), (ISS + 5, Flags::RST));
    assert_eq!(replied(handshake.on_segment(&config, &seg(Flags::ACK, 0, 0), t(1))), (ISS, Flags::RST));
    for stray in [seg(Flags::RST, 0, 0), seg(Flags::RST | Flags::ACK, 0, 9), seg(Flags::FIN, 0, 0)] {
        assert!(matches!(handshake.on_segment(&config, &stray, t(1)), HandshakeOutcome::Wait));
    }
    let refused = handshake.on_segment(&config, &seg(Flags::RST | Flags::ACK, 0, 1), t(1));
    assert!(matches!(refused, HandshakeOutcome::Closed(CloseReason::Refused)));
}

#[test]
fn sc_06_simultaneous_open() {
    let config = Config::default();
    for last in [seg(SYN_ACK, 0, 1), seg(Flags::ACK, 1, 1)] {
        let mut handshake = connecting(&config);
        assert!(matches!(handshake.on_segment(&config, &seg(Flags::SYN, 0, 0), t(1)), HandshakeOutcome::Wait));
        let answer = handshake.poll_transmit(&config, t(1)).unwrap();
        assert_eq!((answer.seq, answer.ack, answer.flags), (ISS, IRS + 1, SYN_ACK));
        assert_eq!(handshake.state(), State::SynReceived);
        let (_, rest) = opened(handshake.on_segment(&config, &last, t(2)));
        assert_eq!((rest.seq, rest.flags), (IRS + 1, Flags::ACK));
    }
}

#[test]
fn sc_07_a_syn_that_is_never_answered() {
    let config = Config::default();
    let mut handshake = connecting(&config);
    let mut sent = vec![0];
    let closed = loop {
        let at = handshake.next_timeout().unwrap();
        if let HandshakeOutcome::Closed(reason) = handshake.on_timeout(&config, at) {
            break ((at - t(0)).as_millis(), reason);
        }
        assert!(handshake.poll_transmit(&config, at).unwrap().resent.is_some());
        sent.push((at - t(0)).as_millis());
    };
    assert_eq!(sent, [0, 1000, 3000, 7000, 15_000, 31_000, 63_000, 127_000]);
    assert_eq!(closed, (180_000, CloseReason::TimedOut)); // MUST-23
    // RFC6298-5.7
    let mut handshake = connecting(&config);
    let _ = handshake.on_timeout(&config, t(1000));
    handshake.poll_transmit(&config, t(1000)).unwrap();
    let (connection, _) = opened(handshake.on_segment(&config, &seg(SYN_ACK, 0, 1), t(1100)));
    let info = connection.info(&config, t(0));
    assert_eq!((info.srtt, info.rto), (None, Duration::from_secs(3)));
}

#[test]
fn sc_08_to_10_syn_received() {
    let config = Config::default();
    let mut handshake = accepting(&config, TcpOptions::default());
    assert!(matches!(handshake.on_segment(&config, &seg(Flags::SYN, 0, 0), t(1)), HandshakeOutcome::Wait));
    assert_eq!(handshake.poll_transmit(&config, t(1)).unwrap().seq, ISS, "the same answer again");
    assert_eq!(replied(handshake.on_segment(&config, &seg(Flags::SYN, 50, 0), t(1))), (ISS + 1, Flags::ACK));
    assert_eq!(replied(handshake.on_segment(&config, &seg(Flags::ACK, 1, 99), t(1))), (ISS + 99, Flags::RST));
    let far = handshake.on_segment(&config, &seg(Flags::RST, 200_000, 0), t(1));
    assert!(matches!(far, HandshakeOutcome::Wait));
    let reset = handshake.on_segment(&config, &seg(Flags::RST, 1, 0), t(1));
    assert!(matches!(reset, HandshakeOutcome::Closed(CloseReason::Reset)));
}

#[test]
fn sc_16_window_scale() {
    let config = Config::default();
    let mut handshake = accepting(&config, TcpOptions { window_scale: Some(15), ..TcpOptions::default() });
    let (connection, _) = opened(handshake.on_segment(&config, &seg(Flags::ACK, 1, 1), t(1)));
    let info = connection.info(&config, t(0));
    assert_eq!((info.window_shifts, info.send_window), ((14, 7), 8000 << 14));
    let off = Config { window_scale: false, ..config };
    let mut handshake = Handshake::connect(&off, params(), t(0));
    assert_eq!(handshake.poll_transmit(&off, t(0)).unwrap().options.window_scale, None);
}

#[test]
fn ops_3_a_half_open_entry_does_not_last() {
    let config = Config::default();
    let mut handshake = accepting(&config, TcpOptions::default());
    let mut sent = 1;
    loop {
        let at = handshake.next_timeout().unwrap();
        match handshake.on_timeout(&config, at) {
            HandshakeOutcome::Closed(reason) => {
                assert_eq!((reason, (at - t(0)).as_millis()), (CloseReason::TimedOut, 63_000));
                break;
            }
            _ => sent += u32::from(handshake.poll_transmit(&config, at).is_some()),
        }
    }
    assert_eq!(sent, 6);
}

#[test]
fn it_says_when_there_is_something_to_send() {
    let config = Config::default();
    let mut new = Handshake::connect(&config, params(), t(0));
    assert!(new.wants_transmit());
    assert!(new.poll_transmit(&config, t(0)).is_some());
    assert!(!new.wants_transmit());
    let at = new.next_timeout().unwrap();
    new.on_timeout(&config, at);
    assert!(new.wants_transmit(), "the SYN once more");
}

/// KP-10: SYNs after 1, 3, 7, 15, 31, 63 and 127 s.
#[test]
fn ops_3_a_syn_is_repeated_by_number_and_by_time_whichever_ends_first() {
    for (retries, seconds, repeated, end) in
        [(0, 180, 7, 180), (6, 180, 6, 127), (1, 180, 1, 3), (6, 10, 3, 10), (255, 180, 7, 180)]
    {
        let connect_timeout = Duration::from_secs(seconds);
        let config = Config { syn_retries: retries, connect_timeout, ..Config::default() };
        let mut new = connecting(&config);
        let mut count = 0;
        let ended = loop {
            let at = new.next_timeout().unwrap();
            match new.on_timeout(&config, at) {
                HandshakeOutcome::Wait => count += usize::from(new.poll_transmit(&config, at).is_some()),
                HandshakeOutcome::Closed(reason) => {
                    assert_eq!(reason, CloseReason::TimedOut);
                    break at;
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((count, ended), (repeated, t(end * 1_000)), "{retries} and {seconds} s");
    }
}

/// RFC6298-3a: the timestamp tells which SYN was answered, if it can be one of ours.
#[test]
fn the_round_trip_of_a_repeated_syn_is_told_by_the_timestamp() {
    let config = Config::default();
    for (echo, rtt) in [(1_000, Some(100)), (0, Some(1_100)), (u32::MAX - 500, None), (5_000, None)] {
        let mut handshake = connecting(&config);
        let _ = handshake.on_timeout(&config, t(1_000));
        let again = handshake.poll_transmit(&config, t(1_000)).unwrap();
        let first = again.options.timestamps.unwrap().val.wrapping_sub(1_000);
        let mut answer = seg(SYN_ACK, 0, 1);
        answer.options.timestamps = Some(Timestamps { val: 7, ecr: first.wrapping_add(echo) });
        let (connection, _) = opened(handshake.on_segment(&config, &answer, t(1_100)));
        assert_eq!(connection.info(&config, t(0)).srtt, rtt.map(Duration::from_millis), "{echo}");
    }
}

/// MUST-21, with the passive open's step by step: see [`Wishes`].
#[test]
fn must_21_a_user_timeout_ends_an_open() {
    let config = Config::default();
    let wishes = Wishes { user_timeout: Some(Duration::from_millis(2_500)), ..Wishes::default() };
    let mut new = connecting(&config).wishing(wishes);
    assert_eq!(new.next_timeout(), Some(t(1_000)));
    assert!(matches!(new.on_timeout(&config, t(1_000)), HandshakeOutcome::Wait));
    assert_eq!(new.next_timeout(), Some(t(2_500)), "not after 3 s");
    let mut raised = new.clone();
    raised.set_user_timeout(None);
    assert!(matches!(raised.on_timeout(&config, t(2_500)), HandshakeOutcome::Wait));
    assert_eq!(raised.next_timeout(), Some(t(3_000)));
    assert!(matches!(new.on_timeout(&config, t(2_499)), HandshakeOutcome::Wait));
    assert!(matches!(new.on_timeout(&config, t(2_500)), HandshakeOutcome::Closed(CloseReason::UserTimeout)));
    assert_eq!((new.state(), new.next_timeout()), (State::Closed, None));

    let mut new = accepting(&config, TcpOptions::default()).wishing(wishes);
    assert!(matches!(new.on_timeout(&config, t(1_000)), HandshakeOutcome::Wait));
    assert_eq!(new.next_timeout(), Some(t(3_000)));
    assert!(matches!(new.on_timeout(&config, t(3_000)), HandshakeOutcome::Closed(CloseReason::UserTimeout)));
    // Zero means none.
    let mut new = connecting(&config).wishing(Wishes { user_timeout: Some(Duration::ZERO), ..Wishes::default() });
    assert!(matches!(new.on_timeout(&config, t(1_000)), HandshakeOutcome::Wait));
}

/// OPS-17 for a buffer that the user has set: window and scale of the SYN, and what the connection begins with.
#[test]
fn ops_17_a_receive_buffer_of_the_user_bounds_what_the_syn_offers() {
    let config = Config::default();
    let scaled = TcpOptions { window_scale: Some(7), ..TcpOptions::default() };
    for (octets, buffer, window, shift) in
        [(1, 256, 256, 0), (5_000, 5_000, 5_000, 0), (200_000, 200_000, 65_535, 2), (u32::MAX, 1 << 30, 65_535, 14)]
    {
        let wishes = Wishes { receive_buffer: Some(octets), ..Wishes::default() };
        let mut new = Handshake::connect(&config, params(), t(0)).wishing(wishes);
        let syn = new.poll_transmit(&config, t(0)).unwrap();
        assert_eq!((syn.window.0, syn.options.window_scale), (window, Some(shift)));
        // What comes later must not change the scale.
        new.set_receive_buffer(100_000);
        let mut answer = seg(SYN_ACK, 0, 1);
        answer.options = scaled;
        let (connection, _) = opened(new.on_segment(&config, &answer, t(10)));
        let info = connection.info(&config, t(0));
        assert_eq!((info.receive_buffer, info.window_shifts), (100_000, (7, shift)));

        let mut syn = seg(Flags::SYN, 0, 0);
        syn.options = scaled;
        let mut new = Handshake::accept(&config, params(), &syn, t(0)).wishing(wishes);
        let answer = new.poll_transmit(&config, t(0)).unwrap();
        assert_eq!((answer.window.0, answer.options.window_scale), (window, Some(shift)));
        let packed = HalfOpen::pack(&new).unwrap();
        let mut kept = packed.unpack().wishing(wishes);
        let (connection, _) = opened(kept.on_segment(&config, &seg(Flags::ACK, 1, 1), t(10)));
        let info = connection.info(&config, t(0));
        assert_eq!((info.receive_buffer, info.window_shifts), (buffer, (7, shift)));
        assert_eq!(info.receive_window, u32::from(window), "none is promised before the peer hears of it");
    }
}

#[test]
fn ops_17_shift_covers_the_largest_buffer() {
    let with = |max| {
        let recv_buffer = BufferLimits { initial: 1_000, max };
        Wishes::default().offered_shift(&Config { recv_buffer, ..Config::default() })
    };
    assert_eq!(with(65_535), 0);
    assert_eq!(with(65_536), 1);
    assert_eq!(with(131_071), 1);
    assert_eq!(with(131_072), 2);
    assert_eq!(with(6 * 1024 * 1024), 7);
    assert_eq!(with(u32::MAX), 14);
}
