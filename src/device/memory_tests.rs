#![allow(clippy::unwrap_used)]
use super::super::BUFFER_LEN;
use super::*;

fn two_sided(options: &MemoryOptions) -> (Vec<QueuePair>, Vec<QueuePair>) {
    let (mut a, mut b) = pair(options).unwrap();
    let queues = (a.take_queues(), b.take_queues());
    assert!(a.take_queues().is_empty(), "queues are taken once");
    queues
}

fn readable(fd: RawFd) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

#[test]
fn packets_cross_in_order_with_their_offload() {
    let (mut a, mut b) = two_sided(&MemoryOptions::default());
    let partial = TxOffload {
        checksum: TxChecksum::Partial { start: 20, offset: 16 },
        gso_size: 1448,
        header_len: 52,
        ipv6: false,
    };
    assert_eq!(a[0].1.transmit(b"head", &[b"one", b"two"], &partial).unwrap(), Transmitted::Sent);
    assert_eq!(a[0].1.transmit(b"next", &[], &NO_OFFLOAD).unwrap(), Transmitted::Sent);
    let mut buf = vec![0; BUFFER_LEN];
    let got = b[0].0.receive(&mut buf).unwrap().unwrap();
    assert_eq!(&buf[got.start..got.start + got.len], b"headonetwo");
    assert_eq!(got.offload, RxOffload { checksum: ChecksumStatus::Trusted, gso_size: 1448 });
    let got = b[0].0.receive(&mut buf).unwrap().unwrap();
    assert_eq!(&buf[got.start..got.start + got.len], b"next");
    assert_eq!(got.offload, RxOffload { checksum: ChecksumStatus::Unverified, gso_size: 0 });
    assert_eq!(b[0].0.receive(&mut buf).unwrap(), None);
    assert_eq!(a[0].0.receive(&mut buf).unwrap(), None, "nothing comes back to the sender");
}

#[test]
fn a_full_queue_is_back_pressure_or_a_counted_drop() {
    let mut buf = vec![0; BUFFER_LEN];
    let (mut a, mut b) = two_sided(&MemoryOptions { slots: 2, ..MemoryOptions::default() });
    for _ in 0..2 {
        assert_eq!(a[0].1.transmit(b"x", &[], &NO_OFFLOAD).unwrap(), Transmitted::Sent);
    }
    assert_eq!(a[0].1.transmit(b"x", &[], &NO_OFFLOAD).unwrap(), Transmitted::Full);
    assert!(b[0].0.receive(&mut buf).unwrap().is_some());
    assert_eq!(a[0].1.transmit(b"x", &[], &NO_OFFLOAD).unwrap(), Transmitted::Sent);

    let options = MemoryOptions { slots: 2, overflow: Overflow::Drop, ..MemoryOptions::default() };
    let (mut a, b) = pair(&options).unwrap();
    let mut queues = a.take_queues();
    for _ in 0..5 {
        assert_eq!(queues[0].1.transmit(b"x", &[], &NO_OFFLOAD).unwrap(), Transmitted::Sent);
    }
    assert_eq!((a.dropped(), b.dropped()), (0, 3));
}

#[test]
fn steering_is_the_receiving_sides_choice() {
    let by_first_octet: Steering = Arc::new(|_, header| usize::from(header[0]));
    let options = MemoryOptions { queues: 3, steering: Some(by_first_octet), ..MemoryOptions::default() };
    let (mut a, mut b) = two_sided(&options);
    let mut buf = vec![0; BUFFER_LEN];
    for first in [2u8, 0, 4] {
        assert_eq!(a[1].1.transmit(&[first], &[], &NO_OFFLOAD).unwrap(), Transmitted::Sent);
    }
    for (queue, expected) in [(0usize, 0u8), (1, 4), (2, 2)] {
        assert!(b[queue].0.receive(&mut buf).unwrap().is_some());
        assert_eq!(buf[0], expected);
        assert_eq!(b[queue].0.receive(&mut buf).unwrap(), None);
    }
}

#[test]
fn the_descriptor_tells_of_packets_after_an_empty_look() {
    let (mut a, mut b) = two_sided(&MemoryOptions::default());
    let mut buf = vec![0; BUFFER_LEN];
    let fd = b[0].0.fd().unwrap();
    assert_eq!(b[0].0.receive(&mut buf).unwrap(), None);
    assert!(!readable(fd));
    for _ in 0..2 {
        for _ in 0..2 {
            assert_eq!(a[0].1.transmit(b"x", &[], &NO_OFFLOAD).unwrap(), Transmitted::Sent);
        }
        assert!(readable(fd));
        while b[0].0.receive(&mut buf).unwrap().is_some() {}
        assert!(!readable(fd), "an emptied queue is not readable");
    }
}

#[test]
fn no_wake_up_is_lost_between_threads() {
    const PACKETS: u32 = 20_000;
    let (mut a, mut b) = two_sided(&MemoryOptions { slots: 4, ..MemoryOptions::default() });
    let sender = std::thread::spawn(move || {
        for i in 0..PACKETS {
            while a[0].1.transmit(&i.to_be_bytes(), &[], &NO_OFFLOAD).unwrap() == Transmitted::Full {
                std::thread::yield_now();
            }
        }
        a
    });
    let mut buf = vec![0; BUFFER_LEN];
    let fd = b[0].0.fd().unwrap();
    let mut next = 0;
    while next < PACKETS {
        if b[0].0.receive(&mut buf).unwrap().is_some() {
            assert_eq!(buf[..4], next.to_be_bytes());
            next += 1;
            continue;
        }
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 10_000) };
        assert_eq!(ready, 1, "slept through packet {next}");
    }
    sender.join().unwrap();
}

#[test]
fn a_port_is_the_world_to_a_device() {
    let (mut device, mut port) =
        port(&MemoryOptions { queues: 2, offload: false, ..MemoryOptions::default() }).unwrap();
    let mut queues = device.take_queues();
    let mut buf = vec![0; BUFFER_LEN];
    assert!(port.inject(b"ping"));
    let got = queues[0].0.receive(&mut buf).unwrap().unwrap();
    assert_eq!(&buf[..got.len], b"ping");
    assert_eq!(port.capture(), None);
    assert_eq!(queues[1].1.transmit(b"po", &[b"ng"], &NO_OFFLOAD).unwrap(), Transmitted::Sent);
    assert_eq!(port.capture().unwrap(), b"pong");
    assert_eq!(
        queues[1].1.transmit(&[0; 1501], &[], &NO_OFFLOAD).unwrap(),
        Transmitted::Dropped,
        "longer than the MTU"
    );
}

#[test]
fn steering_by_owner_is_the_tables_word() {
    use crate::flow::{Endpoint, Quad, ShardId};
    use crate::wire::tcp::Flags;
    let keys = SteeringKeys::from_random([7; 16]);
    let table = Arc::new(OwnerTable::in_memory(4));
    let (src, dst) = super::super::segment::tests::V4;
    let packet = super::super::segment::tests::packet((src, dst), 1, Flags::SYN, b"");
    let hash = keys.hash_quad(&Quad { local: Endpoint::new(dst, 80), remote: Endpoint::new(src, 1000) });
    let steering = Some(steer_by_owner(keys, Arc::clone(&table)));
    let (mut device, mut port) = port(&MemoryOptions { queues: 4, steering, ..MemoryOptions::default() }).unwrap();
    let mut queues = device.take_queues();
    let mut buf = vec![0; BUFFER_LEN];
    for owner in [ShardId(2), ShardId(0), ShardId(3)] {
        table.set(hash, Some(owner));
        assert!(port.inject(&packet));
        for (queue, (rx, _)) in queues.iter_mut().enumerate() {
            assert_eq!(rx.receive(&mut buf).unwrap().is_some(), queue == owner.index());
        }
    }
}

#[test]
fn a_device_follows_the_owner_table_it_is_given() {
    let keys = SteeringKeys::from_random([7; 16]);
    let table = Arc::new(OwnerTable::in_memory(4));
    let (mut device, mut port) = port(&MemoryOptions { queues: 4, ..MemoryOptions::default() }).unwrap();
    assert!(device.steer_by_owner(&keys, &table));
    let mut queues = device.take_queues();
    let mut buf = vec![0; BUFFER_LEN];
    for last in 0..64u8 {
        let packet = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 7, 0, last, 10, 7, 0, 2];
        assert!(port.inject(&packet));
        let owner = table.owner(keys.hash_packet(&packet)).index();
        assert!(queues[owner].0.receive(&mut buf).unwrap().is_some());
    }
}
