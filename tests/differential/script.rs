//! Scripts: what a peer sends and an application calls, step by step, in numbers relative to what both sides know.
//!
//! Must not contain: what a stack makes of it.

use fastrand::Rng;
use trust::wire::tcp::Flags;

/// Octets of the longest segment that the peer sends, and its MSS.
pub(crate) const MSS: u16 = 1_000;

/// What the peer's window says, unless it is what a step is about.
pub(crate) const WINDOW: u16 = 20_000;

/// One segment of the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) flags: Flags,
    /// SEG.SEQ, from the number that the stack has acknowledged.
    pub(crate) seq: i32,
    /// SEG.ACK, from one behind what the stack has sent so far.
    pub(crate) ack: i32,
    /// Octets of data.
    pub(crate) len: u16,
    pub(crate) window: u16,
    /// Its timestamp is older than those before, where there are timestamps.
    pub(crate) stale: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The peer sends.
    Send(Segment),
    /// The application writes so many octets.
    Write(u16),
    /// It has nothing more to write.
    Shutdown,
    /// It has no use for the connection any more.
    Close,
}

/// A script, and what makes it again.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) seed: u64,
    /// The peer's first sequence number.
    pub(crate) irs: u32,
    /// The peer has SACK.
    pub(crate) sack: bool,
    /// It has timestamps.
    pub(crate) timestamps: bool,
    pub(crate) steps: Vec<Step>,
}

/// What a generator remembers, so that most of what it makes has a meaning.
#[derive(Default)]
struct Course {
    /// The peer does what a sane one may do, if in an odd order.
    sane: bool,
    /// What a stack has that takes everything: up to `next` in order, and this behind gaps.
    next: i32,
    held: Vec<(i32, i32)>,
    /// Where the peer's FIN is, which it has sent.
    fin: Option<i32>,
    /// The application has closed its direction.
    shut: bool,
    /// The end of the connection: what follows is for nobody.
    over: bool,
}

impl Script {
    pub(crate) fn random(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let irs = *rng.choice(&[1, 0x7fff_f000, 0xffff_f800, 0x1234_5678]).expect("four");
        let (sack, timestamps) = (rng.bool(), rng.u8(..3) == 0);
        let most = rng.usize(3..14);
        let mut course = Course { sane: rng.bool(), ..Course::default() };
        let mut script = Self { seed, irs, sack, timestamps, steps: Vec::with_capacity(most) };
        if rng.u8(..16) > 0 {
            script.steps.push(Step::Send(segment(Flags::ACK)));
        }
        while script.steps.len() < most {
            let step = course.step(&mut rng);
            script.steps.push(step);
            if course.over && rng.bool() {
                break;
            }
        }
        script
    }
}

fn segment(flags: Flags) -> Segment {
    Segment { flags, seq: 0, ack: 0, len: 0, window: WINDOW, stale: false }
}

impl Course {
    fn step(&mut self, rng: &mut Rng) -> Step {
        let step = if self.sane || rng.u8(..3) > 0 { self.sane_step(rng) } else { odd_step(rng) };
        match step {
            Step::Send(segment) => self.take(&segment),
            Step::Shutdown => self.shut = true,
            // What arrives then is answered with a RST.
            Step::Close => (self.shut, self.over) = (true, self.fin.is_some()),
            Step::Write(_) => {}
        }
        step
    }

    fn take(&mut self, segment: &Segment) {
        let start = self.next + segment.seq;
        self.over |= segment.flags.contains(Flags::RST) && segment.seq == 0;
        if !segment.flags.contains(Flags::ACK) || segment.seq.abs() > i32::from(WINDOW) {
            return;
        }
        let end = start + i32::from(segment.len);
        if segment.flags.contains(Flags::FIN) && end >= self.next {
            self.fin.get_or_insert(end);
        }
        self.held.push((start, end));
        self.held.sort_unstable();
        for (start, end) in &self.held {
            if *start <= self.next {
                self.next = self.next.max(*end);
            }
        }
        self.held.retain(|(_, end)| *end > self.next);
    }

    fn sane_step(&self, rng: &mut Rng) -> Step {
        // One behind what the peer has ever sent, from the next octet.
        let top = self.held.iter().map(|(_, end)| *end).chain(self.fin).fold(self.next, i32::max) - self.next;
        // What it sends again or out of order ends where the stream does.
        let within = |seq: i32, len: u16| match self.fin {
            Some(_) => len.min(u16::try_from(top - seq).unwrap_or(0)),
            None => len,
        };
        let ack = segment(Flags::ACK);
        let len = rng.u16(1..=MSS);
        let data = |seq| Segment { seq, len: within(seq, len), flags: Flags::ACK | Flags::PSH, ..ack };
        let fin = Segment { flags: Flags::ACK | Flags::FIN, seq: top, ..ack };
        if self.fin.is_some() && top <= 0 {
            // The peer has said everything.
            return match rng.u8(..8) {
                0 => Step::Send(Segment { seq: -1, ..fin }),
                1 => Step::Send(Segment { seq: -1 - i32::from(len), len, ..data(0) }),
                2 => Step::Send(Segment { ack: -rng.i32(0..1_500), ..ack }),
                3 | 4 if !self.shut => Step::Write(rng.u16(1..3_000)),
                5 => Step::Shutdown,
                6 if rng.bool() => Step::Close,
                _ => Step::Send(ack),
            };
        }
        Step::Send(match rng.u8(..32) {
            0..=7 => data(0),
            8 => data(rng.i32(1..2_500).min(if self.fin.is_some() { top } else { i32::MAX })),
            9 | 10 if self.fin.is_none() => Segment { seq: top + rng.i32(1..1_500), len, ..data(0) },
            // Twice, wholly or in part.
            11 => data(-rng.i32(0..1_000)),
            12 => Segment { seq: -i32::from(len), len, ..data(0) },
            13..=15 => ack,
            16 => Segment { ack: -rng.i32(0..1_500), ..ack },
            17 => Segment { ack: -rng.i32(0..1_500), ..data(0) },
            18 => Segment { ack: -i32::from(self.shut), ..fin },
            19 => Segment { ack: -i32::from(rng.bool()), ..fin },
            20 if self.fin.is_none() => Segment { len, ..fin },
            21 => Segment { seq: -1, len: rng.u16(0..2), ..ack },
            22 => Segment { window: rng.u16(1_500..30_000), ..ack },
            23 if rng.u8(..3) == 0 => segment(Flags::RST | Flags::ACK),
            24..=28 if !self.shut => return Step::Write(rng.u16(1..3_000)),
            29 => return Step::Shutdown,
            30 if rng.bool() => return Step::Close,
            _ => data(0),
        })
    }
}

/// What only a broken peer or somebody else sends.
fn odd_step(rng: &mut Rng) -> Step {
    let data = Segment { len: rng.u16(1..=MSS), ..segment(Flags::ACK | Flags::PSH) };
    let fin = Segment { flags: Flags::ACK | Flags::FIN, ..data };
    let near = rng.i32(-2_500..2_500);
    Step::Send(match rng.u8(..22) {
        0 => Segment { ack: rng.i32(1..1_000_000), ..segment(Flags::ACK) },
        1 => Segment { ack: -rng.i32(100_000..1_000_000), ..data },
        2 => Segment { ack: -rng.i32(1_000..100_000), ..segment(Flags::ACK) },
        3 | 4 => Segment { seq: near, ..fin },
        5 => Segment { seq: near, len: 0, ..fin },
        6 => segment(Flags::RST),
        7 | 8 => Segment { seq: near, ..segment(Flags::RST) },
        9 => Segment { seq: rng.i32(100_000..1_000_000), ..segment(Flags::RST | Flags::ACK) },
        10 => Segment { seq: near, ..segment(Flags::SYN) },
        11 => Segment { seq: near, ..segment(Flags::SYN | Flags::ACK) },
        12 => Segment { flags: Flags::PSH, ..data },
        13 => Segment { flags: Flags::NONE, len: 0, ..data },
        14 => Segment { window: rng.u16(0..1_200), ..segment(Flags::ACK) },
        15 => Segment { seq: rng.i32(100_000..2_000_000), ..data },
        16 => Segment { seq: -rng.i32(100_000..2_000_000), ..data },
        17 => Segment { stale: true, ..data },
        20 => segment(Flags::RST),
        21 => Segment { seq: near.abs(), ..segment(Flags::SYN) },
        18 => Segment { stale: true, ..segment(Flags::ACK) },
        _ => Segment { seq: near, ..data },
    })
}

/// Octet `at` of either direction.
pub(crate) fn octet(at: u32) -> u8 {
    (at % 251) as u8
}

/// `len` octets from `at` on, which may lie before the first.
pub(crate) fn octets(at: i64, len: usize) -> Vec<u8> {
    (0..len as i64).map(|i| octet((at + i).rem_euclid(251 << 20) as u32)).collect()
}
