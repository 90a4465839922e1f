//! A crowd of tokio streams that echo between two stacks, without and with one among them that does not read.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use trust::net::Stack;
use trust::net::tokio::{TcpListener, TcpStream};

/// Octets of a round at most.
const LONGEST: usize = 400;

/// What a crowd did.
#[derive(Debug)]
pub(crate) struct Report {
    /// Until all were connected.
    connecting: Duration,
    /// Rounds of all streams within the span.
    free: u64,
    /// The same beside the one that did not read.
    beside: u64,
    /// Octets of that one that were under way.
    held: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connecting, free, beside, held } = self;
        write!(f, "connected within {connecting:.1?}; {free} rounds, {beside} beside one with {held} octets unread")
    }
}

/// Connects so many streams from `client` to `address` of `server`, and lets them send and compare for two spans, the second
/// of them beside a stream whose reader has stalled. Panics when an octet is wrong or missing, when a connection fails, or
/// when a stream does not get on. `observe` is called while all are at it.
pub(crate) async fn echo_beside_a_stalled_reader(
    (server, client): (&Stack, &Stack),
    address: SocketAddr,
    streams: usize,
    span: Duration,
    observe: impl FnOnce(),
) -> Report {
    let listener = TcpListener::bind(server, address).unwrap();
    let serving: JoinHandle<()> = tokio::spawn(async move {
        let mut echoes = tokio::task::JoinSet::new();
        // All of them, and the one that stalls. One that failed shows at its other end, too.
        for _ in 0..=streams {
            let (stream, _) = listener.accept().await.unwrap();
            echoes.spawn(echo(stream));
        }
        while let Some(ended) = echoes.join_next().await {
            ended.unwrap();
        }
    });

    let began = Instant::now();
    let crowd = Arc::new(Crowd {
        stack: client.clone(),
        address,
        stop: AtomicBool::new(false),
        rounds: (0..streams).map(|_| AtomicU32::new(0)).collect(),
        doors: Semaphore::new(256),
        connected: Semaphore::new(0),
    });
    let tasks: Vec<_> = (0..streams).map(|seed| tokio::spawn(Arc::clone(&crowd).take_part(seed))).collect();
    // If one fails this would wait for ever: a bound for hangs.
    let all = crowd.connected.acquire_many(streams as u32);
    drop(tokio::time::timeout(Duration::from_secs(120), all).await.expect("all connect").unwrap());
    let connecting = began.elapsed();

    let free = total(&crowd.observe(span).await);
    let mut stalled = TcpStream::connect(client, address).await.unwrap();
    let held = stall(&mut stalled, streams).await;
    let beside = total(&crowd.observe(span).await);
    observe();

    // If the others had to wait for it, hardly one would get on. A busy machine does not slow them tenfold.
    assert!(beside > free / 10, "{beside} rounds, {free} before");
    // And each of them gets on, however long that takes.
    let (before, patience) = (crowd.counts(), Instant::now());
    while crowd.counts().iter().zip(&before).any(|(now, before)| now == before) {
        assert!(patience.elapsed() < Duration::from_secs(60), "a stream that does not get on beside the stalled one");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // Nothing of what waited is lost.
    let mut got = vec![0; held];
    stalled.read_exact(&mut got).await.unwrap();
    assert!(got.iter().enumerate().all(|(at, value)| *value == octet(streams, at)), "what stalled is exact");
    stalled.shutdown().await.unwrap();
    assert_eq!(stalled.read(&mut got).await.unwrap(), 0);

    crowd.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    serving.await.unwrap();
    Report { connecting, free, beside, held }
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
    address: SocketAddr,
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
            TcpStream::connect(&self.stack, self.address).await.unwrap()
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
