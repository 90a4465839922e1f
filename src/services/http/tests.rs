//! The service over a network of make-believe: whole conversations, however they are cut.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::client::{HEAD_TIMEOUT, IDLE_TIMEOUT, LINGER, STALL_TIMEOUT, UNWANTED_MAX};
use super::request::HEAD_MAX;
use super::{Http, WATCH};
use crate::services::testing::{Client, Net};
use crate::shard::budget;
use crate::tcp::time::Duration;

const DATE: &str = concat!("Server: trust/", env!("CARGO_PKG_VERSION"), "\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n");

pub(super) fn server(seed: u64) -> Net<Http> {
    let clock = || UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
    Net::new(1, seed, |_| Http::new(Arc::new(clock)))
}

/// Runs until nothing comes any more.
pub(super) fn take(net: &mut Net<Http>, conn: Client) -> Vec<u8> {
    let mut got = Vec::new();
    loop {
        net.run();
        let some = net.client_take(conn);
        if some.is_empty() {
            return got;
        }
        got.extend(some);
    }
}

/// What is answered to `text` on a connection of its own, and whether the server ends it.
pub(super) fn ask(text: &[u8]) -> (String, bool) {
    let mut net = server(1);
    let conn = net.connect(0);
    net.client_send(conn, text);
    let got = take(&mut net, conn);
    assert!(!net.got_reset(conn));
    (String::from_utf8(got).unwrap(), net.got_fin(conn))
}

fn ok(kind: &str, len: usize, connection: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{DATE}Content-Type: {kind}\r\nContent-Length: {len}\r\n{connection}\r\n{body}")
}

pub(super) fn octets(len: usize, body: &str) -> String {
    ok("application/octet-stream", len, "", body)
}

pub(super) fn refusal(status: &str, more: &str) -> String {
    let len = status.len() + 1;
    format!(
        "HTTP/1.1 {status}\r\n{DATE}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len}\r\n{more}\r\n{status}\n"
    )
}

pub(super) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
}

/// A request to `/echo` with these fields and what follows the head.
pub(super) fn post(fields: &str, rest: &[u8]) -> Vec<u8> {
    let mut text = format!("POST /echo HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes();
    text.extend_from_slice(rest);
    text
}

const PATTERN: &str = " !\"#$%&'()*+,-./0123456789";

/// A client that asks for thousands of things at once is not answered in one go.
#[test]
fn much_that_is_pipelined_is_answered_in_pieces() {
    let mut net = server(5);
    net.set_default_send_limit(100_000_000);
    let conn = net.connect(0);
    let requests = 3_000;
    net.client_send(conn, &get("/bytes/1").repeat(requests));
    net.run();
    let answers = net.client_take(conn);
    assert_eq!(answers.windows(12).filter(|window| window.starts_with(b"HTTP/1.1 200")).count(), requests);
    assert!(net.most_sends() <= 200, "{} in one call", net.most_sends());
}

/// Many whose time is up at once are looked at in pieces; a look at one takes two sends at most.
#[test]
fn a_crowd_whose_time_is_up_is_refused_in_pieces() {
    const CROWD: usize = 4 * budget::LOOKS;
    let mut net = server(5);
    let clients: Vec<_> = (0..CROWD).map(|_| net.connect(0)).collect();
    for &client in &clients {
        net.client_send(client, b"GET / HT");
    }
    net.run();
    net.advance(Duration::from_secs(120));
    for client in clients {
        let answer = net.client_take(client);
        assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", answer.escape_ascii());
    }
    assert!(net.most_sends() <= 2 * budget::LOOKS, "{} in one call", net.most_sends());
}

#[test]
fn bytes_are_those_of_chargen() {
    assert_eq!(ask(&get("/bytes/10")), (octets(10, &PATTERN[..10]), false));
    assert_eq!(ask(&get("/bytes/0")), (octets(0, ""), false));
    let (text, _) = ask(&get("/bytes/200000"));
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.len(), 200_000);
    assert!(body.as_bytes().iter().zip(body.as_bytes()[7_030..].iter()).all(|(a, b)| a == b), "the period is 7030");
}

#[test]
fn head_has_the_head_of_get() {
    let (text, ended) = ask(b"HEAD /bytes/12345 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((text, ended), (octets(12345, ""), false));
    let (text, _) = ask(b"HEAD /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 404 ") && text.ends_with("\r\n\r\n"), "{text}");
}

#[test]
fn status_page_tells_of_the_engine() {
    let (text, ended) = ask(&get("/"));
    assert!(!ended);
    for part in [
        "200 OK",
        "text/plain",
        concat!("trust ", env!("CARGO_PKG_VERSION"), ":"),
        "1 open, 1 accepted",
        "requests    1\n",
        "10.0.0.1:40000",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.ends_with(&format!("Content-Length: {}\r\nVary: Accept", body.len())), "{text}");
}

#[test]
fn status_page_is_html_for_browsers() {
    let (text, ended) = ask(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html,*/*;q=0.8\r\n\r\n");
    assert!(!ended);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        head.ends_with(&format!("text/html; charset=utf-8\r\nContent-Length: {}\r\nVary: Accept", body.len())),
        "{head}"
    );
    assert!(body.starts_with("<!doctype html>") && body.len() < 4_000, "{} octets: {body}", body.len());
    for part in ["accepted <b>1</b>", "requests <b>1</b>", "10.0.0.1:40000", "Sun, 06 Nov 1994"] {
        assert!(body.contains(part), "{part} in {body}");
    }
    assert!(!body.contains("<script") && !body.contains("src="), "it stands by itself");
}

#[test]
fn favicon_is_nothing() {
    assert_eq!(ask(&get("/favicon.ico")), (format!("HTTP/1.1 204 No Content\r\n{DATE}\r\n"), false));
}

#[test]
fn connections_are_kept_or_closed_as_asked() {
    let close = "Connection: close\r\n";
    for (version, field, answer, ended) in [
        ("1.1", "", "", false),
        ("1.1", close, close, true),
        ("1.0", "", close, true),
        ("1.0", "Connection: keep-alive\r\n", "Connection: keep-alive\r\n", false),
    ] {
        let text = format!("GET /bytes/3 HTTP/{version}\r\nHost: x\r\n{field}\r\n");
        let expected = ok("application/octet-stream", 3, answer, " !\"");
        assert_eq!(ask(text.as_bytes()), (expected, ended), "{version} {field}");
    }
}

#[test]
fn echo_gives_the_body_back() {
    assert_eq!(ask(&post("Content-Length: 5\r\n", b"hello")), (octets(5, "hello"), false));
    assert_eq!(ask(&post("Content-Length: 0\r\n", b"")), (octets(0, ""), false));
    assert_eq!(ask(&post("", b"")), (octets(0, ""), false));
    let (put, _) = ask(b"PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(put, octets(2, "hi"));
}

#[test]
fn echo_of_chunks_is_in_chunks() {
    let (text, ended) =
        ask(&post("Transfer-Encoding: chunked\r\n", b"5;x=y\r\nhello\r\n7\r\n, world\r\n0\r\nA: b\r\n\r\n"));
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.ends_with("Transfer-Encoding: chunked"), "{head}");
    assert!(!head.contains("Content-Length") && !ended);
    assert_eq!(body, "5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n");
}

#[test]
fn leave_to_send_is_given_when_it_is_waited_for() {
    let mut net = server(1);
    let conn = net.connect(0);
    net.client_send(conn, &post("Content-Length: 5\r\nExpect: 100-continue\r\n", b""));
    assert_eq!(take(&mut net, conn), b"HTTP/1.1 100 Continue\r\n\r\n");
    net.client_send(conn, b"hello");
    assert_eq!(take(&mut net, conn), octets(5, "hello").into_bytes());
    // The body is there already: no need to give leave.
    net.client_send(conn, &post("Content-Length: 5\r\nExpect: 100-continue\r\n", b"there"));
    assert_eq!(take(&mut net, conn), octets(5, "there").into_bytes());
    // RFC 9110 10.1.1: the final answer says it all, and the body may never come.
    let refused = "POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    net.client_send(conn, refused.as_bytes());
    assert_eq!(take(&mut net, conn), refusal("404 Not Found", "Connection: close\r\n").into_bytes());
    assert!(net.got_fin(conn));
}

#[test]
fn refusals_keep_the_connection_where_they_can() {
    let ask = |text: &str| ask(text.as_bytes());
    assert_eq!(ask("GET /x HTTP/1.1\r\nHost: x\r\n\r\n"), (refusal("404 Not Found", ""), false));
    let not_allowed = |allow| (refusal("405 Method Not Allowed", &format!("Allow: {allow}\r\n")), false);
    assert_eq!(ask("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"), not_allowed("POST, PUT"));
    assert_eq!(ask("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n"), not_allowed("GET, HEAD"));
    assert_eq!(ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"), not_allowed("GET, HEAD"));
}

#[test]
fn refusals_close_where_the_next_request_is_lost() {
    for (text, status) in [
        ("GARBAGE\r\n\r\n", "400 Bad Request"),
        ("BREW / HTTP/1.1\r\nHost: x\r\n\r\n", "501 Not Implemented"),
        ("GET / HTTP/3.0\r\nHost: x\r\n\r\n", "505 HTTP Version Not Supported"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n", "413 Content Too Large"),
        ("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nhello", "400 Bad Request"),
        (&format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(HEAD_MAX)), "431 Request Header Fields Too Large"),
    ] {
        assert_eq!(ask(text.as_bytes()), (refusal(status, "Connection: close\r\n"), true), "{text}");
    }
}

#[test]
fn unwanted_bodies_are_read_within_a_limit() {
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    let head = "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (text, ended) = ask(format!("{head}{chunk}0\r\n\r\nGET /bytes/1 HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    assert_eq!((text, ended), (refusal("404 Not Found", "") + &octets(1, " "), false));
    let mut net = server(1);
    let conn = net.connect(0);
    net.client_send(conn, head.as_bytes());
    for _ in 0..=UNWANTED_MAX / 0x8000 {
        net.client_send(conn, chunk.as_bytes());
        net.run();
    }
    let text = String::from_utf8(take(&mut net, conn)).unwrap();
    assert_eq!(text, refusal("413 Content Too Large", "Connection: close\r\n"));
    assert!(net.got_fin(conn) && net.unread(conn) == 0, "what comes behind it is read away");
}

/// Requests of all kinds one behind the other, and what is answered.
fn pipeline() -> (Vec<u8>, String) {
    let mut text = Vec::new();
    let mut expected = String::new();
    for round in 0..3 {
        text.extend(get("/bytes/20"));
        expected += &octets(20, &PATTERN[..20]);
        text.extend(post("Content-Length: 11\r\n", b"GET / HTTP/"));
        expected += &octets(11, "GET / HTTP/");
        text.extend(b"\r\nHEAD /bytes/7 HTTP/1.1\r\nHost: x\r\n\r\n");
        expected += &octets(7, "");
        text.extend(get("/missing"));
        expected += &refusal("404 Not Found", "");
        text.extend(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody");
        expected += &refusal("404 Not Found", "");
        text.extend(get(&format!("/bytes/{round}")));
        expected += &octets(round, &PATTERN[..round]);
    }
    text.extend(b"GET /bytes/1 HTTP/1.0\r\n\r\nGET /never HTTP/1.0\r\n\r\n");
    expected += &ok("application/octet-stream", 1, "Connection: close\r\n", " ");
    (text, expected)
}

#[test]
fn pipelined_requests_are_answered_in_order_however_they_are_cut() {
    let (text, expected) = pipeline();
    for seed in 0..200 {
        let mut net = server(seed);
        // Sometimes a send side that takes a few octets at a time.
        let limit = [1, 3, 50, 500, 100_000][net.dice.below(5)];
        net.set_default_send_limit(limit);
        let conn = net.connect(0);
        let (mut rest, mut got) = (&text[..], Vec::new());
        let cut = [1, 2, 30, 300, 3_000][net.dice.below(5)];
        while !rest.is_empty() {
            let len = (1 + net.dice.below(cut)).min(rest.len());
            net.client_send(conn, &rest[..len]);
            rest = &rest[len..];
            net.run();
            if net.dice.below(2) == 0 {
                got.extend(net.client_take(conn));
            }
        }
        got.extend(take(&mut net, conn));
        assert_eq!(String::from_utf8(got).unwrap(), expected, "seed {seed}");
        assert!(net.got_fin(conn) && !net.got_reset(conn), "seed {seed}");
    }
}

/// The body of an answer in chunks.
pub(super) fn unchunk(mut text: &str) -> String {
    let mut body = String::new();
    loop {
        let (size, rest) = text.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            assert_eq!(rest, "\r\n");
            return body;
        }
        body += &rest[..size];
        text = rest[size..].strip_prefix("\r\n").unwrap();
    }
}

#[test]
fn chunked_echo_is_exact_however_it_is_cut() {
    let body: String = (0..20_000u32).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    for seed in 0..50 {
        let mut net = server(seed);
        let limit = [7, 500, 100_000][net.dice.below(3)];
        net.set_default_send_limit(limit);
        let conn = net.connect(0);
        let mut text = post("Transfer-Encoding: chunked\r\n", b"");
        let mut rest = &body[..];
        while !rest.is_empty() {
            let len = (1 + net.dice.below(6_000)).min(rest.len());
            text.extend(format!("{len:X}\r\n{}\r\n", &rest[..len]).into_bytes());
            rest = &rest[len..];
        }
        text.extend(b"0\r\n\r\n");
        let (mut rest, mut got) = (&text[..], Vec::new());
        while !rest.is_empty() {
            let len = (1 + net.dice.below(3_000)).min(rest.len());
            net.client_send(conn, &rest[..len]);
            rest = &rest[len..];
            net.run();
            got.extend(net.client_take(conn));
        }
        got.extend(take(&mut net, conn));
        let text = String::from_utf8(got).unwrap();
        assert_eq!(unchunk(text.split_once("\r\n\r\n").unwrap().1), body, "seed {seed}");
    }
}

#[test]
fn random_octets_do_no_harm() {
    let (text, _) = pipeline();
    for seed in 0..300 {
        let mut net = server(seed);
        let conn = net.connect(0);
        let mut text = text.clone();
        for _ in 0..=net.dice.below(5) {
            let at = net.dice.below(text.len());
            text[at] = net.dice.below(256) as u8;
        }
        net.client_send(conn, &text);
        let got = take(&mut net, conn);
        assert!(got.starts_with(b"HTTP/1.1 ") || got.is_empty());
        net.client_fin(conn);
        take(&mut net, conn);
        assert!(net.is_closed(conn) || net.got_reset(conn), "seed {seed}: nothing is left behind");
    }
}

#[test]
fn trickling_head_is_given_up() {
    let mut net = server(1);
    let conn = net.connect(0);
    net.client_send(conn, b"GET / HTTP/1.1\r\nHost: x\r\n");
    for _ in 0..(HEAD_TIMEOUT.saturating_add(WATCH)).as_secs() {
        net.client_send(conn, b"X: y\r\n");
        net.run();
        net.advance(Duration::from_secs(1));
    }
    let text = String::from_utf8(take(&mut net, conn)).unwrap();
    assert_eq!(text, refusal("408 Request Timeout", "Connection: close\r\n"));
    assert!(net.got_fin(conn));
    net.advance(LINGER.saturating_add(WATCH));
    net.run();
    assert!(net.close_called(conn), "it does not even close its side");
}

#[test]
fn idle_connection_is_ended_and_a_used_one_is_not() {
    let mut net = server(1);
    let (idle, used) = (net.connect(0), net.connect(0));
    for _ in 0..4 {
        net.client_send(used, &get("/bytes/1"));
        assert_eq!(take(&mut net, used), octets(1, " ").into_bytes());
        net.advance(IDLE_TIMEOUT.saturating_sub(Duration::from_secs(10)));
        net.run();
    }
    assert!(net.got_fin(idle) && !net.got_fin(used));
    assert_eq!(net.timers(), 1, "one timer for all connections");
}

#[test]
fn stalled_body_or_reader_is_reset() {
    let mut net = server(1);
    let (sender, reader) = (net.connect(0), net.connect(0));
    net.client_send(sender, &post("Content-Length: 100\r\n", b"a part of it"));
    net.client_send(reader, &get("/bytes/100000000"));
    net.run();
    let _ = net.client_take(sender);
    net.advance(STALL_TIMEOUT.saturating_sub(Duration::from_secs(1)));
    assert!(!net.got_reset(sender) && !net.got_reset(reader));
    net.advance(WATCH.saturating_add(Duration::from_secs(1)));
    assert!(net.got_reset(sender) && net.got_reset(reader));
}

#[test]
fn body_that_ends_too_soon_is_no_answer() {
    for fields in ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut net = server(1);
        let conn = net.connect(0);
        net.client_send(conn, &post(fields, b"5\r\nhello"));
        net.client_fin(conn);
        net.run();
        assert!(net.got_reset(conn), "{fields}");
    }
}

#[test]
fn client_that_half_closes_gets_all_its_answers() {
    let mut net = server(1);
    net.set_default_send_limit(100);
    let conn = net.connect(0);
    net.client_send(conn, &get("/bytes/5000"));
    net.client_send(conn, &get("/bytes/5"));
    net.client_fin(conn);
    let got = take(&mut net, conn);
    assert!(got.ends_with(octets(5, " !\"#$").as_bytes()));
    assert!(net.got_fin(conn));
    net.run();
    assert!(net.is_closed(conn));
}

#[test]
fn connections_that_are_gone_leave_nothing() {
    let mut net = server(1);
    for _ in 0..100 {
        let conn = net.connect(0);
        net.client_send(conn, &get("/bytes/1"));
        net.run();
        net.client_reset(conn);
        net.run();
    }
    assert_eq!(net.services[0].clients.len(), 0);
    net.advance(WATCH);
    assert_eq!((net.services[0].watch.len(), net.timers()), (0, 0));
}

/// The memory of a crowd that has gone is not kept.
#[test]
fn a_crowd_leaves_its_room_behind() {
    let mut net = server(1);
    let crowd: Vec<Client> = (0..8_192).map(|_| net.connect(0)).collect();
    net.run();
    assert!(net.services[0].clients.capacity() >= 8_192);
    for conn in crowd {
        net.client_reset(conn);
    }
    net.run();
    // One tick looks at so many.
    for _ in 0..8_192 / budget::LOOKS {
        net.advance(WATCH);
    }
    let service = &net.services[0];
    assert!(service.clients.is_empty() && service.watch.is_empty());
    assert!(service.clients.capacity() <= 2_048, "{}", service.clients.capacity());
    assert!(service.watch.capacity() <= 2_048, "{}", service.watch.capacity());
}

/// Heads that never end hold no more than so much, and do not stop one that comes in pieces.
#[test]
fn heads_that_never_end_give_way_to_newer_ones() {
    let clock = || UNIX_EPOCH;
    let mut net = Net::new(1, 3, |_| Http { heads_max: 100_000, ..Http::new(Arc::new(clock)) });
    let slow: Vec<Client> = (0..100)
        .map(|number| {
            let conn = net.connect(0);
            net.client_send(conn, format!("GET /{number} HTTP/1.1\r\nX: {}", "x".repeat(3_000)).as_bytes());
            net.run();
            assert!(net.services[0].site.heads <= 100_000);
            conn
        })
        .collect();
    let conn = net.connect(0);
    for piece in get("/bytes/5").chunks(7) {
        net.client_send(conn, piece);
        net.run();
    }
    assert!(String::from_utf8(take(&mut net, conn)).unwrap().starts_with("HTTP/1.1 200 OK"));
    let gone = slow.iter().take_while(|conn| net.got_reset(**conn)).count();
    assert!((65..75).contains(&gone), "{gone}");
    assert!(!slow[gone..].iter().any(|conn| net.got_reset(*conn)), "the oldest are the ones");
    assert_eq!(net.gave_way(), gone as u32);
    // Whatever becomes of the others, all of it is given back.
    net.client_reset(slow[99]);
    net.client_send(slow[98], b"\r\n\r\n");
    net.run();
    net.advance(Duration::from_secs(60));
    for &conn in slow.iter().chain([&conn]) {
        net.client_fin(conn);
        let _ = take(&mut net, conn);
    }
    let service = &net.services[0];
    assert!(service.site.heads == 0 && service.in_head.is_empty() && service.clients.is_empty());
}
