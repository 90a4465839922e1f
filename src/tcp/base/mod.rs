//! What everything else in the core is built of: numbers, times, sets, segments, settings. Data types, no behaviour of
//! TCP.

pub(super) mod algorithm;
pub mod config;
pub mod info;
pub mod outcome;
pub mod ranges;
pub mod segment;
pub mod seq;
pub mod settings;
pub mod state;
pub mod time;
pub mod timers;
pub mod timestamp;
pub mod units;
