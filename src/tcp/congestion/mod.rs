//! Congestion control: how much may be in flight.
//!
//! `Congestion` is what a connection has of it: the [`CongestionWindow`] that every segment looks at, the
//! [`Controller`] with what an algorithm remembers, and how far the window was used. Each algorithm is pure: time,
//! round trips and numbers are handed in. Which data to send and what counts as lost is decided outside.

pub mod controller;
pub mod cubic;
pub mod reno;
pub mod window;

pub(super) mod prr;

mod algorithm;
mod control;
mod hystart;

pub use super::base::algorithm::{CongestionControl, UnknownCongestionControl};
pub(super) use control::Congestion;
pub use controller::{Controller, Saved};
pub use window::{AckSample, CongestionWindow};

#[cfg(test)]
mod lab;
