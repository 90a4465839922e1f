//! Discard (RFC 863): everything the client sends is thrown away.

use super::KEEPALIVE;
use crate::shard::{ConnId, Io, Service};
use crate::tcp::KeepAlive;

/// The discard service.
#[derive(Debug, Default)]
pub struct Discard;

impl Service for Discard {
    fn keepalive(&self) -> Option<KeepAlive> {
        Some(KEEPALIVE)
    }

    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        io.consume(conn, io.unread(conn));
        if io.at_eof(conn) {
            io.close(conn);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::Discard;
    use crate::services::testing::Net;

    #[test]
    fn swallows_everything_and_closes_at_the_end() {
        let mut net = Net::new(1, 9, |_| Discard);
        let conn = net.connect(0);
        net.client_send(conn, &[7; 100_000]);
        net.run();
        assert_eq!(net.unread(conn), 0);
        assert!(!net.got_fin(conn));
        net.client_send(conn, b"x");
        net.client_fin(conn);
        net.run();
        assert!(net.got_fin(conn));
        assert!(!net.got_reset(conn));
        assert!(net.client_take(conn).is_empty());
    }
}
