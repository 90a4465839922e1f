//! The last recovery of a connection, and whether it was needless.
//!
//! A recovery that proves needless is undone: by D-SACK (RFC 3708), by timestamps (Eifel, RFC 3522) or by the order of
//! acknowledgments after a timeout (F-RTO, RFC 5682).

use crate::tcp::base::config::Config;
use crate::tcp::base::info::RecoveryCounts;
use crate::tcp::base::ranges::{Insert, RangeSet};
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::base::timestamp::Timestamp;
use crate::tcp::congestion::Saved;
use crate::tcp::congestion::prr::Prr;
use crate::tcp::recovery::summary::AckSummary;

/// Ranges of either kind in [`Copies`].
const MOST_RANGES: usize = 64;

/// How far F-RTO is (RFC 5682).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Frto {
    /// Not, or not any more.
    #[default]
    Off,
    /// The first segment was sent again; the next acknowledgment decides.
    Waiting,
    /// It advanced: new data instead of retransmissions, and the acknowledgment after it decides.
    Probing,
}

/// What an acknowledgment told F-RTO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrtoStep {
    /// It is not asked.
    Off,
    /// Nothing, or it goes on.
    Open,
    /// The timeout was in earnest (RFC5682-2.3a): two new segments are out, the third place is for what was lost.
    Genuine,
}

/// What is remembered of the last recovery; most connections never need it.
#[derive(Clone, Debug, Default)]
pub(super) struct Episode {
    /// How much may leave with each acknowledgment of it.
    pub(super) prr: Prr,
    /// What was counted in this recovery and those before.
    pub(super) counts: RecoveryCounts,
    /// What the window was before it, while it can be undone.
    saved: Option<Saved>,
    /// What was sent again in it.
    copies: Copies,
    /// A report of a duplicate that comes later than this is not about it.
    undo_until: Instant,
    /// TSval of its first retransmission.
    stamp: Option<Timestamp>,
    /// TSval of the oldest segment in flight when it began, as that was sent first.
    oldest: Timestamp,
    frto: Frto,
    /// When the window was reduced last.
    reduced_at: Instant,
    /// When a timeout or fast retransmission last began to send again.
    resent_at: Instant,
}

/// Why a recovery was needless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// What was sent before a timeout arrived after all.
    Frto,
    /// The timestamp of a first copy was echoed.
    Eifel,
    /// All copies arrived, and so did what they are copies of.
    Dsack,
}

impl Episode {
    /// A recovery begins at `now` that may be undone to `saved`. The oldest segment in flight had the timestamp
    /// `oldest`; a probe has sent `probed` again already.
    pub(super) fn begin(&mut self, saved: Saved, oldest: Timestamp, probed: Option<(SeqNum, SeqNum)>, now: Instant) {
        // All of them are forgotten, and their memory is kept.
        let Copies { mut first, mut second, .. } = core::mem::take(&mut self.copies);
        first.empty();
        second.empty();
        let mut copies = Copies { first, second, beyond: false };
        if let Some((start, end)) = probed {
            copies.add(start, end);
        }
        let (saved, counts) = (Some(saved), self.counts);
        *self = Self { saved, copies, undo_until: Instant::MAX, oldest, reduced_at: now, counts, ..Self::default() };
    }

    /// All that is in flight may be sent again from now on.
    pub(super) fn resume(&mut self, now: Instant) {
        self.resent_at = now;
        self.frto = Frto::Off;
    }

    /// The recovery is over at `now`. The last copy that was sent comes as long after this as it takes at most: as long
    /// as the path was silent before the recovery, and that lasted.
    pub(super) fn end(&mut self, rto: Duration, now: Instant) {
        self.undo_until = now + rto + (now - self.reduced_at);
    }

    /// A second loss reduces the window once more; `pipe` octets were in the network before.
    pub(super) fn reduce_again(&mut self, pipe: u32, now: Instant) {
        self.reduced_at = now;
        self.saved = None;
        self.prr = Prr::new(pipe);
    }

    /// When the window was reduced last.
    #[inline]
    pub(super) fn reduced_at(&self) -> Instant {
        self.reduced_at
    }

    /// When a timeout or fast retransmission last began to send again.
    pub(super) fn resent_at(&self) -> Instant {
        self.resent_at
    }

    /// Whether `echo` can tell which copy of something has arrived: not if it is that of something before the flight,
    /// as with a peer that echoes amiss.
    #[inline]
    pub(super) fn is_told_by(&self, echo: Timestamp) -> bool {
        echo.ge(self.oldest)
    }

    /// Something leaves again with this timestamp; with SACK, these octets of it are known.
    pub(super) fn on_resent(&mut self, stamp: Timestamp, octets: Option<(SeqNum, SeqNum)>) {
        self.stamp.get_or_insert(stamp);
        if let Some((start, end)) = octets {
            self.copies.add(start, end);
        }
    }

    /// A range arrived twice. When that is true of all that was sent again, nothing was lost (RFC 3708). Of all of it,
    /// and while it can be about that: networks make two of one, too.
    pub(super) fn on_dsack(&mut self, (left, right): (SeqNum, SeqNum), now: Instant) {
        if now > self.undo_until {
            self.saved = None;
        }
        if self.saved.is_some() {
            // Copies are alike: it is the latest.
            let Copies { first, second, .. } = &mut self.copies;
            if second.remove(left, right, MOST_RANGES) == 0 {
                first.remove(left, right, MOST_RANGES);
            }
        }
    }

    /// The window is reduced or set for another reason: this reduction cannot be undone any more.
    pub(super) fn forget_undo(&mut self) {
        self.saved = None;
    }

    /// What the window was before, and whether F-RTO or Eifel told so, if an acknowledgment shows the recovery that
    /// `goes_on`, or was the last, to be needless. Only once.
    pub(super) fn take_needless(
        &mut self,
        config: &Config,
        summary: &AckSummary,
        echo: Option<Timestamp>,
        with_sack: bool,
        goes_on: bool,
    ) -> Option<(Saved, bool)> {
        let saved = self.saved?;
        let evidence = self.evidence(config, summary, echo, with_sack, goes_on)?;
        self.saved = None;
        let counts = &mut self.counts;
        match evidence {
            Evidence::Frto => counts.undone_by_frto += 1,
            Evidence::Eifel => counts.undone_by_eifel += 1,
            Evidence::Dsack => counts.undone_by_dsack += 1,
        }
        Some((saved, evidence != Evidence::Dsack))
    }

    fn evidence(
        &self,
        config: &Config,
        summary: &AckSummary,
        echo: Option<Timestamp>,
        with_sack: bool,
        goes_on: bool,
    ) -> Option<Evidence> {
        // RFC5682-2.3b, 3.1: without SACK an acknowledgment that also covers what was sent again proves nothing.
        let original = summary.original && (with_sack || !summary.resent);
        if config.frto && self.frto != Frto::Off && original {
            return Some(Evidence::Frto);
        }
        // RFC3522-3.2. A timestamp of this flight: what else a peer echoes, 0 or always the same, says nothing. Nor
        // does that of a copy which the recovery before has sent.
        let older = |stamp| echo.is_some_and(|echo| self.is_told_by(echo) && echo.lt(stamp));
        if config.eifel && goes_on && summary.copied && self.stamp.is_some_and(older) {
            return Some(Evidence::Eifel);
        }
        let all_reported = self.copies.first.is_empty() && !self.copies.beyond;
        let dsack = summary.dsack.is_some() && self.stamp.is_some() && all_reported;
        dsack.then_some(Evidence::Dsack)
    }

    /// How far F-RTO is.
    #[inline]
    pub(super) fn frto(&self) -> Frto {
        self.frto
    }

    /// F-RTO begins, or is over.
    pub(super) fn set_frto(&mut self, frto: Frto) {
        self.frto = frto;
    }

    /// F-RTO after an acknowledgment that decided nothing (RFC5682-2.2a to 2.3b). `ready`: it acknowledges all that was
    /// sent again, and there is new data that may leave.
    pub(super) fn step_frto(&mut self, summary: &AckSummary, ready: bool) -> FrtoStep {
        let (next, step) = match self.frto {
            Frto::Off => (Frto::Off, FrtoStep::Off),
            // 2.2b; 2.2a: less than what was sent again is acknowledged.
            Frto::Waiting if summary.acked > 0 && ready => (Frto::Probing, FrtoStep::Open),
            // 3.1: with SACK, duplicates leave the question open.
            Frto::Waiting if summary.acked == 0 && summary.sacked > 0 => (Frto::Waiting, FrtoStep::Open),
            Frto::Waiting => (Frto::Off, FrtoStep::Open),
            Frto::Probing => (Frto::Off, FrtoStep::Genuine),
        };
        self.frto = next;
        step
    }
}

/// What was sent again in a recovery and is not reported as a duplicate yet (RFC 3708).
#[derive(Clone, Debug, Default)]
struct Copies {
    /// Octets whose first such copy is not.
    first: RangeSet,
    /// Octets whose second one is not, either.
    second: RangeSet,
    /// There were more than these hold.
    beyond: bool,
}

impl Copies {
    /// `[start, end)` is sent again. Of a FIN alone nobody reports a duplicate.
    fn add(&mut self, start: SeqNum, end: SeqNum) {
        self.beyond |= start.ge(end);
        let mut at = start;
        while at.lt(end) {
            // Up to the end of what is there, or to the begin of what is.
            let known = self.first.first_overlap(at, end);
            let (to, set) = match known {
                Some((low, high)) if low == at => (high, &mut self.second),
                Some((low, _)) => (low, &mut self.first),
                None => (end, &mut self.first),
            };
            self.beyond |= set.insert(at, to, MOST_RANGES) != Insert::Added(to.above(at));
            at = to;
        }
    }
}
