//! [`Births`]: which shards take new buckets, for steering by birth.
//!
//! A flow is born on the shard whose worker runs on the CPU that sends its SYN. One that has much more than the others, or
//! no time left, says so here, and buckets that would be its own go to the shard that the hash says instead.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::flow::ShardId;

/// A shard with fewer flows takes new ones, however few others have ...
const FEW: u64 = 256;
/// ... with more, until it has so many times what the others have on average. Two shards thus share flows 3 to 1 at worst ...
const OVER: u64 = 3;
/// ... and again when it has less than so many times that.
const UNDER: u64 = 2;

#[derive(Debug)]
struct Shard {
    /// Where its worker runs, if that is one place, and its queue its own.
    cpu: Option<usize>,
    takes: AtomicBool,
    /// As it has last told.
    flows: AtomicU32,
}

/// By shard: its CPU, and whether it takes new buckets.
#[derive(Debug)]
pub(super) struct Births {
    shards: Box<[Shard]>,
}

impl Births {
    /// `cpus`: where the worker of each shard runs.
    pub(super) fn new(cpus: &[Option<usize>]) -> Self {
        let shard = |cpu: &Option<usize>| Shard { cpu: *cpu, takes: AtomicBool::new(true), flows: AtomicU32::new(0) };
        Self { shards: cpus.iter().map(shard).collect() }
    }

    pub(super) fn cpu(&self, shard: ShardId) -> Option<usize> {
        self.shards.get(shard.index()).and_then(|shard| shard.cpu)
    }

    #[inline]
    pub(super) fn takes(&self, shard: ShardId) -> bool {
        // Relaxed, as all here: hints, by themselves.
        self.shards.get(shard.index()).is_some_and(|shard| shard.takes.load(Ordering::Relaxed))
    }

    /// A shard has so many flows now, and its worker no time left if `busy`. Returns whether it takes new buckets if that
    /// has changed.
    pub(super) fn tell(&self, shard: ShardId, flows: u32, busy: bool) -> Option<bool> {
        let place = self.shards.get(shard.index())?;
        place.flows.store(flows, Ordering::Relaxed);
        let took = place.takes.load(Ordering::Relaxed);
        let takes = !busy && (u64::from(flows) <= FEW || self.has_its_share(shard, flows, took));
        (takes != took).then(|| {
            place.takes.store(takes, Ordering::Relaxed);
            takes
        })
    }

    fn has_its_share(&self, shard: ShardId, flows: u32, took: bool) -> bool {
        let others = self.shards.len() as u64 - 1;
        let all: u64 = self.shards.iter().map(|shard| u64::from(shard.flows.load(Ordering::Relaxed))).sum();
        let theirs = all.saturating_sub(u64::from(self.shards[shard.index()].flows.load(Ordering::Relaxed)));
        let most = if took { OVER } else { UNDER };
        u64::from(flows) * others <= most * theirs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All flows come from one CPU: what it leaves to the hash is halved.
    #[test]
    fn one_sender_leaves_the_other_shard_a_fifth_and_more() {
        let births = Births::new(&[Some(0), Some(1)]);
        let mut flows = [0_u32; 2];
        for born in 0..100_000_u32 {
            let to = if births.takes(ShardId(0)) { 0 } else { (born.wrapping_mul(0x9e37_79b9) >> 31) as usize };
            flows[to] += 1;
            if born % 64 == 0 {
                births.tell(ShardId(0), flows[0], false);
                births.tell(ShardId(1), flows[1], false);
            }
            assert!(born < 2_000 || flows[1] * 100 > born * 24, "{flows:?}");
        }
        assert!(flows[0] > flows[1], "{flows:?}");
    }

    #[test]
    fn few_flows_are_nobodys_matter_and_a_busy_shard_takes_none() {
        let births = Births::new(&[None; 4]);
        assert_eq!(births.tell(ShardId(1), 256, false), None);
        assert_eq!(births.tell(ShardId(1), 257, false), Some(false));
        assert!(!births.takes(ShardId(1)) && births.takes(ShardId(0)));
        assert_eq!(births.tell(ShardId(1), 256, false), Some(true));
        assert_eq!(births.tell(ShardId(1), 3, true), Some(false));
        assert_eq!(births.tell(ShardId(1), 3, true), None);
        assert_eq!(births.tell(ShardId(1), 3, false), Some(true));
        // The others have 300 on average: 900 may be had, and after 901 it takes 600.
        for shard in [0, 2, 3] {
            assert_eq!(births.tell(ShardId(shard), 300, false), Some(false).filter(|_| shard == 0));
        }
        for (flows, change) in [(900, None), (901, Some(false)), (601, None), (600, Some(true))] {
            assert_eq!(births.tell(ShardId(1), flows, false), change, "{flows}");
        }
        assert_eq!(births.tell(ShardId(9), 1, false), None);
        assert!(!births.takes(ShardId(9)));
    }
}
