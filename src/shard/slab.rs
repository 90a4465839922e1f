//! Slots for connections: a number that is quick to look up, and a generation that tells its former users apart.
//!
//! Values lie in pages that never move, so that growing by a page costs the same at a million connections as at none, and
//! no reference stored elsewhere by slot number ever goes stale. Free slots are reused last-in first-out: the warmest first.
//! Pages are kept for reuse.

use super::table::prefetch;

/// Values in a page.
const PAGE: usize = 256;

/// Names a value for as long as it lives, and nothing afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Place of the value; used again after it.
    pub slot: u32,
    /// How many values the slot has had before, modulo 2^32.
    pub generation: u32,
}

/// Values by slot.
#[derive(Debug)]
pub struct Slab<T> {
    pages: Vec<Box<[Option<T>]>>,
    /// Beside the values: on the path of a segment the slot alone is enough, and a value's alignment would blow it up.
    generations: Vec<u32>,
    free: Vec<u32>,
    high_water: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slab<T> {
    /// An empty slab; its first page comes with the first value.
    #[must_use]
    pub const fn new() -> Self {
        Self { pages: Vec::new(), generations: Vec::new(), free: Vec::new(), high_water: 0 }
    }

    /// Puts a value into the slot freed last, or into a new page.
    pub fn insert(&mut self, value: T) -> Key {
        self.insert_with(|_| value)
    }

    /// [`insert`](Self::insert) for a value that wants to know its key.
    pub fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        if self.free.is_empty() {
            self.add_page();
        }
        let slot = *self.free.last().expect("a page was added");
        let key = Key { slot, generation: self.generations[slot as usize] };
        let value = make(key);
        self.free.pop();
        self.pages[slot as usize / PAGE][slot as usize % PAGE] = Some(value);
        self.high_water = self.high_water.max(self.len());
        key
    }

    /// Takes a value out. `None`: it has been before.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        if self.generations.get(key.slot as usize) != Some(&key.generation) {
            return None;
        }
        let value = self.pages[key.slot as usize / PAGE][key.slot as usize % PAGE].take()?;
        self.generations[key.slot as usize] = key.generation.wrapping_add(1);
        self.free.push(key.slot);
        Some(value)
    }

    /// The value that `key` names.
    #[inline]
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        if self.generations.get(key.slot as usize) != Some(&key.generation) {
            return None;
        }
        self.at(key.slot)
    }

    /// The value that `key` names.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        if self.generations.get(key.slot as usize) != Some(&key.generation) {
            return None;
        }
        self.at_mut(key.slot)
    }

    /// The value in `slot`, whichever it is.
    #[inline]
    #[must_use]
    pub fn at(&self, slot: u32) -> Option<&T> {
        self.pages.get(slot as usize / PAGE)?[slot as usize % PAGE].as_ref()
    }

    /// The value in `slot`, whichever it is.
    #[inline]
    pub fn at_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.pages.get_mut(slot as usize / PAGE)?[slot as usize % PAGE].as_mut()
    }

    /// Two values at once. `None` when one of them is not there, or both are the same.
    pub fn pair_mut(&mut self, a: Key, b: Key) -> Option<(&mut T, &mut T)> {
        if self.get(a).is_none() || self.get(b).is_none() {
            return None;
        }
        let (page_a, page_b) = (a.slot as usize / PAGE, b.slot as usize / PAGE);
        let (index_a, index_b) = (a.slot as usize % PAGE, b.slot as usize % PAGE);
        if page_a == page_b {
            let [a, b] = self.pages[page_a].get_disjoint_mut([index_a, index_b]).ok()?;
            return Some((a.as_mut()?, b.as_mut()?));
        }
        let [page_a, page_b] = self.pages.get_disjoint_mut([page_a, page_b]).ok()?;
        Some((page_a[index_a].as_mut()?, page_b[index_b].as_mut()?))
    }

    /// The key of the value in `slot`.
    #[inline]
    #[must_use]
    pub fn key(&self, slot: u32) -> Option<Key> {
        self.at(slot)?;
        Some(Key { slot, generation: self.generations[slot as usize] })
    }

    /// Asks for the first cache line of the value in `slot`.
    #[inline]
    pub fn prefetch(&self, slot: u32) {
        if let Some(page) = self.pages.get(slot as usize / PAGE) {
            prefetch(&page[slot as usize % PAGE]);
        }
    }

    /// All values, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        let values = self.pages.iter().flat_map(|page| page.iter());
        values
            .zip(&self.generations)
            .zip(0..)
            .filter_map(|((value, &generation), slot)| Some((Key { slot, generation }, value.as_ref()?)))
    }

    /// All values, by slot.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        let values = self.pages.iter_mut().flat_map(|page| page.iter_mut());
        values
            .zip(&self.generations)
            .zip(0..)
            .filter_map(|((value, &generation), slot)| Some((Key { slot, generation }, value.as_mut()?)))
    }

    /// Values there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.generations.len() - self.free.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Most values there were at a time.
    #[must_use]
    pub fn high_water(&self) -> usize {
        self.high_water
    }

    /// Slots there are: every slot is below this.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.generations.len()
    }

    #[cold]
    fn add_page(&mut self) {
        let first = self.generations.len();
        let end = u32::try_from(first + PAGE).expect("slots fit 32 bits");
        self.pages.push(std::iter::repeat_with(|| None).take(PAGE).collect());
        self.generations.resize(end as usize, 0);
        // Room for all slots to be free, so that no `remove` allocates.
        self.free.reserve(end as usize);
        self.free.extend((first as u32..end).rev());
    }
}

#[cfg(test)]
#[path = "slab_tests.rs"]
mod tests;
