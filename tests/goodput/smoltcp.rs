//! A sender on smoltcp, as a measure: another stack, with buffers as large as ours.
//!
//! Only a bulk sender; the receiver is the same shard for both stacks, so that what differs is the sender.

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer};
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use trust::flow::Endpoint;
use trust::sim::app::octets;
use trust::sim::{Host, Packet};
use trust::tcp::{self, Instant};

use super::smoltcp_wire::{Wire, smol};

/// Octets of its send buffer: the ceiling of ours.
const SEND_BUFFER: usize = 4 << 20;

/// See the module.
pub struct SmoltcpSender {
    addr: Ipv4Addr,
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    open: Option<(Instant, Ipv4Addr, u16)>,
    sent: u64,
    now: Instant,
}

/// The same algorithm, as it calls it.
fn control(congestion: tcp::CongestionControl) -> CongestionControl {
    match congestion {
        tcp::CongestionControl::Reno => CongestionControl::Reno,
        tcp::CongestionControl::Cubic => CongestionControl::Cubic,
    }
}

impl SmoltcpSender {
    /// Opens a connection to `remote` at `start` and sends for ever.
    pub fn new(
        addr: Ipv4Addr,
        seed: u64,
        congestion: tcp::CongestionControl,
        start: Instant,
        remote: Endpoint,
    ) -> Self {
        let mut wire = Wire::new();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, SmolInstant::ZERO);
        interface.update_ip_addrs(|addrs| {
            addrs.push(IpCidr::new(IpAddress::Ipv4(addr), 24)).unwrap();
        });
        let buffer = |len| SocketBuffer::new(vec![0; len]);
        let mut socket = Socket::new(buffer(65_536), buffer(SEND_BUFFER));
        socket.set_congestion_control(control(congestion));
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let IpAddr::V4(server) = remote.addr else { unreachable!("paths are of IPv4") };
        let open = Some((start, server, remote.port));
        Self { addr, wire, interface, sockets, handle, open, sent: 0, now: Instant::ZERO }
    }

    /// Fills the send buffer. Returns whether there was room.
    fn write(&mut self) -> bool {
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        let before = self.sent;
        while socket.can_send() {
            let Ok(sent) = socket.send_slice(octets(1, self.sent, 65_536)) else { break };
            self.sent += sent as u64;
        }
        self.sent > before
    }
}

impl Host for SmoltcpSender {
    fn addr(&self) -> IpAddr {
        self.addr.into()
    }

    fn receive(&mut self, _now: Instant, packet: Packet) {
        packet.split(|packet| self.wire.inbox.push_back(packet.data));
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Packet>) {
        self.now = now;
        if let Some((_, server, port)) = self.open.filter(|(at, ..)| *at <= now) {
            self.open = None;
            let socket = self.sockets.get_mut::<Socket>(self.handle);
            socket.connect(self.interface.context(), (server, port), 49_152).unwrap();
        }
        loop {
            self.interface.poll(smol(now), &mut self.wire, &mut self.sockets);
            if !self.write() {
                break;
            }
        }
        out.extend(self.wire.outbox.drain(..).map(Packet::new));
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let at = self.interface.poll_at(smol(self.now), &self.sockets);
        // Its clock has microseconds: round up, or it would be asked in vain.
        let at = at.map(|at| Instant::from_micros(at.total_micros().max(0) as u64 + 1).max(self.now));
        [at, self.open.map(|(at, ..)| at)].into_iter().flatten().min()
    }

    fn is_watched(&self) -> bool {
        false
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
