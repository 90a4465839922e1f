//! An allocator for a program that builds the same things again and again: what is freed is kept by its size, and the
//! next execution gets it. No page goes back to the kernel and comes again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

/// Sizes are powers of two from `1 << LEAST` on; what is larger than the last, or aligned to more than the first, is the
/// system's.
const LEAST: u32 = 4;
const SIZES: usize = 17;

thread_local! {
    /// The blocks of each size that were freed last: each holds the address of the one before it.
    static FREE: [Cell<*mut u8>; SIZES] = const { [const { Cell::new(ptr::null_mut()) }; SIZES] };
}

/// See the module.
pub struct Lists;

fn class(layout: Layout) -> Option<usize> {
    let size = layout.size().max(1 << LEAST).next_power_of_two().trailing_zeros() - LEAST;
    (layout.align() <= 1 << LEAST && (size as usize) < SIZES).then_some(size as usize)
}

fn whole(class: usize) -> Layout {
    Layout::from_size_align(1 << (class + LEAST as usize), 1 << LEAST).expect("a power of two")
}

fn take(class: usize) -> *mut u8 {
    FREE.with(|free| {
        let block = free[class].get();
        if !block.is_null() {
            // SAFETY: a block that was freed holds the address of the one before it.
            free[class].set(unsafe { block.cast::<*mut u8>().read() });
        }
        block
    })
}

// SAFETY: a block is either in one list or with one owner, and as large and aligned as its class says.
unsafe impl GlobalAlloc for Lists {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: what is asked of the system is no less than what was asked of us.
        let Some(class) = class(layout) else { return unsafe { System.alloc(layout) } };
        let block = take(class);
        // SAFETY: as above.
        if block.is_null() { unsafe { System.alloc(whole(class)) } } else { block }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let Some(class) = class(layout) else { return unsafe { System.alloc_zeroed(layout) } };
        let block = take(class);
        if block.is_null() {
            // SAFETY: as above.
            return unsafe { System.alloc_zeroed(whole(class)) };
        }
        // SAFETY: the block is at least as large.
        unsafe { block.write_bytes(0, layout.size()) };
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: it came from there.
        let Some(class) = class(layout) else { return unsafe { System.dealloc(block, layout) } };
        FREE.with(|free| {
            // SAFETY: nobody uses the block any more, and it is large enough for an address.
            unsafe { block.cast::<*mut u8>().write(free[class].get()) };
            free[class].set(block);
        });
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise: the size is no more than isize::MAX.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class(layout), class(wanted)) {
            (None, None) => unsafe { System.realloc(block, layout, size) },
            (Some(old), Some(new)) if old == new => block,
            _ => {
                // SAFETY: two blocks, each at least as large as what is copied.
                unsafe {
                    let other = self.alloc(wanted);
                    if !other.is_null() {
                        ptr::copy_nonoverlapping(block, other, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    other
                }
            }
        }
    }
}
