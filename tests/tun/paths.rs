//! Paths that carry less than our device, behind routers that say so and routers that do not; and what routers refuse.
//!
//! ```text
//! ours (the test's namespace)              first router           second router              server
//! engine ─ trust0 ─ kernel ─ up0 ═══ a0 ─ forwards ─ a1 ═══ b1 ─ forwards ─ b0 ═══ s0 ─ curl, python
//! 10.7.0.2      forwards 198.51.100.2  .1   192.0.2.1 narrow .2   203.0.113.1        .2
//!                         MTU 1500                   MTU 1280            MTU 1500
//! ```

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::fetch::{Directory, Killed, listens_in, within};
use crate::forward::loopback;
use crate::nat::Namespace;
use crate::support::*;

struct Way {
    first: Namespace,
    second: Namespace,
    server: Namespace,
}

impl Way {
    /// Routers with a link of `mtu` between them, which say what is too large for it if they are to (`tells`).
    fn new(mtu: u16, tells: bool) -> Result<Self, String> {
        need(&["nft", "ip", "ss", "unshare", "nsenter", "python3", "curl"])?;
        let (first, second, server) = (Namespace::new(), Namespace::new(), Namespace::new());
        let ip = |line: &str| drop(must(10, "ip", &line.split(' ').collect::<Vec<_>>()));
        loopback();
        ip(&format!("link add up0 type veth peer name a0 netns {}", first.pid()));
        ip("addr add 198.51.100.2/30 dev up0");
        ip("link set up0 up");
        ip("route add default via 198.51.100.1");
        sysctl("ip_forward", "1")?;
        for line in [
            "ip link set lo up",
            "ip addr add 198.51.100.1/30 dev a0",
            "ip link set a0 up",
            "ip route add 10.7.0.0/16 via 198.51.100.2",
            &format!("ip link add a1 mtu {mtu} type veth peer name b1 mtu {mtu} netns {}", second.pid()),
            "ip addr add 192.0.2.1/30 dev a1",
            "ip link set a1 up",
            "ip route add 203.0.113.0/24 via 192.0.2.2",
        ] {
            first.must(line);
        }
        for line in [
            "ip link set lo up",
            "ip addr add 192.0.2.2/30 dev b1",
            "ip link set b1 up",
            "ip route add default via 192.0.2.1",
            &format!("ip link add b0 type veth peer name s0 netns {}", server.pid()),
            "ip addr add 203.0.113.1/24 dev b0",
            "ip link set b0 up",
        ] {
            second.must(line);
        }
        for line in [
            "ip link set lo up",
            "ip addr add 203.0.113.2/24 dev s0",
            "ip link set s0 up",
            "ip route add default via 203.0.113.1",
        ] {
            server.must(line);
        }
        for router in [&first, &second] {
            router.write("/proc/sys/net/ipv4/ip_forward", "1");
            if !tells {
                router.nft(
                    "table ip silent {
                        chain out { type filter hook output priority filter; icmp type destination-unreachable drop; }
                    }",
                )?;
            }
        }
        if !tells {
            // Its kernel is to find out as well.
            server.write("/proc/sys/net/ipv4/tcp_mtu_probing", "2");
        }
        Ok(Self { first, second, server })
    }

    /// A page of `octets` down from the engine and as many up to it and back, by curl. Gives how long either took.
    fn carry(&self, directory: &Directory, octets: usize, limit: u64) -> [Duration; 2] {
        let data = noise(octets, 61);
        std::fs::write(directory.path("noise"), &data).unwrap();
        let (got, noise) = (directory.path("got"), format!("@{}", directory.path("noise")));
        let page = format!("http://10.7.0.2/bytes/{octets}");
        let down = ["curl", "-sS", "-o", &got, &page];
        let both = ["curl", "-sS", "-H", "Expect:", "--data-binary", &noise, "-o", &got, "http://10.7.0.2/echo"];
        [&down[..], &both[..]].map(|words| {
            let start = Instant::now();
            let output = within(&self.server.prefix(), limit, words).output().unwrap();
            let took = start.elapsed();
            assert!(output.status.success(), "{words:?} after {took:?}: {}", describe(&output));
            let got = std::fs::read(&got).unwrap();
            assert_eq!(got.len(), octets);
            if words.len() > down.len() {
                assert_same(&got, &data);
            }
            took
        })
    }
}

/// Both directions over a narrow link, with super-segments and without, and with the plain device. Nothing pauses for longer than `most`.
fn narrow(mtu: u16, tells: bool, most: Duration) -> Outcome {
    let (way, directory) = (Way::new(mtu, tells)?, Directory::new(&format!("paths-{mtu}-{tells}")));
    for device in [&["--offload", "on"], &["--offload", "off"], &["--device", "tun-tap"]] {
        let engine = Engine::start(device);
        for took in way.carry(&directory, 1_000_000, 40) {
            assert!(took < most + Duration::from_secs(1), "{mtu} {tells} {device:?}: {took:?}");
        }
        drop(engine.finish());
    }
    Ok(())
}

pub(crate) fn told_1280() -> Outcome {
    narrow(1_280, true, Duration::from_secs(2))
}

pub(crate) fn told_1400() -> Outcome {
    narrow(1_400, true, Duration::from_secs(2))
}

pub(crate) fn silent_1280() -> Outcome {
    narrow(1_280, false, Duration::from_secs(10))
}

pub(crate) fn silent_1400() -> Outcome {
    narrow(1_400, false, Duration::from_secs(10))
}

/// Our own client, whose segments on the way up meet the narrow link.
pub(crate) fn client() -> Outcome {
    need(&["iperf3"])?;
    let way = Way::new(1_280, true)?;
    let mut command = within(&way.server.prefix(), 60, &["iperf3", "-s", "-1"]);
    let _server = Killed(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    listens_in(&way.server.prefix(), 5201);
    let start = Instant::now();
    let output = run(30, env!("CARGO_BIN_EXE_trust"), &["iperf3", "-c", "203.0.113.2", "-n", "20M"]);
    assert!(output.status.success(), "{}", describe(&output));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    Ok(())
}

/// What a router or the other host refuses ends an open at once, and says why.
pub(crate) fn refusals() -> Outcome {
    let way = Way::new(1_500, true)?;
    way.first.nft(
        "table ip refusals {
            chain through {
                type filter hook forward priority filter;
                ip daddr 203.0.113.10 reject with icmp type host-unreachable
                ip daddr 203.0.113.11 reject with icmp type net-unreachable
                ip daddr 203.0.113.12 reject with icmp type port-unreachable
                ip daddr 203.0.113.13 reject with icmp type admin-prohibited
            }
        }",
    )?;
    for (host, said) in [
        (10, "a router on the way says that this host cannot be reached"),
        (11, "no route leads there"),
        (12, "connection refused"),
        (13, "a router on the way says that this host cannot be reached"),
    ] {
        let start = Instant::now();
        let output = run(20, env!("CARGO_BIN_EXE_trust"), &["connect", &format!("203.0.113.{host}"), "99"]);
        let took = start.elapsed();
        assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(said), "no {said:?} in {text:?}");
        assert!(took < Duration::from_secs(2), "{host}: {took:?}");
    }
    // Nobody has that address: the last router finds out after three questions.
    let start = Instant::now();
    let output = run(20, env!("CARGO_BIN_EXE_trust"), &["connect", "203.0.113.99", "99"]);
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    let _ = &way.second;
    Ok(())
}

/// IP-5: the kernel cuts what is larger than the device's MTU. The answer is one packet.
pub(crate) fn fragments() -> Outcome {
    need(&["ping"])?;
    for plan in ["fused", "pipeline"] {
        let engine = Engine::start(&["--plan", plan]);
        for octets in ["1473", "4000", "60000"] {
            let said = must(20, "ping", &["-c", "5", "-i", "0.2", "-s", octets, "10.7.0.2"]);
            assert!(said.contains(" 0% packet loss"), "{octets}: {said}");
        }
        drop(engine.finish());
    }
    Ok(())
}
