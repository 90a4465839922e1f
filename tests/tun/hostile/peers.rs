//! Peers made by hand on a packet socket: they come from addresses that nobody has, so that no kernel answers for them,
//! and they acknowledge what they like.
//!
//! Must not contain: what a load is made of.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use trust::wire::options::TcpOptions;
use trust::wire::tcp::{Flags, TcpHeader};
use trust::wire::{ip, tcp};

use super::Target;

/// The first of the addresses that peers come from: 10.64/10, which is neither ours nor the kernel's.
const FIRST_SOURCE: u32 = u32::from_be_bytes([10, 64, 0, 0]);
const SOURCE_MASK: u32 = 0xffc0_0000;

/// The window of all peers, octets times 128: as much as a header can say.
const WINDOW: u16 = u16::MAX;

/// A packet socket on the device that leads to a target; it hears what is for the peers, from the front.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Socket,
    to: SockAddr,
    target: Ipv4Addr,
    packet: Box<[u8; 2_048]>,
}

impl Wire {
    /// `Err`: why there can be none here.
    pub(crate) fn open(target: &Target) -> Result<Self, String> {
        let why = |e: io::Error| format!("a packet socket on {}: {e}", target.device);
        let protocol = Protocol::from(i32::from((libc::ETH_P_IP as u16).to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), Some(protocol)).map_err(why)?;
        let to = target.link_address().map_err(why)?;
        // Before it is bound, which is when it begins to hear.
        hear(&socket, true).map_err(why)?;
        socket.bind(&to).map_err(why)?;
        let _ = socket.set_recv_buffer_size(8 << 20);
        Ok(Self { socket, to, target: target.address, packet: Box::new([0; 2_048]) })
    }

    /// Sends one segment; false when the device takes no more now.
    pub(crate) fn send(&mut self, source: Ipv4Addr, header: &TcpHeader, data: &[u8]) -> bool {
        let len = tcp::header_len(header);
        let (src, dst) = (IpAddr::V4(source), IpAddr::V4(self.target));
        let at =
            ip::write_ipv4(&mut self.packet[..], source, self.target, 6, len + data.len(), ip::IpFields::default());
        let segment = &mut self.packet[at..];
        tcp::write(header, segment);
        tcp::set_checksum(&mut segment[..len], src, dst, &[data]);
        segment[len..len + data.len()].copy_from_slice(data);
        let total = at + len + data.len();
        self.socket.send_to(&self.packet[..total], &self.to).is_ok()
    }

    /// Hears nothing any more.
    pub(crate) fn vanish(&self) {
        hear(&self.socket, false).unwrap();
    }

    /// As [`send`](Self::send), waiting a while for the device.
    fn send_patiently(&mut self, source: Ipv4Addr, header: &TcpHeader, data: &[u8]) {
        for _ in 0..200 {
            if self.send(source, header, data) {
                return;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Takes one packet for the peers: who it is for, and its header.
    fn receive(&self) -> Option<(Ipv4Addr, TcpHeader)> {
        let mut packet = [0; 128];
        loop {
            // SAFETY: the pointer and length are those of `packet`, which is written to for the length of the call.
            let got = unsafe { libc::recv(self.socket.as_raw_fd(), packet.as_mut_ptr().cast(), packet.len(), 0) };
            if got < 0 {
                return match io::Error::last_os_error().kind() {
                    ErrorKind::Interrupted => continue,
                    _ => None,
                };
            }
            let packet = &packet[..got as usize];
            let start = usize::from(packet.first().copied().unwrap_or(0) & 15) * 4;
            if packet.len() < start.max(20) + 20 || packet[9] != 6 || packet[12..16] != self.target.octets() {
                continue;
            }
            let to = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
            // Checksums may be left to the device, and what follows the headers is cut off.
            let Ok((header, _)) = tcp::parse(&packet[start..], IpAddr::V4(self.target), IpAddr::V4(to), true) else {
                continue;
            };
            return Some((to, header));
        }
    }
}

/// Lets a packet socket hear the front of what is for the peers, or nothing: a filter of the kernel's, so that traffic
/// of others costs nothing.
fn hear(socket: &Socket, on: bool) -> io::Result<()> {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 16),
        instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, SOURCE_MASK),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, FIRST_SOURCE),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, if on { 128 } else { 0 }),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    // SAFETY: the program and the instructions it points to live through the call, which copies them.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const program).cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The address of the peer with this number.
pub(crate) fn source(index: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST_SOURCE | (index & !SOURCE_MASK))
}

/// The SYN of a peer.
pub(crate) fn syn(source_port: u16, port: u16, seq: u32) -> TcpHeader {
    TcpHeader {
        src_port: source_port,
        dst_port: port,
        seq,
        flags: Flags::SYN,
        window: WINDOW,
        options: TcpOptions { mss: Some(1_460), window_scale: Some(7), sack_permitted: true, ..TcpOptions::default() },
        ..TcpHeader::default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asking,
    Open,
    /// Reset by the other side.
    Gone,
}

#[derive(Debug, Clone, Copy)]
struct Peer {
    port: u16,
    /// The next octet it sends.
    next: u32,
    /// What the other side has acknowledged.
    acknowledged: u32,
    /// What it acknowledges: the SYN, and never more.
    ack: u32,
    stage: Stage,
}

/// Peers with a connection each, which acknowledge nothing but the handshake. They reset it when this is dropped.
#[derive(Debug)]
pub(crate) struct Crowd {
    wire: Wire,
    port: u16,
    first: u32,
    peers: Vec<Peer>,
}

impl Crowd {
    /// `count` peers from the address number `first` on connect to a port. Who gets no answer asks again, for some
    /// seconds.
    pub(crate) fn connect(target: &Target, port: u16, first: u32, count: usize) -> Result<Self, String> {
        let mut seed = fastrand::Rng::with_seed(u64::from(first) << 16 | u64::from(port));
        let peer = |_| {
            let next = seed.u32(..);
            Peer { port: seed.u16(1_024..), next, acknowledged: next, ack: 0, stage: Stage::Asking }
        };
        let peers = (0..count).map(peer).collect();
        let mut crowd = Self { wire: Wire::open(target)?, port, first, peers };
        for round in 0..6 {
            for index in 0..count {
                let peer = crowd.peers[index];
                if peer.stage == Stage::Asking {
                    let header = syn(peer.port, port, peer.next);
                    crowd.wire.send_patiently(source(first + index as u32), &header, &[]);
                }
                if index % 32 == 31 {
                    crowd.listen(Duration::from_micros(500));
                }
            }
            crowd.listen(Duration::from_millis(if round == 0 { 100 } else { 500 }));
            if crowd.peers.iter().all(|peer| peer.stage != Stage::Asking) {
                break;
            }
        }
        Ok(crowd)
    }

    /// How many are connected, by what they heard last.
    pub(crate) fn open(&self) -> usize {
        self.peers.iter().filter(|peer| peer.stage == Stage::Open).count()
    }

    /// Each sends `data`, and again what was not acknowledged, `rounds` times at most.
    pub(crate) fn send(&mut self, data: &[u8], rounds: usize) {
        let before: Vec<u32> = self.peers.iter().map(|peer| peer.next).collect();
        for round in 0..rounds {
            for (index, before) in before.iter().enumerate() {
                let wanted = before.wrapping_add(data.len() as u32);
                if self.peers[index].stage != Stage::Open || self.peers[index].acknowledged == wanted {
                    continue;
                }
                for (number, piece) in data.chunks(1_400).enumerate() {
                    let seq = before.wrapping_add(number as u32 * 1_400);
                    self.segment(index, seq, Flags::ACK.union(Flags::PSH), piece);
                }
                self.peers[index].next = wanted;
                if index % 16 == 15 {
                    self.listen(Duration::from_micros(300));
                }
            }
            self.listen(Duration::from_millis(if round == 0 { 50 } else { 300 }));
        }
    }

    /// Each ends its direction.
    pub(crate) fn finish(&mut self) {
        for index in 0..self.peers.len() {
            if self.peers[index].stage == Stage::Open {
                let seq = self.peers[index].next;
                self.segment(index, seq, Flags::ACK.union(Flags::FIN), &[]);
                self.peers[index].next = seq.wrapping_add(1);
            }
            if index % 32 == 31 {
                self.listen(Duration::from_micros(300));
            }
        }
    }

    /// From here on they are gone without a word, and hear nothing.
    pub(crate) fn vanish(&self) {
        self.wire.vanish();
    }

    fn segment(&mut self, index: usize, seq: u32, flags: Flags, data: &[u8]) {
        let Peer { port, ack, .. } = self.peers[index];
        let header =
            TcpHeader { src_port: port, dst_port: self.port, seq, ack, flags, window: WINDOW, ..TcpHeader::default() };
        self.wire.send_patiently(source(self.first + index as u32), &header, data);
    }

    /// Takes what comes for so long.
    fn listen(&mut self, span: Duration) {
        let end = Instant::now() + span;
        loop {
            while let Some((to, header)) = self.wire.receive() {
                self.hear(to, &header);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_micros(500)));
        }
    }

    fn hear(&mut self, to: Ipv4Addr, header: &TcpHeader) {
        let index = u32::from(to).wrapping_sub(u32::from(source(self.first))) as usize;
        let Some(peer) = self.peers.get_mut(index) else { return };
        if header.dst_port != peer.port || header.src_port != self.port {
            return;
        }
        if header.flags.contains(Flags::RST) {
            peer.stage = Stage::Gone;
        } else if header.flags.contains(Flags::SYN) {
            if peer.stage == Stage::Asking && header.ack == peer.next.wrapping_add(1) {
                *peer = Peer {
                    next: header.ack,
                    acknowledged: header.ack,
                    ack: header.seq.wrapping_add(1),
                    stage: Stage::Open,
                    ..*peer
                };
            }
            // Also to one that comes again: the other side has not had it.
            let seq = peer.next;
            if peer.stage == Stage::Open {
                self.segment(index, seq, Flags::ACK, &[]);
            }
        } else if header.ack.wrapping_sub(peer.acknowledged).cast_signed() > 0 {
            peer.acknowledged = header.ack;
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = hear(&self.wire.socket, true);
        // A reset that is not exactly where it is expected is answered, with where that is (RFC 5961 section 3.2).
        for round in 0..3 {
            for index in 0..self.peers.len() {
                let Peer { next, acknowledged, stage, .. } = self.peers[index];
                if stage != Stage::Gone {
                    self.segment(index, if round == 0 { next } else { acknowledged }, Flags::RST, &[]);
                }
                if index % 32 == 31 {
                    self.listen(Duration::from_micros(300));
                }
            }
            self.listen(Duration::from_millis(20));
        }
    }
}
