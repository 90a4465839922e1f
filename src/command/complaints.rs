//! What goes wrong with the connections of one forwarding, in the log: at once, and while it goes on a line a second with
//! how many there were. A server that is away, or a crowd of clients, is no flood of lines.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::with_remedy;

/// Between two lines.
const QUIET: Duration = Duration::from_secs(1);

/// The lines about one thing.
#[derive(Debug)]
pub(super) struct Complaints {
    about: String,
    counted: Mutex<Counted>,
}

/// What was not said since the last line.
#[derive(Debug, Default)]
struct Counted {
    /// A line was written less than [`QUIET`] ago.
    quiet: bool,
    left_out: u64,
    last: String,
}

impl Complaints {
    pub(super) fn new(about: &impl fmt::Display) -> Arc<Self> {
        Arc::new(Self { about: about.to_string(), counted: Mutex::default() })
    }

    /// Says what went wrong, or counts it. To be called in a runtime, where the count waits for its time.
    pub(super) fn say(self: &Arc<Self>, what: &impl fmt::Display) {
        let what = what.to_string();
        let now = self.counted().take(&what);
        if now {
            tracing::warn!("{}: {}", self.about, with_remedy(&what));
            tokio::spawn(Arc::clone(self).sum_up());
        }
    }

    async fn sum_up(self: Arc<Self>) {
        loop {
            tokio::time::sleep(QUIET).await;
            let Some(line) = self.counted().line() else { return };
            tracing::warn!("{}: {line}", self.about);
        }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// Whether it is to be said now.
    fn take(&mut self, what: &str) -> bool {
        if self.quiet {
            self.left_out += 1;
            self.last.clear();
            self.last.push_str(what);
        }
        !std::mem::replace(&mut self.quiet, true)
    }

    /// What was counted while it was quiet. `None`: nothing, and what comes next is said at once.
    fn line(&mut self) -> Option<String> {
        self.quiet = self.left_out > 0;
        let (count, last) = (std::mem::take(&mut self.left_out), std::mem::take(&mut self.last));
        self.quiet.then(|| format!("{count} more within a second, the last: {}", with_remedy(&last)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_is_said_and_the_others_are_counted_until_a_second_goes_by_without_one() {
        let mut counted = Counted::default();
        assert!(counted.take("refused"));
        assert_eq!((1..=999).filter(|_| counted.take("refused")).count(), 0);
        assert!(!counted.take("timed out"));
        assert_eq!(counted.line().unwrap(), "1000 more within a second, the last: timed out");
        // That was a line, too.
        assert!(!counted.take("refused"));
        assert_eq!(counted.line().unwrap(), "1 more within a second, the last: refused");
        assert_eq!(counted.line(), None);
        assert!(counted.take("refused"));
        assert_eq!(counted.line(), None);
    }
}
