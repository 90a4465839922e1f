//! Chosen disturbances of a transfer between two shards, and what each may cost: time, what is sent again, the window.
//!
//! Bounds are reckoned, not measured: each says what it is made of. Five megabytes through random loss without SACK
//! and timestamps are `odd`'s.

use std::cell::Cell;
use std::rc::Rc;

use trust::sim::stages::{BurstLoss, Loss};
use trust::tcp::CongestionControl::{self, Reno};
use trust::tcp::{Config, Duration, SeqNum};
use trust::wire::options::SackBlocks;
use trust::wire::tcp::Flags;

use crate::pair::{CLIENT, Pair, SERVER, Scene, Seen};
use crate::path::SEGMENT;
use crate::table::each;

const MS: Duration = Duration::from_millis(1);
/// Octets a second.
const MBIT: u64 = 125_000;
/// More than any transfer here may take.
const LONG: Duration = Duration::from_secs(100);
/// Octets of text in a segment without timestamps.
const BARE_SEGMENT: u64 = 1_460;
/// No SACK and no timestamps: RFC 6582 and RFC 6298 alone.
const BARE: fn() -> Config = || Config { sack: false, timestamps: false, ..Config::default() };

/// Whether the first `left` segments for which `wanted` says so; counts them.
fn first(mut left: u32, mut wanted: impl FnMut(&Seen) -> bool) -> impl FnMut(&Seen) -> bool {
    move |seen| {
        let hit = left > 0 && wanted(seen);
        left -= u32::from(hit);
        hit
    }
}

/// From when octet `at` of the client left first until an ACK of it came.
fn acknowledged_after(pair: &Pair, at: u64) -> Duration {
    let sent = pair.sent(CLIENT).iter().find(|seen| seen.carries(at)).unwrap().at;
    pair.came(SERVER).iter().find(|seen| u64::from(seen.ack) > at + 1).unwrap().at - sent
}

/// Of what rows came to, the ones that are not as they should be.
fn none<R: std::fmt::Debug>(found: Vec<Option<R>>) {
    let wrong: Vec<_> = found.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

// ---- the window ----------------------------------------------------------------------------------------------------

/// RFC9438-5.8, RFC5681-3.1f: nine seconds of a few segments at a time leave a window of what was used, or of twice
/// that in slow start; the bulk that follows is no larger burst than that. Where the window is full, an ACK of two
/// segments may still be added.
#[test]
fn an_application_that_writes_little_proves_little() {
    const PIECES: u64 = 150;
    let mut rows = Vec::new();
    for congestion in CongestionControl::ALL {
        rows.extend([3, 8, 20].into_iter().flat_map(|segments| [false, true].map(|loss| (congestion, segments, loss))));
    }
    none(each(&rows, |&(congestion, segments, loss)| {
        let (piece, trickle) = (segments * SEGMENT, PIECES * segments * SEGMENT);
        let config = Config { congestion, ..Config::default() };
        let mut scene = Scene::new(MS * 50, 20 * MBIT, trickle + 200 * SEGMENT).with(config);
        let plan = &mut scene.plans[CLIENT];
        plan.write = (piece as u32, piece as u32);
        plan.write_pause = Some((piece, MS * 60));
        plan.write_pauses = PIECES;
        if loss {
            // From there on it is congestion avoidance.
            scene.lose(CLIENT, move |seen| seen.fresh && seen.carries(50 * piece));
        }
        let mut pair = scene.start();
        let hurry = pair.until(LONG, |reports| reports[CLIENT].sent > trickle);
        // The flight of the recovery counts what has arrived.
        let since = if loss { MS * 50 * 65 } else { Duration::ZERO };
        let used = u64::from(pair.most_in_flight(CLIENT, since..hurry));
        let cwnd = u64::from(pair.info(CLIENT).cwnd);
        pair.finish(LONG);
        let burst = u64::from(pair.most_in_flight(CLIENT, hurry..hurry + MS * 45));
        let most = if loss { used + 2 * SEGMENT } else { (2 * used + 2 * SEGMENT).max(10 * SEGMENT) };
        let resent = pair.info(CLIENT).retransmits;
        let good = cwnd <= most && burst <= most + 2 * SEGMENT && burst >= used && resent == u64::from(loss);
        let row = format!("{congestion}, {segments} segments, loss {loss}");
        (!good).then(|| format!("{row}: {used} used, cwnd {cwnd}, burst {burst}, at most {most}, {resent} resent"))
    }));
}

/// RFC5681-4.3, RFC9937: half of a window is lost at once. Its loss is known a round trip later by what was sent after
/// it; the ACKs of that let as much leave in the next one, and the third brings the ACKs. With half a round trip for
/// what gathers at the line that is 3.5. It is one loss event: one reduction, and nothing is sent again that was not
/// lost.
#[test]
fn half_of_a_large_window_is_recovered_by_one_reduction() {
    const AT: u64 = 2_500 * SEGMENT;
    let paths = [(100, 100), (50, 100), (100, 20)];
    let rows: Vec<_> =
        paths.into_iter().flat_map(|path| CongestionControl::ALL.map(|control| (path, control))).collect();
    none(each(&rows, |&((rtt, mbit), congestion)| {
        let config = Config { congestion, ..Config::default() };
        let scene = || Scene::new(MS * rtt, mbit * MBIT, 4_000 * SEGMENT).with(config);
        let mut even = scene().start();
        even.finish(LONG);
        even.run(MS * 200);
        let left = even.sent(CLIENT).iter().find(|seen| seen.carries(AT)).unwrap().at;
        let trip = acknowledged_after(&even, AT);
        let window = u64::from(even.most_in_flight(CLIENT, left..left + trip));
        let mut scene = scene();
        scene.lose(CLIENT, move |seen| seen.fresh && (AT + 1..AT + 1 + window / 2).contains(&u64::from(seen.seq)));
        let mut pair = scene.start();
        pair.finish(LONG);
        pair.run(MS * 200);
        let (info, lost, again) = (pair.info(CLIENT), pair.lost(CLIENT), pair.again(CLIENT) / SEGMENT);
        let took = acknowledged_after(&pair, AT + window / 2);
        let share = if congestion == Reno { 50 } else { 70 };
        let reduced = u64::from(info.ssthresh) * 100 / window;
        let good = (info.timeouts, info.recovery.fast_recoveries) == (0, 1)
            && (lost..=lost + 2).contains(&again)
            && (share - 5..=share + 5).contains(&reduced)
            && took <= trip * 7 / 2
            && even.lost(CLIENT) == 0;
        (!good).then(|| {
            let row = format!("{rtt} ms, {mbit} Mbit/s, {congestion}, {} of a window", window / SEGMENT);
            format!("{row}: {lost} lost, {again} again, {reduced} % left, {took} of {trip}, {info:?}")
        })
    }));
}

// ---- what is lost again --------------------------------------------------------------------------------------------

/// In congestion avoidance, one segment of a bulk transfer is lost, and then what repairs it. Gives the time until it
/// was acknowledged, that of all, and the world.
fn lost_again(times: u32, config: Config) -> (Duration, Duration, Pair) {
    const AT: u64 = 800 * SEGMENT;
    let mut scene = Scene::new(MS * 50, 20 * MBIT, 1_200 * SEGMENT).with(config);
    // While a segment is missing the window of the receiver stands still. It must not end what tells of its
    // repetitions.
    scene.window = 1 << 20;
    scene.lose(CLIENT, first(1, |seen| seen.carries(200 * SEGMENT)));
    scene.lose(CLIENT, first(times, |seen| seen.carries(AT)));
    let mut pair = scene.start();
    let took = pair.finish(LONG);
    (acknowledged_after(&pair, AT), took, pair)
}

/// RFC 8985 6.2: whether a transmission has arrived is known a round trip later, by what was sent after it. That is a
/// round trip for each that is lost and one for the last, with a quarter for what may only be late. Each is a loss
/// event: the few hundred segments that are left take two round trips more with half of the window.
#[test]
fn a_retransmission_that_is_lost_is_found_without_the_timer() {
    let mut rows = Vec::new();
    for congestion in CongestionControl::ALL {
        for timestamps in [true, false] {
            rows.extend([1, 2, 3].map(|times| (times, Config { congestion, timestamps, ..Config::default() })));
        }
    }
    none(each(&rows, |&(times, config)| {
        let (trip, even, _) = lost_again(0, config);
        let (repaired, took, mut pair) = lost_again(times, config);
        let info = pair.info(CLIENT);
        let found = info.recovery.lost_retransmissions;
        let good = info.timeouts == 0
            && found == times - 1
            && info.retransmits == u64::from(times) + 1
            && repaired <= trip * (u64::from(times) + 1) + trip / 4
            && took <= even + trip * (3 * u64::from(times) + 1);
        let row = format!("{times} times, {}, timestamps {}", config.congestion, config.timestamps);
        (!good).then(|| format!("{row}: {repaired} of {trip}, {took} of {even}, {info:?}"))
    }));
    // Without RACK nothing tells of it.
    let (_, _, mut blind) = lost_again(2, Config { rack: false, ..Config::default() });
    assert_eq!(blind.info(CLIENT).timeouts, 1);
}

// ---- losses in a row, both ways, at intervals ----------------------------------------------------------------------

/// `1.22 * MSS / (RTT * sqrt(p))` (Mathis et al. 1997) for loss events with probability `p` of a million: ms for
/// `octets`.
fn formula(octets: u64, segment: u64, rtt: u64, p: u64) -> u64 {
    octets * rtt * (p * 1_000_000).isqrt() / (segment * 1_220_000)
}

/// RFC 6582 without timestamps: of a burst one segment is repaired each round trip, and the timer ends it when that
/// takes too long, which is when something that was sent again is lost, or more segments than fit an RTO.
///
/// What it may take: half as much again as the formula has it for the loss events, a round trip for each segment lost,
/// and for each timeout the RTO and four rounds of slow start. Of the window of a timeout all counts as lost that was
/// in flight.
#[test]
fn without_sack_and_timestamps_bursts_and_losses_both_ways_cost_what_they_must() {
    const AMOUNT: u64 = 5_000_000;
    // Loss events of a million, whether they are bursts of three on the average, whether ACKs are lost, too; and how
    // often the timer may fire: for a tenth of the bursts, for what is lost again, and where a window of less than
    // nine leaves no three duplicates.
    let rows =
        [(5_000_u64, true, false, 2), (5_000, true, true, 2), (10_000, false, true, 2), (20_000, false, true, 10)];
    none(each(&rows, |&(events, bursts, both, timeouts)| {
        let mut scene = Scene::new(MS * 50, 100 * MBIT, AMOUNT).with(BARE());
        for from in [CLIENT, SERVER].into_iter().take(1 + usize::from(both)) {
            let (p, rng) = (events as f64 / 1e6, scene.rng());
            if bursts {
                scene.stage(from, BurstLoss::new(p, 1.0 / 3.0, [0.0, 1.0], rng));
            } else {
                scene.stage(from, Loss::new(p, rng));
            }
        }
        let mut pair = scene.start();
        let took = pair.finish(LONG).as_millis();
        pair.run(MS * 500);
        let (info, lost, again) = (pair.info(CLIENT), pair.lost(CLIENT), pair.again(CLIENT) / BARE_SEGMENT);
        let rto = 250 + 4 * 50;
        let most = formula(AMOUNT, BARE_SEGMENT, 50, events) * 3 / 2 + lost * 50 + info.timeouts * rto;
        let window = u64::from(pair.most_in_flight(CLIENT, Duration::ZERO..LONG)) / BARE_SEGMENT;
        let good =
            took <= most && again <= lost * 3 / 2 + info.timeouts * window && info.timeouts <= timeouts && lost > 0;
        let row = format!("{events} events, bursts {bursts}, both {both}");
        (!good).then(|| format!("{row}: {took} of {most} ms, {lost} lost, {again} again, {info:?}"))
    }));
}

/// Every n-th is lost for ever, retransmissions included.
fn every(n: u64, mut wanted: impl FnMut(&Seen) -> bool) -> impl FnMut(&Seen) -> bool {
    let mut count = 0;
    move |seen| {
        count += u64::from(wanted(seen));
        wanted(seen) && count % n == 0
    }
}

/// RFC 8985, RFC 5681: a window of `1.22 * sqrt(n)` segments is 5 for one in 20, enough for three that tell of the
/// fourth. For one in 7 it is 3, where the timer may be needed. It may take half as much again as that, and for each
/// loss a round trip and a quarter until it is known. What is sent again is what was lost.
#[test]
fn every_nth_segment_may_be_lost_for_ever() {
    const SEGMENTS: u64 = 1_000;
    let rows: Vec<_> =
        [7, 20, 100].into_iter().flat_map(|n| CongestionControl::ALL.map(|control| (n, control))).collect();
    none(each(&rows, |&(n, congestion)| {
        let config = Config { congestion, ..Config::default() };
        let mut scene = Scene::new(MS * 50, 20 * MBIT, SEGMENTS * SEGMENT).with(config);
        scene.lose(CLIENT, every(n, |seen| seen.len > 0));
        let mut pair = scene.start();
        let took = pair.finish(LONG).as_millis();
        pair.run(MS * 500);
        let (info, lost, again) = (pair.info(CLIENT), pair.lost(CLIENT), pair.again(CLIENT) / SEGMENT);
        let most = formula(SEGMENTS * SEGMENT, SEGMENT, 50, 1_000_000 / n) * 3 / 2 + lost * 50 * 5 / 4;
        let timeouts = if n < 20 { lost / 10 } else { 0 };
        let good = took <= most
            && again <= lost + u64::from(info.recovery.tail_probes)
            && info.timeouts <= timeouts
            && info.recovery.undone_by_eifel == 0
            && lost >= SEGMENTS / n;
        (!good).then(|| format!("{n}, {congestion}: {took} of {most} ms, {lost} lost, {again} again, {info:?}"))
    }));
}

/// RFC 5681 4.2: the next ACK says what a lost one said. Nothing is sent again but what probes for the last ACK, and
/// the window grows by octets (OPS-31): it takes a tenth longer at most, with half of the ACKs as well, since slow
/// start has its limit for each of them.
#[test]
fn lost_acknowledgments_cost_nothing_but_themselves() {
    let run = |n| {
        let mut scene = Scene::new(MS * 50, 20 * MBIT, 2_000 * SEGMENT);
        scene.lose(SERVER, every(n, Seen::is_pure_ack));
        let mut pair = scene.start();
        let took = pair.finish(LONG);
        pair.run(MS * 500);
        (took, pair)
    };
    let (even, _) = run(u64::MAX);
    none(each(&[2, 3, 7, 20, 100], |n| {
        let (took, mut pair) = run(*n);
        let info = pair.info(CLIENT);
        let acks = |log: &[Seen]| log.iter().filter(|seen| seen.is_pure_ack()).count() as u64;
        let lost = acks(&pair.sent(SERVER)) - acks(&pair.came(SERVER));
        let probes = u64::from(info.recovery.tail_probes);
        let good =
            info.timeouts == 0 && info.retransmits <= probes && probes <= 1 && took <= even * 11 / 10 && lost > 5;
        (!good).then(|| format!("{n}: {took} of {even}, {lost} lost, {info:?}"))
    }));
}

// ---- ends ----------------------------------------------------------------------------------------------------------

/// How long a transfer of 40 segments takes whose last `tail` are lost once, FIN included.
fn lost_tail(rtt: Duration, tail: u64, config: Config) -> (Duration, Pair) {
    const SEGMENTS: u64 = 40;
    let segment = if config.timestamps { SEGMENT } else { BARE_SEGMENT };
    let mut scene = Scene::new(rtt, 100 * MBIT, SEGMENTS * segment).with(config);
    scene.lose(CLIENT, move |seen| tail > 0 && seen.fresh && u64::from(seen.end()) > 1 + (SEGMENTS - tail) * segment);
    let mut pair = scene.start();
    (pair.finish(LONG), pair)
}

/// RFC 8985 7: two round trips of silence after the last ACK, which comes half a round trip after the tail should have
/// arrived, and perhaps late by the delay of ACKs (40 ms); the probe brings one segment. Of a longer tail its answer
/// tells: a round trip more, with a quarter for what may only be late. Of five the rest then leaves in two rounds, of
/// one segment and of three. What the probe brought is not sent again.
#[test]
fn a_lost_tail_is_repaired_by_a_probe() {
    let mut rows = Vec::new();
    for timestamps in [true, false] {
        for rtt in [20, 50, 100] {
            rows.extend([(1, 3), (2, 4), (5, 6)].map(|(tail, trips)| (timestamps, MS * rtt, tail, trips)));
        }
    }
    none(each(&rows, |&(timestamps, rtt, tail, trips)| {
        let config = Config { timestamps, ..Config::default() };
        let (even, _) = lost_tail(rtt, 0, config);
        let (took, mut pair) = lost_tail(rtt, tail, config);
        pair.run(rtt * 10);
        let (info, again) = (pair.info(CLIENT), pair.again(CLIENT));
        let (longer, most) = (took - even, rtt * trips + rtt / 4 + MS * 40);
        let good = longer <= most
            && (info.timeouts, info.recovery.tail_probes) == (0, 1)
            && again <= tail * if timestamps { SEGMENT } else { BARE_SEGMENT };
        (!good).then(|| {
            format!("{rtt}, {tail}, timestamps {timestamps}: {longer} of {most}, {again} octets again, {info:?}")
        })
    }));
}

/// RFC 6298: without SACK nothing tells of it but the timer, once, an RTO after the last ACK. The rest leaves in slow
/// start; the last ACK may be late by 40 ms, and so may that of the lone segment.
#[test]
fn a_lost_tail_without_sack_takes_one_timeout() {
    none(each(&[(1, 0), (2, 1), (5, 2)], |&(tail, rounds)| {
        let (rtt, rto, config) = (MS * 50, MS * 250, Config { sack: false, ..Config::default() });
        let (even, _) = lost_tail(rtt, 0, config);
        let (took, mut pair) = lost_tail(rtt, tail, config);
        pair.run(rtt * 10);
        let (info, again) = (pair.info(CLIENT), pair.again(CLIENT));
        let (longer, most) = (took - even, rtt + rto + rtt * rounds + rtt / 4 + MS * 80);
        let good =
            (rto..=most).contains(&longer) && (info.timeouts, info.retransmits, again) == (1, tail, tail * SEGMENT);
        (!good).then(|| format!("{tail}: {longer} of {most}, {again} octets again, {info:?}"))
    }));
}

/// What a segment is in a handshake.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Syn,
    SynAck,
    /// The ACK of the SYN,ACK, where nothing rides on it.
    Third,
    /// The first octet of the stream.
    Data,
}

fn part(seen: &Seen) -> Option<Part> {
    if seen.flags.contains(Flags::SYN) {
        Some(if seen.flags.contains(Flags::ACK) { Part::SynAck } else { Part::Syn })
    } else if seen.carries(0) {
        Some(Part::Data)
    } else {
        (seen.is_pure_ack() && seen.ack == 1).then_some(Part::Third)
    }
}

/// A handshake over a round trip of 100 ms.
struct Opening {
    /// Whether the server sends, so that the third segment carries nothing.
    other_way: bool,
    octets: u64,
    config: Config,
    /// Until when, in ms, each of these is lost.
    lost: &'static [(Part, u64)],
    /// When the first octet arrives, in ms.
    expected: u64,
    /// Segments that leave before one of them is acknowledged.
    window: usize,
}

/// RFC6298-2.1, 5.5, 5.7, RFC6928-2b (for RFC5681-3.1c): a second for the first SYN, two for the next; the SYN,ACK has
/// a timer of its own. A single loss leaves the initial window, two of them one segment. The server has one connection
/// of it.
#[test]
fn what_is_lost_of_a_handshake_costs_its_timer() {
    use Part::{Data, Syn, SynAck, Third};
    let client = |lost, expected, window| Opening {
        other_way: false,
        octets: 20 * SEGMENT,
        config: Config::default(),
        lost,
        expected,
        window,
    };
    let server = |lost, expected, window| Opening { other_way: true, ..client(lost, expected, window) };
    let single = |lost, expected| Opening { octets: 1_000, ..client(lost, expected, 1) };
    let bare = |lost, expected| Opening { config: BARE(), ..single(lost, expected) };
    let rows = [
        // SYN and SYN,ACK, 50 ms each, and what carries the octet.
        client(&[], 150, 10),
        client(&[(Syn, 500)], 1_150, 10),
        client(&[(Syn, 2_000)], 3_150, 1),
        // The SYN comes again as the timer of the SYN,ACK fires.
        client(&[(SynAck, 500)], 1_150, 10),
        client(&[(SynAck, 2_000)], 3_150, 1),
        // The SYN,ACK of 1.05 s is repeated a second later; the SYN itself was lost only once.
        client(&[(Syn, 500), (SynAck, 1_500)], 2_150, 10),
        client(&[(Syn, 2_000), (SynAck, 3_500)], 4_150, 1),
        // The others tell of the first a round trip later.
        client(&[(Data, 200)], 250, 10),
        client(&[(Syn, 500), (Data, 1_200)], 1_250, 10),
        // A lone segment is probed for: 200 ms and 100 ms for an ACK that is delayed. As long is the RTO.
        single(&[(Data, 200)], 450),
        single(&[(Syn, 500), (Data, 1_200)], 1_450),
        // Without timestamps the repeated SYN is no sample (RFC6298-3a), and the RTO is 3 s.
        bare(&[(Data, 200)], 450),
        bare(&[(Syn, 500), (Data, 1_200)], 4_150),
        bare(&[(Syn, 2_000), (Data, 3_200)], 6_150),
        // Here the third segment has its own way: four of them until the octet arrives.
        server(&[], 200, 10),
        server(&[(Syn, 500)], 1_200, 10),
        server(&[(SynAck, 500)], 1_200, 10),
        server(&[(SynAck, 2_000)], 3_200, 1),
        // The timer of the SYN,ACK asks for it.
        server(&[(Third, 500)], 1_200, 10),
        server(&[(Third, 2_000)], 3_200, 1),
        server(&[(Syn, 500), (Third, 1_500)], 2_200, 10),
        server(&[(SynAck, 500), (Third, 1_500)], 3_200, 1),
        server(&[(Data, 250)], 300, 10),
        server(&[(Third, 500), (Data, 1_250)], 1_300, 10),
    ];
    none(each(&rows, |row| {
        let scene = Scene::new(MS * 100, 100 * MBIT, row.octets).with(row.config);
        let (mut scene, from) = if row.other_way { (scene.other_way(), SERVER) } else { (scene, CLIENT) };
        for end in [CLIENT, SERVER] {
            let lost = row.lost;
            scene.lose(end, move |seen| {
                lost.iter().any(|(what, until)| part(seen) == Some(*what) && seen.at < MS * *until)
            });
        }
        let mut pair = scene.start();
        let got = pair.until(LONG, |reports| reports[1 - from].received > 0).as_millis();
        pair.finish(LONG);
        let left = pair.sent(from).iter().find(|seen| seen.len > 0).unwrap().at;
        let first: Vec<_> =
            pair.sent(from).iter().filter(|seen| seen.len > 0 && seen.at < left + MS * 90).copied().collect();
        let counters = [CLIENT, SERVER].map(|end| pair.counters(end));
        let good = (row.expected..=row.expected + 3).contains(&got)
            && first.len() == row.window
            && (counters[CLIENT].connected, counters[SERVER].accepted) == (1, 1)
            && counters.iter().all(|counters| counters.resets_out == 0);
        (!good).then(|| {
            let which = format!("{:?}, other way {}, {} octets", row.lost, row.other_way, row.octets);
            format!("{which}: {got} of {} ms, {} of {} at first", row.expected, first.len(), row.window)
        })
    }));
}

// ---- what a receiver says ------------------------------------------------------------------------------------------

/// MUST-36, SHLD-30, ZW-1: a reader pauses for a second, its window closes, and the ACKs that open it again are lost.
/// The first probe leaves after an RTO, and each waits twice as long as the one before; the first whose answer comes
/// revives the transfer. A probe is empty, and nothing is lost by all of it.
#[test]
fn probes_revive_a_window_whose_opening_was_lost() {
    // Buffer of the reader, and how many octets it reads before the pause; what is left fits into one buffer.
    const BUFFER: u32 = 64_000;
    const READ: u64 = 200_000;
    none(each(&[0, 1, 2, 3, 4], |&lost| {
        let (rtt, pause) = (MS * 50, MS * 1_000);
        let mut scene = Scene::new(rtt, 20 * MBIT, READ + u64::from(BUFFER) * 3 / 2);
        scene.window = BUFFER;
        scene.plans[SERVER].read_pause = Some((READ, pause));
        let mut closed = false;
        scene.lose(
            SERVER,
            first(lost, move |seen| {
                closed |= seen.window == 0;
                closed && seen.window > 0
            }),
        );
        let mut pair = scene.start();
        pair.finish(LONG);
        pair.run(MS * 500);
        let info = pair.info(CLIENT);
        let close = pair.came(SERVER).iter().find(|seen| seen.window == 0).unwrap().at;
        let log: Vec<Seen> = pair.sent(CLIENT).iter().filter(|seen| seen.at >= close).copied().collect();
        let opened = pair.sent(SERVER).iter().find(|seen| seen.at > close && seen.window > 0).unwrap().at;
        let revived = log.iter().find(|seen| seen.len > 0).unwrap().at;
        let probes: Vec<Seen> = log.iter().filter(|seen| seen.at < revived).copied().collect();
        // From the closing on 1, 3, 7, 15 RTOs; the ones that leave after the opening are answered, all but the lost
        // ones.
        let times: Vec<u64> = probes.iter().map(|probe| (probe.at - close).as_millis()).collect();
        let due: Vec<u64> = (1..=probes.len() as u32).map(|nth| ((1 << nth) - 1) * info.rto.as_millis()).collect();
        let on_time = times.iter().zip(&due).all(|(at, due)| (*due..=due + due / 100 + 1).contains(at));
        let asked = probes.iter().filter(|probe| probe.at + rtt / 2 >= opened).count();
        let last = probes.last().map_or(opened, |probe| probe.at + rtt / 2);
        let revives = if lost == 0 { opened } else { last };
        let good = on_time
            && asked == lost as usize
            && probes.iter().all(|probe| probe.is_pure_ack())
            && revived - revives <= rtt / 2 + MS
            && pair.again(CLIENT) == 0
            && info.timeouts == 0;
        (!good).then(|| format!("{lost}: probes at {times:?} of {due:?}, opened {opened}, revived {revived}, {info:?}"))
    }));
}

/// How a receiver lies about what it holds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    /// What was never sent.
    Beyond,
    /// What is acknowledged.
    Below,
    /// The wrong way round, and empty.
    Inverted,
    /// Ranges in one another, of what may be missing.
    Overlapping,
    /// All that was sent, but for the next segment.
    Everything,
    /// All that was sent, but for the next octet.
    AllButAnOctet,
    /// Single octets here and there, others each time.
    OneOctetEach,
    /// Likewise pieces that are longer than headers.
    FewOctetsEach,
}

const LIES: [Lie; 8] = [
    Lie::Beyond,
    Lie::Below,
    Lie::Inverted,
    Lie::Overlapping,
    Lie::Everything,
    Lie::AllButAnOctet,
    Lie::OneOctetEach,
    Lie::FewOctetsEach,
];

impl Lie {
    /// Blocks beside an acknowledgment of `una` where numbers below `nxt` have come; it is the `nth` of its kind.
    fn blocks(self, una: SeqNum, nxt: SeqNum, nth: u32) -> [(SeqNum, SeqNum); 3] {
        /// More than any flight here.
        const FAR: u32 = 1 << 20;
        let segment = SEGMENT as u32;
        let at = |segments: u32| una + segments * segment;
        let piece = |place: u32, len: u32| {
            let at = una + (1 + (nth % 10_007 * 7_919 + place * 104_729) % (nxt - una).max(2) as u32);
            (at, at + len)
        };
        match self {
            Self::Beyond => [(at(1), nxt + FAR), (nxt + FAR, nxt + FAR + segment), (nxt + 2 * FAR, una + FAR)],
            Self::Below => [(una - 3_000, una - 1_000), (una - 1, at(1)), (una, at(1))],
            Self::Inverted => [(nxt, at(1)), (at(3), at(1)), (at(1), at(1))],
            Self::Overlapping => [(at(1), at(4)), (at(2), at(6)), (at(3), at(5))],
            Self::Everything => [(at(1), nxt); 3],
            Self::AllButAnOctet => [(una + 1, nxt); 3],
            Self::OneOctetEach => [1, 2, 3].map(|place| piece(place, 1)),
            Self::FewOctetsEach => [1, 2, 3].map(|place| piece(place, 50)),
        }
    }
}

/// OPS-24, RFC2018-V, RFC2018-5b, SC-32: one in a hundred segments is lost, and each ACK has absurd blocks in the
/// place of the true ones. The transfer comes to its end, and every octet is right.
///
/// The lie costs the liar time: what is lost is known by the timer only, and its window is one segment then. That is
/// half a second for each, an RTO of 250 ms that is doubled where what it sends is lost or denied as well. The sender
/// pays no more than a segment for each ACK, and for each timeout what five rounds of slow start send until ACKs tell
/// that it is there: 31 segments.
#[test]
fn a_receiver_that_lies_about_what_it_holds_costs_itself_time() {
    const SEGMENTS: u64 = 700;
    let run = |lie: Option<Lie>| {
        let mut scene = Scene::new(MS * 50, 20 * MBIT, SEGMENTS * SEGMENT);
        let (nxt, rng) = (Rc::new(Cell::new(SeqNum(0))), scene.rng());
        let come = Rc::clone(&nxt);
        // It knows of what is lost, too.
        scene.forge(CLIENT, move |seen, header| {
            if seen.fresh {
                nxt.set(SeqNum(header.seq) + seen.len);
            }
        });
        scene.stage(CLIENT, Loss::new(0.01, rng));
        let mut nth = 0;
        scene.forge(SERVER, move |seen, header| {
            let Some(lie) = lie.filter(|_| seen.is_pure_ack()) else { return };
            header.options.sack = SackBlocks::default();
            for (left, right) in lie.blocks(SeqNum(header.ack), come.get(), nth) {
                header.options.sack.push(left.0, right.0);
            }
            nth += 1;
        });
        let mut pair = scene.start();
        let took = pair.finish(LONG).as_millis();
        pair.run(MS * 2_000);
        (took, pair)
    };
    let (even, _) = run(None);
    none(each(&LIES, |&lie| {
        let (took, mut pair) = run(Some(lie));
        let (info, lost) = (pair.info(CLIENT), pair.lost(CLIENT));
        let lies = pair.came(SERVER).iter().filter(|seen| seen.blocks == 3).count() as u64;
        let good = took <= even + lost * 500 && info.retransmits <= lies + 31 * info.timeouts && lies > 100;
        (!good).then(|| format!("{lie:?}: {took} ms, {even} without, {lost} lost, {lies} lies, {info:?}"))
    }));
}

// ---- both directions -----------------------------------------------------------------------------------------------

/// Both ends send for 8 s, and of each every n-th segment is lost with the ACK on it. Each direction gets 85 % of what
/// it gets alone: ACKs wait behind the bursts of the other direction, and reports take octets of the segments that
/// they ride on, a tenth together. A segment brings the newest ACK (MUST-58); beside that there is one for two
/// segments, and for each while one is missing. Nothing is sent again that came. Where all reports are lost that do
/// not ride, those that do are enough.
#[test]
fn bulk_in_both_directions_goes_as_in_one() {
    let mut rows = Vec::new();
    for congestion in CongestionControl::ALL {
        rows.extend([(1_000, true), (100, true), (1_000, false), (100, false)].map(|row| (row, congestion)));
    }
    none(each(&rows, |&((n, reported), congestion)| {
        let config = Config { congestion, ..Config::default() };
        let run = |both: bool| {
            let scene = Scene::new(MS * 50, 20 * MBIT, u64::MAX).with(config);
            let mut scene = if both { scene.both_ways() } else { scene };
            for from in [CLIENT, SERVER] {
                scene.lose(from, every(n, |seen| seen.len > 0));
                if both && !reported {
                    scene.lose(from, |seen| seen.is_pure_ack() && seen.blocks > 0);
                }
            }
            let mut pair = scene.start();
            pair.run(MS * 8_000);
            pair
        };
        let alone = run(false).received(SERVER);
        let mut both = run(true);
        let wrong = [CLIENT, SERVER].map(|from| {
            let (info, received) = (both.info(from), both.received(1 - from));
            let (sent, came) = (both.sent(from), both.came(1 - from));
            let texts = |log: &[Seen]| log.iter().filter(|seen| seen.len > 0).count();
            let pure = sent.iter().filter(|seen| seen.is_pure_ack()).count();
            let (mut acked, mut ridden, mut reports) = (0, 0, 0);
            for seen in sent.iter() {
                ridden += usize::from(seen.len > 0 && seen.ack > acked);
                reports += usize::from(seen.len > 0 && seen.blocks > 0);
                acked = acked.max(seen.ack);
            }
            let good = received >= alone * 85 / 100
                && (info.timeouts, info.recovery.dsacks) == (0, 0)
                && ridden > 50
                && reports > 50
                && pure <= texts(&came) * 3 / 4;
            (!good).then(|| {
                let row = format!("{n}, {congestion}, reported {reported}, from {from}: {received} of {alone}");
                format!("{row}, {pure} pure ACKs for {}, {ridden} ridden, {reports} reports, {info:?}", texts(&came))
            })
        });
        wrong.iter().any(Option::is_some).then_some(wrong)
    }));
}
