//! See the crate's map.

pub mod service;

pub use service::{ConnId, Io, IoBackend, Message, Service};
