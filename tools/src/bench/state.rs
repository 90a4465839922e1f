//! What has been measured so far, in a file: a run goes on where it was left, and a whole one is kept.

use super::measure::Sample;
use super::plan::Plan;
use super::row::Row;
use super::stats::{Spread, spread};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// All values of a side in a row under some conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Index of the setting in the plan.
    pub setting: usize,
    /// The row.
    pub row: Row,
    /// The side, by its name.
    pub side: String,
    /// A value a round.
    pub samples: Vec<Sample>,
    /// Why others are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
}

impl Cell {
    /// Of the values.
    #[must_use]
    pub fn spread(&self) -> Option<Spread> {
        spread(self.samples.iter().map(|sample| sample.value))
    }
}

/// Something of a file that changes when it is built anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Octets.
    pub length: u64,
    /// Seconds since 1970.
    pub modified: u64,
}

impl Build {
    /// Of a program.
    ///
    /// # Errors
    /// It is not there.
    pub fn of(program: &Path) -> io::Result<Self> {
        let data = fs::metadata(program)?;
        let modified = data.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Self { length: data.len(), modified })
    }
}

/// A run of the comparison, done in part or whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Of this format.
    pub version: u32,
    /// Day and time of the begin, UTC: `2026-11-30T17:05:00Z`.
    pub began: String,
    /// The commit measured, with `-dirty` behind it where sources were changed.
    pub commit: String,
    /// Kernel, processor, CPUs.
    pub machine: String,
    /// The engine measured.
    pub build: Build,
    /// What is to be measured.
    pub plan: Plan,
    /// How many units of the plan are done.
    pub done: usize,
    /// Seconds spent on them.
    pub spent: f64,
    /// For each setting the congestion control that was in force; empty: not known yet.
    pub congestion: Vec<String>,
    /// Parts of the CPUs that other work had, at the begin and the end of each slice.
    pub busy: Vec<f64>,
    /// The values.
    pub cells: Vec<Cell>,
}

const VERSION: u32 = 1;

impl State {
    /// Of a run that is to begin.
    #[must_use]
    pub fn new(plan: Plan, build: Build, began: String, (commit, machine): (String, String)) -> Self {
        let congestion = vec![String::new(); plan.settings.len()];
        let (version, done, spent) = (VERSION, 0, 0.0);
        Self {
            version,
            began,
            commit,
            machine,
            build,
            plan,
            done,
            spent,
            congestion,
            busy: Vec::new(),
            cells: Vec::new(),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is not there, or of another format.
    pub fn load(path: &Path) -> io::Result<Self> {
        let text =
            fs::read_to_string(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()));
        let state: Self = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        if state.version != VERSION {
            return Err(wrong(format!("format {}, and not {VERSION}", state.version)));
        }
        Ok(state)
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// As of files.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let beside = path.with_extension("part");
        fs::write(&beside, self.text())?;
        fs::rename(&beside, path)
    }

    /// As JSON, with a line for each cell.
    fn text(&self) -> String {
        let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(self) else { return String::new() };
        let cells = fields.remove("cells").and_then(|cells| cells.as_array().cloned()).unwrap_or_default();
        let mut text = String::from("{\n");
        for (name, value) in &fields {
            text.push_str(&format!("\"{name}\": {value},\n"));
        }
        let cells: Vec<String> = cells.iter().map(ToString::to_string).collect();
        text.push_str(&format!("\"cells\": [\n{}\n]}}\n", cells.join(",\n")));
        text
    }

    /// Where a whole run is kept: by date, commit and kind, beside those of the same day.
    #[must_use]
    pub fn place(&self, folder: &Path) -> PathBuf {
        let day = self.began.split('T').next().unwrap_or_default();
        let name = format!("{day}-{}-{}", self.commit, self.plan.name);
        let numbered = (2..).map(|n| format!("{name}-{n}"));
        let mut names = std::iter::once(name.clone()).chain(numbered).map(|name| folder.join(name + ".json"));
        names.find(|path| !path.exists()).unwrap_or_default()
    }

    /// The cell of a side in a row, made where it is missing.
    pub fn cell_mut(&mut self, setting: usize, row: Row, side: &str) -> &mut Cell {
        let known = |cell: &Cell| cell.setting == setting && cell.row == row && cell.side == side;
        let index = self.cells.iter().position(known).unwrap_or_else(|| {
            let side = side.to_string();
            self.cells.push(Cell { setting, row, side, samples: Vec::new(), failures: Vec::new() });
            self.cells.len() - 1
        });
        &mut self.cells[index]
    }

    /// The cell of a side in a row.
    #[must_use]
    pub fn cell(&self, setting: usize, row: Row, side: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.setting == setting && cell.row == row && cell.side == side)
    }

    /// The median of a side in a row.
    #[must_use]
    pub fn median(&self, setting: usize, row: Row, side: &str) -> Option<f64> {
        Some(self.cell(setting, row, side)?.spread()?.median)
    }

    /// The median of the best stand-in in a row.
    #[must_use]
    pub fn best_ceiling(&self, setting: usize, row: Row) -> Option<f64> {
        let sides = self.plan.settings.get(setting)?.sides.iter().filter(|side| side.is_ceiling());
        sides.filter_map(|side| self.median(setting, row, &side.name)).max_by(f64::total_cmp)
    }

    /// The largest part of the CPUs that other work had.
    #[must_use]
    pub fn most_other_work(&self) -> f64 {
        self.busy.iter().copied().fold(0.0, f64::max)
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.done >= self.plan.units().len()
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(super) mod tests;
