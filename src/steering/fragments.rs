//! Fragments put together (IP-5 to IP-12, RFC 791 3.2, RFC 8200 4.5): only a whole packet has ports, and with them an
//! owner.
//!
//! Whoever sends fragments costs memory before anybody knows what they are for. So there is little of it, a source has a
//! share, what is not complete in time goes, and the oldest goes for what is new. Fragments are copied: no packet buffer
//! waits here. An IPv6 packet that says it is all of itself (RFC 6946) never comes here. Must not contain: what the packet
//! is for, who is told.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::wire::icmp::{LONGEST_ERROR, Refusal};
use crate::wire::ip::{self, FRAGMENT_HEADER_LEN, IPV4_HEADER_LEN, IPV6_HEADER_LEN};
use crate::wire::{PROTOCOL_TCP, checksum};

/// Packets that may be incomplete at a time (IP-7, OPS-27).
const PACKETS: usize = 64;
/// Of these, of one source.
const OF_A_SOURCE: usize = 8;
/// Octets that all of them may hold.
const OCTETS: usize = 1 << 20;
/// Parts in which a packet may come: 64 KB over a link of 576 octets.
const PARTS: usize = 128;
/// How long a packet may be incomplete, as with Linux: of IPv4 (IP-6) ...
const PATIENCE_V4: Duration = Duration::from_secs(30);
/// ... and of IPv6 (RFC 8200 4.5).
const PATIENCE_V6: Duration = Duration::from_secs(60);

/// Why fragments were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Unjoined {
    /// They overlap (IP-8, IP-9), or contradict each other.
    Overlap,
    /// They are of no size that fragments have, or their headers are wrong (IP-10).
    Odd,
    /// The first lacks headers (IP-11), or another one has some of a TCP header (IP-12, RFC 3128).
    Tiny,
    /// They were not complete in time, or others took their place.
    Unfinished,
}

impl Unjoined {
    /// How many reasons there are.
    pub const COUNT: usize = 4;
}

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// It was the last that was missing: the whole packet lies in its buffer now, so many octets.
    Whole(usize),
    /// It was kept, or dropped and counted: nothing to hand on.
    Taken,
    /// It was dropped and counted, and who sent it may be told.
    Refused(Refusal),
}

/// Whose a fragment is. IPv4 addresses take the first four octets; of IPv6 the protocol does not count (RFC 8200 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    v6: bool,
    src: [u8; 16],
    dst: [u8; 16],
    id: u32,
    protocol: u8,
}

impl Key {
    /// Who has a share: an address, or a network of IPv6, in which a host has as many addresses as it likes.
    fn source(&self) -> (bool, &[u8]) {
        (self.v6, &self.src[..8])
    }
}

#[derive(Debug)]
struct Partial {
    key: Key,
    since: Instant,
    /// All headers of the first fragment, that of a fragment included.
    header: Vec<u8>,
    /// Octets of data that came in it.
    first: usize,
    data: Vec<u8>,
    /// What of it is there, in order.
    parts: Vec<(usize, usize)>,
    /// Octets of the whole, once the last fragment has come.
    total: Option<usize>,
    /// Why the packet came to nothing: whatever else comes of it goes the same way (RFC 5722 section 4).
    dead: Option<Unjoined>,
}

impl Partial {
    fn is_whole(&self) -> bool {
        !self.header.is_empty() && self.total.is_some_and(|total| self.parts.as_slice() == [(0, total)])
    }

    /// Octets that it takes.
    fn held(&self) -> usize {
        self.header.len() + self.data.len()
    }

    fn ends(&self) -> Instant {
        self.since + if self.key.v6 { PATIENCE_V6 } else { PATIENCE_V4 }
    }

    /// The first fragment as it came, as much of it as an ICMP error quotes; `None`: it has not come.
    fn first_fragment(&self) -> Option<Vec<u8>> {
        let data = self.data.get(..self.first).filter(|_| !self.header.is_empty() && self.dead.is_none())?;
        let mut octets = [&self.header, data].concat();
        octets.truncate(LONGEST_ERROR);
        Some(octets)
    }
}

/// What a reader holds of packets that are not whole.
#[derive(Debug, Default)]
pub struct Fragments {
    /// Oldest first.
    partials: VecDeque<Partial>,
    /// Nothing has waited too long before that; `None`: nothing waits.
    due: Option<Instant>,
    octets: usize,
    dropped: [u64; Unjoined::COUNT],
    /// First fragments of packets that were not complete in time, whose senders have not been told.
    late: Vec<Vec<u8>>,
}

impl Fragments {
    /// Whether a packet is one.
    #[inline]
    #[must_use]
    pub fn is_one(packet: &[u8]) -> bool {
        match packet {
            [first, _, _, _, _, _, high, low, ..] if first >> 4 == 4 => (high & 0x3f) | low != 0,
            [first, _, _, _, _, _, next, ..] => {
                first >> 4 == 6 && *next != PROTOCOL_TCP && Self::is_one_of_ipv6(packet)
            }
            _ => false,
        }
    }

    #[cold]
    fn is_one_of_ipv6(packet: &[u8]) -> bool {
        ip::fragment_header(packet)
            .is_some_and(|header| u16::from_be_bytes([packet[header.at + 2], packet[header.at + 3]]) & 0xfff9 != 0)
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
        let fragment = match Fragment::parse(packet) {
            Ok(fragment) => fragment,
            Err(refusal) => {
                self.dropped[Unjoined::Odd as usize] += 1;
                return refusal.map_or(Joined::Taken, Joined::Refused);
            }
        };
        let at = self.partials.iter().position(|partial| partial.key == fragment.key);
        if let Some(why) = at.and_then(|at| self.partials[at].dead) {
            return self.drop_one(why);
        }
        if fragment.cuts_headers() {
            if let Some(at) = at {
                self.kill(at, Unjoined::Tiny);
            }
            self.dropped[Unjoined::Tiny as usize] += 1;
            // Of IPv4 nobody is told: a filter would have dropped it, too.
            return if fragment.key.v6 { Joined::Refused(Refusal::Chain) } else { Joined::Taken };
        }
        let at = at.unwrap_or_else(|| self.begin(fragment.key, now));
        let (before, added) = (self.partials[at].held(), fragment.add_to(&mut self.partials[at]));
        match added {
            Ok(()) => {}
            Err(Repeated) => return Joined::Taken,
            Err(Contradicts) => {
                self.kill(at, Unjoined::Overlap);
                return self.drop_one(Unjoined::Overlap);
            }
        }
        self.octets += self.partials[at].held() - before;
        if self.partials[at].is_whole() {
            return self.finish(at, buffer);
        }
        while self.octets > OCTETS && !self.partials.is_empty() {
            self.remove(0, Unjoined::Unfinished);
        }
        Joined::Taken
    }

    /// Drops what has waited too long.
    pub fn expire(&mut self, now: Instant) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        while let Some(at) = self.partials.iter().position(|partial| partial.ends() <= now) {
            let first = self.partials[at].first_fragment().filter(|_| self.late.len() < PACKETS);
            self.late.extend(first);
            self.remove(at, Unjoined::Unfinished);
        }
        self.due = self.partials.iter().map(Partial::ends).min();
    }

    /// When [`expire`](Self::expire) may have something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// The first fragment of a packet that was not complete in time, as much of it as an ICMP error quotes: its sender may
    /// be told so.
    pub fn take_late(&mut self) -> Option<(Vec<u8>, Refusal)> {
        self.late.pop().map(|first| (first, Refusal::Late))
    }

    /// A place for another packet: of its own source if that has its share, else the oldest.
    fn begin(&mut self, key: Key, now: Instant) -> usize {
        let is_its = |partial: &Partial| partial.key.source() == key.source();
        if self.partials.iter().filter(|partial| is_its(partial)).count() >= OF_A_SOURCE {
            let oldest = self.partials.iter().position(is_its).unwrap_or(0);
            self.remove(oldest, Unjoined::Unfinished);
        } else if self.partials.len() >= PACKETS {
            self.remove(0, Unjoined::Unfinished);
        }
        let partial = Partial {
            key,
            since: now,
            header: Vec::new(),
            first: 0,
            data: Vec::new(),
            parts: Vec::new(),
            total: None,
            dead: None,
        };
        self.due = Some(self.due.map_or(partial.ends(), |due| due.min(partial.ends())));
        self.partials.push_back(partial);
        self.partials.len() - 1
    }

    /// Nothing comes of this packet; it is remembered for a while, for what is on its way.
    fn kill(&mut self, at: usize, why: Unjoined) {
        let partial = &mut self.partials[at];
        self.octets -= partial.held();
        self.dropped[why as usize] += partial.parts.len() as u64;
        (partial.header, partial.data, partial.parts) = (Vec::new(), Vec::new(), Vec::new());
        partial.dead = Some(why);
    }

    fn remove(&mut self, at: usize, why: Unjoined) {
        let Some(partial) = self.partials.remove(at) else { return };
        self.octets -= partial.held();
        self.dropped[why as usize] += partial.parts.len() as u64;
    }

    fn drop_one(&mut self, why: Unjoined) -> Joined {
        self.dropped[why as usize] += 1;
        Joined::Taken
    }

    /// Writes the whole packet.
    fn finish(&mut self, at: usize, buffer: &mut [u8]) -> Joined {
        let Some(partial) = self.partials.remove(at) else { return Joined::Taken };
        self.octets -= partial.held();
        let Partial { key, mut header, data, .. } = partial;
        if key.v6 {
            strip(&mut header);
        }
        let len = header.len() + data.len();
        // What follows the fixed header counts for IPv6, all for IPv4.
        let counts = if key.v6 { len - IPV6_HEADER_LEN } else { len };
        let (Some(out), Ok(counts)) = (buffer.get_mut(..len), u16::try_from(counts)) else {
            return self.drop_one(Unjoined::Odd);
        };
        if key.v6 {
            header[4..6].copy_from_slice(&counts.to_be_bytes());
        } else {
            header[2..4].copy_from_slice(&counts.to_be_bytes());
            header[6..8].fill(0);
            header[10..12].fill(0);
            let sum = checksum::finish(checksum::sum(&header));
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        out[..header.len()].copy_from_slice(&header);
        out[header.len()..].copy_from_slice(&data);
        Joined::Whole(len)
    }
}

/// Takes the fragment header out of the headers of a first fragment, at whose end it stands.
fn strip(headers: &mut Vec<u8>) {
    if let Some(place) = ip::fragment_header(headers) {
        headers[place.named_at] = headers[place.at];
        headers.truncate(place.at);
    }
}

/// A fragment as it came.
struct Fragment<'a> {
    key: Key,
    header: &'a [u8],
    data: &'a [u8],
    start: usize,
    more: bool,
    /// What the data begin with, by a fragment header of IPv6, or what all of it is.
    next: u8,
}

/// Why a fragment is not added: it is there already, or does not fit what is.
enum NotAdded {
    Repeated,
    Contradicts,
}
use NotAdded::{Contradicts, Repeated};

impl<'a> Fragment<'a> {
    /// Reads one; `Err`: it is none that can be, with what its sender may be told.
    fn parse(packet: &'a [u8]) -> Result<Self, Option<Refusal>> {
        if packet.first().is_some_and(|first| first >> 4 == 6) {
            Self::parse_ipv6(packet)
        } else {
            Self::parse_ipv4(packet).ok_or(None)
        }
    }

    fn parse_ipv4(packet: &'a [u8]) -> Option<Self> {
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
        let (mut src, mut dst) = ([0; 16], [0; 16]);
        src[..4].copy_from_slice(&fixed[12..16]);
        dst[..4].copy_from_slice(&fixed[16..20]);
        let id = u16::from_be_bytes([fixed[4], fixed[5]]).into();
        let key = Key { v6: false, src, dst, id, protocol: fixed[9] };
        Some(Self { key, header, data, start, more, next: fixed[9] })
    }

    fn parse_ipv6(packet: &'a [u8]) -> Result<Self, Option<Refusal>> {
        let place = ip::fragment_header(packet).ok_or(None)?;
        let (fixed, header_len) =
            (packet.first_chunk::<IPV6_HEADER_LEN>().ok_or(None)?, place.at + FRAGMENT_HEADER_LEN);
        let total = IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        let data = packet.get(header_len..total).ok_or(None)?;
        let (header, field) = (&packet[..header_len], &packet[place.at..header_len]);
        let offset = u16::from_be_bytes([field[2], field[3]]);
        let (start, more) = (usize::from(offset & 0xfff8), offset & 1 != 0);
        if data.is_empty() {
            return Err(None);
        }
        if more && !data.len().is_multiple_of(8) {
            return Err(Some(Refusal::Length));
        }
        if place.at - IPV6_HEADER_LEN + start + data.len() > usize::from(u16::MAX) {
            return Err(Some(Refusal::Offset));
        }
        let address = |at: usize| std::array::from_fn(|index| fixed[at + index]);
        let id = u32::from_be_bytes([field[4], field[5], field[6], field[7]]);
        let key = Key { v6: true, src: address(8), dst: address(24), id, protocol: 0 };
        Ok(Self { key, header, data, start, more, next: field[0] })
    }

    /// IP-11, IP-12: what decides who a segment is for must be in the first fragment, and in no other.
    fn cuts_headers(&self) -> bool {
        const TCP_HEADER: usize = 20;
        if self.start == 0 {
            return if self.key.v6 {
                !ip::has_whole_chain(self.next, self.data)
            } else {
                self.next == PROTOCOL_TCP && self.data.len() < TCP_HEADER
            };
        }
        // Of IPv6 such a one overlaps the first, or there will be none: extension headers may be in between.
        !self.key.v6 && self.next == PROTOCOL_TCP && self.start < TCP_HEADER
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
            (partial.header, partial.first) = (self.header.to_vec(), self.data.len());
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
