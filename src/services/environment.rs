//! What all services have in common: clocks of the machine, and how long their peers may be silent.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::tcp::KeepAlive;
use crate::tcp::time::Duration;

/// How long the peer of a service may be silent. A server has many peers and no user who would close what hangs: one
/// that has vanished while nothing was under way would keep its place for ever. Two minutes are below what most
/// translators of addresses forget an idle flow after (RFC 5382 asks for 2 h 4 min, few grant it), so that these are
/// kept awake, too; four probes 15 s apart outlast a path that is broken for half a minute. All in all three minutes.
pub const KEEPALIVE: KeepAlive =
    KeepAlive { idle: Duration::from_secs(120), interval: Duration::from_secs(15), count: 4 };

/// Tells the wall-clock time.
pub type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Tells how much processor time the process has used.
pub type CpuClock = Arc<dyn Fn() -> CpuTime + Send + Sync>;

/// Processor time used since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Time in user code.
    pub user: Duration,
    /// Time in the kernel.
    pub system: Duration,
}

/// What services need of the machine besides the network. One is shared by all shards.
#[derive(Clone)]
pub struct Environment {
    /// Read by daytime, once a connection, and by http, once a second.
    pub wall_clock: WallClock,
    /// Read by iperf3 at the start and the end of a test, for the processor use it reports.
    pub cpu_clock: CpuClock,
}

impl Default for Environment {
    /// The system's wall clock; a processor clock that stands still (iperf3 then reports 0 %).
    fn default() -> Self {
        Self { wall_clock: Arc::new(SystemTime::now), cpu_clock: Arc::new(CpuTime::default) }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}
