//! Hostile crumbs: for each reason to drop a packet, one packet that is dropped for it and for nothing else, while
//! transfers go on untouched; and a flood of mutated packets.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use trust::device::memory::{self, MemoryOptions};
use trust::engine::{Engine, EngineConfig, Pin, Plan, PlanKind, ServiceFactory};
use trust::services::chargen::Chargen;
use trust::services::echo::Echo;
use trust::shard::{Counters, DropReason, Route, ShardConfig};
use trust::tcp::Duration;
use trust::wire::options::TcpOptions;
use trust::wire::tcp::{Flags, TcpHeader};
use trust::wire::{Malformed, PROTOCOL_ICMP, PROTOCOL_TCP, checksum};

use crate::rig::{self, OURS, PEER, Peer, Random, Rig, ip_packet, probe, tcp_packet};

const ECHO: u16 = 7;
const CHARGEN: u16 = 19;
/// Where the crumbs are aimed at by default: a port with a service, from a port without a connection.
const STRANGER: u16 = 6_666;

/// A packet and what must be set up for it.
struct Crumb {
    reason: DropReason,
    prepare: Option<fn(&mut Rig)>,
    packet: Vec<u8>,
}

/// Reasons without a crumb, and why there can be none.
const EXEMPT: [(DropReason, &str); 9] = [
    (DropReason::FragmentOverlap, "readers put fragments together: steering/fragments_tests.rs"),
    (DropReason::FragmentOdd, "likewise"),
    (DropReason::FragmentTiny, "likewise"),
    (DropReason::FragmentUnfinished, "likewise"),
    (DropReason::NotOwner, "needs steering by birth: a_syn_for_a_bucket_that_is_anothers_by_now_is_dropped"),
    (DropReason::BacklogFull, "only without SYN cookies: tests/shard/listen.rs"),
    (DropReason::AcceptQueueFull, "needs a service with a full accept queue: tests/shard/listen.rs"),
    (DropReason::DeviceRefused, "no packet from the network: the device refuses one of ours; counted by the tx stage"),
    (DropReason::TxRingFull, "not by one packet: needs a tx ring that nobody drains; see below"),
];

fn syn_header() -> TcpHeader {
    TcpHeader { src_port: STRANGER, dst_port: ECHO, seq: 77, flags: Flags::SYN, window: 1_000, ..TcpHeader::default() }
}

fn to_nobody() -> Vec<u8> {
    tcp_packet(PEER, OURS, &TcpHeader { dst_port: 99, ..syn_header() }, &[])
}

fn syn() -> Vec<u8> {
    tcp_packet(PEER, OURS, &syn_header(), &[])
}

/// Recomputes the IPv4 header checksum after a change.
fn reseal_ip(packet: &mut [u8]) {
    let len = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let sum = checksum::finish(checksum::sum(&packet[..len]));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn changed(mut packet: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut packet);
    reseal_ip(&mut packet);
    packet
}

/// An IPv4 packet with options in front of the TCP segment.
fn with_ip_options(options: &[u8]) -> Vec<u8> {
    let inner = syn();
    let mut packet = inner[..20].to_vec();
    packet.extend_from_slice(options);
    packet.extend_from_slice(&inner[20..]);
    packet[0] = 0x40 | (5 + options.len() / 4) as u8;
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    reseal_ip(&mut packet);
    packet
}

/// A TCP packet whose segment is changed and summed again.
fn changed_segment(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut segment = syn()[20..].to_vec();
    change(&mut segment);
    if segment.len() >= 18 {
        segment[16..18].fill(0);
        let pseudo = checksum::pseudo_header(IpAddr::V4(PEER), IpAddr::V4(OURS), PROTOCOL_TCP, segment.len());
        let sum = checksum::finish(pseudo + checksum::sum(&segment));
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
    }
    ip_packet(PEER, OURS, PROTOCOL_TCP, &segment)
}

fn icmp(kind: u8, len: usize) -> Vec<u8> {
    let mut message = vec![0; len];
    message[0] = kind;
    if len >= 4 {
        let sum = checksum::finish(checksum::sum(&message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    ip_packet(PEER, OURS, PROTOCOL_ICMP, &message)
}

/// An ICMP error that quotes a segment from our `port` to the peer's `to`.
fn icmp_about((port, to): (u16, u16), code: u8, mtu: u16) -> Vec<u8> {
    let header = TcpHeader { src_port: port, dst_port: to, flags: Flags::ACK, ..TcpHeader::default() };
    let mut message = vec![3, code, 0, 0, 0, 0];
    message.extend_from_slice(&mtu.to_be_bytes());
    message.extend_from_slice(&tcp_packet(OURS, PEER, &header, &[])[..28]);
    let sum = checksum::finish(checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip_packet(PEER, OURS, PROTOCOL_ICMP, &message)
}

fn crumbs() -> Vec<Crumb> {
    let crumb = |reason: DropReason, packet| Crumb { reason, prepare: None, packet };
    let bad = |malformed: Malformed, packet| crumb(DropReason::Malformed(malformed), packet);
    vec![
        bad(Malformed::IpTruncated, syn()[..19].to_vec()),
        bad(Malformed::IpTruncated, Vec::new()),
        bad(Malformed::IpTruncated, vec![0x60; 39]),
        bad(Malformed::IpVersion, changed(syn(), |packet| packet[0] = 0x55)),
        bad(Malformed::IpHeaderLength, {
            let mut packet = syn();
            packet[0] = 0x44;
            packet
        }),
        bad(Malformed::IpHeaderLength, {
            let mut packet = syn();
            packet[0] = 0x4f;
            packet
        }),
        bad(Malformed::IpTotalLength, changed(syn(), |packet| packet[3] = 19)),
        bad(Malformed::IpTotalLength, changed(syn(), |packet| packet[3] = 41)),
        bad(Malformed::IpChecksum, {
            let mut packet = syn();
            packet[8] ^= 1;
            packet
        }),
        bad(Malformed::IpSource, tcp_packet(Ipv4Addr::new(127, 0, 0, 1), OURS, &syn_header(), &[])),
        bad(Malformed::IpSource, tcp_packet(Ipv4Addr::BROADCAST, OURS, &syn_header(), &[])),
        bad(Malformed::IpSource, tcp_packet(Ipv4Addr::new(224, 0, 0, 1), OURS, &syn_header(), &[])),
        bad(Malformed::IpSourceRoute, with_ip_options(&[131, 7, 4, 10, 7, 0, 1, 0])),
        bad(Malformed::IpSourceRoute, with_ip_options(&[137, 7, 4, 10, 7, 0, 1, 0])),
        bad(Malformed::IpOption, with_ip_options(&[7, 0, 0, 0])),
        bad(Malformed::IpOption, with_ip_options(&[7, 200, 0, 0])),
        bad(Malformed::IpFragment, changed(syn(), |packet| packet[6] |= 0x20)),
        bad(Malformed::IpFragment, changed(syn(), |packet| packet[7] = 1)),
        bad(Malformed::TcpTruncated, ip_packet(PEER, OURS, PROTOCOL_TCP, &syn()[20..39])),
        bad(Malformed::TcpTruncated, ip_packet(PEER, OURS, PROTOCOL_TCP, &[])),
        bad(Malformed::TcpDataOffset, changed_segment(|segment| segment[12] = 0x30)),
        bad(Malformed::TcpDataOffset, changed_segment(|segment| segment[12] = 0xf0)),
        bad(Malformed::TcpChecksum, changed(syn(), |packet| packet[36] ^= 1)),
        bad(
            Malformed::TcpOption,
            changed_segment(|segment| {
                segment[12] = 0x60;
                segment.extend_from_slice(&[2, 0, 0, 0]);
            }),
        ),
        bad(
            Malformed::TcpOption,
            changed_segment(|segment| {
                segment[12] = 0x60;
                segment.extend_from_slice(&[8, 10, 0, 0]);
            }),
        ),
        bad(Malformed::IcmpTruncated, icmp(8, 7)),
        bad(Malformed::IcmpChecksum, changed(icmp(8, 64), |packet| packet[50] ^= 1)),
        crumb(DropReason::IcmpUnknown, icmp(13, 20)),
        crumb(DropReason::IcmpUnknown, icmp(0, 20)),
        crumb(DropReason::IcmpUnknown, icmp_about((ECHO, 40_000), 99, 0)),
        crumb(DropReason::IcmpNoConnection, icmp_about((ECHO, STRANGER), 1, 0)),
        Crumb {
            reason: DropReason::IcmpNotInFlight,
            prepare: Some(|rig| assert!(rig.counters().connections > 0)),
            packet: icmp_about((ECHO, 40_000), 4, 1_400),
        },
        Crumb {
            reason: DropReason::IcmpAbsurdSize,
            prepare: Some(|rig| rig.turn(&[syn()])),
            packet: icmp_about((ECHO, STRANGER), 4, 1_400),
        },
        Crumb {
            reason: DropReason::IcmpRateLimited,
            prepare: Some(|rig| {
                let ping = icmp(8, 64);
                while rig.dropped(DropReason::IcmpRateLimited) == 0 {
                    rig.turn(std::slice::from_ref(&ping));
                }
            }),
            packet: icmp(8, 64),
        },
        crumb(DropReason::UnknownProtocol, ip_packet(PEER, OURS, 17, &[0; 30])),
        crumb(DropReason::UnknownProtocol, ip_packet(PEER, OURS, 255, &[])),
        crumb(DropReason::NotOurAddress, tcp_packet(PEER, Ipv4Addr::new(10, 7, 0, 3), &syn_header(), &[])),
        crumb(DropReason::NotOurAddress, tcp_packet(PEER, Ipv4Addr::BROADCAST, &syn_header(), &[])),
        crumb(DropReason::OurOwnSource, tcp_packet(OURS, OURS, &syn_header(), &[])),
        crumb(DropReason::BroadcastSource, tcp_packet(Ipv4Addr::new(10, 7, 0, 255), OURS, &syn_header(), &[])),
        crumb(DropReason::BroadcastSource, tcp_packet(Ipv4Addr::new(10, 7, 0, 0), OURS, &syn_header(), &[])),
        crumb(
            DropReason::BroadcastSource,
            tcp_packet(Ipv4Addr::new(10, 7, 0, 255), OURS, &TcpHeader { dst_port: 99, ..syn_header() }, &[]),
        ),
        crumb(DropReason::BroadcastSource, {
            let mut ping = icmp(8, 64);
            ping[12..16].copy_from_slice(&[10, 7, 0, 255]);
            reseal_ip(&mut ping);
            ping
        }),
        crumb(DropReason::NoConnection, {
            let header = TcpHeader { flags: Flags::RST, ..syn_header() };
            tcp_packet(PEER, OURS, &header, &[])
        }),
        Crumb {
            reason: DropReason::TimeWait,
            prepare: Some(|rig| {
                // We close first: the echo service does so when the peer has ended its side, so a service of our own.
                let (service, _) = probe(|io, call| {
                    if let rig::Call::Accepted(conn) = call {
                        io.close(*conn);
                    }
                });
                rig.shard.add_service(Some(13), service);
                let mut peer = rig.connect(STRANGER, 13);
                peer.take(rig);
                let fin = peer.fin();
                rig.turn(&[fin]);
                assert_eq!(rig.counters().time_wait, 1);
            }),
            packet: {
                let header = TcpHeader { dst_port: 13, flags: Flags::RST | Flags::ACK, ..syn_header() };
                tcp_packet(PEER, OURS, &header, &[])
            },
        },
        Crumb {
            reason: DropReason::ResetRateLimited,
            prepare: Some(|rig| {
                while rig.dropped(DropReason::ResetRateLimited) == 0 {
                    rig.turn(&[to_nobody()]);
                }
            }),
            packet: to_nobody(),
        },
        crumb(DropReason::TtlZero, changed(syn(), |packet| packet[8] = 0)),
        Crumb {
            reason: DropReason::NoRoom,
            prepare: Some(|rig| {
                while rig.counters().connections < CONNECTIONS as u64 {
                    let port = 20_000 + rig.counters().connections as u16;
                    rig.connect(port, ECHO);
                }
            }),
            packet: syn(),
        },
    ]
}

const CONNECTIONS: usize = 40;

/// A rig with limits within reach, an echo and a chargen transfer in the middle of their work.
struct Scene {
    rig: Rig,
    echo: Peer,
    chargen: Peer,
    echoed: Vec<u8>,
    random: Random,
}

impl Scene {
    fn new() -> Self {
        let tweak = |config: &mut ShardConfig| {
            config.routes.add(Route::on_link(OURS.into(), 24).unwrap());
            config.limits.half_open = 10;
            config.limits.connections = CONNECTIONS;
        };
        let mut rig = Rig::with(tweak, 64, 1_024);
        rig.shard.add_service(Some(ECHO), Box::new(Echo));
        rig.shard.add_service(Some(CHARGEN), Box::new(Chargen));
        let echo = rig.connect(40_000, ECHO);
        let chargen = rig.connect(40_001, CHARGEN);
        Self { rig, echo, chargen, echoed: Vec::new(), random: Random(11) }
    }

    /// A bit of both transfers; fails when one does not move.
    fn transfer(&mut self) {
        let Self { rig, echo, chargen, echoed, random } = self;
        let octets: Vec<u8> = (0..700).map(|_| random.next() as u8).collect();
        let packet = echo.data(&octets);
        echoed.extend(octets);
        rig.turn(&[packet]);
        let before = chargen.got.len();
        for _ in 0..4 {
            echo.take(rig);
            chargen.take(rig);
            let acks = [echo.ack(), chargen.ack()];
            rig.turn(&acks);
        }
        assert_eq!(echo.got, *echoed, "the echo transfer has suffered");
        assert!(chargen.got.len() > before, "the chargen transfer stands still");
        assert!(!echo.got_reset && !chargen.got_reset);
    }
}

#[test]
fn each_crumb_raises_its_own_counter_by_one_and_no_other() {
    for Crumb { reason, prepare, packet } in crumbs() {
        let mut scene = Scene::new();
        scene.transfer();
        if let Some(prepare) = prepare {
            prepare(&mut scene.rig);
        }
        scene.rig.sent.retain(|sent| [40_000, 40_001].contains(&sent.header.dst_port));
        let before = scene.rig.counters();
        scene.rig.turn(std::slice::from_ref(&packet));
        let after = scene.rig.counters();
        for other in DropReason::all() {
            let risen = after.dropped(other) - before.dropped(other);
            assert_eq!(risen, u64::from(other == reason), "{other:?} after a crumb for {reason:?}: {packet:02x?}");
        }
        let rest = |counters: &Counters| {
            let Counters { accepted, connected, closed, resets_in, resets_out, connections, half_open, .. } = *counters;
            [accepted, connected, closed, resets_in, resets_out, connections, half_open]
        };
        assert_eq!(rest(&after), rest(&before), "{reason:?}");
        assert!(scene.rig.sent.iter().all(|sent| sent.header.dst_port != STRANGER), "{reason:?} was answered");
        assert_eq!(after.packets_in, before.packets_in + 1);
        scene.transfer();
    }
}

#[test]
fn every_reason_has_a_crumb_or_an_excuse() {
    let crumbs = crumbs();
    for reason in DropReason::all() {
        let tried = crumbs.iter().any(|crumb| crumb.reason == reason);
        let excused = EXEMPT.iter().any(|(exempt, why)| *exempt == reason && !why.is_empty());
        assert!(tried != excused, "{reason:?}: tried {tried}, excused {excused}");
    }
}

/// The same through a device, readers that look for each packet's owner, and rings.
#[test]
fn crumbs_find_their_counters_through_a_whole_engine() {
    // Fragments wait with the readers for what is missing.
    let comes_through =
        |crumb: &Crumb| crumb.prepare.is_none() && crumb.reason != DropReason::Malformed(Malformed::IpFragment);
    let crumbs: Vec<Crumb> = crumbs().into_iter().filter(comes_through).collect();
    assert!(crumbs.len() > 25);
    for kind in [PlanKind::Fused, PlanKind::Pipeline] {
        let (device, mut port) = memory::port(&MemoryOptions { queues: 2, ..MemoryOptions::default() }).unwrap();
        let plan = Plan::new(kind, Some(2), &Pin::None, &[0, 1], 2).unwrap();
        let services = [ServiceFactory { port: Some(ECHO), make: Box::new(|| Box::new(Echo)) }];
        let mut config = EngineConfig::new(vec![IpAddr::V4(OURS)]);
        config.routes.add(Route::on_link(OURS.into(), 24).unwrap());
        let mut engine = Engine::start(config, plan, Box::new(device), &services).unwrap();
        for crumb in &crumbs {
            assert!(port.inject(&crumb.packet));
        }
        let start = Instant::now();
        while engine.counters().packets_in < crumbs.len() as u64 {
            assert!(!engine.has_failed() && start.elapsed().as_secs() < 20, "{:?}", engine.counters());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        engine.stop().unwrap();
        let counters = engine.counters();
        for reason in DropReason::all() {
            let expected = crumbs.iter().filter(|crumb| crumb.reason == reason).count() as u64;
            assert_eq!(counters.dropped(reason), expected, "{kind:?}: {reason:?}");
        }
        // ICMP-14; no other crumb is answered.
        let told = crumbs.iter().filter(|crumb| crumb.reason == DropReason::UnknownProtocol).count();
        let answers: Vec<_> = std::iter::from_fn(|| port.capture()).collect();
        assert_eq!((answers.len(), counters.unreachables_out), (told, told as u64), "{answers:?}");
    }
}

/// The reason that one packet alone cannot cause: a RST that finds the tx ring full.
#[test]
fn answers_that_find_the_tx_ring_full_are_counted() {
    let mut rig = Rig::with(|_| {}, 4, 64);
    rig.shard.add_service(Some(ECHO), Box::new(Echo));
    rig.stop_tx = true;
    let to_nobody = to_nobody();
    // Half of the ring is for connections.
    for _ in 0..32 {
        rig.turn(std::slice::from_ref(&to_nobody));
    }
    assert_eq!(rig.counters().dropped_total(), 0);
    rig.turn(std::slice::from_ref(&to_nobody));
    assert_eq!(rig.dropped(DropReason::TxRingFull), 1);
    rig.turn(&[icmp(8, 64)]);
    assert_eq!((rig.dropped(DropReason::TxRingFull), rig.counters().dropped_total()), (2, 2));
    rig.stop_tx = false;
    rig.drain_tx();
    rig.assert_empty();
}

/// 200,000 packets that are nearly sound: never a panic, and the connections that they pretend to belong to live on or
/// end by the book; the ones that they do not name are untouched.
#[test]
fn a_flood_of_mutated_packets_breaks_nothing() {
    let mut scene = Scene::new();
    let mut random = Random(4);
    let mut victims: Vec<Peer> =
        (0..8).map(|i| scene.rig.connect(50_000 + i, if i % 2 == 0 { ECHO } else { CHARGEN })).collect();
    for round in 0..200_000u32 {
        let index = random.below(victims.len());
        let victim = &mut victims[index];
        let flags = Flags(match random.below(4) {
            0 => random.next() as u8,
            1 => Flags::ACK.0 | Flags::FIN.0,
            _ => Flags::ACK.0 | Flags::PSH.0,
        });
        let near = |random: &mut Random, base: u32, spread: usize| {
            base.wrapping_add(random.below(spread) as u32).wrapping_sub(spread as u32 / 2)
        };
        let header = TcpHeader {
            src_port: victim.port,
            dst_port: victim.service_port,
            seq: near(&mut random, victim.seq, [2, 10, 3_000, 200_000, 1 << 31][round as usize % 5]),
            ack: near(&mut random, victim.ack, [2, 10, 3_000, 600_000, 1 << 31][round as usize / 5 % 5]),
            flags,
            window: random.next() as u16,
            urgent: random.next() as u16,
            options: TcpOptions::default(),
        };
        let payload = vec![round as u8; random.below(1_461)];
        let mut packet = tcp_packet(PEER, OURS, &header, &payload);
        if random.below(3) == 0 {
            // Bits, lengths, options: checksums repaired now and then so that the inner checks get their share.
            for _ in 0..=random.below(3) {
                let place = random.below(packet.len().min(60));
                packet[place] ^= 1 << random.below(8);
            }
            if random.below(4) == 0 {
                packet.truncate(random.below(packet.len() + 1));
            }
            // Never the address of the transfers that must live on.
            if packet.len() >= 24 && random.below(2) == 0 {
                reseal_ip_if_sound(&mut packet);
            }
            let from_transfer =
                packet.len() >= 22 && matches!(u16::from_be_bytes([packet[20], packet[21]]), 40_000 | 40_001);
            if from_transfer {
                continue;
            }
        }
        // Most flipped bits spoil the checksum: let the device vouch for it half of the time.
        let offload = if random.below(2) == 0 { rig::TRUSTED } else { Default::default() };
        scene.rig.begin();
        scene.rig.receive_with(&packet, offload);
        scene.rig.finish();
        if round % 64 == 0 {
            scene.rig.now += Duration::from_millis(random.below(30) as u64);
            let victim = &mut victims[index];
            victim.take(&mut scene.rig);
            if victim.got_reset || round % 4_096 == 0 {
                let mut fresh = Peer::new(50_100 + (round / 64 % 10_000) as u16, victim.service_port);
                scene.rig.turn(&[fresh.syn()]);
                let answer =
                    scene.rig.sent.iter().find(|sent| sent.header.dst_port == fresh.port && sent.has(Flags::SYN));
                if let Some(answer) = answer {
                    (fresh.seq, fresh.ack) = (answer.header.ack, answer.header.seq.wrapping_add(1));
                    scene.rig.turn(&[fresh.ack()]);
                    *victim = fresh;
                }
            }
            scene.rig.sent.retain(|sent| [40_000, 40_001].contains(&sent.header.dst_port));
        }
        if round % 1_000 == 0 {
            scene.transfer();
        }
    }
    scene.transfer();
    let counters = scene.rig.counters();
    // Who is half open counts, and may wait beside a full table for one that will give way.
    assert!(counters.connections - counters.half_open <= CONNECTIONS as u64, "{counters:?}");
    // Everything times out or is reset in the end, and all memory comes back.
    let resets = [scene.echo.rst(), scene.chargen.rst()];
    scene.rig.turn(&resets);
    scene.rig.blind = true;
    scene.rig.advance(Duration::from_secs(4 * 3_600));
    // Who is established and silent may stay for ever; who has data in flight may not.
    let counters = scene.rig.counters();
    assert_eq!((counters.send_chunks, counters.half_open), (0, 0), "{counters:?}");
}

fn reseal_ip_if_sound(packet: &mut [u8]) {
    let len = usize::from(packet[0] & 15) * 4;
    if (20..=packet.len()).contains(&len) {
        reseal_ip(packet);
    }
}
