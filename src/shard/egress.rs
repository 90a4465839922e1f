//! The way out of a shard: headers, checksum and offload of a frame, and the ring to the tx stage.
//!
//! Must not contain: decisions about what to send (they are `tcp`'s), connections, device calls.

use super::config::ShardConfig;
use super::counters::Counters;
use super::log;
use super::send_store::FRAMES_A_SEGMENT;
use super::tap::Tap;
use crate::buffer::frame::{FrameOwner, TxFrame};
use crate::buffer::ring::Producer;
use crate::buffer::send_memory::SendReader;
use crate::flow::Quad;
use crate::tcp::{Instant, Transmit};
use crate::wire::ip::IpFields;
use crate::wire::tcp::{Flags, TcpHeader};
use crate::wire::vnet::{TxChecksum, TxOffload};
use crate::wire::{self, PROTOCOL_TCP, checksum};

/// Ring places kept for control segments, so that a RST or an ACK finds room when data fills the ring.
const CONTROL_RESERVE: usize = 8;

/// Ring places that answers to strangers leave to connections, beside those that one `Transmit` may need: a flood of SYNs
/// must not fill the ring before the turn's data find their way into it.
const CONNECTIONS_RESERVE: usize = FRAMES_A_SEGMENT + CONTROL_RESERVE + 32;

/// The shard's end of the way out.
#[derive(Debug)]
pub(crate) struct Egress {
    ring: Producer<TxFrame>,
    staged: bool,
    /// Somebody looks at each frame: the log of segments, or a tap.
    watched: bool,
    tap: Option<Box<Tap>>,
}

impl Egress {
    /// `logged`: segments are logged.
    pub(crate) fn new(ring: Producer<TxFrame>, logged: bool) -> Self {
        Self { ring, staged: false, watched: logged, tap: None }
    }

    #[inline]
    pub(crate) fn begin_turn(&mut self, now: Instant) {
        if let Some(tap) = &mut self.tap {
            tap.begin_turn(now);
        }
    }

    /// `false`: there is one that somebody looks at.
    pub(crate) fn set_tap(&mut self, mut tap: Tap, memory: SendReader, now: Instant) -> bool {
        if self.tap.as_mut().is_some_and(|other| other.publish()) {
            return false;
        }
        tap.begin(memory, now);
        self.tap = Some(Box::new(tap));
        self.watched = true;
        true
    }

    #[inline]
    pub(crate) fn is_tapped(&self) -> bool {
        self.tap.is_some()
    }

    #[inline]
    pub(crate) fn tap_mut(&mut self) -> Option<&mut Tap> {
        self.tap.as_deref_mut()
    }

    #[cold]
    fn watch(&mut self, config: &ShardConfig, frame: &TxFrame) {
        if config.log_segments {
            log::frame_out(frame);
        }
        if let Some(tap) = &mut self.tap {
            tap.send(frame);
        }
    }

    /// Makes everything staged visible to the tx stage. Returns whether there was anything.
    pub(crate) fn publish(&mut self, config: &ShardConfig) -> bool {
        self.ring.publish();
        if let Some(tap) = &mut self.tap
            && !tap.publish()
        {
            self.tap = None;
            self.watched = config.log_segments;
        }
        std::mem::take(&mut self.staged)
    }

    pub(crate) fn has_room_for_data(&mut self) -> bool {
        self.has_room_for(FRAMES_A_SEGMENT)
    }

    /// Whether there is room for so many frames and some for control, as far as the ring has so many places at all.
    pub(crate) fn has_room_for(&mut self, frames: usize) -> bool {
        self.ring.has_room((frames + CONTROL_RESERVE).min(self.ring.capacity()))
    }

    /// Frames that the tx stage has not taken yet.
    pub(crate) fn waiting(&mut self) -> usize {
        self.ring.capacity() - self.ring.room()
    }

    /// Whether there is room for an answer to somebody who is no connection: the SYN-ACK of a half-open one, a RST, an echo
    /// reply.
    pub(crate) fn has_room_for_strangers(&mut self) -> bool {
        self.ring.room() > CONNECTIONS_RESERVE.min(self.ring.capacity() / 2)
    }

    pub(crate) fn has_room(&mut self) -> bool {
        self.ring.has_room(1)
    }

    /// Sends a segment without payload that nobody waits for. `false`: no room.
    pub(crate) fn send_control(
        &mut self,
        config: &ShardConfig,
        quad: &Quad,
        ip: IpFields,
        segment: &Transmit,
        counters: &mut Counters,
    ) -> bool {
        let mut frame = blank(quad, segment);
        let piece = Piece { seq: segment.seq.0, flags: segment.flags, sum: 0 };
        seal(config, quad, ip, segment, piece, &mut frame);
        self.stage(config, frame, counters).is_ok()
    }

    /// Gives the frame back where there is no room: its leases are not to be lost.
    #[allow(clippy::result_large_err)] // The frame is as large either way.
    #[inline(always)]
    pub(crate) fn stage(
        &mut self,
        config: &ShardConfig,
        frame: TxFrame,
        counters: &mut Counters,
    ) -> Result<(), TxFrame> {
        let octets = frame.len() as u64;
        if self.watched {
            self.watch(config, &frame);
        }
        self.ring.stage(frame)?;
        self.staged = true;
        counters.packets_out += 1;
        counters.bytes_out += octets;
        Ok(())
    }
}

/// A frame with room for the headers of `segment`, to which its payload can be added.
#[inline(always)]
pub(crate) fn blank(quad: &Quad, segment: &Transmit) -> TxFrame {
    let header_len = wire::ip::header_len(quad.remote.addr) + wire::tcp::MIN_HEADER_LEN + segment.options.wire_len();
    let offload = TxOffload {
        checksum: TxChecksum::Done,
        gso_size: 0,
        header_len: header_len as u16,
        ipv6: quad.remote.addr.is_ipv6(),
    };
    TxFrame::new(offload, FrameOwner::NONE, |_| header_len)
}

/// What one frame carries of a segment: nearly always all of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    /// The number of its first octet.
    pub(crate) seq: u32,
    /// The segment's, but that only the last piece has FIN and PSH.
    pub(crate) flags: Flags,
    /// The sum of its payload, where the device does not sum.
    pub(crate) sum: u32,
}

/// Writes the headers of a frame whose payload is complete.
pub(crate) fn seal(
    config: &ShardConfig,
    quad: &Quad,
    ip: IpFields,
    segment: &Transmit,
    piece: Piece,
    frame: &mut TxFrame,
) {
    let (src, dst) = (quad.local.addr, quad.remote.addr);
    let payload_len = frame.payload_len();
    let header = TcpHeader {
        src_port: quad.local.port,
        dst_port: quad.remote.port,
        seq: piece.seq,
        ack: segment.ack.0,
        flags: piece.flags,
        window: segment.window.0,
        ..TcpHeader::default()
    };
    let ip_len = wire::ip::header_len(dst);
    let bytes = frame.header_mut();
    let tcp_len = bytes.len() - ip_len;
    wire::ip::write(bytes, src, dst, PROTOCOL_TCP, tcp_len + payload_len, ip);
    let tcp = &mut bytes[ip_len..];
    wire::tcp::write_with(&header, &segment.options, tcp);
    if config.offload.checksum {
        wire::tcp::set_partial_checksum(tcp, src, dst, payload_len);
        frame.offload.checksum =
            TxChecksum::Partial { start: ip_len as u16, offset: wire::tcp::CHECKSUM_OFFSET as u16 };
    } else {
        // The header is a whole number of 16-bit words: the payload's sum may follow it as it is.
        let pseudo = checksum::pseudo_header(src, dst, PROTOCOL_TCP, tcp_len + payload_len);
        let total = checksum::combine(checksum::combine(pseudo, checksum::sum(tcp), false), piece.sum, false);
        let at = wire::tcp::CHECKSUM_OFFSET;
        tcp[at..at + 2].copy_from_slice(&checksum::finish(total).to_be_bytes());
    }
    if usize::from(segment.gso_size) < payload_len {
        frame.offload.gso_size = segment.gso_size;
    }
}
