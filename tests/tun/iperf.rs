//! Stock iperf3 against the engine's own server: every mode, no error, sums that agree with the kernel's interface.

use serde_json::Value;

use crate::support::*;

/// Report of a client.
pub(crate) struct Iperf {
    report: Value,
}

impl Iperf {
    /// Runs a client to the end: exit 0, no error, every stream moved data by the account of both ends.
    pub(crate) fn run(arguments: &[&str]) -> Self {
        let output = run(60, "iperf3", &[&["-c", "10.7.0.2", "-J"], arguments].concat());
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
