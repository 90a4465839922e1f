//! `./run.sh --host --nat`: out through two routers that masquerade, to servers behind loss and narrower links.
//!
//! ```text
//! ours (the test's namespace)                     router                            servers
//! engine ─ trust0 ─ kernel, --nat ─ up0 ═══ r0 ─ masquerades, forwards ─ r1 ═══ s0 ─ python, sshd
//! 10.7.0.2                  198.51.100.2      .1    1 % lost     203.0.113.1      .2, no route back
//!                                   MTU 1400                       MTU 1300
//! ```
//!
//! All of it is in namespaces that end with the test.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::fetch::{Directory, Killed, listens_in, within};
use crate::forward::{loopback, ssh, sshd};
use crate::support::*;

/// A namespace that lives as long as this does.
pub(crate) struct Namespace(Killed);

impl Namespace {
    pub(crate) fn new() -> Self {
        let mut command = bounded(280, "unshare", &["-n", "sleep", "270"]);
        let child = Killed(command.stdin(Stdio::null()).spawn().unwrap());
        let namespace = Self(child);
        let ours = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        eventually(Duration::from_secs(5), "a namespace of its own", || {
            std::fs::read_link(format!("/proc/{}/ns/net", namespace.pid())).is_ok_and(|theirs| theirs != ours)
        });
        namespace
    }

    /// The process in it: what `timeout` has started. Before that it is none.
    pub(crate) fn pid(&self) -> String {
        let timeout = self.0.0.id();
        let children = std::fs::read_to_string(format!("/proc/{timeout}/task/{timeout}/children")).unwrap_or_default();
        children.split_whitespace().next().unwrap_or("none").to_owned()
    }

    /// The words that put a command into it.
    pub(crate) fn prefix(&self) -> Vec<String> {
        ["nsenter", "-t", &self.pid(), "-n", "--"].map(str::to_owned).to_vec()
    }

    fn command(&self, limit: u64, words: &[&str]) -> Command {
        within(&self.prefix(), limit, words)
    }

    pub(crate) fn must(&self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let output = self.command(10, &words).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", describe(&output));
    }

    pub(crate) fn spawn(&self, words: &[&str]) -> Killed {
        let mut command = self.command(270, words);
        Killed(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Sets one of the kernel's knobs there.
    pub(crate) fn write(&self, file: &str, value: &str) {
        let output = pipe(&mut self.command(10, &["tee", file]), value.as_bytes());
        assert!(output.status.success(), "{file}: {}", describe(&output));
    }

    pub(crate) fn nft(&self, rules: &str) -> Outcome {
        let output = pipe(&mut self.command(10, &["nft", "-f", "-"]), rules.as_bytes());
        if output.status.success() { Ok(()) } else { Err(format!("nft here: {}", describe(&output))) }
    }
}

/// The way from us to the servers.
fn network() -> Result<(Namespace, Namespace), String> {
    need(&["nft", "ip", "nc", "ss", "unshare", "nsenter", "python3"])?;
    let (router, servers) = (Namespace::new(), Namespace::new());
    let ip = |line: &str| drop(must(10, "ip", &line.split(' ').collect::<Vec<_>>()));
    loopback();
    // Segments cross one by one, so that one of a hundred is lost and not one of a hundred super-segments.
    ip(&format!("link add up0 mtu 1400 gso_max_segs 1 type veth peer name r0 mtu 1400 netns {}", router.pid()));
    ip("addr add 198.51.100.2/30 dev up0");
    ip("link set up0 up");
    ip("route add default via 198.51.100.1");
    router.must("ip link set lo up");
    router.must("ip addr add 198.51.100.1/30 dev r0");
    router.must("ip link set r0 gso_max_segs 1 up");
    router.must(&format!(
        "ip link add r1 mtu 1300 gso_max_segs 1 type veth peer name s0 mtu 1300 netns {}",
        servers.pid()
    ));
    router.must("ip addr add 203.0.113.1/24 dev r1");
    router.must("ip link set r1 up");
    servers.must("ip link set lo up");
    servers.must("ip addr add 203.0.113.2/24 dev s0");
    servers.must("ip link set s0 gso_max_segs 1 up");
    router.write("/proc/sys/net/ipv4/ip_forward", "1");
    if trust::device::kernel_has_ipv6() {
        for (namespace, lines) in [
            (None, &["addr add 2001:db8:1::2/64 dev up0 nodad", "-6 route add default via 2001:db8:1::1"][..]),
            (Some(&router), &["addr add 2001:db8:1::1/64 dev r0 nodad", "addr add 2001:db8:2::1/64 dev r1 nodad"]),
            (
                Some(&servers),
                &["addr add 2001:db8:2::2/64 dev s0 nodad", "-6 route add 2001:db8:1::/64 via 2001:db8:2::1"],
            ),
        ] {
            for line in lines {
                namespace.map_or_else(|| ip(line), |namespace| namespace.must(&format!("ip {line}")));
            }
        }
        router.write("/proc/sys/net/ipv6/conf/all/forwarding", "1");
    }
    router.nft(
        "table ip router {
            chain out { type nat hook postrouting priority srcnat; policy accept; oifname r1 masquerade; }
            chain through { type filter hook forward priority filter; policy accept; numgen random mod 100 0 counter drop; }
        }",
    )?;
    Ok((router, servers))
}

/// `run.sh` with the engine of this build and a state of its own.
fn run_sh(directory: &Directory, limit: u64, arguments: &[&str]) -> Command {
    within_run_sh(&[], directory, limit, arguments)
}

/// The same behind words that put it elsewhere.
fn within_run_sh(prefix: &[String], directory: &Directory, limit: u64, arguments: &[&str]) -> Command {
    let words = [&[concat!(env!("CARGO_MANIFEST_DIR"), "/run.sh")], arguments].concat();
    let mut command = within(prefix, limit, &words);
    command.env("TRUST_BIN", env!("CARGO_BIN_EXE_trust")).env("TRUST_RUN_DIR", directory.0.join("run"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What --nat may change in this namespace.
fn settings() -> (String, String) {
    let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/conf/up0/forwarding").unwrap();
    (forwarding.trim().to_owned(), must(10, "nft", &["list", "ruleset"]))
}

/// A page of 10 MB, octet by octet; then everything is as before.
pub(crate) fn through_routers() -> Outcome {
    let (router, servers) = network()?;
    let directory = Directory::new("nat-fetch");
    let data = noise(size(10_000_000, 100_000_000), 51);
    std::fs::write(directory.path("noise"), &data).unwrap();
    let path = directory.path("");
    let _http = servers.spawn(&["python3", "-m", "http.server", "8000", "--directory", &path]);
    listens_in(&servers.prefix(), 8000);
    let before = settings();
    assert_eq!(before, ("0".to_owned(), String::new()));

    // One line fetches a page, says what it changes and undoes it.
    let fetched = directory.path("fetched");
    let line = ["--host", "--nat", "fetch", "http://203.0.113.2:8000/noise", "-o", &fetched];
    let output = run_sh(&directory, 120, &line).output().unwrap();
    assert!(output.status.success(), "{}", describe(&output));
    assert_same(&std::fs::read(&fetched).unwrap(), &data);
    let counted = router.command(10, &["nft", "list", "chain", "ip", "router", "through"]).output().unwrap();
    let counted = String::from_utf8_lossy(&counted.stdout).into_owned();
    let lost = counted.split_once("counter packets ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(lost.is_some_and(|lost| lost > 20), "the loss is there: {counted}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for words in [
        "added the nft table ip trust_nat",
        "net.ipv4.conf.up0.forwarding was 0 and is 1, for trust1 only",
        "HTTP/1.0 200 OK",
        "net.ipv4.conf.up0.forwarding is 0 again",
        "removed the nft table ip trust_nat",
    ] {
        assert!(said.contains(words), "no {words:?} in:\n{said}");
    }
    assert_eq!(settings(), before);

    // Without it there is no way.
    let alone = run(5, env!("CARGO_BIN_EXE_trust"), &["fetch", "http://203.0.113.2:8000/noise"]);
    assert_eq!(alone.status.code(), Some(1), "{}", describe(&alone));

    Ok(())
}

/// An engine that serves, with a way to sshd: a session, and a file copy up, where our own segments must be
/// as small as the links.
pub(crate) fn secure_shell() -> Outcome {
    let (router, servers) = network()?;
    let (directory, keys) = (Directory::new("nat"), Directory::new("nat-ssh"));
    let _sshd = sshd(&keys, &servers.prefix())?;
    let data = noise(size(5_000_000, 50_000_000), 52);
    std::fs::write(directory.path("noise"), &data).unwrap();
    let before = settings();
    let reverse = ["--host", "--nat", "--service", "reverse:6001=203.0.113.2:2200"];
    let mut command = run_sh(&directory, 200, &reverse);
    command.args(["--stats", "1"]);
    let mut engine = Engine::spawn(command);
    let output = ssh("ssh", &keys, "6001", &["root@127.0.0.1", "echo here"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "here\n", "{}", describe(&output));
    let there = keys.path("there");
    let output =
        ssh("scp", &keys, "6001", &["-q", &directory.path("noise"), &format!("root@127.0.0.1:{there}")]).output();
    assert!(output.as_ref().is_ok_and(|output| output.status.success()), "{output:?}");
    assert_same(&std::fs::read(&there).unwrap(), &data);
    // Nobody gets in from outside, who knows the way; the kernel of this namespace does.
    router.must("ip route add 10.7.0.0/24 via 198.51.100.2");
    let knock = ["nc", "-z", "-w", "2", "10.7.0.2", "7"];
    assert!(!router.command(10, &knock).stdin(Stdio::null()).status().unwrap().success());
    must(10, "nc", &knock[1..]);
    engine.signal(libc::SIGTERM);
    engine.wait(Duration::from_secs(10));
    assert!(engine.output().contains("removed the nft table ip trust_nat"), "{}", engine.output());
    assert_eq!(settings(), before);
    Ok(())
}

/// A page by IPv6, through the router that knows the way to our kernel and none to our network; and back to how it was.
pub(crate) fn by_ipv6() -> Outcome {
    if !std::path::Path::new("/proc/sys/net/ipv6/conf/lo/force_forwarding").exists() {
        return Err("the kernel has no net.ipv6.conf.*.force_forwarding".to_owned());
    }
    let (_router, servers) = network()?;
    let directory = Directory::new("nat-ipv6");
    let data = noise(2_000_000, 53);
    std::fs::write(directory.path("noise"), &data).unwrap();
    let path = directory.path("");
    let _http = servers.spawn(&["python3", "-m", "http.server", "8000", "--bind", "::", "--directory", &path]);
    listens_in(&servers.prefix(), 8000);
    let forwards = || std::fs::read_to_string("/proc/sys/net/ipv6/conf/up0/force_forwarding").unwrap();
    let before = (settings(), forwards());
    assert_eq!(before.1, "0\n");
    let fetched = directory.path("fetched");
    let line = ["--host", "--nat", "fetch", "http://[2001:db8:2::2]:8000/noise", "-o", &fetched];
    let output = run_sh(&directory, 120, &line).output().unwrap();
    assert!(output.status.success(), "{}", describe(&output));
    assert_same(&std::fs::read(&fetched).unwrap(), &data);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for words in [
        "added the nft table ip6 trust_nat: what fd00:7:0:1::2/64 sends by up0",
        "net.ipv6.conf.up0.force_forwarding was 0 and is 1, for trust1 only",
        "net.ipv6.conf.up0.force_forwarding is 0 again",
        "removed the nft table ip6 trust_nat",
    ] {
        assert!(said.contains(words), "no {words:?} in:\n{said}");
    }
    assert_eq!((settings(), forwards()), before);
    Ok(())
}

/// What is in the way is left as it is, and what a killed run has left is undone by the next.
pub(crate) fn refusals() -> Outcome {
    need(&["nft", "ip"])?;
    loopback();
    let directory = Directory::new("nat-refusals");
    let refuse = |words: &str| {
        let before = must(10, "nft", &["list", "ruleset"]);
        let output = run_sh(&directory, 20, &["--host", "--nat"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(words) && said.lines().count() == 1, "{words:?}: {said}");
        assert_eq!(must(10, "nft", &["list", "ruleset"]), before);
    };
    refuse("no default route");
    must(5, "ip", &["link", "add", "up0", "type", "veth", "peer", "name", "other"]);
    must(5, "ip", &["addr", "add", "198.51.100.2/30", "dev", "up0"]);
    must(5, "ip", &["link", "set", "up0", "up"]);
    must(5, "ip", &["route", "add", "default", "via", "198.51.100.1"]);
    must(5, "nft", &["add", "table", "ip", "trust_nat"]);
    refuse("there is a table ip trust_nat already");
    must(5, "nft", &["delete", "table", "ip", "trust_nat"]);
    must(5, "nft", &["add", "table", "inet", "wall"]);
    must(5, "nft", &["add", "chain", "inet", "wall", "f", "{ type filter hook forward priority 0 ; policy drop ; }"]);
    refuse("firewall drops what is forwarded (nft chain inet wall f)");
    must(5, "nft", &["delete", "table", "inet", "wall"]);

    // Arguments that make no sense are refused before anything is changed, so that nothing is said of undoing.
    for (arguments, words) in [
        (&["fetch", "https://203.0.113.2/"][..], "https needs TLS"),
        (&["fetch", "http://203.0.113.2:65616/"], "from 1 to 65535"),
        (&["connect"], "HOST, PORT is missing"),
        (&["iperf3"], "trust iperf3 --help"),
        (&["serve", "--tcp", "bogus=1"], "bogus"),
    ] {
        let before = settings();
        let output = run_sh(&directory, 20, &[&["--host", "--nat"], arguments].concat()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{arguments:?}: {said}");
        assert_eq!(settings(), before, "{arguments:?}");
    }

    let before = settings();
    let mut script: Child = run_sh(&directory, 60, &["--host", "--nat"]).spawn().unwrap();
    eventually(Duration::from_secs(20), "the engine is ready", || directory.0.join("run/ready").exists());
    assert_ne!(settings(), before);
    // Not `timeout`, which we started: what it has.
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", script.id())).unwrap();
    let pid: i32 = children.split_whitespace().next().unwrap().parse().unwrap();
    // SAFETY: a process that this test has started and that is still there.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    script.wait().unwrap();
    eventually(Duration::from_secs(5), "the engine goes, too", || !must(5, "ip", &["-o", "link"]).contains("trust0"));
    let left = settings();
    assert_ne!(left, before);
    // Elsewhere nothing is undone: a table of that name there is somebody else's.
    let other = Namespace::new();
    other.must("nft add table ip trust_nat");
    let output = within_run_sh(&other.prefix(), &directory, 20, &["stop"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("another network namespace"), "{}", describe(&output));
    other.must("nft list table ip trust_nat");
    assert_eq!(settings(), left);
    let output = run_sh(&directory, 20, &["stop"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("removed the nft table"), "{}", describe(&output));
    assert_eq!(settings(), before);
    Ok(())
}
