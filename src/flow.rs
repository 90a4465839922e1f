//! Which flow a packet belongs to and which shard owns the flow: [`Quad`], the steering hash, the owner table, and the
//! separate hash of the flow table inside a shard.
//!
//! `owner = table[hash(remote, local) & 65535]`. The hash is computed in two places that must agree to the bit: here,
//! and in the small eBPF program that the kernel runs to pick the queue (`device::bpf`). This is the only module that
//! decides an owner; nothing here knows connections.

use std::fmt;
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

use crate::wire::{self, PROTOCOL_TCP, icmp};

/// An address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address.
    pub addr: IpAddr,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// An endpoint from its parts.
    #[must_use]
    pub const fn new(addr: IpAddr, port: u16) -> Self {
        Self { addr, port }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self { addr: addr.ip(), port: addr.port() }
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(e: Endpoint) -> Self {
        SocketAddr::new(e.addr, e.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

/// A connection's four-tuple, seen from this host: both address and port of both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Quad {
    /// Our end.
    pub local: Endpoint,
    /// The peer's end.
    pub remote: Endpoint,
}

impl fmt::Display for Quad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.local, self.remote)
    }
}

/// Number of a shard, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The number as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Key of the steering hash, drawn at each start so that no peer can aim at one shard.
#[derive(Clone, Copy)]
pub struct SteeringKeys {
    k0: u64,
    k1: u64,
}

impl fmt::Debug for SteeringKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SteeringKeys(..)") // never in a log: the key is what keeps the hash from being aimed at
    }
}

/// Multipliers of the hash rounds: odd, with bits spread evenly. Read by the eBPF assembler too.
pub(crate) const MULTIPLIERS: [u64; 2] = [0x9e6c_63d0_876a_3f6b, 0xd1a3_2b5d_4c8f_9e37];

/// Shortest TCP header: a packet that ends before it is hashed by its addresses.
const TCP_HEADER_LEN: usize = wire::tcp::MIN_HEADER_LEN;

impl SteeringKeys {
    /// Keys from 16 random octets.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        let value = u128::from_ne_bytes(bytes);
        Self { k0: value as u64, k1: (value >> 64) as u64 }
    }

    /// The two key words, for the program that computes the same hash in the kernel.
    pub(crate) fn words(&self) -> [u64; 2] {
        [self.k0, self.k1]
    }

    /// Multiply, then bring the high half down: one round.
    #[inline]
    fn round(x: u64, multiplier: u64) -> u64 {
        let x = x.wrapping_mul(multiplier);
        x ^ (x >> 32)
    }

    /// The last round, over the ports (0 for the address hash), and the choice of 16 bits: the highest of one more
    /// product, since only those depend on every bit. (Low bits of the round itself spread the flows of one client,
    /// which differ in a port, visibly worse than chance.) Ports are the four octets as on the wire.
    #[inline]
    fn finish(&self, x: u64, ports: u32) -> u32 {
        let x = Self::round(x ^ u64::from(ports) ^ self.k1, MULTIPLIERS[1]);
        (x.wrapping_mul(MULTIPLIERS[1]) >> 48) as u32
    }

    /// `addresses` are the 8 octets source, destination of an incoming packet.
    #[inline]
    fn hash_v4(&self, addresses: [u8; 8], ports: u32) -> u32 {
        self.finish(Self::round(u64::from_ne_bytes(addresses) ^ self.k0, MULTIPLIERS[0]), ports)
    }

    /// `addresses` are the 32 octets source, destination of an incoming packet.
    #[inline]
    fn hash_v6(&self, addresses: [u8; 32], ports: u32) -> u32 {
        let mut x = self.k0;
        for word in addresses.as_chunks::<8>().0 {
            x = Self::round(x ^ u64::from_ne_bytes(*word), MULTIPLIERS[0]);
        }
        self.finish(x, ports)
    }

    /// Hash (16 bits) of a packet that comes in, from its raw octets: to the bit what the eBPF program computes.
    ///
    /// | packet | hash over |
    /// | --- | --- |
    /// | IPv4 TCP, no fragment, any IHL, 20 octets of TCP header present | source, destination, ports |
    /// | IPv6 with TCP right behind the header, 20 octets of TCP header present | source, destination, ports |
    /// | anything else with whole addresses: fragments, ICMP, UDP, extension headers, cut short | source, destination |
    /// | anything else | 0 |
    ///
    /// ICMP errors and TCP behind IPv6 extension headers thus land on a shard that need not be the flow's owner:
    /// [`hash_owner`](Self::hash_owner) says the right one for those too.
    #[inline]
    #[must_use]
    pub fn hash_packet(&self, packet: &[u8]) -> u32 {
        match packet.first().map(|b| b >> 4) {
            Some(4) => {
                let Some(addresses) = chunk::<8>(packet, 12) else { return 0 };
                self.hash_v4(addresses, Self::ports_v4(packet).unwrap_or(0))
            }
            Some(6) => {
                let Some(addresses) = chunk::<32>(packet, 8) else { return 0 };
                self.hash_v6(addresses, Self::ports_v6(packet).unwrap_or(0))
            }
            _ => 0,
        }
    }

    #[inline]
    fn ports_v4(packet: &[u8]) -> Option<u32> {
        let fragment = u16::from_be_bytes(chunk(packet, 6)?) & 0x3fff; // MF and offset
        let ihl = usize::from(packet[0] & 15) * 4;
        if packet[9] != PROTOCOL_TCP || fragment != 0 || ihl < 20 {
            return None;
        }
        chunk::<TCP_HEADER_LEN>(packet, ihl).map(|h| u32::from_ne_bytes([h[0], h[1], h[2], h[3]]))
    }

    #[inline]
    fn ports_v6(packet: &[u8]) -> Option<u32> {
        if packet[6] != PROTOCOL_TCP {
            return None;
        }
        chunk::<TCP_HEADER_LEN>(packet, 40).map(|h| u32::from_ne_bytes([h[0], h[1], h[2], h[3]]))
    }

    /// Hash (16 bits) of a flow: equal to [`hash_packet`](Self::hash_packet) of each plain TCP packet that comes in for
    /// it.
    #[inline]
    #[must_use]
    pub fn hash_quad(&self, quad: &Quad) -> u32 {
        let ([a, b], [c, d]) = (quad.remote.port.to_be_bytes(), quad.local.port.to_be_bytes());
        let ports = u32::from_ne_bytes([a, b, c, d]);
        match (quad.remote.addr, quad.local.addr) {
            (IpAddr::V4(remote), IpAddr::V4(local)) => {
                let ([a, b, c, d], [e, f, g, h]) = (remote.octets(), local.octets());
                self.hash_v4([a, b, c, d, e, f, g, h], ports)
            }
            (remote, local) => {
                let mut addresses = [0; 32];
                addresses[..16].copy_from_slice(&octets_v6(remote));
                addresses[16..].copy_from_slice(&octets_v6(local));
                self.hash_v6(addresses, ports)
            }
        }
    }

    /// Hash of the flow that an ICMP error is about: the quoted segment's ends reversed. `None` when the packet is no
    /// ICMP error about a TCP segment. Slow path: one in a great many packets.
    #[must_use]
    pub fn hash_icmp_error(&self, packet: &[u8]) -> Option<u32> {
        // Checksums are left to whoever acts on the message.
        let packet = wire::ip::parse(packet, false).ok()?;
        let error = icmp::parse_error(&packet, true).ok()??;
        Some(self.hash_quad(&Quad {
            local: Endpoint::new(error.src, error.src_port),
            remote: Endpoint::new(error.dst, error.dst_port),
        }))
    }

    /// Hash that names the owner of an incoming packet, also where the kernel's program takes only the addresses: ICMP
    /// errors by the quoted flow, TCP behind IPv6 extension headers by its ports. Equal to
    /// [`hash_packet`](Self::hash_packet) for everything else, and as cheap for plain TCP.
    #[inline]
    #[must_use]
    pub fn hash_owner(&self, packet: &[u8]) -> u32 {
        const V4: u8 = 4;
        const V6: u8 = 6;
        let plain = match (packet.first().map(|b| b >> 4), packet.get(6), packet.get(9)) {
            (Some(V4), _, Some(&protocol)) => protocol != wire::PROTOCOL_ICMP,
            (Some(V6), Some(&next), _) => next == PROTOCOL_TCP,
            _ => true,
        };
        if plain { self.hash_packet(packet) } else { self.hash_uncommon(packet) }
    }

    #[cold]
    fn hash_uncommon(&self, packet: &[u8]) -> u32 {
        if let Ok(ip) = wire::ip::parse(packet, false)
            && ip.protocol == PROTOCOL_TCP
            && let Some([a, b, c, d, ..]) = ip.payload.first_chunk::<TCP_HEADER_LEN>()
        {
            return self.hash_quad(&Quad {
                remote: Endpoint::new(ip.src, u16::from_be_bytes([*a, *b])),
                local: Endpoint::new(ip.dst, u16::from_be_bytes([*c, *d])),
            });
        }
        self.hash_icmp_error(packet).unwrap_or_else(|| self.hash_packet(packet))
    }
}

fn octets_v6(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    }
}

/// `N` octets of `bytes` from `at`, if they are there.
#[inline]
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Entries of the owner table.
pub const BUCKETS: usize = 65_536;

/// The entries of an owner table: `owner + 1`, 0 = vacant.
pub type Entries = [AtomicU32; BUCKETS];

/// The indirection table from hash to owner, shared by everybody who steers (put it in an `Arc`). The entries lie in
/// memory of this process or in the mapped value of the BPF map that the kernel's program reads.
pub struct OwnerTable {
    // Valid and shared until `free(entries)`, which is called once, on drop.
    entries: NonNull<Entries>,
    free: unsafe fn(NonNull<Entries>),
    shards: u16,
}

// SAFETY: the table is an array of atomics behind a pointer that stays valid until drop; drop has exclusive access.
unsafe impl Send for OwnerTable {}
// SAFETY: as above: all access through `&self` is atomic.
unsafe impl Sync for OwnerTable {}

impl fmt::Debug for OwnerTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerTable").field("shards", &self.shards).finish_non_exhaustive()
    }
}

impl OwnerTable {
    /// A table in memory of this process, dealt out evenly: entry `i` belongs to shard `i % shards`.
    ///
    /// # Panics
    ///
    /// When `shards` is 0.
    pub fn in_memory(shards: u16) -> Self {
        unsafe fn free(entries: NonNull<Entries>) {
            // SAFETY: `entries` came from `Box::leak` of a box of this type, and `drop` calls this once.
            drop(unsafe { Box::from_raw(entries.as_ptr()) });
        }
        let entries: Box<[AtomicU32]> = (0..BUCKETS).map(|_| AtomicU32::new(0)).collect();
        let entries: Box<Entries> = entries.try_into().expect("collected BUCKETS entries");
        // SAFETY: a leaked box is valid and unaliased; `free` undoes it.
        unsafe { Self::from_raw(NonNull::from(Box::leak(entries)), free, shards) }
    }

    /// A table over memory made elsewhere (the mapped value of a BPF map), dealt out evenly as by
    /// [`in_memory`](Self::in_memory).
    ///
    /// # Safety
    ///
    /// `entries` must stay valid for atomic access until `free(entries)` is called, and `free` must be sound to call
    /// once with it, from any thread.
    ///
    /// # Panics
    ///
    /// When `shards` is 0.
    pub(crate) unsafe fn from_raw(entries: NonNull<Entries>, free: unsafe fn(NonNull<Entries>), shards: u16) -> Self {
        assert!(shards > 0, "an owner table needs a shard");
        let table = Self { entries, free, shards };
        for bucket in 0..BUCKETS {
            table.set(bucket as u32, Some(ShardId((bucket % usize::from(shards)) as u16)));
        }
        table
    }

    /// Number of shards the table was dealt out to.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    #[inline]
    fn entry(&self, hash: u32) -> &AtomicU32 {
        // SAFETY: valid until drop (constructor's contract), and `&self` outlives the reference.
        let entries = unsafe { self.entries.as_ref() };
        &entries[hash as usize & (BUCKETS - 1)]
    }

    /// Owner of the flows with this hash; shard 0 for a vacant entry, as the kernel's program has it.
    #[inline]
    #[must_use]
    pub fn owner(&self, hash: u32) -> ShardId {
        self.claimed(hash).unwrap_or_default()
    }

    /// Owner of the flows with this hash, or `None` for a vacant entry.
    #[inline]
    #[must_use]
    pub fn claimed(&self, hash: u32) -> Option<ShardId> {
        // Relaxed: the entry is a word by itself; nothing else is published through it.
        let value = self.entry(hash).load(Ordering::Relaxed);
        value.checked_sub(1).map(|owner| ShardId(owner as u16))
    }

    /// Gives a bucket to a shard, or makes it vacant. Only at set-up, or by the owner of a bucket in which nothing lives:
    /// the table's owner is who may answer a segment.
    pub fn set(&self, hash: u32, owner: Option<ShardId>) {
        self.entry(hash).store(owner.map_or(0, |o| u32::from(o.0) + 1), Ordering::Relaxed);
    }
}

impl Drop for OwnerTable {
    fn drop(&mut self) {
        // SAFETY: the constructor's contract: called once, nobody can hold a reference any more.
        unsafe { (self.free)(self.entries) }
    }
}

/// Source ports for active opens, from which one is drawn at random (RFC 6056 section 3.2: as many as possible). Lower
/// ports are left to listeners.
pub const EPHEMERAL_PORTS: RangeInclusive<u16> = 32_768..=65_535;

/// The ports of `range` that make `shard` own a flow from `local_addr` to `remote`, in order from a random start
/// (RFC 6056 section 3.3.1) and wrapping round once. Take the first that is free; empty when the shard owns none.
pub fn ports_for_shard<'a>(
    keys: &'a SteeringKeys,
    table: &'a OwnerTable,
    local_addr: IpAddr,
    remote: Endpoint,
    shard: ShardId,
    random_start: u16,
    range: RangeInclusive<u16>,
) -> impl Iterator<Item = u16> + Clone + 'a {
    let (first, count) = (u32::from(*range.start()), range.len() as u32);
    (0..count).map(move |i| (first + (u32::from(random_start) + i) % count) as u16).filter(move |&port| {
        table.owner(keys.hash_quad(&Quad { local: Endpoint::new(local_addr, port), remote })) == shard
    })
}

/// Hash of the flow table inside a shard. Its key is not the steering key: all flows of a shard agree in bits of the
/// steering hash, so with that hash most places of the table would stay empty.
#[derive(Clone)]
pub struct FlowHasher {
    seed: u64,
    shared: SharedSeed,
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

    /// Hash of whoever may have sent a packet from `addr`: an IPv4 address, or the 64 bits of an IPv6 network, of which one
    /// host may have all addresses.
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
#[path = "flow_tests.rs"]
mod tests;
