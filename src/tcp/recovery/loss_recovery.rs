//! Loss recovery of one connection: what its scoreboard, RACK, its probes and its recoveries say together.

use bitflags::bitflags;

use crate::tcp::base::config::Config;
use crate::tcp::base::info::{Info, LossState, RecoveryCounts};
use crate::tcp::base::segment::{Segment, Transmit};
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::base::timestamp::{Timestamp, TimestampClock};
use crate::tcp::congestion::Saved;
use crate::tcp::congestion::prr::Prr;
use crate::tcp::recovery::answers::{DuplicateAck, LossTimer, Needless, Phase, SendNumbers};
use crate::tcp::recovery::episode::{Episode, Frto, FrtoStep};
use crate::tcp::recovery::rack::Rack;
use crate::tcp::recovery::rtt::Rtt;
use crate::tcp::recovery::scoreboard::{Losses, Scoreboard};
use crate::tcp::recovery::summary::{AckContext, AckSummary};
use crate::tcp::recovery::tail_probe::{self, ProbeAnswer, TailProbe};

/// DupThresh: segments that must have arrived above a hole before it counts as a loss (RFC5681-3.2.2, RFC6675-2).
const DUP_THRESH: u8 = 3;

bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Facts: u8 {
        /// SACK was negotiated.
        const SACK = 1;
        /// The segment at SND.UNA must be sent again, whatever the window.
        const RESEND_FRONT = 1 << 1;
        /// Something in flight was sent more than once: only timestamps give samples (RFC6298-3a).
        const AMBIGUOUS = 1 << 2;
        /// The retransmission timer fired for the segment at SND.UNA already.
        const TIMED_OUT = 1 << 3;
        /// A partial ACK was seen in this recovery (RFC6582-3.2.3P).
        const PARTIAL_SEEN = 1 << 4;
        /// So was another one.
        const PARTIAL_AGAIN = 1 << 5;
    }
}

/// Loss recovery of one connection.
#[derive(Clone, Debug)]
pub(crate) struct LossRecovery {
    /// What was sent, and what became of it.
    scoreboard: Scoreboard,
    rack: Rack,
    episode: Option<Box<Episode>>,
    /// What the retransmission timeout counts from.
    rto_base: Instant,
    tail: TailProbe,
    /// SND.NXT when the last recovery began (RFC 6582 `recover`, plus one; RecoveryPoint of RFC 6675). Never far behind
    /// SND.UNA, so that it can be compared with it.
    recover: SeqNum,
    /// End of the highest retransmission of this recovery.
    resent_end: SeqNum,
    /// Wire segments sent again.
    retransmits: u32,
    /// Retransmission timeouts; stays at its maximum, as the next one does.
    timeouts: u16,
    /// Consecutive duplicate ACKs, of a peer without SACK.
    dup_acks: u8,
    phase: Phase,
    timer: LossTimer,
    facts: Facts,
}

impl LossRecovery {
    /// Nothing was sent yet but a SYN with the number `iss`.
    pub(crate) fn new(iss: SeqNum, sack: bool, now: Instant) -> Self {
        Self {
            scoreboard: Scoreboard::default(),
            rack: Rack::new(iss + 1),
            episode: None,
            rto_base: now,
            tail: TailProbe::new(iss + 1),
            recover: iss,
            resent_end: iss + 1,
            retransmits: 0,
            timeouts: 0,
            dup_acks: 0,
            phase: Phase::Open,
            timer: LossTimer::Retransmission,
            facts: if sack { Facts::SACK } else { Facts::empty() },
        }
    }

    // ---- what is known ----------------------------------------------------------------------------------------------

    /// Whether SACK was negotiated.
    #[inline]
    pub(crate) fn with_sack(&self) -> bool {
        self.facts.contains(Facts::SACK)
    }

    /// What recovery is going on.
    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Octets of `flight` that are taken to be in the network (RFC6675-4b).
    #[inline]
    pub(crate) fn pipe(&self, flight: u32) -> u32 {
        flight.saturating_sub(self.outside_the_network())
    }

    /// Octets of the flight that are not in the network any more.
    #[inline]
    fn outside_the_network(&self) -> u32 {
        self.scoreboard.sacked() + self.scoreboard.lost()
    }

    /// Octets that are lost and wait to be sent again.
    #[inline]
    pub(crate) fn lost(&self) -> u32 {
        self.scoreboard.lost()
    }

    /// Octets reported by SACK.
    #[inline]
    pub(crate) fn sacked(&self) -> u32 {
        self.scoreboard.sacked()
    }

    /// Whether nothing hints at a loss: no recovery, no duplicate ACK, no hole.
    #[inline]
    pub(crate) fn is_undisturbed(&self) -> bool {
        self.phase == Phase::Open && self.dup_acks == 0 && self.outside_the_network() == 0
    }

    /// Whether the next ACK of new data means nothing but that.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_undisturbed() && !self.tail.is_outstanding() && self.rack.repeat_at() == Instant::MAX
    }

    /// Whether what leaves now leaves by limited transmit (RFC 3042): something came out of order, which may become a
    /// loss.
    #[inline]
    fn in_disorder(&self) -> bool {
        self.phase == Phase::Open && (self.dup_acks > 0 || self.scoreboard.sacked() > 0)
    }

    /// Segments that duplicate ACKs let leave beyond the window (RFC3042-2a, 2b).
    #[inline]
    pub(crate) fn extra_segments(&self) -> u32 {
        if self.phase == Phase::Open { u32::from(self.dup_acks.min(2)) } else { 0 }
    }

    /// Whether something in flight was sent more than once, so that only timestamps give samples (RFC6298-3a).
    #[inline]
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.facts.contains(Facts::AMBIGUOUS)
    }

    /// When a timeout or fast retransmission last began to send again.
    pub(crate) fn resent_at(&self) -> Option<Instant> {
        self.episode.as_ref().map(|episode| episode.resent_at())
    }

    /// TSval of the first copy of the segment at `start`, which is in flight.
    pub(crate) fn first_stamp(&self, start: SeqNum, clock: TimestampClock) -> Option<Timestamp> {
        let probed = self.tail.copy().filter(|((begin, _), _)| *begin == start).map(|(_, stamp)| stamp);
        probed.or_else(|| self.scoreboard.sent_at(start).map(|sent| clock.at(sent)))
    }

    /// Its part of what observers see.
    pub(crate) fn describe(&self, una: SeqNum, info: &mut Info) {
        info.retransmits = self.retransmits.into();
        info.timeouts = self.timeouts.into();
        info.lost = self.scoreboard.lost();
        info.sacked = self.scoreboard.sacked();
        info.resent = if self.is_ambiguous() { self.scoreboard.in_flight_again(una) } else { 0 };
        info.reordering_seen = !self.rack.window(Duration::MAX, None, true).is_zero();
        info.sack = self.with_sack();
        info.loss_state = match self.phase {
            Phase::Open if self.in_disorder() => LossState::Disorder,
            Phase::Open => LossState::Open,
            Phase::Fast => LossState::Recovery,
            Phase::Loss => LossState::Loss,
        };
        info.recovery = self.episode.as_ref().map(|episode| episode.counts).unwrap_or_default();
        self.tail.describe(&mut info.recovery);
    }

    /// What is remembered of recoveries, made at the first.
    fn episode_mut(&mut self) -> &mut Episode {
        self.episode.get_or_insert_with(Box::default)
    }

    fn counts_mut(&mut self) -> &mut RecoveryCounts {
        &mut self.episode_mut().counts
    }

    #[inline]
    fn frto(&self) -> Frto {
        self.episode.as_ref().map_or(Frto::Off, |episode| episode.frto())
    }

    fn set_frto(&mut self, frto: Frto) {
        if let Some(episode) = &mut self.episode {
            episode.set_frto(frto);
        }
    }

    // ---- what leaves ------------------------------------------------------------------------------------------------

    /// Whether there is something to send again.
    #[inline]
    pub(crate) fn has_to_resend(&self) -> bool {
        self.scoreboard.lost() > 0 || self.facts.contains(Facts::RESEND_FRONT)
    }

    /// Whether new data must wait: what is lost goes first, but while F-RTO asks for new data; and there must be room
    /// for its record.
    #[inline]
    pub(crate) fn holds_new_data(&self) -> bool {
        self.scoreboard.lost() > 0 && self.frto() != Frto::Probing || !self.scoreboard.has_room()
    }

    /// Whether there is room for the record of a new transmission.
    pub(crate) fn has_room(&self) -> bool {
        self.scoreboard.has_room()
    }

    /// What is lost and comes first, at most about `mss` octets, and whether it is the segment at SND.UNA that must be
    /// sent again whatever the window. That is taken for sent.
    pub(crate) fn take_lost(&mut self, una: SeqNum, mss: u32) -> Option<((SeqNum, SeqNum), bool)> {
        let forced = self.facts.contains(Facts::RESEND_FRONT);
        self.facts.remove(Facts::RESEND_FRONT);
        if !forced && self.wants_new_data() {
            return None;
        }
        self.scoreboard.first_lost(una, mss).map(|lost| (lost, forced))
    }

    /// The peer's window is closed over what is in flight: nothing is known to be lost.
    pub(crate) fn force_nothing(&mut self) {
        self.facts.remove(Facts::RESEND_FRONT);
    }

    /// Whether F-RTO wants new data to leave, and nothing again (RFC5682-2.2b).
    #[inline]
    fn wants_new_data(&self) -> bool {
        self.frto() == Frto::Probing
    }

    /// Nothing leaves by itself; `unsent` octets wait. When that is because F-RTO wants new data (RFC5682-2.2b), and
    /// there is none, F-RTO is over, and it is worth another try. Else it is counted if data waits, or what is lost, and
    /// the rate reduction of a recovery holds it back.
    #[inline]
    pub(crate) fn on_nothing_left(&mut self, nxt: SeqNum, unsent: u32) -> bool {
        if self.wants_new_data() && nxt == self.recover {
            self.set_frto(Frto::Off);
            return true;
        }
        if self.phase == Phase::Fast && self.with_sack() && (self.scoreboard.lost() > 0 || unsent > 0) {
            self.counts_mut().rate_limited += 1;
        }
        false
    }

    /// New data from SND.NXT up to `end` leaves; `stream`: of a stream, which will need many records.
    #[inline(always)]
    pub(crate) fn on_sent(
        &mut self,
        numbers: &SendNumbers,
        end: SeqNum,
        stream: bool,
        min_rtt: Duration,
        now: Instant,
    ) {
        if numbers.una == numbers.nxt {
            self.rto_base = now; // RFC6298-5.1
        }
        // Transmissions that are closer together than this count as one: an eighth of what RFC8985-4b allows.
        let grain = if min_rtt == Duration::MAX { Duration::ZERO } else { min_rtt / 32 };
        self.scoreboard.sent(end, now, grain, stream);
        if self.phase == Phase::Fast
            && let Some(episode) = self.episode.as_mut()
        {
            episode.prr.on_sent(end.above(numbers.nxt));
        }
    }

    /// `segment` leaves again, in so many `pieces` on the wire.
    pub(crate) fn on_resent(
        &mut self,
        una: SeqNum,
        segment: &Transmit,
        pieces: u32,
        clock: TimestampClock,
        now: Instant,
    ) {
        self.retransmits = self.retransmits.saturating_add(pieces);
        let end = segment.end_seq();
        if self.phase != Phase::Open {
            let with_sack = self.with_sack();
            let octets = (segment.seq, segment.seq + segment.len);
            let episode = self.episode_mut();
            episode.on_resent(clock.at(now), with_sack.then_some(octets));
            if with_sack {
                episode.prr.on_sent(end.above(segment.seq));
            }
        }
        self.resent_end = self.resent_end.later(end);
        self.scoreboard.resent(una, segment.seq, end, now);
        self.facts.insert(Facts::AMBIGUOUS);
        if una == segment.seq && self.phase == Phase::Fast && !self.facts.contains(Facts::PARTIAL_SEEN) {
            // RFC6298-5.0: the timer must not fire for this segment earlier than an RTO from now.
            self.rto_base = now;
        }
    }

    // ---- the timer --------------------------------------------------------------------------------------------------

    /// The timer has fired: what is to be done. The retransmission timeout counts from now on, unless that was about
    /// reordering (RFC6298-5.6, RFC8985-7.3c).
    pub(crate) fn on_timer(&mut self, config: &Config, numbers: &SendNumbers, now: Instant) -> Option<LossTimer> {
        if self.timer == LossTimer::Reordering {
            self.counts_mut().reordering_timeouts += 1;
        } else {
            self.rto_base = now;
        }
        let due = self.timer != LossTimer::Probe || self.on_probe_timeout(config, numbers);
        due.then_some(self.timer)
    }

    /// SND.UNA has moved, and what that means was found out: the retransmission timeout counts from now on
    /// (RFC6298-5.3). Without SACK, many holes shall end in a timeout soon: there only the first partial ACK of a
    /// recovery does that (RFC6582-3.2.3P).
    #[inline]
    pub(crate) fn restart_timer(&mut self, now: Instant) {
        if self.with_sack() || self.phase != Phase::Fast || !self.facts.contains(Facts::PARTIAL_AGAIN) {
            self.rto_base = now;
        }
    }

    /// When the timer of loss recovery is to fire, with something in flight. To be asked after whatever may change
    /// that.
    /// `alone`: no more than one segment is in flight.
    #[inline(always)]
    pub(crate) fn next_timeout(&mut self, config: &Config, rtt: &Rtt, alone: bool, now: Instant) -> Instant {
        let timeout = self.rto_base + rtt.rto(&config.rto);
        let repeat_at = self.rack.repeat_at();
        let (timer, at) = if repeat_at != Instant::MAX {
            // RFC8985-6.2.5b
            if repeat_at < timeout { (LossTimer::Reordering, repeat_at) } else { (LossTimer::Retransmission, timeout) }
        } else if self.may_probe(config) {
            // RFC8985-7.2a: never beyond the timeout.
            (LossTimer::Probe, timeout.min(now + tail_probe::probe_timeout(rtt.srtt(), alone)))
        } else {
            (LossTimer::Retransmission, timeout)
        };
        self.timer = timer;
        at
    }

    /// RFC8985-7.2b, 7.3a.
    #[inline]
    fn may_probe(&self, config: &Config) -> bool {
        config.tlp
            && config.rack
            && self.with_sack()
            && self.phase == Phase::Open
            && self.tail.may_follow()
            && self.outside_the_network() == 0
    }

    /// PTO is over. Whether a probe is due.
    fn on_probe_timeout(&mut self, config: &Config, numbers: &SendNumbers) -> bool {
        let due = self.may_probe(config) && numbers.una.lt(numbers.written);
        if due {
            self.tail.on_timeout();
        }
        due
    }

    /// Whether a probe is due: it leaves now or not at all, and in a recovery it may not.
    #[inline]
    pub(crate) fn take_probe(&mut self) -> bool {
        self.tail.take_due() && self.phase == Phase::Open
    }

    /// A probe left, with what [`TailProbe::on_sent`] wants to know.
    pub(crate) fn on_probe_sent(
        &mut self,
        range: (SeqNum, SeqNum),
        resent: Option<Timestamp>,
        flight: u32,
        now: Instant,
    ) {
        self.tail.on_sent(range, resent, flight);
        self.rto_base = now;
    }

    /// The retransmission timer fired: everything that left and is not reported counts as lost (RFC8985-6.3: the first,
    /// and what is overdue by now; without RACK all of it).
    pub(crate) fn on_timeout(&mut self, config: &Config, numbers: &SendNumbers, rtt: &Rtt, now: Instant) {
        let &SendNumbers { una, written, .. } = numbers;
        if self.scoreboard.take_reneged() {
            self.counts_mut().reneged += 1;
        }
        let timed = config.rack && self.with_sack();
        let window = self.rack.window(rtt.min(), rtt.srtt(), true);
        let (scoreboard, rack) = (&mut self.scoreboard, &mut self.rack);
        rack.forget_repeat();
        scoreboard
            .lose_all(una, written, |start, record| timed && start != una && !rack.is_overdue(record, now, window));
        self.dup_acks = 0;
        self.facts.insert(Facts::TIMED_OUT);
    }

    /// What left together in more than `size` octets counts as lost: the path does not carry it. Gives the octets.
    pub(crate) fn lose_larger(&mut self, numbers: &SendNumbers, size: u32) -> u32 {
        let before = self.scoreboard.lost();
        self.scoreboard.lose_all(numbers.una, numbers.written, |start, record| record.end().above(start) <= size);
        self.scoreboard.lost() - before
    }

    /// All that is lost, if that is one stretch.
    pub(crate) fn only_loss(&self, una: SeqNum) -> Option<(SeqNum, SeqNum)> {
        self.scoreboard.first_lost(una, 1).filter(|(start, end)| end.above(*start) == self.lost())
    }

    /// Whether the retransmission timer has fired for the segment at SND.UNA before.
    pub(crate) fn timed_out_before(&self) -> bool {
        self.facts.contains(Facts::TIMED_OUT)
    }

    /// The timeout was in earnest: the window is reduced. With `frto` the next acknowledgments find out whether it was
    /// needless all the same (RFC 5682).
    pub(crate) fn count_timeout(&mut self, frto: bool) {
        self.timeouts = self.timeouts.saturating_add(1);
        if frto {
            self.episode_mut().set_frto(Frto::Waiting);
        }
    }

    // ---- what an acknowledgment means -------------------------------------------------------------------------------

    /// SND.UNA moves from `una` to `ack` (SM-ACK-3); `last`: nothing waits to be sent any more.
    #[inline(always)]
    pub(crate) fn on_una(
        &mut self,
        (una, ack): (SeqNum, SeqNum),
        last: bool,
        context: &AckContext,
        summary: &mut AckSummary,
    ) {
        let recover = self.recover;
        self.recover = recover.later(ack - 1);
        self.facts.remove(Facts::TIMED_OUT | Facts::RESEND_FRONT);
        if let Some(part) = self.scoreboard.acknowledge_front(ack) {
            summary.note(una, &part, recover, context.now);
            if self.with_sack() {
                self.rack.on_delivered(&part, context.now, context.min_rtt, false);
            }
        } else {
            *summary = self.acknowledge_records((una, ack), recover, *context, *summary);
        }
        if last {
            self.scoreboard.trim();
        }
    }

    /// SND.UNA has moved from `una` to `ack`, over more than one record or one that something is known of.
    #[inline(never)]
    fn acknowledge_records(
        &mut self,
        (una, ack): (SeqNum, SeqNum),
        recover: SeqNum,
        context: AckContext,
        mut summary: AckSummary,
    ) -> AckSummary {
        let AckContext { now, min_rtt, clock, echo } = context;
        let with_sack = self.with_sack();
        let episode = self.episode.as_deref();
        let echo = echo.filter(|echo| episode.is_none_or(|episode| episode.is_told_by(*echo)));
        let since = episode.map_or(Instant::MAX, Episode::reduced_at);
        let rack = &mut self.rack;
        self.scoreboard.acknowledge(una, ack, |start, record| {
            summary.note(start, record, recover, now);
            summary.resent |= record.resent();
            summary.copied |= record.resent() && record.sent() >= since;
            if with_sack {
                // The echo is from before it was sent once more.
                let older = record.resent() && echo.is_some_and(|echo| echo.lt(clock.at(record.sent())));
                rack.on_delivered(record, now, min_rtt, older);
            }
        });
        if summary.resent {
            // What was sent once only beside it arrived before, perhaps long before: its ACK was lost (RFC6298-3a).
            summary.rtt = None;
        }
        summary
    }

    /// Takes the SACK blocks of `seg` over (RFC 2018, RFC 2883 5). Nothing below `least` can still arrive twice. D-SACK
    /// counts where `config` says so.
    pub(crate) fn on_sack(
        &mut self,
        config: &Config,
        seg: &Segment,
        (least, una, nxt): (SeqNum, SeqNum, SeqNum),
        context: &AckContext,
        summary: &mut AckSummary,
    ) {
        let &AckContext { now, min_rtt, .. } = context;
        let recover = self.recover;
        let (scoreboard, rack) = (&mut self.scoreboard, &mut self.rack);
        let before = scoreboard.sacked();
        let mut blocks = seg.options.sack.iter().map(|(left, right)| (SeqNum(left), SeqNum(right))).peekable();
        if let Some((left, right)) = blocks.peek().copied() {
            // RFC2883-5a: below the ACK field of this very segment, or within the second block, which lies above it.
            let mut rest = seg.options.sack.iter().skip(1).map(|(left, right)| (SeqNum(left), SeqNum(right)));
            let inside = rest.next().is_some_and(|(low, high)| low.gt(seg.ack) && low.le(left) && right.le(high));
            let possible = left.ge(least) && left.lt(right) && right.le(nxt);
            if possible && (right.le(seg.ack) || inside) {
                summary.dsack = config.dsack.then_some((left, right));
                blocks.next(); // RFC2883-5b
            }
        }
        for (left, right) in blocks {
            // RFC2018-V. What begins at SND.UNA is no report of something out of order.
            if left.gt(una) && left.lt(right) && right.le(nxt) {
                scoreboard.sack(una, left, right, |start, record| {
                    summary.note(start, record, recover, now);
                    // The echo is of what came last in order (RFC7323-4.3b), and tells nothing of this.
                    rack.on_delivered(record, now, min_rtt, false);
                });
            }
        }
        summary.sacked = scoreboard.sacked() - before;
    }

    /// A round trip was measured.
    #[inline]
    pub(crate) fn on_sample(&mut self) {
        self.tail.on_sample();
    }

    /// An acknowledgment was taken in; the numbers are those with it. If it tells that a probe has repaired a loss, gives
    /// what the path was asked to hold then, in octets: no recovery can be undone any more.
    pub(crate) fn on_ack(&mut self, summary: &AckSummary, numbers: &SendNumbers, now: Instant) -> Option<u32> {
        let answer = self.tail.on_ack(numbers.una, summary, self.phase != Phase::Open);
        let mut repaired = None;
        if let ProbeAnswer::RepairedLoss { flight } = answer {
            self.forget_undo();
            repaired = Some(flight);
        }
        if let Some(range) = summary.dsack {
            self.on_dsack(range, answer == ProbeAnswer::Duplicate, numbers, now);
        }
        // Everything that was sent more than once may be acknowledged (RFC6298-3a).
        if numbers.una.ge(self.recover) {
            self.facts.remove(Facts::AMBIGUOUS);
        }
        // Without SACK, what was counted of duplicates outside of fast recovery was about less.
        if self.phase != Phase::Fast {
            self.dup_acks = 0;
        }
        repaired
    }

    /// `range` was reported to have arrived twice; `by_probe`, which was no recovery's.
    fn on_dsack(&mut self, range: (SeqNum, SeqNum), by_probe: bool, numbers: &SendNumbers, now: Instant) {
        let retransmits = self.retransmits;
        let episode = self.episode.get_or_insert_with(Box::default);
        episode.counts.dsacks += 1;
        if by_probe {
            return;
        }
        // More duplicates than there were retransmissions: the network makes them.
        if episode.counts.dsacks <= retransmits {
            self.rack.on_dsack(numbers.una, numbers.nxt);
        }
        episode.on_dsack(range, now);
    }

    /// Finds what is lost (RFC8985-6.2.5a, or RFC6675-4a), of segments of `smss` octets. Nothing changes but the
    /// records.
    pub(crate) fn detect_losses(
        &mut self,
        config: &Config,
        numbers: &SendNumbers,
        rtt: &Rtt,
        smss: u32,
        now: Instant,
    ) -> Losses {
        let &SendNumbers { una, written, .. } = numbers;
        let enough = u32::from(DUP_THRESH - 1) * smss;
        if !config.rack {
            self.rack.forget_repeat();
            return self.scoreboard.mark_lost_by_sack(una, written, enough);
        }
        let certain = self.phase != Phase::Open || self.scoreboard.sacked() > enough;
        let window = self.rack.window(rtt.min(), rtt.srtt(), certain);
        let losses = self.rack.detect_losses(&mut self.scoreboard, (una, written, self.resent_end), window, now);
        if losses.octets > 0 && losses.resent.is_some() {
            self.counts_mut().lost_retransmissions += 1;
        }
        losses
    }

    /// An ACK of SND.UNA once more, without SACK, with nothing else to it (RFC5681-2.DA), outside of recovery. Where it
    /// tells of a loss, `smss` octets at SND.UNA count as lost (RFC6582-3.2.2).
    pub(crate) fn on_duplicate_ack(&mut self, numbers: &SendNumbers, smss: u32) -> DuplicateAck {
        self.dup_acks = self.dup_acks.saturating_add(1);
        // RFC6582-3.2.2: not for what an earlier recovery or timeout sent twice.
        let &SendNumbers { una, written, .. } = numbers;
        let loss = self.dup_acks >= DUP_THRESH && una.gt(self.recover) && una.lt(written);
        if !loss {
            return DuplicateAck::Counted;
        }
        self.scoreboard.lose_front(una, written, smss);
        DuplicateAck::Loss { arrived: u32::from(DUP_THRESH) * smss }
    }

    // ---- recoveries -------------------------------------------------------------------------------------------------

    /// A recovery begins, with `saved` to go back to if it proves needless, or without it anew in the middle of one:
    /// everything sent until now belongs to it.
    pub(crate) fn begin(
        &mut self,
        phase: Phase,
        saved: Option<Saved>,
        numbers: &SendNumbers,
        clock: TimestampClock,
        now: Instant,
    ) {
        let &SendNumbers { una, nxt, data_end, .. } = numbers;
        if let Some(saved) = saved {
            let probed = self.tail.copy().map(|((start, end), _)| (start, end.earlier(data_end)));
            let oldest = self.first_stamp(una, clock).unwrap_or_else(|| clock.at(now));
            self.episode_mut().begin(saved, oldest, probed, now);
        }
        if phase == Phase::Fast {
            self.counts_mut().fast_recoveries += 1;
        }
        self.recover = nxt;
        self.resent_end = una.later(self.resent_end).earlier(nxt);
        self.tail.cancel();
        self.phase = phase;
        self.facts.insert(Facts::RESEND_FRONT | Facts::AMBIGUOUS);
        self.facts.remove(Facts::PARTIAL_SEEN | Facts::PARTIAL_AGAIN);
        self.episode_mut().resume(now);
    }

    /// A part of what a fast recovery without SACK is about was acknowledged: the next hole begins at SND.UNA
    /// (RFC6582-3.2.3P), and a segment of it is sent again. Not where SND.UNA lies in what this recovery has sent again: a segment that left in two packets is acknowledged in
    /// two steps, and to send from the first of them, too, would begin a second row of retransmissions, which goes on
    /// beside the other to the end of the hole.
    pub(crate) fn on_partial_ack(&mut self, numbers: &SendNumbers, smss: u32) {
        self.facts.set(Facts::PARTIAL_AGAIN, self.facts.contains(Facts::PARTIAL_SEEN));
        self.facts.insert(Facts::PARTIAL_SEEN);
        if !self.scoreboard.front_is_resent() {
            self.scoreboard.lose_front(numbers.una, numbers.written, smss);
            self.facts.insert(Facts::RESEND_FRONT);
        }
        self.counts_mut().partial_acks += 1;
    }

    /// Fast recovery with SACK goes on, after an ACK that moved SND.UNA by `acked` octets and told of `losses`. Whether
    /// these are a loss of their own, for which the window is reduced once more: that of something sent again after it
    /// was reduced (RFC5681-4.3). `pipe` octets were in the network before.
    pub(crate) fn continue_fast(&mut self, acked: u32, losses: &Losses, nxt: SeqNum, pipe: u32, now: Instant) -> bool {
        if acked > 0 {
            self.counts_mut().partial_acks += 1;
        }
        let since = self.episode.as_ref().map_or(Instant::MAX, |episode| episode.reduced_at());
        let again = losses.resent.is_some_and(|sent| sent >= since);
        if again {
            self.recover = nxt;
            self.episode_mut().reduce_again(pipe, now);
        }
        again
    }

    /// Proportional rate reduction of this recovery (RFC 9937).
    pub(crate) fn prr_mut(&mut self) -> &mut Prr {
        &mut self.episode_mut().prr
    }

    /// What recovery is over now, if one is: everything sent before it began is acknowledged (RFC6675-5.A,
    /// RFC9937-6.4).
    pub(crate) fn end_if_done(&mut self, una: SeqNum, rto: Duration, now: Instant) -> Option<Phase> {
        if self.phase == Phase::Open || una.lt(self.recover) {
            return None;
        }
        let ended = self.phase;
        self.rack.on_recovered();
        self.episode_mut().end(rto, now);
        self.leave();
        Some(ended)
    }

    fn leave(&mut self) {
        self.phase = Phase::Open;
        self.dup_acks = 0;
        self.facts.remove(Facts::PARTIAL_SEEN | Facts::PARTIAL_AGAIN | Facts::RESEND_FRONT);
        self.set_frto(Frto::Off);
    }

    /// F-RTO after an acknowledgment that decided nothing. `sendable`: there is new data that the window lets leave.
    pub(crate) fn step_frto(&mut self, summary: &AckSummary, sendable: bool) -> FrtoStep {
        let ready = sendable && !self.scoreboard.front_is_resent();
        self.episode.as_mut().map_or(FrtoStep::Off, |episode| episode.step_frto(summary, ready))
    }

    /// The window is reduced or set for another reason: an earlier reduction cannot be undone any more.
    pub(crate) fn forget_undo(&mut self) {
        if let Some(episode) = &mut self.episode {
            episode.forget_undo();
        }
    }

    /// What congestion control was before the recovery that is going on, or was the last, and how that stands, if an
    /// acknowledgment shows it to be needless; then it is over.
    pub(crate) fn take_needless(
        &mut self,
        config: &Config,
        summary: &AckSummary,
        echo: Option<Timestamp>,
    ) -> Option<(Saved, Needless)> {
        let goes_on = self.phase != Phase::Open;
        let with_sack = self.with_sack();
        let episode = self.episode.as_mut()?;
        let (saved, in_time) = episode.take_needless(config, summary, echo, with_sack, goes_on)?;
        let slow_path = self.phase == Phase::Loss && in_time;
        if self.phase != Phase::Loss {
            self.rack.on_needless_recovery();
        }
        if goes_on {
            self.scoreboard.forget_lost();
            self.facts.remove(Facts::TIMED_OUT);
            self.leave();
        }
        let needless = match (goes_on, slow_path) {
            (_, true) => Needless::SlowPath,
            (true, false) => Needless::Ended,
            (false, false) => Needless::Past,
        };
        Some((saved, needless))
    }

    // ---- tests ------------------------------------------------------------------------------------------------------

    /// What must hold at any time.
    #[cfg(test)]
    pub(crate) fn check(&self, una: SeqNum, nxt: SeqNum) {
        self.scoreboard.check(una, nxt);
        if self.phase == Phase::Open {
            assert_eq!(self.lost(), 0);
        }
    }

    /// As if the last timeout or fast retransmission had been at `at`.
    #[cfg(test)]
    pub(crate) fn set_resent_at(&mut self, at: Instant) {
        self.episode_mut().resume(at);
    }

    /// Records that there is room for.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.scoreboard.capacity()
    }

    /// As after a recovery that began at `nxt`.
    #[cfg(test)]
    pub(crate) fn make_ambiguous(&mut self, nxt: SeqNum) {
        self.facts.insert(Facts::AMBIGUOUS);
        self.recover = nxt;
    }
}
