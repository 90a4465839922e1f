//! Pages of the kernel under memory whose contents nobody needs any more.
//!
//! Must not contain: which memory that is.

/// Octets in a page, or a multiple of it: 4 KB or 64 KB on all that we know of.
#[cfg(not(miri))]
fn page_len() -> usize {
    use std::sync::OnceLock;
    static LEN: OnceLock<usize> = OnceLock::new();
    // SAFETY: asks for a number.
    *LEN.get_or_init(|| usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(65_536).max(4_096))
}

/// Values of which any octets are one.
pub(super) trait Plain: Copy {}
impl Plain for u8 {}
impl Plain for u32 {}

/// Gives the whole pages within `values` back to the kernel. Each value is afterwards what it was, or zero. Where the kernel
/// refuses, the pages stay, which harms nobody.
#[cfg(not(miri))]
pub(super) fn give_back<T: Plain>(values: &mut [T]) {
    let (page, octets) = (page_len(), std::mem::size_of_val(values));
    let first = values.as_mut_ptr().cast::<u8>();
    let skip = first.addr().wrapping_neg() & (page - 1);
    let len = octets.saturating_sub(skip) & !(page - 1);
    if len > 0 {
        // SAFETY: whole pages within values that we hold alone. They stay mapped, and read as they were or as zeros: values of
        // their type either way.
        let _ = unsafe { libc::madvise(first.add(skip).cast(), len, libc::MADV_DONTNEED) };
    }
}

/// Pages within `values` that the kernel holds, in octets.
#[cfg(all(test, not(miri)))]
pub(super) fn resident<T>(values: &[T]) -> usize {
    let page = page_len();
    let (first, octets) = (values.as_ptr().addr(), std::mem::size_of_val(values));
    let begin = first & !(page - 1);
    let mut pages = vec![0_u8; (first + octets - begin).div_ceil(page)];
    // SAFETY: asks about memory that is there; the answer has a place for each of its pages.
    let asked = unsafe { libc::mincore(begin as *mut _, pages.len() * page, pages.as_mut_ptr()) };
    assert_eq!(asked, 0);
    pages.iter().filter(|held| **held & 1 != 0).count() * page
}

/// The interpreter has no pages.
#[cfg(miri)]
pub(super) fn give_back<T: Plain>(_: &mut [T]) {}
