//! Two hosts, all services on one of them: the driver is shared with the ordinary tests.
#![no_main]

#[path = "../../tests/fuzzing/forge.rs"]
mod forge;
#[path = "../../tests/fuzzing/hosts.rs"]
mod hosts;
#[path = "../../tests/fuzzing/input.rs"]
mod input;

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    hosts::run(script);
});
