//! See the crate's map.

pub mod challenge;
pub mod congestion;
pub mod isn;
pub mod ranges;
pub mod reno;
pub mod rtt;
pub mod seq;
pub mod time;
pub mod timers;
