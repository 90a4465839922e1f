//! [`Arrival`]: a TCP segment on its way through the shard.

use crate::buffer::frame::RxFrame;
use crate::buffer::packet::PacketBuf;

/// A packet with the place of its TCP payload in the packet's storage.
pub(super) struct Arrival {
    pub(super) frame: RxFrame,
    pub(super) start: usize,
}

impl Arrival {
    /// The packet cut to its payload, of `len` octets.
    #[inline(always)]
    pub(super) fn whole(self, len: usize) -> PacketBuf {
        let mut packet = self.frame.packet;
        packet.set_range(self.start, len);
        packet
    }

    /// The packet cut to octets `from..to` of its payload.
    pub(super) fn cut(self, from: u32, to: u32) -> PacketBuf {
        let mut packet = self.frame.packet;
        packet.set_range(self.start + from as usize, (to - from) as usize);
        packet
    }
}
