//! Which of our ports lead a flow to a shard, for connections that it opens.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::flow::{Endpoint, Quad};

/// Source ports for active opens, from which one is drawn at random (RFC 6056 section 3.2: as many as possible). Lower
/// ports are left to listeners.
pub const EPHEMERAL_PORTS: RangeInclusive<u16> = 32_768..=65_535;

/// The ports of `range` with which a flow from `local_addr` to `remote` `is_ours` or can be, in order from a random start
/// (RFC 6056 section 3.3.1) and wrapping round once. Take the first that is free.
pub fn ports_for_shard(
    is_ours: impl Fn(&Quad) -> bool + Clone,
    local_addr: IpAddr,
    remote: Endpoint,
    random_start: u16,
    range: RangeInclusive<u16>,
) -> impl Iterator<Item = u16> + Clone {
    let (first, count) = (u32::from(*range.start()), range.len() as u32);
    (0..count)
        .map(move |i| (first + (u32::from(random_start) + i) % count) as u16)
        .filter(move |&port| is_ours(&Quad { local: Endpoint::new(local_addr, port), remote }))
}
