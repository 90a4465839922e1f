//! What an engine has used at a peak, and not since, goes back to the kernel.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, Pin, PlanKind, ServiceFactory};
use trust::net::TcpStream;
use trust::shard::{ConnId, Io, Service};

use crate::resident;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));
const PORT: u16 = 9;

/// Never reads a word.
#[derive(Debug)]
struct Deaf;

impl Service for Deaf {
    fn readable(&mut self, _: &mut dyn Io, _: ConnId) {}
}

fn engine(device: impl trust::device::Device + 'static, address: IpAddr, plan: PlanKind) -> Engine {
    let builder = Engine::builder().device(device, 1).address(address).pin(Pin::None).workers(1).plan(plan);
    builder.service(ServiceFactory::new(PORT, || Box::new(Deaf))).start().unwrap()
}

/// Clients that send much to one who reads nothing, until he holds so many of its packet buffers.
fn peak(server: &Engine, client: &Engine, packets: u64) {
    let mut streams: Vec<TcpStream> = Vec::new();
    let end = Instant::now() + Duration::from_secs(60);
    while server.counters().held_packets < packets {
        assert!(Instant::now() < end, "{} packets held by {}", server.counters().held_packets, streams.len());
        let stream = client.connect((SERVER, PORT)).unwrap();
        stream.set_linger(Some(Duration::ZERO)).unwrap();
        stream.set_nonblocking(true).unwrap();
        streams.push(stream);
        for mut stream in &streams {
            let _ = stream.write(&[7; 65_536]);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn is_given_back(plan: PlanKind) {
    /// The stock that is kept, on both sides, and what tables and the allocator keep.
    const STAYS: u64 = 8 << 20;
    let (a, b) = pair(&MemoryOptions { slots: 16, ..MemoryOptions::default() }).unwrap();
    let (server, client) = (engine(a, SERVER, plan), engine(b, CLIENT, plan));
    // The device's own memory, and the first of everything.
    peak(&server, &client, 16);
    let before = resident();
    peak(&server, &client, 240);
    let at_peak = resident();
    assert!(at_peak > before + (12 << 20), "{plan:?}: {before} to {at_peak}");
    let end = Instant::now() + Duration::from_secs(30);
    let mut after = resident();
    while (after > before + STAYS || server.counters().connections > 0) && Instant::now() < end {
        thread::sleep(Duration::from_millis(50));
        after = resident();
    }
    println!("{plan:?}: {} KB, {} at the peak, {} afterwards", before >> 10, at_peak >> 10, after >> 10);
    assert_eq!(server.counters().connections, 0);
    assert!(after <= before + STAYS, "{plan:?}: {before} before, {at_peak} at the peak, {after} afterwards");
}
