//! Scripted conversations with one connection under a virtual clock, and random ones between two of them (`two_hosts`).
//!
//! Test names carry the ids of the scenarios (`sc_..`), of the known implementation problems of RFC 2525 (`kp_..`) and
//! of requirements. Each scenario runs with initial sequence numbers near 0, 2^31 and 2^32.

#![allow(clippy::unwrap_used, missing_docs)]

mod closing;
mod congestion;
mod details;
mod duplicates;
mod flow;
mod harness;
mod keepalive;
mod limits;
mod opening;
mod paths;
mod recovery;
mod regressions;
mod resets;
mod script;
mod selective;
mod sender;
mod sequence;
mod timestamps;
mod two_hosts;
