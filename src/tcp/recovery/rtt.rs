//! Round-trip time and retransmission timeout (RFC 6298, RFC 7323 appendix G).
//!
//! Holds what is measured only. Which samples are valid (Karn's rule, RFC6298-3a) and when the timer runs is decided by
//! the connection.

use crate::tcp::base::config::RtoLimits;
use crate::tcp::base::info::Info;
use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::{Duration, Instant};

/// RFC 6298 5.7: the timeout to begin data with when the SYN had to be repeated.
const RTO_AFTER_SYN_TIMEOUT: Duration = Duration::from_secs(3);

/// No sample counts for more than this, whatever a clock or an echoed timestamp says.
const LONGEST_SAMPLE: Duration = Duration::from_secs(3_600);

/// How long the shortest round trip is believed (RFC8985-6.2.1).
const MIN_RTT_WINDOW_SECS: u32 = 300;

/// The round trip of one connection: the estimate, the shortest of late, and the segment that is being timed.
#[derive(Clone, Debug)]
pub(crate) struct Rtt {
    estimator: RttEstimator,
    /// The shortest of the last minutes; `Duration::MAX` before the first sample.
    min: Duration,
    /// When the segment being timed was sent; `Instant::MAX` while none is.
    timed_at: Instant,
    /// Number behind the last octet of that segment.
    timed_end: SeqNum,
    /// When `min` was measured, in seconds.
    min_at: u32,
}

/// What became of the segment being timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timed {
    /// There is none.
    None,
    /// It is not acknowledged yet.
    InFlight,
    /// It is acknowledged, after so long.
    Acked(Duration),
}

impl Rtt {
    /// What a handshake knows of the path: the sample it gave, if it gave one, and how often its timer fired.
    pub(crate) fn new(config: &RtoLimits, sample: Option<Duration>, syn_timeouts: u8, now: Instant) -> Self {
        let mut estimator = RttEstimator::new(config);
        match sample {
            Some(sample) => estimator.on_sample(config, sample, 1),
            None if syn_timeouts > 0 => estimator.on_syn_timed_out(),
            None => {}
        }
        let min = sample.unwrap_or(Duration::MAX);
        Self { estimator, min, timed_at: Instant::MAX, timed_end: SeqNum(0), min_at: (now.as_secs() as u32) }
    }

    /// The smoothed round trip, once there was a sample.
    #[inline]
    pub(crate) fn srtt(&self) -> Option<Duration> {
        self.estimator.srtt()
    }

    /// The shortest round trip of the last minutes; `Duration::MAX` before the first sample.
    #[inline]
    pub(crate) fn min(&self) -> Duration {
        self.min
    }

    /// The timeout for the timer that is started now (RFC 6298 2).
    #[inline]
    pub(crate) fn rto(&self, config: &RtoLimits) -> Duration {
        self.estimator.rto(config)
    }

    /// The segment that ends at `end` leaves. It is timed, if none is: one sample a round trip.
    #[inline]
    pub(crate) fn on_sent(&mut self, end: SeqNum, now: Instant) {
        if self.timed_at == Instant::MAX {
            (self.timed_at, self.timed_end) = (now, end);
        }
    }

    /// No segment is timed any more.
    pub(crate) fn stop_timing(&mut self) {
        self.timed_at = Instant::MAX;
    }

    /// What begins at `seq` leaves again: its acknowledgment will tell nothing (RFC6298-3a).
    pub(crate) fn on_resent(&mut self, seq: SeqNum) {
        if self.timed_end.gt(seq) {
            self.stop_timing();
        }
    }

    /// SND.UNA is `una`. A segment whose time is told is not timed any more.
    #[inline]
    pub(crate) fn take_timed(&mut self, una: SeqNum, now: Instant) -> Timed {
        if self.timed_at == Instant::MAX {
            return Timed::None;
        }
        if self.timed_end.gt(una) {
            return Timed::InFlight;
        }
        Timed::Acked(now - core::mem::replace(&mut self.timed_at, Instant::MAX))
    }

    /// Takes one valid sample in, which may be too short by `error`. `weight` as in [`RttEstimator::on_sample`].
    #[inline]
    pub(crate) fn on_sample(
        &mut self,
        config: &RtoLimits,
        sample: Duration,
        error: Duration,
        weight: u32,
        now: Instant,
    ) {
        // RFC8985-6.2.1: the least of a window, so that a path that became longer is believed in the end. Never less
        // than the path has, hence with the error of the clock.
        let least = sample + error;
        if least <= self.min || (now.as_secs() as u32).wrapping_sub(self.min_at) > MIN_RTT_WINDOW_SECS {
            self.min = least;
            self.min_at = now.as_secs() as u32;
        }
        self.estimator.on_sample(config, sample, weight);
    }

    /// How many times the timeout stands doubled.
    #[inline]
    pub(crate) fn backoffs(&self) -> u8 {
        self.estimator.backoffs()
    }

    /// The retransmission timer fired (RFC6298-5.5).
    pub(crate) fn back_off(&mut self, config: &RtoLimits) {
        self.estimator.back_off(config);
    }

    /// It fired in vain (RFC4015-3.1c).
    pub(crate) fn on_spurious_timeout(&mut self) {
        self.estimator.on_spurious_timeout();
    }

    /// Its part of what observers see.
    pub(crate) fn describe(&self, config: &RtoLimits, info: &mut Info) {
        info.srtt = self.estimator.srtt();
        info.rttvar = Duration::from_nanos(self.estimator.rttvar);
        info.min_rtt = Some(self.min).filter(|min| *min != Duration::MAX);
        info.rto = self.estimator.rto(config);
        info.backoffs = self.backoffs().into();
    }

    /// Whether the last timeout proved needless, and there was no sample since; for tests.
    #[cfg(test)]
    pub(crate) fn is_spurious(&self) -> bool {
        self.estimator.spurious
    }

    /// Forgets the shortest round trip, for tests.
    #[cfg(test)]
    pub(crate) fn forget_min(&mut self) {
        self.min = Duration::MAX;
    }
}

/// SRTT, RTTVAR and the timeout that follows from them.
#[derive(Clone, Debug)]
struct RttEstimator {
    /// Smoothed round-trip time in ns; 0 before the first sample.
    srtt: u64,
    /// Its mean deviation in ns.
    rttvar: u64,
    /// The timeout without backoff.
    base: Duration,
    /// How many times the timeout stands doubled (RFC6298-5.5).
    backoffs: u8,
    /// The last timeout was needless, and there was no sample since.
    spurious: bool,
}

impl RttEstimator {
    /// An estimator without samples: the timeout is `config.initial` (RFC6298-2.1).
    const fn new(config: &RtoLimits) -> Self {
        Self { srtt: 0, rttvar: 0, base: config.initial, backoffs: 0, spurious: false }
    }

    /// Takes one valid sample in and drops the backoff (RFC6298-2.2, 2.3, 5.7).
    ///
    /// `expected_samples` is how many samples one round trip gives, `ceil(FlightSize / (2 * SMSS))` where every ACK is
    /// timed (RFC7323-G), so that many samples do not shorten the memory of the filter. Pass 1 for one sample an RTT.
    fn on_sample(&mut self, config: &RtoLimits, rtt: Duration, expected_samples: u32) {
        // A zero sample is possible with a coarse clock; SRTT 0 is "no sample", hence at least 1 ns.
        let sample = rtt.min(LONGEST_SAMPLE).as_nanos().max(1);
        if self.srtt == 0 {
            self.srtt = sample;
            self.rttvar = sample / 2;
        } else if core::mem::take(&mut self.spurious) {
            // RFC4015-3.1c: the path has become as long as that at once.
            self.srtt = self.srtt.max(sample);
            self.rttvar = self.rttvar.max(sample / 2);
        } else {
            let expected = u64::from(expected_samples.max(1));
            // RTTVAR first: it uses the old SRTT.
            self.rttvar = approach(self.rttvar, self.srtt.abs_diff(sample), 4 * expected);
            self.srtt = approach(self.srtt, sample, 8 * expected).max(1);
        }
        let deviation = Duration::from_nanos(self.rttvar.saturating_mul(4));
        self.base = (Duration::from_nanos(self.srtt) + deviation.max(config.min)).min(config.max);
        self.backoffs = 0;
    }

    /// Doubles the timeout after an expiry (RFC6298-5.5), up to `config.max`. It stays doubled until a valid sample.
    fn back_off(&mut self, config: &RtoLimits) {
        if self.rto(config) < config.max {
            self.backoffs += 1;
        }
    }

    /// The timeout proved to be needless: the next sample counts in full, and the estimate does not sink by it
    /// (RFC4015-3.1c).
    fn on_spurious_timeout(&mut self) {
        self.spurious = true;
    }

    /// The handshake is over and its timer had fired: without a sample, begin at 3 s (RFC6298-5.7, OPS-4).
    fn on_syn_timed_out(&mut self) {
        if self.srtt == 0 {
            self.base = self.base.max(RTO_AFTER_SYN_TIMEOUT);
            self.backoffs = 0;
        }
    }

    /// The timeout for the timer that is started now, backoff included.
    fn rto(&self, config: &RtoLimits) -> Duration {
        if self.backoffs == 0 {
            return self.base.min(config.max);
        }
        let factor = 1_u64.checked_shl(u32::from(self.backoffs)).unwrap_or(u64::MAX);
        self.base.saturating_mul(factor).min(config.max)
    }

    /// The smoothed round-trip time, once there was a sample.
    fn srtt(&self) -> Option<Duration> {
        (self.srtt != 0).then(|| Duration::from_nanos(self.srtt))
    }

    /// How many times the timeout stands doubled.
    const fn backoffs(&self) -> u8 {
        self.backoffs
    }
}

/// Moves `value` by one part in `parts` of the way towards `goal`.
const fn approach(value: u64, goal: u64, parts: u64) -> u64 {
    if goal >= value { value + (goal - value) / parts } else { value - (value - goal) / parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rttvar(rtt: &RttEstimator) -> Duration {
        Duration::from_nanos(rtt.rttvar)
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn config(min: u64) -> RtoLimits {
        RtoLimits { min: millis(min), ..RtoLimits::default() }
    }

    #[test]
    fn the_estimator_is_compact() {
        assert!(size_of::<RttEstimator>() <= 40);
    }

    /// SC-56 with G = 1 ms. MUST-18, RFC8961-1, RFC8961-2a.
    #[test]
    fn sc_56_rfc6298_2_vector() {
        let config = config(1);
        let mut rtt = RttEstimator::new(&config);
        assert_eq!(rtt.rto(&config), millis(1_000), "RFC6298-2.1");
        assert_eq!(rtt.srtt(), None);
        rtt.on_sample(&config, millis(100), 1);
        assert_eq!((rtt.srtt(), rttvar(&rtt), rtt.rto(&config)), (Some(millis(100)), millis(50), millis(300)));
        rtt.on_sample(&config, millis(200), 1);
        assert_eq!(rttvar(&rtt), Duration::from_micros(62_500));
        assert_eq!(rtt.srtt(), Some(Duration::from_micros(112_500)));
        assert_eq!(rtt.rto(&config), Duration::from_micros(362_500));
        rtt.on_sample(&config, millis(100), 1);
        assert_eq!(rttvar(&rtt), millis(50));
        assert_eq!(rtt.srtt(), Some(Duration::from_nanos(110_937_500)));
        assert_eq!(rtt.rto(&config), Duration::from_nanos(310_937_500));
    }

    /// RFC6298-4.
    #[test]
    fn ops_1_the_floor_is_added_to_srtt() {
        let config = config(200);
        let mut rtt = RttEstimator::new(&config);
        for _ in 0..200 {
            rtt.on_sample(&config, millis(10), 1);
        }
        assert_eq!(rtt.rto(&config), millis(210));
    }

    /// RFC8961-4.
    #[test]
    fn rfc6298_5_5_backs_off_to_the_cap_and_5_7_a_sample_ends_it() {
        let config = config(200);
        let mut rtt = RttEstimator::new(&config);
        let mut seen = Vec::new();
        for _ in 0..300 {
            seen.push(rtt.rto(&config).as_secs());
            rtt.back_off(&config);
        }
        assert_eq!(seen[..9], [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        assert!(rtt.backoffs() < 64);
        rtt.on_sample(&config, millis(100), 1);
        assert_eq!(rtt.rto(&config), millis(300));
        assert_eq!(rtt.backoffs(), 0);
    }

    #[test]
    fn rfc6298_5_7_data_begins_at_three_seconds_after_a_repeated_syn() {
        let config = config(200);
        let mut rtt = RttEstimator::new(&config);
        rtt.back_off(&config);
        rtt.on_syn_timed_out();
        assert_eq!(rtt.rto(&config), millis(3_000));
        let mut sampled = RttEstimator::new(&config);
        sampled.on_sample(&config, millis(100), 1);
        sampled.on_syn_timed_out();
        assert_eq!(sampled.rto(&config), millis(300), "a sample (timestamps) beats the fallback");
    }

    /// RFC7323-4.2.
    #[test]
    fn rfc7323_g_many_samples_weigh_like_one() {
        let config = config(1);
        let mut one = RttEstimator::new(&config);
        let mut many = RttEstimator::new(&config);
        one.on_sample(&config, millis(100), 1);
        many.on_sample(&config, millis(100), 1);
        one.on_sample(&config, millis(200), 1);
        for _ in 0..10 {
            many.on_sample(&config, millis(200), 10);
        }
        let (one, many) = (one.srtt().unwrap_or_default(), many.srtt().unwrap_or_default());
        assert!(one.as_micros().abs_diff(many.as_micros()) < 1_500, "{one} {many}");
    }

    #[test]
    fn strange_samples_keep_the_timeout_in_bounds() {
        let config = config(200);
        let mut rtt = RttEstimator::new(&config);
        for sample in [Duration::ZERO, Duration::MAX, Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            rtt.on_sample(&config, sample, 0);
            assert!(rtt.rto(&config) >= config.min && rtt.rto(&config) <= config.max);
            rtt.on_sample(&config, sample, u32::MAX);
            assert!(rtt.rto(&config) >= config.min && rtt.rto(&config) <= config.max);
            assert!(rtt.srtt().is_some());
        }
    }

    #[test]
    fn rfc4015_3_1c_after_a_needless_timeout_a_sample_counts_in_full() {
        let config = RtoLimits::default();
        let ms = Duration::from_millis;
        // SRTT and RTTVAR, then what a sample makes of them, and what the one after it does.
        for (sample, srtt, rttvar) in [(400, 400, 200), (120, 120, 60), (10, 100, 50)] {
            let mut rtt = RttEstimator::new(&config);
            rtt.on_sample(&config, ms(100), 1);
            rtt.back_off(&config);
            rtt.on_spurious_timeout();
            rtt.on_sample(&config, ms(sample), 1);
            assert_eq!((rtt.srtt(), Duration::from_nanos(rtt.rttvar)), (Some(ms(srtt)), ms(rttvar)), "{sample} ms");
            assert_eq!(rtt.rto(&config), ms(srtt + (4 * rttvar).max(200)));
            rtt.on_sample(&config, ms(srtt + 80), 1);
            assert_eq!(rtt.srtt(), Some(ms(srtt + 10)), "an eighth, as ever");
        }
    }
}
