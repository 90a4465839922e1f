//! Large windows and odd paths: thousands of segments in flight, jitter that reorders by hundreds, acknowledgments that get
//! lost, come thinned out, in bursts or over a slow line.

use trust::tcp::CongestionControl::{self, Cubic};
use trust::tcp::{Config, Duration};

use crate::path::{Back, Course, Flow, Path, SEGMENT, Sender, ours};
use crate::table::each;

const MS: Duration = Duration::from_millis(1);
/// Octets a second.
const MBIT: u64 = 125_000;
/// Buffers that no window of these paths fills.
const AMPLE: Option<u32> = Some(64 << 20);

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

/// What a path of a large window, of jitter that reorders by hundreds, or of disturbed acknowledgments gives of its rate.
#[test]
fn odd_paths_give_what_they_have() {
    let odd = |back| Path { back, ..clean(50, 100) };
    let jitter = Path { jitter: MS * 20, overtaking: true, ..clean(50, 100) };
    // The path, for how long in ms, and the least goodput in 1/1000 of its rate.
    let rows = [
        ("10,000 segments in flight", clean(12, 10_000), 1_000, 750),
        ("8,600 segments in flight", clean(100, 1_000), 5_000, 650),
        ("20 ms of jitter", jitter, 5_000, 850),
        ("one ACK in 10 lost", odd(Back::Lossy(100_000)), 5_000, 850),
        ("every other ACK lost", odd(Back::Lossy(500_000)), 5_000, 700),
        ("ACKs in bursts 1 ms apart", odd(Back::Bursts(MS)), 5_000, 850),
        ("a hundredth of the rate for ACKs", odd(Back::Slow(MBIT)), 5_000, 850),
    ];
    let reached = each(&rows, |(name, path, span, least)| {
        let flow = Course::new(1, path, &[ours(Cubic)]).run(MS * *span)[0];
        let goodput = flow.received * 1_000 / span * 1_000 / path.rate.unwrap();
        (goodput < *least).then(|| format!("{name}: {goodput}, not {least}, {flow:?}"))
    });
    let short: Vec<_> = reached.into_iter().flatten().collect();
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
