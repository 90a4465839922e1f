//! `on_segment`: header prediction, then the steps of RFC 9293 3.10.7.4 in their order.
//!
//! PAWS, sequence, RST, SYN, ACK, URG, text, FIN. What an acknowledgment means is in `acks.rs`.

use crate::tcp::base::config::Config;
use crate::tcp::base::outcome::{CloseReason, Context, Events, Keep, Outcome, Payload};
use crate::tcp::base::ranges::Insert;
use crate::tcp::base::segment::{Segment, reset_for};
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::state::State;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::base::timers::Timer;
use crate::tcp::connection::Connection;
use crate::tcp::connection::receiver::{AckTiming, PawsDrop};
use crate::tcp::connection::right_sizing::RightSizing;
use crate::tcp::connection::time_wait::TimeWaitOutcome;
use crate::tcp::connection::timestamps::StampCheck;
use crate::wire::tcp::Flags;

/// Longest delay of an acknowledgment, whatever the configuration says (MUST-40).
const MAX_DELAY: Duration = Duration::from_millis(500);

impl Connection {
    /// A segment for this connection, checksum verified.
    #[inline]
    pub fn on_segment(&mut self, config: &Config, seg: &Segment, context: &Context) -> Outcome {
        if let Some((acked, writable)) = self.on_expected(config, seg, context) {
            let mut outcome = Outcome { acked, events: Events::PREDICTED, ..Outcome::default() };
            outcome.events.set(Events::WRITABLE, writable);
            if seg.len > 0 {
                outcome.payload = Payload::Deliver { from: 0, to: seg.len, released: 0 };
            }
            return outcome;
        }
        let mut outcome = Outcome::default();
        self.process(config, seg, context, &mut outcome);
        self.review_prediction();
        outcome
    }

    /// [`on_segment`](Self::on_segment) for the segment that header prediction takes: octets to free from the front of the
    /// send store, and whether there is room in the send buffer again. The payload, if there is any, is in order and all of
    /// it wanted. `None`: it does not take this one, for which `on_segment` is to be called.
    #[inline(always)]
    pub(crate) fn on_expected(&mut self, config: &Config, seg: &Segment, context: &Context) -> Option<(u32, bool)> {
        let idle = context.now - self.clock;
        self.clock = context.now;
        if idle > config.rto.initial {
            // OPS-6: whoever begins again is in slow start and waits for each ACK.
            self.receiver.acknowledge_quickly(config.quick_acks);
        }
        if self.predictable { self.predict(config, seg, context) } else { None }
    }

    /// Header prediction: the next data segment in order, the ACK of new data or an opening window, with nothing
    /// special about it. `None`, with nothing changed, for everything else.
    #[inline(always)]
    fn predict(&mut self, config: &Config, seg: &Segment, context: &Context) -> Option<(u32, bool)> {
        let Self { receiver, sender, .. } = self;
        let window = sender.scaled_window(seg);
        let acked = seg.ack.0.wrapping_sub(sender.una().0);
        if seg.seq != receiver.nxt()
            || seg.flags.without(Flags::PSH) != Flags::ACK
            || acked > sender.flight().min(sender.queued()) // the ACK of our FIN is special
            || !seg.options.sack.is_empty()
        {
            return None;
        }
        // The same ACK with a larger window is no duplicate ACK (RFC5681-2.DA); the end of a closed window is not for
        // here.
        let opens = sender.window() > 0 && window > sender.window();
        // Not data that a known FIN or a closed reader forbids.
        let wanted = if seg.len == 0 {
            acked > 0 || opens
        } else {
            seg.len <= self.receiver.window()
                && context.keep == Keep::All
                && self.receiver.fin().is_none()
                && !self.has_no_reader()
        };
        if !wanted {
            return None;
        }
        // RFC7323-5.6: PAWS comes before prediction.
        let stamps = match self.receiver.timestamps().check(seg.options.timestamps) {
            StampCheck::Unused => None,
            StampCheck::Fresh(stamps) => Some(stamps),
            StampCheck::Older(_) | StampCheck::Missing { .. } => return None,
        };
        if let Some(stamps) = stamps {
            self.receiver.on_timestamps(seg.seq, seg.len, stamps, &mut self.past_stamps, context.now);
        }
        let mut predicted = (0, false);
        if acked > 0 {
            predicted = self.advance(config, seg.ack, stamps, context.now);
        }
        // A segment at RCV.NXT that acknowledges SND.UNA or more is never older than the last update (SM-ACK-6).
        self.update_window(seg);
        if seg.len > 0 {
            self.accept(seg.seq + seg.len, config, context.now);
        }
        Some(predicted)
    }

    fn process(&mut self, config: &Config, seg: &Segment, context: &Context, outcome: &mut Outcome) {
        let now = context.now;
        match self.state {
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
        if let Some(size) = self.receiver.limit_buffer(config, context.keep) {
            self.sizing = RightSizing::new(size, now);
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
        if self.state == State::Closed || self.state == State::TimeWait {
            return;
        }
        // SM-EST-5: RCV.UP only moves forward; the octets stay in line. MUST-62: the pointer names the octet behind the
        // urgent data.
        if seg.has(Flags::URG) && self.state.can_receive() && self.receiver.on_urgent(seg.seq + u32::from(seg.urgent)) {
            outcome.events |= Events::URGENT;
        }
        self.text(config, seg, context, outcome);
    }

    /// RFC7323-5.3a, 3.2b; RST is exempt (SM-RST-5), and SYN, which is challenged whatever it carries (SM-SYN-1).
    fn passes_paws(&mut self, config: &Config, seg: &Segment, now: Instant, outcome: &mut Outcome) -> bool {
        if seg.flags.intersects(Flags::RST | Flags::SYN) {
            return true;
        }
        let Some(drop) = self.receiver.check_paws(config, seg.options.timestamps, &self.past_stamps, now) else {
            return true;
        };
        outcome.events |= Events::PAWS;
        if drop == PawsDrop::Missing {
            return false;
        }
        let end = seg.seq + seg.len;
        if seg.len > 0 {
            // RFC2883-4c: a duplicate is reported also when PAWS rejects it.
            if end.le(self.receiver.nxt()) || self.reassembly.contains(seg.seq, end) {
                self.reassembly.report_duplicate(seg.seq, end);
            }
            outcome.ack_now = true;
        } else {
            self.acknowledge_limited(config, now, outcome);
        }
        false
    }

    /// SM-SEQ-1 to 7.
    fn passes_sequence(&mut self, config: &Config, seg: &Segment, now: Instant, outcome: &mut Outcome) -> bool {
        if self.receiver.is_acceptable(seg) {
            return true;
        }
        let nxt = self.receiver.nxt();
        if seg.has(Flags::RST) {
            // SM-SEQ-7: silently, but for the peers that send RST with the number of their FIN (SM-RST-4).
            return seg.seq + 1 == nxt && self.at_eof();
        }
        if seg.has(Flags::SYN) {
            return true; // SM-SYN-1 answers it
        }
        let received_before = (seg.seq + seg.seq_len()).le(nxt);
        outcome.events |= if received_before { Events::DUPLICATE } else { Events::OUT_OF_WINDOW };
        if seg.seq_len() == 0 {
            self.acknowledge_limited(config, now, outcome);
            // SM-SEQ-5: a keep-alive, or an ACK behind the window that its sender has filled. Its ACK counts.
            return seg.seq + 1 == nxt || seg.seq == self.receiver.edge();
        }
        // SM-GEN-7: what carries data was perhaps sent again because our ACK was lost. Answer promptly.
        if seg.len > 0 && (seg.seq + seg.len).le(nxt) {
            self.reassembly.report_duplicate(seg.seq, seg.seq + seg.len);
        }
        self.receiver.acknowledge_quickly(config.quick_acks);
        outcome.ack_now = true;
        false
    }

    /// SM-RST-1 to 4 (RFC5961-3.2). `false` also when the segment is done with.
    fn passes_reset(&mut self, config: &Config, seg: &Segment, now: Instant, outcome: &mut Outcome) -> bool {
        if !seg.has(Flags::RST) {
            return true;
        }
        let nxt = self.receiver.nxt();
        // SM-RST-4, as decided: also the right edge of the highest block we hold, or behind a FIN that waits (the peer
        // cannot know that the rest is missing), and the number of its FIN.
        let fin_again = seg.seq + 1 == nxt && matches!(self.state, State::CloseWait | State::LastAck | State::Closing);
        let behind_fin = self.receiver.fin().is_some_and(|fin| seg.seq == fin + 1);
        let behind_held = self.recovery.with_sack() && (behind_fin || self.reassembly.end() == Some(seg.seq));
        if seg.seq == nxt || fin_again || behind_held {
            // In the last states the user has closed and waits for nothing but the acknowledgment of a FIN.
            let shutdown = matches!(self.state, State::Closing | State::LastAck) && self.sender.queued() == 0;
            self.finish(if shutdown { CloseReason::Normal } else { CloseReason::Reset });
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
        let nxt = self.receiver.nxt();
        let sent_end = seg.seq + seg.len;
        if !self.state.can_receive() {
            // SM-CW-2: there is nothing behind the peer's FIN.
            self.acknowledge_limited(config, context.now, outcome);
            return;
        }
        if self.has_no_reader() && sent_end.gt(nxt) {
            // SHLD-3, KP-16: nobody will ever read this.
            outcome.reply = Some(self.reset(context.now));
            outcome.ack_now = false;
            self.finish(CloseReason::Aborted);
            outcome.events |= Events::CLOSED;
            return;
        }
        // Cut at the right edge, and at the FIN once we know where it is.
        let mut end = sent_end.earlier(self.receiver.edge().later(nxt));
        if let Some(fin) = self.receiver.fin() {
            end = end.earlier(fin);
        }
        let wanted = end;
        let start = seg.seq.later(nxt);
        if let Keep::InOrder { room, share } = context.keep
            && end.gt(start)
        {
            // OPS-46: as if it had been lost. Behind a gap a quarter of the share at most: what fills the gap needs
            // room. But that much, since without a SACK the peer would find out by timeout only.
            let behind_gap = start != nxt;
            let most = if behind_gap { share / 4 } else { room };
            let kept = start + end.above(start).min(most);
            if kept == start || (behind_gap && kept.lt(end) && most < u32::from(self.receiver.mss())) {
                // A hole is still reported, so that the peer knows early.
                self.reassembly.report_overlap(start, end);
                self.refuse(start, end, outcome);
                outcome.ack_now |= behind_gap;
                return;
            }
            end = kept;
        }
        let (from, to) = (start.above(seg.seq), end.above(seg.seq));
        self.note_fin(fin, sent_end, end);
        if to > from && start == nxt {
            self.take_in_order(config, seg, (from, to), context.now, outcome);
        } else if to > from {
            self.take_out_of_order(config, (start, end), (from, to), outcome);
        } else if seg.len > 0 {
            // Nothing new fits: a probe of a closed window, or what we have already.
            self.reassembly.report_duplicate(seg.seq, sent_end.earlier(nxt));
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
        let start = start.later(self.receiver.nxt());
        end.above(start) - self.reassembly.octets_in(start, end)
    }

    /// `[start, end)` lies in the window and is not kept: the peer must send it again, but for what of it is here.
    #[cold]
    fn refuse(&mut self, start: SeqNum, end: SeqNum, outcome: &mut Outcome) {
        let refused = self.missing(start, end);
        if refused > 0 {
            outcome.events |= Events::REFUSED;
            self.refused = refused;
        }
    }

    /// Remembers where the peer's FIN is (SM-EST-2), unless it contradicts what is known.
    fn note_fin(&mut self, fin: bool, sent_end: SeqNum, kept_end: SeqNum) {
        let cut = kept_end.lt(sent_end);
        let data_above = self.reassembly.end().is_some_and(|end| end.gt(sent_end));
        let known = self.receiver.fin().is_some();
        if fin && !cut && !data_above && sent_end.ge(self.receiver.nxt()) && !known {
            self.receiver.note_fin(sent_end);
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
            self.reassembly.report_duplicate(seg.seq, self.receiver.nxt());
            self.request_ack();
            self.receiver.acknowledge_quickly(config.quick_acks);
        }
        let end = seg.seq + to;
        let holes = !self.reassembly.is_empty();
        if holes && from == 0 {
            self.reassembly.report_overlap(seg.seq, end);
        }
        let released = self.reassembly.release(end);
        // RFC5681-3.2.0: what fills a hole, wholly or in part, is acknowledged by itself.
        if holes {
            outcome.ack_now = true;
            self.receiver.acknowledge_quickly(config.quick_acks);
        }
        self.accept(end + released, config, now);
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
        self.receiver.acknowledge_quickly(config.quick_acks);
        self.reassembly.report_overlap(start, end);
        match self.reassembly.insert(start, end, self.receiver.most_ranges(self.sender.mss())) {
            Insert::Added(_) => {
                outcome.payload = Payload::Hold { from, to, offset: start.above(self.receiver.nxt()) };
            }
            Insert::Duplicate => outcome.events |= Events::DUPLICATE,
            Insert::Full => self.refuse(start, end, outcome),
        }
    }

    /// RCV.NXT moves up to `end`; an ACK is owed.
    #[inline(always)]
    fn accept(&mut self, end: SeqNum, config: &Config, now: Instant) {
        match self.receiver.accept(end) {
            AckTiming::Now => self.request_poll(),
            AckTiming::Delayed => {
                self.timers.set_if_unset(Timer::DelayedAck, now + config.delayed_ack.min(MAX_DELAY));
            }
        }
    }

    /// The peer's FIN, once everything before it is here.
    fn take_fin(&mut self, outcome: &mut Outcome) {
        if !self.receiver.take_fin() {
            return;
        }
        self.request_poll();
        outcome.events |= Events::EOF;
        match self.state {
            State::Established => self.state = State::CloseWait,
            // SM-FW1-2: with our FIN acknowledged the state is FIN-WAIT-2 by now.
            State::FinWait1 => self.state = State::Closing,
            State::FinWait2 => {
                self.enter_time_wait();
                outcome.ack_now = true;
                outcome.events |= Events::TIME_WAIT;
            }
            _ => {}
        }
    }

    /// An ACK for something that proves nothing (RFC 5961), if the limiter allows it.
    fn challenge(&mut self, config: &Config, now: Instant, outcome: &mut Outcome) {
        outcome.events |= Events::CHALLENGE;
        self.acknowledge_limited(config, now, outcome);
    }
}
