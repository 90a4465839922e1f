//! What was sent and what became of it: round trips, losses, recoveries.
//!
//! `LossRecovery` is what a connection has of it. With SACK, loss is found by RACK (RFC 8985), or by the rules of RFC
//! 6675 where RACK is switched off, and PRR (RFC 9937) says how much leaves. Without SACK it is NewReno (RFC 6582):
//! there, duplicate ACKs do not tell what has arrived, so times say nothing about which segment is missing.
//!
//! It answers in values. What they lead to, for the window, the timers and what leaves, is the connection's.

pub(super) mod episode;
pub(super) mod rtt;
pub(super) mod scoreboard;
pub(super) mod summary;

mod answers;
mod loss_recovery;
mod rack;
mod tail_probe;

pub(super) use answers::{DuplicateAck, LossTimer, Needless, Phase, SendNumbers};
pub(super) use loss_recovery::LossRecovery;
