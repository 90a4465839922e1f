//! Where things are, as `run.sh` says.

use std::env;
use std::path::PathBuf;

use crate::state::State;

/// The clone, its state and its engine.
#[derive(Debug)]
pub(crate) struct Place {
    /// The folder of the clone.
    pub(crate) top: PathBuf,
    /// What is known of the engine that runs.
    pub(crate) state: State,
    /// The program `trust`.
    pub(crate) engine: PathBuf,
}

impl Place {
    /// What cargo has built, of that profile.
    pub(crate) fn built(&self, profile: &str) -> PathBuf {
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.top.join("target"), PathBuf::from).join(profile)
    }
}
