//! `--host`: an engine, or one of its commands, in the current network namespace.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::geteuid;

use crate::enter::{become_of, command};
use crate::look::with_control;
use crate::nat::Nat;
use crate::place::Place;
use crate::signals::Asked;
use crate::state::words_of;
use crate::supervise::{Start, Whereabouts, supervise};
use crate::talk::{Failure, Outcome, cannot, say, status};
use crate::words::{addresses, is_ipv6, list, option, serve, unless_given};

/// Runs it to its end: the words begin with `--nat` or not, and then comes the command.
pub(crate) fn host(place: &Place, words: &[OsString]) -> Outcome {
    let with_nat = words.first().is_some_and(|word| word == "--nat");
    let words = words.get(usize::from(with_nat)..).unwrap_or_default();
    let serves = words.first().is_none_or(|word| word == "serve");
    let mut words = if serves {
        serve(words.get(1..).unwrap_or_default())
    } else {
        let mut words = words.to_vec();
        unless_given("tun", "trust1", &mut words);
        words
    };
    if with_nat {
        words.push("--forwarding".into());
    }

    // Before anything is changed: do the arguments make sense? What they ask to be printed (--help) is all there is to
    // do.
    let mut check = Command::new(&place.engine);
    let checked = check.arg("--check").args(&words).stderr(Stdio::inherit()).output();
    let checked = checked.map_err(cannot(place.engine.display()))?;
    if !checked.status.success() {
        return Ok(status(checked.status));
    }
    let said = String::from_utf8_lossy(&checked.stdout);
    if !said.trim().is_empty() {
        say(said.trim_end());
        return Ok(0);
    }

    let tun = option("tun", &words).unwrap_or_else(|| "trust0".to_owned());
    let addresses = addresses(u8::from(!serves), &words);
    refuse_what_is_taken(&tun, &addresses)?;
    if !geteuid().is_root() {
        give_capability(place)?;
    }
    let engine = list([&place.engine]);
    if !with_nat && !serves {
        return become_of(&[engine, words].concat());
    }
    let asked = Asked::listen()?;
    let nat = if with_nat { Some(Nat::on(&place.state, &tun, &addresses)?) } else { None };
    // No packet of ours is larger than what the way out takes: whoever would have to say so may be silent.
    if let Some(mtu) = nat.as_ref().and_then(Nat::mtu).filter(|mtu| *mtu < 1500) {
        unless_given("mtu", &mtu.to_string(), &mut words);
    }
    if let Some(status) = asked.status() {
        return Ok(status);
    }
    // A binary that carries capabilities loses its pdeathsig when it starts, so it asks for it itself.
    let before = [engine, list(["--parent", &std::process::id().to_string()])].concat();
    if !serves {
        return asked.run(&mut command(&[before, words].concat()));
    }
    place.state.create()?;
    with_control(&place.state, &mut words);
    let lock = place.state.lock_engine()?;
    let locks = [Some(&lock), nat.as_ref().map(Nat::lock)].into_iter().flatten().collect();
    let outcome = supervise(&place.state, &Start { before, words, locks, whereabouts: Whereabouts::Here }, &asked);
    // Whoever waits for the lock (`stop`) is to find all undone.
    drop(nat);
    drop(lock);
    outcome
}

fn refuse_what_is_taken(tun: &str, addresses: &[String]) -> Result<(), Failure> {
    let ip = |words: &[&str]| Command::new("ip").args(words).stdin(Stdio::null()).output();
    let succeeds = |words: &[&str]| ip(words).is_ok_and(|output| output.status.success());
    if Path::new("/sys/class/net").join(tun).exists() || succeeds(&["link", "show", "dev", tun]) {
        let other = "choose another: ./run.sh --host --tun trust1";
        return Err(Failure::new(format!("a device {tun} exists already; {other}")));
    }
    for address in addresses {
        let host = address.split_once('/').map_or(address.as_str(), |(host, _)| host);
        let (family, another) = if is_ipv6(address) { ("-6", "fd00:77::2/64") } else { ("-4", "10.77.0.2/24") };
        let mut routes = String::new();
        for words in [[family, "route", "show", "match", host], [family, "route", "show", "root", address]] {
            let Some(output) = ip(&words).ok().filter(|output| output.status.success()) else { break };
            routes.push_str(&String::from_utf8_lossy(&output.stdout));
        }
        if let Some(used) = routes.lines().find(|route| !route.starts_with("default")) {
            return Err(Failure::new(format!(
                "{address} is in use here ({used}); choose another: ./run.sh --host --address {another}"
            )));
        }
    }
    Ok(())
}

/// Has the binary carry what it takes to make a device in this namespace, by sudo.
fn give_capability(place: &Place) -> Result<(), Failure> {
    if carries_net_admin(&words_of(Command::new("getcap").arg(&place.engine))) {
        return Ok(());
    }
    say(format!("sudo setcap cap_net_admin=eip {}", place.engine.display()));
    let given = Command::new("sudo").args(["setcap", "cap_net_admin=eip"]).arg(&place.engine).status();
    if given.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(Failure::new("without cap_net_admin no device can be made in this namespace; run as root"))
}

/// Whether it is in force when the program starts, by what getcap(8) prints.
fn carries_net_admin(printed: &str) -> bool {
    let flags = printed.split_once("cap_net_admin").and_then(|(_, rest)| rest.split_once('='));
    flags.is_some_and(|(_, flags)| flags.contains('e'))
}

#[cfg(test)]
mod tests {
    use super::carries_net_admin;

    #[test]
    fn a_capability_counts_when_it_is_in_force() {
        assert!(carries_net_admin("/home/u/trust cap_net_admin=eip"));
        assert!(carries_net_admin("/home/u/trust cap_net_admin,cap_net_raw=ep"));
        assert!(!carries_net_admin("/home/u/trust cap_net_admin=ip"));
        assert!(!carries_net_admin(""));
    }
}
