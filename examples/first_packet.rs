//! The smallest thing that sees a packet: open a TUN interface, print who talks to whom.
//!
//! One line tries it, without root where user namespaces are allowed and `/dev/net/tun` is writable (else as root):
//!
//! ```text
//! cargo build --example first_packet
//! unshare -Urn sh -c 'timeout 3 target/debug/examples/first_packet & sleep 1
//!     ip addr add 10.7.0.1/24 dev first0; ip link set first0 up; nc -w 1 10.7.0.2 80; wait'
//! ```
//!
//! prints, among the kernel's own IPv6 greetings, the SYN of `nc`:
//!
//! ```text
//! 60 octets: 10.7.0.1:45678 -> 10.7.0.2:80 SYN seq 1234567890
//! ```
//!
//! Nobody answers it: that is what the rest of the project is for.

use std::io;

use trust::flow::{Endpoint, Quad};
use trust::wire::{PROTOCOL_TCP, ip, tcp};
use tun_tap::{Iface, Mode};

fn main() -> io::Result<()> {
    let iface = Iface::without_packet_info("first0", Mode::Tun)?;
    println!("reading from {}", iface.name());
    let mut buf = [0; 65_536];
    loop {
        let len = iface.recv(&mut buf)?;
        let packet = match ip::parse(&buf[..len], true) {
            Ok(packet) => packet,
            Err(why) => {
                println!("{len} octets: {why}");
                continue;
            }
        };
        if packet.protocol != PROTOCOL_TCP {
            println!("{len} octets: {} -> {} protocol {}", packet.src, packet.dst, packet.protocol);
            continue;
        }
        match tcp::parse(packet.payload, packet.src, packet.dst, false) {
            Ok((header, _)) => {
                // The packet's source is the sender, so here "local" is the kernel's end.
                let local = Endpoint::new(packet.src, header.src_port);
                let remote = Endpoint::new(packet.dst, header.dst_port);
                println!("{len} octets: {} {:?} seq {}", Quad { local, remote }, header.flags, header.seq);
            }
            Err(why) => println!("{len} octets: {} -> {}: {why}", packet.src, packet.dst),
        }
    }
}
