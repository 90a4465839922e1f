//! A script on a stack: after each step everything has time to settle, and then the facts are taken.

use std::io::{self, ErrorKind};

use trust::tcp::Duration;
use trust::wire::tcp::Flags;

use super::facts::{App, Facts, Peer};
use super::packet;
use super::script::{Script, Step, octet};

/// How long everything may take after a step: longer than any delay of an ACK and than what answers are limited by,
/// shorter than a probe takes.
pub(crate) const SETTLED: Duration = Duration::from_millis(600);

/// The peer's port.
const FROM: u16 = 40_000;

/// A stack with an application that listens, takes one connection, and reads whatever comes.
pub(crate) trait Stack {
    fn inject(&mut self, packet: &[u8]);
    fn write(&mut self, len: u16);
    fn shutdown(&mut self);
    fn close(&mut self);
    /// Time passes; the peer hears what was sent. What the application has seen by then.
    fn settle(&mut self, peer: &mut Peer) -> App;
}

/// The facts after the SYN and after each step.
pub(crate) fn run(script: &Script, stack: &mut dyn Stack) -> Vec<Facts> {
    let mut peer = Peer::new(script);
    stack.inject(&packet::syn(script, &peer, FROM));
    let mut all = Vec::with_capacity(script.steps.len() + 1);
    peer.facts.app = stack.settle(&mut peer);
    all.push(peer.facts);
    for step in &script.steps {
        peer.begin();
        match step {
            Step::Send(segment) => stack.inject(&packet::segment(segment, &peer, FROM)),
            Step::Write(len) => stack.write(*len),
            Step::Shutdown => stack.shutdown(),
            Step::Close => stack.close(),
        }
        peer.facts.app = stack.settle(&mut peer);
        all.push(peer.facts);
    }
    all
}

/// A step in one line, with the numbers that it has when the facts before it are these.
pub(crate) fn line(step: &Step, before: &Facts) -> String {
    let Step::Send(segment) = step else { return format!("{step:?}") };
    let (at, flags) = (before.place(segment), segment.flags);
    let letters = [(Flags::SYN, 'S'), (Flags::FIN, 'F'), (Flags::RST, 'R'), (Flags::PSH, 'P'), (Flags::ACK, 'A')];
    let flags: String = letters.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, letter)| letter).collect();
    let stale = if segment.stale { " stale" } else { "" };
    format!("{flags} {}:{} ack {} win {}{stale}", at.seq, at.seq + i64::from(segment.len), at.ack, segment.window)
}

/// Octets that an application has read.
pub(crate) fn check(app: &mut App, data: &[u8]) {
    for found in data {
        app.wrong |= *found != octet(app.read as u32);
        app.read += 1;
    }
}

/// Reads until there is nothing more, from a socket that does not wait.
pub(crate) fn read_all(app: &mut App, mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) {
    let mut block = [0; 4_096];
    while !app.end && !app.error {
        match read(&mut block) {
            Ok(0) => app.end = true,
            Ok(len) => check(app, &block[..len]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return,
            Err(_) => app.error = true,
        }
    }
}
