//! What a handshake has settled.

use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::Duration;
use crate::wire::options::TIMESTAMPS_LEN;

/// What a handshake has settled: all that a [`Connection`](crate::tcp::Connection) begins with.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// Our initial sequence number.
    pub iss: SeqNum,
    /// The peer's.
    pub irs: SeqNum,
    /// Window of the peer in octets, scaled if the segment it came with was scaled.
    pub send_window: u32,
    /// SEG.SEQ of that segment (SND.WL1).
    pub window_seq: SeqNum,
    /// The segment that completes the handshake carries a SYN and is fed on without it: its window is not scaled.
    pub unscaled_rest: bool,
    /// Octets that the SYN or SYN-ACK advertised as our window.
    pub receive_window: u32,
    /// Memory is short: the receive buffer is no larger than that window.
    pub modest: bool,
    /// The MSS that we advertised.
    pub receive_mss: u16,
    /// The MSS that we may send (MUST-16), options not subtracted.
    pub send_mss: u16,
    /// Shifts (of the peer, of ours) when both offered window scaling.
    pub window_shifts: Option<(u8, u8)>,
    /// TSval of the peer, when both offered timestamps.
    pub timestamps: Option<u32>,
    /// What is added to our timestamp clock.
    pub ts_offset: u32,
    /// Both offered SACK.
    pub sack: bool,
    /// The round trip of the handshake, if it may be taken for a sample (RFC6298-3a).
    pub rtt: Option<Duration>,
    /// Retransmissions of our SYN or SYN-ACK.
    pub syn_timeouts: u8,
    /// We owe the peer an ACK of its SYN.
    pub ack_due: bool,
}

impl Opened {
    /// Octets of options on each segment.
    pub(super) fn options_len(&self) -> u16 {
        if self.timestamps.is_some() { TIMESTAMPS_LEN as u16 } else { 0 }
    }
}
