//! Devices in memory: a pair joined back to back, or one device and a raw [`MemoryPort`] for tests.
//!
//! A packet sent on one side appears on a queue of the other side that the other side's [`Steering`] chooses, as the
//! kernel does on a TUN device. Packets travel in a fixed set of slots for each receiving queue, so that steady state
//! allocates nothing. What must NOT be here: any cleverness about the packets; see [`impair`](super::impair).

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

use crossbeam::queue::ArrayQueue;

use super::{Capabilities, Device, MAX_PAYLOAD_SLICES, QueuePair, Received, RxQueue, Transmitted, TxQueue};
use crate::steering::{OwnerTable, SteeringKeys};
use crate::wire::vnet::{ChecksumStatus, RxOffload, TxChecksum, TxOffload};

/// Largest packet of a device with offload: an IPv6 header and 65,535 octets.
const LONGEST: usize = 65_535 + 40;

/// Nothing left to the device.
const NO_OFFLOAD: TxOffload = TxOffload { checksum: TxChecksum::Done, gso_size: 0, header_len: 0, ipv6: false };

/// What happens to a packet for a queue without a free slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The sender is told [`Transmitted::Full`].
    #[default]
    Full,
    /// The packet is lost and counted, as on TUN, which knows no back-pressure.
    Drop,
}

/// Chooses a receiving queue: (number of the sending queue, IP header and what follows it) to any number, of which the
/// remainder by the number of queues counts.
pub type Steering = Arc<dyn Fn(usize, &[u8]) -> usize + Send + Sync>;

/// Steering by the owner table, as the kernel's program does on a TUN device; queue `i` is shard `i`'s.
#[must_use]
pub fn steer_by_owner(keys: SteeringKeys, table: Arc<OwnerTable>) -> Steering {
    Arc::new(move |_, header| table.owner(keys.hash_packet(header)).index())
}

/// One side of a pair.
#[derive(Clone)]
pub struct MemoryOptions {
    /// Queues of this side (at least 1).
    pub queues: u16,
    /// Largest IP packet on the wire in octets.
    pub mtu: u16,
    /// Partial checksums and super-segments are allowed.
    pub offload: bool,
    /// Packets that each receiving queue of this side holds (at least 1).
    pub slots: usize,
    /// What senders to this side meet when it does not keep up.
    pub overflow: Overflow,
    /// Which queue of this side gets a packet. `None`: the one with the number of the sending queue.
    pub steering: Option<Steering>,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        MemoryOptions { queues: 1, mtu: 1500, offload: true, slots: 256, overflow: Overflow::Full, steering: None }
    }
}

impl fmt::Debug for MemoryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryOptions")
            .field("queues", &self.queues)
            .field("mtu", &self.mtu)
            .field("offload", &self.offload)
            .field("slots", &self.slots)
            .field("overflow", &self.overflow)
            .field("steering", &self.steering.as_ref().map(|_| "custom"))
            .finish()
    }
}

/// Two devices, each seeing what the other sends. Engines and hosts on them need no rights; by hand it goes like this:
///
/// ```
/// use trust::device::memory::{MemoryOptions, pair};
/// use trust::device::{BUFFER_LEN, Device, RxQueue, Transmitted, TxQueue};
/// use trust::wire::vnet::TxOffload;
///
/// # fn main() -> std::io::Result<()> {
/// let (mut near, mut far) = pair(&MemoryOptions::default())?;
/// let (_, mut tx) = near.take_queues().remove(0);
/// let (mut rx, _) = far.take_queues().remove(0);
/// let sent = tx.transmit(b"a header, ", &[b"and payload"], &TxOffload::default())?;
/// assert_eq!(sent, Transmitted::Sent);
/// let mut buffer = vec![0; BUFFER_LEN];
/// let received = rx.receive(&mut buffer)?.expect("a packet");
/// assert_eq!(&buffer[received.start..][..received.len], b"a header, and payload");
/// assert!(rx.receive(&mut buffer)?.is_none());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// When the process has no descriptor left for an eventfd.
pub fn pair(options: &MemoryOptions) -> io::Result<(MemoryDevice, MemoryDevice)> {
    let (a, b) = (Side::new(options)?, Side::new(options)?);
    let first = MemoryDevice { name: "mem0", own: Arc::clone(&a), other: Arc::clone(&b), taken: false };
    Ok((first, MemoryDevice { name: "mem1", own: b, other: a, taken: false }))
}

/// A device, and a port on which a test plays the rest of the world.
///
/// # Errors
///
/// As [`pair`].
pub fn port(options: &MemoryOptions) -> io::Result<(MemoryDevice, MemoryPort)> {
    let (device, far) = pair(options)?;
    let rx = (0..far.own.lanes.len()).map(|queue| MemoryRx { side: Arc::clone(&far.own), queue }).collect();
    let tx = MemoryTx { own: Arc::clone(&far.own), other: Arc::clone(&far.other), queue: 0 };
    Ok((device, MemoryPort { rx, tx }))
}

/// A packet at rest.
struct Slot {
    data: Box<[u8]>,
    len: usize,
    offload: TxOffload,
}

/// What one receiving queue shares with all its senders.
struct Lane {
    filled: ArrayQueue<Slot>,
    free: ArrayQueue<Slot>,
    /// The receiver has found the queue empty since the last signal.
    armed: AtomicBool,
    /// Somebody asked for the descriptor; before that, nobody is signalled.
    watched: AtomicBool,
    event: File,
    dropped: AtomicU64,
}

impl Lane {
    fn new(options: &MemoryOptions) -> io::Result<Lane> {
        let slots = options.slots.max(1);
        // Zeroed memory that is not touched before its first packet.
        let size = if options.offload { LONGEST } else { usize::from(options.mtu) };
        let free = ArrayQueue::new(slots);
        for _ in 0..slots {
            let _ = free.push(Slot { data: vec![0; size].into_boxed_slice(), len: 0, offload: NO_OFFLOAD });
        }
        Ok(Lane {
            filled: ArrayQueue::new(slots),
            free,
            armed: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            event: eventfd()?,
            dropped: AtomicU64::new(0),
        })
    }

    /// Sender: a packet is in the queue. Signals once for each time that the receiver went away empty-handed.
    fn notify(&self) {
        // Pairs with the fence in `pop`: either we see `armed`, or the receiver's second look sees the packet.
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed)
            && self.armed.swap(false, Ordering::Relaxed)
            && self.watched.load(Ordering::Relaxed)
        {
            // Fails only when 2^64 - 2 signals wait already.
            let _ = (&self.event).write(&1u64.to_ne_bytes());
        }
    }

    /// Receiver: the next packet, or a promise of a signal for the one after.
    fn pop(&self) -> Option<Slot> {
        if let Some(slot) = self.filled.pop() {
            return Some(slot);
        }
        if !self.armed.load(Ordering::Relaxed) {
            if self.watched.load(Ordering::Relaxed) {
                // Take back signals already acted upon: readable shall mean "there is something".
                let _ = (&self.event).read(&mut [0; 8]);
            }
            self.armed.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
        self.filled.pop()
    }
}

/// One side: its receiving queues and how it wants to be treated.
struct Side {
    lanes: Vec<Lane>,
    options: MemoryOptions,
    /// Set by the owner of this side, in place of the options'.
    by_owner: OnceLock<Steering>,
}

impl Side {
    fn new(options: &MemoryOptions) -> io::Result<Arc<Side>> {
        let lanes = (0..options.queues.max(1)).map(|_| Lane::new(options)).collect::<io::Result<_>>()?;
        Ok(Arc::new(Side { lanes, options: options.clone(), by_owner: OnceLock::new() }))
    }

    fn lane_for(&self, sending_queue: usize, header: &[u8]) -> &Lane {
        let steering = self.by_owner.get().or(self.options.steering.as_ref());
        let queue = steering.map_or(sending_queue, |choose| choose(sending_queue, header));
        &self.lanes[queue % self.lanes.len()]
    }
}

/// One device of a pair.
pub struct MemoryDevice {
    name: &'static str,
    own: Arc<Side>,
    other: Arc<Side>,
    taken: bool,
}

impl MemoryDevice {
    /// Packets for this device lost because it had no free slot ([`Overflow::Drop`]).
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.own.lanes.iter().map(|lane| lane.dropped.load(Ordering::Relaxed)).sum()
    }
}

impl fmt::Debug for MemoryDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDevice").field("name", &self.name).field("options", &self.own.options).finish()
    }
}

impl Device for MemoryDevice {
    fn name(&self) -> &str {
        self.name
    }

    fn capabilities(&self) -> Capabilities {
        let MemoryOptions { mtu, offload, .. } = self.own.options;
        let queues = self.own.lanes.len() as u16;
        Capabilities { mtu, queues, checksum_offload: offload, tso4: offload, tso6: offload }
    }

    fn take_queues(&mut self) -> Vec<QueuePair> {
        if std::mem::replace(&mut self.taken, true) {
            return Vec::new();
        }
        let half = |queue| -> QueuePair {
            let rx = MemoryRx { side: Arc::clone(&self.own), queue };
            (Box::new(rx), Box::new(MemoryTx { own: Arc::clone(&self.own), other: Arc::clone(&self.other), queue }))
        };
        (0..self.own.lanes.len()).map(half).collect()
    }

    /// Unless the options say how this side is steered.
    fn steer_by_owner(&mut self, keys: &SteeringKeys, owners: &Arc<OwnerTable>) -> bool {
        self.own.options.steering.is_none() && self.own.by_owner.set(steer_by_owner(*keys, Arc::clone(owners))).is_ok()
    }
}

struct MemoryRx {
    side: Arc<Side>,
    queue: usize,
}

impl MemoryRx {
    fn lane(&self) -> &Lane {
        &self.side.lanes[self.queue]
    }

    /// The next packet into the front of `buf` as it was sent.
    fn take(&mut self, buf: &mut [u8]) -> Option<(usize, TxOffload)> {
        let lane = self.lane();
        let slot = lane.pop()?;
        let len = slot.len.min(buf.len());
        buf[..len].copy_from_slice(&slot.data[..len]);
        let offload = slot.offload;
        // As many slots as places: cannot fail.
        let _ = lane.free.push(slot);
        Some((len, offload))
    }
}

/// What the receiver is told of what the sender left undone.
fn seen_by_receiver(sent: &TxOffload) -> RxOffload {
    let checksum = match sent.checksum {
        TxChecksum::Done => ChecksumStatus::Unverified,
        TxChecksum::Partial { .. } => ChecksumStatus::Trusted,
    };
    RxOffload { checksum, gso_size: sent.gso_size }
}

impl RxQueue for MemoryRx {
    fn receive(&mut self, buf: &mut [u8]) -> io::Result<Option<Received>> {
        let packet = self.take(buf);
        Ok(packet.map(|(len, sent)| Received { start: 0, len, offload: seen_by_receiver(&sent) }))
    }

    fn fd(&self) -> Option<RawFd> {
        self.lane().watched.store(true, Ordering::SeqCst);
        Some(self.lane().event.as_raw_fd())
    }
}

struct MemoryTx {
    own: Arc<Side>,
    other: Arc<Side>,
    queue: usize,
}

impl MemoryTx {
    fn send(&self, queue: usize, header: &[u8], payload: &[&[u8]], offload: &TxOffload) -> io::Result<Transmitted> {
        let plain = matches!(offload.checksum, TxChecksum::Done) && offload.gso_size == 0;
        if payload.len() > MAX_PAYLOAD_SLICES || (!self.own.options.offload && !plain) {
            debug_assert!(false, "packet breaks the rules of the device: {offload:?}");
            return Err(ErrorKind::InvalidInput.into());
        }
        let lane = self.other.lane_for(queue, header);
        let Some(mut slot) = lane.free.pop() else {
            return Ok(match self.other.options.overflow {
                Overflow::Full => Transmitted::Full,
                Overflow::Drop => {
                    lane.dropped.fetch_add(1, Ordering::Relaxed);
                    Transmitted::Sent
                }
            });
        };
        slot.len = 0;
        slot.offload = *offload;
        for part in std::iter::once(header).chain(payload.iter().copied()) {
            let Some(room) = slot.data.get_mut(slot.len..slot.len + part.len()) else {
                // Longer than this device's longest packet.
                let _ = lane.free.push(slot);
                return Ok(Transmitted::Dropped);
            };
            room.copy_from_slice(part);
            slot.len += part.len();
        }
        // As many slots as places: cannot fail.
        let _ = lane.filled.push(slot);
        lane.notify();
        Ok(Transmitted::Sent)
    }
}

impl TxQueue for MemoryTx {
    fn transmit(&mut self, header: &[u8], payload: &[&[u8]], offload: &TxOffload) -> io::Result<Transmitted> {
        self.send(self.queue, header, payload, offload)
    }
}

/// The far side of a device, in the hands of a test: raw packets in, raw packets out.
pub struct MemoryPort {
    rx: Vec<MemoryRx>,
    tx: MemoryTx,
}

impl fmt::Debug for MemoryPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPort").field("queues", &self.rx.len()).finish()
    }
}

impl MemoryPort {
    /// Hands a whole IP packet to the device, whose steering sees it as coming from queue 0. False: no free slot.
    pub fn inject(&mut self, packet: &[u8]) -> bool {
        self.inject_with(0, packet, &NO_OFFLOAD)
    }

    /// As [`inject`](Self::inject), from a queue of choice, with something left to the receiver.
    pub fn inject_with(&mut self, queue: usize, packet: &[u8], offload: &TxOffload) -> bool {
        matches!(self.tx.send(queue, packet, &[], offload), Ok(Transmitted::Sent))
    }

    /// The next packet that the device has sent, as sent: checksums may be partial and segments super. Lowest queue
    /// first.
    pub fn capture(&mut self) -> Option<Vec<u8>> {
        let mut buf = vec![0; super::BUFFER_LEN];
        let (_, len, _) = self.capture_into(&mut buf)?;
        buf.truncate(len);
        Some(buf)
    }

    /// As [`capture`](Self::capture) without allocation: (queue, octets at the front of `buf`, what was left undone).
    pub fn capture_into(&mut self, buf: &mut [u8]) -> Option<(usize, usize, TxOffload)> {
        self.rx.iter_mut().enumerate().find_map(|(queue, rx)| rx.take(buf).map(|(len, offload)| (queue, len, offload)))
    }
}

fn eventfd() -> io::Result<File> {
    // SAFETY: plain numbers go in, a new descriptor or -1 comes out.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
