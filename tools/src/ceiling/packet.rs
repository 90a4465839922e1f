//! IPv4 and TCP headers, read and written, with or without a virtio-net header in front.

use crate::tun::VNET_HEADER;
use std::io::{self, IoSlice, Write};
use std::time::Instant;

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;

/// Our window scale (RFC 7323).
pub(super) const SCALE: u8 = 7;
const IP: usize = 20;
const TCP: usize = 20;
/// NOP, NOP, timestamps.
const STAMPS: usize = 12;
/// MSS, NOP, window scale.
const OPENING: usize = 8;
const LONGEST: usize = VNET_HEADER + IP + TCP + STAMPS + OPENING;

/// A segment that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Incoming<'a> {
    pub(super) source: [u8; 4],
    pub(super) destination: [u8; 4],
    pub(super) source_port: u16,
    pub(super) port: u16,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) stamp: Option<u32>,
    /// Only looked for in a SYN.
    pub(super) scale: u8,
    pub(super) payload: &'a [u8],
}

fn be16(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

fn be32(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}

impl<'a> Incoming<'a> {
    /// Reads a packet behind the virtio-net header. `None`: no TCP over IPv4, or cut short.
    pub(super) fn read(packet: &'a [u8]) -> Option<Self> {
        if *packet.first()? != 0x45 || *packet.get(9)? != 6 {
            return None;
        }
        let end = usize::from(be16(packet, 2)?);
        let segment = packet.get(IP..end)?;
        let offset = usize::from(segment.get(12)? >> 4) * 4;
        let flags = *segment.get(13)?;
        let options = segment.get(TCP..offset)?;
        let (stamp, scale) = match options {
            // The usual form of all segments but SYN.
            [1, 1, 8, 10, a, b, c, d, ..] => (Some(u32::from_be_bytes([*a, *b, *c, *d])), 0),
            [] => (None, 0),
            options => walk(options),
        };
        Some(Self {
            source: packet.get(12..16)?.try_into().ok()?,
            destination: packet.get(16..20)?.try_into().ok()?,
            source_port: be16(segment, 0)?,
            port: be16(segment, 2)?,
            seq: be32(segment, 4)?,
            ack: be32(segment, 8)?,
            flags,
            window: be16(segment, 14)?,
            stamp,
            scale,
            payload: segment.get(offset..)?,
        })
    }
}

/// TSval and window scale of options in any order.
fn walk(mut options: &[u8]) -> (Option<u32>, u8) {
    let (mut stamp, mut scale) = (None, 0);
    while let Some(&kind) = options.first() {
        let length = match (kind, options.get(1)) {
            (0, _) => break,
            (1, _) => 1,
            (_, Some(&length)) if length >= 2 => usize::from(length),
            _ => break,
        };
        let Some(option) = options.get(..length) else { break };
        match kind {
            3 if length == 3 => scale = option[2].min(14),
            8 if length == 10 => stamp = be32(option, 2),
            _ => {}
        }
        options = &options[length..];
    }
    (stamp, scale)
}

/// A segment to be sent.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) source: [u8; 4],
    pub(super) destination: [u8; 4],
    pub(super) source_port: u16,
    pub(super) port: u16,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u32,
    /// TSecr, where there are timestamps.
    pub(super) echo: Option<u32>,
    pub(super) payload: &'a [u8],
}

/// How packets are laid out on a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) offload: bool,
    pub(super) mtu: usize,
    /// TSval counts milliseconds from here.
    pub(super) began: Instant,
}

impl Frame {
    /// Octets before the IP header.
    pub(super) fn front(&self) -> usize {
        if self.offload { VNET_HEADER } else { 0 }
    }

    /// Octets of payload that a packet carries.
    pub(super) fn payload(&self, stamps: bool) -> usize {
        self.mtu - IP - TCP - if stamps { STAMPS } else { 0 }
    }

    /// Writes a segment to a queue in one call.
    pub(super) fn send(&self, mut queue: impl Write, out: &Outgoing<'_>) -> io::Result<()> {
        let mut head = [0_u8; LONGEST];
        let length = self.head(&mut head, out);
        if out.payload.is_empty() {
            queue.write(&head[..length]).map(drop)
        } else {
            queue.write_vectored(&[IoSlice::new(&head[..length]), IoSlice::new(out.payload)]).map(drop)
        }
    }

    /// Lays out everything before the payload; octets of it.
    fn head(&self, head: &mut [u8; LONGEST], out: &Outgoing<'_>) -> usize {
        let front = self.front();
        let opening = out.flags & SYN != 0;
        let options = if out.echo.is_some() { STAMPS } else { 0 } + if opening { OPENING } else { 0 };
        let segment = TCP + options + out.payload.len();
        let ip = &mut head[front..front + IP];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&((IP + segment) as u16).to_be_bytes());
        ip[6] = 0x40;
        ip[8] = 64;
        ip[9] = 6;
        ip[12..16].copy_from_slice(&out.source);
        ip[16..20].copy_from_slice(&out.destination);
        let sum = folded(sum(ip));
        ip[10..12].copy_from_slice(&(!sum).to_be_bytes());
        let pseudo = sum_of_pseudo_header(out, segment);
        let tcp = &mut head[front + IP..front + IP + TCP + options];
        tcp[0..2].copy_from_slice(&out.source_port.to_be_bytes());
        tcp[2..4].copy_from_slice(&out.port.to_be_bytes());
        tcp[4..8].copy_from_slice(&out.seq.to_be_bytes());
        tcp[8..12].copy_from_slice(&out.ack.to_be_bytes());
        tcp[12] = (((TCP + options) / 4) << 4) as u8;
        tcp[13] = out.flags;
        let window = if opening { out.window } else { out.window >> SCALE };
        tcp[14..16].copy_from_slice(&(window.min(0xffff) as u16).to_be_bytes());
        let mut at = TCP;
        if opening {
            let [high, low] = ((self.mtu - IP - TCP) as u16).to_be_bytes();
            tcp[at..at + OPENING].copy_from_slice(&[2, 4, high, low, 1, 3, 3, SCALE]);
            at += OPENING;
        }
        if let Some(echo) = out.echo {
            tcp[at..at + 4].copy_from_slice(&[1, 1, 8, 10]);
            tcp[at + 4..at + 8].copy_from_slice(&(self.began.elapsed().as_millis() as u32).to_be_bytes());
            tcp[at + 8..at + 12].copy_from_slice(&echo.to_be_bytes());
        }
        let sum = if self.offload {
            folded(pseudo)
        } else {
            !folded(pseudo + u64::from(folded(sum_of(tcp))) + u64::from(folded(sum_of(out.payload))))
        };
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        if self.offload {
            self.virtio(&mut head[..VNET_HEADER], out, TCP + options);
        }
        front + IP + TCP + options
    }

    /// What the device is to do: the checksum, and segments of our payload where it is more than a packet takes.
    fn virtio(&self, header: &mut [u8], out: &Outgoing<'_>, tcp: usize) {
        header[0] = 1; // VIRTIO_NET_HDR_F_NEEDS_CSUM
        header[6..8].copy_from_slice(&(IP as u16).to_ne_bytes());
        header[8..10].copy_from_slice(&16_u16.to_ne_bytes());
        let most = self.payload(out.echo.is_some());
        if out.payload.len() > most {
            header[1] = 1; // VIRTIO_NET_HDR_GSO_TCPV4
            header[2..4].copy_from_slice(&((IP + tcp) as u16).to_ne_bytes());
            header[4..6].copy_from_slice(&(most as u16).to_ne_bytes());
        }
    }
}

fn sum_of_pseudo_header(out: &Outgoing<'_>, segment: usize) -> u64 {
    sum(&out.source) + sum(&out.destination) + 6 + segment as u64
}

/// Sum of 16-bit words in the network's order, not folded.
fn sum(octets: &[u8]) -> u64 {
    octets.chunks(2).map(|pair| u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))).sum()
}

/// The same for many octets, by the machine's words: folded and in the network's order.
fn sum_of(octets: &[u8]) -> u64 {
    let words = octets.chunks_exact(4);
    let rest = words.remainder();
    let whole: u64 = words.map(|word| u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))).sum();
    u64::from(u16::from_be(folded(whole))) + sum(rest)
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn outgoing(payload: &[u8], flags: u8) -> Outgoing<'_> {
        let (source, destination) = ([10, 7, 0, 2], [10, 7, 0, 1]);
        let (source_port, port, seq, ack) = (7, 40_000, 0xffff_fff0, 99);
        Outgoing { source, destination, source_port, port, seq, ack, flags, window: 1 << 20, echo: Some(77), payload }
    }

    fn written(frame: Frame, out: &Outgoing<'_>) -> Vec<u8> {
        let mut octets = Vec::new();
        frame.send(&mut octets, out).unwrap();
        octets
    }

    #[test]
    fn what_is_written_can_be_read() {
        let frame = Frame { offload: false, mtu: 1500, began: Instant::now() };
        let payload: Vec<u8> = (0..=254).collect();
        let octets = written(frame, &outgoing(&payload, ACK | PSH));
        let read = Incoming::read(&octets).unwrap();
        assert_eq!((read.source_port, read.port, read.seq, read.ack), (7, 40_000, 0xffff_fff0, 99));
        assert_eq!((read.window, read.flags, read.payload), (1 << 13, ACK | PSH, &payload[..]));
        assert!(read.stamp.is_some());
        // Whole sums of headers and segment come out as all ones.
        assert_eq!(folded(sum(&octets[..20])), 0xffff);
        let pseudo = sum(&octets[12..20]) + 6 + (octets.len() - 20) as u64;
        assert_eq!(folded(pseudo + sum(&octets[20..])), 0xffff);
    }

    #[test]
    fn an_opening_segment_says_what_we_can_do() {
        let frame = Frame { offload: false, mtu: 9000, began: Instant::now() };
        let octets = written(frame, &outgoing(&[], SYN | ACK));
        let read = Incoming::read(&octets).unwrap();
        assert_eq!((read.scale, read.stamp.is_some(), read.window), (SCALE, true, 0xffff));
        assert_eq!(&octets[40..44], &[2, 4, 0x23, 0x00]);
    }

    #[test]
    fn the_device_cuts_what_is_more_than_a_packet() {
        let frame = Frame { offload: true, mtu: 1500, began: Instant::now() };
        let small = written(frame, &outgoing(&[0; 1448], ACK));
        assert_eq!(small[..2], [1, 0]);
        let large = written(frame, &outgoing(&[0; 1449], ACK));
        assert_eq!((&large[..2], &large[4..6]), (&[1, 1][..], &1448_u16.to_ne_bytes()[..]));
    }

    #[test]
    fn fast_and_slow_sums_agree() {
        for length in [0, 1, 2, 3, 5, 8, 1447, 1448] {
            let octets: Vec<u8> = (0..length).map(|i| (i * 7 + 250) as u8).collect();
            assert_eq!(folded(sum(&octets)), folded(sum_of(&octets)), "{length}");
        }
    }

    #[test]
    fn what_is_cut_short_is_not_read() {
        let frame = Frame { offload: false, mtu: 1500, began: Instant::now() };
        let whole = written(frame, &outgoing(b"abc", SYN));
        for length in 0..whole.len() {
            assert!(Incoming::read(&whole[..length]).is_none(), "{length}");
        }
        assert_eq!(walk(&[8, 200, 1]), (None, 0));
        assert_eq!(walk(&[3, 0, 1]), (None, 0));
    }
}
