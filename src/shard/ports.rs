//! Counters of the choice of ephemeral ports: algorithm 4 of RFC 6056, double-hash port selection.
//!
//! `port = first + (F + counter[G]) % count`: F sets off each destination by itself, so that nobody who sees ports
//! towards one host can tell those towards another; the counter goes on from port to port, so that a port comes back as
//! late as can be. G spreads destinations over counters, which all move by themselves.
//!
//! Each shard has counters of its own. It steps over ports that lead to others (`flow::ports_for_shard`), so that shards
//! never try for the same one.

use crate::flow::EPHEMERAL_PORTS;

/// Counters (a power of two). RFC 6056 3.3.4: 10 are not enough, some hundreds are.
const COUNTERS: usize = 256;

/// Ports to choose from; divides 2^16, so that counters may wrap.
const COUNT: u32 = *EPHEMERAL_PORTS.end() as u32 - *EPHEMERAL_PORTS.start() as u32 + 1;
const _: () = assert!((1 << 16) % COUNT == 0);

/// See the module.
#[derive(Debug)]
pub(crate) struct PortCounters {
    counters: Box<[u16; COUNTERS]>,
}

impl PortCounters {
    /// Counters that begin anywhere.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self { counters: Box::new(std::array::from_fn(|_| random.u16(..))) }
    }

    fn offset(hash: u64) -> u16 {
        (hash >> 32) as u16
    }

    fn index(hash: u64) -> usize {
        hash as usize % COUNTERS
    }

    /// Where to begin for a destination with this hash: a number of steps behind the first port.
    pub(crate) fn start(&self, hash: u64) -> u16 {
        Self::offset(hash).wrapping_add(self.counters[Self::index(hash)])
    }

    /// The port that was taken: the next choice begins behind it.
    pub(crate) fn took(&mut self, hash: u64, port: u16) {
        let behind = (port - EPHEMERAL_PORTS.start()).wrapping_add(1);
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
    fn rfc6056_3_3_a_port_comes_back_after_all_others() {
        let mut ports = PortCounters::new(7);
        let hash = 0xdead_beef_0123_4567;
        let mut seen = std::collections::HashSet::new();
        for _ in 0..COUNT {
            let taken = port(ports.start(hash));
            assert!(seen.insert(taken), "{taken} again after {} others", seen.len());
            ports.took(hash, taken);
        }
        assert!(!seen.insert(port(ports.start(hash))));
    }

    #[test]
    fn rfc6056_3_3_a_destination_tells_nothing_of_another() {
        let mut ports = PortCounters::new(7);
        // Another counter, and another offset on the same counter.
        for other in [0x0000_1111_0000_0001_u64, 0x0000_2222_0000_0000] {
            let before = (ports.start(0x0000_1111_0000_0000), ports.start(other));
            assert_ne!(before.0, before.1);
        }
        let before = ports.start(1);
        let taken = port(ports.start(0));
        ports.took(0, taken);
        assert_eq!(ports.start(1), before, "and moves no other counter");
        assert_eq!(port(ports.start(0)), port(taken.wrapping_add(1).wrapping_sub(*EPHEMERAL_PORTS.start())));
        assert_ne!(PortCounters::new(8).start(0), PortCounters::new(9).start(0), "the seed counts");
    }
}
