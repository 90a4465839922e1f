//! A limit for unsent octets (TCP_NOTSENT_LOWAT): what a writer can put in, wherever it lies, and when it is told to go on.

use std::io::{ErrorKind, Read, Write};

use bytes::Bytes;
use mio::{Interest, Token};
use trust::net::{EventQueue, TcpStream};
use trust::tcp::Duration;

use crate::link::{Link, octets};

const MOMENT: Duration = Duration::from_millis(20);
const LIMIT: usize = 16_384;

/// Writes as much as goes in now.
fn fill(stream: &TcpStream) -> usize {
    let mut written = 0;
    loop {
        match { stream }.write(&[7; 5_000]) {
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return written,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Writes to a peer that does not read until nothing goes in any more.
fn fill_up(link: &mut Link, stream: &TcpStream) -> usize {
    let mut written = 0;
    loop {
        let more = fill(stream);
        written += more;
        link.run(Duration::from_secs(2));
        if more == 0 {
            return written;
        }
    }
}

fn is_writable(events: &EventQueue) -> bool {
    events.events().filter(|event| event.is_writable()).count() > 0
}

#[test]
fn what_is_unsent_is_bounded_in_queue_and_connection_together() {
    let mut link = Link::usual();
    let (_listener, stream, _accepted) = link.connect(80);
    stream.set_notsent_lowat(Some(LIMIT as u32));
    assert_eq!(fill(&stream), LIMIT, "before the host has heard of anything");
    let (mut written, mut quiet, mut unsent) = (LIMIT, 0, 0);
    // Until the window is closed.
    while quiet < 100 {
        link.run(MOMENT);
        let more = fill(&stream);
        quiet = if more > 0 { 0 } else { quiet + 1 };
        written += more;
        unsent = link.client.not_sent(&stream).unwrap();
        assert!(unsent <= LIMIT, "{unsent} unsent");
    }
    assert!(unsent > LIMIT / 2);
    assert!(written > 10 * LIMIT, "it went on for a while");
}

#[test]
fn a_writer_is_told_when_half_of_it_is_sent_and_not_before() {
    let mut link = Link::usual();
    let (_listener, stream, mut accepted) = link.connect(80);
    stream.set_notsent_lowat(Some(LIMIT as u32));
    let events = EventQueue::new().unwrap();
    events.register(&stream, Token(1), Interest::WRITABLE);
    fill_up(&mut link, &stream);
    for round in 0..20 {
        fill(&stream);
        let _ = is_writable(&events);
        let mut reads = 0;
        loop {
            link.run(MOMENT);
            let unsent = link.client.not_sent(&stream).unwrap();
            let told = is_writable(&events);
            assert_eq!(told, unsent <= LIMIT / 2, "{unsent} unsent in round {round}");
            if told {
                let written = { &stream }.write(&[7; 2 * LIMIT]).unwrap();
                assert!((LIMIT / 2..=LIMIT - unsent).contains(&written), "{written} beside {unsent}");
                break;
            }
            reads += 1;
            assert!(reads < 1_000, "never told");
            let _ = accepted.read(&mut [0; 2_000]);
        }
    }
}

/// Whoever waits hears of a limit that is raised, or no longer there.
#[test]
fn another_limit_is_room_for_a_writer_that_found_none() {
    for (limit, room) in [(Some(8 * LIMIT as u32), 7 * LIMIT), (None, 100_000)] {
        let mut link = Link::usual();
        let (_listener, stream, _accepted) = link.connect(80);
        stream.set_notsent_lowat(Some(LIMIT as u32));
        let events = EventQueue::new().unwrap();
        events.register(&stream, Token(1), Interest::WRITABLE);
        fill_up(&mut link, &stream);
        let _ = is_writable(&events);
        link.run(Duration::from_secs(100));
        assert!(!is_writable(&events));
        stream.set_notsent_lowat(limit);
        link.run(MOMENT);
        assert!(is_writable(&events));
        assert!(fill(&stream) >= room);
    }
}

/// A limit below what lies there already lets nothing in until enough of it is sent.
#[test]
fn a_limit_below_what_is_there_lets_nothing_in() {
    let mut link = Link::usual();
    let (_listener, stream, mut accepted) = link.connect(80);
    let mut written = fill_up(&mut link, &stream);
    assert!(link.client.not_sent(&stream).unwrap() > 10 * LIMIT);
    stream.set_notsent_lowat(Some(LIMIT as u32));
    assert_eq!(fill(&stream), 0);
    let mut got = 0;
    while got < written {
        got += accepted.read(&mut [0; 50_000]).unwrap_or(0);
        link.run(MOMENT);
        if written < 1_500_000 {
            let more = fill(&stream);
            let unsent = link.client.not_sent(&stream).unwrap();
            assert!(more == 0 || unsent <= LIMIT, "{more} more, and {unsent} unsent");
            written += more;
        }
    }
}

/// Down to the smallest, and with octets that are not copied: everything arrives.
#[test]
fn all_arrives_whatever_the_limit() {
    for limit in [1, 300, 1_000, 5_000] {
        for copied in [true, false] {
            let mut link = Link::usual();
            let (_listener, mut stream, mut accepted) = link.connect(80);
            stream.set_notsent_lowat(Some(limit));
            let events = EventQueue::new().unwrap();
            events.register(&stream, Token(1), Interest::WRITABLE);
            let data = octets(60_000, limit as usize);
            let mut rest = Bytes::from(data.clone());
            let mut got = Vec::new();
            for _ in 0..100_000 {
                while !rest.is_empty() && is_writable(&events) {
                    loop {
                        let result = if copied {
                            stream.write(&rest).map(|written| rest = rest.slice(written..))
                        } else {
                            stream.write_bytes(&mut rest).map(drop)
                        };
                        if rest.is_empty() || result.is_err() {
                            break;
                        }
                    }
                }
                link.run(Duration::from_millis(1));
                let mut some = [0; 10_000];
                let len = accepted.read(&mut some).unwrap_or(0);
                got.extend_from_slice(&some[..len]);
                if got.len() == data.len() {
                    break;
                }
            }
            assert!(got == data, "limit {limit}: {} of {} octets", got.len(), data.len());
        }
    }
}

/// The room that a larger send buffer makes in the socket's own queue, while the connection takes nothing.
#[test]
fn a_larger_queue_is_room_for_a_writer_that_found_none() {
    let mut link = Link::usual();
    let (_listener, stream, _accepted) = link.connect(80);
    let events = EventQueue::new().unwrap();
    events.register(&stream, Token(1), Interest::WRITABLE);
    fill_up(&mut link, &stream);
    let _ = is_writable(&events);
    // 128 KiB lie in the queue, and more than this in the connection.
    stream.set_send_buffer(200_000);
    link.run(MOMENT);
    assert!(is_writable(&events));
    assert_eq!(fill(&stream), 200_000 - (128 << 10));
}
