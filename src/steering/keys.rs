//! [`SteeringKeys`]: the hash from which the owner of a flow follows, of packets and of flows.
//!
//! Read beside `program`, which computes the same in the kernel.

use std::fmt;
use std::net::IpAddr;

use crate::flow::{Endpoint, Quad, octets_v6};
use crate::wire::tcp::Flags;
use crate::wire::{self, PROTOCOL_TCP, icmp};

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
pub(super) const MULTIPLIERS: [u64; 2] = [0x9e6c_63d0_876a_3f6b, 0xd1a3_2b5d_4c8f_9e37];

/// Shortest TCP header: a packet that ends before it is hashed by its addresses.
const TCP_HEADER_LEN: usize = wire::tcp::MIN_HEADER_LEN;

/// Where in a TCP header its flags are.
pub(super) const FLAGS_AT: usize = 13;
/// What of them counts: ACK, RST, SYN ...
pub(super) const BIRTH_MASK: u8 = Flags::ACK.0 | Flags::RST.0 | Flags::SYN.0;
/// ... and what they are for a segment that opens a flow.
pub(super) const BIRTH_FLAGS: u8 = Flags::SYN.0;

impl SteeringKeys {
    /// Keys from 16 random octets.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        let value = u128::from_ne_bytes(bytes);
        Self { k0: value as u64, k1: (value >> 64) as u64 }
    }

    /// The two key words, for the program that computes the same hash in the kernel.
    pub(super) fn words(&self) -> [u64; 2] {
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

    /// Whether a packet opens a flow, as the eBPF program sees it: a SYN without ACK or RST, with the TCP header where
    /// [`hash_packet`](Self::hash_packet) looks for ports.
    #[must_use]
    pub fn is_birth(packet: &[u8]) -> bool {
        let tcp = match packet.first().map(|b| b >> 4) {
            Some(4) if packet.len() >= 20 && Self::ports_v4(packet).is_some() => usize::from(packet[0] & 15) * 4,
            Some(6) if packet.len() >= 40 && Self::ports_v6(packet).is_some() => 40,
            _ => return false,
        };
        packet.get(tcp + FLAGS_AT).is_some_and(|flags| flags & BIRTH_MASK == BIRTH_FLAGS)
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

/// `N` octets of `bytes` from `at`, if they are there.
#[inline]
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
