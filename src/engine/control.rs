//! The control plane: what reaches a shard besides packets, and how far shards are with their end.

use std::sync::atomic::{AtomicU64, AtomicUsize};

use super::question::Question;
use crate::buffer::wake::{Interest, Unparker};
use crate::flow::{Endpoint, ShardId};
use crate::shard::Message;

/// Messages that may wait for a shard.
pub(super) const CONTROL_QUEUE: usize = 4_096;

/// What reaches a shard besides packets: the control plane.
#[derive(Debug)]
pub(super) enum Control {
    /// For a service, from another shard or from a thread outside.
    Message { service: u16, from: ShardId, message: Message },
    /// Open a connection for a service.
    Connect { service: u16, remote: Endpoint },
    /// The largest packet of the link is of so many octets from now on.
    Mtu(u16),
    /// No listeners any more; and what is left?
    Drain(crossbeam::channel::Sender<Left>),
    /// Somebody looks at what there is, or ends one of it.
    Question(Question),
    /// The engine is about to stop.
    Stopping,
}

/// What a shard without listeners still has to do with peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    /// Something that was said and closed has not been acknowledged: see [`Shard::drain`](crate::shard::Shard::drain).
    pub(super) owes: bool,
    /// A connection is open.
    pub(super) open: bool,
}

/// The way to another shard's control plane.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) control: crossbeam::channel::Sender<Control>,
    /// `None`: that shard runs on the same thread.
    pub(super) unparker: Option<Unparker<mio::Waker>>,
}

impl Peer {
    pub(super) fn send(&self, control: Control) -> Result<(), Control> {
        self.control.try_send(control).map_err(crossbeam::channel::TrySendError::into_inner)?;
        if let Some(unparker) = &self.unparker {
            unparker.notify(Interest::DATA);
        }
        Ok(())
    }
}

/// How far workers are with their last words, for who waits for them.
#[derive(Debug, Default)]
pub(super) struct Farewell {
    /// Workers that have said all, and whose tx stage has taken it.
    pub(super) said_all: AtomicUsize,
    /// Moves as long as one of them gets on with it.
    pub(super) steps: AtomicU64,
}
