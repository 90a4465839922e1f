//! `poll_transmit` and `take_ack`.

use super::config::Config;
use super::connection::Connection;
use super::segment::Transmit;
use super::time::Instant;
use crate::wire::tcp::Flags;

impl Connection {
    /// The next segment to send, of at most `max_len` payload octets; call until `None`.
    pub fn poll_transmit(&mut self, _config: &Config, _now: Instant, _max_len: u32) -> Option<Transmit> {
        None
    }

    /// The ACK that `Outcome::ack_now` asked for.
    pub fn take_ack(&mut self, _now: Instant) -> Transmit {
        self.reset()
    }

    /// The RST of an abort.
    pub(super) fn reset(&mut self) -> Transmit {
        Transmit::bare(self.hot.snd.nxt, self.hot.rcv.nxt, Flags::RST | Flags::ACK, 0)
    }
}
