//! What is answered: status lines, heads, the date.
//!
//! Must not contain: connections.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

use super::bodies::Bodies;
use crate::services::WallClock;
use crate::tcp::time::{Duration, Instant};

/// Statuses of RFC 9110 that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    NoContent,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    ContentTooLarge,
    ExpectationFailed,
    FieldsTooLarge,
    NotImplemented,
    Unavailable,
    VersionNotSupported,
}

impl Status {
    /// Code and reason.
    pub(super) const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::NoContent => "204 No Content",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::ExpectationFailed => "417 Expectation Failed",
            Self::FieldsTooLarge => "431 Request Header Fields Too Large",
            Self::NotImplemented => "501 Not Implemented",
            Self::Unavailable => "503 Service Unavailable",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// There is none, by the status.
    None,
    Sized(u64),
    Chunked,
}

/// A head to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) status: Status,
    pub(super) content_type: &'static str,
    pub(super) length: Length,
    /// The value of `Allow`; empty: no such field.
    pub(super) allow: &'static str,
    /// What is answered depends on the field `Accept`.
    pub(super) varies: bool,
    /// What happens to the connection behind the answer.
    pub(super) keep: bool,
    /// The client speaks HTTP/1.1.
    pub(super) modern: bool,
}

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const OCTETS: &str = "application/octet-stream";

/// What all connections of a shard share: buffer, clock, memory and counts.
pub(super) struct Site {
    clock: WallClock,
    started: SystemTime,
    date: String,
    /// When the second is over that `date` tells.
    outdated: Instant,
    /// Where answers are put together; empty between any two.
    pub(super) scratch: Vec<u8>,
    /// Octets of heads that came in pieces and are not complete.
    pub(super) heads: usize,
    pub(super) bodies: Bodies,
    /// The engine is about to stop: no connection is kept behind its answer.
    pub(super) draining: bool,
    pub(super) open: usize,
    pub(super) accepted: u64,
    pub(super) requests: u64,
}

impl Site {
    pub(super) fn new(clock: WallClock) -> Self {
        let started = clock();
        Self {
            clock,
            started,
            date: String::new(),
            outdated: Instant::ZERO,
            scratch: Vec::new(),
            heads: 0,
            bodies: Bodies::default(),
            draining: false,
            open: 0,
            accepted: 0,
            requests: 0,
        }
    }

    /// Appends a head to the scratch buffer. The wall clock is read at most once a second.
    pub(super) fn head(&mut self, now: Instant, head: Head) {
        if self.outdated <= now {
            let wall = (self.clock)();
            // With the second, and not one second later: shards that were asked at other moments tell the same then.
            let part = wall.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
            self.outdated = now + Duration::from_nanos(1_000_000_000 - u64::from(part));
            self.date = date(wall);
        }
        let Head { status, content_type, length, allow, varies, keep, modern } = head;
        let (out, version, date) = (&mut self.scratch, env!("CARGO_PKG_VERSION"), &self.date);
        // Writing to memory does not fail.
        let _ = write!(out, "HTTP/1.1 {}\r\nServer: trust/{version}\r\nDate: {date}\r\n", status.line());
        let _ = match length {
            Length::None => Ok(()),
            Length::Sized(octets) => write!(out, "Content-Type: {content_type}\r\nContent-Length: {octets}\r\n"),
            Length::Chunked => write!(out, "Content-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n"),
        };
        if !allow.is_empty() {
            let _ = write!(out, "Allow: {allow}\r\n");
        }
        if varies {
            out.extend_from_slice(b"Vary: Accept\r\n");
        }
        // RFC 9112 9.3: the other one is what each version takes for granted.
        out.extend_from_slice(match (keep, modern) {
            (true, true) => b"\r\n",
            (true, false) => b"Connection: keep-alive\r\n\r\n",
            (false, _) => b"Connection: close\r\n\r\n",
        });
    }

    /// When it started, and how many seconds ago that was.
    pub(super) fn since(&self) -> (String, u64) {
        let up = (self.clock)().duration_since(self.started).unwrap_or_default();
        (date(self.started), up.as_secs())
    }
}

/// IMF-fixdate (RFC 9110 5.6.7).
fn date(when: SystemTime) -> String {
    let seconds = when.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let when = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let when = when.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (hour, minute, second) = when.to_hms();
    let (day, month) = (when.weekday().to_string(), when.month().to_string());
    format!("{:.3}, {:02} {month:.3} {:04} {hour:02}:{minute:02}:{second:02} GMT", day, when.day(), when.year())
}

/// Milliseconds with their fraction, for people.
pub(super) fn milliseconds(span: Option<Duration>) -> f64 {
    span.map_or(0.0, |span| span.as_nanos() as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    /// Two shards that were asked at different times; each has made its date at some part of a second.
    #[test]
    fn the_date_is_the_same_in_all_shards() {
        let wall = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&wall);
        let clock: WallClock = Arc::new(move || UNIX_EPOCH + std::time::Duration::from_millis(clock.load(Relaxed)));
        let mut sites = [Site::new(Arc::clone(&clock)), Site::new(clock)];
        let head = Head {
            status: Status::Ok,
            content_type: TEXT,
            length: Length::None,
            allow: "",
            varies: false,
            keep: true,
            modern: true,
        };
        let mut second = |site: usize, millis: u64| {
            wall.store(millis, Relaxed);
            let site: &mut Site = &mut sites[site];
            site.scratch.clear();
            // The shard's clock has begun at another part of the second.
            site.head(Instant::from_nanos((millis + 350) * 1_000_000), head);
            let text = String::from_utf8(site.scratch.clone()).unwrap();
            text.split_once(" GMT").unwrap().0.rsplit(':').next().unwrap().parse::<u64>().unwrap()
        };
        for (site, millis) in [(0, 700), (1, 999), (0, 1_000), (1, 1_001), (0, 1_999), (1, 2_500), (0, 2_501)] {
            assert_eq!(second(site, millis), millis / 1_000, "shard {site} at {millis} ms");
        }
    }

    #[test]
    fn the_date_has_the_format_of_the_rfc() {
        let at = |seconds| date(UNIX_EPOCH + std::time::Duration::from_secs(seconds));
        assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(at(u64::MAX >> 2), at(0), "absurd clocks do no harm");
    }
}
