//! Echo (RFC 862): what the client sends comes back, then its end of stream does.

use super::KEEPALIVE;
use crate::shard::{ConnId, Io, Service};
use crate::tcp::KeepAlive;

/// The echo service. Keeps nothing: octets wait in the connection's own receive store while the send side is full, and
/// so the client's window closes instead of our memory growing.
#[derive(Debug, Default)]
pub struct Echo;

/// User word of a connection whose FIN has been queued.
const ENDED: u64 = 1;

impl Echo {
    fn turn_round(io: &mut dyn Io, conn: ConnId) {
        io.forward(conn, conn);
        if io.at_eof(conn) && io.user(conn) != ENDED {
            io.set_user(conn, ENDED);
            io.shutdown(conn);
        }
    }
}

impl Service for Echo {
    fn keepalive(&self) -> Option<KeepAlive> {
        Some(KEEPALIVE)
    }

    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        Self::turn_round(io, conn);
    }

    fn writable(&mut self, io: &mut dyn Io, conn: ConnId) {
        Self::turn_round(io, conn);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::Echo;
    use crate::services::testing::Net;

    #[test]
    fn echoes_and_ends_after_the_client_half_closes() {
        let mut net = Net::new(1, 7, |_| Echo);
        let conn = net.connect(0);
        net.client_send(conn, b"hello, ");
        net.run();
        net.client_send(conn, b"world");
        net.client_fin(conn);
        net.run();
        assert_eq!(net.client_take(conn), b"hello, world");
        assert!(net.got_fin(conn), "the FIN follows the last octet");
        assert!(!net.got_reset(conn));
    }

    #[test]
    fn loses_nothing_when_the_send_side_is_tiny() {
        for room in [1, 3, 7] {
            let mut net = Net::new(1, room as u64, |_| Echo);
            let conn = net.connect(0);
            net.set_send_limit(conn, room);
            let sent: Vec<u8> = (0..500u32).map(|i| (i % 251) as u8).collect();
            net.client_send(conn, &sent);
            net.client_fin(conn);
            net.run();
            assert!(!net.got_fin(conn), "no FIN while octets wait");
            let mut got = Vec::new();
            while got.len() < sent.len() {
                let some = net.client_take(conn);
                assert!(!some.is_empty(), "stuck after {} octets", got.len());
                got.extend(some);
                net.run();
            }
            assert_eq!(got, sent);
            assert!(net.got_fin(conn));
        }
    }

    #[test]
    fn end_of_stream_alone_is_answered() {
        let mut net = Net::new(1, 1, |_| Echo);
        let conn = net.connect(0);
        net.client_fin(conn);
        net.run();
        assert!(net.got_fin(conn));
        assert!(net.client_take(conn).is_empty());
    }
}
