//! User, groups and capabilities of the calling thread, which must be the only one.

use std::io;

use rustix::process::{
    getegid, geteuid, getpid, getppid, kill_process, parent_process_death_signal, set_parent_process_death_signal,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use rustix::thread::{Gid, Uid};

use super::{FenceError, Ids, User};

/// Who the process is behind its fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Another user than before.
    Changed(Ids),
    /// It was not root.
    Same(Ids),
    /// Root still, and why.
    Root(&'static str),
}

/// What is to become of the user.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    To(Ids),
    No(Identity),
}

impl Change {
    /// Nobody else.
    pub(super) fn none() -> Self {
        let now = Ids { uid: geteuid().as_raw(), gid: getegid().as_raw() };
        Self::No(if now.uid == 0 { Identity::Root("it was asked for") } else { Identity::Same(now) })
    }

    /// Looks whom to go on as. A user that was asked for must be possible, `nobody` need not.
    pub(super) fn find(wanted: Option<&User>) -> Result<Self, FenceError> {
        let now = Ids { uid: geteuid().as_raw(), gid: getegid().as_raw() };
        let refused = |user: &User, why| FenceError::User { user: user.to_string(), why };
        if now.uid != 0 {
            return match wanted {
                Some(user) => Err(refused(user, "only root becomes another user")),
                None => Ok(Self::No(Identity::Same(now))),
            };
        }
        let ids = wanted.map_or_else(|| Ok(User::nobody()), User::ids)?;
        match (hindrance(ids), wanted) {
            (None, _) => Ok(Self::To(ids)),
            (Some(why), Some(user)) => Err(refused(user, why)),
            (Some(why), None) => Ok(Self::No(Identity::Root(why))),
        }
    }
}

/// Why root cannot become this user, if so.
fn hindrance(ids: Ids) -> Option<&'static str> {
    let may = |right| capabilities(None).is_ok_and(|sets| sets.effective.contains(right));
    let mapped = |file: &str, id| std::fs::read_to_string(file).map_or(true, |map| maps(&map, id));
    if !mapped("/proc/self/uid_map", ids.uid) || !mapped("/proc/self/gid_map", ids.gid) {
        Some("its user namespace maps no such id")
    } else if !may(CapabilitySet::SETUID | CapabilitySet::SETGID) {
        Some("it lacks CAP_SETUID or CAP_SETGID")
    } else {
        None
    }
}

/// Whether a map of ids (user_namespaces(7): first inside, first outside, how many) has this one inside.
fn maps(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_whitespace().map(|field| field.parse::<u64>().unwrap_or(0));
        let (Some(first), Some(_), Some(count)) = (fields.next(), fields.next(), fields.next()) else { return false };
        (first..first + count).contains(&u64::from(id))
    })
}

/// Rights are a thread's: those that run already would keep theirs.
pub(super) fn only_thread() -> Result<(), FenceError> {
    match std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count) {
        0 | 1 => Ok(()),
        threads => Err(FenceError::Threads(threads)),
    }
}

fn refused<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> FenceError {
    move |error| FenceError::Refused { what, source: error.into() }
}

/// Becomes the other user, and has no capability and no way to any when it returns.
pub(super) fn give_up(change: Change) -> Result<Identity, FenceError> {
    empty_bounding_set();
    let identity = match change {
        Change::To(ids) => become_user(ids)?,
        Change::No(identity) => identity,
    };
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    // With the permitted ones those go that are ambient; before Linux 4.3 there are none.
    let _ = clear_ambient_capability_set();
    set_capabilities(None, none).map_err(refused("drop capabilities"))?;
    set_no_new_privs(true).map_err(refused("refuse new privileges"))?;
    Ok(identity)
}

/// What no program that we start could gain. There is none, and nothing is lost where we may not (CAP_SETPCAP).
fn empty_bounding_set() {
    for bit in 0..u64::BITS {
        if remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)).is_err() {
            return;
        }
    }
}

fn become_user(ids: Ids) -> Result<Identity, FenceError> {
    let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
    // Whoever started us may have asked the kernel to end us with him, which it forgets when the user changes.
    let (parent, signal) = (getppid(), parent_process_death_signal().ok().flatten());
    // Denied where the map of groups was written without rights (user_namespaces(7)): then groups stay as they are.
    let groups = set_thread_groups(&[]);
    if groups.is_err() && std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() != "deny") {
        groups.map_err(refused("leave its groups"))?;
    }
    set_thread_res_gid(gid, gid, gid).map_err(refused("change its group"))?;
    set_thread_res_uid(uid, uid, uid).map_err(refused("change its user"))?;
    if let Some(signal) = signal {
        set_parent_process_death_signal(Some(signal)).map_err(refused("ask again for the end with its parent"))?;
        if getppid() != parent {
            // He ended in between.
            kill_process(getpid(), signal).map_err(refused("end with its parent"))?;
        }
    }
    Ok(Identity::Changed(ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_ids_are_read() {
        let whole = "         0          0 4294967295\n";
        let own = "         0       1000          1\n";
        let two = "0 1000 1\n1 100000 65536\n";
        for (map, id, inside) in [
            (whole, 65_534, true),
            (own, 65_534, false),
            (own, 0, true),
            (two, 65_534, true),
            (two, 65_536, true),
            (two, 65_537, false),
            ("", 0, false),
            ("0 0\n", 0, false),
        ] {
            assert_eq!(maps(map, id), inside, "{id} in {map:?}");
        }
    }
}
