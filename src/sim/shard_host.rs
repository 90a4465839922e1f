//! A host made of a real [`Shard`](crate::shard::Shard) with its rings, pools and send memory.
//!
//! Cheap to make: pools grow as needed, memory is touched when used. Must not contain: links, decisions about traffic
//! (they are the applications').

use std::any::Any;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::IpAddr;

use super::Rng;
use super::app::{App, Plan, SharedReport};
use super::host::Host;
use super::packet::Packet;
use super::rules::{Rule, Violation};
use crate::buffer::frame::{Completion, RxFrame};
use crate::device::BUFFER_LEN;
use crate::embed::{Driver, sole_owner};
use crate::flow::{Endpoint, Quad};
use crate::shard::{ConnId, Counters, Limits, Offload, Secrets, ShardConfig, ShardShared, ports};
use crate::steering::SteeringKeys;
use crate::tcp::isn::IsnGenerator;
use crate::tcp::{self, ConfigError, Duration, Info, Instant, SeqNum, State};
use crate::wire::vnet::{ChecksumStatus, RxOffload, TxChecksum};

/// Turns at one point in time after which a shard is thought to go round in circles.
const MOST_TURNS: usize = 10_000;

/// What a simulated host is made of.
#[derive(Debug, Clone)]
pub struct ShardHostConfig {
    /// Its address.
    pub addr: IpAddr,
    /// Largest packet on its link, octets.
    pub mtu: u16,
    /// What its device does for it.
    pub offload: Offload,
    /// Limits of the shard.
    pub limits: Limits,
    /// Tunables of the connections.
    pub tcp: tcp::Config,
    /// Send memory, in chunks of 64 KiB.
    pub send_chunks: u32,
    /// Frames that the tx ring holds.
    pub tx_ring: usize,
    /// How long the device takes for a frame.
    pub tx_lag: Duration,
    /// How far its clock is ahead of the world's.
    pub ahead: Duration,
    /// Keys, ports and the pieces in which applications write.
    pub seed: u64,
}

impl ShardHostConfig {
    /// A host with that address and everything as the engine would have it, in small.
    #[must_use]
    pub fn new(addr: impl Into<IpAddr>, seed: u64) -> Self {
        Self {
            addr: addr.into(),
            mtu: 1_500,
            offload: Offload { checksum: true, tso4: true, tso6: true },
            limits: Limits { held_packets: 32, held_octets: 64 << 20, ..Limits::default() },
            tcp: tcp::Config::default(),
            send_chunks: 128,
            tx_ring: 256,
            tx_lag: Duration::ZERO,
            ahead: Duration::ZERO,
            seed,
        }
    }

    /// Its steering key, which is drawn first, and its secrets.
    fn keys(&self) -> (SteeringKeys, Secrets) {
        let mut rng = Rng::with_seed(self.seed);
        let (mut steering, mut secrets) =
            ([0; 16], Secrets { isn: [0; 16], flows: [0; 16], ports: 0, cookies: [0; 16] });
        rng.fill(&mut steering);
        rng.fill(&mut secrets.flows);
        secrets.ports = rng.u64(..);
        Rng::with_seed(self.seed ^ 0x1595).fill(&mut secrets.isn);
        Rng::with_seed(self.seed ^ 0xc00c).fill(&mut secrets.cookies);
        (SteeringKeys::from_random(steering), secrets)
    }

    fn isn(&self) -> IsnGenerator {
        IsnGenerator::new(self.keys().1.isn)
    }

    fn driver(&self, now: Instant) -> Result<Driver, ConfigError> {
        let (keys, secrets) = self.keys();
        let config = ShardConfig {
            mtu: self.mtu,
            offload: self.offload,
            limits: self.limits,
            tcp: self.tcp,
            ..ShardConfig::sole(vec![self.addr])
        };
        let shared = ShardShared::new(keys, sole_owner(), &secrets);
        Driver::new(config, shared, self.send_chunks, self.tx_ring, now)
    }

    /// Sets the clock so that the first connection, opened to `remote` at `at` (world's time), has initial sequence number
    /// `isn`, or one a little below. Gives its port, which depends on the clock as well: of the times at which the number comes
    /// round, one in a couple of thousand keys for ports fits.
    pub fn steer_first_isn(&mut self, remote: Endpoint, at: Instant, isn: SeqNum) -> Option<u16> {
        let (generator, local) = (self.isn(), self.addr);
        let first = ports::epoch(at) + 1;
        for epoch in first..first + 50_000 {
            let begin = Instant::ZERO + ports::LIFE * epoch;
            let port = ports::first(generator.port_hash(local, remote.addr, remote.port, epoch));
            let ticks = isn.0.wrapping_sub(generator.isn(local, port, remote.addr, remote.port, begin).0);
            let after = Duration::from_micros(u64::from(ticks) * 4);
            if after < ports::LIFE {
                self.ahead = begin + after - at;
                return Some(port);
            }
        }
        None
    }

    /// Sets the clock so that a connection between these ends which begins at `at` (world's time) has initial sequence
    /// number `isn`, or one a little below.
    pub fn steer_isn(&mut self, local_port: u16, remote: Endpoint, at: Instant, isn: SeqNum) {
        let now = self.isn().isn(self.addr, local_port, remote.addr, remote.port, at);
        let ticks = isn.0.wrapping_sub(now.0);
        // MUST-8: the clock of sequence numbers ticks every 4 us.
        self.ahead = Duration::from_micros(u64::from(ticks) * 4);
    }
}

/// A host of a world. Times it is told are the world's.
pub struct ShardHost {
    config: ShardHostConfig,
    driver: Driver,
    rng: Rng,
    inbox: Vec<Packet>,
    /// Frames that the device is busy with, and until when.
    completions: VecDeque<(Instant, Completion)>,
    /// Connections to be opened: when, for which service, to whom.
    opens: Vec<(Instant, u16, Endpoint)>,
    reports: Vec<SharedReport>,
    /// The last of each connection that was open.
    infos: Vec<(ConnId, Info)>,
    circles: bool,
}

impl std::fmt::Debug for ShardHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardHost").field("config", &self.config).field("driver", &self.driver).finish_non_exhaustive()
    }
}

impl ShardHost {
    /// A host in a world where it is `now`.
    ///
    /// # Errors
    ///
    /// What is wrong with the tunables of the connections.
    pub fn new(config: ShardHostConfig, now: Instant) -> Result<Self, ConfigError> {
        Ok(Self {
            driver: config.driver(now + config.ahead)?,
            rng: Rng::with_seed(config.seed ^ 0xa99),
            inbox: Vec::new(),
            completions: VecDeque::new(),
            opens: Vec::new(),
            reports: Vec::new(),
            infos: Vec::new(),
            circles: false,
            config,
        })
    }

    /// Waits on `port` for one connection and treats it by `plan`.
    pub fn listen(&mut self, port: u16, plan: Plan) -> SharedReport {
        self.add(Some(port), plan).1
    }

    /// Opens a connection at `at` and treats it by `plan`.
    pub fn open(&mut self, at: Instant, remote: Endpoint, plan: Plan) -> SharedReport {
        let (service, report) = self.add(None, plan);
        self.opens.push((at + self.config.ahead, service, remote));
        report
    }

    fn add(&mut self, port: Option<u16>, plan: Plan) -> (u16, SharedReport) {
        let (app, report) = App::new(plan, self.rng.fork());
        self.reports.push(report.clone());
        (self.driver.shard.add_service(port, Box::new(app)), report)
    }

    /// The shard's counters.
    pub fn counters(&mut self) -> Counters {
        *self.driver.shard.counters()
    }

    /// What was last known of each connection.
    pub fn infos(&self) -> impl Iterator<Item = &Info> {
        self.infos.iter().map(|(_, info)| info)
    }

    /// Whether all its applications' connections are gone.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.reports.iter().all(|report| report.read().closed.is_some())
    }

    /// All is over: nothing may be held.
    ///
    /// # Errors
    ///
    /// What still is.
    pub fn check_empty(&mut self) -> Result<(), Violation> {
        let counters = self.counters();
        let held = [
            ("connections", counters.connections),
            ("half-open connections", counters.half_open),
            ("TIME-WAIT records", counters.time_wait),
            ("chunks", counters.send_chunks),
            ("held packets", counters.held_packets),
            ("held octets", counters.held_octets),
            ("packet buffers", self.driver.buffers_out() as u64),
            ("leases", u64::from(self.driver.shard.awaits_completions())),
        ];
        match held.iter().find(|(_, count)| *count > 0) {
            None => Ok(()),
            Some((what, count)) => Err(Violation::new(Rule::Leak, format!("{}: {count} {what}", self.config.addr))),
        }
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Packet>) {
        self.driver.shard.begin_turn(now);
        while let Some((_, completion)) = self.completions.pop_front_if_due(now) {
            self.driver.shard.complete(completion);
        }
        for packet in self.inbox.drain(..) {
            let mut buffer = self.driver.buffer();
            let len = packet.data.len();
            // Not in front, as behind the header of a device.
            let start = 16.min(buffer.storage_mut().len() - len);
            buffer.storage_mut()[start..start + len].copy_from_slice(&packet.data);
            buffer.set_range(start, len);
            let checksum = if packet.partial { ChecksumStatus::Trusted } else { ChecksumStatus::Unverified };
            self.driver.receive(RxFrame {
                packet: buffer,
                offload: RxOffload { checksum, gso_size: packet.gso_size },
                refusal: None,
            });
        }
        for (_, service, remote) in self.opens.extract_if(.., |(at, ..)| *at <= now) {
            self.driver.shard.connect(service, remote);
        }
        self.driver.shard.deliver_mail();
        self.driver.finish_turn();
        let until = now + self.config.tx_lag;
        let taken = self.driver.drain(
            |frame, reader| {
                let mut data = Vec::with_capacity(frame.len());
                data.extend_from_slice(frame.header());
                for slice in frame.payload(reader).iter() {
                    data.extend_from_slice(slice);
                }
                let partial = matches!(frame.offload.checksum, TxChecksum::Partial { .. });
                out.push(Packet { data, gso_size: frame.offload.gso_size, partial, damaged: false });
                Ok::<_, Infallible>(true)
            },
            |_, completion| self.completions.push_back((until, completion)),
        );
        debug_assert_eq!(taken, Ok(true));
    }

    fn check_timers(&mut self) -> Result<(), Violation> {
        let shard = &self.driver.shard;
        for (id, quad, state) in shard.connections() {
            let info = shard.info(id);
            // A device that is busy will bring the connection back itself.
            if shard.timer(id).is_none()
                && self.completions.is_empty()
                && let Some(owed) = owes(state, info.as_ref())
            {
                let detail = format!("{quad} in {state:?} owes {owed} and nothing will wake it: {info:?}");
                return Err(Violation::new(Rule::TimerArmed, detail));
            }
            if let Some(info) = info {
                match self.infos.iter_mut().find(|(known, _)| *known == id) {
                    Some((_, place)) => *place = info,
                    None => self.infos.push((id, info)),
                }
            }
        }
        Ok(())
    }

    fn check_memory(&mut self) -> Result<(), Violation> {
        let limits = self.config.limits;
        let counters = *self.driver.shard.counters();
        // Above five quarters nothing more is kept; the packet that went over it may have been the largest.
        let octets = limits.held_octets + limits.held_octets / 4 + BUFFER_LEN as u64;
        for (what, held, cap) in [
            ("octets", counters.held_octets, octets),
            ("packets by reference", counters.held_packets, limits.held_packets + 1),
            ("packet buffers", self.driver.buffers_out() as u64, limits.held_packets + 1),
            ("chunks", counters.send_chunks, u64::from(self.config.send_chunks)),
            ("connections", counters.connections, limits.connections as u64),
        ] {
            if held > cap {
                return Err(Violation::new(Rule::MemoryCap, format!("{held} {what} held, the cap is {cap}")));
            }
        }
        Ok(())
    }

    /// What fits the window is refused only where memory is short. A connection may hold an eighth of what is free of
    /// the common half (`shard::shares`). So nobody was ever short of it, whenever a packet came, if the most that
    /// all together have ever held and one more packet are less than an eighth of what that left.
    fn check_refused(&mut self) -> Result<(), Violation> {
        let (capacity, counters) = (self.config.limits.held_octets, self.counters());
        let most = counters.held_octets_peak;
        let ample = most + BUFFER_LEN as u64 + 1_024 <= (capacity / 2).saturating_sub(most) / 8;
        if counters.payload_refused == 0 || !ample {
            return Ok(());
        }
        let detail = format!(
            "{}: {} octets inside the window were refused, with {most} octets held at most of {capacity}",
            self.config.addr, counters.payload_refused
        );
        Err(Violation::new(Rule::Refused, detail))
    }
}

/// What a connection still has to bring to its peer.
fn owes(state: State, info: Option<&Info>) -> Option<&'static str> {
    match (state, info) {
        (State::SynSent | State::SynReceived, _) => Some("a SYN"),
        (State::FinWait1 | State::Closing | State::LastAck, _) => Some("a FIN"),
        (_, Some(info)) if info.flight > 0 => Some("octets in flight"),
        (_, Some(info)) if info.queued > 0 => Some("octets unsent"),
        _ => None,
    }
}

/// Takes the first of a queue whose time has come.
trait PopDue<T> {
    fn pop_front_if_due(&mut self, now: Instant) -> Option<(Instant, T)>;
}

impl<T> PopDue<T> for VecDeque<(Instant, T)> {
    fn pop_front_if_due(&mut self, now: Instant) -> Option<(Instant, T)> {
        if self.front().is_some_and(|(at, _)| *at <= now) { self.pop_front() } else { None }
    }
}

impl Host for ShardHost {
    fn addr(&self) -> IpAddr {
        self.config.addr
    }

    fn receive(&mut self, _now: Instant, packet: Packet) {
        self.inbox.push(packet);
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Packet>) {
        let now = now + self.config.ahead;
        for _ in 0..MOST_TURNS {
            self.turn(now, out);
            let completed = self.completions.front().is_some_and(|(at, _)| *at <= now);
            let due = self.driver.shard.next_deadline().is_some_and(|at| at <= now);
            if !completed && !due && !self.driver.shard.has_work() {
                return;
            }
        }
        self.circles = true;
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let completion = self.completions.front().map(|(at, _)| *at);
        let open = self.opens.iter().map(|(at, ..)| *at).min();
        let next = [self.driver.shard.next_deadline(), completion, open].into_iter().flatten().min()?;
        Some(next.saturating_sub(self.config.ahead))
    }

    fn info(&mut self, quad: &Quad) -> Option<Info> {
        let shard = &self.driver.shard;
        let (id, ..) = shard.connections().find(|(_, known, _)| known == quad)?;
        shard.info(id)
    }

    fn refused(&mut self) -> Option<u64> {
        Some(self.counters().payload_refused)
    }

    fn check(&mut self) -> Result<(), Violation> {
        if self.circles {
            return Err(Violation::new(Rule::Livelock, format!("{} turns at one time", MOST_TURNS)));
        }
        for (index, report) in self.reports.iter().enumerate() {
            let report = report.read();
            if let Some(at) = report.wrong_at {
                let detail = format!("{}: octet {at} of connection {index} is wrong", self.config.addr);
                return Err(Violation::new(Rule::ByteExact, detail));
            }
        }
        self.check_memory()?;
        self.check_refused()?;
        self.check_timers()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
#[path = "shard_host_tests.rs"]
mod tests;
