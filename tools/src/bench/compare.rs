//! The run itself: every round measures every side in every row, sides in rotating order, so that what drifts in the
//! machine meets all of them. What is done is written down after each side, and a run goes on from there.

use super::history;
use super::measure::Bench;
use super::plan::{Kind, Plan, Unit};
use super::report::html;
use super::side::Side;
use super::state::{Build, State};
use super::stats::length;
use super::{Programs, commit, machine};
use crate::sys;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where a run is written down.
#[derive(Debug, Clone)]
pub struct Places {
    /// What is done so far.
    pub state: PathBuf,
    /// The folder of whole runs.
    pub runs: PathBuf,
    /// Whether this one is kept there.
    pub keep: Keep,
    /// A copy of what is done so far, asked for.
    pub json: Option<PathBuf>,
    /// The report, which also tells of the runs in that folder.
    pub report: PathBuf,
}

/// Whether a whole run is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Not.
    No,
    /// Unless the machine had other work.
    IfUndisturbed,
    /// In any case.
    Yes,
}

/// Begins a run of a plan.
///
/// # Errors
/// The engine is not there.
pub fn begin(plan: Plan, programs: &Programs, sources: &Path) -> io::Result<State> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(State::new(plan, Build::of(&programs.engine)?, date(now), (commit(sources), machine())))
}

/// Takes up a run that was left.
///
/// # Errors
/// There is none, or its engine was another one: two builds in one table say nothing about either.
pub fn take_up(state: &Path, programs: &Programs) -> io::Result<State> {
    let state = State::load(state)?;
    if state.build != Build::of(&programs.engine)? {
        let told =
            format!("the run of {} is of another build of the engine ({}); begin anew", state.began, state.commit);
        return Err(io::Error::other(told));
    }
    Ok(state)
}

/// Goes on until the plan is done, or until the next side would not fit into what is left of the slice. True: done.
///
/// # Errors
/// Nothing can be measured at all: no spinner, no place to write to. A failing measurement is counted and told.
pub fn go_on(state: &mut State, programs: &Programs, slice: Option<f64>, places: &Places) -> io::Result<bool> {
    let began = Instant::now();
    let units = state.plan.units();
    let cpus = sys::usable_cpus();
    let (client_cpu, server_cpu) = (cpus[0], cpus[cpus.len() - 1]);
    notice_other_work(state)?;
    let left = state.plan.duration(&units[state.done.min(units.len())..]);
    let spinner = state.plan.spin.then(|| Spinner::start(programs, left.min(slice.unwrap_or(left)) * 3.0 + 60.0));
    let spinner = spinner.transpose()?;
    let mut progress = Progress::new();
    let plan = state.plan.clone();
    let bench = Bench { programs, plan: &plan, client_cpu };
    while let Some(&unit) = units.get(state.done) {
        let factor = slower(state, &units);
        // The first of a slice is always measured: else a slice that is too short would go on for ever.
        let next = began.elapsed().as_secs_f64() + plan.seconds_of(unit) * factor * 1.2;
        if slice.is_some_and(|slice| next > slice) && progress.told > 0 {
            break;
        }
        progress.tell(state, unit, plan.duration(&units[state.done..]) * factor);
        let start = Instant::now();
        measure_unit(state, unit, &bench, server_cpu);
        state.spent += start.elapsed().as_secs_f64();
        state.done += 1;
        state.save(&places.state)?;
    }
    progress.end();
    drop(spinner);
    notice_other_work(state)?;
    state.save(&places.state)?;
    if let Some(path) = &places.json {
        state.save(path)?;
    }
    if state.is_whole() {
        keep(state, places)?;
    }
    if let Some(folder) = places.report.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&places.report, html(state, &history::load(&places.runs)?))?;
    Ok(state.is_whole())
}

fn keep(state: &State, places: &Places) -> io::Result<()> {
    let told = match places.keep {
        Keep::No => return Ok(()),
        Keep::IfUndisturbed if state.most_other_work() > DISTURBING => {
            "not kept in benches/runs: the machine had other work (--keep)".to_string()
        }
        Keep::IfUndisturbed | Keep::Yes => {
            let path = state.place(&places.runs);
            state.save(&path)?;
            format!("kept as {}", path.display())
        }
    };
    let _ = writeln!(io::stdout(), "{told}");
    Ok(())
}

/// How much longer things take than they were thought to.
fn slower(state: &State, units: &[Unit]) -> f64 {
    let thought = state.plan.duration(&units[..state.done]);
    if thought > 0.0 { (state.spent / thought).clamp(0.5, 5.0) } else { 1.0 }
}

fn measure_unit(state: &mut State, unit: Unit, bench: &Bench<'_>, server_cpu: usize) {
    let setting = &bench.plan.settings[unit.setting];
    let contestant = &setting.sides[unit.side];
    let conditions = &setting.conditions;
    let is_built = matches!(contestant.kind, Kind::Peer(peer) if peer.is_built());
    let missing = is_built && !bench.programs.peers.exists();
    let side = if missing {
        Err(io::Error::other("the crate of other stacks (benches/peers) could not be built"))
    } else {
        Side::start(contestant, bench.programs, conditions, server_cpu)
    };
    if let Ok(name) = side.as_ref().map_err(|_| ()).and_then(|side| side.congestion().map_err(|_| ())) {
        state.congestion[unit.setting] = name;
    }
    for &row in setting.rows.iter().filter(|row| contestant.has(**row)) {
        let sample = match &side {
            Ok(side) => bench.measure(side, row, conditions),
            Err(e) => Err(io::Error::other(e.to_string())),
        };
        let cell = state.cell_mut(unit.setting, row, &contestant.name);
        match sample {
            Ok(sample) => cell.samples.push(sample),
            Err(e) => cell.failures.push(e.to_string()),
        }
        if side.is_ok() {
            std::thread::sleep(Duration::from_secs_f64(bench.plan.pause));
        }
    }
}

/// Keeps idle CPUs from halting until dropped.
struct Spinner(Child);

impl Spinner {
    fn start(programs: &Programs, seconds: f64) -> io::Result<Self> {
        let mut command = Command::new(programs.tool("idle-spin"));
        command.arg(seconds.to_string());
        Ok(Self(sys::die_with_parent(&mut command).spawn()?))
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The part of the CPUs from which on other work spoils a run.
pub const DISTURBING: f64 = 0.1;

/// Figures taken beside other work say little: what it slows down most is the side with the most hand-overs.
fn notice_other_work(state: &mut State) -> io::Result<()> {
    let busy = sys::busy_part(Duration::from_secs(1))?;
    state.busy.push((busy * 1000.0).round() / 1000.0);
    if busy > DISTURBING {
        eprintln!(
            "WARNING: other work keeps the CPUs {:.0} % busy; these figures are not worth keeping.",
            busy * 100.0
        );
    }
    Ok(())
}

/// One line that changes on a terminal, a line for each side elsewhere.
struct Progress {
    terminal: bool,
    told: usize,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), told: 0 }
    }

    fn tell(&mut self, state: &State, unit: Unit, left: f64) {
        self.told += 1;
        let setting = &state.plan.settings[unit.setting];
        let all = state.plan.units();
        // Of nothing the sum is -0.
        let done = (state.plan.duration(&all[..state.done]) / state.plan.duration(&all).max(1.0) * 100.0).abs();
        let line = format!(
            "[{done:3.0} %] {} left; round {} of {}, {}: {}",
            length(left),
            unit.round + 1,
            setting.rounds,
            setting.conditions.told(),
            setting.sides[unit.side].name
        );
        let mut err = io::stderr().lock();
        let _ = if self.terminal { write!(err, "\r\x1b[K{line}") } else { writeln!(err, "{line}") };
        let _ = err.flush();
    }

    fn end(&self) {
        if self.terminal && self.told > 0 {
            eprintln!();
        }
    }
}

/// Day and time, UTC, of seconds since 1970.
fn date(seconds: u64) -> String {
    // Days from the first of March of year 0: leap days are at the ends of years then.
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, year) } else { (month - 9, year + 1) };
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", year + era * 400)
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::example;
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, told) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_796_056_520, "2026-11-30T16:35:20Z"),
        ] {
            assert_eq!(date(seconds), told);
        }
    }

    #[test]
    fn what_is_left_follows_what_was_spent() {
        let mut state = example();
        let units = state.plan.units();
        state.done = 0;
        assert!((slower(&state, &units) - 1.0).abs() < 1e-9);
        state.done = 2;
        state.spent = state.plan.duration(&units[..2]) * 2.0;
        assert!((slower(&state, &units) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn what_other_work_disturbed_is_only_kept_when_asked_for() {
        let folder = std::env::temp_dir().join(format!("trust-bench-keep-{}", std::process::id()));
        let mut state = example();
        let mut kept = |busy: f64, how: Keep| {
            state.busy = vec![0.0, busy];
            let [state_place, report] = ["state", "report"].map(|name| folder.join(name));
            let places = Places { state: state_place, runs: folder.clone(), keep: how, json: None, report };
            assert!(keep(&state, &places).is_ok());
            let kept = fs::read_dir(&folder).is_ok_and(|entries| entries.count() == 1);
            let _ = fs::remove_dir_all(&folder);
            kept
        };
        assert!(kept(0.05, Keep::IfUndisturbed) && kept(0.5, Keep::Yes));
        assert!(!kept(0.5, Keep::IfUndisturbed) && !kept(0.0, Keep::No));
    }

    #[test]
    fn a_run_of_another_build_is_not_taken_up() {
        let path = std::env::temp_dir().join(format!("trust-bench-build-{}.json", std::process::id()));
        let program = std::env::current_exe().unwrap_or_default();
        let programs = Programs { engine: program.clone(), tools: PathBuf::new(), peers: PathBuf::new() };
        let mut state = example();
        assert!(state.save(&path).is_ok());
        assert!(take_up(&path, &programs).is_err_and(|e| e.to_string().contains("another build")));
        state.build = Build::of(&program).unwrap_or_default();
        assert!(state.save(&path).is_ok());
        assert_eq!(take_up(&path, &programs).ok(), Some(state));
        assert!(std::fs::remove_file(path).is_ok());
    }
}
