//! What travels in the rings between the stages: a received packet, a frame to be sent, the completion of one.
//!
//! All are plain values moved through a ring. A frame to be sent is a description: the header octets by themselves and up
//! to [`MAX_SLICES`] slices of memory that stays where it is; the device writes them with one gathering call.

use std::{fmt, ops::Deref};

use super::{
    packet::PacketBuf,
    send_memory::{Lease, SendReader},
};
use crate::wire::icmp::Refusal;
use crate::wire::vnet::{RxOffload, TxOffload};

/// Payload slices a frame can hold. 64 KB of a connection's data lie in at most two blocks of send memory unless it was
/// queued in small pieces, or while there was little memory.
pub const MAX_SLICES: usize = 4;
/// Header octets a frame can hold: IPv6 without extension headers (40) and the longest TCP header (60), and some to spare.
pub const MAX_HEADER: usize = 120;

/// A packet as it came from a device queue.
#[derive(Debug)]
pub struct RxFrame {
    /// The IP packet, possibly a super-segment.
    pub packet: PacketBuf,
    /// What the device says of its checksum and segmentation.
    pub offload: RxOffload,
    /// It is a fragment that came to nothing, and whoever sent it may be told so; `None`: a packet like any other.
    pub refusal: Option<Refusal>,
}

/// One slice of a frame's payload.
#[derive(Debug)]
pub enum Payload {
    /// Of send memory, or of a piece that it has adopted; must come back to it as part of the [`Completion`].
    Block(Lease),
    /// Of memory that never goes away.
    Static(&'static [u8]),
}

impl Payload {
    /// Octets.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Block(lease) => lease.len(),
            Self::Static(bytes) => bytes.len(),
        }
    }

    /// Whether there is no octet.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whose data a frame carries, so that the completion finds its connection. Opaque to the tx stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameOwner {
    /// Slot of the connection, or [`FrameOwner::NONE`]'s.
    pub slot: u32,
    /// Generation of the slot: the connection may be gone when the completion comes.
    pub generation: u32,
    /// Sequence number behind the last octet (data or FIN) of the frame.
    pub end_seq: u32,
    /// Octets this frame counts for in the connection's share of the tx ring.
    pub bytes: u32,
}

impl FrameOwner {
    /// Nobody wants to hear of the frame: a pure ACK, a RST, an echo reply.
    pub const NONE: Self = Self { slot: u32::MAX, generation: 0, end_seq: 0, bytes: 0 };

    /// Whether it is [`FrameOwner::NONE`].
    #[inline]
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.slot == u32::MAX
    }
}

/// A frame for a device queue. Moved by value: a test pins its size.
#[derive(Debug)]
#[repr(C)] // The header in front, without padding before it or behind: else it would be made elsewhere and copied.
pub struct TxFrame {
    header: Header,
    payload: [Option<Payload>; MAX_SLICES],
    /// Who hears of its completion.
    pub owner: FrameOwner,
    /// What the device still has to do to it.
    pub offload: TxOffload,
    header_len: u8,
}

/// Header octets, 0 behind the last.
struct Header([u8; MAX_HEADER]);

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x?}", &self.0[..])
    }
}

impl TxFrame {
    /// A frame without payload. `write` gets zeroed room for the IP and TCP header and returns the octets it has used.
    ///
    /// # Panics
    ///
    /// When `write` claims more than [`MAX_HEADER`].
    #[inline]
    pub fn new(offload: TxOffload, owner: FrameOwner, write: impl FnOnce(&mut [u8; MAX_HEADER]) -> usize) -> Self {
        let payload = [const { None }; MAX_SLICES];
        let mut frame = Self { header: Header([0; MAX_HEADER]), payload, owner, offload, header_len: 0 };
        let len = write(&mut frame.header.0);
        assert!(len <= MAX_HEADER, "header of {len} octets");
        frame.header_len = len as u8;
        frame
    }

    /// A frame without payload, with so many octets of header, all 0, to be completed by
    /// [`header_mut`](Self::header_mut).
    ///
    /// # Panics
    ///
    /// When that is more than [`MAX_HEADER`].
    #[inline(always)]
    #[must_use]
    pub(crate) fn blank(header_len: usize, offload: TxOffload) -> Self {
        assert!(header_len <= MAX_HEADER, "header of {header_len} octets");
        Self {
            header: Header([0; MAX_HEADER]),
            // As a constant it would be copied, with all that a slice has.
            payload: [None, None, None, None],
            owner: FrameOwner::NONE,
            offload,
            header_len: header_len as u8,
        }
    }

    /// A frame without payload whose header is at hand.
    ///
    /// # Panics
    ///
    /// When the header is longer than [`MAX_HEADER`].
    #[inline]
    #[must_use]
    pub fn from_header(header: &[u8], offload: TxOffload, owner: FrameOwner) -> Self {
        Self::new(offload, owner, |octets| {
            octets[..header.len()].copy_from_slice(header);
            header.len()
        })
    }

    /// Appends a slice of payload.
    ///
    /// # Errors
    ///
    /// Gives it back when the frame holds [`MAX_SLICES`] already: send those first.
    #[inline]
    pub fn push(&mut self, slice: Payload) -> Result<(), Payload> {
        match self.payload.iter_mut().find(|place| place.is_none()) {
            Some(place) => {
                *place = Some(slice);
                Ok(())
            }
            None => Err(slice),
        }
    }

    /// Whether no slice can be pushed any more.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        // They lie in front.
        matches!(self.payload, [.., Some(_)])
    }

    /// Slices that can still be pushed.
    #[inline]
    #[must_use]
    pub fn slices_left(&self) -> usize {
        self.payload.iter().rev().take_while(|place| place.is_none()).count()
    }

    /// The header octets.
    #[inline]
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.header.0[..self.header_len as usize]
    }

    /// The header octets, to be completed in place once the payload is known.
    #[inline]
    pub fn header_mut(&mut self) -> &mut [u8] {
        &mut self.header.0[..self.header_len as usize]
    }

    /// Payload octets.
    #[inline]
    pub fn payload_len(&self) -> usize {
        // They lie in front.
        self.payload.iter().map_while(Option::as_ref).map(Payload::len).sum()
    }

    /// Header and payload octets.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.header_len as usize + self.payload_len()
    }

    /// Whether there is not even a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The payload as slices to be written behind the header.
    ///
    /// # Panics
    ///
    /// When a slice is of another send memory than `reader`'s: a stage has mixed up its rings.
    #[inline]
    #[must_use]
    pub fn payload<'a>(&'a self, reader: &'a SendReader) -> Gather<'a> {
        let mut gather = Gather { slices: [&[]; MAX_SLICES], len: 0 };
        for slice in self.payload.iter().flatten() {
            gather.slices[gather.len] = match slice {
                Payload::Block(lease) => reader.bytes(lease),
                Payload::Static(bytes) => bytes,
            };
            gather.len += 1;
        }
        gather
    }

    /// What has to go back to the shard now that the device has the frame (or has refused it for good). `None`: the frame
    /// has neither leases nor an owner.
    #[inline]
    pub fn complete(self) -> Option<Completion> {
        let mut leases = [const { None }; MAX_SLICES];
        let mut places = leases.iter_mut();
        // Slices lie in front, and so do the leases: whoever takes them out stops behind the last.
        for slice in self.payload {
            match slice {
                Some(Payload::Block(lease)) => {
                    if let Some(place) = places.next() {
                        *place = Some(lease);
                    }
                }
                Some(Payload::Static(_)) => {}
                None => break,
            }
        }
        if self.owner.is_none() && leases[0].is_none() {
            return None;
        }
        Some(Completion { leases, owner: self.owner })
    }
}

/// Payload of a frame as [`TxFrame::payload`] returns it: derefs to the slices.
#[derive(Debug, Clone, Copy)]
pub struct Gather<'a> {
    slices: [&'a [u8]; MAX_SLICES],
    len: usize,
}

impl<'a> Deref for Gather<'a> {
    type Target = [&'a [u8]];

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.slices[..self.len]
    }
}

/// Word from the tx stage that a frame is done with.
#[derive(Debug)]
#[must_use = "its leases must go back to the send memory"]
pub struct Completion {
    /// In front, in the order of their slices.
    leases: [Option<Lease>; MAX_SLICES],
    /// As the frame had it.
    pub owner: FrameOwner,
}

impl Completion {
    /// The leases, each for [`SendMemory::complete`](super::send_memory::SendMemory::complete).
    #[inline]
    pub fn into_leases(self) -> impl Iterator<Item = Lease> {
        self.leases.into_iter().map_while(|lease| lease)
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
