//! A network of make-believe shards for the services' tests: connections are queues of octets, time stands still until
//! it is advanced, and events and messages come in an order shuffled by a seed.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use bytes::{Buf, Bytes};

use crate::flow::{Endpoint, Quad, ShardId};
use crate::shard::{
    AcceptQueue, ConnId, ConnectError, ConnectOptions, Io, ListenError, ListenOptions, Message, Service,
};
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
    tag: u64,
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

/// A listener of one shard.
struct Listener {
    shard: u16,
    local: Endpoint,
    tag: u64,
    accepting: bool,
}

struct World {
    now: Instant,
    connections: Vec<Connection>,
    /// Messages by sender and receiver: order is kept within a pair only.
    mail: Vec<Vec<VecDeque<Message>>>,
    timers: Vec<(Instant, u16, u64)>,
    retransmits: u64,
    listeners: Vec<Listener>,
    default_send_limit: usize,
    /// Of all connections together, of which one may take an eighth of what is free; `None`: plenty.
    send_memory: Option<usize>,
    gave_way: u32,
    /// Sends that services tried in the call of now, and most of them in one.
    sends: usize,
    most_sends: usize,
}

/// Our end of what lands on `port`.
fn ours(port: u16) -> Endpoint {
    Endpoint { addr: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), port }
}

impl World {
    /// A connection that nothing has happened to.
    fn add(&mut self, shard: u16, local: Endpoint, remote: Option<Endpoint>) -> Client {
        let slot = self.connections.len();
        let remote = remote.unwrap_or(Endpoint { port: 40_000 + slot as u16, ..local });
        self.connections.push(Connection {
            shard,
            id: ConnId { slot: slot as u32, generation: 5 },
            quad: Quad { local, remote },
            ticket: 1000 + slot as u64,
            tag: 0,
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
            pending: Pending::default(),
        });
        slot
    }

    fn listener(&mut self, shard: u16, local: Endpoint) -> Option<&mut Listener> {
        self.listeners.iter_mut().find(|listener| (listener.shard, listener.local) == (shard, local))
    }

    fn find(&self, id: ConnId) -> Option<&Connection> {
        self.connections.get(id.slot as usize).filter(|c| c.id == id && !c.gone)
    }

    /// A connection that can still be acted on.
    fn find_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.connections.get_mut(id.slot as usize).filter(|c| c.id == id && !c.gone && !c.reset)
    }
}

impl World {
    /// Octets that a connection may send now.
    fn room(&self, connection: &Connection) -> usize {
        let room = connection.send_limit.saturating_sub(connection.sent.len());
        let Some(memory) = self.send_memory else { return room };
        let taken: usize = self.connections.iter().map(|other| other.sent.len()).sum();
        room.min((memory.saturating_sub(taken) / 8).saturating_sub(connection.sent.len()))
    }
}

impl Connection {
    fn put(&mut self, data: &[u8], room: usize) -> usize {
        assert!(!self.fin, "sending after the end");
        let taken = data.len().min(room);
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

impl Io for Backend<'_> {
    fn absent(&self) -> Duration {
        Duration::ZERO
    }

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
        self.world.sends += 1;
        self.world.most_sends = self.world.most_sends.max(self.world.sends);
        let room = self.send_room(conn) as usize;
        self.world.find_mut(conn).map_or(0, |c| c.put(data, room))
    }
    fn send_static(&mut self, conn: ConnId, data: &'static [u8]) -> usize {
        self.send(conn, data)
    }
    fn send_bytes(&mut self, conn: ConnId, mut bytes: Bytes) -> Result<(), Bytes> {
        let taken = self.send(conn, &bytes);
        bytes.advance(taken);
        if bytes.is_empty() { Ok(()) } else { Err(bytes) }
    }
    fn send_room(&self, conn: ConnId) -> u32 {
        self.world.find(conn).map_or(0, |c| self.world.room(c) as u32)
    }
    fn await_room(&mut self, _: ConnId) {} // whatever is acknowledged draws a call
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
    fn leave(&mut self, _: ConnId) {}
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
    fn give_way(&mut self, conn: ConnId) {
        self.world.gave_way += u32::from(self.world.find_mut(conn).is_some());
        self.abort(conn);
    }
    fn set_nodelay(&mut self, conn: ConnId, nodelay: bool) {
        if let Some(c) = self.world.find_mut(conn) {
            c.nodelay = nodelay;
        }
    }
    fn set_cork(&mut self, _: ConnId, _: bool) {}
    fn set_quickack(&mut self, _: ConnId, _: bool) {}
    fn set_keepalive(&mut self, _: ConnId, _: Option<KeepAlive>) {}
    fn set_user_timeout(&mut self, _: ConnId, _: Option<Duration>) {}
    fn set_congestion(&mut self, _: ConnId, _: CongestionControl) {}
    fn set_send_buffer(&mut self, conn: ConnId, octets: u32) {
        if let Some(c) = self.world.find_mut(conn) {
            c.send_limit = octets as usize;
        }
    }
    fn set_receive_buffer(&mut self, _: ConnId, _: u32) {}
    fn set_notsent_lowat(&mut self, _: ConnId, _: Option<u32>) {}
    fn set_ttl(&mut self, _: ConnId, _: u8) {}
    fn set_tos(&mut self, _: ConnId, _: u8) {}
    fn urgent(&self, _: ConnId) -> u32 {
        0
    }
    fn not_sent(&self, _: ConnId) -> u32 {
        0 // what is sent is on its way at once
    }
    fn info(&self, conn: ConnId) -> Option<Info> {
        self.world.find(conn).map(|_| figures(self.world.retransmits))
    }
    fn call_again(&mut self, id: ConnId) {
        if let Some(c) = self.world.find_mut(id) {
            c.pending.writable = true;
        }
    }
    fn set_timer(&mut self, at: Instant, token: u64) {
        self.world.timers.push((at, self.shard, token));
    }
    fn send_to(&mut self, shard: ShardId, message: Message) {
        self.world.mail[usize::from(self.shard)][usize::from(shard.0)].push_back(message);
    }
    fn owner(&self, quad: &Quad) -> ShardId {
        ShardId((quad.local.port ^ quad.remote.port) % self.shards())
    }
    fn listen(&mut self, local: Endpoint, _: u32, tag: u64) -> Result<(), ListenError> {
        let shard = self.shard;
        if self.world.listener(shard, local).is_some() {
            return Err(ListenError::AddressInUse);
        }
        self.world.listeners.push(Listener { shard, local, tag, accepting: true });
        Ok(())
    }
    fn unlisten(&mut self, local: Endpoint) {
        let shard = self.shard;
        self.world.listeners.retain(|listener| (listener.shard, listener.local) != (shard, local));
    }
    fn set_accepting(&mut self, local: Endpoint, accepting: bool) {
        let shard = self.shard;
        if let Some(listener) = self.world.listener(shard, local) {
            listener.accepting = accepting;
        }
    }
    fn set_accept_queue(&mut self, _: Endpoint, _: std::sync::Arc<AcceptQueue>) {}
    fn set_listen_options(&mut self, _: Endpoint, _: &ListenOptions) {}
    fn tag(&self, conn: ConnId) -> u64 {
        self.world.find(conn).map_or(0, |c| c.tag)
    }
    fn connect(&mut self, remote: Endpoint, options: &ConnectOptions) -> Result<ConnId, ConnectError> {
        let local = options.local.filter(|local| local.port != 0);
        let local = local.unwrap_or(ours(50_000 + self.world.connections.len() as u16));
        if local.port != 0 && options.local == Some(local) {
            let owner = self.owner(&Quad { local, remote });
            if owner != ShardId(self.shard) {
                return Err(ConnectError::WrongShard(owner));
            }
        }
        let client = self.world.add(self.shard, local, Some(remote));
        self.world.connections[client].user = options.user;
        Ok(self.world.connections[client].id)
    }
}

/// What a connection says of itself, of which services read only a little.
fn figures(retransmits: u64) -> Info {
    Info {
        state: State::Established,
        retransmits,
        rto: Duration::from_secs(1),
        cwnd: 14_600,
        ssthresh: u32::MAX,
        mss: 1460,
        receive_mss: 1460,
        timestamps: true,
        sack: true,
        window_shifts: (7, 7),
        ..Info::default()
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
                listeners: Vec::new(),
                default_send_limit: 256 * 1024,
                send_memory: None,
                gave_way: 0,
                sends: 0,
                most_sends: 0,
            },
        }
    }

    /// A connection that lands on `shard`. Tickets go by the order of calls.
    pub(super) fn connect(&mut self, shard: u16) -> Client {
        let client = self.world.add(shard, ours(5201), None);
        self.world.connections[client].pending.accepted = true;
        client
    }

    /// A connection to a listener of `shard` on `port`. `None`: nobody listens, or takes no more; otherwise the service
    /// has heard of the SYN.
    pub(super) fn connect_to(&mut self, shard: u16, port: u16) -> Option<Client> {
        let any = Endpoint::new(Ipv4Addr::UNSPECIFIED.into(), port);
        let found = [ours(port), any].into_iter().find_map(|local| {
            let listener = self.world.listener(shard, local)?;
            Some((listener.tag, listener.accepting))
        });
        let (tag, _) = found.filter(|(_, accepting)| *accepting)?;
        let client = self.world.add(shard, ours(port), None);
        let connection = &mut self.world.connections[client];
        connection.tag = tag;
        connection.pending.accepted = true;
        let (ticket, quad) = (connection.ticket, connection.quad);
        self.call(shard, |service, io| service.half_open(io, ticket, quad, tag));
        Some(client)
    }

    /// The peer's answer to what a service has opened last: it takes it or refuses it.
    pub(super) fn answer(&mut self, takes: bool) -> Client {
        let client = self.world.connections.len() - 1;
        let connection = &mut self.world.connections[client];
        if takes {
            connection.pending.accepted = true;
        } else {
            connection.reset(CloseReason::Refused);
        }
        client
    }

    /// Names the service's end.
    pub(super) fn id(&self, client: Client) -> ConnId {
        self.world.connections[client].id
    }

    pub(super) fn set_send_limit(&mut self, client: Client, limit: usize) {
        self.world.connections[client].send_limit = limit;
    }

    pub(super) fn set_default_send_limit(&mut self, limit: usize) {
        self.world.default_send_limit = limit;
    }

    /// Shards have so much memory for what is sent, as if they were one.
    pub(super) fn set_send_memory(&mut self, octets: usize) {
        self.world.send_memory = Some(octets);
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
        self.client_take_some(client, usize::MAX)
    }

    /// The same, so many octets of it at most.
    pub(super) fn client_take_some(&mut self, client: Client, most: usize) -> Vec<u8> {
        let c = &mut self.world.connections[client];
        let taken: Vec<u8> = c.sent.drain(..most.min(c.sent.len())).collect();
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

    /// Connections that services have reset to the benefit of others.
    pub(super) fn gave_way(&self) -> u32 {
        self.world.gave_way
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

    fn call(&mut self, shard: u16, act: impl FnOnce(&mut S, &mut dyn Io)) {
        self.world.sends = 0;
        let mut backend = Backend { world: &mut self.world, shard };
        act(&mut self.services[usize::from(shard)], &mut backend);
    }

    /// Most sends that a service tried in one call.
    pub(super) fn most_sends(&self) -> usize {
        self.world.most_sends
    }

    /// All shards are about to stop.
    pub(super) fn stop(&mut self) {
        for shard in 0..self.services.len() {
            self.call(shard as u16, |service, io| service.stopping(io));
        }
    }

    /// All shards drain: whether one of them has something left to do.
    pub(super) fn drain(&mut self) -> bool {
        let mut left = false;
        for shard in 0..self.services.len() {
            self.call(shard as u16, |service, io| left |= service.draining(io));
        }
        left
    }

    /// Does everything that is to be done, in random order, the clients taking nothing meanwhile.
    pub(super) fn run(&mut self) {
        loop {
            self.deliver_mail();
            let Some(event) = self.pick() else { break };
            match event {
                Event::Mail { from, to } => {
                    let message = self.world.mail[from][to].pop_front().expect("picked");
                    self.call(to as u16, |service, io| service.message(io, ShardId(from as u16), message));
                }
                Event::Connection(index) => self.connection_event(index),
            }
        }
    }

    /// What other threads have left to do.
    pub(super) fn deliver_mail(&mut self) {
        for shard in 0..self.services.len() {
            if self.services[shard].wants_mail() && self.services[shard].has_mail() {
                self.call(shard as u16, |service, io| service.mail(io));
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

/// A service that is told what to do by mail, and notes what it hears.
#[derive(Default)]
struct Clerk {
    mail: VecDeque<fn(&mut dyn Io)>,
    heard: Vec<String>,
}

impl Service for Clerk {
    fn half_open(&mut self, _: &mut dyn Io, ticket: u64, quad: Quad, tag: u64) {
        self.heard.push(format!("half open {ticket} {} {tag}", quad.local.port));
    }
    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        self.heard.push(format!("accepted {} {} {}", io.ticket(conn), io.tag(conn), io.user(conn)));
    }
    fn readable(&mut self, _: &mut dyn Io, _: ConnId) {}
    fn closed(&mut self, _: &mut dyn Io, _: ConnId, reason: CloseReason) {
        self.heard.push(format!("closed {reason:?}"));
    }
    fn wants_mail(&self) -> bool {
        true
    }
    fn has_mail(&self) -> bool {
        !self.mail.is_empty()
    }
    fn mail(&mut self, io: &mut dyn Io) {
        for order in std::mem::take(&mut self.mail) {
            order(io);
        }
    }
}

#[test]
fn listeners_and_opens_of_a_service_behave_as_those_of_a_shard() {
    const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let mut net = Net::new(2, 1, |_| Clerk::default());
    let tell = |net: &mut Net<Clerk>, order: fn(&mut dyn Io)| {
        net.services[0].mail.push_back(order);
        net.run();
        std::mem::take(&mut net.services[0].heard)
    };
    assert_eq!(net.connect_to(0, 80), None);
    tell(&mut net, |io| {
        io.listen(Endpoint::new(ANY, 80), 1, 5).expect("granted");
        io.listen(ours(80), 1, 6).expect("granted");
        assert_eq!(io.listen(ours(80), 1, 7), Err(ListenError::AddressInUse));
    });
    assert_eq!(net.connect_to(1, 80), None, "each shard has its own");
    assert!(net.connect_to(0, 80).is_some());
    assert_eq!(tell(&mut net, |_| {}), ["half open 1000 80 6", "accepted 1000 6 0"]);
    tell(&mut net, |io| io.set_accepting(ours(80), false));
    assert_eq!(net.connect_to(0, 80), None);
    tell(&mut net, |io| io.unlisten(ours(80)));
    assert!(net.connect_to(0, 80).is_some());
    assert_eq!(tell(&mut net, |_| {}), ["half open 1001 80 5", "accepted 1001 5 0"]);

    for (takes, heard) in [(true, "accepted 1002 0 9"), (false, "closed Refused")] {
        tell(&mut net, |io| {
            io.connect(ours(25), &ConnectOptions { user: 9, ..ConnectOptions::default() }).expect("granted");
        });
        net.answer(takes);
        assert_eq!(tell(&mut net, |_| {}), [heard]);
    }
    tell(&mut net, |io| {
        let local = Endpoint { port: 24, ..ours(0) };
        let options = ConnectOptions { local: Some(local), ..ConnectOptions::default() };
        assert_eq!(io.connect(ours(25), &options), Err(ConnectError::WrongShard(ShardId(1))));
        assert!(io.connect(ours(26), &options).is_ok());
    });
}
