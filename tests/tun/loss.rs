//! Transfers over a link that loses packets, each direction in its own way: towards the kernel nft drops in the `input`
//! hook (a drop in `output` would be told to the sender and be no loss), towards us `--impair` does (KP-19).

use std::time::Duration;

use crate::support::*;

/// Both ways `percent` is lost, `octets` go through echo. Both sides must notice, and repair.
fn echo_with_loss(percent: u32, offload: &str, octets: usize) -> Outcome {
    need(&["nc", "nft"])?;
    let data = noise(octets, u64::from(percent));
    let impair = format!("rx.loss={},seed={percent}", f64::from(percent) / 100.0);
    let engine = Engine::start(&["--offload", offload, "--impair", &impair]);
    lose_towards_kernel(percent)?;
    let took = echo_exact(125, &data);
    assert!(took < Duration::from_secs(120), "{took:?}");
    let (lost, text) = lost_towards_kernel();
    assert!(lost > 0, "nft dropped nothing: {text}");
    let summary = engine.finish();
    let ours = [summary.number(" out of order"), summary.number(" retransmitted")];
    assert!(ours.iter().all(|&count| count > 0.0), "out of order, retransmitted by us {ours:?}\n{}", summary.text);
    let kernel = [nstat("TcpExtTCPOFOQueue"), nstat("TcpRetransSegs")];
    assert!(kernel.iter().all(|&count| count > 0), "out of order, retransmitted by the kernel {kernel:?}");
    Ok(())
}

fn lose_towards_kernel(percent: u32) -> Outcome {
    let rule = format!("iifname trust0 meta l4proto tcp numgen random mod 100 < {percent} counter drop");
    let rules = format!("table inet loss {{\nchain input {{\ntype filter hook input priority 0\n{rule}\n}}\n}}");
    let output = run(10, "nft", &[&rules]);
    let said = describe(&output);
    match output.status.success() {
        true => Ok(()),
        false if ["not permitted", "not supported", "No such file"].iter().any(|why| said.contains(why)) => Err(said),
        false => panic!("nft: {said}"),
    }
}

fn lost_towards_kernel() -> (u64, String) {
    let text = must(10, "nft", &["list", "table", "inet", "loss"]);
    let count = text.split_once("counter packets ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    (count.unwrap_or_else(|| panic!("no counter: {text}")), text)
}

pub(crate) fn one_percent_offload_on() -> Outcome {
    // A super-segment is lost whole: fewer losses for as many octets.
    echo_with_loss(1, "on", size(20_000_000, 40_000_000))
}

pub(crate) fn one_percent_offload_off() -> Outcome {
    echo_with_loss(1, "off", 10_000_000)
}

pub(crate) fn five_percent_offload_on() -> Outcome {
    echo_with_loss(5, "on", 10_000_000)
}

pub(crate) fn five_percent_offload_off() -> Outcome {
    echo_with_loss(5, "off", 10_000_000)
}

pub(crate) fn without_timestamps() -> Outcome {
    sysctl("tcp_timestamps", "0")?;
    echo_with_loss(1, "off", 10_000_000)
}

pub(crate) fn without_sack() -> Outcome {
    sysctl("tcp_sack", "0")?;
    echo_with_loss(1, "off", 10_000_000)
}

pub(crate) fn without_window_scaling() -> Outcome {
    sysctl("tcp_window_scaling", "0")?;
    echo_with_loss(1, "off", 10_000_000)
}
