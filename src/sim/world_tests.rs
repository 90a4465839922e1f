//! Two shards over one link: everything arrives, and a seed replays to the same history.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};

use super::gro::Gro;
use super::stages::{Chosen, Corrupt, Delay, Detour, Duplicate, Loss, Meanwhile, Outage, Reorder, Split};
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

/// How many directions of a transfer are held to the losses alone, over a link with these stages there and back.
fn held(there: Vec<Box<dyn Stage>>, back: Vec<Box<dyn Stage>>) -> usize {
    let mut world = World::new(4);
    let now = world.now();
    let plan = Plan { send: 1 << 20, ..Plan::default() };
    let mut client = ShardHost::new(ShardHostConfig::new(CLIENT, 1), now).unwrap();
    let mut server = ShardHost::new(ShardHostConfig::new(SERVER, 2), now).unwrap();
    client.open(now, Endpoint::new(IpAddr::V4(SERVER), 7), plan);
    server.listen(7, Plan { stream: 2, peer_stream: 1, expect: 1 << 20, ..Plan::default() });
    let (client, server) = (world.add_host("client", client), world.add_host("server", server));
    let delay = |world: &mut World| Delay::new(Duration::from_millis(5), Duration::ZERO, false, world.fork_rng());
    let lost = Chosen::new(|n, _| n % 50 == 40);
    let mut stages: Vec<Box<dyn Stage>> = vec![Box::new(Split), Box::new(lost), Box::new(delay(&mut world))];
    stages.extend(there);
    world.add_link(client, server, stages);
    let mut stages: Vec<Box<dyn Stage>> = vec![Box::new(delay(&mut world))];
    stages.extend(back);
    world.add_link(server, client, stages);
    world.run(1_000_000).unwrap();
    world.invariants().resent().filter(|(resent, _)| *resent > 10).count()
}

/// The rule about what is sent again knows of everything that a link does besides losing on the way there.
#[test]
fn only_losses_on_the_way_there_are_nothing_but_losses() {
    type Make = fn() -> Box<dyn Stage>;
    let after = |millis| World::new(4).now() + Duration::from_millis(millis);
    let outage = move |from, until| (after(from), after(until));
    let orderly: [Make; 2] = [
        || Box::new(Delay::new(Duration::from_millis(1), Duration::from_millis(1), false, Rng::with_seed(1))),
        || Box::new(Gro::new(Duration::from_micros(50))),
    ];
    let unruly: [Make; 5] = [
        || Box::new(Delay::new(Duration::from_millis(1), Duration::from_millis(1), true, Rng::with_seed(1))),
        || Box::new(Reorder::new(0.1, 3, Duration::from_millis(1), Rng::with_seed(1))),
        || Box::new(Detour::new(0.1, Duration::from_millis(1), Rng::with_seed(1))),
        || Box::new(Duplicate::new(0.1, Duration::from_millis(1), Rng::with_seed(1))),
        || Box::new(Corrupt::new(0.1, Rng::with_seed(1))),
    ];
    assert_eq!(held(vec![], vec![]), 1);
    for make in orderly {
        assert_eq!((held(vec![make()], vec![]), held(vec![], vec![make()])), (1, 1), "{:?}", make());
    }
    for make in unruly {
        assert_eq!((held(vec![make()], vec![]), held(vec![], vec![make()])), (0, 0), "{:?}", make());
    }
    assert_eq!(held(vec![], vec![Box::new(Chosen::nth(&[30]))]), 0, "an acknowledgment is lost");
    // What is kept first comes last, where one outage lies within another.
    let kept = |windows| Box::new(Outage::new(windows, Meanwhile::Kept)) as Box<dyn Stage>;
    assert_eq!(held(vec![kept(vec![outage(20, 200)])], vec![]), 1);
    assert_eq!(held(vec![kept(vec![outage(40, 100), outage(20, 200)])], vec![]), 0);
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
