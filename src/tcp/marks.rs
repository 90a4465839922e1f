//! The yes-or-no facts of a connection, packed into one word of its hot record.

/// A set of facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u32);

impl Marks {
    /// Timestamps were negotiated.
    pub(super) const TIMESTAMPS: Self = Self(1);
    /// SACK was negotiated.
    pub(super) const SACK: Self = Self(1 << 1);
    /// Nagle's algorithm is on.
    pub(super) const NAGLE: Self = Self(1 << 2);
    /// The user closed: a FIN follows the queued data.
    pub(super) const FIN_QUEUED: Self = Self(1 << 3);
    /// The FIN was sent at least once.
    pub(super) const FIN_SENT: Self = Self(1 << 4);
    /// The peer's FIN was seen, `fin_seq` is its number; it may still be out of order.
    pub(super) const FIN_KNOWN: Self = Self(1 << 5);
    /// Nobody reads any more: data that arrives is answered by RST.
    pub(super) const NO_READER: Self = Self(1 << 6);
    /// An ACK must leave with the next `poll_transmit`.
    pub(super) const ACK_DUE: Self = Self(1 << 7);
    /// `poll_transmit` may have something.
    pub(super) const POLL: Self = Self(1 << 8);
    /// A window probe must leave.
    pub(super) const PROBE_DUE: Self = Self(1 << 9);
    /// The sender's SWS override fired, or the user pushes what is corked.
    pub(super) const SWS_OVERRIDE: Self = Self(1 << 10);
    /// The segment at SND.UNA must be sent again.
    pub(super) const FAST_RTX: Self = Self(1 << 11);
    /// The congestion window was full when what is being acknowledged was sent.
    pub(super) const CWND_LIMITED: Self = Self(1 << 12);
    /// The send buffer was filled; the user waits for room.
    pub(super) const ROOM_FULL: Self = Self(1 << 13);
    /// A segment is being timed.
    pub(super) const TIMING: Self = Self(1 << 14);
    /// Something in flight was sent more than once: only timestamps give samples (RFC6298-3a).
    pub(super) const KARN: Self = Self(1 << 15);
    /// The retransmission timer fired for the segment at SND.UNA already.
    pub(super) const RTO_REPEAT: Self = Self(1 << 16);
    /// A partial ACK was seen in this recovery (RFC6582-3.2.3P).
    pub(super) const PARTIAL_SEEN: Self = Self(1 << 17);
    /// The next segment is the rest of a SYN: its window field is not scaled (RFC7323-2.2c).
    pub(super) const UNSCALED: Self = Self(1 << 18);
    /// The store is short of memory: the receive buffer must not grow (OPS-46).
    pub(super) const PRESSURE: Self = Self(1 << 19);
    /// Urgent data was announced, up to `urgent`.
    pub(super) const URGENT: Self = Self(1 << 20);
    /// The limit for progress is the user's own, not R2.
    pub(super) const USER_TIMEOUT: Self = Self(1 << 21);
    /// Keep-alive is on.
    pub(super) const KEEP_ALIVE: Self = Self(1 << 22);
    /// What does not fill a segment is kept back.
    pub(super) const CORK: Self = Self(1 << 23);
    /// The user has set the send buffer.
    pub(super) const SEND_FIXED: Self = Self(1 << 24);
    /// The user has set the receive buffer.
    pub(super) const RECV_FIXED: Self = Self(1 << 25);
    /// The user has limited what may be queued unsent.
    pub(super) const LOWAT: Self = Self(1 << 26);
    /// Timestamps were negotiated, and the peer left them out of what completed the handshake: they may be missing.
    pub(super) const UNSTAMPED: Self = Self(1 << 27);
    /// The user is gone, and what is left of its octets is still being handed over.
    pub(super) const LEFT: Self = Self(1 << 28);
    /// Nobody waits for the connection (OPS-22).
    pub(super) const ORPHAN: Self = Self::NO_READER.with(Self::LEFT);

    #[inline]
    pub(super) const fn has(self, mark: Self) -> bool {
        self.0 & mark.0 != 0
    }

    #[inline]
    pub(super) fn set(&mut self, mark: Self) {
        self.0 |= mark.0;
    }

    #[inline]
    pub(super) fn clear(&mut self, mark: Self) {
        self.0 &= !mark.0;
    }

    /// Sets or clears.
    #[inline]
    pub(super) fn put(&mut self, mark: Self, on: bool) {
        if on { self.set(mark) } else { self.clear(mark) }
    }

    /// Clears and tells whether it was set.
    #[inline]
    pub(super) fn take(&mut self, mark: Self) -> bool {
        let was = self.has(mark);
        self.clear(mark);
        was
    }

    /// Both sets.
    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
