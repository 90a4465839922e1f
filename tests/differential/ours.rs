//! Our stack: a host of its own for each script, in virtual time, with an application on sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use trust::embed::Host;
use trust::net::{TcpListener, TcpStream};
use trust::tcp::{Duration, Instant};

use super::facts::{App, Peer};
use super::packet::{self, PORT, STACK};
use super::run::{SETTLED, Stack, read_all};
use super::script::octets;

pub(crate) struct Ours {
    host: Host,
    listener: TcpListener,
    stream: Option<TcpStream>,
    closed: bool,
    app: App,
    written: i64,
    now: Instant,
    sent: Vec<Vec<u8>>,
}

impl Ours {
    pub(crate) fn new(seed: u64) -> Self {
        let mut host = Host::builder().address(STACK).seed(seed).build(Instant::ZERO).unwrap();
        let listener = host.stack().bind((STACK, PORT)).unwrap();
        host.poll(Instant::ZERO, |_| {});
        Self {
            host,
            listener,
            stream: None,
            closed: false,
            app: App::default(),
            written: 0,
            now: Instant::ZERO,
            sent: Vec::new(),
        }
    }

    fn poll(&mut self) {
        self.host.poll(self.now, |packet| self.sent.push(packet.to_vec()));
    }

    /// What the application does by itself: it takes the connection, and reads what there is.
    fn act(&mut self) {
        if self.stream.is_none()
            && !self.closed
            && let Ok((stream, _)) = self.listener.accept()
        {
            let _ = stream.set_nodelay(true);
            self.app.accepted = true;
            self.stream = Some(stream);
        }
        if let Some(stream) = &mut self.stream {
            read_all(&mut self.app, |block| stream.read(block));
        }
    }
}

impl Stack for Ours {
    fn inject(&mut self, packet: &[u8]) {
        assert!(self.host.receive(packet));
        self.poll();
    }

    fn write(&mut self, len: u16) {
        if let Some(stream) = &mut self.stream {
            match stream.write(&octets(self.written, usize::from(len))) {
                Ok(put) => self.written += put as i64,
                Err(e) => assert_ne!(e.kind(), ErrorKind::WouldBlock, "there is room for little"),
            }
        }
    }

    fn shutdown(&mut self) {
        if let Some(stream) = &self.stream {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    fn close(&mut self) {
        if self.stream.take().is_some() {
            self.closed = true;
        }
    }

    fn settle(&mut self, peer: &mut Peer) -> App {
        let end = self.now + SETTLED;
        loop {
            self.poll();
            self.act();
            self.poll();
            if self.now >= end {
                break;
            }
            self.now += Duration::from_millis(5);
        }
        for packet in self.sent.drain(..) {
            let (_, header, len) = packet::parse(&packet).expect("a TCP packet of ours");
            peer.take(&header, len);
        }
        self.app
    }
}
