//! Sockets under tokio: two engines in one process, joined by a device in memory.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest, ReadBuf};
use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, Pin};
use trust::net::tokio::{TcpListener, TcpStream};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));

fn engines() -> (Engine, Engine) {
    let (a, b) = pair(&MemoryOptions { queues: 2, slots: 1_024, ..MemoryOptions::default() }).unwrap();
    let start = |device, address| Engine::builder().device(device, 2).address(address).pin(Pin::None).start().unwrap();
    (start(a, SERVER), start(b, CLIENT))
}

async fn serve_echo(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (mut reader, mut writer) = stream.into_split();
            // The end of the copy drops the writer: our FIN.
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        });
    }
}

/// What is set here is set on the socket itself, which says the same when it is taken out.
#[tokio::test]
async fn options_are_those_of_the_blocking_stream() {
    let (server, client) = engines();
    let address = SocketAddr::new(SERVER, 7);
    let _listener = TcpListener::bind(&server.stack(), address).unwrap();
    let stream = TcpStream::connect(&client.stack(), address).await.unwrap();
    assert_eq!((stream.nodelay().unwrap(), stream.linger().unwrap(), stream.ttl().unwrap()), (false, None, 64));
    let linger = Some(Duration::from_secs(3));
    stream.set_nodelay(true).unwrap();
    stream.set_linger(linger).unwrap();
    stream.set_ttl(9).unwrap();
    assert_eq!(stream.set_ttl(256).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!((stream.nodelay().unwrap(), stream.linger().unwrap(), stream.ttl().unwrap()), (true, linger, 9));
    stream.set_quickack(false).unwrap();
    assert!(!stream.quickack().unwrap() && stream.take_error().unwrap().is_none());
    let stream = stream.into_inner();
    assert_eq!((stream.nodelay().unwrap(), stream.linger().unwrap(), stream.ttl().unwrap()), (true, linger, 9));
}

/// Two ends of a connection, and the engines that carry it.
async fn connected(port: u16) -> (Engine, Engine, TcpStream, TcpStream) {
    let (server, client) = engines();
    let address = SocketAddr::new(SERVER, port);
    let listener = TcpListener::bind(&server.stack(), address).unwrap();
    let stream = TcpStream::connect(&client.stack(), address).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    (server, client, stream, accepted)
}

/// As a program for `tokio::net::TcpStream` does it: wait for what may be done, try it, wait again.
#[tokio::test]
async fn readiness_is_told_as_tokio_tells_it() {
    let (_server, _client, stream, mut peer) = connected(15).await;
    let both = Interest::READABLE | Interest::WRITABLE;
    let ready = stream.ready(both).await.unwrap();
    assert!(ready.is_writable() && !ready.is_readable() && !ready.is_read_closed(), "{ready:?}");
    assert_eq!(stream.try_read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let early = stream.try_io(Interest::READABLE, || panic!("there is nothing to be read")).map(|()| "read");
    assert_eq!(early.unwrap_err().kind(), ErrorKind::WouldBlock);

    peer.write_all(b"one, two, three, four").await.unwrap();
    let ready = stream.ready(Interest::READABLE).await.unwrap();
    assert!(ready.is_readable() && !ready.is_writable(), "{ready:?}");
    let mut buffer = [0; 5];
    assert_eq!(stream.try_io(both, || stream.try_read(&mut buffer)).unwrap(), 5);
    let (mut first, mut then) = ([0; 3], [0; 2]);
    let mut pieces = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut then)];
    assert_eq!(stream.try_read_vectored(&mut pieces).unwrap(), 5);
    assert_eq!([&buffer[..], &first[..], &then[..]].concat(), b"one, two, ");
    let mut rest = Vec::with_capacity(100);
    assert_eq!(stream.try_read_buf(&mut rest).unwrap(), 11);
    assert_eq!(rest, b"three, four");

    let pieces = [IoSlice::new(b"five, "), IoSlice::new(b""), IoSlice::new(b"six")];
    assert_eq!(stream.try_write_vectored(&pieces).unwrap(), 9);
    let mut got = [0; 9];
    peer.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"five, six");

    // Until it says something else than `WouldBlock`.
    let late = stream.async_io(Interest::WRITABLE, || stream.try_read(&mut buffer));
    let (late, ()) = tokio::join!(late, async { peer.write_all(b"later").await.unwrap() });
    assert_eq!((late.unwrap(), &buffer), (5, b"later"));

    peer.shutdown().await.unwrap();
    let ready = stream.ready(Interest::READABLE).await.unwrap();
    assert!(ready.is_readable() && ready.is_read_closed() && !ready.is_write_closed(), "{ready:?}");
    peer.set_zero_linger().unwrap();
    drop(peer);
    stream.closed().await;
    let ready = stream.ready(both | Interest::ERROR).await.unwrap();
    assert!(ready.is_read_closed() && ready.is_write_closed() && ready.is_error(), "{ready:?}");
    assert_eq!(stream.ready(Interest::ERROR).await.unwrap(), tokio::io::Ready::ERROR);
}

#[tokio::test]
async fn what_is_polled_by_hand_waits_and_goes_on() {
    let (_server, _client, stream, mut peer) = connected(16).await;
    poll_fn(|context| stream.poll_write_ready(context)).await.unwrap();
    let mut octets = [0; 9];
    let mut octets = ReadBuf::new(&mut octets);
    let peek = poll_fn(|context| stream.poll_peek(context, &mut octets));
    let (seen, ()) = tokio::join!(peek, async { peer.write_all(b"hello").await.unwrap() });
    assert_eq!((seen.unwrap(), octets.filled()), (5, &b"hello"[..]));
    poll_fn(|context| stream.poll_read_ready(context)).await.unwrap();
    let mut got = [0; 9];
    assert_eq!(stream.try_read(&mut got).unwrap(), 5, "a peek takes nothing");
}

#[tokio::test]
async fn halves_have_what_their_stream_has() {
    let (_server, _client, mut stream, mut peer) = connected(17).await;
    let (near, far) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    {
        let (mut reader, writer) = stream.split();
        assert_eq!((reader.local_addr().unwrap(), writer.peer_addr().unwrap()), (near, far));
        assert!(writer.ready(Interest::WRITABLE).await.unwrap().is_writable());
        writer.writable().await.unwrap();
        assert_eq!(writer.try_write(b"ping").unwrap(), 4);
        let mut ping = [0; 4];
        peer.read_exact(&mut ping).await.unwrap();
        peer.write_all(&ping).await.unwrap();
        assert_eq!(reader.peek(&mut [0; 9]).await.unwrap(), 4);
        assert_eq!(reader.try_read(&mut ping).unwrap(), 4);
        assert_eq!(&ping, b"ping");
    }
    let (reader, writer) = stream.into_split();
    let (other, others) = peer.into_split();
    let wrong = reader.reunite(others).unwrap_err();
    assert_eq!(format!("{wrong:?}"), "tried to reunite halves that are not from the same stream");
    let stream = writer.reunite(wrong.0).unwrap();
    let peer = wrong.1.reunite(other).unwrap();
    assert_eq!((stream.peer_addr().unwrap(), peer.peer_addr().unwrap()), (far, near));
    assert_eq!(format!("{stream:?}"), format!("TcpStream {{ addr: {near}, peer: {far}, state: Connected }}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_echo_at_once() {
    let (server, client) = engines();
    let address = SocketAddr::new(SERVER, 7);
    let listener = TcpListener::bind(&server.stack(), address).unwrap();
    let serving = tokio::spawn(serve_echo(listener));
    let stack = client.stack();
    let tasks: Vec<_> = (0..200_u32)
        .map(|seed| {
            let stack = stack.clone();
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(&stack, address).await.unwrap();
                let sent: Vec<u8> = (0..20_000_u32).map(|i| (i.wrapping_mul(seed + 1) >> 5) as u8).collect();
                let (mut reader, mut writer) = stream.split();
                let write = async {
                    writer.write_all(&sent).await.unwrap();
                    writer.shutdown().await.unwrap();
                };
                let read = async {
                    let mut got = Vec::new();
                    reader.read_to_end(&mut got).await.unwrap();
                    got
                };
                let ((), got) = tokio::join!(write, read);
                assert!(got == sent, "{} octets of {}", got.len(), sent.len());
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    serving.abort();
}

#[tokio::test]
async fn refusal_and_cancellation() {
    let (server, client) = engines();
    let address = SocketAddr::new(SERVER, 8);
    let refused = TcpStream::connect(&client.stack(), address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let listener = TcpListener::bind(&server.stack(), address).unwrap();
    // An accept and a read that are dropped while they wait lose nothing.
    assert!(tokio::time::timeout(Duration::from_millis(5), listener.accept()).await.is_err());
    let mut stream = TcpStream::connect(&client.stack(), address).await.unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    let mut buffer = [0; 4];
    assert!(tokio::time::timeout(Duration::from_millis(5), peer.read(&mut buffer)).await.is_err());
    stream.write_all(b"late").await.unwrap();
    peer.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"late");
    drop(stream);
    assert_eq!(peer.read(&mut buffer).await.unwrap(), 0);
}

#[tokio::test]
async fn a_split_stream_is_whole_again() {
    let (server, client) = engines();
    let address = SocketAddr::new(SERVER, 9);
    let listener = TcpListener::bind(&server.stack(), address).unwrap();
    let stream = TcpStream::connect(&client.stack(), address).await.unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    let (reader, writer) = stream.into_split();
    let mut stream = reader.reunite(writer).unwrap();
    stream.write_all(b"whole").await.unwrap();
    let mut buffer = [0; 5];
    peer.read_exact(&mut buffer).await.unwrap();
    let (_reader, writer) = stream.into_split();
    drop(writer);
    assert_eq!(peer.read(&mut buffer).await.unwrap(), 0, "a FIN when the write half goes");
}

#[tokio::test]
async fn names_and_lists_of_addresses_are_taken() {
    let (server, client) = engines();
    let listener = TcpListener::bind(&server.stack(), format!("{SERVER}:11")).unwrap();
    let stack = client.stack();
    // In a task of its own: the future is `Send`.
    let connecting = tokio::spawn(async move {
        let (refused, good) = (SocketAddr::new(SERVER, 12), SocketAddr::new(SERVER, 11));
        let stream = TcpStream::connect(&stack, [refused, good].as_slice()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let error = TcpStream::connect(&stack, [].as_slice()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    });
    listener.accept().await.unwrap();
    connecting.await.unwrap();
}

/// Whatever way a stream, or a listener, has come to tokio: what is taken back blocks.
#[tokio::test]
async fn what_is_taken_out_of_tokio_blocks() {
    let (server, client) = engines();
    let address = SocketAddr::new(SERVER, 13);
    let std_listener = server.stack().bind(address).unwrap();
    std_listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from(std_listener);
    let connected = TcpStream::connect(&client.stack(), address).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let mut nonblocking = trust::net::TcpSocket::new(&client.stack()).connect_nonblocking(address).unwrap();
    nonblocking.set_read_timeout(None).unwrap();
    let (_peer, _) = listener.accept().await.unwrap();
    assert_eq!(nonblocking.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut streams = [connected, accepted, TcpStream::from(nonblocking)].map(TcpStream::into_inner);
    for stream in &mut streams {
        const PATIENCE: Duration = Duration::from_millis(50);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let start = Instant::now();
        assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(start.elapsed() >= PATIENCE, "it did not wait");
    }
    let listener = listener.into_inner();
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        client.connect(address).map(|stream| (client, stream))
    });
    listener.accept().unwrap();
    late.join().unwrap().unwrap();
}

/// Threads that block and tasks, at one listener and at one stream: none waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_and_tasks_wait_side_by_side() {
    const EACH: usize = 3;
    let (server, client) = engines();
    let address = SocketAddr::new(SERVER, 14);
    for _ in 0..20 {
        let blocking = server.stack().bind(address).unwrap();
        let listener = Arc::new(TcpListener::from(blocking.try_clone().unwrap()));
        let tasks: Vec<_> = (0..EACH)
            .map(|_| {
                let listener = Arc::clone(&listener);
                tokio::spawn(async move { listener.accept().await.unwrap().0.into_inner() })
            })
            .collect();
        let threads: Vec<_> = (0..EACH)
            .map(|_| {
                let listener = blocking.try_clone().unwrap();
                std::thread::spawn(move || listener.accept().unwrap().0)
            })
            .collect();
        let stack = client.stack();
        let streams: Vec<_> = (0..2 * EACH).map(|_| stack.connect(address).unwrap()).collect();
        let mut accepted = Vec::new();
        for task in tasks {
            accepted.push(task.await.unwrap());
        }
        accepted.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
        // And they wait for one octet each, from one stream.
        let stream = accepted.pop().unwrap();
        let mut peer = streams.iter().find(|peer| peer.local_addr().unwrap() == stream.peer_addr().unwrap()).unwrap();
        let tasks: Vec<_> = (0..EACH)
            .map(|_| {
                let mut stream = TcpStream::from(stream.try_clone().unwrap());
                tokio::spawn(async move { stream.read_u8().await.unwrap() })
            })
            .collect();
        let threads: Vec<_> = (0..EACH)
            .map(|_| {
                let mut stream = stream.try_clone().unwrap();
                let mut octet = [0; 1];
                std::thread::spawn(move || stream.read_exact(&mut octet).map(|()| octet[0]).unwrap())
            })
            .collect();
        peer.write_all(&[0, 1, 2]).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        peer.write_all(&[3, 4, 5]).unwrap();
        let mut got = Vec::new();
        for task in tasks {
            got.push(task.await.unwrap());
        }
        got.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2, 3, 4, 5]);
    }
}
