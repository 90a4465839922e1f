//! The octets of one connection that were queued for sending and not yet acknowledged.
//!
//! They lie in blocks of the shard's send memory, in pieces that it has adopted, or in static memory, from SND.UNA on. Must
//! not contain: sequence numbers, windows, timers.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::buffer::frame::{MAX_SLICES, Payload, TxFrame};
use crate::buffer::send_memory::{Block, CHUNK_LEN, SendMemory, block_for, block_within};
use crate::wire::checksum::Accumulator;

/// Frames that are set aside for one `Transmit`: 64 KB in pieces every other of which has at least [`MIN_STATIC`]
/// octets, four a frame, and some. What lies in more pieces is sent in shorter segments ([`SendStore::cut`]).
pub(super) const FRAMES_A_SEGMENT: usize = 20;

/// Largest payload of a super-segment: 65,535 less an IPv6 and a full TCP header.
pub(super) const MAX_SUPER_SEGMENT: u32 = 65_535 - 40 - 60;

/// Octets that lie in one piece. `end` counts those of all pieces up to its last, from anywhere on and modulo 2^32: from
/// the end of the store back, that tells where a piece is without a walk over those before it, and what of the first
/// one is left.
#[derive(Debug)]
enum Piece {
    Block { block: Block, end: u32 },
    Static { bytes: &'static [u8], end: u32 },
}

impl Piece {
    /// `len` octets of it, for a frame, the first of them so many before its end; they are added to `sum` if there is
    /// one.
    #[inline]
    fn lease(&self, memory: &mut SendMemory, from_end: u32, len: u32, sum: Option<&mut Accumulator>) -> Payload {
        match self {
            Self::Block { block, .. } => {
                let from = block.filled() - from_end as usize;
                if let Some(sum) = sum {
                    sum.push(memory.bytes(block, from..from + len as usize));
                }
                Payload::Block(memory.lease(block, from, len as usize))
            }
            Self::Static { bytes, .. } => {
                let bytes = &bytes[bytes.len() - from_end as usize..][..len as usize];
                if let Some(sum) = sum {
                    sum.push(bytes);
                }
                Payload::Static(bytes)
            }
        }
    }

    #[inline]
    fn end(&self) -> u32 {
        match self {
            Self::Block { end, .. } | Self::Static { end, .. } => *end,
        }
    }
}

/// Static octets and adopted ones in smaller runs than this are copied: a frame takes few pieces, and a service that sends crumbs would
/// cut its data into more frames than the tx ring has places.
pub(crate) const MIN_STATIC: usize = 2_048;

/// Pieces behind the first for which there is room from the start: as many as the largest send buffer has blocks of 64 KB, so
/// that a growing buffer does not make the list grow piece by piece.
const PIECES: usize = 64;

/// Octets of send memory that [`SendStore::append`] takes at most for so many octets: all blocks but the last become full.
#[inline]
pub(crate) const fn most_taken(octets: usize) -> u32 {
    let most = octets.saturating_add(CHUNK_LEN);
    if most < u32::MAX as usize { most as u32 } else { u32::MAX }
}

/// The smallest block.
const SMALLEST: u32 = block_for(1) as u32;

/// With so few small blocks that are full any super-segment fits the frames set aside for one: see
/// [`SendStore::most_pieces`].
const FEW_SMALL: u32 = (FRAMES_A_SEGMENT * MAX_SLICES) as u32 - (2 * (MAX_SUPER_SEGMENT / (MIN_STATIC as u32 + 1)) + 3);

/// The send store of one connection. The first piece lies inline: short exchanges need no list.
#[derive(Debug, Default)]
pub(crate) struct SendStore {
    front: Option<Piece>,
    more: Option<Box<More>>,
    octets: u32,
    /// Octets of the blocks, filled or not.
    taken: u32,
}

/// The pieces behind the first. In a box of its own: 8 octets in every connection's record instead of 40.
#[derive(Debug)]
struct More {
    pieces: VecDeque<Piece>,
    /// Those of them that are small and full.
    small: u32,
}

impl Piece {
    /// Whether it is a small block that is full, of which many may follow each other.
    #[inline]
    fn is_small_and_full(&self) -> bool {
        matches!(self, Self::Block { block, .. } if block.room() == 0 && (1..MIN_STATIC).contains(&block.taken()))
    }
}

impl SendStore {
    /// Octets queued and not yet acknowledged.
    pub(crate) fn len(&self) -> u32 {
        self.octets
    }

    /// Octets of send memory that it holds: those of whole blocks, however few are filled. Adopted and static octets are not
    /// among them.
    pub(crate) fn taken(&self) -> u32 {
        self.taken
    }

    /// How many octets [`append`](Self::append) could copy with that `allowance`.
    pub(crate) fn room_within(&self, allowance: u32) -> u32 {
        let room = match self.back() {
            Some(Piece::Block { block, .. }) => block.room() as u32,
            _ => 0,
        };
        room.saturating_add(allowance - allowance % SMALLEST)
    }

    /// Appends as much of `bytes` as there is send memory for, of which it takes at most `allowance` further octets, in whole
    /// blocks; filling one that it holds already costs nothing. Returns how much.
    ///
    /// Blocks are as large as what goes into them, or the next size after one that has become full: whoever sends much
    /// soon has large ones.
    pub(crate) fn append(&mut self, memory: &mut SendMemory, bytes: &[u8], allowance: u32) -> usize {
        let (mut done, mut least) = (0, 0);
        if let Some(Piece::Block { block, end }) = self.back_mut()
            && block.taken() > 0
        {
            let had_room = block.room() > 0;
            done = memory.append(block, bytes);
            *end = end.wrapping_add(done as u32);
            if block.room() == 0 {
                least = block.taken() + 1;
                if had_room {
                    self.count_full();
                }
            }
        }
        let mut left = allowance as usize;
        while done < bytes.len() {
            let rest = &bytes[done..];
            let wanted = block_for(rest.len().max(least));
            let octets = if wanted <= left { wanted } else { block_within(left) };
            if octets == 0 {
                break;
            }
            let Some(mut block) = memory.allocate_within(octets, left) else { break };
            done += memory.append(&mut block, rest);
            left -= block.taken();
            least = block.taken() + 1;
            self.taken += block.taken() as u32;
            let is_full = block.room() == 0;
            self.push_block(block);
            if is_full {
                self.count_full();
            }
        }
        self.octets += done as u32;
        done
    }

    /// The last piece, a block, has become full.
    fn count_full(&mut self) {
        if let Some(more) = &mut self.more {
            let is_small = more.pieces.back().is_some_and(Piece::is_small_and_full);
            more.small += u32::from(is_small);
        }
    }

    /// Appends static octets without copying them, unless they are few (then as [`append`](Self::append) does); returns how
    /// many.
    pub(crate) fn append_static(&mut self, memory: &mut SendMemory, bytes: &'static [u8], allowance: u32) -> usize {
        if bytes.len() < MIN_STATIC {
            return self.append(memory, bytes, allowance);
        }
        self.octets += bytes.len() as u32;
        let end = self.end().wrapping_add(bytes.len() as u32);
        self.push(Piece::Static { bytes, end });
        bytes.len()
    }

    /// Appends up to `room` octets from the front of `bytes` without copying them, unless they are few or the memory has no
    /// place for another piece (then as [`append`](Self::append) does). Leaves the rest in `bytes`.
    pub(crate) fn append_bytes(&mut self, memory: &mut SendMemory, bytes: &mut Bytes, room: u32, allowance: u32) {
        let len = bytes.len().min(room as usize);
        if len >= MIN_STATIC && memory.can_adopt() {
            let piece = if len == bytes.len() { std::mem::take(bytes) } else { bytes.split_to(len) };
            match memory.adopt(piece) {
                Ok(block) => {
                    self.octets += len as u32;
                    self.push_block(block);
                    return;
                }
                // There is a place, and `room` keeps the piece below 4 GB.
                Err(piece) => debug_assert!(false, "{} octets not adopted", piece.len()),
            }
        }
        let copied = self.append(memory, &bytes[..len], allowance);
        bytes.advance(copied);
    }

    /// How long segments may be for each to fit [`FRAMES_A_SEGMENT`] frames, `max_len` at most, and how many frames it may
    /// take anyway when it is one that cannot be shorter than `mtu`.
    #[inline]
    pub(crate) fn cut(&self, max_len: u32, mtu: u32) -> (u32, usize) {
        if self.small() <= FEW_SMALL { (max_len, FRAMES_A_SEGMENT) } else { self.cut_small(max_len, mtu) }
    }

    #[cold]
    fn cut_small(&self, max_len: u32, mtu: u32) -> (u32, usize) {
        const PIECES_A_SEGMENT: u32 = (FRAMES_A_SEGMENT * MAX_SLICES) as u32;
        let fits = self.most_pieces(max_len) <= PIECES_A_SEGMENT;
        let max_len = if fits { max_len } else { (PIECES_A_SEGMENT - 3) * SMALLEST };
        (max_len, self.most_pieces(max_len.max(mtu)).div_ceil(MAX_SLICES as u32) as usize)
    }

    /// Most pieces that any `len` octets of it lie in.
    ///
    /// A block is followed by another one only when it is full, else by [`MIN_STATIC`] octets or more that are not copied.
    /// So, but for the first and the last of the pieces, of which there may be as little as one octet: each has as many octets
    /// as the smallest block, or comes before one that has more than enough for both. And if small blocks that are full are
    /// left out, of each two neighbours one has [`MIN_STATIC`] octets.
    fn most_pieces(&self, len: u32) -> u32 {
        let of_smallest = len / SMALLEST + 3;
        let of_large = 2 * (len / (MIN_STATIC as u32 + 1)) + 3 + self.small();
        of_smallest.min(of_large).min(self.pieces())
    }

    fn pieces(&self) -> u32 {
        u32::from(self.front.is_some()) + self.more.as_ref().map_or(0, |more| more.pieces.len() as u32)
    }

    /// Pieces that are small and full, at most: the first may be one.
    #[inline]
    fn small(&self) -> u32 {
        self.more.as_ref().map_or(0, |more| more.small + 1)
    }

    /// The first `octets` were acknowledged.
    #[inline]
    pub(crate) fn acknowledge(&mut self, memory: &mut SendMemory, octets: u32) {
        match &mut self.front {
            Some(Piece::Static { bytes, .. }) if (octets as usize) < bytes.len() => {
                self.octets -= octets;
                *bytes = &bytes[octets as usize..];
            }
            _ => self.acknowledge_pieces(memory, octets),
        }
    }

    fn acknowledge_pieces(&mut self, memory: &mut SendMemory, octets: u32) {
        self.octets -= octets.min(self.octets);
        let una = self.una();
        while let Some(front) = &mut self.front {
            let left = front.end().wrapping_sub(una);
            if (1..=self.octets).contains(&left) {
                if let Piece::Static { bytes, .. } = front {
                    *bytes = &bytes[bytes.len() - left as usize..];
                }
                return;
            }
            let next = self.more.as_mut().and_then(|more| {
                let next = more.pieces.pop_front();
                more.small -= u32::from(next.as_ref().is_some_and(Piece::is_small_and_full));
                next
            });
            if let Some(Piece::Block { block, .. }) = std::mem::replace(&mut self.front, next) {
                self.taken -= block.taken() as u32;
                memory.release(block);
            }
        }
        // The list stays: most likely it is filled again at once.
    }

    /// Gives the list back when there is nothing to keep in it: an idle connection costs no more than its record.
    pub(crate) fn trim(&mut self) {
        if self.octets == 0 {
            self.more = None;
        }
    }

    /// Leases up to `len` octets from `offset` on to `frame` and adds them to `sum` if there is one. Returns how many:
    /// less when they lie in more pieces than a frame takes.
    #[inline]
    pub(crate) fn lease(
        &self,
        memory: &mut SendMemory,
        offset: u32,
        len: u32,
        frame: &mut TxFrame,
        sum: Option<&mut Accumulator>,
    ) -> u32 {
        let Some(front) = &self.front else { return 0 };
        // Most often all of it lies in the first piece.
        let from_end = front.end().wrapping_sub(self.una()).saturating_sub(offset);
        if len > 0 && len <= from_end && !frame.is_full() {
            let _ = frame.push(front.lease(memory, from_end, len, sum));
            return len;
        }
        self.lease_pieces(memory, (offset, len), frame, sum)
    }

    fn lease_pieces(
        &self,
        memory: &mut SendMemory,
        (offset, len): (u32, u32),
        frame: &mut TxFrame,
        mut sum: Option<&mut Accumulator>,
    ) -> u32 {
        let Some(front) = &self.front else { return 0 };
        let una = self.una();
        // Octets from SND.UNA to the end of a piece.
        let above = |piece: &Piece| piece.end().wrapping_sub(una);
        let mut pieces = None;
        let mut piece = Some(front);
        if let Some(more) = &self.more {
            let passed =
                if above(front) > offset { 0 } else { more.pieces.partition_point(|piece| above(piece) <= offset) };
            let mut behind = more.pieces.range(passed..);
            if above(front) <= offset {
                piece = behind.next();
            }
            pieces = Some(behind);
        }
        let (mut at, end) = (offset, offset + len);
        while let Some(found) = piece
            && at < end
            && !frame.is_full()
        {
            let from_end = above(found).saturating_sub(at);
            if from_end == 0 {
                break;
            }
            let take = from_end.min(end - at);
            // There is a place: looked for above.
            let _ = frame.push(found.lease(memory, from_end, take, sum.as_deref_mut()));
            at += take;
            piece = pieces.as_mut().and_then(Iterator::next);
        }
        at - offset
    }

    /// Gives everything up.
    pub(crate) fn clear(&mut self, memory: &mut SendMemory) {
        let more = self.more.take().map(|more| more.pieces).unwrap_or_default();
        for piece in self.front.take().into_iter().chain(more) {
            if let Piece::Block { block, .. } = piece {
                memory.release(block);
            }
        }
        (self.octets, self.taken) = (0, 0);
    }

    #[inline(always)]
    fn back(&self) -> Option<&Piece> {
        self.more.as_ref().and_then(|more| more.pieces.back()).or(self.front.as_ref())
    }

    #[inline(always)]
    fn back_mut(&mut self) -> Option<&mut Piece> {
        match &mut self.more {
            Some(more) if !more.pieces.is_empty() => more.pieces.back_mut(),
            _ => self.front.as_mut(),
        }
    }

    /// Where the last piece ends, as pieces count.
    #[inline]
    fn end(&self) -> u32 {
        self.back().map_or(0, Piece::end)
    }

    /// Where what is not acknowledged begins, as pieces count.
    #[inline]
    fn una(&self) -> u32 {
        self.end().wrapping_sub(self.octets)
    }

    #[inline(always)]
    fn push_block(&mut self, block: Block) {
        let end = self.end().wrapping_add(block.filled() as u32);
        self.push(Piece::Block { block, end });
    }

    #[inline(always)]
    fn push(&mut self, piece: Piece) {
        if self.front.is_none() {
            self.front = Some(piece);
        } else {
            self.push_behind(piece);
        }
    }

    #[inline(never)]
    fn push_behind(&mut self, piece: Piece) {
        let empty = || Box::new(More { pieces: VecDeque::with_capacity(PIECES), small: 0 });
        self.more.get_or_insert_with(empty).pieces.push_back(piece);
    }
}
