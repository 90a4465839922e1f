//! Embedded hosts: sockets without threads, on a clock and wires of the caller's.

#![allow(clippy::unwrap_used, missing_docs)]

mod link;
mod property;
mod queues;
mod sockets;
mod threads;
mod transfers;
mod vanished;
