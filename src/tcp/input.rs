//! `on_segment`.

use super::config::Config;
use super::connection::{Connection, Context, Outcome};
use super::segment::Segment;

impl Connection {
    /// A segment for this connection.
    pub fn on_segment(&mut self, _config: &Config, _seg: &Segment, _context: &Context) -> Outcome {
        Outcome::default()
    }
}
