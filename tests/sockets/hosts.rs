//! Two embedded hosts, each polled by a thread of its own, that hand each other packets through channels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Wake;
use std::thread::{self, JoinHandle, Thread};
use std::time;

use trust::embed::Builder;
use trust::net::Stack;
use trust::tcp::{Duration, Instant};

/// Wakes a thread that parks.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Packets for a host, and the thread to be woken for them.
type Port = (Sender<Vec<u8>>, Thread);

/// A pair of hosts. Dropped, both stop.
#[derive(Debug)]
pub(crate) struct Hosts {
    pub(crate) stacks: [Stack; 2],
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Hosts {
    pub(crate) fn start(builders: [Builder; 2]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut threads, mut stacks, mut ports, mut ways) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for builder in builders {
            let (to_host, packets) = channel();
            let (tell_stack, stack) = channel();
            let (tell_way, way) = channel();
            let stop = Arc::clone(&stop);
            let thread = thread::spawn(move || poll(builder, &packets, &tell_stack, &way, &stop));
            stacks.push(stack.recv().unwrap());
            ports.push((to_host, thread.thread().clone()));
            ways.push(tell_way);
            threads.push(thread);
        }
        for (way, port) in ways.iter().zip(ports.into_iter().rev()) {
            way.send(port).unwrap();
        }
        Self { stacks: stacks.try_into().unwrap(), stop, threads }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            thread.join().unwrap();
        }
    }
}

fn poll(builder: Builder, packets: &Receiver<Vec<u8>>, tell: &Sender<Stack>, way: &Receiver<Port>, stop: &AtomicBool) {
    let start = time::Instant::now();
    let now = || Instant::ZERO + Duration::from(start.elapsed());
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut host = builder.waker(waker).polled_elsewhere().build(now()).unwrap();
    tell.send(host.stack()).unwrap();
    let (out, peer) = way.recv().unwrap();
    while !stop.load(Ordering::Relaxed) {
        // What the host has no room for waits in the channel: nothing is lost.
        for packet in packets.try_iter().take(256) {
            assert!(host.receive(&packet));
        }
        let mut sent = false;
        host.poll(now(), |packet| sent |= out.send(packet.to_vec()).is_ok());
        if sent {
            peer.unpark();
        }
        // Whoever sends a packet after this look unparks.
        if let Ok(packet) = packets.try_recv() {
            assert!(host.receive(&packet));
        }
        match host.next_deadline() {
            Some(at) => thread::park_timeout((at - now()).into()),
            None => thread::park(),
        }
    }
}
