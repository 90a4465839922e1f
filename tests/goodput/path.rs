//! Paths and the bulk transfers over them.
//!
//! Senders share one bottleneck; acknowledgments come back undisturbed. Must not contain: what is expected of a transfer.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use trust::flow::Endpoint;
use trust::shard::Limits;
use trust::sim::app::SharedReport;
use trust::sim::stages::{Chosen, Delay, Loss, Meanwhile, Outage, Policer, QueueLimit, Rate, Reorder, Split};
use trust::sim::{Ending, Exit, HostId, Packet, Plan, ShardHost, ShardHostConfig, Stage, World};
use trust::tcp::{Config, CongestionControl, Duration, Info, Instant, SeqNum};

use crate::limitless::Limitless;
use crate::smoltcp::SmoltcpSender;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 200);
const PORT: u16 = 5_001;
/// Octets of a full packet.
const MTU: u64 = 1_500;
/// Octets of payload in it: timestamps take 12 octets of the 1,460.
pub const SEGMENT: u64 = 1_448;

/// What the way of the data does. Numbers are whole, so that the same happens on every machine.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// Round trip without queues.
    pub rtt: Duration,
    /// Rate of the bottleneck, octets per second; `None`: there is none.
    pub rate: Option<u64>,
    /// Its queue in octets.
    pub queue: u64,
    /// Most by which a packet is late; each at random.
    pub jitter: Duration,
    /// Whether late packets are overtaken by others.
    pub overtaking: bool,
    /// Packets lost behind it, of a million.
    pub loss: u32,
    /// Packets held back until 1 to 3 others have passed, of a million.
    pub reorder: u32,
    /// Rate in octets per second, and burst in octets, above which packets are dropped before the bottleneck.
    pub policer: Option<(u64, u64)>,
    /// Place of one packet with payload that is lost whatever else happens.
    pub first_loss: Option<u64>,
    /// Nothing comes through from the first of these times on, counted from the start; all of it comes at the second.
    pub spike: Option<(Duration, Duration)>,
    /// What becomes of the acknowledgments.
    pub back: Back,
    /// Most that the buffers of either end may grow to, octets; `None`: as by default.
    pub buffers: Option<u32>,
}

/// What the way back does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// Acknowledgments come undisturbed.
    Clear,
    /// So many of a million are lost.
    Lossy(u32),
    /// They come in bursts, so far apart.
    Bursts(Duration),
    /// A line of so many octets per second, with a queue of a tenth of a second.
    Slow(u64),
    /// Of so many, only the last comes: the first waits no longer than this for the others (RFC 3449 5.2.2).
    Thinned(u32, Duration),
}

/// Who receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// The stack under test.
    Ours,
    /// One without limits.
    Limitless,
}

/// Packets wait for the next beat, so far apart.
#[derive(Debug)]
struct Beat(Duration);

impl Stage for Beat {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        let (now, beat) = ((exit.now() - Instant::ZERO).as_nanos(), self.0.as_nanos());
        exit.pass_at(Instant::ZERO + Duration::from_nanos(now.next_multiple_of(beat)), packet);
    }
}

/// Lets the last of several acknowledgments through, with its SACK blocks, whatever the others said.
#[derive(Debug)]
struct Thin {
    every: u32,
    wait: Duration,
    /// The last that came, how many it stands for, and when it leaves at the latest.
    last: Option<(Packet, u32, Instant)>,
}

impl Stage for Thin {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        if packet.view().is_none_or(|view| view.seq_len() > 0) {
            return exit.pass(packet);
        }
        let (count, until) = match self.last.take() {
            Some((_, count, until)) => (count + 1, until),
            None => {
                exit.wake_at(exit.now() + self.wait);
                (1, exit.now() + self.wait)
            }
        };
        if count == self.every { exit.pass(packet) } else { self.last = Some((packet, count, until)) }
    }

    fn wake(&mut self, exit: &mut Exit<'_>) {
        let now = exit.now();
        if let Some((packet, ..)) = self.last.take_if(|(.., until)| *until <= now) {
            exit.pass(packet);
        }
    }
}

impl Path {
    /// A path without a bottleneck.
    pub fn unlimited(rtt: Duration) -> Self {
        Self {
            rtt,
            rate: None,
            queue: 0,
            jitter: Duration::ZERO,
            overtaking: false,
            loss: 0,
            reorder: 0,
            policer: None,
            first_loss: None,
            spike: None,
            back: Back::Clear,
            buffers: None,
        }
    }

    /// A path with a bottleneck of `rate` octets per second and a queue of `halves` half bandwidth-delay products.
    pub fn bottleneck(rtt: Duration, rate: u64, halves: u64) -> Self {
        Self { rate: Some(rate), queue: bdp(rtt, rate) * halves / 2, ..Self::unlimited(rtt) }
    }
}

/// Octets that fill a path.
pub fn bdp(rtt: Duration, rate: u64) -> u64 {
    rate * rtt.as_micros() / 1_000_000
}

/// What passed a point of the path.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Packets with payload.
    pub packets: u64,
    /// Octets of payload.
    pub octets: u64,
    /// Octets of payload that had not passed before.
    pub fresh: u64,
    end: Option<SeqNum>,
}

#[derive(Debug)]
struct Meter(Rc<Cell<Counts>>);

impl Stage for Meter {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        if let Some(view) = packet.view().filter(|view| !view.is_empty()) {
            let mut counts = self.0.get();
            let seq = SeqNum(view.header.seq);
            let end = seq + view.len();
            let fresh = (end - counts.end.unwrap_or(seq)).max(0) as u32;
            counts.packets += 1;
            counts.octets += u64::from(view.len());
            counts.fresh += u64::from(fresh);
            counts.end = Some(counts.end.map_or(end, |known| known.later(end)));
            self.0.set(counts);
        }
        exit.pass(packet);
    }
}

/// A stage that several links have in common. It must not ask to be woken.
#[derive(Debug)]
struct Common<S>(Rc<RefCell<S>>);

impl<S: Stage> Stage for Common<S> {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        self.0.borrow_mut().enter(packet, exit);
    }
}

/// Who sends.
#[derive(Debug, Clone, Copy)]
pub enum Sender {
    /// The stack under test.
    Ours(Config),
    /// smoltcp, with that algorithm.
    Smoltcp(CongestionControl),
}

/// Ours, with defaults but for the controller.
pub fn ours(congestion: CongestionControl) -> Sender {
    Sender::Ours(Config { congestion, ..Config::default() })
}

/// How one sender fared.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flow {
    /// Octets that its receiver read in the measured span.
    pub received: u64,
    /// What it sent.
    pub sent: Counts,
    /// The last that its stack told, where it tells.
    pub info: Option<Info>,
}

/// A world with a transfer for each sender in it.
pub struct Course {
    world: World,
    hosts: Vec<HostId>,
    server: HostId,
    meters: Vec<Rc<Cell<Counts>>>,
    reports: Vec<SharedReport>,
}

impl Course {
    /// Transfers without an end. Each sender begins a round trip after the one before.
    pub fn new(seed: u64, path: &Path, senders: &[Sender]) -> Self {
        Self::of(seed, path, senders, u64::MAX)
    }

    /// Transfers of `amount` octets.
    pub fn of(seed: u64, path: &Path, senders: &[Sender], amount: u64) -> Self {
        Self::to(Receiver::Ours, seed, path, senders, amount)
    }

    /// Transfers of `amount` octets to that receiver.
    pub fn to(receiver: Receiver, seed: u64, path: &Path, senders: &[Sender], amount: u64) -> Self {
        let mut world = World::new(seed);
        let now = world.now();
        let plan = Plan { send: amount, write: (65_536, 65_536), by_reference: true, ..Plan::default() };
        let sink = Plan { stream: 2, peer_stream: 1, ..Plan::default() };
        let buffers = |mut config: Config| {
            if let Some(max) = path.buffers {
                config.send_buffer.max = max;
                config.recv_buffer.max = max;
            }
            config
        };
        // Send memory for the largest buffer, and some more.
        let send_chunks = |config: &ShardHostConfig| config.send_chunks.max(path.buffers.unwrap_or(0) / 16_384);
        let mut config = ShardHostConfig::new(SERVER, !seed);
        config.tcp = buffers(config.tcp);
        if let Some(buffers) = path.buffers {
            // So that the share of one connection is more than its buffer.
            config.limits.held_octets = Limits::default().held_octets.max(32 * u64::from(buffers));
        }
        let mut server = ShardHost::new(config, now).unwrap();
        let mut limitless = Limitless::new(SERVER);
        let limit = QueueLimit::Octets(path.queue as usize);
        let line = path.rate.map(|rate| Rc::new(RefCell::new(Rate::new(rate, limit))));
        let policer = path.policer.map(|(rate, burst)| Rc::new(RefCell::new(Policer::new(rate, burst))));
        let (mut hosts, mut meters, mut reports, mut links) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (n, sender) in (0..).zip(senders) {
            reports.push(match receiver {
                // The sink has nothing to send but must not end its direction: it waits for the peer's end.
                Receiver::Ours => server.listen(PORT + n, Plan { ending: Ending::AfterPeer, ..sink }),
                Receiver::Limitless => limitless.listen(PORT + n),
            });
            let addr = Ipv4Addr::new(10, 0, 0, 1 + n as u8);
            let remote = Endpoint::new(IpAddr::V4(SERVER), PORT + n);
            let start = now + path.rtt * u64::from(n);
            let name = format!("sender{n}");
            hosts.push(match *sender {
                Sender::Ours(tcp) => {
                    let mut config =
                        ShardHostConfig { tcp: buffers(tcp), ..ShardHostConfig::new(addr, seed + u64::from(n)) };
                    config.send_chunks = send_chunks(&config);
                    let mut host = ShardHost::new(config, now).unwrap();
                    host.open(start, remote, plan);
                    world.add_host(&name, host)
                }
                Sender::Smoltcp(congestion) => {
                    world.add_host(&name, SmoltcpSender::new(addr, seed + u64::from(n), congestion, start, remote))
                }
            });
            let meter: Rc<Cell<Counts>> = Rc::default();
            let mut stages: Vec<Box<dyn Stage>> = vec![Box::new(Split), Box::new(Meter(Rc::clone(&meter)))];
            let [shake, loss, reorder] = [world.fork_rng(), world.fork_rng(), world.fork_rng()];
            if senders.len() > 1 {
                // Else senders in step would share the losses unevenly for ever (phase effects).
                let most = path.rate.map_or(0, |rate| MTU * 1_000_000_000 / rate);
                stages.push(Box::new(Delay::new(Duration::ZERO, Duration::from_nanos(most), false, shake)));
            }
            if let Some(policer) = &policer {
                stages.push(Box::new(Common(Rc::clone(policer))));
            }
            if let Some(line) = &line {
                stages.push(Box::new(Common(Rc::clone(line))));
            }
            if let Some(place) = path.first_loss {
                let mut nth = 0;
                stages.push(Box::new(Chosen::new(move |_, packet| {
                    let payload = packet.view().is_some_and(|view| !view.is_empty());
                    nth += u64::from(payload);
                    payload && nth == place + 1
                })));
            }
            if let Some((from, until)) = path.spike {
                stages.push(Box::new(Outage::new(vec![(now + from, now + until)], Meanwhile::Kept)));
            }
            if path.loss > 0 {
                stages.push(Box::new(Loss::new(f64::from(path.loss) / 1e6, loss)));
            }
            if path.reorder > 0 {
                let probability = f64::from(path.reorder) / 1e6;
                stages.push(Box::new(Reorder::new(probability, 3, path.rtt / 4, reorder)));
            }
            let (there, back) = (world.fork_rng(), world.fork_rng());
            stages.push(Box::new(Delay::new(path.rtt / 2, path.jitter, path.overtaking, there)));
            let mut returning: Vec<Box<dyn Stage>> = Vec::new();
            match path.back {
                Back::Clear => {}
                Back::Lossy(loss) => returning.push(Box::new(Loss::new(f64::from(loss) / 1e6, world.fork_rng()))),
                Back::Bursts(apart) => returning.push(Box::new(Beat(apart))),
                Back::Slow(rate) => {
                    returning.push(Box::new(Rate::new(rate, QueueLimit::Octets((rate / 10) as usize))));
                }
                Back::Thinned(every, wait) => returning.push(Box::new(Thin { every, wait, last: None })),
            }
            returning.push(Box::new(Delay::new(path.rtt / 2, Duration::ZERO, false, back)));
            links.push((stages, returning));
            meters.push(meter);
        }
        let server = match receiver {
            Receiver::Ours => world.add_host("server", server),
            Receiver::Limitless => world.add_host("server", limitless),
        };
        for (&host, (stages, back)) in hosts.iter().zip(links) {
            world.add_link(host, server, stages);
            world.add_link(server, host, back);
        }
        Self { world, hosts, server, meters, reports }
    }

    /// What the receiver's stack told last of each connection.
    pub fn receivers(&mut self) -> Vec<Info> {
        self.world.host::<ShardHost>(self.server).map(|server| server.infos().copied().collect()).unwrap_or_default()
    }

    /// Goes on for `span`. What was received counts from here on.
    pub fn run(&mut self, span: Duration) -> Vec<Flow> {
        let before: Vec<u64> = self.reports.iter().map(|report| report.read().received).collect();
        self.world.run_for(span).unwrap();
        let flows = self.hosts.iter().zip(&self.meters).zip(&self.reports).zip(before);
        flows
            .map(|(((&host, sent), report), before)| Flow {
                received: report.read().received - before,
                sent: sent.get(),
                info: self.world.host::<ShardHost>(host).and_then(|host| host.infos().next().copied()),
            })
            .collect()
    }
}
