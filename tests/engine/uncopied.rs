//! Sockets that do not copy: `Bytes` on the way out, borrowed octets on the way in; and how often who waits is woken.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, Pin, PlanKind};
use trust::net::TcpStream;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));

/// The engines of server and client, and a connection of theirs: the end that connected first.
struct Fixture {
    _server_engine: Engine,
    client_engine: Engine,
    client: TcpStream,
    server: TcpStream,
}

fn connected() -> Fixture {
    let (a, b) = pair(&MemoryOptions { queues: 1, slots: 1_024, ..MemoryOptions::default() }).unwrap();
    let start = |device, address| {
        Engine::builder().device(device, 1).address(address).plan(PlanKind::Fused).pin(Pin::None).start().unwrap()
    };
    let (server_engine, client_engine) = (start(a, SERVER), start(b, CLIENT));
    let listener = server_engine.bind(SocketAddr::new(SERVER, 80)).unwrap();
    let client = client_engine.connect(SocketAddr::new(SERVER, 80)).unwrap();
    let (server, _) = listener.accept().unwrap();
    Fixture { _server_engine: server_engine, client_engine, client, server }
}

fn octets(count: usize, seed: usize) -> Vec<u8> {
    (0..count).map(|i| ((i * 31 + seed * 7) >> 3) as u8).collect()
}

/// Octets of an application that count those that are not let go yet.
struct Owned(Vec<u8>, Arc<AtomicUsize>);

impl Owned {
    fn bytes(octets: Vec<u8>, kept: &Arc<AtomicUsize>) -> Bytes {
        kept.fetch_add(1, Ordering::SeqCst);
        Bytes::from_owner(Self(octets, Arc::clone(kept)))
    }
}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < Duration::from_secs(10), "not within 10 s: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Large pieces, small ones and plain writes between them, to a reader that dawdles; octets are kept until they are
/// acknowledged, and no longer.
#[test]
fn bytes_arrive_exactly_and_are_let_go_when_acknowledged() {
    let Fixture { client, server, .. } = &connected();
    let kept = Arc::default();
    let mut expected = Vec::new();
    let mut pieces = Vec::new();
    for (seed, size) in [700_000, 1, 2_047, 2_048, 100, 131_072, 65_536, 0, 300_000, 5_000].into_iter().enumerate() {
        let piece = octets(size, seed);
        expected.extend_from_slice(&piece);
        pieces.push(Owned::bytes(piece, &kept));
        expected.extend_from_slice(b"between");
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            for mut bytes in pieces {
                let len = bytes.len();
                assert_eq!(client.write_bytes(&mut bytes).unwrap(), len);
                assert!(bytes.is_empty());
                { client }.write_all(b"between").unwrap();
            }
            client.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        let mut buffer = vec![0; 50_000];
        loop {
            match { server }.read(&mut buffer).unwrap() {
                0 => break,
                len => got.extend_from_slice(&buffer[..len]),
            }
            thread::sleep(Duration::from_micros(300));
        }
        assert!(got == expected, "{} octets of {}", got.len(), expected.len());
    });
    eventually("all octets are let go", || kept.load(Ordering::SeqCst) == 0);
}

/// Nobody copies them: neither into the socket's queue, whose memory is counted, nor into the engine's send memory.
#[test]
fn bytes_take_no_memory_of_sockets_or_shards() {
    const TOTAL: usize = 8 << 20;
    let sent_as = |uncopied: bool| {
        let Fixture { client_engine, client, server, .. } = &connected();
        let data = Bytes::from(octets(TOTAL, 1));
        let (stack, mut most) = (client_engine.stack(), 0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for at in (0..TOTAL).step_by(1 << 18) {
                    let mut piece = data.slice(at..at + (1 << 18));
                    if uncopied {
                        client.write_bytes(&mut piece).unwrap();
                    } else {
                        { client }.write_all(&piece).unwrap();
                    }
                }
                client.shutdown(Shutdown::Write).unwrap();
            });
            // Let the writer fill what there is: buffers grow only as they are used, so a little at a time.
            let mut buffer = vec![0; 1 << 16];
            let mut got = 0;
            loop {
                if got % (1 << 20) < (1 << 16) {
                    thread::sleep(Duration::from_millis(10));
                }
                match { server }.read(&mut buffer).unwrap() {
                    0 => break,
                    len => got += len,
                }
                most = most.max(stack.queued());
            }
            assert_eq!(got, TOTAL);
        });
        (most, client_engine.counters().send_chunks_peak)
    };
    let (queued, chunks) = sent_as(true);
    let (queued_copied, chunks_copied) = sent_as(false);
    println!("memory of queues {queued} against {queued_copied}, chunks {chunks} against {chunks_copied}");
    assert!(queued <= 8_192, "{queued} octets in queues; copied: {queued_copied}");
    // What little is cut off at the edge of a window may be copied.
    assert!(2 * chunks <= chunks_copied, "{chunks} chunks; copied: {chunks_copied}");
    assert!(queued_copied > 8_192, "the counter counts");
}

#[test]
fn nonblocking_bytes_leave_what_did_not_fit() {
    let Fixture { client, server, .. } = &connected();
    client.set_nonblocking(true).unwrap();
    let data = octets(20 << 20, 3);
    let mut bytes = Bytes::from(data.clone());
    let mut sent = 0;
    let error = loop {
        match client.write_bytes(&mut bytes) {
            Ok(len) => sent += len,
            Err(error) => break error,
        }
        assert_eq!(bytes.len(), data.len() - sent);
        assert!(!bytes.is_empty(), "nothing holds the writer back");
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(bytes[..100], data[sent..sent + 100]);
    client.set_nonblocking(false).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            client.write_bytes(&mut bytes).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        { server }.read_to_end(&mut got).unwrap();
        assert!(got == data, "{} octets", got.len());
    });
    let error = client.write_bytes(&mut Bytes::from_static(b"late")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

/// Octets that the connection has no room for are counted as not sent, and nothing is lost by a reset.
#[test]
fn bytes_that_wait_are_counted_and_let_go_by_a_reset() {
    let Fixture { client, server, client_engine: _engine, _server_engine } = connected();
    let kept = Arc::default();
    server.set_receive_buffer(8_192);
    client.set_nonblocking(true).unwrap();
    let mut bytes = Owned::bytes(octets(20 << 20, 4), &kept);
    let total = bytes.len();
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(100) {
        if client.write_bytes(&mut bytes).is_ok() {
            last = Instant::now();
        }
        thread::sleep(Duration::from_millis(1));
    }
    let queued = total - bytes.len();
    let there = server.unread().unwrap();
    assert!(queued > 0);
    assert_eq!(client.unacknowledged().unwrap() + there, queued);
    drop(bytes);
    assert_eq!(kept.load(Ordering::SeqCst), 1);
    server.set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    eventually("the reset arrives", || client.peer_addr().is_err());
    drop(client);
    eventually("they are let go", || kept.load(Ordering::SeqCst) == 0);
}

/// The octets shown are those of the queue: the same place, until they are taken.
#[test]
fn reading_in_place_shows_the_queue_itself() {
    let Fixture { client, server, .. } = &connected();
    { client }.write_all(b"some octets").unwrap();
    eventually("all are there", || server.unread().unwrap() == 11);
    let mut places = Vec::new();
    for take in [0, 0, 5, 6] {
        let taken = server.read_with(|octets| {
            places.push((octets.as_ptr().addr(), octets.len()));
            take
        });
        assert_eq!(taken.unwrap(), take);
    }
    let start = places[0].0;
    assert_eq!(places, [(start, 11), (start, 11), (start, 11), (start + 5, 6)]);
    { client }.write_all(b"x").unwrap();
    assert_eq!(server.read_with(|_| 1_000).unwrap(), 1, "more than all is all");
    server.set_nonblocking(true).unwrap();
    let nothing = server.read_with(|_| unreachable!()).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    server.set_nonblocking(false).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read_with(|_| unreachable!()).unwrap(), 0, "the end");
}

#[test]
fn reading_in_place_gets_every_octet_once() {
    let Fixture { client, server, .. } = &connected();
    let data = octets(5 << 20, 9);
    thread::scope(|scope| {
        scope.spawn(|| {
            { client }.write_all(&data).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::with_capacity(data.len());
        let mut appetite = 1;
        while server
            .read_with(|octets| {
                appetite = appetite * 7 % 40_009 + 1;
                let take = octets.len().min(appetite);
                got.extend_from_slice(&octets[..take]);
                take
            })
            .unwrap()
            > 0
        {}
        assert!(got == data, "{} octets", got.len());
    });
}

/// A writer of large blocks against a reader of small ones, and the reverse; in the last row octets leave the writer's queue
/// two segments at a time. Whoever waits is woken when there is something to do for it, not at every move of the other side.
#[test]
fn who_waits_is_woken_seldom() {
    const TOTAL: usize = 8 << 20;
    let small = Some((64 << 10, 8 << 10));
    for (write, read, buffers) in
        [(1 << 20, 1_000, None), (1 << 20, 1 << 16, None), (1 << 14, 1 << 20, None), (1 << 20, 500, small)]
    {
        let Fixture { client, server, .. } = &connected();
        if let Some((send, receive)) = buffers {
            client.set_send_buffer(send);
            server.set_receive_buffer(receive);
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                let block = octets(write, 1);
                for _ in 0..TOTAL / write {
                    { client }.write_all(&block).unwrap();
                }
                client.shutdown(Shutdown::Write).unwrap();
            });
            let mut buffer = vec![0; read];
            while { server }.read(&mut buffer).unwrap() > 0 {}
        });
        let megabytes = (TOTAL >> 20) as f64;
        let (_, writer) = client.wake_ups();
        let (reader, _) = server.wake_ups();
        let (writer, reader) = (f64::from(writer) / megabytes, f64::from(reader) / megabytes);
        println!(
            "writes of {write}, reads of {read}, {buffers:?}: writer woken {writer:.1}, reader {reader:.1} times a megabyte"
        );
        // A third of the queue is freed before a writer is told; some more are for the end.
        let queue = buffers.map_or(128 << 10, |(send, _)| send);
        let most = (3 << 20) as f64 / f64::from(queue) + 4.0;
        assert!(writer <= most, "{writer} wake-ups of the writer a megabyte");
        // One for each segment would be 720.
        assert!(reader <= 400.0, "{reader} wake-ups of the reader a megabyte");
    }
}
