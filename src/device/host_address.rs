//! Addresses on the two sides of a TUN device: which one a host can have, and which one that leaves for the kernel's side.
//!
//! Values only, but for a look whether the kernel has IPv6. An address that no host can have would not be refused by anybody:
//! packets to it just never come.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address that a host can have, with the length of its network's prefix, like 10.7.0.2/24 or fd00:7::2/64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostAddress {
    ip: IpAddr,
    prefix: u8,
}

/// Why an address cannot be that of a host behind a device, and what to take.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// As text it is something else.
    #[error("not an address with the length of its prefix, like 10.7.0.2/24 or fd00:7::2/64")]
    Form,
    /// No host on any network has it.
    #[error("{0}; take one of a private network, like 10.7.0.2/24 or fd00:7::2/64")]
    NoHost(&'static str),
    /// The network is too small or too large.
    #[error("the prefix must leave room for two hosts: 8 to 30 bits, like 10.7.0.2/24, or 8 to 126, like fd00:7::2/64")]
    Prefix,
    /// No host on its network has it.
    #[error("the network's own or its broadcast address; take one between, like {0}")]
    Edge(HostAddress),
    /// It is that of the network's routers, all of them (RFC 4291 2.6.1).
    #[error("the address of the network's routers; take another one, like {0}")]
    Anycast(HostAddress),
    /// All hosts of the network are ours.
    #[error("no address of its network is left for the kernel's side; take a shorter prefix")]
    Full,
    /// The kernel's side has it.
    #[error("the kernel's side has this address; take another one of its network")]
    Taken,
}

debug_as_display!(AddressError);

/// Why no host on a network can have this address (RFC 1122 3.2.1.3, RFC 4291 2.4 and 2.5.5), if so.
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
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Some("an IPv4 address in IPv6's form, no host's address"),
        IpAddr::V6(_) => None,
    }
}

/// Whether the kernel of this network namespace gives new devices IPv6 addresses
/// (`net.ipv6.conf.default.disable_ipv6`, and the kernel's own `ipv6.disable`).
#[must_use]
pub fn kernel_has_ipv6() -> bool {
    let disabled = std::fs::read_to_string("/proc/sys/net/ipv6/conf/default/disable_ipv6");
    disabled.is_ok_and(|text| text.trim() == "0")
}

/// An address as a number, of 32 or 128 bits.
fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

impl HostAddress {
    /// `ip` in the network of its first `prefix` bits.
    ///
    /// # Errors
    ///
    /// No host can have it: see [`AddressError`].
    pub fn new(ip: IpAddr, prefix: u8) -> Result<Self, AddressError> {
        if let Some(why) = no_host(ip) {
            return Err(AddressError::NoHost(why));
        }
        let address = Self { ip, prefix };
        if !(8..=address.width() - 2).contains(&prefix) {
            return Err(AddressError::Prefix);
        }
        let (first, last) = address.ends();
        let between = Self { ip: address.at(first + 1), prefix };
        match ip {
            IpAddr::V4(_) if [first, last].contains(&bits(ip)) => Err(AddressError::Edge(between)),
            IpAddr::V6(_) if bits(ip) == first => Err(AddressError::Anycast(between)),
            _ => Ok(address),
        }
    }

    /// The address.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.ip
    }

    /// The length of its network's prefix.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    fn width(self) -> u8 {
        if self.ip.is_ipv4() { 32 } else { 128 }
    }

    /// The bits of an address that tell the hosts of the network apart: two at least, and not all.
    fn host_bits(self) -> u128 {
        u128::MAX >> (128 - self.width()) >> self.prefix
    }

    /// The first and the last address of the network, as numbers.
    fn ends(self) -> (u128, u128) {
        let hosts = self.host_bits();
        (bits(self.ip) & !hosts, bits(self.ip) | hosts)
    }

    /// The address of this number in the family of this one.
    fn at(self, number: u128) -> IpAddr {
        match self.ip {
            IpAddr::V4(_) => Ipv4Addr::from_bits(number as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
        }
    }

    /// Whether an address is in the same network.
    #[must_use]
    pub fn covers(self, other: IpAddr) -> bool {
        self.ip.is_ipv4() == other.is_ipv4() && (bits(self.ip) ^ bits(other)) & !self.host_bits() == 0
    }

    /// The address for the kernel's side: the first of the network that is none of `ours`. `None`: all of them are.
    #[must_use]
    pub fn kernel_side(self, ours: &[IpAddr]) -> Option<IpAddr> {
        let (first, last) = self.ends();
        (first + 1..last).map(|number| self.at(number)).find(|ip| !ours.contains(ip))
    }

    /// The addresses for the kernel's side beside all of `ours`: one in each of their networks, with its prefix.
    ///
    /// # Errors
    ///
    /// In the network of this one no address is left: [`AddressError::Full`].
    pub fn kernel_sides(ours: &[Self]) -> Result<Vec<Self>, (Self, AddressError)> {
        let mut taken: Vec<IpAddr> = ours.iter().map(|address| address.ip).collect();
        let mut sides = Vec::new();
        for (index, &address) in ours.iter().enumerate() {
            // Of the same length, it is the same network.
            if ours[..index].iter().any(|other| other.prefix == address.prefix && other.covers(address.ip)) {
                continue;
            }
            let ip = address.kernel_side(&taken).ok_or((address, AddressError::Full))?;
            taken.push(ip);
            sides.push(Self { ip, prefix: address.prefix });
        }
        Ok(sides)
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

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_kernel_gets_the_first_address_that_is_not_ours() {
        for (text, ours, kernel) in [
            ("10.7.0.2/24", &[][..], Some("10.7.0.1")),
            ("10.7.0.1/24", &[][..], Some("10.7.0.2")),
            ("10.7.0.6/30", &[][..], Some("10.7.0.5")),
            ("10.7.0.2/24", &["10.7.0.1", "10.7.0.3"], Some("10.7.0.4")),
            ("10.200.0.1/8", &[], Some("10.0.0.1")),
            ("10.7.0.6/30", &["10.7.0.5"], None),
            ("fd00:7::2/64", &[], Some("fd00:7::1")),
            ("fd00:7::1/64", &[], Some("fd00:7::2")),
            ("fd00:7:0:1:ffff::9/64", &["fd00:7:0:1::1"], Some("fd00:7:0:1::2")),
            ("fd00:7::6/126", &[], Some("fd00:7::5")),
            ("fd00:7::6/126", &["fd00:7::5"], None),
        ] {
            let address: HostAddress = text.parse().unwrap();
            let ours: Vec<IpAddr> = ours.iter().map(|text| ip(text)).chain([address.ip()]).collect();
            assert_eq!(address.kernel_side(&ours), kernel.map(ip), "{text} beside {ours:?}");
        }
    }

    #[test]
    fn the_kernel_has_one_address_in_each_network() {
        let sides = |ours: &[&str]| {
            let ours: Vec<HostAddress> = ours.iter().map(|text| text.parse().unwrap()).collect();
            let sides = HostAddress::kernel_sides(&ours);
            sides.map(|sides| sides.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        for (ours, kernel) in [
            (&["10.7.0.2/24", "fd00:7::2/64"][..], "10.7.0.1/24 fd00:7::1/64"),
            (&["fd00:7::2/64", "fd00:7::1/64", "fd00:7::4/64"], "fd00:7::3/64"),
            (&["10.7.0.2/24", "10.7.0.1/24", "10.9.0.2/24"], "10.7.0.3/24 10.9.0.1/24"),
        ] {
            assert_eq!(sides(ours).unwrap(), kernel);
        }
        let full: HostAddress = "10.7.0.5/30".parse().unwrap();
        assert_eq!(sides(&["10.7.0.5/30", "10.7.0.6/30"]), Err((full, AddressError::Full)));
    }

    #[test]
    fn a_prefix_covers_its_own_addresses_only() {
        for (ours, other, covered) in [
            ("10.7.1.2/24", "10.7.1.1", true),
            ("10.7.1.2/24", "10.7.1.255", true),
            ("10.7.1.2/24", "10.7.0.2", false),
            ("10.7.1.2/24", "10.8.1.2", false),
            ("10.7.1.2/24", "::10.7.1.2", false),
            ("fd00:7::2/64", "fd00:7::ffff:0:0:1", true),
            ("fd00:7::2/64", "fd00:7:0:1::2", false),
            ("fd00:7::2/64", "10.7.0.1", false),
        ] {
            let ours: HostAddress = ours.parse().unwrap();
            assert_eq!(ours.covers(ip(other)), covered, "{ours} {other}");
        }
    }

    #[test]
    fn addresses_that_no_host_can_have_are_refused() {
        let first = HostAddress { ip: ip("10.7.0.1"), prefix: 24 };
        let first_v6 = HostAddress { ip: ip("fd00:7::1"), prefix: 64 };
        for (text, why) in [
            ("10.7.0.2", AddressError::Form),
            ("ten/24", AddressError::Form),
            ("10.7.0.2/x", AddressError::Form),
            ("[fd00:7::2]/64", AddressError::Form),
            ("10.7.0.0/24", AddressError::Edge(first)),
            ("10.7.0.255/24", AddressError::Edge(first)),
            ("10.7.0.2/31", AddressError::Prefix),
            ("10.7.0.2/7", AddressError::Prefix),
            ("10.7.0.2/255", AddressError::Prefix),
            ("fd00:7::/64", AddressError::Anycast(first_v6)),
            ("fd00:7::2/127", AddressError::Prefix),
            ("fd00:7::2/7", AddressError::Prefix),
            ("fd00:7::2/129", AddressError::Prefix),
        ] {
            assert_eq!(text.parse::<HostAddress>(), Err(why), "{text}");
        }
        for text in [
            "0.0.0.0/8",
            "0.1.2.3/8",
            "127.0.0.1/8",
            "224.0.0.1/24",
            "240.0.0.1/24",
            "255.255.255.255/24",
            "::1/64",
            "::ffff:10.7.0.2/120",
        ] {
            assert!(matches!(text.parse::<HostAddress>(), Err(AddressError::NoHost(_))), "{text}");
        }
        assert!("fd00:7::ffff:ffff:ffff:ffff/64".parse::<HostAddress>().is_ok(), "IPv6 has no broadcast");
        for (text, is_host) in [("::", false), ("::1", false), ("ff02::1", false), ("fd00::2", true), ("fe80::1", true)]
        {
            assert_eq!(no_host(ip(text)).is_none(), is_host, "{text}");
        }
    }
}
