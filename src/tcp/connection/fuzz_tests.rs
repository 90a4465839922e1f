//! Random segments, calls and times against every state: nothing panics, the invariants hold, RST is never answered.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::world_tests::check;
use crate::tcp::*;
use crate::wire::options::{SackBlocks, TcpOptions, Timestamps};
use crate::wire::tcp::Flags;

/// One thing that happens to a connection. Numbers are relative to what the connection expects, mostly.
#[derive(Clone, Debug)]
enum Act {
    Segment { seq: i32, ack: i32, flags: u8, window: u16, len: u32, stamp: i32, sack: Vec<(i32, i32)>, keep: u8 },
    Send(u32),
    Read(u32),
    Poll(u32),
    Written,
    Wait(u64),
    Timeout,
    Shutdown,
    Close,
    Nodelay(bool),
    UserTimeout(u64),
    KeepAlive(u64),
}

/// Offsets that lie at edges, near them, or anywhere.
fn near() -> impl Strategy<Value = i32> {
    prop_oneof![6 => Just(0), 4 => -3..4_i32, 3 => -3_000..200_000_i32, 1 => any::<i32>()]
}

fn flags() -> impl Strategy<Value = u8> {
    prop_oneof![12 => Just(0x10_u8), 6 => Just(0x18), 3 => Just(0x11), 1 => any::<u8>()]
}

fn segment() -> impl Strategy<Value = Act> {
    let len = prop_oneof![3 => Just(0_u32), 3 => 1..3_000_u32, 1 => 0..66_000_u32];
    let window = prop_oneof![2 => Just(0_u16), 2 => 0..3_000_u16, 4 => any::<u16>()];
    let stamp = prop_oneof![8 => Just(1_i32), 1 => -5..5_i32, 1 => any::<i32>()];
    let sack = prop::collection::vec((near(), near()), 0..3);
    (near(), near(), flags(), window, len, stamp, sack, 0..8_u8).prop_map(
        |(seq, ack, flags, window, len, stamp, sack, keep)| Act::Segment {
            seq,
            ack,
            flags,
            window,
            len,
            stamp,
            sack,
            keep,
        },
    )
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => segment(),
        4 => (1..400_000_u32).prop_map(Act::Send),
        4 => (0..300_000_u32).prop_map(Act::Read),
        6 => prop_oneof![Just(0_u32), Just(1_448), Just(65_536), 0..100_000_u32].prop_map(Act::Poll),
        4 => Just(Act::Written),
        3 => (0..3_000_000_000_u64).prop_map(Act::Wait),
        3 => Just(Act::Timeout),
        1 => Just(Act::Shutdown),
        1 => Just(Act::Close),
        1 => any::<bool>().prop_map(Act::Nodelay),
        1 => (0..20_000_u64).prop_map(Act::UserTimeout),
        1 => (0..20_000_u64).prop_map(Act::KeepAlive),
    ]
}

fn opened() -> impl Strategy<Value = Opened> {
    let stamps = prop::option::of(any::<u32>());
    (any::<u32>(), any::<u32>(), any::<u16>(), stamps, any::<bool>(), any::<bool>(), any::<u16>(), any::<u16>())
        .prop_map(|(iss, irs, window, timestamps, sack, scale, send_mss, receive_mss)| Opened {
            iss: SeqNum(iss),
            irs: SeqNum(irs),
            send_window: u32::from(window),
            window_seq: SeqNum(irs),
            unscaled_rest: sack,
            receive_window: u32::from(window),
            modest: false,
            receive_mss,
            send_mss,
            window_shifts: scale.then_some((14, 7)),
            timestamps,
            ts_offset: irs,
            sack,
            rtt: timestamps.map(|t| Duration::from_nanos(u64::from(t))),
            syn_timeouts: (window % 4) as u8,
            ack_due: scale,
        })
}

fn options(stamps: Option<Timestamps>, blocks: &[(u32, u32)]) -> TcpOptions {
    let mut sack = SackBlocks::default();
    for (left, right) in blocks {
        sack.push(*left, *right);
    }
    TcpOptions { timestamps: stamps, sack, ..TcpOptions::default() }
}

struct Driver {
    config: Config,
    connection: Connection,
    now: Instant,
    edge: Option<SeqNum>,
    written: SeqNum,
}

impl Driver {
    fn apply(&mut self, act: &Act) {
        let Self { config, connection, now, .. } = self;
        match act {
            Act::Segment { seq, ack, flags, window, len, stamp, sack, keep } => {
                let nxt = connection.receiver.nxt();
                let una = connection.sender.una();
                let blocks: Vec<_> =
                    sack.iter().map(|(l, r)| ((una + *l as u32).0, (una + (*l + *r % 5_000) as u32).0)).collect();
                let recent = connection.receiver.timestamps().last().map_or(0, |(recent, ..)| recent.0);
                let stamps = Timestamps { val: recent.wrapping_add(*stamp as u32), ecr: now.as_millis() as u32 };
                let on = connection.receiver.timestamps().is_enabled();
                // An ACK between what is acknowledged and what was sent is the interesting one.
                let flight = connection.sender.flight();
                let ack =
                    if *ack > 3 && *ack < 200_000 { una + (*ack as u32 % flight.max(1)) } else { una + *ack as u32 };
                let seg = Segment {
                    seq: nxt + *seq as u32,
                    ack,
                    flags: Flags(*flags),
                    window: units::UnscaledWindow(*window),
                    urgent: *window,
                    options: options((on && *stamp != 3).then_some(stamps), &blocks),
                    len: *len,
                };
                let keep = match keep {
                    0 => Keep::in_order(0),
                    1 => Keep::in_order(*len / 2 + 1),
                    _ => Keep::All,
                };
                let before = (connection.receiver.nxt(), connection.queued(), connection.state());
                let outcome = connection.on_segment(config, &seg, &Context { now: *now, keep });
                if seg.has(Flags::RST) {
                    let reset = outcome.reply.is_some_and(|reply| reply.flags.contains(Flags::RST));
                    assert!(!reset, "SM-GEN-4: RST is never answered by RST");
                }
                if before.2 != State::Closed {
                    assert_eq!(before.1 - outcome.acked, connection.queued());
                    let (from, to, grown) = match outcome.payload {
                        Payload::Ignore => (0, 0, 0),
                        Payload::Deliver { from, to, released } => (from, to, to - from + released),
                        Payload::Hold { from, to, .. } => (from, to, 0),
                    };
                    assert!(from <= to && to <= seg.len);
                    let fin = u32::from(outcome.events.contains(Events::EOF));
                    assert_eq!(connection.receiver.nxt(), before.0 + grown + fin);
                }
                if outcome.ack_now {
                    let ack = connection.take_ack(*now);
                    assert!(ack.options.wire_len() <= 40);
                }
            }
            Act::Send(octets) => connection.on_send((*octets).min(connection.send_room(config))),
            Act::Read(octets) => connection.on_recv(config, (*octets).min(connection.unread()), *now),
            Act::Poll(max_len) => {
                for _ in 0..200 {
                    let Some(out) = connection.poll_transmit(config, *now, *max_len) else { break };
                    assert!(out.len <= (*max_len).max(connection.sender.mss()));
                    assert!(out.len == 0 || out.offset + out.len <= connection.queued(), "{out:?}");
                    assert!(out.gso_size == 0 || out.len > u32::from(out.gso_size));
                    let wire = if out.gso_size > 0 { u32::from(out.gso_size) } else { out.len };
                    let mss = connection.sender.mss();
                    assert!(wire + out.options.wire_len() as u32 <= mss, "KP-18: {out:?} {mss}");
                    let end = out.seq + out.len;
                    let reach = connection.sender.una() + connection.sender.max_window();
                    assert!(out.len == 0 || end.le(reach), "beyond every window: {out:?}");
                    self.written = out.end_seq();
                }
            }
            Act::Written => connection.on_device_write(self.written),
            Act::Wait(nanos) => *now += Duration::from_nanos(*nanos),
            Act::Timeout => {
                if let Some(at) = connection.next_timeout() {
                    *now = (*now).max(at);
                }
                let outcome = connection.on_timeout(config, *now);
                assert!(!outcome.ack_now && outcome.acked == 0);
            }
            Act::Shutdown => connection.shutdown(),
            Act::Close => {
                let _ = connection.close();
            }
            Act::Nodelay(on) => connection.set_nodelay(*on),
            Act::KeepAlive(millis) => {
                let time = Duration::from_millis(*millis);
                connection.set_keepalive((*millis > 0).then_some(KeepAlive { idle: time, interval: time, count: 3 }));
            }
            Act::UserTimeout(millis) => {
                connection.set_user_timeout((*millis > 0).then(|| Duration::from_millis(*millis)));
            }
        }
        check(&self.connection, &mut self.edge);
    }

    /// Whatever happened, something wakes up what is owed.
    fn settle(&mut self) {
        for _ in 0..2_000 {
            let Some(out) = self.connection.poll_transmit(&self.config, self.now, 65_536) else { break };
            self.connection.on_device_write(out.end_seq());
        }
        let snd = &self.connection.sender;
        let live = !matches!(self.connection.state(), State::Closed | State::TimeWait);
        let owed = snd.flight() > 0 || snd.unsent() > 0 || self.connection.receiver.owes_ack();
        assert!(!(live && owed) || self.connection.next_timeout().is_some(), "{:#?}", self.connection);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_connection_survives_anything(
        opened in opened(),
        acts in prop::collection::vec(act(), 1..120),
        config in prop_oneof![Just(Config::default()), Just(Config {
            strict_timestamps: false,
            recv_buffer: BufferLimits { initial: 4_000, max: 9_000 },
            send_buffer: BufferLimits { initial: 9_000, max: 30_000 },
            retransmit_limit: Duration::from_secs(20),
            ..Config::default()
        })],
    ) {
        let now = Instant::from_secs(5);
        let connection = Connection::new(&config, &opened, now);
        let written = connection.sender.una();
        let mut driver = Driver { config, connection, now, edge: None, written };
        for act in &acts {
            driver.apply(act);
        }
        driver.settle();
    }

    #[test]
    fn a_handshake_survives_anything(
        passive in any::<bool>(),
        iss in any::<u32>(),
        irs in any::<u32>(),
        segments in prop::collection::vec((near(), near(), flags(), any::<u16>(), 0..4_u8, 0..3_000_u32), 1..40),
    ) {
        let config = Config::default();
        let mut now = Instant::from_secs(5);
        let params = OpenParams { iss: SeqNum(iss), ts_offset: irs, mss: 1460, peer_mss: if passive { 1220 } else { 536 }, first_window: Default::default() };
        let make = |seq: SeqNum, ack: SeqNum, flags, window, mode: u8, len| Segment {
            seq, ack, flags: Flags(flags), window: units::UnscaledWindow(window), urgent: 0, len,
            options: TcpOptions {
                mss: (mode & 1 == 1).then_some(window),
                window_scale: (mode & 2 == 2).then_some(window as u8),
                sack_permitted: mode & 1 == 1,
                timestamps: (mode & 2 == 2).then_some(Timestamps { val: irs, ecr: iss }),
                ..TcpOptions::default()
            },
        };
        let mut handshake = if passive {
            Handshake::accept(&config, params, &make(SeqNum(irs), SeqNum(0), 2, 1000, 3, 0), now)
        } else {
            Handshake::connect(&config, params, now)
        };
        for (seq, ack, flags, window, mode, len) in segments {
            let _ = handshake.poll_transmit(&config, now);
            prop_assert!(handshake.state() == State::Closed || handshake.next_timeout().is_some());
            let base = if seq % 2 == 0 { 1 } else { 0 };
            let seg = make(SeqNum(irs) + seq as u32 + base, SeqNum(iss) + 1 + ack as u32, flags, window, mode, len);
            match handshake.on_segment(&config, &seg, now) {
                HandshakeOutcome::Reply(reply) => {
                    prop_assert!(!(seg.has(Flags::RST) && reply.flags.contains(Flags::RST)));
                }
                HandshakeOutcome::Established { mut connection, rest } => {
                    prop_assert!(!rest.has(Flags::SYN));
                    let mut edge = None;
                    check(&connection, &mut edge);
                    let _ = connection.on_segment(&config, &rest, &Context { now, keep: Keep::All });
                    check(&connection, &mut edge);
                    break;
                }
                HandshakeOutcome::Wait => {}
                HandshakeOutcome::Closed(_) => break,
            }
            now += Duration::from_millis(u64::from(window));
            let _ = handshake.on_timeout(&config, now);
        }
    }

    #[test]
    fn time_wait_survives_anything(
        opened in opened(),
        segments in prop::collection::vec(segment(), 1..40),
    ) {
        let config = Config::default();
        let mut now = Instant::from_secs(5);
        let connection = Connection::new(&config, &opened, now);
        let mut record = connection.time_wait(&config, now);
        let mut asked = false;
        for act in segments {
            let Act::Segment { seq, ack, flags, window, len, stamp, .. } = act else { continue };
            let stamps = Timestamps { val: opened.timestamps.unwrap_or(0).wrapping_add(stamp as u32), ecr: 0 };
            let seg = Segment {
                seq: connection.receiver.nxt() + seq as u32,
                ack: connection.sender.nxt() + ack as u32,
                flags: Flags(flags),
                window: units::UnscaledWindow(window),
                urgent: 0,
                options: options((stamp != 3).then_some(stamps), &[]),
                len,
            };
            let before = record.deadline();
            let outcome = record.on_segment(&config, &seg, now);
            prop_assert!(record.deadline() >= before);
            if matches!(outcome, TimeWaitOutcome::Ended) {
                prop_assert!(asked && seg.has(Flags::RST) && seg.seq == connection.receiver.nxt(), "SM-TW-4");
            } else if seg.has(Flags::RST) {
                prop_assert!(matches!(outcome, TimeWaitOutcome::Ignore));
            }
            asked |= seg.has(Flags::SYN);
            now += Duration::from_millis(u64::from(window));
        }
    }
}
