//! smoltcp: one thread, pinned, that sleeps where nothing is to be done. Packets are taken one by one, so that one
//! listening socket a service is enough: it is replaced before the next SYN is read.

use crate::smoltcp_device::Queue;
use crate::{Service, pattern};
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::io;
use std::time::Duration;
use trust_tools::sys;
use trust_tools::tun::Device;

/// Packets before applications have their turn.
const BATCH: usize = 64;
const PATIENCE: Duration = Duration::from_millis(50);
/// Small where an octet goes there and back; as much as is in flight where it is bulk.
const SMALL: usize = 16 << 10;
const BULK: usize = 512 << 10;

struct Connection {
    service: Service,
    handle: SocketHandle,
}

struct Server<'a> {
    sockets: SocketSet<'a>,
    listening: Vec<(Service, u16, SocketHandle)>,
    open: Vec<Connection>,
    closed: Vec<Connection>,
    pattern: Vec<u8>,
    buffer: Vec<u8>,
}

fn socket(service: Service) -> Socket<'static> {
    let (receive, send) = match service {
        Service::Echo => (SMALL, SMALL),
        Service::Discard => (BULK, SMALL),
        Service::Chargen => (SMALL, BULK),
    };
    let mut socket = Socket::new(SocketBuffer::new(vec![0; receive]), SocketBuffer::new(vec![0; send]));
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    socket.set_congestion_control(CongestionControl::Reno);
    socket
}

impl Server<'_> {
    fn new() -> Self {
        let mut server = Self {
            sockets: SocketSet::new(Vec::new()),
            listening: Vec::new(),
            open: Vec::new(),
            closed: Vec::new(),
            pattern: pattern(),
            buffer: vec![0; SMALL],
        };
        for (service, port) in Service::ALL {
            let handle = server.listen(service, port);
            server.listening.push((service, port, handle));
        }
        server
    }

    /// A listening socket: one that is done with, or a new one.
    fn listen(&mut self, service: Service, port: u16) -> SocketHandle {
        let used = self.closed.iter().position(|connection| connection.service == service);
        let handle = match used {
            Some(used) => self.closed.swap_remove(used).handle,
            None => self.sockets.add(socket(service)),
        };
        // It is closed and the port is not 0: nothing to refuse.
        let _ = self.sockets.get_mut::<Socket<'_>>(handle).listen(port);
        handle
    }

    /// Puts another socket where one that listened has a connection.
    fn accept(&mut self) {
        for index in 0..self.listening.len() {
            let (service, port, handle) = self.listening[index];
            if self.sockets.get::<Socket<'_>>(handle).state() != State::Listen {
                self.open.push(Connection { service, handle });
                self.listening[index].2 = self.listen(service, port);
            }
        }
    }

    /// Every application's turn; whether anything was moved.
    fn serve(&mut self) -> bool {
        let mut moved = false;
        let mut index = 0;
        while let Some(Connection { service, handle }) = self.open.get(index) {
            let socket = self.sockets.get_mut::<Socket<'_>>(*handle);
            moved |= match service {
                Service::Echo => echo(socket, &mut self.buffer),
                Service::Discard => discard(socket),
                Service::Chargen => chargen(socket, &self.pattern),
            };
            if socket.state() == State::CloseWait && socket.recv_queue() == 0 {
                socket.close();
                moved = true;
            }
            if socket.state() == State::Closed {
                let connection = self.open.swap_remove(index);
                self.closed.push(connection);
            } else {
                index += 1;
            }
        }
        moved
    }
}

fn echo(socket: &mut Socket<'_>, buffer: &mut [u8]) -> bool {
    if !socket.can_recv() || !socket.can_send() {
        return false;
    }
    let room = (socket.send_capacity() - socket.send_queue()).min(buffer.len());
    let length = socket.recv_slice(&mut buffer[..room]).unwrap_or(0);
    socket.send_slice(&buffer[..length]).is_ok_and(|sent| sent > 0)
}

fn discard(socket: &mut Socket<'_>) -> bool {
    let mut moved = false;
    while socket.can_recv() && socket.recv(|octets| (octets.len(), octets.len())).is_ok_and(|taken| taken > 0) {
        moved = true;
    }
    moved
}

fn chargen(socket: &mut Socket<'_>, pattern: &[u8]) -> bool {
    let mut moved = false;
    while socket.can_send() && socket.send_slice(pattern).is_ok_and(|sent| sent > 0) {
        moved = true;
    }
    moved
}

/// Serves until it is ended.
pub fn serve(device: &Device, ready: impl FnOnce()) -> io::Result<()> {
    let file = device.open()?.remove(0);
    if let Some(&last) = sys::usable_cpus().last() {
        sys::pin_to_cpu(last)?;
    }
    let mut queue = Queue::new(file, device.mtu as usize, device.offload);
    let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut queue, Instant::now());
    interface.update_ip_addrs(|addresses| {
        let _ = addresses.push(IpCidr::new(IpAddress::v4(10, 7, 0, 2), 24));
    });
    let mut server = Server::new();
    ready();
    loop {
        let now = Instant::now();
        interface.poll_maintenance(now);
        let mut idle = true;
        for _ in 0..BATCH {
            match interface.poll_ingress_single(now, &mut queue, &mut server.sockets) {
                PollIngressSingleResult::None => break,
                PollIngressSingleResult::PacketProcessed => idle = false,
                PollIngressSingleResult::SocketStateChanged => {
                    idle = false;
                    server.accept();
                }
            }
        }
        idle &= !server.serve();
        while interface.poll_egress(now, &mut queue, &mut server.sockets) != PollResult::None {
            idle = false;
        }
        if idle {
            let wait = interface.poll_delay(now, &server.sockets).map_or(PATIENCE, Duration::from);
            sys::wait_readable(&queue.file, wait.min(PATIENCE))?;
        }
    }
}
