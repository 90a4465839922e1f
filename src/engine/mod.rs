//! The engine: shards on pinned threads between the queues of a device. The only room with threads.
//!
//! ```text
//!   device queue ──► rx ──ring──► worker (shard) ──ring──► tx ──► device queue
//!                     ▲            │        ▲               │
//!                     └───returns──┘        └──completions──┘
//! ```
//!
//! `rx`, `worker` and `tx` are plain structs whose `poll` does a bounded batch. A [`Plan`] says which thread runs which
//! of them; the rings between two stages are the same whether they share a thread or not.
//!
//! | file | holds |
//! | --- | --- |
//! | `plan` | which thread runs which stages |
//! | `clock`, `stage`, `control` | what stages have in common, and what reaches a shard besides packets |
//! | `load` | whether a worker has time left for new flows |
//! | `rx`, `worker`, `tx` | the stages |
//! | `patience` | whether a thread looks again before it sleeps |
//! | `runner` | a thread: runs its stages, then waits |
//! | `running` | [`Engine`], and its end |
//! | `question`, `diag` | what it shows of its connections |
//! | `metrics` | what it counts, for registries |
//! | `prepared` | [`Prepared`], between building and running |
//! | `build`, `builder` | from a configuration, a plan and a device, and from a few words, to an engine |
//!
//! Each imports only files above it.

mod build;
mod builder;
mod clock;
mod control;
mod diag;
mod error;
mod factory;
mod link;
mod load;
mod metrics;
mod patience;
mod plan;
mod prepared;
mod question;
mod runner;
mod running;
mod rx;
mod stage;
mod tx;
mod worker;

pub use self::builder::{BuildError, Builder};
pub use self::error::EngineError;
pub use self::factory::ServiceFactory;
pub use self::metrics::{Family, MetricKind, Sample, SampleValue};
pub use self::plan::{ParsePinError, ParsePlanError, Pin, Plan, PlanError, PlanKind, StageId, ThreadPlan, usable_cpus};
pub use self::prepared::Prepared;
pub use self::question::Slice;
pub use self::running::{Engine, Handle};
pub use crate::config::{EngineConfig, ParseSteerError, Steer};
