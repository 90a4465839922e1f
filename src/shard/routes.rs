//! Where a connection can be opened to, and from which of our addresses: the routing table of an end system.
//!
//! There is one device and behind it one neighbour, so a route names no next hop: it says that a destination is
//! reachable at all (RFC 1122 3.3.1), and which source address goes with it (3.3.4.3). Values only.

use std::net::IpAddr;

use crate::wire;

/// Destinations, and the address of ours that is used towards them.
///
/// ```
/// use trust::shard::{PrefixError, Route};
///
/// let neighbours = Route::on_link([10, 7, 0, 2].into(), 24)?;
/// let all_others = Route::to([0, 0, 0, 0].into(), 0)?.from([10, 7, 0, 2].into());
/// assert_ne!(neighbours, all_others);
/// assert_eq!(Route::to([10, 0, 0, 0].into(), 33), Err(PrefixError(33)));
/// # Ok::<(), PrefixError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    network: IpAddr,
    prefix: u8,
    source: Option<IpAddr>,
    /// Our own network: its first and last address are no hosts.
    on_link: bool,
}

/// No such prefix: longer than an address of that family.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a prefix of {0} bits is longer than the address")]
pub struct PrefixError(pub u8);

debug_as_display!(PrefixError);

fn width(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

/// An address as a number, its bits at the upper end.
fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u128::from(addr.to_bits()) << 96,
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

impl Route {
    /// To the destinations that agree with `network` in its first `prefix` bits (0: all of that family), from our first
    /// address of the family.
    ///
    /// # Errors
    ///
    /// The prefix is longer than the address.
    pub fn to(network: IpAddr, prefix: u8) -> Result<Self, PrefixError> {
        if prefix > width(network) {
            return Err(PrefixError(prefix));
        }
        Ok(Self { network, prefix, source: None, on_link: false })
    }

    /// The same from a certain address of ours.
    #[must_use]
    pub fn from(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// To the hosts of the network in which `ours` is our address.
    ///
    /// # Errors
    ///
    /// The prefix is longer than the address.
    pub fn on_link(ours: IpAddr, prefix: u8) -> Result<Self, PrefixError> {
        Ok(Self { on_link: true, ..Self::to(ours, prefix)?.from(ours) })
    }

    /// Bits of a destination that are not in the prefix; `None`: it is no destination of this route.
    fn rest(&self, remote: IpAddr) -> Option<u128> {
        if remote.is_ipv4() != self.network.is_ipv4() {
            return None;
        }
        let keep = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
        ((bits(remote) ^ bits(self.network)) & keep == 0).then(|| bits(remote) & !keep)
    }

    /// Whether a destination that the route has is a broadcast address of our own network (RFC 1122 3.2.1.3).
    fn is_broadcast(&self, remote: IpAddr) -> bool {
        let Some(rest) = self.rest(remote).map(|rest| rest >> (128 - u32::from(width(remote)))) else { return false };
        let host_bits = u32::from(width(remote) - self.prefix);
        self.on_link && remote.is_ipv4() && host_bits > 1 && (rest == 0 || rest == (1 << host_bits) - 1)
    }
}

/// A routing table. The default one leads everywhere, from our first address of the destination's family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// Longest prefix first; among equals the one that was added first.
    list: Vec<Route>,
}

impl Default for Routes {
    fn default() -> Self {
        let all = |network: IpAddr| Route { network, prefix: 0, source: None, on_link: false };
        Self { list: vec![all([0; 4].into()), all([0; 16].into())] }
    }
}

impl Routes {
    /// A table that leads nowhere.
    #[must_use]
    pub fn none() -> Self {
        Self { list: Vec::new() }
    }

    /// Adds a route. Of several that have a destination the one with the longest prefix is taken.
    pub fn add(&mut self, route: Route) {
        let at = self.list.partition_point(|other| other.prefix >= route.prefix);
        self.list.insert(at, route);
    }

    /// Whether `addr` is the broadcast or network address of a network of ours: no host has it (RFC 1122 3.2.1.3).
    pub(crate) fn is_broadcast(&self, addr: IpAddr) -> bool {
        self.list.iter().any(|route| route.is_broadcast(addr))
    }

    /// The source address towards `remote` (MUST-44), among `ours`; `Err`: no route, `Ok(None)`: none of that family.
    pub(crate) fn source(&self, remote: IpAddr, ours: &[IpAddr]) -> Result<Option<IpAddr>, NoRoute> {
        // MUST-46: what cannot be a source cannot be a peer.
        if wire::ip::is_forbidden_source(remote) {
            return Err(NoRoute);
        }
        let route = self.list.iter().find(|route| route.rest(remote).is_some()).ok_or(NoRoute)?;
        if route.is_broadcast(remote) {
            return Err(NoRoute);
        }
        let first = || ours.iter().copied().find(|addr| addr.is_ipv4() == remote.is_ipv4());
        Ok(route.source.or_else(first))
    }
}

/// No route has that destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoute;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ours() -> [IpAddr; 3] {
        [ip("10.7.0.2"), ip("10.8.0.2"), ip("fd00::2")]
    }

    fn source(routes: &Routes, remote: &str) -> Result<Option<IpAddr>, NoRoute> {
        routes.source(ip(remote), &ours())
    }

    #[test]
    fn by_default_every_host_is_reached_from_our_first_address_of_its_family() {
        let routes = Routes::default();
        assert_eq!(source(&routes, "192.0.2.1"), Ok(Some(ip("10.7.0.2"))));
        assert_eq!(source(&routes, "2001:db8::1"), Ok(Some(ip("fd00::2"))));
        assert_eq!(routes.source(ip("2001:db8::1"), &ours()[..2]), Ok(None));
        for nobody in ["0.0.0.0", "224.0.0.1", "255.255.255.255"] {
            assert_eq!(source(&routes, nobody), Err(NoRoute), "{nobody}");
        }
    }

    #[test]
    fn must_44_the_longest_prefix_decides_on_the_source() {
        let mut routes = Routes::none();
        assert_eq!(source(&routes, "10.8.0.9"), Err(NoRoute));
        routes.add(Route::on_link(ip("10.7.0.2"), 24).unwrap());
        routes.add(Route::on_link(ip("10.8.0.2"), 24).unwrap());
        routes.add(Route::to(ip("10.9.0.0"), 16).unwrap());
        routes.add(Route::to(ip("10.9.128.0"), 17).unwrap().from(ip("10.8.0.2")));
        for (remote, from) in [
            ("10.7.0.1", "10.7.0.2"),
            ("10.8.0.254", "10.8.0.2"),
            ("10.9.1.1", "10.7.0.2"),
            ("10.9.200.1", "10.8.0.2"),
            ("10.9.255.255", "10.8.0.2"),
        ] {
            assert_eq!(source(&routes, remote), Ok(Some(ip(from))), "{remote}");
        }
        for remote in ["10.7.1.1", "10.10.0.1", "192.0.2.1", "::1", "10.7.0.255", "10.8.0.0"] {
            assert_eq!(source(&routes, remote), Err(NoRoute), "{remote}");
        }
        routes.add(Route::to(ip("0.0.0.0"), 0).unwrap());
        assert_eq!(source(&routes, "192.0.2.1"), Ok(Some(ip("10.7.0.2"))));
        assert_eq!(source(&routes, "10.8.0.9"), Ok(Some(ip("10.8.0.2"))), "added last, looked at last");
    }

    #[test]
    fn prefixes_of_any_length_are_fine_and_longer_ones_refused() {
        for (network, width) in [("10.7.0.2", 32), ("fd00::2", 128)] {
            for prefix in 0..=width {
                let mut routes = Routes::none();
                routes.add(Route::on_link(ip(network), prefix).unwrap());
                assert!(source(&routes, network).is_ok(), "{network}/{prefix}");
            }
            assert_eq!(Route::to(ip(network), width + 1), Err(PrefixError(width + 1)));
        }
    }
}
