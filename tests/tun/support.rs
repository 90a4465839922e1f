//! What the tests share: the engine as a child process, stock programs with a time limit, counters of the namespace.
//!
//! Must not contain: tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The engine.
pub(crate) const ENGINE: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);

/// `Err`: the reason why the test cannot be done here. What fails panics.
pub(crate) type Outcome = Result<(), String>;

/// The full sizes; without it the same tests with smaller ones.
pub(crate) fn soak() -> bool {
    std::env::var_os("TRUST_SOAK").is_some_and(|v| v == "1")
}

/// `regular`, or `full` with `TRUST_SOAK=1`.
pub(crate) fn size(regular: usize, full: usize) -> usize {
    if soak() { full } else { regular }
}

/// Says which of the stock programs are missing.
pub(crate) fn need(programs: &[&str]) -> Outcome {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    for program in programs {
        if !path.split(':').any(|directory| std::path::Path::new(directory).join(program).exists()) {
            return Err(format!("{program} is not installed"));
        }
    }
    Ok(())
}

/// A command that is killed after `limit` seconds at the latest, and with the thread that starts it: also when what is between,
/// `timeout`, is killed first.
pub(crate) fn bounded(limit: u64, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "1", &limit.to_string(), "setpriv", "--pdeathsig", "KILL", program]).args(arguments);
    command.env("PATH", std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin").env("LC_ALL", "C");
    die_with_parent(&mut command);
    command
}

fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl is a bare system call, fit for the moment between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
}

/// Runs a program to its end without input.
pub(crate) fn run(limit: u64, program: &str, arguments: &[&str]) -> Output {
    bounded(limit, program, arguments).stdin(Stdio::null()).output().unwrap()
}

/// Standard output of a program that has to succeed.
pub(crate) fn must(limit: u64, program: &str, arguments: &[&str]) -> String {
    let output = run(limit, program, arguments);
    assert!(output.status.success(), "{program} {arguments:?}: {}", describe(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Both outputs and the status of a program, for messages.
pub(crate) fn describe(output: &Output) -> String {
    let tail = |octets: &[u8]| String::from_utf8_lossy(&octets[octets.len().saturating_sub(1500)..]).into_owned();
    format!("{} (124: out of time)\n{}{}", output.status, tail(&output.stdout), tail(&output.stderr))
}

/// Gives `input` to a program and returns what it says.
pub(crate) fn pipe(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    thread::scope(|scope| {
        // A program that ends early shows in its output and status.
        scope.spawn(move || {
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().unwrap()
    })
}

/// Sends `data` through the echo service with `nc -N` and requires every octet back in place.
pub(crate) fn echo_exact(limit: u64, data: &[u8]) -> Duration {
    let start = Instant::now();
    let output = pipe(&mut bounded(limit, "nc", &["-N", "10.7.0.2", "7"]), data);
    let took = start.elapsed();
    assert!(
        output.status.success(),
        "nc after {took:?}: {} (124: out of time), {} of {} octets came back, {}",
        output.status,
        output.stdout.len(),
        data.len(),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_same(&output.stdout, data);
    took
}

/// Like `assert_eq`, without printing megabytes.
pub(crate) fn assert_same(got: &[u8], expected: &[u8]) {
    if let Some(at) = got.iter().zip(expected).position(|(a, b)| a != b) {
        panic!("octet {at} of {} is wrong", expected.len());
    }
    assert_eq!(got.len(), expected.len(), "octets that came back");
}

/// Octets without a pattern (xorshift64*).
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut octets = Vec::with_capacity(len + 8);
    while octets.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        octets.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    octets.truncate(len);
    octets
}

/// A counter of this namespace by the name `nstat` gives it, like `TcpRetransSegs` or `TcpExtTCPOFOQueue`.
pub(crate) fn nstat(name: &str) -> u64 {
    for file in ["/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"] {
        let text = std::fs::read_to_string(file).unwrap();
        let lines: Vec<_> = text.lines().collect();
        for pair in lines.chunks_exact(2) {
            let (names, values) = (pair[0].split_whitespace(), pair[1].split_whitespace());
            let mut names = names.clone().zip(values);
            let Some((prefix, _)) = names.next() else { continue };
            let prefix = prefix.trim_end_matches(':');
            if let Some((_, value)) = names.find(|(n, _)| name.strip_prefix(prefix) == Some(*n)) {
                // Some, like MaxConn, are negative.
                return value.parse().unwrap_or(0);
            }
        }
    }
    panic!("the kernel has no counter {name}");
}

/// Octets received and sent by an interface of this namespace, as the kernel counts.
pub(crate) fn interface_octets(name: &str) -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    let fields: Vec<u64> = line.unwrap().split_whitespace().map(|field| field.parse().unwrap()).collect();
    (fields[0], fields[8])
}

/// Sets one of the kernel's knobs under `net/ipv4`, in this namespace.
pub(crate) fn sysctl(name: &str, value: &str) -> Outcome {
    std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).map_err(|e| format!("net.ipv4.{name}: {e}"))
}

/// Listens on a port of the kernel's on which another test may have listened a moment ago.
pub(crate) fn listen(port: u16) -> TcpListener {
    let mut listener = None;
    eventually(Duration::from_secs(5), "the port is free", || {
        listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).ok();
        listener.is_some()
    });
    listener.unwrap()
}

/// Calls `check` until it is true; fails after `limit`.
pub(crate) fn eventually(limit: Duration, what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the kernel lets us steer by program; otherwise why not.
pub(crate) fn hash_allowed() -> Outcome {
    let keys = trust::steering::SteeringKeys::from_random([7; 16]);
    match trust::steering::program::load(&keys, 2) {
        Ok(_) => Ok(()),
        Err(e) => Err(format!("--steer hash: {e}")),
    }
}

/// How many CPUs there must be for these many workers.
pub(crate) fn need_cpus(cpus: usize) -> Outcome {
    let usable = trust::engine::usable_cpus().len();
    if usable < cpus { Err(format!("needs {cpus} CPUs, there are {usable}")) } else { Ok(()) }
}

/// What a shard said about itself in a line of `--stats`.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShardStats {
    pub(crate) connections: u64,
    pub(crate) chunks: u64,
    pub(crate) held_packets: u64,
    pub(crate) held_octets: u64,
}

/// What the engine said at its end.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    pub(crate) text: String,
}

impl Summary {
    /// The number that stands right before `words`.
    pub(crate) fn number(&self, words: &str) -> f64 {
        number_before(&self.text, words).unwrap_or_else(|| panic!("no number before {words:?} in:\n{}", self.text))
    }

    /// Connections accepted, shard by shard.
    pub(crate) fn accepted_by_shard(&self) -> Vec<u64> {
        let (_, rest) = self.text.split_once("accepted by shard: ").unwrap();
        let (list, _) = rest.split_once(';').unwrap();
        list.split_whitespace().map(|n| n.parse().unwrap()).collect()
    }
}

pub(crate) fn number_before(text: &str, words: &str) -> Option<f64> {
    let (before, _) = text.split_once(words)?;
    let start = before.rfind(|c: char| !c.is_ascii_digit() && c != '.').map_or(0, |at| at + 1);
    before[start..].parse().ok()
}

fn number_after(text: &str, words: &str) -> Option<u64> {
    let (_, after) = text.split_once(words)?;
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// A running `trust serve`. It is killed when this is dropped.
pub(crate) struct Engine {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    /// What it printed before it was ready, `ready:` included.
    pub(crate) banner: String,
}

impl Engine {
    /// `trust serve --stats 1 --drain 0 ARGUMENTS`, ready.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trust"));
        // What a test leaves open is not waited for.
        command.args(["serve", "--stats", "1", "--drain", "0"]).args(arguments);
        Self::spawn(command)
    }

    /// A command that ends up as a `trust serve` in this process, ready.
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        die_with_parent(&mut command);
        let mut child = command.spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let readers = vec![
            collect(child.stdout.take().unwrap(), Arc::clone(&lines)),
            collect(child.stderr.take().unwrap(), Arc::clone(&lines)),
        ];
        let mut engine = Self { child, lines, readers, banner: String::new() };
        let start = Instant::now();
        while engine.banner.is_empty() {
            let text = engine.output();
            if text.lines().any(|line| line.starts_with("ready: ")) {
                engine.banner = text;
            } else if let Some(status) = engine.child.try_wait().unwrap() {
                panic!("trust serve ended before it was ready: {status}\n{}", engine.output());
            } else {
                assert!(start.elapsed() < Duration::from_secs(20), "trust serve is not ready after 20 s:\n{text}");
                thread::sleep(Duration::from_millis(5));
            }
        }
        engine
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed so far.
    pub(crate) fn output(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// What each shard said last; empty before the first line of `--stats`.
    pub(crate) fn stats(&self) -> Vec<ShardStats> {
        let lines = self.lines.lock().unwrap();
        let Some(last) = lines.iter().rposition(|line| line.starts_with('[')) else { return Vec::new() };
        let shards = lines[last + 1..].iter().filter(|line| line.starts_with("  shard "));
        shards
            .map(|line| ShardStats {
                connections: number_after(line, ": connections ").unwrap(),
                chunks: number_after(line, " octets in ").unwrap(),
                held_packets: number_after(line, "held ").unwrap(),
                held_octets: number_after(line, "packets ").unwrap(),
            })
            .collect()
    }

    /// Waits until the figures of `--stats`, all shards together, and newer than this call, are as wanted.
    pub(crate) fn await_stats(&self, what: &str, limit: Duration, wanted: impl Fn(&ShardStats) -> bool) {
        let count = || self.lines.lock().unwrap().iter().filter(|line| line.starts_with('[')).count();
        let before = count();
        let shards = self.banner.matches("worker (shard").count();
        // The lines of a new report may not be there yet, or have been in the making when we came.
        eventually(limit, what, || count() > before && self.stats().len() == shards && wanted(&self.total()));
    }

    fn total(&self) -> ShardStats {
        self.stats().iter().fold(ShardStats::default(), |sum, shard| ShardStats {
            connections: sum.connections + shard.connections,
            chunks: sum.chunks + shard.chunks,
            held_packets: sum.held_packets + shard.held_packets,
            held_octets: sum.held_octets + shard.held_octets,
        })
    }

    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: the child has not been waited for, so the number is still its own.
        unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < limit, "trust serve has not ended after {limit:?}:\n{}", self.output());
            thread::sleep(Duration::from_millis(5));
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        status
    }

    /// Ends it with a signal: exit code 0, the summary last.
    pub(crate) fn end_by(mut self, signal: i32) -> Summary {
        assert!(self.child.try_wait().unwrap().is_none(), "trust serve has ended by itself:\n{}", self.output());
        self.signal(signal);
        let status = self.wait(Duration::from_secs(10));
        let text = self.output();
        assert!(status.success(), "{status}:\n{text}");
        assert!(!text.contains("panicked"), "{text}");
        let summary = text.rfind("served ").unwrap_or_else(|| panic!("no summary:\n{text}"));
        Summary { text: text[summary..].to_owned() }
    }

    /// Ends it with TERM.
    pub(crate) fn finish(self) -> Summary {
        self.end_by(libc::SIGTERM)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
            // A test failed: what the engine said may tell why.
            let text = self.output();
            let lines: Vec<_> = text.lines().collect();
            eprintln!("trust serve said at last:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}

fn collect(from: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            lines.lock().unwrap().push(line);
        }
    })
}

/// Allows this process (and those it starts) so many open files more.
pub(crate) fn raise_open_files(more: u64) -> Outcome {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place to write to.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let wanted = limit.rlim_max.min(65_536);
    if wanted < 2 * more {
        return Err(format!("needs {} open files, allowed are {} (ulimit -Hn)", 2 * more, limit.rlim_max));
    }
    limit.rlim_cur = limit.rlim_cur.max(wanted);
    // SAFETY: `limit` is valid and only read.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    Ok(())
}
