//! Every tunable of an engine in one place.
//!
//! Those of the engine itself are here; [`Limits`] bounds a shard, [`tcp::Config`] holds the tunables of a connection,
//! each with default, unit and reason. How stages are laid out on CPUs is a [`Plan`](crate::engine::Plan).

use std::net::IpAddr;

use crate::buffer::send_memory::CHUNK_LEN;
use crate::net::SocketLimits;
use crate::shard::{Limits, Routes};
use crate::tcp;

/// How packets reach the shard that owns their flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Steer {
    /// `Local` where bpf(2) allows and every worker is pinned, else `Hash` where bpf(2) allows, else `Learn`.
    #[default]
    Auto,
    /// The kernel runs our program over our owner table, and a flow is born on the shard whose worker runs on the CPU that
    /// sends its SYN, where it stays: who connects from this machine is served on its own CPU. A worker that has no time
    /// left, or far more flows than the others, leaves new ones to the hash, as do CPUs without a worker.
    Local,
    /// The kernel runs our program over our owner table: packets arrive on their owner's queue, which the hash of the
    /// flow's ends says.
    Hash,
    /// The driver learns from the queue we write a flow to; strays are handed over by ring.
    Learn,
}

/// Why a text is not a [`Steer`].
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("no steering is called {0:?}: auto, local, hash or learn")]
pub struct ParseSteerError(String);

debug_as_display!(ParseSteerError);

impl std::str::FromStr for Steer {
    type Err = ParseSteerError;

    fn from_str(text: &str) -> Result<Self, ParseSteerError> {
        match text {
            "auto" => Ok(Self::Auto),
            "local" => Ok(Self::Local),
            "hash" => Ok(Self::Hash),
            "learn" => Ok(Self::Learn),
            other => Err(ParseSteerError(other.to_owned())),
        }
    }
}

/// What an engine is told at its start.
///
/// ```
/// use trust::config::{EngineConfig, Steer};
///
/// let mut config = EngineConfig::new(vec![[10, 7, 0, 2].into()]);
/// config.steer = Steer::Learn;
/// config.tcp.keepalive = true;
/// // A gigabyte for data on its way, in four shards: half of it for what is received.
/// config.set_memory(1 << 30, 4);
/// assert_eq!(config.limits.held_octets, 128 << 20);
/// ```
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Our addresses.
    pub addresses: Vec<IpAddr>,
    /// Where connections can be opened to, and from which address. Default: everywhere, from the first of a family.
    pub routes: Routes,
    /// Steering.
    pub steer: Steer,
    /// Never park: spin. Takes whole CPUs.
    pub busy_poll: bool,
    /// Receive buffers a queue, 64 KiB each, touched when first used. Default 512.
    pub packet_buffers: usize,
    /// Send memory a shard, in chunks of 64 KiB, touched when first used. Default 8,192. Half of it is set aside so that
    /// each connection can have 4 KiB (with more than 65,536 connections: less); of what is free of the other half each may
    /// take an eighth.
    pub send_chunks: u32,
    /// Frames in the ring from a worker to its writer. Default 1,024.
    pub tx_ring: usize,
    /// Bounds on each shard.
    pub limits: Limits,
    /// Tunables of each connection.
    pub tcp: tcp::Config,
    /// Sizes of sockets' queues.
    pub sockets: SocketLimits,
    /// One event when a connection opens, one when it ends.
    pub log_connections: bool,
    /// One event a segment.
    pub log_segments: bool,
}

impl EngineConfig {
    /// The defaults, for these addresses.
    #[must_use]
    pub fn new(addresses: Vec<IpAddr>) -> Self {
        Self {
            addresses,
            routes: Routes::default(),
            steer: Steer::Auto,
            busy_poll: false,
            packet_buffers: 512,
            send_chunks: 8_192,
            tx_ring: 1_024,
            limits: Limits::default(),
            tcp: tcp::Config::default(),
            sockets: SocketLimits::default(),
            log_connections: false,
            log_segments: false,
        }
    }

    /// Has all of so many shards together use `octets` for data on its way: half of it for data to be sent, half for data
    /// received and not read. Not in it are packet buffers ([`packet_buffers`](Self::packet_buffers)), the records of connections,
    /// and the queues of sockets ([`SocketLimits::queued`]).
    pub fn set_memory(&mut self, octets: u64, shards: usize) {
        let half = octets / 2 / shards.max(1) as u64;
        self.send_chunks = u32::try_from(half / CHUNK_LEN as u64).unwrap_or(u32::MAX).max(1);
        self.limits.held_octets = half;
    }
}
