//! Tests on real interfaces: each runs on a thread in a network namespace of its own, so that names and addresses may
//! be equal in parallel tests and nothing stays behind.
//!
//! Where that is not permitted the test is reported as ignored, with the reason; `TRUST_REQUIRE_TUN=1` makes it fail.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use libtest_mimic::{Completion, Failed, Trial};

/// A test in a fresh network namespace with write access to `/dev/net/tun`.
pub(crate) fn trial(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    trial_or_skip(name, || {
        test();
        Ok(())
    })
}

/// As [`trial`], for a test that may find out by itself that something is not permitted, and says what.
pub(crate) fn trial_or_skip(name: &str, test: impl FnOnce() -> Result<(), String> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || {
        let thread = std::thread::Builder::new().name("netns".to_owned()).spawn(move || {
            enter()?;
            match catch_unwind(AssertUnwindSafe(test)) {
                Ok(outcome) => outcome.map(Ok),
                Err(panic) => Ok(Err(panic)),
            }
        })?;
        match thread.join() {
            Ok(Ok(Ok(()))) => Ok(Completion::Completed),
            Ok(Ok(Err(panic))) | Err(panic) => resume_unwind(panic),
            Ok(Err(reason)) if std::env::var_os("TRUST_REQUIRE_TUN").is_some_and(|v| v == "1") => {
                Err(Failed::from(format!("TRUST_REQUIRE_TUN=1, but {reason}")))
            }
            Ok(Err(reason)) => Ok(Completion::ignored_with(reason)),
        }
    })
}

fn enter() -> Result<(), String> {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(|e| format!("/dev/net/tun cannot be opened: {e}"))?;
    // SAFETY: a number goes in; only this thread moves to the new namespace.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        let error = io::Error::last_os_error();
        return Err(format!("no network namespace of its own: {error} (run as root or inside `unshare -Urn`)"));
    }
    Ok(())
}
