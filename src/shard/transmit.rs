//! The last part of a turn: connections that something happened to send what they may and re-arm their timers; frames
//! that the tx stage is done with give their memory back.
//!
//! Must not contain: decisions about what to send (they are `tcp`'s), the layout of headers (`egress`), device calls.

use super::budget::{self, Work};
use super::conn::{Conn, Event, Phase};
use super::egress::{Piece, blank, seal};
use super::send_store::MAX_SUPER_SEGMENT;
use super::service::ConnId;
use super::state::{ShardState, note};
use super::wheel::Wheel;
use crate::buffer::frame::{Completion, FrameOwner, TxFrame};
use crate::buffer::send_memory::SendMemory;
use crate::tcp::SeqNum;
use crate::wire::checksum::Accumulator;
use crate::wire::tcp::Flags;

impl ShardState {
    /// Looks after the connections that something happened to, oldest first: sends what they may send and re-arms their
    /// timers.
    pub(crate) fn transmit(&mut self) {
        let connections = self.touched.len().min(budget::CONNECTIONS);
        self.counters.note_work(Work::Connections, connections);
        for _ in 0..connections {
            let Some(id) = self.touched.pop_front() else { break };
            let Some(conn) = self.conns.get_mut(id) else { continue };
            conn.touched = false;
            let again = match &conn.phase {
                Phase::Handshake(_) => self.transmit_handshake(id),
                Phase::Open(_) => self.transmit_open(id),
                Phase::Drained(..) => false,
            };
            let Some(conn) = self.conns.get_mut(id) else { continue };
            arm(&mut self.wheel, id, conn);
            if again {
                note(&mut self.touched, id, conn);
            } else {
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
        let (quad, ip) = (conn.quad, conn.ip);
        if let Phase::Handshake(handshake) = &mut conn.phase
            && let Some(segment) = handshake.poll_transmit(&self.config.tcp, self.now)
        {
            self.egress.send_control(&self.config, &quad, ip, &segment, &mut self.counters);
        }
        false
    }

    /// Sends what the connection may send now, up to its quantum. Returns whether it wants another turn.
    fn transmit_open(&mut self, id: ConnId) -> bool {
        let Self { conns, config, egress, memory, counters, events, now, ring_blocked, .. } = self;
        let Some(conn) = conns.get_mut(id) else { return false };
        let Conn { phase: Phase::Open(connection), send, quad, ip, in_ring, ring_blocked: blocked, wants_room, .. } =
            conn
        else {
            return false;
        };
        let tso = if quad.remote.addr.is_ipv4() { config.offload.tso4 } else { config.offload.tso6 };
        let (max_len, frames) = send.cut(if tso { MAX_SUPER_SEGMENT } else { 0 }, u32::from(config.mtu));
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
                    egress.send_control(config, quad, *ip, &ack, counters);
                }
                return false;
            }
            if !egress.has_room_for(frames) {
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
                seal(config, quad, *ip, &segment, Piece { seq, flags, sum: sum.sum() }, &mut frame);
                *in_ring += covered;
                counters.payload_out += u64::from(covered);
                let staged = egress.stage(config, frame, counters);
                debug_assert!(staged.is_ok(), "room was checked before the segment was taken");
                if let Err(frame) = staged {
                    drop_frame(memory, frame);
                    *in_ring -= covered;
                }
                if last {
                    break;
                }
            }
        }
        if *wants_room && connection.at_low_water() {
            events.push_back(Event::Writable(id));
        }
        false
    }

    /// Sends the immediate ACK that a duplicate, out-of-order or gap-filling segment asks for (RFC5681-3.2.0).
    pub(crate) fn send_immediate_ack(&mut self, id: ConnId) {
        let Self { conns, config, egress, counters, now, .. } = self;
        if let Some(Conn { phase: Phase::Open(connection), quad, ip, .. }) = conns.get_mut(id) {
            if egress.has_room() {
                let ack = connection.take_ack(*now);
                egress.send_control(config, quad, *ip, &ack, counters);
            } else {
                connection.owe_ack();
            }
        }
    }

    /// An ACK found no room in the tx ring. It stood for all that was owed: it leaves when there is room.
    pub(crate) fn owe_ack(&mut self, id: ConnId) {
        if let Some(Conn { phase: Phase::Open(connection), .. }) = self.conns.get_mut(id) {
            connection.owe_ack();
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
}

/// A frame is not sent after all.
pub(super) fn drop_frame(memory: &mut SendMemory, frame: TxFrame) {
    for lease in frame.complete().into_iter().flat_map(Completion::into_leases) {
        memory.complete(lease);
    }
}

/// Makes sure that the wheel wakes this connection no later than its next deadline.
fn arm(wheel: &mut Wheel, id: ConnId, conn: &mut Conn) {
    let next = match &conn.phase {
        Phase::Handshake(handshake) => handshake.next_timeout(),
        Phase::Open(connection) => connection.next_timeout(),
        Phase::Drained(..) => None,
    };
    // Lazily: a later deadline is found when the earlier one comes.
    if let Some(next) = next
        && next < conn.armed
    {
        conn.armed = next;
        wheel.insert(id.slot, next);
    }
}
