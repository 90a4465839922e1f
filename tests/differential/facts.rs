//! What can be seen of a stack from both sides, in a form in which stacks with their own timers and sizes can be compared:
//! what was acknowledged, sent, delivered, and ended so far; not when, and not in how many segments.

use std::fmt::Write as _;

use trust::wire::tcp::{Flags, TcpHeader};

use super::script::{Script, Segment};

/// Seen after a step. Numbers are relative: the SYN of either side is 0, the first octet 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    /// Its SYN-ACK came.
    pub(crate) answered: bool,
    /// The largest number that it has acknowledged.
    pub(crate) acked: i64,
    /// One behind the largest number that it has sent, its FIN included.
    pub(crate) sent: i64,
    pub(crate) fin: bool,
    /// SEG.SEQ of the RST that it has sent in this step.
    pub(crate) reset: Option<i64>,
    /// It sent an acknowledgment without data in this step.
    pub(crate) acks: bool,
    /// A SYN of the peer's has begun another connection. What comes then has other numbers, and is not looked at.
    pub(crate) again: bool,
    /// What the application has of it.
    pub(crate) app: App,
}

/// What an application sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct App {
    /// The connection could be accepted.
    pub(crate) accepted: bool,
    /// Octets read, all of them the right ones.
    pub(crate) read: u64,
    /// They did not come in order and as sent.
    pub(crate) wrong: bool,
    /// The end of the stream was read.
    pub(crate) end: bool,
    /// The connection ended in an error.
    pub(crate) error: bool,
}

/// Where a segment of the peer's lies, in relative numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) seq: i64,
    pub(crate) ack: i64,
}

impl Facts {
    /// The first number that the stack has not acknowledged.
    pub(crate) fn next(&self) -> i64 {
        self.acked.max(1)
    }

    /// Where a segment lies that is sent now.
    pub(crate) fn place(&self, segment: &Segment) -> Place {
        Place { seq: self.next() + i64::from(segment.seq), ack: self.sent + i64::from(segment.ack) }
    }

    /// Which facts differ from `theirs`, each with the sign of ours (`acks+`: we acknowledged, they did not), or `~` where
    /// neither is more than the other.
    pub(crate) fn differing(&self, theirs: &Self) -> String {
        let mut out = String::new();
        let mut put = |name: &str, a: i64, b: i64| {
            if a != b {
                let sign = if name == "reset" && a != i64::MIN && b != i64::MIN {
                    '~'
                } else if a > b {
                    '+'
                } else {
                    '-'
                };
                let space = if out.is_empty() { "" } else { " " };
                let _ = write!(out, "{space}{name}{sign}");
            }
        };
        let reset = |facts: &Self| facts.reset.unwrap_or(i64::MIN);
        put("answered", self.answered.into(), theirs.answered.into());
        put("acked", self.acked, theirs.acked);
        put("sent", self.sent, theirs.sent);
        put("fin", self.fin.into(), theirs.fin.into());
        put("reset", reset(self), reset(theirs));
        put("acks", self.acks.into(), theirs.acks.into());
        put("again", self.again.into(), theirs.again.into());
        put("accepted", self.app.accepted.into(), theirs.app.accepted.into());
        put("read", self.app.read as i64, theirs.app.read as i64);
        put("wrong", self.app.wrong.into(), theirs.app.wrong.into());
        put("end", self.app.end.into(), theirs.app.end.into());
        put("error", self.app.error.into(), theirs.app.error.into());
        out
    }

    /// In one line, what is false left out.
    pub(crate) fn line(&self) -> String {
        let mut out = format!("acked {} sent {} read {}", self.acked, self.sent, self.app.read);
        if let Some(seq) = self.reset {
            let _ = write!(out, " reset {seq}");
        }
        for (name, is) in [
            ("acks", self.acks),
            ("fin", self.fin),
            ("again", self.again),
            ("accepted", self.app.accepted),
            ("WRONG", self.app.wrong),
            ("end", self.app.end),
            ("error", self.app.error),
        ] {
            if is {
                let _ = write!(out, " {name}");
            }
        }
        out
    }
}

/// The peer: raw numbers, no behaviour of its own.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    irs: u32,
    iss: Option<u32>,
    /// TSval of what it sends.
    pub(crate) clock: u32,
    /// TSval of what the stack has sent, if both have timestamps.
    pub(crate) echo: Option<u32>,
    /// What the stack has sent, so that it can be acknowledged.
    pub(crate) facts: Facts,
}

impl Peer {
    pub(crate) fn new(script: &Script) -> Self {
        Self { irs: script.irs, iss: None, clock: script.irs, echo: None, facts: Facts::default() }
    }

    /// SEG.SEQ for a relative number of ours.
    pub(crate) fn seq(&self, relative: i64) -> u32 {
        self.irs.wrapping_add(relative as u32)
    }

    /// SEG.ACK for a relative number of the stack's.
    pub(crate) fn ack(&self, relative: i64) -> u32 {
        self.iss.unwrap_or(0).wrapping_add(relative as u32)
    }

    /// A new step begins.
    pub(crate) fn begin(&mut self) {
        (self.facts.reset, self.facts.acks) = (None, false);
        self.clock = self.clock.wrapping_add(1_000);
    }

    /// Takes a segment of the stack's.
    pub(crate) fn take(&mut self, header: &TcpHeader, len: usize) {
        let facts = &mut self.facts;
        if header.flags.contains(Flags::SYN) {
            facts.again |= *self.iss.get_or_insert(header.seq) != header.seq;
            facts.answered = true;
        }
        if facts.again {
            return;
        }
        // What is far from both ends counts from the nearer one.
        let relative = |number: u32, base: u32| i64::from(number.wrapping_sub(base) as i32);
        let seq = relative(header.seq, self.iss.unwrap_or(0));
        if header.flags.contains(Flags::RST) {
            facts.reset = Some(seq);
            return;
        }
        self.echo = header.options.timestamps.map(|stamps| stamps.val);
        let flags = i64::from(header.flags.contains(Flags::SYN)) + i64::from(header.flags.contains(Flags::FIN));
        let end = seq + len as i64 + flags;
        facts.fin |= header.flags.contains(Flags::FIN);
        // A probe of an idle or closed window repeats a number.
        facts.acks |= len == 0 && flags == 0 && seq >= facts.sent;
        facts.sent = facts.sent.max(end);
        if header.flags.contains(Flags::ACK) {
            facts.acked = facts.acked.max(relative(header.ack, self.irs));
        }
    }
}
