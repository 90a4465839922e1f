//! An allocator that counts what the whole process allocates.

#![allow(dead_code, missing_docs, unreachable_pub)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicU64 = AtomicU64::new(0);
static TRAP: AtomicBool = AtomicBool::new(false);
/// A stack is being printed, which takes many allocations.
static TRAPPED: AtomicBool = AtomicBool::new(false);

/// Allocations and reallocations so far.
pub fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::SeqCst)
}

/// Octets allocated and not freed.
pub fn live() -> u64 {
    LIVE.load(Ordering::SeqCst)
}

/// From now on the first allocation prints its stack and goes on: to find out who it was.
pub fn set_trap(on: bool) {
    TRAP.store(on, Ordering::SeqCst);
}

fn note(octets: usize) {
    LIVE.fetch_add(octets as u64, Ordering::Relaxed);
    if TRAPPED.load(Ordering::Relaxed) {
        return;
    }
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    if TRAP.load(Ordering::Relaxed) && TRAP.swap(false, Ordering::SeqCst) {
        TRAPPED.store(true, Ordering::SeqCst);
        eprintln!("an allocation of {octets} octets:\n{}", std::backtrace::Backtrace::force_capture());
        TRAPPED.store(false, Ordering::SeqCst);
    }
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above; zeroed pages stay untouched.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        note(size);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}
