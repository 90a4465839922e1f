//! What the behaviours share: connected pairs, stalled writers, errors as Linux numbers them, octets.
//!
//! Must not contain: behaviours.

use std::fmt::Debug;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use crate::stack::Options as _;
use crate::stack::{By, Listener, Stack, Stream};

/// A behaviour: fails by panicking.
pub(crate) type Behaviour<S> = fn(&S);

/// A behaviour and the name of its function.
pub(crate) type Named<S> = (&'static str, Behaviour<S>);

/// The full sizes; without it the same behaviours with smaller ones.
pub(crate) fn size(regular: usize, full: usize) -> usize {
    if std::env::var_os("TRUST_SOAK").is_some_and(|v| v == "1") { full } else { regular }
}

/// Allows this process as many open files as it may have at most; tells how many.
pub(crate) fn raise_open_files() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place to write to.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_max.min(1 << 20);
    // SAFETY: `limit` is valid and only read.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    limit.rlim_cur as usize
}

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The server's address with a port that it chooses.
pub(crate) fn any_port<S: Stack>(stack: &S) -> SocketAddr {
    (stack.server_ip(), 0).into()
}

/// A listener and where it is.
pub(crate) fn listener<S: Stack>(stack: &S) -> (S::Listener, SocketAddr) {
    let listener = stack.bind(any_port(stack)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A port of the server at which nobody listens.
pub(crate) fn closed_port<S: Stack>(stack: &S) -> SocketAddr {
    listener(stack).1
}

/// The client's address with a port below those the system chooses, another one with each call and each run: where the
/// behaviours share one network namespace, an earlier use may still be in TIME-WAIT.
pub(crate) fn client_port<S: Stack>(stack: &S) -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(61));
    (stack.client_ip(), 10_000 + (number % 20_000) as u16).into()
}

/// A connection: the end that connected and the one that was accepted. The listener is gone.
pub(crate) fn pair<S: Stack>(stack: &S) -> (S::Stream, S::Stream) {
    let (listener, address) = listener(stack);
    connect_to(stack, &listener, address)
}

/// One more connection to `listener`.
pub(crate) fn connect_to<S: Stack>(stack: &S, listener: &S::Listener, address: SocketAddr) -> (S::Stream, S::Stream) {
    let client = stack.connect(address).unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

/// Requires an error with this number, and the kind that belongs to it.
#[track_caller]
pub(crate) fn assert_errno<T: Debug>(result: io::Result<T>, errno: i32) {
    let expected = io::Error::from_raw_os_error(errno);
    let error = result.expect_err(&format!("should fail with: {expected}"));
    assert_eq!(error.raw_os_error(), Some(errno), "{error}, should be: {expected}");
    assert_eq!(error.kind(), expected.kind());
}

/// Requires an error of this kind, whatever its number.
#[track_caller]
pub(crate) fn assert_kind<T: Debug>(result: io::Result<T>, kind: ErrorKind) {
    let error = result.expect_err(&format!("should fail: {kind}"));
    assert_eq!(error.kind(), kind, "{error}");
}

/// Octets without a pattern (xorshift64*), the same for the same seed.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let mut octets = Vec::with_capacity(len + 8);
    while octets.len() < len {
        octets.extend_from_slice(&dice.next().to_le_bytes());
    }
    octets.truncate(len);
    octets
}

/// A small generator of repeatable disorder (xorshift64*).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound
    }

    /// A number below 2^`bits`, small ones as likely as large ones.
    pub(crate) fn scaled(&mut self, bits: usize) -> usize {
        let bits = 1 + self.below(bits);
        self.below(1 << bits)
    }
}

/// Like `assert_eq`, without printing megabytes.
#[track_caller]
pub(crate) fn assert_same(got: &[u8], expected: &[u8]) {
    if let Some(at) = got.iter().zip(expected).position(|(a, b)| a != b) {
        panic!("octet {at} of {} is wrong", expected.len());
    }
    assert_eq!(got.len(), expected.len(), "octets that arrived");
}

/// Everything up to the end of the stream.
#[track_caller]
pub(crate) fn read_all<T: Stream>(stream: &T) -> Vec<u8> {
    let mut octets = Vec::new();
    By(stream).read_to_end(&mut octets).unwrap();
    octets
}

/// Exactly so many octets.
#[track_caller]
pub(crate) fn read_some<T: Stream>(stream: &T, len: usize) -> Vec<u8> {
    let mut octets = vec![0; len];
    By(stream).read_exact(&mut octets).unwrap();
    octets
}

/// Calls `check` until it is true; fails after 5 s.
#[track_caller]
pub(crate) fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < Duration::from_secs(5), "not within 5 s: {what}");
        thread::sleep(ms(1));
    }
}

/// Waits until `len` octets, or more, can be read.
#[track_caller]
pub(crate) fn await_unread<T: Stream>(stream: &T, len: usize) {
    eventually("octets arrive", || stream.unread().unwrap() as usize >= len);
}

/// Repeats a call of a non-blocking stream until it is done or fails in earnest.
#[track_caller]
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let start = Instant::now();
    loop {
        match call() {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                assert!(start.elapsed() < Duration::from_secs(5), "not ready within 5 s");
                thread::sleep(ms(1));
            }
            result => return result,
        }
    }
}

/// Waits for the reset that is under way: the connection is no longer connected.
#[track_caller]
pub(crate) fn await_reset<T: Stream>(stream: &T) {
    eventually("the reset arrives", || stream.peer_addr().is_err());
}

/// Writes to a peer that does not read until nothing fits any more; tells how many octets went in. The stream is
/// blocking afterwards.
#[track_caller]
pub(crate) fn fill<T: Stream>(stream: &T) -> usize {
    stream.set_nonblocking(true).unwrap();
    let block = vec![0x5a; 64 * 1024];
    let mut total = 0;
    let mut last = Instant::now();
    // The peer's window may still be opening while it takes octets in.
    while last.elapsed() < ms(100) {
        match stream.write_ref(&block) {
            Ok(written) => {
                total += written;
                last = Instant::now();
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => thread::sleep(ms(5)),
            Err(e) => panic!("{e}"),
        }
        assert!(total < 1 << 28, "there is no end to it");
    }
    stream.set_nonblocking(false).unwrap();
    total
}

/// Small buffers at both ends, so that a stalled reader is felt soon.
pub(crate) fn small_buffers<T: Stream>(writer: &T, reader: &T) {
    writer.set_send_buffer(16 * 1024).unwrap();
    reader.set_receive_buffer(16 * 1024).unwrap();
}

/// Resets the connection.
pub(crate) fn abort<T: Stream>(stream: T) {
    stream.set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Fails unless `took` lies between `least` and `least` + 3 s (other work may delay us).
#[track_caller]
pub(crate) fn assert_took(took: Duration, least: Duration) {
    // Clocks of the kernel tick in steps of up to 10 ms.
    assert!(took + ms(10) >= least, "took only {took:?} of {least:?}");
    assert!(took < least + Duration::from_secs(3), "took {took:?} instead of {least:?}");
}
