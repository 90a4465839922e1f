//! ICMP as far as a host must: echo requests are answered (IP-17), errors reach the connection whose segment they quote
//! (ICMP-1, MUST-54), and who sends what is not TCP is told (ICMP-14).
//!
//! Must not contain: what an error means for a connection (that is `tcp`'s).

use std::net::IpAddr;

use super::Shard;
use super::config::ShardConfig;
use super::conn::Phase;
use super::counters::{Counters, DropReason};
use super::egress::Egress;
use super::service::ConnId;
use super::state::ShardState;
use super::transmit::drop_frame;
use crate::buffer::frame::{FrameOwner, MAX_HEADER, Payload, RxFrame, TxFrame};
use crate::buffer::send_memory::SendMemory;
use crate::flow::{Endpoint, Quad};
use crate::tcp::{Heeded, SeqNum};
use crate::wire::icmp::{IcmpError, LONGEST_ERROR, Refusal, Report};
use crate::wire::vnet::{ChecksumStatus, TxChecksum, TxOffload};
use crate::wire::{self, NO_NEXT_HEADER, PROTOCOL_UDP};

impl Shard {
    /// Handles a packet with an ICMP message from `src` to one of our addresses.
    pub(super) fn receive_icmp(&mut self, src: IpAddr, frame: &mut RxFrame) -> Result<(), DropReason> {
        if self.state.answer_echo(src, frame)? {
            return Ok(());
        }
        let trusted = frame.offload.checksum == ChecksumStatus::Trusted;
        let packet = wire::ip::parse(frame.packet.bytes(), true)?;
        let Some(error) = wire::icmp::parse_error(&packet, trusted)? else { return Err(DropReason::IcmpUnknown) };
        self.receive_icmp_error(&error)
    }

    /// Who sent it does not matter: any router on the way may.
    fn receive_icmp_error(&mut self, error: &IcmpError) -> Result<(), DropReason> {
        let Some(report) = error.report() else { return Err(DropReason::IcmpUnknown) };
        let quad =
            Quad { local: Endpoint::new(error.src, error.src_port), remote: Endpoint::new(error.dst, error.dst_port) };
        let (state, seq) = (&mut self.state, SeqNum(error.seq));
        let hash = state.hash(&quad);
        if let Some(id) = state.lookup(hash, &quad) {
            return state.heed_icmp(id, seq, report);
        }
        let Some(slot) = state.half_open.find(hash, &quad) else { return Err(DropReason::IcmpNoConnection) };
        let Report::Unreachable(why) = report else { return Err(DropReason::IcmpAbsurdSize) };
        // Nobody was told of it (SM-SR-2); the peer's SYN, if it comes again, begins anew.
        let record = state.half_open.at(slot);
        if record.and_then(|record| record.handshake.unpack().on_unreachable(seq, why)).is_none() {
            return Err(DropReason::IcmpNotInFlight);
        }
        state.drop_half_open(slot);
        state.counters.unreachables_in += 1;
        Ok(())
    }
}

impl ShardState {
    /// An error about the connection `id`, or what is to become one.
    fn heed_icmp(&mut self, id: ConnId, seq: SeqNum, report: Report) -> Result<(), DropReason> {
        let Some(conn) = self.conns.get_mut(id) else { return Err(DropReason::IcmpNoConnection) };
        let connection = match &mut conn.phase {
            Phase::Open(connection) => connection,
            Phase::Handshake(handshake) => {
                let Report::Unreachable(why) = report else { return Err(DropReason::IcmpAbsurdSize) };
                let Some(reason) = handshake.on_unreachable(seq, why) else { return Err(DropReason::IcmpNotInFlight) };
                self.counters.unreachables_in += 1;
                self.finish(id, reason);
                return Ok(());
            }
            Phase::Drained(..) => return Err(DropReason::IcmpNoConnection),
        };
        match connection.on_icmp(&self.config.tcp, seq, report, self.now) {
            Heeded::NotInFlight => return Err(DropReason::IcmpNotInFlight),
            Heeded::Absurd => return Err(DropReason::IcmpAbsurdSize),
            Heeded::Noted => self.counters.unreachables_in += 1,
            Heeded::Smaller => self.counters.too_big_in += 1,
            Heeded::Pending => self.counters.too_big_pending += 1,
        }
        self.touch(id);
        Ok(())
    }

    /// Answers an echo request, at a bounded rate. `false`: it is none.
    fn answer_echo(&mut self, src: IpAddr, frame: &mut RxFrame) -> Result<bool, DropReason> {
        let trusted = frame.offload.checksum == ChecksumStatus::Trusted;
        let packet = frame.packet.bytes_mut();
        let Some(reply) = wire::icmp::echo_reply(packet, trusted)? else { return Ok(false) };
        if !self.echoes.allow(self.shared.hasher.hash_source(src), self.now) {
            return Err(DropReason::IcmpRateLimited);
        }
        if !self.egress.has_room_for_strangers() {
            return Err(DropReason::TxRingFull);
        }
        let Self { config, egress, memory, counters, .. } = self;
        send_packet(&packet[reply], (config, egress, memory, counters))?;
        self.counters.echo_replies += 1;
        Ok(true)
    }

    /// Tells the sender of `about`, which is for one of our addresses and no fragment, that we do not speak its protocol
    /// (ICMP-14), at a bounded rate and never where nobody may be told (ICMP-11).
    #[cold]
    pub(super) fn refuse(&mut self, about: &[u8]) {
        let Ok(packet) = wire::ip::parse(about, true) else { return };
        if packet.protocol == NO_NEXT_HEADER
            || self.config.routes.is_broadcast(packet.src)
            || !self.egress.has_room_for_strangers()
            || !self.refusals.allow(self.shared.hasher.hash_source(packet.src), self.now)
        {
            return;
        }
        let why = if packet.protocol == PROTOCOL_UDP { Refusal::Port } else { Refusal::Protocol };
        let mut error = [0; LONGEST_ERROR];
        let len = wire::icmp::write_error(&mut error, about, &packet, why);
        let Self { config, egress, memory, counters, .. } = self;
        if send_packet(&error[..len], (config, egress, memory, counters)).is_ok() {
            self.counters.unreachables_out += 1;
        }
    }

    /// Tells the sender of a fragment that came to nothing why, where that is said at all, as [`refuse`](Self::refuse) does.
    #[cold]
    pub(super) fn refuse_fragment(&mut self, frame: &RxFrame) {
        let about = frame.packet.bytes();
        let (Some(why), Some((src, dst))) = (frame.refusal, wire::ip::ends(about)) else { return };
        let mut error = [0; LONGEST_ERROR];
        let Some(len) = wire::icmp::write_error_about_fragment(&mut error, about, why) else { return };
        if self.judge_ends(src, dst).is_err()
            || wire::ip::is_forbidden_source(src)
            || self.config.routes.is_broadcast(src)
            || !self.egress.has_room_for_strangers()
            || !self.refusals.allow(self.shared.hasher.hash_source(src), self.now)
        {
            return;
        }
        let Self { config, egress, memory, counters, .. } = self;
        if send_packet(&error[..len], (config, egress, memory, counters)).is_ok() {
            self.counters.fragment_errors_out += 1;
        }
    }
}

/// Sends a packet that is no segment of a connection. The headers go inline, the data from send memory, like any payload.
fn send_packet(
    packet: &[u8],
    (config, egress, memory, counters): (&ShardConfig, &mut Egress, &mut SendMemory, &mut Counters),
) -> Result<(), DropReason> {
    let (header, data) = packet.split_at(packet.len().min(MAX_HEADER));
    let header_len = header.len() as u16;
    let offload = TxOffload { checksum: TxChecksum::Done, gso_size: 0, header_len, ipv6: header[0] >> 4 == 6 };
    let mut frame = TxFrame::from_header(header, offload, FrameOwner::NONE);
    let mut rest = data;
    while !rest.is_empty() {
        let block = if frame.slices_left() > 0 { memory.allocate(rest.len()) } else { None };
        let Some(mut block) = block else {
            drop_frame(memory, frame);
            return Err(DropReason::NoRoom);
        };
        let copied = memory.append(&mut block, rest);
        let _ = frame.push(Payload::Block(memory.lease(&block, 0, copied)));
        memory.release(block);
        rest = &rest[copied..];
    }
    if let Err(frame) = egress.stage(config, frame, counters) {
        drop_frame(memory, frame);
        return Err(DropReason::TxRingFull);
    }
    Ok(())
}
