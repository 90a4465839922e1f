//! Passive opens: a SYN becomes a half-open record or a cookie, and the ACK of either a connection.
//!
//! Records are in `half_open`, cookies in `cookies`; what a handshake does with a segment is `tcp`'s. Must not contain: active
//! opens (`connect`), what becomes of an open connection (`receive`).

use std::sync::atomic::Ordering;

use super::Shard;
use super::arrival::Arrival;
use super::budget::{self, Work};
use super::conn::Phase;
use super::counters::DropReason;
use super::half_open::{Place, Record};
use super::hasher::Flow;
use super::listeners::{NO_LISTENER, Target};
use super::service::ConnId;
use super::state::ShardState;
use crate::buffer::frame::RxFrame;
use crate::flow::Quad;
use crate::tcp::cookie::{EPOCH, Subject, SynCookies};
use crate::tcp::{self, CloseReason, HalfOpen, Handshake, HandshakeOutcome, OpenParams, Segment, SeqNum, Transmit};
use crate::wire::ip::IpFields;
use crate::wire::tcp::Flags;

/// What became of an ACK that may bring back a cookie.
pub(super) enum ByCookie {
    /// It made this connection; this is left of the segment.
    Opened(ConnId, Segment),
    /// It might have, if there were room: as if it had been lost.
    NoRoom(DropReason),
    /// It brings none.
    NoCookie,
}

impl Shard {
    /// SM-LIS-4: answers a SYN. Data on it is not kept (the peer sends it again).
    pub(super) fn accept(
        &mut self,
        flow: &Flow,
        syn: &Segment,
        target: Target,
        iss_floor: Option<SeqNum>,
        arrival: Arrival,
    ) -> Result<(), (DropReason, RxFrame)> {
        let quad = &flow.quad;
        let state = &mut self.state;
        // OPS-19: no answer at all, so that the peer tries again.
        if !state.listeners.admits(target.listener) {
            return Err((DropReason::AcceptQueueFull, arrival.frame));
        }
        let limits = state.config.limits;
        if !state.has_place() {
            return Err((DropReason::NoRoom, arrival.frame));
        }
        let over_share = state.listeners.has_share(target.listener) || state.half_open.has_share(quad.remote.addr);
        // Of those who give way there may be only one.
        let no_room = state.conns.len().max(1) - 1 + state.half_open.len() >= limits.connections;
        let cookie = match limits.syn_cookies {
            SynCookies::Off => false,
            SynCookies::Overflow => over_share || no_room || state.half_open.is_full(),
            SynCookies::Always => true,
        };
        if cookie {
            if let Err(reason) = state.answer_with_cookie(quad, syn, target, iss_floor) {
                return Err((reason, arrival.frame));
            }
            self.release(arrival.frame);
            return Ok(());
        }
        if over_share {
            return Err((DropReason::BacklogFull, arrival.frame));
        }
        if no_room {
            return Err((DropReason::NoRoom, arrival.frame));
        }
        if state.half_open.is_full() {
            state.recycle_half_open();
        }
        let options = state.listeners.options(target.listener);
        let mut params = state.open_params(quad, options.mss);
        if let Some(floor) = iss_floor
            && !params.iss.gt(floor)
        {
            params.iss = floor + 1;
        }
        let wishes = state.listeners.wishes_of_syn(target.listener, &state.config.tcp);
        let mut handshake = Handshake::accept(&state.config.tcp, params, syn, state.now).wishing(wishes);
        let ip = IpFields::default().with(options.ttl, options.tos);
        let ticket = state.shared.tickets.fetch_add(1, Ordering::Relaxed);
        // The answer leaves at once if there is room, and none waits for some; else with those.
        let at_once = state.half_open.unsent().is_none() && state.egress.has_room_for_strangers();
        let syn_ack = if at_once { handshake.poll_transmit(&state.config.tcp, state.now) } else { None };
        if !state.add_half_open(flow, target, ip, ticket, &handshake) {
            return Err((DropReason::BacklogFull, arrival.frame));
        }
        if let Some(syn_ack) = syn_ack {
            state.send_control(quad, ip, &syn_ack);
        }
        self.release(arrival.frame);
        let tag = self.state.listeners.tag(target.listener);
        self.call(target.service, |service, io| service.half_open(io, ticket, *quad, tag));
        if !at_once {
            self.state.send_syn_acks();
        }
        Ok(())
    }

    /// A segment for the half-open record in `slot`.
    pub(super) fn receive_half_open(
        &mut self,
        slot: u32,
        flow: &Flow,
        segment: &Segment,
        arrival: Arrival,
    ) -> Result<(), (DropReason, RxFrame)> {
        let state = &mut self.state;
        state.counters.segments_in += 1;
        let (Some(place), Some(record)) = (state.half_open.place(slot), state.half_open.at(slot)) else {
            return Err((DropReason::NoConnection, arrival.frame));
        };
        if state.listeners.is_closed(place.listener) {
            // All of its records will be looked at; this one must not become a connection before.
            state.reset_half_open(slot);
            self.release(arrival.frame);
            return Ok(());
        }
        // The SYN may have been answered with a cookie before, and it is that answer which the peer has heard.
        if !record.handshake.is_acked_by(segment.ack) && state.may_have_cookie(segment) {
            match self.open_by_cookie(flow, segment) {
                ByCookie::Opened(id, rest) => {
                    self.state.drop_filed(slot, flow.hash);
                    self.established(id, true);
                    self.receive_open(id, &rest, arrival);
                    return Ok(());
                }
                ByCookie::NoRoom(reason) => return Err((reason, arrival.frame)),
                ByCookie::NoCookie => {}
            }
        }
        let state = &mut self.state;
        let Some(record) = state.half_open.at(slot) else { return Err((DropReason::NoConnection, arrival.frame)) };
        let mut handshake = state.unpack(&place, record);
        let takes = state.listeners.take_place(place.listener);
        match handshake.on_segment(&state.config.tcp, segment, state.now) {
            // SC-19, OPS-18: as if this segment had been lost. The SYN-ACK is repeated.
            HandshakeOutcome::Established { .. } if !takes => return Err((DropReason::AcceptQueueFull, arrival.frame)),
            HandshakeOutcome::Established { connection, rest } => {
                let ticket = record.ticket;
                state.drop_filed(slot, flow.hash);
                let Some(id) = state.open_passive(flow, &place, ticket, connection) else {
                    state.listeners.give_place_back(place.listener);
                    return Err((DropReason::NoRoom, arrival.frame));
                };
                self.established(id, true);
                self.receive_open(id, &rest, arrival);
                return Ok(());
            }
            outcome => {
                if takes {
                    state.listeners.give_place_back(place.listener);
                }
                let reset = matches!(&outcome, HandshakeOutcome::Reply(reply) if reply.flags.contains(Flags::RST));
                if reset && let Err(reason) = state.may_reset(&flow.quad) {
                    return Err((reason, arrival.frame));
                }
                state.half_open_outcome(slot, &place, &handshake, outcome);
            }
        }
        self.release(arrival.frame);
        Ok(())
    }

    /// Makes a connection of an ACK that brings back a good cookie: if the last one of the handshake was lost, the first
    /// segment of the peer that arrives in order is as good (RFC4987-3.6d).
    pub(super) fn open_by_cookie(&mut self, flow: &Flow, segment: &Segment) -> ByCookie {
        let quad = &flow.quad;
        let state = &mut self.state;
        let Some(target) = state.listeners.find(quad.local) else { return ByCookie::NoCookie };
        let irs = segment.seq - 1;
        let subject = state.subject(quad, target, irs);
        let Some(cookie) = state.cookies.check(state.now, &subject, segment.ack - 1) else {
            state.counters.cookies_refused += 1;
            return ByCookie::NoCookie;
        };
        if !state.has_place() {
            return ByCookie::NoRoom(DropReason::NoRoom);
        }
        let options = state.listeners.options(target.listener);
        let params = OpenParams { iss: segment.ack - 1, ..state.open_params(quad, options.mss) };
        let mut syn = Segment { seq: irs, flags: Flags::SYN, len: 0, options: cookie.options, ..*segment };
        syn.options.timestamps = segment.options.timestamps;
        let earliest = state.now - EPOCH * 2;
        let config = &state.config.tcp;
        let wishes = state.listeners.wishes(target.listener);
        let mut handshake = Handshake::recall(config, params, &syn, earliest, state.now).wishing(wishes);
        let outcome = handshake.on_segment(config, segment, state.now);
        let HandshakeOutcome::Established { connection, rest } = outcome else { return ByCookie::NoCookie };
        if !state.listeners.take_place(target.listener) {
            return ByCookie::NoRoom(DropReason::AcceptQueueFull);
        }
        let ticket = state.shared.tickets.fetch_add(1, Ordering::Relaxed);
        let ip = IpFields::default().with(options.ttl, options.tos);
        let place = Place { quad: *quad, ip, listener: target.listener, service: target.service };
        let Some(id) = state.open_passive(flow, &place, ticket, connection) else {
            state.listeners.give_place_back(target.listener);
            return ByCookie::NoRoom(DropReason::NoRoom);
        };
        state.cookies.note_used(state.now, &cookie);
        state.keep_bucket(quad);
        state.counters.cookies_accepted += 1;
        ByCookie::Opened(id, rest)
    }
}

impl ShardState {
    /// What a cookie for `quad` stands for.
    fn subject(&self, quad: &Quad, target: Target, irs: SeqNum) -> Subject {
        Subject {
            local: (quad.local.addr, quad.local.port),
            remote: (quad.remote.addr, quad.remote.port),
            irs,
            listener: self.listeners.identity(target),
        }
    }

    /// RFC4987-3.6a: answers a SYN and forgets it.
    fn answer_with_cookie(
        &mut self,
        quad: &Quad,
        syn: &Segment,
        target: Target,
        iss_floor: Option<SeqNum>,
    ) -> Result<(), DropReason> {
        if !self.egress.has_room_for_strangers() {
            return Err(DropReason::TxRingFull);
        }
        let options = self.listeners.options(target.listener);
        let mut params = self.open_params(quad, options.mss);
        let peer_mss = syn.options.mss.unwrap_or(params.peer_mss);
        // Both sides must want an option for it to be in use.
        let mut agreed = syn.options;
        agreed.window_scale = agreed.window_scale.filter(|_| self.config.tcp.window_scale);
        agreed.sack_permitted &= self.config.tcp.sack;
        let subject = self.subject(quad, target, syn.seq);
        params.iss = self.cookies.make(self.now, &subject, peer_mss, &agreed);
        // SM-TW-5f: a cookie cannot be chosen. It will do where timestamps tell old segments from new ones.
        let stamped = syn.options.timestamps.is_some() && self.config.tcp.timestamps;
        if iss_floor.is_some_and(|floor| !stamped && !params.iss.gt(floor)) {
            return Err(DropReason::BacklogFull);
        }
        let wishes = self.listeners.wishes_of_syn(target.listener, &self.config.tcp);
        let mut handshake = Handshake::accept(&self.config.tcp, params, syn, self.now).wishing(wishes);
        let Some(syn_ack) = handshake.poll_transmit(&self.config.tcp, self.now) else { return Ok(()) };
        let ip = IpFields::default().with(options.ttl, options.tos);
        self.send_control(quad, ip, &syn_ack);
        self.counters.cookies_sent += 1;
        Ok(())
    }

    /// Whether a segment of no connection can bring back a cookie: a cheap test that spares most the dear one.
    pub(super) fn may_have_cookie(&self, segment: &Segment) -> bool {
        segment.flags.contains(Flags::ACK)
            && !segment.flags.intersects(Flags::SYN | Flags::RST)
            && self.cookies.are_out(self.now)
    }

    /// Whether the peer of `quad`, a stranger, gets a RST.
    pub(super) fn may_reset(&mut self, quad: &Quad) -> Result<(), DropReason> {
        if !self.egress.has_room_for_strangers() {
            return Err(DropReason::TxRingFull);
        }
        let allowed = self.resets.allow(self.shared.hasher.hash_source(quad.remote.addr), self.now);
        if allowed { Ok(()) } else { Err(DropReason::ResetRateLimited) }
    }

    fn add_half_open(&mut self, flow: &Flow, target: Target, ip: IpFields, ticket: u64, handshake: &Handshake) -> bool {
        let Some(packed) = HalfOpen::pack(handshake) else { return false };
        let added = self.half_open.insert(flow, target, ip, ticket, packed).is_some();
        if added {
            self.enter_bucket(&flow.quad);
            self.listeners.enter_handshake(target.listener);
        }
        added
    }

    /// The handshake of a record.
    fn unpack(&self, place: &Place, record: &Record) -> Handshake {
        record.handshake.unpack().wishing(self.listeners.wishes(place.listener))
    }

    /// Takes out a half-open record.
    pub(super) fn drop_half_open(&mut self, slot: u32) -> Option<(Place, Record)> {
        let quad = self.half_open.place(slot)?.quad;
        self.drop_filed(slot, self.hash(&quad))
    }

    /// [`drop_half_open`](Self::drop_half_open) with the hash of its quad.
    fn drop_filed(&mut self, slot: u32, hash: u64) -> Option<(Place, Record)> {
        let (place, record) = self.half_open.take(slot, hash)?;
        self.leave_bucket(&place.quad);
        self.listeners.leave_handshake(place.listener);
        Some((place, record))
    }

    /// The listener of a half-open record is gone (SM-LIS-6).
    pub(super) fn reset_half_open(&mut self, slot: u32) {
        let Some((place, record)) = self.drop_half_open(slot) else { return };
        if let Some(reset) = record.handshake.unpack().abort() {
            self.send_control(&place.quad, place.ip, &reset);
        }
    }

    /// The oldest half-open record makes way (RFC4987-3.4).
    pub(super) fn recycle_half_open(&mut self) {
        if let Some(slot) = self.half_open.oldest() {
            self.drop_half_open(slot);
            self.counters.half_open_recycled += 1;
        }
    }

    /// The connection that a handshake has made.
    fn open_passive(&mut self, flow: &Flow, place: &Place, ticket: u64, connection: tcp::Connection) -> Option<ConnId> {
        let fixed = place.listener == NO_LISTENER;
        let service = if fixed { place.service } else { self.listeners.service(place.listener)? };
        let target = Target { service, listener: place.listener };
        let id = self.insert(flow, target, Phase::Open(connection), ticket)?;
        if let Some(conn) = self.conns.get_mut(id) {
            conn.ip = place.ip;
        }
        Some(id)
    }

    /// What the handshake of a record says that has not established a connection.
    fn half_open_outcome(&mut self, slot: u32, place: &Place, handshake: &Handshake, outcome: HandshakeOutcome) {
        match outcome {
            HandshakeOutcome::Closed(reason) => {
                self.counters.half_open_resets += u64::from(reason == CloseReason::Reset);
                // SM-SR-2: of a passive child that never was established, nobody is told.
                self.drop_half_open(slot);
                return;
            }
            HandshakeOutcome::Reply(reply) => {
                self.send_control(&place.quad, place.ip, &reply);
            }
            HandshakeOutcome::Wait | HandshakeOutcome::Established { .. } => {}
        }
        if let Some(packed) = HalfOpen::pack(handshake) {
            self.half_open.update(slot, packed);
        }
        self.send_syn_acks();
    }

    /// Sends the SYN-ACKs of records that are due, as long as the tx ring has room.
    pub(super) fn send_syn_acks(&mut self) {
        while let Some(slot) = self.half_open.unsent() {
            if !self.egress.has_room_for_strangers() {
                return;
            }
            let (Some(place), Some(record)) = (self.half_open.place(slot), self.half_open.at(slot)) else { return };
            let mut handshake = self.unpack(&place, record);
            let syn_ack: Option<Transmit> = handshake.poll_transmit(&self.config.tcp, self.now);
            let Some(packed) = HalfOpen::pack(&handshake) else { return };
            self.half_open.update(slot, packed);
            if let Some(syn_ack) = syn_ack {
                self.counters.syn_retransmits += u64::from(syn_ack.resent.is_some());
                self.egress.send_control(&self.config, &place.quad, place.ip, &syn_ack, &mut self.counters);
            }
        }
    }

    /// Repeats the SYN-ACKs whose time has come, and forgets those that were repeated often enough (OPS-3).
    pub(super) fn run_half_open_timers(&mut self) {
        let mut records = 0;
        while records < budget::HALF_OPEN
            && let Some(slot) = self.half_open.due(self.now)
        {
            records += 1;
            let (Some(place), Some(record)) = (self.half_open.place(slot), self.half_open.at(slot)) else { break };
            let mut handshake = self.unpack(&place, record);
            let outcome = handshake.on_timeout(&self.config.tcp, self.now);
            self.half_open_outcome(slot, &place, &handshake, outcome);
        }
        self.counters.note_work(Work::HalfOpen, records);
        self.send_syn_acks();
    }
}
