//! How large a packet the path to the peer carries: what ICMP says of it (RFC 1191, RFC 8201), and what is found out where
//! ICMP says nothing (RFC 4821).
//!
//! ```text
//!      low              in use               high               most
//!       |-----------------|--------------------|------------------|
//!   arrives, or is    `Sender::mss`     nothing larger      what our link and
//!   taken for granted                   arrives             the peer allow
//! ```
//!
//! Sizes are of what follows the fixed headers, as in an MSS: options and payload. Nothing of it is kept for connections
//! whose path carries what the link does, which are nearly all.

use crate::tcp::base::config::Config;
use crate::tcp::base::info::Info;
use crate::tcp::base::outcome::Heeded;
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::state::State;
use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::connection::{Connection, ConnectionFlags, LEAST_MSS, PathMtu, PathProbe, Rare};
use crate::tcp::recovery::Phase;
use crate::wire::icmp::Report;

/// How long a size is kept to before a larger one is tried (RFC1191-3b, RFC8201-4c, RFC4821-7.3).
const RAISE: Duration = Duration::from_secs(600);

/// Longest pause after a probe that was lost.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Timeouts in a row after which full segments seem not to arrive at all: R1 (RFC4821-7.7).
const R1: u8 = 3;
/// After as many more they are made smaller once more.
const R1_AGAIN: u8 = R1 + 2;

/// A search ends when this is left of it, octets (OPS-39).
const NEAR: u16 = 8;

/// Segments that must be able to leave behind a probe, so that its loss shows (RFC4821-7.4): DupThresh.
const BEHIND: u32 = 3;

/// What can be said of a path by its family.
#[derive(Clone, Copy, Debug)]
struct Family {
    /// Octets of the fixed headers of IP and TCP.
    headers: u16,
    /// No link carries less than packets of this size.
    least: u16,
    /// What is thought to arrive everywhere (RFC4821-7.2), and what must.
    base: u16,
    floor: u16,
}

/// RFC 791: 68 octets; every host takes 576. The base is that of Linux.
const IPV4: Family = Family { headers: 40, least: 69, base: 1_024, floor: 536 };
/// RFC 8200: 1,280 octets.
const IPV6: Family = Family { headers: 60, least: 1_280, base: 1_220, floor: 1_220 };

/// What the search makes of a chance to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// New data is to leave now in one segment of so many octets.
    Probe {
        /// Of the stream.
        len: u32,
    },
    /// Nothing new: the window must become free for a probe first.
    Wait,
    /// Nothing; all else may be sent.
    Pass,
}

impl PathMtu {
    fn new(mss: u16) -> Self {
        Self { low: mss, high: mss, most: mss, allowed: mss, probe: None, pending: None, next: Instant::MAX }
    }

    /// Sizes up to `low` arrive. Gives whether there is nothing more to be found out for long.
    fn settle(&mut self, now: Instant) {
        if self.high < self.low.saturating_add(NEAR) {
            self.high = self.most;
            self.next = now + RAISE;
        }
    }
}

/// What is known of the path, if there is anything.
fn path_of(rare: &mut Option<Box<Rare>>) -> Option<&mut PathMtu> {
    rare.as_mut().and_then(|rare| rare.path.as_mut())
}

impl Connection {
    /// Its packets are those of IPv6. To be said at the beginning.
    pub fn over_ipv6(&mut self) {
        self.flags.insert(ConnectionFlags::IPV6);
    }

    /// An ICMP error quotes a segment of this connection with the number `seq`.
    ///
    /// None ends a connection (RFC 5927, MUST-56), and one counts only where it quotes what is in flight (ICMP-2).
    pub fn on_icmp(&mut self, config: &Config, seq: SeqNum, report: Report, now: Instant) -> Heeded {
        let numbers = self.sender.numbers();
        if matches!(self.state, State::Closed | State::TimeWait) || !seq.in_range(numbers.una, numbers.nxt) {
            return Heeded::NotInFlight;
        }
        match report {
            Report::Unreachable(why) => {
                self.liveness.note_error(why);
                Heeded::Noted
            }
            Report::TooBig(mtu) => self.too_big(config, seq, mtu, now),
        }
    }

    /// "Packet too big", or "fragmentation needed".
    fn too_big(&mut self, config: &Config, seq: SeqNum, mtu: u32, now: Instant) -> Heeded {
        let family = self.family();
        let size = u16::try_from(mtu).unwrap_or(u16::MAX).saturating_sub(family.headers);
        // ICMP-7, RFC8201-4a; OPS-25.
        if mtu < u32::from(family.least) || size < config.min_mss.max(LEAST_MSS) {
            return Heeded::Absurd;
        }
        let in_use = self.sender.mss() as u16;
        if let Some(path) = path_of(&mut self.rare)
            && let Some(probe) = path.probe
            && seq.in_range(probe.start, probe.end)
            && (in_use..probe.size).contains(&size)
        {
            // The probe will be found lost; how far up it is worth to look is known already.
            path.high = path.high.min(size);
            return Heeded::Noted;
        }
        // RFC1191-3a, RFC1191-6.4b.
        if size >= in_use {
            return Heeded::Absurd;
        }
        // ICMP-8.
        if self.sender.largest_arrived() > size {
            self.path_mut().pending = Some((seq, size));
            return Heeded::Pending;
        }
        self.lower(size, now);
        self.send_smaller(config, now);
        Heeded::Smaller
    }

    /// The largest packet of our own link is of `mtu` octets now. Gives whether anything is to be sent otherwise for that.
    ///
    /// What is larger and has left already is with the device, so that nothing is taken for lost. Segments never become larger
    /// than was agreed upon when the connection was opened.
    pub fn on_link_mtu(&mut self, config: &Config, mtu: u16, now: Instant) -> bool {
        if matches!(self.state, State::Closed | State::TimeWait) {
            return false;
        }
        let size = mtu.saturating_sub(self.family().headers).max(config.min_mss.max(LEAST_MSS));
        let in_use = self.sender.mss() as u16;
        if size >= in_use && path_of(&mut self.rare).is_none() {
            return false;
        }
        let path = self.path_mut();
        let (before, most) = (path.most, size.min(path.allowed));
        if most == before {
            return false;
        }
        (path.most, path.high) = (most, most);
        path.low = path.low.min(most);
        // Its size is none any more, or there are better ones.
        path.probe = None;
        if most < before {
            path.next = now + RAISE;
            if in_use > most {
                self.set_mss(most);
            }
        } else if in_use == before {
            // Nothing but our link was in the way, as far as anybody knows.
            path.low = most;
            self.set_mss(most);
        } else {
            // What the path carries is not known: all at first.
            path.next = now;
        }
        self.flags.insert(ConnectionFlags::SEARCH);
        self.request_poll();
        true
    }

    fn family(&self) -> Family {
        if self.flags.contains(ConnectionFlags::IPV6) { IPV6 } else { IPV4 }
    }

    /// The peer's MSS is in what was allowed at first; the path's size is kept beside it (RFC1191-6.4c).
    fn path_mut(&mut self) -> &mut PathMtu {
        let mss = self.sender.mss() as u16;
        Rare::of(&mut self.rare).path.get_or_insert_with(|| PathMtu::new(mss))
    }

    /// A router has said that no more arrives.
    fn lower(&mut self, size: u16, now: Instant) {
        let path = self.path_mut();
        // It is sure of that; the search begins again when it may have changed.
        (path.low, path.high) = (path.low.min(size), path.most);
        (path.probe, path.pending) = (None, None);
        path.next = now + RAISE;
        self.set_mss(size);
    }

    /// Segments are of this size from now on (RFC5681-3.1d).
    fn set_mss(&mut self, size: u16) {
        let options = self.sender.mss() - self.smss();
        self.sender.set_mss(size);
        self.congestion.on_mss_change(u32::from(size).saturating_sub(options).max(1));
        // What a window was before counts in segments that are no more.
        self.recovery.forget_undo();
        self.flags.insert(ConnectionFlags::SEARCH);
    }

    /// What is in flight in too large segments leaves once more (RFC8201-5.4). That is no congestion: the window stays as
    /// many segments as it was (RFC1191-6.4a).
    fn send_smaller(&mut self, config: &Config, now: Instant) {
        let lost = self.recovery.lose_larger(&self.sender.numbers(), self.smss());
        if lost == 0 {
            return;
        }
        if self.recovery.phase() == Phase::Open {
            self.recovery.restart_timer(now);
            self.begin_recovery(Phase::Loss, None, now);
        }
        self.predictable = false;
        self.request_poll();
        self.arm_loss_timer(config, now);
    }

    /// The retransmission timer fired: what seems to vanish for its size becomes smaller (RFC2923-1).
    pub(super) fn review_path(&mut self, config: &Config, now: Instant) {
        let numbers = self.sender.numbers();
        let rto = self.rtt.rto(&config.rto);
        if let Some(path) = path_of(&mut self.rare) {
            if path.probe.take().is_some() {
                path.next = now + rto * 5; // RFC4821-7.6.3
            }
            let pending = path.pending.take().filter(|(seq, _)| seq.in_range(numbers.una, numbers.nxt));
            if let Some((_, size)) = pending.filter(|(_, size)| u32::from(*size) < self.sender.mss()) {
                return self.lower(size, now);
            }
        }
        // RFC4821-7.7. What never was larger than what arrives everywhere is not held up for its size.
        let (family, in_use) = (self.family(), self.sender.mss() as u16);
        let most = path_of(&mut self.rare).map_or(in_use, |path| path.most);
        let size = match self.liveness.timeouts() {
            R1 => family.base,
            R1_AGAIN if most > family.base => family.floor,
            _ => return,
        };
        let options = self.sender.mss() - self.smss();
        if size >= in_use || numbers.written.above(numbers.una) + options <= u32::from(size) {
            return;
        }
        let path = self.path_mut();
        // Perhaps nothing at all arrived for a while: once something does, all is tried first.
        (path.low, path.high, path.next) = (size, path.most, now);
        self.set_mss(size);
    }

    /// Larger segments are to be tried, if this is the time (RFC4821-7.4). What is said to leave counts as sent.
    #[cold]
    pub(super) fn search_path(&mut self, now: Instant) -> Search {
        let (pipe, cwnd, smss) = (self.pipe(), self.congestion.cwnd(), self.smss());
        let quiet = self.recovery.with_sack() && self.recovery.is_undisturbed() && !self.reassembly.is_report_due();
        let Some(path) = path_of(&mut self.rare) else { return Search::Pass };
        if path.probe.is_some() || now < path.next || !quiet {
            return Search::Pass;
        }
        // All at first, then halfway (RFC4821-7.1).
        let size = if path.high == path.most { path.most } else { path.low + (path.high - path.low).div_ceil(2) };
        let sender = &self.sender;
        if u32::from(size) <= sender.mss() {
            path.low = path.low.max(size);
            path.settle(now);
            return Search::Pass;
        }
        let len = u32::from(size) - (sender.mss() - smss);
        let with_more = len + BEHIND * smss;
        if sender.unsent() < with_more || sender.window_room() < with_more || cwnd < with_more + smss {
            return Search::Pass;
        }
        if cwnd.saturating_sub(pipe) < len {
            return if sender.flight() > 0 { Search::Wait } else { Search::Pass };
        }
        path.probe = Some(PathProbe { start: sender.nxt(), end: sender.nxt() + len, size, lost: false });
        Search::Probe { len }
    }

    /// Something is lost while all was well: whether it is a probe and nothing else, which is no congestion
    /// (RFC4821-7.6.2).
    pub(super) fn is_probes_loss(&mut self, now: Instant) -> bool {
        let numbers = self.sender.numbers();
        let (cwnd, smss, srtt) = (self.congestion.cwnd(), self.smss(), self.rtt.srtt().unwrap_or_default());
        let Some(path) = path_of(&mut self.rare) else { return false };
        let Some(probe) = path.probe.as_mut() else { return false };
        let within = |(start, end): (SeqNum, SeqNum)| start.ge(probe.start) && end.le(probe.end);
        if !self.recovery.only_loss(numbers.una).is_some_and(within) {
            return false;
        }
        if !probe.lost {
            probe.lost = true;
            path.high = path.high.min(probe.size - 1).max(path.low);
            path.next = now + (srtt * u64::from(cwnd / smss)).min(LONGEST_PAUSE);
            path.settle(now);
        }
        self.request_poll();
        true
    }

    /// A probe tells nothing any more: a range of it left once more, and all of it if it is known to be lost; or a
    /// recovery begins (`None`), since something is lost besides, or all (RFC4821-7.6.4).
    pub(super) fn end_probe(&mut self, again: Option<(SeqNum, SeqNum)>) {
        let is_over = |probe: PathProbe| match again {
            Some((_, end)) if probe.lost => end.ge(probe.end),
            Some((start, end)) => start.lt(probe.end) && end.gt(probe.start),
            None => true,
        };
        if let Some(path) = path_of(&mut self.rare)
            && path.probe.is_some_and(is_over)
        {
            path.probe = None;
        }
    }

    /// After an acknowledgment: whether a probe has arrived (RFC4821-7.6.1).
    pub(super) fn judge_probe(&mut self, now: Instant) {
        let una = self.sender.una();
        let Some(path) = path_of(&mut self.rare) else { return };
        let Some(probe) = path.probe.filter(|probe| una.ge(probe.end)) else { return };
        path.probe = None;
        if probe.lost {
            return;
        }
        path.low = path.low.max(probe.size);
        path.high = path.high.max(path.low);
        path.settle(now);
        if u32::from(probe.size) > self.sender.mss() {
            self.set_mss(probe.size);
        }
    }

    /// Its part of what observers see.
    pub(super) fn describe_path(&self, info: &mut Info) {
        let headers = u32::from(self.family().headers);
        let known = self.rare.as_ref().is_some_and(|rare| rare.path.is_some());
        info.path_mtu = u16::try_from(self.sender.mss() + headers).ok().filter(|_| known);
    }
}

#[cfg(test)]
#[path = "path_mtu_tests.rs"]
mod tests;
