//! Slots for connections: a number that is quick to look up, and a generation that tells its former users apart.
//!
//! Values lie in pages that never move, so that growing by a page costs the same at a million connections as at none, and
//! no reference stored elsewhere by slot number ever goes stale. Free slots are reused last-in first-out: the warmest first.
//! Pages are kept for reuse.

#[cfg(test)]
use super::pages::PAGE;
use super::pages::Pages;
use super::table::prefetch;

/// End of the list of free slots.
const NIL: u32 = u32::MAX;

/// Names a value for as long as it lives, and nothing afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Place of the value; used again after it.
    pub slot: u32,
    /// How many values the slot has had before, modulo 2^32.
    pub generation: u32,
}

/// What is known of a slot beside its value: on the path of a segment the slot alone is enough, and the value's alignment
/// would blow it up.
#[derive(Debug, Clone, Copy)]
struct Mark {
    generation: u32,
    /// Of a free slot: the one freed before it.
    next: u32,
}

/// Values by slot.
#[derive(Debug)]
pub struct Slab<T> {
    values: Pages<Option<T>>,
    marks: Pages<Mark>,
    /// The slot freed last.
    free: u32,
    len: usize,
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
        Self { values: Pages::new(), marks: Pages::new(), free: NIL, len: 0, high_water: 0 }
    }

    /// Puts a value into the slot freed last, or into a new page.
    pub fn insert(&mut self, value: T) -> Key {
        self.insert_with(|_| value)
    }

    /// [`insert`](Self::insert) for a value that wants to know its key.
    pub fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        if self.free == NIL {
            self.add_page();
        }
        let slot = self.free;
        let Mark { generation, next } = self.marks[slot];
        let key = Key { slot, generation };
        let value = make(key);
        self.free = next;
        self.values[slot] = Some(value);
        self.len += 1;
        self.high_water = self.high_water.max(self.len);
        key
    }

    /// Takes a value out. `None`: it has been before.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let mark = self.marks.get_mut(key.slot).filter(|mark| mark.generation == key.generation)?;
        let value = self.values[key.slot].take()?;
        *mark = Mark { generation: key.generation.wrapping_add(1), next: self.free };
        self.free = key.slot;
        self.len -= 1;
        Some(value)
    }

    /// The value that `key` names.
    #[inline]
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        self.marks.get(key.slot).filter(|mark| mark.generation == key.generation)?;
        self.at(key.slot)
    }

    /// The value that `key` names.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.marks.get(key.slot).filter(|mark| mark.generation == key.generation)?;
        self.at_mut(key.slot)
    }

    /// The value in `slot`, whichever it is.
    #[inline]
    #[must_use]
    pub fn at(&self, slot: u32) -> Option<&T> {
        self.values.get(slot)?.as_ref()
    }

    /// The value in `slot`, whichever it is.
    #[inline]
    pub fn at_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.values.get_mut(slot)?.as_mut()
    }

    /// Two values at once. `None` when one of them is not there, or both are the same.
    pub fn pair_mut(&mut self, a: Key, b: Key) -> Option<(&mut T, &mut T)> {
        if self.get(a).is_none() || self.get(b).is_none() {
            return None;
        }
        let (a, b) = self.values.pair_mut(a.slot, b.slot)?;
        Some((a.as_mut()?, b.as_mut()?))
    }

    /// The key of the value in `slot`.
    #[inline]
    #[must_use]
    pub fn key(&self, slot: u32) -> Option<Key> {
        self.at(slot)?;
        Some(Key { slot, generation: self.marks[slot].generation })
    }

    /// Asks for the first cache line of the value in `slot`.
    #[inline]
    pub fn prefetch(&self, slot: u32) {
        if let Some(value) = self.values.get(slot) {
            prefetch(value);
        }
    }

    /// All values, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        let places = self.values.iter().zip(self.marks.iter()).zip(0..);
        places.filter_map(|((value, mark), slot)| Some((Key { slot, generation: mark.generation }, value.as_ref()?)))
    }

    /// All values, by slot.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        let places = self.values.iter_mut().zip(self.marks.iter()).zip(0..);
        places.filter_map(|((value, mark), slot)| Some((Key { slot, generation: mark.generation }, value.as_mut()?)))
    }

    /// Values there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Most values there were at a time.
    #[must_use]
    pub fn high_water(&self) -> usize {
        self.high_water
    }

    /// Slots there are: every slot is below this.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.values.len()
    }

    #[cold]
    fn add_page(&mut self) {
        let first = self.values.len() as u32;
        self.values.add_page(|_| None);
        let last = self.values.len() as u32 - 1;
        self.marks.add_page(|slot| Mark { generation: 0, next: if slot == last { NIL } else { slot + 1 } });
        self.free = first;
    }
}

#[cfg(test)]
#[path = "slab_tests.rs"]
mod tests;
