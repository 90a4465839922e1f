//! Writing: order, what fits, time limits, non-blocking, and what becomes of small writes.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use crate::stack::{By, Stack, Stream};
use crate::support::*;

crate::behaviours! {
    nothing_is_zero_and_sends_nothing,
    single_octets_keep_their_order,
    vectored_takes_all_in_order,
    vectored_of_nothing_is_zero,
    large_to_a_slow_reader,
    large_both_ways_at_once,
    blocks_while_the_reader_stalls,
    timeout_is_would_block,
    timeout_reports_what_went_in,
    timeout_of_zero_is_refused,
    timeout_round_trip,
    nonblocking_fills_up,
    nonblocking_takes_a_part,
    room_comes_back,
    unsent_drains,
    unsent_stays_while_the_reader_stalls,
    all_of_it_fails_on_a_closed_connection,
    cork_holds_back,
    cork_lets_full_segments_go,
    more_to_come_waits_for_the_rest,
    more_to_come_is_sent_in_the_end,
    nodelay_sends_at_once,
    ping_pong,
    closed_window_reopens,
}

fn nothing_is_zero_and_sends_nothing<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    assert_eq!(client.write_ref(b"").unwrap(), 0);
    assert_eq!(client.write_ref(b"x").unwrap(), 1);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&server), b"x");
    assert_errno(client.write_ref(b""), libc::EPIPE);
}

fn single_octets_keep_their_order<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    let data = noise(20_000, 3);
    thread::scope(|scope| {
        scope.spawn(|| {
            for octet in &data {
                assert_eq!(client.write_ref(std::slice::from_ref(octet)).unwrap(), 1);
            }
            client.shutdown(Shutdown::Write).unwrap();
        });
        assert_same(&read_all(&server), &data);
    });
}

fn vectored_takes_all_in_order<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    let pieces: Vec<_> = (0..20).map(|n| noise(n * 37, n as u64)).collect();
    let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let total: usize = pieces.iter().map(Vec::len).sum();
    assert_eq!(client.write_vectored_ref(&slices).unwrap(), total);
    client.shutdown(Shutdown::Write).unwrap();
    assert_same(&read_all(&server), &pieces.concat());
}

fn vectored_of_nothing_is_zero<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    assert_eq!(client.write_vectored_ref(&[]).unwrap(), 0);
    assert_eq!(client.write_vectored_ref(&[IoSlice::new(b""), IoSlice::new(b"")]).unwrap(), 0);
}

fn large_to_a_slow_reader<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    small_buffers(&client, &server);
    let data = noise(size(400_000, 4_000_000), 5);
    thread::scope(|scope| {
        scope.spawn(|| {
            client.write_all(&data).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        loop {
            thread::sleep(ms(1));
            let mut into = [0; 8192];
            let n = server.read_ref(&mut into).unwrap();
            if n == 0 {
                break;
            }
            got.extend_from_slice(&into[..n]);
        }
        assert_same(&got, &data);
    });
}

fn large_both_ways_at_once<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    let len = size(3_000_000, 100_000_000);
    let (up, down) = (noise(len, 6), noise(len, 7));
    let send = |stream: &S::Stream, data: &[u8]| {
        By(stream).write_all(data).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    };
    thread::scope(|scope| {
        scope.spawn(|| send(&client, &up));
        scope.spawn(|| send(&server, &down));
        let at_client = scope.spawn(|| read_all(&client));
        assert_same(&read_all(&server), &up);
        assert_same(&at_client.join().unwrap(), &down);
    });
}

fn blocks_while_the_reader_stalls<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    let before = fill(&client);
    thread::scope(|scope| {
        let writing = scope.spawn(|| By(&client).write_all(&[7; 200_000]));
        thread::sleep(ms(100));
        assert!(!writing.is_finished());
        read_some(&server, before + 200_000);
        writing.join().unwrap().unwrap();
    });
}

fn timeout_is_would_block<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    fill(&client);
    client.set_write_timeout(Some(ms(200))).unwrap();
    let start = Instant::now();
    assert_errno(client.write_ref(&[0; 100_000]), libc::EAGAIN);
    assert_took(start.elapsed(), ms(200));
}

fn timeout_reports_what_went_in<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    client.set_write_timeout(Some(ms(200))).unwrap();
    let data = noise(1 << 24, 8);
    let written = client.write_ref(&data).unwrap();
    assert!(written > 0 && written < data.len(), "{written}");
    client.shutdown(Shutdown::Write).unwrap();
    assert_same(&read_all(&server), &data[..written]);
}

fn timeout_of_zero_is_refused<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    assert_kind(client.set_write_timeout(Some(Duration::ZERO)), ErrorKind::InvalidInput);
    assert_eq!(client.write_timeout().unwrap(), None);
}

fn timeout_round_trip<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    for timeout in [Some(ms(100)), Some(Duration::from_secs(3600)), None] {
        client.set_write_timeout(timeout).unwrap();
        assert_eq!(client.write_timeout().unwrap(), timeout);
        assert_eq!(client.read_timeout().unwrap(), None, "it is none of the reader's");
    }
}

fn nonblocking_fills_up<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    let total = fill(&client);
    assert!(total >= 1000, "{total}");
    client.set_nonblocking(true).unwrap();
    assert_errno(client.write_ref(&[0; 100_000]), libc::EAGAIN);
}

fn nonblocking_takes_a_part<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    client.set_nonblocking(true).unwrap();
    let data = noise(1 << 24, 9);
    let written = client.write_ref(&data).unwrap();
    assert!(written > 0 && written < data.len(), "{written}");
    client.shutdown(Shutdown::Write).unwrap();
    assert_same(&read_all(&server), &data[..written]);
}

fn room_comes_back<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    for _ in 0..3 {
        let total = fill(&client);
        read_some(&server, total);
        client.set_nonblocking(true).unwrap();
        retry(|| client.write_ref(b"x")).unwrap();
        read_some(&server, 1);
    }
}

fn unsent_drains<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    assert_eq!(client.unsent().unwrap(), 0);
    client.write_all(&[1; 10_000]).unwrap();
    read_some(&server, 10_000);
    eventually("all is acknowledged", || client.unsent().unwrap() == 0);
    assert_eq!(client.not_sent().unwrap(), 0);
}

fn unsent_stays_while_the_reader_stalls<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    let total = fill(&client);
    let (unsent, not_sent) = (client.unsent().unwrap(), client.not_sent().unwrap());
    assert!(unsent > 0 && not_sent <= unsent, "{not_sent} of {unsent}");
    assert_eq!(unsent + server.unread().unwrap(), total as u32, "every octet is here or there");
    read_some(&server, total);
    eventually("all is acknowledged", || client.unsent().unwrap() == 0);
}

fn all_of_it_fails_on_a_closed_connection<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    drop(server);
    let error = client.write_all(&vec![0; 50_000_000]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
}

fn cork_holds_back<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    client.set_cork(true).unwrap();
    client.write_all(&[1; 100]).unwrap();
    // It would go by itself after 200 ms.
    thread::sleep(ms(50));
    assert_eq!(server.unread().unwrap(), 0);
    assert_eq!(client.not_sent().unwrap(), 100);
    client.set_cork(false).unwrap();
    assert_eq!(read_some(&server, 100), [1; 100]);
}

fn cork_lets_full_segments_go<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    client.set_cork(true).unwrap();
    let full = client.info().unwrap().snd_mss as usize;
    client.write_all(&vec![2; full + 100]).unwrap();
    await_unread(&server, full);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&server).len(), full + 100, "the end pulls the cork");
}

fn more_to_come_waits_for_the_rest<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    for round in 0..5 {
        assert_eq!(client.write_more(b"head, ").unwrap(), 6);
        assert_eq!(client.write_more(b"body, ").unwrap(), 6);
        thread::sleep(ms(30));
        assert_eq!(server.unread().unwrap(), 0, "round {round}");
        assert_eq!(client.write_ref(b"tail").unwrap(), 4);
        await_unread(&server, 1);
        assert_eq!(server.unread().unwrap(), 16, "all at once");
        assert_eq!(read_some(&server, 16), b"head, body, tail");
    }
    assert!(!client.cork().unwrap());
}

/// A promise that is not kept: it goes by itself after 200 ms, or with the end of the stream.
fn more_to_come_is_sent_in_the_end<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    client.write_more(b"waits").unwrap();
    assert_eq!(read_some(&server, 5), b"waits");
    client.write_more(b"the end").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&server), b"the end");
}

fn nodelay_sends_at_once<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    client.set_nodelay(true).unwrap();
    let start = Instant::now();
    for n in 1..=20 {
        client.write_ref(b"tick").unwrap();
        client.write_ref(b"tock").unwrap();
        read_some(&server, 8);
        assert_eq!(client.nodelay().unwrap(), n > 0);
    }
    assert!(start.elapsed() < Duration::from_secs(2), "nothing waits for an acknowledgment");
}

fn ping_pong<S: Stack>(stack: &S) {
    let rounds = size(1000, 20_000);
    let (mut client, server) = pair(stack);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ball = [0; 8];
            while By(&server).read_exact(&mut ball).is_ok() {
                By(&server).write_all(&ball).unwrap();
            }
        });
        for round in 0..rounds as u64 {
            client.write_all(&round.to_be_bytes()).unwrap();
            assert_eq!(read_some(&client, 8), round.to_be_bytes());
        }
        client.shutdown(Shutdown::Both).unwrap();
    });
}

/// The window closes, and the reader's next reads open it again, however long that took.
fn closed_window_reopens<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    let total = fill(&client);
    client.shutdown(Shutdown::Write).unwrap();
    thread::sleep(ms(700));
    assert_eq!(read_all(&server).len(), total);
}
