//! A write while another handle on the same stream ends its direction: what was accepted arrives, or the write fails.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::sync::mpsc;
use std::thread;
use std::time;

use super::{TcpSocket, TcpStream};
use crate::embed::Host;
use crate::tcp::{Duration, Instant};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));

/// How long a shutdown that does not wait for a write takes at most.
const PATIENCE: time::Duration = time::Duration::from_millis(200);

struct World {
    now: Instant,
    client: Host,
    server: Host,
}

impl World {
    /// Both ends of a connection.
    fn connected() -> (Self, TcpStream, TcpStream) {
        let now = Instant::from_secs(1);
        let host = |address| Host::builder().address(address).seed(1).build(now).unwrap();
        let mut world = Self { now, client: host(CLIENT), server: host(SERVER) };
        let at = SocketAddr::new(SERVER, 80);
        let listener = world.server.stack().bind(at).unwrap();
        let stream = TcpSocket::new(&world.client.stack()).connect_nonblocking(at).unwrap();
        world.run();
        let (accepted, _) = listener.accept().unwrap();
        (world, stream, accepted)
    }

    fn run(&mut self) {
        for _ in 0..10 {
            self.client.poll(self.now, |packet| assert!(self.server.receive(packet)));
            self.server.poll(self.now, |packet| assert!(self.client.receive(packet)));
            self.now += Duration::from_millis(1);
        }
    }
}

#[test]
fn a_write_beside_a_shutdown_arrives_or_fails() {
    for how in [Shutdown::Write, Shutdown::Both] {
        let (mut world, stream, mut accepted) = World::connected();
        let clone = stream.try_clone().unwrap();
        let (tell, told) = mpsc::channel();
        let mut shutting = None;
        let written = stream.try_transmit(false, false, |writer, _| {
            // In the midst of it the other handle ends the direction, and the shard hears of that.
            shutting = Some(thread::spawn(move || {
                clone.shutdown(how).unwrap();
                let _ = tell.send(());
            }));
            let _ = told.recv_timeout(PATIENCE);
            world.run();
            writer.write(b"late")
        });
        shutting.unwrap().join().unwrap();
        world.run();
        let mut got = Vec::new();
        accepted.read_to_end(&mut got).expect("the end of the stream");
        match written {
            Ok(octets) => assert_eq!(got, b"late"[..octets], "written, and lost"),
            Err(error) => assert_eq!((error.kind(), got.len()), (ErrorKind::BrokenPipe, 0)),
        }
        let after = stream.try_transmit(false, false, |writer, _| writer.write(b"later"));
        assert_eq!(after.unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
