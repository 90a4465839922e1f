//! See the crate map.
