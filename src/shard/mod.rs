//! See the crate's map.

pub mod service;
pub mod slab;
pub mod table;
pub mod time_wait_table;
pub mod wheel;

pub use service::{ConnId, Io, IoBackend, Message, Service};
