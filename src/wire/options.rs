//! TCP options: MSS, window scale, SACK permitted, SACK and timestamps (MUST-4..7, MUST-64..69).
//!
//! Parsing keeps what was on the wire, whatever the segment's flags: whether an option counts there (MSS, window scale
//! and SACK permitted only on a SYN) is decided by the TCP core. Policy for illegal lengths (MUST-7): the whole segment
//! is dropped and counted, since a peer that gets lengths wrong cannot be trusted about what the rest means.

use super::Malformed;

/// Largest option area of a TCP header, octets.
pub const MAX_LEN: usize = 40;

/// The timestamps option as it is written, with two NOPs before it, octets (RFC 7323 appendix A).
pub const TIMESTAMPS_LEN: usize = 12;

const EOL: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// The options of one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Maximum segment size, octets (kind 2). Only ever sent on a SYN (MUST-65).
    pub mss: Option<u16>,
    /// Window shift as received, also above 14 (kind 3, RFC 7323 section 2.2).
    pub window_scale: Option<u8>,
    /// SACK permitted (kind 4, RFC 2018 section 2).
    pub sack_permitted: bool,
    /// Timestamps (kind 8, RFC 7323 section 3.2).
    pub timestamps: Option<Timestamps>,
    /// SACK blocks (kind 5, RFC 2018 section 3).
    pub sack: SackBlocks,
}

/// The timestamps option (RFC 7323 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub val: u32,
    /// TSecr: the value echoed.
    pub ecr: u32,
}

/// Up to four SACK blocks, each `left..right` in sequence numbers (RFC 2018 section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    // Unused places stay zero, so that the derived comparison is right.
    blocks: [(u32, u32); Self::MAX],
    len: u8,
}

impl SackBlocks {
    /// Most blocks a header can hold (without timestamps; with them, three).
    pub const MAX: usize = 4;

    /// Appends a block; `false` when all four places are taken.
    pub fn push(&mut self, left: u32, right: u32) -> bool {
        let Some(place) = self.blocks.get_mut(usize::from(self.len)) else { return false };
        *place = (left, right);
        self.len += 1;
        true
    }

    /// The blocks in wire order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, u32)> + '_ {
        self.blocks[..self.len()].iter().copied()
    }

    /// Number of blocks.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// True when there is no block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl TcpOptions {
    /// SACK blocks that fit beside the other options.
    fn sack_room(&self) -> usize {
        ((MAX_LEN - self.fixed_len()).saturating_sub(4) / 8).min(self.sack.len())
    }

    /// Octets of everything but the SACK option, each option padded to four.
    fn fixed_len(&self) -> usize {
        let mut len = 0;
        if self.mss.is_some() {
            len += 4;
        }
        if self.timestamps.is_some() {
            len += TIMESTAMPS_LEN;
        } else if self.sack_permitted {
            len += 4;
        }
        if self.window_scale.is_some() {
            len += 4;
        }
        len
    }

    /// Octets [`write`](Self::write) will write: a multiple of 4, at most 40. Timestamps alone take 12.
    #[inline]
    #[must_use]
    pub fn wire_len(&self) -> usize {
        if !self.has_others() {
            return if self.timestamps.is_some() { TIMESTAMPS_LEN } else { 0 };
        }
        self.any_len()
    }

    // In line, it would be reckoned beside the form above, without a branch, for each segment.
    #[inline(never)]
    fn any_len(&self) -> usize {
        let blocks = if self.sack.is_empty() { 0 } else { self.sack_room() };
        self.fixed_len() + if blocks > 0 { 4 + 8 * blocks } else { 0 }
    }

    /// Writes the options at the front of `out` and returns the length, [`wire_len`](Self::wire_len). Each option is
    /// aligned with NOPs and nothing follows an EOL, so there is no padding to clear (MUST-69). SACK blocks that do
    /// not fit are left out from the end.
    ///
    /// # Panics
    ///
    /// When `out` is shorter than [`wire_len`](Self::wire_len); 40 octets are always enough.
    #[inline]
    pub fn write(&self, out: &mut [u8]) -> usize {
        match self.timestamps {
            Some(ts) if !self.has_others() => {
                let words = out[..TIMESTAMPS_LEN].as_chunks_mut().0;
                (words[0], words[1], words[2]) =
                    ([NOP, NOP, TIMESTAMPS, 10], ts.val.to_be_bytes(), ts.ecr.to_be_bytes());
                TIMESTAMPS_LEN
            }
            _ => self.write_any(out),
        }
    }

    /// The timestamps, where there is nothing else.
    #[inline]
    #[must_use]
    pub(crate) fn only_timestamps(&self) -> Option<Timestamps> {
        self.timestamps.filter(|_| !self.has_others())
    }

    /// Whether there is more than timestamps.
    #[inline]
    fn has_others(&self) -> bool {
        self.mss.is_some() || self.window_scale.is_some() || self.sack_permitted || !self.sack.is_empty()
    }

    fn write_any(&self, out: &mut [u8]) -> usize {
        let mut w = Writer { out, at: 0 };
        if let Some(mss) = self.mss {
            let [a, b] = mss.to_be_bytes();
            w.put([MSS, 4, a, b]);
        }
        if let Some(ts) = self.timestamps {
            // The two octets before the timestamps carry SACK permitted where there is one.
            w.put(if self.sack_permitted { [SACK_PERMITTED, 2, TIMESTAMPS, 10] } else { [NOP, NOP, TIMESTAMPS, 10] });
            w.put(ts.val.to_be_bytes());
            w.put(ts.ecr.to_be_bytes());
        } else if self.sack_permitted {
            w.put([NOP, NOP, SACK_PERMITTED, 2]);
        }
        if let Some(shift) = self.window_scale {
            w.put([NOP, WINDOW_SCALE, 3, shift]);
        }
        let blocks = if self.sack.is_empty() { 0 } else { self.sack_room() };
        if blocks > 0 {
            w.put([NOP, NOP, SACK, 2 + 8 * blocks as u8]);
            for (left, right) in self.sack.iter().take(blocks) {
                w.put(left.to_be_bytes());
                w.put(right.to_be_bytes());
            }
        }
        w.at
    }

    /// Reads an option area (MUST-4..7, MUST-64: options may start on any octet). Kinds not known are skipped by their
    /// length (MUST-6); of an option that comes twice the last counts.
    ///
    /// # Errors
    ///
    /// [`Malformed::TcpOption`] for a length below 2 or past the end of the area, and for a known kind whose length is
    /// not its own (MUST-7).
    #[inline]
    pub fn parse(area: &[u8]) -> Result<Self, Malformed> {
        // What nearly every segment carries (RFC 7323 appendix A).
        if let [NOP, NOP, TIMESTAMPS, 10, a, b, c, d, e, f, g, h] = *area {
            let timestamps =
                Some(Timestamps { val: u32::from_be_bytes([a, b, c, d]), ecr: u32::from_be_bytes([e, f, g, h]) });
            return Ok(Self { timestamps, ..Self::default() });
        }
        if area.is_empty() { Ok(Self::default()) } else { Self::parse_any(area) }
    }

    fn parse_any(mut area: &[u8]) -> Result<Self, Malformed> {
        let mut options = Self::default();
        while let [kind, rest @ ..] = area {
            match *kind {
                // Whatever follows is padding (MUST-69 binds the sender only).
                EOL => break,
                NOP => {
                    area = rest;
                    continue;
                }
                _ => {}
            }
            let len = usize::from(*rest.first().ok_or(Malformed::TcpOption)?);
            if len < 2 || len > area.len() {
                return Err(Malformed::TcpOption);
            }
            let (option, next) = area.split_at(len);
            match (*kind, &option[2..]) {
                (MSS, &[a, b]) => options.mss = Some(u16::from_be_bytes([a, b])),
                (WINDOW_SCALE, &[shift]) => options.window_scale = Some(shift),
                (SACK_PERMITTED, []) => options.sack_permitted = true,
                (TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => {
                    options.timestamps = Some(Timestamps {
                        val: u32::from_be_bytes([a, b, c, d]),
                        ecr: u32::from_be_bytes([e, f, g, h]),
                    });
                }
                (SACK, data) if !data.is_empty() && data.len() % 8 == 0 => {
                    options.sack = SackBlocks::default();
                    for block in data.chunks_exact(8) {
                        // At most 38 octets of option: never more than four blocks.
                        options.sack.push(be32(&block[..4]), be32(&block[4..]));
                    }
                }
                (MSS | WINDOW_SCALE | SACK_PERMITTED | SACK | TIMESTAMPS, _) => return Err(Malformed::TcpOption),
                _ => {}
            }
            area = next;
        }
        Ok(options)
    }
}

fn be32(b: &[u8]) -> u32 {
    u32::from_be_bytes([b[0], b[1], b[2], b[3]])
}

/// Appends words of four octets: everything written here is one.
struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    #[inline]
    fn put(&mut self, word: [u8; 4]) {
        self.out[self.at..self.at + 4].copy_from_slice(&word);
        self.at += 4;
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
pub(in crate::wire) mod tests;
