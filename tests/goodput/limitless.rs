//! A receiver that keeps everything and offers the largest window there is from its first segment on, as a measure: what a
//! sender makes of a path when nothing at the other end holds it back.
//!
//! It acknowledges as RFC 5681 4.2 has it (every second segment, at once what is out of order or fills a hole), reports as
//! RFC 2018 and RFC 2883 have it, and echoes by RFC 7323 4.3. It looks at numbers only: octets are compared elsewhere.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use trust::flow::Endpoint;
use trust::sim::app::SharedReport;
use trust::sim::{Host, Packet, Report};
use trust::tcp::{Duration, Instant};
use trust::wire::options::{SackBlocks, TcpOptions, Timestamps};
use trust::wire::tcp::{Flags, TcpHeader};

/// Our default for the wait for a second segment.
const DELAYED_ACK: Duration = Duration::from_millis(40);
/// RFC7323-2.3b: the largest shift.
const SHIFT: u8 = 14;
const ISN: u32 = 1;

/// What it knows of one sender. Places are counted from the sender's ISN, in 64 bits, so that nothing wraps.
struct Flow {
    peer: Endpoint,
    port: u16,
    isn: u32,
    /// RCV.NXT.
    next: u64,
    /// What lies behind a hole: begin and end.
    held: BTreeMap<u64, u64>,
    /// Blocks of `held` by when something came for them last, the latest first.
    recent: VecDeque<u64>,
    duplicate: Option<(u64, u64)>,
    /// TS.Recent, and Last.ACK.sent.
    stamp: Option<u32>,
    acked: u64,
    /// Segments that wait for their acknowledgment, and until when.
    unanswered: u32,
    due: Option<Instant>,
    report: SharedReport,
}

/// See the module.
pub struct Limitless {
    addr: Ipv4Addr,
    reports: Vec<(u16, SharedReport)>,
    flows: Vec<Flow>,
    inbox: Vec<Packet>,
}

impl Flow {
    /// The place that number `seq` has, near RCV.NXT.
    fn place(&self, seq: u32) -> u64 {
        let near = seq.wrapping_sub(self.isn).wrapping_sub(self.next as u32) as i32;
        self.next.saturating_add_signed(i64::from(near))
    }

    fn number(&self, place: u64) -> u32 {
        self.isn.wrapping_add(place as u32)
    }

    /// Takes `[from, to)`. Gives whether the acknowledgment may wait for a second segment.
    fn take(&mut self, from: u64, to: u64) -> bool {
        let holes = !self.held.is_empty();
        let around = self.held.range(..=from).next_back().filter(|(_, end)| **end >= to).map(|(left, _)| *left);
        if to <= self.next || around.is_some() {
            self.duplicate = Some((from, to));
            // RFC2883-4c: the block around a duplicate follows it.
            if let Some(around) = around {
                self.recent.retain(|known| *known != around);
                self.recent.push_front(around);
            }
            return false;
        }
        // Everything that it overlaps or touches becomes one with it.
        let (mut begin, mut end) = (from.max(self.next), to);
        while let Some((&left, &right)) = self.held.range(..=end).next_back().filter(|(_, right)| **right >= begin) {
            (begin, end) = (begin.min(left), end.max(right));
            self.held.remove(&left);
            self.recent.retain(|known| *known != left);
        }
        if begin <= self.next {
            self.next = end;
        } else {
            self.held.insert(begin, end);
            self.recent.push_front(begin);
        }
        !holes && begin <= self.next
    }

    fn acknowledge(&mut self, now: Instant, from: Ipv4Addr) -> Packet {
        let mut sack = SackBlocks::default();
        let reported = self.recent.iter().filter_map(|left| self.held.get(left).map(|right| (*left, *right)));
        let most = if self.stamp.is_some() { 3 } else { SackBlocks::MAX };
        for (left, right) in self.duplicate.take().into_iter().chain(reported).take(most) {
            sack.push(self.number(left), self.number(right));
        }
        self.acked = self.next;
        (self.unanswered, self.due) = (0, None);
        let options = TcpOptions { timestamps: self.stamps(now), sack, ..TcpOptions::default() };
        self.packet(from, Flags::ACK, ISN + 1, options)
    }

    fn stamps(&self, now: Instant) -> Option<Timestamps> {
        self.stamp.map(|ecr| Timestamps { val: now.as_millis() as u32, ecr })
    }

    fn packet(&self, from: Ipv4Addr, flags: Flags, seq: u32, options: TcpOptions) -> Packet {
        let header = TcpHeader {
            src_port: self.port,
            dst_port: self.peer.port,
            seq,
            ack: self.number(self.next),
            flags,
            window: u16::MAX,
            options,
            ..TcpHeader::default()
        };
        let IpAddr::V4(to) = self.peer.addr else { unreachable!("paths are of IPv4") };
        Packet::tcp(from, to, &header, &[])
    }
}

impl Limitless {
    /// A host that answers on the ports that [`listen`](Self::listen) names.
    pub fn new(addr: Ipv4Addr) -> Self {
        Self { addr, reports: Vec::new(), flows: Vec::new(), inbox: Vec::new() }
    }

    /// Waits for one connection on `port`. The report tells what has come in order.
    pub fn listen(&mut self, port: u16) -> SharedReport {
        let report = SharedReport::default();
        self.reports.push((port, report.clone()));
        report
    }

    fn open(&mut self, now: Instant, peer: Endpoint, header: &TcpHeader, out: &mut Vec<Packet>) {
        let Some((port, report)) = self.reports.iter().find(|(port, _)| *port == header.dst_port) else { return };
        self.flows.retain(|flow| flow.peer != peer);
        let flow = Flow {
            peer,
            port: *port,
            isn: header.seq,
            next: 1,
            held: BTreeMap::new(),
            recent: VecDeque::new(),
            duplicate: None,
            stamp: header.options.timestamps.map(|stamps| stamps.val),
            acked: 1,
            unanswered: 0,
            due: None,
            report: report.clone(),
        };
        let options = TcpOptions {
            mss: Some(1_460),
            window_scale: header.options.window_scale.map(|_| SHIFT),
            sack_permitted: header.options.sack_permitted,
            timestamps: flow.stamps(now),
            ..TcpOptions::default()
        };
        out.push(flow.packet(self.addr, Flags::SYN.union(Flags::ACK), ISN, options));
        self.flows.push(flow);
    }

    fn segment(&mut self, now: Instant, packet: &Packet, out: &mut Vec<Packet>) {
        let Some(view) = packet.view() else { return };
        if view.has(Flags::SYN) {
            return self.open(now, view.src, &view.header, out);
        }
        let Some(flow) = self.flows.iter_mut().find(|flow| flow.peer == view.src) else { return };
        let from = flow.place(view.header.seq);
        if let Some(stamps) = view.header.options.timestamps.filter(|_| from <= flow.acked)
            && flow.stamp.is_some_and(|recent| stamps.val.wrapping_sub(recent) as i32 >= 0)
        {
            flow.stamp = Some(stamps.val);
        }
        let len = u64::from(view.len());
        if len == 0 {
            return;
        }
        let may_wait = flow.take(from, from + len);
        flow.report.write(Report { received: flow.next - 1, ..Report::default() });
        flow.unanswered += 1;
        if may_wait && flow.unanswered < 2 {
            flow.due = Some(now + DELAYED_ACK);
        } else {
            out.push(flow.acknowledge(now, self.addr));
        }
    }
}

impl Host for Limitless {
    fn addr(&self) -> IpAddr {
        self.addr.into()
    }

    fn receive(&mut self, _now: Instant, packet: Packet) {
        packet.split(|packet| self.inbox.push(packet));
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Packet>) {
        for packet in std::mem::take(&mut self.inbox) {
            self.segment(now, &packet, out);
        }
        let addr = self.addr;
        let late = self.flows.iter_mut().filter(|flow| flow.due.is_some_and(|at| at <= now));
        out.extend(late.map(|flow| flow.acknowledge(now, addr)));
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        self.flows.iter().filter_map(|flow| flow.due).min()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
