//! Half-open records and SYN cookies: what a flood can take, what is kept of a SYN, what is no good cookie.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration as StdDuration;

use trust::embed::{Builder, Host};
use trust::flow::Endpoint;
use trust::net::{TcpListener, TcpSocket};
use trust::services::chargen::Chargen;
use trust::services::echo::Echo;
use trust::shard::{DropReason, Io};
use trust::tcp::cookie::SynCookies;
use trust::tcp::{Duration, Instant};
use trust::wire::options::{TcpOptions, Timestamps};
use trust::wire::tcp::{Flags, TcpHeader};
use trust::wire::{self, PROTOCOL_ICMP, PROTOCOL_TCP, checksum};

use crate::rig::{Call, OURS, PEER, Peer, Random, Rig, Sent, ip_packet, probe, tcp_packet};

const PORT: u16 = 7;

fn rig_with(half_open: usize, cookies: SynCookies) -> Rig {
    let mut rig = Rig::with(
        |config| {
            config.limits.half_open = half_open;
            config.limits.syn_cookies = cookies;
        },
        256,
        1_024,
    );
    rig.shard.add_service(Some(PORT), Box::new(Echo));
    rig
}

fn always() -> Rig {
    rig_with(64, SynCookies::Always)
}

/// A SYN from another host.
fn syn_from(src: Ipv4Addr, src_port: u16, seq: u32) -> Vec<u8> {
    let header = TcpHeader { src_port, dst_port: PORT, seq, flags: Flags::SYN, window: 1_000, ..TcpHeader::default() };
    tcp_packet(src, OURS, &header, &[])
}

/// The peer as it is when the SYN-ACK has arrived.
fn answered(rig: &mut Rig, mut peer: Peer) -> Peer {
    rig.turn(&[peer.syn()]);
    let to_peer = |sent: &Sent| sent.header.dst_port == peer.port && sent.has(Flags::SYN);
    let place = rig.sent.iter().position(to_peer).expect("a SYN is answered");
    let syn_ack = rig.sent.remove(place).unwrap();
    (peer.seq, peer.ack) = (syn_ack.header.ack, syn_ack.header.seq.wrapping_add(1));
    peer.stamps = syn_ack.header.options.timestamps.map(|stamps| Timestamps { val: stamps.ecr + 1, ecr: stamps.val });
    peer
}

fn assert_refused(rig: &mut Rig, packet: Vec<u8>, ack: u32) {
    let before = rig.counters();
    rig.sent.clear();
    rig.turn(&[packet]);
    let reset = rig.next();
    assert_eq!((reset.header.flags, reset.header.seq), (Flags::RST, ack));
    assert_eq!((rig.counters().accepted, rig.counters().connections), (before.accepted, before.connections));
}

fn echoes(rig: &mut Rig, peer: &mut Peer) {
    let data = peer.data(b"hello");
    rig.turn(&[data]);
    peer.take(rig);
    assert_eq!(peer.got, b"hello");
}

#[test]
fn off_on_overflow_always() {
    for (mode, half_open, cookies) in
        [(SynCookies::Off, 8, 0), (SynCookies::Overflow, 8, 12), (SynCookies::Always, 0, 20)]
    {
        let mut rig = rig_with(8, mode);
        let mut peers = Vec::new();
        for port in 0..20 {
            peers.push(answered(&mut rig, Peer::new(40_000 + port, PORT)));
        }
        let counters = rig.counters();
        assert_eq!((counters.half_open, counters.cookies_sent), (half_open, cookies), "{mode:?}");
        let recycled = if mode == SynCookies::Off { 12 } else { 0 };
        assert_eq!(counters.half_open_recycled, recycled, "{mode:?}: RFC4987-3.4");
        for (index, peer) in peers.iter_mut().enumerate() {
            rig.turn(&[peer.ack()]);
            if mode == SynCookies::Off && index < 12 {
                peer.take(&mut rig);
                assert!(peer.got_reset, "the oldest made way");
            } else {
                echoes(&mut rig, peer);
            }
        }
    }
}

/// A source has its share of the records; others have theirs.
#[test]
fn a_source_over_its_share_gets_cookies_or_nothing() {
    for mode in [SynCookies::Overflow, SynCookies::Off] {
        let mut rig = rig_with(1_024, mode);
        for port in 0..200 {
            rig.turn(&[syn_from(Ipv4Addr::new(11, 0, 0, 1), 1_000 + port, 1)]);
        }
        let counters = rig.counters();
        assert_eq!(counters.half_open, 128, "an eighth");
        let over = if mode == SynCookies::Off { rig.dropped(DropReason::BacklogFull) } else { counters.cookies_sent };
        assert_eq!(over, 72);
        rig.sent.clear();
        let mut peer = answered(&mut rig, Peer::new(40_000, PORT));
        assert_eq!(rig.counters().half_open, 129, "another source");
        rig.turn(&[peer.ack()]);
        echoes(&mut rig, &mut peer);
    }
}

/// A connection made of a cookie is as one made of a record, in all that was negotiated; the data that follow show it.
#[test]
fn rfc4987_3_6c_a_cookie_keeps_every_option() {
    let stamps = Some(Timestamps { val: 500, ecr: 0 });
    for (mss, scale, sack, timestamps) in [
        (Some(1_460), Some(7), true, stamps),
        (Some(1_460), Some(7), true, None),
        (Some(536), Some(0), false, None),
        (Some(1_220), None, true, stamps),
        (None, Some(14), false, stamps),
        (Some(40), Some(3), false, None),
        (Some(8_960), None, false, None),
    ] {
        let mut seen = Vec::new();
        for mode in [SynCookies::Off, SynCookies::Always] {
            let mut rig = rig_with(64, mode);
            rig.shard.add_service(Some(19), Box::new(Chargen));
            let mut peer = Peer::new(40_000, 19);
            let options = TcpOptions::default();
            peer.syn_options = TcpOptions { mss, window_scale: scale, sack_permitted: sack, timestamps, ..options };
            peer = answered(&mut rig, peer);
            assert_eq!(peer.stamps.is_some(), timestamps.is_some());
            // The least that a scaled window can say.
            peer.window = 40;
            rig.turn(&[peer.ack()]);
            let made = (rig.counters().cookies_accepted, rig.counters().accepted);
            assert_eq!(made, (u64::from(mode == SynCookies::Always), 1));
            let mut sent: Vec<_> = rig.sent.drain(..).collect();
            // Something out of order, an old timestamp, a duplicate: all that SACK and PAWS answer.
            rig.turn(&[peer.packet_at(10, Flags::ACK, b"gap")]);
            let mut old = peer.clone();
            old.stamps = peer.stamps.map(|stamps| Timestamps { val: stamps.val - 100, ..stamps });
            rig.turn(&[old.packet_at(0, Flags::ACK | Flags::PSH, b"0123456789")]);
            sent.extend(rig.sent.drain(..));
            peer.window = 60_000;
            rig.turn(&[peer.ack()]);
            sent.extend(rig.sent.drain(..));
            let said: Vec<_> = sent
                .iter()
                .map(|sent| {
                    let TcpHeader { ack, flags, window, options, .. } = sent.header;
                    let blocks: Vec<_> = options.sack.iter().collect();
                    let ecr = options.timestamps.map(|stamps| stamps.ecr);
                    (ack, flags, window, ecr, blocks, sent.payload.len())
                })
                .collect();
            let id = rig.shard.connections().next().unwrap().0;
            let info = rig.shard.info(id).unwrap();
            let most = said.iter().map(|said| said.5).max().unwrap();
            assert!(most <= usize::from(mss.unwrap_or(536).clamp(88, 1_460)), "{most}");
            let first: usize = said.iter().take_while(|said| said.4.is_empty()).map(|said| said.5).sum();
            assert!(first <= 40 << scale.unwrap_or(0), "the window is scaled as agreed");
            assert_eq!(said.iter().any(|said| !said.4.is_empty()), sack, "SACK as agreed");
            assert_eq!(said.iter().all(|said| said.3.is_some()), timestamps.is_some());
            seen.push((said, info.mss, info.window_shifts, info.timestamps, info.sack));
        }
        assert_eq!(seen[0], seen[1], "{mss:?} {scale:?} {sack} {timestamps:?}");
    }
}

/// The round trip is known when timestamps tell it.
#[test]
fn a_cookie_s_round_trip_is_told_by_the_timestamp() {
    for stamped in [false, true] {
        let mut rig = always();
        let mut peer = Peer::new(40_000, PORT);
        peer.syn_options.timestamps = stamped.then_some(Timestamps { val: 500, ecr: 0 });
        let peer = answered(&mut rig, peer);
        rig.now += Duration::from_millis(80);
        rig.turn(&[peer.ack()]);
        let id = rig.shard.connections().next().unwrap().0;
        let srtt = rig.shard.info(id).unwrap().srtt;
        assert_eq!(srtt, stamped.then_some(Duration::from_millis(80)));
    }
}

#[test]
fn an_ack_with_data_and_fin_brings_the_cookie_back() {
    let mut rig = always();
    let mut peer = answered(&mut rig, Peer::new(40_000, PORT));
    let packet = peer.packet(Flags::ACK | Flags::PSH | Flags::FIN, b"all at once");
    rig.turn(&[packet]);
    peer.take(&mut rig);
    rig.turn(&[peer.ack()]);
    peer.take(&mut rig);
    assert_eq!((peer.got.as_slice(), peer.got_fin), (&b"all at once"[..], true));
    rig.turn(&[peer.ack()]);
    rig.assert_empty();
}

/// RFC4987-3.6a, 3.6b.
#[test]
fn a_cookie_is_refused_from_elsewhere_or_too_late() {
    let mut rig = always();
    rig.shard.add_service(Some(PORT + 1), Box::new(Echo));
    let peer = answered(&mut rig, Peer::new(40_000, PORT));
    let other_ports = [Peer { port: 40_001, ..peer.clone() }, Peer { service_port: PORT + 1, ..peer.clone() }];
    let others = [
        Peer { addr: Ipv4Addr::new(10, 7, 0, 9).into(), ..peer.clone() },
        Peer { seq: peer.seq.wrapping_add(1), ..peer.clone() },
        Peer { seq: peer.seq.wrapping_sub(1), ..peer.clone() },
        Peer { ack: peer.ack.wrapping_add(1), ..peer.clone() },
        Peer { ack: peer.ack ^ 0x0100_0000, ..peer.clone() },
    ];
    let mut refused = 0;
    for other in other_ports.into_iter().chain(others) {
        assert_refused(&mut rig, other.ack(), other.ack);
        refused += 1;
        assert_eq!(rig.counters().cookies_refused, refused);
    }
    // Good through all of the next epoch; no longer.
    let late = answered(&mut rig, Peer::new(40_002, PORT));
    let too_late = answered(&mut rig, Peer::new(40_003, PORT));
    rig.now += Duration::from_secs(30);
    rig.turn(&[late.ack()]);
    assert_eq!(rig.counters().accepted, 1);
    rig.now += Duration::from_secs(30);
    assert_refused(&mut rig, peer.ack(), peer.ack);
    assert_refused(&mut rig, too_late.ack(), too_late.ack);
}

/// Also when the peer has closed first, which leaves no TIME-WAIT here.
#[test]
fn a_cookie_makes_one_connection() {
    for reset in [false, true] {
        let mut rig = always();
        let mut peer = answered(&mut rig, Peer::new(40_000, PORT));
        let (ack, number) = (peer.ack(), peer.ack);
        rig.turn(std::slice::from_ref(&ack));
        if reset {
            rig.turn(&[peer.rst()]);
        } else {
            let fin = peer.fin();
            rig.turn(&[fin]);
            peer.take(&mut rig);
            rig.turn(&[peer.ack()]);
        }
        rig.assert_empty();
        for later in [0, 10, 29] {
            rig.now += Duration::from_secs(later);
            assert_refused(&mut rig, ack.clone(), number);
        }
    }
}

/// A million bits of chance, so to speak: none of 200,000 guesses makes a connection.
#[test]
fn random_acks_make_no_connection() {
    let mut rig = always();
    let _ = answered(&mut rig, Peer::new(40_000, PORT));
    rig.blind = true;
    let mut random = Random(6);
    for _ in 0..2_000 {
        let acks: Vec<_> = (0..100)
            .map(|_| {
                let numbers = random.next();
                let port = 1_024 + random.below(60_000) as u16;
                Peer { seq: numbers as u32, ack: (numbers >> 32) as u32, ..Peer::new(port, PORT) }.ack()
            })
            .collect();
        rig.turn(&acks);
    }
    let counters = rig.counters();
    assert_eq!((counters.accepted, counters.cookies_refused), (0, 200_000));
}

/// Nobody pays for cookies that nobody has got.
#[test]
fn acks_are_held_against_cookies_only_while_some_are_out() {
    let mut rig = rig_with(64, SynCookies::Overflow);
    rig.turn(&[Peer { ack: 77, ..Peer::new(40_000, PORT) }.ack()]);
    assert_eq!(rig.counters().cookies_refused, 0);
    let mut rig = always();
    answered(&mut rig, Peer::new(40_000, PORT));
    rig.now += Duration::from_secs(60);
    rig.turn(&[Peer { ack: 77, ..Peer::new(40_000, PORT) }.ack()]);
    assert_eq!(rig.counters().cookies_refused, 0);
}

/// The SYN was answered with a cookie; sent again, it finds a place for a record. The peer has heard the first answer only.
#[test]
fn a_cookie_is_good_beside_a_record_of_the_same_syn() {
    let mut rig = rig_with(1, SynCookies::Overflow);
    let first = Peer::new(39_999, PORT);
    rig.turn(&[first.syn()]);
    let mut peer = answered(&mut rig, Peer::new(40_000, PORT));
    assert_eq!(rig.counters().cookies_sent, 1);
    rig.turn(&[Peer { seq: first.seq + 1, ..first }.rst()]);
    assert_eq!(rig.counters().half_open, 0);
    let again = answered(&mut rig, Peer::new(40_000, PORT));
    assert_eq!((rig.counters().half_open, rig.counters().cookies_sent), (1, 1));
    assert_ne!(again.ack, peer.ack);
    rig.turn(&[peer.ack()]);
    assert_eq!((rig.counters().half_open, rig.counters().cookies_accepted), (0, 1));
    echoes(&mut rig, &mut peer);
}

/// SM-TW-5f: a cookie cannot be above what the old connection has sent, so that timestamps must tell the two apart.
#[test]
fn a_cookie_takes_over_a_time_wait_record_when_timestamps_tell() {
    for stamped in [true, false] {
        let mut rig = always();
        let (service, _) = probe(|io: &mut dyn Io, call: &Call| {
            if let Call::Accepted(conn) = call {
                io.close(*conn);
            }
        });
        rig.shard.add_service(Some(80), service);
        let (mut reused, mut dropped) = (0, 0);
        for port in 40_000..40_020 {
            let mut peer = Peer::new(port, 80);
            peer.syn_options.timestamps = stamped.then_some(Timestamps { val: 500, ecr: 0 });
            let mut peer = answered(&mut rig, peer);
            rig.turn(&[peer.ack()]);
            peer.take(&mut rig);
            let fin = peer.fin();
            rig.turn(&[fin]);
            assert_eq!(rig.counters().time_wait, 1);
            rig.sent.clear();
            let mut new = Peer { seq: peer.seq.wrapping_add(1_000), ..Peer::new(port, 80) };
            new.syn_options.timestamps = stamped.then_some(Timestamps { val: 900, ecr: 0 });
            rig.turn(&[new.syn()]);
            match rig.sent.pop_front() {
                Some(syn_ack) => {
                    let floor = peer.ack;
                    assert!(stamped || syn_ack.header.seq.wrapping_sub(floor) < 1 << 31, "above all that was sent");
                    (new.seq, new.ack) = (syn_ack.header.ack, syn_ack.header.seq.wrapping_add(1));
                    new.stamps = syn_ack.header.options.timestamps.map(|s| Timestamps { val: 901, ecr: s.val });
                    assert_eq!(rig.counters().time_wait, 1, "until the ACK is there");
                    rig.turn(&[new.ack()]);
                    reused += 1;
                    assert_eq!(rig.counters().time_wait_reused, reused);
                    new.take(&mut rig);
                    assert!(new.got_fin);
                    let fin = new.fin();
                    rig.turn(&[fin]);
                }
                None => dropped += 1,
            }
            rig.now += Duration::from_secs(61);
            rig.turn(&[]);
        }
        assert_eq!((reused + dropped, dropped == 0), (20, stamped));
        assert!(reused > 0);
        assert_eq!(rig.dropped(DropReason::BacklogFull), dropped);
    }
}

/// Whatever comes, no turn does more than its part, and all records are gone in the end.
#[test]
fn a_turn_repeats_a_bounded_number_of_syn_acks() {
    let mut rig = rig_with(4_096, SynCookies::Overflow);
    for index in 0..4_096_u32 {
        rig.turn(&[syn_from(Ipv4Addr::from(0x0b00_0000 + index), 4_000, 1)]);
    }
    assert_eq!((rig.counters().half_open, rig.frames_out), (4_096, 4_096));
    rig.blind = true;
    rig.now += Duration::from_millis(1_100);
    let mut turns = 0;
    while rig.shard.next_deadline().is_some_and(|at| at <= rig.now) {
        let before = rig.frames_out;
        rig.turn(&[]);
        assert!(rig.frames_out - before <= 256);
        turns += 1;
    }
    assert_eq!((turns, rig.frames_out), (16, 2 * 4_096));
    rig.advance(Duration::from_secs(64));
    assert_eq!((rig.counters().half_open, rig.frames_out), (0, 6 * 4_096), "OPS-3: five repetitions");
    rig.assert_empty();
}

/// A tx ring that nobody drains: SYN-ACKs wait for room, the shard says that it has work, and they leave then.
#[test]
fn syn_acks_wait_for_room_in_the_tx_ring() {
    let mut rig = Rig::with(|_| {}, 64, 64);
    rig.shard.add_service(Some(PORT), Box::new(Echo));
    rig.stop_tx = true;
    for index in 0..100_u32 {
        rig.turn(&[syn_from(Ipv4Addr::from(0x0b00_0000 + index), 4_000, 1)]);
    }
    assert_eq!(rig.counters().half_open, 100);
    assert!(rig.shard.has_work());
    rig.stop_tx = false;
    rig.drain_tx();
    assert_eq!(rig.sent.len(), 32, "half of the ring is for connections");
    rig.settle();
    assert_eq!((rig.sent.len(), rig.shard.has_work()), (100, false));
}

/// Whatever strangers send in a turn, what connections have to say in it finds room.
#[test]
fn a_flood_leaves_room_in_the_tx_ring_for_connections() {
    for mode in [SynCookies::Overflow, SynCookies::Always] {
        let mut rig = rig_with(512, mode);
        let mut peer = rig.connect(40_000, PORT);
        rig.stop_tx = true;
        let mut message = vec![8, 0, 0, 0, 0, 1, 0, 1];
        let sum = checksum::finish(checksum::sum(&message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        rig.begin();
        for index in 0..4_000_u32 {
            let stranger = Ipv4Addr::from(0x0b00_0000 + index);
            rig.receive(&match index % 3 {
                0 => syn_from(stranger, 4_000, 1),
                1 => Peer { addr: stranger.into(), ..Peer::new(9, 99) }.ack(),
                _ => ip_packet(stranger, OURS, PROTOCOL_ICMP, &message),
            });
        }
        rig.receive(&peer.data(b"said among many"));
        rig.finish();
        assert!(rig.dropped(DropReason::TxRingFull) > 100, "the ring holds 1,024");
        rig.drain_tx();
        peer.take(&mut rig);
        assert_eq!(peer.got, b"said among many");
    }
}

/// Calls that nobody answers take nothing from those that come in; they have a bound of their own.
#[test]
fn pending_active_opens_leave_inbound_clients_alone() {
    let mut rig = Rig::with(|config| config.limits.connecting = 17_000, 64, 1_024);
    rig.shard.add_service(Some(PORT), Box::new(Echo));
    let (service, _) = probe(|_, _| {});
    let index = rig.shard.add_service(None, service);
    rig.blind = true;
    for remote in 0..17_000_u32 {
        rig.begin();
        let remote = Endpoint::new(IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + remote)), 80);
        assert!(rig.shard.connect(index, remote).is_some());
        rig.finish();
    }
    let counters = rig.counters();
    assert_eq!((counters.half_open, counters.connecting), (17_000, 17_000));
    rig.begin();
    assert!(rig.shard.connect(index, Endpoint::new(IpAddr::V4(PEER), 80)).is_none(), "the bound");
    rig.finish();
    rig.blind = false;
    for port in 40_000..40_010 {
        let mut peer = rig.connect(port, PORT);
        echoes(&mut rig, &mut peer);
    }
    assert_eq!((rig.counters().accepted, rig.counters().cookies_sent), (10, 0));
}

/// RSTs and echo replies are bounded for each source, and no source sees what another one gets.
#[test]
fn answers_to_strangers_are_bounded_by_source() {
    let ping_from = |src: Ipv4Addr| {
        let mut message = vec![8, 0, 0, 0, 0, 1, 0, 1];
        let sum = checksum::finish(checksum::sum(&message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        ip_packet(src, OURS, PROTOCOL_ICMP, &message)
    };
    let ack_from = |src: Ipv4Addr| {
        let header = TcpHeader { src_port: 9, dst_port: 99, ack: 5, flags: Flags::ACK, ..TcpHeader::default() };
        tcp_packet(src, OURS, &header, &[])
    };
    let mut answers = Vec::new();
    for loud in [false, true] {
        let mut rig = Rig::new();
        if loud {
            for _ in 0..10_000 {
                rig.turn(&[ping_from(PEER), ack_from(PEER)]);
            }
            assert_eq!(rig.frames_out, 1_000 + 4_000);
            assert_eq!(rig.dropped(DropReason::IcmpRateLimited), 9_000);
            assert_eq!(rig.dropped(DropReason::ResetRateLimited), 6_000);
        }
        let before = rig.frames_out;
        for _ in 0..10_000 {
            rig.turn(&[ping_from(Ipv4Addr::new(10, 7, 0, 9)), ack_from(Ipv4Addr::new(10, 7, 0, 9))]);
        }
        answers.push(rig.frames_out - before);
    }
    assert_eq!(answers, [5_000, 5_000]);
}

/// IP-4: no host may send it.
#[test]
fn a_packet_without_time_to_live_is_dropped() {
    let mut rig = always();
    for (ttl, sent) in [(0, 0), (1, 1)] {
        let mut packet = Peer::new(40_000, PORT).syn();
        packet[8] = ttl;
        packet[10..12].fill(0);
        let sum = checksum::finish(checksum::sum(&packet[..20]));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        rig.turn(&[packet]);
        assert_eq!((rig.sent.len(), rig.dropped(DropReason::TtlZero)), (sent, 1));
    }
}

/// Two hosts on a wire that takes 5 ms, and a third that floods one of them.
struct World {
    now: Instant,
    client: Host,
    server: Host,
    listener: TcpListener,
    at: SocketAddr,
    /// When, to the server or not, what.
    wire: Vec<(Instant, bool, Vec<u8>)>,
    random: Random,
}

const WIRE: Duration = Duration::from_millis(5);

impl World {
    fn new(ipv6: bool, tweak: impl Fn(Builder) -> Builder) -> Self {
        let host = |last: u16| match ipv6 {
            true => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)),
            false => IpAddr::V4(Ipv4Addr::new(10, 0, 0, last as u8)),
        };
        let now = Instant::from_secs(1);
        let client = Host::builder().address(host(1)).seed(1).build(now).unwrap();
        let mut server = tweak(Host::builder().address(host(2)).seed(2)).build(now).unwrap();
        let at = SocketAddr::new(host(2), PORT);
        let listener = server.stack().bind(at).unwrap();
        server.poll(now, |_| {});
        Self { now, client, server, listener, at, wire: Vec::new(), random: Random(9) }
    }

    /// A SYN from an address that nobody has.
    fn flood(&mut self) {
        let from = match self.at.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(0x0b00_0000 | self.random.next() as u32 >> 8)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from((0x2001_0db8 << 96) | u128::from(self.random.next()) << 32)),
        };
        let header = TcpHeader {
            src_port: 1_024 + self.random.below(60_000) as u16,
            dst_port: PORT,
            seq: self.random.next() as u32,
            flags: Flags::SYN,
            window: 1_000,
            options: TcpOptions { mss: Some(1_400), ..TcpOptions::default() },
            ..TcpHeader::default()
        };
        let len = wire::tcp::header_len(&header);
        let ip_len = wire::ip::header_len(from);
        let mut packet = vec![0; ip_len + len];
        wire::ip::write(&mut packet, from, self.at.ip(), PROTOCOL_TCP, len, wire::ip::IpFields::default());
        wire::tcp::write(&header, &mut packet[ip_len..]);
        wire::tcp::set_checksum(&mut packet[ip_len..], from, self.at.ip(), &[]);
        assert!(self.server.receive(&packet));
    }

    fn poll(&mut self) {
        let Self { now, client, server, wire, at, .. } = self;
        let client_addr = client.stack().addresses()[0];
        client.poll(*now, |packet| wire.push((*now + WIRE, true, packet.to_vec())));
        server.poll(*now, |packet| {
            let to = wire::ip::parse(packet, true).unwrap().dst;
            if to == client_addr {
                wire.push((*now + WIRE, false, packet.to_vec()));
            }
        });
        assert!(at.port() == PORT && wire.len() < 10_000);
    }

    fn step(&mut self, span: Duration) {
        self.now += span;
        let now = self.now;
        for (_, to_server, packet) in self.wire.extract_if(.., |(at, ..)| *at <= now) {
            let host = if to_server { &mut self.server } else { &mut self.client };
            assert!(host.receive(&packet));
        }
        self.poll();
    }

    /// How long an honest client waits until it is accepted, while `flood` goes on; a minute is for ever.
    fn connect(&mut self, mut flood: impl FnMut(&mut Self)) -> Duration {
        let stream = TcpSocket::new(&self.client.stack()).connect_nonblocking(self.at).unwrap();
        let begin = self.now;
        while self.now - begin < Duration::from_secs(60) {
            flood(self);
            self.step(Duration::from_millis(5));
            if let Ok((accepted, _)) = self.listener.accept() {
                accepted.set_linger(Some(StdDuration::ZERO)).unwrap();
                drop((accepted, stream));
                break;
            }
        }
        self.now - begin
    }
}

/// As many SYNs as there are, from as many addresses: the honest client after them is served at once, whatever has room.
#[test]
fn after_a_flood_an_honest_client_is_served_at_once() {
    for ipv6 in [false, true] {
        for mode in [SynCookies::Overflow, SynCookies::Always, SynCookies::Off] {
            let mut world = World::new(ipv6, |host| host.syn_cookies(mode));
            for _ in 0..400 {
                for _ in 0..100 {
                    world.flood();
                }
                world.poll();
            }
            let waited = world.connect(|_| {});
            let limit = if mode == SynCookies::Off { Duration::MAX } else { Duration::from_millis(50) };
            assert!(waited < limit, "{mode:?}: {waited}");
            let counters = world.server.counters();
            assert!(counters.half_open <= 16_384 && counters.connections <= 16_385, "{counters:?}");
        }
    }
}

/// For a minute and a half, with an honest client every second: each is served at once.
fn trickle(ipv6: bool, a_second: u32) {
    let mut world = World::new(ipv6, |host| host);
    let mut waits = Vec::new();
    let mut owed = 0;
    let mut flood = move |world: &mut World| {
        owed += a_second * 5;
        while owed >= 1_000 {
            owed -= 1_000;
            world.flood();
        }
    };
    let mut most = 0;
    for second in 0..90 {
        let begin = Instant::from_secs(1 + second);
        while world.now < begin {
            flood(&mut world);
            world.step(Duration::from_millis(5));
        }
        waits.push(world.connect(&mut flood));
        most = most.max(world.server.counters().half_open);
    }
    waits.sort_unstable();
    assert!(*waits.last().unwrap() <= Duration::from_millis(50), "{waits:?}");
    assert!(most <= 16_384, "{most}");
    assert_eq!(world.server.counters().accepted, 90);
}

#[test]
fn a_trickle_of_syns_denies_nobody_ipv4() {
    trickle(false, 65);
    trickle(false, 700);
}

#[test]
fn a_trickle_of_syns_denies_nobody_ipv6() {
    trickle(true, 65);
    trickle(true, 700);
}
