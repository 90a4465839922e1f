//! The parsers: the driver is shared with the ordinary tests.
#![no_main]

#[path = "../../tests/fuzzing/wire.rs"]
mod wire;
mod edges;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    wire::run(octets);
    edges::forget_others();
});
