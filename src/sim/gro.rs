//! Merging of received segments, as a network card or a kernel does before its host sees them (GRO).
//!
//! Adjacent in-order segments of one flow become one super-segment of up to 64 KB where everything else in their
//! headers agrees. What is merged and what is not changes nothing for a correct receiver: hence a stage of a link.

use super::link::{Exit, Stage};
use super::packet::{Packet, View};
use crate::device::segment::Shape;
use crate::tcp::{Duration, Instant};
use crate::wire::checksum;
use crate::wire::tcp::Flags;

/// Largest IP packet.
const MOST: usize = 65_535;

/// Flags with which a segment may still be merged.
const HARMLESS: Flags = Flags::ACK.union(Flags::PSH).union(Flags::FIN);

#[derive(Debug)]
struct Pending {
    packet: Packet,
    view: View,
    next_seq: u32,
    until: Instant,
}

/// Joins segments of a flow that follow one another within a short wait.
#[derive(Debug)]
pub struct Gro {
    wait: Duration,
    pending: Option<Pending>,
}

impl Gro {
    /// Segments that come within `wait` of the first may be merged with it.
    #[must_use]
    pub fn new(wait: Duration) -> Self {
        Self { wait, pending: None }
    }

    fn flush(&mut self, exit: &mut Exit<'_>) {
        if let Some(pending) = self.pending.take() {
            exit.pass(pending.packet);
        }
    }

    /// Appends the segment to what waits. Gives it back if it does not belong there; the flag asks for an end to it.
    fn merge(&mut self, packet: Packet, view: &View) -> Result<bool, Packet> {
        let Some(pending) = &mut self.pending else { return Err(packet) };
        let (first, header) = (&pending.view.header, &view.header);
        let len = view.payload.len();
        let size = pending.view.payload.len();
        let fits = view.src == pending.view.src
            && view.dst == pending.view.dst
            && header.seq == pending.next_seq
            && header.ack == first.ack
            && header.window == first.window
            && header.options == first.options
            && len > 0
            && len <= size
            && pending.packet.data.len() + len <= MOST;
        if !fits {
            return Err(packet);
        }
        pending.packet.data.extend_from_slice(packet.payload(view));
        pending.packet.gso_size = size as u16;
        pending.next_seq = pending.next_seq.wrapping_add(len as u32);
        let flags = header.flags & (Flags::PSH | Flags::FIN);
        seal(&mut pending.packet, flags);
        Ok(len < size || flags != Flags::NONE)
    }
}

/// Puts length, flags and checksum of a packet right that has grown. The card vouches for the TCP checksum.
fn seal(packet: &mut Packet, flags: Flags) {
    let Some(shape) = Shape::of(&packet.data) else { return };
    let len = packet.data.len();
    if shape.ipv6 {
        packet.data[4..6].copy_from_slice(&((len - shape.ip_len) as u16).to_be_bytes());
    } else {
        packet.data[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        packet.data[10..12].fill(0);
        let sum = checksum::finish(checksum::sum(&packet.data[..shape.ip_len]));
        packet.data[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet.data[shape.ip_len + 13] |= flags.0;
    packet.partial = true;
}

impl Stage for Gro {
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>) {
        let view = if packet.damaged || packet.gso_size > 0 { None } else { packet.view() };
        let Some(view) = view.filter(|view| !view.is_empty() && view.header.flags.without(HARMLESS) == Flags::NONE)
        else {
            self.flush(exit);
            return exit.pass(packet);
        };
        match self.merge(packet, &view) {
            Ok(false) => {}
            Ok(true) => self.flush(exit),
            Err(packet) => {
                self.flush(exit);
                if view.has(Flags::PSH) || view.has(Flags::FIN) {
                    return exit.pass(packet);
                }
                let until = exit.now() + self.wait;
                exit.wake_at(until);
                let next_seq = view.header.seq.wrapping_add(view.len());
                self.pending = Some(Pending { packet, view, next_seq, until });
            }
        }
    }

    fn wake(&mut self, exit: &mut Exit<'_>) {
        if self.pending.as_ref().is_some_and(|pending| pending.until <= exit.now()) {
            self.flush(exit);
        }
    }
}
