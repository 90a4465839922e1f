//! Open files: how many this process may have, how many it takes before the first connection, and what is left for
//! connections that are forwarded, each of which takes one: the kernel's end of it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use trust::engine::Plan;

use super::error::Error;

/// Of a thread of the engine: epoll, what wakes it, its alarm.
const THREAD: u64 = 3;
/// Of the device beside its queues, of steering, what is open for a moment of the start, the pair that signals come by
/// and the socket of the helper.
const ENGINE: u64 = 8 + 2 + 1;
/// Of the control socket: itself, the way to its keeper, its thread, those who ask, those who are refused, and the one
/// that is accepted.
const CONTROL: u64 = 2 + APPLICATION + 16 + 4 + 1;
/// Of a thread with an application on it: epoll, which tokio has twice, and what wakes it.
const APPLICATION: u64 = 3;
/// Of one forwarding beside its connections: what listens, and what a resolver opens while it looks up a name. That is the
/// helper's, which has the same limit, needs little else, and opens a connection before it hands it over.
const FORWARDING: u64 = 1 + 8;
/// For so many connections there must be room in each forwarding. Fewer would be an oversight, and nobody's wish.
const LEAST: u64 = 16;

/// Allows this process as many as it may allow itself, and says how many connections each of `forwards` can have, of
/// `most` that make sense. `applications`: how many threads there are beside the engine's.
pub(super) fn connections(plan: &Plan, applications: usize, forwards: usize, most: usize) -> Result<usize, Error> {
    let engine = ENGINE + CONTROL + plan.queues as u64 + THREAD * plan.threads.len() as u64;
    share(raise(), open() + engine + APPLICATION * applications as u64, forwards as u64, most)
}

fn share(allowed: u64, fixed: u64, forwards: u64, most: usize) -> Result<usize, Error> {
    let fixed = fixed + FORWARDING * forwards;
    let needed = fixed + LEAST * forwards;
    if allowed < needed {
        return Err(Error::Run(format!(
            "--service forward and reverse need {needed} open files here, and {allowed} are allowed; allow more: \
             ulimit -n {needed}, or better {fixed} and one for each connection"
        )));
    }
    Ok(usize::try_from((allowed - fixed) / forwards).unwrap_or(most).min(most))
}

/// Sets the soft limit to the hard one; how many may be open from now on.
fn raise() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Refused, it is as it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many are open now, inherited ones included.
fn open() -> u64 {
    /// Where nobody tells: standard input and output, and a few.
    const USUAL: u64 = 8;
    // One of them is the directory itself.
    std::fs::read_dir("/proc/self/fd").map_or(USUAL, |list| list.count() as u64 - 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_left_is_shared_out_and_too_little_is_refused_with_the_number() {
        // One forwarding: 20 and its own 9, then one for each connection.
        assert_eq!(share(1_024, 20, 1, 8_192).unwrap(), 995);
        assert_eq!(share(1_024, 20, 2, 8_192).unwrap(), 493);
        assert_eq!(share(u64::MAX, 20, 1, 8_192).unwrap(), 8_192);
        assert_eq!(share(45, 20, 1, 8_192).unwrap(), 16);
        for (allowed, forwards, needed) in [(44, 1, "45"), (14, 1, "45"), (69, 2, "70")] {
            let error = share(allowed, 20, forwards, 8_192).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("ulimit -n {needed}")) && text.contains(&allowed.to_string()), "{text}");
            assert!(!text.contains('\n') && error.exit_status() == 1, "{text}");
        }
    }
}
