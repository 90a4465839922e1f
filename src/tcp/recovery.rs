//! Loss recovery of the sender: what an acknowledgment with its SACK blocks leads to.
//!
//! With SACK, loss is found by RACK (RFC 8985), or by the rules of RFC 6675 where RACK is switched off, and PRR (RFC 9937)
//! says how much leaves. Without SACK it is NewReno (RFC 6582): there, duplicate ACKs do not tell what has arrived, so
//! times say nothing about which segment is missing.
//!
//! A recovery that proves needless is undone: by D-SACK (RFC 3708), by timestamps (Eifel, RFC 3522) or by the order of
//! acknowledgments after a timeout (F-RTO, RFC 5682).

use super::config::Config;
use super::congestion::{AckSample, Saved};
use super::connection::{Connection, Events, Outcome, Recovery};
use super::handshake::ticks;
use super::info::RecoveryCounts;
use super::marks::Marks;
use super::prr::Prr;
use super::ranges::{Insert, RangeSet};
use super::scoreboard::{Marked, Record};
use super::segment::{Segment, Transmit};
use super::send::above;
use super::seq::SeqNum;
use super::time::{Duration, Instant};
use crate::wire::options::Timestamps;

/// Segments that must have arrived above a hole before it counts as a loss (RFC6675-2).
const DUP_THRESH: u32 = 3;

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

/// What is remembered of the last recovery; most connections never need it.
#[derive(Clone, Debug, Default)]
pub(super) struct Episode {
    pub(super) prr: Prr,
    /// What the window was before it, while it can be undone.
    saved: Option<Saved>,
    /// What was sent again in it.
    copies: Copies,
    /// A report of a duplicate that comes later than this is not about it.
    undo_until: Instant,
    /// TSval of its first retransmission.
    stamp: Option<u32>,
    /// TSval of the oldest segment in flight when it began, as that was sent first.
    oldest: u32,
    pub(super) frto: Frto,
    /// When the window was reduced last.
    pub(super) reduced_at: Instant,
    /// When a timeout or fast retransmission last began to send again; means something with `Marks::KARN`.
    pub(super) resent_at: Instant,
    pub(super) counts: RecoveryCounts,
}

/// Ranges of either kind in [`Copies`].
const MOST_RANGES: usize = 64;

/// What was sent again in a recovery and is not reported as a duplicate yet.
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
            let len = above(to, at);
            self.beyond |= set.insert(at, to, MOST_RANGES) != Insert::Added(len);
            at = to;
        }
    }

    /// `[start, end)` has arrived twice. Copies are alike: it is the latest.
    fn reported(&mut self, start: SeqNum, end: SeqNum) {
        if self.second.remove(start, end, MOST_RANGES) == 0 {
            self.first.remove(start, end, MOST_RANGES);
        }
    }

    /// Whether all of them are reported.
    fn none_left(&self) -> bool {
        self.first.is_empty() && !self.beyond
    }

    fn clear(&mut self) {
        self.first.empty();
        self.second.empty();
        self.beyond = false;
    }
}

/// What one acknowledgment says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    /// Octets in the network before it.
    pub(super) flight: u32,
    /// Octets by which SND.UNA moved.
    pub(super) acked: u32,
    /// Octets newly reported by SACK.
    pub(super) sacked: u32,
    /// Octets that arrived, as far as was not known before (DeliveredData).
    pub(super) delivered: u32,
    /// Of what was in flight when recovery began, something arrived that was sent once only.
    pub(super) original: bool,
    /// Something that was sent again is acknowledged.
    pub(super) resent: bool,
    /// Something that was sent again in this recovery is.
    pub(super) copied: bool,
    /// A range that arrived twice (RFC 2883).
    pub(super) dsack: Option<(SeqNum, SeqNum)>,
    /// Round trip of the latest that arrived and was sent once only.
    pub(super) rtt: Option<Duration>,
    /// It says the same as the one before and has no SACK option: a duplicate ACK of a peer that does not report more.
    pub(super) bare: bool,
}

impl News {
    /// `record` from `start` on has arrived.
    #[inline]
    pub(super) fn note(&mut self, start: SeqNum, record: &Record, recover: SeqNum, now: Instant) {
        self.delivered += above(record.end, start);
        if record.resent() {
            return;
        }
        self.original |= record.end.le(recover);
        if record.timed() {
            self.rtt = Some(now - record.sent);
        }
    }
}

/// Whether the echo of `stamps` is from before `record` was sent.
#[inline]
pub(super) fn echo_older(record: &Record, stamps: Option<Timestamps>, offset: u32) -> bool {
    record.resent() && stamps.is_some_and(|stamps| SeqNum(stamps.ecr).lt(SeqNum(ticks(record.sent, offset))))
}

impl Connection {
    /// Octets taken to be in the network (RFC6675-4b).
    #[inline]
    pub(super) fn pipe(&self) -> u32 {
        self.hot.snd.flight().saturating_sub(self.cold.board.gone())
    }

    /// What is remembered of recoveries, made at the first.
    pub(super) fn episode(&mut self) -> &mut Episode {
        self.cold.episode.get_or_insert_with(Box::default)
    }

    pub(super) fn count(&mut self, count: impl FnOnce(&mut RecoveryCounts)) {
        count(&mut self.episode().counts);
    }

    /// How far F-RTO is.
    #[inline]
    pub(super) fn frto(&self) -> Frto {
        self.cold.episode.as_ref().map_or(Frto::Off, |episode| episode.frto)
    }

    /// Takes the SACK blocks of `seg` over (RFC 2018, RFC 2883 5).
    pub(super) fn take_sack(&mut self, config: &Config, seg: &Segment, now: Instant, news: &mut News) {
        let snd = &self.hot.snd;
        let (una, nxt, recover) = (snd.una, snd.nxt, snd.recover);
        // Nothing below this can still arrive twice: it was never sent, or is older than any window.
        let least = una - u64::from(snd.max_wnd).min(self.cold.acked) as u32;
        let min_rtt = self.cold.min_rtt;
        let (board, rack) = (&mut self.cold.board, &mut self.cold.rack);
        let before = board.sacked();
        let mut blocks = seg.options.sack.iter().map(|(left, right)| (SeqNum(left), SeqNum(right))).peekable();
        if let Some((left, right)) = blocks.peek().copied() {
            // RFC2883-5a: below the ACK field of this very segment, or within the second block, which lies above it.
            let mut rest = seg.options.sack.iter().skip(1).map(|(left, right)| (SeqNum(left), SeqNum(right)));
            let inside = rest.next().is_some_and(|(low, high)| low.gt(seg.ack) && low.le(left) && right.le(high));
            let possible = left.ge(least) && left.lt(right) && right.le(nxt);
            if possible && (right.le(seg.ack) || inside) {
                news.dsack = config.dsack.then_some((left, right));
                blocks.next(); // RFC2883-5b
            }
        }
        for (left, right) in blocks {
            // RFC2018-V. What begins at SND.UNA is no report of something out of order.
            if left.gt(una) && left.lt(right) && right.le(nxt) {
                board.sack(una, left, right, |start, record| {
                    news.note(start, record, recover, now);
                    // The echo is of what came last in order (RFC7323-4.3b), and tells nothing of this.
                    rack.on_delivered(record, now, min_rtt, false);
                });
            }
        }
        news.sacked = board.sacked() - before;
    }

    /// Everything an acknowledgment means for recovery on a connection with SACK. Whether the retransmission timer
    /// restarts, if SND.UNA moved.
    pub(super) fn recover_with_sack(
        &mut self,
        config: &Config,
        news: &News,
        stamps: Option<Timestamps>,
        now: Instant,
        outcome: &mut Outcome,
    ) {
        if news.sacked > 0 && news.acked == 0 {
            outcome.events |= Events::DUPLICATE_ACK;
        }
        let by_probe = self.judge_probe(news, now);
        if let Some(range) = news.dsack {
            outcome.events |= Events::DSACK;
            self.count(|counts| counts.dsacks += 1);
            if !by_probe {
                // More duplicates than there were retransmissions: the network makes them.
                if self.episode().counts.dsacks <= self.cold.retransmits {
                    self.cold.rack.on_dsack(self.hot.snd.una, self.hot.snd.nxt);
                }
                self.note_dsack(range, now);
            }
        }
        if self.hot.snd.una.ge(self.hot.snd.recover) {
            self.hot.marks.clear(Marks::KARN);
        }
        self.undo_if_spurious(config, news, stamps, outcome);
        let marked = self.detect_losses(config, now);
        if self.hot.recovery == Recovery::Loss {
            self.grow(news, now);
        }
        self.end_recovery_if_done(config, now);
        match self.hot.recovery {
            // Not only what this very ACK tells: what was sent in a recovery and found lost in it is a loss of its own
            // when that recovery ends.
            Recovery::Open if self.cold.board.lost() > 0 => self.begin_fast_recovery(config, news, now, outcome),
            Recovery::Open => {
                if self.cold.board.sacked() == 0 {
                    self.cold.limited_transmit = 0;
                }
                if news.acked > 0 {
                    self.grow(news, now);
                } else if news.sacked > 0 {
                    self.hot.marks.set(Marks::POLL); // RFC6675-5.3
                }
            }
            Recovery::Fast => self.continue_fast_recovery(config, news, marked, now, outcome),
            Recovery::Loss => {
                self.step_frto(news);
                self.hot.marks.set(Marks::POLL);
            }
        }
    }

    /// The congestion window grows by an acknowledgment.
    #[inline]
    pub(super) fn grow(&mut self, news: &News, now: Instant) {
        if news.acked == 0 {
            return;
        }
        let snd = &self.hot.snd;
        let full = self.hot.marks.has(Marks::CWND_LIMITED) && snd.una.le(self.cold.loaded_end);
        let sample = AckSample {
            now,
            acked: news.acked,
            flight: self.cold.loaded,
            rtt: news.rtt,
            srtt: self.cold.rtt.srtt().unwrap_or_default(),
            una: snd.una,
            nxt: snd.nxt,
            cwnd_limited: full || self.hot.recovery == Recovery::Loss,
        };
        self.cold.controller.on_ack(&mut self.hot.congestion, &sample);
    }

    /// Finds what is lost (RFC8985-6.2.5a, or RFC6675-4a). Nothing changes but the records.
    pub(super) fn detect_losses(&mut self, config: &Config, now: Instant) -> Marked {
        let smss = self.smss();
        let snd = &self.hot.snd;
        let (board, rack) = (&mut self.cold.board, &mut self.cold.rack);
        rack.repeat_at = Instant::MAX;
        if !config.rack {
            return board.judge_by_sack(snd.una, snd.written, (DUP_THRESH - 1) * smss);
        }
        let certain = self.hot.recovery != Recovery::Open || board.sacked() > (DUP_THRESH - 1) * smss;
        let window = rack.window(self.cold.min_rtt, self.cold.rtt.srtt(), certain);
        let mut remaining = Duration::ZERO;
        let marked = board
            .judge(snd.una, snd.written, snd.resent_end, |_, record| rack.judge(record, now, window, &mut remaining));
        if !remaining.is_zero() {
            rack.repeat_at = now + remaining;
        }
        if marked.octets > 0 && marked.resent.is_some() {
            self.count(|counts| counts.lost_retransmissions += 1);
        }
        marked
    }

    /// The time for what may have been reordered is over.
    pub(super) fn reordering_timeout(&mut self, config: &Config, now: Instant, outcome: &mut Outcome) {
        self.count(|counts| counts.reordering_timeouts += 1);
        outcome.events |= Events::REORDERING_TIMEOUT;
        let marked = self.detect_losses(config, now);
        let news = News { flight: self.pipe(), ..News::default() };
        match self.hot.recovery {
            Recovery::Open if marked.octets > 0 => self.begin_fast_recovery(config, &news, now, outcome),
            Recovery::Fast => self.continue_fast_recovery(config, &news, marked, now, outcome),
            Recovery::Open | Recovery::Loss => {}
        }
        self.hot.marks.set(Marks::POLL);
        self.hot.predictable = false;
        self.arm_loss_timer(config, now);
    }

    /// Loss was found on a connection with SACK (RFC6675-5.4, RFC9937-6.1).
    fn begin_fast_recovery(&mut self, config: &Config, news: &News, now: Instant, outcome: &mut Outcome) {
        self.enter_fast_recovery(now, outcome);
        let outstanding = self.hot.snd.flight() + news.acked;
        let sacked_before = self.cold.board.sacked() - news.sacked;
        self.episode().prr = Prr::new(outstanding.saturating_sub(sacked_before));
        self.pace_recovery(config, news.delivered, false);
    }

    /// FlightSize as equation 4 of RFC 5681 means it, `flight` being what is left of it: how much the path was asked to
    /// hold when it dropped something.
    ///
    /// ACKs that are handled before anything is sent again, because they came in one batch or because the sender waits
    /// for a larger burst, take octets out of the flight that the window gives back at once; and a probe, the timer or data
    /// sent later may tell of a loss when hardly anything is left of the flight that it happened to. That makes the path no
    /// smaller: what was in the network when that window was sent counts, but for what `cwnd` no longer covers. RFC 9438
    /// 4.6 takes cwnd itself, with a caution for senders that do not fill it, which this is safe from.
    pub(super) fn loss_flight(&self, flight: u32) -> u32 {
        flight.max(self.cold.loaded).min(self.hot.congestion.cwnd())
    }

    /// What the begin of fast recovery is with SACK and without. Gives the threshold.
    pub(super) fn enter_fast_recovery(&mut self, now: Instant, outcome: &mut Outcome) -> u32 {
        // RFC5681-3.2.2
        let flight = self.loss_flight(self.hot.snd.flight().saturating_sub(self.cold.limited_transmit));
        self.cold.limited_transmit = 0;
        let (controller, window) = (&mut self.cold.controller, &mut self.hot.congestion);
        let saved = controller.save(window);
        let ssthresh = controller.on_congestion_event(window, now, flight);
        self.begin_episode(Recovery::Fast, saved, now);
        self.count(|counts| counts.fast_recoveries += 1);
        outcome.events |= Events::FAST_RETRANSMIT;
        ssthresh
    }

    /// A recovery begins, and may be undone to `saved`.
    pub(super) fn begin_episode(&mut self, recovery: Recovery, saved: Saved, now: Instant) {
        let una = self.hot.snd.una;
        let probe = self.cold.tail.copy();
        let data_end = self.hot.snd.data_end();
        let oldest = self.first_stamp(una).unwrap_or_else(|| ticks(now, self.hot.rcv.ts_offset));
        let episode = self.episode();
        let counts = episode.counts;
        let mut copies = core::mem::take(&mut episode.copies);
        copies.clear();
        if let Some((start, end)) = probe {
            copies.add(start, end.earlier(data_end));
        }
        let undo_until = Instant::MAX;
        *episode =
            Episode { saved: Some(saved), copies, undo_until, oldest, reduced_at: now, counts, ..Episode::default() };
        self.continue_episode(recovery, now);
    }

    /// A recovery begins anew, perhaps in the middle of one: everything sent until now belongs to it.
    pub(super) fn continue_episode(&mut self, recovery: Recovery, now: Instant) {
        let snd = &mut self.hot.snd;
        snd.recover = snd.nxt;
        snd.resent_end = snd.una.later(snd.resent_end).earlier(snd.nxt);
        self.cold.tail.outstanding = false;
        self.cold.tail.due = false;
        self.hot.recovery = recovery;
        self.hot.predictable = false;
        self.hot.marks.set(Marks::FAST_RTX.with(Marks::KARN).with(Marks::POLL));
        self.hot.marks.clear(Marks::TIMING.with(Marks::PARTIAL_SEEN));
        let episode = self.episode();
        episode.resent_at = now;
        episode.frto = Frto::Off;
    }

    /// An acknowledgment, or a reordering timeout, in fast recovery with SACK.
    fn continue_fast_recovery(
        &mut self,
        config: &Config,
        news: &News,
        marked: Marked,
        now: Instant,
        outcome: &mut Outcome,
    ) {
        if news.acked > 0 {
            self.count(|counts| counts.partial_acks += 1);
            outcome.events |= Events::PARTIAL_ACK;
        }
        // RFC5681-4.3: the loss of something sent again after the reduction is a second one.
        let again = marked.resent.is_some_and(|sent| sent >= self.episode().reduced_at);
        if again {
            // The window is what the first reduction made it: cwnd is only what PRR lets go at this moment.
            let ssthresh = self.hot.congestion.ssthresh();
            let flight = self.hot.snd.flight().min(ssthresh);
            self.hot.congestion.set_cwnd(ssthresh);
            self.cold.controller.on_congestion_event(&mut self.hot.congestion, now, flight);
            self.hot.snd.recover = self.hot.snd.nxt;
            let pipe = self.pipe() + news.delivered;
            let episode = self.episode();
            episode.reduced_at = now;
            episode.saved = None;
            episode.prr = Prr::new(pipe);
        }
        if news.delivered > 0 || again {
            self.pace_recovery(config, news.delivered, news.acked > 0 && marked.octets == 0);
        }
        self.hot.marks.set(Marks::POLL);
    }

    /// Sets the window for what may leave now.
    fn pace_recovery(&mut self, config: &Config, delivered: u32, safe: bool) {
        let (pipe, smss, ssthresh) = (self.pipe(), self.smss(), self.hot.congestion.ssthresh());
        let window = if config.prr {
            pipe.saturating_add(self.episode().prr.on_ack(delivered, safe, pipe, ssthresh, smss))
        } else {
            ssthresh // RFC6675-5.4
        };
        self.hot.congestion.set_cwnd(window);
    }

    /// Everything sent before recovery began is acknowledged (RFC6675-5.A, RFC9937-6.4).
    pub(super) fn end_recovery_if_done(&mut self, config: &Config, now: Instant) {
        if self.hot.recovery == Recovery::Open || self.hot.snd.una.lt(self.hot.snd.recover) {
            return;
        }
        if self.hot.recovery == Recovery::Fast {
            self.hot.congestion.exit_recovery();
        }
        self.cold.rack.on_recovered();
        // The last copy that was sent comes as long after this as it takes at most: as long as the path was silent before the
        // recovery, and that lasted.
        let rto = self.cold.rtt.rto(&config.rtt());
        let episode = self.episode();
        episode.undo_until = now + rto + (now - episode.reduced_at);
        self.leave_recovery();
    }

    fn leave_recovery(&mut self) {
        self.hot.recovery = Recovery::Open;
        self.hot.snd.dup_acks = 0;
        self.cold.limited_transmit = 0;
        self.hot.marks.clear(Marks::PARTIAL_SEEN.with(Marks::FAST_RTX));
        self.episode().frto = Frto::Off;
    }

    /// TSval of the first copy of the segment at `start`, which is in flight.
    pub(super) fn first_stamp(&self, start: SeqNum) -> Option<u32> {
        let probed = self.cold.tail.copy_stamp(start);
        probed.or_else(|| self.cold.board.sent_at(start).map(|sent| ticks(sent, self.hot.rcv.ts_offset)))
    }

    /// `stamps` where their echo can tell which copy of something has arrived: not that of something before the flight,
    /// as with a peer that echoes amiss.
    #[inline]
    pub(super) fn telling(&self, stamps: Option<Timestamps>) -> Option<Timestamps> {
        let oldest = self.cold.episode.as_ref().map(|episode| SeqNum(episode.oldest));
        stamps.filter(|stamps| oldest.is_none_or(|oldest| SeqNum(stamps.ecr).ge(oldest)))
    }

    // ---- undo ------------------------------------------------------------------------------------------------------

    /// `segment` leaves again; what undoing needs to know of it.
    pub(super) fn note_resent(&mut self, segment: &Transmit, now: Instant) {
        let stamp = ticks(now, self.hot.rcv.ts_offset);
        if self.hot.recovery == Recovery::Open {
            return;
        }
        let with_sack = self.hot.marks.has(Marks::SACK);
        let episode = self.episode();
        episode.stamp.get_or_insert(stamp);
        if with_sack {
            episode.copies.add(segment.seq, segment.seq + segment.len);
            episode.prr.on_sent(above(segment.end_seq(), segment.seq));
        }
    }

    /// A range arrived twice. When that is true of all that was sent again, nothing was lost (RFC 3708). Of all of it, and
    /// while it can be about that: networks make two of one, too.
    fn note_dsack(&mut self, (left, right): (SeqNum, SeqNum), now: Instant) {
        let Some(episode) = self.cold.episode.as_mut() else { return };
        if now > episode.undo_until {
            episode.saved = None;
        }
        if episode.saved.is_some() {
            episode.copies.reported(left, right);
        }
    }

    /// The window is reduced or set for another reason: an earlier reduction cannot be undone any more.
    pub(super) fn forget_undo(&mut self) {
        if let Some(episode) = self.cold.episode.as_mut() {
            episode.saved = None;
        }
    }

    /// Undoes the recovery that is going on, or was the last, if `news` shows it to be needless.
    pub(super) fn undo_if_spurious(
        &mut self,
        config: &Config,
        news: &News,
        stamps: Option<Timestamps>,
        outcome: &mut Outcome,
    ) {
        let recovery = self.hot.recovery;
        let with_sack = self.hot.marks.has(Marks::SACK);
        let Some(episode) = self.cold.episode.as_mut() else { return };
        let Some(saved) = episode.saved else { return };
        let in_recovery = recovery != Recovery::Open;
        // RFC5682-2.3b, 3.1: without SACK an acknowledgment that also covers what was sent again proves nothing.
        let original = news.original && (with_sack || !news.resent);
        let frto = config.frto && episode.frto != Frto::Off && original;
        // RFC3522-3.2. A timestamp of this flight: what else a peer echoes, 0 or always the same, says nothing. Nor does
        // that of a copy which the recovery before has sent.
        let oldest = SeqNum(episode.oldest);
        let older = |stamp| {
            stamps.map(|stamps| SeqNum(stamps.ecr)).is_some_and(|echo| echo.ge(oldest) && echo.lt(SeqNum(stamp)))
        };
        let eifel = config.eifel && in_recovery && news.copied && episode.stamp.is_some_and(older);
        let dsack = news.dsack.is_some() && episode.stamp.is_some() && episode.copies.none_left();
        if !(frto || eifel || dsack) {
            return;
        }
        episode.saved = None;
        let counts = &mut episode.counts;
        if frto {
            counts.undone_by_frto += 1;
        } else if eifel {
            counts.undone_by_eifel += 1;
        } else {
            counts.undone_by_dsack += 1;
        }
        outcome.events |= Events::UNDONE;
        // What was taken for lost was late: leave it time from now on.
        self.cold.rack.reordering |= recovery == Recovery::Fast || !in_recovery;
        if recovery == Recovery::Loss && (frto || eifel) {
            self.cold.rtt.on_spurious_timeout();
        }
        self.cold.controller.undo(&mut self.hot.congestion, saved);
        if in_recovery {
            self.cold.board.forget_lost();
            self.hot.marks.clear(Marks::RTO_REPEAT);
            self.leave_recovery();
        }
        self.hot.marks.set(Marks::POLL);
    }

    /// F-RTO after an acknowledgment that decided nothing (RFC5682-2.2a to 2.3b).
    pub(super) fn step_frto(&mut self, news: &News) {
        let front_again = self.cold.board.front_is_resent();
        let smss = self.smss();
        let (unsent, room) = (self.hot.snd.unsent(), self.hot.snd.window_room());
        let Some(episode) = self.cold.episode.as_mut() else { return };
        episode.frto = match episode.frto {
            Frto::Off => Frto::Off,
            // 2.2b; 2.2a: less than what was sent again is acknowledged.
            Frto::Waiting if news.acked > 0 && !front_again && unsent > 0 && room >= unsent.min(smss) => Frto::Probing,
            // 3.1: with SACK, duplicates leave the question open.
            Frto::Waiting if news.acked == 0 && news.sacked > 0 => Frto::Waiting,
            Frto::Waiting => Frto::Off,
            Frto::Probing => {
                // 2.3a. Two new segments are out; the third place is for what was lost.
                self.hot.congestion.set_cwnd(3 * smss);
                Frto::Off
            }
        };
    }
}
