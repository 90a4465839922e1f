//! Proportional rate reduction (RFC 9937, before that RFC 6937): how much may leave with each acknowledgment of a
//! recovery, so that the flight comes down to the threshold over one round trip and neither stops nor bursts.

/// Counters of one recovery, in octets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Prr {
    /// Delivered since recovery began.
    delivered: u32,
    /// Sent since recovery began.
    out: u32,
    /// What was in flight when it began (RecoverFS).
    recover_fs: u32,
}

impl Prr {
    /// Recovery begins with `recover_fs` octets in flight: SND.NXT - SND.UNA as of before the acknowledgment that began
    /// it, without what was SACKed by then (RFC9937-6.1).
    pub(crate) fn new(recover_fs: u32) -> Self {
        Self { delivered: 0, out: 0, recover_fs: recover_fs.max(1) }
    }

    /// An acknowledgment delivered `delivered` octets and left `pipe` in flight. Gives how much may leave now: the
    /// window is `pipe` and that. `safe`: it advanced SND.UNA and told of no further loss (RFC9937-6.2b).
    pub(crate) fn on_ack(&mut self, delivered: u32, safe: bool, pipe: u32, ssthresh: u32, smss: u32) -> u32 {
        self.delivered = self.delivered.saturating_add(delivered);
        let count = if pipe > ssthresh {
            // RFC9937-6.2c: in proportion.
            let share = u64::from(self.delivered) * u64::from(ssthresh);
            let share = u32::try_from(share.div_ceil(u64::from(self.recover_fs))).unwrap_or(u32::MAX);
            share.saturating_sub(self.out)
        } else {
            // RFC9937-6.2d: back up to the threshold, by no more than what leaves the network, and in slow start only
            // while all goes well.
            let reduction = self.delivered.saturating_sub(self.out).max(delivered);
            let most = if safe { reduction.saturating_add(smss) } else { reduction };
            most.min(ssthresh - pipe)
        };
        // RFC9937-6.2e: the first retransmission always leaves.
        if self.out == 0 { count.max(smss) } else { count }
    }

    /// So many octets left.
    pub(crate) fn on_sent(&mut self, octets: u32) {
        self.out = self.out.saturating_add(octets);
    }
}

#[cfg(test)]
#[path = "prr_tests.rs"]
mod tests;
