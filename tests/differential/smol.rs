//! smoltcp: a socket of its own for each script, in virtual time.

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State};
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use trust::tcp::{Duration, Instant};

use super::facts::{App, Peer};
use super::packet::{self, PORT, STACK};
use super::run::{SETTLED, Stack, check};
use super::script::octets;
use super::smoltcp_wire::{Wire, smol};

pub(crate) struct Smol {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    closed: bool,
    app: App,
    written: i64,
    now: Instant,
}

impl Smol {
    pub(crate) fn new(seed: u64) -> Self {
        let mut wire = Wire::new();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, SmolInstant::ZERO);
        interface.update_ip_addrs(|addrs| {
            addrs.push(IpCidr::new(IpAddress::Ipv4(STACK), 24)).expect("room for one address");
        });
        let mut socket = Socket::new(SocketBuffer::new(vec![0; 1 << 16]), SocketBuffer::new(vec![0; 1 << 16]));
        socket.set_nagle_enabled(false);
        // The clock is of no use to what is compared, but its options are.
        socket.set_tsval_generator(Some(|| 1));
        socket.listen(PORT).expect("a fresh socket listens");
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self { wire, interface, sockets, handle, closed: false, app: App::default(), written: 0, now: Instant::ZERO }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut::<Socket>(self.handle)
    }

    fn poll(&mut self) {
        self.interface.poll(smol(self.now), &mut self.wire, &mut self.sockets);
    }

    fn act(&mut self) {
        let mut app = self.app;
        let socket = self.socket();
        app.accepted |= !matches!(socket.state(), State::Listen | State::SynReceived | State::Closed);
        while app.accepted && !app.end && !app.error {
            match socket.recv(|data| (data.len(), data.to_vec())) {
                Ok(data) if data.is_empty() => break,
                Ok(data) => check(&mut app, &data),
                Err(RecvError::Finished) => app.end = true,
                Err(RecvError::InvalidState) => app.error = true,
            }
        }
        if !self.closed {
            self.app = app;
        }
    }
}

impl Stack for Smol {
    fn inject(&mut self, packet: &[u8]) {
        self.wire.inbox.push_back(packet.to_vec());
        self.poll();
    }

    fn write(&mut self, len: u16) {
        let data = octets(self.written, usize::from(len));
        if self.app.accepted
            && !self.closed
            && let Ok(put) = self.socket().send_slice(&data)
        {
            self.written += put as i64;
        }
    }

    fn shutdown(&mut self) {
        if self.app.accepted && !self.closed {
            self.socket().close();
        }
    }

    /// It knows no other close than that of its own direction.
    fn close(&mut self) {
        self.shutdown();
        self.closed |= self.app.accepted;
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
        for packet in self.wire.outbox.drain(..) {
            if let Some((_, header, len)) = packet::parse(&packet) {
                peer.take(&header, len);
            }
        }
        self.app
    }
}
