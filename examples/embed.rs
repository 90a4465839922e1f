//! Two hosts in one thread, joined in memory, under a clock that this program owns: a client sends a megabyte, a server
//! echoes it. No root, no device, no thread; the same history each time: `cargo run --example embed`.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr};

use trust::embed::Host;
use trust::net::TcpSocket;
use trust::tcp::{Duration, Instant};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const DELAY: Duration = Duration::from_millis(5);

fn main() -> io::Result<()> {
    let mut now = Instant::ZERO;
    let mut client = Host::builder().address(CLIENT).seed(1).build(now)?;
    let mut server = Host::builder().address(SERVER).seed(2).mtu(9_000).build(now)?;
    // Packets under way: when they arrive, whether at the server, what they are.
    let mut wire: VecDeque<(Instant, bool, Vec<u8>)> = VecDeque::new();

    let listener = server.stack().bind((SERVER, 7))?;
    let mut stream = TcpSocket::new(&client.stack()).connect_nonblocking((SERVER, 7).into())?;
    let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i ^ i >> 8) as u8).collect();
    let (mut written, mut echoed, mut accepted) = (0, Vec::new(), None);
    let mut buffer = [0; 65_536];

    while echoed.len() < sent.len() {
        // The applications: each does what it can now. A full or empty socket says `WouldBlock`.
        written += stream.write(&sent[written..]).unwrap_or(0);
        let got = stream.read(&mut buffer).unwrap_or(0);
        echoed.extend_from_slice(&buffer[..got]);
        accepted = accepted.or_else(|| listener.accept().ok());
        if let Some((stream, _)) = &mut accepted {
            let seen = stream.peek(&mut buffer).unwrap_or(0);
            let passed = stream.write(&buffer[..seen]).unwrap_or(0);
            stream.read_exact(&mut buffer[..passed])?;
        }
        // The hosts, the wire, the clock.
        client.poll(now, |packet| wire.push_back((now + DELAY, true, packet.to_vec())));
        server.poll(now, |packet| wire.push_back((now + DELAY, false, packet.to_vec())));
        let next = [client.next_deadline(), server.next_deadline(), wire.front().map(|(at, ..)| *at)];
        now = next.into_iter().flatten().min().ok_or(io::ErrorKind::TimedOut)?;
        while wire.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, to_server, packet)) = wire.pop_front() else { break };
            if to_server {
                server.receive(&packet)
            } else {
                client.receive(&packet)
            };
        }
    }
    assert_eq!(echoed, sent);
    println!("{} octets echoed in {} of virtual time", sent.len(), now - Instant::ZERO);
    Ok(())
}
