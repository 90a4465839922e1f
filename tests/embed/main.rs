//! Embedded hosts: sockets without threads, on a clock and wires of the caller's.

#![cfg(feature = "services")]
#![allow(clippy::unwrap_used, missing_docs)]

mod again;
mod debug;
mod early;
mod link;
mod peeking;
mod property;
mod queues;
mod sockets;
mod threads;
#[cfg(feature = "tokio")]
mod tokio_waiting;
mod transfers;
mod unsent;
mod vanished;
