//! The system calls that are allowed: one list, of which each mode has its rows.
//!
//! A row says who needs the call, in which ways, and in its comment what for. Calls that a processor does not have
//! are left out there: newer ones have fewer.

use libc::c_long;

use super::Mode;

/// A row.
pub(super) struct Allowed {
    pub(super) call: c_long,
    pub(super) modes: &'static [Mode],
    /// The ways in which it may be called, each with all that must be so; none: however one likes.
    pub(super) ways: &'static [&'static [Check]],
}

/// What an argument must be.
pub(super) struct Check {
    /// From 0.
    pub(super) argument: u8,
    pub(super) value: Value,
}

pub(super) enum Value {
    Int(u32),
    /// Of the bits in `mask` just these.
    Bits {
        mask: u32,
        set: u32,
    },
    Null,
    ThisProcess,
}

const ALL: &[Mode] = &[Mode::Serve, Mode::Forward, Mode::Client, Mode::Helper, Mode::Keeper];
const ENGINES: &[Mode] = &[Mode::Serve, Mode::Forward, Mode::Client];
/// With sockets of the kernel's.
const SOCKETS: &[Mode] = &[Mode::Forward, Mode::Helper];
/// With threads that begin behind the fence.
const PROGRAMS: &[Mode] = &[Mode::Client, Mode::Helper];
/// With a process at the other end of a socket, perhaps.
const LINKED: &[Mode] = &[Mode::Forward, Mode::Client, Mode::Helper];
/// With descriptors to wait on beside those of the device.
const WAITING: &[Mode] = &[Mode::Serve, Mode::Forward, Mode::Client, Mode::Helper];
/// Those, and what waits for the end of another process.
const HEARING: &[Mode] = &[Mode::Forward, Mode::Client, Mode::Helper, Mode::Keeper];
const CLIENT: &[Mode] = &[Mode::Client];
const FORWARD: &[Mode] = &[Mode::Forward];
/// With a socket of the kernel's that listens.
const LISTENERS: &[Mode] = &[Mode::Serve, Mode::Forward];
const HELPER: &[Mode] = &[Mode::Helper];
const KEEPER: &[Mode] = &[Mode::Keeper];

const fn any(call: c_long, modes: &'static [Mode]) -> Allowed {
    Allowed { call, modes, ways: &[] }
}

const fn only(call: c_long, modes: &'static [Mode], ways: &'static [&'static [Check]]) -> Allowed {
    Allowed { call, modes, ways }
}

const fn int(argument: u8, value: libc::c_int) -> Check {
    Check { argument, value: Value::Int(value as u32) }
}

const fn bits(argument: u8, mask: libc::c_int, set: libc::c_int) -> Check {
    Check { argument, value: Value::Bits { mask: mask as u32, set: set as u32 } }
}

/// Memory is for data: what was written into it is never run.
const NOT_EXECUTABLE: &[&[Check]] = &[&[bits(2, libc::PROT_EXEC, 0)]];

/// A thread of this process, in the namespaces where it is.
const THREAD: &[&[Check]] = &[&[bits(0, libc::CLONE_THREAD | NEW_NAMESPACES, libc::CLONE_THREAD)]];
const NEW_NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// A signal to ourselves: abort(3), and the end by SIGPIPE.
const THIS_PROCESS: &[&[Check]] = &[&[Check { argument: 0, value: Value::ThisProcess }]];

/// send(2) on a socket that is connected.
const NO_ADDRESS: &[&[Check]] = &[&[Check { argument: 4, value: Value::Null }]];

pub(super) const LIST: &[Allowed] = &[
    // ---- the data path ----
    any(libc::SYS_read, ALL),
    any(libc::SYS_write, ALL),
    any(libc::SYS_writev, ALL),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_epoll_wait, ALL),
    any(libc::SYS_epoll_pwait, ALL),
    any(libc::SYS_timerfd_settime, ENGINES),
    any(libc::SYS_futex, ALL),
    any(libc::SYS_sched_yield, ALL),
    // Where the vDSO does not know the time, as under some hypervisors.
    any(libc::SYS_clock_gettime, ALL),
    any(libc::SYS_nanosleep, ALL),
    any(libc::SYS_clock_nanosleep, ALL),
    // ---- memory: the allocator, mapped data, packet buffers that are given back ----
    only(libc::SYS_mmap, ENGINES, NOT_EXECUTABLE),
    only(libc::SYS_mprotect, ENGINES, NOT_EXECUTABLE),
    any(libc::SYS_munmap, ALL),
    any(libc::SYS_mremap, ALL),
    any(libc::SYS_madvise, ALL),
    any(libc::SYS_mincore, ALL),
    any(libc::SYS_brk, ALL),
    // ---- seeds of tables, and what processor time iperf3 reports ----
    any(libc::SYS_getrandom, ALL),
    any(libc::SYS_getrusage, ALL),
    // ---- signals: TERM, INT and HUP write into a socket pair; a fault puts its default back and comes again ----
    any(libc::SYS_rt_sigaction, ALL),
    any(libc::SYS_rt_sigprocmask, ALL),
    any(libc::SYS_rt_sigreturn, ALL),
    any(libc::SYS_sigaltstack, ALL),
    any(libc::SYS_restart_syscall, ALL),
    any(libc::SYS_recvfrom, ALL),
    only(libc::SYS_sendto, ENGINES, NO_ADDRESS),
    any(libc::SYS_getpid, ALL),
    any(libc::SYS_gettid, ALL),
    only(libc::SYS_tgkill, ALL, THIS_PROCESS),
    // ---- the end of threads and of the process, and the beginning of those that were just started ----
    any(libc::SYS_exit, ALL),
    any(libc::SYS_exit_group, ALL),
    any(libc::SYS_close, ALL),
    any(libc::SYS_set_robust_list, ALL),
    any(libc::SYS_rseq, ALL),
    any(libc::SYS_sched_getaffinity, ALL),
    only(libc::SYS_prctl, ALL, &[&[int(0, libc::PR_SET_NAME)]]),
    // ---- descriptors: a copy of standard output for a thread, and what debug builds ask of one they close ----
    only(
        libc::SYS_fcntl,
        ENGINES,
        &[&[int(1, libc::F_GETFD)], &[int(1, libc::F_GETFL)], &[int(1, libc::F_DUPFD_CLOEXEC)]],
    ),
    // ---- programs on sockets: threads, and what they wait on ----
    only(libc::SYS_clone, PROGRAMS, THREAD),
    // Not really: see `calls`.
    any(libc::SYS_clone3, PROGRAMS),
    any(libc::SYS_epoll_ctl, WAITING),
    any(libc::SYS_epoll_create1, PROGRAMS),
    any(libc::SYS_eventfd2, PROGRAMS),
    // The file that `fetch -o` has open is emptied when there is something to write.
    any(libc::SYS_ftruncate, CLIENT),
    // ---- between an engine and its helper ----
    any(libc::SYS_sendmsg, LINKED),
    any(libc::SYS_recvmsg, HEARING),
    // ---- sockets of the kernel's: the control socket, and those that are joined to ours ----
    any(libc::SYS_accept4, LISTENERS),
    any(libc::SYS_shutdown, SOCKETS),
    only(libc::SYS_getsockopt, FORWARD, &[&[int(1, libc::SOL_SOCKET), int(2, libc::SO_ERROR)]]),
    only(
        libc::SYS_setsockopt,
        FORWARD,
        &[
            &[int(1, libc::SOL_SOCKET), int(2, libc::SO_LINGER)],
            &[int(1, libc::SOL_SOCKET), int(2, libc::SO_KEEPALIVE)],
            &[int(1, libc::IPPROTO_TCP), int(2, libc::TCP_NODELAY)],
            &[int(1, libc::IPPROTO_TCP), int(2, libc::TCP_KEEPIDLE)],
            &[int(1, libc::IPPROTO_TCP), int(2, libc::TCP_KEEPINTVL)],
            &[int(1, libc::IPPROTO_TCP), int(2, libc::TCP_KEEPCNT)],
        ],
    ),
    // ---- the keeper: a file that is still the one it was is removed ----
    only(libc::SYS_mmap, KEEPER, NOT_EXECUTABLE),
    any(libc::SYS_statx, KEEPER),
    any(libc::SYS_newfstatat, KEEPER),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_unlink, KEEPER),
    any(libc::SYS_unlinkat, KEEPER),
    // ---- the helper: what resolvers of all sorts do; their modules are libraries to be loaded ----
    any(libc::SYS_mmap, HELPER),
    any(libc::SYS_mprotect, HELPER),
    only(
        libc::SYS_socket,
        HELPER,
        &[
            &[int(0, libc::AF_INET)],
            &[int(0, libc::AF_INET6)],
            &[int(0, libc::AF_UNIX)],
            // Which addresses this machine has decides the order of those found (RFC 6724).
            &[int(0, libc::AF_NETLINK), int(2, libc::NETLINK_ROUTE)],
        ],
    ),
    any(libc::SYS_connect, HELPER),
    any(libc::SYS_bind, HELPER),
    any(libc::SYS_getsockname, HELPER),
    any(libc::SYS_getpeername, HELPER),
    any(libc::SYS_getsockopt, HELPER),
    any(libc::SYS_setsockopt, HELPER),
    any(libc::SYS_sendto, HELPER),
    any(libc::SYS_sendmmsg, HELPER),
    any(libc::SYS_recvmmsg, HELPER),
    any(libc::SYS_ppoll, HELPER),
    only(libc::SYS_ioctl, HELPER, &[&[int(1, libc::FIONREAD as libc::c_int)], &[int(1, libc::FIONBIO as libc::c_int)]]),
    any(libc::SYS_fcntl, HELPER),
    any(libc::SYS_openat, HELPER),
    any(libc::SYS_pread64, HELPER),
    any(libc::SYS_lseek, HELPER),
    any(libc::SYS_fstat, HELPER),
    any(libc::SYS_newfstatat, HELPER),
    any(libc::SYS_statx, HELPER),
    any(libc::SYS_faccessat, HELPER),
    any(libc::SYS_faccessat2, HELPER),
    any(libc::SYS_readlinkat, HELPER),
    any(libc::SYS_getdents64, HELPER),
    any(libc::SYS_uname, HELPER),
    any(libc::SYS_getuid, HELPER),
    any(libc::SYS_geteuid, HELPER),
    any(libc::SYS_getgid, HELPER),
    any(libc::SYS_getegid, HELPER),
    any(libc::SYS_getppid, HELPER),
    any(libc::SYS_gettimeofday, HELPER),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_poll, HELPER),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_open, HELPER),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_stat, HELPER),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_lstat, HELPER),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_access, HELPER),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_readlink, HELPER),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_time, HELPER),
];
