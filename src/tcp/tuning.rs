//! What the user may set on one connection, whatever the configuration says of new ones.
//!
//! After the socket options of Linux of the same names. Nagle's algorithm, congestion control, keep-alive and user
//! timeout are beside what they rule.

use super::config::Config;
use super::connection::Connection;
use super::marks::Marks;
use super::recv::RightSizing;
use super::time::Instant;
use super::timers::Timer;

/// Bounds of a buffer, octets: RFC7323-2.3b allows windows below 1 GiB.
const BUFFER: (u32, u32) = (256, 1 << 30);

/// What the limit for unsent octets is a multiple of.
const LOW_WATER_UNIT: u32 = 256;

/// Segments acknowledged at once when the user asks for it and the configuration for none (OPS-6).
const QUICK: u8 = 16;

/// A buffer of so many octets, as far as it may be had.
pub(super) fn within_bounds(octets: u32) -> u32 {
    octets.clamp(BUFFER.0, BUFFER.1)
}

/// How many octets may be unsent where [`Connection::set_notsent_lowat`] was given `octets`; `None`: as many as the buffer holds.
pub(crate) fn unsent_limit(octets: Option<u32>) -> Option<u32> {
    low_water_units(octets).map(|units| u32::from(units) * LOW_WATER_UNIT)
}

fn low_water_units(octets: Option<u32>) -> Option<u16> {
    octets.and_then(|octets| u16::try_from(octets.max(1).div_ceil(LOW_WATER_UNIT)).ok())
}

impl Connection {
    /// Keeps everything back that does not fill a segment, until this is switched off, the stream ends, or nothing else
    /// happened for [`Config::sws_override`] (NAGLE-5; TCP_CORK of Linux). Stronger than
    /// [`set_nodelay`](Self::set_nodelay), which pushes out once what waits here.
    pub fn set_cork(&mut self, cork: bool) {
        self.hot.marks.put(Marks::CORK, cork);
        self.hot.marks.set(Marks::POLL);
    }

    /// `true`: the acknowledgment that waits leaves now, and the next segments are acknowledged at once. `false`:
    /// acknowledgments are delayed again (TCP_QUICKACK of Linux). Not for good: after an irregularity or a pause the
    /// connection does what it thinks best (OPS-6).
    pub fn set_quickack(&mut self, config: &Config, quick: bool) {
        self.hot.quick = if quick { config.quick_acks.max(QUICK) } else { 0 };
        if quick && self.hot.timers.is_set(Timer::DelayedAck) {
            self.hot.marks.set(Marks::ACK_DUE.with(Marks::POLL));
        }
    }

    /// How many octets may be queued, sent ones included until they are acknowledged. It does not grow by itself any
    /// more (SO_SNDBUF). What is queued above it stays queued.
    pub fn set_send_buffer(&mut self, octets: u32) {
        let snd = &mut self.hot.snd;
        snd.limit = within_bounds(octets);
        self.hot.marks.put(Marks::ROOM_FULL, snd.queued >= snd.limit);
        self.hot.marks.set(Marks::SEND_FIXED);
    }

    /// How many octets the user may leave unread. It does not grow by itself any more (SO_RCVBUF). A smaller one takes
    /// nothing back of the window that the peer knows of (SHLD-14); a larger one is limited by the shift that was
    /// negotiated.
    pub fn set_receive_buffer(&mut self, octets: u32) {
        self.fix_receive_buffer(octets);
        if self.hot.state.can_receive() && self.hot.rcv.worth_an_update() {
            self.hot.marks.set(Marks::ACK_DUE.with(Marks::POLL));
        }
    }

    /// As [`set_receive_buffer`](Self::set_receive_buffer), while nobody is told yet.
    pub(super) fn fix_receive_buffer(&mut self, octets: u32) {
        self.hot.rcv.buffer = within_bounds(octets);
        self.hot.marks.set(Marks::RECV_FIXED);
    }

    /// The store has room for `share` octets besides those that are unread (OPS-46): the buffer follows, and with it the
    /// window. Not above what a connection begins with, and not where the user has set it.
    pub(super) fn limit_receive_buffer(&mut self, config: &Config, share: u32, now: Instant) {
        let rcv = &mut self.hot.rcv;
        if self.hot.marks.has(Marks::RECV_FIXED) {
            return;
        }
        let size = rcv.unread.saturating_add(share).max(BUFFER.0);
        if size < rcv.buffer {
            rcv.buffer = size;
            self.cold.sizing = RightSizing::new(size, now);
        } else {
            rcv.buffer = rcv.buffer.max(size.min(config.recv_buffer.initial));
        }
    }

    /// How many octets may be queued that were never sent (TCP_NOTSENT_LOWAT): [`send_room`](Self::send_room) leaves
    /// room for no more. Rounded up to a multiple of 256. `None`, and from 16 MiB on: as many as the buffer holds.
    pub fn set_notsent_lowat(&mut self, octets: Option<u32>) {
        let units = low_water_units(octets);
        self.hot.marks.put(Marks::LOWAT, units.is_some());
        self.cold.low_water = units.unwrap_or(0);
    }

    fn low_water(&self) -> u32 {
        u32::from(self.cold.low_water) * LOW_WATER_UNIT
    }

    /// Octets queued that were never sent (SIOCOUTQNSD).
    #[must_use]
    pub fn not_sent(&self) -> u32 {
        self.hot.snd.unsent()
    }

    /// Whether a user who was stopped by [`set_notsent_lowat`](Self::set_notsent_lowat) may write again: not for every
    /// octet, but when half of what is allowed has been sent.
    #[must_use]
    pub fn at_low_water(&self) -> bool {
        self.hot.marks.has(Marks::LOWAT) && self.hot.snd.unsent() <= self.low_water() / 2 && self.hot.state.can_send()
    }

    /// What `room` of the buffer the limit for unsent octets leaves.
    pub(super) fn room_to_low_water(&self, room: u32) -> u32 {
        room.min(self.low_water().saturating_sub(self.hot.snd.unsent()))
    }
}

#[cfg(test)]
#[path = "tuning_tests.rs"]
mod tests;
