//! The clock, the event queue, the hosts and the links between them.
//!
//! Must not contain: what links do (`stages`), what hosts are (`shard_host`).

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt;
use std::net::IpAddr;

use super::Rng;
use super::host::Host;
use super::invariants::Invariants;
use super::link::{Exit, Output, Stage};
use super::packet::Packet;
use super::rules::{Rule, Violation};
use super::trace::{Record, Trace};
use crate::tcp::{Duration, Instant};
use crate::wire;

/// A host of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostId(usize);

/// Why a world did not come to a good end. Prints the seed and the last lines of the trace.
pub struct Failure {
    /// Seed of the world.
    pub seed: u64,
    /// What does not hold.
    pub violation: Violation,
    /// What happened last.
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "world {}: {}\n{}", self.seed, self.violation, self.trace)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

#[derive(Debug)]
enum What {
    Stage { link: usize, stage: usize, packet: Packet },
    Wake { link: usize, stage: usize },
    Arrive { host: usize, packet: Packet },
}

#[derive(Debug)]
struct Event {
    at: Instant,
    order: u64,
    what: What,
}

impl Ord for Event {
    /// The earliest is the greatest: it comes first out of the heap.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Event {}

struct Place {
    host: Box<dyn Host>,
    addr: IpAddr,
    deadline: Option<Instant>,
    /// In the trace.
    place: u16,
    watched: bool,
}

struct Link {
    from: usize,
    to: usize,
    stages: Vec<Box<dyn Stage>>,
    place: u16,
}

/// Which way a packet goes, seen from a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It arrives.
    In,
    /// It leaves.
    Out,
}

/// Sees each packet that a host sends or gets, for a capture.
pub type Tap = Box<dyn FnMut(Instant, HostId, Way, &Packet)>;

/// A simulated network: its hosts, its links, what is to happen when, and the rules that must hold.
///
/// ```
/// use std::net::{IpAddr, Ipv4Addr};
///
/// use trust::flow::Endpoint;
/// use trust::sim::stages::{Delay, Loss, Split};
/// use trust::sim::{Plan, ShardHost, ShardHostConfig, World};
/// use trust::tcp::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (here, there) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
/// let mut world = World::new(7);
/// let start = world.now();
/// let mut client = ShardHost::new(ShardHostConfig::new(here, 1), start)?;
/// let mut server = ShardHost::new(ShardHostConfig::new(there, 2), start)?;
/// let upload = Plan { send: 100_000, ..Plan::default() };
/// let sent = client.open(start, Endpoint::new(IpAddr::V4(there), 7), upload);
/// let received = server.listen(7, Plan { stream: 2, peer_stream: 1, expect: 100_000, ..Plan::default() });
/// let (client, server) = (world.add_host("client", client), world.add_host("server", server));
/// for (from, to) in [(client, server), (server, client)] {
///     let loss = Loss::new(0.01, world.fork_rng());
///     let delay = Delay::new(Duration::from_millis(5), Duration::ZERO, false, world.fork_rng());
///     world.add_link(from, to, vec![Box::new(Split), Box::new(loss), Box::new(delay)]);
/// }
/// world.run(1_000_000)?; // to the end, or to the first rule that does not hold
/// assert_eq!((sent.read().sent, received.read().received), (100_000, 100_000));
/// println!("{} events in {}", world.steps(), world.now() - start);
/// # Ok(())
/// # }
/// ```
pub struct World {
    seed: u64,
    rng: Rng,
    now: Instant,
    order: u64,
    steps: u64,
    queue: BinaryHeap<Event>,
    hosts: Vec<Place>,
    links: Vec<Link>,
    trace: Trace,
    invariants: Invariants,
    tap: Option<Tap>,
    /// To be used again.
    outbox: Vec<Packet>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("seed", &self.seed).field("now", &self.now).finish_non_exhaustive()
    }
}

impl World {
    /// An empty world. What happens in it follows from the seed and from what is put into it.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Not zero, so that hosts can have clocks that run behind.
        let now = Instant::from_secs(86_400);
        Self {
            seed,
            rng: Rng::with_seed(seed),
            now,
            order: 0,
            steps: 0,
            queue: BinaryHeap::new(),
            hosts: Vec::new(),
            links: Vec::new(),
            trace: Trace::new(now),
            invariants: Invariants::default(),
            tap: None,
            outbox: Vec::new(),
        }
    }

    /// A generator for one stage, host or decision, started from the seed.
    pub fn fork_rng(&mut self) -> Rng {
        self.rng.fork()
    }

    /// What everything in it follows from.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Events so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What happened.
    pub fn trace(&mut self) -> &mut Trace {
        &mut self.trace
    }

    /// The checker of what is on the wire.
    #[must_use]
    pub fn invariants(&self) -> &Invariants {
        &self.invariants
    }

    /// Shows every packet that a host sends or gets to `tap`.
    pub fn set_tap(&mut self, tap: Tap) {
        self.tap = Some(tap);
    }

    /// Adds a host. It is polled first when the world runs.
    pub fn add_host(&mut self, name: &str, host: impl Host + 'static) -> HostId {
        let place = self.trace.add_place(name.to_owned());
        let (addr, watched) = (host.addr(), host.is_watched());
        self.hosts.push(Place { host: Box::new(host), addr, deadline: Some(self.now), place, watched });
        HostId(self.hosts.len() - 1)
    }

    /// Adds a link from one host to another with these stages. The other direction is another link.
    pub fn add_link(&mut self, from: HostId, to: HostId, stages: Vec<Box<dyn Stage>>) {
        let name = format!("{}>{}", self.host_name(from), self.host_name(to));
        let place = self.trace.add_place(name);
        self.links.push(Link { from: from.0, to: to.0, stages, place });
    }

    /// All hosts, in the order in which they were added.
    pub fn hosts(&self) -> impl Iterator<Item = HostId> + use<> {
        (0..self.hosts.len()).map(HostId)
    }

    /// The name of a host of this world.
    #[must_use]
    pub fn host_name(&self, host: HostId) -> String {
        self.trace.place(self.hosts[host.0].place).to_owned()
    }

    /// The host, if it is of that kind.
    pub fn host<H: 'static>(&mut self, id: HostId) -> Option<&mut H> {
        self.hosts.get_mut(id.0)?.host.as_any().downcast_mut()
    }

    /// Makes a failure of a violation found outside the world.
    #[must_use]
    pub fn failure(&self, violation: Violation) -> Failure {
        Failure { seed: self.seed, violation, trace: self.trace.to_string() }
    }

    /// Runs until nothing is left to happen, but no more than `most_steps` events.
    ///
    /// # Errors
    ///
    /// The first rule that does not hold.
    pub fn run(&mut self, most_steps: u64) -> Result<(), Failure> {
        self.run_while(most_steps, |_| true)
    }

    /// Runs for `span` of virtual time.
    ///
    /// # Errors
    ///
    /// The first rule that does not hold.
    pub fn run_for(&mut self, span: Duration) -> Result<(), Failure> {
        let end = self.now + span;
        self.run_while(u64::MAX, |world| world.next().is_some_and(|at| at <= end))?;
        self.now = end;
        Ok(())
    }

    /// Runs until nothing is left to happen or `wanted` says no.
    ///
    /// # Errors
    ///
    /// The first rule that does not hold.
    pub fn run_while(&mut self, most_steps: u64, mut wanted: impl FnMut(&mut Self) -> bool) -> Result<(), Failure> {
        let last = self.steps.saturating_add(most_steps);
        while wanted(self) {
            if self.steps >= last {
                return Err(self.failure(Violation::new(Rule::NeverEnds, format!("after {most_steps} events"))));
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(violation) => return Err(self.failure(violation)),
            }
        }
        Ok(())
    }

    /// When the next thing happens.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let host = self.hosts.iter().filter_map(|place| place.deadline).min();
        [self.queue.peek().map(|event| event.at), host].into_iter().flatten().min()
    }

    /// Does the next thing. `false`: there is none.
    fn step(&mut self) -> Result<bool, Violation> {
        let Some(next) = self.next() else { return Ok(false) };
        self.steps += 1;
        self.now = self.now.max(next);
        if self.queue.peek().is_some_and(|event| event.at <= next) {
            match self.queue.pop().map(|event| event.what) {
                Some(What::Stage { link, stage, packet }) => self.pass(link, stage, packet),
                Some(What::Wake { link, stage }) => {
                    let mut out = Vec::new();
                    self.links[link].stages[stage].wake(&mut Exit::new(self.now, &mut out));
                    self.leave(link, stage, out);
                }
                Some(What::Arrive { host, packet }) => {
                    self.arrive(host, packet);
                    // What comes at the same time comes in one batch.
                    let more = self.queue.peek().is_some_and(|event| {
                        event.at <= next && matches!(event.what, What::Arrive { host: h, .. } if h == host)
                    });
                    if !more {
                        self.poll(host)?;
                    }
                }
                None => {}
            }
        } else if let Some(host) = self.hosts.iter().position(|place| place.deadline.is_some_and(|at| at <= next)) {
            self.poll(host)?;
        }
        Ok(true)
    }

    fn schedule(&mut self, at: Instant, what: What) {
        self.order += 1;
        self.queue.push(Event { at, order: self.order, what });
    }

    /// A packet enters a stage of a link, or leaves the last one.
    fn pass(&mut self, link: usize, stage: usize, packet: Packet) {
        let Some(entered) = self.links[link].stages.get_mut(stage) else {
            let host = self.links[link].to;
            return self.schedule(self.now, What::Arrive { host, packet });
        };
        let mut out = Vec::new();
        entered.enter(packet, &mut Exit::new(self.now, &mut out));
        self.leave(link, stage, out);
    }

    fn leave(&mut self, link: usize, stage: usize, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Pass(at, packet) if at <= self.now => self.pass(link, stage + 1, packet),
                Output::Pass(at, packet) => self.schedule(at, What::Stage { link, stage: stage + 1, packet }),
                Output::Wake(at) => self.schedule(at, What::Wake { link, stage }),
                Output::Back(packet) => {
                    let host = self.links[link].from;
                    self.schedule(self.now, What::Arrive { host, packet });
                }
                Output::Note(event, view) => {
                    let (at, place) = (self.now, self.links[link].place);
                    self.trace.add(Record { at, place, event, gso_size: 0, view: view.clone() }, 0);
                    if let Some(view) = view {
                        self.invariants.disturbed(&view);
                    }
                }
                Output::Lost(event, packet) => {
                    let view = packet.view();
                    let (at, place) = (self.now, self.links[link].place);
                    self.trace.add(Record { at, place, event, gso_size: 0, view: view.clone() }, 0);
                    if let Some(view) = view.filter(|_| !packet.damaged) {
                        self.invariants.lost(&packet, &view);
                    }
                }
            }
        }
    }

    fn arrive(&mut self, host: usize, packet: Packet) {
        let place = &mut self.hosts[host];
        let view = packet.view();
        let event = if packet.damaged { "in, damaged" } else { "in" };
        let record = Record { at: self.now, place: place.place, event, gso_size: packet.gso_size, view: view.clone() };
        self.trace.add(record, packet.data.len() as u64);
        if let Some(tap) = &mut self.tap {
            tap(self.now, HostId(host), Way::In, &packet);
        }
        if let Some(view) = view.filter(|_| !packet.damaged) {
            self.invariants.arrives(&packet, &view);
        }
        place.host.receive(self.now, packet);
    }

    fn poll(&mut self, host: usize) -> Result<(), Violation> {
        let mut out = std::mem::take(&mut self.outbox);
        let place = &mut self.hosts[host];
        place.host.poll(self.now, &mut out);
        let mut broken = None;
        for packet in out.drain(..) {
            let (place, watched) = (self.hosts[host].place, self.hosts[host].watched);
            let view = packet.view();
            let sum = u64::from(wire::checksum::sum(&packet.data));
            let (at, gso_size) = (self.now, packet.gso_size);
            self.trace.add(Record { at, place, event: "out", gso_size, view: view.clone() }, sum);
            if let Some(tap) = &mut self.tap {
                tap(self.now, HostId(host), Way::Out, &packet);
            }
            if let Some(view) = &view
                && let Err(violation) = self.invariants.sends(&packet, view)
                && watched
            {
                broken.get_or_insert(violation);
            }
            self.send(host, packet);
        }
        self.outbox = out;
        let place = &mut self.hosts[host];
        place.deadline = place.host.next_deadline().map(|at| at.max(self.now));
        let checked = broken.map_or_else(|| place.host.check(), Err).and_then(|()| self.check_resent(host));
        self.invariants.polled(self.hosts[host].addr);
        checked
    }

    /// [`Rule::Resent`], of a host that tells of its connections, towards peers that have refused nothing and say so.
    fn check_resent(&mut self, host: usize) -> Result<(), Violation> {
        let Self { hosts, invariants, .. } = self;
        invariants.check_resent(hosts[host].addr, |quad| {
            let peer = hosts.iter_mut().find(|place| place.addr == quad.remote.addr)?;
            let sound = peer.host.refused() == Some(0);
            hosts[host].host.info(quad).filter(|_| sound)
        })
    }

    /// Finds the link a packet takes: the one to its destination, or else the first.
    fn send(&mut self, host: usize, packet: Packet) {
        let dst = wire::ip::parse(&packet.data, false).ok().map(|ip| ip.dst);
        let mut links = self.links.iter().enumerate().filter(|(_, link)| link.from == host);
        let first = links.clone().next();
        let link = links.find(|(_, link)| Some(self.hosts[link.to].addr) == dst).or(first);
        if let Some((link, _)) = link {
            self.pass(link, 0, packet);
        } else {
            let (at, place) = (self.now, self.hosts[host].place);
            self.trace.add(Record { at, place, event: "no route", gso_size: 0, view: packet.view() }, 0);
        }
    }
}
