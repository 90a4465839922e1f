//! What `Debug` prints of sockets and hosts: what a user wants to know, in the words of `std::net`.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time;

use trust::net::{EventQueue, TcpSocket};
use trust::tcp::Duration;

use crate::link::{Link, at};

const MOMENT: Duration = Duration::from_millis(50);

#[test]
fn a_stream_shows_its_ends_and_what_has_become_of_it() {
    let mut link = Link::usual();
    let listener = link.server.stack().bind(at(80)).unwrap();
    assert_eq!(format!("{listener:?}"), "TcpListener { addr: 10.0.0.2:80, queued: 0, backlog: 4096 }");
    let mut stream = TcpSocket::new(&link.client.stack()).connect_nonblocking(at(80)).unwrap();
    assert_eq!(format!("{stream:?}"), "TcpStream { peer: 10.0.0.2:80, state: Connecting }");
    link.run(MOMENT);
    assert_eq!(format!("{listener:?}"), "TcpListener { addr: 10.0.0.2:80, queued: 1, backlog: 4096 }");
    let (mut accepted, from) = listener.accept().unwrap();
    let near = |state: &str| format!("TcpStream {{ addr: {from}, peer: 10.0.0.2:80, state: {state} }}");
    let far = |state: &str| format!("TcpStream {{ addr: 10.0.0.2:80, peer: {from}, state: {state} }}");
    assert_eq!((format!("{stream:?}"), format!("{accepted:?}")), (near("Connected"), far("Connected")));

    stream.write_all(b"read, or it ends with a reset").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    link.run(MOMENT);
    assert_eq!((format!("{stream:?}"), format!("{accepted:?}")), (near("WriteClosed"), far("ReadClosed")));
    accepted.read_to_end(&mut Vec::new()).unwrap();
    drop(accepted);
    link.run(MOMENT);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    link.run(Duration::from_secs(300));
    assert_eq!(format!("{stream:?}"), near("Closed"));
}

#[test]
fn a_stream_shows_its_error_until_that_is_taken() {
    let mut link = Link::usual();
    let (_listener, stream, accepted) = link.connect(80);
    accepted.set_linger(Some(time::Duration::ZERO)).unwrap();
    drop(accepted);
    link.run(MOMENT);
    let text = format!("{stream:?}");
    assert!(text.contains("state: Closed, error: Connection reset by peer"), "{text}");
    stream.take_error().unwrap().unwrap();
    let text = format!("{stream:?}");
    assert!(text.ends_with("state: Closed }"), "{text}");
}

#[test]
fn what_else_one_has_at_hand_is_no_dump_either() {
    let mut link = Link::usual();
    let stack = link.server.stack();
    assert_eq!(format!("{stack:?}"), "Stack { addresses: [10.0.0.2], .. }");
    assert_eq!(format!("{:?}", link.server), "Host { addresses: [10.0.0.2], now: t+1s, .. }");
    let socket = TcpSocket::new(&stack);
    assert_eq!(format!("{socket:?}"), "TcpSocket { .. }");
    let socket = socket.bind(at(7)).unwrap();
    assert_eq!(format!("{socket:?}"), "TcpSocket { addr: 10.0.0.2:7, .. }");
    let queue = EventQueue::new().unwrap();
    assert!(format!("{queue:?}").starts_with("EventQueue { fd: "));
    let listener = socket.listen(3).unwrap();
    queue.register(&listener, mio::Token(5), mio::Interest::READABLE);
    link.run(MOMENT);
    let _stream = TcpSocket::new(&link.client.stack()).connect_nonblocking(at(7)).unwrap();
    link.run(MOMENT);
    let events: Vec<_> = queue.events().map(|event| format!("{event:?}")).collect();
    assert_eq!(events, ["SocketEvent { token: Token(5), ready: READABLE }"]);
    drop(link);
    assert_eq!(format!("{stack:?}"), "Stack { addresses: [10.0.0.2], stopped: true, .. }");
}
