//! Nobody can take from others what they need: memory for what is sent and received, places in the table, time to answer
//! (OPS-46, architecture: guarantee, fair shares, eviction of who does nothing with what he holds).

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use trust::services::echo::Echo;
use trust::services::http::Http;
use trust::shard::{ConnId, Io, Service};
use trust::tcp::{CloseReason, Duration, State};
use trust::wire::tcp::Flags;

use crate::rig::{Call, Peer, Rig, endings, probe};

const PORT: u16 = 7;
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends `octets` in segments for as long as the shard takes them; how many it took.
fn push(rig: &mut Rig, peer: &mut Peer, octets: usize) -> usize {
    let mut done = 0;
    while done < octets {
        let before = rig.counters().payload_in;
        let segment = peer.packet_at(0, Flags::ACK | Flags::PSH, &[7; 1_400][..1_400.min(octets - done)]);
        rig.turn(&[segment]);
        let taken = (rig.counters().payload_in - before) as u32;
        if taken == 0 {
            break;
        }
        peer.seq = peer.seq.wrapping_add(taken);
        done += taken as usize;
    }
    done
}

/// Reads only when told to, and then from all connections.
fn reader_on_demand() -> (Box<dyn Service>, Arc<Mutex<Vec<Call>>>) {
    let mut open: Vec<ConnId> = Vec::new();
    probe(move |io, call| match call {
        Call::Accepted(conn) => open.push(*conn),
        Call::Closed(conn, _) => open.retain(|other| other != conn),
        Call::Message(_) => open.iter().for_each(|conn| io.consume(*conn, io.unread(*conn))),
        _ => {}
    })
}

/// Receive memory for which 40 peers of a service that does not read compete with one who comes late.
#[test]
fn ops_46_what_is_not_read_leaves_room_for_others() {
    let limit = |config: &mut trust::shard::ShardConfig| {
        config.limits.held_octets = 4 << 20;
        config.limits.held_packets = 0;
    };
    let mut rig = Rig::with(limit, 256, 1_024);
    let (idle, _) = probe(|_, _| {});
    rig.shard.add_service(Some(9), idle);
    rig.shard.add_service(Some(PORT), Box::new(Echo));
    let mut greedy: Vec<_> = (0..40).map(|place| rig.connect(40_000 + place, 9)).collect();
    let taken: Vec<_> = greedy.iter_mut().map(|peer| push(&mut rig, peer, 128 << 10)).collect();
    assert!(taken.iter().sum::<usize>() > 1 << 20, "{taken:?}");
    assert!(rig.counters().held_octets <= (4 << 20) * 3 / 4, "the guarantees of others are left");
    // One who is served at once, and one who waits for its reader.
    let mut honest = rig.connect(50_000, PORT);
    assert_eq!(push(&mut rig, &mut honest, 5), 5);
    honest.take(&mut rig);
    assert_eq!(honest.got, [7; 5]);
    let mut late = rig.connect(50_001, 9);
    assert!(push(&mut rig, &mut late, 128 << 10) >= 3_000);
    assert_eq!(rig.counters().evicted_for_receive_memory, 0);
}

/// Out of order goes first, then the share of each in order; ACKs are processed, and what was refused is taken later.
#[test]
fn ops_46_memory_pressure_refuses_first_what_is_out_of_order_then_more_than_a_share() {
    let limit = |config: &mut trust::shard::ShardConfig| {
        config.limits.held_octets = 256 << 10;
        config.limits.held_packets = 0;
    };
    let mut rig = Rig::with(limit, 256, 1_024);
    let (service, calls) = reader_on_demand();
    rig.shard.add_service(Some(PORT), service);
    let mut peer = rig.connect(40_000, PORT);
    rig.turn(&[peer.packet_at(5_000, Flags::ACK, &[2; 1_400])]);
    let counters = rig.counters();
    assert_eq!((counters.held_octets, counters.payload_refused), (0, 0), "beyond its first window");
    let taken = push(&mut rig, &mut peer, 60_000);
    assert!((15_000..25_000).contains(&taken), "guarantee and an eighth of the common half: {taken}");
    let before = rig.counters();
    assert!(before.payload_refused > 0);
    rig.turn(&[peer.packet_at(100, Flags::ACK, &[2; 100])]);
    assert_eq!(rig.counters().held_octets, before.held_octets, "out of order is refused");
    assert_eq!(rig.counters().payload_refused, before.payload_refused + 100);
    // Its window has followed; others have their share.
    let mut other = rig.connect(40_001, PORT);
    assert!(push(&mut rig, &mut other, 60_000) > 12_000);
    rig.begin();
    rig.shard.message(0, trust::flow::ShardId(0), Box::new(()));
    rig.finish();
    assert_eq!(rig.counters().held_octets, 0);
    assert!(push(&mut rig, &mut peer, 10_000) >= 10_000, "the reader has woken up");
    assert!(endings(&calls).is_empty());
    for peer in [&peer, &other] {
        rig.turn(&[peer.rst()]);
    }
    rig.sent.clear();
    rig.assert_empty();
}

/// A rig whose receive memory is short: `holders` peers hold all they can get, in the order of their ports.
fn short_of_receive_memory(holders: u16) -> (Rig, Vec<Peer>, Arc<Mutex<Vec<Call>>>) {
    let limit = |config: &mut trust::shard::ShardConfig| {
        config.limits.held_octets = 2 << 20;
        config.limits.held_packets = 0;
    };
    let mut rig = Rig::with(limit, 256, 1_024);
    let (service, calls) = reader_on_demand();
    rig.shard.add_service(Some(PORT), service);
    let mut peers = Vec::new();
    for place in 0..holders {
        let mut peer = rig.connect(40_000 + place, PORT);
        push(&mut rig, &mut peer, 64 << 10);
        rig.now += Duration::from_millis(1);
        peers.push(peer);
    }
    rig.sent.clear();
    (rig, peers, calls)
}

/// One who comes when memory is short is asked for no more than can be kept: what fits the window is never refused, which
/// its sender would learn by a timeout. As it gives back, its window grows.
#[test]
fn ops_46_no_window_promises_more_than_can_be_kept() {
    let (mut rig, _greedy, _) = short_of_receive_memory(100);
    rig.shard.add_service(Some(9), Box::new(Echo));
    let mut peer = Peer::new(50_000, 9);
    rig.turn(&[peer.syn()]);
    let syn_ack = rig.next().header;
    let shift = syn_ack.options.window_scale.expect("both scale");
    let mut edge = syn_ack.ack.wrapping_add(u32::from(syn_ack.window));
    (peer.seq, peer.ack) = (syn_ack.ack, syn_ack.seq.wrapping_add(1));
    let (mut windows, mut sent) = (Vec::new(), 0);
    for _ in 0..60 {
        let window = edge.wrapping_sub(peer.seq) as usize;
        windows.push(window);
        let before = rig.counters().payload_in;
        let burst: Vec<_> = [5; 65_536][..window.min(65_536)].chunks(1_400).map(|octets| peer.data(octets)).collect();
        rig.turn(&burst);
        sent += window as u64;
        assert_eq!(rig.counters().payload_in - before, window as u64, "of {windows:?}");
        for _ in 0..100 {
            for answer in rig.sent.iter().filter(|answer| answer.header.dst_port == peer.port) {
                edge = answer.header.ack.wrapping_add(u32::from(answer.header.window) << shift);
            }
            peer.take(&mut rig);
            if peer.got.len() as u64 == sent {
                break;
            }
            rig.turn(&[peer.ack()]);
        }
        assert_eq!(peer.got.len() as u64, sent, "all of it comes back");
        peer.got.clear();
        sent = 0;
        rig.advance(Duration::from_millis(50));
    }
    assert_eq!(windows[0], 4_096, "the guarantee");
    assert!(windows.iter().skip(20).all(|window| *window > 8_192), "{windows:?}");
}

#[test]
fn holders_without_progress_give_way_after_30_seconds_the_longest_stalled_first() {
    let (mut rig, peers, calls) = short_of_receive_memory(400);
    rig.advance(Duration::from_secs(29));
    assert!(endings(&calls).is_empty(), "not earlier");
    rig.advance(Duration::from_millis(1_500));
    let reset = rig.counters().evicted_for_receive_memory;
    assert!((1..300).contains(&reset), "no more than it takes: {reset}");
    assert_eq!(endings(&calls), vec![CloseReason::Evicted; reset as usize]);
    let told: Vec<_> = rig.sent.iter().filter(|sent| sent.has(Flags::RST)).map(|sent| sent.header.dst_port).collect();
    let first: Vec<_> = peers.iter().take(reset as usize).map(|peer| peer.port).collect();
    assert_eq!(told, first, "each is told, in the order in which they stalled");
    rig.advance(Duration::from_secs(300));
    assert_eq!(rig.counters().evicted_for_receive_memory, reset, "and no more when memory is there");
}

/// As long as there is memory nobody is disturbed, however long he stalls.
#[test]
fn holders_are_left_alone_while_there_is_memory() {
    let (mut rig, peers, calls) = short_of_receive_memory(20);
    rig.advance(Duration::from_secs(3_600));
    assert!(endings(&calls).is_empty(), "{:?}", rig.counters());
    assert_eq!(rig.counters().connections, peers.len() as u64);
}

/// Who reads on, however slowly, is not stalled.
#[test]
fn holders_that_get_on_stay() {
    let (mut rig, mut peers, calls) = short_of_receive_memory(400);
    // All are read now; the first hundred then stall again.
    rig.advance(Duration::from_secs(20));
    rig.begin();
    rig.shard.message(0, trust::flow::ShardId(0), Box::new(()));
    rig.finish();
    for peer in &mut peers {
        push(&mut rig, peer, 64 << 10);
    }
    rig.advance(Duration::from_secs(20));
    assert!(endings(&calls).is_empty(), "20 s since the last progress");
    rig.advance(Duration::from_secs(15));
    assert!(!endings(&calls).is_empty());
}

/// Peers that ask for much, close their windows and answer every probe never run into R2 (MUST-37); they do not keep others
/// from what they need, and go when memory is short.
#[test]
fn ops_46_closed_windows_that_answer_probes_leave_send_memory_to_others() {
    let sender = |io: &mut dyn Io, call: &Call| {
        if let Call::Accepted(conn) | Call::Writable(conn) = call {
            while io.send(*conn, &[3; 4_096]) > 0 {}
        }
    };
    let mut rig = Rig::with(|config| config.tcp.rto.max = Duration::from_secs(5), 32, 1_024);
    let (service, calls) = probe(sender);
    rig.shard.add_service(Some(9), service);
    rig.shard.add_service(Some(PORT), Box::new(Echo));
    let mut peers = Vec::new();
    for place in 0..300 {
        let mut peer = Peer { window: 0, ..Peer::new(40_000 + place, 9) };
        peer.open(&mut rig);
        peers.push(peer);
    }
    rig.settle();
    // What comes back leaves in pieces as small as what is left for each.
    let ask = |rig: &mut Rig, port: u16| {
        let mut honest = rig.connect(port, PORT);
        assert_eq!(push(rig, &mut honest, 1_000), 1_000);
        for _ in 0..4 {
            honest.take(rig);
            rig.turn(&[honest.ack()]);
        }
        honest.take(rig);
        honest.got.len()
    };
    assert_eq!(ask(&mut rig, 60_000), 1_000, "beside all of them");
    for _ in 0..10 {
        rig.advance(Duration::from_secs(4));
        for peer in &mut peers {
            peer.take(&mut rig);
            rig.turn(&[peer.ack()]);
        }
        rig.sent.clear();
    }
    let reset = rig.counters().evicted_for_send_memory;
    assert!(reset > 0, "{:?}", rig.counters());
    assert_eq!(endings(&calls), vec![CloseReason::Evicted; reset as usize]);
    assert_eq!(ask(&mut rig, 60_001), 1_000);
}

#[test]
fn a_full_table_has_a_place_for_who_comes_the_longest_silent_goes() {
    let mut rig = Rig::with(|config| config.limits.connections = 8, 256, 1_024);
    let (service, calls) = probe(|_, _| {});
    rig.shard.add_service(Some(PORT), service);
    let mut peers: Vec<_> = (0..8).map(|place| rig.connect(40_000 + place, PORT)).collect();
    rig.advance(PATIENCE);
    // All but the third and the sixth say something.
    for place in [0, 1, 3, 4, 6, 7] {
        let data = peers[place].data(b"x");
        rig.turn(&[data]);
    }
    for (place, silent) in [(0_u16, 2_usize), (1, 5)] {
        rig.connect(50_000 + place, PORT);
        peers[silent].take(&mut rig);
        assert!(peers[silent].got_reset);
        assert_eq!(rig.counters().evicted_idle, u64::from(place) + 1);
        assert_eq!(rig.counters().connections, 8);
    }
    assert_eq!(endings(&calls), [CloseReason::Evicted; 2]);
    rig.sent.clear();
    rig.turn(&[Peer::new(51_000, PORT).syn()]);
    assert!(rig.sent.is_empty(), "no answer: there is no place");
    assert_eq!(endings(&calls).len(), 2, "nobody else has been silent for so long");
}

#[test]
fn a_full_table_stays_full_where_idle_connections_are_to_stay() {
    struct Keeper(Box<dyn Service>);
    impl Service for Keeper {
        fn keeps_idle(&self) -> bool {
            true
        }
        fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
            self.0.accepted(io, conn);
        }
        fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
            self.0.readable(io, conn);
        }
    }
    for (patience, keeps) in [(None, false), (Some(PATIENCE), true)] {
        let full = |config: &mut trust::shard::ShardConfig| {
            config.limits.connections = 3;
            config.limits.idle_eviction = patience;
        };
        let mut rig = Rig::with(full, 256, 1_024);
        let (service, calls) = probe(|_, _| {});
        let service: Box<dyn Service> = if keeps { Box::new(Keeper(service)) } else { service };
        rig.shard.add_service(Some(PORT), service);
        for place in 0..3 {
            rig.connect(40_000 + place, PORT);
        }
        rig.advance(Duration::from_secs(3_600));
        let mut peer = Peer::new(50_000, PORT);
        rig.sent.clear();
        rig.turn(&[peer.syn()]);
        if let Some(syn_ack) = rig.sent.pop_front() {
            (peer.seq, peer.ack) = (syn_ack.header.ack, syn_ack.header.seq.wrapping_add(1));
            rig.turn(&[peer.ack()]);
        }
        assert_eq!((rig.counters().evicted_idle, rig.counters().connections), (0, 3), "{patience:?} {keeps}");
        assert!(endings(&calls).is_empty());
    }
}

/// The process was stopped, or the clock was set: data in flight is sent again before the peer is given up (MUST-20), by
/// R2, by a user's limit, by an orphan's.
#[test]
fn time_away_is_not_the_peers_silence() {
    let once = |io: &mut dyn Io, call: &Call| {
        if let Call::Accepted(conn) = call {
            io.send(*conn, &[3; 1_000]);
        }
    };
    let limited = |io: &mut dyn Io, call: &Call| {
        if let Call::Accepted(conn) = call {
            io.set_user_timeout(*conn, Some(Duration::from_secs(10)));
            io.send(*conn, &[3; 1_000]);
        }
    };
    let left = |io: &mut dyn Io, call: &Call| {
        if let Call::Accepted(conn) = call {
            io.send(*conn, &[3; 1_000]);
            io.close(*conn);
        }
    };
    let all: [fn(&mut dyn Io, &Call); 3] = [once, limited, left];
    for (which, act) in all.into_iter().enumerate() {
        for away in [2, 65, 16 * 60, 30 * 24 * 3_600] {
            let mut rig = Rig::new();
            let (service, calls) = probe(act);
            rig.shard.add_service(Some(PORT), service);
            let mut peer = rig.connect(40_000, PORT);
            rig.sent.clear();
            rig.now += Duration::from_secs(away);
            rig.turn(&[]);
            rig.advance(Duration::from_millis(1_500));
            assert!(endings(&calls).is_empty(), "{which}, {away} s: {:?}", endings(&calls));
            assert_eq!(rig.counters().absences, 1, "{which}, {away} s");
            peer.take(&mut rig);
            assert_eq!(peer.got, [3; 1_000], "{which}, {away} s: sent again");
            // And still the limit holds, once the shard runs.
            rig.advance(Duration::from_secs(1_200));
            assert_eq!(endings(&calls).len(), 1, "{which}, {away} s");
        }
    }
}

/// What the peer sent meanwhile counts before any timer does.
#[test]
fn packets_that_waited_while_we_were_away_are_looked_at_before_timers() {
    let mut rig = Rig::new();
    let (service, _) = probe(|io, call| {
        if let Call::Accepted(conn) = call {
            io.send(*conn, &[3; 1_000]);
        }
    });
    rig.shard.add_service(Some(PORT), service);
    let mut peer = rig.connect(40_000, PORT);
    peer.take(&mut rig);
    let ack = peer.ack();
    rig.now += Duration::from_secs(65);
    rig.turn(&[ack]);
    rig.advance(Duration::from_secs(5));
    let counters = rig.counters();
    assert_eq!((counters.retransmits, counters.retransmission_timeouts, counters.tail_probes), (0, 0, 0));
}

/// A service's own limits wait, too: a download goes on.
#[test]
fn time_away_does_not_end_a_download() {
    for away in [65, 3_600] {
        let mut rig = Rig::new();
        rig.shard.add_service(Some(80), Box::new(Http::new(Arc::new(SystemTime::now))));
        let mut peer = rig.connect(40_000, 80);
        let get = peer.data(b"GET /bytes/1000000 HTTP/1.1\r\nHost: a\r\n\r\n");
        rig.turn(&[get]);
        let mut stopped = false;
        for _ in 0..2_000 {
            peer.take(&mut rig);
            if peer.got.len() > 200_000 && !std::mem::replace(&mut stopped, true) {
                rig.now += Duration::from_secs(away);
            }
            let ack = peer.ack();
            rig.turn(&[ack]);
            rig.advance(Duration::from_millis(20));
        }
        assert!(stopped && !peer.got_reset, "{away} s");
        assert!(peer.got.len() > 1_000_000, "{away} s: {}", peer.got.len());
    }
}

/// Being late by less, or having nothing to do for long, is no absence.
#[test]
fn a_shard_that_waits_for_nothing_is_not_away() {
    let mut rig = Rig::new();
    let (service, _) = probe(|_, _| {});
    rig.shard.add_service(Some(PORT), service);
    let mut peer = rig.connect(40_000, PORT);
    rig.advance(Duration::from_secs(3_600));
    let data = peer.data(b"x");
    rig.turn(&[data]);
    // The delayed ACK is due within the second.
    rig.now += Duration::from_millis(900);
    rig.turn(&[]);
    assert_eq!(rig.counters().absences, 0);
    let states: Vec<_> = rig.shard.connections().map(|(_, _, state)| state).collect();
    assert_eq!(states, [State::Established]);
}

/// Beside those who hold all that can be had, a reader that keeps up gets whole super-segments, and a sender whose peer
/// acknowledges has a super-segment's worth under way.
#[test]
fn ops_46_who_gives_back_at_once_is_not_slowed_down_by_those_who_do_not() {
    let limit = |config: &mut trust::shard::ShardConfig| {
        config.limits.held_octets = 16 << 20;
        config.limits.held_packets = 0;
    };
    let mut rig = Rig::with(limit, 256, 1_024);
    let (idle, _) = probe(|_, _| {});
    rig.shard.add_service(Some(9), idle);
    rig.shard.add_service(Some(PORT), Box::new(Echo));
    let mut transfer = rig.connect(40_000, PORT);
    let mut echoed = 0;
    let mut round = |rig: &mut Rig, octets: usize| {
        let before = rig.counters().payload_in;
        let segment = transfer.packet_at(0, Flags::ACK | Flags::PSH, &vec![7; octets]);
        rig.turn(&[segment]);
        let taken = (rig.counters().payload_in - before) as u32;
        transfer.seq = transfer.seq.wrapping_add(taken);
        for _ in 0..64 {
            transfer.take(rig);
            rig.turn(&[transfer.ack()]);
        }
        echoed += transfer.got.len();
        transfer.got.clear();
        taken
    };
    for _ in 0..20 {
        assert_eq!(round(&mut rig, 20_000), 20_000);
    }
    // One crowd reads nothing of what comes back, the other is not read.
    let mut crowd: Vec<_> =
        (0..400).map(|place| rig.connect(41_000 + place, if place < 200 { 9 } else { PORT })).collect();
    for peer in &mut crowd {
        push(&mut rig, peer, 64 << 10);
    }
    rig.sent.clear();
    for step in 0..20 {
        assert_eq!(round(&mut rig, 60_000), 60_000, "segment {step}: {:?}", rig.counters());
    }
    assert_eq!(echoed, 20 * 80_000);
    // What it has moved before is what it may have under way: not one super-segment, but a window of them.
    let (before, mut sent) = (rig.counters().payload_in, 0);
    for _ in 0..6 {
        let segment = transfer.packet_at(0, Flags::ACK | Flags::PSH, &vec![7; 60_000]);
        transfer.seq = transfer.seq.wrapping_add(60_000);
        rig.turn(&[segment]);
        sent += 60_000;
    }
    assert_eq!(rig.counters().payload_in - before, sent, "{:?}", rig.counters());
    for _ in 0..64 {
        transfer.take(&mut rig);
        rig.turn(&[transfer.ack()]);
    }
    assert_eq!(transfer.got.len() as u64, sent);
}
