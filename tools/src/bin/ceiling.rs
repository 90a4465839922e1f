//! `ceiling`: a stand-in without any TCP on a TUN device, as the upper bound of a comparison. What it does and does not
//! is told in `trust_tools::ceiling`. Runs inside a network namespace of its own.

use clap::{Parser, ValueEnum};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use trust_tools::arguments;
use trust_tools::ceiling::{Options, Steering, serve};
use trust_tools::server::Service;
use trust_tools::sys;
use trust_tools::tun::Device;

/// Stand in for a TCP on a TUN device.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where its threads run
    #[arg(long, value_enum, default_value_t = Shape::Remote)]
    shape: Shape,
    /// The kernel's address on the device, with its prefix; any other of the prefix is answered for
    #[arg(long, default_value = "10.7.0.1/24")]
    address: String,
    /// Name of the interface
    #[arg(long, default_value = "ceiling0")]
    tun: String,
    /// Largest IP packet, octets
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// Segmentation and checksum by the device
    #[arg(long, value_enum, default_value_t = OnOff::On)]
    offload: OnOff,
    /// Answer with timestamps where the client has them
    #[arg(long, value_enum, default_value_t = OnOff::On)]
    timestamps: OnOff,
    /// A service and its port, may be repeated (default: echo:7 discard:9 chargen:19)
    #[arg(long = "service", value_name = "NAME:PORT")]
    services: Vec<Service>,
    /// Octets on their way, of all connections, if each has at least --least-window
    #[arg(long, default_value_t = 1 << 20)]
    window: u32,
    /// Octets on their way that a connection has in any case
    #[arg(long, default_value_t = 128 << 10)]
    least_window: u32,
    /// Largest super-segment, octets of payload
    #[arg(long, default_value_t = 65_000)]
    largest: usize,
    /// Packets that a queue of the device holds
    #[arg(long, default_value_t = 10_000)]
    queue_length: u32,
    /// The CPU of `remote` (default: the last)
    #[arg(long)]
    cpu: Option<usize>,
    /// Never sleep
    #[arg(long)]
    spin: bool,
    /// End after this many seconds (default: run until stopped)
    #[arg(long)]
    seconds: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// One thread, on another CPU than the client's
    Remote,
    /// A thread on each CPU; a packet comes to the one on the CPU that sends it
    Local,
    /// A thread on each CPU; the kernel's hash spreads connections over them (no bpf(2) is needed)
    Spread,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnOff {
    On,
    Off,
}

fn options(a: Arguments) -> Result<Options, String> {
    if !(576..=65_535).contains(&a.mtu) || !(1..=65_000).contains(&a.largest) {
        return Err("--mtu is 576 to 65535, --largest 1 to 65000".to_string());
    }
    let cpus = sys::usable_cpus();
    let (cpus, steering) = match a.shape {
        Shape::Remote => (vec![a.cpu.unwrap_or(cpus[cpus.len() - 1])], Steering::Kernel),
        Shape::Local => (cpus, Steering::Cpu),
        Shape::Spread => (cpus, Steering::Kernel),
    };
    let device = Device {
        name: a.tun,
        address: a.address,
        mtu: a.mtu,
        queues: cpus.len(),
        offload: a.offload == OnOff::On,
        queue_length: a.queue_length,
    };
    let mut options = Options::new(device, cpus, steering);
    if !a.services.is_empty() {
        options.services = a.services;
    }
    options.timestamps = a.timestamps == OnOff::On;
    options.window = a.window.min(Options::LARGEST_WINDOW);
    options.largest = a.largest;
    options.least_window = a.least_window;
    options.spin = a.spin;
    let seconds = a.seconds.map(Duration::try_from_secs_f64).transpose().map_err(|e| format!("--seconds: {e}"))?;
    options.until = seconds.map(|length| Instant::now() + length);
    Ok(options)
}

fn main() -> ExitCode {
    let outcome = options(arguments::parse()).and_then(|options| {
        let address = options.device.address.clone();
        serve(options, || println!("ready: beside {address}")).map_err(|e| e.to_string())
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("ceiling: {e}");
            ExitCode::FAILURE
        }
    }
}
