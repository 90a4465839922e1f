//! What a connection tells its caller: dispositions, events, reasons.
//!
//! Values only. What they lead to (freeing the send store, waking a service) is the caller's business.

use bitflags::bitflags;

use crate::tcp::base::segment::Transmit;
use crate::tcp::base::time::Instant;
use crate::wire::icmp::Unreachable;

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
    /// What is in order, and of it `room` octets. What is beyond them, or behind a gap, is neither accepted nor
    /// acknowledged and must be sent again.
    InOrder {
        /// Octets of this segment.
        room: u32,
        /// Octets that may lie unread beside those that do already: the receive buffer follows, and with it the window.
        /// Less than `room` where the reader is likely to take this segment out of the packet.
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

bitflags! {
    /// What happened besides; a set.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Events: u32 {
        /// The segment took the fast path (header prediction).
        const PREDICTED = 1;
        /// There is room in the send buffer again after it was full.
        const WRITABLE = 1 << 1;
        /// The peer's FIN is in order now: after what is unread comes the end of the stream.
        const EOF = 1 << 2;
        /// The connection is gone; `Connection::close_reason` tells why.
        const CLOSED = 1 << 3;
        /// TIME-WAIT begins: take the ACK asked for, then replace the connection by `Connection::time_wait`.
        const TIME_WAIT = 1 << 4;
        /// The payload came out of order.
        const OUT_OF_ORDER = 1 << 5;
        /// All of the segment was received before.
        const DUPLICATE = 1 << 6;
        /// Dropped by PAWS (RFC7323-5.3a) or for lack of timestamps (RFC7323-3.2b).
        const PAWS = 1 << 7;
        /// A challenge was due: sent if `reply` is set, else withheld by the limiter (SM-GEN-7).
        const CHALLENGE = 1 << 8;
        /// The sequence number was outside of the window.
        const OUT_OF_WINDOW = 1 << 9;
        /// The acknowledgment number was unacceptable (SM-ACK-2, SM-ACK-5).
        const BAD_ACK = 1 << 10;
        /// Octets inside the window were not kept: the store had no room (`Keep`), or the reassembly queue no entry
        /// (OPS-26). `Connection::refused` tells how many.
        const REFUSED = 1 << 11;
        /// A duplicate ACK was counted.
        const DUPLICATE_ACK = 1 << 12;
        /// Loss was found by duplicate ACKs; fast recovery began.
        const FAST_RETRANSMIT = 1 << 13;
        /// The retransmission timer fired in earnest.
        const TIMEOUT = 1 << 14;
        /// Urgent data was announced, or more of it (MUST-32).
        const URGENT = 1 << 15;
        /// Everything we sent, our FIN included, is acknowledged: what a lingering close waits for.
        const FIN_ACKED = 1 << 16;
        /// A tail loss probe is due (RFC8985-7.3a).
        const PROBE = 1 << 17;
        /// The reordering timer fired (RFC8985-6.2.5b).
        const REORDERING_TIMEOUT = 1 << 18;
        /// The peer reported octets that arrived twice (RFC2883-5a).
        const DSACK = 1 << 19;
        /// A part of what a fast recovery is about was acknowledged.
        const PARTIAL_ACK = 1 << 20;
        /// A recovery proved needless and was undone.
        const UNDONE = 1 << 21;
        /// That recovery was one after a timeout.
        const SPURIOUS_TIMEOUT = 1 << 22;
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

/// What became of an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heeded {
    /// It is noted, and told if the connection times out.
    Noted,
    /// Segments are smaller from now on; `poll_transmit` has those again that were too large.
    Smaller,
    /// It is believed if the segment that it quotes times out (RFC 5927 7.2).
    Pending,
    /// It is not about anything in flight.
    NotInFlight,
    /// The size that it names is none, or no less than what is in use.
    Absurd,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Both sides closed and all data was acknowledged (MUST-12).
    Normal,
    /// The peer reset the connection (MUST-12).
    Reset,
    /// The peer refused the connection (SM-SS-2), by a RST or by ICMP.
    Refused,
    /// Nothing arrives there, as ICMP says: an open ends at once; what was established, when it would have timed out.
    Unreachable(Unreachable),
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
    use bitflags::Flags;

    use super::*;

    #[test]
    fn each_event_has_a_bit_of_its_own_and_a_name() {
        let mut seen = Events::default();
        for flag in Events::FLAGS {
            let (event, name) = (*flag.value(), flag.name());
            assert_eq!(event.bits().count_ones(), 1, "{name}");
            assert!(!seen.intersects(event), "{name}");
            seen |= event;
            assert_eq!(format!("{event:?}"), format!("Events({name})"));
        }
        assert_eq!(seen, Events::all());
    }
}
