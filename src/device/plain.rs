//! The plain backend: one queue without virtio-net header, created by the crate `tun-tap`.
//!
//! Every read and write is one wire packet with a complete checksum, so bulk transfers are several times slower than
//! on [`tun`](super::tun), but the path is the simplest there is. What must NOT be here: offloads.

use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};

use tun_rs::SyncDevice;
use tun_tap::{Iface, Mode};

use super::link::LinkWatch;
use super::tun::{check_options, configure, creation_error, failed, ipv4_of};
use super::{Capabilities, Device, DeviceError, MtuWatch, QueuePair, TunOptions, fd, sys};

/// A TUN interface with a single plain queue.
#[derive(Debug)]
pub struct PlainDevice {
    name: String,
    capabilities: Capabilities,
    /// Not yet taken.
    queue: Option<OwnedFd>,
}

impl PlainDevice {
    /// Creates the interface, configures it and brings it up. [`TunOptions::offload`] is ignored.
    ///
    /// # Errors
    ///
    /// [`DeviceError`], also when more than one queue is asked for.
    pub fn create(options: &TunOptions) -> Result<PlainDevice, DeviceError> {
        if options.queues != 1 {
            let queues = options.queues;
            return Err(DeviceError::Options(format!("the tun-tap backend has one queue, not {queues}; ask for 1")));
        }
        check_options(options)?;
        let iface = Iface::without_packet_info(&options.name, Mode::Tun);
        let iface = iface.map_err(|e| creation_error(&options.name, e))?;
        let name = iface.name().to_owned();
        // SAFETY: `into_raw_fd` gives up the descriptor, which is open and from here on ours alone.
        let queue = unsafe { OwnedFd::from_raw_fd(iface.into_raw_fd()) };
        // An interface that once had offloads keeps them, and nobody would tell us of a super-segment.
        sys::set_offload(queue.as_fd(), 0).map_err(failed("set the offloads", &name))?;
        sys::set_nonblocking(queue.as_fd()).map_err(failed("set the mode", &name))?;
        if let Some((address, prefix)) = ipv4_of(options) {
            sys::set_ipv4(&name, address, prefix, options.peer).map_err(failed("set the IPv4 address", &name))?;
        }
        let settings = adopt(&queue).map_err(failed("open the settings", &name))?;
        configure(&settings, &name, options)?;
        let capabilities =
            Capabilities { mtu: options.mtu, queues: 1, checksum_offload: false, tso4: false, tso6: false };
        Ok(PlainDevice { name, capabilities, queue: Some(queue) })
    }
}

/// `tun-rs` on a copy of the descriptor: `tun-tap` cannot set the MTU and so on.
fn adopt(queue: &OwnedFd) -> io::Result<SyncDevice> {
    let copy = queue.try_clone()?;
    // SAFETY: the copy is an open TUN queue without packet information and virtio-net header, and handed over for good.
    unsafe { SyncDevice::from_fd(copy.into_raw_fd()) }
}

impl Device for PlainDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn take_queues(&mut self) -> Vec<QueuePair> {
        self.queue.take().into_iter().map(|queue| fd::halves(queue, false)).collect()
    }

    fn watch_mtu(&mut self) -> io::Result<Option<Box<dyn MtuWatch>>> {
        LinkWatch::open(&self.name).map(Some)
    }
}
