//! Opening: connect in its forms, and what it says when it fails.

use std::collections::HashSet;
use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use crate::stack::{Listener, Stack, Stream};
use crate::support::*;

crate::behaviours! {
    addresses_agree_at_both_ends,
    accepted_address_is_the_clients,
    closed_port_refuses,
    closed_port_refuses_at_once_with_a_timeout,
    black_hole_times_out,
    syn_count_limits_the_attempt,
    timeout_of_zero_is_refused,
    timeout_that_is_not_needed_leaves_a_blocking_stream,
    connects_before_accept,
    data_sent_before_accept_is_there,
    local_ports_differ,
    port_that_refused_can_be_bound,
    from_a_given_port,
    from_a_port_in_use_is_refused,
    from_a_foreign_address_is_refused,
    to_itself,
    started_connect_completes,
    started_connect_is_refused,
    refused_is_ended,
    started_connect_waits_at_a_black_hole,
    again_while_in_progress,
    again_when_connected,
    again_after_a_failure,
    dropped_while_in_progress,
    shutdown_while_in_progress,
    many_at_once_after_bind,
    many_one_after_the_other,
}

fn addresses_agree_at_both_ends<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let (client, server) = connect_to(stack, &listener, address);
    assert_eq!(client.peer_addr().unwrap(), address);
    assert_eq!(server.local_addr().unwrap(), address);
    assert_eq!(client.local_addr().unwrap(), server.peer_addr().unwrap());
    assert_eq!(client.local_addr().unwrap().ip(), stack.client_ip());
    assert!(client.local_addr().unwrap().port() >= 1024);
}

fn accepted_address_is_the_clients<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let client = stack.connect(address).unwrap();
    let (_server, from) = listener.accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
}

fn closed_port_refuses<S: Stack>(stack: &S) {
    assert_errno(stack.connect(closed_port(stack)), libc::ECONNREFUSED);
}

fn closed_port_refuses_at_once_with_a_timeout<S: Stack>(stack: &S) {
    let start = Instant::now();
    assert_errno(stack.connect_timeout(&closed_port(stack), Duration::from_secs(9)), libc::ECONNREFUSED);
    assert_took(start.elapsed(), Duration::ZERO);
}

fn black_hole_times_out<S: Stack>(stack: &S) {
    let start = Instant::now();
    assert_kind(stack.connect_timeout(&stack.black_hole(), ms(300)), ErrorKind::TimedOut);
    assert_took(start.elapsed(), ms(300));
}

/// One repetition after a second, and the end two seconds later; newer kernels wait a few seconds longer (RFC 9293's R2 is
/// counted in SYNs, and the first ones come without backoff).
fn syn_count_limits_the_attempt<S: Stack>(stack: &S) {
    let start = Instant::now();
    assert_errno(stack.connect_with_syn_count(stack.black_hole(), 1), libc::ETIMEDOUT);
    let took = start.elapsed();
    assert!(took > ms(1_900) && took < ms(9_500), "{took:?}");
}

fn timeout_of_zero_is_refused<S: Stack>(stack: &S) {
    let (_listener, address) = listener(stack);
    assert_kind(stack.connect_timeout(&address, Duration::ZERO), ErrorKind::InvalidInput);
}

fn timeout_that_is_not_needed_leaves_a_blocking_stream<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let client = stack.connect_timeout(&address, Duration::from_secs(9)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let late = thread::spawn(move || {
        thread::sleep(ms(50));
        server.write_all(b"late").unwrap();
    });
    assert_eq!(read_all(&client), b"late");
    late.join().unwrap();
}

fn connects_before_accept<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let client = stack.connect(address).unwrap();
    assert_eq!(client.peer_addr().unwrap(), address);
    listener.accept().unwrap();
}

fn data_sent_before_accept_is_there<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let data = noise(50_000, 1);
    let mut client = stack.connect(address).unwrap();
    client.write_all(&data).unwrap();
    drop(client);
    let (server, _) = listener.accept().unwrap();
    assert_same(&read_all(&server), &data);
}

fn local_ports_differ<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let pairs: Vec<_> = (0..50).map(|_| connect_to(stack, &listener, address)).collect();
    let ports: HashSet<_> = pairs.iter().map(|(client, _)| client.local_addr().unwrap().port()).collect();
    assert_eq!(ports.len(), pairs.len());
}

fn port_that_refused_can_be_bound<S: Stack>(stack: &S) {
    let address = closed_port(stack);
    assert_errno(stack.connect(address), libc::ECONNREFUSED);
    let listener = stack.bind(address).unwrap();
    let (client, _server) = connect_to(stack, &listener, address);
    assert_eq!(client.peer_addr().unwrap(), address);
}

fn from_a_given_port<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let local = client_port(stack);
    let client = stack.connect_from(local, address).unwrap();
    assert_eq!(client.local_addr().unwrap(), local);
    assert_eq!(listener.accept().unwrap().1, local);
}

fn from_a_port_in_use_is_refused<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let local = client_port(stack);
    let first = stack.connect_from(local, address).unwrap();
    assert_errno(stack.connect_from(local, address), libc::EADDRINUSE);
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"unharmed").unwrap();
    assert_eq!(read_some(&first, 8), b"unharmed");
}

fn from_a_foreign_address_is_refused<S: Stack>(stack: &S) {
    let (_listener, address) = listener(stack);
    assert_errno(stack.connect_from((stack.foreign_ip(), 0).into(), address), libc::EADDRNOTAVAIL);
}

/// A simultaneous open with oneself (RFC 9293 3.5).
fn to_itself<S: Stack>(stack: &S) {
    let own = client_port(stack);
    let mut stream = stack.connect_from(own, own).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), stream.local_addr().unwrap());
    stream.write_all(b"who is there?").unwrap();
    assert_eq!(read_some(&stream, 13), b"who is there?");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&stream), b"");
}

fn started_connect_completes<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let client = stack.start_connect(address).unwrap();
    eventually("connected", || client.peer_addr().is_ok());
    assert!(client.take_error().unwrap().is_none());
    assert_errno(client.read_ref(&mut [0; 8]), libc::EAGAIN);
    let (server, _) = listener.accept().unwrap();
    assert_eq!(client.write_ref(b"hello").unwrap(), 5);
    assert_eq!(read_some(&server, 5), b"hello");
}

fn started_connect_is_refused<S: Stack>(stack: &S) {
    let address = closed_port(stack);
    let client = stack.start_connect(address).unwrap();
    let mut error = None;
    eventually("refused", || {
        error = client.take_error().unwrap();
        error.is_some()
    });
    assert_eq!(error.unwrap().raw_os_error(), Some(libc::ECONNREFUSED));
    assert!(client.take_error().unwrap().is_none(), "taken is taken");
    assert_errno(client.peer_addr(), libc::ENOTCONN);
}

/// A connection that was refused is one that has ended, once its error is told: by `take_error` or by a call.
fn refused_is_ended<S: Stack>(stack: &S) {
    let client = stack.start_connect(closed_port(stack)).unwrap();
    eventually("refused", || client.take_error().unwrap().is_some());
    assert_errno(client.write_ref(b"late"), libc::EPIPE);
    assert_eq!(client.read_ref(&mut [0; 8]).unwrap(), 0);
    assert_errno(client.write_ref(b"later"), libc::EPIPE);
    assert_eq!(client.peek(&mut [0; 8]).unwrap(), 0);
    assert_errno(client.shutdown(Shutdown::Both), libc::ENOTCONN);
    for read in [true, false] {
        let client = stack.start_connect(closed_port(stack)).unwrap();
        let mut error = None;
        eventually("refused", || {
            let result = if read { client.read_ref(&mut [0; 8]) } else { client.write_ref(b"early") };
            error = result.err().filter(|error| error.kind() != ErrorKind::WouldBlock);
            error.is_some()
        });
        assert_eq!(error.unwrap().raw_os_error(), Some(libc::ECONNREFUSED));
        assert_errno(client.write_ref(b"late"), libc::EPIPE);
        assert_eq!(client.read_ref(&mut [0; 8]).unwrap(), 0);
    }
}

fn started_connect_waits_at_a_black_hole<S: Stack>(stack: &S) {
    let client = stack.start_connect(stack.black_hole()).unwrap();
    thread::sleep(ms(50));
    assert_errno(client.peer_addr(), libc::ENOTCONN);
    assert!(client.take_error().unwrap().is_none());
    assert_errno(client.read_ref(&mut [0; 8]), libc::EAGAIN);
    assert_errno(client.write_ref(b"early"), libc::EAGAIN);
    assert_eq!(client.local_addr().unwrap().ip(), stack.client_ip());
}

fn again_while_in_progress<S: Stack>(stack: &S) {
    let mut client = stack.start_connect(stack.black_hole()).unwrap();
    assert_errno(stack.connect_again(&mut client, stack.black_hole()), libc::EALREADY);
}

fn again_when_connected<S: Stack>(stack: &S) {
    let (_listener, address) = listener(stack);
    let mut client = stack.start_connect(address).unwrap();
    eventually("connected", || client.peer_addr().is_ok());
    stack.connect_again(&mut client, address).expect("the first call after the handshake says that it is done");
    assert_errno(stack.connect_again(&mut client, address), libc::EISCONN);
}

/// The failure is told, by `take_error` or by connect itself; the next connect tries anew, and waits if the stream blocks.
fn again_after_a_failure<S: Stack>(stack: &S) {
    for (taken, blocking) in [(false, false), (true, false), (false, true)] {
        let closed = closed_port(stack);
        let mut client = stack.start_connect(closed).unwrap();
        eventually("refused", || {
            if taken {
                client.take_error().unwrap().is_some()
            } else {
                stack
                    .connect_again(&mut client, closed)
                    .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
            }
        });
        if taken {
            assert_errno(stack.connect_again(&mut client, closed), libc::ECONNABORTED);
        }
        let (listener, address) = listener(stack);
        if blocking {
            client.set_nonblocking(false).unwrap();
            stack.connect_again(&mut client, address).unwrap();
        } else {
            assert_errno(stack.connect_again(&mut client, address), libc::EINPROGRESS);
            eventually("connected", || client.peer_addr().is_ok());
            assert!(client.take_error().unwrap().is_none());
        }
        let (server, from) = listener.accept().unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        assert_eq!(client.write_ref(b"at last").unwrap(), 7);
        assert_eq!(read_some(&server, 7), b"at last");
    }
}

fn dropped_while_in_progress<S: Stack>(stack: &S) {
    let client = stack.start_connect(stack.black_hole()).unwrap();
    let local = client.local_addr().unwrap();
    drop(client);
    let (listener, address) = listener(stack);
    let client = stack.connect_from(local, address).expect("its port is free again");
    assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
}

fn shutdown_while_in_progress<S: Stack>(stack: &S) {
    let client = stack.start_connect(stack.black_hole()).unwrap();
    client.shutdown(Shutdown::Both).unwrap();
    let error = client.take_error().unwrap().expect("the attempt has failed");
    assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
    assert_errno(client.shutdown(Shutdown::Both), libc::ENOTCONN);
    assert_eq!(client.read_ref(&mut [0; 8]).unwrap(), 0);
    assert_errno(client.write_ref(b"late"), libc::EPIPE);
}

/// None of a burst of connections right behind bind is refused or lost, and all work.
fn many_at_once_after_bind<S: Stack>(stack: &S) {
    // Two files each, and other behaviours have some open, too.
    let count = size(500, 10_000).min(raise_open_files() / 4);
    let listener = stack.bind_with_backlog(any_port(stack), count as u32).unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|scope| {
        let accepting = scope.spawn(|| {
            let servers: Vec<_> = (0..count).map(|_| listener.accept().unwrap()).collect();
            for (server, from) in &servers {
                assert_eq!(server.write_ref(&from.port().to_be_bytes()).unwrap(), 2);
            }
            servers
        });
        let clients: Vec<_> = (0..count).map(|_| stack.start_connect(address).unwrap()).collect();
        for client in &clients {
            eventually("connected", || client.peer_addr().is_ok());
            let mut port = [0; 2];
            assert_eq!(retry(|| client.read_ref(&mut port)).unwrap(), 2);
            assert_eq!(u16::from_be_bytes(port), client.local_addr().unwrap().port());
        }
        accepting.join().unwrap();
    });
}

fn many_one_after_the_other<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    for round in 0..size(300, 5_000) {
        let (mut client, server) = connect_to(stack, &listener, address);
        client.write_all(&round.to_be_bytes()).unwrap();
        drop(client);
        assert_eq!(read_all(&server), round.to_be_bytes());
    }
}
