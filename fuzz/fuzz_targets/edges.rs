//! Which edges count: those of code that is written here. The compiler puts its instruments also into what it inlines
//! and what it makes of generic code of others: how a B-tree splits is not ours to cover.

use std::ffi::c_void;
use std::path::Path;
use std::slice;
use std::sync::LazyLock;

// The linker's names of the sections of the instruments: a counter for each edge, and where it is with its kind. The
// compiler's pass declares them in each module by itself, and does not bear that another does: hence the assembler.
std::arch::global_asm!(
    ".section .data.rel.ro.trust_edges,\"aw\"",
    ".balign 8",
    "trust_edges:",
    ".quad __start___sancov_cntrs",
    ".quad __stop___sancov_cntrs",
    ".quad __start___sancov_pcs",
    ".globl trust_edges",
    ".text",
);

#[repr(C)]
struct Sections {
    counters: *mut u8,
    behind: *mut u8,
    places: *const [usize; 2],
}

unsafe extern "C" {
    static trust_edges: Sections;
}

/// Of each edge 255 if it counts, else 0.
static OURS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let ours = |&[place, _]: &[usize; 2]| if is_ours(place) { 255 } else { 0 };
    places().iter().map(ours).collect()
});

/// Where each edge is, and 1 in the lowest bit of the second number if it is the entry of a function.
pub fn places() -> &'static [[usize; 2]] {
    // SAFETY: as many as there are counters.
    unsafe { slice::from_raw_parts(trust_edges.places, trust_edges.behind.offset_from(trust_edges.counters) as usize) }
}

/// The counters, to be looked at between two executions.
pub fn counters() -> &'static mut [u8] {
    // SAFETY: one thread runs scripts, and no script runs while they are looked at.
    unsafe { slice::from_raw_parts_mut(trust_edges.counters, places().len()) }
}

/// Forgets the edges of others that the execution came by.
pub fn forget_others() {
    for (counter, ours) in counters().iter_mut().zip(OURS.iter()) {
        *counter &= ours;
    }
}

/// Texts compared and searched octet by octet, in loops that the compiler has unrolled: what comes of it is ours, at
/// which octet it is known is not.
const COMPARED: [&str; 4] =
    ["core/src/slice/ascii.rs", "core/src/slice/memchr.rs", "core/src/slice/cmp.rs", "core/src/str/"];

/// The innermost function that is not one of `core`'s small helpers is written here, and does not just drop something.
pub fn is_ours(place: usize) -> bool {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder in another");
    let mut ours = None;
    // One octet on, since what is resolved is the call before an address.
    backtrace::resolve((place + 1) as *mut c_void, |symbol| {
        let name = symbol.name().map(|name| name.to_string()).unwrap_or_default();
        let file = symbol.filename().unwrap_or(Path::new(""));
        if ours.is_some() {
            return;
        }
        if name.contains("drop_in_place") || COMPARED.iter().any(|part| file.to_string_lossy().contains(part)) {
            ours = Some(false);
        } else if !file.to_string_lossy().contains("/library/core/src/") {
            ours = Some(file.starts_with(here));
        }
    });
    ours.unwrap_or(false)
}
