//! Two hosts, all services on one of them: the driver is shared with the ordinary tests.
#![no_main]

mod edges;
#[path = "../../tests/fuzzing/forge.rs"]
mod forge;
#[path = "../../tests/fuzzing/hosts.rs"]
mod hosts;
#[path = "../../tests/fuzzing/input.rs"]
mod input;
mod lists;

// The address sanitizer watches an allocator of its own (`fuzzing`: cargo-fuzz, which uses it unless told otherwise).
#[cfg(not(any(asan, fuzzing)))]
#[global_allocator]
static ALLOCATOR: lists::Lists = lists::Lists;

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    hosts::run(script);
    edges::forget_others();
});
