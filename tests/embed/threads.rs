//! Hosts that another thread polls, hosts beside engines, tasks.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;
use std::thread::{self, Thread};
use std::time;

use trust::device::Device;
use trust::device::memory::{MemoryDevice, MemoryOptions, pair};
use trust::embed::{Builder, Host};
use trust::engine::{Engine, Pin, PlanKind};
use trust::net::Stack;
use trust::shard::Offload;
use trust::tcp::{Duration, Instant};

use crate::link::{SERVER, at, client, octets, server};

/// Wakes a thread that parks.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A thread that polls a host on a device until told to stop.
struct Polled {
    thread: Option<thread::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    stack: Stack,
}

impl Polled {
    fn start(builder: Builder, mut device: MemoryDevice) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (tell, stack) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let (mut rx, mut tx) = device.take_queues().remove(0);
            let waker = Arc::new(Unpark(thread::current())).into();
            let offload = Offload { checksum: true, tso4: true, tso6: true };
            let builder = builder.offload(offload).waker(waker).polled_elsewhere();
            let start = time::Instant::now();
            let now = || Instant::ZERO + Duration::from(start.elapsed());
            let mut host = builder.build(now()).unwrap();
            tell.send(host.stack()).unwrap();
            while !stopped.load(Ordering::Relaxed) {
                host.poll_queues(now(), &mut *rx, &mut *tx).unwrap();
                // Packets draw no unpark here: look for them each 100 us.
                let wait = host.next_deadline().map_or(Duration::MAX, |at| at - now());
                thread::park_timeout(time::Duration::from(wait).min(time::Duration::from_micros(100)));
            }
        });
        Self { thread: Some(thread), stop, stack: stack.recv().unwrap() }
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Blocking: everything a stream of `std` does.
fn echo_blocking(server: &Stack, client: &Stack, address: IpAddr, count: usize) {
    let listener = server.bind((address, 80)).unwrap();
    let data = octets(count, 1);
    let stream = client.connect((address, 80)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = stream.try_clone().unwrap();
            std::io::copy(&mut reader, &mut stream).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        stream.set_nonblocking(false).unwrap();
        assert!(stream.local_addr().is_ok(), "known when connect returns");
        assert!(stream.info().is_ok(), "asked of the thread that polls");
        scope.spawn(|| {
            (&stream).write_all(&data).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        (&stream).read_to_end(&mut got).unwrap();
        assert!(got == data);
    });
}

#[test]
fn sockets_block_where_another_thread_polls() {
    let (a, b) = pair(&MemoryOptions::default()).unwrap();
    let (server, client) = (Polled::start(server(), a), Polled::start(client(), b));
    for _ in 0..3 {
        echo_blocking(&server.stack, &client.stack, SERVER, 1_000_000);
    }
    let refused = client.stack.connect(at(81)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let stack = client.stack.clone();
    drop(client);
    assert_eq!(stack.connect(at(80)).unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
}

fn engine(device: MemoryDevice, address: IpAddr, queues: usize) -> Engine {
    let builder = Engine::builder().device(device, queues).address(address);
    builder.plan(PlanKind::Fused).pin(Pin::None).start().unwrap()
}

/// Two pairs of engines, an engine with a host on its other end and two hosts without threads, all at once.
#[test]
fn engines_and_hosts_live_side_by_side() {
    let address = |last| IpAddr::V4(Ipv4Addr::new(10, 9, 0, last));
    let pairs: Vec<_> = (0..2)
        .map(|_| {
            let (a, b) = pair(&MemoryOptions { queues: 2, ..MemoryOptions::default() }).unwrap();
            // The same addresses in each pair: nothing is shared.
            (engine(a, address(2), 2), engine(b, address(3), 2))
        })
        .collect();
    let (a, b) = pair(&MemoryOptions::default()).unwrap();
    let mixed = (engine(a, address(2), 1), Polled::start(Host::builder().address(address(3)), b));
    thread::scope(|scope| {
        for (server, client) in &pairs {
            scope.spawn(|| echo_blocking(&server.stack(), &client.stack(), address(2), 500_000));
        }
        scope.spawn(|| echo_blocking(&mixed.0.stack(), &mixed.1.stack, address(2), 500_000));
        let mut link = crate::link::Link::usual();
        crate::transfers::exchange(&mut link, 80, [&octets(500_000, 1), &octets(500_000, 2)], [50_000; 2]);
    });
}

/// Tasks on one thread: hosts are polled by a task of their own, sockets are awaited by others.
#[cfg(feature = "tokio")]
#[test]
fn tasks_await_an_embedded_hosts_sockets() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use trust::net::tokio::{TcpListener, TcpStream};

    struct Notify(tokio::sync::Notify);
    impl Wake for Notify {
        fn wake(self: Arc<Self>) {
            self.0.notify_one();
        }
    }

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let start = tokio::time::Instant::now();
        let now = move || Instant::ZERO + Duration::from(start.elapsed());
        let notify = Arc::new(Notify(tokio::sync::Notify::new()));
        let mut a = client().waker(Arc::clone(&notify).into()).build(now()).unwrap();
        let mut b = server().waker(Arc::clone(&notify).into()).build(now()).unwrap();
        let (near, far) = (a.stack(), b.stack());
        let polling = tokio::spawn(async move {
            loop {
                a.poll(now(), |packet| _ = b.receive(packet));
                b.poll(now(), |packet| _ = a.receive(packet));
                let next = [a.next_deadline(), b.next_deadline()].into_iter().flatten().min();
                match next {
                    Some(at) if at <= now() => tokio::task::yield_now().await,
                    Some(at) => {
                        let _ = tokio::time::timeout((at - now()).into(), notify.0.notified()).await;
                    }
                    None => notify.0.notified().await,
                }
            }
        });
        let listener = TcpListener::bind(&far, at(80)).unwrap();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).await.unwrap();
            stream.write_all(&got).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let mut stream = TcpStream::connect(&near, at(80)).await.unwrap();
        let data = octets(300_000, 1);
        stream.write_all(&data).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        assert!(got == data);
        serving.await.unwrap();
        polling.abort();
    });
}
