//! The rules that every world keeps, and what is said of one that is broken.

use std::fmt;

/// The rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// New octets follow the last ones without a gap, nothing lies below the ISN or behind the FIN, and there is one
    /// FIN (RFC 9293 section 3.4).
    SequenceOrder,
    /// Acknowledgments never go back, and never name what has not arrived.
    AckOrder,
    /// The right edge of the window never moves left (SHLD-14).
    WindowShrunk,
    /// A re-sent octet is the octet first sent.
    ResentDiffers,
    /// Nothing is sent beyond the largest window that the peer has offered, but a probe of one octet (MUST-36).
    BeyondWindow,
    /// No wire segment exceeds what the peer's MSS allows, options included (MUST-16).
    BeyondMss,
    /// A RST is not answered by a RST (SM-GEN-4).
    ResetAnswered,
    /// No more pure acknowledgments than segments arrived, and one for a timer or a reader.
    AckStorm,
    /// A sender whose path loses, and does nothing else to packets, sends no more again than was lost and a little for
    /// each recovery (`resends`).
    Resent,
    /// What fits the window is not refused while there is memory for it.
    Refused,
    /// What a host holds stays under its caps.
    MemoryCap,
    /// Whoever owes something (octets in flight, octets unsent, a FIN) has a timer running.
    TimerArmed,
    /// Every octet arrives once, in order, as it was sent.
    ByteExact,
    /// A turn ends.
    Livelock,
    /// While somebody waits, something is still to happen.
    StandsStill,
    /// The world ends in bounded steps.
    NeverEnds,
    /// A connection ends as its users ended it.
    WrongEnd,
    /// When all is over nothing is held.
    Leak,
}

/// A rule that does not hold.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule:?}: {detail}")]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// What was seen.
    pub detail: String,
}

debug_as_display!(Violation);

impl Violation {
    /// A violation of `rule`.
    pub fn new(rule: Rule, detail: impl fmt::Display) -> Self {
        Self { rule, detail: detail.to_string() }
    }
}
