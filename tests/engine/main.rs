//! Engines with threads of their own, joined by a device in memory, and the sockets on them.
//!
//! | file | holds |
//! | --- | --- |
//! | `streams`, `tokio_streams` | sockets that block, that wait for events, and those under tokio |
//! | `adapters` | hyper and axum on them |
//! | `edges` | no wake-up and no edge is lost |
//! | `uncopied` | octets that are sent and read where they lie |
//! | `routes` | routes and source addresses |
//! | `stopping` | what an engine does that stops or drains |
//! | `wrong_queue` | packets that arrive on queues of other shards |

#![allow(clippy::unwrap_used, missing_docs)]

#[cfg(any(feature = "axum", feature = "hyper"))]
mod adapters;
mod edges;
mod routes;
#[cfg(feature = "services")]
mod stopping;
mod streams;
#[cfg(feature = "tokio")]
mod tokio_streams;
mod uncopied;
#[cfg(feature = "services")]
mod wrong_queue;
