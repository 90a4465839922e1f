//! Pages of the kernel that are ours alone: zeroed when they are first touched, and given back one range at a time.
//!
//! Must not contain: what is in them (`region`).

use std::io;
use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// A private anonymous mapping, which goes with this.
#[derive(Debug)]
pub(crate) struct Mapping {
    first: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value and to no thread; whoever reads or writes through `first` answers for that.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing here looks into the pages.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` octets, at least one. Fails where the limits of the process or of the machine leave no room.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let len = len.max(1);
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: without an address of ours the kernel takes one where nothing is.
        let first = unsafe { mmap_anonymous(ptr::null_mut(), len, rights, MapFlags::PRIVATE) }?;
        let first = NonNull::new(first.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Self { first, len })
    }

    /// Where it begins.
    #[inline]
    pub(crate) fn first(&self) -> *mut u8 {
        self.first.as_ptr()
    }

    /// Gives whole pages back to the kernel; they are zeroed when they are next touched. Where it refuses they stay as they are.
    ///
    /// # Safety
    ///
    /// Nobody may hold a reference to any octet of the range, or expect to find there what was written.
    pub(crate) unsafe fn give_back(&self, from: usize, len: usize) {
        assert!(from <= self.len && len <= self.len - from, "range beyond the mapping");
        // SAFETY: within the mapping, as was just checked, and nobody looks at what goes: the caller's promise.
        let _ = unsafe { madvise(self.first().add(from).cast(), len, Advice::LinuxDontNeed) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, once; who reads through `first` holds this value alive.
        let _ = unsafe { munmap(self.first().cast(), self.len) };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pages_given_back_are_zeros() {
        let mapping = Mapping::new(1 << 16).unwrap();
        // SAFETY: within the mapping, which nobody else knows.
        unsafe {
            mapping.first().add(5).write(7);
            assert_eq!(mapping.first().add(5).read(), 7);
            mapping.give_back(0, 1 << 16);
            assert_eq!(mapping.first().add(5).read(), 0);
            assert_eq!(mapping.first().add((1 << 16) - 1).read(), 0);
        }
    }

    #[test]
    fn what_has_no_room_is_an_error() {
        assert!(Mapping::new(usize::MAX >> 1).is_err());
    }

    #[test]
    #[should_panic(expected = "range beyond the mapping")]
    fn nothing_beyond_is_given_back() {
        // SAFETY: refused before anything is done.
        unsafe { Mapping::new(4096).unwrap().give_back(4096, 4096) };
    }
}
