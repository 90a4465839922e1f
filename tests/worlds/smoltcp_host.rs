//! A host on smoltcp: another stack, written by others from the same RFCs.
//!
//! Must not contain: checks of what it does; it is the peer, not the subject.

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use trust::flow::Endpoint;
use trust::sim::app::{SharedReport, octets};
use trust::sim::{Ending, Host, Packet, Plan, Report, Rng, Rule, Violation};
use trust::tcp::{CloseReason, Instant};

use super::smoltcp_wire::{Wire, smol};

/// See the module.
pub struct SmoltcpHost {
    addr: Ipv4Addr,
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    open: Option<(Instant, Endpoint, u16)>,
    plan: Plan,
    report: SharedReport,
    rng: Rng,
    ended: bool,
    /// Reading and writing pause until then.
    stalled: Option<Instant>,
    resting: Option<Instant>,
    read_since: u64,
    written_since: u64,
    now: Instant,
    broke_down: bool,
}

impl SmoltcpHost {
    fn new(addr: Ipv4Addr, rng: &mut Rng, plan: Plan) -> Self {
        let mut wire = Wire::new();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = rng.u64(..);
        let mut interface = Interface::new(config, &mut wire, SmolInstant::ZERO);
        interface.update_ip_addrs(|addrs| {
            addrs.push(IpCidr::new(IpAddress::Ipv4(addr), 24)).expect("room for one address");
        });
        let buffer = |rng: &mut Rng| SocketBuffer::new(vec![0; 1 << rng.u32(11..19)]);
        let mut socket = Socket::new(buffer(rng), buffer(rng));
        socket.set_congestion_control(
            *rng.choice(&[CongestionControl::None, CongestionControl::Reno, CongestionControl::Cubic])
                .unwrap_or(&CongestionControl::Reno),
        );
        socket.set_nagle_enabled(!plan.nodelay);
        // It does not probe a closed window: only a keep-alive draws a lost window update once more.
        socket.set_keep_alive(Some(smoltcp::time::Duration::from_secs(1)));
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self {
            addr,
            wire,
            interface,
            sockets,
            handle,
            open: None,
            plan,
            report: SharedReport::default(),
            rng: rng.fork(),
            ended: false,
            stalled: None,
            resting: None,
            read_since: 0,
            written_since: 0,
            now: Instant::ZERO,
            broke_down: false,
        }
    }

    /// A host that opens a connection to `remote` at `at`.
    pub fn connect(addr: Ipv4Addr, rng: &mut Rng, at: Instant, remote: Endpoint, plan: Plan) -> (Self, SharedReport) {
        let mut host = Self::new(addr, rng, plan);
        host.open = Some((at, remote, rng.u16(49_152..)));
        let report = host.report.clone();
        (host, report)
    }

    /// A host that waits on `port`.
    pub fn listen(addr: Ipv4Addr, rng: &mut Rng, port: u16, plan: Plan) -> (Self, SharedReport) {
        let mut host = Self::new(addr, rng, plan);
        host.sockets.get_mut::<Socket>(host.handle).listen(port).expect("a fresh socket listens");
        let report = host.report.clone();
        (host, report)
    }

    /// The application: reads and writes what it can. Returns whether it did anything.
    fn act(&mut self, now: Instant) -> bool {
        let mut report = self.report.read();
        let before = (report, self.ended);
        let plan = self.plan;
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        report.accepted |= socket.is_active();
        while self.stalled.is_none() && socket.can_recv() {
            let most = plan.read_pause.map_or(u64::MAX, |(every, _)| (every - self.read_since).max(1));
            let read = socket.recv(|data| {
                let len = data.len().min(65_536).min(most as usize);
                let right = data[..len] == *octets(plan.peer_stream, report.received, len);
                (len, (len, right))
            });
            let Ok((len, right)) = read else { break };
            if !right {
                report.wrong_at.get_or_insert(report.received);
            }
            report.received += len as u64;
            self.read_since += len as u64;
            if let Some((every, pause)) = plan.read_pause
                && self.read_since >= every
            {
                self.read_since = 0;
                self.stalled = Some(now + pause);
            }
        }
        let peer_ended = matches!(
            socket.state(),
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait | State::Closed
        );
        report.eof |= report.accepted && peer_ended && !socket.can_recv() && socket.recv_queue() == 0;
        while self.resting.is_none() && report.sent < plan.send && socket.can_send() {
            let wanted = u64::from(self.rng.u32(plan.write.0..=plan.write.1)).min(plan.send - report.sent);
            let Ok(sent) = socket.send_slice(octets(plan.stream, report.sent, wanted as usize)) else { break };
            report.sent += sent as u64;
            self.written_since += sent as u64;
            if let Some((every, pause)) = plan.write_pause
                && self.written_since >= every
            {
                self.written_since = 0;
                self.resting = Some(now + pause);
            }
            if (sent as u64) < wanted {
                break;
            }
        }
        let done = report.accepted && report.sent == plan.send && socket.may_send();
        let wanted = match plan.ending {
            Ending::AfterPeer => report.eof,
            Ending::Close => report.received >= plan.expect,
            Ending::Shutdown | Ending::Abort(_) => true,
        };
        if done && wanted && !self.ended {
            self.ended = true;
            socket.close();
        }
        if report.accepted && matches!(socket.state(), State::Closed | State::TimeWait) {
            report.closed = Some(CloseReason::Normal);
        }
        self.report.write(report);
        before != (report, self.ended)
    }
}

impl SmoltcpHost {
    /// Whether it has panicked, which ends its world. It does (0.12) over what the window of one ACK has allowed and that of the
    /// next, rounded down by its scale, no longer holds: it reckons what is left of the window that it announced last.
    pub fn broke_down(&self) -> bool {
        self.broke_down
    }
}

impl Host for SmoltcpHost {
    fn addr(&self) -> IpAddr {
        self.addr.into()
    }

    fn receive(&mut self, _now: Instant, packet: Packet) {
        packet.split(|packet| self.wire.inbox.push_back(packet.data));
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Packet>) {
        self.now = now;
        for pause in [&mut self.stalled, &mut self.resting] {
            if pause.is_some_and(|until| until <= now) {
                *pause = None;
            }
        }
        if let Some((_, remote, port)) = self.open.filter(|(at, ..)| *at <= now) {
            self.open = None;
            let std::net::IpAddr::V4(addr) = remote.addr else { return };
            let socket = self.sockets.get_mut::<Socket>(self.handle);
            socket.connect(self.interface.context(), (addr, remote.port), port).expect("a fresh socket connects");
        }
        loop {
            let poll = || self.interface.poll(smol(now), &mut self.wire, &mut self.sockets);
            self.broke_down |= catch_unwind(AssertUnwindSafe(poll)).is_err();
            if self.broke_down || !self.act(now) {
                break;
            }
        }
        out.extend(self.wire.outbox.drain(..).map(Packet::new));
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        if self.broke_down {
            return None;
        }
        let at = self.interface.poll_at(smol(self.now), &self.sockets);
        // Its clock has microseconds: round up, or it would be asked in vain.
        let at = at.map(|at| Instant::from_micros(at.total_micros().max(0) as u64 + 1).max(self.now));
        let open = self.open.map(|(at, ..)| at);
        [at, open, self.stalled, self.resting].into_iter().flatten().min()
    }

    fn check(&mut self) -> Result<(), Violation> {
        if self.broke_down {
            return Err(Violation::new(Rule::WrongEnd, "smoltcp has panicked".to_owned()));
        }
        match self.report.read() {
            Report { wrong_at: Some(at), .. } => {
                Err(Violation::new(Rule::ByteExact, format!("octet {at} that smoltcp read is wrong")))
            }
            _ => Ok(()),
        }
    }

    fn is_watched(&self) -> bool {
        false
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
