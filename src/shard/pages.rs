//! Values by number, in pages that never move: one more page costs the same at a million values as at none. Only the list
//! of pages is copied when it grows, 8 octets for 256 values.

use std::ops::{Index, IndexMut};

/// Values in a page.
pub(super) const PAGE: usize = 256;

/// Values by number, 256 to a page.
#[derive(Debug)]
pub(super) struct Pages<T> {
    pages: Vec<Box<[T; PAGE]>>,
}

impl<T> Pages<T> {
    pub(super) const fn new() -> Self {
        Self { pages: Vec::new() }
    }

    /// Numbers that have a value: those below this.
    pub(super) fn len(&self) -> usize {
        self.pages.len() * PAGE
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        Some(&self.pages.get(index as usize / PAGE)?[index as usize % PAGE])
    }

    /// Adds a page: each of the next numbers gets what `make` says.
    #[cold]
    pub(super) fn add_page(&mut self, make: impl FnMut(u32) -> T) {
        let first = u32::try_from(self.len()).expect("numbers fit 32 bits");
        let page: Box<[T]> = (first..).take(PAGE).map(make).collect();
        self.pages.extend(page.try_into().ok());
    }
}

impl<T> Index<u32> for Pages<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        &self.pages[index as usize / PAGE][index as usize % PAGE]
    }
}

impl<T> IndexMut<u32> for Pages<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.pages[index as usize / PAGE][index as usize % PAGE]
    }
}
