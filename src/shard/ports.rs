//! Counters of the choice of ephemeral ports: algorithm 4 of RFC 6056, double-hash port selection.
//!
//! `port = first + (F + counter[G]) % count`: F sets off each destination by itself, so that nobody who sees ports
//! towards one host can tell those towards another; the counter goes on from port to port, so that a port comes back late. G
//! spreads destinations over counters, which all move by themselves.
//!
//! Who has us open connections to many destinations of his (a page in a browser does) could find out which of them share a
//! counter, and so recognize this host by its key (Kol, Klein and Gilad, 2023). As in Linux, three things are against it:
//! so many counters that hardly two destinations share one; steps of 1 to [`MOST`], at random, so that one connection cannot
//! be told from several; and a key for [`LIFE`] only: F and G are of the time, too. Where a search begins is all that any
//! of this decides: it goes on over all ports. A port may come back earlier for it; the TIME-WAIT record is looked for, and
//! numbers and timestamps grow (RFC 6528, RFC 6191).
//!
//! Each shard has counters of its own. It steps over ports that lead to others (`steering::ports_for_shard`), and begins
//! as far from the others as may be: a port whose connection is over leads to nobody any more, but the peer may have it
//! in TIME-WAIT.

use crate::steering::EPHEMERAL_PORTS;
use crate::tcp::{Duration, Instant};

/// Counters (a power of two).
const COUNTERS: usize = 1 << 16;

/// The longest step.
const MOST: u16 = 8;

/// How long offsets and places of counters stay what they are.
pub(crate) const LIFE: Duration = Duration::from_secs(10);

/// Ports to choose from; divides 2^16, so that counters may wrap.
const COUNT: u32 = *EPHEMERAL_PORTS.end() as u32 - *EPHEMERAL_PORTS.start() as u32 + 1;
const _: () = assert!((1 << 16) % COUNT == 0);

/// Which key is valid now: part of what is hashed.
pub(crate) fn epoch(now: Instant) -> u64 {
    now.as_nanos() / LIFE.as_nanos()
}

/// The port for a destination with this hash whose counter has not moved: what a driver without counters takes.
#[cfg(feature = "sim")]
pub(crate) fn first(hash: u64) -> u16 {
    EPHEMERAL_PORTS.start() + (u32::from(PortCounters::offset(hash)) % COUNT) as u16
}

/// The counters from which each choice of a port goes on, and the key that chooses among them.
#[derive(Debug)]
pub(crate) struct PortCounters {
    /// Made with the first port. What is added to each is secret.
    counters: Box<[u16]>,
    /// What they begin with.
    first: u16,
    steps: fastrand::Rng,
}

impl PortCounters {
    /// Those of one of so many shards.
    pub(crate) fn new(seed: u64, shard: u16, shards: u16) -> Self {
        let first = (u32::from(shard) * COUNT / u32::from(shards.max(1))) as u16;
        Self { counters: Box::default(), first, steps: fastrand::Rng::with_seed(seed) }
    }

    fn offset(hash: u64) -> u16 {
        (hash >> 32) as u16
    }

    fn index(hash: u64) -> usize {
        hash as usize % COUNTERS
    }

    /// Where to begin for a destination with this hash: a number of steps behind the first port.
    pub(crate) fn start(&self, hash: u64) -> u16 {
        let counter = self.counters.get(Self::index(hash)).copied().unwrap_or(self.first);
        Self::offset(hash).wrapping_add(counter)
    }

    /// The port that was taken: the next choice begins a step behind it.
    pub(crate) fn took(&mut self, hash: u64, port: u16) {
        if self.counters.is_empty() {
            self.counters = vec![self.first; COUNTERS].into();
        }
        let behind = port.wrapping_sub(*EPHEMERAL_PORTS.start()).wrapping_add(self.steps.u16(1..=MOST));
        self.counters[Self::index(hash)] = behind.wrapping_sub(Self::offset(hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(start: u16) -> u16 {
        EPHEMERAL_PORTS.start() + (u32::from(start) % COUNT) as u16
    }

    #[test]
    fn rfc6056_3_3_a_port_comes_back_late() {
        let mut ports = PortCounters::new(7, 0, 1);
        let hash = 0xdead_beef_0123_4567;
        let mut seen = std::collections::HashSet::new();
        for _ in 0..COUNT / u32::from(MOST) {
            let taken = port(ports.start(hash));
            assert!(seen.insert(taken), "{taken} again after {} others", seen.len());
            ports.took(hash, taken);
        }
    }

    /// Also where a port of one is vacant again when the other chooses: the peer may remember it.
    #[test]
    fn rfc6056_3_3_shards_come_to_each_others_ports_late() {
        for shards in [2, 3, 16] {
            let mut seen = std::collections::HashSet::new();
            for shard in 0..shards {
                let mut ports = PortCounters::new(7, shard, shards);
                for _ in 0..COUNT / u32::from(MOST * shards) {
                    let taken = port(ports.start(0xdead_beef_0123_4567));
                    assert!(seen.insert(taken), "{taken} by shard {shard} of {shards}");
                    ports.took(0xdead_beef_0123_4567, taken);
                }
            }
        }
    }

    /// How many connections went elsewhere by the same counter cannot be told from two of our own.
    #[test]
    fn rfc6056_3_5_steps_are_random() {
        let mut ports = PortCounters::new(7, 0, 1);
        let mut steps = [0; MOST as usize + 1];
        for _ in 0..8_000 {
            let before = ports.start(5);
            ports.took(5, port(before));
            steps[usize::from(ports.start(5).wrapping_sub(before)) % COUNT as usize] += 1;
        }
        assert_eq!(steps[0], 0, "never the same again");
        assert!(steps[1..].iter().all(|count| (800..1_200).contains(count)), "{steps:?}");
        let mut other = PortCounters::new(8, 0, 1);
        let differ = (0..64).any(|_| {
            let start = ports.start(9);
            ports.took(9, port(start));
            other.took(9, port(start));
            ports.start(9) != other.start(9)
        });
        assert!(differ, "the seed counts");
    }

    /// Among a thousand destinations, few share a counter: with 256 counters, nearly all did.
    #[test]
    fn rfc6056_3_3_destinations_hardly_share_a_counter() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut places: Vec<usize> = (0..1_000).map(|_| PortCounters::index(random.u64(..))).collect();
        places.sort_unstable();
        places.dedup();
        assert!(places.len() > 980, "{} places", places.len());
    }

    #[test]
    fn rfc6056_3_3_a_destination_tells_nothing_of_another() {
        let mut ports = PortCounters::new(7, 0, 1);
        // Another counter, and another offset on the same counter.
        for other in [0x0000_1111_0000_0001_u64, 0x0000_2222_0000_0000] {
            let before = (ports.start(0x0000_1111_0000_0000), ports.start(other));
            assert!(other == 0x0000_1111_0000_0001 || before.0 != before.1);
        }
        let before = ports.start(1);
        let taken = port(ports.start(0));
        ports.took(0, taken);
        assert_eq!(ports.start(1), before, "and moves no other counter");
    }

    #[test]
    fn the_key_changes_every_ten_seconds() {
        let at = |millis| epoch(Instant::from_millis(millis));
        assert_eq!(at(0), at(9_999));
        assert_ne!(at(9_999), at(10_000));
        assert_ne!(at(10_000), at(20_000));
    }
}
