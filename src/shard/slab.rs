//! Slots for connections: a number that is quick to look up, and a generation that tells its former users apart.
//!
//! Values lie in pages that never move, so that growing by a page costs the same at a million connections as at none, and
//! no reference stored elsewhere by slot number ever goes stale. Of the free slots of a page the one freed last is used
//! first, the warmest. A page without values goes back to the allocator, except one, so that a peak is not held for ever
//! and a number that swings around a page's end costs nothing.

use super::pages::{PAGE, Pages};
use super::prefetch::prefetch;

/// End of a page's list of free slots; no page.
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
    /// Of a free slot: the one of its page freed before it.
    next: u32,
}

/// What is known of a page beside its values.
#[derive(Debug)]
struct Page {
    /// The slot freed last.
    free: u32,
    taken: u32,
    /// Its place among the open pages.
    place: u32,
}

/// Values by slot.
#[derive(Debug)]
pub struct Slab<T> {
    /// `None`: the page went back.
    values: Vec<Option<Box<[Option<T>; PAGE]>>>,
    marks: Pages<Mark>,
    pages: Vec<Page>,
    /// Pages that are there and have free slots.
    open: Vec<u32>,
    /// Pages that went back.
    gone: Vec<u32>,
    /// The open page without values that is kept.
    spare: u32,
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
        Self {
            values: Vec::new(),
            marks: Pages::new(),
            pages: Vec::new(),
            open: Vec::new(),
            gone: Vec::new(),
            spare: NIL,
            len: 0,
            high_water: 0,
        }
    }

    /// Puts a value into the slot freed last of an open page, or into a new page.
    pub fn insert(&mut self, value: T) -> Key {
        self.insert_with(|_| value)
    }

    /// [`insert`](Self::insert) for a value that wants to know its key.
    pub fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        if self.open.is_empty() {
            self.open_page();
        }
        let number = self.open[self.open.len() - 1];
        let page = &mut self.pages[number as usize];
        let slot = page.free;
        let Mark { generation, next } = self.marks[slot];
        let key = Key { slot, generation };
        let value = make(key);
        page.free = next;
        page.taken += 1;
        if next == NIL {
            self.open.pop();
        }
        if self.spare == number {
            self.spare = NIL;
        }
        if let Some(values) = &mut self.values[number as usize] {
            values[slot as usize % PAGE] = Some(value);
        }
        self.len += 1;
        self.high_water = self.high_water.max(self.len);
        key
    }

    /// Takes a value out. `None`: it has been before.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let value = self.place_of(key)?.take()?;
        self.vacate(key);
        Some(value)
    }

    /// Drops a value where it is, without moving it; says whether it was there.
    pub fn discard(&mut self, key: Key) -> bool {
        let Some(place @ Some(_)) = self.place_of(key) else { return false };
        *place = None;
        self.vacate(key);
        true
    }

    fn place_of(&mut self, key: Key) -> Option<&mut Option<T>> {
        self.marks.get(key.slot).filter(|mark| mark.generation == key.generation)?;
        Some(&mut self.values[key.slot as usize / PAGE].as_mut()?[key.slot as usize % PAGE])
    }

    /// The slot of `key` has no value any more.
    fn vacate(&mut self, key: Key) {
        let number = key.slot / PAGE as u32;
        let page = &mut self.pages[number as usize];
        if page.free == NIL {
            page.place = self.open.len() as u32;
            self.open.push(number);
        }
        self.marks[key.slot] = Mark { generation: key.generation.wrapping_add(1), next: page.free };
        page.free = key.slot;
        page.taken -= 1;
        self.len -= 1;
        if page.taken == 0 {
            self.vacated(number);
        }
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
        self.values.get(slot as usize / PAGE)?.as_ref()?[slot as usize % PAGE].as_ref()
    }

    /// The value in `slot`, whichever it is.
    #[inline]
    pub fn at_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.values.get_mut(slot as usize / PAGE)?.as_mut()?[slot as usize % PAGE].as_mut()
    }

    /// Two values at once. `None` when one of them is not there, or both are the same.
    pub fn pair_mut(&mut self, a: Key, b: Key) -> Option<(&mut T, &mut T)> {
        if self.get(a).is_none() || self.get(b).is_none() {
            return None;
        }
        let (page_a, page_b) = (a.slot as usize / PAGE, b.slot as usize / PAGE);
        let (index_a, index_b) = (a.slot as usize % PAGE, b.slot as usize % PAGE);
        if page_a == page_b {
            let [a, b] = self.values[page_a].as_mut()?.get_disjoint_mut([index_a, index_b]).ok()?;
            return Some((a.as_mut()?, b.as_mut()?));
        }
        let [page_a, page_b] = self.values.get_disjoint_mut([page_a, page_b]).ok()?;
        Some((page_a.as_mut()?[index_a].as_mut()?, page_b.as_mut()?[index_b].as_mut()?))
    }

    /// The key of the value in `slot`.
    #[inline]
    #[must_use]
    pub fn key(&self, slot: u32) -> Option<Key> {
        self.at(slot)?;
        Some(self.named(slot))
    }

    /// Asks for the first so many cache lines of the value in `slot`.
    #[inline]
    pub fn prefetch(&self, slot: u32, lines: usize) {
        if let Some(Some(values)) = self.values.get(slot as usize / PAGE) {
            prefetch(&values[slot as usize % PAGE], lines);
        }
    }

    /// All values, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        let there =
            self.values.iter().zip((0..).step_by(PAGE)).filter_map(|(page, first)| Some((page.as_ref()?, first)));
        let values = there.flat_map(|(page, first)| page.iter().zip(first..));
        // Behind the last of them nothing is left to be found: a page is many slots, and there may be one value.
        values.filter_map(|(value, slot)| Some((self.named(slot), value.as_ref()?))).take(self.len)
    }

    /// All values, by slot.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        let marks = &self.marks;
        let there = self.values.iter_mut().zip((0..).step_by(PAGE));
        let values = there.filter_map(|(page, first)| Some((page.as_mut()?, first)));
        let values = values.flat_map(|(page, first)| page.iter_mut().zip(first..));
        values.filter_map(|(value, slot)| Some((Key { slot, generation: marks[slot].generation }, value.as_mut()?)))
    }

    fn named(&self, slot: u32) -> Key {
        Key { slot, generation: self.marks[slot].generation }
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
        self.marks.len()
    }

    /// Opens a page: one that went back, or a new one.
    #[cold]
    fn open_page(&mut self) {
        let number = self.gone.pop().unwrap_or_else(|| {
            let first = self.marks.len() as u32;
            self.marks.add_page(|_| Mark { generation: 0, next: NIL });
            for slot in first..first + PAGE as u32 - 1 {
                self.marks[slot].next = slot + 1;
            }
            self.values.push(None);
            self.pages.push(Page { free: first, taken: 0, place: 0 });
            self.pages.len() as u32 - 1
        });
        let page: Box<[Option<T>]> = (0..PAGE).map(|_| None).collect();
        self.values[number as usize] = page.try_into().ok();
        self.pages[number as usize].place = self.open.len() as u32;
        self.open.push(number);
    }

    /// A page has no value any more: it is the one that is kept, or it goes back.
    #[cold]
    fn vacated(&mut self, number: u32) {
        if self.spare == NIL {
            self.spare = number;
            return;
        }
        let place = self.pages[number as usize].place;
        self.open.swap_remove(place as usize);
        if let Some(&moved) = self.open.get(place as usize) {
            self.pages[moved as usize].place = place;
        }
        self.values[number as usize] = None;
        self.gone.push(number);
    }

    /// Pages that are there.
    #[cfg(test)]
    fn pages_held(&self) -> usize {
        self.values.iter().flatten().count()
    }
}

#[cfg(test)]
#[path = "slab_tests.rs"]
mod tests;
