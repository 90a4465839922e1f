//! The drivers of `fuzz/` without the fuzzer: a few hundred random scripts, and those that are kept as seeds.
//!
//! | file | holds |
//! | --- | --- |
//! | `hosts` | two hosts, all services, a script of what happens to them |
//! | `more` | rarer acts of it |
//! | `forge` | packets that nobody has sent |
//! | `wire` | the parsers |
//! | `input` | octets read as a script |

#![cfg(feature = "services")]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod forge;
mod hosts;
mod input;
mod wire;

use std::path::Path;

fn random(dice: &mut fastrand::Rng) -> Vec<u8> {
    let mut script = vec![0; dice.usize(..1_500)];
    dice.fill(&mut script);
    // The first octet says whether strangers join in, the next ten what the hosts are like: every second pair is usual.
    if dice.bool() {
        script.iter_mut().skip(1).take(10).for_each(|octet| *octet = 0);
    }
    script
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn random_scripts_do_no_harm_to_two_hosts() {
    let mut dice = fastrand::Rng::with_seed(10);
    let (mut accepted, mut octets, mut packets) = (0, 0, 0);
    for number in 0..200 {
        let script = random(&mut dice);
        let result = std::panic::catch_unwind(|| hosts::run(&script));
        let summary = result.unwrap_or_else(|_| panic!("script {number}: {script:?}"));
        accepted += summary.accepted;
        octets += summary.octets;
        packets += summary.packets;
    }
    // They do something: a driver that has gone to sleep finds nothing.
    assert!(accepted > 400 && octets > 10_000 && packets > 10_000, "{accepted} {octets} {packets}");
}

#[test]
fn the_same_script_gives_the_same_history() {
    let mut dice = fastrand::Rng::with_seed(11);
    for _ in 0..10 {
        let script = random(&mut dice);
        assert_eq!(hosts::run(&script), hosts::run(&script));
    }
}

#[test]
fn the_seeds_do_no_harm() {
    for (name, script) in seeds("hosts") {
        assert!(std::panic::catch_unwind(|| hosts::run(&script)).is_ok(), "{name}");
    }
    for (name, octets) in seeds("wire") {
        assert!(std::panic::catch_unwind(|| wire::run(&octets)).is_ok(), "{name}");
    }
}

#[test]
fn random_octets_do_no_harm_to_the_parsers() {
    let mut dice = fastrand::Rng::with_seed(12);
    for _ in 0..20_000 {
        let mut octets = vec![0; dice.usize(..120)];
        dice.fill(&mut octets);
        // Mostly with the first octet of a header that is read further.
        if let Some(first) = octets.first_mut() {
            *first = dice.choice([0x45, 0x46, 0x60, *first]).unwrap();
        }
        wire::run(&octets);
    }
}
