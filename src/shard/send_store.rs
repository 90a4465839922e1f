//! The octets of one connection that were queued for sending and not yet acknowledged.
//!
//! They lie in chunks of the shard's send memory, in pieces that it has adopted, or in static memory, from SND.UNA on. Must not contain: sequence
//! numbers, windows, timers.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::buffer::frame::{Payload, TxFrame};
use crate::buffer::send_memory::{Chunk, SendMemory};
use crate::wire::checksum::Accumulator;

#[derive(Debug)]
enum Piece {
    /// Octets `start..end` of the chunk.
    Chunk {
        chunk: Chunk,
        start: u32,
        end: u32,
    },
    Static {
        bytes: &'static [u8],
    },
}

impl Piece {
    fn len(&self) -> u32 {
        match self {
            Self::Chunk { start, end, .. } => end - start,
            Self::Static { bytes } => bytes.len() as u32,
        }
    }
}

/// Static octets and adopted ones in smaller runs than this are copied: a frame takes few pieces, and a service that sends crumbs would
/// cut its data into more frames than the tx ring has places.
pub(crate) const MIN_STATIC: usize = 2_048;

/// Pieces behind the first for which there is room from the start: as many chunks as the largest send buffer has, so
/// that a growing buffer does not make the list grow piece by piece.
const PIECES: usize = 64;

/// The send store of one connection. The first piece lies inline: short exchanges need no list.
#[derive(Debug, Default)]
pub(crate) struct SendStore {
    front: Option<Piece>,
    #[allow(clippy::box_collection)] // 8 octets in every connection's record instead of 32.
    more: Option<Box<VecDeque<Piece>>>,
    octets: u32,
}

impl SendStore {
    /// Octets queued and not yet acknowledged.
    pub(crate) fn len(&self) -> u32 {
        self.octets
    }

    /// Appends as much of `bytes` as there is send memory for; returns how much.
    pub(crate) fn append(&mut self, memory: &mut SendMemory, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let copied = match self.back_mut() {
                Some(Piece::Chunk { chunk, end, .. }) => {
                    let copied = memory.append(chunk, &bytes[done..]);
                    *end += copied as u32;
                    copied
                }
                _ => 0,
            };
            if copied == 0 {
                let Some(chunk) = memory.allocate() else { break };
                self.push(Piece::Chunk { chunk, start: 0, end: 0 });
            }
            done += copied;
        }
        self.octets += done as u32;
        done
    }

    /// Appends static octets without copying them, unless they are few; returns how many.
    pub(crate) fn append_static(&mut self, memory: &mut SendMemory, bytes: &'static [u8]) -> usize {
        if bytes.len() < MIN_STATIC {
            return self.append(memory, bytes);
        }
        self.octets += bytes.len() as u32;
        self.push(Piece::Static { bytes });
        bytes.len()
    }

    /// Appends up to `room` octets from the front of `bytes` without copying them, unless they are few or the memory has no
    /// place for another piece: then up to `to_copy` are copied. Leaves the rest in `bytes`.
    pub(crate) fn append_bytes(&mut self, memory: &mut SendMemory, bytes: &mut Bytes, room: u32, to_copy: u32) {
        let len = bytes.len().min(room as usize);
        if len >= MIN_STATIC && memory.can_adopt() {
            let piece = if len == bytes.len() { std::mem::take(bytes) } else { bytes.split_to(len) };
            match memory.adopt(piece) {
                Ok(chunk) => {
                    self.octets += len as u32;
                    self.push(Piece::Chunk { chunk, start: 0, end: len as u32 });
                    return;
                }
                // There is a place, and `room` keeps the piece below 4 GB.
                Err(piece) => debug_assert!(false, "{} octets not adopted", piece.len()),
            }
        }
        let copied = self.append(memory, &bytes[..len.min(to_copy as usize)]);
        bytes.advance(copied);
    }

    /// The first `octets` were acknowledged.
    pub(crate) fn acknowledge(&mut self, memory: &mut SendMemory, octets: u32) {
        let mut left = octets.min(self.octets);
        self.octets -= left;
        while let Some(front) = &mut self.front {
            let len = front.len();
            if left < len {
                match front {
                    Piece::Chunk { start, .. } => *start += left,
                    Piece::Static { bytes } => *bytes = &bytes[left as usize..],
                }
                return;
            }
            left -= len;
            let next = self.more.as_mut().and_then(|more| more.pop_front());
            if let Some(Piece::Chunk { chunk, .. }) = std::mem::replace(&mut self.front, next) {
                memory.release(chunk);
            }
        }
        // The list stays: most likely it is filled again at once.
    }

    /// Gives the list back when there is nothing to keep in it: an idle connection costs no more than its record.
    pub(crate) fn trim(&mut self) {
        if self.octets == 0 {
            self.more = None;
        }
    }

    /// Leases up to `len` octets from `offset` on to `frame` and adds them to `sum` if there is one. Returns how many:
    /// less when they lie in more pieces than a frame takes.
    pub(crate) fn lease(
        &self,
        memory: &mut SendMemory,
        offset: u32,
        len: u32,
        frame: &mut TxFrame,
        mut sum: Option<&mut Accumulator>,
    ) -> u32 {
        let mut skip = offset;
        let mut left = len;
        for piece in self.front.iter().chain(self.more.iter().flat_map(|more| more.iter())) {
            let piece_len = piece.len();
            if skip >= piece_len {
                skip -= piece_len;
                continue;
            }
            if left == 0 || frame.slices_left() == 0 {
                break;
            }
            let take = left.min(piece_len - skip);
            let payload = match piece {
                Piece::Chunk { chunk, start, .. } => {
                    let from = (start + skip) as usize;
                    if let Some(sum) = &mut sum {
                        sum.push(memory.bytes(chunk, from..from + take as usize));
                    }
                    Payload::Chunk(memory.lease(chunk, from, take as usize))
                }
                Piece::Static { bytes } => {
                    let bytes = &bytes[skip as usize..(skip + take) as usize];
                    if let Some(sum) = &mut sum {
                        sum.push(bytes);
                    }
                    Payload::Static(bytes)
                }
            };
            // There is a place: looked for above.
            let _ = frame.push(payload);
            skip = 0;
            left -= take;
        }
        len - left
    }

    /// Gives everything up.
    pub(crate) fn clear(&mut self, memory: &mut SendMemory) {
        let more = self.more.take().map(|more| *more).unwrap_or_default();
        for piece in self.front.take().into_iter().chain(more) {
            if let Piece::Chunk { chunk, .. } = piece {
                memory.release(chunk);
            }
        }
        self.octets = 0;
    }

    fn back_mut(&mut self) -> Option<&mut Piece> {
        match &mut self.more {
            Some(more) if !more.is_empty() => more.back_mut(),
            _ => self.front.as_mut(),
        }
    }

    fn push(&mut self, piece: Piece) {
        if self.front.is_none() {
            self.front = Some(piece);
        } else {
            self.more.get_or_insert_with(|| Box::new(VecDeque::with_capacity(PIECES))).push_back(piece);
        }
    }
}
