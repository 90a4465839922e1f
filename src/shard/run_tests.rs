//! What a packet costs that is not the next one in order.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::*;
use crate::buffer::packet::PacketBuf;
use crate::shard::{ConnId, Io, Outlet, Secrets, Service, ShardConfig, ShardShared};
use crate::steering::{OwnerTable, SteeringKeys};
use crate::tcp::Instant;
use crate::wire::checksum::SUMMED;
use crate::wire::options::{TcpOptions, Timestamps};
use crate::wire::tcp::TcpHeader;
use crate::wire::vnet::RxOffload;
use crate::wire::{self, PROTOCOL_TCP};

const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 7, 0, 2));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 7, 0, 1));
const LEN: usize = 1_400;

/// Reads and forgets.
struct Reader;

impl Service for Reader {
    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        io.consume(conn, io.unread(conn));
    }
}

/// A segment from that port of the peer.
fn frame(src_port: u16, (seq, ack): (u32, u32), flags: Flags, len: usize) -> RxFrame {
    let options = TcpOptions { timestamps: Some(Timestamps { val: 1, ecr: 0 }), ..TcpOptions::default() };
    let header = TcpHeader { src_port, dst_port: 9, seq, ack, flags, window: 60_000, urgent: 0, options };
    let (at, tcp_len) = (wire::ip::header_len(OURS), wire::tcp::header_len(&header));
    let mut packet = vec![0; at + tcp_len + len];
    wire::ip::write(&mut packet, PEER, OURS, PROTOCOL_TCP, tcp_len + len, wire::ip::IpFields::default());
    wire::tcp::write(&header, &mut packet[at..]);
    let (head, payload) = packet[at..].split_at_mut(tcp_len);
    wire::tcp::set_checksum(head, PEER, OURS, &[payload]);
    let mut buffer = PacketBuf::new(0, packet.len());
    buffer.storage_mut().copy_from_slice(&packet);
    buffer.set_range(0, packet.len());
    RxFrame { packet: buffer, offload: RxOffload::default(), refusal: None }
}

struct Lab {
    shard: Shard,
    outlet: Outlet,
}

impl Lab {
    fn new() -> Self {
        let now = Instant::from_secs(3_600);
        let config = ShardConfig::sole(vec![OURS]);
        let owners = Arc::new(OwnerTable::in_memory(config.shards));
        let secrets = Secrets { isn: [2; 16], flows: [3; 16], ports: 4, cookies: [5; 16] };
        let shared = ShardShared::new(SteeringKeys::from_random([1; 16]), owners, &secrets);
        let (mut shard, outlet) = Shard::new(config, shared, 8, 64, now).unwrap();
        shard.add_service(Some(9), Box::new(Reader));
        Self { shard, outlet }
    }

    /// The peer sends a segment, for whose checksum nobody vouches. Gives the octets that were summed when it was received.
    fn receive(&mut self, numbers: (u32, u32), flags: Flags, len: usize) -> usize {
        let frame = frame(40_000, numbers, flags, len);
        let before = SUMMED.get();
        self.shard.receive(frame);
        let summed = SUMMED.get() - before;
        self.shard.finish_turn();
        summed
    }

    /// Opens a connection whose peer has sent up to number 1,001; gives the number that it expects.
    fn open(&mut self) -> u32 {
        self.open_from(40_000)
    }

    fn open_from(&mut self, port: u16) -> u32 {
        self.shard.receive(frame(port, (1_000, 0), Flags::SYN, 0));
        self.shard.finish_turn();
        let syn_ack = self.outlet.frames.pop().unwrap();
        let iss = u32::from_be_bytes(*syn_ack.header()[24..].first_chunk().unwrap());
        let before = self.shard.counters().connections;
        self.shard.receive(frame(port, (1_001, iss.wrapping_add(1)), Flags::ACK, 0));
        self.shard.finish_turn();
        while self.outlet.frames.pop().is_some() {}
        assert_eq!((self.shard.counters().connections, self.shard.counters().half_open), (before, 0));
        iss.wrapping_add(1)
    }
}

/// Without checksum offload. The header is counted, and addresses by themselves.
#[test]
fn a_payload_is_summed_once_whatever_its_segment() {
    let mut lab = Lab::new();
    let ack = lab.open();
    let once = |summed: usize| (LEN..LEN + 100).contains(&summed);
    let kinds = [
        (1_001, Flags::ACK),             // the next in order
        (1_001 + 3 * 1_400, Flags::ACK), // out of order
        (1_001, Flags::ACK),             // a duplicate
        (1_001 + 1_400, Flags::ACK | Flags::URG),
        (1_001 + 2 * 1_400, Flags::ACK | Flags::FIN),
    ];
    for (seq, flags) in kinds {
        let summed = lab.receive((seq, ack), flags, LEN);
        assert!(once(summed), "{summed} octets of {seq} with {flags:?}");
    }
    // Which is challenged.
    let summed = lab.receive((1, 1), Flags::SYN, LEN);
    assert!(once(summed), "{summed} octets of a SYN with data");
    let counters = lab.shard.counters();
    assert!(counters.segments_predicted > 0 && counters.segments_out_of_order > 0 && counters.segments_duplicate > 0);
}

/// Those that are looked up ahead and those behind them, packets of nobody and of no sense among them.
#[test]
fn packets_received_together_are_received_one_after_another() {
    let mut lab = Lab::new();
    let ports = [40_000, 40_001, 40_002];
    let acks = ports.map(|port| lab.open_from(port));
    let mut frames = Vec::new();
    for nth in 0..LOOK_AHEAD as u32 {
        for (port, ack) in ports.into_iter().zip(acks) {
            frames.push(frame(port, (1_001 + nth * 100, ack), Flags::ACK, 100));
        }
        frames.push(frame(50_000, (nth, 0), Flags::RST, 0));
        let mut torn = frame(40_000, (1, 1), Flags::ACK, 0);
        torn.packet.set_range(0, nth as usize);
        frames.push(torn);
    }
    let received = frames.len() as u64;
    let before = *lab.shard.counters();
    lab.shard.receive_all(&mut frames);
    lab.shard.finish_turn();
    let after = lab.shard.counters();
    assert!(frames.is_empty());
    assert_eq!(after.packets_in - before.packets_in, received);
    assert_eq!(after.payload_in - before.payload_in, 3 * LOOK_AHEAD as u64 * 100);
    assert_eq!(after.segments_predicted - before.segments_predicted, 3 * LOOK_AHEAD as u64);
    assert_eq!(after.segments_out_of_order, 0);
}
