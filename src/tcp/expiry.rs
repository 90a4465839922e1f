//! `on_timeout`.

use super::config::Config;
use super::connection::{Connection, Outcome};
use super::time::Instant;

impl Connection {
    /// Fires whichever timers are due.
    pub fn on_timeout(&mut self, _config: &Config, _now: Instant) -> Outcome {
        Outcome::default()
    }
}
