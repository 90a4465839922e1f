//! [`EngineError`]: why there is no engine, or no longer.

use std::io;

use crate::tcp::ConfigError;

/// Why an engine did not start or came to an end.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The device has another number of queues than the plan.
    #[error("the device has {device} queues, the plan needs {plan}")]
    Queues {
        /// Of the device.
        device: usize,
        /// Of the plan.
        plan: usize,
    },
    /// A setting of TCP is wrong.
    #[error("TCP settings: {0}")]
    Config(#[from] ConfigError),
    /// [`Steer::Local`](super::Steer::Local) or [`Steer::Hash`](super::Steer::Hash) was asked for and is not to be had.
    #[error("steering by a program in the kernel: {0}; steering by learning (learn) needs no rights")]
    Steering(io::Error),
    /// [`Steer::Local`](super::Steer::Local) was asked for and no worker is pinned to a CPU.
    #[error(
        "steering to the worker on the CPU that sends (local): no worker is pinned to a CPU; pin them, or steer by hash"
    )]
    Unpinned,
    /// The kernel gave no random numbers.
    #[error("no random numbers from the kernel: {0}")]
    Random(String),
    /// Epoll, eventfd, a timer or a thread could not be made.
    #[error("cannot set up a stage thread: {0}")]
    Thread(io::Error),
    /// There is not so much address space, of which memory is taken as it is needed.
    #[error("{} MB of address space cannot be had for packets and data to be sent ({error})", octets >> 20)]
    Memory {
        /// How much the configuration needs, octets: see [`EngineConfig::set_memory`](super::EngineConfig::set_memory)
        /// and [`EngineConfig::packet_buffers`](super::EngineConfig::packet_buffers).
        octets: u64,
        /// What the kernel said.
        error: io::Error,
    },
    /// A stage thread panicked or lost its device.
    #[error("engine thread {thread} failed: {why}")]
    Failed {
        /// Its name.
        thread: String,
        /// What it said.
        why: String,
    },
}

debug_as_display!(EngineError);

/// As [`BuildError`](super::BuildError), of a part of it.
impl From<EngineError> for io::Error {
    fn from(error: EngineError) -> Self {
        Self::new(error.kind(), error)
    }
}

impl EngineError {
    pub(super) fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Queues { .. } | Self::Config(_) | Self::Unpinned => io::ErrorKind::InvalidInput,
            Self::Steering(error) | Self::Thread(error) | Self::Memory { error, .. } => error.kind(),
            Self::Random(_) | Self::Failed { .. } => io::ErrorKind::Other,
        }
    }
}
