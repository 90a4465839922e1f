//! Segments as most of them come: one after another for the same connection, each what it expects next.
//!
//! Such a segment needs neither the parsers of all packets nor the flow table, and its connection's record is looked up
//! once. The service is told of what a whole run of them has brought, not of each. Whatever else comes first ends the
//! run. Must not contain: protocol decisions (header prediction is `tcp`'s), what is done with other segments.

use super::Shard;
use super::arrival::Arrival;
use super::conn::{Conn, Phase};
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
        let plain = plain::parse(packet, trusted).filter(|plain| plain.flags.without(Flags::PSH) == Flags::ACK);
        let known = plain.is_some() && (state.recent.flow.is_of(packet) || self.follow(packet));
        let state = &mut self.state;
        let pool = state.receive_pool();
        if known
            && let Some(plain) = plain
            && let Some(conn) = state.conns.at_mut(state.recent.id.slot)
            && let Conn { phase: Phase::Open(connection), send, receive, .. } = conn
            && pool.is_ample(receive.taken(), MOST_AT_ONCE)
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
        self.receive_other(frame);
    }

    /// A packet of another connection than the last: whether it is of one that is known, which is the last from now on.
    fn follow(&mut self, packet: &[u8]) -> bool {
        self.end_run();
        let state = &mut self.state;
        let Some(flow) = FlowOctets::of(packet) else { return false };
        let ((src, src_port), (dst, dst_port)) = flow.ends();
        let quad = Quad { local: Endpoint::new(dst, dst_port), remote: Endpoint::new(src, src_port) };
        let found = state.lookup(state.hash(&quad), &quad);
        if let Some(id) = found {
            state.recent = Recent { id, flow, untold: 0 };
        }
        found.is_some()
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
