//! The TUN backends against the kernel: what is granted, what arrives, what is accepted.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, RawFd};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use trust::device::impair::Impaired;
use trust::device::plain::PlainDevice;
use trust::device::{
    BUFFER_LEN, Capabilities, Device, DeviceError, QueuePair, Received, Transmitted, TunDevice, TunOptions,
};
use trust::flow::{Endpoint, Quad};
use trust::steering::SteeringKeys;
use trust::steering::program;
use trust::wire::options::{TcpOptions, Timestamps};
use trust::wire::tcp::{Flags, TcpHeader};
use trust::wire::vnet::{ChecksumStatus, TxChecksum, TxOffload};
use trust::wire::{self, checksum, ip, tcp};

use crate::netns;

const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const ENGINE: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);
const UDP: u8 = 17;
const WAIT: Duration = Duration::from_secs(5);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        netns::trial("tun_with_offload_is_granted_everything", || {
            let device = tun(2, true);
            let granted = Capabilities { mtu: 1500, queues: 2, checksum_offload: true, tso4: true, tso6: true };
            assert_eq!(device.capabilities(), granted);
            assert_eq!(device.name(), "trust0");
        }),
        netns::trial("tun_without_offload_leaves_nothing_to_do", || {
            let device = tun(2, false);
            let granted = Capabilities { mtu: 1500, queues: 2, checksum_offload: false, tso4: false, tso6: false };
            assert_eq!(device.capabilities(), granted);
        }),
        netns::trial("udp_both_ways_with_offload", || udp_both_ways(&mut tun(2, true), true)),
        netns::trial("udp_both_ways_without_offload", || udp_both_ways(&mut tun(2, false), false)),
        netns::trial("udp_both_ways_on_one_queue", || udp_both_ways(&mut tun(1, true), true)),
        netns::trial("udp_both_ways_on_tun_tap", || udp_both_ways(&mut plain(), false)),
        netns::trial("tcp_bulk_both_ways_with_offload", || tcp_bulk_both_ways(&mut tun(2, true))),
        netns::trial("tcp_bulk_both_ways_without_offload", || tcp_bulk_both_ways(&mut tun(2, false))),
        netns::trial("tcp_bulk_both_ways_on_tun_tap", || tcp_bulk_both_ways(&mut plain())),
        netns::trial("ipv6_address_and_super_segments", ipv6),
        netns::trial("ipv6_the_kernel_says_nothing_by_itself", quiet),
        netns::trial("several_addresses_lie_on_one_device", several_addresses),
        netns::trial("kernel_accepts_cut_super_segments", || {
            let bad_network = "tx.dup=0.05,tx.reorder=0.1,seed=1".parse().unwrap();
            let mut device = Impaired::new(tun(2, true), bad_network);
            let stats = device.stats();
            tcp_bulk_both_ways(&mut device);
            assert!(stats.tx().duplicated > 0 && stats.tx().reordered > 0, "{:?}", stats.tx());
        }),
        netns::trial("kernel_drops_corrupted_segments", corrupted),
        netns::trial("name_in_use_is_refused", name_in_use),
        netns::trial("bad_options_are_refused", bad_options),
        netns::trial("device_and_interface_live_and_die_together", lifetime),
        netns::trial("write_while_the_link_is_down_loses_that_packet_only", link_down),
        netns::trial("descriptor_becomes_readable", readiness),
        netns::trial_or_skip("syns_arrive_on_the_queue_of_their_owner", steering),
        netns::trial("queue_holds_as_many_packets_as_asked_for", queue_length),
    ]
}

fn tun(queues: u16, offload: bool) -> TunDevice {
    TunDevice::create(&TunOptions { queues, offload, ..TunOptions::default() }).unwrap()
}

fn plain() -> PlainDevice {
    PlainDevice::create(&TunOptions::default()).unwrap()
}

fn readable(fd: RawFd, wait: Duration) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&raw mut poll, 1, wait.as_millis() as i32) == 1 }
}

/// Queue and place of the next packet of one protocol.
fn next(queues: &mut [QueuePair], buf: &mut [u8], protocol: u8) -> (usize, Received) {
    let start = Instant::now();
    while start.elapsed() < WAIT {
        for (queue, (rx, _)) in queues.iter_mut().enumerate() {
            while let Some(got) = rx.receive(buf).unwrap() {
                let packet = &buf[got.start..got.start + got.len];
                if ip::parse(packet, true).is_ok_and(|p| p.protocol == protocol) {
                    return (queue, got);
                }
            }
        }
        readable(queues[0].0.fd().unwrap(), Duration::from_millis(5));
    }
    panic!("no packet of protocol {protocol} within {WAIT:?}");
}

fn udp_both_ways(device: &mut dyn Device, offload: bool) {
    let mut queues = device.take_queues();
    assert_eq!(queues.len(), usize::from(device.capabilities().queues));
    let mut buf = vec![0; BUFFER_LEN];
    let socket = UdpSocket::bind((KERNEL, 5000)).unwrap();
    socket.set_read_timeout(Some(WAIT)).unwrap();
    socket.send_to(b"to the engine", (ENGINE, 7)).unwrap();

    let (_, got) = next(&mut queues, &mut buf, UDP);
    let packet = ip::parse(&buf[got.start..got.start + got.len], true).unwrap();
    assert_eq!((packet.src, packet.dst), (IpAddr::V4(KERNEL), IpAddr::V4(ENGINE)));
    assert_eq!(&packet.payload[8..], b"to the engine");
    let expected = if offload { ChecksumStatus::Trusted } else { ChecksumStatus::Unverified };
    assert_eq!((got.offload.checksum, got.offload.gso_size), (expected, 0));
    let sum = checksum::pseudo_header(packet.src, packet.dst, UDP, packet.payload.len());
    let whole = checksum::fold(sum + checksum::sum(packet.payload)) == 0xffff;
    assert_eq!(whole, !offload, "the checksum is complete exactly where it is not vouched for");

    // Back, in three slices; then with the checksum left to the kernel; then on the other queue with a wrong checksum.
    let mut header = [0; 28];
    for (round, text) in [(0, b"done"), (1, b"part"), (2, b"evil")] {
        let len = ip::write_ipv4(&mut header, ENGINE, KERNEL, UDP, 12, ip::IpFields::default());
        header[len..].copy_from_slice(&[0, 7, 5000u16.to_be_bytes()[0], 5000u16.to_be_bytes()[1], 0, 12, 0, 0]);
        let (src, dst) = (IpAddr::V4(ENGINE), IpAddr::V4(KERNEL));
        let pseudo = checksum::pseudo_header(src, dst, UDP, 12);
        let mut how = TxOffload::default();
        match round {
            1 if offload => {
                header[26..28].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
                how.checksum = TxChecksum::Partial { start: 20, offset: 6 };
            }
            _ => {
                let mut sum = checksum::Accumulator::new(pseudo);
                sum.push(&header[20..]);
                sum.push(text);
                let value = checksum::finish(sum.sum()) ^ u16::from(round == 2);
                header[26..28].copy_from_slice(&value.to_be_bytes());
            }
        }
        let queue = queues.len() - 1;
        let sent = queues[queue].1.transmit(&header, &[&text[..1], &text[1..]], &how).unwrap();
        assert_eq!(sent, Transmitted::Sent);
        if round == 2 {
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            assert!(socket.recv(&mut buf).is_err(), "the kernel verifies what nobody vouches for");
        } else {
            let (len, from) = socket.recv_from(&mut buf).unwrap();
            assert_eq!((&buf[..len], from), (&text[..], SocketAddr::from((ENGINE, 7))));
        }
    }
}

/// A TCP peer just big enough for bulk transfers over a link that loses nothing.
struct Peer<'a> {
    queues: &'a mut [QueuePair],
    granted: Capabilities,
    /// Where the flow arrives: answering elsewhere would make the kernel move it.
    queue: usize,
    buf: Vec<u8>,
    local: SocketAddr,
    remote: SocketAddr,
    snd_nxt: u32,
    rcv_nxt: u32,
    ts_recent: u32,
    /// What the remote end last offered, and by how much it shifts that.
    window: u32,
    shift: u8,
}

impl<'a> Peer<'a> {
    /// Answers the next SYN.
    fn accept(queues: &'a mut [QueuePair], granted: Capabilities, mss: u16) -> Peer<'a> {
        let any = SocketAddr::from((ENGINE, 0));
        let buf = vec![0; BUFFER_LEN];
        let mut peer = Peer {
            queues,
            granted,
            queue: 0,
            buf,
            local: any,
            remote: any,
            snd_nxt: 1000,
            rcv_nxt: 0,
            ts_recent: 0,
            window: 0,
            shift: 0,
        };
        let (syn, _, _) = peer.receive();
        assert_eq!(syn.flags, Flags::SYN);
        peer.rcv_nxt = syn.seq.wrapping_add(1);
        peer.shift = syn.options.window_scale.unwrap();
        let options = TcpOptions { mss: Some(mss), window_scale: Some(7), ..TcpOptions::default() };
        peer.send(Flags::SYN | Flags::ACK, options, &[], 0);
        peer.snd_nxt += 1;
        let (ack, _, _) = peer.receive();
        assert_eq!((ack.flags, ack.ack), (Flags::ACK, peer.snd_nxt), "the answer has arrived");
        peer
    }

    /// Header, payload octets and `gso_size` of the next segment. Verifies the checksum of what nobody vouches for.
    fn receive(&mut self) -> (TcpHeader, Vec<u8>, u16) {
        let (queue, got) = next(self.queues, &mut self.buf, wire::PROTOCOL_TCP);
        self.queue = queue;
        let packet = ip::parse(&self.buf[got.start..got.start + got.len], true).unwrap();
        let trusted = got.offload.checksum == ChecksumStatus::Trusted;
        assert_eq!(trusted, self.granted.checksum_offload);
        let (header, payload) = tcp::parse(packet.payload, packet.src, packet.dst, trusted).unwrap();
        self.local = SocketAddr::new(packet.dst, header.dst_port);
        self.remote = SocketAddr::new(packet.src, header.src_port);
        if let Some(Timestamps { val, .. }) = header.options.timestamps {
            self.ts_recent = val;
        }
        self.window = u32::from(header.window) << self.shift;
        (header, payload.to_vec(), got.offload.gso_size)
    }

    /// One segment, or super-segment when `gso_size` is not 0.
    fn send(&mut self, flags: Flags, mut options: TcpOptions, payload: &[u8], gso_size: u16) {
        options.timestamps = Some(Timestamps { val: 1, ecr: self.ts_recent });
        let header = TcpHeader {
            src_port: self.local.port(),
            dst_port: self.remote.port(),
            seq: self.snd_nxt,
            ack: self.rcv_nxt,
            flags,
            window: 0xffff,
            urgent: 0,
            options,
        };
        let mut out = [0; 100];
        let (src, dst) = (self.local.ip(), self.remote.ip());
        let start = ip::write(
            &mut out,
            src,
            dst,
            wire::PROTOCOL_TCP,
            tcp::header_len(&header) + payload.len(),
            ip::IpFields::default(),
        );
        let end = start + tcp::write(&header, &mut out[start..]);
        let middle = payload.len() / 3;
        let slices = [&payload[..middle], &payload[middle..]];
        let mut how = TxOffload { gso_size, header_len: end as u16, ipv6: src.is_ipv6(), ..TxOffload::default() };
        if self.granted.checksum_offload {
            tcp::set_partial_checksum(&mut out[start..end], src, dst, payload.len());
            how.checksum = TxChecksum::Partial { start: start as u16, offset: 16 };
        } else {
            tcp::set_checksum(&mut out[start..end], src, dst, &slices);
        }
        let sent = self.queues[self.queue].1.transmit(&out[..end], &slices, &how).unwrap();
        assert_eq!(sent, Transmitted::Sent);
        self.queues[self.queue].1.flush().unwrap();
    }
}

/// 128 KB from the kernel and 128 KB to it.
fn bulk(device: &mut dyn Device, kernel: IpAddr, engine: IpAddr) {
    let granted = device.capabilities();
    let mss: u16 = if kernel.is_ipv4() { 1460 } else { 1440 };
    let segment = usize::from(mss) - 12;
    let text: Vec<u8> = (0..128 * 1024u32).map(|i| (i / 7) as u8).collect();
    let mut queues = device.take_queues();
    let expected = text.clone();
    // The kernel's end, on a thread of its own because `connect` waits; it inherits the namespace.
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect((engine, 80)).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), kernel);
        stream.set_read_timeout(Some(WAIT)).unwrap();
        stream.write_all(&expected).unwrap();
        std::thread::sleep(Duration::from_millis(50)); // reads when its window is full
        let mut back = vec![0; expected.len()];
        stream.read_exact(&mut back).unwrap();
        assert!(back == expected);
    });

    let mut peer = Peer::accept(&mut queues, granted, mss);
    let (mut arrived, mut largest) = (Vec::new(), 0);
    while arrived.len() < text.len() {
        let (header, payload, gso_size) = peer.receive();
        assert_eq!(header.seq, peer.rcv_nxt, "one flow stays on one queue, in order");
        assert!(payload.len() <= segment || usize::from(gso_size) == segment, "{} octets uncut", payload.len());
        largest = largest.max(payload.len());
        arrived.extend_from_slice(&payload);
        peer.rcv_nxt = peer.rcv_nxt.wrapping_add(payload.len() as u32);
        peer.send(Flags::ACK, TcpOptions::default(), &[], 0);
    }
    assert!(arrived == text);
    assert_eq!(largest > segment, granted.tso4, "super-segments come where granted: {largest}");

    let tso = if kernel.is_ipv4() { granted.tso4 } else { granted.tso6 };
    let burst = if tso { 44 * segment } else { segment };
    let mut rest = text.as_slice();
    while !rest.is_empty() {
        // What fits the kernel's window, which stays small for a while when its reader is not run.
        let room = peer.window as usize / segment * segment;
        let (piece, behind) = rest.split_at(rest.len().min(burst).min(room));
        if !piece.is_empty() {
            let gso_size = if piece.len() > segment { segment as u16 } else { 0 };
            let before = peer.snd_nxt;
            peer.send(Flags::ACK | Flags::PSH, TcpOptions::default(), piece, gso_size);
            peer.snd_nxt = before + piece.len() as u32;
            rest = behind;
        }
        while peer.receive().0.ack != peer.snd_nxt {}
    }
    client.join().unwrap();
}

fn tcp_bulk_both_ways(device: &mut dyn Device) {
    bulk(device, IpAddr::V4(KERNEL), IpAddr::V4(ENGINE));
}

fn ipv6() {
    let kernel = Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 1);
    let engine = Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 2);
    let addresses = vec![(IpAddr::V4(KERNEL), 24), (IpAddr::V6(kernel), 64)];
    let mut device = TunDevice::create(&TunOptions { addresses, ..TunOptions::default() }).unwrap();
    bulk(&mut device, IpAddr::V6(kernel), IpAddr::V6(engine));
}

/// No link-local address, no routers asked for, no duplicates looked for (RFC4862-5.4): what is read first is what a program sends, from an
/// address that can be used at once.
fn quiet() {
    let kernel = Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 1);
    let options = || TunOptions { addresses: vec![(IpAddr::V6(kernel), 64)], queues: 1, ..TunOptions::default() };
    for plain in [false, true] {
        let mut device: Box<dyn Device> = if plain {
            Box::new(PlainDevice::create(&options()).unwrap())
        } else {
            Box::new(TunDevice::create(&options()).unwrap())
        };
        let socket = UdpSocket::bind((kernel, 5000)).unwrap();
        let mut queues = device.take_queues();
        let mut buf = vec![0; BUFFER_LEN];
        // Routers would be asked for within a second of "up" (RFC 4861 6.3.7), listeners told of at once (RFC 3810 6.1).
        std::thread::sleep(Duration::from_millis(1_500));
        socket.send_to(b"first", (Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 2), 7)).unwrap();
        assert!(readable(queues[0].0.fd().unwrap(), WAIT));
        let got = queues[0].0.receive(&mut buf).unwrap().unwrap();
        let packet = ip::parse(&buf[got.start..got.start + got.len], true).unwrap();
        assert_eq!((packet.src, packet.protocol), (IpAddr::V6(kernel), UDP), "plain: {plain}");
        assert_eq!(&packet.payload[8..], b"first");
        assert!(queues[0].0.receive(&mut buf).unwrap().is_none());
    }
}

/// From each of its addresses the kernel reaches the others of that network, through the device.
fn several_addresses() {
    let sides: Vec<Ipv4Addr> = [7, 8, 9].map(|second| Ipv4Addr::new(10, second, 0, 1)).into();
    let options =
        || TunOptions { addresses: sides.iter().map(|side| ((*side).into(), 24)).collect(), ..<_>::default() };
    for plain in [false, true] {
        let mut device: Box<dyn Device> = if plain {
            Box::new(PlainDevice::create(&options()).unwrap())
        } else {
            Box::new(TunDevice::create(&options()).unwrap())
        };
        let mut queues = device.take_queues();
        let mut buf = vec![0; BUFFER_LEN];
        for &side in &sides {
            let far = Ipv4Addr::from(u32::from(side) + 1);
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().send_to(b"x", (far, 7)).unwrap();
            let (_, got) = next(&mut queues, &mut buf, UDP);
            let packet = ip::parse(&buf[got.start..got.start + got.len], true).unwrap();
            assert_eq!((packet.src, packet.dst), (IpAddr::V4(side), IpAddr::V4(far)));
        }
    }
}

fn name_in_use() {
    let first = tun(2, true);
    rustix::io::fcntl_getfd(&first).unwrap();
    let second = TunDevice::create(&TunOptions { queues: 2, ..TunOptions::default() }).unwrap_err();
    assert!(matches!(&second, DeviceError::NameInUse(name) if name == "trust0"), "{second}");
    assert!(second.to_string().contains("ip link del trust0"), "{second}");
    assert_eq!(std::io::Error::from(second).kind(), ErrorKind::AddrInUse);
    let third = PlainDevice::create(&TunOptions::default()).unwrap_err();
    assert!(matches!(third, DeviceError::NameInUse(_)), "{third}");
    let other = TunOptions { name: String::new(), addresses: Vec::new(), ..TunOptions::default() };
    let device = PlainDevice::create(&other).unwrap();
    assert!(device.name().starts_with("tun"), "{}: the kernel names what has no name", device.name());
}

/// Segments for a closed port: were one of them believed, an RST would come back.
fn corrupted() {
    const SEGMENTS: u64 = 50;
    let mut device = Impaired::new(tun(1, true), "tx.corrupt=1".parse().unwrap());
    let granted = device.capabilities();
    let mut queues = device.take_queues();
    let (local, remote) = ((ENGINE, 1000).into(), (KERNEL, 1000).into());
    let buf = vec![0; BUFFER_LEN];
    let mut peer = Peer {
        queues: &mut queues,
        granted,
        queue: 0,
        buf,
        local,
        remote,
        snd_nxt: 1,
        rcv_nxt: 0,
        ts_recent: 0,
        window: 0,
        shift: 0,
    };
    for _ in 0..SEGMENTS {
        peer.send(Flags::ACK, TcpOptions::default(), b"payload", 0);
    }
    // The second "Tcp:" line of the file has the numbers; the first says what they are.
    let file = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = file.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let value = |name| names.clone().zip(values.clone()).find(|(n, _)| *n == name).unwrap().1.parse::<u64>().unwrap();
    assert_eq!((value("InErrs"), value("OutRsts")), (SEGMENTS, 0));
}

fn bad_options() {
    let good = TunOptions::default;
    let bad = [
        TunOptions { name: "sixteen-letters-".to_owned(), ..good() },
        TunOptions { name: "a b".to_owned(), ..good() },
        TunOptions { queues: 0, ..good() },
        TunOptions { queues: 257, ..good() },
        TunOptions { mtu: 67, ..good() },
        TunOptions { addresses: vec![(IpAddr::V4(KERNEL), 33)], ..good() },
        TunOptions { addresses: vec![(IpAddr::V4(KERNEL), 24), (IpAddr::V4(KERNEL), 16)], ..good() },
    ];
    for options in bad {
        let error = TunDevice::create(&options).unwrap_err();
        assert!(matches!(error, DeviceError::NameInvalid(_) | DeviceError::Options(_)), "{options:?}: {error}");
    }
    let error = PlainDevice::create(&TunOptions { queues: 2, ..good() }).unwrap_err();
    assert!(matches!(error, DeviceError::Options(_)), "{error}");
}

fn exists(name: &std::ffi::CStr) -> bool {
    // SAFETY: a NUL-terminated string.
    unsafe { libc::if_nametoindex(name.as_ptr()) != 0 }
}

fn lifetime() {
    let mut device = tun(2, true);
    let queues = device.take_queues();
    drop(device);
    assert!(exists(c"trust0"), "queues keep the interface");
    drop(queues);
    assert!(!exists(c"trust0"));
    let device = plain();
    assert!(exists(c"trust0"));
    drop(device);
    assert!(!exists(c"trust0"));
}

fn set_link_down(name: &str) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    // SAFETY: plain old data; all zero means "not up".
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the kernel reads an `ifreq`.
    assert_eq!(unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const request) }, 0);
}

fn link_down() {
    let mut device = tun(1, true);
    let mut queues = device.take_queues();
    set_link_down("trust0");
    let mut header = [0; 28];
    ip::write_ipv4(&mut header, ENGINE, KERNEL, UDP, 8, ip::IpFields::default());
    let sent = queues[0].1.transmit(&header, &[], &TxOffload::default()).unwrap();
    assert_eq!(sent, Transmitted::Dropped);
    let mut buf = vec![0; BUFFER_LEN];
    while queues[0].0.receive(&mut buf).unwrap().is_some() {}
}

fn queue_length() {
    const PACKETS: usize = 5_000;
    let mut device = tun(1, true);
    let mut queues = device.take_queues();
    let mut buf = vec![0; BUFFER_LEN];
    let socket = UdpSocket::bind((KERNEL, 0)).unwrap();
    for _ in 0..PACKETS {
        socket.send_to(b"x", (ENGINE, 7)).unwrap();
    }
    for _ in 0..PACKETS {
        next(&mut queues, &mut buf, UDP);
    }
}

fn steering() -> Result<(), String> {
    let keys = SteeringKeys::from_random(*b"sixteen octets!!");
    let loaded = match program::load(&keys, 2) {
        Ok(loaded) => loaded,
        Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => return Err(e.to_string()),
        Err(e) => panic!("{e}"),
    };
    let mut device = tun(2, true);
    device.attach_steering(loaded.program.as_fd()).unwrap();
    let mut queues = device.take_queues();
    let mut buf = vec![0; BUFFER_LEN];
    let mut by_queue = [0; 2];
    for _ in 0..64 {
        let client = std::thread::spawn(|| TcpStream::connect_timeout(&(ENGINE, 80).into(), Duration::from_millis(1)));
        let (queue, got) = next(&mut queues, &mut buf, wire::PROTOCOL_TCP);
        let packet = ip::parse(&buf[got.start..got.start + got.len], true).unwrap();
        let (header, _) = tcp::parse(packet.payload, packet.src, packet.dst, true).unwrap();
        let quad = Quad {
            local: Endpoint::new(packet.dst, header.dst_port),
            remote: Endpoint::new(packet.src, header.src_port),
        };
        assert_eq!(queue, loaded.table.owner(keys.hash_quad(&quad)).index(), "{quad}");
        by_queue[queue] += 1;
        assert!(client.join().unwrap().is_err());
    }
    assert!(by_queue.iter().all(|&flows| flows > 10), "both queues get flows: {by_queue:?}");
    Ok(())
}

fn readiness() {
    let mut device = tun(1, true);
    let mut queues = device.take_queues();
    let mut buf = vec![0; BUFFER_LEN];
    let fd = queues[0].0.fd().unwrap();
    while queues[0].0.receive(&mut buf).unwrap().is_some() {}
    let socket = UdpSocket::bind((KERNEL, 0)).unwrap();
    socket.send_to(b"x", (ENGINE, 7)).unwrap();
    assert!(readable(fd, WAIT));
    next(&mut queues, &mut buf, UDP);
}
