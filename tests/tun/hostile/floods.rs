//! SYNs from addresses that nobody has, at rates that the device's queue takes and at those that it does not: who means
//! it is served all the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::honest::{Visits, visit};
use super::peers::{Wire, source, syn};
use super::{Row, Target, add_row, measured_alone, memory};
use crate::support::*;

/// How long a client of a user's waits before he gives up.
const PATIENCE: Duration = Duration::from_secs(15);

/// Records of half-open connections, and what is known of the addresses they come from.
const GROWTH: u64 = 32 << 20;

/// SYNs under way until this is ended.
#[derive(Debug)]
struct Flood {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Sent>,
}

/// What a flood came to.
#[derive(Debug)]
struct Sent {
    packets: u64,
    /// Those that the device did not take, as the sender is told.
    refused: u64,
    span: Duration,
}

impl Sent {
    fn rate(&self) -> f64 {
        self.packets as f64 / self.span.as_secs_f64()
    }
}

impl Flood {
    /// SYNs to a port, so many a second; `None`: as many as go.
    fn start(port: u16, rate: Option<f64>) -> Result<Self, String> {
        let mut wire = Wire::open(&Target::ENGINE)?;
        wire.vanish();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sender = thread::spawn(move || {
            let (start, mut random) = (Instant::now(), fastrand::Rng::new());
            let mut sent = Sent { packets: 0, refused: 0, span: Duration::ZERO };
            while !stopped.load(Ordering::Relaxed) {
                sent.span = start.elapsed();
                // Bounded, whatever becomes of the test.
                if sent.span > Duration::from_secs(150) {
                    break;
                }
                if rate.is_some_and(|rate| sent.packets as f64 > rate * sent.span.as_secs_f64()) {
                    thread::sleep(Duration::from_micros(500));
                    continue;
                }
                for _ in 0..rate.map_or(32, |rate| (rate / 2_000.0).clamp(1.0, 32.0) as u64) {
                    sent.packets += 1;
                    let header = syn(random.u16(1_024..), port, random.u32(..));
                    sent.refused += u64::from(!wire.send(source(random.u32(..)), &header, &[]));
                }
            }
            sent
        });
        Ok(Self { stop, sender })
    }

    fn end(self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().unwrap()
    }
}

/// Packets towards the engine that the device has dropped.
fn dropped() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("trust0:")).unwrap();
    line.split_whitespace().nth(11).unwrap().parse().unwrap()
}

/// The rate at which the queue of the device first drops, as well as that can be found: a second. The highest that this
/// machine sends, when that is taken, too.
fn first_drop() -> Result<f64, String> {
    let mut rate = 2_000.0;
    loop {
        let before = dropped();
        let flood = Flood::start(7, Some(rate))?;
        thread::sleep(Duration::from_millis(if soak() { 1_000 } else { 200 }));
        let sent = flood.end();
        if dropped() > before || sent.refused > 0 || sent.rate() < 0.7 * rate {
            return Ok(sent.rate().min(rate));
        }
        rate *= 1.5;
    }
}

/// A visit every so often, none waiting for another, for a span.
fn visitors(to: SocketAddr, every: Duration, span: Duration) -> Visits {
    let (start, mut under_way, mut visits) = (Instant::now(), Vec::new(), Visits::default());
    while start.elapsed() < span {
        under_way.push(thread::spawn(move || visit(to, PATIENCE)));
        thread::sleep(every);
    }
    for visitor in under_way {
        visits.add(visitor.join().unwrap());
    }
    visits
}

/// A flood that the queue takes: nobody waits.
pub(crate) fn half() -> Outcome {
    taken("half_of_first_drop", size(3, 90), || Ok(first_drop()? / 2.0))
}

/// A trickle that fills whatever is counted by connections, and is noticed by nobody.
pub(crate) fn trickle() -> Outcome {
    // So that the few seconds of the regular run begin with what a minute of it leaves.
    let fill = || {
        let flood = Flood::start(7, Some(80_000.0))?;
        thread::sleep(Duration::from_secs(1));
        flood.end();
        Ok(700.0)
    };
    taken("700_a_second", size(3, 90), fill)
}

fn taken(name: &str, seconds: usize, rate: impl FnOnce() -> Result<f64, String>) -> Outcome {
    let _turn = measured_alone();
    let engine = Engine::start(&[]);
    let warm = visitors(Target::ENGINE.at(7), Duration::from_millis(20), Duration::from_millis(400));
    all_served("before the flood", &warm);
    let rate = rate()?;
    let (before, drops) = (memory(engine.pid(), "VmRSS"), dropped());
    let flood = Flood::start(7, Some(rate))?;
    let visits = visitors(Target::ENGINE.at(7), Duration::from_millis(50), Duration::from_secs(seconds as u64));
    let sent = flood.end();
    let drops = dropped() - drops;
    row(&engine, name, &sent, drops, before, &visits);
    all_served(&format!("at {rate:.0}/s"), &visits);
    let grown = memory(engine.pid(), "VmHWM").saturating_sub(before);
    assert!(grown <= GROWTH, "{grown} octets more than before");
    if soak() {
        let (p99, _) = visits.p99_and_worst();
        assert!(p99 < Duration::from_secs(1), "p99 {p99:?} at {rate:.0}/s");
    }
    engine.finish();
    Ok(())
}

/// More than the queue takes, as much as this machine sends: a SYN that gets through is answered, and when it is over,
/// it is over.
pub(crate) fn highest() -> Outcome {
    let _turn = measured_alone();
    let engine = Engine::start(&[]);
    let to = Target::ENGINE.at(7);
    let warm = visitors(to, Duration::from_millis(20), Duration::from_millis(400));
    all_served("before the flood", &warm);
    first_drop()?;
    let (before, drops) = (memory(engine.pid(), "VmRSS"), dropped());
    let flood = Flood::start(7, None)?;
    let span = Duration::from_secs(size(2, 10) as u64);
    let (visits, after, sent) = thread::scope(|scope| {
        let during = scope.spawn(|| visitors(to, Duration::from_millis(100), span));
        thread::sleep(span);
        let sent = flood.end();
        thread::sleep(Duration::from_secs(1));
        let mut after = Visits::default();
        (0..100).for_each(|_| after.add(visit(to, PATIENCE)));
        (during.join().unwrap(), after, sent)
    });
    let drops = dropped() - drops;
    row(&engine, "highest", &sent, drops, before, &visits);
    row(&engine, "highest, 1 s later", &sent, drops, before, &after);
    all_served("meanwhile", &visits);
    all_served("a second later", &after);
    let grown = memory(engine.pid(), "VmHWM").saturating_sub(before);
    assert!(grown <= GROWTH, "{grown} octets more than before");
    if soak() {
        let (during, after) = (visits.p99_and_worst().1, after.p99_and_worst().0);
        assert!(during < PATIENCE && after < Duration::from_secs(1), "worst {during:?}, p99 a second later {after:?}");
    }
    engine.finish();
    Ok(())
}

fn all_served(when: &str, visits: &Visits) {
    let (failed, served) = (visits.failures.len(), visits.served.len());
    assert!(failed == 0 && served > 0, "{when}: {failed} failed, {served} served: {:?}", visits.failures.first());
}

fn row(engine: &Engine, name: &str, sent: &Sent, drops: u64, before: u64, visits: &Visits) {
    let (p99, worst) = visits.p99_and_worst();
    let pid = engine.pid();
    add_row(Row {
        load: format!("SYNs, {name}"),
        plan: format!("{:.0}/s", sent.rate()),
        clients: format!("{} drops", drops + sent.refused),
        served: format!("{} of {}", visits.served.len(), visits.served.len() + visits.failures.len()),
        p99,
        worst,
        megabyte: Duration::MAX,
        keeps: "-".to_owned(),
        memory: format!("{} {} {}", before >> 20, memory(pid, "VmHWM") >> 20, memory(pid, "VmRSS") >> 20),
    });
}
