//! What is sent again in vain turns red; what was lost, or may have been, does not.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};

use super::super::invariants::Invariants;
use super::*;
use crate::tcp::{Config, Connection, Duration, Instant, Opened, RecoveryCounts};
use crate::wire::options::TcpOptions;
use crate::wire::tcp::TcpHeader;

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Octets of a segment.
const MSS: u32 = 1_000;

/// A connection from A, which sends, to B, and what A says of itself.
struct Path {
    rules: Invariants,
    info: Option<Info>,
}

/// A connection with SACK and timestamps that has just begun.
fn info() -> Info {
    let opened = Opened {
        iss: SeqNum(0),
        irs: SeqNum(0),
        send_window: 65_535,
        window_seq: SeqNum(0),
        unscaled_rest: false,
        receive_window: 65_535,
        modest: false,
        receive_mss: 1_012,
        send_mss: 1_012,
        window_shifts: None,
        timestamps: Some(0),
        ts_offset: 0,
        sack: true,
        rtt: Some(Duration::from_millis(10)),
        syn_timeouts: 0,
        ack_due: false,
    };
    let config = Config::default();
    let info = Connection::new(&config, &opened, Instant::ZERO).info(&config, Instant::ZERO);
    assert_eq!(info.mss, MSS);
    info
}

/// A packet from A or from B.
fn packet(src: Ipv4Addr, flags: Flags, seq: u32, len: u32) -> (Packet, View) {
    let (dst, src_port, dst_port) = if src == A { (B, 1, 2) } else { (A, 2, 1) };
    let options = TcpOptions { mss: flags.contains(Flags::SYN).then_some(60_000), ..TcpOptions::default() };
    let header = TcpHeader { src_port, dst_port, flags, seq, ack: 1, window: 65_535, options, ..TcpHeader::default() };
    let packet = Packet::tcp(src, dst, &header, &vec![0; len as usize]);
    let view = packet.view().unwrap();
    (packet, view)
}

impl Path {
    /// Ten segments have left A. The first is lost, the others have arrived, and nothing is on its way.
    fn new() -> Self {
        let mut path = Self { rules: Invariants::default(), info: Some(info()) };
        for (src, flags) in [(A, Flags::SYN), (B, Flags::SYN | Flags::ACK)] {
            let (packet, view) = packet(src, flags, 0, 0);
            path.rules.sends(&packet, &view).unwrap();
            path.rules.arrives(&packet, &view);
        }
        for segment in 0..10 {
            let (packet, view) = packet(A, Flags::ACK, 1 + segment * MSS, MSS);
            path.rules.sends(&packet, &view).unwrap();
            if segment > 0 { path.rules.arrives(&packet, &view) } else { path.rules.lost(&packet, &view) }
        }
        path.check().unwrap();
        path
    }

    /// A sends a segment again, and it arrives.
    fn again(&mut self, segment: u32) {
        self.send(Flags::ACK, 1 + segment * MSS, MSS);
    }

    fn send(&mut self, flags: Flags, seq: u32, len: u32) {
        let (packet, view) = packet(A, flags, seq, len);
        self.rules.sends(&packet, &view).unwrap();
        self.rules.arrives(&packet, &view);
    }

    /// B sends an acknowledgment, which does not arrive for now.
    fn answer(&mut self) {
        let (packet, view) = packet(B, Flags::ACK, 1, 0);
        self.rules.sends(&packet, &view).unwrap();
        self.rules.polled(IpAddr::V4(B));
    }

    /// A has been polled, and says that it had so many timeouts, fast recoveries and tail loss probes.
    fn say(&mut self, timeouts: u64, fast_recoveries: u32, tail_probes: u32) -> Result<(), Rule> {
        let info = self.info.as_mut().unwrap();
        info.timeouts = timeouts;
        info.recovery = RecoveryCounts { fast_recoveries, tail_probes, ..RecoveryCounts::default() };
        self.check()
    }

    fn check(&mut self) -> Result<(), Rule> {
        let info = self.info;
        let result = self.rules.check_resent(IpAddr::V4(A), |quad| info.filter(|_| quad.remote.port == 2));
        self.rules.polled(IpAddr::V4(A));
        result.map_err(|violation| violation.rule)
    }

    /// How many segments A may send again when it says that.
    fn most(mut self, timeouts: u64, fast_recoveries: u32, tail_probes: u32) -> u32 {
        for count in 0..100 {
            self.again(count % 10);
            if self.say(timeouts, fast_recoveries, tail_probes).is_err() {
                return count;
            }
        }
        100
    }
}

#[test]
fn what_was_lost_and_two_for_each_recovery() {
    assert_eq!(Path::new().most(0, 0, 0), 1);
    assert_eq!(Path::new().most(1, 0, 0), 3);
    assert_eq!(Path::new().most(0, 1, 0), 3);
    assert_eq!(Path::new().most(0, 0, 1), 3);
    assert_eq!(Path::new().most(4, 2, 3), 19);
    let mut path = Path::new();
    path.again(0);
    path.again(1);
    assert_eq!(path.say(0, 0, 0), Err(Rule::Resent));
}

#[test]
fn only_losses_excuse_losses() {
    // B's acknowledgment is lost, or something happens to a packet of either.
    let mut path = Path::new();
    let (packet, view) = packet(B, Flags::ACK, 1, 0);
    path.rules.lost(&packet, &view);
    assert_eq!((path.rules.resent().count(), path.most(0, 0, 0)), (0, 100));
    for src in [A, B] {
        let mut path = Path::new();
        path.rules.disturbed(&self::packet(src, Flags::ACK, 1, 0).1);
        assert_eq!(path.most(0, 0, 0), 100);
    }
    // Nobody tells of the connection.
    let mut path = Path::new();
    path.info = None;
    path.again(0);
    path.again(1);
    assert_eq!(path.check(), Ok(()));
}

#[test]
fn a_timeout_that_may_be_wrong_costs_the_flight() {
    // Its two, the lost one, and ten in flight; but for what the peer has reported.
    let mut path = Path::new();
    path.answer();
    assert_eq!(path.most(1, 0, 0), 13);
    let mut path = Path::new();
    path.answer();
    path.info.as_mut().unwrap().sacked = 9 * MSS;
    assert_eq!(path.most(1, 0, 0), 4);
    let mut path = Path::new();
    path.info.as_mut().unwrap().sack = false;
    assert_eq!(path.most(1, 0, 0), 13);
    // Each timeout once.
    let mut path = Path::new();
    path.answer();
    path.again(0);
    assert_eq!(path.say(1, 0, 0), Ok(()));
    assert_eq!(path.most(1, 0, 0), 12);
}

#[test]
fn a_probe_may_seem_to_have_overtaken_the_flight() {
    for (waits, probes, most) in [(true, 1, 15), (false, 1, 5), (true, 0, 3)] {
        for timestamps in [true, false] {
            let mut path = Path::new();
            path.info.as_mut().unwrap().timestamps = timestamps;
            if waits {
                path.answer();
            }
            path.again(9);
            assert_eq!(path.say(0, 0, probes), Ok(()));
            assert_eq!(path.most(0, 1, probes), most - 1, "{timestamps} {waits} {probes}");
        }
    }
}

/// So may what a timeout has sent again while the first copies were on their way.
#[test]
fn what_left_twice_may_seem_to_have_overtaken_the_flight() {
    for (waits, most) in [(true, 25), (false, 5)] {
        let mut path = Path::new();
        if waits {
            path.answer();
        }
        path.again(9);
        assert_eq!(path.say(1, 0, 0), Ok(()));
        assert_eq!(path.most(1, 1, 0), most - 1, "{waits}");
    }
}

/// The 10,000 octets in flight are 1,000 segments, or some more than can be told from each other.
#[test]
fn of_a_large_flight_not_all_reports_are_remembered() {
    for (mss, most) in [(10, 3), (9, 3 + 10_000_u32.div_ceil(9) - 1_024)] {
        let mut path = Path::new();
        path.info.as_mut().unwrap().mss = mss;
        assert_eq!(path.most(0, 1, 0), most.min(100), "{mss}");
    }
}

#[test]
fn wire_segments_are_counted() {
    // A FIN is one; a probe of a closed window, an octet or none below what was sent, is none.
    let mut path = Path::new();
    path.send(Flags::ACK, 10 * MSS, 0);
    assert_eq!(path.say(0, 0, 0), Ok(()));
    path.send(Flags::ACK | Flags::FIN, 1 + 10 * MSS, 0);
    path.send(Flags::ACK | Flags::FIN, 1 + 10 * MSS, 0);
    assert_eq!(path.say(0, 0, 0), Ok(()));
    path.send(Flags::ACK | Flags::FIN, 1 + 10 * MSS, 0);
    assert_eq!(path.say(0, 0, 0), Err(Rule::Resent));
    // A super-segment is as many as it will be.
    for (octets, recoveries) in [(3 * MSS, 1), (3 * MSS + 1, 2)] {
        for (said, wanted) in [(recoveries, Ok(())), (recoveries - 1, Err(Rule::Resent))] {
            let mut path = Path::new();
            let (mut packet, view) = packet(A, Flags::ACK, 1, octets);
            packet.gso_size = MSS as u16;
            path.rules.sends(&packet, &view).unwrap();
            assert_eq!(path.say(0, said, 0), wanted, "{octets}");
        }
    }
    // What leaves in two packets at once is one segment.
    for (polls, wanted) in [(1, Ok(())), (2, Err(Rule::Resent))] {
        let mut path = Path::new();
        path.send(Flags::ACK, 1, 600);
        if polls > 1 {
            path.say(0, 0, 0).unwrap();
        }
        path.send(Flags::ACK, 601, 400);
        assert_eq!(path.say(0, 0, 0), wanted);
    }
}
