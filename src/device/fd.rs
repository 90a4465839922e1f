//! The data path of devices that are file descriptors: one `read` or `writev` a packet, never blocking.
//!
//! With a virtio-net header the kernel puts (and expects) ten octets in front of every IP packet; without it a read is
//! the bare packet. Set-up of devices must NOT be here.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use super::{QueuePair, Received, RxQueue, Transmitted, TxQueue};
use crate::wire::vnet::{self, ChecksumStatus, RxOffload, TxChecksum, TxOffload, VNET_HEADER_LEN};

/// Most payload slices of one packet.
pub const MAX_PAYLOAD_SLICES: usize = 6;

/// Where a received IP header starts behind a virtio-net header: a multiple of 16, so that addresses are aligned.
const PACKET_START: usize = 16;

/// The two halves of one queue. Both hold the descriptor; the queue closes when both are gone.
pub(super) fn halves(fd: OwnedFd, vnet_header: bool) -> QueuePair {
    // `&File` reads and writes: no lock, and the `Arc` is cloned here only.
    let file = Arc::new(File::from(fd));
    let rx = FdRx { file: Arc::clone(&file), vnet_header };
    (Box::new(rx), Box::new(FdTx { file, vnet_header }))
}

struct FdRx {
    file: Arc<File>,
    vnet_header: bool,
}

impl RxQueue for FdRx {
    fn receive(&mut self, buf: &mut [u8]) -> io::Result<Option<Received>> {
        let start = if self.vnet_header { PACKET_START } else { 0 };
        let read_at = if self.vnet_header { PACKET_START - VNET_HEADER_LEN } else { 0 };
        loop {
            let read = match (&*self.file).read(&mut buf[read_at..]) {
                Ok(read) => read,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                // The kernel could not describe this packet in a virtio-net header; it is consumed. Next one.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => continue,
                Err(e) => return Err(e),
            };
            if !self.vnet_header {
                let offload = RxOffload { checksum: ChecksumStatus::Unverified, gso_size: 0 };
                return Ok(Some(Received { start, len: read, offload }));
            }
            let (Some(header), Some(len)) =
                (buf[read_at..].first_chunk::<VNET_HEADER_LEN>(), read.checked_sub(VNET_HEADER_LEN))
            else {
                continue;
            };
            // `None`: a kind of super-segment that was never granted. Cannot be cut here, so it is as if lost.
            if let Some(offload) = vnet::decode(header) {
                return Ok(Some(Received { start, len, offload }));
            }
        }
    }

    fn fd(&self) -> Option<RawFd> {
        Some(self.file.as_raw_fd())
    }
}

struct FdTx {
    file: Arc<File>,
    vnet_header: bool,
}

impl TxQueue for FdTx {
    fn transmit(&mut self, header: &[u8], payload: &[&[u8]], offload: &TxOffload) -> io::Result<Transmitted> {
        let plain = matches!(offload.checksum, TxChecksum::Done) && offload.gso_size == 0;
        if payload.len() > MAX_PAYLOAD_SLICES || (!self.vnet_header && !plain) {
            debug_assert!(false, "packet breaks the rules of the device: {offload:?}");
            return Err(ErrorKind::InvalidInput.into());
        }
        let vnet_header = vnet::encode(offload);
        let mut slices = [IoSlice::new(&[]); MAX_PAYLOAD_SLICES + 2];
        let mut used = 0;
        if self.vnet_header {
            slices[0] = IoSlice::new(&vnet_header);
            used = 1;
        }
        slices[used] = IoSlice::new(header);
        used += 1;
        for part in payload {
            slices[used] = IoSlice::new(part);
            used += 1;
        }
        loop {
            let error = match (&*self.file).write_vectored(&slices[..used]) {
                Ok(_) => return Ok(Transmitted::Sent),
                Err(error) => error,
            };
            return match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EAGAIN) => Ok(Transmitted::Full),
                // Link down, no memory, or not an IP packet in the kernel's eyes: this packet only.
                Some(libc::EIO | libc::ENOBUFS | libc::ENOMEM | libc::EINVAL | libc::EMSGSIZE) => {
                    Ok(Transmitted::Dropped)
                }
                // EBADFD: the interface was deleted.
                _ => Err(error),
            };
        }
    }
}
