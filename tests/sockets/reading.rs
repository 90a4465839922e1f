//! Reading: order, peek, time limits, non-blocking.

use std::io::{ErrorKind, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use crate::stack::{By, Stack, Stream};
use crate::support::*;

crate::behaviours! {
    gives_what_is_there,
    leaves_the_rest,
    waits_for_data,
    into_nothing_takes_nothing,
    in_odd_sizes_is_exact,
    exact_reports_a_short_stream,
    vectored_fills_in_order,
    peek_does_not_consume,
    peek_waits_for_data,
    peek_sees_all_that_is_unread,
    peek_at_the_end_is_zero,
    timeout_is_would_block,
    timeout_of_peek_is_would_block,
    timeout_of_zero_is_refused,
    timeout_round_trip,
    timeout_loses_nothing,
    timeout_is_shared_with_clones,
    timeout_removed_waits_again,
    nonblocking_is_would_block,
    nonblocking_peek_is_would_block,
    nonblocking_is_shared_with_clones,
    nonblocking_reads_the_end,
    blocking_again,
    unread_counts,
}

fn gives_what_is_there<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    client.write_all(b"hello").unwrap();
    await_unread(&server, 5);
    let mut into = [0; 100];
    assert_eq!(server.read_ref(&mut into).unwrap(), 5);
    assert_eq!(&into[..5], b"hello");
}

fn leaves_the_rest<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    client.write_all(b"hello, world").unwrap();
    await_unread(&server, 12);
    let mut into = [0; 7];
    assert_eq!(server.read_ref(&mut into).unwrap(), 7);
    assert_eq!(&into, b"hello, ");
    assert_eq!(read_some(&server, 5), b"world");
}

fn waits_for_data<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    thread::scope(|scope| {
        let reading = scope.spawn(|| read_some(&server, 3));
        thread::sleep(ms(50));
        assert!(!reading.is_finished());
        client.write_all(b"now").unwrap();
        assert_eq!(reading.join().unwrap(), b"now");
    });
}

/// On Linux it waits for something to read all the same.
fn into_nothing_takes_nothing<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    server.set_nonblocking(true).unwrap();
    assert_errno(server.read_ref(&mut []), libc::EAGAIN);
    client.write_all(b"x").unwrap();
    await_unread(&server, 1);
    assert_eq!(server.read_ref(&mut []).unwrap(), 0);
    assert_eq!(read_some(&server, 1), b"x");
}

fn in_odd_sizes_is_exact<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    let data = noise(300_000, 2);
    thread::scope(|scope| {
        scope.spawn(|| {
            client.write_all(&data).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        for len in [1usize, 2, 3, 7, 1, 1459, 1460, 1461, 4096, 65_535, 13].into_iter().cycle() {
            let mut into = vec![0; len];
            let n = server.read_ref(&mut into).unwrap();
            assert!(n <= len);
            got.extend_from_slice(&into[..n]);
            if n == 0 {
                break;
            }
        }
        assert_same(&got, &data);
    });
}

fn exact_reports_a_short_stream<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    client.write_all(b"short").unwrap();
    drop(client);
    assert_kind(By(&server).read_exact(&mut [0; 10]), ErrorKind::UnexpectedEof);
}

fn vectored_fills_in_order<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    client.write_all(b"abcdefgh").unwrap();
    await_unread(&server, 8);
    let (mut a, mut b, mut c) = ([0; 3], [0; 2], [0; 10]);
    let mut into = [&mut a[..], &mut [], &mut b, &mut c].map(IoSliceMut::new);
    assert_eq!(server.read_vectored_ref(&mut into).unwrap(), 8);
    assert_eq!((&a, &b, &c[..3]), (b"abc", b"de", &b"fgh"[..]));
}

fn peek_does_not_consume<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    client.write_all(b"peekaboo").unwrap();
    await_unread(&server, 8);
    let mut into = [0; 100];
    for len in [1, 4, 8, 100] {
        assert_eq!(server.peek(&mut into[..len]).unwrap(), len.min(8));
        assert_eq!(&into[..len.min(8)], &b"peekaboo"[..len.min(8)]);
    }
    assert_eq!(read_some(&server, 8), b"peekaboo");
}

fn peek_waits_for_data<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    thread::scope(|scope| {
        let peeking = scope.spawn(|| server.peek(&mut [0; 10]).unwrap());
        thread::sleep(ms(50));
        assert!(!peeking.is_finished());
        client.write_all(b"x").unwrap();
        assert_eq!(peeking.join().unwrap(), 1);
    });
}

/// As far as there is room for it, wherever a stack keeps it.
fn peek_sees_all_that_is_unread<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    fill(&client);
    let unread = server.unread().unwrap() as usize;
    assert!(unread > 30_000, "{unread}");
    let mut into = vec![0; unread];
    assert_eq!(server.peek(&mut into[..1_000]).unwrap(), 1_000);
    assert_eq!(server.peek(&mut into).unwrap(), unread);
    assert!(into.iter().all(|octet| *octet == 0x5a));
    assert!(server.unread().unwrap() as usize >= unread, "a peek takes nothing");
}

fn peek_at_the_end_is_zero<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    drop(client);
    assert_eq!(server.peek(&mut [0; 10]).unwrap(), 0);
    assert_eq!(server.read_ref(&mut [0; 10]).unwrap(), 0);
}

fn timeout_is_would_block<S: Stack>(stack: &S) {
    let (_client, server) = pair(stack);
    server.set_read_timeout(Some(ms(200))).unwrap();
    let start = Instant::now();
    assert_errno(server.read_ref(&mut [0; 10]), libc::EAGAIN);
    assert_took(start.elapsed(), ms(200));
}

fn timeout_of_peek_is_would_block<S: Stack>(stack: &S) {
    let (_client, server) = pair(stack);
    server.set_read_timeout(Some(ms(100))).unwrap();
    let start = Instant::now();
    assert_errno(server.peek(&mut [0; 10]), libc::EAGAIN);
    assert_took(start.elapsed(), ms(100));
}

fn timeout_of_zero_is_refused<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    assert_kind(client.set_read_timeout(Some(Duration::ZERO)), ErrorKind::InvalidInput);
    assert_eq!(client.read_timeout().unwrap(), None);
}

fn timeout_round_trip<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    assert_eq!(client.read_timeout().unwrap(), None);
    for timeout in [Some(ms(100)), Some(Duration::from_secs(3600)), None] {
        client.set_read_timeout(timeout).unwrap();
        assert_eq!(client.read_timeout().unwrap(), timeout);
        assert_eq!(client.write_timeout().unwrap(), None, "it is none of the writer's");
    }
}

fn timeout_loses_nothing<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    server.set_read_timeout(Some(ms(30))).unwrap();
    assert_errno(server.read_ref(&mut [0; 10]), libc::EAGAIN);
    client.write_all(b"after all").unwrap();
    assert_eq!(retry(|| server.read_ref(&mut [0; 10])).unwrap(), 9);
    assert_errno(server.read_ref(&mut [0; 10]), libc::EAGAIN);
}

fn timeout_is_shared_with_clones<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    let clone = client.try_clone().unwrap();
    client.set_read_timeout(Some(ms(100))).unwrap();
    assert_eq!(clone.read_timeout().unwrap(), Some(ms(100)));
    assert_errno(clone.read_ref(&mut [0; 10]), libc::EAGAIN);
}

fn timeout_removed_waits_again<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    server.set_read_timeout(Some(ms(20))).unwrap();
    assert_errno(server.read_ref(&mut [0; 10]), libc::EAGAIN);
    server.set_read_timeout(None).unwrap();
    thread::scope(|scope| {
        let reading = scope.spawn(|| read_some(&server, 4));
        thread::sleep(ms(100));
        client.write_all(b"late").unwrap();
        assert_eq!(reading.join().unwrap(), b"late");
    });
}

fn nonblocking_is_would_block<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    server.set_nonblocking(true).unwrap();
    assert_errno(server.read_ref(&mut [0; 10]), libc::EAGAIN);
    client.write_all(b"x").unwrap();
    assert_eq!(retry(|| server.read_ref(&mut [0; 10])).unwrap(), 1);
    assert_errno(server.read_ref(&mut [0; 10]), libc::EAGAIN);
}

fn nonblocking_peek_is_would_block<S: Stack>(stack: &S) {
    let (_client, server) = pair(stack);
    server.set_nonblocking(true).unwrap();
    assert_errno(server.peek(&mut [0; 10]), libc::EAGAIN);
}

fn nonblocking_is_shared_with_clones<S: Stack>(stack: &S) {
    let (_client, server) = pair(stack);
    let clone = server.try_clone().unwrap();
    server.set_nonblocking(true).unwrap();
    assert_errno(clone.read_ref(&mut [0; 10]), libc::EAGAIN);
}

fn nonblocking_reads_the_end<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    server.set_nonblocking(true).unwrap();
    drop(client);
    assert_eq!(retry(|| server.read_ref(&mut [0; 10])).unwrap(), 0);
    assert_eq!(server.read_ref(&mut [0; 10]).unwrap(), 0);
}

fn blocking_again<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    server.set_nonblocking(true).unwrap();
    assert_errno(server.read_ref(&mut [0; 10]), libc::EAGAIN);
    server.set_nonblocking(false).unwrap();
    thread::scope(|scope| {
        let reading = scope.spawn(|| read_some(&server, 4));
        thread::sleep(ms(50));
        client.write_all(b"late").unwrap();
        assert_eq!(reading.join().unwrap(), b"late");
    });
}

/// The FIN is not counted.
fn unread_counts<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    assert_eq!(server.unread().unwrap(), 0);
    client.write_all(&[1; 1000]).unwrap();
    await_unread(&server, 1000);
    read_some(&server, 300);
    assert_eq!(server.unread().unwrap(), 700);
    client.shutdown(Shutdown::Write).unwrap();
    thread::sleep(ms(20));
    assert_eq!(server.unread().unwrap(), 700);
    assert_eq!(read_all(&server).len(), 700);
    assert_eq!(server.unread().unwrap(), 0);
}
