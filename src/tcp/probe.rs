//! The one timer of loss recovery, and tail loss probes (RFC 8985 7 and 8).
//!
//! A retransmission timeout, a probe timeout and the repetition of RACK's detection exclude each other: they share the
//! slot [`Timer::Retransmit`], and [`LossTimer`] says which of them it is.

use super::config::Config;
use super::connection::{Connection, Events, Outcome, Recovery};
use super::marks::Marks;
use super::recovery::News;
use super::segment::Transmit;
use super::send::above;
use super::seq::SeqNum;
use super::time::{Duration, Instant};
use super::timers::Timer;

/// How long a peer may delay the acknowledgment of a lone segment (RFC8985-7.2a, TLP.max_ack_delay). The common delays
/// are 40 to 100 ms; for the rare 200 ms a probe that was not needed is one segment more.
const MAX_ACK_DELAY: Duration = Duration::from_millis(100);

/// A shorter wait would measure the scheduling of both ends, not the path.
const LEAST_PROBE_TIMEOUT: Duration = Duration::from_millis(10);

/// Without a sample (RFC8985-7.2a).
const BLIND_PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the slot [`Timer::Retransmit`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum LossTimer {
    /// RFC 6298.
    Retransmission,
    /// PTO: nothing was heard of what is in flight for two round trips.
    Probe,
    /// Something may be lost, or only reordered.
    Reordering,
}

/// The probe of a tail.
#[derive(Clone, Copy, Debug)]
pub(super) struct TailProbe {
    /// TLP.end_seq: SND.NXT after the probe left, while it is outstanding.
    pub(super) end: SeqNum,
    /// One left, and it is not known yet what it did.
    pub(super) outstanding: bool,
    /// It was a retransmission (TLP.is_retrans).
    resent: bool,
    /// One is to leave.
    pub(super) due: bool,
    /// A round trip was measured since the last one (RFC8985-7.3a).
    pub(super) sampled: bool,
    /// What the path was asked to hold when it was to carry what the probe repeats ([`Connection::loss_flight`]). When the
    /// probe tells of a loss, that is long acknowledged.
    flight: u32,
    /// Where that began.
    start: SeqNum,
    /// TSval of the first copy of what it sent again.
    stamp: u32,
    /// How many left. Not in the record of recoveries: a peer that pauses is no reason to have one.
    pub(super) sent: u32,
    /// How many of them repaired a loss, as far as is known.
    pub(super) losses: u32,
}

impl TailProbe {
    pub(super) fn new(una: SeqNum) -> Self {
        Self {
            end: una,
            outstanding: false,
            resent: false,
            due: false,
            sampled: true,
            flight: 0,
            start: una,
            stamp: 0,
            sent: 0,
            losses: 0,
        }
    }

    /// What it sent again, while it is outstanding.
    pub(super) fn copy(&self) -> Option<(SeqNum, SeqNum)> {
        (self.outstanding && self.resent).then_some((self.start, self.end))
    }

    /// TSval of the first copy, if `start` was probed for.
    pub(super) fn copy_stamp(&self, start: SeqNum) -> Option<u32> {
        self.copy().filter(|(begin, _)| *begin == start).map(|_| self.stamp)
    }
}

impl Connection {
    /// Sets the timer of loss recovery to what comes first. Called after whatever may change that.
    #[inline]
    pub(super) fn arm_loss_timer(&mut self, config: &Config, now: Instant) {
        if self.hot.snd.una == self.hot.snd.nxt {
            self.hot.timers.cancel(Timer::Retransmit); // RFC6298-5.2
            return;
        }
        let timeout = self.cold.rto_base + self.cold.rtt.rto(&config.rtt());
        let repeat_at = self.cold.rack.repeat_at;
        let (kind, at) = if repeat_at != Instant::MAX {
            // RFC8985-6.2.5b
            if repeat_at < timeout { (LossTimer::Reordering, repeat_at) } else { (LossTimer::Retransmission, timeout) }
        } else if self.may_probe(config) {
            // RFC8985-7.2a: never beyond the timeout.
            (LossTimer::Probe, timeout.min(now + self.probe_timeout_after()))
        } else {
            (LossTimer::Retransmission, timeout)
        };
        self.cold.loss_timer = kind;
        self.hot.timers.set(Timer::Retransmit, at);
    }

    /// RFC8985-7.2b, 7.3a.
    #[inline]
    fn may_probe(&self, config: &Config) -> bool {
        let tail = &self.cold.tail;
        config.tlp
            && config.rack
            && self.hot.marks.has(Marks::SACK)
            && self.hot.recovery == Recovery::Open
            && tail.sampled
            && !tail.outstanding
            && self.cold.board.gone() == 0
    }

    /// PTO.
    #[inline]
    fn probe_timeout_after(&self) -> Duration {
        let Some(srtt) = self.cold.rtt.srtt() else { return BLIND_PROBE_TIMEOUT };
        let alone = self.hot.snd.flight() <= self.hot.congestion.smss();
        let delay = if alone { MAX_ACK_DELAY } else { Duration::ZERO };
        (srtt + srtt + delay).max(LEAST_PROBE_TIMEOUT)
    }

    /// PTO is over.
    pub(super) fn probe_timeout(&mut self, config: &Config, now: Instant, outcome: &mut Outcome) {
        self.cold.rto_base = now; // RFC8985-7.3c
        if self.may_probe(config) && self.hot.snd.una.lt(self.hot.snd.written) {
            self.cold.tail.due = true;
            self.cold.tail.sampled = false;
            self.hot.marks.set(Marks::POLL);
            self.hot.predictable = false;
            outcome.events |= Events::PROBE;
        }
        self.arm_loss_timer(config, now);
    }

    /// The probe: new data if there is any that the peer allows, beyond cwnd if need be, or the last segment once more
    /// (RFC8985-7.3b). Not what is held back to fill a segment (NAGLE-3, NAGLE-5): the last segment tells as much.
    pub(super) fn probe_tail(&mut self, config: &Config, now: Instant) -> Option<Transmit> {
        self.cold.tail.due = false;
        let options = self.options(now);
        let mss = self.effective_mss(&options);
        let snd = &self.hot.snd;
        let (una, unsent, room) = (snd.una, snd.unsent(), snd.window_room());
        if una == snd.nxt || self.hot.recovery != Recovery::Open {
            return None;
        }
        let whole = unsent.min(mss);
        let held = whole < mss && self.holds_tail();
        let fresh = whole > 0 && room >= whole && !held && self.cold.board.has_room();
        let segment = if fresh {
            let fin = self.hot.marks.has(Marks::FIN_QUEUED) && whole == unsent && room > whole;
            self.send_new(config, now, whole, fin, mss, options)
        } else {
            let end = snd.written.later(una);
            let data_end = snd.data_end().earlier(end);
            let fin = self.hot.marks.has(Marks::FIN_SENT) && end.gt(data_end);
            let len = above(data_end, una).min(mss);
            if len == 0 && !fin {
                return None;
            }
            self.cold.tail.stamp = self.first_stamp(data_end - len).unwrap_or_default();
            let segment = self.build_data(data_end - len, len, fin, mss, options);
            self.book_resent(segment, mss, now)
        };
        let flight = self.loss_flight(self.pipe());
        let tail = &mut self.cold.tail;
        tail.flight = flight;
        tail.sent = tail.sent.saturating_add(1);
        tail.outstanding = true;
        tail.resent = !fresh;
        tail.start = segment.seq;
        tail.end = self.hot.snd.nxt;
        self.cold.rto_base = now;
        self.arm_loss_timer(config, now);
        Some(segment)
    }

    /// What an acknowledgment tells of an outstanding probe (RFC8985-7.4a to 7.4c). Whether the D-SACK in it, if there is
    /// one, was caused by the probe.
    pub(super) fn judge_probe(&mut self, news: &News, now: Instant) -> bool {
        let tail = self.cold.tail;
        let una = self.hot.snd.una;
        if !tail.outstanding || una.lt(tail.end) && self.hot.recovery == Recovery::Open {
            return false;
        }
        if !tail.resent || self.hot.recovery != Recovery::Open {
            self.cold.tail.outstanding = false; // 7.4a, or recovery goes on by itself
            return false;
        }
        if news.dsack.is_some_and(|(_, right)| right == tail.end) {
            self.cold.tail.outstanding = false; // 7.4b
            return true;
        }
        if news.bare && una == tail.end {
            self.cold.tail.outstanding = false; // 7.4b, of a peer without DSACK: both copies have arrived
            return false;
        }
        if una.gt(tail.end) {
            // 7.4c: nobody complains of a duplicate, so the probe has repaired a loss.
            self.cold.tail.outstanding = false;
            self.cold.tail.losses = self.cold.tail.losses.saturating_add(1);
            let flight = tail.flight;
            self.forget_undo();
            let (controller, window) = (&mut self.cold.controller, &mut self.hot.congestion);
            controller.on_congestion_event(window, now, flight);
            window.exit_recovery();
        }
        false
    }
}
