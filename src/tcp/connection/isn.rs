//! Initial sequence numbers, timestamp offsets and the choice of ports (RFC 6528, RFC 7323 5.4, RFC 6056).
//!
//! The key is handed in: this room has no random source. It must come from one, and stay for the life of the process,
//! or TIME-WAIT cannot tell new connections from old (RFC6528-3b).

use core::fmt;
use core::net::IpAddr;

use siphasher::sip::SipHasher24;

use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::Instant;

/// Keeps the uses of the one key apart.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Purpose {
    SequenceNumber = 1,
    TimestampOffset = 2,
    Port = 3,
}

/// Octets of the longest input of the hash: purpose, two IPv6 addresses, and what a choice of ports depends on besides.
const MOST_HASHED: usize = 1 + 32 + 10;

/// Makes initial sequence numbers that grow for one quad and cannot be guessed for another (SHLD-1, MUST-9).
#[derive(Clone)]
pub struct IsnGenerator {
    keyed: SipHasher24,
}

impl IsnGenerator {
    /// A generator with a secret key of 128 random bits.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self { keyed: SipHasher24::new_with_key(&key) }
    }

    /// ISN = M + F(quad, secret): M is a clock of 4 us (MUST-8), F is SipHash-2-4 (RFC6528-3a).
    #[must_use]
    pub fn isn(
        &self,
        local_addr: IpAddr,
        local_port: u16,
        remote_addr: IpAddr,
        remote_port: u16,
        now: Instant,
    ) -> SeqNum {
        let ports = u32::from(local_port) << 16 | u32::from(remote_port);
        let hash = self.over(Purpose::SequenceNumber, local_addr, remote_addr, &ports.to_be_bytes());
        let clock = (now.as_micros() / 4) as u32;
        SeqNum(hash as u32) + clock
    }

    /// What is added to our timestamp clock towards this address: the same for every connection of the address pair, so
    /// that a later connection of one quad shows larger timestamps (RFC7323-5.4b, SM-TW-5a), yet no uptime leaks.
    #[must_use]
    pub fn ts_offset(&self, local_addr: IpAddr, remote_addr: IpAddr) -> u32 {
        self.over(Purpose::TimestampOffset, local_addr, remote_addr, &[]) as u32
    }

    /// F and G of RFC 6056 algorithm 4 for one destination, as the halves of one hash: SipHash-2-4 is a pseudorandom
    /// function, so that the halves tell nothing of each other, and those of one `epoch` nothing of those of another
    /// (RFC6056-3.3).
    #[must_use]
    pub fn port_hash(&self, local_addr: IpAddr, remote_addr: IpAddr, remote_port: u16, epoch: u64) -> u64 {
        let (port, epoch) = (remote_port.to_be_bytes(), epoch.to_be_bytes());
        let mut rest = [0; 10];
        rest[..2].copy_from_slice(&port);
        rest[2..].copy_from_slice(&epoch);
        self.over(Purpose::Port, local_addr, remote_addr, &rest)
    }

    /// The hash of purpose, addresses and `rest`, whose length the purpose tells. In one go: piece by piece it takes
    /// twice as long.
    #[inline]
    fn over<const REST: usize>(
        &self,
        purpose: Purpose,
        local_addr: IpAddr,
        remote_addr: IpAddr,
        rest: &[u8; REST],
    ) -> u64 {
        let mut octets = [purpose as u8; MOST_HASHED];
        let len = match (local_addr, remote_addr) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                octets[1..5].copy_from_slice(&local.octets());
                octets[5..9].copy_from_slice(&remote.octets());
                9
            }
            (local, remote) => {
                octets[1..17].copy_from_slice(&octets_of(local));
                octets[17..33].copy_from_slice(&octets_of(remote));
                33
            }
        };
        octets[len..len + REST].copy_from_slice(rest);
        self.keyed.hash(&octets[..len + REST])
    }
}

fn octets_of(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}

impl fmt::Debug for IsnGenerator {
    /// Without the key, which must never be shown (MUST-9).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IsnGenerator").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const HERE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn must_8_the_clock_ticks_every_four_microseconds() {
        let isn = IsnGenerator::new([7; 16]);
        let at = |micros| isn.isn(HERE, 80, THERE, 4_000, Instant::from_micros(micros));
        assert_eq!(at(4) - at(0), 1);
        assert_eq!(at(1_000_000) - at(0), 250_000);
        let wrap = 4 * (1_u64 << 32);
        assert_eq!(at(wrap), at(0), "about 4.77 hours");
    }

    #[test]
    fn shld_1_every_part_of_the_quad_and_the_key_counts() {
        let now = Instant::from_secs(9);
        let isn = IsnGenerator::new([7; 16]);
        let v6 = IpAddr::V6(core::net::Ipv6Addr::LOCALHOST);
        let all = [
            isn.isn(HERE, 80, THERE, 4_000, now),
            isn.isn(HERE, 81, THERE, 4_000, now),
            isn.isn(HERE, 80, THERE, 4_001, now),
            isn.isn(THERE, 80, HERE, 4_000, now),
            isn.isn(HERE, 4_000, THERE, 80, now),
            isn.isn(v6, 80, v6, 4_000, now),
            IsnGenerator::new([8; 16]).isn(HERE, 80, THERE, 4_000, now),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }

    /// OPS-36.
    #[test]
    fn rfc7323_5_4b_the_timestamp_offset_depends_on_addresses_only() {
        let isn = IsnGenerator::new([7; 16]);
        assert_eq!(isn.ts_offset(HERE, THERE), isn.ts_offset(HERE, THERE));
        assert_ne!(isn.ts_offset(HERE, THERE), isn.ts_offset(THERE, HERE));
        assert_ne!(isn.ts_offset(HERE, THERE), IsnGenerator::new([8; 16]).ts_offset(HERE, THERE));
    }

    #[test]
    fn must_9_the_key_is_not_shown() {
        assert_eq!(format!("{:?}", IsnGenerator::new([7; 16])), "IsnGenerator { .. }");
    }
}
