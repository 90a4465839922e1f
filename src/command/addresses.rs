//! [`Ours`]: the addresses of a command's engine, as they were given or chosen.
//!
//! The default is one of each family, the last number of whose network tells the engine of `serve` (0) from those of
//! commands that go out beside it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::Args;
use trust::device::{HostAddress, kernel_has_ipv6};
use trust::net::Stack;

use super::error::Error;

/// Least MTU of a link with IPv6 (RFC 8200 5).
const IPV6_MTU: u16 = 1_280;

/// Which addresses are to be ours.
#[derive(Debug, Args)]
pub(super) struct AddressOptions {
    /// An address of ours, IPv4 or IPv6, like 10.7.0.2/24 or fd00:7::2/64; may be repeated. The kernel's side gets the first
    /// other one of each network. Default: 10.7.0.2/24 and fd00:7::2/64 for serve, 10.7.1.2/24 and fd00:7:0:1::2/64 for the
    /// others; where the kernel has no IPv6, or the MTU is below 1280, only the first.
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    address: Vec<HostAddress>,

    /// The number of the network by default: for run.sh, which knows a free one.
    #[arg(long, hide = true, value_name = "N")]
    subnet: Option<u8>,
}

/// Addresses of our own: at least one.
#[derive(Debug, Clone)]
pub(super) struct Ours {
    list: Vec<HostAddress>,
    /// Why IPv6 is not among them, where nobody has said which are to be.
    without_ipv6: Option<&'static str>,
}

impl AddressOptions {
    /// The addresses, by default those of that network. What cannot be is refused.
    pub(super) fn choose(&self, subnet: u8, mtu: u16) -> Result<Ours, Error> {
        if self.address.is_empty() {
            return Ok(Ours::usual(self.subnet.unwrap_or(subnet), mtu, kernel_has_ipv6()));
        }
        for (index, address) in self.address.iter().enumerate() {
            let wrong = |why: String| Err(Error::Usage(format!("--address {address}: {why}")));
            let before = &self.address[..index];
            if before.iter().any(|other| other.ip() == address.ip()) {
                return wrong("it is given twice; leave one out".to_owned());
            }
            // Of the same length, it is the same network.
            let overlaps = |other: &&HostAddress| {
                other.prefix() != address.prefix() && (other.covers(address.ip()) || address.covers(other.ip()))
            };
            if let Some(other) = before.iter().find(overlaps) {
                return wrong(format!(
                    "its network is partly that of {other}; take the same prefix, or another network"
                ));
            }
            if address.ip().is_ipv6() && mtu < IPV6_MTU {
                return wrong(format!("IPv6 needs an MTU of {IPV6_MTU} at least, and --mtu says {mtu}"));
            }
        }
        HostAddress::kernel_sides(&self.address)
            .map_err(|(address, why)| Error::Usage(format!("--address {address}: {why}")))?;
        Ok(Ours { list: self.address.clone(), without_ipv6: None })
    }
}

impl Ours {
    /// One address of each family, where that can be.
    fn usual(subnet: u8, mtu: u16, kernel_has_ipv6: bool) -> Self {
        let host = |ip: IpAddr, prefix| HostAddress::new(ip, prefix).expect("a host's address on a private network");
        // In digits that read the same as those of the IPv4 address.
        let digits = u16::from_str_radix(&subnet.to_string(), 16).unwrap_or_default();
        let mut list = vec![host(Ipv4Addr::new(10, 7, subnet, 2).into(), 24)];
        let without_ipv6 = if mtu < IPV6_MTU {
            Some("an MTU below 1280 is too small for IPv6")
        } else if kernel_has_ipv6 {
            list.push(host(Ipv6Addr::new(0xfd00, 7, 0, digits, 0, 0, 0, 2).into(), 64));
            None
        } else {
            Some("the kernel has no IPv6 here (net.ipv6.conf.default.disable_ipv6)")
        };
        Self { list, without_ipv6 }
    }

    #[cfg(test)]
    pub(super) fn given(list: &[&str]) -> Self {
        Self { list: list.iter().map(|text| text.parse().expect("an address")).collect(), without_ipv6: None }
    }

    /// All of them, with their prefixes.
    pub(super) fn list(&self) -> &[HostAddress] {
        &self.list
    }

    /// All of them.
    pub(super) fn ips(&self) -> Vec<IpAddr> {
        self.list.iter().map(|address| address.ip()).collect()
    }

    /// What is to be said of IPv6, if it was not wanted and is not there.
    pub(super) fn without_ipv6(&self) -> Option<&'static str> {
        self.without_ipv6
    }

    /// Those for the kernel's side.
    pub(super) fn kernel_sides(&self) -> Vec<HostAddress> {
        HostAddress::kernel_sides(&self.list).expect("a network has room for two hosts, and was looked at")
    }

    /// The kernel's address of the same family as `like`, or of the other where there is none.
    pub(super) fn kernel_beside(&self, like: IpAddr) -> IpAddr {
        let sides = self.kernel_sides();
        let same = sides.iter().find(|side| side.ip().is_ipv4() == like.is_ipv4());
        same.or(sides.first()).expect("there is one for each network").ip()
    }

    /// Whether an address is in one of their networks.
    pub(super) fn cover(&self, other: IpAddr) -> bool {
        self.list.iter().any(|ours| ours.covers(other))
    }

    /// Whether an address is one of them.
    pub(super) fn contain(&self, other: IpAddr) -> bool {
        self.list.iter().any(|ours| ours.ip() == other)
    }

    /// As words with spaces between, of what becomes of each.
    pub(super) fn words(&self, word: impl Fn(&HostAddress) -> String) -> String {
        self.list.iter().map(word).collect::<Vec<_>>().join(" ")
    }
}

/// Families of addresses that are of use to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) ipv4: bool,
    pub(super) ipv6: bool,
}

impl Families {
    pub(super) const BOTH: Self = Self { ipv4: true, ipv6: true };

    /// Those of these addresses.
    pub(super) fn of(addresses: &[IpAddr]) -> Self {
        Self { ipv4: addresses.iter().any(IpAddr::is_ipv4), ipv6: addresses.iter().any(IpAddr::is_ipv6) }
    }

    /// Whether an address is of one of them.
    pub(super) fn have(self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }

    /// What a host has none of that has no address of use, as a noun.
    pub(super) fn noun(self) -> &'static str {
        match (self.ipv4, self.ipv6) {
            (true, false) => "IPv4 address",
            (false, true) => "IPv6 address",
            _ => "address",
        }
    }
}

/// The address that stands for all of ours, in each family of which a stack has one.
pub(super) fn unspecified(stack: &Stack) -> impl Iterator<Item = IpAddr> {
    let families = Families::of(stack.addresses());
    [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()].into_iter().filter(move |any| families.have(*any))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(ours: &Ours) -> String {
        ours.words(ToString::to_string)
    }

    #[test]
    fn by_default_there_is_one_of_each_family_where_the_kernel_has_both() {
        for (subnet, mtu, kernel, chosen) in [
            (0, 1_500, true, "10.7.0.2/24 fd00:7::2/64"),
            (1, 1_500, true, "10.7.1.2/24 fd00:7:0:1::2/64"),
            (254, 1_280, true, "10.7.254.2/24 fd00:7:0:254::2/64"),
            (0, 1_500, false, "10.7.0.2/24"),
            (0, 1_279, true, "10.7.0.2/24"),
        ] {
            let ours = Ours::usual(subnet, mtu, kernel);
            assert_eq!(words(&ours), chosen);
            assert_eq!(ours.without_ipv6().is_some(), !chosen.contains("fd00"), "{chosen}");
        }
    }

    #[test]
    fn what_is_given_is_taken_alone() {
        let given = |list: &[&str]| {
            let address = list.iter().map(|text| text.parse().unwrap()).collect();
            AddressOptions { address, subnet: Some(9) }.choose(0, 1_500).map_err(|error| error.to_string())
        };
        for list in
            [&["10.9.0.2/24"][..], &["fd00:9::2/64"], &["10.9.0.2/24", "10.9.0.3/24", "fd00:9::2/64", "10.10.0.2/16"]]
        {
            let ours = given(list).unwrap();
            assert_eq!((words(&ours), ours.without_ipv6()), (list.join(" "), None));
        }
        for (list, said) in [
            (&["10.9.0.2/24", "10.9.0.2/24"][..], "--address 10.9.0.2/24: it is given twice"),
            (&["10.9.0.2/24", "10.9.0.3/16"], "10.9.0.3/16: its network is partly that of 10.9.0.2/24"),
            (&["fd00:9::2/48", "fd00:9::3/64"], "fd00:9::3/64: its network is partly"),
            (&["10.9.0.1/30", "10.9.0.2/30"], "10.9.0.1/30: no address of its network is left"),
        ] {
            let error = given(list).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        let small = AddressOptions { address: vec!["fd00:9::2/64".parse().unwrap()], subnet: None };
        assert!(small.choose(0, 1_279).unwrap_err().to_string().contains("MTU of 1280"));
    }
}
