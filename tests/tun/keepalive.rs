//! Keep-alive against the kernel: its answers keep a silent connection, their absence ends it.

use std::process::Stdio;
use std::time::Duration;

use crate::support::*;

pub(crate) fn silence() -> Outcome {
    need(&["nc", "ip"])?;
    let settings = ["keepalive=on", "keepalive_idle=100ms", "keepalive_interval=100ms", "keepalive_count=5"];
    let arguments: Vec<_> = settings.iter().flat_map(|setting| ["--tcp", setting]).collect();
    let engine = Engine::start(&arguments);
    let mut client = bounded(60, "nc", &["10.7.0.2", "9"]).stdin(Stdio::piped()).spawn().unwrap();
    engine.await_stats("it is open", Duration::from_secs(5), |now| now.connections == 1);
    let (before, _) = interface_octets("trust0");
    std::thread::sleep(Duration::from_secs(2));
    let (after, _) = interface_octets("trust0");
    // A probe has 40 octets, or 52 with timestamps; twenty of them fit, and most must have been sent.
    assert!((400..1_300).contains(&(after - before)), "{} octets of probes in two seconds", after - before);
    engine.await_stats("answers keep it", Duration::from_secs(5), |now| now.connections == 1);
    // From here on nothing the kernel says arrives.
    must(5, "ip", &["route", "add", "blackhole", "10.7.0.2/32"]);
    engine.await_stats("silence ends it", Duration::from_secs(5), |now| now.connections == 0);
    drop(client.stdin.take());
    let _ = client.kill();
    let _ = client.wait();
    engine.finish();
    Ok(())
}
