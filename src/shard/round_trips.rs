//! Round trips of connections, for a histogram: each is looked at once a second while segments come, and in the end.
//!
//! No acknowledgment pays for it. Must not contain: anything that a segment pays for.

use super::budget;
use super::conn::Phase;
use super::state::ShardState;
use crate::tcp::{Duration, Instant};

/// A walk over all places begins so long after the last one, at the soonest, ...
const WALK: Duration = Duration::from_secs(1);
/// ... and goes on after so long.
const STEP: Duration = Duration::from_millis(10);

/// How far the walk over all connections is.
#[derive(Debug, Default)]
pub(super) struct RoundTrips {
    /// The place where it goes on; 0: it has not begun.
    slot: u32,
    /// When it goes on.
    due: Instant,
    /// When it began ...
    began: Instant,
    /// ... and the one before it: what has received nothing since is passed by.
    before: Instant,
}

impl RoundTrips {
    /// Goes on, if it is time: some ten microseconds every 10 ms at most, so that 100,000 connections take 4 s.
    pub(super) fn count(&mut self, state: &mut ShardState) {
        let now = state.now;
        if now < self.due {
            return;
        }
        if self.slot == 0 {
            (self.before, self.began) = (self.began, now);
        }
        let slots = state.conns.slots() as u32;
        let end = (self.slot + budget::ROUND_TRIPS as u32).min(slots);
        for slot in self.slot..end {
            if let Some(conn) = state.conns.at(slot)
                && let Phase::Open(connection) = &conn.phase
                && connection.last_received() > self.before
                && let Some(srtt) = connection.srtt()
            {
                state.counters.note_round_trip(srtt);
            }
        }
        (self.slot, self.due) = if end == slots { (0, self.began + WALK) } else { (end, now + STEP) };
    }
}
