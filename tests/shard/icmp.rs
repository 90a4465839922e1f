//! ICMP errors reach the connection whose segment they quote, and change no more than they may: SC-71, SC-72.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use trust::buffer::frame::RxFrame;
use trust::services::chargen::Chargen;
use trust::services::echo::Echo;
use trust::shard::diag::Cursor;
use trust::shard::{ConnectOptions, DropReason, ShardConfig};
use trust::tcp::{CloseReason, Duration};
use trust::wire::icmp::{Refusal, Unreachable};
use trust::wire::tcp::Flags;
use trust::wire::vnet::RxOffload;
use trust::wire::{self, PROTOCOL_ICMP, checksum};

use crate::door::{Heard, door, remote};
use crate::rig::{OURS, OURS_V6, PEER, Peer, Rig, Sent, ip_packet};

const ECHO: u16 = 7;
const CHARGEN: u16 = 19;
/// Somebody on the way: an error need not come from the other end.
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// What a router says of that packet.
fn about(packet: &[u8], kind: u8, code: u8, mtu: u16) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 0];
    message.extend_from_slice(&mtu.to_be_bytes());
    message.extend_from_slice(&packet[..28]);
    let sum = checksum::finish(checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip_packet(ROUTER, OURS, PROTOCOL_ICMP, &message)
}

/// The same with another number in what is quoted.
fn about_number(packet: &[u8], seq: u32, kind: u8, code: u8, mtu: u16) -> Vec<u8> {
    let mut forged = packet.to_vec();
    forged[24..28].copy_from_slice(&seq.to_be_bytes());
    about(&forged, kind, code, mtu)
}

/// SHLD-26, ICMP-3, ICMP-5, ICMP-6: an open ends in the turn of the message, for the reason that Linux would give.
#[test]
fn sc_72_an_open_ends_at_once_and_is_told_why() {
    use Unreachable::{Host, HostUnknown, Isolated, Network, Parameter, Protocol, SourceRoute};
    let rows = [
        (3, 0, Network),
        (3, 1, Host),
        (3, 2, Protocol),
        (3, 5, SourceRoute),
        (3, 6, Network),
        (3, 7, HostUnknown),
        (3, 8, Isolated),
        (3, 9, Network),
        (3, 10, Host),
        (3, 13, Host),
        (11, 0, Host),
        (12, 0, Parameter),
    ];
    let rows = rows.map(|(kind, code, why)| (kind, code, CloseReason::Unreachable(why)));
    for (kind, code, reason) in rows.into_iter().chain([(3, 3, CloseReason::Refused)]) {
        let (mut rig, door) = door();
        door.connect(&mut rig, remote(), ConnectOptions { user: 9, ..ConnectOptions::default() }).unwrap();
        let syn = rig.next();
        let forged = about_number(&syn.packet, syn.header.seq.wrapping_add(1), kind, code, 0);
        rig.turn(&[forged, about(&syn.packet, 3, 4, 1_400), about(&syn.packet, 4, 0, 0)]);
        assert_eq!(door.heard(), [], "{kind}/{code}");
        assert_eq!(rig.dropped(DropReason::IcmpNotInFlight), 1);
        rig.turn(&[about(&syn.packet, kind, code, 0)]);
        assert_eq!(door.heard(), [Heard::Closed { reason, tag: 0, user: 9 }], "{kind}/{code}");
        assert_eq!(rig.counters().unreachables_in, 1);
        rig.assert_empty();
    }
}

/// SM-SR-2: nobody was told of a half-open connection, and the peer may try again.
#[test]
fn sc_72_a_half_open_connection_is_forgotten() {
    let mut rig = Rig::new();
    rig.shard.add_service(Some(ECHO), Box::new(Echo));
    let peer = Peer::new(40_000, ECHO);
    rig.turn(&[peer.syn()]);
    let syn_ack = rig.next();
    assert!(syn_ack.has(Flags::SYN | Flags::ACK));
    rig.turn(&[about_number(&syn_ack.packet, syn_ack.header.seq.wrapping_add(1), 3, 1, 0)]);
    assert_eq!((rig.counters().half_open, rig.dropped(DropReason::IcmpNotInFlight)), (1, 1));
    rig.turn(&[about(&syn_ack.packet, 3, 1, 0)]);
    assert_eq!(rig.counters().half_open, 0);
    rig.assert_empty();
    rig.connect(40_000, ECHO);
}

/// What a chargen service sends, with a window that lets ten segments go.
fn flowing() -> (Rig, Peer, Vec<Sent>) {
    let tweak = |config: &mut ShardConfig| {
        config.offload.tso4 = true;
        config.addresses.push(OURS_V6.into());
    };
    let mut rig = Rig::with(tweak, 256, 1_024);
    rig.shard.add_service(Some(CHARGEN), Box::new(Chargen));
    let peer = rig.connect(40_000, CHARGEN);
    rig.settle();
    let sent: Vec<Sent> = rig.sent.drain(..).collect();
    assert!(sent.iter().map(|sent| sent.payload.len()).sum::<usize>() >= 14_600);
    (rig, peer, sent)
}

/// The largest packet on the wire that is made of these.
fn largest(sent: &[Sent]) -> usize {
    let headers = |sent: &Sent| sent.packet.len() - sent.payload.len();
    let payload = |sent: &Sent| match usize::from(sent.offload.gso_size) {
        0 => sent.payload.len(),
        size => size.min(sent.payload.len()),
    };
    sent.iter().map(|sent| headers(sent) + payload(sent)).max().unwrap()
}

/// RFC8201-5.4: the super-segments follow, and no octet is missing.
#[test]
fn sc_71_super_segments_follow_the_path() {
    let (mut rig, mut peer, sent) = flowing();
    assert_eq!(largest(&sent), 1_500);
    rig.turn(&[about(&sent[0].packet, 3, 4, 1_280)]);
    let again: Vec<Sent> = rig.sent.drain(..).collect();
    assert!(largest(&again) <= 1_280 && again[0].header.seq == sent[0].header.seq, "{}", largest(&again));
    assert_eq!(rig.counters().too_big_in, 1);
    let mut entries = Vec::new();
    let (mut cursor, mut walk) = (Some(Cursor::default()), |from| rig.shard.diag(from, &mut entries));
    while let Some(from) = cursor {
        cursor = walk(from);
    }
    let entry = entries.iter().find(|entry| entry.quad.remote.port == 40_000).unwrap();
    assert_eq!((entry.mtu, entry.info.as_ref().unwrap().path_mtu), (1_280, Some(1_280)));
    rig.sent.extend(again);
    for _ in 0..50 {
        peer.take(&mut rig);
        let ack = peer.ack();
        rig.turn(&[ack]);
        let sent: Vec<Sent> = rig.sent.iter().cloned().collect();
        assert!(sent.is_empty() || largest(&sent) <= 1_280);
    }
    assert!(peer.got.len() > 500_000, "{}", peer.got.len());
    let line = |at: usize| peer.got[at * 74..].first_chunk::<72>().unwrap().to_owned();
    assert_ne!(line(0), line(1));
    assert_eq!(line(0), line(95), "the pattern goes on");
    assert_eq!(rig.counters().retransmission_timeouts, 0);
}

/// RFC 5927: a forger who knows the ports, and not the numbers, or asks for too much; and hard errors about what works.
#[test]
fn sc_71_sc_72_forged_messages_change_nothing() {
    let (mut rig, mut peer, sent) = flowing();
    let first = &sent[0];
    let beyond = sent.last().map(|last| last.header.seq.wrapping_add(last.payload.len() as u32)).unwrap();
    let mut forged = Vec::new();
    for seq in [first.header.seq.wrapping_sub(1), beyond, beyond.wrapping_add(1 << 31)] {
        for (code, mtu) in [(4, 1_280), (3, 0), (2, 0), (1, 0)] {
            forged.push(about_number(&first.packet, seq, 3, code, mtu));
        }
    }
    for mtu in [60, 68, 100, 1_500, 9_000] {
        forged.push(about(&first.packet, 3, 4, mtu));
    }
    rig.turn(&forged);
    assert!(rig.sent.is_empty());
    assert_eq!((rig.dropped(DropReason::IcmpNotInFlight), rig.dropped(DropReason::IcmpAbsurdSize)), (12, 5));
    for code in [2, 3] {
        rig.turn(&[about(&first.packet, 3, code, 0)]);
    }
    assert!(rig.sent.is_empty());
    rig.sent.extend(sent);
    for _ in 0..20 {
        peer.take(&mut rig);
        let ack = peer.ack();
        rig.turn(&[ack]);
    }
    assert!(peer.got.len() > 100_000 && !peer.got_reset);
    assert!(rig.sent.iter().any(|sent| largest(std::slice::from_ref(sent)) == 1_500));
    let counters = rig.counters();
    assert_eq!((counters.too_big_in, counters.too_big_pending, counters.retransmits), (0, 0, 0));
}

/// ICMP-4, SHLD-25: it is the reason when nothing more arrives.
#[test]
fn icmp_4_a_connection_that_times_out_says_what_the_network_said() {
    let (mut rig, door) = door();
    door.connect(&mut rig, remote(), ConnectOptions::default()).unwrap();
    let syn = rig.next();
    let mut peer = Peer::new(5_000, syn.header.src_port);
    peer.ack = syn.header.seq.wrapping_add(1);
    let syn_ack = peer.packet(Flags::SYN | Flags::ACK, &[]);
    rig.turn(&[syn_ack]);
    let Some(&Heard::Accepted { conn, .. }) = door.heard().first() else { panic!("not open") };
    rig.sent.clear();
    door.ask(&mut rig, move |io| {
        io.set_user_timeout(conn, Some(Duration::from_secs(10)));
        io.send(conn, b"is anybody there?");
    });
    rig.advance(Duration::from_secs(2));
    let sent = rig.next();
    rig.turn(&[about(&sent.packet, 3, 1, 0)]);
    assert_eq!(door.heard(), []);
    rig.advance(Duration::from_secs(20));
    let reason = CloseReason::Unreachable(Unreachable::Host);
    assert_eq!(door.heard(), [Heard::Closed { reason, tag: 0, user: 0 }]);
    assert_eq!(rig.counters().unreachable, 1);
}

/// ICMPv6, of which the checksum covers a pseudo-header, and whose quotation has no options.
#[test]
fn sc_72_icmpv6_ends_an_open_too() {
    let (ours, theirs): (Ipv6Addr, Ipv6Addr) = ("fd00::2".parse().unwrap(), "fd00::1".parse().unwrap());
    let (mut rig, door) = crate::door::door_with(|config| config.addresses.push(IpAddr::V6(ours)));
    let remote = std::net::SocketAddr::from((theirs, 5_000)).into();
    door.connect(&mut rig, remote, ConnectOptions::default()).unwrap();
    let syn = rig.next();
    let mut message = vec![1, 1, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&syn.packet);
    let pseudo = checksum::pseudo_header(theirs.into(), ours.into(), wire::PROTOCOL_ICMPV6, message.len());
    let sum = checksum::finish(pseudo + checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0; wire::ip::IPV6_HEADER_LEN];
    let fields = wire::ip::IpFields::default();
    wire::ip::write_ipv6(&mut packet, theirs, ours, wire::PROTOCOL_ICMPV6, message.len(), fields);
    packet.extend_from_slice(&message);
    rig.turn(&[packet]);
    let reason = CloseReason::Unreachable(Unreachable::Prohibited);
    assert_eq!(door.heard(), [Heard::Closed { reason, tag: 0, user: 0 }]);
}

/// ICMP-14, ICMP-13: who sends UDP learns that no port is open, who sends anything else that we do not speak it.
#[test]
fn icmp_14_what_is_not_tcp_is_refused() {
    let mut rig = Rig::new();
    for (protocol, code) in [(17, 3), (132, 2), (47, 2)] {
        let packet = ip_packet(PEER, OURS, protocol, &[9; 800]);
        rig.turn(std::slice::from_ref(&packet));
        let sent = rig.next();
        assert_eq!((sent.packet[9], sent.packet.len()), (PROTOCOL_ICMP, 576), "{protocol}");
        assert_eq!((&sent.packet[12..16], &sent.packet[16..20]), (&OURS.octets()[..], &PEER.octets()[..]));
        assert_eq!(sent.payload[..2], [3, code], "{protocol}");
        assert_eq!(checksum::fold(checksum::sum(&sent.payload)), 0xffff);
        assert_eq!(sent.payload[8..], packet[..548]);
    }
    assert_eq!((rig.counters().unreachables_out, rig.dropped(DropReason::UnknownProtocol)), (3, 3));
    rig.assert_empty();
}

/// ICMP-11, ICMP-12, SC-73: never where nobody may be told, nor oftener than a source may be, whatever others do.
#[test]
fn icmp_12_refusals_are_bounded_by_source_and_told_to_hosts_only() {
    let routes = |config: &mut trust::shard::ShardConfig| {
        config.routes.add(trust::shard::Route::on_link(OURS.into(), 24).unwrap());
    };
    let mut rig = Rig::with(routes, 64, 1_024);
    let mut fragment = ip_packet(PEER, OURS, 17, &[9; 800]);
    fragment[6..8].copy_from_slice(&100_u16.to_be_bytes());
    fragment[10..12].fill(0);
    let sum = checksum::finish(checksum::sum(&fragment[..20]));
    fragment[10..12].copy_from_slice(&sum.to_be_bytes());
    rig.turn(&[
        ip_packet(Ipv4Addr::new(10, 7, 0, 255), OURS, 17, &[9; 80]),
        ip_packet(Ipv4Addr::new(224, 0, 0, 1), OURS, 17, &[9; 80]),
        ip_packet(PEER, Ipv4Addr::new(224, 0, 0, 1), 17, &[9; 80]),
        ip_packet(PEER, Ipv4Addr::BROADCAST, 17, &[9; 80]),
        fragment,
    ]);
    assert!(rig.sent.is_empty(), "{:?}", rig.sent);
    for _ in 0..200 {
        rig.turn(&[ip_packet(PEER, OURS, 17, &[9; 80])]);
    }
    assert_eq!(rig.sent.drain(..).count(), 20);
    rig.turn(&[ip_packet(ROUTER, OURS, 17, &[9; 80])]);
    assert_eq!(rig.sent.drain(..).count(), 1, "a stranger learns nothing of another");
    rig.advance(Duration::from_secs(1));
    for _ in 0..200 {
        rig.turn(&[ip_packet(PEER, OURS, 17, &[9; 80])]);
    }
    assert_eq!(rig.sent.len(), 10, "ten a second");
}

/// A fragment that a reader hands on since its sender may be told.
fn complain(rig: &mut Rig, about: &[u8], why: Refusal) {
    rig.begin();
    let packet = rig.buffer(about);
    rig.shard.receive(RxFrame { packet, offload: RxOffload::default(), refusal: Some(why) });
    rig.finish();
}

/// The octets `from..to` of a packet without options as a fragment, with more behind it; of a packet from `src` to `dst`.
fn fragment(ends: (IpAddr, IpAddr), protocol: u8, from: u16, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; wire::ip::header_len(ends.0)];
    let (v6, more) = (ends.0.is_ipv6(), [0, 0, 0, 0, 0, 0, 0, 9]);
    let next = if v6 { 44 } else { protocol };
    let len = data.len() + if v6 { 8 } else { 0 };
    wire::ip::write(&mut packet, ends.0, ends.1, next, len, wire::ip::IpFields::default());
    if v6 {
        packet.extend_from_slice(&more);
        packet[40] = protocol;
        packet[42..44].copy_from_slice(&(from | 1).to_be_bytes());
    } else {
        packet[6..8].copy_from_slice(&((from / 8) | 0x2000).to_be_bytes());
        packet[10..12].fill(0);
        let sum = checksum::finish(checksum::sum(&packet[..20]));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet.extend_from_slice(data);
    packet
}

/// IP-6, IP-10, IP-11, SC-73: what is said of a fragment, which is quoted as it came; to hosts only, of no ICMP error, and
/// no oftener than anything else is said to that source.
#[test]
fn ip_6_ip_10_sc_73_fragments_that_come_to_nothing_are_told_of() {
    let (ours, theirs): (Ipv6Addr, Ipv6Addr) = ("fd00::2".parse().unwrap(), "fd00::1".parse().unwrap());
    let (v4, v6): ((IpAddr, IpAddr), (IpAddr, IpAddr)) = ((PEER.into(), OURS.into()), (theirs.into(), ours.into()));
    let mut rig = Rig::with(|config| config.addresses.push(ours.into()), 64, 1_024);
    let data = [8; 1_200];
    for (ends, why, said) in [
        (v4, Refusal::Late, Some([11, 1, 0])),
        (v6, Refusal::Late, Some([3, 1, 0])),
        (v6, Refusal::Length, Some([4, 0, 4])),
        (v6, Refusal::Offset, Some([4, 0, 42])),
        (v6, Refusal::Chain, Some([4, 3, 0])),
        (v4, Refusal::Length, None),
        (v4, Refusal::Offset, None),
        (v4, Refusal::Chain, None),
    ] {
        let about = fragment(ends, 17, 0, &data);
        let before = rig.counters().fragment_errors_out;
        complain(&mut rig, &about, why);
        assert_eq!(rig.counters().fragment_errors_out - before, u64::from(said.is_some()), "{why:?}");
        let Some([kind, code, pointer]) = said else { continue };
        let sent = rig.next();
        let message = &sent.payload;
        assert_eq!([message[0], message[1], message[7]], [kind, code, pointer], "{why:?}");
        assert_eq!(message[4..7], [0; 3]);
        let packet = wire::ip::parse(&sent.packet, true).unwrap();
        assert_eq!((packet.src, packet.dst), (ends.1, ends.0));
        let pseudo = match ends.0 {
            IpAddr::V6(_) => checksum::pseudo_header(packet.src, packet.dst, packet.protocol, message.len()),
            IpAddr::V4(_) => 0,
        };
        assert_eq!(checksum::fold(pseudo + checksum::sum(message)), 0xffff);
        let most = if ends.0.is_ipv6() { 1_280 - 48 } else { 576 - 28 };
        assert_eq!(message[8..], about[..about.len().min(most)], "{why:?}");
    }
    // An echo is no error; what is, or may be, draws none.
    let echo = |ends: (IpAddr, IpAddr), kind: u8, from: u16| {
        fragment(ends, if ends.0.is_ipv6() { 58 } else { 1 }, from, &[[kind; 8], [0; 8]].concat())
    };
    for (about, told) in [
        (echo(v4, 8, 0), true),
        (echo(v6, 128, 0), true),
        (echo(v4, 3, 0), false),
        (echo(v6, 1, 0), false),
        (echo(v4, 8, 8), false),
        (echo(v6, 128, 8), false),
        (fragment((PEER.into(), Ipv4Addr::new(224, 0, 0, 1).into()), 17, 0, &data), false),
        (fragment((Ipv4Addr::new(224, 0, 0, 1).into(), OURS.into()), 17, 0, &data), false),
        (fragment((OURS.into(), OURS.into()), 17, 0, &data), false),
        (fragment((theirs.into(), "ff02::1".parse().unwrap()), 17, 0, &data), false),
    ] {
        complain(&mut rig, &about, Refusal::Late);
        assert_eq!(rig.sent.drain(..).count(), usize::from(told), "{about:?}");
    }
    let dropped = rig.counters().dropped_total();
    rig.advance(Duration::from_secs(60));
    for _ in 0..100 {
        complain(&mut rig, &fragment(v6, 17, 0, &data), Refusal::Chain);
        rig.turn(&[ip_packet(PEER, OURS, 17, &[9; 80])]);
    }
    let (to_v6, to_v4): (Vec<_>, Vec<_>) = rig.sent.drain(..).partition(|sent| sent.packet[0] >> 4 == 6);
    assert_eq!((to_v6.len(), to_v4.len()), (20, 20), "each source has its own share");
    assert_eq!(rig.counters().dropped_total() - dropped, 100, "readers count fragments");
}

/// RFC1191-2: the device's MTU becomes another one. Connections that are open follow, those that are being opened too, and
/// new ones ask for no more.
#[test]
fn rfc1191_2_the_mtu_of_the_link_is_followed() {
    let (mut rig, mut peer, sent) = flowing();
    assert_eq!(largest(&sent), 1_500);
    rig.sent.extend(sent);
    let late = [(Peer::new(40_001, CHARGEN), 1_460), (Peer::v6(40_003, CHARGEN), 1_440)];
    let to_late = |sent: &Sent| [40_001, 40_003].contains(&sent.header.dst_port);
    let late = late.map(|(mut peer, mss)| {
        rig.turn(&[peer.syn()]);
        let syn_ack = &rig.sent.iter().find(|sent| sent.header.dst_port == peer.port).unwrap().header;
        assert_eq!(syn_ack.options.mss, Some(mss));
        (peer.seq, peer.ack) = (syn_ack.ack, syn_ack.seq.wrapping_add(1));
        peer
    });
    for mtu in [1_400, 1_280, 1_500] {
        rig.shard.set_mtu(mtu);
        assert_eq!(rig.shard.apply_mtu(0), None);
        peer.take(&mut rig);
        for _ in 0..5 {
            rig.turn(&[peer.ack()]);
            rig.settle();
            let sent: Vec<Sent> = rig.sent.iter().filter(|sent| !to_late(sent)).cloned().collect();
            assert_eq!(largest(&sent), usize::from(mtu));
            peer.take(&mut rig);
        }
    }
    assert_eq!(rig.counters().retransmits, 0);
    rig.shard.set_mtu(1_400);
    assert_eq!(rig.shard.apply_mtu(0), None);
    // Their SYN-ACKs were of before.
    for peer in late {
        rig.sent.clear();
        rig.turn(&[peer.ack()]);
        rig.settle();
        let sent: Vec<Sent> = rig.sent.iter().filter(|sent| sent.header.dst_port == peer.port).cloned().collect();
        let octets: usize = sent.iter().map(|sent| sent.payload.len()).sum();
        assert!(octets > 1_400 && largest(&sent) == 1_400, "{}: {octets} {}", peer.port, largest(&sent));
    }
    rig.sent.clear();
    rig.turn(&[Peer::new(40_002, CHARGEN).syn()]);
    assert_eq!(rig.next().header.options.mss, Some(1_360));
}
