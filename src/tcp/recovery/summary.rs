//! What one acknowledgment says.

use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::base::timestamp::{Timestamp, TimestampClock};
use crate::tcp::recovery::scoreboard::Record;

/// What one acknowledgment says, gathered while it is taken in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AckSummary {
    /// Octets by which SND.UNA moved.
    pub(crate) acked: u32,
    /// Octets newly reported by SACK.
    pub(crate) sacked: u32,
    /// Octets that arrived, as far as was not known before (DeliveredData).
    pub(crate) delivered: u32,
    /// Of what was in flight when recovery began, something arrived that was sent once only.
    pub(crate) original: bool,
    /// Something that was sent again is acknowledged.
    pub(crate) resent: bool,
    /// Something that was sent again in this recovery is.
    pub(crate) copied: bool,
    /// A range that arrived twice (RFC 2883).
    pub(crate) dsack: Option<(SeqNum, SeqNum)>,
    /// Round trip of the latest that arrived and was sent once only.
    pub(crate) rtt: Option<Duration>,
    /// It says the same as the one before and has no SACK option: a duplicate ACK of a peer that does not report more.
    pub(crate) bare: bool,
}

impl AckSummary {
    /// `record` from `start` on has arrived. `recover` is where the last recovery began.
    #[inline]
    pub(super) fn note(&mut self, start: SeqNum, record: &Record, recover: SeqNum, now: Instant) {
        self.delivered += record.end().above(start);
        if record.resent() {
            return;
        }
        self.original |= record.end().le(recover);
        if record.timed() {
            self.rtt = Some(now - record.sent());
        }
    }
}

/// What is known when an acknowledgment comes, beside what it says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckContext {
    /// When it comes.
    pub(crate) now: Instant,
    /// The shortest round trip of late.
    pub(crate) min_rtt: Duration,
    /// The clock of our timestamps.
    pub(crate) clock: TimestampClock,
    /// The timestamp that it echoes.
    pub(crate) echo: Option<Timestamp>,
}
