//! Transfers over a link that loses packets, each direction in its own way: towards the kernel nft drops in the `input`
//! hook (a drop in `output` would be told to the sender and be no loss), towards us `--impair` does (KP-19).

use std::time::Duration;

use libtest_mimic::Trial;

use crate::netns;
use crate::support::*;

/// One lossy transfer: packets lost each way, in 1/1000; our offload and congestion control; a switch of the kernel's
/// TCP that is off.
#[derive(Clone, Copy)]
struct Link {
    permille: u32,
    offload: &'static str,
    congestion: &'static str,
    without: Option<&'static str>,
}

/// Each rate of loss with each controller, offload on and off; then the kernel's options off one by one. All of them 10 MB
/// at least, both ways.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for permille in [1, 10, 50, 100] {
        for congestion in ["cubic", "reno"] {
            for offload in ["on", "off"] {
                trials.push(trial(Link { permille, offload, congestion, without: None }));
            }
        }
    }
    for without in ["tcp_timestamps", "tcp_sack", "tcp_window_scaling"] {
        for permille in [10, 50] {
            for offload in ["on", "off"] {
                trials.push(trial(Link { permille, offload, congestion: "cubic", without: Some(without) }));
            }
        }
    }
    trials
}

fn trial(link: Link) -> Trial {
    let Link { permille, offload, congestion, without } = link;
    let without = without.map(|name| format!("_without_{name}")).unwrap_or_default();
    let percent = f64::from(permille) / 10.0;
    let name = format!("loss_{percent}_percent_{congestion}_offload_{offload}{without}");
    netns::trial_or_skip(&name, move || echo_with_loss(link))
}

/// Both ways packets are lost, 10 MB or more go through echo. Both sides must notice, and repair.
fn echo_with_loss(link: Link) -> Outcome {
    let Link { permille, offload, congestion, without } = link;
    need(&["nc", "nft"])?;
    if let Some(name) = without {
        sysctl(name, "0")?;
    }
    // A super-segment is lost whole: it takes more octets to be sure of losses both ways.
    let octets = match (permille, offload) {
        (10, "on") => 100_000_000,
        (1, _) => 40_000_000,
        (50, "on") => 20_000_000,
        _ => 10_000_000,
    };
    let data = noise(octets, u64::from(permille));
    let impair = format!("rx.loss={},seed={permille}", f64::from(permille) / 1_000.0);
    let engine = Engine::start(&["--offload", offload, "--congestion", congestion, "--impair", &impair]);
    lose_towards_kernel(permille)?;
    let took = echo_exact(125, &data);
    assert!(took < Duration::from_secs(120), "{took:?}");
    let (lost, text) = lost_towards_kernel();
    let summary = engine.finish();
    if permille == 1 && offload == "on" {
        // Hundreds of super-segments: it may be that none of them was hit.
        return Ok(());
    }
    assert!(lost > 0, "nft dropped nothing: {text}");
    let ours = [summary.number(" out of order"), summary.number(" retransmitted")];
    assert!(ours.iter().all(|&count| count > 0.0), "out of order, retransmitted by us {ours:?}\n{}", summary.text);
    let kernel = [nstat("TcpExtTCPOFOQueue"), nstat("TcpRetransSegs")];
    assert!(kernel.iter().all(|&count| count > 0), "out of order, retransmitted by the kernel {kernel:?}");
    Ok(())
}

fn lose_towards_kernel(permille: u32) -> Outcome {
    let rule = format!("iifname trust0 meta l4proto tcp numgen random mod 1000 < {permille} counter drop");
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
