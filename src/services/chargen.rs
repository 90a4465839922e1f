//! Character generator (RFC 864): the rotating pattern of 72 characters a line, for as long as the client listens.

use super::KEEPALIVE;
use crate::shard::{ConnId, Io, Service};
use crate::tcp::KeepAlive;

/// Printing characters of ASCII, space included: 0x20 to 0x7e.
const CHARACTERS: usize = 95;
const LINE: usize = 72;
/// A line with its CR LF.
const LINE_LEN: usize = LINE + 2;
/// After so many octets the pattern begins again.
pub(super) const PERIOD: usize = CHARACTERS * LINE_LEN;
/// Enough that from any place in the first period a largest frame's payload (64 KB) lies ahead in one piece.
const PATTERN_LEN: usize = 11 * PERIOD;

pub(super) static PATTERN: [u8; PATTERN_LEN] = pattern();

const fn pattern() -> [u8; PATTERN_LEN] {
    let mut out = [0; PATTERN_LEN];
    let mut at = 0;
    while at < PATTERN_LEN {
        let line = at / LINE_LEN;
        let column = at % LINE_LEN;
        out[at] = match column {
            LINE => b'\r',
            c if c > LINE => b'\n',
            c => b' ' + ((line + c) % CHARACTERS) as u8,
        };
        at += 1;
    }
    out
}

/// The chargen service. The user word of a connection is its place within the pattern's period.
#[derive(Debug, Default)]
pub struct Chargen;

impl Chargen {
    fn fill(io: &mut dyn Io, conn: ConnId) {
        let mut at = io.user(conn) as usize % PERIOD;
        loop {
            let rest = &PATTERN[at..];
            let taken = io.send_static(conn, rest);
            at = (at + taken) % PERIOD;
            if taken < rest.len() {
                break;
            }
        }
        io.set_user(conn, at as u64);
    }
}

impl Service for Chargen {
    fn keepalive(&self) -> Option<KeepAlive> {
        Some(KEEPALIVE)
    }

    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        Self::fill(io, conn);
    }

    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        io.consume(conn, io.unread(conn));
        if io.at_eof(conn) {
            io.close(conn);
        }
    }

    fn writable(&mut self, io: &mut dyn Io, conn: ConnId) {
        // A client that has ended its side gets what is queued, no more.
        if !io.at_eof(conn) {
            Self::fill(io, conn);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::services::testing::Net;

    #[test]
    fn the_first_lines_are_those_of_the_rfc() {
        let text = std::str::from_utf8(&PATTERN).unwrap();
        let mut lines = text.split("\r\n");
        assert_eq!(
            lines.next().unwrap(),
            r##" !"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefg"##
        );
        assert_eq!(
            lines.next().unwrap(),
            r##"!"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefgh"##
        );
    }

    #[test]
    fn the_stream_is_unbroken_however_it_is_cut() {
        for limit in [1, 100, 7_029, 7_030, 65_537, 200_000] {
            let mut net = Net::new(1, limit as u64, |_| Chargen);
            let conn = net.connect(0);
            net.set_send_limit(conn, limit);
            let mut got = 0usize;
            for _ in 0..300 {
                net.run();
                for octet in net.client_take(conn) {
                    assert_eq!(octet, PATTERN[got % PERIOD], "at {got}");
                    got += 1;
                }
            }
            assert!(got >= limit);
        }
    }

    #[test]
    fn client_octets_are_thrown_away_and_its_end_ends_the_stream() {
        let mut net = Net::new(1, 1, |_| Chargen);
        let conn = net.connect(0);
        net.client_send(conn, b"stop it");
        net.run();
        assert_eq!(net.unread(conn), 0);
        net.client_fin(conn);
        net.run();
        let _ = net.client_take(conn);
        net.run();
        assert!(net.got_fin(conn));
        assert!(net.client_take(conn).is_empty());
    }
}
