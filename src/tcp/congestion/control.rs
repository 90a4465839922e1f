//! The congestion control of one connection: its window, its algorithm, and how far the window was used.

use crate::tcp::base::algorithm::CongestionControl;
use crate::tcp::base::info::Info;
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::Instant;
use crate::tcp::congestion::controller::{Controller, Saved};
use crate::tcp::congestion::window::{AckSample, CongestionWindow};

/// The congestion control of one connection.
///
/// It begins with what each segment needs: those 16 octets lie in the last of the connection's hot lines.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct Congestion {
    window: CongestionWindow,
    /// Most octets that were in the network while the window was sent that is being acknowledged.
    most_in_flight: u32,
    /// SND.NXT then: until it is acknowledged, less in the network does not count.
    most_until: SeqNum,
    /// Octets sent beyond cwnd by limited transmit (RFC5681-3.2.2 does not count them).
    limited_transmit: u32,
    /// The window was full when what is being acknowledged was sent.
    was_full: bool,
    controller: Controller,
}

impl Congestion {
    /// `kind` at its start, with a window of `initial_window` octets for segments of `smss` octets; nothing was sent
    /// before `una`.
    pub(crate) fn new(kind: CongestionControl, hystart: bool, smss: u32, initial_window: u32, una: SeqNum) -> Self {
        Self {
            window: CongestionWindow::new(smss, initial_window),
            most_in_flight: 0,
            most_until: una,
            limited_transmit: 0,
            was_full: false,
            controller: Controller::new(kind, hystart),
        }
    }

    /// Its part of what observers see.
    pub(crate) fn describe(&self, info: &mut Info) {
        info.congestion = self.controller.kind();
        info.cwnd = self.window.cwnd();
        info.ssthresh = self.window.ssthresh();
    }

    /// The window and its threshold.
    #[inline]
    pub(crate) fn window(&self) -> &CongestionWindow {
        &self.window
    }

    /// The congestion window.
    #[inline]
    pub(crate) fn cwnd(&self) -> u32 {
        self.window.cwnd()
    }

    /// Sets the window, as loss recovery does while it goes on.
    pub(crate) fn set_cwnd(&mut self, cwnd: u32) {
        self.window.set_cwnd(cwnd);
    }

    /// Another algorithm goes on from here; `false` if it is the one that there is. Window and threshold stay as they
    /// are, what the old one remembered is gone.
    pub(crate) fn switch_to(&mut self, kind: CongestionControl, hystart: bool) -> bool {
        let other = self.controller.kind() != kind;
        if other {
            self.controller = Controller::new(kind, hystart);
            self.window.forget_credit();
        }
        other
    }

    /// New data up to `end` left and fills the network up to `pipe` octets; SND.UNA is `una` (RFC9438-5.8). It counts
    /// how far this window was used; a part of it that leaves late, or while ACKs of the rest come in, does not make
    /// that less. `limited` octets of it left beyond cwnd by limited transmit (RFC 3042).
    #[inline]
    pub(crate) fn on_sent(&mut self, pipe: u32, mss: u32, una: SeqNum, end: SeqNum, limited: u32) {
        self.limited_transmit = self.limited_transmit.saturating_add(limited);
        let full = self.cwnd().saturating_sub(pipe) < mss;
        let begins = full || una.ge(self.most_until);
        if begins {
            self.was_full = full;
        }
        if begins || pipe > self.most_in_flight {
            self.most_in_flight = pipe;
            // What follows a full window is not full for being more.
            if begins || !self.was_full {
                self.most_until = end;
            }
        }
    }

    /// The window is what holds data back that would begin at `nxt`.
    #[inline]
    pub(crate) fn on_blocked(&mut self, nxt: SeqNum) {
        self.was_full = true;
        self.most_until = nxt;
    }

    /// What limited transmit sent does not count any more.
    #[inline]
    pub(crate) fn end_limited_transmit(&mut self) {
        self.limited_transmit = 0;
    }

    /// New octets were acknowledged. How much was in the network is known here; `ack.cwnd_limited` says that the window
    /// counts as full in any case.
    #[inline(always)]
    pub(crate) fn on_ack(&mut self, ack: &AckSample) {
        let full = self.was_full && ack.una.le(self.most_until);
        let ack = AckSample { flight: self.most_in_flight, cwnd_limited: ack.cwnd_limited || full, ..*ack };
        self.controller.on_ack(&mut self.window, &ack);
    }

    /// FlightSize as equation 4 of RFC 5681 means it, `flight` being what is left of it: how much the path was asked to
    /// hold when it dropped something.
    ///
    /// ACKs that are handled before anything is sent again, because they came in one batch or because the sender waits
    /// for a larger burst, take octets out of the flight that the window gives back at once; and a probe, the timer or
    /// data sent later may tell of a loss when hardly anything is left of the flight that it happened to. That makes
    /// the path no smaller: what was in the network when that window was sent counts, but for what `cwnd` no longer
    /// covers. RFC 9438 4.6 takes cwnd itself, with a caution for senders that do not fill it, which this is safe from.
    pub(crate) fn loss_flight(&self, flight: u32) -> u32 {
        flight.max(self.most_in_flight).min(self.cwnd())
    }

    /// A loss begins a recovery while `flight` octets are in flight (RFC5681-3.2.2). Gives the threshold.
    pub(crate) fn begin_recovery(&mut self, now: Instant, flight: u32) -> u32 {
        let flight = self.loss_flight(flight.saturating_sub(self.limited_transmit));
        self.limited_transmit = 0;
        self.on_loss(now, flight)
    }

    /// A loss was found without a timeout, when the path was asked to hold `flight` octets. Gives the threshold.
    pub(crate) fn on_loss(&mut self, now: Instant, flight: u32) -> u32 {
        self.controller.on_congestion_event(&mut self.window, now, flight)
    }

    /// Everything of the loss is repaired (RFC5681-3.2.6).
    pub(crate) fn exit_recovery(&mut self) {
        self.window.exit_recovery();
    }

    /// The retransmission timer fired with `flight` octets outstanding, for the segment at SND.UNA `first` or again.
    pub(crate) fn on_rto(&mut self, now: Instant, flight: u32, first: bool) {
        self.controller.on_rto(&mut self.window, now, flight, first);
    }

    /// The sender's segments are of `smss` octets now (RFC5681-3.1d).
    pub(crate) fn on_mss_change(&mut self, smss: u32) {
        self.controller.on_mss_change(&mut self.window, smss);
    }

    /// What [`undo`](Self::undo) goes back to.
    pub(crate) fn save(&self) -> Saved {
        self.controller.save(&self.window)
    }

    /// The loss was none.
    pub(crate) fn undo(&mut self, saved: Saved) {
        self.controller.undo(&mut self.window, saved);
    }

    /// Nothing was sent for an RTO (RFC5681-4.1).
    pub(crate) fn on_idle_restart(&mut self, restart_window: u32) {
        self.controller.on_idle_restart(&mut self.window, restart_window);
    }

    /// A threshold of so many octets, for tests.
    #[cfg(test)]
    pub(crate) fn set_ssthresh(&mut self, ssthresh: u32) {
        self.window.set_ssthresh(ssthresh);
    }
}
