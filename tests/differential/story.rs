//! What a script has done so far to a stack that showed these facts: enough of the connection's state to say what a
//! difference is about. Both stacks have shown the same until then.

use trust::tcp::State;
use trust::wire::tcp::Flags;

use super::facts::{Facts, Place};
use super::script::{Script, Segment, Step, WINDOW};

/// The largest window that a stack can offer without scaling, which no peer here has.
pub(crate) const RECEIVE: i64 = 65_535;

/// The connection before a step, as ours has it.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    pub(crate) state: State,
    /// SND.UNA, and what it would be if the ACK of a duplicate that ends at RCV.NXT counted, and if that of a keep-alive did not.
    pub(crate) una: i64,
    pub(crate) lax_una: i64,
    pub(crate) strict_una: i64,
    /// SND.WND, SND.WL1, MAX.SND.WND.
    pub(crate) window: i64,
    wl1: i64,
    pub(crate) max_window: i64,
    /// The window was made smaller by a segment that said nothing else.
    pub(crate) shrunk: bool,
    /// A window was not taken, as another segment with a higher number had brought one before, and that one still holds.
    pub(crate) overtaken: bool,
    /// A segment with an old timestamp was not taken.
    pub(crate) stale: bool,
    /// So many steps have passed without an ACK of what is on its way, now and at most.
    waiting: usize,
    pub(crate) waited: usize,
    /// Data beyond RCV.NXT, in the order of arrival.
    pub(crate) held: Vec<(i64, i64)>,
    /// Numbers of FINs beyond RCV.NXT.
    pub(crate) held_fins: Vec<i64>,
    /// The application has closed both directions.
    pub(crate) closed: bool,
    /// It has written so many octets.
    pub(crate) written: i64,
    /// So many steps passed before the handshake was complete.
    pub(crate) opening: usize,
    /// A segment was answered before the handshake was complete.
    pub(crate) challenged: bool,
    /// How far from RCV.NXT RSTs lay that came in TIME-WAIT.
    pub(crate) late_resets: Vec<i64>,
}

/// A segment and where it lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) segment: Segment,
    pub(crate) seq: i64,
    pub(crate) ack: i64,
}

impl Sent {
    /// One behind its last octet.
    pub(crate) fn end(&self) -> i64 {
        self.seq + i64::from(self.segment.len)
    }

    pub(crate) fn has(&self, flags: Flags) -> bool {
        self.segment.flags.contains(flags)
    }

    /// SEG.LEN, the FIN included. SYNs are not counted: nobody here takes a second one.
    pub(crate) fn len(&self) -> i64 {
        i64::from(self.segment.len) + i64::from(self.has(Flags::FIN))
    }
}

/// The peer's segment of a step, if it is one.
pub(crate) fn sent(step: &Step, before: &Facts) -> Option<Sent> {
    let Step::Send(segment) = step else { return None };
    let Place { seq, ack } = before.place(segment);
    Some(Sent { segment: *segment, seq, ack })
}

impl Story {
    /// Before step `at`, from the facts up to then: `facts[0]` are those after the SYN.
    pub(crate) fn before(script: &Script, facts: &[Facts], at: usize) -> Self {
        let window = i64::from(WINDOW);
        let mut story = Self {
            state: State::SynReceived,
            una: 1,
            lax_una: 1,
            strict_una: 1,
            window,
            wl1: 0,
            max_window: window,
            shrunk: false,
            overtaken: false,
            stale: false,
            waiting: 0,
            waited: 0,
            held: Vec::new(),
            held_fins: Vec::new(),
            closed: false,
            written: 0,
            opening: 0,
            challenged: false,
            late_resets: Vec::new(),
        };
        for ((step, before), after) in script.steps.iter().zip(facts).zip(&facts[1..]).take(at) {
            story.step(script, step, before, after);
        }
        story
    }

    fn step(&mut self, script: &Script, step: &Step, before: &Facts, after: &Facts) {
        let una = self.una;
        let mut over = self.state == State::Closed || after.app.error || after.again;
        over |= after.reset.is_some() && after.app.accepted;
        match step {
            Step::Write(len) => self.written += i64::from(*len) * i64::from(before.app.accepted),
            Step::Close => self.closed |= before.app.accepted,
            Step::Shutdown => {}
            Step::Send(segment) => {
                let Place { seq, ack } = before.place(segment);
                let sent = Sent { segment: *segment, seq, ack };
                let exact = sent.has(Flags::RST) && seq == before.next();
                if sent.has(Flags::RST) && self.state == State::TimeWait {
                    self.late_resets.push(seq - before.next());
                }
                over |= exact && self.state != State::TimeWait;
                self.stale |= script.timestamps && segment.stale;
                if self.takes(script, &sent, before) && after.app.accepted {
                    self.take(&sent, before);
                }
            }
        }
        self.waiting = if una == self.una && self.una < before.sent { self.waiting + 1 } else { 0 };
        self.waited = self.waited.max(self.waiting);
        self.opening += usize::from(!after.app.accepted);
        self.challenged |= !after.app.accepted && after.acks;
        let fin = self.held_fins.iter().any(|fin| *fin + 1 == after.acked);
        let fin = after.app.end || fin && self.held.iter().all(|(_, end)| *end < after.acked);
        self.held.retain(|(_, end)| *end > after.next());
        self.held_fins.retain(|fin| *fin >= after.next());
        self.state = if over { State::Closed } else { self.next_state(after, fin) };
    }

    /// Whether ours takes what the peer has sent, as far as it is not about the stream.
    fn takes(&self, script: &Script, sent: &Sent, before: &Facts) -> bool {
        sent.has(Flags::ACK)
            && !sent.segment.flags.intersects(Flags::SYN | Flags::RST)
            && !(script.timestamps && sent.segment.stale)
            && sent.seq < before.next() + RECEIVE
            && !self.bad_ack(sent, before)
    }

    /// The ACK is none of anything that was sent and could be on its way (RFC5961-5.2).
    pub(crate) fn bad_ack(&self, sent: &Sent, before: &Facts) -> bool {
        sent.ack > before.sent || sent.ack < 1 || sent.ack < self.una - self.max_window
    }

    fn take(&mut self, sent: &Sent, before: &Facts) {
        let end = sent.seq + sent.len();
        let next = before.next();
        if end == next && sent.len() > 0 {
            self.lax_una = self.lax_una.max(sent.ack);
        }
        if end < next - 1 || (end <= next && sent.len() > 0) {
            return;
        }
        self.lax_una = self.lax_una.max(sent.ack);
        if end >= next {
            self.strict_una = self.strict_una.max(sent.ack);
        }
        let window = i64::from(sent.segment.window);
        if sent.ack > self.una || (sent.ack == self.una && sent.seq >= self.wl1) {
            let silent = sent.ack == self.una && sent.seq == self.wl1 && window < self.window;
            self.shrunk = silent || self.shrunk && sent.ack == self.una && sent.seq == self.wl1;
            (self.una, self.wl1, self.window) = (sent.ack, sent.seq, window);
            self.max_window = self.max_window.max(window);
            self.overtaken = false;
        } else if sent.ack == self.una {
            self.overtaken |= window != self.window;
        }
        if sent.segment.len > 0 {
            self.held.push((sent.seq, sent.end()));
        }
        if sent.has(Flags::FIN) {
            self.held_fins.push(sent.end());
        }
    }

    /// `fin`: the peer's FIN was taken.
    fn next_state(&self, after: &Facts, fin: bool) -> State {
        let passive = matches!(self.state, State::CloseWait | State::LastAck);
        let fin = fin || passive || matches!(self.state, State::Closing | State::TimeWait);
        match (after.fin, after.fin && self.una >= after.sent, fin) {
            _ if !after.app.accepted => State::SynReceived,
            (false, _, false) => State::Established,
            (false, _, true) => State::CloseWait,
            (true, false, false) => State::FinWait1,
            (true, true, false) => State::FinWait2,
            (true, false, true) if passive => State::LastAck,
            (true, false, true) => State::Closing,
            (true, true, true) if passive => State::Closed,
            (true, true, true) => State::TimeWait,
        }
    }
}
