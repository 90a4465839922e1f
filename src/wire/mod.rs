//! Bytes <-> values: IP, TCP, TCP options, ICMP, the Internet checksum and the virtio-net header.
//!
//! Everything here is a pure function of its arguments. Received headers are cut by `etherparse` (one slice type a
//! layer), sent headers are written straight into a buffer of the caller. No state, no policy about connections, no
//! clock, no allocation, and no panic on any input: these functions are the first to touch bytes from the network.

pub mod checksum;
pub mod icmp;
pub mod ip;
pub mod options;
pub mod plain;
pub mod tcp;
pub mod vnet;

/// IP protocol number of ICMP for IPv4.
pub const PROTOCOL_ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// IP protocol number of ICMP for IPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;
/// Protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// What IPv6 names where nothing follows (RFC 8200 4.7).
pub const NO_NEXT_HEADER: u8 = 59;

macro_rules! malformed {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// Why a received packet was dropped before any connection saw it. Each variant is one drop counter, and `Debug`
        /// is the counter's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        #[repr(u8)]
        pub enum Malformed {
            $($(#[$doc])* #[error($text)] $name,)*
        }

        impl Malformed {
            /// Every variant, in the order of [`Malformed::index`].
            pub const ALL: &'static [Malformed] = &[$(Malformed::$name,)*];
            /// Number of variants: the length of a table of counters.
            pub const COUNT: usize = Self::ALL.len();

            /// Name of the variant, for counters.
            pub const fn name(self) -> &'static str {
                match self { $(Malformed::$name => stringify!($name),)* }
            }
        }
    };
}

malformed! {
    /// Fewer octets than an IP header.
    IpTruncated => "packet shorter than an IP header",
    /// Neither version 4 nor 6 (IP-1).
    IpVersion => "IP version is neither 4 nor 6",
    /// IHL below 5 or past the end of the packet (IP-1).
    IpHeaderLength => "IPv4 header length illegal",
    /// Total length below the header length or above the octets received (IP-1).
    IpTotalLength => "IP total length illegal",
    /// IPv4 header checksum wrong (IP-1).
    IpChecksum => "IPv4 header checksum wrong",
    /// Source address that no host may have (IP-2, MUST-63).
    IpSource => "source address is not a host's",
    /// LSRR or SSRR option, or a routing header with segments left (IP-3: dropped on purpose, RFC 7126, RFC 5095).
    IpSourceRoute => "source-routed packet",
    /// IPv4 or IPv6 option or IPv6 extension header with an illegal length, too many extension headers, or an unknown option
    /// that says to discard the packet (IP-3, IP-13, RFC 8200 section 4.2).
    IpOption => "IP option or extension header illegal",
    /// A fragment where nobody has put fragments together before (IP-5): tiny ones (IP-12) fall under this too.
    IpFragment => "IP fragment",
    /// Fewer octets than a TCP header.
    TcpTruncated => "segment shorter than a TCP header",
    /// Data offset below 5 or past the end of the segment.
    TcpDataOffset => "TCP data offset illegal",
    /// TCP checksum wrong (MUST-3).
    TcpChecksum => "TCP checksum wrong",
    /// TCP option with an illegal length (MUST-7: the segment is dropped and counted).
    TcpOption => "TCP option length illegal",
    /// Fewer octets than an ICMP header, or an ICMP error that quotes too little.
    IcmpTruncated => "ICMP message too short",
    /// ICMP checksum wrong.
    IcmpChecksum => "ICMP checksum wrong",
}

impl Malformed {
    /// Place of this variant in a table of [`Malformed::COUNT`] counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_follow_the_order_of_all() {
        for (i, m) in Malformed::ALL.iter().enumerate() {
            assert_eq!(m.index(), i, "{}", m.name());
        }
        assert_eq!(Malformed::TcpChecksum.name(), "TcpChecksum");
    }
}
