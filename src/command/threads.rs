//! Threads of the command itself, beside those of the engine.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread of this name.
///
/// # Errors
///
/// There may be no more of them; the text says which was to start.
pub(super) fn start<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let started = Builder::new().name(name.to_owned()).spawn(run);
    started.map_err(|error| io::Error::new(error.kind(), format!("cannot start the thread {name}: {error}")))
}
