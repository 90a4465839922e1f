//! Honest clients beside a load: short visits one after another, a megabyte both ways, a transfer that was there
//! before.
//!
//! Nothing here waits for ever.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::noise;

/// How long connects and answers took, and who got none.
#[derive(Debug, Default)]
pub(crate) struct Visits {
    pub(crate) served: Vec<Duration>,
    pub(crate) failures: Vec<String>,
}

impl Visits {
    pub(crate) fn add(&mut self, outcome: Result<Duration, String>) {
        match outcome {
            Ok(took) => self.served.push(took),
            Err(why) => self.failures.push(why),
        }
    }

    /// The longest of 99 % of those that were served, and of all.
    pub(crate) fn p99_and_worst(&self) -> (Duration, Duration) {
        let mut sorted = self.served.clone();
        sorted.sort();
        let Some(&worst) = sorted.last() else { return (Duration::MAX, Duration::MAX) };
        (sorted[(sorted.len() * 99).div_ceil(100) - 1], worst)
    }
}

/// Connects, sends five octets to echo, gets them back and closes; says how long that took.
pub(crate) fn visit(to: SocketAddr, patience: Duration) -> Result<Duration, String> {
    let start = Instant::now();
    let after = |what: &str, e: std::io::Error| format!("{what} after {:?}: {e}", start.elapsed());
    let mut stream = TcpStream::connect_timeout(&to, patience).map_err(|e| after("connect", e))?;
    stream.set_read_timeout(Some(patience)).map_err(|e| after("set", e))?;
    let mut back = [0; 5];
    stream.write_all(b"hello").map_err(|e| after("write", e))?;
    stream.read_exact(&mut back).map_err(|e| after("read", e))?;
    if &back != b"hello" {
        return Err(format!("sent hello, got {back:?}"));
    }
    Ok(start.elapsed())
}

/// Connects, and gets `data` back from echo octet by octet; says how long that took.
pub(crate) fn exact(to: SocketAddr, data: &[u8], patience: Duration) -> Result<Duration, String> {
    let start = Instant::now();
    let stream = TcpStream::connect_timeout(&to, patience).map_err(|e| format!("connect: {e}"))?;
    stream.set_read_timeout(Some(patience)).map_err(|e| e.to_string())?;
    stream.set_write_timeout(Some(patience)).map_err(|e| e.to_string())?;
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            (&stream).write_all(data)?;
            stream.shutdown(Shutdown::Write)
        });
        let (mut at, mut block) = (0, vec![0; 65_536]);
        let outcome = loop {
            match (&stream).read(&mut block) {
                Ok(0) if at == data.len() => break Ok(start.elapsed()),
                Ok(0) => break Err(format!("ended after {at} octets")),
                Ok(got) if data.get(at..at + got) == Some(&block[..got]) => at += got,
                Ok(_) => break Err(format!("wrong octets from {at} on")),
                Err(e) => break Err(format!("after {at} octets and {:?}: {e}", start.elapsed())),
            }
            if start.elapsed() > 4 * patience {
                break Err(format!("{at} octets in {:?}", start.elapsed()));
            }
        };
        if outcome.is_err() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        match writing.join() {
            Ok(Err(e)) if outcome.is_ok() => Err(format!("write: {e}")),
            _ => outcome,
        }
    })
}

/// A connection to echo that sends and compares as fast as it can until it is ended.
#[derive(Debug)]
pub(crate) struct Transfer {
    stream: Arc<TcpStream>,
    octets: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    writing: JoinHandle<()>,
    reading: JoinHandle<Result<(), String>>,
}

/// What a transfer sends over and over: a length that no buffer has.
const PERIOD: usize = 1_000_003;

impl Transfer {
    pub(crate) fn start(address: impl Into<IpAddr>) -> Self {
        let stream = Arc::new(TcpStream::connect((address.into(), 7)).unwrap());
        let (octets, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let data = Arc::new(noise(PERIOD, 17));
        let writing = {
            let (stream, stop, data) = (Arc::clone(&stream), Arc::clone(&stop), Arc::clone(&data));
            thread::spawn(move || {
                let mut at = 0;
                while !stop.load(Ordering::Relaxed) {
                    let end = PERIOD.min(at + 65_536);
                    match (&*stream).write(&data[at..end]) {
                        Ok(put) => at = (at + put) % PERIOD,
                        // The reader says what it is.
                        Err(_) => return,
                    }
                }
                let _ = stream.shutdown(Shutdown::Write);
            })
        };
        let reading = {
            let (stream, octets) = (Arc::clone(&stream), Arc::clone(&octets));
            thread::spawn(move || {
                let (mut at, mut block) = (0, vec![0; 65_536]);
                loop {
                    let got = (&*stream).read(&mut block).map_err(|e| e.to_string())?;
                    if got == 0 {
                        return Ok(());
                    }
                    let mut rest = &block[..got];
                    while !rest.is_empty() {
                        let (front, behind) = rest.split_at(rest.len().min(PERIOD - at));
                        if front != &data[at..at + front.len()] {
                            return Err("wrong octets".to_owned());
                        }
                        at = (at + front.len()) % PERIOD;
                        rest = behind;
                    }
                    octets.fetch_add(got as u64, Ordering::Relaxed);
                }
            })
        };
        Self { stream, octets, stop, writing, reading }
    }

    /// Octets that have come back.
    pub(crate) fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }

    /// Octets a second over a span.
    pub(crate) fn rate(&self, span: Duration) -> f64 {
        let (before, start) = (self.octets(), Instant::now());
        thread::sleep(span);
        (self.octets() - before) as f64 / start.elapsed().as_secs_f64()
    }

    /// Ends it; `Err`: it had failed, or its rest does not come.
    pub(crate) fn end(self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        let end = Instant::now() + Duration::from_secs(10);
        while !self.reading.is_finished() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        let late = !self.reading.is_finished();
        let _ = self.stream.shutdown(Shutdown::Both);
        let outcome = self.reading.join().unwrap_or_else(|_| Err("the reader panicked".to_owned()));
        let _ = self.writing.join();
        if late { Err("its end does not come within 10 s".to_owned()) } else { outcome }
    }
}
