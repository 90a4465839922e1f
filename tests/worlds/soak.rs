//! Many worlds on all cores: progress, memory, what to type to replay one that failed.
//!
//! Must not contain: what a world is.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::coverage::Coverage;

/// Worlds from one line of progress to the next.
const PROGRESS: u64 = 10_000;
/// Failures after which it is enough.
const MOST_FAILURES: usize = 5;
/// What the allocator may keep more of than it did after the first line of progress.
const MOST_GROWTH: u64 = 256 << 20;

/// See the module.
pub struct Run<'a> {
    name: &'a str,
    from: u64,
    worlds: u64,
    began: Instant,
    next: AtomicU64,
    done: AtomicU64,
    /// Resident octets at the first line of progress.
    resident: AtomicU64,
    failed: Mutex<Vec<u64>>,
}

impl<'a> Run<'a> {
    /// `worlds` worlds from seed `from` on, for the test `name`.
    pub fn new(name: &'a str, from: u64, worlds: u64) -> Self {
        Self {
            name,
            from,
            worlds,
            began: Instant::now(),
            next: AtomicU64::new(from),
            done: AtomicU64::new(0),
            resident: AtomicU64::new(0),
            failed: Mutex::default(),
        }
    }

    /// Calls `live` with each seed; it says what is wrong. Panics when a world failed.
    pub fn all(self, live: impl Fn(u64, &mut Coverage) -> Result<(), String> + Sync) -> Coverage {
        let total = Mutex::new(Coverage::default());
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| {
                    let coverage = self.work(&live);
                    total.lock().unwrap().merge(coverage);
                });
            }
        });
        let coverage = total.into_inner().unwrap();
        let (name, from, failed) = (self.name, self.from, self.failed.into_inner().unwrap());
        println!("{name}, seeds from {from}\n{coverage}");
        assert!(failed.is_empty(), "{name}: failed seeds {failed:?}; each can be replayed as it says above");
        coverage
    }

    fn work(&self, live: impl Fn(u64, &mut Coverage) -> Result<(), String>) -> Coverage {
        let mut coverage = Coverage::default();
        while self.failed.lock().unwrap().len() < MOST_FAILURES {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.from + self.worlds {
                break;
            }
            let lived = catch_unwind(AssertUnwindSafe(|| live(seed, &mut coverage)));
            if let Err(wrong) = lived.unwrap_or_else(|_| Err(format!("world {seed}: a panic, see above"))) {
                println!("{wrong}\n{}", replay(self.name, seed));
                self.failed.lock().unwrap().push(seed);
            }
            let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
            if done.is_multiple_of(PROGRESS) {
                self.progress(done);
            }
        }
        coverage
    }

    fn progress(&self, done: u64) {
        let resident = resident();
        let seconds = self.began.elapsed().as_secs_f64();
        let failed = self.failed.lock().unwrap().len();
        println!(
            "{}: {done} of {} worlds in {seconds:.0} s, {:.0} a second, {} MiB resident, {failed} failed",
            self.name,
            self.worlds,
            done as f64 / seconds,
            resident >> 20
        );
        let _ = self.resident.compare_exchange(0, resident, Ordering::Relaxed, Ordering::Relaxed);
        let first = self.resident.load(Ordering::Relaxed);
        assert!(resident <= first + MOST_GROWTH, "memory grows: {resident} octets resident, {first} at first");
    }
}

/// What to type for one world again, its whole trace and a capture of it.
pub fn replay(name: &str, seed: u64) -> String {
    let release = if cfg!(debug_assertions) { "" } else { "--release " };
    format!(
        "replay: TRUST_WORLD_SEED={seed} TRUST_WORLD_PCAP=world-{seed}.pcapng \
         cargo test {release}--features sim --test worlds {name} -- --nocapture"
    )
}

/// Octets of this process that are in memory; 0 where the system does not say.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    // SAFETY: a number goes in and one comes out.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.unwrap_or(0) * u64::try_from(page).unwrap_or(0)
}

#[test]
fn a_failing_seed_says_how_to_replay_it() {
    let run = Run::new("random_worlds", 40, 10);
    let lived = catch_unwind(AssertUnwindSafe(|| {
        run.all(|seed, coverage| {
            coverage.add_world(1);
            if seed == 42 { Err("an octet is wrong".to_owned()) } else { Ok(()) }
        })
    }));
    let said = *lived.unwrap_err().downcast::<String>().unwrap();
    assert!(said.contains("failed seeds [42]"), "{said}");
    let line = replay("random_worlds", 42);
    assert!(line.starts_with("replay: TRUST_WORLD_SEED=42 TRUST_WORLD_PCAP="), "{line}");
    assert!(line.contains("--test worlds random_worlds -- --nocapture"), "{line}");
}
