//! Packets on a control socket: what follows the answer to a `capture`, until either side hangs up.
//!
//! ```text
//!   0      1     2       4             12    16     20       24         26               28      29     30
//!   | kind | way | shard | time in ns  | len | kept | missed | gso_size | checksum_start | queue | note | detail | 0
//!
//!   kind 1: a packet; its octets, `kept` of them, come behind these 32
//!   kind 2: a tick: all packets of earlier times have come; `shard` says how many counters come behind, 16 octets each:
//!           packets seen, packets missed
//! ```
//!
//! All numbers are little-endian. Must not contain: files, waiting.

use std::io::{self, Read};

use trust::shard::DropReason;
use trust::shard::tap::{Cause, Note, Sight, TapCounts, Way};
use trust::tcp::Instant;

/// Octets of what every item begins with.
const HEAD: usize = 32;

const PACKET: u8 = 1;
const TICK: u8 = 2;

/// No packet has more octets.
const LARGEST: u32 = 65_535;

/// An item of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Packet(Packet),
    Tick(Tick),
}

/// A packet that was captured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) shard: u16,
    pub(crate) sight: Sight,
    pub(crate) octets: Vec<u8>,
}

/// So far everything has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tick {
    pub(crate) at: Instant,
    /// By shard.
    pub(crate) counts: Vec<TapCounts>,
}

/// Adds a packet to what is to be written.
pub(crate) fn write_packet(out: &mut Vec<u8>, shard: u16, sight: &Sight, octets: &[u8]) {
    let mut head = [0; HEAD];
    head[0] = PACKET;
    head[1] = u8::from(sight.way == Way::Out);
    head[2..4].copy_from_slice(&shard.to_le_bytes());
    head[4..12].copy_from_slice(&sight.at.as_nanos().to_le_bytes());
    head[12..16].copy_from_slice(&sight.len.to_le_bytes());
    head[16..20].copy_from_slice(&sight.kept.to_le_bytes());
    head[20..24].copy_from_slice(&sight.missed.to_le_bytes());
    head[24..26].copy_from_slice(&sight.gso_size.to_le_bytes());
    head[26..28].copy_from_slice(&sight.checksum_start.to_le_bytes());
    head[28] = sight.queue;
    (head[29], head[30]) = match sight.note {
        Note::None => (0, 0),
        Note::Dropped(reason) => (1, reason.index() as u8),
        Note::Again(Cause::Loss) => (2, 0),
        Note::Again(Cause::Timeout) => (2, 1),
        Note::Again(Cause::Probe) => (2, 2),
    };
    out.extend_from_slice(&head);
    out.extend_from_slice(octets);
}

/// Adds a tick.
pub(crate) fn write_tick(out: &mut Vec<u8>, tick: &Tick) {
    let mut head = [0; HEAD];
    head[0] = TICK;
    head[2..4].copy_from_slice(&(tick.counts.len() as u16).to_le_bytes());
    head[4..12].copy_from_slice(&tick.at.as_nanos().to_le_bytes());
    out.extend_from_slice(&head);
    for TapCounts { seen, missed } in &tick.counts {
        out.extend_from_slice(&seen.to_le_bytes());
        out.extend_from_slice(&missed.to_le_bytes());
    }
}

/// Reads the next item; `None`: the other side has hung up between two.
///
/// # Errors
///
/// It has hung up within one, or does not make sense.
pub(crate) fn read(input: &mut impl Read) -> io::Result<Option<Item>> {
    let mut head = [0; HEAD];
    let mut filled = 0;
    while filled < HEAD {
        match input.read(&mut head[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let two = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let four = |at: usize| u32::from(two(at)) | u32::from(two(at + 2)) << 16;
    let eight = |at: usize| u64::from(four(at)) | u64::from(four(at + 4)) << 32;
    let senseless =
        |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the engine does not make sense: {what}"));
    let at = Instant::from_nanos(eight(4));
    match head[0] {
        PACKET => {
            let note = match (head[29], head[30]) {
                (0, _) => Note::None,
                // One that is newer than this command.
                (1, index) => DropReason::all().nth(index.into()).map_or(Note::None, Note::Dropped),
                (2, 0) => Note::Again(Cause::Loss),
                (2, 1) => Note::Again(Cause::Timeout),
                (2, _) => Note::Again(Cause::Probe),
                _ => Note::None,
            };
            let sight = Sight {
                at,
                len: four(12),
                kept: four(16),
                missed: four(20),
                gso_size: two(24),
                checksum_start: two(26),
                queue: head[28],
                way: if head[1] == 0 { Way::In } else { Way::Out },
                note,
            };
            if sight.kept > LARGEST.min(sight.len) {
                return Err(senseless("a packet is too long"));
            }
            let mut octets = vec![0; sight.kept as usize];
            input.read_exact(&mut octets)?;
            Ok(Some(Item::Packet(Packet { shard: two(2), sight, octets })))
        }
        TICK => {
            let mut counts = vec![0; usize::from(two(2)) * 16];
            input.read_exact(&mut counts)?;
            let number = |octets: &[u8]| octets.iter().rev().fold(0, |sum, octet| sum << 8 | u64::from(*octet));
            let counts = counts
                .chunks_exact(16)
                .map(|pair| TapCounts { seen: number(&pair[..8]), missed: number(&pair[8..]) })
                .collect();
            Ok(Some(Item::Tick(Tick { at, counts })))
        }
        _ => Err(senseless("no packet, and no tick")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn items_are_read_as_they_were_written() {
        let notes = [Note::None, Note::Again(Cause::Loss), Note::Again(Cause::Timeout), Note::Again(Cause::Probe)];
        let mut out = Vec::new();
        let mut items = Vec::new();
        for (index, note) in notes.into_iter().chain(DropReason::all().map(Note::Dropped)).enumerate() {
            let sight = Sight {
                at: Instant::from_nanos(u64::MAX - index as u64),
                len: 65_535,
                kept: index as u32,
                missed: u32::MAX,
                gso_size: 1_448,
                checksum_start: 20,
                queue: 3,
                way: if index % 2 == 0 { Way::In } else { Way::Out },
                note,
            };
            let octets = vec![index as u8; index];
            write_packet(&mut out, 7, &sight, &octets);
            items.push(Item::Packet(Packet { shard: 7, sight, octets }));
        }
        let counts = vec![TapCounts { seen: u64::MAX, missed: 1 }, TapCounts { seen: 2, missed: u64::MAX - 1 }];
        let tick = Tick { at: Instant::from_nanos(5), counts };
        write_tick(&mut out, &tick);
        items.push(Item::Tick(tick));
        let mut input = out.as_slice();
        for item in items {
            assert_eq!(read(&mut input).unwrap(), Some(item));
        }
        assert_eq!(read(&mut input).unwrap(), None);
        for cut in 1..HEAD * 2 {
            let mut input = &out[..cut];
            let mut last = read(&mut input);
            while let Ok(Some(_)) = last {
                last = read(&mut input);
            }
            assert!(cut % HEAD == 0 || last.is_err(), "{cut}");
        }
        assert!(read(&mut [9; HEAD].as_slice()).is_err());
        let mut long = out[..HEAD].to_vec();
        long[16..20].fill(0xff);
        assert!(read(&mut long.as_slice()).is_err(), "no memory for what cannot be");
    }
}
