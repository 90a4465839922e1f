//! Both byte stores against naive models: whatever the order of calls, the same octets come out and nothing is left.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;

use super::receive_store::{Holdings, ReceiveStore};
use super::send_store::SendStore;
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
    Copy(u32),
    Static(u32),
    /// Octets of the application, for so much room.
    Bytes(u32, u32),
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
    prop_oneof![
        3 => len().prop_map(Send::Copy),
        2 => len().prop_map(Send::Static),
        2 => (len(), len()).prop_map(|(len, room)| Send::Bytes(len, room)),
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
            match step {
                Send::Copy(len) => {
                    let taken = store.append(&mut memory, &BLOCK[..len as usize]);
                    prop_assert!(taken == len as usize || memory.is_exhausted());
                    model.extend(&BLOCK[..taken]);
                }
                Send::Static(len) => {
                    let bytes = &BLOCK[BLOCK.len() - len as usize..];
                    let taken = store.append_static(&mut memory, bytes);
                    prop_assert!(taken == len as usize || memory.is_exhausted());
                    model.extend(&bytes[..taken]);
                }
                Send::Bytes(len, room) => {
                    let len = len as usize;
                    let bytes = Bytes::copy_from_slice(&BLOCK[BLOCK.len() - len..]);
                    let places = memory.can_adopt();
                    let mut rest = bytes.clone();
                    store.append_bytes(&mut memory, &mut rest, room, room.min(50_000));
                    let taken = len - rest.len();
                    prop_assert_eq!(&bytes[taken..], &rest[..]);
                    let wanted = len.min(room as usize);
                    prop_assert!(taken == wanted || (!places && taken == wanted.min(50_000)) || memory.is_exhausted());
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
        }
        store.clear(&mut memory);
        prop_assert_eq!(store.len(), 0);
        for (frame, expected) in out {
            prop_assert_eq!(frame.payload(&reader).concat(), expected);
            for lease in frame.complete().into_iter().flat_map(|completion| completion.into_leases()) {
                memory.complete(lease);
            }
        }
        prop_assert_eq!((memory.in_use(), memory.adopted(), memory.outstanding()), (0, 0, 0));
    }
}

/// What fits a frame: 64 KB in pieces of the smallest kind take no more frames than are set aside for one segment.
#[test]
fn a_super_segment_of_crumbs_takes_few_frames() {
    let (mut memory, _reader) = SendMemory::new(64);
    let mut store = SendStore::default();
    for round in 0..2_000 {
        let len = [super::send_store::MIN_STATIC, 1, 100, 2_047, 3_000][round % 5];
        if round % 7 == 0 {
            store.append(&mut memory, &BLOCK[..3]);
        }
        if round % 3 == 0 {
            store.append_bytes(&mut memory, &mut Bytes::from_static(&BLOCK[..len]), u32::MAX, u32::MAX);
        } else {
            store.append_static(&mut memory, &BLOCK[..len]);
        }
        if store.len() > 300_000 {
            break;
        }
    }
    for offset in (0..store.len() - 65_435).step_by(1_013) {
        let (mut done, mut frames) = (0, 0);
        while done < 65_435 {
            let mut frame = TxFrame::new(TxOffload::default(), FrameOwner::NONE, |_| 40);
            done += store.lease(&mut memory, offset + done, 65_435 - done, &mut frame, None);
            frames += 1;
            for lease in frame.complete().into_iter().flat_map(|completion| completion.into_leases()) {
                memory.complete(lease);
            }
        }
        assert!(frames <= super::egress::FRAMES_A_SEGMENT, "{frames} frames from {offset}");
    }
    store.clear(&mut memory);
    assert_eq!(memory.in_use(), 0);
}
