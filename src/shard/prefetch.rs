//! A hint to the processor, for tables that know what is looked at next.

/// A line of the processor's cache, octets.
const LINE: usize = 64;

/// Asks the processor to have the first `lines` lines of `value` ready; no effect where that is not known how.
#[inline(always)]
pub(super) fn prefetch<T>(value: &T, lines: usize) {
    for line in 0..lines.min(size_of::<T>().div_ceil(LINE)) {
        let at = std::ptr::from_ref(value).cast::<i8>().wrapping_add(line * LINE);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint that changes nothing and cannot fault; the address lies within a live reference besides.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(at);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = at;
    }
}
