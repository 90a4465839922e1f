//! What the user may set on one connection, whatever the configuration says of new ones.
//!
//! After the socket options of Linux of the same names. Nagle's algorithm, congestion control, keep-alive and user
//! timeout are beside what they rule.

use crate::tcp::base::config::Config;
use crate::tcp::base::timers::Timer;
use crate::tcp::connection::Connection;
use crate::tcp::connection::sender::SendOption;

/// Segments acknowledged at once when the user asks for it and the configuration for none (OPS-6).
const QUICK: u8 = 16;

impl Connection {
    /// Keeps everything back that does not fill a segment, until this is switched off, the stream ends, or nothing else
    /// happened for [`Config::sws_override`] (NAGLE-5; TCP_CORK of Linux). Stronger than
    /// [`set_nodelay`](Self::set_nodelay), which pushes out once what waits here.
    pub fn set_cork(&mut self, cork: bool) {
        self.sender.set(SendOption::Cork(cork));
        self.request_poll();
    }

    /// `true`: the acknowledgment that waits leaves now, and the next segments are acknowledged at once. `false`:
    /// acknowledgments are delayed again (TCP_QUICKACK of Linux). Not for good: after an irregularity or a pause the
    /// connection does what it thinks best (OPS-6).
    pub fn set_quickack(&mut self, config: &Config, quick: bool) {
        self.receiver.acknowledge_quickly(if quick { config.quick_acks.max(QUICK) } else { 0 });
        if quick && self.timers.is_set(Timer::DelayedAck) {
            self.request_ack();
        }
    }

    /// How many octets may be queued, sent ones included until they are acknowledged. It does not grow by itself any
    /// more (SO_SNDBUF). What is queued above it stays queued.
    pub fn set_send_buffer(&mut self, octets: u32) {
        self.sender.set(SendOption::Buffer(octets));
    }

    /// How many octets may be queued that were never sent (TCP_NOTSENT_LOWAT): [`send_room`](Self::send_room) leaves
    /// room for no more. Rounded up to a multiple of 256. `None`, and from 16 MiB on: as many as the buffer holds.
    pub fn set_notsent_lowat(&mut self, octets: Option<u32>) {
        self.sender.set(SendOption::LowWater(octets));
    }

    /// Octets queued that were never sent (SIOCOUTQNSD).
    #[must_use]
    pub fn not_sent(&self) -> u32 {
        self.sender.unsent()
    }

    /// Whether a user who was stopped by [`set_notsent_lowat`](Self::set_notsent_lowat) may write again: not for every
    /// octet, but when half of what is allowed has been sent.
    #[must_use]
    pub fn at_low_water(&self) -> bool {
        self.sender.is_at_low_water() && self.state.can_send()
    }
}

#[cfg(test)]
#[path = "tuning_tests.rs"]
mod tests;
