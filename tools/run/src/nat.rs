//! The way to the Internet: this machine forwards and masquerades for the device's network only, until the end.
//!
//! What is changed lies in a file of the state until it is undone: the interface that leads out, and whether it forwarded
//! before. Its name has the network namespace, since that is where it is to be undone: elsewhere an interface or a table of
//! the same name is somebody else's.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::geteuid;

use crate::state::{State, lock_within, words_of};
use crate::talk::{Failure, cannot, warn};

/// The name of our table. What else there is stays as it is.
const TABLE: &str = "trust_nat";

/// The name of the file that has what was changed, before the number of the namespace.
const RECORD: &str = "nat.net";

/// The way out, as long as this is there.
#[derive(Debug)]
pub(crate) struct Nat {
    /// Where it is written down what has been changed.
    changes: PathBuf,
    lock: File,
    uplink: String,
}

impl Nat {
    /// Forwards and masquerades for the network of an address with its prefix. Refuses where something is in the way:
    /// nothing that exists is changed, but for the forwarding of the interface that leads out.
    pub(crate) fn on(state: &State, tun: &str, address: &str) -> Result<Self, Failure> {
        if !is_plain(tun) {
            return Err(Failure::misuse(format!("--nat: {tun} is no name for a device here")));
        }
        let uplink = uplink(&words_of(Command::new("ip").args(["-4", "route", "show", "default"])))
            .ok_or_else(|| Failure::new("--nat: there is no default route in this namespace, and so no way out"))?;
        state.create()?;
        let lock = state.lock_file("nat.lock").map_err(cannot("--nat: nat.lock"))?;
        if !lock_within(&lock, Duration::ZERO) {
            return Err(Failure::new("--nat: another engine of this clone has it already"));
        }
        let changes = changes(state);
        if changes.exists() {
            undo_what_is_left(&changes);
        }
        refuse_what_is_in_the_way()?;
        let setting = forwarding(&uplink);
        let former = fs::read_to_string(&setting).unwrap_or_default().trim().to_owned();
        fs::write(&changes, format!("{uplink} {former}\n")).map_err(cannot("--nat: its state"))?;
        // From here on all is undone, however this ends.
        let nat = Self { changes, lock, uplink };
        nat.add_table(tun, address, former == "1")?;
        if former != "1" {
            let name = format!("net.ipv4.conf.{}.forwarding", nat.uplink);
            fs::write(&setting, "1\n").map_err(|_| Failure::new(format!("--nat: {name} cannot be set")))?;
            warn(format!("--nat: {name} was {former} and is 1, for {tun} only: the table drops the rest"));
        }
        Ok(nat)
    }

    /// Held until all is undone; an engine that has it, too, says that it is still in use.
    pub(crate) fn lock(&self) -> &File {
        &self.lock
    }

    /// What the interface that leads out takes in a packet.
    pub(crate) fn mtu(&self) -> Option<u32> {
        let line = words_of(Command::new("ip").args(["-o", "link", "show", "dev", &self.uplink]));
        line.split_once(" mtu ")?.1.split(' ').next()?.parse().ok()
    }

    /// Nobody gets in from outside. Where forwarding was off, it is on for our device and nothing else.
    fn add_table(&self, tun: &str, address: &str, forwarded: bool) -> Result<(), Failure> {
        let uplink = &self.uplink;
        let closed = if forwarded { String::new() } else { format!("iifname \"{uplink}\" oifname != \"{tun}\" drop") };
        let rules = format!(
            r#"table ip {TABLE} {{
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {address} oifname "{uplink}" masquerade
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname != "{tun}" oifname "{tun}" ct state new drop
        {closed}
    }}
}}
"#
        );
        let mut nft = Command::new("nft");
        let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().map_err(cannot("--nat: nft"))?;
        // It reads all of it before it changes anything, and says itself what it does not like.
        let written = nft.stdin.take().is_some_and(|mut input| input.write_all(rules.as_bytes()).is_ok());
        let taken = nft.wait().is_ok_and(|status| status.success());
        if !written || !taken {
            let reason = "the kernel may lack NAT (modprobe nft_chain_nat nft_masq)";
            return Err(Failure::new(format!("--nat: nft refuses; {reason}")));
        }
        warn(format!(
            "--nat: added the nft table ip {TABLE}: what {address} sends by {uplink} is masqueraded, nobody gets in"
        ));
        Ok(())
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        undo(&self.changes);
    }
}

/// Undoes what a run that was killed has left in this network namespace: for root, and when nobody uses it.
pub(crate) fn undo_leftovers(state: &State) {
    let recorded = recorded(state);
    if recorded.is_empty() || !geteuid().is_root() {
        return;
    }
    // An engine that was killed just now holds the lock a moment longer than its device; one that runs undoes it itself.
    let Ok(lock) = state.lock_file("nat.lock") else { return };
    if !lock_within(&lock, Duration::from_millis(500)) {
        return;
    }
    let ours = namespace();
    for inode in recorded {
        if inode == ours {
            undo_what_is_left(&changes(state));
        } else if exists(inode) {
            warn(format!(
                "--nat: what was changed in another network namespace (net:[{inode}]) is undone by ./run.sh stop there"
            ));
        }
    }
}

/// Where it lies what has been changed in the network namespace of this process.
fn changes(state: &State) -> PathBuf {
    state.path(&format!("{RECORD}{}", namespace()))
}

/// The network namespace of this process: what the kernel calls it, or 0 where it does not say.
fn namespace() -> u64 {
    fs::metadata("/proc/self/ns/net").map_or(0, |namespace| namespace.ino())
}

/// The namespaces in which something has been changed.
fn recorded(state: &State) -> Vec<u64> {
    let entries = fs::read_dir(state.path("")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter_map(|name| name.strip_prefix(RECORD)?.parse().ok()).collect()
}

/// Whether there is a network namespace of this number still: some process is in it, or `ip netns` keeps it. What was
/// changed in one that has gone went with it.
fn exists(namespace: u64) -> bool {
    let entries = |folder: &str| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let processes = entries("/proc").map(|process| process.join("ns/net"));
    let is = |path: PathBuf| fs::metadata(path).is_ok_and(|other| other.ino() == namespace);
    processes.chain(entries("/run/netns")).any(is)
}

fn undo_what_is_left(changes: &Path) {
    warn("--nat: undoing what a run that was killed has left");
    undo(changes);
}

/// Undoes it, by what the state says. Not the forwarding of our device: that goes with the device.
fn undo(changes: &Path) {
    let Ok(text) = fs::read_to_string(changes) else { return };
    let (uplink, former) = text.trim_end().split_once(' ').unwrap_or((text.trim_end(), ""));
    if former != "1" && fs::write(forwarding(uplink), format!("{former}\n")).is_ok() {
        warn(format!("--nat: net.ipv4.conf.{uplink}.forwarding is {former} again"));
    }
    if quiet(Command::new("nft").args(["delete", "table", "ip", TABLE])) {
        warn(format!("--nat: removed the nft table ip {TABLE}"));
    }
    let _ = fs::remove_file(changes);
}

fn refuse_what_is_in_the_way() -> Result<(), Failure> {
    if quiet(Command::new("nft").args(["list", "table", "ip", TABLE])) {
        let rest = format!("perhaps another engine's; if it is nobody's: nft delete table ip {TABLE}");
        return Err(Failure::new(format!("--nat: there is a table ip {TABLE} already, {rest}")));
    }
    // Whoever drops by default would drop what we forward; to allow it would be to change his rules.
    match dropping_chain(&words_of(Command::new("nft").args(["list", "chains"]))) {
        None => Ok(()),
        Some(chain) => Err(Failure::new(format!(
            "--nat: this machine's firewall drops what is forwarded (nft chain {chain}); that is left as it is"
        ))),
    }
}

/// Whether a command succeeds, whose output is nobody's.
fn quiet(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}

/// The kernel's setting for an interface.
fn forwarding(interface: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{interface}/forwarding")
}

/// Whether a name can be written into a rule as it is.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"_.-".contains(&octet))
}

/// The interface of the first default route, of those that `ip` prints.
fn uplink(routes: &str) -> Option<String> {
    let name = routes.lines().find_map(|route| route.rsplit_once(" dev "))?.1;
    name.split(' ').next().map(str::to_owned)
}

/// The first chain that drops what is forwarded in IPv4, of those that `nft` prints, with its family and table.
fn dropping_chain(chains: &str) -> Option<String> {
    let (mut table, mut chain) = (String::new(), "");
    for line in chains.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["table", family, name, ..] => table = format!("{family} {name}"),
            ["chain", name, ..] => chain = name,
            _ => {}
        }
        let others = ["ip6", "arp", "bridge", "netdev"].iter().any(|family| table.starts_with(family));
        if line.contains(" hook forward ") && line.contains("policy drop") && !others {
            return Some(format!("{table} {chain}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_is_the_first_default_route() {
        let routes = "default via 198.51.100.1 dev eth0 proto dhcp metric 100\ndefault via 10.0.0.1 dev wlan0";
        assert_eq!(uplink(routes).as_deref(), Some("eth0"));
        assert_eq!(uplink("default dev ppp0").as_deref(), Some("ppp0"));
        assert_eq!(uplink(""), None);
    }

    #[test]
    fn a_firewall_that_drops_what_is_forwarded_is_found() {
        let chains = |family, hook, policy| {
            let other = "type nat hook postrouting priority srcnat; policy accept;";
            let asked = format!("type filter hook {hook} priority filter; policy {policy};");
            format!(
                "table ip nat {{\n\tchain out {{\n\t\t{other}\n\t}}\n}}\n\
                 table {family} wall {{\n\tchain f {{\n\t\t{asked}\n\t}}\n}}"
            )
        };
        assert_eq!(dropping_chain(&chains("inet", "forward", "drop")).as_deref(), Some("inet wall f"));
        assert_eq!(dropping_chain(&chains("ip", "forward", "drop")).as_deref(), Some("ip wall f"));
        for other in
            [chains("ip6", "forward", "drop"), chains("ip", "input", "drop"), chains("ip", "forward", "accept")]
        {
            assert_eq!(dropping_chain(&other), None, "{other}");
        }
    }

    #[test]
    fn a_name_with_more_than_letters_and_digits_is_no_device() {
        assert!(is_plain("trust0") && is_plain("eth0.5_a-b"));
        assert!(!is_plain("") && !is_plain("a\" drop") && !is_plain("a b"));
    }
}
