//! Both byte stores against naive models: whatever the order of calls, the same octets come out and nothing is left.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;

use super::receive_store::{Holdings, ReceiveStore};
use super::send_store::{FRAMES_A_SEGMENT, MAX_SUPER_SEGMENT, MIN_STATIC, SendStore, most_taken};
use super::transmit::drop_frame;
use crate::buffer::frame::{FrameOwner, TxFrame};
use crate::buffer::packet::{PacketBuf, PacketPool};
use crate::buffer::send_memory::SendMemory;
use crate::wire::checksum::{self, Accumulator};
use crate::wire::vnet::TxOffload;

#[derive(Debug, Clone)]
enum Receive {
    /// The segment from `gap` above the in-order end (0: in order), so long, copied because memory is tight.
    Segment {
        gap: u16,
        len: u16,
        tight: bool,
    },
    Consume(u16),
    Settle(bool),
}

fn receive_step() -> impl Strategy<Value = Receive> {
    let gap = prop_oneof![Just(0u16), 1u16..20_000];
    let len = prop_oneof![1u16..200, 1u16..9_000];
    prop_oneof![
        4 => (gap, len, any::<bool>()).prop_map(|(gap, len, tight)| Receive::Segment { gap, len, tight }),
        2 => (0u16..20_000).prop_map(Receive::Consume),
        1 => any::<bool>().prop_map(Receive::Settle),
    ]
}

/// The octet at a place of the stream.
fn octet(place: u64) -> u8 {
    (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn packet(pool: &mut PacketPool, from: u64, len: usize) -> PacketBuf {
    let mut packet = pool.take().unwrap();
    for (place, out) in packet.storage_mut()[7..7 + len].iter_mut().enumerate() {
        *out = octet(from + place as u64);
    }
    packet.set_range(7, len);
    packet
}

/// Which octets are there, one by one.
#[derive(Default)]
struct ReceiveModel {
    read: u64,
    next: u64,
    held: Vec<(u64, u64)>,
}

impl ReceiveModel {
    /// Moves the in-order end over what is held; returns how far.
    fn close_gap(&mut self) -> u64 {
        let before = self.next;
        while let Some(&(_, end)) = self.held.iter().find(|(start, end)| *start <= self.next && *end > self.next) {
            self.next = end;
        }
        self.held.retain(|(_, end)| *end > self.next);
        self.next - before
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn receive_store_gives_the_stream_in_order(steps in prop::collection::vec(receive_step(), 1..120)) {
        let mut pool = PacketPool::new(0, 200, 9_100);
        let mut holdings = Holdings::default();
        let mut store = ReceiveStore::default();
        let mut model = ReceiveModel::default();
        for step in steps {
            match step {
                Receive::Segment { gap: 0, len, .. } => {
                    let packet = packet(&mut pool, model.next, usize::from(len));
                    model.next += u64::from(len);
                    let released = model.close_gap();
                    prop_assert_eq!(u64::from(store.deliver(&mut holdings, packet)), released);
                }
                Receive::Segment { gap, len, tight } => {
                    let start = model.next + u64::from(gap);
                    let packet = packet(&mut pool, start, usize::from(len));
                    store.hold(&mut holdings, packet, u32::from(gap), tight);
                    model.held.push((start, start + u64::from(len)));
                }
                Receive::Consume(octets) => {
                    let mut left = u64::from(octets).min(model.next - model.read);
                    prop_assert_eq!(left == 0, store.peek().is_empty() || octets == 0);
                    while left > 0 {
                        let run = store.peek();
                        let take = left.min(run.len() as u64);
                        for (place, got) in (model.read..model.read + take).zip(run) {
                            prop_assert_eq!(*got, octet(place));
                        }
                        prop_assert_eq!(store.consume(&mut holdings, take as u32), take as u32);
                        model.read += take;
                        left -= take;
                    }
                }
                Receive::Settle(tight) => store.settle(&mut holdings, tight),
            }
            prop_assert_eq!(u64::from(store.unread()), model.next - model.read);
            prop_assert_eq!(model.read == model.next, store.peek().is_empty());
            prop_assert_eq!(holdings.packets as usize + holdings.released.len() + pool.available(), pool.capacity());
        }
        store.clear(&mut holdings);
        prop_assert_eq!((holdings.packets, holdings.octets, store.unread()), (0, 0, 0));
        prop_assert_eq!(holdings.released.len() + pool.available(), pool.capacity());
    }
}

#[derive(Debug, Clone)]
enum Send {
    /// So many octets, for so many further octets of memory; likewise those below.
    Copy(u32, u32),
    Static(u32, u32),
    /// Octets of the application, for so much room.
    Bytes(u32, u32, u32),
    Acknowledge(u32),
    /// A frame from so far above the front, so long; and how many of the oldest frames are completed before it.
    Frame {
        offset: u32,
        len: u32,
        completions: usize,
    },
    Trim,
}

fn send_step() -> impl Strategy<Value = Send> {
    let len = || prop_oneof![0u32..100, 0u32..5_000, 0u32..150_000];
    let allowance = || prop_oneof![0u32..1_000, 0u32..20_000, Just(50_000), Just(u32::MAX)];
    prop_oneof![
        3 => (len(), allowance()).prop_map(|(len, allowance)| Send::Copy(len, allowance)),
        2 => (len(), allowance()).prop_map(|(len, allowance)| Send::Static(len, allowance)),
        2 => (len(), len(), allowance()).prop_map(|(len, room, allowance)| Send::Bytes(len, room, allowance)),
        3 => len().prop_map(Send::Acknowledge),
        3 => (len(), 1u32..66_000, 0usize..4)
            .prop_map(|(offset, len, completions)| Send::Frame { offset, len, completions }),
        1 => Just(Send::Trim),
    ]
}

static BLOCK: [u8; 150_000] = {
    let mut block = [0; 150_000];
    let mut at = 0;
    while at < block.len() {
        block[at] = (at % 251) as u8;
        at += 1;
    }
    block
};

const CHUNKS: u32 = 12;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn send_store_sends_what_was_queued(steps in prop::collection::vec(send_step(), 1..60)) {
        let (mut memory, reader) = SendMemory::new(CHUNKS);
        let mut store = SendStore::default();
        let mut model: VecDeque<u8> = VecDeque::new();
        let mut out: VecDeque<(TxFrame, Vec<u8>)> = VecDeque::new();
        for step in steps {
            let before = store.taken();
            match step {
                Send::Copy(len, allowance) => {
                    let fits = store.room_within(allowance) as usize;
                    let copied = store.append(&mut memory, &BLOCK[..len as usize], allowance);
                    prop_assert!(copied == fits.min(len as usize) || memory.free_octets() == 0);
                    prop_assert!(store.taken() - before <= allowance);
                    model.extend(&BLOCK[..copied]);
                }
                Send::Static(len, allowance) => {
                    let bytes = &BLOCK[BLOCK.len() - len as usize..];
                    let fits = if bytes.len() < MIN_STATIC { store.room_within(allowance) } else { len };
                    let queued = store.append_static(&mut memory, bytes, allowance);
                    prop_assert!(queued == bytes.len().min(fits as usize) || memory.free_octets() == 0);
                    prop_assert!(store.taken() - before <= allowance);
                    model.extend(&bytes[..queued]);
                }
                Send::Bytes(len, room, allowance) => {
                    let len = len as usize;
                    let bytes = Bytes::copy_from_slice(&BLOCK[BLOCK.len() - len..]);
                    let places = memory.can_adopt();
                    let mut rest = bytes.clone();
                    let fits = store.room_within(allowance) as usize;
                    store.append_bytes(&mut memory, &mut rest, room, allowance);
                    let taken = len - rest.len();
                    prop_assert_eq!(&bytes[taken..], &rest[..]);
                    let wanted = len.min(room as usize);
                    let copies = wanted < MIN_STATIC || !places;
                    let expected = if copies { wanted.min(fits) } else { wanted };
                    prop_assert!(taken == expected || (copies && memory.free_octets() == 0));
                    prop_assert!(store.taken() - before <= allowance);
                    model.extend(&bytes[..taken]);
                }
                Send::Acknowledge(octets) => {
                    store.acknowledge(&mut memory, octets);
                    model.drain(..(octets as usize).min(model.len()));
                }
                Send::Frame { offset, len, completions } => {
                    for (frame, expected) in out.drain(..completions.min(out.len())) {
                        // Unchanged, whatever became of the store meanwhile.
                        prop_assert_eq!(frame.payload(&reader).concat(), expected);
                        for lease in frame.complete().into_iter().flat_map(|completion| completion.into_leases()) {
                            memory.complete(lease);
                        }
                    }
                    let offset = offset.min(store.len());
                    let len = len.min(store.len() - offset);
                    let mut frame = TxFrame::new(TxOffload::default(), FrameOwner::NONE, |_| 40);
                    let mut sum = Accumulator::default();
                    let covered = store.lease(&mut memory, offset, len, &mut frame, Some(&mut sum));
                    prop_assert!(covered == len || frame.slices_left() == 0);
                    prop_assert!(len == 0 || covered > 0);
                    let range = offset as usize..(offset + covered) as usize;
                    let expected: Vec<u8> = model.range(range).copied().collect();
                    prop_assert_eq!(frame.payload_len(), covered as usize);
                    prop_assert_eq!(&frame.payload(&reader).concat(), &expected);
                    prop_assert_eq!(checksum::finish(sum.sum()), checksum::finish(checksum::sum(&expected)));
                    out.push_back((frame, expected));
                }
                Send::Trim => store.trim(),
            }
            prop_assert_eq!(store.len() as usize, model.len());
            prop_assert!(u64::from(store.taken()) <= memory.taken_octets());
            prop_assert!(!out.is_empty() || u64::from(store.taken()) == memory.taken_octets());
            let (cut, frames) = store.cut(MAX_SUPER_SEGMENT, 1_500);
            for offset in [0, store.len() / 3, store.len().saturating_sub(cut)] {
                prop_assert!(frames_of(&store, &mut memory, offset, cut) <= frames.min(FRAMES_A_SEGMENT));
            }
        }
        store.clear(&mut memory);
        prop_assert_eq!((store.len(), store.taken()), (0, 0));
        for (frame, expected) in out {
            prop_assert_eq!(frame.payload(&reader).concat(), expected);
            for lease in frame.complete().into_iter().flat_map(|completion| completion.into_leases()) {
                memory.complete(lease);
            }
        }
        prop_assert_eq!((memory.in_use(), memory.adopted(), memory.outstanding()), (0, 0, 0));
    }
}

/// How many frames the octets from `offset` on take, up to `len` of them.
fn frames_of(store: &SendStore, memory: &mut SendMemory, offset: u32, len: u32) -> usize {
    let len = len.min(store.len() - offset);
    let (mut done, mut frames) = (0, 0);
    while done < len {
        let mut frame = TxFrame::new(TxOffload::default(), FrameOwner::NONE, |_| 40);
        done += store.lease(memory, offset + done, len - done, &mut frame, None);
        frames += 1;
        drop_frame(memory, frame);
    }
    frames
}

/// What fits a frame: 64 KB in pieces of the smallest kind take no more frames than are set aside for one segment.
#[test]
fn a_super_segment_of_crumbs_takes_few_frames() {
    let (mut memory, _reader) = SendMemory::new(64);
    let mut store = SendStore::default();
    for round in 0..2_000 {
        let len = [MIN_STATIC, 1, 100, 2_047, 3_000][round % 5];
        if round % 7 == 0 {
            store.append(&mut memory, &BLOCK[..3], u32::MAX);
        }
        if round % 3 == 0 {
            store.append_bytes(&mut memory, &mut Bytes::from_static(&BLOCK[..len]), u32::MAX, u32::MAX);
        } else {
            store.append_static(&mut memory, &BLOCK[..len], u32::MAX);
        }
        if store.len() > 300_000 {
            break;
        }
    }
    let (cut, frames) = store.cut(MAX_SUPER_SEGMENT, 1_500);
    assert!(frames <= FRAMES_A_SEGMENT);
    for offset in (0..store.len() - cut).step_by(1_013) {
        let frames = frames_of(&store, &mut memory, offset, cut);
        assert!(frames <= FRAMES_A_SEGMENT, "{frames} frames from {offset}");
    }
    store.clear(&mut memory);
    assert_eq!(memory.in_use(), 0);
}

/// The worst there can be: octets one by one between as few static ones as are not copied, and blocks of the smallest kind.
#[test]
fn no_pieces_are_too_many_for_the_frames_of_a_segment() {
    let crumbs: fn(&mut SendStore, &mut SendMemory) = |store, memory| {
        store.append_static(memory, &BLOCK[..MIN_STATIC], 0);
        store.append(memory, b"x", 256);
    };
    let smallest: fn(&mut SendStore, &mut SendMemory) = |store, memory| {
        store.append(memory, &BLOCK[..256], 256);
    };
    let both: fn(&mut SendStore, &mut SendMemory) = |store, memory| {
        for _ in 0..7 {
            store.append(memory, &BLOCK[..256], 256);
        }
        store.append(memory, b"x", 256);
        store.append_static(memory, &BLOCK[..MIN_STATIC], 0);
    };
    for (name, queue) in [("crumbs", crumbs), ("smallest", smallest), ("both", both)] {
        let (mut memory, _reader) = SendMemory::new(64);
        let mut store = SendStore::default();
        while store.len() < 200_000 {
            queue(&mut store, &mut memory);
        }
        for mtu in [1_500, 9_000, 65_535] {
            let (cut, frames) = store.cut(MAX_SUPER_SEGMENT, mtu);
            assert!(frames <= FRAMES_A_SEGMENT || mtu > 19_000, "{name}: {frames} frames set aside");
            let longest = cut.max(mtu);
            let mut most = 0;
            // Longer than what is repeated.
            for offset in 0..4_100 {
                most = most.max(frames_of(&store, &mut memory, offset, longest));
            }
            println!("{name}, mtu {mtu}: segments of {longest} octets take {most} frames of {frames} set aside");
            assert!(most <= frames, "{name}, mtu {mtu}: {most} frames of {frames}");
        }
        while store.len() > 0 {
            store.acknowledge(&mut memory, 1_000);
        }
        assert_eq!(
            store.cut(MAX_SUPER_SEGMENT, 1_500),
            (MAX_SUPER_SEGMENT, FRAMES_A_SEGMENT),
            "{name}: all is forgotten"
        );
        assert_eq!((store.taken(), memory.taken_octets()), (0, 0));
    }
}

/// Few octets of their own before each of many that are not copied: each takes the smallest block.
#[test]
fn heads_between_bodies_take_little_memory() {
    let (mut memory, _reader) = SendMemory::new(64);
    let mut store = SendStore::default();
    for _ in 0..240 {
        store.append(&mut memory, &BLOCK[..200], u32::MAX);
        store.append_static(&mut memory, &BLOCK[..MIN_STATIC], u32::MAX);
    }
    assert_eq!((store.taken(), memory.in_use()), (240 * 256, 1));
    store.clear(&mut memory);
}

/// Blocks grow with what is sent: few octets take few, bulk soon takes the largest.
#[test]
fn blocks_grow_with_what_is_sent() {
    let taken_by = |lengths: &[usize], allowance: u32| {
        let (mut memory, _reader) = SendMemory::new(64);
        let mut store = SendStore::default();
        let mut taken = Vec::new();
        for &len in lengths {
            let before = store.taken();
            store.append(&mut memory, &BLOCK[..len], allowance);
            taken.push(store.taken() - before);
        }
        store.clear(&mut memory);
        taken
    };
    assert_eq!(taken_by(&[1], u32::MAX), [256]);
    assert_eq!(taken_by(&[200, 200, 200], u32::MAX), [256, 1_024, 0], "the next size after one that is full");
    assert_eq!(taken_by(&[1_448; 8], u32::MAX), [4_096, 0, 16_384, 0, 0, 0, 0, 0]);
    assert_eq!(taken_by(&[100_000], u32::MAX), [131_072]);
    assert_eq!(taken_by(&[5_000], 5_000), [4_096 + 3 * 256], "no more than is allowed");
    assert_eq!(taken_by(&[5_000, 1], 255), [0, 0]);
}

/// Whoever may take that much gets what he would get if he might take anything, when memory runs out, too.
#[test]
fn nothing_takes_more_memory_than_it_may_at_most() {
    let mut random = fastrand::Rng::with_seed(9);
    for _ in 0..2_000 {
        let chunks = random.u32(1..8);
        let ((mut some, _), (mut all, _)) = (SendMemory::new(chunks), SendMemory::new(chunks));
        let (mut frugal, mut free) = (SendStore::default(), SendStore::default());
        for _ in 0..random.u32(1..12) {
            let size = random.u32(0..18);
            let octets = vec![7; random.usize(0..2 << size)];
            let before = frugal.taken();
            let queued = frugal.append(&mut some, &octets, most_taken(octets.len()));
            assert_eq!(queued, free.append(&mut all, &octets, u32::MAX));
            assert_eq!((frugal.taken(), some.free_octets()), (free.taken(), all.free_octets()));
            assert!(frugal.taken() - before <= most_taken(octets.len()));
            let acked = random.u32(0..=frugal.len());
            frugal.acknowledge(&mut some, acked);
            free.acknowledge(&mut all, acked);
        }
        frugal.clear(&mut some);
        free.clear(&mut all);
    }
}
