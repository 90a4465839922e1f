//! A network of make-believe shards for the services' tests: connections are queues of octets, time stands still until
//! it is advanced, and events and messages come in an order shuffled by a seed.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use crate::flow::{Endpoint, Quad, ShardId};
use crate::shard::{ConnId, Io, IoBackend, Message, Service};
use crate::tcp::time::{Duration, Instant};
use crate::tcp::{CloseReason, CongestionControl, Info, KeepAlive, State};

/// A connection as a test names it.
pub(super) type Client = usize;

/// A small generator of repeatable disorder (xorshift).
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[derive(Debug, Default)]
struct Pending {
    accepted: bool,
    readable: bool,
    writable: bool,
    closed: Option<CloseReason>,
}

#[derive(Debug)]
struct Connection {
    shard: u16,
    id: ConnId,
    quad: Quad,
    ticket: u64,
    user: u64,
    /// Octets the service has not consumed.
    unread: VecDeque<u8>,
    client_fin: bool,
    /// Octets sent and not yet taken by the client.
    sent: Vec<u8>,
    send_limit: usize,
    fin: bool,
    close_called: bool,
    reset: bool,
    /// The service has been told that it is closed.
    gone: bool,
    nodelay: bool,
    pending: Pending,
}

struct World {
    now: Instant,
    connections: Vec<Connection>,
    /// Messages by sender and receiver: order is kept within a pair only.
    mail: Vec<Vec<VecDeque<Message>>>,
    timers: Vec<(Instant, u16, u64)>,
    retransmits: u64,
}

impl World {
    fn find(&self, id: ConnId) -> Option<&Connection> {
        self.connections.get(id.slot as usize).filter(|c| c.id == id && !c.gone)
    }

    /// A connection that can still be acted on.
    fn find_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.connections.get_mut(id.slot as usize).filter(|c| c.id == id && !c.gone && !c.reset)
    }
}

impl Connection {
    fn put(&mut self, data: &[u8]) -> usize {
        assert!(!self.fin, "sending after the end");
        let taken = data.len().min(self.send_limit.saturating_sub(self.sent.len()));
        self.sent.extend_from_slice(&data[..taken]);
        taken
    }

    /// Tells the service once both directions have ended.
    fn check_end(&mut self) {
        if self.fin && self.sent.is_empty() && self.client_fin && self.unread.is_empty() && !self.gone {
            self.pending.closed.get_or_insert(CloseReason::Normal);
        }
    }

    fn reset(&mut self, reason: CloseReason) {
        self.reset = true;
        self.sent.clear();
        self.unread.clear();
        self.pending = Pending { closed: Some(reason), ..Pending::default() };
    }
}

struct Backend<'a> {
    world: &'a mut World,
    shard: u16,
}

impl IoBackend for Backend<'_> {
    fn now(&self) -> Instant {
        self.world.now
    }
    fn shard(&self) -> ShardId {
        ShardId(self.shard)
    }
    fn shards(&self) -> u16 {
        self.world.mail.len() as u16
    }
    fn quad(&self, conn: ConnId) -> Quad {
        self.world.connections[conn.slot as usize].quad
    }
    fn ticket(&self, conn: ConnId) -> u64 {
        self.world.find(conn).map_or(0, |c| c.ticket)
    }
    fn user(&self, conn: ConnId) -> u64 {
        self.world.find(conn).map_or(0, |c| c.user)
    }
    fn set_user(&mut self, conn: ConnId, user: u64) {
        if let Some(c) = self.world.find_mut(conn) {
            c.user = user;
        }
    }
    fn peek(&self, conn: ConnId) -> &[u8] {
        self.world.find(conn).map_or(&[], |c| c.unread.as_slices().0)
    }
    fn unread(&self, conn: ConnId) -> u32 {
        self.world.find(conn).map_or(0, |c| c.unread.len() as u32)
    }
    fn consume(&mut self, conn: ConnId, octets: u32) {
        if let Some(c) = self.world.find_mut(conn) {
            assert!(octets as usize <= c.unread.len());
            c.unread.drain(..octets as usize);
            c.check_end();
        }
    }
    fn at_eof(&self, conn: ConnId) -> bool {
        self.world.find(conn).is_some_and(|c| c.client_fin && c.unread.is_empty())
    }
    fn send(&mut self, conn: ConnId, data: &[u8]) -> usize {
        self.world.find_mut(conn).map_or(0, |c| c.put(data))
    }
    fn send_static(&mut self, conn: ConnId, data: &'static [u8]) -> usize {
        self.send(conn, data)
    }
    fn send_room(&self, conn: ConnId) -> u32 {
        self.world.find(conn).map_or(0, |c| c.send_limit.saturating_sub(c.sent.len()) as u32)
    }
    fn unsent(&self, conn: ConnId) -> u32 {
        self.world.find(conn).map_or(0, |c| c.sent.len() as u32)
    }
    fn forward(&mut self, from: ConnId, to: ConnId) -> usize {
        let data: Vec<u8> = self.peek(from).to_vec();
        let taken = self.send(to, &data);
        self.consume(from, taken as u32);
        taken
    }
    fn shutdown(&mut self, conn: ConnId) {
        if let Some(c) = self.world.find_mut(conn) {
            c.fin = true;
            c.check_end();
        }
    }
    fn close(&mut self, conn: ConnId) {
        if let Some(c) = self.world.find_mut(conn) {
            c.close_called = true;
            if c.unread.is_empty() {
                c.fin = true;
                c.check_end();
            } else {
                c.reset(CloseReason::Aborted);
            }
        }
    }
    fn abort(&mut self, conn: ConnId) {
        if let Some(c) = self.world.find_mut(conn) {
            c.reset(CloseReason::Aborted);
        }
    }
    fn set_nodelay(&mut self, conn: ConnId, nodelay: bool) {
        if let Some(c) = self.world.find_mut(conn) {
            c.nodelay = nodelay;
        }
    }
    fn set_keepalive(&mut self, _: ConnId, _: Option<KeepAlive>) {}
    fn set_user_timeout(&mut self, _: ConnId, _: Option<Duration>) {}
    fn set_congestion(&mut self, _: ConnId, _: CongestionControl) {}
    fn info(&self, conn: ConnId) -> Option<Info> {
        self.world.find(conn).map(|_| figures(self.world.retransmits))
    }
    fn set_timer(&mut self, at: Instant, token: u64) {
        self.world.timers.push((at, self.shard, token));
    }
    fn send_to(&mut self, shard: ShardId, message: Message) {
        self.world.mail[usize::from(self.shard)][usize::from(shard.0)].push_back(message);
    }
}

/// What a connection says of itself, of which services read only a little.
fn figures(retransmits: u64) -> Info {
    Info {
        state: State::Established,
        bytes_received: 0,
        bytes_acked: 0,
        bytes_sent: 0,
        retransmits,
        timeouts: 0,
        paws_drops: 0,
        recovery: crate::tcp::RecoveryCounts::default(),
        srtt: None,
        rttvar: Duration::ZERO,
        min_rtt: None,
        rto: Duration::from_secs(1),
        congestion: CongestionControl::default(),
        cwnd: 14_600,
        ssthresh: u32::MAX,
        flight: 0,
        queued: 0,
        send_limit: 0,
        send_window: 0,
        receive_window: 0,
        receive_buffer: 0,
        unread: 0,
        held: 0,
        mss: 1460,
        timestamps: true,
        sack: true,
        window_shifts: (7, 7),
    }
}

/// One thing that can happen next.
#[derive(Clone, Copy)]
enum Event {
    Connection(usize),
    Mail { from: usize, to: usize },
}

/// Shards with a service each, and the clients' ends of their connections.
pub(super) struct Net<S> {
    pub(super) services: Vec<S>,
    pub(super) dice: Dice,
    world: World,
    default_send_limit: usize,
}

impl<S: Service> Net<S> {
    pub(super) fn new(shards: u16, seed: u64, build: impl Fn(u16) -> S) -> Self {
        let count = usize::from(shards);
        Self {
            services: (0..shards).map(build).collect(),
            dice: Dice::new(seed),
            world: World {
                now: Instant::from_secs(1),
                connections: Vec::new(),
                mail: (0..count).map(|_| (0..count).map(|_| VecDeque::new()).collect()).collect(),
                timers: Vec::new(),
                retransmits: 0,
            },
            default_send_limit: 256 * 1024,
        }
    }

    /// A connection that lands on `shard`. Tickets go by the order of calls.
    pub(super) fn connect(&mut self, shard: u16) -> Client {
        let slot = self.world.connections.len();
        let end = |port| Endpoint { addr: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), port };
        self.world.connections.push(Connection {
            shard,
            id: ConnId { slot: slot as u32, generation: 5 },
            quad: Quad { local: end(5201), remote: end(40_000 + slot as u16) },
            ticket: 1000 + slot as u64,
            user: 0,
            unread: VecDeque::new(),
            client_fin: false,
            sent: Vec::new(),
            send_limit: self.default_send_limit,
            fin: false,
            close_called: false,
            reset: false,
            gone: false,
            nodelay: false,
            pending: Pending { accepted: true, ..Pending::default() },
        });
        slot
    }

    pub(super) fn set_send_limit(&mut self, client: Client, limit: usize) {
        self.world.connections[client].send_limit = limit;
    }

    pub(super) fn set_default_send_limit(&mut self, limit: usize) {
        self.default_send_limit = limit;
    }

    pub(super) fn set_retransmits(&mut self, retransmits: u64) {
        self.world.retransmits = retransmits;
    }

    pub(super) fn client_send(&mut self, client: Client, data: &[u8]) {
        let c = &mut self.world.connections[client];
        if c.close_called && !c.gone {
            c.reset(CloseReason::Aborted);
        } else if !c.reset && !c.gone {
            c.unread.extend(data);
            c.pending.readable = true;
        }
    }

    pub(super) fn client_fin(&mut self, client: Client) {
        let c = &mut self.world.connections[client];
        c.client_fin = true;
        if !c.reset && !c.gone {
            c.pending.readable = true;
            c.check_end();
        }
    }

    pub(super) fn client_reset(&mut self, client: Client) {
        let c = &mut self.world.connections[client];
        if !c.gone {
            c.reset(CloseReason::Reset);
        }
    }

    /// What has been sent to the client since the last call; makes room for more.
    pub(super) fn client_take(&mut self, client: Client) -> Vec<u8> {
        let c = &mut self.world.connections[client];
        let taken = std::mem::take(&mut c.sent);
        if !taken.is_empty() {
            c.pending.writable = !c.fin;
            c.check_end();
        }
        taken
    }

    pub(super) fn unread(&self, client: Client) -> usize {
        self.world.connections[client].unread.len()
    }

    /// Octets waiting for [`Net::client_take`].
    pub(super) fn waiting(&self, client: Client) -> usize {
        self.world.connections[client].sent.len()
    }

    pub(super) fn got_fin(&self, client: Client) -> bool {
        let c = &self.world.connections[client];
        c.fin && c.sent.is_empty()
    }

    pub(super) fn got_reset(&self, client: Client) -> bool {
        self.world.connections[client].reset
    }

    pub(super) fn is_closed(&self, client: Client) -> bool {
        self.world.connections[client].gone
    }

    pub(super) fn close_called(&self, client: Client) -> bool {
        self.world.connections[client].close_called
    }

    pub(super) fn nodelay(&self, client: Client) -> bool {
        self.world.connections[client].nodelay
    }

    /// Timers set and not yet gone off.
    pub(super) fn timers(&self) -> usize {
        self.world.timers.len()
    }

    /// Lets time pass; timers go off in their order, what follows from each is done before the next.
    pub(super) fn advance(&mut self, span: Duration) {
        let end = self.world.now.saturating_add(span);
        loop {
            let due = self.world.timers.iter().enumerate().filter(|(_, timer)| timer.0 <= end);
            let Some((index, _)) = due.min_by_key(|(_, timer)| timer.0) else { break };
            let (at, shard, token) = self.world.timers.remove(index);
            self.world.now = self.world.now.max(at);
            self.call(shard, |service, io| service.timer(io, token));
            self.run();
        }
        self.world.now = end;
    }

    fn call(&mut self, shard: u16, act: impl FnOnce(&mut S, &mut Io<'_>)) {
        let mut backend = Backend { world: &mut self.world, shard };
        act(&mut self.services[usize::from(shard)], &mut Io::new(&mut backend));
    }

    /// All shards are about to stop.
    pub(super) fn stop(&mut self) {
        for shard in 0..self.services.len() {
            self.call(shard as u16, |service, io| service.stopping(io));
        }
    }

    /// Does everything that is to be done, in random order, the clients taking nothing meanwhile.
    pub(super) fn run(&mut self) {
        while let Some(event) = self.pick() {
            match event {
                Event::Mail { from, to } => {
                    let message = self.world.mail[from][to].pop_front().expect("picked");
                    self.call(to as u16, |service, io| service.message(io, ShardId(from as u16), message));
                }
                Event::Connection(index) => self.connection_event(index),
            }
        }
    }

    fn pick(&mut self) -> Option<Event> {
        let mut events = Vec::new();
        for (index, c) in self.world.connections.iter().enumerate() {
            let pending = &c.pending;
            if pending.accepted || pending.readable || pending.writable || pending.closed.is_some() {
                events.push(Event::Connection(index));
            }
        }
        for (from, boxes) in self.world.mail.iter().enumerate() {
            for (to, mail) in boxes.iter().enumerate() {
                if !mail.is_empty() {
                    events.push(Event::Mail { from, to });
                }
            }
        }
        if events.is_empty() { None } else { Some(events[self.dice.below(events.len())]) }
    }

    fn connection_event(&mut self, index: usize) {
        let c = &mut self.world.connections[index];
        let (shard, id) = (c.shard, c.id);
        if std::mem::take(&mut c.pending.accepted) {
            self.call(shard, |service, io| service.accepted(io, id));
        } else if std::mem::take(&mut c.pending.readable) {
            if !c.close_called {
                self.call(shard, |service, io| service.readable(io, id));
            }
        } else if std::mem::take(&mut c.pending.writable) {
            if !c.close_called {
                self.call(shard, |service, io| service.writable(io, id));
            }
        } else if let Some(reason) = c.pending.closed.take() {
            self.call(shard, |service, io| service.closed(io, id, reason));
            self.world.connections[index].gone = true;
        }
    }
}
