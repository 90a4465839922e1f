//! A snapshot of a connection for observers (OPS-50).
//!
//! Plain values; nothing in the core reads them back.

use core::ops::AddAssign;

use crate::tcp::base::algorithm::CongestionControl;
use crate::tcp::base::state::State;
use crate::tcp::base::time::{Duration, Instant};
use crate::wire::icmp::Unreachable;

/// What there is to know about a connection at one moment.
///
/// The names of Linux's `tcp_info` for it, without `tcpi_`; what counts segments there counts octets here:
///
/// | here | there |
/// | --- | --- |
/// | `state`, `loss_state` | `state`, `ca_state` |
/// | `retransmits`, `backoffs`, `probes` | `total_retrans`, `backoff`, `probes` |
/// | `srtt`, `rttvar`, `min_rtt`, `rto` | `rtt`, `rttvar`, `min_rtt`, `rto` |
/// | `cwnd`, `ssthresh`, `flight`, `sacked`, `lost` | `snd_cwnd`, `snd_ssthresh`, `unacked`, `sacked`, `lost` |
/// | `path_mtu` | `pmtu` |
/// | `mss`, `receive_mss`, `window_shifts` | `snd_mss`, `rcv_mss`, `snd_wscale` and `rcv_wscale` |
/// | `bytes_acked`, `bytes_received`, `bytes_sent` | `bytes_acked`, `bytes_received`, `bytes_sent` less `bytes_retrans` |
/// | `bytes_resent`, `resent` | `bytes_retrans`, `retrans` |
/// | `delivery_rate`, `delivery_app_limited` | `delivery_rate`, `delivery_rate_app_limited` |
/// | `busy`, `rwnd_limited`, `sndbuf_limited` | `busy_time`, `rwnd_limited`, `sndbuf_limited` |
/// | `reordering_seen` | `reord_seen`, of which there is a count |
/// | `not_sent`, `send_window`, `receive_window` | `notsent_bytes`, `snd_wnd`, `rcv_wnd` |
/// | `receive_buffer` | `rcv_space`, nearly |
/// | `recovery.dsacks` | `dsack_dups` |
/// | `last_sent`, `last_received` | `last_data_sent`, `last_ack_recv`, as points in time |
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct Info {
    /// Its state.
    pub state: State,
    /// Octets received in order, read or not.
    pub bytes_received: u64,
    /// Octets sent and acknowledged.
    pub bytes_acked: u64,
    /// Octets sent at least once.
    pub bytes_sent: u64,
    /// Octets sent again.
    pub bytes_resent: u64,
    /// Wire segments sent again.
    pub retransmits: u64,
    /// Times the retransmission timer fired in earnest; counted up to 65,535.
    pub timeouts: u64,
    /// Segments dropped because their timestamp was older than those of a second before (RFC7323-5.3a); counted up to
    /// 65,535.
    pub paws_drops: u64,
    /// What loss recovery has done.
    pub recovery: RecoveryCounts,
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
    /// Octets in the send store that were never sent.
    pub not_sent: u32,
    /// Octets in flight that count as lost and were not sent again yet.
    pub lost: u32,
    /// Octets in flight that the peer reports to hold.
    pub sacked: u32,
    /// Octets in flight that were sent again.
    pub resent: u32,
    /// Segments were delivered out of order, or later than expected (RFC 8985 6.2.3): detection allows for it.
    pub reordering_seen: bool,
    /// Octets a second that were acknowledged from the last acknowledgment before a segment left until its own; measured
    /// anew each round trip.
    pub delivery_rate: Option<u64>,
    /// There was nothing more to send when that segment left: the path may deliver more.
    pub delivery_app_limited: bool,
    /// How long there was something to send or in flight, also while one of the following held it back.
    pub busy: Duration,
    /// Of that, how long the peer's window held back what the congestion window would have let go.
    pub rwnd_limited: Duration,
    /// Of that, how long all was sent that the send buffer had room for, and the user waited for more room.
    pub sndbuf_limited: Duration,
    /// What limits the sender now.
    pub limited_by: SendLimit,
    /// What loss recovery is at.
    pub loss_state: LossState,
    /// How often the retransmission timeout was doubled since the last progress.
    pub backoffs: u32,
    /// Probes of a closed window since it closed.
    pub probes: u8,
    /// When data was sent last; when the connection began, if never.
    pub last_sent: Instant,
    /// When a segment was received last.
    pub last_received: Instant,
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
    /// Octets of the largest packet that the path is thought to carry, once something was found out of it; `None`: it is
    /// taken to carry what our own link does.
    pub path_mtu: Option<u16>,
    /// What ICMP last said of segments that did not arrive; it ends no connection by itself (MUST-47).
    pub soft_error: Option<Unreachable>,
    /// Payload octets of a full wire segment that the peer may send.
    pub receive_mss: u32,
    /// Timestamps are in use.
    pub timestamps: bool,
    /// SACK is in use.
    pub sack: bool,
    /// Window scaling is in use, with these shifts (of the peer, of ours).
    pub window_shifts: (u8, u8),
}

/// What limits a sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum SendLimit {
    /// Nothing: there is nothing to send.
    #[default]
    Idle,
    /// The congestion window, or the path: it sends as it may.
    Busy,
    /// The peer's window.
    ReceiveWindow,
    /// The size of the send buffer.
    SendBuffer,
}

/// What loss recovery of the sender is at; named as in Linux.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum LossState {
    /// Nothing is known to be missing.
    #[default]
    Open,
    /// Something arrived out of order, which may become a loss.
    Disorder,
    /// Fast recovery.
    Recovery,
    /// After a timeout.
    Loss,
}

/// How often loss recovery of the sender did what (OPS-50).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct RecoveryCounts {
    /// Fast recoveries: loss was found without a timeout.
    pub fast_recoveries: u32,
    /// ACKs that acknowledged a part of what a fast recovery was about.
    pub partial_acks: u32,
    /// Retransmissions that were lost themselves, found without a timeout (RFC 8985).
    pub lost_retransmissions: u32,
    /// Times the reordering timer of RACK fired (RFC 8985 6.2).
    pub reordering_timeouts: u32,
    /// Tail loss probes sent (RFC 8985 7).
    pub tail_probes: u32,
    /// Of these, the ones that repaired the loss of the tail without anything else telling of it.
    pub tail_losses: u32,
    /// Times a fast recovery had something to send and proportional rate reduction held it back (RFC 9937).
    pub rate_limited: u32,
    /// Reports of octets that arrived twice (RFC 2883).
    pub dsacks: u32,
    /// Timeouts undone because what was sent before arrived after all (F-RTO, RFC 5682).
    pub undone_by_frto: u32,
    /// Recoveries undone because a timestamp showed that the first copy arrived (Eifel, RFC 3522).
    pub undone_by_eifel: u32,
    /// Recoveries undone because all that was sent again arrived twice (RFC 3708).
    pub undone_by_dsack: u32,
    /// Times the peer had dropped what it had reported to hold (RFC 2018 8).
    pub reneged: u32,
}

impl AddAssign for RecoveryCounts {
    /// Sums over connections.
    fn add_assign(&mut self, other: Self) {
        self.fast_recoveries = self.fast_recoveries.saturating_add(other.fast_recoveries);
        self.partial_acks = self.partial_acks.saturating_add(other.partial_acks);
        self.lost_retransmissions = self.lost_retransmissions.saturating_add(other.lost_retransmissions);
        self.reordering_timeouts = self.reordering_timeouts.saturating_add(other.reordering_timeouts);
        self.tail_probes = self.tail_probes.saturating_add(other.tail_probes);
        self.tail_losses = self.tail_losses.saturating_add(other.tail_losses);
        self.rate_limited = self.rate_limited.saturating_add(other.rate_limited);
        self.dsacks = self.dsacks.saturating_add(other.dsacks);
        self.undone_by_frto = self.undone_by_frto.saturating_add(other.undone_by_frto);
        self.undone_by_eifel = self.undone_by_eifel.saturating_add(other.undone_by_eifel);
        self.undone_by_dsack = self.undone_by_dsack.saturating_add(other.undone_by_dsack);
        self.reneged = self.reneged.saturating_add(other.reneged);
    }
}
