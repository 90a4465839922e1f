//! Two hosts, all services on one of them, driven by a script in virtual time: what applications do, what becomes of
//! packets, what strangers send, how time goes. Afterwards all is closed, and nothing may remain.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::UNIX_EPOCH;

use trust::embed::Host;
use trust::net::{EventQueue, SocketLimits, TcpListener, TcpSocket, TcpStream};
use trust::services::{self, Environment, ServiceName};
use trust::shard::Limits;
use trust::shard::budget::{self, Work};
use trust::tcp::cookie::SynCookies;
use trust::tcp::{BufferLimits, Config, CongestionControl, Duration, Instant, KeepAlive};

use super::forge;
use super::input::Input;

#[path = "more.rs"]
mod more;

const CLIENT: usize = 0;
const SERVER: usize = 1;
const ADDRESSES: [[IpAddr; 2]; 2] = [addresses(1), addresses(2)];
/// Ports of the server's sockets, beside those of the services.
const PORTS: [u16; 2] = [1_000, 1_001];

/// A script has no more acts, so that one costs little.
const MOST_ACTS: usize = 400;
/// Nor does it act any more when so many packets have been delivered.
const MOST_PACKETS: u64 = 300;
/// Sockets of both hosts at once.
const MOST_SOCKETS: usize = 24;
/// Packets under way in one direction; more are lost.
const MOST_UNDER_WAY: usize = 128;
/// Packets that are remembered to be imitated.
const REMEMBERED: usize = 8;
/// Rounds of delivery in which all has to be over once everything is closed, and how long that may take: R2 twice, and
/// what the services grant.
const LAST_ROUNDS: usize = 20_000;
const LAST_TIME: Duration = Duration::from_secs(3 * 3_600);

/// What no turn may do more of.
const BOUNDS: [(Work, usize); 7] = [
    (Work::Mail, budget::MAIL),
    (Work::ServiceTimers, budget::SERVICE_TIMERS),
    (Work::Timers, budget::TIMERS),
    (Work::HalfOpen, budget::HALF_OPEN),
    (Work::TimeWait, budget::TIME_WAIT),
    (Work::Connections, budget::CONNECTIONS),
    (Work::CallsAgain, budget::CALLS_AGAIN),
];

const fn addresses(last: u8) -> [IpAddr; 2] {
    let v6 = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, last as u16);
    [IpAddr::V4(Ipv4Addr::new(10, 7, 0, last)), IpAddr::V6(v6)]
}

/// What a script came to, for those who want to know whether scripts do anything.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Connections that the server has accepted.
    pub accepted: u64,
    /// Octets that applications have read and found right.
    pub octets: u64,
    /// Packets delivered.
    pub packets: u64,
}

/// Runs a script.
///
/// # Panics
///
/// When something is wrong.
pub fn run(data: &[u8]) -> Summary {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    for _ in 0..MOST_ACTS {
        if input.is_empty() || world.summary.packets > MOST_PACKETS {
            break;
        }
        world.act(&mut input);
    }
    world.end();
    world.summary
}

/// Whom a client talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    Service(ServiceName),
    Socket,
}

struct Socket {
    stream: TcpStream,
    host: usize,
    other: Other,
    /// Octets written and read so far.
    written: u64,
    read: u64,
}

struct World {
    now: Instant,
    hosts: [Host; 2],
    /// What each host has sent and the other has not got.
    under_way: [VecDeque<Vec<u8>>; 2],
    /// What each host has sent last.
    sent: [VecDeque<Vec<u8>>; 2],
    sockets: Vec<Socket>,
    listeners: Vec<TcpListener>,
    queue: Option<EventQueue>,
    /// In this script no strangers send anything.
    honest: bool,
    /// Packets with sound checksums came from others: octets need not be right.
    tampered: bool,
    /// Storage of packets that are gone.
    spare: Vec<Vec<u8>>,
    /// What applications read into.
    block: Vec<u8>,
    summary: Summary,
}

fn tcp(input: &mut Input<'_>) -> Config {
    let features = input.octet();
    let small = BufferLimits { initial: 8 << 10, max: 48 << 10 };
    Config {
        timestamps: features & 1 == 0,
        sack: features & 2 == 0,
        window_scale: features & 4 == 0,
        nagle: features & 8 == 0,
        congestion: if features & 16 == 0 { CongestionControl::Cubic } else { CongestionControl::Reno },
        keepalive: features & 32 != 0,
        keepalive_probes: KeepAlive { idle: Duration::from_secs(20), ..KeepAlive::default() },
        recv_buffer: small,
        send_buffer: small,
        ..Config::default()
    }
}

/// Mostly enough of all, sometimes little of something.
fn limits(input: &mut Input<'_>) -> Limits {
    let mut limits = Limits { held_packets: 32, held_octets: 1 << 20, ..Limits::default() };
    let little = input.octet();
    if little & 1 != 0 {
        limits.connections = 6;
    }
    if little & 2 != 0 {
        (limits.half_open, limits.connecting) = (3, 3);
    }
    if little & 4 != 0 {
        (limits.orphans, limits.time_wait) = (2, 2);
    }
    if little & 8 != 0 {
        (limits.held_packets, limits.held_octets) = (2, 20_000);
    }
    limits.syn_cookies =
        [SynCookies::Overflow, SynCookies::Overflow, SynCookies::Always, SynCookies::Off][little as usize >> 6];
    if little & 16 != 0 {
        (limits.in_ring, limits.quantum) = (4_000, 3_000);
    }
    limits
}

fn host(side: usize, now: Instant, input: &mut Input<'_>) -> Host {
    let sockets = SocketLimits { send_queue: 8 << 10, receive_queue: 8 << 10, ..SocketLimits::default() };
    let mut builder = Host::builder()
        .seed(side as u64 + 1)
        .tcp(tcp(input))
        .limits(limits(input))
        .sockets(sockets)
        // The largest seldom: each of its buffers is zeroed.
        .mtu(input.pick(&[1_500, 1_280, 9_000, 1_500, 1_500, 1_280, 9_000, 65_535]))
        .send_chunks(input.pick(&[8, 4, 2]))
        .inbox(256);
    for address in ADDRESSES[side] {
        builder = builder.address(address);
    }
    if side == SERVER {
        let wall_clock: services::WallClock = Arc::new(|| UNIX_EPOCH + std::time::Duration::from_secs(784_111_777));
        let environment = Environment { wall_clock, ..Environment::default() };
        for name in ServiceName::ALL {
            builder = builder.service(Some(name.usual_port()), services::build(name, &environment));
        }
    }
    builder.build(now).expect("sound settings")
}

/// No read and no write is longer, octets.
const LONGEST: usize = 40_000;
/// After so many octets what applications write begins again: a prime, so that no boundary of ours falls in with it.
const PERIOD: usize = 4_099;
/// The same of chargen (RFC 864).
const CHARGEN_PERIOD: usize = 95 * 74;

/// A piece as long as can be lies ahead from every place of the first period. Tables, since they are compared as a whole:
/// the fuzzer's instruments would count each octet of a loop.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| (0..PERIOD + LONGEST).map(pattern_at).collect());
static CHARGEN: LazyLock<Vec<u8>> = LazyLock::new(|| (0..CHARGEN_PERIOD + LONGEST).map(chargen_at).collect());

fn pattern_at(place: usize) -> u8 {
    let place = place % PERIOD;
    (place * 7 + place / 251) as u8
}

fn chargen_at(place: usize) -> u8 {
    let (line, column) = (place % CHARGEN_PERIOD / 74, place % 74);
    match column {
        72 => b'\r',
        73 => b'\n',
        column => b' ' + ((line + column) % 95) as u8,
    }
}

/// What a connection's client (`port` is its own) or its server writes from that place on.
fn octets_at(port: u16, by_client: bool, place: u64, len: usize) -> &'static [u8] {
    let from = (u64::from(port) * 7 + u64::from(by_client) * 91 + place) % PERIOD as u64;
    &PATTERN[from as usize..][..len]
}

/// What chargen says from that place on.
fn chargen_octets_at(place: u64, len: usize) -> &'static [u8] {
    &CHARGEN[(place % CHARGEN_PERIOD as u64) as usize..][..len]
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let now = Instant::from_secs(1_000);
        let honest = input.octet() & 1 == 0;
        Self {
            now,
            honest,
            hosts: [host(CLIENT, now, input), host(SERVER, now, input)],
            under_way: Default::default(),
            sent: Default::default(),
            sockets: Vec::new(),
            listeners: Vec::new(),
            queue: None,
            tampered: false,
            spare: Vec::new(),
            block: vec![0; LONGEST],
            summary: Summary::default(),
        }
    }

    // ---- the wire ----

    fn poll(&mut self, side: usize) {
        let Self { now, hosts, under_way, sent, spare, .. } = self;
        let (under_way, sent) = (&mut under_way[side], &mut sent[side]);
        let copy = |packet: &[u8], mut storage: Vec<u8>| {
            storage.clear();
            storage.extend_from_slice(packet);
            storage
        };
        hosts[side].poll(*now, |packet| {
            let oldest = if sent.len() < REMEMBERED { None } else { sent.pop_front() };
            sent.push_back(copy(packet, oldest.unwrap_or_default()));
            if under_way.len() < MOST_UNDER_WAY {
                under_way.push_back(copy(packet, spare.pop().unwrap_or_default()));
            }
        });
    }

    fn deliver(&mut self, from: usize, packet: Vec<u8>) {
        self.summary.packets += 1;
        self.hosts[1 - from].receive(&packet);
        self.spare.push(packet);
    }

    /// Packets of strangers: nobody knows any more what is right.
    fn tamper(&mut self, to: usize, packet: &[u8]) {
        self.tampered = true;
        self.hosts[to].receive(packet);
    }

    /// All packets arrive, and what they draw, a few times over.
    fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            let before = self.summary.packets;
            for side in [CLIENT, SERVER] {
                self.poll(side);
                while let Some(packet) = self.under_way[side].pop_front() {
                    self.deliver(side, packet);
                }
            }
            // The next round would be the same.
            let now = self.now;
            let busy = |host: &mut Host| host.next_deadline().is_some_and(|at| at <= now);
            if self.summary.packets == before && !self.hosts.iter_mut().any(busy) {
                break;
            }
        }
    }

    /// Nothing may keep a host busy for ever when nobody says anything to it.
    fn check_rest(&mut self) {
        for side in [CLIENT, SERVER] {
            let busy = (0..4).all(|_| {
                self.poll(side);
                self.hosts[side].next_deadline().is_some_and(|at| at <= self.now)
            });
            assert!(!busy, "host {side} has something to do for ever");
        }
    }

    // ---- the script ----

    fn act(&mut self, input: &mut Input<'_>) {
        let what = input.octet();
        match what % 32 {
            _ if what >= 224 => self.act_more(what - 224, input),
            26..=30 if self.honest => self.rounds(1 + usize::from(input.octet() % 8)),
            0..=3 => self.rounds(1 + usize::from(input.octet() % 8)),
            4 | 5 => self.connect(input),
            6..=8 => self.write(input),
            9..=11 => self.read(input),
            12 => self.shutdown(input),
            13 => self.close(input),
            14 => self.accept(),
            15 => self.listen(input),
            16 => self.option(input),
            17..=19 => self.wait(input),
            20 => self.poll(usize::from(input.octet() % 2)),
            21..=25 => self.disturb(input),
            26 | 27 => {
                let (side, at) = (input.octet(), input.octet());
                let template = self.remembered(side, at);
                if let Some((side, template)) = template
                    && let Some(packet) = forge::like(&template, input)
                {
                    self.tamper(1 - side, &packet);
                }
            }
            28 => {
                let (side, at) = (input.octet(), input.octet());
                if let Some((side, template)) = self.remembered(side, at)
                    && let Some(packet) = forge::icmp(&template, input)
                {
                    // An error goes to whom it is about, all else to whom the packet went.
                    let back = wire_source(&packet) == wire_destination(&template);
                    self.tamper(if back { side } else { 1 - side }, &packet);
                }
            }
            29 => {
                let v6 = usize::from(input.octet() & 1);
                let port = self.port(input);
                let packet = forge::stranger(ADDRESSES[SERVER][v6], port, input);
                self.tamper(SERVER, &packet);
            }
            30 => {
                let (side, v6) = (usize::from(input.octet() & 1), usize::from(input.octet() & 1));
                let packet = forge::raw(ADDRESSES[1 - side][v6], ADDRESSES[side][v6], input);
                self.tamper(side, &packet);
            }
            _ => self.talk(input),
        }
    }

    fn port(&self, input: &mut Input<'_>) -> u16 {
        let choice = usize::from(input.octet() % 8);
        ServiceName::ALL.get(choice).map_or_else(|| PORTS[choice % 2], |name| name.usual_port())
    }

    fn place(&self, input: &mut Input<'_>) -> Option<usize> {
        usize::from(input.octet()).checked_rem(self.sockets.len())
    }

    fn socket(&mut self, input: &mut Input<'_>) -> Option<&mut Socket> {
        let place = self.place(input)?;
        self.sockets.get_mut(place)
    }

    fn remembered(&self, side: u8, at: u8) -> Option<(usize, Vec<u8>)> {
        let side = usize::from(side & 1);
        let packet = self.sent[side].get(usize::from(at).checked_rem(self.sent[side].len())?)?;
        Some((side, packet.clone()))
    }

    fn connect(&mut self, input: &mut Input<'_>) {
        if self.sockets.len() >= MOST_SOCKETS {
            return;
        }
        let (v6, port) = (usize::from(input.octet() & 1), self.port(input));
        let name = ServiceName::ALL.into_iter().find(|name| name.usual_port() == port);
        let socket = TcpSocket::new(&self.hosts[CLIENT].stack());
        let remote = SocketAddr::new(ADDRESSES[SERVER][v6], port);
        if let Ok(stream) = socket.connect_nonblocking(remote) {
            let other = name.map_or(Other::Socket, Other::Service);
            self.sockets.push(Socket { stream, host: CLIENT, other, written: 0, read: 0 });
        }
        self.poll(CLIENT);
    }

    fn listen(&mut self, input: &mut Input<'_>) {
        let (what, port) = (input.octet(), input.pick(&PORTS));
        if what & 3 == 0 {
            self.listeners.clear();
        } else if self.listeners.len() < PORTS.len()
            && let Ok(socket) =
                TcpSocket::new(&self.hosts[SERVER].stack()).bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
            && let Ok(listener) = socket.listen(usize::from(what >> 2) % 5)
        {
            self.listeners.push(listener);
        }
        self.poll(SERVER);
    }

    fn accept(&mut self) {
        for listener in &self.listeners {
            if self.sockets.len() < MOST_SOCKETS
                && let Ok((stream, _)) = listener.accept()
            {
                let clients = stream.local_addr().is_ok_and(|local| ADDRESSES[CLIENT].contains(&local.ip()));
                let host = if clients { CLIENT } else { SERVER };
                self.sockets.push(Socket { stream, host, other: Other::Socket, written: 0, read: 0 });
            }
        }
    }

    fn write(&mut self, input: &mut Input<'_>) {
        let len = input.pick(&[1, 1, 10, 100, 1_000, 1_460, 4_000, 20_000]);
        let Some(socket) = self.socket(input) else { return };
        let Ok(port) = socket.client_port() else { return };
        let from = socket.written;
        let by_client = socket.host == CLIENT;
        if let Ok(taken) = socket.stream.write(octets_at(port, by_client, from, len)) {
            socket.written += taken as u64;
        }
    }

    fn read(&mut self, input: &mut Input<'_>) {
        let len = input.pick(&[1, 100, 1_000, 5_000, LONGEST]);
        let tampered = self.tampered;
        let Some(place) = self.place(input) else { return };
        self.summary.octets += self.sockets[place].read(&mut self.block[..len], tampered);
    }

    fn shutdown(&mut self, input: &mut Input<'_>) {
        let how = input.pick(&[Shutdown::Write, Shutdown::Write, Shutdown::Read, Shutdown::Both]);
        if let Some(socket) = self.socket(input) {
            let _ = socket.stream.shutdown(how);
        }
    }

    fn close(&mut self, input: &mut Input<'_>) {
        let how = input.octet();
        let Some(place) = self.place(input) else { return };
        let socket = self.sockets.swap_remove(place);
        if how & 1 != 0 {
            let _ = socket.stream.set_linger(Some(std::time::Duration::ZERO));
        }
    }

    fn option(&mut self, input: &mut Input<'_>) {
        let (what, value) = (input.octet(), input.word());
        let Some(socket) = self.socket(input) else { return };
        let stream = &socket.stream;
        let on = value & 1 != 0;
        let time = std::time::Duration::from_millis(u64::from(value));
        match what % 12 {
            0 => drop(stream.set_nodelay(on)),
            1 => stream.set_cork(on),
            2 => stream.set_quickack(on),
            3 => {
                let interval = Duration::from_millis(u64::from(value));
                let times = KeepAlive { idle: interval, interval, count: (value % 7) as u8 };
                stream.set_keepalive(on.then_some(times));
            }
            4 => stream.set_user_timeout(on.then_some(time)),
            5 => stream.set_congestion(if on { CongestionControl::Reno } else { CongestionControl::Cubic }),
            6 => stream.set_send_buffer(u32::from(value)),
            7 => stream.set_receive_buffer(u32::from(value)),
            8 => stream.set_notsent_lowat(on.then_some(u32::from(value))),
            9 => drop(stream.set_ttl(u32::from(value % 300))),
            10 => stream.set_tos(value as u8),
            _ => drop(stream.set_linger(on.then_some(time))),
        }
    }

    fn wait(&mut self, input: &mut Input<'_>) {
        let choice = input.octet();
        if choice & 128 != 0 {
            // On to when something is due.
            let next = self.hosts.iter_mut().filter_map(Host::next_deadline).min();
            self.now = next.map_or(self.now, |at| at.max(self.now));
        } else {
            const MILLIS: [u64; 16] =
                [1, 5, 10, 40, 100, 200, 250, 500, 1_000, 1_500, 3_000, 5_000, 10_000, 31_000, 61_000, 1_000_000];
            self.now += Duration::from_millis(MILLIS[usize::from(choice % 16)]);
        }
        if choice & 64 != 0 {
            self.poll(CLIENT);
            self.poll(SERVER);
        }
    }

    /// Something happens to the packets that are under way.
    fn disturb(&mut self, input: &mut Input<'_>) {
        let (what, choice) = (input.octet(), usize::from(input.octet()));
        let side = usize::from(what & 1);
        let queue = &mut self.under_way[side];
        let Some(place) = choice.checked_rem(queue.len()) else { return self.poll(side) };
        match what >> 1 & 7 {
            0 => drop(queue.remove(place)),
            1 => {
                let copy = queue[place].clone();
                queue.push_back(copy);
            }
            2 => queue.swap(0, place),
            // But for the fields of IP that none covers.
            3 if self.honest && queue[place][0] >> 4 != 4 => {}
            3 => {
                // One octet: every checksum tells.
                let (at, flip) = (usize::from(input.word()), input.octet().max(1));
                let packet = &mut queue[place];
                let len = packet.len();
                packet[at % len] ^= flip;
                // But if it was hit before, the two errors may cancel each other out in a sum.
                let told = packet[0] >> 4 == 4 && !is_sound(packet);
                if !told && self.honest {
                    packet[at % len] ^= flip;
                } else {
                    self.tampered |= !told;
                }
            }
            4 => {
                let len = usize::from(input.word());
                let packet = &mut queue[place];
                packet.truncate(1 + len % packet.len());
            }
            5 => queue.clear(),
            _ => {
                let packet = queue.remove(place);
                if let Some(packet) = packet {
                    self.deliver(side, packet);
                    self.poll(1 - side);
                }
            }
        }
    }

    /// Something that a service understands.
    fn talk(&mut self, input: &mut Input<'_>) {
        let choice = input.octet();
        let own = if choice & 32 != 0 { input.slice() } else { &[] };
        let cookie = input.octet() % 3;
        let Some(socket) = self.socket(input) else { return };
        let text: Vec<u8> = match (socket.other, choice % 16) {
            (Other::Service(ServiceName::Iperf3), 0..=5) => vec![[4, 16, 12, 13, 0, 99][usize::from(choice % 16)]],
            (Other::Service(ServiceName::Iperf3), 6..=10) => {
                let mut text = vec![b'a' + cookie; 37];
                text[36] = 0;
                text
            }
            (Other::Service(ServiceName::Iperf3), choice) => blob(match choice {
                11 => r#"{"tcp":true,"omit":0,"time":1,"parallel":1,"len":1000,"pacing_timer":1000}"#,
                12 => {
                    r#"{"tcp":true,"omit":1,"time":0,"num":5000,"parallel":1,"len":7,"reverse":true,"get_server_output":1}"#
                }
                13 => {
                    r#"{"tcp":true,"time":5,"parallel":2,"bidirectional":true,"bandwidth":80000,"burst":3,"len":1460}"#
                }
                14 => {
                    r#"{"cpu_util_total":1,"cpu_util_user":1,"cpu_util_system":0,"sender_has_retransmits":0,"streams":[]}"#
                }
                _ => r#"{"tcp":true,"parallel":500}"#,
            }),
            (Other::Service(ServiceName::Http), choice) => match choice {
                0 => &b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n"[..],
                1 => b"GET /bytes/20000 HTTP/1.1\r\nHost: a\r\n\r\n",
                2 => b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n",
                3 => b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                4 => b"5\r\nhello\r\n",
                5 => b"0\r\n\r\n",
                6 => b"PUT /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
                7 => b"HEAD /bytes/5 HTTP/1.0\r\n\r\n",
                8 => b"GET /bytes/3 HTTP/1.1\r\nHost: a\r\nContent-Length: 70\r\n\r\n",
                9 => b"GET /favicon.ico HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                10 => b"\r\n",
                11 => b"GET /nowhere HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                _ => b"x",
            }
            .to_vec(),
            _ => return,
        };
        let _ = socket.stream.write(&text).and_then(|_| socket.stream.write(own));
    }

    // ---- the end ----

    /// Everything is closed and nothing is lost any more: soon nothing is left of it.
    fn end(&mut self) {
        self.check_rest();
        self.sockets.clear();
        self.listeners.clear();
        let over = self.now + LAST_TIME;
        for round in 0.. {
            self.rounds(1);
            if self.under_way.iter().any(|queue| !queue.is_empty()) {
                continue;
            }
            let next = self.hosts.iter_mut().filter_map(Host::next_deadline).min();
            let empty = self.left() == 0;
            // The services' own clocks may go on for a while.
            let Some(next) = next.filter(|_| !empty) else { break };
            self.now = self.now.max(next);
            assert!(round < LAST_ROUNDS && self.now < over, "not over after {round} rounds, at {:?}", self.now);
        }
        for (side, host) in self.hosts.iter_mut().enumerate() {
            let counters = host.counters();
            let held = [
                ("connections", counters.connections),
                ("half-open connections", counters.half_open),
                ("orphans", counters.orphans),
                ("TIME-WAIT records", counters.time_wait),
                ("chunks of send memory", counters.send_chunks),
                ("packets held", counters.held_packets),
                ("octets held", counters.held_octets),
                ("packet buffers", host.buffers_in_use() as u64),
                ("octets in queues of sockets", host.stack().queued() as u64),
                ("frames with the device", u64::from(host.shard().awaits_completions())),
            ];
            for (what, count) in held {
                assert_eq!(count, 0, "host {side}: {what}");
            }
            for (work, bound) in BOUNDS {
                let most = counters.most_in_a_turn(work);
                assert!(most <= bound as u64, "host {side}: {most} {} in a turn", work.name());
            }
            let (begun, ended) = (counters.accepted + counters.connected, counters.closed);
            assert!(begun <= ended, "host {side}: {begun} connections, {ended} ends");
        }
        self.summary.accepted = self.hosts[SERVER].counters().accepted;
    }

    fn left(&mut self) -> u64 {
        let left = |host: &mut Host| {
            let counters = host.counters();
            // A packet that waits for the next poll is in a buffer.
            let buffers = host.buffers_in_use() as u64;
            counters.connections + counters.half_open + counters.time_wait + counters.send_chunks + buffers
        };
        self.hosts.iter_mut().map(left).sum()
    }
}

impl Socket {
    /// The port of the client's end.
    fn client_port(&self) -> std::io::Result<u16> {
        let address = if self.host == CLIENT { self.stream.local_addr() } else { self.stream.peer_addr() };
        address.map(|address| address.port())
    }

    /// Reads, and looks whether it is right. Returns how many octets there were.
    fn read(&mut self, block: &mut [u8], tampered: bool) -> u64 {
        let got = match self.stream.read(block) {
            Ok(got) => got,
            Err(error) => {
                let nothing = error.kind() == ErrorKind::WouldBlock;
                assert!(nothing || error.raw_os_error().is_some(), "no error of a socket: {error:?}");
                return 0;
            }
        };
        let right = self.check(&block[..got], tampered);
        self.read += got as u64;
        right
    }

    /// Looks whether what was read next is right. Returns how many octets there were.
    fn check(&self, octets: &[u8], tampered: bool) -> u64 {
        let (from, got) = (self.read, octets.len());
        if tampered {
            return 0;
        }
        let Ok(port) = self.client_port() else { return 0 };
        let expected = match self.other {
            Other::Service(ServiceName::Echo) => octets_at(port, true, from, got),
            Other::Service(ServiceName::Chargen) => chargen_octets_at(from, got),
            Other::Socket => octets_at(port, self.host != CLIENT, from, got),
            Other::Service(ServiceName::Discard) => &[],
            Other::Service(_) => return got as u64,
        };
        assert!(octets == expected, "wrong octets from {:?} behind the first {from}", self.other);
        if self.other == Other::Service(ServiceName::Echo) {
            assert!(from + got as u64 <= self.written, "more came back than went out");
        }
        got as u64
    }
}

fn blob(text: &str) -> Vec<u8> {
    let mut blob = (text.len() as u32).to_be_bytes().to_vec();
    blob.extend(text.as_bytes());
    blob
}

/// Whether its checksums are right.
fn is_sound(packet: &[u8]) -> bool {
    trust::wire::ip::parse(packet, true)
        .is_ok_and(|ip| trust::wire::tcp::parse(ip.payload, ip.src, ip.dst, false).is_ok())
}

fn wire_source(packet: &[u8]) -> Option<IpAddr> {
    trust::wire::ip::parse(packet, true).ok().map(|packet| packet.src)
}

fn wire_destination(packet: &[u8]) -> Option<IpAddr> {
    trust::wire::ip::parse(packet, true).ok().map(|packet| packet.dst)
}
