//! Whatever there is much of, a turn does a bounded part of it, and all is done in the end: a crowd of each kind of work.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use trust::flow::Endpoint;
use trust::shard::budget::{self, Work};
use trust::shard::{ConnId, ConnectOptions, Io, Limits, Service, ShardConfig};
use trust::tcp::{CloseReason, Duration};
use trust::wire::tcp::Flags;

use crate::rig::{self, OURS, Peer, Rig};

const CROWD: usize = 10_000;
const PORT: u16 = 7;

static BLOCK: [u8; 2_048] = [7; 2_048];

type Order = Box<dyn FnOnce(&mut dyn Io, &[ConnId]) + Send>;

/// What the service and its test share.
#[derive(Clone, Default)]
struct Shared {
    orders: Arc<Mutex<VecDeque<Order>>>,
    timers: Arc<AtomicUsize>,
    writable: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

impl Shared {
    fn order(&self, order: impl FnOnce(&mut dyn Io, &[ConnId]) + Send + 'static) {
        self.orders.lock().unwrap().push_back(Box::new(order));
    }
}

struct Crowd {
    shared: Shared,
    conns: Vec<ConnId>,
}

impl Service for Crowd {
    fn accepted(&mut self, _: &mut dyn Io, conn: ConnId) {
        self.conns.push(conn);
    }
    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        io.consume(conn, io.unread(conn));
    }
    fn writable(&mut self, _: &mut dyn Io, _: ConnId) {
        self.shared.writable.fetch_add(1, Ordering::Relaxed);
    }
    fn closed(&mut self, _: &mut dyn Io, _: ConnId, _: CloseReason) {
        self.shared.closed.fetch_add(1, Ordering::Relaxed);
    }
    fn timer(&mut self, _: &mut dyn Io, _: u64) {
        self.shared.timers.fetch_add(1, Ordering::Relaxed);
    }
    fn wants_mail(&self) -> bool {
        true
    }
    fn has_mail(&self) -> bool {
        !self.shared.orders.lock().unwrap().is_empty()
    }
    fn mail(&mut self, io: &mut dyn Io) {
        let order = self.shared.orders.lock().unwrap().pop_front();
        order.unwrap()(io, &self.conns);
    }
}

fn peer(index: usize) -> Peer {
    let [_, _, a, b] = (index as u32).to_be_bytes();
    Peer { addr: Ipv4Addr::new(10, 8, a, b).into(), ..Peer::new(1_000, PORT) }
}

/// A shard with a crowd's service, and so many connections.
fn crowd(connections: usize) -> (Rig, Shared, Vec<Peer>) {
    let plenty = |config: &mut ShardConfig| {
        config.limits = Limits { half_open: 2 * CROWD, orphans: 2 * CROWD, ..Limits::default() };
    };
    let mut rig = Rig::with(plenty, 4_096, 32_768);
    let shared = Shared::default();
    rig.shard.add_service(Some(PORT), Box::new(Crowd { shared: shared.clone(), conns: Vec::new() }));
    let mut peers: Vec<Peer> = (0..connections).map(peer).collect();
    peers.iter_mut().for_each(|peer| peer.open(&mut rig));
    rig.sent.clear();
    rig.blind = true;
    (rig, shared, peers)
}

/// A turn in which the service reads its mail.
fn turn(rig: &mut Rig) {
    rig.begin();
    rig.shard.deliver_mail();
    rig.finish();
}

/// Turns until there is nothing left to do at once; how many.
fn turns(rig: &mut Rig) -> usize {
    for turns in 1..100_000 {
        turn(rig);
        let due = rig.shard.next_deadline().is_some_and(|at| at <= rig.now);
        if !due && !rig.shard.has_work() && !rig.shard.has_mail() {
            return turns;
        }
    }
    panic!("no end");
}

/// No turn did more of it than it may, and some did as much.
fn assert_bounded(rig: &mut Rig, work: Work, bound: usize) {
    assert_eq!(rig.counters().most_in_a_turn(work), bound as u64, "{work:?}");
}

#[test]
fn commands_of_applications() {
    let (mut rig, shared, _) = crowd(0);
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..CROWD {
        let done = Arc::clone(&done);
        shared.order(move |_, _| _ = done.fetch_add(1, Ordering::Relaxed));
    }
    turn(&mut rig);
    assert_eq!(done.load(Ordering::Relaxed), budget::MAIL);
    turns(&mut rig);
    assert_eq!(done.load(Ordering::Relaxed), CROWD);
    assert_bounded(&mut rig, Work::Mail, budget::MAIL);
}

#[test]
fn timers_of_services() {
    let (mut rig, shared, _) = crowd(0);
    shared.order(|io, _| {
        let at = io.now() + Duration::from_millis(5);
        (0..CROWD as u64).for_each(|token| io.set_timer(at, token));
    });
    turns(&mut rig);
    rig.now += Duration::from_millis(5);
    turn(&mut rig);
    assert_eq!(shared.timers.load(Ordering::Relaxed), budget::SERVICE_TIMERS);
    turns(&mut rig);
    assert_eq!(shared.timers.load(Ordering::Relaxed), CROWD);
    assert_bounded(&mut rig, Work::ServiceTimers, budget::SERVICE_TIMERS);
}

/// Retransmissions of a crowd whose peers have all gone at once.
#[test]
fn timers_and_what_they_send() {
    let (mut rig, shared, _) = crowd(CROWD);
    // Static octets, which take no memory.
    shared.order(|io, conns| conns.iter().for_each(|conn| assert_eq!(io.send_static(*conn, &BLOCK), BLOCK.len())));
    rig.frames_out = 0;
    turns(&mut rig);
    assert!(rig.frames_out >= CROWD as u64);
    assert_bounded(&mut rig, Work::Connections, budget::CONNECTIONS);
    // Far beyond the first of their timers, and before the second. Not so far that the shard would think it had been away.
    rig.now += Duration::from_millis(900);
    let before = rig.frames_out;
    turn(&mut rig);
    assert!(rig.frames_out - before <= 2 * budget::TIMERS as u64);
    turns(&mut rig);
    assert!(rig.frames_out >= before + CROWD as u64, "{} of {CROWD}", rig.frames_out - before);
    assert_bounded(&mut rig, Work::Timers, budget::TIMERS);
}

#[test]
fn time_wait_records() {
    let (mut rig, shared, mut peers) = crowd(CROWD);
    shared.order(|io, conns| conns.iter().for_each(|conn| io.close(*conn)));
    turns(&mut rig);
    for peer in &mut peers {
        peer.ack = peer.ack.wrapping_add(1);
        let fin = peer.fin();
        rig.turn(&[fin]);
    }
    turns(&mut rig);
    assert_eq!((rig.counters().time_wait, rig.counters().connections), (CROWD as u64, 0));
    rig.now += Duration::from_secs(61);
    turn(&mut rig);
    assert_eq!(rig.counters().time_wait, (CROWD - budget::TIME_WAIT) as u64);
    turns(&mut rig);
    assert_eq!(rig.counters().time_wait, 0);
    assert_bounded(&mut rig, Work::TimeWait, budget::TIME_WAIT);
}

#[test]
fn calls_that_services_asked_for() {
    let (mut rig, shared, _) = crowd(CROWD);
    shared.order(|io, conns| {
        for conn in conns {
            io.call_again(*conn);
            io.call_again(*conn);
        }
    });
    let taken = turns(&mut rig);
    assert_eq!(shared.writable.load(Ordering::Relaxed), CROWD, "one each");
    assert!(taken >= CROWD / budget::CALLS_AGAIN);
    assert_bounded(&mut rig, Work::CallsAgain, budget::CALLS_AGAIN);
}

#[test]
fn half_open_connections_of_a_listener_that_is_closed() {
    let (mut rig, shared, _) = crowd(0);
    let local = Endpoint::new(IpAddr::V4(OURS), 80);
    shared.order(move |io, _| io.listen(local, 2 * CROWD as u32, 1).unwrap());
    turns(&mut rig);
    for index in 0..CROWD {
        let peer = Peer { service_port: 80, ..peer(index) };
        rig.turn(&[peer.syn()]);
    }
    assert_eq!(rig.counters().half_open, CROWD as u64);
    shared.order(move |io, _| io.unlisten(local));
    turn(&mut rig);
    assert_eq!(rig.counters().resets_out, budget::RESETS as u64);
    turns(&mut rig);
    let counters = rig.counters();
    assert_eq!((counters.resets_out, counters.half_open, counters.connections), (CROWD as u64, 0, 0));
    assert_bounded(&mut rig, Work::Resets, budget::RESETS);
}

/// Each place is looked at once, whatever the tx ring takes at a time.
#[test]
fn connections_that_are_reset_at_the_end() {
    let (mut rig, shared, _) = crowd(CROWD);
    let mut calls = 0;
    while !rig.shard.reset_connections() {
        calls += 1;
        turn(&mut rig);
        assert!(calls < 1_000);
    }
    turns(&mut rig);
    assert_eq!((rig.counters().resets_out, shared.closed.load(Ordering::Relaxed)), (CROWD as u64, CROWD));
    assert!(rig.counters().most_in_a_turn(Work::Places) <= budget::PLACES as u64);
    assert!(calls <= CROWD.div_ceil(budget::PLACES), "{calls} calls");
}

/// With a ring that takes 64 at a time.
#[test]
fn resets_go_on_where_the_ring_was_full() {
    const SOME: usize = 2_000;
    let mut rig = Rig::with(|_| {}, 64, 128);
    let shared = Shared::default();
    rig.shard.add_service(Some(PORT), Box::new(Crowd { shared: shared.clone(), conns: Vec::new() }));
    (0..SOME).for_each(|index| peer(index).open(&mut rig));
    rig.sent.clear();
    let mut calls = 0;
    while !rig.shard.reset_connections() {
        calls += 1;
        rig.turn(&[]);
        assert!(calls < SOME);
    }
    rig.settle();
    assert_eq!(rig.sent.iter().filter(|sent| sent.has(Flags::RST)).count(), SOME);
    assert!(calls > SOME / 128, "{calls}");
}

/// To open one more costs a few looks at ports, whether all are free, nearly none or none.
#[test]
fn ports_for_connections_to_one_destination() {
    const PORTS: usize = 32_768;
    let plenty = |config: &mut ShardConfig| config.limits = Limits { connections: PORTS + 10, ..Limits::default() };
    let mut rig = Rig::with(plenty, 64, 1_024);
    rig.blind = true;
    let shared = Shared::default();
    let service = rig.shard.add_service(None, Box::new(Crowd { shared: shared.clone(), conns: Vec::new() }));
    let remote = Endpoint::new(IpAddr::V4(rig::PEER), 80);
    let open = |rig: &mut Rig| {
        let before = rig.counters().ports_tried;
        let conn = rig.shard.connect(service, remote);
        (conn, rig.counters().ports_tried - before)
    };
    let (mut conns, mut most, mut sum) = (Vec::new(), 0, 0);
    for opened in 0..PORTS {
        let (conn, tried) = open(&mut rig);
        conns.push(conn.unwrap_or_else(|| panic!("no port after {opened}")));
        (most, sum) = (most.max(tried), sum + tried);
        if opened % 256 == 0 {
            rig.turn(&[]);
        }
    }
    println!("at most {most} looks for one, {} for all", sum);
    assert!(most <= 700 && sum < 3 * PORTS as u64, "{most} {sum}");
    for _ in 0..10 {
        let (conn, tried) = open(&mut rig);
        assert!(conn.is_none() && tried <= 2, "{conn:?} after {tried} looks");
    }
    // One comes free, wherever it is.
    for place in [7_000, 3, 32_767, 20_000] {
        let port = rig.shard.connections().find(|(id, ..)| *id == conns[place]).unwrap().1.local.port;
        let conn = conns[place];
        shared.order(move |io, _| io.abort(conn));
        turn(&mut rig);
        let (conn, tried) = open(&mut rig);
        conns[place] = conn.unwrap();
        assert!(tried <= 2, "{tried} looks");
        let quad = rig.shard.connections().find(|(id, ..)| Some(*id) == conn).unwrap().1;
        assert_eq!(quad.local.port, port);
        assert!(open(&mut rig).0.is_none());
    }
}

/// The same where few are used, and all of these lie where the choice begins.
#[test]
fn ports_behind_a_run_of_used_ones() {
    const RUN: u16 = 1_000;
    let (mut rig, shared, _) = crowd(0);
    let remote = Endpoint::new(IpAddr::V4(rig::PEER), 80);
    let opened = Arc::new(Mutex::new(Vec::new()));
    let open = |rig: &mut Rig, port: u16| {
        let opened = Arc::clone(&opened);
        let before = rig.counters().ports_tried;
        shared.order(move |io, _| {
            let local = Some(Endpoint::new(IpAddr::V4(OURS), port));
            let conn = io.connect(remote, &ConnectOptions { local, ..ConnectOptions::default() }).unwrap();
            opened.lock().unwrap().push(io.quad(conn).local.port);
        });
        turn(rig);
        rig.counters().ports_tried - before
    };
    open(&mut rig, 0);
    let first = opened.lock().unwrap()[0];
    assert!(first < u16::MAX - 2 * RUN, "or the run would wrap");
    (1..=RUN).for_each(|behind| assert_eq!(open(&mut rig, first + behind), 0));
    let tried = open(&mut rig, 0);
    let taken = *opened.lock().unwrap().last().unwrap();
    assert!(taken < first || taken > first + RUN);
    assert!(tried <= 2 * 64, "{tried} looks");
}
