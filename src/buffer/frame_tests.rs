//! Tests of frames and completions.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    buffer::send_memory::SendMemory,
    wire::vnet::{TxChecksum, TxOffload},
};

fn offload() -> TxOffload {
    TxOffload { checksum: TxChecksum::Done, gso_size: 0, header_len: 0, ipv6: false }
}

const OWNER: FrameOwner = FrameOwner { slot: 1, generation: 2, end_seq: 3, bytes: 4 };

#[test]
fn a_frame_gathers_header_and_slices_and_gives_the_leases_back() {
    let (mut memory, reader) = SendMemory::new(1);
    let mut chunk = memory.allocate(10).unwrap();
    memory.append(&mut chunk, b"abcdef");
    let mut frame = TxFrame::new(offload(), OWNER, |octets| {
        octets[..2].copy_from_slice(&[7, 8]);
        2
    });
    frame.push(Payload::Block(memory.lease(&chunk, 0, 2))).unwrap();
    frame.push(Payload::Static(b"STATIC")).unwrap();
    frame.push(Payload::Block(memory.lease(&chunk, 4, 2))).unwrap();
    assert_eq!(frame.slices_left(), 1);
    frame.push(Payload::Static(b"!")).unwrap();
    assert!(matches!(frame.push(Payload::Static(b"?")), Err(Payload::Static(b"?"))));
    frame.header_mut()[0] = 9;
    assert_eq!(frame.header(), [9, 8]);
    assert_eq!(&*frame.payload(&reader), [&b"ab"[..], b"STATIC", b"ef", b"!"]);
    assert_eq!((frame.payload_len(), frame.len()), (11, 13));
    let completion = frame.complete().unwrap();
    assert_eq!(completion.owner, OWNER);
    completion.into_leases().for_each(|lease| memory.complete(lease));
    assert_eq!(memory.outstanding(), 0);
}

#[test]
fn only_frames_with_leases_or_an_owner_need_a_completion() {
    let mut frame = TxFrame::from_header(&[1; MAX_HEADER], offload(), FrameOwner::NONE);
    frame.push(Payload::Static(b"x")).unwrap();
    assert!(frame.complete().is_none());
    assert!(TxFrame::from_header(&[], offload(), OWNER).complete().is_some());
}

#[test]
#[should_panic(expected = "header of")]
fn a_header_is_bounded() {
    let _ = TxFrame::new(offload(), OWNER, |_| MAX_HEADER + 1);
}

#[test]
fn sizes() {
    assert!(size_of::<TxFrame>() <= 256, "{}", size_of::<TxFrame>());
    assert!(size_of::<Completion>() <= 80, "{}", size_of::<Completion>());
    assert!(size_of::<RxFrame>() <= 40, "{}", size_of::<RxFrame>());
}
