//! How much memory a connection may take: a guarantee for each, and a fair share of the rest.
//!
//! A shard has memory for data to be sent and a limit for data received and not read. Of either, half is set aside for the
//! guarantee: every connection may take [`GUARANTEE`] whatever the others do, on demand. With more connections than the
//! half has guarantees (65,536 for each 512 MiB) each may take the half divided by their number, and where little of the half
//! is left, no more than that divided by their number or by 1,024, so that those who come last find some, too; but 256 octets
//! in any case.
//!
//! The other half is common. Of it a connection may take at most an eighth of what is free now: the *dynamic threshold* by which
//! switches share their buffers (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches",
//! 1998). It takes no list and no scan, greedy holders converge to equal shares as what they hold comes and goes, and N of
//! them then leave 8/(8 + N) free.
//!
//! ```text
//!   |<------------- guarantees ------------->|<---------------- common ---------------->|
//!   |<-------------------- free ----------------------->|============= taken ===========|
//!   |reserve|                                |  |< 1/8 >|
//!                                                       what one that holds nothing may take, and a guarantee
//! ```
//!
//! Whatever is taken is counted against the common half as long as there is some of it; so of the guarantees there is enough
//! even for those who come last.
//!
//! Who gives back quickly what he takes is not to starve beside those who do not: the first half of the guarantees is lent
//! to connections that have something to show. Such a one may take as many octets as it has taken before and given back
//! (its peer has acknowledged them, or its reader has read them), but at most an eighth of what is free above the last
//! quarter, or [`ACTIVE`] while there is a quarter. Whoever lets everything lie has nothing to show, and who turns bad later
//! has moved as much before as he then keeps.
//!
//! Guarantees shrink when there are more connections, and what was taken before is not taken back: so a last sixteenth,
//! the reserve, is for the first octets of connections that hold nothing yet.
//!
//! What counts is memory taken, not octets in it. Must not contain: memory, connections.

/// Octets that every connection may take on either side.
pub(crate) const GUARANTEE: u64 = 4_096;
/// So many connections that come one after another find something of the free memory for guarantees, and more.
const NEWCOMERS: u64 = 1_024;
/// What is left of it however many connections there are: the smallest block of memory.
const LEAST_GUARANTEE: u64 = 256;
/// What a connection may take in any case that has proved to give back, while a quarter is free: what a super-segment
/// holds.
const ACTIVE: u64 = 65_536;
/// What a connection may take when only the reserve is left.
const FIRST_OCTETS: u64 = 1_024;
/// Log2 of what part of the free common memory one connection may take.
const SHARE_BITS: u32 = 3;

/// The memory of one kind: for data to be sent, or for data received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pool {
    /// Octets in all.
    pub(crate) capacity: u64,
    /// Octets that somebody has taken.
    pub(crate) taken: u64,
    /// Octets that nobody has taken and that are of use for anything: not those between small pieces that somebody has.
    pub(crate) whole: u64,
}

impl Pool {
    /// Free octets of the common half.
    #[inline]
    fn common(self) -> u64 {
        self.whole.saturating_sub(self.capacity / 2)
    }

    /// Whether one connection that holds `taken` may take `more` octets of the common half alone. Cheap, and true nearly
    /// always: whoever needs to know no better need not ask for the [`allowance`](Self::allowance).
    #[inline]
    pub(crate) fn is_ample(self, taken: u32, more: u64) -> bool {
        self.common() >> SHARE_BITS >= more + u64::from(taken)
    }

    /// Whether a quarter of all is free, which those may use who give back at once what they take.
    #[inline]
    pub(crate) fn has_quarter(self) -> bool {
        self.taken <= self.capacity - self.capacity / 4
    }

    /// Octets that a connection which holds `taken` may still take, as one of so many. `proven`: octets that it has taken
    /// before and given back.
    #[inline]
    pub(crate) fn allowance(self, taken: u32, connections: usize, proven: u64) -> u32 {
        let free = self.capacity.saturating_sub(self.taken);
        let share = self.guarantee(connections) + (self.common() >> SHARE_BITS);
        let limit = if self.has_quarter() {
            let lent = self.whole.saturating_sub(self.capacity / 4) >> SHARE_BITS;
            share.max(proven.min(lent.max(ACTIVE)))
        } else if free < self.capacity / 16 {
            FIRST_OCTETS.min(share)
        } else {
            share
        };
        let allowed = limit.saturating_sub(u64::from(taken)).min(free);
        u32::try_from(allowed).unwrap_or(u32::MAX)
    }

    /// What each of so many connections may take in any case.
    #[inline]
    fn guarantee(self, connections: usize) -> u64 {
        let half = self.capacity / 2;
        let connections = connections as u64;
        let fair = if connections * GUARANTEE <= half { GUARANTEE } else { half / connections };
        let rest = self.whole.min(half) / connections.clamp(1, NEWCOMERS);
        fair.min(rest).max(LEAST_GUARANTEE)
    }

    /// Whether so little of the common half is left, a 32nd, that those who hold memory and do nothing with it have to give
    /// way.
    #[inline]
    pub(crate) fn is_short(self) -> bool {
        self.common() < self.capacity / 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn with_free(capacity: u64, free: u64) -> Pool {
        Pool { capacity, taken: capacity - free, whole: free }
    }

    /// As many greedy connections as given, one after another in rounds, until none may take more; what each has taken.
    fn greedy(capacity: u64, holders: usize) -> (Vec<u32>, Pool) {
        let mut each = vec![0_u32; holders];
        let mut pool = with_free(capacity, capacity);
        loop {
            let before = pool.taken;
            for taken in &mut each {
                let more = pool.allowance(*taken, holders, 0).min(1_024);
                *taken += more;
                pool = with_free(capacity, pool.whole - u64::from(more));
            }
            if pool.taken == before {
                return (each, pool);
            }
        }
    }

    /// Nobody who comes later finds less than the guarantee, as long as there are no more than guarantees.
    #[test]
    fn greedy_holders_converge_to_equal_shares_and_leave_the_guarantee_to_others() {
        for holders in [1, 10, 100, 1_000, 10_000] {
            let capacity = 512 * MIB;
            let (taken, pool) = greedy(capacity, holders);
            let (least, most) = (*taken.iter().min().expect("some"), *taken.iter().max().expect("some"));
            assert!(most - least <= 1_024, "{holders}: {least} to {most}");
            // What each takes at last: t = guarantee + (common - holders * t) / 8.
            let fair = (capacity / 2 + 8 * GUARANTEE) / (8 + holders as u64);
            assert!(u64::from(most).abs_diff(fair) <= 2_048, "{holders}: {most}, fair were {fair}");
            let newcomer = pool.allowance(0, holders + 1, 0);
            assert!(u64::from(newcomer) >= GUARANTEE + pool.common() / 8, "{holders}: {newcomer}");
            assert!(pool.whole >= capacity / 2 - holders as u64 * GUARANTEE);
            assert_eq!(pool.is_short(), holders >= 1_000, "{holders}");
        }
    }

    #[test]
    fn with_more_connections_than_guarantees_each_gets_the_half_divided_by_their_number() {
        for (connections, guarantee) in
            [(1, 4_096), (65_536, 4_096), (131_072, 2_048), (1_048_576, 256), (2_000_000, 256)]
        {
            let pool = with_free(512 * MIB, 256 * MIB);
            assert_eq!(pool.allowance(0, connections, 0), guarantee, "{connections}");
        }
    }

    /// Each comes, takes all it may and gives nothing back; whoever comes then finds something, however little there was.
    #[test]
    fn who_comes_last_finds_some() {
        for (capacity, holders) in [(4 * MIB, 2_000), (8 * MIB, 3_400), (32 * MIB, 6_500), (512 * MIB, 68_000)] {
            let (mut pool, mut least) = (with_free(capacity, capacity), u32::MAX);
            for number in 1..=holders {
                let mut taken = 0;
                // In blocks, as memory is.
                while pool.allowance(taken, number, 0) >= 256 {
                    taken += 256;
                    pool = with_free(capacity, pool.whole - 256);
                }
                least = least.min(taken);
            }
            assert!(least >= 256, "{capacity}: {least}");
            assert!(pool.allowance(0, holders + 1, 0) >= 256, "{capacity}: {pool:?}");
        }
    }

    #[test]
    fn who_gives_back_may_take_while_a_quarter_is_free() {
        let used_up = with_free(512 * MIB, 256 * MIB);
        for (proven, allowed) in [(0, 4_096), (10_000, 10_000), (1 << 40, 16 << 20)] {
            assert_eq!(used_up.allowance(0, 10, proven), allowed, "{proven}");
        }
        assert_eq!(used_up.allowance(16 << 20, 10, 1 << 40), 0);
        // Near the end of what is lent, a super-segment each.
        let lent = with_free(512 * MIB, 128 * MIB);
        assert_eq!(lent.allowance(0, 10, 1 << 40), 65_536);
        assert_eq!(lent.allowance(65_000, 10, 1 << 40), 536);
        assert_eq!(with_free(512 * MIB, 127 * MIB).allowance(0, 10, 1 << 40), 4_096);
    }

    #[test]
    fn the_reserve_is_for_first_octets() {
        let pool = with_free(64 * MIB, 4 * MIB - 1);
        assert_eq!(pool.allowance(0, 10, 0), 1_024);
        assert_eq!(pool.allowance(1_024, 10, 0), 0);
        assert_eq!(with_free(64 * MIB, 100).allowance(0, 10, 0), 100, "no more than there is");
        assert_eq!(with_free(64 * MIB, 0).allowance(0, 10, 0), 0);
    }

    #[test]
    fn what_is_ample_is_allowed() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100_000 {
            let capacity = random.u64(0..1 << 34);
            let pool = with_free(capacity, random.u64(0..=capacity));
            let (taken, more, connections) = (random.u32(..), random.u64(0..1 << 20), random.usize(0..1 << 20));
            if pool.is_ample(taken, more) {
                assert!(u64::from(pool.allowance(taken, connections, 0)) >= more, "{pool:?} {taken} {more}");
            }
        }
    }

    #[test]
    fn a_pool_without_memory_allows_nothing() {
        let pool = with_free(0, 0);
        assert_eq!(pool.allowance(0, 0, 0), 0);
        assert_eq!(pool.allowance(0, 9, 0), 0);
    }
}
