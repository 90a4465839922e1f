//! What loss recovery is told, and what it answers.

use crate::tcp::base::seq::SeqNum;

/// What recovery the sender is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// None.
    Open,
    /// Fast recovery (RFC 6582): `recover` is not acknowledged yet.
    Fast,
    /// A timeout: what was in flight counts as lost and is sent again in slow start.
    Loss,
}

/// What the one timer of loss recovery stands for (RFC 8985 8). The three exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum LossTimer {
    /// RFC 6298.
    Retransmission,
    /// PTO: nothing was heard of what is in flight for two round trips.
    Probe,
    /// Something may be lost, or only reordered.
    Reordering,
}

/// What a duplicate ACK without SACK amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DuplicateAck {
    /// Too few, or about what was sent again before (RFC6582-3.2.2).
    Counted,
    /// The segment at SND.UNA is lost.
    Loss {
        /// Octets that have arrived above it, by the number of duplicates.
        arrived: u32,
    },
}

/// How a recovery stands that proves to be needless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needless {
    /// It is over.
    Past,
    /// It was going on, and ends by that.
    Ended,
    /// So was this one, which a timeout began, and the path was only slower for a while.
    SlowPath,
}

/// The sender's numbers, as far as loss recovery needs them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendNumbers {
    /// SND.UNA.
    pub(crate) una: SeqNum,
    /// SND.NXT.
    pub(crate) nxt: SeqNum,
    /// The device has taken everything below.
    pub(crate) written: SeqNum,
    /// One above the last octet in the send store.
    pub(crate) data_end: SeqNum,
}
