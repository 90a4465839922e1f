//! The parsers: the driver is shared with the ordinary tests.
#![no_main]

mod edges;
#[path = "../../tests/fuzzing/wire.rs"]
mod wire;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    wire::run(octets);
    edges::forget_others();
});
