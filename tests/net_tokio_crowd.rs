//! Ten thousand tokio streams that echo at the same time through two engines in one process, without and with one that does
//! not read: no error, no stream left behind, nothing lost, and what one costs. `TRUST_SOAK=1`: for 30 seconds.

#![allow(clippy::unwrap_used, missing_docs)]

mod counting;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, Pin};
use trust::net::Stack;
use trust::net::tokio::{TcpListener, TcpStream};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));
const ADDRESS: SocketAddr = SocketAddr::new(SERVER, 7);

const STREAMS: usize = 10_000;
/// Octets of a round at most.
const LONGEST: usize = 400;
/// Heap octets of a stream while it echoes: both ends, their connections, tasks and buffers of both programs.
const LIMIT: u64 = 24_576;

/// Octets of this process that are in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

async fn echo(mut stream: TcpStream) {
    let mut buffer = [0; LONGEST];
    loop {
        let got = stream.read(&mut buffer).await.unwrap();
        if got == 0 {
            return stream.shutdown().await.unwrap();
        }
        stream.write_all(&buffer[..got]).await.unwrap();
    }
}

/// The octet at a place of what stream number `seed` sends.
fn octet(seed: usize, at: usize) -> u8 {
    (at.wrapping_mul(seed | 1) >> 4) as u8
}

/// What all streams share.
struct Crowd {
    stack: Stack,
    stop: AtomicBool,
    /// Rounds of each stream.
    rounds: Vec<AtomicU32>,
    /// How many may be about to connect.
    doors: Semaphore,
    connected: Semaphore,
}

impl Crowd {
    /// Connects, and sends and compares until it is told to stop.
    async fn take_part(self: Arc<Self>, seed: usize) {
        let mut stream = {
            let _door = self.doors.acquire().await.unwrap();
            TcpStream::connect(&self.stack, ADDRESS).await.unwrap()
        };
        self.connected.add_permits(1);
        let (mut sent, mut got, mut at) = ([0; LONGEST], [0; LONGEST], 0);
        while !self.stop.load(Ordering::Relaxed) {
            let len = 1 + (at * 31 + seed * 7) % LONGEST;
            sent[..len].iter_mut().enumerate().for_each(|(i, to)| *to = octet(seed, at + i));
            stream.write_all(&sent[..len]).await.unwrap();
            stream.read_exact(&mut got[..len]).await.unwrap();
            assert!(sent[..len] == got[..len], "stream {seed}: wrong octets from {at} on");
            at += len;
            self.rounds[seed].fetch_add(1, Ordering::Relaxed);
        }
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut got).await.unwrap(), 0, "stream {seed}: octets that nobody sent");
    }

    fn counts(&self) -> Vec<u32> {
        self.rounds.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Rounds of each stream within a span.
    async fn observe(&self, span: Duration) -> Vec<u32> {
        let before = self.counts();
        tokio::time::sleep(span).await;
        before.into_iter().zip(self.counts()).map(|(before, after)| after - before).collect()
    }
}

/// Writes until nothing goes any more, without reading; says how much that was.
async fn stall(stream: &mut TcpStream, seed: usize) -> usize {
    let mut at = 0;
    let mut block = vec![0; 64 << 10];
    // A second without room for one octet: everything on the way is full.
    loop {
        block.iter_mut().enumerate().for_each(|(i, to)| *to = octet(seed, at + i));
        match tokio::time::timeout(Duration::from_secs(1), stream.write(&block)).await {
            Ok(put) => at += put.unwrap(),
            Err(_) => return at,
        }
    }
}

fn total(rounds: &[u32]) -> u64 {
    rounds.iter().map(|count| u64::from(*count)).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams_echo_and_a_stalled_reader_slows_nobody() {
    let soak = std::env::var_os("TRUST_SOAK").is_some_and(|value| value == "1");
    let span = Duration::from_millis(if soak { 15_000 } else { 1_500 });
    let (a, b) = pair(&MemoryOptions { queues: 2, slots: 1_024, ..MemoryOptions::default() }).unwrap();
    let start = |device, address| Engine::builder().device(device, 2).address(address).pin(Pin::None).start().unwrap();
    let (server, client) = (start(a, SERVER), start(b, CLIENT));
    let listener = TcpListener::bind(&server.stack(), ADDRESS).unwrap();
    let serving: JoinHandle<()> = tokio::spawn(async move {
        let mut echoes = tokio::task::JoinSet::new();
        // All of them, and the one that stalls. One that failed shows at its other end, too.
        for _ in 0..=STREAMS {
            let (stream, _) = listener.accept().await.unwrap();
            echoes.spawn(echo(stream));
        }
        while let Some(ended) = echoes.join_next().await {
            ended.unwrap();
        }
    });

    let (resident_before, heap_before) = (resident(), counting::live());
    let began = Instant::now();
    let crowd = Arc::new(Crowd {
        stack: client.stack(),
        stop: AtomicBool::new(false),
        rounds: (0..STREAMS).map(|_| AtomicU32::new(0)).collect(),
        doors: Semaphore::new(256),
        connected: Semaphore::new(0),
    });
    let tasks: Vec<_> = (0..STREAMS).map(|seed| tokio::spawn(Arc::clone(&crowd).take_part(seed))).collect();
    // If one fails this would wait for ever: a bound for hangs.
    let all = crowd.connected.acquire_many(STREAMS as u32);
    drop(tokio::time::timeout(Duration::from_secs(120), all).await.expect("all connect").unwrap());
    println!("{STREAMS} streams connected within {:?}", began.elapsed());

    let free = crowd.observe(span).await;
    let mut stalled = TcpStream::connect(&client.stack(), ADDRESS).await.unwrap();
    let held = stall(&mut stalled, STREAMS).await;
    let beside = crowd.observe(span).await;
    let heap = counting::live().saturating_sub(heap_before) / STREAMS as u64;
    println!(
        "rounds in {span:?}: {} of {STREAMS} streams, {} beside one that has {held} octets under way and does not read",
        total(&free),
        total(&beside)
    );
    println!(
        "a stream has {heap} octets of heap; in all {} MiB lie in queues of sockets, and {} MiB more are resident than before",
        (server.stack().queued() + client.stack().queued()) >> 20,
        resident().saturating_sub(resident_before) >> 20
    );
    assert!(heap < LIMIT, "{heap} octets of heap for each stream");

    // If the others had to wait for it, hardly one would get on. A busy machine does not slow them tenfold.
    assert!(total(&beside) > total(&free) / 10, "{} rounds, {} before", total(&beside), total(&free));
    // And each of them gets on, however long that takes.
    let (before, patience) = (crowd.counts(), Instant::now());
    while crowd.counts().iter().zip(&before).any(|(now, before)| now == before) {
        assert!(patience.elapsed() < Duration::from_secs(60), "a stream that does not get on beside the stalled one");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // Nothing of what waited is lost.
    let mut got = vec![0; held];
    stalled.read_exact(&mut got).await.unwrap();
    assert!(got.iter().enumerate().all(|(at, value)| *value == octet(STREAMS, at)), "what stalled is exact");
    stalled.shutdown().await.unwrap();
    assert_eq!(stalled.read(&mut got).await.unwrap(), 0);

    crowd.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    serving.await.unwrap();
    let (server, client) = (server.counters(), client.counters());
    assert_eq!((server.resets_out, client.resets_out, client.timed_out), (0, 0, 0));
    assert_eq!(client.connected, STREAMS as u64 + 1);
}
