//! Two shards with one connection, and a way between them of which everything is known that was sent and that arrived.
//!
//! Each direction is a line with a queue, half of the round trip, and then what the scenario does to packets; what is
//! lost is lost behind the line. Must not contain: what is expected of a transfer.

use std::cell::{Cell, Ref, RefCell};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::rc::Rc;

use trust::flow::Endpoint;
use trust::shard::Counters;
use trust::sim::app::SharedReport;
use trust::sim::stages::{Delay, QueueLimit, Rate, Split};
use trust::sim::{Ending, Exit, HostId, Packet, Plan, Report, Rng, ShardHost, ShardHostConfig, Stage, View, World};
use trust::tcp::{BufferLimits, Config, Duration, Info, Instant};
use trust::wire::tcp::{Flags, TcpHeader};

use crate::path::bdp;

/// The end that opens the connection.
pub const CLIENT: usize = 0;
/// The other one.
pub const SERVER: usize = 1;

const ADDRS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 200)];
const PORT: u16 = 5_001;

/// A wire segment that passed a point of the way. Its numbers count from the initial ones: a SYN has 0, the first
/// octet 1.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// When, since the start.
    pub at: Duration,
    /// SEG.SEQ.
    pub seq: u32,
    /// Octets of payload.
    pub len: u32,
    /// SEG.ACK.
    pub ack: u32,
    /// The control bits.
    pub flags: Flags,
    /// SEG.WND as on the wire.
    pub window: u16,
    /// Number of its SACK blocks.
    pub blocks: usize,
    /// Nothing of its text has passed here before.
    pub fresh: bool,
}

impl Seen {
    /// Behind its last octet, FIN included.
    pub fn end(&self) -> u32 {
        self.seq + self.len + u32::from(self.flags.contains(Flags::FIN))
    }

    /// Whether it carries octet `at` of the stream.
    pub fn carries(&self, at: u64) -> bool {
        let at = at as u32 + 1;
        self.seq <= at && at < self.seq + self.len
    }

    /// An acknowledgment and nothing else.
    pub fn is_pure_ack(&self) -> bool {
        self.len == 0 && self.flags == Flags::ACK
    }
}

/// The initial sequence numbers of both ends, as far as they are known.
type Isns = Rc<Cell<[Option<u32>; 2]>>;

/// Reads segments that pass one point in one direction.
#[derive(Debug)]
struct Reader {
    from: usize,
    start: Instant,
    isns: Isns,
    end: u32,
}

impl Reader {
    fn read(&mut self, view: &View, now: Instant) -> Seen {
        let mut isns = self.isns.get();
        let header = &view.header;
        if view.has(Flags::SYN) {
            isns[self.from] = Some(header.seq);
            self.isns.set(isns);
        }
        let since = |number: u32, isn: Option<u32>| number.wrapping_sub(isn.unwrap_or(0));
        let mut seen = Seen {
            at: now - self.start,
            seq: since(header.seq, isns[self.from]),
            len: view.len(),
            ack: since(header.ack, isns[1 - self.from]),
            flags: header.flags,
            window: header.window,
            blocks: header.options.sack.len(),
            fresh: false,
        };
        seen.fresh = seen.end() > self.end && seen.seq >= self.end;
        self.end = self.end.max(seen.end());
        seen
    }
}

/// What passed a point.
type Log = Rc<RefCell<Vec<Seen>>>;

#[derive(Debug)]
struct Meter(Reader, Log);

impl Stage for Meter {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        if let Some(view) = packet.view() {
            self.1.borrow_mut().push(self.0.read(&view, exit.now()));
        }
        exit.pass(packet);
    }
}

/// Loses what its choice falls on.
struct Lose<F>(Reader, F);

impl<F> fmt::Debug for Lose<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lose").field(&self.0).finish_non_exhaustive()
    }
}

impl<F: FnMut(&Seen) -> bool> Stage for Lose<F> {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        let lost = packet.view().is_some_and(|view| (self.1)(&self.0.read(&view, exit.now())));
        if lost { exit.lose(packet, "lost") } else { exit.pass(packet) }
    }
}

/// Writes another header where its function does.
struct Forge<F>(Reader, F);

impl<F> fmt::Debug for Forge<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Forge").field(&self.0).finish_non_exhaustive()
    }
}

impl<F: FnMut(&Seen, &mut TcpHeader)> Stage for Forge<F> {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        let Some(view) = packet.view() else { return exit.pass(packet) };
        let mut header = view.header;
        (self.1)(&self.0.read(&view, exit.now()), &mut header);
        if header == view.header {
            return exit.pass(packet);
        }
        // Written anew, so that the checksum is that of what it says now.
        let [src, dst] = [ADDRS[self.0.from], ADDRS[1 - self.0.from]];
        let forged = Packet::tcp(src, dst, &header, packet.payload(&view));
        exit.note(&forged, "forged");
        exit.pass(forged);
    }
}

/// What a world begins with.
pub struct Scene {
    /// Round trip without queues.
    pub rtt: Duration,
    /// Rate of the line in each direction, octets per second. Its queue holds whatever comes, so that nothing is lost
    /// but what the scenario takes.
    pub rate: u64,
    /// What the ends have room for, octets.
    pub window: u32,
    /// Settings of both ends.
    pub tcp: [Config; 2],
    /// What both ends do.
    pub plans: [Plan; 2],
    ways: [Vec<Box<dyn Stage>>; 2],
    isns: Isns,
    world: World,
}

impl Scene {
    /// The client sends `amount` octets and ends; the server reads them and ends, too. Windows of one and a half
    /// bandwidth-delay products keep the line busy, and its queue short.
    pub fn new(rtt: Duration, rate: u64, amount: u64) -> Self {
        let write = (65_536, 65_536);
        let client = Plan { send: amount, write, by_reference: true, ..Plan::default() };
        // It has nothing to send but must not end its direction first.
        let server = Plan { stream: 2, peer_stream: 1, ending: Ending::AfterPeer, write, ..Plan::default() };
        let world = World::new(1);
        let (isns, ways) = (Isns::default(), [Vec::new(), Vec::new()]);
        let window = (bdp(rtt, rate) * 3 / 2).max(65_535) as u32;
        Self { rtt, rate, window, tcp: [Config::default(); 2], plans: [client, server], ways, isns, world }
    }

    /// The server sends as the client does.
    pub fn both_ways(mut self) -> Self {
        self.plans[SERVER] = Plan { stream: 2, peer_stream: 1, ..self.plans[CLIENT] };
        self
    }

    /// The server sends, and not the client.
    pub fn other_way(mut self) -> Self {
        let [client, server] = self.plans;
        self.plans = [Plan { stream: 1, peer_stream: 2, ..server }, Plan { stream: 2, peer_stream: 1, ..client }];
        self
    }

    /// Both ends have these settings.
    pub fn with(mut self, tcp: Config) -> Self {
        self.tcp = [tcp; 2];
        self
    }

    fn reader(&self, from: usize) -> Reader {
        Reader { from, start: self.world.now(), isns: Rc::clone(&self.isns), end: 0 }
    }

    /// One more thing that happens to packets from `from`.
    pub fn stage(&mut self, from: usize, stage: impl Stage + 'static) {
        self.ways[from].push(Box::new(stage));
    }

    /// A generator for a stage.
    pub fn rng(&mut self) -> Rng {
        self.world.fork_rng()
    }

    /// Segments from `from` are lost for which `choice` says so.
    pub fn lose(&mut self, from: usize, choice: impl FnMut(&Seen) -> bool + 'static) {
        self.stage(from, Lose(self.reader(from), choice));
    }

    /// `forge` may change the header of segments from `from`.
    pub fn forge(&mut self, from: usize, forge: impl FnMut(&Seen, &mut TcpHeader) + 'static) {
        self.stage(from, Forge(self.reader(from), forge));
    }

    /// The world, at its start.
    pub fn start(mut self) -> Pair {
        let start = self.world.now();
        let [client, server] = [CLIENT, SERVER].map(|end| {
            let recv_buffer = BufferLimits { initial: self.window, max: self.window };
            let tcp = Config { recv_buffer, ..self.tcp[end] };
            let config = ShardHostConfig { tcp, ..ShardHostConfig::new(ADDRS[end], 1 + end as u64) };
            ShardHost::new(config, start).unwrap()
        });
        let (mut client, mut server) = (client, server);
        let remote = Endpoint::new(IpAddr::V4(ADDRS[SERVER]), PORT);
        let reports = [client.open(start, remote, self.plans[CLIENT]), server.listen(PORT, self.plans[SERVER])];
        let hosts = [self.world.add_host("client", client), self.world.add_host("server", server)];
        let logs = || [Log::default(), Log::default()];
        let (sent, came) = (logs(), logs());
        for from in [CLIENT, SERVER] {
            let mut stages: Vec<Box<dyn Stage>> = vec![
                Box::new(Split),
                Box::new(Meter(self.reader(from), Rc::clone(&sent[from]))),
                Box::new(Rate::new(self.rate, QueueLimit::Octets(usize::MAX))),
                Box::new(Delay::new(self.rtt / 2, Duration::ZERO, false, self.world.fork_rng())),
            ];
            stages.append(&mut self.ways[from]);
            stages.push(Box::new(Meter(self.reader(from), Rc::clone(&came[from]))));
            self.world.add_link(hosts[from], hosts[1 - from], stages);
        }
        Pair { world: self.world, hosts, reports, plans: self.plans, start, sent, came }
    }
}

/// See the module.
pub struct Pair {
    world: World,
    hosts: [HostId; 2],
    reports: [SharedReport; 2],
    plans: [Plan; 2],
    start: Instant,
    sent: [Log; 2],
    came: [Log; 2],
}

impl Pair {
    /// Goes on for `span`.
    pub fn run(&mut self, span: Duration) {
        self.world.run_for(span).unwrap();
    }

    /// Goes on until `wanted` says so of both reports; gives the time since the start.
    ///
    /// # Panics
    ///
    /// When it never does within `limit`.
    pub fn until(&mut self, limit: Duration, mut wanted: impl FnMut(&[Report; 2]) -> bool) -> Duration {
        let (end, reports) = (self.start + limit, self.reports.clone());
        let mut met = false;
        let read = || reports.each_ref().map(SharedReport::read);
        let go_on = |world: &mut World| {
            met = met || wanted(&read());
            !met && world.next().is_some_and(|at| at <= end)
        };
        self.world.run_while(u64::MAX, go_on).unwrap();
        assert!(met, "not in {limit:?}: {:?}, {:?}", read(), self.infos(CLIENT));
        self.world.now() - self.start
    }

    /// Goes on until both ends have read all that the other wrote, and what ended with it; gives the time since the
    /// start.
    pub fn finish(&mut self, limit: Duration) -> Duration {
        let plans = self.plans;
        self.until(limit, |reports| {
            [CLIENT, SERVER].into_iter().filter(|from| plans[*from].send > 0).all(|from| {
                let reader = reports[1 - from];
                reader.eof && reader.received == plans[from].send
            })
        })
    }

    /// Octets that this end has read.
    pub fn received(&self, end: usize) -> u64 {
        self.reports[end].read().received
    }

    fn infos(&mut self, end: usize) -> Vec<Info> {
        self.world.host::<ShardHost>(self.hosts[end]).map_or_else(Vec::new, |host| host.infos().copied().collect())
    }

    /// The last that the connection of this end told of itself; there is one.
    pub fn info(&mut self, end: usize) -> Info {
        let infos = self.infos(end);
        assert_eq!(infos.len(), 1, "one connection");
        infos[0]
    }

    /// What this end's shard has counted.
    pub fn counters(&mut self, end: usize) -> Counters {
        self.world.host::<ShardHost>(self.hosts[end]).unwrap().counters()
    }

    /// What this end has sent.
    pub fn sent(&self, from: usize) -> Ref<'_, Vec<Seen>> {
        self.sent[from].borrow()
    }

    /// What has come of it.
    pub fn came(&self, from: usize) -> Ref<'_, Vec<Seen>> {
        self.came[from].borrow()
    }

    /// Segments with text or FIN that this end has sent and that have not come. Nothing is on its way.
    pub fn lost(&self, from: usize) -> u64 {
        let count = |log: &[Seen]| log.iter().filter(|seen| seen.end() > seen.seq).count() as u64;
        count(&self.sent(from)) - count(&self.came(from))
    }

    /// Octets of text that this end has sent once more.
    pub fn again(&self, from: usize) -> u64 {
        self.sent(from).iter().filter(|seen| !seen.fresh).map(|seen| u64::from(seen.len)).sum()
    }

    /// Most octets that this end had sent and had no acknowledgment of, at a time of `span`.
    pub fn most_in_flight(&self, from: usize, span: Range<Duration>) -> u32 {
        let (sent, came) = (self.sent(from), self.came(1 - from));
        let mut acks = came.iter().peekable();
        let (mut una, mut end, mut most) = (1, 1, 0);
        for seen in sent.iter() {
            while let Some(ack) = acks.next_if(|ack| ack.at <= seen.at) {
                una = una.max(ack.ack);
            }
            end = end.max(seen.end());
            if span.contains(&seen.at) {
                most = most.max(end - una);
            }
        }
        most
    }
}
