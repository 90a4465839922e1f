//! ICMP as far as a host must (IP-17): answers echo requests, at a bounded rate.
//!
//! Must not contain: errors of our own (TCP answers with RST, ICMP-14).

use std::net::IpAddr;

use super::counters::DropReason;
use super::state::ShardState;
use super::transmit::drop_frame;
use crate::buffer::frame::{FrameOwner, MAX_HEADER, Payload, RxFrame, TxFrame};
use crate::wire;
use crate::wire::vnet::{ChecksumStatus, TxChecksum, TxOffload};

impl ShardState {
    /// Handles a packet with an ICMP message from `src` to one of our addresses.
    pub(crate) fn receive_icmp(&mut self, src: IpAddr, frame: &mut RxFrame) -> Result<(), DropReason> {
        let trusted = frame.offload.checksum == ChecksumStatus::Trusted;
        let packet = frame.packet.bytes_mut();
        let Some(reply) = wire::icmp::echo_reply(packet, trusted)? else { return Err(DropReason::IcmpUnknown) };
        if !self.echoes.allow(self.shared.hasher.hash_source(src), self.now) {
            return Err(DropReason::IcmpRateLimited);
        }
        if !self.egress.has_room_for_strangers() {
            return Err(DropReason::TxRingFull);
        }
        // The headers go inline, the data from send memory, like any payload.
        let reply = &packet[reply];
        let (header, data) = reply.split_at(reply.len().min(MAX_HEADER));
        let header_len = header.len() as u16;
        let offload = TxOffload { checksum: TxChecksum::Done, gso_size: 0, header_len, ipv6: header[0] >> 4 == 6 };
        let mut frame = TxFrame::from_header(header, offload, FrameOwner::NONE);
        let mut rest = data;
        while !rest.is_empty() {
            let block = if frame.slices_left() > 0 { self.memory.allocate(rest.len()) } else { None };
            let Some(mut block) = block else {
                drop_frame(&mut self.memory, frame);
                return Err(DropReason::NoRoom);
            };
            let copied = self.memory.append(&mut block, rest);
            let _ = frame.push(Payload::Block(self.memory.lease(&block, 0, copied)));
            self.memory.release(block);
            rest = &rest[copied..];
        }
        if let Err(frame) = self.egress.stage(&self.config, frame, &mut self.counters) {
            drop_frame(&mut self.memory, frame);
            return Err(DropReason::TxRingFull);
        }
        self.counters.echo_replies += 1;
        Ok(())
    }
}
