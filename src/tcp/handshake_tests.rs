//! The opening scenarios.
#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn a_half_open_entry_is_small() {
    assert!(size_of::<Handshake>() <= 160, "{}", size_of::<Handshake>());
}
