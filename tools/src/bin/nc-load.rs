//! `nc-load`: many stock `nc -N` clients at once against an echo service, each with random data of its own, compared
//! octet by octet on the way back.
//!
//! All clients are started first, so that their connections stand at the same time; then all data is let go. Data is
//! generated and checked as it flows: a thousand clients cost two pipes each, not two copies of their data.
//! `--kill K` kills K of them by SIGKILL in the middle of their transfer and asks only the others to be exact.

use clap::Parser;
use mio::unix::pipe::{Receiver, Sender};
use mio::{Events, Interest, Poll, Token};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::FromRawFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use trust_tools::arguments;
use trust_tools::sys::{self, Limit};

/// Many stock nc clients at once against an echo service, compared octet by octet.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address of the echo service
    host: String,
    /// Its port
    port: u16,
    /// Clients
    #[arg(value_parser = at_least_one::<usize>)]
    clients: usize,
    /// Octets each client sends and expects back
    #[arg(default_value_t = 100_000, value_parser = at_least_one::<u64>)]
    bytes: u64,
    /// Kill this many clients by SIGKILL midway: fewer than there are
    #[arg(long, default_value_t = 0)]
    kill: usize,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 120)]
    timeout: u64,
    /// The nc to run: it must know -N, as OpenBSD's does
    #[arg(long, default_value = "nc")]
    nc: String,
    /// Seed of the data (default: a fresh one, printed)
    #[arg(long)]
    seed: Option<u64>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// A number from 1: with none of something there would be nothing to compare.
fn at_least_one<T: std::str::FromStr + PartialEq + Default>(text: &str) -> Result<T, String> {
    text.parse().ok().filter(|n| *n != T::default()).ok_or_else(|| "not a whole number from 1".to_owned())
}

/// What of `--kill` makes no sense, if anything.
fn misused(a: &Arguments) -> Option<String> {
    if a.kill >= a.clients && a.kill > 0 {
        return Some(format!("--kill {}: must be less than the number of clients, {}", a.kill, a.clients));
    }
    (a.kill > 0 && a.bytes < 4).then(|| format!("--kill: {} octets each have no midway; use 4 or more", a.bytes))
}

/// A reproducible stream of random octets (splitmix64: any seed is good, also neighbouring ones).
#[derive(Clone)]
struct Noise {
    state: u64,
    word: [u8; 8],
    used: usize,
}

impl Noise {
    fn new(seed: u64) -> Self {
        Self { state: seed, word: [0; 8], used: 8 }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn fill(&mut self, out: &mut [u8]) {
        let mut rest = out;
        while !rest.is_empty() {
            if self.used == 8 {
                self.word = self.next().to_le_bytes();
                self.used = 0;
            }
            let n = rest.len().min(8 - self.used);
            let (now, later) = rest.split_at_mut(n);
            now.copy_from_slice(&self.word[self.used..self.used + n]);
            self.used += n;
            rest = later;
        }
    }
}

const BLOCK: usize = 16 * 1024;

/// How a client ended, or what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Running,
    Exact,
    Killed,
    Failed(String),
}

struct Client {
    child: Child,
    stdin: Option<Sender>,
    stdout: Option<Receiver>,
    outgoing: Noise,
    block: Vec<u8>,
    block_at: usize,
    sent: u64,
    expected: Noise,
    got: u64,
    /// Killed once this much has come back. Until then it is given no more than twice that, so it cannot finish.
    kill_at: Option<u64>,
    fate: Fate,
    took: Duration,
}

impl Client {
    /// Starts nc, which connects at once and then waits for data.
    fn start(a: &Arguments, seed: u64, errors: &File, kill_at: Option<u64>) -> io::Result<Self> {
        let mut command = Command::new(&a.nc);
        // -v: without it nc does not say why it could not connect.
        command.arg("-v").arg("-N").arg(&a.host).arg(a.port.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors.try_clone()?);
        let mut child = sys::die_with_parent(&mut command).spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("no pipe to the client"));
        };
        let (stdin, stdout) = (Sender::from(stdin), Receiver::from(stdout));
        stdin.set_nonblocking(true)?;
        stdout.set_nonblocking(true)?;
        Ok(Self {
            child,
            stdin: Some(stdin),
            stdout: Some(stdout),
            outgoing: Noise::new(seed),
            block: Vec::new(),
            block_at: 0,
            sent: 0,
            expected: Noise::new(seed),
            got: 0,
            kill_at,
            fate: Fate::Running,
            took: Duration::ZERO,
        })
    }

    /// Gives nc as much as its pipe takes; closes the pipe after the last octet, which makes `nc -N` send its FIN.
    fn feed(&mut self, total: u64) {
        let limit = self.kill_at.map_or(total, |at| (at * 2).min(total - 1));
        while let Some(stdin) = &mut self.stdin {
            if self.block_at == self.block.len() {
                let left = limit - self.sent;
                if left == 0 {
                    if self.kill_at.is_none() {
                        self.stdin = None;
                    }
                    return;
                }
                self.block.resize(usize::try_from(left).unwrap_or(BLOCK).min(BLOCK), 0);
                self.outgoing.fill(&mut self.block);
                self.block_at = 0;
            }
            match stdin.write(&self.block[self.block_at..]) {
                Ok(n) => {
                    self.block_at += n;
                    self.sent += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // nc is gone; its exit status and what came back tell why.
                Err(_) => self.stdin = None,
            }
        }
    }

    /// Compares what nc printed. Ends the client at end of stream, at the first wrong octet, or when it is to be killed.
    fn check(&mut self, total: u64, got: &mut [u8], expected: &mut [u8]) {
        while let Some(stdout) = &mut self.stdout {
            match stdout.read(got) {
                Ok(0) => {
                    let fate = match self.child.wait() {
                        Ok(s) if s.success() && self.got == total => Fate::Exact,
                        Ok(s) if s.success() => Fate::Failed(format!("only {} of {total} octets came back", self.got)),
                        Ok(s) => Fate::Failed(format!("nc: {s}, {} of {total} octets came back", self.got)),
                        Err(e) => Fate::Failed(format!("wait: {e}")),
                    };
                    self.end(fate);
                }
                Ok(n) => {
                    self.expected.fill(&mut expected[..n]);
                    if let Some(wrong) = (0..n).find(|&i| got[i] != expected[i]) {
                        let at = self.got + wrong as u64;
                        self.kill(Fate::Failed(format!("octet {at} came back wrong")));
                        return;
                    }
                    self.got += n as u64;
                    if self.got > total {
                        self.kill(Fate::Failed(format!("more than {total} octets came back")));
                    } else if self.kill_at.is_some_and(|at| self.got >= at) {
                        self.kill(Fate::Killed);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => self.kill(Fate::Failed(format!("read from nc: {e}"))),
            }
        }
    }

    fn kill(&mut self, fate: Fate) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.end(fate);
    }

    fn end(&mut self, fate: Fate) {
        self.fate = fate;
        self.stdin = None;
        self.stdout = None;
    }
}

fn random_seed() -> io::Result<u64> {
    let mut seed = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(u64::from_ne_bytes(seed))
}

/// A nameless file in memory, shared by the clients, for what they complain of.
fn nameless_file() -> io::Result<File> {
    // SAFETY: the name is a C string literal; a descriptor that is returned belongs to nobody else yet.
    unsafe {
        let fd = libc::memfd_create(c"complaints".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(File::from_raw_fd(fd)) }
    }
}

struct Outcome {
    seed: u64,
    clients: Vec<Client>,
    start: Duration,
    wall: Duration,
    complaints: String,
}

fn load(a: &Arguments) -> io::Result<Outcome> {
    // Two pipes a client, and a few descriptors of our own.
    let files = sys::raise_limit(Limit::OpenFiles)?;
    let _ = sys::raise_limit(Limit::Processes);
    let needed = 2 * a.clients as u64 + 64;
    if files < needed {
        let text = format!("{} clients need {needed} open files, allowed are {files} (ulimit -Hn)", a.clients);
        return Err(io::Error::other(text));
    }
    let seed = a.seed.map_or_else(random_seed, Ok)?;
    let mut errors = nameless_file()?;
    let mut dice = Noise::new(!seed);
    let began = Instant::now();
    let mut clients = Vec::with_capacity(a.clients);
    for index in 0..a.clients {
        // Victims are spread over the crowd, and die somewhere in the second quarter of their transfer.
        let victim = (index + 1) * a.kill / a.clients > index * a.kill / a.clients;
        let kill_at = victim.then(|| a.bytes / 4 + dice.next() % (a.bytes / 4)).map(|at| at.max(1));
        let client =
            Client::start(a, seed.wrapping_add(index as u64).wrapping_mul(0x2545_f491_4f6c_dd1d), &errors, kill_at)
                .map_err(|e| io::Error::new(e.kind(), format!("{} number {}: {e}", a.nc, index + 1)))?;
        clients.push(client);
    }
    let start = began.elapsed();

    let mut poll = Poll::new()?;
    for (index, client) in clients.iter_mut().enumerate() {
        if let (Some(stdin), Some(stdout)) = (&mut client.stdin, &mut client.stdout) {
            poll.registry().register(stdin, Token(2 * index), Interest::WRITABLE)?;
            poll.registry().register(stdout, Token(2 * index + 1), Interest::READABLE)?;
        }
    }
    let let_go = Instant::now();
    let end = let_go + Duration::from_secs(a.timeout);
    let mut events = Events::with_capacity(1024);
    let (mut got, mut expected) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut running = clients.len();
    while running > 0 {
        let now = Instant::now();
        if now >= end {
            break;
        }
        match poll.poll(&mut events, Some((end - now).min(Duration::from_secs(1)))) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
        for event in &events {
            let client = &mut clients[event.token().0 / 2];
            if client.fate != Fate::Running {
                continue;
            }
            if event.token().0 % 2 == 0 {
                client.feed(a.bytes);
            } else {
                client.check(a.bytes, &mut got, &mut expected);
            }
            if client.fate != Fate::Running {
                client.took = let_go.elapsed();
                running -= 1;
            }
        }
    }
    for client in clients.iter_mut().filter(|c| c.fate == Fate::Running) {
        let text = format!("not done after {} s: {} octets in, {} back", a.timeout, client.sent, client.got);
        client.took = let_go.elapsed();
        client.kill(Fate::Failed(text));
    }
    let wall = let_go.elapsed();
    let mut complaints = String::new();
    errors.rewind()?;
    errors.read_to_string(&mut complaints)?;
    Ok(Outcome { seed, clients, start, wall, complaints })
}

fn report(a: &Arguments, outcome: &Outcome) -> bool {
    let count = |fate: &Fate| outcome.clients.iter().filter(|c| c.fate == *fate).count();
    let (exact, killed) = (count(&Fate::Exact), count(&Fate::Killed));
    let failed = outcome.clients.len() - exact - killed;
    let mut times: Vec<f64> =
        outcome.clients.iter().filter(|c| c.fate == Fate::Exact).map(|c| c.took.as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get((times.len().saturating_sub(1)) * part / 100).copied().unwrap_or(0.0);
    let wall = outcome.wall.as_secs_f64();
    let moved: u64 = outcome.clients.iter().map(|c| c.got).sum();
    if a.json {
        println!(
            "{}",
            serde_json::json!({"clients": outcome.clients.len(), "bytes": a.bytes, "exact": exact, "killed": killed,
                "failed": failed, "seed": outcome.seed, "start_s": outcome.start.as_secs_f64(), "wall_s": wall,
                "min_s": at(0), "median_s": at(50), "max_s": at(100), "gbit_per_s": moved as f64 * 8.0 / wall / 1e9})
        );
    } else {
        println!(
            "{} clients x {} octets: {exact} exact, {failed} failed{}; starting them took {:.2} s, then the transfer \
             {wall:.2} s ({:.2} Gbit/s each way)",
            outcome.clients.len(),
            a.bytes,
            if a.kill > 0 { format!(", {killed} killed midway") } else { String::new() },
            outcome.start.as_secs_f64(),
            moved as f64 * 8.0 / wall / 1e9
        );
        println!("seconds a client: min {:.3}, median {:.3}, max {:.3}", at(0), at(50), at(100));
    }
    if failed > 0 {
        eprintln!("nc-load: seed {} shows it again; the first failures:", outcome.seed);
        for (index, client) in
            outcome.clients.iter().enumerate().filter(|(_, c)| matches!(c.fate, Fate::Failed(_))).take(5)
        {
            if let Fate::Failed(why) = &client.fate {
                eprintln!("  client {}: {why}", index + 1);
            }
        }
        let complaints = outcome.complaints.lines().filter(|line| !line.contains("succeeded"));
        for line in complaints.take(5) {
            eprintln!("  nc says: {line}");
        }
    }
    failed == 0 && killed == a.kill
}

fn main() -> ExitCode {
    let arguments = arguments::parse::<Arguments>();
    if let Some(why) = misused(&arguments) {
        eprintln!("nc-load: {why}");
        return ExitCode::from(2);
    }
    match load(&arguments) {
        Ok(outcome) if report(&arguments, &outcome) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("nc-load: {e}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn loads_that_would_compare_nothing_are_refused() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        for line in ["nc-load h 7 0", "nc-load h 7 5 0", "nc-load h 7 x"] {
            assert!(parse(line).is_err(), "{line}");
        }
        for line in ["nc-load h 7 5 --kill 5", "nc-load h 7 5 --kill 10", "nc-load h 7 5 3 --kill 1"] {
            assert!(misused(&parse(line).unwrap()).is_some(), "{line}");
        }
        for line in ["nc-load h 7 5", "nc-load h 7 5 1", "nc-load h 7 5 4 --kill 4"] {
            assert!(misused(&parse(line).unwrap()).is_none(), "{line}");
        }
    }

    #[test]
    fn noise_does_not_depend_on_the_pieces_it_is_taken_in() {
        let mut whole = vec![0; 1000];
        Noise::new(7).fill(&mut whole);
        let mut pieces = vec![0; 1000];
        let mut noise = Noise::new(7);
        for piece in pieces.chunks_mut(13) {
            noise.fill(piece);
        }
        assert_eq!(whole, pieces);
        let mut other = vec![0; 1000];
        Noise::new(8).fill(&mut other);
        assert_ne!(whole, other);
    }

    #[test]
    fn noise_has_many_values() {
        let mut octets = vec![0; 4096];
        Noise::new(0).fill(&mut octets);
        octets.sort_unstable();
        octets.dedup();
        assert_eq!(octets.len(), 256);
    }

    #[test]
    fn nameless_file_takes_and_returns_text() {
        let mut file = nameless_file().unwrap();
        file.write_all(b"complaint").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "complaint");
    }
}
