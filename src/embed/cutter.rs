//! [`Cutter`]: does for a queue what it cannot do itself: cuts super-segments, completes checksums.
//!
//! The shard always makes the largest frames there are: one pass through the core for 64 KB, whoever cuts them.

use std::io;

use crate::buffer::frame::{MAX_HEADER, TxFrame};
use crate::buffer::send_memory::SendReader;
use crate::device::Transmitted;
use crate::device::segment::{self, Shape};
use crate::shard::Offload;
use crate::wire::checksum;
use crate::wire::vnet::{TxChecksum, TxOffload};

/// How far the frame at hand has been cut and sent.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    /// Wire segments of the frame at hand that are sent already.
    sent: usize,
}

impl Cutter {
    /// Sends a frame through `transmit` (header, payload, what is left to the queue) in as many packets as a queue needs
    /// that `can` do this.
    /// `Full`: the rest must follow, by another call with the same frame. `Dropped`: at least one packet was.
    ///
    /// # Errors
    ///
    /// Those of `transmit`.
    pub(super) fn send(
        &mut self,
        frame: &TxFrame,
        reader: &SendReader,
        can: Offload,
        mut transmit: impl FnMut(&[u8], &[&[u8]], &TxOffload) -> io::Result<Transmitted>,
    ) -> io::Result<Transmitted> {
        let payload = frame.payload(reader);
        let offload = frame.offload;
        let Offload { checksum: sums, tso4, tso6 } = can;
        let cuts = sums && if offload.ipv6 { tso6 } else { tso4 };
        let whole = offload.gso_size == 0 || cuts;
        if whole && (sums || offload.checksum == TxChecksum::Done) {
            return transmit(frame.header(), &payload, &offload);
        }
        let mut header = [0; MAX_HEADER];
        let shape = if whole { None } else { Shape::of(frame.header()) };
        let Some(shape) = shape else {
            let header = &mut header[..frame.header().len()];
            header.copy_from_slice(frame.header());
            let offload = completed(offload, header, &payload);
            return transmit(header, &payload, &offload);
        };
        let len = frame.payload_len();
        let count = segment::count(len, offload.gso_size);
        let mut result = Transmitted::Sent;
        let header = &mut header[..shape.header_len];
        while self.sent < count {
            let segments = self.sent..self.sent + 1;
            let range = segment::cut_header(frame.header(), &shape, len, offload.gso_size, segments, header);
            let (slices, used) = segment::slice_payload(&payload, range);
            let one = TxOffload { gso_size: 0, ..offload };
            let one = if sums { one } else { completed(one, header, &slices[..used]) };
            match transmit(header, &slices[..used], &one)? {
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
