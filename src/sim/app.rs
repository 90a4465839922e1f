//! Applications on a simulated shard: they write and read in random pieces, pause, and end in one of several ways; and
//! they know every octet they must get.
//!
//! One [`App`] serves one connection, so that its octets are known from the first on. Must not contain: links, hosts.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::Rng;
use crate::shard::{ConnId, Io, Service};
use crate::tcp::{CloseReason, Duration};

/// Octets after which a stream repeats itself: a prime, so that no power of two of octets lost or repeated is missed.
const PERIOD: usize = 262_139;
/// Most octets that [`octets`] gives at once.
const RUN: usize = 65_536;

/// `len` octets (at most 64 KiB) of stream number `stream` from `offset` on. They never change.
#[must_use]
pub fn octets(stream: u64, offset: u64, len: usize) -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let mut table = vec![0; PERIOD + RUN];
        Rng::with_seed(7).fill(&mut table[..PERIOD]);
        table.copy_within(..RUN, PERIOD);
        table
    });
    let period = PERIOD as u64;
    let at = ((stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % period + offset % period) % period;
    &table[at as usize..][..len.min(RUN)]
}

/// How an application ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its direction ends after its last octet; it reads on until the peer's does (half-close).
    Shutdown,
    /// Its direction ends after its last octet, but not before the peer's has ended.
    AfterPeer,
    /// It gives up both directions once it has written all it wants and read all it expects.
    Close,
    /// It aborts once it has read and written that many octets together.
    Abort(u64),
}

/// What an application does with its connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Number of the stream it writes.
    pub stream: u64,
    /// Number of the stream it expects to read.
    pub peer_stream: u64,
    /// Octets to write.
    pub send: u64,
    /// Octets to read.
    pub expect: u64,
    /// Smallest and largest write.
    pub write: (u32, u32),
    /// Writes leave a reference instead of a copy.
    pub by_reference: bool,
    /// A pause after so many octets written.
    pub write_pause: Option<(u64, Duration)>,
    /// Pauses after which it writes without.
    pub write_pauses: u64,
    /// A pause after so many octets read.
    pub read_pause: Option<(u64, Duration)>,
    /// Nagle's algorithm is off.
    pub nodelay: bool,
    /// How it ends.
    pub ending: Ending,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            stream: 1,
            peer_stream: 2,
            send: 0,
            expect: 0,
            write: (1, 65_536),
            by_reference: false,
            write_pause: None,
            write_pauses: u64::MAX,
            read_pause: None,
            nodelay: false,
            ending: Ending::Shutdown,
        }
    }
}

/// How far an application has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// The connection was established.
    pub accepted: bool,
    /// Octets written.
    pub sent: u64,
    /// Octets read, all of them right.
    pub received: u64,
    /// The peer's end of stream has been read.
    pub eof: bool,
    /// It has called `abort`.
    pub aborted: bool,
    /// The connection is gone.
    pub closed: Option<CloseReason>,
    /// Place of the first wrong octet.
    pub wrong_at: Option<u64>,
}

/// A report that the application goes on writing.
#[derive(Debug, Clone, Default)]
pub struct SharedReport(Arc<Mutex<Report>>);

impl SharedReport {
    fn lock(&self) -> MutexGuard<'_, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The report as it stands.
    #[must_use]
    pub fn read(&self) -> Report {
        *self.lock()
    }

    /// Replaces the report, for applications made elsewhere.
    pub fn write(&self, report: Report) {
        *self.lock() = report;
    }
}

const RESUME_READING: u64 = 1;
const RESUME_WRITING: u64 = 2;

/// One application on one connection: what it does next, what it must send, and what it must get.
#[derive(Debug)]
pub struct App {
    plan: Plan,
    rng: Rng,
    report: SharedReport,
    conn: Option<ConnId>,
    ended: bool,
    stalled: bool,
    resting: bool,
    read_since: u64,
    written_since: u64,
    rests: u64,
}

impl App {
    /// An application that acts by `plan` and draws its pieces from `rng`.
    #[must_use]
    pub fn new(plan: Plan, rng: Rng) -> (Self, SharedReport) {
        let report = SharedReport::default();
        let app = Self {
            plan,
            rng,
            report: report.clone(),
            conn: None,
            ended: false,
            stalled: false,
            resting: false,
            read_since: 0,
            written_since: 0,
            rests: 0,
        };
        (app, report)
    }

    fn pump(&mut self, io: &mut dyn Io) {
        let Some(conn) = self.conn.filter(|_| !self.aborts(self.report.read())) else { return };
        let mut report = self.report.read();
        self.read(io, conn, &mut report);
        self.write(io, conn, &mut report);
        if self.aborts(report) {
            self.ended = true;
            report.aborted = true;
            self.report.write(report);
            return io.abort(conn);
        }
        let written = report.sent == self.plan.send;
        let end = match self.plan.ending {
            Ending::Shutdown => written,
            Ending::AfterPeer => written && report.eof,
            Ending::Close => written && report.received >= self.plan.expect,
            Ending::Abort(_) => false,
        };
        self.report.write(report);
        if end && !std::mem::replace(&mut self.ended, true) {
            if self.plan.ending == Ending::Close {
                io.close(conn);
            } else {
                io.shutdown(conn);
            }
        }
    }

    fn aborts(&self, report: Report) -> bool {
        matches!(self.plan.ending, Ending::Abort(after) if report.sent + report.received >= after)
    }

    fn read(&mut self, io: &mut dyn Io, conn: ConnId, report: &mut Report) {
        while !self.stalled {
            let run = io.peek(conn);
            if run.is_empty() {
                break;
            }
            let mut len = run.len().min(RUN);
            if let Some((every, _)) = self.plan.read_pause {
                len = len.min((every - self.read_since).max(1) as usize);
            }
            if run[..len] != *octets(self.plan.peer_stream, report.received, len) {
                report.wrong_at.get_or_insert(report.received);
            }
            io.consume(conn, len as u32);
            report.received += len as u64;
            self.read_since += len as u64;
            if let Some((every, pause)) = self.plan.read_pause
                && self.read_since >= every
            {
                self.read_since = 0;
                self.stalled = true;
                io.set_timer(io.now() + pause, RESUME_READING);
            }
        }
        report.eof |= io.at_eof(conn);
    }

    fn write(&mut self, io: &mut dyn Io, conn: ConnId, report: &mut Report) {
        while !self.resting && !self.ended && report.sent < self.plan.send {
            let (least, most) = self.plan.write;
            let wanted = u64::from(self.rng.u32(least..=most)).min(self.plan.send - report.sent);
            let data = octets(self.plan.stream, report.sent, wanted as usize);
            let sent = if self.plan.by_reference { io.send_static(conn, data) } else { io.send(conn, data) };
            report.sent += sent as u64;
            self.written_since += sent as u64;
            if let Some((every, pause)) = self.plan.write_pause
                && self.written_since >= every
                && self.rests < self.plan.write_pauses
            {
                self.written_since = 0;
                self.rests += 1;
                self.resting = true;
                io.set_timer(io.now() + pause, RESUME_WRITING);
            }
            if sent < data.len() {
                break;
            }
        }
    }
}

impl Service for App {
    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        // A second child of the port: its octets would be the first one's.
        if self.conn.is_some() {
            return io.abort(conn);
        }
        self.conn = Some(conn);
        self.report.lock().accepted = true;
        if self.plan.nodelay {
            io.set_nodelay(conn, true);
        }
        self.pump(io);
    }

    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        if self.conn == Some(conn) {
            self.pump(io);
        }
    }

    fn writable(&mut self, io: &mut dyn Io, conn: ConnId) {
        if self.conn == Some(conn) {
            self.pump(io);
        }
    }

    fn closed(&mut self, _io: &mut dyn Io, conn: ConnId, reason: CloseReason) {
        if self.conn.is_none_or(|mine| mine == conn) {
            self.report.lock().closed = Some(reason);
        }
    }

    fn timer(&mut self, io: &mut dyn Io, token: u64) {
        match token {
            RESUME_READING => self.stalled = false,
            _ => self.resting = false,
        }
        self.pump(io);
    }
}
