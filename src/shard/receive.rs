//! A received packet's way through the shard: checks, lookup, the TCP core, the stores, the service.
//!
//! Must not contain: protocol decisions (they are `tcp`'s), device calls.

use super::Shard;
use super::arrival::Arrival;
use super::conn::{Conn, Event, Phase, Sides};
use super::counters::DropReason;
use super::hasher::Flow;
use super::log;
use super::passive::ByCookie;
use super::service::{ConnId, Io};
use crate::buffer::frame::RxFrame;
use crate::flow::{Endpoint, Quad};
use crate::tcp::{self, CloseReason, Context, Events, HandshakeOutcome, Outcome, Segment, TimeWaitOutcome};
use crate::wire::ip::IpFields;
use crate::wire::plain::Plain;
use crate::wire::tcp::Flags;
use crate::wire::vnet::ChecksumStatus;
use crate::wire::{self, Malformed, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP};

impl Shard {
    /// Handles a packet that is nothing which its connection expects, or has none.
    pub(super) fn receive_other(&mut self, frame: RxFrame) {
        let handled = self.receive_ip(frame);
        self.account(handled);
    }

    pub(super) fn release(&mut self, frame: RxFrame) {
        self.state.holdings.released.push(frame.packet);
    }

    fn receive_ip(&mut self, frame: RxFrame) -> Result<(), (DropReason, RxFrame)> {
        // Until it is found to be.
        self.state.counters.packets_not_tcp += 1;
        let packet = match wire::ip::parse(frame.packet.bytes(), true) {
            Ok(packet) => packet,
            // A fragment is none that can be parsed.
            Err(_) if frame.refusal.is_some() => {
                self.state.refuse_fragment(&frame);
                self.release(frame);
                return Ok(());
            }
            Err(malformed) => return Err((malformed.into(), frame)),
        };
        let (src, dst) = (packet.src, packet.dst);
        if let Err(reason) = self.state.judge_ends(src, dst) {
            return Err((reason, frame));
        }
        if packet.ttl == 0 {
            return Err((DropReason::TtlZero, frame));
        }
        match packet.protocol {
            PROTOCOL_TCP => {
                self.state.counters.packets_not_tcp -= 1;
                let trusted = frame.offload.checksum == ChecksumStatus::Trusted;
                let (header, payload) = match wire::tcp::parse(packet.payload, src, dst, trusted) {
                    Ok(parsed) => parsed,
                    Err(malformed) => return Err((malformed.into(), frame)),
                };
                let segment = Segment::from((&header, payload.len()));
                let quad = Quad {
                    local: Endpoint { addr: dst, port: header.dst_port },
                    remote: Endpoint { addr: src, port: header.src_port },
                };
                // Padding behind the datagram is no payload (SC-74): count from the payload's own place.
                let offset = payload.as_ptr() as usize - frame.packet.bytes().as_ptr() as usize;
                let start = frame.packet.start() + offset;
                self.receive_tcp(&quad, &segment, Arrival { frame, start })
            }
            PROTOCOL_ICMP | PROTOCOL_ICMPV6 => {
                if self.state.config.routes.is_broadcast(src) {
                    return Err((DropReason::BroadcastSource, frame));
                }
                let mut frame = frame;
                match self.receive_icmp(src, &mut frame) {
                    Ok(()) => {
                        self.release(frame);
                        Ok(())
                    }
                    Err(reason) => Err((reason, frame)),
                }
            }
            _ => {
                self.state.refuse(frame.packet.bytes());
                Err((DropReason::UnknownProtocol, frame))
            }
        }
    }

    /// A packet that was read whole and belongs to the connection of the last one, which does not expect it.
    pub(super) fn receive_recent(&mut self, segment: &Segment, arrival: Arrival) {
        let id = self.state.recent.id;
        if self.state.config.log_segments
            && let Some(conn) = self.state.conns.get(id)
        {
            log::segment_in(&conn.quad, segment);
        }
        self.receive_connection(id, segment, arrival);
    }

    /// A packet that was read whole, but for its addresses, between ends that have no connection.
    pub(super) fn receive_unknown(&mut self, flow: &Flow, plain: &Plain, frame: RxFrame) {
        let (src, dst) = (flow.quad.remote.addr, flow.quad.local.addr);
        let forbidden = wire::ip::is_forbidden_source(src);
        let judged = if forbidden { Err(Malformed::IpSource.into()) } else { self.state.judge_ends(src, dst) };
        let handled = match judged {
            Ok(()) => {
                let start = frame.packet.start() + plain.start;
                self.receive_unconnected(flow, &Segment::from(plain), Arrival { frame, start })
            }
            Err(reason) => {
                self.state.counters.packets_not_tcp += 1;
                Err((reason, frame))
            }
        };
        self.account(handled);
    }

    /// Counts a packet that was dropped, and lets go of its buffer.
    fn account(&mut self, handled: Result<(), (DropReason, RxFrame)>) {
        if let Err((reason, frame)) = handled {
            self.state.counters.drop_packet(reason);
            self.state.dropped = Some(reason);
            self.release(frame);
        }
    }

    fn receive_tcp(&mut self, quad: &Quad, segment: &Segment, arrival: Arrival) -> Result<(), (DropReason, RxFrame)> {
        if self.state.is_recent(quad) {
            self.receive_recent(segment, arrival);
            return Ok(());
        }
        let hash = self.state.hash(quad);
        if self.state.follow(hash, quad) {
            self.receive_recent(segment, arrival);
            return Ok(());
        }
        self.receive_unconnected(&Flow { quad: *quad, hash }, segment, arrival)
    }

    /// A segment between ends that have no connection.
    fn receive_unconnected(
        &mut self,
        flow: &Flow,
        segment: &Segment,
        arrival: Arrival,
    ) -> Result<(), (DropReason, RxFrame)> {
        let &Flow { ref quad, hash } = flow;
        if self.state.config.log_segments {
            log::segment_in(quad, segment);
        }
        if let Some(slot) = self.state.half_open.find(hash, quad) {
            return self.receive_half_open(slot, flow, segment, arrival);
        }
        if self.state.config.routes.is_broadcast(quad.remote.addr) {
            return Err((DropReason::BroadcastSource, arrival.frame));
        }
        if self.state.may_have_cookie(segment) {
            match self.open_by_cookie(flow, segment) {
                ByCookie::Opened(id, rest) => {
                    self.established(id, true);
                    self.receive_open(id, &rest, arrival);
                    return Ok(());
                }
                ByCookie::NoRoom(reason) => return Err((reason, arrival.frame)),
                ByCookie::NoCookie => {}
            }
        }
        let mut iss_floor = None;
        if let Some(record) = self.state.time_wait.get_mut(hash, quad) {
            let before = record.deadline();
            match record.on_segment(&self.state.config.tcp, segment, self.state.now) {
                TimeWaitOutcome::Ignore => return Err((DropReason::TimeWait, arrival.frame)),
                TimeWaitOutcome::Reply(reply) => {
                    let after = record.deadline();
                    if after != before {
                        self.state.time_wait.restart(hash, quad, after);
                    }
                    self.state.send_control(quad, IpFields::default(), &reply);
                    self.release(arrival.frame);
                    return Ok(());
                }
                TimeWaitOutcome::Ended => {
                    self.state.time_wait.remove(hash, quad);
                    self.state.waited(quad);
                    self.release(arrival.frame);
                    return Ok(());
                }
                // SM-TW-5f: a listener may take the quad over. The record stays, out of sight, until the peer has
                // acknowledged our SYN: a reset brings it back (MAY-2).
                TimeWaitOutcome::Reuse { iss_floor: floor } => iss_floor = Some(floor),
            }
        }
        let syn_only = segment.flags.contains(Flags::SYN) && !segment.flags.intersects(Flags::ACK | Flags::RST);
        if syn_only && !self.state.may_be_born(quad) {
            return Err((DropReason::NotOwner, arrival.frame));
        }
        match self.state.listeners.find(quad.local) {
            Some(target) if syn_only => self.accept(flow, segment, target, iss_floor, arrival),
            // SM-LIS-3.
            Some(_) if !segment.flags.intersects(Flags::SYN | Flags::ACK | Flags::RST) => {
                Err((DropReason::NoConnection, arrival.frame))
            }
            _ => match tcp::reset_for(segment) {
                // SM-CLO-1, SM-LIS-2.
                Some(reset) => {
                    if let Err(reason) = self.state.may_reset(quad) {
                        return Err((reason, arrival.frame));
                    }
                    self.state.send_control(quad, IpFields::default(), &reset);
                    self.release(arrival.frame);
                    Ok(())
                }
                None => Err((DropReason::NoConnection, arrival.frame)),
            },
        }
    }

    fn receive_connection(&mut self, id: ConnId, segment: &Segment, arrival: Arrival) {
        let state = &mut self.state;
        state.counters.segments_in += 1;
        let Some(conn) = state.conns.get_mut(id) else { return self.release(arrival.frame) };
        if let Phase::Handshake(handshake) = &mut conn.phase {
            match handshake.on_segment(&state.config.tcp, segment, state.now) {
                HandshakeOutcome::Established { connection, rest } => {
                    conn.phase = Phase::Open(connection);
                    state.connecting -= 1;
                    self.established(id, false);
                    self.receive_open(id, &rest, arrival);
                }
                outcome => {
                    self.release(arrival.frame);
                    self.handshake_outcome(id, outcome);
                }
            }
        } else {
            self.receive_open(id, segment, arrival);
        }
    }

    /// What the handshake of an active open says that has not established the connection.
    pub(super) fn handshake_outcome(&mut self, id: ConnId, outcome: HandshakeOutcome) {
        let ends = self.state.conns.get(id).map(|conn| (conn.quad, conn.ip));
        match outcome {
            HandshakeOutcome::Reply(reply) => {
                if let Some((quad, ip)) = ends {
                    self.state.send_control(&quad, ip, &reply);
                }
            }
            HandshakeOutcome::Closed(reason) => return self.state.finish(id, reason),
            HandshakeOutcome::Wait | HandshakeOutcome::Established { .. } => {}
        }
        self.state.touch(id);
    }

    pub(super) fn established(&mut self, id: ConnId, passive: bool) {
        let Some(conn) = self.state.conns.get(id) else { return };
        let service = conn.service;
        let gives_way = self.state.give_way.get(usize::from(service)) == Some(&true);
        if gives_way {
            self.state.idle.push(id.slot, self.state.now, 0);
        }
        if let Phase::Open(connection) = &conn.phase {
            if passive {
                self.state.counters.accepted += 1;
            } else {
                self.state.counters.connected += 1;
            }
            if self.state.config.log_connections {
                log::open(
                    &self.state.config.tcp,
                    &conn.quad,
                    self.state.config.id,
                    passive,
                    connection,
                    self.state.now,
                );
            }
            // The record that gave way (SM-TW-5f, OPS-20) is no longer needed.
            let quad = conn.quad;
            if !self.state.time_wait.is_empty() {
                self.state.take_time_wait(&quad);
            }
        }
        if let Some(conn) = self.state.conns.get_mut(id) {
            conn.gives_way = gives_way;
            if let Phase::Open(connection) = &mut conn.phase
                && conn.quad.remote.addr.is_ipv6()
            {
                connection.over_ipv6();
            }
        }
        if self.state.mtu_changed {
            self.state.fit_to_link(id);
        }
        self.state.touch(id);
        if !self.state.config.tcp.keepalive
            && let Some(keepalive) = self.services.get(usize::from(service)).and_then(|service| service.keepalive())
        {
            Io::set_keepalive(&mut self.state, id, Some(keepalive));
        }
        self.call(service, |service, io| service.accepted(io, id));
    }

    pub(super) fn receive_open(&mut self, id: ConnId, segment: &Segment, arrival: Arrival) {
        let state = &mut self.state;
        let Some(conn) = state.conns.get(id) else { return self.release(arrival.frame) };
        let keep = state.keep(conn);
        let Some(Conn { phase: Phase::Open(connection), receive, .. }) = state.conns.get_mut(id) else {
            return self.release(arrival.frame);
        };
        let outcome = connection.on_segment(&state.config.tcp, segment, &Context { now: state.now, keep });
        let events = outcome.events;
        let counters = &mut state.counters;
        counters.segments_predicted += u64::from(events.contains(Events::PREDICTED));
        counters.segments_out_of_order += u64::from(events.contains(Events::OUT_OF_ORDER));
        counters.segments_duplicate += u64::from(events.contains(Events::DUPLICATE));
        counters.note_events(events, || connection.refused());
        match outcome.payload {
            tcp::Payload::Ignore => state.holdings.released.push(arrival.frame.packet),
            tcp::Payload::Deliver { from, to, released } => {
                receive.begin_run();
                let held = receive.deliver(&mut state.holdings, arrival.cut(from, to));
                debug_assert_eq!(held, released, "store and connection disagree about what was held");
                counters.payload_in += u64::from(to - from + released);
            }
            tcp::Payload::Hold { from, to, offset } => {
                let tight = state.holdings.packets >= state.config.limits.held_packets;
                receive.hold(&mut state.holdings, arrival.cut(from, to), offset, tight);
                state.note_holder(id);
            }
        }
        let delivered = matches!(outcome.payload, tcp::Payload::Deliver { .. });
        self.outcome(id, outcome, delivered);
    }

    /// What the TCP core asks for after a segment or a timer.
    pub(super) fn outcome(&mut self, id: ConnId, outcome: Outcome, delivered: bool) {
        let state = &mut self.state;
        let Some(conn) = state.conns.get_mut(id) else { return };
        let (quad, ip, service) = (conn.quad, conn.ip, conn.service);
        if outcome.acked > 0 {
            conn.send.acknowledge(&mut state.memory, outcome.acked);
        }
        let finished = outcome.events.contains(Events::FIN_ACKED);
        if finished {
            state.orphans.forget(conn);
        }
        let eof = outcome.events.contains(Events::EOF);
        conn.ended |= if eof { Sides::PEER } else { Sides::empty() };
        if state.config.log_connections
            && let Phase::Open(connection) = &conn.phase
        {
            log::pass(&mut conn.passed, connection.state());
        }
        // One that had too little memory did not fill its buffer: any acknowledgment lets it try again.
        let writable =
            conn.wants_room && (outcome.events.contains(Events::WRITABLE) || (conn.starved && outcome.acked > 0));
        let detached = conn.detached;
        if let Some(reply) = outcome.reply
            && !state.send_control(&quad, ip, &reply)
            && !reply.flags.contains(Flags::RST)
        {
            state.owe_ack(id);
        }
        if outcome.ack_now {
            state.send_immediate_ack(id);
        }
        if outcome.events.contains(Events::URGENT) && !detached {
            self.call(service, |service, io| service.urgent(io, id));
        }
        if (delivered || eof) && !detached {
            self.call(service, |service, io| service.readable(io, id));
            self.settle(id);
        }
        if writable {
            self.writable(id);
        }
        if finished {
            self.call(service, |service, io| service.finished(io, id));
        }
        if outcome.events.contains(Events::TIME_WAIT) {
            self.enter_time_wait(id);
        } else if outcome.events.contains(Events::CLOSED) {
            let reason = self.state.conns.get(id).and_then(|conn| match &conn.phase {
                Phase::Open(connection) => connection.close_reason(),
                _ => None,
            });
            // The user has not: that ends it elsewhere.
            self.state.counters.aborted_on_data += u64::from(reason == Some(CloseReason::Aborted));
            self.state.finish(id, reason.unwrap_or(CloseReason::Normal));
        } else {
            self.state.touch(id);
        }
    }

    /// Tells the service that the room it waited for is there.
    pub(super) fn writable(&mut self, id: ConnId) {
        // A call before this one may have given the connection up.
        if let Some(conn) = self.state.conns.get_mut(id)
            && !conn.detached
            && conn.wants_room
            && matches!(conn.phase, Phase::Open(_))
        {
            conn.wants_room = false;
            let service = conn.service;
            self.call(service, |service, io| service.writable(io, id));
        }
    }

    /// Gives connections that found too little send memory another try after some came back: a few each turn.
    pub(super) fn feed_starved(&mut self) {
        const A_TURN: usize = 64;
        if self.state.memory.taken_octets() < self.state.fed_at {
            self.state.feed_left = self.state.starved.len();
        }
        for _ in 0..A_TURN {
            if self.state.feed_left == 0 {
                break;
            }
            self.state.feed_left -= 1;
            let Some(id) = self.state.starved.pop_front() else { break };
            let waits = self.state.conns.get(id).is_some_and(|conn| conn.wants_room && !conn.detached);
            if waits && self.state.send_room(id) == 0 {
                // Its share is still too small for what it has.
                self.state.starved.push_back(id);
                continue;
            }
            if let Some(conn) = self.state.conns.get_mut(id) {
                conn.starved = false;
            }
            self.writable(id);
        }
        self.state.fed_at = self.state.memory.taken_octets();
    }

    /// Payload that the service left unread must not pin its packet for long.
    pub(super) fn settle(&mut self, id: ConnId) {
        let state = &mut self.state;
        let tight = state.holdings.packets >= state.config.limits.held_packets;
        if let Some(conn) = state.conns.get_mut(id)
            && conn.receive.unread() > 0
        {
            conn.receive.settle(&mut state.holdings, tight);
            state.note_holder(id);
        }
    }

    fn enter_time_wait(&mut self, id: ConnId) {
        let state = &mut self.state;
        let Some(conn) = state.conns.get(id) else { return };
        let Phase::Open(connection) = &conn.phase else { return };
        let record = connection.time_wait(&state.config.tcp, state.now);
        let quad = conn.quad;
        let hash = state.hash(&quad);
        state.file_time_wait(&Flow { quad, hash }, record);
        state.finish(id, CloseReason::Normal);
    }

    /// Calls a service with a handle on the shard.
    pub(super) fn call(&mut self, service: u16, f: impl FnOnce(&mut dyn super::Service, &mut dyn Io)) {
        if let Some(slot) = self.services.get_mut(usize::from(service)) {
            self.state.current = service;
            f(&mut **slot, &mut self.state);
        }
    }

    /// Delivers what came up inside calls of services.
    pub(super) fn deliver_events(&mut self) {
        while let Some(event) = self.state.events.pop_front() {
            match event {
                Event::Closed(id, reason) => {
                    let Some(conn) = self.state.conns.get(id) else { continue };
                    let service = conn.service;
                    self.call(service, |service, io| service.closed(io, id, reason));
                    self.state.remove(id);
                }
                Event::Writable(id) => self.writable(id),
            }
        }
    }
}
