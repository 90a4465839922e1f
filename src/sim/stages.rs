//! What links do to packets: delay, rate and queue, loss, reordering, repetition, corruption, outages, cutting.
//!
//! Each stage draws from a generator of its own. Must not contain: merging (`gro`), hosts, the clock.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use super::link::{Exit, Stage};
use super::packet::Packet;
use super::{Rng, hit};
use crate::tcp::{Duration, Instant};
use crate::wire::tcp::Flags;
use crate::wire::{self, PROTOCOL_ICMP, checksum};

/// A share of time drawn evenly from `0..=most`.
fn up_to(rng: &mut Rng, most: Duration) -> Duration {
    Duration::from_nanos(rng.u64(0..=most.as_nanos()))
}

/// Propagation: a delay, and jitter up to which it grows.
#[derive(Debug)]
pub struct Delay {
    base: Duration,
    jitter: Duration,
    /// Packets may overtake each other.
    overtaking: bool,
    last: Instant,
    rng: Rng,
}

impl Delay {
    /// `base` for every packet, up to `jitter` more drawn for each. Unless `overtaking`, none leaves before an earlier.
    #[must_use]
    pub fn new(base: Duration, jitter: Duration, overtaking: bool, rng: Rng) -> Self {
        Self { base, jitter, overtaking, last: Instant::ZERO, rng }
    }
}

impl Stage for Delay {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        let mut at = exit.now() + self.base + up_to(&mut self.rng, self.jitter);
        if !self.overtaking {
            at = at.max(self.last);
        } else if at < self.last {
            exit.note(&packet, "overtakes");
        }
        self.last = self.last.max(at);
        exit.pass_at(at, packet);
    }
}

/// How much a queue takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueLimit {
    /// Packets that wait or are being sent.
    Packets(usize),
    /// Octets that wait or are being sent.
    Octets(usize),
}

/// A line of a certain rate behind a drop-tail queue.
#[derive(Debug)]
pub struct Rate {
    octets_per_second: u64,
    limit: QueueLimit,
    free_at: Instant,
    /// When each queued packet has left, and its octets.
    queue: VecDeque<(Instant, usize)>,
    octets: usize,
}

impl Rate {
    /// A line of that rate. A queue that is empty takes any packet.
    #[must_use]
    pub fn new(octets_per_second: u64, limit: QueueLimit) -> Self {
        Self {
            octets_per_second: octets_per_second.max(1),
            limit,
            free_at: Instant::ZERO,
            queue: VecDeque::new(),
            octets: 0,
        }
    }
}

/// Time that `octets` take at that rate.
fn serialization(octets: usize, octets_per_second: u64) -> Duration {
    Duration::from_nanos((octets as u64).saturating_mul(1_000_000_000) / octets_per_second)
}

impl Stage for Rate {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        let now = exit.now();
        while let Some((_, octets)) = self.queue.front().copied().filter(|(left, _)| *left <= now) {
            self.queue.pop_front();
            self.octets -= octets;
        }
        let len = packet.data.len();
        let full = match self.limit {
            QueueLimit::Packets(most) => self.queue.len() >= most,
            QueueLimit::Octets(most) => self.octets + len > most,
        };
        if full && !self.queue.is_empty() {
            return exit.lose(packet, "queue full");
        }
        self.free_at = self.free_at.max(now) + serialization(len, self.octets_per_second);
        self.queue.push_back((self.free_at, len));
        self.octets += len;
        exit.pass_at(self.free_at, packet);
    }
}

/// A token bucket: what exceeds it is dropped at once, not queued.
#[derive(Debug)]
pub struct Policer {
    octets_per_second: u64,
    burst: u64,
    tokens: u64,
    filled: Instant,
}

impl Policer {
    /// A full bucket of `burst` octets that fills at that rate.
    #[must_use]
    pub fn new(octets_per_second: u64, burst: u64) -> Self {
        Self { octets_per_second: octets_per_second.max(1), burst, tokens: burst, filled: Instant::ZERO }
    }
}

impl Stage for Policer {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        let span = exit.now().saturating_since(self.filled).as_nanos();
        let fresh = (u128::from(span) * u128::from(self.octets_per_second) / 1_000_000_000) as u64;
        if fresh > 0 {
            self.tokens = self.tokens.saturating_add(fresh).min(self.burst);
            self.filled = exit.now();
        }
        match self.tokens.checked_sub(packet.data.len() as u64) {
            Some(rest) => {
                self.tokens = rest;
                exit.pass(packet);
            }
            None => exit.lose(packet, "policed"),
        }
    }
}

/// Independent loss.
#[derive(Debug)]
pub struct Loss {
    probability: f64,
    rng: Rng,
}

impl Loss {
    /// Each packet vanishes with that probability.
    #[must_use]
    pub fn new(probability: f64, rng: Rng) -> Self {
        Self { probability, rng }
    }
}

impl Stage for Loss {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        if hit(&mut self.rng, self.probability) { exit.lose(packet, "lost") } else { exit.pass(packet) }
    }
}

/// Loss in bursts: a chain of two states (Gilbert 1960, Elliott 1963).
#[derive(Debug)]
pub struct BurstLoss {
    to_bad: f64,
    to_good: f64,
    /// Loss in the good and in the bad state.
    loss: [f64; 2],
    bad: bool,
    rng: Rng,
}

impl BurstLoss {
    /// Probabilities for each packet: of turning bad, of turning good again, of loss while good and while bad.
    #[must_use]
    pub fn new(to_bad: f64, to_good: f64, loss: [f64; 2], rng: Rng) -> Self {
        Self { to_bad, to_good, loss, bad: false, rng }
    }
}

impl Stage for BurstLoss {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        let turn = if self.bad { self.to_good } else { self.to_bad };
        self.bad ^= hit(&mut self.rng, turn);
        let loss = self.loss[usize::from(self.bad)];
        if hit(&mut self.rng, loss) { exit.lose(packet, "lost in burst") } else { exit.pass(packet) }
    }
}

type Choice = Box<dyn FnMut(u64, &Packet) -> bool>;

/// Loss of chosen packets.
pub struct Chosen {
    seen: u64,
    choice: Choice,
}

impl std::fmt::Debug for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chosen").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl Chosen {
    /// Loses the packets for which `choice` says so; it is told how many came before.
    pub fn new(choice: impl FnMut(u64, &Packet) -> bool + 'static) -> Self {
        Self { seen: 0, choice: Box::new(choice) }
    }

    /// Loses the packets with these places in the order of arrival, from 0.
    #[must_use]
    pub fn nth(places: &'static [u64]) -> Self {
        Self::new(move |n, _| places.contains(&n))
    }

    /// Loses segments with payload or FIN that end a flight, the first `times` times that `ends` says so of them: the
    /// loss that only a timer or a probe finds.
    pub fn tail(times: u32, mut ends: impl FnMut(&Packet) -> bool + 'static) -> Self {
        let mut left = times;
        Self::new(move |_, packet| {
            let chosen = left > 0 && ends(packet);
            left -= u32::from(chosen);
            chosen
        })
    }
}

impl Stage for Chosen {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        let n = self.seen;
        self.seen += 1;
        if (self.choice)(n, &packet) { exit.lose(packet, "lost") } else { exit.pass(packet) }
    }
}

/// Reordering by places: a packet waits until some others have passed.
#[derive(Debug)]
pub struct Reorder {
    probability: f64,
    most_places: u64,
    most_wait: Duration,
    /// Packets held back: how many may still pass, and when each leaves even if none does.
    held: Vec<(u64, Instant, Packet)>,
    rng: Rng,
}

impl Reorder {
    /// A packet is held with that probability until 1 to `most_places` others have passed, or for `most_wait`.
    #[must_use]
    pub fn new(probability: f64, most_places: u64, most_wait: Duration, rng: Rng) -> Self {
        Self { probability, most_places: most_places.max(1), most_wait, held: Vec::new(), rng }
    }
}

impl Stage for Reorder {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        if hit(&mut self.rng, self.probability) {
            let until = exit.now() + self.most_wait;
            exit.note(&packet, "held back");
            exit.wake_at(until);
            self.held.push((self.rng.u64(1..=self.most_places), until, packet));
            return;
        }
        exit.pass(packet);
        for (left, ..) in &mut self.held {
            *left -= 1;
        }
        for (.., packet) in self.held.extract_if(.., |(left, ..)| *left == 0) {
            exit.pass(packet);
        }
    }

    fn wake(&mut self, exit: &mut Exit<'_>) {
        let now = exit.now();
        for (.., packet) in self.held.extract_if(.., |(_, until, _)| *until <= now) {
            exit.pass(packet);
        }
    }
}

/// Reordering by time: a packet takes a longer way.
#[derive(Debug)]
pub struct Detour {
    probability: f64,
    extra: Duration,
    rng: Rng,
}

impl Detour {
    /// A packet is delayed with that probability by up to `extra`.
    #[must_use]
    pub fn new(probability: f64, extra: Duration, rng: Rng) -> Self {
        Self { probability, extra, rng }
    }
}

impl Stage for Detour {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        if hit(&mut self.rng, self.probability) {
            exit.note(&packet, "detour");
            exit.pass_at(exit.now() + up_to(&mut self.rng, self.extra), packet);
        } else {
            exit.pass(packet);
        }
    }
}

/// Repetition.
#[derive(Debug)]
pub struct Duplicate {
    probability: f64,
    apart: Duration,
    rng: Rng,
}

impl Duplicate {
    /// A packet comes a second time with that probability, up to `apart` later.
    #[must_use]
    pub fn new(probability: f64, apart: Duration, rng: Rng) -> Self {
        Self { probability, apart, rng }
    }
}

impl Stage for Duplicate {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        if hit(&mut self.rng, self.probability) {
            exit.note(&packet, "dup");
            let at = exit.now() + up_to(&mut self.rng, self.apart);
            exit.pass(packet.clone());
            exit.pass_at(at, packet);
        } else {
            exit.pass(packet);
        }
    }
}

/// Bit errors that a checksum must catch.
#[derive(Debug)]
pub struct Corrupt {
    probability: f64,
    rng: Rng,
}

impl Corrupt {
    /// One bit of a packet flips with that probability.
    #[must_use]
    pub fn new(probability: f64, rng: Rng) -> Self {
        Self { probability, rng }
    }
}

impl Stage for Corrupt {
    fn enter(&mut self, mut packet: Packet, exit: &mut Exit<'_>) {
        // A packet may pass two such stages: twice flipped, the errors could cancel each other out.
        if !packet.damaged && hit(&mut self.rng, self.probability) {
            exit.note(&packet, "corrupt");
            packet.flip(self.rng.usize(..));
        }
        exit.pass(packet);
    }
}

/// A narrow place: packets larger than its MTU are dropped while it lasts.
#[derive(Debug)]
pub struct NarrowMtu {
    mtu: usize,
    from: Instant,
    until: Instant,
    /// The address from which a router tells of it (RFC 1191); `None`: a black hole (RFC 2923).
    router: Option<Ipv4Addr>,
}

impl NarrowMtu {
    /// Drops packets of more than `mtu` octets in `from..until`. With a `router` the sender is told by ICMP.
    #[must_use]
    pub fn new(mtu: u16, from: Instant, until: Instant, router: Option<Ipv4Addr>) -> Self {
        Self { mtu: usize::from(mtu), from, until, router }
    }
}

/// "Destination unreachable" with that code from `router` about a packet with these first octets; what it says of an MTU
/// counts with "fragmentation needed" (RFC 1191 section 4).
fn unreachable(router: Ipv4Addr, about: &[u8], code: u8, mtu: u16) -> Option<Packet> {
    // Of IPv6 nobody tells.
    about.first().filter(|first| **first >> 4 == 4)?;
    let sender = Ipv4Addr::from(*about.get(12..)?.first_chunk::<4>()?);
    let mut message = vec![3, code, 0, 0, 0, 0];
    message.extend_from_slice(&mtu.to_be_bytes());
    message.extend_from_slice(about.get(..28)?);
    let sum = checksum::finish(checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut data = vec![0; wire::ip::IPV4_HEADER_LEN];
    wire::ip::write_ipv4(&mut data, router, sender, PROTOCOL_ICMP, message.len(), wire::ip::IpFields::default());
    data.extend_from_slice(&message);
    Some(Packet::new(data))
}

impl Stage for NarrowMtu {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        let now = exit.now();
        if packet.data.len() <= self.mtu || now < self.from || now >= self.until {
            return exit.pass(packet);
        }
        if let Some(message) = self.router.and_then(|router| unreachable(router, &packet.data, 4, self.mtu as u16)) {
            exit.back(message);
        }
        exit.lose(packet, "too big");
    }
}

/// Somebody on the way who sees packets, lets them pass, and tells their sender lies about them that no stack may believe
/// (RFC 5927): that the other end refuses what is established, that the path carries hardly anything or as much as ever,
/// and that numbers were too large which are not in flight.
#[derive(Debug)]
pub struct Slander {
    probability: f64,
    liar: Ipv4Addr,
    rng: Rng,
}

impl Slander {
    /// A lie about a packet with that probability, from that address.
    #[must_use]
    pub fn new(probability: f64, liar: Ipv4Addr, rng: Rng) -> Self {
        Self { probability, liar, rng }
    }
}

impl Stage for Slander {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        if hit(&mut self.rng, self.probability)
            && let Some(view) = packet.view().filter(|view| !view.has(Flags::SYN))
            && let Some(about) = packet.data.first_chunk::<28>()
        {
            let mut about = *about;
            let (code, mtu) = match self.rng.u32(0..5) {
                0 => (2, 0),
                1 => (3, 0),
                2 => (4, self.rng.u16(1..69)),
                3 => (4, 65_535),
                _ => {
                    let far = view.header.seq.wrapping_add(self.rng.u32(1 << 30..3 << 30));
                    about[24..28].copy_from_slice(&far.to_be_bytes());
                    (4, self.rng.u16(576..1_280))
                }
            };
            if let Some(lie) = unreachable(self.liar, &about, code, mtu) {
                exit.back(lie);
            }
        }
        exit.pass(packet);
    }
}

/// What happens to packets during an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meanwhile {
    /// They are lost.
    Lost,
    /// They wait and come all at once at its end, in order.
    Kept,
}

/// Stretches of time in which nothing gets through.
#[derive(Debug)]
pub struct Outage {
    windows: Vec<(Instant, Instant)>,
    meanwhile: Meanwhile,
    /// When the last that is kept goes on.
    last: Instant,
}

impl Outage {
    /// Nothing gets through in `from..until` of each window.
    #[must_use]
    pub fn new(windows: Vec<(Instant, Instant)>, meanwhile: Meanwhile) -> Self {
        Self { windows, meanwhile, last: Instant::ZERO }
    }
}

impl Stage for Outage {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        let now = exit.now();
        match self.windows.iter().find(|(from, until)| (*from..*until).contains(&now)) {
            None => exit.pass(packet),
            Some((_, until)) => match self.meanwhile {
                Meanwhile::Lost => exit.lose(packet, "outage"),
                Meanwhile::Kept => {
                    // Of two windows the one that is found first may end first.
                    if *until < self.last {
                        exit.note(&packet, "overtakes");
                    }
                    self.last = self.last.max(*until);
                    exit.pass_at(*until, packet);
                }
            },
        }
    }
}

/// Cuts super-segments into wire segments and completes checksums, as a network card does on sending.
#[derive(Debug, Default)]
pub struct Split;

impl Stage for Split {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        packet.split(|packet| exit.pass(packet));
    }
}
