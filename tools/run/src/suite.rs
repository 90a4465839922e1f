//! `test`: everything, as CI does.

use std::env;
use std::fs;
use std::path::Path;

use crate::examples;
use crate::place::Place;
use crate::steps::Steps;
use crate::talk::Outcome;

/// The test program that lives in virtual time for minutes: it runs in release only, which is faster by far. The others are
/// told by their folders: none is forgotten.
const SIMULATION: &str = "goodput";

/// Runs all steps, and says what has become of each.
pub(crate) fn test(place: &Place) -> Outcome {
    let mut steps = Steps::new(place)?;
    let before = steps.log("before").display().to_string();
    if steps.succeeds(&["cargo", "fmt", "--version"]) {
        steps.step("format", &["cargo", "fmt", "--all", "--check"]);
    } else {
        steps.left_out("format", "rustup component add rustfmt");
    }
    if steps.run(&["tools/leftovers", "take", &before]) != 0 {
        return Ok(1);
    }
    steps.beside("build", &["cargo", "build", "--release", "--workspace"]);
    let preemptions = setting("LOOM_MAX_PREEMPTIONS", "3");
    let loom = ["--profile", "loom", "--lib", "--target-dir", "target/loom", "loom"];
    steps.beside("loom", &[&["RUSTFLAGS=--cfg loom", &preemptions, "cargo", "test"], &loom[..]].concat());
    if steps.succeeds(&["cargo", "clippy", "--version"]) {
        let words = ["cargo", "clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
        steps.step("lints", &words);
    } else {
        steps.left_out("lints", "rustup component add clippy");
    }
    steps.step("features", &["tools/features"]);
    // All at once, and with all that the tests need of packages: each is compiled once, and no processor waits for
    // another.
    let targets = ["--lib", "--bins", "--examples", "--tests"];
    steps.step("programs", &[&["cargo", "build", "--workspace", "--all-features"], &targets[..]].concat());
    // What takes no device, only processors: virtual time.
    let worlds = setting("TRUST_WORLDS", "10000");
    let words = ["cargo", "test", "--release", "-p", "trust-tools", "--test", SIMULATION, "--test", "worlds"];
    steps.beside("simulations", &[&[worlds.as_str()], &words[..], &["--", "--nocapture"]].concat());
    let conformance = steps.built("debug").join("conformance-check").display().to_string();
    steps.step("conformance", &[&conformance]);
    let programs = test_programs(&place.top);
    steps.work("tests", "all_tests", |steps| all_tests(steps, &programs));
    let words = ["RUSTDOCFLAGS=-D warnings", "cargo", "doc", "--workspace", "--all-features", "--no-deps"];
    steps.step("docs", &words);
    steps.work("examples", "all_examples", examples::run);
    steps.wait_for(&["build", "loom", "simulations"]);
    // cargo counts a test program that runs nothing as passed: so look at what ran.
    steps.work("all ran", "all_ran", |steps| steps.feed(&["tools/every-test-ran", "."], &["tests", "simulations"]));
    steps.step("whole", &["timeout", "300", "tools/smoke"]);
    steps.step("leftovers", &["tools/leftovers", "compare", &before]);
    Ok(u8::from(!steps.summary()))
}

/// `NAME=VALUE`, with that value unless the environment has another.
fn setting(name: &str, default: &str) -> String {
    let value = env::var(name).ok().filter(|value| !value.is_empty());
    format!("{name}={}", value.as_deref().unwrap_or(default))
}

fn all_tests(steps: &Steps<'_>, programs: &[String]) -> bool {
    let cargo = ["cargo", "test", "--workspace", "--all-features", "--no-fail-fast"];
    let programs = programs.iter().flat_map(|name| ["--test", name]);
    let tests = cargo.into_iter().chain(["--lib", "--bins"]).chain(programs).collect();
    let docs = cargo.into_iter().chain(["--doc"]).collect();
    steps.run_and_write_down("tests", &[tests, docs])
}

/// The names of all test programs but the simulation.
fn test_programs(top: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for folder in ["tests", "tools/tests", "tools/run/tests"] {
        let entries = fs::read_dir(top.join(folder)).into_iter().flatten().flatten();
        names.extend(entries.filter_map(|entry| program_name(&entry.path())));
    }
    names.retain(|name| name != SIMULATION);
    names.sort();
    names
}

/// A test program is a file, or a folder with a `main.rs`.
fn program_name(path: &Path) -> Option<String> {
    let is_program = path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").exists();
    if is_program { Some(path.file_stem()?.to_string_lossy().into_owned()) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_test_program_is_forgotten() {
        let top = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let names = test_programs(top);
        for name in ["documents", "fence", "scenarios", "supervision", "tun", "worlds"] {
            assert!(names.iter().any(|found| found == name), "{name} is not among {names:?}");
        }
        for name in ["goodput", "netns", "rig"] {
            assert!(names.iter().all(|found| found != name), "{name} is among {names:?}");
        }
    }
}
