//! A service that does what its test asks of it, on a shard driven by hand.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use trust::flow::{Endpoint, Quad};
use trust::shard::{ConnId, ConnectError, ConnectOptions, Io, ListenError, Service, ShardConfig};
use trust::tcp::CloseReason;
use trust::wire::tcp::{Flags, TcpHeader};

use crate::rig::{OURS, PEER, Peer, Rig, tcp_packet};

/// Another address of ours.
pub(crate) const ALSO_OURS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 3);
pub(crate) const PORT: u16 = 80;

type Order = Box<dyn FnOnce(&mut dyn Io) + Send>;

/// What a [`Door`] was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    HalfOpen { ticket: u64, quad: Quad, tag: u64 },
    Accepted { conn: ConnId, ticket: u64, tag: u64, user: u64 },
    Writable,
    Urgent(u32),
    Closed { reason: CloseReason, tag: u64, user: u64 },
}

/// A service that does what it finds in its mail, echoes, and notes what it hears.
#[derive(Clone, Default)]
pub(crate) struct Door {
    pub(crate) mail: Arc<Mutex<VecDeque<Order>>>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Door {
    pub(crate) fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }

    /// Tags of what was accepted since the last look.
    pub(crate) fn accepted(&self) -> Vec<u64> {
        let tag = |heard| if let Heard::Accepted { tag, .. } = heard { Some(tag) } else { None };
        self.heard().into_iter().filter_map(tag).collect()
    }

    /// The service does something, in a turn of its own.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        rig: &mut Rig,
        order: impl FnOnce(&mut dyn Io) -> T + Send + 'static,
    ) -> T {
        let answer = Arc::new(Mutex::new(None));
        let into = Arc::clone(&answer);
        self.mail.lock().unwrap().push_back(Box::new(move |io| *into.lock().unwrap() = Some(order(io))));
        rig.begin();
        assert!(rig.shard.has_mail());
        assert_eq!(rig.shard.deliver_mail(), 1);
        rig.finish();
        assert!(!rig.shard.has_mail());
        answer.lock().unwrap().take().unwrap()
    }

    pub(crate) fn listen(&self, rig: &mut Rig, addr: IpAddr, port: u16, tag: u64) -> Result<(), ListenError> {
        self.ask(rig, move |io| io.listen(Endpoint::new(addr, port), 8, tag))
    }

    /// A listener on [`PORT`] and an established connection to it.
    pub(crate) fn accept(&self, rig: &mut Rig) -> (Peer, ConnId) {
        self.listen(rig, ANY, PORT, 1).unwrap();
        let peer = rig.connect(40_000, PORT);
        let accepted = |heard| if let Heard::Accepted { conn, .. } = heard { Some(conn) } else { None };
        (peer, self.heard().into_iter().find_map(accepted).unwrap())
    }

    pub(crate) fn connect(
        &self,
        rig: &mut Rig,
        remote: Endpoint,
        options: ConnectOptions,
    ) -> Result<ConnId, ConnectError> {
        self.ask(rig, move |io| io.connect(remote, &options))
    }
}

impl Service for Door {
    fn half_open(&mut self, _: &mut dyn Io, ticket: u64, quad: Quad, tag: u64) {
        self.heard.lock().unwrap().push(Heard::HalfOpen { ticket, quad, tag });
    }

    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        let heard = Heard::Accepted { conn, ticket: io.ticket(conn), tag: io.tag(conn), user: io.user(conn) };
        self.heard.lock().unwrap().push(heard);
    }

    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        io.forward(conn, conn);
    }

    fn writable(&mut self, _: &mut dyn Io, _: ConnId) {
        self.heard.lock().unwrap().push(Heard::Writable);
    }

    fn urgent(&mut self, io: &mut dyn Io, conn: ConnId) {
        self.heard.lock().unwrap().push(Heard::Urgent(io.urgent(conn)));
    }

    fn closed(&mut self, io: &mut dyn Io, conn: ConnId, reason: CloseReason) {
        let heard = Heard::Closed { reason, tag: io.tag(conn), user: io.user(conn) };
        self.heard.lock().unwrap().push(heard);
    }

    fn wants_mail(&self) -> bool {
        true
    }

    fn has_mail(&self) -> bool {
        !self.mail.lock().unwrap().is_empty()
    }

    fn mail(&mut self, io: &mut dyn Io) {
        let orders = std::mem::take(&mut *self.mail.lock().unwrap());
        for order in orders {
            order(io);
        }
    }
}

pub(crate) fn door_with(tweak: impl FnOnce(&mut ShardConfig)) -> (Rig, Door) {
    let mut rig = Rig::with(
        |config| {
            config.addresses.push(IpAddr::V4(ALSO_OURS));
            tweak(config);
        },
        64,
        1_024,
    );
    let door = Door::default();
    rig.shard.add_service(None, Box::new(door.clone()));
    (rig, door)
}

pub(crate) fn door() -> (Rig, Door) {
    door_with(|_| {})
}

pub(crate) fn v4(addr: Ipv4Addr) -> IpAddr {
    IpAddr::V4(addr)
}

pub(crate) const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
pub(crate) const HERE: IpAddr = IpAddr::V4(OURS);

pub(crate) fn remote() -> Endpoint {
    Endpoint::new(v4(PEER), 5_000)
}

pub(crate) fn syn_to(dst: Ipv4Addr, src_port: u16, dst_port: u16) -> Vec<u8> {
    let header = TcpHeader { src_port, dst_port, seq: 7, flags: Flags::SYN, window: 1_000, ..TcpHeader::default() };
    tcp_packet(PEER, dst, &header, &[])
}
