//! The ceiling: what a TUN device and the kernel's side of it give to a stand-in that is no TCP.
//!
//! It answers SYNs, acknowledges what it reads, writes as much as a window takes and echoes each segment as it came. It
//! has no congestion control, no timers but one against standing still, no reassembly and no memory of what it has sent,
//! and sends the same octets in every segment.
//! No stack on that device under the same steering can do better by much, so what a stack costs is the distance to it.
//!
//! Three shapes: `remote`, a thread on another CPU than the client's; `local`, a thread on each CPU, where the kernel's
//! queue is that of the CPU that sends, so that a client is served where it runs; and `spread`, a thread on each CPU,
//! where the kernel's hash spreads the connections over the queues.

mod flow;
mod packet;
mod worker;

use crate::server::Service;
use crate::tun::{self, Device};
use flow::Flows;
use packet::Frame;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Who chooses the queue on which a thread finds a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steering {
    /// The CPU that sends it, by a program in the kernel. Takes CAP_BPF.
    Cpu,
    /// The kernel, which takes the queue that the flow was last written on.
    Kernel,
}

/// How the stand-in stands in.
#[derive(Debug, Clone)]
pub struct Options {
    /// Device; its queues are as many as there are CPUs below.
    pub device: Device,
    /// What is served on which port.
    pub services: Vec<Service>,
    /// A thread on each of these CPUs.
    pub cpus: Vec<usize>,
    /// Who chooses the queue. With one CPU there is nothing to choose.
    pub steering: Steering,
    /// Whether it answers with timestamps (RFC 7323) where the client has them.
    pub timestamps: bool,
    /// Octets on their way, of all connections and in either direction, if each has at least:
    pub window: u32,
    /// So many of its own.
    pub least_window: u32,
    /// Largest super-segment, octets of payload.
    pub largest: usize,
    /// Never sleep.
    pub spin: bool,
    /// When to end.
    pub until: Option<Instant>,
}

impl Options {
    /// Largest window that can be offered.
    pub const LARGEST_WINDOW: u32 = (u16::MAX as u32) << packet::SCALE;

    /// The defaults on a device: echo, discard and chargen on their ports.
    #[must_use]
    pub fn new(device: Device, cpus: Vec<usize>, steering: Steering) -> Self {
        Self {
            device,
            services: Service::DEFAULT.to_vec(),
            cpus,
            steering,
            timestamps: true,
            window: 1 << 20,
            least_window: 128 << 10,
            largest: 65_000,
            spin: false,
            until: None,
        }
    }
}

/// Serves until the options say; calls `ready` once the device is up.
///
/// # Errors
/// The device or its steering is refused; what a single packet is wrong in is dropped.
pub fn serve(options: Options, ready: impl FnOnce()) -> io::Result<()> {
    let cpus = options.cpus.clone();
    if options.steering == Steering::Cpu && cpus.iter().enumerate().any(|(queue, &cpu)| queue != cpu) {
        let told = format!("CPUs {cpus:?}: steering by CPU needs a thread on each from 0 on");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, told));
    }
    let mut device = options.device.clone();
    device.queues = cpus.len();
    let queues = device.open()?;
    let program = match options.steering {
        Steering::Cpu if queues.len() > 1 => Some(tun::load_steering_by_cpu()?),
        _ => None,
    };
    if let (Some(program), Some(queue)) = (&program, queues.first()) {
        tun::steer(queue, program)?;
    }
    let frame = Frame { offload: device.offload, mtu: device.mtu as usize, began: Instant::now() };
    let flows = Arc::new(Flows::new(&options, frame));
    ready();
    let threads: Vec<_> = queues
        .into_iter()
        .zip(cpus)
        .map(|(queue, cpu)| {
            let flows = Arc::clone(&flows);
            let (spin, until) = (options.spin, options.until);
            std::thread::spawn(move || worker::run(&queue, cpu, &flows, spin, until))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))?;
    }
    Ok(())
}

/// Where buffers begin: copies are fastest from there, and to there.
const PAGE: usize = 4096;
/// Longest that a thread sleeps; what stands still for so long is sent again.
const PATIENCE: Duration = Duration::from_millis(50);
