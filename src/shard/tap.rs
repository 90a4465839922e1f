//! A tap on a shard: what it receives and sends, copied for an observer for as long as there is one.
//!
//! ```text
//!   receive -> shard --.                       Each packet takes as many pieces of the ring as its octets need. What finds
//!                       >- pieces -> reader    no room is counted and not kept: a reader that stalls takes nothing from
//!   transmit <- shard -'                       the shard but the time for a look at the ring.
//! ```
//!
//! Packets are seen as the device has them: super-segments whole, checksums that the device completes still open. Their time
//! is that of the shard's turn. Must not contain: formats of files, anything that a segment pays for when nobody looks.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::counters::DropReason;
use crate::buffer::frame::{RxFrame, TxFrame};
use crate::buffer::ring::{Consumer, Producer, ring};
use crate::buffer::send_memory::SendReader;
use crate::tcp::{Instant, LossState};
use crate::wire::PROTOCOL_TCP;
use crate::wire::vnet::{ChecksumStatus, TxChecksum};

/// Octets of a packet in one piece: the headers and little more, so that those who want headers alone need one for each.
const PIECE: usize = 152;

/// IP protocol number of UDP, which has its ports where TCP has them.
const PROTOCOL_UDP: u8 = 17;

/// Whether a packet came or left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Way {
    /// It came from the device.
    #[default]
    In,
    /// It leaves for the device.
    Out,
}

/// Why data is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It was found lost by later acknowledgments (fast retransmission).
    Loss,
    /// The retransmission timer has fired.
    Timeout,
    /// A probe for the loss of a tail (RFC 8985 7), or of a window that was closed.
    Probe,
}

impl Cause {
    /// The cause, by what loss recovery is at.
    pub(super) fn of(state: LossState) -> Self {
        match state {
            LossState::Loss => Self::Timeout,
            LossState::Recovery => Self::Loss,
            LossState::Open | LossState::Disorder => Self::Probe,
        }
    }
}

/// What became of a packet, or made it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Note {
    /// Nothing unusual.
    #[default]
    None,
    /// It was dropped.
    Dropped(DropReason),
    /// It carries what was sent before.
    Again(Cause),
}

/// A packet that a tap has kept; its octets come beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sight {
    /// The shard's time: that of the turn.
    pub at: Instant,
    /// Octets of the IP packet; as many as [`TapOptions::snaplen`] has are kept, or all.
    pub len: u32,
    /// Octets that are kept.
    pub kept: u32,
    /// How many packets before this one found no room.
    pub missed: u32,
    /// Payload octets a segment of a super-segment; 0: it is none.
    pub gso_size: u16,
    /// Where the checksum begins to count that a device would complete; 0: it is complete.
    pub checksum_start: u16,
    /// The reader's queue that it came by; 0 for what leaves.
    pub queue: u8,
    /// Whether it came or left.
    pub way: Way,
    /// What there is to say of it.
    pub note: Note,
}

/// What a filter is asked about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Protocol of the IP header; of IPv6 the first next header.
    pub protocol: u8,
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Source and destination port, where there are ports and this is no later fragment.
    pub ports: Option<(u16, u16)>,
    /// Octets of the packet.
    pub len: u32,
}

/// Which packets are kept. It runs on the shard's thread.
pub type PacketFilter = Box<dyn Fn(&Facts) -> bool + Send>;

/// What a tap keeps.
#[derive(Default)]
pub struct TapOptions {
    /// Octets that are kept of a packet; 0: all.
    pub snaplen: u32,
    /// Octets of the ring between shard and reader; at least one packet of 64 KiB fits in any case.
    pub buffer: usize,
    /// `None`: all packets.
    pub filter: Option<PacketFilter>,
}

impl std::fmt::Debug for TapOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { snaplen, buffer, filter } = self;
        let filter = filter.is_some();
        f.debug_struct("TapOptions").field("snaplen", snaplen).field("buffer", buffer).field("filter", &filter).finish()
    }
}

/// What a tap has counted; up to the last turn of the shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TapCounts {
    /// Packets that the filter let through.
    pub seen: u64,
    /// Of these, packets that found no room.
    pub missed: u64,
}

#[derive(Debug, Default)]
struct Published {
    seen: AtomicU64,
    missed: AtomicU64,
}

/// A part of a packet.
struct Piece {
    /// Said with the first one.
    sight: Sight,
    octets: [u8; PIECE],
}

/// The shard's end: hand it to [`Shard::tap`](super::Shard::tap).
pub struct Tap {
    ring: Producer<Piece>,
    snaplen: usize,
    filter: Option<PacketFilter>,
    published: Arc<Published>,
    counts: TapCounts,
    /// Since the last that was kept.
    missed: u32,
    now: Instant,
    /// Where the payload of frames lies; the shard's.
    memory: Option<SendReader>,
    /// What came last, until it is known what became of it.
    arrived: Vec<u8>,
    arriving: bool,
    /// What leaves in answer to it, which comes behind it: packets, and their octets one behind the other.
    answers: Vec<Sight>,
    answered: Vec<u8>,
    /// Why the next frame that leaves is sent.
    cause: Option<Cause>,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").field("snaplen", &self.snaplen).field("counts", &self.counts).finish_non_exhaustive()
    }
}

/// The observer's end. Dropped, it ends the tap.
#[derive(Debug)]
pub struct TapReader {
    ring: Consumer<Piece>,
    /// Pieces that were there at the last look and were not taken.
    left: usize,
    published: Arc<Published>,
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.sight.fmt(f)
    }
}

/// Both ends of a tap.
#[must_use]
pub fn tap(options: TapOptions) -> (Tap, TapReader) {
    const LARGEST: usize = 65_535;
    let TapOptions { snaplen, buffer, filter } = options;
    let snaplen = if snaplen == 0 { LARGEST } else { (snaplen as usize).min(LARGEST) };
    let pieces = (buffer / size_of::<Piece>()).max(snaplen.div_ceil(PIECE) + 1);
    let (producer, consumer) = ring(pieces);
    let published = Arc::<Published>::default();
    let tap = Tap {
        ring: producer,
        snaplen,
        filter,
        published: Arc::clone(&published),
        counts: TapCounts::default(),
        missed: 0,
        now: Instant::ZERO,
        memory: None,
        arrived: Vec::with_capacity(snaplen),
        arriving: false,
        answers: Vec::new(),
        answered: Vec::new(),
        cause: None,
    };
    (tap, TapReader { ring: consumer, left: 0, published })
}

impl Tap {
    pub(super) fn begin(&mut self, memory: SendReader, now: Instant) {
        self.memory = Some(memory);
        self.now = now;
    }

    pub(super) fn begin_turn(&mut self, now: Instant) {
        self.now = now;
    }

    /// What the turn has seen is shown. `false`: nobody looks any more.
    pub(super) fn publish(&mut self) -> bool {
        self.ring.publish();
        self.published.seen.store(self.counts.seen, Ordering::Relaxed);
        self.published.missed.store(self.counts.missed, Ordering::Relaxed);
        !self.ring.is_closed()
    }

    /// A packet comes. Remembered until [`received`](Self::received) tells the rest: its buffer may be gone by then. `None`:
    /// it is not wanted.
    pub(super) fn receive(&mut self, frame: &RxFrame) -> Option<Sight> {
        let packet = frame.packet.bytes();
        let len = packet.len() as u32;
        if packet.is_empty() || !self.wants(packet, len) {
            return None;
        }
        let kept = packet.len().min(self.snaplen);
        self.arrived.clear();
        self.arrived.extend_from_slice(&packet[..kept]);
        self.arriving = true;
        let (gso_size, queue) = (frame.offload.gso_size, frame.packet.pool() as u8);
        // Of what never was on a wire nobody has computed it.
        let checksum_start = match frame.offload.checksum {
            ChecksumStatus::Trusted if packet[0] >> 4 == 4 => u16::from(packet[0] & 0xf) * 4,
            ChecksumStatus::Trusted => 40,
            ChecksumStatus::Unverified => 0,
        };
        Some(Sight { len, kept: kept as u32, gso_size, checksum_start, queue, ..self.sight() })
    }

    /// What became of it.
    pub(super) fn received(&mut self, sight: Sight, dropped: Option<DropReason>) {
        let note = dropped.map_or(Note::None, Note::Dropped);
        let arrived = std::mem::take(&mut self.arrived);
        self.keep(&Sight { note, ..sight }, [arrived.as_slice()].into_iter());
        self.arrived = arrived;
        self.arriving = false;
        if !self.answers.is_empty() {
            self.keep_answers();
        }
    }

    fn keep_answers(&mut self) {
        let (answers, octets) = (std::mem::take(&mut self.answers), std::mem::take(&mut self.answered));
        let mut rest = octets.as_slice();
        for answer in &answers {
            let (packet, behind) = rest.split_at(answer.kept as usize);
            self.keep(answer, std::iter::once(packet));
            rest = behind;
        }
        (self.answers, self.answered) = (answers, octets);
        self.answers.clear();
        self.answered.clear();
    }

    /// The next frame is sent again for this reason.
    pub(super) fn sends_again(&mut self, cause: Cause) {
        self.cause = Some(cause);
    }

    /// A frame leaves.
    pub(super) fn send(&mut self, frame: &TxFrame) {
        let again = self.cause.take();
        let len = frame.len() as u32;
        if !self.wants(frame.header(), len) {
            return;
        }
        let checksum_start = match frame.offload.checksum {
            TxChecksum::Done => 0,
            TxChecksum::Partial { start, .. } => start,
        };
        let sight = Sight {
            len,
            kept: len.min(self.snaplen as u32),
            gso_size: frame.offload.gso_size,
            checksum_start,
            way: Way::Out,
            note: again.map_or(Note::None, Note::Again),
            ..self.sight()
        };
        let Some(memory) = self.memory.take() else { return };
        let payload = frame.payload(&memory);
        let parts = std::iter::once(frame.header()).chain(payload.iter().copied());
        if self.arriving {
            let end = self.answered.len() + sight.kept as usize;
            for part in parts {
                let room = end - self.answered.len();
                self.answered.extend_from_slice(&part[..part.len().min(room)]);
            }
            self.answered.resize(end, 0);
            self.answers.push(sight);
        } else {
            self.keep(&sight, parts);
        }
        self.memory = Some(memory);
    }

    fn sight(&self) -> Sight {
        Sight { at: self.now, ..Sight::default() }
    }

    fn wants(&mut self, header: &[u8], len: u32) -> bool {
        let wanted = match &self.filter {
            Some(filter) => facts(header, len).is_some_and(|facts| filter(&facts)),
            None => true,
        };
        self.counts.seen += u64::from(wanted);
        wanted
    }

    fn keep<'a>(&mut self, sight: &Sight, mut parts: impl Iterator<Item = &'a [u8]>) {
        let pieces = (sight.kept as usize).div_ceil(PIECE).max(1);
        if !self.ring.has_room(pieces) {
            self.counts.missed += 1;
            self.missed = self.missed.saturating_add(1);
            return;
        }
        let mut sight = Sight { missed: std::mem::take(&mut self.missed), ..*sight };
        let (mut left, mut part) = (sight.kept as usize, [].as_slice());
        for _ in 0..pieces {
            let mut piece = Piece { sight: std::mem::take(&mut sight), octets: [0; PIECE] };
            let mut filled = 0;
            while filled < PIECE.min(left) {
                if part.is_empty() {
                    // Never before `left` is nothing: a packet is as long as its parts.
                    let Some(next) = parts.next() else { break };
                    part = next;
                    continue;
                }
                let (now, later) = part.split_at(part.len().min(PIECE.min(left) - filled));
                piece.octets[filled..filled + now.len()].copy_from_slice(now);
                filled += now.len();
                part = later;
            }
            left -= filled;
            // There is room.
            let _ = self.ring.stage(piece);
        }
    }
}

impl TapReader {
    /// Looks what there is now, for [`next`](Self::next): a shard that goes on meanwhile keeps nobody for ever.
    pub fn look(&mut self) {
        self.left = self.ring.len();
    }

    /// Takes the next of the packets that were there at the last look, and its octets into `octets`. `None`: that was all.
    pub fn next(&mut self, octets: &mut Vec<u8>) -> Option<Sight> {
        octets.clear();
        if self.left == 0 {
            return None;
        }
        let Piece { sight, octets: first } = self.ring.pop()?;
        self.left = self.left.saturating_sub((sight.kept as usize).div_ceil(PIECE).max(1));
        let mut left = sight.kept as usize;
        let mut piece = first;
        loop {
            let now = left.min(PIECE);
            octets.extend_from_slice(&piece[..now]);
            left -= now;
            if left == 0 {
                return Some(sight);
            }
            // Pieces of a packet are shown together.
            piece = self.ring.pop()?.octets;
        }
    }

    /// Gives the room of what was taken back to the shard: once a batch.
    pub fn release(&mut self) {
        self.ring.release();
    }

    /// What the tap has counted.
    #[must_use]
    pub fn counts(&self) -> TapCounts {
        let Published { seen, missed } = &*self.published;
        TapCounts { seen: seen.load(Ordering::Relaxed), missed: missed.load(Ordering::Relaxed) }
    }

    /// Whether the shard is gone, or has ended the tap: what is in the ring is all that there will be.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }
}

/// What the headers say, as far as they are there. Not more than a filter needs: the packet may be malformed.
fn facts(header: &[u8], len: u32) -> Option<Facts> {
    let four = |at: usize| header.get(at..at + 4).and_then(|octets| <[u8; 4]>::try_from(octets).ok());
    let sixteen = |at: usize| header.get(at..at + 16).and_then(|octets| <[u8; 16]>::try_from(octets).ok());
    let (protocol, src, dst, transport): (_, IpAddr, IpAddr, _) = match header.first()? >> 4 {
        4 => {
            let later_fragment = header.get(6..8)? != [0, 0] && (header[6] & 0x1f, header[7]) != (0, 0);
            let transport = (!later_fragment).then_some(usize::from(header[0] & 0xf) * 4);
            (*header.get(9)?, four(12)?.into(), four(16)?.into(), transport)
        }
        6 => (*header.get(6)?, sixteen(8)?.into(), sixteen(24)?.into(), Some(40)),
        _ => return None,
    };
    let ports = transport
        .filter(|_| [PROTOCOL_TCP, PROTOCOL_UDP].contains(&protocol))
        .and_then(four)
        .map(|[a, b, c, d]| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
    Some(Facts { protocol, src, dst, ports, len })
}
