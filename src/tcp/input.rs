//! `on_segment`: header prediction, then the steps of RFC 9293 3.10.7.4 in their order.
//!
//! PAWS, sequence, RST, SYN, ACK, URG, text, FIN. What an acknowledgment means is in `acks.rs`.

use super::config::Config;
use super::connection::{CloseReason, Connection, Context, Events, Hot, Keep, Outcome, Payload, seconds};
use super::handshake::ticks;
use super::marks::Marks;
use super::ranges::Insert;
use super::recv::PastStamps;
use super::segment::{Segment, Transmit, reset_for};
use super::send::above;
use super::seq::SeqNum;
use super::state::State;
use super::time::{Duration, Instant};
use super::time_wait::TimeWaitOutcome;
use super::timers::Timer;
use crate::wire::options::Timestamps;
use crate::wire::tcp::Flags;

/// TS.Recent is not trusted after this time without an update (RFC7323-5.5): 24 days.
const TS_RECENT_LIFE_SECS: u32 = 24 * 24 * 3_600;

impl Connection {
    /// A segment for this connection, checksum verified.
    #[inline]
    pub fn on_segment(&mut self, config: &Config, seg: &Segment, context: &Context) -> Outcome {
        let idle = context.now - self.hot.clock;
        self.hot.clock = context.now;
        if idle > config.initial_rto {
            // OPS-6: whoever begins again is in slow start and waits for each ACK.
            self.hot.quick = config.quick_acks;
        }
        if self.hot.predictable
            && let Some(outcome) = self.predict(config, seg, context)
        {
            return outcome;
        }
        let mut outcome = Outcome::default();
        self.process(config, seg, context, &mut outcome);
        self.review_prediction();
        outcome
    }

    /// Header prediction: the next data segment in order, the ACK of new data or an opening window, with nothing special
    /// about it. `None`, with nothing changed, for everything else.
    #[inline]
    fn predict(&mut self, config: &Config, seg: &Segment, context: &Context) -> Option<Outcome> {
        let window = self.scaled_window(seg);
        let Hot { rcv, snd, marks, .. } = &mut self.hot;
        let acked = seg.ack.0.wrapping_sub(snd.una.0);
        if seg.seq != rcv.nxt
            || seg.flags.without(Flags::PSH) != Flags::ACK
            || acked > snd.flight().min(snd.queued) // the ACK of our FIN is special
            || !seg.options.sack.is_empty()
        {
            return None;
        }
        // Not data that a known FIN or a closed reader forbids.
        let data =
            seg.len <= rcv.window() && context.keep == Keep::All && !marks.has(Marks::FIN_KNOWN.with(Marks::NO_READER));
        // The same ACK with a larger window is no duplicate ACK (RFC5681-2.DA); the end of a closed window is not for here.
        let opens = snd.wnd > 0 && window > snd.wnd;
        let wanted = if seg.len == 0 { acked > 0 || opens } else { data };
        if !wanted {
            return None;
        }
        let mut stamps = None;
        if marks.has(Marks::TIMESTAMPS) {
            // RFC7323-5.6: PAWS comes before prediction.
            let both = seg.options.timestamps?;
            if SeqNum(both.val).lt(SeqNum(rcv.ts_recent)) {
                return None;
            }
            stamps = Some(both);
        }
        let mut outcome = Outcome { events: Events::PREDICTED, ..Outcome::default() };
        if let Some(stamps) = stamps {
            self.note_timestamps(seg.seq, seg.len, stamps, context.now);
        }
        if acked > 0 {
            self.advance(config, seg.ack, stamps, context.now, &mut outcome);
        }
        // A segment at RCV.NXT that acknowledges SND.UNA or more is never older than the last update (SM-ACK-6).
        self.update_window(seg);
        if seg.len > 0 {
            self.accept(seg.seq + seg.len, 0, config, context.now);
            outcome.payload = Payload::Deliver { from: 0, to: seg.len, released: 0 };
        }
        Some(outcome)
    }

    fn process(&mut self, config: &Config, seg: &Segment, context: &Context, outcome: &mut Outcome) {
        let now = context.now;
        match self.hot.state {
            State::Closed => {
                outcome.reply = reset_for(seg);
                return;
            }
            State::TimeWait => {
                if let TimeWaitOutcome::Reply(ack) = self.time_wait(config, now).on_segment(config, seg, now) {
                    outcome.reply = Some(ack);
                }
                return;
            }
            _ => {}
        }
        self.hot.marks.put(Marks::PRESSURE, context.keep != Keep::All);
        if let Keep::InOrder { share, .. } = context.keep {
            self.limit_receive_buffer(config, share, now);
        }
        if !self.passes_paws(config, seg, now, outcome)
            || !self.passes_sequence(config, seg, now, outcome)
            || !self.passes_reset(config, seg, now, outcome)
        {
            return;
        }
        if seg.has(Flags::SYN) {
            // SM-SYN-1 (RFC5961-4.2): whatever its number.
            self.challenge(config, now, outcome);
            return;
        }
        if !seg.has(Flags::ACK) {
            return; // SM-ACK-1, SM-GEN-3
        }
        if !self.passes_ack(config, seg, now, outcome) {
            return;
        }
        if self.hot.state == State::Closed || self.hot.state == State::TimeWait {
            return;
        }
        if seg.has(Flags::URG) {
            self.note_urgent(seg, outcome);
        }
        self.text(config, seg, context, outcome);
    }

    /// RFC7323-5.3a with room for what is overtaken ([`PastStamps`]), 3.2b; RST is exempt (SM-RST-5), and SYN, which is
    /// challenged whatever it carries (SM-SYN-1).
    fn passes_paws(&mut self, config: &Config, seg: &Segment, now: Instant, outcome: &mut Outcome) -> bool {
        if !self.hot.marks.has(Marks::TIMESTAMPS) || seg.flags.intersects(Flags::RST | Flags::SYN) {
            return true;
        }
        let rcv = &mut self.hot.rcv;
        let Some(stamps) = seg.options.timestamps else {
            let drop = config.strict_timestamps && !self.hot.marks.has(Marks::UNSTAMPED);
            if drop {
                outcome.events |= Events::PAWS;
            }
            return !drop;
        };
        if !SeqNum(stamps.val).lt(SeqNum(rcv.ts_recent)) {
            return true;
        }
        let least = self.cold.past_stamps.least(rcv.ts_recent, self.hot.received);
        if SeqNum(stamps.val).ge(SeqNum(least)) {
            return true; // overtaken, not old; it moves TS.Recent nowhere (RFC7323-4.3a)
        }
        if seconds(now).wrapping_sub(rcv.ts_recent_at) > TS_RECENT_LIFE_SECS {
            return true; // RFC7323-5.5; `renew_timestamp` takes it over once the segment is acceptable
        }
        outcome.events |= Events::PAWS;
        self.cold.paws_drops = self.cold.paws_drops.saturating_add(1);
        let end = seg.seq + seg.len;
        if seg.len > 0 {
            // RFC2883-4c: a duplicate is reported also when PAWS rejects it.
            if end.le(rcv.nxt) || self.cold.held.contains(seg.seq, end) {
                self.cold.report.duplicate(seg.seq, end);
            }
            outcome.ack_now = true;
        } else {
            self.acknowledge_limited(config, now, outcome);
        }
        false
    }

    /// TS.Recent has become invalid in 24 days, and this acceptable segment renews it (RFC7323-5.5). Not one that is out of the
    /// window: whoever forges that could set a timestamp which the peer does not reach for weeks.
    pub(super) fn renew_timestamp(&mut self, seq: SeqNum, stamps: Timestamps, now: Instant) {
        let rcv = &mut self.hot.rcv;
        if seq.le(rcv.acked) && seconds(now).wrapping_sub(rcv.ts_recent_at) > TS_RECENT_LIFE_SECS {
            rcv.ts_recent = stamps.val;
            self.cold.past_stamps = PastStamps::new(stamps.val, self.hot.received);
        }
    }

    /// SM-SEQ-1 to 7.
    fn passes_sequence(&mut self, config: &Config, seg: &Segment, now: Instant, outcome: &mut Outcome) -> bool {
        let rcv = &self.hot.rcv;
        let len = seg.seq_len();
        let window = rcv.window();
        let right = rcv.nxt + window;
        let end = seg.seq + len;
        let acceptable = match (len, window) {
            (0, 0) => seg.seq == rcv.nxt,
            (0, _) => seg.seq.in_range(rcv.nxt, right),
            // SM-SEQ-3: its ACK counts, its text will be cut off. A FIN alone needs no buffer and may pass.
            (_, 0) => seg.seq.le(rcv.nxt) && end.gt(rcv.nxt),
            // SM-SEQ-4; also a segment that covers the whole window.
            _ => seg.seq.lt(right) && end.gt(rcv.nxt),
        };
        if acceptable {
            return true;
        }
        if seg.has(Flags::RST) {
            // SM-SEQ-7: silently, but for the peers that send RST with the number of their FIN (SM-RST-4).
            return seg.seq + 1 == rcv.nxt && self.at_eof();
        }
        if seg.has(Flags::SYN) {
            return true; // SM-SYN-1 answers it
        }
        outcome.events |= if end.le(rcv.nxt) { Events::DUPLICATE } else { Events::OUT_OF_WINDOW };
        if len == 0 {
            self.acknowledge_limited(config, now, outcome);
            // SM-SEQ-5: a keep-alive, or an ACK behind the window that its sender has filled. Its ACK counts.
            return seg.seq + 1 == self.hot.rcv.nxt || seg.seq == self.hot.rcv.edge;
        }
        // SM-GEN-7: what carries data was perhaps sent again because our ACK was lost. Answer promptly.
        if seg.len > 0 && (seg.seq + seg.len).le(rcv.nxt) {
            self.cold.report.duplicate(seg.seq, seg.seq + seg.len);
        }
        self.hot.quick = config.quick_acks;
        outcome.ack_now = true;
        false
    }

    /// SM-RST-1 to 4 (RFC5961-3.2). `false` also when the segment is done with.
    fn passes_reset(&mut self, config: &Config, seg: &Segment, now: Instant, outcome: &mut Outcome) -> bool {
        if !seg.has(Flags::RST) {
            return true;
        }
        let nxt = self.hot.rcv.nxt;
        // SM-RST-4, as decided: also the right edge of the highest block we hold, or behind a FIN that waits (the peer cannot
        // know that the rest is missing), and the number of its FIN.
        let fin_again =
            seg.seq + 1 == nxt && matches!(self.hot.state, State::CloseWait | State::LastAck | State::Closing);
        let behind_fin = self.hot.marks.has(Marks::FIN_KNOWN) && seg.seq == self.cold.fin_seq + 1;
        let behind_held = self.hot.marks.has(Marks::SACK)
            && (behind_fin || self.cold.held.last().is_some_and(|(_, right)| seg.seq == right));
        if seg.seq == nxt || fin_again || behind_held {
            // In the last states the user has closed and waits for nothing but the acknowledgment of a FIN.
            let all_said = matches!(self.hot.state, State::Closing | State::LastAck) && self.hot.snd.queued == 0;
            self.finish(if all_said { CloseReason::Normal } else { CloseReason::Reset });
            outcome.events |= Events::CLOSED;
        } else {
            self.challenge(config, now, outcome);
        }
        false
    }

    /// Text and FIN (SM-EST-1, SM-EST-2, SM-GEN-1, SM-GEN-2).
    fn text(&mut self, config: &Config, seg: &Segment, context: &Context, outcome: &mut Outcome) {
        let fin = seg.has(Flags::FIN);
        if seg.len == 0 && !fin {
            return;
        }
        let nxt = self.hot.rcv.nxt;
        let sent_end = seg.seq + seg.len;
        if !self.hot.state.can_receive() {
            // SM-CW-2: there is nothing behind the peer's FIN.
            self.acknowledge_limited(config, context.now, outcome);
            return;
        }
        if self.hot.marks.has(Marks::NO_READER) && sent_end.gt(nxt) {
            // SHLD-3, KP-16: nobody will ever read this.
            outcome.reply = Some(self.reset(context.now));
            outcome.ack_now = false;
            self.finish(CloseReason::Aborted);
            outcome.events |= Events::CLOSED;
            return;
        }
        // Cut at the right edge, and at the FIN once we know where it is.
        let mut end = sent_end.earlier(self.hot.rcv.edge.later(nxt));
        if self.hot.marks.has(Marks::FIN_KNOWN) {
            end = end.earlier(self.cold.fin_seq);
        }
        let wanted = end;
        let start = seg.seq.later(nxt);
        if let Keep::InOrder { room, share } = context.keep
            && end.gt(start)
        {
            // OPS-46: as if it had been lost. Behind a gap a quarter of the share at most: what fills the gap needs room. But
            // that much, since without a SACK the peer would find out by timeout only.
            let behind_gap = start != nxt;
            let most = if behind_gap { share / 4 } else { room };
            let kept = start + above(end, start).min(most);
            if kept == start || (behind_gap && kept.lt(end) && most < u32::from(self.hot.rcv.mss)) {
                // A hole is still reported, so that the peer knows early.
                self.report_overlap(start, end);
                self.refuse(start, end, outcome);
                outcome.ack_now |= behind_gap;
                return;
            }
            end = kept;
        }
        let (from, to) = (above(start, seg.seq), above(end, seg.seq));
        self.note_fin(fin, sent_end, end);
        if to > from && start == nxt {
            self.take_in_order(config, seg, (from, to), context.now, outcome);
        } else if to > from {
            self.take_out_of_order(config, (start, end), (from, to), outcome);
        } else if seg.len > 0 {
            // Nothing new fits: a probe of a closed window, or what we have already.
            self.cold.report.duplicate(seg.seq, sent_end.earlier(nxt));
            outcome.ack_now = true;
            outcome.events |= if sent_end.le(nxt) { Events::DUPLICATE } else { Events::OUT_OF_WINDOW };
        } else if sent_end != nxt {
            outcome.ack_now = true; // SC-26: a FIN out of order
            outcome.events |= Events::OUT_OF_ORDER;
        }
        if end.lt(wanted) {
            self.refuse(end, wanted, outcome);
        }
        debug_assert!(self.missing(start, wanted) == 0 || outcome.events.contains(Events::REFUSED));
        self.take_fin(outcome);
    }

    /// Octets of `[start, end)` that are neither in order nor held.
    fn missing(&self, start: SeqNum, end: SeqNum) -> u32 {
        let start = start.later(self.hot.rcv.nxt);
        above(end, start) - self.cold.held.octets_in(start, end)
    }

    /// `[start, end)` lies in the window and is not kept: the peer must send it again, but for what of it is here.
    #[cold]
    fn refuse(&mut self, start: SeqNum, end: SeqNum, outcome: &mut Outcome) {
        let refused = self.missing(start, end);
        if refused > 0 {
            outcome.events |= Events::REFUSED;
            self.cold.refused = refused;
        }
    }

    /// Remembers where the peer's FIN is (SM-EST-2), unless it contradicts what is known.
    fn note_fin(&mut self, fin: bool, sent_end: SeqNum, kept_end: SeqNum) {
        let cut = kept_end.lt(sent_end);
        let data_above = self.cold.held.last().is_some_and(|(_, right)| right.gt(sent_end));
        if fin && !cut && !data_above && sent_end.ge(self.hot.rcv.nxt) && !self.hot.marks.has(Marks::FIN_KNOWN) {
            self.hot.marks.set(Marks::FIN_KNOWN);
            self.cold.fin_seq = sent_end;
        }
    }

    /// The segment continues the stream.
    fn take_in_order(
        &mut self,
        config: &Config,
        seg: &Segment,
        (from, to): (u32, u32),
        now: Instant,
        outcome: &mut Outcome,
    ) {
        if from > 0 {
            // The peer sent a part again. It is told (RFC2883-4a), at the end of the batch.
            self.cold.report.duplicate(seg.seq, self.hot.rcv.nxt);
            self.hot.marks.set(Marks::ACK_DUE.with(Marks::POLL));
            self.hot.quick = config.quick_acks;
        }
        let end = seg.seq + to;
        let holes = !self.cold.held.is_empty();
        if holes && from == 0 {
            self.report_overlap(seg.seq, end);
        }
        let released = match self.cold.held.take_front_at(end) {
            Some(held_end) => above(held_end, end),
            None => 0,
        };
        // RFC5681-3.2.0: what fills a hole, wholly or in part, is acknowledged by itself.
        if holes {
            outcome.ack_now = true;
            self.hot.quick = config.quick_acks;
        }
        self.accept(end, released, config, now);
        outcome.payload = Payload::Deliver { from, to, released };
    }

    /// The segment leaves a hole.
    fn take_out_of_order(
        &mut self,
        config: &Config,
        (start, end): (SeqNum, SeqNum),
        (from, to): (u32, u32),
        outcome: &mut Outcome,
    ) {
        outcome.ack_now = true;
        outcome.events |= Events::OUT_OF_ORDER;
        self.hot.quick = config.quick_acks;
        self.report_overlap(start, end);
        match self.cold.held.insert(start, end, self.hot.rcv.most_ranges(self.hot.snd.mss)) {
            Insert::Added(_) => {
                outcome.payload = Payload::Hold { from, to, offset: above(start, self.hot.rcv.nxt) };
                self.cold.report.touch(start, &self.cold.held);
            }
            Insert::Duplicate => outcome.events |= Events::DUPLICATE,
            Insert::Full => self.refuse(start, end, outcome),
        }
    }

    /// What of the arriving `[start, end)` is held already is reported as a duplicate: the lowest run of it, one for a segment
    /// (RFC2883-4a).
    fn report_overlap(&mut self, start: SeqNum, end: SeqNum) {
        if let Some((low, high)) = self.cold.held.first_overlap(start, end) {
            self.cold.report.duplicate(low, high);
        }
    }

    /// RCV.NXT moves up to `end` and then by `released` held octets; an ACK is owed.
    #[inline]
    fn accept(&mut self, end: SeqNum, released: u32, config: &Config, now: Instant) {
        let Hot { rcv, marks, timers, received, quick, .. } = &mut self.hot;
        let end = end + released;
        let octets = above(end, rcv.nxt);
        rcv.nxt = end;
        rcv.unread = rcv.unread.saturating_add(octets);
        *received += u64::from(octets);
        rcv.segments = rcv.segments.saturating_add(1);
        // SHLD-19, RFC5681-4.2b: two segments of any size, or two full ones' worth in one run.
        let due = rcv.segments >= 2 || above(rcv.nxt, rcv.acked) >= 2 * u32::from(rcv.mss);
        if due || *quick > 0 {
            *quick = quick.saturating_sub(1);
            marks.set(Marks::ACK_DUE.with(Marks::POLL));
        } else {
            timers.set_if_unset(Timer::DelayedAck, now + config.delayed_ack.min(Duration::from_millis(500)));
        }
    }

    /// The peer's FIN, once everything before it is here.
    fn take_fin(&mut self, outcome: &mut Outcome) {
        if !self.hot.marks.has(Marks::FIN_KNOWN) || self.hot.rcv.nxt != self.cold.fin_seq {
            return;
        }
        let Hot { rcv, marks, .. } = &mut self.hot;
        rcv.nxt += 1;
        rcv.edge = rcv.edge.later(rcv.nxt);
        marks.set(Marks::ACK_DUE.with(Marks::POLL));
        outcome.events |= Events::EOF;
        match self.hot.state {
            State::Established => self.hot.state = State::CloseWait,
            // SM-FW1-2: with our FIN acknowledged the state is FIN-WAIT-2 by now.
            State::FinWait1 => self.hot.state = State::Closing,
            State::FinWait2 => {
                self.enter_time_wait();
                outcome.ack_now = true;
                outcome.events |= Events::TIME_WAIT;
            }
            _ => {}
        }
    }

    /// SM-EST-5: RCV.UP only moves forward; the octets stay in line.
    fn note_urgent(&mut self, seg: &Segment, outcome: &mut Outcome) {
        // MUST-62: the pointer names the octet behind the urgent data.
        let up = seg.seq + u32::from(seg.urgent);
        let known = if self.hot.marks.has(Marks::URGENT) { self.cold.urgent } else { self.hot.rcv.nxt };
        if self.hot.state.can_receive() && up.gt(known.later(self.hot.rcv.nxt)) {
            self.cold.urgent = up;
            self.hot.marks.set(Marks::URGENT);
            outcome.events |= Events::URGENT;
        }
    }

    /// RFC7323-4.3a, and the echo time that right-sizing wants.
    #[inline]
    pub(super) fn note_timestamps(&mut self, seq: SeqNum, len: u32, stamps: Timestamps, now: Instant) {
        let rcv = &mut self.hot.rcv;
        if seq.le(rcv.acked) && SeqNum(stamps.val).ge(SeqNum(rcv.ts_recent)) {
            let second = seconds(now);
            if rcv.ts_recent_at != second {
                self.cold.past_stamps.turn(rcv.ts_recent, self.hot.received);
            }
            rcv.ts_recent = stamps.val;
            rcv.ts_recent_at = second;
        }
        if len > 0 {
            rcv.echo_ticks = rcv.echo_ticks.min(ticks(now, rcv.ts_offset).wrapping_sub(stamps.ecr));
        }
    }

    /// An ACK for something that proves nothing (RFC 5961), if the limiter allows it.
    pub(super) fn challenge(&mut self, config: &Config, now: Instant, outcome: &mut Outcome) {
        outcome.events |= Events::CHALLENGE;
        self.acknowledge_limited(config, now, outcome);
    }

    /// SM-GEN-7.
    pub(super) fn acknowledge_limited(&mut self, config: &Config, now: Instant, outcome: &mut Outcome) {
        if self.cold.challenge.allow(now, config.challenge_interval) {
            let ack: Transmit = self.take_ack(now);
            outcome.reply = Some(ack);
        }
    }
}
