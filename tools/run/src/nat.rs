//! The way to the Internet: this machine forwards and masquerades for the device's network only, until the end.
//!
//! What is changed lies in a file of the state until it is undone: of each family the interface that leads out, and whether
//! it forwarded before. Its name has the network namespace, since that is where it is to be undone: elsewhere an interface or a table of
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
use crate::words::is_ipv6;

/// The name of our table. What else there is stays as it is.
const TABLE: &str = "trust_nat";

/// The name of the file that has what was changed, before the number of the namespace.
const RECORD: &str = "nat.net";

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// As nft calls it.
    fn table(self) -> &'static str {
        match self {
            Self::Ipv4 => "ip",
            Self::Ipv6 => "ip6",
        }
    }

    /// As ip(8) has it for an option.
    fn option(self) -> &'static str {
        match self {
            Self::Ipv4 => "-4",
            Self::Ipv6 => "-6",
        }
    }

    /// The kernel's setting that an interface forwards: its folder, and its name. In IPv6 `forwarding` is about all interfaces at
    /// once, which hear no routers any more; since 6.17 there is one for each.
    fn setting(self) -> (&'static str, &'static str) {
        match self {
            Self::Ipv4 => ("ipv4", "forwarding"),
            Self::Ipv6 => ("ipv6", "force_forwarding"),
        }
    }

    /// Whether an interface forwards, by itself or as all do; `None`: it cannot be had for it alone.
    fn forwards(self, interface: &str) -> Option<bool> {
        let is_on = |path: PathBuf| fs::read_to_string(path).ok().map(|text| text.trim() == "1");
        match self {
            Self::Ipv6 if is_on("/proc/sys/net/ipv6/conf/all/forwarding".into()) == Some(true) => Some(true),
            _ => is_on(self.path(interface)),
        }
    }

    fn path(self, interface: &str) -> PathBuf {
        let (folder, name) = self.setting();
        format!("/proc/sys/net/{folder}/conf/{interface}/{name}").into()
    }

    /// Whether a table of nft is one of the other family, or of what has none.
    fn is_not_of(self, table: &str) -> bool {
        let other = if self == Self::Ipv4 { "ip6 " } else { "ip " };
        [other, "arp ", "bridge ", "netdev "].iter().any(|family| table.starts_with(family))
    }
}

/// The way out in one family.
#[derive(Debug)]
struct Way {
    family: Family,
    uplink: String,
    /// Whether that interface forwarded before.
    forwarded: bool,
    /// Our addresses with their prefixes.
    ours: String,
}

/// The way out, as long as this is there.
#[derive(Debug)]
pub(crate) struct Nat {
    /// Where it is written down what has been changed.
    changes: PathBuf,
    lock: File,
    ways: Vec<Way>,
}

impl Nat {
    /// Forwards and masquerades for the networks of addresses with their prefixes. Refuses where something is in the way:
    /// nothing that exists is changed, but for the forwarding of the interface that leads out.
    pub(crate) fn on(state: &State, tun: &str, addresses: &[String]) -> Result<Self, Failure> {
        if !is_plain(tun) {
            return Err(Failure::misuse(format!("--nat: {tun} is no name for a device here")));
        }
        let found: Vec<_> = Family::ALL.into_iter().filter_map(|family| uplink_of(family, addresses)).collect();
        if found.is_empty() {
            return Err(Failure::new("--nat: there is no default route in this namespace, and so no way out"));
        }
        state.create()?;
        let lock = state.lock_file("nat.lock").map_err(cannot("--nat: nat.lock"))?;
        if !lock_within(&lock, Duration::ZERO) {
            return Err(Failure::new("--nat: another engine of this clone has it already"));
        }
        let changes = changes(state);
        if changes.exists() {
            undo_what_is_left(&changes);
        }
        let ways = passable(found)?;
        fs::write(&changes, ways.iter().map(Way::record).collect::<String>()).map_err(cannot("--nat: its state"))?;
        // From here on all is undone, however this ends.
        let nat = Self { changes, lock, ways };
        nat.ways.iter().try_for_each(|way| way.open(tun))?;
        Ok(nat)
    }

    /// Held until all is undone; an engine that has it, too, says that it is still in use.
    pub(crate) fn lock(&self) -> &File {
        &self.lock
    }

    /// What the interfaces that lead out take in a packet.
    pub(crate) fn mtu(&self) -> Option<u32> {
        let mtu = |way: &Way| -> Option<u32> {
            let line = words_of(Command::new("ip").args(["-o", "link", "show", "dev", &way.uplink]));
            line.split_once(" mtu ")?.1.split(' ').next()?.parse().ok()
        };
        self.ways.iter().filter_map(mtu).min()
    }
}

/// The ways that nothing is in: of IPv4, or else it is told what is. Without one of IPv6 there is IPv4 alone.
fn passable(found: Vec<(Family, String, String)>) -> Result<Vec<Way>, Failure> {
    let mut ways: Vec<Way> = Vec::new();
    for (family, uplink, ours) in found {
        match in_the_way(family).map_or_else(|| family.forwards(&uplink).ok_or_else(|| only_for_all(&uplink)), Err) {
            Ok(forwarded) => ways.push(Way { family, uplink, forwarded, ours }),
            Err(obstacle) if !ways.is_empty() => warn(format!("{obstacle}; IPv4 alone gets out")),
            Err(obstacle) => return Err(Failure::new(obstacle)),
        }
    }
    Ok(ways)
}

fn only_for_all(uplink: &str) -> String {
    format!("--nat: this kernel can forward IPv6 for all interfaces at once, and not for {uplink} alone")
}

/// Where a family's default route leads, if we have addresses of it; with those.
fn uplink_of(family: Family, addresses: &[String]) -> Option<(Family, String, String)> {
    let is_ours = |address: &&str| is_ipv6(address) == (family == Family::Ipv6);
    let ours: Vec<_> = addresses.iter().map(String::as_str).filter(is_ours).collect();
    let uplink = uplink(&words_of(Command::new("ip").args([family.option(), "route", "show", "default"])))?;
    (!ours.is_empty()).then(|| (family, uplink, ours.join(", ")))
}

impl Way {
    /// The line of it in the file of what has been changed.
    fn record(&self) -> String {
        format!("{} {} {}\n", self.family.table(), self.uplink, u8::from(self.forwarded))
    }

    fn open(&self, tun: &str) -> Result<(), Failure> {
        self.add_table(tun)?;
        if !self.forwarded {
            let (folder, setting) = self.family.setting();
            let name = format!("net.{folder}.conf.{}.{setting}", self.uplink);
            fs::write(self.family.path(&self.uplink), "1\n")
                .map_err(|_| Failure::new(format!("--nat: {name} cannot be set")))?;
            warn(format!("--nat: {name} was 0 and is 1, for {tun} only: the table drops the rest"));
        }
        Ok(())
    }

    /// Nobody gets in from outside. Where forwarding was off, it is on for our device and nothing else.
    fn add_table(&self, tun: &str) -> Result<(), Failure> {
        let Self { family, uplink, forwarded, ours } = self;
        let family = family.table();
        let closed = if *forwarded { String::new() } else { format!("iifname \"{uplink}\" oifname != \"{tun}\" drop") };
        let rules = format!(
            r#"table {family} {TABLE} {{
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        {family} saddr {{ {ours} }} oifname "{uplink}" masquerade
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
            "--nat: added the nft table {family} {TABLE}: what {ours} sends by {uplink} is masqueraded, nobody gets in"
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
    for line in text.lines() {
        let Some((family, uplink, former)) = recorded_way(line) else { continue };
        let (table, (folder, setting)) = (family.table(), family.setting());
        if former != "1" && fs::write(family.path(uplink), format!("{former}\n")).is_ok() {
            warn(format!("--nat: net.{folder}.conf.{uplink}.{setting} is {former} again"));
        }
        if quiet(Command::new("nft").args(["delete", "table", table, TABLE])) {
            warn(format!("--nat: removed the nft table {table} {TABLE}"));
        }
    }
    let _ = fs::remove_file(changes);
}

/// What a line of it says: the family, the interface that leads out, and whether it forwarded before.
fn recorded_way(line: &str) -> Option<(Family, &str, &str)> {
    let words: Vec<_> = line.split(' ').collect();
    let [family, uplink, former] = words[..] else { return None };
    let family = Family::ALL.into_iter().find(|known| known.table() == family)?;
    Some((family, uplink, former))
}

/// What forbids a way out in a family, in words.
fn in_the_way(family: Family) -> Option<String> {
    let table = family.table();
    if quiet(Command::new("nft").args(["list", "table", table, TABLE])) {
        let rest = format!("perhaps another engine's; if it is nobody's: nft delete table {table} {TABLE}");
        return Some(format!("--nat: there is a table {table} {TABLE} already, {rest}"));
    }
    // Whoever drops by default would drop what we forward; to allow it would be to change his rules.
    dropping_chain(family, &words_of(Command::new("nft").args(["list", "chains"]))).map(|chain| {
        format!("--nat: this machine's firewall drops what is forwarded (nft chain {chain}); that is left as it is")
    })
}

/// Whether a command succeeds, whose output is nobody's.
fn quiet(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
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

/// The first chain that drops what is forwarded in a family, of those that `nft` prints, with the family and name of its table.
fn dropping_chain(family: Family, chains: &str) -> Option<String> {
    let (mut table, mut chain) = (String::new(), "");
    for line in chains.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["table", of, name, ..] => table = format!("{of} {name}"),
            ["chain", name, ..] => chain = name,
            _ => {}
        }
        if line.contains(" hook forward ") && line.contains("policy drop") && !family.is_not_of(&table) {
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
        let (inet, ip) = (chains("inet", "forward", "drop"), chains("ip", "forward", "drop"));
        for family in Family::ALL {
            assert_eq!(dropping_chain(family, &inet).as_deref(), Some("inet wall f"));
        }
        assert_eq!(dropping_chain(Family::Ipv4, &ip).as_deref(), Some("ip wall f"));
        assert_eq!(dropping_chain(Family::Ipv6, &ip), None);
        assert!(dropping_chain(Family::Ipv6, &chains("ip6", "forward", "drop")).is_some());
        for other in
            [chains("ip6", "forward", "drop"), chains("ip", "input", "drop"), chains("ip", "forward", "accept")]
        {
            assert_eq!(dropping_chain(Family::Ipv4, &other), None, "{other}");
        }
    }

    #[test]
    fn what_was_changed_is_read_back() {
        for (family, forwarded) in [(Family::Ipv4, true), (Family::Ipv6, false)] {
            let way = Way { family, uplink: "eth0".to_owned(), forwarded, ours: String::new() };
            let line = way.record();
            assert_eq!(recorded_way(line.trim_end()), Some((family, "eth0", if forwarded { "1" } else { "0" })));
        }
        assert_eq!(recorded_way("eth0 0"), None);
    }

    #[test]
    fn a_name_with_more_than_letters_and_digits_is_no_device() {
        assert!(is_plain("trust0") && is_plain("eth0.5_a-b"));
        assert!(!is_plain("") && !is_plain("a\" drop") && !is_plain("a b"));
    }
}
