//! What senders decided, as events for an observer for as long as there is one: states, windows, samples, what was found
//! lost and sent again, and why.
//!
//! Nothing in `tcp` tells it: before and after a connection sends what it may at the end of a turn, what it says of itself
//! ([`Info`]) is compared with what it said before. What came in the turn and what timers did is in the first of the two,
//! what left in the second. Must not contain: anything that is paid for when nobody looks, but one look a connection and turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::service::ConnId;
use super::tap::{Cause, Facts, PacketFilter};
use crate::buffer::ring::{Consumer, Producer, ring};
use crate::flow::Quad;
use crate::tcp::{CloseReason, Duration, Info, Instant, LossState, SendLimit, State};
use crate::wire::PROTOCOL_TCP;

/// Something that a sender decided, or learnt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decision {
    /// It is seen for the first time: the values that it has then.
    Seen {
        /// Its state.
        state: State,
        /// Payload octets of a full segment.
        mss: u32,
        /// Congestion window, octets.
        cwnd: u32,
        /// Segments that had been sent again before.
        retransmits: u64,
    },
    /// Its state changed.
    State {
        /// The one before.
        from: State,
        /// The one now.
        to: State,
    },
    /// It has ended; the last of it.
    Ended(CloseReason),
    /// The estimate of the round trip changed.
    Rtt {
        /// Smoothed.
        srtt: Duration,
        /// Mean deviation.
        rttvar: Duration,
        /// The shortest.
        min_rtt: Duration,
        /// Retransmission timeout.
        rto: Duration,
    },
    /// The congestion window changed, or its threshold.
    Window {
        /// Octets.
        cwnd: u32,
        /// Octets; `u32::MAX` before the first loss.
        ssthresh: u32,
        /// Octets in flight.
        flight: u32,
    },
    /// Payload octets of a full segment changed: the path's MTU did.
    Mss(u32),
    /// Octets were found lost.
    Lost(u32),
    /// Loss recovery began, or ended.
    Recovery {
        /// What it was at.
        from: LossState,
        /// What it is at.
        to: LossState,
    },
    /// The retransmission timer fired in earnest, so many times.
    Timeout(u64),
    /// The reordering timer of RACK fired, so many times.
    ReorderingTimeout(u32),
    /// A tail loss probe left.
    TailProbe(u32),
    /// A recovery was needless and undone.
    Undone(Undo),
    /// So many octets in so many wire segments were sent again.
    Again {
        /// Octets.
        octets: u64,
        /// Wire segments.
        segments: u64,
        /// Why.
        cause: Cause,
    },
    /// What limits the sender changed.
    Limited(SendLimit),
}

/// What showed that a recovery was needless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undo {
    /// F-RTO (RFC 5682).
    Frto,
    /// A timestamp (RFC 3522).
    Eifel,
    /// All that was sent again arrived twice (RFC 3708).
    Dsack,
}

/// A decision of a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceEvent {
    /// The time of the shard's turn.
    pub at: Instant,
    /// Which connection.
    pub id: ConnId,
    /// Its ends.
    pub quad: Quad,
    /// How many events before this one found no room.
    pub missed: u32,
    /// What it was.
    pub decision: Decision,
}

/// The shard's end: hand it to [`Shard::trace`](super::Shard::trace).
pub struct Trace {
    ring: Producer<TraceEvent>,
    /// Asked about packets from the peer.
    filter: Option<PacketFilter>,
    /// By slot: the generation, and what it said last; `None`: it is not wanted.
    known: HashMap<u32, (u32, Option<Info>)>,
    missed: u32,
    counts: Arc<Counts>,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Counts {
    missed: AtomicU64,
}

/// The observer's end. Dropped, it ends the trace.
#[derive(Debug)]
pub struct TraceReader {
    ring: Consumer<TraceEvent>,
    left: usize,
    counts: Arc<Counts>,
}

/// Both ends of a trace with room for so many events. `filter` is asked once about each connection, as about a packet of
/// its peer.
#[must_use]
pub fn trace(events: usize, filter: Option<PacketFilter>) -> (Trace, TraceReader) {
    let (producer, consumer) = ring(events.max(16));
    let counts = Arc::<Counts>::default();
    let trace = Trace { ring: producer, filter, known: HashMap::new(), missed: 0, counts: Arc::clone(&counts) };
    (trace, TraceReader { ring: consumer, left: 0, counts })
}

impl TraceReader {
    /// Looks what there is now, for [`pop`](Self::pop).
    pub fn look(&mut self) {
        self.ring.release();
        self.left = self.ring.len();
    }

    /// The next of the events that were there at the last look.
    pub fn pop(&mut self) -> Option<TraceEvent> {
        self.left = self.left.checked_sub(1)?;
        self.ring.pop()
    }

    /// Events that found no room.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.counts.missed.load(Ordering::Relaxed)
    }

    /// Whether the shard is gone, or has ended the trace.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }
}

impl Trace {
    /// `false`: nobody looks any more.
    pub(super) fn publish(&mut self) -> bool {
        self.ring.publish();
        !self.ring.is_closed()
    }

    fn tell(&mut self, mut event: TraceEvent) {
        event.missed = self.missed;
        if self.ring.stage(event).is_err() {
            self.missed = self.missed.saturating_add(1);
            self.counts.missed.fetch_add(1, Ordering::Relaxed);
        } else {
            self.missed = 0;
        }
    }

    /// What it said of itself before; `None`: it is not wanted. One that is new is told of.
    fn before(&mut self, event: TraceEvent, info: &Info) -> Option<Info> {
        let ConnId { slot, generation } = event.id;
        if let Some((known, before)) = self.known.get(&slot)
            && *known == generation
        {
            return *before;
        }
        let Quad { local, remote } = event.quad;
        let ports = Some((remote.port, local.port));
        let facts = Facts { protocol: PROTOCOL_TCP, src: remote.addr, dst: local.addr, ports, len: 0 };
        let wanted = self.filter.as_ref().is_none_or(|filter| filter(&facts));
        self.known.insert(slot, (generation, wanted.then_some(*info)));
        if wanted {
            let &Info { state, mss, cwnd, retransmits, .. } = info;
            self.tell(TraceEvent { decision: Decision::Seen { state, mss, cwnd, retransmits }, ..event });
        }
        wanted.then_some(*info)
    }

    /// Tells what differs from what the connection said before.
    pub(super) fn compare(&mut self, event: TraceEvent, info: &Info) {
        let Some(before) = self.before(event, info) else { return };
        differences(&before, info, |decision| self.tell(TraceEvent { decision, ..event }));
        self.known.insert(event.id.slot, (event.id.generation, Some(*info)));
    }

    /// It has ended: `event` is the last of it, if it is wanted.
    pub(super) fn end(&mut self, event: TraceEvent) {
        let wanted = self.known.remove(&event.id.slot);
        if wanted.is_some_and(|(generation, info)| generation == event.id.generation && info.is_some()) {
            self.tell(event);
        }
    }
}

/// What was decided between two looks, in the order of cause and effect.
fn differences(before: &Info, now: &Info, mut tell: impl FnMut(Decision)) {
    let (old, new) = (&before.recovery, &now.recovery);
    if let (Some(srtt), true) =
        (now.srtt, (before.srtt, before.rttvar, before.min_rtt) != (now.srtt, now.rttvar, now.min_rtt))
    {
        let min_rtt = now.min_rtt.unwrap_or(srtt);
        tell(Decision::Rtt { srtt, rttvar: now.rttvar, min_rtt, rto: now.rto });
    }
    for (by, times) in [
        (Undo::Frto, new.undone_by_frto.saturating_sub(old.undone_by_frto)),
        (Undo::Eifel, new.undone_by_eifel.saturating_sub(old.undone_by_eifel)),
        (Undo::Dsack, new.undone_by_dsack.saturating_sub(old.undone_by_dsack)),
    ] {
        (0..times).for_each(|_| tell(Decision::Undone(by)));
    }
    let more = new.reordering_timeouts.saturating_sub(old.reordering_timeouts);
    if more > 0 {
        tell(Decision::ReorderingTimeout(more));
    }
    let more = now.timeouts.saturating_sub(before.timeouts);
    if more > 0 {
        tell(Decision::Timeout(more));
    }
    // What is sent again is not lost any more: that is told behind it.
    let resent = now.bytes_resent.saturating_sub(before.bytes_resent);
    if resent == 0 && now.lost > before.lost {
        tell(Decision::Lost(now.lost - before.lost));
    }
    // One may begin and end between two looks, or follow another one.
    let (begun, mut from) = (new.fast_recoveries > old.fast_recoveries, before.loss_state);
    if begun && now.loss_state != LossState::Recovery {
        tell(Decision::Recovery { from, to: LossState::Recovery });
        from = LossState::Recovery;
    }
    if begun && now.loss_state == LossState::Recovery || from != now.loss_state {
        tell(Decision::Recovery { from, to: now.loss_state });
    }
    let probes = new.tail_probes.saturating_sub(old.tail_probes);
    if probes > 0 {
        tell(Decision::TailProbe(probes));
    }
    let segments = now.retransmits.saturating_sub(before.retransmits);
    if segments > 0 {
        tell(Decision::Again { octets: resent, segments, cause: Cause::of(now.loss_state) });
    }
    if before.mss != now.mss {
        tell(Decision::Mss(now.mss));
    }
    if (before.cwnd, before.ssthresh) != (now.cwnd, now.ssthresh) {
        tell(Decision::Window { cwnd: now.cwnd, ssthresh: now.ssthresh, flight: now.flight });
    }
    if before.limited_by != now.limited_by {
        tell(Decision::Limited(now.limited_by));
    }
    if before.state != now.state {
        tell(Decision::State { from: before.state, to: now.state });
    }
}
