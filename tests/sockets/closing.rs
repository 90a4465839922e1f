//! Closing in order: half-close, shutdown in its forms, drop, linger, clones.

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use crate::stack::{By, Stack, Stream, state};
use crate::support::*;

crate::behaviours! {
    empty_connection_ends,
    end_comes_after_all_data,
    end_is_seen_again_and_again,
    half_close_by_the_client,
    half_close_by_the_server,
    both_halves_at_the_same_time,
    read_after_shutdown_read_is_zero,
    read_after_shutdown_read_gives_what_arrived,
    shutdown_read_tells_nobody,
    write_after_shutdown_write_is_broken_pipe,
    shutdown_write_twice,
    shutdown_both,
    shutdown_after_the_end_is_not_connected,
    shutdown_write_sends_all_first,
    drop_sends_all_first,
    drop_of_a_clone_keeps_it_open,
    drop_of_the_last_clone_closes,
    shutdown_through_a_clone,
    linger_waits_for_the_peer,
    linger_does_not_wait_for_the_reader,
    states_of_a_half_close,
    peer_address_lasts_until_the_end,
    both_drop_at_once,
    write_to_a_closed_peer_is_broken_pipe,
}

fn empty_connection_ends<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    drop(client);
    assert_eq!(read_all(&server), b"");
}

fn end_comes_after_all_data<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    let data = noise(1_000_000, 10);
    thread::scope(|scope| {
        scope.spawn(|| By(&client).write_all(&data).and_then(|()| client.shutdown(Shutdown::Write)).unwrap());
        assert_same(&read_all(&server), &data);
    });
}

fn end_is_seen_again_and_again<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    drop(client);
    for _ in 0..5 {
        assert_eq!(server.read_ref(&mut [0; 10]).unwrap(), 0);
    }
}

fn half_close_by_the_client<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    half_close(&client, &server);
}

fn half_close_by_the_server<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    half_close(&server, &client);
}

fn half_close<T: Stream>(first: &T, second: &T) {
    By(first).write_all(b"question").unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(second), b"question");
    let answer = noise(200_000, 11);
    thread::scope(|scope| {
        scope.spawn(|| By(second).write_all(&answer).and_then(|()| second.shutdown(Shutdown::Write)).unwrap());
        assert_same(&read_all(first), &answer);
    });
}

fn both_halves_at_the_same_time<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    By(&client).write_all(b"up").unwrap();
    By(&server).write_all(b"down").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!((read_all(&client), read_all(&server)), (b"down".to_vec(), b"up".to_vec()));
}

fn read_after_shutdown_read_is_zero<S: Stack>(stack: &S) {
    let (client, _server) = pair(stack);
    client.shutdown(Shutdown::Read).unwrap();
    assert_eq!(client.read_ref(&mut [0; 10]).unwrap(), 0);
}

/// So it is on Linux: the octets are there, only nobody waits for more.
fn read_after_shutdown_read_gives_what_arrived<S: Stack>(stack: &S) {
    let (client, mut server) = pair(stack);
    server.write_all(b"before").unwrap();
    await_unread(&client, 6);
    client.shutdown(Shutdown::Read).unwrap();
    server.write_all(b"after").unwrap();
    await_unread(&client, 11);
    assert_eq!(read_all(&client), b"beforeafter");
}

fn shutdown_read_tells_nobody<S: Stack>(stack: &S) {
    let (mut client, mut server) = pair(stack);
    client.shutdown(Shutdown::Read).unwrap();
    client.write_all(b"up").unwrap();
    assert_eq!(read_some(&server, 2), b"up");
    server.write_all(b"down").unwrap();
    thread::sleep(ms(20));
    server.write_all(b"down").unwrap();
    assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
}

fn write_after_shutdown_write_is_broken_pipe<S: Stack>(stack: &S) {
    let (client, mut server) = pair(stack);
    client.shutdown(Shutdown::Write).unwrap();
    assert_errno(client.write_ref(b"more"), libc::EPIPE);
    server.write_all(b"down").unwrap();
    assert_eq!(read_some(&client, 4), b"down", "reading goes on");
}

fn shutdown_write_twice<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    client.shutdown(Shutdown::Write).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&server), b"");
    client.shutdown(Shutdown::Write).unwrap();
}

fn shutdown_both<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    client.shutdown(Shutdown::Both).unwrap();
    assert_eq!(client.read_ref(&mut [0; 10]).unwrap(), 0);
    assert_errno(client.write_ref(b"more"), libc::EPIPE);
    assert_eq!(read_all(&server), b"");
}

fn shutdown_after_the_end_is_not_connected<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&server), b"");
    drop(server);
    assert_eq!(read_all(&client), b"");
    for how in [Shutdown::Write, Shutdown::Read, Shutdown::Both] {
        assert_errno(client.shutdown(how), libc::ENOTCONN);
    }
}

fn shutdown_write_sends_all_first<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    let total = fill(&client);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&server).len(), total);
}

fn drop_sends_all_first<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    let total = fill(&client);
    drop(client);
    thread::sleep(ms(50));
    assert_eq!(read_all(&server).len(), total);
}

fn drop_of_a_clone_keeps_it_open<S: Stack>(stack: &S) {
    let (client, mut server) = pair(stack);
    let mut clone = client.try_clone().unwrap();
    assert_eq!(clone.local_addr().unwrap(), client.local_addr().unwrap());
    drop(client);
    clone.write_all(b"up").unwrap();
    assert_eq!(read_some(&server, 2), b"up");
    server.write_all(b"down").unwrap();
    assert_eq!(read_some(&clone, 4), b"down");
}

fn drop_of_the_last_clone_closes<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    let clones: Vec<_> = (0..5).map(|_| client.try_clone().unwrap()).collect();
    drop(client);
    server.set_nonblocking(true).unwrap();
    for clone in clones {
        thread::sleep(ms(5));
        assert_errno(server.read_ref(&mut [0; 10]), libc::EAGAIN);
        drop(clone);
    }
    assert_eq!(retry(|| server.read_ref(&mut [0; 10])).unwrap(), 0);
}

fn shutdown_through_a_clone<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    client.try_clone().unwrap().shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&server), b"");
    assert_errno(client.write_ref(b"more"), libc::EPIPE);
}

/// A reader that stalls with its window closed: drop waits as long as it may, and what is queued goes on.
fn linger_waits_for_the_peer<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    let total = fill(&client);
    client.set_linger(Some(Duration::from_secs(1))).unwrap();
    let start = Instant::now();
    drop(client);
    assert_took(start.elapsed(), Duration::from_secs(1));
    assert_eq!(read_all(&server).len(), total);
}

fn linger_does_not_wait_for_the_reader<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    client.write_all(&[1; 1000]).unwrap();
    client.set_linger(Some(Duration::from_secs(9))).unwrap();
    let start = Instant::now();
    drop(client);
    assert_took(start.elapsed(), Duration::ZERO);
    assert_eq!(read_all(&server).len(), 1000);
}

fn states_of_a_half_close<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    let states = || (client.info().unwrap().state, server.info().unwrap().state);
    assert_eq!(states(), (state::ESTABLISHED, state::ESTABLISHED));
    client.shutdown(Shutdown::Write).unwrap();
    eventually("half closed", || states() == (state::FIN_WAIT2, state::CLOSE_WAIT));
    server.shutdown(Shutdown::Write).unwrap();
    eventually("closed", || states() == (state::CLOSE, state::CLOSE));
}

fn peer_address_lasts_until_the_end<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    let peer = server.local_addr().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&server), b"");
    assert_eq!(client.peer_addr().unwrap(), peer);
    drop(server);
    assert_eq!(read_all(&client), b"");
    eventually("not connected any more", || client.peer_addr().is_err());
    assert_errno(client.peer_addr(), libc::ENOTCONN);
}

fn both_drop_at_once<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    for _ in 0..100 {
        let (client, server) = connect_to(stack, &listener, address);
        thread::scope(|scope| {
            scope.spawn(move || drop(client));
            drop(server);
        });
    }
    connect_to(stack, &listener, address);
}

/// The first write is answered by a reset, which the peer's end of stream precedes: EPIPE, not ECONNRESET.
fn write_to_a_closed_peer_is_broken_pipe<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    drop(server);
    assert_eq!(read_all(&client), b"");
    assert_eq!(client.write_ref(b"anybody?").unwrap(), 8);
    await_reset(&client);
    assert_errno(client.write_ref(b"nobody"), libc::EPIPE);
    assert_eq!(client.read_ref(&mut [0; 10]).unwrap(), 0);
}
