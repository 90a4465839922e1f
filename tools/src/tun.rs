//! TUN devices as an instrument needs them: a few ioctls on `/dev/net/tun`, and `ip` for the rest. For stand-ins and for
//! other stacks of the comparison; the engine has its own.

use crate::sys;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::Duration;

/// Octets of the virtio-net header in front of each packet of a device with offloads.
pub const VNET_HEADER: usize = 10;

/// What a device is to be like.
#[derive(Debug, Clone)]
pub struct Device {
    /// Name of the interface.
    pub name: String,
    /// The kernel's address on it, with the length of the prefix.
    pub address: String,
    /// Largest IP packet, octets.
    pub mtu: u32,
    /// Queues; with one there is nothing to steer.
    pub queues: usize,
    /// A virtio-net header before each packet, with checksums and segmentation (TCP over IPv4) left to the device.
    pub offload: bool,
    /// Packets that a queue holds before the kernel drops.
    pub queue_length: u32,
}

impl Device {
    /// Opens the device and brings it up; a descriptor a queue, which do not block.
    ///
    /// # Errors
    /// `/dev/net/tun` or the device is refused, or `ip` is.
    pub fn open(&self) -> io::Result<Vec<File>> {
        let queues = (0..self.queues).map(|_| self.queue()).collect::<io::Result<Vec<_>>>()?;
        let (name, address) = (&self.name, &self.address);
        for words in [
            format!("address add {address} dev {name}"),
            format!("link set {name} mtu {} txqueuelen {} up", self.mtu, self.queue_length),
        ] {
            let mut command = Command::new("ip");
            sys::run(command.args(words.split_whitespace()), Duration::from_secs(10))?;
        }
        Ok(queues)
    }

    fn queue(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
        let mut flags = libc::IFF_TUN | libc::IFF_NO_PI;
        if self.offload {
            flags |= libc::IFF_VNET_HDR;
        }
        if self.queues > 1 {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        // SAFETY: all-zero is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if self.name.len() >= request.ifr_name.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{}: too long a name", self.name)));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(self.name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: the request is a valid ifreq that lives across the call.
        checked("TUNSETIFF", unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) })?;
        if self.offload {
            let features = libc::c_ulong::from(libc::TUN_F_CSUM | libc::TUN_F_TSO4);
            // SAFETY: this request takes a number, no memory.
            checked("TUNSETOFFLOAD", unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, features) })?;
        }
        Ok(file)
    }
}

fn checked(what: &str, outcome: libc::c_int) -> io::Result<libc::c_int> {
    if outcome >= 0 {
        return Ok(outcome);
    }
    let e = io::Error::last_os_error();
    Err(io::Error::new(e.kind(), format!("{what}: {e}")))
}

/// `bpf(BPF_PROG_LOAD)`'s argument, as far as it is used.
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
}

/// Loads a program of two instructions: the number of the CPU that sends is the queue.
///
/// # Errors
/// The kernel lets only holders of CAP_BPF load programs.
pub fn load_steering_by_cpu() -> io::Result<OwnedFd> {
    const LOAD: libc::c_int = 5;
    const SOCKET_FILTER: u32 = 1;
    // call bpf_get_smp_processor_id; exit.
    let instructions: [u64; 2] = [0x0000_0008_0000_0085, 0x0000_0000_0000_0095];
    let load = ProgramLoad {
        kind: SOCKET_FILTER,
        instruction_count: 2,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
    };
    // SAFETY: the argument, and the instructions and the licence that it points to, live across the call; the kernel
    // only reads them.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, LOAD, &load, size_of::<ProgramLoad>()) };
    let fd = checked("bpf(BPF_PROG_LOAD)", libc::c_int::try_from(fd).unwrap_or(-1))?;
    // SAFETY: the kernel just gave us this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has a program choose the queue of each packet that the kernel sends.
///
/// # Errors
/// As `ioctl(TUNSETSTEERINGEBPF)`.
pub fn steer(queue: &File, program: &OwnedFd) -> io::Result<()> {
    let fd: libc::c_int = program.as_raw_fd();
    // SAFETY: the number of the descriptor lives across the call.
    checked("TUNSETSTEERINGEBPF", unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETSTEERINGEBPF, &fd) }).map(drop)
}
