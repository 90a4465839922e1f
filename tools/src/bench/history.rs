//! Runs that were kept, and how a row went over them.

use super::plan::Conditions;
use super::row::Row;
use super::state::State;
use std::fs;
use std::io;
use std::path::Path;

/// The runs in a folder, the earliest first. What is no run is told on standard error and left out.
///
/// # Errors
/// The folder is there and cannot be read.
pub fn load(folder: &Path) -> io::Result<Vec<State>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut runs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match State::load(&path) {
            Ok(run) => runs.push(run),
            Err(e) => eprintln!("left out: {e}"),
        }
    }
    runs.sort_by(|a, b| a.began.cmp(&b.began));
    Ok(runs)
}

/// A row in a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Day of the run.
    pub day: String,
    /// Commit measured.
    pub commit: String,
    /// Median against the kernel's.
    pub of_kernel: Option<f64>,
    /// Median against the best stand-in's.
    pub of_ceiling: Option<f64>,
}

/// How a side did in a row under some conditions, in each run that measured it.
#[must_use]
pub fn points(runs: &[State], conditions: &Conditions, row: Row, side: &str) -> Vec<Point> {
    let point = |run: &State| {
        let same = |at: &usize| run.plan.settings[*at].conditions == *conditions;
        let measured = |at: usize| Some((at, run.median(at, row, side)?));
        let (at, median) = (0..run.plan.settings.len()).filter(same).find_map(measured)?;
        Some(Point {
            day: run.began.split('T').next().unwrap_or_default().to_string(),
            commit: run.commit.clone(),
            of_kernel: run.median(at, row, "kernel").map(|kernel| median / kernel),
            of_ceiling: run.best_ceiling(at, row).map(|ceiling| median / ceiling),
        })
    };
    runs.iter().filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::state::tests::example;
    use super::*;

    #[test]
    fn runs_come_by_date_and_what_is_none_is_left_out() {
        let folder = std::env::temp_dir().join(format!("trust-bench-history-{}", std::process::id()));
        assert_eq!(load(&folder).unwrap(), []);
        let (early, mut late) = (example(), example());
        late.began = "2026-12-01T00:00:00Z".to_string();
        late.commit = "0000000".to_string();
        for run in [&late, &early] {
            run.save(&run.place(&folder)).unwrap();
        }
        fs::write(folder.join("other.json"), "{}").unwrap();
        fs::write(folder.join("README.md"), "of no run").unwrap();
        assert_eq!(load(&folder).unwrap(), [early, late]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_row_is_followed_under_its_conditions() {
        let runs = [example(), example()];
        let followed = points(&runs, &Conditions::usual(), Row::Up(1), "trust");
        let ratios: Vec<_> = followed.iter().map(|point| (point.of_kernel, point.of_ceiling)).collect();
        assert_eq!(ratios, [(Some(2.0), Some(0.8)); 2]);
        assert_eq!((followed[0].day.as_str(), followed[0].commit.as_str()), ("2026-11-30", "0123abc"));
        let roaming = Conditions { roaming: true, ..Conditions::usual() };
        assert_eq!(points(&runs, &roaming, Row::Up(1), "trust"), []);
    }
}
