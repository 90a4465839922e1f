//! Tail loss probes (RFC 8985 7): when the acknowledgments stop, one segment more finds out whether the end was lost.

use crate::tcp::base::info::RecoveryCounts;
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::Duration;
use crate::tcp::base::timestamp::Timestamp;
use crate::tcp::recovery::summary::AckSummary;

/// How long a peer may delay the acknowledgment of a lone segment (RFC8985-7.2a, TLP.max_ack_delay). The common delays
/// are 40 to 100 ms; for the rare 200 ms a probe that was not needed is one segment more.
const MAX_ACK_DELAY: Duration = Duration::from_millis(100);

/// A shorter wait would measure the scheduling of both ends, not the path.
const LEAST_PROBE_TIMEOUT: Duration = Duration::from_millis(10);

/// Without a sample (RFC8985-7.2a).
const BLIND_PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// PTO; `alone`: no more than one segment is in flight.
#[inline]
pub(super) fn probe_timeout(srtt: Option<Duration>, alone: bool) -> Duration {
    let Some(srtt) = srtt else { return BLIND_PROBE_TIMEOUT };
    let delay = if alone { MAX_ACK_DELAY } else { Duration::ZERO };
    (srtt + srtt + delay).max(LEAST_PROBE_TIMEOUT)
}

/// What an acknowledgment tells of a probe (RFC 8985 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeAnswer {
    /// Nothing, or that it changed nothing.
    Nothing,
    /// The probe caused the D-SACK in it.
    Duplicate,
    /// The probe has repaired a loss while the path was asked to hold `flight` octets.
    RepairedLoss {
        /// Octets.
        flight: u32,
    },
}

/// The probe of a tail.
#[derive(Clone, Copy, Debug)]
pub(super) struct TailProbe {
    /// TLP.end_seq.
    end: SeqNum,
    /// Where it begins.
    start: SeqNum,
    flight: u32,
    /// TSval of the first copy of what it sent again.
    stamp: Timestamp,
    /// How many left. Not in the record of recoveries: a peer that pauses is no reason to have one.
    sent: u32,
    /// How many of them repaired a loss, as far as is known.
    losses: u32,
    /// One left, and it is not known yet what it did.
    outstanding: bool,
    /// It was a retransmission.
    resent: bool,
    /// One is to leave.
    due: bool,
    /// A round trip was measured since the last one (RFC8985-7.3a).
    sampled: bool,
}

impl TailProbe {
    pub(super) fn new(una: SeqNum) -> Self {
        Self {
            end: una,
            start: una,
            flight: 0,
            stamp: Timestamp(0),
            sent: 0,
            losses: 0,
            outstanding: false,
            resent: false,
            due: false,
            sampled: true,
        }
    }

    /// Its part of what observers see.
    pub(super) fn describe(&self, counts: &mut RecoveryCounts) {
        counts.tail_probes = self.sent;
        counts.tail_losses = self.losses;
    }

    /// Whether one left, and it is not known yet what it did.
    #[inline]
    pub(super) fn is_outstanding(&self) -> bool {
        self.outstanding
    }

    /// Whether one may be sent, as far as those before are concerned (RFC8985-7.3a).
    #[inline]
    pub(super) fn may_follow(&self) -> bool {
        self.sampled && !self.outstanding
    }

    /// What it sent again, while it is outstanding, and the TSval of the first copy of that.
    pub(super) fn copy(&self) -> Option<((SeqNum, SeqNum), Timestamp)> {
        (self.outstanding && self.resent).then_some(((self.start, self.end), self.stamp))
    }

    /// A round trip was measured.
    #[inline]
    pub(super) fn on_sample(&mut self) {
        self.sampled = true;
    }

    /// PTO is over: one is to leave.
    pub(super) fn on_timeout(&mut self) {
        self.due = true;
        self.sampled = false;
    }

    /// Whether one is to leave: it does so now, or not at all.
    #[inline]
    pub(super) fn take_due(&mut self) -> bool {
        let due = self.due;
        if due {
            self.due = false;
        }
        due
    }

    /// A recovery begins, which needs no probe.
    pub(super) fn cancel(&mut self) {
        self.outstanding = false;
        self.due = false;
    }

    /// It left: from where it begins, up to SND.NXT after it (TLP.end_seq). `resent`: the TSval of the first copy, where
    /// it is a retransmission (TLP.is_retrans). `flight` is what the path was asked to hold when it was to carry what
    /// the probe repeats: when the probe tells of a loss, that is long acknowledged.
    pub(super) fn on_sent(&mut self, (start, end): (SeqNum, SeqNum), resent: Option<Timestamp>, flight: u32) {
        self.flight = flight;
        self.sent = self.sent.saturating_add(1);
        self.outstanding = true;
        self.resent = resent.is_some();
        self.stamp = resent.unwrap_or(self.stamp);
        self.start = start;
        self.end = end;
    }

    /// SND.UNA is `una` with an acknowledgment (RFC8985-7.4a to 7.4c). `recovering`: a recovery goes on by itself.
    pub(super) fn on_ack(&mut self, una: SeqNum, summary: &AckSummary, recovering: bool) -> ProbeAnswer {
        if !self.outstanding || una.lt(self.end) && !recovering {
            return ProbeAnswer::Nothing;
        }
        if !self.resent || recovering {
            self.outstanding = false; // 7.4a
            return ProbeAnswer::Nothing;
        }
        if summary.dsack.is_some_and(|(_, right)| right == self.end) {
            self.outstanding = false; // 7.4b
            return ProbeAnswer::Duplicate;
        }
        if summary.bare && una == self.end {
            self.outstanding = false; // 7.4b, of a peer without DSACK: both copies have arrived
            return ProbeAnswer::Nothing;
        }
        if una.gt(self.end) {
            // 7.4c: nobody complains of a duplicate, so the probe has repaired a loss.
            self.outstanding = false;
            self.losses = self.losses.saturating_add(1);
            return ProbeAnswer::RepairedLoss { flight: self.flight };
        }
        ProbeAnswer::Nothing
    }
}
