//! The measuring client: one thread, kernel sockets, readiness by mio. What it measures:
//!
//! * bulk: `flows` connections that write (against discard), read (from chargen) or both (against echo) as fast as they can;
//! * request/response: `connections` open connections with one request under way on each (against echo);
//! * connections: `concurrency` at a time, each connect, one byte, one byte back, close (against echo).
//!
//! Only the time after the warm-up counts. No engine code here: the client must be the same whatever it talks to.

use crate::sys;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const POLL_PATIENCE: Duration = Duration::from_millis(100);
/// Latencies above this are recorded as this.
const LONGEST_NS: u64 = 60_000_000_000;

/// When a measurement begins to count and when it ends.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Time after the connections stand that is not counted.
    pub warmup: Duration,
    /// Time that is counted.
    pub length: Duration,
    /// Processes whose CPU time in that time is reported beside the client's own.
    pub watched: &'static [u32],
}

/// CPU seconds that counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuSeconds {
    /// Of this process, the client.
    pub client: f64,
    /// Of all processes watched; `None`: one of them has ended.
    pub watched: Option<f64>,
    /// Of the kernel's threads for network work that was put off.
    pub softirq: f64,
}

impl CpuSeconds {
    fn since(self, before: Self) -> Self {
        let watched = self.watched.zip(before.watched).map(|(now, then)| now - then);
        Self { client: self.client - before.client, watched, softirq: self.softirq - before.softirq }
    }

    fn json(&self) -> Value {
        json!({"client": self.client, "watched": self.watched, "softirq": self.softirq})
    }
}

/// The moments of a running measurement.
struct Clock {
    counted_from: Instant,
    end: Instant,
    counting: bool,
    watched: &'static [u32],
    softirq: Vec<u32>,
    cpu_before: CpuSeconds,
}

impl Clock {
    fn start(window: Window) -> Self {
        let softirq = if window.watched.is_empty() { Vec::new() } else { sys::softirq_threads() };
        let counted_from = Instant::now() + window.warmup;
        let (end, watched, cpu_before) = (counted_from + window.length, window.watched, CpuSeconds::default());
        Self { counted_from, end, counting: false, watched, softirq, cpu_before }
    }

    fn cpu_now(&self) -> CpuSeconds {
        let sum = |processes: &[u32]| processes.iter().map(|&id| sys::cpu_seconds_of(id)).sum::<Option<f64>>();
        let softirq = sum(&self.softirq).unwrap_or(0.0);
        CpuSeconds { client: sys::cpu_seconds(), watched: sum(self.watched), softirq }
    }

    /// True once: at the first call after the warm-up, when counters are to be reset.
    fn begins(&mut self, now: Instant) -> bool {
        if self.counting || now < self.counted_from {
            return false;
        }
        self.counting = true;
        // Late, on a busy machine: the length stays.
        self.end += now.duration_since(self.counted_from);
        self.counted_from = now;
        self.cpu_before = self.cpu_now();
        true
    }

    /// What begins late ends late, and nothing ends that has not begun.
    fn is_over(&self, now: Instant) -> bool {
        self.counting && now >= self.end
    }

    /// Seconds counted, and the CPU time that went into them.
    fn finish(&self, now: Instant) -> (f64, CpuSeconds) {
        let seconds = now.duration_since(self.counted_from).as_secs_f64().max(1e-9);
        (seconds, self.cpu_now().since(self.cpu_before))
    }
}

/// Which way the bytes of a bulk measurement go, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The client writes.
    Up,
    /// The client reads.
    Down,
    /// The client writes, and reads what comes back; only that counts.
    Echo,
}

impl Direction {
    /// What the mode is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Echo => "echo",
        }
    }
}

/// Result of [`bulk`].
#[derive(Debug, Clone)]
pub struct BulkReport {
    /// Which way.
    pub direction: Direction,
    /// Connections.
    pub flows: usize,
    /// Seconds counted.
    pub seconds: f64,
    /// Payload octets the client's kernel took or gave in that time.
    pub bytes: u64,
    /// Reads or writes that moved something.
    pub calls: u64,
    /// CPU time of both sides.
    pub cpu: CpuSeconds,
}

impl BulkReport {
    /// Payload rate in Gbit/s.
    #[must_use]
    pub fn gigabits(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.seconds / 1e9
    }

    /// The report as one JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({"mode": self.direction.name(), "flows": self.flows, "seconds": self.seconds, "bytes": self.bytes,
               "calls": self.calls,
               "gbit_per_s": self.gigabits(), "cpu_s": self.cpu.json()})
    }
}

/// Result of [`request_response`] and [`connections`].
#[derive(Debug, Clone)]
pub struct LatencyReport {
    /// `rr` or `cr`.
    pub mode: &'static str,
    /// Requests or connections under way at any time.
    pub concurrency: usize,
    /// Seconds counted.
    pub seconds: f64,
    /// Attempts that failed.
    pub failures: u64,
    /// CPU time of both sides.
    pub cpu: CpuSeconds,
    /// Time of each completed round in nanoseconds.
    pub latency: Histogram<u64>,
}

impl LatencyReport {
    /// Rounds completed per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.latency.len() as f64 / self.seconds
    }

    /// A latency quantile (0 to 1) in microseconds.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e3
    }

    /// The report as one JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({"mode": self.mode, "concurrency": self.concurrency, "seconds": self.seconds, "rounds": self.latency.len(),
               "per_s": self.rate(), "failures": self.failures, "cpu_s": self.cpu.json(),
               "p50_us": self.quantile_us(0.5), "p90_us": self.quantile_us(0.9), "p99_us": self.quantile_us(0.99),
               "p999_us": self.quantile_us(0.999), "max_us": self.latency.max() as f64 / 1e3})
    }
}

fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(100, LONGEST_NS, 3).map_err(io::Error::other)
}

fn record(latency: &mut Histogram<u64>, elapsed: Duration) {
    latency.saturating_record(u64::try_from(elapsed.as_nanos()).unwrap_or(LONGEST_NS).min(LONGEST_NS));
}

/// Connects, waiting for the handshake, and registers the stream under `token`.
fn open(poll: &Poll, to: SocketAddr, token: usize, interest: Interest) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, CONNECT_PATIENCE)
        .map_err(|e| io::Error::new(e.kind(), format!("connect {to}: {e}")))?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    sys::register(poll, &stream, Token(token), interest)?;
    Ok(stream)
}

/// `poll`, with a wait cut short by a signal counted as "nothing happened".
fn wait(poll: &mut Poll, events: &mut Events, patience: Duration) -> io::Result<()> {
    match poll.poll(events, Some(patience)) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}

/// Measures bulk transfer over `flows` connections in blocks of `block` octets.
///
/// # Errors
/// A connection cannot be opened, or ends before the measurement does.
pub fn bulk(
    direction: Direction,
    to: SocketAddr,
    flows: usize,
    block: usize,
    window: Window,
) -> io::Result<BulkReport> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let interest = match direction {
        Direction::Up => Interest::WRITABLE,
        Direction::Down => Interest::READABLE,
        Direction::Echo => Interest::READABLE | Interest::WRITABLE,
    };
    let mut streams = (0..flows).map(|i| open(&poll, to, i, interest)).collect::<io::Result<Vec<_>>>()?;
    let mut buffer = vec![0x55_u8; block];
    // Readiness is edge-triggered: a flow stays in line until the kernel says "would block".
    let mut line: VecDeque<usize> = VecDeque::with_capacity(flows);
    let mut in_line = vec![false; flows];
    let (mut bytes, mut calls) = (0_u64, 0_u64);
    let mut clock = Clock::start(window);
    loop {
        // A single flow that is ready needs no look at the others.
        if line.is_empty() || flows > 1 {
            let patience = if line.is_empty() { POLL_PATIENCE } else { Duration::ZERO };
            wait(&mut poll, &mut events, patience)?;
            for event in &events {
                let flow = event.token().0;
                if !std::mem::replace(&mut in_line[flow], true) {
                    line.push_back(flow);
                }
            }
        }
        let now = Instant::now();
        if clock.is_over(now) {
            let (seconds, cpu) = clock.finish(now);
            return Ok(BulkReport { direction, flows, seconds, bytes, calls, cpu });
        }
        if clock.begins(now) {
            (bytes, calls) = (0, 0);
        }
        for _ in 0..line.len() {
            let Some(flow) = line.pop_front() else { break };
            let moved = match direction {
                Direction::Up => streams[flow].write(&buffer),
                Direction::Down => streams[flow].read(&mut buffer),
                Direction::Echo => write_and_read(&mut streams[flow], &mut buffer),
            };
            match moved {
                Ok(0) => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed a bulk connection"));
                }
                Ok(n) => {
                    bytes += n as u64;
                    calls += 1;
                    line.push_back(flow);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => in_line[flow] = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => line.push_back(flow),
                Err(e) => return Err(io::Error::new(e.kind(), format!("bulk connection: {e}"))),
            }
        }
    }
}

/// One write and one read; octets that were read. Would block when neither goes on.
fn write_and_read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let written = stream.write(buffer);
    match (stream.read(buffer), written) {
        (Ok(0), _) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed a bulk connection")),
        // What was written is not back yet: the flow stays in line.
        (Err(e), Ok(_)) if e.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::Interrupted.into()),
        (read, _) => read,
    }
}

/// One connection of the request/response measurement.
struct Caller {
    stream: TcpStream,
    sent: usize,
    got: usize,
    since: Instant,
}

impl Caller {
    /// Writes what is left of the request; what the socket does not take goes at the next writable event.
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        while self.sent < request.len() {
            match self.stream.write(&request[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads towards the end of the response; true when it is complete.
    fn receive(&mut self, size: usize, buffer: &mut [u8]) -> io::Result<bool> {
        while self.got < size {
            match self.stream.read(&mut buffer[..size - self.got]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.got += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}

/// Measures request/response with `size` octets each way; with `spin` the client never sleeps.
///
/// # Errors
/// A connection cannot be opened, or ends before the measurement does.
pub fn request_response(
    to: SocketAddr,
    connections: usize,
    size: usize,
    spin: bool,
    window: Window,
) -> io::Result<LatencyReport> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let request = vec![0x2a_u8; size];
    let mut buffer = vec![0_u8; size];
    let mut callers = (0..connections)
        .map(|i| {
            let stream = open(&poll, to, i, Interest::READABLE | Interest::WRITABLE)?;
            Ok(Caller { stream, sent: 0, got: 0, since: Instant::now() })
        })
        .collect::<io::Result<Vec<_>>>()?;
    let mut latency = histogram()?;
    let mut clock = Clock::start(window);
    for caller in &mut callers {
        caller.since = Instant::now();
        caller.send(&request)?;
    }
    let patience = if spin { Duration::ZERO } else { POLL_PATIENCE };
    loop {
        wait(&mut poll, &mut events, patience)?;
        let now = Instant::now();
        if clock.is_over(now) {
            let (seconds, cpu) = clock.finish(now);
            return Ok(LatencyReport { mode: "rr", concurrency: connections, seconds, failures: 0, cpu, latency });
        }
        if clock.begins(now) {
            latency.reset();
        }
        for event in &events {
            let caller = &mut callers[event.token().0];
            if caller.sent < size {
                caller.send(&request)?;
            }
            // A caller with nothing outstanding does not exist: a complete response is followed by the next request.
            if caller.receive(size, &mut buffer)? {
                let now = Instant::now();
                record(&mut latency, now - caller.since);
                (caller.sent, caller.got, caller.since) = (0, 0, now);
                caller.send(&request)?;
            }
        }
    }
}

/// Local ports handed out in turn, since the kernel's own search slows down over tens of thousands of TIME-WAIT ports.
/// Those of the kernel's ephemeral range are left alone: a port that was bound once is not given to other programs
/// until its TIME-WAIT is over, so a long run would starve whatever is started after it.
struct Ports {
    next: u16,
    ephemeral: RangeInclusive<u16>,
}

impl Ports {
    const FIRST: u16 = 1100;
    const LAST: u16 = u16::MAX;

    /// Begins on a port, or somewhere.
    fn new(first: Option<u16>) -> Self {
        // Two runs one after the other must not begin on the same ports, which are in TIME-WAIT then.
        let spread = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_micros();
        let span = u128::from(Self::LAST - Self::FIRST);
        let next = first.unwrap_or(Self::FIRST + u16::try_from(spread % span).unwrap_or(0)).max(Self::FIRST);
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let mut bounds = range.split_whitespace().map_while(|word| word.parse::<u16>().ok());
        let ephemeral = match (bounds.next(), bounds.next()) {
            // Unless hardly anything is left besides it.
            (Some(low), Some(high)) if high.saturating_sub(low) < 60_000 => low..=high,
            _ => 0..=0,
        };
        Self { next, ephemeral }
    }

    fn take(&mut self) -> u16 {
        if self.ephemeral.contains(&self.next) {
            self.next = self.ephemeral.end().checked_add(1).unwrap_or(Self::FIRST);
        }
        let port = self.next;
        self.next = port.checked_add(1).unwrap_or(Self::FIRST);
        port
    }

    /// Begins a connection from the next port that is free to use.
    fn connect(&mut self, to: SocketAddr) -> io::Result<TcpStream> {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let mut last = io::Error::other("no local port is free");
        for _ in 0..1000 {
            let port = self.take();
            let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            let begun = socket.bind(&SocketAddr::new(any, port).into()).and_then(|()| socket.connect(&to.into()));
            match begun {
                Ok(()) => return Ok(socket.into()),
                Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {
                    return Ok(socket.into());
                }
                // The port is still in use or in TIME-WAIT towards this server: take the next.
                Err(e) if matches!(e.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => last = e,
                Err(e) => return Err(e),
            }
        }
        Err(last)
    }
}

/// One connection of the connection measurement: connecting, then waiting for its byte.
struct Visit {
    stream: TcpStream,
    asked: bool,
    since: Instant,
}

/// Measures connections: connect, one byte, one byte back, close; `reset` closes by RST instead of FIN. Local ports are
/// taken in turn from `first_port` on; without it from one that the time of day chooses.
///
/// # Errors
/// No connection succeeded at all; one that fails among others is counted.
pub fn connections(
    to: SocketAddr,
    concurrency: usize,
    reset: bool,
    first_port: Option<u16>,
    window: Window,
) -> io::Result<LatencyReport> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut ports = Ports::new(first_port);
    let mut visits: Vec<Option<Visit>> = (0..concurrency).map(|_| None).collect();
    let mut vacant: Vec<usize> = (0..concurrency).rev().collect();
    let mut latency = histogram()?;
    let mut failures = 0_u64;
    let mut last_failure = None;
    let mut clock = Clock::start(window);
    loop {
        while let Some(slot) = vacant.pop() {
            let since = Instant::now();
            let stream = match ports.connect(to) {
                Ok(stream) => stream,
                Err(e) => {
                    failures += 1;
                    last_failure = Some(e);
                    vacant.push(slot);
                    // Nothing is gained by asking again at once.
                    std::thread::sleep(Duration::from_millis(1));
                    break;
                }
            };
            if reset {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            }
            sys::register(&poll, &stream, Token(slot), Interest::READABLE | Interest::WRITABLE)?;
            visits[slot] = Some(Visit { stream, asked: false, since });
        }
        wait(&mut poll, &mut events, POLL_PATIENCE)?;
        let now = Instant::now();
        if clock.is_over(now) {
            if let (true, Some(e)) = (latency.is_empty(), last_failure) {
                return Err(io::Error::new(e.kind(), format!("connect {to}: {e}")));
            }
            let (seconds, cpu) = clock.finish(now);
            return Ok(LatencyReport { mode: "cr", concurrency, seconds, failures, cpu, latency });
        }
        if clock.begins(now) {
            latency.reset();
            failures = 0;
        }
        for event in &events {
            let slot = event.token().0;
            let Some(visit) = visits[slot].as_mut() else { continue };
            match step(visit) {
                Ok(false) => continue,
                Ok(true) => record(&mut latency, visit.since.elapsed()),
                Err(e) => {
                    failures += 1;
                    last_failure = Some(e);
                }
            }
            // Dropping the stream closes it, which also takes it out of the poll.
            visits[slot] = None;
            vacant.push(slot);
        }
    }
}

/// Moves one visit on; true when its byte has come back.
fn step(visit: &mut Visit) -> io::Result<bool> {
    if !visit.asked {
        match visit.stream.write(b"x") {
            Ok(_) => visit.asked = true,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => return Ok(false),
            Err(e) => return Err(e),
        }
        return Ok(false);
    }
    match visit.stream.read(&mut [0_u8; 8]) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn local_ports_leave_the_ephemeral_range_alone() {
        let mut ports = Ports { next: 32_767, ephemeral: 32_768..=60_999 };
        assert_eq!([ports.take(), ports.take()], [32_767, 61_000]);
        let mut ports = Ports { next: 65_534, ephemeral: 60_000..=65_535 };
        assert_eq!([ports.take(), ports.take()], [1100, 1101]);
        let mut ports = Ports { next: u16::MAX, ephemeral: 0..=0 };
        assert_eq!([ports.take(), ports.take()], [u16::MAX, 1100]);
    }

    #[test]
    fn client_reports_what_a_port_without_listener_says() {
        let window = Window { warmup: Duration::ZERO, length: Duration::from_millis(50), watched: &[] };
        let to = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(connections(to, 1, false, None, window).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(bulk(Direction::Up, to, 1, 10, window).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_window_that_nobody_saw_begin_is_as_long_as_the_others() {
        let window = Window { length: Duration::from_millis(50), warmup: Duration::from_millis(10), watched: &[] };
        let mut clock = Clock::start(window);
        let late = clock.end + Duration::from_secs(1);
        assert!(!clock.is_over(late), "over before it has begun");
        assert!(clock.begins(late) && !clock.begins(late));
        assert!(!clock.is_over(late) && clock.is_over(late + window.length));
        assert_eq!(clock.finish(late + window.length).0, 0.05);
    }
}
