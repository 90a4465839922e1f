//! Fragments of IPv4 packets put together (IP-5 to IP-8, RFC 791 3.2): only a whole packet has ports, and with them an
//! owner.
//!
//! Whoever sends fragments costs memory before anybody knows what they are for. So there is little of it, a source has a
//! share, what is not complete in time goes, and the oldest goes for what is new. Fragments are copied: no packet buffer
//! waits here. Must not contain: IPv6 (its fragments are dropped), what the packet is for.

use std::time::{Duration, Instant};

use crate::wire::ip::IPV4_HEADER_LEN;
use crate::wire::{PROTOCOL_TCP, checksum};

/// Packets that may be incomplete at a time.
const PACKETS: usize = 64;
/// Of these, of one source.
const OF_A_SOURCE: usize = 8;
/// Octets that all of them may hold.
const OCTETS: usize = 1 << 20;
/// Parts in which a packet may come: 64 KB over a link of 576 octets.
const PARTS: usize = 128;
/// How long a packet may be incomplete, as with Linux (IP-6).
const PATIENCE: Duration = Duration::from_secs(30);

/// Why fragments were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Unjoined {
    /// They overlap (IP-8), or contradict each other.
    Overlap,
    /// They cut a TCP header apart (IP-12, RFC 3128), or are of no size that fragments have.
    Odd,
    /// They were not complete in time, or others took their place.
    Unfinished,
}

impl Unjoined {
    /// How many reasons there are.
    pub const COUNT: usize = 3;
}

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// It was the last that was missing: the whole packet lies in its buffer now, so many octets.
    Whole(usize),
    /// It was kept, or dropped and counted: nothing to hand on.
    Taken,
}

#[derive(Debug)]
struct Partial {
    /// Source, destination, identification, protocol.
    key: [u8; 11],
    since: Instant,
    /// The header of the first fragment.
    header: Vec<u8>,
    data: Vec<u8>,
    /// What of it is there, in order.
    parts: Vec<(usize, usize)>,
    /// Octets of the whole, once the last fragment has come.
    total: Option<usize>,
}

impl Partial {
    fn is_whole(&self) -> bool {
        !self.header.is_empty() && self.total.is_some_and(|total| self.parts.as_slice() == [(0, total)])
    }
}

/// What a reader holds of packets that are not whole.
#[derive(Debug, Default)]
pub struct Fragments {
    /// Oldest first.
    partials: Vec<Partial>,
    octets: usize,
    dropped: [u64; Unjoined::COUNT],
}

impl Fragments {
    /// Whether a packet is one, of IPv4.
    #[inline]
    #[must_use]
    pub fn is_one(packet: &[u8]) -> bool {
        matches!(packet, [first, _, _, _, _, _, high, low, ..] if first >> 4 == 4 && (high & 0x3f) | low != 0)
    }

    /// Fragments that were dropped, by reason; each time that something is, `1` for each fragment and more for what had
    /// come before.
    #[must_use]
    pub fn dropped(&self) -> [u64; Unjoined::COUNT] {
        self.dropped
    }

    /// Takes the fragment that is the first `len` octets of `buffer`. A whole packet is written there, too.
    pub fn join(&mut self, buffer: &mut [u8], len: usize, now: Instant) -> Joined {
        self.expire(now);
        let packet = &buffer[..len.min(buffer.len())];
        let Some(fragment) = Fragment::parse(packet) else { return self.drop_one(Unjoined::Odd) };
        if fragment.cuts_headers() {
            self.forget(&fragment.key, Unjoined::Odd);
            return self.drop_one(Unjoined::Odd);
        }
        let at = match self.partials.iter().position(|partial| partial.key == fragment.key) {
            Some(at) => at,
            None => self.begin(fragment.key, now),
        };
        let (before, added) = (self.partials[at].data.len(), fragment.add_to(&mut self.partials[at]));
        match added {
            Ok(()) => {}
            Err(Repeated) => return Joined::Taken,
            Err(Contradicts) => {
                self.forget(&fragment.key, Unjoined::Overlap);
                return self.drop_one(Unjoined::Overlap);
            }
        }
        self.octets += self.partials[at].data.len() - before;
        if self.partials[at].is_whole() {
            return self.finish(at, buffer);
        }
        while self.octets > OCTETS && !self.partials.is_empty() {
            self.remove(0, Unjoined::Unfinished);
        }
        Joined::Taken
    }

    /// A place for another packet: of its own source if that has its share, else the oldest.
    fn begin(&mut self, key: [u8; 11], now: Instant) -> usize {
        let is_its = |partial: &Partial| partial.key[..4] == key[..4];
        if self.partials.iter().filter(|partial| is_its(partial)).count() >= OF_A_SOURCE {
            let oldest = self.partials.iter().position(is_its).unwrap_or(0);
            self.remove(oldest, Unjoined::Unfinished);
        } else if self.partials.len() >= PACKETS {
            self.remove(0, Unjoined::Unfinished);
        }
        let partial = Partial { key, since: now, header: Vec::new(), data: Vec::new(), parts: Vec::new(), total: None };
        self.partials.push(partial);
        self.partials.len() - 1
    }

    fn expire(&mut self, now: Instant) {
        while self.partials.first().is_some_and(|oldest| now.saturating_duration_since(oldest.since) > PATIENCE) {
            self.remove(0, Unjoined::Unfinished);
        }
    }

    fn forget(&mut self, key: &[u8; 11], why: Unjoined) {
        if let Some(at) = self.partials.iter().position(|partial| partial.key == *key) {
            self.remove(at, why);
        }
    }

    fn remove(&mut self, at: usize, why: Unjoined) {
        let partial = self.partials.remove(at);
        self.octets -= partial.data.len();
        self.dropped[why as usize] += partial.parts.len().max(1) as u64;
    }

    fn drop_one(&mut self, why: Unjoined) -> Joined {
        self.dropped[why as usize] += 1;
        Joined::Taken
    }

    /// Writes the whole packet.
    fn finish(&mut self, at: usize, buffer: &mut [u8]) -> Joined {
        let Partial { mut header, data, .. } = self.partials.remove(at);
        self.octets -= data.len();
        let len = header.len() + data.len();
        let Some(out) = buffer.get_mut(..len).filter(|_| len <= usize::from(u16::MAX)) else {
            return self.drop_one(Unjoined::Odd);
        };
        header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        header[6..8].fill(0);
        header[10..12].fill(0);
        let sum = checksum::finish(checksum::sum(&header));
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        out[..header.len()].copy_from_slice(&header);
        out[header.len()..].copy_from_slice(&data);
        Joined::Whole(len)
    }
}

/// A fragment as it came.
struct Fragment<'a> {
    key: [u8; 11],
    header: &'a [u8],
    data: &'a [u8],
    start: usize,
    more: bool,
}

/// Why a fragment is not added: it is there already, or does not fit what is.
enum NotAdded {
    Repeated,
    Contradicts,
}
use NotAdded::{Contradicts, Repeated};

impl<'a> Fragment<'a> {
    fn parse(packet: &'a [u8]) -> Option<Self> {
        let fixed: &[u8; IPV4_HEADER_LEN] = packet.first_chunk()?;
        let len = usize::from(fixed[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        let header = packet.get(..len).filter(|_| len >= IPV4_HEADER_LEN)?;
        let data = packet.get(len..total)?;
        let place = u16::from_be_bytes([fixed[6], fixed[7]]);
        let (start, more) = (usize::from(place & 0x1fff) * 8, place & 0x2000 != 0);
        let fits = !data.is_empty() && start + data.len() + len <= usize::from(u16::MAX);
        if !fits || more && !data.len().is_multiple_of(8) || checksum::fold(checksum::sum(header)) != 0xffff {
            return None;
        }
        let mut key = [0; 11];
        key[..8].copy_from_slice(&fixed[12..20]);
        key[8..10].copy_from_slice(&fixed[4..6]);
        key[10] = fixed[9];
        Some(Self { key, header, data, start, more })
    }

    /// IP-12: what decides who a TCP segment is for must be in the first fragment, and in no other.
    fn cuts_headers(&self) -> bool {
        const TCP_HEADER: usize = 20;
        let first_is_tiny = self.start == 0 && self.data.len() < TCP_HEADER;
        self.key[10] == PROTOCOL_TCP && (first_is_tiny || (1..TCP_HEADER).contains(&self.start))
    }

    fn add_to(&self, partial: &mut Partial) -> Result<(), NotAdded> {
        let (start, end) = (self.start, self.start + self.data.len());
        let there = partial.parts.iter().any(|(from, to)| *from <= start && end <= *to);
        if there && partial.data.get(start..end) == Some(self.data) {
            return Err(Repeated);
        }
        let overlaps = partial.parts.iter().any(|(from, to)| start < *to && *from < end);
        let beyond = match partial.total {
            Some(total) => end > total || !self.more && end != total,
            None => !self.more && partial.parts.last().is_some_and(|(_, to)| *to > end),
        };
        if overlaps || beyond || partial.parts.len() >= PARTS {
            return Err(Contradicts);
        }
        if !self.more {
            partial.total = Some(end);
        }
        if self.start == 0 {
            partial.header = self.header.to_vec();
        }
        if partial.data.len() < end {
            partial.data.resize(end, 0);
        }
        partial.data[start..end].copy_from_slice(self.data);
        partial.parts.push((start, end));
        partial.parts.sort_unstable();
        let mut joined: Vec<(usize, usize)> = Vec::with_capacity(partial.parts.len());
        for &(from, to) in &partial.parts {
            match joined.last_mut() {
                Some(last) if last.1 == from => last.1 = to,
                _ => joined.push((from, to)),
            }
        }
        partial.parts = joined;
        Ok(())
    }
}

#[cfg(test)]
#[path = "fragments_tests.rs"]
mod tests;
