//! What costs memory before it is used: listeners, and the rings between many shards.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use trust::buffer::packet::PacketBuf;
use trust::buffer::ring::ring;
use trust::embed::Host;
use trust::tcp::Instant;

use crate::counting;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

/// Octets that `make` allocates and keeps.
fn kept<T>(make: impl FnOnce() -> T) -> (u64, T) {
    let before = counting::live();
    let made = make();
    (counting::live() - before, made)
}

pub(crate) fn listeners() {
    const LISTENERS: u16 = 1_000;
    let mut host = Host::builder().address(ADDRESS).seed(1).build(Instant::ZERO).unwrap();
    let stack = host.stack();
    let (octets, listeners) = kept(|| {
        let bind = |port| stack.bind(SocketAddr::new(ADDRESS, port)).unwrap();
        let listeners: Vec<_> = (1_000..1_000 + LISTENERS).map(bind).collect();
        host.poll(Instant::ZERO, |_| {});
        listeners
    });
    let each = octets / u64::from(LISTENERS);
    println!("a listener costs {each} octets");
    assert!(each < 2_048, "{each} octets a listener");
    drop(listeners);
}

/// Each of 128 receiving stages has a ring to each of 128 shards, and one back for its buffers.
pub(crate) fn rings() {
    const SHARDS: usize = 128;
    const CAPACITY: usize = 4_096;
    let (octets, mut rings) = kept(|| (0..SHARDS * SHARDS).map(|_| ring::<PacketBuf>(CAPACITY)).collect::<Vec<_>>());
    println!("{SHARDS} x {SHARDS} idle rings cost {octets} octets");
    assert!(octets < 32 << 20, "{octets} octets");
    // Looking into them changes nothing.
    let (octets, ()) = kept(|| {
        for (producer, consumer) in &mut rings {
            assert!(producer.has_room(1) && producer.room() == CAPACITY && consumer.is_empty());
            assert!(consumer.pop().is_none() && consumer.drain(10).next().is_none());
        }
    });
    assert_eq!(octets, 0);
    let (octets, ()) = kept(|| rings[0].0.push(PacketBuf::new(0, 64)).unwrap());
    assert!(octets as usize >= CAPACITY * size_of::<PacketBuf>(), "the first item brings the slots");
}
