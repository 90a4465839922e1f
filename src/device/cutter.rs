//! [`Cutter`]: software offload, which does for a queue what it cannot do itself: cuts super-segments, completes
//! checksums.
//!
//! The shard always makes the largest frames there are: one pass through the core for 64 KB, whoever cuts them.

use std::io;

use super::Transmitted;
use super::segment::{self, MAX_HEADER_LEN, Shape};
use crate::wire::checksum;
use crate::wire::vnet::{Offload, TxChecksum, TxOffload};

/// How far the packet at hand has been cut and sent.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    /// Wire segments of the packet at hand that are sent already.
    sent: usize,
}

impl Cutter {
    /// Sends a packet (header, payload, what is to be done to it) through `transmit`, in as many packets as a queue
    /// needs that `can` do this. `Full`: the rest must follow, by another call with the same packet. `Dropped`: at
    /// least one packet was.
    ///
    /// # Errors
    ///
    /// Those of `transmit`.
    pub(crate) fn send(
        &mut self,
        header: &[u8],
        payload: &[&[u8]],
        offload: TxOffload,
        can: Offload,
        mut transmit: impl FnMut(&[u8], &[&[u8]], &TxOffload) -> io::Result<Transmitted>,
    ) -> io::Result<Transmitted> {
        let Offload { checksum: sums, tso4, tso6 } = can;
        let cuts = sums && if offload.ipv6 { tso6 } else { tso4 };
        let whole = offload.gso_size == 0 || cuts;
        if whole && (sums || offload.checksum == TxChecksum::Done) {
            return transmit(header, payload, &offload);
        }
        let mut changed = [0; MAX_HEADER_LEN];
        let shape = if whole { None } else { Shape::of(header) };
        let Some(shape) = shape else {
            let changed = &mut changed[..header.len()];
            changed.copy_from_slice(header);
            let offload = completed(offload, changed, payload);
            return transmit(changed, payload, &offload);
        };
        let len: usize = payload.iter().map(|part| part.len()).sum();
        let count = segment::count(len, offload.gso_size);
        let mut result = Transmitted::Sent;
        let changed = &mut changed[..shape.header_len];
        while self.sent < count {
            let segments = self.sent..self.sent + 1;
            let range = segment::cut_header(header, &shape, len, offload.gso_size, segments, changed);
            let (slices, used) = segment::slice_payload(payload, range);
            let one = TxOffload { gso_size: 0, ..offload };
            let one = if sums { one } else { completed(one, changed, &slices[..used]) };
            match transmit(changed, &slices[..used], &one)? {
                Transmitted::Full => return Ok(Transmitted::Full),
                Transmitted::Dropped => result = Transmitted::Dropped,
                Transmitted::Sent => {}
            }
            self.sent += 1;
        }
        self.sent = 0;
        Ok(result)
    }
}

/// Completes the checksum of a packet and tells what is left to do of `offload` then.
fn completed(offload: TxOffload, header: &mut [u8], payload: &[&[u8]]) -> TxOffload {
    if let TxChecksum::Partial { start, offset } = offload.checksum {
        checksum::complete(header, payload, start, offset);
    }
    TxOffload { checksum: TxChecksum::Done, ..offload }
}
