//! A connect that has failed is tried again: on its stream, as connect(2) does on Linux, or by the socket it came from.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time;

use mio::{Interest, Token};
use trust::net::{EventQueue, TcpSocket, TcpStream};
use trust::tcp::Duration;

use crate::link::{CLIENT, Link, at};

const MOMENT: Duration = Duration::from_millis(20);

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

fn say(link: &mut Link, from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"hello").unwrap();
    link.run(MOMENT);
    let mut got = [0; 5];
    to.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
}

/// As Linux has it: first the failure is told, then the next attempt begins.
#[test]
fn a_stream_whose_connect_was_refused_connects_again() {
    let mut link = Link::usual();
    let local = SocketAddr::new(CLIENT, 4_000);
    let mut socket = TcpSocket::new(&link.client.stack()).bind(local).unwrap();
    socket.set_nodelay(true);
    socket.options_mut().ttl = Some(33);
    let mut stream = socket.connect_nonblocking(at(80)).unwrap();
    assert_eq!(errno(stream.connect_again(at(80))), Some(libc::EALREADY));
    let events = EventQueue::new().unwrap();
    events.register(&stream, Token(7), Interest::WRITABLE);
    for taken in [false, true] {
        link.run(MOMENT);
        assert!(events.events().any(|event| event.token() == Token(7) && event.is_error()));
        let told = if taken {
            assert_eq!(stream.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionRefused);
            libc::ECONNABORTED
        } else {
            libc::ECONNREFUSED
        };
        assert_eq!(errno(stream.connect_again(at(80))), Some(told));
        stream.set_receive_buffer(9_000);
        assert_eq!(errno(stream.connect_again(at(80))), Some(libc::EINPROGRESS));
        assert_eq!(errno(stream.connect_again(at(80))), Some(libc::EALREADY));
        assert!(stream.take_error().unwrap().is_none());
    }
    link.run(MOMENT);
    assert_eq!(errno(stream.connect_again(at(80))), Some(libc::ECONNREFUSED));
    let listener = link.server.stack().bind(at(81)).unwrap();
    assert_eq!(errno(stream.connect_again(at(81))), Some(libc::EINPROGRESS));
    assert_eq!(errno(stream.peer_addr()), Some(libc::ENOTCONN));
    link.run(MOMENT);
    assert!(events.events().any(|event| event.token() == Token(7) && event.is_writable() && !event.is_error()));
    let (mut accepted, from) = listener.accept().unwrap();
    assert_eq!((from, stream.peer_addr().unwrap(), stream.local_addr().unwrap()), (local, at(81), local));
    assert!(stream.connect_again(at(81)).is_ok(), "it is told once");
    assert_eq!(errno(stream.connect_again(at(81))), Some(libc::EISCONN));
    // What was set before and meanwhile is set.
    assert_eq!((stream.nodelay().unwrap(), stream.ttl().unwrap(), stream.receive_buffer()), (true, 33, Some(9_000)));
    assert_eq!(link.client.info(&stream).unwrap().receive_buffer, 9_000);
    say(&mut link, &mut stream, &mut accepted);
    say(&mut link, &mut accepted, &mut stream);
}

/// One that nobody answered, and one that was given up.
#[test]
fn a_stalled_connect_is_tried_again() {
    let nobody = SocketAddr::new("10.0.0.77".parse().unwrap(), 80);
    let mut link = Link::usual();
    let listener = link.server.stack().bind(at(80)).unwrap();
    for given_up in [false, true] {
        let mut socket = TcpSocket::new(&link.client.stack());
        socket.set_user_timeout(Some(time::Duration::from_secs(5)));
        let mut stream = socket.connect_nonblocking(nobody).unwrap();
        link.run(Duration::from_secs(4));
        assert_eq!(errno(stream.connect_again(at(80))), Some(libc::EALREADY));
        if given_up {
            stream.shutdown(Shutdown::Both).unwrap();
        } else {
            link.run(Duration::from_secs(2));
        }
        let told = if given_up { libc::ECONNRESET } else { libc::ETIMEDOUT };
        assert_eq!(errno(stream.connect_again(at(80))), Some(told));
        assert_eq!(errno(stream.connect_again(at(80))), Some(libc::EINPROGRESS));
        link.run(MOMENT);
        let (mut accepted, _) = listener.accept().unwrap();
        say(&mut link, &mut stream, &mut accepted);
        assert_eq!(stream.user_timeout(), Some(time::Duration::from_secs(5)));
    }
}

#[test]
fn a_clone_stays_with_the_attempt_that_failed() {
    let mut link = Link::usual();
    let mut stream = TcpSocket::new(&link.client.stack()).connect_nonblocking(at(80)).unwrap();
    let mut clone = stream.try_clone().unwrap();
    link.run(MOMENT);
    assert_eq!(errno(stream.connect_again(at(80))), Some(libc::ECONNREFUSED));
    let listener = link.server.stack().bind(at(80)).unwrap();
    assert_eq!(errno(stream.connect_again(at(80))), Some(libc::EINPROGRESS));
    link.run(MOMENT);
    let (mut accepted, _) = listener.accept().unwrap();
    assert_eq!(errno(clone.peer_addr()), Some(libc::ENOTCONN));
    assert_eq!(clone.read(&mut [0; 9]).unwrap(), 0);
    say(&mut link, &mut stream, &mut accepted);
    // It may try by itself.
    assert_eq!(errno(clone.connect_again(at(80))), Some(libc::EINPROGRESS));
    link.run(MOMENT);
    let (mut accepted, _) = listener.accept().unwrap();
    say(&mut link, &mut clone, &mut accepted);
}

#[test]
fn a_socket_connects_as_often_as_it_is_asked_to() {
    let mut link = Link::usual();
    let local = SocketAddr::new(CLIENT, 4_000);
    let socket = TcpSocket::new(&link.client.stack()).bind(local).unwrap();
    let refused = socket.connect_nonblocking(at(80)).unwrap();
    link.run(MOMENT);
    assert_eq!(refused.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionRefused);
    let listener = link.server.stack().bind(at(80)).unwrap();
    let stream = socket.connect_nonblocking(at(80)).unwrap();
    link.run(MOMENT);
    assert_eq!(listener.accept().unwrap().1, local);
    // Between these ends there is one already.
    let second = socket.connect_nonblocking(at(80)).unwrap();
    link.run(MOMENT);
    assert_eq!(second.take_error().unwrap().unwrap().kind(), ErrorKind::AddrInUse);
    assert!(stream.peer_addr().is_ok());
}
