//! The last part of a turn: connections that something happened to send what they may and re-arm their timers; frames
//! that the tx stage is done with give their memory back.
//!
//! Must not contain: decisions about what to send (they are `tcp`'s), the layout of headers (`egress`), device calls.

use super::budget::{self, Work};
use super::config::ShardConfig;
use super::conn::{Conn, Event, Phase};
use super::counters::Counters;
use super::egress::{Egress, Headers, Other, Piece, Stamped};
use super::send_store::{MAX_SUPER_SEGMENT, SendStore};
use super::service::ConnId;
use super::state::{ShardState, note};
use super::tap::Cause;
use super::wheel::Wheel;
use crate::buffer::frame::{Completion, FrameOwner, TxFrame};
use crate::buffer::send_memory::SendMemory;
use crate::flow::Quad;
use crate::tcp::{Instant, SeqNum, Transmit};
use crate::wire::checksum::Accumulator;
use crate::wire::ip::IpFields;
use crate::wire::tcp::Flags;

impl ShardState {
    /// Looks after the connections that something happened to, oldest first: sends what they may send and re-arms their
    /// timers.
    pub(crate) fn transmit(&mut self) {
        let connections = self.touched.len().min(budget::CONNECTIONS);
        self.counters.note_work(Work::Connections, connections);
        for _ in 0..connections {
            let Some(id) = self.touched.pop_front() else { break };
            if self.trace.is_some() {
                self.look_at(id);
            }
            let Self { conns, config, egress, memory, counters, events, now, ring_blocked, .. } = self;
            let Some(conn) = conns.get_mut(id) else { continue };
            conn.touched = false;
            let mut way = WayOut { config, egress, memory, counters, now: *now };
            let again = match &conn.phase {
                Phase::Open(_) => {
                    let pause = way.transmit_open(id, conn);
                    let is_blocked = pause == Some(Pause::InRing) && !std::mem::replace(&mut conn.ring_blocked, true);
                    *ring_blocked += usize::from(is_blocked);
                    if pause.is_none() && conn.wants_room && is_at_low_water(conn) {
                        events.push_back(Event::Writable(id));
                    }
                    pause == Some(Pause::Turn)
                }
                Phase::Handshake(_) => way.transmit_handshake(conn),
                Phase::Drained(..) => false,
            };
            arm(&mut self.wheel, id, conn);
            if again {
                note(&mut self.touched, id, conn);
            } else {
                conn.send.trim();
            }
            if self.trace.is_some() {
                self.look_at(id);
            }
        }
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

/// Why a connection that may send more does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// It has its turn again in the next one of the shard.
    Turn,
    /// Completions of what it has in the tx ring bring it back.
    InRing,
}

fn is_at_low_water(conn: &Conn) -> bool {
    matches!(&conn.phase, Phase::Open(connection) if connection.at_low_water())
}

/// What a connection needs of its shard to send.
struct WayOut<'a> {
    config: &'a ShardConfig,
    egress: &'a mut Egress,
    memory: &'a mut SendMemory,
    counters: &'a mut Counters,
    now: Instant,
}

impl WayOut<'_> {
    /// The same, to be lent to what is not part of every segment: by value, so that nobody keeps its address, and its
    /// fields need not lie in memory.
    #[inline(always)]
    fn lend(&mut self) -> WayOut<'_> {
        let Self { config, egress, memory, counters, now } = self;
        WayOut { config, egress, memory, counters, now: *now }
    }

    /// Sends a SYN or SYN-ACK if one is due. Returns whether it must be tried again.
    #[inline(never)]
    fn transmit_handshake(self, conn: &mut Conn) -> bool {
        if !self.egress.has_room() {
            return true;
        }
        if let Phase::Handshake(handshake) = &mut conn.phase
            && let Some(segment) = handshake.poll_transmit(&self.config.tcp, self.now)
        {
            self.counters.syn_retransmits += u64::from(segment.resent.is_some());
            self.egress.send_control(self.config, &conn.quad, conn.ip, &segment, self.counters);
        }
        false
    }

    /// Sends what the connection may send now, up to its quantum.
    #[inline]
    fn transmit_open(&mut self, id: ConnId, conn: &mut Conn) -> Option<Pause> {
        let Conn { phase: Phase::Open(connection), send, quad, ip, in_ring, .. } = conn else { return None };
        let config = self.config;
        let tso = if quad.remote.addr.is_ipv4() { config.offload.tso4 } else { config.offload.tso6 };
        let (max_len, frames) = send.cut(if tso { MAX_SUPER_SEGMENT } else { 0 }, u32::from(config.mtu));
        let mut sent = 0;
        while connection.wants_transmit() {
            if sent >= config.limits.quantum {
                return Some(Pause::Turn);
            }
            if *in_ring >= config.limits.in_ring {
                // A pending ACK must not wait for completions.
                if connection.ack_due() && self.egress.has_room() {
                    let ack = connection.take_ack(self.now);
                    self.egress.send_control(config, quad, *ip, &ack, self.counters);
                }
                return Some(Pause::InRing);
            }
            if !self.egress.has_room_for(frames) {
                return Some(Pause::Turn);
            }
            let polled = connection.poll_transmit(&config.tcp, self.now, max_len);
            let Some(segment) = &polled else { break };
            sent += segment.len.max(1);
            if let Some(state) = segment.resent {
                self.lend().note_retransmission(Cause::of(state), (segment.len, segment.gso_size));
            }
            *in_ring += self.send_segment(id, send, (quad, *ip), segment);
        }
        None
    }

    /// Counts what is sent again, so many octets in pieces of that size; a tap is told why.
    // In line, or with the segment by reference, it would cost each segment that is new.
    #[cold]
    #[inline(never)]
    fn note_retransmission(self, cause: Cause, (len, gso_size): (u32, u16)) {
        let segments = if gso_size == 0 { 1 } else { len.div_ceil(gso_size.into()) };
        self.counters.retransmits += 1;
        self.counters.segments_resent += u64::from(segments);
        if cause == Cause::Loss {
            self.counters.fast_retransmits += u64::from(segments);
        }
        if let Some(tap) = self.egress.tap_mut() {
            tap.sends_again(cause);
        }
    }

    /// Sends a segment. Gives the octets that went into the ring.
    #[inline(always)]
    fn send_segment(&mut self, id: ConnId, send: &SendStore, (quad, ip): (&Quad, IpFields), segment: &Transmit) -> u32 {
        if let Some(headers) = Stamped::of(quad, segment) {
            let sent = self.send_piece(id, send, (&headers, ip), segment, 0);
            if sent == segment.len {
                return sent;
            }
            return self.lend().send_rest(id, send, (quad, ip), segment, sent);
        }
        self.lend().send_other(id, send, (quad, ip), segment)
    }

    /// [`send_segment`](Self::send_segment) of one whose headers are of another form.
    #[inline(never)]
    fn send_other(mut self, id: ConnId, send: &SendStore, (quad, ip): (&Quad, IpFields), segment: &Transmit) -> u32 {
        let sent = self.send_piece(id, send, (&Other(quad), ip), segment, 0);
        self.send_rest(id, send, (quad, ip), segment, sent)
    }

    /// Sends what of a segment did not fit into a frame with the octets that are `sent`: they were queued in many small
    /// pieces. Gives the octets of all.
    #[inline(never)]
    fn send_rest(
        mut self,
        id: ConnId,
        send: &SendStore,
        (quad, ip): (&Quad, IpFields),
        segment: &Transmit,
        mut sent: u32,
    ) -> u32 {
        let mut last = sent;
        while sent < segment.len && last > 0 {
            last = self.send_piece(id, send, (&Other(quad), ip), segment, sent);
            sent += last;
        }
        sent
    }

    /// Sends as much of a segment behind its first `done` octets as goes into a frame. Gives how much that was.
    #[inline(always)]
    fn send_piece(
        &mut self,
        id: ConnId,
        send: &SendStore,
        headers: (&impl Headers, IpFields),
        segment: &Transmit,
        done: u32,
    ) -> u32 {
        let Self { config, egress, memory, counters, .. } = self;
        let mut len = 0;
        let sent = egress.send(config, counters, headers, segment, |frame| {
            let mut sum = Accumulator::default();
            let summed = (!config.offload.checksum).then_some(&mut sum);
            len = send.lease(memory, segment.offset + done, segment.len - done, frame, summed);
            let last = done + len == segment.len || len == 0;
            let flags = if last { segment.flags } else { segment.flags.without(Flags::FIN | Flags::PSH) };
            let seq = segment.seq.0.wrapping_add(done);
            let fin = u32::from(flags.contains(Flags::FIN));
            if len + fin > 0 {
                let end_seq = seq.wrapping_add(len + fin);
                frame.owner = FrameOwner { slot: id.slot, generation: id.generation, end_seq, bytes: len };
            }
            Piece { seq, flags, len, sum: sum.sum() }
        });
        debug_assert!(sent, "room was checked before the segment was taken");
        counters.payload_out += u64::from(len);
        len
    }
}

/// A frame is not sent after all.
pub(super) fn drop_frame(memory: &mut SendMemory, frame: TxFrame) {
    for lease in frame.complete().into_iter().flat_map(Completion::into_leases) {
        memory.complete(lease);
    }
}

/// Makes sure that the wheel wakes this connection no later than its next deadline.
#[inline(always)]
fn arm(wheel: &mut Wheel, id: ConnId, conn: &mut Conn) {
    let next = match &conn.phase {
        Phase::Open(connection) => connection.next_timeout(),
        Phase::Handshake(handshake) => handshake.next_timeout(),
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
