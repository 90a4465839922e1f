//! What a connection has been told, and what it has to do.

use bitflags::bitflags;

bitflags! {
    /// The yes-or-no facts of a connection that none of its parts owns.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(super) struct ConnectionFlags: u8 {
        /// `poll_transmit` may have something.
        const POLL = 1;
        /// A window probe, or one of the keep-alive, must leave.
        const PROBE_DUE = 1 << 1;
        /// None reads any more: data that arrives is answered by RST.
        const NO_READER = 1 << 2;
        /// The user is gone, and what is left of its octets is still being handed over.
        const LEFT = 1 << 3;
        /// None waits for the connection (OPS-22).
        const ORPHAN = Self::NO_READER.bits() | Self::LEFT.bits();
    }
}
