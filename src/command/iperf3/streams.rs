//! The data connections: a thread for each, which sends or receives as fast as it may, and counts.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use trust::net::TcpStream;
use trust::tcp::CongestionControl;

use super::super::threads;

/// How soon a thread that is stuck in a call notices that the test is over.
const NOTICE: Duration = Duration::from_millis(50);

/// What all threads look at.
#[derive(Debug)]
pub(super) struct Shared {
    /// Octets that are still to be sent, all streams together; `u64::MAX`: no limit.
    budget: AtomicU64,
    /// What moves counts.
    counting: AtomicBool,
    /// The threads end.
    stop: AtomicBool,
    /// Why a stream broke while it counted.
    failure: Mutex<Option<io::Error>>,
}

impl Shared {
    pub(super) fn new(octets: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            budget: AtomicU64::new(octets.unwrap_or(u64::MAX)),
            counting: AtomicBool::new(true),
            stop: AtomicBool::new(false),
            failure: Mutex::default(),
        })
    }

    /// From now on nothing counts: senders end, receivers go on, so that the other end is not stuck.
    pub(super) fn end_test(&self) {
        self.counting.store(false, Ordering::Relaxed);
    }

    pub(super) fn stop(&self) {
        self.end_test();
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn failure(&self) -> Option<io::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn fail(&self, error: io::Error) {
        if self.counting.load(Ordering::Relaxed) {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    /// Takes up to `want` octets from the budget.
    fn take(&self, want: u64) -> u64 {
        let taken = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            if left == u64::MAX { None } else { Some(left.saturating_sub(want)) }
        });
        taken.map_or(want, |before| before.min(want))
    }
}

/// One stream of a test.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    pub(super) sends: bool,
    pub(super) local: SocketAddr,
    octets: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    pub(super) fn new(socket: TcpStream, sends: bool) -> io::Result<Self> {
        socket.set_read_timeout(Some(NOTICE))?;
        socket.set_write_timeout(Some(NOTICE))?;
        // What is under way when the test is over is of no use to anybody.
        socket.set_linger(Some(Duration::ZERO))?;
        let local = socket.local_addr()?;
        Ok(Self { socket, sends, local, octets: Arc::default(), thread: None })
    }

    /// Begins to move octets, in blocks of `len`; `rate`: bit/s to send at most, 0 for as many as go.
    pub(super) fn start(&mut self, shared: &Arc<Shared>, len: usize, rate: u64) -> io::Result<()> {
        let (socket, shared, octets) = (self.socket.try_clone()?, Arc::clone(shared), Arc::clone(&self.octets));
        let name = if self.sends { "sender" } else { "receiver" };
        let sends = self.sends;
        self.thread = Some(threads::start(name, move || {
            let result = if sends {
                send(&socket, &shared, &octets, len, rate)
            } else {
                receive(&socket, &shared, &octets, len)
            };
            if let Err(error) = result {
                shared.fail(error);
            }
        })?);
        Ok(())
    }

    pub(super) fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }

    /// Segments sent again and the congestion window, of a stream that sends.
    pub(super) fn sender_info(&self) -> (u64, u32) {
        self.socket.info().map_or((0, 0), |info| (info.retransmits, info.cwnd))
    }

    pub(super) fn congestion(&self) -> Option<CongestionControl> {
        self.socket.info().ok().map(|info| info.congestion)
    }

    pub(super) fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether a call came back only because its time was over.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn send(mut socket: &TcpStream, shared: &Shared, octets: &AtomicU64, len: usize, rate: u64) -> io::Result<()> {
    // Not zeros: whoever compresses on the way shall gain nothing.
    let block: Vec<u8> = (0..len).map(|index| (index as u32).wrapping_mul(0x9e37_79b1).to_be_bytes()[0]).collect();
    let start = Instant::now();
    let mut sent = 0_u64;
    loop {
        let want = shared.take(len as u64) as usize;
        if want == 0 {
            return Ok(());
        }
        let mut rest = &block[..want];
        while !rest.is_empty() {
            if !shared.counting.load(Ordering::Relaxed) {
                return Ok(());
            }
            match socket.write(rest) {
                Ok(done) => {
                    rest = &rest[done..];
                    sent += done as u64;
                    octets.fetch_add(done as u64, Ordering::Relaxed);
                }
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if rate > 0 {
            let due = Duration::from_secs_f64(sent as f64 * 8.0 / rate as f64);
            while let Some(early) = due.checked_sub(start.elapsed()) {
                if !shared.counting.load(Ordering::Relaxed) {
                    return Ok(());
                }
                thread::sleep(early.min(NOTICE));
            }
        }
    }
}

fn receive(mut socket: &TcpStream, shared: &Shared, octets: &AtomicU64, len: usize) -> io::Result<()> {
    let mut block = vec![0; len];
    while !shared.stop.load(Ordering::Relaxed) {
        match socket.read(&mut block) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the server has ended a stream before its time",
                ));
            }
            Ok(done) if shared.counting.load(Ordering::Relaxed) => {
                octets.fetch_add(done as u64, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_to_the_octet_and_no_limit_never() {
        let shared = Shared::new(Some(250));
        let taken: Vec<_> = (0..5).map(|_| shared.take(100)).collect();
        assert_eq!(taken, [100, 100, 50, 0, 0]);
        let shared = Shared::new(None);
        assert!((0..5).all(|_| shared.take(u64::MAX / 2) == u64::MAX / 2));
    }
}
