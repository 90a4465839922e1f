#![allow(clippy::unwrap_used)]
use super::*;
use crate::bench::measure::Cpu;
use crate::bench::plan::{Offered, Wanted};

/// A run of three sides in two rows, with values of its own for each.
pub(in crate::bench) fn example() -> State {
    let offered = Offered { steering: vec!["hash".to_string()], bpf: true };
    let wanted = Wanted { quick: true, rows: vec!["up1".into(), "rr1".into()], rounds: Some(3), ..Wanted::default() };
    let plan = wanted.plan(&offered).unwrap();
    let named = ("0123abc".to_string(), "Linux 6.18, 2 CPUs (a <fast> one)".to_string());
    let mut state = State::new(plan, Build::default(), "2026-11-30T17:05:00Z".to_string(), named);
    let sides = [("trust", 8.0), ("kernel", 4.0), ("ceiling-remote", 5.0), ("ceiling-local", 10.0)];
    for (side, value) in sides {
        for row in [Row::Up(1), Row::Rr(1)] {
            let cell = state.cell_mut(0, row, side);
            for off in [0.5, -0.5, 0.0] {
                let latency_us = (!row.is_bulk()).then_some([10.0, 20.0]);
                let cpu = Some(Cpu { server: 0.25, all: 0.5 });
                cell.samples.push(Sample { value: value + off, latency_us, cpu });
            }
        }
    }
    state.done = state.plan.units().len();
    state
}

#[test]
fn a_run_goes_on_where_it_was_left() {
    let folder = std::env::temp_dir().join(format!("trust-bench-state-{}", std::process::id()));
    let path = folder.join("deep").join("state.json");
    let mut state = example();
    state.done = 2;
    state.spent = 12.5;
    state.cell_mut(0, Row::Up(1), "trust").failures.push("a \"reason\"".to_string());
    state.save(&path).unwrap();
    assert_eq!(State::load(&path).unwrap(), state);
    assert!(!state.is_whole() && example().is_whole());

    fs::write(&path, fs::read_to_string(&path).unwrap().replace("\"version\": 1", "\"version\": 0")).unwrap();
    assert!(State::load(&path).unwrap_err().to_string().contains("format 0"));
    fs::write(&path, "{").unwrap();
    assert_eq!(State::load(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(State::load(&folder.join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn whole_runs_of_one_day_and_commit_lie_side_by_side() {
    let folder = std::env::temp_dir().join(format!("trust-bench-runs-{}", std::process::id()));
    let state = example();
    let first = state.place(&folder);
    assert_eq!(first, folder.join("2026-11-30-0123abc-selected.json"));
    state.save(&first).unwrap();
    assert_eq!(state.place(&folder), folder.join("2026-11-30-0123abc-selected-2.json"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn medians_and_the_best_ceiling_are_of_the_row() {
    let mut state = example();
    assert_eq!(state.median(0, Row::Up(1), "trust"), Some(8.0));
    assert_eq!(state.best_ceiling(0, Row::Up(1)), Some(10.0));
    state.cell_mut(0, Row::Up(1), "ceiling-local").samples.clear();
    assert_eq!(state.best_ceiling(0, Row::Up(1)), Some(5.0));
    assert_eq!(state.median(0, Row::Up(8), "trust"), None);
}
