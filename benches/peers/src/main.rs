//! `trust-peers`: other TCP stacks of user space on a TUN device, each in its best honest configuration, with echo,
//! discard and chargen as the comparison's clients need them. Started by `./run.sh bench` inside a network namespace.

mod ipstack_peer;
mod smoltcp_device;
mod smoltcp_peer;

use clap::{Parser, Subcommand};
use std::io;
use std::process::ExitCode;
use trust_tools::tun::Device;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    stack: Stack,
}

#[derive(Debug, Subcommand)]
enum Stack {
    /// smoltcp, one thread on the last CPU
    Smoltcp {
        /// Largest IP packet, octets
        #[arg(long, default_value_t = 1500)]
        mtu: u32,
        /// A virtio-net header: super-segments and checksums by the device
        #[arg(long)]
        vnet: bool,
    },
    /// ipstack under tokio, with two threads
    Ipstack {
        /// Largest IP packet, octets
        #[arg(long, default_value_t = 1500)]
        mtu: u16,
    },
}

/// What a port does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Echo,
    Discard,
    Chargen,
}

impl Service {
    const ALL: [(Self, u16); 3] = [(Self::Echo, 7), (Self::Discard, 9), (Self::Chargen, 19)];

    fn on(port: u16) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == port).map(|(service, _)| *service)
    }
}

/// Octets that chargen sends, over and over.
fn pattern() -> Vec<u8> {
    (0..64 * 1024_u32).map(|at| b' ' + (at % 95) as u8).collect()
}

fn device(mtu: u32, offload: bool) -> Device {
    let (name, address) = ("peer0".to_string(), "10.7.0.1/24".to_string());
    Device { name, address, mtu, queues: 1, offload, queue_length: 20_000 }
}

fn ready() {
    println!("ready: 10.7.0.2");
}

fn run(stack: Stack) -> io::Result<()> {
    match stack {
        Stack::Smoltcp { mtu, vnet } => smoltcp_peer::serve(&device(mtu, vnet), ready),
        Stack::Ipstack { mtu } => ipstack_peer::serve(&device(mtu.into(), false), mtu, ready),
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().stack) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("trust-peers: {e}");
            ExitCode::FAILURE
        }
    }
}
