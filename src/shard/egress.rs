//! The way out of a shard: headers, checksum and offload of a frame, and the ring to the tx stage.
//!
//! Must not contain: decisions about what to send (they are `tcp`'s), connections, device calls.

use std::net::IpAddr;

use super::config::ShardConfig;
use super::counters::Counters;
use super::log;
use super::send_store::FRAMES_A_SEGMENT;
use super::tap::Tap;
use crate::buffer::frame::TxFrame;
use crate::buffer::ring::Producer;
use crate::buffer::send_memory::SendReader;
use crate::flow::Quad;
use crate::tcp::{Instant, Transmit};
use crate::wire::ip::IpFields;
use crate::wire::options::Timestamps;
use crate::wire::plain::{EndsV4, IPV4_STAMPED_LEN, Plain};
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

    /// Makes everything staged visible to the tx stage. Returns whether there was anything.
    #[inline]
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
        let piece = Piece { seq: segment.seq.0, flags: segment.flags, len: 0, sum: 0 };
        match Stamped::of(quad, segment) {
            Some(headers) => self.send(config, counters, (&headers, ip), segment, |_| piece),
            None => self.send(config, counters, (&Other(quad), ip), segment, |_| piece),
        }
    }

    /// Makes a frame of a segment in the ring, with such headers. `fill` adds its payload, and says what piece of the
    /// segment that is. `false`: no room.
    #[inline(always)]
    pub(crate) fn send(
        &mut self,
        config: &ShardConfig,
        counters: &mut Counters,
        (headers, ip): (&impl Headers, IpFields),
        segment: &Transmit,
        fill: impl FnOnce(&mut TxFrame) -> Piece,
    ) -> bool {
        let make = || headers.blank(segment);
        self.compose(config, counters, make, |frame| {
            let piece = fill(frame);
            if u32::from(segment.gso_size) < piece.len {
                frame.offload.gso_size = segment.gso_size;
            }
            headers.seal(config, ip, segment, piece, frame);
            piece.len
        })
    }

    /// Makes a frame in the ring; `complete` writes into it and gives the octets of its payload. `false`: no room.
    #[inline(always)]
    fn compose(
        &mut self,
        config: &ShardConfig,
        counters: &mut Counters,
        make: impl FnOnce() -> TxFrame,
        complete: impl FnOnce(&mut TxFrame) -> u32,
    ) -> bool {
        let Self { ring, watched, tap, .. } = self;
        let octets = ring.stage_with(make, |frame| {
            let payload = complete(frame);
            if *watched {
                watch(tap, config, frame);
            }
            frame.header().len() as u64 + u64::from(payload)
        });
        if let Some(octets) = octets {
            self.staged = true;
            counters.packets_out += 1;
            counters.bytes_out += octets;
        }
        octets.is_some()
    }

    /// Puts a frame into the ring. Gives it back where there is no room: its leases are not to be lost.
    #[allow(clippy::result_large_err)] // The frame is as large either way.
    pub(crate) fn stage(
        &mut self,
        config: &ShardConfig,
        frame: TxFrame,
        counters: &mut Counters,
    ) -> Result<(), TxFrame> {
        let octets = frame.len() as u64;
        if self.watched {
            watch(&mut self.tap, config, &frame);
        }
        self.ring.stage(frame)?;
        self.staged = true;
        counters.packets_out += 1;
        counters.bytes_out += octets;
        Ok(())
    }
}

/// Shows a frame to whoever looks at each.
#[cold]
fn watch(tap: &mut Option<Box<Tap>>, config: &ShardConfig, frame: &TxFrame) {
    if config.log_segments {
        log::frame_out(frame);
    }
    if let Some(tap) = tap {
        tap.send(frame);
    }
}

/// What one frame carries of a segment: nearly always all of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    /// The number of its first octet.
    pub(crate) seq: u32,
    /// The segment's, but that only the last piece has FIN and PSH.
    pub(crate) flags: Flags,
    /// Octets of its payload.
    pub(crate) len: u32,
    /// The sum of its payload, where the device does not sum.
    pub(crate) sum: u32,
}

/// How the headers of a segment look.
pub(crate) trait Headers {
    /// A frame with room for them, to which its payload can be added.
    fn blank(&self, segment: &Transmit) -> TxFrame;

    /// Writes them once the payload, this piece of the segment, is complete.
    fn seal(&self, config: &ShardConfig, ip: IpFields, segment: &Transmit, piece: Piece, frame: &mut TxFrame);
}

/// As nearly all segments have them: IPv4 without options, and TCP with timestamps alone.
pub(crate) struct Stamped {
    ends: EndsV4,
    stamps: Timestamps,
}

impl Stamped {
    /// Those of `segment`, if it has such.
    #[inline(always)]
    pub(crate) fn of(quad: &Quad, segment: &Transmit) -> Option<Self> {
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (quad.local.addr, quad.remote.addr) else { return None };
        let ends = EndsV4 { src: (src, quad.local.port), dst: (dst, quad.remote.port) };
        Some(Self { ends, stamps: segment.options.only_timestamps()? })
    }
}

impl Headers for Stamped {
    #[inline(always)]
    fn blank(&self, _: &Transmit) -> TxFrame {
        let header_len = IPV4_STAMPED_LEN as u16;
        let offload = TxOffload { checksum: TxChecksum::Done, gso_size: 0, header_len, ipv6: false };
        TxFrame::blank(IPV4_STAMPED_LEN, offload)
    }

    #[inline(always)]
    fn seal(&self, config: &ShardConfig, ip: IpFields, segment: &Transmit, piece: Piece, frame: &mut TxFrame) {
        let plain = Plain {
            seq: piece.seq,
            ack: segment.ack.0,
            flags: piece.flags,
            window: segment.window.0,
            urgent: 0,
            timestamps: Some(self.stamps),
            start: IPV4_STAMPED_LEN,
            len: piece.len as usize,
        };
        let whole = (!config.offload.checksum).then_some(piece.sum);
        if let Some(header) = frame.header_mut().first_chunk_mut() {
            wire::plain::write_stamped(header, &self.ends, ip, &plain, self.stamps, whole);
        }
        if config.offload.checksum {
            frame.offload.checksum = partial(wire::ip::IPV4_HEADER_LEN);
        }
    }
}

/// Of whatever form, between these ends.
pub(crate) struct Other<'a>(pub(crate) &'a Quad);

impl Headers for Other<'_> {
    fn blank(&self, segment: &Transmit) -> TxFrame {
        let ip_len = wire::ip::header_len(self.0.remote.addr);
        let header_len = ip_len + wire::tcp::MIN_HEADER_LEN + segment.options.wire_len();
        let ipv6 = self.0.remote.addr.is_ipv6();
        let offload = TxOffload { checksum: TxChecksum::Done, gso_size: 0, header_len: header_len as u16, ipv6 };
        TxFrame::blank(header_len, offload)
    }

    #[inline(never)]
    fn seal(&self, config: &ShardConfig, ip: IpFields, segment: &Transmit, piece: Piece, frame: &mut TxFrame) {
        let (src, dst) = (self.0.local.addr, self.0.remote.addr);
        let payload_len = piece.len as usize;
        let header = TcpHeader {
            src_port: self.0.local.port,
            dst_port: self.0.remote.port,
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
            frame.offload.checksum = partial(ip_len);
        } else {
            // The header is a whole number of 16-bit words: the payload's sum may follow it as it is.
            let pseudo = checksum::pseudo_header(src, dst, PROTOCOL_TCP, tcp_len + payload_len);
            let total = checksum::combine(checksum::combine(pseudo, checksum::sum(tcp), false), piece.sum, false);
            let at = wire::tcp::CHECKSUM_OFFSET;
            tcp[at..at + 2].copy_from_slice(&checksum::finish(total).to_be_bytes());
        }
    }
}

/// The checksum field has the sum of the pseudo-header; the IP header has `ip_len` octets.
fn partial(ip_len: usize) -> TxChecksum {
    TxChecksum::Partial { start: ip_len as u16, offset: wire::tcp::CHECKSUM_OFFSET as u16 }
}
