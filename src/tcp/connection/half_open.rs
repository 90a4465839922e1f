//! A passive open at rest: what a listener keeps of a [`Handshake`] between two segments, in 48 octets.
//!
//! It has no behaviour: it is unpacked for each segment and each timeout, and packed again.

use super::{FirstWindow, Handshake, Wishes};
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::state::State;
use crate::tcp::base::time::Instant;
use crate::tcp::base::timestamp::Timestamp;
use crate::tcp::base::units::UnscaledWindow;
use crate::tcp::connection::challenge::Limiter;

const TIMESTAMPS: u8 = 1 << 4;
const SACK: u8 = 1 << 5;
const DUE: u8 = 1 << 6;
const AMBIGUOUS: u8 = 1 << 7;
/// The first window lies above the number of timeouts, of which there are a few.
const WINDOW_SHIFT: u32 = 6;
const TIMEOUTS: u8 = (1 << WINDOW_SHIFT) - 1;
/// In the lower four bits: the peer's shift, at most 14 (RFC7323-2.3b), or this.
const NO_SHIFT: u8 = 15;

/// What a listener keeps of one handshake between two segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfOpen {
    sent_at: Instant,
    /// [`Instant::MAX`]: nothing was sent yet.
    deadline: Instant,
    challenge: Limiter,
    iss: SeqNum,
    irs: SeqNum,
    ts_offset: u32,
    ts_recent: Timestamp,
    peer_window: UnscaledWindow,
    mss: u16,
    peer_mss: u16,
    timeouts: u8,
    bits: u8,
}

impl HalfOpen {
    /// What is to be kept of `handshake`; `None` if it is no passive open in SYN-RECEIVED.
    #[must_use]
    pub fn pack(handshake: &Handshake) -> Option<Self> {
        if handshake.state != State::SynReceived || !handshake.passive {
            return None;
        }
        debug_assert_eq!(handshake.started, handshake.sent_at);
        debug_assert_eq!(handshake.scale, handshake.peer_shift.is_some());
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        Some(Self {
            sent_at: handshake.sent_at,
            deadline: handshake.deadline.unwrap_or(Instant::MAX),
            challenge: handshake.challenge,
            iss: handshake.iss,
            irs: handshake.irs,
            ts_offset: handshake.ts_offset,
            ts_recent: handshake.ts_recent,
            peer_window: handshake.peer_window,
            mss: handshake.mss,
            peer_mss: handshake.peer_mss,
            timeouts: handshake.timeouts.min(TIMEOUTS) | (handshake.first_window as u8) << WINDOW_SHIFT,
            bits: handshake.peer_shift.unwrap_or(NO_SHIFT)
                | flag(handshake.timestamps, TIMESTAMPS)
                | flag(handshake.sack, SACK)
                | flag(handshake.due, DUE)
                | flag(handshake.ambiguous, AMBIGUOUS),
        })
    }

    /// The handshake as it was, but for [`Wishes`]: those are the listener's.
    #[must_use]
    pub fn unpack(&self) -> Handshake {
        let has = |bit: u8| self.bits & bit != 0;
        let shift = self.bits & NO_SHIFT;
        let peer_shift = (shift != NO_SHIFT).then_some(shift);
        Handshake {
            iss: self.iss,
            irs: self.irs,
            ts_offset: self.ts_offset,
            ts_recent: self.ts_recent,
            peer_window: self.peer_window,
            mss: self.mss,
            peer_mss: self.peer_mss,
            state: State::SynReceived,
            passive: true,
            due: has(DUE),
            timestamps: has(TIMESTAMPS),
            sack: has(SACK),
            peer_shift,
            scale: peer_shift.is_some(),
            first_window: FirstWindow::ALL[usize::from(self.timeouts >> WINDOW_SHIFT)],
            wishes: Wishes::default(),
            timeouts: self.timeouts(),
            syn_retries: None,
            hastened: 0,
            hastens: false,
            ambiguous: has(AMBIGUOUS),
            challenge: self.challenge,
            started: self.sent_at,
            sent_at: self.sent_at,
            deadline: (self.deadline != Instant::MAX).then_some(self.deadline),
        }
    }

    /// When [`Handshake::on_timeout`] is to be called; [`Instant::MAX`] before the first SYN-ACK is out.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How often the SYN-ACK was repeated because the timer fired.
    #[must_use]
    pub fn timeouts(&self) -> u8 {
        self.timeouts & TIMEOUTS
    }

    /// Whether a SYN-ACK is to be sent.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.bits & DUE != 0
    }

    /// Whether `ack` acknowledges our SYN.
    #[must_use]
    pub fn is_acked_by(&self, ack: SeqNum) -> bool {
        ack == self.iss + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::{Config, Duration, OpenParams, Segment};
    use crate::wire::options::{TcpOptions, Timestamps};
    use crate::wire::tcp::Flags;
    use proptest::prelude::*;

    #[test]
    fn rfc4987_3_5_a_half_open_record_takes_48_octets() {
        assert_eq!(size_of::<HalfOpen>(), 48);
    }

    fn segment(flags: u8, seq: u32, ack: u32, stamps: Option<(u32, u32)>) -> Segment {
        let timestamps = stamps.map(|(val, ecr)| Timestamps { val, ecr });
        let options = TcpOptions { timestamps, ..TcpOptions::default() };
        Segment {
            seq: SeqNum(seq),
            ack: SeqNum(ack),
            flags: Flags(flags),
            window: UnscaledWindow(9),
            urgent: 0,
            options,
            len: 0,
        }
    }

    proptest! {
        /// Whatever segments and timeouts did to it before.
        #[test]
        fn packing_and_unpacking_a_half_open_record_is_the_identity(
            (iss, irs, ts_offset) in any::<(u32, u32, u32)>(),
            (mss, window) in any::<(u16, u16)>(),
            (peer_mss, window_scale, sack_permitted) in any::<(Option<u16>, Option<u8>, bool)>(),
            (stamp, ipv6, ours) in any::<(Option<u32>, bool, [bool; 5])>(),
            events in proptest::collection::vec(
                (0_u64..200_000, any::<u8>(), -3_i32..9, -2_i32..3, any::<Option<u32>>(), 0_u8..4), 0..12),
        ) {
            let config =
                Config { timestamps: ours[0], sack: ours[1], window_scale: ours[2], ..Config::default() };
            let params = OpenParams { iss: SeqNum(iss), ts_offset, mss, peer_mss: if ipv6 { 1_220 } else { 536 }, first_window: FirstWindow::ALL[2 * usize::from(ours[3]) + usize::from(ours[4])] };
            let timestamps = stamp.map(|val| Timestamps { val, ecr: 0 });
            let mut syn = segment(2, irs, 0, None);
            syn.window = UnscaledWindow(window);
            syn.options = TcpOptions { mss: peer_mss, window_scale, sack_permitted, timestamps, ..TcpOptions::default() };
            let mut now = Instant::from_secs(3);
            let mut handshake = Handshake::accept(&config, params, &syn, now);
            for (millis, flags, seq, ack, stamp, what) in events {
                let packed = HalfOpen::pack(&handshake);
                let Some(packed) = packed else { break };
                prop_assert_eq!(&packed.unpack(), &handshake);
                prop_assert_eq!(HalfOpen::pack(&packed.unpack()), Some(packed));
                prop_assert_eq!(packed.is_due(), handshake.wants_transmit());
                prop_assert_eq!(packed.deadline(), handshake.next_timeout().unwrap_or(Instant::MAX));
                now += Duration::from_millis(millis);
                let (seq, ack) = (irs.wrapping_add_signed(seq), iss.wrapping_add_signed(ack));
                match what {
                    0 => drop(handshake.poll_transmit(&config, now)),
                    1 => drop(handshake.on_timeout(&config, now)),
                    _ => drop(handshake.on_segment(&config, &segment(flags, seq, ack, stamp.map(|s| (s, 0))), now)),
                }
            }
        }
    }
}
