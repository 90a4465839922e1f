//! CUBIC (RFC 9438): after a loss the window follows a cubic function of time, steep far from the window of the loss,
//! flat near it.
//!
//! Windows are octets here where the RFC counts segments; times are µs. Everything is integer arithmetic.
//! MAY-18 lets it stand in for Reno.

use crate::tcp::base::time::{Duration, Instant};
use crate::tcp::base::units::LARGEST_WINDOW;
use crate::tcp::congestion::algorithm::Algorithm;
use crate::tcp::congestion::hystart::{HyStart, micros};
use crate::tcp::congestion::window::{AckSample, CongestionWindow, scale};

/// What remains of the window after a loss (beta_cubic, RFC9438-4.6a), as a fraction.
const BETA: (u32, u32) = (7, 10);
/// What remains of W_max when the flow releases bandwidth to newer ones: (1 + beta) / 2 (RFC9438-4.7).
const FAST_CONVERGENCE: (u32, u32) = (17, 20);
/// alpha_cubic, 3 * (1 - beta) / (1 + beta) (RFC9438-C): segments a round trip for as much throughput as Reno has.
const ALPHA: (u32, u32) = (9, 17);

/// How the next stage of congestion avoidance begins, or that it has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Out of slow start: at the plateau of the cubic function, K = 0 (RFC9438-4.8, 4.10).
    AfterSlowStart,
    /// After a reduction, with K from W_max.
    AfterReduction,
    /// Under way.
    Running,
}

/// Where the window is on its curve.
#[derive(Clone, Copy, Debug)]
struct Curve {
    /// Window of the plateau: at the last reduction, or less by fast convergence.
    w_max: u32,
    /// The window just before the last reduction.
    cwnd_prior: u32,
    /// K: when the plateau is reached, µs from the start of the stage.
    k: u32,
    /// The window that Reno would have in the place of CUBIC.
    w_est: u32,
    /// Octets acknowledged since `w_est` grew last.
    est_credit: u32,
    /// t: how long the stage has lasted, µs. Time in which the application sent nothing does not count (RFC9438-4.2c).
    elapsed: u32,
    stage: Stage,
}

/// The first slow start has no curve yet, and what comes after it no rounds any more.
#[derive(Clone, Copy, Debug)]
enum Memory {
    First(HyStart),
    Later(Curve),
}

/// What CUBIC remembers beside the window, whose credit is the fraction of an octet earned.
#[derive(Clone, Copy, Debug)]
pub struct Cubic {
    memory: Memory,
    /// Up to when `elapsed` is counted.
    counted: Instant,
}

impl Cubic {
    /// CUBIC at its start, with or without HyStart++ (RFC9438-4.10).
    #[must_use]
    pub const fn new(hystart: bool) -> Self {
        Self { memory: Memory::First(HyStart::new(hystart)), counted: Instant::ZERO }
    }

    /// Congestion avoidance: `acked` octets of a window in use (RFC9438-4.2b, 4.3b, 4.4).
    fn avoid(&mut self, window: &mut CongestionWindow, ack: &AckSample, acked: u32) {
        let curve = self.memory.curve();
        if curve.stage == Stage::Running {
            curve.count_time(&mut self.counted, ack);
        } else {
            curve.start(window.cwnd(), window.smss());
            self.counted = ack.now;
        }
        let w_est = curve.friendly(acked, window.cwnd(), window.smss());
        if curve.w_cubic(curve.elapsed, window.smss()) < w_est {
            // RFC9438-4.3b. Both begin alike; a window that was set lower since catches up as in slow start.
            window.set_cwnd(w_est.clamp(window.cwnd(), window.cwnd().saturating_add(acked.max(window.smss()))));
            return;
        }
        // RFC9438-4.2b, 4.4, 4.5: the way to the target is made within one round trip.
        let ahead = curve.elapsed.saturating_add(micros(ack.srtt));
        let target = curve.w_cubic(ahead, window.smss()).clamp(window.cwnd(), window.cwnd() + window.cwnd() / 2);
        window.approach(target, acked);
    }

    /// The rounds of the first slow start.
    #[cfg(test)]
    pub(super) fn rounds(&self) -> &HyStart {
        match &self.memory {
            Memory::First(hystart) => hystart,
            Memory::Later(_) => unreachable!(),
        }
    }

    /// `smaller`: new and old size of smaller segments, which keep their number. Then the curve is the same one.
    pub(super) fn on_mss_change(&mut self, smaller: Option<(u32, u32)>) {
        let Memory::Later(curve) = &mut self.memory else { return };
        if let Some((new, old)) = smaller {
            for window in [&mut curve.w_max, &mut curve.cwnd_prior, &mut curve.w_est] {
                *window = scale(*window, new, old);
            }
        } else if curve.stage == Stage::Running {
            curve.stage = Stage::AfterReduction;
        }
    }
}

impl Algorithm for Cubic {
    #[inline(always)]
    fn on_ack(&mut self, window: &mut CongestionWindow, ack: &AckSample) {
        let proven = window.proven(ack);
        let acked = match &mut self.memory {
            Memory::First(hystart) => hystart.on_ack(window, ack, proven),
            Memory::Later(_) if proven => window.slow_start(ack.acked, u32::MAX),
            Memory::Later(_) => 0,
        };
        if acked > 0 {
            self.avoid(window, ack, acked);
        }
    }

    /// RFC9438-4.6a, 4.7.
    fn on_congestion_event(&mut self, window: &mut CongestionWindow, _now: Instant, flight: u32) -> u32 {
        let curve = self.memory.curve();
        curve.cwnd_prior = window.cwnd();
        curve.w_max = if window.cwnd() < curve.w_max {
            scale(window.cwnd(), FAST_CONVERGENCE.0, FAST_CONVERGENCE.1)
        } else {
            window.cwnd()
        };
        curve.stage = Stage::AfterReduction;
        window.reduce(scale(flight, BETA.0, BETA.1))
    }

    /// RFC9438-4.8.
    fn on_rto(&mut self, window: &mut CongestionWindow, _now: Instant, flight: u32, first: bool) {
        let curve = self.memory.curve();
        if first {
            curve.cwnd_prior = window.cwnd();
        }
        curve.stage = Stage::AfterSlowStart;
        window.collapse(first.then(|| scale(flight, BETA.0, BETA.1)));
    }

    fn undo(&mut self, saved: &Self) {
        // Time goes on.
        self.memory = saved.memory;
        self.memory.restart_rounds();
    }

    fn on_idle_restart(&mut self, window: &CongestionWindow) {
        self.memory.restart_rounds();
        if let Memory::Later(curve) = &mut self.memory
            && curve.stage == Stage::Running
            && window.in_slow_start()
        {
            curve.stage = Stage::AfterSlowStart;
        }
    }
}

impl Memory {
    /// The curve; the first slow start is over with the first call.
    fn curve(&mut self) -> &mut Curve {
        if let Self::First(_) = self {
            *self = Self::Later(Curve::NEW);
        }
        match self {
            Self::Later(curve) => curve,
            Self::First(_) => unreachable!("replaced above"),
        }
    }

    fn restart_rounds(&mut self) {
        if let Self::First(hystart) = self {
            hystart.restart();
        }
    }
}

impl Curve {
    /// Out of slow start, without a loss so far.
    const NEW: Self =
        Self { w_max: 0, cwnd_prior: 0, k: 0, w_est: 0, est_credit: 0, elapsed: 0, stage: Stage::AfterSlowStart };

    /// Moves t on. Between two ACKs of a flow that fills its window lies no more than a round trip: what is longer was
    /// idle.
    fn count_time(&mut self, counted: &mut Instant, ack: &AckSample) {
        let passed = ack.now - *counted;
        let most = if ack.srtt.is_zero() { Duration::MAX } else { ack.srtt };
        if passed > most {
            self.elapsed = self.elapsed.saturating_add(micros(most));
            *counted = ack.now;
        } else {
            // Whole µs only; what is left counts the next time.
            let whole = micros(passed);
            self.elapsed = self.elapsed.saturating_add(whole);
            *counted += Duration::from_micros(u64::from(whole));
        }
    }

    /// A stage of congestion avoidance begins at `cwnd` (RFC9438-4.2a, 4.8, 4.10).
    fn start(&mut self, cwnd: u32, smss: u32) {
        if self.stage == Stage::AfterSlowStart || self.w_max <= cwnd {
            self.w_max = cwnd;
        }
        // K^3 = (W_max - cwnd_epoch) / C, in s and segments; C = 2 / 5.
        let cube = u128::from(self.w_max - cwnd) * 5 * 10_u128.pow(18) / (2 * u128::from(smss));
        self.k = cube_root(cube);
        self.w_est = cwnd;
        self.est_credit = 0;
        self.elapsed = 0;
        self.stage = Stage::Running;
    }

    /// W_cubic(t) = C * (t - K)^3 + W_max, for `t` in µs (RFC9438-4.2a).
    fn w_cubic(&self, t: u32, smss: u32) -> u32 {
        // In units of 2^-16 s less than 2^29, hence less than 2^103 with the segment size.
        let from_plateau = u128::from(u64::from(t.abs_diff(self.k)) * 4_096 / 62_500);
        let cube = from_plateau * from_plateau * from_plateau * u128::from(smss);
        let octets = u32::try_from((cube >> 47) as u64 / 5).unwrap_or(u32::MAX);
        if t < self.k {
            self.w_max.saturating_sub(octets)
        } else {
            self.w_max.saturating_add(octets).min(LARGEST_WINDOW)
        }
    }

    /// Moves W_est on and gives it (RFC9438-4.3a): alpha segments for each window acknowledged, one once it has reached
    /// the window before the reduction.
    fn friendly(&mut self, acked: u32, cwnd: u32, smss: u32) -> u32 {
        let price = if self.w_est < self.cwnd_prior { scale(cwnd, ALPHA.1, ALPHA.0) } else { cwnd };
        self.est_credit = self.est_credit.saturating_add(acked);
        if self.est_credit >= price {
            self.est_credit -= price;
            self.w_est = self.w_est.saturating_add(smss).min(LARGEST_WINDOW);
        }
        self.w_est
    }
}

/// The largest number whose cube is not above `cube`.
fn cube_root(cube: u128) -> u32 {
    let mut root: u32 = 0;
    for bit in (0..32).rev() {
        let wider = u128::from(root | 1 << bit);
        if wider * wider * wider <= cube {
            root |= 1 << bit;
        }
    }
    root
}

#[cfg(test)]
#[path = "cubic_tests.rs"]
mod tests;
