//! The few calls to the operating system that the instruments share. Nothing about TCP belongs here.

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Pins the calling thread to one CPU.
///
/// # Errors
/// The CPU does not exist or the cpuset forbids it.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        Ok(())
    } else {
        Err(io::Error::other(format!("CPU {cpu} cannot be used by this process")))
    }
}

/// Has a command start on one CPU, and stay there.
pub fn pin_command(command: &mut Command, cpu: usize) -> &mut Command {
    // SAFETY: all-zero is a valid empty set, the number is held inside of it before it is written, and sched_setaffinity,
    // which is async-signal-safe, only reads it.
    unsafe {
        command.pre_exec(move || {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu % libc::CPU_SETSIZE as usize, &mut set);
            let pinned = libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) == 0;
            if pinned { Ok(()) } else { Err(io::Error::last_os_error()) }
        })
    }
}

/// CPUs this process may use, ascending. Never empty.
#[must_use]
pub fn usable_cpus() -> Vec<usize> {
    let mut cpus: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|c| c.id).collect();
    cpus.sort_unstable();
    if cpus.is_empty() {
        cpus.push(0);
    }
    cpus
}

/// Gives the calling thread the policy SCHED_IDLE: it runs only where a CPU would otherwise halt.
///
/// # Errors
/// As `sched_setscheduler(2)`.
pub fn run_only_when_idle() -> io::Result<()> {
    // SAFETY: all-zero is a valid sched_param (SCHED_IDLE wants priority 0), and the pointer lives across the call.
    let failed = unsafe {
        let param: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &param)
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// CPU seconds (user and system, all threads) that another process has used; `None`: there is none of that id.
#[must_use]
pub fn cpu_seconds_of(process: u32) -> Option<f64> {
    let process = libc::pid_t::try_from(process).ok()?;
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both pointers are valid for the calls to fill, and the second is made with what the first gave.
    let known =
        unsafe { libc::clock_getcpuclockid(process, &mut clock) == 0 && libc::clock_gettime(clock, &mut time) == 0 };
    known.then(|| time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// Has a device of this network namespace neither cut nor join segments: no TSO, GSO or GRO.
///
/// # Errors
/// No such device, or it refuses.
pub fn without_segmentation(device: &str) -> io::Result<()> {
    /// `struct ethtool_value` of `linux/ethtool.h`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    const SET: [u32; 3] = [0x1f, 0x24, 0x2c]; // ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    for command in SET {
        let mut value = Value { command, data: 0 };
        // SAFETY: all-zero is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let most = request.ifr_name.len() - 1;
        for (to, from) in request.ifr_name.iter_mut().zip(device.bytes().take(most)) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        // SAFETY: the request and the value that it points to live across the call, and are what this ioctl takes.
        if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &mut request) } != 0 {
            let e = io::Error::last_os_error();
            return Err(io::Error::new(e.kind(), format!("{device}: SIOCETHTOOL {command:#x}: {e}")));
        }
    }
    Ok(())
}

/// The kernel's threads that go on with its network work where the CPU that got it did not.
#[must_use]
pub fn softirq_threads() -> Vec<u32> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let named =
        |id: &u32| std::fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|s| s.starts_with("ksoftirqd/"));
    ids.filter(named).collect()
}

/// Waits until a descriptor can be read, at most `patience`; false: it still cannot.
///
/// # Errors
/// As `poll(2)`; a signal is no error.
pub fn wait_readable(what: &impl AsRawFd, patience: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: what.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let milliseconds = libc::c_int::try_from(patience.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: one valid pollfd, which lives across the call.
    match unsafe { libc::poll(&mut poll, 1, milliseconds) } {
        0 => Ok(false),
        1.. => Ok(true),
        _ => match io::Error::last_os_error() {
            e if e.kind() == io::ErrorKind::Interrupted => Ok(true),
            e => Err(e),
        },
    }
}

/// A limit of `setrlimit(2)` that many clients at once run into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Open files of this process.
    OpenFiles,
    /// Processes of this user.
    Processes,
}

/// Raises the soft limit to the hard one and returns what is in force now (`u64::MAX`: no limit).
///
/// # Errors
/// As `getrlimit(2)` and `setrlimit(2)`.
pub fn raise_limit(limit: Limit) -> io::Result<u64> {
    let resource = match limit {
        Limit::OpenFiles => libc::RLIMIT_NOFILE,
        Limit::Processes => libc::RLIMIT_NPROC,
    };
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is a valid rlimit for the call to fill.
    if unsafe { libc::getrlimit(resource, &mut now) } != 0 {
        return Err(io::Error::last_os_error());
    }
    now.rlim_cur = now.rlim_max;
    // SAFETY: `now` is a valid rlimit, only read.
    if unsafe { libc::setrlimit(resource, &now) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(now.rlim_cur)
}

/// CPU seconds (user and system) this process has used.
#[must_use]
pub fn cpu_seconds() -> f64 {
    // SAFETY: all-zero is a valid rusage and the pointer lives across the call; RUSAGE_SELF cannot fail.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Part of all CPU time (0 to 1) that was used while waiting for `length`, by whomever.
///
/// # Errors
/// `/proc/stat` cannot be read.
pub fn busy_part(length: Duration) -> io::Result<f64> {
    let read = || -> io::Result<[u64; 2]> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let times = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
        // user nice system idle iowait irq softirq steal; guest time is counted in user already.
        let times: Vec<u64> = times.take(8).map_while(|t| t.parse().ok()).collect();
        Ok([times.iter().sum(), times.iter().skip(3).take(2).sum()])
    };
    let before = read()?;
    std::thread::sleep(length);
    let after = read()?;
    let (all, idle) = (after[0].saturating_sub(before[0]), after[1].saturating_sub(before[1]));
    Ok(1.0 - idle as f64 / all.max(1) as f64)
}

/// Registers a descriptor, edge-triggered. Closing it takes it out again.
///
/// The standard library's sockets serve as they are: mio's own would ask another feature of mio than the engine does,
/// and every build of engine or tools alone would compile the packages they share once more.
///
/// # Errors
/// As `epoll_ctl(2)`.
pub fn register(poll: &Poll, what: &impl AsRawFd, token: Token, interest: Interest) -> io::Result<()> {
    poll.registry().register(&mut SourceFd(&what.as_raw_fd()), token, interest)
}

/// Arranges that the child is killed when the *thread* which spawns it ends, however it ends.
///
/// Spawn such children from the main thread only.
pub fn die_with_parent(command: &mut Command) -> &mut Command {
    // SAFETY: prctl is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        })
    }
}

/// Sends a signal to a child that has not been waited for.
pub fn signal(child: &Child, signal: i32) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // SAFETY: kill touches no memory. The child is not yet reaped, so its id names no other process.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Waits for a child at most `patience`; `None`: it still runs.
///
/// # Errors
/// As `waitpid(2)`.
pub fn wait_at_most(child: &mut Child, patience: Duration) -> io::Result<Option<std::process::ExitStatus>> {
    let end = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks a child to end (TERM), and kills it when it has not within `patience`. Returns whether it had to be killed.
pub fn stop(child: &mut Child, patience: Duration) -> bool {
    signal(child, libc::SIGTERM);
    let ended = matches!(wait_at_most(child, patience), Ok(Some(_)));
    if !ended {
        let _ = child.kill();
        let _ = child.wait();
    }
    !ended
}

/// Runs a command to its end, with no stdin, collecting its output; kills it after `patience`.
///
/// # Errors
/// It could not be started, ended unsuccessfully (the message carries the end of its output) or overran `patience`.
pub fn run(command: &mut Command, patience: Duration) -> io::Result<Output> {
    let what = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| io::Error::new(e.kind(), format!("{what}: {e}")))?;
    // The pipes are drained by threads: a child that fills one would otherwise wait for us while we wait for it.
    let mut stdout = child.stdout.take();
    let mut stderr = child.stderr.take();
    let (status, stdout, stderr) = std::thread::scope(|scope| {
        let out = scope.spawn(move || drain(stdout.as_mut()));
        let err = scope.spawn(move || drain(stderr.as_mut()));
        let mut status = wait_at_most(&mut child, patience);
        if matches!(status, Ok(None)) {
            let _ = child.kill();
            let _ = child.wait();
            status = Err(io::Error::new(io::ErrorKind::TimedOut, format!("{what}: still running after {patience:?}")));
        }
        (status, out.join().unwrap_or_default(), err.join().unwrap_or_default())
    });
    let Some(status) = status? else { return Err(io::Error::other(format!("{what}: no status"))) };
    if status.success() {
        return Ok(Output { status, stdout, stderr });
    }
    let text = if stderr.is_empty() { &stdout } else { &stderr };
    let text = String::from_utf8_lossy(text);
    let last = text.lines().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" / ");
    Err(io::Error::other(format!("{what}: {status}: {last}")))
}

fn drain(pipe: Option<&mut impl io::Read>) -> Vec<u8> {
    let mut all = Vec::new();
    if let Some(pipe) = pipe {
        let _ = pipe.read_to_end(&mut all);
    }
    all
}
