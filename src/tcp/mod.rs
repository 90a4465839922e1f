//! The sans-IO TCP core: segments, time and the user's calls go in; segments, dispositions and deadlines come out.
//!
//! # What is here
//!
//! Four rooms; each imports those above it.
//!
//! | room | holds |
//! | --- | --- |
//! | `base` | data types: [`seq`], [`time`], [`timestamp`], [`units`], [`ranges`], [`timers`], [`segment`], [`state`], [`outcome`], [`info`]; every tunable ([`config`]) with its bounds and names ([`settings`]) |
//! | [`congestion`] | how much may be in flight: the window, the algorithms ([`reno`], [`cubic`]) and their first slow start, proportional rate reduction |
//! | `recovery` | what was sent and what became of it: the scoreboard, RACK, tail loss probes, F-RTO and undo, round trips |
//! | [`connection`] | opening ([`handshake`], [`half_open`], [`cookie`], [`isn`]), the record of a connection with its receiver and its sender, its verbs, its end ([`time_wait`]) |
//!
//! Each type owns its state behind private fields and answers in values. [`Connection`] composes them.
//!
//! # Invariants
//!
//! * No clock, descriptor, thread, log or random source: time, keys and numbers are handed in, and the same calls give
//!   the same history.
//! * No payload is owned: a store beside the connection keeps the octets, the core names ranges of them.
//! * Nothing panics, whatever a segment says. Sequence arithmetic wraps, sizes saturate.
//! * No allocation for a segment in order. What is out of order is bounded by the window, in octets and in ranges (as
//!   many as it has full segments).
//! * Only `wire` is imported, for its value types.
//! * No segment is answered by more than one segment, and none that carries RST by any.

pub mod congestion;
pub mod connection;

mod base;
mod recovery;

pub use base::config::{BufferLimits, Config, KeepAlive, RtoLimits};
pub use base::info::{Info, LossState, RecoveryCounts, SendLimit};
pub use base::outcome::{CloseReason, Context, Events, Heeded, Keep, Outcome, Payload};
pub use base::segment::{Segment, Transmit, reset_for};
pub use base::seq::SeqNum;
pub use base::settings::{ConfigError, Key};
pub use base::state::State;
pub use base::time::{Duration, Instant};
pub use base::{config, info, outcome, ranges, segment, seq, settings, state, time, timers, timestamp, units};
pub use congestion::{CongestionControl, cubic, reno};
pub use connection::handshake::half_open::{self, HalfOpen};
pub use connection::handshake::{FirstWindow, Handshake, HandshakeOutcome, OpenParams, Wishes};
pub(crate) use connection::sender::unsent_limit;
pub use connection::time_wait::{TimeWait, TimeWaitOutcome};
pub use connection::{Connection, Opened, challenge, cookie, handshake, isn, time_wait};

/// When silent connections are probed, and given up.
pub mod keepalive {
    pub use super::base::config::KeepAlive;
}
