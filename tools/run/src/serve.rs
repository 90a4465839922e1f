//! `serve`: an engine in a network namespace of its own.

use std::ffi::{OsStr, OsString};

use crate::look::{with_control, with_metrics};
use crate::place::Place;
use crate::signals::Asked;
use crate::supervise::{Start, Whereabouts, supervise};
use crate::talk::Outcome;
use crate::words;

/// Inside the new namespace, with the number of our process as `$0`: nothing begins when we are gone already; loopback
/// is up, and what is to go from one device to another (`connect`) is forwarded.
const INSIDE: &str = r#"[ "$PPID" = "$0" ] || exit 1
ip link set lo up || exit 1
for family in ipv4 ipv6; do echo 1 >/proc/sys/net/$family/conf/all/forwarding; done 2>/dev/null
exec "$@""#;

/// Runs it to its end. The flag is for unshare(1): what kind of namespace the user may have.
pub(crate) fn serve(place: &Place, flag: &OsStr, words: &[OsString]) -> Outcome {
    place.state.create()?;
    let asked = Asked::listen()?;
    let lock = place.state.lock_engine()?;
    let ours = std::process::id().to_string();
    // Behind unshare: who gets other rights is no longer ended with its parent (prctl(2)).
    let mut before = words::list([OsStr::new("unshare"), flag]);
    before.extend(words::list(["setpriv", "--pdeathsig", "KILL", "sh", "-c", INSIDE, &ours]));
    before.push(place.engine.clone().into());
    let mut words = words::serve(words);
    with_control(&place.state, &mut words);
    with_metrics(&mut words);
    let start = Start { before, words, locks: vec![&lock], whereabouts: Whereabouts::Apart };
    supervise(&place.state, &start, &asked)
}
