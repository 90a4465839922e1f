//! What each stage does to a row of packets.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;

use super::gro::Gro;
use super::host::Input;
use super::stages::*;
use super::*;
use crate::tcp::Duration;
use crate::wire;
use crate::wire::tcp::{Flags, TcpHeader};

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// Packet number `n`: 100 octets of payload each, in order.
fn packet(n: u32) -> Packet {
    let header = TcpHeader { src_port: 1, dst_port: 2, seq: n * 100, flags: Flags::ACK, ..TcpHeader::default() };
    Packet::tcp(A, B, &header, &[n as u8; 100])
}

fn rng(seed: u64) -> Rng {
    Rng::with_seed(seed)
}

/// Sends packets over these stages, one each ms, and tells what came when (in us), and what came back to the sender.
fn run(stages: Vec<Box<dyn Stage>>, packets: Vec<Packet>) -> (Vec<(u64, Packet)>, usize) {
    let mut world = World::new(1);
    let start = world.now();
    let back = Rc::new(RefCell::new(0));
    let (count, mut rest, mut due) = (Rc::clone(&back), packets.into_iter(), None);
    let sender = ScriptedHost::new(A, Some(start), move |now, input, out| {
        if matches!(input, Input::Packet(_)) {
            *count.borrow_mut() += 1;
            return due;
        }
        out.extend(rest.next());
        due = (rest.len() > 0).then(|| now + Duration::from_millis(1));
        due
    });
    let got = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&got);
    let receiver = ScriptedHost::new(B, None, move |now, input, _| {
        if let Input::Packet(packet) = input {
            sink.borrow_mut().push((now.saturating_since(start).as_micros(), packet));
        }
        None
    });
    let (sender, receiver) = (world.add_host("a", sender.unwatched()), world.add_host("b", receiver));
    world.add_link(sender, receiver, stages);
    world.run(1_000_000).unwrap();
    let back = *back.borrow();
    (got.take(), back)
}

/// Numbers of the packets in order of arrival.
fn order(got: &[(u64, Packet)]) -> Vec<u32> {
    got.iter().map(|(_, packet)| packet.view().unwrap().header.seq / 100).collect()
}

fn row(count: u32) -> Vec<Packet> {
    (0..count).map(packet).collect()
}

#[test]
fn nothing_is_done_without_stages() {
    let (got, _) = run(vec![], row(3));
    assert_eq!(got, [(0, packet(0)), (1_000, packet(1)), (2_000, packet(2))]);
}

#[test]
fn delay_and_jitter() {
    let ms = Duration::from_millis;
    let (got, _) = run(vec![Box::new(Delay::new(ms(10), ms(5), false, rng(1)))], row(200));
    assert_eq!(order(&got), (0..200).collect::<Vec<_>>(), "no overtaking");
    assert!(got.iter().zip(0..).all(|((at, _), n)| (n * 1_000 + 10_000..=n * 1_000 + 15_000).contains(at)));
    let (got, _) = run(vec![Box::new(Delay::new(ms(10), ms(5), true, rng(1)))], row(200));
    assert!(!order(&got).is_sorted());
}

#[test]
fn a_rate_with_a_queue() {
    // 140 octets each: at 70,000 octets a second each takes 2 ms, and comes after 1 ms.
    let (got, _) = run(vec![Box::new(Rate::new(70_000, QueueLimit::Packets(3)))], row(20));
    let times: Vec<u64> = got.iter().map(|(at, _)| *at).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 2_000), "{times:?}");
    assert!((10..=14).contains(&got.len()), "{}", got.len());
    let (got, _) = run(vec![Box::new(Rate::new(70_000, QueueLimit::Octets(100)))], row(20));
    assert_eq!(order(&got), (0..20).step_by(2).collect::<Vec<_>>(), "an empty queue takes any packet");
}

#[test]
fn a_policer_lets_a_burst_pass_and_then_its_rate() {
    let (got, _) = run(vec![Box::new(Policer::new(14_000, 1_400))], row(110));
    assert!(order(&got).starts_with(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]));
    assert!((20..=22).contains(&got.len()), "{}", got.len());
}

#[test]
fn loss_and_bursts_of_it() {
    let (got, _) = run(vec![Box::new(Loss::new(0.25, rng(3)))], row(2_000));
    assert!((1_400..1_600).contains(&got.len()), "{}", got.len());
    let (got, _) = run(vec![Box::new(BurstLoss::new(0.01, 0.1, [0.0, 1.0], rng(4)))], row(4_000));
    let lost = 4_000 - got.len();
    let bursts = order(&got).windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert!((200..600).contains(&lost), "{lost}");
    assert!(lost > 5 * bursts, "{lost} in {bursts} bursts");
}

#[test]
fn chosen_packets() {
    let (got, _) = run(vec![Box::new(Chosen::nth(&[0, 3]))], row(5));
    assert_eq!(order(&got), [1, 2, 4]);
    let tail = Chosen::tail(2, |packet| packet.view().is_some_and(|view| view.header.seq == 300));
    let (got, _) = run(vec![Box::new(tail)], vec![packet(2), packet(3), packet(3), packet(3)]);
    assert_eq!(order(&got), [2, 3]);
}

#[test]
fn reordering_by_places_and_by_time() {
    let ms = Duration::from_millis;
    let (got, _) = run(vec![Box::new(Reorder::new(0.2, 3, ms(50), rng(5)))], row(500));
    let order_by_places = order(&got);
    assert_eq!(got.len(), 500, "nothing is lost");
    assert!(!order_by_places.is_sorted());
    let (got, _) = run(vec![Box::new(Reorder::new(1.0, 3, ms(50), rng(5)))], row(1));
    assert_eq!(got[0].0, 50_000, "the last one is not held for ever");
    let (got, _) = run(vec![Box::new(Detour::new(0.2, ms(5), rng(6)))], row(500));
    assert_eq!(got.len(), 500);
    assert!(!order(&got).is_sorted());
}

#[test]
fn duplicates_are_the_same_packet() {
    let (got, _) = run(vec![Box::new(Duplicate::new(1.0, Duration::ZERO, rng(7)))], row(2));
    assert_eq!(got, [(0, packet(0)), (0, packet(0)), (1_000, packet(1)), (1_000, packet(1))]);
}

#[test]
fn must_3_a_flipped_bit_is_always_noticed() {
    let (got, _) = run(vec![Box::new(Corrupt::new(1.0, rng(8)))], row(2_000));
    for (_, packet) in &got {
        assert!(packet.damaged);
        let sound = wire::ip::parse(&packet.data, true)
            .is_ok_and(|ip| wire::tcp::parse(ip.payload, ip.src, ip.dst, false).is_ok());
        assert!(!sound, "{packet:02x?}");
    }
    assert_eq!(got.len(), 2_000);
}

#[test]
fn a_narrow_place_drops_and_may_tell() {
    let start = World::new(1).now();
    let until = start + Duration::from_millis(5);
    let (got, back) = run(vec![Box::new(NarrowMtu::new(139, start, until, None))], row(10));
    assert_eq!((order(&got), back), (vec![5, 6, 7, 8, 9], 0));
    let router = Some(Ipv4Addr::new(10, 0, 0, 9));
    let (got, back) = run(vec![Box::new(NarrowMtu::new(139, start, until, router))], row(10));
    assert_eq!((got.len(), back), (5, 5));
    let (got, _) = run(vec![Box::new(NarrowMtu::new(140, start, until, None))], row(10));
    assert_eq!(got.len(), 10);
}

#[test]
fn lies_are_told_beside_what_passes() {
    let liar = Ipv4Addr::new(10, 0, 0, 9);
    let (got, back) = run(vec![Box::new(Slander::new(1.0, liar, rng(10)))], row(200));
    assert_eq!((got.len(), back), (200, 200));
    let (got, back) = run(vec![Box::new(Slander::new(0.0, liar, rng(10)))], row(200));
    assert_eq!((got.len(), back), (200, 0));
}

#[test]
fn outages_lose_or_keep() {
    let at = |ms| World::new(1).now() + Duration::from_millis(ms);
    let (got, _) = run(vec![Box::new(Outage::new(vec![(at(2), at(5))], Meanwhile::Lost))], row(8));
    assert_eq!(order(&got), [0, 1, 5, 6, 7]);
    let (got, _) = run(vec![Box::new(Outage::new(vec![(at(2), at(5))], Meanwhile::Kept))], row(8));
    assert_eq!(order(&got), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(got[2].0, 5_000);
}

/// A super-segment of `octets` octets, cut at 100, as a stack hands it to a device.
fn super_segment(octets: usize, flags: Flags) -> Packet {
    let header = TcpHeader { src_port: 1, dst_port: 2, flags, ..TcpHeader::default() };
    let payload: Vec<u8> = (0..octets).map(|at| (at / 100) as u8).collect();
    let packet = Packet::tcp(A, B, &header, &payload);
    Packet { gso_size: 100, partial: true, ..packet }
}

#[test]
fn super_segments_are_cut() {
    let (got, _) = run(vec![Box::new(Split)], vec![super_segment(950, Flags::ACK | Flags::PSH)]);
    assert_eq!(order(&got), (0..10).collect::<Vec<_>>());
    for (n, (_, packet)) in got.iter().enumerate() {
        let ip = wire::ip::parse(&packet.data, true).unwrap();
        let (header, payload) = wire::tcp::parse(ip.payload, ip.src, ip.dst, false).unwrap();
        assert_eq!(payload, vec![n as u8; if n == 9 { 50 } else { 100 }]);
        assert_eq!(header.flags.contains(Flags::PSH), n == 9);
    }
}

#[test]
fn gro_puts_together_what_was_cut() {
    let whole = super_segment(950, Flags::ACK | Flags::PSH);
    let (got, _) = run(vec![Box::new(Split), Box::new(Gro::new(Duration::from_micros(10)))], vec![whole.clone()]);
    assert_eq!(got.len(), 1);
    let (merged, view) = (&got[0].1, got[0].1.view().unwrap());
    let sent = whole.view().unwrap();
    assert_eq!((merged.gso_size, view.header, merged.payload(&view)), (100, sent.header, whole.payload(&sent)));
    assert!(wire::ip::parse(&merged.data, true).is_ok());
    // Without PSH it waits no longer than it may.
    let gro: Vec<Box<dyn Stage>> = vec![Box::new(Split), Box::new(Gro::new(Duration::from_micros(10)))];
    assert_eq!(run(gro, vec![super_segment(300, Flags::ACK)]).0[0].0, 10);
    // A gap, or what has come too late, is not merged.
    let gro: Vec<Box<dyn Stage>> = vec![Box::new(Gro::new(Duration::from_millis(10)))];
    let (got, _) = run(gro, vec![packet(0), packet(1), packet(3), packet(2)]);
    assert_eq!(got.iter().map(|(_, packet)| packet.wire_segments()).collect::<Vec<_>>(), [2, 1, 1]);
}
