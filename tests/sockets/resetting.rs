//! Resets: who gets one, and how it shows.

use std::io::Write;
use std::net::Shutdown;
use std::thread;

use crate::stack::{Stack, Stream, state};
use crate::support::*;

crate::behaviours! {
    seen_by_read,
    seen_by_write,
    seen_by_peek,
    seen_once_then_the_end,
    seen_once_then_broken_pipe,
    taken_error_is_gone,
    data_before_it_can_be_read,
    linger_zero_resets,
    linger_zero_throws_away_what_waits,
    drop_with_unread_data_resets,
    drop_with_unread_data_in_a_half_closed_stream_resets,
    data_behind_a_close_is_answered,
    data_behind_a_close_ends_what_was_to_be_sent,
    wakes_a_reader,
    wakes_a_writer,
    ends_the_state,
    shutdown_afterwards_is_not_connected,
    addresses_afterwards,
    other_connections_live_on,
    clone_sees_it_too,
    user_timeout_ends_a_stalled_writer,
}

fn seen_by_read<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    abort(server);
    assert_errno(client.read_ref(&mut [0; 10]), libc::ECONNRESET);
}

fn seen_by_write<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    abort(server);
    await_reset(&client);
    assert_errno(client.write_ref(b"x"), libc::ECONNRESET);
}

fn seen_by_peek<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    abort(server);
    assert_errno(client.peek(&mut [0; 10]), libc::ECONNRESET);
}

fn seen_once_then_the_end<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    abort(server);
    assert_errno(client.read_ref(&mut [0; 10]), libc::ECONNRESET);
    assert_eq!(client.read_ref(&mut [0; 10]).unwrap(), 0);
    assert_eq!(client.read_ref(&mut [0; 10]).unwrap(), 0);
}

fn seen_once_then_broken_pipe<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    abort(server);
    assert_errno(client.read_ref(&mut [0; 10]), libc::ECONNRESET);
    assert_errno(client.write_ref(b"x"), libc::EPIPE);
    assert_errno(client.write_ref(b"x"), libc::EPIPE);
}

fn taken_error_is_gone<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    assert!(client.take_error().unwrap().is_none());
    abort(server);
    await_reset(&client);
    let error = client.take_error().unwrap().expect("there is one");
    assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
    assert!(client.take_error().unwrap().is_none());
    assert_eq!(client.read_ref(&mut [0; 10]).unwrap(), 0);
}

fn data_before_it_can_be_read<S: Stack>(stack: &S) {
    let (client, mut server) = pair(stack);
    server.write_all(b"last words").unwrap();
    await_unread(&client, 10);
    abort(server);
    await_reset(&client);
    assert_eq!(read_some(&client, 10), b"last words");
    assert_errno(client.read_ref(&mut [0; 10]), libc::ECONNRESET);
}

fn linger_zero_resets<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    client.set_linger(Some(ms(0))).unwrap();
    drop(client);
    assert_errno(server.read_ref(&mut [0; 10]), libc::ECONNRESET);
}

fn linger_zero_throws_away_what_waits<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    let total = fill(&client);
    abort(client);
    await_reset(&server);
    // Not before: some may still have been under way.
    let there = server.unread().unwrap() as usize;
    assert!(there < total);
    read_some(&server, there);
    assert_errno(server.read_ref(&mut [0; 10]), libc::ECONNRESET);
}

/// RFC 9293 3.10.4, RFC 1122 4.2.2.13.
fn drop_with_unread_data_resets<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    client.write_all(b"never read").unwrap();
    await_unread(&server, 10);
    drop(server);
    assert_errno(client.read_ref(&mut [0; 10]), libc::ECONNRESET);
}

fn drop_with_unread_data_in_a_half_closed_stream_resets<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    client.write_all(b"never read").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    await_unread(&server, 10);
    drop(server);
    assert_errno(client.read_ref(&mut [0; 10]), libc::ECONNRESET);
}

/// The peer has closed without a word; it takes nothing any more.
fn data_behind_a_close_is_answered<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    drop(server);
    thread::sleep(ms(20));
    assert_eq!(client.write_ref(b"too late").unwrap(), 8);
    await_reset(&client);
    assert_errno(client.write_ref(b"x"), libc::EPIPE);
}

/// The same while what was written before the close still waits for the peer's window.
fn data_behind_a_close_ends_what_was_to_be_sent<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    fill(&client);
    drop(client);
    thread::sleep(ms(20));
    assert_eq!(server.write_ref(b"too late").unwrap(), 8);
    await_reset(&server);
}

fn wakes_a_reader<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    thread::scope(|scope| {
        let reading = scope.spawn(|| client.read_ref(&mut [0; 10]));
        thread::sleep(ms(50));
        assert!(!reading.is_finished());
        abort(server);
        assert_errno(reading.join().unwrap(), libc::ECONNRESET);
    });
}

fn wakes_a_writer<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    fill(&client);
    thread::scope(|scope| {
        let writing = scope.spawn(|| client.write_ref(&[0; 100_000]));
        thread::sleep(ms(50));
        assert!(!writing.is_finished());
        abort(server);
        assert_errno(writing.join().unwrap(), libc::ECONNRESET);
    });
}

fn ends_the_state<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    abort(server);
    await_reset(&client);
    assert_eq!(client.info().unwrap().state, state::CLOSE);
}

fn shutdown_afterwards_is_not_connected<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    abort(server);
    await_reset(&client);
    assert_errno(client.shutdown(Shutdown::Write), libc::ENOTCONN);
    assert_errno(client.shutdown(Shutdown::Both), libc::ENOTCONN);
}

fn addresses_afterwards<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    let local = client.local_addr().unwrap();
    abort(server);
    await_reset(&client);
    assert_errno(client.peer_addr(), libc::ENOTCONN);
    assert_eq!(client.local_addr().unwrap().ip(), local.ip());
}

fn other_connections_live_on<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let (mut kept, kept_server) = connect_to(stack, &listener, address);
    for _ in 0..20 {
        let (client, server) = connect_to(stack, &listener, address);
        abort(client);
        assert_errno(server.read_ref(&mut [0; 10]), libc::ECONNRESET);
    }
    kept.write_all(b"unharmed").unwrap();
    assert_eq!(read_some(&kept_server, 8), b"unharmed");
}

fn clone_sees_it_too<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    let clone = client.try_clone().unwrap();
    abort(server);
    assert_errno(clone.read_ref(&mut [0; 10]), libc::ECONNRESET);
    assert_eq!(client.read_ref(&mut [0; 10]).unwrap(), 0, "there is one error, not one for each");
}

/// RFC 5482: a window that stays closed, as TCP_USER_TIMEOUT has it.
fn user_timeout_ends_a_stalled_writer<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    client.set_user_timeout(500).unwrap();
    fill(&client);
    assert_errno(client.write_ref(&[0; 100_000]), libc::ETIMEDOUT);
    assert_errno(client.peer_addr(), libc::ENOTCONN);
}
