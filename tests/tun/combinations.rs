//! Every way to put the engine together carries data; the impossible ones are refused in one line.

use std::time::Instant;

use libtest_mimic::Trial;

use crate::iperf::Iperf;
use crate::netns;
use crate::support::*;

/// The 24 valid combinations, each a test of its own.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for plan in ["fused", "pipeline"] {
        for workers in [1, 2] {
            // One worker has nothing to steer.
            for steer in ["local", "hash", "learn"].into_iter().skip(usize::from(workers == 1)) {
                for offload in ["on", "off"] {
                    let name = format!("combination_tun_{plan}_{workers}_{steer}_offload_{offload}");
                    trials.push(netns::trial_or_skip(&name, move || {
                        if steer != "learn" {
                            hash_allowed()?;
                        }
                        carries(&["--steer", steer, "--offload", offload], plan, workers)
                    }));
                }
            }
            let name = format!("combination_tun_tap_{plan}_{workers}");
            trials.push(netns::trial_or_skip(&name, move || carries(&["--device", "tun-tap"], plan, workers)));
        }
    }
    trials
}

fn carries(arguments: &[&str], plan: &str, workers: usize) -> Outcome {
    need(&["nc", "iperf3"])?;
    need_cpus(workers)?;
    let count = workers.to_string();
    let engine = Engine::start(&[arguments, &["--plan", plan, "--workers", &count]].concat());
    assert!(engine.banner.contains(&format!("plan {plan}")), "{}", engine.banner);
    assert_eq!(engine.banner.matches("worker (shard").count(), workers, "{}", engine.banner);
    let offload = arguments.contains(&"on");
    assert!(engine.banner.contains(if offload { "tso on" } else { "tso off" }), "{}", engine.banner);
    // tun-tap and a single worker have nothing to steer.
    if let Some(at) = arguments.iter().position(|a| *a == "--steer").filter(|_| workers > 1) {
        assert!(engine.banner.contains(&format!("steering {}", arguments[at + 1])), "{}", engine.banner);
    }
    echo_exact(30, &noise(1_000_000, workers as u64));
    for direction in [&[][..], &["-R"]] {
        // An amount, not a time: iperf3 takes whole seconds only (and 0.5 for "for ever").
        let report = Iperf::run(&[&["-n", "30M"], direction].concat());
        assert_eq!(report.streams(), 1);
    }
    let summary = engine.finish();
    // Echo, and two iperf3 tests of a control and a data connection each.
    assert_eq!(summary.number(" connections accepted"), 5.0, "{}", summary.text);
    assert_eq!(summary.accepted_by_shard().len(), workers);
    Ok(())
}

/// One line on standard error, status not 0, nothing served, no interface.
pub(crate) fn impossible() -> Outcome {
    let too_many = (trust::engine::usable_cpus().len() + 1).to_string();
    let impossible: &[&[&str]] = &[
        &["--device", "tun-tap", "--offload", "on"],
        &["--device", "tun-tap", "--steer", "hash"],
        &["--device", "tun-tap", "--steer", "local"],
        &["--steer", "local", "--pin", "none", "--workers", "2"],
        &["--workers", "0"],
        &["--workers", &too_many],
        &["--plan", "pipeline", "--workers", &too_many],
    ];
    for arguments in impossible {
        let start = Instant::now();
        let output = run(10, env!("CARGO_BIN_EXE_trust"), &[&["serve"], *arguments].concat());
        let said = describe(&output);
        assert!(!matches!(output.status.code(), Some(0 | 101 | 124 | 137) | None), "{arguments:?}: {said}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(text.trim_end().lines().count(), 1, "{arguments:?} is refused in one line: {said}");
        assert!(text.contains("--"), "{arguments:?}: the line names the option: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {said}");
        assert!(start.elapsed().as_secs() < 5, "{arguments:?}");
        assert!(!must(5, "ip", &["-o", "link"]).contains("trust0"), "{arguments:?}");
    }
    Ok(())
}
