//! A peek sees what was received, also behind a full socket queue.

use std::io::{Read, Write};

use mio::{Interest, Token};
use trust::net::{EventQueue, SocketLimits, TcpStream};
use trust::tcp::Duration;

use crate::link::{Link, client, octets, plain, server};

const MOMENT: Duration = Duration::from_millis(200);
const QUEUE: usize = 4_096;

/// A link to a server whose sockets have small queues.
fn link() -> Link {
    let limits = SocketLimits { receive_queue: QUEUE, ..SocketLimits::default() };
    Link::new(client(), server().sockets(limits), plain())
}

fn peek(stream: &TcpStream, octets: usize) -> Vec<u8> {
    let mut buffer = vec![0; octets];
    let seen = stream.peek(&mut buffer).unwrap_or(0);
    buffer.truncate(seen);
    buffer
}

#[test]
fn a_peek_sees_behind_a_full_queue() {
    let mut link = link();
    let (_listener, mut stream, mut accepted) = link.connect(80);
    let events = EventQueue::new().unwrap();
    events.register(&accepted, Token(1), Interest::READABLE);
    for round in 0..3 {
        let data = octets(50_000, round);
        stream.write_all(&data).unwrap();
        link.run(MOMENT);
        assert!(events.events().count() > 0);
        assert!(peek(&accepted, 1_000) == data[..1_000]);
        link.run(MOMENT);
        assert_eq!(events.events().count(), 0, "which the queue had: nothing was asked for");
        assert!(peek(&accepted, 20_000) == data[..QUEUE], "what this thread's host has not been asked for before");
        link.poll();
        assert!(events.events().count() > 0, "there is more to be seen");
        assert!(peek(&accepted, 20_000) == data[..20_000]);
        // The whole, and no more than that.
        let _ = peek(&accepted, 1 << 20);
        link.poll();
        assert!(peek(&accepted, 1 << 20) == data);
        let mut got = vec![0; data.len()];
        accepted.read_exact(&mut got).unwrap();
        assert!(got == data, "a peek takes nothing");
        assert!(peek(&accepted, 1).is_empty());
        // And next time the queue is as small as before.
    }
}

/// Between the reader that makes room and the shard that fills it, too.
#[test]
fn a_peek_right_after_a_read_sees_what_is_still_with_the_connection() {
    let mut link = link();
    let (_listener, mut stream, mut accepted) = link.connect(80);
    let data = octets(30_000, 5);
    stream.write_all(&data).unwrap();
    link.run(MOMENT);
    accepted.read_exact(&mut [0; 3_000]).unwrap();
    let _ = peek(&accepted, 20_000);
    link.poll();
    assert!(peek(&accepted, 20_000) == data[3_000..23_000]);
}

/// However much would be looked at, and however often: what waits is bounded by queue and buffer.
#[test]
fn a_peek_keeps_no_more_than_queue_and_buffer() {
    const BUFFER: usize = 10_000;
    let mut link = link();
    let (_listener, mut stream, accepted) = link.connect(80);
    accepted.set_receive_buffer(BUFFER as u32);
    link.run(MOMENT);
    let mut most = 0;
    for _ in 0..300 {
        let _ = stream.write(&[7; 50_000]);
        link.run(MOMENT);
        most = most.max(peek(&accepted, 10 << 20).len());
    }
    // With the option the socket's queue has that size, too.
    assert_eq!(most, 2 * BUFFER);
    // The window that the handshake has promised was larger.
    assert!(link.server.unread(&accepted).unwrap() <= 2 * BUFFER + 65_535);
}

/// The end of the stream is where it was.
#[test]
fn a_peek_at_all_leaves_the_end_to_be_read() {
    let mut link = link();
    let (_listener, mut stream, mut accepted) = link.connect(80);
    let data = octets(50_000, 9);
    stream.write_all(&data).unwrap();
    drop(stream);
    link.run(MOMENT);
    let _ = peek(&accepted, 1 << 20);
    link.run(MOMENT);
    assert!(peek(&accepted, 1 << 20) == data);
    let mut got = Vec::new();
    accepted.read_to_end(&mut got).unwrap();
    assert!(got == data);
    assert!(peek(&accepted, 1 << 20).is_empty());
}
