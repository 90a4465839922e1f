//! Fragments of both families on the device: those that the kernel makes, those of a host that sends all of its segments
//! in pieces, and those that draw an answer.
//!
//! ```text
//! client ─ kernel ─ cut0 ─ this test cuts each packet ─ packet socket ─ trust0 ─ engine
//!             └──────────────────────── trust0 ◄───────────────────────────────────┘
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use trust::device::{BUFFER_LEN, Device, TunDevice, TunOptions, kernel_has_ipv6};
use trust::wire::{checksum, ip};

use crate::hostile::{exact, link_address};
use crate::support::*;

/// The engine, and the kernel beside it.
const ENGINE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 2);
const KERNEL_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 1);
const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const UDP: u8 = 17;

/// A packet socket on the engine's device, for IP packets of one family.
pub(crate) struct Raw {
    socket: Socket,
    to: SockAddr,
}

impl Raw {
    /// `Err`: why there can be none here.
    pub(crate) fn open(v6: bool) -> Result<Self, String> {
        Self::of(if v6 { libc::ETH_P_IPV6 } else { libc::ETH_P_IP })
    }

    /// Also hears what the kernel sends, for all families.
    pub(crate) fn both_ways() -> Result<Self, String> {
        Self::of(libc::ETH_P_ALL)
    }

    fn of(protocol: i32) -> Result<Self, String> {
        let why = |error| format!("a packet socket: {error}");
        let kind = Protocol::from(i32::from((protocol as u16).to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), Some(kind)).map_err(why)?;
        let to = link_address("trust0", protocol, None).map_err(why)?;
        socket.bind(&to).map_err(why)?;
        let _ = socket.set_recv_buffer_size(8 << 20);
        Ok(Self { socket, to })
    }

    /// False when the device takes no more now.
    pub(crate) fn send(&self, packet: &[u8]) -> bool {
        self.socket.send_to(packet, &self.to).is_ok()
    }

    /// The front of a packet that has come, and how long all of it is.
    pub(crate) fn hear(&self) -> Option<(Vec<u8>, usize)> {
        let mut packet = vec![0; 2_048];
        // SAFETY: the pointer and length are those of `packet`, which is written to for the length of the call.
        let got =
            unsafe { libc::recv(self.socket.as_raw_fd(), packet.as_mut_ptr().cast(), packet.len(), libc::MSG_TRUNC) };
        let len = usize::try_from(got).ok()?;
        packet.truncate(len);
        Some((packet, len))
    }
}

/// A whole packet with some octets in it.
pub(crate) fn datagram(src: IpAddr, dst: IpAddr, protocol: u8, octets: usize) -> Vec<u8> {
    let mut packet = vec![0; ip::header_len(src)];
    ip::write(&mut packet, src, dst, protocol, octets, ip::IpFields::default());
    packet.extend((0..octets).map(|at| (at * 7 % 251) as u8));
    packet
}

/// What is in `range` of the payload of a packet without options, as a fragment.
pub(crate) fn fragment(packet: &[u8], id: u32, range: Range<usize>) -> Vec<u8> {
    let v6 = packet[0] >> 4 == 6;
    let headers = if v6 { 40 } else { 20 };
    let more = headers + range.end < packet.len();
    let data = &packet[headers + range.start..headers + range.end];
    let mut fragment = packet[..headers].to_vec();
    if v6 {
        let place = range.start as u16 | u16::from(more);
        fragment.extend_from_slice(&[fragment[6], 0]);
        fragment.extend_from_slice(&place.to_be_bytes());
        fragment.extend_from_slice(&id.to_be_bytes());
        fragment[6] = 44;
        fragment[4..6].copy_from_slice(&(8 + data.len() as u16).to_be_bytes());
    } else {
        let place = (range.start / 8) as u16 | if more { 0x2000 } else { 0 };
        fragment[2..4].copy_from_slice(&(20 + data.len() as u16).to_be_bytes());
        fragment[4..6].copy_from_slice(&(id as u16).to_be_bytes());
        fragment[6..8].copy_from_slice(&place.to_be_bytes());
        fragment[10..12].fill(0);
        let sum = checksum::finish(checksum::sum(&fragment));
        fragment[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    fragment.extend_from_slice(data);
    fragment
}

fn with_ipv6() -> Outcome {
    if kernel_has_ipv6() { Ok(()) } else { Err("the kernel has no IPv6 here".to_owned()) }
}

/// IP-5: the kernel cuts what is larger than the device's MTU.
pub(crate) fn pings_of_ipv6() -> Outcome {
    need(&["ping"])?;
    with_ipv6()?;
    for plan in ["fused", "pipeline"] {
        let engine = Engine::start(&["--plan", plan]);
        for octets in ["1453", "4000", "60000"] {
            let said = must(20, "ping", &["-6", "-c", "5", "-i", "0.2", "-s", octets, "fd00:7::2"]);
            assert!(said.contains(" 0% packet loss"), "{octets}: {said}");
        }
        let text = engine.finish().text;
        assert!(!text.contains(": Fragment"), "{text}");
    }
    Ok(())
}

/// Sends every packet of the kernel's in pieces, out of order and some of them twice, until it is told to stop. How many
/// packets those were, by family.
fn cut_all(mut device: TunDevice, stop: &AtomicBool) -> Result<[u64; 2], String> {
    let raw = [Raw::open(false)?, Raw::open(true)?];
    let (mut queue, _out) = device.take_queues().remove(0);
    let (mut buffer, mut random, mut cut) = (vec![0; BUFFER_LEN], fastrand::Rng::with_seed(7), [0; 2]);
    // What came twice waits under its number when the packet is done: no other may have that number.
    let mut id = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        let Some(received) = queue.receive(&mut buffer).map_err(|error| error.to_string())? else {
            thread::sleep(Duration::from_micros(100));
            continue;
        };
        let packet = &buffer[received.start..received.start + received.len];
        let v6 = packet[0] >> 4 == 6;
        let (headers, protocol) = if v6 { (40, packet[6]) } else { (20, packet[9]) };
        if protocol != 6 {
            continue;
        }
        cut[usize::from(v6)] += 1;
        // The first has the TCP header without its options.
        let end = packet.len() - headers;
        let mut places = vec![0, 24];
        while let Some(last) = places.last().copied().filter(|last| *last < end) {
            places.push(last + 8 * random.usize(1..90));
        }
        places.retain(|place| *place < end);
        places.push(end);
        id += 1;
        let mut pieces: Vec<_> = places.windows(2).map(|ends| fragment(packet, id, ends[0]..ends[1])).collect();
        if random.u8(..) < 32 {
            pieces.push(pieces[random.usize(..pieces.len())].clone());
        }
        random.shuffle(&mut pieces);
        for piece in &pieces {
            let _ = raw[usize::from(v6)].send(piece);
        }
    }
    Ok(cut)
}

/// A host none of whose segments comes whole: what it sends comes back octet by octet.
pub(crate) fn tcp_in_pieces() -> Outcome {
    need(&["ip"])?;
    with_ipv6()?;
    for arguments in [&["--plan", "fused"][..], &["--plan", "pipeline"], &["--offload", "off"]] {
        let engine = Engine::start(arguments);
        let addresses = vec![(Ipv4Addr::new(10, 9, 0, 1).into(), 24), ("fd00:9::1".parse().unwrap(), 64)];
        let options = TunOptions { name: "cut0".to_owned(), addresses, offload: false, ..TunOptions::default() };
        let device = TunDevice::create(&options).map_err(|error| error.to_string())?;
        for device in ["all", "trust0", "cut0"] {
            sysctl(&format!("conf/{device}/rp_filter"), "0")?;
        }
        must(5, "ip", &["route", "add", "10.7.0.2/32", "dev", "cut0", "src", "10.9.0.1"]);
        must(5, "ip", &["-6", "route", "add", "fd00:7::2/128", "dev", "cut0", "src", "fd00:9::1"]);
        let stop = AtomicBool::new(false);
        let cut = thread::scope(|scope| {
            // It sees the namespace of this thread.
            let cutting = scope.spawn(|| cut_all(device, &stop));
            for address in [IpAddr::V6(ENGINE_V6), ENGINE.into()] {
                let outcome =
                    exact((address, 7).into(), &noise(size(1_000_000, 20_000_000), 71), Duration::from_secs(20));
                assert!(outcome.is_ok(), "{arguments:?} {address}: {outcome:?}");
            }
            stop.store(true, Ordering::Relaxed);
            cutting.join().unwrap()
        })?;
        assert!(cut.iter().all(|packets| *packets > 100), "{cut:?}");
        let text = engine.finish().text;
        assert!(!text.contains("FragmentOverlap") && !text.contains("FragmentOdd"), "{text}");
    }
    Ok(())
}

/// The first ICMP message that the engine sends, with so many first octets of it.
fn answer(raw: &Raw, v6: bool, limit: Duration) -> Option<(Vec<u8>, Vec<u8>)> {
    let (at, protocol, headers) = if v6 { (6, 58, 40) } else { (9, 1, 20) };
    let start = Instant::now();
    while start.elapsed() < limit {
        match raw.hear() {
            Some((packet, _)) if packet.get(at) == Some(&protocol) => {
                return Some((packet[headers..headers + 8].to_vec(), packet[headers + 8..].to_vec()));
            }
            Some(_) => {}
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
    None
}

/// IP-6, IP-10, IP-11: who sends fragments of which nothing comes is told, if he sent the first one.
pub(crate) fn answers() -> Outcome {
    with_ipv6()?;
    let engine = Engine::start(&["--plan", "pipeline"]);
    let (v4, v6) = (Raw::open(false)?, Raw::open(true)?);
    let began = Instant::now();
    let of_v6 = datagram(KERNEL_V6.into(), ENGINE_V6.into(), UDP, 3_000);
    let of_v4 = datagram(KERNEL.into(), ENGINE.into(), UDP, 3_000);
    let first = [fragment(&of_v4, 1, 0..1_480), fragment(&of_v6, 1, 0..1_448)];
    // Also those of which the first never comes.
    assert!(v4.send(&first[0]) && v4.send(&fragment(&of_v4, 2, 1_480..2_960)));
    assert!(v6.send(&first[1]) && v6.send(&fragment(&of_v6, 2, 1_448..2_896)));
    let tcp = datagram(KERNEL_V6.into(), ENGINE_V6.into(), 6, 3_000);
    let tiny = fragment(&tcp, 3, 0..16);
    let mut length = fragment(&tcp, 4, 0..804);
    length[43] |= 1;
    for (sent, said) in [(&tiny, [4, 3, 0]), (&length, [4, 0, 4])] {
        assert!(v6.send(sent));
        let (head, quoted) = answer(&v6, true, Duration::from_secs(5)).expect("an answer");
        assert_eq!([head[0], head[1], head[7]], said);
        assert_eq!(quoted, sent[..sent.len().min(1_232)]);
    }
    let (head, quoted) = answer(&v4, false, Duration::from_secs(40)).expect("time exceeded");
    assert!(began.elapsed() >= Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!((head[0], head[1], &quoted[..]), (11, 1, &first[0][..548]));
    assert!(answer(&v4, false, Duration::from_secs(1)).is_none());
    // That of IPv6 waits twice as long.
    if soak() {
        let (head, quoted) = answer(&v6, true, Duration::from_secs(40)).expect("time exceeded");
        assert!(began.elapsed() >= Duration::from_secs(60), "{:?}", began.elapsed());
        assert_eq!((head[0], head[1], &quoted[..]), (3, 1, &first[1][..1_232]));
        assert!(answer(&v6, true, Duration::from_secs(1)).is_none());
    }
    let text = engine.finish().text;
    let unfinished = if soak() { 4 } else { 2 };
    for said in [format!("dropped {unfinished}: FragmentUnfinished"), "dropped 1: FragmentTiny".to_owned()] {
        assert!(text.contains(&said), "no {said:?} in {text}");
    }
    Ok(())
}

/// Fragments under way until this is dropped.
pub(crate) struct Storm {
    stop: Arc<AtomicBool>,
    sender: Option<thread::JoinHandle<(u64, Duration)>>,
}

/// What fragments of a storm are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Overlapping,
    TinyFirst,
    NeverFinished,
}

impl Storm {
    /// Fragments of that kind, from many sources, as many as go.
    pub(crate) fn start(v6: bool, kind: Kind) -> Result<Self, String> {
        let raw = Raw::open(v6)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sender = thread::spawn(move || {
            let (start, mut random, mut sent) = (Instant::now(), fastrand::Rng::with_seed(11), 0);
            // Bounded, whatever becomes of the test.
            while !stopped.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(100) {
                for fragment in some(v6, kind, &mut random) {
                    sent += u64::from(raw.send(&fragment));
                }
            }
            (sent, start.elapsed())
        });
        Ok(Self { stop, sender: Some(sender) })
    }

    /// How many the device has taken, and in what time.
    pub(crate) fn end(mut self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.take().unwrap().join().unwrap()
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Fragments of one packet of somebody that nobody is.
fn some(v6: bool, kind: Kind, random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    let (id, who) = (random.u32(..), random.u16(..));
    let (src, dst): (IpAddr, IpAddr) = if v6 {
        (Ipv6Addr::new(0xfd00, 0x64, who, random.u16(..), 0, 0, 0, 9).into(), ENGINE_V6.into())
    } else {
        (Ipv4Addr::from(0x0a40_0000 | random.u32(..1 << 22)).into(), ENGINE.into())
    };
    let whole = datagram(src, dst, 6, 1_200);
    match kind {
        Kind::Overlapping => vec![fragment(&whole, id, 0..800), fragment(&whole, id, 792..1_200)],
        Kind::TinyFirst => vec![fragment(&whole, id, 0..8)],
        Kind::NeverFinished => vec![fragment(&whole, id, 0..800)],
    }
}
