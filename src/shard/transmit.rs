//! From a segment that the TCP core wants sent to a frame in the tx ring: headers, checksum, slices of send memory.
//!
//! Must not contain: decisions about what to send (they are `tcp`'s), device calls.

use super::core::{Conn, Core, Phase, ShardConfig};
use super::counters::Counters;
use super::log;
use super::service::ConnId;
use crate::buffer::frame::{Completion, FrameOwner, TxFrame};
use crate::buffer::ring::Producer;
use crate::flow::Quad;
use crate::tcp::{SeqNum, Transmit};
use crate::wire::checksum::Accumulator;
use crate::wire::tcp::{Flags, TcpHeader};
use crate::wire::vnet::{TxChecksum, TxOffload};
use crate::wire::{self, PROTOCOL_TCP, checksum};

/// Frames that one `Transmit` may need at most: 64 KB in pieces of at least 2 KB
/// ([`MIN_STATIC`](super::send_store::MIN_STATIC)), four a frame, and some.
pub(super) const FRAMES_A_SEGMENT: usize = 16;

/// Ring places kept for control segments, so that a RST or an ACK finds room when data fills the ring.
const CONTROL_RESERVE: usize = 8;

/// Largest payload of a super-segment: 65,535 less an IPv6 and a full TCP header.
pub(crate) const MAX_SUPER_SEGMENT: u32 = 65_535 - 40 - 60;

/// The shard's end of the way out.
#[derive(Debug)]
pub(crate) struct Egress {
    ring: Producer<TxFrame>,
    staged: bool,
}

impl Egress {
    pub(crate) fn new(ring: Producer<TxFrame>) -> Self {
        Self { ring, staged: false }
    }

    /// Makes everything staged visible to the tx stage. Returns whether there was anything.
    pub(crate) fn publish(&mut self) -> bool {
        self.ring.publish();
        std::mem::take(&mut self.staged)
    }

    pub(crate) fn has_room_for_data(&mut self) -> bool {
        self.ring.room() >= FRAMES_A_SEGMENT + CONTROL_RESERVE
    }

    pub(crate) fn has_room(&mut self) -> bool {
        self.ring.room() > 0
    }

    /// Sends a segment without payload that nobody waits for. `false`: no room.
    pub(crate) fn send_control(
        &mut self,
        config: &ShardConfig,
        quad: &Quad,
        segment: &Transmit,
        counters: &mut Counters,
    ) -> bool {
        let mut frame = blank(quad, segment);
        seal(config, quad, segment, segment.seq.0, segment.flags, &mut frame, 0);
        self.stage(config, frame, counters)
    }

    pub(crate) fn stage(&mut self, config: &ShardConfig, frame: TxFrame, counters: &mut Counters) -> bool {
        let octets = frame.len() as u64;
        if config.log_segments {
            log::frame_out(&frame);
        }
        if self.ring.stage(frame).is_err() {
            return false;
        }
        self.staged = true;
        counters.packets_out += 1;
        counters.bytes_out += octets;
        true
    }
}

/// A frame with room for the headers of `segment`, to which its payload can be added.
fn blank(quad: &Quad, segment: &Transmit) -> TxFrame {
    let header_len = wire::ip::header_len(quad.remote.addr) + wire::tcp::MIN_HEADER_LEN + segment.options.wire_len();
    let offload = TxOffload {
        checksum: TxChecksum::Done,
        gso_size: 0,
        header_len: header_len as u16,
        ipv6: quad.remote.addr.is_ipv6(),
    };
    TxFrame::new(offload, FrameOwner::NONE, |_| header_len)
}

/// Writes the headers of a frame whose payload is complete. `sum`: the payload's, where the device does not sum.
fn seal(config: &ShardConfig, quad: &Quad, segment: &Transmit, seq: u32, flags: Flags, frame: &mut TxFrame, sum: u32) {
    let (src, dst) = (quad.local.addr, quad.remote.addr);
    let payload_len = frame.payload_len();
    let header = TcpHeader {
        src_port: quad.local.port,
        dst_port: quad.remote.port,
        seq,
        ack: segment.ack.0,
        flags,
        window: segment.window,
        urgent: 0,
        options: segment.options,
    };
    let ip_len = wire::ip::header_len(dst);
    let bytes = frame.header_mut();
    let tcp_len = bytes.len() - ip_len;
    wire::ip::write(bytes, src, dst, PROTOCOL_TCP, tcp_len + payload_len, wire::ip::DEFAULT_TTL, 0);
    let tcp = &mut bytes[ip_len..];
    wire::tcp::write(&header, tcp);
    if config.offload.checksum {
        wire::tcp::set_partial_checksum(tcp, src, dst, payload_len);
        frame.offload.checksum =
            TxChecksum::Partial { start: ip_len as u16, offset: wire::tcp::CHECKSUM_OFFSET as u16 };
    } else {
        // The header is a whole number of 16-bit words: the payload's sum may follow it as it is.
        let pseudo = checksum::pseudo_header(src, dst, PROTOCOL_TCP, tcp_len + payload_len);
        let total = checksum::combine(checksum::combine(pseudo, checksum::sum(tcp), false), sum, false);
        let at = wire::tcp::CHECKSUM_OFFSET;
        tcp[at..at + 2].copy_from_slice(&checksum::finish(total).to_be_bytes());
    }
    if usize::from(segment.gso_size) < payload_len {
        frame.offload.gso_size = segment.gso_size;
    }
}

impl Core {
    /// Looks after the connections that something happened to: sends what they may send and re-arms their timers.
    pub(crate) fn transmit(&mut self) {
        for _ in 0..self.touched.len() {
            let Some(id) = self.touched.pop_front() else { break };
            let Some(conn) = self.conns.get_mut(id) else { continue };
            conn.touched = false;
            let again = match &conn.phase {
                Phase::Handshake(_) => self.transmit_handshake(id),
                Phase::Open(_) => self.transmit_open(id),
                Phase::Drained(_) => false,
            };
            self.arm(id);
            if again {
                self.touch(id);
            } else if let Some(conn) = self.conns.get_mut(id) {
                conn.send.trim();
            }
        }
    }

    /// Sends a SYN or SYN-ACK if one is due. Returns whether it must be tried again.
    fn transmit_handshake(&mut self, id: ConnId) -> bool {
        if !self.egress.has_room() {
            return true;
        }
        let Some(conn) = self.conns.get_mut(id) else { return false };
        let quad = conn.quad;
        if let Phase::Handshake(handshake) = &mut conn.phase
            && let Some(segment) = handshake.poll_transmit(&self.config.tcp, self.now)
        {
            self.egress.send_control(&self.config, &quad, &segment, &mut self.counters);
        }
        false
    }

    /// Sends what the connection may send now, up to its quantum. Returns whether it wants another turn.
    fn transmit_open(&mut self, id: ConnId) -> bool {
        let Self { conns, config, egress, memory, counters, now, ring_blocked, .. } = self;
        let Some(conn) = conns.get_mut(id) else { return false };
        let Conn { phase: Phase::Open(connection), send, quad, in_ring, ring_blocked: blocked, .. } = conn else {
            return false;
        };
        let tso = if quad.remote.addr.is_ipv4() { config.offload.tso4 } else { config.offload.tso6 };
        let max_len = if tso { MAX_SUPER_SEGMENT } else { 0 };
        let mut sent = 0;
        while connection.wants_transmit() {
            if sent >= config.limits.quantum {
                return true;
            }
            if *in_ring >= config.limits.in_ring {
                // Completions bring this connection back; a pending ACK must not wait for them.
                *ring_blocked += usize::from(!std::mem::replace(blocked, true));
                if connection.ack_due() && egress.has_room() {
                    let ack = connection.take_ack(*now);
                    egress.send_control(config, quad, &ack, counters);
                }
                return false;
            }
            if !egress.has_room_for_data() {
                return true;
            }
            let Some(segment) = connection.poll_transmit(&config.tcp, *now, max_len) else { break };
            sent += segment.len.max(1);
            counters.retransmits += u64::from(segment.retransmission);
            let mut done = 0;
            loop {
                let mut frame = blank(quad, &segment);
                let mut sum = Accumulator::default();
                let summed = (!config.offload.checksum).then_some(&mut sum);
                let covered = send.lease(memory, segment.offset + done, segment.len - done, &mut frame, summed);
                done += covered;
                // Nearly always one frame; more when the octets were queued in many small pieces.
                let last = done == segment.len || covered == 0;
                let flags = if last { segment.flags } else { segment.flags.without(Flags::FIN | Flags::PSH) };
                let seq = segment.seq.0.wrapping_add(done - covered);
                let fin = u32::from(flags.contains(Flags::FIN));
                if covered + fin > 0 {
                    let end_seq = seq.wrapping_add(covered + fin);
                    frame.owner = FrameOwner { slot: id.slot, generation: id.generation, end_seq, bytes: covered };
                }
                seal(config, quad, &segment, seq, flags, &mut frame, sum.sum());
                *in_ring += covered;
                counters.payload_out += u64::from(covered);
                let staged = egress.stage(config, frame, counters);
                debug_assert!(staged, "room was checked before the segment was taken");
                if last {
                    break;
                }
            }
        }
        false
    }

    /// Sends the immediate ACK that a duplicate, out-of-order or gap-filling segment asks for (RFC5681-4.2).
    pub(crate) fn send_immediate_ack(&mut self, id: ConnId) {
        let Self { conns, config, egress, counters, now, .. } = self;
        if let Some(Conn { phase: Phase::Open(connection), quad, .. }) = conns.get_mut(id)
            && egress.has_room()
        {
            let ack = connection.take_ack(*now);
            egress.send_control(config, quad, &ack, counters);
        }
    }

    /// The tx stage is done with a frame: its memory may go, and what waited for room may be sent.
    pub(crate) fn complete(&mut self, completion: Completion) {
        let owner = completion.owner;
        for lease in completion.into_leases() {
            self.memory.complete(lease);
        }
        if owner.is_none() {
            return;
        }
        let id = ConnId { slot: owner.slot, generation: owner.generation };
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.in_ring = conn.in_ring.saturating_sub(owner.bytes);
        if conn.in_ring < self.config.limits.in_ring {
            self.ring_blocked -= usize::from(std::mem::take(&mut conn.ring_blocked));
        }
        if let Phase::Open(connection) = &mut conn.phase {
            connection.on_device_write(SeqNum(owner.end_seq));
            if connection.wants_transmit() {
                self.touch(id);
            }
        }
    }

    /// Makes sure that the wheel wakes this connection no later than its next deadline.
    pub(crate) fn arm(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let next = match &conn.phase {
            Phase::Handshake(handshake) => handshake.next_timeout(),
            Phase::Open(connection) => connection.next_timeout(),
            Phase::Drained(_) => None,
        };
        // Lazily: a later deadline is found when the earlier one comes.
        if let Some(next) = next
            && conn.armed.is_none_or(|armed| next < armed)
        {
            conn.armed = Some(next);
            self.wheel.insert(id.slot, next);
        }
    }
}
