//! Octets through sockets of embedded hosts, on links with all sizes of packets.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr};

use trust::embed::Host;
use trust::net::{TcpSocket, TcpStream};
use trust::services::echo::Echo;
use trust::shard::Route;
use trust::tcp::{Config, CongestionControl, Duration, Instant};

use crate::link::{CLIENT, Link, at, client, octets, plain, server};

/// Writes what it can of `data` behind `done`, ends the direction at the end.
pub(crate) fn write_some(mut stream: &TcpStream, data: &[u8], done: &mut usize, most: usize) {
    while *done < data.len() {
        let end = data.len().min(*done + most);
        match stream.write(&data[*done..end]) {
            Ok(written) => *done += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("write: {error}"),
        }
        if *done == data.len() {
            stream.shutdown(Shutdown::Write).unwrap();
        }
    }
}

/// Reads what is there, at most so much; whether that was all there will be.
pub(crate) fn read_some(mut stream: &TcpStream, into: &mut Vec<u8>, most: usize) -> bool {
    let mut buffer = vec![0; most];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(got) => into.extend_from_slice(&buffer[..got]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) => panic!("read: {error}"),
        }
    }
}

/// Both sides send `data` at the same time, and get what the other sent.
pub(crate) fn exchange(link: &mut Link, port: u16, data: [&[u8]; 2], pieces: [usize; 2]) {
    let (listener, stream, accepted) = link.connect(port);
    let (mut got, mut done, mut ended) = ([Vec::new(), Vec::new()], [0; 2], [false; 2]);
    let (mut before, mut idle) = ((done, [0; 2]), false);
    while ended != [true; 2] {
        for (side, stream) in [&stream, &accepted].into_iter().enumerate() {
            write_some(stream, data[side], &mut done[side], pieces[side]);
            ended[side] = ended[side] || read_some(stream, &mut got[side], pieces[1 - side]);
        }
        let progress = (done, [got[0].len(), got[1].len()]);
        assert!(!idle || progress != before, "nothing will ever happen: {progress:?}");
        before = progress;
        link.poll();
        // The poll may have brought something to read.
        idle = !link.step();
    }
    assert!(got[0] == data[1] && got[1] == data[0]);
    drop((listener, stream, accepted));
    // Long enough for the last FIN on a bad link.
    link.run(Duration::from_secs(2_000));
    link.check_empty();
}

#[test]
fn octets_are_exact_on_links_of_any_mtu() {
    for (mtus, longest) in [([576; 2], 576), ([1_500; 2], 1_500), ([65_535; 2], 65_535), ([9_000, 600], 600)] {
        let mut link = Link::new(client().mtu(mtus[0]), server().mtu(mtus[1]), plain());
        let (there, back) = (octets(700_000, 1), octets(300_000, 2));
        exchange(&mut link, 80, [&there, &back], [50_000, 7_000]);
        assert_eq!(link.longest[0], longest, "{mtus:?}: full packets, and none longer");
        assert!(link.longest[1] <= longest, "{mtus:?}: {}", link.longest[1]);
        assert_eq!(link.server.counters().dropped_total() + link.client.counters().dropped_total(), 0);
    }
}

#[test]
fn mtus_out_of_bounds_are_refused() {
    let build = |mtu| client().mtu(mtu).build(Default::default());
    assert!(build(575).unwrap_err().to_string().contains("576"));
    assert!(build(576).is_ok() && build(65_535).is_ok());
    let ipv6 = Host::builder().address(Ipv6Addr::LOCALHOST).mtu(1_279).build(Default::default());
    assert!(ipv6.unwrap_err().to_string().contains("1280"));
    assert!(Host::builder().build(Default::default()).unwrap_err().to_string().contains("address"));
    let mut tcp = Config::default();
    tcp.rto.min = tcp.rto.max + Duration::from_secs(1);
    assert!(client().tcp(tcp).build(Default::default()).is_err());
}

#[test]
fn ipv6_hosts_talk_as_well() {
    let addresses = [1, 2].map(|last| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)));
    let [mine, theirs] = addresses;
    let mut link = Link::new(
        Host::builder().address(mine).seed(1).mtu(1_280),
        Host::builder().address(theirs).seed(2).mtu(1_280),
        plain(),
    );
    let listener = link.server.stack().bind((theirs, 80)).unwrap();
    let stream = TcpSocket::new(&link.client.stack()).connect_nonblocking(SocketAddr::new(theirs, 80)).unwrap();
    link.run(Duration::from_millis(20));
    let (accepted, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), mine);
    let (data, mut done, mut got) = (octets(100_000, 1), 0, Vec::new());
    while got.len() < data.len() {
        write_some(&stream, &data, &mut done, 10_000);
        read_some(&accepted, &mut got, 10_000);
        link.run(Duration::from_millis(1));
    }
    assert!(got == data);
    assert_eq!(link.longest[0], 1_280);
}

#[test]
fn one_seed_is_one_history() {
    let history = |seed: u64| {
        // A tenth of the packets is lost, by dice of their own.
        let mut dice = fastrand::Rng::with_seed(5);
        let lossy = Box::new(move |_: &[u8]| ((dice.u8(..10) > 0).then_some(Duration::from_millis(5)), None));
        let mut link = Link::new(client().seed(seed), server(), lossy);
        exchange(&mut link, 80, [&octets(200_000, 1), &octets(100_000, 2)], [50_000; 2]);
        link.history()
    };
    assert_eq!(history(7), history(7));
    assert_ne!(history(7), history(8));
}

#[test]
fn services_run_beside_sockets() {
    let mut link = Link::new(client(), server().service(Some(7), Box::new(Echo)), plain());
    let in_use = link.server.stack().bind("0.0.0.0:7").unwrap_err();
    assert_eq!(in_use.kind(), ErrorKind::AddrInUse, "the service has that port");
    let stream = TcpSocket::new(&link.client.stack()).connect_nonblocking(at(7)).unwrap();
    link.run(Duration::from_millis(20));
    (&stream).write_all(b"hello").unwrap();
    link.run(Duration::from_millis(20));
    let mut got = [0; 5];
    (&stream).read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
}

/// The clock is the caller's to the nanosecond: SYNs are repeated after 1 s, 2 s, 4 s (RFC 6298).
#[test]
fn timers_run_on_the_callers_clock() {
    let mut host = client().build(Default::default()).unwrap();
    let _stream = TcpSocket::new(&host.stack()).connect_nonblocking(at(80)).unwrap();
    let (mut now, mut syns) = (Default::default(), Vec::new());
    while syns.len() < 4 {
        host.poll(now, |_| syns.push(now));
        now = host.next_deadline().unwrap();
    }
    let gaps: Vec<_> = syns.windows(2).map(|pair| (pair[1] - pair[0]).as_nanos()).collect();
    for (gap, seconds) in gaps.iter().zip([1, 2, 4]) {
        // Never early, and no later than the next tick of the wheel, 65.5 us.
        let late = gap.checked_sub(seconds * 1_000_000_000);
        assert!(late.is_some_and(|late| late < 65_536), "{gaps:?}");
    }
}

#[test]
fn every_setting_of_tcp_is_the_callers() {
    for congestion in [CongestionControl::Reno, CongestionControl::Cubic] {
        let tcp = Config { timestamps: false, sack: false, ..Config::default() };
        let mut link = Link::new(client().tcp(tcp).congestion(congestion), server(), plain());
        let (_listener, stream, _accepted) = link.connect(80);
        let info = link.client.info(&stream).unwrap();
        assert_eq!((info.congestion, info.timestamps, info.sack), (congestion, false, false));
    }
}

#[test]
fn a_host_reaches_what_its_routes_have() {
    let mut host = client().route(Route::on_link(CLIENT, 24).unwrap()).build(Default::default()).unwrap();
    let near = TcpSocket::new(&host.stack()).connect_nonblocking(at(80)).unwrap();
    let far = TcpSocket::new(&host.stack()).connect_nonblocking("10.1.0.2:80".parse().unwrap()).unwrap();
    let mut syns = 0;
    host.poll(Default::default(), |_| syns += 1);
    assert_eq!(syns, 1);
    assert!(near.take_error().unwrap().is_none());
    assert_eq!(far.take_error().unwrap().unwrap().kind(), ErrorKind::NetworkUnreachable);
}

/// A virtual clock may leap, stand still and go back: timers that were passed over fire once, and nothing hangs.
#[test]
fn a_clock_may_leap_to_its_end() {
    for leap in [1_000, 1_000_000, 3_000_000_000, u64::MAX] {
        let mut link = Link::usual();
        let (listener, stream, accepted) = link.connect(80);
        (&stream).write_all(b"under way").unwrap();
        link.poll();
        let later = Instant::from_secs(leap);
        for _ in 0..3 {
            let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
            link.client.poll(later, |packet| to_server.push(packet.to_vec()));
            link.server.poll(later, |packet| to_client.push(packet.to_vec()));
            assert!(to_server.iter().all(|packet| link.server.receive(packet)));
            assert!(to_client.iter().all(|packet| link.client.receive(packet)));
            // Back: counts as the latest time there was.
            link.client.poll(Instant::from_secs(1), |_| ());
            assert!(link.client.next_deadline().is_none_or(|at| at >= later), "{leap}");
        }
        drop((listener, stream, accepted));
    }
}
