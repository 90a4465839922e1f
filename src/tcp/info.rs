//! A snapshot of a connection for observers (OPS-50).
//!
//! Plain values; nothing in the core reads them back.

use super::congestion::CongestionControl;
use super::state::State;
use super::time::Duration;

/// What there is to know about a connection at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Info {
    /// Its state.
    pub state: State,
    /// Octets received in order, read or not.
    pub bytes_received: u64,
    /// Octets sent and acknowledged.
    pub bytes_acked: u64,
    /// Octets sent at least once.
    pub bytes_sent: u64,
    /// Wire segments sent again.
    pub retransmits: u64,
    /// Times the retransmission timer fired in earnest.
    pub timeouts: u64,
    /// Smoothed round-trip time, once there was a sample.
    pub srtt: Option<Duration>,
    /// Its mean deviation.
    pub rttvar: Duration,
    /// Shortest round trip seen.
    pub min_rtt: Option<Duration>,
    /// Retransmission timeout, backoff included.
    pub rto: Duration,
    /// The algorithm that rules the window.
    pub congestion: CongestionControl,
    /// Congestion window, octets.
    pub cwnd: u32,
    /// Slow start threshold, octets; `u32::MAX` before the first loss.
    pub ssthresh: u32,
    /// Octets in flight.
    pub flight: u32,
    /// Octets in the send store, sent or not.
    pub queued: u32,
    /// Octets the send store may hold now.
    pub send_limit: u32,
    /// Window of the peer, octets.
    pub send_window: u32,
    /// Our window as advertised, octets.
    pub receive_window: u32,
    /// Our receive buffer, octets.
    pub receive_buffer: u32,
    /// Octets in order that the user has not read.
    pub unread: u32,
    /// Octets held out of order.
    pub held: u32,
    /// Payload octets of a full wire segment that we send.
    pub mss: u32,
    /// Timestamps are in use.
    pub timestamps: bool,
    /// SACK is in use.
    pub sack: bool,
    /// Window scaling is in use, with these shifts (of the peer, of ours).
    pub window_shifts: (u8, u8),
}
