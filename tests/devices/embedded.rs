//! An embedded host on the queue of a TUN device: one thread polls it, waits for packets and timers with mio, and has its
//! sockets; the kernel's sockets are the far end.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time;

use libtest_mimic::Trial;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use trust::device::plain::PlainDevice;
use trust::device::{Device, TunDevice, TunOptions};
use trust::embed::Host;
use trust::net::{self, TcpSocket};
use trust::tcp::{Duration, Instant};

use crate::netns;

const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);
const OCTETS: usize = 10_000_000;
/// Nothing takes longer.
const PATIENCE: time::Duration = time::Duration::from_secs(60);

pub(crate) fn trials() -> Vec<Trial> {
    let tun = |mtu, offload| move || TunDevice::create(&TunOptions { mtu, offload, ..TunOptions::default() }).unwrap();
    vec![
        netns::trial("embedded_host_with_offload", move || both_ways(tun(1_500, true)())),
        netns::trial("embedded_host_without_offload", move || both_ways(tun(1_500, false)())),
        netns::trial("embedded_host_with_offload_mtu_65535", move || both_ways(tun(65_535, true)())),
        netns::trial("embedded_host_without_offload_mtu_65535", move || both_ways(tun(65_535, false)())),
        netns::trial("embedded_host_without_offload_mtu_576", move || both_ways(tun(576, false)())),
        netns::trial("embedded_host_on_tun_tap", || both_ways(PlainDevice::create(&TunOptions::default()).unwrap())),
    ]
}

fn octets() -> Vec<u8> {
    (0..OCTETS).map(|i| ((i * 31) >> 3) as u8).collect()
}

/// Sends all, reads what comes back meanwhile; whether it is the same.
fn exchange(mut stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        writer.write_all(&octets()).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    writing.join().unwrap();
    got == octets()
}

/// Our side of a connection: gives back what it gets.
struct Echo {
    stream: net::TcpStream,
    held: Vec<u8>,
    done: bool,
}

impl Echo {
    fn turn(&mut self) {
        let mut buffer = [0; 65_536];
        while !self.done {
            if self.held.is_empty() {
                match self.stream.read(&mut buffer) {
                    Ok(0) => {
                        self.stream.shutdown(Shutdown::Write).unwrap();
                        self.done = true;
                        return;
                    }
                    Ok(got) => self.held.extend_from_slice(&buffer[..got]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                    Err(error) => panic!("{error}"),
                }
            }
            match self.stream.write(&self.held) {
                Ok(written) => drop(self.held.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// The kernel connects to us, and we to the kernel; each connection is given back what it sends.
fn both_ways(mut device: impl Device) {
    let (mut rx, mut tx) = device.take_queues().remove(0);
    let start = time::Instant::now();
    let now = || Instant::ZERO + Duration::from(start.elapsed());
    let mut host = Host::builder().address(OURS).capabilities(device.capabilities()).build(now()).unwrap();
    let listener = host.stack().bind((OURS, 80)).unwrap();
    let kernel = TcpListener::bind((KERNEL, 0)).unwrap();
    let opened = TcpSocket::new(&host.stack()).connect_nonblocking(kernel.local_addr().unwrap()).unwrap();
    let exchanges: [JoinHandle<bool>; 2] = [
        thread::spawn(|| exchange(TcpStream::connect((OURS, 80)).unwrap())),
        thread::spawn(move || exchange(kernel.accept().unwrap().0)),
    ];
    let mut echoes = vec![Echo { stream: opened, held: Vec::new(), done: false }];

    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(4);
    poll.registry().register(&mut SourceFd(&rx.fd().unwrap()), Token(0), Interest::READABLE).unwrap();
    while !exchanges.iter().all(JoinHandle::is_finished) {
        assert!(start.elapsed() < PATIENCE, "{:?}", host.counters());
        host.poll_queues(now(), &mut *rx, &mut *tx).unwrap();
        while let Ok((stream, _)) = listener.accept() {
            echoes.push(Echo { stream, held: Vec::new(), done: false });
        }
        for echo in &mut echoes {
            if echo.stream.peer_addr().is_ok() {
                echo.turn();
            }
        }
        // Packets end the wait; so does, after 10 ms, the end of the exchanges.
        let most = time::Duration::from_millis(10);
        let wait = host.next_deadline().map_or(most, |at| time::Duration::from(at - now()).min(most));
        poll.poll(&mut events, Some(wait)).unwrap();
    }
    for exchange in exchanges {
        assert!(exchange.join().unwrap(), "other octets came back");
    }
    let counters = host.counters();
    let rest = counters.dropped_total();
    println!("{} packets in, {} out, {rest} of others dropped", counters.packets_in, counters.packets_out);
    assert_eq!(echoes.len(), 2);
}
