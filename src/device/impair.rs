//! Seeded loss, reordering, duplication and corruption around any device, for each direction and queue by itself.
//!
//! Chance is drawn for each WIRE segment: a super-segment none of whose segments is hit passes whole, otherwise it is
//! cut into the runs that survive. So 1 % means the same with offload and without. The same seed and the same packets
//! give the same history. No clock and no timer here: a packet held back for reordering leaves behind the next one, or
//! when the queue is found empty ([`RxQueue::receive`]), or at the end of the burst ([`TxQueue::flush`]).

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, RawFd};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;

use super::segment::{self, Shape};
use super::{Capabilities, Device, MtuWatch, QueuePair, Received, RxQueue, Transmitted, TxQueue};
use crate::steering::{OwnerTable, SteeringKeys};
use crate::wire::vnet::{ChecksumStatus, RxOffload, TxChecksum, TxOffload};

/// What happens to wire segments of one direction: probabilities from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rates {
    /// The segment vanishes.
    pub loss: f64,
    /// The segment changes places with the following one.
    pub reorder: f64,
    /// The segment comes twice.
    pub duplicate: f64,
    /// One bit flips, so that the checksum is wrong.
    pub corrupt: f64,
}

/// What to do to packets. As text: `loss=0.01,reorder=0.05,dup=0.01,corrupt=0.001,seed=7`; `rx.loss=` or `tx.loss=`
/// (and so on) sets one direction only. What comes later wins.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Impairment {
    /// Packets that the device receives.
    pub rx: Rates,
    /// Packets that the device sends.
    pub tx: Rates,
    /// Start of the sequences of random numbers, one for each direction and queue.
    pub seed: u64,
}

/// The keys, for messages.
const KEYS: &str = "loss, reorder, dup, corrupt (each also as rx.loss, tx.loss ...) and seed";

/// Why a text is no [`Impairment`].
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseImpairmentError {
    /// A part without '='.
    #[error("'{0}' is not of the form key=value, with {KEYS}; like loss=0.01,seed=7")]
    NotAPair(String),
    /// A key that does not exist.
    #[error("unknown key '{0}'; there are {KEYS}")]
    UnknownKey(String),
    /// Not a number from 0 to 1.
    #[error("{key}={value}: must be a probability from 0 to 1")]
    Probability {
        /// The key as given.
        key: String,
        /// The value as given.
        value: String,
    },
    /// Not a whole number.
    #[error("seed={0}: must be a whole number from 0 to 2^64 - 1")]
    Seed(String),
}

debug_as_display!(ParseImpairmentError);

impl FromStr for Impairment {
    type Err = ParseImpairmentError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut result = Impairment::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| ParseImpairmentError::NotAPair(part.to_owned()))?;
            let (key, value) = (key.trim(), value.trim());
            if key == "seed" {
                result.seed = value.parse().map_err(|_| ParseImpairmentError::Seed(value.to_owned()))?;
                continue;
            }
            let (rx, tx, name) = match key.split_once('.') {
                Some(("rx", name)) => (true, false, name),
                Some(("tx", name)) => (false, true, name),
                _ => (true, true, key),
            };
            let field: fn(&mut Rates) -> &mut f64 = match name {
                "loss" => |rates| &mut rates.loss,
                "reorder" => |rates| &mut rates.reorder,
                "dup" | "duplicate" => |rates| &mut rates.duplicate,
                "corrupt" => |rates| &mut rates.corrupt,
                _ => return Err(ParseImpairmentError::UnknownKey(key.to_owned())),
            };
            let probability =
                value.parse().ok().filter(|p| (0.0..=1.0).contains(p)).ok_or_else(|| {
                    ParseImpairmentError::Probability { key: key.to_owned(), value: value.to_owned() }
                })?;
            if rx {
                *field(&mut result.rx) = probability;
            }
            if tx {
                *field(&mut result.tx) = probability;
            }
        }
        Ok(result)
    }
}

/// What was done to the wire segments of one direction so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImpairCounts {
    /// Wire segments that came to the wrapper.
    pub seen: u64,
    /// Lost.
    pub lost: u64,
    /// Held back behind another.
    pub reordered: u64,
    /// Passed on twice.
    pub duplicated: u64,
    /// Passed on with a flipped bit.
    pub corrupted: u64,
}

#[derive(Debug, Default)]
struct Counters {
    seen: AtomicU64,
    lost: AtomicU64,
    reordered: AtomicU64,
    duplicated: AtomicU64,
    corrupted: AtomicU64,
}

impl Counters {
    fn read(&self) -> ImpairCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ImpairCounts {
            seen: get(&self.seen),
            lost: get(&self.lost),
            reordered: get(&self.reordered),
            duplicated: get(&self.duplicated),
            corrupted: get(&self.corrupted),
        }
    }
}

/// Reads the counters of an [`Impaired`] device, from any thread.
#[derive(Debug, Clone)]
pub struct ImpairStats {
    rx: Arc<Counters>,
    tx: Arc<Counters>,
}

impl ImpairStats {
    /// Of all queues together, packets received.
    #[must_use]
    pub fn rx(&self) -> ImpairCounts {
        self.rx.read()
    }

    /// Of all queues together, packets sent.
    #[must_use]
    pub fn tx(&self) -> ImpairCounts {
        self.tx.read()
    }
}

/// A device behind a bad network.
///
/// ```
/// use trust::device::Device;
/// use trust::device::impair::{Impaired, Impairment};
/// use trust::device::memory::{MemoryOptions, pair};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, _far) = pair(&MemoryOptions::default())?;
/// let impairment: Impairment = "loss=0.01,tx.reorder=0.02,seed=7".parse()?;
/// let device = Impaired::new(near, impairment);
/// let stats = device.stats();
/// // An engine takes the device; the counters stay here.
/// assert_eq!((device.name(), stats.tx().lost), ("mem0", 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Impaired<D> {
    inner: D,
    impairment: Impairment,
    stats: ImpairStats,
}

impl<D: Device> Impaired<D> {
    /// Wraps a device.
    pub fn new(inner: D, impairment: Impairment) -> Self {
        Impaired { inner, impairment, stats: ImpairStats { rx: Arc::default(), tx: Arc::default() } }
    }

    /// A handle on the counters; it outlives the device.
    pub fn stats(&self) -> ImpairStats {
        self.stats.clone()
    }
}

impl<D: Device> Device for Impaired<D> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn take_queues(&mut self) -> Vec<QueuePair> {
        let Impairment { rx: rx_rates, tx: tx_rates, seed } = self.impairment;
        let wrap = |(queue, (rx, tx)): (u64, QueuePair)| -> QueuePair {
            let rx_fate = Fate::new(rx_rates, seed, 2 * queue, Arc::clone(&self.stats.rx));
            let tx_fate = Fate::new(tx_rates, seed, 2 * queue + 1, Arc::clone(&self.stats.tx));
            let rx = ImpairedRx { inner: rx, network: Network::new(rx_fate) };
            (Box::new(rx), Box::new(ImpairedTx { inner: tx, network: Network::new(tx_fate) }))
        };
        (0u64..).zip(self.inner.take_queues()).map(wrap).collect()
    }

    fn attach_steering(&mut self, program: BorrowedFd<'_>) -> io::Result<()> {
        self.inner.attach_steering(program)
    }

    fn watch_mtu(&mut self) -> io::Result<Option<Box<dyn MtuWatch>>> {
        self.inner.watch_mtu()
    }

    fn steer_by_owner(&mut self, keys: &SteeringKeys, owners: &Arc<OwnerTable>) -> bool {
        self.inner.steer_by_owner(keys, owners)
    }
}

/// Draws whether something with that probability happens.
#[must_use]
pub fn hit(rng: &mut Rng, probability: f64) -> bool {
    probability > 0.0 && rng.f64() < probability
}

/// What leaves the wrapper, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// A run of wire segments of this packet.
    Run(Range<usize>),
    /// One wire segment with a flipped bit.
    Corrupt(usize),
    /// The segment held back earlier.
    Held,
}

/// Decides what happens to each wire segment of a packet.
struct Fate {
    rates: Rates,
    rng: Rng,
    counters: Arc<Counters>,
    /// The plan for the packet at hand.
    steps: Vec<Step>,
    /// Wire segment of the packet at hand that is to be held back; the flag says "corrupt".
    hold: Option<(usize, bool)>,
}

impl Fate {
    fn new(rates: Rates, seed: u64, stream: u64, counters: Arc<Counters>) -> Self {
        // Two steps from different starts: neighbouring seeds and streams share nothing.
        let rng = Rng::with_seed(Rng::with_seed(seed).u64(..) ^ Rng::with_seed(!stream).u64(..));
        Fate { rates, rng, counters, steps: Vec::new(), hold: None }
    }

    /// Plans for a packet of `segments` wire segments while another is held back or not. True: it passes as it is.
    fn plan(&mut self, segments: usize, mut held: bool) -> bool {
        let Rates { loss, reorder, duplicate, corrupt } = self.rates;
        self.steps.clear();
        self.hold = None;
        self.counters.seen.fetch_add(segments as u64, Ordering::Relaxed);
        for i in 0..segments {
            if hit(&mut self.rng, loss) {
                self.counters.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let corrupt = hit(&mut self.rng, corrupt);
            let duplicate = hit(&mut self.rng, duplicate);
            let reorder = hit(&mut self.rng, reorder);
            if corrupt {
                self.counters.corrupted.fetch_add(1, Ordering::Relaxed);
            }
            // One at a time is held back, and not a twin: its twin would be the following one.
            if reorder && !duplicate && !held && self.hold.is_none() {
                self.counters.reordered.fetch_add(1, Ordering::Relaxed);
                self.hold = Some((i, corrupt));
                continue;
            }
            self.push(i, corrupt);
            if duplicate {
                self.counters.duplicated.fetch_add(1, Ordering::Relaxed);
                self.push(i, corrupt);
            }
            if std::mem::take(&mut held) {
                self.steps.push(Step::Held);
            }
            if let Some((behind, corrupt)) = self.hold.take() {
                self.push(behind, corrupt);
            }
        }
        self.hold.is_none() && self.steps == [Step::Run(0..segments)]
    }

    fn push(&mut self, segment: usize, corrupt: bool) {
        match self.steps.last_mut() {
            _ if corrupt => self.steps.push(Step::Corrupt(segment)),
            Some(Step::Run(run)) if run.end == segment => run.end += 1,
            _ => self.steps.push(Step::Run(segment..segment + 1)),
        }
    }

    /// Flips a bit behind the IP header. One bit is always enough for the Internet checksum to be wrong.
    fn flip(&mut self, packet: &mut [u8]) {
        let from = Shape::of(packet).map_or(packet.len().min(20), |shape| shape.ip_len);
        let bit = self.rng.usize(..((packet.len() - from) * 8).max(1));
        if let Some(octet) = packet.get_mut(from + bit / 8) {
            *octet ^= 1 << (bit % 8);
        }
    }
}

/// What a packet's sender left undone, in the words of either direction.
trait Offload: Copy {
    fn gso_size(&self) -> u16;
    fn with_gso_size(self, gso_size: u16) -> Self;
    /// The checksum field holds the checksum, and the receiver looks at it.
    fn is_complete(&self) -> bool;
    fn completed(self) -> Self;
}

impl Offload for RxOffload {
    fn gso_size(&self) -> u16 {
        self.gso_size
    }

    fn with_gso_size(self, gso_size: u16) -> Self {
        RxOffload { gso_size, ..self }
    }

    fn is_complete(&self) -> bool {
        self.checksum == ChecksumStatus::Unverified
    }

    fn completed(self) -> Self {
        RxOffload { checksum: ChecksumStatus::Unverified, ..self }
    }
}

impl Offload for TxOffload {
    fn gso_size(&self) -> u16 {
        self.gso_size
    }

    fn with_gso_size(self, gso_size: u16) -> Self {
        TxOffload { gso_size, ..self }
    }

    fn is_complete(&self) -> bool {
        matches!(self.checksum, TxChecksum::Done)
    }

    fn completed(self) -> Self {
        TxOffload { checksum: TxChecksum::Done, ..self }
    }
}

/// A packet in memory of the wrapper.
struct Packet<O> {
    data: Vec<u8>,
    offload: O,
}

/// The bad network of one direction of one queue.
struct Network<O> {
    fate: Fate,
    /// Held back until another has passed.
    held: Option<Packet<O>>,
    /// On its way out, before anything else.
    leaving: VecDeque<Packet<O>>,
    /// Memory to use again.
    spare: Vec<Vec<u8>>,
}

impl<O: Offload> Network<O> {
    fn new(fate: Fate) -> Self {
        Network { fate, held: None, leaving: VecDeque::new(), spare: Vec::new() }
    }

    /// True: the packet passes as it is. False: what becomes of it is in `leaving` and `held`.
    fn enter(&mut self, header: &[u8], payload: &[&[u8]], offload: O) -> bool {
        let shape = if offload.gso_size() == 0 { None } else { Shape::of(header) };
        // Cutting wants the headers, and nothing else, in `header`.
        let shape = shape.filter(|shape| shape.header_len == header.len());
        let payload_len = payload.iter().map(|part| part.len()).sum();
        let segments = shape.map_or(1, |_| segment::count(payload_len, offload.gso_size()));
        if self.fate.plan(segments, self.held.is_some()) {
            return true;
        }
        let mut make = |fate: &mut Fate, run: Range<usize>, corrupt: bool| {
            let mut data = self.spare.pop().unwrap_or_default();
            data.clear();
            let mut offload = offload;
            if let Some(shape) = &shape {
                data.resize(shape.header_len, 0);
                let gso_size = offload.gso_size();
                let range = segment::cut_header(header, shape, payload_len, gso_size, run.clone(), &mut data);
                let (slices, used) = segment::slice_payload(payload, range);
                slices[..used].iter().for_each(|part| data.extend_from_slice(part));
                offload = offload.with_gso_size(if run.len() > 1 { gso_size } else { 0 });
                if offload.is_complete() {
                    segment::fill_checksum(&mut data);
                }
            } else {
                data.extend_from_slice(header);
                payload.iter().for_each(|part| data.extend_from_slice(part));
            }
            if corrupt {
                if !offload.is_complete() {
                    segment::fill_checksum(&mut data);
                }
                offload = offload.completed();
                fate.flip(&mut data);
            }
            Packet { data, offload }
        };
        let steps = std::mem::take(&mut self.fate.steps);
        for step in &steps {
            let packet = match step {
                Step::Run(run) => Some(make(&mut self.fate, run.clone(), false)),
                Step::Corrupt(segment) => Some(make(&mut self.fate, *segment..*segment + 1, true)),
                Step::Held => self.held.take(),
            };
            self.leaving.extend(packet);
        }
        self.fate.steps = steps;
        if let Some((segment, corrupt)) = self.fate.hold.take() {
            self.held = Some(make(&mut self.fate, segment..segment + 1, corrupt));
        }
        false
    }
}

struct ImpairedRx {
    inner: Box<dyn RxQueue>,
    network: Network<RxOffload>,
}

impl RxQueue for ImpairedRx {
    fn receive(&mut self, buf: &mut [u8]) -> io::Result<Option<Received>> {
        loop {
            if let Some(Packet { data, offload }) = self.network.leaving.pop_front() {
                let len = data.len().min(buf.len());
                buf[..len].copy_from_slice(&data[..len]);
                self.network.spare.push(data);
                return Ok(Some(Received { start: 0, len, offload }));
            }
            let Some(got) = self.inner.receive(buf)? else {
                // Nothing to change places with: the reader may be about to sleep, so let it go first.
                let Some(held) = self.network.held.take() else { return Ok(None) };
                self.network.leaving.push_back(held);
                continue;
            };
            let packet = &buf[got.start..got.start + got.len];
            let header_len = Shape::of(packet).map_or(packet.len(), |shape| shape.header_len);
            let (header, payload) = packet.split_at(header_len);
            if self.network.enter(header, &[payload], got.offload) {
                return Ok(Some(got));
            }
        }
    }

    fn fd(&self) -> Option<RawFd> {
        self.inner.fd()
    }
}

struct ImpairedTx {
    inner: Box<dyn TxQueue>,
    network: Network<TxOffload>,
}

impl ImpairedTx {
    /// Sends what is on its way out. `Full`: some of it still is.
    fn send_leaving(&mut self) -> io::Result<Transmitted> {
        let mut result = Transmitted::Sent;
        while let Some(packet) = self.network.leaving.front() {
            match self.inner.transmit(&packet.data, &[], &packet.offload)? {
                Transmitted::Full => return Ok(Transmitted::Full),
                Transmitted::Dropped => result = Transmitted::Dropped,
                Transmitted::Sent => {}
            }
            self.network.spare.extend(self.network.leaving.pop_front().map(|packet| packet.data));
        }
        Ok(result)
    }
}

impl TxQueue for ImpairedTx {
    fn transmit(&mut self, header: &[u8], payload: &[&[u8]], offload: &TxOffload) -> io::Result<Transmitted> {
        // Chance is drawn once for each packet: what was let in is never asked for again.
        if self.send_leaving()? == Transmitted::Full {
            return Ok(Transmitted::Full);
        }
        if self.network.enter(header, payload, *offload) {
            let sent = self.inner.transmit(header, payload, offload)?;
            if sent != Transmitted::Full {
                return Ok(sent);
            }
            let mut data = self.network.spare.pop().unwrap_or_default();
            data.clear();
            data.extend_from_slice(header);
            payload.iter().for_each(|part| data.extend_from_slice(part));
            self.network.leaving.push_back(Packet { data, offload: *offload });
            return Ok(Transmitted::Sent);
        }
        let sent = self.send_leaving()?;
        Ok(if sent == Transmitted::Full { Transmitted::Sent } else { sent })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.network.leaving.extend(self.network.held.take());
        let _ = self.send_leaving()?;
        self.inner.flush()
    }
}

#[cfg(test)]
#[path = "impair_tests.rs"]
mod tests;
