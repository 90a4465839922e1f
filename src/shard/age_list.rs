//! Connections in the order in which something last happened to them: who has waited longest stands in front.
//!
//! A list linked through records by slot number, so that any entry leaves in constant time. *Lazy*: what happens to a
//! connection does not touch its entry. Whoever looks at the front compares its mark with the connection and, if they
//! differ, puts the entry at the back with a new one. Marks only lag behind, so an entry in front whose mark is true has
//! waited longer than any other.
//!
//! ```text
//!   oldest ──► since 10 s ──► since 12 s ──► since 12 s ──► since 40 s ◄── newest
//!              mark 7         mark 0         mark 3         mark 9
//! ```
//!
//! Must not contain: what the marks stand for, connections.

use crate::tcp::Instant;

/// Names no slot.
const NIL: u32 = u32::MAX;
/// Records in a page; pages never move.
const PAGE: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Node {
    since: Instant,
    mark: u64,
    older: u32,
    newer: u32,
}

const VACANT: Node = Node { since: Instant::ZERO, mark: 0, older: NIL, newer: NIL };

/// Slots by age, the oldest first.
#[derive(Debug)]
pub(crate) struct AgeList {
    pages: Vec<Box<[Node; PAGE]>>,
    oldest: u32,
    newest: u32,
    len: usize,
}

impl Default for AgeList {
    fn default() -> Self {
        Self { pages: Vec::new(), oldest: NIL, newest: NIL, len: 0 }
    }
}

impl AgeList {
    /// Makes room for `slot`, so that no later call allocates for it.
    pub(crate) fn reserve(&mut self, slot: u32) {
        while self.pages.len() <= slot as usize / PAGE {
            self.pages.push(Box::new([VACANT; PAGE]));
        }
    }

    /// Puts `slot`, which is not in the list, at the end.
    pub(crate) fn push(&mut self, slot: u32, since: Instant, mark: u64) {
        self.reserve(slot);
        let older = std::mem::replace(&mut self.newest, slot);
        match self.node(older) {
            Some(node) => node.newer = slot,
            None => self.oldest = slot,
        }
        if let Some(node) = self.node(slot) {
            *node = Node { since, mark, older, newer: NIL };
        }
        self.len += 1;
    }

    /// Takes out `slot`, which is in the list.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(&mut Node { older, newer, .. }) = self.node(slot) else { return };
        match self.node(older) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
        match self.node(newer) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
        self.len -= 1;
    }

    /// The entry in front: its slot, since when it has its mark, and the mark.
    pub(crate) fn oldest(&self) -> Option<(u32, Instant, u64)> {
        let node = self.pages.get(self.oldest as usize / PAGE)?[self.oldest as usize % PAGE];
        Some((self.oldest, node.since, node.mark))
    }

    /// Puts an entry at the end, with a new mark.
    pub(crate) fn renew(&mut self, slot: u32, since: Instant, mark: u64) {
        self.remove(slot);
        self.push(slot, since, mark);
    }

    /// Entries.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn node(&mut self, slot: u32) -> Option<&mut Node> {
        self.pages.get_mut(slot as usize / PAGE).map(|page| &mut page[slot as usize % PAGE])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(seconds)
    }

    #[test]
    fn the_list_keeps_the_order_of_a_queue_from_which_any_may_leave() {
        let mut random = fastrand::Rng::with_seed(4);
        let (mut list, mut model) = (AgeList::default(), VecDeque::<(u32, Instant, u64)>::new());
        for step in 0..20_000_u64 {
            let slot = random.u32(0..600);
            match model.iter().position(|(other, ..)| *other == slot) {
                None => {
                    list.push(slot, at(step), step);
                    model.push_back((slot, at(step), step));
                }
                Some(place) if random.bool() => {
                    list.remove(slot);
                    model.remove(place);
                }
                Some(place) => {
                    list.renew(slot, at(step), step);
                    model.remove(place);
                    model.push_back((slot, at(step), step));
                }
            }
            assert_eq!((list.oldest(), list.len()), (model.front().copied(), model.len()));
        }
        while let Some((slot, ..)) = list.oldest() {
            assert_eq!(model.pop_front().map(|(slot, ..)| slot), Some(slot));
            list.remove(slot);
        }
        assert!(model.is_empty());
    }
}
