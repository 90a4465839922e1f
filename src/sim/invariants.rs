//! What must hold after every event, seen from the wire: each rule has a name, and a test that turns it red.
//!
//! The checker looks at what a host sends and at what reached it before, so that it never asks of a host what it could
//! not know. Rules about a host's inside are checked by the host ([`Host::check`](super::Host::check)).

use std::collections::VecDeque;
use std::net::IpAddr;

use super::packet::{Packet, View};
use super::resends::Resends;
use super::rules::{Rule, Violation};
use crate::flow::{Endpoint, Quad};
use crate::tcp::{Info, SeqNum};
use crate::wire::tcp::Flags;

/// Octets kept below what was acknowledged: re-sent ones may still be compared.
const KEPT: usize = 128 * 1024;

/// Default of the send MSS where the peer named none (MUST-15).
const DEFAULT_MSS: u16 = 536;

/// What is known of one direction: what its sender has sent, and what has reached it of the other direction.
#[derive(Debug, Default)]
struct Side {
    isn: Option<SeqNum>,
    /// Behind the last octet (SYN, data or FIN) sent.
    end: SeqNum,
    fin: Option<SeqNum>,
    /// Octets sent, from `kept_from` on.
    kept: VecDeque<u8>,
    kept_from: SeqNum,
    own_shift: Option<u8>,
    own_edge: Option<SeqNum>,
    last_ack: Option<SeqNum>,
    /// It has closed its window.
    zero_window: bool,
    /// Segments sent to ask whether the peer's window is open again.
    probes: u64,
    resends: Resends,

    /// From the peer's SYN.
    peer_isn: Option<SeqNum>,
    peer_shift: Option<u8>,
    peer_mss: Option<u16>,
    /// Behind the highest octet that arrived.
    arrived_end: Option<SeqNum>,
    /// Right edge of the largest window that arrived.
    edge: Option<SeqNum>,
    acked: Option<SeqNum>,

    /// Since the last poll.
    arrived: usize,
    arrived_resets: usize,
    pure_acks: usize,
}

impl Side {
    fn open(&mut self, isn: SeqNum) {
        self.resends.begin_anew();
        *self = Self {
            isn: Some(isn),
            peer_isn: self.peer_isn,
            end: isn + 1,
            kept_from: isn + 1,
            peer_shift: self.peer_shift,
            peer_mss: self.peer_mss,
            arrived_end: self.arrived_end,
            edge: self.edge,
            acked: None,
            arrived: self.arrived,
            arrived_resets: self.arrived_resets,
            resends: std::mem::take(&mut self.resends),
            ..Self::default()
        };
    }

    /// Shift of the windows that the sender of this direction gets, or gives.
    fn shift(&self, of: Option<u8>) -> u8 {
        // RFC7323-2.2b: scaling is on only when both have offered it.
        if self.own_shift.is_some() && self.peer_shift.is_some() { of.unwrap_or(0).min(14) } else { 0 }
    }

    fn trim(&mut self) {
        let Some(acked) = self.acked else { return };
        let known = acked - self.kept_from;
        if known > 2 * KEPT as i32 {
            let gone = (known as usize - KEPT).min(self.kept.len());
            self.kept.drain(..gone);
            self.kept_from += gone as u32;
        }
    }
}

/// One direction of a connection by its ends, sender first.
type Name = (Endpoint, Endpoint);

/// The checker of one world: what each side of each flow has sent and got, seen from the wire.
#[derive(Debug, Default)]
pub struct Invariants {
    sides: Vec<(Name, Side)>,
    last: usize,
}

impl Invariants {
    fn side(&mut self, src: Endpoint, dst: Endpoint) -> &mut Side {
        let name = (src, dst);
        if self.sides.get(self.last).is_none_or(|(known, _)| *known != name) {
            self.last = self.sides.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
                self.sides.push((name, Side::default()));
                self.sides.len() - 1
            });
        }
        &mut self.sides[self.last].1
    }

    /// A sound packet reaches the host it is for.
    pub fn arrives(&mut self, packet: &Packet, view: &View) {
        self.side(view.src, view.dst).resends.arrives(packet);
        let segments = packet.wire_segments();
        let side = self.side(view.dst, view.src);
        let (header, seq) = (&view.header, SeqNum(view.header.seq));
        side.arrived += segments;
        if view.has(Flags::RST) {
            side.arrived_resets += segments;
            return;
        }
        let end = seq + view.seq_len();
        if view.has(Flags::SYN) {
            side.peer_shift = header.options.window_scale;
            side.peer_mss = header.options.mss;
            // A late copy of the SYN says nothing new; another SYN begins anew.
            if side.peer_isn.replace(seq) != Some(seq) {
                side.arrived_end = None;
            }
        }
        side.arrived_end = Some(side.arrived_end.map_or(end, |known| known.later(end)));
        if view.has(Flags::ACK) {
            let shift = if view.has(Flags::SYN) { 0 } else { side.shift(side.peer_shift) };
            let ack = SeqNum(header.ack);
            let edge = ack + (u32::from(header.window) << shift);
            side.edge = Some(side.edge.map_or(edge, |known| known.later(edge)));
            side.acked = Some(side.acked.map_or(ack, |known| known.later(ack)));
            side.trim();
        }
    }

    /// A host sends a packet.
    ///
    /// # Errors
    ///
    /// The rule that it breaks.
    pub fn sends(&mut self, packet: &Packet, view: &View) -> Result<(), Violation> {
        let side = self.side(view.src, view.dst);
        let (header, seq) = (&view.header, SeqNum(view.header.seq));
        side.resends.leaves(packet, view, side.end);
        if view.has(Flags::RST) {
            if side.arrived > 0 && side.arrived == side.arrived_resets {
                return Err(Violation::new(Rule::ResetAnswered, "a RST for a RST"));
            }
            return Ok(());
        }
        if view.has(Flags::SYN) {
            if side.isn != Some(seq) {
                side.open(seq);
            }
            side.own_shift = header.options.window_scale;
        } else if side.isn.is_none() {
            // Of a connection that began before the world did.
            return Ok(());
        } else {
            side.check_text(packet, view)?;
        }
        if view.has(Flags::ACK) { side.check_ack(view) } else { Ok(()) }
    }

    /// A link loses a packet.
    pub fn lost(&mut self, packet: &Packet, view: &View) {
        self.side(view.src, view.dst).resends.loses(packet, view);
    }

    /// A link repeats a packet, changes it or moves it out of its order.
    pub fn disturbed(&mut self, view: &View) {
        self.side(view.src, view.dst).resends.disturbed = true;
    }

    /// Before [`polled`](Self::polled), looks at what `host` has sent again. `info` tells of its connections.
    ///
    /// # Errors
    ///
    /// [`Rule::Resent`].
    pub fn check_resent<F>(&mut self, host: IpAddr, mut info: F) -> Result<(), Violation>
    where
        F: FnMut(&Quad) -> Option<Info>,
    {
        for index in 0..self.sides.len() {
            let ((src, dst), side) = &self.sides[index];
            if src.addr != host || !side.resends.has_news() || !self.is_told_the_truth(index) {
                continue;
            }
            let Some(info) = info(&Quad { local: *src, remote: *dst }) else { continue };
            let waits = side.resends.is_underway() || self.reverse(index).is_some_and(Resends::is_underway);
            let side = &mut self.sides[index].1;
            let flight = (side.end - side.acked.unwrap_or(side.end)).max(0) as u32;
            side.resends.check(&info, flight, waits)?;
        }
        Ok(())
    }

    /// What goes the other way.
    fn reverse(&self, index: usize) -> Option<&Resends> {
        let (src, dst) = self.sides[index].0;
        self.sides.iter().find(|(name, _)| *name == (dst, src)).map(|(_, side)| &side.resends)
    }

    /// Whether the sender of a direction has heard the truth of it until now: what was not lost arrived once, as it
    /// was and in order, and so did all that was said about it.
    fn is_told_the_truth(&self, index: usize) -> bool {
        let back = self.reverse(index).is_none_or(|back| !back.disturbed && !back.lossy);
        back && !self.sides[index].1.resends.disturbed
    }

    /// Of each direction that [`Rule::Resent`] is held to until the end: wire segments that were sent again, and what
    /// the sender said of itself then.
    pub fn resent(&self) -> impl Iterator<Item = (u64, &Info)> {
        let held = (0..self.sides.len()).filter(|index| self.is_told_the_truth(*index));
        held.filter_map(|index| self.sides[index].1.resends.looked())
    }

    /// The host has been polled: what arrived before no longer excuses anything.
    pub fn polled(&mut self, host: IpAddr) {
        for ((src, _), side) in &mut self.sides {
            if src.addr == host {
                (side.arrived, side.arrived_resets, side.pure_acks) = (0, 0, 0);
                side.resends.polled();
            }
        }
    }

    /// Whether a receiver has closed its window.
    #[must_use]
    pub fn closed_a_window(&self) -> bool {
        self.sides.iter().any(|(_, side)| side.zero_window)
    }

    /// How often a closed window was probed (MUST-36).
    #[must_use]
    pub fn window_probes(&self) -> u64 {
        self.sides.iter().map(|(_, side)| side.probes).sum()
    }

    /// Whether a direction has passed sequence number 2^32.
    #[must_use]
    pub fn wrapped(&self) -> bool {
        self.sides.iter().any(|(_, side)| side.isn.is_some_and(|isn| side.end.0 < isn.0))
    }
}

impl Side {
    fn check_text(&mut self, packet: &Packet, view: &View) -> Result<(), Violation> {
        let seq = SeqNum(view.header.seq);
        let isn = self.isn.unwrap_or(seq);
        let len = view.len();
        let end = seq + len;
        let order = |detail: String| Err(Violation::new(Rule::SequenceOrder, detail));
        if seq.gt(self.end) {
            return order(format!("a gap of {} before {seq}", seq - self.end));
        }
        // A keep-alive begins one octet below what was sent (SHLD-12), and that may be the SYN.
        if seq.lt(isn) {
            return order(format!("{seq} is below the ISN {isn}"));
        }
        if let Some(fin) = self.fin
            && (end.gt(fin) && len > 0 || view.has(Flags::FIN) && end != fin)
        {
            return order(format!("{} octets at {seq}, but the FIN is {fin}", len));
        }
        if len > 0 {
            self.check_size(packet, view)?;
            self.check_octets(packet.payload(view), seq)?;
            // A probe of a closed window is one octet beyond it.
            let beyond = self.edge.map_or(len as i32, |edge| end - edge);
            if beyond > 0 && !(len == 1 && beyond == 1) {
                return Err(Violation::new(Rule::BeyondWindow, format!("{beyond} octets beyond, {len} at {seq}")));
            }
        }
        // The other kind of probe names an octet that has arrived (as SHLD-12), where a window is closed.
        let closed = self.edge.is_some_and(|edge| edge.le(self.end));
        self.probes += u64::from(closed && view.seq_len() == 0 && seq + 1 == self.end);
        if view.has(Flags::FIN) {
            self.fin = Some(end);
        }
        self.end = self.end.later(end + u32::from(view.has(Flags::FIN)));
        Ok(())
    }

    fn check_size(&self, packet: &Packet, view: &View) -> Result<(), Violation> {
        let size = if packet.gso_size > 0 { u32::from(packet.gso_size) } else { view.len() };
        let options = view.header.options.wire_len() as u32;
        let mss = self.peer_mss.unwrap_or(DEFAULT_MSS);
        if size + options > u32::from(mss) {
            return Err(Violation::new(Rule::BeyondMss, format!("{size} octets and {options} of options, MSS {mss}")));
        }
        Ok(())
    }

    fn check_octets(&mut self, payload: &[u8], seq: SeqNum) -> Result<(), Violation> {
        // Octets below what is kept are skipped, those above are new.
        let skip = (self.kept_from - seq).max(0) as usize;
        let payload = payload.get(skip..).unwrap_or(&[]);
        let at = (seq + skip as u32 - self.kept_from) as usize;
        let again = self.kept.len().saturating_sub(at).min(payload.len());
        let (front, back) = self.kept.as_slices();
        let cut = front.len().saturating_sub(at).min(again);
        let same = (cut == 0 || front[at..at + cut] == payload[..cut])
            && (cut == again || back[at + cut - front.len()..][..again - cut] == payload[cut..again]);
        if !same {
            return Err(Violation::new(Rule::ResentDiffers, format!("{} octets at {seq}", payload.len())));
        }
        self.kept.extend(&payload[again..]);
        Ok(())
    }

    fn check_ack(&mut self, view: &View) -> Result<(), Violation> {
        let (header, ack) = (&view.header, SeqNum(view.header.ack));
        let order = |detail: String| Err(Violation::new(Rule::AckOrder, detail));
        match self.arrived_end {
            None => return order(format!("ack {ack} though nothing arrived")),
            Some(end) if ack.gt(end) => return order(format!("ack {ack} names more than arrived, {end}")),
            Some(_) => {}
        }
        if let Some(last) = self.last_ack
            && ack.lt(last)
        {
            return order(format!("ack {ack} after {last}"));
        }
        self.last_ack = Some(ack);
        let shift = if view.has(Flags::SYN) { 0 } else { self.shift(self.own_shift) };
        let edge = ack + (u32::from(header.window) << shift);
        // RFC7323-2.4b: a scaled window is cut down to a multiple of its unit, so the edge may seem to move by less.
        if let Some(known) = self.own_edge
            && (edge + ((1 << shift) - 1)).lt(known)
        {
            return Err(Violation::new(Rule::WindowShrunk, format!("edge {edge} after {known}")));
        }
        self.own_edge = Some(self.own_edge.map_or(edge, |known| known.later(edge)));
        self.zero_window |= header.window == 0;
        if view.seq_len() == 0 {
            self.pure_acks += 1;
            if self.pure_acks > self.arrived + 1 {
                let detail = format!("{} acknowledgments for {} segments", self.pure_acks, self.arrived);
                return Err(Violation::new(Rule::AckStorm, detail));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "invariants_tests.rs"]
mod tests;
