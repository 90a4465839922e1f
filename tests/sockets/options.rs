//! Socket options: what `get` says after `set`, what is refused, what there is at first, and TCP_INFO.

use std::io::{self, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::stack::{Info, Listener, Stack, Stream, state};
use crate::support::*;

crate::behaviours! {
    first_values,
    flags_round_trip,
    shared_with_clones,
    none_of_the_peers,
    ttl_round_trip,
    ttl_bounds,
    keepalive_round_trip,
    keepalive_bounds,
    linger_round_trip,
    user_timeout_round_trip,
    maxseg_is_that_of_the_path,
    maxseg_bounds,
    maxseg_of_the_open_holds_for_both,
    congestion_round_trip,
    congestion_unknown_is_refused,
    send_buffer_is_doubled,
    receive_buffer_is_doubled,
    buffers_have_a_least_size,
    receive_buffer_limits_what_waits,
    notsent_lowat_round_trip,
    notsent_lowat_limits_what_waits,
    tos_round_trip,
    tos_keeps_the_ecn_bits,
    info_of_a_fresh_connection,
    info_counts_octets,
    info_measures_round_trips,
    info_after_the_end,
    idle_keepalive_is_answered,
    set_before_data_holds_during_it,
}

type Set<T> = fn(&T, bool) -> io::Result<()>;
type Get<T> = fn(&T) -> io::Result<bool>;

/// Options that are on or off and stay so.
fn flags<T: Stream>() -> [(&'static str, Set<T>, Get<T>); 4] {
    [
        ("nodelay", T::set_nodelay, T::nodelay),
        ("keepalive", T::set_keepalive, T::keepalive),
        ("cork", T::set_cork, T::cork),
        ("oobinline", T::set_oobinline, T::oobinline),
    ]
}

fn first_values<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    for stream in [&client, &server] {
        for (name, _, get) in flags::<S::Stream>() {
            assert!(!get(stream).unwrap(), "{name}");
        }
        assert_eq!(stream.ttl().unwrap(), 64);
        assert_eq!(stream.linger().unwrap(), None);
        assert_eq!((stream.read_timeout().unwrap(), stream.write_timeout().unwrap()), (None, None));
        assert_eq!(stream.user_timeout().unwrap(), 0);
        assert_eq!(stream.keepalive_idle().unwrap(), 7200);
        assert_eq!(stream.keepalive_interval().unwrap(), 75);
        assert_eq!(stream.keepalive_count().unwrap(), 9);
        assert_eq!(stream.tos().unwrap(), 0);
        assert!(stream.take_error().unwrap().is_none());
    }
}

fn flags_round_trip<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    for (name, set, get) in flags::<S::Stream>() {
        for on in [true, true, false, false, true] {
            set(&client, on).unwrap();
            assert_eq!(get(&client).unwrap(), on, "{name}");
        }
    }
    client.set_quickack(true).unwrap();
    assert!(client.quickack().unwrap());
    client.set_quickack(false).unwrap();
    assert!(!client.quickack().unwrap());
}

fn shared_with_clones<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    let clone = client.try_clone().unwrap();
    for (name, set, get) in flags::<S::Stream>() {
        set(&client, true).unwrap();
        assert!(get(&clone).unwrap(), "{name}");
    }
    clone.set_ttl(9).unwrap();
    assert_eq!(client.ttl().unwrap(), 9);
}

fn none_of_the_peers<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    for (name, set, get) in flags::<S::Stream>() {
        set(&client, true).unwrap();
        assert!(!get(&server).unwrap(), "{name}");
    }
}

fn ttl_round_trip<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    for ttl in [1, 64, 255] {
        client.set_ttl(ttl).unwrap();
        assert_eq!(client.ttl().unwrap(), ttl);
        client.write_all(b"x").unwrap();
        assert_eq!(read_some(&server, 1), b"x");
    }
}

fn ttl_bounds<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    for ttl in [0, 256, 65_536] {
        assert_errno(client.set_ttl(ttl), libc::EINVAL);
    }
    assert_eq!(client.ttl().unwrap(), 64);
}

fn keepalive_round_trip<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    for (idle, interval, count) in [(1, 1, 1), (60, 10, 5), (32_767, 32_767, 127)] {
        client.set_keepalive_idle(idle).unwrap();
        client.set_keepalive_interval(interval).unwrap();
        client.set_keepalive_count(count).unwrap();
        assert_eq!(client.keepalive_idle().unwrap(), idle);
        assert_eq!(client.keepalive_interval().unwrap(), interval);
        assert_eq!(client.keepalive_count().unwrap(), count);
        assert!(!client.keepalive().unwrap(), "the times alone switch nothing on");
    }
}

fn keepalive_bounds<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    for seconds in [0, 32_768] {
        assert_errno(client.set_keepalive_idle(seconds), libc::EINVAL);
        assert_errno(client.set_keepalive_interval(seconds), libc::EINVAL);
    }
    for probes in [0, 128] {
        assert_errno(client.set_keepalive_count(probes), libc::EINVAL);
    }
    assert_eq!(client.keepalive_idle().unwrap(), 7200);
}

fn linger_round_trip<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    for linger in [Some(Duration::ZERO), Some(Duration::from_secs(7)), None] {
        client.set_linger(linger).unwrap();
        assert_eq!(client.linger().unwrap(), linger);
    }
}

fn user_timeout_round_trip<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    for milliseconds in [1, 30_000, i32::MAX as u32, 0] {
        client.set_user_timeout(milliseconds).unwrap();
        assert_eq!(client.user_timeout().unwrap(), milliseconds);
    }
    assert_errno(client.set_user_timeout(-1i32 as u32), libc::EINVAL);
}

fn maxseg_is_that_of_the_path<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    for stream in [&client, &server] {
        let octets = stream.maxseg().unwrap();
        assert!((536..=65_495).contains(&octets), "{octets}");
        // Linux keeps it below half the peer's window, which grows at first.
        eventually("one number", || stream.maxseg().unwrap() == stream.info().unwrap().snd_mss);
    }
}

fn maxseg_bounds<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    for octets in [1, 87, 32_768] {
        assert_errno(client.set_maxseg(octets), libc::EINVAL);
    }
    client.set_maxseg(1000).unwrap();
}

fn maxseg_of_the_open_holds_for_both<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let mut client = stack.connect_with_maxseg(address, 700).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        // With timestamps 12 octets less; Linux keeps it below half the peer's window, too.
        let octets = stream.maxseg().unwrap();
        assert!((500..=700).contains(&octets), "{octets}");
    }
    let data = noise(20_000, 31);
    client.write_all(&data).unwrap();
    assert_same(&read_some(&server, data.len()), &data);
    server.write_all(&data).unwrap();
    assert_same(&read_some(&client, data.len()), &data);
}

fn congestion_round_trip<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    let first = client.congestion().unwrap();
    assert!(!first.is_empty());
    client.set_congestion("reno").unwrap();
    assert_eq!(client.congestion().unwrap(), "reno");
    client.write_all(b"on we go").unwrap();
    assert_eq!(read_some(&server, 8), b"on we go");
    assert_eq!(server.congestion().unwrap(), first, "each end has its own");
}

fn congestion_unknown_is_refused<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    let first = client.congestion().unwrap();
    assert_errno(client.set_congestion("notthere"), libc::ENOENT);
    assert_eq!(client.congestion().unwrap(), first);
}

/// socket(7): the kernel's own needs are the other half.
fn send_buffer_is_doubled<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    for octets in [8_192, 65_536, 100_000] {
        client.set_send_buffer(octets).unwrap();
        assert_eq!(client.send_buffer().unwrap(), 2 * octets);
    }
}

fn receive_buffer_is_doubled<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    for octets in [8_192, 65_536, 100_000] {
        client.set_receive_buffer(octets).unwrap();
        assert_eq!(client.receive_buffer().unwrap(), 2 * octets);
    }
}

fn buffers_have_a_least_size<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    client.set_send_buffer(1).unwrap();
    client.set_receive_buffer(1).unwrap();
    assert!((1024..=65_536).contains(&client.send_buffer().unwrap()));
    assert!((1024..=65_536).contains(&client.receive_buffer().unwrap()));
    client.write_all(b"still works").unwrap();
    assert_eq!(read_some(&server, 11), b"still works");
}

fn receive_buffer_limits_what_waits<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let (large, _large_server) = connect_to(stack, &listener, address);
    let (small, small_server) = connect_to(stack, &listener, address);
    small_buffers(&small, &small_server);
    let (small, large) = (fill(&small), fill(&large));
    assert!(2 * small < large, "{small} against {large}");
    assert!(small_server.unread().unwrap() <= 64 * 1024);
}

fn notsent_lowat_round_trip<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    for octets in [1, 16_384, 1 << 20] {
        client.set_notsent_lowat(octets).unwrap();
        assert_eq!(client.notsent_lowat().unwrap(), octets);
    }
}

/// However much the buffers would take. Linux looks at the limit once for each piece of up to 64 KB.
fn notsent_lowat_limits_what_waits<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let (limited, limited_server) = connect_to(stack, &listener, address);
    let (free, _free_server) = connect_to(stack, &listener, address);
    limited.set_notsent_lowat(16_384).unwrap();
    fill(&limited);
    fill(&free);
    let (unsent, more) = (limited.not_sent().unwrap(), free.not_sent().unwrap());
    assert!(unsent <= 100_000 && 2 * unsent < more, "{unsent} against {more}");
    // Who waits goes on when the peer reads.
    limited_server.set_nonblocking(true).unwrap();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| limited.write_ref(&[7; 100_000]).unwrap());
        eventually("written", || {
            let _ = limited_server.read_ref(&mut [0; 50_000]);
            writing.is_finished()
        });
        assert_eq!(writing.join().unwrap(), 100_000);
    });
}

fn tos_round_trip<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    // DSCP: CS1, AF21, EF.
    for octet in [0x20, 0x48, 0xb8, 0] {
        client.set_tos(octet).unwrap();
        assert_eq!(client.tos().unwrap(), octet);
        client.write_all(b"x").unwrap();
        assert_eq!(read_some(&server, 1), b"x");
    }
}

/// ECN is TCP's own affair.
fn tos_keeps_the_ecn_bits<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    client.set_tos(0xff).unwrap();
    assert_eq!(client.tos().unwrap(), 0xfc);
}

fn info_of_a_fresh_connection<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    for stream in [&client, &server] {
        let info = stream.info().unwrap();
        assert_eq!(info.state, state::ESTABLISHED);
        assert!(info.snd_cwnd >= 2, "{info:?}");
        assert!(info.rto >= 1_000 && info.rto <= 3_000_000, "{info:?}");
        let Info { bytes_received, bytes_sent, notsent_bytes, total_retrans, .. } = info;
        assert_eq!((bytes_received, bytes_sent, notsent_bytes, total_retrans), (0, 0, 0, 0));
    }
}

fn info_counts_octets<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    let before = client.info().unwrap().bytes_acked;
    client.write_all(&[1; 50_000]).unwrap();
    read_some(&server, 50_000);
    eventually("all is acknowledged", || client.unsent().unwrap() == 0);
    let (ours, theirs) = (client.info().unwrap(), server.info().unwrap());
    assert_eq!(ours.bytes_acked - before, 50_000);
    assert_eq!((ours.bytes_sent, theirs.bytes_received), (50_000, 50_000));
    assert_eq!((ours.bytes_received, theirs.bytes_sent), (0, 0));
}

fn info_measures_round_trips<S: Stack>(stack: &S) {
    let (mut client, mut server) = pair(stack);
    for _ in 0..20 {
        client.write_all(b"ping").unwrap();
        read_some(&server, 4);
        server.write_all(b"pong").unwrap();
        read_some(&client, 4);
    }
    let info = client.info().unwrap();
    assert!(info.rtt > 0 && info.rtt < 1_000_000, "{info:?}");
    assert!(info.min_rtt > 0 && info.min_rtt < 1_000_000, "{info:?}");
    assert!(info.rttvar < 1_000_000, "{info:?}");
    assert!(info.rto >= info.rtt, "{info:?}");
}

fn info_after_the_end<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    client.write_all(&[1; 1000]).unwrap();
    read_some(&server, 1000);
    abort(server);
    await_reset(&client);
    let info = client.info().unwrap();
    assert_eq!((info.state, info.bytes_sent), (state::CLOSE, 1000));
}

fn idle_keepalive_is_answered<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    client.set_keepalive_idle(1).unwrap();
    client.set_keepalive_interval(1).unwrap();
    client.set_keepalive_count(1).unwrap();
    client.set_keepalive(true).unwrap();
    std::thread::sleep(Duration::from_millis(2_500));
    client.write_all(b"alive").unwrap();
    assert_eq!(read_some(&server, 5), b"alive");
    assert!(client.take_error().unwrap().is_none());
}

fn set_before_data_holds_during_it<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    client.set_nodelay(true).unwrap();
    client.set_ttl(33).unwrap();
    client.set_notsent_lowat(10_000).unwrap();
    client.set_congestion("reno").unwrap();
    let data = noise(500_000, 30);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            client.write_all(&data).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        assert_same(&read_all(&server), &data);
    });
    assert_eq!((client.nodelay().unwrap(), client.ttl().unwrap()), (true, 33));
    assert_eq!((client.notsent_lowat().unwrap(), client.congestion().unwrap()), (10_000, "reno".to_owned()));
}
