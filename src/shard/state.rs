//! Everything a shard owns except its services: connections, tables, timers, memory, counters.
//!
//! Split from [`Shard`](super::Shard) so that a service can be called with a handle on all the rest. Must not contain:
//! devices, threads, clocks (`now` is handed in once a turn).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::age_list::AgeList;
use super::buckets::Buckets;
use super::config::{ShardConfig, ShardShared};
use super::conn::{Conn, Event, Phase, Sides};
use super::cookies::Cookies;
use super::counters::{Counters, DropReason};
use super::destinations::Destinations;
use super::egress::Egress;
use super::half_open::HalfOpenTable;
use super::listeners::Listeners;
use super::log;
use super::orphans::Orphans;
use super::ports::PortCounters;
use super::receive_store::Holdings;
use super::recent::Recent;
use super::service::{ConnId, Message};
use super::slab::Slab;
use super::strangers::Strangers;
use super::table::FlowTable;
use super::time_wait_table::TimeWaitTable;
use super::trace::Trace;
use super::wheel::Wheel;
use crate::buffer::send_memory::SendMemory;
use crate::flow::{Quad, ShardId};
use crate::tcp::{self, CloseReason, Duration, FirstWindow, Info, Instant, OpenParams, TimeWait};
use crate::wire;
use crate::wire::ip::IpFields;

/// Octets that a segment brings at most, in a copy of its own.
pub(super) const MOST_AT_ONCE: u64 = 66_000;

/// All of a shard but its services.
#[derive(Debug)]
pub(crate) struct ShardState {
    pub(crate) config: ShardConfig,
    pub(crate) shared: ShardShared,
    /// The shard's own time: that of its driver less `absent`.
    pub(crate) now: Instant,
    /// When the turn began, in the driver's time.
    pub(crate) turn_began: Instant,
    /// Why the last packet that was dropped was; for a tap.
    pub(crate) dropped: Option<DropReason>,
    /// The link's MTU is not what it was at the start: who began before may not know.
    pub(crate) mtu_changed: bool,
    /// Somebody hears what senders decide.
    pub(crate) trace: Option<Box<Trace>>,
    /// For how long altogether the shard could not run.
    pub(crate) absent: Duration,
    pub(crate) conns: Slab<Conn>,
    pub(crate) flows: FlowTable,
    /// The connection of the last segment that has one. Segments come in runs, and those after the first find it here
    /// without a hash.
    pub(super) recent: Recent,
    pub(crate) time_wait: TimeWaitTable<TimeWait>,
    /// `None`: all buckets of the owner table are dealt out.
    pub(super) buckets: Option<Box<Buckets>>,
    pub(crate) wheel: Wheel,
    pub(crate) memory: SendMemory,
    pub(crate) holdings: Holdings,
    pub(crate) egress: Egress,
    pub(crate) counters: Counters,
    /// Connections to look after at the end of the turn, in order.
    pub(crate) touched: VecDeque<ConnId>,
    pub(crate) events: VecDeque<Event>,
    /// Connections whose service wants to go on in the next turn.
    pub(crate) call_again: VecDeque<ConnId>,
    /// Connections whose service found too little send memory and waits for `writable`.
    pub(crate) starved: VecDeque<ConnId>,
    pub(crate) orphans: Orphans,
    /// Connections that may hold memory, by when they last made progress: longest ago first.
    pub(crate) holders: AgeList,
    /// When the first of them gives way, if memory is short.
    pub(crate) evict_at: Option<Instant>,
    /// Connections that give way when there are too many, by when something was last heard of them.
    pub(crate) idle: AgeList,
    /// By service: whether its connections are in that list.
    pub(crate) give_way: Vec<bool>,
    /// When an eviction was last logged.
    pub(crate) told: Option<Instant>,
    /// Octets of send memory taken when the starved were last looked at.
    pub(crate) fed_at: u64,
    /// When idle send memory goes back to the kernel, if there is some.
    pub(crate) give_back_at: Option<Instant>,
    /// How many of the starved have not been looked at since memory came back.
    pub(crate) feed_left: usize,
    pub(crate) outbox: VecDeque<(ShardId, u16, Message)>,
    /// Timers of services: (when, order, service, token).
    pub(crate) service_timers: BinaryHeap<Reverse<(Instant, u64, u16, u64)>>,
    pub(crate) timer_order: u64,
    /// The service now being called.
    pub(crate) current: u16,
    /// Passive opens that are not established.
    pub(crate) half_open: HalfOpenTable,
    pub(crate) cookies: Cookies,
    /// Active opens that are not established.
    pub(crate) connecting: usize,
    /// Connections that their service has closed.
    pub(crate) detached: usize,
    pub(crate) listeners: Listeners,
    /// Connections that have as many octets in the tx ring as they may, and wait for completions.
    pub(crate) ring_blocked: usize,
    /// Who gets echo replies.
    pub(crate) echoes: Strangers,
    /// Who gets RSTs for what belongs to no connection.
    pub(crate) resets: Strangers,
    /// Who is told that we speak TCP only.
    pub(crate) refusals: Strangers,
    pub(crate) ports: PortCounters,
    pub(crate) destinations: Destinations,
}

impl ShardState {
    pub(crate) fn new(
        config: ShardConfig,
        shared: ShardShared,
        memory: SendMemory,
        egress: Egress,
        now: Instant,
    ) -> Self {
        let time_wait = TimeWaitTable::new(config.limits.time_wait);
        let half_open = HalfOpenTable::new(config.limits.half_open, &config.addresses, shared.hasher.clone());
        let buckets = shared.owners.is_by_birth().then(|| Box::new(Buckets::new()));
        let cookies = Cookies::new(Arc::clone(&shared.cookies));
        let ports = PortCounters::new(shared.seed ^ u64::from(config.id.0), config.id.0, config.shards);
        Self {
            shared,
            now,
            turn_began: now,
            dropped: None,
            mtu_changed: false,
            trace: None,
            absent: Duration::ZERO,
            conns: Slab::default(),
            flows: FlowTable::default(),
            recent: Recent::NONE,
            time_wait,
            buckets,
            wheel: Wheel::new(now),
            memory,
            // Room for a turn's packets at once: they must not make it grow in the middle of traffic.
            holdings: Holdings::with_capacity(512),
            egress,
            counters: Counters::default(),
            touched: VecDeque::with_capacity(256),
            events: VecDeque::new(),
            call_again: VecDeque::new(),
            starved: VecDeque::with_capacity(256),
            orphans: Orphans::default(),
            holders: AgeList::default(),
            evict_at: None,
            idle: AgeList::default(),
            give_way: Vec::new(),
            told: None,
            fed_at: 0,
            give_back_at: None,
            feed_left: 0,
            outbox: VecDeque::new(),
            service_timers: BinaryHeap::new(),
            timer_order: 0,
            current: 0,
            half_open,
            cookies,
            connecting: 0,
            detached: 0,
            listeners: Listeners::default(),
            ring_blocked: 0,
            echoes: Strangers::echo(),
            resets: Strangers::resets(),
            refusals: Strangers::refusals(),
            ports,
            destinations: Destinations::default(),
            config,
        }
    }

    /// Puts a connection on the list for the end of the turn.
    pub(crate) fn touch(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            note(&mut self.touched, id, conn);
        }
    }

    pub(crate) fn hash(&self, quad: &Quad) -> u64 {
        self.shared.hasher.hash(quad)
    }

    /// Whether a segment's connection, which is not that of the [last one](Self::is_recent), is known. It is the last from
    /// now on.
    pub(crate) fn follow(&mut self, hash: u64, quad: &Quad) -> bool {
        let found = self.lookup(hash, quad);
        if let Some(id) = found {
            self.recent.set(id);
        }
        found.is_some()
    }

    pub(crate) fn lookup(&self, hash: u64, quad: &Quad) -> Option<ConnId> {
        let slot = self.flows.get(hash, |slot| self.conns.at(slot).is_some_and(|conn| conn.quad == *quad))?;
        self.conns.key(slot)
    }

    /// Whether a segment between these ends belongs to the connection of the one before it.
    #[inline]
    pub(crate) fn is_recent(&self, quad: &Quad) -> bool {
        self.conns.get(self.recent.id).is_some_and(|conn| conn.quad == *quad)
    }

    /// Whether ends of a packet may be a flow's.
    #[inline]
    pub(crate) fn judge_ends(&self, src: IpAddr, dst: IpAddr) -> Result<(), DropReason> {
        let ours = &self.config.addresses;
        if !ours.contains(&dst) {
            Err(DropReason::NotOurAddress)
        } else if ours.contains(&src) {
            Err(DropReason::OurOwnSource)
        } else {
            Ok(())
        }
    }

    /// The protocol of this connection has ended: no segment and no timer will find it any more. What is unread stays
    /// readable if the end was an orderly one; `closed` follows when it has been read.
    pub(crate) fn finish(&mut self, id: ConnId, reason: CloseReason) {
        self.unlink(id);
        self.wheel.remove(id.slot);
        let Some(conn) = self.conns.get(id) else { return };
        match conn.phase {
            Phase::Handshake(_) => {
                self.connecting -= 1;
                self.counters.opens_failed += 1;
            }
            Phase::Drained(..) => return,
            Phase::Open(_) => self.counters.established_resets += u64::from(!conn.ended.contains(Sides::OURS)),
        }
        if self.trace.is_some() {
            self.look_at_end(id, reason);
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        self.counters.closed += 1;
        match reason {
            CloseReason::Reset => self.counters.resets_in += 1,
            CloseReason::TimedOut | CloseReason::UserTimeout => self.counters.timed_out += 1,
            CloseReason::Unreachable(_) => self.counters.unreachable += 1,
            _ => {}
        }
        if self.config.log_connections {
            log::end(&self.config.tcp, conn, reason, self.now);
        }
        self.orphans.forget(conn);
        if let Phase::Open(connection) = &conn.phase
            && let Some(srtt) = connection.srtt()
        {
            self.counters.note_round_trip(srtt);
        }
        let info = match &conn.phase {
            Phase::Open(connection) if !conn.detached => {
                Some(Info { state: tcp::State::Closed, ..connection.info(&self.config.tcp, self.now) })
            }
            _ => None,
        };
        conn.phase = Phase::Drained(reason, info);
        conn.armed = Instant::MAX;
        self.ring_blocked -= usize::from(std::mem::take(&mut conn.ring_blocked));
        conn.send.clear(&mut self.memory);
        if conn.detached {
            conn.receive.clear(&mut self.holdings);
        }
        // After an end that was not orderly the user may read on in `closed`, and not any more afterwards.
        if conn.receive.unread() == 0 || !matches!(reason, CloseReason::Normal) {
            self.events.push_back(Event::Closed(id, reason));
        }
    }

    /// What may still be kept of received payload (OPS-46).
    #[inline]
    pub(crate) fn keep(&self, conn: &Conn) -> tcp::Keep {
        let (pool, taken) = (self.receive_pool(), conn.receive.taken());
        if pool.is_ample(taken, MOST_AT_ONCE) {
            return tcp::Keep::All;
        }
        let read = if let Phase::Open(connection) = &conn.phase { connection.read() } else { 0 };
        let share = pool.allowance(taken, self.conns.len(), read);
        // A reader that keeps up takes it out of the packet: only what it leaves needs memory. That is no reason to ask for more.
        let keeps_up = conn.receive.unread() == 0 && pool.has_quarter();
        tcp::Keep::InOrder { room: if keeps_up { share.max(MOST_AT_ONCE as u32) } else { share }, share }
    }

    /// What a new connection's peer may send before it is heard again (OPS-46).
    fn first_window(&self) -> FirstWindow {
        let pool = self.receive_pool();
        if pool.is_ample(0, MOST_AT_ONCE) {
            return FirstWindow::Full;
        }
        FirstWindow::within(pool.allowance(0, self.conns.len() + 1, 0))
    }

    /// Parameters for a new connection: initial sequence number (MUST-8, MUST-9), timestamp offset, our MSS (MUST-67), or
    /// less if so wished.
    pub(crate) fn open_params(&self, quad: &Quad, mss: Option<u16>) -> OpenParams {
        let (header, peer_mss) = if quad.local.addr.is_ipv4() { (40, 536) } else { (60, 1_220) };
        let most = mss.map_or(u16::MAX, |mss| mss.max(self.config.tcp.min_mss));
        OpenParams {
            iss: self.shared.isn.isn(quad.local.addr, quad.local.port, quad.remote.addr, quad.remote.port, self.now),
            ts_offset: self.shared.isn.ts_offset(quad.local.addr, quad.remote.addr),
            mss: self.config.mtu.saturating_sub(header).min(most),
            peer_mss,
            first_window: self.first_window(),
        }
    }

    /// Copies the gauges into the counters.
    pub(crate) fn refresh_gauges(&mut self) {
        let gauges = &mut self.counters;
        gauges.connections = (self.conns.len() + self.half_open.len()) as u64;
        let opened = gauges.accepted + gauges.connected;
        gauges.established = opened.saturating_sub(gauges.fins_queued + gauges.established_resets);
        gauges.tx_ring = self.egress.waiting() as u64;
        gauges.buckets = self.buckets.as_ref().map_or(0, |buckets| buckets.occupied()) as u64;
        gauges.half_open = (self.connecting + self.half_open.len()) as u64;
        gauges.connecting = self.connecting as u64;
        gauges.orphans = self.orphans.count as u64;
        gauges.time_wait = self.time_wait.len() as u64;
        gauges.time_wait_evicted = self.time_wait.evicted();
        gauges.send_octets = self.memory.taken_octets();
        gauges.send_chunks = u64::from(self.memory.in_use());
        gauges.send_chunks_peak = u64::from(self.memory.most_in_use());
        gauges.held_packets = self.holdings.packets;
        gauges.held_octets = self.holdings.octets;
        gauges.held_octets_peak = self.holdings.most_octets;
    }

    /// Octets of send memory that a connection may still take (see [`shares`](super::shares)).
    pub(crate) fn send_allowance(&self, id: ConnId) -> u32 {
        let Some(Conn { phase: Phase::Open(connection), send, .. }) = self.conns.get(id) else { return 0 };
        self.send_pool().allowance(send.taken(), self.conns.len(), connection.acked())
    }

    /// Ends an open connection with a RST.
    pub(crate) fn reset(&mut self, id: ConnId, reason: CloseReason) {
        let Some(Conn { phase: Phase::Open(connection), quad, ip, .. }) = self.conns.get_mut(id) else { return };
        let (quad, ip) = (*quad, *ip);
        // The peer may still wait for the ACK of its SYN: a RST without it would undo the handshake, and the peer's
        // user would never hear of a connection that ours has seen.
        let first = connection.owes_first_ack().then(|| connection.take_ack(self.now));
        let reset = connection.abort();
        for segment in first.into_iter().chain(reset) {
            self.send_control(&quad, ip, &segment);
        }
        self.finish(id, reason);
    }

    /// Sends a segment that no connection repeats: a RST, a challenge ACK.
    // In line, it would cost each segment that needs none of this a larger stack frame.
    #[inline(never)]
    pub(crate) fn send_control(&mut self, quad: &Quad, ip: IpFields, segment: &tcp::Transmit) -> bool {
        if segment.flags.contains(wire::tcp::Flags::RST) {
            self.counters.resets_out += 1;
        }
        let sent = self.egress.send_control(&self.config, quad, ip, segment, &mut self.counters);
        if !sent {
            self.counters.drop_packet(DropReason::TxRingFull);
        }
        sent
    }
}

/// Puts `conn` on the list of those to look after, once.
#[inline(always)]
pub(super) fn note(touched: &mut VecDeque<ConnId>, id: ConnId, conn: &mut Conn) {
    if !std::mem::replace(&mut conn.touched, true) {
        touched.push_back(id);
    }
}
