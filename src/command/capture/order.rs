//! Packets of several shards in the order of their times. Each shard's come in order; the others may be behind.

use std::collections::VecDeque;

use trust::tcp::Instant;

use super::super::control::packets::Packet;

/// What has come and may still be overtaken.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// By shard, oldest first.
    waiting: Vec<VecDeque<Packet>>,
}

impl Order {
    pub(super) fn add(&mut self, packet: Packet) {
        let shard = usize::from(packet.shard);
        if self.waiting.len() <= shard {
            self.waiting.resize_with(shard + 1, VecDeque::new);
        }
        self.waiting[shard].push_back(packet);
    }

    /// The oldest one, if it is older than `before`; `None` there: nothing more comes. Among those of one time, the first
    /// shard's.
    pub(super) fn take(&mut self, before: Option<Instant>) -> Option<Packet> {
        let fronts = self.waiting.iter().enumerate();
        let oldest = fronts.filter_map(|(shard, packets)| packets.front().map(|packet| (packet.sight.at, shard))).min();
        let (at, shard) = oldest?;
        if before.is_some_and(|before| at >= before) {
            return None;
        }
        self.waiting[shard].pop_front()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use trust::shard::tap::Sight;

    use super::*;

    fn packet(shard: u16, at: u64) -> Packet {
        Packet { shard, sight: Sight { at: Instant::from_nanos(at), ..Sight::default() }, octets: Vec::new() }
    }

    #[test]
    fn nothing_is_written_before_what_may_still_come() {
        let mut order = Order::default();
        for (shard, at) in [(0, 5), (0, 9), (2, 1), (2, 5), (2, 30), (1, 7)] {
            order.add(packet(shard, at));
        }
        let mut take = |before: Option<u64>| {
            let mut taken = Vec::new();
            while let Some(packet) = order.take(before.map(Instant::from_nanos)) {
                taken.push((packet.sight.at.as_nanos(), packet.shard));
            }
            taken
        };
        assert_eq!(take(Some(1)), []);
        assert_eq!(take(Some(7)), [(1, 2), (5, 0), (5, 2)]);
        assert_eq!(take(None), [(7, 1), (9, 0), (30, 2)]);
        assert_eq!(take(None), []);
    }
}
