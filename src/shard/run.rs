//! Segments as most of them come: one after another for the same connection, each what it expects next.
//!
//! Such a segment needs neither the parsers of all packets nor the flow table, and its connection's record is looked up
//! once. The service is told of what a whole run of them has brought, not of each. Whatever else comes first ends the
//! run. Must not contain: protocol decisions (header prediction is `tcp`'s), what is done with other segments.

use super::Shard;
use super::arrival::Arrival;
use super::conn::{Conn, Phase};
use super::eviction::held_pool;
use super::hasher::Flow;
use super::recent::Recent;
use super::state::{MOST_AT_ONCE, note};
use crate::buffer::frame::RxFrame;
use crate::flow::{Endpoint, Quad};
use crate::tcp::{Context, Keep, Segment};
use crate::wire::plain::{self, FlowOctets};
use crate::wire::tcp::Flags;
use crate::wire::vnet::ChecksumStatus;

/// Octets after which the service is told of a run, lest they leave the processor's cache before they are read.
const MOST_OCTETS: u32 = 65_536;
/// Packets that [`Shard::receive_all`] looks at ahead.
pub const LOOK_AHEAD: usize = 32;
/// Lines of a connection's record that the next segment in order touches, from the first on.
const RECORD_LINES: usize = 10;
/// Segments after which it is told.
const MOST_SEGMENTS: u32 = 64;

impl Shard {
    /// Handles one packet that this shard owns. The packet's buffer comes back through
    /// [`take_released`](Self::take_released), now or when its reader is done with it. Its service may be told of payload
    /// with later packets, and at the latest by [`finish_turn`](Self::finish_turn).
    pub fn receive(&mut self, frame: RxFrame) {
        let state = &mut self.state;
        state.counters.packets_in += 1;
        state.counters.bytes_in += frame.packet.len() as u64;
        let packet = frame.packet.bytes();
        let trusted = frame.offload.checksum == ChecksumStatus::Trusted;
        let Some(plain) = plain::parse(packet, trusted) else {
            self.end_run();
            return self.receive_other(frame);
        };
        if !state.recent.flow.is_of(packet)
            && let Err(flow) = self.follow(packet)
        {
            return match flow {
                Some(flow) => self.receive_unknown(&flow, &plain, frame),
                None => self.receive_other(frame),
            };
        }
        let state = &mut self.state;
        if plain.flags.without(Flags::PSH) == Flags::ACK
            && let Some(conn) = state.conns.at_mut(state.recent.id.slot)
            && let Conn { phase: Phase::Open(connection), send, receive, .. } = conn
            && (plain.len == 0 || held_pool(&state.config, &state.holdings).is_ample(receive.taken(), MOST_AT_ONCE))
            && !state.config.log_segments
            && let segment = Segment::from(&plain)
            && let context = (Context { now: state.now, keep: Keep::All })
            && let Some((acked, has_room)) = connection.on_expected(&state.config.tcp, &segment, &context)
        {
            let counters = &mut state.counters;
            counters.segments_in += 1;
            counters.segments_predicted += 1;
            if acked > 0 {
                send.acknowledge(&mut state.memory, acked);
            }
            let mut over = false;
            if segment.len > 0 {
                counters.payload_in += u64::from(segment.len);
                if state.recent.untold == 0 {
                    receive.begin_run();
                }
                state.recent.untold += 1;
                let start = frame.packet.start() + plain.start;
                let held = receive.deliver(&mut state.holdings, Arrival { frame, start }.whole(plain.len));
                debug_assert_eq!(held, 0, "nothing is held where segments are predicted");
                over = receive.unread() >= MOST_OCTETS || state.recent.untold >= MOST_SEGMENTS;
            } else {
                state.holdings.released.push(frame.packet);
            }
            // One that had too little memory did not fill its buffer: any acknowledgment lets it try again.
            let writable = conn.wants_room && (has_room || (conn.starved && acked > 0));
            let id = state.recent.id;
            note(&mut state.touched, id, conn);
            if over || writable {
                self.end_run();
            }
            if writable {
                self.writable(id);
            }
            return;
        }
        self.end_run();
        let start = frame.packet.start() + plain.start;
        self.receive_recent(&Segment::from(&plain), Arrival { frame, start });
    }

    /// [`receive`](Self::receive) of several packets in their order. What is known of the connections of the first
    /// [`LOOK_AHEAD`] is asked of memory before, for all of them at once: among very many connections a segment waits
    /// for little else.
    pub fn receive_all(&mut self, frames: &mut Vec<RxFrame>) {
        if frames.len() > 1 {
            self.expect(frames.iter().map(|frame| frame.packet.bytes()));
        }
        for frame in frames.drain(..) {
            self.receive(frame);
        }
    }

    fn expect<'a>(&self, packets: impl Iterator<Item = &'a [u8]>) {
        let state = &self.state;
        let mut hashes = [0; LOOK_AHEAD];
        let mut count = 0;
        let mut last = state.recent.flow;
        for packet in packets.take(LOOK_AHEAD) {
            if last.is_of(packet) {
                continue;
            }
            let Some(octets) = FlowOctets::of(packet) else { continue };
            last = octets;
            let ((src, src_port), (dst, dst_port)) = octets.ends();
            let hash = state.hash(&Quad { local: Endpoint::new(dst, dst_port), remote: Endpoint::new(src, src_port) });
            state.flows.prefetch(hash);
            hashes[count] = hash;
            count += 1;
        }
        for hash in &hashes[..count] {
            if let Some(slot) = state.flows.get(*hash, |_| true) {
                state.conns.prefetch(slot, RECORD_LINES);
            }
        }
    }

    /// A packet of another flow than the last. Its connection, if it has one, is the last from now on; else whose it is, if
    /// it says so.
    fn follow(&mut self, packet: &[u8]) -> Result<(), Option<Flow>> {
        self.end_run();
        let octets = FlowOctets::of(packet).ok_or(None)?;
        let ((src, src_port), (dst, dst_port)) = octets.ends();
        let quad = Quad { local: Endpoint::new(dst, dst_port), remote: Endpoint::new(src, src_port) };
        let hash = self.state.hash(&quad);
        let id = self.state.lookup(hash, &quad).ok_or(Some(Flow { quad, hash }))?;
        self.state.recent = Recent { id, flow: octets, untold: 0 };
        Ok(())
    }

    /// Tells the service of a connection what the last segments have brought.
    #[inline]
    pub(super) fn end_run(&mut self) {
        if self.state.recent.untold > 0 {
            self.tell_reader();
        }
    }

    fn tell_reader(&mut self) {
        let id = self.state.recent.id;
        self.state.recent.untold = 0;
        if let Some(conn) = self.state.conns.get(id)
            && !conn.detached
        {
            let service = conn.service;
            self.call(service, |service, io| service.readable(io, id));
            if self.state.conns.get(id).is_some_and(|conn| conn.receive.unread() > 0) {
                self.settle(id);
            }
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
