//! The order of accepting, with shards whose turns come late and inverted: a listener on two shards under a virtual clock,
//! and a client that opens one connection after the other.

#![allow(clippy::unwrap_used)]

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::mailbox::Reader;
use super::stack::Parts;
use super::{Mail, SocketLimits, Stack, TcpListener, TcpSocket};
use crate::buffer::frame::RxFrame;
use crate::embed::{Driver, Host};
use crate::flow::{Endpoint, Quad, ShardId};
use crate::shard::{Routes, Secrets, ShardConfig, ShardShared};
use crate::steering::{OwnerTable, SteeringKeys};
use crate::tcp::{Duration, Instant};
use crate::wire::vnet::RxOffload;
use crate::wire::{self, PROTOCOL_TCP};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));
const SHARDS: u16 = 2;

/// A packet on its way to a shard.
struct Arrival {
    /// When the shard has a turn for it.
    turn: Instant,
    packet: Vec<u8>,
}

struct World {
    now: Instant,
    clock: Arc<AtomicU64>,
    dice: fastrand::Rng,
    client: Host,
    shards: Vec<Driver>,
    arrivals: Vec<VecDeque<Arrival>>,
    shared: ShardShared,
    stack: Stack,
    /// A turn comes at most so late.
    late: Duration,
}

impl World {
    fn new(seed: u64, late: Duration) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let secrets = Secrets { isn: [2; 16], flows: [3; 16], ports: seed, cookies: [5; 16] };
        let keys = SteeringKeys::from_random([seed as u8; 16]);
        let shared = ShardShared::new(keys, Arc::new(OwnerTable::in_memory(SHARDS)), &secrets);
        let mail = || Arc::new(Mail::new(Reader::Embedder { waker: None, independent: false }));
        let clock = Arc::new(AtomicU64::new(now.as_nanos()));
        let time = Arc::clone(&clock);
        let stack = Stack::new(Parts {
            mails: (0..SHARDS).map(|_| mail()).collect(),
            addresses: vec![SERVER],
            keys: shared.keys,
            owners: Arc::clone(&shared.owners),
            now: Arc::new(move || Instant::from_nanos(time.load(Ordering::Relaxed))),
            limits: SocketLimits::default(),
            seed,
            routes: Routes::default(),
            service_ports: HashSet::new(),
        });
        let shard = |id| {
            let config = ShardConfig { id: ShardId(id), shards: SHARDS, ..ShardConfig::sole(vec![SERVER]) };
            let mut driver = Driver::new(config, shared.clone(), 64, 256, now).unwrap();
            driver.shard.add_service(None, Box::new(stack.agent(ShardId(id))));
            driver
        };
        Self {
            now,
            clock,
            dice: fastrand::Rng::with_seed(seed),
            client: Host::builder().address(CLIENT).seed(seed).build(now).unwrap(),
            shards: (0..SHARDS).map(shard).collect(),
            arrivals: (0..SHARDS).map(|_| VecDeque::new()).collect(),
            shared,
            stack,
            late,
        }
    }

    /// The client does what it can; its packets go to their owners, who are late.
    fn poll_client(&mut self) {
        let Self { client, arrivals, shared, dice, now, late, .. } = self;
        client.poll(*now, |packet| {
            let ip = wire::ip::parse(packet, true).unwrap();
            assert_eq!(ip.protocol, PROTOCOL_TCP);
            let (header, _) = wire::tcp::parse(ip.payload, ip.src, ip.dst, false).unwrap();
            let quad = Quad {
                local: Endpoint { addr: ip.dst, port: header.dst_port },
                remote: Endpoint { addr: ip.src, port: header.src_port },
            };
            let queue = &mut arrivals[shared.owner(&quad).index()];
            let turn = *now + Duration::from_micros(dice.u64(0..=late.as_nanos() / 1_000));
            // Packets of a shard stay in order.
            let turn = queue.back().map_or(turn, |before: &Arrival| before.turn.max(turn));
            queue.push_back(Arrival { turn, packet: packet.to_vec() });
        });
    }

    /// Time goes on to the next turn of a shard, which has it.
    fn step(&mut self) {
        let next = (0..self.shards.len()).filter(|shard| !self.arrivals[*shard].is_empty());
        let next = next.min_by_key(|shard| self.arrivals[*shard][0].turn);
        match next {
            Some(index) => {
                self.now = self.now.max(self.arrivals[index][0].turn);
                self.turn(index);
            }
            None => {
                self.now += Duration::from_micros(100);
                (0..self.shards.len()).for_each(|index| self.turn(index));
            }
        }
        self.clock.store(self.now.as_nanos(), Ordering::Relaxed);
        self.poll_client();
    }

    fn turn(&mut self, index: usize) {
        let (driver, queue) = (&mut self.shards[index], &mut self.arrivals[index]);
        driver.shard.begin_turn(self.now);
        driver.shard.deliver_mail();
        while queue.front().is_some_and(|arrival| arrival.turn <= self.now) {
            let Some(Arrival { packet, .. }) = queue.pop_front() else { break };
            let mut buffer = driver.buffer();
            buffer.storage_mut()[..packet.len()].copy_from_slice(&packet);
            buffer.set_range(0, packet.len());
            driver.receive(RxFrame { packet: buffer, offload: RxOffload::default(), refusal: None });
        }
        driver.finish_turn();
        let client = &mut self.client;
        let take = |frame: &crate::buffer::frame::TxFrame, _: &_| -> Result<bool, ()> {
            assert!(client.receive(frame.header()), "handshakes have no payload");
            Ok(true)
        };
        driver.drain(take, |shard, completion| shard.complete(completion)).unwrap();
    }

    fn listen(&mut self) -> TcpListener {
        let listener = self.stack.bind((SERVER, 80)).unwrap();
        (0..self.shards.len()).for_each(|index| self.turn(index));
        listener
    }
}

/// Opens connections one after the other, each when the one before is open for the client, and accepts all the while. The
/// places that they have got in the order of accepting, and how often one was held back for another.
fn accept_order(seed: u64, late: Duration) -> (Vec<usize>, usize) {
    const CONNECTIONS: usize = 12;
    let mut world = World::new(seed, late);
    let listener = world.listen();
    let (mut opened, mut accepted, mut held) = (Vec::new(), Vec::new(), 0);
    for _ in 0..10_000 {
        let open = opened.last().is_none_or(|stream: &super::TcpStream| stream.peer_addr().is_ok());
        if open && opened.len() < CONNECTIONS {
            let remote = SocketAddr::new(SERVER, 80);
            opened.push(TcpSocket::new(&world.client.stack()).connect_nonblocking(remote).unwrap());
            world.poll_client();
        }
        world.step();
        while let Ok((_, from)) = listener.accept() {
            accepted.push(opened.iter().position(|stream| stream.local_addr().unwrap() == from).unwrap());
        }
        held += usize::from(listener.listening().is_ready());
        if accepted.len() == CONNECTIONS {
            return (accepted, held);
        }
    }
    panic!("seed {seed}: {accepted:?} of {} opened", opened.len());
}

#[test]
fn connections_are_accepted_as_they_were_opened_whichever_shard_is_late() {
    let mut held = 0;
    for seed in 0..200 {
        let (accepted, held_here) = accept_order(seed, Duration::from_micros(1_900));
        assert!(accepted.is_sorted(), "seed {seed}: {accepted:?}");
        held += held_here;
    }
    assert!(held > 50, "held back only {held} times: no shard was late in earnest");
}

/// Beyond the patience the order may suffer, and nothing else does.
#[test]
fn none_is_lost_or_held_for_long_when_a_shard_is_later_than_that() {
    let mut sorted = 0;
    for seed in 0..200 {
        let (mut accepted, _) = accept_order(seed, Duration::from_millis(20));
        sorted += usize::from(accepted.is_sorted());
        accepted.sort_unstable();
        assert!(accepted.iter().copied().eq(0..accepted.len()), "seed {seed}: {accepted:?}");
    }
    assert!(sorted < 200, "the delays tell the two tests apart");
}
