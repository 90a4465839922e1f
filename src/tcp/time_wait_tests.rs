//! TIME-WAIT by RFC 1337 and RFC 6191.
#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn sm_tw_7_the_record_is_compact() {
    assert!(size_of::<TimeWait>() <= 64, "{}", size_of::<TimeWait>());
}
