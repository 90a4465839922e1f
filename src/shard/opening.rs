//! What a service says when it opens something by itself, a listener or a connection, and why it may be refused.
//!
//! Values only; what follows from them is in `listeners` and `connect`.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::flow::{Endpoint, ShardId};
use crate::tcp::{Duration, Wishes};

/// Why [`Io::listen`](super::Io::listen) was refused.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Something listens there already: a listener with the same address and port, or a service of that port where the
    /// address is unspecified (MUST-41).
    #[error("something listens there already")]
    AddressInUse,
    /// The address is none of ours, or an unspecified one of a family in which we have none.
    #[error("not an address of ours")]
    NotOurAddress,
    /// Port 0 names no port.
    #[error("port 0 names no port")]
    NoPort,
}

debug_as_display!(ListenError);

/// Why [`Io::connect`](super::Io::connect) was refused.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The remote end can be no peer: port 0, a broadcast, multicast or unspecified address, or one of ours (MUST-46).
    #[error("no host can be there")]
    NoRoute,
    /// We have no address of that family.
    #[error("no address of that family")]
    NoAddress,
    /// The local address asked for is none of ours, or of the other family.
    #[error("not an address of ours")]
    NotOurAddress,
    /// There is a connection between these two ends, or was one shortly before (TIME-WAIT).
    #[error("there is a connection between these ends already")]
    AddressInUse,
    /// No port is free that makes this shard the owner. Other shards may have some: see [`Io::connect`](super::Io::connect).
    #[error("no port is free")]
    NoPort,
    /// With the local port asked for the connection belongs to another shard, which would get its segments.
    #[error("the connection belongs to shard {0}")]
    WrongShard(ShardId),
    /// The shard has as many connections as it may ([`Limits::connections`](super::Limits::connections)).
    #[error("too many connections")]
    Full,
}

debug_as_display!(ConnectError);

/// What is asked for beside the remote end when a connection is opened. The default asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Our end (MUST-43). An unspecified address leaves the choice of the address to the shard, `None` does too (MUST-44);
    /// port 0 leaves that of the port.
    pub local: Option<Endpoint>,
    /// TTL or hop limit of its packets, from 1 on (MUST-49).
    pub ttl: Option<u8>,
    /// The TOS octet or traffic class of its packets: DSCP in the upper six bits, the lower two do not count (MUST-48).
    pub tos: Option<u8>,
    /// The largest segment to send and to accept, octets of payload: the MSS that we advertise is no larger.
    pub mss: Option<u16>,
    /// How often the SYN is repeated, with doubled intervals, before the open fails. Without it the time decides:
    /// [`connect_timeout`](crate::tcp::Config::connect_timeout).
    pub syn_retries: Option<u8>,
    /// For how long the handshake may go on, and then [`Io::set_user_timeout`](super::Io::set_user_timeout) (MUST-21).
    pub user_timeout: Option<Duration>,
    /// As [`Io::set_receive_buffer`](super::Io::set_receive_buffer), and the window of the SYN is no larger, its scale no larger
    /// than that needs.
    pub receive_buffer: Option<u32>,
    /// The word to keep with the connection ([`Io::user`](super::Io::user)).
    pub user: u64,
}

/// How many connections of one listener wait to be accepted, over all shards: what bounds them is one number, whichever
/// shards they come from. Shards ask it once a SYN and once a completed handshake.
#[derive(Debug)]
pub struct AcceptQueue {
    waiting: AtomicUsize,
    most: usize,
}

impl AcceptQueue {
    /// For at most that many connections.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { waiting: AtomicUsize::new(0), most }
    }

    /// Whether it takes no more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= self.most
    }

    /// How many wait now, and how many may.
    #[must_use]
    pub fn level(&self) -> (usize, usize) {
        (self.waiting.load(Ordering::Relaxed), self.most)
    }

    /// A connection has been accepted.
    pub fn leave(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes a place for a connection; `false`: there is none.
    pub(crate) fn enter(&self) -> bool {
        let next = |waiting| (waiting < self.most).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

/// What the connections of a listener begin with; SYN-ACKs have it already. The default asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// TTL or hop limit of their packets, from 1 on (MUST-49).
    pub ttl: Option<u8>,
    /// As [`ConnectOptions::tos`].
    pub tos: Option<u8>,
    /// As [`ConnectOptions::mss`].
    pub mss: Option<u16>,
    /// As [`ConnectOptions::user_timeout`].
    pub user_timeout: Option<Duration>,
    /// As [`ConnectOptions::receive_buffer`]. The window scale stays the one that the listener's first SYN was answered with.
    pub receive_buffer: Option<u32>,
}

impl ConnectOptions {
    /// What the handshake is to heed.
    pub(crate) fn wishes(&self) -> Wishes {
        Wishes { receive_buffer: self.receive_buffer, user_timeout: self.user_timeout, shift: None }
    }
}

impl ListenOptions {
    /// What handshakes are to heed.
    pub(crate) fn wishes(&self) -> Wishes {
        Wishes { receive_buffer: self.receive_buffer, user_timeout: self.user_timeout, shift: None }
    }
}
