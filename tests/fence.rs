//! `trust::fence` by itself: a child puts a part of the fence around itself and tries what an attacker would. Without
//! the fence none of it is forbidden, which the first of these tests shows.
//!
//! Nothing that is tried does any harm where it is allowed: its arguments make no sense, and the error says who found
//! out, the fence or the kernel behind it. As root more of the fence can be seen.
//!
//! What the filter costs: `TRUST_TEST_FENCE=cost target/release/deps/fence-... </dev/null`.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::ptr;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use libtest_mimic::{Arguments, Trial};
use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, EngineConfig, Pin, Plan, PlanKind, usable_cpus};
use trust::fence::{self, Fence, Files, Identity, Mode};

/// Names the part of the fence that this process is to put around itself, before it tries.
const CHILD: &str = "TRUST_TEST_FENCE";

fn main() -> ExitCode {
    if let Ok(part) = std::env::var(CHILD) {
        return behind(&part);
    }
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let trials = vec![
        trial("without_a_fence_nothing_is_forbidden", without),
        trial("system_calls_alone_forbid_it", system_calls),
        trial("rights_alone_leave_no_files_ports_and_capabilities", rights),
        trial("rights_go_also_where_the_user_stays", user_namespace),
        trial("rights_keep_the_signal_of_the_parents_death", parents_death),
        trial("the_whole_fence_is_around_every_thread", every_thread),
        trial("each_mode_does_what_it_is_for", modes),
        trial("memory_is_never_run", executable),
        trial("descriptors_of_the_caller_are_closed_but_those_held", descriptors),
        trial("a_fence_that_comes_too_late_is_refused", too_late),
        trial("users_that_cannot_be_are_refused", impossible_users),
        trial("what_the_kernel_lacks_is_named", lacking),
        trial("an_engine_begins_its_threads_when_it_is_started", prepared),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// What a child has found: an error number for each thing that it tried, 0 where it went well, and lines of its own.
type Found = BTreeMap<String, String>;

fn child(part: &str) -> Found {
    run(&mut Command::new(std::env::current_exe().unwrap()), part)
}

fn run(command: &mut Command, part: &str) -> Found {
    let output = command.env(CHILD, part).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{part}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The child's life.
fn behind(part: &str) -> ExitCode {
    match part {
        "nothing" => attempts(),
        "calls" => {
            fence::close(Mode::Serve).unwrap();
            attempts();
        }
        "rights" => behind_rights(),
        "threads" => behind_with_threads(),
        "executable" => {
            // SAFETY: pages of our own, in which nobody has an address.
            unsafe {
                let page = page(libc::PROT_READ | libc::PROT_WRITE);
                fence::close(Mode::Client).unwrap();
                println!("write={}", errno(libc::mprotect(page, 4_096, libc::PROT_READ | libc::PROT_WRITE)));
                println!("execute={}", errno(libc::mprotect(page, 4_096, libc::PROT_READ | libc::PROT_EXEC)));
            }
            println!("map={}", maps(libc::PROT_READ | libc::PROT_WRITE));
            println!("map executable={}", maps(libc::PROT_READ | libc::PROT_EXEC));
        }
        "late" => {
            let (stop, stopped) = mpsc::channel::<()>();
            let thread = std::thread::spawn(move || stopped.recv().is_err());
            println!("refused={}", Fence::new().give_up().unwrap_err());
            drop(stop);
            thread.join().unwrap();
        }
        "descriptors" => {
            let inherited = fence::open_descriptors().unwrap();
            let own = fs::File::open("/dev/null").unwrap();
            // SAFETY: none of them is ours.
            let fence = unsafe { Fence::new().close_descriptors(inherited.clone()) };
            fence.hold(&[7]).give_up().unwrap();
            // SAFETY: no memory is involved.
            let is_open = |fd: i32| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
            println!("found={}", inherited.contains(&7) && inherited.contains(&8));
            println!("open={:?}", inherited.into_iter().filter(|fd| is_open(*fd)).collect::<Vec<_>>());
            println!("own={}", is_open(own.as_raw_fd()));
        }
        "users" => {
            for user in ["nobody-of-this-name", "4000000000"] {
                match Fence::new().user(&user.parse().unwrap()) {
                    Ok(_) => println!("{user}=accepted"),
                    Err(error) => println!("{user}={error}"),
                }
            }
        }
        "old kernel" => {
            absent(&[libc::SYS_seccomp, libc::SYS_landlock_create_ruleset]);
            println!("files={}", Fence::new().give_up().unwrap().files.unwrap_err());
            println!("calls={}", fence::close(Mode::Serve).unwrap_err());
            status();
        }
        "cost" => {
            println!("ns of a read(2) without the filter={:.1}", nanoseconds_per_read());
            fence::close(Mode::Serve).unwrap();
            println!("ns of a read(2) with the filter={:.1}", nanoseconds_per_read());
        }
        mode => allowed(mode),
    }
    ExitCode::SUCCESS
}

/// The first step, and what there is between it and the second.
fn behind_rights() {
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGUSR1) };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let given_up = Fence::new().give_up().unwrap();
    match given_up.identity {
        Identity::Changed(ids) => println!("identity=changed {ids}"),
        Identity::Same(ids) => println!("identity=same {ids}"),
        Identity::Root(why) => println!("identity=root {why}"),
    }
    println!("landlock={}", given_up.files.unwrap_or(0));
    println!("connect={}", code(TcpStream::connect(listener.local_addr().unwrap())));
    println!("bind={}", code(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))));
    let mut signal = 0;
    // SAFETY: the kernel writes the number of a signal there.
    unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) };
    println!("parents death={signal}");
    attempts();
    status();
}

/// Both steps, with threads that begin between them.
fn behind_with_threads() {
    Fence::new().give_up().unwrap();
    let (begun, all) = mpsc::channel();
    let (go, fenced) = mpsc::sync_channel::<()>(0);
    let fenced = Arc::new(Mutex::new(fenced));
    let threads: Vec<_> = (0..3)
        .map(|number| {
            let (begun, fenced) = (begun.clone(), Arc::clone(&fenced));
            std::thread::spawn(move || {
                begun.send(()).unwrap();
                fenced.lock().unwrap().recv().unwrap();
                // SAFETY: no memory is involved.
                println!("thread {number}={}", errno(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) }));
            })
        })
        .collect();
    all.iter().take(3).for_each(drop);
    println!("count={}", fence::close(Mode::Serve).unwrap());
    (0..3).for_each(|_| go.send(()).unwrap());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// What each mode is for.
fn allowed(mode: &str) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).unwrap();
    let (mode, files) = match mode {
        "forward" => (Mode::Forward, Files::None),
        "client" => (Mode::Client, Files::None),
        "helper" => (Mode::Helper, Files::Names { ports: vec![address.port()] }),
        mode => panic!("no part of the fence is called {mode}"),
    };
    println!("landlock={}", Fence::new().files(files).give_up().unwrap().files.unwrap_or(0));
    fence::close(mode).unwrap();
    println!("accept={}", code(listener.accept()));
    println!("keep alive={}", code(socket2::SockRef::from(&client).set_keepalive(true)));
    println!("no delay={}", code(client.set_nodelay(true)));
    println!("error={}", code(client.take_error()));
    println!("time to live={}", code(client.ttl()));
    println!("broadcast={}", code(socket2::SockRef::from(&client).set_broadcast(true)));
    println!("thread={}", code(std::thread::Builder::new().spawn(|| {}).map(|thread| thread.join().unwrap())));
    println!("connect={}", code(TcpStream::connect(address)));
    println!("connect elsewhere={}", code(TcpStream::connect((Ipv4Addr::LOCALHOST, 9))));
    println!("read a name={}", code(fs::read("/etc/hosts")));
    println!("read more={}", code(fs::read("/proc/self/status")));
    println!("write={}", code(fs::File::create("/dev/null")));
    attempts();
}

/// Everything that is to fail.
fn attempts() {
    // SAFETY: no memory is involved.
    let parent = unsafe { libc::getppid() };
    let (nothing, nowhere) = (ptr::null_mut::<libc::c_void>(), c"/nowhere/at/all".as_ptr());
    // SAFETY: strings end, null is where nothing is read, and numbers are numbers; see the module on harm.
    unsafe {
        let arguments = [ptr::null()];
        println!("execve={}", errno(libc::execve(nowhere, arguments.as_ptr(), arguments.as_ptr())));
        println!("socket={}", errno(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0)));
        println!("packet socket={}", errno(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)));
        println!("crypto socket={}", errno(libc::socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)));
        println!("diag socket={}", errno(libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_SOCK_DIAG)));
        println!("open={}", errno(libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY)));
        println!("open secret={}", errno(libc::open(c"/etc/shadow".as_ptr(), libc::O_RDONLY)));
        println!("ptrace={}", errno(libc::ptrace(libc::PTRACE_PEEKUSER, 1, nothing, nothing) as i32));
        println!("mount={}", errno(libc::mount(nowhere, nowhere, c"tmpfs".as_ptr(), 0, nothing)));
        println!("bpf={}", errno(libc::syscall(libc::SYS_bpf, 9_999, nothing, 0) as i32));
        println!("kill={}", errno(libc::kill(parent, 0)));
        println!("tgkill={}", errno(libc::syscall(libc::SYS_tgkill, parent, parent, 0) as i32));
        println!("fork={}", errno(fork()));
        println!("clone3={}", errno(libc::syscall(libc::SYS_clone3, nothing, 0) as i32));
        let address: libc::sockaddr_in = std::mem::zeroed();
        let (address, len) = ((&raw const address).cast(), size_of_val(&address) as libc::socklen_t);
        println!("sendto={}", errno(libc::sendto(0, nothing, 0, 0, address, len) as i32));
        println!("fcntl={}", errno(libc::fcntl(0, libc::F_SETFL, 0)));
        println!("prctl={}", errno(libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0)));
        println!("unshare={}", errno(libc::unshare(0)));
        println!("ioctl={}", errno(libc::ioctl(0, libc::TIOCSTI, nothing)));
        println!("executable map={}", maps(libc::PROT_READ | libc::PROT_EXEC));
        println!("own abort={}", errno(libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), 0) as i32));
    }
}

/// A child that ends at once.
fn fork() -> i32 {
    // SAFETY: the child does nothing but end.
    match unsafe { libc::fork() } {
        // SAFETY: no memory is involved.
        0 => unsafe { libc::_exit(0) },
        child => child,
    }
}

/// # Safety
///
/// None; what is done with the page needs some.
unsafe fn page(protection: libc::c_int) -> *mut libc::c_void {
    // SAFETY: a new mapping, at an address of the kernel's choice.
    unsafe { libc::mmap(ptr::null_mut(), 4_096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) }
}

/// The error of a mapping, 0 for none.
fn maps(protection: libc::c_int) -> i32 {
    // SAFETY: it is not used.
    if unsafe { page(protection) } == libc::MAP_FAILED { errno(-1) } else { 0 }
}

/// The error behind the result of a call, 0 for none.
fn errno(result: i32) -> i32 {
    if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap() } else { 0 }
}

fn code<T>(result: std::io::Result<T>) -> i32 {
    result.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0)
}

/// Who this is, asked by system calls: files are out of reach.
fn status() {
    let (mut real, mut effective, mut saved) = (0, 0, 0);
    // SAFETY: places for three numbers, twice, and for none.
    unsafe {
        libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved);
        println!("uids={real} {effective} {saved}");
        libc::getresgid(&raw mut real, &raw mut effective, &raw mut saved);
        println!("gids={real} {effective} {saved}");
        println!("groups={}", libc::getgroups(0, ptr::null_mut()));
        println!("new privileges={}", libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    }
    let sets = rustix::thread::capabilities(None).unwrap();
    println!("capabilities={}", (sets.effective | sets.permitted | sets.inheritable).bits());
    let net_raw = rustix::thread::CapabilitySet::NET_RAW;
    println!("bounding={}", rustix::thread::capability_is_in_bounding_set(net_raw).unwrap());
}

/// What a kernel without these calls says of them, by a filter of the test's own.
fn absent(calls: &[libc::c_long]) {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    let absent = SeccompAction::Errno(libc::ENOSYS as u32);
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, absent, architecture).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

/// The best of some rounds.
fn nanoseconds_per_read() -> f64 {
    const READS: u32 = 200_000;
    let round = || {
        let start = Instant::now();
        for _ in 0..READS {
            let mut octet = 0_u8;
            // SAFETY: room for the one octet.
            assert_eq!(unsafe { libc::read(0, (&raw mut octet).cast(), 1) }, 0, "standard input is to be empty");
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(READS)
    };
    (0..20).map(|_| round()).min_by(f64::total_cmp).unwrap()
}

// ---- the tests ------------------------------------------------------------------------------------------------------

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this is the root of a user namespace that has this id.
fn has_id(id: u64) -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    let ranges = map.lines().map(|line| line.split_whitespace().map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>());
    is_root() && ranges.into_iter().any(|range| (range[0]..range[0] + range[2]).contains(&id))
}

/// Whether everything is allowed, so that what is not is the fence's doing.
fn is_almighty() -> bool {
    let rights = rustix::thread::capabilities(None).unwrap().effective;
    use rustix::thread::CapabilitySet as Right;
    has_id(4_000_000_000) && rights.contains(Right::SYS_ADMIN | Right::NET_RAW | Right::BPF | Right::DAC_OVERRIDE)
}

const NOBODY: u64 = 65_534;

fn is(found: &Found, key: &str, code: i32) {
    assert_eq!(found[key], code.to_string(), "{key}");
}

fn without() {
    let found = child("nothing");
    let by_rights = ["packet socket", "mount", "bpf", "open secret"];
    for key in found.keys().filter(|key| is_almighty() || !by_rights.contains(&key.as_str())) {
        assert_ne!(found[key], libc::EPERM.to_string(), "{key}");
    }
    for key in ["socket", "open", "kill", "tgkill", "unshare", "executable map"] {
        is(&found, key, 0);
    }
}

fn system_calls() {
    let found = child("calls");
    for (key, value) in &found {
        let expected = if key == "own abort" { 0 } else { libc::EPERM };
        assert_eq!(*value, expected.to_string(), "{key}");
    }
    assert!(found.len() >= 15, "{found:?}");
}

fn rights() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if has_id(NOBODY) {
        // Not everybody who starts it is in a group.
        // SAFETY: a system call that reads one number, fit for the moment between fork and exec.
        unsafe {
            command.pre_exec(|| match libc::setgroups(1, &1) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            })
        };
    }
    let found = run(&mut command, "rights");
    is(&found, "capabilities", 0);
    is(&found, "new privileges", 1);
    // By the capability; nobody asks for the user.
    is(&found, "packet socket", libc::EPERM);
    if is_root() {
        assert_eq!(found["bounding"], "false");
    }
    if has_id(NOBODY) {
        let ids = found["identity"].strip_prefix("changed ").unwrap();
        let (uid, gid) = ids.split_once(':').unwrap();
        assert_ne!(uid, "0");
        assert_eq!(found["uids"], [uid; 3].join(" "));
        assert_eq!(found["gids"], [gid; 3].join(" "));
        is(&found, "groups", 0);
    } else if is_root() {
        assert_eq!(found["identity"], "root its user namespace maps no such id");
    }
    // Ports came with its fourth version.
    let version: i32 = found["landlock"].parse().unwrap();
    let files = ["open", "open secret"].into_iter().filter(|_| version >= 1);
    for key in files.chain(["bind", "connect"].into_iter().filter(|_| version >= 4)) {
        is(&found, key, libc::EACCES);
    }
}

/// The root of a user namespace in which nobody else is.
fn user_namespace() {
    let unshare = || Command::new("unshare");
    if !unshare().args(["-Ur", "true"]).status().is_ok_and(|status| status.success()) {
        return;
    }
    let found = run(unshare().arg("-Ur").arg(std::env::current_exe().unwrap()), "rights");
    assert_eq!(found["identity"], "root its user namespace maps no such id");
    assert_eq!((found["uids"].as_str(), found["bounding"].as_str()), ("0 0 0", "false"));
    is(&found, "capabilities", 0);
    is(&found, "new privileges", 1);
}

fn parents_death() {
    is(&child("rights"), "parents death", libc::SIGUSR1);
}

fn every_thread() {
    let found = child("threads");
    for number in 0..3 {
        is(&found, &format!("thread {number}"), libc::EPERM);
    }
    let count: usize = found["count"].parse().unwrap();
    assert!((20..50).contains(&count), "{count} system calls");
}

fn modes() {
    let accepted = |found: &Found, keys: &[&str]| keys.iter().for_each(|key| is(found, key, 0));
    let refused = |found: &Found, keys: &[&str]| {
        for key in keys {
            let codes = [libc::EPERM, libc::EACCES].map(|code| code.to_string());
            assert!(codes.contains(&found[*key]), "{key}: {}", found[*key]);
        }
    };
    let forward = child("forward");
    accepted(&forward, &["accept", "keep alive", "no delay", "error", "own abort"]);
    refused(&forward, &["time to live", "broadcast", "thread", "connect", "read a name", "read more", "write"]);
    refused(&forward, &["socket", "executable map"]);
    let client = child("client");
    accepted(&client, &["thread", "own abort"]);
    refused(&client, &["accept", "keep alive", "no delay", "connect", "read a name", "write", "socket"]);
    refused(&client, &["executable map", "sendto", "fcntl"]);
    let helper = child("helper");
    accepted(&helper, &["thread", "connect", "read a name", "socket", "own abort"]);
    let version: i32 = helper["landlock"].parse().unwrap();
    if version >= 4 {
        refused(&helper, &["connect elsewhere", "read more", "write"]);
    }
    // Whose flags no filter sees is not there, for those who start threads.
    is(&client, "clone3", libc::ENOSYS);
    is(&helper, "clone3", libc::ENOSYS);
    for found in [&forward, &client, &helper] {
        refused(found, &["execve", "packet socket", "crypto socket", "diag socket", "open secret", "ptrace", "mount"]);
        refused(found, &["bpf", "kill", "tgkill", "fork", "unshare", "ioctl", "prctl"]);
    }
}

fn executable() {
    let found = child("executable");
    is(&found, "write", 0);
    is(&found, "map", 0);
    is(&found, "execute", libc::EPERM);
    is(&found, "map executable", libc::EPERM);
}

fn descriptors() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 7</dev/null 8</dev/null; exec \"$0\""]).arg(std::env::current_exe().unwrap());
    let found = run(&mut shell, "descriptors");
    assert_eq!((found["found"].as_str(), found["open"].as_str(), found["own"].as_str()), ("true", "[7]", "true"));
}

fn too_late() {
    assert!(child("late")["refused"].contains("there are 2 threads"));
}

fn impossible_users() {
    let found = child("users");
    let said = if is_root() { "no user \"nobody-of-this-name\"" } else { "only root becomes another user" };
    assert!(found["nobody-of-this-name"].contains(said), "{found:?}");
    assert_eq!(found["4000000000"] == "accepted", has_id(4_000_000_000), "{found:?}");
}

fn lacking() {
    let found = child("old kernel");
    assert_eq!(found["files"], "landlock is missing (this kernel does not have it)");
    assert!(found["calls"].starts_with("seccomp is missing (Function not implemented"), "{found:?}");
    // What it has is done all the same.
    is(&found, "capabilities", 0);
}

/// Threads of this process that run an engine's stages, each with the CPUs that it may use.
fn stages() -> Vec<String> {
    let status = |task: std::io::Result<fs::DirEntry>| fs::read_to_string(task.ok()?.path().join("status")).ok();
    let field = |text: &str, name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned)
    };
    let all = fs::read_dir("/proc/self/task").unwrap().filter_map(status);
    let stages = all.filter(|text| field(text, "Name:").is_some_and(|name| name.starts_with("fused-")));
    stages.map(|text| field(&text, "Cpus_allowed_list:").unwrap()).collect()
}

/// A prepared engine has none, for rights to be given up; a started one has all, and each has made its last call of
/// those that are for the beginning.
fn prepared() {
    let (device, _other) = pair(&MemoryOptions::default()).unwrap();
    let cpu = usable_cpus()[0];
    let plan = Plan::new(PlanKind::Fused, Some(1), &Pin::Cpus(vec![cpu]), &usable_cpus(), 1).unwrap();
    let config = EngineConfig::new(vec![[10, 7, 0, 2].into()]);
    let prepared = Engine::prepare(config, plan, Box::new(device), &[]).unwrap();
    assert_eq!(stages(), Vec::<String>::new());
    let engine = prepared.start().unwrap();
    assert_eq!(stages(), [cpu.to_string()]);
    drop(engine);
    assert_eq!(stages(), Vec::<String>::new());
}
