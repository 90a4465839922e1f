//! The record of one connection: protocol state, stores, and what ties it to its shard.
//!
//! Must not contain: behaviour. What happens to a connection is in `state`, `receive` and `transmit`.

use bitflags::bitflags;

use super::receive_store::ReceiveStore;
use super::send_store::SendStore;
use super::service::ConnId;
use crate::flow::Quad;
use crate::tcp::{CloseReason, Connection, Handshake, Info, Instant};
use crate::wire::ip::IpFields;

/// A connection's protocol state.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // Nearly all are open; a box would cost every segment a cache miss.
pub(crate) enum Phase {
    /// SYN-SENT or SYN-RECEIVED.
    Handshake(Handshake),
    /// ESTABLISHED to LAST-ACK.
    Open(Connection),
    /// The protocol is done (its TIME-WAIT record is elsewhere); the reader still has octets to fetch. With what there was to
    /// know of the connection in the end, if its user may ask.
    Drained(CloseReason, Option<Info>),
}

bitflags! {
    /// Sides of a connection that have closed.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub(crate) struct Sides: u8 {
        /// The peer's FIN is in order.
        const PEER = 1;
        /// A FIN of ours was queued.
        const OURS = 1 << 1;
    }
}

impl Sides {
    /// Our side closes; whether it had not before.
    pub(crate) fn close_ours(&mut self) -> bool {
        !std::mem::replace(self, *self | Self::OURS).contains(Self::OURS)
    }
}

/// One connection with all that lies around it.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) phase: Phase,
    pub(crate) send: SendStore,
    pub(crate) receive: ReceiveStore,
    pub(crate) quad: Quad,
    /// Deadline for which the wheel holds this connection; `Instant::MAX` when it does not.
    pub(crate) armed: Instant,
    pub(crate) user: u64,
    pub(crate) ticket: u64,
    /// Octets handed to the tx stage that it has not completed.
    pub(crate) in_ring: u32,
    /// Index of the service.
    pub(crate) service: u16,
    /// Whose child it is, or `NO_LISTENER`.
    pub(crate) listener: u32,
    /// What its packets carry in their IP headers.
    pub(crate) ip: IpFields,
    /// Waits in the list of connections to look after at the end of the turn.
    pub(crate) touched: bool,
    /// Waits in the list of connections whose service wants to be called again.
    pub(crate) again: bool,
    /// The service asked for more room than there was and waits for `writable`.
    pub(crate) wants_room: bool,
    /// The service has closed or aborted its side: no more callbacks but `closed`.
    pub(crate) detached: bool,
    /// Detached, with something the peer has not acknowledged.
    pub(crate) orphan: bool,
    /// Which sides have closed.
    pub(crate) ended: Sides,
    /// States it has passed, a bit each; kept only for the log.
    pub(crate) passed: u16,
    /// Has as many octets in the tx ring as it may.
    pub(crate) ring_blocked: bool,
    /// Waits in the list of connections that found no send memory.
    pub(crate) starved: bool,
    /// Stands in the list of connections that may hold memory.
    pub(crate) holds: bool,
    /// Stands in the list of connections that give way when there are too many.
    pub(crate) gives_way: bool,
}

/// A thing to tell a service, queued because it came up inside another call of a service.
#[derive(Debug)]
pub(crate) enum Event {
    Closed(ConnId, CloseReason),
    /// There is room that the service waits for, and no acknowledgment made it.
    Writable(ConnId),
}
