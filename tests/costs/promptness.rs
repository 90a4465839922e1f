//! An engine with threads answers soon, and its timers are exact: seen from a port in memory, with the threads asleep
//! before each packet.
//!
//! Prints what it finds. Its bounds are far above that: a busy machine passes, a thread that is
//! not woken, or wakes by luck, does not.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use trust::device::memory::{MemoryOptions, MemoryPort, port};
use trust::embed::Host;
use trust::engine::{Engine, Pin, PlanKind};
use trust::net::TcpSocket;
use trust::wire::{ip, tcp};

const ENGINE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 3);
/// Nothing hangs longer.
const PATIENCE: Duration = Duration::from_secs(20);

fn engine(plan: PlanKind) -> (Engine, MemoryPort) {
    let (device, port) = port(&MemoryOptions { offload: false, ..MemoryOptions::default() }).unwrap();
    let builder = Engine::builder().device(device, 1).address(IpAddr::V4(ENGINE)).plan(plan).pin(Pin::None);
    (builder.start().unwrap(), port)
}

fn capture(port: &mut MemoryPort, since: Instant) -> Vec<u8> {
    loop {
        if let Some(packet) = port.capture() {
            return packet;
        }
        assert!(since.elapsed() < PATIENCE, "no answer");
        thread::yield_now();
    }
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

pub(crate) fn of_answers() {
    for plan in [PlanKind::Fused, PlanKind::Pipeline] {
        let (_engine, mut port) = engine(plan);
        let mut times = Vec::new();
        for round in 0..100u16 {
            // Long enough for all threads to park.
            thread::sleep(Duration::from_millis(3));
            let mut ping = Vec::new();
            let builder = PacketBuilder::ipv4(PEER.octets(), ENGINE.octets(), 64).icmpv4_echo_request(7, round);
            builder.write(&mut ping, b"hello").unwrap();
            let start = Instant::now();
            assert!(port.inject(&ping));
            let pong = capture(&mut port, start);
            times.push(start.elapsed());
            assert_eq!(ip::parse(&pong, true).unwrap().dst, PEER);
        }
        let middle = middle(times);
        println!("{plan:?}: an echo takes {middle:?}");
        assert!(middle < Duration::from_millis(50), "{plan:?}: {middle:?}");
    }
}

/// SYN-ACKs that nobody answers are repeated after a second (RFC 6298), each by a thread that slept.
pub(crate) fn of_timers() {
    const RTO: Duration = Duration::from_secs(1);
    for plan in [PlanKind::Fused, PlanKind::Pipeline] {
        let (engine, mut port) = engine(plan);
        let _listener = engine.bind((ENGINE, 80)).unwrap();
        let mut syns = Vec::new();
        let mut peer = Host::builder().address(PEER).build(Default::default()).unwrap();
        let opened: Vec<_> =
            (0..20).map(|_| TcpSocket::new(&peer.stack()).connect_nonblocking((ENGINE, 80).into()).unwrap()).collect();
        peer.poll(Default::default(), |packet| syns.push(packet.to_vec()));
        assert_eq!(syns.len(), opened.len());

        // When each SYN went in and how many answers it has drawn; the second one is the timer's.
        let mut began = HashMap::new();
        let mut late = Vec::new();
        let start = Instant::now();
        let mut waiting = syns.iter();
        let mut next = start;
        while late.len() < syns.len() {
            if Instant::now() >= next
                && let Some(syn) = waiting.next()
            {
                let header = ip::parse(syn, true).unwrap();
                let (header, _) = tcp::parse(header.payload, header.src, header.dst, false).unwrap();
                began.insert(header.src_port, (Instant::now(), 0));
                assert!(port.inject(syn));
                next += Duration::from_millis(7);
            }
            if let Some(packet) = port.capture() {
                let header = ip::parse(&packet, true).unwrap();
                let (header, _) = tcp::parse(header.payload, header.src, header.dst, false).unwrap();
                let (injected, answers) = began.get_mut(&header.dst_port).unwrap();
                *answers += 1;
                if *answers == 2 {
                    let after = injected.elapsed();
                    assert!(after >= RTO, "{plan:?}: early, after {after:?}");
                    late.push(after - RTO);
                }
            }
            assert!(start.elapsed() < PATIENCE, "{} of {} came", late.len(), syns.len());
            thread::sleep(Duration::from_micros(20));
        }
        let middle = middle(late);
        println!("{plan:?}: a timer is {middle:?} late");
        assert!(middle < Duration::from_millis(50), "{plan:?}: {middle:?}");
    }
}
