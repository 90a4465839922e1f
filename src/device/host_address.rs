//! Addresses on the two sides of a TUN device: which one a host can have, and which one that leaves for the kernel's side.
//!
//! Values only. An address that no host can have would not be refused by anybody: packets to it just never come.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IPv4 address that a host can have, with the length of its network's prefix, like 10.7.0.2/24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostAddress {
    ip: Ipv4Addr,
    prefix: u8,
}

/// Why an address cannot be that of a host behind a device, and what to take.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// As text it is something else.
    #[error("not an IPv4 address with the length of its prefix, like 10.7.0.2/24")]
    Form,
    /// No host on any network has it.
    #[error("{0}; take one of a private network, like 10.7.0.2/24")]
    NoHost(&'static str),
    /// The network is too small or too large.
    #[error("the prefix must leave room for two hosts: 8 to 30 bits, like 10.7.0.2/24")]
    Prefix,
    /// No host on its network has it.
    #[error("the network's own or its broadcast address; take one between, like {0}")]
    Edge(HostAddress),
    /// All hosts of the network are ours.
    #[error("no address of its network is left for the kernel's side; take a shorter prefix")]
    Full,
    /// The kernel's side has it.
    #[error("the kernel's side has this address; take another one of its network")]
    Taken,
    /// There is no usual prefix, and so no network to find the kernel's side in.
    #[error("an IPv6 address says nothing of the kernel's side; say that, too (Builder::kernel_address)")]
    Ipv6,
}

debug_as_display!(AddressError);

/// Why no host on a network can have this address (RFC 1122 3.2.1.3, RFC 4291 2.4), if so.
#[must_use]
pub fn no_host(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => match ip.octets()[0] {
            0 => Some("\"this network\", no host's address"),
            127 => Some("loopback, which never leaves the kernel"),
            224..=239 => Some("multicast, no host's address"),
            240.. => Some("reserved or broadcast, no host's address"),
            _ => None,
        },
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Some("\"this network\", no host's address"),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Some("loopback, which never leaves the kernel"),
        IpAddr::V6(ip) if ip.is_multicast() => Some("multicast, no host's address"),
        IpAddr::V6(_) => None,
    }
}

/// The bits of a prefix, of 30 at most.
const fn mask(prefix: u8) -> u32 {
    !(u32::MAX >> prefix)
}

impl HostAddress {
    /// `ip` in the network of its first `prefix` bits.
    ///
    /// # Errors
    ///
    /// No host can have it: see [`AddressError`].
    pub fn new(ip: Ipv4Addr, prefix: u8) -> Result<Self, AddressError> {
        if let Some(why) = no_host(ip.into()) {
            return Err(AddressError::NoHost(why));
        }
        if !(8..=30).contains(&prefix) {
            return Err(AddressError::Prefix);
        }
        let network = ip.to_bits() & mask(prefix);
        if [network, network | !mask(prefix)].contains(&ip.to_bits()) {
            return Err(AddressError::Edge(Self { ip: Ipv4Addr::from(network + 1), prefix }));
        }
        Ok(Self { ip, prefix })
    }

    /// The address.
    #[must_use]
    pub fn ip(self) -> Ipv4Addr {
        self.ip
    }

    /// The length of its network's prefix.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether an address is in the same network.
    #[must_use]
    pub fn covers(self, other: Ipv4Addr) -> bool {
        (self.ip.to_bits() ^ other.to_bits()) & mask(self.prefix) == 0
    }

    /// The address for the kernel's side: the first of the network that is none of `ours`. `None`: all of them are.
    #[must_use]
    pub fn kernel_side(self, ours: &[Ipv4Addr]) -> Option<Ipv4Addr> {
        let network = self.ip.to_bits() & mask(self.prefix);
        (network + 1..network | !mask(self.prefix)).map(Ipv4Addr::from).find(|ip| !ours.contains(ip))
    }
}

impl FromStr for HostAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (ip, prefix) = text.split_once('/').ok_or(AddressError::Form)?;
        let (Ok(ip), Ok(prefix)) = (ip.parse(), prefix.parse()) else { return Err(AddressError::Form) };
        Self::new(ip, prefix)
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_kernel_gets_the_first_address_that_is_not_ours() {
        for (text, ours, kernel) in [
            ("10.7.0.2/24", &[][..], Some("10.7.0.1")),
            ("10.7.0.1/24", &[][..], Some("10.7.0.2")),
            ("10.7.0.6/30", &[][..], Some("10.7.0.5")),
            ("10.7.0.2/24", &["10.7.0.1", "10.7.0.3"], Some("10.7.0.4")),
            ("10.200.0.1/8", &[], Some("10.0.0.1")),
            ("10.7.0.6/30", &["10.7.0.5"], None),
        ] {
            let address: HostAddress = text.parse().unwrap();
            let ours: Vec<Ipv4Addr> = ours.iter().map(|ip| ip.parse().unwrap()).chain([address.ip()]).collect();
            let kernel = kernel.map(|ip: &str| ip.parse().unwrap());
            assert_eq!(address.kernel_side(&ours), kernel, "{text} beside {ours:?}");
        }
    }

    #[test]
    fn a_prefix_covers_its_own_addresses_only() {
        let ours: HostAddress = "10.7.1.2/24".parse().unwrap();
        for (other, covered) in
            [([10, 7, 1, 1], true), ([10, 7, 1, 255], true), ([10, 7, 0, 2], false), ([10, 8, 1, 2], false)]
        {
            assert_eq!(ours.covers(other.into()), covered, "{other:?}");
        }
    }

    #[test]
    fn addresses_that_no_host_can_have_are_refused() {
        let first = HostAddress { ip: [10, 7, 0, 1].into(), prefix: 24 };
        for (text, why) in [
            ("10.7.0.2", AddressError::Form),
            ("ten/24", AddressError::Form),
            ("10.7.0.2/x", AddressError::Form),
            ("::1/64", AddressError::Form),
            ("10.7.0.0/24", AddressError::Edge(first)),
            ("10.7.0.255/24", AddressError::Edge(first)),
            ("10.7.0.2/31", AddressError::Prefix),
            ("10.7.0.2/7", AddressError::Prefix),
            ("10.7.0.2/255", AddressError::Prefix),
        ] {
            assert_eq!(text.parse::<HostAddress>(), Err(why), "{text}");
        }
        for text in ["0.0.0.0/8", "0.1.2.3/8", "127.0.0.1/8", "224.0.0.1/24", "240.0.0.1/24", "255.255.255.255/24"] {
            assert!(matches!(text.parse::<HostAddress>(), Err(AddressError::NoHost(_))), "{text}");
        }
        for (text, is_host) in [("::", false), ("::1", false), ("ff02::1", false), ("fd00::2", true), ("fe80::1", true)]
        {
            assert_eq!(no_host(text.parse().unwrap()).is_none(), is_host, "{text}");
        }
    }
}
