//! Every tunable of the TCP core, with unit, default and reason.
//!
//! Only values belong here; their bounds, and how text sets them, are in [`settings`](crate::tcp::settings). One
//! `Config` is shared by all connections of a shard and handed into each call, so a connection carries no copy of it;
//! what an application may change per connection is a method of [`Connection`](crate::tcp::Connection).

use crate::tcp::base::algorithm::CongestionControl;
use crate::tcp::base::time::Duration;
use crate::tcp::base::units::LARGEST_WINDOW;

/// First size and ceiling of one auto-tuned buffer, in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferLimits {
    /// Size at the start of a connection.
    pub initial: u32,
    /// Size that auto-tuning never exceeds.
    pub max: u32,
}

/// Bounds of the retransmission timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtoLimits {
    /// RTO before the first sample (RFC6298-2.1). Default: 1s.
    pub initial: Duration,
    /// Floor of the RTO: what is added to SRTT at least, in the place of the clock granularity G of the RFC. RFC 6298
    /// 2.4 says 1 s; 200 ms is the deliberate and common deviation (OPS-1; TCP_RTO_MIN of Linux). Default: 200ms.
    pub min: Duration,
    /// Ceiling of the RTO, backed off or not, and of the interval between window probes (RFC6298-2.5;
    /// net.ipv4.tcp_rto_max_ms). Default: 120s.
    pub max: Duration,
}

impl Default for RtoLimits {
    fn default() -> Self {
        Self { initial: Duration::from_secs(1), min: Duration::from_millis(200), max: Duration::from_secs(120) }
    }
}

/// When a silent connection is probed and given up (MUST-27).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence of the peer before the first probe (MUST-28; net.ipv4.tcp_keepalive_time). Default: 2h.
    pub idle: Duration,
    /// From one unanswered probe to the next (OPS-40; net.ipv4.tcp_keepalive_intvl). Default: 75s.
    pub interval: Duration,
    /// The connection ends when as many probes went unanswered (net.ipv4.tcp_keepalive_probes). Fewer than 2 mean 2
    /// (MUST-29: never one alone). Default: 9.
    pub count: u8,
}

impl Default for KeepAlive {
    /// Two hours (MUST-28), then nine probes 75 s apart: as Linux has it.
    fn default() -> Self {
        Self { idle: Duration::from_secs(7_200), interval: Duration::from_secs(75), count: 9 }
    }
}

/// Settings of the TCP core. `Config::default()` is what the engine runs with; set others by struct update, or by their
/// names as text ([`Config::set`]). Bounds are in [`Config::keys`], and [`Config::validate`] checks them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Offer and accept timestamps (RFC 7323 3; net.ipv4.tcp_timestamps). They bring PAWS and samples from
    /// retransmitted data. Default: on.
    pub timestamps: bool,
    /// Drop a segment without timestamps on a connection that negotiated them (RFC7323-3.2b, a SHOULD). Switch it off
    /// for peers or middleboxes that lose the option on some segments. Default: on.
    pub strict_timestamps: bool,
    /// Offer and accept SACK (RFC 2018; net.ipv4.tcp_sack): we then report what we hold out of order, and duplicates
    /// (RFC 2883). Default: on.
    pub sack: bool,
    /// Find losses by time (RACK, RFC 8985; net.ipv4.tcp_recovery) on connections with SACK; else by the counts of
    /// RFC 6675. Default: on.
    pub rack: bool,
    /// Probe for the loss of a tail after two round trips of silence (TLP, RFC 8985 7; net.ipv4.tcp_early_retrans).
    /// Needs
    /// `rack`. Default: on.
    pub tlp: bool,
    /// Reduce the flight in proportion to what arrives during a recovery (PRR, RFC 9937); else to the threshold at once
    /// (RFC 6675). Default: on.
    pub prr: bool,
    /// Find timeouts that were only delays, and undo them (F-RTO, RFC 5682; net.ipv4.tcp_frto). Default: on.
    pub frto: bool,
    /// Find by timestamps that a recovery was needless, and undo it (Eifel, RFC 3522). Needs `timestamps`. Default: on.
    pub eifel: bool,
    /// Learn from reports of what arrived twice (RFC 2883, RFC 3708; net.ipv4.tcp_dsack is about sending them).
    /// Default: on.
    pub dsack: bool,
    /// Offer and accept window scaling (RFC 7323 2; net.ipv4.tcp_window_scaling). The shift follows from
    /// `recv_buffer.max` (OPS-17). Default: on.
    pub window_scale: bool,

    /// Bounds of the retransmission timeout.
    pub rto: RtoLimits,
    /// How long an active open retransmits its SYN before it fails (MUST-23 asks for at least 3 min;
    /// net.ipv4.tcp_syn_retries counts instead). Default: 180s.
    pub connect_timeout: Duration,
    /// Repetitions of a SYN after which an active open fails, if `connect_timeout` has not ended it before
    /// (net.ipv4.tcp_syn_retries, where 6 is 127 s: less than MUST-23 asks for). Zero means that time alone counts.
    /// Default: 0.
    pub syn_retries: u8,
    /// Retransmissions of a SYN-ACK before a half-open entry is dropped (OPS-3; net.ipv4.tcp_synack_retries).
    /// Default: 5.
    pub syn_ack_retries: u8,
    /// R2 (MUST-20, SHLD-11, OPS-2; net.ipv4.tcp_retries2 counts instead): with data unacknowledged for this long the
    /// connection ends with [`CloseReason::TimedOut`](crate::tcp::CloseReason::TimedOut). Zero means never.
    /// Default: 15min.
    pub retransmit_limit: Duration,
    /// Timeouts in a row, without progress, whose retransmissions are waited for; the next one ends the connection, if
    /// `retransmit_limit` has not before (R2 as a count, MUST-20, OPS-2; net.ipv4.tcp_retries2, where 15 is about
    /// 15 min). A user timeout takes its place, and a closed window does not count. Zero means that time alone counts.
    /// Default: 0.
    pub data_retries: u8,
    /// User timeout of new connections (MUST-21; TCP_USER_TIMEOUT of Linux), see
    /// [`Connection::set_user_timeout`](crate::tcp::Connection::set_user_timeout). Zero means none. Default: 0.
    pub user_timeout: Duration,
    /// R2 once the user has closed the connection, if it is shorter than what else counts; answers to window probes do
    /// not put it off (OPS-22; net.ipv4.tcp_orphan_retries counts instead). Zero means never. Default: 100s.
    pub orphan_timeout: Duration,
    /// Keep-alive on new connections (MUST-24, MUST-25). Default: off.
    pub keepalive: bool,
    /// Its probes, whether it is on or not.
    pub keepalive_probes: KeepAlive,

    /// Longest delay of an acknowledgment (MUST-40 asks for less than 500 ms; OPS-5). Default: 40ms.
    pub delayed_ack: Duration,
    /// Segments acknowledged at once at the start and after an irregularity (OPS-6). Default: 16.
    pub quick_acks: u8,
    /// Nagle's algorithm on new connections (SHLD-7). The variant is Minshall's (RFC 9293 A.3): a small segment waits
    /// only while an earlier *small* one is unacknowledged. Default: on.
    pub nagle: bool,
    /// How long a sender keeps back a small segment for a larger window (SWS-4 allows 0.1 to 1 s). Default: 200ms.
    pub sws_override: Duration,

    /// Receive buffer: first size and ceiling (net.ipv4.tcp_rmem). Default: 128k..6M.
    pub recv_buffer: BufferLimits,
    /// Grow receive buffers by the rate at which the application reads (OPS-15; net.ipv4.tcp_moderate_rcvbuf).
    /// Default: on.
    pub recv_auto_tuning: bool,
    /// Send buffer: first size and ceiling (net.ipv4.tcp_wmem). Default: 256k..4M.
    pub send_buffer: BufferLimits,
    /// Grow send buffers to about two congestion windows (OPS-16). Default: on.
    pub send_auto_tuning: bool,
    /// Initial congestion window in segments (RFC6928-2a caps it at `max(2 * MSS, 14600)` octets as well; OPS-10).
    /// Default: 10.
    pub initial_window: u8,
    /// Begin anew with the initial window after an RTO without sending (RFC5681-4.1, OPS-10;
    /// net.ipv4.tcp_slow_start_after_idle). Default: on.
    pub slow_start_after_idle: bool,
    /// Congestion control of new connections (net.ipv4.tcp_congestion_control). Default: cubic.
    pub congestion: CongestionControl,
    /// HyStart++: leave the first slow start when the round trip grows, not only at a loss (RFC 9406). Default: on.
    pub hystart: bool,

    /// Length of TIME-WAIT. Two MSL are 4 min by MUST-13; 60 s is the deliberate and common deviation. Default: 60s.
    pub time_wait: Duration,
    /// How long a connection nobody reads any more waits in FIN-WAIT-2 (SM-FW2-5; net.ipv4.tcp_fin_timeout).
    /// Default: 60s.
    pub fin_wait2: Duration,
    /// Least time between two challenge acknowledgments of one connection (SM-GEN-7, OPS-23;
    /// net.ipv4.tcp_invalid_ratelimit). Zero means no limit. Default: 500ms.
    pub challenge_interval: Duration,
    /// Smallest send MSS honoured: a peer that names a smaller one gets this (OPS-25, CVE-2019-11479;
    /// net.ipv4.tcp_min_snd_mss). Default: 88.
    pub min_mss: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timestamps: true,
            strict_timestamps: true,
            sack: true,
            rack: true,
            tlp: true,
            prr: true,
            frto: true,
            eifel: true,
            dsack: true,
            window_scale: true,
            rto: RtoLimits::default(),
            connect_timeout: Duration::from_secs(180),
            syn_retries: 0,
            syn_ack_retries: 5,
            retransmit_limit: Duration::from_secs(15 * 60),
            data_retries: 0,
            user_timeout: Duration::ZERO,
            orphan_timeout: Duration::from_secs(100),
            keepalive: false,
            keepalive_probes: KeepAlive::default(),
            delayed_ack: Duration::from_millis(40),
            quick_acks: 16,
            nagle: true,
            sws_override: Duration::from_millis(200),
            recv_buffer: BufferLimits { initial: 128 * 1024, max: 6 * 1024 * 1024 },
            recv_auto_tuning: true,
            send_buffer: BufferLimits { initial: 256 * 1024, max: 4 * 1024 * 1024 },
            send_auto_tuning: true,
            initial_window: 10,
            slow_start_after_idle: true,
            congestion: CongestionControl::Cubic,
            hystart: true,
            time_wait: Duration::from_secs(60),
            fin_wait2: Duration::from_secs(60),
            challenge_interval: Duration::from_millis(500),
            min_mss: 88,
        }
    }
}

impl Config {
    /// Initial congestion window in octets for segments of `mss` octets: `initial_window` of them, fewer when they are
    /// large (RFC6928-2a, if it is 10: `min(10 * MSS, max(2 * MSS, 14600))`).
    #[must_use]
    pub fn initial_cwnd(&self, mss: u32) -> u32 {
        let segments = u32::from(self.initial_window.max(1));
        let wanted = mss.saturating_mul(segments);
        let ceiling = mss.saturating_mul(2).max(segments * 1_460);
        wanted.min(ceiling).max(mss).min(LARGEST_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6928_2a_initial_window() {
        let octets = |mss, initial_window| Config { initial_window, ..Config::default() }.initial_cwnd(mss);
        assert_eq!(octets(1_460, 10), 14_600);
        assert_eq!(octets(536, 10), 5_360);
        assert_eq!(octets(1_448, 10), 14_480);
        assert_eq!(octets(8_960, 10), 17_920, "two jumbo segments");
        assert_eq!(octets(9_000, 10), 18_000);
        assert_eq!(octets(4_000, 10), 14_600);
        assert_eq!(octets(1_000, 1), 1_000, "RFC5681-3.1c: one segment");
        assert_eq!(octets(u32::MAX, u8::MAX), LARGEST_WINDOW);
    }
}
