//! A TUN queue as smoltcp's device, with buffers that are used again. With a virtio-net header it takes super-segments
//! whole, has the kernel cut those that it sends, and leaves TCP checksums to it.

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium, PacketMeta};
use smoltcp::time::Instant;
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroUsize;
use trust_tools::tun::VNET_HEADER;

const BUFFER: usize = 1 << 17;
/// A GSO packet is a whole IPv4 packet to the device.
const LARGEST: usize = 65_000;

pub struct Queue {
    pub file: File,
    mtu: usize,
    vnet: bool,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Queue {
    pub fn new(file: File, mtu: usize, vnet: bool) -> Self {
        Self { file, mtu, vnet, input: vec![0; BUFFER], output: vec![0; BUFFER] }
    }

    fn front(&self) -> usize {
        if self.vnet { VNET_HEADER } else { 0 }
    }
}

pub struct Incoming<'a>(&'a [u8]);

impl phy::RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub struct Outgoing<'a> {
    file: &'a File,
    output: &'a mut [u8],
    vnet: bool,
    meta: PacketMeta,
}

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let front = if self.vnet { VNET_HEADER } else { 0 };
        let result = f(&mut self.output[front..front + len]);
        if self.vnet {
            let (header, packet) = self.output.split_at_mut(front);
            offload(header, &mut packet[..len], self.meta);
        }
        // What the device does not take is lost, as on any link.
        let mut file = self.file;
        let _ = file.write(&self.output[..front + len]);
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.meta = meta;
    }
}

/// Fills the virtio-net header in, and the sum of the pseudo-header that the device goes on from.
fn offload(header: &mut [u8], packet: &mut [u8], meta: PacketMeta) {
    header.fill(0);
    let ip = usize::from(packet[0] & 0x0f) * 4;
    if packet[9] != 6 {
        return;
    }
    let words = packet[12..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum = words.sum::<u32>() + 6 + (packet.len() - ip) as u32;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[ip + 16..ip + 18].copy_from_slice(&(sum as u16).to_be_bytes());
    header[0] = 1; // VIRTIO_NET_HDR_F_NEEDS_CSUM
    header[6..8].copy_from_slice(&(ip as u16).to_ne_bytes());
    header[8..10].copy_from_slice(&16_u16.to_ne_bytes());
    if let Some(size) = meta.segmentation_offload_size {
        let headers = ip + usize::from(packet[ip + 12] >> 4) * 4;
        header[1] = 1; // VIRTIO_NET_HDR_GSO_TCPV4
        header[2..4].copy_from_slice(&(headers as u16).to_ne_bytes());
        header[4..6].copy_from_slice(&size.get().to_ne_bytes());
    }
}

impl phy::Device for Queue {
    type RxToken<'a> = Incoming<'a>;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let front = self.front();
        let length = self.file.read(&mut self.input).ok()?;
        let packet = self.input.get(front..length)?;
        let outgoing =
            Outgoing { file: &self.file, output: &mut self.output, vnet: self.vnet, meta: PacketMeta::default() };
        Some((Incoming(packet), outgoing))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing { file: &self.file, output: &mut self.output, vnet: self.vnet, meta: PacketMeta::default() })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        // Nothing on this path can damage a packet.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = if self.vnet { Checksum::None } else { Checksum::Tx };
        if self.vnet {
            capabilities.segmentation.tcpv4 = NonZeroUsize::new(LARGEST);
        }
        capabilities
    }
}
