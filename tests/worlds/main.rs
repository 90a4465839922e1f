//! Random worlds: real shards over bad links, every octet compared, the rules of `sim::Invariants` held after every
//! event.
//!
//! * `TRUST_WORLDS=n`: how many worlds (default 300).
//! * `TRUST_WORLDS_FROM=n`: seed of the first (default 0).
//! * `TRUST_WORLD_SEED=n`: only that one, with its whole trace (give the name of one test, and `-- --nocapture`).
//! * `TRUST_WORLD_PCAP=path`: beside it, that one as a pcapng file.
//!
//! A long run prints where it is, and each seed that fails with the line that replays it, as soon as it has failed.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod capture;
mod capture_tests;
mod coverage;
mod recipe;
mod smoltcp_host;
#[path = "../smoltcp_wire/mod.rs"]
mod smoltcp_wire;
mod soak;

use std::path::PathBuf;

use coverage::Coverage;
use recipe::{CLIENT, Flow, Kind, PORT, Recipe, SERVER, Side};
use smoltcp_host::SmoltcpHost;
use trust::flow::Endpoint;
use trust::sim::app::SharedReport;
use trust::sim::{Ending, Failure, HostId, Plan, Report, Rng, Rule, ShardHost, Violation, World};
use trust::tcp::congestion::CongestionControl;
use trust::tcp::{CloseReason, Info};

/// Events after which a world is thought to have no end.
const MOST_STEPS: u64 = 20_000_000;

/// A world with the applications in it.
struct Cast {
    world: World,
    recipe: Recipe,
    hosts: [HostId; 2],
    /// Of each connection, client and server.
    reports: Vec<[SharedReport; 2]>,
}

fn build(seed: u64, kind: Kind) -> Cast {
    let mut world = World::new(seed);
    let now = world.now();
    let mut rng: Rng = world.fork_rng();
    // Of those whose hosts are both ours: the other stack's speaks IPv4.
    let ipv6 = matches!(kind, Kind::Any | Kind::InOrder) && seed % 4 == 3;
    let recipe = recipe::draw(&mut rng, now, kind, ipv6);
    let flows = &recipe.flows;
    let remote = |n: u16| Endpoint::new(recipe.server.addr, PORT + n);
    let (client, opened) = if kind == Kind::Ours(Side::Server) {
        let (host, report) = SmoltcpHost::connect(CLIENT, &mut rng, flows[0].start, remote(0), flows[0].client);
        (world.add_host("smoltcp", host), vec![report])
    } else {
        let mut host = ShardHost::new(recipe.client.clone(), now).unwrap();
        let opened = (0..).zip(flows).map(|(n, flow)| host.open(flow.start, remote(n), flow.client)).collect();
        (world.add_host("client", host), opened)
    };
    let (server, accepted) = if kind == Kind::Ours(Side::Client) {
        let (host, report) = SmoltcpHost::listen(SERVER, &mut rng, PORT, flows[0].server);
        (world.add_host("smoltcp", host), vec![report])
    } else {
        let mut host = ShardHost::new(recipe.server.clone(), now).unwrap();
        let accepted: Vec<_> = (0..).zip(flows).map(|(n, flow)| host.listen(PORT + n, flow.server)).collect();
        (world.add_host("server", host), accepted)
    };
    let [up, down] = recipe::links(&mut rng, now, kind, &recipe);
    world.add_link(client, server, up);
    world.add_link(server, client, down);
    let reports = opened.into_iter().zip(accepted).map(|(client, server)| [client, server]).collect();
    Cast { world, recipe, hosts: [client, server], reports }
}

/// Lives through a world and checks how it ended.
fn live(seed: u64, kind: Kind, coverage: &mut Coverage, show: bool) -> Result<(), Failure> {
    let Cast { mut world, recipe, hosts, reports } = build(seed, kind);
    if show {
        world.trace().keep_all();
        println!("{recipe:#?}");
        if let Some(path) = std::env::var_os("TRUST_WORLD_PCAP").map(PathBuf::from) {
            capture::start(&mut world, &path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            println!("captured in {}", path.display());
        }
    }
    let ran = world.run(MOST_STEPS);
    if show {
        print!("{}", world.trace());
    }
    if hosts.iter().any(|host| world.host::<SmoltcpHost>(*host).is_some_and(|host| host.broke_down())) {
        coverage.add("broke down", 1);
        return Ok(());
    }
    ran?;
    let mut moved = 0;
    let mut lost_reset = false;
    let mut gave_way =
        hosts.map(|host| world.host::<ShardHost>(host).map_or(0, |host| host.counters().orphans_out_of_memory));
    coverage.add("orphans that gave way", gave_way.iter().sum());
    let refused = hosts.map(|host| world.host::<ShardHost>(host).map_or(0, |host| host.counters().payload_refused));
    coverage.add("octets refused inside the window", refused.iter().sum());
    for (flow, reports) in recipe.flows.iter().zip(&reports) {
        let reports = [reports[0].read(), reports[1].read()];
        moved += reports[0].received + reports[1].received;
        coverage.aborted += u64::from(reports.iter().any(|report| report.aborted));
        lost_reset |= reports.iter().any(|report| report.closed.is_none());
        let ended = match kind {
            Kind::Any | Kind::InOrder => check_end(flow, reports, &mut gave_way),
            Kind::Ours(_) => check_octets(flow, reports),
        };
        ended.map_err(|Violation { rule, detail }| {
            world.failure(Violation::new(rule, format!("{detail}: {reports:?} of {flow:?}")))
        })?;
    }
    if gave_way != [0, 0] {
        let detail = format!("{gave_way:?} more orphans gave way than connections ended by it");
        return Err(world.failure(Violation::new(Rule::WrongEnd, detail)));
    }
    let mut infos = Vec::new();
    for host in hosts {
        if let Some(host) = world.host::<ShardHost>(host) {
            infos.extend(host.infos().copied());
            // Who has not heard of its peer's abort waits as long as its users do.
            let empty = if lost_reset { Ok(()) } else { host.check_empty() };
            empty.map_err(|violation| world.failure(violation))?;
        }
    }
    coverage.add_infos(infos.iter());
    for (name, is_one) in TOLD_OF_LOSSES_ALONE {
        let resent = world.invariants().resent().filter(|(_, info)| is_one(info)).map(|(resent, _)| resent).sum();
        coverage.add(name, resent);
    }
    coverage.add("probes of a closed window", world.invariants().window_probes());
    coverage.steps += world.steps();
    coverage.wrapped += u64::from(world.invariants().wrapped());
    coverage.closed_window += u64::from(world.invariants().closed_a_window());
    coverage.add_world(moved);
    Ok(())
}

/// Every octet has arrived, and both ends of stream.
fn check_octets(flow: &Flow, [client, server]: [Report; 2]) -> Result<(), Violation> {
    let [up, down] = [(flow.client, client, server), (flow.server, server, client)];
    for (plan, sender, receiver) in [up, down] {
        if sender.sent != plan.send || receiver.received != plan.send {
            let rule = if receiver.closed.is_some() { Rule::ByteExact } else { Rule::StandsStill };
            return Err(Violation::new(rule, format!("{} octets of {} arrived", receiver.received, plan.send)));
        }
    }
    let eof = |report: Report, ending| report.eof || ending == Ending::Close;
    if eof(client, flow.client.ending) && eof(server, flow.server.ending) {
        Ok(())
    } else {
        Err(Violation::new(Rule::StandsStill, "an end of stream was not seen"))
    }
}

/// The connection ended as its users ended it, or gave way on one side to others that needed its memory: as an orphan
/// (OPS-22), of which so many may, and have, on each host, or after 30 s in which nothing came of what it held (OPS-46).
fn check_end(flow: &Flow, reports: [Report; 2], gave_way: &mut [u64; 2]) -> Result<(), Violation> {
    let wrong = |detail: String| Err(Violation::new(Rule::WrongEnd, detail));
    for side in [0, 1] {
        let evicted = reports[side].closed == Some(CloseReason::Evicted);
        let orphan = gave_way[side] > 0 && reports[side].closed == Some(CloseReason::Aborted) && !reports[side].aborted;
        if evicted || orphan {
            gave_way[side] -= u64::from(!evicted);
            return match reports[1 - side].closed {
                // As with an abort: the RST may be lost, or cross one.
                Some(CloseReason::Reset | CloseReason::Aborted | CloseReason::Evicted) | None => Ok(()),
                // All had arrived, and only the last acknowledgments had not come back.
                Some(CloseReason::Normal) => check_octets(flow, reports),
                Some(other) => wrong(format!("the peer of an orphan that gave way ended by {other:?}")),
            };
        }
    }
    let endings = [flow.client.ending, flow.server.ending];
    let Some(side) = reports.iter().position(|report| report.aborted) else {
        if endings.iter().any(|ending| matches!(ending, Ending::Abort(_))) {
            return wrong("nobody aborted".to_owned());
        }
        check_octets(flow, reports)?;
        if reports.iter().all(|report| report.closed == Some(CloseReason::Normal)) {
            return Ok(());
        }
        return wrong("not a normal end".to_owned());
    };
    if reports[side].closed != Some(CloseReason::Aborted) {
        return wrong("aborted, but not told so".to_owned());
    }
    match reports[1 - side].closed {
        // The RST was lost, and this end has nothing to say that would draw another.
        Some(CloseReason::Reset) | None => Ok(()),
        Some(other) => wrong(format!("the peer of an abort ended by {other:?}")),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Lives through many worlds on all cores. Panics when one fails.
fn live_through(name: &str, kind: Kind, share: u64) -> Coverage {
    if let Some(seed) = number("TRUST_WORLD_SEED") {
        let mut coverage = Coverage::default();
        if let Err(failure) = live(seed, kind, &mut coverage, true) {
            panic!("{name}, world {seed}: {}", failure.violation);
        }
        return coverage;
    }
    let worlds = number("TRUST_WORLDS").unwrap_or(300).div_ceil(share);
    let from = number("TRUST_WORLDS_FROM").unwrap_or(0);
    let run = soak::Run::new(name, from, worlds);
    run.all(|seed, coverage| live(seed, kind, coverage, false).map_err(|failure| failure.to_string()))
}

/// What must be at work in many of the worlds, by its name in the table.
const MECHANISMS: [&str; 10] = [
    "retransmission timeouts",
    "tail loss probes",
    "reordering timeouts (RACK)",
    "retransmissions lost (RACK)",
    "recoveries held to a rate (PRR)",
    "undone by F-RTO",
    "undone by Eifel",
    "undone by DSACK",
    "probes of a closed window",
    "partial acknowledgments (NewReno)",
];

#[test]
fn random_worlds() {
    let coverage = live_through("random_worlds", Kind::Any, 1);
    let worlds = coverage.worlds();
    if worlds >= 100 {
        assert!(coverage.median() >= 1_000_000, "the median world moves {} octets", coverage.median());
        assert!(5 * coverage.wrapped >= worlds, "{} worlds of {worlds} pass 2^32", coverage.wrapped);
        assert!(5 * coverage.closed_window >= worlds, "{} worlds of {worlds} close a window", coverage.closed_window);
        // The rarest of them is at work in a tenth of the worlds.
        for (name, found) in MECHANISMS.map(|name| (name, coverage.in_worlds(name))) {
            assert!(50 * found >= worlds, "{found} worlds of {worlds} have {name}");
        }
    }
}

#[test]
fn smoltcp_as_server() {
    beside_smoltcp("smoltcp_as_server", Side::Client);
}

#[test]
fn smoltcp_as_client() {
    beside_smoltcp("smoltcp_as_client", Side::Server);
}

/// Worlds in which it breaks down by itself say nothing; there are few.
fn beside_smoltcp(name: &str, ours: Side) {
    let coverage = live_through(name, Kind::Ours(ours), 4);
    let (void, worlds) = (coverage.in_worlds("broke down"), coverage.worlds());
    assert!(1_000 * void <= 1_000 + worlds, "smoltcp broke down in {void} worlds beside {worlds}");
}

/// Some senders by what they say of themselves.
type Senders = fn(&Info) -> bool;

/// Senders that hear of nothing but losses and are held to these (`Rule::Resent`): what they send again is counted.
const TOLD_OF_LOSSES_ALONE: [(&str, Senders); 6] = [
    ("losses alone, SACK", |info| info.sack),
    ("losses alone, NewReno", |info| !info.sack),
    ("losses alone, without timestamps", |info| !info.timestamps),
    ("losses alone, timeouts", |info| info.timeouts > 0),
    ("losses alone, CUBIC", |info| info.congestion == CongestionControl::Cubic),
    ("losses alone, Reno", |info| info.congestion == CongestionControl::Reno),
];

#[test]
fn worlds_without_reordering() {
    let coverage = live_through("worlds_without_reordering", Kind::InOrder, 2);
    let worlds = coverage.worlds();
    if worlds >= 100 {
        for (name, found) in TOLD_OF_LOSSES_ALONE.map(|(name, _)| (name, coverage.in_worlds(name))) {
            assert!(50 * found >= worlds, "{found} worlds of {worlds} have {name}");
        }
    }
}

/// When memory is short, a connection whose user has closed it makes way for another (OPS-22), with data on the way. It is
/// the only end that no user asked for, and each must be one that the host has counted.
#[test]
fn an_orphan_may_give_way_and_nothing_else_is_lost() {
    let plan = |send, expect| Plan {
        stream: 1,
        peer_stream: 2,
        send,
        expect,
        write: (1, 1_000),
        by_reference: false,
        write_pause: None,
        write_pauses: u64::MAX,
        read_pause: None,
        nodelay: false,
        ending: Ending::Close,
    };
    let flow = Flow { start: trust::tcp::Instant::ZERO, client: plan(1_000, 0), server: plan(0, 1_000) };
    let ended = |sent, received, closed| Report { sent, received, closed, eof: true, ..Report::default() };
    let judge = |received, peer, counted| {
        let reports = [ended(1_000, 0, Some(CloseReason::Aborted)), ended(0, received, peer)];
        let mut gave_way = [counted, 0];
        (check_end(&flow, reports, &mut gave_way).is_ok(), gave_way[0])
    };
    let (reset, normal) = (Some(CloseReason::Reset), Some(CloseReason::Normal));
    assert_eq!(judge(300, reset, 1), (true, 0));
    assert_eq!(judge(300, None, 1), (true, 0), "the RST was lost");
    assert_eq!(judge(1_000, normal, 1), (true, 0), "all had arrived, and only acknowledgments were on the way");
    assert_eq!(judge(300, normal, 1), (false, 0), "a cut stream that looks whole");
    assert_eq!(judge(300, reset, 0), (false, 0), "not an orphan that gave way");
    // Worlds in which it came about when this was written.
    for seed in [22_429, 27_937, 29_467, 51_252, 58_486, 72_469] {
        live(seed, Kind::Any, &mut Coverage::default(), false).unwrap();
    }
}

#[test]
fn a_world_replays_to_the_same_history() {
    let hash = |seed| {
        let mut cast = build(seed, Kind::Any);
        cast.world.run(MOST_STEPS).unwrap();
        (cast.world.trace().hash(), cast.world.steps())
    };
    for seed in 0..10 {
        assert_eq!(hash(seed), hash(seed), "world {seed}");
    }
    assert_ne!(hash(0), hash(1));
}
