//! The sans-IO TCP core: segments, time and the user's calls go in; segments, dispositions and deadlines come out.
//!
//! # What is here
//!
//! | file | holds |
//! | --- | --- |
//! | [`config`], [`settings`] | every tunable with its reason; bounds, names, text |
//! | [`state`] | the states and their diagram |
//! | [`segment`] | what arrives, what leaves, the RST for a closed port |
//! | [`handshake`] | SYN-SENT and SYN-RECEIVED, option negotiation |
//! | [`half_open`], [`cookie`] | a passive open at rest, and in a sequence number |
//! | [`connection`] | the synchronized states: record and user calls |
//! | `input`, `acks` | `on_segment`: the checks, text and FIN; what an acknowledgment means |
//! | `output`, `expiry` | `poll_transmit`, `on_timeout` |
//! | [`keepalive`] | giving up: R2, user timeout, keep-alive |
//! | `tuning` | buffers, cork, quick acknowledgments: what users set on one connection |
//! | `scoreboard` | what was sent when, and what became of it |
//! | `recovery`, `rack`, `prr`, `probe` | loss recovery with SACK; the timer of recovery and tail loss probes |
//! | `send`, `recv` | the two sequence spaces with the RFC's figures |
//! | `report` | which SACK blocks to report |
//! | [`time_wait`] | the compact record of TIME-WAIT |
//! | [`outcome`], [`info`] | what callers are told |
//! | [`seq`], [`time`], [`ranges`], [`timers`] | arithmetic and small containers |
//! | [`rtt`] | how long to wait |
//! | [`congestion`], [`reno`], [`cubic`], `hystart` | how much to send: the window, the algorithms, their first slow start |
//! | [`isn`], [`challenge`] | initial numbers from a secret, the limit for challenge ACKs |
//!
//! # Invariants
//!
//! * No clock, descriptor, thread, log or random source: time, keys and numbers are handed in, and the same calls give
//!   the same history.
//! * No payload is owned: a store beside the connection keeps the octets, the core names ranges of them.
//! * Nothing panics, whatever a segment says. Sequence arithmetic wraps, sizes saturate.
//! * No allocation for a segment in order. What is out of order is bounded by the window, in octets and in ranges (as many
//!   as it has full segments).
//! * Only `wire` is imported, for its value types.
//! * No segment is answered by more than one segment, and none that carries RST by any.

pub mod challenge;
pub mod config;
pub mod congestion;
pub mod connection;
pub mod cookie;
pub mod cubic;
pub mod half_open;
pub mod handshake;
pub mod info;
pub mod isn;
pub mod keepalive;
pub mod outcome;
pub mod ranges;
pub mod reno;
pub mod rtt;
pub mod segment;
pub mod seq;
pub mod settings;
pub mod state;
pub mod time;
pub mod time_wait;
pub mod timers;

mod acks;
mod expiry;
mod hystart;
mod input;
mod marks;
mod output;
mod probe;
mod prr;
mod rack;
mod recovery;
mod recv;
mod report;
mod scoreboard;
mod send;
mod tuning;

pub use config::{BufferLimits, Config};
pub use congestion::CongestionControl;
pub use connection::{Connection, Opened};
pub use half_open::HalfOpen;
pub use handshake::{FirstWindow, Handshake, HandshakeOutcome, OpenParams, Wishes};
pub use info::{Info, LossState, RecoveryCounts};
pub use keepalive::KeepAlive;
pub use outcome::{CloseReason, Context, Events, Keep, Outcome, Payload};
pub use segment::{Segment, Transmit, reset_for};
pub use seq::SeqNum;
pub use settings::{ConfigError, Key};
pub use state::State;
pub use time::{Duration, Instant};
pub use time_wait::{TimeWait, TimeWaitOutcome};
pub(crate) use tuning::unsent_limit;

#[cfg(test)]
mod congestion_lab;
#[cfg(test)]
mod connection_tests;
#[cfg(test)]
mod edge_tests;
#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod loss_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod world_tests;
