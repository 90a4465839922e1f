//! A device that delivers every packet on a queue that is not its own, to prove that nothing depends on steering.
//!
//! It only hands out the receiving halves rotated by one; packets are not touched.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::{Capabilities, Device, MtuWatch, QueuePair};
use crate::steering::{OwnerTable, SteeringKeys};

/// Wraps a device; with a single queue it changes nothing.
#[derive(Debug)]
pub struct WrongQueue<D> {
    inner: D,
}

impl<D: Device> WrongQueue<D> {
    /// What arrives on queue `i` of `inner` is delivered on queue `(i + 1) % queues`.
    pub fn new(inner: D) -> Self {
        WrongQueue { inner }
    }
}

impl<D: Device> Device for WrongQueue<D> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn take_queues(&mut self) -> Vec<QueuePair> {
        let (mut rx, tx): (Vec<_>, Vec<_>) = self.inner.take_queues().into_iter().unzip();
        if !rx.is_empty() {
            rx.rotate_right(1);
        }
        rx.into_iter().zip(tx).collect()
    }

    fn attach_steering(&mut self, program: BorrowedFd<'_>) -> io::Result<()> {
        self.inner.attach_steering(program)
    }

    fn watch_mtu(&mut self) -> io::Result<Option<Box<dyn MtuWatch>>> {
        self.inner.watch_mtu()
    }

    fn steer_by_owner(&mut self, keys: &SteeringKeys, owners: &Arc<OwnerTable>) -> bool {
        self.inner.steer_by_owner(keys, owners)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::memory::{self, MemoryOptions};
    use super::*;
    use crate::wire::vnet::TxOffload;

    #[test]
    fn every_packet_comes_on_the_next_queue() {
        let (device, mut port) = memory::port(&MemoryOptions { queues: 3, ..MemoryOptions::default() }).unwrap();
        let mut device = WrongQueue::new(device);
        let mut queues = device.take_queues();
        let mut buf = vec![0; super::super::BUFFER_LEN];
        for queue in 0..3usize {
            assert!(port.inject_with(queue, b"x", &TxOffload::default()));
            for (i, (rx, _)) in queues.iter_mut().enumerate() {
                assert_eq!(rx.receive(&mut buf).unwrap().is_some(), i == (queue + 1) % 3);
            }
            assert_eq!(
                queues[queue].1.transmit(b"y", &[], &TxOffload::default()).unwrap(),
                super::super::Transmitted::Sent
            );
            assert_eq!(port.capture_into(&mut buf).unwrap().0, queue, "sending is as it was");
        }
    }
}
