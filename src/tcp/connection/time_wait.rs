//! TIME-WAIT: the compact record that outlives a connection (SM-TW-7).
//!
//! Decisions recorded here: it lasts `Config::time_wait` (60 s; MUST-13 names 4 min), RST is ignored (RFC 1337 F1,
//! SM-TW-4), a new SYN is accepted by RFC 6191 (SHLD-4).
//!
//! A peer that has restarted may begin with a SYN that is not provably newer, and would repeat it for a minute. It is
//! answered with an ACK; the RST that its host returns has exactly the number of that ACK and ends the record, so that
//! its next SYN opens. RFC 1337 fears old duplicates that end the wait by the same exchange: data and ACKs do not lead
//! to it, nor does the old connection's own SYN, whose number is known.

use bitflags::bitflags;

use crate::tcp::base::config::Config;
use crate::tcp::base::segment::{Segment, Transmit};
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::base::timestamp::{Timestamp, TimestampClock};
use crate::tcp::base::units::UnscaledWindow;
use crate::tcp::connection::challenge::Limiter;
use crate::tcp::connection::receiver::Receiver;
use crate::wire::options::Timestamps;
use crate::wire::tcp::Flags;

/// Least age of a record that an active open takes over (tcp_tw_reuse_delay of Linux).
const REUSE_DELAY: Duration = Duration::from_secs(1);

bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Facts: u8 {
        /// Timestamps were in use.
        const TIMESTAMPS = 1;
        /// The peer may leave them out.
        const MAY_LACK = 1 << 1;
        /// A SYN that is not provably newer was answered with an ACK.
        const ASKED = 1 << 2;
    }
}

/// A connection in TIME-WAIT.
#[derive(Clone, Debug)]
pub struct TimeWait {
    snd_nxt: SeqNum,
    rcv_nxt: SeqNum,
    /// The window field last advertised.
    window: UnscaledWindow,
    facts: Facts,
    /// The peer's initial sequence number.
    irs: SeqNum,
    /// TS.Recent, and the clock of our timestamps.
    recent: Timestamp,
    clock: TimestampClock,
    deadline: Instant,
    limiter: Limiter,
}

/// What a segment did to a record in TIME-WAIT.
#[derive(Clone, Copy, Debug)]
pub enum TimeWaitOutcome {
    /// Nothing.
    Ignore,
    /// Send this ACK; the deadline may have moved.
    Reply(Transmit),
    /// The peer has forgotten the old connection: drop the record.
    Ended,
    /// The segment is a SYN that opens a new connection (SM-TW-5a to 5e): drop the record and treat it as in LISTEN,
    /// with an initial sequence number above `iss_floor` (SM-TW-5f). If that attempt is reset, the record may be put
    /// back.
    Reuse {
        /// The new ISS must be greater than this.
        iss_floor: SeqNum,
    },
}

impl TimeWait {
    /// The record of a connection that both sides have closed, from `now` on.
    pub(super) fn new(receiver: &Receiver, snd_nxt: SeqNum, config: &Config, now: Instant) -> Self {
        let stamps = receiver.timestamps().last();
        let mut facts = Facts::empty();
        facts.set(Facts::TIMESTAMPS, stamps.is_some());
        facts.set(Facts::MAY_LACK, stamps.is_some_and(|(_, _, may_lack)| may_lack));
        let (recent, clock) = stamps.map(|(recent, clock, _)| (recent, clock)).unwrap_or_default();
        Self {
            snd_nxt,
            rcv_nxt: receiver.nxt(),
            window: receiver.window_field(),
            facts,
            irs: receiver.nxt() - (receiver.received() as u32) - (1 + u32::from(receiver.at_eof())),
            recent,
            clock,
            deadline: now + config.time_wait,
            limiter: Limiter::new(),
        }
    }

    /// When the record may go (SM-TW-6).
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether an active open of ours may take the quad over (OPS-20, SM-TW-6): when timestamps were in use, whose
    /// clock goes on, and a second after the last segment, so that ours will be newer whatever the peer has seen. The
    /// new ISS must be greater than what this returns.
    #[must_use]
    pub fn yields(&self, config: &Config, now: Instant) -> Option<SeqNum> {
        let aged = now + config.time_wait >= self.deadline + REUSE_DELAY;
        (self.has(Facts::TIMESTAMPS) && aged).then(|| self.iss_floor())
    }

    fn has(&self, facts: Facts) -> bool {
        self.facts.contains(facts)
    }

    /// Beyond anything the old connection could still send.
    fn iss_floor(&self) -> SeqNum {
        self.snd_nxt + 65_535 + 2
    }

    /// A segment for the record.
    pub fn on_segment(&mut self, config: &Config, seg: &Segment, now: Instant) -> TimeWaitOutcome {
        if seg.has(Flags::RST) {
            // RFC 1337 F1: an old RST must not end the wait early. This one answers the ACK that asked.
            let asked_for = self.has(Facts::ASKED) && seg.seq == self.rcv_nxt;
            return if asked_for { TimeWaitOutcome::Ended } else { TimeWaitOutcome::Ignore };
        }
        if seg.has(Flags::SYN) && !seg.has(Flags::ACK) {
            if self.is_newer(seg) {
                return TimeWaitOutcome::Reuse { iss_floor: self.iss_floor() };
            }
            if seg.seq == self.irs {
                return TimeWaitOutcome::Ignore; // RFC 1337: an old duplicate
            }
            // It may be of a peer that has lost its state, or old. RFC 6191 wants silence; to ask is what RFC 9293 has
            // in any other state (SM-SYN-1), and Linux does here.
            self.facts |= Facts::ASKED;
            return self.reply_limited(config, now);
        }
        if !seg.has(Flags::ACK) {
            return TimeWaitOutcome::Ignore;
        }
        let strict = config.strict_timestamps && !self.has(Facts::MAY_LACK) && !seg.has(Flags::SYN);
        let old = self.has(Facts::TIMESTAMPS)
            && match seg.options.timestamps {
                Some(stamps) => Timestamp(stamps.val).lt(self.recent),
                None if strict => return TimeWaitOutcome::Ignore,
                None => false,
            };
        if !old && seg.has(Flags::FIN) && seg.seq + seg.seq_len() == self.rcv_nxt {
            // SM-TW-1: the peer did not hear our last ACK.
            self.deadline = now + config.time_wait;
            if let Some(stamps) = seg.options.timestamps {
                self.recent = Timestamp(stamps.val);
            }
            return TimeWaitOutcome::Reply(self.ack(now));
        }
        if !old && seg.seq_len() == 0 && seg.seq == self.rcv_nxt && seg.ack == self.snd_nxt {
            // Nothing is missing on either side. An answer could be answered without end (RFC 1337 H2).
            return TimeWaitOutcome::Ignore;
        }
        // SM-TW-2, SM-TW-3.
        self.reply_limited(config, now)
    }

    fn reply_limited(&mut self, config: &Config, now: Instant) -> TimeWaitOutcome {
        if self.limiter.allow(now, config.challenge_interval) {
            TimeWaitOutcome::Reply(self.ack(now))
        } else {
            TimeWaitOutcome::Ignore
        }
    }

    /// Whether a SYN is provably newer than the old connection (RFC 6191, SM-TW-5a to 5e).
    fn is_newer(&self, syn: &Segment) -> bool {
        // "SEQ > last sequence number", which was the peer's FIN.
        let above = syn.seq.ge(self.rcv_nxt);
        match (self.has(Facts::TIMESTAMPS), syn.options.timestamps) {
            (true, Some(stamps)) if Timestamp(stamps.val) == self.recent => above,
            (true, Some(stamps)) => self.recent.lt(Timestamp(stamps.val)),
            (false, Some(_)) => true,
            (_, None) => above,
        }
    }

    fn ack(&self, now: Instant) -> Transmit {
        let mut ack = Transmit::bare(self.snd_nxt, self.rcv_nxt, Flags::ACK, self.window);
        if self.has(Facts::TIMESTAMPS) {
            let val = self.clock.at(now).0;
            ack.options.timestamps = Some(Timestamps { val, ecr: self.recent.0 });
        }
        ack
    }
}

#[cfg(test)]
#[path = "time_wait_tests.rs"]
mod tests;
