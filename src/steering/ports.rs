//! Which of our ports lead a flow to a shard, for connections that it opens.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::flow::{Endpoint, Quad, ShardId};

/// Source ports for active opens, from which one is drawn at random (RFC 6056 section 3.2: as many as possible). Lower
/// ports are left to listeners.
pub const EPHEMERAL_PORTS: RangeInclusive<u16> = 32_768..=65_535;

/// The ports of `range` that make `shard` the `owner` of a flow from `local_addr` to `remote`, in order from a random start
/// (RFC 6056 section 3.3.1) and wrapping round once. Take the first that is free; empty when the shard owns none.
pub fn ports_for_shard(
    owner: impl Fn(&Quad) -> ShardId + Clone,
    local_addr: IpAddr,
    remote: Endpoint,
    shard: ShardId,
    random_start: u16,
    range: RangeInclusive<u16>,
) -> impl Iterator<Item = u16> + Clone {
    let (first, count) = (u32::from(*range.start()), range.len() as u32);
    (0..count)
        .map(move |i| (first + (u32::from(random_start) + i) % count) as u16)
        .filter(move |&port| owner(&Quad { local: Endpoint::new(local_addr, port), remote }) == shard)
}
