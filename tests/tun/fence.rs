//! The fence around the command: what the kernel says of every thread of it, and that all works behind it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::fetch::{Directory, Killed};
use crate::forward::loopback;
use crate::iperf::Iperf;
use crate::lifecycle::refusal;
use crate::support::*;

const TRUST: &str = env!("CARGO_BIN_EXE_trust");

/// Whether this is a root who can become nobody.
pub(crate) fn can_change_user() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let count = |line: &str| line.split_whitespace().nth(2).unwrap().parse::<u64>().unwrap();
    // SAFETY: no memory is involved.
    unsafe { libc::geteuid() == 0 && map.lines().any(|line| count(line) > 65_534) }
}

/// What a thread's status says, by its first word.
struct Status(String);

impl Status {
    fn field(&self, name: &str) -> &str {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.0)).trim()
    }

    fn uids(&self) -> Vec<&str> {
        self.field("Uid").split_whitespace().collect()
    }
}

/// Of every thread of a process, but for those that are just ending.
fn threads(pid: u32) -> Vec<Status> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("status")).ok().map(Status)
    };
    let threads: Vec<_> = tasks.filter_map(status).collect();
    assert!(!threads.is_empty(), "process {pid} has ended");
    threads
}

/// The only child of a process that has this name.
fn child_named(pid: u32, name: &str) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let named =
        |child: &&str| std::fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm.trim() == name);
    let children: Vec<_> = children.split_whitespace().filter(named).map(|child| child.parse().unwrap()).collect();
    assert_eq!(children.len(), 1, "{name}: {children:?}");
    children[0]
}

/// The helper of an engine.
fn child(pid: u32) -> u32 {
    child_named(pid, "trust-helper")
}

/// Who removes the control socket may do nothing else, and stays who started it.
fn keeper_is_fenced_in(engine: u32) {
    for thread in threads(child_named(engine, "trust-keeper")) {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(thread.field(set), "0000000000000000", "{set} in {}", thread.0);
        }
        assert_eq!((thread.field("NoNewPrivs"), thread.field("Seccomp")), ("1", "2"), "{}", thread.0);
    }
}

/// No thread has any right left.
fn is_fenced_in(pid: u32) {
    for thread in threads(pid) {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(thread.field(set), "0000000000000000", "{set} in {}", thread.0);
        }
        assert_eq!((thread.field("NoNewPrivs"), thread.field("Seccomp")), ("1", "2"), "{}", thread.0);
        if can_change_user() {
            assert!(thread.uids().iter().all(|uid| *uid != "0"), "{}", thread.0);
            assert!(thread.field("Gid").split_whitespace().all(|gid| gid != "0"), "{}", thread.0);
            assert_eq!(thread.field("Groups"), "", "{}", thread.0);
            assert_eq!(thread.field("CapBnd"), "0000000000000000");
        }
    }
}

fn around(plan: &str) -> Outcome {
    need(&["nc", "curl", "iperf3", "ip"])?;
    let engine = Engine::start(&["--plan", plan, "--service", "echo-sockets:1007", "--log", "connections"]);
    // Those of the plan, the application's, those for signals, the control socket, standard output and standard error, and
    // the main one.
    let planned = engine.banner.matches(" -> ").count() / 2;
    assert_eq!(threads(engine.pid()).len(), planned + 6, "{}", engine.banner);
    is_fenced_in(engine.pid());
    keeper_is_fenced_in(engine.pid());
    let line = engine.banner.lines().find(|line| line.starts_with("fence: ")).unwrap();
    assert!(line.contains("no capabilities") && line.contains("system calls (seccomp)"), "{line}");

    echo_exact(30, &noise(3_000_000, 61));
    assert!(must(10, "nc", &["-d", "10.7.0.2", "13"]).ends_with("-UTC\r\n"));
    let page = must(10, "curl", &["-sSf", "http://10.7.0.2/"]);
    assert!(page.starts_with("trust "), "{page}");
    assert_eq!(must(10, "curl", &["-sSf", "http://10.7.0.2/bytes/3000000"]).len(), 3_000_000);
    let output = pipe(&mut bounded(30, "nc", &["-N", "10.7.0.2", "1007"]), &noise(1_000_000, 62));
    assert_same(&output.stdout, &noise(1_000_000, 62));
    for direction in [&["-R"][..], &["--bidir", "-P", "2"]] {
        Iperf::run(&[&["-t", "1"], direction].concat());
    }
    is_fenced_in(engine.pid());
    assert!(!engine.output().contains("WARN fence"), "{}", engine.output());
    engine.await_stats("all connections end", Duration::from_secs(10), |now| now.connections == 0);
    // The end needs rights, too: to tell, and to take the device away.
    let summary = engine.finish();
    assert!(summary.text.starts_with("served "), "{}", summary.text);
    assert!(!must(5, "ip", &["-o", "link"]).contains("trust0"));
    Ok(())
}

pub(crate) fn around_fused() -> Outcome {
    around("fused")
}

pub(crate) fn around_pipeline() -> Outcome {
    around("pipeline")
}

/// The old state, which is that of whoever starts it, and a line that says what that means.
pub(crate) fn off() -> Outcome {
    let engine = Engine::start(&["--sandbox", "off"]);
    let ours = Status(std::fs::read_to_string("/proc/thread-self/status").unwrap());
    for thread in threads(engine.pid()) {
        for field in ["NoNewPrivs", "Seccomp", "Uid", "Gid", "CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(thread.field(field), ours.field(field), "{field} in {}", thread.0);
        }
    }
    let line = engine.banner.lines().find(|line| line.starts_with("fence: ")).unwrap();
    assert!(line.starts_with("fence: off: ") && line.contains("every system call"), "{line}");
    echo_exact(10, b"as ever");
    engine.finish();
    Ok(())
}

/// A name server on 127.0.0.1 that knows these names.
struct NameServer<'a> {
    names: &'a [(&'a str, [u8; 4])],
    directory: Directory,
}

impl<'a> NameServer<'a> {
    fn new(directory: &str, names: &'a [(&'a str, [u8; 4])]) -> Self {
        let directory = Directory::new(directory);
        std::fs::write(directory.path("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:5\n").unwrap();
        std::fs::write(directory.path("nsswitch.conf"), "hosts: dns\n").unwrap();
        Self { names, directory }
    }

    /// Answers while `act` runs; how many it has answered.
    fn while_it_runs(&self, act: impl FnOnce()) -> Result<usize, String> {
        let socket = UdpSocket::bind("127.0.0.1:53").map_err(|error| format!("port 53: {error}"))?;
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let stop = AtomicBool::new(false);
        Ok(thread::scope(|scope| {
            let serving = scope.spawn(|| {
                let mut answered = 0;
                while !stop.load(Ordering::Relaxed) {
                    let mut question = [0; 512];
                    if let Ok((len, from)) = socket.recv_from(&mut question) {
                        socket.send_to(&self.answer(&question[..len]), from).unwrap();
                        answered += 1;
                    }
                }
                answered
            });
            // Also when it panics, or the scope would wait for ever.
            let stopping = Stopping(&stop);
            act();
            drop(stopping);
            serving.join().unwrap()
        }))
    }

    /// RFC 1035: the header, the question again, and one address where the question was for one (4.1).
    fn answer(&self, question: &[u8]) -> Vec<u8> {
        let (mut name, mut at) = (Vec::new(), 12);
        while question[at] != 0 {
            let label = &question[at + 1..at + 1 + usize::from(question[at])];
            name.push(String::from_utf8_lossy(label).into_owned());
            at += 1 + label.len();
        }
        let end = at + 5;
        let wants_ipv4 = question[at + 1..end] == [0, 1, 0, 1];
        let known = self.names.iter().find(|(known, _)| *known == name.join("."));
        let address = known.filter(|_| wants_ipv4).map(|(_, address)| address);
        let code = if known.is_some() { 0x80 } else { 0x83 };
        let mut answer = question[..2].to_vec();
        answer.extend([0x81, code, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
        answer.extend(&question[12..end]);
        if let Some(address) = address {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            answer.extend(address);
        }
        answer
    }

    /// `trust` with these arguments, in a mount namespace where it is this server that is asked.
    fn trust(&self, arguments: &[&str]) -> Command {
        let script = "mount --bind \"$1/resolv.conf\" /etc/resolv.conf && mount --bind \"$1/nsswitch.conf\" \
                      /etc/nsswitch.conf && shift && exec \"$0\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, TRUST]).arg(&self.directory.0).args(arguments);
        command
    }
}

struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whoever connects, soon and with something to say.
fn accept(listener: &TcpListener) -> TcpStream {
    const SOON: Duration = Duration::from_secs(20);
    listener.set_nonblocking(true).unwrap();
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_read_timeout(Some(SOON)).unwrap();
                return stream;
            }
            Err(error) if start.elapsed() > SOON => panic!("nobody connects: {error}"),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Who connects there hears of a reset, before connect(2) has returned or behind it.
fn is_reset(address: &str) {
    let stream = TcpStream::connect(address).and_then(|stream| {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        (&stream).read(&mut [0])
    });
    assert_eq!(stream.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

/// A host that has only a name, both ways; and a helper that does the asking behind a fence of its own.
pub(crate) fn forward_by_name() -> Outcome {
    need(&["unshare", "mount", "sh", "ip"])?;
    loopback();
    let server = NameServer::new("names", &[("kernel.test", [127, 0, 0, 1]), ("beside.test", [10, 7, 0, 1])]);
    let listener = listen(5_000);
    let services = ["--service", "forward:6000=kernel.test:5000", "--service", "reverse:6001=beside.test:5000"];
    let wrong = ["--service", "forward:6002=nobody.test:5000"];
    let answered = server.while_it_runs(|| {
        let engine = Engine::spawn(server.trust(&[&["serve", "--stats", "1"], &services[..], &wrong].concat()));
        is_fenced_in(engine.pid());
        let helper = child(engine.pid());
        is_fenced_in(helper);
        // What a terminal sends to all that runs there, to end, is the engine's affair.
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            // SAFETY: no memory is involved, and the engine has not been told to end.
            assert_eq!(unsafe { libc::kill(helper as libc::pid_t, signal) }, 0);
        }
        for way in ["10.7.0.2:6000", "127.0.0.1:6001"] {
            let client = TcpStream::connect(way).unwrap();
            let peer = accept(&listener);
            for (mut from, mut to) in [(&client, &peer), (&peer, &client)] {
                to.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                from.write_all(b"by name").unwrap();
                let mut got = [0; 7];
                to.read_exact(&mut got).unwrap();
                assert_eq!(&got, b"by name", "{way}");
            }
        }
        // What cannot be looked up is said, and its client reset.
        is_reset("10.7.0.2:6002");
        eventually(Duration::from_secs(5), "the log says why", || {
            engine.output().contains("forward:6002=nobody.test:5000: nobody.test: the name cannot be resolved (")
        });
        is_fenced_in(helper);
        // Stopped, it must not keep whoever reads our output from its end.
        assert_eq!(std::fs::read_link(format!("/proc/{helper}/fd/1")).unwrap().to_str(), Some("/dev/null"));
        engine.finish();
        eventually(Duration::from_secs(5), "the helper goes with its engine", || {
            !Path::new(&format!("/proc/{helper}/exe")).exists()
        });
    })?;
    assert!(answered >= 3, "{answered} questions");
    Ok(())
}

/// Who looks names up has its thread from the start: names go on being found where none may be had any more.
pub(crate) fn forward_by_name_without_threads() -> Outcome {
    need(&["unshare", "mount", "sh", "ip", "prlimit", "setpriv"])?;
    if !can_change_user() {
        return Err("there is no user to become".to_owned());
    }
    loopback();
    let server = NameServer::new("threads", &[("kernel.test", [127, 0, 0, 1])]);
    let listener = listen(5_000);
    let words = ["serve", "--stats", "1", "--user", "4322:4322", "--service", "forward:6000=kernel.test:5000"];
    server.while_it_runs(|| {
        let engine = Engine::spawn(server.trust(&words));
        let helper = child(engine.pid()).to_string();
        // As that user: root of a container may lack the right.
        let user = ["--reuid", "4322", "--regid", "4322", "--clear-groups", "prlimit", "--pid", &helper];
        let limit = |soft: &str| must(5, "setpriv", &[&user[..], &[&format!("--nproc={soft}:")]].concat());
        eventually(Duration::from_secs(5), "a thread that looks up", || has_thread(&helper, "resolver"));
        limit("1");
        for _ in 0..2 {
            let client = TcpStream::connect("10.7.0.2:6000").unwrap();
            let peer = accept(&listener);
            drop((client, peer));
        }
        engine.finish();
    })?;
    Ok(())
}

fn has_thread(process: &str, name: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    tasks.into_iter().any(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name))
}

/// A helper that was stopped goes, too, when its engine is killed.
pub(crate) fn stopped_helper() -> Outcome {
    let engine = Engine::start(&["--service", "forward:6000=10.7.0.1:5000"]);
    let helper = child(engine.pid());
    for (process, signal) in [(helper, libc::SIGSTOP), (engine.pid(), libc::SIGKILL)] {
        // SAFETY: no memory is involved, and both are there.
        assert_eq!(unsafe { libc::kill(process as libc::pid_t, signal) }, 0);
    }
    eventually(Duration::from_secs(5), "the helper goes, too", || !Path::new(&format!("/proc/{helper}/exe")).exists());
    Ok(())
}

/// A helper that ends before its engine leaves no zombie; what goes on without it goes on, and the log tells which.
pub(crate) fn without_its_helper() -> Outcome {
    loopback();
    let listener = listen(5_000);
    let services = ["--service", "forward:6000=10.7.0.1:5000", "--service", "reverse:6001=10.7.0.1:5000"];
    let engine = Engine::start(&services);
    let helper = child(engine.pid());
    let opened = TcpStream::connect("10.7.0.2:6000").unwrap();
    let opened = (opened, accept(&listener));
    // SAFETY: no memory is involved, and the helper is there.
    assert_eq!(unsafe { libc::kill(helper as libc::pid_t, libc::SIGKILL) }, 0);
    eventually(Duration::from_secs(5), "nothing is left of it", || !Path::new(&format!("/proc/{helper}")).exists());
    eventually(Duration::from_secs(5), "the log says so", || engine.output().contains("the helper process has ended"));
    let reverse = TcpStream::connect("127.0.0.1:6001").unwrap();
    let reverse = (reverse, accept(&listener));
    for (mut client, mut peer) in [opened, reverse] {
        client.write_all(b"still").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut got = [0; 5];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"still");
    }
    is_reset("10.7.0.2:6000");
    engine.finish();
    Ok(())
}

/// `fetch -L` to a host that nobody had named before.
pub(crate) fn redirected_to_a_name() -> Outcome {
    need(&["unshare", "mount", "sh"])?;
    loopback();
    let server = NameServer::new("redirected", &[("page.test", [10, 7, 1, 1])]);
    let listener = listen(8_000);
    let file = server.directory.path("page");
    std::fs::write(&file, "what was there before, and is longer").unwrap();
    let answered = server.while_it_runs(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                for (host, answer) in [
                    (
                        "10.7.1.1:8000",
                        "302 Found\r\nLocation: http://page.test:8000/there\r\nContent-Length: 0\r\n\r\n",
                    ),
                    ("page.test:8000", "200 OK\r\nContent-Length: 8\r\n\r\nthe page"),
                ] {
                    let mut stream = accept(&listener);
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let mut octet = [0];
                        stream.read_exact(&mut octet).unwrap();
                        head.extend(octet);
                    }
                    let head = String::from_utf8(head).unwrap();
                    assert!(head.contains(&format!("host: {host}\r\n")), "{head}");
                    stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).unwrap();
                }
            });
            let output = server.trust(&["fetch", "-L", "http://10.7.1.1:8000/here", "-o", &file]).output().unwrap();
            assert!(output.status.success(), "{}", describe(&output));
        });
    })?;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "the page");
    assert!(answered >= 1, "{answered} questions");
    Ok(())
}

/// connect and iperf3 while they are at it.
pub(crate) fn clients() -> Outcome {
    let listener = listen(5_000);
    for arguments in [&["connect", "10.7.1.1", "5000"][..], &["iperf3", "-c", "10.7.1.1", "-p", "5000"]] {
        let mut command = Command::new(TRUST);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = Killed(command.spawn().unwrap());
        let mut peer = accept(&listener);
        let pid = child.0.id();
        if arguments[0] == "connect" {
            // Its thread for standard input began behind the fence.
            eventually(Duration::from_secs(5), "there is a thread for input", || {
                threads(pid).iter().any(|thread| thread.field("Name") == "stdin")
            });
        } else {
            // The cookie.
            peer.read_exact(&mut [0; 37]).unwrap();
        }
        is_fenced_in(pid);
    }
    Ok(())
}

pub(crate) fn user() -> Outcome {
    if !can_change_user() {
        return Err("there is no user to become".to_owned());
    }
    let engine = Engine::start(&["--user", "1234:567"]);
    for thread in threads(engine.pid()) {
        assert_eq!(thread.uids(), ["1234"; 4], "{}", thread.0);
        assert_eq!(thread.field("Gid").split_whitespace().collect::<Vec<_>>(), ["567"; 4], "{}", thread.0);
    }
    assert!(engine.banner.contains("fence: user 1234:567, no capabilities"), "{}", engine.banner);
    echo_exact(10, b"as somebody else");
    engine.finish();
    Ok(())
}

/// Nothing is started with half of what was asked for.
pub(crate) fn refusals() -> Outcome {
    need(&["ip"])?;
    let none = if can_change_user() { "no user \"nobody-of-this-name\" is known here" } else { "nobody-of-this-name" };
    for (arguments, said) in [
        (&["--user", "nobody-of-this-name"][..], none),
        (&["--user", "1:2:3"], "not the name or number of a user"),
        (&["--sandbox", "off", "--user", "nobody"], "leave one out"),
        (&["--sandbox", "half"], "it is one of on, off"),
    ] {
        let output = run(10, TRUST, &[&["serve"], arguments].concat());
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", describe(&output));
        assert!(text.lines().count() == 1 && text.contains(said), "{arguments:?}: {text}");
    }
    assert!(!must(5, "ip", &["-o", "link"]).contains("trust0"));
    Ok(())
}

/// Of all that a shell leaves open only the lock stays that is to stay, and beside it is what the engine has opened.
pub(crate) fn descriptors() -> Outcome {
    need(&["sh"])?;
    let directory = Directory::new("descriptors");
    for name in ["lock", "secret"] {
        std::fs::write(directory.path(name), "").unwrap();
    }
    let open = |arguments: &str| {
        let script = format!("exec 7<\"$1/secret\" 9<\"$1/lock\" && exec \"$0\" serve --stats 1 {arguments}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, TRUST]).arg(&directory.0);
        let engine = Engine::spawn(command);
        let all = std::fs::read_dir(format!("/proc/{}/fd", engine.pid())).unwrap();
        let all: Vec<_> = all.map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap()).collect();
        engine.finish();
        all
    };
    let has = |all: &[PathBuf], name: &str| all.contains(&directory.0.join(name));
    let fenced = open("--hold 9");
    assert!(has(&fenced, "lock") && !has(&fenced, "secret"), "{fenced:?}");
    let files = ["/dev/null", "/dev/net/tun"].map(PathBuf::from);
    let strange = |path: &&PathBuf| path.is_absolute() && !files.contains(path) && **path != directory.0.join("lock");
    assert_eq!(fenced.iter().find(strange), None, "{fenced:?}");
    // Of sockets there is the pair that signals write to, the control socket, the way to its keeper, and the one that is told
    // of the device's MTU.
    let sockets = fenced.iter().filter(|path| path.to_string_lossy().starts_with("socket:")).count();
    assert_eq!(sockets, 5, "{fenced:?}");
    assert!(!has(&open(""), "lock"));
    let all = open("--sandbox off");
    assert!(has(&all, "lock") && has(&all, "secret"), "{all:?}");
    Ok(())
}

/// On a kernel without either, here by a filter of the test's own, it goes on with the rest and names what is missing.
pub(crate) fn old_kernel() -> Outcome {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    // Without bpf(2) a warning comes before rights are given up, when no thread may be there to write it.
    let calls = [libc::SYS_seccomp, libc::SYS_landlock_create_ruleset, libc::SYS_bpf].map(|call| (call, Vec::new()));
    let absent = SeccompAction::Errno(libc::ENOSYS as u32);
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(calls.into(), SeccompAction::Allow, absent, architecture).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    let mut command = Command::new(TRUST);
    command.args(["serve", "--stats", "1"]);
    // SAFETY: system calls only, fit for the moment between fork and exec.
    unsafe {
        command.pre_exec(move || seccompiler::apply_filter(&filter).map_err(|_| std::io::ErrorKind::Other.into()))
    };
    let engine = Engine::spawn(command);
    let warnings = || -> Vec<String> {
        engine.output().lines().filter(|line| line.contains("WARN fence: ")).map(str::to_owned).collect()
    };
    eventually(Duration::from_secs(5), "there are two warnings", || warnings().len() == 2);
    for (what, line) in ["landlock is missing", "seccomp is missing"].iter().zip(warnings()) {
        assert!(line.contains(what), "{line}");
    }
    let said = engine.banner.lines().find(|line| line.starts_with("fence: ")).unwrap();
    assert!(said.ends_with("no capabilities, no new privileges"), "{said}");
    for thread in threads(engine.pid()) {
        assert_eq!(thread.field("CapEff"), "0000000000000000", "{}", thread.0);
    }
    echo_exact(10, b"without a fence of the kernel's");
    engine.finish();
    Ok(())
}

/// A process that is killed when its test fails.
struct Orphan(u32);

impl Drop for Orphan {
    fn drop(&mut self) {
        // SAFETY: no memory is involved. It has not been seen to end.
        unsafe { libc::kill(self.0 as libc::pid_t, libc::SIGKILL) };
    }
}

/// The kernel forgets on a change of the user that a process is to end with its parent; we do not.
pub(crate) fn parents_death() -> Outcome {
    need(&["sh", "setpriv", "ip"])?;
    // Asked for by whoever starts it, and by itself.
    for line in ["setpriv --pdeathsig KILL \"$0\" serve & wait", "\"$0\" --parent $$ serve & wait"] {
        let mut command = Command::new("sh");
        command.args(["-c", line, TRUST]);
        let mut shell = Engine::spawn(command);
        let orphan = Orphan(child_named(shell.pid(), "trust"));
        is_fenced_in(orphan.0);
        shell.signal(libc::SIGKILL);
        let link = || must(5, "ip", &["-o", "link"]);
        eventually(Duration::from_secs(5), "the device goes with the shell", || !link().contains("trust0"));
        std::mem::forget(orphan);
        assert!(!shell.wait(Duration::from_secs(5)).success());
    }
    let text = refusal(TRUST, &["--parent", "4000000", "serve"], 1);
    assert!(text.contains("--parent 4000000: that is not our parent"), "{text}");
    Ok(())
}
