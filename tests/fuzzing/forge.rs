//! Packets that no host has sent: those of others with a few fields changed, and ones from nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use trust::wire::options::Timestamps;
use trust::wire::tcp::{Flags, TcpHeader};
use trust::wire::{self, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, checksum};

use super::input::Input;

fn ip(src: IpAddr, dst: IpAddr, protocol: u8, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let at = wire::ip::header_len(src);
    let mut packet = vec![0; at + payload.len()];
    wire::ip::write(&mut packet, src, dst, protocol, payload.len(), wire::ip::IpFields { ttl, traffic_class: 0 });
    packet[at..].copy_from_slice(payload);
    packet
}

fn segment(src: IpAddr, dst: IpAddr, header: &TcpHeader, payload: &[u8]) -> Vec<u8> {
    let len = wire::tcp::header_len(header);
    let mut segment = vec![0; len + payload.len()];
    wire::tcp::write(header, &mut segment);
    segment[len..].copy_from_slice(payload);
    let (head, payload) = segment.split_at_mut(len);
    wire::tcp::set_checksum(head, src, dst, &[payload]);
    ip(src, dst, PROTOCOL_TCP, 64, &segment)
}

/// A segment like `template`, which lies on some connection, with changes. `None`: it is no TCP segment.
pub fn like(template: &[u8], input: &mut Input<'_>) -> Option<Vec<u8>> {
    let packet = wire::ip::parse(template, true).ok()?;
    if packet.protocol != PROTOCOL_TCP {
        return None;
    }
    let (mut header, payload) = wire::tcp::parse(packet.payload, packet.src, packet.dst, true).ok()?;
    let changes = input.octet();
    if changes & 1 != 0 {
        header.seq = header.seq.wrapping_add(input.offset());
    }
    if changes & 2 != 0 {
        header.ack = header.ack.wrapping_add(input.offset());
    }
    if changes & 4 != 0 {
        header.flags = Flags(input.octet());
    }
    if changes & 8 != 0 {
        header.window = input.pick(&[0, 1, 100, 1_460, 8_000, 65_535]);
    }
    if changes & 16 != 0 {
        let stamps = header.options.timestamps.get_or_insert(Timestamps { val: 0, ecr: 0 });
        stamps.val = stamps.val.wrapping_add(input.offset());
        stamps.ecr = stamps.ecr.wrapping_add(input.offset());
    }
    if changes & 32 != 0 {
        for _ in 0..=input.octet() % 4 {
            let left = header.ack.wrapping_add(input.offset());
            header.options.sack.push(left, left.wrapping_add(u32::from(input.word())));
        }
    }
    if changes & 64 != 0 {
        match input.octet() % 6 {
            0 => header.options.timestamps = None,
            1 => header.options.mss = Some(input.word()),
            2 => header.options.window_scale = Some(input.octet()),
            3 => header.options.sack_permitted ^= true,
            4 => header.urgent = input.word(),
            _ => header.options = Default::default(),
        }
    }
    let mut data = payload.to_vec();
    if changes & 128 != 0 {
        data.resize(usize::from(input.word()) % 3_000, input.octet());
    }
    Some(segment(packet.src, packet.dst, &header, &data))
}

/// A SYN, or what the input makes of it, from anybody to `dst`.
pub fn stranger(dst: IpAddr, port: u16, input: &mut Input<'_>) -> Vec<u8> {
    let (host, src_port) = (input.octet(), input.word());
    let src = match dst {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(10, 9, host >> 4, host)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0xfd00, 9, 0, u16::from(host >> 6), 0, 0, 0, host.into())),
    };
    let mut header = TcpHeader { src_port, dst_port: port, window: input.word(), ..TcpHeader::default() };
    header.seq = input.long();
    header.flags = Flags::SYN;
    match input.octet() % 8 {
        0 => header.flags = Flags(input.octet()),
        1 => header.options.mss = Some(input.word()),
        2 => {
            header.options.mss = Some(1_460);
            header.options.window_scale = Some(input.octet() % 20);
            header.options.sack_permitted = true;
            header.options.timestamps = Some(Timestamps { val: input.long(), ecr: 0 });
        }
        3 => (header.flags, header.ack) = (Flags::ACK, input.long()),
        _ => {}
    }
    segment(src, dst, &header, &vec![7; usize::from(input.octet() % 32)])
}

/// An ICMP message: an error that quotes `template`, or an echo request to whom it was sent.
pub fn icmp(template: &[u8], input: &mut Input<'_>) -> Option<Vec<u8>> {
    let packet = wire::ip::parse(template, true).ok()?;
    let (kind, code, field) = (input.octet(), input.octet() % 16, input.long());
    let quote = &template[..template.len().min(usize::from(input.octet()))];
    let v6 = packet.src.is_ipv6();
    let (kind, back) = match (kind % 8, v6) {
        (0, false) => (8, false),
        (0, true) => (128, false),
        (1, _) => (kind, kind & 64 != 0),
        (_, false) => (3, true),
        (_, true) => (1 + kind % 4, true),
    };
    let mut message = vec![kind, code, 0, 0];
    message.extend(field.to_be_bytes());
    message.extend(quote);
    let (src, dst) = if back { (packet.dst, packet.src) } else { (packet.src, packet.dst) };
    let protocol = if v6 { PROTOCOL_ICMPV6 } else { PROTOCOL_ICMP };
    let pseudo = if v6 { checksum::pseudo_header(src, dst, protocol, message.len()) } else { 0 };
    let sum = checksum::finish(pseudo + checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(ip(src, dst, protocol, 64, &message))
}

/// Octets as they are, or behind a sound header of IP.
pub fn raw(src: IpAddr, dst: IpAddr, input: &mut Input<'_>) -> Vec<u8> {
    let (sound, protocol, ttl) = (input.octet(), input.pick(&[6, 1, 58, 17, 0, 43, 44, 255]), input.octet());
    let octets = input.slice();
    if sound & 1 == 0 { ip(src, dst, protocol, ttl, octets) } else { octets.to_vec() }
}
