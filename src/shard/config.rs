//! What a shard is told at its start: identity, bounds, what the device does for it, and the engine's shared secrets.
//!
//! Values only. Tunables of single connections are in [`tcp::Config`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::cookies::SharedCookies;
use super::hasher::FlowHasher;
use super::routes::Routes;
use super::secrets::Secrets;
use crate::flow::{Quad, ShardId};
use crate::steering::{OwnerTable, SteeringKeys};
use crate::tcp;
use crate::tcp::cookie::SynCookies;
use crate::tcp::isn::IsnGenerator;
use crate::wire::vnet::Offload;

/// What a shard is told at its start.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Which shard this is.
    pub id: ShardId,
    /// How many shards there are.
    pub shards: u16,
    /// Our own addresses; packets to others are dropped (IP-2).
    pub addresses: Vec<IpAddr>,
    /// Where connections can be opened to.
    pub routes: Routes,
    /// Largest IP packet on the link, octets.
    pub mtu: u16,
    /// What the device does for us.
    pub offload: Offload,
    /// Limits of the shard.
    pub limits: Limits,
    /// Tunables of every connection.
    pub tcp: tcp::Config,
    /// Emit one event when a connection opens and one when it ends.
    pub log_connections: bool,
    /// Emit one event a segment.
    pub log_segments: bool,
}

impl ShardConfig {
    /// The only shard of a host with these addresses, and the defaults of everything else: a link of 1,500 octets that
    /// does nothing for us.
    #[must_use]
    pub fn sole(addresses: Vec<IpAddr>) -> Self {
        Self {
            id: ShardId(0),
            shards: 1,
            addresses,
            routes: Routes::default(),
            mtu: 1_500,
            offload: Offload::default(),
            limits: Limits::default(),
            tcp: tcp::Config::default(),
            log_connections: false,
            log_segments: false,
        }
    }
}

/// Bounds on what a shard holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections, half-open ones included. Default 262,144.
    pub connections: usize,
    /// When there are as many connections as there may be, a new one takes the place of that of a service which has been
    /// silent longest, if nothing was received on it for at least so long; `None`: it does not. Connections of sockets are their
    /// application's, and stay. Default 30 s.
    pub idle_eviction: Option<tcp::Duration>,
    /// Passive opens in SYN-RECEIVED, for all listeners: records of 96 octets that come with the first that need them. A
    /// source (an IPv4 address, an IPv6 network of 64 bits) may have an eighth of them, or 64. Default 16,384.
    pub half_open: usize,
    /// When SYNs are answered with cookies. Default: when there is no place for a record.
    pub syn_cookies: SynCookies,
    /// Active opens that are not established. Default 131,072: half of `connections`, so that calls which nobody answers
    /// leave room for those that come in.
    pub connecting: usize,
    /// Orphans: connections that their service has closed and whose last octets or FIN are not acknowledged (OPS-22).
    /// The oldest above it are reset. Default 16,384: a sixteenth of `connections`. Linux (tcp_max_orphans) allows half of
    /// its table, and reckons with 64 KiB for each; send memory here is bounded by itself, and taken from orphans when
    /// others need it, so that this is about records.
    pub orphans: usize,
    /// TIME-WAIT records. Default 262,144 (OPS-21).
    pub time_wait: usize,
    /// Packet buffers that connections may hold by reference. Default 256.
    pub held_packets: u64,
    /// Octets of copied payload that connections may hold together. Default 512 MiB. Half of it is set aside so that each
    /// connection can have 4 KiB (with more than 65,536 connections: less); of what is free of the other half each may
    /// take an eighth (OPS-46).
    pub held_octets: u64,
    /// Octets of one connection that may wait in the tx ring (OPS-13). Default 256 KiB.
    pub in_ring: u32,
    /// Octets a connection may send in one turn before the next one has its turn. Default 256 KiB.
    pub quantum: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 262_144,
            idle_eviction: Some(tcp::Duration::from_secs(30)),
            half_open: 16_384,
            syn_cookies: SynCookies::default(),
            connecting: 131_072,
            orphans: 16_384,
            time_wait: 262_144,
            held_packets: 256,
            held_octets: 512 << 20,
            in_ring: 256 << 10,
            quantum: 256 << 10,
        }
    }
}

/// Secrets and shared tables, the same for all shards of an engine.
#[derive(Debug, Clone)]
pub struct ShardShared {
    /// Key of the steering hash.
    pub keys: SteeringKeys,
    /// Which shard owns which bucket.
    pub owners: Arc<OwnerTable>,
    /// Initial sequence numbers and timestamp offsets (RFC 6528, RFC 7323 section 5.4).
    pub isn: IsnGenerator,
    /// Secret and epoch of SYN cookies.
    pub cookies: Arc<SharedCookies>,
    /// Global order of answered SYNs.
    pub tickets: Arc<AtomicU64>,
    /// Key of the flow tables.
    pub hasher: FlowHasher,
    /// Seed of the port selection (RFC 6056).
    pub seed: u64,
}

impl ShardShared {
    /// What the shards of one host share: the `keys` with which `owners` is read, and its secrets.
    #[must_use]
    pub fn new(keys: SteeringKeys, owners: Arc<OwnerTable>, secrets: &Secrets) -> Self {
        Self {
            keys,
            owners,
            isn: IsnGenerator::new(secrets.isn),
            cookies: Arc::new(SharedCookies::new(secrets.cookies)),
            tickets: Arc::new(AtomicU64::new(1)),
            hasher: FlowHasher::from_random(secrets.flows),
            seed: secrets.ports,
        }
    }

    /// Which shard a connection between these ends belongs to: the one that gets its segments.
    #[must_use]
    pub fn owner(&self, quad: &Quad) -> ShardId {
        self.owners.owner(self.keys.hash_quad(quad))
    }
}
