//! Tests of packet buffers and their pool.
#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn range_is_what_was_set_and_trimmed() {
    let mut packet = PacketBuf::new(3, 32);
    assert!(packet.is_empty() && packet.bytes().is_empty());
    for (octet, value) in packet.storage_mut().iter_mut().zip(0..) {
        *octet = value;
    }
    packet.set_range(10, 6);
    assert_eq!(packet.bytes(), [10, 11, 12, 13, 14, 15]);
    packet.trim_front(2);
    packet.truncate(3);
    packet.bytes_mut()[0] = 99;
    assert_eq!((packet.start(), packet.bytes()), (12, &[99, 13, 14][..]));
    packet.truncate(100);
    packet.trim_front(100);
    assert_eq!((packet.start(), packet.len(), packet.capacity(), packet.pool()), (15, 0, 32, 3));
    packet.set_range(32, 0);
    packet.set_range(0, 32);
}

#[test]
#[should_panic(expected = "beyond the packet buffer")]
fn range_beyond_the_buffer_is_refused() {
    PacketBuf::new(0, 32).set_range(usize::MAX, 2);
}

#[test]
fn pool_is_last_in_first_out_and_bounded() {
    let mut pool = PacketPool::new(1, 3, 16);
    let mut out: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
    assert_eq!((out.len(), pool.available(), pool.capacity(), pool.id()), (3, 0, 3, 1));
    out[1].set_range(4, 4);
    let address = out[1].storage_mut().as_ptr();
    pool.put(out.remove(0));
    pool.put(out.remove(0));
    let mut again = pool.take().unwrap();
    assert_eq!((again.storage_mut().as_ptr(), again.len()), (address, 0));
}

#[test]
#[should_panic(expected = "wrong pool")]
fn pool_refuses_the_buffer_of_another() {
    PacketPool::new(1, 0, 0).put(PacketBuf::new(2, 8));
}

#[test]
fn size_of_a_buffer() {
    assert!(size_of::<PacketBuf>() <= 32);
}

/// Of the pool's memory, octets that the kernel holds. All of its buffers are at home.
#[cfg(not(miri))]
fn resident(pool: &PacketPool) -> usize {
    pool.free.iter().map(|buffer| pages::resident(&buffer.data)).sum()
}

#[test]
#[cfg(not(miri))]
fn buffers_used_at_a_peak_give_their_pages_back() {
    const LEN: usize = 65_600;
    let mut pool = PacketPool::new(0, 200, LEN);
    assert!(!pool.has_idle() && !pool.has_many_out(), "none was ever used");
    let fresh = resident(&pool);
    assert!(fresh <= 200 * 2 * 4_096, "{fresh} octets of buffers that were never used");
    assert_eq!(pool.give_back(1_000), 0);
    let peak = |pool: &mut PacketPool, count: usize| {
        let mut out: Vec<_> = (0..count).map(|_| pool.take().unwrap()).collect();
        out.iter_mut().for_each(|buffer| buffer.storage_mut().fill(7));
        pool.note_use();
        let many = pool.has_many_out();
        out.into_iter().for_each(|buffer| pool.put(buffer));
        many
    };
    // What the next burst takes stays as it is.
    for count in [1, STOCK, 2] {
        assert!(!peak(&mut pool, count) && !pool.has_idle(), "{count}");
        assert_eq!(pool.give_back(1_000), 0);
    }
    assert!(peak(&mut pool, 180) && pool.has_idle());
    let before = resident(&pool);
    assert!(before >= 180 * LEN, "{before}");
    assert_eq!(pool.give_back(1_000), 0, "they were in use a moment ago");
    assert!(!peak(&mut pool, 4) && pool.has_idle());
    assert_eq!(pool.give_back(50), 50, "no more than were asked for");
    assert_eq!(pool.give_back(1_000), 126);
    assert!(!pool.has_idle());
    assert_eq!(pool.give_back(1_000), 0);
    let after = resident(&pool);
    // The pages at the ends of a buffer belong to others, too.
    assert!(after <= before - 176 * (LEN - 2 * 4_096), "{before} to {after}");
    // They are as good as before.
    peak(&mut pool, 200);
    assert!(pool.free.iter().all(|buffer| buffer.data.iter().all(|octet| *octet == 7)));
    assert_eq!((pool.give_back(1_000), pool.give_back(1_000)), (0, 196));
}
