//! One shard: the connections of one worker thread and everything they need, in plain memory of that thread.
//!
//! [`Shard`] is single-threaded and owns no thread, device or clock: packets, time and completions are handed in, frames
//! leave through an SPSC ring. The engine runs one on each worker; an embedder may run one by itself. A turn is
//!
//! ```text
//! begin_turn(now) -> complete()* -> receive()* -> message()*, deliver_mail() -> finish_turn()
//!                    tx is done     packets       other shards, other threads   timers, transmit
//! ```
//!
//! No lock, no atomic read-modify-write, no allocation and no log line for a segment on the fast path.

mod age_list;
mod arrival;
mod buckets;
pub mod budget;
mod claims;
mod config;
mod conn;
mod connect;
mod cookies;
pub mod counters;
pub(crate) mod crowd;
mod destinations;
pub mod diag;
mod egress;
mod eviction;
mod filing;
mod half_open;
mod hasher;
mod icmp;
mod idle_memory;
mod io;
mod link;
mod listeners;
mod listening;
mod log;
mod observe;
mod opening;
mod orphan_limits;
mod orphans;
mod pages;
mod passive;
pub(crate) mod ports;
mod prefetch;
mod receive;
mod receive_store;
mod recent;
mod round_trips;
mod routes;
mod run;
mod secrets;
mod send_store;
pub mod service;
mod shares;
pub mod slab;
mod state;
mod strangers;
pub mod table;
pub mod tap;
pub mod time_wait_table;
pub mod trace;
mod transmit;
pub mod wheel;

use std::cmp::Reverse;

use self::budget::Work;
pub use self::config::{Limits, ShardConfig, ShardShared};
use self::conn::Phase;
pub use self::cookies::SharedCookies;
pub use self::counters::{Counters, DropReason, PublishedCounters};
use self::egress::Egress;
pub use self::hasher::FlowHasher;
pub use self::opening::{AcceptQueue, ConnectError, ConnectOptions, ListenError, ListenOptions};
use self::round_trips::RoundTrips;
pub use self::routes::{PrefixError, Route, Routes};
pub use self::run::LOOK_AHEAD;
pub use self::secrets::Secrets;
pub use self::service::{ConnId, Io, Message, Service};
use self::state::ShardState;
use self::tap::Tap;
use self::trace::Trace;
use crate::buffer::frame::{Completion, RxFrame, TxFrame};
use crate::buffer::packet::PacketBuf;
use crate::buffer::ring::{Consumer, ring};
use crate::buffer::send_memory::{SendMemory, SendReader};
use crate::flow::{Endpoint, Quad, ShardId};
use crate::tcp::{CloseReason, ConfigError, Duration, Instant};
pub use crate::wire::vnet::Offload;

/// A turn that begins so much later than one was due was not run for want of a processor, not for want of work.
const ABSENCE: Duration = Duration::from_secs(1);
/// For so long, at least, a shard that comes back looks at packets that waited before it looks at what was due meanwhile.
const CATCH_UP: Duration = Duration::from_millis(10);

/// One shard: connections, services and all that they need. It runs in turns, which its caller gives it.
pub struct Shard {
    state: ShardState,
    services: Vec<Box<dyn Service>>,
    /// Those that want to be asked whether they have mail.
    mailboxes: Vec<u16>,
    /// Where [`reset_connections`](Self::reset_connections) goes on.
    reset_at: u32,
    round_trips: RoundTrips,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("state", &self.state)
            .field("services", &self.services.len())
            .finish_non_exhaustive()
    }
}

/// The other side of a shard's way out, for whoever sends its frames.
#[derive(Debug)]
pub struct Outlet {
    /// Frames as the shard has published them. Whoever takes one hands its completion to [`Shard::complete`].
    pub frames: Consumer<TxFrame>,
    /// Where the payload of the frames lies.
    pub memory: SendReader,
}

impl Shard {
    /// A shard without services, with `send_chunks` chunks of send memory and a ring for `tx_ring` frames, and the
    /// outlet that its frames come to. Everything that has a shard gets it here.
    ///
    /// # Errors
    ///
    /// What [`Config::validate`](crate::tcp::Config::validate) finds in `config`.
    pub fn new(
        config: ShardConfig,
        shared: ShardShared,
        send_chunks: u32,
        tx_ring: usize,
        now: Instant,
    ) -> Result<(Self, Outlet), ConfigError> {
        config.tcp.validate()?;
        let (memory, reader) = SendMemory::new(send_chunks);
        let (producer, frames) = ring(tx_ring);
        let config_logs = config.log_segments;
        let state = ShardState::new(config, shared, memory, Egress::new(producer, config_logs), now);
        let shard = Self {
            state,
            services: Vec::new(),
            mailboxes: Vec::new(),
            reset_at: 0,
            round_trips: RoundTrips::default(),
        };
        Ok((shard, Outlet { frames, memory: reader }))
    }

    /// Adds a service: on a port of all our addresses, or (`None`) for what it opens by itself ([`Io::listen`],
    /// [`Io::connect`]) and for connections opened by [`connect`](Self::connect). Returns its index, which is the same on
    /// every shard that adds the same services in the same order.
    pub fn add_service(&mut self, port: Option<u16>, service: Box<dyn Service>) -> u16 {
        let index = self.services.len() as u16;
        if let Some(port) = port {
            self.state.listeners.add_fixed(port, index);
        }
        if service.wants_mail() {
            self.mailboxes.push(index);
        }
        self.state.give_way.push(!service.keeps_idle());
        self.services.push(service);
        index
    }

    /// Begins a turn at `now`, which holds until the next one.
    ///
    /// The shard's own clock stands still while the shard cannot run. A turn that begins more than a second after one
    /// was due (the process was stopped, the machine slept, the clock was set) begins for timers just before what was due
    /// first: packets that waited meanwhile are looked at before it, and peers have as long as ever to do what was
    /// expected of them. An embedder who keeps the shard waiting on purpose makes its clock slow.
    #[inline]
    pub fn begin_turn(&mut self, now: Instant) {
        if now - self.state.turn_began > ABSENCE {
            self.notice_absence(now);
        }
        self.state.turn_began = now;
        self.state.now = now - self.state.absent;
        self.state.egress.begin_turn(now);
    }

    #[cold]
    fn notice_absence(&mut self, now: Instant) {
        let Some(due) = self.next_deadline() else { return };
        if now - due > ABSENCE {
            // Never back.
            let own = (due - self.state.absent).saturating_sub(CATCH_UP).max(self.state.now);
            self.state.absent = now - own;
            self.state.counters.absences += 1;
        }
    }

    /// Whether the worker of this shard has time for more flows: what is born on its CPU goes elsewhere if not.
    pub fn note_busy(&mut self, busy: bool) {
        self.state.note_busy(busy);
    }

    /// Shows what the shard receives by [`receive_tapped`](Self::receive_tapped) and sends to the reader of `tap`, until
    /// that is dropped. Returns the shard's time; `None`: there is a tap already.
    #[must_use]
    pub fn tap(&mut self, tap: Tap) -> Option<Instant> {
        let now = self.state.turn_began;
        let memory = self.state.memory.reader();
        self.state.egress.set_tap(tap, memory, now).then_some(now)
    }

    /// Tells the reader of `trace` what senders decide, until that is dropped. Returns the shard's time; `None`: there is a
    /// trace already.
    #[must_use]
    pub fn trace(&mut self, trace: Trace) -> Option<Instant> {
        if self.state.trace.as_mut().is_some_and(|other| other.publish()) {
            return None;
        }
        self.state.trace = Some(Box::new(trace));
        Some(self.state.turn_began)
    }

    /// Whether there is a tap: to be asked once a batch, for which of [`receive`](Self::receive) and
    /// [`receive_tapped`](Self::receive_tapped) its packets are handed to.
    #[inline]
    #[must_use]
    pub fn is_tapped(&self) -> bool {
        self.state.egress.is_tapped()
    }

    /// As [`receive`](Self::receive), and the tap sees the packet and what becomes of it.
    pub fn receive_tapped(&mut self, frame: RxFrame) {
        let sight = self.state.egress.tap_mut().and_then(|tap| tap.receive(&frame));
        self.state.dropped = None;
        self.receive(frame);
        if let Some(sight) = sight
            && let Some(tap) = self.state.egress.tap_mut()
        {
            tap.received(sight, self.state.dropped);
        }
    }

    /// The tx stage is done with a frame.
    pub fn complete(&mut self, completion: Completion) {
        self.state.complete(completion);
    }

    /// A message of another shard (or of the engine's control plane) to the service with that index.
    pub fn message(&mut self, service: u16, from: ShardId, message: Message) {
        self.end_run();
        self.call(service, |service, io| service.message(io, from, message));
        self.deliver_events();
    }

    /// Whether a service has mail from other threads: to be asked once a turn, and before the thread parks.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.mailboxes.iter().any(|&service| self.services[usize::from(service)].has_mail())
    }

    /// Lets the services that have mail read it, up to [`budget::MAIL`] calls each. Returns how many had some.
    pub fn deliver_mail(&mut self) -> usize {
        self.end_run();
        let mut delivered = 0;
        for place in 0..self.mailboxes.len() {
            let service = self.mailboxes[place];
            let mut calls = 0;
            while calls < budget::MAIL && self.services[usize::from(service)].has_mail() {
                self.call(service, |service, io| service.mail(io));
                calls += 1;
            }
            self.state.counters.note_work(Work::Mail, calls);
            delivered += usize::from(calls > 0);
        }
        if delivered > 0 {
            self.deliver_events();
        }
        delivered
    }

    /// Which shard a connection between these ends belongs to.
    #[must_use]
    pub fn owner(&self, quad: &Quad) -> ShardId {
        self.state.shared.owner(quad)
    }

    /// Tells all services that the end is near. What they send leaves with the end of the turn.
    pub fn stopping(&mut self) {
        self.end_run();
        for service in 0..self.services.len() {
            self.call(service as u16, |service, io| service.stopping(io));
        }
        self.deliver_events();
    }

    /// Resets connections, at each call some of them: [`budget::PLACES`] are looked at, and the tx ring must have room. Spared
    /// are those of services that have [said goodbye](Service::has_said_goodbye). Returns whether that was all; there are no
    /// new ones, for the first call closes all listeners.
    pub fn reset_connections(&mut self) -> bool {
        self.end_run();
        if self.reset_at == 0 {
            self.state.close_all_listeners();
        }
        let end = self.state.conns.slots() as u32;
        let mut looks = 0;
        // One may take the ACK of its handshake and the reset.
        while self.reset_at < end && looks < budget::PLACES && self.state.egress.has_room_for_data() {
            let slot = self.reset_at;
            self.reset_at += 1;
            looks += 1;
            let Some(conn) = self.state.conns.at(slot) else { continue };
            let told = self.services.get(usize::from(conn.service)).is_some_and(|service| service.has_said_goodbye());
            if matches!(conn.phase, Phase::Open(_))
                && !told
                && let Some(id) = self.state.conns.key(slot)
            {
                Io::abort(&mut self.state, id);
            }
        }
        self.state.counters.note_work(Work::Places, looks);
        self.deliver_events();
        let all = self.reset_at >= end;
        if all {
            self.reset_at = 0;
        }
        all
    }

    /// How far [`reset_connections`](Self::reset_connections) has come.
    #[must_use]
    pub fn places_reset(&self) -> u32 {
        self.reset_at
    }

    /// Frames that the tx stage has not taken yet.
    #[must_use]
    pub fn frames_waiting(&mut self) -> usize {
        self.state.egress.waiting()
    }

    /// Closes all listeners and tells whether something that was said and closed has not been acknowledged, or not even
    /// been handed to its connection ([`Service::draining`]).
    pub fn drain(&mut self) -> bool {
        self.end_run();
        let mut owes = false;
        for service in 0..self.services.len() {
            self.call(service as u16, |service, io| owes |= service.draining(io));
        }
        self.state.close_all_listeners();
        self.deliver_events();
        owes || self.state.orphans.count > 0
    }

    /// Whether a connection is open that its service has not closed, or that is about to open for it. A peer's handshake that
    /// is not complete does not count.
    #[must_use]
    pub fn has_open(&self) -> bool {
        self.state.conns.len() > self.state.detached
    }

    /// Opens a connection to `remote` for the service with that index, which then hears `accepted` or `closed`. `None`: no
    /// address of that family, no port free or the shard is full; the service hears `closed` of an id that names nothing.
    pub fn connect(&mut self, service: u16, remote: Endpoint) -> Option<ConnId> {
        self.end_run();
        let id = self.state.open(service, remote, &ConnectOptions::default()).ok();
        if id.is_none() {
            let nothing = ConnId { slot: u32::MAX, generation: 0 };
            self.call(service, |service, io| service.closed(io, nothing, CloseReason::LocalClose));
        }
        id
    }

    /// Ends a turn: timers, then everything that connections may send now. Returns whether anything was handed to the
    /// tx stage.
    pub fn finish_turn(&mut self) -> bool {
        self.end_run();
        self.deliver_events();
        self.run_timers();
        if self.has_backlog() {
            self.call_again();
            self.state.reset_children();
        }
        self.state.take_memory_of_orphans();
        self.state.evict_stalled();
        self.deliver_events();
        self.feed_starved();
        self.deliver_events();
        self.state.transmit();
        self.deliver_events();
        self.state.give_back_memory();
        self.state.tend_buckets();
        if self.state.trace.as_mut().is_some_and(|trace| !trace.publish()) {
            self.state.trace = None;
        }
        self.state.egress.publish(&self.state.config)
    }

    /// When the shard next needs a turn even if nothing happens.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        let service = self.state.service_timers.peek().map(|Reverse((at, ..))| *at);
        let sweep = self.state.sweep_due();
        let idle_memory = self.state.give_back_due();
        let ShardState { wheel, time_wait, orphans, half_open, evict_at, .. } = &self.state;
        let timers = [wheel.next(), time_wait.next(), orphans.due, half_open.next(), *evict_at];
        timers.into_iter().chain([service, idle_memory, sweep]).flatten().min().map(|due| due + self.state.absent)
    }

    /// Whether connections wait for their turn or for room in the tx ring.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.state.touched.is_empty()
            || self.state.half_open.unsent().is_some()
            || !self.state.events.is_empty()
            || !self.state.outbox.is_empty()
            || self.has_backlog()
            || self.state.feed_left > 0
    }

    /// Whether the last turn left something over that the next one can do at once.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        !self.state.call_again.is_empty() || self.state.listeners.has_closing()
    }

    /// Whether frames are out whose completion has not come back.
    #[must_use]
    pub fn awaits_completions(&self) -> bool {
        self.state.memory.outstanding() > 0
    }

    /// The next packet buffer that is to go back to its pool.
    pub fn take_released(&mut self) -> Option<PacketBuf> {
        self.state.holdings.released.pop()
    }

    /// The next message for another shard: receiver, service, message.
    pub fn take_message(&mut self) -> Option<(ShardId, u16, Message)> {
        self.state.outbox.pop_front()
    }

    /// Puts back a message that could not be delivered now.
    pub fn return_message(&mut self, to: ShardId, service: u16, message: Message) {
        self.state.outbox.push_front((to, service, message));
    }

    /// The shard's counters, gauges as of now.
    pub fn counters(&mut self) -> &mut Counters {
        self.state.refresh_gauges();
        &mut self.state.counters
    }

    /// Goes on with counting the round trips of connections by their time, if that is due: of each once a second while
    /// segments come, or less often where there are very many. Whoever publishes counters calls it before.
    pub fn count_round_trips(&mut self) {
        self.round_trips.count(&mut self.state);
    }

    /// The shard's counters, to be added to.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.state.counters
    }

    /// Whether a connection waits until the tx stage has taken more of its frames.
    #[must_use]
    pub fn waits_for_tx(&self) -> bool {
        self.state.ring_blocked > 0
    }

    /// Whether [`finish_turn`](Self::finish_turn) could send something that waits: there is room in the tx ring again.
    pub fn can_transmit(&mut self) -> bool {
        let waits = !self.state.touched.is_empty() || self.state.half_open.unsent().is_some();
        waits && self.state.egress.has_room_for_data()
    }

    /// Quads and states of all connections, for reports.
    pub fn connections(&self) -> impl Iterator<Item = (ConnId, Quad, crate::tcp::State)> + '_ {
        let half_open = self.state.half_open.iter().map(|(id, quad)| (id, quad, crate::tcp::State::SynReceived));
        let conns = self.state.conns.iter().filter_map(|(id, conn)| {
            let state = match &conn.phase {
                Phase::Handshake(handshake) => handshake.state(),
                Phase::Open(connection) => connection.state(),
                Phase::Drained(..) => return None,
            };
            Some((id, conn.quad, state))
        });
        conns.chain(half_open)
    }

    /// Counters and estimates of a connection; `None` before it is established and after it has ended.
    #[must_use]
    pub fn info(&self, id: ConnId) -> Option<crate::tcp::Info> {
        Io::info(&self.state, id)
    }

    /// When this connection is woken at the latest.
    #[must_use]
    pub fn timer(&self, id: ConnId) -> Option<Instant> {
        let armed = self.state.conns.get(id).map(|conn| conn.armed).filter(|armed| *armed != Instant::MAX);
        armed.or_else(|| self.state.half_open.timer(id)).map(|armed| armed + self.state.absent)
    }

    /// Takes a connection's timer away, for tests that want this to be noticed.
    #[cfg(all(test, feature = "sim"))]
    pub(crate) fn disarm(&mut self, id: ConnId) {
        self.state.wheel.remove(id.slot);
        if let Some(conn) = self.state.conns.get_mut(id) {
            conn.armed = Instant::MAX;
        }
    }

    /// Queues octets as they lie when there was little memory while they were queued, for tests that send them.
    #[cfg(all(test, feature = "sim"))]
    pub(crate) fn send_in_smallest_blocks(&mut self, id: ConnId, octets: u32) {
        let ShardState { conns, memory, .. } = &mut self.state;
        let Some(conn) = conns.get_mut(id) else { return };
        let Phase::Open(connection) = &mut conn.phase else { return };
        for _ in 0..octets / 256 {
            connection.on_send(conn.send.append(memory, &[7; 256], 256) as u32);
        }
        self.state.touch(id);
    }

    fn run_timers(&mut self) {
        let now = self.state.now;
        // In most turns nothing is due, and little is asked.
        if self.state.service_timers.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            self.run_service_timers(now);
        }
        if !self.state.time_wait.is_empty() {
            self.expire_time_wait(now);
        }
        if self.state.half_open.len() > 0 {
            self.state.run_half_open_timers();
        }
        let mut looks = budget::TIMERS;
        while let Some(slot) = self.state.wheel.pop_within(now, &mut looks) {
            if let Some(id) = self.state.conns.key(slot) {
                self.fire(id);
            }
        }
        self.state.counters.note_work(Work::Timers, budget::TIMERS - looks);
    }

    #[inline(never)]
    fn run_service_timers(&mut self, now: Instant) {
        // Those that the calls below set wait for the next turn: a service that asks for one at once does not hold us up.
        let newest = self.state.timer_order;
        let mut timers = 0;
        while timers < budget::SERVICE_TIMERS
            && let Some(Reverse((at, order, service, token))) = self.state.service_timers.peek().copied()
        {
            if at > now || order > newest {
                break;
            }
            timers += 1;
            self.state.service_timers.pop();
            self.call(service, |service, io| service.timer(io, token));
        }
        self.state.counters.note_work(Work::ServiceTimers, timers);
    }

    #[inline(never)]
    fn expire_time_wait(&mut self, now: Instant) {
        let mut records = 0;
        while records < budget::TIME_WAIT
            && let Some((quad, _)) = self.state.time_wait.pop_expired(now)
        {
            records += 1;
            self.state.waited(&quad);
        }
        self.state.counters.note_work(Work::TimeWait, records);
    }

    /// Goes on where services have asked for it.
    fn call_again(&mut self) {
        let calls = self.state.call_again.len().min(budget::CALLS_AGAIN);
        for _ in 0..calls {
            let Some(id) = self.state.call_again.pop_front() else { break };
            let Some(conn) = self.state.conns.get_mut(id) else { continue };
            conn.again = false;
            if !conn.detached && matches!(conn.phase, Phase::Open(_)) {
                let service = conn.service;
                self.call(service, |service, io| service.writable(io, id));
            }
        }
        self.state.counters.note_work(Work::CallsAgain, calls);
    }

    fn fire(&mut self, id: ConnId) {
        let now = self.state.now;
        let Some(conn) = self.state.conns.get_mut(id) else { return };
        conn.armed = Instant::MAX;
        match &mut conn.phase {
            Phase::Handshake(handshake) => {
                if handshake.next_timeout().is_some_and(|deadline| deadline <= now) {
                    let outcome = handshake.on_timeout(&self.state.config.tcp, now);
                    self.handshake_outcome(id, outcome);
                }
            }
            Phase::Open(connection) => {
                if connection.next_timeout().is_some_and(|deadline| deadline <= now) {
                    let outcome = connection.on_timeout(&self.state.config.tcp, now);
                    self.state.counters.note_events(outcome.events, || 0);
                    self.outcome(id, outcome, false);
                }
            }
            Phase::Drained(..) => {}
        }
        // Re-arms it where nothing was due: the deadline had moved.
        self.state.touch(id);
    }
}

#[cfg(test)]
mod store_tests;
