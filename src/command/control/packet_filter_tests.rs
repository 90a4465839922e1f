#![allow(clippy::unwrap_used)]

use super::*;

/// A packet from 10.7.0.1 to 10.7.0.2, or from fd00::1 to fd00::2.
fn packet(protocol: u8, ports: Option<(u16, u16)>, len: u32) -> Facts {
    Facts { protocol, src: [10, 7, 0, 1].into(), dst: [10, 7, 0, 2].into(), ports, len }
}

fn v6(protocol: u8, ports: Option<(u16, u16)>) -> Facts {
    let addr = |last| std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into();
    Facts { protocol, src: addr(1), dst: addr(2), ports, len: 100 }
}

#[test]
fn filters_say_what_tcpdump_would() {
    let web = packet(6, Some((40_000, 80)), 1_500);
    let echo = packet(6, Some((7, 40_001)), 52);
    let ping = packet(1, None, 84);
    let dns = v6(17, Some((53, 5_000)));
    let all = [web, echo, ping, dns];
    for (text, wanted) in [
        ("", [true, true, true, true]),
        ("tcp", [true, true, false, false]),
        ("udp", [false, false, false, true]),
        ("icmp", [false, false, true, false]),
        ("ip", [true, true, true, false]),
        ("ip6", [false, false, false, true]),
        ("port 80", [true, false, false, false]),
        ("tcp port 80", [true, false, false, false]),
        ("udp port 80", [false, false, false, false]),
        ("src port 7", [false, true, false, false]),
        ("dst port 7", [false, false, false, false]),
        ("port 80 or 7", [true, true, false, false]),
        ("portrange 50-79", [false, false, false, true]),
        ("host 10.7.0.1", [true, true, true, false]),
        ("src host 10.7.0.2", [false, false, false, false]),
        ("dst 10.7.0.2", [true, true, true, false]),
        ("host fd00::1", [false, false, false, true]),
        ("net 10.7.0.0/24", [true, true, true, false]),
        ("dst net fd00::/8", [false, false, false, true]),
        ("not tcp", [false, false, true, true]),
        ("!tcp && ip", [false, false, true, false]),
        ("tcp port 80 and host 10.7.0.9", [false, false, false, false]),
        ("tcp and (port 80 or port 7)", [true, true, false, false]),
        ("tcp and not (port 80 or port 7)", [false, false, false, false]),
        ("less 84", [false, true, true, false]),
        ("greater 1000", [true, false, false, false]),
        ("icmp or tcp port 7 or ip6", [false, true, true, true]),
    ] {
        let filter = PacketFilter::parse(text).unwrap();
        assert_eq!(all.map(|facts| filter.matches(&facts)), wanted, "{text}");
    }
}

#[test]
fn what_is_no_filter_is_refused_with_the_reason() {
    for (text, part) in [
        ("porn 80", "does not know \"porn\""),
        ("port", "ends where a port"),
        ("port http", "\"http\" in the filter is not a port"),
        ("host trust", "is not an address"),
        ("net 10.7.0.0/33", "is not a network"),
        ("tcp port 80 host 10.7.0.1", "before \"host\""),
        ("(tcp", "not closed"),
        ("tcp)", "before \")\""),
        ("src", "ends where a host"),
        ("portrange 5", "ports, like"),
        ("80", "does not know \"80\""),
        (&"(".repeat(100), "nested"),
        (&"! ".repeat(5_000), "nested"),
    ] {
        let error = PacketFilter::parse(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}
