//! An engine that is stopped and goes on: the time that it was away is nobody's silence.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::support::*;

pub(crate) fn fused() -> Outcome {
    download(&["--plan", "fused"])
}

/// Here it is the worker that wakes, with its timers, before a reader has handed over what waited.
pub(crate) fn pipeline() -> Outcome {
    download(&["--plan", "pipeline"])
}

/// Stopped in the middle of a page for longer than any limit of the service (at full size); the page goes on, every
/// octet of it, and so does an echo that waits.
fn download(plan: &[&str]) -> Outcome {
    const LEN: usize = 200_000_000;
    const PERIOD: usize = 7_030;
    let engine = Engine::start(plan);
    let patience = Some(Duration::from_secs(100));
    let mut page = TcpStream::connect((ENGINE, 80)).unwrap();
    page.set_read_timeout(patience).unwrap();
    write!(page, "GET /bytes/{LEN} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut echo = TcpStream::connect((ENGINE, 7)).unwrap();
    echo.set_read_timeout(patience).unwrap();
    let (mut block, mut got) = (vec![0; 65_536], Vec::new());
    while got.len() < 1_000_000 {
        let len = page.read(&mut block).unwrap();
        assert!(len > 0, "the page ends after {} octets", got.len());
        got.extend_from_slice(&block[..len]);
    }
    engine.signal(libc::SIGSTOP);
    echo.write_all(b"hello").unwrap();
    thread::sleep(Duration::from_secs(size(2, 65) as u64));
    engine.signal(libc::SIGCONT);
    let head = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let mut body = got.split_off(head);
    // The front shows what the rest repeats.
    let pattern = body[..PERIOD].repeat(block.len() / PERIOD + 2);
    let mut at = 0;
    while !body.is_empty() {
        for piece in body.chunks(block.len()) {
            assert!(pattern[at % PERIOD..].starts_with(piece), "wrong octets from {at} on");
            at += piece.len();
        }
        let len = page.read(&mut block).unwrap_or_else(|e| panic!("after {at} octets: {e}"));
        body.clear();
        body.extend_from_slice(&block[..len]);
    }
    assert_eq!(at, LEN);
    let mut back = [0; 5];
    echo.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
    engine.finish();
    Ok(())
}
