//! Has the shards told when the link's largest packet changes.
//!
//! Must not contain: how a device learns of it.

use std::os::fd::RawFd;

use super::control::{Control, Peer};
use crate::device::MtuWatch;

/// A thread that never sleeps looks once in so many turns.
const TURNS: u32 = 1_024;

/// What one of the threads watches.
pub(super) struct Link {
    watch: Box<dyn MtuWatch>,
    peers: Vec<Peer>,
    mtu: u16,
    /// What each shard was told last.
    told: Vec<u16>,
    turns: u32,
}

impl Link {
    pub(super) fn new(watch: Box<dyn MtuWatch>, peers: Vec<Peer>, mtu: u16) -> Self {
        let told = vec![mtu; peers.len()];
        Self { watch, peers, mtu, told, turns: TURNS }
    }

    /// Becomes readable when there may be something to be told.
    pub(super) fn fd(&self) -> Option<RawFd> {
        self.watch.fd()
    }

    /// Counts a turn of the thread.
    #[inline]
    pub(super) fn turn(&mut self) {
        self.turns -= 1;
        if self.turns == 0 {
            self.look();
        }
    }

    /// Looks whether something has changed, and has it told. A shard that is behind with its messages hears of it at one of
    /// the next looks.
    #[cold]
    pub(super) fn look(&mut self) {
        self.turns = TURNS;
        match self.watch.changed() {
            Ok(Some(mtu)) if mtu != self.mtu => {
                tracing::info!("the largest packet of the device is of {mtu} octets now, before of {}", self.mtu);
                self.mtu = mtu;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("the device's MTU is not to be had: {error}"),
        }
        for (peer, told) in self.peers.iter().zip(&mut self.told).filter(|(_, told)| **told != self.mtu) {
            if peer.send(Control::Mtu(self.mtu)).is_ok() {
                *told = self.mtu;
            }
        }
    }
}
