//! [`FlowHasher`]: the hash of a shard's own tables, which nobody without its key can aim at.

use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

use crate::flow::{Quad, octets_v6};

/// Hash of the flow table inside a shard. Its key is not the steering key: all flows of a shard agree in bits of the
/// steering hash, so with that hash most places of the table would stay empty.
#[derive(Clone)]
pub struct FlowHasher {
    seed: u64,
    shared: SharedSeed,
}

/// A quad with its hash: by it a flow is looked for, filed and taken out, and it is made once for all of that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    pub(crate) quad: Quad,
    /// [`FlowHasher::hash`] of it.
    pub(crate) hash: u64,
}

impl fmt::Debug for FlowHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowHasher(..)")
    }
}

impl FlowHasher {
    /// A hasher from 16 random octets.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        let value = u128::from_ne_bytes(bytes);
        Self { seed: value as u64, shared: SharedSeed::from_u64((value >> 64) as u64) }
    }

    /// Hash of a flow, all 64 bits good.
    #[inline]
    #[must_use]
    pub fn hash(&self, quad: &Quad) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        let ports = u32::from(quad.remote.port) << 16 | u32::from(quad.local.port);
        match (quad.remote.addr, quad.local.addr) {
            (IpAddr::V4(remote), IpAddr::V4(local)) => {
                hasher.write_u64(u64::from(remote.to_bits()) << 32 | u64::from(local.to_bits()));
            }
            (remote, local) => {
                hasher.write_u128(u128::from_be_bytes(octets_v6(remote)));
                hasher.write_u128(u128::from_be_bytes(octets_v6(local)));
            }
        }
        hasher.write_u32(ports);
        hasher.finish()
    }

    /// Hash of whoever may have sent a packet from `addr`: an IPv4 address, or the 64 bits of an IPv6 network, of which
    /// one host may have all addresses.
    #[must_use]
    pub(crate) fn hash_source(&self, addr: IpAddr) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        match addr {
            IpAddr::V4(addr) => hasher.write_u32(addr.to_bits()),
            IpAddr::V6(addr) => hasher.write_u64((addr.to_bits() >> 64) as u64),
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::flow::Endpoint;
    use crate::steering::SteeringKeys;

    fn quad(remote: IpAddr, port: u16) -> Quad {
        Quad { local: Endpoint::new(IpAddr::from([10, 0, 0, 2]), 80), remote: Endpoint::new(remote, port) }
    }

    /// OPS-34.
    #[test]
    fn flow_hash_is_independent_of_the_steering_hash() {
        let (keys, hasher) = (SteeringKeys::from_random(*b"0123456789abcdef"), FlowHasher::from_random([3; 16]));
        // Flows of one bucket: the steering hash says the same for all.
        let bucket = keys.hash_quad(&quad(IpAddr::from([10, 0, 0, 1]), 1));
        let flows: Vec<Quad> = (0..=u16::MAX)
            .flat_map(|p| (0..64).map(move |a| quad(IpAddr::from([10, 1, 0, a]), p)))
            .filter(|q| keys.hash_quad(q) == bucket)
            .collect();
        assert!(flows.len() > 30);
        for shift in [0, 57] {
            let distinct: HashSet<u64> = flows.iter().map(|q| hasher.hash(q) >> shift & 127).collect();
            assert!(distinct.len() * 2 > flows.len().min(128), "{} of {}", distinct.len(), flows.len());
        }
        assert_ne!(hasher.hash(&flows[0]), FlowHasher::from_random([4; 16]).hash(&flows[0]), "the key counts");
    }
}
