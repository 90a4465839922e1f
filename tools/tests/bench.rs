//! The comparison from its command line to what it keeps: a tiny run of the kernel and the stand-ins, cut into slices.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use trust_tools::bench::row::Row;
use trust_tools::bench::state::State;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder =
            std::env::temp_dir().join(format!("trust-bench-{}-{:?}", std::process::id(), std::thread::current().id()));
        fs::create_dir_all(&folder).unwrap();
        // Only asked what it can do: no side of this test is the engine.
        let engine = folder.join("trust");
        fs::write(&engine, "#!/bin/sh\necho '--steer <auto|hash|learn>'\n").unwrap();
        fs::set_permissions(&engine, fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    fn driver(&self, words: &[&str]) -> Output {
        let driver = Path::new(env!("CARGO_BIN_EXE_bench-driver"));
        let mut command = Command::new(driver);
        command.args(["compare", "--top", ".", "--engine"]).arg(self.0.join("trust"));
        command.arg("--tools").arg(driver.parent().unwrap()).arg("--runs").arg(self.0.join("runs"));
        command
            .arg("--state")
            .arg(self.0.join("state.json"))
            .arg("--html")
            .arg(self.0.join("report.html"))
            .args(words)
            .output()
            .unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_run_in_slices_is_whole_in_the_end_and_kept() {
    if fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_err() {
        assert!(std::env::var_os("TRUST_REQUIRE_TUN").is_none(), "/dev/net/tun cannot be opened");
        eprintln!("skipped: /dev/net/tun cannot be opened");
        return;
    }
    let folder = Folder::new();
    let words = ["--sides", "kernel,ceiling", "--rows", "up1,rr1,cr1", "--rounds", "1", "--seconds", "0.05", "--keep"];
    let listed = folder.driver(&[&words[..], &["--list"]].concat());
    assert!(text(&listed).contains("sides: kernel ceiling-remote"), "{}", text(&listed));

    // A slice that is too short for more than one side.
    let first = folder.driver(&[&words[..], &["--slice", "0"]].concat());
    assert_eq!(first.status.code(), Some(3), "{}", text(&first));
    // Without bpf(2) flows are not born anywhere, and a ceiling for those that are is no side.
    let sides = if text(&listed).contains("ceiling-local") { 4 } else { 3 };
    assert!(text(&first).contains(&format!("1 of {sides} done")), "{}", text(&first));
    assert!(!folder.0.join("runs").exists());

    let rest = folder.driver(&["--resume", "--keep"]);
    assert_eq!(rest.status.code(), Some(0), "{}", text(&rest));
    assert!(text(&rest).contains("| cr1"), "{}", text(&rest));
    let kept: Vec<PathBuf> = fs::read_dir(folder.0.join("runs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let state = State::load(&kept[0]).unwrap();
    assert!(fs::read_to_string(folder.0.join("report.html")).unwrap().contains("class=\"ceiling\""));
    assert!(kept.len() == 1 && state.is_whole());
    for side in ["kernel", "ceiling-remote"] {
        for row in [Row::Up(1), Row::Rr(1), Row::Cr(1)] {
            let cell = state.cell(0, row, side).unwrap();
            assert_eq!((cell.samples.len(), cell.failures.len()), (1, 0), "{side} {}", row.name());
            assert!(cell.samples[0].value > 0.0 && cell.samples[0].cpu.unwrap().server > 0.0);
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let folder = Folder::new();
    let nobody = folder.driver(&["--sides", "nobody", "--list"]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(text(&nobody).contains("no side is called nobody"), "{}", text(&nobody));
    let nothing = folder.driver(&["--resume"]);
    assert!(text(&nothing).contains("No such file"), "{}", text(&nothing));
}
