//! `/echo` and clients that send before they read, memory that is short, and the end of connections.

#![allow(clippy::unwrap_used)]

use super::WATCH;
use super::bodies::{LARGEST, PATIENCE, SMALL};
use super::client::{IDLE_TIMEOUT, LINGER, LINGER_MAX};
use super::tests::{ask, get, octets, post, refusal, server, take, unchunk};
use crate::services::testing::{Client, Net};
use crate::shard::budget;
use crate::tcp::time::Duration;

const CLOSE: &str = "Connection: close\r\n";

fn sized(len: u64) -> String {
    format!("Content-Length: {len}\r\n")
}

/// A body in which every octet has its place.
fn body(len: u64) -> Vec<u8> {
    (0..len as u32).map(|n| b'a' + (n / 19 % 25) as u8).collect()
}

/// What is answered to a body of so many octets.
fn whole(len: u64) -> Vec<u8> {
    let mut answer = octets(len as usize, "").into_bytes();
    answer.extend(body(len));
    answer
}

/// The client sends it in pieces, as a link would.
fn send_in_pieces(net: &mut Net<super::Http>, conn: Client, text: &[u8]) {
    for piece in text.chunks(60_000) {
        net.client_send(conn, piece);
        net.run();
    }
}

#[test]
fn bodies_that_are_sent_before_anything_is_read_are_taken_whole() {
    for len in [SMALL, SMALL + 1, 300_000, 5_000_000, LARGEST] {
        let mut net = server(1);
        let conn = net.connect(0);
        // Twice, since the connection is kept.
        for round in 0..2 {
            send_in_pieces(&mut net, conn, &post(&sized(len), &body(len)));
            assert_eq!(net.unread(conn), 0, "{len}, round {round}: some of it is not even read");
            assert!(take(&mut net, conn) == whole(len), "{len}, round {round}");
        }
        net.client_fin(conn);
        net.run();
        assert!(net.is_closed(conn) && !net.got_reset(conn));
    }
}

#[test]
fn bodies_that_are_too_large_are_refused_before_they_are_sent() {
    let too_large = refusal("413 Content Too Large", CLOSE);
    for len in [LARGEST + 1, u64::from(u32::MAX) + 1, u64::MAX] {
        for expect in ["", "Expect: 100-continue\r\n"] {
            let text = post(&(sized(len) + expect), b"");
            assert_eq!(ask(&text), (too_large.clone(), true), "{len} {expect}");
        }
    }
}

/// RFC 9112 9.6: a reset would overtake the answer, so what still comes is read away, though not for ever.
#[test]
fn who_is_refused_in_the_middle_of_an_upload_sees_the_answer() {
    let mut net = server(1);
    let conn = net.connect(0);
    net.client_send(conn, &post(&sized(LARGEST + 1), b""));
    let second = Duration::from_secs(1);
    let patience = LINGER_MAX.saturating_sub(WATCH).as_secs();
    for _ in 0..patience {
        net.client_send(conn, &[0; 100_000]);
        net.run();
        assert!(net.unread(conn) == 0 && !net.close_called(conn) && !net.got_reset(conn));
        net.advance(second);
    }
    assert_eq!(take(&mut net, conn), refusal("413 Content Too Large", CLOSE).into_bytes());
    assert!(net.got_fin(conn));
    for _ in 0..2 * WATCH.as_secs() {
        net.client_send(conn, b"x");
        net.run();
        net.advance(second);
    }
    assert!(net.close_called(conn), "not for ever");
    // One who says nothing more is not waited for so long.
    let conn = net.connect(0);
    net.client_send(conn, &post(&sized(LARGEST + 1), b""));
    net.run();
    net.advance(LINGER.saturating_add(WATCH));
    assert!(net.close_called(conn));
}

/// They have no size that could be looked at beforehand: their sender has to read meanwhile.
#[test]
fn chunks_wait_for_their_reader() {
    let mut net = server(1);
    let conn = net.connect(0);
    let chunk = [b"10000\r\n".as_slice(), &body(0x1_0000), b"\r\n"].concat();
    let text = [post("Transfer-Encoding: chunked\r\n", b""), chunk.repeat(100), b"0\r\n\r\n".to_vec()].concat();
    send_in_pieces(&mut net, conn, &text);
    assert!(net.unread(conn) > 6_000_000 && net.waiting(conn) <= 256 * 1024, "{}", net.unread(conn));
    let answer = String::from_utf8(take(&mut net, conn)).unwrap();
    let (_, chunks) = answer.split_once("\r\n\r\n").unwrap();
    assert!(unchunk(chunks).into_bytes() == body(0x1_0000).repeat(100));
}

/// Memory of which one may take a ninth, so that an eighth of the rest is as much.
const MEMORY: usize = 8 << 20;

#[test]
fn a_body_for_which_there_is_no_memory_is_refused_and_a_small_one_is_not() {
    let mut net = server(1);
    net.set_send_memory(MEMORY);
    let unavailable = refusal("503 Service Unavailable", CLOSE).into_bytes();
    for expect in ["", "Expect: 100-continue\r\n"] {
        let conn = net.connect(0);
        net.client_send(conn, &post(&(sized(2_000_000) + expect), b""));
        assert_eq!(take(&mut net, conn), unavailable);
        assert!(net.got_fin(conn));
    }
    let conn = net.connect(0);
    send_in_pieces(&mut net, conn, &post(&sized(900_000), &body(900_000)));
    assert_eq!(net.unread(conn), 0);
    assert!(take(&mut net, conn) == whole(900_000));
    // Nearly nothing is left: small ones go back as they can.
    net.set_send_memory(8_000);
    let conn = net.connect(0);
    net.client_send(conn, &post(&sized(SMALL), &body(SMALL)));
    assert!(take(&mut net, conn) == whole(SMALL));
}

/// However many begin at once: who is let in is served, though nobody reads before all of them have sent everything.
#[test]
fn promises_that_are_given_at_once_are_kept() {
    for (clients, len, let_in) in [(10, 900_000, 1), (40, 300_000, 19), (300, 100_000, 75)] {
        let mut net = server(clients);
        net.set_send_memory(MEMORY);
        let all: Vec<Client> = (0..clients).map(|_| net.connect(0)).collect();
        for &conn in &all {
            net.client_send(conn, &post(&sized(len), b""));
        }
        net.run();
        // In turns.
        for piece in body(len).chunks(30_000) {
            all.iter().for_each(|&conn| net.client_send(conn, piece));
            net.run();
        }
        let stuck = all.iter().filter(|conn| net.unread(**conn) > 0).count();
        assert_eq!(stuck, 0, "{clients} of {len}");
        let answers: Vec<_> = all.iter().map(|&conn| net.client_take(conn)).collect();
        let served = answers.iter().filter(|answer| **answer == whole(len)).count();
        let refused = answers.iter().filter(|answer| answer.starts_with(b"HTTP/1.1 503 ")).count();
        assert_eq!((served, refused), (let_in, all.len() - let_in), "{clients} of {len}");
    }
}

/// Posts a body whole; whether it is taken.
fn leave_unread(net: &mut Net<super::Http>, len: u64) -> (Client, bool) {
    let conn = net.connect(0);
    send_in_pieces(net, conn, &post(&sized(len), &body(len)));
    let taken = net.waiting(conn) as u64 > len;
    (conn, taken)
}

#[test]
fn answers_that_nobody_reads_give_way_after_30_seconds_the_oldest_first() {
    let mut net = server(1);
    net.set_send_memory(MEMORY);
    // The very first ones read their answers: nothing of them is left that others could need.
    let [reader, quiet] = [(); 2].map(|()| {
        let (conn, taken) = leave_unread(&mut net, 500_000);
        assert!(taken && take(&mut net, conn) == whole(500_000));
        conn
    });
    let mut holders = Vec::new();
    loop {
        let (conn, taken) = leave_unread(&mut net, 500_000);
        if !taken {
            break;
        }
        holders.push(conn);
    }
    assert!(holders.len() > 5, "{}", holders.len());
    net.advance(PATIENCE.saturating_sub(Duration::from_secs(2)));
    net.client_send(reader, &get("/bytes/1"));
    assert_eq!(take(&mut net, reader), octets(1, " ").into_bytes());
    assert!(!leave_unread(&mut net, 500_000).1, "not yet");
    assert_eq!(net.gave_way(), 0);
    net.advance(Duration::from_secs(2));
    let (late, taken) = leave_unread(&mut net, 500_000);
    assert!(taken);
    let gone = holders.iter().take_while(|conn| net.got_reset(**conn)).count();
    assert_eq!(net.gave_way() as usize, gone);
    assert!((1..4).contains(&gone), "no more than it takes: {gone}");
    assert!(!holders[gone..].iter().chain([&reader, &quiet, &late]).any(|conn| net.got_reset(*conn)));
    assert!(take(&mut net, late) == whole(500_000));
}

#[test]
fn what_was_promised_is_given_back_however_it_ends() {
    let mut net = server(1);
    let promised = |net: &Net<super::Http>| net.services[0].site.bodies.promised();
    let [reset, ended, next] = [(); 3].map(|()| net.connect(0));
    for conn in [reset, ended, next] {
        net.client_send(conn, &post(&sized(100_000), &body(40_000)));
    }
    net.run();
    assert_eq!(promised(&net), (3, 180_000));
    net.client_reset(reset);
    net.client_fin(ended);
    net.client_send(next, &body(60_000));
    net.run();
    assert_eq!(promised(&net), (1, 0), "the last one's answer is not read yet");
    net.client_send(next, &get("/bytes/1"));
    take(&mut net, next);
    assert_eq!(promised(&net), (0, 0));
}

#[test]
fn an_answer_that_is_being_read_is_no_idleness() {
    let mut net = server(1);
    let (slow, taken) = leave_unread(&mut net, 5_000_000);
    let (silent, _) = leave_unread(&mut net, 5_000_000);
    assert!(taken);
    let mut got = Vec::new();
    while got.len() < whole(5_000_000).len() {
        net.advance(Duration::from_secs(10));
        assert!(!net.close_called(slow) && !net.got_reset(slow), "after {} octets", got.len());
        got.extend(net.client_take_some(slow, 400_000));
        net.run();
    }
    assert!(got == whole(5_000_000));
    assert!(net.close_called(silent), "who reads nothing is idle");
    net.client_send(slow, &get("/bytes/1"));
    assert_eq!(take(&mut net, slow), octets(1, " ").into_bytes());
    net.advance(IDLE_TIMEOUT.saturating_add(WATCH));
    assert!(net.got_fin(slow));
}

#[test]
fn a_drain_ends_connections_behind_their_present_answer() {
    let mut net = server(1);
    let [fresh, idle, busy] = [(); 3].map(|()| net.connect(0));
    net.client_send(idle, &get("/bytes/1"));
    net.client_send(busy, &post(&sized(100_000), &body(50_000)));
    take(&mut net, idle);
    while net.drain() {}
    net.run();
    assert!(net.got_fin(idle) && !net.got_fin(fresh) && !net.got_fin(busy));
    // What was begun is finished; the next request is the last one.
    net.client_send(busy, &body(100_000)[50_000..]);
    assert!(take(&mut net, busy) == whole(100_000));
    assert!(net.got_fin(busy));
    net.client_send(fresh, &get("/bytes/1"));
    let answer = take(&mut net, fresh);
    assert!(answer.ends_with(b"Connection: close\r\n\r\n "), "{}", answer.escape_ascii());
    assert!(net.got_fin(fresh));
    for conn in [fresh, idle, busy] {
        net.client_fin(conn);
        net.run();
        assert!(net.is_closed(conn) && !net.got_reset(conn));
    }
}

#[test]
fn a_drain_ends_a_crowd_in_pieces() {
    const CROWD: usize = 4 * budget::LOOKS;
    let mut net = server(1);
    let all: Vec<Client> = (0..CROWD).map(|_| net.connect(0)).collect();
    all.iter().for_each(|&conn| net.client_send(conn, &get("/bytes/1")));
    net.run();
    all.iter().for_each(|&conn| drop(net.client_take(conn)));
    net.run();
    assert!(net.drain());
    net.run();
    assert_eq!(all.iter().filter(|conn| net.got_fin(**conn)).count(), budget::LOOKS);
    // The looks at their deadlines go on meanwhile, and change the order.
    net.advance(WATCH.saturating_sub(Duration::from_secs(1)));
    while net.drain() {
        net.advance(Duration::from_secs(1));
    }
    net.run();
    assert!(all.iter().all(|conn| net.got_fin(*conn)), "everybody's turn has come");
}
