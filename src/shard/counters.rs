//! What a shard counts: plain integers of one thread, published now and then to shared memory for readers.
//!
//! Must not contain: locks, formatting for people beyond `Debug` (that is the command's work), anything per connection.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::budget::Work;
use crate::tcp::{Duration, Events};
use crate::wire::Malformed;

/// Classes of turns by their time: the last takes in all from 2.1 s on.
pub const TURN_TIMES: usize = 23;

/// Classes of round trips by their time: the last takes in all from 2.1 s on.
pub const ROUND_TRIPS: usize = 23;

/// Declares the counters once: the plain struct, its names, and the flat view that readers see.
macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Counters and gauges of one shard (or one stage), since its start.
        ///
        /// `Debug` leaves out what is zero, as most of them are, and names the others: `drops: {NoConnection: 3}`.
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $doc])* pub $name: u64,)*
            /// Packets dropped, by reason; index by [`DropReason`].
            pub drops: [u64; DropReason::COUNT],
            /// Most pieces of work that one turn did, by kind; index by [`Work`].
            pub most_in_a_turn: [u64; Work::ALL.len()],
            /// Turns by how long they took: less than 2^i us, and not less than half of that, for the i-th.
            pub turn_times: [u64; TURN_TIMES],
            /// Smoothed round trips of connections, each looked at once a second or less often while segments come, and in
            /// the end: less than 2^i us, and not less than half of that, for the i-th.
            pub round_trips: [u64; ROUND_TRIPS],
            /// The longest turn, in ns.
            pub longest_turn: u64,
        }

        impl Default for Counters {
            fn default() -> Self {
                Self {
                    $($name: 0,)*
                    drops: [0; DropReason::COUNT],
                    most_in_a_turn: [0; Work::ALL.len()],
                    turn_times: [0; TURN_TIMES],
                    round_trips: [0; ROUND_TRIPS],
                    longest_turn: 0,
                }
            }
        }

        impl Counters {
            /// Names of the counters before those by reason or kind, in publishing order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            /// What they count, in the same order.
            pub const HELP: &'static [&'static str] = &[$(concat!($($doc),*),)*];

            /// Number of published cells.
            pub const CELLS: usize =
                Self::NAMES.len() + DropReason::COUNT + Work::ALL.len() + TURN_TIMES + ROUND_TRIPS + 1;

            fn store(&self, cells: &[AtomicU64]) {
                let mut cells = cells.iter();
                $(if let Some(cell) = cells.next() { cell.store(self.$name, Ordering::Relaxed); })*
                let others = self.drops.into_iter().chain(self.most_in_a_turn).chain(self.turn_times);
                for (cell, value) in cells.zip(others.chain(self.round_trips).chain([self.longest_turn])) {
                    cell.store(value, Ordering::Relaxed);
                }
            }

            fn load(cells: &[AtomicU64]) -> Self {
                let mut read = cells.iter().map(|cell| cell.load(Ordering::Relaxed));
                let mut counters = Self { $($name: read.next().unwrap_or(0),)* ..Self::default() };
                let Self { drops, most_in_a_turn, turn_times, round_trips, longest_turn, .. } = &mut counters;
                let others = drops.iter_mut().chain(most_in_a_turn).chain(turn_times).chain(round_trips);
                for (other, value) in others.chain([longest_turn]).zip(read) {
                    *other = value;
                }
                counters
            }

            /// The counters before those by reason or kind, with their names.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                Self::NAMES.iter().copied().zip([$(self.$name,)*])
            }

            /// Adds another shard's figures to these; of what is a maximum, the larger one stays.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                let sums = self.drops.iter_mut().zip(other.drops);
                let times = self.turn_times.iter_mut().zip(other.turn_times);
                let trips = self.round_trips.iter_mut().zip(other.round_trips);
                for (mine, theirs) in sums.chain(times).chain(trips) {
                    *mine += theirs;
                }
                for (mine, theirs) in self.most_in_a_turn.iter_mut().zip(other.most_in_a_turn) {
                    *mine = theirs.max(*mine);
                }
                self.longest_turn = self.longest_turn.max(other.longest_turn);
            }
        }
    };
}

counters! {
    /// IP packets received (a super-segment counts once).
    packets_in,
    /// IP octets received.
    bytes_in,
    /// Of the packets received, those that never came to TCP: malformed or misdirected ones, ICMP, other protocols.
    packets_not_tcp,
    /// IP packets handed to the device (a super-segment counts once).
    packets_out,
    /// IP octets handed to the device.
    bytes_out,
    /// TCP segments received that reached a connection.
    segments_in,
    /// Of those, the ones that took header prediction.
    segments_predicted,
    /// Segments that arrived out of order and were held.
    segments_out_of_order,
    /// Segments that repeated octets already received.
    segments_duplicate,
    /// TCP payload octets delivered in order.
    payload_in,
    /// TCP payload octets inside the window that were not kept, for want of memory (OPS-46) or because what is out of
    /// order lies in too many pieces (OPS-26). The peer sends them again. What comes in a segment that is dropped as a
    /// whole (for its timestamp, its ACK, a handshake that is refused) is not among them, nor what nobody will read.
    payload_refused,
    /// TCP payload octets sent, retransmissions included.
    payload_out,
    /// Frames sent again.
    retransmits,
    /// Wire segments sent again, of whole super-segments each.
    segments_resent,
    /// Of these, the ones that later acknowledgments showed to be lost (fast retransmission, RFC 5681 3.2).
    fast_retransmits,
    /// SYNs and SYN-ACKs sent again.
    syn_retransmits,
    /// Retransmission timeouts (RFC 6298).
    retransmission_timeouts,
    /// Fast recoveries: losses found without a timeout (RFC 6582, RFC 8985).
    fast_recoveries,
    /// Tail loss probes due (RFC 8985 7).
    tail_probes,
    /// Times a reordering timer fired (RFC 8985 6.2).
    reordering_timeouts,
    /// Reports of peers that octets arrived twice (RFC 2883).
    dsacks_in,
    /// Recoveries that proved needless and were undone (RFC 5682, RFC 3522, RFC 3708).
    undone_recoveries,
    /// Of these, recoveries after a retransmission timeout.
    spurious_timeouts,
    /// RST segments sent.
    resets_out,
    /// Connections opened by the other side.
    accepted,
    /// Connections opened by us.
    connected,
    /// Connections that we began to open.
    opens,
    /// Of these, the ones that never were established.
    opens_failed,
    /// Connections that the other side began to open and reset before they were established.
    half_open_resets,
    /// Ports looked at for connections opened by us.
    ports_tried,
    /// Connections ended, for whatever reason.
    closed,
    /// Connections that our side has closed, wholly or for sending.
    fins_queued,
    /// Connections that ended without our side having closed: by a reset of either side, or for want of progress.
    established_resets,
    /// Connections that were reset because they were closed with something unread.
    aborted_on_close,
    /// Connections that were reset because data came after they were closed.
    aborted_on_data,
    /// Connections ended by a reset of the peer.
    resets_in,
    /// Connections that timed out.
    timed_out,
    /// Connections reset because too many were left by their services (`Limits::orphans`).
    orphans_over_limit,
    /// Connections left by their services and reset because others needed their send memory.
    orphans_out_of_memory,
    /// Connections that their service has reset because others needed their place.
    gave_way,
    /// SYNs answered with a cookie (RFC 4987 3.6).
    cookies_sent,
    /// Connections made of a cookie.
    cookies_accepted,
    /// ACKs of no connection that were no good cookie, while some were out.
    cookies_refused,
    /// Half-open records that made way for others.
    half_open_recycled,
    /// Connections reset because others needed the send memory that they held for long without progress.
    evicted_for_send_memory,
    /// Connections reset because others needed the memory of what they had received and nobody read for long.
    evicted_for_receive_memory,
    /// Connections of services reset because they were silent longest and there was no place for another connection.
    evicted_idle,
    /// Times that the shard could not run for a second or more, and stopped its clock for that (see `Shard::begin_turn`).
    absences,
    /// SYNs that took over a TIME-WAIT record (RFC 6191).
    time_wait_reused,
    /// TIME-WAIT records evicted because the table was full.
    time_wait_evicted,
    /// ICMP echo requests answered.
    echo_replies,
    /// ICMP errors that say why a segment of ours did not arrive: opens ended, the rest was noted.
    unreachables_in,
    /// ICMP messages that made the segments of a connection smaller (RFC 1191, RFC 8201).
    too_big_in,
    /// ICMP messages that would have, and count only if what they quote times out (RFC 5927 7.2).
    too_big_pending,
    /// ICMP errors sent for what is not TCP (ICMP-14).
    unreachables_out,
    /// ICMP errors sent about fragments: "time exceeded" for a packet that was not complete in time, "parameter problem" for
    /// what no fragment of IPv6 may be (IP-6, IP-10, IP-11).
    fragment_errors_out,
    /// Opens ended, and connections given up, for want of a way that ICMP told of.
    unreachable,
    /// Buckets of the owner table that were claimed for this shard and given back without a record having come.
    buckets_swept,
    /// Packets that came on a queue of another shard and were handed over by ring.
    forwarded,
    /// Gauge: connections now, half-open ones included.
    connections,
    /// Gauge: connections now in ESTABLISHED or CLOSE-WAIT.
    established,
    /// Gauge: connections now in SYN-RECEIVED or SYN-SENT.
    half_open,
    /// Gauge: of those, the ones that we open.
    connecting,
    /// Gauge: connections now that their services have left with something unacknowledged.
    orphans,
    /// Gauge: TIME-WAIT records now.
    time_wait,
    /// Gauge: buckets of the owner table that now have records of this shard, if they are not dealt out for good.
    buckets,
    /// Gauge: octets of send memory now taken: whole blocks of it, however few of their octets are filled.
    send_octets,
    /// Gauge: 64 KB chunks of send memory now in use, that is with a block taken.
    send_chunks,
    /// Most chunks of send memory that were in use at a time.
    send_chunks_peak,
    /// Gauge: packet buffers that connections now hold.
    held_packets,
    /// Gauge: octets copied out of packet buffers that connections now hold, and 96 more a copy.
    held_octets,
    /// Most of them that were held at a time.
    held_octets_peak,
    /// Gauge: packets now in the rings from readers.
    rx_ring,
    /// Gauge: frames now in the ring to the writer.
    tx_ring,
    /// Round trips counted by their time, together, ns.
    round_trip_nanos,
    /// Turns of the worker that did something.
    turns,
    /// Time that these took altogether, ns.
    turn_nanos,
    /// Times the thread parked.
    parks,
}

/// Why a packet was dropped. Each reason is one counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The packet itself was bad.
    Malformed(Malformed),
    /// Destination is not an address of ours (IP-2).
    NotOurAddress,
    /// Source is an address of ours: reflected or forged (MUST-63, OPS-33).
    OurOwnSource,
    /// Source is the broadcast or network address of a network of ours, which no host has (MUST-63).
    BroadcastSource,
    /// Neither TCP nor ICMP (ICMP-14).
    UnknownProtocol,
    /// Its TTL or hop limit was 0: no host may send that (IP-4).
    TtlZero,
    /// An ICMP message that we neither answer nor use (ICMP-15).
    IcmpUnknown,
    /// An ICMP error that quotes no connection of ours (ICMP-1).
    IcmpNoConnection,
    /// An ICMP error that quotes nothing that is in flight (ICMP-2).
    IcmpNotInFlight,
    /// An ICMP message that names a size which no path has, or which is no less than what is in use (ICMP-7).
    IcmpAbsurdSize,
    /// Echo request over the rate limit (IP-17).
    IcmpRateLimited,
    /// A segment of no connection that may not be answered: a RST (SM-LIS-1, SM-GEN-4).
    NoConnection,
    /// A segment that would be answered with a RST, from a source that had many.
    ResetRateLimited,
    /// SYN refused because too many connections of its listener, of its source or of all are half open, and it is not
    /// answered with a cookie.
    BacklogFull,
    /// SYN, or what completes a handshake, refused because the listener's service takes no more connections for now.
    AcceptQueueFull,
    /// Refused because the shard has no room for another connection or no memory to answer.
    NoRoom,
    /// A SYN whose bucket was given back and taken by another shard while it waited: the peer sends it again.
    NotOwner,
    /// Segment for a TIME-WAIT record that had no claim to an answer (SM-TW-4, SM-TW-5a to 5e).
    TimeWait,
    /// A RST or challenge ACK found the tx ring full.
    TxRingFull,
    /// The device refused a frame of ours.
    DeviceRefused,
    /// Fragments that overlap or contradict each other (IP-8, IP-9); readers put them together.
    FragmentOverlap,
    /// A fragment of no size that fragments have, or with wrong headers (IP-10).
    FragmentOdd,
    /// A first fragment that lacks headers, or another one with some of a TCP header (IP-11, IP-12).
    FragmentTiny,
    /// Fragments of packets that were not complete in time, or made way for others (IP-6, IP-7).
    FragmentUnfinished,
}

impl DropReason {
    const OWN: [Self; 23] = [
        Self::NotOurAddress,
        Self::OurOwnSource,
        Self::BroadcastSource,
        Self::UnknownProtocol,
        Self::TtlZero,
        Self::IcmpUnknown,
        Self::IcmpNoConnection,
        Self::IcmpNotInFlight,
        Self::IcmpAbsurdSize,
        Self::IcmpRateLimited,
        Self::NoConnection,
        Self::ResetRateLimited,
        Self::BacklogFull,
        Self::AcceptQueueFull,
        Self::NoRoom,
        Self::NotOwner,
        Self::TimeWait,
        Self::TxRingFull,
        Self::DeviceRefused,
        Self::FragmentOverlap,
        Self::FragmentOdd,
        Self::FragmentTiny,
        Self::FragmentUnfinished,
    ];

    /// Those that readers count, in the order of [`Unjoined`](crate::steering::Unjoined).
    pub const OF_FRAGMENTS: [Self; 4] =
        [Self::FragmentOverlap, Self::FragmentOdd, Self::FragmentTiny, Self::FragmentUnfinished];

    /// Segments with a wrong checksum.
    pub const TCP_CHECKSUM: Self = Self::Malformed(Malformed::TcpChecksum);

    /// Segments that are malformed, whatever the packet around them.
    pub const OF_SEGMENTS: [Self; 4] = [
        Self::Malformed(Malformed::TcpTruncated),
        Self::Malformed(Malformed::TcpDataOffset),
        Self::TCP_CHECKSUM,
        Self::Malformed(Malformed::TcpOption),
    ];

    /// How many reasons there are.
    pub const COUNT: usize = Malformed::COUNT + Self::OWN.len();

    /// All reasons, in the order of their counters.
    pub fn all() -> impl Iterator<Item = Self> {
        Malformed::ALL.iter().copied().map(Self::Malformed).chain(Self::OWN)
    }

    /// Place of this reason among the counters.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Malformed(malformed) => malformed.index(),
            own => Malformed::COUNT + Self::OWN.iter().position(|reason| *reason == own).unwrap_or(0),
        }
    }

    /// The reason's name, as reports print it.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Malformed(malformed) => malformed.name().to_owned(),
            own => format!("{own:?}"),
        }
    }
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Counters {
    /// Counts what is rare of what a segment or a timer has meant: steps of loss recovery, and octets refused, whose
    /// number is asked for only then.
    #[inline]
    pub(super) fn note_events(&mut self, events: Events, refused: impl FnOnce() -> u32) {
        const SOME: [Events; 7] = [
            Events::TIMEOUT,
            Events::FAST_RETRANSMIT,
            Events::PROBE,
            Events::REORDERING_TIMEOUT,
            Events::DSACK,
            Events::UNDONE,
            Events::SPURIOUS_TIMEOUT,
        ];
        let any = SOME.iter().fold(Events::REFUSED, |any, event| any | *event);
        if !events.intersects(any) {
            return;
        }
        if events.contains(Events::REFUSED) {
            self.payload_refused += u64::from(refused());
        }
        let cells = [
            &mut self.retransmission_timeouts,
            &mut self.fast_recoveries,
            &mut self.tail_probes,
            &mut self.reordering_timeouts,
            &mut self.dsacks_in,
            &mut self.undone_recoveries,
            &mut self.spurious_timeouts,
        ];
        for (event, cell) in SOME.into_iter().zip(cells) {
            *cell += u64::from(events.contains(event));
        }
    }

    /// Counts so many pieces of work in this turn.
    #[inline]
    pub(crate) fn note_work(&mut self, work: Work, pieces: usize) {
        // No store in most turns.
        let most = &mut self.most_in_a_turn[work as usize];
        if pieces as u64 > *most {
            *most = pieces as u64;
        }
    }

    /// Counts a turn that took so long.
    pub(crate) fn note_turn(&mut self, took: Duration) {
        self.turns += 1;
        self.turn_nanos = self.turn_nanos.saturating_add(took.as_nanos());
        self.turn_times[magnitude(took).min(TURN_TIMES - 1)] += 1;
        self.longest_turn = self.longest_turn.max(took.as_nanos());
    }

    /// Counts a round trip of a connection.
    pub(super) fn note_round_trip(&mut self, time: Duration) {
        self.round_trip_nanos = self.round_trip_nanos.saturating_add(time.as_nanos());
        self.round_trips[magnitude(time).min(ROUND_TRIPS - 1)] += 1;
    }

    /// Most pieces of that work that one turn did.
    #[must_use]
    pub fn most_in_a_turn(&self, work: Work) -> u64 {
        self.most_in_a_turn[work as usize]
    }

    /// Counts one dropped packet.
    pub(crate) fn drop_packet(&mut self, reason: DropReason) {
        self.drops[reason.index()] += 1;
    }

    /// Packets dropped for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason.index()]
    }

    /// All packets dropped.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }
}

/// The least i of which 2^i us are more.
fn magnitude(time: Duration) -> usize {
    (u64::BITS - (time.as_nanos() / 1_000).leading_zeros()) as usize
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counters = f.debug_struct("Counters");
        for (name, value) in self.named().filter(|(_, value)| *value != 0) {
            counters.field(name, &value);
        }
        if self.dropped_total() != 0 {
            counters.field("drops", &Counted(|| DropReason::all().zip(self.drops)));
        }
        if self.most_in_a_turn.iter().any(|most| *most != 0) {
            counters.field("most_in_a_turn", &Counted(|| Work::ALL.into_iter().zip(self.most_in_a_turn)));
        }
        if self.turn_times.iter().any(|turns| *turns != 0) {
            counters.field("turn_times", &Counted(|| (0..).map(Below).zip(self.turn_times)));
            counters.field("longest_turn", &Duration::from_nanos(self.longest_turn));
        }
        if self.round_trips.iter().any(|trips| *trips != 0) {
            counters.field("round_trips", &Counted(|| (0..).map(Below).zip(self.round_trips)));
        }
        counters.finish()
    }
}

/// All of them by name, zeros included: counters and gauges as numbers, those by reason or kind as maps, and turns and
/// round trips by their time as lists.
#[cfg(feature = "serde")]
impl serde::Serialize for Counters {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.named() {
            map.serialize_entry(name, &value)?;
        }
        let drops: std::collections::BTreeMap<_, _> = DropReason::all().map(DropReason::name).zip(self.drops).collect();
        map.serialize_entry("drops", &drops)?;
        let most: std::collections::BTreeMap<_, _> =
            Work::ALL.into_iter().map(Work::name).zip(self.most_in_a_turn).collect();
        map.serialize_entry("most_in_a_turn", &most)?;
        map.serialize_entry("turn_times", &self.turn_times)?;
        map.serialize_entry("round_trips", &self.round_trips)?;
        map.serialize_entry("longest_turn", &self.longest_turn)?;
        map.end()
    }
}

/// Names and numbers, without those that are zero.
struct Counted<F>(F);

impl<K: fmt::Debug, I: Iterator<Item = (K, u64)>, F: Fn() -> I> fmt::Debug for Counted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries((self.0)().filter(|(_, count)| *count != 0)).finish()
    }
}

/// A class of turns or round trips, by the time that they took less than.
struct Below(usize);

const _: () = assert!(ROUND_TRIPS == TURN_TIMES, "their last classes are told alike");

impl fmt::Debug for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 + 1 == TURN_TIMES {
            return f.write_str("more");
        }
        write!(f, "<{:?}", Duration::from_micros(1 << self.0))
    }
}

/// The shared copy of one shard's counters: written by its owner with relaxed stores, read by anybody.
pub struct PublishedCounters {
    cells: Box<[AtomicU64]>,
}

impl fmt::Debug for PublishedCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublishedCounters").field(&self.read()).finish()
    }
}

impl Default for PublishedCounters {
    fn default() -> Self {
        Self { cells: (0..Counters::CELLS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl PublishedCounters {
    /// Makes `counters` visible to readers.
    pub fn publish(&self, counters: &Counters) {
        counters.store(&self.cells);
    }

    /// What was last published. The figures are read one by one: a snapshot, not an instant.
    #[must_use]
    pub fn read(&self) -> Counters {
        Counters::load(&self.cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_counters_come_back_as_they_were() {
        let mut counters = Counters { packets_in: 7, parks: 9, ..Counters::default() };
        counters.drop_packet(Malformed::IpTruncated.into());
        counters.drop_packet(DropReason::DeviceRefused);
        counters.note_work(Work::Places, 5);
        counters.note_turn(Duration::from_micros(3));
        counters.note_round_trip(Duration::from_micros(300));
        let published = PublishedCounters::default();
        published.publish(&counters);
        assert_eq!(published.read(), counters);
        assert_eq!(published.read().dropped_total(), 2);
    }

    #[test]
    fn debug_names_what_was_counted_and_nothing_else() {
        let mut counters = Counters::default();
        assert_eq!(format!("{counters:?}"), "Counters");
        counters.packets_in = 7;
        counters.drop_packet(Malformed::IpTruncated.into());
        counters.drop_packet(DropReason::DeviceRefused);
        counters.note_work(Work::Places, 5);
        counters.note_turn(Duration::from_micros(3));
        counters.note_turn(Duration::from_secs(3));
        let text = "Counters { packets_in: 7, turns: 2, turn_nanos: 3000003000, \
                    drops: {Malformed(IpTruncated): 1, DeviceRefused: 1}, \
                    most_in_a_turn: {Places: 5}, turn_times: {<4µs: 1, more: 1}, longest_turn: 3s }";
        assert_eq!(format!("{counters:?}"), text);
    }

    #[test]
    fn turns_are_counted_by_the_magnitude_of_their_time() {
        let mut counters = Counters::default();
        for (nanos, class) in [(0, 0), (999, 0), (1_000, 1), (1_999, 1), (2_000, 2), (1_000_000, 10), (u64::MAX, 22)] {
            let before = counters.turn_times[class];
            counters.note_turn(Duration::from_nanos(nanos));
            assert_eq!(counters.turn_times[class], before + 1, "{nanos}");
        }
        assert_eq!((counters.turns, counters.longest_turn), (7, u64::MAX));
    }

    #[test]
    fn of_maxima_the_larger_stays_and_the_rest_adds_up() {
        let (mut one, mut other) = (Counters::default(), Counters::default());
        one.note_work(Work::Mail, 7);
        one.note_work(Work::Mail, 3);
        other.note_work(Work::Mail, 5);
        other.note_work(Work::Timers, 9);
        one.note_turn(Duration::from_micros(5));
        other.note_turn(Duration::from_micros(5));
        one.note_round_trip(Duration::from_micros(9));
        other.note_round_trip(Duration::from_micros(10));
        one.add(&other);
        assert_eq!((one.round_trips[4], one.round_trip_nanos), (2, 19_000));
        assert_eq!((one.most_in_a_turn(Work::Mail), one.most_in_a_turn(Work::Timers)), (7, 9));
        assert_eq!((one.turns, one.turn_times[3], one.longest_turn), (2, 2, 5_000));
        assert!(Work::ALL.iter().enumerate().all(|(index, work)| *work as usize == index));
    }

    #[test]
    fn every_drop_reason_has_its_own_cell() {
        for (index, reason) in DropReason::all().enumerate() {
            assert_eq!(reason.index(), index, "{reason:?}");
        }
        assert_eq!(DropReason::all().count(), DropReason::COUNT);
    }

    #[test]
    fn rare_events_are_counted_by_kind() {
        let mut counters = Counters::default();
        counters.note_events(Events::PREDICTED | Events::DUPLICATE_ACK, || 9);
        assert_eq!(counters, Counters::default());
        counters.note_events(Events::DSACK | Events::UNDONE | Events::SPURIOUS_TIMEOUT, || 9);
        counters.note_events(Events::DSACK | Events::FAST_RETRANSMIT, || 9);
        counters.note_events(Events::TIMEOUT, || 9);
        counters.note_events(Events::PROBE | Events::REORDERING_TIMEOUT, || 9);
        counters.note_events(Events::REFUSED | Events::OUT_OF_ORDER, || 700);
        counters.note_events(Events::REFUSED | Events::DSACK, || 7);
        let expected = Counters {
            dsacks_in: 3,
            payload_refused: 707,
            undone_recoveries: 1,
            spurious_timeouts: 1,
            fast_recoveries: 1,
            retransmission_timeouts: 1,
            tail_probes: 1,
            reordering_timeouts: 1,
            ..Counters::default()
        };
        assert_eq!(counters, expected);
    }
}
