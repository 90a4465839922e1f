//! Rules about the inside of a host turn red: a host whose caps are below what it holds, an application that expects
//! other octets, a service that never lets a turn end.
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;

use super::*;
use crate::shard::{Io, Service};
use crate::sim::stages::{Chosen, Split};
use crate::sim::{Failure, HostId, Stage, World};
use crate::tcp::CloseReason;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// A world in which a client sends 1 MB and the server expects stream `expected`; it reads slowly.
fn world(expected: u64) -> (World, HostId, HostId) {
    world_with(expected, Limits { held_packets: 32, held_octets: 64 << 20, ..Limits::default() }, vec![])
}

/// The same with limits of the server, over a link with these stages.
fn world_with(expected: u64, limits: Limits, stages: Vec<Box<dyn Stage>>) -> (World, HostId, HostId) {
    let mut world = World::new(3);
    let now = world.now();
    let plan = Plan { stream: 1, send: 1 << 20, ..Plan::default() };
    let pause = Some((100_000, Duration::from_secs(1)));
    let back = Plan { peer_stream: expected, expect: 1 << 20, read_pause: pause, ..Plan::default() };
    let mut client = ShardHost::new(ShardHostConfig::new(CLIENT, 1), now).unwrap();
    let mut server = ShardHost::new(ShardHostConfig { limits, ..ShardHostConfig::new(SERVER, 2) }, now).unwrap();
    client.open(now, Endpoint::new(IpAddr::V4(SERVER), 7), plan);
    server.listen(7, back);
    let (client, server) = (world.add_host("client", client), world.add_host("server", server));
    world.add_link(client, server, stages);
    world.add_link(server, client, vec![]);
    (world, client, server)
}

fn rule(result: Result<(), Failure>) -> Rule {
    result.unwrap_err().violation.rule
}

#[test]
fn byte_exact() {
    world(1).0.run(100_000).unwrap();
    let failure = world(2).0.run(100_000).unwrap_err();
    assert_eq!(failure.violation.rule, Rule::ByteExact);
    let text = failure.to_string();
    assert!(text.contains("world 3: ByteExact") && text.contains("length 14480"), "{text}");
}

#[test]
fn ops_46_memory_cap() {
    let lower: [fn(&mut ShardHostConfig); 4] = [
        |config| config.limits.held_packets = 0,
        |config| config.limits.connections = 0,
        |config| config.send_chunks = 0,
        |_| {},
    ];
    for (n, lower) in lower.iter().enumerate() {
        let (mut world, client, server) = world(1);
        world.run_for(Duration::from_millis(10)).unwrap();
        for host in [client, server] {
            lower(&mut world.host::<ShardHost>(host).unwrap().config);
        }
        let result = world.run(100_000);
        assert_eq!(result.is_err(), n < 3, "cap {n}: {result:?}");
        assert!(n == 3 || rule(result) == Rule::MemoryCap);
    }
}

/// A server so short of memory that it refuses what lies behind a gap; and the same, thought to have plenty.
#[test]
fn refused() {
    for thought in [64 << 10, 64 << 20] {
        let limits = Limits { held_packets: 0, held_octets: 64 << 10, ..Limits::default() };
        let lost = Chosen::new(|n, _| n % 20 == 10);
        let (mut world, _, server) = world_with(1, limits, vec![Box::new(Split), Box::new(lost)]);
        world.host::<ShardHost>(server).unwrap().config.limits.held_octets = thought;
        let result = world.run(100_000);
        assert!(world.host::<ShardHost>(server).unwrap().counters().payload_refused > 0);
        assert_eq!(
            result.map_err(|failure| failure.violation.rule),
            if thought > limits.held_octets { Err(Rule::Refused) } else { Ok(()) }
        );
    }
}

#[test]
fn leak() {
    let (mut world, client, _) = world(1);
    world.run_for(Duration::from_millis(10)).unwrap();
    let early = world.host::<ShardHost>(client).unwrap().check_empty();
    assert_eq!(early.unwrap_err().rule, Rule::Leak);
    world.run(100_000).unwrap();
    world.host::<ShardHost>(client).unwrap().check_empty().unwrap();
}

#[test]
fn timer_armed() {
    let (mut world, client, server) = world(1);
    world.run_for(Duration::from_millis(10)).unwrap();
    let host = world.host::<ShardHost>(client).unwrap();
    let info = *host.infos().next().unwrap();
    assert!(info.queued > 0, "the reader has stalled");
    assert_eq!(owes(State::Established, Some(&info)), Some("octets unsent"));
    assert_eq!(owes(State::CloseWait, Some(&Info { flight: 1, ..info })), Some("octets in flight"));
    assert_eq!(owes(State::LastAck, None), Some("a FIN"));
    assert_eq!(owes(State::SynSent, None), Some("a SYN"));
    let idle = *world.host::<ShardHost>(server).unwrap().infos().next().unwrap();
    assert_eq!(owes(State::Established, Some(&idle)), None);
    // With its timers taken away, that connection is found out.
    let host = world.host::<ShardHost>(client).unwrap();
    let id = host.driver.shard.connections().next().unwrap().0;
    assert!(host.driver.shard.timer(id).is_some() && host.check().is_ok());
    host.driver.shard.disarm(id);
    assert_eq!(host.check().unwrap_err().rule, Rule::TimerArmed);
}

/// Asks to be called again at once, and again.
struct Restless;

impl Service for Restless {
    fn readable(&mut self, _: &mut dyn Io, _: ConnId) {}

    fn closed(&mut self, io: &mut dyn Io, _: ConnId, _: CloseReason) {
        io.set_timer(io.now(), 0);
    }

    fn timer(&mut self, io: &mut dyn Io, _: u64) {
        io.set_timer(io.now(), 0);
    }
}

#[test]
fn livelock() {
    let (mut world, client, _) = world(1);
    let now = world.now();
    let host = world.host::<ShardHost>(client).unwrap();
    let service = host.driver.shard.add_service(None, Box::new(Restless));
    // There is no way to an IPv6 address: the service hears `closed` at once.
    host.opens.push((now, service, Endpoint::new(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 7)));
    assert_eq!(rule(world.run(100)), Rule::Livelock);
}

/// Sends much, so that it may send much at a time, and wakes the shard two seconds later.
struct Bulk;

impl Service for Bulk {
    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        io.send(conn, &[7; 200_000]);
        io.set_timer(io.now() + Duration::from_secs(2), 0);
    }

    fn readable(&mut self, _: &mut dyn Io, _: ConnId) {}

    fn closed(&mut self, _: &mut dyn Io, _: ConnId, _: CloseReason) {}
}

/// What lies in hundreds of blocks leaves in segments that fit the tx ring, however small it is: no octet is lost on the
/// way to it, and no lease.
#[test]
fn what_lies_in_many_small_blocks_leaves_in_segments_that_fit_the_ring() {
    for mtu in [1_500, 16_000] {
        let mut world = World::new(5);
        let now = world.now();
        let config = |addr| ShardHostConfig { mtu, tx_ring: 32, ..ShardHostConfig::new(addr, 5) };
        let mut client = ShardHost::new(config(CLIENT), now).unwrap();
        let mut server = ShardHost::new(config(SERVER), now).unwrap();
        server.driver.shard.add_service(Some(9), Box::new(crate::services::discard::Discard));
        let bulk = client.driver.shard.add_service(None, Box::new(Bulk));
        client.opens.push((now, bulk, Endpoint::new(IpAddr::V4(SERVER), 9)));
        let (client, server) = (world.add_host("client", client), world.add_host("server", server));
        world.add_link(client, server, vec![]);
        world.add_link(server, client, vec![]);
        world.run_for(Duration::from_secs(1)).unwrap();
        let shard = &mut world.host::<ShardHost>(client).unwrap().driver.shard;
        let id = shard.connections().next().unwrap().0;
        assert_eq!(shard.counters().send_octets, 0, "all is acknowledged");
        shard.send_in_smallest_blocks(id, 200_192);
        assert_eq!(shard.counters().send_octets, 200_192);
        world.run_for(Duration::from_secs(10)).unwrap();
        assert_eq!(world.host::<ShardHost>(server).unwrap().counters().payload_in, 400_192);
        let client = world.host::<ShardHost>(client).unwrap();
        let counters = client.counters();
        assert_eq!((counters.retransmits, counters.send_octets), (0, 0), "{counters:?}");
        assert!(!client.driver.shard.awaits_completions());
    }
}

#[test]
fn an_isn_is_steered() {
    for seed in 0..20 {
        let mut config = ShardHostConfig::new(CLIENT, seed);
        let remote = Endpoint::new(IpAddr::V4(SERVER), 7);
        let world = World::new(seed);
        let at = world.now();
        let port = config.steer_first_isn(remote, at, SeqNum(u32::MAX - 5)).unwrap();
        let mut client = ShardHost::new(config, at).unwrap();
        client.open(at, remote, Plan::default());
        let mut out = Vec::new();
        client.poll(at, &mut out);
        let view = out[0].view().unwrap();
        assert_eq!((view.src.port, view.header.seq), (port, u32::MAX - 5));
    }
}
