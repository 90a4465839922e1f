//! What the instances of the iperf3 service on different shards tell each other.
//!
//! ```text
//! shard of a new connection        home of the cookie          shard of the control connection
//!   Hello(cookie) ------------------->  unknown: becomes the test's entry
//!   <--------------------------- Lead   (this connection is the control connection)
//!   Hello(cookie) ------------------->  known
//!                                       Join ---------------------> counts, sorts by ticket
//!   <-------------------------------------------------------- Assign (direction, pace)
//!   Assigned -------------------------------------------------> all: TEST_START, TEST_RUNNING
//!   <-------------------------------------------------------- Start
//!   <-------------------------------------------- Sample ... Stop
//!   Sampled ... Report --------------------------------------->
//!                                       <------------ Release   at the end
//! ```
//!
//! The home is a function of the cookie, so that one shard alone decides which connection came first. Order is kept
//! between any two shards, and no more is needed.

use super::protocol::{Cookie, StreamResult};
use super::stream::{Address, Plan, Sample};
use crate::flow::Quad;
use crate::shard::ConnId;
use crate::tcp::time::Instant;

/// A connection that has shown its cookie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) at: Address,
    /// Global order of answered SYNs: the order in which the client opened its connections.
    pub(super) ticket: u64,
    pub(super) quad: Quad,
}

/// One message.
#[derive(Debug)]
pub(super) enum Note {
    /// To the cookie's home: what is this connection?
    Hello { cookie: Cookie, candidate: Candidate },
    /// From the home: `conn` is a control connection, if its shard has a place for one more test.
    Lead { conn: ConnId, cookie: Cookie },
    /// `conn` has no place in any test.
    Deny { conn: ConnId },
    /// From the home to the shard of the control connection `session`: a data connection.
    Join { session: ConnId, candidate: Candidate },
    /// To a data connection: its place, and what to do once started.
    Assign { conn: ConnId, session: Address, index: u16, plan: Plan },
    /// Back from it: ready.
    Assigned { session: ConnId, index: u16 },
    /// The test runs since `since`.
    Start { conn: ConnId, since: Instant },
    /// Asks for a `Sampled`.
    Sample { conn: ConnId },
    /// The counters asked for.
    Sampled { session: ConnId, index: u16, sample: Sample },
    /// The test is over: close and report.
    Stop { conn: ConnId },
    /// A stream has ended, because of `Stop` or before it.
    Report { session: ConnId, index: u16, result: StreamResult },
    /// The test has failed: reset.
    Drop { conn: ConnId },
    /// To the home: the test with this cookie, led by `session`, is no more.
    Release { cookie: Cookie, session: Address },
}
