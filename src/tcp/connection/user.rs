//! What the user of a connection asks and calls.

use crate::tcp::base::algorithm::CongestionControl;
use crate::tcp::base::config::Config;
use crate::tcp::base::info::Info;
use crate::tcp::base::outcome::CloseReason;
use crate::tcp::base::segment::Transmit;
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::state::State;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::connection::sender::SendOption;
use crate::tcp::connection::time_wait::TimeWait;
use crate::tcp::connection::{Connection, ConnectionFlags, Observed};

impl Connection {
    /// Its state.
    #[must_use]
    #[inline]
    pub fn state(&self) -> State {
        self.state
    }

    /// Octets in order that the user has not read ([`on_recv`](Self::on_recv)).
    #[must_use]
    #[inline]
    pub fn unread(&self) -> u32 {
        self.receiver.unread()
    }

    /// Octets inside the window that were not kept of the last segment whose outcome says
    /// [`Events::REFUSED`](crate::tcp::Events::REFUSED).
    #[must_use]
    pub fn refused(&self) -> u32 {
        self.refused
    }

    /// Octets in the send store, sent or not.
    #[must_use]
    #[inline]
    pub fn queued(&self) -> u32 {
        self.sender.queued()
    }

    /// Why it ended, once it is closed.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.reason
    }

    /// Whether the peer's FIN is in order: after what is unread comes the end of the stream.
    #[must_use]
    pub fn at_eof(&self) -> bool {
        self.receiver.at_eof()
    }

    /// When [`on_timeout`](Self::on_timeout) is to be called, at the latest.
    #[must_use]
    #[inline]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether it is worth calling [`poll_transmit`](Self::poll_transmit).
    #[must_use]
    #[inline]
    pub fn wants_transmit(&self) -> bool {
        self.flags.contains(ConnectionFlags::POLL)
    }

    /// Whether an ACK is due that no data carries yet: [`take_ack`](Self::take_ack) sends it by itself.
    #[must_use]
    #[inline]
    pub fn ack_due(&self) -> bool {
        self.receiver.is_ack_pending()
    }

    /// An ACK that was to leave at once did not: it leaves with the next [`poll_transmit`](Self::poll_transmit).
    pub fn owe_ack(&mut self) {
        self.request_ack();
    }

    /// Whether the peer's SYN, and nothing after it, was received and is not acknowledged: the handshake is complete on
    /// our side only.
    #[must_use]
    pub fn owes_first_ack(&self) -> bool {
        self.ack_due() && self.receiver.received() == 0 && self.sender.nxt() == self.sender.una()
    }

    /// Octets the send store may take now; 0 after the user closed.
    #[must_use]
    #[inline]
    pub fn send_room(&self, _config: &Config) -> u32 {
        if self.state.can_send() { self.sender.room() } else { 0 }
    }

    /// The user appended `octets` to the send store. Ignored once the user has closed.
    #[inline]
    pub fn on_send(&mut self, octets: u32) {
        if octets == 0 || !self.state.can_send() {
            return;
        }
        self.sender.on_write(octets);
        self.request_poll();
    }

    /// The user read `octets`: the window may open (SWS-5, SWS-6) and the buffer may grow (OPS-15).
    #[inline(always)]
    pub fn on_recv(&mut self, config: &Config, octets: u32, now: Instant) {
        self.receiver.on_read(config, octets, &mut self.sizing, self.rtt.srtt(), now);
        self.review_window();
    }

    /// How many octets the user may leave unread. It does not grow by itself any more (SO_RCVBUF). A smaller one takes
    /// nothing back of the window that the peer knows of (SHLD-14); a larger one is limited by the shift that was
    /// negotiated.
    pub fn set_receive_buffer(&mut self, octets: u32) {
        self.receiver.fix_buffer(octets);
        self.review_window();
    }

    /// The window may have opened so far that the peer must hear of it at once.
    #[inline]
    fn review_window(&mut self) {
        if self.state.can_receive() && self.receiver.worth_an_update() {
            self.request_ack();
        }
    }

    /// When the peer last acknowledged something, or, before it did, when what is in flight began to leave.
    #[must_use]
    pub fn last_progress(&self) -> Instant {
        self.liveness.last_progress()
    }

    /// Octets that the peer has acknowledged.
    #[must_use]
    #[inline]
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Octets that the user has read.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.receiver.received() - u64::from(self.receiver.unread())
    }

    /// The smoothed round trip, as [`Info`] has it.
    #[must_use]
    pub fn srtt(&self) -> Option<Duration> {
        self.rtt.srtt()
    }

    /// When a segment was received last.
    #[must_use]
    pub fn last_received(&self) -> Instant {
        self.clock
    }

    /// Half close: a FIN follows the queued data, receiving goes on (MAY-1). Ignored when done before.
    pub fn shutdown(&mut self) {
        self.state = match self.state {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            _ => return,
        };
        self.sender.queue_fin();
        self.request_poll();
    }

    /// Full close: [`shutdown`](Self::shutdown), and nobody reads any more. With unread data the connection is reset at
    /// once: the RST to send is returned and the state is CLOSED (SHLD-3, KP-17). Data that arrives later resets it,
    /// too (KP-16).
    pub fn close(&mut self) -> Option<Transmit> {
        if self.state == State::Closed {
            return None;
        }
        if self.receiver.unread() > 0 && self.state != State::TimeWait {
            return self.abort();
        }
        self.flags.insert(ConnectionFlags::NO_READER | ConnectionFlags::POLL);
        self.shutdown();
        self.review_progress(); // OPS-22
        None
    }

    /// Ends the connection now and returns the RST to send, if the peer needs one (SM-EST-4, SM-CLG-1). The state is
    /// CLOSED.
    pub fn abort(&mut self) -> Option<Transmit> {
        let needed = match self.state {
            State::Closed => return None,
            State::TimeWait | State::Closing => false,
            // SM-LA-1 needs none either, but data that never arrives must not look like a clean end (MUST-12).
            State::LastAck => self.sender.queued() > 0,
            _ => true,
        };
        // The caller has no clock at hand; this is at most as old as what we sent last.
        let reset = needed.then(|| self.reset(self.clock.max(self.last_sent)));
        self.finish(CloseReason::Aborted);
        reset
    }

    /// Switches Nagle's algorithm off or on (MUST-17); off flushes what it held back (NAGLE-2), once also what is
    /// corked.
    pub fn set_nodelay(&mut self, nodelay: bool) {
        self.sender.set(SendOption::Nagle(!nodelay));
        self.request_poll();
    }

    /// Changes the algorithm. Window and threshold stay as they are, the new algorithm goes on from there; what the old
    /// one remembered is gone, a reduction of before cannot be undone any more.
    pub fn set_congestion(&mut self, config: &Config, kind: CongestionControl) {
        if self.congestion.switch_to(kind, config.hystart) {
            self.recovery.forget_undo();
        }
    }

    /// The device has taken everything below `upto` ([`Transmit::end_seq`]). What was not reported so is still on its
    /// way to the wire and is never retransmitted: without these calls there are no retransmissions at all.
    #[inline]
    pub fn on_device_write(&mut self, upto: SeqNum) {
        self.sender.on_device_write(upto);
    }

    /// Octets of urgent data that the user has not read yet (MUST-33); urgent data stays in line (RFC6093-6).
    #[must_use]
    pub fn urgent(&self) -> u32 {
        self.receiver.urgent()
    }

    /// The record that stands for the connection in TIME-WAIT, which begins now (MUST-13).
    #[must_use]
    pub fn time_wait(&self, config: &Config, now: Instant) -> TimeWait {
        TimeWait::new(&self.receiver, self.sender.nxt(), config, now)
    }

    /// A snapshot for observers, at `now`.
    #[must_use]
    pub fn info(&self, config: &Config, now: Instant) -> Info {
        let sent = if self.sender.is_fin_sent() { self.sender.queued() } else { self.sender.flight() };
        let mut info = Info {
            state: self.state,
            bytes_acked: self.acked,
            bytes_sent: self.acked + u64::from(sent),
            last_sent: self.last_sent,
            last_received: self.clock,
            held: self.reassembly.octets(),
            mss: self.smss(),
            ..Info::default()
        };
        self.receiver.describe(&mut info);
        self.sender.describe(&mut info);
        self.liveness.describe(&mut info);
        self.congestion.describe(&mut info);
        self.recovery.describe(self.sender.una(), &mut info);
        self.describe_path(&mut info);
        self.rtt.describe(&config.rto, &mut info);
        let Observed { bytes_resent, rate, limit, app_limited, .. } = self.observed;
        let [busy, rwnd, sndbuf] = self.observed.times_at(now);
        info.busy = busy.saturating_add(rwnd).saturating_add(sndbuf);
        (info.rwnd_limited, info.sndbuf_limited, info.bytes_resent) = (rwnd, sndbuf, bytes_resent);
        info.limited_by = limit;
        info.delivery_rate = (rate > 0.0).then_some(rate as u64);
        info.delivery_app_limited = app_limited[1];
        info
    }
}
