//! Devices: where IP packets come from and go to.
//!
//! A [`Device`] is a set of queues. Each queue has a receiving and a sending half, which are taken once and then
//! belong to the thread that runs them; nothing here locks. All system calls of the project on TUN devices live in
//! this room. What must NOT be here: any knowledge of connections, owners of flows, or threads.
//!
//! | file | holds |
//! | --- | --- |
//! | [`tun`] | the multi-queue TUN device with virtio-net header and offloads (crate `tun-rs` creates it) |
//! | `host_address` | which addresses go on the two sides of it |
//! | `plain` (feature `tun-tap`) | a single plain queue on the crate `tun-tap`: no offload, no second queue |
//! | [`memory`] | a pair of devices joined in memory, and a raw port for tests |
//! | [`impair`] | seeded loss, reordering, duplication and corruption around any device |
//! | [`wrong_queue`] | delivers every packet on a queue that is not its own |
//! | [`segment`] | cuts super-segments into wire segments in software |
//! | `cutter` | does that, and sums, for a queue that cannot |
//!
//! # A device of one's own
//!
//! Whatever carries IP packets is a device when it implements three traits: [`RxQueue`] and [`TxQueue`] for the two
//! directions of a queue, [`Device`] for the set of them. An [`Engine`](crate::engine::Engine) runs on any; an
//! [embedded](crate::embed) host needs the queues only.
//!
//! ```
//! use std::io;
//! use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
//! use trust::device::{Capabilities, Device, QueuePair, Received, RxQueue, Transmitted, TxQueue};
//! use trust::wire::vnet::{RxOffload, TxOffload};
//!
//! /// Packets go to and come from another thread through channels.
//! struct Channels(Option<(Receiver<Vec<u8>>, SyncSender<Vec<u8>>)>);
//!
//! impl Device for Channels {
//!     fn name(&self) -> &str {
//!         "channels"
//!     }
//!
//!     fn capabilities(&self) -> Capabilities {
//!         // Neither checksums nor segments are left to this device.
//!         Capabilities { mtu: 1_500, queues: 1, checksum_offload: false, tso4: false, tso6: false }
//!     }
//!
//!     fn take_queues(&mut self) -> Vec<QueuePair> {
//!         let pair = self.0.take();
//!         pair.into_iter().map(|(rx, tx)| -> QueuePair { (Box::new(In(rx)), Box::new(Out(tx))) }).collect()
//!     }
//! }
//!
//! struct In(Receiver<Vec<u8>>);
//!
//! impl RxQueue for In {
//!     fn receive(&mut self, buf: &mut [u8]) -> io::Result<Option<Received>> {
//!         let Ok(packet) = self.0.try_recv() else { return Ok(None) };
//!         buf[..packet.len()].copy_from_slice(&packet);
//!         Ok(Some(Received { start: 0, len: packet.len(), offload: RxOffload::default() }))
//!     }
//!
//!     fn fd(&self) -> Option<std::os::fd::RawFd> {
//!         None // An engine polls it then. A host is polled by its owner anyway.
//!     }
//! }
//!
//! struct Out(SyncSender<Vec<u8>>);
//!
//! impl TxQueue for Out {
//!     fn transmit(&mut self, header: &[u8], payload: &[&[u8]], _: &TxOffload) -> io::Result<Transmitted> {
//!         match self.0.try_send([header, &payload.concat()].concat()) {
//!             Ok(()) => Ok(Transmitted::Sent),
//!             Err(TrySendError::Full(_)) => Ok(Transmitted::Full),
//!             Err(TrySendError::Disconnected(_)) => Err(io::ErrorKind::BrokenPipe.into()),
//!         }
//!     }
//! }
//!
//! # fn main() -> io::Result<()> {
//! use trust::embed::Host;
//! use trust::net::TcpSocket;
//! use trust::tcp::Instant;
//!
//! let (to_host, rx) = sync_channel(256);
//! let (tx, from_host) = sync_channel(256);
//! let mut device = Channels(Some((rx, tx)));
//! let (mut rx, mut tx) = device.take_queues().remove(0);
//! let builder = Host::builder().address([10, 0, 0, 1]).capabilities(device.capabilities());
//! let mut host = builder.build(Instant::ZERO)?;
//! let stream = TcpSocket::new(&host.stack()).connect_nonblocking(([10, 0, 0, 2], 80).into())?;
//! host.poll_queues(Instant::ZERO, &mut *rx, &mut *tx)?;
//! let syn = from_host.try_recv().expect("a packet");
//! let syn = trust::wire::ip::parse(&syn, true).expect("an IP packet");
//! assert_eq!(syn.dst, std::net::Ipv4Addr::new(10, 0, 0, 2));
//! # drop((to_host, stream));
//! # Ok(())
//! # }
//! ```

pub(crate) mod cutter;
mod fd;
mod host_address;
pub mod impair;
mod link;
pub mod memory;
#[cfg(feature = "tun-tap")]
pub mod plain;
pub mod segment;
mod sys;
pub mod tun;
pub mod wrong_queue;

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;

use crate::steering::{OwnerTable, SteeringKeys};
use crate::wire::vnet::{Offload, RxOffload, TxOffload};

pub use fd::MAX_PAYLOAD_SLICES;
pub use host_address::{AddressError, HostAddress, kernel_has_ipv6, no_host};
pub use tun::{DeviceError, TunDevice, TunOptions};

/// Octets a receive buffer must have: the largest IP packet and room for the header of the driver in front of it.
pub const BUFFER_LEN: usize = 65_536 + 64;

/// What a device can do, as granted (not as asked for).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Largest IP packet on the wire, in octets. Super-segments may be longer: their `gso_size` obeys it.
    pub mtu: u16,
    /// Number of queues: how many pairs [`Device::take_queues`] returns.
    pub queues: u16,
    /// The device completes checksums of sent packets ([`crate::wire::vnet::TxChecksum::Partial`]).
    pub checksum_offload: bool,
    /// The device takes IPv4 TCP super-segments.
    pub tso4: bool,
    /// The device takes IPv6 TCP super-segments.
    pub tso6: bool,
}

impl Capabilities {
    /// What the device does to the packets that are sent.
    #[must_use]
    pub fn offload(&self) -> Offload {
        Offload { checksum: self.checksum_offload, tso4: self.tso4, tso6: self.tso6 }
    }
}

/// Both halves of one queue.
pub type QueuePair = (Box<dyn RxQueue>, Box<dyn TxQueue>);

/// A network device: a name, capabilities and queues.
pub trait Device: Send {
    /// The interface's name, or a made-up one for devices that are not interfaces.
    fn name(&self) -> &str;

    /// What was granted.
    fn capabilities(&self) -> Capabilities;

    /// The halves of all queues, index = queue number. The first call gets them, later calls get an empty vector.
    fn take_queues(&mut self) -> Vec<QueuePair>;

    /// Lets `program` (an eBPF socket filter whose return value is a queue number) choose the queue of every packet.
    ///
    /// # Errors
    ///
    /// `Unsupported` where the device has no such thing; otherwise what the kernel says.
    fn attach_steering(&mut self, program: BorrowedFd<'_>) -> io::Result<()> {
        let _ = program;
        Err(io::Error::new(io::ErrorKind::Unsupported, "this device cannot be steered by a program"))
    }

    /// What tells of it when [`Capabilities::mtu`] is another one later. `None`: it stays as it is.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    fn watch_mtu(&mut self) -> io::Result<Option<Box<dyn MtuWatch>>> {
        Ok(None)
    }

    /// Lets the owner table choose the queue of every packet, for devices that need no kernel for that. `false`: this
    /// device cannot, and nothing has changed.
    fn steer_by_owner(&mut self, keys: &SteeringKeys, owners: &Arc<OwnerTable>) -> bool {
        let _ = (keys, owners);
        false
    }
}

/// Tells when the largest packet of a link changes.
pub trait MtuWatch: Send {
    /// A descriptor that becomes readable when there may be something to tell.
    fn fd(&self) -> Option<RawFd>;

    /// The largest packet in octets, if it may have changed since the last call. Never waits.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    fn changed(&mut self) -> io::Result<Option<u16>>;
}

impl<D: Device + ?Sized> Device for Box<D> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    fn take_queues(&mut self) -> Vec<QueuePair> {
        (**self).take_queues()
    }

    fn attach_steering(&mut self, program: BorrowedFd<'_>) -> io::Result<()> {
        (**self).attach_steering(program)
    }

    fn watch_mtu(&mut self) -> io::Result<Option<Box<dyn MtuWatch>>> {
        (**self).watch_mtu()
    }

    fn steer_by_owner(&mut self, keys: &SteeringKeys, owners: &Arc<OwnerTable>) -> bool {
        (**self).steer_by_owner(keys, owners)
    }
}

/// One received packet: the IP packet lies at `buf[start..start + len]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Offset of the first octet of the IP header.
    pub start: usize,
    /// Octets of the IP packet. May be longer than the MTU: see [`RxOffload::gso_size`].
    pub len: usize,
    /// What the sender's side says about checksum and segment size.
    pub offload: RxOffload,
}

/// The receiving half of a queue.
pub trait RxQueue: Send {
    /// Takes one packet into `buf` (of [`BUFFER_LEN`] octets) without blocking. `None`: the queue is empty.
    ///
    /// # Errors
    ///
    /// An error means that the device is gone and no further call will succeed; everything transient is handled inside.
    fn receive(&mut self, buf: &mut [u8]) -> io::Result<Option<Received>>;

    /// The descriptor that becomes readable when a packet arrives, for edge-triggered waiting: wait only after
    /// [`receive`](Self::receive) has returned `None` since the last event. `None`: this queue can only be polled.
    fn fd(&self) -> Option<RawFd>;
}

/// What became of a packet handed to [`TxQueue::transmit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Transmitted {
    /// The device has it.
    Sent,
    /// No room now; nothing was taken, try the same packet later.
    Full,
    /// The device refused this very packet (link down, out of memory, not a packet in its eyes): it is gone, as if the
    /// network had lost it. Count it and go on.
    Dropped,
}

/// The sending half of a queue.
pub trait TxQueue: Send {
    /// Sends one IP packet without blocking: `header`, then the slices of `payload` (at most [`MAX_PAYLOAD_SLICES`]).
    ///
    /// `offload` must keep within the device's [`Capabilities`]: on a device without checksum offload it is always
    /// "checksum done, no `gso_size`".
    ///
    /// # Errors
    ///
    /// An error means that the device is gone (or the caller broke the rules above), not that one packet was lost:
    /// that is [`Transmitted::Dropped`].
    fn transmit(&mut self, header: &[u8], payload: &[&[u8]], offload: &TxOffload) -> io::Result<Transmitted>;

    /// Says that no further packet comes for now; call it at the end of a burst. Only wrappers that hold packets back
    /// (see [`impair`]) do something here.
    ///
    /// # Errors
    ///
    /// As [`transmit`](Self::transmit).
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
