//! Large windows and odd paths: thousands of segments in flight, jitter that reorders by hundreds, acknowledgments that get
//! lost, come thinned out, in bursts or over a slow line.

use std::fmt::Write as _;
use std::sync::OnceLock;

use trust::tcp::CongestionControl::{self, Cubic, Reno};
use trust::tcp::{Config, Duration};

use crate::path::{Back, Course, Flow, Path, Receiver, SEGMENT, Sender, ours};
use crate::table::{Cell, each, name, percent, sum};

const MS: Duration = Duration::from_millis(1);
/// Octets a second.
const MBIT: u64 = 125_000;
/// Buffers that no window of these paths fills.
const AMPLE: Option<u32> = Some(256 << 20);

/// A path with room for two bandwidth-delay products in its queue, so that nothing is lost but what is meant to be.
fn clean(rtt: u64, mbit: u64) -> Path {
    Path { buffers: AMPLE, ..Path::bottleneck(MS * rtt, mbit * MBIT, 4) }
}

fn transfer(path: &Path, control: CongestionControl, amount: u64, limit: Duration) -> (Flow, Duration) {
    let mut course = Course::of(1, path, &[ours(control)], amount);
    let (mut received, mut took) = (0, Duration::ZERO);
    loop {
        let flow = course.run(MS * 10)[0];
        received += flow.received;
        took += MS * 10;
        if received >= amount || took >= limit {
            assert!(received == amount, "{received} of {amount} in {took:?}: {flow:?}");
            return (flow, took);
        }
    }
}

/// One packet is lost among thousands in flight: it is sent again, and hardly anything else.
#[test]
fn one_lost_packet_of_a_large_window_costs_three_at_most() {
    let paths = [(100, 1_000, 4_000), (100, 1_000, 12_000), (50, 1_000, 3_000), (100, 100, 700), (20, 10_000, 20_000)];
    let resent = each(&paths, |&(rtt, mbit, place)| {
        let path = Path { first_loss: Some(place), ..clean(rtt, mbit) };
        let (flow, _) = transfer(&path, Cubic, 30_000 * SEGMENT, MS * 20_000);
        (flow.sent.octets - flow.sent.fresh) / SEGMENT
    });
    assert!(resent.iter().all(|resent| (1..=3).contains(resent)), "{paths:?}: {resent:?}");
}

/// A path of the second part of the table.
struct Odd {
    name: &'static str,
    path: Path,
    /// Measured from the start on, ms.
    span: u64,
    /// Why less than 0.7 of the rate is all there is, for Reno and for CUBIC.
    answers: [Option<&'static str>; 2],
}

const CONTROLS: [CongestionControl; 2] = [Reno, Cubic];
const RECEIVERS: [Receiver; 2] = [Receiver::Ours, Receiver::Limitless];

fn rows() -> Vec<Odd> {
    let row = |name, path, span| Odd { name, path, span, answers: [None; 2] };
    let answered = |row, reno, cubic| Odd { answers: [Some(reno), Some(cubic)], ..row };
    // From 10 segments to 10,000 in rounds of 120 ms.
    const SLOW_START: &str = "slow start takes ten round trips, 1.2 of the 5 s, and ends where the queue overflows, which holds \
         less than HyStart++ needs to see it grow (`features`)";
    const LOSS: &str = "as above, and the loss takes a part of the window back";
    let back = |back| Path { back, ..clean(50, 100) };
    let lost = Path { first_loss: Some(100_000), ..clean(120, 1_000) };
    let jitter = |jitter, path| Path { jitter: MS * jitter, overtaking: true, ..path };
    vec![
        row("10 Gbit/s, 12 ms: 10,000 segments in flight", clean(12, 10_000), 1_000),
        answered(row("1 Gbit/s, 120 ms: 10,000 segments in flight", clean(120, 1_000), 5_000), SLOW_START, SLOW_START),
        answered(row("the same, the 100,000th packet lost", lost, 5_000), LOSS, LOSS),
        row("1 Gbit/s, 20 ms and up to 5 more: late by 430 packets", jitter(5, clean(20, 1_000)), 3_000),
        row("100 Mbit/s, 50 ms and up to 20 more: late by 170 packets", jitter(20, clean(50, 100)), 5_000),
        row("100 Mbit/s, 50 ms; one ACK in 10 lost", back(Back::Lossy(100_000)), 5_000),
        row("every other ACK lost", back(Back::Lossy(500_000)), 5_000),
        row("one ACK in 16 comes", back(Back::Thinned(16, MS * 5)), 5_000),
        row("ACKs in bursts 1 ms apart", back(Back::Bursts(MS)), 5_000),
        row("1 Mbit/s for the ACKs", back(Back::Slow(MBIT)), 5_000),
    ]
}

/// What each controller makes of a row, with our receiver and with one without limits.
fn cells(rows: &[Odd]) -> Vec<[[Cell; 2]; 2]> {
    static CELLS: OnceLock<Vec<Cell>> = OnceLock::new();
    let cells = CELLS.get_or_init(|| {
        let jobs = rows.iter().flat_map(|row| CONTROLS.map(|control| (row, control)));
        let jobs: Vec<_> = jobs.flat_map(|(row, control)| RECEIVERS.map(|receiver| (row, control, receiver))).collect();
        each(&jobs, |(row, control, receiver)| {
            let mut course = Course::to(*receiver, 1, &row.path, &[ours(*control)], u64::MAX);
            sum(&row.path, row.span, course.run(MS * row.span))
        })
    });
    let (quads, _) = cells.as_chunks::<4>();
    quads.iter().map(|[a, b, c, d]| [[*a, *b], [*c, *d]]).collect()
}

const HEAD: &str = "
Large windows and odd paths: a queue of two BDP, buffers that nothing fills, one seed. Beside each goodput what the same
sender reaches with a receiver that keeps everything and offers 1 GiB from the first segment on.

| path | Reno | limitless | resent | RTOs | CUBIC | limitless | resent | RTOs |
| --- | --: | --: | --: | --: | --: | --: | --: | --: |
";

/// The second part of the table.
pub fn table() -> String {
    let rows = rows();
    let mut out = HEAD.to_owned();
    let mut notes = String::new();
    for (row, cells) in rows.iter().zip(cells(&rows)) {
        write!(out, "| {} ", row.name).unwrap();
        for [ours, limitless] in cells {
            let [ours_good, limitless, resent] = [ours.goodput, limitless.goodput, ours.resent].map(percent);
            write!(out, "| {ours_good} | {limitless} | {resent} | {} ", ours.timeouts).unwrap();
        }
        out.push_str("|\n");
        for (control, answer) in CONTROLS.into_iter().zip(row.answers) {
            if let Some(answer) = answer {
                writeln!(notes, "* {}, {}: {answer}", row.name, name(control)).unwrap();
            }
        }
    }
    out.push('\n');
    out + &notes
}

/// At least 95 % of what a receiver without limits reaches; and where it is less than 0.7 of the path, the table says why.
#[test]
fn our_receiver_takes_nothing_away() {
    let rows = rows();
    let mut short = Vec::new();
    for (row, cells) in rows.iter().zip(cells(&rows)) {
        for ((control, [ours, limitless]), answer) in CONTROLS.iter().zip(cells).zip(row.answers) {
            if ours.goodput * 100 < limitless.goodput * 95 || (ours.goodput < 700) != answer.is_some() {
                short.push(format!("{}, {control:?}: {ours:?}, limitless {limitless:?}", row.name));
            }
        }
    }
    assert!(short.is_empty(), "{short:#?}");
}

/// RFC7323-5.3a: where jitter reorders, what a retransmission has overtaken is late and not old.
#[test]
fn jitter_makes_no_segment_too_old() {
    for jitter in [5, 20, 40] {
        let path = Path { jitter: MS * jitter, overtaking: true, loss: 1_000, ..clean(50, 100) };
        let mut course = Course::new(1, &path, &[ours(Cubic)]);
        let flow = course.run(MS * 5_000)[0];
        let drops: u64 = course.receivers().iter().map(|info| info.paws_drops).sum();
        assert_eq!(drops, 0, "{jitter} ms: {flow:?}");
    }
}

/// RFC 6582: without SACK and timestamps a transfer takes what its losses allow, `1.22 * MSS / (RTT * sqrt(p))`. Hardly more is
/// sent again than was lost, and the timer is for windows too small for three duplicates.
#[test]
fn without_sack_and_timestamps_five_megabytes_come_through_losses() {
    const AMOUNT: u64 = 5_000_000;
    // Losses of a million, and how often the timer may fire.
    let rows = [(1_000, 0), (10_000, 2), (20_000, 2), (50_000, 30)];
    let short = each(&rows, |&(loss, timeouts)| {
        let path = Path { loss, ..clean(50, 100) };
        let sender = Sender::Ours(Config { sack: false, timestamps: false, ..Config::default() });
        let mut course = Course::of(1, &path, &[sender], AMOUNT);
        let rate = 1_460 * 1_220_000 / (50 * (u64::from(loss) * 1_000_000).isqrt()); // octets in a ms
        let most = AMOUNT / rate * 3 / 2;
        let (mut flow, mut received, mut took) = (Flow::default(), 0, 0);
        while received < AMOUNT && took < most {
            flow = course.run(MS * 10)[0];
            received += flow.received;
            took += 10;
        }
        let again = (flow.sent.octets - flow.sent.fresh) * 1_000_000 / flow.sent.octets;
        let fired = flow.info.unwrap().timeouts;
        let good = received == AMOUNT && again <= u64::from(loss) * 3 / 2 && fired <= timeouts;
        (!good).then(|| format!("loss {loss}: {received} in {took} ms, {again} again, {fired} timeouts: {flow:?}"))
    });
    assert!(short.iter().all(Option::is_none), "{short:#?}");
}
