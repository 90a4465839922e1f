//! See the crate's map.

pub mod seq;
pub mod time;
