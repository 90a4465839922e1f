//! A deterministic world: hosts with the real stack, links that do to packets what networks do, and a virtual clock.
//!
//! One seed gives one history: the hash of the [`trace`] proves that a replay is the same. Nobody imports this room
//! outside tests and tools.
//!
//! # What is here
//!
//! | file | holds |
//! | --- | --- |
//! | [`world`] | clock, event queue, hosts and the links between them |
//! | [`host`] | what a host is; a host made of a closure |
//! | [`shard_host`] | a host made of a real [`Shard`](crate::shard::Shard) with its rings, pools and send memory |
//! | [`app`] | the applications on it: random writers, readers and endings that know every octet they must get |
//! | [`link`], [`stages`], [`gro`] | one direction of a link: stages that delay, drop, repeat, cut, merge |
//! | [`packet`] | a packet on its way |
//! | [`rules`], [`invariants`], `resends` | what must hold after every event, seen from the wire |
//! | [`trace`] | what happened, a line for each event |
//!
//! # Invariants
//!
//! * No clock is read and no random source but the world's: every stage and every host draws from a generator of its
//!   own that the seed has started.
//! * A packet passes through a link's stages in order, each at its own time; what two packets do at the same time
//!   happens in the order in which they were scheduled.
//! * Hosts know nothing of each other, and the applications nothing of the links.

pub mod app;
pub mod gro;
pub mod host;
pub mod invariants;
pub mod link;
pub mod packet;
mod resends;
pub mod rules;
pub mod shard_host;
pub mod stages;
pub mod trace;
pub mod world;

pub use app::{Ending, Plan, Report};
pub use host::{Host, ScriptedHost};
pub use invariants::Invariants;
pub use link::{Exit, Stage};
pub use packet::{Packet, View};
pub use rules::{Rule, Violation};
pub use shard_host::{ShardHost, ShardHostConfig};
pub use trace::Trace;
pub use world::{Failure, HostId, Way, World};

/// The generator of the whole room: wyrand, seeded by the world.
pub use fastrand::Rng;

pub use crate::device::impair::hit;

#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod world_tests;
