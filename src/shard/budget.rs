//! What a turn may do at most, one bound for each kind of work. What is left over waits for the next turn, so that packets
//! come in, frames go out and neighbours get their share between two pieces of whatever there is much of.
//!
//! A bound is in pieces of work that cost about a microsecond each; a turn that reaches one of them takes some hundred
//! microseconds more than another. Larger ones would save little: a turn costs less than one of these pieces.
//!
//! Bounded elsewhere, since they follow from other numbers: packets and octets of a batch (`engine::rx`), completions (the
//! tx ring), octets that a connection sends ([`Limits::quantum`](super::Limits::quantum)), those that wait for send memory
//! (`receive`, `orphans`). What services are told of ends follows from the work that made the ends.

/// Messages of other shards and of the control plane.
pub const CONTROL: usize = 256;
/// Commands of applications, by service. Each may move a socket's queue, so they are what a neighbour feels most.
pub const MAIL: usize = 256;
/// Timers of services.
pub const SERVICE_TIMERS: usize = 256;
/// Looks at connections' timers: most find that the deadline has moved, the others send.
pub const TIMERS: usize = 512;
/// Half-open records whose SYN-ACK is repeated, or that end.
pub const HALF_OPEN: usize = 256;
/// TIME-WAIT records that have run out. Cheap, and there are as many as connections ended a minute ago in a turn.
pub const TIME_WAIT: usize = 1_024;
/// Connections looked after at the end of a turn.
pub const CONNECTIONS: usize = 512;
/// Connections whose service asked to be called again.
pub const CALLS_AGAIN: usize = 64;
/// Half-open records looked at for those to be reset with their listener.
pub const RESETS: usize = 256;
/// Places looked at for connections to be reset when all are; the tx ring bounds the resets.
pub const PLACES: usize = 4_096;
/// Buckets of the owner table looked at for claims that nothing came of.
pub const BUCKETS: usize = 4_096;
/// Entries that observers are shown: each may cost a dozen cache lines.
pub const ENTRIES: usize = 128;
/// Places looked at for them, most of which are empty.
pub const PLACES_SHOWN: usize = 1_024;
/// Places looked at for round trips to be counted.
pub const ROUND_TRIPS: usize = 256;
/// Connections of a service looked at in one of its timers.
pub const LOOKS: usize = 256;
/// Steps that a service does for one connection before it asks to be called again.
pub const STEPS: usize = 64;

/// Kinds of work that have a bound of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Packets received.
    Packets,
    /// [`CONTROL`].
    Control,
    /// [`MAIL`].
    Mail,
    /// [`SERVICE_TIMERS`].
    ServiceTimers,
    /// [`TIMERS`].
    Timers,
    /// [`HALF_OPEN`].
    HalfOpen,
    /// [`TIME_WAIT`].
    TimeWait,
    /// [`CONNECTIONS`].
    Connections,
    /// [`CALLS_AGAIN`].
    CallsAgain,
    /// [`RESETS`].
    Resets,
    /// [`PLACES`].
    Places,
    /// [`BUCKETS`].
    Buckets,
    /// [`ENTRIES`].
    Entries,
}

impl Work {
    /// All kinds, in the order of their counters.
    pub const ALL: [Self; 13] = [
        Self::Packets,
        Self::Control,
        Self::Mail,
        Self::ServiceTimers,
        Self::Timers,
        Self::HalfOpen,
        Self::TimeWait,
        Self::Connections,
        Self::CallsAgain,
        Self::Resets,
        Self::Places,
        Self::Buckets,
        Self::Entries,
    ];

    /// Its name, as reports print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Control => "messages",
            Self::Mail => "commands",
            Self::ServiceTimers => "timers of services",
            Self::Timers => "timers",
            Self::HalfOpen => "half-open records",
            Self::TimeWait => "time-wait records",
            Self::Connections => "connections served",
            Self::CallsAgain => "calls continued",
            Self::Resets => "half-open records looked at",
            Self::Places => "places looked at",
            Self::Buckets => "buckets looked at",
            Self::Entries => "entries shown",
        }
    }
}
