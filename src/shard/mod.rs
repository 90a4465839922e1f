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
pub mod budget;
mod config;
mod conn;
mod connect;
mod cookies;
mod core;
pub mod counters;
pub(crate) mod crowd;
mod destinations;
mod egress;
mod eviction;
mod half_open;
mod icmp;
mod idle_memory;
mod listeners;
mod log;
mod opening;
mod orphans;
mod pages;
mod passive;
pub(crate) mod ports;
mod receive;
mod receive_store;
mod routes;
mod send_store;
pub mod service;
mod shares;
pub mod slab;
mod strangers;
pub mod table;
pub mod time_wait_table;
mod transmit;
pub mod wheel;

use std::cmp::Reverse;

use self::budget::Work;
pub use self::config::{Limits, Offload, ShardConfig, ShardShared};
use self::conn::Phase;
pub use self::cookies::SharedCookies;
use self::core::Core;
pub use self::counters::{Counters, DropReason, PublishedCounters};
pub use self::opening::{AcceptQueue, ConnectError, ConnectOptions, ListenError, ListenOptions};
pub use self::routes::{PrefixError, Route, Routes};
pub use self::service::{ConnId, Io, IoBackend, Message, Service};
use crate::buffer::frame::{Completion, TxFrame};
use crate::buffer::packet::PacketBuf;
use crate::buffer::ring::Producer;
use crate::buffer::send_memory::SendMemory;
use crate::flow::{Endpoint, Quad, ShardId};
use crate::tcp::{CloseReason, ConfigError, Duration, Instant};

/// A turn that begins so much later than one was due was not run for want of a processor, not for want of work.
const ABSENCE: Duration = Duration::from_secs(1);
/// For so long, at least, a shard that comes back looks at packets that waited before it looks at what was due meanwhile.
const CATCH_UP: Duration = Duration::from_millis(10);

/// See the module.
pub struct Shard {
    core: Core,
    services: Vec<Box<dyn Service>>,
    /// Those that want to be asked whether they have mail.
    mailboxes: Vec<u16>,
    /// Where [`reset_connections`](Self::reset_connections) goes on.
    reset_at: u32,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("core", &self.core)
            .field("services", &self.services.len())
            .finish_non_exhaustive()
    }
}

impl Shard {
    /// A shard without services. Its frames go into `out`; whoever drains that ring hands each frame's completion to
    /// [`complete`](Self::complete).
    ///
    /// # Errors
    ///
    /// What [`Config::validate`](crate::tcp::Config::validate) finds in `config`.
    pub fn new(
        config: ShardConfig,
        shared: ShardShared,
        memory: SendMemory,
        out: Producer<TxFrame>,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        config.tcp.validate()?;
        let egress = egress::Egress::new(out);
        let core = Core::new(config, shared, memory, egress, now);
        Ok(Self { core, services: Vec::new(), mailboxes: Vec::new(), reset_at: 0 })
    }

    /// Adds a service: on a port of all our addresses, or (`None`) for what it opens by itself ([`Io::listen`],
    /// [`Io::connect`]) and for connections opened by [`connect`](Self::connect). Returns its index, which is the same on
    /// every shard that adds the same services in the same order.
    pub fn add_service(&mut self, port: Option<u16>, service: Box<dyn Service>) -> u16 {
        let index = self.services.len() as u16;
        if let Some(port) = port {
            self.core.listeners.add_fixed(port, index);
        }
        if service.wants_mail() {
            self.mailboxes.push(index);
        }
        self.core.give_way.push(!service.keeps_idle());
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
        if now - self.core.turn_began > ABSENCE {
            self.notice_absence(now);
        }
        self.core.turn_began = now;
        self.core.now = now - self.core.absent;
    }

    #[cold]
    fn notice_absence(&mut self, now: Instant) {
        let Some(due) = self.next_deadline() else { return };
        if now - due > ABSENCE {
            // Never back.
            let own = (due - self.core.absent).saturating_sub(CATCH_UP).max(self.core.now);
            self.core.absent = now - own;
            self.core.counters.absences += 1;
        }
    }

    /// The tx stage is done with a frame.
    pub fn complete(&mut self, completion: Completion) {
        self.core.complete(completion);
    }

    /// A message of another shard (or of the engine's control plane) to the service with that index.
    pub fn message(&mut self, service: u16, from: ShardId, message: Message) {
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
        let mut delivered = 0;
        for place in 0..self.mailboxes.len() {
            let service = self.mailboxes[place];
            let mut calls = 0;
            while calls < budget::MAIL && self.services[usize::from(service)].has_mail() {
                self.call(service, |service, io| service.mail(io));
                calls += 1;
            }
            self.core.counters.note_work(Work::Mail, calls);
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
        self.core.shared.owner(quad)
    }

    /// Tells all services that the end is near. What they send leaves with the end of the turn.
    pub fn stopping(&mut self) {
        for service in 0..self.services.len() {
            self.call(service as u16, |service, io| service.stopping(io));
        }
        self.deliver_events();
    }

    /// Resets connections, at each call some of them: [`budget::PLACES`] are looked at, and the tx ring must have room. Spared
    /// are those of services that have [said goodbye](Service::has_said_goodbye). Returns whether that was all; there are no
    /// new ones, for the first call closes all listeners.
    pub fn reset_connections(&mut self) -> bool {
        if self.reset_at == 0 {
            self.core.close_all_listeners();
        }
        let end = self.core.conns.slots() as u32;
        let mut looks = 0;
        // One may take the ACK of its handshake and the reset.
        while self.reset_at < end && looks < budget::PLACES && self.core.egress.has_room_for_data() {
            let slot = self.reset_at;
            self.reset_at += 1;
            looks += 1;
            let Some(conn) = self.core.conns.at(slot) else { continue };
            let told = self.services.get(usize::from(conn.service)).is_some_and(|service| service.has_said_goodbye());
            if matches!(conn.phase, Phase::Open(_))
                && !told
                && let Some(id) = self.core.conns.key(slot)
            {
                IoBackend::abort(&mut self.core, id);
            }
        }
        self.core.counters.note_work(Work::Places, looks);
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
        self.core.egress.waiting()
    }

    /// Closes all listeners and tells whether something that was said and closed has not been acknowledged, or not even
    /// been handed to its connection ([`Service::draining`]).
    pub fn drain(&mut self) -> bool {
        let mut owes = false;
        for service in 0..self.services.len() {
            self.call(service as u16, |service, io| owes |= service.draining(io));
        }
        self.core.close_all_listeners();
        self.deliver_events();
        owes || self.core.orphans.count > 0
    }

    /// Whether a connection is open that its service has not closed, or that is about to open for it. A peer's handshake that
    /// is not complete does not count.
    #[must_use]
    pub fn has_open(&self) -> bool {
        self.core.conns.len() > self.core.detached
    }

    /// Opens a connection to `remote` for the service with that index, which then hears `accepted` or `closed`. `None`: no
    /// address of that family, no port free or the shard is full; the service hears `closed` of an id that names nothing.
    pub fn connect(&mut self, service: u16, remote: Endpoint) -> Option<ConnId> {
        let id = self.core.open(service, remote, &ConnectOptions::default()).ok();
        if id.is_none() {
            let nothing = ConnId { slot: u32::MAX, generation: 0 };
            self.call(service, |service, io| service.closed(io, nothing, CloseReason::LocalClose));
        }
        id
    }

    /// Ends a turn: timers, then everything that connections may send now. Returns whether anything was handed to the
    /// tx stage.
    pub fn finish_turn(&mut self) -> bool {
        self.deliver_events();
        self.run_timers();
        if self.has_backlog() {
            self.call_again();
            self.core.reset_children();
        }
        self.core.take_memory_of_orphans();
        self.core.evict_stalled();
        self.deliver_events();
        self.feed_starved();
        self.deliver_events();
        self.core.transmit();
        self.deliver_events();
        self.core.give_back_memory();
        self.core.egress.publish()
    }

    /// When the shard next needs a turn even if nothing happens.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        let service = self.core.service_timers.peek().map(|Reverse((at, ..))| *at);
        let idle_memory = self.core.give_back_due();
        let Core { wheel, time_wait, orphans, half_open, evict_at, .. } = &self.core;
        let timers = [wheel.next(), time_wait.next(), orphans.due, half_open.next(), *evict_at];
        timers.into_iter().chain([service, idle_memory]).flatten().min().map(|due| due + self.core.absent)
    }

    /// Whether connections wait for their turn or for room in the tx ring.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.core.touched.is_empty()
            || self.core.half_open.unsent().is_some()
            || !self.core.events.is_empty()
            || !self.core.outbox.is_empty()
            || self.has_backlog()
            || self.core.feed_left > 0
    }

    /// Whether the last turn left something over that the next one can do at once.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        !self.core.call_again.is_empty() || self.core.listeners.has_closing()
    }

    /// Whether frames are out whose completion has not come back.
    #[must_use]
    pub fn awaits_completions(&self) -> bool {
        self.core.memory.outstanding() > 0
    }

    /// The next packet buffer that is to go back to its pool.
    pub fn take_released(&mut self) -> Option<PacketBuf> {
        self.core.holdings.released.pop()
    }

    /// The next message for another shard: receiver, service, message.
    pub fn take_message(&mut self) -> Option<(ShardId, u16, Message)> {
        self.core.outbox.pop_front()
    }

    /// Puts back a message that could not be delivered now.
    pub fn return_message(&mut self, to: ShardId, service: u16, message: Message) {
        self.core.outbox.push_front((to, service, message));
    }

    /// The shard's counters, gauges as of now.
    pub fn counters(&mut self) -> &mut Counters {
        self.core.refresh_gauges();
        &mut self.core.counters
    }

    /// The shard's counters, to be added to.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.core.counters
    }

    /// Whether a connection waits until the tx stage has taken more of its frames.
    #[must_use]
    pub fn waits_for_tx(&self) -> bool {
        self.core.ring_blocked > 0
    }

    /// Whether [`finish_turn`](Self::finish_turn) could send something that waits: there is room in the tx ring again.
    pub fn can_transmit(&mut self) -> bool {
        let waits = !self.core.touched.is_empty() || self.core.half_open.unsent().is_some();
        waits && self.core.egress.has_room_for_data()
    }

    /// Quads and states of all connections, for reports.
    pub fn connections(&self) -> impl Iterator<Item = (ConnId, Quad, crate::tcp::State)> + '_ {
        let half_open = self.core.half_open.iter().map(|(id, quad)| (id, quad, crate::tcp::State::SynReceived));
        let conns = self.core.conns.iter().filter_map(|(id, conn)| {
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
        IoBackend::info(&self.core, id)
    }

    /// When this connection is woken at the latest.
    #[must_use]
    pub fn timer(&self, id: ConnId) -> Option<Instant> {
        let armed = self.core.conns.get(id).map(|conn| conn.armed).filter(|armed| *armed != Instant::MAX);
        armed.or_else(|| self.core.half_open.timer(id)).map(|armed| armed + self.core.absent)
    }

    /// Takes a connection's timer away, for tests that want this to be noticed.
    #[cfg(test)]
    pub(crate) fn disarm(&mut self, id: ConnId) {
        self.core.wheel.remove(id.slot);
        if let Some(conn) = self.core.conns.get_mut(id) {
            conn.armed = Instant::MAX;
        }
    }

    /// Queues octets as they lie when there was little memory while they were queued, for tests that send them.
    #[cfg(test)]
    pub(crate) fn send_in_smallest_blocks(&mut self, id: ConnId, octets: u32) {
        let Core { conns, memory, .. } = &mut self.core;
        let Some(conn) = conns.get_mut(id) else { return };
        let Phase::Open(connection) = &mut conn.phase else { return };
        for _ in 0..octets / 256 {
            connection.on_send(conn.send.append(memory, &[7; 256], 256) as u32);
        }
        self.core.touch(id);
    }

    fn run_timers(&mut self) {
        let now = self.core.now;
        // In most turns nothing is due, and little is asked.
        if self.core.service_timers.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            self.run_service_timers(now);
        }
        if !self.core.time_wait.is_empty() {
            self.expire_time_wait(now);
        }
        if self.core.half_open.len() > 0 {
            self.core.run_half_open_timers();
        }
        let mut looks = budget::TIMERS;
        while let Some(slot) = self.core.wheel.pop_within(now, &mut looks) {
            if let Some(id) = self.core.conns.key(slot) {
                self.fire(id);
            }
        }
        self.core.counters.note_work(Work::Timers, budget::TIMERS - looks);
    }

    #[inline(never)]
    fn run_service_timers(&mut self, now: Instant) {
        // Those that the calls below set wait for the next turn: a service that asks for one at once does not hold us up.
        let newest = self.core.timer_order;
        let mut timers = 0;
        while timers < budget::SERVICE_TIMERS
            && let Some(Reverse((at, order, service, token))) = self.core.service_timers.peek().copied()
        {
            if at > now || order > newest {
                break;
            }
            timers += 1;
            self.core.service_timers.pop();
            self.call(service, |service, io| service.timer(io, token));
        }
        self.core.counters.note_work(Work::ServiceTimers, timers);
    }

    #[inline(never)]
    fn expire_time_wait(&mut self, now: Instant) {
        let mut records = 0;
        while records < budget::TIME_WAIT
            && let Some((quad, _)) = self.core.time_wait.pop_expired(now)
        {
            records += 1;
            self.core.waited(&quad);
        }
        self.core.counters.note_work(Work::TimeWait, records);
    }

    /// Goes on where services have asked for it.
    fn call_again(&mut self) {
        let calls = self.core.call_again.len().min(budget::CALLS_AGAIN);
        for _ in 0..calls {
            let Some(id) = self.core.call_again.pop_front() else { break };
            let Some(conn) = self.core.conns.get_mut(id) else { continue };
            conn.again = false;
            if !conn.detached && matches!(conn.phase, Phase::Open(_)) {
                let service = conn.service;
                self.call(service, |service, io| service.writable(io, id));
            }
        }
        self.core.counters.note_work(Work::CallsAgain, calls);
    }

    fn fire(&mut self, id: ConnId) {
        let now = self.core.now;
        let Some(conn) = self.core.conns.get_mut(id) else { return };
        conn.armed = Instant::MAX;
        match &mut conn.phase {
            Phase::Handshake(handshake) => {
                if handshake.next_timeout().is_some_and(|deadline| deadline <= now) {
                    let outcome = handshake.on_timeout(&self.core.config.tcp, now);
                    self.handshake_outcome(id, outcome);
                }
            }
            Phase::Open(connection) => {
                if connection.next_timeout().is_some_and(|deadline| deadline <= now) {
                    let outcome = connection.on_timeout(&self.core.config.tcp, now);
                    self.core.counters.note_events(outcome.events, || 0);
                    self.outcome(id, outcome, false);
                }
            }
            Phase::Drained(..) => {}
        }
        // Re-arms it where nothing was due: the deadline had moved.
        self.core.touch(id);
    }
}

#[cfg(test)]
mod store_tests;
