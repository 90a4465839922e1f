//! Two shards over one link: everything arrives, and a seed replays to the same history.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};

use super::stages::{Delay, Loss, Split};
use super::*;
use crate::flow::Endpoint;
use crate::tcp::{CloseReason, Duration};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// A client and a server that move octets both ways, over links that lose `loss` of the packets.
fn transfer(seed: u64, loss: f64, octets: u64) -> (u64, String, [Report; 2]) {
    let mut world = World::new(seed);
    let now = world.now();
    let plan = Plan { send: octets, expect: octets / 2, ..Plan::default() };
    let back = Plan { stream: 2, peer_stream: 1, send: octets / 2, expect: octets, ..Plan::default() };
    let mut client = ShardHost::new(ShardHostConfig::new(CLIENT, seed), now).unwrap();
    let mut server = ShardHost::new(ShardHostConfig::new(SERVER, !seed), now).unwrap();
    let opened = client.open(now, Endpoint::new(IpAddr::V4(SERVER), 7), plan);
    let accepted = server.listen(7, back);
    let (client, server) = (world.add_host("client", client), world.add_host("server", server));
    for (from, to) in [(client, server), (server, client)] {
        let (first, second) = (world.fork_rng(), world.fork_rng());
        let delay = Delay::new(Duration::from_millis(5), Duration::from_micros(300), false, second);
        world.add_link(from, to, vec![Box::new(Split), Box::new(Loss::new(loss, first)), Box::new(delay)]);
    }
    world.run(1_000_000).unwrap();
    for host in [client, server] {
        world.host::<ShardHost>(host).unwrap().check_empty().unwrap();
    }
    (world.trace().hash(), world.trace().to_string(), [opened.read(), accepted.read()])
}

#[test]
fn everything_arrives() {
    for (seed, loss) in [(1, 0.0), (2, 0.01), (3, 0.1)] {
        let (_, trace, [client, server]) = transfer(seed, loss, 1 << 20);
        assert_eq!((client.sent, server.received), (1 << 20, 1 << 20), "{trace}");
        assert_eq!((server.sent, client.received), (1 << 19, 1 << 19), "{trace}");
        assert!(client.eof && server.eof);
        assert_eq!((client.closed, server.closed), (Some(CloseReason::Normal), Some(CloseReason::Normal)), "{trace}");
    }
}

#[test]
fn a_seed_replays_to_the_same_history() {
    let (hash, trace, _) = transfer(11, 0.05, 1 << 18);
    let (again, same, _) = transfer(11, 0.05, 1 << 18);
    assert_eq!((hash, trace), (again, same));
    assert_ne!(hash, transfer(12, 0.05, 1 << 18).0);
}

/// Two hosts that send whatever they get back.
fn mirrors() -> World {
    let mut world = World::new(77);
    let start = world.now();
    let mut first = true;
    let mirror = move |_, input, out: &mut Vec<Packet>| {
        if let host::Input::Packet(packet) = input {
            out.push(packet);
        } else if std::mem::take(&mut first) {
            out.push(Packet::tcp(CLIENT, SERVER, &crate::wire::tcp::TcpHeader::default(), b"x"));
        }
        None
    };
    let hosts = [ScriptedHost::new(CLIENT, Some(start), mirror), ScriptedHost::new(SERVER, None, mirror)];
    let [a, b] = hosts.map(|host| world.add_host("mirror", host));
    let rng = world.fork_rng();
    world.add_link(a, b, vec![Box::new(Delay::new(Duration::from_millis(1), Duration::ZERO, false, rng))]);
    world.add_link(b, a, vec![]);
    world
}

#[test]
fn a_world_that_never_ends_is_ended() {
    let failure = mirrors().run(100).unwrap_err();
    assert_eq!(failure.violation.rule, Rule::NeverEnds);
    assert_eq!(failure.seed, 77);
}

#[test]
fn time_passes_as_far_as_it_is_asked_to() {
    let mut world = mirrors();
    let start = world.now();
    world.run_for(Duration::from_micros(10_500)).unwrap();
    assert_eq!(world.now().saturating_since(start), Duration::from_micros(10_500));
    assert_eq!(world.trace().to_string().matches(" in  ").count(), 20, "ten round trips");
}
