//! Random worlds: two hosts, a bad link, sockets that write and read in pieces; the octets are exact in each.

use proptest::prelude::*;
use trust::embed::Builder;
use trust::net::SocketLimits;
use trust::tcp::{Config, CongestionControl, Duration};

use crate::link::{Fate, Link, client, octets, server};
use crate::transfers::{exchange, read_some, write_some};

/// Loss, delay that reorders, and copies, by dice of their own. In the long run something gets through.
fn bad(seed: u64, loss: u8, jitter: u64, copies: u8) -> Fate {
    let mut dice = fastrand::Rng::with_seed(seed);
    Box::new(move |_| {
        let delay = Duration::from_micros(1_000 + dice.u64(..=jitter));
        let copy = (dice.u8(..100) < copies).then(|| Duration::from_micros(1_000 + dice.u64(..=2 * jitter)));
        ((dice.u8(..100) >= loss).then_some(delay), copy)
    })
}

/// One side of a world.
fn side() -> impl Strategy<Value = (u16, bool, bool, bool, usize, usize, usize)> {
    let mtu = prop_oneof![Just(576), Just(1_500), Just(9_000), Just(65_535), 576..=65_535u16];
    (mtu, any::<bool>(), any::<bool>(), any::<bool>(), 1..60_000usize, 1..20_000usize, 1_000..100_000usize)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn octets_are_exact_in_random_worlds(
        seed in any::<u64>(),
        sides in [side(), side()],
        loss in 0..20u8,
        jitter in 0..8_000u64,
        copies in 0..10u8,
    ) {
        let made = |builder: Builder, side: usize| {
            let (mtu, timestamps, sack, reno, _, _, queue) = sides[side];
            let sockets = SocketLimits { send_queue: queue, receive_queue: queue / 2, ..SocketLimits::default() };
            let congestion = if reno { CongestionControl::Reno } else { CongestionControl::Cubic };
            let tcp = Config { timestamps, sack, ..Config::default() };
            builder.seed(seed ^ side as u64).mtu(mtu).tcp(tcp).congestion(congestion).sockets(sockets)
        };
        let mut link = Link::new(made(client(), 0), made(server(), 1), bad(seed, loss, jitter, copies));
        let data = [octets(sides[0].4, 1), octets(sides[1].4, 2)];
        exchange(&mut link, 80, [&data[0], &data[1]], [sides[0].5, sides[1].5]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes in, nothing panics, all buffers come home, and who is connected stays so.
    #[test]
    fn nonsense_between_packets_does_no_harm(
        junk in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..20),
    ) {
        let mut link = Link::usual();
        let (_listener, stream, accepted) = link.connect(80);
        let (data, mut done, mut got) = (octets(5_000, 1), 0, Vec::new());
        write_some(&stream, &data, &mut done, data.len());
        let mut packets = Vec::new();
        link.client.poll(link.now, |packet| packets.push(packet.to_vec()));
        for packet in &packets {
            for noise in &junk {
                link.server.receive(noise);
            }
            for (place, flip) in &flips {
                // One wrong octet: a checksum tells.
                let mut damaged = packet.clone();
                *place.get_mut(&mut damaged) ^= flip;
                link.server.receive(&damaged);
            }
            link.server.receive(packet);
            link.server.poll(link.now, |_| ());
        }
        read_some(&accepted, &mut got, 10_000);
        prop_assert!(got == data, "{} of {}", got.len(), data.len());
        prop_assert_eq!(link.server.buffers_in_use(), 0);
    }
}
