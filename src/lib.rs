//! `trust`: a user-space TCP engine for Linux.
//!
//! # The map
//!
//! Each room imports only the rooms to its left or above:
//!
//! | room | holds | imports |
//! | --- | --- | --- |
//! | [`wire`] | bytes <-> values: IP, TCP, options, ICMP, checksum, virtio header; no state | etherparse |
//! | [`flow`] | quad, steering hash, owner table | `wire` |
//! | [`buffer`] | packet pool, send memory, SPSC ring, wake-up protocol | crossbeam |
//! | [`tcp`] | the sans-IO connection: no clock, no descriptor, no thread, no random source | `wire` |
//! | [`device`] | queues: multi-queue TUN, plain tun-tap, in-memory; wrappers | `wire`, `flow`, `buffer` |
//! | [`shard`] | flow table, timing wheel, byte stores, the turn, the `Service` trait | `tcp`, `wire`, `flow`, `buffer` |
//! | [`services`] | echo, discard, daytime, chargen, http, iperf3: one file or folder each | `shard` |
//! | [`net`] | sockets for programs on other threads: listener, stream, readiness | `shard`, `tcp`, `flow`, `buffer` |
//! | [`embed`] | one shard with sockets on the caller's thread and clock | `net` and what it imports, `device` |
//! | [`engine`] | rx, worker, tx, plan, start and stop: the only room with threads | all above |
//! | [`observe`] | reads counters | read-only views |
//! | `fence` (feature `fence`) | gives up rights: user, capabilities, files, system calls | nothing of ours |
//! | [`sim`] | a deterministic world of hosts and links; nobody imports it outside tests and tools | `embed` and what it imports |
//!
//! Life of a received segment: `device` queue -> `engine::rx` (owner) -> ring -> `engine::worker` -> `shard` (table)
//! -> `tcp::connection` -> service; and back: `poll_transmit` -> `shard` -> ring -> `engine::tx` -> `device` queue.
//! The same list is the reading order for a newcomer.

pub mod buffer;
#[cfg(not(loom))]
pub mod config;
#[cfg(not(loom))]
pub mod device;
#[cfg(not(loom))]
pub mod embed;
#[cfg(not(loom))]
pub mod engine;
#[cfg(all(feature = "fence", not(loom)))]
pub mod fence;
#[cfg(not(loom))]
pub mod flow;
#[cfg(not(loom))]
pub mod net;
#[cfg(not(loom))]
pub mod observe;
#[cfg(not(loom))]
pub mod services;
#[cfg(not(loom))]
pub mod shard;
#[cfg(not(loom))]
pub mod sim;
#[cfg(not(loom))]
pub mod tcp;
#[cfg(not(loom))]
pub mod wire;
