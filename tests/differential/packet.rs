//! Packets of the peer's, from and to octets.

use std::net::{IpAddr, Ipv4Addr};

use trust::wire::options::{TcpOptions, Timestamps};
use trust::wire::tcp::{Flags, TcpHeader};
use trust::wire::{ip, tcp};

use super::facts::Peer;
use super::script::{MSS, Script, Segment, WINDOW, octets};

/// The stack's address.
pub(crate) const STACK: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// The port that the stack listens on.
pub(crate) const PORT: u16 = 4_000;

/// How far back a stale timestamp lies.
const STALE: u32 = 1_000_000;

fn packet(header: &TcpHeader, data: &[u8]) -> Vec<u8> {
    let len = tcp::header_len(header);
    let mut packet = vec![0; 20 + len + data.len()];
    let at = ip::write_ipv4(&mut packet, PEER, STACK, 6, len + data.len(), ip::IpFields::default());
    let segment = &mut packet[at..];
    tcp::write(header, segment);
    tcp::set_checksum(&mut segment[..len], IpAddr::V4(PEER), IpAddr::V4(STACK), &[data]);
    segment[len..].copy_from_slice(data);
    packet
}

/// The SYN of the peer at `port`.
pub(crate) fn syn(script: &Script, peer: &Peer, port: u16) -> Vec<u8> {
    let timestamps = script.timestamps.then_some(Timestamps { val: peer.clock, ecr: 0 });
    let header = TcpHeader {
        src_port: port,
        dst_port: PORT,
        seq: peer.seq(0),
        flags: Flags::SYN,
        window: WINDOW,
        options: TcpOptions { mss: Some(MSS), sack_permitted: script.sack, timestamps, ..TcpOptions::default() },
        ..TcpHeader::default()
    };
    packet(&header, &[])
}

/// A segment of the peer's.
pub(crate) fn segment(segment: &Segment, peer: &Peer, port: u16) -> Vec<u8> {
    let at = peer.facts.place(segment);
    let ack = segment.flags.contains(Flags::ACK);
    let val = peer.clock.wrapping_sub(if segment.stale { STALE } else { 0 });
    let header = TcpHeader {
        src_port: port,
        dst_port: PORT,
        seq: peer.seq(at.seq),
        ack: if ack { peer.ack(at.ack) } else { 0 },
        flags: segment.flags,
        window: segment.window,
        options: TcpOptions { timestamps: peer.echo.map(|ecr| Timestamps { val, ecr }), ..TcpOptions::default() },
        ..TcpHeader::default()
    };
    packet(&header, &octets(at.seq - 1, usize::from(segment.len)))
}

/// A segment of the stack's, and the peer's port that it is for.
pub(crate) fn parse(packet: &[u8]) -> Option<(u16, TcpHeader, usize)> {
    let ip = ip::parse(packet, true).ok()?;
    let (header, data) = tcp::parse(ip.payload, IpAddr::V4(STACK), IpAddr::V4(PEER), false).ok()?;
    Some((header.dst_port, header, data.len()))
}
