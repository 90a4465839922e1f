//! The filter of system calls: made of the list for a mode, and put in place for all threads.
//!
//! What is not on the list fails with EPERM and does nothing. It does not kill: libc asks for a few things that it
//! does well without (malloc for /proc/sys/vm/overcommit_memory when it gives memory back), and which these are is
//! its affair.
//!
//! The filter costs next to nothing where it matters: since Linux 5.11 the kernel runs it once for each call when it
//! is put in place, and remembers those that are allowed whatever their arguments are. The calls of the data path are
//! such.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::list::{Check, LIST, Value};
use super::{Missing, Mode};

/// The second step (see [`fence`](super)): from here on every thread of this process has the system calls of `mode`
/// and no others; it returns how many these are. It cannot be undone.
///
/// # Errors
///
/// [`Missing`]: the kernel does not do it, and everything is as before.
pub fn close(mode: Mode) -> Result<usize, Missing> {
    let missing = |why: String| Missing { what: "seccomp", why };
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| missing(error.to_string()))?;
    let rules = rules(mode).map_err(|error| missing(error.to_string()))?;
    let count = rules.len();
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let list =
        compile(rules, refuse, SeccompAction::Allow, architecture).map_err(|error| missing(error.to_string()))?;
    // clone3 has its flags behind a pointer, where no filter can see them. Told that it does not exist, libc takes
    // clone. Of two filters the one that forbids more counts, and of two errors that of the newer one: so the list
    // lets it pass where clone is on it, and this one catches it.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let absent = SeccompAction::Errno(libc::ENOSYS as u32);
    let absent =
        compile(clone3, SeccompAction::Allow, absent, architecture).map_err(|error| missing(error.to_string()))?;
    rustix::thread::set_no_new_privs(true).map_err(|error| missing(error.to_string()))?;
    install(&absent).and_then(|()| install(&list)).map_err(|error| missing(error.to_string()))?;
    Ok(count)
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
    architecture: TargetArch,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, otherwise, matched, architecture)?.try_into()
}

/// The rules of a mode: by the number of a call, each way in which it is allowed. No way at all stands for every way.
fn rules(mode: Mode) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for allowed in LIST.iter().filter(|allowed| allowed.modes.contains(&mode)) {
        let ways = allowed.ways.iter().map(|way| {
            let conditions: Result<Vec<_>, _> = way.iter().map(condition).collect();
            SeccompRule::new(conditions?)
        });
        let ways = ways.collect::<Result<Vec<_>, _>>()?;
        rules.entry(allowed.call).or_default().extend(ways);
    }
    Ok(rules)
}

fn condition(check: &Check) -> Result<SeccompCondition, BackendError> {
    let (length, operator, value) = match check.value {
        // The kernel reads the lower half of what it has as an int, and flags lie there.
        Value::Int(value) => (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(value)),
        Value::Bits { mask, set } => (SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask.into()), u64::from(set)),
        Value::Null => (SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0),
        Value::ThisProcess => (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(std::process::id())),
    };
    SeccompCondition::new(check.argument, length, operator, value)
}

/// Puts a filter in place for all threads, beside those that are there.
fn install(program: &[sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        // Laid out as the kernel has it in both packages.
        filter: program.as_ptr().cast_mut().cast(),
    };
    // Not less speculation: until Linux 5.16 it comes with a filter, costs several percent, and would protect from
    // code in this very process.
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the kernel reads `len` instructions behind `filter`, which live through the call, and copies them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    match result {
        0 => Ok(()),
        ..0 => Err(io::Error::last_os_error()),
        thread => Err(io::Error::other(format!("thread {thread} has a filter of its own"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ENGINES: [Mode; 3] = [Mode::Serve, Mode::Forward, Mode::Client];
    const MODES: [Mode; 5] = [Mode::Serve, Mode::Forward, Mode::Client, Mode::Helper, Mode::Keeper];

    /// `mmap` in two rows, one with conditions and one without, would be allowed in no way of the first.
    #[test]
    fn no_call_is_allowed_twice_for_a_mode() {
        for mode in MODES {
            let mut calls: Vec<_> = LIST.iter().filter(|row| row.modes.contains(&mode)).map(|row| row.call).collect();
            let all = calls.len();
            calls.sort_unstable();
            calls.dedup();
            assert_eq!(calls.len(), all, "{mode:?}");
        }
    }

    /// What the kernel's memory of allowed calls is for: see the module.
    #[test]
    fn calls_of_the_data_path_have_no_conditions() {
        for mode in ENGINES {
            let rules = rules(mode).unwrap();
            let epoll = libc::SYS_epoll_pwait;
            for call in [libc::SYS_read, libc::SYS_writev, libc::SYS_futex, libc::SYS_timerfd_settime, epoll] {
                assert_eq!(rules[&call].len(), 0, "{mode:?} {call}");
            }
        }
    }

    #[test]
    fn engines_have_no_way_out() {
        let ways_out = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_bpf,
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_kill,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_ioctl,
            libc::SYS_io_uring_setup,
            libc::SYS_memfd_create,
            libc::SYS_seccomp,
        ];
        for mode in ENGINES {
            let rules = rules(mode).unwrap();
            for call in ways_out {
                assert!(!rules.contains_key(&call), "{mode:?} {call}");
            }
        }
        // Only who starts threads clones.
        let clone = MODES.map(|mode| rules(mode).unwrap().contains_key(&libc::SYS_clone));
        assert_eq!(clone, [false, false, true, true, false]);
    }
}
