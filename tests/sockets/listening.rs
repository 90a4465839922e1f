//! Listeners: bind, the queues behind listen, accept, and what is left when they go.

use std::collections::HashSet;
use std::io::{ErrorKind, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::stack::{Listener, Stack, Stream};
use crate::support::*;

crate::behaviours! {
    port_zero_is_replaced,
    ports_chosen_differ,
    bind_twice_is_refused,
    bind_beside_any_address_is_refused,
    bind_to_a_foreign_address_is_refused,
    bind_to_any_address_accepts,
    bind_after_drop,
    bind_while_a_connection_lives,
    bind_while_in_time_wait,
    many_listeners,
    accepts_in_the_order_of_connects,
    accept_waits,
    accept_from_several_threads,
    incoming_goes_on,
    nonblocking_accept,
    nonblocking_is_not_inherited,
    nonblocking_is_shared_with_clones,
    backlog_overflow_drops,
    backlog_has_room_again_after_accept,
    clone_goes_on_accepting,
    drop_refuses_new_connections,
    drop_resets_those_not_accepted,
    drop_keeps_those_accepted,
    closed_before_accept,
    reset_before_accept,
    has_no_error,
    ttl_is_inherited,
}

fn port_zero_is_replaced<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    assert_eq!(address.ip(), stack.server_ip());
    assert!(address.port() >= 1024);
    assert_eq!(listener.local_addr().unwrap(), address);
}

fn ports_chosen_differ<S: Stack>(stack: &S) {
    let listeners: Vec<_> = (0..20).map(|_| listener(stack)).collect();
    let ports: HashSet<_> = listeners.iter().map(|(_, address)| address.port()).collect();
    assert_eq!(ports.len(), listeners.len());
}

fn bind_twice_is_refused<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    assert_errno(stack.bind(address), libc::EADDRINUSE);
    connect_to(stack, &listener, address);
}

fn bind_beside_any_address_is_refused<S: Stack>(stack: &S) {
    let any = stack.bind("0.0.0.0:0".parse().unwrap()).unwrap();
    let port = any.local_addr().unwrap().port();
    assert_errno(stack.bind((stack.server_ip(), port).into()), libc::EADDRINUSE);
}

fn bind_to_a_foreign_address_is_refused<S: Stack>(stack: &S) {
    assert_errno(stack.bind((stack.foreign_ip(), 0).into()), libc::EADDRNOTAVAIL);
}

fn bind_to_any_address_accepts<S: Stack>(stack: &S) {
    let listener = stack.bind("0.0.0.0:0".parse().unwrap()).unwrap();
    let local = listener.local_addr().unwrap();
    assert!(local.ip().is_unspecified());
    let address = (stack.server_ip(), local.port()).into();
    let (_client, server) = connect_to(stack, &listener, address);
    assert_eq!(server.local_addr().unwrap(), address, "the connection knows which it is");
}

fn bind_after_drop<S: Stack>(stack: &S) {
    let address = closed_port(stack);
    for _ in 0..20 {
        let listener = stack.bind(address).unwrap();
        connect_to(stack, &listener, address);
    }
}

fn bind_while_a_connection_lives<S: Stack>(stack: &S) {
    let (first, address) = listener(stack);
    let (mut client, server) = connect_to(stack, &first, address);
    drop(first);
    let second = stack.bind(address).unwrap();
    let (mut other, other_server) = connect_to(stack, &second, address);
    client.write_all(b"old").unwrap();
    other.write_all(b"new").unwrap();
    assert_eq!((read_some(&server, 3), read_some(&other_server, 3)), (b"old".to_vec(), b"new".to_vec()));
}

fn bind_while_in_time_wait<S: Stack>(stack: &S) {
    let (first, address) = listener(stack);
    let (client, server) = connect_to(stack, &first, address);
    // The server closes first, so the connection stays behind at its port.
    drop(server);
    assert_eq!(read_all(&client), b"");
    drop((client, first));
    let second = stack.bind(address).unwrap();
    connect_to(stack, &second, address);
}

fn many_listeners<S: Stack>(stack: &S) {
    let listeners: Vec<_> = (0..100).map(|_| listener(stack)).collect();
    let clients: Vec<_> = listeners.iter().map(|(_, address)| stack.connect(*address).unwrap()).collect();
    for ((listener, address), client) in listeners.iter().zip(clients) {
        let (server, from) = listener.accept().unwrap();
        assert_eq!(server.local_addr().unwrap(), *address);
        assert_eq!(from, client.local_addr().unwrap());
    }
}

fn accepts_in_the_order_of_connects<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let clients: Vec<_> = (0..100).map(|_| stack.connect(address).unwrap()).collect();
    // The last ACK of one may be longer under way than it is waited for (2 ms), where its thread has no CPU.
    thread::sleep(ms(200));
    for client in &clients {
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
    }
}

fn accept_waits<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    thread::scope(|scope| {
        let accepting = scope.spawn(|| listener.accept().unwrap().1);
        thread::sleep(ms(50));
        assert!(!accepting.is_finished());
        let client = stack.connect(address).unwrap();
        assert_eq!(accepting.join().unwrap(), client.local_addr().unwrap());
    });
}

fn accept_from_several_threads<S: Stack>(stack: &S) {
    const THREADS: usize = 4;
    const EACH: usize = 25;
    let (listener, address) = listener(stack);
    thread::scope(|scope| {
        let accept = || (0..EACH).map(|_| listener.accept().unwrap().1).collect::<Vec<_>>();
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(accept)).collect();
        let clients: Vec<_> = (0..THREADS * EACH).map(|_| stack.connect(address).unwrap()).collect();
        let accepted: HashSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let expected = clients.iter().map(|client| client.local_addr().unwrap()).collect();
        assert_eq!(accepted, expected, "each by one thread");
    });
}

fn incoming_goes_on<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let clients: Vec<_> = (0..5).map(|_| stack.connect(address).unwrap()).collect();
    let servers: Vec<_> = listener.incoming().take(5).map(Result::unwrap).collect();
    // In which order is another matter: on a busy machine a shard may be later than a listener waits for it.
    let expected: HashSet<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
    let accepted: HashSet<_> = servers.iter().map(|server| server.peer_addr().unwrap()).collect();
    assert_eq!(accepted, expected);
}

fn nonblocking_accept<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    listener.set_nonblocking(true).unwrap();
    assert_errno(listener.accept(), libc::EAGAIN);
    let client = stack.connect(address).unwrap();
    let (_, from) = retry(|| listener.accept()).unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    assert_errno(listener.accept(), libc::EAGAIN);
    assert!(matches!(listener.incoming().next(), Some(Err(e)) if e.kind() == ErrorKind::WouldBlock));
}

fn nonblocking_is_not_inherited<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    listener.set_nonblocking(true).unwrap();
    let mut client = stack.connect(address).unwrap();
    let (server, _) = retry(|| listener.accept()).unwrap();
    thread::scope(|scope| {
        let reading = scope.spawn(|| read_some(&server, 4));
        thread::sleep(ms(50));
        client.write_all(b"late").unwrap();
        assert_eq!(reading.join().unwrap(), b"late");
    });
}

fn nonblocking_is_shared_with_clones<S: Stack>(stack: &S) {
    let (listener, _) = listener(stack);
    listener.try_clone().unwrap().set_nonblocking(true).unwrap();
    assert_errno(listener.accept(), libc::EAGAIN);
}

/// Waits until the listener has the connection: it was open for us before, and where several queues carry packets the next
/// SYN may overtake the last ACK of this handshake.
fn await_place<T: Stream>(client: &T) {
    client.write_ref(b"x").unwrap();
    eventually("the octet is acknowledged", || client.unsent().unwrap() == 0);
}

/// Linux takes one connection more than the backlog says, and answers no SYN after that.
fn backlog_overflow_drops<S: Stack>(stack: &S) {
    let listener = stack.bind_with_backlog(any_port(stack), 2).unwrap();
    let address = listener.local_addr().unwrap();
    let clients: Vec<_> = (0..3).map(|_| stack.connect(address).unwrap()).collect();
    clients.iter().for_each(await_place);
    assert_kind(stack.connect_timeout(&address, ms(300)), ErrorKind::TimedOut);
    for client in &clients {
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
    }
}

fn backlog_has_room_again_after_accept<S: Stack>(stack: &S) {
    let listener = stack.bind_with_backlog(any_port(stack), 0).unwrap();
    let address = listener.local_addr().unwrap();
    let first = stack.connect(address).unwrap();
    await_place(&first);
    thread::scope(|scope| {
        // Its first SYN is dropped, the next one comes after a second.
        let waiting = scope.spawn(|| stack.connect_timeout(&address, Duration::from_secs(8)));
        thread::sleep(ms(100));
        assert!(!waiting.is_finished());
        let _accepted = listener.accept().unwrap();
        let second = waiting.join().unwrap().unwrap();
        assert_eq!(listener.accept().unwrap().1, second.local_addr().unwrap());
    });
}

fn clone_goes_on_accepting<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let clone = listener.try_clone().unwrap();
    drop(listener);
    assert_eq!(clone.local_addr().unwrap(), address);
    connect_to(stack, &clone, address);
}

fn drop_refuses_new_connections<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    connect_to(stack, &listener, address);
    drop(listener);
    assert_errno(stack.connect(address), libc::ECONNREFUSED);
}

fn drop_resets_those_not_accepted<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let clients: Vec<_> = (0..10).map(|_| stack.connect(address).unwrap()).collect();
    drop(listener);
    for client in &clients {
        assert_errno(client.read_ref(&mut [0; 8]), libc::ECONNRESET);
    }
}

fn drop_keeps_those_accepted<S: Stack>(stack: &S) {
    let (client, mut server) = pair(stack);
    server.write_all(b"still here").unwrap();
    assert_eq!(read_some(&client, 10), b"still here");
}

fn closed_before_accept<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let client = stack.connect(address).unwrap();
    let local = client.local_addr().unwrap();
    drop(client);
    thread::sleep(ms(20));
    let (server, from) = listener.accept().unwrap();
    assert_eq!(from, local);
    assert_eq!(read_all(&server), b"");
}

/// Linux hands it out all the same, and the reader learns.
fn reset_before_accept<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let client = stack.connect(address).unwrap();
    let local = client.local_addr().unwrap();
    abort(client);
    thread::sleep(ms(20));
    let (server, from) = listener.accept().unwrap();
    assert_eq!(from, local);
    // On a busy machine the reset may be slower than 20 ms.
    await_reset(&server);
    assert_errno(server.read_ref(&mut [0; 8]), libc::ECONNRESET);
}

fn has_no_error<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    connect_to(stack, &listener, address);
    assert!(listener.take_error().unwrap().is_none());
}

fn ttl_is_inherited<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    assert_eq!(listener.ttl().unwrap(), 64);
    listener.set_ttl(77).unwrap();
    assert_eq!(listener.ttl().unwrap(), 77);
    let (client, server) = connect_to(stack, &listener, address);
    assert_eq!((client.ttl().unwrap(), server.ttl().unwrap()), (64, 77));
    let (sender, receiver) = mpsc::channel();
    sender.send(listener).unwrap();
    assert_eq!(receiver.recv().unwrap().ttl().unwrap(), 77, "a listener can be handed to another thread");
}
