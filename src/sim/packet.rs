//! A packet on its way through the world, and what can be read off it.
//!
//! Must not contain: chance, time, routing.

use std::net::IpAddr;
use std::ops::Range;

use crate::device::segment::{self, Shape};
use crate::flow::Endpoint;
use crate::wire::tcp::{Flags, TcpHeader};
use crate::wire::{self, PROTOCOL_TCP};

/// An IP packet, possibly a super-segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The octets from the IP header on.
    pub data: Vec<u8>,
    /// Payload octets of each wire segment of a super-segment; 0: a single segment.
    pub gso_size: u16,
    /// The TCP checksum is still to be completed, as between a stack and a device with checksum offload.
    pub partial: bool,
    /// A link has changed octets of it: no receiver may take it.
    pub damaged: bool,
}

/// The parts of a TCP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Sender.
    pub src: Endpoint,
    /// Receiver.
    pub dst: Endpoint,
    /// TCP header with its options.
    pub header: TcpHeader,
    /// Where the payload lies in [`Packet::data`].
    pub payload: Range<usize>,
}

impl View {
    /// Payload octets.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.payload.len() as u32
    }

    /// Whether there is no payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// SEG.LEN: payload and one each for SYN and FIN.
    #[must_use]
    pub fn seq_len(&self) -> u32 {
        self.len() + u32::from(self.has(Flags::SYN)) + u32::from(self.has(Flags::FIN))
    }

    /// Whether all of `flags` are set.
    #[must_use]
    pub fn has(&self, flags: Flags) -> bool {
        self.header.flags.contains(flags)
    }
}

impl Packet {
    /// A packet whose checksums are complete.
    #[must_use]
    pub fn new(data: Vec<u8>) -> Self {
        Self { data, gso_size: 0, partial: false, damaged: false }
    }

    /// A TCP packet, checksums complete. The header's ports count.
    #[must_use]
    pub fn tcp(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, header: &TcpHeader, payload: &[u8]) -> Self {
        let (src, dst) = (src.into(), dst.into());
        let tcp_len = wire::tcp::header_len(header);
        let mut data = vec![0; wire::ip::header_len(src) + tcp_len];
        let len = tcp_len + payload.len();
        let at = wire::ip::write(&mut data, src, dst, PROTOCOL_TCP, len, wire::ip::IpFields::default());
        wire::tcp::write(header, &mut data[at..]);
        wire::tcp::set_checksum(&mut data[at..], src, dst, &[payload]);
        data.extend_from_slice(payload);
        Self::new(data)
    }

    /// Reads the headers, whatever the checksum. `None`: no sound TCP packet.
    #[must_use]
    pub fn view(&self) -> Option<View> {
        let ip = wire::ip::parse(&self.data, false).ok().filter(|ip| ip.protocol == PROTOCOL_TCP)?;
        let (header, payload) = wire::tcp::parse(ip.payload, ip.src, ip.dst, true).ok()?;
        let start = payload.as_ptr() as usize - self.data.as_ptr() as usize;
        Some(View {
            src: Endpoint::new(ip.src, header.src_port),
            dst: Endpoint::new(ip.dst, header.dst_port),
            header,
            payload: start..start + payload.len(),
        })
    }

    /// Payload octets.
    #[must_use]
    pub fn payload(&self, view: &View) -> &[u8] {
        &self.data[view.payload.clone()]
    }

    /// How many segments it is on the wire.
    #[must_use]
    pub fn wire_segments(&self) -> usize {
        match Shape::of(&self.data) {
            Some(shape) if self.gso_size > 0 => segment::count(self.data.len() - shape.header_len, self.gso_size),
            _ => 1,
        }
    }

    /// Computes the TCP checksum that a device would have computed.
    pub fn complete_checksum(&mut self) {
        if std::mem::take(&mut self.partial) {
            segment::fill_checksum(&mut self.data);
        }
    }

    /// Cuts a super-segment into its wire segments, checksums complete, as a device does on sending.
    pub fn split(mut self, mut each: impl FnMut(Packet)) {
        let shape = if self.gso_size > 0 { Shape::of(&self.data) } else { None };
        let Some(shape) = shape else {
            self.gso_size = 0;
            self.complete_checksum();
            return each(self);
        };
        let (header, payload) = self.data.split_at(shape.header_len);
        for i in 0..segment::count(payload.len(), self.gso_size) {
            let mut data = vec![0; shape.header_len];
            let range = segment::cut_header(header, &shape, payload.len(), self.gso_size, i..i + 1, &mut data);
            data.extend_from_slice(&payload[range]);
            let mut cut = Packet { data, gso_size: 0, partial: true, damaged: self.damaged };
            cut.complete_checksum();
            each(cut);
        }
    }

    /// Flips a bit, with the checksum as it was: what a receiver must notice (MUST-3). In IPv6 it is none of those before the
    /// addresses, of which no checksum is made.
    ///
    /// # Panics
    ///
    /// When the packet is empty.
    pub fn flip(&mut self, bit: usize) {
        self.complete_checksum();
        let bare = if self.data[0] >> 4 == 6 { 8 } else { 0 };
        let bit = bare * 8 + bit % ((self.data.len() - bare) * 8);
        self.data[bit / 8] ^= 1 << (bit % 8);
        self.damaged = true;
    }
}
