//! The bound on echo replies (ICMP-12).

use crate::tcp::Instant;

/// Tokens a second and bucket size: `ping` needs 1, `ping -f` is cut.
const ECHO_RATE: u64 = 1_000;

/// Token bucket (ICMP-12).
#[derive(Debug)]
pub(crate) struct EchoLimiter {
    tokens: u64,
    filled: Instant,
}

impl EchoLimiter {
    pub(crate) fn new(now: Instant) -> Self {
        Self { tokens: ECHO_RATE, filled: now }
    }

    pub(crate) fn allow(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_since(self.filled).as_nanos();
        let earned = elapsed / (1_000_000_000 / ECHO_RATE);
        if earned > 0 {
            self.tokens = (self.tokens + earned).min(ECHO_RATE);
            self.filled = now;
        }
        let allowed = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        allowed
    }
}
