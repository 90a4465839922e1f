//! Stock iperf3 against the engine's own server: every mode, no error, sums that agree with the kernel's interface.

use std::time::Duration;

use serde_json::Value;

use crate::support::*;

/// Report of a client.
pub(crate) struct Iperf {
    report: Value,
}

impl Iperf {
    /// Runs a client to the end: exit 0, no error, every stream moved data by the account of both ends.
    pub(crate) fn run(arguments: &[&str]) -> Self {
        Self::run_at("10.7.0.2", arguments)
    }

    /// The same against another address.
    pub(crate) fn run_at(address: &str, arguments: &[&str]) -> Self {
        let output = run(60, "iperf3", &[&["-c", address, "-J"], arguments].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "iperf3 {arguments:?}: {}", describe(&output));
        let report: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert!(report.get("error").is_none(), "iperf3 {arguments:?}: {}", report["error"]);
        for (index, stream) in report["end"]["streams"].as_array().unwrap().iter().enumerate() {
            for end in ["sender", "receiver"] {
                assert!(stream[end]["bytes"].as_u64().unwrap() > 0, "{arguments:?}, stream {index}: {stream}");
            }
        }
        Self { report }
    }

    pub(crate) fn streams(&self) -> usize {
        self.report["end"]["streams"].as_array().unwrap().len()
    }

    fn sum(&self, which: &str, what: &str) -> f64 {
        self.report["end"][which][what].as_f64().unwrap_or_else(|| panic!("no {which}.{what}: {}", self.report["end"]))
    }
}

/// Octets by iperf3's accounts and by that of the kernel's interface. What was sent may still wait in the sender's
/// buffer, what has crossed in the receiver's: one account is within 5 %, none is beyond what can be.
fn agree(what: &str, sent: f64, received: f64, interface: u64) {
    let crossed = interface as f64;
    let text = format!("{what}: sent {sent}, received {received}, across the interface {crossed} octets");
    assert!(crossed > 0.99 * received && crossed < 1.05 * sent, "{text}");
    assert!([sent, received].iter().any(|account| (0.95..1.05).contains(&(crossed / account))), "{text}");
}

/// One test with its streams counted and its sums compared. Towards the engine is `up`.
fn mode(arguments: &[&str], streams: usize, up: bool, down: bool) -> Outcome {
    need(&["iperf3"])?;
    let engine = Engine::start(&[]);
    let report = Iperf::run(&[&["-t", "2"], arguments].concat());
    assert_eq!(report.streams(), streams);
    let (from_engine, to_engine) = interface_octets("trust0");
    // With --bidir the plain names are those of the direction up.
    if up {
        agree("up", report.sum("sum_sent", "bytes"), report.sum("sum_received", "bytes"), to_engine);
    }
    if down {
        let suffix = if up { "_bidir_reverse" } else { "" };
        let sum = |end| report.sum(&format!("sum_{end}{suffix}"), "bytes");
        agree("down", sum("sent"), sum("received"), from_engine);
    }
    engine.await_stats("all connections end", Duration::from_secs(5), |now| now.connections == 0);
    let summary = engine.finish();
    assert_eq!(summary.number(" connections accepted"), streams as f64 + 1.0);
    assert_eq!(summary.number(" closed"), streams as f64 + 1.0, "{}", summary.text);
    Ok(())
}

pub(crate) fn plain() -> Outcome {
    mode(&[], 1, true, false)
}

pub(crate) fn reverse() -> Outcome {
    mode(&["-R"], 1, false, true)
}

pub(crate) fn eight() -> Outcome {
    mode(&["-P", "8"], 8, true, false)
}

pub(crate) fn eight_both_ways() -> Outcome {
    mode(&["-P", "8", "--bidir"], 16, true, true)
}

pub(crate) fn sixty_four() -> Outcome {
    mode(&["-P", "64"], 64, true, false)
}

pub(crate) fn paced() -> Outcome {
    need(&["iperf3"])?;
    let engine = Engine::start(&[]);
    let report = Iperf::run(&["-R", "-b", "100M", "-t", "2"]);
    let (from_engine, _) = interface_octets("trust0");
    agree("down", report.sum("sum_sent", "bytes"), report.sum("sum_received", "bytes"), from_engine);
    for end in ["sum_sent", "sum_received"] {
        let rate = report.sum(end, "bits_per_second");
        assert!((95e6..105e6).contains(&rate), "{end}: {rate} bit/s");
    }
    engine.finish();
    Ok(())
}

/// A client in the middle of a test hears that the engine stops, and says so in iperf3's own words.
pub(crate) fn server_terminates() -> Outcome {
    need(&["iperf3"])?;
    for plan in ["fused", "pipeline"] {
        for direction in ["-t10", "-R"] {
            let engine = Engine::start(&["--plan", plan]);
            let client = std::thread::spawn(move || run(30, "iperf3", &["-c", "10.7.0.2", "-P", "2", direction]));
            engine.await_stats("the test runs", Duration::from_secs(5), |now| now.connections == 3);
            engine.finish();
            let start = std::time::Instant::now();
            let output = client.join().unwrap();
            assert!(start.elapsed() < Duration::from_secs(5), "{plan} {direction}: it hears at once");
            let said =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(said.contains("the server has terminated"), "{plan} {direction}: {said}");
        }
    }
    Ok(())
}

/// The server's own report arrives at the client.
pub(crate) fn server_output() -> Outcome {
    need(&["iperf3"])?;
    let engine = Engine::start(&[]);
    let report = Iperf::run(&["-n", "10M", "-P", "2", "--get-server-output"]);
    let theirs = &report.report["server_output_json"];
    let text = report.report["server_output_text"].as_str();
    assert!(text.is_some_and(|text| text.contains("receiver")) || theirs["end"].is_object(), "{}", report.report);
    engine.finish();
    Ok(())
}

/// At least 95 % of a lossless bulk transfer's segments take header prediction: of data when we receive, of
/// acknowledgments when we send.
pub(crate) fn header_prediction() -> Outcome {
    need(&["iperf3"])?;
    for direction in [&[][..], &["-R"]] {
        for offload in ["on", "off"] {
            let engine = Engine::start(&["--offload", offload]);
            Iperf::run(&[&["-n", "200M"], direction].concat());
            let summary = engine.finish();
            let predicted = summary.number(" % predicted");
            assert!(predicted >= 95.0, "{direction:?}, offload {offload}: {}", summary.text);
        }
    }
    Ok(())
}
