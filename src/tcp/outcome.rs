//! What a connection tells its caller: dispositions, events, reasons.
//!
//! Values only. What they lead to (freeing the send store, waking a service) is the caller's business.

use core::fmt;
use core::ops::{BitOr, BitOrAssign};

use super::segment::Transmit;
use super::time::Instant;

/// What the caller hands in with each segment.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The time now.
    pub now: Instant,
    /// What the store beside the connection can still hold.
    pub keep: Keep,
}

/// How much payload the store beside a connection may still take (OPS-46).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Everything that fits the window.
    All,
    /// What is in order, and of it `room` octets. What is beyond them, or behind a gap, is neither accepted nor acknowledged
    /// and must be sent again.
    InOrder {
        /// Octets of this segment.
        room: u32,
        /// Octets that may lie unread beside those that do already: the receive buffer follows, and with it the window. Less
        /// than `room` where the reader is likely to take this segment out of the packet.
        share: u32,
    },
}

impl Keep {
    /// So many octets that are in order, of this segment and in all.
    #[must_use]
    pub const fn in_order(octets: u32) -> Self {
        Self::InOrder { room: octets, share: octets }
    }
}

/// What became of the payload of a segment. `from..to` indexes the payload of that segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payload {
    /// Nothing of it is wanted.
    #[default]
    Ignore,
    /// In order: give it to the reader.
    Deliver {
        /// First octet wanted.
        from: u32,
        /// One behind the last octet wanted.
        to: u32,
        /// How many octets held before follow directly and are in order now. Held octets that the delivered ones cover
        /// are to be dropped.
        released: u32,
    },
    /// Out of order but wanted: keep it. Octets held already may come again; they are the same.
    Hold {
        /// First octet wanted.
        from: u32,
        /// One behind the last octet wanted.
        to: u32,
        /// Distance of the octet at `from` above RCV.NXT.
        offset: u32,
    },
}

/// What happened besides; a set.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Events(u32);

impl Events {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The segment took the fast path (header prediction).
    pub const PREDICTED: Self = Self(1);
    /// There is room in the send buffer again after it was full.
    pub const WRITABLE: Self = Self(1 << 1);
    /// The peer's FIN is in order now: after what is unread comes the end of the stream.
    pub const EOF: Self = Self(1 << 2);
    /// The connection is gone; `Connection::close_reason` tells why.
    pub const CLOSED: Self = Self(1 << 3);
    /// TIME-WAIT begins: take the ACK asked for, then replace the connection by `Connection::time_wait`.
    pub const TIME_WAIT: Self = Self(1 << 4);
    /// The payload came out of order.
    pub const OUT_OF_ORDER: Self = Self(1 << 5);
    /// All of the segment was received before.
    pub const DUPLICATE: Self = Self(1 << 6);
    /// Dropped by PAWS (RFC7323-5.3a) or for lack of timestamps (RFC7323-3.2b).
    pub const PAWS: Self = Self(1 << 7);
    /// A challenge was due: sent if `reply` is set, else withheld by the limiter (SM-GEN-7).
    pub const CHALLENGE: Self = Self(1 << 8);
    /// The sequence number was outside of the window.
    pub const OUT_OF_WINDOW: Self = Self(1 << 9);
    /// The acknowledgment number was unacceptable (SM-ACK-2, SM-ACK-5).
    pub const BAD_ACK: Self = Self(1 << 10);
    /// Octets inside the window were not kept: the store had no room (`Keep`), or the reassembly queue no entry
    /// (OPS-26). `Connection::refused` tells how many.
    pub const REFUSED: Self = Self(1 << 11);
    /// A duplicate ACK was counted.
    pub const DUPLICATE_ACK: Self = Self(1 << 12);
    /// Loss was found by duplicate ACKs; fast recovery began.
    pub const FAST_RETRANSMIT: Self = Self(1 << 13);
    /// The retransmission timer fired in earnest.
    pub const TIMEOUT: Self = Self(1 << 14);
    /// Urgent data was announced, or more of it (MUST-32).
    pub const URGENT: Self = Self(1 << 15);
    /// Everything we sent, our FIN included, is acknowledged: what a lingering close waits for.
    pub const FIN_ACKED: Self = Self(1 << 16);
    /// A tail loss probe is due (RFC8985-7.3a).
    pub const PROBE: Self = Self(1 << 17);
    /// The reordering timer fired (RFC8985-6.2.5b).
    pub const REORDERING_TIMEOUT: Self = Self(1 << 18);
    /// The peer reported octets that arrived twice (RFC2883-5a).
    pub const DSACK: Self = Self(1 << 19);
    /// A part of what a fast recovery is about was acknowledged.
    pub const PARTIAL_ACK: Self = Self(1 << 20);
    /// A recovery proved needless and was undone.
    pub const UNDONE: Self = Self(1 << 21);

    const NAMES: [&'static str; 22] = [
        "PREDICTED",
        "WRITABLE",
        "EOF",
        "CLOSED",
        "TIME_WAIT",
        "OUT_OF_ORDER",
        "DUPLICATE",
        "PAWS",
        "CHALLENGE",
        "OUT_OF_WINDOW",
        "BAD_ACK",
        "REFUSED",
        "DUPLICATE_ACK",
        "FAST_RETRANSMIT",
        "TIMEOUT",
        "URGENT",
        "FIN_ACKED",
        "PROBE",
        "REORDERING_TIMEOUT",
        "DSACK",
        "PARTIAL_ACK",
        "UNDONE",
    ];

    /// Whether all of `other` are in the set.
    #[must_use]
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in the set.
    #[must_use]
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether the set is empty.
    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Events {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Events {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| *name);
        f.write_str("Events(")?;
        for (place, name) in names.enumerate() {
            f.write_str(if place == 0 { "" } else { " " })?;
            f.write_str(name)?;
        }
        f.write_str(")")
    }
}

/// What a segment or a timer led to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Octets to free from the front of the send store.
    pub acked: u32,
    /// What to do with the payload.
    pub payload: Payload,
    /// An ACK must leave for this very segment: call `Connection::take_ack` before the next segment is processed
    /// (RFC5681-3.2.0). ACKs that can wait for the end of the batch come out of `poll_transmit`.
    pub ack_now: bool,
    /// A RST or a challenge ACK to send.
    pub reply: Option<Transmit>,
    /// What happened besides.
    pub events: Events,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseReason {
    /// Both sides closed and all data was acknowledged (MUST-12).
    Normal,
    /// The peer reset the connection (MUST-12).
    Reset,
    /// The peer refused the connection (SM-SS-2).
    Refused,
    /// Retransmissions or keep-alive probes went unanswered for too long: R2, or the limit of a handshake.
    TimedOut,
    /// The timeout which the user set for this connection passed without progress (SM-T-1).
    UserTimeout,
    /// We reset it: by `abort`, by a close with unread data, or for data that came after a close (SHLD-3).
    Aborted,
    /// The user gave up an open that was not answered yet (SM-SS-7).
    LocalClose,
    /// We reset it: what it held, or its place, was needed by others, and for long nothing had come of it.
    Evicted,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every event is one bit, and a bit of its own.
    #[test]
    fn each_event_has_a_bit_and_a_name() {
        let all = [
            Events::PREDICTED,
            Events::WRITABLE,
            Events::EOF,
            Events::CLOSED,
            Events::TIME_WAIT,
            Events::OUT_OF_ORDER,
            Events::DUPLICATE,
            Events::PAWS,
            Events::CHALLENGE,
            Events::OUT_OF_WINDOW,
            Events::BAD_ACK,
            Events::REFUSED,
            Events::DUPLICATE_ACK,
            Events::FAST_RETRANSMIT,
            Events::TIMEOUT,
            Events::URGENT,
            Events::FIN_ACKED,
            Events::PROBE,
            Events::REORDERING_TIMEOUT,
            Events::DSACK,
            Events::PARTIAL_ACK,
            Events::UNDONE,
        ];
        assert_eq!(all.len(), Events::NAMES.len());
        let mut seen = Events::default();
        for (event, name) in all.into_iter().zip(Events::NAMES) {
            assert_eq!(event.0.count_ones(), 1, "{name}");
            assert!(!seen.intersects(event) && !seen.contains(event), "{name}");
            seen |= event;
            assert!(seen.contains(event) && !event.is_empty());
            assert_eq!(format!("{event:?}"), format!("Events({name})"));
        }
        assert_eq!(Events::default() | Events::EOF, Events::EOF);
    }
}
