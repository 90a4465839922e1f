//! The examples of the library, as `test` runs them.

use crate::steps::Steps;
use crate::talk::warn;

/// These end by themselves.
const PLAIN: [&str; 5] = ["embed", "mio_echo", "hyper_server", "hyper_client", "axum_hello"];

/// These, too, and they open a TUN device.
const WITH_DEVICE: [&str; 2] = ["serve", "connect"];

/// Waits for packets, and is told to stop.
const ENDLESS: &str = "first_packet";

/// Runs each in a namespace of its own, as cargo starts them: in there an ordinary user may make a device, too. Built
/// they are with the tests: alone they would have packages with other features.
pub(crate) fn run(steps: &Steps<'_>) -> bool {
    let program = |name: &str| steps.built("debug").join("examples").join(name).display().to_string();
    let status = |seconds: &str, name: &str| steps.run(&["timeout", seconds, "tools/netns-exec", &program(name)]);
    let mut examples = PLAIN.to_vec();
    if steps.device {
        examples.extend(WITH_DEVICE);
        // What timeout ends with when it was in time to stop it.
        if status("2", ENDLESS) != 124 {
            return false;
        }
    } else {
        warn("examples that open a TUN device are left out: /dev/net/tun is not writable");
    }
    examples.iter().all(|name| status("300", name) == 0)
}
