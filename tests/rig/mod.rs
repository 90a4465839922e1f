//! What several tests need: a shard driven by hand, and a peer made of hand-built packets.
//!
//! Must not contain: threads, engines, assertions about behaviour.

#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use trust::buffer::frame::{Completion, RxFrame};
use trust::buffer::packet::PacketBuf;
use trust::flow::ShardId;
use trust::shard::{
    ConnId, Counters, DropReason, Io, Message, Outlet, Secrets, Service, Shard, ShardConfig, ShardShared,
};
use trust::steering::{OwnerTable, SteeringKeys};
use trust::tcp::{CloseReason, Duration, Instant};
use trust::wire::options::{TcpOptions, Timestamps};
use trust::wire::tcp::{Flags, TcpHeader};
use trust::wire::vnet::{ChecksumStatus, RxOffload, TxOffload};
use trust::wire::{self, PROTOCOL_TCP};

/// The address under test.
pub const OURS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);
/// The peer's address.
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);

/// The same in IPv6, where a test gives them to its shard.
pub const OURS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 2);
pub const PEER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 1);

/// An IP packet with that payload.
pub fn ip_packet(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let (src, dst) = (src.into(), dst.into());
    let mut packet = vec![0; wire::ip::header_len(src) + payload.len()];
    let at = wire::ip::write(&mut packet, src, dst, protocol, payload.len(), wire::ip::IpFields::default());
    packet[at..].copy_from_slice(payload);
    packet
}

/// A whole packet from `src` to `dst` with that TCP header (its ports count) and payload.
pub fn tcp_packet(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, header: &TcpHeader, payload: &[u8]) -> Vec<u8> {
    let (src, dst) = (src.into(), dst.into());
    let len = wire::tcp::header_len(header);
    let mut segment = vec![0; len + payload.len()];
    wire::tcp::write(header, &mut segment);
    segment[len..].copy_from_slice(payload);
    let (head, _) = segment.split_at_mut(len);
    wire::tcp::set_checksum(head, src, dst, &[payload]);
    ip_packet(src, dst, PROTOCOL_TCP, &segment)
}

/// Where packets begin in their buffers, as behind the header of a device: not in front.
const HEADROOM: usize = 16;

/// A packet that the shard has sent.
#[derive(Debug, Clone)]
pub struct Sent {
    pub packet: Vec<u8>,
    /// Of TCP segments.
    pub header: TcpHeader,
    pub payload: Vec<u8>,
    pub offload: TxOffload,
}

impl Sent {
    pub fn parse(packet: Vec<u8>, offload: TxOffload) -> Self {
        let ip = wire::ip::parse(&packet, true).expect("the shard sends sound IP");
        let (header, payload) = if ip.protocol == PROTOCOL_TCP {
            let trusted = offload != TxOffload::default() && !matches!(offload.checksum, wire::vnet::TxChecksum::Done);
            let (header, payload) = wire::tcp::parse(ip.payload, ip.src, ip.dst, trusted).expect("and sound TCP");
            (header, payload.to_vec())
        } else {
            (TcpHeader::default(), ip.payload.to_vec())
        };
        Self { header, payload, offload, packet }
    }

    pub fn has(&self, flags: Flags) -> bool {
        self.header.flags.contains(flags)
    }

    /// Sequence numbers it takes.
    pub fn seq_len(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.has(Flags::SYN)) + u32::from(self.has(Flags::FIN))
    }
}

/// One shard, its rings and its packet pool in the hands of a test.
pub struct Rig {
    pub shard: Shard,
    pub owners: Arc<OwnerTable>,
    pub now: Instant,
    /// What the shard has sent and nobody has looked at.
    pub sent: VecDeque<Sent>,
    /// Completions stay in `completions` instead of going back at the next turn.
    pub hold_completions: bool,
    pub completions: Vec<Completion>,
    /// Nobody takes frames out of the tx ring.
    pub stop_tx: bool,
    /// Frames are counted, not parsed.
    pub blind: bool,
    /// Of the last of those: its headers.
    pub last_header: [u8; 60],
    /// Whether they are wanted.
    pub keep_header: bool,
    pub frames_out: u64,
    outlet: Outlet,
    pool: Vec<PacketBuf>,
    buffers_out: usize,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(|_| {}, 256, 1_024)
    }

    pub fn with(tweak: impl FnOnce(&mut ShardConfig), send_chunks: u32, tx_ring: usize) -> Self {
        Self::with_owners(OwnerTable::in_memory, tweak, send_chunks, tx_ring)
    }

    /// The same, with an owner table for so many shards as `owners` makes it.
    pub fn with_owners(
        owners: impl FnOnce(u16) -> OwnerTable,
        tweak: impl FnOnce(&mut ShardConfig),
        send_chunks: u32,
        tx_ring: usize,
    ) -> Self {
        let now = Instant::from_nanos(3_600_000_000_000);
        let mut config = ShardConfig::sole(vec![IpAddr::V4(OURS)]);
        tweak(&mut config);
        let owners = Arc::new(owners(config.shards));
        let secrets = Secrets { isn: [2; 16], flows: [3; 16], ports: 4, cookies: [5; 16] };
        let shared = ShardShared::new(SteeringKeys::from_random([1; 16]), Arc::clone(&owners), &secrets);
        let (shard, outlet) = Shard::new(config, shared, send_chunks, tx_ring, now).expect("sound settings");
        Self {
            shard,
            owners,
            now,
            sent: VecDeque::new(),
            hold_completions: false,
            completions: Vec::new(),
            stop_tx: false,
            blind: false,
            last_header: [0; 60],
            keep_header: false,
            frames_out: 0,
            outlet,
            pool: Vec::new(),
            buffers_out: 0,
        }
    }

    /// A buffer of the pool that holds `packet`.
    pub fn buffer(&mut self, packet: &[u8]) -> PacketBuf {
        let mut buffer = self.pool.pop().unwrap_or_else(|| PacketBuf::new(0, HEADROOM + 65_600));
        buffer.storage_mut()[HEADROOM..HEADROOM + packet.len()].copy_from_slice(packet);
        buffer.set_range(HEADROOM, packet.len());
        self.buffers_out += 1;
        buffer
    }

    /// One turn with these packets.
    pub fn turn(&mut self, packets: &[Vec<u8>]) {
        self.begin();
        for packet in packets {
            self.receive(packet);
        }
        self.finish();
    }

    pub fn begin(&mut self) {
        self.shard.begin_turn(self.now);
        if !self.hold_completions {
            for completion in self.completions.drain(..) {
                self.shard.complete(completion);
            }
        }
    }

    pub fn receive(&mut self, packet: &[u8]) {
        self.receive_with(packet, RxOffload::default());
    }

    pub fn receive_with(&mut self, packet: &[u8], offload: RxOffload) {
        let packet = self.buffer(packet);
        let frame = RxFrame { packet, offload, refusal: None };
        if self.shard.is_tapped() {
            self.shard.receive_tapped(frame);
        } else {
            self.shard.receive(frame);
        }
    }

    /// A packet of `len` octets that begins with `head`; the rest is what the buffer held before. No copy of a payload
    /// that nobody looks at is measured that way.
    pub fn receive_head(&mut self, head: &[u8], len: usize, offload: RxOffload) {
        let frame = self.frame_head(head, len, offload);
        self.shard.receive(frame);
    }

    /// The same, not handed over yet.
    #[inline]
    pub fn frame_head(&mut self, head: &[u8], len: usize, offload: RxOffload) -> RxFrame {
        let mut packet = self.buffer(head);
        packet.set_range(HEADROOM, len);
        RxFrame { packet, offload, refusal: None }
    }

    pub fn finish(&mut self) {
        self.shard.finish_turn();
        if !self.stop_tx {
            self.drain_tx();
        }
        while let Some(packet) = self.shard.take_released() {
            self.buffers_out -= 1;
            self.pool.push(packet);
        }
    }

    /// The tx stage takes everything.
    pub fn drain_tx(&mut self) {
        while let Some(frame) = self.outlet.frames.pop() {
            self.frames_out += 1;
            if self.keep_header {
                let header = frame.header();
                self.last_header[..header.len()].copy_from_slice(header);
            }
            if !self.blind {
                let mut packet = frame.header().to_vec();
                for slice in frame.payload(&self.outlet.memory).iter() {
                    packet.extend_from_slice(slice);
                }
                self.sent.push_back(Sent::parse(packet, frame.offload));
            }
            self.completions.extend(frame.complete());
        }
        self.outlet.frames.release();
    }

    /// Empty turns until nothing more is sent.
    pub fn settle(&mut self) {
        for _ in 0..64 {
            let before = self.frames_out;
            self.turn(&[]);
            if self.frames_out == before && self.completions.is_empty() {
                return;
            }
        }
    }

    /// Time passes, with a turn at each deadline.
    pub fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..1_000_000 {
            match self.shard.next_deadline() {
                Some(deadline) if deadline <= end => {
                    self.now = self.now.max(deadline);
                    self.turn(&[]);
                }
                _ => break,
            }
        }
        self.now = end;
        self.turn(&[]);
    }

    /// The next packet sent.
    pub fn next(&mut self) -> Sent {
        self.sent.pop_front().expect("the shard has sent something")
    }

    /// Buffers that the shard has and the pool has not.
    pub fn buffers_out(&self) -> usize {
        self.buffers_out
    }

    pub fn counters(&mut self) -> Counters {
        *self.shard.counters()
    }

    pub fn dropped(&mut self, reason: DropReason) -> u64 {
        self.counters().dropped(reason)
    }

    /// Nothing of any connection is left.
    pub fn assert_empty(&mut self) {
        self.settle();
        let counters = self.counters();
        assert_eq!(counters.connections, 0, "connections");
        assert_eq!(counters.half_open, 0, "half open");
        assert_eq!(counters.send_chunks, 0, "chunks");
        assert_eq!((counters.held_packets, counters.held_octets), (0, 0), "held");
        assert_eq!(self.buffers_out, 0, "packet buffers");
        assert!(!self.shard.awaits_completions(), "leases");
        assert!(!self.shard.has_work() && !self.shard.waits_for_tx(), "work");
    }

    /// A connection from `port` of the peer to `service_port`, established.
    pub fn connect(&mut self, port: u16, service_port: u16) -> Peer {
        let mut peer = Peer::new(port, service_port);
        peer.open(self);
        peer
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

/// The other end of one connection: numbers, no behaviour.
#[derive(Debug, Clone)]
pub struct Peer {
    pub addr: IpAddr,
    /// The shard's address, of the same family.
    pub ours: IpAddr,
    pub port: u16,
    pub service_port: u16,
    /// Next number it sends.
    pub seq: u32,
    /// Next number it expects.
    pub ack: u32,
    pub window: u16,
    pub syn_options: TcpOptions,
    /// TSval and TSecr of what it sends.
    pub stamps: Option<Timestamps>,
    /// All in-order payload it got.
    pub got: Vec<u8>,
    pub got_fin: bool,
    pub got_reset: bool,
}

impl Peer {
    pub fn new(port: u16, service_port: u16) -> Self {
        let syn_options = TcpOptions {
            mss: Some(1_460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: None,
            ..TcpOptions::default()
        };
        Self {
            addr: PEER.into(),
            ours: OURS.into(),
            port,
            service_port,
            seq: 1_000,
            ack: 0,
            window: 60_000,
            syn_options,
            stamps: None,
            got: Vec::new(),
            got_fin: false,
            got_reset: false,
        }
    }

    /// A peer by IPv6.
    pub fn v6(port: u16, service_port: u16) -> Self {
        Self { addr: PEER_V6.into(), ours: OURS_V6.into(), ..Self::new(port, service_port) }
    }

    fn header(&self, flags: Flags) -> TcpHeader {
        let ack = if flags.contains(Flags::ACK) { self.ack } else { 0 };
        TcpHeader {
            src_port: self.port,
            dst_port: self.service_port,
            seq: self.seq,
            ack,
            flags,
            window: self.window,
            urgent: 0,
            options: TcpOptions { timestamps: self.stamps, ..TcpOptions::default() },
        }
    }

    pub fn syn(&self) -> Vec<u8> {
        let header = TcpHeader { options: self.syn_options, ..self.header(Flags::SYN) };
        tcp_packet(self.addr, self.ours, &header, &[])
    }

    /// A packet at the peer's present place in the stream; the place moves on.
    pub fn packet(&mut self, flags: Flags, payload: &[u8]) -> Vec<u8> {
        let packet = self.packet_at(0, flags, payload);
        let flag_octets = u32::from(flags.contains(Flags::SYN)) + u32::from(flags.contains(Flags::FIN));
        self.seq = self.seq.wrapping_add(payload.len() as u32 + flag_octets);
        packet
    }

    /// A packet `offset` octets behind the peer's place, which stays.
    pub fn packet_at(&self, offset: u32, flags: Flags, payload: &[u8]) -> Vec<u8> {
        let header = TcpHeader { seq: self.seq.wrapping_add(offset), ..self.header(flags) };
        tcp_packet(self.addr, self.ours, &header, payload)
    }

    pub fn data(&mut self, payload: &[u8]) -> Vec<u8> {
        self.packet(Flags::ACK | Flags::PSH, payload)
    }

    pub fn ack(&self) -> Vec<u8> {
        self.packet_at(0, Flags::ACK, &[])
    }

    pub fn fin(&mut self) -> Vec<u8> {
        self.packet(Flags::FIN | Flags::ACK, &[])
    }

    pub fn rst(&self) -> Vec<u8> {
        self.packet_at(0, Flags::RST | Flags::ACK, &[])
    }

    /// The handshake.
    pub fn open(&mut self, rig: &mut Rig) {
        rig.turn(&[self.syn()]);
        let to_us = |sent: &Sent| sent.header.dst_port == self.port && sent.header.src_port == self.service_port;
        let place = rig.sent.iter().position(to_us).expect("a SYN is answered");
        let syn_ack = rig.sent.remove(place).unwrap();
        assert!(syn_ack.has(Flags::SYN | Flags::ACK), "{:?}", syn_ack.header);
        assert_eq!(syn_ack.header.ack, self.seq.wrapping_add(1));
        self.seq = syn_ack.header.ack;
        self.ack = syn_ack.header.seq.wrapping_add(1);
        if let Some(stamps) = syn_ack.header.options.timestamps {
            self.stamps = Some(Timestamps { val: stamps.ecr, ecr: stamps.val });
        }
        rig.turn(&[self.ack()]);
    }

    /// Takes everything the shard has sent to this peer: in-order payload, FIN, RST. Other peers' packets stay.
    pub fn take(&mut self, rig: &mut Rig) {
        for sent in std::mem::take(&mut rig.sent) {
            if sent.header.dst_port != self.port || sent.header.src_port != self.service_port {
                rig.sent.push_back(sent);
                continue;
            }
            self.got_reset |= sent.has(Flags::RST);
            if sent.header.seq == self.ack && !sent.has(Flags::SYN) {
                self.got.extend_from_slice(&sent.payload);
                self.ack = self.ack.wrapping_add(sent.seq_len());
                self.got_fin |= sent.has(Flags::FIN);
            }
        }
    }
}

/// What a [`Probe`] was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Accepted(ConnId),
    Readable(ConnId),
    Writable(ConnId),
    Closed(ConnId, CloseReason),
    Timer(u64),
    Message(ShardId),
}

type Act = Box<dyn FnMut(&mut dyn Io, &Call) + Send>;

/// A service that notes each call and does what a test wants.
pub struct Probe {
    calls: Arc<Mutex<Vec<Call>>>,
    act: Act,
}

/// A probe and the list of its calls.
pub fn probe(act: impl FnMut(&mut dyn Io, &Call) + Send + 'static) -> (Box<dyn Service>, Arc<Mutex<Vec<Call>>>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    (Box::new(Probe { calls: Arc::clone(&calls), act: Box::new(act) }), calls)
}

impl Probe {
    fn call(&mut self, io: &mut dyn Io, call: Call) {
        (self.act)(io, &call);
        self.calls.lock().unwrap().push(call);
    }
}

impl Service for Probe {
    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        self.call(io, Call::Accepted(conn));
    }

    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        self.call(io, Call::Readable(conn));
    }

    fn writable(&mut self, io: &mut dyn Io, conn: ConnId) {
        self.call(io, Call::Writable(conn));
    }

    fn closed(&mut self, io: &mut dyn Io, conn: ConnId, reason: CloseReason) {
        self.call(io, Call::Closed(conn, reason));
    }

    fn message(&mut self, io: &mut dyn Io, from: ShardId, _: Message) {
        self.call(io, Call::Message(from));
    }

    fn timer(&mut self, io: &mut dyn Io, token: u64) {
        self.call(io, Call::Timer(token));
    }
}

/// Reasons of all `closed` calls.
pub fn endings(calls: &Mutex<Vec<Call>>) -> Vec<CloseReason> {
    let calls = calls.lock().unwrap();
    calls.iter().filter_map(|call| if let Call::Closed(_, reason) = call { Some(*reason) } else { None }).collect()
}

/// The device vouches for the checksum.
pub const TRUSTED: RxOffload = RxOffload { checksum: ChecksumStatus::Trusted, gso_size: 0 };

/// Random numbers: SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}
