//! The octets of one connection that were received and not yet read: what is in order, and what waits behind a gap.
//!
//! The TCP core decides which octets go where and never owns one; this store keeps them. Octets stay in the packet
//! buffer they came in as long as that is cheap, and move to right-sized memory when a small payload would pin a large
//! buffer. Must not contain: sequence numbers, windows, timers.
//!
//! ```text
//!            read             next          held
//!   ----------|----------------|-----[ ]--[    ]----->  stream offset (octets since the first)
//!     gone        in order       gap
//! ```

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use crate::buffer::packet::PacketBuf;

/// A run of octets, in the packet it came in or copied out of it.
#[derive(Debug)]
enum Piece {
    /// The packet's range.
    Packet(PacketBuf),
    /// `data[start..]`.
    Copy { data: Vec<u8>, start: u32 },
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Packet(packet) => packet.bytes(),
            Self::Copy { data, start } => &data[*start as usize..],
        }
    }

    fn len(&self) -> u32 {
        match self {
            Self::Packet(packet) => packet.len() as u32,
            Self::Copy { data, start } => data.len() as u32 - start,
        }
    }

    fn advance(&mut self, octets: u32) {
        match self {
            Self::Packet(packet) => packet.trim_front(octets as usize),
            Self::Copy { start, .. } => *start += octets,
        }
    }
}

/// What does not fit into the store's inline slot: made on first need, gone when empty.
#[derive(Debug, Default)]
struct Backlog {
    /// In order, behind the inline piece.
    queue: VecDeque<Piece>,
    /// Behind a gap, by stream offset; pieces may overlap. A tree, so that whatever order they come in costs the same.
    held: BTreeMap<u64, Piece>,
    /// Stream offset of the first octet behind all in-order ones. Counted from when the backlog was made.
    next: u64,
}

/// What the stores of one shard hold together.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    /// Packet buffers held by reference.
    pub(crate) packets: u64,
    /// Octets in copies, [`PIECE_COST`] a copy included.
    pub(crate) octets: u64,
    /// The most that these ever were.
    pub(crate) most_octets: u64,
    /// Packet buffers given up, to go back to their pools.
    pub(crate) released: Vec<PacketBuf>,
    /// A backlog that was emptied last: the next one needs no memory of its own.
    spare: Option<Box<Backlog>>,
}

/// Pieces for which the spare backlog has room.
const SPARE_PIECES: usize = 64;

impl Holdings {
    /// Nothing is held; so many packets can be given up before somebody takes them away.
    pub(crate) fn with_capacity(packets: usize) -> Self {
        // Room for a run of segments from the start: it must not grow in the middle of traffic.
        let spare = Backlog { queue: VecDeque::with_capacity(SPARE_PIECES), ..Backlog::default() };
        Self { released: Vec::with_capacity(packets), spare: Some(Box::new(spare)), ..Self::default() }
    }

    /// What `place` holds, or an empty backlog that it holds from now on.
    #[inline]
    fn backlog<'a>(&mut self, place: &'a mut Option<Box<Backlog>>) -> &'a mut Backlog {
        place.get_or_insert_with(|| self.spare.take().unwrap_or_default())
    }

    /// An empty backlog is not needed any more.
    fn drop_backlog(&mut self, backlog: Option<Box<Backlog>>) {
        if let Some(mut backlog) = backlog {
            backlog.queue.shrink_to(SPARE_PIECES);
            self.spare = Some(backlog);
        }
    }

    /// A copy of so many octets was made, or has grown by them.
    fn take(&mut self, taken: &mut u32, octets: u32) {
        *taken += octets;
        self.octets += u64::from(octets);
        self.most_octets = self.most_octets.max(self.octets);
    }
}

/// What a piece has taken of the memory of its shard, octets. A packet held by reference takes none: their number has a
/// limit of its own.
fn cost(piece: &Piece) -> u32 {
    match piece {
        Piece::Packet(_) => 0,
        Piece::Copy { data, .. } => data.capacity() as u32 + PIECE_COST,
    }
}

/// The receive store of one connection: what is in order, and what is behind gaps, as in the figure above.
#[derive(Debug, Default)]
pub(crate) struct ReceiveStore {
    head: Option<Piece>,
    backlog: Option<Box<Backlog>>,
    unread: u32,
    /// Octets of the shard's memory that all pieces have taken.
    taken: u32,
    /// Pieces that were added since [`begin_run`](Self::begin_run).
    fresh: u32,
}

/// Payloads up to this many octets are copied out of their packet when they must wait (architecture: a tiny segment
/// must not pin 64 KB).
pub(crate) const COPY_LIMIT: u32 = 4_096;

/// What a copy costs besides its octets: its record, and what the allocator adds. Without it a peer that sends single
/// octets to a reader that has stalled would hold many times the memory it is charged for.
const PIECE_COST: u32 = 96;

/// Small payloads that follow each other behind a gap share a copy of up to so many octets.
const RUN_LEN: usize = 65_536;

impl ReceiveStore {
    /// In-order octets not yet read.
    pub(crate) fn unread(&self) -> u32 {
        self.unread
    }

    /// Octets of the shard's memory that it has taken, in order or behind a gap; see [`Holdings::octets`].
    pub(crate) fn taken(&self) -> u32 {
        self.taken
    }

    /// What is delivered from now on is what [`settle`](Self::settle) is about.
    #[inline]
    pub(crate) fn begin_run(&mut self) {
        self.fresh = 0;
    }

    /// Takes the packet's range as the next octets in order, then whatever held octets became contiguous. Returns how
    /// many of those there were.
    #[inline(always)]
    pub(crate) fn deliver(&mut self, holdings: &mut Holdings, packet: PacketBuf) -> u32 {
        let len = packet.len() as u32;
        holdings.packets += 1;
        self.unread += len;
        self.push(holdings, Piece::Packet(packet));
        match &mut self.backlog {
            Some(backlog) => {
                backlog.next += u64::from(len);
                if backlog.held.is_empty() { 0 } else { self.release_held(holdings) }
            }
            None => 0,
        }
    }

    /// Keeps the packet's range, which lies `offset` octets above the in-order end. `tight`: not by reference.
    pub(crate) fn hold(&mut self, holdings: &mut Holdings, packet: PacketBuf, offset: u32, tight: bool) {
        let backlog = holdings.backlog(&mut self.backlog);
        let at = backlog.next + u64::from(offset);
        holdings.packets += 1;
        let mut piece = Piece::Packet(packet);
        if tight || piece.len() <= COPY_LIMIT {
            let before = backlog.held.range_mut(..=at).next_back();
            if let Some((start, before)) = before
                && lengthened(holdings, &mut self.taken, before, at - start, &piece)
            {
                return drop_piece(holdings, &mut self.taken, piece);
            }
            piece = copied(holdings, &mut self.taken, piece);
        }
        let spare = match backlog.held.entry(at) {
            Entry::Vacant(place) => {
                place.insert(piece);
                return;
            }
            Entry::Occupied(mut shorter) if shorter.get().len() < piece.len() => shorter.insert(piece),
            Entry::Occupied(_) => piece,
        };
        drop_piece(holdings, &mut self.taken, spare);
    }

    /// First contiguous run of unread octets; empty when there are none.
    pub(crate) fn peek(&self) -> &[u8] {
        self.head.as_ref().map_or(&[], Piece::bytes)
    }

    /// The reader is done with `octets`. Returns how many there really were.
    #[inline(always)]
    pub(crate) fn consume(&mut self, holdings: &mut Holdings, octets: u32) -> u32 {
        if octets >= self.unread { self.consume_all(holdings) } else { self.consume_some(holdings, octets) }
    }

    /// The reader is done with so many octets of those in order, and not with all.
    fn consume_some(&mut self, holdings: &mut Holdings, octets: u32) -> u32 {
        let mut left = octets;
        self.unread -= octets;
        while left > 0 {
            let Some(head) = &mut self.head else { break };
            let len = head.len();
            if left < len {
                head.advance(left);
                break;
            }
            left -= len;
            let next = self.backlog.as_mut().and_then(|backlog| backlog.queue.pop_front());
            if let Some(piece) = std::mem::replace(&mut self.head, next) {
                drop_piece(holdings, &mut self.taken, piece);
            }
        }
        octets
    }

    /// The reader is done with everything in order.
    #[inline(always)]
    fn consume_all(&mut self, holdings: &mut Holdings) -> u32 {
        if let Some(piece) = self.head.take() {
            drop_piece(holdings, &mut self.taken, piece);
        }
        if self.backlog.is_some() {
            self.consume_queue(holdings);
        }
        std::mem::take(&mut self.unread)
    }

    /// The reader is done with what is in order behind the inline piece.
    #[inline(never)]
    fn consume_queue(&mut self, holdings: &mut Holdings) {
        if let Some(backlog) = &mut self.backlog {
            for piece in backlog.queue.drain(..) {
                drop_piece(holdings, &mut self.taken, piece);
            }
            self.shrink(holdings);
        }
    }

    /// What was delivered in this run now has to wait for its reader: small pieces leave the packets they came in, be
    /// it the one that filled a gap or one that waited behind it. `tight`: all of them.
    pub(crate) fn settle(&mut self, holdings: &mut Holdings, tight: bool) {
        let queue = self.backlog.iter_mut().flat_map(|backlog| backlog.queue.iter_mut().rev());
        for piece in queue.chain(&mut self.head).take(self.fresh as usize) {
            if matches!(piece, Piece::Packet(_)) && (tight || piece.len() <= COPY_LIMIT) {
                let empty = Piece::Copy { data: Vec::new(), start: 0 };
                let old = std::mem::replace(piece, empty);
                *piece = copied(holdings, &mut self.taken, old);
            }
        }
        self.fresh = 0;
    }

    /// Gives everything up.
    pub(crate) fn clear(&mut self, holdings: &mut Holdings) {
        if let Some(piece) = self.head.take() {
            drop_piece(holdings, &mut self.taken, piece);
        }
        if let Some(backlog) = self.backlog.take() {
            let Backlog { queue, held, .. } = *backlog;
            for piece in queue.into_iter().chain(held.into_values()) {
                drop_piece(holdings, &mut self.taken, piece);
            }
        }
        self.unread = 0;
    }

    #[inline(always)]
    fn push(&mut self, holdings: &mut Holdings, piece: Piece) {
        self.fresh += 1;
        if self.head.is_none() {
            self.head = Some(piece);
        } else {
            self.push_behind(holdings, piece);
        }
    }

    #[inline(never)]
    fn push_behind(&mut self, holdings: &mut Holdings, piece: Piece) {
        holdings.backlog(&mut self.backlog).queue.push_back(piece);
    }

    fn release_held(&mut self, holdings: &mut Holdings) -> u32 {
        let mut released = 0;
        while let Some(backlog) = &mut self.backlog {
            let Some(first) = backlog.held.first_entry().filter(|first| *first.key() <= backlog.next) else { break };
            let (at, mut piece) = first.remove_entry();
            let known = backlog.next - at;
            if known >= u64::from(piece.len()) {
                drop_piece(holdings, &mut self.taken, piece);
                continue;
            }
            piece.advance(known as u32);
            let len = piece.len();
            backlog.next += u64::from(len);
            self.unread += len;
            released += len;
            self.push(holdings, piece);
        }
        self.shrink(holdings);
        released
    }

    #[inline]
    fn shrink(&mut self, holdings: &mut Holdings) {
        if self.backlog.as_ref().is_some_and(|backlog| backlog.queue.is_empty() && backlog.held.is_empty()) {
            holdings.drop_backlog(self.backlog.take());
        }
    }
}

/// Moves a piece into memory of its own size, which its store has `taken` then, and gives its packet back.
fn copied(holdings: &mut Holdings, taken: &mut u32, piece: Piece) -> Piece {
    let data = piece.bytes().to_vec();
    drop_piece(holdings, taken, piece);
    let copy = Piece::Copy { data, start: 0 };
    holdings.take(taken, cost(&copy));
    copy
}

/// Appends a piece that begins `offset` octets behind the beginning of `run` to it. `false`: it is no copy, ends elsewhere or is
/// long enough.
fn lengthened(holdings: &mut Holdings, taken: &mut u32, run: &mut Piece, offset: u64, piece: &Piece) -> bool {
    let before = cost(run);
    let Piece::Copy { data, start } = run else { return false };
    let (len, more) = (data.len() - *start as usize, piece.bytes());
    let Some(known) = (len as u64).checked_sub(offset).filter(|known| *known <= more.len() as u64) else {
        return false;
    };
    let more = &more[known as usize..];
    let wanted = data.len() + more.len();
    if wanted > RUN_LEN {
        return false;
    }
    if wanted > data.capacity() {
        // Twice as much each time: an octet is copied once more on average.
        let room = (2 * data.capacity()).clamp(wanted, RUN_LEN);
        data.reserve_exact(room - data.len());
    }
    data.extend_from_slice(more);
    holdings.take(taken, cost(run) - before);
    true
}

#[inline]
fn drop_piece(holdings: &mut Holdings, taken: &mut u32, piece: Piece) {
    *taken -= cost(&piece);
    holdings.octets -= u64::from(cost(&piece));
    if let Piece::Packet(packet) = piece {
        holdings.packets -= 1;
        holdings.released.push(packet);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::buffer::packet::PacketPool;

    fn packet(pool: &mut PacketPool, bytes: &[u8]) -> PacketBuf {
        let mut packet = pool.take().unwrap();
        packet.storage_mut()[..bytes.len()].copy_from_slice(bytes);
        packet.set_range(0, bytes.len());
        packet
    }

    fn read_all(store: &mut ReceiveStore, holdings: &mut Holdings) -> Vec<u8> {
        let mut out = Vec::new();
        while store.unread() > 0 {
            let run = store.peek().to_vec();
            assert!(!run.is_empty());
            out.extend_from_slice(&run);
            assert_eq!(store.consume(holdings, run.len() as u32), run.len() as u32);
        }
        out
    }

    /// Of two pieces that begin at the same place the longer one counts, whichever came first.
    #[test]
    fn a_shorter_piece_at_the_same_place_takes_nothing_away() {
        for pieces in [[&b"def"[..], b"d"], [b"d", b"def"]] {
            let mut pool = PacketPool::new(0, 4, 64);
            let (mut holdings, mut store) = (Holdings::default(), ReceiveStore::default());
            for piece in pieces {
                store.hold(&mut holdings, packet(&mut pool, piece), 3, true);
            }
            assert_eq!(store.deliver(&mut holdings, packet(&mut pool, b"abc")), 3);
            assert_eq!(read_all(&mut store, &mut holdings), b"abcdef");
            assert_eq!((holdings.packets, holdings.octets), (0, 0));
        }
    }

    #[test]
    fn octets_come_out_in_order_whatever_order_they_came_in() {
        let mut pool = PacketPool::new(0, 16, 64);
        let mut holdings = Holdings::default();
        let mut store = ReceiveStore::default();
        let later = packet(&mut pool, b"ghi");
        store.hold(&mut holdings, later, 6, false);
        let overlapping = packet(&mut pool, b"efgh");
        store.hold(&mut holdings, overlapping, 4, false);
        assert_eq!(store.unread(), 0);
        let first = packet(&mut pool, b"abcd");
        assert_eq!(store.deliver(&mut holdings, first), 5);
        assert_eq!(read_all(&mut store, &mut holdings), b"abcdefghi");
        assert_eq!((holdings.packets, holdings.octets), (0, 0));
        assert_eq!(holdings.released.len(), 3);
    }

    #[test]
    fn partial_reads_and_settling_keep_every_octet() {
        let mut pool = PacketPool::new(0, 4, 64);
        let mut holdings = Holdings::default();
        let mut store = ReceiveStore::default();
        let first = packet(&mut pool, b"hello");
        store.deliver(&mut holdings, first);
        store.consume(&mut holdings, 2);
        store.settle(&mut holdings, false);
        assert_eq!(holdings.packets, 0, "a small rest must not pin its packet");
        assert_eq!(holdings.released.len(), 1);
        let second = packet(&mut pool, b" world");
        store.deliver(&mut holdings, second);
        assert_eq!(read_all(&mut store, &mut holdings), b"llo world");
        assert_eq!(holdings.octets, 0);
    }

    #[test]
    fn a_filled_gap_pins_no_packet() {
        let mut pool = PacketPool::new(0, 4, 64);
        let mut holdings = Holdings::default();
        let mut store = ReceiveStore::default();
        for at in [0, 6] {
            let behind = packet(&mut pool, b"def");
            store.hold(&mut holdings, behind, 3, false);
            let filler = packet(&mut pool, b"abc");
            store.deliver(&mut holdings, filler);
            assert_eq!(store.unread(), at + 6);
            store.settle(&mut holdings, false);
            assert_eq!(holdings.packets, 0, "what filled the gap waits behind {at} octets in its packet");
        }
        assert_eq!(read_all(&mut store, &mut holdings), b"abcdefabcdef");
        assert_eq!(holdings.octets, 0);
    }

    /// Small segments behind one that is lost: what they take is their octets, not so many copies.
    #[test]
    fn what_follows_behind_a_gap_shares_copies() {
        let mut pool = PacketPool::new(0, 4, 2_048);
        let (mut holdings, mut store) = (Holdings::default(), ReceiveStore::default());
        for index in 0..10_000_u32 {
            let segment = packet(&mut pool, &[index as u8; 100]);
            store.hold(&mut holdings, segment, 100 + index * 100, false);
            holdings.released.drain(..).for_each(|packet| pool.put(packet));
            let (octets, room) = (u64::from(index + 1) * 100, RUN_LEN as u64);
            assert!(
                holdings.octets <= octets + (octets + PIECE_COST as u64 * 2).min(room) + 16 * u64::from(PIECE_COST)
            );
        }
        let most = holdings.octets;
        let filler = packet(&mut pool, &[0xff; 100]);
        assert_eq!(store.deliver(&mut holdings, filler), 1_000_000);
        let bytes = read_all(&mut store, &mut holdings);
        assert!(bytes[100..].chunks(100).zip(0_u32..).all(|(chunk, index)| chunk == [index as u8; 100]));
        assert_eq!((store.taken(), holdings.octets, holdings.most_octets), (0, 0, most));
    }

    /// Segments that overlap as they like, in any order, as the protocol hands them over: those that bring something new.
    #[test]
    fn any_order_and_overlap_gives_the_stream_and_takes_nothing_in_the_end() {
        const LINE: usize = 3_000;
        let mut random = fastrand::Rng::with_seed(11);
        let line: Vec<u8> = (0..LINE).map(|_| random.u8(..)).collect();
        for round in 0..300 {
            let mut pool = PacketPool::new(0, 4_096, 1_024);
            let (mut holdings, mut store) = (Holdings::default(), ReceiveStore::default());
            let (mut known, mut next, mut got) = (vec![false; LINE], 0, Vec::new());
            while next < LINE {
                let from = random.usize(next..LINE.min(next + 1_000));
                let to = LINE.min(from + random.usize(1..if round % 2 == 0 { 20 } else { 400 }));
                if known[from..to].iter().all(|known| *known) {
                    continue;
                }
                known[from..to].fill(true);
                let segment = packet(&mut pool, &line[from..to]);
                if from == next {
                    let released = store.deliver(&mut holdings, segment) as usize;
                    next = to + released;
                    assert!(known[..next].iter().all(|known| *known) && known.get(next) != Some(&true));
                    if random.bool() {
                        store.settle(&mut holdings, random.bool());
                        got.extend(read_all(&mut store, &mut holdings));
                    }
                } else {
                    store.hold(&mut holdings, segment, (from - next) as u32, random.bool());
                }
            }
            got.extend(read_all(&mut store, &mut holdings));
            assert!(got == line, "round {round}");
            assert_eq!((store.taken(), holdings.octets, holdings.packets), (0, 0, 0), "round {round}");
        }
    }

    #[test]
    fn clearing_gives_every_buffer_back() {
        let mut pool = PacketPool::new(0, 4, 64);
        let mut holdings = Holdings::default();
        let mut store = ReceiveStore::default();
        let first = packet(&mut pool, b"abc");
        store.deliver(&mut holdings, first);
        let held = packet(&mut pool, b"xyz");
        store.hold(&mut holdings, held, 9, false);
        store.clear(&mut holdings);
        assert_eq!((store.unread(), holdings.packets, holdings.octets, holdings.released.len()), (0, 0, 0, 2));
    }
}
