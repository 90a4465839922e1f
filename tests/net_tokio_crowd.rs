//! Ten thousand tokio streams that echo at the same time through two engines in one process, beside a reader that has
//! stalled: no error, no stream left behind, and what one costs. `TRUST_SOAK=1`: for 30 seconds.

#![allow(clippy::unwrap_used, missing_docs)]

mod counting;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Barrier;
use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, Pin};
use trust::net::Stack;
use trust::net::tokio::{TcpListener, TcpStream};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));

const STREAMS: usize = 10_000;
/// Words that each stream sends at least.
const ROUNDS: usize = 20;
/// Heap octets of a stream while it echoes: both ends, their connections, tasks and buffers of both programs.
const LIMIT: u64 = 24_576;

/// `None`: the fixed number of rounds.
fn soak() -> Option<Duration> {
    std::env::var_os("TRUST_SOAK").filter(|value| value == "1").map(|_| Duration::from_secs(30))
}

async fn serve_echo(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            loop {
                match stream.read(&mut buffer).await.unwrap() {
                    0 => break,
                    len => stream.write_all(&buffer[..len]).await.unwrap(),
                }
            }
        });
    }
}

/// Writes to a peer that does not read, until nothing moves any more. It stays so.
async fn stall(stack: &Stack, address: SocketAddr) -> TcpStream {
    let mut stalled = TcpStream::connect(stack, address).await.unwrap();
    let block = vec![0; 65_536];
    while tokio::time::timeout(Duration::from_millis(200), stalled.write(&block)).await.is_ok() {}
    stalled
}

async fn echo(stack: Stack, address: SocketAddr, seed: usize, together: Arc<Barrier>, rounds: Arc<AtomicUsize>) {
    let mut stream = TcpStream::connect(&stack, address).await.unwrap();
    together.wait().await;
    let start = Instant::now();
    let mut round = 0;
    while round < ROUNDS || soak().is_some_and(|time| start.elapsed() < time) {
        let len = 1 + (seed * 31 + round * 97) % 400;
        let word: Vec<u8> = (0..len).map(|at| (at * 7 + seed + round) as u8).collect();
        stream.write_all(&word).await.unwrap();
        let mut got = vec![0; len];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(got, word, "stream {seed}, round {round}");
        round += 1;
    }
    rounds.fetch_add(round, Ordering::Relaxed);
    // The end comes when all are done: so many there are all the time.
    together.wait().await;
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams_echo_beside_a_stalled_reader() {
    let (a, b) = pair(&MemoryOptions { queues: 2, slots: 1_024, ..MemoryOptions::default() }).unwrap();
    let start = |device, address| Engine::builder().device(device, 2).address(address).pin(Pin::None).start().unwrap();
    let (server, client) = (start(a, SERVER), start(b, CLIENT));
    let stack = client.stack();

    let silent = TcpListener::bind(&server.stack(), SocketAddr::new(SERVER, 8)).unwrap();
    let stalled = stall(&stack, SocketAddr::new(SERVER, 8)).await;
    let _reader = silent.accept().await.unwrap();

    let before = counting::live();
    let address = SocketAddr::new(SERVER, 7);
    let listener = TcpListener::bind(&server.stack(), address).unwrap();
    let serving = tokio::spawn(serve_echo(listener));
    let (together, rounds) = (Arc::new(Barrier::new(STREAMS + 1)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..STREAMS)
        .map(|seed| tokio::spawn(echo(stack.clone(), address, seed, Arc::clone(&together), Arc::clone(&rounds))))
        .collect();
    together.wait().await;
    let begun = Instant::now();
    together.wait().await;
    let took = begun.elapsed();
    let (each, rounds) = (counting::live().saturating_sub(before) / STREAMS as u64, rounds.load(Ordering::Relaxed));
    println!("{STREAMS} streams, {rounds} words and their echoes in {took:.1?}; a stream has {each} octets of heap");
    for task in tasks {
        task.await.unwrap();
    }
    serving.abort();
    assert!(rounds >= STREAMS * ROUNDS);
    assert!(each < LIMIT, "{each} octets of heap for each stream");
    let (server, client) = (server.counters(), client.counters());
    assert_eq!((server.resets_out, client.resets_out, client.timed_out), (0, 0, 0));
    assert_eq!(client.connected, STREAMS as u64 + 1);
    assert!(stalled.get_ref().peer_addr().is_ok(), "the stalled one still waits");
}
