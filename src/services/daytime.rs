//! Daytime (RFC 867): one line with date and time, then the end.
//!
//! The wall clock is handed in and read once for each connection.

use std::fmt;
use std::time::UNIX_EPOCH;

use time::OffsetDateTime;

use super::{KEEPALIVE, WallClock};
use crate::shard::{ConnId, Io, Service};
use crate::tcp::KeepAlive;
use crate::tcp::time::Duration;

/// How long the client may take to close its side once the line is out.
const LINGER: Duration = Duration::from_secs(5);

/// The daytime service.
pub struct Daytime {
    clock: WallClock,
}

impl fmt::Debug for Daytime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daytime").finish_non_exhaustive()
    }
}

impl Daytime {
    /// A service telling the time of `clock`.
    #[must_use]
    pub fn new(clock: WallClock) -> Self {
        Self { clock }
    }
}

/// The line for `seconds` after the Unix epoch, in the first format RFC 867 suggests.
fn line(seconds: u64) -> String {
    let when = i64::try_from(seconds).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let when = when.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (hour, minute, second) = when.to_hms();
    format!(
        "{}, {} {}, {} {hour:02}:{minute:02}:{second:02}-UTC\r\n",
        when.weekday(),
        when.month(),
        when.day(),
        when.year()
    )
}

/// What a connection's user word holds: the second it was accepted in and how much of the line is queued. The line is
/// made again from that should the send side ever be too full for it.
#[derive(Clone, Copy)]
struct Progress {
    seconds: u64,
    sent: u8,
}

impl Progress {
    fn from_word(word: u64) -> Self {
        Self { seconds: word >> 8, sent: word as u8 }
    }

    fn word(self) -> u64 {
        self.seconds << 8 | u64::from(self.sent)
    }
}

fn token(conn: ConnId) -> u64 {
    u64::from(conn.slot) << 32 | u64::from(conn.generation)
}

impl Daytime {
    fn tell(io: &mut dyn Io, conn: ConnId) {
        let mut progress = Progress::from_word(io.user(conn));
        let line = line(progress.seconds);
        let rest = &line.as_bytes()[usize::from(progress.sent).min(line.len())..];
        if rest.is_empty() {
            return;
        }
        let taken = io.send(conn, rest);
        progress.sent += taken as u8;
        io.set_user(conn, progress.word());
        if taken == rest.len() {
            // Not close(): octets the client sent unasked would turn it into a reset, which may overtake the line.
            io.shutdown(conn);
            io.set_timer(io.now() + LINGER, token(conn));
        }
    }
}

impl Service for Daytime {
    fn keepalive(&self) -> Option<KeepAlive> {
        Some(KEEPALIVE)
    }

    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        let seconds = (self.clock)().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        io.set_user(conn, Progress { seconds, sent: 0 }.word());
        Self::tell(io, conn);
    }

    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        io.consume(conn, io.unread(conn));
    }

    fn writable(&mut self, io: &mut dyn Io, conn: ConnId) {
        Self::tell(io, conn);
    }

    fn timer(&mut self, io: &mut dyn Io, token: u64) {
        io.close(ConnId { slot: (token >> 32) as u32, generation: token as u32 });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::services::testing::Net;

    fn at(seconds: u64) -> WallClock {
        Arc::new(move || UNIX_EPOCH + std::time::Duration::from_secs(seconds))
    }

    #[test]
    fn the_line_has_the_format_of_the_rfc() {
        assert_eq!(line(382_729_063), "Tuesday, February 16, 1982 17:37:43-UTC\r\n");
        assert_eq!(line(0), "Thursday, January 1, 1970 00:00:00-UTC\r\n");
        assert_eq!(line(u64::MAX >> 8), line(0), "absurd clocks do no harm");
    }

    #[test]
    fn tells_the_time_once_and_ends() {
        let mut net = Net::new(1, 13, |_| Daytime::new(at(382_729_063)));
        let conn = net.connect(0);
        net.run();
        assert_eq!(net.client_take(conn), b"Tuesday, February 16, 1982 17:37:43-UTC\r\n");
        assert!(net.got_fin(conn));
        net.client_fin(conn);
        net.run();
        assert!(net.is_closed(conn));
    }

    #[test]
    fn the_line_survives_a_tiny_send_side_and_chatter() {
        let mut net = Net::new(1, 13, |_| Daytime::new(at(0)));
        net.set_default_send_limit(5);
        let conn = net.connect(0);
        net.client_send(conn, b"what time is it?");
        let mut got = Vec::new();
        for _ in 0..20 {
            net.run();
            got.extend(net.client_take(conn));
        }
        assert_eq!(got, line(0).as_bytes());
        assert!(net.got_fin(conn) && !net.got_reset(conn));
    }

    #[test]
    fn a_client_that_never_closes_is_let_go() {
        let mut net = Net::new(1, 13, |_| Daytime::new(at(0)));
        let conn = net.connect(0);
        net.run();
        assert!(!net.close_called(conn));
        net.advance(LINGER);
        net.run();
        assert!(net.close_called(conn));
    }
}
