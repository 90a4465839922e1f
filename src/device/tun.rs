//! The multi-queue TUN device.
//!
//! The crate `tun-rs` creates and configures the interface; the data path then works on the raw queues
//! (see `fd.rs`). What the kernel granted is read back, never assumed. What must NOT be here: system calls for
//! each packet.
//!
//! The kernel may hand us super-segments up to 64 KB ([`RxOffload::gso_size`](crate::wire::vnet::RxOffload)) whose
//! checksum is partial, and takes the same from us, but only where [`Capabilities`] says so.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tun_rs::{DeviceBuilder, SyncDevice};

use super::link::LinkWatch;
use super::{Capabilities, Device, MtuWatch, QueuePair, fd, sys};
use crate::wire::vnet::VNET_HEADER_LEN;

/// Where the kernel offers TUN devices.
const NODE: &str = "/dev/net/tun";

/// Most queues of one device (`MAX_TAP_QUEUES` of the kernel).
pub const MAX_QUEUES: u16 = 256;

/// How to create a device, for both backends.
#[derive(Debug, Clone)]
pub struct TunOptions {
    /// Name of the interface, at most 15 octets; it must not exist yet. Empty: the kernel picks `tun<N>`.
    pub name: String,
    /// Addresses of the KERNEL's side with prefix length, any number. The engine answers for other addresses in the same
    /// prefixes. Of IPv6 the kernel's side has these alone, and no link-local address.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Far end of the link for the kernel, where the prefix of the first IPv4 address does not say it (/32).
    pub peer: Option<Ipv4Addr>,
    /// Largest IP packet in octets (68..=65,535; IPv6 wants 1,280).
    pub mtu: u16,
    /// Queues to open (1..=256). The plain backend has one only.
    pub queues: u16,
    /// Ask for checksum offload and super-segments. Falls back by itself where the kernel refuses.
    pub offload: bool,
    /// Packets the kernel queues for us on each queue before it drops (it never waits). Too few show as loss.
    pub tx_queue_len: u32,
}

impl Default for TunOptions {
    fn default() -> Self {
        TunOptions {
            name: "trust0".to_owned(),
            addresses: vec![(IpAddr::V4(Ipv4Addr::new(10, 7, 0, 1)), 24)],
            peer: None,
            mtu: 1500,
            queues: 1,
            offload: true,
            tx_queue_len: 10_000,
        }
    }
}

/// Why there is no device, each with what to do about it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The name is taken.
    #[error("an interface named '{0}' exists already; choose another name, or remove it: ip link del {0}")]
    NameInUse(String),
    /// Not a name for an interface.
    #[error("'{0}' cannot name an interface; use 1 to 15 letters, digits, '-', '_' or '.'")]
    NameInvalid(String),
    /// No `/dev/net/tun`.
    #[error("{NODE} is missing; as root: mkdir -p /dev/net && mknod {NODE} c 10 200 && chmod 666 {NODE}")]
    NodeMissing,
    /// `/dev/net/tun` may not be opened (EACCES).
    #[error("{NODE} may not be opened for writing; as root: chmod 666 {NODE} (the usual mode), or run as root")]
    NodeAccess,
    /// The kernel has no TUN driver behind the node.
    #[error("the kernel has no TUN driver ({0}); as root: modprobe tun")]
    NoDriver(io::Error),
    /// TUNSETIFF: EPERM.
    #[error(
        "creating interface '{0}' is not permitted (CAP_NET_ADMIN); run as root, or in a namespace of your own: unshare -Urn"
    )]
    NotPermitted(String),
    /// TUNSETIFF: EBUSY.
    #[error("interface '{0}' is held by another process; stop it, or choose another name")]
    Busy(String),
    /// Options that cannot work.
    #[error("{0}")]
    Options(String),
    /// The kernel gave fewer queues than asked for.
    #[error("queue {queue} of '{name}' was refused ({source}); ask for fewer queues")]
    Queue {
        /// Name of the interface.
        name: String,
        /// Number of the queue, from 0.
        queue: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel has no IPv6 in this network namespace, and so its side can have no address of it.
    #[error(
        "IPv6 is off in this network namespace, so '{0}' can have no address of it; turn it on \
         (sysctl -w net.ipv6.conf.default.disable_ipv6=0), or take IPv4 addresses only"
    )]
    NoIpv6(String),
    /// A property could not be set or read.
    #[error("cannot {what} of interface '{name}': {source}; check the value, and that CAP_NET_ADMIN is there")]
    Configure {
        /// What was tried.
        what: &'static str,
        /// Name of the interface.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}

debug_as_display!(DeviceError);

/// `AddrInUse`: the name is taken; `PermissionDenied`: rights are missing; `InvalidInput`: what was asked for cannot be; else
/// what the kernel said. The error itself is inside.
impl From<DeviceError> for io::Error {
    fn from(error: DeviceError) -> Self {
        Self::new(error.kind(), error)
    }
}

impl DeviceError {
    pub(crate) fn kind(&self) -> io::ErrorKind {
        match self {
            Self::NameInUse(_) | Self::Busy(_) => io::ErrorKind::AddrInUse,
            Self::NameInvalid(_) | Self::Options(_) => io::ErrorKind::InvalidInput,
            Self::NodeMissing => io::ErrorKind::NotFound,
            Self::NodeAccess | Self::NotPermitted(_) => io::ErrorKind::PermissionDenied,
            Self::NoDriver(_) | Self::NoIpv6(_) => io::ErrorKind::Unsupported,
            Self::Queue { source, .. } | Self::Configure { source, .. } => source.kind(),
        }
    }
}

/// What is checked before the kernel is asked: its own answers would be vaguer, and with several queues it would
/// silently join an interface that exists.
pub(super) fn check_options(options: &TunOptions) -> Result<(), DeviceError> {
    let name = &options.name;
    let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    if name.len() > 15 || !name.bytes().all(good) || name == "." || name == ".." {
        return Err(DeviceError::NameInvalid(name.clone()));
    }
    if options.queues == 0 || options.queues > MAX_QUEUES {
        return Err(DeviceError::Options(format!("{} queues: ask for 1 to {MAX_QUEUES}", options.queues)));
    }
    if options.mtu < 68 {
        return Err(DeviceError::Options(format!("MTU {}: IPv4 needs at least 68 (RFC 791), use 1500", options.mtu)));
    }
    for (index, (address, prefix)) in options.addresses.iter().enumerate() {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if *prefix > longest {
            return Err(DeviceError::Options(format!("{address}/{prefix}: a prefix is at most {longest}")));
        }
        if address.is_ipv6() && options.mtu < 1280 {
            return Err(DeviceError::Options(format!("MTU {}: IPv6 needs at least 1280 (RFC 8200)", options.mtu)));
        }
        if options.addresses[..index].iter().any(|(other, _)| other == address) {
            return Err(DeviceError::Options(format!("{address} is given twice for the kernel's side: leave one out")));
        }
    }
    match std::fs::OpenOptions::new().read(true).write(true).open(NODE) {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(DeviceError::NodeMissing),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => return Err(DeviceError::NodeAccess),
        Err(e) => return Err(DeviceError::NoDriver(e)),
    }
    if sys::interface_exists(name) { Err(DeviceError::NameInUse(name.clone())) } else { Ok(()) }
}

/// What TUNSETIFF's answer means.
pub(super) fn creation_error(name: &str, source: io::Error) -> DeviceError {
    match source.raw_os_error() {
        Some(libc::EPERM) => DeviceError::NotPermitted(name.to_owned()),
        Some(libc::EBUSY) => DeviceError::Busy(name.to_owned()),
        // Another kind of interface has the name: it appeared since we looked.
        Some(libc::EEXIST) => DeviceError::NameInUse(name.to_owned()),
        _ => DeviceError::Configure { what: "create the device", name: name.to_owned(), source },
    }
}

/// Turns the kernel's answer to `what` into an error; for `map_err`.
pub(super) fn failed(what: &'static str, name: &str) -> impl FnOnce(io::Error) -> DeviceError {
    move |source| DeviceError::Configure { what, name: name.to_owned(), source }
}

/// MTU, queue length, addresses and "up", for both backends; the first IPv4 address is up to the caller (before this).
pub(super) fn configure(device: &SyncDevice, name: &str, options: &TunOptions) -> Result<(), DeviceError> {
    device.set_mtu(options.mtu).map_err(failed("set the MTU", name))?;
    sys::set_tx_queue_len(name, options.tx_queue_len).map_err(failed("set the queue length", name))?;
    let first = ipv4_of(options);
    // Without IPv6 in the kernel there is nothing to leave out.
    let _ = sys::no_link_local(name);
    for &(address, prefix) in &options.addresses {
        if first.is_some_and(|(first, _)| address == first) {
            continue;
        }
        sys::add_address(name, address, prefix).map_err(|source| match source.raw_os_error() {
            Some(libc::EACCES | libc::EAFNOSUPPORT | libc::EOPNOTSUPP) if address.is_ipv6() => {
                DeviceError::NoIpv6(name.to_owned())
            }
            _ => failed("add an address", name)(source),
        })?;
    }
    device.enabled(true).map_err(failed("bring up the link", name))?;
    for (address, _) in &options.addresses {
        if let IpAddr::V6(address) = address {
            sys::await_ipv6(*address);
        }
    }
    Ok(())
}

/// A TUN interface with one or more queues. An engine makes one by itself; by hand it takes the same rights
/// (`CAP_NET_ADMIN`, and `/dev/net/tun` writable):
///
/// ```no_run
/// use std::time::Duration;
///
/// use trust::device::{BUFFER_LEN, Device, RxQueue, TunDevice, TunOptions};
///
/// # fn main() -> std::io::Result<()> {
/// let options = TunOptions { name: "tun7".to_owned(), offload: false, ..TunOptions::default() };
/// let mut device = TunDevice::create(&options)?;
/// println!("{}: {:?}", device.name(), device.capabilities());
/// let (mut rx, _tx) = device.take_queues().remove(0);
/// let mut packet = vec![0; BUFFER_LEN];
/// loop {
///     match rx.receive(&mut packet)? {
///         Some(received) => println!("{} octets", received.len),
///         None => std::thread::sleep(Duration::from_millis(1)),
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct TunDevice {
    name: String,
    capabilities: Capabilities,
    vnet_header: bool,
    /// Queue 0 again, for ioctls on the device. Also keeps the interface alive until the device is dropped.
    control: OwnedFd,
    /// Not yet taken.
    queues: Vec<OwnedFd>,
}

/// For ioctls on the interface. Packets are read and written by [the queues](Device::take_queues).
impl AsFd for TunDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

impl TunDevice {
    /// Creates the interface, configures it and brings it up. It vanishes when the device and all its queues are dropped.
    ///
    /// # Errors
    ///
    /// [`DeviceError`]; nothing stays behind.
    pub fn create(options: &TunOptions) -> Result<TunDevice, DeviceError> {
        check_options(options)?;
        let first = match build(options, options.offload) {
            Ok(device) => device,
            // Refused with the header or the offloads, so try the bare device, unless that cannot help.
            Err(e) if options.offload && e.raw_os_error() == Some(libc::EINVAL) => {
                tracing::warn!("{}: the kernel refuses virtio-net headers ({e}): plain packets", options.name);
                build(options, false).map_err(|e| creation_error(&options.name, e))?
            }
            Err(e) => return Err(creation_error(&options.name, e)),
        };
        let name = first.name().map_err(|e| creation_error(&options.name, e))?;

        let mut queues = Vec::with_capacity(usize::from(options.queues));
        for queue in 0..options.queues {
            // A clone is a further queue of the interface, not a further handle of the same.
            let extra = (queue > 0).then(|| first.try_clone()).transpose();
            let extra = extra.map_err(|source| DeviceError::Queue { name: name.clone(), queue, source })?;
            let device = extra.as_ref().unwrap_or(&first);
            let fd = device.as_fd().try_clone_to_owned().map_err(failed("copy a queue", &name))?;
            sys::set_nonblocking(fd.as_fd()).map_err(failed("set the mode", &name))?;
            queues.push(fd);
        }
        let control = first.as_fd().try_clone_to_owned().map_err(failed("copy a queue", &name))?;

        let vnet_header = read_back(&queues).map_err(failed("read back the flags", &name))?;
        let granted = negotiate(control.as_fd(), &name, vnet_header, options.offload)
            .map_err(failed("set the offloads", &name))?;
        configure(&first, &name, options)?;

        let capabilities = Capabilities {
            mtu: options.mtu,
            queues: options.queues,
            checksum_offload: granted & libc::TUN_F_CSUM != 0,
            tso4: granted & libc::TUN_F_TSO4 != 0,
            tso6: granted & libc::TUN_F_TSO6 != 0,
        };
        Ok(TunDevice { name, capabilities, vnet_header, control, queues })
    }
}

/// The first IPv4 address, which belongs to the making of the interface.
pub(super) fn ipv4_of(options: &TunOptions) -> Option<(Ipv4Addr, u8)> {
    options.addresses.iter().find_map(|(address, prefix)| match address {
        IpAddr::V4(address) => Some((*address, *prefix)),
        IpAddr::V6(_) => None,
    })
}

fn build(options: &TunOptions, offload: bool) -> io::Result<SyncDevice> {
    let mut builder =
        DeviceBuilder::new().with(|b| _ = b.offload(offload).multi_queue(options.queues > 1)).enable(false);
    if !options.name.is_empty() {
        builder = builder.name(options.name.clone());
    }
    if let Some((address, prefix)) = ipv4_of(options) {
        builder = builder.ipv4(address, prefix, options.peer);
    }
    builder.build_sync()
}

/// Do all queues have the virtio-net header? (A queue opened without inherits it silently, so ask, don't assume.)
fn read_back(queues: &[OwnedFd]) -> io::Result<bool> {
    let mut with_header = 0;
    for queue in queues {
        if sys::tun_flags(queue.as_fd())? & libc::IFF_VNET_HDR != 0 {
            let len = sys::vnet_header_len(queue.as_fd())?;
            if len != VNET_HEADER_LEN {
                return Err(io::Error::other(format!("virtio-net header of {len} octets")));
            }
            with_header += 1;
        }
    }
    if with_header != 0 && with_header != queues.len() {
        return Err(io::Error::other("some queues have a virtio-net header and some have none"));
    }
    Ok(with_header != 0)
}

/// Sets what the kernel may leave to us, in steps down; returns what was granted.
fn negotiate(queue: BorrowedFd<'_>, name: &str, vnet_header: bool, wanted: bool) -> io::Result<libc::c_uint> {
    if !vnet_header {
        if wanted {
            tracing::warn!("{name}: no virtio-net header granted: no offloads");
        }
        // Must succeed: without the header nobody could tell us of a super-segment.
        sys::set_offload(queue, 0)?;
        return Ok(0);
    }
    // Set again though `tun-rs` did, because it also asks for UDP super-segments, which we could not cut.
    let all = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    for mask in [all, libc::TUN_F_CSUM] {
        match sys::set_offload(queue, mask) {
            Ok(()) => return Ok(mask),
            Err(e) => tracing::warn!("{name}: offloads {mask:#x} refused ({e}): trying fewer"),
        }
    }
    sys::set_offload(queue, 0)?;
    Ok(0)
}

impl Device for TunDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn take_queues(&mut self) -> Vec<QueuePair> {
        std::mem::take(&mut self.queues).into_iter().map(|fd| fd::halves(fd, self.vnet_header)).collect()
    }

    fn watch_mtu(&mut self) -> io::Result<Option<Box<dyn MtuWatch>>> {
        LinkWatch::open(&self.name).map(Some)
    }

    fn attach_steering(&mut self, program: BorrowedFd<'_>) -> io::Result<()> {
        sys::set_steering(self.control.as_fd(), program)
    }
}
