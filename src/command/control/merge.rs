//! A k-way merge: what several shards tell, each in the order of its times, in the order of time over all of them.

use std::collections::VecDeque;

use trust::tcp::Instant;

/// What has come and may still be overtaken by what another shard is behind with.
#[derive(Debug)]
pub(crate) struct Merge<T> {
    /// By shard, oldest first.
    waiting: Vec<VecDeque<(Instant, T)>>,
}

impl<T> Default for Merge<T> {
    fn default() -> Self {
        Self { waiting: Vec::new() }
    }
}

impl<T> Merge<T> {
    /// The next of that shard.
    pub(crate) fn add(&mut self, shard: u16, at: Instant, item: T) {
        let shard = usize::from(shard);
        if self.waiting.len() <= shard {
            self.waiting.resize_with(shard + 1, VecDeque::new);
        }
        self.waiting[shard].push_back((at, item));
    }

    /// The oldest one and its shard, if it is older than `before`; `None` there: nothing more comes. Among those of one
    /// time, the first shard's.
    pub(crate) fn take(&mut self, before: Option<Instant>) -> Option<(u16, T)> {
        let fronts = self.waiting.iter().enumerate();
        let (at, shard) = fronts.filter_map(|(shard, items)| items.front().map(|(at, _)| (*at, shard))).min()?;
        if before.is_some_and(|before| at >= before) {
            return None;
        }
        self.waiting[shard].pop_front().map(|(_, item)| (shard as u16, item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_before_what_may_still_come() {
        let mut merge = Merge::default();
        for (shard, at) in [(0, 5), (0, 9), (2, 1), (2, 5), (2, 30), (1, 7)] {
            merge.add(shard, Instant::from_nanos(at), at);
        }
        let mut take = |before: Option<u64>| {
            std::iter::from_fn(|| merge.take(before.map(Instant::from_nanos))).collect::<Vec<_>>()
        };
        assert_eq!(take(Some(1)), []);
        assert_eq!(take(Some(7)), [(2, 1), (0, 5), (2, 5)]);
        assert_eq!(take(None), [(1, 7), (0, 9), (2, 30)]);
        assert_eq!(take(None), []);
    }

    #[test]
    fn of_one_shard_and_time_the_order_stays() {
        let mut merge = Merge::default();
        for item in ["first", "second", "third"] {
            merge.add(3, Instant::from_nanos(4), item);
        }
        let taken: Vec<_> = std::iter::from_fn(|| merge.take(None)).collect();
        assert_eq!(taken, [(3, "first"), (3, "second"), (3, "third")]);
    }
}
